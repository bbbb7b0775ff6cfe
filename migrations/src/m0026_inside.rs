//! Virtual machines that are told by the agent inside them.

use sea_orm_migration::prelude::*;

/// The step.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

// The host that such a machine is; NULL: a hypervisor tells of it. Its uuid is then "HOST:" and the host's number,
// which no hypervisor's is: what is unique stays so, and the UUID that the machine says is a fact of its host.
const STATEMENT: &str = "ALTER TABLE vm ADD COLUMN host_id BIGINT REFERENCES host (id)";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(STATEMENT).await?;
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
