//! What every domain stands on: clock, ids, database, HTTP server, own metrics. Knows no domain word.

pub mod background;
pub mod clock;
pub mod db;
pub mod http;
pub mod ids;
pub mod metrics;
pub mod process;
pub mod shutdown;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
