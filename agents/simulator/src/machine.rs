//! Kinds of simulated machine: the columns of their frames and how each column behaves. Pure.
//!
//! The names, labels and types are those of node_exporter on a Linux server. A plan is made once
//! for a size and shared by all agents of that size; what a single agent owns is in `host`.

use serde::Deserialize;
use tongtu_protocol::{schema::SchemaId, v1};

/// The gauge that carries the sequence of the record it is in.
pub const SEQUENCE_METRIC: &str = "tongtu_simulator_sequence";

/// How big a simulated machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// 2 cores, one disk, two interfaces.
    Small,
    /// 8 cores, two disks, four interfaces.
    #[default]
    Medium,
    /// 32 cores, eight disks, eight interfaces.
    Large,
}

/// What a machine has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) cores: usize,
    disks: usize,
    interfaces: usize,
    mounts: usize,
}

impl Size {
    pub(crate) fn shape(self) -> Shape {
        let (cores, disks, interfaces, mounts) = match self {
            Self::Small => (2, 1, 2, 1),
            Self::Medium => (8, 2, 4, 3),
            Self::Large => (32, 8, 8, 10),
        };
        Shape { cores, disks, interfaces, mounts }
    }
}

/// What drives a column's movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Processor load.
    Cpu,
    /// Input and output of disks.
    Disk,
    /// Traffic of interfaces.
    Network,
    /// Memory in use; moves slowly.
    Memory,
}

/// How many [`Driver`]s there are.
pub const DRIVERS: usize = 4;

/// A column that is not constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Behaviour {
    /// Grows by `base + slope × load` units a second, give or take `noise` (a share).
    Count {
        /// What it follows.
        driver: Driver,
        /// Units a second without load.
        base: f32,
        /// Units a second more at full load.
        slope: f32,
        /// Share by which an interval differs from its mean.
        noise: f32,
    },
    /// Stands at `base + slope × load`, give or take `noise` of it, in steps of `quantum`, and moves in
    /// `chance` of 256 frames.
    Level {
        /// What it follows.
        driver: Driver,
        /// Without load.
        base: f32,
        /// More at full load.
        slope: f32,
        /// Share by which it differs from its mean.
        noise: f32,
        /// Its smallest step.
        quantum: i64,
        /// In how many of 256 frames it moves.
        chance: u8,
    },
    /// The machine's wall clock in milliseconds.
    WallClock,
    /// The wall clock's second at which the machine booted.
    BootTime,
    /// The record's sequence.
    Sequence,
}

/// Everything that agents of one size share.
#[derive(Debug)]
pub struct Plan {
    /// The columns and their identity.
    pub schema: v1::Schema,
    /// Every column's value at boot: constants, and counters at 0.
    pub at_boot: Vec<i64>,
    /// The columns that move.
    pub active: Vec<(u32, Behaviour)>,
    /// The counters of interfaces, which a driver reload sets back to 0.
    pub interface_counters: Vec<u32>,
}

impl Plan {
    /// The machine of a size.
    #[must_use]
    pub fn of(size: Size) -> Self {
        let Shape { cores, disks, interfaces, mounts } = size.shape();
        let mut build = Build::default();
        build.processors(cores);
        build.disks(disks);
        build.filesystems(mounts);
        build.memory(cores);
        build.network(interfaces);
        build.sockets();
        build.kernel(cores);
        build.collectors();
        build.sequence();
        build.finish()
    }
}

/// A plan in the making.
#[derive(Default)]
pub(crate) struct Build {
    columns: Vec<v1::Column>,
    at_boot: Vec<i64>,
    active: Vec<(u32, Behaviour)>,
}

const GIB: i64 = 1 << 30;

const fn count(driver: Driver, base: f32, slope: f32) -> Option<Behaviour> {
    Some(Behaviour::Count { driver, base, slope, noise: 0.3 })
}

const fn level(driver: Driver, base: f32, slope: f32, quantum: i64, chance: u8) -> Option<Behaviour> {
    Some(Behaviour::Level { driver, base, slope, noise: 0.02, quantum, chance })
}

