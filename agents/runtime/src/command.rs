//! What the commands of an agent do, whichever it is: `enroll`, `run` and `check`. Its `main` parses what is
//! asked for and says what it collects.

use crate::agent::{self, AgentOptions};
use crate::collect::{CollectorReport, CollectorSpec, Context, Outcome};
use crate::enrol::{self, Enrol};
use crate::table;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::filter::LevelFilter;

/// An agent's executable.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name, before what it complains of.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// What `enroll` is told.
#[derive(Debug, clap::Args)]
pub struct EnrolArguments {
    /// What `tongtu agent token` printed on the machine of control. It is a secret until used; `-` reads it
    /// from the standard input, so that no list of processes shows it.
    #[arg(long, value_name = "TOKEN")]
    token: String,
    /// Where the agent keeps its enrolment and its spool; made if it is not there.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Enrols anew although the directory holds an enrolment.
    #[arg(long)]
    replace: bool,
    /// Prints one JSON document.
    #[arg(long)]
    json: bool,
}

impl Program {
    /// Makes the machine known to control, as an agent of a kind.
    #[must_use]
    pub fn enroll(&self, kind: &str, arguments: EnrolArguments) -> ExitCode {
        let EnrolArguments { token, data, replace, json: as_json } = arguments;
        let token = match token.trim() {
            // What cannot be read is no token, and is told as such.
            "-" => io::read_to_string(io::stdin()).unwrap_or_default(),
            _ => token,
        };
        let enrol = Enrol { token: token.trim(), data: &data, kind, version: self.version, replace };
        match runtime().and_then(|runtime| runtime.block_on(enrol::enroll(enrol)).map_err(|error| error.to_string())) {
            Ok(enrolled) => {
                let (agent, control) = (enrolled.agent_id, enrolled.address);
                print(&match as_json {
                    true => format!("{:#}", json!({ "agent": agent, "control": control })),
                    false => format!("enrolled as {agent} with the control at {control}"),
                });
                ExitCode::SUCCESS
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Collects and reports until SIGTERM or SIGINT, with its log on standard error.
    #[must_use]
    pub fn run(&self, options: AgentOptions) -> ExitCode {
        let log = tracing_subscriber::fmt().with_writer(io::stderr);
        let log = log.with_ansi(io::stderr().is_terminal()).with_target(false);
        log.with_max_level(LevelFilter::INFO).init();
        match block_on(agent::run(options)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => self.fail(&error),
        }
    }

    /// Runs every collector once and shows what came of it; fails if none has collected anything.
    #[must_use]
    pub fn check(
        &self,
        collectors: &'static [CollectorSpec],
        context: Context,
        inventory: Option<fn() -> BTreeMap<String, String>>,
        as_json: bool,
    ) -> ExitCode {
        let reports = table::check(collectors, context);
        let values: usize = reports.iter().map(|report| report.values.len()).sum();
        print(&match as_json {
            true => self.check_json(&reports, values, inventory),
            false => check_text(&reports, values),
        });
        let any = reports.iter().any(|report| report.outcome == Outcome::Collected && !report.values.is_empty());
        if any { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn fail(&self, error: &str) -> ExitCode {
        let _ = writeln!(io::stderr(), "{}: {error}", self.name);
        ExitCode::FAILURE
    }

    fn check_json(
        &self,
        reports: &[CollectorReport],
        values: usize,
        inventory: Option<fn() -> BTreeMap<String, String>>,
    ) -> String {
        let collectors: Vec<_> = reports.iter().map(collector_json).collect();
        let (collected, unavailable, failed) = tally(reports);
        let mut document = json!({
            "version": self.version,
            "collectors": collectors,
            "totals": {
                "values": values,
                "collected": collected,
                "unavailable": unavailable,
                "failed": failed,
            },
        });
        let said = reports.iter().flat_map(|report| report.facts.clone());
        document["inventory"] =
            json!(inventory.map(|read| read()).unwrap_or_default().into_iter().chain(said).collect::<BTreeMap<_, _>>());
        let sources = reports.iter().flat_map(|report| &report.sources);
        let sources: Vec<_> = sources
            .map(|source| json!({ "kind": source.kind, "key": source.key, "inventory": source.facts }))
            .collect();
        if !sources.is_empty() {
            document["sources"] = sources.into();
        }
        format!("{document:#}")
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("this system gives the agent no event loop: {error}"))
}

/// One thread does everything that waits: the agent is to be small, not quick. The work is a task of
/// the runtime, for the future that a runtime is entered with is woken by way of the kernel.
fn block_on<T, E>(work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, String>
where
    T: Send + 'static,
    E: Display + Send + 'static,
{
    let runtime = runtime()?;
    let done = runtime.block_on(runtime.spawn(work)).map_err(|error| error.to_string())?;
    done.map_err(|error| error.to_string())
}

/// A reader that has gone away (`| head`) is no reason to panic.
fn print(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// How many of the collectors there are of each outcome.
fn tally(reports: &[CollectorReport]) -> (usize, usize, usize) {
    let count = |is: fn(&Outcome) -> bool| reports.iter().filter(|report| is(&report.outcome)).count();
    (
        count(|outcome| matches!(outcome, Outcome::Collected)),
        count(|outcome| matches!(outcome, Outcome::Unavailable(_))),
        count(|outcome| matches!(outcome, Outcome::Failed(_))),
    )
}

fn check_text(reports: &[CollectorReport], values: usize) -> String {
    let mut lines = vec![format!("{:<14} {:>6} {:>9}  {}", "COLLECTOR", "VALUES", "TIME", "")];
    for report in reports {
        let said = match &report.outcome {
            Outcome::Collected => String::new(),
            Outcome::Unavailable(reason) => format!("not here: {reason}"),
            Outcome::Failed(reason) => format!("failed: {reason}"),
        };
        let time = format!("{:.2} ms", report.duration.as_secs_f64() * 1_000.0);
        let line = format!("{:<14} {:>6} {time:>9}  {said}", report.name, report.values.len());
        lines.push(line.trim_end().to_owned());
    }
    let (collected, unavailable, failed) = tally(reports);
    let time: f64 = reports.iter().map(|report| report.duration.as_secs_f64()).sum();
    lines.push(format!(
        "\n{values} values by {collected} collectors in {:.1} ms; {unavailable} have nothing to collect here, {failed} failed",
        time * 1_000.0
    ));
    let sources: usize = reports.iter().map(|report| report.sources.len()).sum();
    if sources > 0 {
        lines.push(format!("{sources} sources besides the agent's own"));
    }
    lines.join("\n")
}

fn collector_json(report: &CollectorReport) -> Value {
    let (outcome, reason) = match &report.outcome {
        Outcome::Collected => ("collected", None),
        Outcome::Unavailable(reason) => ("unavailable", Some(reason)),
        Outcome::Failed(reason) => ("failed", Some(reason)),
    };
    let values: Map<_, _> = report.values.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "name": report.name,
        "outcome": outcome,
        "reason": reason,
        "duration_seconds": report.duration.as_secs_f64(),
        "values": values,
    })
}
