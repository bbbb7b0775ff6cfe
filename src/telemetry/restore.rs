//! The start: what the tables and the windows that are still there say.
//!
//! What must hold: a sequence that was answered *accepted* is settled again before the first
//! session opens. The live view is a convenience: a source whose newest frame cannot be told from
//! its last window gets it with its next frame.

use super::agent_state::Agent;
use super::batch::{self, Entry, FrameEntry, Outcome};
use super::compact;
use super::live::{Moment, Place, RecordId};
use super::registry::Registry;
use super::service::{CommitterStart, TelemetryError};
use super::slot::Predecessor;
use super::store::{self, WindowRow, WindowState};
use super::window::Window;
use crate::config;
use crate::platform::clock::UnixMs;
use crate::platform::db::Db;
use crate::platform::ids::{AgentId, SourceId};
use std::collections::HashMap;
use std::sync::Arc;
use tongtu_protocol::codec::State;

/// Delta chains of a source that are followed at once: its lanes.
const CHAINS: usize = 2;

/// What was there.
pub(super) struct Restored {
    pub registry: Registry,
    pub agents: HashMap<AgentId, Arc<Agent>>,
    pub compacted: i64,
    pub next_chunk: i64,
    pub next_slots: i64,
    pub next_day: i64,
    pub start: CommitterStart,
}

/// See the module.
pub(super) async fn restore(db: &Db, now_ms: UnixMs, config: &config::Telemetry) -> Result<Restored, TelemetryError> {
    let registry = registry(db, now_ms).await?;
    let mut agents = HashMap::new();
    for row in store::settled_list(db).await? {
        let agent = agents.entry(row.agent).or_insert_with(|| Arc::new(Agent::new(row.agent)));
        let mut state = agent.lock();
        state.last_instant_ms = state.last_instant_ms.max(row.last_instant_ms);
        state.last_arrival_ms = state.last_arrival_ms.max(row.last_arrival_ms);
        let epoch = state.epochs.entry(row.epoch).or_default();
        epoch.settled = row.ranges.into_iter().collect();
        epoch.counts = row.counts;
    }
    let windows = store::window_list(db).await?;
    let live: Vec<WindowRow> =
        windows.iter().filter(|window| window.state != WindowState::Compacted).copied().collect();
    let compacted = live.first().map_or(windows.last().map_or(0, |window| window.id), |window| window.id - 1);
    carried(db, &registry, &mut agents, compacted).await?;
    let mut replay = Replay { registry: &registry, agents: &mut agents, chains: HashMap::new() };
    let (mut last_batch, mut bytes) = (0, 0);
    for window in &live {
        bytes = 0;
        last_batch = 0;
        let mut batches = store::Batches::of(db, window.id).await?;
        while let Some((id, body)) = batches.next().await? {
            let damaged = |error: batch::BatchError| TelemetryError::Damaged {
                window: window.id,
                reason: format!("batch {id}: {error}"),
            };
            for entry in batch::entries(&body).map_err(damaged)? {
                let (place, entry) = entry.map_err(damaged)?;
                replay.entry(window.id, id, place, &entry);
            }
            bytes += body.len() as u64;
            last_batch = id;
        }
    }
    let window = match live.last().filter(|window| window.state == WindowState::Open) {
        Some(open) => {
            let mut window = Window::new(open.id, open.opened_ms, config);
            window.bytes = bytes;
            window
        }
        None => {
            let id = windows.last().map_or(0, |window| window.id) + 1;
            let transaction = db.begin("window_open").await?;
            store::window_open(&transaction, id, now_ms).await?;
            transaction.commit().await?;
            last_batch = 0;
            Window::new(id, now_ms, config)
        }
    };
    let next_event = store::last_key(db, "telemetry_event").await? + 1;
    let next_chunk = store::last_key(db, "telemetry_chunk").await? + 1;
    let next_slots = store::last_key(db, "telemetry_slots").await? + 1;
    let next_day = store::last_key(db, "telemetry_day").await? + 1;
    let start = CommitterStart { window, next_batch: last_batch + 1, next_event };
    Ok(Restored { registry, agents, compacted, next_chunk, next_slots, next_day, start })
}

async fn registry(db: &Db, now_ms: UnixMs) -> Result<Registry, TelemetryError> {
    let registry = Registry::default();
    for (schema, owned) in store::schema_list(db, now_ms).await? {
        registry.schema_restore(schema, owned);
    }
    let mut boots = HashMap::new();
    for row in store::boot_list(db, now_ms).await? {
        boots.insert(row.number, registry.boot_restore(row));
    }
    for (boot, anchor) in store::anchor_list(db).await? {
        if let Some(boot) = boots.get(&boot) {
            boot.anchor_restore(anchor);
        }
    }
    for source in store::source_list(db).await? {
        registry.source_restore(source);
    }
    for (source, facts) in store::facts_newest(db).await? {
        if let Some(source) = registry.source(source) {
            source.take_facts(&facts);
        }
    }
    Ok(registry)
}

