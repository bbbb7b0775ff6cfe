//! Frames → windows → chunks and slots → queries.
//!
//! Owns everything measured: sources and their schemas, records and what of them is settled, the
//! live view, raw chunks and slots, and the one query function. Implements `fleet`'s
//! [`Sink`](crate::fleet::sink::Sink). What must hold: a record is answered *accepted* only after
//! the transaction that holds it is durable; a record is stored once however often it is sent; a
//! figure is never invented, so every one has its coverage.
//!
//! Ids of schemas, boots and sources are given out in memory and written in the transaction of the
//! first batch that uses them: one process writes, and the hot path waits for no database.

mod absent;
mod agent_state;
pub mod api;
mod batch;
pub mod chunk;
pub mod columns;
mod committer;
mod compact;
mod compaction;
mod days;
mod deleted;
pub mod exposition;
mod fetch;
mod figures;
pub mod gaps;
mod ingest;
pub mod instant;
mod instruments;
mod json;
mod lane;
mod live;
mod measured;
mod ordered;
mod pack;
pub mod query;
mod queue;
pub mod ranges;
mod reading;
mod registry;
pub(crate) mod report;
mod restore;
mod service;
pub mod slot;
pub mod slot_block;
mod store;
mod store_days;
mod store_rows;
#[cfg(test)]
mod tests;
mod thin;
mod window;

pub use figures::{Compaction, Figures};
pub use measured::{Measured, Measurement, Slow};
pub use reading::SourceView;
pub use service::{Telemetry, TelemetryError};

use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, SourceId};
use std::collections::BTreeMap;
use std::sync::Arc;
use tongtu_protocol::{codec::State, schema::SchemaId, v1};

/// Width of a day: days of storage are UTC's.
const DAY_MS: i64 = 86_400_000;

/// A schema as control keeps it.
#[derive(Debug)]
pub struct StoredSchema {
    /// Its row.
    pub number: i64,
    /// Its identity on the wire.
    pub id: SchemaId,
    /// What its columns mean. Shared by all schemas that have them: the schemas of two hosts differ
    /// in few columns.
    pub columns: Vec<Arc<v1::Column>>,
    /// Those of them that are not measured for every frame, in their order.
    pub slow: Box<[Slow]>,
    /// The longest time between two measurements of a column; 0: none has a cadence.
    pub widest_cadence_ms: u32,
}

impl StoredSchema {
    /// A schema of columns that nothing else shares.
    #[must_use]
    pub fn new(number: i64, id: SchemaId, columns: Vec<v1::Column>) -> Self {
        let slow = columns.iter().enumerate().filter(|(_, column)| column.cadence_s > 0);
        let slow =
            slow.map(|(place, column)| Slow { column: place, cadence_ms: column.cadence_s.saturating_mul(1_000) });
        let slow: Box<[Slow]> = slow.collect();
        let widest_cadence_ms = slow.iter().map(|slow| slow.cadence_ms).max().unwrap_or(0);
        Self { number, id, columns: columns.into_iter().map(Arc::new).collect(), slow, widest_cadence_ms }
    }
}

/// What is measured as one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceInfo {
    /// Its id.
    pub id: SourceId,
    /// Whose spool its records come through.
    pub agent: AgentId,
    /// "host", "libvirt_domain", …
    pub kind: String,
    /// Unique for (agent, kind).
    pub key: String,
    /// Between two frames.
    pub interval_ms: u32,
    /// Since when control knows it.
    pub created_ms: UnixMs,
    /// Instant of its newest frame.
    pub last_instant_ms: Option<UnixMs>,
}

