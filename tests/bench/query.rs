//! Asking: one series over 30 days of slots, a page of 20 charts, the live list of 10,000 hosts, one
//! source's metrics; and 200 dashboards that are told what changes.
//!
//! Each answer is fetched over HTTP on loopback, on a connection that stays open, one after another.

use crate::fleet::{Fleet, Task};
use crate::measure::Meter;
use crate::report::{Bar, Latencies, Report};
use crate::{Mode, control};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tongtu_tests::control::Control;
use tongtu_tests::person::Person;
use tongtu_tests::wait;

const INTERVAL: Duration = Duration::from_secs(15);
const DAY_MS: i64 = 86_400_000;
/// Hosts that report while they are asked for.
const HOSTS: u32 = 10_000;
/// Dashboards that are open at once.
const DASHBOARDS: usize = 200;
/// What a host's page draws: 20 charts, some of several lines.
const CHARTS: &str = "node_load1,node_load5,node_load15,node_memory_MemAvailable_bytes,node_memory_MemFree_bytes,\
    node_memory_Cached_bytes,node_memory_Buffers_bytes,node_memory_SwapFree_bytes,node_cpu_seconds_total,\
    node_context_switches_total,node_intr_total,node_forks_total,node_procs_running,node_procs_blocked,\
    node_network_receive_bytes_total,node_network_transmit_bytes_total,node_disk_read_bytes_total,\
    node_disk_written_bytes_total,node_filesystem_avail_bytes,node_filefd_allocated";

/// Asks a control over one connection.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    token: String,
}

impl Client {
    pub(crate) fn new(control: &Control) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            client: reqwest::Client::builder().no_proxy().build().expect("a client without options that can fail"),
            token: control.token(),
        }
    }

    /// The length of an answer that was read to its end. It is not kept: to gather megabytes is this client's work.
    fn get(&self, url: &str) -> usize {
        self.runtime.block_on(async {
            let mut response = self.client.get(url).bearer_auth(&self.token).send().await.expect("control answers");
            assert!(response.status().is_success(), "{url}: {}", response.status());
            let mut bytes = 0;
            while let Some(chunk) = response.chunk().await.expect("a whole answer") {
                bytes += chunk.len();
            }
            bytes
        })
    }

    /// Asks so often, and reports how long it took.
    pub(crate) fn measure(
        &self,
        report: &mut Report,
        what: &str,
        meter: &Meter,
        urls: &[String],
        count: usize,
        bar: Bar,
    ) {
        let mut latencies = Latencies::default();
        let mut bytes = 0;
        let before = meter.cpu_s();
        for url in urls.iter().cycle().take(count) {
            bytes = latencies.time(|| self.get(url));
        }
        let cpu_ms = (meter.cpu_s() - before) * 1_000.0 / count as f64;
        report.figure(&format!("{what}: answer"), bytes as f64, "B");
        report.figure(&format!("{what}: CPU of control"), cpu_ms, "ms");
        report.figure(&format!("{what}: p50"), latencies.percentile(0.5), "ms");
        report.bar(&format!("{what}: p99"), latencies.percentile(0.99), "ms", bar);
    }
}

/// Runs both parts, or the one of this name.
pub(crate) fn run(mode: Mode, only: Option<&str>) -> Report {
    let mut report = Report::new("query", "over HTTP, one request after another");
    let asked = |part| only.is_none_or(|only| only == part);
    assert!(asked("live") || asked("history"), "a part is one of live, history");
    // Its last window is compacted at the end of a slot.
    let history = asked("history").then(|| History::play(mode));
    if asked("live") {
        live(&mut report);
    }
    if let Some(history) = history {
        history.ask(&mut report);
    }
    report
}

/// A control with 30 days of slots of a few agents.
struct History {
    _folder: TempDir,
    control: Control,
    meter: Meter,
}

const DAYS: i64 = 30;

