//! What every Tongtu agent shares: the collector table, the disk spool, the session with control,
//! enrolment. It does not know what is measured; [`metric`] and [`collect`] are what an agent fills in.

pub mod clock;
pub mod collect;
pub mod metric;
mod sheet;
pub mod table;
