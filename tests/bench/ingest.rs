//! Taking in the same samples: control against victoria-metrics and prometheus.
//!
//! 200 agents play the recorded frames into control over the real protocol; then the very same values
//! go by remote write into each peer, one request a frame of an agent. CPU seconds are those of the server,
//! from its first sample until everything is compacted or merged.

use crate::fleet::{self, Fleet, Task};
use crate::measure::Meter;
use crate::peers::{Kind, Peer};
use crate::remote_write::{Label, Sample, TimeSeries, WriteRequest, Writer, pack};
use crate::report::{Bar, Report};
use crate::{Mode, control};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tongtu_protocol::v1;
use tongtu_simulator::recording::{Playback, Recording};
use tongtu_tests::control::Control;
use tongtu_tests::wait;

const AGENTS: u32 = 200;
const INTERVAL: Duration = Duration::from_secs(15);

/// What one server needed.
#[derive(Debug, Clone, Copy)]
struct Cost {
    samples: f64,
    cpu_s: f64,
    disk_bytes: f64,
}

impl Cost {
    fn per_cpu_second(self) -> f64 {
        self.samples / self.cpu_s
    }

    fn disk_per_sample(self) -> f64 {
        self.disk_bytes / self.samples
    }
}

/// The frames that are played.
pub(crate) fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/fixtures/host.frames")
}

/// How frames follow each other.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// One an interval, for so long.
    Paced(Duration),
    /// So many of each agent, the next when the one before is durable.
    Saturated(u32),
    /// So many of each agent, as quickly as they are taken; peers get requests of so many frames.
    Backlog(u32, u32),
}

impl Pace {
    fn name(self) -> &'static str {
        match self {
            Self::Paced(_) => "paced",
            Self::Saturated(_) => "saturated",
            Self::Backlog(..) => "backlog",
        }
    }

    /// Windows of the default size that are sealed at the first end of a slot after the run, where users wait
    /// for two hours: everything is compacted once, at the end, as the peers merge once.
    fn windows(self) -> String {
        let span = if let Self::Paced(duration) = self { duration } else { Duration::from_secs(60) };
        format!("[telemetry]\nwindow_span = \"{}s\"\n", span.as_secs())
    }
}

/// Runs every pace, or the one of this name.
pub(crate) fn run(mode: Mode, only: Option<&str>) -> Report {
    let mut report = Report::new("ingest", "recorded frames into control, victoria-metrics and prometheus");
    let recording = Arc::new(Recording::read(&fixture()).expect("the recorded frames"));
    let changed = recording.changed_share().expect("it was decoded when it was read");
    report.figure("columns of the recording", recording.columns().len() as f64, "");
    report.figure("frames of the recording", recording.bodies.len() as f64, "");
    report.figure("columns that change from frame to frame", changed * 100.0, "%");
    let (paced, frames) = match mode {
        Mode::Short => (Duration::from_secs(90), 120),
        Mode::Full => (Duration::from_secs(600), 480),
    };
    // The paced one ends with a slot; what came before it is compacted then as well.
    let paces =
        [(Pace::Saturated(frames), Some(8.0)), (Pace::Backlog(frames, 20), None), (Pace::Paced(paced), Some(5.0))];
    let asked = |(pace, bar): &(Pace, Option<f64>)| match only {
        Some(only) => only == pace.name(),
        None => mode == Mode::Full || bar.is_some(),
    };
    let played: Vec<_> = paces.into_iter().filter(asked).map(|(pace, bar)| (pace, bar, into_control(pace))).collect();
    control::wait_days_closed(played.iter().map(|(_, _, played)| &played.meter));
    for (pace, bar, played) in played {
        let name = pace.name();
        let (ours, frames) = settle(played);
        // As many frames as control was sent.
        let pace = if let Pace::Paced(_) = pace { Pace::Paced(INTERVAL * frames) } else { pace };
        put(&mut report, name, "tongtu", ours);
        let mut best = 0.0f64;
        for kind in [Kind::VictoriaMetrics, Kind::Prometheus] {
            let peer = into_peer(kind, pace, &recording);
            put(&mut report, name, kind.name(), peer);
            best = best.max(peer.per_cpu_second());
            if kind == Kind::VictoriaMetrics && matches!(pace, Pace::Saturated(_)) {
                let ratio = ours.disk_per_sample() / peer.disk_per_sample();
                report.bar("disk, tongtu ÷ victoria_metrics", ratio, "×", Bar::AtMost(1.0));
            }
        }
        let ratio = ours.per_cpu_second() / best;
        let title = format!("{name}: tongtu ÷ better peer, samples a CPU s");
        match bar {
            Some(bar) => report.bar(&title, ratio, "×", Bar::AtLeast(bar)),
            None => report.figure(&title, ratio, "×"),
        }
    }
    report
}