use Driver::{Cpu, Disk, Memory, Network};
use v1::Kind::{Counter, Gauge, Untyped};

impl Build {
    #[expect(clippy::too_many_arguments, reason = "a column has so many properties")]
    fn column(
        &mut self,
        metric: &str,
        kind: v1::Kind,
        unit: &str,
        exponent: i32,
        labels: &[(&str, &str)],
        behaviour: Option<Behaviour>,
        at_boot: i64,
    ) {
        let index = self.columns.len() as u32;
        self.columns.push(v1::Column {
            metric: metric.to_owned(),
            kind: kind.into(),
            unit: unit.to_owned(),
            exponent,
            resource: labels.first().map_or(String::new(), |(_, value)| (*value).to_owned()),
            labels: labels
                .iter()
                .map(|(name, value)| v1::Label { name: (*name).to_owned(), value: (*value).to_owned() })
                .collect(),
            ..v1::Column::default()
        });
        self.at_boot.push(at_boot);
        self.active.extend(behaviour.map(|behaviour| (index, behaviour)));
    }

    pub(crate) fn counter(
        &mut self,
        metric: &str,
        unit: &str,
        exponent: i32,
        labels: &[(&str, &str)],
        behaviour: Option<Behaviour>,
    ) {
        self.column(metric, Counter, unit, exponent, labels, behaviour, 0);
    }

    pub(crate) fn gauge(
        &mut self,
        metric: &str,
        unit: &str,
        labels: &[(&str, &str)],
        behaviour: Option<Behaviour>,
        at_boot: i64,
    ) {
        self.column(metric, Gauge, unit, 0, labels, behaviour, at_boot);
    }

    fn processors(&mut self, cores: usize) {
        for core in 0..cores {
            let cpu = core.to_string();
            // Hundredths of a second; the last cores do less.
            let share = 1.4 - 0.8 * core as f32 / cores as f32;
            for (mode, behaviour) in [
                ("idle", count(Cpu, 62.0, -12.0 * share)),
                ("iowait", count(Disk, 0.01, 0.6 * share)),
                ("irq", None),
                ("nice", None),
                ("softirq", count(Network, 0.02, 0.5 * share)),
                ("steal", None),
                ("system", count(Cpu, 0.6, 9.0 * share)),
                ("user", count(Cpu, 1.2, 30.0 * share)),
            ] {
                self.counter("node_cpu_seconds_total", "s", -2, &[("cpu", &cpu), ("mode", mode)], behaviour);
            }
            for mode in ["nice", "user"] {
                self.counter("node_cpu_guest_seconds_total", "s", -2, &[("cpu", &cpu), ("mode", mode)], None);
            }
        }
    }

    fn disks(&mut self, disks: usize) {
        for disk in 0..disks {
            let device = format!("vd{}", char::from(b'a' + disk as u8));
            let labels: &[(&str, &str)] = &[("device", &device)];
            // The first disk carries the system and most of the load, every third one rests.
            let busy = [1.0, 0.25, 0.0][disk % 3];
            let on = |base: f32, slope: f32| {
                if busy > 0.0 { count(Disk, base * busy, slope * busy) } else { None }
            };
            for (name, unit, exponent, behaviour) in [
                ("discard_time_seconds_total", "s", -3, None),
                ("discarded_sectors_total", "1", 0, None),
                ("discards_completed_total", "1", 0, None),
                ("discards_merged_total", "1", 0, None),
                ("flush_requests_time_seconds_total", "s", -3, on(0.02, 2.0)),
                ("flush_requests_total", "1", 0, on(0.05, 3.0)),
                ("io_time_seconds_total", "s", -3, on(0.8, 120.0)),
                ("io_time_weighted_seconds_total", "s", -3, on(1.0, 260.0)),
                ("read_bytes_total", "By", 0, None),
                ("read_time_seconds_total", "s", -3, on(0.0, 14.0)),
                ("reads_completed_total", "1", 0, on(0.0, 9.0)),
                ("reads_merged_total", "1", 0, None),
                ("write_time_seconds_total", "s", -3, on(0.5, 160.0)),
                ("writes_completed_total", "1", 0, on(0.4, 60.0)),
                ("writes_merged_total", "1", 0, on(0.1, 25.0)),
                ("written_bytes_total", "By", 0, on(2_500.0, 1.2e6)),
            ] {
                self.counter(&format!("node_disk_{name}"), unit, exponent, labels, behaviour);
            }
            self.gauge(
                "node_disk_io_now",
                "1",
                labels,
                (busy > 0.0).then_some(Behaviour::Level {
                    driver: Disk,
                    base: 0.0,
                    slope: 1.2,
                    noise: 0.9,
                    quantum: 1,
                    chance: 90,
                }),
                0,
            );
            let info: &[(&str, &str)] = &[("device", &device), ("major", "254"), ("minor", "0")];
            self.gauge("node_disk_info", "1", info, None, 1);
        }
    }

