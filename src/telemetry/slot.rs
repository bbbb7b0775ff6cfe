//! Slots: what the frames of one source say about each five minutes (or hour), in integers. Pure.
//!
//! Slots are aligned to the Unix epoch. An *interval* lies between two consecutive frames; it is
//! covered if both are of one boot and it is not longer than two and a half sampling intervals, the
//! wider ones where the sampling changed between the two.
//!
//! - **Counter.** A covered interval with both values present adds its milliseconds and its delta.
//!   A value that goes back is a reset: the interval is uncovered and the reset counted; a 32-bit
//!   counter may wrap if its speed gauge allows that delta. A delta more than 2 % above the speed is
//!   dropped and counted: a counter is read a little before or after the instant of its frame, so at
//!   line rate every other interval seems a little too fast. Another boot is a reset. An interval over a slot's boundary is split by time, rounded
//!   down, the remainder to the latest slot, so that the slots add up to the delta exactly.
//! - **Gauge.** A sample counts in the slot of its instant (sum, count, least, greatest) and
//!   stands for the interval that ends in it: that is the time it covers, if the interval is
//!   covered. The mean of a slot is sum ÷ count.
//! - **A column with a cadence** is absent in the frames between its measurements, and is treated as a
//!   source sampled at its cadence would be: its intervals lie between two measurements of one boot. A
//!   gauge stands for the whole interval if that is no longer than one and a half cadences; if it is
//!   longer, up to two and a half, a measurement is missing, and it stands for one cadence.
//!
//! Everything adds up: the slots of two pieces, [merged](SlotBlock::merge), are the slots of the
//! whole if the second piece knows its [`Predecessor`]. Hours are made from slots. Columns of f64
//! have no slots: they are foreign data, kept as frames only.

mod speed;

use self::speed::{Speed, Verdict};
use super::StoredSchema;
use super::columns::{ByColumn, Columns, FrameMeta};
use super::measured::{Measured, Measurement, stands_ms};
use crate::platform::clock::UnixMs;
use std::collections::HashMap;
use std::sync::Arc;
use tongtu_protocol::codec::State;
use tongtu_protocol::v1;

/// Width of a slot.
pub const SLOT_MS: i64 = 300_000;
/// Width of an hourly slot.
pub const HOUR_MS: i64 = 3_600_000;

/// The frame before the first one: it hands its interval over.
#[derive(Debug, Clone)]
pub struct Predecessor {
    /// Its instant and boot count.
    pub meta: FrameMeta,
    /// What its values mean; columns are found again by metric, resource and labels.
    pub schema: Arc<StoredSchema>,
    /// Its values.
    pub state: State,
    /// What was measured less often, up to this frame.
    pub measured: Measured,
}

/// Consecutive slots of one source and one schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotBlock {
    /// [`StoredSchema::number`].
    pub schema: i64,
    /// Width of a slot.
    pub slot_ms: i64,
    /// Begin of the first slot.
    pub first_ms: UnixMs,
    /// What holds for a column without gaps of its own, slot by slot.
    pub frames: Vec<FrameSlot>,
    /// The first column that is here.
    pub first_column: usize,
    /// Slots of each column.
    pub columns: Vec<ColumnSlots>,
}

/// The frames of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameSlot {
    /// Frames whose instant lies in it.
    pub count: u32,
    /// Milliseconds of it in covered intervals.
    pub covered_ms: u32,
    /// Boots that began.
    pub reboots: u32,
}

/// One column's slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnSlots {
    /// Nothing was measured, or the column has no slots.
    Empty,
    /// Of a counter.
    Counter(Vec<CounterSlot>),
    /// Of a gauge.
    Gauge(Vec<GaugeSlot>),
}

/// A counter in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CounterSlot {
    /// By how much it grew in the covered time.
    pub delta: u64,
    /// Milliseconds covered.
    pub covered_ms: u32,
    /// How often it went back or the machine was started anew.
    pub resets: u32,
    /// Intervals dropped because the rate was above the interface's speed.
    pub dropped: u32,
}

