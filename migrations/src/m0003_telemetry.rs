//! Sources and schemas, what is settled, windows, chunks and slots.
//!
//! A window's batches lie in a table of its own, `window_N(id, body)`, made when it is opened.

use sea_orm_migration::{prelude::*, sea_orm::DatabaseBackend};

/// The step.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// `ID` is a 64-bit key (the row id in SQLite), `BLOB` are bytes.
const STATEMENTS: &[&str] = &[
    "CREATE TABLE telemetry_schema (number ID PRIMARY KEY, identity BLOB NOT NULL UNIQUE, columns BLOB NOT NULL)",
    "CREATE TABLE telemetry_boot (number ID PRIMARY KEY, agent_id BIGINT NOT NULL, boot_id TEXT NOT NULL,
        UNIQUE (agent_id, boot_id))",
    "CREATE TABLE telemetry_anchor (boot BIGINT NOT NULL, boottime_ms BIGINT NOT NULL, control_ms BIGINT NOT NULL,
        round_trip_ms BIGINT NOT NULL, PRIMARY KEY (boot, boottime_ms))",
    "CREATE TABLE telemetry_source (id ID PRIMARY KEY, agent_id BIGINT NOT NULL, kind TEXT NOT NULL,
        local_key TEXT NOT NULL, created_ms BIGINT NOT NULL, interval_ms BIGINT NOT NULL,
        UNIQUE (agent_id, kind, local_key))",
    // Each inventory that a source had, by the instant from which it held.
    "CREATE TABLE telemetry_facts (source_id BIGINT NOT NULL, instant_ms BIGINT NOT NULL, facts TEXT NOT NULL,
        PRIMARY KEY (source_id, instant_ms))",
    "CREATE TABLE telemetry_event (id ID PRIMARY KEY, source_id BIGINT NOT NULL, instant_ms BIGINT NOT NULL,
        name TEXT NOT NULL, attributes TEXT NOT NULL)",
    "CREATE INDEX telemetry_event_source ON telemetry_event (source_id, instant_ms)",
    // Why records of an agent will never come.
    "CREATE TABLE telemetry_loss (agent_id BIGINT NOT NULL, epoch BIGINT NOT NULL, first_sequence BIGINT NOT NULL,
        last_sequence BIGINT NOT NULL, reason SMALLINT NOT NULL, arrival_ms BIGINT NOT NULL,
        PRIMARY KEY (agent_id, epoch, first_sequence))",
    // What is settled, up to the windows that are gone; the rest is in the windows.
    "CREATE TABLE telemetry_settled (agent_id BIGINT NOT NULL, epoch BIGINT NOT NULL, ranges BLOB NOT NULL,
        accepted BIGINT NOT NULL, refused BIGINT NOT NULL, lost BIGINT NOT NULL, last_instant_ms BIGINT,
        last_arrival_ms BIGINT, PRIMARY KEY (agent_id, epoch))",
    // state: 0 open, 1 sealed, 2 compacted (its rows no longer count).
    "CREATE TABLE telemetry_window (id ID PRIMARY KEY, opened_ms BIGINT NOT NULL, state SMALLINT NOT NULL)",
    // Rows of the window `made_by` count as soon as that window is compacted.
    "CREATE TABLE telemetry_chunk (id ID PRIMARY KEY, source_id BIGINT NOT NULL, schema_number BIGINT NOT NULL,
        first_ms BIGINT NOT NULL, last_ms BIGINT NOT NULL, made_by BIGINT NOT NULL, body BLOB NOT NULL)",
    "CREATE INDEX telemetry_chunk_source ON telemetry_chunk (source_id, last_ms, first_ms)",
    "CREATE INDEX telemetry_chunk_made_by ON telemetry_chunk (made_by)",
    "CREATE INDEX telemetry_chunk_last ON telemetry_chunk (last_ms)",
    // Slots of five minutes of days that are not closed; the rows of one source add up.
    "CREATE TABLE telemetry_slots (id ID PRIMARY KEY, source_id BIGINT NOT NULL, schema_number BIGINT NOT NULL,
        first_ms BIGINT NOT NULL, end_ms BIGINT NOT NULL, made_by BIGINT NOT NULL, body BLOB NOT NULL)",
    "CREATE INDEX telemetry_slots_source ON telemetry_slots (source_id, end_ms)",
    "CREATE INDEX telemetry_slots_made_by ON telemetry_slots (made_by)",
    "CREATE INDEX telemetry_slots_end ON telemetry_slots (end_ms)",
    // Slots of a closed day, a row for some columns, so that one series reads little.
    "CREATE TABLE telemetry_day (id ID PRIMARY KEY, source_id BIGINT NOT NULL, slot_ms BIGINT NOT NULL,
        schema_number BIGINT NOT NULL, first_column BIGINT NOT NULL, day BIGINT NOT NULL, body BLOB NOT NULL)",
    "CREATE UNIQUE INDEX telemetry_day_series
        ON telemetry_day (source_id, slot_ms, schema_number, first_column, day)",
    "CREATE INDEX telemetry_day_day ON telemetry_day (slot_ms, day)",
    // The newest frame that a window handed on, a keyframe.
    "CREATE TABLE telemetry_carried (source_id BIGINT NOT NULL, made_by BIGINT NOT NULL, schema_number BIGINT NOT NULL,
        instant_ms BIGINT NOT NULL, uncertain SMALLINT NOT NULL, boot BIGINT NOT NULL, epoch BIGINT NOT NULL,
        sequence BIGINT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (source_id, made_by))",
];

/// Tables whose bytes PostgreSQL should not try to compress again.
const PACKED: &[&str] = &["telemetry_chunk", "telemetry_slots", "telemetry_day"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let postgres = manager.get_database_backend() == DatabaseBackend::Postgres;
        let (id, blob) = if postgres { ("BIGINT", "BYTEA") } else { ("INTEGER", "BLOB") };
        for statement in STATEMENTS {
            let statement = statement.replace(" ID ", &format!(" {id} ")).replace("BLOB", blob);
            connection.execute_unprepared(&statement).await?;
        }
        if postgres {
            for table in PACKED {
                let statement = format!("ALTER TABLE {table} ALTER COLUMN body SET STORAGE EXTERNAL");
                connection.execute_unprepared(&statement).await?;
            }
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
