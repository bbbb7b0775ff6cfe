//! The disk spool: records wait here until control has settled them.
//!
//! A folder of append-only segments (`segment`), the newest open. What must hold:
//! - A record is durable (`fdatasync`, once for all records of a tick, in the thread that makes
//!   frames) before the session sees it; so what was sent has its number for ever, and after a kill
//!   at any moment the next number follows from what is on disk. A last segment that ends in bytes
//!   which an interrupted append cannot explain begins a new epoch instead.
//! - A segment is created under another name, synced, then renamed, and the folder synced.
//! - What the bounds drop, a full disk refuses or the disk corrupts is a lost range (`lost`), on disk
//!   before its segment is gone and before it is reported, until control has answered it.
//! - Settled numbers are written to `settled` without a sync, before a segment is deleted. If that
//!   file is old or gone, records are sent again, which is harmless.
//! - A full disk stops nothing but the append: the tick's records are lost, the next tick tries again.

mod cursor;
mod lost;
mod segment;
mod writer;

pub use cursor::SpoolCursor;
pub use writer::Writer;

use crate::ranges::Ranges;
use lost::{Lost, LostList, sync_directory};
use segment::Tail;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Notify;
use tongtu_protocol::schema::SchemaId;
use tongtu_protocol::v1::{self, LossReason};

/// What a spool may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all segments.
    pub max_bytes: u64,
    /// Of a record.
    pub max_age: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { max_bytes: 512 << 20, max_age: Duration::from_secs(7 * 86_400) }
    }
}

/// A spool that cannot be opened.
#[derive(Debug, Error)]
#[error("cannot use the spool {}: {cause}", .path.display())]
pub struct SpoolError {
    path: PathBuf,
    cause: io::Error,
}

/// What a spool says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Records that are not settled.
    pub records: u64,
    /// Boot-time age of the oldest of them; 0 if there is none.
    pub oldest_ms: u64,
    /// Records lost since the process began, by size, age, full disk, corruption.
    pub lost: [u64; 4],
    /// Records that control refused since the process began, by [`v1::Refusal`].
    pub refused: [u64; REFUSALS],
}

/// Kinds of refusal; one that is newer than this agent counts as unspecified.
pub const REFUSALS: usize = v1::Refusal::TooMany as usize + 1;

pub(crate) const LOST_REASONS: [&str; 4] = ["size", "age", "disk", "corrupt"];

#[derive(Debug)]
struct Segment {
    index: u64,
    epoch: u64,
    /// In the file's name: no record in it is below.
    first: u64,
    /// The last record; `first - 1` while there is none.
    last: u64,
    /// Whole and durable up to here.
    len: u64,
    boot_id: Arc<str>,
    /// Boot times of the first and the last record.
    boottimes_ms: (u64, u64),
    /// One anchor, to tell its age after a reboot.
    anchor: Option<v1::Clock>,
}

impl Segment {
    fn path(&self, directory: &Path) -> PathBuf {
        directory.join(segment::name(self.index, self.epoch, self.first))
    }

    fn is_empty(&self) -> bool {
        self.last < self.first
    }
}

struct Inner {
    directory: PathBuf,
    bounds: Bounds,
    epoch: u64,
    /// The next number; all below are durable or lost.
    next: u64,
    /// Ascending in index.
    segments: VecDeque<Segment>,
    settled: BTreeMap<u64, Ranges>,
    lost: LostList,
    /// Anchors of each boot that segments know.
    anchors: Vec<(Arc<str>, Vec<v1::Clock>)>,
    /// Where schemas stand: segment and place.
    schemas: HashMap<SchemaId, (u64, u64)>,
    /// From here on numbers have surely not been sent by the machine that this one is a copy of.
    own_from: u64,
    /// The next tick begins a new segment.
    roll: bool,
    settled_dirty: bool,
    settled_written_ms: u64,
    lost_counts: [u64; 4],
    refused: [u64; REFUSALS],
}

struct Shared {
    inner: Mutex<Inner>,
    changed: Notify,
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session's side of a spool. Clones are the same spool.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
}

const SETTLED: &str = "settled";
/// `settled` is written so often while nothing is deleted: after a kill that much is sent again, which
/// is a few tens of frames. A file made anew costs as much as a third of a frame.
const SETTLED_EVERY_MS: u64 = 600_000;

