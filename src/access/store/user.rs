//! Rows of users.

use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use super::next_id;
use crate::access::{AccessError, Password, Role, Roles, State, User};
use crate::platform::http::Language;
use crate::platform::ids::{OrganizationId, UserId};

const TABLE: &str = "user_account";

fn roles_text(roles: Roles) -> String {
    roles.iter().map(Role::name).collect::<Vec<_>>().join(" ")
}

fn roles_of(text: &str) -> Result<Roles, AccessError> {
    let unknown = |value: &str| AccessError::Unknown { table: TABLE, value: format!("the roles {value}") };
    let roles: Option<Vec<Role>> = text.split_whitespace().map(Role::of_name).collect();
    Roles::of_person(roles.ok_or_else(|| unknown(text))?).map_err(|_| unknown(text))
}

pub(super) async fn load(read: &impl ConnectionTrait, state: &mut State) -> Result<(), AccessError> {
    let users = Query::select()
        .columns([
            "id",
            "name",
            "display_name",
            "organization_id",
            "roles",
            "password",
            "language",
            "created_ms",
            "disabled_ms",
            "last_login_ms",
        ])
        .from(TABLE)
        .to_owned();
    for row in read.query_all(&users).await? {
        let id = UserId(row.try_get("", "id")?);
        let roles: String = row.try_get("", "roles")?;
        let password: Option<String> = row.try_get("", "password")?;
        let language: Option<String> = row.try_get("", "language")?;
        state.users.insert(
            id,
            User {
                id,
                name: row.try_get("", "name")?,
                display_name: row.try_get("", "display_name")?,
                organization: OrganizationId(row.try_get("", "organization_id")?),
                roles: roles_of(&roles)?,
                password: password.map(Password),
                language: language.and_then(|tag| Language::of_tag(&tag)),
                created_ms: row.try_get("", "created_ms")?,
                disabled_ms: row.try_get("", "disabled_ms")?,
                last_login_ms: row.try_get("", "last_login_ms")?,
            },
        );
    }
    Ok(())
}

/// Inserts a user, who is given the next id.
pub(in crate::access) async fn insert(transaction: &DatabaseTransaction, user: &mut User) -> Result<(), DbErr> {
    user.id = UserId(next_id(transaction, TABLE).await?);
    transaction
        .execute(
            Query::insert()
                .into_table(TABLE)
                .columns([
                    "id",
                    "name",
                    "name_key",
                    "display_name",
                    "organization_id",
                    "roles",
                    "password",
                    "language",
                    "created_ms",
                ])
                .values_panic([
                    user.id.0.into(),
                    user.name.clone().into(),
                    user.name.to_lowercase().into(),
                    user.display_name.clone().into(),
                    user.organization.0.into(),
                    roles_text(user.roles).into(),
                    user.password.clone().map(|password| password.0).into(),
                    user.language.map(|language| language.tag().to_owned()).into(),
                    user.created_ms.into(),
                ]),
        )
        .await?;
    Ok(())
}

/// Writes everything of a user that can change.
pub(in crate::access) async fn update(transaction: &DatabaseTransaction, user: &User) -> Result<(), DbErr> {
    transaction
        .execute(
            Query::update()
                .table(TABLE)
                .value("display_name", user.display_name.clone())
                .value("organization_id", user.organization.0)
                .value("roles", roles_text(user.roles))
                .value("password", user.password.clone().map(|password| password.0))
                .value("language", user.language.map(|language| language.tag().to_owned()))
                .value("disabled_ms", user.disabled_ms)
                .value("last_login_ms", user.last_login_ms)
                .and_where(Expr::col("id").eq(user.id.0)),
        )
        .await?;
    Ok(())
}
