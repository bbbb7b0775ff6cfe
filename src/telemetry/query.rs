//! A question for series, and how its answer is put together from frames and slots. Pure.
//!
//! Who reads the database asks an [`Assembly`] what it wants, hands it every frame and slot found,
//! and gets the [`Series`]. What must hold: a figure stands only where something was measured; a
//! gap has no value and coverage 0; nothing outside the periods of the permit is shown, and of a
//! slot that lies across the edge of such a period nothing at all.

use self::sums::{Breaks, Point, Sums};
use super::columns::{Columns, FrameMeta};
use super::gaps::{self, Stretch};
use super::measured::{late_ms, stands_ms};
use super::slot::{self, ColumnSlots, FrameSlot, HOUR_MS, Identity, Maker, Predecessor, SLOT_MS};
use super::thin::{self, Sample};
use super::{DAY_MS, Points, Resolution, Series, SeriesQuery, SourceInfo, StoredSchema};
use crate::platform::clock::UnixMs;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use tongtu_protocol::v1;

/// From Unix time to the days of Asia/Shanghai, which has kept one offset since 1991.
const SHANGHAI_MS: i64 = 8 * HOUR_MS;

/// Points of one series.
pub const POINTS: i64 = 20_000;
/// Points of all series of an answer.
pub const ALL_POINTS: usize = 1_000_000;
/// Metrics of one question.
pub const METRICS: usize = 64;

/// A question that is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The period is empty or reversed.
    #[error("the period is empty: `from` must lie before `to`")]
    Period,
    /// A step that slots cannot be summed to.
    #[error("step_seconds must be a positive multiple of 300 (five minutes); leave it out for frames as they came")]
    Step,
    /// More points a series than anyone can draw.
    #[error(
        "a series would have {points} points, more than {POINTS}: shorten the period or use step_seconds of at least {step_seconds}"
    )]
    TooManyPoints {
        /// How many.
        points: i64,
        /// A step that would do.
        step_seconds: i64,
    },
    /// Many series of many points.
    #[error(
        "the answer would have {points} points in {series} series, more than {ALL_POINTS}: name one `resource`, shorten the period or use a wider step_seconds"
    )]
    TooManyInAll {
        /// How many.
        points: usize,
        /// In how many series.
        series: usize,
    },
    /// No metric, or more than a page shows.
    #[error("name 1 to {METRICS} metrics")]
    Metrics,
    /// Fewer points than a line has, or more than a series.
    #[error("`points` must be a number from 2 to {POINTS}")]
    Thin,
    /// Nothing of this name was ever measured.
    #[error("the source has no such metric or resource in this period")]
    Nothing,
    /// The database failed, or holds what cannot be read.
    #[error("the measurements cannot be read: {0}")]
    Store(String),
}

/// An answer in the making.
#[derive(Debug)]
pub struct Assembly {
    metrics: Vec<String>,
    resource: Option<String>,
    resolution: Resolution,
    from_ms: UnixMs,
    to_ms: UnixMs,
    /// Width of a point; 0 for frames.
    step_ms: i64,
    interval_ms: u32,
    now_ms: UnixMs,
    periods: Vec<(UnixMs, UnixMs)>,
    series: Vec<Growing>,
    /// Of all series; beyond [`ALL_POINTS`] nothing more is kept.
    points: usize,
    /// At most so many points a series, if they are to be drawn.
    thin: Option<i64>,
    /// Of each schema seen: the columns asked for.
    asked: HashMap<i64, Arc<[usize]>>,
    /// Of each point: milliseconds that frames cover.
    framed_ms: Vec<i64>,
    /// Of each schema seen: column → series.
    known: HashMap<i64, Vec<(usize, usize)>>,
    /// Series that agree in these labels are added up.
    sum_by: Option<Vec<String>>,
}

#[derive(Debug)]
struct Growing {
    column: v1::Column,
    /// The widest of any schema; 0: it was measured for every frame.
    cadence_ms: u32,
    frames: Vec<Frame>,
    points: Sums,
    /// Of how many series it is the sum.
    parts: usize,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    at_ms: UnixMs,
    boot: u32,
    interval_ms: u32,
    /// 0: the column is measured for every frame.
    cadence_ms: u32,
    value: Option<i64>,
}

