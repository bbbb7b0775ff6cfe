//! Runs a collector table: one frame at a time, no collector in another's way.
//!
//! A worker thread runs the collectors that are due one after another. One that takes longer than
//! `PATIENCE` keeps its thread and the rest goes on in another; one that exceeds its timeout has
//! failed and the frame goes without its values. It stays in its thread, is reported failed until
//! it returns, and then takes part again. A panic costs the collector's state, which is made anew.
//! The steady path has one worker, two thread switches a frame and no allocation.
//!
//! A collector may find other sources ([`Values::source`]): each has frames of its own, and none for a
//! frame in which its collector did not finish or did not speak of it.
//!
//! Deliberately absent: cancellation. A thread that hangs in the kernel cannot be ended.

use crate::clock;
use crate::collect::{Collector, CollectorReport, CollectorSpec, Context, Outcome, SourceReport};
use crate::metric::{Kind, Metric};
use crate::others::{Other, Others};
use crate::sheet::{ColumnKey, Said, Sheet, Values, columns, encode_columns};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tongtu_protocol::{codec::State, limits, schema::SchemaId, v1};

/// How long a collector may run before the others stop waiting for its thread.
const PATIENCE: Duration = Duration::from_millis(50);
/// After how long an unavailable collector is tried again.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(3600);

static DURATION: Metric = Metric {
    name: "node_scrape_collector_duration_seconds",
    kind: Kind::Gauge,
    unit: "s",
    exponent: -6,
    labels: &["collector"],
    help: "node_exporter: Duration of a collector scrape.",
    source: "the collector table",
    width_bits: 0,
};
static SUCCESS: Metric = Metric {
    name: "node_scrape_collector_success",
    kind: Kind::Gauge,
    unit: "1",
    exponent: 0,
    labels: &["collector"],
    help: "node_exporter: Whether a collector succeeded.",
    source: "the collector table",
    width_bits: 0,
};
static AVAILABLE: Metric = Metric {
    name: "tongtu_agent_collector_available",
    kind: Kind::Gauge,
    unit: "1",
    exponent: 0,
    labels: &["collector"],
    help: "Whether this machine has what the collector reads.",
    source: "the collector table",
    width_bits: 0,
};

/// The metrics that the table itself puts.
pub static METRICS: &[&Metric] = &[&DURATION, &SUCCESS, &AVAILABLE];

/// What moves between the table and a worker; boxed, so that it moves as a pointer.
struct Job {
    index: usize,
    spec: &'static CollectorSpec,
    collector: Option<Box<dyn Collector>>,
    sheet: Sheet,
    others: Others,
    result: RunResult,
    took: Duration,
}

#[derive(Debug, Clone)]
enum RunResult {
    Collected,
    Unavailable(String),
    Failed(String),
}

impl Job {
    fn run(&mut self, context: &Context) {
        let started = clock::monotonic();
        let run = catch_unwind(AssertUnwindSafe(|| self.run_unguarded(context)));
        self.result = run.unwrap_or_else(|panic| {
            self.collector = None;
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            RunResult::Failed(format!("panicked: {}", text.unwrap_or_default()))
        });
        self.sheet.end();
        self.others.end();
        self.took = started.elapsed();
    }

    fn run_unguarded(&mut self, context: &Context) -> RunResult {
        let mut values = self.sheet.begin_with(&mut self.others);
        if self.collector.is_none() {
            match (self.spec.make)(context) {
                Ok(made) => self.collector = Some(made),
                Err(unavailable) => return RunResult::Unavailable(unavailable.reason),
            }
        }
        match self.collector.as_mut().map(|collector| collector.collect(&mut values)) {
            Some(Err(error)) => RunResult::Failed(error.to_string()),
            _ => RunResult::Collected,
        }
    }

    /// What it put and said, for `check`.
    fn report(&mut self) -> CollectorReport {
        let mut values = self.sheet.texts();
        let facts = self.sheet.said.take_facts().unwrap_or_default();
        let mut sources = Vec::new();
        for (other, _) in self.others.each() {
            values.extend(other.texts());
            let facts = other.said().take_facts().unwrap_or_default();
            sources.push(SourceReport { kind: other.kind(), key: other.key().to_owned(), facts });
        }
        CollectorReport { values, facts, sources, ..CollectorReport::default() }
    }
}

