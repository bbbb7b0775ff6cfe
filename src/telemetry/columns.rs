//! Frames of one source and one schema, turned from rows into columns without transposing: only
//! what changed is kept. Pure.
//!
//! What must hold: the frames are in order of instant, and reading a column gives exactly the
//! values that were pushed. One `Columns` serves many sources one after another, so that its
//! buffers are allocated once.

use crate::platform::clock::UnixMs;
use tongtu_protocol::codec::{self, Change, DecodeError, State};

/// Marks a change to *absent*, in the number of a column.
const ABSENT_COLUMN: u16 = 1 << 15;
/// Marks a change to *absent*, in the number of a frame.
const ABSENT_FRAME: u32 = 1 << 31;

/// Columns of a word of bits.
const WORD: usize = 64;

/// What is known of a frame beside its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameMeta {
    /// When it was measured.
    pub instant_ms: UnixMs,
    /// Its record's place in its epoch.
    pub sequence: u64,
    /// The spool it came through.
    pub epoch: u64,
    /// Differs between two boots of the machine.
    pub boot: u32,
    /// The instant rests on the agent's own clock alone.
    pub uncertain: bool,
    /// At which its source was sampled then; 0 in what was stored before it was kept.
    pub interval_ms: u32,
}

impl FrameMeta {
    /// With the interval that is taken for one that is not known.
    #[must_use]
    pub fn or_interval(self, interval_ms: u32) -> Self {
        Self { interval_ms: if self.interval_ms == 0 { interval_ms } else { self.interval_ms }, ..self }
    }
}

/// Frames being collected.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    frames: Vec<FrameMeta>,
    first: Row,
    /// The last frame.
    running: Row,
    /// Changes since the first frame, frame by frame: column (and mark), value.
    changes: Vec<(u16, i64)>,
    /// Behind the last change of each frame.
    ends: Vec<u32>,
    sorted: Sorted,
    /// `sorted` is of what has been pushed.
    is_sorted: bool,
}

/// One frame's values; an absent one is 0.
#[derive(Debug, Clone, Default)]
struct Row {
    values: Vec<i64>,
    /// A bit of each column, 64 to a word.
    absent: Vec<u64>,
}

/// Changes column by column.
#[derive(Debug, Clone, Default)]
struct Sorted {
    /// Where each column begins, and the end of the last.
    starts: Vec<u32>,
    /// Frame (and mark).
    frames: Vec<u32>,
    values: Vec<i64>,
}

impl Columns {
    /// No frames of `columns` columns.
    ///
    /// # Panics
    /// If a schema can have no so many columns.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        let mut new = Self::default();
        new.reset(columns);
        new
    }

    /// Forgets everything but the buffers.
    ///
    /// # Panics
    /// As [`Columns::new`].
    pub fn reset(&mut self, columns: usize) {
        assert!(columns < usize::from(ABSENT_COLUMN), "a schema has at most 8,192 columns");
        self.is_sorted = false;
        self.frames.clear();
        self.changes.clear();
        self.ends.clear();
        self.first.reset(columns);
        self.running.reset(columns);
    }

    /// Adds a frame whose body is a delta to the frame pushed before, or a keyframe if it is the
    /// first.
    ///
    /// # Errors
    /// A body that does not decode; the frames pushed before stay as they were.
    pub fn push_body(&mut self, meta: FrameMeta, body: &[u8]) -> Result<(), DecodeError> {
        let Self { running, changes, .. } = self;
        let begin = changes.len();
        let decoded = codec::decode(body, running.values.len(), |column, change| {
            let (value, absent) = match change {
                Change::Delta(delta) => (running.values[column].wrapping_add(delta), false),
                Change::Value(value) => (value, false),
                Change::Absent => (0, true),
            };
            if running.set(column, value, absent) {
                changes.push((mark(column, absent), value));
            }
        });
        if let Err(error) = decoded {
            self.changes.truncate(begin);
            self.rewind();
            return Err(error);
        }
        self.finish(meta);
        Ok(())
    }

    /// Adds a frame by its values.
    ///
    /// # Panics
    /// If it has another number of columns.
    pub fn push_state(&mut self, meta: FrameMeta, state: &State) {
        assert_eq!(state.columns(), self.columns(), "frames of one schema");
        let Self { running: Row { values, absent }, changes, .. } = self;
        let words = state.absent().iter().zip(absent);
        let words = state.values().chunks(WORD).zip(values.chunks_mut(WORD)).zip(words);
        for (place, ((new, known), (new_absent, known_absent))) in words.enumerate() {
            // What changed is found without a branch for each column.
            let mut changed = new_absent ^ *known_absent;
            for (bit, (new, known)) in new.iter().zip(&*known).enumerate() {
                changed |= u64::from(new != known) << bit;
            }
            known.copy_from_slice(new);
            *known_absent = *new_absent;
            while changed != 0 {
                let bit = changed.trailing_zeros() as usize;
                changed &= changed - 1;
                changes.push((mark(place * WORD + bit, new_absent >> bit & 1 != 0), new[bit]));
            }
        }
        self.finish(meta);
    }

    /// How many columns a frame has.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.running.values.len()
    }

    /// The frames pushed.
    #[must_use]
    pub fn frames(&self) -> &[FrameMeta] {
        &self.frames
    }

    /// The last frame.
    #[must_use]
    pub fn last(&self) -> Option<(FrameMeta, State)> {
        self.frames.last().map(|meta| (*meta, self.running.state()))
    }

    /// The columns of what has been pushed.
    pub fn by_column(&mut self) -> ByColumn<'_> {
        if !self.is_sorted {
            self.sorted.sort(self.columns(), &self.changes, &self.ends);
            self.is_sorted = true;
        }
        ByColumn { frames: &self.frames, first: &self.first, sorted: &self.sorted }
    }

    fn finish(&mut self, meta: FrameMeta) {
        self.is_sorted = false;
        if self.frames.is_empty() {
            self.first.copy_from(&self.running);
            self.changes.clear();
        }
        self.frames.push(meta);
        self.ends.push(u32::try_from(self.changes.len()).expect("a window holds fewer changes"));
    }

    /// Makes the running row that of the last whole frame again.
    fn rewind(&mut self) {
        self.running.copy_from(&self.first);
        for (column, value) in &self.changes {
            let absent = column & ABSENT_COLUMN != 0;
            self.running.set(usize::from(column & !ABSENT_COLUMN), *value, absent);
        }
    }
}