impl Frame {
    /// The longest interval from the frame before that is covered.
    fn longest_ms(&self, before: Option<&Self>) -> i64 {
        slot::longest_ms(before.map_or(0, |before| before.interval_ms).max(self.interval_ms))
    }

    /// As a source sampled at the column's cadence would have it; `None`: between two measurements.
    fn measured(&self) -> Option<Self> {
        match self.cadence_ms {
            0 => Some(*self),
            cadence_ms => self.value.map(|_| Self { interval_ms: self.interval_ms.max(cadence_ms), ..*self }),
        }
    }

    /// How much of the time since the value before it stands for.
    fn stands_ms(&self, since_ms: i64, before: Option<&Self>, counter: bool) -> i64 {
        if self.cadence_ms > 0 && !counter {
            stands_ms(since_ms, self.interval_ms)
        } else if since_ms <= self.longest_ms(before) {
            since_ms
        } else {
            0
        }
    }
}

impl Assembly {
    /// Checks the question. `periods` are those in which the permit's organisations owned the
    /// source, in order. Its first owner owns what was measured before control knew it as well.
    ///
    /// # Errors
    /// A question that is not answered, and how to mend it.
    pub fn new(
        query: &SeriesQuery,
        source: &SourceInfo,
        mut periods: Vec<(UnixMs, UnixMs)>,
        now_ms: UnixMs,
    ) -> Result<Self, QueryError> {
        if let Some(first) = periods.first_mut().filter(|first| first.0 <= source.created_ms) {
            first.0 = UnixMs::MIN;
        }
        if query.metrics.is_empty() || query.metrics.len() > METRICS {
            return Err(QueryError::Metrics);
        }
        let thin = query.points.map(|points| i64::try_from(points).unwrap_or(i64::MAX));
        if thin.is_some_and(|points| !(2..=POINTS).contains(&points)) {
            return Err(QueryError::Thin);
        }
        let (resolution, step_ms) = match query.step_ms {
            None => (Resolution::Raw, 0),
            Some(step) if step <= 0 || step % SLOT_MS != 0 => return Err(QueryError::Step),
            Some(step) if step % HOUR_MS == 0 => (Resolution::Hour, step),
            Some(step) => (Resolution::Slot, step),
        };
        // What has not come yet is not expected.
        let to_ms = query.to_ms.min(now_ms.saturating_add(1));
        if query.from_ms >= query.to_ms {
            return Err(QueryError::Period);
        }
        let (from_ms, to_ms) = match step_ms {
            0 => (query.from_ms, to_ms),
            step => (begin(query.from_ms, step), begin(to_ms.saturating_add(step - 1), step)),
        };
        let to_ms = to_ms.max(from_ms);
        let width = if step_ms > 0 { step_ms } else { i64::from(source.interval_ms.max(1)) };
        let points = to_ms.saturating_sub(from_ms) / width;
        if points > POINTS {
            let at_least = (to_ms.saturating_sub(from_ms) / POINTS).saturating_add(SLOT_MS) / SLOT_MS * SLOT_MS;
            return Err(QueryError::TooManyPoints { points, step_seconds: at_least / 1_000 });
        }
        Ok(Self {
            metrics: query.metrics.clone(),
            resource: query.resource.clone(),
            resolution,
            from_ms,
            to_ms,
            step_ms,
            interval_ms: source.interval_ms,
            now_ms,
            periods,
            series: Vec::new(),
            points: 0,
            thin,
            asked: HashMap::new(),
            framed_ms: Vec::new(),
            known: HashMap::new(),
            sum_by: query.sum_by.clone(),
        })
    }

