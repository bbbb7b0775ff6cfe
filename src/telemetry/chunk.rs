//! The bytes in which the frames of one source, one schema and one span of time are kept for good.
//! Pure.
//!
//! `version (1 byte) · frames · columns · metas · directory · bodies · crc32c (4 bytes)`; numbers
//! are varints, signed ones zig-zag. The directory has a tag for each column, then its constant or
//! the length of its body, so that one column is read without the others. A column is kept as what
//! is smallest: absent, constant, a list of changes, the same changes as an earlier column, or a
//! packed (`pack`) list of its values with runs of validity. Columns of f64 keep their bits.
//!
//! What must hold: reading gives exactly what was written; malformed bytes give an error, no panic,
//! and no memory beyond [`FRAMES`] values at a time.

use super::StoredSchema;
use super::columns::{ByColumn, Columns, FrameMeta};
use super::live::INTERVAL_MOST_MS;
use super::pack::{self, Malformed, Packer};
use std::collections::HashMap;
use std::ops::Range;
use tongtu_protocol::codec::{State, get_varint, put_varint, unzigzag, zigzag};
use tongtu_protocol::limits;

/// Frames that one chunk may hold.
pub const FRAMES: usize = 1 << 16;

const VERSION: u8 = 2;
/// Its frames have no interval.
const VERSION_WITHOUT_INTERVALS: u8 = 1;

const ABSENT: u8 = 0;
const CONSTANT: u8 = 1;
const CHANGES: u8 = 2;
const SAME_CHANGES: u8 = 3;
const PACKED: u8 = 4;
const PACKED_GAPS: u8 = 5;
const FLOATS: u8 = 6;
const FLOATS_GAPS: u8 = 7;

/// A chunk that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Cut or altered.
    #[error("the chunk is truncated or its checksum is wrong")]
    Checksum,
    /// Written by a later program.
    #[error("the chunk has the unknown version {0}")]
    Version(u8),
    /// Inconsistent in itself.
    #[error("the chunk is malformed")]
    Malformed,
    /// A column that it does not have.
    #[error("the chunk has no column {0}")]
    NoColumn(usize),
}

impl From<Malformed> for ChunkError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<tongtu_protocol::codec::DecodeError> for ChunkError {
    fn from(_: tongtu_protocol::codec::DecodeError) -> Self {
        Self::Malformed
    }
}

/// Writes the frames of `columns` into `out`, which is cleared.
///
/// # Panics
/// If there are more than [`FRAMES`] frames, or the schema is another one.
pub fn encode(schema: &StoredSchema, columns: &mut Columns, out: &mut Vec<u8>) {
    let view = columns.by_column();
    assert!(view.frames().len() <= FRAMES, "a chunk holds at most {FRAMES} frames");
    assert_eq!(view.columns(), schema.columns.len(), "the frames are of this schema");
    out.clear();
    out.push(VERSION);
    put_varint(out, view.frames().len() as u64);
    put_varint(out, view.columns() as u64);
    put_metas(view.frames(), out);
    let mut writer = ColumnWriter::default();
    if !view.frames().is_empty() {
        for (column, meaning) in schema.columns.iter().enumerate() {
            writer.put(&view, column, meaning.float);
        }
    }
    out.extend_from_slice(&writer.directory);
    out.extend_from_slice(&writer.bodies);
    let crc = crc32c::crc32c(out);
    out.extend_from_slice(&crc.to_le_bytes());
}

#[derive(Debug, Default)]
struct ColumnWriter {
    directory: Vec<u8>,
    bodies: Vec<u8>,
    packer: Packer,
    values: Vec<i64>,
    gaps: Vec<u8>,
    /// Hash of a column's changes → the columns that have it.
    known: HashMap<u64, usize>,
}

