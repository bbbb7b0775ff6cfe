//! The bytes of a [`SlotBlock`]: a directory, so that one column is read without the others. Pure.
//!
//! `version (1 byte) · schema · width · first slot · slots · first column · columns · frames ·
//! directory · bodies · crc32c (4 bytes)`; numbers are varints, lists are packed (`pack`).
//! What a column shares with the frames (coverage, number of samples, reboots) is kept as the few
//! slots in which it differs; a gauge's sum as what it exceeds the least sample times the count.
//!
//! What must hold: reading gives exactly what was written; malformed bytes give an error, no panic,
//! and no memory beyond [`SLOTS`] values at a time.

use super::pack::{self, Malformed, Packer};
use super::slot::{ColumnSlots, CounterSlot, FrameSlot, GaugeSlot, SlotBlock};
use crate::platform::clock::UnixMs;
use std::ops::Range;
use tongtu_protocol::codec::{DecodeError, get_varint, put_varint, unzigzag, zigzag};
use tongtu_protocol::limits;

/// Slots that one block may hold.
pub const SLOTS: usize = 1 << 16;

const VERSION: u8 = 1;
const EMPTY: u8 = 0;
const COUNTER: u8 = 1;
const GAUGE: u8 = 2;
const KIND: u8 = 3;
/// The covered time is not that of the frames.
const COVERED: u8 = 4;
/// Of a counter: its resets are not the reboots, or something was dropped. Of a gauge: it has not
/// as many samples as there are frames.
const COUNTS: u8 = 8;
/// Of a counter: it did not move. Of a gauge: no slot has two different samples.
const STILL: u8 = 16;
/// Of a gauge: sums that need 128 bits.
const WIDE: u8 = 32;

/// A block that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// Cut or altered.
    #[error("the slot block is truncated or its checksum is wrong")]
    Checksum,
    /// Written by a later program.
    #[error("the slot block has the unknown version {0}")]
    Version(u8),
    /// Inconsistent in itself.
    #[error("the slot block is malformed")]
    Malformed,
    /// A column that it does not have.
    #[error("the slot block has no column {0}")]
    NoColumn(usize),
}

impl From<Malformed> for SlotError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<DecodeError> for SlotError {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

impl SlotBlock {
    /// The block's bytes.
    ///
    /// # Panics
    /// If there are more than [`SLOTS`] slots.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.frames.len() <= SLOTS, "a block holds at most {SLOTS} slots");
        let mut out = vec![VERSION];
        put_varint(&mut out, self.schema as u64);
        put_varint(&mut out, self.slot_ms as u64);
        put_varint(&mut out, zigzag(self.first_ms.div_euclid(self.slot_ms)));
        for count in [self.frames.len(), self.first_column, self.columns.len()] {
            put_varint(&mut out, count as u64);
        }
        let mut writer = Writer::new(&self.frames);
        let (mut head, mut directory) = (Vec::new(), Vec::new());
        for field in
            [|slot: &FrameSlot| slot.count, |slot: &FrameSlot| slot.covered_ms, |slot: &FrameSlot| slot.reboots]
        {
            let list: Vec<_> = self.frames.iter().map(|slot| i64::from(field(slot))).collect();
            writer.packer.put(&list, &mut head);
        }
        for column in &self.columns {
            let begin = writer.bodies.len();
            let tag = match column {
                ColumnSlots::Empty => EMPTY,
                ColumnSlots::Counter(slots) => writer.counter(slots),
                ColumnSlots::Gauge(slots) => writer.gauge(slots),
            };
            directory.push(tag);
            if tag != EMPTY {
                put_varint(&mut directory, (writer.bodies.len() - begin) as u64);
            }
        }
        out.extend_from_slice(&head);
        out.extend_from_slice(&directory);
        out.extend_from_slice(&writer.bodies);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }
}

struct Writer<'a> {
    frames: &'a [FrameSlot],
    bodies: Vec<u8>,
    packer: Packer,
    /// Used again and again.
    lists: Lists,
}

#[derive(Debug, Default)]
struct Lists {
    /// Deltas of a counter, or the lower halves of what a gauge's sums exceed.
    numbers: Vec<i64>,
    least: Vec<i64>,
    spread: Vec<i64>,
    excess: Vec<u128>,
    apart: Vec<i64>,
}

impl<'a> Writer<'a> {
    fn new(frames: &'a [FrameSlot]) -> Self {
        Self { frames, bodies: Vec::new(), packer: Packer::default(), lists: Lists::default() }
    }