    /// What is handed in from now on is of a source that measured in these times alone: frames within them, and of
    /// slots those that touch them, since what another source measured of such a slot is another part of it.
    pub(super) fn within(&mut self, stays: &[(UnixMs, UnixMs)], owned: &[(UnixMs, UnixMs)]) {
        let slot_ms = self.slot_ms().unwrap_or(1);
        let begin = |ms: UnixMs| ms.div_euclid(slot_ms).saturating_mul(slot_ms);
        self.periods.clear();
        let mut last = UnixMs::MIN;
        for (from_ms, to_ms) in stays {
            // A slot in which it came back is still one.
            let from_ms = begin(*from_ms).max(last);
            let to_ms = begin(to_ms.saturating_add(slot_ms - 1));
            for (owned_from_ms, owned_to_ms) in owned {
                let (from_ms, to_ms) = (from_ms.max(*owned_from_ms), to_ms.min(*owned_to_ms));
                if from_ms < to_ms {
                    self.periods.push((from_ms, to_ms));
                }
            }
            last = to_ms;
        }
    }

    /// The periods in which it was the asker's, where nothing is missing that is not gone.
    pub(super) fn owned(&self) -> Vec<(UnixMs, UnixMs)> {
        self.periods.clone()
    }

    /// What the answer is made of.
    #[must_use]
    pub fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// Width of the widest slots that may be handed in; `None`: frames.
    #[must_use]
    pub fn slot_ms(&self) -> Option<i64> {
        match self.resolution {
            Resolution::Raw => None,
            Resolution::Slot => Some(SLOT_MS),
            Resolution::Hour => Some(HOUR_MS),
        }
    }

    /// The instants asked for: from (inclusive) and to (exclusive).
    #[must_use]
    pub fn span(&self) -> (UnixMs, UnixMs) {
        (self.from_ms, self.to_ms)
    }

    /// The columns of a schema that are asked for.
    pub fn columns(&mut self, schema: &StoredSchema) -> Arc<[usize]> {
        let Self { asked, metrics, resource, .. } = self;
        let is_asked = |column: &v1::Column| {
            metrics.contains(&column.metric) && resource.as_ref().is_none_or(|asked| *asked == column.resource)
        };
        let find = || schema.columns.iter().enumerate().filter(|(_, column)| is_asked(column)).map(|(index, _)| index);
        Arc::clone(asked.entry(schema.number).or_insert_with(|| find().collect()))
    }

    /// Takes frames: one of [`columns`](Self::columns) of theirs, in any order of calls. Frames
    /// outside the span are left out here.
    pub fn frames(&mut self, schema: &StoredSchema, column: usize, frames: &[FrameMeta], values: &[Option<i64>]) {
        let Some(place) = self.place(schema, column) else { return };
        let (from_ms, to_ms) = (self.from_ms, self.to_ms);
        let Self { series, periods, points, interval_ms, .. } = self;
        let cadence_ms = cadence_ms(&schema.columns[column]);
        for (frame, value) in frames.iter().zip(values) {
            let at = frame.instant_ms;
            if (from_ms..to_ms).contains(&at) && periods.iter().any(|(from, to)| (*from..*to).contains(&at)) {
                *points += 1;
                if *points <= ALL_POINTS {
                    let FrameMeta { boot, interval_ms, .. } = frame.or_interval(*interval_ms);
                    series[place].frames.push(Frame { at_ms: at, boot, interval_ms, cadence_ms, value: *value });
                }
            }
        }
    }

    /// Takes frames that have no slots yet: in order of instant, of one schema, behind `before`.
    pub fn fresh(&mut self, schema: &StoredSchema, before: Option<&Predecessor>, columns: &mut Columns) {
        let asked = self.columns(schema);
        if asked.is_empty() {
            return;
        }
        let Some(slot_ms) = self.slot_ms() else {
            let view = columns.by_column();
            for &column in asked.iter() {
                let values: Vec<_> =
                    view.runs(column).flat_map(|run| std::iter::repeat_n(run.value, run.to - run.from)).collect();
                self.frames(schema, column, view.frames(), &values);
            }
            return;
        };
        let Some(maker) = Maker::new(schema, before, columns, self.interval_ms, slot_ms) else { return };
        self.framed(maker.first_ms(), slot_ms, maker.frames());
        for &column in asked.iter() {
            self.slots(schema, column, maker.first_ms(), slot_ms, &maker.column(column));
        }
    }

