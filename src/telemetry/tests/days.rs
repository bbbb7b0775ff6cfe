//! Days are closed, opened again by what comes late, and go away when they are old.

use super::*;
use crate::access::Permit;
use crate::platform::testing;
use crate::telemetry::slot::SLOT_MS;
use crate::telemetry::{SeriesQuery, days};

const DAY_MS: i64 = 86_400_000;

/// The growth of the sequence counter in each slot or hour of a period, as the query tells it.
pub(super) async fn growth(control: &Control, step_ms: i64, from_ms: i64, to_ms: i64) -> (f64, usize) {
    let query = SeriesQuery {
        source: SourceId(1),
        metrics: vec!["sequence_total".to_owned()],
        points: None,
        sum_by: None,
        resource: None,
        from_ms,
        to_ms,
        step_ms: Some(step_ms),
    };
    let series = control.telemetry.series(&Permit::system(), &query).await.expect("an answer").expect("a source");
    let points = &series[0].points;
    let covered = |at: usize| f64::from(points.coverage[at]) * step_ms as f64 / 1_000.0;
    let sum = points.value.iter().enumerate().filter_map(|(at, value)| Some((*value)? * covered(at))).sum();
    (sum, points.value.iter().flatten().count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_are_closed_and_opened_again_by_late_frames() {
    for database in testing::databases().await {
        let midnight = NOON.div_euclid(DAY_MS) * DAY_MS + DAY_MS;
        let control = Control::start(&database, midnight + DAY_MS + 4 * 3_600_000).await;
        let mut stream = Stream::open(&control, 7, 99);
        // An hour before midnight to an hour after it, without the middle; then a day later.
        let at = |sequence: u64| midnight - 3_600_000 + sequence as i64 * 15_000;
        let send = |stream: &mut Stream, sequences: &mut dyn Iterator<Item = u64>| {
            stream.restart_lane();
            let records: Vec<_> = sequences.map(|sequence| stream.record_at(sequence, at(sequence))).collect();
            stream.send(records);
        };
        send(&mut stream, &mut (1..=200).chain(281..=480));
        stream.answered(|stream| stream.has_accepted(281, 480)).await;
        control.seal(1).await;
        let (from, to) = (midnight - 2 * 3_600_000, midnight + 2 * 3_600_000);
        let before = growth(&control, SLOT_MS, from, to).await;
        assert!((before.0 - 398.0).abs() < 0.5, "{before:?}");
        days::close_days(&control.telemetry.inner, 1).await.expect("days are closed");
        assert!(stored_slots(&control).await.is_empty(), "every slot is in a closed day");
        assert_eq!(growth(&control, SLOT_MS, from, to).await, before);
        let hours = growth(&control, 3_600_000, from, to).await;
        assert!((hours.0 - 398.0).abs() < 0.5, "{hours:?}");
        // The middle comes late, over midnight.
        send(&mut stream, &mut (201..=280));
        stream.accepted(201, 280).await;
        control.seal(2).await;
        let whole = growth(&control, SLOT_MS, from, to).await;
        assert!((whole.0 - 479.0).abs() < 0.5, "{whole:?}");
        // More of them may be under way.
        days::close_days(&control.telemetry.inner, 1).await.expect("no day is closed");
        assert!(!stored_slots(&control).await.is_empty(), "what the second window added to is open");
        assert_eq!(growth(&control, SLOT_MS, from, to).await, whole);
        days::close_days(&control.telemetry.inner, 2).await.expect("days are closed again");
        assert!(stored_slots(&control).await.is_empty());
        assert_eq!(growth(&control, SLOT_MS, from, to).await, whole);
        let hours = growth(&control, 3_600_000, from, to).await;
        assert!((hours.0 - 479.0).abs() < 0.5, "{hours:?}");
        // Newer frames of a day that is closed already.
        send(&mut stream, &mut (481..=500));
        stream.accepted(481, 500).await;
        control.seal(3).await;
        days::close_days(&control.telemetry.inner, 3).await.expect("days are closed");
        let more = growth(&control, SLOT_MS, from, to).await;
        assert!((more.0 - 499.0).abs() < 0.5, "{more:?}");
        // Raw frames go after eight days, slots stay.
        control.set(midnight + 12 * DAY_MS);
        days::retain(&control.telemetry.inner).await.expect("the old goes away");
        assert!(stored(&control).await.is_empty());
        assert_eq!(growth(&control, SLOT_MS, from, to).await, more);
        control.set(midnight + 400 * DAY_MS);
        days::retain(&control.telemetry.inner).await.expect("the old goes away");
        let hours = growth(&control, 3_600_000, from, to).await;
        assert!((hours.0 - 499.0).abs() < 0.5, "{hours:?}");
    }
}

/// Who set a retention too short by mistake, and sets it right, keeps what is not deleted yet.
#[tokio::test]
async fn a_retention_that_is_set_right_is_obeyed_at_once() {
    use crate::telemetry::{deleted::Deleted, store_days};
    use sea_orm::{ConnectionTrait, Statement};
    for database in testing::databases().await {
        let control = Control::start(&database, NOON).await;
        // Its own pass must not come first.
        control.kill().await;
        let transaction = database.db.begin("chunks").await.expect("begun");
        // One more than goes at a time.
        for id in 1..=501 {
            let statement = format!(
                "INSERT INTO telemetry_chunk (id, source_id, schema_number, first_ms, last_ms, made_by, body) \
                 VALUES ({id}, 1, 1, {id}, {id}, 0, {})",
                if database.name == "sqlite" { "x'00'" } else { "'\\x00'" }
            );
            transaction.execute_unprepared(&statement).await.expect("inserted");
        }
        transaction.commit().await.expect("committed");
        let asked = AtomicI64::new(0);
        let before = || if asked.fetch_add(1, Ordering::Relaxed) == 0 { NOON } else { 100 };
        let inner = &control.telemetry.inner;
        let gone_ms = store_days::older_delete(inner, "telemetry_chunk", "last_ms", before, Deleted::raw);
        assert_eq!(gone_ms.await.expect("deleted"), 100, "{}", database.name);
        // Said to be gone is what is, to the hour, and not what would have been.
        let said = Deleted::raw(3_600_000);
        assert_eq!(inner.deleted(), said, "{}", database.name);
        assert_eq!(store_days::deleted(&database.db).await.expect("read"), said, "{}", database.name);
        let left = Statement::from_string(database.db.statements(), "SELECT id FROM telemetry_chunk");
        let left = database.db.read().query_all_raw(left).await.expect("read");
        let left: Vec<i64> = left.iter().map(|row| row.try_get("", "id").expect("a number")).collect();
        assert_eq!(left, [501], "{}", database.name);
    }
}
