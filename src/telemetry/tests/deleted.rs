//! Retention that is changed while control runs: what was deleted has gone, and what is there is seen.

use super::days::growth;
use super::*;
use crate::access::Permit;
use crate::config::Retention;
use crate::platform::testing;
use crate::telemetry::gaps::GapReason::{self, Expired, NotReporting};
use crate::telemetry::slot::SLOT_MS;
use crate::telemetry::{SeriesQuery, days};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const DAY: Duration = Duration::from_secs(86_400);

/// Frames of a quarter of an hour, the first an interval after `from_ms`.
fn quarter(stream: &mut Stream, first: u64, from_ms: UnixMs) {
    let at = |place: u64| from_ms + (place as i64 + 1) * i64::from(INTERVAL_MS);
    stream.restart_lane();
    let records = (0..60).map(|place| stream.record_at(first + place, at(place))).collect();
    stream.send(records);
}

/// The first two gaps of the frames from noon to half a day later.
async fn gaps(control: &Control) -> Vec<(UnixMs, UnixMs, GapReason)> {
    let query = SeriesQuery {
        source: SourceId(1),
        metrics: vec!["sequence_total".to_owned()],
        resource: None,
        from_ms: NOON,
        to_ms: NOON + 12 * HOUR_MS + 4 * i64::from(INTERVAL_MS),
        step_ms: None,
        points: None,
        sum_by: None,
    };
    let series = control.telemetry.series(&Permit::system(), &query).await.expect("an answer").expect("a source");
    series[0].gaps.iter().take(2).map(|gap| (gap.from_ms, gap.to_ms, gap.reason)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longer_retention_brings_no_frames_back() {
    for database in testing::databases().await {
        let name = database.name;
        let control = Control::start(&database, NOON).await;
        let mut stream = Stream::open(&control, 7, 99);
        control.set(NOON + HOUR_MS);
        quarter(&mut stream, 1, NOON);
        stream.accepted(1, 60).await;
        control.seal(1).await;
        let begin_ms = NOON + 12 * HOUR_MS;
        control.set(begin_ms + HOUR_MS);
        quarter(&mut stream, 61, begin_ms);
        stream.accepted(61, 120).await;
        control.seal(2).await;
        let (from_ms, to_ms) = (NOON, NOON + 3 * SLOT_MS);
        let counted = growth(&control, SLOT_MS, from_ms, to_ms).await;

        // Frames are kept for 8 days, and thirteen hours for what comes late.
        let now_ms = NOON + 8 * DAY_MS + 17 * HOUR_MS;
        control.set(now_ms);
        days::retain(&control.telemetry.inner).await.expect("the old goes away");
        let left: Vec<_> = stored(&control).await.iter().map(|frame| frame.meta.sequence).collect();
        assert_eq!(left, (61..=120).collect::<Vec<_>>(), "{name}");
        control.telemetry.retain(Retention { raw: 30 * DAY, ..control.telemetry.inner.retention() });

        let expected = [
            (NOON, NOON + 4 * HOUR_MS, Expired),
            (NOON + 4 * HOUR_MS, begin_ms + i64::from(INTERVAL_MS), NotReporting),
        ];
        assert_eq!(control.telemetry.drawn_from(from_ms, to_ms), Some(SLOT_MS), "{name}: of frames nothing is left");
        assert_eq!(control.telemetry.drawn_from(begin_ms, begin_ms + HOUR_MS), None, "{name}");
        assert_eq!(gaps(&control).await, expected, "{name}");

        // A frame between deleted ones: its slot could not be made anew from what was around it.
        stream.restart_lane();
        let late = stream.record_at(200, NOON + 10 * i64::from(INTERVAL_MS) + 7_000);
        stream.send(vec![late]);
        stream.answered(|stream| stream.refused == [(200, 200, v1::Refusal::TooOld)]).await;
        control.kill().await;

        // The same after a restart.
        let control = Control::start_with(&database, now_ms, |config| config.raw_retention = 30 * DAY).await;
        assert_eq!(control.telemetry.drawn_from(from_ms, to_ms), Some(SLOT_MS), "{name}");
        assert_eq!(gaps(&control).await, expected, "{name}");
        assert_eq!(growth(&control, SLOT_MS, from_ms, to_ms).await, counted, "{name}");
        control.kill().await;
    }
}

/// Late frames wait in a window while those around them are deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_retention_takes_no_slots_away() {
    for database in testing::databases().await {
        let name = database.name;
        let control = Control::start(&database, NOON + HOUR_MS).await;
        let mut stream = Stream::open(&control, 7, 99);
        stream.frames((1..=20).chain(26..=60));
        stream.accepted(60, 60).await;
        control.seal(1).await;
        let counted = growth(&control, SLOT_MS, NOON, NOON + 3 * SLOT_MS).await;

        control.set(NOON + 3 * DAY_MS);
        stream.restart_lane();
        stream.frames(21..=25);
        stream.accepted(21, 25).await;
        control.telemetry.retain(Retention { raw: DAY, ..control.telemetry.inner.retention() });
        days::retain(&control.telemetry.inner).await.expect("the old goes away");
        control.seal(2).await;
        assert_eq!(growth(&control, SLOT_MS, NOON, NOON + 3 * SLOT_MS).await, counted, "{name}");
        control.kill().await;
    }
}

/// Slots that are kept no longer than frames are there until the hours of their day are made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_frame_takes_no_hours_away_where_slots_are_kept_as_long_as_frames() {
    for database in testing::databases().await {
        let name = database.name;
        let control = Control::start(&database, NOON + HOUR_MS).await;
        control.telemetry.retain(Retention { slot: 8 * DAY, ..control.telemetry.inner.retention() });
        let mut stream = Stream::open(&control, 7, 99);
        stream.frames((1..=20).chain(26..=60));
        stream.answered(|stream| stream.has_accepted(26, 60)).await;
        control.seal(1).await;
        control.set(NOON + 2 * DAY_MS);
        days::close_days(&control.telemetry.inner, 1).await.expect("the day is closed");

        // Just young enough when they come, and compacted when their day is too old.
        control.set(NOON + 8 * DAY_MS);
        stream.restart_lane();
        stream.frames(21..=25);
        stream.accepted(21, 25).await;
        control.set(NOON + 8 * DAY_MS + 10 * HOUR_MS);
        days::retain(&control.telemetry.inner).await.expect("the old goes away");
        control.seal(2).await;
        days::retain(&control.telemetry.inner).await.expect("the old goes away");
        days::close_days(&control.telemetry.inner, 2).await.expect("the day is closed again");
        let hour = NOON.div_euclid(HOUR_MS) * HOUR_MS;
        let counted = growth(&control, HOUR_MS, hour, hour + 2 * HOUR_MS).await;
        assert!((counted.0 - 59.0).abs() < 0.5, "{name}: {counted:?}");
        control.kill().await;
    }
}