    /// Takes word of the frames of slots, of which the first begins at `first_ms`: where they cover
    /// something and a series has no value, the value was not measured.
    pub fn framed(&mut self, first_ms: UnixMs, slot_ms: i64, frames: &[FrameSlot]) {
        let step_ms = self.step_ms.max(1);
        if self.framed_ms.is_empty() {
            self.framed_ms = vec![0; ((self.to_ms - self.from_ms) / step_ms) as usize];
        }
        for (slot, point) in self.shown(first_ms, slot_ms, frames.len()) {
            self.framed_ms[point] += i64::from(frames[slot].covered_ms);
        }
    }

    /// Takes slots: one of [`columns`](Self::columns), of which the first slot begins at
    /// `first_ms` and each is `slot_ms` wide. What is handed in of one slot adds up.
    pub fn slots(&mut self, schema: &StoredSchema, column: usize, first_ms: UnixMs, slot_ms: i64, slots: &ColumnSlots) {
        let Some(place) = self.place(schema, column) else { return };
        if self.points > ALL_POINTS {
            return;
        }
        let count = match slots {
            ColumnSlots::Empty => 0,
            ColumnSlots::Counter(slots) => slots.len(),
            ColumnSlots::Gauge(slots) => slots.len(),
        };
        let shown = self.shown(first_ms, slot_ms, count);
        let points = &mut self.series[place].points;
        match slots {
            ColumnSlots::Empty => {}
            ColumnSlots::Counter(slots) => shown.for_each(|(slot, point)| points.counter(point, &slots[slot])),
            ColumnSlots::Gauge(slots) => shown.for_each(|(slot, point)| points.gauge(point, &slots[slot])),
        }
    }

    /// Of so many slots those that are asked for and owned, each as a whole, with the point that each adds to.
    fn shown(&self, first_ms: UnixMs, slot_ms: i64, count: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let mut shown: Vec<Range<i64>> = Vec::with_capacity(self.periods.len());
        let mut next = 0;
        for (from_ms, to_ms) in &self.periods {
            let (from_ms, to_ms) = (*from_ms.max(&self.from_ms), *to_ms.min(&self.to_ms));
            let from = (from_ms - first_ms + slot_ms - 1).div_euclid(slot_ms).clamp(next, count as i64);
            let to = (to_ms - first_ms).div_euclid(slot_ms).clamp(from, count as i64);
            if from < to {
                shown.push(from..to);
                next = to;
            }
        }
        // Both begin with a slot.
        let before = (first_ms - self.from_ms) / slot_ms;
        let wide = (self.step_ms / slot_ms).max(1);
        let point = move |slot: i64| match wide {
            // Most often.
            1 => before + slot,
            wide => (before + slot) / wide,
        };
        shown.into_iter().flatten().map(move |slot| (slot as usize, point(slot) as usize))
    }

    /// The series, in the order of metric, resource and labels.
    ///
    /// # Errors
    /// Nothing was found, or more than an answer holds.
    #[cfg(test)]
    pub(super) fn finish(mut self) -> Result<Vec<Series>, QueryError> {
        let stretches = self.complete()?;
        Ok(self.explained(stretches, &gaps::Known::default()))
    }

    /// Nothing more is handed in: puts the series in the order of metric, resource and labels, and says where each
    /// has no values.
    ///
    /// # Errors
    /// Nothing was found, or more than an answer holds.
    pub(super) fn complete(&mut self) -> Result<Vec<Vec<Stretch>>, QueryError> {
        if self.series.is_empty() {
            return Err(QueryError::Nothing);
        }
        if self.points > ALL_POINTS {
            return Err(QueryError::TooManyInAll { points: self.points, series: self.series.len() });
        }
        let labels = |column: &v1::Column| -> Vec<(String, String)> {
            column.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect()
        };
        self.series.sort_by_cached_key(|series| {
            (series.column.metric.clone(), series.column.resource.clone(), labels(&series.column))
        });
        if let Some(by) = &self.sum_by {
            self.series = sum::summed(std::mem::take(&mut self.series), by);
        }
        Ok(self.series.iter().map(|series| self.stretches(series)).collect())
    }

