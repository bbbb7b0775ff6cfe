//! What a collector is: the trait, the static table's entry, and the ways to have no value.
//!
//! An agent lists its collectors in one `static` table; [`crate::table`] runs them. "No data here"
//! ([`Unavailable`]) differs from "failed" ([`CollectError`]), and both from a value of 0.

pub use crate::sheet::Values;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Takes the values of one part of a machine.
pub trait Collector: Send {
    /// Puts the values of this instant, and says what else it knows: facts, what happened, and the same
    /// of other sources ([`Values::source`]). What was put before an error counts.
    ///
    /// # Errors
    /// A sentence that says what could not be read.
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError>;
}

/// One line of the collector table.
#[derive(Debug, Clone, Copy)]
pub struct CollectorSpec {
    /// Its name in metrics and in the configuration.
    pub name: &'static str,
    /// Between two runs; zero: every frame. The frames between go without its values.
    pub interval: Duration,
    /// A run that takes longer has failed; the frame goes without it.
    pub timeout: Duration,
    /// Makes it, at start and again after a panic. One that is unavailable is tried hourly.
    pub make: fn(&Context) -> Result<Box<dyn Collector>, Unavailable>,
}

/// Where a machine is looked at; a test points it at recorded files.
#[derive(Debug, Clone)]
pub struct Context {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
    /// `/`.
    pub root: PathBuf,
    /// What an agent connects to that looks at something else than this machine: a hypervisor's URI.
    pub target: String,
}

impl Default for Context {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into(), root: "/".into(), target: String::new() }
    }
}

/// Something that happened to a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// What: `domain.started`.
    pub name: &'static str,
    /// When, in CLOCK_BOOTTIME.
    pub boottime_ms: u64,
    /// More about it.
    pub attributes: BTreeMap<String, String>,
}

/// This machine has nothing for a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// Why, for `check`: "this kernel has no pressure stall information".
    pub reason: String,
}

impl Unavailable {
    /// With its reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// A collector's run that failed. Made by `?` from any error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectError(String);

impl CollectError {
    /// From a sentence.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for CollectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for CollectError {
    fn from(error: E) -> Self {
        Self(chain(&error))
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some libraries repeat their cause.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// What one collector did, for `check`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectorReport {
    /// Its name.
    pub name: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub duration: Duration,
    /// What it put, of every source: Prometheus name with labels, and the value as text.
    pub values: Vec<(String, String)>,
    /// What it said of the agent's own source.
    pub facts: BTreeMap<String, String>,
    /// The other sources of which it put or said something.
    pub sources: Vec<SourceReport>,
}

/// One of a collector's other sources, for `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceReport {
    /// `libvirt_domain`…
    pub kind: &'static str,
    /// Unique for its kind.
    pub key: String,
    /// What was said of it.
    pub facts: BTreeMap<String, String>,
}

/// What came of a collector's run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It put its values.
    #[default]
    Collected,
    /// The machine has nothing for it.
    Unavailable(String),
    /// It failed, panicked or took too long.
    Failed(String),
}