    fn filesystems(&mut self, mounts: usize) {
        const POINTS: [&str; 5] = ["/", "/var", "/data", "/boot", "/run"];
        for mount in 0..mounts {
            let point = POINTS.get(mount).map_or_else(|| format!("/data/{mount}"), |point| (*point).to_owned());
            let device = format!("/dev/mapper/vg-{mount}");
            let labels: &[(&str, &str)] = &[("mountpoint", &point), ("device", &device), ("fstype", "ext4")];
            let size = 40 * GIB * (mount as i64 + 1);
            let free = |part: f32| {
                let base = size as f32 * part;
                (mount < 3).then_some(Behaviour::Level {
                    driver: Disk,
                    base,
                    slope: -0.01 * base,
                    noise: 2e-4,
                    quantum: 4_096,
                    chance: 140,
                })
            };
            self.gauge("node_filesystem_avail_bytes", "By", labels, free(0.55), size / 2);
            self.gauge("node_filesystem_device_error", "1", labels, None, 0);
            self.gauge("node_filesystem_files", "1", labels, None, size / 16_384);
            self.gauge(
                "node_filesystem_files_free",
                "1",
                labels,
                level(Disk, 2.3e6, -2e3, 1, 60).filter(|_| mount < 2),
                size / 17_000,
            );
            self.gauge("node_filesystem_free_bytes", "By", labels, free(0.6), size / 2);
            self.gauge("node_filesystem_readonly", "1", labels, None, 0);
            self.gauge("node_filesystem_size_bytes", "By", labels, None, size);
        }
    }

