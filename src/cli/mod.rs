//! The command line of control. Exit codes: 0 done, 1 failed (one sentence on stderr), 2 not understood.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod agent;
mod audit;
mod client;
mod deploy;
mod invitation;
mod restore;
mod serve;

/// One control service, light agents: can this private network move, when, over which links?
#[derive(Debug, Parser)]
#[command(name = "tongtu", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Begin here:
  tongtu serve                       start the service (data in ./data, API on 127.0.0.1:6480)
  tongtu invitation                  the link with which the first administrator begins
  tongtu agent token                 a token that enrols one machine within 10 minutes
  tongtu-agent enroll --token TOKEN --data DIR    on that machine, then `tongtu-agent run --data DIR`
  tongtu agent list                  what reports, since when, how completely";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the control service.
    #[command(after_long_help = SERVE_HELP)]
    Serve(Serve),
    /// Bring the database's schema up to date and exit (`serve` does it as well).
    Migrate(Migrate),
    /// Print the API's OpenAPI document.
    Openapi,
    /// Print the one-time link that makes the first security administrator, while there is none; or make
    /// one with which a user sets a new password, while the service is stopped.
    Invitation(Invitation),
    /// The audit log, read beside the running service or from a copy.
    #[command(subcommand)]
    Audit(Audit),
    /// Make a data directory of a backup; `serve` goes on from it.
    #[command(after_long_help = RESTORE_HELP)]
    Restore(Restore),
    /// Enrolment tokens and agents, through the running service.
    #[command(subcommand)]
    Agent(Agent),
}

const SERVE_HELP: &str = concat!(
    "In the data directory: tongtu.db (SQLite, unless database.url names a PostgreSQL), ca/ (the authority \
that signs agents' certificates and, with http.tls, this service's own), api-token (the operator's bearer token, mode 0600), http-address (where \
the API answers, for `tongtu agent`), audit.key and audit.checkpoint (what proves the audit log: \
keep copies apart from the database's), first-link (a one-time link, while there is no security administrator), lock (one process at a time).\n\n\
Check it:\n  curl -H \"Authorization: Bearer $(cat data/api-token)\" http://127.0.0.1:6480/api/v1/hosts\n  \
curl http://127.0.0.1:6480/readyz\n\n\
SIGINT or SIGTERM stops it: requests under way end, accepted records are flushed; a second one stops at once.\n\n\
A configuration file holds only what differs from these defaults:\n\n",
    include_str!("../config/default.toml")
);

#[derive(Debug, Args)]
struct Serve {
    /// Configuration (TOML); `--help` shows every key with its default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Database, certificate authority, tokens; made if missing
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Where the API and the dashboard listen: without http.tls on loopback only [default: 127.0.0.1:6480]
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Where agents connect [default: 0.0.0.0:6481]
    #[arg(long, value_name = "ADDR")]
    agents: Option<SocketAddr>,
    /// What enrolment tokens carry as this service's address [default: this machine's name and the agents' port]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Replace the token in DIR/api-token, whose file was lost; the old one is revoked
    #[arg(long)]
    renew_api_token: bool,
}

const RESTORE_HELP: &str = "\
Backups lie in DIR/backups of a data directory; the settings page and POST /api/v1/backups make them. Every file is \
compared with the backup's manifest (size and SHA-256) before anything is written. Stop the service whose directory it \
was: two services of one authority would take the agents from each other.

Users, roles and tokens are then as of the backup's time: what was revoked since is valid again. Sessions are not: \
everybody logs in anew, and the audit log says that it goes on from a backup.

A database on a PostgreSQL server is not in a backup: restore it first, with pg_restore.";

