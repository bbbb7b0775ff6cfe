//! What was used over a period: mean, 95th percentile and peak of slots of five minutes, with coverage. Pure.
//!
//! What must hold: a slot that was not measured counts for nothing and lowers the coverage; a percentile is the
//! nearest rank over slots that are at least half covered, never an interpolation; of a sum every slot is added
//! before it is ranked.

/// A slot counts from so much coverage on.
pub(super) const HALF: f32 = 0.5;

/// A period of slots: what was used in each, and what part of it was measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Slots {
    pub value: Vec<Option<f64>>,
    pub coverage: Vec<f32>,
}

/// Figures over a period. They are there only together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    /// Over what was covered.
    pub mean: f64,
    pub p95: f64,
    /// The largest slot.
    pub peak: f64,
    /// The 5th percentile: how little it goes down to.
    pub p5: f64,
    /// Slots that count.
    pub slots: usize,
    /// Covered ÷ all of the period, 0 to 1.
    pub coverage: f64,
}

/// The value at nearest rank ⌈share·n⌉ of values in order.
fn rank(ordered: &[f64], share: f64) -> f64 {
    let at = (share * ordered.len() as f64).ceil() as usize;
    ordered[at.clamp(1, ordered.len()) - 1]
}

impl Slots {
    /// Slots of a period, none of them measured.
    pub(super) fn empty(slots: usize) -> Self {
        Self { value: vec![None; slots], coverage: vec![0.0; slots] }
    }

    /// The slots from one on.
    pub(super) fn behind(&self, first: usize) -> SlotsView<'_> {
        let first = first.min(self.value.len());
        SlotsView { value: &self.value[first..], coverage: &self.coverage[first..] }
    }

    /// Takes in what another source measured of the same thing: of a slot that both measured a part is each one's.
    pub(super) fn join(&mut self, other: &Self) {
        self.join_points(&other.value, &other.coverage);
    }

    /// The same of values and what is covered of each.
    pub(super) fn join_points(&mut self, values: &[Option<f64>], covered: &[f32]) {
        let mine = self.value.iter_mut().zip(&mut self.coverage);
        for ((value, coverage), (more, covered)) in mine.zip(values.iter().zip(covered)) {
            let Some(more) = more else { continue };
            let weight = *coverage + *covered;
            *value = Some(match *value {
                Some(known) if weight > 0.0 => {
                    (known * f64::from(*coverage) + more * f64::from(*covered)) / f64::from(weight)
                }
                _ => *more,
            });
            *coverage = weight.min(1.0);
        }
    }
}

/// Slots in a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotsView<'a> {
    value: &'a [Option<f64>],
    coverage: &'a [f32],
}

impl SlotsView<'_> {
    /// `None`: no slot counts.
    pub(super) fn usage(&self) -> Option<Usage> {
        let (mut sum, mut weight, mut covered) = (0.0, 0.0, 0.0);
        let mut ordered = Vec::with_capacity(self.value.len());
        for (value, coverage) in self.value.iter().zip(self.coverage) {
            let Some(value) = value.filter(|value| value.is_finite()) else { continue };
            let part = f64::from(*coverage);
            sum += value * part;
            weight += part;
            covered += part;
            if *coverage >= HALF {
                ordered.push(value);
            }
        }
        if ordered.is_empty() || weight <= 0.0 {
            return None;
        }
        ordered.sort_unstable_by(f64::total_cmp);
        let (least, most) = (ordered[0], ordered[ordered.len() - 1]);
        Some(Usage {
            // Slots that do not count may lie beyond those that do.
            mean: (sum / weight).clamp(least, most),
            p95: rank(&ordered, 0.95),
            peak: most,
            p5: rank(&ordered, 0.05),
            slots: ordered.len(),
            coverage: covered / self.value.len() as f64,
        })
    }

    /// The mean of the slots that count and are `chosen` by their place.
    pub(super) fn mean_of(&self, chosen: impl Fn(usize) -> bool) -> Option<f64> {
        let counted = self.value.iter().zip(self.coverage).enumerate();
        let values: Vec<f64> = counted
            .filter(|(at, (_, coverage))| **coverage >= HALF && chosen(*at))
            .filter_map(|(_, (value, _))| *value)
            .collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }
}

/// A sum over things, slot by slot.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sum {
    value: Vec<f64>,
    /// Covered, of each thing up to 1.
    covered: Vec<f32>,
    /// Things that there were.
    things: Vec<u32>,
}

