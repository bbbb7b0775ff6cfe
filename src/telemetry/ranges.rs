//! Sets of sequence numbers, kept as ranges: what of a spool is settled. Pure.
//!
//! What must hold: the ranges are sorted, disjoint and never adjacent, so equal sets are equal
//! values; growing in order costs O(1).

/// A set of `u64`, small when its members lie together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Inclusive at both ends.
    ranges: Vec<(u64, u64)>,
}

impl RangeSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Adds `first..=last` and says how many were not there before. Nothing if `first > last`.
    pub fn insert(&mut self, first: u64, last: u64) -> u64 {
        if first > last {
            return 0;
        }
        match self.ranges.last_mut() {
            None => {
                self.ranges.push((first, last));
                return span(first, last);
            }
            Some(end) if first > end.1 => {
                if first - end.1 == 1 {
                    end.1 = last;
                } else {
                    self.ranges.push((first, last));
                }
                return span(first, last);
            }
            Some(end) if first >= end.0 => {
                let added = last.saturating_sub(end.1);
                end.1 = end.1.max(last);
                return added;
            }
            Some(_) => {}
        }
        // Everything that overlaps or touches becomes one range.
        let from = self.ranges.partition_point(|range| range.1.saturating_add(1) < first);
        let to = self.ranges.partition_point(|range| range.0 <= last.saturating_add(1));
        let mut merged = (first, last);
        let mut there = 0;
        for range in &self.ranges[from..to] {
            there += overlap(*range, (first, last));
            merged = (merged.0.min(range.0), merged.1.max(range.1));
        }
        self.ranges.splice(from..to, [merged]);
        span(first, last) - there
    }

    /// Takes `first..=last` out and says how many were there.
    pub fn remove(&mut self, first: u64, last: u64) -> u64 {
        if first > last {
            return 0;
        }
        let from = self.ranges.partition_point(|range| range.1 < first);
        let to = self.ranges.partition_point(|range| range.0 <= last);
        if from >= to {
            return 0;
        }
        let removed = self.ranges[from..to].iter().map(|range| overlap(*range, (first, last))).sum();
        let before = (self.ranges[from].0, first.wrapping_sub(1));
        let after = (last.wrapping_add(1), self.ranges[to - 1].1);
        let keep_before = (before.0 < first).then_some(before);
        let keep_after = (after.1 > last).then_some(after);
        self.ranges.splice(from..to, keep_before.into_iter().chain(keep_after));
        removed
    }

    /// Adds all of `other` and says how many were not there before.
    pub fn merge(&mut self, other: &Self) -> u64 {
        other.ranges.iter().map(|range| self.insert(range.0, range.1)).sum()
    }

    /// Whether `value` is a member.
    #[must_use]
    pub fn contains(&self, value: u64) -> bool {
        self.contains_range(value, value)
    }

    /// Whether all of `first..=last` are members (true of an empty range).
    #[must_use]
    pub fn contains_range(&self, first: u64, last: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < first);
        first > last || self.ranges.get(at).is_some_and(|range| range.0 <= first && last <= range.1)
    }

    /// Whether any of `first..=last` is a member.
    #[must_use]
    pub fn intersects(&self, first: u64, last: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < first);
        first <= last && self.ranges.get(at).is_some_and(|range| range.0 <= last)
    }

    /// The ranges, ascending, inclusive at both ends.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().copied()
    }

    /// What of `first..=last` is missing, ascending, inclusive at both ends.
    pub fn gaps(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let from = self.ranges.partition_point(|range| range.1 < first);
        let mut ranges = self.ranges[from..].iter();
        // None: the end has been reached.
        let mut next = (first <= last).then_some(first);
        std::iter::from_fn(move || {
            while let Some(begin) = next {
                match ranges.next() {
                    Some(range) if range.0 <= last => {
                        next = range.1.checked_add(1).filter(|begin| *begin <= last);
                        if range.0 > begin {
                            return Some((begin, range.0 - 1));
                        }
                    }
                    _ => {
                        next = None;
                        return Some((begin, last));
                    }
                }
            }
            None
        })
    }

    /// The smallest member.
    #[must_use]
    pub fn min(&self) -> Option<u64> {
        self.ranges.first().map(|range| range.0)
    }

    /// The largest member.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        self.ranges.last().map(|range| range.1)
    }

    /// How many members; `u64::MAX` also stands for one more.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.ranges.iter().fold(0, |sum: u64, range| sum.saturating_add(span(range.0, range.1)))
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl FromIterator<(u64, u64)> for RangeSet {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(ranges: I) -> Self {
        let mut set = Self::new();
        for (first, last) in ranges {
            set.insert(first, last);
        }
        set
    }
}