impl Spool {
    /// Opens the spool of a folder, repairs it, and begins a new segment. A full disk is no error.
    ///
    /// # Errors
    /// A folder that cannot be made or read.
    pub fn open(
        directory: &Path,
        bounds: Bounds,
        boot_id: &str,
        clock: v1::Clock,
    ) -> Result<(Self, Writer), SpoolError> {
        let fault = |cause| SpoolError { path: directory.to_owned(), cause };
        let inner = Inner::load(directory, bounds).map_err(fault)?;
        let shared = Arc::new(Shared { inner: Mutex::new(inner), changed: Notify::new() });
        let writer = Writer::new(Arc::clone(&shared), boot_id, clock).map_err(fault)?;
        shared.inner().delete_settled();
        Ok((Self { shared }, writer))
    }

    /// What it holds. `boottime_ms` is now.
    #[must_use]
    pub fn depth(&self, boot_id: &str, clock: &v1::Clock) -> Depth {
        self.shared.inner().depth(boot_id, clock)
    }

    /// A session ended: what comes next stands in a segment of its own, in case control tells the
    /// next session that this spool is a copy.
    pub fn session_ended(&self) {
        let mut inner = self.shared.inner();
        (inner.roll, inner.own_from) = (true, inner.next);
    }

    /// Writes down what is settled, before the process ends.
    pub fn close(&self) {
        self.shared.inner().write_settled();
    }
}

