//! The hosts that an organisation sees, each rendered once and kept until it would differ.
//!
//! Ten thousand hosts are listed every few seconds, frames come ten thousand times in fifteen. So
//! nothing is done when a frame comes. A board that was asked for lately is kept: twice a second
//! each host's last frame is looked at in place, a few hosts at a time, and only a host that has
//! another one than last time is rendered again. Whoever asks then looks only at hosts that do not
//! report, and at those that may have stopped: a state is that of the moment of asking, a figure at
//! most a second old. A board that is not kept is looked at whole. Which hosts are seen, and the way
//! to their sources, is found anew only when owners, organisations or hosts changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::figures::Plan;
use super::report::{HostSummary, Shown, newest};
use super::{Compute, Host};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Resource};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{HostId, OrganizationId, SourceId};
use crate::platform::shutdown::Shutdown;

/// A board that nobody looked at for so long is forgotten.
const FORGET_MS: i64 = 600_000;
/// One that somebody looked at within this is kept.
const KEPT_MS: i64 = 60_000;
/// Between two passes over the boards that are kept.
const PASS: Duration = Duration::from_millis(500);
/// Hosts that are looked at while a board is locked: well below a millisecond, if all of them changed.
const STEP: usize = 128;
/// A figure of a board that is kept is at most so old.
const AGE_MS: i64 = 1_000;

/// One board for each organisation that asks.
#[derive(Debug, Default)]
pub(super) struct Boards {
    shelves: Mutex<HashMap<OrganizationId, Arc<Shelf>>>,
    /// Somebody looks at one.
    asked: Notify,
}

#[derive(Debug)]
pub(super) struct Shelf {
    asked_ms: Mutex<UnixMs>,
    board: Mutex<Board>,
}

/// What an organisation sees now, in order of ids.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub rows: Vec<Row>,
    /// Grows with every look.
    pub version: u64,
    /// Of owners and of hosts, when the rows were found.
    revisions: Option<(u64, u64)>,
    /// Begin of the last pass that looked at every row.
    kept_ms: Option<UnixMs>,
}

/// A host as it is shown.
#[derive(Debug)]
pub(super) struct Row {
    pub host: Arc<Host>,
    pub shown: HostSummary,
    /// The same.
    pub json: Vec<u8>,
    /// [`Board::version`] of the look that found it changed.
    pub changed: u64,
    /// When it was started last, on control's clock.
    pub started_ms: Option<UnixMs>,
    /// The boot that began then.
    boot: Option<u32>,
    sources: Vec<Shown>,
    key: Option<Key>,
    /// Up to then it reports, if no other frame comes.
    up_until_ms: UnixMs,
    plan: Option<(i64, Arc<Plan>)>,
}

/// Two looks at a host that find the same key show the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    source: SourceId,
    schema: i64,
    instant_ms: UnixMs,
    before_ms: Option<UnixMs>,
    stale: bool,
    facts_ms: Option<UnixMs>,
}

impl Boards {
    fn shelf(&self, organization: OrganizationId, now_ms: UnixMs) -> Arc<Shelf> {
        let mut shelves = lock(&self.shelves);
        shelves.retain(|known, shelf| *known == organization || now_ms - *lock(&shelf.asked_ms) < FORGET_MS);
        let shelf = shelves
            .entry(organization)
            .or_insert_with(|| Arc::new(Shelf { asked_ms: Mutex::new(now_ms), board: Mutex::default() }));
        *lock(&shelf.asked_ms) = now_ms;
        let shelf = Arc::clone(shelf);
        drop(shelves);
        self.asked.notify_one();
        shelf
    }

    /// Those that are kept.
    fn kept(&self, now_ms: UnixMs) -> Vec<Arc<Shelf>> {
        let shelves = lock(&self.shelves);
        shelves.values().filter(|shelf| now_ms - *lock(&shelf.asked_ms) < KEPT_MS).cloned().collect()
    }
}

impl Compute {
    /// Keeps the boards that somebody looks at, until the shutdown.
    pub async fn keep_boards(self, shutdown: Shutdown) {
        let mut told = std::pin::pin!(shutdown.triggered());
        loop {
            let some = self.keep_all().await;
            tokio::select! {
                () = tokio::time::sleep(PASS), if some => {}
                // As long as nobody looks at any, nothing is done.
                () = self.0.boards.asked.notified(), if !some => {}
                () = &mut told => return,
            }
        }
    }

    /// One pass over every board that is kept, and whether there is one.
    pub(super) async fn keep_all(&self) -> bool {
        let kept = self.0.boards.kept(self.0.clock.now_ms());
        for shelf in &kept {
            self.keep(shelf).await;
        }
        !kept.is_empty()
    }

    /// Looks at every host of a board, a few at a time.
    async fn keep(&self, shelf: &Shelf) {
        let begun_ms = self.0.clock.now_ms();
        let mut next = HostId(i64::MIN);
        loop {
            let behind = self.step(&mut lock(&shelf.board), next, begun_ms);
            let Some(behind) = behind else { return };
            next = behind;
            tokio::task::yield_now().await;
        }
    }

