//! Where a series has no value, and why. Pure.
//!
//! What must hold: a reason is said only if something stored says so; what nothing explains is
//! [unknown](GapReason::Unknown). Only what lies in the time of ownership is explained.

use super::{absent, slot};
use crate::platform::clock::UnixMs;
use tongtu_protocol::v1::{LossReason, Refusal};

/// A stretch without values, or without some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Its begin.
    pub from_ms: UnixMs,
    /// Its end.
    pub to_ms: UnixMs,
    /// Why.
    pub reason: GapReason,
}

/// Why nothing is known of a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// It was another's then.
    NotOwned,
    /// It is older than what is kept.
    Expired,
    /// The source was not known to control yet.
    BeforeFirst,
    /// The agent lost it: what its spool holds is bounded, or the spool failed.
    Lost(LossReason),
    /// It is stored and cannot be read.
    Unreadable,
    /// Control refused it.
    Refused(Refusal),
    /// The machine was started anew.
    Rebooted,
    /// The counter went back.
    Reset,
    /// The rate was above the interface's speed.
    AboveSpeed,
    /// Frames came without this value: its collector failed, or what it measures was not there.
    NotMeasured,
    /// The agent has it and sends it behind what is newer.
    NotDelivered,
    /// The agent made no records: it, its machine or the way to it was down.
    NotReporting,
    /// Nothing stored says why.
    Unknown,
}

/// Records that will never come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loss {
    pub reason: i32,
    pub arrival_ms: UnixMs,
    pub from_ms: Option<UnixMs>,
    pub to_ms: Option<UnixMs>,
}

impl Loss {
    /// How much of a stretch it may explain.
    fn overlap_ms(&self, from_ms: UnixMs, to_ms: UnixMs) -> i64 {
        if self.from_ms.is_none() && self.to_ms.is_none() {
            return 0;
        }
        let (from, to) = (self.from_ms.unwrap_or(UnixMs::MIN), self.to_ms.unwrap_or(UnixMs::MAX));
        to.min(to_ms).saturating_sub(from.max(from_ms)).max(0)
    }

    fn reason(&self) -> GapReason {
        match absent::refusal(self.reason) {
            Some(refusal) => GapReason::Refused(refusal),
            None => GapReason::Lost(LossReason::try_from(self.reason).unwrap_or_default()),
        }
    }
}

/// A stretch before it is explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub from_ms: UnixMs,
    pub to_ms: UnixMs,
    pub kind: Kind,
    /// How much of it is missing.
    pub missing_ms: i64,
    /// Intervals that were left out for this.
    pub resets: u64,
    pub dropped: u64,
    /// It is a point: the next one may be missing for the same reason. Otherwise a frame lies between.
    pub joins: bool,
}

/// What a series itself says of a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    NotOwned,
    NotMeasured,
    Missing,
}

/// Adds a stretch without frames, of which only the time of ownership is missing.
pub(super) fn push_owned(stretches: &mut Vec<Stretch>, from_ms: UnixMs, to_ms: UnixMs, periods: &[(UnixMs, UnixMs)]) {
    let mut at = from_ms;
    let mut part = |from: UnixMs, to: UnixMs, kind| {
        if from < to {
            // A frame may lie between it and the stretch before: each has its own reason.
            let missing_ms = to - from;
            stretches.push(Stretch { from_ms: from, to_ms: to, kind, missing_ms, resets: 0, dropped: 0, joins: false });
        }
    };
    for (from, to) in periods {
        let (from, to) = ((*from).clamp(at, to_ms), (*to).clamp(at, to_ms));
        if from < to {
            part(at, from, Kind::NotOwned);
            part(from, to, Kind::Missing);
            at = to;
        }
    }
    part(at, to_ms, Kind::NotOwned);
}

