//! What slots add up to, point by point. Pure.
//!
//! Columns, and those alone that a kind of series has: a page of charts is a million points, and what is done with
//! most of them looks at one or two numbers of each.

use crate::telemetry::slot::{CounterSlot, GaugeSlot};
use std::collections::BTreeMap;

/// Slots, summed into points.
#[derive(Debug, Default)]
pub(super) struct Sums {
    sum: Vec<i128>,
    covered_ms: Vec<i64>,
    /// Of gauges alone.
    samples: Vec<Samples>,
    /// Of counters, where there are any.
    breaks: BTreeMap<usize, Breaks>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Samples {
    count: u64,
    min: i64,
    max: i64,
}

/// Why a counter does not cover all of a time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Breaks {
    pub resets: u64,
    pub dropped: u64,
}

impl std::ops::AddAssign for Breaks {
    fn add_assign(&mut self, other: Self) {
        self.resets += other.resets;
        self.dropped += other.dropped;
    }
}

/// One point, or several together. A counter has no samples.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Point {
    pub sum: i128,
    pub min: i64,
    pub max: i64,
    pub count: u64,
    pub covered_ms: i64,
}

impl Sums {
    /// So many points of which nothing is known yet.
    pub(super) fn new(points: usize, counter: bool) -> Self {
        let samples = vec![Samples::default(); if counter { 0 } else { points }];
        Self { sum: vec![0; points], covered_ms: vec![0; points], samples, breaks: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.covered_ms.len()
    }

    pub(super) fn counter(&mut self, point: usize, slot: &CounterSlot) {
        self.sum[point] += i128::from(slot.delta);
        self.covered_ms[point] += i64::from(slot.covered_ms);
        if slot.resets > 0 || slot.dropped > 0 {
            self.add_breaks(point, Breaks { resets: slot.resets.into(), dropped: slot.dropped.into() });
        }
    }

    pub(super) fn gauge(&mut self, point: usize, slot: &GaugeSlot) {
        self.sum[point] += slot.sum;
        self.covered_ms[point] += i64::from(slot.covered_ms);
        if let Some(samples) = self.samples.get_mut(point) {
            samples.add(Samples { count: slot.count.into(), min: slot.min, max: slot.max });
        }
    }

    /// Puts a point in the place of one of which nothing is known.
    pub(super) fn put(&mut self, place: usize, Point { sum, min, max, count, covered_ms }: Point) {
        self.sum[place] = sum;
        self.covered_ms[place] = covered_ms;
        if let Some(samples) = self.samples.get_mut(place) {
            *samples = Samples { count, min, max };
        }
    }

    pub(super) fn add_breaks(&mut self, point: usize, breaks: Breaks) {
        *self.breaks.entry(point).or_default() += breaks;
    }

    pub(super) fn get(&self, point: usize) -> Point {
        let Samples { count, min, max } = self.samples.get(point).copied().unwrap_or_default();
        Point { sum: self.sum[point], min, max, count, covered_ms: self.covered_ms[point] }
    }

    pub(super) fn covered_ms(&self, point: usize) -> i64 {
        self.covered_ms[point]
    }

    pub(super) fn breaks(&self) -> &BTreeMap<usize, Breaks> {
        &self.breaks
    }

    /// Of all points.
    pub(super) fn all_breaks(&self) -> Breaks {
        let mut all = Breaks::default();
        self.breaks.values().for_each(|breaks| all += *breaks);
        all
    }
}

impl Samples {
    fn add(&mut self, other: Self) {
        if other.count > 0 {
            let first = self.count == 0;
            self.min = if first { other.min } else { self.min.min(other.min) };
            self.max = if first { other.max } else { self.max.max(other.max) };
            self.count += other.count;
        }
    }
}

impl Point {
    /// Seldom wider than 64 bits, of which processors make a float at once.
    pub(super) fn sum(&self) -> f64 {
        i64::try_from(self.sum).map_or_else(|_| wide(self.sum), |sum| sum as f64)
    }

    /// Takes another one in, of which something is known.
    pub(super) fn add(&mut self, other: &Self) {
        let mut samples = Samples { count: self.count, min: self.min, max: self.max };
        samples.add(Samples { count: other.count, min: other.min, max: other.max });
        (self.count, self.min, self.max) = (samples.count, samples.min, samples.max);
        self.sum += other.sum;
        self.covered_ms += other.covered_ms;
    }
}

/// Apart, or it would be done beforehand, whichever is needed then.
#[cold]
#[inline(never)]
fn wide(sum: i128) -> f64 {
    sum as f64
}
