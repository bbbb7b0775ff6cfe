//! Frames of a window that compaction could not make slots of.

use sea_orm_migration::{prelude::*, schema::*};

/// The step.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("telemetry_unreadable")
                    .col(big_integer("source_id"))
                    // Counts as soon as that window is compacted.
                    .col(big_integer("made_by"))
                    .col(big_integer("first_ms"))
                    .col(big_integer("last_ms"))
                    .col(text("reason"))
                    // The frames as a batch, as they lay in the window; empty if they became chunks.
                    .col(blob("body"))
                    .primary_key(Index::create().col("source_id").col("made_by"))
                    .to_owned(),
            )
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