impl History {
    /// Raw frames are kept as long here, because records older than that are refused.
    fn play(mode: Mode) -> Self {
        let agents = match mode {
            Mode::Short => 2,
            Mode::Full => 10,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let keep = "raw_retention = \"40d\"\n";
        let mut control = control::start(folder.path(), &format!("{}{keep}", control::SMALL_WINDOWS));
        let meter = Meter::start(control.process().id());
        let scenario = format!("pacing = \"backlog\"\nhistory = \"{DAYS}d\"\n");
        let task = Task { agents, interval: INTERVAL, duration: Duration::from_secs(1_800), scenario: &scenario };
        Fleet::start(&control, folder.path(), task).finish(Duration::from_secs(1_800));
        Self { _folder: folder, control, meter }
    }

    fn ask(&self, report: &mut Report) {
        let Self { control, meter, .. } = self;
        control::wait_days_closed(std::iter::once(meter));
        let client = Client::new(control);
        let to_ms = wait::wall_ms() / 300_000 * 300_000;
        let from_ms = to_ms - DAYS * DAY_MS;
        let sources = sources(control);
        let urls: Vec<String> = sources
            .iter()
            .flat_map(|source| {
                [("node_load1", ""), ("node_network_receive_bytes_total", "&resource=eth0")].map(
                    |(metric, resource)| {
                        let range = format!("from_ms={from_ms}&to_ms={to_ms}&step_seconds=300");
                        control.url(&format!("/api/v1/series?source={source}&metric={metric}{resource}&{range}"))
                    },
                )
            })
            .collect();
        client.measure(report, "one series over 30 days", meter, &urls, 2_000, Bar::AtMost(5.0));
        let page = |source: &String| {
            let range = format!("from_ms={from_ms}&to_ms={to_ms}&points=600");
            control.url(&format!("/api/v1/series?source={source}&metric={CHARTS}&{range}"))
        };
        let urls: Vec<String> = sources.iter().map(page).collect();
        client.measure(report, "20 charts over 30 days", meter, &urls, 50, Bar::AtMost(300.0));
    }
}

fn live(report: &mut Report) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = control::start(folder.path(), "");
    let task = Task { agents: HOSTS, interval: INTERVAL, duration: Duration::from_secs(900), scenario: "" };
    let mut fleet = Fleet::start(&control, folder.path(), task);
    fleet.wait_reporting(Duration::from_secs(600));
    // Connecting is not reporting: from here on every agent is in its usual round.
    wait::pause(INTERVAL);
    let meter = Meter::start(control.process().id());
    let client = Client::new(&control);
    let list = [control.url("/api/v1/hosts?limit=10000")];
    client.measure(report, &format!("live list of {HOSTS} hosts"), &meter, &list, 200, Bar::AtMost(20.0));
    let overview = [control.url("/api/v1/overview")];
    client.measure(report, &format!("overview of {HOSTS} hosts"), &meter, &overview, 200, Bar::AtMost(20.0));
    let urls: Vec<String> =
        sources(&control).iter().take(200).map(|source| control.url(&format!("/metrics/sources/{source}"))).collect();
    client.measure(report, "/metrics/sources/{id}", &meter, &urls, 1_000, Bar::AtMost(5.0));
    dashboards(report, &control, &meter);
    drop(fleet);
}

/// What it costs control to tell 200 open dashboards what changes, beside the same time without them.
fn dashboards(report: &mut Report, control: &Control, meter: &Meter) {
    const TIME: Duration = Duration::from_secs(30);
    let cpu = || {
        let before = meter.cpu_s();
        wait::pause(TIME);
        meter.cpu_s() - before
    };
    // What was asked for before is kept ready for a minute; that is part of what dashboards cost.
    wait::pause(Duration::from_secs(70));
    let without = cpu();
    let received = Arc::new(AtomicU64::new(0));
    let open = Arc::new(AtomicUsize::new(0));
    let url = control.url("/api/v1/live?topics=overview,hosts,agents");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    for token in tokens(control).into_iter().cycle().take(DASHBOARDS) {
        let request = reqwest::Client::builder().no_proxy().build().expect("a client without options that can fail");
        let request = request.get(&url).bearer_auth(token);
        let (received, open) = (Arc::clone(&received), Arc::clone(&open));
        runtime.spawn(async move {
            let mut response = request.send().await.expect("control answers");
            assert!(response.status().is_success(), "{}", response.status());
            open.fetch_add(1, Ordering::Relaxed);
            while let Ok(Some(bytes)) = response.chunk().await {
                received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
    wait::until(Duration::from_secs(30), "all dashboards open", || match open.load(Ordering::Relaxed) {
        DASHBOARDS => Ok(()),
        some => Err(format!("{some} are")),
    });
    let before = received.load(Ordering::Relaxed);
    let with = cpu();
    assert_eq!(open.load(Ordering::Relaxed), DASHBOARDS, "dashboards that are still open");
    let bytes = received.load(Ordering::Relaxed) - before;
    runtime.shutdown_background();
    let name = format!("{DASHBOARDS} dashboards");
    report.figure(&format!("{name}: told each"), bytes as f64 / DASHBOARDS as f64 / TIME.as_secs_f64(), "B/s");
    report.bar(&name, (with - without) / TIME.as_secs_f64() * 100.0, "% of a core", Bar::AtMost(5.0));
}

/// Machine tokens for the dashboards: one token may hold 20 streams.
fn tokens(control: &Control) -> Vec<String> {
    let security = Person::first(control);
    let token = |number| {
        let wished = json!({ "name": format!("dashboards {number}"), "role": "operator" });
        let made = security.ask(control, "POST", "/api/v1/tokens", Some(&wished)).json();
        made["secret"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    };
    (0..DASHBOARDS / 20).map(token).collect()
}

/// Ids of sources.
fn sources(control: &Control) -> Vec<String> {
    let page = control.get("/api/v1/sources?limit=10000").json();
    let sources = page["items"].as_array().expect("a list of sources").iter();
    sources.filter_map(|source| source["id"].as_str().map(ToOwned::to_owned)).collect()
}
