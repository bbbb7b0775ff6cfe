//! A scripted fleet of agents speaking Tongtu's real protocol, for tests, benches and the demo.
//!
//! Owns the machines that are played (columns, values, what happens to them) and the figures of a run.
//! The wire is not made here: every agent speaks through the session of `agents/runtime`, with a
//! queue in memory in place of the disk spool. Deliberately absent: anything that control does not
//! see from a real agent.

pub mod duration;
mod enrol;
pub mod figures;
pub mod fleet;
pub mod host;
mod hypervisor;
mod log;
pub mod machine;
pub mod pattern;
mod queue;
pub mod recording;
pub mod scenario;
mod script;
mod time;

/// Of the simulated agents.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-simulator");