    fn memory(&mut self, cores: usize) {
        let total = cores as f32 * 4.0 * GIB as f32;
        // Name, share of the memory without load, share more at full load, how often it moves.
        for (name, base, slope, chance) in [
            ("Active_anon", 0.16, 0.18, 170),
            ("Active", 0.30, 0.20, 200),
            ("Active_file", 0.14, 0.02, 120),
            ("AnonHugePages", 0.05, 0.0, 0),
            ("AnonPages", 0.20, 0.22, 200),
            ("Bounce", 0.0, 0.0, 0),
            ("Buffers", 0.011, 0.001, 70),
            ("Cached", 0.42, 0.03, 200),
            ("CommitLimit", 0.5, 0.0, 0),
            ("Committed_AS", 0.35, 0.25, 220),
            ("DirectMap1G", 0.8, 0.0, 0),
            ("DirectMap2M", 0.2, 0.0, 0),
            ("DirectMap4k", 0.01, 0.0, 0),
            ("Dirty", 2e-5, 9e-4, 230),
            ("FileHugePages", 0.0, 0.0, 0),
            ("FilePmdMapped", 0.0, 0.0, 0),
            ("HardwareCorrupted", 0.0, 0.0, 0),
            ("Hugepagesize", 1e-4, 0.0, 0),
            ("Hugetlb", 0.0, 0.0, 0),
            ("Inactive_anon", 0.02, 0.01, 90),
            ("Inactive", 0.26, 0.01, 150),
            ("Inactive_file", 0.24, 0.01, 130),
            ("KReclaimable", 0.02, 0.002, 90),
            ("KernelStack", 4e-4, 1e-4, 80),
            ("Mapped", 0.03, 0.01, 90),
            ("MemAvailable", 0.74, -0.25, 255),
            ("MemFree", 0.28, -0.22, 255),
            ("MemTotal", 1.0, 0.0, 0),
            ("Mlocked", 1e-3, 0.0, 0),
            ("NFS_Unstable", 0.0, 0.0, 0),
            ("PageTables", 1e-3, 6e-4, 120),
            ("Percpu", 2e-4, 0.0, 0),
            ("SReclaimable", 0.02, 0.002, 90),
            ("SUnreclaim", 0.006, 0.001, 90),
            ("SecPageTables", 0.0, 0.0, 0),
            ("ShmemHugePages", 0.0, 0.0, 0),
            ("ShmemPmdMapped", 0.0, 0.0, 0),
            ("Shmem", 0.004, 0.001, 40),
            ("Slab", 0.026, 0.003, 110),
            ("SwapCached", 0.0, 0.0, 0),
            ("SwapFree", 0.1, 0.0, 0),
            ("SwapTotal", 0.1, 0.0, 0),
            ("Unevictable", 1e-3, 0.0, 0),
            ("VmallocChunk", 0.0, 0.0, 0),
            ("VmallocTotal", 9.0, 0.0, 0),
            ("VmallocUsed", 1e-3, 1e-4, 20),
            ("WritebackTmp", 0.0, 0.0, 0),
            ("Writeback", 0.0, 0.0, 0),
        ] {
            let (base, slope): (f32, f32) = (base * total, slope * total);
            let behaviour = (chance > 0).then_some(Behaviour::Level {
                driver: Memory,
                base,
                slope,
                noise: 0.004,
                quantum: 4_096,
                chance: chance / 4 * 3,
            });
            self.gauge(&format!("node_memory_{name}_bytes"), "By", &[], behaviour, base as i64 & !4_095);
        }
        for name in ["Free", "Rsvd", "Surp", "Total"] {
            self.gauge(&format!("node_memory_HugePages_{name}"), "1", &[], None, 0);
        }
    }

    fn network(&mut self, interfaces: usize) {
        for index in 0..=interfaces {
            let device = if index == interfaces { "lo".to_owned() } else { format!("eth{index}") };
            let labels: &[(&str, &str)] = &[("device", &device)];
            let up = device != "lo";
            // The first interface carries the traffic, the second some, the rest is standby.
            let busy = if up { [1.0, 0.1, 0.0, 0.0][index.min(3)] } else { 0.02 };
            let on = |base: f32, slope: f32| {
                if busy > 0.0 { count(Network, base * busy, slope * busy) } else { None }
            };
            for (name, value) in [
                ("address_assign_type", 0),
                ("carrier", 1),
                ("device_id", 0),
                ("dormant", 0),
                ("flags", 4_099),
                ("iface_id", index as i64 + 2),
                ("iface_link", index as i64 + 2),
                ("iface_link_mode", 0),
                ("mtu_bytes", 1_500),
                ("name_assign_type", 3),
                ("net_dev_group", 0),
                ("protocol_type", 1),
                ("speed_bytes", 125_000_000),
                ("transmit_queue_length", 1_000),
                ("up", i64::from(up)),
            ] {
                self.gauge(&format!("node_network_{name}"), "1", labels, None, value);
            }
            for name in ["carrier_changes_total", "carrier_down_changes_total", "carrier_up_changes_total"] {
                self.counter(&format!("node_network_{name}"), "1", 0, labels, None);
            }
            let info: &[(&str, &str)] = &[("device", &device), ("operstate", if up { "up" } else { "unknown" })];
            self.gauge("node_network_info", "1", info, None, 1);
            for (name, behaviour) in [
                ("receive_bytes_total", on(900.0, 9.0e6)),
                ("receive_compressed_total", None),
                ("receive_drop_total", on(0.003, 0.02).filter(|_| up)),
                ("receive_errs_total", None),
                ("receive_fifo_total", None),
                ("receive_frame_total", None),
                ("receive_multicast_total", on(0.08, 0.1).filter(|_| up)),
                ("receive_nohandler_total", None),
                ("receive_packets_total", on(6.0, 9_000.0)),
                ("transmit_bytes_total", on(700.0, 5.0e6)),
                ("transmit_carrier_total", None),
                ("transmit_colls_total", None),
                ("transmit_compressed_total", None),
                ("transmit_drop_total", None),
                ("transmit_errs_total", None),
                ("transmit_fifo_total", None),
                ("transmit_packets_total", on(5.0, 7_000.0)),
            ] {
                let unit = if name.contains("bytes") { "By" } else { "1" };
                self.counter(&format!("node_network_{name}"), unit, 0, labels, behaviour);
            }
        }
    }

