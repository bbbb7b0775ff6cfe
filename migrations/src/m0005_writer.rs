//! The one process that writes: how often one began to, and proof that it can.

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
                    .table("writer")
                    .col(integer("id").primary_key())
                    // Grows with each start. A process whose term is older has been replaced.
                    .col(big_integer("term"))
                    .col(big_integer("checks"))
                    .to_owned(),
            )
            .await?;
        let row = Query::insert()
            .into_table("writer")
            .columns(["id", "term", "checks"])
            .values_panic([1.into(), 0.into(), 0.into()])
            .to_owned();
        manager.execute(row).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