impl Inner {
    fn load(directory: &Path, bounds: Bounds) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut names = Vec::new();
        let mut lost = Vec::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.ends_with(".tmp") {
                fs::remove_file(directory.join(name))?;
            }
            names.extend(segment::parse_name(name));
            lost.extend(Lost::parse(name));
        }
        names.sort_unstable();
        let mut inner = Self {
            directory: directory.to_owned(),
            bounds,
            epoch: rand::random(),
            next: 1,
            segments: VecDeque::new(),
            settled: read_settled(&directory.join(SETTLED)),
            lost: LostList::load(lost),
            anchors: Vec::new(),
            schemas: HashMap::new(),
            own_from: 1,
            roll: false,
            settled_dirty: false,
            settled_written_ms: 0,
            lost_counts: [0; 4],
            refused: [0; REFUSALS],
        };
        let mut corrupt = Vec::new();
        let count = names.len();
        for (at, (index, epoch, first)) in names.into_iter().enumerate() {
            let path = directory.join(segment::name(index, epoch, first));
            let scan = segment::scan(&File::open(&path)?)?;
            let tail = scan.as_ref().map_or(Tail::Garbage, |scan| scan.tail);
            let last = scan.as_ref().and_then(|scan| scan.sequences).map_or(first - 1, |(_, last)| last);
            if let Some(before) = inner.segments.back().filter(|before| before.epoch == epoch) {
                corrupt.push((epoch, before.last + 1, first - 1));
            }
            if at + 1 == count {
                (inner.epoch, inner.next) = (epoch, last + 1);
                match tail {
                    Tail::Clean | Tail::Torn => {}
                    Tail::Corrupt(highest) => {
                        corrupt.push((epoch, last + 1, highest));
                        inner.next = inner.next.max(highest + 1);
                    }
                    Tail::Garbage => (inner.epoch, inner.next) = (rand::random(), 1),
                }
            }
            if tail != Tail::Clean && tail != Tail::Torn {
                tracing::warn!(path = %path.display(), "a segment of the spool is damaged");
            }
            let Some(scan) = scan else {
                inner.segments.push_back(Segment {
                    index,
                    epoch,
                    first,
                    last,
                    len: 0,
                    boot_id: "".into(),
                    boottimes_ms: (0, 0),
                    anchor: None,
                });
                continue;
            };
            for (id, place) in &scan.schemas {
                inner.schemas.insert(*id, (index, *place));
            }
            let anchor = scan.anchors.last().copied();
            let boot_id = inner.add_anchors(&scan.boot_id, scan.anchors);
            let (len, boottimes_ms) = (scan.len, scan.boottimes_ms);
            inner.segments.push_back(Segment { index, epoch, first, last, len, boot_id, boottimes_ms, anchor });
        }
        let epoch = inner.epoch;
        let known = inner.lost.ranges(epoch).iter().last().map_or(0, |(_, last)| last);
        let settled = inner.settled.get(&epoch).and_then(|settled| settled.iter().last()).map_or(0, |(_, last)| last);
        inner.next = inner.next.max(known + 1).max(settled + 1);
        inner.own_from = inner.next;
        for (epoch, first, last) in corrupt {
            inner.lose(epoch, first, last, LossReason::Corrupt)?;
        }
        Ok(inner)
    }

    fn add_anchors(&mut self, boot_id: &str, anchors: Vec<v1::Clock>) -> Arc<str> {
        match self.anchors.iter_mut().find(|(known, _)| **known == *boot_id) {
            Some((known, of)) => {
                of.extend(anchors);
                // The first tells most, then the last.
                let excess = of.len().saturating_sub(tongtu_protocol::limits::ANCHORS);
                if excess > 0 {
                    of.drain(1..=excess);
                }
                Arc::clone(known)
            }
            None => {
                let boot_id: Arc<str> = boot_id.into();
                self.anchors.push((Arc::clone(&boot_id), anchors));
                boot_id
            }
        }
    }

    /// Settled or lost.
    fn done(&self, epoch: u64) -> Ranges {
        let mut done = self.settled.get(&epoch).cloned().unwrap_or_default();
        if !self.lost.is_empty() {
            for (first, last) in self.lost.ranges(epoch).iter() {
                done.insert(first, last);
            }
        }
        done
    }

    /// Marks what is neither settled nor lost yet.
    fn lose(&mut self, epoch: u64, first: u64, last: u64, reason: LossReason) -> io::Result<()> {
        if first > last {
            return Ok(());
        }
        let mut result = Ok(());
        for (first, last) in self.done(epoch).gaps(first, last) {
            let reason_at = LOST_REASONS.iter().position(|text| *text == lost::reason_text(reason));
            self.lost_counts[reason_at.unwrap_or(3)] += last - first + 1;
            let added =
                self.lost.add(&self.directory, Lost { epoch, first, last, reason, kept: false, settled: false });
            result = result.and(added);
        }
        result
    }

    fn is_settled(&self, epoch: u64, sequence: u64) -> bool {
        self.settled.get(&epoch).is_some_and(|settled| settled.contains(sequence))
            || (!self.lost.is_empty() && self.lost.ranges(epoch).contains(sequence))
    }

    fn segment(&self, index: u64) -> Option<&Segment> {
        let at = self.segments.partition_point(|segment| segment.index < index);
        self.segments.get(at).filter(|segment| segment.index == index)
    }

    fn is_done(&self, segment: &Segment) -> bool {
        segment.is_empty() || self.done(segment.epoch).covers(segment.first, segment.last)
    }

    /// Deletes settled notes of what was lost.
    fn prune_lost(&mut self) {
        let last = self.segments.back().filter(|segment| segment.epoch == self.epoch);
        let floor = last.map_or(0, |segment| segment.first);
        self.lost.prune(&self.directory, self.epoch, floor);
    }

    /// Deletes segments of which everything is settled or lost; never the last, which tells the
    /// next number.
    fn delete_settled(&mut self) {
        let last = self.segments.back().map(|segment| segment.index);
        let closed = |segment: &Segment| Some(segment.index) != last;
        let done: Vec<u64> = self
            .segments
            .iter()
            .filter(|segment| closed(segment) && self.is_done(segment))
            .map(|segment| segment.index)
            .collect();
        if done.is_empty() {
            return;
        }
        self.write_settled();
        done.into_iter().for_each(|index| self.delete(index));
    }

    fn delete(&mut self, index: u64) {
        let Some(segment) = self.segment(index) else { return };
        let _ = fs::remove_file(segment.path(&self.directory));
        self.segments.retain(|segment| segment.index != index);
        self.schemas.retain(|_, place| place.0 != index);
        let boots: Vec<_> = self.segments.iter().map(|segment| Arc::clone(&segment.boot_id)).collect();
        self.anchors.retain(|(boot, _)| boots.contains(boot));
        for (epoch, settled) in &mut self.settled {
            let first = self.segments.iter().find(|segment| segment.epoch == *epoch).map(|segment| segment.first);
            settled.remove_below(first.unwrap_or(u64::MAX));
        }
        let epoch = self.epoch;
        self.settled.retain(|of, settled| *of == epoch || settled.iter().len() > 0);
    }

    /// Drops the oldest closed segments beyond the bounds.
    fn bound(&mut self, boot_id: &str, clock: &v1::Clock) {
        let max_age_ms = self.bounds.max_age.as_millis() as u64;
        while let Some(oldest) = self.segments.front().filter(|_| self.segments.len() > 1) {
            let bytes: u64 = self.segments.iter().map(|segment| segment.len).sum();
            let reason = if age_ms(oldest, boot_id, clock).is_some_and(|age| age > max_age_ms) {
                LossReason::SpoolAge
            } else if bytes > self.bounds.max_bytes {
                LossReason::SpoolSize
            } else {
                return;
            };
            let (index, epoch, first, last) = (oldest.index, oldest.epoch, oldest.first, oldest.last);
            if let Err(error) = self.lose(epoch, first, last, reason) {
                tracing::warn!(%error, "cannot note what the spool has to drop; it stays");
                return;
            }
            self.write_settled();
            self.delete(index);
        }
    }

    fn write_settled(&mut self) {
        if !std::mem::take(&mut self.settled_dirty) {
            return;
        }
        let mut text = String::new();
        for (epoch, settled) in &self.settled {
            text.push_str(&format!("{epoch:016x}"));
            settled.iter().for_each(|(first, last)| text.push_str(&format!(" {first}-{last}")));
            text.push('\n');
        }
        let temporary = self.directory.join("settled.tmp");
        let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, self.directory.join(SETTLED)));
        if let Err(error) = written {
            tracing::debug!(%error, "cannot note what is settled");
        }
    }

    fn depth(&self, boot_id: &str, clock: &v1::Clock) -> Depth {
        let mut depth = Depth { lost: self.lost_counts, refused: self.refused, ..Depth::default() };
        for segment in &self.segments {
            depth.bytes += segment.len;
            if segment.is_empty() {
                continue;
            }
            let none = Ranges::default();
            let settled = self.settled.get(&segment.epoch).unwrap_or(&none);
            let records = segment.last - segment.first + 1;
            let waiting = records - settled.count_within(segment.first, segment.last);
            if waiting > 0 && depth.records == 0 {
                // Frames come at an even pace.
                let from = settled.first_gap(segment.first) - segment.first;
                let (first_ms, last_ms) = segment.boottimes_ms;
                let later_ms = last_ms.saturating_sub(first_ms) * from / records.saturating_sub(1).max(1);
                depth.oldest_ms =
                    age_ms(segment, boot_id, clock).map_or(0, |age| age + last_ms.saturating_sub(first_ms + later_ms));
            }
            depth.records += waiting;
        }
        depth
    }
}