    fn sockets(&mut self) {
        for (name, behaviour) in [
            ("Icmp6_InErrors", None),
            ("Icmp6_InMsgs", None),
            ("Icmp6_OutMsgs", None),
            ("Icmp_InErrors", None),
            ("Icmp_InMsgs", count(Network, 0.02, 0.02)),
            ("Icmp_OutMsgs", count(Network, 0.02, 0.02)),
            ("Ip6_InOctets", None),
            ("Ip6_OutOctets", None),
            ("IpExt_InOctets", count(Network, 900.0, 9e6)),
            ("IpExt_OutOctets", count(Network, 700.0, 5e6)),
            ("Ip_Forwarding", None),
            ("TcpExt_ListenDrops", None),
            ("TcpExt_ListenOverflows", None),
            ("TcpExt_SyncookiesFailed", None),
            ("TcpExt_SyncookiesRecv", None),
            ("TcpExt_SyncookiesSent", None),
            ("TcpExt_TCPSynRetrans", count(Network, 0.001, 0.05)),
            ("TcpExt_TCPTimeouts", count(Network, 0.002, 0.08)),
            ("Tcp_ActiveOpens", count(Network, 0.05, 4.0)),
            ("Tcp_CurrEstab", level(Network, 20.0, 300.0, 1, 200)),
            ("Tcp_InErrs", None),
            ("Tcp_InSegs", count(Network, 5.0, 8_000.0)),
            ("Tcp_OutRsts", count(Network, 0.01, 0.6)),
            ("Tcp_OutSegs", count(Network, 5.0, 9_000.0)),
            ("Tcp_PassiveOpens", count(Network, 0.03, 20.0)),
            ("Tcp_RetransSegs", count(Network, 0.005, 2.0)),
            ("Udp6_InDatagrams", None),
            ("Udp6_InErrors", None),
            ("Udp6_NoPorts", None),
            ("Udp6_OutDatagrams", None),
            ("Udp6_RcvbufErrors", None),
            ("Udp6_SndbufErrors", None),
            ("UdpLite6_InErrors", None),
            ("UdpLite_InErrors", None),
            ("Udp_InDatagrams", count(Network, 0.1, 8.0)),
            ("Udp_InErrors", None),
            ("Udp_NoPorts", None),
            ("Udp_OutDatagrams", count(Network, 0.1, 8.0)),
            ("Udp_RcvbufErrors", None),
            ("Udp_SndbufErrors", None),
        ] {
            self.column(&format!("node_netstat_{name}"), Untyped, "1", 0, &[], behaviour, 0);
        }
        for (name, behaviour) in [
            ("FRAG6_inuse", None),
            ("FRAG6_memory", None),
            ("FRAG_inuse", None),
            ("FRAG_memory", None),
            ("RAW6_inuse", None),
            ("RAW_inuse", None),
            ("TCP6_inuse", None),
            ("TCP_alloc", level(Network, 30.0, 300.0, 1, 130)),
            ("TCP_inuse", level(Network, 24.0, 280.0, 1, 130)),
            ("TCP_mem", level(Network, 4.0, 90.0, 1, 90)),
            ("TCP_mem_bytes", level(Network, 16_384.0, 4e5, 4_096, 90)),
            ("TCP_orphan", None),
            ("TCP_tw", level(Network, 1.0, 60.0, 1, 150)),
            ("UDP6_inuse", None),
            ("UDPLITE6_inuse", None),
            ("UDPLITE_inuse", None),
            ("UDP_inuse", None),
            ("UDP_mem", None),
            ("UDP_mem_bytes", None),
            ("sockets_used", level(Network, 180.0, 320.0, 1, 150)),
        ] {
            self.gauge(&format!("node_sockstat_{name}"), "1", &[], behaviour, 6);
        }
        self.gauge("node_arp_entries", "1", &[("device", "eth0")], level(Network, 9.0, 6.0, 1, 12), 9);
        self.gauge("node_nf_conntrack_entries", "1", &[], level(Network, 30.0, 900.0, 1, 220), 30);
        self.gauge("node_nf_conntrack_entries_limit", "1", &[], None, 262_144);
    }

