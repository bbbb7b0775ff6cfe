//! The agent of this machine beside Debian's node_exporter: what a collection and a scrape cost.

use crate::measure::Meter;
use crate::report::{Bar, Report};
use crate::{Mode, control};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tongtu_agent_host::exporter;
use tongtu_tests::process::Process;
use tongtu_tests::{http, ports, process, wait};

const INTERVAL: Duration = Duration::from_secs(15);
/// Ten minutes: the slowest collectors, every five minutes, run twice in it, wherever it begins.
const ROUNDS: u32 = 40;
/// Metrics in one question.
const METRICS: usize = 64;
const MB: f64 = 1e6;
const AGENT: &str = "tongtu-agent";

/// An agent as users get it: built in the profile `agent`, beside the profile of this program.
pub(crate) fn binary(name: &str) -> PathBuf {
    let sibling = process::binary("tongtu-bench");
    let target = sibling.parent().and_then(|profile| profile.parent()).expect("cargo's target folder");
    let agent = target.join("agent").join(name);
    assert!(agent.is_file(), "{} is not there; build it with `cargo build --profile agent -p {name}`", agent.display());
    agent
}

/// Runs it.
pub(crate) fn run(_: Mode) -> Report {
    let mut report = Report::new("agent", "tongtu-agent beside prometheus-node-exporter, every 15 s");
    let folder = tempfile::tempdir().expect("a folder");
    let control = control::start(folder.path(), "");
    let data = folder.path().join("agent");
    let token = control.enrolment_token(1);
    let enrolled = Command::new(binary(AGENT)).args(["enroll", "--token", &token, "--data"]).arg(&data).status();
    assert!(enrolled.expect("the agent starts").success(), "the agent does not enrol");
    let mut command = Command::new(binary(AGENT));
    command.arg("run").arg("--data").arg(&data);
    let agent = Process::start("agent", command, folder.path());
    let address = ports::free();
    let mut command = Command::new("prometheus-node-exporter");
    command.arg(format!("--web.listen-address={address}"));
    let exporter = Process::start("node-exporter", command, folder.path());
    let url = format!("http://{address}/metrics");
    wait::until(Duration::from_secs(30), "node_exporter answers", || http::get(&url, None));
    let accepted = || {
        let agents = control.agents();
        agents.first().and_then(|agent| agent["records_accepted"].as_f64()).unwrap_or(0.0)
    };
    wait::until(Duration::from_secs(60), "the agent reports", || {
        if accepted() >= 3.0 { Ok(()) } else { Err("not yet".to_owned()) }
    });
    let (ours, theirs) = (Meter::start(agent.id()), Meter::start(exporter.id()));
    let (ours_before, theirs_before, accepted_before) = (ours.cpu_s(), theirs.cpu_s(), accepted());
    let (watch, from_ms) = (wait::Stopwatch::start(), wait::wall_ms());
    let mut scraped = String::new();
    for round in 1..=ROUNDS {
        wait::pause((INTERVAL * round).saturating_sub(watch.elapsed()));
        scraped = http::get(&url, None).expect("node_exporter answers").ok().text;
    }
    wait::pause(Duration::from_millis(500));
    let collections = accepted() - accepted_before;
    let per_collection = (ours.cpu_s() - ours_before) / collections;
    let per_scrape = (theirs.cpu_s() - theirs_before) / f64::from(ROUNDS);
    let (frames, values) = collected(&control, (from_ms, wait::wall_ms()));
    let scraped = scraped.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count() as f64;
    report.figure("collections", collections, "");
    report.figure("agent: CPU a collection, spooled, synced, sent", per_collection * 1_000.0, "ms");
    report.figure("node_exporter: CPU a scrape", per_scrape * 1_000.0, "ms");
    report.bar("CPU, agent ÷ node_exporter", per_collection / per_scrape, "×", Bar::AtMost(1.0 / 6.0));
    report.figure("node_exporter: samples", scraped, "");
    report.figure("agent: frames", frames, "");
    report.bar("agent: samples a frame, mean", values / frames, "", Bar::AtLeast(scraped));
    report.bar("agent: RSS", ours.resident_bytes() as f64 / MB, "MB", Bar::AtMost(8.0));
    report.figure("agent: peak RSS", ours.peak_bytes() as f64 / MB, "MB");
    report.figure("node_exporter: RSS", theirs.resident_bytes() as f64 / MB, "MB");
    let size = std::fs::metadata(binary(AGENT)).map_or(f64::NAN, |meta| meta.len() as f64);
    report.bar("agent: binary", size / MB, "MB", Bar::AtMost(5.0));
    report
}

/// The agent's frames between two instants, and the values in them. What is measured less often counts in the frames
/// that it was measured for alone; a counter without a rate (it went back) does not count.
fn collected(control: &tongtu_tests::control::Control, (from_ms, to_ms): (i64, i64)) -> (f64, f64) {
    let targets = control.get("/api/v1/prometheus/targets").json();
    let path = targets[0]["labels"]["__metrics_path__"].as_str().expect("a target with its path").to_owned();
    let source = path.rsplit('/').next().expect("its source").to_owned();
    let shown = exporter::parse(&control.get(&path).text);
    let names: Vec<&str> = shown.keys().map(String::as_str).collect();
    let values = |metrics: &str| {
        let route = format!("/api/v1/series?source={source}&metric={metrics}&from_ms={from_ms}&to_ms={to_ms}");
        let answer = control.get(&route).json();
        let series = answer["series"].as_array().expect("series");
        let values = series.iter().filter_map(|series| series["value"].as_array()).flatten();
        values.filter(|value| !value.is_null()).count()
    };
    let all: usize = names.chunks(METRICS).map(|some| values(&some.join(","))).sum();
    (values("node_load1") as f64, all as f64)
}
