//! Lost ranges on disk: one empty file each, named for what is lost, until control has taken notice.
//!
//! A name needs no room on a full disk and is made or not made, never half.

use crate::ranges::Ranges;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use tongtu_protocol::v1::{LossReason, LostRange, LostRanges};

/// A range of sequences of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    pub epoch: u64,
    pub first: u64,
    pub last: u64,
    pub reason: LossReason,
    /// Its file exists: only then may it be reported.
    pub kept: bool,
    /// Control has taken notice. The file stays while it tells which numbers are used up.
    pub settled: bool,
}

const REASONS: [(LossReason, &str); 4] = [
    (LossReason::SpoolSize, "size"),
    (LossReason::SpoolAge, "age"),
    (LossReason::DiskFull, "disk"),
    (LossReason::Corrupt, "corrupt"),
];

pub(super) fn reason_text(reason: LossReason) -> &'static str {
    REASONS.iter().find(|(of, _)| *of == reason).map_or("corrupt", |(_, text)| text)
}

impl Lost {
    fn name(&self) -> String {
        format!("{:016x}-{}-{}-{}.lost", self.epoch, self.first, self.last, reason_text(self.reason))
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".lost")?.split('-');
        let epoch = u64::from_str_radix(parts.next()?, 16).ok()?;
        let (first, last) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let text = parts.next()?;
        let (reason, _) = *REASONS.iter().find(|(_, of)| *of == text)?;
        (first <= last).then_some(Self { epoch, first, last, reason, kept: true, settled: false })
    }

    fn touches(&self, other: &Self) -> bool {
        self.epoch == other.epoch
            && self.reason == other.reason
            && !(self.settled || other.settled)
            && self.first <= other.last.saturating_add(1)
            && other.first <= self.last.saturating_add(1)
    }
}

/// All lost ranges of a spool.
#[derive(Debug, Default)]
pub(super) struct LostList(Vec<Lost>);

impl LostList {
    pub(super) fn load(found: Vec<Lost>) -> Self {
        Self(found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a range, joined with one that it touches. An error leaves it in memory, to be kept
    /// by [`Self::keep`] later.
    pub(super) fn add(&mut self, directory: &Path, mut lost: Lost) -> io::Result<()> {
        let old = self.0.iter().position(|other| other.touches(&lost)).map(|at| self.0.swap_remove(at));
        if let Some(old) = old {
            (lost.first, lost.last) = (lost.first.min(old.first), lost.last.max(old.last));
        }
        lost.kept = false;
        let result = match old.filter(|old| old.kept) {
            Some(old) => fs::rename(directory.join(old.name()), directory.join(lost.name())),
            None => File::create(directory.join(lost.name())).map(drop),
        };
        lost.kept = result.is_ok();
        if let (Err(_), Some(old)) = (&result, old.filter(|old| old.kept)) {
            // Its file stays true.
            self.0.push(old);
        }
        self.0.push(lost);
        result.and_then(|()| sync_directory(directory))
    }

    /// Tries again to keep what could not be kept.
    pub(super) fn keep(&mut self, directory: &Path) {
        for lost in self.0.iter_mut().filter(|lost| !lost.kept) {
            let kept = File::create(directory.join(lost.name())).and_then(|_| sync_directory(directory));
            lost.kept = kept.is_ok();
        }
    }

    /// Control has taken notice of what `settled` covers.
    pub(super) fn settle(&mut self, epoch: u64, settled: &Ranges) {
        for lost in self.0.iter_mut().filter(|lost| lost.epoch == epoch) {
            lost.settled |= settled.covers(lost.first, lost.last);
        }
    }

    /// Deletes what is settled, but for numbers of `epoch` from `floor` on: no segment behind them
    /// says yet that they are used up.
    pub(super) fn prune(&mut self, directory: &Path, epoch: u64, floor: u64) {
        self.0.retain(|lost| {
            let done = lost.settled && (lost.epoch != epoch || lost.last < floor);
            if done && lost.kept {
                let _ = fs::remove_file(directory.join(lost.name()));
            }
            !done
        });
    }

    /// What may be reported, by epoch.
    pub(super) fn report(&self) -> Vec<LostRanges> {
        let mut reports: Vec<LostRanges> = Vec::new();
        for lost in self.0.iter().filter(|lost| lost.kept && !lost.settled) {
            let range = LostRange { first: lost.first, last: lost.last, reason: lost.reason as i32 };
            match reports.iter_mut().find(|report| report.epoch == lost.epoch) {
                Some(report) => report.ranges.push(range),
                None => reports.push(LostRanges { epoch: lost.epoch, ranges: vec![range] }),
            }
        }
        reports
    }

    /// What is lost of an epoch.
    pub(super) fn ranges(&self, epoch: u64) -> Ranges {
        let mut ranges = Ranges::default();
        for lost in self.0.iter().filter(|lost| lost.epoch == epoch) {
            ranges.insert(lost.first, lost.last);
        }
        ranges
    }
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
