//! `tongtu-simulator`: many agents of one process.

use crate::process::{self, Process};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A fleet that plays.
#[derive(Debug)]
pub struct Simulator {
    process: Process,
    /// What was acknowledged, as the fleet saw it.
    pub log: PathBuf,
}

/// How a fleet is started.
#[derive(Debug, Clone)]
pub struct Fleet<'a> {
    /// An enrolment token for all of them.
    pub token: &'a str,
    /// How many.
    pub agents: u32,
    /// Between two frames of one.
    pub interval: &'a str,
    /// How long frames are made.
    pub duration: &'a str,
    /// What happens to them.
    pub scenario: Option<&'a str>,
}

impl Simulator {
    /// Starts a fleet; its log and scenario are in `directory`.
    #[must_use]
    #[track_caller]
    pub fn start(directory: &Path, fleet: &Fleet<'_>) -> Self {
        let log = directory.join("acknowledged.log");
        let mut command = Command::new(process::binary("tongtu-simulator"));
        command.args(["--token", fleet.token, "--agents", &fleet.agents.to_string()]);
        command.args(["--interval", fleet.interval, "--duration", fleet.duration, "--json"]);
        command.arg("--log").arg(&log);
        if let Some(scenario) = fleet.scenario {
            let path = directory.join("scenario.toml");
            std::fs::write(&path, scenario).expect("the scenario");
            command.arg("--scenario").arg(path);
        }
        Self { process: Process::start("simulator", command, directory), log }
    }

    /// Waits for its end, and returns the figures that it printed.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> serde_json::Value {
        let status = self.process.wait(limit);
        let log = self.process.log();
        assert!(status.success(), "the simulator failed ({status}):\n{log}");
        // What it logs goes to stderr, into the same file, before.
        let begin = log.rfind("\n{").map_or(0, |at| at + 1);
        serde_json::from_str(log[begin..].trim()).unwrap_or_else(|err| panic!("no figures ({err}):\n{log}"))
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
