//! People: the organisations' levels, users, sessions, one-time links; when machine tokens end.

use sea_orm_migration::{prelude::*, schema::*};

/// The step.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // One column a statement: SQLite takes no more.
        for (table, column) in [
            ("organization", text("level").default("department").take()),
            ("api_token", big_integer_null("expires_ms").take()),
            ("api_token", big_integer_null("last_used_ms").take()),
            ("api_token", big_integer_null("created_by").take()),
        ] {
            manager.alter_table(Table::alter().table(table).add_column(column).to_owned()).await?;
        }
        let root = Query::update()
            .table("organization")
            .value("level", "city")
            .and_where(Expr::col("parent_id").is_null())
            .to_owned();
        manager.get_connection().execute(&root).await?;
        manager
            .create_table(
                Table::create()
                    .table("user_account")
                    .col(big_integer("id").primary_key())
                    .col(text("name"))
                    // The name in lower case: two that differ in nothing else are one.
                    .col(text("name_key").unique_key())
                    .col(text("display_name"))
                    .col(big_integer("organization_id"))
                    // Names of roles, with a space between.
                    .col(text("roles"))
                    // Argon2id in PHC's form; absent until the first one-time link is used.
                    .col(text_null("password"))
                    .col(text_null("language"))
                    .col(big_integer("created_ms"))
                    .col(big_integer_null("disabled_ms"))
                    .col(big_integer_null("last_login_ms"))
                    .foreign_key(ForeignKey::create().from("user_account", "organization_id").to("organization", "id"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("user_session")
                    .col(big_integer("id").primary_key())
                    // SHA-256 of the cookie's value; the value itself is nowhere here.
                    .col(blob("hash").unique_key())
                    .col(big_integer("user_id"))
                    .col(big_integer("created_ms"))
                    // Written once a minute, not for each request.
                    .col(big_integer("last_used_ms"))
                    .col(big_integer("expires_ms"))
                    .col(text_null("address"))
                    .col(text("agent"))
                    .foreign_key(ForeignKey::create().from("user_session", "user_id").to("user_account", "id"))
                    .to_owned(),
            )
            .await?;
        // Used or replaced ones are deleted.
        manager
            .create_table(
                Table::create()
                    .table("invitation")
                    .col(big_integer("id").primary_key())
                    // SHA-256 of the link's secret.
                    .col(blob("hash").unique_key())
                    // Who sets a password with it; absent: the first security administrator.
                    .col(big_integer_null("user_id"))
                    .col(big_integer("created_ms"))
                    .col(big_integer("expires_ms"))
                    .foreign_key(ForeignKey::create().from("invitation", "user_id").to("user_account", "id"))
                    .to_owned(),
            )
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
