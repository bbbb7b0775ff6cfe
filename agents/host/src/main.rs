//! `tongtu-agent`: the agent of a host. Parses what is asked for and leaves the rest to the runtime.

use clap::{Parser, Subcommand};
use serde_json::json;
use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};
use tongtu_agent_host::{collectors::COLLECTORS, inventory};
use tongtu_agent_runtime::{
    agent::{self, AgentOptions},
    collect::{CollectorReport, Context, Outcome},
    enrol::{self, Enrol},
    table,
};
use tracing_subscriber::filter::LevelFilter;

const KIND: &str = "host";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Reports what this machine does and is to a Tongtu control service.
///
/// First `enroll` with a token that control made (`tongtu agent token`), then `run`, as one user
/// who need not be root. The agent listens on nothing. Control can tell it what to report and how
/// often, and nothing else.
#[derive(Debug, Parser)]
#[command(name = "tongtu-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes this machine known to control, once.
    ///
    /// The token carries control's address and the fingerprint of its certificate authority, so
    /// control is verified before anything is sent. What comes back, a certificate of one year that
    /// renews itself, is kept in the data directory, with its key readable by this user only. A
    /// command that was cut short can be given again.
    #[command(after_help = "Example:\n  tongtu-agent enroll --token \"$(cat token)\" --data /var/lib/tongtu-agent")]
    Enroll {
        /// What `tongtu agent token` printed on the machine of control. It is a secret until used.
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
    },
    /// Collects and reports, until it is told to stop (Ctrl-C, SIGTERM).
    ///
    /// A frame of every value is taken each 15 s, written to the spool in the data directory and
    /// sent. While control is away the spool keeps up to 512 MiB and 7 days; what it could not keep
    /// is reported as lost. A file `agent.toml` in the data directory may set other figures:
    ///
    ///   interval = "15s"
    ///   metrics = "127.0.0.1:6482"   # a local /metrics; off without this line
    ///   spool.max_size = "512MiB"
    ///   spool.max_age = "7d"
    #[command(verbatim_doc_comment)]
    Run {
        /// Where `enroll` put the enrolment.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Shows what would be collected on this machine, what cannot be, and why.
    ///
    /// Runs every collector once, as the user who asks: run it as the user that the agent will run
    /// as. Nothing is sent and no file is written. Fails only if nothing at all can be collected.
    Check {
        /// Prints one JSON document, with every value and the inventory.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Enroll { token, data, replace, json } => {
            let work = async move {
                enrol::enroll(Enrol { token: token.trim(), data: &data, kind: KIND, version: VERSION, replace }).await
            };
            match block_on(work) {
                Ok(enrolled) => {
                    let (agent, control) = (enrolled.agent_id, enrolled.address);
                    print(&match json {
                        true => format!("{:#}", json!({ "agent": agent, "control": control })),
                        false => format!("enrolled as {agent} with the control at {control}"),
                    });
                    ExitCode::SUCCESS
                }
                Err(error) => fail(&error),
            }
        }
        Command::Run { data } => {
            let log = tracing_subscriber::fmt().with_writer(io::stderr);
            let log = log.with_ansi(io::stderr().is_terminal()).with_target(false);
            log.with_max_level(LevelFilter::INFO).init();
            let options = AgentOptions {
                kind: KIND,
                version: VERSION,
                collectors: COLLECTORS,
                inventory: inventory::read,
                data,
                context: Context::default(),
            };
            match block_on(agent::run(options)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            }
        }
        Command::Check { json } => check(json),
    }
}

/// One thread does everything that waits: the agent is to be small, not quick. The work is a task of
/// the runtime, for the future that a runtime is entered with is woken by way of the kernel.
fn block_on<T, E>(work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, String>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("this system gives the agent no event loop: {error}"))?;
    let done = runtime.block_on(runtime.spawn(work)).map_err(|error| error.to_string())?;
    done.map_err(|error| error.to_string())
}

fn fail(error: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "tongtu-agent: {error}");
    ExitCode::FAILURE
}

fn check(as_json: bool) -> ExitCode {
    let reports = table::check(COLLECTORS, Context::default());
    let values: usize = reports.iter().map(|report| report.values.len()).sum();
    let text = if as_json { check_json(&reports, values) } else { check_text(&reports, values) };
    print(&text);
    if values == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
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
    lines.join("\n")
}

fn check_json(reports: &[CollectorReport], values: usize) -> String {
    let collectors: Vec<_> = reports
        .iter()
        .map(|report| {
            let (outcome, reason) = match &report.outcome {
                Outcome::Collected => ("collected", None),
                Outcome::Unavailable(reason) => ("unavailable", Some(reason)),
                Outcome::Failed(reason) => ("failed", Some(reason)),
            };
            let values: serde_json::Map<_, _> =
                report.values.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({
                "name": report.name,
                "outcome": outcome,
                "reason": reason,
                "duration_seconds": report.duration.as_secs_f64(),
                "values": values,
            })
        })
        .collect();
    let (collected, unavailable, failed) = tally(reports);
    let document = json!({
        "version": VERSION,
        "collectors": collectors,
        "totals": {
            "values": values,
            "collected": collected,
            "unavailable": unavailable,
            "failed": failed,
        },
        "inventory": inventory::read(),
    });
    format!("{document:#}")
}
