//! A machine of recorded files, for collectors and for node_exporter alike.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::Path};
use tongtu_agent_host::collectors::COLLECTORS;
use tongtu_agent_runtime::{
    collect::{CollectorReport, CollectorSpec, Context},
    table,
};

/// A machine of recorded files.
pub(crate) struct Machine(tempfile::TempDir);

impl Machine {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let machine = Self(tempfile::tempdir().expect("a directory"));
        for (path, text) in files {
            machine.write(path, text);
        }
        machine
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("inside")).expect("made");
        fs::write(path, text).expect("written");
    }

    pub(crate) fn context(&self) -> Context {
        let at = |name: &str| self.0.path().join(name);
        Context { proc: at("proc"), sys: at("sys"), root: at(""), ..Context::default() }
    }

    pub(crate) fn check(&self, names: &[&str]) -> Vec<CollectorReport> {
        table::check(only(names), self.context())
    }

    pub(crate) fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    /// `from` is a symbolic link to `to`, both in the machine.
    fn link(&self, from: &str, to: &str) {
        let from = self.path(from);
        fs::create_dir_all(from.parent().expect("inside")).expect("made");
        symlink(self.path(to), from).expect("linked");
    }

    /// The series of these collectors.
    pub(crate) fn values(&self, names: &[&str]) -> BTreeMap<String, String> {
        self.check(names).into_iter().flat_map(|report| report.values).collect()
    }
}

/// These lines of the table.
pub(crate) fn only(names: &[&str]) -> &'static [CollectorSpec] {
    let specs: Vec<_> = COLLECTORS.iter().filter(|spec| names.contains(&spec.name)).copied().collect();
    assert_eq!(specs.len(), names.len(), "{names:?}");
    specs.leak()
}

/// The collectors that find something on [`server`], and on it alone.
pub(crate) const SERVER: [&str; 25] = [
    "stat",
    "loadavg",
    "meminfo",
    "vmstat",
    "pressure",
    "netstat",
    "sockstat",
    "snmp6",
    "softnet",
    "conntrack",
    "filefd",
    "entropy",
    "hwmon",
    "thermal_zone",
    "edac",
    "cpufreq",
    "throttle",
    "nvme",
    "bonding",
    "selinux",
    "schedstat",
    "mdadm",
    "arp",
    "diskstats",
    "dmi",
];

/// A server with hardware of every kind that is collected, and this machine's own counters,
/// standing still.
pub(crate) fn server() -> Machine {
    let machine = Machine::new(SERVER_FILES);
    for file in [
        "stat",
        "loadavg",
        "meminfo",
        "vmstat",
        "pressure/cpu",
        "pressure/memory",
        "pressure/io",
        "net/snmp",
        "net/netstat",
        "net/snmp6",
        "net/sockstat",
        "net/sockstat6",
        "net/softnet_stat",
        "net/stat/nf_conntrack",
        "sys/net/netfilter/nf_conntrack_count",
        "sys/net/netfilter/nf_conntrack_max",
        "sys/fs/file-nr",
        "sys/kernel/random/entropy_avail",
        "sys/kernel/random/poolsize",
    ] {
        if let Ok(text) = fs::read(Path::new("/proc").join(file)) {
            machine.write(&format!("proc/{file}"), text);
        }
    }
    let chip = "sys/devices/platform/coretemp.0";
    machine.link(&format!("{chip}/hwmon/hwmon0/device"), chip);
    machine.link("sys/class/hwmon/hwmon0", &format!("{chip}/hwmon/hwmon0"));
    machine
}

