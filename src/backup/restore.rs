//! A data directory of a backup: whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::copy::sync;
use super::manifest::{Manifest, ManifestError};
use crate::platform::clock::UnixMs;

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// When the backup was made.
    pub made_ms: UnixMs,
    /// Whether the database was in it.
    pub database: bool,
    /// Its files.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup.
    #[error("{} is no whole backup: {source}", from.display())]
    Backup {
        /// Its directory.
        from: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// The data directory.
    #[error("{} is not empty; restore into a directory that is empty or not there", .0.display())]
    NotEmpty(PathBuf),
    /// A file.
    #[error("{} cannot be written: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Checks a backup and copies it into `data`, which is empty or not there. Blocks.
///
/// # Errors
/// The backup is damaged, or the directory cannot be written.
pub fn restore(from: &Path, data: &Path) -> Result<Restored, RestoreError> {
    let damaged = |source| RestoreError::Backup { from: from.to_owned(), source };
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::File { path, source }
    };
    if fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(RestoreError::NotEmpty(data.to_owned()));
    }
    let manifest = Manifest::read(from).map_err(damaged)?;
    manifest.check(from).map_err(damaged)?;
    let data = std::path::absolute(data).map_err(failed(data))?;
    // Beside it, so that it is renamed and not copied: a copy that was cut off must not be served.
    let mut name = data.file_name().unwrap_or_default().to_owned();
    name.push(".restoring");
    let unfinished = data.with_file_name(name);
    let _ = fs::remove_dir_all(&unfinished);
    let copied = (|| {
        DirBuilder::new().recursive(true).mode(0o700).create(&unfinished).map_err(failed(&unfinished))?;
        for entry in &manifest.files {
            let to = unfinished.join(&entry.name);
            if let Some(parent) = to.parent().filter(|parent| !parent.exists()) {
                DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed(parent))?;
            }
            copy(&from.join(&entry.name), &to).map_err(failed(&to))?;
            if let Some(parent) = to.parent() {
                sync(parent).map_err(failed(parent))?;
            }
        }
        // What was read the second time is what was checked the first time.
        manifest.check(&unfinished).map_err(damaged)?;
        fs::rename(&unfinished, &data).map_err(failed(&data))?;
        data.parent().map_or(Ok(()), |parent| sync(parent).map_err(failed(parent)))
    })();
    if let Err(error) = copied {
        let _ = fs::remove_dir_all(&unfinished);
        return Err(error);
    }
    let (files, bytes) = (manifest.files.len(), manifest.bytes());
    Ok(Restored { made_ms: manifest.made_ms, database: manifest.database, files, bytes })
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.sync_all()
}
