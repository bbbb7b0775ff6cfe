//! Rows of sessions.

use std::sync::atomic::AtomicI64;

use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use super::hash_of;
use crate::access::secret::Hash;
use crate::access::{AccessError, Session, State};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{SessionId, UserId};

pub(in crate::access) const TABLE: &str = "user_session";

pub(super) async fn load(read: &impl ConnectionTrait, state: &mut State) -> Result<(), AccessError> {
    let sessions = Query::select()
        .columns(["id", "hash", "user_id", "created_ms", "last_used_ms", "expires_ms", "address", "agent"])
        .from(TABLE)
        .to_owned();
    for row in read.query_all(&sessions).await? {
        let address: Option<String> = row.try_get("", "address")?;
        let last_used_ms: UnixMs = row.try_get("", "last_used_ms")?;
        let session = Session {
            id: SessionId(row.try_get("", "id")?),
            user: UserId(row.try_get("", "user_id")?),
            created_ms: row.try_get("", "created_ms")?,
            last_used_ms: AtomicI64::new(last_used_ms),
            stored_used_ms: AtomicI64::new(last_used_ms),
            expires_ms: row.try_get("", "expires_ms")?,
            address: address.and_then(|address| address.parse().ok()),
            agent: row.try_get("", "agent")?,
        };
        state.sessions.insert(hash_of(row.try_get("", "hash")?, TABLE)?, session);
    }
    Ok(())
}

pub(in crate::access) async fn insert(
    transaction: &DatabaseTransaction,
    hash: &Hash,
    session: &Session,
) -> Result<(), DbErr> {
    transaction
        .execute(
            Query::insert()
                .into_table(TABLE)
                .columns(["id", "hash", "user_id", "created_ms", "last_used_ms", "expires_ms", "address", "agent"])
                .values_panic([
                    session.id.0.into(),
                    hash.to_vec().into(),
                    session.user.0.into(),
                    session.created_ms.into(),
                    session.created_ms.into(),
                    session.expires_ms.into(),
                    session.address.map(|address| address.to_string()).into(),
                    session.agent.clone().into(),
                ]),
        )
        .await?;
    Ok(())
}

/// Deletes sessions.
pub(in crate::access) async fn delete(transaction: &DatabaseTransaction, ids: &[SessionId]) -> Result<(), DbErr> {
    for some in ids.chunks(500) {
        transaction
            .execute(Query::delete().from_table(TABLE).and_where(Expr::col("id").is_in(some.iter().map(|id| id.0))))
            .await?;
    }
    Ok(())
}
