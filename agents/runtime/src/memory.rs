//! A queue in memory: of one source, for the simulator's agents and for tests.
//!
//! It keeps what is not settled as the delta chain it was made as, and two states: before the
//! oldest record kept and after the newest. Each record is counted once, when it is settled.

use crate::queue::{Queue, QueueError, Queued, Settled, Source, Span};
use crate::ranges::Ranges;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;
use tongtu_protocol::{codec::State, schema::SchemaId, v1};

struct Kept {
    sequence: u64,
    boot_id: Arc<str>,
    source: Arc<Source>,
    boottime_ms: u64,
    body: v1::record::Body,
    /// Present values.
    samples: u32,
}

/// What was settled, each record once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames pushed.
    pub frames_made: u64,
    /// Frames accepted.
    pub frames_accepted: u64,
    /// Present values of accepted frames.
    pub samples_accepted: u64,
    /// Records of any kind accepted.
    pub records_accepted: u64,
    /// Records of any kind refused.
    pub records_refused: u64,
}

/// Records of one source that wait in memory.
pub struct MemoryQueue {
    epoch: u64,
    next: u64,
    kept: VecDeque<Kept>,
    /// Settled, but behind a record that is not.
    settled: Ranges,
    schema: v1::Schema,
    source: Arc<Source>,
    boot_id: Arc<str>,
    boots: Vec<(Arc<str>, Vec<v1::Clock>)>,
    /// Before the oldest record kept, of the schema that it has.
    tail: State,
    /// After the newest, with its number; 0: nothing was pushed of this schema.
    head: State,
    head_sequence: u64,
    counts: Counts,
    scratch: Vec<u8>,
    changed: Arc<Notify>,
}

/// A place in a [`MemoryQueue`].
pub struct MemoryCursor {
    /// The next number to look at.
    next: u64,
    /// After the last record read; `None` while it is the queue's head.
    state: Option<State>,
}

impl MemoryQueue {
    /// An empty queue of a source with this schema, in a boot.
    #[must_use]
    pub fn new(kind: &str, key: &str, schema: v1::Schema, interval_ms: u32, boot_id: &str, anchor: v1::Clock) -> Self {
        let columns = schema.columns.len();
        let boot_id: Arc<str> = boot_id.into();
        let id = SchemaId::from_bytes(&schema.id).unwrap_or_else(|| SchemaId::of(&schema.columns));
        Self {
            epoch: rand::random(),
            next: 1,
            kept: VecDeque::new(),
            settled: Ranges::default(),
            schema,
            source: Arc::new(Source { kind: kind.into(), key: key.into(), schema: id, columns, interval_ms }),
            boots: vec![(Arc::clone(&boot_id), vec![anchor])],
            boot_id,
            tail: State::zero(columns),
            head: State::zero(columns),
            head_sequence: 0,
            counts: Counts::default(),
            scratch: Vec::new(),
            changed: Arc::default(),
        }
    }

    /// Adds a frame; returns its number.
    ///
    /// # Panics
    /// If the state has another number of columns than the schema.
    pub fn push_frame(&mut self, boottime_ms: u64, state: &State) -> u64 {
        self.scratch.clear();
        state.encode(&self.head, &mut self.scratch);
        self.head.copy_from(state);
        let body = Bytes::copy_from_slice(&self.scratch);
        let frame = v1::Frame { source: 0, base_sequence: self.head_sequence, body };
        self.head_sequence = self.push(boottime_ms, v1::record::Body::Frame(frame), state.present() as u32);
        self.counts.frames_made += 1;
        self.head_sequence
    }

    /// Adds facts; returns their number.
    pub fn push_facts(&mut self, boottime_ms: u64, facts: std::collections::BTreeMap<String, String>) -> u64 {
        self.push(boottime_ms, v1::record::Body::Facts(v1::Facts { source: 0, facts }), 0)
    }

    fn push(&mut self, boottime_ms: u64, body: v1::record::Body, samples: u32) -> u64 {
        let sequence = self.next;
        self.next += 1;
        let (boot_id, source) = (Arc::clone(&self.boot_id), Arc::clone(&self.source));
        self.kept.push_back(Kept { sequence, boot_id, source, boottime_ms, body, samples });
        self.changed.notify_one();
        sequence
    }

    /// A new boot: what is pushed from now on was made in it.
    pub fn reboot(&mut self, boot_id: &str, anchor: v1::Clock) {
        self.boot_id = boot_id.into();
        self.boots.push((Arc::clone(&self.boot_id), vec![anchor]));
    }

