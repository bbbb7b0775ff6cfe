//! A spool through kills at any moment, a full disk, its bounds and damage.

use super::*;
use crate::queue::{Queue, Queued, Settled, Source};
use proptest::prelude::*;
use prost::Message;
use std::io::Write;
use tempfile::TempDir;
use tongtu_protocol::codec::State;

const INTERVAL_MS: u64 = 15_000;

fn clock(boottime_ms: u64) -> v1::Clock {
    v1::Clock { boottime_ms, wall_ms: 1_790_000_000_000 + boottime_ms as i64, synchronised: true }
}

fn schema(columns: usize) -> v1::Schema {
    let column = |index| v1::Column {
        metric: format!("metric_{index}"),
        kind: v1::Kind::Gauge as i32,
        unit: "1".into(),
        ..v1::Column::default()
    };
    let columns: Vec<v1::Column> = (0..columns).map(column).collect();
    v1::Schema { id: SchemaId::of(&columns).0.to_vec().into(), columns }
}

fn source(columns: usize) -> Arc<Source> {
    let schema = SchemaId::of(&schema(columns).columns);
    Arc::new(Source { kind: "host".into(), key: "m".into(), schema, columns, interval_ms: INTERVAL_MS as u32 })
}

/// A spool with its writer and its boot time.
struct Bed {
    spool: Spool,
    writer: Writer,
    now_ms: u64,
    source: Arc<Source>,
}

impl Bed {
    fn open(directory: &Path, bounds: Bounds, now_ms: u64) -> Self {
        let (spool, writer) = Spool::open(directory, bounds, "boot", clock(now_ms)).expect("a spool");
        Self { spool, writer, now_ms, source: source(3) }
    }

    /// A tick with one frame whose first value is `value`.
    fn tick(&mut self, value: i64) -> bool {
        self.now_ms += INTERVAL_MS;
        self.writer.begin(clock(self.now_ms));
        let state = State::from_values(&[Some(value), None, Some(7)]);
        self.writer.frame(&self.source, || schema(3).encode_to_vec(), &state);
        self.writer.commit()
    }

    /// Everything that waits, oldest first, with the first value of each frame.
    fn waiting(&mut self) -> Vec<(u64, u64, i64)> {
        let mut cursor = self.spool.oldest().expect("a place");
        let mut all = Vec::new();
        while let Some(queued) = self.spool.next(&mut cursor, u64::MAX).expect("readable") {
            all.push((queued.epoch, queued.record.sequence, self.value(&queued, &mut cursor)));
        }
        all
    }

    fn value(&mut self, queued: &Queued, cursor: &mut SpoolCursor) -> i64 {
        let Some(v1::record::Body::Frame(frame)) = &queued.record.body else { panic!("a frame") };
        let body = if frame.base_sequence == 0 {
            frame.body.clone()
        } else {
            self.spool.keyframe(cursor).expect("a keyframe")
        };
        assert_eq!(crc32c::crc32c(&frame.body), queued.record.crc32c);
        let mut state = State::zero(3);
        state.apply(&body).expect("a frame that decodes");
        assert_eq!((state.get(1), state.get(2)), (None, Some(7)));
        state.get(0).expect("a value")
    }

    fn lost(&self) -> Vec<(u64, u64, LossReason)> {
        let reports = self.spool.lost();
        let ranges = reports.iter().flat_map(|report| &report.ranges);
        let mut lost: Vec<_> = ranges.map(|range| (range.first, range.last, range.reason())).collect();
        lost.sort_unstable_by_key(|range| range.0);
        lost
    }
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|of| of == "segment")).collect();
    paths.sort();
    paths
}