const SERVER_FILES: &[(&str, &str)] = &[
    ("sys/devices/platform/coretemp.0/hwmon/hwmon0/name", "coretemp\n"),
    ("sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_input", "48500\n"),
    ("sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_max", "80000\n"),
    ("sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_crit", "100000\n"),
    ("sys/devices/platform/coretemp.0/hwmon/hwmon0/temp1_label", "Package id 0\n"),
    ("sys/devices/platform/coretemp.0/hwmon/hwmon0/temp2_input", "broken\n"),
    ("sys/devices/platform/coretemp.0/hwmon/hwmon0/fan2_input", "1200\n"),
    ("sys/devices/platform/coretemp.0/hwmon/hwmon0/in0_input", "5010\n"),
    ("sys/devices/platform/coretemp.0/hwmon/hwmon0/curr1_input", "12000\n"),
    ("sys/devices/platform/coretemp.0/hwmon/hwmon0/power1_input", "95000000\n"),
    ("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n"),
    ("sys/class/thermal/thermal_zone0/policy", "step_wise\n"),
    ("sys/class/thermal/thermal_zone0/temp", "-1500\n"),
    ("sys/class/thermal/cooling_device3/type", "Processor\n"),
    ("sys/class/thermal/cooling_device3/cur_state", "2\n"),
    ("sys/class/thermal/cooling_device3/max_state", "10\n"),
    ("sys/devices/system/edac/mc/mc0/ce_count", "3\n"),
    ("sys/devices/system/edac/mc/mc0/ce_noinfo_count", "1\n"),
    ("sys/devices/system/edac/mc/mc0/ue_count", "2\n"),
    ("sys/devices/system/edac/mc/mc0/ue_noinfo_count", "0\n"),
    ("sys/devices/system/edac/mc/mc0/csrow1/ce_count", "5\n"),
    ("sys/devices/system/edac/mc/mc0/csrow1/ue_count", "1\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_cur_freq", "2300000\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_min_freq", "800000\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "3700000\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2400000\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq", "900000\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "3600000\n"),
    ("sys/devices/system/cpu/cpu0/topology/physical_package_id", "0\n"),
    ("sys/devices/system/cpu/cpu0/topology/core_id", "4\n"),
    ("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "9\n"),
    ("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", "11\n"),
    ("sys/devices/system/cpu/cpu1/topology/physical_package_id", "0\n"),
    ("sys/devices/system/cpu/cpu1/topology/core_id", "4\n"),
    ("sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "9\n"),
    ("sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count", "11\n"),
    ("sys/class/nvme/nvme0/model", "Fast  \n"),
    ("sys/class/nvme/nvme0/serial", "S1\n"),
    ("sys/class/nvme/nvme0/firmware_rev", "F2\n"),
    ("sys/class/nvme/nvme0/state", "live\n"),
    ("sys/class/net/bonding_masters", "bond0 bond1\n"),
    ("sys/class/net/bond0/bonding/slaves", "eth0 eth1\n"),
    ("sys/class/net/bond0/lower_eth0/bonding_slave/mii_status", "up\n"),
    ("sys/class/net/bond0/lower_eth1/bonding_slave/mii_status", "down\n"),
    ("sys/class/net/bond1/bonding/slaves", "\n"),
    ("sys/class/dmi/id/bios_date", "The bios_date\n"),
    ("sys/class/dmi/id/bios_release", "The bios_release\n"),
    ("sys/class/dmi/id/bios_vendor", "The bios_vendor\n"),
    ("sys/class/dmi/id/bios_version", "The bios_version\n"),
    ("sys/class/dmi/id/board_asset_tag", "The board_asset_tag\n"),
    ("sys/class/dmi/id/board_name", "The board_name\n"),
    ("sys/class/dmi/id/board_serial", "The board_serial\n"),
    ("sys/class/dmi/id/board_vendor", "The board_vendor\n"),
    ("sys/class/dmi/id/board_version", "The board_version\n"),
    ("sys/class/dmi/id/chassis_asset_tag", "The chassis_asset_tag\n"),
    ("sys/class/dmi/id/chassis_serial", "The chassis_serial\n"),
    ("sys/class/dmi/id/chassis_vendor", "The chassis_vendor\n"),
    ("sys/class/dmi/id/chassis_version", "The chassis_version\n"),
    ("sys/class/dmi/id/product_family", "The product_family\n"),
    ("sys/class/dmi/id/product_name", "The product_name\n"),
    ("sys/class/dmi/id/product_serial", "The product_serial\n"),
    ("sys/class/dmi/id/product_sku", "The product_sku\n"),
    ("sys/class/dmi/id/product_uuid", "The product_uuid\n"),
    ("sys/class/dmi/id/product_version", "The product_version\n"),
    ("sys/class/dmi/id/sys_vendor", "The sys_vendor\n"),
    ("sys/fs/selinux/enforce", "1"),
    ("etc/selinux/config", "# comment\nSELINUX=permissive\n"),
    ("proc/schedstat", "version 15\ncpu0 0 0 0 0 0 0 111 222 333\ndomain0 3 1\ncpu1 0 0 0 0 0 0 4 5 6\n"),
    (
        "proc/net/arp",
        "IP address HW type Flags HW address Mask Device\n10.0.0.1 0x1 0x2 aa:bb * eth0\n10.0.0.2 0x1 0x2 aa:cc * eth0\n",
    ),
    (
        "proc/diskstats",
        "   8       0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n   8       1 sda1 1 2 3 4 5 6 7 8 9 10 11\n",
    ),
    (
        "run/udev/data/b8:0",
        "N:sda\nE:ID_MODEL=Disk\nE:ID_SERIAL_SHORT=X9\nE:ID_WWN=0x5\nE:ID_PATH=pci-1\nE:ID_REVISION=R1\n",
    ),
    ("proc/mdstat", MDSTAT),
];

const MDSTAT: &str = "\
Personalities : [raid1] [raid6]
md0 : active raid1 sdb1[1] sda1[0]
      523968 blocks super 1.2 [2/2] [UU]

md1 : active raid5 sdd1[3](F) sdc1[2](S) sdb2[1] sda2[0]
      1000 blocks level 5, 64k chunk, algorithm 2 [3/2] [UU_]
      [==>..]  recovery = 12.6% (126/1000) finish=127.5min speed=33440K/sec

md2 : inactive sde1[0](S)
      200 blocks

md3 : active raid0 sdf1[1] sdg1[0]
      400 blocks 64k chunks

md4 : active (auto-read-only) raid1 sdh1[0]
      50 blocks [2/1] [U_]
      \tresync=PENDING

md5 : active raid1 sda3[0] sdb3[1]
      7932 blocks [2/2] [UU]
      [=>...................]  check =  8.5% (674/7932) finish=5.0min speed=100K/sec

md6 : active raid1 sdb2[2](F) sda4[0]
      195310144 blocks [2/1] [U_]
      [=>...................]  resync =  8.5% (16775552/195310144) finish=17.0min speed=259783K/sec

unused devices: <none>
";
