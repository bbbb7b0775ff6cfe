//! Backups: a consistent copy of the database and of the keys beside it, in `DIR/backups/TIME`.
//!
//! | file | owns |
//! |---|---|
//! | `making` | one at a time: its place, and how it ends |
//! | `copy` | its files, whole or not at all |
//! | `keeper` | the schedule: which is due, which go |
//! | `manifest` | what a backup says of itself, and whether that is so |
//! | `restore` | a data directory of a backup |
//! | `dump` | the line that copies a database on a server |
//!
//! What must hold: a directory with a time as its name is a backup that was whole when it was renamed; one is made
//! at a time; one that fails leaves nothing behind; records are taken while it is made, and keep room; how it ended is
//! in the audit log, also of one that a stop or a crash cut off. A backup holds the keys of this service, so it is for
//! nobody else, and should be carried to another machine by who runs this one.
//! Deliberately absent: a database on a server, which is backed up where it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, IntGauge};
use sea_orm::DbErr;
use serde_json::{Value, json};

use crate::access::audit::Change;
use crate::access::capability::{SettingsRead, SettingsWrite};
use crate::access::{Access, Actor, Permit};
use crate::config;
use crate::metrics;
use crate::platform::clock::{Clock, UnixMs};
use crate::platform::db::Db;
use crate::platform::http::origin::Origin;
use crate::platform::metrics::Registry;
use crate::settings::Settings;

pub mod api;
mod copy;
mod dump;
mod keeper;
mod making;
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
    /// What is made ends as soon as it can.
    is_stopping: AtomicBool,
    /// One that was made has ended.
    ended: tokio::sync::Notify,
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
    /// Over the backups of a data directory; what a crash left unfinished is told and removed.
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
        let shared = Arc::new(Shared {
            db,
            access,
            clock,
            settings,
            data: data.to_owned(),
            dump,
            removing: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            is_stopping: AtomicBool::new(false),
            ended: tokio::sync::Notify::new(),
            metrics,
        });
        let backups = Self(shared);
        backups.tell_cut_off();
        backups.0.clear();
        if let Some(newest) = keeper::newest(&list(&backups.0.directory()), backups.0.clock.now_ms()) {
            backups.0.metrics.last.set(newest.made_ms().unwrap_or(0) / 1_000);
            backups.0.metrics.size.set(newest.bytes as i64);
        }
        backups
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

    async fn clear(&self) {
        let _removing = self.0.removing.lock().await;
        let shared = self.0.clone();
        let _ = tokio::task::spawn_blocking(move || shared.clear()).await;
    }

    async fn listed(&self) -> Vec<Backup> {
        let directory = self.0.directory();
        tokio::task::spawn_blocking(move || list(&directory)).await.unwrap_or_default()
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