/// One of the other sources at a frame.
pub(crate) struct OtherFrame<'a> {
    pub(crate) other: &'a mut Other,
    /// It has values that were measured for this frame.
    pub(crate) has_frame: bool,
    /// Its last values are those of its collector's last run.
    pub(crate) is_current: bool,
    /// Between two of its frames.
    pub(crate) interval_ms: u32,
}

#[derive(Default)]
struct Pool {
    queue: VecDeque<Box<Job>>,
    running: Vec<(usize, Instant)>,
    finished: VecDeque<Box<Job>>,
    idle: usize,
    closed: bool,
}

struct Shared {
    pool: Mutex<Pool>,
    work: Condvar,
    done: Condvar,
    context: Context,
}

impl Shared {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worker(&self) {
        let mut pool = self.pool();
        loop {
            let Some(mut job) = pool.queue.pop_front() else {
                // One idle worker waits for the next frame; any other leaves.
                if pool.closed || pool.idle > 0 {
                    return;
                }
                pool.idle += 1;
                pool = self.work.wait(pool).unwrap_or_else(PoisonError::into_inner);
                pool.idle -= 1;
                continue;
            };
            pool.running.push((job.index, clock::monotonic()));
            drop(pool);
            job.run(&self.context);
            pool = self.pool();
            pool.running.retain(|(index, _)| *index != job.index);
            pool.finished.push_back(job);
            if pool.queue.is_empty() {
                self.done.notify_one();
            }
        }
    }
}

struct Entry {
    spec: &'static CollectorSpec,
    /// Absent while a worker has it.
    job: Option<Box<Job>>,
    enabled: bool,
    interval: Duration,
    /// What its columns say of it, in seconds; 0: it runs for every frame.
    cadence_s: u32,
    /// Boot time of the last run.
    ran_ms: Option<u64>,
    /// It is to run for this frame.
    due: bool,
    /// The frame before had its columns.
    put: bool,
    result: RunResult,
    took: Duration,
    /// The run of this frame is not there: it runs, or ran out of time.
    missing: bool,
    /// Said once in the log until it changes.
    logged: bool,
    /// Its columns in the frame.
    first: usize,
    count: usize,
}

/// The columns of a frame.
#[derive(Debug)]
pub struct FrameSchema {
    id: SchemaId,
    keys: Vec<ColumnKey>,
}

impl FrameSchema {
    pub(crate) fn new(keys: Vec<ColumnKey>) -> Self {
        Self { id: schema_id(&keys), keys }
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> SchemaId {
        self.id
    }

    /// How many columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn keys(&self) -> &[ColumnKey] {
        &self.keys
    }

    /// The encoding of what the wire has.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut encoded = Vec::new();
        prost::encoding::bytes::encode(1, &self.id.0.to_vec(), &mut encoded);
        encode_columns(&self.keys, &mut encoded);
        encoded
    }

    /// As the wire has it.
    #[must_use]
    pub fn to_wire(&self) -> v1::Schema {
        v1::Schema { id: self.id.0.to_vec().into(), columns: columns(&self.keys) }
    }
}

/// A collector table in use.
pub struct Table {
    shared: Arc<Shared>,
    entries: Vec<Entry>,
    /// Duration and success of the collectors, and what the agent says of itself.
    own: Sheet,
    schema: Arc<FrameSchema>,
    state: State,
}