    /// What was settled so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many records wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.kept.len()
    }

    /// Signalled by each push; for a wrapper that pushes while [`Queue::changed`] waits.
    #[must_use]
    pub fn notify(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    fn index(&self, sequence: u64) -> usize {
        self.kept.partition_point(|kept| kept.sequence < sequence)
    }

    /// Drops settled records from the front.
    fn trim(&mut self) {
        while let Some(kept) = self.kept.front() {
            if !self.settled.contains(kept.sequence) {
                break;
            }
            if let v1::record::Body::Frame(frame) = &kept.body {
                // Made by this queue, so it decodes.
                let _ = self.tail.apply(&frame.body);
            }
            self.kept.pop_front();
        }
        let first = self.kept.front().map_or(self.next, |kept| kept.sequence);
        self.settled.remove_below(first);
    }
}

impl Queue for MemoryQueue {
    type Cursor = MemoryCursor;

    fn span(&self) -> Span {
        let first = self.kept.front().map_or(self.next, |kept| kept.sequence);
        // Of a new epoch at each start, so never a copy.
        Span { epoch: self.epoch, first, next: self.next, own_from: self.next }
    }

    fn oldest(&mut self) -> Result<MemoryCursor, QueueError> {
        let next = self.kept.front().map_or(self.next, |kept| kept.sequence);
        Ok(MemoryCursor { next, state: Some(self.tail.clone()) })
    }

    fn newest(&mut self) -> Result<(MemoryCursor, u64), QueueError> {
        let next = if self.head_sequence == 0 { self.next } else { self.head_sequence };
        Ok((MemoryCursor { next, state: None }, self.next))
    }

    fn next(&mut self, cursor: &mut MemoryCursor, until: u64) -> Result<Option<Queued>, QueueError> {
        let first = self.span().first;
        if cursor.next < first {
            // What lay between was settled and is gone.
            cursor.next = first;
            if let Some(state) = &mut cursor.state {
                state.copy_from(&self.tail);
            }
        }
        loop {
            let at = self.index(cursor.next);
            let Some(kept) = self.kept.get(at).filter(|kept| kept.sequence < until) else { return Ok(None) };
            if let (Some(state), v1::record::Body::Frame(frame)) = (&mut cursor.state, &kept.body) {
                let _ = state.apply(&frame.body);
            }
            cursor.next = kept.sequence + 1;
            if self.settled.contains(kept.sequence) {
                continue;
            }
            let crc32c = match &kept.body {
                v1::record::Body::Frame(frame) => crc32c::crc32c(&frame.body),
                _ => 0,
            };
            let record = v1::Record {
                sequence: kept.sequence,
                boot: 0,
                boottime_ms: kept.boottime_ms,
                crc32c,
                body: Some(kept.body.clone()),
            };
            let (boot_id, source) = (Arc::clone(&kept.boot_id), Arc::clone(&kept.source));
            return Ok(Some(Queued { epoch: self.epoch, boot_id, source, record }));
        }
    }

    fn keyframe(&mut self, cursor: &mut MemoryCursor) -> Result<Bytes, QueueError> {
        if cursor.state.is_none() && cursor.next != self.head_sequence + 1 {
            // The head has moved on: this cursor needs a state of its own.
            let mut state = self.tail.clone();
            for kept in self.kept.iter().take_while(|kept| kept.sequence < cursor.next) {
                if let v1::record::Body::Frame(frame) = &kept.body {
                    let _ = state.apply(&frame.body);
                }
            }
            cursor.state = Some(state);
        }
        self.scratch.clear();
        cursor.state.as_ref().unwrap_or(&self.head).encode_keyframe(&mut self.scratch);
        Ok(Bytes::copy_from_slice(&self.scratch))
    }

    fn schema(&mut self, id: SchemaId) -> Result<Option<v1::Schema>, QueueError> {
        Ok((self.source.schema == id).then(|| self.schema.clone()))
    }

    fn anchors(&self, boot_id: &str) -> Vec<v1::Clock> {
        let boot = self.boots.iter().find(|(id, _)| **id == *boot_id);
        boot.map(|(_, anchors)| anchors.clone()).unwrap_or_default()
    }

    fn settle(&mut self, epoch: u64, first: u64, last: u64, settled: Settled) {
        if epoch != self.epoch {
            return;
        }
        let from = self.index(first);
        for kept in self.kept.iter().skip(from).take_while(|kept| kept.sequence <= last) {
            if self.settled.contains(kept.sequence) {
                continue;
            }
            if settled == Settled::Accepted {
                self.counts.records_accepted += 1;
                if matches!(kept.body, v1::record::Body::Frame(_)) {
                    self.counts.frames_accepted += 1;
                    self.counts.samples_accepted += u64::from(kept.samples);
                }
            } else {
                self.counts.records_refused += 1;
            }
        }
        self.settled.insert(first, last.min(self.next - 1));
        self.trim();
    }

    fn lost(&self) -> Vec<v1::LostRanges> {
        Vec::new()
    }

    fn new_epoch(&mut self) -> Result<(), QueueError> {
        self.epoch = rand::random();
        Ok(())
    }

    async fn changed(&mut self) {
        self.changed.notified().await;
    }
}
