//! Slots against numbers computed by hand, and what must hold for any frames.

use super::speed::is_within;
use super::*;
use crate::telemetry::slot_block::{SlotBlockView, SlotError};
use proptest::prelude::*;
use tongtu_protocol::schema::SchemaId;

/// 15 seconds.
const INTERVAL: u32 = 15_000;

fn column(metric: &str, kind: v1::Kind) -> v1::Column {
    v1::Column { metric: metric.into(), kind: kind.into(), ..Default::default() }
}

/// A 64-bit counter, a 32-bit counter of bytes bounded by the speed, a gauge, the speed in By/s.
fn schema() -> StoredSchema {
    let mut narrow = column("narrow_bytes_total", v1::Kind::Counter);
    narrow.width_bits = 32;
    narrow.speed_column = 4;
    let columns = vec![
        column("wide_total", v1::Kind::Counter),
        narrow,
        column("level", v1::Kind::Gauge),
        column("speed_bytes", v1::Kind::Gauge),
    ];
    StoredSchema::new(1, SchemaId([0; 16]), columns)
}

fn meta(instant_ms: i64, boot: u32) -> FrameMeta {
    FrameMeta { instant_ms, sequence: 1, epoch: 1, boot, uncertain: false, interval_ms: 0 }
}

type Row = (i64, u32, [Option<i64>; 4]);

fn fill(rows: &[Row]) -> Columns {
    let mut columns = Columns::new(4);
    for (instant_ms, boot, values) in rows {
        columns.push_state(meta(*instant_ms, *boot), &State::from_values(values));
    }
    columns
}

fn slots(rows: &[Row]) -> SlotBlock {
    make(&schema(), None, &mut fill(rows), INTERVAL, SLOT_MS).expect("frames")
}

/// One counter alone: (instant, boot, value).
fn counter(rows: &[(i64, u32, Option<i64>)]) -> Vec<CounterSlot> {
    let rows: Vec<_> = rows.iter().map(|row| (row.0, row.1, [row.2, None, None, None])).collect();
    match slots(&rows).columns.swap_remove(0) {
        ColumnSlots::Counter(slots) => slots,
        other => panic!("{other:?}"),
    }
}

/// The 32-bit counter with a speed: (instant, value, speed).
fn narrow(rows: &[(i64, i64, Option<i64>)]) -> Vec<CounterSlot> {
    let rows: Vec<_> = rows.iter().map(|row| (row.0, 1, [None, Some(row.1), None, row.2])).collect();
    match slots(&rows).columns.swap_remove(1) {
        ColumnSlots::Counter(slots) => slots,
        other => panic!("{other:?}"),
    }
}

fn slot(delta: u64, covered_ms: u32, resets: u32, dropped: u32) -> CounterSlot {
    CounterSlot { delta, covered_ms, resets, dropped }
}

#[test]
fn a_counter_that_goes_back_leaves_its_interval_uncovered() {
    let rows = [(0, 1, Some(100)), (15_000, 1, Some(130)), (30_000, 1, Some(7)), (45_000, 1, Some(10))];
    assert_eq!(counter(&rows), [slot(30 + 3, 30_000, 1, 0)]);
}

#[test]
fn a_reboot_is_a_reset_even_if_the_counter_went_on() {
    let rows = [(0, 1, Some(100)), (15_000, 1, Some(130)), (40_000, 2, Some(200)), (55_000, 2, Some(210))];
    assert_eq!(counter(&rows), [slot(40, 30_000, 1, 0)]);
    // The same for one that stood still.
    let rows = [(0, 1, Some(5)), (15_000, 1, Some(5)), (40_000, 2, Some(5)), (55_000, 2, Some(5))];
    assert_eq!(counter(&rows), [slot(0, 30_000, 1, 0)]);
    // What is absent before or after is not reset.
    let rows = [(0, 1, Some(5)), (15_000, 1, None), (40_000, 2, Some(5)), (55_000, 2, Some(9))];
    assert_eq!(counter(&rows), [slot(4, 15_000, 0, 0)]);
}

