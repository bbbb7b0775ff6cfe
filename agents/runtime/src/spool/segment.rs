//! The format of a segment file: its name, its items, and how it is read back after a crash.
//!
//! A file is `TTSPOOL1` and items; an item is
//! `length of kind and payload (u32) · crc32c of kind and payload (u32) · kind (u8) · payload`,
//! little endian. A segment explains itself: it begins with its boot, and every source and schema
//! stands before the first record that uses it. The first frame of each source is a keyframe.
//!
//! | kind | payload |
//! |---|---|
//! | 1 | boot: `v1::Boot` with the anchor of the moment |
//! | 2 | anchor: `v1::Clock` |
//! | 3 | source: number of columns (u32), `v1::Source` |
//! | 4 | schema: `v1::Schema` |
//! | 5 | record: `v1::Record`; sources by their number in this segment |

use bytes::Bytes;
use prost::Message;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use tongtu_protocol::{limits, schema::SchemaId, v1};

pub(super) const MAGIC: &[u8; 8] = b"TTSPOOL1";
/// Bytes before an item's kind.
const HEAD: usize = 8;
/// No item is larger: a schema is the largest.
const ITEM_BYTES: usize = limits::MESSAGE_BYTES;
/// Read at once.
const READ_BYTES: usize = 16 << 10;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boot = 1,
    Anchor = 2,
    Source = 3,
    Schema = 4,
    Record = 5,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Boot, Self::Anchor, Self::Source, Self::Schema, Self::Record]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// `{index}-{epoch}-{first sequence}.segment`; the index orders segments over all epochs.
pub(super) fn name(index: u64, epoch: u64, first: u64) -> String {
    format!("{index:010}-{epoch:016x}-{first}.segment")
}

