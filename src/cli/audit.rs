//! `tongtu audit verify`: reads the log of a data directory, of a running service or of a copy.

use super::{Audit, CliError, print};
use crate::StartError;
use crate::access::audit::{self, AuditVerification};
use crate::config::Config;
use crate::platform::db::Db;

pub(super) async fn run(command: Audit) -> Result<(), CliError> {
    let Audit::Verify { config, data, json } = command;
    let config = Config::load(config.as_deref())?;
    let read = Db::look(&config.database, &data).await.map_err(StartError::from)?;
    let found = audit::verify(&read, &data).await.map_err(|error| CliError::Stopped(error.to_string()))?;
    if json {
        print(&serde_json::to_string(&found).unwrap_or_default());
    } else {
        print(&text(&found));
    }
    if found.verified { Ok(()) } else { Err(CliError::Stopped("the audit log is not as it was written".to_owned())) }
}

fn text(found: &AuditVerification) -> String {
    let between = match (found.first, found.last) {
        (Some(first), Some(last)) => format!("{} entries, {first} to {last}", found.rows),
        _ => "no entries".to_owned(),
    };
    let mut text =
        format!("{between}: {}\n", if found.verified { "as they were written" } else { "NOT as they were written" });
    for fault in &found.faults {
        text.push_str(&format!("  {}: {}: {}\n", fault.number, fault.kind.name(), fault.detail));
    }
    text
}