fn put(report: &mut Report, pace: &str, server: &str, cost: Cost) {
    report.figure(&format!("{pace}: {server}, samples"), cost.samples, "");
    report.figure(&format!("{pace}: {server}, CPU"), cost.cpu_s, "s");
    report.figure(&format!("{pace}: {server}, samples a CPU s"), cost.per_cpu_second(), "");
    report.figure(&format!("{pace}: {server}, disk a sample"), cost.disk_per_sample(), "B");
}

/// A fleet that has played, and its control, which has yet to compact.
struct Played {
    _folder: TempDir,
    control: Control,
    meter: Meter,
    figures: Value,
    /// Samples, and CPU seconds of control, that do not count.
    before: (f64, f64),
}

fn into_control(pace: Pace) -> Played {
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = control::start(folder.path(), &pace.windows());
    let meter = Meter::start(control.process().id());
    let (word, duration, history) = match pace {
        // Ended by hand.
        Pace::Paced(_) => ("paced", Duration::from_secs(7_200), String::new()),
        Pace::Saturated(frames) => ("saturated", Duration::from_secs(1_800), history(frames)),
        Pace::Backlog(frames, _) => ("backlog", Duration::from_secs(1_800), history(frames)),
    };
    let scenario = format!(
        "pacing = \"{word}\"\n{history}\n[[group]]\nname = \"host\"\nrecording = {:?}\n",
        fixture().display().to_string()
    );
    let task = Task { agents: AGENTS, interval: INTERVAL, duration, scenario: &scenario };
    let mut fleet = Fleet::start(&control, folder.path(), task);
    // Connecting is not taking in: measured from the moment when every agent reports.
    let before = match pace {
        Pace::Paced(at_least) => {
            let before = fleet.wait_reporting(Duration::from_secs(120)) as f64;
            let cpu_before = meter.cpu_s();
            fleet.play_to_slot_end(at_least);
            (before, cpu_before)
        }
        _ => (0.0, fleet.wait_enrolled(Duration::from_secs(120), &meter)),
    };
    let figures = fleet.finish(duration + Duration::from_secs(600));
    Played { _folder: folder, control, meter, figures, before }
}

/// Once everything is compacted: what it cost, and how many frames each agent sent.
fn settle(played: Played) -> (Cost, u32) {
    let Played { _folder, mut control, meter, figures, before } = played;
    let samples = fleet::number(&figures, "/samples_acknowledged");
    let cpu_s = meter.cpu_s() - before.1;
    drop(meter);
    control.interrupt();
    let disk_bytes = control::store_bytes(&control.data).in_use as f64;
    let counted = samples - before.0;
    // The disk holds the samples before the mark as well.
    let frames = fleet::number(&figures, "/frames_acknowledged") / f64::from(AGENTS);
    (Cost { samples: counted, cpu_s, disk_bytes: disk_bytes * counted / samples }, frames.round() as u32)
}

fn history(frames: u32) -> String {
    format!("history = \"{}ms\"", (INTERVAL * frames).as_millis())
}

/// One agent's next request.
struct Player {
    playback: Playback,
    request: WriteRequest,
    columns: Vec<usize>,
}

