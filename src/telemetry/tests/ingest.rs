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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_record_gets_its_reason_and_harms_no_other() {
    let database = testing::sqlite().await;
    let control = Control::start(&database, NOON + 600_000).await;
    let mut stream = Stream::open(&control, 7, 99);
    stream.frames(1..=3);
    stream.accepted(1, 3).await;
    let refused = |stream: &Stream, sequence: u64, refusal: v1::Refusal| {
        stream.refused.iter().any(|(first, last, why)| (*first..=*last).contains(&sequence) && *why == refusal)
    };
    // Each in a lane of its own, followed by a good frame.
    type Spoil = fn(&mut v1::Record);
    fn frame(record: &mut v1::Record) -> &mut v1::Frame {
        match &mut record.body {
            Some(v1::record::Body::Frame(frame)) => frame,
            _ => panic!("a frame"),
        }
    }
    let cases: [(Spoil, v1::Refusal); 9] = [
        (|record| record.crc32c ^= 1, v1::Refusal::Checksum),
        (
            |record| {
                frame(record).body = vec![0; 3].into();
                record.crc32c = crc32c::crc32c(&[0; 3]);
            },
            v1::Refusal::Undecodable,
        ),
        (|record| frame(record).body = vec![2; 100_000].into(), v1::Refusal::TooLarge),
        (|record| frame(record).source = 5, v1::Refusal::UnknownSource),
        (|record| frame(record).base_sequence = 2, v1::Refusal::UnknownBase),
        (|record| record.boottime_ms += 3_600_000, v1::Refusal::Future),
        (|record| record.boottime_ms -= 30 * 86_400_000, v1::Refusal::TooOld),
        (|record| record.boot = 9, v1::Refusal::UnknownBoot),
        (|record| record.body = None, v1::Refusal::Undecodable),
    ];
    let mut sequence = 4;
    for (spoil, refusal) in cases {
        stream.restart_lane();
        let mut record = stream.record(sequence);
        spoil(&mut record);
        stream.send(vec![record]);
        stream.answered(|stream| refused(stream, sequence, refusal)).await;
        stream.restart_lane();
        stream.frames([sequence + 1]);
        stream.accepted(sequence + 1, sequence + 1).await;
        sequence += 2;
    }
    // Not ascending; a number that no record has.
    stream.restart_lane();
    let (late, early) = (stream.record(sequence + 1), stream.record(sequence));
    stream.send(vec![late, early]);
    stream.answered(|stream| refused(stream, sequence, v1::Refusal::OutOfOrder)).await;
    stream.restart_lane();
    let mut record = stream.record(sequence + 2);
    record.sequence = 0;
    stream.send(vec![record]);
    stream.answered(|stream| refused(stream, 0, v1::Refusal::BadSequence)).await;
    // Each is counted by its reason.
    for (reason, count) in [
        ("checksum", 1),
        ("undecodable", 2),
        ("too_large", 1),
        ("unknown_source", 1),
        ("unknown_base", 1),
        ("future", 1),
        ("too_old", 1),
        ("unknown_boot", 1),
        ("out_of_order", 1),
        ("bad_sequence", 1),
    ] {
        assert_eq!(control.telemetry.inner.metrics.refused.with_label_values(&[reason]).get(), count, "{reason}");
    }
    assert!(stream.later.is_empty());
    let delivery = control.telemetry.delivery(AgentId(7));
    assert_eq!((delivery.records_refused, delivery.records_accepted), (10, 3 + 9 + 1));
    // What was refused is settled: sent again, nobody waits for it.
    stream.restart_lane();
    stream.frames([4]);
    stream.accepted(4, 4).await;
    assert!(stored(&control).await.iter().all(|frame| frame.meta.sequence != 4));
    // Of a schema that is not the one it is called. What is one too many is in `lifetime`.
    stream.define_as(v1::Schema { id: vec![7; 16].into(), columns: columns() });
    stream.restart_lane();
    stream.frames([sequence + 3]);
    stream.answered(|stream| refused(stream, sequence + 3, v1::Refusal::BadSchema)).await;
    assert_eq!(control.telemetry.inner.metrics.refused.with_label_values(&["bad_schema"]).get(), 1);
}

