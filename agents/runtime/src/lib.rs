//! What every Tongtu agent shares: the collector table, the disk spool, the session with control,
//! enrolment. It does not know what is measured; [`metric`] and [`collect`] are what an agent fills in.

#[cfg(target_os = "linux")]
pub mod adjtimex;
pub mod agent;
pub mod backoff;
pub mod clock;
pub mod collect;
pub mod command;
pub mod configuration;
mod conversation;
pub mod data;
mod desired;
pub mod enrol;
mod exposition;
mod frames;
mod heap;
pub mod link;
pub mod memory;
pub mod metric;
mod others;
pub mod own;
pub mod queue;
pub mod ranges;
pub mod session;
mod sheet;
pub mod spool;
pub mod table;
