//! The hosts that an organisation sees, each rendered once and kept until it would differ.
//!
//! Ten thousand hosts are listed every few seconds, frames come ten thousand times in fifteen. So
//! nothing is done when a frame comes; whoever asks looks at each host's last frame in place, and
//! only a host that has another one than last time is rendered again. Which hosts are seen, and the
//! way to their sources, is found anew only when owners, organisations or hosts changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::figures::Plan;
use super::joining::Join;
use super::report::{HostSummary, newest};
use super::{Compute, Host};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Resource};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{OrganizationId, SourceId};
use crate::telemetry::SourceView;

/// A board that nobody looked at for so long is forgotten.
const FORGET_MS: i64 = 600_000;

/// One board for each organisation that asks.
#[derive(Debug, Default)]
pub(super) struct Boards(Mutex<HashMap<OrganizationId, Arc<Shelf>>>);

#[derive(Debug)]
struct Shelf {
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
    sources: Vec<(Join, SourceView)>,
    key: Option<Key>,
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
        let mut boards = lock(&self.0);
        boards.retain(|known, shelf| *known == organization || now_ms - *lock(&shelf.asked_ms) < FORGET_MS);
        let shelf = boards
            .entry(organization)
            .or_insert_with(|| Arc::new(Shelf { asked_ms: Mutex::new(now_ms), board: Mutex::default() }));
        *lock(&shelf.asked_ms) = now_ms;
        Arc::clone(shelf)
    }
}

impl Compute {
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
        for row in &mut board.rows {
            self.show(permit, row, now_ms, board.version);
        }
    }

    fn row(&self, permit: &Permit<MeasurementsRead>, host: &Arc<Host>, known: Option<Row>) -> Row {
        let view = |join: Join| Some((join, self.0.telemetry.source(permit, join.source)?));
        let sources: Vec<_> = host.sources().into_iter().filter_map(view).collect();
        // Without a key it is looked at again: its owner, or what is shown of its agent, may be another.
        match known {
            Some(row) => Row { host: Arc::clone(host), sources, key: None, ..row },
            None => Row {
                host: Arc::clone(host),
                shown: self.unmeasured(permit, host, None),
                json: Vec::new(),
                changed: 0,
                sources,
                key: None,
                plan: None,
            },
        }
    }

    fn show(&self, permit: &Permit<MeasurementsRead>, row: &mut Row, now_ms: UnixMs, version: u64) {
        let Row { host, sources, key: known, plan, .. } = row;
        let newest = newest(sources);
        let facts_ms = newest.and_then(|(_, source)| source.facts_instant_ms());
        let measured = newest.and_then(|(join, source)| {
            source.glance(|glance| {
                let schema = glance.schema.number;
                let key = Key {
                    source: join.source,
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
                let from = (join.source, source.agent());
                let facts = source.facts();
                let shown = self.measured(permit, host, from, &plan, &glance, facts.as_deref(), now_ms);
                Some((key, shown))
            })
        });
        let (key, shown) = match measured {
            Some(None) => return,
            Some(Some((key, shown))) => (Some(key), shown),
            None => {
                let from = newest.map(|(join, source)| (join.source, source.agent()));
                (None, self.unmeasured(permit, host, from))
            }
        };
        row.key = key;
        if shown != row.shown || row.json.is_empty() {
            row.json.clear();
            serde_json::to_writer(&mut row.json, &shown).expect("texts and numbers are JSON");
            row.shown = shown;
            row.changed = version;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