/// A gauge in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GaugeSlot {
    /// Sum of the samples.
    pub sum: i128,
    /// The least sample; 0 without samples.
    pub min: i64,
    /// The greatest sample; 0 without samples.
    pub max: i64,
    /// Samples.
    pub count: u32,
    /// Milliseconds covered.
    pub covered_ms: u32,
}

impl CounterSlot {
    fn add(&mut self, other: &Self) {
        self.delta = self.delta.saturating_add(other.delta);
        self.covered_ms += other.covered_ms;
        self.resets += other.resets;
        self.dropped += other.dropped;
    }
}

impl GaugeSlot {
    fn add(&mut self, other: &Self) {
        if other.count > 0 {
            let first = self.count == 0;
            self.min = if first { other.min } else { self.min.min(other.min) };
            self.max = if first { other.max } else { self.max.max(other.max) };
        }
        self.sum += other.sum;
        self.count += other.count;
        self.covered_ms += other.covered_ms;
    }

    fn sample(&mut self, value: i64, times: u32) {
        let sum = i128::from(value) * i128::from(times);
        self.add(&Self { sum, min: value, max: value, count: times, covered_ms: 0 });
    }
}

impl FrameSlot {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.covered_ms += other.covered_ms;
        self.reboots += other.reboots;
    }
}

/// The longest interval that is covered.
#[must_use]
pub fn longest_ms(interval_ms: u32) -> i64 {
    i64::from(interval_ms) * 5 / 2
}

/// The longest interval between two frames that is covered: the wider sampling of the two counts.
#[must_use]
pub fn longest_between_ms(a: &FrameMeta, b: &FrameMeta) -> i64 {
    longest_ms(a.interval_ms.max(b.interval_ms))
}

/// The slots of the frames in `columns`, which are in order of instant and of `schema`, and of the
/// interval that leads to the first of them. Frames whose sampling interval is not known are taken as
/// sampled at `interval_ms`. `None` without frames.
///
/// # Panics
/// If the frames are of another schema, or `slot_ms` is not positive.
#[must_use]
pub fn make(
    schema: &StoredSchema,
    before: Option<&Predecessor>,
    columns: &mut Columns,
    interval_ms: u32,
    slot_ms: i64,
) -> Option<SlotBlock> {
    let maker = Maker::new(schema, before, columns, interval_ms, slot_ms)?;
    let columns = (0..schema.columns.len()).map(|column| maker.column(column)).collect();
    Some(SlotBlock {
        schema: schema.number,
        slot_ms,
        first_ms: maker.first_ms(),
        frames: maker.timeline.frames,
        first_column: 0,
        columns,
    })
}

/// The frames and the intervals between them, laid over slots.
struct Timeline {
    first_slot: i64,
    frames: Vec<FrameSlot>,
    /// The slot of each frame, counted from the first.
    slot: Vec<u32>,
    /// Of the interval that ends in each frame: its length, 0 if it is not covered.
    length_ms: Vec<u32>,
    /// Another boot began with this frame.
    rebooted: Vec<bool>,
    /// The interval that ends in this frame touches another slot than the frame's.
    is_split: Vec<bool>,
    /// Of these intervals: frame, slot, milliseconds.
    split: Vec<(u32, u32, u32)>,
}

