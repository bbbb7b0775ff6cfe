//! Collectors on what other kernels print: old ones, new ones, broken ones.

use crate::machine::{Machine, SERVER, only, server};
use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};
use tongtu_agent_host::collectors::COLLECTORS;
use tongtu_agent_runtime::{
    collect::{Context, Outcome},
    table::Table,
};

#[track_caller]
fn check(values: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    for (series, value) in expected {
        assert_eq!(values.get(*series).map(String::as_str), Some(*value), "{series} of {values:#?}");
    }
}

#[test]
fn a_kernel_of_ten_years_ago() {
    let machine = Machine::new(&[
        ("proc/stat", "cpu  9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 9\nintr 100 1 2\nctxt 7\nbtime 1400000000\nprocesses 3\n"),
        ("proc/meminfo", "MemTotal:        100 kB\nMemFree:          50 kB\nBuffers: 1 kB\nHugePages_Total:       4\n"),
        ("proc/vmstat", "nr_free_pages 1\npgpgin 5\npgfault 6\n"),
        ("proc/diskstats", "   8       0 sda 1 2 3 4 5 6 7 8 9 10 11\n   8       1 sda1 1 2 3 4\n"),
        (
            "proc/net/softnet_stat",
            "0000000a 00000001 00000002 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n0000000b 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n",
        ),
        (
            "proc/net/snmp",
            "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens\nTcp: 1 200 120000 -1 21\n",
        ),
        ("proc/net/sockstat", "sockets: used 9\nTCP: inuse 2 orphan 0 tw 3 alloc 4 mem 1\n"),
    ]);
    let values = machine.values(&["stat", "meminfo", "vmstat", "diskstats", "softnet", "netstat", "sockstat"]);
    check(
        &values,
        &[
            ("node_cpu_seconds_total{cpu=\"0\",mode=\"steal\"}", "0.08"),
            ("node_cpu_guest_seconds_total{cpu=\"0\",mode=\"user\"}", "0.09"),
            ("node_boot_time_seconds", "1400000000"),
            ("node_intr_total", "100"),
            ("node_memory_MemTotal_bytes", "102400"),
            ("node_memory_HugePages_Total", "4"),
            ("node_vmstat_pgfault", "6"),
            ("node_disk_read_bytes_total{device=\"sda\"}", "1536"),
            ("node_disk_io_time_weighted_seconds_total{device=\"sda\"}", "0.011"),
            ("node_softnet_processed_total{cpu=\"1\"}", "11"),
            ("node_netstat_Ip_Forwarding", "1"),
            ("node_netstat_Tcp_ActiveOpens", "21"),
            ("node_sockstat_TCP_mem_bytes", &rustix::param::page_size().to_string()),
        ],
    );
    // What that kernel does not count is no value, and not zero.
    for absent in [
        "node_cpu_guest_seconds_total{cpu=\"0\",mode=\"nice\"}",
        "node_procs_running",
        "node_memory_MemAvailable_bytes",
        "node_vmstat_oom_kill",
        "node_disk_discards_completed_total{device=\"sda\"}",
        "node_netstat_Tcp_RetransSegs",
        "node_sockstat_TCP6_inuse",
    ] {
        assert!(!values.contains_key(absent), "{absent}");
    }
}