    /// The series, their gaps explained by what is known.
    pub(super) fn explained(mut self, stretches: Vec<Vec<Stretch>>, known: &gaps::Known) -> Vec<Series> {
        let series = std::mem::take(&mut self.series).into_iter().zip(stretches);
        series.map(|(series, stretches)| self.series(series, &stretches, known)).collect()
    }

    fn place(&mut self, schema: &StoredSchema, column: usize) -> Option<usize> {
        if !self.known.contains_key(&schema.number) {
            let columns = self.columns(schema);
            let places = columns.iter().map(|&column| (column, self.grow(&schema.columns[column]))).collect();
            self.known.insert(schema.number, places);
        }
        self.known[&schema.number].iter().find(|(known, _)| *known == column).map(|(_, place)| *place)
    }

    fn grow(&mut self, column: &v1::Column) -> usize {
        let (identity, cadence_ms): (Identity<'_>, _) = (slot::identity(column), cadence_ms(column));
        if let Some(place) = self.series.iter().position(|series| slot::identity(&series.column) == identity) {
            self.series[place].cadence_ms = self.series[place].cadence_ms.max(cadence_ms);
            return place;
        }
        let points = match self.step_ms {
            0 => 0,
            step => ((self.to_ms - self.from_ms) / step) as usize,
        };
        self.points += points;
        // An answer that is too large is not even held.
        let points = if self.points > ALL_POINTS { 0 } else { points };
        let points = Sums::new(points, column.kind() == v1::Kind::Counter);
        self.series.push(Growing { column: column.clone(), cadence_ms, frames: Vec::new(), points, parts: 1 });
        self.series.len() - 1
    }

    fn series(&self, growing: Growing, stretches: &[Stretch], known: &gaps::Known) -> Series {
        let gaps = known.explain(stretches, growing.cadence_ms);
        let rate = growing.column.kind() == v1::Kind::Counter && (self.step_ms > 0 || self.is_drawn(&growing.column));
        let (points, step_ms, coverage) =
            if self.step_ms > 0 { self.slot_points(&growing) } else { self.frame_points(&growing, rate) };
        let Breaks { resets, dropped } = growing.points.all_breaks();
        Series {
            column: growing.column,
            resolution: self.resolution,
            step_ms,
            rate,
            points,
            coverage,
            resets,
            dropped,
            parts: growing.parts,
            gaps,
        }
    }

    /// Where a series has no values.
    fn stretches(&self, growing: &Growing) -> Vec<Stretch> {
        if self.step_ms > 0 { self.slot_stretches(growing) } else { self.frame_stretches(growing) }
    }

    fn slot_stretches(&self, growing: &Growing) -> Vec<Stretch> {
        let counter = growing.column.kind() == v1::Kind::Counter;
        let slow = growing.cadence_ms > 0;
        let longest_ms = slot::longest_ms(self.interval_ms.max(growing.cadence_ms));
        let mut stretches = Vec::new();
        let points = &growing.points;
        for index in 0..points.len() {
            let begin = self.from_ms + index as i64 * self.step_ms;
            let end = (begin + self.step_ms).min(self.now_ms);
            let covered_ms = points.covered_ms(index);
            // Most often.
            if covered_ms >= self.step_ms && counter {
                continue;
            }
            // A point may be narrower than the time that a slow column's measurement stands for.
            let known = if counter || slow { covered_ms > 0 } else { points.get(index).count > 0 };
            let missing_ms = end - begin - if known { covered_ms } else { 0 };
            // The frame that covers what is newest has not come yet.
            let most_ms = if end >= self.now_ms - longest_ms { longest_ms } else { 0 };
            if missing_ms <= most_ms {
                continue;
            }
            // Nothing is shown of a slot that is not owned as a whole, of a wider point its slots are.
            let touches = self.periods.iter().any(|(from, to)| {
                let (from, to) = (*from.max(&begin), *to.min(&end));
                let first_slot = from.saturating_add(SLOT_MS - 1).div_euclid(SLOT_MS) * SLOT_MS;
                from < to && (first_slot + SLOT_MS <= to || end < begin + SLOT_MS)
            });
            let framed_ms = self.framed_ms.get(index).copied().unwrap_or(0);
            // Frames are there, but not with this value: all of the point, or most of what is missing.
            let without = if known { framed_ms - covered_ms > missing_ms / 2 } else { framed_ms > 0 };
            let Breaks { resets, dropped } = points.breaks().get(&index).copied().unwrap_or_default();
            let kind = match touches {
                false => gaps::Kind::NotOwned,
                true if without && resets + dropped == 0 => gaps::Kind::NotMeasured,
                true => gaps::Kind::Missing,
            };
            stretches.push(Stretch { from_ms: begin, to_ms: end, kind, missing_ms, resets, dropped, joins: true });
        }
        stretches
    }

    fn frame_stretches(&self, growing: &Growing) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let mut frames: Vec<_> = growing.frames.iter().collect();
        frames.sort_by_key(|frame| frame.at_ms);
        let (mut last, mut before) = (self.from_ms, None);
        for frame in frames {
            let at = frame.at_ms;
            if at - last > frame.longest_ms(before.replace(frame)) {
                gaps::push_owned(&mut stretches, last, at, &self.periods);
            } else if frame.value.is_none() && at > last {
                let (kind, missing_ms) = (gaps::Kind::NotMeasured, at - last);
                let (resets, dropped) = (0, 0);
                stretches.push(Stretch { from_ms: last, to_ms: at, kind, missing_ms, resets, dropped, joins: true });
            }
            last = at;
        }
        let end = self.to_ms.min(self.now_ms);
        if end - last > slot::longest_ms(before.map_or(self.interval_ms, |before| before.interval_ms)) {
            gaps::push_owned(&mut stretches, last, end, &self.periods);
        }
        if growing.cadence_ms == 0 { stretches } else { gaps::without(&stretches, &self.standing(growing)) }
    }

