//! The dashboard in a real Chromium: what it transfers, how soon the list of 10,000 hosts is usable, whether
//! scrolling through it stutters, how soon a host's page with 20 charts over 30 days is drawn; then the list of
//! 10,000 virtual machines as that of hosts.
//!
//! `dashboards/web/e2e/bench.mjs` drives the browser; what is measured of it stands there.

use crate::fleet::{Fleet, Task};
use crate::measure::Meter;
use crate::report::{Bar, Latencies, Report};
use crate::{Mode, cloud, control};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tongtu_tests::control::Control;
use tongtu_tests::person::Person;
use tongtu_tests::process::Process;
use tongtu_tests::wait;

const INTERVAL: Duration = Duration::from_secs(15);
const HOSTS: u32 = 10_000;
const DAYS: i64 = 30;
const DAY_MS: i64 = 86_400_000;
/// Raw frames are kept as long here, because records older than that are refused.
const KEEP: &str = "raw_retention = \"40d\"\n";
/// The Node packages are installed within it, too, where they are not yet.
const BROWSER: Duration = Duration::from_secs(900);
const PARTS: [&str; 5] = ["view", "list", "scroll", "charts", VMS];
/// The part that has a control of its own.
const VMS: &str = "vms";
/// Longer than any part of it takes.
const FLEET: Duration = Duration::from_secs(7_200);
/// Files of the build that are listed one by one.
const LISTED_BYTES: f64 = 4_000.0;

/// Runs all parts, or the one of this name.
pub(crate) fn run(mode: Mode, only: Option<&str>) -> Report {
    let mut report = Report::new("web", "the dashboard in Chromium, 10,000 hosts or virtual machines reporting");
    let asked = |part: &str| only.is_none_or(|only| only == part);
    let parts: Vec<_> = PARTS.into_iter().filter(|part| asked(part)).collect();
    assert!(!parts.is_empty(), "a part is one of {}", PARTS.join(", "));
    let rounds = match mode {
        Mode::Short => 5,
        Mode::Full => 15,
    };
    let (of_vms, of_hosts): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| *part == VMS);
    if !of_hosts.is_empty() {
        hosts(&mut report, rounds, &of_hosts);
    }
    if !of_vms.is_empty() {
        vms(&mut report, rounds);
    }
    report
}

fn hosts(report: &mut Report, rounds: u32, parts: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let host = if parts.contains(&"charts") { history(report, folder.path()) } else { String::new() };
    let control = control::start(folder.path(), &format!("[telemetry]\n{KEEP}"));
    let operator = Person::first(&control).create(&control, "operator", "operator");
    // Other machines than the one with a history.
    let scenario = "seed = 2\n";
    let task = Task { agents: HOSTS, interval: INTERVAL, duration: FLEET, scenario };
    let mut fleet = Fleet::start(&control, folder.path(), task);
    fleet.wait_reporting(Duration::from_secs(600));
    fleet.give_way();
    let found = browse(folder.path(), &control, &operator, &Asked { host: &host, rounds, parts });
    for part in parts {
        match *part {
            "view" => {
                bundle(report, &found);
                first_view(report, &found[part]);
            }
            "scroll" => scroll(report, "scrolling", &found[part]),
            "list" => list(report, &format!("list of {HOSTS} hosts"), &found[part]),
            _ => {
                for visit in ["cold", "warm"] {
                    let what = format!("20 charts over {DAYS} days, {visit}");
                    put_visits(report, &what, &found[part][visit], "drawn");
                }
            }
        }
    }
}

/// The list of as many virtual machines, of hypervisors that report to another control.
fn vms(report: &mut Report, rounds: u32) {
    let folder = tempfile::tempdir().expect("a folder");
    let control = control::start(folder.path(), "");
    let operator = Person::first(&control).create(&control, "operator", "operator");
    let fleet = cloud::start(&control, folder.path(), FLEET);
    fleet.give_way();
    let found = browse(folder.path(), &control, &operator, &Asked { host: "", rounds, parts: &[VMS] });
    let found = &found[VMS];
    list(report, &format!("list of {} VMs", cloud::VMS), found);
    scroll(report, "scrolling through VMs", &found["scroll"]);
}

/// One host with 30 days of slots, and its id. Windows are small meanwhile, so that they are compacted.
fn history(report: &mut Report, folder: &Path) -> String {
    let mut control = control::start(folder, &format!("{}{KEEP}", control::SMALL_WINDOWS));
    let meter = Meter::start(control.process().id());
    let scenario = format!("pacing = \"backlog\"\nhistory = \"{DAYS}d\"\n");
    let task = Task { agents: 1, interval: INTERVAL, duration: Duration::from_secs(1_800), scenario: &scenario };
    Fleet::start(&control, folder, task).finish(Duration::from_secs(1_800));
    // In the service a host's newest hours alone are frames; here nearly a tenth of the month would be.
    control::wait_days_closed(std::iter::once(&meter));
    let hosts = control.hosts();
    let id = hosts.first().and_then(|host| host["id"].as_str()).expect("a host").to_owned();
    let source = control.get(&format!("/api/v1/hosts/{id}")).json()["source"].clone();
    let to_ms = wait::wall_ms();
    let from_ms = to_ms - DAYS * DAY_MS;
    let source = source.as_str().expect("what measures the host").to_owned();
    let asked = format!("source={source}&metric=node_load1&from_ms={from_ms}&to_ms={to_ms}&points=400");
    let covered = control.get(&format!("/api/v1/series?{asked}")).json()["series"][0]["coverage_percent"].as_f64();
    report.bar(&format!("coverage of the {DAYS} days"), covered.unwrap_or(0.0), "%", Bar::AtLeast(99.0));
    control.interrupt();
    id
}