impl ColumnWriter {
    fn put(&mut self, view: &ByColumn<'_>, column: usize, float: bool) {
        let changes = view.changes(column);
        if changes == 0 {
            match view.first(column) {
                None => self.directory.push(ABSENT),
                Some(value) => {
                    self.directory.push(CONSTANT);
                    put_varint(&mut self.directory, zigzag(value));
                }
            }
            return;
        }
        if !float && let Some((of, apart)) = self.same_changes(view, column) {
            self.directory.push(SAME_CHANGES);
            put_varint(&mut self.directory, (column - of) as u64);
            put_varint(&mut self.directory, zigzag(apart));
            return;
        }
        let begin = self.bodies.len();
        let tag = if changes * 8 < view.frames().len() {
            put_changes(view, column, &mut self.bodies);
            CHANGES
        } else {
            self.put_values(view, column, float)
        };
        self.directory.push(tag);
        put_varint(&mut self.directory, (self.bodies.len() - begin) as u64);
    }

    fn put_values(&mut self, view: &ByColumn<'_>, column: usize, float: bool) -> u8 {
        let Self { values, gaps, bodies, packer, .. } = self;
        values.clear();
        gaps.clear();
        // Runs of present and absent values in turn, the first one present.
        let (mut present, mut length, mut absent) = (true, 0, false);
        for run in view.runs(column) {
            if run.value.is_some() != present {
                put_varint(gaps, length as u64);
                (present, length) = (!present, 0);
            }
            length += run.to - run.from;
            match run.value {
                Some(value) => values.resize(values.len() + run.to - run.from, value),
                None => absent = true,
            }
        }
        put_varint(gaps, length as u64);
        if absent {
            bodies.extend_from_slice(gaps);
        }
        match (float, absent) {
            (false, false) => packer.put(values, bodies),
            (false, true) => packer.put(values, bodies),
            (true, _) => put_floats(values, bodies),
        }
        match (float, absent) {
            (false, false) => PACKED,
            (false, true) => PACKED_GAPS,
            (true, false) => FLOATS,
            (true, true) => FLOATS_GAPS,
        }
    }

