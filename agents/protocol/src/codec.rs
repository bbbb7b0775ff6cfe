//! The frame codec: one instant's values of all columns as a delta to a base.
//!
//! A body is a run of LEB128 varint tokens that cover the columns from first to last:
//!
//! | token | meaning |
//! |---|---|
//! | `zigzag(delta) << 1` | the next column changed by `delta` (1 ≤ \|delta\| < 2^61) |
//! | `run << 1 \| 1`, run ≥ 1 | the next `run` columns are as in the base |
//! | `1`, then `0` | the next column is absent now |
//! | `1`, then `1`, then 8 bytes little endian | the next column has this value (it was absent and is 0, or the delta is large) |
//!
//! Columns after the last token are as in the base. A keyframe's base is [`State::zero`]: every
//! column present and 0. A column that is absent in the base and in the frame counts as unchanged;
//! its last value is kept as 0, so the state depends on nothing but the frame, and one that comes back
//! with a small value other than 0 is written as the change from 0.

use thiserror::Error;

/// Why a body cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The body ends inside a token.
    #[error("the frame is truncated")]
    Truncated,
    /// A varint is longer than a u64, a run of length 0, an unknown escape, or a token that changes nothing.
    #[error("the frame holds a malformed token")]
    Malformed,
    /// More columns than the schema has.
    #[error("the frame has more columns than its schema")]
    TooManyColumns,
}

/// A change of one column against the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Present now; the value moved by this (wrapping), from 0 if it was absent.
    Delta(i64),
    /// Present now with this value; says nothing about the base.
    Value(i64),
    /// Absent now.
    Absent,
}

/// The values of all columns of a source at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    values: Box<[i64]>,
    /// Bit set: the column is absent.
    absent: Box<[u64]>,
}

impl State {
    /// The base of a keyframe: every column present and 0.
    #[must_use]
    pub fn zero(columns: usize) -> Self {
        Self { values: vec![0; columns].into(), absent: vec![0; columns.div_ceil(64)].into() }
    }

    /// From a value for each column.
    #[must_use]
    pub fn from_values(values: &[Option<i64>]) -> Self {
        let mut state = Self::zero(values.len());
        for (column, value) in values.iter().enumerate() {
            state.set(column, *value);
        }
        state
    }

    /// How many columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.values.len()
    }

    /// A column's value; `None` is a missing value, never 0.
    #[must_use]
    pub fn get(&self, column: usize) -> Option<i64> {
        if self.is_absent(column) { None } else { Some(self.values[column]) }
    }

    /// The values in order of columns; 0 where one is absent.
    #[must_use]
    pub fn values(&self) -> &[i64] {
        &self.values
    }

    /// Which columns are absent: a bit of each, 64 to a word.
    #[must_use]
    pub fn absent(&self) -> &[u64] {
        &self.absent
    }

    /// Sets a column.
    pub fn set(&mut self, column: usize, value: Option<i64>) {
        let (word, bit) = (column / 64, 1u64 << (column % 64));
        match value {
            Some(value) => {
                self.values[column] = value;
                self.absent[word] &= !bit;
            }
            None => {
                self.values[column] = 0;
                self.absent[word] |= bit;
            }
        }
    }

    /// The values in order of columns.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<i64>> {
        (0..self.values.len()).map(|column| self.get(column))
    }

    /// Becomes equal to `other`, without allocating.
    ///
    /// # Panics
    /// If the two have different numbers of columns.
    pub fn copy_from(&mut self, other: &State) {
        self.values.copy_from_slice(&other.values);
        self.absent.copy_from_slice(&other.absent);
    }

    /// How many columns are present.
    #[must_use]
    pub fn present(&self) -> usize {
        let absent: u32 = self.absent.iter().map(|word| word.count_ones()).sum();
        self.values.len() - absent as usize
    }

    fn is_absent(&self, column: usize) -> bool {
        self.absent[column / 64] & (1 << (column % 64)) != 0
    }

    /// Makes this the state of a frame whose base it was.
    ///
    /// # Errors
    /// A body that does not decode; the state is then unspecified.
    pub fn apply(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let columns = self.values.len();
        decode(body, columns, |column, change| match change {
            Change::Delta(delta) => {
                self.values[column] = self.values[column].wrapping_add(delta);
                let absent = &mut self.absent[column / 64];
                // Seldom: a word that is written must not wait for the last one.
                if *absent != 0 {
                    *absent &= !(1 << (column % 64));
                }
            }
            Change::Value(value) => self.set(column, Some(value)),
            Change::Absent => self.set(column, None),
        })
    }

    /// Appends the body of the frame that leads from `base` to this.
    ///
    /// # Panics
    /// If the two have different numbers of columns.
    pub fn encode(&self, base: &State, out: &mut Vec<u8>) {
        assert_eq!(self.columns(), base.columns(), "a frame and its base share a schema");
        let mut unchanged = 0u64;
        for column in 0..self.columns() {
            let token = match (base.is_absent(column), self.is_absent(column)) {
                (true, true) => None,
                (false, true) => Some(Change::Absent),
                (absent, false) => match self.values[column].wrapping_sub(base.values[column]) {
                    0 if !absent => None,
                    delta if delta != 0 && zigzag(delta) < 1 << 62 => Some(Change::Delta(delta)),
                    _ => Some(Change::Value(self.values[column])),
                },
            };
            let Some(change) = token else {
                unchanged += 1;
                continue;
            };
            if unchanged > 0 {
                put_varint(out, unchanged << 1 | 1);
                unchanged = 0;
            }
            match change {
                Change::Delta(delta) => put_varint(out, zigzag(delta) << 1),
                Change::Absent => out.extend_from_slice(&[1, 0]),
                Change::Value(value) => {
                    out.extend_from_slice(&[1, 1]);
                    out.extend_from_slice(&value.to_le_bytes());
                }
            }
        }
    }

    /// Appends the keyframe of this state.
    pub fn encode_keyframe(&self, out: &mut Vec<u8>) {
        self.encode(&State::zero(self.columns()), out);
    }
}

