//! The data directory of an agent: its enrolment, its configuration, its spool, and the lock that
//! keeps a second process out.
//!
//! | file | holds |
//! |---|---|
//! | `key.pem` (0600), `certificate.pem`, `ca.pem` | who the agent is, and whom it takes for control |
//! | `identity.json` | its id, control's address, when the certificate came |
//! | `agent.toml` | what the operator sets; the agent never writes it |
//! | `desired.json` | what control last told the agent to be like |
//! | `spool/`, `lock`, `machine-id` | |
//!
//! An enrolment is written beside the old one, made whole, then moved into place file by file; what
//! a crash leaves of the moves is finished at the next start. So there is always one whole enrolment
//! or none.

use crate::desired::Desired;
use crate::link::{Credentials, LinkError, Trust};
use rustix::fs::Mode;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

const KEY: &str = "key.pem";
const CERTIFICATE: &str = "certificate.pem";
const CA: &str = "ca.pem";
const IDENTITY: &str = "identity.json";
const DESIRED: &str = "desired.json";
/// An enrolment that is being written.
const NEW: &str = "enrolment.new";
/// A whole one that is being moved into place.
const READY: &str = "enrolment.ready";

/// What is wrong with a data directory.
#[derive(Debug, Error)]
pub enum DataError {
    /// Another process holds it.
    #[error("{} is in use by another agent process: stop that one, or use another --data", .0.display())]
    InUse(PathBuf),
    /// A file cannot be used.
    #[error("cannot {action} {}: {cause}; run this as the user whom the data directory belongs to", .path.display())]
    File {
        /// `read`, `write`, `make`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// There is no enrolment.
    #[error("{} holds no enrolment: run `enroll --token TOKEN --data {}` first", .0.display(), .0.display())]
    NotEnrolled(PathBuf),
    /// There is one.
    #[error("{} is enrolled already, as agent {agent_id} of the control at {address}: add --replace to enrol it anew", .path.display())]
    AlreadyEnrolled {
        /// The directory.
        path: PathBuf,
        /// As whom.
        agent_id: String,
        /// Where.
        address: String,
    },
    /// A file holds something else.
    #[error("{} is damaged ({cause}): enrol again with --replace", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

impl DataError {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::File { action, path, cause }
    }
}

/// `identity.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredIdentity {
    /// As control knows it.
    pub agent_id: String,
    /// `HOST:PORT` of control's agents port.
    pub address: String,
    /// `host`, `libvirt`…
    pub kind: String,
    /// Unix time at which the certificate came.
    pub certificate_since_ms: i64,
}

/// A whole enrolment.
#[derive(Clone)]
pub struct Enrolment {
    /// Who and where.
    pub identity: StoredIdentity,
    /// The private key.
    pub key_pem: String,
    /// The certificate.
    pub certificate_pem: String,
    /// Whom to take for control.
    pub ca_pem: String,
}

impl Enrolment {
    pub(crate) fn credentials(&self) -> Result<Credentials, LinkError> {
        Credentials::from_pem(&self.certificate_pem, &self.key_pem)
    }

    pub(crate) fn trust(&self) -> Result<Trust, LinkError> {
        Trust::bundle(&self.ca_pem)
    }
}

