//! The live view: the last two frames of each source, in memory.
//!
//! Two, because the present rate of a counter needs the one before. A frame older than the last
//! one (the backlog after an outage) does not enter.

use super::{Glance, GlanceBefore, LiveFrame, SourceInfo, StoredSchema};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, SourceId};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tongtu_protocol::codec::State;

/// A source and its last frames.
#[derive(Debug)]
pub(super) struct LiveSource {
    pub id: SourceId,
    pub agent: AgentId,
    pub kind: String,
    pub key: String,
    pub created_ms: UnixMs,
    interval_ms: AtomicU32,
    frames: Mutex<Frames>,
}

#[derive(Debug, Default)]
struct Frames {
    current: Option<Snapshot>,
    previous: Option<Snapshot>,
}

/// A frame as it enters the view.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
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

impl LiveSource {
    pub(super) fn new(
        id: SourceId,
        agent: AgentId,
        kind: String,
        key: String,
        created_ms: UnixMs,
        interval_ms: u32,
    ) -> Self {
        let interval_ms = AtomicU32::new(interval_ms);
        Self { id, agent, kind, key, created_ms, interval_ms, frames: Mutex::default() }
    }

    pub(super) fn interval_ms(&self) -> u32 {
        self.interval_ms.load(Ordering::Relaxed)
    }

    pub(super) fn set_interval_ms(&self, interval_ms: u32) {
        self.interval_ms.store(interval_ms, Ordering::Relaxed);
    }

    /// Takes a frame, unless a newer one is there.
    pub(super) fn advance(&self, schema: &Arc<StoredSchema>, state: &State, moment: Moment) {
        let mut frames = self.lock();
        if frames.current.as_ref().is_some_and(|last| last.moment.instant_ms >= moment.instant_ms) {
            return;
        }
        let recycled = std::mem::take(&mut frames.previous);
        frames.previous = frames.current.take();
        frames.current = Some(match recycled {
            Some(mut snapshot) if snapshot.state.columns() == state.columns() => {
                snapshot.state.copy_from(state);
                Snapshot { schema: Arc::clone(schema), state: snapshot.state, moment }
            }
            _ => Snapshot { schema: Arc::clone(schema), state: state.clone(), moment },
        });
    }

    /// The last frame.
    pub(super) fn last(&self) -> Option<LiveFrame> {
        self.lock().current.as_ref().map(|snapshot| self.frame(snapshot))
    }

    /// The last frame and the one before it.
    pub(super) fn last_two(&self) -> Option<(LiveFrame, LiveFrame)> {
        let frames = self.lock();
        Some((self.frame(frames.previous.as_ref()?), self.frame(frames.current.as_ref()?)))
    }

    /// Looks at the last frames without copying them. Others wait meanwhile: `look` is short.
    pub(super) fn glance<R>(&self, look: impl FnOnce(Glance<'_>) -> R) -> Option<R> {
        let frames = self.lock();
        let current = frames.current.as_ref()?;
        Some(look(Glance {
            schema: &current.schema,
            state: &current.state,
            instant_ms: current.moment.instant_ms,
            arrival_ms: current.moment.arrival_ms,
            clock_uncertain: current.moment.uncertain,
            interval_ms: self.interval_ms(),
            boot: current.moment.boot,
            before: frames.previous.as_ref().map(|previous| GlanceBefore {
                schema: &previous.schema,
                state: &previous.state,
                instant_ms: previous.moment.instant_ms,
                boot: previous.moment.boot,
            }),
        }))
    }

    pub(super) fn info(&self) -> SourceInfo {
        SourceInfo {
            id: self.id,
            agent: self.agent,
            kind: self.kind.clone(),
            key: self.key.clone(),
            interval_ms: self.interval_ms(),
            created_ms: self.created_ms,
            last_instant_ms: self.lock().current.as_ref().map(|last| last.moment.instant_ms),
        }
    }

    fn frame(&self, snapshot: &Snapshot) -> LiveFrame {
        LiveFrame {
            schema: Arc::clone(&snapshot.schema),
            values: snapshot.state.iter().collect(),
            instant_ms: snapshot.moment.instant_ms,
            arrival_ms: snapshot.moment.arrival_ms,
            clock_uncertain: snapshot.moment.uncertain,
            interval_ms: self.interval_ms(),
            boot: snapshot.moment.boot,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
