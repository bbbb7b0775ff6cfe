//! `tongtu serve` and `tongtu migrate`.

use std::io::IsTerminal;
use std::path::Path;

use tracing_subscriber::EnvFilter;

use super::{CliError, Migrate, Serve, print};
use crate::config::{Config, ConfigError, Log, LogFormat};
use crate::platform::clock::Clock;
use crate::platform::db::Db;
use crate::platform::shutdown::Shutdown;
use crate::{Options, StartError};

pub(super) async fn serve(command: Serve) -> Result<(), CliError> {
    private_files();
    let config = configuration(&command)?;
    log_to_stderr(&config.log, command.config.as_deref())?;
    many_files();
    let shutdown =
        Shutdown::on_signals().map_err(|error| CliError::Stopped(format!("signals cannot be caught: {error}")))?;
    let options =
        Options { config, data: command.data, clock: Clock::System, renew_api_token: command.renew_api_token };
    let running = tokio::select! {
        biased;
        running = crate::run(options, shutdown.clone()) => running?,
        // While starting: nothing was accepted yet, so there is nothing to flush.
        () = shutdown.triggered() => match shutdown.broken() {
            None => return Ok(()),
            Some(task) => return Err(CliError::Stopped(format!("stopped while starting: {task} ended by itself"))),
        },
    };
    // Not into the log: whoever reads that must not become the administrator.
    if let Some(link) = running.first_link() {
        print(&format!("nobody can log in yet; the first security administrator begins here: {link}"));
    }
    running.finished().await.map_err(|error| CliError::Stopped(format!("stopped by a fault: {error}")))?;
    tracing::info!("stopped");
    Ok(())
}

/// The file with the command line over it.
fn configuration(command: &Serve) -> Result<Config, ConfigError> {
    let mut config = Config::load(command.config.as_deref())?;
    if let Some(http) = command.http {
        config.http.listen = http;
        config.said.argument("http", "listen", &http.to_string());
    }
    if let Some(agents) = command.agents {
        config.agents.listen = agents;
        config.said.argument("agents", "listen", &agents.to_string());
    }
    if let Some(advertise) = &command.advertise {
        config.agents.advertise = Some(advertise.clone());
        config.said.argument("agents", "advertise", advertise);
    }
    config.validate().map_err(|reason| ConfigError::Invalid { file: "command line".to_owned(), reason })?;
    Ok(config)
}

fn log_to_stderr(log: &Log, file: Option<&Path>) -> Result<(), ConfigError> {
    // What the schema's steps did, and that a connection is made anew, is said by ours.
    let filter =
        EnvFilter::builder().parse(format!("sea_orm_migration=warn,sqlx=warn,{}", log.filter)).map_err(|error| {
            ConfigError::Invalid {
                file: file.map_or_else(|| "defaults".to_owned(), |file| file.display().to_string()),
                reason: format!(
                    "log.filter: \"{}\" is no filter ({error}); write a level, or levels by module",
                    log.filter
                ),
            }
        })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let lines = lines.with_ansi(std::io::stderr().is_terminal());
    // Fails only if a subscriber is installed already.
    let _ = match log.format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // A panic is a line of the log like any other, and in its form.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panicked: {}", panic.payload_as_str().unwrap_or("no message"));
    }));
    Ok(())
}

pub(super) async fn migrate(command: Migrate) -> Result<(), CliError> {
    private_files();
    let config = Config::load(command.config.as_deref())?;
    let db = Db::open(&config.database, &command.data).await.map_err(StartError::from)?;
    let applied = db.migrate().await.map_err(StartError::Migrate)?;
    db.close().await;
    if command.json {
        print(&serde_json::json!({ "applied": applied }).to_string());
    } else if applied.is_empty() {
        print("the schema is up to date");
    } else {
        print(&format!("applied {}", applied.join(", ")));
    }
    Ok(())
}

/// What departments measure is nobody else's on this machine either, whatever the directory's mode.
fn private_files() {
    use rustix::fs::Mode;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Each agent is a connection: take as many as the system lets this process have.
fn many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is; many agents may not find room");
    }
}
