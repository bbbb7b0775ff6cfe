//! The reading side of a spool: the session's [`Queue`].

use super::segment::{self, Item, Kind, MAGIC, Reader};
use super::{Inner, REFUSALS, SETTLED_EVERY_MS, Segment, Spool};
use crate::clock;
use crate::queue::{Queue, QueueError, Queued, Settled, Source, Span};
use bytes::Bytes;
use prost::Message;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::sync::Arc;
use tongtu_protocol::codec::State;
use tongtu_protocol::schema::SchemaId;
use tongtu_protocol::v1::{self, LossReason};

/// A source as the segment being read defines it.
struct Defined {
    source: Arc<Source>,
    state: State,
}

/// A place in a [`Spool`]: before an item of a segment, with the state of each source there.
pub struct SpoolCursor {
    index: u64,
    file: Option<File>,
    at: u64,
    reader: Reader,
    boot_id: Arc<str>,
    sources: Vec<Defined>,
    /// The number after the last record read of this segment.
    expected: u64,
    /// Given before anything else: the newest frames, each a keyframe.
    newest: VecDeque<Queued>,
    /// The source of the frame given last.
    last: usize,
}

impl SpoolCursor {
    fn new(index: u64) -> Self {
        Self {
            index,
            file: None,
            at: 0,
            reader: Reader::default(),
            boot_id: "".into(),
            sources: Vec::new(),
            expected: 0,
            newest: VecDeque::new(),
            last: 0,
        }
    }

    /// Opens the segment if that has not been done.
    fn enter(&mut self, inner: &Inner, segment: &Segment) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(File::open(segment.path(&inner.directory))?);
            self.at = MAGIC.len() as u64;
            self.boot_id = Arc::clone(&segment.boot_id);
            self.sources = Vec::new();
            self.expected = segment.first;
            self.reader.forget();
        }
        Ok(())
    }

    fn leave(&mut self, index: u64) {
        self.index = index;
        self.file = None;
        self.reader.forget();
    }

    /// The next item of the segment, which is good up to `end`.
    fn item(&mut self, end: u64) -> io::Result<Item> {
        match &self.file {
            Some(file) => self.reader.item(file, self.at, end),
            None => Ok(Item::End),
        }
    }

    /// Takes what is no record. Returns whether it made sense.
    fn define(&mut self, kind: Kind, payload: &Bytes) -> bool {
        if kind != Kind::Source {
            return true;
        }
        let Some((columns, source)) = payload.split_first_chunk::<4>() else { return false };
        let Ok(source) = v1::Source::decode(source) else { return false };
        let Some(schema) = SchemaId::from_bytes(&source.schema_id) else { return false };
        let v1::Source { kind, key, interval_ms, .. } = source;
        let columns = u32::from_le_bytes(*columns) as usize;
        let source = Source { kind, key, schema, columns, interval_ms };
        if columns > tongtu_protocol::limits::COLUMNS {
            return false;
        }
        self.sources.push(Defined { source: Arc::new(source), state: State::zero(columns) });
        true
    }

    /// Applies a record to the state of its source; returns the source's place.
    fn apply(&mut self, record: &v1::Record) -> Option<usize> {
        let number = match record.body.as_ref()? {
            v1::record::Body::Frame(frame) => frame.source,
            v1::record::Body::Facts(facts) => facts.source,
            v1::record::Body::Event(event) => event.source,
        };
        let at = (number as usize).checked_sub(1)?;
        let defined = self.sources.get_mut(at)?;
        if let Some(v1::record::Body::Frame(frame)) = &record.body {
            defined.state.apply(&frame.body).ok()?;
        }
        self.expected = record.sequence + 1;
        Some(at)
    }

    fn queued(&self, epoch: u64, at: usize, record: v1::Record) -> Queued {
        Queued { epoch, boot_id: Arc::clone(&self.boot_id), source: Arc::clone(&self.sources[at].source), record }
    }

    fn keyframe_of(&self, at: usize) -> Bytes {
        let mut body = Vec::new();
        if let Some(defined) = self.sources.get(at) {
            defined.state.encode_keyframe(&mut body);
        }
        body.into()
    }

    /// Reads to the end of the segment and keeps the newest frame of each source.
    fn skip_to_newest(&mut self, epoch: u64, end: u64) -> io::Result<()> {
        let mut newest: Vec<(usize, v1::Record)> = Vec::new();
        while let Item::Whole(kind, payload, next) = self.item(end)? {
            if kind == Kind::Record {
                let Ok(record) = v1::Record::decode(payload) else { break };
                let Some(at) = self.apply(&record) else { break };
                if matches!(record.body, Some(v1::record::Body::Frame(_))) {
                    newest.retain(|(of, _)| *of != at);
                    newest.push((at, record));
                }
            } else if !self.define(kind, &payload) {
                break;
            }
            self.at = next;
        }
        // A source that changed its schema counts once.
        let key = |at: usize| (&self.sources[at].source.kind, &self.sources[at].source.key);
        let current: Vec<bool> = (0..newest.len())
            .map(|index| !newest[index + 1..].iter().any(|(at, _)| key(*at) == key(newest[index].0)))
            .collect();
        for ((at, mut record), _) in newest.into_iter().zip(current).filter(|(_, current)| *current) {
            if let Some(v1::record::Body::Frame(frame)) = &mut record.body {
                (frame.base_sequence, frame.body) = (0, self.keyframe_of(at));
                record.crc32c = crc32c::crc32c(&frame.body);
            }
            let queued = self.queued(epoch, at, record);
            self.newest.push_back(queued);
        }
        Ok(())
    }
}