    fn counter(&mut self, slots: &[CounterSlot]) -> u8 {
        let mut tag = COUNTER;
        tag |= self.differences(COVERED, slots, |slot| slot.covered_ms, |frame| frame.covered_ms);
        let resets = |slot: &CounterSlot| slot.resets;
        let different = slots.iter().zip(self.frames);
        if different.clone().any(|(slot, frame)| slot.resets != frame.reboots || slot.dropped != 0) {
            tag |= COUNTS;
            self.list(slots, resets, |frame| frame.reboots);
            self.list(slots, |slot| slot.dropped, |_| 0);
        }
        if slots.iter().all(|slot| slot.delta == 0) {
            return tag | STILL;
        }
        let deltas = &mut self.lists.numbers;
        deltas.clear();
        deltas.extend(slots.iter().map(|slot| slot.delta as i64));
        self.packer.put(deltas, &mut self.bodies);
        tag
    }

    fn gauge(&mut self, slots: &[GaugeSlot]) -> u8 {
        let mut tag = GAUGE;
        tag |= self.differences(COVERED, slots, |slot| slot.covered_ms, |frame| frame.covered_ms);
        tag |= self.differences(COUNTS, slots, |slot| slot.count, |frame| frame.count);
        // A slot without samples looks like the one before it.
        let mut last = slots.iter().find(|slot| slot.count > 0).map_or(0, |slot| slot.min);
        let Self { bodies, packer, lists: Lists { numbers, least, spread, excess, .. }, .. } = self;
        least.clear();
        spread.clear();
        excess.clear();
        for slot in slots {
            if slot.count == 0 {
                least.push(last);
                spread.push(0);
                excess.push(0u128);
                continue;
            }
            last = slot.min;
            least.push(slot.min);
            spread.push(slot.max.wrapping_sub(slot.min));
            excess.push((slot.sum - i128::from(slot.min) * i128::from(slot.count)) as u128);
        }
        packer.put(least, bodies);
        if spread.iter().all(|spread| *spread == 0) {
            return tag | STILL;
        }
        packer.put(spread, bodies);
        numbers.clear();
        numbers.extend(excess.iter().map(|excess| *excess as i64));
        packer.put(numbers, bodies);
        if excess.iter().any(|excess| *excess > u128::from(u64::MAX)) {
            tag |= WIDE;
            numbers.clear();
            numbers.extend(excess.iter().map(|excess| (*excess >> 64) as i64));
            packer.put(numbers, bodies);
        }
        tag
    }

    fn differences<T>(
        &mut self,
        flag: u8,
        slots: &[T],
        mine: impl Fn(&T) -> u32,
        frame: impl Fn(&FrameSlot) -> u32,
    ) -> u8 {
        if slots.iter().zip(self.frames).all(|(slot, other)| mine(slot) == frame(other)) {
            return 0;
        }
        self.list(slots, mine, frame);
        flag
    }

    /// What lies between the frames and this column: the slots in which there is something, or all.
    fn list<T>(&mut self, slots: &[T], mine: impl Fn(&T) -> u32, frame: impl Fn(&FrameSlot) -> u32) {
        let Self { frames, bodies, packer, lists: Lists { apart, .. } } = self;
        apart.clear();
        let both = slots.iter().zip(*frames);
        apart.extend(both.map(|(slot, other)| i64::from(frame(other)) - i64::from(mine(slot))));
        let exceptions = apart.iter().filter(|apart| **apart != 0).count();
        if exceptions * 4 > apart.len() {
            put_varint(bodies, apart.len() as u64 + 1);
            packer.put(apart, bodies);
            return;
        }
        put_varint(bodies, exceptions as u64);
        let mut next = 0;
        for (slot, apart) in apart.iter().enumerate().filter(|(_, apart)| **apart != 0) {
            put_varint(bodies, (slot - next) as u64);
            put_varint(bodies, zigzag(*apart));
            next = slot + 1;
        }
    }
}

/// A block, opened: its columns are read one by one.
#[derive(Debug, Clone)]
pub struct SlotBlockView<'a> {
    schema: i64,
    slot_ms: i64,
    first_ms: UnixMs,
    frames: Vec<FrameSlot>,
    first_column: usize,
    /// Tag and place of each column.
    directory: Vec<(u8, u32, u32)>,
    bodies: &'a [u8],
}

