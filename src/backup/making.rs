//! Making one backup at a time: its place, and how it ends, which is in the audit log.
//!
//! A stop ends the one that is made, whoever asked for it, and says so; one that it could not wait for, and one that a
//! crash cut off, is found by the next start, which says that.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::manifest::Manifest;
use super::{BackupError, Backups, CopyError, Making, NAMED, Shared, blocking, copy};
use crate::access::audit::AuditResult;
use crate::access::capability::SettingsWrite;
use crate::access::{Actor, Permit};
use crate::platform::background;
use crate::platform::clock::{Stopwatch, UnixMs};
use crate::platform::db::Backend;
use crate::platform::http::origin::Origin;

/// Room that must be free besides: for what control writes meanwhile, and SQLite's log, which cannot shrink then. At
/// least this, and of a large database a part of its size in percent.
const SPARE_BYTES: u64 = 64 << 20;
const SPARE_PERCENT: u64 = 15;
/// What the audit log calls the making of one.
const CREATE: &str = "backup.create";
/// One that is made when control stops ends within this, or is found by the next start.
const STOP: Duration = Duration::from_secs(5);

/// How one that was not made ended, and why.
type Ended = (AuditResult, &'static str);
const NO_ROOM: Ended = (AuditResult::Failed, "no-room");
const COPY_FAILED: Ended = (AuditResult::Failed, "copy-failed");
/// Control was told to stop.
const STOPPED: Ended = (AuditResult::Failed, "stopped");
/// Control ended without a word.
const CUT_OFF: Ended = (AuditResult::Failed, "cut-off");

/// Why one was not made that nobody stopped.
pub(super) fn not_made(is_disk_full: bool) -> Ended {
    if is_disk_full { NO_ROOM } else { COPY_FAILED }
}

/// The place of the one that is made; given back however that ends.
pub(super) struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state().making = None;
        self.0.ended.notify_waiters();
    }
}

impl Backups {
    /// Begins to make one and gives its name.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn create(&self, permit: &Permit<SettingsWrite>) -> Result<String, BackupError> {
        let by = Some(self.0.access.actor_name(permit.actor()));
        let (place, making) = self.begin(by).await?;
        let name = making.name.clone();
        tokio::spawn(self.clone().make(place, making, permit.actor(), permit.origin()));
        Ok(name)
    }

    /// Takes the place of the one that is made. That it cannot be is a failure, unless another one is made.
    pub(super) async fn begin(&self, by: Option<String>) -> Result<(Place, Making), BackupError> {
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

    /// In the audit log, that one was not made.
    pub(super) fn record_failed(&self, actor: Actor, origin: Origin, name: &str, ended: Ended) {
        self.0.access.refused(Some(actor), origin, CREATE, name, ended);
    }

    /// Makes it and records how that ended. Whether it was made.
    pub(super) async fn make(self, place: Place, making: Making, actor: Actor, origin: Origin) -> bool {
        let shared = &self.0;
        let clock = Stopwatch::start();
        let work = {
            let (shared, making) = (shared.clone(), making.clone());
            let has_database = shared.db.backend() == Backend::Sqlite;
            let manifest = Manifest::new(making.begun_ms, making.by, has_database);
            move || {
                let is_stopped = {
                    let shared = shared.clone();
                    move || shared.is_stopping.load(Ordering::Relaxed)
                };
                copy::make(&shared.db, &shared.data, &shared.directory(), &making.name, manifest, is_stopped)
            }
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
                let stopped = matches!(error, CopyError::Stopped).then_some(STOPPED);
                self.record_failed(actor, origin, &making.name, stopped.unwrap_or(not_made(error.is_disk_full())));
            }
        }
        drop(place);
        is_made
    }

    /// Ends the one that is made. None is made any more.
    pub(super) async fn stop(&self) {
        self.0.is_stopping.store(true, Ordering::Relaxed);
        let is_over = async {
            loop {
                let ended = self.0.ended.notified();
                if self.0.state().making.is_none() {
                    return;
                }
                ended.await;
            }
        };
        if tokio::time::timeout(STOP, is_over).await.is_err() {
            tracing::warn!("a backup does not stop in time; the next start removes what is left of it");
        }
    }

    /// Says of those that a crash left unfinished that they were.
    pub(super) fn tell_cut_off(&self) {
        for name in copy::unfinished_names(&self.0.directory()) {
            tracing::warn!(backup = name, "a backup was cut off when control ended; what is left of it is removed");
            self.0.failed(false, format!("control ended while {name} was made"));
            self.record_failed(Actor::System, Origin::default(), &name, CUT_OFF);
        }
    }
}

/// What must be free for a copy of a database.
pub(super) fn needed(expected_bytes: u64) -> u64 {
    expected_bytes + SPARE_BYTES.max(expected_bytes / 100 * SPARE_PERCENT)
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
