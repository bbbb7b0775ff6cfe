//! Questions and their answers, put together by hand.

use super::*;
use crate::platform::ids::{AgentId, SourceId};
use crate::telemetry::slot::{CounterSlot, GaugeSlot};
use tongtu_protocol::schema::SchemaId;

const START: UnixMs = 1_790_000_100_000 / HOUR_MS * HOUR_MS;
const ALL: (UnixMs, UnixMs) = (UnixMs::MIN, UnixMs::MAX);

fn column(metric: &str, resource: &str, kind: v1::Kind, exponent: i32) -> v1::Column {
    v1::Column { metric: metric.into(), resource: resource.into(), kind: kind.into(), exponent, ..Default::default() }
}

fn schema(number: i64, mut columns: Vec<v1::Column>) -> StoredSchema {
    columns.push(column("bytes_total", "eth0", v1::Kind::Counter, 0));
    columns.push(column("bytes_total", "eth1", v1::Kind::Counter, 0));
    columns.push(column("level", "", v1::Kind::Gauge, -2));
    StoredSchema::new(number, SchemaId([0; 16]), columns)
}

fn ask(metric: &str, resource: Option<&str>, minutes: i64, step_ms: Option<i64>) -> SeriesQuery {
    SeriesQuery {
        source: SourceId(1),
        metrics: vec![metric.into()],
        resource: resource.map(Into::into),
        from_ms: START,
        to_ms: START + minutes * 60_000,
        step_ms,
        points: None,
        sum_by: None,
    }
}

fn assemble(query: &SeriesQuery, periods: &[(UnixMs, UnixMs)]) -> Result<Assembly, QueryError> {
    let source = SourceInfo {
        id: SourceId(1),
        agent: AgentId(1),
        kind: "host".into(),
        key: "m".into(),
        interval_ms: 15_000,
        created_ms: START,
        last_instant_ms: None,
    };
    Assembly::new(query, &source, periods.to_vec(), START + 40 * 86_400_000)
}

fn counters(slots: &[(u64, u32)]) -> ColumnSlots {
    let slot = |(delta, covered_ms): &(u64, u32)| CounterSlot {
        delta: *delta,
        covered_ms: *covered_ms,
        resets: 1,
        dropped: 0,
    };
    ColumnSlots::Counter(slots.iter().map(slot).collect())
}

#[test]
fn a_rate_is_over_covered_seconds_and_a_gap_is_a_gap() {
    let schema = schema(1, vec![]);
    let mut assembly = assemble(&ask("bytes_total", Some("eth0"), 20, Some(SLOT_MS)), &[ALL]).expect("a question");
    assert_eq!(*assembly.columns(&schema), [0]);
    assembly.slots(&schema, 0, START - SLOT_MS, SLOT_MS, &counters(&[(999, 300_000), (3_000, 300_000), (100, 50_000)]));
    // A second piece of a slot adds up; a column of another name is no part of the answer.
    assembly.slots(&schema, 0, START + SLOT_MS, SLOT_MS, &counters(&[(20, 100_000), (0, 0)]));
    assembly.slots(&schema, 1, START, SLOT_MS, &counters(&[(7, 7)]));
    let [series] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
    assert_eq!((series.points.first_ms, series.step_ms), (Some(START), SLOT_MS));
    assert_eq!(series.points.value, [Some(10.0), Some(0.8), None, None]);
    assert_eq!(series.points.coverage, [1.0, 0.5, 0.0, 0.0]);
    assert_eq!((series.coverage, series.resets), (0.375, 4));
    assert!(series.points.min.is_empty());
}

#[test]
fn a_wider_step_is_the_sum_of_its_slots() {
    let schema = schema(1, vec![]);
    let mut assembly = assemble(&ask("level", None, 120, Some(HOUR_MS)), &[ALL]).expect("a question");
    let gauge = |sum, min, max, count| GaugeSlot { sum, min, max, count, covered_ms: 300_000 };
    let slots = ColumnSlots::Gauge(vec![gauge(300, 90, 110, 3), gauge(-500, -500, -500, 1), gauge(0, 0, 0, 0)]);
    assembly.slots(&schema, 2, START, SLOT_MS, &slots);
    let [series] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
    assert_eq!(series.resolution, Resolution::Hour);
    assert_eq!(series.points.value, [Some(-0.5), None]);
    assert_eq!(series.points.min, [Some(-5.0), None]);
    assert_eq!(series.points.max, [Some(1.1), None]);
    assert_eq!(series.points.coverage, [0.25, 0.0]);
}

