//! What this process costs the machine, read when `/metrics` is.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge, Opts};

use crate::metrics;
use crate::platform::clock;
use crate::platform::metrics::{Registry, Spec};

/// Registers them.
pub fn register(registry: &Registry) {
    let specs = [&metrics::PROCESS_CPU, &metrics::PROCESS_RESIDENT_MEMORY, &metrics::PROCESS_OPEN_FILES];
    registry.collector(&specs, Box::new(Process { descriptions: specs.map(describe).to_vec() }));
}

struct Process {
    descriptions: Vec<Desc>,
}

fn options(spec: &Spec) -> Opts {
    Opts::new(spec.name, spec.help)
}

fn describe(spec: &Spec) -> Desc {
    prometheus::core::Describer::describe(&options(spec)).expect("names of the list are valid")
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::with_capacity(3);
        let cpu = prometheus::Counter::with_opts(options(&metrics::PROCESS_CPU)).expect("a valid name");
        cpu.inc_by(clock::process_cpu().as_secs_f64());
        families.extend(cpu.collect());
        // Absent on a system without /proc: better than an invented number.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(kibibytes) = kibibytes(&status, "VmRSS:") {
            let memory = IntGauge::with_opts(options(&metrics::PROCESS_RESIDENT_MEMORY)).expect("a valid name");
            memory.set(kibibytes.saturating_mul(1024));
            families.extend(memory.collect());
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            let open = Gauge::with_opts(options(&metrics::PROCESS_OPEN_FILES)).expect("a valid name");
            open.set(files.count() as f64);
            families.extend(open.collect());
        }
        families
    }
}

fn kibibytes(status: &str, key: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
