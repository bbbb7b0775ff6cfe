//! Frames that were sampled at different intervals, against figures computed by hand.

use super::compaction::summed;
use super::*;
use crate::access::Permit;
use crate::platform::testing;
use crate::telemetry::SeriesQuery;
use crate::telemetry::slot::SLOT_MS;

/// Sequences count intervals of 15 s from noon, where a slot begins: a slot is 20 of them.
fn at(sequence: i64) -> UnixMs {
    NOON + sequence * i64::from(INTERVAL_MS)
}

const END: i64 = 80;

async fn series(control: &Control, metric: &str, step_ms: Option<i64>) -> super::super::Series {
    let (metrics, to_ms) = (vec![metric.to_owned()], at(END) + 1);
    let query = SeriesQuery {
        source: SourceId(1),
        metrics,
        resource: None,
        from_ms: NOON,
        to_ms,
        step_ms,
        points: None,
        sum_by: None,
    };
    let series = control.telemetry.series(&Permit::system(), &query).await.expect("an answer").expect("a source");
    series.into_iter().next().expect("one series")
}

/// What an answer says: covered seconds of each slot, the same of all frames, the raw gaps.
#[derive(Debug, PartialEq)]
struct Said {
    slots: Vec<i64>,
    frames: i64,
    gaps: Vec<(i64, i64)>,
}

async fn said(control: &Control) -> Said {
    let slots = series(control, "sequence_total", Some(SLOT_MS)).await.points;
    // The last one is expected up to now, a second behind its only frame.
    let slots = slots.coverage.iter().take(4).map(|coverage| (f64::from(*coverage) * 300.0).round() as i64).collect();
    let raw = series(control, "wave", None).await;
    let frames = (raw.coverage * (END * 15) as f64).round() as i64;
    let sequence = |ms: UnixMs| (ms - NOON) / i64::from(INTERVAL_MS);
    let gaps = raw.gaps.iter().map(|gap| (sequence(gap.from_ms), sequence(gap.to_ms))).collect();
    Said { slots, frames, gaps }
}

/// Slot → delta and covered milliseconds of the counter, frames.
fn slots(slots: &[(u64, u32, u32)]) -> BTreeMap<i64, (u64, u32, u32)> {
    (0..).zip(slots).map(|(slot, sums)| (NOON + slot * SLOT_MS, *sums)).collect()
}

async fn stored_sums(control: &Control) -> BTreeMap<i64, (u64, u32, u32)> {
    summed(stored_slots(control).await.into_iter())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_frame_counts_at_the_interval_it_was_sampled_at() {
    for database in testing::databases().await {
        let now_ms = at(END) + 1_000;
        let control = Control::start(&database, now_ms).await;
        let mut stream = Stream::open(&control, 7, 99);
        stream.define_interval(60_000);
        // 15 s, with a hole of 60 s, then 60 s: over the end of slot 1, and of the window.
        stream.frames_of(1, true, (1..=30).chain(34..=36));
        stream.frames_of(2, true, [40, 44, 48]);
        stream.accepted(48, 48).await;
        control.seal(1).await;
        // 60 s with a hole of 180 s, then 15 s again.
        stream.frames_of(2, true, [52, 64, 68]);
        stream.frames_of(1, true, 70..=80);
        stream.accepted(80, 80).await;
        let expected = Said { slots: vec![285, 240, 180, 240], frames: 960, gaps: vec![(30, 34), (52, 64)] };
        assert_eq!(said(&control).await, expected, "half of it in a window");
        control.seal(2).await;
        assert_eq!(said(&control).await, expected);
        let sums = [(19, 285_000, 19), (16, 240_000, 14), (12, 180_000, 4), (16, 240_000, 12), (0, 0, 1)];
        assert_eq!(stored_sums(&control).await, slots(&sums));
        control.telemetry.close().await;

        // The backlog brings what was missing of both, at an interval that is not the present one: the
        // frame at 60 s reaches 120 s on, into slot 3.
        let control = Control::start(&database, now_ms).await;
        let mut stream = Stream::open(&control, 7, 99);
        stream.define_interval(60_000);
        stream.frames_of(1, false, 31..=33);
        stream.frames_of(2, false, [56]);
        stream.accepted(56, 56).await;
        control.seal(3).await;
        let sums = [(19, 285_000, 19), (20, 300_000, 17), (20, 300_000, 5), (20, 300_000, 12), (0, 0, 1)];
        assert_eq!(stored_sums(&control).await, slots(&sums));
        let expected = Said { slots: vec![285, 300, 300, 300], frames: 1_200, gaps: vec![] };
        assert_eq!(said(&control).await, expected);
        control.telemetry.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_handed_on_keeps_its_interval() {
    for database in testing::databases().await {
        let control = Control::start(&database, at(END)).await;
        let mut stream = Stream::open(&control, 7, 99);
        stream.define_interval(60_000);
        stream.frames_of(2, true, [4, 8, 12]);
        stream.accepted(12, 12).await;
        control.seal(1).await;
        control.telemetry.close().await;
        // The sampling changes with the window, and with the process.
        let control = Control::start(&database, at(END)).await;
        let mut stream = Stream::open(&control, 7, 99);
        stream.frames_of(1, true, [15, 16, 17]);
        stream.accepted(17, 17).await;
        control.seal(2).await;
        assert_eq!(stored_sums(&control).await, slots(&[(13, 195_000, 6)]));
        control.telemetry.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completeness_is_the_same_after_a_restart() {
    for database in testing::databases().await {
        let control = Control::start(&database, at(END) + 1_000).await;
        let mut stream = Stream::open(&control, 7, 99);
        stream.define_interval(60_000);
        stream.frames_of(1, true, 1..=40);
        // Three of 60 s are missing.
        stream.frames_of(2, true, [44, 48, 52, 56, 60, 76, 80]);
        stream.accepted(80, 80).await;
        // Of 1185 s they stand for 40 × 15 and 6 × 60; the last one lies in a bucket that still fills.
        let figures = |control: &Control| {
            let delivery = control.telemetry.delivery(AgentId(7));
            (delivery.frames_delivered, delivery.frames_expected)
        };
        assert_eq!(figures(&control), (46, 49));
        control.telemetry.close().await;
        let control = Control::start(&database, at(END) + 1_000).await;
        assert_eq!(figures(&control), (46, 49));
        control.telemetry.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_a_late_frame_reaches_is_known_after_a_restart() {
    for database in testing::databases().await {
        let control = Control::start(&database, at(END)).await;
        let mut stream = Stream::open(&control, 7, 99);
        stream.define_interval(60_000);
        // One frame at 60 s, 105 s behind those before it: covered, 45 s of it in slot 0.
        stream.frames_of(1, true, 15..=17);
        stream.frames_of(2, true, [24]);
        stream.frames_of(1, true, [25, 26]);
        stream.accepted(26, 26).await;
        control.seal(1).await;
        assert_eq!(stored_sums(&control).await, slots(&[(5, 75_000, 3), (6, 90_000, 3)]));
        control.telemetry.close().await;
        // It was 15 s again until just before it: what seemed covered is a gap.
        let control = Control::start(&database, at(END)).await;
        let mut stream = Stream::open(&control, 7, 99);
        stream.frames_of(1, false, [23]);
        stream.accepted(23, 23).await;
        control.seal(2).await;
        assert_eq!(stored_sums(&control).await, slots(&[(2, 30_000, 3), (3, 45_000, 4)]));
        control.telemetry.close().await;
    }
}