impl Player {
    fn new(recording: &Arc<Recording>, index: u32) -> Self {
        let playback = Playback::new(Arc::clone(recording), u64::from(index)).expect("it was decoded when it was read");
        Self { playback, request: WriteRequest::default(), columns: Vec::new() }
    }

    /// `frames` frames from `instant_ms` on.
    fn fill(&mut self, index: u32, instant_ms: i64, frames: u32) -> u64 {
        let recording = Arc::clone(self.playback.recording());
        if self.request.timeseries.is_empty() {
            self.columns = (0..recording.columns().len()).collect();
            self.request.timeseries = recording.columns().iter().map(|column| series(column, index)).collect();
        }
        self.request.timeseries.iter_mut().for_each(|series| series.samples.clear());
        let mut samples = 0;
        for frame in 0..frames {
            self.playback.advance();
            let timestamp = instant_ms + i64::from(frame) * INTERVAL.as_millis() as i64;
            for (column, value) in self.playback.state().iter().enumerate() {
                if let Some(value) = value {
                    let value = value as f64 * 10f64.powi(recording.columns()[column].exponent);
                    self.request.timeseries[column].samples.push(Sample { value, timestamp });
                    samples += 1;
                }
            }
        }
        samples
    }

    /// The request without series that have no sample in it.
    fn packed(&self) -> Vec<u8> {
        if self.request.timeseries.iter().all(|series| !series.samples.is_empty()) {
            return pack(&self.request);
        }
        let timeseries = self.request.timeseries.iter().filter(|series| !series.samples.is_empty()).cloned().collect();
        pack(&WriteRequest { timeseries })
    }
}

fn series(column: &v1::Column, index: u32) -> TimeSeries {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let mut labels =
        vec![label("__name__", &column.metric), label("instance", &format!("host-{index:05}")), label("job", "tongtu")];
    labels.extend(column.labels.iter().map(|one| label(&one.name, &one.value)));
    labels.sort_by(|a, b| a.name.cmp(&b.name));
    TimeSeries { labels, samples: Vec::new() }
}

fn into_peer(kind: Kind, pace: Pace, recording: &Arc<Recording>) -> Cost {
    let folder = tempfile::tempdir().expect("a folder");
    let peer = Peer::start(kind, folder.path());
    let mut players: Vec<Player> = (0..AGENTS).map(|index| Player::new(recording, index)).collect();
    let mut writer = Writer::connect(peer.address);
    let (rounds, frames) = match pace {
        Pace::Paced(duration) => ((duration.as_secs() / INTERVAL.as_secs()) as u32, 1),
        Pace::Saturated(frames) => (frames, 1),
        Pace::Backlog(frames, batch) => (frames / batch, batch),
    };
    let interval_ms = INTERVAL.as_millis() as i64;
    let begin_ms = match pace {
        Pace::Paced(_) => wait::wall_ms(),
        _ => wait::wall_ms() - i64::from(rounds * frames) * interval_ms,
    };
    let mut cpu_before = peer.meter.cpu_s();
    let (watch, mut samples, mut before) = (wait::Stopwatch::start(), 0, 0);
    for round in 0..rounds {
        if let (1, Pace::Paced(_)) = (round, pace) {
            // As of control: from when every agent has reported, so that new series are not counted.
            (before, cpu_before) = (samples, peer.meter.cpu_s());
        }
        for (index, player) in (0u32..).zip(&mut players) {
            wait::check();
            let instant_ms = begin_ms + i64::from(round * frames) * interval_ms;
            if let Pace::Paced(_) = pace {
                // Spread over the interval, as agents are.
                let due = INTERVAL * round + INTERVAL * index / AGENTS;
                wait::pause(due.saturating_sub(watch.elapsed()));
            }
            samples += player.fill(index, instant_ms, frames);
            writer.write_packed(&player.packed());
        }
    }
    peer.merge();
    let cpu_s = peer.meter.cpu_s() - cpu_before;
    let counted = (samples - before) as f64;
    // The disk holds the samples before the mark as well.
    let disk_bytes = peer.disk_bytes() as f64 * counted / samples as f64;
    Cost { samples: counted, cpu_s, disk_bytes }
}
