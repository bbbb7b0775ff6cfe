//! `tongtu-agent-libvirt`: the agent of a hypervisor. Parses what is asked for and leaves the rest to the runtime.

use clap::{Parser, Subcommand};
use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};
use tongtu_agent_hypervisor::collectors::{COLLECTORS, NODE, NODE_KEY};
use tongtu_agent_runtime::agent::AgentOptions;
use tongtu_agent_runtime::collect::Context;
use tongtu_agent_runtime::command::{EnrolArguments, Program};

const KIND: &str = "libvirt";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const PROGRAM: Program = Program { name: "tongtu-agent-libvirt", version: VERSION };

/// Reports what the virtual machines of this hypervisor do and are to a Tongtu control service.
///
/// First `enroll` with a token that control made (`tongtu agent token`), then `run`, as one user who may read
/// libvirt's read-only socket and need not be root. The agent listens on nothing and changes nothing. Control
/// can tell it what to report and how often, and nothing else.
#[derive(Debug, Parser)]
#[command(name = "tongtu-agent-libvirt", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes this hypervisor known to control, once.
    ///
    /// The token carries control's address and the fingerprint of its certificate authority, so
    /// control is verified before anything is sent. What comes back, a certificate of one year that
    /// renews itself, is kept in the data directory, with its key readable by this user only. A
    /// command that was cut short can be given again.
    #[command(
        after_help = "Example:\n  tongtu-agent-libvirt enroll --token \"$(cat token)\" --data /var/lib/tongtu-agent-libvirt"
    )]
    Enroll(EnrolArguments),
    /// Collects and reports, until it is told to stop (Ctrl-C, SIGTERM).
    ///
    /// A frame of every domain is taken each 15 s, written to the spool in the data directory and
    /// sent. While control is away the spool keeps up to 512 MiB and 7 days; what it could not keep
    /// is reported as lost. A file `agent.toml` in the data directory may set other figures:
    ///
    ///   interval = "15s"
    ///   metrics = "127.0.0.1:6483"   # a local /metrics; off without this line
    ///   spool.max_size = "512MiB"
    ///   spool.max_age = "7d"
    #[command(verbatim_doc_comment)]
    Run {
        /// Where `enroll` put the enrolment.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        #[command(flatten)]
        hypervisor: Hypervisor,
    },
    /// Shows what would be collected from this hypervisor, what cannot be, and why.
    ///
    /// Runs every collector once, as the user who asks: run it as the user that the agent will run
    /// as. Nothing is sent and no file is written. Fails only if nothing at all can be collected.
    Check {
        #[command(flatten)]
        hypervisor: Hypervisor,
        /// Prints one JSON document, with every value and the inventory of every domain.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Hypervisor {
    /// The hypervisor, as libvirt addresses it; it is opened read-only.
    #[arg(long, value_name = "URI", default_value = "qemu:///system")]
    connect: String,
}

impl Hypervisor {
    fn context(self) -> Context {
        Context { target: self.connect, ..Context::default() }
    }
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Enroll(arguments) => PROGRAM.enroll(KIND, arguments),
        Command::Run { data, hypervisor } => PROGRAM.run(AgentOptions {
            kind: KIND,
            source_kind: NODE,
            source_key: Some(NODE_KEY),
            version: VERSION,
            collectors: COLLECTORS,
            inventory: BTreeMap::new,
            data,
            context: hypervisor.context(),
        }),
        Command::Check { hypervisor, json } => PROGRAM.check(COLLECTORS, hypervisor.context(), None, json),
    }
}