    /// The earlier column that changes in the same frames by the same amounts, and how far this
    /// one's values are from it.
    fn same_changes(&mut self, view: &ByColumn<'_>, column: usize) -> Option<(usize, i64)> {
        let first = view.first(column)?;
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for run in view.runs(column) {
            let moved = run.value?.wrapping_sub(first) as u64;
            let word = moved ^ (run.from as u64).rotate_right(16);
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        let of = *self.known.entry(hash).or_insert(column);
        let apart = first.wrapping_sub(view.first(of)?);
        let same = of != column
            && view.changes(of) == view.changes(column)
            && view
                .runs(of)
                .zip(view.runs(column))
                .all(|(a, b)| a.from == b.from && a.value.map(|value| value.wrapping_add(apart)) == b.value);
        same.then_some((of, apart))
    }
}

fn put_changes(view: &ByColumn<'_>, column: usize, out: &mut Vec<u8>) {
    // Of each run: its length and whether it is absent; the difference to the last value.
    let mut last = 0i64;
    for run in view.runs(column) {
        let length = (run.to - run.from) as u64;
        put_varint(out, length << 1 | u64::from(run.value.is_none()));
        if let Some(value) = run.value {
            put_varint(out, zigzag(value.wrapping_sub(last)));
            last = value;
        }
    }
}

/// Each value against the one before it, byte by byte, so that what does not change lies together.
fn put_floats(values: &[i64], out: &mut Vec<u8>) {
    let mut planes = vec![0u8; values.len() * 8];
    let mut last = 0;
    for (place, &value) in values.iter().enumerate() {
        for (plane, byte) in (value ^ last).to_be_bytes().into_iter().enumerate() {
            planes[plane * values.len() + place] = byte;
        }
        last = value;
    }
    match zstd::bulk::compress(&planes, 3) {
        Ok(compressed) if compressed.len() < planes.len() => {
            out.push(1);
            out.extend_from_slice(&compressed);
        }
        _ => {
            out.push(0);
            out.extend_from_slice(&planes);
        }
    }
}

fn get_floats(body: &[u8], count: usize) -> Result<Vec<i64>, ChunkError> {
    let (form, body) = body.split_first().ok_or(ChunkError::Malformed)?;
    let inflated;
    let planes = match form {
        0 => body,
        1 => {
            inflated = zstd::bulk::decompress(body, count * 8).map_err(|_| ChunkError::Malformed)?;
            &inflated
        }
        _ => return Err(ChunkError::Malformed),
    };
    if planes.len() != count * 8 {
        return Err(ChunkError::Malformed);
    }
    let mut last = 0;
    let value = |place| {
        let bytes = std::array::from_fn(|plane| planes[plane * count + place]);
        last ^= i64::from_be_bytes(bytes);
        last
    };
    Ok((0..count).map(value).collect())
}

/// Instants and sequences as runs of equal second differences; the rest as runs.
fn put_metas(frames: &[FrameMeta], out: &mut Vec<u8>) {
    put_steps(frames.iter().map(|frame| frame.instant_ms), out);
    put_steps(frames.iter().map(|frame| frame.sequence as i64), out);
    put_runs(frames.iter().map(|frame| frame.epoch), out);
    put_runs(frames.iter().map(|frame| u64::from(frame.boot)), out);
    put_runs(frames.iter().map(|frame| u64::from(frame.uncertain)), out);
    put_runs(frames.iter().map(|frame| u64::from(frame.interval_ms)), out);
}

fn get_metas(bytes: &[u8], at: &mut usize, count: usize, with_intervals: bool) -> Result<Vec<FrameMeta>, Malformed> {
    let empty = FrameMeta { instant_ms: 0, sequence: 0, epoch: 0, boot: 0, uncertain: false, interval_ms: 0 };
    let mut frames = vec![empty; count];
    get_steps(bytes, at, count, |frame, value| frames[frame].instant_ms = value)?;
    get_steps(bytes, at, count, |frame, value| frames[frame].sequence = value as u64)?;
    get_runs(bytes, at, count, |run, value| {
        frames[run].iter_mut().for_each(|frame| frame.epoch = value);
        Ok(())
    })?;
    get_runs(bytes, at, count, |run, value| {
        let boot = u32::try_from(value).map_err(|_| Malformed)?;
        frames[run].iter_mut().for_each(|frame| frame.boot = boot);
        Ok(())
    })?;
    get_runs(bytes, at, count, |run, value| {
        frames[run].iter_mut().for_each(|frame| frame.uncertain = value != 0);
        Ok(())
    })?;
    if with_intervals {
        get_runs(bytes, at, count, |run, value| {
            let interval_ms = u32::try_from(value).ok().filter(|interval| *interval <= INTERVAL_MOST_MS);
            let interval_ms = interval_ms.ok_or(Malformed)?;
            frames[run].iter_mut().for_each(|frame| frame.interval_ms = interval_ms);
            Ok(())
        })?;
    }
    Ok(frames)
}

fn put_steps(values: impl Iterator<Item = i64>, out: &mut Vec<u8>) {
    let (mut last, mut step, mut same) = (0i64, 0i64, 0u64);
    for value in values {
        let next = value.wrapping_sub(last);
        let bend = next.wrapping_sub(step);
        (last, step) = (value, next);
        if bend == 0 {
            same += 1;
            continue;
        }
        if same > 0 {
            put_varint(out, 0);
            put_varint(out, std::mem::take(&mut same));
        }
        put_varint(out, zigzag(bend));
    }
    if same > 0 {
        put_varint(out, 0);
        put_varint(out, same);
    }
}

fn get_steps(bytes: &[u8], at: &mut usize, count: usize, mut each: impl FnMut(usize, i64)) -> Result<(), Malformed> {
    let (mut last, mut step, mut next) = (0i64, 0i64, 0usize);
    while next < count {
        let token = get_varint(bytes, at)?;
        let same = match token {
            0 => usize::try_from(get_varint(bytes, at)?).map_err(|_| Malformed)?,
            bend => {
                step = step.wrapping_add(unzigzag(bend));
                1
            }
        };
        if same == 0 || same > count - next {
            return Err(Malformed);
        }
        for _ in 0..same {
            last = last.wrapping_add(step);
            each(next, last);
            next += 1;
        }
    }
    Ok(())
}

fn put_runs(values: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
    let mut run: Option<(u64, u64)> = None;
    for value in values {
        match &mut run {
            Some((known, length)) if *known == value => *length += 1,
            _ => {
                if let Some((value, length)) = run.replace((value, 1)) {
                    put_varint(out, length);
                    put_varint(out, value);
                }
            }
        }
    }
    if let Some((value, length)) = run {
        put_varint(out, length);
        put_varint(out, value);
    }
}

fn get_runs(
    bytes: &[u8],
    at: &mut usize,
    count: usize,
    mut each: impl FnMut(Range<usize>, u64) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut next = 0;
    while next < count {
        let length = usize::try_from(get_varint(bytes, at)?).map_err(|_| Malformed)?;
        if length == 0 || length > count - next {
            return Err(Malformed);
        }
        each(next..next + length, get_varint(bytes, at)?)?;
        next += length;
    }
    Ok(())
}

/// A chunk, opened: its frames are known, its columns are read one by one.
#[derive(Debug, Clone)]
pub struct Chunk<'a> {
    frames: Vec<FrameMeta>,
    directory: Vec<Entry>,
    bodies: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
enum Entry {
    Absent,
    Constant(i64),
    SameChanges { of: u16, apart: i64 },
    Body { tag: u8, from: u32, to: u32 },
}

impl<'a> Chunk<'a> {
    /// Checks the bytes, reads the frames' metas and the directory.
    ///
    /// # Errors
    /// Bytes that are no chunk.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ChunkError> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(ChunkError::Checksum)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(ChunkError::Checksum);
        }
        let with_intervals = match body.first() {
            Some(&VERSION) => true,
            Some(&VERSION_WITHOUT_INTERVALS) => false,
            Some(&other) => return Err(ChunkError::Version(other)),
            None => return Err(ChunkError::Checksum),
        };
        let mut at = 1;
        let frames = bounded(get_varint(body, &mut at)?, FRAMES)?;
        let columns = bounded(get_varint(body, &mut at)?, limits::COLUMNS)?;
        let frames = get_metas(body, &mut at, frames, with_intervals)?;
        let directory =
            if frames.is_empty() { vec![Entry::Absent; columns] } else { directory(body, &mut at, columns)? };
        let bodies = &body[at..];
        let end = directory.iter().rev().find_map(|entry| match entry {
            Entry::Body { to, .. } => Some(*to as usize),
            _ => None,
        });
        if end.unwrap_or(0) != bodies.len() {
            return Err(ChunkError::Malformed);
        }
        Ok(Self { frames, directory, bodies })
    }

    /// The frames, in order of instant.
    #[must_use]
    pub fn frames(&self) -> &[FrameMeta] {
        &self.frames
    }

    /// How many columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.directory.len()
    }

    /// A column's value in each frame.
    ///
    /// # Errors
    /// A column that is malformed or not there.
    pub fn column(&self, column: usize) -> Result<Vec<Option<i64>>, ChunkError> {
        let count = self.frames.len();
        match *self.directory.get(column).ok_or(ChunkError::NoColumn(column))? {
            Entry::Absent => Ok(vec![None; count]),
            Entry::Constant(value) => Ok(vec![Some(value); count]),
            Entry::SameChanges { of, apart } => {
                let mut values = match self.directory[usize::from(of)] {
                    Entry::Body { tag, from, to } => self.body(tag, from, to)?,
                    _ => return Err(ChunkError::Malformed),
                };
                values.iter_mut().flatten().for_each(|value| *value = value.wrapping_add(apart));
                Ok(values)
            }
            Entry::Body { tag, from, to } => self.body(tag, from, to),
        }
    }

    /// Adds the frames to `columns`, which are of the same schema.
    ///
    /// # Errors
    /// A malformed column; nothing is added then.
    ///
    /// # Panics
    /// If `columns` has another number of columns.
    pub fn append_to(&self, columns: &mut Columns) -> Result<(), ChunkError> {
        self.for_each(|meta, state| columns.push_state(meta, state))
    }

    /// Calls `each` with every frame, in order.
    ///
    /// # Errors
    /// A malformed column; `each` has not been called then.
    pub fn for_each(&self, mut each: impl FnMut(FrameMeta, &State)) -> Result<(), ChunkError> {
        let columns: Vec<_> = (0..self.columns()).map(|column| self.column(column)).collect::<Result<_, _>>()?;
        let mut state = State::zero(self.columns());
        for (frame, meta) in self.frames.iter().enumerate() {
            for (column, values) in columns.iter().enumerate() {
                state.set(column, values[frame]);
            }
            each(*meta, &state);
        }
        Ok(())
    }

    fn body(&self, tag: u8, from: u32, to: u32) -> Result<Vec<Option<i64>>, ChunkError> {
        let body = &self.bodies[from as usize..to as usize];
        let count = self.frames.len();
        match tag {
            CHANGES => changes(body, count),
            PACKED | FLOATS => {
                let values = values(tag == FLOATS, body, count)?;
                Ok(values.into_iter().map(Some).collect())
            }
            PACKED_GAPS | FLOATS_GAPS => {
                let (mut at, mut next, mut present) = (0, 0, true);
                let mut valid = vec![false; count];
                let mut kept = 0;
                while next < count {
                    let length = bounded(get_varint(body, &mut at)?, count - next)?;
                    if present {
                        valid[next..next + length].fill(true);
                        kept += length;
                    } else if length == 0 {
                        return Err(ChunkError::Malformed);
                    }
                    next += length;
                    present = !present;
                }
                let mut values = values(tag == FLOATS_GAPS, &body[at..], kept)?.into_iter();
                Ok(valid.into_iter().map(|valid| valid.then(|| values.next()).flatten()).collect())
            }
            _ => Err(ChunkError::Malformed),
        }
    }
}