/// The inverse of [`name`].
pub(super) fn parse_name(name: &str) -> Option<(u64, u64, u64)> {
    let mut parts = name.strip_suffix(".segment")?.split('-');
    let parsed =
        (parts.next()?.parse().ok()?, u64::from_str_radix(parts.next()?, 16).ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(parsed)
}

/// Appends an item.
pub(super) fn put(out: &mut Vec<u8>, kind: Kind, prefix: &[u8], payload: &impl Message) {
    put_with(out, kind, |out| {
        out.extend_from_slice(prefix);
        payload.encode(out).expect("a vector grows");
    });
}

/// Appends an item whose payload is encoded already.
pub(super) fn put_encoded(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    put_with(out, kind, |out| out.extend_from_slice(payload));
}

fn put_with(out: &mut Vec<u8>, kind: Kind, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.push(kind as u8);
    payload(out);
    let (head, body) = out[start..].split_at_mut(HEAD);
    head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
}

/// What stands at a place in a segment.
pub(super) enum Item {
    /// A whole item; the place after it.
    Whole(Kind, Bytes, u64),
    /// The end.
    End,
    /// The file ends inside an item, or nothing but zeros follows: an append that was not finished.
    Torn,
    /// Bytes that are no item.
    Corrupt,
}

/// Reads a segment in pieces.
#[derive(Debug, Default)]
pub(super) struct Reader {
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    from: u64,
}

impl Reader {
    /// The item at `at` of a file that is `end` bytes long.
    pub(super) fn item(&mut self, file: &File, at: u64, end: u64) -> io::Result<Item> {
        if at >= end {
            return Ok(Item::End);
        }
        let Some(head) = self.bytes(file, at, HEAD, end)? else { return Ok(Item::Torn) };
        let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
        let crc = u32::from_le_bytes(head[4..8].try_into().expect("four bytes"));
        if length == 0 || length > ITEM_BYTES {
            return Ok(if self.zeros(file, at, end)? { Item::Torn } else { Item::Corrupt });
        }
        let next = at + (HEAD + length) as u64;
        let Some(body) = self.bytes(file, at + HEAD as u64, length, end)? else { return Ok(Item::Torn) };
        let whole = crc32c::crc32c(body) == crc;
        match Kind::of(body[0]).filter(|_| whole) {
            Some(kind) => Ok(Item::Whole(kind, Bytes::copy_from_slice(&body[1..]), next)),
            // The length may have reached the disk before the body did.
            None if next == end && body.iter().rev().take(16).all(|byte| *byte == 0) => Ok(Item::Torn),
            None => Ok(Item::Corrupt),
        }
    }

    /// `length` bytes at `at`; `None` if the file ends before.
    fn bytes(&mut self, file: &File, at: u64, length: usize, end: u64) -> io::Result<Option<&[u8]>> {
        if at + length as u64 > end {
            return Ok(None);
        }
        let have = self.from..self.from + self.buffer.len() as u64;
        if !(have.contains(&at) && at + length as u64 <= have.end) {
            let size = (end - at).min(length.max(READ_BYTES) as u64) as usize;
            self.buffer.clear();
            self.buffer.shrink_to(READ_BYTES);
            self.buffer.resize(size, 0);
            self.from = at;
            if let Err(error) = file.read_exact_at(&mut self.buffer, at) {
                self.buffer.clear();
                return Err(error);
            }
        }
        let start = (at - self.from) as usize;
        Ok(Some(&self.buffer[start..start + length]))
    }

    fn zeros(&mut self, file: &File, mut at: u64, end: u64) -> io::Result<bool> {
        while at < end {
            let size = (end - at).min(READ_BYTES as u64) as usize;
            match self.bytes(file, at, size, end)? {
                Some(bytes) if bytes.iter().all(|byte| *byte == 0) => at += size as u64,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Forgets what it read: the file has grown or another one follows.
    pub(super) fn forget(&mut self) {
        self.buffer = Vec::new();
        self.from = 0;
    }
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// With a whole item.
    Clean,
    /// With an append that was not finished.
    Torn,
    /// With bytes that are no item, and no whole record behind them.
    Garbage,
    /// Bytes that are no item, and whole records up to this number behind them.
    Corrupt(u64),
}

/// What a segment holds.
#[derive(Debug)]
pub(super) struct Scan {
    pub boot_id: String,
    pub anchors: Vec<v1::Clock>,
    /// Schemas by their place.
    pub schemas: Vec<(SchemaId, u64)>,
    /// First and last sequence, if there is a record.
    pub sequences: Option<(u64, u64)>,
    /// Boot time of the first and the last record.
    pub boottimes_ms: (u64, u64),
    /// Up to where it is good.
    pub len: u64,
    pub tail: Tail,
}

/// Reads a segment whole. `None`: it has no beginning.
pub(super) fn scan(file: &File) -> io::Result<Option<Scan>> {
    let end = file.metadata()?.len();
    let mut reader = Reader::default();
    let mut magic = [0; MAGIC.len()];
    if end < MAGIC.len() as u64 || file.read_exact_at(&mut magic, 0).is_err() || magic != *MAGIC {
        return Ok(None);
    }
    let mut at = MAGIC.len() as u64;
    let Item::Whole(Kind::Boot, boot, next) = reader.item(file, at, end)? else { return Ok(None) };
    let Ok(boot) = v1::Boot::decode(boot) else { return Ok(None) };
    at = next;
    let mut scan = Scan {
        boot_id: boot.boot_id,
        anchors: boot.anchors,
        schemas: Vec::new(),
        sequences: None,
        boottimes_ms: (0, 0),
        len: at,
        tail: Tail::Clean,
    };
    loop {
        match reader.item(file, at, end)? {
            Item::Whole(kind, payload, next) => {
                if !scan.take(kind, payload, at) {
                    scan.tail = after_corruption(&mut reader, file, next, end)?.unwrap_or(Tail::Garbage);
                    return Ok(Some(scan));
                }
                (at, scan.len) = (next, next);
            }
            Item::End => return Ok(Some(scan)),
            Item::Torn => {
                // Unless it only looks so, by a damaged length.
                scan.tail = after_corruption(&mut reader, file, at + 1, end)?.unwrap_or(Tail::Torn);
                return Ok(Some(scan));
            }
            Item::Corrupt => {
                scan.tail = after_corruption(&mut reader, file, at + 1, end)?.unwrap_or(Tail::Garbage);
                return Ok(Some(scan));
            }
        }
    }
}

impl Scan {
    fn take(&mut self, kind: Kind, payload: Bytes, at: u64) -> bool {
        match kind {
            Kind::Anchor => v1::Clock::decode(payload).map(|clock| self.anchors.push(clock)).is_ok(),
            Kind::Schema => {
                // Only its id: the columns are many.
                let id = payload.strip_prefix(&[0x0a, 16]).and_then(<[u8]>::first_chunk);
                id.map(|id: &[u8; 16]| self.schemas.push((SchemaId(*id), at))).is_some()
            }
            Kind::Record => {
                let Ok(record) = v1::Record::decode(payload) else { return false };
                let (first, first_ms) = match self.sequences {
                    Some((_, last)) if record.sequence != last + 1 => return false,
                    Some((first, _)) => (first, self.boottimes_ms.0),
                    None => (record.sequence, record.boottime_ms),
                };
                self.sequences = Some((first, record.sequence));
                self.boottimes_ms = (first_ms, record.boottime_ms);
                true
            }
            Kind::Boot | Kind::Source => true,
        }
    }
}

/// Looks for whole records from `at` on, at any byte: [`Tail::Corrupt`] with the highest number.
fn after_corruption(reader: &mut Reader, file: &File, mut at: u64, end: u64) -> io::Result<Option<Tail>> {
    let mut highest = None;
    while at < end {
        at = match reader.item(file, at, end)? {
            Item::Whole(kind, payload, next) => {
                if kind == Kind::Record {
                    highest = highest.max(v1::Record::decode(payload).ok().map(|record| record.sequence));
                }
                next
            }
            _ => at + 1,
        };
    }
    Ok(highest.map(Tail::Corrupt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back() {
        assert_eq!(parse_name(&name(7, u64::MAX, 1 << 40)), Some((7, u64::MAX, 1 << 40)));
        for other in ["", "1-2.segment", "1-zz-3.segment", "1-2-3-4.segment", "1-2-3"] {
            assert_eq!(parse_name(other), None);
        }
    }
}