impl Spool {
    /// Gives up on the rest of a segment: from `first` on it cannot be read.
    fn abandon(&self, inner: &mut Inner, cursor: &mut SpoolCursor, first: u64) {
        let Some(segment) = inner.segment(cursor.index) else { return };
        let (epoch, last) = (segment.epoch, segment.last);
        tracing::warn!(first, last, "records of the spool are damaged and lost");
        let _ = inner.lose(epoch, first, last, LossReason::Corrupt);
        cursor.leave(cursor.index + 1);
    }

    fn step(&self, inner: &mut Inner, cursor: &mut SpoolCursor, until: u64) -> io::Result<Step> {
        let at = inner.segments.partition_point(|segment| segment.index < cursor.index);
        let Some(segment) = inner.segments.get(at) else { return Ok(Step::End) };
        if segment.index != cursor.index {
            // The one it was in is gone.
            cursor.leave(segment.index);
        }
        let (epoch, end, last) = (segment.epoch, segment.len, segment.last);
        cursor.enter(inner, segment)?;
        match cursor.item(end)? {
            Item::Whole(Kind::Record, payload, next) => {
                let Ok(record) = v1::Record::decode(payload) else { return Ok(Step::Damaged) };
                if epoch == inner.epoch && record.sequence >= until {
                    return Ok(Step::End);
                }
                let Some(at) = cursor.apply(&record) else { return Ok(Step::Damaged) };
                cursor.at = next;
                if inner.is_settled(epoch, record.sequence) {
                    return Ok(Step::On);
                }
                cursor.last = at;
                Ok(Step::Record(Box::new(cursor.queued(epoch, at, record))))
            }
            Item::Whole(kind, payload, next) => {
                cursor.at = next;
                Ok(if cursor.define(kind, &payload) { Step::On } else { Step::Damaged })
            }
            Item::End if segment_follows(inner, cursor.index) => {
                if cursor.expected <= last {
                    return Ok(Step::Damaged);
                }
                cursor.leave(cursor.index + 1);
                Ok(Step::On)
            }
            Item::End => Ok(Step::End),
            Item::Torn | Item::Corrupt => Ok(Step::Damaged),
        }
    }
}

fn segment_follows(inner: &Inner, index: u64) -> bool {
    inner.segments.back().is_some_and(|segment| segment.index > index)
}

enum Step {
    Record(Box<Queued>),
    On,
    End,
    Damaged,
}

/// Damage of the file itself, not a passing trouble of the system.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound)
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

impl Queue for Spool {
    type Cursor = SpoolCursor;

    fn span(&self) -> Span {
        let inner = self.shared.inner();
        let done = inner.done(inner.epoch);
        let of_epoch = inner.segments.iter().find(|segment| segment.epoch == inner.epoch);
        let first = of_epoch.map_or(inner.next, |segment| done.first_gap(segment.first));
        Span { epoch: inner.epoch, first: first.min(inner.next), next: inner.next, own_from: inner.own_from }
    }

    fn oldest(&mut self) -> Result<SpoolCursor, QueueError> {
        let inner = self.shared.inner();
        let waiting = inner.segments.iter().find(|segment| !inner.is_done(segment));
        let last = || inner.segments.back().map_or(0, |segment| segment.index);
        Ok(SpoolCursor::new(waiting.map_or_else(last, |segment| segment.index)))
    }

    fn newest(&mut self) -> Result<(SpoolCursor, u64), QueueError> {
        let inner = self.shared.inner();
        let Some(segment) = inner.segments.back() else { return Ok((SpoolCursor::new(0), inner.next)) };
        let mut cursor = SpoolCursor::new(segment.index);
        let read = cursor.enter(&inner, segment).and_then(|()| cursor.skip_to_newest(segment.epoch, segment.len));
        match read {
            Ok(()) => Ok((cursor, inner.next)),
            // The backlog will find out.
            Err(error) if is_damage(&error) => Ok((SpoolCursor::new(segment.index + 1), inner.next)),
            Err(error) => Err(QueueError::new(&error)),
        }
    }