/// Calls `change` for each column that differs from the base, in order of columns.
///
/// # Errors
/// A body that does not decode; `change` may have been called by then.
#[inline]
pub fn decode(body: &[u8], columns: usize, mut change: impl FnMut(usize, Change)) -> Result<(), DecodeError> {
    let mut at = 0;
    let mut column = 0usize;
    while at < body.len() {
        let token = get_varint(body, &mut at)?;
        if token & 1 == 0 {
            if token == 0 {
                return Err(DecodeError::Malformed);
            }
            if column >= columns {
                return Err(DecodeError::TooManyColumns);
            }
            change(column, Change::Delta(unzigzag(token >> 1)));
            column += 1;
        } else if token > 1 {
            let run = usize::try_from(token >> 1).map_err(|_| DecodeError::TooManyColumns)?;
            if run > columns - column {
                return Err(DecodeError::TooManyColumns);
            }
            column += run;
        } else {
            if column >= columns {
                return Err(DecodeError::TooManyColumns);
            }
            match body.get(at) {
                Some(0) => {
                    at += 1;
                    change(column, Change::Absent);
                }
                Some(1) => {
                    let bytes = body.get(at + 1..at + 9).ok_or(DecodeError::Truncated)?;
                    let mut value = [0; 8];
                    value.copy_from_slice(bytes);
                    at += 9;
                    change(column, Change::Value(i64::from_le_bytes(value)));
                }
                Some(_) => return Err(DecodeError::Malformed),
                None => return Err(DecodeError::Truncated),
            }
            column += 1;
        }
    }
    Ok(())
}

/// Maps small magnitudes of either sign to small unsigned numbers.
#[must_use]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[must_use]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends a LEB128 varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a LEB128 varint at `at` and moves `at` behind it.
///
/// # Errors
/// The bytes end inside it, or it exceeds a u64.
#[inline]
pub fn get_varint(bytes: &[u8], at: &mut usize) -> Result<u64, DecodeError> {
    let first = *bytes.get(*at).ok_or(DecodeError::Truncated)?;
    if first < 0x80 {
        *at += 1;
        return Ok(u64::from(first));
    }
    match bytes[*at..].first_chunk().and_then(|word| short_varint(u64::from_le_bytes(*word))) {
        Some((value, length)) => {
            *at += length;
            Ok(value)
        }
        None => long_varint(bytes, at),
    }
}

/// The varint that a word begins with, and its length: without a branch for each byte, which nobody could foresee.
#[inline]
fn short_varint(word: u64) -> Option<(u64, usize)> {
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    let bits = ends.trailing_zeros() + 1;
    // Seven bits of each byte; then 14 of each two, 28 of each four.
    let value = word & (u64::MAX >> (u64::BITS - bits)) & 0x7f7f_7f7f_7f7f_7f7f;
    let value = value & 0x007f_007f_007f_007f | (value & 0x7f00_7f00_7f00_7f00) >> 1;
    let value = value & 0x0000_3fff_0000_3fff | (value & 0x3fff_0000_3fff_0000) >> 2;
    Some((value & 0x0fff_ffff | (value & 0x0fff_ffff_0000_0000) >> 4, bits as usize / 8))
}

