//! The cloud: lists, capacity and the review of ten thousand virtual machines while their hypervisors report.

use crate::fleet::{Fleet, Task};
use crate::measure::Meter;
use crate::query::Client;
use crate::report::{Bar, Report};
use crate::{Mode, control};
use std::time::Duration;
use tongtu_tests::wait;

const INTERVAL: Duration = Duration::from_secs(15);
/// Virtual machines of a hypervisor.
const VMS: u32 = 20;

/// Runs it.
pub(crate) fn run(mode: Mode) -> Report {
    let mut report = Report::new("cloud", "virtual machines over HTTP, one request after another");
    let hypervisors = match mode {
        Mode::Short => 100,
        Mode::Full => 500,
    };
    let vms = hypervisors * VMS;
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = control::start(folder.path(), "");
    let scenario = format!(
        "[[group]]\nname = \"office\"\nvms = {VMS}\nshare = 3\n[[group]]\nname = \"idle\"\nvms = {VMS}\npattern = \"idle\"\n"
    );
    let task =
        Task { agents: hypervisors, interval: INTERVAL, duration: Duration::from_secs(900), scenario: &scenario };
    let mut fleet = Fleet::start(&control, folder.path(), task);
    fleet.wait_reporting(Duration::from_secs(600));
    let listed = |path: &str| control.get(path).json()["items"].as_array().map_or(0, Vec::len);
    wait::until(Duration::from_secs(300), "all virtual machines are joined", || {
        match listed("/api/v1/vms?state=running&limit=10000") {
            found if found == vms as usize => Ok(()),
            found => Err(format!("{found} of {vms}")),
        }
    });
    // Not before a slot of five minutes has ended.
    wait::until(Duration::from_secs(600), "their use is surveyed", || match listed("/api/v1/review?days=1") {
        0 => Err("not yet".to_owned()),
        _ => Ok(()),
    });
    let meter = Meter::start(control.process().id());
    let client = Client::new(&control);
    let bar = || Bar::AtMost(50.0);
    for (what, path) in [
        ("all", "/api/v1/vms?limit=10000"),
        ("the 200 busiest", "/api/v1/vms?sort=-cpu_usage_percent&limit=200"),
        ("found by name", "/api/v1/vms?search=office&sort=name&limit=200"),
        ("capacity by host", "/api/v1/capacity?by=host"),
        ("capacity by organisation", "/api/v1/capacity?by=organization"),
        ("room with one host lost", "/api/v1/capacity/room?vcpus=4&memory_bytes=8589934592"),
        ("review", "/api/v1/review?days=1&sort=cpu_mean_percent&limit=200"),
    ] {
        client.measure(&mut report, &format!("{vms} VMs, {what}"), &meter, &[control.url(path)], 200, bar());
    }
    report.figure("RSS of control", meter.resident_bytes() as f64 / 1e6, "MB");
    drop(fleet);
    report
}
