//! Control as the benchmarks start it: small windows, so that a run of minutes compacts several.

use crate::measure::Meter;
use std::path::Path;
use std::time::Duration;
use tongtu_tests::control::Control;
use tongtu_tests::wait;

/// Sealed at the end of each slot of five minutes.
pub(crate) const SHORT_WINDOWS: &str = "[telemetry]\nwindow_span = \"1m\"\n";

/// The same, or when the window holds 16 MiB.
pub(crate) const SMALL_WINDOWS: &str = "[telemetry]\nwindow_span = \"1m\"\nwindow_size = \"8MiB\"\n";

/// A younger window is not sealed, unless it is large.
const SPAN: Duration = Duration::from_secs(60);
/// A window is sealed so long after the end of a slot.
const SLOT: Duration = Duration::from_secs(300);
const GRACE: Duration = Duration::from_secs(5);
/// A day that is over is closed at most so long after a window last added to it.
const SETTLED: Duration = Duration::from_secs(120);

/// Starts control with a configuration.
pub(crate) fn start(folder: &Path, configuration: &str) -> Control {
    let configuration = format!("[log]\nfilter = \"warn\"\n{configuration}");
    let mut control = Control::new(folder).with_configuration(&configuration);
    control.start();
    control
}

/// How long until the present slot ends.
pub(crate) fn until_slot_end() -> Duration {
    let past_ms = wait::wall_ms().rem_euclid(SLOT.as_millis() as i64);
    SLOT.saturating_sub(Duration::from_millis(past_ms as u64))
}

/// Waits until everything that these controls received is compacted, past the next end of a slot at which a window of
/// now is old enough.
pub(crate) fn wait_compacted<'a>(meters: impl Iterator<Item = &'a Meter>) {
    let end = until_slot_end();
    wait::pause(if end < SPAN { end + SLOT } else { end } + GRACE);
    meters.for_each(wait_resting);
}

/// Waits until the days that are over are closed as well: that is work too.
pub(crate) fn wait_days_closed<'a>(meters: impl Iterator<Item = &'a Meter> + Clone) {
    wait_compacted(meters.clone());
    wait::pause(SETTLED + GRACE);
    meters.for_each(wait_resting);
}

/// Waits until control uses less than 3 % of a core for three seconds.
///
/// # Panics
/// It did not within ten minutes: what would be read then is of work half done.
fn wait_resting(meter: &Meter) {
    const LOOK: Duration = Duration::from_secs(3);
    const LONGEST: Duration = Duration::from_secs(600);
    let watch = wait::Stopwatch::start();
    loop {
        let before = meter.cpu_s();
        wait::pause(LOOK);
        let used = (meter.cpu_s() - before) / LOOK.as_secs_f64();
        if used < 0.03 {
            return;
        }
        assert!(watch.elapsed() < LONGEST, "control does not come to rest: {:.0} % of a core", used * 100.0);
    }
}

/// What a store takes on the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreBytes {
    /// The file.
    pub(crate) file: u64,
    /// The file without the free pages that dropped windows left in it for the next ones.
    pub(crate) in_use: u64,
}

/// Of the SQLite database in a data directory, after control has stopped. The numbers stand in the
/// file's header: page size at 16, pages at 28, free pages at 36, big endian.
pub(crate) fn store_bytes(data: &Path) -> StoreBytes {
    let path = data.join("tongtu.db");
    let file = std::fs::metadata(&path).expect("the database").len();
    let mut header = [0; 40];
    std::io::Read::read_exact(&mut std::fs::File::open(&path).expect("the database"), &mut header).expect("a header");
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let log = std::fs::metadata(data.join("tongtu.db-wal")).map_or(0, |meta| meta.len());
    StoreBytes { file: file + log, in_use: (u64::from(word(28)) - u64::from(word(36))) * page }
}
