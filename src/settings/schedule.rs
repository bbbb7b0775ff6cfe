//! When backups are made by themselves, and how many of those stay. Pure.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::{Content, Fault};

const HOUR_MS: u64 = 3_600_000;
/// An hour to a year.
const EVERY_MS: RangeInclusive<u64> = HOUR_MS..=366 * 24 * HOUR_MS;
const KEEP: RangeInclusive<u32> = 1..=1_000;

/// The schedule of backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Between two backups; `None`: none is made by itself.
    pub every_ms: Option<u64>,
    /// Of those that it made, the newest so many stay.
    pub keep: u32,
}

impl Default for Schedule {
    /// A copy takes room that nobody has said to be there.
    fn default() -> Self {
        Self { every_ms: None, keep: 7 }
    }
}

impl Content for Schedule {
    const NAME: &'static str = "backup_schedule";
    const ACTION: &'static str = "backup_schedule.update";
}

impl Schedule {
    /// Every field that is wrong, with what it should be.
    pub(super) fn faults(self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.every_ms.is_some_and(|ms| !EVERY_MS.contains(&ms)) {
            faults.push(Fault {
                field: "every_ms",
                english: "between two backups are 1 hour to 366 days".to_owned(),
                chinese: "备份间隔为 1 小时到 366 天".to_owned(),
            });
        }
        if !KEEP.contains(&self.keep) {
            faults.push(Fault {
                field: "keep",
                english: format!("{} is not {} to {}", self.keep, KEEP.start(), KEEP.end()),
                chinese: format!("{} 不在 {} 到 {} 之间", self.keep, KEEP.start(), KEEP.end()),
            });
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_field_is_named() {
        let fields = |every_ms, keep| -> Vec<_> {
            Schedule { every_ms, keep }.faults().into_iter().map(|fault| fault.field).collect()
        };
        assert_eq!(fields(None, 7), Vec::<&str>::new());
        assert_eq!(fields(Some(HOUR_MS), 1), Vec::<&str>::new());
        assert_eq!(fields(Some(HOUR_MS - 1), 0), ["every_ms", "keep"]);
        assert_eq!(fields(Some(u64::MAX), 1_001), ["every_ms", "keep"]);
    }
}
