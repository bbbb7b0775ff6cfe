//! Virtual machines over time-ranged sources, hypervisors, providers.

use sea_orm_migration::prelude::*;

/// The step.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const STATEMENTS: &[&str] = &[
    "CREATE TABLE provider (id BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
        contact TEXT NOT NULL, version BIGINT NOT NULL, created_ms BIGINT NOT NULL)",
    "ALTER TABLE host ADD COLUMN provider_id BIGINT REFERENCES provider (id)",
    // Sources of hypervisors on hosts, beside those of the hosts themselves.
    "CREATE TABLE host_node (source_id BIGINT NOT NULL PRIMARY KEY, host_id BIGINT NOT NULL REFERENCES host (id),
        from_ms BIGINT NOT NULL)",
    // The organisation whose agents report it; who was given it, and since when, stands in owner_id and assigned_ms.
    "CREATE TABLE vm (id BIGINT NOT NULL PRIMARY KEY, organization_id BIGINT NOT NULL REFERENCES organization (id),
        uuid TEXT NOT NULL, created_ms BIGINT NOT NULL, version BIGINT NOT NULL,
        owner_id BIGINT REFERENCES organization (id), assigned_ms BIGINT, application TEXT, purpose TEXT,
        expires_ms BIGINT, provider_id BIGINT REFERENCES provider (id), UNIQUE (organization_id, uuid))",
    "CREATE TABLE vm_source (source_id BIGINT NOT NULL PRIMARY KEY, vm_id BIGINT NOT NULL REFERENCES vm (id),
        from_ms BIGINT NOT NULL)",
    // Where it is from then on, until the next row: so it is never in two places at once.
    "CREATE TABLE vm_place (vm_id BIGINT NOT NULL REFERENCES vm (id), from_ms BIGINT NOT NULL,
        source_id BIGINT NOT NULL, PRIMARY KEY (vm_id, from_ms))",
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
