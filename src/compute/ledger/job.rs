//! Imports that go on or went on lately, as those who wait for one see them. In memory alone.
//!
//! What must hold: a bounded number of them; one that ended says how.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

use super::plan::{ImportCounts, LineChange};
use super::row::{Failed, Ignored};
use crate::platform::clock::UnixMs;
use crate::platform::ids::LedgerImportId;

/// Imports that may wait for their turn or go on.
const MOST_GOING: usize = 4;
/// Imports that are remembered.
const MOST_KNOWN: usize = 6;

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ImportState {
    /// For its turn.
    Waiting,
    /// The file is read.
    Reading,
    /// Rows are checked.
    Checking,
    /// What is taken is written.
    Writing,
    /// It is over. A dry run has written nothing.
    Done,
    /// Nothing was written: `reason` says why.
    Refused,
    /// Control failed; nothing was written. Its log says why.
    Failed,
}

/// A sentence in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub english: String,
    pub chinese: String,
}

/// What an import came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub header: Vec<String>,
    pub ignored: Vec<Ignored>,
    pub counts: Option<ImportCounts>,
    pub failed: Vec<Failed>,
    pub changes: Vec<LineChange>,
    /// Why nothing was written.
    pub reason: Option<Said>,
}

/// What is asked of an import.
#[derive(Debug, Clone)]
pub(super) struct ImportWanted {
    pub file: String,
    pub dry_run: bool,
    pub replace: bool,
}

/// An import.
#[derive(Debug)]
pub(super) struct Job {
    pub id: LedgerImportId,
    pub wanted: ImportWanted,
    pub by: String,
    pub begun_ms: UnixMs,
    /// Rows, or lines and machines to be written, of its present state; 0: not known yet.
    total: AtomicUsize,
    done: AtomicUsize,
    state: Mutex<(ImportState, Option<UnixMs>, Arc<Outcome>)>,
}

impl Job {
    /// How far it is, and since when it is over.
    pub(super) fn state(&self) -> (ImportState, Option<UnixMs>, Arc<Outcome>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much of the present state is done, of how much.
    pub(super) fn progress(&self) -> (usize, Option<usize>) {
        let total = self.total.load(Ordering::Relaxed);
        (self.done.load(Ordering::Relaxed), Some(total).filter(|total| *total > 0))
    }

    /// Another state begins.
    pub(super) fn begin(&self, state: ImportState, total: usize) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = state;
    }

    /// So much of the present state is done.
    pub(super) fn done(&self, done: usize) {
        self.done.store(done, Ordering::Relaxed);
    }

    pub(super) fn end(&self, state: ImportState, at_ms: UnixMs, outcome: Outcome) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (state, Some(at_ms), Arc::new(outcome));
    }

    fn is_over(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.is_some()
    }
}

/// All imports that are remembered, the newest last.
#[derive(Debug, Default)]
pub(in crate::compute) struct Imports {
    known: Mutex<VecDeque<Arc<Job>>>,
    /// Held by the one that goes on.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Held by the workbook of failed rows that is made: each takes as much memory as its table.
    pub(super) making: Arc<tokio::sync::Mutex<()>>,
}

impl Imports {
    /// One that waits for its turn. `None`: too many do.
    pub(super) fn add(&self, wanted: ImportWanted, by: String, now_ms: UnixMs) -> Option<Arc<Job>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.iter().filter(|job| !job.is_over()).count() >= MOST_GOING {
            return None;
        }
        // Greater than any that a control before this one gave.
        let id = LedgerImportId(known.back().map_or(0, |last| last.id.0 + 1).max(now_ms));
        let job = Arc::new(Job {
            id,
            wanted,
            by,
            begun_ms: now_ms,
            total: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            state: Mutex::new((ImportState::Waiting, None, Arc::default())),
        });
        known.push_back(Arc::clone(&job));
        while known.len() > MOST_KNOWN {
            let Some(oldest) = known.iter().position(|job| job.is_over()) else { break };
            known.remove(oldest);
        }
        Some(job)
    }

    pub(super) fn forget(&self, id: LedgerImportId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|job| job.id != id);
    }

    pub(super) fn find(&self, id: LedgerImportId) -> Option<Arc<Job>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).iter().find(|job| job.id == id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_goes_on_and_is_remembered() {
        let imports = Imports::default();
        let wanted = || ImportWanted { file: String::new(), dry_run: true, replace: false };
        let add = || imports.add(wanted(), String::new(), 5);
        let first: Vec<_> = (0..MOST_GOING).map(|_| add().expect("room")).collect();
        assert!(add().is_none(), "four wait");
        let ids: Vec<_> = first.iter().map(|job| job.id.0).collect();
        assert_eq!(ids, [5, 6, 7, 8]);
        for job in &first {
            job.end(ImportState::Done, 6, Outcome::default());
        }
        let later: Vec<_> = (0..MOST_GOING).map(|_| add().expect("room")).collect();
        assert!(imports.find(first[0].id).is_none() && imports.find(first[1].id).is_none());
        assert!(imports.find(first[2].id).is_some() && later.iter().all(|job| imports.find(job.id).is_some()));
        assert_eq!(first[2].state().0, ImportState::Done);
    }
}