#[test]
fn days_begin_at_midnight_in_shanghai() {
    let instant = |text: &str| text.parse::<jiff::Timestamp>().expect("an instant").as_millisecond();
    let asked = |from: &str, to: &str, step_ms| {
        let mut query = ask("level", None, 0, Some(step_ms));
        (query.from_ms, query.to_ms) = (instant(from), instant(to));
        assemble(&query, &[ALL]).expect("a question").span()
    };
    let span = asked("2026-09-22T15:59:59.999Z", "2026-09-23T16:00:00Z", DAY_MS);
    assert_eq!(span, (instant("2026-09-22T00:00:00+08"), instant("2026-09-24T00:00:00+08")));
    assert_eq!(asked("2026-09-22T16:00:00Z", "2026-09-22T16:00:01Z", DAY_MS).0, instant("2026-09-22T16:00:00Z"));
    // A week is seven of these days; what is shorter than a day keeps whole hours.
    let (from, to) = asked("2026-09-22T15:59:59Z", "2026-09-22T16:00:00Z", 7 * DAY_MS);
    assert_eq!((to - from, (from + SHANGHAI_MS).rem_euclid(DAY_MS)), (7 * DAY_MS, 0));
    let half = asked("2026-09-22T15:00:00Z", "2026-09-22T15:00:01Z", DAY_MS / 2);
    assert_eq!(half, (instant("2026-09-22T12:00:00Z"), instant("2026-09-23T00:00:00Z")));

    // An hour's slots at the edge: the last of one day and the first of the next.
    let schema = schema(1, vec![]);
    let mut query = ask("bytes_total", Some("eth0"), 0, Some(DAY_MS));
    (query.from_ms, query.to_ms) = (instant("2026-09-22T00:00:00+08"), instant("2026-09-24T00:00:00+08"));
    let mut assembly = assemble(&query, &[ALL]).expect("a question");
    let last = instant("2026-09-22T23:00:00+08");
    assembly.slots(&schema, 0, last, HOUR_MS, &counters(&[(3_600, 3_600_000), (7_200, 3_600_000)]));
    let [series] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
    assert_eq!(series.points.value, [Some(1.0), Some(2.0)]);
}

#[test]
fn a_series_goes_on_under_a_new_schema() {
    let (old, new) = (schema(1, vec![]), schema(2, vec![column("new", "", v1::Kind::Gauge, 0)]));
    let mut assembly = assemble(&ask("bytes_total", None, 10, Some(SLOT_MS)), &[ALL]).expect("a question");
    assembly.slots(&old, 1, START, SLOT_MS, &counters(&[(300, 300_000)]));
    assembly.slots(&new, 2, START + SLOT_MS, SLOT_MS, &counters(&[(600, 300_000)]));
    let series = assembly.finish().expect("an answer");
    assert_eq!(series.len(), 2);
    assert_eq!(series[1].column.resource, "eth1");
    assert_eq!(series[1].points.value, [Some(1.0), Some(2.0)]);
    assert_eq!(series[0].points.value, [None, None]);
}