/// Never shows the key.
impl std::fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrolment").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Takes a directory for this process; makes it if `create`.
    ///
    /// # Errors
    /// Another process has it, or it cannot be used.
    pub fn open(path: &Path, create: bool) -> Result<Self, DataError> {
        if create {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(DataError::file("make", path))?;
        } else if !path.is_dir() {
            return Err(DataError::NotEnrolled(path.to_owned()));
        }
        let lock_path = path.join("lock");
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(DataError::file("write", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataError::InUse(path.to_owned())),
            Err(TryLockError::Error(cause)) => return Err(DataError::file("lock", &lock_path)(cause)),
        }
        let directory = Self { path: path.to_owned(), _lock: lock };
        directory.finish_moves()?;
        Ok(directory)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the spool is.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// The operator's configuration.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.path.join("agent.toml")
    }

    /// The enrolment, if there is one.
    ///
    /// # Errors
    /// A file is missing, unreadable or damaged.
    pub fn enrolment(&self) -> Result<Option<Enrolment>, DataError> {
        let path = self.path.join(IDENTITY);
        if !path.try_exists().map_err(DataError::file("read", &path))? {
            return Ok(None);
        }
        let identity = serde_json::from_str(&self.read(IDENTITY)?);
        let identity = identity.map_err(|error| DataError::Damaged { path, cause: error.to_string() })?;
        Ok(Some(Enrolment {
            identity,
            key_pem: self.read(KEY)?,
            certificate_pem: self.read(CERTIFICATE)?,
            ca_pem: self.read(CA)?,
        }))
    }

    /// The key of an enrolment that was begun and not finished: control knows it if it has answered.
    #[must_use]
    pub fn begun_key(&self) -> Option<String> {
        fs::read_to_string(self.path.join(NEW).join(KEY)).ok()
    }

    /// Keeps the key that an enrolment begins with.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin_enrolment(&self, key_pem: &str) -> Result<(), DataError> {
        let new = self.path.join(NEW);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&new).map_err(DataError::file("make", &new))?;
        write(&new, KEY, key_pem)
    }

    /// Forgets an enrolment that was begun.
    pub fn cancel_enrolment(&self) {
        let _ = fs::remove_dir_all(self.path.join(NEW));
    }

    /// Writes an enrolment in place of what is there.
    ///
    /// # Errors
    /// It cannot be written; then the old one, if any, stays.
    pub fn finish_enrolment(&self, enrolment: &Enrolment) -> Result<(), DataError> {
        self.begin_enrolment(&enrolment.key_pem)?;
        let (new, ready) = (self.path.join(NEW), self.path.join(READY));
        write(&new, CERTIFICATE, &enrolment.certificate_pem)?;
        write(&new, CA, &enrolment.ca_pem)?;
        let identity = serde_json::to_string_pretty(&enrolment.identity).expect("texts and numbers are JSON");
        write(&new, IDENTITY, &identity)?;
        // Another control has not told it anything yet.
        let _ = fs::remove_file(self.path.join(DESIRED));
        fs::rename(&new, &ready).and_then(|()| sync(&self.path)).map_err(DataError::file("write", &ready))?;
        self.finish_moves()
    }

    fn finish_moves(&self) -> Result<(), DataError> {
        let ready = self.path.join(READY);
        if !ready.is_dir() {
            return Ok(());
        }
        for name in [KEY, CERTIFICATE, CA, IDENTITY] {
            let (from, to) = (ready.join(name), self.path.join(name));
            match fs::rename(&from, &to) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                moved => moved.map_err(DataError::file("write", &to))?,
            }
        }
        sync(&self.path).and_then(|()| fs::remove_dir_all(&ready)).map_err(DataError::file("write", &ready))
    }

    /// Keeps a renewed certificate of the same key.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn renew(&self, enrolment: &Enrolment) -> Result<(), DataError> {
        write(&self.path, CERTIFICATE, &enrolment.certificate_pem)?;
        let identity = serde_json::to_string_pretty(&enrolment.identity).expect("texts and numbers are JSON");
        write(&self.path, IDENTITY, &identity)
    }

    /// Keeps a new bundle of authorities.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn replace_ca(&self, ca_pem: &str) -> Result<(), DataError> {
        write(&self.path, CA, ca_pem)
    }

    /// What control last told the agent; nothing if it never did, or if the file cannot be used.
    pub(crate) fn desired(&self) -> Desired {
        let path = self.path.join(DESIRED);
        let fault = match fs::read_to_string(&path) {
            Ok(text) => match Desired::parse(&text) {
                Ok(desired) => return desired,
                Err(fault) => fault,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Desired::default(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(file = %path.display(), fault, "what control last told cannot be read; it is asked again when it answers");
        Desired::default()
    }

    pub(crate) fn keep_desired(&self, desired: &Desired) -> Result<(), DataError> {
        write(&self.path, DESIRED, &desired.text())
    }

    fn read(&self, name: &str) -> Result<String, DataError> {
        let path = self.path.join(name);
        fs::read_to_string(&path).map_err(DataError::file("read", &path))
    }
}

/// Writes a file whole or not at all.
fn write(directory: &Path, name: &str, text: &str) -> Result<(), DataError> {
    let (path, temporary) = (directory.join(name), directory.join(format!("{name}.tmp")));
    let mode = Mode::RUSR | Mode::WUSR;
    let written = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode.bits())
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| sync(directory));
    written.map_err(DataError::file("write", &path))
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// When a certificate ends, in Unix time; `None`: it cannot be read.
fn not_after_ms(certificate_pem: &str) -> Option<i64> {
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).ok()?;
    // Certificate { TBSCertificate { [0] version, serial, algorithm, issuer, { not before, not after } …
    let (_, certificate, _) = element(&der)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&0xa0) {
        (_, _, rest) = element(rest)?;
    }
    for _ in ["serial", "algorithm", "issuer"] {
        (_, _, rest) = element(rest)?;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, rest) = element(validity)?;
    let (kind, text, _) = element(rest)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let number = |at: std::ops::Range<usize>| text.get(at)?.parse::<i64>().ok();
    let (year, rest) = match kind {
        // UTCTime has two digits of the year.
        0x17 => (number(0..2).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2),
        0x18 => (number(0..4)?, 4),
        _ => return None,
    };
    let part = |at: usize| number(rest + 2 * at..rest + 2 * at + 2);
    let days = days_since_1970(year, part(0)?, part(1)?);
    Some((((days * 24 + part(2)?) * 60 + part(3)?) * 60 + part(4)?) * 1_000)
}

