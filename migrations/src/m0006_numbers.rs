//! When records that will never come would have been measured.

use sea_orm_migration::prelude::*;

/// The step.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Between the instants of the frames before and behind the range, as far as they are known.
/// `reason`: below 100 a loss reason of the wire, from 100 on 100 + a refusal of the wire.
const STATEMENTS: &[&str] =
    &["ALTER TABLE telemetry_loss ADD COLUMN from_ms BIGINT", "ALTER TABLE telemetry_loss ADD COLUMN to_ms BIGINT"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in STATEMENTS {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