#[test]
fn a_32_bit_counter_wraps_only_as_fast_as_its_speed() {
    let max = i64::from(u32::MAX);
    // 100 to the end and one, and 49 beyond: 150 bytes in 15 s is 10 bytes a second.
    assert_eq!(narrow(&[(0, max - 100, Some(10)), (15_000, 49, Some(10))]), [slot(150, 15_000, 0, 0)]);
    assert_eq!(narrow(&[(0, max - 100, Some(10)), (15_000, 52, Some(10))]), [slot(153, 15_000, 0, 0)]);
    assert_eq!(narrow(&[(0, max - 100, Some(10)), (15_000, 53, Some(10))]), [slot(0, 0, 1, 0)]);
    // One byte a second less does not allow it: the counter was reset.
    assert_eq!(narrow(&[(0, max - 100, Some(9)), (15_000, 49, Some(9))]), [slot(0, 0, 1, 0)]);
    // Without a known speed nothing tells a wrap from a reset.
    assert_eq!(narrow(&[(0, max - 100, None), (15_000, 49, None)]), [slot(0, 0, 1, 0)]);
    assert_eq!(narrow(&[(0, max - 100, Some(-1)), (15_000, 49, Some(-1))]), [slot(0, 0, 1, 0)]);
    // A 64-bit counter never wraps.
    assert_eq!(counter(&[(0, 1, Some(max - 100)), (15_000, 1, Some(49))]), [slot(0, 0, 1, 0)]);
}

#[test]
fn a_rate_above_the_speed_is_dropped_and_counted() {
    let rows = [(0, 0, Some(10)), (15_000, 153, Some(10)), (30_000, 307, Some(10)), (45_000, 308, Some(10))];
    // 150 in 15 s is the speed: 2 % more is taken as measured, one byte more is dropped.
    assert_eq!(narrow(&rows), [slot(154, 30_000, 0, 1)]);
    // A link that changed its speed in between is judged by the higher one.
    let rows = [(0, 0, Some(10)), (15_000, 1_500, Some(100)), (30_000, 3_000, Some(10))];
    assert_eq!(narrow(&rows), [slot(3_000, 30_000, 0, 0)]);
}

#[test]
fn exponents_of_counter_and_speed_may_differ() {
    // 1,500 kB in 15 s against 100 kB/s given as 10^5 × 1, and 2 % above it.
    assert!(is_within(1_530, 3, 15_000, 1, 5));
    assert!(!is_within(1_531, 3, 15_000, 1, 5));
    assert!(is_within(u64::MAX, -18, 1, i64::MAX, 18));
    assert!(!is_within(1, 18, u32::MAX, i64::MAX, -18));
}

#[test]
fn a_gap_is_not_bridged() {
    // 37.5 s is two and a half intervals: covered. One millisecond more is not.
    let rows = [(0, 1, Some(0)), (37_500, 1, Some(10)), (75_001, 1, Some(90)), (90_001, 1, Some(91))];
    assert_eq!(counter(&rows), [slot(11, 52_500, 0, 0)]);
}