    fn next(&mut self, cursor: &mut SpoolCursor, until: u64) -> Result<Option<Queued>, QueueError> {
        let mut inner = self.shared.inner();
        while let Some(queued) = cursor.newest.pop_front() {
            if !inner.is_settled(queued.epoch, queued.record.sequence) {
                return Ok(Some(queued));
            }
        }
        loop {
            match self.step(&mut inner, cursor, until) {
                Ok(Step::Record(queued)) => return Ok(Some(*queued)),
                Ok(Step::On) => {}
                Ok(Step::End) => return Ok(None),
                Ok(Step::Damaged) => {
                    let first = cursor.expected;
                    self.abandon(&mut inner, cursor, first);
                }
                Err(error) if is_damage(&error) => {
                    let first = inner.segment(cursor.index).map_or(0, |segment| segment.first);
                    let first = first.max(cursor.expected);
                    self.abandon(&mut inner, cursor, first);
                }
                Err(error) => return Err(QueueError::new(&error)),
            }
        }
    }

    fn keyframe(&mut self, cursor: &mut SpoolCursor) -> Result<Bytes, QueueError> {
        Ok(cursor.keyframe_of(cursor.last))
    }

    fn schema(&mut self, id: SchemaId) -> Result<Option<v1::Schema>, QueueError> {
        let inner = self.shared.inner();
        let Some((index, place)) = inner.schemas.get(&id).copied() else { return Ok(None) };
        let Some(segment) = inner.segment(index) else { return Ok(None) };
        let read = File::open(segment.path(&inner.directory))
            .and_then(|file| Reader::default().item(&file, place, segment.len));
        match read {
            Ok(Item::Whole(Kind::Schema, payload, _)) => Ok(v1::Schema::decode(payload).ok()),
            Ok(_) => Ok(None),
            Err(error) if is_damage(&error) => Ok(None),
            Err(error) => Err(QueueError::new(&error)),
        }
    }

    fn anchors(&self, boot_id: &str) -> Vec<v1::Clock> {
        let inner = self.shared.inner();
        let boot = inner.anchors.iter().find(|(id, _)| **id == *boot_id);
        boot.map(|(_, anchors)| anchors.clone()).unwrap_or_default()
    }

    fn settle(&mut self, epoch: u64, first: u64, last: u64, settled: Settled) {
        let mut inner = self.shared.inner();
        let added = inner.settled.entry(epoch).or_default().insert(first, last);
        if let Settled::Refused(refusal) = settled {
            let known = if (refusal as usize) < REFUSALS { refusal as usize } else { 0 };
            inner.refused[known] += added;
        }
        inner.settled_dirty = true;
        if !inner.lost.is_empty() {
            let ranges = inner.settled[&epoch].clone();
            inner.lost.settle(epoch, &ranges);
            inner.prune_lost();
        }
        inner.delete_settled();
        let now_ms = clock::boottime_ms();
        if now_ms.saturating_sub(inner.settled_written_ms) >= SETTLED_EVERY_MS {
            inner.settled_written_ms = now_ms;
            inner.write_settled();
        }
    }

    fn lost(&self) -> Vec<v1::LostRanges> {
        let inner = self.shared.inner();
        if inner.lost.is_empty() { Vec::new() } else { inner.lost.report() }
    }

    fn new_epoch(&mut self) -> Result<(), QueueError> {
        let mut inner = self.shared.inner();
        let (old, new) = (inner.epoch, rand::random());
        let from = inner.own_from;
        // The newest first: the last segment's name decides after a crash.
        let moved: Vec<u64> = inner
            .segments
            .iter()
            .rev()
            .filter(|segment| segment.epoch == old && segment.first >= from)
            .map(|segment| segment.index)
            .collect();
        for index in moved {
            let directory = inner.directory.clone();
            let Some(segment) = inner.segments.iter_mut().find(|segment| segment.index == index) else { continue };
            let before = segment.path(&directory);
            let after = directory.join(segment::name(index, new, segment.first));
            fs::rename(before, after).map_err(|error| QueueError::new(&error))?;
            segment.epoch = new;
        }
        super::sync_directory(&inner.directory).map_err(|error| QueueError::new(&error))?;
        let ranges: Vec<_> = inner.settled.get(&old).map(|ranges| ranges.iter().collect()).unwrap_or_default();
        for (first, last) in ranges.into_iter().filter(|range| range.1 >= from) {
            inner.settled.entry(new).or_default().insert(first.max(from), last);
        }
        inner.settled_dirty = true;
        inner.epoch = new;
        Ok(())
    }

    async fn changed(&mut self) {
        self.shared.changed.notified().await;
    }
}
