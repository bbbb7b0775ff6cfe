//! Agents on the real runtime: `tongtu-agent` of this machine, `tongtu-agent-libvirt` of a hypervisor, and
//! `tongtu-lab-agent`, whose column carries a sequence and whose log says what was made.

use crate::control::Control;
use crate::process::{self, Output, Process};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// Long enough for a busy machine.
const STOP: Duration = Duration::from_secs(30);

/// One agent.
#[derive(Debug)]
pub struct Agent {
    directory: PathBuf,
    name: String,
    binary: &'static str,
    arguments: Vec<String>,
    /// Its certificate and spool.
    pub data: PathBuf,
    before: Vec<String>,
    process: Option<Process>,
}

impl Agent {
    /// The host agent, not enrolled, with its data in `directory/agent`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self::of(directory, "agent", "tongtu-agent")
    }

    /// An agent of the laboratory, not enrolled, with its data in `directory/NAME`.
    #[must_use]
    pub fn lab(directory: &Path, name: &str) -> Self {
        let mut agent = Self::of(directory, name, "tongtu-lab-agent");
        agent.arguments = vec!["--log".to_owned(), agent.log_path().display().to_string()];
        agent
    }

    /// The agent of a hypervisor, not enrolled, with its data in `directory/NAME`.
    #[must_use]
    pub fn libvirt(directory: &Path, name: &str, uri: &str) -> Self {
        let mut agent = Self::of(directory, name, "tongtu-agent-libvirt");
        agent.arguments = vec!["--connect".to_owned(), uri.to_owned()];
        agent
    }

    fn of(directory: &Path, name: &str, binary: &'static str) -> Self {
        Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
            binary,
            arguments: Vec::new(),
            data: directory.join(name),
            before: Vec::new(),
            process: None,
        }
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join(format!("{}.made", self.name))
    }

    /// Its id at control.
    ///
    /// # Panics
    /// When it is not enrolled.
    #[must_use]
    #[track_caller]
    pub fn id(&self) -> String {
        let text = std::fs::read_to_string(self.data.join("identity.json")).expect("an enrolled agent");
        let identity: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        identity["agent_id"].as_str().unwrap_or_else(|| panic!("no agent_id: {text}")).to_owned()
    }

    /// What a laboratory's agent made, by its own log: every number, and those that must be in its
    /// spool: all but the last two of a run, which a kill may find between log and spool.
    #[must_use]
    pub fn made(&self) -> (BTreeSet<i64>, BTreeSet<i64>) {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let (mut all, mut surely) = (BTreeSet::new(), BTreeSet::new());
        for run in text.split("start\n") {
            let numbers: Vec<i64> = run.lines().filter_map(|line| line.parse().ok()).collect();
            surely.extend(&numbers[..numbers.len().saturating_sub(2)]);
            all.extend(numbers);
        }
        (all, surely)
    }

    /// With its data elsewhere.
    #[must_use]
    pub fn with_data(mut self, data: &Path) -> Self {
        data.clone_into(&mut self.data);
        self
    }

    /// Started by another program, such as strace: its arguments come before the agent's own.
    #[must_use]
    pub fn under(mut self, program: &[&str]) -> Self {
        self.before = program.iter().map(|&part| part.to_owned()).collect();
        self
    }

    /// `tongtu-agent enroll`.
    #[must_use]
    #[track_caller]
    pub fn try_enroll(&self, token: &str) -> Output {
        self.try_enroll_with(token, &[])
    }

    /// The same with more arguments.
    #[must_use]
    #[track_caller]
    pub fn try_enroll_with(&self, token: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(process::binary(self.binary));
        command.args(["enroll", "--token", token, "--data"]).arg(&self.data).args(arguments);
        process::run(command, STOP)
    }

    /// Fills the spool of a laboratory's agent that does not run, as if control had been away for so many
    /// frames, one every 15 s, before this machine's boot.
    #[track_caller]
    pub fn spool_history(&self, frames: u32) {
        let mut command = Command::new(process::binary(self.binary));
        command.args(["history", "--frames", &frames.to_string(), "--data"]).arg(&self.data).args(&self.arguments);
        let output = process::run(command, Duration::from_secs(120));
        assert!(output.status.success(), "{}", output.stderr);
    }

    /// Enrols it with control, and sets it to a frame every second.
    #[track_caller]
    pub fn enroll(&mut self, control: &Control) -> &mut Self {
        let output = self.try_enroll(&control.enrolment_token(1));
        assert!(output.status.success(), "{}", output.stderr);
        std::fs::write(self.data.join("agent.toml"), "interval = \"1s\"\n").expect("its configuration");
        self
    }

    /// The command that runs it.
    #[must_use]
    pub fn command(&self) -> Command {
        let binary = process::binary(self.binary);
        let mut command = match self.before.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.arg("run").arg("--data").arg(&self.data).args(&self.arguments);
        command
    }

    /// Runs it.
    #[track_caller]
    pub fn start(&mut self) -> &mut Self {
        assert!(self.process.is_none(), "it runs already");
        self.process = Some(Process::start(&self.name, self.command(), &self.directory));
        self
    }

    /// The process.
    #[track_caller]
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Ctrl-C, and how it ended.
    #[track_caller]
    pub fn interrupt(&mut self) -> ExitStatus {
        self.process.take().expect("it runs").interrupt(STOP)
    }
}
