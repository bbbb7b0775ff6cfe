//! The writing side of a spool: one thread appends the records of a tick, then makes them durable.

use super::segment::{self, Kind, MAGIC};
use super::{Segment, Shared, sync_directory};
use crate::queue::Source;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tongtu_protocol::codec::State;
use tongtu_protocol::v1::{self, LossReason};

/// A segment that is larger is closed.
const SEGMENT_BYTES: u64 = 2 << 20;
/// A segment that is older is closed, so that the bound of age drops little at once.
const SEGMENT_AGE_MS: u64 = 6 * 3_600_000;
/// Between two anchors in a segment.
const ANCHOR_EVERY_MS: u64 = 3_600_000;
/// A buffer that grew beyond this (by a schema) is given back.
const BUFFER_BYTES: usize = 16 << 10;

/// A source as a segment knows it.
struct Chain {
    source: Arc<Source>,
    /// Its last frame in this segment; 0: none.
    last: u64,
    state: State,
}

struct Open {
    index: u64,
    file: File,
    len: u64,
    opened_ms: u64,
    anchored_ms: u64,
    /// The wall clock's reading at boot, by the last anchor.
    wall_offset_ms: i64,
    synchronised: bool,
    chains: Vec<Chain>,
}

/// Appends records. Not shared: one thread owns it.
pub struct Writer {
    shared: Arc<Shared>,
    boot_id: Arc<str>,
    open: Option<Open>,
    next: u64,
    buffer: Vec<u8>,
    body: Vec<u8>,
    /// Of this tick: number of records, their boot time, schemas by their place in the buffer.
    staged: u64,
    staged_ms: u64,
    staged_schemas: Vec<(tongtu_protocol::schema::SchemaId, usize)>,
    staged_anchors: Vec<v1::Clock>,
    /// The failure in the log, said once.
    failing: bool,
    #[cfg(test)]
    pub(super) fail_writes: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, boot_id: &str, clock: v1::Clock) -> io::Result<Self> {
        let next = shared.inner().next;
        let mut writer = Self {
            shared,
            boot_id: boot_id.into(),
            open: None,
            next,
            buffer: Vec::new(),
            body: Vec::new(),
            staged: 0,
            staged_ms: 0,
            staged_schemas: Vec::new(),
            staged_anchors: Vec::new(),
            failing: false,
            #[cfg(test)]
            fail_writes: false,
        };
        match writer.roll(clock) {
            Err(error) if !is_full(&error) => Err(error),
            Err(error) => {
                writer.note_failure(&error);
                Ok(writer)
            }
            Ok(()) => Ok(writer),
        }
    }

    /// Begins a tick at the instant `clock`: the bounds are kept, and a new segment is begun if it
    /// is time.
    pub fn begin(&mut self, clock: v1::Clock) {
        let roll = {
            let mut inner = self.shared.inner();
            let directory = inner.directory.clone();
            inner.lost.keep(&directory);
            std::mem::take(&mut inner.roll)
        };
        let roll = match &self.open {
            Some(open) => {
                let used = open.chains.iter().any(|chain| chain.last > 0);
                let age_ms = clock.boottime_ms.saturating_sub(open.opened_ms);
                (roll && used) || open.len >= SEGMENT_BYTES || age_ms >= SEGMENT_AGE_MS
            }
            None => true,
        };
        if roll {
            self.open = None;
            if let Err(error) = self.roll(clock) {
                self.note_failure(&error);
            }
        }
        self.shared.inner().bound(&self.boot_id, &clock);
        self.anchor(clock);
        self.staged_ms = clock.boottime_ms;
    }

    /// Anchors go along hourly, and when the wall clock was set or became synchronised.
    fn anchor(&mut self, clock: v1::Clock) {
        let Some(open) = &mut self.open else { return };
        let offset = clock.wall_ms - clock.boottime_ms as i64;
        let stepped = (offset - open.wall_offset_ms).abs() > 500;
        let due = clock.boottime_ms.saturating_sub(open.anchored_ms) >= ANCHOR_EVERY_MS;
        if due || stepped || clock.synchronised != open.synchronised {
            segment::put(&mut self.buffer, Kind::Anchor, &[], &clock);
            self.staged_anchors.push(clock);
            (open.anchored_ms, open.wall_offset_ms) = (clock.boottime_ms, offset);
            open.synchronised = clock.synchronised;
        }
    }

    /// Adds a frame of a source. `schema`, encoded, is asked for when the segment does not have it.
    pub fn frame(&mut self, source: &Arc<Source>, schema: impl FnOnce() -> Vec<u8>, state: &State) {
        let Some(at) = self.chain(source, schema) else {
            self.staged += 1;
            return;
        };
        let Some(open) = &mut self.open else { return };
        let chain = &mut open.chains[at];
        self.body.clear();
        state.encode(&chain.state, &mut self.body);
        chain.state.copy_from(state);
        let sequence = self.next + self.staged;
        let frame =
            v1::Frame { source: at as u32 + 1, base_sequence: chain.last, body: Bytes::copy_from_slice(&self.body) };
        chain.last = sequence;
        self.record(v1::record::Body::Frame(frame), crc32c::crc32c(&self.body), self.staged_ms);
    }

    /// Adds the facts of a source.
    pub fn facts(&mut self, source: &Arc<Source>, schema: impl FnOnce() -> Vec<u8>, facts: BTreeMap<String, String>) {
        match self.chain(source, schema) {
            Some(at) => {
                let facts = v1::Facts { source: at as u32 + 1, facts };
                self.record(v1::record::Body::Facts(facts), 0, self.staged_ms);
            }
            None => self.staged += 1,
        }
    }

    /// Adds an event of a source, which happened at `boottime_ms`.
    pub fn event(
        &mut self,
        source: &Arc<Source>,
        schema: impl FnOnce() -> Vec<u8>,
        boottime_ms: u64,
        mut event: v1::Event,
    ) {
        match self.chain(source, schema) {
            Some(at) => {
                event.source = at as u32 + 1;
                self.record(v1::record::Body::Event(event), 0, boottime_ms);
            }
            None => self.staged += 1,
        }
    }

    fn record(&mut self, body: v1::record::Body, crc32c: u32, boottime_ms: u64) {
        let sequence = self.next + self.staged;
        let record = v1::Record { sequence, boot: 0, boottime_ms, crc32c, body: Some(body) };
        segment::put(&mut self.buffer, Kind::Record, &[], &record);
        self.staged += 1;
    }

    /// The place of a source in the segment; defines it if needed. `None`: there is no segment.
    fn chain(&mut self, source: &Arc<Source>, schema: impl FnOnce() -> Vec<u8>) -> Option<usize> {
        let open = self.open.as_mut()?;
        // By address first: an agent may have hundreds of sources.
        let known = open.chains.iter().position(|chain| Arc::ptr_eq(&chain.source, source));
        let known = known.or_else(|| open.chains.iter().position(|chain| *chain.source == **source));
        if known.is_some() {
            return known;
        }
        if !open.chains.iter().any(|chain| chain.source.schema == source.schema) {
            self.staged_schemas.push((source.schema, self.buffer.len()));
            segment::put_encoded(&mut self.buffer, Kind::Schema, &schema());
        }
        let definition = v1::Source {
            number: open.chains.len() as u32 + 1,
            kind: source.kind.clone(),
            key: source.key.clone(),
            schema_id: source.schema.0.to_vec().into(),
            interval_ms: source.interval_ms,
        };
        segment::put(&mut self.buffer, Kind::Source, &(source.columns as u32).to_le_bytes(), &definition);
        open.chains.push(Chain { source: Arc::clone(source), last: 0, state: State::zero(source.columns) });
        Some(open.chains.len() - 1)
    }

    /// Makes the tick durable, then shows it to the session. Returns whether it could.
    pub fn commit(&mut self) -> bool {
        if self.staged == 0 && self.buffer.is_empty() {
            return true;
        }
        let result = match &mut self.open {
            Some(open) => open.append(
                &self.buffer,
                #[cfg(test)]
                self.fail_writes,
            ),
            None => Err(io::ErrorKind::StorageFull.into()),
        };
        let (first, last) = (self.next, self.next + self.staged - u64::from(self.staged > 0));
        let staged = std::mem::take(&mut self.staged);
        self.next += staged;
        let written = result.is_ok();
        let mut inner = self.shared.inner();
        inner.next = self.next;
        match (&mut self.open, &result) {
            (Some(open), Ok(())) => {
                let place = open.len - self.buffer.len() as u64;
                for (id, at) in self.staged_schemas.drain(..) {
                    inner.schemas.insert(id, (open.index, place + at as u64));
                }
                inner.add_anchors(&self.boot_id, std::mem::take(&mut self.staged_anchors));
                if let Some(segment) = inner.segments.iter_mut().find(|segment| segment.index == open.index) {
                    if staged > 0 {
                        let before = (!segment.is_empty()).then_some(segment.boottimes_ms.0);
                        segment.boottimes_ms = (before.unwrap_or(self.staged_ms), self.staged_ms);
                        segment.last = last;
                    }
                    segment.len = open.len;
                }
            }
            _ => {
                if staged > 0 {
                    let epoch = inner.epoch;
                    // What cannot be noted now is noted when there is room; until then it is not reported.
                    let _ = inner.lose(epoch, first, last, LossReason::DiskFull);
                }
                self.staged_schemas.clear();
                self.staged_anchors.clear();
            }
        }
        drop(inner);
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES);
        self.shared.changed.notify_one();
        match result {
            Ok(()) if std::mem::take(&mut self.failing) => tracing::info!("the spool can be written again"),
            Ok(()) => {}
            Err(error) => {
                // Its chains hold what was never written.
                self.open = None;
                self.note_failure(&error);
            }
        }
        written
    }

    fn note_failure(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let path = self.shared.inner().directory.display().to_string();
            tracing::error!(%error, path, "cannot write to the spool: what is measured now is lost, until there is room");
        }
    }

    /// Begins a new segment.
    fn roll(&mut self, clock: v1::Clock) -> io::Result<()> {
        let (directory, epoch, index) = {
            let inner = self.shared.inner();
            let index = inner.segments.back().map_or(1, |segment| segment.index + 1);
            (inner.directory.clone(), inner.epoch, index)
        };
        let mut header = MAGIC.to_vec();
        let boot = v1::Boot { number: 0, boot_id: self.boot_id.to_string(), anchors: vec![clock] };
        segment::put(&mut header, Kind::Boot, &[], &boot);
        let temporary = directory.join("segment.tmp");
        let file = fs::OpenOptions::new().create(true).truncate(true).write(true).open(&temporary)?;
        #[cfg(test)]
        if self.fail_writes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all_at(&header, 0)?;
        file.sync_data()?;
        let mut segment = Segment {
            index,
            epoch,
            first: self.next,
            last: self.next - 1,
            len: header.len() as u64,
            boot_id: Arc::clone(&self.boot_id),
            boottimes_ms: (clock.boottime_ms, clock.boottime_ms),
            anchor: Some(clock),
        };
        let mut inner = self.shared.inner();
        // The epoch may have changed meanwhile.
        segment.epoch = inner.epoch;
        fs::rename(&temporary, segment.path(&directory))?;
        sync_directory(&directory)?;
        segment.boot_id = inner.add_anchors(&self.boot_id, vec![clock]);
        let len = segment.len;
        inner.segments.push_back(segment);
        inner.delete_settled();
        inner.prune_lost();
        drop(inner);
        self.open = Some(Open {
            index,
            file,
            len,
            opened_ms: clock.boottime_ms,
            anchored_ms: clock.boottime_ms,
            wall_offset_ms: clock.wall_ms - clock.boottime_ms as i64,
            synchronised: clock.synchronised,
            chains: Vec::new(),
        });
        Ok(())
    }
}

impl Open {
    fn append(&mut self, bytes: &[u8], #[cfg(test)] fail: bool) -> io::Result<()> {
        #[cfg(test)]
        if fail {
            self.file.write_all_at(&bytes[..bytes.len() / 2], self.len)?;
            self.file.set_len(self.len)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.file.write_all_at(bytes, self.len).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half an append is no corruption, but better not there at all.
                let _ = self.file.set_len(self.len);
                Err(error)
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
