//! Reading the kernel's text files: kept open, read anew from their start into one buffer, and the
//! few ways to take numbers out of them. A number that does not fit is no value, never a wrong one.

use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    str::FromStr,
};
use tongtu_agent_runtime::collect::Unavailable;

/// A file of `/proc` or `/sys` that is read again and again.
#[derive(Debug)]
pub(crate) struct TextFile {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    /// A first read that gives at most so much gives everything.
    surely_whole: usize,
}

/// The kernel gives as many whole records as fit into a page of 4 KiB. Where they are short, less than
/// half a page is all there is, and the read that would say so is saved.
const HALF_PAGE: usize = 2048;

impl TextFile {
    /// Opens it, and reads it once: some files exist and cannot be read.
    ///
    /// # Errors
    /// Says which file and why.
    pub(crate) fn open(path: impl Into<PathBuf>) -> Result<Self, Unavailable> {
        let path = path.into();
        let file = File::open(&path).map_err(|error| because(&path, &error))?;
        let mut text = Self { path, file, buffer: Vec::new(), surely_whole: HALF_PAGE };
        match text.read() {
            Ok(_) => Ok(text),
            Err(error) => Err(Unavailable::new(error.to_string())),
        }
    }

    /// Which file it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Of a file whose lines may be long.
    pub(crate) fn with_long_lines(self) -> Self {
        Self { surely_whole: 0, ..self }
    }

    /// What it holds now. A file that cannot be read any more, as one of a kernel module that was
    /// taken out and put in, is opened anew.
    ///
    /// # Errors
    /// Of reading; names the file.
    pub(crate) fn read(&mut self) -> io::Result<&str> {
        let read = self.fill().or_else(|_| {
            self.file = File::open(&self.path)?;
            self.fill()
        });
        match read {
            Ok(length) => Ok(valid(&mut self.buffer[..length])),
            Err(error) => {
                let text = format!("{}: {error}", self.path.display());
                Err(io::Error::new(error.kind(), text))
            }
        }
    }

    /// Whether the kernel says that it changed since this was asked last. Only lists of mounts do.
    pub(crate) fn was_changed(&self) -> bool {
        let mut files = [PollFd::new(&self.file, PollFlags::PRI)];
        let asked = poll(&mut files, Some(&Timespec::default()));
        // If in doubt it did: then it is read once more.
        asked.is_err() || files[0].revents().intersects(PollFlags::PRI | PollFlags::ERR)
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut length = 0;
        loop {
            if length == self.buffer.len() {
                self.buffer.resize((length * 2).max(4096), 0);
            }
            match self.file.read_at(&mut self.buffer[length..], length as u64) {
                Ok(0) => return Ok(length),
                Ok(count) if length == 0 && count <= self.surely_whole => return Ok(count),
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The bytes as text; whatever is not UTF-8 becomes a question mark.
fn valid(bytes: &mut [u8]) -> &str {
    while let Err(error) = std::str::from_utf8(bytes) {
        let first = error.valid_up_to();
        let end = error.error_len().map_or(bytes.len(), |length| first + length);
        bytes[first..end].fill(b'?');
    }
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Why a file cannot be read, as a sentence for `check`.
pub(crate) fn because(path: &Path, error: &io::Error) -> Unavailable {
    let path = path.display();
    Unavailable::new(match error.kind() {
        io::ErrorKind::NotFound => format!("{path} does not exist here"),
        io::ErrorKind::PermissionDenied => format!("{path} may not be read by this user"),
        _ => format!("{path}: {error}"),
    })
}

/// A small file whole, without the white space around it. For what is read once or seldom.
///
/// # Errors
/// Of opening and reading.
pub(crate) fn read_small(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(64 << 10).read_to_end(&mut text)?;
    Ok(valid(&mut text).trim().to_owned())
}

/// The number that a small file holds.
pub(crate) fn read_number(path: &Path) -> Option<i64> {
    number(&read_small(path).ok()?)
}

/// A whole number; one that does not fit is none.
pub(crate) fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// A decimal fraction as an integer × 10^-`digits`; further digits are cut off.
pub(crate) fn decimal(text: &str, digits: u32) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut value = whole.parse::<i64>().ok()?;
    let negative = whole.starts_with('-');
    let mut rest = fraction.bytes();
    for _ in 0..digits {
        let digit = i64::from(rest.next().unwrap_or(b'0') - b'0');
        value = value.checked_mul(10)?.checked_add(if negative { -digit } else { digit })?;
    }
    Some(value)
}

/// The entries of a directory whose names begin with `prefix`, in the order of their numbers.
pub(crate) fn numbered(directory: &Path, prefix: &str) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let index = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((index, entry.path()))
        })
        .collect();
    found.sort();
    found
}

/// The last part of the path that a symbolic link points to.
pub(crate) fn link_name(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        assert_eq!(decimal("1.24", 2), Some(124));
        assert_eq!(decimal("0.06", 2), Some(6));
        assert_eq!(decimal("12", 2), Some(1200));
        assert_eq!(decimal("-0.5", 2), Some(-50));
        assert_eq!(decimal("3.14159", 2), Some(314));
        for bad in ["", ".", "1.2.3", "1.x", "x", "nan", "99999999999999999999.1"] {
            assert_eq!(decimal(bad, 2), None, "{bad}");
        }
    }

    #[test]
    fn a_file_is_read_anew_and_may_hold_any_bytes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, b"a\xff\xfe b").expect("written");
        let mut file = TextFile::open(&path).expect("it exists");
        assert_eq!(file.read().expect("readable"), "a?? b");
        let long = "x".repeat(20_000);
        std::fs::write(&path, &long).expect("written");
        assert_eq!(file.read().expect("readable"), long);
        let missing = TextFile::open(directory.path().join("none")).expect_err("it is missing");
        assert!(missing.reason.ends_with("does not exist here"), "{}", missing.reason);
    }
}
