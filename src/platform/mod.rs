//! What every domain stands on: clock, ids, database, HTTP server, tracing. Knows no domain word.

pub mod clock;
pub mod ids;
