//! The only place that reads clocks, and what tells one machine and one boot from another.

use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::io;
use std::path::Path;
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
pub fn monotonic() -> Instant {
    Instant::now()
}

/// CPU time of this process.
#[must_use]
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

/// The present boot. Without a kernel that names boots each start of the agent counts as one.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(random_id)
}

/// The machine. One without an id of its own is given one, kept in `data`.
///
/// # Errors
/// It could not be kept.
pub fn machine_id(data: &Path) -> io::Result<String> {
    let own = data.join("machine-id");
    let known = [Path::new("/etc/machine-id"), Path::new("/var/lib/dbus/machine-id"), &own]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .find(|text| !text.is_empty() && text != "uninitialized");
    match known {
        Some(id) => Ok(id),
        None => {
            let id = random_id();
            fs::write(own, &id)?;
            Ok(id)
        }
    }
}

/// The machine's name for people.
#[must_use]
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}
