//! `tongtu-agent`: the agent of a host. Parses what is asked for and leaves the rest to the runtime.

use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};
use tongtu_agent_host::{collectors::COLLECTORS, inventory};
use tongtu_agent_runtime::agent::AgentOptions;
use tongtu_agent_runtime::collect::Context;
use tongtu_agent_runtime::command::{EnrolArguments, Program};

const KIND: &str = "host";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const PROGRAM: Program = Program { name: "tongtu-agent", version: VERSION };

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
    Enroll(EnrolArguments),
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
        Command::Enroll(arguments) => PROGRAM.enroll(KIND, arguments),
        Command::Run { data } => PROGRAM.run(AgentOptions {
            kind: KIND,
            source_kind: KIND,
            source_key: None,
            version: VERSION,
            collectors: COLLECTORS,
            inventory: inventory::read,
            data,
            context: Context::default(),
        }),
        Command::Check { json } => PROGRAM.check(COLLECTORS, Context::default(), Some(inventory::read), json),
    }
}
