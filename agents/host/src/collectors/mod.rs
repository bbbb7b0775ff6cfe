//! The collectors: one explicit table. On Linux they read `/proc`, `/sys` and netlink; elsewhere a
//! reduced set asks `sysinfo`.
//!
//! What must hold: a collector emits only metrics of [`crate::metrics`]; "no such thing on this
//! machine" is found when it is made and says why; a missing field is a missing value.

#[cfg(target_os = "linux")]
mod arp;
#[cfg(target_os = "linux")]
mod clocks;
#[cfg(target_os = "linux")]
mod conntrack;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod filesystem;
#[cfg(target_os = "linux")]
mod keyed;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod netstat;
#[cfg(target_os = "linux")]
mod network;
pub mod portable;
#[cfg(target_os = "linux")]
mod pressure;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod readings;
#[cfg(target_os = "linux")]
mod sockets;
#[cfg(target_os = "linux")]
mod sockstat;
#[cfg(target_os = "linux")]
mod softnet;
#[cfg(target_os = "linux")]
mod stat;
#[cfg(target_os = "linux")]
mod storage;
#[cfg(target_os = "linux")]
mod system;

use crate::metrics as m;
use std::time::Duration;
use tongtu_agent_runtime::collect::{Collector, CollectorSpec, Context, Unavailable, Values};

type Make = fn(&Context) -> Result<Box<dyn Collector>, Unavailable>;

const fn spec(name: &'static str, seconds: u64, make: Make) -> CollectorSpec {
    let interval = Duration::from_secs(seconds);
    CollectorSpec { name, interval, timeout: Duration::from_secs(5), make }
}

const fn every_frame(name: &'static str, make: Make) -> CollectorSpec {
    spec(name, 0, make)
}

const fn every_minute(name: &'static str, make: Make) -> CollectorSpec {
    spec(name, 60, make)
}

/// What this system's agent collects. The order is that of importance: what counts is read closest to
/// the frame's instant, and were a frame ever full, the end would be left out.
#[cfg(target_os = "linux")]
pub static COLLECTORS: &[CollectorSpec] = &[
    every_frame("stat", stat::make),
    every_frame("network", network::make),
    every_frame("loadavg", load::make),
    every_frame("meminfo", keyed::memory),
    every_frame("vmstat", keyed::vmstat),
    every_frame("pressure", pressure::make),
    every_frame("filesystem", filesystem::make),
    every_frame("diskstats", disk::make),
    every_frame("netstat", netstat::make),
    every_frame("snmp6", keyed::snmp6),
    every_frame("sockstat", sockstat::make),
    every_frame("filefd", system::files),
    every_frame("time", clocks::time),
    every_frame("timex", clocks::timex),
    every_frame("uptime", clocks::uptime),
    every_frame("uname", system::uname),
    every_frame("os", system::os),
    every_frame("dmi", system::dmi),
    every_frame("conntrack", conntrack::make),
    every_minute("udp_queues", sockets::udp),
    every_frame("arp", arp::make),
    every_frame("entropy", system::entropy),
    every_frame("selinux", system::selinux),
    every_frame("mdadm", storage::raid),
    every_frame("bonding", system::bonds),
    spec("processes", 300, processes::make),
    spec("tcpstat", 300, sockets::tcp),
    every_minute("hwmon", readings::hwmon),
    every_minute("thermal_zone", readings::thermal),
    every_minute("edac", readings::edac),
    every_minute("nvme", storage::nvme),
    every_minute("throttle", readings::throttle),
    every_minute("cpufreq", readings::cpufreq),
    every_frame("softnet", softnet::make),
    every_frame("schedstat", system::scheduler),
];

/// What this system's agent collects.
#[cfg(not(target_os = "linux"))]
pub static COLLECTORS: &[CollectorSpec] = portable::COLLECTORS;

/// Keeps the things of a collector to a number, and counts what that leaves out.
#[derive(Debug)]
struct Bound {
    collector: &'static str,
    room: usize,
    left_out: i64,
}

impl Bound {
    fn new(collector: &'static str, room: usize) -> Self {
        Self { collector, room, left_out: 0 }
    }

    /// Whether one more may be shown.
    fn admit(&mut self) -> bool {
        match self.room.checked_sub(1) {
            Some(room) => self.room = room,
            None => {
                self.left_out += 1;
                return false;
            }
        }
        true
    }

    fn put(&self, out: &mut Values<'_>) {
        out.put(&m::LEFT_OUT, &[self.collector], self.left_out);
    }
}