impl Timeline {
    /// `reach_ms` is where the first measurement of a slow column reaches back to.
    fn new(
        before: Option<FrameMeta>,
        frames: &[FrameMeta],
        interval_ms: u32,
        slot_ms: i64,
        reach_ms: UnixMs,
    ) -> Option<Self> {
        assert!(slot_ms > 0, "a slot has a width");
        let covered = |a: &FrameMeta, b: &FrameMeta| {
            let length = b.instant_ms - a.instant_ms;
            let longest_ms = longest_between_ms(&a.or_interval(interval_ms), &b.or_interval(interval_ms));
            a.boot == b.boot && length > 0 && length <= longest_ms
        };
        let first = frames.first()?;
        let reaches = before.filter(|before| covered(before, first));
        let first_slot = reaches.map_or(first.instant_ms, |before| before.instant_ms);
        let first_slot = first_slot.min(reach_ms).div_euclid(slot_ms);
        let last_slot = frames.iter().map(|frame| frame.instant_ms).max()?.div_euclid(slot_ms);
        let slots = usize::try_from(last_slot - first_slot + 1).ok()?;
        let mut timeline = Self {
            first_slot,
            frames: vec![FrameSlot::default(); slots],
            slot: Vec::with_capacity(frames.len()),
            length_ms: Vec::with_capacity(frames.len()),
            rebooted: Vec::with_capacity(frames.len()),
            is_split: vec![false; frames.len()],
            split: Vec::new(),
        };
        let mut previous = before;
        for (index, frame) in (0u32..).zip(frames) {
            let slot = (frame.instant_ms.div_euclid(slot_ms) - first_slot) as u32;
            let rebooted = previous.is_some_and(|previous| previous.boot != frame.boot);
            timeline.frames[slot as usize].count += 1;
            timeline.frames[slot as usize].reboots += u32::from(rebooted);
            timeline.slot.push(slot);
            timeline.rebooted.push(rebooted);
            let length = match previous.filter(|previous| covered(previous, frame)) {
                Some(previous) => {
                    timeline.cover(index, previous.instant_ms, frame.instant_ms, slot_ms);
                    (frame.instant_ms - previous.instant_ms) as u32
                }
                None => 0,
            };
            timeline.length_ms.push(length);
            previous = Some(*frame);
        }
        Some(timeline)
    }

    fn cover(&mut self, frame: u32, from_ms: UnixMs, to_ms: UnixMs, slot_ms: i64) {
        let whole = from_ms.div_euclid(slot_ms) == (to_ms - 1).div_euclid(slot_ms);
        for (slot, part) in slots_of(from_ms, to_ms, slot_ms) {
            let place = (slot - self.first_slot) as u32;
            self.frames[place as usize].covered_ms += part;
            if !whole || place != self.slot[frame as usize] {
                self.split.push((frame, place, part));
                self.is_split[frame as usize] = true;
            }
        }
    }

    /// The slots of the interval that ends in `frame` and the milliseconds in each.
    fn parts(&self, frame: usize) -> impl Iterator<Item = (usize, u32)> + '_ {
        let is_split = self.is_split[frame];
        let at = if is_split { self.split.partition_point(|part| (part.0 as usize) < frame) } else { self.split.len() };
        let split = self.split[at..].iter().take_while(move |part| part.0 as usize == frame);
        let split = split.map(|part| (part.1 as usize, part.2));
        let whole = (!is_split).then(|| (self.slot[frame] as usize, self.length_ms[frame]));
        split.chain(whole.filter(|(_, length)| *length > 0))
    }
}

/// The slots of an interval and the milliseconds in each.
fn slots_of(from_ms: UnixMs, to_ms: UnixMs, slot_ms: i64) -> impl Iterator<Item = (i64, u32)> {
    // An interval that ends on a boundary lies wholly before it.
    let (first, last) = (from_ms.div_euclid(slot_ms), (to_ms - 1).div_euclid(slot_ms));
    (first..=last).map(move |slot| {
        let begin = from_ms.max(slot * slot_ms);
        (slot, (to_ms.min((slot + 1) * slot_ms) - begin) as u32)
    })
}

/// The predecessor's values in the columns of another schema.
struct Before<'a> {
    state: &'a State,
    columns: Option<HashMap<Identity<'a>, usize>>,
}

/// What makes a column of one schema that of another.
pub(super) type Identity<'a> = (&'a str, &'a str, &'a [v1::Label], i32, i32);

/// Identity of a column over schemas.
pub(super) fn identity(column: &v1::Column) -> Identity<'_> {
    (&column.metric, &column.resource, &column.labels, column.kind, column.exponent)
}

impl<'a> Before<'a> {
    fn new(before: &'a Predecessor, schema: &StoredSchema) -> Self {
        let columns = (before.schema.number != schema.number).then(|| {
            let columns = before.schema.columns.iter().enumerate();
            columns.map(|(index, column)| (identity(column), index)).collect()
        });
        Self { state: &before.state, columns }
    }

    fn value(&self, schema: &StoredSchema, column: usize) -> Option<i64> {
        let place = match &self.columns {
            None => column,
            Some(columns) => *columns.get(&identity(&schema.columns[column]))?,
        };
        self.state.get(place)
    }
}