impl Table {
    /// Of these collectors. Nothing runs yet.
    #[must_use]
    pub fn new(specs: &'static [CollectorSpec], context: Context) -> Self {
        let entry = |(index, spec): (usize, &'static CollectorSpec)| Entry {
            spec,
            job: Some(Box::new(Job {
                index,
                spec,
                collector: None,
                sheet: Sheet::default(),
                others: Others::default(),
                result: RunResult::Collected,
                took: Duration::ZERO,
            })),
            enabled: true,
            interval: spec.interval,
            cadence_s: 0,
            ran_ms: None,
            due: false,
            put: false,
            result: RunResult::Collected,
            took: Duration::ZERO,
            missing: false,
            logged: false,
            first: 0,
            count: 0,
        };
        let pool = Pool {
            queue: VecDeque::with_capacity(specs.len()),
            running: Vec::with_capacity(specs.len()),
            finished: VecDeque::with_capacity(specs.len()),
            ..Pool::default()
        };
        Self {
            shared: Arc::new(Shared { pool: Mutex::new(pool), work: Condvar::new(), done: Condvar::new(), context }),
            entries: specs.iter().enumerate().map(entry).collect(),
            own: Sheet::default(),
            schema: Arc::new(FrameSchema::new(Vec::new())),
            state: State::zero(0),
        }
    }

    /// Applies a setting that control desires; whether there is such a collector.
    pub fn configure(&mut self, name: &str, enabled: bool, interval: Duration) -> bool {
        let mut known = false;
        for entry in self.entries.iter_mut().filter(|entry| entry.spec.name == name) {
            entry.enabled = enabled;
            entry.interval = if interval.is_zero() { entry.spec.interval } else { interval };
            known = true;
        }
        known
    }

    /// Back to what the static table says.
    pub fn reset(&mut self) {
        for entry in &mut self.entries {
            (entry.enabled, entry.interval) = (true, entry.spec.interval);
        }
    }

    /// Takes one frame at the instant `boottime_ms`, `interval` after the one before; `own` puts what
    /// the agent says of itself. Returns when every collector that was due has finished or run out of time.
    pub fn frame(
        &mut self,
        boottime_ms: u64,
        interval: Duration,
        own: impl FnOnce(&mut Values<'_>),
    ) -> (&Arc<FrameSchema>, &State) {
        let other_cadences = self.set_cadences(interval);
        self.run_due(boottime_ms);
        self.put_own(own);
        if self.take_changed() | other_cadences {
            self.assemble();
        }
        self.write();
        (&self.schema, &self.state)
    }

    /// What the collectors said of the agent's own source; also what came too late for its frame.
    pub(crate) fn said(&mut self) -> impl Iterator<Item = &mut Said> {
        let jobs = self.entries.iter_mut().filter_map(|entry| entry.job.as_mut());
        jobs.map(|job| &mut job.sheet.said)
    }

    /// The other sources of the collectors that are not running; to be asked after [`Self::frame`].
    pub(crate) fn others(&mut self, interval: Duration) -> impl Iterator<Item = OtherFrame<'_>> {
        let interval_ms = interval.as_millis() as u32;
        self.entries.iter_mut().flat_map(move |entry| {
            let (due, missing) = (entry.due, entry.missing);
            let interval_ms = interval_ms.max(entry.cadence_s * 1_000);
            let others = entry.job.as_mut().map(|job| job.others.each()).into_iter().flatten();
            others.map(move |(other, has_values)| OtherFrame {
                other,
                has_frame: has_values && due && !missing,
                is_current: has_values && !missing,
                interval_ms,
            })
        })
    }

