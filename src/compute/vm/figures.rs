//! What the last two frames of a domain's source say about it. Pure.
//!
//! What must hold: what was not measured, or cannot be told, is `None`, never 0. Names are those of the libvirt
//! agent; a domain that is shut off has no counters. Of a machine that its own agent tells of they are a host's.

use std::collections::BTreeMap;

use crate::compute::figures::{self as host, Column, Reading, label};
use crate::telemetry::{Glance, StoredSchema};

use super::Vm;

/// libvirt's state of a domain.
pub(super) const STATE: &str = "libvirt_domain_state_code";
/// As libvirt numbers it (virDomainState).
pub(super) const SHUT_OFF: i64 = 5;

/// Where a schema has what a virtual machine is judged by.
#[derive(Debug, Default)]
pub(in crate::compute) struct VmPlan {
    state: Column,
    vcpus: Column,
    cpu_time: Column,
    memory: Column,
    memory_maximum: Column,
    available: Column,
    unused: Column,
    usable: Column,
    resident: Column,
    disks: Vec<Disk>,
    interfaces: Vec<Interface>,
    /// Its own agent tells of it.
    inside: Option<host::Plan>,
}

#[derive(Debug, Default)]
struct Disk {
    device: String,
    capacity: Column,
    allocation: Column,
    physical: Column,
    read: Column,
    write: Column,
}

#[derive(Debug, Default)]
struct Interface {
    device: String,
    receive: Column,
    transmit: Column,
}

impl VmPlan {
    /// Of a machine that a hypervisor tells of, or of one that its own agent does.
    pub(in crate::compute) fn of(vm: &Vm, schema: &StoredSchema) -> Self {
        match vm.row.host {
            None => Self::new(schema),
            Some(_) => Self { inside: Some(host::Plan::new(schema)), ..Self::default() },
        }
    }

    pub(super) fn is_inside(&self) -> bool {
        self.inside.is_some()
    }

    pub(in crate::compute) fn new(schema: &StoredSchema) -> Self {
        let mut plan = Self::default();
        let mut disks: BTreeMap<&str, Disk> = BTreeMap::new();
        let mut interfaces: BTreeMap<&str, Interface> = BTreeMap::new();
        // A schema has at most 8,192 columns.
        for (index, column) in (0u16..).zip(&schema.columns) {
            let here = Some(index);
            let device = label(column, "target_device");
            match column.metric.as_str() {
                STATE => plan.state = here,
                "libvirt_domain_info_virtual_cpus" => plan.vcpus = here,
                "libvirt_domain_info_cpu_time_seconds_total" => plan.cpu_time = here,
                "libvirt_domain_info_memory_usage_bytes" => plan.memory = here,
                "libvirt_domain_info_maximum_memory_bytes" => plan.memory_maximum = here,
                "libvirt_domain_memory_stats_available_bytes" => plan.available = here,
                "libvirt_domain_memory_stats_unused_bytes" => plan.unused = here,
                "libvirt_domain_memory_stats_usable_bytes" => plan.usable = here,
                "libvirt_domain_memory_stats_rss_bytes" => plan.resident = here,
                "libvirt_domain_block_stats_capacity_bytes" => disks.entry(device).or_default().capacity = here,
                "libvirt_domain_block_stats_allocation" => disks.entry(device).or_default().allocation = here,
                "libvirt_domain_block_stats_physicalsize_bytes" => disks.entry(device).or_default().physical = here,
                "libvirt_domain_block_stats_read_bytes_total" => disks.entry(device).or_default().read = here,
                "libvirt_domain_block_stats_write_bytes_total" => disks.entry(device).or_default().write = here,
                "libvirt_domain_interface_stats_receive_bytes_total" => {
                    interfaces.entry(device).or_default().receive = here;
                }
                "libvirt_domain_interface_stats_transmit_bytes_total" => {
                    interfaces.entry(device).or_default().transmit = here;
                }
                _ => {}
            }
        }
        plan.disks = disks.into_iter().map(|(device, disk)| Disk { device: device.to_owned(), ..disk }).collect();
        plan.interfaces = interfaces
            .into_iter()
            .map(|(device, interface)| Interface { device: device.to_owned(), ..interface })
            .collect();
        plan
    }

    /// libvirt's number of the state.
    pub(in crate::compute) fn state(&self, glance: &Glance<'_>) -> Option<i64> {
        Reading::new(glance).value(self.state).map(|state| state as i64)
    }
}

/// What a list shows of a virtual machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::compute) struct VmFigures {
    pub vcpus: Option<f64>,
    pub cpu_usage_percent: Option<f64>,
    pub memory_bytes: Option<f64>,
    pub memory_maximum_bytes: Option<f64>,
    pub memory_used_bytes: Option<f64>,
    pub memory_used_percent: Option<f64>,
    pub memory_resident_bytes: Option<f64>,
    pub disk_capacity_bytes: Option<f64>,
    pub disk_allocation_bytes: Option<f64>,
    pub disk_read_bytes_per_second: Option<f64>,
    pub disk_write_bytes_per_second: Option<f64>,
    pub network_receive_bytes_per_second: Option<f64>,
    pub network_transmit_bytes_per_second: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::compute) struct DiskFigures {
    pub device: String,
    pub capacity_bytes: Option<f64>,
    pub allocation_bytes: Option<f64>,
    pub read_bytes_per_second: Option<f64>,
    pub write_bytes_per_second: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::compute) struct InterfaceFigures {
    pub device: String,
    pub receive_bytes_per_second: Option<f64>,
    pub transmit_bytes_per_second: Option<f64>,
}