    fn kernel(&mut self, cores: usize) {
        for core in 0..cores {
            let cpu = core.to_string();
            let labels: &[(&str, &str)] = &[("cpu", &cpu)];
            self.counter("node_softnet_dropped_total", "1", 0, labels, None);
            // Interrupts of the interface go to the first four cores.
            let processed = count(Network, 0.5, 2_000.0).filter(|_| core < 4);
            self.counter("node_softnet_processed_total", "1", 0, labels, processed);
            self.counter(
                "node_softnet_times_squeezed_total",
                "1",
                0,
                labels,
                count(Network, 0.0, 0.01).filter(|_| core < 2),
            );
        }
        for (name, behaviour) in [
            ("oom_kill", None),
            ("pgfault", count(Cpu, 250.0, 30_000.0)),
            ("pgmajfault", count(Disk, 0.001, 0.1)),
            ("pgpgin", count(Disk, 0.0, 40.0)),
            ("pgpgout", count(Disk, 3.0, 1_200.0)),
            ("pswpin", None),
            ("pswpout", None),
        ] {
            self.column(&format!("node_vmstat_{name}"), Untyped, "1", 0, &[], behaviour, 0);
        }
        for (name, behaviour) in [
            ("cpu_waiting", count(Cpu, 100.0, 40_000.0)),
            ("io_stalled", count(Disk, 0.0, 9_000.0)),
            ("io_waiting", count(Disk, 0.0, 11_000.0)),
            ("memory_stalled", None),
            ("memory_waiting", None),
        ] {
            self.counter(&format!("node_pressure_{name}_seconds_total"), "s", -6, &[], behaviour);
        }
        for (name, unit) in [("load1", 190), ("load5", 150), ("load15", 90)] {
            let base = cores as f32 * 6.0;
            let behaviour = level(Cpu, base, base * 9.0, 1, unit);
            self.column(&format!("node_{name}"), Gauge, "1", -2, &[], behaviour, 0);
        }
        self.counter("node_context_switches_total", "1", 0, &[], count(Cpu, 300.0, 24_000.0));
        self.counter("node_intr_total", "1", 0, &[], count(Cpu, 260.0, 18_000.0));
        self.counter("node_forks_total", "1", 0, &[], count(Cpu, 0.3, 12.0));
        self.gauge("node_procs_blocked", "1", &[], None, 0);
        self.gauge("node_procs_running", "1", &[], level(Cpu, 1.0, 6.0, 1, 160), 1);
        self.gauge("node_filefd_allocated", "1", &[], level(Network, 900.0, 1_500.0, 32, 130), 900);
        self.gauge("node_filefd_maximum", "1", &[], None, i64::MAX);
        self.gauge("node_entropy_available_bits", "1", &[], None, 256);
        self.gauge("node_entropy_pool_size_bits", "1", &[], None, 256);
        self.column("node_time_seconds", Gauge, "s", -3, &[], Some(Behaviour::WallClock), 0);
        self.gauge("node_boot_time_seconds", "s", &[], Some(Behaviour::BootTime), 0);
        for core in 0..cores {
            let sensor = format!("temp{}", core + 2);
            let labels: &[(&str, &str)] = &[("sensor", &sensor), ("chip", "platform_coretemp_0")];
            let behaviour = level(Cpu, 41.0, 30.0, 1, 50);
            self.gauge("node_hwmon_temp_celsius", "Cel", labels, behaviour, 41);
        }
        for (ip, queue) in [("v4", "rx"), ("v4", "tx"), ("v6", "rx"), ("v6", "tx")] {
            self.gauge("node_udp_queues", "By", &[("ip", ip), ("queue", queue)], None, 0);
        }
        self.gauge(
            "node_uname_info",
            "1",
            &[("sysname", "Linux"), ("machine", "x86_64"), ("release", "6.1.0-31-amd64")],
            None,
            1,
        );
        self.gauge("node_os_info", "1", &[("id", "debian"), ("version_id", "12")], None, 1);
        self.gauge("node_dmi_info", "1", &[("product_name", "KVM"), ("system_vendor", "QEMU")], None, 1);
        self.gauge("node_time_zone_offset_seconds", "s", &[("time_zone", "CST")], None, 28_800);
        for (name, value) in [
            ("sync_status", 1),
            ("status", 8_193),
            ("tai_offset_seconds", 37),
            ("loop_time_constant", 7),
            ("frequency_adjustment_ratio", 1),
        ] {
            self.gauge(&format!("node_timex_{name}"), "1", &[], None, value);
        }
        for (name, behaviour) in [
            ("offset_seconds", level(Memory, 300.0, 2_000.0, 1, 60)),
            ("maxerror_seconds", level(Memory, 90_000.0, 500_000.0, 500, 255)),
        ] {
            self.column(&format!("node_timex_{name}"), Gauge, "s", -6, &[], behaviour, 0);
        }
        for (state, at_boot) in [("D", 0), ("I", 60), ("R", 1), ("S", 140), ("T", 0), ("Z", 0)] {
            let behaviour = match state {
                "R" => level(Cpu, 1.0, 6.0, 1, 60),
                "S" => level(Cpu, 140.0, 25.0, 1, 50),
                _ => None,
            };
            self.gauge("node_processes_state", "1", &[("state", state)], behaviour, at_boot);
        }
    }

