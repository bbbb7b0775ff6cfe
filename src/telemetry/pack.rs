//! Integers in few bytes: the one way in which chunks and slots keep a list of numbers. Pure.
//!
//! The smallest value and the greatest common divisor are taken out; what remains is packed into
//! equally wide fields or compressed with pco, whichever is smaller. A short list is not given to pco,
//! which looks at eight numbers as long as at hundreds: it becomes fields, of its steps where those are
//! smaller. The count is kept by the caller. What must hold: reading gives exactly what was written, and bytes that are malformed
//! give an error: no panic, and no memory beyond what the caller's count asks for.

use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, ModeSpec, data_types::Number};
use tongtu_protocol::codec::{DecodeError, get_varint, put_varint, unzigzag, zigzag};

/// All values are the same.
const SAME: u8 = 0;
/// Fields of equal width.
const FIELDS: u8 = 1;
/// pco over 32-bit numbers.
const PCO_32: u8 = 2;
/// pco over 64-bit numbers.
const PCO_64: u8 = 3;
/// The first value, then a list of the steps from one value to the next, in one of the forms above.
const STEPS: u8 = 4;
/// Added to the form: the values were divided.
const DIVIDED: u8 = 8;

/// Below this many bytes of fields pco's own header never pays.
const PCO_FROM_BYTES: usize = 40;

/// Lists of fewer values are not given to pco.
const PCO_FROM: usize = 64;
/// What a list of steps needs beside its fields, about.
const STEPS_BITS: usize = 24;

/// Bytes that hold no list of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed")]
pub(super) struct Malformed;

impl From<DecodeError> for Malformed {
    fn from(_: DecodeError) -> Self {
        Self
    }
}

/// Buffers that one writer uses again and again.
#[derive(Debug, Default)]
pub(super) struct Packer {
    offsets: Vec<u64>,
    narrow: Vec<u32>,
    compressed: Vec<u8>,
    steps: Vec<i64>,
}

impl Packer {
    /// Appends `values`.
    pub(super) fn put(&mut self, values: &[i64], out: &mut Vec<u8>) {
        let Some(range) = Range::of(values) else { return };
        if values.len() >= PCO_FROM {
            return self.put_list(values, range, out);
        }
        let mut steps = std::mem::take(&mut self.steps);
        steps.clear();
        steps.extend(values.windows(2).map(|two| two[1].wrapping_sub(two[0])));
        let steps_range = Range::of(&steps);
        let steps_bits = steps_range.map_or(0, |range| steps.len() * range.bits());
        if steps_bits + STEPS_BITS < values.len() * range.bits() {
            out.push(STEPS);
            put_varint(out, zigzag(values[0]));
            if let Some(range) = steps_range {
                self.put_list(&steps, range, out);
            }
        } else {
            self.put_list(values, range, out);
        }
        self.steps = steps;
    }

    fn put_list(&mut self, values: &[i64], Range { min, most }: Range, out: &mut Vec<u8>) {
        self.offsets.clear();
        self.offsets.extend(values.iter().map(|value| value.wrapping_sub(min) as u64));
        let divisor = divisor(&self.offsets);
        if divisor == 0 {
            out.push(SAME);
            put_varint(out, zigzag(min));
            return;
        }
        if divisor > 1 {
            self.offsets.iter_mut().for_each(|offset| *offset /= divisor);
        }
        let max = most / divisor;
        let width = u64::BITS - max.leading_zeros();
        let fields = (values.len() * width as usize).div_ceil(8) + 1;
        let long = values.len() >= PCO_FROM && fields >= PCO_FROM_BYTES;
        let form = if long { self.compress(max) } else { FIELDS };
        let form = if form != FIELDS && self.compressed.len() < fields { form } else { FIELDS };
        out.push(form | if divisor > 1 { DIVIDED } else { 0 });
        put_varint(out, zigzag(min));
        if divisor > 1 {
            put_varint(out, divisor);
        }
        if form == FIELDS {
            out.push(width as u8);
            put_fields(&self.offsets, width, out);
        } else {
            out.extend_from_slice(&self.compressed);
        }
    }

