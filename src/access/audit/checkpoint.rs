//! The files beside the database without which the chain proves nothing: the key (`audit.key`) and the
//! checkpoints (`audit.checkpoint`), a line with number and MAC for each entry, appended after its commit.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use ring::rand::SecureRandom;

use super::chain::Bytes32;

const KEY: &str = "audit.key";
const CHECKPOINTS: &str = "audit.checkpoint";

/// The key's bytes, if there is one.
pub(super) fn key_read(data: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read_to_string(data.join(KEY)) {
        Ok(text) => bytes(text.trim()).map(|key| Some(key.to_vec())).ok_or_else(|| broken(KEY)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A new key.
pub(super) fn key_generate() -> Bytes32 {
    let mut key = [0; 32];
    ring::rand::SystemRandom::new().fill(&mut key).expect("the system gives random bytes");
    key
}

/// Writes a key: whole or not at all, and for nobody else.
pub(super) fn key_write(data: &Path, key: &Bytes32) -> io::Result<()> {
    let new = data.join("audit.key.new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    writeln!(file, "{}", hex(key))?;
    file.sync_all()?;
    fs::rename(&new, data.join(KEY))?;
    fs::File::open(data)?.sync_all()
}

/// The checkpoints' file, to [`append`] to.
pub(super) fn open(data: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(data.join(CHECKPOINTS))
}

/// Appends lines. Where the one before was cut short, by a crash or a full disk, it ends there: what were continued
/// would be another number's.
pub(super) fn append(file: &mut fs::File, lines: &str) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut last = *b"\n";
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    file.write_all(lines.as_bytes())
}

/// Every checkpoint. `None`: there is no file, or none in it. A line that was cut short is none.
pub(super) fn read(data: &Path) -> io::Result<Option<Vec<(i64, Bytes32)>>> {
    let text = match fs::read_to_string(data.join(CHECKPOINTS)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let line = |line: &str| {
        let (number, mac) = line.split_once(' ')?;
        Some((number.parse().ok()?, bytes(mac)?))
    };
    let noted: Vec<_> = text.lines().filter_map(line).collect();
    Ok((!noted.is_empty()).then_some(noted))
}

/// A line of the file.
pub(super) fn line(number: i64, mac: &Bytes32) -> String {
    format!("{number} {}\n", hex(mac))
}

/// Leaves only the checkpoints from the anchor on, which begins them if they reached so far back, noted or not.
pub(super) fn cut(data: &Path, anchor: (i64, Bytes32)) -> io::Result<fs::File> {
    let noted = read(data)?.unwrap_or_default();
    let begin = noted.iter().any(|(at, _)| *at <= anchor.0).then_some(&anchor);
    let behind = noted.iter().filter(|(at, _)| *at > anchor.0);
    let kept: String = begin.into_iter().chain(behind).map(|(at, mac)| line(*at, mac)).collect();
    let new = data.join("audit.checkpoint.new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(kept.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, data.join(CHECKPOINTS))?;
    open(data)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Bytes32> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn broken(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{file} does not hold 64 hexadecimal digits"))
}
