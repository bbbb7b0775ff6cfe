//! A set of sequence numbers as ranges. Pure.

/// Ascending ranges, inclusive on both ends, that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds a range; returns how many numbers were not there.
    pub fn insert(&mut self, first: u64, last: u64) -> u64 {
        if first > last {
            return 0;
        }
        let from = self.0.partition_point(|range| range.1.saturating_add(1) < first);
        let to = from + self.0[from..].partition_point(|range| range.0 <= last.saturating_add(1));
        let (mut low, mut high, mut known) = (first, last, 0);
        for range in &self.0[from..to] {
            (low, high) = (low.min(range.0), high.max(range.1));
            let (start, end) = (range.0.max(first), range.1.min(last));
            known += (end + 1).saturating_sub(start);
        }
        self.0.splice(from..to, [(low, high)]);
        last - first + 1 - known
    }

    /// Forgets every number below `first`.
    pub fn remove_below(&mut self, first: u64) {
        self.0.retain(|range| range.1 >= first);
        if let Some(range) = self.0.first_mut() {
            range.0 = range.0.max(first);
        }
    }

    /// Whether a number is in it.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|range| range.1 < number);
        self.0.get(at).is_some_and(|range| range.0 <= number)
    }

    /// Whether all of a range is in it.
    #[must_use]
    pub fn covers(&self, first: u64, last: u64) -> bool {
        let at = self.0.partition_point(|range| range.1 < first);
        first > last || self.0.get(at).is_some_and(|range| range.0 <= first && last <= range.1)
    }

    /// How many numbers of a range are in it.
    #[must_use]
    pub fn count_within(&self, first: u64, last: u64) -> u64 {
        self.0.iter().map(|range| (range.1.min(last) + 1).saturating_sub(range.0.max(first))).sum()
    }

    /// The least number that is at least `from` and not in it.
    #[must_use]
    pub fn first_gap(&self, from: u64) -> u64 {
        let at = self.0.partition_point(|range| range.1 < from);
        self.0.get(at).filter(|range| range.0 <= from).map_or(from, |range| range.1 + 1)
    }

    /// What of a range is not in it, ascending.
    #[must_use]
    pub fn gaps(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut from = first;
        for range in self.0.iter().skip_while(|range| range.1 < first).take_while(|range| range.0 <= last) {
            if from < range.0 {
                gaps.push((from, range.0 - 1));
            }
            from = range.1 + 1;
        }
        if from <= last {
            gaps.push((from, last));
        }
        gaps
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((1u64..60, 0u64..9), 0..40), floor in 0u64..60) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (first, length) in steps {
                let added = (first..first + length).filter(|number| set.insert(*number)).count();
                prop_assert_eq!(ranges.insert(first, (first + length).wrapping_sub(1)), added as u64);
            }
            ranges.remove_below(floor);
            set.retain(|number| *number >= floor);
            for number in 0..80 {
                prop_assert_eq!(ranges.contains(number), set.contains(&number));
                let gap = (number..).find(|number| !set.contains(number));
                prop_assert_eq!(Some(ranges.first_gap(number)), gap);
                let within = set.range(number..=number + 7).count() as u64;
                prop_assert_eq!(ranges.count_within(number, number + 7), within);
                prop_assert_eq!(ranges.covers(number, number + 7), within == 8);
                let gaps = ranges.gaps(number, number + 7);
                let missing: Vec<u64> = gaps.into_iter().flat_map(|gap| gap.0..=gap.1).collect();
                prop_assert!(missing.into_iter().eq((number..=number + 7).filter(|number| !set.contains(number))));
            }
            prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }
}
