//! The schedule: makes backups when they are due, and removes those of its own that it does not keep.

use std::cmp::Reverse;
use std::time::Duration;

use super::making::not_made;
use super::{Backup, BackupError, Backups, DIRECTORY};
use crate::access::Actor;
use crate::platform::clock::UnixMs;
use crate::platform::http::origin::Origin;
use crate::platform::shutdown::Shutdown;

/// How often the schedule is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A scheduled backup that failed is tried again after this.
const RETRY_MS: i64 = 3_600_000;

impl Backups {
    /// Until told to stop: makes backups when they are due, and removes those that the schedule made and does not
    /// keep, and what is left of others. Then it ends the one that is made, whoever asked for it.
    pub async fn keep(self, shutdown: Shutdown) {
        let mut changed = self.0.settings.schedule_watch();
        let mut failed_ms = None;
        let told = shutdown.triggered();
        tokio::pin!(told);
        loop {
            self.clear().await;
            let schedule = changed.borrow_and_update().content;
            self.0.metrics.interval.set(schedule.every_ms.unwrap_or(0) as i64 / 1_000);
            if let Some(every_ms) = schedule.every_ms
                && self.is_due(every_ms as i64, failed_ms).await
            {
                let (actor, origin) = (Actor::System, Origin::default());
                failed_ms = match self.begin(None).await {
                    Ok((place, making)) => {
                        let made = tokio::spawn(self.clone().make(place, making, actor, origin));
                        tokio::select! {
                            () = &mut told => break,
                            made = made => (!made.unwrap_or(false)).then(|| self.0.clock.now_ms()),
                        }
                    }
                    // The other one's end is looked at again.
                    Err(BackupError::Busy(_)) => None,
                    Err(error) => {
                        tracing::error!(%error, "no scheduled backup was made; tried again in an hour");
                        self.record_failed(actor, origin, DIRECTORY, not_made(error.is_disk_full()));
                        Some(self.0.clock.now_ms())
                    }
                };
                self.thin(schedule.keep).await;
            }
            tokio::select! {
                () = &mut told => break,
                () = tokio::time::sleep(LOOK_EVERY) => {}
                // The settings live as long as this does.
                _ = changed.changed() => failed_ms = None,
            }
        }
        self.stop().await;
    }

    async fn is_due(&self, every_ms: i64, failed_ms: Option<UnixMs>) -> bool {
        let now_ms = self.0.clock.now_ms();
        // A failure that is newer than now is of a clock that was ahead.
        let waits = |failed_ms: UnixMs| (failed_ms..failed_ms + RETRY_MS.min(every_ms)).contains(&now_ms);
        if failed_ms.is_some_and(waits) {
            return false;
        }
        let backups = self.listed().await;
        let newest_ms = newest(&backups, now_ms).and_then(Backup::made_ms);
        newest_ms.is_none_or(|newest_ms| now_ms >= newest_ms + every_ms)
    }

    /// Removes scheduled backups but the newest.
    async fn thin(&self, keep: u32) {
        let backups = self.listed().await;
        for backup in beyond(&backups, keep as usize, self.0.clock.now_ms()) {
            if let Err(error) = self.remove(Actor::System, Origin::default(), &backup.name).await {
                tracing::warn!(%error, backup = backup.name, "an old backup stays");
            }
        }
    }
}

/// The newest whole one. One that is newer than now was made when the clock was ahead: it must not stand in the way
/// of others until then.
pub(super) fn newest(backups: &[Backup], now_ms: UnixMs) -> Option<&Backup> {
    let whole = backups.iter().filter(|backup| backup.is_whole);
    whole.filter(|backup| backup.made_ms().is_some_and(|made_ms| made_ms <= now_ms)).max_by_key(|it| it.made_ms())
}

/// Whole ones that the schedule made beyond the newest `keep`. Those of a clock that was ahead count as the oldest, so
/// that they do not take the place of newer ones.
pub(super) fn beyond(backups: &[Backup], keep: usize, now_ms: UnixMs) -> Vec<&Backup> {
    let is_scheduled = |backup: &Backup| backup.manifest.as_ref().is_some_and(|it| it.made_by.is_none());
    let mut scheduled: Vec<_> = backups.iter().filter(|backup| backup.is_whole && is_scheduled(backup)).collect();
    scheduled.sort_by_key(|backup| Reverse(backup.made_ms().filter(|made_ms| *made_ms <= now_ms)));
    scheduled.split_off(keep.min(scheduled.len()))
}
