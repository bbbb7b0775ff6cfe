//! `tongtu restore`: a data directory of a backup.

use super::{CliError, Restore, print};
use crate::backup;

pub(super) fn run(command: &Restore) -> Result<(), CliError> {
    let restored = backup::restore(&command.from, &command.data)?;
    let data = command.data.display();
    if command.json {
        let said = serde_json::json!({
            "data": data.to_string(), "made_ms": restored.made_ms, "database": restored.database,
            "files": restored.files, "bytes": restored.bytes,
        });
        print(&said.to_string());
        return Ok(());
    }
    print(&format!("restored {} files ({} bytes) into {data}", restored.files, restored.bytes));
    if !restored.database {
        print("the database is not in this backup: restore it with pg_restore, then name it with database.url");
    }
    let made = jiff::Timestamp::from_millisecond(restored.made_ms).unwrap_or_default();
    print(&format!(
        "users, roles and tokens are as of {made:.0}: what was changed or revoked since is so no more, look through it; \
         everybody logs in anew"
    ));
    print(&format!("next: tongtu serve --data {data}"));
    Ok(())
}
