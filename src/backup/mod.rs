//! Backups: a consistent copy of the database and of the keys beside it, in `DIR/backups/TIME`.
//!
//! | file | owns |
//! |---|---|
//! | `copy` | making one, whole or not at all |
//! | `manifest` | what a backup says of itself, and whether that is so |
//! | `restore` | a data directory of a backup |
//! | `dump` | the line that copies a database on a server |
//!
//! What must hold: a directory with a time as its name is a backup that was whole when it was renamed; one is made
//! at a time; one that fails leaves nothing behind; records are taken while it is made, and keep room; how it ended is
//! in the audit log. A backup holds the keys of this service, so it is for nobody else, and should be carried to
//! another machine by who runs this one.
//! Deliberately absent: a database on a server, which is backed up where it is.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{IntCounter, IntGauge};
use sea_orm::DbErr;
use serde_json::{Value, json};

use crate::access::audit::{AuditResult, Change};
use crate::access::capability::{SettingsRead, SettingsWrite};
use crate::access::{Access, Actor, Permit};
use crate::config;
use crate::metrics;
use crate::platform::background;
use crate::platform::clock::{Clock, Stopwatch, UnixMs};
use crate::platform::db::{Backend, Db};
use crate::platform::http::origin::Origin;
use crate::platform::metrics::Registry;
use crate::platform::shutdown::Shutdown;
use crate::settings::Settings;

pub mod api;
mod copy;
mod dump;
mod manifest;
mod restore;
#[cfg(test)]
mod tests;

pub use copy::CopyError;
pub use manifest::{Head, ManifestError};
pub use restore::{RestoreError, Restored, SettleError, restore, settle};

use manifest::Manifest;

/// The directory of backups in the data directory.
const DIRECTORY: &str = "backups";
/// Names are times: they sort, and nothing else is taken for one.
const NAMED: &str = "%Y%m%dT%H%M%SZ";
/// Room that must be free besides: for what control writes meanwhile, and SQLite's log, which cannot shrink then. At
/// least this, and of a large database a part of its size in percent.
const SPARE_BYTES: u64 = 64 << 20;
const SPARE_PERCENT: u64 = 15;
/// What the audit log calls the making of one.
const CREATE: &str = "backup.create";
/// How often the schedule is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A scheduled backup that failed is tried again after this.
const RETRY_MS: i64 = 3_600_000;

/// Why there is no backup, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Another one is made.
    #[error("the backup {0} is being made; one at a time")]
    Busy(String),
    /// It would not fit.
    #[error("a backup takes about {needed} bytes, and {free} are free where the data directory is")]
    NoRoom {
        /// With what must stay free.
        needed: u64,
        /// What is.
        free: u64,
    },
    /// There is none of this name.
    #[error("there is no backup {0}")]
    Unknown(String),
    /// A file or directory.
    #[error("{} cannot be written: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database.
    #[error("the database does not answer: {0}")]
    Database(#[from] DbErr),
}

/// One that is there.
#[derive(Debug, Clone)]
pub struct Backup {
    /// Its directory's name, the time at which it was begun.
    pub name: String,
    /// Of its files.
    pub bytes: u64,
    /// What it says of itself; `None`: that cannot be read.
    manifest: Option<Manifest>,
    /// Whether every file is there in its size.
    pub is_whole: bool,
}

/// One that is made now.
#[derive(Debug, Clone)]
pub struct Making {
    /// As it will be called.
    pub name: String,
    /// When it was begun.
    pub begun_ms: UnixMs,
    /// Who asked for it; `None`: the schedule.
    pub by: Option<String>,
    /// About what it will take.
    pub expected_bytes: u64,
}

/// The last one that was not made, until one is.
#[derive(Debug, Clone)]
pub struct Failed {
    /// When.
    pub at_ms: UnixMs,
    /// Whether there was no room.
    pub is_disk_full: bool,
    /// In a sentence.
    pub reason: String,
}

/// What there is of backups.
#[derive(Debug)]
pub struct Overview {
    /// Newest first.
    pub backups: Vec<Backup>,
    /// With what it has written.
    pub making: Option<(Making, u64)>,
    /// Since the last that was made.
    pub failed: Option<Failed>,
}

/// The backups of this control. Clones share them.
#[derive(Debug, Clone)]
pub struct Backups(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    db: Db,
    access: Access,
    clock: Clock,
    settings: Settings,
    data: PathBuf,
    /// The line that copies a database on a server.
    dump: Option<String>,
    /// Held while one is removed, or what is left of others is.
    removing: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    metrics: Instruments,
}

