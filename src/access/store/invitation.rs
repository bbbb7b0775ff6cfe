//! Rows of one-time links.

use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use super::hash_of;
use crate::access::invitation::{Invitation, Purpose};
use crate::access::secret::Hash;
use crate::access::{AccessError, State};
use crate::platform::ids::{InvitationId, UserId};

const TABLE: &str = "invitation";

pub(super) async fn load(read: &impl ConnectionTrait, state: &mut State) -> Result<(), AccessError> {
    let invitations =
        Query::select().columns(["id", "hash", "user_id", "created_ms", "expires_ms"]).from(TABLE).to_owned();
    for row in read.query_all(&invitations).await? {
        let user: Option<i64> = row.try_get("", "user_id")?;
        let invitation = Invitation {
            id: InvitationId(row.try_get("", "id")?),
            purpose: user.map_or(Purpose::FirstSecurityAdministrator, |user| Purpose::SetPassword(UserId(user))),
            created_ms: row.try_get("", "created_ms")?,
            expires_ms: row.try_get("", "expires_ms")?,
        };
        state.invitations.insert(hash_of(row.try_get("", "hash")?, TABLE)?, invitation);
    }
    Ok(())
}

/// Deletes those of a purpose.
pub(in crate::access) async fn delete(transaction: &DatabaseTransaction, purpose: Purpose) -> Result<(), DbErr> {
    let of = match purpose {
        Purpose::FirstSecurityAdministrator => Expr::col("user_id").is_null(),
        Purpose::SetPassword(user) => Expr::col("user_id").eq(user.0),
    };
    transaction.execute(Query::delete().from_table(TABLE).and_where(of)).await?;
    Ok(())
}

/// Inserts one in place of every other of its purpose.
pub(in crate::access) async fn replace(
    transaction: &DatabaseTransaction,
    hash: &Hash,
    invitation: &Invitation,
) -> Result<(), DbErr> {
    delete(transaction, invitation.purpose).await?;
    let user = match invitation.purpose {
        Purpose::FirstSecurityAdministrator => None,
        Purpose::SetPassword(user) => Some(user.0),
    };
    transaction
        .execute(
            Query::insert()
                .into_table(TABLE)
                .columns(["id", "hash", "user_id", "created_ms", "expires_ms"])
                .values_panic([
                    invitation.id.0.into(),
                    hash.to_vec().into(),
                    user.into(),
                    invitation.created_ms.into(),
                    invitation.expires_ms.into(),
                ]),
        )
        .await?;
    Ok(())
}
