//! How far deletion has come, and what follows from it.
//!
//! What must hold: the mark is durable before anything older goes, and goes no further than what goes next: what was
//! set too short, and set right, is said to be gone only as far as it is. A longer retention does not set it back: what
//! was deleted does not come again. While a window is compacted it stands still.

use super::service::Inner;
use super::{DAY_MS, Resolution, store_days};
use crate::platform::clock::UnixMs;
use sea_orm::DbErr;
use std::sync::PoisonError;
use std::time::Duration;

/// Frames are kept this much longer than they are taken: slots that a late one touches are made anew from the frames
/// around it, up to twice two and a half times the widest interval and the widest cadence, of an hour each.
pub(super) const AROUND: Duration = Duration::from_secs(11 * 3_600);

/// Frames, slots and hours before these instants may be gone; 0: none is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Deleted {
    pub raw_ms: UnixMs,
    pub slot_ms: UnixMs,
    pub hour_ms: UnixMs,
}

impl Deleted {
    pub(super) fn raw(raw_ms: UnixMs) -> Self {
        Self { raw_ms, ..Self::default() }
    }

    pub(super) fn slots(slot_ms: UnixMs) -> Self {
        Self { slot_ms, ..Self::default() }
    }

    pub(super) fn hours(hour_ms: UnixMs) -> Self {
        Self { hour_ms, ..Self::default() }
    }

    /// As far as this and as far as that. By a clock that ran ahead everything was deleted that was
    /// there, but nothing of what comes.
    fn and(self, other: Self, now_ms: UnixMs) -> Self {
        let further = |known: UnixMs, other: UnixMs| known.min(now_ms).max(other);
        Self {
            raw_ms: further(self.raw_ms, other.raw_ms),
            slot_ms: further(self.slot_ms, other.slot_ms),
            hour_ms: further(self.hour_ms, other.hour_ms),
        }
    }
}

impl Inner {
    /// How far deletion has come.
    pub(super) fn deleted(&self) -> Deleted {
        *self.deleted.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that what lies before is deleted next.
    pub(super) async fn delete_before(&self, before: Deleted) -> Result<(), DbErr> {
        let moved = || self.deleted().and(before, self.clock.now_ms());
        if moved() == self.deleted() {
            return Ok(());
        }
        // Slots are made anew from frames that are there.
        let _alone = self.slots_writer.lock().await;
        let deleted = moved();
        store_days::deleted_set(self, deleted).await?;
        *self.deleted.write().unwrap_or_else(PoisonError::into_inner) = deleted;
        Ok(())
    }

    /// Since when everything is there of which points of a resolution are made.
    pub(super) fn kept_ms(&self, resolution: Resolution, now_ms: UnixMs) -> UnixMs {
        let (retention, deleted) = (self.retention(), self.deleted());
        let (kept, deleted_ms) = match resolution {
            Resolution::Raw => (retention.raw, deleted.raw_ms),
            Resolution::Slot => (retention.slot, deleted.slot_ms),
            Resolution::Hour => (retention.hour, deleted.hour_ms),
        };
        deleted_ms.max(now_ms - kept.as_millis() as i64)
    }

    /// Frames from here on are taken: of older ones not all are there that lie around them.
    pub(super) fn taken_ms(&self, now_ms: UnixMs) -> UnixMs {
        let whole_ms = self.deleted().raw_ms + (self.config.window_span + AROUND).as_millis() as i64;
        // Where the clock ran ahead, what is measured now is taken all the same.
        (now_ms - self.retention().raw.as_millis() as i64).max(whole_ms.min(now_ms - DAY_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_goes_back_only_with_the_clock() {
        let at = |raw_ms| Deleted { raw_ms, slot_ms: 20, hour_ms: 10 };
        assert_eq!(at(30).and(at(40), 100), at(40));
        assert_eq!(at(40).and(at(30), 100), at(40), "a longer retention");
        assert_eq!(at(4_000).and(at(30), 100), at(100), "the clock was set right");
    }
}
