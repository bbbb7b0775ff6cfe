//! What an organisation sees of one kind of thing, each rendered once and kept until it would differ.
//!
//! Ten thousand hosts are listed every few seconds, frames come ten thousand times in fifteen. So
//! nothing is done when a frame comes. A board that was asked for lately is kept: twice a second
//! each thing's last frame is looked at in place, a few things at a time, and only one that has
//! another frame than last time is rendered again. Whoever asks then looks only at things that do not
//! report, and at those that may have stopped: a state is that of the moment of asking, a figure at
//! most a second old. A board that is not kept is looked at whole. Which things are seen, and the way
//! to their sources, is found anew only when owners, organisations or things changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Compute;
use crate::access::Permit;
use crate::access::capability::MeasurementsRead;
use crate::platform::clock::UnixMs;
use crate::platform::ids::OrganizationId;
use crate::platform::shutdown::Shutdown;

/// A board that nobody looked at for so long is forgotten.
const FORGET_MS: i64 = 600_000;
/// One that somebody looked at within this is kept.
const KEPT_MS: i64 = 60_000;
/// Between two passes over the boards that are kept.
const PASS: Duration = Duration::from_millis(500);
/// Things that are looked at while a board is locked: well below a millisecond, if all of them changed.
const STEP: usize = 128;
/// A figure of a board that is kept is at most so old.
const AGE_MS: i64 = 1_000;

/// A thing as a board shows it.
pub(super) trait Line: Sized + Send {
    /// Where boards of such lines are.
    fn boards(compute: &Compute) -> &Boards<Self>;

    /// Grows when things come or change, other than by what is measured of them.
    fn revision(compute: &Compute) -> u64;

    /// What a permit sees, in order of ids. `known` was seen before, in the same order.
    fn found(compute: &Compute, permit: &Permit<MeasurementsRead>, known: Vec<Self>) -> Vec<Self>;

    /// The number of its id.
    fn number(&self) -> i64;

    /// Looks whether it is to be shown otherwise.
    fn show(&mut self, compute: &Compute, now_ms: UnixMs, version: u64);

    /// Whether its state is what it was when it was looked at: it reported, and has not stopped.
    fn is_certain(&self, now_ms: UnixMs) -> bool;
}

/// One board for each organisation that asks.
#[derive(Debug)]
pub(super) struct Boards<L>(Mutex<HashMap<OrganizationId, Arc<Shelf<L>>>>);

impl<L> Default for Boards<L> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[derive(Debug)]
struct Shelf<L> {
    asked_ms: Mutex<UnixMs>,
    board: Mutex<Board<L>>,
}

/// What an organisation sees now, in order of ids.
#[derive(Debug)]
pub(super) struct Board<L> {
    pub rows: Vec<L>,
    /// Grows with every look.
    pub version: u64,
    /// Of owners and of things, when the rows were found.
    revisions: Option<(u64, u64)>,
    /// Begin of the last pass that looked at every row.
    kept_ms: Option<UnixMs>,
}

impl<L> Default for Board<L> {
    fn default() -> Self {
        Self { rows: Vec::new(), version: 0, revisions: None, kept_ms: None }
    }
}

impl<L> Boards<L> {
    fn shelf(&self, organization: OrganizationId, now_ms: UnixMs) -> Arc<Shelf<L>> {
        let mut shelves = lock(&self.0);
        shelves.retain(|known, shelf| *known == organization || now_ms - *lock(&shelf.asked_ms) < FORGET_MS);
        let shelf = shelves
            .entry(organization)
            .or_insert_with(|| Arc::new(Shelf { asked_ms: Mutex::new(now_ms), board: Mutex::default() }));
        *lock(&shelf.asked_ms) = now_ms;
        Arc::clone(shelf)
    }

    /// Those that are kept.
    fn kept(&self, now_ms: UnixMs) -> Vec<Arc<Shelf<L>>> {
        let shelves = lock(&self.0);
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
                () = self.0.asked.notified(), if !some => {}
                () = &mut told => return,
            }
        }
    }

    /// One pass over every board that is kept, and whether there is one.
    pub(super) async fn keep_all(&self) -> bool {
        let hosts = self.keep_kind::<super::host_line::HostLine>().await;
        let vms = self.keep_kind::<super::vm::line::VmLine>().await;
        hosts || vms
    }

    async fn keep_kind<L: Line>(&self) -> bool {
        let kept = L::boards(self).kept(self.0.clock.now_ms());
        for shelf in &kept {
            self.keep(shelf).await;
        }
        !kept.is_empty()
    }

    /// Looks at everything on a board, a few at a time.
    async fn keep<L: Line>(&self, shelf: &Shelf<L>) {
        let begun_ms = self.0.clock.now_ms();
        let mut next = i64::MIN;
        loop {
            let behind = self.step(&mut lock(&shelf.board), next, begun_ms);
            let Some(behind) = behind else { return };
            next = behind;
            tokio::task::yield_now().await;
        }
    }

    /// Looks at some things, from one on; the next one, if there are more.
    fn step<L: Line>(&self, board: &mut Board<L>, from: i64, begun_ms: UnixMs) -> Option<i64> {
        board.version += 1;
        let (version, now_ms) = (board.version, self.0.clock.now_ms());
        let begin = board.rows.partition_point(|row| row.number() < from);
        let end = board.rows.len().min(begin + STEP);
        board.rows[begin..end].iter_mut().for_each(|row| row.show(self, now_ms, version));
        let next = board.rows.get(end).map(Line::number);
        if next.is_none() {
            board.kept_ms = Some(begun_ms);
        }
        next
    }

    /// Shows `look` what the permit's organisation sees now.
    pub(super) fn look<L: Line, R>(&self, permit: &Permit<MeasurementsRead>, look: impl FnOnce(&Board<L>) -> R) -> R {
        let now_ms = self.0.clock.now_ms();
        let shelf = L::boards(self).shelf(permit.organization(), now_ms);
        self.0.asked.notify_one();
        let mut board = lock(&shelf.board);
        self.refresh(permit, &mut board, now_ms);
        look(&board)
    }

    fn refresh<L: Line>(&self, permit: &Permit<MeasurementsRead>, board: &mut Board<L>, now_ms: UnixMs) {
        board.version += 1;
        // Before it is asked who sees what: a change in between is found the next time.
        let revisions = Some((self.0.access.revision(), L::revision(self)));
        if board.revisions != revisions {
            board.revisions = revisions;
            board.rows = L::found(self, permit, std::mem::take(&mut board.rows));
        }
        let is_kept = board.kept_ms.is_some_and(|kept_ms| (0..=AGE_MS).contains(&(now_ms - kept_ms)));
        let version = board.version;
        for row in &mut board.rows {
            if !is_kept || !row.is_certain(now_ms) {
                row.show(self, now_ms, version);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
