//! Telemetry as the other parts of control see it: opened, started, asked, closed.

use super::agent_state::Agent;
use super::committer::{self, Committer};
use super::deleted::Deleted;
use super::ingest::Session;
use super::instruments::Instruments;
use super::live::LiveSource;
use super::queue::Queue;
use super::registry::Registry;
use super::{Facts, LiveFrame, SourceInfo, restore};
use super::{compaction, days, store_days};
use crate::access::capability::{MeasurementsRead, SettingsRead};
use crate::access::{Access, Permit, Resource};
use crate::config;
use crate::fleet::sink::{Delivery, Opening, Sink, SinkSession};
use crate::platform::clock::{Clock, UnixMs};
use crate::platform::db::Db;
use crate::platform::ids::{AgentId, SourceId};
use crate::platform::metrics;
use crate::platform::shutdown::Shutdown;
use sea_orm::DbErr;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tongtu_protocol::v1;

/// Sources whose newest frame is this much older than their agent's newest are not expected.
const REPORTING_MS: i64 = 3_600_000;

/// Why telemetry cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The database failed.
    #[error("what was measured cannot be read or written: {0}")]
    Database(#[from] DbErr),
    /// A window holds what cannot be read.
    #[error("window {window} of the database is damaged: {reason}; restore a backup")]
    Damaged {
        /// The window.
        window: i64,
        /// What is wrong.
        reason: String,
    },
}

/// Everything measured. Clones share it.
#[derive(Debug, Clone)]
pub struct Telemetry {
    pub(super) inner: Arc<Inner>,
}

/// What sessions, committer, compaction and queries share.
#[derive(Debug)]
pub(super) struct Inner {
    pub db: Db,
    pub access: Access,
    pub clock: Clock,
    pub config: config::Telemetry,
    /// How long things are kept now.
    retention: RwLock<config::Retention>,
    pub deleted: RwLock<Deleted>,
    pub metrics: Instruments,
    pub registry: Registry,
    pub queue: Queue,
    agents: RwLock<HashMap<AgentId, Arc<Agent>>>,
    /// Windows up to this one are compacted: their rows count, their batches do not.
    pub compacted: AtomicI64,
    /// Keys of rows that compaction makes.
    pub next_chunk: AtomicI64,
    pub next_slots: AtomicI64,
    pub next_day: AtomicI64,
    /// What was sealed is compacted: days may be ready to be closed.
    pub calendar: tokio::sync::Notify,
    /// New sources have their owners.
    pub sources_added: tokio::sync::Notify,
    /// Held by who takes slots out of rows: compaction, or the closing of days; and by who is to delete frames.
    pub slots_writer: tokio::sync::Mutex<()>,
    /// The open window should be sealed at once.
    pub seal_wanted: AtomicBool,
    /// Windows before this one are sealed.
    pub sealed: watch::Sender<i64>,
    tasks: Mutex<Tasks>,
    /// Why the last commit failed, if it did.
    failing: Mutex<Option<&'static str>>,
    /// How compaction went the last time.
    pub last_compaction: Mutex<Option<super::figures::Compaction>>,
}

#[derive(Debug, Default)]
struct Tasks {
    /// Until it is started.
    committer: Option<CommitterStart>,
    committing: Option<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
    stop: Shutdown,
}

/// Where the committer goes on.
#[derive(Debug)]
pub(super) struct CommitterStart {
    pub window: super::window::Window,
    pub next_batch: i64,
    pub next_event: i64,
}