    /// Fills `compressed`, and says in which form.
    fn compress(&mut self, max: u64) -> u8 {
        self.compressed.clear();
        let done = if max <= u64::from(u32::MAX) {
            self.narrow.clear();
            self.narrow.extend(self.offsets.iter().map(|offset| *offset as u32));
            pco_put(&self.narrow, &mut self.compressed).map(|()| PCO_32)
        } else {
            pco_put(&self.offsets, &mut self.compressed).map(|()| PCO_64)
        };
        // What pco does not take stays in fields.
        done.unwrap_or(FIELDS)
    }
}

/// Reads `count` values at `at` into `out`, which is cleared, and moves `at` behind them.
///
/// # Errors
/// Malformed bytes; `out` is then unspecified.
pub(super) fn get(bytes: &[u8], at: &mut usize, count: usize, out: &mut Vec<i64>) -> Result<(), Malformed> {
    if count > 1 && bytes.get(*at) == Some(&STEPS) {
        *at += 1;
        let mut value = unzigzag(get_varint(bytes, at)?);
        get_list(bytes, at, count - 1, out)?;
        // Each step makes room for the value that it begins at.
        for step in out.iter_mut() {
            let next = value.wrapping_add(*step);
            *step = std::mem::replace(&mut value, next);
        }
        out.push(value);
        return Ok(());
    }
    get_list(bytes, at, count, out)
}

fn get_list(bytes: &[u8], at: &mut usize, count: usize, out: &mut Vec<i64>) -> Result<(), Malformed> {
    out.clear();
    if count == 0 {
        return Ok(());
    }
    let form = *bytes.get(*at).ok_or(Malformed)?;
    *at += 1;
    let min = unzigzag(get_varint(bytes, at)?);
    let divisor = if form & DIVIDED == 0 { 1 } else { get_varint(bytes, at)? };
    let restore = |offset: u64| min.wrapping_add(offset.wrapping_mul(divisor) as i64);
    match form & !DIVIDED {
        SAME => out.resize(count, min),
        FIELDS => {
            let width = u32::from(*bytes.get(*at).ok_or(Malformed)?);
            *at += 1;
            let length = count.checked_mul(width as usize).ok_or(Malformed)?.div_ceil(8);
            let end = at.checked_add(length).ok_or(Malformed)?;
            let fields = bytes.get(*at..end).filter(|_| (1..=64).contains(&width));
            get_fields(fields.ok_or(Malformed)?, width, count, |offset| out.push(restore(offset)));
            *at = end;
        }
        PCO_32 => {
            let mut offsets = vec![0u32; count];
            pco_get(bytes, at, &mut offsets)?;
            out.extend(offsets.into_iter().map(|offset| restore(u64::from(offset))));
        }
        PCO_64 => {
            let mut offsets = vec![0u64; count];
            pco_get(bytes, at, &mut offsets)?;
            out.extend(offsets.into_iter().map(restore));
        }
        _ => return Err(Malformed),
    }
    Ok(())
}

/// The smallest value of a list, and how far above it the greatest is.
#[derive(Debug, Clone, Copy)]
struct Range {
    min: i64,
    most: u64,
}

impl Range {
    /// `None`: of nothing.
    fn of(values: &[i64]) -> Option<Self> {
        let first = *values.first()?;
        let (min, max) = values.iter().fold((first, first), |(min, max), value| (min.min(*value), max.max(*value)));
        Some(Self { min, most: max.wrapping_sub(min) as u64 })
    }

    /// What one value needs in fields.
    fn bits(self) -> usize {
        (u64::BITS - self.most.leading_zeros()) as usize
    }
}

