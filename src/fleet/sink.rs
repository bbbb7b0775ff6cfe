//! Where the records of agents go. `fleet` defines it, `telemetry` implements it, `lib.rs` joins them.
//!
//! Who checks what: the gateway ends a stream whose messages exceed a limit of messages (their size,
//! the number of their elements, texts of definitions). The sink judges each record (frames, facts and
//! events that are too large, unknown numbers, checksums) and answers it, because every refused
//! sequence must be settled; and it bounds how many numbers a stream defines.

use crate::platform::{
    clock::UnixMs,
    ids::{AgentId, OrganizationId},
};
use tokio::sync::mpsc;
use tongtu_protocol::{reason::Reason, v1};

/// Takes the records of all agents.
pub trait Sink: Send + Sync + 'static {
    /// The highest sequence known of an agent's spool epoch, settled or waiting for its commit; 0: none.
    fn highest_sequence(&self, agent: AgentId, epoch: u64) -> u64;
    /// Opens a session. Answers come through `answers`, each after what it answers is durable.
    fn open(&self, opening: Opening, answers: mpsc::UnboundedSender<v1::Answers>) -> Box<dyn SinkSession>;
    /// What has been received of an agent since control started and before, for its state.
    fn delivery(&self, agent: AgentId) -> Delivery;
}

/// Who opens a session.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The certificate's agent.
    pub agent: AgentId,
    /// Its organisation now: owner of sources that it defines.
    pub organization: OrganizationId,
    /// From its hello.
    pub hello: v1::Hello,
}

/// An instant on both clocks, taken by control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlAnchor {
    /// CLOCK_BOOTTIME of the agent's machine.
    pub boottime_ms: u64,
    /// Control's clock.
    pub control_ms: UnixMs,
    /// Round trip: the anchor is right within this.
    pub round_trip_ms: u32,
}

/// One stream's records, in order. Never blocks: work that waits for the database is queued, and
/// what finds no room is answered *later*.
pub trait SinkSession: Send {
    /// Numbers that later records use.
    ///
    /// # Errors
    /// There is no room for more now: the stream must end.
    fn define(&mut self, define: v1::Define) -> Result<(), Reason>;
    /// A new anchor of the boot that the agent runs in.
    fn anchor(&mut self, anchor: ControlAnchor);
    /// Records of one lane.
    fn records(&mut self, records: v1::Records);
    /// Sequences that will never come.
    fn lost(&mut self, lost: v1::LostRanges);
}

/// Sums over an agent's epochs; each record counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Durable.
    pub records_accepted: u64,
    /// Refused for good.
    pub records_refused: u64,
    /// Reported lost by the agent.
    pub records_lost: u64,
    /// Frames accepted in the last hour of instants.
    pub frames_delivered: u64,
    /// Frames that the last hour should have brought (since the first frame, if later).
    pub frames_expected: u64,
    /// Instant of the newest frame.
    pub last_instant_ms: Option<UnixMs>,
    /// Control's clock when the last record arrived.
    pub last_arrival_ms: Option<UnixMs>,
}
