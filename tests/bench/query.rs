//! Asking: one series over 30 days of slots, the live list of 10,000 hosts, one source's metrics.
//!
//! Each answer is fetched over HTTP on loopback, on a connection that stays open, one after another.

use crate::fleet::{Fleet, Task};
use crate::measure::Meter;
use crate::report::{Bar, Latencies, Report};
use crate::{Mode, control};
use std::time::Duration;
use tongtu_tests::control::Control;
use tongtu_tests::wait;

const INTERVAL: Duration = Duration::from_secs(15);
const DAY_MS: i64 = 86_400_000;

/// Asks a control over one connection.
struct Client {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    token: String,
}

impl Client {
    fn new(control: &Control) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            client: reqwest::Client::builder().no_proxy().build().expect("a client without options that can fail"),
            token: control.token(),
        }
    }

    fn get(&self, url: &str) -> String {
        self.runtime.block_on(async {
            let response = self.client.get(url).bearer_auth(&self.token).send().await.expect("control answers");
            assert!(response.status().is_success(), "{url}: {}", response.status());
            response.text().await.expect("a whole answer")
        })
    }

    fn measure(&self, report: &mut Report, what: &str, urls: &[String], count: usize, bar: Bar) {
        let mut latencies = Latencies::default();
        let mut bytes = 0;
        for url in urls.iter().cycle().take(count) {
            bytes = latencies.time(|| self.get(url)).len();
        }
        report.figure(&format!("{what}: answer"), bytes as f64, "B");
        report.figure(&format!("{what}: p50"), latencies.percentile(0.5), "ms");
        report.bar(&format!("{what}: p99"), latencies.percentile(0.99), "ms", bar);
    }
}

/// Runs it.
pub(crate) fn run(mode: Mode) -> Report {
    let mut report = Report::new("query", "over HTTP, one request after another");
    long_series(&mut report, mode);
    live(&mut report, mode);
    report
}

/// 30 days of slots of a few agents. Raw frames are kept as long here, because records older than that
/// are refused.
fn long_series(report: &mut Report, mode: Mode) {
    let (agents, days) = match mode {
        Mode::Short => (2, 30),
        Mode::Full => (10, 30),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let keep = "raw_retention = \"40d\"\n";
    let mut control = control::start(folder.path(), &format!("{}{keep}", control::SMALL_WINDOWS));
    let meter = Meter::start(control.process().id());
    let scenario = format!("pacing = \"backlog\"\nhistory = \"{days}d\"\n");
    let task = Task { agents, interval: INTERVAL, duration: Duration::from_secs(1_800), scenario: &scenario };
    Fleet::start(&control, folder.path(), task).finish(Duration::from_secs(1_800));
    control::wait_compacted(&meter);
    let client = Client::new(&control);
    let to_ms = wait::wall_ms() / 300_000 * 300_000;
    let from_ms = to_ms - days * DAY_MS;
    let urls: Vec<String> = sources(&control)
        .iter()
        .flat_map(|source| {
            [("node_load1", ""), ("node_network_receive_bytes_total", "&resource=eth0")].map(|(metric, resource)| {
                let range = format!("from_ms={from_ms}&to_ms={to_ms}&step_seconds=300");
                control.url(&format!("/api/v1/series?source={source}&metric={metric}{resource}&{range}"))
            })
        })
        .collect();
    client.measure(report, "one series over 30 days", &urls, 400, Bar::AtMost(5.0));
}

fn live(report: &mut Report, mode: Mode) {
    let agents = match mode {
        Mode::Short => 2_000,
        Mode::Full => 10_000,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let control = control::start(folder.path(), "");
    let task = Task { agents, interval: INTERVAL, duration: Duration::from_secs(90), scenario: "" };
    let mut fleet = Fleet::start(&control, folder.path(), task);
    fleet.wait_reporting(Duration::from_secs(600));
    let client = Client::new(&control);
    let list = [control.url("/api/v1/hosts?limit=10000")];
    client.measure(report, &format!("live list of {agents} hosts"), &list, 200, Bar::AtMost(20.0));
    let urls: Vec<String> =
        sources(&control).iter().take(200).map(|source| control.url(&format!("/metrics/sources/{source}"))).collect();
    client.measure(report, "/metrics/sources/{id}", &urls, 1_000, Bar::AtMost(5.0));
    drop(fleet);
}

/// Ids of sources.
fn sources(control: &Control) -> Vec<String> {
    let page = control.get("/api/v1/sources?limit=10000").json();
    let sources = page["items"].as_array().expect("a list of sources").iter();
    sources.filter_map(|source| source["id"].as_str().map(ToOwned::to_owned)).collect()
}