/// The greatest common divisor; 0 if all are 0.
fn divisor(offsets: &[u64]) -> u64 {
    let mut divisor = 0;
    for &offset in offsets {
        // Most often the divisor is known by now.
        if divisor == 0 || offset % divisor != 0 {
            divisor = gcd(divisor, offset);
        }
        if divisor == 1 {
            break;
        }
    }
    divisor
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn put_fields(offsets: &[u64], width: u32, out: &mut Vec<u8>) {
    let mut pending = 0u128;
    let mut bits = 0;
    for &offset in offsets {
        pending |= u128::from(offset) << bits;
        bits += width;
        if bits >= u64::BITS {
            out.extend_from_slice(&(pending as u64).to_le_bytes());
            pending >>= u64::BITS;
            bits -= u64::BITS;
        }
    }
    out.extend_from_slice(&(pending as u64).to_le_bytes()[..bits.div_ceil(8) as usize]);
}

/// `fields` holds at least `count` fields of `width` (1..=64) bits.
fn get_fields(fields: &[u8], width: u32, count: usize, mut each: impl FnMut(u64)) {
    let mask = u64::MAX >> (u64::BITS - width);
    let mut pending = 0u128;
    let mut bits = 0;
    let mut bytes = fields.iter();
    for _ in 0..count {
        while bits < width {
            pending |= u128::from(bytes.next().copied().unwrap_or(0)) << bits;
            bits += 8;
        }
        each(pending as u64 & mask);
        pending >>= width;
        bits -= width;
    }
}

fn pco_put<T: Number>(numbers: &[T], out: &mut Vec<u8>) -> pco::errors::PcoResult<()> {
    let config = ChunkConfig::default()
        .with_compression_level(4)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::TryConsecutive(1));
    let file = FileCompressor::default();
    file.write_header(&mut *out)?;
    let mut chunk = file.chunk_compressor(numbers, &config)?;
    chunk.write_meta(&mut *out)?;
    chunk.write_page(0, &mut *out)?;
    Ok(())
}

fn pco_get<T: Number>(bytes: &[u8], at: &mut usize, numbers: &mut [T]) -> Result<(), Malformed> {
    let bytes = bytes.get(*at..).ok_or(Malformed)?;
    let (file, rest) = FileDecompressor::new(bytes).map_err(|_| Malformed)?;
    // Mode and delta encoding, four bits each. Only what is written here is read: other modes
    // have tables whose size the bytes could choose.
    if !matches!(rest.first(), Some(0x00 | 0x10)) {
        return Err(Malformed);
    }
    let (mut chunk, rest) = file.chunk_decompressor::<T, _>(rest).map_err(|_| Malformed)?;
    let mut page = chunk.page_decompressor(rest, numbers.len()).map_err(|_| Malformed)?;
    let progress = page.read(numbers).map_err(|_| Malformed)?;
    if !progress.finished || progress.n_processed != numbers.len() {
        return Err(Malformed);
    }
    *at += bytes.len() - page.into_src().len();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lists() -> impl Strategy<Value = Vec<i64>> {
        let step = prop_oneof![Just(1i64), Just(10), Just(4096), Just(1 << 40)];
        prop_oneof![
            proptest::collection::vec(any::<i64>(), 0..200),
            (any::<i64>(), 0usize..200).prop_map(|(value, count)| vec![value; count]),
            (any::<i64>(), step, proptest::collection::vec(0i64..500, 0..300)).prop_map(|(start, step, moves)| {
                let mut sum = start;
                let grow = |more| {
                    sum = i64::wrapping_add(sum, step.wrapping_mul(more));
                    sum
                };
                moves.into_iter().map(grow).collect()
            }),
            proptest::collection::vec(proptest::sample::select(vec![i64::MIN, -1, 0, i64::MAX]), 0..99),
        ]
    }

    proptest! {
        #[test]
        fn lists_read_back_one_after_another(lists in proptest::collection::vec(lists(), 0..5)) {
            let (mut packer, mut bytes) = (Packer::default(), Vec::new());
            lists.iter().for_each(|list| packer.put(list, &mut bytes));
            let (mut at, mut read) = (0, Vec::new());
            for list in &lists {
                get(&bytes, &mut at, list.len(), &mut read).expect("what was written");
                prop_assert_eq!(&read, list);
            }
            prop_assert_eq!(at, bytes.len());
        }

        #[test]
        fn random_and_broken_bytes_do_not_panic(
            list in lists(),
            noise in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4),
            random in proptest::collection::vec(any::<u8>(), 0..200),
            count in 0usize..400,
        ) {
            let mut out = Vec::new();
            let _ = get(&random, &mut 0, count, &mut out);
            let mut bytes = Vec::new();
            Packer::default().put(&list, &mut bytes);
            for (place, byte) in noise {
                let length = bytes.len().max(1);
                if let Some(at) = bytes.get_mut(usize::from(place) % length) {
                    *at ^= byte;
                }
            }
            let _ = get(&bytes, &mut 0, list.len(), &mut out);
            let _ = get(&bytes, &mut 0, count, &mut out);
        }
    }
}
