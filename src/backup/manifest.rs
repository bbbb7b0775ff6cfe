//! What a backup says of itself: `manifest.json`, with the size and SHA-256 of each of its files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::platform::clock::UnixMs;

/// The manifest's file.
pub(super) const NAME: &str = "manifest.json";
/// What this version writes and reads.
const FORMAT: u32 = 1;
/// Read at a time.
const PORTION: usize = 1 << 20;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its path in the backup.
    pub(super) name: String,
    pub(super) bytes: u64,
    /// In hexadecimal digits.
    pub(super) sha256: String,
}

/// The audit log's last entry in the copied database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number.
    pub number: i64,
    /// Its MAC, in hexadecimal digits.
    pub mac: String,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    pub(super) made_ms: UnixMs,
    /// Who asked for it, as they were called then; null: the schedule.
    pub(super) made_by: Option<String>,
    /// Of the tongtu that made it.
    pub(super) version: String,
    /// Whether the database is in it; a database on a server is not.
    pub(super) database: bool,
    pub(super) audit: Option<Head>,
    pub(super) files: Vec<Entry>,
}

/// What is wrong with a backup.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file.
    #[error("{name} cannot be read: {source}")]
    File {
        /// Its path in the backup.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// The manifest.
    #[error("manifest.json is none that this version reads: {0}")]
    Unknown(String),
    /// A file is not what the manifest says.
    #[error("{name} is damaged: {why}")]
    Damaged {
        /// Its path in the backup.
        name: String,
        /// What differs.
        why: &'static str,
    },
}

impl Manifest {
    pub(super) fn new(made_ms: UnixMs, made_by: Option<String>, database: bool) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { format: FORMAT, made_ms, made_by, version, database, audit: None, files: Vec::new() }
    }

    /// Reads that of a backup; nothing else is looked at.
    pub(super) fn read(directory: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read(directory.join(NAME));
        let text = text.map_err(|source| ManifestError::File { name: NAME.to_owned(), source })?;
        let read: Self = serde_json::from_slice(&text).map_err(|error| ManifestError::Unknown(error.to_string()))?;
        if read.format != FORMAT {
            return Err(ManifestError::Unknown(format!("its format is {}", read.format)));
        }
        let is_inside = |entry: &Entry| {
            let mut parts = Path::new(&entry.name).components();
            !entry.name.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
        };
        match read.files.iter().find(|entry| !is_inside(entry)) {
            Some(entry) => Err(ManifestError::Unknown(format!("it names {}", entry.name))),
            None => Ok(read),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|entry| entry.bytes).sum()
    }

    /// Whether every file is there in its size. Cheap; [`check`](Self::check) reads them.
    pub(super) fn looks_whole(&self, directory: &Path) -> bool {
        self.files.iter().all(|entry| {
            directory.join(&entry.name).metadata().is_ok_and(|found| found.is_file() && found.len() == entry.bytes)
        })
    }

    /// Reads every file and compares it.
    pub(super) fn check(&self, directory: &Path) -> Result<(), ManifestError> {
        for entry in &self.files {
            let found = Entry::of(directory, &entry.name);
            let found = found.map_err(|source| ManifestError::File { name: entry.name.clone(), source })?;
            let damaged = |why| ManifestError::Damaged { name: entry.name.clone(), why };
            if found.bytes != entry.bytes {
                return Err(damaged("its size is not that of the manifest"));
            }
            if found.sha256 != entry.sha256 {
                return Err(damaged("its SHA-256 is not that of the manifest"));
            }
        }
        Ok(())
    }
}

impl Entry {
    /// Of a file as it lies there.
    pub(super) fn of(directory: &Path, name: &str) -> io::Result<Self> {
        let mut file = File::open(directory.join(name))?;
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let (mut portion, mut bytes) = (vec![0; PORTION], 0);
        loop {
            let read = file.read(&mut portion)?;
            if read == 0 {
                break;
            }
            context.update(&portion[..read]);
            bytes += read as u64;
        }
        let sha256 = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { name: name.to_owned(), bytes, sha256 })
    }
}
