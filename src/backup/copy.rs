//! Making one backup: under a temporary name, synced, renamed when it is whole. Blocks.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sea_orm::DbErr;

use super::manifest::{Entry, Head, Manifest, NAME};
use crate::access::audit;
use crate::config;
use crate::platform::background;
use crate::platform::db::{Backend, Db, SQLITE_FILE};

/// What of the data directory is not in the database, and cannot be made anew. The checkpoints are copied first:
/// notes that are behind the log are nothing bad, notes before it would say that the log was cut off.
const FILES: [&str; 6] = ["audit.checkpoint", "audit.key", "api-token", "first-link", "ca/ca-key.pem", "ca/ca.pem"];

/// With less room than this a copy is stopped, so that records are taken on.
const FLOOR_BYTES: u64 = 32 << 20;

/// Why a backup was not made.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A file.
    #[error("{} cannot be written: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database.
    #[error("the database cannot be copied: {0}")]
    Database(#[from] DbErr),
    /// It took the room that records need.
    #[error("it was stopped, because less than {} MiB were free where the data directory is: records need them", FLOOR_BYTES >> 20)]
    NoRoom,
    /// Control stops.
    #[error("it was stopped, because control was")]
    Stopped,
    /// Its thread.
    #[error(transparent)]
    Interrupted(#[from] background::Interrupted),
}

impl CopyError {
    /// Whether there was no room.
    pub(super) fn is_disk_full(&self) -> bool {
        match self {
            Self::File { source, .. } => says_full(source),
            Self::Database(error) => Db::is_disk_full(error),
            Self::NoRoom => true,
            Self::Stopped | Self::Interrupted(_) => false,
        }
    }
}

/// Whether a file system says that it is full.
pub(super) fn says_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Where a backup lies while it is made.
pub(super) fn unfinished(backups: &Path, name: &str) -> PathBuf {
    backups.join(format!(".{name}.unfinished"))
}

/// Where one lies that is removed.
pub(super) fn removed(backups: &Path, name: &str) -> PathBuf {
    backups.join(format!(".{name}.removed"))
}

/// Whether a path is one of these two.
pub(super) fn is_left_over(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') && (name.ends_with(".unfinished") || name.ends_with(".removed"))
}

/// The names of those that are not finished.
pub(super) fn unfinished_names(backups: &Path) -> Vec<String> {
    let entries = fs::read_dir(backups).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let file = entry.file_name();
        Some(file.to_str()?.strip_prefix('.')?.strip_suffix(".unfinished")?.to_owned())
    });
    names.collect()
}

/// Makes the backup `name`, unless it is stopped; what is left of a failure is removed.
pub(super) fn make(
    db: &Db,
    data: &Path,
    backups: &Path,
    name: &str,
    manifest: Manifest,
    is_stopped: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<Manifest, CopyError> {
    let directory = unfinished(backups, name);
    let made = fill(db, data, &directory, manifest, is_stopped.clone()).and_then(|manifest| {
        // Of one that is finished now nobody would say so.
        if is_stopped() {
            return Err(CopyError::Stopped);
        }
        let whole = backups.join(name);
        fs::rename(&directory, &whole).and_then(|()| sync(backups)).map_err(failed(&whole))?;
        Ok(manifest)
    });
    if made.is_err() {
        let _ = fs::remove_dir_all(&directory);
    }
    made
}

fn fill(
    db: &Db,
    data: &Path,
    directory: &Path,
    mut manifest: Manifest,
    is_stopped: impl Fn() -> bool + Send + 'static,
) -> Result<Manifest, CopyError> {
    private(directory).map_err(failed(directory))?;
    let mut names = Vec::new();
    for name in FILES {
        let from = data.join(name);
        let text = match fs::read(&from) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(CopyError::File { path: from, source }),
        };
        let to = directory.join(name);
        if let Some(parent) = to.parent().filter(|parent| !parent.exists()) {
            private(parent).map_err(failed(parent))?;
        }
        write(&to, &text)?;
        names.push(name);
    }
    if db.backend() == Backend::Sqlite {
        let file = directory.join(SQLITE_FILE);
        copy_database(db, &file, FLOOR_BYTES, is_stopped)?;
        let closed = fs::set_permissions(&file, Permissions::from_mode(0o600));
        closed.and_then(|()| File::open(&file)?.sync_all()).map_err(failed(&file))?;
        manifest.audit = head(directory)?;
        names.push(SQLITE_FILE);
    }
    for name in names {
        manifest.files.push(Entry::of(directory, name).map_err(failed(&directory.join(name)))?);
    }
    let text = serde_json::to_vec_pretty(&manifest).expect("texts and numbers are JSON");
    write(&directory.join(NAME), &text)?;
    for inner in [directory.join("ca"), directory.to_owned()].iter().filter(|inner| inner.exists()) {
        sync(inner).map_err(failed(inner))?;
    }
    Ok(manifest)
}

/// Ends it when it is stopped, and when less than `floor` bytes are free: others could not write any more.
pub(super) fn copy_database(
    db: &Db,
    to: &Path,
    floor: u64,
    is_stopped: impl Fn() -> bool + Send + 'static,
) -> Result<(), CopyError> {
    let (is_short, was_stopped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let goes_on = {
        let (is_short, was_stopped) = (is_short.clone(), was_stopped.clone());
        let at = to.parent().unwrap_or(to).to_owned();
        move || {
            // What cannot be asked stops nothing.
            let is_below = free(&at).is_ok_and(|free| free < floor);
            is_short.fetch_or(is_below, Ordering::Relaxed);
            was_stopped.fetch_or(is_stopped(), Ordering::Relaxed);
            !is_below && !was_stopped.load(Ordering::Relaxed)
        }
    };
    match db.copy_into(to, goes_on) {
        Err(_) if was_stopped.load(Ordering::Relaxed) => Err(CopyError::Stopped),
        Err(_) if is_short.load(Ordering::Relaxed) => Err(CopyError::NoRoom),
        copied => Ok(copied?),
    }
}

/// The last entry of the copied log.
fn head(directory: &Path) -> Result<Option<Head>, CopyError> {
    let broken = |error: String| CopyError::Database(DbErr::Custom(error));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| broken(error.to_string()))?.block_on(async {
        let copy = Db::look(&config::Database::default(), directory).await;
        let copy = copy.map_err(|error| broken(error.to_string()))?;
        let head = audit::head(&copy).await?;
        copy.close().await?;
        Ok(head.map(|(number, mac)| Head { number, mac }))
    })
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CopyError + use<> {
    let path = path.to_owned();
    move |source| CopyError::File { path, source }
}

/// A directory for nobody else.
pub(super) fn private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Bytes that may still be written there.
pub(super) fn free(directory: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// A new file for nobody else, durable.
fn write(path: &Path, text: &[u8]) -> Result<(), CopyError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all())).map_err(failed(path))
}

pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Bytes that lie in a directory and those below it.
pub(super) fn bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}
