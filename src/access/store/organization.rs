//! Rows of organisations.

use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use super::next_id;
use crate::access::organization::{AdministrativeLevel, Organization};
use crate::access::{AccessError, State};
use crate::platform::ids::OrganizationId;

const TABLE: &str = "organization";

pub(super) async fn load(read: &impl ConnectionTrait, state: &mut State) -> Result<(), AccessError> {
    let organizations =
        Query::select().columns(["id", "parent_id", "name", "level", "created_ms"]).from(TABLE).to_owned();
    for row in read.query_all(&organizations).await? {
        let id = OrganizationId(row.try_get("", "id")?);
        let parent: Option<i64> = row.try_get("", "parent_id")?;
        let level: String = row.try_get("", "level")?;
        let unknown = || AccessError::Unknown { table: TABLE, value: format!("the level {level}") };
        state.organizations.insert(
            id,
            Organization {
                id,
                name: row.try_get("", "name")?,
                level: AdministrativeLevel::of_name(&level).ok_or_else(unknown)?,
                parent: parent.map(OrganizationId),
                created_ms: row.try_get("", "created_ms")?,
            },
        );
    }
    Ok(())
}

/// Inserts an organisation, which is given the next id.
pub(in crate::access) async fn insert(
    transaction: &DatabaseTransaction,
    organization: &mut Organization,
) -> Result<(), DbErr> {
    organization.id = OrganizationId(next_id(transaction, TABLE).await?);
    transaction
        .execute(
            Query::insert().into_table(TABLE).columns(["id", "parent_id", "name", "level", "created_ms"]).values_panic(
                [
                    organization.id.0.into(),
                    organization.parent.map(|parent| parent.0).into(),
                    organization.name.clone().into(),
                    organization.level.name().into(),
                    organization.created_ms.into(),
                ],
            ),
        )
        .await?;
    Ok(())
}

/// Writes everything of an organisation that can change.
pub(in crate::access) async fn update(
    transaction: &DatabaseTransaction,
    organization: &Organization,
) -> Result<(), DbErr> {
    transaction
        .execute(
            Query::update()
                .table(TABLE)
                .value("parent_id", organization.parent.map(|parent| parent.0))
                .value("name", organization.name.clone())
                .value("level", organization.level.name())
                .and_where(Expr::col("id").eq(organization.id.0)),
        )
        .await?;
    Ok(())
}