#[test]
fn the_sampling_of_then_says_what_is_a_gap() {
    // At 15 s a hole of 40 s is one, at 60 s one of 150 s is none; where the sampling changes, the
    // wider one counts.
    let frames = [
        (240_000, 15_000, 0),
        (280_000, 15_000, 100), // 40 s: a gap
        (295_000, 15_000, 107),
        (355_000, 60_000, 115), // the change: 5 s and 55 s of 60 s
        (505_000, 60_000, 130), // 150 s
        (655_001, 60_000, 160), // one millisecond more: a gap
        (715_001, 15_000, 161), // the change back
        (752_501, 15_000, 163), // 37.5 s
        (790_002, 15_000, 999), // a gap
    ];
    let mut columns = Columns::new(4);
    for (instant_ms, interval_ms, value) in frames {
        let values = [Some(value), None, None, None];
        columns.push_state(FrameMeta { interval_ms, ..meta(instant_ms, 1) }, &State::from_values(&values));
    }
    // What is not known is taken for something else.
    let block = make(&schema(), None, &mut columns, 3_600_000, SLOT_MS).expect("frames");
    let expected = [slot(7, 20_000, 0, 0), slot(8 + 15, 55_000 + 150_000, 0, 0), slot(1 + 2, 60_000 + 37_500, 0, 0)];
    assert_eq!(block.columns[0], ColumnSlots::Counter(expected.to_vec()));
}

#[test]
fn a_missing_value_leaves_both_its_intervals_uncovered() {
    let rows = [(0, 1, Some(1)), (15_000, 1, None), (30_000, 1, Some(9)), (45_000, 1, Some(10))];
    assert_eq!(counter(&rows), [slot(1, 15_000, 0, 0)]);
}

#[test]
fn an_interval_over_a_boundary_is_split_by_time_and_the_remainder_is_later() {
    // 5 s of 15 s lie in the first slot: a third of 100, rounded down.
    let rows = [(295_000, 1, Some(1_000)), (310_000, 1, Some(1_100)), (325_000, 1, Some(1_101))];
    assert_eq!(counter(&rows), [slot(33, 5_000, 0, 0), slot(67 + 1, 25_000, 0, 0)]);
    // A frame on the boundary splits nothing, and its interval lies in the earlier slot.
    let rows = [(285_000, 1, Some(0)), (300_000, 1, Some(100)), (315_000, 1, Some(101))];
    assert_eq!(counter(&rows), [slot(100, 15_000, 0, 0), slot(1, 15_000, 0, 0)]);
    // An interval over three slots: 100 × 100/500, 100 × 300/500, the rest.
    let rows = [(200_000, [Some(7), None, None, None]), (700_000, [Some(107), None, None, None])];
    let rows: Vec<_> = rows.iter().map(|row| (row.0, 1, row.1)).collect();
    let block = make(&schema(), None, &mut fill(&rows), 300_000, SLOT_MS).expect("frames");
    let expected = [slot(20, 100_000, 0, 0), slot(60, 300_000, 0, 0), slot(20, 100_000, 0, 0)];
    assert_eq!(block.columns[0], ColumnSlots::Counter(expected.to_vec()));
}

#[test]
fn a_clock_that_steps_back_covers_nothing_twice() {
    // Instants are told by anchors, so a step of the machine's clock does not reach here; two
    // frames that say the same instant cover no time.
    let rows = [(0, 1, Some(0)), (15_000, 1, Some(10)), (15_000, 1, Some(20)), (30_000, 1, Some(30))];
    assert_eq!(counter(&rows), [slot(20, 30_000, 0, 0)]);
}

#[test]
fn a_gauge_counts_in_the_slot_of_its_instant() {
    let level = |instant, value| (instant, 1, [None, None, value, None]);
    let rows = [
        level(270_000, Some(4)),
        level(285_000, Some(-2)),
        level(305_000, Some(10)),
        level(320_000, None),
        level(335_000, Some(11)),
    ];
    let block = slots(&rows);
    let expected = vec![
        GaugeSlot { sum: 2, min: -2, max: 4, count: 2, covered_ms: 15_000 + 15_000 },
        GaugeSlot { sum: 21, min: 10, max: 11, count: 2, covered_ms: 5_000 + 15_000 },
    ];
    assert_eq!(block.columns[2], ColumnSlots::Gauge(expected));
    assert_eq!(block.columns[0], ColumnSlots::Empty);
    let frames = [(2, 30_000), (3, 35_000)].map(|(count, covered_ms)| FrameSlot { count, covered_ms, reboots: 0 });
    assert_eq!(block.frames, frames);
}