impl<'a> SlotBlockView<'a> {
    /// Checks the bytes, reads the frames and the directory.
    ///
    /// # Errors
    /// Bytes that are no block.
    pub fn open(bytes: &'a [u8]) -> Result<Self, SlotError> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(SlotError::Checksum)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(SlotError::Checksum);
        }
        match body.first() {
            Some(&VERSION) => {}
            Some(&other) => return Err(SlotError::Version(other)),
            None => return Err(SlotError::Checksum),
        }
        let mut at = 1;
        let schema = get_varint(body, &mut at)? as i64;
        let slot_ms = i64::try_from(get_varint(body, &mut at)?).map_err(|_| SlotError::Malformed)?;
        let first = unzigzag(get_varint(body, &mut at)?);
        let slots = bounded(get_varint(body, &mut at)?, SLOTS)?;
        let first_column = bounded(get_varint(body, &mut at)?, limits::COLUMNS)?;
        let columns = bounded(get_varint(body, &mut at)?, limits::COLUMNS)?;
        let first_ms = first.checked_mul(slot_ms).ok_or(SlotError::Malformed)?;
        let end = slot_ms.checked_mul(slots as i64).and_then(|width| first_ms.checked_add(width));
        // A column takes a byte of the directory at least.
        if slot_ms == 0 || end.is_none() || columns > body.len() - at {
            return Err(SlotError::Malformed);
        }
        let mut frames = vec![FrameSlot::default(); slots];
        let mut list = Vec::new();
        for field in [
            |slot: &mut FrameSlot, value| slot.count = value,
            |slot: &mut FrameSlot, value| slot.covered_ms = value,
            |slot: &mut FrameSlot, value| slot.reboots = value,
        ] {
            pack::get(body, &mut at, slots, &mut list)?;
            for (slot, value) in frames.iter_mut().zip(&list) {
                field(slot, u32::try_from(*value).map_err(|_| SlotError::Malformed)?);
            }
        }
        let mut directory = Vec::with_capacity(columns);
        let mut from = 0u32;
        for _ in 0..columns {
            let tag = *body.get(at).ok_or(SlotError::Malformed)?;
            at += 1;
            let length = match tag & KIND {
                EMPTY => 0,
                COUNTER | GAUGE => bounded(get_varint(body, &mut at)?, body.len())? as u32,
                _ => return Err(SlotError::Malformed),
            };
            let to = from.checked_add(length).ok_or(SlotError::Malformed)?;
            directory.push((tag, std::mem::replace(&mut from, to), to));
        }
        let bodies = &body[at..];
        if from as usize != bodies.len() {
            return Err(SlotError::Malformed);
        }
        Ok(Self { schema, slot_ms, first_ms, frames, first_column, directory, bodies })
    }

    /// [`StoredSchema::number`](super::StoredSchema::number).
    #[must_use]
    pub fn schema(&self) -> i64 {
        self.schema
    }

    /// Width of a slot.
    #[must_use]
    pub fn slot_ms(&self) -> i64 {
        self.slot_ms
    }

    /// Begin of the first slot.
    #[must_use]
    pub fn first_ms(&self) -> UnixMs {
        self.first_ms
    }

    /// The begin of the slot behind the last.
    #[must_use]
    pub fn end_ms(&self) -> UnixMs {
        self.first_ms + self.frames.len() as i64 * self.slot_ms
    }

    /// The frames, slot by slot.
    #[must_use]
    pub fn frames(&self) -> &[FrameSlot] {
        &self.frames
    }

    /// The columns that are here.
    #[must_use]
    pub fn columns(&self) -> Range<usize> {
        self.first_column..self.first_column + self.directory.len()
    }

    /// The slots of one column, by its place in the schema.
    ///
    /// # Errors
    /// A column that is malformed or not here.
    pub fn column(&self, column: usize) -> Result<ColumnSlots, SlotError> {
        let place = column.checked_sub(self.first_column);
        let entry = place.and_then(|place| self.directory.get(place));
        let &(tag, from, to) = entry.ok_or(SlotError::NoColumn(column))?;
        let mut reader = Reader { body: &self.bodies[from as usize..to as usize], at: 0, frames: &self.frames };
        let slots = match tag & KIND {
            EMPTY => ColumnSlots::Empty,
            COUNTER => ColumnSlots::Counter(reader.counter(tag)?),
            _ => ColumnSlots::Gauge(reader.gauge(tag)?),
        };
        if reader.at == reader.body.len() { Ok(slots) } else { Err(SlotError::Malformed) }
    }

    /// Some of the columns as a block.
    ///
    /// # Errors
    /// A column that is malformed or not here.
    pub fn block(&self, columns: Range<usize>) -> Result<SlotBlock, SlotError> {
        Ok(SlotBlock {
            schema: self.schema,
            slot_ms: self.slot_ms,
            first_ms: self.first_ms,
            frames: self.frames.clone(),
            first_column: columns.start,
            columns: columns.map(|column| self.column(column)).collect::<Result<_, _>>()?,
        })
    }
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
    frames: &'a [FrameSlot],
}

