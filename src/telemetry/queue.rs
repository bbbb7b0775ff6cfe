//! Records that wait for their commit: what sessions fill and the committer takes.
//!
//! What must hold:
//! - Everything in one [`Pending`] goes into one window. Sessions hold [`Queue::flow`] for reading
//!   while they encode and append; who changes the window, or gives up what waits, holds it for
//!   writing.
//! - A sequence is *queued* with its agent exactly as long as it is in a `Pending` that is not
//!   resolved. So a repetition of it can be answered together with the commit that follows.
//! - What a failed commit held is forgotten on both sides: the flow's generation grows, and lanes
//!   of an older generation are answered *later* until they begin anew.

use super::agent_state::Agent;
use super::batch;
use super::live::LiveSource;
use super::registry::{Definitions, Registry};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, SourceId};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{Notify, mpsc};
use tongtu_protocol::v1;

/// What a range costs in memory until it is answered, about.
const RECORD_BYTES: usize = 64;

/// Definitions of fewer bytes wait for a record.
const DEFINITIONS_ALONE: usize = 256 << 10;

/// Frames among which the cost of a commit, which is that of about ten of them, does not count any more.
const COMPANY: usize = 128;

/// Where records go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    pub window: i64,
    pub generation: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    flow: RwLock<Flow>,
    pending: Mutex<Pending>,
    /// Bytes waiting, and bytes taken by the committer and not resolved.
    bytes: AtomicUsize,
    limit_bytes: usize,
    full_frames: usize,
    /// Something waits.
    pub filled: Notify,
    /// It is lonely no more.
    pub company: Notify,
    /// Enough waits that the commit need not wait longer.
    pub full: Notify,
}

/// What one transaction will hold.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Which one, so that a session knows whether it is in it already.
    pub number: u64,
    pub window: i64,
    pub body: Vec<u8>,
    /// Bytes that sessions appended, rows, ranges and definitions included.
    pub held_bytes: usize,
    pub frames: Vec<QueuedFrame>,
    pub ranges: Vec<QueuedRange>,
    pub sessions: Vec<QueuedSession>,
    pub rows: Rows,
    pub definitions: Definitions,
}

/// Records that are rows of their own, and why records are missing.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub facts: Vec<FactsRow>,
    pub events: Vec<EventRow>,
    pub losses: Vec<LossRow>,
}

impl Rows {
    pub(super) fn is_empty(&self) -> bool {
        self.facts.is_empty() && self.events.is_empty() && self.losses.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct FactsRow {
    pub source: Arc<LiveSource>,
    pub facts: Arc<super::Facts>,
}

#[derive(Debug)]
pub(super) struct EventRow {
    pub source: SourceId,
    pub instant_ms: UnixMs,
    pub name: String,
    pub attributes: String,
}

#[derive(Debug, Clone)]
pub(super) struct LossRow {
    pub agent: AgentId,
    pub epoch: u64,
    pub first: u64,
    pub last: u64,
    /// Of the wire, or a [refusal](super::absent::refused).
    pub reason: i32,
    pub arrival_ms: UnixMs,
    /// Instants of the frames around it, as far as they are known.
    pub from_ms: Option<UnixMs>,
    pub to_ms: Option<UnixMs>,
}

/// A frame's place in the batch.
#[derive(Debug)]
pub(super) struct QueuedFrame {
    pub source: Arc<LiveSource>,
    /// Of its session in [`Pending::sessions`].
    pub session: u32,
    pub offset: u32,
    pub length: u32,
    pub instant_ms: UnixMs,
    /// At which its source was sampled then.
    pub interval_ms: u32,
}

/// Sequences to be answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueuedRange {
    pub session: u32,
    pub lane: u32,
    pub epoch: u64,
    pub first: u64,
    pub last: u64,
    pub fate: Fate,
}

/// What becomes of a sequence when its batch is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// A frame of this batch.
    Frame,
    /// Facts or an event, a row of this batch's transaction.
    Row,
    /// It was stored, or waits, already.
    Again,
    /// It is settled in this batch without being kept.
    Refused(v1::Refusal),
    /// The agent reported it lost: nobody waits for an answer.
    Lost,
}

#[derive(Debug)]
pub(super) struct QueuedSession {
    pub agent: Arc<Agent>,
    pub answers: mpsc::UnboundedSender<v1::Answers>,
}

/// What a session has made of one message, to be appended at once.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub body: Vec<u8>,
    /// Bytes of facts and events.
    pub row_bytes: usize,
    pub frames: Vec<QueuedFrame>,
    pub ranges: Vec<QueuedRange>,
    pub rows: Rows,
}

/// A session's place in the `Pending` that it was last in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seat {
    pending: u64,
    session: u32,
}

impl Queue {
    pub(super) fn new(window: i64, limit_bytes: usize, full_frames: usize) -> Self {
        let queue = Self {
            flow: RwLock::new(Flow { window, generation: 0 }),
            pending: Mutex::default(),
            bytes: AtomicUsize::new(0),
            limit_bytes,
            full_frames,
            filled: Notify::new(),
            company: Notify::new(),
            full: Notify::new(),
        };
        queue.lock().begin(1, window, Definitions::default());
        queue
    }

