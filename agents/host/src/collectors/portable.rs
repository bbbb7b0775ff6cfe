//! The reduced set for systems without `/proc`, from `sysinfo`. It works on Linux too, where it is
//! only tested. What node_exporter names keeps its name; use of the processor does not, because
//! these systems tell a share and no time.

use super::{Bound, every_frame, every_minute};
use crate::metrics as m;
use sysinfo::{Components, CpuRefreshKind, Disks, MemoryRefreshKind, Networks, System};
use tongtu_agent_runtime::{
    collect::{CollectError, Collector, CollectorSpec, Context, Unavailable, Values},
    metric::Metric,
};

/// The table.
pub static COLLECTORS: &[CollectorSpec] = &[
    every_frame("system", system),
    every_frame("network", network),
    every_frame("disk", disk),
    every_minute("component", component),
];

/// Things of a kind at most.
const THINGS: usize = 64;

fn no(error: sysinfo::Error) -> Unavailable {
    Unavailable::new(error.to_string())
}

fn memory(name: &str) -> Option<&'static Metric> {
    m::MEMORY.iter().find(|(key, _)| *key == name).map(|(_, metric)| metric)
}

struct Machine(System);

fn system(_: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let mut system = System::new().map_err(no)?;
    system.refresh_cpu_list(CpuRefreshKind::nothing().with_usage());
    Ok(Box::new(Machine(system)))
}

impl Collector for Machine {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        let system = &mut self.0;
        system.refresh_memory_specifics(MemoryRefreshKind::everything());
        system.refresh_cpu_usage();
        for (name, value) in [
            ("MemTotal", system.total_memory()),
            ("MemFree", system.free_memory()),
            ("MemAvailable", system.available_memory()),
            ("SwapTotal", system.total_swap()),
            ("SwapFree", system.free_swap()),
        ] {
            if let (Some(metric), Ok(value)) = (memory(name), i64::try_from(value)) {
                out.put(metric, &[], value);
            }
        }
        for cpu in system.cpus() {
            out.put(&m::CPU_USAGE, &[cpu.name()], (cpu.usage() * 100.0).round() as i64);
        }
        if let Ok(load) = System::load_average() {
            for (metric, value) in [(&m::LOAD1, load.one), (&m::LOAD5, load.five), (&m::LOAD15, load.fifteen)] {
                out.put(metric, &[], (value * 100.0).round() as i64);
            }
        }
        if let Ok(started) = System::boot_time() {
            out.put(&m::BOOT_TIME, &[], started as i64);
        }
        if let Ok(uptime) = System::uptime() {
            out.put(&m::UPTIME, &[], uptime as i64 * 1_000);
        }
        Ok(())
    }
}

struct Interfaces(Networks);

fn network(_: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    Ok(Box::new(Interfaces(Networks::new_with_refreshed_list().map_err(no)?)))
}

impl Collector for Interfaces {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        self.0.refresh(true);
        let mut bound = Bound::new("network", THINGS);
        let mut interfaces: Vec<_> = self.0.iter().collect();
        interfaces.sort_by_key(|(name, _)| *name);
        for (name, data) in interfaces {
            let name = &*name.to_string_lossy();
            if name == "lo" || !bound.admit() {
                continue;
            }
            let values = [
                (&m::NETWORK_RECEIVE_BYTES, data.total_received()),
                (&m::NETWORK_TRANSMIT_BYTES, data.total_transmitted()),
                (&m::NETWORK_RECEIVE_PACKETS, data.total_packets_received()),
                (&m::NETWORK_TRANSMIT_PACKETS, data.total_packets_transmitted()),
                (&m::NETWORK_RECEIVE_ERRS, data.total_errors_on_received()),
                (&m::NETWORK_TRANSMIT_ERRS, data.total_errors_on_transmitted()),
                (&m::NETWORK_MTU, data.mtu()),
            ];
            for (metric, value) in values {
                if let Ok(value) = i64::try_from(value) {
                    out.put(metric, &[name], value);
                }
            }
        }
        bound.put(out);
        Ok(())
    }
}

struct Storage(Disks);

fn disk(_: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    Ok(Box::new(Storage(Disks::new_with_refreshed_list().map_err(no)?)))
}

impl Collector for Storage {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        self.0.refresh(true);
        let mut bound = Bound::new("filesystem", THINGS);
        for disk in &self.0 {
            if !bound.admit() {
                continue;
            }
            let point = disk.mount_point().to_string_lossy();
            let labels = [&*point, &*disk.name().to_string_lossy(), &*disk.file_system().to_string_lossy()];
            let usage = disk.usage();
            let values = [
                (&m::FILESYSTEM_SIZE, disk.total_space()),
                (&m::FILESYSTEM_AVAIL, disk.available_space()),
                (&m::FILESYSTEM_READONLY, disk.is_read_only().into()),
            ];
            for (metric, value) in values {
                if let Ok(value) = i64::try_from(value) {
                    out.put(metric, &labels, value);
                }
            }
            for (metric, value) in
                [(&m::DISK_READ_BYTES, usage.total_read_bytes), (&m::DISK_WRITTEN_BYTES, usage.total_written_bytes)]
            {
                if let Ok(value) = i64::try_from(value) {
                    out.put(metric, &[labels[1]], value);
                }
            }
        }
        bound.put(out);
        Ok(())
    }
}

struct Temperatures(Components);

fn component(_: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let components = Components::new_with_refreshed_list().map_err(no)?;
    if components.is_empty() {
        return Err(Unavailable::new("no component of this machine tells its temperature"));
    }
    Ok(Box::new(Temperatures(components)))
}

impl Collector for Temperatures {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        self.0.refresh(true);
        for component in &self.0 {
            if let Some(celsius) = component.temperature().filter(|celsius| celsius.is_finite()) {
                let value = (celsius * 1_000.0).round() as i64;
                out.put(&m::COMPONENT_TEMPERATURE, &[component.label()], value);
            }
        }
        Ok(())
    }
}
