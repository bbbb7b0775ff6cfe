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
//! at a time; one that fails leaves nothing behind; records are taken while it is made. A backup holds the keys of
//! this service, so it is for nobody else, and should be carried to another machine by who runs this one.
//! Deliberately absent: a database on a server, which is backed up where it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{IntCounter, IntGauge};
use sea_orm::DbErr;
use serde_json::{Value, json};

use crate::access::audit::Change;
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

pub use copy::CopyError;
pub use manifest::{Head, ManifestError};
pub use restore::{RestoreError, Restored, restore};

use manifest::Manifest;

/// The directory of backups in the data directory.
const DIRECTORY: &str = "backups";
/// Names are times: they sort, and nothing else is taken for one.
const NAMED: &str = "%Y%m%dT%H%M%SZ";
/// Room that stays free for what control writes meanwhile.
const SPARE_BYTES: u64 = 64 << 20;
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
        let (data, state) = (data.to_owned(), Mutex::default());
        let shared = Arc::new(Shared { db, access, clock, settings, data, dump, state, metrics });
        for entry in fs::read_dir(shared.directory()).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with('.') {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        if let Some(newest) = list(&shared.directory()).iter().find(|backup| backup.is_whole) {
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
        let (place, making) = self.begin(permit.actor(), permit.origin(), by).await?;
        let (backups, name) = (self.clone(), making.name.clone());
        tokio::spawn(async move { backups.make(place, making).await });
        Ok(name)
    }

    /// Takes the place of the one that is made, and records that.
    async fn begin(&self, actor: Actor, origin: Origin, by: Option<String>) -> Result<(Place, Making), BackupError> {
        let shared = &self.0;
        let directory = shared.directory();
        let expected_bytes = match shared.db.backend() {
            Backend::Sqlite => shared.db.size().await?,
            Backend::Postgres => 0,
        };
        copy::private(&directory).map_err(|error| match error {
            CopyError::File { path, source } => BackupError::File { path, source },
            CopyError::Database(error) => BackupError::Database(error),
        })?;
        let stat = rustix::fs::statvfs(&directory)
            .map_err(|error| BackupError::File { path: directory.clone(), source: error.into() })?;
        let (needed, free) = (expected_bytes + SPARE_BYTES, stat.f_bavail * stat.f_frsize);
        let begun_ms = shared.clock.now_ms();
        let (place, making) = {
            let mut state = shared.state();
            if let Some(making) = &state.making {
                return Err(BackupError::Busy(making.name.clone()));
            }
            if free < needed {
                state.failed = Some(Failed {
                    at_ms: begun_ms,
                    is_disk_full: true,
                    reason: BackupError::NoRoom { needed, free }.to_string(),
                });
                shared.metrics.failures.inc();
                return Err(BackupError::NoRoom { needed, free });
            }
            let making = Making { name: free_name(&directory, begun_ms), begun_ms, by, expected_bytes };
            state.making = Some(making.clone());
            (Place(shared.clone()), making)
        };
        let after = json!({ "bytes_expected": expected_bytes });
        self.record(actor, origin, "backup.create", &making.name, (Value::Null, after)).await?;
        Ok((place, making))
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

    /// Whether it was made.
    async fn make(&self, place: Place, making: Making) -> bool {
        let shared = &self.0;
        let clock = Stopwatch::start();
        let work = {
            let (shared, making) = (shared.clone(), making.clone());
            let has_database = shared.db.backend() == Backend::Sqlite;
            let manifest = Manifest::new(making.begun_ms, making.by, has_database);
            move || copy::make(&shared.db, &shared.data, &shared.directory(), &making.name, manifest)
        };
        let made = background::spawn("backup", work).await;
        let failed = match made {
            Ok(Ok(manifest)) => {
                let (bytes, seconds) = (manifest.bytes(), clock.elapsed().as_secs());
                shared.metrics.last.set(making.begun_ms / 1_000);
                shared.metrics.duration.set(seconds as i64);
                shared.metrics.size.set(bytes as i64);
                tracing::info!(backup = making.name, bytes, seconds, "backup made");
                None
            }
            Ok(Err(error)) => {
                let is_disk_full = error.is_disk_full();
                Some(Failed { at_ms: shared.clock.now_ms(), is_disk_full, reason: error.to_string() })
            }
            Err(error) => Some(Failed { at_ms: shared.clock.now_ms(), is_disk_full: false, reason: error.to_string() }),
        };
        if let Some(failed) = &failed {
            shared.metrics.failures.inc();
            tracing::error!(backup = making.name, reason = failed.reason, "no backup was made");
        }
        let is_made = failed.is_none();
        shared.state().failed = failed;
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
        let directory = self.0.directory();
        let backups = list(&directory);
        let found = backups.iter().find(|backup| backup.name == name);
        let found = found.ok_or_else(|| BackupError::Unknown(name.to_owned()))?;
        let before = json!({ "bytes": found.bytes });
        self.record(actor, origin, "backup.delete", name, (before, Value::Null)).await?;
        let (from, removed) = (directory.join(name), directory.join(format!(".{name}.removed")));
        let gone = tokio::task::spawn_blocking({
            let from = from.clone();
            move || {
                fs::rename(&from, &removed)?;
                copy::sync(&directory)?;
                fs::remove_dir_all(&removed)
            }
        });
        let gone = gone.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        gone.map_err(|source| BackupError::File { path: from, source })
    }

    /// Until told to stop: makes backups when they are due, and removes those that the schedule made and does not keep.
    pub async fn keep(self, shutdown: Shutdown) {
        let mut changed = self.0.settings.schedule_watch();
        let mut failed_ms = None;
        let told = shutdown.triggered();
        tokio::pin!(told);
        loop {
            let schedule = changed.borrow_and_update().content;
            self.0.metrics.interval.set(schedule.every_ms.unwrap_or(0) as i64 / 1_000);
            if let Some(every_ms) = schedule.every_ms
                && self.is_due(every_ms as i64, failed_ms).await
            {
                failed_ms = match self.begin(Actor::System, Origin::default(), None).await {
                    Ok((place, making)) => tokio::select! {
                        // What is unfinished is removed by the next start.
                        () = &mut told => return,
                        made = self.make(place, making) => (!made).then(|| self.0.clock.now_ms()),
                    },
                    // The other one's end is looked at again.
                    Err(BackupError::Busy(_)) => None,
                    Err(error) => {
                        tracing::error!(%error, "no scheduled backup was made; tried again in an hour");
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
        if failed_ms.is_some_and(|failed_ms| now_ms < failed_ms + RETRY_MS.min(every_ms)) {
            return false;
        }
        let backups = self.listed().await;
        let newest_ms = backups.iter().filter(|backup| backup.is_whole).filter_map(Backup::made_ms).max();
        // A clock that was set back must not stop backups until it is there again.
        newest_ms.is_none_or(|newest_ms| now_ms >= newest_ms + every_ms || now_ms < newest_ms)
    }

    async fn listed(&self) -> Vec<Backup> {
        let directory = self.0.directory();
        tokio::task::spawn_blocking(move || list(&directory)).await.unwrap_or_default()
    }

    /// Removes scheduled backups but the newest.
    async fn thin(&self, keep: u32) {
        let scheduled = |backup: &Backup| backup.manifest.as_ref().is_some_and(|it| it.made_by.is_none());
        let backups: Vec<Backup> = self.listed().await.into_iter().filter(scheduled).collect();
        for backup in backups.iter().skip(keep as usize) {
            if let Err(error) = self.remove(Actor::System, Origin::default(), &backup.name).await {
                tracing::warn!(%error, backup = backup.name, "an old backup stays");
            }
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
