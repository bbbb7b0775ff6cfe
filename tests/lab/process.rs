//! Processes: the built binaries and the servers, started with their output in a file, signalled by
//! id, and ended when their value is dropped.

use crate::wait;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

/// A process that runs until it is stopped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    group: bool,
}

impl Process {
    /// Starts a command; what it prints is appended to `NAME.log` in `directory`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn start(name: &str, command: Command, directory: &Path) -> Self {
        Self::spawn(name, command, directory, false)
    }

    /// Starts a command that starts others: signals go to all of them, as from a terminal.
    #[must_use]
    #[track_caller]
    pub fn start_group(name: &str, mut command: Command, directory: &Path) -> Self {
        command.process_group(0);
        Self::spawn(name, command, directory, true)
    }

    #[track_caller]
    fn spawn(name: &str, mut command: Command, directory: &Path, group: bool) -> Self {
        let log = directory.join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log).expect("the log of a process");
        let child = command
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap_or_else(|err| panic!("{name} does not start ({err}): {command:?}"));
        Self { name: name.to_owned(), child, log, group }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            // A child that has not been waited for keeps its id.
            let pid = Pid::from_child(&self.child);
            let _ = if self.group { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
        }
    }

    /// kill -9, and waits for its end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// At the deadline.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        wait::until(limit, &format!("the end of {name}"), || self.ended().ok_or_else(|| "it runs".to_owned()))
    }

    /// SIGINT, as Ctrl-C does, and its exit status.
    #[track_caller]
    pub fn interrupt(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::INT);
        self.wait(limit)
    }

    /// Resident memory in bytes; 0 after its end.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() && !wait::is_interrupted() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(25)..].join("\n");
            eprintln!("--- last lines of {} ---\n{tail}", self.name);
        }
    }
}

/// What a command that ends by itself said.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started or does not end in time.
#[must_use]
#[track_caller]
pub fn run(mut command: Command, limit: Duration) -> Output {
    let out = tempfile::NamedTempFile::new().expect("a file for the output");
    let err = tempfile::NamedTempFile::new().expect("a file for the output");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(out.reopen().expect("the output's file"))
        .stderr(err.reopen().expect("the output's file"))
        .spawn()
        .unwrap_or_else(|error| panic!("does not start ({error}): {command:?}"));
    let read = |file: &tempfile::NamedTempFile| {
        String::from_utf8_lossy(&std::fs::read(file.path()).unwrap_or_default()).into_owned()
    };
    let watch = wait::Stopwatch::start();
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break status;
        }
        if watch.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            panic!("not done within {limit:?}: {command:?}\n{}{}", read(&out), read(&err));
        }
        wait::pause(Duration::from_millis(5));
    };
    Output { status, stdout: read(&out), stderr: read(&err) }
}

/// One of the workspace's binaries, beside this test in cargo's target folder.
///
/// # Panics
/// When it is not built, or older than a source it is made of: `cargo test -p tongtu-tests` alone
/// does not build the binaries.
#[must_use]
#[track_caller]
pub fn binary(name: &str) -> PathBuf {
    let build = "build it with `cargo build --workspace --all-targets`";
    let me = std::env::current_exe().expect("this test's own path");
    let profile =
        if me.parent().is_some_and(|folder| folder.ends_with("deps")) { me.ancestors().nth(2) } else { me.parent() };
    let path = profile.expect("cargo's target folder").join(name);
    let built = modified(&path).unwrap_or_else(|| panic!("{} is not there; {build}", path.display()));
    // Cargo writes what a binary was made of beside it, as a Makefile rule.
    let rule = std::fs::read_to_string(path.with_extension("d")).unwrap_or_default();
    let sources = rule.split_once(": ").map_or("", |(_, sources)| sources);
    for source in sources.split_whitespace() {
        let newer = modified(Path::new(source)).is_none_or(|changed| changed > built);
        assert!(!newer, "{} is older than {source}; {build}", path.display());
    }
    path
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}
