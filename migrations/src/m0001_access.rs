//! Organisations, bearer tokens, and whose each thing is since when.

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
                    .table("organization")
                    .col(big_integer("id").primary_key())
                    .col(big_integer_null("parent_id"))
                    .col(text("name"))
                    .col(big_integer("created_ms"))
                    .foreign_key(ForeignKey::create().from("organization", "parent_id").to("organization", "id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("api_token")
                    .col(big_integer("id").primary_key())
                    .col(text("name"))
                    // SHA-256 of the token's text; the text itself is nowhere here.
                    .col(blob("hash").unique_key())
                    .col(big_integer("organization_id"))
                    .col(text("role"))
                    .col(big_integer("created_ms"))
                    .col(big_integer_null("revoked_ms"))
                    .foreign_key(ForeignKey::create().from("api_token", "organization_id").to("organization", "id"))
                    .to_owned(),
            )
            .await?;
        // Owner of a thing from `from_ms` until the next row of the same thing.
        manager
            .create_table(
                Table::create()
                    .table("ownership")
                    .col(small_integer("resource_kind"))
                    .col(big_integer("resource_id"))
                    .col(big_integer("from_ms"))
                    .col(big_integer("organization_id"))
                    .primary_key(Index::create().col("resource_kind").col("resource_id").col("from_ms"))
                    .foreign_key(ForeignKey::create().from("ownership", "organization_id").to("organization", "id"))
                    .to_owned(),
            )
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
