//! What a process costs, read from `/proc`: CPU time, memory, and what it leaves on the disk.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tongtu_tests::wait;

/// Often enough that a thread that ends has been seen shortly before.
const EVERY: Duration = Duration::from_millis(250);

/// Watches one process.
#[derive(Debug)]
pub(crate) struct Meter {
    pid: u32,
    seen: Arc<Mutex<Seen>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// CPU time of each thread, also of those that have ended, and the largest memory.
#[derive(Debug, Default)]
struct Seen {
    threads: HashMap<u32, u64>,
    peak_bytes: u64,
}

impl Meter {
    /// Begins to watch.
    pub(crate) fn start(pid: u32) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let end = Arc::<AtomicBool>::default();
        look(pid, &seen);
        let thread = {
            let (seen, end) = (Arc::clone(&seen), Arc::clone(&end));
            std::thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    look(pid, &seen);
                    wait::pause(EVERY);
                }
            })
        };
        Self { pid, seen, end, thread: Some(thread) }
    }

    /// CPU seconds, user and system, of all threads since the process began.
    ///
    /// `schedstat` counts nanoseconds where `stat` counts hundredths; the larger of the two is taken, since
    /// each leaves something out.
    pub(crate) fn cpu_s(&self) -> f64 {
        look(self.pid, &self.seen);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let precise = seen.threads.values().sum::<u64>() as f64 / 1e9;
        precise.max(coarse_cpu_s(self.pid) - 0.01)
    }

    /// Resident memory now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        status_bytes(self.pid, "VmRSS:")
    }

    /// The most that was resident since the process began.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        status_bytes(self.pid, "VmHWM:").max(seen.peak_bytes)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn look(pid: u32, seen: &Mutex<Seen>) {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return };
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    for thread in threads.flatten() {
        let id = thread.file_name().to_string_lossy().parse().unwrap_or(0);
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        if let Some(ns) = text.split(' ').next().and_then(|ns| ns.parse().ok()) {
            seen.threads.insert(id, ns);
        }
    }
    seen.peak_bytes = seen.peak_bytes.max(status_bytes(pid, "VmHWM:"));
}

fn coarse_cpu_s(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

fn status_bytes(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1_024
}

/// Bytes that a folder takes on the disk.
pub(crate) fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| {
            let meta = entry.path().symlink_metadata().ok()?;
            Some(if meta.is_dir() { disk_bytes(&entry.path()) } else { meta.blocks() * 512 })
        })
        .sum()
}

/// What this machine is, for the head of a report.
pub(crate) fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, value)| value).to_owned()
    };
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} × {}, {} GiB, Linux {}", field("model name"), kib >> 20, kernel.trim())
}
