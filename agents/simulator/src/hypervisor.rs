//! A simulated hypervisor: the columns of its node and of its virtual machines, as the libvirt agent sends them. Pure.
//!
//! Names, labels, units and facts are those of the libvirt agent. What a machine does follows its group's pattern,
//! each at a scale of its own, so some are idle and some are full.

use crate::host::Random;
use crate::machine::{Behaviour, Build, Driver, Plan};
use std::collections::BTreeMap;

const GIB: i64 = 1 << 30;

/// A simulated virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Domain {
    /// As its hypervisor calls it.
    pub(crate) name: String,
    /// Lower case, with dashes.
    pub(crate) uuid: String,
    vcpus: i64,
    memory_bytes: i64,
    disk_bytes: i64,
}

impl Domain {
    /// The machine `number` of the hypervisor `host` of a fleet.
    pub(crate) fn new(seed: u64, host: u64, number: usize, hostname: &str) -> Self {
        let mut random = Random::new(seed ^ 0x646f_6d61_696e_0000, host << 16 | number as u64);
        let (high, low) = (random.next(), random.next());
        let size = random.next() % 4;
        Self {
            name: format!("{hostname}-vm-{number:03}"),
            uuid: format!(
                "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
                high >> 32,
                high >> 16 & 0xffff,
                high & 0xfff,
                low >> 52,
                low & 0xffff_ffff_ffff
            ),
            vcpus: 1 << size,
            memory_bytes: (2 << size) * GIB,
            disk_bytes: (20 << size) * GIB,
        }
    }

