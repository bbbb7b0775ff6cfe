//! What each collector costs in this process, one run after another.
//!
//! To compare collectors and two states of the code only: with all caches warm a run costs about a third
//! of what it costs each 15 s, which is what the benchmark `agent` measures.

use crate::report::Report;
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;
use tongtu_agent_host::collectors::COLLECTORS;
use tongtu_agent_runtime::{
    collect::{CollectorSpec, Context},
    table::Table,
};

const FRAMES: u32 = 200;
const INTERVAL: Duration = Duration::from_secs(15);

fn cpu() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(tv_sec as u64, tv_nsec as u32)
}

/// CPU of a frame of these collectors in µs, and its columns.
fn cost(specs: &'static [CollectorSpec], interval: Duration, frames: u32) -> (f64, usize) {
    let mut table = Table::new(specs, Context::default());
    let columns = table.frame(0, interval, |_| {}).0.columns();
    let start = cpu();
    for frame in 1..=frames {
        table.frame((interval * frame).as_millis() as u64, interval, |_| {});
    }
    ((cpu() - start).as_secs_f64() * 1e6 / f64::from(frames), columns)
}

/// Runs it.
pub(crate) fn run() -> Report {
    let mut report = Report::new("collectors", "CPU of each collector in a tight loop, without spool and session");
    let (each, columns) = cost(COLLECTORS, INTERVAL, FRAMES);
    report.figure("columns", columns as f64, "");
    report.figure("a frame, every collector at its cadence", each, "µs");
    for spec in COLLECTORS {
        let (each, _) = cost(std::slice::from_ref(spec), spec.interval.max(INTERVAL), FRAMES / 4);
        report.figure(spec.name, each, "µs");
    }
    report
}