#[test]
fn only_the_time_of_ownership_is_shown() {
    let schema = schema(1, vec![]);
    // Its own until 7 minutes after the start, and again from 15: the second slot is in between.
    let periods = [(START, START + 420_000), (START + 900_000, UnixMs::MAX)];
    let mut assembly = assemble(&ask("bytes_total", Some("eth0"), 25, Some(SLOT_MS)), &periods).expect("a question");
    assembly.slots(&schema, 0, START, SLOT_MS, &counters(&[(300, 300_000); 5]));
    let [series] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
    assert_eq!(series.points.value, [Some(1.0), None, None, Some(1.0), Some(1.0)]);

    let mut assembly = assemble(&ask("level", None, 25, None), &periods).expect("a question");
    let frames: Vec<_> = [0, 419_999, 420_000, 899_999, 900_000]
        .map(|at| FrameMeta {
            instant_ms: START + at,
            sequence: 1,
            epoch: 1,
            boot: 1,
            uncertain: false,
            interval_ms: 0,
        })
        .into();
    assembly.frames(&schema, 2, &frames, &[Some(1); 5]);
    let [series] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
    let shown: Vec<_> = series
        .points
        .instants_ms
        .iter()
        .zip(&series.points.value)
        .filter(|point| point.1.is_some())
        .map(|point| point.0 - START)
        .collect();
    assert_eq!(shown, [0, 419_999, 900_000]);
}

#[test]
fn frames_come_in_order_and_a_gap_is_marked() {
    let schema = schema(1, vec![]);
    let mut assembly = assemble(&ask("level", None, 5, None), &[ALL]).expect("a question");
    let at =
        |at| FrameMeta { instant_ms: START + at, sequence: 1, epoch: 1, boot: 1, uncertain: false, interval_ms: 0 };
    assembly.frames(&schema, 2, &[at(120_000), at(135_000)], &[Some(-5), None]);
    assembly.frames(&schema, 2, &[at(-1), at(0), at(15_000)], &[Some(9), Some(100), Some(250)]);
    let [series] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
    let instants: Vec<_> = series.points.instants_ms.iter().map(|at| at - START).collect();
    assert_eq!(instants, [0, 15_000, 30_000, 120_000, 135_000]);
    assert_eq!(series.points.value, [Some(1.0), Some(2.5), None, Some(-0.05), None]);
    assert_eq!(series.points.coverage, [1.0, 1.0, 0.0, 1.0, 0.0]);
    assert_eq!(series.coverage, 0.05);
}

#[test]
fn a_question_that_cannot_be_answered_says_how_to_mend_it() {
    let fault = |query: &SeriesQuery| assemble(query, &[ALL]).expect_err("no answer");
    assert_eq!(fault(&ask("level", None, 0, None)), QueryError::Period);
    assert_eq!(fault(&ask("level", None, 5, Some(60_000))), QueryError::Step);
    let fine = QueryError::TooManyPoints { points: 57_600, step_seconds: 300 };
    assert_eq!(fault(&ask("level", None, 14_400, None)), fine);
    assert!(assemble(&ask("level", None, 14_400, Some(SLOT_MS)), &[ALL]).is_ok());
    let mut years = ask("level", None, 0, Some(SLOT_MS));
    years.from_ms -= 400 * 86_400_000;
    let QueryError::TooManyPoints { step_seconds, .. } = fault(&years) else { panic!("too many") };
    years.step_ms = Some(step_seconds * 1_000);
    let answer = assemble(&years, &[ALL]).expect("what the error proposed").finish();
    assert_eq!(answer.expect_err("empty"), QueryError::Nothing);
    years.from_ms = UnixMs::MIN;
    years.to_ms = UnixMs::MAX;
    assert!(matches!(fault(&years), QueryError::TooManyPoints { .. }));
}

#[test]
fn an_answer_that_is_too_large_is_not_held_either() {
    let columns = (0..200).map(|number| column("lane", &number.to_string(), v1::Kind::Gauge, 0)).collect();
    let schema = schema(1, columns);
    let mut assembly = assemble(&ask("lane", None, 40 * 1_440, Some(SLOT_MS)), &[ALL]).expect("a question");
    let slots = ColumnSlots::Gauge(vec![GaugeSlot::default(); 2]);
    for &column in assembly.columns(&schema).iter() {
        assembly.slots(&schema, column, START, SLOT_MS, &slots);
    }
    let held: usize = assembly.series.iter().map(|series| series.points.len()).sum();
    assert!(held <= ALL_POINTS, "{held}");
    let points = 200 * 40 * 288;
    assert_eq!(assembly.finish().expect_err("too much"), QueryError::TooManyInAll { points, series: 200 });
}

