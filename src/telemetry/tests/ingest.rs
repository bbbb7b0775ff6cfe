//! Records and their answers.

use super::*;
use crate::access::Permit;
use crate::platform::testing;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_is_there_after_a_restart() {
    for database in testing::databases().await {
        let control = Control::start(&database, NOON + 600_000).await;
        let mut stream = Stream::open(&control, 7, 99);
        stream.frames(1..=5);
        stream.accepted(1, 5).await;
        let records = vec![stream.facts(6, &[("os", "Debian 12"), ("cpu", "8")]), stream.record(7), stream.record(8)];
        stream.send(records);
        stream.accepted(1, 8).await;
        stream.lost(9, 20);
        stream.accepted(9, 20).await;
        assert!(stream.refused.is_empty() && stream.later.is_empty());
        let before = control.telemetry.delivery(AgentId(7));
        assert_eq!((before.records_accepted, before.records_refused, before.records_lost), (8, 0, 12));
        // Not closed: as after a kill.
        let again = Control::start(&database, NOON + 600_000).await;
        assert_eq!(again.telemetry.highest_sequence(AgentId(7), 99), 20);
        assert_eq!(again.telemetry.highest_sequence(AgentId(7), 98), 0);
        let after = again.telemetry.delivery(AgentId(7));
        assert_eq!((after.records_accepted, after.records_refused, after.records_lost), (8, 0, 12));
        let permit = Permit::system();
        let sources = again.telemetry.sources(&permit);
        assert_eq!(sources.len(), 1);
        assert_eq!((sources[0].kind.as_str(), sources[0].key.as_str()), ("host", "machine"));
        let (previous, live) = again.telemetry.last_two(&permit, sources[0].id).expect("a live view");
        assert_eq!(live.values.to_vec(), values(8).iter().collect::<Vec<_>>());
        assert_eq!(previous.values.to_vec(), values(7).iter().collect::<Vec<_>>());
        assert_eq!(live.instant_ms, NOON + 8 * i64::from(INTERVAL_MS));
        let facts = again.telemetry.facts(&permit, sources[0].id).expect("facts");
        assert_eq!(facts.values.get("os").map(String::as_str), Some("Debian 12"));
        // What was accepted is accepted again, and not stored again.
        let mut stream = Stream::open(&again, 7, 99);
        stream.frames(1..=9);
        stream.accepted(1, 9).await;
        stream.frames(21..=22);
        stream.accepted(21, 22).await;
        assert_eq!(again.telemetry.delivery(AgentId(7)).records_accepted, 10);
        again.telemetry.close().await;
        control.telemetry.close().await;
    }
}
