//! The agent of a hypervisor beside Debian's libvirt exporter, on the same guests: what a collection and a scrape
//! cost each of the two processes.

use crate::measure::Meter;
use crate::report::{Bar, Report};
use crate::{Mode, agent, control};
use std::process::Command;
use std::time::Duration;
use tongtu_tests::control::listed;
use tongtu_tests::guest::Plan;
use tongtu_tests::hypervisor::{self, Hypervisor};
use tongtu_tests::process::Process;
use tongtu_tests::{http, ports, wait};

const INTERVAL: Duration = Duration::from_secs(15);
const GUESTS: u8 = 6;
const MB: f64 = 1e6;
const EXPORTER: &str = "prometheus-libvirt-exporter";

/// Runs it.
pub(crate) fn run(mode: Mode) -> Report {
    let mut report = Report::new("libvirt", "tongtu-agent-libvirt beside prometheus-libvirt-exporter, every 15 s");
    let rounds = match mode {
        Mode::Short => 6,
        Mode::Full => 40,
    };
    assert!(hypervisor::is_possible(), "no virtual machines can be had here (scripts/install.sh bench)");
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = Hypervisor::start(folder.path(), "bench", 9);
    for number in 1..=GUESTS {
        cloud.boot(&Plan::new(&format!("guest-{number}"), 100 + number));
    }
    let control = control::start(folder.path(), "");
    let data = folder.path().join("agent");
    let binary = agent::binary("tongtu-agent-libvirt");
    let token = control.enrolment_token(1);
    let enrolled = Command::new(&binary).args(["enroll", "--token", &token, "--data"]).arg(&data).status();
    assert!(enrolled.expect("the agent starts").success(), "the agent does not enrol");
    let mut command = Command::new(&binary);
    command.arg("run").arg("--data").arg(&data).args(["--connect", &cloud.uri()]);
    let ours = Process::start("agent", command, folder.path());
    let address = ports::free();
    let mut command = Command::new(EXPORTER);
    command.arg(format!("--web.listen-address={address}")).arg(format!("--libvirt.uri={}", cloud.uri()));
    let theirs = Process::start("libvirt-exporter", command, folder.path());
    let url = format!("http://{address}/metrics");
    wait::until(Duration::from_secs(30), "the exporter answers", || http::get(&url, None));
    let sources = || listed(&control.get("/api/v1/sources?limit=100").json());
    // Frames that the agent took, and samples in the last of each source.
    let node = || {
        let node = sources().into_iter().find(|source| source["kind"] == "libvirt_node")?;
        let text = control.get(&format!("/metrics/sources/{}", node["id"].as_str()?)).text;
        text.lines().find_map(|line| line.strip_prefix("tongtu_agent_frames_total ")?.parse::<f64>().ok())
    };
    wait::until(Duration::from_secs(90), "the agent reports every guest", || {
        let found = sources().len();
        let frames = node().unwrap_or(0.0);
        if found == usize::from(GUESTS) + 1 && frames >= 3.0 { Ok(()) } else { Err(format!("{found}, {frames}")) }
    });
    let (our_meter, their_meter) = (Meter::start(ours.id()), Meter::start(theirs.id()));
    let (ours_before, theirs_before, frames_before) = (our_meter.cpu_s(), their_meter.cpu_s(), node().unwrap_or(0.0));
    let watch = wait::Stopwatch::start();
    let mut scraped = String::new();
    for round in 1..=rounds {
        wait::pause((INTERVAL * round).saturating_sub(watch.elapsed()));
        scraped = http::get(&url, None).expect("the exporter answers").ok().text;
    }
    wait::pause(Duration::from_millis(500));
    let collections = node().unwrap_or(f64::NAN) - frames_before;
    let per_collection = (our_meter.cpu_s() - ours_before) / collections;
    let per_scrape = (their_meter.cpu_s() - theirs_before) / f64::from(rounds);
    let count = |text: &str| text.lines().filter(|line| line.starts_with("libvirt_")).count() as f64;
    let samples: f64 = sources()
        .iter()
        .filter_map(|source| {
            source["id"].as_str().map(|id| count(&control.get(&format!("/metrics/sources/{id}")).text))
        })
        .sum();
    report.figure("guests", GUESTS.into(), "");
    report.figure("collections", collections, "");
    report.figure("agent: CPU a collection, spooled, synced, sent", per_collection * 1_000.0, "ms");
    report.figure("exporter: CPU a scrape", per_scrape * 1_000.0, "ms");
    report.bar("CPU, agent ÷ exporter", per_collection / per_scrape, "×", Bar::AtMost(1.0 / 3.0));
    report.figure("exporter: samples of its family", count(&scraped), "");
    report.bar("agent: samples of that family", samples, "", Bar::AtLeast(count(&scraped)));
    report.figure("agent: RSS", our_meter.resident_bytes() as f64 / MB, "MB");
    report.figure("exporter: RSS", their_meter.resident_bytes() as f64 / MB, "MB");
    let size = std::fs::metadata(&binary).map_or(f64::NAN, |meta| meta.len() as f64);
    report.figure("agent: binary", size / MB, "MB");
    report
}
