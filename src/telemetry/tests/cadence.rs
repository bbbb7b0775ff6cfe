//! Columns that are measured less often than frames come, against figures computed by hand.

use super::compaction::damage;
use super::*;
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Resource};
use crate::platform::testing;
use crate::telemetry::gaps::GapReason::{self, NotMeasured};
use crate::telemetry::slot::SLOT_MS;
use crate::telemetry::{Series, SeriesQuery, exposition};

/// Sequences count intervals of 15 s from noon, where a slot begins: a slot is 20 of them.
fn at(sequence: i64) -> UnixMs {
    NOON + sequence * i64::from(INTERVAL_MS)
}

/// A gauge of every frame, one of every five minutes, a counter of every minute.
fn schema() -> v1::Schema {
    let column = |metric: &str, kind: v1::Kind, cadence_s| v1::Column {
        metric: metric.to_owned(),
        kind: kind.into(),
        cadence_s,
        ..Default::default()
    };
    let columns = vec![
        column("tick", v1::Kind::Gauge, 0),
        column("level", v1::Kind::Gauge, 300),
        column("events_total", v1::Kind::Counter, 60),
    ];
    v1::Schema { id: SchemaId::of(&columns).0.to_vec().into(), columns }
}

/// The level is measured at 1, 21, 41 and so on, 100, 101, 102; the counter at 1, 5, 9, twice that.
fn values(sequence: u64, missed: &[u64]) -> State {
    let before = sequence - 1;
    let level = (before.is_multiple_of(20) && !missed.contains(&sequence)).then_some(100 + before as i64 / 20);
    let events = before.is_multiple_of(4).then_some(sequence as i64 * 2);
    State::from_values(&[Some(sequence as i64), level, events])
}

/// Sends these frames in a lane of their own and waits until they are durable.
async fn send(stream: &mut Stream, sequences: std::ops::RangeInclusive<u64>, missed: &[u64]) {
    stream.restart_lane();
    let (first, last) = (*sequences.start(), *sequences.end());
    let records = sequences.map(|sequence| {
        let mut body = Vec::new();
        match stream.base {
            0 => values(sequence, missed).encode_keyframe(&mut body),
            base => values(sequence, missed).encode(&values(base, missed), &mut body),
        }
        stream.record_with(sequence, at(sequence as i64), body.into())
    });
    let records: Vec<_> = records.collect();
    for some in records.chunks(500) {
        stream.send(some.to_vec());
    }
    stream.accepted(first, last).await;
}

fn open(control: &Control) -> Stream {
    let mut stream = Stream::open_bare(control, 7, 99);
    stream.define_as(schema());
    stream
}

async fn series(control: &Control, metric: &str, (from_ms, to_ms): (UnixMs, UnixMs), step_ms: Option<i64>) -> Series {
    let (source, metrics, resource, points) = (SourceId(1), vec![metric.to_owned()], None, None);
    let query = SeriesQuery { source, metrics, resource, from_ms, to_ms, step_ms, points, sum_by: None };
    let series = control.telemetry.series(&Permit::system(), &query).await.expect("an answer").expect("a source");
    series.into_iter().next().expect("one series")
}

fn gaps(series: &Series) -> Vec<(UnixMs, UnixMs, GapReason)> {
    series.gaps.iter().map(|gap| (gap.from_ms, gap.to_ms, gap.reason)).collect()
}

fn mean(series: &Series) -> f64 {
    let values: Vec<_> = series.points.value.iter().flatten().collect();
    values.iter().copied().sum::<f64>() / values.len() as f64
}

