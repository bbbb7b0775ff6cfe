//! The live view: the last two frames of each source, the last measurements of what is measured less
//! often, and its inventory, in memory, and where its frames lie in the windows.
//!
//! Two, because the present rate of a counter needs the one before. A frame older than the last
//! one (the backlog after an outage) does not enter.

use super::{Facts, Glance, GlanceBefore, LiveFrame, Measured, SourceInfo, StoredSchema};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, SourceId};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tongtu_protocol::codec::State;
use tongtu_protocol::limits;

const INTERVAL_LEAST_MS: u32 = 100;
pub(super) const INTERVAL_MOST_MS: u32 = 3_600_000;

/// A source and its last frames.
#[derive(Debug)]
pub(super) struct LiveSource {
    pub id: SourceId,
    pub agent: AgentId,
    pub kind: String,
    pub key: String,
    pub created_ms: UnixMs,
    interval_ms: AtomicU32,
    /// The widest interval of any frame so far.
    widest_ms: AtomicU32,
    /// The widest cadence of any schema so far.
    widest_cadence_ms: AtomicU32,
    frames: Mutex<Frames>,
    facts: Mutex<Option<Arc<Facts>>>,
    places: Mutex<Vec<Place>>,
}

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub instant_ms: UnixMs,
    pub window: u32,
    /// The batch's id in the window.
    pub batch: u32,
    pub offset: u32,
    pub length: u32,
}

#[derive(Debug, Default)]
struct Frames {
    current: Option<Snapshot>,
    previous: Option<Snapshot>,
    measured: Measured,
}

/// A record of a source's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordId {
    pub epoch: u64,
    pub sequence: u64,
}

/// What became of a frame that should follow the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Taken,
    /// The last frame is another one.
    NoBase,
    /// The last frame is not older; nothing was done.
    NotNewer,
    Undecodable,
}

/// A frame as it enters the view.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub record: RecordId,
    pub instant_ms: UnixMs,
    pub arrival_ms: UnixMs,
    pub uncertain: bool,
    pub boot: u32,
}

#[derive(Debug)]
struct Snapshot {
    schema: Arc<StoredSchema>,
    state: State,
    moment: Moment,
}

/// The interval that is taken for one that an agent names: what is covered, and the slots that late
/// frames make anew, grow with it.
pub(super) fn interval_within(interval_ms: u32) -> u32 {
    interval_ms.clamp(INTERVAL_LEAST_MS, INTERVAL_MOST_MS)
}

impl LiveSource {
    pub(super) fn new(
        id: SourceId,
        agent: AgentId,
        kind: String,
        key: String,
        created_ms: UnixMs,
        interval_ms: u32,
    ) -> Self {
        let interval_ms = interval_within(interval_ms);
        let (interval_ms, widest_ms) = (AtomicU32::new(interval_ms), AtomicU32::new(interval_ms));
        let (widest_cadence_ms, frames, facts, places) = Default::default();
        Self { id, agent, kind, key, created_ms, interval_ms, widest_ms, widest_cadence_ms, frames, facts, places }
    }