#[test]
fn a_new_schema_finds_its_columns_again() {
    let old = schema();
    let mut new = schema();
    new.number = 2;
    new.columns.rotate_left(1);
    Arc::make_mut(&mut new.columns[0]).speed_column = 3;
    new.columns.push(column("new_total", v1::Kind::Counter).into());
    let state = State::from_values(&[Some(100), Some(4), Some(1), Some(1_000)]);
    let measured = Measured::default();
    let before = Predecessor { meta: meta(290_000, 1), schema: Arc::new(old), state, measured };
    let mut columns = Columns::new(5);
    let values = [Some(34), Some(2), Some(1_000), Some(115), Some(7)];
    columns.push_state(meta(305_000, 1), &State::from_values(&values));
    let block = make(&new, Some(&before), &mut columns, INTERVAL, SLOT_MS).expect("frames");
    assert_eq!(block.columns[3], ColumnSlots::Counter(vec![slot(10, 10_000, 0, 0), slot(5, 5_000, 0, 0)]));
    assert_eq!(block.columns[0], ColumnSlots::Counter(vec![slot(20, 10_000, 0, 0), slot(10, 5_000, 0, 0)]));
    assert_eq!(block.columns[4], ColumnSlots::Counter(vec![slot(0, 0, 0, 0); 2]));
}

