//! `/proc/stat`: CPU time of each core, and what else the kernel counts there. The file is dear on
//! machines with many interrupts, so it is read once for all of them.
//!
//! Parsed here and not by `procfs`, which numbers cores by their line (wrong once a core is
//! offline) and knows no interrupts.

use crate::{
    metrics as m,
    text::{TextFile, number},
};
use tongtu_agent_runtime::{
    collect::{CollectError, Collector, Context, Unavailable, Values},
    metric::Metric,
};

const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const GUEST_MODES: [&str; 2] = ["user", "nice"];
const FIELDS: usize = MODES.len() + GUEST_MODES.len();

/// The kernel computes idle and iowait from other clocks, and they may step back a little. A step
/// back of less than this many jiffies is that; a larger one is a core that was taken out and put in.
const JITTER: i64 = 300;

struct Stat {
    file: TextFile,
    /// What each core's counters stood at, by the line of the core.
    before: Vec<[i64; FIELDS]>,
}

/// Makes it.
///
/// # Errors
/// Where `/proc/stat` cannot be read.
pub(super) fn make(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    Ok(Box::new(Stat { file: TextFile::open(context.proc.join("stat"))?, before: Vec::new() }))
}

impl Collector for Stat {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        let mut core = 0;
        for line in self.file.read()?.lines() {
            let Some((key, rest)) = line.split_once(' ') else { continue };
            match key {
                "cpu" => {}
                "ctxt" => put(out, &m::CONTEXT_SWITCHES, rest),
                "btime" => put(out, &m::BOOT_TIME, rest),
                "processes" => put(out, &m::FORKS, rest),
                "procs_running" => put(out, &m::PROCS_RUNNING, rest),
                "procs_blocked" => put(out, &m::PROCS_BLOCKED, rest),
                "intr" => put(out, &m::INTERRUPTS, rest),
                _ => {
                    let Some(cpu) = key.strip_prefix("cpu") else { continue };
                    if core == self.before.len() {
                        self.before.push([0; FIELDS]);
                    }
                    put_core(out, cpu, rest, &mut self.before[core]);
                    core += 1;
                }
            }
        }
        Ok(())
    }
}

fn put(out: &mut Values<'_>, metric: &'static Metric, rest: &str) {
    if let Some(value) = rest.split(' ').next().and_then(number) {
        out.put(metric, &[], value);
    }
}

fn put_core(out: &mut Values<'_>, cpu: &str, rest: &str, before: &mut [i64; FIELDS]) {
    let fields = rest.split_ascii_whitespace().map_while(number::<i64>);
    for (index, (value, before)) in fields.zip(before).enumerate() {
        let back = *before - value;
        if !(1..JITTER).contains(&back) {
            *before = value;
        }
        match index.checked_sub(MODES.len()) {
            None => out.put(&m::CPU_SECONDS, &[cpu, MODES[index]], *before),
            Some(guest) => out.put(&m::CPU_GUEST_SECONDS, &[cpu, GUEST_MODES[guest]], *before),
        }
    }
}