#[test]
fn records_wait_over_restarts_until_they_are_settled() {
    let directory = TempDir::new().expect("a folder");
    let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
    let epoch = bed.spool.span().epoch;
    (1..=5).for_each(|value| assert!(bed.tick(value)));
    bed.spool.settle(epoch, 2, 3, Settled::Accepted);
    drop(bed);
    let mut bed = Bed::open(directory.path(), Bounds::default(), 100_000);
    assert_eq!(bed.spool.span(), crate::queue::Span { epoch, first: 1, next: 6, own_from: 6 });
    assert_eq!(bed.waiting(), [(epoch, 1, 1), (epoch, 4, 4), (epoch, 5, 5)]);
    assert!(bed.tick(6));
    let depth = bed.spool.depth("boot", &clock(bed.now_ms));
    assert_eq!((depth.records, depth.oldest_ms > 0), (4, true));
    bed.spool.settle(epoch, 1, 5, Settled::Accepted);
    assert_eq!(segments(directory.path()).len(), 1, "what is settled is deleted");
    bed.spool.settle(epoch, 6, 6, Settled::Refused(v1::Refusal::Future));
    let depth = bed.spool.depth("boot", &clock(bed.now_ms));
    assert_eq!((depth.records, depth.oldest_ms), (0, 0));
    assert_eq!(depth.refused[v1::Refusal::Future as usize], 1);
    bed.spool.close();
    drop(bed);
    let mut bed = Bed::open(directory.path(), Bounds::default(), 200_000);
    assert_eq!((bed.waiting(), bed.spool.span().next), (vec![], 7));
    assert_eq!(bed.spool.span().epoch, epoch);
}

#[test]
fn a_place_follows_what_is_written() {
    let directory = TempDir::new().expect("a folder");
    let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
    (1..=3).for_each(|value| assert!(bed.tick(value)));
    let (mut live, from) = bed.spool.newest().expect("a place");
    assert_eq!(from, 4);
    let next = |bed: &mut Bed, live: &mut SpoolCursor| {
        let queued = bed.spool.next(live, u64::MAX).expect("readable");
        queued.map(|queued| (queued.record.sequence, bed.value(&queued, live)))
    };
    assert_eq!(next(&mut bed, &mut live), Some((3, 3)));
    assert_eq!(next(&mut bed, &mut live), None);
    assert!(bed.tick(4));
    bed.spool.session_ended();
    assert!(bed.tick(5), "in the next segment");
    assert_eq!(next(&mut bed, &mut live), Some((4, 4)));
    assert_eq!(next(&mut bed, &mut live), Some((5, 5)));
    assert_eq!(segments(directory.path()).len(), 2);
    let mut backlog = bed.spool.oldest().expect("a place");
    let mut numbers = Vec::new();
    while let Some(queued) = bed.spool.next(&mut backlog, 3).expect("readable") {
        numbers.push(queued.record.sequence);
    }
    assert_eq!(numbers, [1, 2], "stops before the live lane");
    assert_eq!(bed.spool.next(&mut backlog, 4).expect("readable").map(|queued| queued.record.sequence), Some(3));
    let id = SchemaId::of(&schema(3).columns);
    assert_eq!(bed.spool.schema(id).expect("readable"), Some(schema(3)));
    assert_eq!(bed.spool.anchors("boot").len(), 2);
}

#[test]
fn a_change_of_schema_and_facts_are_read_back() {
    let directory = TempDir::new().expect("a folder");
    let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
    bed.tick(1);
    bed.writer.begin(clock(60_000));
    let (old, wide) = (Arc::clone(&bed.source), source(4));
    bed.writer.frame(&wide, || schema(4).encode_to_vec(), &State::from_values(&[Some(2), None, Some(7), Some(1)]));
    bed.writer.facts(&wide, || schema(4).encode_to_vec(), [("os".to_owned(), "Debian".to_owned())].into());
    assert!(bed.writer.commit());
    let (mut newest, _) = bed.spool.newest().expect("a place");
    let first = bed.spool.next(&mut newest, u64::MAX).expect("readable").expect("the newest frame of the source");
    assert_eq!((first.record.sequence, &*first.source), (2, &*wide));
    let mut cursor = bed.spool.oldest().expect("a place");
    let mut seen = Vec::new();
    while let Some(queued) = bed.spool.next(&mut cursor, u64::MAX).expect("readable") {
        seen.push((
            queued.record.sequence,
            queued.source.columns,
            matches!(queued.record.body, Some(v1::record::Body::Facts(_))),
        ));
    }
    assert_eq!(seen, [(1, old.columns, false), (2, 4, false), (3, 4, true)]);
}