/// Makes the slots of single columns, where not all are wanted.
pub struct Maker<'a> {
    schema: &'a StoredSchema,
    view: ByColumn<'a>,
    timeline: Timeline,
    slot_ms: i64,
    before: Option<Before<'a>>,
    /// Of the slow columns, in their order: what was measured before the first frame.
    measured: Vec<Measurement>,
}

/// A measurement of a slow column.
struct Measure {
    frame: usize,
    at_ms: UnixMs,
    value: i64,
    /// The one before it: not older than two and a half cadences, perhaps of another boot.
    before: Option<Measurement>,
    same_boot: bool,
}

impl Measure {
    /// How long before it the one before was measured, if that was in the same boot.
    fn since_ms(&self) -> Option<i64> {
        self.before.filter(|_| self.same_boot).map(|before| self.at_ms - before.at_ms)
    }

    /// The time before it that it says something of.
    fn covers_ms(&self, kind: v1::Kind, cadence_ms: u32) -> i64 {
        match (self.since_ms(), kind) {
            (None, _) => 0,
            (Some(since_ms), v1::Kind::Counter) => since_ms,
            (Some(since_ms), _) => stands_ms(since_ms, cadence_ms),
        }
    }
}

impl<'a> Maker<'a> {
    /// As [`make`].
    ///
    /// # Panics
    /// As [`make`].
    #[must_use]
    pub fn new(
        schema: &'a StoredSchema,
        before: Option<&'a Predecessor>,
        columns: &'a mut Columns,
        interval_ms: u32,
        slot_ms: i64,
    ) -> Option<Self> {
        let view = columns.by_column();
        assert_eq!(view.columns(), schema.columns.len(), "the frames are of this schema");
        let measured = before.map_or_else(Vec::new, |before| before.measured.of(schema));
        let reaches = schema.slow.iter().enumerate().filter_map(|(place, slow)| {
            let first = measures(&view, measured.get(place), slow.column, slow.cadence_ms).next()?;
            Some(first.at_ms - first.covers_ms(schema.columns[slow.column].kind(), slow.cadence_ms))
        });
        let reach_ms = reaches.min().unwrap_or(UnixMs::MAX);
        let timeline = Timeline::new(before.map(|before| before.meta), view.frames(), interval_ms, slot_ms, reach_ms)?;
        let before = before.map(|before| Before::new(before, schema));
        Some(Self { schema, view, timeline, slot_ms, before, measured })
    }

    /// Begin of the first slot.
    #[must_use]
    pub fn first_ms(&self) -> UnixMs {
        self.timeline.first_slot * self.slot_ms
    }

    /// What the slots hold of frames.
    #[must_use]
    pub fn frames(&self) -> &[FrameSlot] {
        &self.timeline.frames
    }

    /// The slots of a column.
    ///
    /// # Panics
    /// If the schema has no such column.
    #[must_use]
    pub fn column(&self, column: usize) -> ColumnSlots {
        let meaning = &self.schema.columns[column];
        let never = self.view.changes(column) == 0 && self.view.first(column).is_none();
        match meaning.kind() {
            _ if meaning.float || never => ColumnSlots::Empty,
            v1::Kind::Counter if meaning.cadence_s > 0 => ColumnSlots::Counter(self.slow_counter(column)),
            _ if meaning.cadence_s > 0 => ColumnSlots::Gauge(self.slow_gauge(column)),
            v1::Kind::Counter => ColumnSlots::Counter(self.counter(column)),
            _ => ColumnSlots::Gauge(self.gauge(column)),
        }
    }

