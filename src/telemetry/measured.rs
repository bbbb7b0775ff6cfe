//! The last measurement of each column that is measured less often than frames come. Pure.
//!
//! In the frames between, such a column is absent: what its next measurement says of the time since
//! the last one, and what a reader is shown meanwhile, is kept here from frame to frame. What must
//! hold: it follows from the frames alone, in whatever order they are taken; and what is older than
//! two and a half cadences is not known any more, so that a late frame reaches no farther.

use super::StoredSchema;
use super::slot::{self, identity, longest_ms};
use crate::platform::clock::UnixMs;
use std::collections::HashMap;
use std::sync::Arc;
use tongtu_protocol::codec::State;

/// A column with a cadence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// Its place in the schema.
    pub column: usize,
    /// Milliseconds between two measurements.
    pub cadence_ms: u32,
}

/// A value and when it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement {
    /// `MIN`: never.
    pub at_ms: UnixMs,
    /// What was measured.
    pub value: i64,
    /// The value before it.
    pub before: i64,
    /// How long before it that was measured; 0: not known, or too long to tell anything.
    pub since_ms: u32,
    /// Differs between two boots of the machine.
    pub boot: u32,
}

const NEVER: Measurement = Measurement { at_ms: UnixMs::MIN, value: 0, before: 0, since_ms: 0, boot: 0 };

impl Measurement {
    /// How long before an instant it was measured, if it still says something then.
    #[must_use]
    pub fn age_ms(&self, cadence_ms: u32, at_ms: UnixMs) -> Option<i64> {
        let age_ms = at_ms.saturating_sub(self.at_ms);
        (0..=longest_ms(cadence_ms)).contains(&age_ms).then_some(age_ms)
    }

    fn take(&mut self, value: i64, at_ms: UnixMs, boot: u32, cadence_ms: u32) {
        if at_ms < self.at_ms {
            return;
        }
        let age_ms = self.age_ms(cadence_ms, at_ms).filter(|_| self.boot == boot);
        let since_ms = age_ms.map_or(0, |age_ms| age_ms as u32);
        *self = Self { at_ms, value, before: self.value, since_ms, boot };
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    schema: Option<Arc<StoredSchema>>,
    /// Of the schema's slow columns, in their order.
    last: Box<[Measurement]>,
    newest_ms: UnixMs,
}

impl Measured {
    /// Takes what a frame measured.
    pub fn take(&mut self, schema: &Arc<StoredSchema>, state: &State, at_ms: UnixMs, boot: u32) {
        if self.schema.as_ref().is_none_or(|known| known.number != schema.number) {
            if self.last.is_empty() && schema.slow.is_empty() {
                return;
            }
            if self.schema.is_some() && at_ms < self.newest_ms {
                return self.take_late(schema, state, at_ms, boot);
            }
            self.last = self.of(schema).into();
            self.schema = Some(Arc::clone(schema));
        }
        self.newest_ms = self.newest_ms.max(at_ms);
        for (known, slow) in self.last.iter_mut().zip(&schema.slow) {
            if let Some(value) = state.get(slow.column) {
                known.take(value, at_ms, boot, slow.cadence_ms);
            }
        }
    }

    /// A frame of another schema, older than the newest one.
    fn take_late(&mut self, schema: &StoredSchema, state: &State, at_ms: UnixMs, boot: u32) {
        let Some(mine) = self.schema.clone() else { return };
        let columns = schema.slow.iter().map(|slow| (identity(&schema.columns[slow.column]), slow.column));
        let columns: HashMap<_, _> = columns.collect();
        for (known, slow) in self.last.iter_mut().zip(&mine.slow) {
            let place = columns.get(&identity(&mine.columns[slow.column]));
            if let Some(value) = place.and_then(|place| state.get(*place)) {
                known.take(value, at_ms, boot, slow.cadence_ms);
            }
        }
    }

    /// The last measurements of a schema's slow columns, in their order.
    #[must_use]
    pub fn of(&self, schema: &StoredSchema) -> Vec<Measurement> {
        match &self.schema {
            None => vec![NEVER; schema.slow.len()],
            Some(known) if known.number == schema.number => self.last.to_vec(),
            Some(known) => {
                let last = known.slow.iter().zip(&self.last);
                let last: HashMap<_, _> =
                    last.map(|(slow, last)| (identity(&known.columns[slow.column]), *last)).collect();
                let of = |slow: &Slow| last.get(&identity(&schema.columns[slow.column])).copied().unwrap_or(NEVER);
                schema.slow.iter().map(of).collect()
            }
        }
    }

    /// What a column of its schema's last frame is shown with: measured in the same boot, and two and
    /// a half cadences are not over at the instant of the frame.
    #[must_use]
    pub fn shown(&self, column: usize, at_ms: UnixMs, boot: u32) -> Option<&Measurement> {
        let slow = &self.schema.as_ref()?.slow;
        let place = slow.binary_search_by_key(&column, |slow| slow.column).ok()?;
        let last = self.last.get(place)?;
        last.age_ms(slow[place].cadence_ms, at_ms).filter(|_| last.boot == boot).map(|_| last)
    }

    /// Whether another one knows the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.last == other.last
    }

    /// A frame's state with what is known here, behind its columns: value, age and boot of each.
    #[must_use]
    pub fn append_to(&self, schema: &StoredSchema, state: &State, at_ms: UnixMs) -> State {
        let values: Vec<Option<i64>> = state.iter().collect();
        let known = self.of(schema);
        let known = known.iter().flat_map(|last| match last.at_ms {
            UnixMs::MIN => [None; 3],
            then_ms => [Some(last.value), Some(at_ms - then_ms), Some(i64::from(last.boot))],
        });
        State::from_values(&values.into_iter().chain(known).collect::<Vec<_>>())
    }

    /// The reverse: how many columns that are.
    #[must_use]
    pub fn appended(schema: &StoredSchema) -> usize {
        schema.columns.len() + 3 * schema.slow.len()
    }

    /// The reverse of [`append_to`](Self::append_to).
    #[must_use]
    pub fn split_from(schema: &Arc<StoredSchema>, state: &State, at_ms: UnixMs) -> (State, Self) {
        let columns = schema.columns.len();
        let own = State::from_values(&state.iter().take(columns).collect::<Vec<_>>());
        let last = (0..schema.slow.len()).map(|place| {
            let [value, age_ms, boot] = [0, 1, 2].map(|part| state.get(columns + 3 * place + part));
            let (Some(value), Some(age_ms), Some(boot)) = (value, age_ms, boot) else { return NEVER };
            Measurement { at_ms: at_ms.saturating_sub(age_ms), value, boot: boot as u32, ..NEVER }
        });
        let last = last.collect();
        (own, Self { schema: Some(Arc::clone(schema)), last, newest_ms: at_ms })
    }
}

/// The time before a gauge's measurement that it stands for, if the one before it, of the same boot,
/// was `since_ms` earlier: what was promised, or a little more. Beyond, one or more are missing.
#[must_use]
pub(super) fn stands_ms(since_ms: i64, cadence_ms: u32) -> i64 {
    if since_ms <= late_ms(cadence_ms) {
        since_ms
    } else if since_ms <= slot::longest_ms(cadence_ms) {
        i64::from(cadence_ms)
    } else {
        0
    }
}

/// A measurement that comes later than this after the one before is not that one's next.
#[must_use]
pub(super) fn late_ms(cadence_ms: u32) -> i64 {
    i64::from(cadence_ms) * 3 / 2
}