    fn run_due(&mut self, boottime_ms: u64) {
        let shared = Arc::clone(&self.shared);
        let mut pool = shared.pool();
        self.take_back(&mut pool);
        for entry in &mut self.entries {
            entry.due = entry.enabled && is_due(entry, boottime_ms);
            match entry.job.take_if(|_| entry.due) {
                Some(job) => {
                    entry.ran_ms = Some(boottime_ms);
                    entry.missing = true;
                    pool.queue.push_back(job);
                }
                None => entry.missing = entry.job.is_none(),
            }
        }
        if pool.queue.is_empty() {
            return;
        }
        if pool.idle > 0 {
            shared.work.notify_one()
        } else {
            self.spawn()
        }
        let mut spawned = clock::monotonic();
        let longest = self.entries.iter().map(|entry| entry.spec.timeout).max();
        let end = spawned + longest.unwrap_or_default() + PATIENCE * self.entries.len() as u32;
        loop {
            self.take_back(&mut pool);
            let now = clock::monotonic();
            let mut next = None::<Instant>;
            let mut waiting = !pool.queue.is_empty();
            let mut stuck = waiting;
            for &(index, started) in &pool.running {
                let deadline = started + self.entries[index].spec.timeout;
                if now < deadline {
                    waiting = true;
                    next = Some(next.map_or(deadline, |next| next.min(deadline)));
                }
                stuck &= now.duration_since(started) >= PATIENCE;
            }
            if !waiting || now >= end {
                break;
            }
            if stuck && now.duration_since(spawned) >= PATIENCE {
                self.spawn();
                spawned = now;
            }
            let mut patience = next.map_or(PATIENCE, |next| next - now);
            if !pool.queue.is_empty() {
                patience = patience.min(PATIENCE);
            }
            let waited = shared.done.wait_timeout(pool, patience);
            pool = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        for &(index, started) in &pool.running {
            let entry = &mut self.entries[index];
            entry.took = started.elapsed();
            let timeout = entry.spec.timeout;
            fail(entry, format!("took longer than {timeout:?}"));
        }
        while let Some(job) = pool.queue.pop_front() {
            let entry = &mut self.entries[job.index];
            entry.job = Some(job);
            fail(entry, "no thread to run it in".to_owned());
        }
    }

    /// What workers have finished, now or long ago.
    fn take_back(&mut self, pool: &mut Pool) {
        while let Some(mut job) = pool.finished.pop_front() {
            let entry = &mut self.entries[job.index];
            let result = std::mem::replace(&mut job.result, RunResult::Collected);
            entry.took = job.took;
            entry.missing = false;
            entry.job = Some(job);
            if std::mem::discriminant(&entry.result) != std::mem::discriminant(&result) {
                entry.logged = false;
            }
            entry.result = result;
            note(entry);
        }
    }

    fn spawn(&self) {
        let shared = Arc::clone(&self.shared);
        let worker = std::thread::Builder::new().name("collect".into()).stack_size(512 << 10);
        if let Err(error) = worker.spawn(move || shared.worker()) {
            tracing::warn!(%error, "cannot start a thread for the collectors");
        }
    }

    fn put_own(&mut self, own: impl FnOnce(&mut Values<'_>)) {
        let mut values = self.own.begin();
        for entry in self.entries.iter().filter(|entry| entry.enabled) {
            let name = &[entry.spec.name];
            let collected = !entry.missing && matches!(entry.result, RunResult::Collected);
            let available = !matches!(entry.result, RunResult::Unavailable(_));
            values.put(&DURATION, name, entry.took.as_micros() as i64);
            values.put(&SUCCESS, name, i64::from(collected));
            values.put(&AVAILABLE, name, i64::from(available));
        }
        own(&mut values);
        self.own.end();
    }

    fn take_changed(&mut self) -> bool {
        let mut changed = self.own.take_changed();
        for entry in &mut self.entries {
            if let Some(job) = &mut entry.job {
                changed |= job.sheet.take_changed();
            }
        }
        changed
    }

    /// Whether a cadence is another one, and with it the schema.
    fn set_cadences(&mut self, interval: Duration) -> bool {
        let mut changed = false;
        for entry in &mut self.entries {
            let cadence_s = cadence_s(entry.interval, interval);
            // Without columns nothing says it.
            changed |= std::mem::replace(&mut entry.cadence_s, cadence_s) != cadence_s && entry.count > 0;
        }
        changed
    }

    fn assemble(&mut self) {
        let mut keys = Vec::with_capacity(self.schema.keys.len());
        for entry in &mut self.entries {
            let old = entry.first..entry.first + entry.count;
            let new = match &entry.job {
                Some(job) => job.sheet.keys(),
                // A worker has it: its columns stay.
                None => &self.schema.keys[old],
            };
            let room = limits::COLUMNS - self.own.keys().len().min(limits::COLUMNS) - keys.len();
            if new.len() > room {
                let name = entry.spec.name;
                tracing::warn!(collector = name, "too many columns: some of it is left out");
            }
            (entry.first, entry.count) = (keys.len(), new.len().min(room));
            keys.extend_from_slice(&new[..entry.count]);
            keys[entry.first..].iter_mut().for_each(|key| key.cadence_s = entry.cadence_s);
            entry.put = true;
        }
        keys.extend_from_slice(self.own.keys());
        self.state = State::zero(keys.len());
        self.schema = Arc::new(FrameSchema::new(keys));
    }

    fn write(&mut self) {
        let mut end = 0;
        for entry in &mut self.entries {
            end = entry.first + entry.count;
            // A value is in the frame that it was measured for, and in no other.
            let job = entry.job.as_ref().filter(|_| entry.due && !entry.missing);
            if !std::mem::replace(&mut entry.put, job.is_some()) && job.is_none() {
                continue;
            }
            let written = job.map_or(0, |job| job.sheet.write(&mut self.state, entry.first, entry.count));
            for column in entry.first + written..end {
                self.state.set(column, None);
            }
        }
        self.own.write(&mut self.state, end, usize::MAX);
    }

    /// Runs everything once and says what came of it.
    #[must_use]
    pub fn check(&mut self) -> Vec<CollectorReport> {
        self.run_due(clock::boottime_ms());
        let report = |entry: &mut Entry| CollectorReport {
            name: entry.spec.name,
            outcome: match &entry.result {
                RunResult::Collected => Outcome::Collected,
                RunResult::Unavailable(reason) => Outcome::Unavailable(reason.clone()),
                RunResult::Failed(reason) => Outcome::Failed(reason.clone()),
            },
            duration: entry.took,
            ..entry.job.as_mut().map(|job| job.report()).unwrap_or_default()
        };
        self.entries.iter_mut().map(report).collect()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.shared.pool().closed = true;
        self.shared.work.notify_all();
    }
}

/// Runs each collector once: what would be collected, what cannot be, and why.
#[must_use]
pub fn check(specs: &'static [CollectorSpec], context: Context) -> Vec<CollectorReport> {
    Table::new(specs, context).check()
}

/// [`SchemaId::of`] the columns of these keys.
fn schema_id(keys: &[ColumnKey]) -> SchemaId {
    let mut encoded = Vec::new();
    encode_columns(keys, &mut encoded);
    let digest = ring::digest::digest(&ring::digest::SHA256, &encoded);
    let mut id = [0; 16];
    id.copy_from_slice(&digest.as_ref()[..16]);
    SchemaId(id)
}

/// What the columns of a collector say, whose runs fall on frames.
fn cadence_s(collector: Duration, frames: Duration) -> u32 {
    if collector <= frames {
        return 0;
    }
    let frames_ms = frames.as_millis().max(1);
    let runs_ms = collector.as_millis().div_ceil(frames_ms) * frames_ms;
    u32::try_from(runs_ms.div_ceil(1_000)).unwrap_or(u32::MAX).min(limits::CADENCE_S)
}

fn is_due(entry: &Entry, boottime_ms: u64) -> bool {
    let Some(ran_ms) = entry.ran_ms else { return true };
    let interval = match entry.result {
        RunResult::Unavailable(_) => entry.interval.max(RETRY_UNAVAILABLE),
        // What is measured for every frame is, however early it comes.
        _ if entry.cadence_s == 0 => return true,
        _ => entry.interval,
    };
    // Half a second early is not early.
    boottime_ms.saturating_sub(ran_ms) + 500 >= interval.as_millis() as u64
}

fn fail(entry: &mut Entry, reason: String) {
    if !matches!(entry.result, RunResult::Failed(_)) {
        entry.logged = false;
    }
    entry.result = RunResult::Failed(reason);
    note(entry);
}

/// Logs a failure once.
fn note(entry: &mut Entry) {
    if std::mem::replace(&mut entry.logged, true) {
        return;
    }
    let collector = entry.spec.name;
    match &entry.result {
        RunResult::Collected => tracing::debug!(collector, "collects"),
        RunResult::Unavailable(reason) => tracing::info!(collector, reason, "nothing to collect"),
        RunResult::Failed(reason) => tracing::warn!(collector, reason, "cannot collect"),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