impl Sum {
    pub(super) fn new(slots: usize) -> Self {
        Self { value: vec![0.0; slots], covered: vec![0.0; slots], things: vec![0; slots] }
    }

    /// Adds a thing that was there from a slot on.
    pub(super) fn add(&mut self, slots: &Slots, first: usize) {
        for at in first..self.value.len().min(slots.value.len()) {
            self.things[at] += 1;
            if let Some(value) = slots.value[at] {
                self.value[at] += value;
                self.covered[at] += slots.coverage[at];
            }
        }
    }

    /// The slots of the sum: what is covered of one is the mean of its things.
    pub(super) fn slots(&self) -> Slots {
        let mut slots = Slots::empty(self.value.len());
        for at in 0..self.value.len() {
            if self.things[at] > 0 && self.covered[at] > 0.0 {
                slots.value[at] = Some(self.value[at]);
                slots.coverage[at] = (self.covered[at] / self.things[at] as f32).min(1.0);
            }
        }
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slots(values: &[(Option<f64>, f32)]) -> Slots {
        Slots {
            value: values.iter().map(|(value, _)| *value).collect(),
            coverage: values.iter().map(|(_, coverage)| *coverage).collect(),
        }
    }

    #[test]
    fn a_percentile_is_the_nearest_rank_of_what_counts() {
        let hundred: Vec<_> = (1..=100).map(|value| (Some(f64::from(value)), 1.0)).collect();
        let usage = slots(&hundred).behind(0).usage().expect("measured");
        assert_eq!((usage.p95, usage.p5, usage.peak, usage.mean), (95.0, 5.0, 100.0, 50.5));
        assert_eq!((usage.slots, usage.coverage), (100, 1.0));
        let gaps = slots(&[(Some(10.0), 1.0), (None, 0.0), (Some(90.0), 0.4), (Some(30.0), 0.6)]);
        let usage = gaps.behind(0).usage().expect("measured");
        assert_eq!((usage.p95, usage.peak, usage.slots), (30.0, 30.0, 2), "less than half of a slot does not count");
        assert!((usage.coverage - 0.5).abs() < 1e-6);
        assert_eq!(slots(&[(None, 0.0); 3]).behind(0).usage(), None, "nothing is not nought");
        assert_eq!(gaps.behind(9).usage(), None);
    }

    #[test]
    fn a_sum_is_ranked_after_it_is_made() {
        // Each is busy when the other is not: the sum of their percentiles would be twice as much.
        let mut sum = Sum::new(4);
        sum.add(&slots(&[(Some(8.0), 1.0), (Some(0.0), 1.0), (Some(8.0), 1.0), (Some(0.0), 1.0)]), 0);
        sum.add(&slots(&[(Some(0.0), 1.0), (Some(8.0), 1.0), (Some(0.0), 1.0), (Some(8.0), 1.0)]), 0);
        assert_eq!(sum.slots().behind(0).usage().map(|usage| usage.p95), Some(8.0));
        // One that came later is not missed before.
        sum.add(&slots(&[(None, 0.0), (None, 0.0), (Some(1.0), 1.0), (None, 0.0)]), 2);
        let after = sum.slots();
        assert_eq!(after.coverage, [1.0, 1.0, 1.0, 2.0 / 3.0]);
        assert_eq!(after.value[2], Some(9.0));
    }

    #[test]
    fn parts_of_a_slot_are_weighted() {
        let mut first = slots(&[(Some(10.0), 1.0), (Some(10.0), 0.25), (None, 0.0)]);
        first.join(&slots(&[(None, 0.0), (Some(50.0), 0.75), (Some(7.0), 1.0)]));
        assert_eq!(first, slots(&[(Some(10.0), 1.0), (Some(40.0), 1.0), (Some(7.0), 1.0)]));
    }

    proptest! {
        #[test]
        fn figures_keep_their_order(
            values in proptest::collection::vec((proptest::option::of(0.0f64..1e6), 0.0f32..=1.0), 0..200)
        ) {
            if let Some(usage) = slots(&values).behind(0).usage() {
                prop_assert!(usage.p5 <= usage.p95 && usage.p95 <= usage.peak);
                prop_assert!(usage.p5.min(usage.mean) <= usage.peak && usage.mean <= usage.peak);
                prop_assert!((0.0..=1.0).contains(&usage.coverage));
                prop_assert!(values.iter().any(|(value, _)| *value == Some(usage.p95)), "measured, not made up");
            }
        }
    }
}