#[test]
fn a_kernel_of_the_future() {
    let machine = Machine::new(&[
        (
            "proc/stat",
            "cpu  1 1\ncpu0 1 2 3 4 5 6 7 8 9 10 11 12\ncpu2 1 1 1 1 1 1 1 1 1 1\nnew_counter 5\nctxt 18446744073709551615\nprocs_running 2\n",
        ),
        (
            "proc/meminfo",
            "NewField:  5 kB\nMemFree:  9223372036854775807 kB\nMemTotal: 36028797018963968 kB\nActive(anon): 7 kB\n",
        ),
        (
            "proc/diskstats",
            " 259 0 nvme0n1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20\n 259 1 nvme1n1 1 2 18446744073709551615 4 5 6 7 8 9 10 11\n",
        ),
        ("proc/net/softnet_stat", "1 2 3 0 0 0 0 0 0 0 0 0 00000007 9 9 9\n"),
        ("proc/net/netstat", "TcpExt: New SyncookiesSent ListenDrops Newer\nTcpExt: 1 2 3 4\nQuicExt: A\nQuicExt: 1\n"),
        ("proc/net/snmp", "Ip: Forwarding\nIp: 2\n"),
        ("proc/sys/fs/file-nr", "1024\t0\t9223372036854775807\n"),
        ("proc/loadavg", "123456.78 0.00 3.141 5/99 1\n"),
    ]);
    let values = machine.values(&["stat", "meminfo", "diskstats", "softnet", "netstat", "filefd", "loadavg"]);
    check(
        &values,
        &[
            // A core that is offline leaves its number free.
            ("node_cpu_seconds_total{cpu=\"2\",mode=\"user\"}", "0.01"),
            ("node_procs_running", "2"),
            ("node_memory_Active_anon_bytes", "7168"),
            ("node_disk_flush_requests_time_seconds_total{device=\"nvme0n1\"}", "0.017"),
            ("node_softnet_times_squeezed_total{cpu=\"7\"}", "3"),
            ("node_netstat_TcpExt_ListenDrops", "3"),
            ("node_filefd_maximum", "9223372036854775807"),
            ("node_load1", "123456.78"),
            ("node_load15", "3.14"),
        ],
    );
    // A number that does not fit is no value, and not a wrong one.
    for absent in [
        "node_context_switches_total",
        "node_memory_MemFree_bytes",
        "node_disk_read_bytes_total{device=\"nvme1n1\"}",
        "node_cpu_seconds_total{cpu=\"1\",mode=\"user\"}",
    ] {
        assert!(!values.contains_key(absent), "{absent}");
    }
    assert!(!values.contains_key("node_memory_MemTotal_bytes"), "2^55 kB do not fit either");
}

#[test]
fn what_a_kernel_does_not_have_is_unavailable_with_its_reason() {
    let machine = Machine::new(&[("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n")]);
    let every: Vec<&str> = COLLECTORS.iter().map(|spec| spec.name).collect();
    // Those that ask the kernel itself, and not its files.
    let asks = ["time", "timex", "uptime", "uname", "network", "udp_queues", "selinux"];
    for report in machine.check(&every) {
        match &report.outcome {
            Outcome::Unavailable(reason) => {
                assert!(reason.len() > 10 && report.values.is_empty(), "{}: {reason}", report.name);
            }
            outcome => assert!(asks.contains(&report.name), "{}: {outcome:?}", report.name),
        }
    }
    let reports = machine.check(&["pressure"]);
    let Outcome::Unavailable(reason) = &reports[0].outcome else { panic!("{reports:?}") };
    assert!(reason.contains("pressure/memory does not exist here"), "{reason}");
}

#[test]
fn sensors_controllers_and_arrays_of_a_real_server() {
    let machine = server();
    let values = machine.values(&SERVER);
    check(
        &values,
        &[
            ("node_hwmon_temp_celsius{chip=\"platform_coretemp_0\",sensor=\"temp1\"}", "48.5"),
            ("node_thermal_zone_temp{zone=\"0\",type=\"x86_pkg_temp\"}", "-1.5"),
            ("node_cpu_core_throttles_total{core=\"4\",package=\"0\"}", "9"),
            ("node_bonding_active{master=\"bond0\"}", "1"),
            ("node_selinux_config_mode", "0"),
            ("node_md_disks{device=\"md1\",state=\"failed\"}", "1"),
            ("node_arp_entries{device=\"eth0\"}", "2"),
        ],
    );
    // A sensor that says nonsense is no value.
    let broken = "node_hwmon_temp_celsius{chip=\"platform_coretemp_0\",sensor=\"temp2\"}";
    assert!(!values.contains_key(broken));
    assert!(values.keys().any(|key| key.contains("model=\"Disk\"") && key.contains("serial=\"X9\"")));
}

/// The value of a column in the next frame.
fn in_frame(table: &mut Table, at_ms: u64, metric: &str, label: &str) -> Option<i64> {
    let (schema, state) = table.frame(at_ms, Duration::from_secs(15), |_| {});
    let columns = schema.to_wire().columns;
    let is = |column: &tongtu_protocol::v1::Column| {
        column.metric == metric && column.labels.iter().any(|l| l.value == label)
    };
    columns.iter().position(is).and_then(|at| state.iter().nth(at).flatten())
}

#[test]
fn idle_time_that_steps_back_a_little_stands_still() {
    let machine = Machine::new(&[]);
    let stat = |idle: u32| machine.write("proc/stat", format!("cpu  0\ncpu0 0 0 0 {idle} 0 0 0 0 0 0\n"));
    stat(1_000);
    let mut table = Table::new(only(&["stat"]), machine.context());
    let mut next = 0;
    let mut idle = |value| {
        stat(value);
        next += 15_000;
        in_frame(&mut table, next, "node_cpu_seconds_total", "idle")
    };
    assert_eq!(idle(1_000), Some(1_000));
    assert_eq!(idle(990), Some(1_000), "the kernel's own jitter is no reset");
    assert_eq!(idle(1_001), Some(1_001));
    assert_eq!(idle(5), Some(5), "a core that came back starts anew");
}

