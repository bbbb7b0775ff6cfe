//! The one task that writes records: a group commit after another.
//!
//! What must hold:
//! - An answer leaves after its commit is durable, and what is answered *accepted* is in it.
//! - A commit whose outcome is unknown (the connection broke inside COMMIT) is tried again with the
//!   same batch id until the database says that the id is there, or takes it: so it is never taken
//!   for failed while it succeeds, and its records are never stored twice.
//! - A commit that failed settles nothing; its lanes begin anew.
//! - When control ends, what does not end is left to itself, and the task ends with it: nobody is answered,
//!   and nothing is committed after it, since that may be built on what is not there.

use super::batch::{self, Outcome, SettledEntry};
use super::ingest::retry_after_ms;
use super::live::Place;
use super::queue::{Fate, Pending, QueuedRange};
use super::service::{CommitterStart, Inner};
use super::store;
use super::window::Window;
use crate::platform::db::Db;
use crate::platform::shutdown::Shutdown;
use sea_orm::{ConnectionTrait, DbErr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tongtu_protocol::v1::{self, Verdict};

/// The writer looks at the clock this often when nothing comes.
const IDLE: Duration = Duration::from_secs(1);
/// A commit of frames that are no company yet waits this many intervals.
const LONELY: f64 = 3.5;
/// After a failure the next commit waits this long, then twice as long, and so on.
const BACK_OFF: Duration = Duration::from_millis(200);
const BACK_OFF_MOST: Duration = Duration::from_secs(5);
/// Everything has so long after the word to stop.
const LAST_ANSWER: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Committer {
    inner: Arc<Inner>,
    stop: Shutdown,
    window: Window,
    next_batch: i64,
    next_event: i64,
    back_off: Duration,
}

/// How one attempt to commit ended, if not well.
enum Failure {
    /// The batch is there: an earlier attempt succeeded.
    AlreadyThere,
    /// Nothing was written; whether the batch's id was taken as free.
    Certain(DbErr, bool),
    /// It may have been written.
    Unknown(DbErr),
}

impl Committer {
    pub(super) fn new(inner: Arc<Inner>, start: CommitterStart, stop: Shutdown) -> Self {
        let CommitterStart { window, next_batch, next_event } = start;
        Self { inner, stop, window, next_batch, next_event, back_off: BACK_OFF }
    }

    /// Runs until the word to stop, then commits what waits, while there is time.
    pub(super) async fn run(mut self) {
        let stop = self.stop.triggered();
        let last_answer = async move {
            stop.await;
            sleep(LAST_ANSWER).await;
        };
        tokio::select! {
            () = self.work() => {}
            () = last_answer => {
                tracing::warn!("control ends before its last commit does; what that holds was not acknowledged");
            }
        }
    }

    /// May end wherever it waits.
    async fn work(&mut self) {
        let inner = Arc::clone(&self.inner);
        let mut stop = std::pin::pin!(self.stop.triggered());
        let mut stopping = false;
        while !stopping {
            if inner.queue.is_empty() {
                tokio::select! {
                    () = inner.queue.filled.notified() => {}
                    () = sleep(IDLE) => {}
                    () = &mut stop => stopping = true,
                }
            }
            if !inner.queue.is_empty() && !stopping {
                tokio::select! {
                    () = self.gather() => {}
                    () = &mut stop => stopping = true,
                }
            }
            self.step().await;
        }
        // Sessions end with the same word; what they appended meanwhile is committed as well.
        self.step().await;
    }

    /// Lets others join what waits. Few frames wait longer, since a commit costs as much as about ten of them.
    async fn gather(&self) {
        let Inner { queue, config, .. } = &*self.inner;
        // A sleep costs a wake-up only if it is waited for.
        let mut usual = std::pin::pin!(sleep(config.commit_interval));
        let mut lonely = std::pin::pin!(sleep(config.commit_interval.mul_f64(LONELY)));
        while queue.is_lonely() {
            tokio::select! {
                () = queue.full.notified() => return,
                () = queue.company.notified() => {}
                () = &mut lonely => return,
            }
        }
        tokio::select! {
            () = queue.full.notified() => {}
            () = &mut usual => {}
        }
    }

    async fn step(&mut self) {
        let forced = self.inner.seal_wanted.swap(false, std::sync::atomic::Ordering::Relaxed);
        let now_ms = self.inner.clock.now_ms();
        if self.window.is_due(now_ms) || (forced && self.window.bytes > 0) {
            self.roll(now_ms).await;
        }
        if !self.inner.queue.is_empty() {
            let pending = self.inner.queue.take(self.window.id);
            self.commit(pending).await;
        }
    }

    /// Opens the next window. What waits goes into the old one, as it was encoded for it.
    async fn roll(&mut self, now_ms: i64) {
        let next = self.window.id + 1;
        if let Err(error) = self.open(next, now_ms).await {
            // The old one goes on; the commits that follow say what is wrong.
            tracing::debug!(%error, window = next, "the next window cannot be opened yet");
            return;
        }
        let last = {
            let mut flow = self.inner.queue.flow_change();
            flow.window = next;
            self.inner.queue.take(next)
        };
        if !last.ranges.is_empty() || !last.definitions.is_empty() {
            self.commit(last).await;
        }
        tracing::debug!(window = self.window.id, bytes = self.window.bytes, "window sealed");
        self.window = Window::new(next, now_ms, &self.inner.config);
        self.next_batch = 1;
        self.inner.sealed.send_replace(next);
    }

    async fn open(&self, id: i64, now_ms: i64) -> Result<(), DbErr> {
        // An attempt before may have succeeded without saying so.
        let known = store::window_list(&self.inner.db).await?;
        if known.iter().any(|window| window.id == id) {
            return Ok(());
        }
        let transaction = self.inner.db.begin("window_open").await?;
        store::window_open(&transaction, id, now_ms).await?;
        transaction.commit().await
    }

    async fn commit(&mut self, mut pending: Pending) {
        let timer = self.inner.metrics.commit_duration.start_timer();
        let appended = pending.held_bytes;
        put_settled(&mut pending);
        batch::finish(&mut pending.body);
        let id = self.next_batch;
        self.next_batch += 1;
        let failed = self.ask(id, &pending).await;
        self.inner.queue.resolved(appended);
        timer.observe_duration();
        match failed {
            None => {
                self.back_off = BACK_OFF;
                self.next_event += pending.rows.events.len() as i64;
                self.window.bytes += pending.body.len() as u64;
                self.inner.failed(None);
                let owned = pending.definitions.owned();
                if !owned.is_empty() {
                    self.inner.access.owned(&owned);
                    self.inner.sources_added.notify_one();
                }
                self.inner.committed(id, pending);
            }
            Some(error) => {
                let full = Db::is_disk_full(&error);
                tracing::warn!(%error, disk_full = full, "a commit failed; agents are told to send again later");
                self.inner.failed(Some(if full {
                    "the disk is full"
                } else {
                    "the last commit failed; the log says why"
                }));
                self.inner.given_up(pending);
                self.wait().await;
            }
        }
    }

    /// Commits a batch, however often it has to be tried until it is known what became of it; the error if nothing did.
    async fn ask(&mut self, id: i64, pending: &Pending) -> Option<DbErr> {
        let mut unknown = false;
        loop {
            match self.attempt(id, pending).await {
                Ok(()) | Err(Failure::AlreadyThere) => return None,
                Err(Failure::Certain(error, free)) if free || !unknown => return Some(error),
                Err(Failure::Certain(error, _) | Failure::Unknown(error)) => {
                    tracing::warn!(%error, batch = id, "whether a commit succeeded is not known; asking again");
                    unknown = true;
                    self.wait().await;
                }
            }
        }
    }

    async fn wait(&mut self) {
        sleep(self.back_off).await;
        self.back_off = (self.back_off * 2).min(BACK_OFF_MOST);
    }

    async fn attempt(&self, id: i64, pending: &Pending) -> Result<(), Failure> {
        let Inner { db, access, .. } = &*self.inner;
        if pending.definitions.is_empty() && pending.rows.is_empty() {
            let statement = store::batch_statement(db.statements(), pending.window, id, pending.body.clone());
            return db.execute_alone("batch", statement).await.map_err(|error| {
                if store::is_conflict(&error) {
                    Failure::AlreadyThere
                } else if db.is_undone(&error) {
                    Failure::Certain(error, false)
                } else {
                    Failure::Unknown(error)
                }
            });
        }
        let transaction = db.begin("batch").await.map_err(|error| Failure::Certain(error, false))?;
        // First, so that a batch that is there already is noticed before anything else.
        let statement = store::batch_statement(db.statements(), pending.window, id, pending.body.clone());
        match transaction.execute_raw(statement).await {
            Err(error) if store::is_conflict(&error) => return Err(Failure::AlreadyThere),
            other => other.map_err(|error| Failure::Certain(error, false))?,
        };
        let certain = |error| Failure::Certain(error, true);
        if !pending.definitions.is_empty() {
            store::definitions_insert(&transaction, access, &pending.definitions).await.map_err(certain)?;
        }
        store::rows_insert(&transaction, &pending.rows, self.next_event).await.map_err(certain)?;
        transaction.commit().await.map_err(|error| {
            // A full disk is said before anything is durable.
            if Db::is_disk_full(&error) { Failure::Certain(error, true) } else { Failure::Unknown(error) }
        })
    }
}

/// Entries for what the batch settles beside its frames.
fn put_settled(pending: &mut Pending) {
    let Pending { body, ranges, sessions, .. } = pending;
    for range in ranges.iter() {
        let outcome = match range.fate {
            // A frame says so itself; facts and events do not.
            Fate::Frame | Fate::Again => continue,
            Fate::Row => Outcome::Accepted,
            Fate::Refused(_) => Outcome::Refused,
            Fate::Lost => Outcome::Lost,
        };
        let agent = sessions[range.session as usize].agent.id;
        let QueuedRange { epoch, first, last, .. } = *range;
        batch::put_settled(body, &SettledEntry { agent, epoch, first, last, outcome });
    }
}

impl Inner {
    /// A batch is durable: what it settles is settled, then answered.
    fn committed(&self, batch: i64, mut pending: Pending) {
        let window = pending.window;
        pending.ranges.sort_by_key(|range| range.session);
        pending.frames.sort_by_key(|frame| frame.session);
        let now_ms = self.clock.now_ms();
        let (mut frames, mut ranges) = (&*pending.frames, &*pending.ranges);
        for (number, session) in (0u32..).zip(&pending.sessions) {
            let (mine, rest) = ranges.split_at(ranges.partition_point(|range| range.session <= number));
            ranges = rest;
            let (my_frames, rest) = frames.split_at(frames.partition_point(|frame| frame.session <= number));
            frames = rest;
            let mut state = session.agent.lock();
            for range in mine {
                let outcome = match range.fate {
                    Fate::Frame | Fate::Row => Outcome::Accepted,
                    Fate::Again => continue,
                    Fate::Refused(_) => Outcome::Refused,
                    Fate::Lost => Outcome::Lost,
                };
                self.metrics.settled(range.fate, range.last - range.first + 1);
                state.settle(range.epoch, range.first, range.last, outcome);
            }
            for frame in my_frames {
                state.frame_delivered(frame.instant_ms, now_ms, frame.interval_ms);
            }
            drop(state);
            for frame in my_frames {
                frame.source.add_place(Place {
                    instant_ms: frame.instant_ms,
                    window: window as u32,
                    batch: batch as u32,
                    offset: frame.offset,
                    length: frame.length,
                });
            }
            for (epoch, answers) in answers(mine, |_| v1::Answer::default()) {
                // The stream may be gone; then nobody waits.
                let _ = session.answers.send(v1::Answers { epoch, answers });
            }
        }
        for row in &pending.rows.facts {
            row.source.take_facts(&row.facts);
        }
    }

    /// A commit failed: what it held, and what was built on it since, is forgotten.
    fn given_up(&self, mut failed: Pending) {
        let mut flow = self.queue.flow_change();
        flow.generation += 1;
        let mut since = self.queue.take(flow.window);
        self.queue.resolved(since.held_bytes);
        let mut definitions = std::mem::take(&mut since.definitions);
        std::mem::take(&mut failed.definitions).prepend_to(&mut definitions);
        for mut pending in [failed, since] {
            pending.ranges.sort_by_key(|range| range.session);
            let mut ranges = &*pending.ranges;
            for (number, session) in (0u32..).zip(&pending.sessions) {
                let (mine, rest) = ranges.split_at(ranges.partition_point(|range| range.session <= number));
                ranges = rest;
                let mut state = session.agent.lock();
                for range in mine {
                    state.epochs.entry(range.epoch).or_default().forget(range.first, range.last, range.fate);
                    self.metrics.later.inc_by(range.last - range.first + 1);
                }
                drop(state);
                let later = |range: &QueuedRange| v1::Answer {
                    verdict: Verdict::Later.into(),
                    lane: range.lane,
                    retry_after_ms: retry_after_ms(session.agent.id.0),
                    ..Default::default()
                };
                for (epoch, answers) in answers(mine, later) {
                    let _ = session.answers.send(v1::Answers { epoch, answers });
                }
            }
        }
        self.queue.give_back(definitions);
    }
}

/// One message for each epoch (there is one, but for the moment of a change): each range with the
/// answer of its fate, or what `instead` makes of it if that has a verdict.
fn answers(ranges: &[QueuedRange], instead: impl Fn(&QueuedRange) -> v1::Answer) -> Vec<(u64, Vec<v1::Answer>)> {
    let mut all: Vec<(u64, Vec<v1::Answer>)> = Vec::with_capacity(1);
    // The whole of what is lost is answered as known already.
    for range in ranges.iter().filter(|range| range.fate != Fate::Lost) {
        let mut answer = instead(range);
        if answer.verdict == 0 {
            match range.fate {
                Fate::Frame | Fate::Row | Fate::Again | Fate::Lost => answer.verdict = Verdict::Accepted.into(),
                Fate::Refused(refusal) => {
                    answer.verdict = Verdict::Refused.into();
                    answer.refusal = refusal.into();
                }
            }
        }
        (answer.first, answer.last) = (range.first, range.last);
        let place = match all.iter().position(|(epoch, _)| *epoch == range.epoch) {
            Some(place) => place,
            None => {
                all.push((range.epoch, Vec::with_capacity(ranges.len().min(8))));
                all.len() - 1
            }
        };
        let answers = &mut all[place].1;
        match answers.last_mut() {
            Some(last)
                if (last.verdict, last.refusal, last.lane) == (answer.verdict, answer.refusal, answer.lane)
                    && last.last.checked_add(1) == Some(answer.first) =>
            {
                last.last = answer.last;
            }
            _ => answers.push(answer),
        }
    }
    all
}

/// Closing waits for the committer this long.
pub(super) async fn join(task: tokio::task::JoinHandle<()>) {
    if timeout(Duration::from_secs(30), task).await.is_err() {
        tracing::warn!("the last commit does not end; what it holds was not acknowledged");
    }
}