impl Telemetry {
    /// Restores what was there: sources, what is settled, windows, the live view.
    ///
    /// # Errors
    /// The database failed or is damaged.
    pub async fn open(
        db: Db,
        access: Access,
        clock: Clock,
        config: config::Telemetry,
        registry: &metrics::Registry,
    ) -> Result<Self, TelemetryError> {
        let metrics = Instruments::new(registry);
        let restored = restore::restore(&db, clock.now_ms(), &config).await?;
        let deleted = RwLock::new(store_days::deleted(&db).await?);
        let queue = Queue::new(restored.start.window.id, config.queue_size as usize, config.commit_frames);
        let sealed = watch::Sender::new(restored.start.window.id);
        let tasks = Tasks { committer: Some(restored.start), ..Tasks::default() };
        let inner = Arc::new(Inner {
            db,
            access,
            clock,
            retention: RwLock::new(config.retention()),
            deleted,
            config,
            metrics,
            registry: restored.registry,
            queue,
            agents: RwLock::new(restored.agents),
            compacted: AtomicI64::new(restored.compacted),
            next_chunk: AtomicI64::new(restored.next_chunk),
            next_slots: AtomicI64::new(restored.next_slots),
            next_day: AtomicI64::new(restored.next_day),
            calendar: tokio::sync::Notify::new(),
            sources_added: tokio::sync::Notify::new(),
            slots_writer: tokio::sync::Mutex::default(),
            seal_wanted: AtomicBool::new(false),
            sealed,
            tasks: Mutex::new(tasks),
            failing: Mutex::default(),
            last_compaction: Mutex::default(),
        });
        Ok(Self { inner })
    }

    /// Starts to commit, and to compact what is sealed. Once.
    pub fn start(&self, shutdown: &Shutdown) {
        let mut tasks = self.tasks();
        let Some(start) = tasks.committer.take() else { return };
        let stop = tasks.stop.clone();
        let committer = Committer::new(Arc::clone(&self.inner), start, stop.clone());
        // Either's panic stops control; closing is an end as well.
        let committing = shutdown.essential("committing records").unless(&stop);
        tasks.committing = Some(tokio::spawn(async move {
            committer.run().await;
            drop(committing);
        }));
        let compacting = shutdown.essential("compaction").unless(&stop);
        let inner = Arc::clone(&self.inner);
        tasks.others.push(tokio::spawn(async move {
            compaction::run(inner).await;
            drop(compacting);
        }));
        let following = shutdown.essential("closing days").unless(&stop);
        let inner = Arc::clone(&self.inner);
        tasks.others.push(tokio::spawn(async move {
            days::run(inner).await;
            drop(following);
        }));
        let word = shutdown.triggered();
        tasks.others.push(tokio::spawn(async move {
            word.await;
            stop.trigger();
        }));
    }

    /// Commits what waits and ends every task.
    pub async fn close(&self) {
        let (committing, others) = {
            let mut tasks = self.tasks();
            tasks.stop.trigger();
            (tasks.committing.take(), std::mem::take(&mut tasks.others))
        };
        if let Some(task) = committing {
            committer::join(task).await;
        }
        for task in others {
            task.abort();
            let _ = task.await;
        }
    }

    /// Why records cannot be taken now, if so: they are answered *later*.
    #[must_use]
    pub fn failing(&self) -> Option<&'static str> {
        *self.inner.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the gauges of control's own metrics up to date, before they are read.
    pub fn measure(&self) {
        self.inner.measure();
    }

    /// The sources of the permit's organisations, in order of id.
    #[must_use]
    pub fn sources(&self, permit: &Permit<MeasurementsRead>) -> Vec<SourceInfo> {
        let mut sources = self.inner.registry.sources();
        sources.retain(|source| self.inner.access.is_visible(permit, Resource::Source(source.id)));
        sources.iter().map(|source| source.info()).collect()
    }

    /// A source's newest frame, if it is of the time of the permit's organisations; values of before are not in it.
    #[must_use]
    pub fn live(&self, permit: &Permit<MeasurementsRead>, source: SourceId) -> Option<LiveFrame> {
        let (source, since_ms) = self.visible_since(permit, source)?;
        source.last(since_ms)
    }

