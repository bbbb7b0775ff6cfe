//! What control's data takes, and how much room is left for it.

use std::path::{Path, PathBuf};

use prometheus::IntGauge;

use crate::metrics;
use crate::platform::db::Db;
use crate::platform::metrics::Registry;

/// The database and the file system of the data directory.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    db: Db,
    data: PathBuf,
    database: IntGauge,
    free: IntGauge,
    size: IntGauge,
}

/// A file system's room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// What control may still use.
    pub(super) free_bytes: u64,
    /// All of it.
    pub(super) size_bytes: u64,
}

impl Storage {
    pub(super) fn new(db: Db, data: &Path, registry: &Registry) -> Self {
        Self {
            db,
            data: data.to_owned(),
            database: registry.gauge(&metrics::DATABASE_SIZE),
            free: registry.gauge(&metrics::DATA_FREE),
            size: registry.gauge(&metrics::DATA_SIZE),
        }
    }

    /// Bytes of the database, if it answers.
    pub(super) async fn database_bytes(&self) -> Option<u64> {
        self.db.size().await.inspect_err(|error| tracing::warn!(%error, "the database's size is not known")).ok()
    }

    /// The file system of the data directory.
    pub(super) fn room(&self) -> Option<Room> {
        let stat = rustix::fs::statvfs(&self.data).ok()?;
        Some(Room { free_bytes: stat.f_bavail * stat.f_frsize, size_bytes: stat.f_blocks * stat.f_frsize })
    }

    /// Brings the gauges up to date; what cannot be read keeps its last value.
    pub(super) async fn measure(&self) {
        if let Some(bytes) = self.database_bytes().await {
            self.database.set(bytes as i64);
        }
        if let Some(room) = self.room() {
            self.free.set(room.free_bytes as i64);
            self.size.set(room.size_bytes as i64);
        }
    }
}