/// A sum of which one part is not known is not known; of nothing as well.
fn sum(parts: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let mut sum = None;
    for part in parts {
        *sum.get_or_insert(0.0) += part?;
    }
    sum
}

/// A sum of what is there: an empty drive has no size.
fn sum_of_known(parts: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    parts.flatten().reduce(|a, b| a + b)
}

/// What a disk takes on its host: of a file its blocks, of a device all of it. While the machine runs libvirt calls
/// that physical, and allocation how far was written since it was started; while it is off, allocation, and physical
/// how long a file is, holes included.
fn taken(plan: &VmPlan, disk: &Disk, reading: &Reading<'_>) -> Option<f64> {
    let (allocation, physical) = (reading.value(disk.allocation), reading.value(disk.physical));
    let is_off = reading.value(plan.state) == Some(SHUT_OFF as f64);
    if is_off { allocation.or(physical) } else { physical.or(allocation) }
}

/// The figures of a list.
pub(in crate::compute) fn figures(plan: &VmPlan, glance: &Glance<'_>) -> VmFigures {
    if let Some(plan) = &plan.inside {
        return figures_inside(plan, glance);
    }
    let reading = Reading::new(glance);
    let vcpus = reading.value(plan.vcpus);
    let available = reading.value(plan.available);
    let free = reading.value(plan.usable).or_else(|| reading.value(plan.unused));
    let used = available.zip(free).map(|(available, free)| (available - free).max(0.0));
    VmFigures {
        vcpus,
        // Its vCPUs may be given a little more than all of their time between two readings.
        cpu_usage_percent: reading
            .rate(plan.cpu_time)
            .zip(vcpus.filter(|vcpus| *vcpus > 0.0))
            .map(|(busy, vcpus)| (busy / vcpus * 100.0).min(100.0)),
        memory_bytes: reading.value(plan.memory),
        memory_maximum_bytes: reading.value(plan.memory_maximum),
        memory_used_bytes: used,
        memory_used_percent: used
            .zip(available.filter(|available| *available > 0.0))
            .map(|(used, available)| used / available * 100.0),
        memory_resident_bytes: reading.value(plan.resident),
        disk_capacity_bytes: sum_of_known(plan.disks.iter().map(|disk| reading.value(disk.capacity))),
        disk_allocation_bytes: sum_of_known(plan.disks.iter().map(|disk| taken(plan, disk, &reading))),
        disk_read_bytes_per_second: sum(plan.disks.iter().map(|disk| reading.rate(disk.read))),
        disk_write_bytes_per_second: sum(plan.disks.iter().map(|disk| reading.rate(disk.write))),
        network_receive_bytes_per_second: sum(plan.interfaces.iter().map(|one| reading.rate(one.receive))),
        network_transmit_bytes_per_second: sum(plan.interfaces.iter().map(|one| reading.rate(one.transmit))),
    }
}

/// Of a host that is a virtual machine. What it takes of a host that nobody sees, and its disks, are not known.
fn figures_inside(plan: &host::Plan, glance: &Glance<'_>) -> VmFigures {
    let known = host::figures(plan, glance);
    let used = known.memory_total_bytes.zip(known.memory_available_bytes).map(|(all, left)| (all - left).max(0.0));
    VmFigures {
        vcpus: plan.cpu_count().map(|count| count as f64),
        cpu_usage_percent: known.cpu_usage_percent,
        memory_bytes: known.memory_total_bytes,
        memory_used_bytes: used,
        memory_used_percent: used
            .zip(known.memory_total_bytes.filter(|all| *all > 0.0))
            .map(|(used, all)| used / all * 100.0),
        network_receive_bytes_per_second: known.network_receive_bytes_per_second,
        network_transmit_bytes_per_second: known.network_transmit_bytes_per_second,
        ..VmFigures::default()
    }
}

/// Its disks and interfaces, one by one.
pub(in crate::compute) fn devices(plan: &VmPlan, glance: &Glance<'_>) -> (Vec<DiskFigures>, Vec<InterfaceFigures>) {
    if let Some(plan) = &plan.inside {
        let interfaces = host::details(plan, glance).interfaces.into_iter().filter(|one| one.physical);
        let interface = |one: host::InterfaceFigures| InterfaceFigures {
            device: one.name,
            receive_bytes_per_second: one.receive_bytes_per_second,
            transmit_bytes_per_second: one.transmit_bytes_per_second,
        };
        return (Vec::new(), interfaces.map(interface).collect());
    }
    let reading = Reading::new(glance);
    let disks = plan.disks.iter().map(|disk| DiskFigures {
        device: disk.device.clone(),
        capacity_bytes: reading.value(disk.capacity),
        allocation_bytes: taken(plan, disk, &reading),
        read_bytes_per_second: reading.rate(disk.read),
        write_bytes_per_second: reading.rate(disk.write),
    });
    let interfaces = plan.interfaces.iter().map(|interface| InterfaceFigures {
        device: interface.device.clone(),
        receive_bytes_per_second: reading.rate(interface.receive),
        transmit_bytes_per_second: reading.rate(interface.transmit),
    });
    (disks.collect(), interfaces.collect())
}