    /// The measurements of a slow column, and what each covers.
    fn measures(&self, column: usize) -> impl Iterator<Item = (Measure, i64)> + '_ {
        let place = self.schema.slow.binary_search_by_key(&column, |slow| slow.column);
        let (place, cadence_ms) = place.map_or((usize::MAX, 0), |place| (place, self.schema.slow[place].cadence_ms));
        let kind = self.schema.columns[column].kind();
        let measures = measures(&self.view, self.measured.get(place), column, cadence_ms);
        measures.map(move |measure| {
            let covers_ms = measure.covers_ms(kind, cadence_ms);
            (measure, covers_ms)
        })
    }

    /// The slots of the time that leads to a measurement, counted from the first, and the milliseconds in each.
    fn slots_before(&self, at_ms: UnixMs, covers_ms: i64) -> impl Iterator<Item = (usize, u32)> + use<> {
        let first_slot = self.timeline.first_slot;
        slots_of(at_ms - covers_ms, at_ms, self.slot_ms).map(move |(slot, part)| ((slot - first_slot) as usize, part))
    }

    fn slow_gauge(&self, column: usize) -> Vec<GaugeSlot> {
        let mut slots = vec![GaugeSlot::default(); self.timeline.frames.len()];
        for (measure, covers_ms) in self.measures(column) {
            slots[self.timeline.slot[measure.frame] as usize].sample(measure.value, 1);
            for (slot, part) in self.slots_before(measure.at_ms, covers_ms) {
                slots[slot].covered_ms += part;
            }
        }
        slots
    }

    fn slow_counter(&self, column: usize) -> Vec<CounterSlot> {
        let mut slots = vec![CounterSlot::default(); self.timeline.frames.len()];
        let mut speed = Speed::new(self, column);
        for (measure, covers_ms) in self.measures(column) {
            let here = self.timeline.slot[measure.frame] as usize;
            let Some(before) = measure.before else { continue };
            if !measure.same_boot {
                slots[here].resets += 1;
                continue;
            }
            match speed.judge(measure.frame, covers_ms as u32, before.value, measure.value) {
                Verdict::Delta(delta) => {
                    let parts = self.slots_before(measure.at_ms, covers_ms);
                    let cover = |(slot, part): (usize, u32)| {
                        slots[slot].covered_ms += part;
                        (slot, part)
                    };
                    let parts: Vec<(usize, u32)> = parts.map(cover).collect();
                    share(&mut slots, delta, covers_ms as u32, parts.into_iter());
                }
                Verdict::Reset => slots[here].resets += 1,
                Verdict::Dropped => slots[here].dropped += 1,
            }
        }
        slots
    }

    fn gauge(&self, column: usize) -> Vec<GaugeSlot> {
        let timeline = &self.timeline;
        let covered = |slot: &FrameSlot| GaugeSlot { covered_ms: slot.covered_ms, ..Default::default() };
        let mut slots: Vec<_> = timeline.frames.iter().map(covered).collect();
        for run in self.view.runs(column) {
            let Some(value) = run.value else {
                for frame in run.from..run.to {
                    for (slot, part) in timeline.parts(frame) {
                        slots[slot].covered_ms -= part;
                    }
                }
                continue;
            };
            let mut from = run.from;
            while from < run.to {
                let slot = timeline.slot[from];
                let rest = &timeline.slot[from..run.to];
                // Most runs lie in one slot.
                let same = match rest.last() {
                    Some(last) if *last == slot => rest.len(),
                    _ => rest.partition_point(|other| *other <= slot),
                };
                slots[slot as usize].sample(value, same as u32);
                from += same;
            }
        }
        slots
    }

    fn counter(&self, column: usize) -> Vec<CounterSlot> {
        let timeline = &self.timeline;
        let full =
            |slot: &FrameSlot| CounterSlot { covered_ms: slot.covered_ms, resets: slot.reboots, ..Default::default() };
        let mut slots: Vec<_> = timeline.frames.iter().map(full).collect();
        let uncover = |slots: &mut [CounterSlot], frame: usize| {
            for (slot, part) in timeline.parts(frame) {
                slots[slot].covered_ms -= part;
            }
        };
        let mut speed = Speed::new(self, column);
        let mut last = self.before.as_ref().and_then(|before| before.value(self.schema, column));
        for run in self.view.runs(column) {
            let Some(value) = run.value else {
                // Nothing is known of these intervals; nor is a reboot a reset of what is absent.
                for frame in run.from..run.to {
                    uncover(&mut slots, frame);
                    self.forget_reboot(&mut slots, frame);
                }
                last = None;
                continue;
            };
            let frame = run.from;
            match last.replace(value) {
                None => {
                    uncover(&mut slots, frame);
                    self.forget_reboot(&mut slots, frame);
                }
                Some(_) if timeline.length_ms[frame] == 0 => {}
                Some(before) if before == value => {}
                Some(before) => match speed.judge(frame, timeline.length_ms[frame], before, value) {
                    Verdict::Delta(delta) if !timeline.is_split[frame] => {
                        let slot = &mut slots[timeline.slot[frame] as usize];
                        slot.delta = slot.delta.saturating_add(delta);
                    }
                    Verdict::Delta(delta) => {
                        share(&mut slots, delta, timeline.length_ms[frame], timeline.parts(frame));
                    }
                    Verdict::Reset => {
                        uncover(&mut slots, frame);
                        slots[timeline.slot[frame] as usize].resets += 1;
                    }
                    Verdict::Dropped => {
                        uncover(&mut slots, frame);
                        slots[timeline.slot[frame] as usize].dropped += 1;
                    }
                },
            }
        }
        slots
    }

    /// A counter that was not there before a boot, or is not after it, was not reset by it.
    fn forget_reboot(&self, slots: &mut [CounterSlot], frame: usize) {
        if self.timeline.rebooted[frame] {
            slots[self.timeline.slot[frame] as usize].resets -= 1;
        }
    }
}