#[test]
fn stars() {
    let stars = [1.0, 0.99, 0.989, 0.95, 0.9, 0.8, 0.5, 0.49, 0.0].map(evidence_stars);
    assert_eq!(stars, [5, 5, 4, 4, 3, 3, 2, 1, 1]);
}

/// A frame so many seconds after the start.
fn meta(at: i64) -> FrameMeta {
    let (instant_ms, interval_ms) = (START + at * 1_000, 15_000);
    FrameMeta { instant_ms, sequence: 1, epoch: 1, boot: 1, uncertain: false, interval_ms }
}

fn processors() -> StoredSchema {
    let of = |cpu: &str, mode: &str| {
        let mut column = column("cpu_seconds_total", "", v1::Kind::Counter, -2);
        let label = |name: &str, value: &str| v1::Label { name: name.into(), value: value.into() };
        column.labels = vec![label("cpu", cpu), label("mode", mode)];
        column
    };
    let mut columns = vec![of("0", "user"), of("1", "user"), of("0", "idle")];
    columns.push(column("used_bytes", "sda", v1::Kind::Gauge, 0));
    columns.push(column("used_bytes", "sdb", v1::Kind::Gauge, 0));
    StoredSchema::new(9, SchemaId([9; 16]), columns)
}

fn summing(metric: &str, by: &[&str], step_ms: Option<i64>, points: Option<usize>) -> Assembly {
    let sum_by = Some(by.iter().map(|name| (*name).to_owned()).collect());
    let query = SeriesQuery { sum_by, points, ..ask(metric, None, 20, step_ms) };
    assemble(&query, &[ALL]).expect("a question")
}