#[derive(Debug, Default)]
struct State {
    making: Option<Making>,
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Instruments {
    last: IntGauge,
    duration: IntGauge,
    size: IntGauge,
    interval: IntGauge,
    failures: IntCounter,
}

/// The place of the one that is made; given back however that ends.
struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state().making = None;
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self) -> PathBuf {
        self.data.join(DIRECTORY)
    }

    /// Counts one that was not made, and keeps why.
    fn failed(&self, is_disk_full: bool, reason: String) {
        self.metrics.failures.inc();
        self.state().failed = Some(Failed { at_ms: self.clock.now_ms(), is_disk_full, reason });
    }

    /// Removes what a crash left unfinished, and what was not removed to its end.
    fn clear(&self) {
        let directory = self.directory();
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let left = entries.map(|entry| entry.path()).filter(|path| copy::is_left_over(path));
        let left: Vec<PathBuf> = left.collect();
        // Asked after the look: what is begun from here on is not among them.
        let making = self.state().making.as_ref().map(|making| copy::unfinished(&directory, &making.name));
        for path in left.into_iter().filter(|path| Some(path) != making.as_ref()) {
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(%error, path = %path.display(), "what is left of a backup cannot be removed yet");
            }
        }
    }
}

impl Backups {
    /// Over the backups of a data directory; what a crash left unfinished is removed.
    #[must_use]
    pub fn open(
        db: Db,
        access: Access,
        clock: Clock,
        settings: Settings,
        data: &Path,
        database: &config::Database,
        registry: &Registry,
    ) -> Self {
        let metrics = Instruments {
            last: registry.gauge(&metrics::BACKUP_LAST),
            duration: registry.gauge(&metrics::BACKUP_DURATION),
            size: registry.gauge(&metrics::BACKUP_SIZE),
            interval: registry.gauge(&metrics::BACKUP_INTERVAL),
            failures: registry.counter(&metrics::BACKUP_FAILURES),
        };
        let dump = database.url.as_deref().map(dump::line);
        let (data, removing, state) = (data.to_owned(), tokio::sync::Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { db, access, clock, settings, data, dump, removing, state, metrics });
        shared.clear();
        if let Some(newest) = newest(&list(&shared.directory()), shared.clock.now_ms()) {
            shared.metrics.last.set(newest.made_ms().unwrap_or(0) / 1_000);
            shared.metrics.size.set(newest.bytes as i64);
        }
        Self(shared)
    }

    /// Where backups lie.
    #[must_use]
    pub fn directory(&self, _: &Permit<SettingsRead>) -> PathBuf {
        std::path::absolute(self.0.directory()).unwrap_or_else(|_| self.0.directory())
    }

    /// The line that copies the database, if that is on a server: no backup of ours holds it.
    #[must_use]
    pub fn dump(&self, _: &Permit<SettingsRead>) -> Option<&str> {
        self.0.dump.as_deref()
    }