#[test]
fn a_full_disk_loses_the_newest_and_nothing_else() {
    let directory = TempDir::new().expect("a folder");
    let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
    let epoch = bed.spool.span().epoch;
    bed.tick(1);
    bed.writer.fail_writes = true;
    assert!(!bed.tick(2));
    assert!(!bed.tick(3));
    bed.writer.fail_writes = false;
    assert!(bed.tick(4), "there is room again");
    assert_eq!(bed.waiting(), [(epoch, 1, 1), (epoch, 4, 4)]);
    assert_eq!(bed.lost(), [(2, 3, LossReason::DiskFull)]);
    drop(bed);
    let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
    assert_eq!(bed.lost(), [(2, 3, LossReason::DiskFull)], "until control has answered");
    bed.spool.settle(epoch, 2, 3, Settled::Accepted);
    assert_eq!(bed.lost(), []);
    drop(bed);
    let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
    assert_eq!((bed.lost(), bed.waiting().len()), (vec![], 2));
}

#[test]
fn numbers_lost_to_a_full_disk_are_used_up_even_when_control_knows() {
    let directory = TempDir::new().expect("a folder");
    let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
    let epoch = bed.spool.span().epoch;
    bed.tick(1);
    bed.writer.fail_writes = true;
    bed.tick(2);
    bed.spool.settle(epoch, 1, 2, Settled::Accepted);
    assert_eq!(bed.lost(), []);
    fs::remove_file(directory.path().join(SETTLED)).expect("as if it could not be written");
    drop(bed);
    let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
    assert!(bed.tick(3));
    assert_eq!(bed.waiting().last(), Some(&(epoch, 3, 3)));
    bed.spool.settle(epoch, 1, 2, Settled::Accepted);
    let notes = fs::read_dir(directory.path())
        .expect("a folder")
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(".lost")));
    assert_eq!(notes.count(), 0, "a segment behind them tells it now");
}

#[test]
fn the_bounds_drop_the_oldest_and_say_so() {
    let directory = TempDir::new().expect("a folder");
    let bounds = Bounds { max_bytes: 1_200, max_age: Duration::from_secs(3_600) };
    let mut bed = Bed::open(directory.path(), bounds, 0);
    for value in 1..=12 {
        bed.spool.session_ended();
        bed.tick(value);
    }
    let lost = bed.lost();
    let [(1, last, LossReason::SpoolSize)] = lost[..] else { panic!("{lost:?}") };
    let waiting = bed.waiting();
    assert_eq!(
        waiting.iter().map(|(_, sequence, _)| *sequence).collect::<Vec<_>>(),
        (last + 1..=12).collect::<Vec<_>>()
    );
    assert_eq!(bed.spool.depth("boot", &clock(bed.now_ms)).lost, [last, 0, 0, 0]);
    bed.spool.settle(waiting[0].0, last + 2, last + 2, Settled::Accepted);
    bed.spool.session_ended();
    bed.now_ms += 3_600_001;
    bed.tick(13);
    let by_age = bed.lost().into_iter().filter(|range| range.2 == LossReason::SpoolAge);
    let by_age: Vec<_> = by_age.map(|range| (range.0, range.1)).collect();
    assert_eq!(by_age, [(last + 1, last + 1), (last + 3, 12)], "settled is not lost");
    assert_eq!(bed.waiting().len(), 1);
}

#[test]
fn a_clock_that_jumps_makes_nothing_old() {
    let directory = TempDir::new().expect("a folder");
    let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
    bed.tick(1);
    bed.spool.session_ended();
    let mut later = clock(60_000);
    later.wall_ms += 40 * 365 * 86_400_000;
    bed.writer.begin(later);
    bed.writer.commit();
    assert_eq!((bed.lost(), bed.waiting().len()), (vec![], 1));
}

#[test]
fn damage_in_the_middle_is_lost_and_no_number_comes_twice() {
    for place in (100..180).step_by(7) {
        let directory = TempDir::new().expect("a folder");
        let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
        let epoch = bed.spool.span().epoch;
        (1..=9).for_each(|value| assert!(bed.tick(value)));
        drop(bed);
        let path = &segments(directory.path())[0];
        let mut bytes = fs::read(path).expect("a segment");
        let at = bytes.len() - place;
        bytes[at] ^= 0x55;
        fs::write(path, bytes).expect("a segment");
        let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
        let good = bed.waiting().len() as u64;
        assert!((1..9).contains(&good));
        assert_eq!(bed.lost(), [(good + 1, 9, LossReason::Corrupt)]);
        assert_eq!(bed.spool.span(), crate::queue::Span { epoch, first: 1, next: 10, own_from: 10 });
        assert!(bed.tick(10));
        assert_eq!(bed.waiting().last(), Some(&(epoch, 10, 10)));
    }
}

