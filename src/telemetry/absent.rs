//! When records would have been measured that will never come, or have not come yet. Pure.
//!
//! A lost or refused record is known by its number alone. It lies between the frames of its epoch
//! that are known with a smaller and a greater number: of these the nearest say from when to when.

use super::queue::LossRow;
use crate::platform::clock::UnixMs;
use std::collections::{BTreeMap, VecDeque};
use tongtu_protocol::v1::Refusal;

/// Ranges whose place in time may still become more exact.
const OPEN: usize = 32;
/// In [`LossRow::reason`], a refusal of the wire is this much and its number.
const REFUSED: i32 = 100;

/// The reason of a range that control refused.
pub(super) fn refused(refusal: Refusal) -> i32 {
    REFUSED + i32::from(refusal)
}

/// What was refused, if the range was.
pub(super) fn refusal(reason: i32) -> Option<Refusal> {
    let number = reason.checked_sub(REFUSED).filter(|number| *number >= 0)?;
    Some(Refusal::try_from(number).unwrap_or_default())
}

/// Of one agent.
#[derive(Debug, Default)]
pub(super) struct Absent {
    /// Of each epoch the last frame of the backlog and of the live lane: number, instant.
    near: BTreeMap<u64, [Option<(u64, UnixMs)>; 2]>,
    open: VecDeque<LossRow>,
    awaited: Option<Awaited>,
}

/// Records that the live lane left for the backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Awaited {
    pub epoch: u64,
    pub first: u64,
    pub last: u64,
    pub from_ms: UnixMs,
    pub to_ms: UnixMs,
}

impl Absent {
    /// A frame is queued. `highest` is the greatest number that was known of its epoch before. Ranges
    /// whose place it makes more exact go to `changed`.
    pub(super) fn frame(
        &mut self,
        (epoch, sequence): (u64, u64),
        instant_ms: UnixMs,
        is_live: bool,
        highest: u64,
        changed: &mut Vec<LossRow>,
    ) {
        let near = self.near.entry(epoch).or_default();
        if is_live && highest > 0 && sequence > highest + 1 {
            let from_ms = near.iter().flatten().map(|known| known.1).max().unwrap_or(instant_ms);
            self.awaited = Some(Awaited { epoch, first: highest + 1, last: sequence - 1, from_ms, to_ms: instant_ms });
        }
        let known = &mut near[usize::from(is_live)];
        if known.is_none_or(|known| known.0 < sequence) {
            *known = Some((sequence, instant_ms));
        }
        if let Some(awaited) = self.awaited.as_mut().filter(|awaited| awaited.epoch == epoch)
            && (awaited.first..=awaited.last).contains(&sequence)
        {
            awaited.first = sequence + 1;
            awaited.from_ms = awaited.from_ms.max(instant_ms);
        }
        for range in self.open.iter_mut().filter(|range| range.epoch == epoch) {
            let place = if sequence < range.first {
                &mut range.from_ms
            } else if sequence > range.last {
                &mut range.to_ms
            } else {
                continue;
            };
            let is_before = sequence < range.first;
            if place.is_none_or(|known| if is_before { known < instant_ms } else { known > instant_ms }) {
                *place = Some(instant_ms);
                changed.push(range.clone());
            }
        }
    }

    /// A range will never come. One that follows another of the same reason is one with it.
    pub(super) fn never(&mut self, mut range: LossRow, changed: &mut Vec<LossRow>) {
        let follows =
            |known: &&mut LossRow| known.joins(&range) && known.last + 1 == range.first && known.to_ms.is_none();
        if let Some(known) = self.open.back_mut().filter(follows) {
            known.last = range.last;
            changed.push(known.clone());
            return;
        }
        let near = self.near.get(&range.epoch).into_iter().flatten().flatten();
        range.from_ms = near.clone().filter(|known| known.0 < range.first).map(|known| known.1).max();
        range.to_ms = near.filter(|known| known.0 > range.last).map(|known| known.1).min();
        changed.push(range.clone());
        self.open.retain(|known| (known.epoch, known.first) != (range.epoch, range.first));
        if self.open.len() == OPEN {
            self.open.pop_front();
        }
        self.open.push_back(range);
    }

    /// What control restored from before it was started.
    pub(super) fn restore(&mut self, epoch: u64, sequence: u64, instant_ms: UnixMs) {
        let known = &mut self.near.entry(epoch).or_default()[1];
        if known.is_none_or(|known| known.0 < sequence) {
            *known = Some((sequence, instant_ms));
        }
    }

    pub(super) fn awaited(&self) -> Option<Awaited> {
        self.awaited.filter(|awaited| awaited.first <= awaited.last)
    }
}

impl LossRow {
    fn joins(&self, other: &Self) -> bool {
        (self.agent, self.epoch, self.reason) == (other.agent, other.epoch, other.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::ids::AgentId;

    fn range(first: u64, last: u64, reason: i32) -> LossRow {
        LossRow { agent: AgentId(1), epoch: 9, first, last, reason, arrival_ms: 0, from_ms: None, to_ms: None }
    }

    fn places(rows: &[LossRow]) -> Vec<(u64, u64, Option<UnixMs>, Option<UnixMs>)> {
        rows.iter().map(|row| (row.first, row.last, row.from_ms, row.to_ms)).collect()
    }

    #[test]
    fn a_lost_range_lies_between_the_nearest_frames() {
        let (mut absent, mut rows) = (Absent::default(), Vec::new());
        absent.frame((9, 10), 1_000, true, 9, &mut rows);
        absent.never(range(11, 20, 2), &mut rows);
        assert_eq!(places(&rows), [(11, 20, Some(1_000), None)]);
        rows.clear();
        // The live lane is far ahead, the backlog comes nearer; another epoch says nothing.
        absent.frame((9, 100), 9_000, true, 20, &mut rows);
        absent.frame((8, 21), 1_500, false, 20, &mut rows);
        absent.frame((9, 21), 2_000, false, 100, &mut rows);
        absent.frame((9, 22), 2_100, false, 100, &mut rows);
        assert_eq!(places(&rows), [(11, 20, Some(1_000), Some(9_000)), (11, 20, Some(1_000), Some(2_000))]);
        let awaited = absent.awaited().expect("a backlog");
        assert_eq!((awaited.first, awaited.last, awaited.from_ms, awaited.to_ms), (23, 99, 2_100, 9_000));
    }

    #[test]
    fn refused_ones_in_a_row_are_one_range() {
        let (mut absent, mut rows) = (Absent::default(), Vec::new());
        let reason = refused(Refusal::Checksum);
        absent.restore(9, 4, 400);
        for sequence in [5, 6, 7] {
            absent.never(range(sequence, sequence, reason), &mut rows);
        }
        absent.frame((9, 8), 800, true, 7, &mut rows);
        absent.never(range(9, 9, reason), &mut rows);
        let last = places(&rows);
        assert_eq!(last[2..], [(5, 7, Some(400), None), (5, 7, Some(400), Some(800)), (9, 9, Some(800), None)]);
        assert_eq!(refusal(reason), Some(Refusal::Checksum));
        assert_eq!(refusal(v1_reason()), None);
        assert_eq!(absent.awaited(), None);
    }

    fn v1_reason() -> i32 {
        tongtu_protocol::v1::LossReason::SpoolAge.into()
    }
}
