//! How ingest and compaction are, for control's health page.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::Telemetry;
use super::service::Inner;
use crate::access::{Permit, capability::HealthRead};
use crate::platform::clock::UnixMs;

/// The last attempt to compact a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Compaction {
    /// When it ended.
    pub ended_ms: UnixMs,
    /// Whether the window is compacted; if not, it is tried again.
    pub done: bool,
    /// Sources of whose frames no slots could be made; the frames are kept aside.
    pub sources_left_out: u64,
}

/// Ingest and compaction now.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// The window that takes what comes.
    pub open_window: i64,
    /// Windows that wait for compaction or are in it.
    pub windows_waiting: i64,
    /// Bytes that wait for their commit.
    pub queue_bytes: u64,
    /// Beyond it agents are told to send again later.
    pub queue_limit_bytes: u64,
    /// The last compaction since the start.
    pub last_compaction: Option<Compaction>,
    /// Sources left out since the start.
    pub sources_left_out: u64,
}

impl Inner {
    pub(super) fn compacted_last(&self, compaction: Compaction) {
        *self.last_compaction.lock().unwrap_or_else(PoisonError::into_inner) = Some(compaction);
    }
}

impl Telemetry {
    /// Records that became durable since the start.
    #[must_use]
    pub fn records_accepted(&self) -> u64 {
        self.inner.metrics.records_accepted()
    }

    /// Ingest and compaction now.
    #[must_use]
    pub fn figures(&self, _: &Permit<HealthRead>) -> Figures {
        let open_window = *self.inner.sealed.borrow();
        Figures {
            open_window,
            windows_waiting: (open_window - self.inner.compacted.load(Ordering::Relaxed) - 1).max(0),
            queue_bytes: self.inner.queue.bytes() as u64,
            queue_limit_bytes: self.inner.config.queue_size,
            last_compaction: *self.inner.last_compaction.lock().unwrap_or_else(PoisonError::into_inner),
            sources_left_out: self.inner.metrics.sources_left_out.get(),
        }
    }
}
