//! What became of agents: each change of a state, the newest ones.

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
                    .table("agent_event")
                    .col(big_integer("id").primary_key())
                    .col(big_integer("agent_id"))
                    .col(big_integer("at_ms"))
                    .col(text("state"))
                    .foreign_key(ForeignKey::create().from("agent_event", "agent_id").to("agent", "id"))
                    .to_owned(),
            )
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
