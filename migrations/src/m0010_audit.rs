//! The audit log: what was changed and refused, chained so that a change of it is found.

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
                    .table("audit_entry")
                    // 1, 2, 3 … without a gap.
                    .col(big_integer("number").primary_key())
                    .col(big_integer("at_ms"))
                    // user, token, system, nobody.
                    .col(text("actor_kind"))
                    .col(text_null("actor_id"))
                    .col(text("actor_name"))
                    .col(text_null("address"))
                    .col(text("action"))
                    .col(text("resource"))
                    // JSON.
                    .col(text_null("before"))
                    .col(text_null("after"))
                    .col(text("result"))
                    .col(text_null("reason"))
                    .col(text_null("request_id"))
                    // HMAC-SHA-256 over the number, the rest and the MAC before.
                    .col(blob("mac"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(Index::create().name("audit_entry_at").table("audit_entry").col("at_ms").to_owned())
            .await?;
        // Of the entries that retention removed, the last one.
        manager
            .create_table(
                Table::create()
                    .table("audit_anchor")
                    .col(big_integer("number").primary_key())
                    .col(blob("mac"))
                    // HMAC over both, for this purpose.
                    .col(blob("seal"))
                    .to_owned(),
            )
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
