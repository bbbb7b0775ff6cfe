//! What a session sends from: the disk spool of a real agent, or a queue in memory.
//!
//! Records of an epoch are numbered 1, 2, 3…; a number never names two different records. A record
//! is *settled* when control accepted or refused it, or it is reported lost and that is accepted.
//! A queue keeps its own delta chains; the session makes a keyframe through the cursor wherever a
//! lane does not continue one.

use crate::collect::chain;
use crate::link::Link;
use crate::session::{Ended, Identity, SessionError};
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use thiserror::Error;
use tongtu_protocol::{schema::SchemaId, v1};

/// What frames are taken of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// `host`, `libvirt_domain`…
    pub kind: String,
    /// Unique for (agent, kind).
    pub key: String,
    /// Of its frames. Another schema makes another `Source`.
    pub schema: SchemaId,
    /// Of that schema.
    pub columns: usize,
    /// Between two frames.
    pub interval_ms: u32,
}

/// A record that may be sent.
#[derive(Debug, Clone)]
pub struct Queued {
    /// The epoch of its number.
    pub epoch: u64,
    /// The boot it was made in.
    pub boot_id: Arc<str>,
    /// What it is of.
    pub source: Arc<Source>,
    /// Its number, boot time, checksum and body. Boot and source are numbered by the session.
    pub record: v1::Record,
}

/// Where a queue stands, for the hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Of the records made now.
    pub epoch: u64,
    /// The oldest that is not settled; `next` if there is none.
    pub first: u64,
    /// The next record's number.
    pub next: u64,
    /// Nothing from here on was ever sent. Control that knows it all the same heard it from the
    /// machine that this one is a copy of.
    pub own_from: u64,
}

/// How control settled records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Durable at control.
    Accepted,
    /// Never acceptable.
    Refused(v1::Refusal),
}

/// A queue that cannot be read.
#[derive(Debug, Error)]
#[error("cannot read the spool: {0}")]
pub struct QueueError(String);

impl QueueError {
    /// From its cause.
    pub fn new(cause: &dyn std::error::Error) -> Self {
        Self(chain(cause))
    }
}

/// Records that wait for control.
pub trait Queue: Send {
    /// A place in the queue.
    type Cursor: Send;

    /// Where the queue stands.
    fn span(&self) -> Span;

    /// A place before everything that is not settled.
    fn oldest(&mut self) -> Result<Self::Cursor, QueueError>;

    /// A place before the newest frame of each source: these come first, whatever lies between. With
    /// the number that comes next at that very moment: of what is below it, the place gives nothing
    /// else; what is made from then on, it gives all.
    fn newest(&mut self) -> Result<(Self::Cursor, u64), QueueError>;

    /// The next record that is durable and not settled, ascending. Stops, without moving, before
    /// number `until` of the present epoch; older epochs come first.
    fn next(&mut self, cursor: &mut Self::Cursor, until: u64) -> Result<Option<Queued>, QueueError>;

    /// The keyframe of the frame that the cursor gave last.
    fn keyframe(&mut self, cursor: &mut Self::Cursor) -> Result<Bytes, QueueError>;

    /// A schema that a source of this queue has. `None`: it is lost.
    fn schema(&mut self, id: SchemaId) -> Result<Option<v1::Schema>, QueueError>;

    /// What is known of a boot's clocks.
    fn anchors(&self, boot_id: &str) -> Vec<v1::Clock>;

    /// Control settled these numbers; each was sent, or reported lost.
    fn settle(&mut self, epoch: u64, first: u64, last: u64, settled: Settled);

    /// What is lost and not settled, by epoch.
    fn lost(&self) -> Vec<v1::LostRanges>;

    /// Numbers what comes next in a new epoch: this queue was restored from a copy.
    fn new_epoch(&mut self) -> Result<(), QueueError>;

    /// Returns when there may be more to send. Dropped at any await without harm; a queue may make
    /// its records in here.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// What a session asks of the agent around it.
pub trait Agent: Send {
    /// How to reach control and as whom, before each attempt; renews the certificate when it is due.
    fn connection(&mut self) -> impl Future<Output = Result<(Link, Identity), SessionError>> + Send;

    /// Both clocks, now.
    fn clock(&mut self) -> v1::Clock;

    /// What control desires, at each welcome and whenever it changes.
    fn configure(&mut self, desired: &v1::DesiredConfiguration);

    /// Control welcomed this session.
    fn welcomed(&mut self, _welcome: &v1::Welcome) {}

    /// A session ended.
    fn ended(&mut self, _ended: &Ended) {}
}
