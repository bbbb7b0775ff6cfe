//! `tongtu invitation`: the link for the first security administrator, for who can read the data directory.

use super::{CliError, Invitation, print};
use crate::access::FIRST_LINK;

pub(super) fn run(command: &Invitation) -> Result<(), CliError> {
    let file = command.data.join(FIRST_LINK);
    match std::fs::read_to_string(&file) {
        Ok(link) => {
            print(&link);
            Ok(())
        }
        Err(_) => Err(CliError::NoFirstLink(file)),
    }
}