    /// What measurements with a cadence stand for, and the time in which the next one is not late yet; in order.
    fn standing(&self, growing: &Growing) -> Vec<(UnixMs, UnixMs)> {
        let counter = growing.column.kind() == v1::Kind::Counter;
        let measured = Self::measured(growing);
        let mut standing = Vec::with_capacity(measured.len());
        let mut last: Option<&Frame> = None;
        for frame in &measured {
            let since_ms = self.since_ms(frame, last);
            if frame.cadence_ms > 0 {
                standing.push((frame.at_ms - frame.stands_ms(since_ms, last, counter), frame.at_ms));
            }
            last = Some(frame);
        }
        let end = self.to_ms.min(self.now_ms);
        standing.extend(last.filter(|last| is_awaited(last, end)).map(|last| (last.at_ms, end)));
        standing
    }

    /// The frames in order, without those between two measurements.
    fn measured(growing: &Growing) -> Vec<Frame> {
        let mut frames: Vec<_> = growing.frames.iter().filter_map(Frame::measured).collect();
        frames.sort_by_key(|frame| frame.at_ms);
        frames
    }

    /// The time since the frame before; of the first, what it may stand for.
    fn since_ms(&self, frame: &Frame, last: Option<&Frame>) -> i64 {
        let first_ms = || (frame.at_ms - self.from_ms).min(i64::from(frame.interval_ms));
        last.map_or_else(first_ms, |last| frame.at_ms - last.at_ms)
    }

    /// Of a counter's frames its rate is drawn; floats are foreign, and shown as they came.
    fn is_drawn(&self, column: &v1::Column) -> bool {
        self.thin.is_some() && !column.float
    }

