//! What is set while control runs: one document a row, the newest version.

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
                    .table("setting")
                    // retention, backup_schedule.
                    .col(text("name").primary_key())
                    .col(big_integer("version"))
                    // JSON.
                    .col(text("content"))
                    .col(big_integer("changed_ms"))
                    // As they were called then.
                    .col(text("changed_by"))
                    .to_owned(),
            )
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