fn bounded(value: u64, limit: usize) -> Result<usize, ChunkError> {
    usize::try_from(value).ok().filter(|value| *value <= limit).ok_or(ChunkError::Malformed)
}

fn directory(body: &[u8], at: &mut usize, columns: usize) -> Result<Vec<Entry>, ChunkError> {
    // A column takes a byte of the directory at least.
    if columns > body.len() - *at {
        return Err(ChunkError::Malformed);
    }
    let mut directory = Vec::with_capacity(columns);
    let mut from = 0u32;
    for column in 0..columns {
        let tag = *body.get(*at).ok_or(ChunkError::Malformed)?;
        *at += 1;
        directory.push(match tag {
            ABSENT => Entry::Absent,
            CONSTANT => Entry::Constant(unzigzag(get_varint(body, at)?)),
            SAME_CHANGES => {
                let back = bounded(get_varint(body, at)?, column)?;
                let apart = unzigzag(get_varint(body, at)?);
                // Itself has no body yet, so that it is refused when read.
                Entry::SameChanges { of: (column - back) as u16, apart }
            }
            CHANGES..=FLOATS_GAPS => {
                let length = bounded(get_varint(body, at)?, body.len())? as u32;
                let to = from.checked_add(length).ok_or(ChunkError::Malformed)?;
                Entry::Body { tag, from: std::mem::replace(&mut from, to), to }
            }
            _ => return Err(ChunkError::Malformed),
        });
    }
    Ok(directory)
}