/// The first element of DER: its kind, its content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&kind, rest) = der.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (long, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (long.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((kind, content, rest))
}

/// Of the Gregorian calendar, counted in years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// From when on it is time to renew: two thirds of the certificate's life are over. One that cannot be read is due.
pub(crate) fn renewal_due_ms(enrolment: &Enrolment) -> i64 {
    let end_ms = not_after_ms(&enrolment.certificate_pem);
    end_ms.map_or(i64::MIN, |end_ms| due_ms(enrolment.identity.certificate_since_ms, end_ms))
}

fn due_ms(since_ms: i64, end_ms: i64) -> i64 {
    const YEAR_MS: i64 = 365 * 86_400_000;
    // A clock that was wrong when the certificate came does not stretch its life.
    let life_ms = (end_ms - since_ms).clamp(1, YEAR_MS);
    end_ms - life_ms / 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enrolment(agent_id: &str) -> Enrolment {
        Enrolment {
            identity: StoredIdentity {
                agent_id: agent_id.into(),
                address: "control:6481".into(),
                kind: "host".into(),
                certificate_since_ms: 1,
            },
            key_pem: format!("key of {agent_id}"),
            certificate_pem: format!("certificate of {agent_id}"),
            ca_pem: "ca".into(),
        }
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let held = DataDirectory::open(folder.path(), true).expect("free");
        assert!(matches!(DataDirectory::open(folder.path(), true), Err(DataError::InUse(_))));
        drop(held);
        DataDirectory::open(folder.path(), true).expect("free again");
    }

    #[test]
    fn an_enrolment_is_whole_or_absent_whenever_it_is_cut_short() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let data = DataDirectory::open(folder.path(), true).expect("free");
        assert!(data.enrolment().expect("readable").is_none());
        data.begin_enrolment("key of a").expect("writable");
        assert!(data.enrolment().expect("readable").is_none());
        assert_eq!(data.begun_key().as_deref(), Some("key of a"));
        data.finish_enrolment(&enrolment("a")).expect("writable");
        assert_eq!(data.begun_key(), None);
        // Cut short in the middle of the moves of another.
        data.begin_enrolment("key of b").expect("writable");
        let new = folder.path().join(NEW);
        let whole = enrolment("b");
        write(&new, CERTIFICATE, &whole.certificate_pem).expect("writable");
        write(&new, CA, &whole.ca_pem).expect("writable");
        write(&new, IDENTITY, &serde_json::to_string(&whole.identity).expect("JSON")).expect("writable");
        fs::rename(&new, folder.path().join(READY)).expect("writable");
        fs::rename(folder.path().join(READY).join(KEY), folder.path().join(KEY)).expect("writable");
        drop(data);
        let data = DataDirectory::open(folder.path(), false).expect("free");
        let found = data.enrolment().expect("readable").expect("an enrolment");
        assert_eq!((found.identity, found.key_pem), (whole.identity, whole.key_pem));
        let mode = fs::metadata(folder.path().join(KEY)).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        for (year, month, day, days) in
            [(2027, 3, 1, 20_878), (2049, 12, 31, 29_219), (2050, 1, 1, 29_220), (2400, 2, 29, 157_113)]
        {
            let mut params = rcgen::CertificateParams::default();
            params.not_after = rcgen::date_time_ymd(year, month, day) + std::time::Duration::from_secs(3_723);
            let key = rcgen::KeyPair::generate().expect("a key");
            let pem = params.self_signed(&key).expect("a certificate").pem();
            assert_eq!(not_after_ms(&pem), Some(days * 86_400_000 + 3_723_000), "{year}-{month}-{day}");
        }
        assert_eq!(not_after_ms("nonsense"), None);
    }

    #[test]
    fn renewal_is_due_at_two_thirds() {
        const DAY: i64 = 86_400_000;
        let is_due = |since_ms, end_ms, now_ms: i64| now_ms >= due_ms(since_ms, end_ms);
        assert!(!is_due(0, 365 * DAY, 243 * DAY));
        assert!(is_due(0, 365 * DAY, 244 * DAY));
        assert!(is_due(0, 90, 60) && !is_due(0, 90, 59));
        // Enrolled with the clock at 1970, and with the clock far ahead.
        assert!(!is_due(0, 20_000 * DAY, (20_000 - 122) * DAY));
        assert!(!is_due(9 * DAY, DAY, DAY - 2));
    }
}