/// A gauge and a counter that are measured every minute: (seconds, boot, gauge, counter).
fn slow(rows: &[(i64, u32, Option<i64>, Option<i64>)]) -> (Vec<GaugeSlot>, Vec<CounterSlot>) {
    let mut columns = vec![column("level", v1::Kind::Gauge), column("slow_total", v1::Kind::Counter)];
    columns.iter_mut().for_each(|column| column.cadence_s = 60);
    let schema = StoredSchema::new(1, SchemaId([0; 16]), columns);
    let mut columns = Columns::new(2);
    for (seconds, boot, level, total) in rows {
        columns.push_state(meta(seconds * 1_000, *boot), &State::from_values(&[*level, *total]));
    }
    let block = make(&schema, None, &mut columns, INTERVAL, SLOT_MS).expect("frames");
    match <[ColumnSlots; 2]>::try_from(block.columns) {
        Ok([ColumnSlots::Gauge(gauge), ColumnSlots::Counter(counter)]) => (gauge, counter),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_measured_every_minute_stands_for_a_minute() {
    // Frames of 15 s from 240 s on, measured at 240, 300, 360 and so on.
    let frame = |at: i64, missed: &[i64], boot| {
        let measured = (at % 60 == 0 && !missed.contains(&at)).then_some(at);
        (at, boot, measured, measured.map(|at| at * 2))
    };
    let frames = |missed: &[i64]| -> Vec<_> { (16..=40).map(|tick| frame(tick * 15, missed, 1)).collect() };
    let gauge = |values: &[i64], covered_s: u32| GaugeSlot {
        sum: values.iter().map(|value| i128::from(*value)).sum(),
        min: values[0],
        max: values[values.len() - 1],
        count: values.len() as u32,
        covered_ms: covered_s * 1_000,
    };
    let (level, total) = slow(&frames(&[]));
    assert_eq!(level, [gauge(&[240], 60), gauge(&[300, 360, 420, 480, 540], 300), gauge(&[600], 0)]);
    assert_eq!(total, [slot(120, 60_000, 0, 0), slot(600, 300_000, 0, 0), slot(0, 0, 0, 0)]);
    // One is missing: the gauge was not measured for a minute, the counter went on.
    let (level, total) = slow(&frames(&[420]));
    assert_eq!(level[1], gauge(&[300, 360, 480, 540], 240));
    assert_eq!(total[1], slot(600, 300_000, 0, 0));
    // Two are missing, and nothing tells for how long.
    let (level, total) = slow(&frames(&[420, 480]));
    assert_eq!(level[1], gauge(&[300, 360, 540], 120));
    assert_eq!(total[1], slot(240, 120_000, 0, 0));
    // A reboot at 400 s.
    let mut rows = frames(&[]);
    rows.iter_mut().filter(|row| row.0 > 400).for_each(|row| row.1 = 2);
    let (level, total) = slow(&rows);
    assert_eq!(level[1], gauge(&[300, 360, 420, 480, 540], 240));
    assert_eq!(total[1], slot(480, 240_000, 1, 0));
    // A run that comes half a minute late is the promised one; its interval is as long as it was.
    let rows = [(0, 1, Some(1), Some(0)), (75, 1, None, None), (90, 1, Some(3), Some(9))];
    assert_eq!(slow(&rows), (vec![gauge(&[1, 3], 90)], vec![slot(9, 90_000, 0, 0)]));
}

/// A counter, measured so often (0: in each frame), and its speed, measured every minute.
fn beside_a_slow_speed(cadence_s: u32) -> StoredSchema {
    let mut total = column("bytes_total", v1::Kind::Counter);
    (total.speed_column, total.cadence_s) = (2, cadence_s);
    let speed = v1::Column { cadence_s: 60, ..column("speed_bytes", v1::Kind::Gauge) };
    StoredSchema::new(1, SchemaId([0; 16]), vec![total, speed])
}

/// Its slots: (seconds, counter, speed).
fn within_a_slow_speed(
    schema: &StoredSchema,
    before: Option<&Predecessor>,
    rows: &[(i64, Option<i64>, Option<i64>)],
) -> Vec<CounterSlot> {
    let mut columns = Columns::new(2);
    for (seconds, total, speed) in rows {
        columns.push_state(meta(seconds * 1_000, 1), &State::from_values(&[*total, *speed]));
    }
    match make(schema, before, &mut columns, INTERVAL, SLOT_MS).expect("frames").columns.swap_remove(0) {
        ColumnSlots::Counter(slots) => slots,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_speed_that_is_measured_every_minute_bounds_the_rates_between() {
    let schema = beside_a_slow_speed(0);
    let rows = [
        (0, Some(0), Some(10)),
        (15, Some(150), None),
        (30, Some(400), None),
        (45, Some(450), None),
        (60, Some(460), Some(10)),
    ];
    assert_eq!(within_a_slow_speed(&schema, None, &rows), [slot(150 + 50 + 10, 45_000, 0, 1)]);
    // For two and a half cadences; then nothing is known of it.
    let fast = |at: i64| if at < 150 { at / 15 } else { 9 + (at - 135) / 15 * 1_000 };
    let rows: Vec<_> = (0..=11).map(|n| (n * 15, Some(fast(n * 15)), (n == 0).then_some(10))).collect();
    assert_eq!(within_a_slow_speed(&schema, None, &rows), [slot(9 + 1_000, 150_000, 0, 1)]);
    // Also of what was measured in a window before.
    let schema = Arc::new(schema);
    let mut measured = Measured::default();
    measured.take(&schema, &State::from_values(&[Some(0), Some(10)]), 240_000, 1);
    let state = State::from_values(&[Some(0), None]);
    let before = Predecessor { meta: meta(285_000, 1), schema: schema.clone(), state, measured };
    let rows = [(300, Some(1_000), None), (315, Some(1_100), None)];
    assert_eq!(within_a_slow_speed(&schema, Some(&before), &rows), [slot(0, 0, 0, 0), slot(100, 15_000, 0, 1)]);
}

#[test]
fn a_slow_counter_is_judged_by_the_highest_speed_since_it_was_measured_before() {
    let schema = beside_a_slow_speed(60);
    let rows = [(0, Some(0), Some(100)), (45, None, None), (60, Some(6_000), Some(10)), (120, Some(6_600), Some(10))];
    assert_eq!(within_a_slow_speed(&schema, None, &rows)[..1], [slot(6_000 + 600, 120_000, 0, 0)]);
    let rows = [(0, Some(0), Some(10)), (45, None, None), (60, Some(700), Some(10))];
    assert_eq!(within_a_slow_speed(&schema, None, &rows)[..1], [slot(0, 0, 0, 1)]);
}

#[test]
fn hours_are_the_sums_of_slots() {
    let rows: Vec<Row> = (0..480)
        .map(|frame| (HOUR_MS / 2 + frame * 15_000, 1, [Some(frame * frame), None, Some(frame % 7 - 3), None]))
        .collect();
    let block = slots(&rows);
    let hours = block.widen(HOUR_MS);
    assert_eq!((hours.first_ms, hours.frames.len()), (0, 3));
    assert_eq!(hours, make(&schema(), None, &mut fill(&rows), INTERVAL, HOUR_MS).expect("frames"));
}

/// Any frames: jitter, gaps, reboots, missing values, resets.
fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let step = prop_oneof![8 => 14_000i64..16_000, 1 => Just(15_000), 1 => 0i64..700_000];
    let value = prop_oneof![
        6 => (0i64..5_000).prop_map(Some), 2 => Just(Some(0)), 1 => Just(None), 1 => (-90_000i64..0).prop_map(Some)
    ];
    let frame = (step, proptest::bool::weighted(0.05), proptest::array::uniform4(value));
    (0i64..600_000, proptest::collection::vec(frame, 1..120)).prop_map(|(start, frames)| {
        let (mut instant, mut boot, mut sums) = (start, 1, [0i64; 4]);
        let mut row = |(step, reboot, moves): (i64, bool, [Option<i64>; 4])| {
            instant += step;
            boot += u32::from(reboot);
            let mut values = [None; 4];
            for (column, moved) in moves.into_iter().enumerate() {
                sums[column] = (sums[column] + moved.unwrap_or(0)).max(0);
                values[column] = moved.map(|_| sums[column]);
            }
            (instant, boot, values)
        };
        frames.into_iter().map(&mut row).collect()
    })
}

proptest! {
    #[test]
    fn slots_add_up_to_the_counter_exactly(
        steps in proptest::collection::vec((1i64..30_000, 0i64..1 << 40), 1..200),
        start in 0i64..1 << 41,
        slot_ms in prop_oneof![Just(SLOT_MS), 1i64..40_000],
    ) {
        let (mut instant, mut value) = (start, 77);
        let mut rows = vec![(instant, 1, [Some(value), None, None, None])];
        for (step, delta) in steps {
            instant += step;
            value += delta;
            rows.push((instant, 1, [Some(value), None, None, None]));
        }
        let block = make(&schema(), None, &mut fill(&rows), INTERVAL, slot_ms).expect("frames");
        let ColumnSlots::Counter(slots) = &block.columns[0] else { panic!("a counter") };
        prop_assert_eq!(slots.iter().map(|slot| slot.delta).sum::<u64>(), value as u64 - 77);
        let covered: i64 = slots.iter().map(|slot| i64::from(slot.covered_ms)).sum();
        prop_assert_eq!(covered, instant - start);
        prop_assert!(slots.iter().all(|slot| i64::from(slot.covered_ms) <= slot_ms));
    }

    #[test]
    fn pieces_make_the_slots_of_the_whole(
        rows in any_rows(),
        slow in any::<bool>(),
        cuts in proptest::collection::vec(any::<u16>(), 0..5),
    ) {
        let mut rows = rows;
        let mut schema = schema();
        if slow {
            // A counter and a gauge are measured every minute, or what should be one.
            let columns = schema.columns.iter().map(|column| (**column).clone()).enumerate();
            let slow = |(place, column)| v1::Column { cadence_s: if place % 2 == 0 { 60 } else { 0 }, ..column };
            schema = StoredSchema::new(1, schema.id, columns.map(slow).collect());
            for (_, row) in rows.iter_mut().enumerate().filter(|(place, _)| place % 4 != 0) {
                (row.2[0], row.2[2]) = (None, None);
            }
        }
        let schema = Arc::new(schema);
        let whole = make(&schema, None, &mut fill(&rows), INTERVAL, SLOT_MS).expect("frames");
        let mut measured = Measured::default();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| usize::from(cut) % rows.len()).collect();
        cuts.extend([0, rows.len()]);
        cuts.sort_unstable();
        let mut merged: Option<SlotBlock> = None;
        let mut before: Option<Predecessor> = None;
        for cut in cuts.windows(2) {
            let mut piece = fill(&rows[cut[0]..cut[1]]);
            let Some(block) = make(&schema, before.as_ref(), &mut piece, INTERVAL, SLOT_MS) else { continue };
            match &mut merged {
                Some(merged) => merged.merge(&block),
                None => merged = Some(block),
            }
            let (meta, state) = piece.last().expect("frames");
            for (instant_ms, boot, values) in &rows[cut[0]..cut[1]] {
                measured.take(&schema, &State::from_values(values), *instant_ms, *boot);
            }
            // As it is stored.
            let carried = measured.append_to(&schema, &state, meta.instant_ms);
            let (state, carried) = Measured::split_from(&schema, &carried, meta.instant_ms);
            before = Some(Predecessor { meta, schema: Arc::clone(&schema), state, measured: carried });
        }
        let mut merged = merged.expect("frames");
        // A column that is absent in one piece is no different from one that is absent.
        prop_assert_eq!(&merged, &whole);
        let middle = whole.first_ms + (whole.end_ms() - whole.first_ms) / SLOT_MS / 2 * SLOT_MS;
        let halves = (whole.cut(i64::MIN / 2, middle), whole.cut(middle, i64::MAX / 2));
        merged = halves.1.expect("half of the slots");
        if let Some(first) = halves.0 {
            merged.merge(&first);
        }
        prop_assert_eq!(merged, whole);
    }

    #[test]
    fn a_block_reads_back(rows in any_rows(), wild in any::<[[Option<i64>; 4]; 3]>()) {
        let mut rows = rows;
        let last = rows[rows.len() - 1].0;
        rows.extend((1..).zip(wild).map(|(step, values)| (last + step * 15_000, 1, values)));
        let block = slots(&rows);
        for block in [block.widen(HOUR_MS), block] {
            let bytes = block.encode();
            let view = SlotBlockView::open(&bytes).expect("a block");
            prop_assert_eq!(view.block(0..4).expect("every column"), block.clone());
            prop_assert_eq!(view.column(4), Err(SlotError::NoColumn(4)));
            let part = view.block(1..3).expect("two columns");
            let bytes = part.encode();
            let view = SlotBlockView::open(&bytes).expect("a block");
            prop_assert_eq!(view.columns(), 1..3);
            prop_assert_eq!(view.column(2).expect("a column"), block.columns[2].clone());
            prop_assert_eq!(view.column(0), Err(SlotError::NoColumn(0)));
        }
    }

    #[test]
    fn what_is_broken_is_an_error(
        rows in any_rows(),
        noise in proptest::collection::vec((any::<u16>(), 1u8..), 1..4),
        random in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert!(SlotBlockView::open(&random).is_err());
        let mut bytes = slots(&rows).encode();
        prop_assert!(SlotBlockView::open(&bytes[..bytes.len() - 1]).is_err());
        let length = bytes.len() - 4;
        for (place, byte) in noise {
            bytes[usize::from(place) % length] ^= byte;
        }
        for mut broken in [bytes[..length].to_vec(), [&[1][..], &random].concat()] {
            let crc = crc32c::crc32c(&broken);
            broken.extend_from_slice(&crc.to_le_bytes());
            if let Ok(view) = SlotBlockView::open(&broken) {
                let _ = view.block(view.columns());
            }
        }
    }
}
