//! Rows of machine tokens.

use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use super::{hash_of, next_id};
use crate::access::secret::Hash;
use crate::access::token::Use;
use crate::access::{AccessError, ApiTokenInfo, Role, State};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{ApiTokenId, OrganizationId, UserId};

pub(in crate::access) const TABLE: &str = "api_token";

pub(super) async fn load(read: &impl ConnectionTrait, state: &mut State) -> Result<(), AccessError> {
    let tokens = Query::select()
        .columns([
            "id",
            "name",
            "hash",
            "organization_id",
            "role",
            "created_ms",
            "created_by",
            "expires_ms",
            "last_used_ms",
            "revoked_ms",
        ])
        .from(TABLE)
        .to_owned();
    for row in read.query_all(&tokens).await? {
        let role: String = row.try_get("", "role")?;
        let created_by: Option<i64> = row.try_get("", "created_by")?;
        let unknown = || AccessError::Unknown { table: TABLE, value: format!("the role {role}") };
        let token = ApiTokenInfo {
            id: ApiTokenId(row.try_get("", "id")?),
            name: row.try_get("", "name")?,
            organization: OrganizationId(row.try_get("", "organization_id")?),
            role: Role::of_name(&role).filter(|role| role.is_for_machines()).ok_or_else(unknown)?,
            created_ms: row.try_get("", "created_ms")?,
            created_by: created_by.map(UserId),
            expires_ms: row.try_get("", "expires_ms")?,
            revoked_ms: row.try_get("", "revoked_ms")?,
        };
        state.uses.insert(token.id, Use::stored(row.try_get("", "last_used_ms")?));
        state.token_hashes.insert(hash_of(row.try_get("", "hash")?, TABLE)?, token.id);
        state.tokens.insert(token.id, token);
    }
    Ok(())
}

/// Inserts a token, which is given the next id.
pub(in crate::access) async fn insert(
    transaction: &DatabaseTransaction,
    hash: &Hash,
    token: &mut ApiTokenInfo,
) -> Result<(), DbErr> {
    token.id = ApiTokenId(next_id(transaction, TABLE).await?);
    transaction
        .execute(
            Query::insert()
                .into_table(TABLE)
                .columns(["id", "name", "hash", "organization_id", "role", "created_ms", "created_by", "expires_ms"])
                .values_panic([
                    token.id.0.into(),
                    token.name.clone().into(),
                    hash.to_vec().into(),
                    token.organization.0.into(),
                    token.role.name().into(),
                    token.created_ms.into(),
                    token.created_by.map(|user| user.0).into(),
                    token.expires_ms.into(),
                ]),
        )
        .await?;
    Ok(())
}

/// Revokes a token, if it is not revoked yet.
pub(in crate::access) async fn revoke(
    transaction: &DatabaseTransaction,
    id: ApiTokenId,
    now: UnixMs,
) -> Result<(), DbErr> {
    transaction
        .execute(
            Query::update()
                .table(TABLE)
                .value("revoked_ms", now)
                .and_where(Expr::col("id").eq(id.0))
                .and_where(Expr::col("revoked_ms").is_null()),
        )
        .await?;
    Ok(())
}
