//! The only place that reads clocks and the machine's identity.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tongtu_protocol::v1;

/// Milliseconds of CLOCK_BOOTTIME: since the boot, sleep included.
#[must_use]
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}

/// Unix time in milliseconds.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// A monotonic instant, to measure durations.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// CPU time of this process.
#[must_use]
#[expect(dead_code, reason = "the self metrics come next")]
pub(crate) fn process_cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// Both clocks at one instant.
#[must_use]
pub fn clock() -> v1::Clock {
    v1::Clock { boottime_ms: boottime_ms(), wall_ms: wall_ms(), synchronised: is_synchronised() }
}

/// Whether the kernel counts its clock as synchronised.
#[cfg(target_os = "linux")]
fn is_synchronised() -> bool {
    crate::adjtimex::read().is_ok_and(|clock| clock.synchronised)
}

/// Other systems are not asked: control corrects by its own clock.
#[cfg(not(target_os = "linux"))]
fn is_synchronised() -> bool {
    false
}
