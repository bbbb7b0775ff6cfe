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
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tongtu_agent_runtime::agent::{self, AgentOptions};
use tongtu_agent_runtime::clock;
use tongtu_agent_runtime::collect::{CollectError, Collector, CollectorSpec, Context, Unavailable, Values};
use tongtu_agent_runtime::configuration::Configuration;
use tongtu_agent_runtime::data::DataDirectory;
use tongtu_agent_runtime::enrol::{self, Enrol};
use tongtu_agent_runtime::metric::{Kind, Metric};
use tongtu_agent_runtime::queue::Source;
use tongtu_agent_runtime::spool::Spool;
use tongtu_agent_runtime::table::Table;
use tongtu_protocol::v1;

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
    /// Fills the spool with the frames of an earlier boot, one every 15 s up to now, as they come in a day, in seconds.
    History {
        #[arg(long)]
        data: PathBuf,
        #[arg(long)]
        log: PathBuf,
        #[arg(long)]
        frames: u32,
    },
}

fn fill(data: &std::path::Path, frames: u32) -> Result<(), Box<dyn std::error::Error>> {
    const INTERVAL_MS: u32 = 15_000;
    const BOOT_ID: &str = "an earlier boot";
    let data = DataDirectory::open(data, false)?;
    let bounds = Configuration::read(&data.configuration())?.spool;
    let begin_ms = clock::wall_ms() - i64::from(frames) * i64::from(INTERVAL_MS);
    let at = |frame: u32| {
        let since_ms = frame * INTERVAL_MS;
        v1::Clock {
            boottime_ms: u64::from(60_000 + since_ms),
            wall_ms: begin_ms + i64::from(since_ms),
            synchronised: true,
        }
    };
    let (spool, mut writer) = Spool::open(&data.spool(), bounds, BOOT_ID, at(0))?;
    let mut table = Table::new(&COLLECTORS, Context::default());
    let key = clock::machine_id(data.path())?;
    let interval = Duration::from_millis(INTERVAL_MS.into());
    let mut source = None;
    for frame in 0..frames {
        writer.begin(at(frame));
        let (schema, state) = table.frame(at(frame).boottime_ms, interval, |_| {});
        let of = source.get_or_insert_with(|| {
            let (id, columns) = (schema.id(), schema.columns());
            Arc::new(Source {
                kind: "host".to_owned(),
                key: key.clone(),
                schema: id,
                columns,
                interval_ms: INTERVAL_MS,
            })
        });
        writer.frame(of, || schema.encode(), state);
        if of.schema != schema.id() || !writer.commit() {
            return Err("the frame cannot be written".into());
        }
    }
    spool.close();
    Ok(())
}

fn main() -> Result<(), String> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|err| err.to_string())?;
    match Arguments::parse().command {
        Command::Enroll { token, data } => {
            let enrol = Enrol { token: &token, data: &data, kind: "host", version: "0", replace: false };
            runtime.block_on(enrol::enroll(enrol)).map(|_| ()).map_err(|err| err.to_string())
        }
        Command::History { data, log, frames } => {
            LOG.get_or_init(|| log);
            fill(&data, frames).map_err(|err| err.to_string())
        }
        Command::Run { data, log } => {
            LOG.get_or_init(|| log);
            let options = AgentOptions {
                kind: "host",
                source_kind: "host",
                source_key: None,
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