/// What of the stretches lies outside of these intervals, both in order.
pub(super) fn without(stretches: &[Stretch], known: &[(UnixMs, UnixMs)]) -> Vec<Stretch> {
    let mut rest = Vec::new();
    let mut known = known.iter().peekable();
    for stretch in stretches {
        let mut at = stretch.from_ms;
        let mut push = |from_ms: UnixMs, to_ms: UnixMs| {
            if from_ms < to_ms {
                rest.push(Stretch { from_ms, to_ms, missing_ms: to_ms - from_ms, ..*stretch });
            }
        };
        while let Some(&&(from_ms, to_ms)) = known.peek() {
            if from_ms >= stretch.to_ms {
                break;
            }
            push(at, from_ms);
            at = at.max(to_ms);
            if to_ms > stretch.to_ms {
                break;
            }
            known.next();
        }
        push(at, stretch.to_ms);
    }
    rest
}

/// Begin and end of what has to be explained, if anything has.
pub(super) fn missing<'a>(stretches: impl Iterator<Item = &'a Stretch>) -> Option<(UnixMs, UnixMs)> {
    let missing = stretches.filter(|stretch| stretch.kind == Kind::Missing);
    missing.map(|stretch| (stretch.from_ms, stretch.to_ms)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

/// What is known of a source and its agent.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Begin of the period asked for.
    pub asked_ms: UnixMs,
    /// What was measured before is deleted by now.
    pub kept_ms: UnixMs,
    /// What was lost or refused before is not told any more.
    pub told_ms: UnixMs,
    pub created_ms: UnixMs,
    /// The longest interval that is covered.
    pub longest_ms: i64,
    pub losses: Vec<Loss>,
    /// There are more than these.
    pub more_losses: bool,
    /// First and last instant of frames that cannot be read.
    pub unreadable: Vec<(UnixMs, UnixMs)>,
    /// When its machine was started.
    pub boots: Vec<UnixMs>,
    /// What its backlog still holds.
    pub awaited: Option<(UnixMs, UnixMs)>,
}

impl Known {
    /// What is known of another source that measured the same thing at another time.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.created_ms = self.created_ms.min(other.created_ms);
        self.longest_ms = self.longest_ms.max(other.longest_ms);
        self.losses.extend(other.losses);
        self.more_losses |= other.more_losses;
        self.unreadable.extend(other.unreadable);
        self.boots.extend(other.boots);
        self.awaited = self.awaited.or(other.awaited);
        self
    }

    /// Stretches of a series with their reasons; a value of a column with a cadence stands for longer.
    pub(super) fn explain(&self, stretches: &[Stretch], cadence_ms: u32) -> Vec<Gap> {
        let longest_ms = self.longest_ms.max(slot::longest_ms(cadence_ms));
        let mut gaps: Vec<Gap> = Vec::with_capacity(stretches.len().min(64));
        // Points that no loss explains are explained as one.
        let mut run: Option<Stretch> = None;
        for stretch in stretches {
            let reason = match stretch.kind {
                Kind::NotOwned => Some(GapReason::NotOwned),
                Kind::NotMeasured => Some(GapReason::NotMeasured),
                Kind::Missing => self.lost(stretch),
            };
            match (&mut run, reason) {
                (Some(known), None) if stretch.joins && known.to_ms == stretch.from_ms => {
                    known.to_ms = stretch.to_ms;
                    known.missing_ms += stretch.missing_ms;
                    known.resets += stretch.resets;
                    known.dropped += stretch.dropped;
                    continue;
                }
                _ => self.end(&mut run, longest_ms, &mut gaps),
            }
            let Some(reason) = reason else {
                run = Some(*stretch);
                continue;
            };
            match gaps.last_mut() {
                Some(last) if stretch.joins && last.to_ms == stretch.from_ms && last.reason == reason => {
                    last.to_ms = stretch.to_ms;
                }
                _ => gaps.push(Gap { from_ms: stretch.from_ms, to_ms: stretch.to_ms, reason }),
            }
        }
        self.end(&mut run, longest_ms, &mut gaps);
        gaps
    }

    /// Explains what no loss does.
    fn end(&self, run: &mut Option<Stretch>, longest_ms: i64, gaps: &mut Vec<Gap>) {
        let Some(mut rest) = run.take() else { return };
        let is_first = rest.from_ms == self.asked_ms;
        // Only what nothing older follows can have been deleted.
        if is_first && rest.from_ms < self.kept_ms {
            let to_ms = rest.to_ms.min(self.kept_ms);
            gaps.push(Gap { from_ms: rest.from_ms, to_ms, reason: GapReason::Expired });
            rest.from_ms = to_ms;
        }
        if rest.from_ms < rest.to_ms {
            let reason = self.missing(&rest, longest_ms, is_first);
            gaps.push(Gap { from_ms: rest.from_ms, to_ms: rest.to_ms, reason });
        }
    }

    /// Why records of a stretch are not there or will never come. Another source's record may be missing at the same
    /// time: that explains little.
    fn lost(&self, stretch: &Stretch) -> Option<GapReason> {
        if self.unreadable.iter().any(|(first, last)| *first <= stretch.to_ms && stretch.from_ms <= *last) {
            return Some(GapReason::Unreadable);
        }
        let overlap_ms = |loss: &&Loss| loss.overlap_ms(stretch.from_ms, stretch.to_ms);
        let most = self.losses.iter().max_by_key(overlap_ms)?;
        (overlap_ms(&most).saturating_mul(2) >= stretch.missing_ms.max(1)).then(|| most.reason())
    }

    fn missing(&self, run: &Stretch, longest_ms: i64, is_first: bool) -> GapReason {
        let left_out = (run.resets + run.dropped) as i64;
        let unplaced = |loss: &Loss| loss.from_ms.is_none() && loss.to_ms.is_none() && loss.arrival_ms >= run.from_ms;
        if self.boots.iter().any(|boot| (run.from_ms..run.to_ms).contains(boot)) {
            GapReason::Rebooted
        } else if run.missing_ms <= left_out.saturating_mul(longest_ms) {
            if run.dropped > 0 { GapReason::AboveSpeed } else { GapReason::Reset }
        } else if self.awaited.is_some_and(|(from, to)| from.max(run.from_ms) < to.min(run.to_ms)) {
            GapReason::NotDelivered
        } else if is_first && run.from_ms < self.created_ms {
            GapReason::BeforeFirst
        } else if self.more_losses || run.from_ms < self.told_ms || self.losses.iter().any(unplaced) {
            GapReason::Unknown
        } else {
            GapReason::NotReporting
        }
    }
}

