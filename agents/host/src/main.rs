//! `tongtu-agent`: the agent of a host.

use clap::{Parser, Subcommand};
use serde_json::json;
use std::process::ExitCode;
use tongtu_agent_host::collectors::COLLECTORS;
use tongtu_agent_runtime::{
    collect::{CollectorReport, Context, Outcome},
    table,
};

/// Reports what this machine does and is to a Tongtu control service.
///
/// First `enroll` with a token that control made (`tongtu agent token`), then `run`. The agent
/// listens on nothing, needs no root, and can be told to report, never to act.
#[derive(Debug, Parser)]
#[command(name = "tongtu-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows what would be collected on this machine, what cannot be, and why.
    ///
    /// Runs every collector once, as the user who asks: run it as the user that the agent will run
    /// as. Nothing is sent and no file is written. Fails only if nothing at all can be collected.
    Check {
        /// Prints one JSON document, with every value.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Check { json } => check(json),
    }
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
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
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
        "version": env!("CARGO_PKG_VERSION"),
        "collectors": collectors,
        "totals": {
            "values": values,
            "collected": collected,
            "unavailable": unavailable,
            "failed": failed,
        },
        "inventory": tongtu_agent_host::inventory::read(),
    });
    format!("{document:#}")
}