/// Splits what a counter grew over the slots of its interval by time, the remainder to the latest.
fn share(slots: &mut [CounterSlot], delta: u64, length_ms: u32, parts: impl Iterator<Item = (usize, u32)>) {
    let (mut rest, mut latest) = (delta, 0);
    for (slot, part) in parts {
        let share = u128::from(delta) * u128::from(part) / u128::from(length_ms);
        slots[slot].delta = slots[slot].delta.saturating_add(share as u64);
        rest -= share as u64;
        latest = slot;
    }
    slots[latest].delta = slots[latest].delta.saturating_add(rest);
}

/// The measurements of a slow column in some frames, behind the one `before` them.
fn measures<'a>(
    view: &ByColumn<'a>,
    before: Option<&Measurement>,
    column: usize,
    cadence_ms: u32,
) -> impl Iterator<Item = Measure> + use<'a> {
    let (frames, mut last) = (view.frames(), before.copied());
    let measured = view.runs(column).filter_map(|run| Some((run.from..run.to, run.value?)));
    measured.flat_map(|(frames, value)| frames.map(move |frame| (frame, value))).map(move |(frame, value)| {
        let FrameMeta { instant_ms: at_ms, boot, .. } = frames[frame];
        let known = |before: &Measurement| before.age_ms(cadence_ms, at_ms).is_some_and(|age_ms| age_ms > 0);
        let before = last.filter(known);
        last = Some(Measurement { at_ms, value, before: 0, since_ms: 0, boot });
        Measure { frame, at_ms, value, before, same_boot: before.is_some_and(|before| before.boot == boot) }
    })
}

impl SlotBlock {
    /// The begin of the slot behind the last.
    #[must_use]
    pub fn end_ms(&self) -> UnixMs {
        self.first_ms + self.frames.len() as i64 * self.slot_ms
    }