fn values(float: bool, body: &[u8], count: usize) -> Result<Vec<i64>, ChunkError> {
    if float {
        return get_floats(body, count);
    }
    let (mut at, mut values) = (0, Vec::new());
    pack::get(body, &mut at, count, &mut values)?;
    if at == body.len() { Ok(values) } else { Err(ChunkError::Malformed) }
}

fn changes(body: &[u8], count: usize) -> Result<Vec<Option<i64>>, ChunkError> {
    let mut values = Vec::with_capacity(count);
    let (mut at, mut last) = (0, 0i64);
    while values.len() < count {
        let token = get_varint(body, &mut at)?;
        let length = bounded(token >> 1, count - values.len())?;
        if length == 0 {
            return Err(ChunkError::Malformed);
        }
        let value = if token & 1 == 0 {
            last = last.wrapping_add(unzigzag(get_varint(body, &mut at)?));
            Some(last)
        } else {
            None
        };
        values.resize(values.len() + length, value);
    }
    if at == body.len() { Ok(values) } else { Err(ChunkError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::columns::tests::{frames, meta};
    use proptest::prelude::*;
    use tongtu_protocol::schema::SchemaId;
    use tongtu_protocol::v1;

    fn schema(width: usize, floats: u16) -> StoredSchema {
        let column = |column: usize| v1::Column {
            metric: "m".into(),
            resource: column.to_string(),
            float: floats >> (column % 16) & 1 == 1,
            ..Default::default()
        };
        let columns = (0..width).map(column).collect();
        StoredSchema::new(1, SchemaId([0; 16]), columns)
    }

    fn metas() -> impl Strategy<Value = Vec<FrameMeta>> {
        let interval_ms = prop_oneof![Just(0), Just(15_000), 0..=INTERVAL_MOST_MS];
        let wild = (any::<i64>(), any::<u64>(), any::<u64>(), any::<u32>(), any::<bool>(), interval_ms).prop_map(
            |(instant_ms, sequence, epoch, boot, uncertain, interval_ms)| FrameMeta {
                instant_ms,
                sequence,
                epoch,
                boot,
                uncertain,
                interval_ms,
            },
        );
        prop_oneof![
            proptest::collection::vec(wild, 40),
            Just((1..=40).map(meta).collect()),
            proptest::collection::vec(-3i64..4, 40).prop_map(|jitter| {
                let mut frames: Vec<_> = (1..=40).map(meta).collect();
                frames.iter_mut().zip(jitter).for_each(|(frame, late)| frame.instant_ms += late);
                frames
            }),
        ]
    }

    fn build(rows: &[Vec<Option<i64>>], metas: &[FrameMeta]) -> Columns {
        let mut columns = Columns::new(rows.first().map_or(0, Vec::len));
        for (row, meta) in rows.iter().zip(metas) {
            columns.push_state(*meta, &State::from_values(row));
        }
        columns
    }

    proptest! {
        #[test]
        fn a_chunk_reads_back(rows in frames(), metas in metas(), floats in any::<u16>()) {
            let schema = schema(rows.first().map_or(0, Vec::len), floats);
            let mut columns = build(&rows, &metas);
            let mut bytes = Vec::new();
            encode(&schema, &mut columns, &mut bytes);
            let chunk = Chunk::open(&bytes).expect("a chunk");
            prop_assert_eq!(chunk.frames(), columns.frames());
            prop_assert_eq!(chunk.columns(), schema.columns.len());
            for column in 0..chunk.columns() {
                let expected: Vec<_> = rows.iter().map(|row| row[column]).collect();
                prop_assert_eq!(chunk.column(column).expect("a column"), expected);
            }
            prop_assert_eq!(chunk.column(chunk.columns()), Err(ChunkError::NoColumn(chunk.columns())));
            let mut again = Columns::new(chunk.columns());
            chunk.append_to(&mut again).expect("every column");
            let mut second = Vec::new();
            encode(&schema, &mut again, &mut second);
            prop_assert_eq!(second, bytes);
        }

        #[test]
        fn floats_keep_every_bit(values in proptest::collection::vec(any::<u64>(), 1..200)) {
            let values: Vec<_> = values.into_iter().map(|bits| vec![Some(bits as i64)]).collect();
            let metas: Vec<_> = (1..=200).map(meta).collect();
            let mut bytes = Vec::new();
            encode(&schema(1, 1), &mut build(&values, &metas), &mut bytes);
            let read = Chunk::open(&bytes).expect("a chunk").column(0).expect("a column");
            prop_assert_eq!(read, values.concat());
        }

        #[test]
        fn what_is_broken_is_an_error(
            rows in frames(),
            floats in any::<u16>(),
            noise in proptest::collection::vec((any::<u16>(), 1u8..), 1..4),
            random in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(Chunk::open(&random).is_err());
            let schema = schema(rows.first().map_or(0, Vec::len), floats);
            let metas: Vec<_> = (1..=40).map(meta).collect();
            let mut bytes = Vec::new();
            encode(&schema, &mut build(&rows, &metas), &mut bytes);
            prop_assert!(Chunk::open(&bytes[..bytes.len() - 1]).is_err());
            let length = bytes.len() - 4;
            for (place, byte) in noise {
                bytes[usize::from(place) % length] ^= byte;
            }
            // Even where the checksum is right, as a careless writer would make it.
            for mut broken in [bytes[..length].to_vec(), [&[VERSION][..], &random].concat()] {
                let crc = crc32c::crc32c(&broken);
                broken.extend_from_slice(&crc.to_le_bytes());
                if let Ok(chunk) = Chunk::open(&broken) {
                    for column in 0..chunk.columns() {
                        let _ = chunk.column(column);
                    }
                }
            }
        }
    }

    #[test]
    fn a_chunk_without_intervals_is_read() {
        // As it was written before intervals were.
        let stored = "010503b09a85c59868ffaf83c598680003020004054d05010500040605050407\
                      09140a038846020102000e01020560a087013d79f0d8";
        let bytes = crate::telemetry::tests::bytes(stored);
        let chunk = Chunk::open(&bytes).expect("a chunk");
        let metas: Vec<_> = (1..=5).map(|number| FrameMeta { interval_ms: 0, ..meta(number) }).collect();
        assert_eq!(chunk.frames(), metas);
        let columns: Vec<_> = (0..3).map(|column| chunk.column(column).expect("a column")).collect();
        let [tens, sevens, squares] = &columns[..] else { panic!("three columns") };
        assert_eq!(tens, &[10, 20, 30, 40, 50].map(Some));
        assert_eq!(sevens, &[Some(7), Some(7), None, Some(7), Some(7)]);
        assert_eq!(squares, &[1, 4, 9, 16, 25].map(Some));
        // Its frames have the interval that is known of the source: each 15 s after the one before.
        for (interval_ms, covered_ms) in [(15_000, 60_000), (5_000, 0)] {
            let mut frames = Columns::new(3);
            chunk.append_to(&mut frames).expect("every column");
            let slots = crate::telemetry::slot::make(&schema(3, 0), None, &mut frames, interval_ms, 300_000);
            let covered = slots.expect("frames").frames.iter().map(|slot| slot.covered_ms).sum::<u32>();
            assert_eq!(covered, covered_ms);
        }
    }

    #[test]
    fn columns_that_move_together_cost_a_few_bytes() {
        let rows: Vec<_> = (0..40i64)
            .map(|frame| {
                let moved = frame * frame * 7919 % 10_007;
                vec![Some(moved), Some(moved + 1_000_000), Some(5), None]
            })
            .collect();
        let metas: Vec<_> = (1..=40).map(meta).collect();
        let size = |width: usize| {
            let rows: Vec<_> = rows.iter().map(|row| row[..width].to_vec()).collect();
            let mut bytes = Vec::new();
            encode(&schema(width, 0), &mut build(&rows, &metas), &mut bytes);
            bytes.len()
        };
        assert!(size(2) - size(1) <= 6, "{} and {}", size(1), size(2));
        assert_eq!(size(4) - size(2), 3);
    }
}