/// One of more than eight bytes, or near the end of the bytes.
fn long_varint(bytes: &[u8], at: &mut usize) -> Result<u64, DecodeError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or(DecodeError::Truncated)?;
        *at += 1;
        if shift == 63 && byte > 1 {
            return Err(DecodeError::Malformed);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DecodeError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values as columns have them: mostly near each other, sometimes absent, sometimes extreme.
    fn value() -> impl Strategy<Value = Option<i64>> {
        prop_oneof![
            4 => (0i64..4).prop_map(Some),
            2 => (-1_000_000i64..1_000_000).prop_map(Some),
            1 => any::<i64>().prop_map(Some),
            1 => prop_oneof![Just(i64::MIN), Just(i64::MAX)].prop_map(Some),
            2 => Just(None),
        ]
    }

    /// Two states of one schema.
    fn states() -> impl Strategy<Value = (State, State)> {
        proptest::collection::vec((value(), value()), 0..200).prop_map(|columns| {
            let (base, next): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
            (State::from_values(&base), State::from_values(&next))
        })
    }

    proptest! {
        #[test]
        fn a_frame_leads_from_its_base_to_its_values((base, next) in states()) {
            let mut body = Vec::new();
            next.encode(&base, &mut body);
            let mut read = base.clone();
            read.apply(&body).expect("a well-made frame");
            prop_assert_eq!(&read, &next);
            prop_assert!(body.len() <= crate::limits::FRAME_BYTES);
        }

        #[test]
        fn a_keyframe_needs_no_base((_, state) in states()) {
            let mut body = Vec::new();
            state.encode_keyframe(&mut body);
            let mut read = State::zero(state.columns());
            read.apply(&body).expect("a keyframe");
            prop_assert_eq!(read, state);
        }

        #[test]
        fn a_changed_column_is_told_once_and_in_order((base, next) in states()) {
            let mut body = Vec::new();
            next.encode(&base, &mut body);
            let mut told = Vec::new();
            decode(&body, next.columns(), |column, _| told.push(column)).expect("a well-made frame");
            let changed: Vec<_> =
                (0..next.columns()).filter(|&column| base.get(column) != next.get(column)).collect();
            prop_assert_eq!(told, changed);
        }

        #[test]
        fn random_bytes_decode_or_do_not_and_nothing_else(body: Vec<u8>, columns in 0usize..300) {
            let mut state = State::zero(columns);
            let _ = state.apply(&body);
            prop_assert_eq!(state.columns(), columns);
            prop_assert!(state.present() <= columns);
        }

        #[test]
        fn what_is_cut_off_is_an_error_or_ends_between_two_tokens((base, next) in states(), cut: usize) {
            let mut body = Vec::new();
            next.encode(&base, &mut body);
            let cut = if body.is_empty() { 0 } else { cut % body.len() };
            match decode(&body[..cut], next.columns(), |_, _| {}) {
                Ok(()) | Err(DecodeError::Truncated) => {}
                Err(other) => prop_assert!(false, "{other}"),
            }
        }

        #[test]
        fn varints_come_back(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            put_varint(&mut bytes, value >> 40);
            let mut at = 0;
            prop_assert_eq!(get_varint(&bytes, &mut at), Ok(value));
            prop_assert_eq!(get_varint(&bytes, &mut at), Ok(value >> 40));
            prop_assert_eq!(at, bytes.len());
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }
    }

    #[test]
    fn malformed_bodies() {
        let run = |columns: u64| {
            let mut body = Vec::new();
            put_varint(&mut body, columns << 1 | 1);
            body
        };
        for (name, body, expected) in [
            ("nothing", vec![], Ok(())),
            ("a change of nothing", vec![0], Err(DecodeError::Malformed)),
            ("an unknown escape", vec![1, 2], Err(DecodeError::Malformed)),
            ("half an escape", vec![1], Err(DecodeError::Truncated)),
            ("half a value", vec![1, 1, 0, 0], Err(DecodeError::Truncated)),
            ("half a varint", vec![0x80], Err(DecodeError::Truncated)),
            ("an endless varint", vec![0x80; 11], Err(DecodeError::Malformed)),
            ("a varint beyond 64 bits", [vec![0x80; 9], vec![2]].concat(), Err(DecodeError::Malformed)),
            ("all columns", run(3), Ok(())),
            ("a column too many", run(4), Err(DecodeError::TooManyColumns)),
            ("a run without end", run(u64::MAX >> 1), Err(DecodeError::TooManyColumns)),
            ("a change behind the last", [run(3), vec![4]].concat(), Err(DecodeError::TooManyColumns)),
            ("an absence behind the last", [run(3), vec![1, 0]].concat(), Err(DecodeError::TooManyColumns)),
        ] {
            assert_eq!(decode(&body, 3, |_, _| {}), expected, "{name}");
        }
    }

    #[test]
    fn the_largest_keyframe_fits_the_limit() {
        let values = vec![Some(i64::MIN); crate::limits::COLUMNS];
        let mut body = Vec::new();
        State::from_values(&values).encode_keyframe(&mut body);
        assert!(body.len() <= crate::limits::FRAME_BYTES, "{}", body.len());
    }
}
