//! The bytes of one batch: every record of one group commit. Pure.
//!
//! `version (1 byte) · entries · crc32c (4 bytes, little endian, of all before)`. An entry begins
//! with a tag byte; numbers are varints, signed ones zig-zag.

use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, SourceId};
use std::ops::Range;
use tongtu_protocol::codec::{DecodeError, get_varint, put_varint, unzigzag, zigzag};

const VERSION: u8 = 2;
/// Its frames have no interval.
const VERSION_WITHOUT_INTERVALS: u8 = 1;
/// Bytes before the first entry.
pub(super) const HEADER_BYTES: usize = 1;
const FRAME_WITHOUT_INTERVAL: u8 = 1;
const FRAME_WITHOUT_INTERVAL_UNCERTAIN: u8 = 2;
const SETTLED: u8 = 3;
/// A frame's tag: this, the mark of its uncertain instant, and its interval if that is of 1 to 63
/// whole seconds, else 0, and the interval in milliseconds follows.
const FRAME: u8 = 0x80;
const UNCERTAIN: u8 = 0x40;
const SECONDS: u8 = 0x3f;

/// One record's place in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    Frame(FrameEntry<'a>),
    Settled(SettledEntry),
}

/// A frame: a delta to `base_sequence` of the same source, epoch and window, or a keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameEntry<'a> {
    pub agent: AgentId,
    pub epoch: u64,
    pub source: SourceId,
    pub schema: i64,
    pub boot: u32,
    pub sequence: u64,
    /// 0: keyframe.
    pub base_sequence: u64,
    pub instant_ms: UnixMs,
    pub uncertain: bool,
    /// 0: not stored.
    pub interval_ms: u32,
    pub body: &'a [u8],
}

/// Sequences that are settled and hold no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SettledEntry {
    pub agent: AgentId,
    pub epoch: u64,
    pub first: u64,
    pub last: u64,
    pub outcome: Outcome,
}

/// How a record was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    Accepted,
    Refused,
    Lost,
}

/// A batch that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BatchError {
    #[error("the batch is truncated or its checksum is wrong")]
    Checksum,
    #[error("the batch has the unknown version {0}")]
    Version(u8),
    #[error("the batch holds a malformed entry")]
    Malformed,
}

impl From<DecodeError> for BatchError {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

/// Begins a batch.
pub(super) fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSION);
}

/// Appends a frame.
pub(super) fn put_frame(out: &mut Vec<u8>, frame: &FrameEntry<'_>) {
    let seconds = frame.interval_ms.is_multiple_of(1_000).then_some(frame.interval_ms / 1_000);
    let seconds = seconds.filter(|seconds| *seconds <= u32::from(SECONDS)).unwrap_or(0) as u8;
    out.push(FRAME | if frame.uncertain { UNCERTAIN } else { 0 } | seconds);
    if seconds == 0 {
        put_varint(out, u64::from(frame.interval_ms));
    }
    put_varint(out, frame.agent.0 as u64);
    out.extend_from_slice(&frame.epoch.to_le_bytes());
    put_varint(out, frame.source.0 as u64);
    put_varint(out, frame.schema as u64);
    put_varint(out, u64::from(frame.boot));
    put_varint(out, frame.sequence);
    put_varint(
        out,
        match frame.base_sequence {
            0 => 0,
            base => frame.sequence - base,
        },
    );
    put_varint(out, zigzag(frame.instant_ms));
    put_varint(out, frame.body.len() as u64);
    out.extend_from_slice(frame.body);
}

/// Appends settled sequences.
pub(super) fn put_settled(out: &mut Vec<u8>, settled: &SettledEntry) {
    out.push(SETTLED);
    put_varint(out, settled.agent.0 as u64);
    out.extend_from_slice(&settled.epoch.to_le_bytes());
    put_varint(out, settled.first);
    put_varint(out, settled.last - settled.first);
    out.push(match settled.outcome {
        Outcome::Accepted => 0,
        Outcome::Refused => 1,
        Outcome::Lost => 2,
    });
}

/// Ends a batch.
pub(super) fn finish(out: &mut Vec<u8>) {
    let crc = crc32c::crc32c(out);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// The entries of a batch, each with its place in the bytes.
///
/// # Errors
/// A wrong checksum or version; the iterator itself yields malformed entries as errors.
pub(super) fn entries(
    bytes: &[u8],
) -> Result<impl Iterator<Item = Result<(Range<usize>, Entry<'_>), BatchError>>, BatchError> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(BatchError::Checksum)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(BatchError::Checksum);
    }
    match body.first() {
        Some(&(VERSION | VERSION_WITHOUT_INTERVALS)) => {}
        Some(&other) => return Err(BatchError::Version(other)),
        None => return Err(BatchError::Checksum),
    }
    let mut at = HEADER_BYTES;
    Ok(std::iter::from_fn(move || {
        (at < body.len()).then(|| {
            let begin = at;
            let entry = entry(body, &mut at);
            if entry.is_err() {
                at = body.len();
            }
            Ok((begin..at, entry?))
        })
    }))
}

/// One entry, cut out of its batch by its place.
pub(super) fn single(bytes: &[u8]) -> Result<Entry<'_>, BatchError> {
    let mut at = 0;
    let entry = entry(bytes, &mut at)?;
    if at == bytes.len() { Ok(entry) } else { Err(BatchError::Malformed) }
}

