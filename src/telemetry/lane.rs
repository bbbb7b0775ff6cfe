//! A lane of a session: the delta chains of its sources, and what becomes of a frame. Pure.
//!
//! What must hold: a frame is *decoded* if its values are known, whether it is kept or not, so that
//! the next one can build on it. The body that is stored is the one that came only if its base is
//! stored in the same window by the same lane; else the frame is stored as a keyframe.

use super::StoredSchema;
use super::live::{LiveSource, Moment, RecordId, Step};
use crate::platform::ids::SourceId;
use std::collections::HashMap;
use std::sync::Arc;
use tongtu_protocol::codec::State;
use tongtu_protocol::v1::{self, Refusal};

/// Messages of the live lane after which a backlog lane that says nothing is forgotten.
const IDLE_MESSAGES: u32 = 20;

/// One lane.
#[derive(Debug)]
pub(super) struct Lane {
    pub number: u32,
    pub epoch: u64,
    /// The flow's when the lane began.
    pub generation: u64,
    /// The last sequence seen, 0 for none.
    pub last: u64,
    /// Nothing more is taken from it; the agent was told to begin a new one.
    pub ended: Option<Ended>,
    /// By source, not by the number it has at the moment: a number may be given to another.
    chains: HashMap<SourceId, Chain>,
    quiet: u32,
}

/// Why a lane has to begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Later,
    /// The agent brings new schemas faster than control takes them.
    NewSchemas,
    NeedSchema(tongtu_protocol::schema::SchemaId),
}

/// The frames of one source.
#[derive(Debug)]
pub(super) struct Chain {
    /// None until a frame was decoded.
    schema: Option<Arc<StoredSchema>>,
    /// None: the live view holds it as its last frame, so that it is in memory once.
    state: Option<State>,
    /// The last frame's; 0 for none.
    sequence: u64,
    /// The last frame's values are not known.
    broken: bool,
    /// The window in which the last frame is stored as part of this chain.
    stored: Option<i64>,
}

/// Why a frame is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undecoded {
    Refused(Refusal),
    /// It builds on a frame that control could not use: the lane has to begin anew.
    Restart,
}

impl Lane {
    pub(super) fn new(number: u32, epoch: u64, generation: u64) -> Self {
        Self { number, epoch, generation, last: 0, ended: None, chains: HashMap::new(), quiet: 0 }
    }

    /// Ends the lane: its states are not needed any more.
    pub(super) fn end(&mut self, why: Ended) {
        self.ended = Some(why);
        self.chains = HashMap::new();
    }

    /// Another message of the live lane came, none of this one.
    pub(super) fn grow_quiet(&mut self) {
        self.quiet += 1;
        if self.quiet == IDLE_MESSAGES && self.ended.is_none() {
            self.end(Ended::Later);
        }
    }

    pub(super) fn spoke(&mut self) {
        self.quiet = 0;
    }

    /// Decodes a frame of a source; on success its values are known. With a `moment` it enters the
    /// live view, if it is the newest.
    pub(super) fn decode(
        &mut self,
        source: &LiveSource,
        schema: &Arc<StoredSchema>,
        frame: (u64, &v1::Frame),
        moment: Option<Moment>,
        is_live: bool,
    ) -> Result<&mut Chain, Undecoded> {
        let (epoch, (sequence, frame)) = (self.epoch, frame);
        let (base, body) = (frame.base_sequence, &*frame.body);
        let chain = self.chain(source.id);
        if base == 0 {
            chain.state = Some(State::zero(schema.columns.len()));
            chain.schema = Some(Arc::clone(schema));
        } else if chain.sequence != base || base >= sequence {
            chain.fail(sequence);
            return Err(Undecoded::Refused(Refusal::UnknownBase));
        } else if chain.broken || chain.schema.as_ref().is_none_or(|known| known.number != schema.number) {
            return Err(Undecoded::Restart);
        }
        if base == 0 {
            chain.stored = None;
        }
        let record = RecordId { epoch, sequence: base };
        if let (None, Some(moment)) = (&chain.state, moment) {
            match source.step(record, body, moment) {
                Step::Taken => {
                    (chain.sequence, chain.broken) = (sequence, false);
                    return Ok(chain);
                }
                Step::NoBase => return Err(Undecoded::Restart),
                Step::Undecodable => {
                    chain.fail(sequence);
                    return Err(Undecoded::Refused(Refusal::Undecodable));
                }
                Step::NotNewer => {}
            }
        }
        let Some(mut state) = chain.state.take().or_else(|| source.state_of(record)) else {
            return Err(Undecoded::Restart);
        };
        if state.apply(body).is_err() {
            chain.fail(sequence);
            return Err(Undecoded::Refused(Refusal::Undecodable));
        }
        let shown = moment.is_some_and(|moment| source.advance(schema, &state, moment));
        // The backlog's frame may be followed by a newer one of the live lane.
        chain.state = Some(state).filter(|_| !(shown && is_live));
        (chain.sequence, chain.broken) = (sequence, false);
        Ok(chain)
    }

    /// A frame whose body was not even looked at.
    pub(super) fn skip(&mut self, source: SourceId, sequence: u64) {
        self.chain(source).fail(sequence);
    }

    fn chain(&mut self, source: SourceId) -> &mut Chain {
        self.chains.entry(source).or_insert_with(|| Chain {
            schema: None,
            state: None,
            sequence: 0,
            broken: true,
            stored: None,
        })
    }
}

impl Chain {
    fn fail(&mut self, sequence: u64) {
        (self.sequence, self.broken, self.stored) = (sequence, true, None);
    }

    /// The keyframe of the frame just decoded.
    pub(super) fn keyframe(&self, source: &LiveSource, epoch: u64) -> Option<Vec<u8>> {
        let held = RecordId { epoch, sequence: self.sequence };
        let seen;
        let state = match &self.state {
            Some(state) => state,
            None => {
                seen = source.state_of(held)?;
                &seen
            }
        };
        let mut body = Vec::with_capacity(state.columns() * 3);
        state.encode_keyframe(&mut body);
        Some(body)
    }

    /// The frame just decoded is not stored.
    pub(super) fn left_out(&mut self) {
        self.stored = None;
    }

    /// The frame just decoded is stored in `window`. Gives the base with which its body may be
    /// stored as it came (0 for a keyframe); `None` if a keyframe must be made.
    pub(super) fn store(&mut self, window: i64, base: u64) -> Option<u64> {
        let follows = self.stored == Some(window);
        self.stored = Some(window);
        (base == 0 || follows).then_some(base)
    }
}
