//! The sampling interval of a frame that a window handed on, and the widest one of a source.

use sea_orm_migration::prelude::*;

/// The step.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// 0: not known, the source's own interval counts.
const STATEMENTS: &[&str] = &[
    "ALTER TABLE telemetry_carried ADD COLUMN interval_ms BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE telemetry_source ADD COLUMN widest_ms BIGINT NOT NULL DEFAULT 0",
];

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
