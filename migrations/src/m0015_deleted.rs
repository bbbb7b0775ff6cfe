//! How far what was measured has been deleted.

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
                    .table("telemetry_deleted")
                    // 0: frames.
                    .col(big_integer("slot_ms").primary_key())
                    .col(big_integer("before_ms"))
                    .to_owned(),
            )
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