    /// A source's newest frame and the one before it, as [`live`](Self::live).
    #[must_use]
    pub fn last_two(&self, permit: &Permit<MeasurementsRead>, source: SourceId) -> Option<(LiveFrame, LiveFrame)> {
        let (source, since_ms) = self.visible_since(permit, source)?;
        source.last_two(since_ms)
    }

    /// A source's newest inventory.
    #[must_use]
    pub fn facts<C>(&self, permit: &Permit<C>, source: SourceId) -> Option<Arc<Facts>> {
        self.visible_since(permit, source)?.0.facts()
    }

    /// A source that the permit's organisations own now, and since when.
    pub(super) fn visible_since<C>(&self, permit: &Permit<C>, source: SourceId) -> Option<(Arc<LiveSource>, UnixMs)> {
        let known = self.inner.registry.source(source)?;
        let since_ms = self.inner.access.visible_since(permit, Resource::Source(source))?;
        Some((known, since_ms))
    }

    /// Keeps things so long from now on; what is too old by it goes at once.
    pub fn retain(&self, retention: config::Retention) {
        *self.inner.retention.write().unwrap_or_else(PoisonError::into_inner) = retention;
        self.inner.calendar.notify_one();
    }

    /// The oldest that is kept of frames, slots and hours; what still lies in windows is not looked at.
    ///
    /// # Errors
    /// The database failed.
    pub async fn oldest(&self, _: &Permit<SettingsRead>) -> Result<[Option<UnixMs>; 3], DbErr> {
        store_days::oldest(&self.inner.db).await
    }

    /// Seals the open window as soon as something is in it; it is compacted then.
    pub fn seal(&self) {
        self.inner.seal_wanted.store(true, Ordering::Relaxed);
        self.inner.queue.filled.notify_one();
    }

    /// Ends every task where it stands.
    #[cfg(test)]
    pub(super) async fn abandon(&self) {
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks.committing.into_iter().chain(tasks.others) {
            task.abort();
            let _ = task.await;
        }
    }

    /// Ends compaction and the calendar where they stand; records are still committed.
    #[cfg(test)]
    pub(super) async fn abandon_jobs(&self) {
        let jobs = std::mem::take(&mut self.tasks().others);
        // All at once: what one of them does at its end is not heard by the others.
        jobs.iter().for_each(JoinHandle::abort);
        for job in jobs {
            let _ = job.await;
        }
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// How long things are kept now.
    pub(super) fn retention(&self) -> config::Retention {
        *self.retention.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self, why: Option<&'static str>) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    pub(super) fn agent(&self, id: AgentId) -> Arc<Agent> {
        if let Some(agent) = self.known_agent(id) {
            return agent;
        }
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(agents.entry(id).or_insert_with(|| Arc::new(Agent::new(id))))
    }

    fn known_agent(&self, id: AgentId) -> Option<Arc<Agent>> {
        self.agents.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

impl Sink for Telemetry {
    fn highest_sequence(&self, agent: AgentId, epoch: u64) -> u64 {
        let Some(agent) = self.inner.known_agent(agent) else { return 0 };
        agent.lock().epochs.get(&epoch).map_or(0, super::agent_state::Epoch::highest)
    }

    fn open(&self, opening: Opening, answers: mpsc::UnboundedSender<v1::Answers>) -> Box<dyn SinkSession> {
        Box::new(Session::new(Arc::clone(&self.inner), opening, answers))
    }

    fn delivery(&self, agent: AgentId) -> Delivery {
        let Some(known) = self.inner.known_agent(agent) else { return Delivery::default() };
        let sources = self.inner.registry.sources_of(agent);
        let newest = sources.iter().filter_map(|source| source.last_instant_ms()).max();
        let reports =
            |source: &&Arc<LiveSource>| source.last_instant_ms() >= newest.map(|newest| newest - REPORTING_MS);
        let intervals: Vec<_> = sources.iter().filter(reports).map(|source| source.interval_ms()).collect();
        known.lock().delivery(self.inner.clock.now_ms(), &intervals)
    }
}