/// The newest frames of windows that are gone.
async fn carried(
    db: &Db,
    registry: &Registry,
    agents: &mut HashMap<AgentId, Arc<Agent>>,
    compacted: i64,
) -> Result<(), TelemetryError> {
    let mut from = 0;
    loop {
        let rows = store::carried_list(db.read(), from, 500, compacted).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        from = last.source.0 + 1;
        for row in rows {
            let (Some(source), Some(schema)) = (registry.source(row.source), registry.schema_by_number(row.schema))
            else {
                continue;
            };
            let agent = agents.entry(source.agent).or_insert_with(|| Arc::new(Agent::new(source.agent)));
            agent.lock().absent.restore(row.meta.epoch, row.meta.sequence, row.meta.instant_ms);
            if let Ok(handed_on) = compact::handed_on(registry, row.schema, row.meta, &row.body) {
                let Predecessor { meta, state, measured, .. } = handed_on;
                let (instant_ms, uncertain, boot) = (meta.instant_ms, meta.uncertain, meta.boot);
                // When it arrived is not known any more; not before it was measured.
                let record = RecordId { epoch: meta.epoch, sequence: meta.sequence };
                let moment = Moment { record, instant_ms, arrival_ms: instant_ms, uncertain, boot };
                source.advance(&schema, &state, moment);
                source.restore_measured(measured);
            }
        }
    }
}

/// Windows being read again.
struct Replay<'a> {
    registry: &'a Registry,
    agents: &'a mut HashMap<AgentId, Arc<Agent>>,
    chains: HashMap<SourceId, Vec<Chain>>,
}

struct Chain {
    epoch: u64,
    sequence: u64,
    schema: i64,
    state: State,
}

impl Replay<'_> {
    fn entry(&mut self, window: i64, batch: i64, place: std::ops::Range<usize>, entry: &Entry<'_>) {
        match entry {
            Entry::Settled(settled) => {
                let agent = self.agent(settled.agent);
                agent.lock().settle(settled.epoch, settled.first, settled.last, settled.outcome);
            }
            Entry::Frame(frame) => {
                let agent = self.agent(frame.agent);
                let mut state = agent.lock();
                state.settle(frame.epoch, frame.sequence, frame.sequence, Outcome::Accepted);
                let interval_ms = match frame.interval_ms {
                    0 => self.registry.source(frame.source).map_or(0, |source| source.interval_ms()),
                    interval_ms => interval_ms,
                };
                state.frame_delivered(frame.instant_ms, frame.instant_ms, interval_ms);
                state.absent.restore(frame.epoch, frame.sequence, frame.instant_ms);
                drop(state);
                let Some(source) = self.registry.source(frame.source) else { return };
                source.add_place(Place {
                    instant_ms: frame.instant_ms,
                    window: window as u32,
                    batch: batch as u32,
                    offset: place.start as u32,
                    length: place.len() as u32,
                });
                let Some(schema) = self.registry.schema_by_number(frame.schema) else { return };
                let Some(state) = self.decode(frame, schema.columns.len()) else { return };
                let moment = Moment {
                    record: RecordId { epoch: frame.epoch, sequence: frame.sequence },
                    instant_ms: frame.instant_ms,
                    arrival_ms: frame.instant_ms,
                    uncertain: frame.uncertain,
                    boot: frame.boot,
                };
                source.advance(&schema, state, moment);
            }
        }
    }

    fn decode(&mut self, frame: &FrameEntry<'_>, columns: usize) -> Option<&State> {
        let chains = self.chains.entry(frame.source).or_default();
        let place = if frame.base_sequence == 0 {
            if chains.len() == CHAINS {
                chains.remove(0);
            }
            let state = State::zero(columns);
            chains.push(Chain { epoch: frame.epoch, sequence: 0, schema: frame.schema, state });
            chains.len() - 1
        } else {
            let base = (frame.epoch, frame.base_sequence, frame.schema);
            chains.iter().position(|chain| (chain.epoch, chain.sequence, chain.schema) == base)?
        };
        if chains[place].state.apply(frame.body).is_err() {
            chains.remove(place);
            return None;
        }
        chains[place].sequence = frame.sequence;
        // The one that goes first is the one that spoke longest ago.
        let chain = chains.remove(place);
        chains.push(chain);
        chains.last().map(|chain| &chain.state)
    }

    fn agent(&mut self, id: AgentId) -> Arc<Agent> {
        Arc::clone(self.agents.entry(id).or_insert_with(|| Arc::new(Agent::new(id))))
    }
}
