//! Whose a schema is, and when schemas and boots were last used: what is old and unused goes.

use sea_orm_migration::{prelude::*, schema::*};

/// The step.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Null of rows of an older version: nobody's, used now.
        for (table, column) in
            [("telemetry_schema", "agent_id"), ("telemetry_schema", "used_ms"), ("telemetry_boot", "used_ms")]
        {
            let alter = Table::alter().table(table).add_column(big_integer_null(column)).to_owned();
            manager.alter_table(alter).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
