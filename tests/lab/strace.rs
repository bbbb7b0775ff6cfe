//! strace on a running process: the order of its system calls, and calls made slow or made to fail.

use crate::process::Process;
use crate::wait;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// An attached strace.
#[derive(Debug)]
pub struct Strace {
    process: Process,
    trace: PathBuf,
}

/// One system call, at the moment it returned (`end`) or began (`begin`): places in the trace.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its arguments; of a file descriptor its path or addresses as well.
    pub arguments: String,
    /// Line of its begin.
    pub begin: usize,
    /// Line of its return.
    pub end: usize,
    /// What it returned; below 0 where it failed.
    pub result: i64,
}

impl Strace {
    /// Attaches to a process and all its threads, if this machine lets it.
    #[track_caller]
    pub fn attach(directory: &Path, id: u32, expressions: &[&str]) -> Option<Self> {
        if !crate::has("strace", crate::on_path("strace")) {
            return None;
        }
        let trace = directory.join("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-yy", "-s", "0", "-e", "signal=none", "-o"]).arg(&trace);
        for expression in expressions {
            command.args(["-e", expression]);
        }
        command.args(["-p", &id.to_string()]);
        let mut process = Process::start("strace", command, directory);
        let attached = wait::until(Duration::from_secs(20), "strace attaches", || {
            if process.ended().is_some() {
                return Ok(false);
            }
            process.log().contains("attached").then_some(true).ok_or(process.log())
        });
        crate::has(&format!("leave to trace ({})", process.log().trim()), attached).then_some(Self { process, trace })
    }

    /// Detaches, and returns the calls in the order of their return.
    #[must_use]
    #[track_caller]
    pub fn detach(mut self) -> Vec<Call> {
        self.process.signal(Signal::INT);
        self.process.wait(Duration::from_secs(20));
        calls(&std::fs::read_to_string(&self.trace).expect("the trace"))
    }
}

/// Reads a trace: lines of `ID NAME(ARGUMENTS) = RESULT`, of which one call may be two lines.
fn calls(trace: &str) -> Vec<Call> {
    let mut open: Vec<(String, Call)> = Vec::new();
    let mut calls = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((id, rest)) = line.trim_start().split_once(char::is_whitespace) else { continue };
        let rest = rest.trim_start();
        if let Some(resumed) = rest.strip_prefix("<... ") {
            if let Some(at) = open.iter().position(|(whose, call)| whose == id && resumed.starts_with(&call.name)) {
                let (_, mut call) = open.swap_remove(at);
                call.end = number;
                call.result = result(resumed);
                calls.push(call);
            }
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        let call = Call {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            begin: number,
            end: number,
            result: result(arguments),
        };
        if arguments.ends_with("<unfinished ...>") {
            open.push((id.to_owned(), call));
        } else {
            calls.push(call);
        }
    }
    calls
}

/// What follows the last `= ` of a line; -1 where there is none yet.
fn result(line: &str) -> i64 {
    line.rsplit_once(" = ").and_then(|(_, text)| text.split(' ').next()?.parse().ok()).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_two_lines_is_one() {
        let trace = "7 write(3</a>, \"\"..., 5) = 5\n8 fsync(4</b> <unfinished ...>\n7 write(3</a>, \"\"..., 5) = 5\n8 <... fsync resumed>) = 0\n";
        let calls = calls(trace);
        let seen: Vec<_> = calls.iter().map(|call| (call.name.as_str(), call.begin, call.end)).collect();
        assert_eq!(seen, [("write", 0, 0), ("write", 2, 2), ("fsync", 1, 3)]);
        assert!(calls[2].arguments.contains("</b>"));
        assert_eq!(calls.iter().map(|call| call.result).collect::<Vec<_>>(), [5, 5, 0]);
    }
}
