//! Rows of machine tokens.

use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use super::next_id;
use crate::access::{ApiTokenInfo, ROOT, Role};
use crate::platform::clock::UnixMs;
use crate::platform::db::Db;
use crate::platform::ids::ApiTokenId;

/// Inserts a token of the root organisation and revokes `instead_of`, in one transaction.
pub(in crate::access) async fn insert(
    db: &Db,
    hash: [u8; 32],
    name: &str,
    role: Role,
    now: UnixMs,
    instead_of: Option<ApiTokenId>,
) -> Result<ApiTokenInfo, DbErr> {
    let transaction = db.begin("token_insert").await?;
    if let Some(old) = instead_of {
        mark_revoked(&transaction, old, now).await?;
    }
    let token = ApiTokenInfo {
        id: ApiTokenId(next_id(&transaction, "api_token").await?),
        name: name.to_owned(),
        organization: ROOT,
        role,
        created_ms: now,
        revoked_ms: None,
    };
    transaction
        .execute(
            Query::insert()
                .into_table("api_token")
                .columns(["id", "name", "hash", "organization_id", "role", "created_ms"])
                .values_panic([
                    token.id.0.into(),
                    name.into(),
                    hash.to_vec().into(),
                    token.organization.0.into(),
                    token.role.name().into(),
                    now.into(),
                ]),
        )
        .await?;
    transaction.commit().await?;
    Ok(token)
}

pub(in crate::access) async fn revoke(db: &Db, id: ApiTokenId, now: UnixMs) -> Result<(), DbErr> {
    let transaction = db.begin("token_revoke").await?;
    mark_revoked(&transaction, id, now).await?;
    transaction.commit().await
}

async fn mark_revoked(transaction: &DatabaseTransaction, id: ApiTokenId, now: UnixMs) -> Result<(), DbErr> {
    transaction
        .execute(
            Query::update()
                .table("api_token")
                .value("revoked_ms", now)
                .and_where(Expr::col("id").eq(id.0))
                .and_where(Expr::col("revoked_ms").is_null()),
        )
        .await?;
    Ok(())
}