    /// What its source is of, and what is known of it.
    pub(crate) fn facts(&self) -> BTreeMap<String, String> {
        [
            ("uuid", self.uuid.clone()),
            ("name", self.name.clone()),
            ("hypervisor", "kvm".to_owned()),
            ("os_type", "hvm".to_owned()),
            ("architecture", "x86_64".to_owned()),
            ("vcpus", self.vcpus.to_string()),
            ("vcpus_maximum", self.vcpus.to_string()),
            ("memory_bytes", self.memory_bytes.to_string()),
            ("memory_maximum_bytes", self.memory_bytes.to_string()),
            ("persistent", "true".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Its columns.
    pub(crate) fn plan(&self) -> Plan {
        let mut build = Build::default();
        let name = self.name.as_str();
        let uuid = self.uuid.as_str();
        let of: &[(&str, &str)] = &[("domain", name), ("uuid", uuid)];
        let (vcpus, memory) = (self.vcpus as f32, self.memory_bytes as f32);
        build.gauge("libvirt_domain_state_code", "1", of, None, 1);
        build.gauge("tongtu_libvirt_domain_state_reason", "1", of, None, 1);
        build.gauge("libvirt_domain_info_maximum_memory_bytes", "By", of, None, self.memory_bytes);
        build.gauge("libvirt_domain_info_memory_usage_bytes", "By", of, None, self.memory_bytes);
        build.gauge("libvirt_domain_info_virtual_cpus", "1", of, None, self.vcpus);
        // Nanoseconds of all its processors.
        let busy = |share: f32| {
            let (base, slope) = (5e6 * vcpus * share, 8e8 * vcpus * share);
            Some(Behaviour::Count { driver: Driver::Cpu, base, slope, noise: 0.05 })
        };
        build.counter("libvirt_domain_info_cpu_time_seconds_total", "s", -9, of, busy(1.0));
        build.counter("tongtu_libvirt_domain_cpu_user_seconds_total", "s", -9, of, busy(0.2));
        build.counter("tongtu_libvirt_domain_cpu_system_seconds_total", "s", -9, of, busy(0.1));
        build.gauge("libvirt_domain_memory_stats_available_bytes", "By", of, None, self.memory_bytes / 64 * 63);
        for (stat, base, slope) in [("unused", 0.6, -0.4), ("usable", 0.75, -0.5), ("rss", 0.5, 0.3)] {
            let behaviour = Behaviour::Level {
                driver: Driver::Memory,
                base: memory * base,
                slope: memory * slope,
                noise: 0.01,
                quantum: 1 << 20,
                chance: 128,
            };
            let metric = format!("libvirt_domain_memory_stats_{stat}_bytes");
            build.gauge(&metric, "By", of, Some(behaviour), (memory * base) as i64);
        }
        let vda: &[(&str, &str)] =
            &[("target_device", "vda"), ("domain", name), ("source_file", "vda.qcow2"), ("uuid", uuid)];
        let plain: &[(&str, &str)] = &[("target_device", "vda"), ("domain", name), ("uuid", uuid)];
        let counts = |driver: Driver, base: f32, slope: f32| Some(Behaviour::Count { driver, base, slope, noise: 0.3 });
        for (way, base, slope) in [("read", 2e3, 4e6), ("write", 1e4, 2e7)] {
            let (bytes, requests) = (counts(Driver::Disk, base, slope), counts(Driver::Disk, base / 8e3, slope / 6e4));
            build.counter(&format!("libvirt_domain_block_stats_{way}_bytes_total"), "By", 0, vda, bytes);
            build.counter(&format!("libvirt_domain_block_stats_{way}_requests_total"), "1", 0, vda, requests);
            // Nanoseconds: each takes 0.4 ms at rest, and about 2 ms under load.
            let time = counts(Driver::Disk, base / 8e3 * 4e5, slope / 6e4 * 2e6);
            build.counter(&format!("libvirt_domain_block_stats_{way}_time_seconds_total"), "s", -9, vda, time);
        }
        build.gauge("libvirt_domain_block_stats_capacity_bytes", "By", plain, None, self.disk_bytes);
        build.gauge("libvirt_domain_block_stats_allocation", "By", plain, None, self.disk_bytes / 3);
        build.gauge("libvirt_domain_block_stats_physicalsize_bytes", "By", plain, None, self.disk_bytes / 3);
        let vnet: &[(&str, &str)] =
            &[("target_device", "vnet0"), ("domain", name), ("source_bridge", "br0"), ("uuid", uuid)];
        for (way, slope) in [("receive", 3e6), ("transmit", 2e6)] {
            let (bytes, packets) = (counts(Driver::Network, 200.0, slope), counts(Driver::Network, 1.0, slope / 900.0));
            build.counter(&format!("libvirt_domain_interface_stats_{way}_bytes_total"), "By", 0, vnet, bytes);
            build.counter(&format!("libvirt_domain_interface_stats_{way}_packets_total"), "1", 0, vnet, packets);
            for what in ["errors", "drops"] {
                build.counter(&format!("libvirt_domain_interface_stats_{way}_{what}_total"), "1", 0, vnet, None);
            }
        }
        build.finish()
    }
}

/// A hypervisor with so many virtual machines: the columns of its node.
pub(crate) fn node_plan(domains: usize) -> Plan {
    let mut build = Build::default();
    let (cpus, memory) = shape(domains);
    build.gauge("libvirt_up", "1", &[], None, 1);
    build.gauge("tongtu_libvirt_domains", "1", &[], None, domains as i64);
    build.gauge("libvirt_domains_number", "1", &[], None, domains as i64);
    build.gauge("tongtu_libvirt_node_cpus", "1", &[], None, cpus);
    build.gauge("tongtu_libvirt_node_memory_bytes", "By", &[], None, memory);
    build.gauge("tongtu_libvirt_node_memory_free_bytes", "By", &[], None, memory / 4);
    let pool: &[(&str, &str)] = &[("pool", "default")];
    let size = domains as i64 * 80 * GIB;
    build.gauge("libvirt_pool_info_capacity_bytes", "By", pool, None, size);
    build.gauge("libvirt_pool_info_allocation_bytes", "By", pool, None, size / 3);
    build.gauge("libvirt_pool_info_available_bytes", "By", pool, None, size / 3 * 2);
    build.sequence();
    build.finish()
}

/// Processors and memory of a hypervisor with so many virtual machines: processors are given about twice.
fn shape(domains: usize) -> (i64, i64) {
    let domains = domains.max(1) as i64;
    (2 * domains, domains * 10 * GIB)
}

/// What is known of a hypervisor.
pub(crate) fn node_facts(machine_id: &str, hostname: &str, domains: usize) -> BTreeMap<String, String> {
    let (cpus, memory) = shape(domains);
    let pool = r#"{"type":"dir","state":"running","autostart":true,"path":"/var/lib/libvirt/images"}"#;
    [
        ("agent_version", crate::VERSION.to_owned()),
        ("hostname", hostname.to_owned()),
        ("machine_id", machine_id.to_owned()),
        ("uri", "qemu:///system".to_owned()),
        ("hypervisor", "QEMU".to_owned()),
        ("architecture", "x86_64".to_owned()),
        ("cpus", cpus.to_string()),
        ("memory_bytes", memory.to_string()),
        ("pool.default", pool.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tongtu_protocol::v1;

    #[test]
    fn each_machine_is_another_one_and_control_takes_it() {
        let one = Domain::new(1, 3, 0, "kvm-00003");
        assert_eq!(one, Domain::new(1, 3, 0, "kvm-00003"), "the same for the same seed");
        assert_ne!(one.uuid, Domain::new(1, 3, 1, "kvm-00003").uuid);
        assert_ne!(one.uuid, Domain::new(1, 4, 0, "kvm-00003").uuid);
        for plan in [one.plan(), node_plan(20)] {
            tongtu_protocol::schema::check(&plan.schema).expect("control takes it");
            assert_eq!(plan.at_boot.len(), plan.schema.columns.len());
        }
        assert_eq!(one.facts()["uuid"], one.uuid);
        let counters = one.plan().schema.columns.iter().filter(|column| column.kind() == v1::Kind::Counter).count();
        assert!(counters >= 15, "{counters}");
    }
}