    fn collectors(&mut self) {
        const NAMES: [&str; 16] = [
            "arp",
            "conntrack",
            "cpu",
            "diskstats",
            "entropy",
            "filefd",
            "filesystem",
            "loadavg",
            "meminfo",
            "netdev",
            "netstat",
            "pressure",
            "sockstat",
            "softnet",
            "stat",
            "vmstat",
        ];
        for name in NAMES {
            let labels: &[(&str, &str)] = &[("collector", name)];
            // Whole microseconds, most of them alike from frame to frame.
            let behaviour =
                Some(Behaviour::Level { driver: Cpu, base: 30.0, slope: 25.0, noise: 0.05, quantum: 1, chance: 120 });
            self.column("node_scrape_collector_duration_seconds", Gauge, "s", -6, labels, behaviour, 30);
            self.gauge("node_scrape_collector_success", "1", labels, None, 1);
        }
    }

    /// The gauge that carries the record's sequence.
    pub(crate) fn sequence(&mut self) {
        self.column(SEQUENCE_METRIC, Gauge, "1", 0, &[], Some(Behaviour::Sequence), 0);
    }

    pub(crate) fn finish(self) -> Plan {
        let interface_counters = (0u32..)
            .zip(&self.columns)
            .filter(|(_, column)| column.metric.starts_with("node_network_") && column.kind() == Counter)
            .map(|(index, _)| index)
            .collect();
        let id = SchemaId::of(&self.columns).0.to_vec().into();
        Plan {
            schema: v1::Schema { id, columns: self.columns },
            at_boot: self.at_boot,
            active: self.active,
            interface_counters,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_a_valid_schema_with_most_columns_constant() {
        for (size, columns) in [(Size::Small, 250..420), (Size::Medium, 500..590), (Size::Large, 1_100..1_600)] {
            let plan = Plan::of(size);
            tongtu_protocol::schema::check(&plan.schema).expect("control takes it");
            let count = plan.schema.columns.len();
            assert!(columns.contains(&count), "{size:?} has {count} columns");
            assert_eq!(plan.at_boot.len(), count);
            assert!(plan.active.len() * 2 < count, "{size:?}: {} of {count} move", plan.active.len());
            let mut names: Vec<_> = plan.schema.columns.iter().map(|column| (&column.metric, &column.labels)).collect();
            names.sort_by_key(|name| format!("{name:?}"));
            names.dedup();
            assert_eq!(names.len(), count, "{size:?}: a series stands twice");
        }
    }
}