fn entry<'a>(body: &'a [u8], at: &mut usize) -> Result<Entry<'a>, BatchError> {
    let tag = *body.get(*at).ok_or(BatchError::Malformed)?;
    *at += 1;
    let is_timed = tag & FRAME != 0;
    let interval_ms = match tag & SECONDS {
        0 if is_timed => u32::try_from(get_varint(body, at)?).map_err(|_| BatchError::Malformed)?,
        seconds => u32::from(seconds) * 1_000,
    };
    let agent = AgentId(get_varint(body, at)? as i64);
    let epoch = body.get(*at..*at + 8).and_then(|bytes| bytes.try_into().ok());
    let epoch = u64::from_le_bytes(epoch.ok_or(BatchError::Malformed)?);
    *at += 8;
    match tag {
        _ if is_timed || matches!(tag, FRAME_WITHOUT_INTERVAL | FRAME_WITHOUT_INTERVAL_UNCERTAIN) => {
            let source = SourceId(get_varint(body, at)? as i64);
            let schema = get_varint(body, at)? as i64;
            let boot = get_varint(body, at)? as u32;
            let sequence = get_varint(body, at)?;
            let base_sequence = match get_varint(body, at)? {
                0 => 0,
                back => sequence.checked_sub(back).ok_or(BatchError::Malformed)?,
            };
            let instant_ms = unzigzag(get_varint(body, at)?);
            let length = get_varint(body, at)? as usize;
            let end = at.checked_add(length).ok_or(BatchError::Malformed)?;
            let frame = body.get(*at..end).ok_or(BatchError::Malformed)?;
            *at = end;
            Ok(Entry::Frame(FrameEntry {
                agent,
                epoch,
                source,
                schema,
                boot,
                sequence,
                base_sequence,
                instant_ms,
                uncertain: if is_timed { tag & UNCERTAIN != 0 } else { tag == FRAME_WITHOUT_INTERVAL_UNCERTAIN },
                interval_ms: if is_timed { interval_ms } else { 0 },
                body: frame,
            }))
        }
        SETTLED => {
            let first = get_varint(body, at)?;
            let last = first.checked_add(get_varint(body, at)?).ok_or(BatchError::Malformed)?;
            let outcome = match body.get(*at) {
                Some(0) => Outcome::Accepted,
                Some(1) => Outcome::Refused,
                Some(2) => Outcome::Lost,
                _ => return Err(BatchError::Malformed),
            };
            *at += 1;
            Ok(Entry::Settled(SettledEntry { agent, epoch, first, last, outcome }))
        }
        _ => Err(BatchError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<u8>, [Entry<'static>; 2]) {
        let frame = FrameEntry {
            agent: AgentId(7),
            epoch: u64::MAX - 3,
            source: SourceId(300),
            schema: 2,
            boot: 9,
            sequence: 1_000,
            base_sequence: 998,
            instant_ms: 1_790_000_000_123,
            uncertain: true,
            interval_ms: 15_000,
            body: b"frame body",
        };
        let settled = SettledEntry { agent: AgentId(7), epoch: 1, first: 5, last: 9, outcome: Outcome::Lost };
        let mut out = Vec::new();
        begin(&mut out);
        put_frame(&mut out, &frame);
        put_settled(&mut out, &settled);
        finish(&mut out);
        (out, [Entry::Frame(frame), Entry::Settled(settled)])
    }

    #[test]
    fn a_batch_reads_back() {
        let (bytes, expected) = sample();
        let read: Vec<_> = entries(&bytes).expect("a batch").map(|e| e.expect("an entry")).collect();
        assert_eq!(read.iter().map(|(_, entry)| *entry).collect::<Vec<_>>(), expected);
        for (place, entry) in read {
            assert_eq!(single(&bytes[place]), Ok(entry));
        }
    }

    #[test]
    fn a_batch_without_intervals_is_read() {
        // As it was written before intervals were.
        let stored =
            "010207fcffffffffffffffac020209e80702f6b183c598680a6672616d6520626f647903070100000000000000050402908bdf46";
        let bytes = crate::telemetry::tests::bytes(stored);
        let (now, [Entry::Frame(frame), settled]) = sample() else { panic!("a frame") };
        let read: Vec<_> = entries(&bytes).expect("a batch").map(|e| e.expect("an entry").1).collect();
        assert_eq!(read, [Entry::Frame(FrameEntry { interval_ms: 0, ..frame }), settled]);
        assert_eq!(now.len(), bytes.len(), "the usual intervals take no room");
    }

    #[test]
    fn a_frame_keeps_every_interval() {
        let (_, [Entry::Frame(frame), _]) = sample() else { panic!("a frame") };
        for interval_ms in [0, 100, 1_000, 1_001, 15_000, 60_000, 63_000, 64_000, 3_600_000] {
            for uncertain in [false, true] {
                let frame = FrameEntry { interval_ms, uncertain, ..frame };
                let mut out = Vec::new();
                put_frame(&mut out, &frame);
                assert_eq!(single(&out), Ok(Entry::Frame(frame)));
            }
        }
    }

    #[test]
    fn a_flipped_bit_or_a_cut_is_noticed() {
        let (bytes, _) = sample();
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x10;
            assert!(entries(&broken).is_err(), "bit of byte {at}");
            assert!(entries(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
