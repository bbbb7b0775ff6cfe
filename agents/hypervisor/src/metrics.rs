//! Every metric of a domain and of the node. What the libvirt exporter that Debian ships names keeps that
//! name, type, unit and labels; the rest of the family has the names of the exporters that went on from it
//! (Tinkoff's, inovex's); what none of them has is `tongtu_…`.

use tongtu_agent_runtime::metric::{Kind, Metric};

const GAUGE: Metric = Metric {
    name: "",
    kind: Kind::Gauge,
    unit: "1",
    exponent: 0,
    labels: &["domain", "uuid"],
    help: "",
    source: "virConnectGetAllDomainStats",
    width_bits: 0,
};
const BYTES: Metric = Metric { unit: "By", ..GAUGE };
const COUNTER: Metric = Metric { kind: Kind::Counter, width_bits: 64, ..GAUGE };
const COUNTED_BYTES: Metric = Metric { unit: "By", ..COUNTER };
/// libvirt counts nanoseconds.
const SECONDS: Metric = Metric { unit: "s", exponent: -9, ..COUNTER };

const VCPU: &[&str] = &["vcpu", "domain", "uuid"];
const DISK: &[&str] = &["target_device", "domain", "uuid"];
const DISK_AND_FILE: &[&str] = &["target_device", "domain", "uuid", "source_file"];
const NIC: &[&str] = &["target_device", "domain", "uuid", "source_bridge"];
const POOL: &[&str] = &["pool"];

