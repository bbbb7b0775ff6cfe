//! The frames of one source in order of instant, from windows and chunks. Pure.
//!
//! Frames of a window lie in order of arrival, each a delta to one before it: the lanes of an
//! agent's streams are *runs* that are merged by instant. A run's state is held only from its first
//! frame's turn to its last.

use super::StoredSchema;
use super::batch::FrameEntry;
use super::chunk::{Chunk, ChunkError};
use super::columns::FrameMeta;
use super::registry::Registry;
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, SourceId};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use tongtu_protocol::codec::{DecodeError, State};

/// A frame of a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct WindowFrame<'a> {
    pub meta: FrameMeta,
    pub schema: i64,
    /// 0: keyframe.
    pub base_sequence: u64,
    pub body: &'a [u8],
}

impl<'a> From<&FrameEntry<'a>> for WindowFrame<'a> {
    fn from(entry: &FrameEntry<'a>) -> Self {
        let FrameEntry { instant_ms, sequence, epoch, boot, uncertain, interval_ms, .. } = *entry;
        let meta = FrameMeta { instant_ms, sequence, epoch, boot, uncertain, interval_ms };
        Self { meta, schema: entry.schema, base_sequence: entry.base_sequence, body: entry.body }
    }
}

impl<'a> WindowFrame<'a> {
    /// As it lay in its batch.
    pub(super) fn entry(&self, agent: AgentId, source: SourceId) -> FrameEntry<'a> {
        let FrameMeta { instant_ms, sequence, epoch, boot, uncertain, interval_ms } = self.meta;
        let (schema, base_sequence, body) = (self.schema, self.base_sequence, self.body);
        FrameEntry {
            agent,
            source,
            schema,
            epoch,
            sequence,
            base_sequence,
            boot,
            instant_ms,
            uncertain,
            interval_ms,
            body,
        }
    }
}

/// Stored frames that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FramesError {
    #[error("a frame builds on one that is not there")]
    NoBase,
    #[error("the schema {0} is not there")]
    NoSchema(i64),
    #[error("a frame cannot be decoded: {0}")]
    Decode(#[from] DecodeError),
    #[error("a chunk cannot be read: {0}")]
    Chunk(#[from] ChunkError),
}

/// A frame, decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decoded<'a> {
    pub meta: &'a FrameMeta,
    pub schema: &'a Arc<StoredSchema>,
    pub state: &'a State,
    /// It came from a chunk.
    #[cfg(test)]
    pub kept: bool,
}

/// Frames to be merged.
pub(super) struct Ordered<'a> {
    runs: Vec<Run<'a>>,
}

struct Run<'a> {
    frames: Frames<'a>,
    next: usize,
}

