//! Hosts, and which source was whose at what time.

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
                    .table("host")
                    .col(big_integer("id").primary_key())
                    // The organisation in which it was first seen; who owns it now, access knows.
                    .col(big_integer("organization_id"))
                    .col(text("machine_id"))
                    .col(big_integer("created_ms"))
                    .foreign_key(ForeignKey::create().from("host", "organization_id").to("organization", "id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("host_machine")
                    .table("host")
                    .col("organization_id")
                    .col("machine_id")
                    .unique()
                    .to_owned(),
            )
            .await?;
        // A source belongs to one host from `from_ms` on.
        manager
            .create_table(
                Table::create()
                    .table("host_source")
                    .col(big_integer("source_id").primary_key())
                    .col(big_integer("host_id"))
                    .col(big_integer("from_ms"))
                    .foreign_key(ForeignKey::create().from("host_source", "host_id").to("host", "id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(Index::create().name("host_source_host").table("host_source").col("host_id").to_owned())
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
