//! The cloud: lists, capacity and the review of ten thousand virtual machines while their hypervisors report.

use crate::control;
use crate::fleet::{Fleet, Task};
use crate::measure::Meter;
use crate::query::Client;
use crate::report::{Bar, Report};
use std::path::Path;
use std::time::Duration;
use tongtu_tests::control::{Control, listed};
use tongtu_tests::{ledger, wait};

const INTERVAL: Duration = Duration::from_secs(15);
const HYPERVISORS: u32 = 500;
/// Virtual machines of a hypervisor.
const EACH: u32 = 20;
/// All of them.
pub(crate) const VMS: u32 = HYPERVISORS * EACH;

/// Hypervisors with virtual machines that report, when all machines are joined.
pub(crate) fn start(control: &Control, folder: &Path, duration: Duration) -> Fleet {
    let scenario = format!(
        "[[group]]\nname = \"office\"\nvms = {EACH}\nshare = 3\n[[group]]\nname = \"idle\"\nvms = {EACH}\npattern = \"idle\"\n"
    );
    let task = Task { agents: HYPERVISORS, interval: INTERVAL, duration, scenario: &scenario };
    let mut fleet = Fleet::start(control, folder, task);
    fleet.wait_reporting(Duration::from_secs(600));
    wait::until(Duration::from_secs(300), "all virtual machines are joined", || {
        match count(control, "/api/v1/vms?state=running&limit=10000") {
            found if found == VMS as usize => Ok(()),
            found => Err(format!("{found} of {VMS}")),
        }
    });
    fleet
}

fn count(control: &Control, path: &str) -> usize {
    control.get(path).json()["items"].as_array().map_or(0, Vec::len)
}

/// Runs it.
pub(crate) fn run() -> Report {
    let mut report = Report::new("cloud", "virtual machines over HTTP, one request after another");
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = control::start(folder.path(), "");
    let fleet = start(&control, folder.path(), Duration::from_secs(900));
    // Not before a slot of five minutes has ended.
    wait::until(Duration::from_secs(600), "their use is surveyed", || match count(&control, "/api/v1/review?days=1") {
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
        client.measure(&mut report, &format!("{VMS} VMs, {what}"), &meter, &[control.url(path)], 200, bar());
    }
    import(&mut report, &control, &meter);
    report.figure("RSS of control", meter.resident_bytes() as f64 / 1e6, "MB");
    drop(fleet);
    report
}

/// A ledger of ten thousand rows, of the machines that report as far as there are any: tried, imported, and again.
fn import(report: &mut Report, control: &Control, meter: &Meter) {
    const ROWS: usize = 10_000;
    let vms = listed(&control.get("/api/v1/vms?limit=10000").json());
    let text = |vm: &serde_json::Value, field: &str| vm[field].as_str().unwrap_or_default().to_owned();
    let mut machines: Vec<_> = vms.iter().map(|vm| (text(vm, "name"), text(vm, "uuid"))).collect();
    machines.extend((machines.len()..ROWS).map(|number| (format!("outsourced-{number:05}"), String::new())));
    let header =
        ["虚拟机名称", "UUID", "使用单位", "应用系统", "用途", "到期日期", "vCPU", "内存(GB)", "联系人", "备注"];
    let rows = machines.iter().take(ROWS).map(|(name, uuid)| {
        vec![
            name.as_str(),
            uuid,
            "root",
            "社区网格化",
            "生产",
            "2030-12-31",
            "4",
            "8",
            "张伟 0592-1234567",
            "由平台开通",
        ]
    });
    let table = ledger::workbook(&header, rows);
    report.figure("ledger of 10,000 rows: workbook", table.len() as f64, "B");
    for (what, parameters) in [("tried", "&dry_run=true"), ("imported", ""), ("again", "")] {
        let before = meter.cpu_s();
        let watch = wait::Stopwatch::start();
        let (job, looks) = ledger::import(control, parameters, table.clone());
        let seconds = watch.elapsed().as_secs_f64();
        assert_eq!((&job["state"], &job["counts"]["failed"]), (&"done".into(), &0.into()), "{job}");
        let states: std::collections::BTreeSet<_> =
            looks.iter().map(|look| format!("{} {}", look["state"], look["done"])).collect();
        report.bar(&format!("ledger of 10,000 rows, {what}"), seconds, "s", Bar::AtMost(5.0));
        report.figure(&format!("ledger of 10,000 rows, {what}: CPU"), meter.cpu_s() - before, "s");
        report.figure(&format!("ledger of 10,000 rows, {what}: progress seen"), states.len() as f64, "times");
    }
    Client::new(control).measure(
        report,
        "ledger beside what is measured",
        meter,
        &[control.url("/api/v1/ledger?limit=10000")],
        50,
        Bar::AtMost(250.0),
    );
}