    fn slot_points(&self, growing: &Growing) -> (Points, i64, f64) {
        let counter = growing.column.kind() == v1::Kind::Counter;
        let all = growing.points.len().max(1);
        let fold = self.thin.map_or(1, |most| all.div_ceil(most as usize));
        // A sum of gauges has no extremes: of slots only those of its parts are known.
        let extremes_known = if counter { fold > 1 } else { growing.parts == 1 };
        let mut points = Points::even(self.from_ms, all.div_ceil(fold), extremes_known);
        let (mut covered_all_ms, mut expected_all_ms) = (0, 0);
        let scale = Scale::of(growing.column.exponent);
        let rate = |point: &Point| scale.real(point.sum() * 1_000.0 / point.covered_ms as f64);
        for first in (0..growing.points.len()).step_by(fold) {
            let folded = first..(first + fold).min(growing.points.len());
            let begin = self.from_ms + first as i64 * self.step_ms;
            let end = begin + folded.len() as i64 * self.step_ms;
            // What is measured now and then was, as promised, measured within its cadence.
            let due_ms = end.min(self.now_ms - i64::from(growing.cadence_ms)).saturating_sub(begin);
            let mut sum = Point::default();
            let mut extremes: Option<(f64, f64)> = None;
            for point in folded.map(|index| growing.points.get(index)) {
                // A gauge may lack a sample where its interval reaches back; then nothing is known.
                let unknown = point.count == 0 && (growing.cadence_ms == 0 || point.covered_ms == 0);
                if if counter { point.covered_ms == 0 } else { unknown } {
                    continue;
                }
                sum.add(&point);
                if counter && fold > 1 {
                    let rate = rate(&point);
                    let (least, greatest) = extremes.unwrap_or((rate, rate));
                    extremes = Some((least.min(rate), greatest.max(rate)));
                }
            }
            let known = if counter { sum.covered_ms > 0 } else { sum.count > 0 };
            let expected_ms = if growing.cadence_ms > 0 { due_ms.max(sum.covered_ms) } else { due_ms }.max(1);
            covered_all_ms += sum.covered_ms;
            expected_all_ms += expected_ms;
            points.coverage.push((sum.covered_ms as f64 / expected_ms as f64).min(1.0) as f32);
            if counter {
                let value = known.then(|| rate(&sum));
                points.value.push(value.map(|value| extremes.map_or(value, |(least, most)| value.clamp(least, most))));
                if fold > 1 {
                    points.min.push(extremes.map(|extremes| extremes.0));
                    points.max.push(extremes.map(|extremes| extremes.1));
                }
            } else {
                points.value.push(known.then(|| scale.real(sum.sum() / sum.count as f64)));
                if extremes_known {
                    points.min.push(known.then(|| scale.real(sum.min as f64)));
                    points.max.push(known.then(|| scale.real(sum.max as f64)));
                }
            }
        }
        (points, self.step_ms * fold as i64, ratio(covered_all_ms, expected_all_ms))
    }