#[derive(Debug, Args)]
struct Restore {
    /// The backup: a directory with a manifest.json
    #[arg(long, value_name = "BACKUP")]
    from: PathBuf,
    /// The data directory to make: empty, or not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Migrate {
    /// Configuration (TOML), for database.url
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Invitation {
    /// The data directory of the service on this machine
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// A user who forgot the password and has nobody to ask; the service must be stopped
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Configuration (TOML) for --user: database.url and http.listen
    #[arg(long, value_name = "FILE", requires = "user")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Audit {
    /// Say whether the log is as it was written, and what was done to it if not (exit code 1).
    Verify {
        /// Configuration (TOML), for database.url
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The data directory, or a copy: audit.key, audit.checkpoint and the database
        #[arg(long, value_name = "DIR", default_value = "data")]
        data: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Agent {
    /// Make a token with which machines enrol.
    ///
    /// It carries control's address and the fingerprint of its certificate authority, so the agent
    /// knows control before it sends anything. What enrols with it belongs to the organisation.
    Token {
        /// How long it can be used, such as 10m, 2h, 1d
        #[arg(long, value_name = "TIME", default_value = "10m", value_parser = crate::config::units::parse_duration)]
        ttl: std::time::Duration,
        /// How many machines it enrols
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// Whose the machines are, such as org_1 [default: the organisation of your token]
        #[arg(long, value_name = "ID")]
        organization: Option<crate::platform::ids::OrganizationId>,
        #[command(flatten)]
        server: Server,
    },
    /// Agents: state, last report, completeness.
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Put agents on machines over SSH, bring them up to date, take them back or remove them.
    ///
    /// The service does it; this command watches. A machine that comes for the first time shows the fingerprint of its
    /// host key, which you compare and confirm; nothing is sent to it before. Credentials are used once and stored
    /// nowhere. What was done half goes on with --resume.
    #[command(after_help = DEPLOY_HELP)]
    Deploy(Box<Deploy>),
    /// What every agent is told: interval and collectors, as JSON.
    ///
    /// Change it: `tongtu agent configuration > FILE`, edit FILE, `tongtu agent configuration --set FILE`.
    /// Agents that are connected are told at once. It is refused if another changed it meanwhile.
    Configuration {
        /// Set it to what FILE says; `-` is the standard input
        #[arg(long, value_name = "FILE")]
        set: Option<PathBuf>,
        #[command(flatten)]
        server: Server,
    },
    /// Revoke an agent's certificate for ever; what it reported stays.
    Revoke {
        /// The agent, such as agent_7
        id: crate::platform::ids::AgentId,
        #[command(flatten)]
        server: Server,
    },
}

const DEPLOY_HELP: &str = "\
Examples:
  tongtu agent deploy root@10.1.2.3 ops@10.1.2.4:2222 --key ~/.ssh/id_ed25519
  tongtu agent deploy 10.1.2.3 --password-file FILE --dry-run      look, print the steps, change nothing
  tongtu agent deploy 10.1.2.3 --key FILE --action upgrade         also: rollback, uninstall
  tongtu agent deploy 10.1.2.9 --key FILE --program libvirt        a hypervisor's agent, beside the host's or alone";

#[derive(Debug, Args)]
struct Deploy {
    /// Each machine; its user is root and its port 22 if left out
    #[arg(value_name = "USER@HOST:PORT", required_unless_present = "resume", conflicts_with = "resume")]
    machines: Vec<String>,
    /// What is done
    #[arg(long, value_parser = ["install", "upgrade", "rollback", "uninstall"], default_value = "install", conflicts_with = "resume")]
    action: String,
    /// To which agent: that of a host, or that of a hypervisor, which needs its libvirt; both may be on one machine
    #[arg(long, value_parser = ["host", "libvirt"], default_value = "host", conflicts_with = "resume")]
    program: String,
    /// Where the machines stand; so many of one site are worked on at once
    #[arg(long, value_name = "NAME", default_value = "", conflicts_with = "resume")]
    site: String,
    /// Whose the machines are, such as org_1 [default: the organisation of your token]
    #[arg(long, value_name = "ID", conflicts_with = "resume")]
    organization: Option<crate::platform::ids::OrganizationId>,
    /// A private key of OpenSSH; it is tried before the password
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The file that holds the key's passphrase
    #[arg(long, value_name = "FILE", requires = "key")]
    passphrase_file: Option<PathBuf>,
    /// The file that holds the password; `-` is the standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The file that holds what sudo asks for, if that is another password
    #[arg(long, value_name = "FILE")]
    sudo_password_file: Option<PathBuf>,
    /// A fingerprint that was compared already, so that nobody is asked; may be given again
    #[arg(long = "host-key", value_name = "SHA256:…")]
    host_keys: Vec<String>,
    /// Look at the machines and print the steps; change nothing
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    /// Go on with the machines of a roll-out that are not done, such as rollout_3
    #[arg(long, value_name = "ID")]
    resume: Option<crate::platform::ids::RolloutId>,
    #[command(flatten)]
    server: Server,
}

/// Which service, and with what token.
#[derive(Debug, Args)]
struct Server {
    /// The data directory of a service on this machine: its address and token are there
    #[arg(long, value_name = "DIR", default_value = "data", conflicts_with_all = ["server", "token_file", "ca"])]
    data: PathBuf,
    /// A service elsewhere, such as https://control.example.gov.cn:6480
    #[arg(long, value_name = "URL", requires = "token_file")]
    server: Option<String>,
    /// The file that holds the bearer token for --server
    #[arg(long, value_name = "FILE", requires = "server")]
    token_file: Option<PathBuf>,
    /// The authority of --server's certificate (PEM), such as a copy of ca/ca.pem of its data directory [default: those of this system]
    #[arg(long, value_name = "FILE", requires = "server")]
    ca: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Why a command failed, in one sentence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error(transparent)]
    Start(#[from] crate::StartError),
    #[error(transparent)]
    Client(#[from] client::ClientError),
    #[error(
        "{} is missing: a security administrator can log in already (ask one for a new password, or stop the service and add --user NAME), or no service has run there",
        .0.display()
    )]
    NoFirstLink(PathBuf),
    #[error(transparent)]
    Restore(#[from] crate::backup::RestoreError),
    #[error("{0}")]
    Stopped(String),
}

/// Runs the command of the arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Fails only if a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("tongtu: threads cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Serve(command) => serve::serve(command).await,
            Command::Migrate(command) => serve::migrate(command).await,
            Command::Openapi => {
                print(crate::openapi());
                Ok(())
            }
            Command::Invitation(command) => invitation::run(command).await,
            Command::Audit(command) => audit::run(command).await,
            Command::Restore(command) => restore::run(&command),
            Command::Agent(command) => agent::run(command).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tongtu: {error}");
            ExitCode::FAILURE
        }
    }
}

