//! Agents, their certificates, enrolment tokens, desired configuration.

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
                    .table("enrolment_token")
                    .col(big_integer("id").primary_key())
                    // SHA-256 of the secret; the secret itself is nowhere here.
                    .col(blob("hash").unique_key())
                    .col(big_integer("organization_id"))
                    .col(big_integer("created_ms"))
                    .col(big_integer("expires_ms"))
                    .col(big_integer("uses"))
                    .col(big_integer("uses_left"))
                    .col(big_integer_null("revoked_ms"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("agent")
                    .col(big_integer("id").primary_key())
                    .col(text("kind"))
                    .col(text("machine_id"))
                    .col(text("hostname"))
                    .col(text("version"))
                    .col(big_integer("protocol"))
                    .col(big_integer("interval_ms"))
                    .col(big_integer("enrolled_ms"))
                    .col(big_integer("enrolment_token_id"))
                    // SHA-256 of the key it enrolled with: a repeated request is answered again.
                    .col(blob("enrolment_key"))
                    .col(big_integer_null("revoked_ms"))
                    // Both are written every few minutes, not for each record.
                    .col(big_integer_null("last_report_ms"))
                    .col(big_integer_null("clock_offset_ms"))
                    .foreign_key(ForeignKey::create().from("agent", "enrolment_token_id").to("enrolment_token", "id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(Index::create().name("agent_enrolment_key").table("agent").col("enrolment_key").to_owned())
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("agent_certificate")
                    .col(blob("serial").primary_key())
                    .col(big_integer("agent_id"))
                    .col(big_integer("issued_ms"))
                    .col(big_integer("not_after_ms"))
                    .foreign_key(ForeignKey::create().from("agent_certificate", "agent_id").to("agent", "id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("agent_certificate_agent_id")
                    .table("agent_certificate")
                    .col("agent_id")
                    .to_owned(),
            )
            .await?;
        // The newest version is what agents are told; no row: the built-in first version.
        manager
            .create_table(
                Table::create()
                    .table("desired_configuration")
                    .col(big_integer("version").primary_key())
                    .col(big_integer("interval_ms"))
                    // [{"name": …, "enabled": …, "interval_ms": …}]
                    .col(text("collectors"))
                    .col(big_integer("created_ms"))
                    .to_owned(),
            )
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
