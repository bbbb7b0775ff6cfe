//! Running `tongtu-simulator` against a control, and reading what it says.

use crate::control;
use crate::measure::Meter;
use crate::report::Report;
use rustix::process::{Pid, Signal, kill_process, setpriority_process};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tongtu_tests::control::Control;
use tongtu_tests::{process, wait};

/// The lowest priority.
const LAST: i32 = 19;
/// For the last acknowledgements.
const BEFORE_SLOT_END: Duration = Duration::from_secs(2);

/// A simulator that runs.
#[derive(Debug)]
pub(crate) struct Fleet {
    child: std::process::Child,
    said: std::path::PathBuf,
    document: std::path::PathBuf,
}

/// What a fleet is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'a> {
    /// How many agents.
    pub(crate) agents: u32,
    /// Between two frames.
    pub(crate) interval: Duration,
    /// At most.
    pub(crate) duration: Duration,
    /// A scenario file's content.
    pub(crate) scenario: &'a str,
}

impl Fleet {
    /// Starts it.
    pub(crate) fn start(control: &Control, folder: &Path, task: Task<'_>) -> Self {
        let scenario = folder.join("scenario.toml");
        std::fs::write(&scenario, task.scenario).expect("the scenario");
        let (said, document) = (folder.join("simulator.log"), folder.join("simulator.json"));
        let open = |path: &Path| std::fs::File::create(path).expect("an output file");
        let child = Command::new(process::binary("tongtu-simulator"))
            .args(["--token", &control.enrolment_token(task.agents)])
            .args(["--agents", &task.agents.to_string()])
            .args(["--interval", &format!("{}ms", task.interval.as_millis())])
            .args(["--duration", &format!("{}ms", task.duration.as_millis())])
            .arg("--scenario")
            .arg(&scenario)
            .arg("--json")
            .stdin(Stdio::null())
            .stdout(open(&document))
            .stderr(open(&said))
            .spawn()
            .expect("the simulator starts");
        Self { child, said, document }
    }

    /// From now on it takes what the rest of this machine leaves: the machines it stands for would be elsewhere.
    pub(crate) fn give_way(&self) {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("our own child");
        for thread in threads.flatten().filter_map(|thread| thread.file_name().to_str()?.parse().ok()) {
            // One that has ended meanwhile needs no place.
            let _ = setpriority_process(Pid::from_raw(thread), LAST);
        }
    }

    /// Waits until every agent has had a frame acknowledged; the samples acknowledged by then.
    pub(crate) fn wait_reporting(&mut self, limit: Duration) -> u64 {
        self.wait_line("reporting: samples_acknowledged ", limit)
    }

    /// Waits for a line on its error output; the number behind its beginning.
    fn wait_line(&mut self, begin: &str, limit: Duration) -> u64 {
        wait::until(limit, begin, || {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                panic!("the simulator ended ({status}):\n{}", self.said());
            }
            let said = self.said();
            let line = said.lines().find_map(|line| line.strip_prefix(begin));
            line.and_then(|number| number.trim().parse().ok())
                .ok_or_else(|| said.lines().last().unwrap_or_default().to_owned())
        })
    }

    /// Waits until every agent has its certificate; the CPU seconds of control by then.
    pub(crate) fn wait_enrolled(&mut self, limit: Duration, meter: &Meter) -> f64 {
        self.wait_line("enrolled ", limit);
        meter.cpu_s()
    }

    /// Lets it play for so long, and on until a slot is about to end; then no more frames are made. What has
    /// been received is compacted when the slot ends, so nothing is measured of a control that idles.
    pub(crate) fn play_to_slot_end(&self, at_least: Duration) {
        wait::pause(at_least);
        wait::pause(control::until_slot_end().saturating_sub(BEFORE_SLOT_END));
        self.interrupt();
    }

    /// No more frames are made; the last ones are waited for. Its figures.
    pub(crate) fn end(self, limit: Duration) -> Value {
        self.interrupt();
        self.finish(limit)
    }

    fn interrupt(&self) {
        // A child that has not been waited for keeps its id.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
    }

    /// Waits for its end; its figures.
    pub(crate) fn finish(mut self, limit: Duration) -> Value {
        let status = wait::until(limit, "the end of the simulator", || {
            self.child
                .try_wait()
                .expect("our own child")
                .ok_or_else(|| self.said().lines().last().unwrap_or_default().to_owned())
        });
        let text = std::fs::read_to_string(&self.document).unwrap_or_default();
        let figures = serde_json::from_str(&text).unwrap_or(Value::Null);
        assert!(status.success(), "the simulator failed ({status}): {figures}\n{}", self.said());
        figures
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number of the simulator's figures.
pub(crate) fn number(figures: &Value, path: &str) -> f64 {
    figures.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// The latency of acknowledgements, with the bar of half a second where it applies.
pub(crate) fn put_latency(report: &mut Report, prefix: &str, figures: &Value, bar: Option<crate::report::Bar>) {
    // With a bar: of a fleet at work, not of thousands that connect at once.
    let of = if bar.is_some() { "/steady_acknowledgement_ms" } else { "/acknowledgement_ms" };
    report.figure(&format!("{prefix} acknowledgement p50"), number(figures, &format!("{of}/p50")), "ms");
    let name = format!("{prefix} acknowledgement p99");
    let p99 = number(figures, &format!("{of}/p99"));
    match bar {
        Some(bar) => report.bar(&name, p99, "ms", bar),
        None => report.figure(&name, p99, "ms"),
    }
}
