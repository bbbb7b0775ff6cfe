//! The laboratory: the built binaries, started as a person starts them, and the real servers they
//! meet. Everything lives in a temporary folder, on loopback, on a free port, and ends with its value.
//!
//! What must hold: nothing here waits for a time, only for a condition with a deadline; a process
//! is ended by its id; a failed test prints the last lines of every process it started.
//! Deliberately absent: mocks. What is missing on a machine is said, and in CI it fails.

pub mod agent;
pub mod control;
pub mod database;
pub mod guest;
pub mod http;
pub mod hypervisor;
pub mod ledger;
pub mod line;
pub mod person;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod random;
pub mod series;
pub mod simulator;
pub mod sshd;
pub mod strace;
pub mod tmpfs;
pub mod wait;

use std::io::Write as _;

/// Whether this machine offers what a test needs; otherwise says so, and in CI fails.
#[track_caller]
pub fn has(what: &str, present: bool) -> bool {
    if !present {
        assert!(std::env::var_os("CI").is_none(), "{what} is missing, and CI must have it (scripts/install.sh test)");
        // Not by a macro: what those print the test runner shows only of tests that fail.
        let _ = writeln!(std::io::stderr(), "\n!!  SKIPPED: {what} is missing here (scripts/install.sh test)");
    }
    present
}

/// Whether the tests run as root: mounting a small file system needs it.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a program is on the path.
#[must_use]
pub fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