#[test]
fn a_copy_numbers_what_is_its_own_anew() {
    let directory = TempDir::new().expect("a folder");
    let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
    let epoch = bed.spool.span().epoch;
    (1..=3).for_each(|value| assert!(bed.tick(value)));
    drop(bed);
    let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
    assert!(bed.tick(4));
    bed.spool.new_epoch().expect("a new epoch");
    let new = bed.spool.span().epoch;
    assert_ne!(epoch, new);
    assert!(bed.tick(5));
    assert_eq!(bed.waiting(), [(epoch, 1, 1), (epoch, 2, 2), (epoch, 3, 3), (new, 4, 4), (new, 5, 5)]);
    assert_eq!(bed.spool.span(), crate::queue::Span { epoch: new, first: 4, next: 6, own_from: 4 });
    drop(bed);
    let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
    assert_eq!((bed.spool.span().epoch, bed.waiting().len()), (new, 5));
}

#[derive(Debug, Clone)]
enum Step {
    Tick,
    Settle(u64, u64),
    SessionEnds,
    /// Ended in the middle of an append: this part of it reached the disk.
    Kill(u16),
    /// With the file extended before its data reached the disk.
    PowerLoss(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => Just(Step::Tick),
        3 => (0u64..6, 0u64..6).prop_map(|(from, length)| Step::Settle(from, length)),
        1 => Just(Step::SessionEnds),
        2 => any::<u16>().prop_map(Step::Kill),
        1 => any::<u16>().prop_map(Step::PowerLoss),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn nothing_durable_is_lost_and_no_number_is_used_twice(steps in steps()) {
        let directory = TempDir::new().expect("a folder");
        let mut bed = Bed::open(directory.path(), Bounds::default(), 0);
        let mut content: BTreeMap<(u64, u64), i64> = BTreeMap::new();
        let mut order = Vec::new();
        let mut settled = std::collections::BTreeSet::new();
        let mut value = 0;
        for step in steps {
            match step {
                Step::Tick => {
                    value += 1;
                    let span = bed.spool.span();
                    prop_assert!(bed.tick(value));
                    let number = (span.epoch, span.next);
                    prop_assert_eq!(content.insert(number, value), None, "a number for two records");
                    order.push(number);
                }
                Step::Settle(from, length) => {
                    let span = bed.spool.span();
                    let (first, last) = (span.first + from, (span.first + from + length).min(span.next - 1));
                    if first <= last {
                        bed.spool.settle(span.epoch, first, last, Settled::Accepted);
                        settled.extend((first..=last).map(|sequence| (span.epoch, sequence)));
                    }
                }
                Step::SessionEnds => bed.spool.session_ended(),
                Step::Kill(part) | Step::PowerLoss(part) => {
                    let now_ms = bed.now_ms;
                    drop(bed);
                    let path = segments(directory.path()).pop().expect("an open segment");
                    let mut append = Vec::new();
                    let record = v1::Record { sequence: 1 << 40, boottime_ms: now_ms, ..v1::Record::default() };
                    segment::put(&mut append, segment::Kind::Record, &[1; 100], &record);
                    append.truncate(part as usize % append.len());
                    if let Step::PowerLoss(_) = step {
                        append.resize(part as usize % 5_000, 0);
                    }
                    let mut file = fs::OpenOptions::new().append(true).open(path).expect("a segment");
                    file.write_all(&append).expect("room");
                    drop(file);
                    bed = Bed::open(directory.path(), Bounds::default(), now_ms);
                }
            }
        }
        prop_assert_eq!(bed.lost(), []);
        let waiting = bed.waiting();
        for (epoch, sequence, value) in &waiting {
            prop_assert_eq!(content.get(&(*epoch, *sequence)), Some(value));
        }
        // In order, and at least everything that is not settled; settled ones may come again.
        let numbers: Vec<_> = waiting.iter().map(|(epoch, sequence, _)| (*epoch, *sequence)).collect();
        let expected: Vec<_> = order.iter().filter(|number| numbers.contains(number)).copied().collect();
        prop_assert_eq!(&numbers, &expected);
        prop_assert!(order.iter().all(|number| settled.contains(number) || numbers.contains(number)));
    }
}