/// How many `first..=last` are.
fn span(first: u64, last: u64) -> u64 {
    (last - first).saturating_add(1)
}

/// How many members two ranges share.
fn overlap(a: (u64, u64), b: (u64, u64)) -> u64 {
    let (first, last) = (a.0.max(b.0), a.1.min(b.1));
    if first > last { 0 } else { span(first, last) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64, u64),
        Remove(u64, u64),
    }

    fn steps(base: u64) -> impl Strategy<Value = Vec<Step>> {
        let range =
            (0u64..100, 0u64..12).prop_map(move |(first, more)| (base + first, base.saturating_add(first + more)));
        let step = prop_oneof![
            3 => range.clone().prop_map(|(first, last)| Step::Insert(first, last)),
            1 => range.prop_map(|(first, last)| Step::Remove(first, last)),
        ];
        proptest::collection::vec(step, 0..40)
    }

    fn check(steps: Vec<Step>, base: u64) {
        let end = base.saturating_add(120);
        let (mut set, mut model) = (RangeSet::new(), HashSet::new());
        for step in steps {
            match step {
                Step::Insert(first, last) => {
                    let added = (first..=last).filter(|value| model.insert(*value)).count();
                    assert_eq!(set.insert(first, last), added as u64);
                }
                Step::Remove(first, last) => {
                    let removed = (first..=last).filter(|value| model.remove(value)).count();
                    assert_eq!(set.remove(first, last), removed as u64);
                }
            }
            assert!(set.ranges.iter().all(|range| range.0 <= range.1));
            assert!(set.ranges.windows(2).all(|pair| pair[0].1 < pair[1].0 - 1), "{set:?}");
        }
        assert_eq!(set.len(), model.len() as u64);
        assert_eq!(set.is_empty(), model.is_empty());
        assert_eq!(set.min(), model.iter().min().copied());
        assert_eq!(set.max(), model.iter().max().copied());
        let missing: HashSet<u64> = set.gaps(base, end).flat_map(|(first, last)| first..=last).collect();
        for value in base..=end {
            assert_eq!(set.contains(value), model.contains(&value), "{value}");
            assert_eq!(missing.contains(&value), !model.contains(&value), "{value}");
            for last in value..=value.saturating_add(6).min(end) {
                let all = (value..=last).all(|value| model.contains(&value));
                let any = (value..=last).any(|value| model.contains(&value));
                assert_eq!(set.contains_range(value, last), all);
                assert_eq!(set.intersects(value, last), any);
            }
        }
        assert_eq!(set.iter().collect::<RangeSet>(), set);
        let mut shuffled: Vec<_> = set.iter().collect();
        shuffled.reverse();
        let reversed: RangeSet = shuffled.into_iter().collect();
        assert_eq!(reversed, set);
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_hash_set(steps in steps(0)) {
            check(steps, 0);
        }

        #[test]
        fn it_behaves_as_a_hash_set_at_the_end_of_u64(steps in steps(u64::MAX - 105)) {
            check(steps, u64::MAX - 105);
        }

        #[test]
        fn merging_is_the_union(a in steps(0), b in steps(0)) {
            let build = |steps: Vec<Step>| {
                let mut set = RangeSet::new();
                for step in steps {
                    match step {
                        Step::Insert(first, last) => set.insert(first, last),
                        Step::Remove(first, last) => set.remove(first, last),
                    };
                }
                set
            };
            let (a, b) = (build(a), build(b));
            let members = |set: &RangeSet| -> HashSet<u64> {
                set.iter().flat_map(|(first, last)| first..=last).collect()
            };
            let mut union = a.clone();
            let added = union.merge(&b);
            let expected: HashSet<u64> = members(&a).union(&members(&b)).copied().collect();
            prop_assert_eq!(members(&union), expected);
            prop_assert_eq!(added, union.len() - a.len());
        }
    }

    #[test]
    fn the_whole_of_u64_fits() {
        let mut set = RangeSet::new();
        set.insert(0, u64::MAX);
        assert!(set.contains_range(0, u64::MAX));
        assert_eq!(set.gaps(0, u64::MAX).count(), 0);
        assert_eq!(set.insert(5, u64::MAX), 0);
        set.remove(7, 7);
        assert_eq!(set.iter().collect::<Vec<_>>(), [(0, 6), (8, u64::MAX)]);
    }

    #[test]
    fn an_empty_range_changes_nothing() {
        let mut set: RangeSet = [(1, 3)].into_iter().collect();
        assert_eq!((set.insert(9, 8), set.remove(3, 2)), (0, 0));
        assert_eq!(set.gaps(9, 8).count(), 0);
        assert_eq!(set.iter().collect::<Vec<_>>(), [(1, 3)]);
    }
}
