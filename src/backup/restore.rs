//! A data directory of a backup, and what the first start of it has to do.
//!
//! Everything is copied into `DATA/.restoring`, so that DATA may be a mount point, and moved up when it is whole. While
//! that directory is there nothing opens the data directory.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::copy::sync;
use super::manifest::{Manifest, ManifestError};
use crate::access::audit::Change;
use crate::access::{Access, AccessError};
use crate::platform::clock::UnixMs;
use crate::platform::db::{RESTORING, SQLITE_FILE};

/// What is in a fresh file system.
const FRESH: &str = "lost+found";
/// The file that tells the next start of which backup the directory is.
const NOTE: &str = "restored";

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

/// Why what is due after a restoring was not done.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The file that says so.
    #[error("{} cannot be read or removed: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Sessions and the audit log.
    #[error(transparent)]
    Access(#[from] AccessError),
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
    let is_new = !data.exists();
    if !is_new && !is_empty(data).map_err(failed(data))? {
        return Err(RestoreError::NotEmpty(data.to_owned()));
    }
    let manifest = Manifest::read(from).map_err(damaged)?;
    manifest.check(from).map_err(damaged)?;
    let data = std::path::absolute(data).map_err(failed(data))?;
    let unfinished = data.join(RESTORING);
    let copied = (|| {
        // What an earlier one left.
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(failed(&unfinished))?;
        }
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
        let note = unfinished.join(NOTE);
        note_write(&note, from, &manifest).and_then(|()| sync(&unfinished)).map_err(failed(&note))
    })();
    if let Err(error) = copied {
        let _ = fs::remove_dir_all(&unfinished);
        if is_new {
            let _ = fs::remove_dir(&data);
        }
        return Err(error);
    }
    // From here on what is there stays, and `.restoring` with it until it is whole.
    lift(&unfinished, &data).map_err(failed(&data))?;
    let (files, bytes) = (manifest.files.len(), manifest.bytes());
    Ok(Restored { made_ms: manifest.made_ms, database: manifest.database, files, bytes })
}

fn is_empty(data: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(data)? {
        let name = entry?.file_name();
        if name != FRESH && name != RESTORING {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Moves what was copied to its place; the database last.
fn lift(unfinished: &Path, data: &Path) -> io::Result<()> {
    let names = fs::read_dir(unfinished)?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names: Vec<OsString> = names.collect::<io::Result<_>>()?;
    names.sort_by_key(|name| name == SQLITE_FILE);
    for name in &names {
        fs::rename(unfinished.join(name), data.join(name))?;
    }
    sync(data)?;
    fs::remove_dir(unfinished)?;
    sync(data)?;
    data.parent().map_or(Ok(()), sync)
}

/// Tells the next start what it begins with.
fn note_write(note: &Path, from: &Path, manifest: &Manifest) -> io::Result<()> {
    let from = fs::canonicalize(from)?;
    let name = from.file_name().unwrap_or_default().to_string_lossy();
    let said = json!({ "backup": name, "made_ms": manifest.made_ms, "audit": manifest.audit });
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(note)?;
    file.write_all(said.to_string().as_bytes())?;
    file.sync_all()
}

/// At a start on what was restored: who was logged in when the backup was made is so no more, and the audit log says
/// from where it goes on.
///
/// # Errors
/// See [`SettleError`]; it is tried again by the next start.
pub async fn settle(access: &Access, data: &Path) -> Result<(), SettleError> {
    let note = data.join(NOTE);
    let failed = |source| SettleError::File { path: note.clone(), source };
    let text = match fs::read(&note) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(source)),
    };
    let said: Value = serde_json::from_slice(&text).unwrap_or_default();
    let backup = said["backup"].as_str().unwrap_or("backup").to_owned();
    tracing::warn!(backup, "restored from a backup: users, roles and tokens are as of then; everybody logs in anew");
    let change = Change { action: "backup.restore", resource: backup, before: Value::Null, after: said };
    access.sessions_end_all(change).await?;
    fs::remove_file(&note).and_then(|()| sync(data)).map_err(failed)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::{Entry, NAME};

    /// A backup of small files.
    fn backup(at: &Path) -> PathBuf {
        let from = at.join("20261129T213000Z");
        fs::create_dir_all(from.join("ca")).expect("made");
        let mut manifest = Manifest::new(1, None, true);
        for name in ["audit.key", "ca/ca.pem", SQLITE_FILE] {
            fs::write(from.join(name), name).expect("written");
            manifest.files.push(Entry::of(&from, name).expect("read"));
        }
        fs::write(from.join(NAME), serde_json::to_vec(&manifest).expect("JSON")).expect("written");
        from
    }

    fn names(data: &Path) -> Vec<String> {
        let entries = fs::read_dir(data).expect("a directory");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_that_is_there_and_empty_is_filled_where_it_is() {
        let at = tempfile::tempdir().expect("a directory");
        let (from, data) = (backup(at.path()), at.path().join("data"));
        // As a mount point: nothing may be made beside it, and it cannot be replaced.
        fs::create_dir_all(data.join(FRESH)).expect("made");
        fs::create_dir_all(data.join(RESTORING).join("of an earlier one")).expect("made");
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("there"));
        let before = inode(&data);
        let restored = restore(&from, &data).expect("restored");
        assert_eq!((restored.files, restored.made_ms), (3, 1));
        assert_eq!(inode(&data), before);
        assert_eq!(names(&data), ["audit.key", "ca", FRESH, NOTE, SQLITE_FILE]);
        assert_eq!(fs::read_to_string(data.join("ca/ca.pem")).expect("read"), "ca/ca.pem");
        let again = restore(&from, &data).expect_err("something is there");
        assert!(matches!(again, RestoreError::NotEmpty(_)), "{again}");
    }

    #[test]
    fn a_damaged_backup_leaves_nothing() {
        let at = tempfile::tempdir().expect("a directory");
        let (from, data) = (backup(at.path()), at.path().join("data"));
        fs::write(from.join(SQLITE_FILE), "TONGTU.DB").expect("written");
        let error = restore(&from, &data).expect_err("damaged").to_string();
        assert!(error.contains("tongtu.db is damaged"), "{error}");
        assert!(!data.exists());
    }
}
