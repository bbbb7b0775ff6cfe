//! Our own scale: simulated fleets against control, durable, compaction included.

use crate::fleet::{self, Fleet, Task};
use crate::measure::Meter;
use crate::report::{Bar, Report};
use crate::{Mode, control};
use serde_json::Value;
use std::time::Duration;
use tempfile::TempDir;
use tongtu_tests::control::Control;
use tongtu_tests::wait;

const INTERVAL: Duration = Duration::from_secs(15);
const MB: f64 = 1e6;
/// A throughput knows the machine, and a virtual machine's speed changes within minutes with what its neighbours do:
/// always to the worse, so the best of as many runs has the bar.
const RUNS: usize = 3;

/// What is measured of a fleet.
#[derive(Clone)]
struct Case {
    name: &'static str,
    agents: u32,
    scenario: String,
    duration: Duration,
    /// Samples a CPU second of control.
    bar: Option<f64>,
    runs: usize,
}

impl Case {
    fn title(&self) -> String {
        format!("{} {}", self.agents, self.name)
    }
}

/// Runs all cases, or the one of this name.
pub(crate) fn run(mode: Mode, only: Option<&str>) -> Report {
    let mut report = Report::new("scale", "simulated fleets of 544 columns an agent, durable, compaction included");
    let paced = match mode {
        Mode::Short => [75, 240],
        Mode::Full => [420, 420],
    }
    .map(Duration::from_secs);
    let saturated = match mode {
        Mode::Short => Duration::from_secs(40),
        Mode::Full => Duration::from_secs(75),
    };
    let history = match mode {
        Mode::Short => "30m",
        Mode::Full => "2h",
    };
    let steady = |pacing: &str, rest: &str| format!("pacing = \"{pacing}\"\n{rest}\n");
    let paced = |agents| {
        // The smaller ones show growth. That the agents leave at the end counts as well, so it must not weigh much.
        let largest = agents == 10_000;
        let (bar, duration) = (largest.then_some(3e6), paced[usize::from(largest)]);
        Case { name: "paced", agents, scenario: steady("paced", ""), duration, bar, runs: 1 }
    };
    // So far back that the present is not reached, and so near that all of it lies in days that are not closed yet.
    let scenario = steady("saturated", "history = \"3h\"");
    let saturated =
        Case { name: "saturated", agents: 1_000, scenario, duration: saturated, bar: Some(7e6), runs: RUNS };
    let scenario = steady("backlog", &format!("history = \"{history}\""));
    let duration = Duration::from_secs(1_800);
    let backlog = Case { name: "backlog", agents: 1_000, scenario, duration, bar: Some(15e6), runs: RUNS };
    // The paced ones end with a slot; what came before them is compacted then as well.
    let cases = [saturated, backlog, paced(1_000), paced(3_000), paced(10_000)];
    let asked = |case: &Case| only.is_none_or(|only| only == case.title());
    let cases: Vec<_> = cases.into_iter().filter(asked).collect();
    let play_all = |case: Case| -> Vec<_> { (0..case.runs).map(|_| play(case.clone())).collect() };
    match mode {
        // One wait for a slot's end for all of them.
        Mode::Short => {
            let played: Vec<_> = cases.into_iter().map(play_all).collect();
            control::wait_compacted(played.iter().flatten().map(|played| &played.meter));
            played.into_iter().for_each(|runs| settle(&mut report, runs));
        }
        Mode::Full => {
            for case in cases {
                let runs = play_all(case);
                control::wait_compacted(runs.iter().map(|played| &played.meter));
                settle(&mut report, runs);
            }
        }
    }
    report
}

/// A fleet that has played, and its control, which has yet to compact.
struct Played {
    case: Case,
    _folder: TempDir,
    control: Control,
    meter: Meter,
    figures: Value,
    /// Samples, and CPU seconds of control, that do not count.
    before: (f64, f64),
    /// Share of a core while it reported.
    share: f64,
    resident: f64,
}

