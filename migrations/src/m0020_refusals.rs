//! Machines that were refused, as those who may see agents are told: a line for a reason and a network an hour.

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
                    .table("agent_refusal")
                    .col(big_integer("id").primary_key())
                    .col(big_integer_null("organization_id"))
                    .col(text("attempt"))
                    .col(text("reason"))
                    .col(text_null("network"))
                    .col(big_integer("since_ms"))
                    .col(big_integer("at_ms"))
                    .col(big_integer("times"))
                    .to_owned(),
            )
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