/// One frame of the live view, with what was measured before it and still stands.
#[derive(Debug, Clone)]
pub struct LiveFrame {
    /// What the values mean.
    pub schema: Arc<StoredSchema>,
    /// One for each column; `None` is absent, never 0.
    pub values: Arc<[Option<i64>]>,
    /// When it was measured.
    pub instant_ms: UnixMs,
    /// When it arrived.
    pub arrival_ms: UnixMs,
    /// The instant rests on the agent's own clock alone.
    pub clock_uncertain: bool,
    /// Between two frames of the source.
    pub interval_ms: u32,
    /// Differs between two boots of the machine.
    pub boot: u32,
}

impl LiveFrame {
    /// Whether a consumer should no longer take this for the present state: older than two and a
    /// half intervals and five seconds, by instant or by arrival.
    #[must_use]
    pub fn is_stale(&self, now_ms: UnixMs) -> bool {
        now_ms > up_until_ms(self.interval_ms, self.instant_ms, self.arrival_ms)
    }
}

/// The last frame of a source and the one before it, looked at in place.
#[derive(Debug, Clone, Copy)]
pub struct Glance<'a> {
    /// What the values mean.
    pub schema: &'a Arc<StoredSchema>,
    /// The values.
    pub state: &'a State,
    /// What was measured less often.
    pub measured: &'a Measured,
    /// When they were measured.
    pub instant_ms: UnixMs,
    /// When they arrived.
    pub arrival_ms: UnixMs,
    /// The instant rests on the agent's own clock alone.
    pub clock_uncertain: bool,
    /// Between two frames of the source.
    pub interval_ms: u32,
    /// Differs between two boots of the machine.
    pub boot: u32,
    /// What was measured before it is not for who looks.
    pub since_ms: UnixMs,
    /// The frame before.
    pub before: Option<GlanceBefore<'a>>,
}

/// The frame before the last one.
#[derive(Debug, Clone, Copy)]
pub struct GlanceBefore<'a> {
    /// What the values mean.
    pub schema: &'a Arc<StoredSchema>,
    /// The values.
    pub state: &'a State,
    /// When they were measured.
    pub instant_ms: UnixMs,
    /// Differs between two boots of the machine.
    pub boot: u32,
}

impl Glance<'_> {
    /// A column's value: of the frame, or the newest that still stands.
    #[must_use]
    pub fn value(&self, column: usize) -> Option<i64> {
        let slow = || self.measured.shown(column, self.instant_ms, self.boot);
        self.state.get(column).or_else(|| slow().filter(|last| last.at_ms >= self.since_ms).map(|last| last.value))
    }

    /// A column's value, the one before it, and the milliseconds between them: of the last two frames,
    /// or of its last two measurements.
    #[must_use]
    pub fn last_two(&self, column: usize) -> Option<(i64, i64, i64)> {
        if let Some(last) = self.measured.shown(column, self.instant_ms, self.boot) {
            let between_ms = i64::from(last.since_ms);
            let known = between_ms > 0 && last.at_ms.saturating_sub(between_ms) >= self.since_ms;
            return known.then_some((last.value, last.before, between_ms));
        }
        // A frame of another schema has other columns, perhaps fewer.
        let is_same =
            |before: &&GlanceBefore<'_>| before.boot == self.boot && before.schema.number == self.schema.number;
        let before = self.before.as_ref().filter(is_same)?;
        let between_ms = self.instant_ms.saturating_sub(before.instant_ms);
        let near = (1..=slot::longest_ms(self.interval_ms)).contains(&between_ms);
        let values = self.state.get(column).zip(before.state.get(column)).filter(|_| near);
        values.map(|(value, before)| (value, before, between_ms))
    }

    /// As [`LiveFrame::is_stale`].
    #[must_use]
    pub fn is_stale(&self, now_ms: UnixMs) -> bool {
        now_ms > self.up_until_ms()
    }

    /// Behind this instant it is stale.
    #[must_use]
    pub fn up_until_ms(&self) -> UnixMs {
        up_until_ms(self.interval_ms, self.instant_ms, self.arrival_ms)
    }
}