    /// What there is.
    pub async fn overview(&self, _: &Permit<SettingsRead>) -> Overview {
        let shared = self.0.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let (making, failed) = {
                let state = shared.state();
                (state.making.clone(), state.failed.clone())
            };
            let directory = shared.directory();
            let making = making.map(|making| {
                let bytes = copy::bytes(&copy::unfinished(&directory, &making.name));
                (making, bytes)
            });
            Overview { backups: list(&directory), making, failed }
        });
        looked.await.unwrap_or_else(|_| Overview { backups: Vec::new(), making: None, failed: None })
    }

    /// Begins to make one and gives its name.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn create(&self, permit: &Permit<SettingsWrite>) -> Result<String, BackupError> {
        let by = Some(self.0.access.actor_name(permit.actor()));
        let (place, making) = self.begin(by).await?;
        let (backups, name) = (self.clone(), making.name.clone());
        let (actor, origin) = (permit.actor(), permit.origin());
        tokio::spawn(async move { backups.make(place, making, actor, origin).await });
        Ok(name)
    }

    /// Takes the place of the one that is made. That it cannot be is a failure, unless another one is made.
    async fn begin(&self, by: Option<String>) -> Result<(Place, Making), BackupError> {
        let begun = self.place(by).await;
        match &begun {
            Ok(_) | Err(BackupError::Busy(_)) => {}
            Err(error) => self.0.failed(error.is_disk_full(), error.to_string()),
        }
        begun
    }

    async fn place(&self, by: Option<String>) -> Result<(Place, Making), BackupError> {
        let shared = &self.0;
        let directory = shared.directory();
        let expected_bytes = match shared.db.backend() {
            Backend::Sqlite => shared.db.size().await?,
            Backend::Postgres => 0,
        };
        let free = blocking({
            let directory = directory.clone();
            move || copy::private(&directory).and_then(|()| copy::free(&directory))
        });
        let free = free.await.map_err(|source| BackupError::File { path: directory.clone(), source })?;
        let needed = needed(expected_bytes);
        let begun_ms = shared.clock.now_ms();
        let mut state = shared.state();
        if let Some(making) = &state.making {
            return Err(BackupError::Busy(making.name.clone()));
        }
        if free < needed {
            return Err(BackupError::NoRoom { needed, free });
        }
        let making = Making { name: free_name(&directory, begun_ms), begun_ms, by, expected_bytes };
        state.making = Some(making.clone());
        Ok((Place(shared.clone()), making))
    }

    async fn record(
        &self,
        actor: Actor,
        origin: Origin,
        action: &'static str,
        name: &str,
        (before, after): (Value, Value),
    ) -> Result<(), DbErr> {
        let Shared { db, access, .. } = &*self.0;
        let transaction = db.begin(action).await?;
        let change = Change { action, resource: name.to_owned(), before, after };
        let recorded = access.record_of(&transaction, actor, origin, change).await?;
        transaction.commit().await?;
        access.recorded(recorded);
        Ok(())
    }

    /// In the audit log, that one was not made.
    fn record_failed(&self, actor: Actor, origin: Origin, name: &str, is_disk_full: bool) {
        let full = (AuditResult::Failed, "no-room");
        let ended = if is_disk_full { full } else { (AuditResult::Failed, "copy-failed") };
        self.0.access.refused(Some(actor), origin, CREATE, name, ended);
    }

    /// Makes it and records how that ended. Whether it was made.
    async fn make(&self, place: Place, making: Making, actor: Actor, origin: Origin) -> bool {
        let shared = &self.0;
        let clock = Stopwatch::start();
        let work = {
            let (shared, making) = (shared.clone(), making.clone());
            let has_database = shared.db.backend() == Backend::Sqlite;
            let manifest = Manifest::new(making.begun_ms, making.by, has_database);
            move || copy::make(&shared.db, &shared.data, &shared.directory(), &making.name, manifest)
        };
        let made = background::spawn("backup", work).await.unwrap_or_else(|interrupted| Err(interrupted.into()));
        let is_made = made.is_ok();
        match made {
            Ok(manifest) => {
                let (bytes, seconds) = (manifest.bytes(), clock.elapsed().as_secs());
                shared.metrics.last.set(making.begun_ms / 1_000);
                shared.metrics.duration.set(seconds as i64);
                shared.metrics.size.set(bytes as i64);
                shared.state().failed = None;
                tracing::info!(backup = making.name, bytes, seconds, "backup made");
                let after = json!({ "bytes": bytes });
                if let Err(error) = self.record(actor, origin, CREATE, &making.name, (Value::Null, after)).await {
                    tracing::error!(%error, backup = making.name, "that a backup was made is not in the audit log");
                }
            }
            Err(error) => {
                tracing::error!(%error, backup = making.name, "no backup was made");
                shared.failed(error.is_disk_full(), error.to_string());
                self.record_failed(actor, origin, &making.name, error.is_disk_full());
            }
        }
        drop(place);
        is_made
    }

    /// Removes one.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn delete(&self, permit: &Permit<SettingsWrite>, name: &str) -> Result<(), BackupError> {
        self.remove(permit.actor(), permit.origin(), name).await
    }

    async fn remove(&self, actor: Actor, origin: Origin, name: &str) -> Result<(), BackupError> {
        let _removing = self.0.removing.lock().await;
        let backups = self.listed().await;
        let found = backups.iter().find(|backup| backup.name == name);
        let found = found.ok_or_else(|| BackupError::Unknown(name.to_owned()))?;
        let before = json!({ "bytes": found.bytes });
        let directory = self.0.directory();
        let (from, removed) = (directory.join(name), copy::removed(&directory, name));
        renamed(&from, &removed).await.map_err(|source| BackupError::File { path: from.clone(), source })?;
        if let Err(error) = self.record(actor, origin, "backup.delete", name, (before, Value::Null)).await {
            // Nothing goes without an entry.
            if let Err(error) = renamed(&removed, &from).await {
                tracing::error!(%error, backup = name, "a backup that was not deleted cannot be put back");
            }
            return Err(error.into());
        }
        // It is no backup any more; what cannot be removed is tried again.
        if let Err(error) = blocking(move || fs::remove_dir_all(&removed)).await {
            tracing::warn!(%error, backup = name, "what is left of a backup cannot be removed yet");
        }
        Ok(())
    }

    /// Until told to stop: makes backups when they are due, and removes those that the schedule made and does not
    /// keep, and what is left of others.
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
                    Ok((place, making)) => tokio::select! {
                        // What is unfinished is removed by the next start.
                        () = &mut told => return,
                        made = self.make(place, making, actor, origin) => (!made).then(|| self.0.clock.now_ms()),
                    },
                    // The other one's end is looked at again.
                    Err(BackupError::Busy(_)) => None,
                    Err(error) => {
                        tracing::error!(%error, "no scheduled backup was made; tried again in an hour");
                        self.record_failed(actor, origin, DIRECTORY, error.is_disk_full());
                        Some(self.0.clock.now_ms())
                    }
                };
                self.thin(schedule.keep).await;
            }
            tokio::select! {
                () = &mut told => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
                // The settings live as long as this does.
                _ = changed.changed() => failed_ms = None,
            }
        }
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

    async fn clear(&self) {
        let _removing = self.0.removing.lock().await;
        let shared = self.0.clone();
        let _ = tokio::task::spawn_blocking(move || shared.clear()).await;
    }

    async fn listed(&self) -> Vec<Backup> {
        let directory = self.0.directory();
        tokio::task::spawn_blocking(move || list(&directory)).await.unwrap_or_default()
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

impl BackupError {
    /// Whether there was no room.
    fn is_disk_full(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::File { source, .. } => copy::says_full(source),
            Self::Database(error) => Db::is_disk_full(error),
            Self::Busy(_) | Self::Unknown(_) => false,
        }
    }
}