impl GapReason {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotOwned => "not_owned",
            Self::Expired => "expired",
            Self::BeforeFirst => "before_first",
            Self::Lost(LossReason::Unspecified) => "lost",
            Self::Lost(LossReason::SpoolSize) => "lost_spool_size",
            Self::Lost(LossReason::SpoolAge) => "lost_spool_age",
            Self::Lost(LossReason::DiskFull) => "lost_disk_full",
            Self::Lost(LossReason::Corrupt) => "lost_corrupt",
            Self::Unreadable => "unreadable",
            Self::Refused(_) => "refused",
            Self::Rebooted => "rebooted",
            Self::Reset => "reset",
            Self::AboveSpeed => "above_speed",
            Self::NotMeasured => "not_measured",
            Self::NotDelivered => "not_delivered",
            Self::NotReporting => "not_reporting",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(from_ms: UnixMs, to_ms: UnixMs) -> Stretch {
        Stretch { from_ms, to_ms, kind: Kind::Missing, missing_ms: to_ms - from_ms, resets: 0, dropped: 0, joins: true }
    }

    fn loss(reason: i32, from_ms: Option<UnixMs>, to_ms: Option<UnixMs>) -> Loss {
        Loss { reason, arrival_ms: 5_000, from_ms, to_ms }
    }