impl Row {
    fn reset(&mut self, columns: usize) {
        self.values.clear();
        self.values.resize(columns, 0);
        self.absent.clear();
        self.absent.resize(columns.div_ceil(WORD), 0);
    }

    fn copy_from(&mut self, other: &Row) {
        self.values.copy_from_slice(&other.values);
        self.absent.copy_from_slice(&other.absent);
    }

    /// Sets a value, and says whether that changed anything.
    #[inline]
    fn set(&mut self, column: usize, value: i64, absent: bool) -> bool {
        let (word, bit) = (&mut self.absent[column / WORD], 1 << (column % WORD));
        let changed = self.values[column] != value || (*word & bit != 0) != absent;
        self.values[column] = value;
        *word = if absent { *word | bit } else { *word & !bit };
        changed
    }

    fn get(&self, column: usize) -> Option<i64> {
        (self.absent[column / WORD] >> (column % WORD) & 1 == 0).then(|| self.values[column])
    }

    fn state(&self) -> State {
        let mut state = State::zero(self.values.len());
        for column in 0..self.values.len() {
            state.set(column, self.get(column));
        }
        state
    }
}

#[inline]
fn mark(column: usize, absent: bool) -> u16 {
    column as u16 | if absent { ABSENT_COLUMN } else { 0 }
}

impl Sorted {
    /// A counting sort: stable, so a column's changes stay in order of frames.
    fn sort(&mut self, columns: usize, changes: &[(u16, i64)], ends: &[u32]) {
        self.starts.clear();
        self.starts.resize(columns + 2, 0);
        for (column, _) in changes {
            self.starts[usize::from(column & !ABSENT_COLUMN) + 2] += 1;
        }
        for column in 2..self.starts.len() {
            self.starts[column] += self.starts[column - 1];
        }
        // Only the length matters: every element is written below.
        self.frames.resize(changes.len(), 0);
        self.values.resize(changes.len(), 0);
        let mut from = 0;
        for (frame, &to) in (0u32..).zip(ends) {
            for (column, value) in &changes[from..to as usize] {
                let place = &mut self.starts[usize::from(column & !ABSENT_COLUMN) + 1];
                let absent = if column & ABSENT_COLUMN == 0 { 0 } else { ABSENT_FRAME };
                self.frames[*place as usize] = frame | absent;
                self.values[*place as usize] = *value;
                *place += 1;
            }
            from = to as usize;
        }
        // Each place has moved to the begin of the next column.
        self.starts.truncate(columns + 1);
    }
}

/// A number of consecutive frames in which a column did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first of them.
    pub from: usize,
    /// The frame behind the last.
    pub to: usize,
    /// Their value; `None` is absent.
    pub value: Option<i64>,
}

/// Frames, read column by column.
#[derive(Debug, Clone, Copy)]
pub struct ByColumn<'a> {
    frames: &'a [FrameMeta],
    first: &'a Row,
    sorted: &'a Sorted,
}

