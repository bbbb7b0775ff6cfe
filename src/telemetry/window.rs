//! The open window: when it is sealed. Pure.

use super::slot::SLOT_MS;
use crate::config;
use crate::platform::clock::UnixMs;

/// A frame of a slot's last moment may take this long to arrive.
const GRACE_MS: i64 = 3_000;

/// The window that records go into.
#[derive(Debug)]
pub(super) struct Window {
    pub id: i64,
    /// Of the batches in it.
    pub bytes: u64,
    opened_ms: UnixMs,
    span_ms: i64,
    size: u64,
    /// The slot when it was last asked.
    slot: i64,
}

impl Window {
    pub(super) fn new(id: i64, opened_ms: UnixMs, config: &config::Telemetry) -> Self {
        let slot = slot(opened_ms);
        Self { id, bytes: 0, opened_ms, span_ms: config.window_span.as_millis() as i64, size: config.window_size, slot }
    }

    /// Whether it should be sealed: old or large enough, at the first moment after a slot's end, so
    /// that most slots are made of one window; at once if it is much too large.
    pub(super) fn is_due(&mut self, now_ms: UnixMs) -> bool {
        let boundary = std::mem::replace(&mut self.slot, slot(now_ms)) < self.slot;
        let grown = self.bytes >= self.size || now_ms - self.opened_ms >= self.span_ms;
        self.bytes > 0 && (self.bytes >= self.size.saturating_mul(2) || (grown && boundary))
    }
}

fn slot(now_ms: UnixMs) -> i64 {
    (now_ms - GRACE_MS).div_euclid(SLOT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_790_000_100_000 / SLOT_MS * SLOT_MS;

    fn window(size: u64) -> Window {
        let config = config::Telemetry { window_size: size, ..config::Config::default().telemetry };
        Window::new(1, NOON + 10_000, &config)
    }

    #[test]
    fn an_old_window_is_sealed_just_behind_a_slot() {
        let mut window = window(1 << 20);
        let at = |minute: i64, second: i64| NOON + minute * 60_000 + second * 1_000;
        assert!(!window.is_due(at(60, 0)));
        window.bytes = 100;
        assert!(!window.is_due(at(65, 4)), "it is not old");
        assert!(!window.is_due(at(120, 4)), "nearly");
        assert!(!window.is_due(at(122, 0)), "in the middle of a slot");
        assert!(!window.is_due(at(125, 2)), "the slot's last frames are still on their way");
        assert!(window.is_due(at(125, 4)));
    }

    #[test]
    fn a_large_window_waits_for_a_slot_a_huge_one_does_not() {
        let mut window = window(1_000);
        window.bytes = 1_000;
        assert!(!window.is_due(NOON + 120_000));
        assert!(window.is_due(NOON + 304_000));
        window.bytes = 2_000;
        assert!(window.is_due(NOON + 305_000));
    }
}