#[test]
fn a_sum_of_rates_ends_where_one_part_is_missing_or_goes_back() {
    let schema = processors();
    let frames: Vec<_> = [0, 15, 30, 45, 60, 75].map(meta).into();
    let mut assembly = summing("cpu_seconds_total", &["mode"], None, Some(100));
    assembly.frames(&schema, 0, &frames, &[0, 1_500, 3_000, 4_500, 6_000, 7_500].map(Some));
    // It goes back by less than the other one grows, and is missing later.
    assembly.frames(&schema, 1, &frames, &[Some(900), Some(1_650), Some(1_600), Some(1_600), None, Some(1_600)]);
    assembly.frames(&schema, 2, &frames, &[0, 0, 0, 0, 0, 15].map(Some));
    let series = assembly.finish().expect("an answer");
    let [idle, user] = &series[..] else { panic!("two series: {series:?}") };
    assert_eq!((idle.parts, user.parts), (1, 2));
    assert_eq!(user.column.labels.iter().map(|label| label.value.as_str()).collect::<Vec<_>>(), ["user"]);
    assert_eq!(user.points.value, [Some(1.5), None, Some(1.0), None, None]);
    assert_eq!(user.points.coverage, [1.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(idle.points.value[4], Some(0.01));
    assert_eq!(user.gaps[0].reason, gaps::GapReason::NotMeasured, "{:?}", user.gaps);
}

#[test]
fn a_sum_of_slots_covers_what_all_parts_do() {
    let schema = processors();
    let mut assembly = summing("cpu_seconds_total", &["mode"], Some(SLOT_MS), None);
    assembly.slots(&schema, 0, START, SLOT_MS, &counters(&[(300, 300_000), (300, 300_000), (0, 0)]));
    assembly.slots(&schema, 1, START, SLOT_MS, &counters(&[(600, 300_000), (300, 150_000), (600, 300_000)]));
    let [_, user] = &assembly.finish().expect("an answer")[..] else { panic!("two series") };
    assert_eq!(user.points.value, [Some(0.03), Some(0.03), None, None]);
    assert_eq!(user.points.coverage, [1.0, 0.5, 0.0, 0.0]);
    assert!(user.points.min.is_empty());
}

#[test]
fn a_sum_of_gauges_has_no_extremes_of_its_own() {
    let schema = processors();
    let gauge = |sum, min, max, count| GaugeSlot { sum, min, max, count, covered_ms: 300_000 };
    for points in [None, Some(2)] {
        let mut assembly = summing("used_bytes", &[], Some(SLOT_MS), points);
        let slots = vec![gauge(30, 5, 15, 3), gauge(20, 20, 20, 1)];
        assembly.slots(&schema, 3, START, SLOT_MS, &ColumnSlots::Gauge(slots));
        assembly.slots(&schema, 4, START, SLOT_MS, &ColumnSlots::Gauge(vec![gauge(1_000, 90, 110, 10)]));
        let [used] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
        assert_eq!(used.column.resource, "");
        // Ten and a hundred; where one is missing there is no sum.
        assert_eq!(used.points.value[0], Some(110.0));
        assert!(used.points.value[1..].iter().all(Option::is_none) && used.points.min.is_empty());
    }
}

#[test]
fn a_sum_of_one_gauge_keeps_its_extremes() {
    let mut assembly = summing("level", &[], Some(SLOT_MS), None);
    let slots = vec![GaugeSlot { sum: 30, min: 5, max: 15, count: 3, covered_ms: 300_000 }];
    assembly.slots(&schema(1, vec![]), 2, START, SLOT_MS, &ColumnSlots::Gauge(slots));
    let [level] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
    let Points { value, min, max, .. } = &level.points;
    assert_eq!((value[0], min[0], max[0]), (Some(0.1), Some(0.05), Some(0.15)));
}

/// Gauges of every frame, every minute and every ten, counters of every minute.
fn cadences() -> StoredSchema {
    let of = |metric: &str, resource: &str, kind: v1::Kind, cadence_s| v1::Column {
        cadence_s,
        ..column(metric, resource, kind, 0)
    };
    let columns = vec![
        of("size", "every", v1::Kind::Gauge, 0),
        of("size", "minute", v1::Kind::Gauge, 60),
        of("pair", "one", v1::Kind::Gauge, 600),
        of("pair", "other", v1::Kind::Gauge, 600),
        of("seen_total", "one", v1::Kind::Counter, 60),
        of("seen_total", "other", v1::Kind::Counter, 60),
    ];
    StoredSchema::new(8, SchemaId([8; 16]), columns)
}

/// Frames of 15 s over twenty minutes; of each in which a column is measured, what it is then.
fn every_15_s(measured: impl Fn(i64) -> Option<i64>) -> (Vec<FrameMeta>, Vec<Option<i64>>) {
    let instants = || (0..80).map(|frame| frame * 15);
    (instants().map(meta).collect(), instants().map(measured).collect())
}

#[test]
fn a_sum_of_what_is_measured_every_minute_is_measured_every_minute() {
    let schema = cadences();
    let minute = |at: i64| (at % 60 == 0).then_some(at / 60);
    let (frames, values) = every_15_s(minute);
    for points in [None, Some(1_000)] {
        let mut assembly = summing("seen_total", &[], None, points);
        assembly.frames(&schema, 4, &frames, &values);
        assembly.frames(&schema, 5, &frames, &every_15_s(|at| minute(at).filter(|at| *at != 7).map(|at| at * 2)).1);
        let [seen] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
        // One of 20 is missing of a part; the counter grew by as much over two minutes.
        assert_eq!((seen.step_ms, seen.coverage), (60_000, 1.0), "{:?}", seen.gaps);
        assert_eq!(seen.gaps, []);
        let expected: Vec<_> = (0..20).filter(|at| *at != 7).map(|at| Some(f64::from(at * 3))).collect();
        match points {
            None => assert_eq!(seen.points.value, expected),
            Some(_) => assert_eq!(seen.points.value, vec![Some(3.0 / 60.0); 18]),
        }
    }
    // A part goes back from its last value, whatever frames lie between.
    let mut assembly = summing("seen_total", &[], None, Some(1_000));
    // The other one grows by more.
    assembly.frames(&schema, 4, &frames, &every_15_s(|at| minute(at).map(|at| at * 100)).1);
    assembly.frames(&schema, 5, &frames, &every_15_s(|at| minute(at).map(|at| at % 10)).1);
    let [seen] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
    let none: Vec<_> = seen.points.value.iter().enumerate().filter(|(_, value)| value.is_none()).collect();
    assert_eq!(none.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [9]);
}

#[test]
fn a_sum_of_several_cadences_is_measured_with_its_slowest_part() {
    let schema = cadences();
    let minute = |at: i64| (at % 60 == 0).then_some(1_000);
    let mut assembly = summing("size", &[], None, None);
    let (frames, values) = every_15_s(Some);
    assembly.frames(&schema, 0, &frames, &values);
    assembly.frames(&schema, 1, &frames, &every_15_s(|at| minute(at).filter(|_| at != 600)).1);
    let [size] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
    let instants: Vec<_> = (0..20).filter(|at| *at != 10).map(|at| START + at * 60_000).collect();
    // In front of the gap a point says that nothing follows.
    let shown = size.points.instants_ms.iter().zip(&size.points.value).filter_map(|(at, value)| Some((*at, (*value)?)));
    let expected = instants.iter().map(|at| (*at, 1_000.0 + (at - START) as f64 / 1_000.0));
    assert!(shown.eq(expected), "{:?}", size.points);
    let gaps: Vec<_> = size.gaps.iter().map(|gap| (gap.from_ms - START, gap.to_ms - START, gap.reason)).collect();
    assert_eq!(gaps, [(540_000, 600_000, gaps::GapReason::NotMeasured)]);
    // Of slots, each part counts with its mean.
    let mut assembly = summing("size", &[], Some(SLOT_MS), None);
    let gauge = |sum, count| vec![GaugeSlot { sum, min: 0, max: 9, count, covered_ms: 300_000 }; 4];
    assembly.slots(&schema, 0, START, SLOT_MS, &ColumnSlots::Gauge(gauge(200, 20)));
    assembly.slots(&schema, 1, START, SLOT_MS, &ColumnSlots::Gauge(gauge(500, 5)));
    let [size] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
    assert_eq!(size.points.value, [Some(110.0); 4]);
    assert_eq!((size.coverage, size.gaps.len()), (1.0, 0));
}

#[test]
fn a_sum_may_cover_a_slot_in_which_nothing_was_measured() {
    let schema = cadences();
    let mut assembly = summing("pair", &[], Some(SLOT_MS), None);
    // Each is measured in every other slot.
    let slot = |count: u32| GaugeSlot { sum: 10, min: 10, max: 10, count, covered_ms: 300_000 };
    let none = GaugeSlot { covered_ms: 300_000, ..Default::default() };
    for column in [2, 3] {
        assembly.slots(&schema, column, START, SLOT_MS, &ColumnSlots::Gauge(vec![slot(1), none, slot(1), none]));
    }
    let [pair] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
    assert_eq!(pair.points.value, [Some(20.0), None, Some(20.0), None]);
    assert_eq!(pair.points.coverage, [1.0; 4]);
    assert_eq!(pair.gaps, []);
}

#[test]
fn what_came_of_another_owner_explains_no_gap() {
    let schema = schema(1, vec![]);
    let half = [(UnixMs::MIN, START + HOUR_MS / 2)];
    let mut assembly = assemble(&ask("bytes_total", Some("eth0"), 60, Some(HOUR_MS)), &half).expect("a question");
    assembly.slots(&schema, 0, START, SLOT_MS, &counters(&[(300, 300_000); 12]));
    assembly.framed(START, SLOT_MS, &[FrameSlot { covered_ms: 300_000, ..FrameSlot::default() }; 12]);
    let [series] = &assembly.finish().expect("an answer")[..] else { panic!("one series") };
    assert_eq!((&series.points.value[..], &series.points.coverage[..]), (&[Some(1.0)][..], &[0.5][..]));
    let measured = series.gaps.iter().all(|gap| gap.reason != gaps::GapReason::NotMeasured);
    assert!(measured, "frames of the time after say nothing of this owner's column: {:?}", series.gaps);
}