/// To stdout; a reader that went away (`| head`) is no failure.
fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    if !text.ends_with('\n') {
        let _ = out.write_all(b"\n");
    }
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_read_as_the_readme_writes_them() {
        for line in [
            "tongtu serve",
            "tongtu serve --config f --data d --http 127.0.0.1:0 --agents 0.0.0.0:0 --advertise c:1",
            "tongtu migrate --data d --json",
            "tongtu openapi",
            "tongtu invitation --data d",
            "tongtu invitation --data d --user security",
            "tongtu audit verify --data d --json",
            "tongtu restore --from b --data d --json",
            "tongtu agent token --ttl 10m --uses 3 --organization org_2 --data d",
            "tongtu agent list --server https://c --token-file f --ca ca.pem --json",
            "tongtu agent revoke agent_7",
            "tongtu agent deploy root@h h2:2222 --key k --passphrase-file p --site east --organization org_2 --dry-run",
            "tongtu agent deploy h --password-file - --action upgrade --host-key SHA256:x --host-key SHA256:y --data d",
            "tongtu agent deploy h --key k --program libvirt --action uninstall",
            "tongtu agent deploy --resume rollout_3 --key k --json",
            "tongtu agent configuration --json",
            "tongtu agent configuration --set - --data d",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "tongtu",
            "tongtu agent token --ttl 10",
            "tongtu agent token --uses 0",
            "tongtu agent list --server https://c",
            "tongtu agent revoke 7",
            "tongtu agent deploy",
            "tongtu agent deploy h --action reboot",
            "tongtu agent deploy h --program reboot",
            "tongtu agent deploy h --resume rollout_3",
            "tongtu serve --http localhost",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