    /// Looks at some hosts, from one on; the next one, if there are more.
    fn step(&self, board: &mut Board, from: HostId, begun_ms: UnixMs) -> Option<HostId> {
        board.version += 1;
        let (version, now_ms) = (board.version, self.0.clock.now_ms());
        let begin = board.rows.partition_point(|row| row.host.row.id < from);
        let end = board.rows.len().min(begin + STEP);
        board.rows[begin..end].iter_mut().for_each(|row| self.show(row, now_ms, version));
        let next = board.rows.get(end).map(|row| row.host.row.id);
        if next.is_none() {
            board.kept_ms = Some(begun_ms);
        }
        next
    }

    /// Shows `look` what the permit's organisation sees now.
    pub(super) fn look<R>(&self, permit: &Permit<MeasurementsRead>, look: impl FnOnce(&Board) -> R) -> R {
        let now_ms = self.0.clock.now_ms();
        let shelf = self.0.boards.shelf(permit.organization(), now_ms);
        let mut board = lock(&shelf.board);
        self.refresh(permit, &mut board, now_ms);
        look(&board)
    }

    fn refresh(&self, permit: &Permit<MeasurementsRead>, board: &mut Board, now_ms: UnixMs) {
        board.version += 1;
        // Before it is asked who sees what: a change in between is found the next time.
        let owners = self.0.access.revision();
        let index = self.0.index.read().unwrap_or_else(PoisonError::into_inner);
        if board.revisions != Some((owners, index.revision)) {
            board.revisions = Some((owners, index.revision));
            let mut known = std::mem::take(&mut board.rows).into_iter().peekable();
            let visible = index.hosts.iter().filter(|(id, _)| self.0.access.is_visible(permit, Resource::Host(**id)));
            board.rows = visible
                .map(|(id, host)| {
                    while known.next_if(|row| row.host.row.id < *id).is_some() {}
                    self.row(permit, host, known.next_if(|row| row.host.row.id == *id))
                })
                .collect();
        }
        drop(index);
        let is_kept = board.kept_ms.is_some_and(|kept_ms| (0..=AGE_MS).contains(&(now_ms - kept_ms)));
        for row in &mut board.rows {
            if !is_kept || !row.is_certain(now_ms) {
                self.show(row, now_ms, board.version);
            }
        }
    }

    fn row(&self, permit: &Permit<MeasurementsRead>, host: &Arc<Host>, known: Option<Row>) -> Row {
        let sources = self.shown(permit, host);
        match known {
            // What it is made of is the same.
            Some(row) if row.sources == sources && row.shown.organization == self.owner(host) => row,
            Some(row) => Row { host: Arc::clone(host), sources, key: None, ..row },
            None => Row {
                host: Arc::clone(host),
                shown: self.unmeasured(host, None),
                json: Vec::new(),
                changed: 0,
                started_ms: None,
                boot: None,
                sources,
                key: None,
                up_until_ms: UnixMs::MIN,
                plan: None,
            },
        }
    }

    fn show(&self, row: &mut Row, now_ms: UnixMs, version: u64) {
        let Row { host, sources, key: known, plan, .. } = row;
        let newest = newest(sources);
        let facts_ms = newest.and_then(|newest| newest.source.facts_instant_ms());
        let measured = newest.and_then(|newest| {
            newest.source.glance(|glance| {
                let schema = glance.schema.number;
                let key = Key {
                    source: newest.join.source,
                    schema,
                    instant_ms: glance.instant_ms,
                    before_ms: glance.before.map(|before| before.instant_ms),
                    stale: glance.is_stale(now_ms),
                    facts_ms,
                };
                if *known == Some(key) {
                    return None;
                }
                let plan = match plan {
                    Some((number, plan)) if *number == schema => Arc::clone(plan),
                    _ => {
                        let new = self.plan(glance.schema);
                        *plan = Some((schema, Arc::clone(&new)));
                        new
                    }
                };
                let facts = newest.source.facts();
                let shown = self.measured(host, newest, &plan, &glance, facts.as_deref(), now_ms);
                Some((key, glance.up_until_ms(), shown, glance.boot))
            })
        });
        let (key, up_until_ms, shown, boot) = match measured {
            Some(None) => return,
            Some(Some((key, up_until_ms, shown, boot))) => (Some(key), up_until_ms, shown, Some(boot)),
            None => (None, UnixMs::MIN, self.unmeasured(host, newest), None),
        };
        // Asked once a boot: a later anchor would move it by milliseconds.
        if boot != row.boot || row.started_ms.is_none() {
            let agent = newest.map(|newest| newest.source.agent());
            row.started_ms = agent.zip(boot).and_then(|(agent, boot)| self.0.telemetry.boot_began_ms(agent, boot));
            row.boot = boot;
        }
        (row.key, row.up_until_ms) = (key, up_until_ms);
        if shown != row.shown || row.json.is_empty() {
            row.json.clear();
            serde_json::to_writer(&mut row.json, &shown).expect("texts and numbers are JSON");
            row.shown = shown;
            row.changed = version;
        }
    }
}

impl Row {
    /// Whether its state is what it was when it was looked at: it reported, and has not stopped.
    fn is_certain(&self, now_ms: UnixMs) -> bool {
        self.key.is_some_and(|key| !key.stale) && now_ms <= self.up_until_ms
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