/// Both in frames and in slots, whatever of it is compacted.
async fn two_whole_hours(control: &Control) {
    let raw = series(control, "level", (at(1), at(481)), None).await;
    assert_eq!((raw.points.value.len(), raw.coverage, gaps(&raw)), (24, 1.0, vec![]));
    assert_eq!((mean(&raw), raw.step_ms), (111.5, 300_000));
    // The sample of a slot is 15 s behind its begin: that of 480 ends the last one.
    let slots = series(control, "level", (at(20), at(480)), Some(SLOT_MS)).await;
    assert_eq!((slots.points.value.len(), slots.coverage, gaps(&slots)), (23, 1.0, vec![]));
    assert_eq!(mean(&slots), 112.0);
    assert!(slots.points.coverage.iter().all(|coverage| *coverage == 1.0));
    let events = series(control, "events_total", (at(20), at(480)), Some(SLOT_MS)).await;
    assert!(events.points.value.iter().all(|rate| *rate == Some(8.0 / 60.0)), "{:?}", events.points.value);
    assert_eq!((events.coverage, gaps(&events)), (1.0, vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_measured_as_promised_is_covered() {
    for database in testing::databases().await {
        let control = Control::start(&database, at(490)).await;
        let mut stream = open(&control);
        // The window ends between two measurements.
        send(&mut stream, 1..=207, &[]).await;
        control.seal(1).await;
        send(&mut stream, 208..=490, &[]).await;
        two_whole_hours(&control).await;
        control.seal(2).await;
        two_whole_hours(&control).await;
        control.telemetry.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missed_measurement_is_a_gap_of_its_cadence() {
    for database in testing::databases().await {
        let control = Control::start(&database, at(490)).await;
        let mut stream = open(&control);
        send(&mut stream, 1..=110, &[101]).await;
        control.seal(1).await;
        // What was measured before it is known after a restart as well.
        control.telemetry.close().await;
        let control = Control::start(&database, at(490)).await;
        let mut stream = open(&control);
        send(&mut stream, 111..=490, &[101]).await;
        for compacted in [false, true] {
            if compacted {
                control.seal(2).await;
            }
            let raw = series(&control, "level", (at(1), at(481)), None).await;
            assert_eq!(gaps(&raw), [(at(81), at(101), NotMeasured)]);
            assert_eq!((raw.coverage * 23.0).round() / 23.0, 22.0 / 23.0, "{}", raw.coverage);
            let slots = series(&control, "level", (at(20), at(480)), Some(SLOT_MS)).await;
            // 15 s of the slot before, all but 15 s of its own.
            let covered: Vec<_> =
                slots.points.coverage.iter().map(|part| (f64::from(*part) * 300.0).round() as i64).collect();
            assert_eq!((covered[2], covered[3], covered[4], covered[5]), (300, 15, 285, 300));
            assert_eq!(slots.points.value[4], None);
            assert_eq!(gaps(&slots), [(at(80), at(120), NotMeasured)]);
        }
        control.telemetry.close().await;
    }
}

/// What Prometheus is shown of the level.
fn shown(control: &Control) -> Option<String> {
    let frame = control.telemetry.live(&Permit::system(), SourceId(1)).expect("a frame");
    let mut text = String::new();
    exposition::encode(&frame, &mut text);
    assert!(text.contains(&format!("tick {}\n", frame.values[0].expect("measured for every frame"))));
    text.lines().find_map(|line| line.strip_prefix("level ")).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_is_shown_until_two_and_a_half_cadences_are_over() {
    for database in testing::databases().await {
        let control = Control::start(&database, at(120)).await;
        let mut stream = open(&control);
        let missed: Vec<u64> = vec![41, 61, 81, 101];
        send(&mut stream, 1..=35, &missed).await;
        assert_eq!(shown(&control).as_deref(), Some("101"), "of 21, and 35 is shown");
        // A restart between two measurements: of what lies in the window, and of what was handed on.
        control.telemetry.close().await;
        for restart in 1..=2 {
            let control = Control::start(&database, at(120)).await;
            assert_eq!(shown(&control).as_deref(), Some("101"), "restart {restart}");
            control.seal(1).await;
            control.telemetry.close().await;
        }
        let control = Control::start(&database, at(120)).await;
        let mut stream = open(&control);
        // 750 s after 21.
        send(&mut stream, 36..=71, &missed).await;
        assert_eq!(shown(&control).as_deref(), Some("101"));
        send(&mut stream, 72..=72, &missed).await;
        assert_eq!(shown(&control), None);
        send(&mut stream, 121..=121, &missed).await;
        assert_eq!(shown(&control).as_deref(), Some("106"));
        control.telemetry.close().await;
    }
}

/// What was measured before frames of which no slots can be made is known behind them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_left_out_hand_on_what_was_measured_before() {
    for database in testing::databases().await {
        let control = Control::start(&database, at(490)).await;
        let mut stream = open(&control);
        send(&mut stream, 1..=25, &[]).await;
        send(&mut stream, 27..=30, &[]).await;
        control.seal(1).await;
        // The slots that a late frame changes cannot be read.
        damage(&database, "UPDATE telemetry_slots SET body = X'FF'").await;
        send(&mut stream, 26..=26, &[]).await;
        send(&mut stream, 31..=38, &[]).await;
        control.seal(2).await;
        assert_eq!(control.telemetry.inner.metrics.sources_left_out.get(), 1);
        damage(&database, "DELETE FROM telemetry_slots").await;
        send(&mut stream, 39..=60, &[]).await;
        control.seal(3).await;
        // From the measurement of the first window to that of the third, but for the slot before.
        let slots = series(&control, "level", (at(20), at(40)), Some(SLOT_MS)).await;
        assert_eq!(slots.points.coverage, [0.95], "{}", database.name);
        control.telemetry.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_given_a_source_sees_nothing_that_was_measured_before() {
    let database = testing::sqlite().await;
    // Its first owner is that of when it was defined.
    let control = Control::start(&database, at(1)).await;
    let mut stream = open(&control);
    control.set(at(45));
    send(&mut stream, 1..=23, &[]).await;
    let [first, second] = [1, 2].map(|id| Permit::<MeasurementsRead>::testing(OrganizationId(id)));
    let shown = |permit| control.telemetry.live(permit, SourceId(1)).map(|frame| frame.values.to_vec());
    // Level and counter are of 21.
    assert_eq!((shown(&first), shown(&second)), (Some(vec![Some(23), Some(101), Some(42)]), None));
    control.telemetry.inner.access.owned(&[(Resource::Source(SourceId(1)), OrganizationId(2), at(24))]);
    assert_eq!((shown(&first), shown(&second)), (None, None));
    send(&mut stream, 24..=24, &[]).await;
    assert_eq!(shown(&second), Some(vec![Some(24), None, None]));
    assert!(control.telemetry.last_two(&second, SourceId(1)).is_none());
    // What figures are made of.
    let seen = |column| {
        let view = control.telemetry.source(&second, SourceId(1)).expect("its source");
        view.glance(|glance| (glance.value(column), glance.last_two(column).is_some(), glance.before.is_some()))
    };
    assert_eq!([0, 1, 2].map(seen), [(Some(24), false, false), (None, false, false), (None, false, false)].map(Some));
    send(&mut stream, 25..=41, &[]).await;
    assert_eq!(shown(&second), Some(vec![Some(41), Some(102), Some(82)]));
    assert!(control.telemetry.last_two(&second, SourceId(1)).is_some());
    // The counter was measured at 37 and 41, the level once in the new owner's time.
    assert_eq!([1, 2].map(seen), [(Some(102), false, true), (Some(82), true, true)].map(Some));
    // Given back, what was in between is not the first one's.
    control.telemetry.inner.access.owned(&[(Resource::Source(SourceId(1)), OrganizationId(1), at(42))]);
    assert_eq!((shown(&first), shown(&second)), (None, None));
}
