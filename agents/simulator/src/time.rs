//! The run's time: true time in Unix milliseconds, which goes on evenly whatever the wall clock does.

use tongtu_agent_runtime::clock;

/// Counts from the start of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time {
    start_ms: i64,
    start_boottime_ms: u64,
}

impl Time {
    /// Begins now.
    pub(crate) fn start() -> Self {
        Self { start_ms: clock::wall_ms(), start_boottime_ms: clock::boottime_ms() }
    }

    /// When the run began.
    pub(crate) fn start_ms(&self) -> i64 {
        self.start_ms
    }

    /// Now.
    pub(crate) fn now_ms(&self) -> i64 {
        self.start_ms + (clock::boottime_ms() - self.start_boottime_ms) as i64
    }
}
