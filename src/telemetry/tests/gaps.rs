//! Gaps and their reasons, from what an agent says to the answer.

use super::*;
use crate::access::Permit;
use crate::platform::testing;
use crate::telemetry::SeriesQuery;
use crate::telemetry::gaps::GapReason::{self, BeforeFirst, Lost, NotMeasured, NotReporting, Refused};
use tongtu_protocol::v1::{LossReason, Refusal};

fn at(sequence: i64) -> UnixMs {
    NOON + sequence * i64::from(INTERVAL_MS)
}

async fn gaps(control: &Control, metric: &str, step_ms: Option<i64>) -> Vec<(i64, i64, GapReason)> {
    let query = SeriesQuery {
        source: SourceId(1),
        metrics: vec![metric.to_owned()],
        resource: None,
        from_ms: NOON - 600_000,
        to_ms: at(140),
        step_ms,
        points: None,
        sum_by: None,
    };
    let series = control.telemetry.series(&Permit::system(), &query).await.expect("an answer").expect("a source");
    let each = |gap: &crate::telemetry::gaps::Gap| (gap.from_ms, gap.to_ms, gap.reason);
    series[0].gaps.iter().map(each).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_says_why() {
    for database in testing::databases().await {
        let now_ms = at(140);
        let control = Control::start(&database, now_ms).await;
        let mut stream = Stream::open(&control, 7, 99);
        stream.frames(1..=20);
        stream.accepted(1, 20).await;
        stream.lost(21, 40);
        stream.accepted(21, 40).await;
        stream.restart_lane();
        stream.frames(41..=60);
        stream.accepted(41, 60).await;
        for sequence in 61..=70 {
            stream.restart_lane();
            let mut record = stream.record(sequence);
            record.crc32c ^= 1;
            stream.send(vec![record]);
        }
        stream
            .answered(|stream| stream.refused.iter().map(|(first, last, _)| last - first + 1).sum::<u64>() == 10)
            .await;
        stream.restart_lane();
        stream.frames(71..=80);
        // Nothing is missing between these two records, but time.
        let records = vec![stream.record_at(81, at(121))];
        stream.send(records);
        stream.accepted(71, 81).await;

        let raw = [
            (NOON - 600_000, at(1), BeforeFirst),
            (at(20), at(41), Lost(LossReason::SpoolAge)),
            (at(60), at(71), Refused(Refusal::Checksum)),
            (at(80), at(121), NotReporting),
            (at(121), at(140), NotReporting),
        ];
        // Noon is a slot's begin: the slots of five minutes that are not wholly covered.
        let slot = |slot: i64| NOON + slot * 300_000;
        let slots = [
            (slot(-2), slot(1), BeforeFirst),
            (slot(1), slot(3), Lost(LossReason::SpoolAge)),
            (slot(3), slot(4), Refused(Refusal::Checksum)),
            (slot(4), slot(7), NotReporting),
        ];
        assert_eq!(gaps(&control, "sequence_total", None).await, raw);
        assert!(gaps(&control, "now_and_then", None).await.contains(&(at(2), at(3), NotMeasured)));
        assert_eq!(gaps(&control, "sequence_total", Some(300_000)).await, slots);
        control.seal(1).await;
        assert_eq!(gaps(&control, "sequence_total", None).await, raw, "compacted");
        assert_eq!(gaps(&control, "sequence_total", Some(300_000)).await, slots, "compacted");
        let again = Control::start(&database, now_ms).await;
        assert_eq!(gaps(&again, "sequence_total", None).await, raw, "started again");
        assert_eq!(gaps(&again, "sequence_total", Some(300_000)).await, slots, "started again");
        // The same by number, a page of one range and the rest.
        let mut ranges = again.telemetry.losses(AgentId(7), None, 1).await.expect("a page");
        let last = ranges.last().map(|range| (range.epoch, range.first));
        ranges.extend(again.telemetry.losses(AgentId(7), last, 10).await.expect("a page"));
        let found: Vec<_> = ranges
            .iter()
            .map(|range| (range.epoch, range.first, range.last, range.reason, range.from_ms, range.to_ms))
            .collect();
        let (age, checksum) = (LossReason::SpoolAge.into(), crate::telemetry::absent::refused(Refusal::Checksum));
        let lost = (99, 21, 40, age, Some(at(20)), Some(at(41)));
        assert_eq!(found, [lost, (99, 61, 70, checksum, Some(at(60)), Some(at(71)))]);
        assert!(again.telemetry.losses(AgentId(8), None, 10).await.expect("a page").is_empty());
        again.telemetry.close().await;
        control.telemetry.close().await;
    }
}
