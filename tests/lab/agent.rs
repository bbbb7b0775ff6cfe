//! Agents: `tongtu-agent` of this machine, and `tongtu-simulator`, which plays many.

use crate::control::Control;
use crate::process::{self, Output, Process};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// Long enough for a busy machine.
const STOP: Duration = Duration::from_secs(30);

/// The agent of this machine.
#[derive(Debug)]
pub struct Agent {
    directory: PathBuf,
    /// Its certificate and spool.
    pub data: PathBuf,
    before: Vec<String>,
    process: Option<Process>,
}

impl Agent {
    /// One that is not enrolled, with its data in `directory/agent`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), data: directory.join("agent"), before: Vec::new(), process: None }
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
        let mut command = Command::new(process::binary("tongtu-agent"));
        command.args(["enroll", "--token", token, "--data"]).arg(&self.data);
        process::run(command, STOP)
    }

    /// Enrols it with control.
    #[track_caller]
    pub fn enroll(&mut self, control: &Control) -> &mut Self {
        let output = self.try_enroll(&control.enrolment_token(1));
        assert!(output.status.success(), "{}", output.stderr);
        self
    }

    /// The command that runs it.
    #[must_use]
    pub fn command(&self) -> Command {
        let binary = process::binary("tongtu-agent");
        let mut command = match self.before.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.arg("run").arg("--data").arg(&self.data);
        command
    }

    /// Runs it.
    #[track_caller]
    pub fn start(&mut self) -> &mut Self {
        assert!(self.process.is_none(), "it runs already");
        self.process = Some(Process::start("agent", self.command(), &self.directory));
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