fn play(case: Case) -> Played {
    let folder = tempfile::tempdir().expect("a folder");
    let windows = if case.name == "paced" { control::SHORT_WINDOWS } else { control::SMALL_WINDOWS };
    let mut control = control::start(folder.path(), windows);
    let meter = Meter::start(control.process().id());
    // A paced fleet is ended by hand.
    let duration = if case.name == "paced" { Duration::from_secs(7_200) } else { case.duration };
    let task = Task { agents: case.agents, interval: INTERVAL, duration, scenario: &case.scenario };
    let mut fleet = Fleet::start(&control, folder.path(), task);
    let connect = Duration::from_secs(600);
    let before = if case.name == "paced" {
        // The cost of a connection is another figure: measured from when every agent reports.
        let before = fleet.wait_reporting(connect) as f64;
        (before, meter.cpu_s())
    } else {
        (0.0, fleet.wait_enrolled(connect, &meter))
    };
    let watch = wait::Stopwatch::start();
    let cpu_connected = meter.cpu_s();
    if case.name == "paced" {
        fleet.play_to_slot_end(case.duration);
    }
    let figures = fleet.finish(case.duration + Duration::from_secs(1_200));
    let share = (meter.cpu_s() - cpu_connected) / watch.elapsed().as_secs_f64();
    let resident = meter.resident_bytes() as f64;
    Played { case, _folder: folder, control, meter, figures, before, share, resident }
}

impl Played {
    /// Samples that count.
    fn samples(&self) -> f64 {
        fleet::number(&self.figures, "/samples_acknowledged") - self.before.0
    }

    /// What they cost so far.
    fn cpu_s(&self) -> f64 {
        self.meter.cpu_s() - self.before.1
    }

    fn throughput(&self) -> f64 {
        self.samples() / self.cpu_s()
    }
}

/// Once everything is compacted: what the best run cost.
fn settle(report: &mut Report, mut runs: Vec<Played>) {
    runs.sort_by(|a, b| b.throughput().total_cmp(&a.throughput()));
    let slower: Vec<_> = runs.split_off(1).iter().map(Played::throughput).collect();
    let played = runs.remove(0);
    let (samples, cpu_s) = (played.samples(), played.cpu_s());
    let Played { case, _folder, mut control, meter, figures, share, resident, .. } = played;
    let title = format!("{}:", case.title());
    report.figure(&format!("{title} samples"), samples, "");
    report.figure(&format!("{title} CPU of control"), cpu_s, "s");
    match case.bar {
        Some(bar) => report.bar(&format!("{title} samples a CPU s"), samples / cpu_s, "", Bar::AtLeast(bar)),
        None => report.figure(&format!("{title} samples a CPU s"), samples / cpu_s, ""),
    }
    for (place, throughput) in slower.into_iter().enumerate() {
        report.figure(&format!("{title} samples a CPU s of run {} of {}", place + 2, case.runs), throughput, "");
    }
    report.figure(&format!("{title} share of a core while it reports"), share * 100.0, "%");
    report.bar(&format!("{title} peak RSS of control"), meter.peak_bytes() as f64 / MB, "MB", Bar::AtMost(900.0));
    report.figure(&format!("{title} RSS of control while it reports"), resident / MB, "MB");
    let ack_bar = (case.name == "paced").then_some(Bar::AtMost(500.0));
    fleet::put_latency(report, &title, &figures, ack_bar);
    drop(meter);
    control.interrupt();
    let bytes = control::store_bytes(&control.data);
    let all = fleet::number(&figures, "/samples_acknowledged");
    report.figure(&format!("{title} disk a sample"), bytes.in_use as f64 / all, "B");
    report.figure(&format!("{title} database file"), bytes.file as f64 / MB, "MB");
}

/// Ready again after kill -9 with a window that is nearly full.
pub(crate) fn restart(mode: Mode) -> Report {
    let mut report = Report::new("restart", "kill -9 with a full window, until ready again");
    // As configured by default a window is sealed at 256 MiB; here it stays open up to twice that.
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = control::start(folder.path(), "");
    let (agents, history) = match mode {
        Mode::Short => (1_600, "1h"),
        Mode::Full => (10_000, "30m"),
    };
    let scenario = format!("pacing = \"backlog\"\nhistory = \"{history}\"\n");
    let task = Task { agents, interval: INTERVAL, duration: Duration::from_secs(1_800), scenario: &scenario };
    let figures = Fleet::start(&control, folder.path(), task).finish(Duration::from_secs(1_800));
    control.kill();
    let bytes = control::store_bytes(&control.data);
    let watch = wait::Stopwatch::start();
    control.start();
    let ready = watch.elapsed();
    report.figure("agents", f64::from(agents), "");
    report.figure("samples received before", fleet::number(&figures, "/samples_acknowledged"), "");
    report.figure("database file", bytes.file as f64 / MB, "MB");
    report.bar("ready again after", ready.as_secs_f64(), "s", Bar::AtMost(10.0));
    report
}