impl Reader<'_> {
    fn counter(&mut self, tag: u8) -> Result<Vec<CounterSlot>, SlotError> {
        let full = |frame: &FrameSlot| CounterSlot {
            covered_ms: frame.covered_ms,
            resets: frame.reboots,
            ..Default::default()
        };
        let mut slots: Vec<_> = self.frames.iter().map(full).collect();
        if tag & COVERED != 0 {
            self.list(|slot, apart| subtract(&mut slots[slot].covered_ms, apart))?;
        }
        if tag & COUNTS != 0 {
            self.list(|slot, apart| subtract(&mut slots[slot].resets, apart))?;
            self.list(|slot, apart| subtract(&mut slots[slot].dropped, apart))?;
        }
        if tag & STILL == 0 {
            let deltas = self.packed()?;
            slots.iter_mut().zip(deltas).for_each(|(slot, delta)| slot.delta = delta as u64);
        }
        Ok(slots)
    }

    fn gauge(&mut self, tag: u8) -> Result<Vec<GaugeSlot>, SlotError> {
        let full =
            |frame: &FrameSlot| GaugeSlot { covered_ms: frame.covered_ms, count: frame.count, ..Default::default() };
        let mut slots: Vec<_> = self.frames.iter().map(full).collect();
        if tag & COVERED != 0 {
            self.list(|slot, apart| subtract(&mut slots[slot].covered_ms, apart))?;
        }
        if tag & COUNTS != 0 {
            self.list(|slot, apart| subtract(&mut slots[slot].count, apart))?;
        }
        let least = self.packed()?;
        let (spread, low, high) = match (tag & STILL != 0, tag & WIDE != 0) {
            (true, _) => (Vec::new(), Vec::new(), Vec::new()),
            (false, false) => (self.packed()?, self.packed()?, Vec::new()),
            (false, true) => (self.packed()?, self.packed()?, self.packed()?),
        };
        let at = |list: &[i64], place: usize| list.get(place).copied().unwrap_or(0);
        for (place, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| slot.count > 0) {
            let excess = i128::from(at(&high, place)) << 64 | i128::from(at(&low, place) as u64);
            slot.min = least[place];
            slot.max = slot.min.wrapping_add(at(&spread, place));
            slot.sum = (i128::from(slot.min) * i128::from(slot.count)).wrapping_add(excess);
        }
        Ok(slots)
    }

    fn packed(&mut self) -> Result<Vec<i64>, SlotError> {
        let mut list = Vec::new();
        pack::get(self.body, &mut self.at, self.frames.len(), &mut list)?;
        Ok(list)
    }

    fn list(&mut self, mut each: impl FnMut(usize, i64) -> Result<(), SlotError>) -> Result<(), SlotError> {
        let count = bounded(get_varint(self.body, &mut self.at)?, self.frames.len() + 1)?;
        if count == self.frames.len() + 1 {
            let apart = self.packed()?;
            return apart.into_iter().enumerate().try_for_each(|(slot, apart)| each(slot, apart));
        }
        let mut next = 0;
        for _ in 0..count {
            let slot = next + bounded(get_varint(self.body, &mut self.at)?, self.frames.len())?;
            if slot >= self.frames.len() {
                return Err(SlotError::Malformed);
            }
            each(slot, unzigzag(get_varint(self.body, &mut self.at)?))?;
            next = slot + 1;
        }
        Ok(())
    }
}

fn subtract(value: &mut u32, apart: i64) -> Result<(), SlotError> {
    let rest = i64::from(*value).checked_sub(apart).and_then(|rest| u32::try_from(rest).ok());
    *value = rest.ok_or(SlotError::Malformed)?;
    Ok(())
}

fn bounded(value: u64, limit: usize) -> Result<usize, SlotError> {
    usize::try_from(value).ok().filter(|value| *value <= limit).ok_or(SlotError::Malformed)
}