    fn known() -> Known {
        Known { longest_ms: 37, created_ms: -1_000, asked_ms: 0, kept_ms: -1_000, ..Known::default() }
    }

    #[test]
    fn each_gap_has_the_reason_that_is_stored() {
        let age = LossReason::SpoolAge.into();
        let refused = absent::refused(Refusal::Checksum);
        let reason = |known: &Known, stretch: Stretch| match known.explain(&[stretch], 0)[..] {
            [gap] => gap.reason,
            ref other => panic!("{other:?}"),
        };
        let gap = missing(1_000, 2_000);
        assert_eq!(reason(&known(), gap), GapReason::NotReporting);
        let lost =
            Known { losses: vec![loss(refused, Some(1_990), Some(2_010)), loss(age, Some(1_000), None)], ..known() };
        assert_eq!(reason(&lost, gap), GapReason::Lost(LossReason::SpoolAge));
        let other = Known { losses: vec![loss(refused, Some(1_990), Some(2_010))], ..known() };
        assert_eq!(reason(&other, gap), GapReason::NotReporting, "one record explains no long gap");
        assert_eq!(reason(&other, missing(1_995, 2_010)), GapReason::Refused(Refusal::Checksum));
        let unplaced = Known { losses: vec![loss(age, None, None)], ..known() };
        assert_eq!(reason(&unplaced, gap), GapReason::Unknown);
        assert_eq!(reason(&unplaced, missing(6_000, 7_000)), GapReason::NotReporting, "it was lost before");
        assert_eq!(reason(&Known { more_losses: true, ..known() }, gap), GapReason::Unknown, "one of them may say why");
        assert_eq!(reason(&Known { more_losses: true, ..lost }, gap), GapReason::Lost(LossReason::SpoolAge));
        assert_eq!(reason(&Known { told_ms: 1_500, ..known() }, gap), GapReason::Unknown, "what was lost is forgotten");
        assert_eq!(reason(&Known { told_ms: 1_000, ..known() }, gap), GapReason::NotReporting);
        assert_eq!(reason(&Known { boots: vec![1_500], ..known() }, gap), GapReason::Rebooted);
        assert_eq!(reason(&Known { awaited: Some((1_900, 2_100)), ..known() }, gap), GapReason::NotDelivered);
        let left_out = |resets, dropped| Stretch { missing_ms: 30, resets, dropped, ..gap };
        assert_eq!(reason(&known(), left_out(1, 0)), GapReason::Reset);
        assert_eq!(reason(&known(), left_out(0, 1)), GapReason::AboveSpeed);
        assert_eq!(reason(&Known { created_ms: 900, ..known() }, missing(0, 1_000)), GapReason::BeforeFirst);
    }

    #[test]
    fn what_is_older_than_what_is_kept_has_gone() {
        let known = Known { kept_ms: 400, ..known() };
        let gap = |from_ms, to_ms, reason| Gap { from_ms, to_ms, reason };
        let gaps = known.explain(&[missing(0, 1_000), missing(1_200, 1_300)], 0);
        let expected = [
            gap(0, 400, GapReason::Expired),
            gap(400, 1_000, GapReason::NotReporting),
            gap(1_200, 1_300, GapReason::NotReporting),
        ];
        assert_eq!(gaps, expected);
    }

    #[test]
    fn what_was_another_s_is_not_explained() {
        let mut stretches = Vec::new();
        push_owned(&mut stretches, 0, 100, &[(UnixMs::MIN, 20), (50, 70)]);
        let parts: Vec<_> = stretches.iter().map(|part| (part.from_ms, part.to_ms, part.kind)).collect();
        let expected =
            [(0, 20, Kind::Missing), (20, 50, Kind::NotOwned), (50, 70, Kind::Missing), (70, 100, Kind::NotOwned)];
        assert_eq!(parts, expected);
    }
}