    fn frame_points(&self, growing: &Growing, rate: bool) -> (Points, i64, f64) {
        let interval_ms = i64::from(self.interval_ms.max(growing.cadence_ms));
        let counter = growing.column.kind() == v1::Kind::Counter;
        let frames = Self::measured(growing);
        let mut samples: Vec<Sample> = Vec::with_capacity(frames.len());
        let mut covered_all_ms = 0;
        let mut last: Option<&Frame> = None;
        for frame in &frames {
            let at_ms = frame.at_ms;
            let longest_ms = frame.longest_ms(last);
            let since_ms = self.since_ms(frame, last);
            let stands_ms = frame.stands_ms(since_ms, last, counter);
            if let Some(last) = last
                && since_ms > stands_ms
            {
                // Not behind the frame that ends the gap.
                let at_ms = (last.at_ms + i64::from(last.interval_ms)).min(at_ms - 1);
                samples.push(Sample { at_ms, value: None, covered_ms: 0 });
            }
            let value = match (frame.value, last) {
                (Some(value), Some(last)) if rate => last
                    .value
                    .filter(|_| last.boot == frame.boot && (1..=longest_ms).contains(&since_ms))
                    .and_then(|before| value.checked_sub(before))
                    .filter(|grown| *grown >= 0)
                    .map(|grown| real(&growing.column, grown) * 1_000.0 / since_ms as f64),
                (_, None) if rate => None,
                (value, _) => value.map(|value| real(&growing.column, value)),
            };
            let covered_ms = if value.is_some() { stands_ms } else { 0 };
            covered_all_ms += covered_ms;
            // Before the first frame there is nothing that a rate could be told from.
            if last.is_some() || !rate {
                samples.push(Sample { at_ms, value, covered_ms });
            }
            last = Some(frame);
        }
        let end = self.to_ms.min(self.now_ms);
        let end = last.filter(|last| is_awaited(last, end)).map_or(end, |last| last.at_ms);
        let coverage = ratio(covered_all_ms, end - self.from_ms);
        if let Some(most) = self.thin.filter(|most| samples.len() as i64 > *most) {
            let period_ms = self.to_ms - self.from_ms;
            // No narrower than what a sample stands for.
            let widest_ms = frames.iter().map(|frame| i64::from(frame.interval_ms)).max().unwrap_or(interval_ms);
            let width_ms = ((period_ms + most - 1) / most).max(widest_ms);
            return (thin::buckets(&samples, self.from_ms, self.to_ms, width_ms, rate), width_ms, coverage);
        }
        let mut points = Points::default();
        for sample in samples {
            points.instants_ms.push(sample.at_ms);
            points.coverage.push(if sample.value.is_some() { 1.0 } else { 0.0 });
            points.value.push(sample.value);
        }
        (points, interval_ms, coverage)
    }
}

/// Begin of the point that an instant lies in. Days, and what is longer, begin at midnight in
/// Asia/Shanghai.
fn begin(instant_ms: UnixMs, step_ms: i64) -> UnixMs {
    let shift_ms = if step_ms >= DAY_MS { SHANGHAI_MS } else { 0 };
    instant_ms.saturating_add(shift_ms).div_euclid(step_ms).saturating_mul(step_ms).saturating_sub(shift_ms)
}

fn cadence_ms(column: &v1::Column) -> u32 {
    column.cadence_s.saturating_mul(1_000)
}

/// Whether a measurement that follows the last one, if it has a cadence, is not late at an instant.
fn is_awaited(last: &Frame, at_ms: UnixMs) -> bool {
    last.cadence_ms > 0 && at_ms - last.at_ms <= late_ms(last.interval_ms)
}

fn ratio(covered_ms: i64, expected_ms: i64) -> f64 {
    (covered_ms as f64 / expected_ms.max(1) as f64).clamp(0.0, 1.0)
}

/// A column's integer as the number that it stands for.
#[must_use]
pub fn real(column: &v1::Column, value: i64) -> f64 {
    if column.float { f64::from_bits(value as u64) } else { Scale::of(column.exponent).real(value as f64) }
}

/// What makes a number of an integer.
#[derive(Debug, Clone, Copy)]
enum Scale {
    Times(f64),
    /// Dividing by a power of ten rounds once, multiplying by its inverse would round twice.
    Parts(f64),
}

impl Scale {
    fn of(exponent: i32) -> Self {
        if exponent < 0 { Self::Parts(10f64.powi(-exponent)) } else { Self::Times(10f64.powi(exponent)) }
    }

    fn real(self, value: f64) -> f64 {
        match self {
            Self::Times(power) => value * power,
            Self::Parts(power) => value / power,
        }
    }
}

/// How good evidence is that covers this part (0 to 1) of its period: five stars to one.
#[must_use]
pub fn evidence_stars(coverage: f64) -> u8 {
    match coverage {
        coverage if coverage >= 0.99 => 5,
        coverage if coverage >= 0.95 => 4,
        coverage if coverage >= 0.8 => 3,
        coverage if coverage >= 0.5 => 2,
        _ => 1,
    }
}

mod sum;
mod sums;
#[cfg(test)]
mod tests;