/// A table of metrics, each with a name, so that a test can go through all of them.
macro_rules! metrics {
    ($($id:ident = $kind:ident { $($field:ident: $value:expr),* $(,)? };)*) => {
        $(
            #[doc = concat!("`", stringify!($id), "`: see its help.")]
            pub static $id: Metric = Metric { $($field: $value,)* ..$kind };
        )*
        /// All of them.
        pub static METRICS: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    STATE = GAUGE {
        name: "libvirt_domain_state_code",
        help: "State: 0 none, 1 running, 2 blocked, 3 paused, 4 shutting down, 5 shut off, 6 crashed, 7 suspended by its power management.",
    };
    STATE_REASON = GAUGE {
        name: "tongtu_libvirt_domain_state_reason",
        help: "Why it is in its state: libvirt's number of the reason within that state.",
    };
    MAXIMUM_MEMORY = BYTES { name: "libvirt_domain_info_maximum_memory_bytes", help: "Memory that the domain may have at most." };
    MEMORY = BYTES { name: "libvirt_domain_info_memory_usage_bytes", help: "Memory that the domain has now: its balloon." };
    VIRTUAL_CPUS = GAUGE { name: "libvirt_domain_info_virtual_cpus", help: "Virtual processors of the domain." };
    CPU_TIME = SECONDS { name: "libvirt_domain_info_cpu_time_seconds_total", help: "CPU time of the domain, everything that runs for it included." };
    CPU_USER = SECONDS { name: "tongtu_libvirt_domain_cpu_user_seconds_total", help: "CPU time of the domain in user mode of the host." };
    CPU_SYSTEM = SECONDS { name: "tongtu_libvirt_domain_cpu_system_seconds_total", help: "CPU time of the domain in the host's kernel." };
    VCPU_CURRENT = GAUGE { name: "libvirt_domain_vcpu_current", help: "Virtual processors that are online." };
    VCPU_MAXIMUM = GAUGE { name: "libvirt_domain_vcpu_maximum", help: "Virtual processors that may be online." };
    VCPU_STATE = GAUGE { name: "libvirt_domain_vcpu_state", labels: VCPU, help: "State of a virtual processor: 0 offline, 1 running, 2 blocked." };
    VCPU_TIME = SECONDS { name: "libvirt_domain_vcpu_time_seconds_total", labels: VCPU, help: "Time that a virtual processor ran." };
    VCPU_WAIT = SECONDS { name: "libvirt_domain_vcpu_wait_seconds_total", labels: VCPU, help: "Time that a virtual processor waited for input or output." };
    VCPU_DELAY = SECONDS { name: "libvirt_domain_vcpu_delay_seconds_total", labels: VCPU, help: "Time that a virtual processor could have run and the host ran something else." };
    AVAILABLE = BYTES { name: "libvirt_domain_memory_stats_available_bytes", help: "Memory as the guest sees it." };
    UNUSED = BYTES { name: "libvirt_domain_memory_stats_unused_bytes", help: "Memory that the guest uses for nothing." };
    USABLE = BYTES { name: "libvirt_domain_memory_stats_usable_bytes", help: "Memory that the guest can use without swapping." };
    DISK_CACHE = BYTES { name: "libvirt_domain_memory_stats_disk_cache_bytes", help: "Memory that the guest uses for caches of its disks." };
    RSS = BYTES { name: "libvirt_domain_memory_stats_rss_bytes", help: "Resident memory of the process that runs the domain." };
    MAJOR_FAULTS = COUNTER { name: "libvirt_domain_memory_stats_major_fault_total", help: "Page faults of the guest that needed its disk." };
    MINOR_FAULTS = COUNTER { name: "libvirt_domain_memory_stats_minor_fault_total", help: "Page faults of the guest that needed no disk." };
    SWAP_IN = COUNTED_BYTES { name: "tongtu_libvirt_domain_swap_in_bytes_total", help: "Bytes that the guest read from its swap." };
    SWAP_OUT = COUNTED_BYTES { name: "tongtu_libvirt_domain_swap_out_bytes_total", help: "Bytes that the guest wrote to its swap." };
    READ_BYTES = COUNTED_BYTES { name: "libvirt_domain_block_stats_read_bytes_total", labels: DISK_AND_FILE, help: "Bytes read from a disk." };
    READ_REQUESTS = COUNTER { name: "libvirt_domain_block_stats_read_requests_total", labels: DISK_AND_FILE, help: "Reads of a disk." };
    READ_SECONDS = SECONDS { name: "libvirt_domain_block_stats_read_time_seconds_total", labels: DISK_AND_FILE, help: "Time that reads of a disk took." };
    WRITE_BYTES = COUNTED_BYTES { name: "libvirt_domain_block_stats_write_bytes_total", labels: DISK_AND_FILE, help: "Bytes written to a disk." };
    WRITE_REQUESTS = COUNTER { name: "libvirt_domain_block_stats_write_requests_total", labels: DISK_AND_FILE, help: "Writes to a disk." };
    WRITE_SECONDS = SECONDS { name: "libvirt_domain_block_stats_write_time_seconds_total", labels: DISK_AND_FILE, help: "Time that writes to a disk took." };
    FLUSH_REQUESTS = COUNTER { name: "libvirt_domain_block_stats_flush_requests_total", labels: DISK_AND_FILE, help: "Flushes of a disk." };
    FLUSH_SECONDS = SECONDS { name: "libvirt_domain_block_stats_flush_time_seconds_total", labels: DISK_AND_FILE, help: "Time that flushes of a disk took." };
    DISK_ERRORS = COUNTER { name: "tongtu_libvirt_domain_block_errors_total", labels: DISK, help: "Errors of a disk." };
    ALLOCATION = BYTES { name: "libvirt_domain_block_stats_allocation", labels: DISK, help: "Offset behind the last byte written to a disk since its domain was started; of one that is off, what the disk takes on the host." };
    CAPACITY = BYTES { name: "libvirt_domain_block_stats_capacity_bytes", labels: DISK, help: "Size of a disk as the guest sees it." };
    PHYSICAL = BYTES { name: "libvirt_domain_block_stats_physicalsize_bytes", labels: DISK, help: "What a disk takes on the host; of a domain that is off, the size of its file, holes included." };
    RECEIVE_BYTES = COUNTED_BYTES { name: "libvirt_domain_interface_stats_receive_bytes_total", labels: NIC, help: "Bytes that the guest received." };
    RECEIVE_PACKETS = COUNTER { name: "libvirt_domain_interface_stats_receive_packets_total", labels: NIC, help: "Packets that the guest received." };
    RECEIVE_ERRORS = COUNTER { name: "libvirt_domain_interface_stats_receive_errors_total", labels: NIC, help: "Errors on the way to the guest." };
    RECEIVE_DROPS = COUNTER { name: "libvirt_domain_interface_stats_receive_drops_total", labels: NIC, help: "Packets dropped on the way to the guest." };
    TRANSMIT_BYTES = COUNTED_BYTES { name: "libvirt_domain_interface_stats_transmit_bytes_total", labels: NIC, help: "Bytes that the guest sent." };
    TRANSMIT_PACKETS = COUNTER { name: "libvirt_domain_interface_stats_transmit_packets_total", labels: NIC, help: "Packets that the guest sent." };
    TRANSMIT_ERRORS = COUNTER { name: "libvirt_domain_interface_stats_transmit_errors_total", labels: NIC, help: "Errors on the way from the guest." };
    TRANSMIT_DROPS = COUNTER { name: "libvirt_domain_interface_stats_transmit_drops_total", labels: NIC, help: "Packets dropped on the way from the guest." };

    UP = GAUGE { name: "libvirt_up", labels: &[], help: "Whether libvirt answered for this frame.", source: "virConnectOpenReadOnly" };
    DOMAINS = GAUGE { name: "tongtu_libvirt_domains", labels: &[], help: "Domains that libvirt lists, in whatever state." };
    DOMAINS_ACTIVE = GAUGE { name: "libvirt_domains_number", labels: &[], help: "Domains that run or are paused." };
    DOMAINS_LEFT_OUT = GAUGE { name: "tongtu_libvirt_domains_left_out", labels: &[], help: "Domains beyond what one agent reports." };
    CALLS_HANGING = GAUGE { name: "tongtu_libvirt_calls_hanging", labels: &[], help: "Calls that libvirt has not answered in time and not yet since.", source: "the agent" };
    NODE_CPUS = GAUGE { name: "tongtu_libvirt_node_cpus", labels: &[], help: "Logical processors of the node that are online.", source: "virNodeGetInfo" };
    NODE_MEMORY = BYTES { name: "tongtu_libvirt_node_memory_bytes", labels: &[], help: "Memory of the node.", source: "virNodeGetMemoryStats" };
    NODE_MEMORY_FREE = BYTES { name: "tongtu_libvirt_node_memory_free_bytes", labels: &[], help: "Memory of the node that nothing uses.", source: "virNodeGetMemoryStats" };
    POOL_CAPACITY = BYTES { name: "libvirt_pool_info_capacity_bytes", labels: POOL, help: "Size of a storage pool.", source: "virStoragePoolGetInfo" };
    POOL_ALLOCATION = BYTES { name: "libvirt_pool_info_allocation_bytes", labels: POOL, help: "Bytes of a storage pool that are used.", source: "virStoragePoolGetInfo" };
    POOL_AVAILABLE = BYTES { name: "libvirt_pool_info_available_bytes", labels: POOL, help: "Bytes of a storage pool that are free.", source: "virStoragePoolGetInfo" };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_metric_is_whole_and_listed_once() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            let family = metric.name.starts_with("libvirt_") || metric.name.starts_with("tongtu_libvirt_");
            assert!(family, "{}", metric.name);
            assert!(metric.help.ends_with('.') && !metric.source.is_empty(), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.width_bits == 64, "{}", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert_eq!(metric.unit == "s", metric.name.contains("_seconds_total"), "{}", metric.name);
        }
    }
}
