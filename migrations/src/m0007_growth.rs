//! When an agent's identity was last used by another machine.

use sea_orm_migration::{prelude::*, schema::*};

/// The step.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let agent = Table::alter().table("agent").add_column(big_integer_null("cloned_ms")).to_owned();
        manager.alter_table(agent).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