/// How old a segment's last record is. `None`: that cannot be told.
fn age_ms(segment: &Segment, boot_id: &str, clock: &v1::Clock) -> Option<u64> {
    if *segment.boot_id == *boot_id {
        return Some(clock.boottime_ms.saturating_sub(segment.boottimes_ms.1));
    }
    // Another boot: the wall clock tells it if it was right then and is now.
    let anchor = segment.anchor.filter(|anchor| anchor.synchronised && clock.synchronised)?;
    let last_ms = anchor.wall_ms + segment.boottimes_ms.1 as i64 - anchor.boottime_ms as i64;
    u64::try_from(clock.wall_ms - last_ms).ok()
}

fn read_settled(path: &Path) -> BTreeMap<u64, Ranges> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut settled = BTreeMap::new();
    for line in text.lines() {
        let mut parts = line.split(' ');
        let Some(epoch) = parts.next().and_then(|epoch| u64::from_str_radix(epoch, 16).ok()) else { continue };
        let ranges: &mut Ranges = settled.entry(epoch).or_default();
        for part in parts {
            let range = part.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
            if let Some((first, last)) = range {
                ranges.insert(first, last);
            }
        }
    }
    settled
}

#[cfg(test)]
mod race_tests;
#[cfg(test)]
mod tests;
