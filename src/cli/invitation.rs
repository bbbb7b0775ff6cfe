//! `tongtu invitation`: one-time links for who can read the data directory.

use super::{CliError, Invitation, print};
use crate::StartError;
use crate::access::{Access, FIRST_LINK};
use crate::config::Config;
use crate::platform::clock::Clock;
use crate::platform::db::Db;

pub(super) async fn run(command: Invitation) -> Result<(), CliError> {
    match &command.user {
        Some(name) => set_password(&command, name).await,
        None => first(&command),
    }
}

/// The link for the first security administrator, which the service keeps in a file.
fn first(command: &Invitation) -> Result<(), CliError> {
    let file = command.data.join(FIRST_LINK);
    match std::fs::read_to_string(&file) {
        Ok(link) => {
            print(&link);
            Ok(())
        }
        Err(_) => Err(CliError::NoFirstLink(file)),
    }
}

/// A link for a user, made while no service runs: the directory's lock says so otherwise.
async fn set_password(command: &Invitation, name: &str) -> Result<(), CliError> {
    let config = Config::load(command.config.as_deref())?;
    let db = Db::open(&config.database, &command.data).await.map_err(StartError::from)?;
    db.migrate().await.map_err(StartError::Migrate)?;
    let access = Access::open(db.clone(), Clock::System).await.map_err(StartError::from)?;
    let access = access.audited(&command.data).await.map_err(StartError::from)?;
    let base = crate::control::base(&config, config.http.listen);
    let link = access.link_from_machine(name, &base).await.map_err(StartError::from)?;
    db.close().await;
    let link = link.ok_or_else(|| CliError::Stopped(format!("there is no user {name} who may log in")))?;
    print(&link);
    Ok(())
}
