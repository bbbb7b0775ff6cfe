//! What is settled of one agent's spools, and how completely it delivers.

use super::absent::Absent;
use super::batch::Outcome;
use super::queue::Fate;
use super::ranges::RangeSet;
use crate::fleet::sink::Delivery;
use crate::platform::clock::UnixMs;
use crate::platform::ids::AgentId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tongtu_protocol::v1::Refusal;

/// Width of a bucket of [`Recent`]: five minutes.
const BUCKET_MS: i64 = 300_000;
/// Ranges that an epoch may have.
const PIECES: usize = 20_000;
/// One hour, and one bucket that is still filling.
const BUCKETS: usize = 13;

/// An agent, shared by its sessions and the committer.
#[derive(Debug)]
pub(super) struct Agent {
    pub id: AgentId,
    state: Mutex<AgentState>,
}

impl Agent {
    pub(super) fn new(id: AgentId) -> Self {
        Self { id, state: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, AgentState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One agent's records.
#[derive(Debug, Default)]
pub(super) struct AgentState {
    pub epochs: BTreeMap<u64, Epoch>,
    pub last_instant_ms: Option<UnixMs>,
    pub last_arrival_ms: Option<UnixMs>,
    recent: Recent,
    pub absent: Absent,
    /// When a refusal was last logged.
    logged: BTreeMap<Refusal, UnixMs>,
}

/// A reason is logged this often at most.
const QUIET_MS: i64 = 3_600_000;

/// Sequences of one spool epoch.
#[derive(Debug, Default)]
pub(super) struct Epoch {
    /// Durable: accepted, refused or reported lost.
    pub settled: RangeSet,
    /// Waiting for their commit.
    pub queued: RangeSet,
    pub counts: Counts,
}

/// Of settled sequences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub accepted: u64,
    pub refused: u64,
    pub lost: u64,
}

impl Epoch {
    /// Whether what is settled lies in so many pieces already that another cannot be kept: no agent
    /// numbers its records so.
    pub(super) fn is_scattered(&self, sequence: u64) -> bool {
        let joins =
            |set: &RangeSet| set.contains(sequence.saturating_sub(1)) || set.contains(sequence.saturating_add(1));
        let pieces = self.settled.iter().len() + self.queued.iter().len();
        pieces >= PIECES && !joins(&self.settled) && !joins(&self.queued)
    }

    /// A sequence waits for its commit, if it has to.
    pub(super) fn queue(&mut self, sequence: u64, fate: Fate) {
        if !matches!(fate, Fate::Again) {
            self.queued.insert(sequence, sequence);
        }
    }

    /// Its commit failed: it is not known any more.
    pub(super) fn forget(&mut self, first: u64, last: u64, fate: Fate) {
        if !matches!(fate, Fate::Again) {
            self.queued.remove(first, last);
        }
    }

    /// The highest sequence known, 0 for none.
    pub(super) fn highest(&self) -> u64 {
        self.settled.max().max(self.queued.max()).unwrap_or(0)
    }
}

impl AgentState {
    /// Marks sequences as durable. Counts only those that were not.
    pub(super) fn settle(&mut self, epoch: u64, first: u64, last: u64, outcome: Outcome) {
        let epoch = self.epochs.entry(epoch).or_default();
        epoch.queued.remove(first, last);
        let added = epoch.settled.insert(first, last);
        match outcome {
            Outcome::Accepted => epoch.counts.accepted = epoch.counts.accepted.saturating_add(added),
            Outcome::Refused => epoch.counts.refused = epoch.counts.refused.saturating_add(added),
            Outcome::Lost => epoch.counts.lost = epoch.counts.lost.saturating_add(added),
        }
    }

    /// Whether some of its records will never come: they were lost or refused.
    pub(super) fn lacks_records(&self) -> bool {
        self.epochs.values().any(|epoch| epoch.counts.refused > 0 || epoch.counts.lost > 0)
    }

    /// Whether this refusal is to be logged: once an hour for each reason.
    pub(super) fn is_log_due(&mut self, refusal: Refusal, now_ms: UnixMs) -> bool {
        let due = self.logged.get(&refusal).is_none_or(|then_ms| now_ms - then_ms >= QUIET_MS);
        if due {
            self.logged.insert(refusal, now_ms);
        }
        due
    }

    /// Counts a frame that became durable.
    pub(super) fn frame_delivered(&mut self, instant_ms: UnixMs, arrival_ms: UnixMs, interval_ms: u32) {
        self.recent.add(instant_ms, interval_ms);
        self.last_instant_ms = self.last_instant_ms.max(Some(instant_ms));
        self.last_arrival_ms = self.last_arrival_ms.max(Some(arrival_ms));
    }

    /// Sums for the agent's page. `intervals_ms` are those of its sources that report.
    pub(super) fn delivery(&self, now_ms: UnixMs, intervals_ms: &[u32]) -> Delivery {
        let sum = |count: fn(&Counts) -> u64| {
            self.epochs.values().fold(0, |sum: u64, epoch| sum.saturating_add(count(&epoch.counts)))
        };
        let (delivered, covered_ms, span_ms) = self.recent.count(now_ms);
        // Each frame stands for the interval that it was sampled at, however that changed since; of
        // what is missing the present intervals say how many frames it would have been.
        let expected: Vec<_> = intervals_ms.iter().filter(|&&interval| interval > 0).collect();
        let sources = expected.len() as u64;
        let missing_ms = (span_ms * sources).saturating_sub(covered_ms);
        let missing = |interval: &&u32| missing_ms / (u64::from(**interval) * sources);
        let missing: u64 = expected.iter().map(missing).sum();
        let expected = if sources == 0 { 0 } else { delivered + missing };
        Delivery {
            records_accepted: sum(|counts| counts.accepted),
            records_refused: sum(|counts| counts.refused),
            records_lost: sum(|counts| counts.lost),
            frames_delivered: delivered.min(expected),
            frames_expected: expected,
            last_instant_ms: self.last_instant_ms,
            last_arrival_ms: self.last_arrival_ms,
        }
    }
}

/// Frames by instant over the last hour.
#[derive(Debug, Default)]
struct Recent {
    /// Instant of the oldest frame known: before it nothing is expected.
    first_ms: Option<UnixMs>,
    buckets: [Bucket; BUCKETS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    number: i64,
    frames: u32,
    /// Sum of their intervals.
    covered_ms: u64,
}

impl Recent {
    fn add(&mut self, instant_ms: UnixMs, interval_ms: u32) {
        let number = instant_ms.div_euclid(BUCKET_MS);
        let bucket = &mut self.buckets[number.rem_euclid(BUCKETS as i64) as usize];
        if bucket.number < number {
            *bucket = Bucket { number, ..Bucket::default() };
        }
        if bucket.number == number {
            bucket.frames += 1;
            bucket.covered_ms += u64::from(interval_ms);
        }
        self.first_ms = Some(self.first_ms.map_or(instant_ms, |first| first.min(instant_ms)));
    }

    /// Frames, the milliseconds that they stand for, and those over which they were expected: whole buckets of the last hour,
    /// without the one that is still filling unless there is nothing else.
    fn count(&self, now_ms: UnixMs) -> (u64, u64, u64) {
        let Some(first_ms) = self.first_ms else { return (0, 0, 0) };
        let current = now_ms.div_euclid(BUCKET_MS);
        let oldest = current - BUCKETS as i64 + 1;
        let from = (oldest * BUCKET_MS).max(first_ms);
        let (end, to) = if from < current * BUCKET_MS { (current, current * BUCKET_MS) } else { (current + 1, now_ms) };
        let counted = self.buckets.iter().filter(|bucket| (oldest..end).contains(&bucket.number));
        let sum = |sum: (u64, u64), bucket: &Bucket| (sum.0 + u64::from(bucket.frames), sum.1 + bucket.covered_ms);
        let (frames, covered_ms) = counted.fold((0, 0), sum);
        (frames, covered_ms, (to - from).max(0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_counts_once_however_often_it_is_settled() {
        let mut agent = AgentState::default();
        agent.settle(1, 1, 10, Outcome::Accepted);
        agent.settle(1, 5, 12, Outcome::Accepted);
        agent.settle(1, 11, 12, Outcome::Lost);
        agent.settle(2, 1, 1, Outcome::Refused);
        let delivery = agent.delivery(0, &[]);
        assert_eq!((delivery.records_accepted, delivery.records_refused, delivery.records_lost), (12, 1, 0));
    }

    #[test]
    fn counts_that_are_too_large_are_the_largest() {
        let mut agent = AgentState::default();
        agent.settle(1, 1, u64::MAX - 1, Outcome::Lost);
        agent.settle(2, 1, u64::MAX - 1, Outcome::Lost);
        assert_eq!(agent.delivery(0, &[]).records_lost, u64::MAX);
    }

    #[test]
    fn a_refusal_is_logged_once_an_hour() {
        let mut agent = AgentState::default();
        assert!(agent.is_log_due(Refusal::Checksum, 0));
        assert!(!agent.is_log_due(Refusal::Checksum, QUIET_MS - 1));
        assert!(agent.is_log_due(Refusal::Future, 1));
        assert!(agent.is_log_due(Refusal::Checksum, QUIET_MS));
    }

    #[test]
    fn completeness_is_over_whole_buckets_and_knows_a_gap() {
        let mut agent = AgentState::default();
        let start = 1_790_000_100_000 / BUCKET_MS * BUCKET_MS;
        // 40 minutes of frames each 15 s, ten of them missing.
        for minute in (0..10).chain(20..40) {
            for frame in 0..4 {
                agent.frame_delivered(start + minute * 60_000 + frame * 15_000, 0, 15_000);
            }
        }
        let delivery = agent.delivery(start + 40 * 60_000 + 1_000, &[15_000]);
        assert_eq!((delivery.frames_delivered, delivery.frames_expected), (120, 160));
        assert_eq!(AgentState::default().delivery(start, &[15_000]).frames_expected, 0);
    }

    #[test]
    fn completeness_is_right_over_changes_of_the_interval() {
        let mut agent = AgentState::default();
        let start = 1_790_000_100_000 / BUCKET_MS * BUCKET_MS;
        let mut add = |from: i64, to: i64, interval: i64| {
            for at in (from * 60_000..to * 60_000).step_by(interval as usize) {
                agent.frame_delivered(start + at, 0, interval as u32);
            }
        };
        // 15 s, 60 s, 15 s: 40 + 20 + 40 frames, all that there should be.
        add(0, 10, 15_000);
        add(30, 40, 15_000);
        // The backlog comes last.
        add(10, 25, 60_000);
        let delivery = agent.delivery(start + 40 * 60_000, &[15_000]);
        // Of five minutes nothing came: 20 frames at the present interval.
        assert_eq!((delivery.frames_delivered, delivery.frames_expected), (95, 115));
        for minute in 25..30 {
            agent.frame_delivered(start + minute * 60_000, 0, 60_000);
        }
        let delivery = agent.delivery(start + 40 * 60_000, &[15_000]);
        assert_eq!((delivery.frames_delivered, delivery.frames_expected), (100, 100));
    }

    #[test]
    fn a_silent_agent_delivers_nothing_of_what_was_expected() {
        let mut agent = AgentState::default();
        let start = 1_790_000_100_000 / BUCKET_MS * BUCKET_MS;
        agent.frame_delivered(start, 0, 15_000);
        let delivery = agent.delivery(start + 10 * 3_600_000, &[15_000]);
        assert_eq!(delivery.frames_delivered, 0);
        assert_eq!(delivery.frames_expected, 240);
    }
}