impl<'a> ByColumn<'a> {
    /// The frames.
    #[must_use]
    pub fn frames(&self) -> &'a [FrameMeta] {
        self.frames
    }

    /// How many columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.first.values.len()
    }

    /// How often the column changed.
    #[must_use]
    pub fn changes(&self, column: usize) -> usize {
        self.range(column).len()
    }

    /// The column's value in the first frame.
    #[must_use]
    pub fn first(&self, column: usize) -> Option<i64> {
        self.first.get(column)
    }

    /// The column's value in every frame, as runs that cover all frames. Empty without frames.
    pub fn runs(&self, column: usize) -> impl Iterator<Item = Run> + use<'a> {
        let range = self.range(column);
        let (frames, values) = (&self.sorted.frames[range.clone()], &self.sorted.values[range]);
        let end = self.frames.len();
        let mut from = 0;
        let mut value = self.first(column);
        let mut next = 0;
        std::iter::from_fn(move || {
            if from == end {
                return None;
            }
            let to = frames.get(next).map_or(end, |frame| (frame & !ABSENT_FRAME) as usize);
            let run = Run { from, to, value };
            if let Some(frame) = frames.get(next) {
                value = (frame & ABSENT_FRAME == 0).then_some(values[next]);
                next += 1;
            }
            from = to;
            Some(run)
        })
    }

    fn range(&self, column: usize) -> std::ops::Range<usize> {
        self.sorted.starts[column] as usize..self.sorted.starts[column + 1] as usize
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::telemetry) fn meta(sequence: u64) -> FrameMeta {
        FrameMeta {
            instant_ms: 1_790_000_000_000 + sequence as i64 * 15_000,
            sequence,
            epoch: 77,
            boot: 1,
            uncertain: false,
            interval_ms: 15_000,
        }
    }

    /// Frames whose columns are constant, slow, growing, coming and going, or wild.
    pub(in crate::telemetry) fn frames() -> impl Strategy<Value = Vec<Vec<Option<i64>>>> {
        let column = prop_oneof![
            any::<i64>().prop_map(|value| vec![Some(value); 40]),
            proptest::collection::vec(0i64..3, 40).prop_map(|values| values.into_iter().map(Some).collect()),
            (any::<i32>(), proptest::collection::vec(0i64..1_000, 40)).prop_map(|(start, steps)| {
                let mut sum = i64::from(start);
                let grow = |step| {
                    sum += step;
                    Some(sum)
                };
                steps.into_iter().map(grow).collect()
            }),
            proptest::collection::vec(proptest::option::of(-5i64..5), 40),
            proptest::collection::vec(any::<Option<i64>>(), 40),
            proptest::collection::vec(proptest::sample::select(vec![i64::MIN, -1, 0, 1, i64::MAX]), 40)
                .prop_map(|values| values.into_iter().map(Some).collect()),
        ];
        (proptest::collection::vec(column, 0..12), 0usize..40).prop_map(|(columns, count)| {
            (0..count).map(|frame| columns.iter().map(|column: &Vec<_>| column[frame]).collect()).collect()
        })
    }

    fn read(columns: &mut Columns) -> Vec<Vec<Option<i64>>> {
        let view = columns.by_column();
        let mut rows = vec![vec![None; view.columns()]; view.frames().len()];
        for column in 0..view.columns() {
            let mut next = 0;
            let mut last = None;
            for run in view.runs(column) {
                assert!(run.from == next && run.to > run.from, "{run:?}");
                assert_ne!(last, Some(run.value), "two runs of one value");
                rows[run.from..run.to].iter_mut().for_each(|row| row[column] = run.value);
                next = run.to;
                last = Some(run.value);
            }
            assert_eq!(next, view.frames().len());
            assert_eq!(view.changes(column), view.runs(column).count().saturating_sub(1));
        }
        rows
    }

    proptest! {
        #[test]
        fn columns_are_what_was_pushed(rows in frames(), by_state in any::<u64>()) {
            let width = rows.first().map_or(0, Vec::len);
            let mut columns = Columns::new(3);
            columns.push_state(meta(1), &State::from_values(&[None, Some(1), Some(2)]));
            columns.reset(width);
            let mut base = State::zero(width);
            for (frame, row) in rows.iter().enumerate() {
                let state = State::from_values(row);
                let meta = meta(frame as u64 + 1);
                if by_state >> frame & 1 == 0 {
                    let mut body = Vec::new();
                    state.encode(&base, &mut body);
                    columns.push_body(meta, &body).expect("a body that was encoded");
                } else {
                    columns.push_state(meta, &state);
                }
                prop_assert_eq!(columns.last(), Some((meta, state.clone())));
                base = state;
            }
            prop_assert_eq!(read(&mut columns), rows);
        }

        #[test]
        fn a_broken_body_leaves_no_trace(rows in frames(), body in proptest::collection::vec(any::<u8>(), 0..40)) {
            let width = rows.first().map_or(0, Vec::len);
            let mut columns = Columns::new(width);
            for (frame, row) in rows.iter().enumerate() {
                let before = columns.last();
                if columns.push_body(meta(0), &body).is_err() {
                    prop_assert_eq!(columns.last(), before);
                } else {
                    columns.reset(width);
                    for (frame, row) in rows[..frame].iter().enumerate() {
                        columns.push_state(meta(frame as u64 + 1), &State::from_values(row));
                    }
                }
                columns.push_state(meta(frame as u64 + 1), &State::from_values(row));
            }
            prop_assert_eq!(read(&mut columns), rows);
        }
    }
}