    /// Whether nothing was measured in any slot, and nothing stands for any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let frames = self.frames.iter().all(|slot| slot.count == 0 && slot.covered_ms == 0);
        frames
            && self.columns.iter().all(|column| match column {
                ColumnSlots::Empty => true,
                ColumnSlots::Counter(slots) => slots.iter().all(|slot| slot.covered_ms == 0),
                ColumnSlots::Gauge(slots) => slots.iter().all(|slot| slot.covered_ms == 0),
            })
    }

    /// Adds another block's slots to these: of the same source, schema, columns and width. Slots
    /// between the two are without frames.
    ///
    /// # Panics
    /// If the blocks differ in more than their slots.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(
            (self.schema, self.slot_ms, self.first_column, self.columns.len()),
            (other.schema, other.slot_ms, other.first_column, other.columns.len()),
            "blocks that can be merged"
        );
        let first_ms = self.first_ms.min(other.first_ms);
        let end_ms = self.end_ms().max(other.end_ms());
        let count = ((end_ms - first_ms) / self.slot_ms) as usize;
        let shift = ((self.first_ms - first_ms) / self.slot_ms) as usize;
        let at = ((other.first_ms - first_ms) / self.slot_ms) as usize;
        self.first_ms = first_ms;
        spread(&mut self.frames, shift, count);
        self.frames[at..].iter_mut().zip(&other.frames).for_each(|(mine, slot)| mine.add(slot));
        for (mine, other) in self.columns.iter_mut().zip(&other.columns) {
            if let ColumnSlots::Counter(slots) = mine {
                spread(slots, shift, count);
            } else if let ColumnSlots::Gauge(slots) = mine {
                spread(slots, shift, count);
            }
            if matches!(mine, ColumnSlots::Empty) {
                *mine = match other {
                    ColumnSlots::Empty => ColumnSlots::Empty,
                    ColumnSlots::Counter(_) => ColumnSlots::Counter(vec![CounterSlot::default(); count]),
                    ColumnSlots::Gauge(_) => ColumnSlots::Gauge(vec![GaugeSlot::default(); count]),
                };
            }
            match (mine, other) {
                (ColumnSlots::Counter(mine), ColumnSlots::Counter(other)) => {
                    mine[at..].iter_mut().zip(other).for_each(|(mine, slot)| mine.add(slot));
                }
                (ColumnSlots::Gauge(mine), ColumnSlots::Gauge(other)) => {
                    mine[at..].iter_mut().zip(other).for_each(|(mine, slot)| mine.add(slot));
                }
                _ => {}
            }
        }
    }

    /// The slots that begin in `from_ms..to_ms`; `None` if there are none.
    #[must_use]
    pub fn cut(&self, from_ms: UnixMs, to_ms: UnixMs) -> Option<Self> {
        let place = |ms: UnixMs| {
            let slots = (ms - self.first_ms + self.slot_ms - 1).div_euclid(self.slot_ms);
            slots.clamp(0, self.frames.len() as i64) as usize
        };
        let range = place(from_ms)..place(to_ms);
        if range.is_empty() {
            return None;
        }
        let columns = self.columns.iter().map(|column| match column {
            ColumnSlots::Empty => ColumnSlots::Empty,
            ColumnSlots::Counter(slots) => ColumnSlots::Counter(slots[range.clone()].to_vec()),
            ColumnSlots::Gauge(slots) => ColumnSlots::Gauge(slots[range.clone()].to_vec()),
        });
        Some(Self {
            first_ms: self.first_ms + range.start as i64 * self.slot_ms,
            frames: self.frames[range.clone()].to_vec(),
            columns: columns.collect(),
            ..*self
        })
    }

    /// Wider slots from these, as hours.
    ///
    /// # Panics
    /// If `slot_ms` is no multiple of these slots' width.
    #[must_use]
    pub fn widen(&self, slot_ms: i64) -> Self {
        assert!(slot_ms % self.slot_ms == 0, "a wider slot is made of whole slots");
        let first_ms = self.first_ms.div_euclid(slot_ms) * slot_ms;
        let place = |slot: usize| ((self.first_ms - first_ms + slot as i64 * self.slot_ms) / slot_ms) as usize;
        let count = self.frames.len().checked_sub(1).map_or(0, |last| place(last) + 1);
        fn fold<T: Clone + Default>(
            slots: &[T],
            count: usize,
            place: impl Fn(usize) -> usize,
            add: impl Fn(&mut T, &T),
        ) -> Vec<T> {
            let mut wide = vec![T::default(); count];
            for (slot, value) in slots.iter().enumerate() {
                add(&mut wide[place(slot)], value);
            }
            wide
        }
        let columns = self.columns.iter().map(|column| match column {
            ColumnSlots::Empty => ColumnSlots::Empty,
            ColumnSlots::Counter(slots) => ColumnSlots::Counter(fold(slots, count, place, CounterSlot::add)),
            ColumnSlots::Gauge(slots) => ColumnSlots::Gauge(fold(slots, count, place, GaugeSlot::add)),
        });
        Self {
            slot_ms,
            first_ms,
            frames: fold(&self.frames, count, place, FrameSlot::add),
            columns: columns.collect(),
            ..*self
        }
    }
}

fn spread<T: Clone + Default>(slots: &mut Vec<T>, shift: usize, count: usize) {
    if shift > 0 {
        slots.splice(0..0, std::iter::repeat_n(T::default(), shift));
    }
    slots.resize(count, T::default());
}

#[cfg(test)]
mod tests;
