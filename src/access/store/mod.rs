//! The tables of access: the only SQL here. One file a table; this one reads them all at the start.

use sea_orm::sea_query::{Alias, CaseStatement, Expr, ExprTrait, OnConflict, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use super::{AccessError, AdministrativeLevel, ROOT, Resource, State};
use crate::platform::clock::UnixMs;
use crate::platform::db::Db;
use crate::platform::ids::{AgentId, HostId, OrganizationId, SourceId, VmId};

pub(super) mod audit;
pub(super) mod invitation;
pub(super) mod organization;
pub(super) mod session;
pub(super) mod token;
pub(super) mod user;

const AGENT: i16 = 1;
const SOURCE: i16 = 2;
const HOST: i16 = 3;
const VM: i16 = 4;

fn resource_key(resource: Resource) -> (i16, i64) {
    match resource {
        Resource::Agent(id) => (AGENT, id.0),
        Resource::Source(id) => (SOURCE, id.0),
        Resource::Host(id) => (HOST, id.0),
        Resource::Vm(id) => (VM, id.0),
    }
}

fn resource(kind: i16, id: i64) -> Option<Resource> {
    match kind {
        AGENT => Some(Resource::Agent(AgentId(id))),
        SOURCE => Some(Resource::Source(SourceId(id))),
        HOST => Some(Resource::Host(HostId(id))),
        VM => Some(Resource::Vm(VmId(id))),
        _ => None,
    }
}

pub(super) async fn root_ensure(db: &Db, now: UnixMs) -> Result<(), DbErr> {
    let transaction = db.begin("root_ensure").await?;
    transaction
        .execute(
            Query::insert()
                .into_table("organization")
                .columns(["id", "name", "level", "created_ms"])
                .values_panic([ROOT.0.into(), "root".into(), AdministrativeLevel::City.name().into(), now.into()])
                .on_conflict(OnConflict::column("id").do_nothing().to_owned()),
        )
        .await?;
    transaction.commit().await
}

pub(super) async fn load(read: &impl ConnectionTrait) -> Result<State, AccessError> {
    let mut state = State::default();
    organization::load(read, &mut state).await?;
    token::load(read, &mut state).await?;
    user::load(read, &mut state).await?;
    session::load(read, &mut state).await?;
    invitation::load(read, &mut state).await?;
    let ownerships = Query::select()
        .columns(["resource_kind", "resource_id", "from_ms", "organization_id"])
        .from("ownership")
        .to_owned();
    for row in read.query_all(&ownerships).await? {
        let kind: i16 = row.try_get("", "resource_kind")?;
        let unknown = || AccessError::Unknown { table: "ownership", value: format!("the kind {kind}") };
        let resource = resource(kind, row.try_get("", "resource_id")?).ok_or_else(unknown)?;
        state.own(resource, OrganizationId(row.try_get("", "organization_id")?), row.try_get("", "from_ms")?);
    }
    Ok(state)
}

/// The next number of a table whose rows stay for ever.
async fn next_id(transaction: &DatabaseTransaction, table: &'static str) -> Result<i64, DbErr> {
    let last = Query::select().expr_as(Expr::col("id").max(), Alias::new("last")).from(table).to_owned();
    let last: Option<i64> = match transaction.query_one(&last).await? {
        Some(row) => row.try_get("", "last")?,
        None => None,
    };
    Ok(last.unwrap_or(0) + 1)
}

/// Writes when things of a table were last used.
pub(super) async fn last_used(
    transaction: &DatabaseTransaction,
    table: &'static str,
    used: &[(i64, UnixMs)],
) -> Result<(), DbErr> {
    for some in used.chunks(500) {
        let when = some.iter().fold(CaseStatement::new(), |when, (id, ms)| when.case(Expr::col("id").eq(*id), *ms));
        transaction
            .execute(
                Query::update()
                    .table(table)
                    .value("last_used_ms", when)
                    .and_where(Expr::col("id").is_in(some.iter().map(|(id, _)| *id))),
            )
            .await?;
    }
    Ok(())
}

/// A hash as a row holds it.
fn hash_of(bytes: Vec<u8>, table: &'static str) -> Result<[u8; 32], AccessError> {
    bytes.try_into().map_err(|_| AccessError::Unknown { table, value: "a hash of another length".to_owned() })
}

pub(super) async fn ownership_insert(
    transaction: &DatabaseTransaction,
    things: &[(Resource, OrganizationId, UnixMs)],
) -> Result<(), DbErr> {
    // Well below the number of parameters that either database takes.
    for some in things.chunks(1000) {
        let mut insert = Query::insert()
            .into_table("ownership")
            .columns(["resource_kind", "resource_id", "from_ms", "organization_id"])
            .on_conflict(
                OnConflict::columns(["resource_kind", "resource_id", "from_ms"])
                    .update_column("organization_id")
                    .to_owned(),
            )
            .to_owned();
        for (resource, organization, from) in some {
            let (kind, id) = resource_key(*resource);
            insert.values_panic([kind.into(), id.into(), (*from).into(), organization.0.into()]);
        }
        transaction.execute(&insert).await?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) async fn testing_organization(transaction: &DatabaseTransaction, id: OrganizationId) -> Result<(), DbErr> {
    transaction
        .execute(
            Query::insert()
                .into_table("organization")
                .columns(["id", "parent_id", "name", "created_ms"])
                .values_panic([id.0.into(), ROOT.0.into(), id.to_string().into(), 0.into()]),
        )
        .await?;
    Ok(())
}