    pub(super) fn flow(&self) -> RwLockReadGuard<'_, Flow> {
        self.flow.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps every session out.
    pub(super) fn flow_change(&self) -> RwLockWriteGuard<'_, Flow> {
        self.flow.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a session should be told *later*.
    pub(super) fn is_over_limit(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.limit_bytes
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether there is nothing that is worth a commit.
    pub(super) fn is_empty(&self) -> bool {
        let pending = self.lock();
        pending.ranges.is_empty() && pending.definitions.bytes < self.definitions_alone()
    }

    /// Whether more definitions may come. Those that wait are committed without any record.
    pub(super) fn takes_definitions(&self) -> bool {
        self.lock().definitions.bytes < (self.limit_bytes / 2).max(DEFINITIONS_ALONE)
    }

    /// So many bytes of definitions do not wait for a record.
    fn definitions_alone(&self) -> usize {
        DEFINITIONS_ALONE.min(self.limit_bytes / 4).max(1)
    }

    /// Whether so few frames wait that others should join them.
    pub(super) fn is_lonely(&self) -> bool {
        self.lock().frames.len() < self.company_frames()
    }

    fn company_frames(&self) -> usize {
        COMPANY.min(self.full_frames)
    }

    /// Gives out numbers; those that are new are written with the next batch at the latest, before
    /// anything that uses them.
    pub(super) fn define<T>(&self, registry: &Registry, act: impl FnOnce(&Registry, &mut Definitions) -> T) -> T {
        let mut pending = self.lock();
        let before = pending.definitions.bytes;
        let given = act(registry, &mut pending.definitions);
        let (after, alone) = (pending.definitions.bytes, self.definitions_alone());
        pending.held_bytes += after - before;
        drop(pending);
        self.bytes.fetch_add(after - before, Ordering::Relaxed);
        if before < alone && after >= alone {
            self.filled.notify_one();
        }
        given
    }

    /// Appends what a session prepared while it held the flow; leaves `prepared` empty.
    pub(super) fn append(
        &self,
        _flow: &RwLockReadGuard<'_, Flow>,
        seat: &mut Seat,
        agent: &Arc<Agent>,
        answers: &mpsc::UnboundedSender<v1::Answers>,
        prepared: &mut Prepared,
    ) {
        let mut pending = self.lock();
        let waited = !pending.ranges.is_empty();
        let before = pending.frames.len();
        if seat.pending != pending.number {
            *seat = Seat { pending: pending.number, session: pending.sessions.len() as u32 };
            pending.sessions.push(QueuedSession { agent: Arc::clone(agent), answers: answers.clone() });
        }
        let records = prepared.ranges.len() + prepared.rows.losses.len();
        let held = prepared.body.len() + std::mem::take(&mut prepared.row_bytes) + records * RECORD_BYTES;
        pending.held_bytes += held;
        let offset = pending.body.len() as u32;
        pending.body.extend_from_slice(&prepared.body);
        let frames = prepared.frames.drain(..);
        pending.frames.extend(frames.map(|frame| QueuedFrame {
            session: seat.session,
            offset: frame.offset + offset,
            ..frame
        }));
        let ranges = prepared.ranges.drain(..);
        pending.ranges.extend(ranges.map(|range| QueuedRange { session: seat.session, ..range }));
        pending.rows.facts.append(&mut prepared.rows.facts);
        pending.rows.events.append(&mut prepared.rows.events);
        pending.rows.losses.append(&mut prepared.rows.losses);
        let reached = |frames: usize| before < frames && pending.frames.len() >= frames;
        let (company, full) = (reached(self.company_frames()), reached(self.full_frames));
        let filled = !waited && !pending.ranges.is_empty();
        drop(pending);
        self.bytes.fetch_add(held, Ordering::Relaxed);
        prepared.body.clear();
        if filled {
            self.filled.notify_one();
        }
        if company {
            self.company.notify_one();
        }
        if full {
            self.full.notify_one();
        }
    }

    /// Takes what waits; what comes next goes to `window`.
    pub(super) fn take(&self, window: i64) -> Pending {
        let mut pending = self.lock();
        let mut next = Pending::default();
        // Most batches are as large as the one before.
        next.body.reserve(pending.body.len().min(1 << 20));
        next.frames.reserve(pending.frames.len());
        next.ranges.reserve(pending.ranges.len());
        next.begin(pending.number + 1, window, Definitions::default());
        std::mem::replace(&mut *pending, next)
    }

    /// The committer is done with what it took, one way or the other.
    pub(super) fn resolved(&self, body_bytes: usize) {
        self.bytes.fetch_sub(body_bytes, Ordering::Relaxed);
    }

    /// Puts definitions that were not written before those that wait.
    pub(super) fn give_back(&self, definitions: Definitions) {
        let mut pending = self.lock();
        let bytes = definitions.bytes;
        pending.held_bytes += bytes;
        definitions.prepend_to(&mut pending.definitions);
        drop(pending);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn begin(&mut self, number: u64, window: i64, definitions: Definitions) {
        self.number = number;
        self.window = window;
        self.definitions = definitions;
        batch::begin(&mut self.body);
    }
}