/// What the browser is to measure.
struct Asked<'a> {
    /// With a history, if its charts are among the parts.
    host: &'a str,
    rounds: u32,
    parts: &'a [&'a str],
}

/// What `scripts/web.sh bench` finds.
fn browse(folder: &Path, control: &Control, operator: &Person, asked: &Asked<'_>) -> Value {
    let (_, session) = operator.cookie().split_once('=').expect("a name and a value");
    let out = folder.join("browser.json");
    let mut command = Command::new(root().join("scripts/web.sh"));
    command.args(["bench", control.url("").as_str(), session, asked.host]);
    command.arg(asked.rounds.to_string()).arg(asked.parts.join(",")).arg(&out);
    let mut process = Process::start_group("browser", command, folder);
    let status = process.wait(BROWSER);
    assert!(status.success(), "the browser's measurements failed ({status}):\n{}", process.log());
    let text = std::fs::read_to_string(&out).expect("what was found");
    serde_json::from_str(&text).expect("JSON")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The size of what is built, by file.
fn bundle(report: &mut Report, found: &Value) {
    let (mut all, mut small) = (0.0, 0.0);
    for file in items(&found["bundle"]) {
        let bytes = number(&file["gzip"]);
        all += bytes;
        if bytes < LISTED_BYTES {
            small += bytes;
            continue;
        }
        let name = file["name"].as_str().unwrap_or_default();
        report.figure(&format!("bundle: {name}"), bytes / 1e3, "kB gzip");
    }
    report.figure("bundle: smaller files together", small / 1e3, "kB gzip");
    report.figure("bundle: all of it, every page", all / 1e3, "kB gzip");
}

fn first_view(report: &mut Report, first: &Value) {
    report.figure("first view: requests", items(&first["files"]).count() as f64, "");
    report.figure("first view: drawn after", number(&first["drawn"]) / 1e3, "s");
    report.bar("first view: transferred", number(&first["bytes"]) / 1e3, "kB", Bar::AtMost(250.0));
}

/// How long visits took: the median has the bar.
fn put_visits(report: &mut Report, what: &str, visits: &Value, done: &str) {
    let all = |key: &str, divisor: f64| Latencies::of(items(visits).map(|visit| number(&visit[key]) / divisor));
    let without: Vec<_> = items(visits).flat_map(|visit| items(&visit["without"])).collect();
    assert!(without.is_empty(), "{what}: charts without a line: {without:?}");
    let mut seconds = all(done, 1e3);
    report.bar(what, seconds.percentile(0.5), "s", Bar::AtMost(1.0));
    report.figure(&format!("{what}: slowest"), seconds.percentile(1.0), "s");
    report.figure(&format!("{what}: CPU of the main thread"), all("cpu", 1.0).percentile(0.5), "ms");
    report.figure(&format!("{what}: longest task"), all("longest", 1.0).percentile(0.5), "ms");
}

/// How soon a list is usable.
fn list(report: &mut Report, what: &str, found: &Value) {
    for visit in ["cold", "warm", "click"] {
        put_visits(report, &format!("{what}, {visit}"), &found[visit], "answered");
    }
}

/// How it scrolls: the median of the runs, by their long tasks, has the bar.
fn scroll(report: &mut Report, what: &str, runs: &Value) {
    let long = |run: &&Value| number(&run["long"]) as u64;
    let mut runs: Vec<_> = items(runs).collect();
    runs.sort_by_key(long);
    let scroll = runs[runs.len() / 2];
    let updates = number(&scroll["updates"]);
    assert!(updates >= 1.0, "nothing was told while it scrolled");
    report.figure(&format!("{what}: from the first row to the last in"), number(&scroll["seconds"]), "s");
    report.figure(&format!("{what}: updates heard meanwhile"), updates, "");
    report.figure(&format!("{what}: frames"), number(&scroll["frames"]), "a second");
    let share = number(&scroll["cpu"]) / number(&scroll["seconds"]) / 10.0;
    report.figure(&format!("{what}: CPU of the main thread"), share, "% of a core");
    report.figure(&format!("{what}: longest of the long tasks"), number(&scroll["longest"]), "ms");
    report.figure(
        &format!("{what}: long tasks of the worst run"),
        runs.last().map_or(f64::NAN, |worst| number(&worst["long"])),
        "",
    );
    report.bar(&format!("{what}: tasks of more than 50 ms"), number(&scroll["long"]), "", Bar::AtMost(0.0));
}
