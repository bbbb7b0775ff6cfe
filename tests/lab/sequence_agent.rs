//! `tongtu-lab-agent`: an agent on the real runtime whose one column carries a sequence of its own.
//!
//! Every number is written to a log before it becomes a value, so the log knows, independently of
//! spool and control, what was made. A run begins with the line `start`. What is killed between the
//! log and the spool may be missing from control: the last numbers of a run, and no other.

use clap::{Parser, Subcommand};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;
use tongtu_agent_runtime::agent::{self, AgentOptions};
use tongtu_agent_runtime::collect::{CollectError, Collector, CollectorSpec, Context, Unavailable, Values};
use tongtu_agent_runtime::enrol::{self, Enrol};
use tongtu_agent_runtime::metric::{Kind, Metric};

static SEQUENCE: Metric = Metric {
    name: "tongtu_lab_sequence",
    kind: Kind::Gauge,
    unit: "1",
    exponent: 0,
    labels: &[],
    help: "A number never used before.",
    source: "the laboratory",
    width_bits: 64,
};

static COLLECTORS: [CollectorSpec; 1] =
    [CollectorSpec { name: "sequence", interval: Duration::ZERO, timeout: Duration::from_secs(5), make }];

static LOG: OnceLock<PathBuf> = OnceLock::new();

struct Sequence {
    log: File,
    next: i64,
}

fn make(_: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let path = LOG.get().ok_or_else(|| Unavailable::new("no log"))?;
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let last = text.lines().filter_map(|line| line.parse::<i64>().ok()).max().unwrap_or(0);
    let mut log =
        File::options().create(true).append(true).open(path).map_err(|err| Unavailable::new(err.to_string()))?;
    log.write_all(b"start\n").map_err(|err| Unavailable::new(err.to_string()))?;
    Ok(Box::new(Sequence { log, next: last + 1 }))
}

impl Collector for Sequence {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        // One write: a kill leaves a line whole or absent.
        self.log.write_all(format!("{}\n", self.next).as_bytes())?;
        out.put(&SEQUENCE, &[], self.next);
        self.next += 1;
        Ok(())
    }
}

/// An agent of the laboratory; `enroll` and `run` are those of every agent.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Enroll {
        #[arg(long)]
        token: String,
        #[arg(long)]
        data: PathBuf,
    },
    Run {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        log: PathBuf,
    },
}

fn main() -> Result<(), String> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|err| err.to_string())?;
    match Arguments::parse().command {
        Command::Enroll { token, data } => {
            let enrol = Enrol { token: &token, data: &data, kind: "host", version: "0", replace: false };
            runtime.block_on(enrol::enroll(enrol)).map(|_| ()).map_err(|err| err.to_string())
        }
        Command::Run { data, log } => {
            LOG.get_or_init(|| log);
            let options = AgentOptions {
                kind: "host",
                version: "0",
                collectors: &COLLECTORS,
                inventory: BTreeMap::new,
                data,
                context: Context::default(),
            };
            runtime.block_on(agent::run(options)).map_err(|err| err.to_string())
        }
    }
}