/// Who claims what another one measures has a source of their own by that name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_by_anothers_name_is_another_source() {
    let database = testing::sqlite().await;
    let control = Control::start(&database, NOON + 600_000).await;
    let (mut one, mut two) = (Stream::open(&control, 7, 99), Stream::open(&control, 8, 1));
    one.frames(1..=3);
    one.accepted(1, 3).await;
    two.frames(1..=9);
    two.accepted(1, 9).await;
    one.frames([4]);
    one.accepted(4, 4).await;
    let permit = Permit::system();
    let sources = control.telemetry.sources(&permit);
    let known: Vec<_> = sources.iter().map(|source| (source.agent, &*source.kind, &*source.key)).collect();
    assert_eq!(known, [(AgentId(7), "host", "machine"), (AgentId(8), "host", "machine")]);
    for (source, last) in sources.iter().zip([4, 9]) {
        let live = control.telemetry.live(&permit, source.id).expect("a frame");
        assert_eq!(live.values.to_vec(), values(last).iter().collect::<Vec<_>>());
        assert_eq!(control.telemetry.delivery(source.agent).records_accepted, last);
    }
    let first: Vec<_> = stored(&control).await.iter().map(|frame| frame.meta.sequence).collect();
    assert_eq!(first, [1, 2, 3, 4], "nothing of the other one is in it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_on_one_that_was_not_usable_begins_the_lane_anew() {
    let database = testing::sqlite().await;
    let control = Control::start(&database, NOON + 600_000).await;
    let mut stream = Stream::open(&control, 7, 99);
    let mut bad = stream.record(1);
    bad.crc32c ^= 1;
    let good = stream.record(2);
    stream.send(vec![bad, good]);
    stream.answered(|stream| !stream.later.is_empty() && !stream.refused.is_empty()).await;
    assert_eq!(stream.later, [(2, 2)]);
    stream.restart_lane();
    stream.frames(2..=3);
    stream.accepted(2, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_schema_is_asked_for_and_kept() {
    let database = testing::sqlite().await;
    let control = Control::start(&database, NOON + 600_000).await;
    let mut stream = Stream::open_bare(&control, 7, 99);
    stream.define(false);
    stream.frames(1..=2);
    stream.answered(|stream| stream.need_schema > 0).await;
    stream.define(true);
    stream.restart_lane();
    stream.frames(1..=2);
    stream.accepted(1, 2).await;
    let again = Control::start(&database, NOON + 600_000).await;
    let mut stream = Stream::open_bare(&again, 8, 1);
    stream.define(false);
    stream.frames(1..=2);
    stream.accepted(1, 2).await;
    assert_eq!(stream.need_schema, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_says_later() {
    let database = testing::sqlite().await;
    let control = Control::start_with(&database, NOON + 600_000, |config| config.queue_size = 1).await;
    let mut stream = Stream::open(&control, 7, 99);
    until(|| control.telemetry.inner.queue.bytes() == 0).await;
    stream.frames([1]);
    stream.frames([2]);
    stream
        .answered(|stream| stream.has_accepted(1, 1) && (stream.has_accepted(2, 2) || !stream.later.is_empty()))
        .await;
    stream.restart_lane();
    stream.frames([2]);
    stream.answered(|stream| stream.has_accepted(2, 2) || stream.later.len() > 1).await;
    assert!(stream.refused.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_an_hour_off_is_corrected() {
    let database = testing::sqlite().await;
    let control = Control::start(&database, NOON + 600_000).await;
    let mut stream = Stream::open(&control, 7, 99);
    // The anchors of another boot are the agent's own, an hour ahead when it was not synchronised.
    let boottime = |ms: i64| (ms - BOOTED_MS) as u64;
    let clock =
        |at: i64, ahead: i64, synchronised| v1::Clock { boottime_ms: boottime(at), wall_ms: at + ahead, synchronised };
    let anchors = vec![clock(NOON - 120_000, 3_600_000, false), clock(NOON, 0, true)];
    stream.define_boot(2, "an earlier boot", anchors);
    let mut first = stream.record_at(1, NOON - 90_000);
    first.boot = 2;
    let second = stream.record_at(2, NOON + 30_000);
    stream.send(vec![first, second]);
    stream.accepted(1, 2).await;
    let frames = stored(&control).await;
    let instants: Vec<_> = frames.iter().map(|frame| (frame.meta.instant_ms, frame.meta.uncertain)).collect();
    assert_eq!(instants, [(NOON - 90_000, true), (NOON + 30_000, false)]);
    assert_ne!(frames[0].meta.boot, frames[1].meta.boot);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_streams_of_one_agent_store_a_record_once() {
    let database = testing::sqlite().await;
    let control = Control::start_with(&database, NOON + 600_000, |config| {
        config.commit_interval = Duration::from_millis(50);
    })
    .await;
    let mut one = Stream::open(&control, 7, 99);
    let mut two = Stream::open(&control, 7, 99);
    one.frames(1..=20);
    two.frames(11..=30);
    one.accepted(1, 20).await;
    two.accepted(11, 30).await;
    let found: Vec<_> = stored(&control).await.iter().map(|frame| frame.meta.sequence).collect();
    assert_eq!(found, (1..=30).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_no_index_takes_names_no_source() {
    for database in testing::databases().await {
        let control = Control::start(&database, NOON + 600_000).await;
        let mut bad = Stream::open(&control, 7, 99);
        let mut good = Stream::open(&control, 8, 1);
        for key in ["k".repeat(1_025), "k\0".to_owned()] {
            bad = Stream::open_bare(&control, 7, 99);
            bad.define_key(&key);
            bad.define_boot(2, "boot\0", vec![]);
        }
        bad.frames([1]);
        bad.answered(|stream| stream.refused == [(1, 1, v1::Refusal::UnknownSource)]).await;
        good.frames(1..=3);
        good.accepted(1, 3).await;
        assert!(good.later.is_empty());
        assert_eq!(control.telemetry.inner.registry.sources_of(AgentId(7)).len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_spool_can_have_lost_is_not_lost() {
    let database = testing::sqlite().await;
    let control = Control::start(&database, NOON + 600_000).await;
    for epoch in [1, 2] {
        let mut stream = Stream::open(&control, 7, epoch);
        let nonsense = [(1, u64::MAX - 1), (0, 3), (5, 2)];
        for (first, last) in nonsense {
            stream.lost(first, last);
        }
        stream.lost(1, 4);
        stream.frames([5]);
        stream.accepted(1, 5).await;
        // Answered, so that it is not said again in each session.
        assert_eq!(stream.refused, nonsense.map(|(first, last)| (first, last, v1::Refusal::BadSequence)));
    }
    assert_eq!(control.telemetry.delivery(AgentId(7)).records_lost, 8);
    let counted = || control.telemetry.inner.metrics.refused.with_label_values(&["bad_sequence"]).get();
    assert_eq!(counted(), 6);
    let agent = control.telemetry.inner.agent(AgentId(7));
    assert!(!agent.lock().is_log_due(v1::Refusal::BadSequence, NOON + 600_000), "it was said");
    // Of spools beyond what an agent may have had.
    for epoch in 100..=4_196 {
        agent.lock().epochs.entry(epoch).or_default();
    }
    let mut stream = Stream::open(&control, 7, 3);
    stream.lost(1, 4);
    stream.answered(|stream| stream.refused == [(1, 4, v1::Refusal::BadSequence)]).await;
    assert_eq!((counted(), agent.lock().epochs.contains_key(&3)), (7, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_interval_is_that_of_the_newest_frame() {
    for database in testing::databases().await {
        let control = Control::start(&database, NOON + 3_600_000).await;
        let mut stream = Stream::open(&control, 7, 99);
        let interval_ms = |control: &Control| control.telemetry.sources(&Permit::system())[0].interval_ms;
        stream.frames_of(1, true, 1..=3);
        stream.accepted(1, 3).await;
        // The backlog's frames of before were sampled at another one: what is live is not.
        stream.define_interval(60_000);
        stream.frames_of(1, true, [20]);
        stream.frames_of(2, false, 4..=10);
        stream.accepted(4, 10).await;
        assert_eq!(interval_ms(&control), INTERVAL_MS);
        stream.frames_of(2, true, [21]);
        stream.accepted(21, 21).await;
        assert_eq!(interval_ms(&control), 60_000);
        stream.frames_of(1, false, [19]);
        stream.accepted(19, 19).await;
        assert_eq!(interval_ms(&control), 60_000);
        let again = Control::start(&database, NOON + 3_600_000).await;
        assert_eq!(interval_ms(&again), 60_000);
        again.telemetry.close().await;
        control.telemetry.close().await;
    }
}