enum Frames<'a> {
    /// Of one lane: ascending in instant; the first is a keyframe.
    Window { frames: Vec<WindowFrame<'a>>, state: Option<State> },
    /// Ascending in instant.
    Chunk { schema: i64, chunk: Chunk<'a>, columns: Vec<Vec<Option<i64>>>, state: State },
    /// Of lanes whose instants went back: decoded, then sorted.
    Sorted(Vec<(FrameMeta, i64, State)>),
}

impl<'a> Ordered<'a> {
    /// Frames of a window in order of arrival.
    pub(super) fn new(frames: &[WindowFrame<'a>], registry: &Registry) -> Result<Self, FramesError> {
        // Epoch, last sequence, schema of each run.
        let mut ends: Vec<(u64, u64, i64)> = Vec::new();
        let mut runs: Vec<Vec<WindowFrame<'a>>> = Vec::new();
        let mut ascending = true;
        for frame in frames {
            let end = (frame.meta.epoch, frame.meta.sequence, frame.schema);
            if frame.base_sequence == 0 {
                ends.push(end);
                runs.push(vec![*frame]);
                continue;
            }
            let base = (frame.meta.epoch, frame.base_sequence, frame.schema);
            let place = ends.iter().rposition(|end| *end == base).ok_or(FramesError::NoBase)?;
            ends[place] = end;
            let run = &mut runs[place];
            ascending &= run.last().is_none_or(|last| last.meta.instant_ms <= frame.meta.instant_ms);
            run.push(*frame);
        }
        let run = |frames| Run { frames: Frames::Window { frames, state: None }, next: 0 };
        let mut runs: Vec<_> = runs.into_iter().map(run).collect();
        if !ascending {
            let mut sorted = Vec::with_capacity(frames.len());
            for run in &mut runs {
                while run.instant().is_some() {
                    let (meta, schema) = run.advance(registry)?;
                    sorted.push((meta, schema.number, run.state().clone()));
                }
            }
            sorted.sort_by_key(|(meta, ..)| meta.instant_ms);
            runs = vec![Run { frames: Frames::Sorted(sorted), next: 0 }];
        }
        Ok(Self { runs })
    }

    /// Adds the frames of a chunk.
    pub(super) fn add_chunk(&mut self, schema: i64, bytes: &'a [u8]) -> Result<(), FramesError> {
        let chunk = Chunk::open(bytes)?;
        let (columns, state) = (Vec::new(), State::zero(0));
        self.runs.push(Run { frames: Frames::Chunk { schema, chunk, columns, state }, next: 0 });
        Ok(())
    }

    /// Calls `each` with every frame, in order of instant.
    pub(super) fn for_each<E: From<FramesError>>(
        mut self,
        registry: &Registry,
        mut each: impl FnMut(Decoded<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let begin = |(place, run): (usize, &Run<'_>)| run.instant().map(|instant| Reverse((instant, place)));
        let mut heap: BinaryHeap<_> = self.runs.iter().enumerate().filter_map(begin).collect();
        while let Some(Reverse((_, place))) = heap.pop() {
            let until = heap.peek().map_or((UnixMs::MAX, usize::MAX), |Reverse(next)| *next);
            let run = &mut self.runs[place];
            // Runs seldom overlap: take from this one as long as it is the earliest.
            while let Some(instant) = run.instant() {
                if (instant, place) > until {
                    heap.push(Reverse((instant, place)));
                    break;
                }
                let (meta, schema) = run.advance(registry)?;
                each(Decoded {
                    meta: &meta,
                    schema: &schema,
                    state: run.state(),
                    #[cfg(test)]
                    kept: matches!(run.frames, Frames::Chunk { .. }),
                })?;
            }
            if run.instant().is_none() {
                run.frames = Frames::Sorted(Vec::new());
            }
        }
        Ok(())
    }
}

impl Run<'_> {
    /// The next frame's instant.
    fn instant(&self) -> Option<UnixMs> {
        match &self.frames {
            Frames::Window { frames, .. } => frames.get(self.next).map(|frame| frame.meta.instant_ms),
            Frames::Chunk { chunk, .. } => chunk.frames().get(self.next).map(|frame| frame.instant_ms),
            Frames::Sorted(frames) => frames.get(self.next).map(|(meta, ..)| meta.instant_ms),
        }
    }

    /// Decodes the next frame, which is there.
    fn advance(&mut self, registry: &Registry) -> Result<(FrameMeta, Arc<StoredSchema>), FramesError> {
        let known = |number| registry.schema_by_number(number).ok_or(FramesError::NoSchema(number));
        let at = self.next;
        self.next += 1;
        match &mut self.frames {
            Frames::Window { frames, state } => {
                let frame = frames[at];
                let schema = known(frame.schema)?;
                if frame.base_sequence == 0 {
                    *state = Some(State::zero(schema.columns.len()));
                }
                state.as_mut().ok_or(FramesError::NoBase)?.apply(frame.body)?;
                Ok((frame.meta, schema))
            }
            Frames::Chunk { schema, chunk, columns, state } => {
                let schema = known(*schema)?;
                if at == 0 {
                    *state = State::zero(chunk.columns());
                    *columns = (0..chunk.columns()).map(|column| chunk.column(column)).collect::<Result<_, _>>()?;
                }
                let meta = chunk.frames()[at];
                for (column, values) in columns.iter().enumerate() {
                    state.set(column, values[at]);
                }
                Ok((meta, schema))
            }
            Frames::Sorted(frames) => {
                let (meta, schema, _) = &frames[at];
                Ok((*meta, known(*schema)?))
            }
        }
    }

    /// The values of the frame that was decoded last.
    fn state(&self) -> &State {
        match &self.frames {
            Frames::Window { state, .. } => state.as_ref().expect("a frame was decoded"),
            Frames::Chunk { state, .. } => state,
            Frames::Sorted(frames) => &frames[self.next - 1].2,
        }
    }
}