#[test]
fn a_disk_that_is_gone_is_no_value_and_another_takes_no_others_place() {
    let line = |name: &str, reads: u32| format!(" 8 0 {name} {reads} 2 3 4 5 6 7 8 9 10 11\n");
    let machine = Machine::new(&[]);
    machine.write("proc/diskstats", line("sda", 1) + &line("sdb", 2));
    let mut table = Table::new(only(&["diskstats"]), machine.context());
    let mut reads = |at, disk| in_frame(&mut table, at, "node_disk_reads_completed_total", disk);
    assert_eq!((reads(1, "sda"), reads(15_000, "sdb")), (Some(1), Some(2)));
    machine.write("proc/diskstats", line("sdb", 3) + &line("sdc", 4));
    assert_eq!((reads(30_000, "sda"), reads(45_000, "sdb"), reads(60_000, "sdc")), (None, Some(3), Some(4)));
}

/// Mounted as long as it lives.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let mount = Command::new("mount").args(["-t", "tmpfs", "tongtu"]).arg(directory.path()).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(directory))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_file_system_is_seen_as_soon_as_it_is_mounted_and_until_it_is_not() {
    let mut table = Table::new(only(&["filesystem"]), Context::default());
    table.frame(1, Duration::from_secs(15), |_| {});
    let Some(mounted) = Mounted::new() else {
        eprintln!("skipped: this user may not mount");
        return;
    };
    let point = mounted.0.path().display().to_string();
    let mut size = |at| in_frame(&mut table, at, "node_filesystem_size_bytes", &point);
    assert!(size(15_000).is_some_and(|size| size > 0));
    assert!(size(30_000).is_some_and(|size| size > 0));
    drop(mounted);
    assert_eq!(size(45_000), None);
}

/// Copies this machine's files, damaged in one way after another: no collector may panic, and none
/// may hide another.
#[test]
fn damaged_files_give_fewer_values_and_nothing_worse() {
    let files = [
        "stat",
        "loadavg",
        "meminfo",
        "vmstat",
        "diskstats",
        "net/snmp",
        "net/netstat",
        "net/snmp6",
        "net/sockstat",
        "net/softnet_stat",
        "net/arp",
        "net/stat/nf_conntrack",
        "sys/fs/file-nr",
        "pressure/cpu",
        "pressure/memory",
        "pressure/io",
        "mdstat",
        "schedstat",
        "1/mounts",
        "1/stat",
    ];
    let names = [
        "stat",
        "loadavg",
        "meminfo",
        "vmstat",
        "diskstats",
        "netstat",
        "snmp6",
        "sockstat",
        "softnet",
        "arp",
        "conntrack",
        "filefd",
        "pressure",
        "mdadm",
        "schedstat",
        "filesystem",
        "processes",
    ];
    let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
    for file in files {
        let text = fs::read(Path::new("/proc").join(file))
            .unwrap_or_else(|_| b"md0 : active raid1 a[0]\n  1 blocks [1/1]\n".to_vec());
        texts.push((format!("proc/{file}"), text));
    }
    type Damage = fn(&[u8]) -> Vec<u8>;
    let damages: [Damage; 8] = [
        |text| text[..text.len() / 2].to_vec(),
        |text| text[..text.len() / 3].to_vec(),
        |text| text.iter().map(|byte| if byte.is_ascii_digit() { b'9' } else { *byte }).collect(),
        |text| text.iter().map(|byte| if *byte == b' ' { b'\n' } else { *byte }).collect(),
        |text| text.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect(),
        |text| text.iter().map(|byte| byte ^ 0x85).collect(),
        |text| text.iter().rev().copied().collect(),
        |text| text.iter().flat_map(|byte| if byte.is_ascii_digit() { [b'-', *byte] } else { [*byte, b' '] }).collect(),
    ];
    for (index, damage) in damages.into_iter().enumerate() {
        let machine = Machine::new(&[]);
        for (path, text) in &texts {
            machine.write(path, damage(text));
        }
        for report in machine.check(&names) {
            if let Outcome::Failed(reason) = &report.outcome {
                assert!(!reason.contains("panicked"), "damage {index}: {}: {reason}", report.name);
            }
        }
    }
}