impl Backup {
    /// When it was begun.
    #[must_use]
    pub fn made_ms(&self) -> Option<UnixMs> {
        self.manifest.as_ref().map(|manifest| manifest.made_ms)
    }
}

/// What must be free for a copy of a database.
fn needed(expected_bytes: u64) -> u64 {
    expected_bytes + SPARE_BYTES.max(expected_bytes / 100 * SPARE_PERCENT)
}

/// The newest whole one. One that is newer than now was made when the clock was ahead: it must not stand in the way
/// of others until then.
fn newest(backups: &[Backup], now_ms: UnixMs) -> Option<&Backup> {
    let whole = backups.iter().filter(|backup| backup.is_whole);
    whole.filter(|backup| backup.made_ms().is_some_and(|made_ms| made_ms <= now_ms)).max_by_key(|it| it.made_ms())
}

/// Whole ones that the schedule made beyond the newest `keep`. Those of a clock that was ahead count as the oldest, so
/// that they do not take the place of newer ones.
fn beyond(backups: &[Backup], keep: usize, now_ms: UnixMs) -> Vec<&Backup> {
    let is_scheduled = |backup: &Backup| backup.manifest.as_ref().is_some_and(|it| it.made_by.is_none());
    let mut scheduled: Vec<_> = backups.iter().filter(|backup| backup.is_whole && is_scheduled(backup)).collect();
    scheduled.sort_by_key(|backup| Reverse(backup.made_ms().filter(|made_ms| *made_ms <= now_ms)));
    scheduled.split_off(keep.min(scheduled.len()))
}

/// Renames within a directory, so that it stays so.
async fn renamed(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (from.to_owned(), to.to_owned());
    blocking(move || {
        fs::rename(&from, &to)?;
        to.parent().map_or(Ok(()), copy::sync)
    })
    .await
}

/// Work on files, where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

/// Newest first.
fn list(directory: &Path) -> Vec<Backup> {
    let mut backups: Vec<Backup> = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !is_name(&name) {
            continue;
        }
        let manifest = Manifest::read(&entry.path()).ok();
        let is_whole = manifest.as_ref().is_some_and(|manifest| manifest.looks_whole(&entry.path()));
        let bytes = copy::bytes(&entry.path());
        backups.push(Backup { name, bytes, manifest, is_whole });
    }
    backups.sort_by(|a, b| b.name.cmp(&a.name));
    backups
}

fn is_name(name: &str) -> bool {
    name.len() == 16 && jiff::civil::DateTime::strptime(NAMED, name).is_ok()
}

/// The time as a name; of two in one second the later one is called a second later.
fn free_name(directory: &Path, at_ms: UnixMs) -> String {
    (0..)
        .map(|more| {
            let at = Timestamp::from_millisecond(at_ms + more * 1_000).unwrap_or_default();
            at.strftime(NAMED).to_string()
        })
        .find(|name| !directory.join(name).exists())
        .expect("seconds do not end")
}
