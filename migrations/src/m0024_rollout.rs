//! Roll-outs over SSH: what was asked for, how far each machine is, what was said there, and the host keys that a
//! person confirmed. No credential is stored.

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
                    .table("rollout")
                    .col(big_integer("id").primary_key())
                    .col(big_integer("organization_id"))
                    .col(text("action"))
                    .col(big_integer("dry_run"))
                    .col(text("made_by"))
                    .col(big_integer("created_ms"))
                    .col(big_integer_null("finished_ms"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("rollout_target")
                    .col(big_integer("rollout_id"))
                    .col(big_integer("number"))
                    // Owner of what is enrolled there.
                    .col(big_integer("organization_id"))
                    .col(text("address"))
                    .col(big_integer("port"))
                    .col(text("login"))
                    .col(text("site"))
                    .col(text("state"))
                    .col(text_null("step"))
                    .col(text_null("fault"))
                    .col(text_null("fault_english"))
                    .col(text_null("fault_chinese"))
                    // The host key that the machine showed last.
                    .col(text_null("key_algorithm"))
                    .col(text_null("key_text"))
                    .col(text_null("key_fingerprint"))
                    .col(big_integer_null("agent_id"))
                    // Directories of versions: what was there, and what is to be.
                    .col(text_null("version_before"))
                    .col(text_null("version"))
                    .col(big_integer("updated_ms"))
                    .primary_key(Index::create().col("rollout_id").col("number"))
                    .foreign_key(ForeignKey::create().from("rollout_target", "rollout_id").to("rollout", "id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("rollout_line")
                    .col(big_integer("rollout_id"))
                    .col(big_integer("target"))
                    .col(big_integer("number"))
                    .col(big_integer("at_ms"))
                    .col(text_null("step"))
                    .col(text("english"))
                    .col(text("chinese"))
                    .primary_key(Index::create().col("rollout_id").col("target").col("number"))
                    .foreign_key(ForeignKey::create().from("rollout_line", "rollout_id").to("rollout", "id"))
                    .to_owned(),
            )
            .await?;
        // An address may be another machine in each organisation's network, so a key is known within one.
        manager
            .create_table(
                Table::create()
                    .table("ssh_host_key")
                    .col(big_integer("id").primary_key())
                    .col(big_integer("organization_id"))
                    .col(text("address"))
                    .col(big_integer("port"))
                    .col(text("algorithm"))
                    .col(text("key_text"))
                    .col(text("fingerprint"))
                    .col(text("confirmed_by"))
                    .col(big_integer("confirmed_ms"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("ssh_host_key_place")
                    .table("ssh_host_key")
                    .col("organization_id")
                    .col("address")
                    .col("port")
                    .unique()
                    .to_owned(),
            )
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