fn up_until_ms(interval_ms: u32, instant_ms: UnixMs, arrival_ms: UnixMs) -> UnixMs {
    let limit = i64::from(interval_ms) * 5 / 2 + 5_000;
    instant_ms.min(arrival_ms).saturating_add(limit)
}

/// The inventory of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Name → value.
    pub values: BTreeMap<String, String>,
    /// Since when it holds.
    pub instant_ms: UnixMs,
}

/// What to ask of one source.
#[derive(Debug, Clone)]
pub struct SeriesQuery {
    /// Of which source.
    pub source: SourceId,
    /// Names of metrics.
    pub metrics: Vec<String>,
    /// Only columns of this resource.
    pub resource: Option<String>,
    /// From, inclusive.
    pub from_ms: UnixMs,
    /// To, exclusive.
    pub to_ms: UnixMs,
    /// Width of a point; a multiple of five minutes. None: raw frames.
    pub step_ms: Option<i64>,
    /// At most so many points a series, to be drawn.
    pub points: Option<usize>,
    /// Series that agree in these labels are added up. None: each by itself.
    pub sum_by: Option<Vec<String>>,
}

/// A source that measured a thing, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which.
    pub source: SourceId,
    /// From (inclusive) and to (exclusive), in order. No other part's overlap them.
    pub stays: Vec<(UnixMs, UnixMs)>,
}

/// Something that happened to a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceEvent {
    /// To which.
    pub source: SourceId,
    /// When.
    pub instant_ms: UnixMs,
    /// What.
    pub name: String,
    /// More of it.
    pub attributes: BTreeMap<String, String>,
}

/// What the points of a series were made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Frames.
    Raw,
    /// Five-minute slots.
    Slot,
    /// Hourly slots.
    Hour,
}

/// One column over time.
#[derive(Debug, Clone)]
pub struct Series {
    /// What it is.
    pub column: v1::Column,
    /// What it was made from.
    pub resolution: Resolution,
    /// Width of a point; of raw frames the sampling interval.
    pub step_ms: i64,
    /// The values are a counter's rate a second.
    pub rate: bool,
    /// The points.
    pub points: Points,
    /// Covered ÷ expected time over the whole period, 0 to 1.
    pub coverage: f64,
    /// Counter resets inside the period: intervals left uncovered because of them.
    pub resets: u64,
    /// Rates above the interface's speed that were dropped.
    pub dropped: u64,
    /// Of how many series it is the sum; 1: of itself.
    pub parts: usize,
    /// Where nothing is known, and why.
    pub gaps: Vec<gaps::Gap>,
}

/// Points of a series, as columns of equal length. A gap is `None` with coverage 0.
///
/// Raw: the value as sampled (a counter's count). Slots: a gauge's mean, a counter's rate a second
/// over the covered seconds. Thinned: the same over several of them; a counter always has its rate.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Points {
    /// Begin of the first point, where the others follow it by [`Series::step_ms`].
    pub first_ms: Option<UnixMs>,
    /// Else the begin of each point.
    pub instants_ms: Vec<UnixMs>,
    /// Value, rate or mean.
    pub value: Vec<Option<f64>>,
    /// Smallest sample, or smallest rate of a thinned counter; empty where a point is one sample or rate.
    pub min: Vec<Option<f64>>,
    /// Largest sample or rate.
    pub max: Vec<Option<f64>>,
    /// Covered ÷ expected seconds, 0 to 1; of raw frames 1.
    pub coverage: Vec<f32>,
}

impl Points {
    /// Points that follow each other by one step.
    fn even(first_ms: UnixMs, points: usize, extremes: bool) -> Self {
        let extreme = if extremes { points } else { 0 };
        Self {
            first_ms: Some(first_ms),
            instants_ms: Vec::new(),
            value: Vec::with_capacity(points),
            min: Vec::with_capacity(extreme),
            max: Vec::with_capacity(extreme),
            coverage: Vec::with_capacity(points),
        }
    }
}
