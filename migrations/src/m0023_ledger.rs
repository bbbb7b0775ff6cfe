//! The ledger of virtual machines, as it was imported.

use sea_orm_migration::prelude::*;

/// The step.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const STATEMENTS: &[&str] = &[
    // Which machine a line is of follows from its UUID or name: it is kept nowhere.
    "CREATE TABLE ledger_line (id BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, uuid TEXT,
        organization_id BIGINT NOT NULL REFERENCES organization (id), application TEXT, purpose TEXT,
        expires_ms BIGINT, provider_id BIGINT REFERENCES provider (id), vcpus BIGINT, memory_bytes BIGINT,
        disk_bytes BIGINT, contact TEXT, note TEXT)",
    // One row: the import that changed it last.
    "CREATE TABLE ledger_import (id BIGINT NOT NULL PRIMARY KEY, at_ms BIGINT NOT NULL, author TEXT NOT NULL,
        file TEXT NOT NULL)",
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