    /// Takes an inventory, unless a newer one is there.
    pub(super) fn take_facts(&self, facts: &Arc<Facts>) {
        let mut known = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|known| known.instant_ms <= facts.instant_ms) {
            *known = Some(Arc::clone(facts));
        }
    }

    /// The newest inventory.
    pub(super) fn facts(&self) -> Option<Arc<Facts>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Since when the newest inventory holds.
    pub(super) fn facts_instant_ms(&self) -> Option<UnixMs> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|facts| facts.instant_ms)
    }

    /// A frame of this source is durable there.
    pub(super) fn add_place(&self, place: Place) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).push(place);
    }

    /// Where its frames lie, in windows after `compacted`, in order of arrival.
    pub(super) fn places(&self, compacted: i64) -> Vec<Place> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.iter().filter(|place| i64::from(place.window) > compacted).copied().collect()
    }

    /// Bytes of its frames in a window.
    pub(super) fn bytes_in(&self, window: i64) -> usize {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.iter().filter(|place| i64::from(place.window) == window).map(|place| place.length as usize).sum()
    }

    /// Forgets the places in windows up to `compacted`.
    pub(super) fn forget_places(&self, compacted: i64) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = places.partition_point(|place| i64::from(place.window) <= compacted);
        places.drain(..behind);
        if places.capacity() > 4 * places.len().max(16) {
            places.shrink_to_fit();
        }
    }

    pub(super) fn interval_ms(&self) -> u32 {
        self.interval_ms.load(Ordering::Relaxed)
    }

    pub(super) fn widest_ms(&self) -> u32 {
        self.widest_ms.load(Ordering::Relaxed)
    }

    pub(super) fn widest_cadence_ms(&self) -> u32 {
        self.widest_cadence_ms.load(Ordering::Relaxed)
    }

    /// Slots within two and a half of these of a late frame may have to be made anew: it may be the
    /// frame before another one, and what it measured that before another measurement. One of a schema without slow
    /// columns reaches as far: behind it is forgotten what others measured before.
    pub(super) fn reach_ms(&self) -> u32 {
        self.widest_ms() + self.widest_cadence_ms()
    }

    pub(super) fn widen(&self, interval_ms: u32, cadence_ms: u32) {
        self.widest_ms.fetch_max(interval_within(interval_ms), Ordering::Relaxed);
        self.widest_cadence_ms.fetch_max(cadence_ms.min(limits::CADENCE_S * 1_000), Ordering::Relaxed);
    }

    pub(super) fn set_interval_ms(&self, interval_ms: u32) {
        self.interval_ms.store(interval_within(interval_ms), Ordering::Relaxed);
    }

    /// Takes a frame, unless a newer one is there, and says whether it did.
    pub(super) fn advance(&self, schema: &Arc<StoredSchema>, state: &State, moment: Moment) -> bool {
        let mut frames = self.lock();
        if frames.current.as_ref().is_some_and(|last| last.moment.instant_ms >= moment.instant_ms) {
            return false;
        }
        frames.measured.take(schema, state, moment.instant_ms, moment.boot);
        let recycled = std::mem::take(&mut frames.previous);
        frames.previous = frames.current.take();
        frames.current = Some(match recycled {
            Some(mut snapshot) if snapshot.state.columns() == state.columns() => {
                snapshot.state.copy_from(state);
                Snapshot { schema: Arc::clone(schema), state: snapshot.state, moment }
            }
            _ => Snapshot { schema: Arc::clone(schema), state: state.clone(), moment },
        });
        true
    }

    /// Takes the frame that `body` leads to from the last one, if that is `base` and older.
    pub(super) fn step(&self, base: RecordId, body: &[u8], moment: Moment) -> Step {
        let mut frames = self.lock();
        let Some(current) = frames.current.take_if(|current| current.moment.record == base) else {
            return Step::NoBase;
        };
        if current.moment.instant_ms >= moment.instant_ms {
            frames.current = Some(current);
            return Step::NotNewer;
        }
        let recycled = frames.previous.take().filter(|old| old.state.columns() == current.state.columns());
        let mut state = recycled.map_or_else(|| State::zero(current.state.columns()), |old| old.state);
        state.copy_from(&current.state);
        if state.apply(body).is_err() {
            frames.current = Some(current);
            return Step::Undecodable;
        }
        let schema = Arc::clone(&current.schema);
        frames.measured.take(&schema, &state, moment.instant_ms, moment.boot);
        frames.previous = Some(current);
        frames.current = Some(Snapshot { schema, state, moment });
        Step::Taken
    }

    /// Takes what was known of measurements when a frame was handed on.
    pub(super) fn restore_measured(&self, measured: Measured) {
        self.lock().measured = measured;
    }

    /// The values of the last frame, if that is this one.
    pub(super) fn state_of(&self, record: RecordId) -> Option<State> {
        let frames = self.lock();
        frames.current.as_ref().filter(|current| current.moment.record == record).map(|current| current.state.clone())
    }

    /// The last frame, with nothing that was measured before an instant.
    pub(super) fn last(&self, since_ms: UnixMs) -> Option<LiveFrame> {
        let frames = self.lock();
        let current = frames.current.as_ref()?;
        self.frame(current, &frames.measured, since_ms)
    }

    /// The last frame and the one before it, with nothing that was measured before an instant.
    pub(super) fn last_two(&self, since_ms: UnixMs) -> Option<(LiveFrame, LiveFrame)> {
        let frames = self.lock();
        let before = self.frame(frames.previous.as_ref()?, &Measured::default(), since_ms)?;
        Some((before, self.frame(frames.current.as_ref()?, &frames.measured, since_ms)?))
    }

    /// Looks at the last frames without copying them. Others wait meanwhile: `look` is short.
    pub(super) fn glance<R>(&self, since_ms: UnixMs, look: impl FnOnce(Glance<'_>) -> R) -> Option<R> {
        let frames = self.lock();
        let is_shown = |snapshot: &&Snapshot| snapshot.moment.instant_ms >= since_ms;
        let current = frames.current.as_ref().filter(is_shown)?;
        Some(look(Glance {
            schema: &current.schema,
            state: &current.state,
            measured: &frames.measured,
            instant_ms: current.moment.instant_ms,
            arrival_ms: current.moment.arrival_ms,
            clock_uncertain: current.moment.uncertain,
            interval_ms: self.interval_ms(),
            boot: current.moment.boot,
            since_ms,
            before: frames.previous.as_ref().filter(is_shown).map(|previous| GlanceBefore {
                schema: &previous.schema,
                state: &previous.state,
                instant_ms: previous.moment.instant_ms,
                boot: previous.moment.boot,
            }),
        }))
    }

    pub(super) fn last_instant_ms(&self) -> Option<UnixMs> {
        self.lock().current.as_ref().map(|last| last.moment.instant_ms)
    }

    pub(super) fn info(&self) -> SourceInfo {
        SourceInfo {
            id: self.id,
            agent: self.agent,
            kind: self.kind.clone(),
            key: self.key.clone(),
            interval_ms: self.interval_ms(),
            created_ms: self.created_ms,
            last_instant_ms: self.last_instant_ms(),
        }
    }

    fn frame(&self, snapshot: &Snapshot, measured: &Measured, since_ms: UnixMs) -> Option<LiveFrame> {
        let Moment { instant_ms, boot, .. } = snapshot.moment;
        if instant_ms < since_ms {
            return None;
        }
        let mut values: Vec<_> = snapshot.state.iter().collect();
        for slow in &snapshot.schema.slow {
            let shown = || measured.shown(slow.column, instant_ms, boot).filter(|last| last.at_ms >= since_ms);
            values[slow.column] = values[slow.column].or_else(|| shown().map(|last| last.value));
        }
        Some(LiveFrame {
            schema: Arc::clone(&snapshot.schema),
            values: values.into(),
            instant_ms: snapshot.moment.instant_ms,
            arrival_ms: snapshot.moment.arrival_ms,
            clock_uncertain: snapshot.moment.uncertain,
            interval_ms: self.interval_ms(),
            boot: snapshot.moment.boot,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
