//! `tongtu-bench`: what control and the agent cost, beside their peers where there are any.
//!
//! Every figure is of the real binaries over the real protocol, on the machine it runs on; ratios are of
//! one run. `tests/bench/README.md` says what each benchmark measures and holds the last full output.

mod agent;
mod cloud;
mod collectors;
mod control;
mod fleet;
mod ingest;
mod libvirt;
mod logins;
mod measure;
mod peers;
mod query;
mod record;
mod remote_write;
mod report;
mod scale;
mod web;

use clap::{Parser, Subcommand};
use report::Report;
use serde_json::{Map, json};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tongtu_simulator::duration::Span;
use tongtu_tests::wait;

const AFTER: &str = "\
Without a command: agent, libvirt, ingest, scale, restart, query, cloud, logins and web, one after another.

Needs the binaries of control, simulator and this program in release, the agents in the profile agent, and
Debian's victoria-metrics, prometheus, prometheus-node-exporter, prometheus-libvirt-exporter, libvirt, QEMU,
chromium, nodejs and npm; `make bench` sees to all of it.
Short runs take minutes each, full ones (--full) about two hours together.

EXIT CODE: 0 when every bar is reached, 1 when one is missed (they are listed at the end), 101 when a
benchmark could not be run, 130 when it was interrupted (Ctrl-C, SIGTERM): the servers it started end with it and
nothing stays in the temporary directory.";

/// Benchmarks of control and the agent, as ratios where a peer exists.
#[derive(Debug, Parser)]
#[command(name = "tongtu-bench", version, after_help = AFTER)]
struct Arguments {
    /// Run as long as the figures in the README ask for.
    #[arg(long, global = true)]
    full: bool,
    /// Write all figures as one JSON document as well.
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// tongtu-agent beside node_exporter: CPU, memory, samples, size.
    Agent,
    /// tongtu-agent-libvirt beside Debian's libvirt exporter on real guests: CPU, samples.
    Libvirt,
    /// Each collector of the agent alone, in a tight loop; no peer, no bar.
    Collectors,
    /// Recorded frames into control, victoria-metrics and prometheus: CPU a sample, disk a sample.
    Ingest {
        /// Only one of paced, saturated and backlog.
        pace: Option<String>,
    },
    /// Fleets of 1,000, 3,000 and 10,000 simulated agents: paced, saturated, backlog.
    Scale {
        /// Only one of "1000 paced", "3000 paced", "10000 paced", "1000 saturated" and "1000 backlog".
        case: Option<String>,
    },
    /// Ready again after kill -9 with a full window.
    Restart,
    /// Latency of series, lists and metrics.
    Query {
        /// Only one of live and history.
        part: Option<String>,
    },
    /// Lists, capacity and review of 10,000 virtual machines.
    Cloud,
    /// 10,000 logins a minute with wrong passwords: what everybody else notices.
    Logins,
    /// The dashboard in Chromium with 10,000 hosts, and with 10,000 virtual machines: bytes, lists, scrolling, charts.
    Web {
        /// Only one of view, list, scroll, charts and vms.
        part: Option<String>,
    },
    /// Records what the agent collects on this machine, as the fixture of `ingest`.
    Record {
        /// Where to.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// How long.
        #[arg(long, default_value = "2h")]
        duration: Span,
        /// Between two frames.
        #[arg(long, default_value = "15s")]
        interval: Span,
    },
}

/// How long benchmarks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Short,
    Full,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    std::thread::spawn(end_by_signal);
    match std::panic::catch_unwind(|| run(arguments)) {
        Ok(code) => code,
        Err(_) if wait::is_interrupted() => {
            eprintln!("interrupted");
            ExitCode::from(130)
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Makes the main thread end at its next wait, when a signal asks for the end.
fn end_by_signal() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime for signals");
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be heard");
        let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be heard");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    wait::interrupt();
}

fn run(arguments: Arguments) -> ExitCode {
    let mode = if arguments.full { Mode::Full } else { Mode::Short };
    println!("machine: {}", measure::machine());
    let all: [fn(Mode) -> Report; 9] = [
        agent::run,
        libvirt::run,
        |mode| ingest::run(mode, None),
        |mode| scale::run(mode, None),
        scale::restart,
        |mode| query::run(mode, None),
        |_| cloud::run(),
        logins::run,
        |mode| web::run(mode, None),
    ];
    let case;
    let chosen: &[&dyn Fn(Mode) -> Report] = match arguments.command {
        None => &all.each_ref().map(|run| run as &dyn Fn(Mode) -> Report),
        Some(Command::Agent) => &[&agent::run],
        Some(Command::Libvirt) => &[&libvirt::run],
        Some(Command::Collectors) => &[&|_| collectors::run()],
        Some(Command::Ingest { pace }) => {
            case = pace;
            &[&|mode| ingest::run(mode, case.as_deref())]
        }
        Some(Command::Scale { case: only }) => {
            case = only;
            &[&|mode| scale::run(mode, case.as_deref())]
        }
        Some(Command::Restart) => &[&scale::restart],
        Some(Command::Query { part }) => {
            case = part;
            &[&|mode| query::run(mode, case.as_deref())]
        }
        Some(Command::Cloud) => &[&|_| cloud::run()],
        Some(Command::Logins) => &[&logins::run],
        Some(Command::Web { part }) => {
            case = part;
            &[&|mode| web::run(mode, case.as_deref())]
        }
        Some(Command::Record { out, duration, interval }) => {
            record::run(&out, interval.0, duration.0);
            return ExitCode::SUCCESS;
        }
    };
    let (mut figures, mut missed) = (Map::new(), Vec::new());
    for run in chosen {
        let (name, of_one, mut missed_by_one) = run(mode).finish();
        figures.insert(name, of_one);
        missed.append(&mut missed_by_one);
    }
    if let Some(path) = arguments.json {
        let document = json!({ "machine": measure::machine(), "full": arguments.full, "benchmarks": figures });
        std::fs::write(&path, format!("{document:#}\n")).expect("the JSON document is written");
    }
    if missed.is_empty() {
        println!("\nevery bar is reached");
        return ExitCode::SUCCESS;
    }
    println!("\nmissed:");
    missed.iter().for_each(|line| println!("   {line}"));
    ExitCode::FAILURE
}
