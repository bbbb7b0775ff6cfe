//! Rows of the audit log.

use sea_orm::sea_query::{Expr, ExprTrait, LikeExpr, Order, Query, SelectStatement};
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, IsolationLevel,
    QueryResult, TransactionTrait,
};

use crate::access::audit::{AuditEntry, AuditFilter, Bytes32};
use crate::platform::clock::UnixMs;

const TABLE: &str = "audit_entry";
const ANCHOR: &str = "audit_anchor";

/// An entry's parts and its MAC.
fn columns() -> impl Iterator<Item = &'static str> {
    AuditEntry::PARTS.into_iter().chain(["mac"])
}

/// A MAC as a row holds it; one of another length is no MAC of ours, and verifies as none.
fn mac_of(bytes: Vec<u8>) -> Bytes32 {
    bytes.try_into().unwrap_or([0xff; 32])
}

fn entry(row: &QueryResult) -> Result<AuditEntry, DbErr> {
    Ok(AuditEntry {
        number: row.try_get("", "number")?,
        at_ms: row.try_get("", "at_ms")?,
        actor_kind: row.try_get("", "actor_kind")?,
        actor_id: row.try_get("", "actor_id")?,
        actor_name: row.try_get("", "actor_name")?,
        address: row.try_get("", "address")?,
        action: row.try_get("", "action")?,
        resource: row.try_get("", "resource")?,
        before: row.try_get("", "before")?,
        after: row.try_get("", "after")?,
        result: row.try_get("", "result")?,
        reason: row.try_get("", "reason")?,
        request_id: row.try_get("", "request_id")?,
    })
}

/// Number and MAC of the last entry, or of the anchor if retention left none.
pub(in crate::access) async fn head(connection: &impl ConnectionTrait) -> Result<Option<(i64, Bytes32)>, DbErr> {
    for table in [TABLE, ANCHOR] {
        let last =
            Query::select().columns(["number", "mac"]).from(table).order_by("number", Order::Desc).limit(1).to_owned();
        if let Some(row) = connection.query_one(&last).await? {
            return Ok(Some((row.try_get("", "number")?, mac_of(row.try_get("", "mac")?))));
        }
    }
    Ok(None)
}

/// Writes entries with their MACs.
pub(in crate::access) async fn insert(
    transaction: &DatabaseTransaction,
    entries: &[(AuditEntry, Bytes32)],
) -> Result<(), DbErr> {
    // Well below the number of parameters that either database takes.
    for some in entries.chunks(1_000) {
        let mut insert = Query::insert().into_table(TABLE).columns(columns()).to_owned();
        for (entry, mac) in some {
            insert.values_panic([
                entry.number.into(),
                entry.at_ms.into(),
                entry.actor_kind.clone().into(),
                entry.actor_id.clone().into(),
                entry.actor_name.clone().into(),
                entry.address.clone().into(),
                entry.action.clone().into(),
                entry.resource.clone().into(),
                entry.before.clone().into(),
                entry.after.clone().into(),
                entry.result.clone().into(),
                entry.reason.clone().into(),
                entry.request_id.clone().into(),
                mac.to_vec().into(),
            ]);
        }
        transaction.execute(&insert).await?;
    }
    Ok(())
}

/// A transaction that reads the log as it is at one moment.
pub(in crate::access) async fn snapshot(read: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    match read.get_database_backend() {
        // What a transaction of SQLite reads first is what it goes on to read.
        DbBackend::Sqlite => read.begin().await,
        _ => read.begin_with_config(Some(IsolationLevel::RepeatableRead), Some(AccessMode::ReadOnly)).await,
    }
}

/// The anchor: number, MAC, seal.
pub(in crate::access) async fn anchor(read: &DatabaseTransaction) -> Result<Option<(i64, Bytes32, Bytes32)>, DbErr> {
    let anchor = Query::select()
        .columns(["number", "mac", "seal"])
        .from(ANCHOR)
        .order_by("number", Order::Desc)
        .limit(1)
        .to_owned();
    match read.query_one(&anchor).await? {
        Some(row) => {
            Ok(Some((row.try_get("", "number")?, mac_of(row.try_get("", "mac")?), mac_of(row.try_get("", "seal")?))))
        }
        None => Ok(None),
    }
}

/// Whether control itself wrote an entry of an action, from a number on.
pub(in crate::access) async fn is_said_from(
    read: &DatabaseTransaction,
    action: &str,
    number: i64,
) -> Result<bool, DbErr> {
    let said = Query::select()
        .column("number")
        .from(TABLE)
        .and_where(Expr::col("number").gte(number))
        .and_where(Expr::col("action").eq(action))
        .and_where(Expr::col("actor_kind").eq("system"))
        .limit(1)
        .to_owned();
    Ok(read.query_one(&said).await?.is_some())
}

/// Of the oldest entries, a portion at most, the last one before an instant.
pub(in crate::access) async fn last_before(
    transaction: &DatabaseTransaction,
    before_ms: UnixMs,
    portion: u64,
) -> Result<Option<(i64, Bytes32)>, DbErr> {
    let oldest = Query::select()
        .columns(["number", "at_ms", "mac"])
        .from(TABLE)
        .order_by("number", Order::Asc)
        .limit(portion)
        .to_owned();
    let mut last = None;
    for row in transaction.query_all(&oldest).await? {
        let at_ms: UnixMs = row.try_get("", "at_ms")?;
        // Only a beginning goes: what a clock that stepped wrote in between goes with it later.
        if at_ms >= before_ms {
            break;
        }
        last = Some((row.try_get("", "number")?, mac_of(row.try_get("", "mac")?)));
    }
    Ok(last)
}

/// When the first entry was written.
pub(in crate::access) async fn oldest(read: &DatabaseConnection) -> Result<Option<UnixMs>, DbErr> {
    let first = Query::select().column("at_ms").from(TABLE).order_by("number", Order::Asc).limit(1).to_owned();
    read.query_one(&first).await?.map(|row| row.try_get("", "at_ms")).transpose()
}

/// Removes entries up to a number and puts the anchor in their place.
pub(in crate::access) async fn cut(
    transaction: &DatabaseTransaction,
    number: i64,
    mac: &Bytes32,
    seal: &Bytes32,
) -> Result<(), DbErr> {
    transaction.execute(Query::delete().from_table(TABLE).and_where(Expr::col("number").lte(number))).await?;
    transaction.execute(Query::delete().from_table(ANCHOR)).await?;
    transaction
        .execute(Query::insert().into_table(ANCHOR).columns(["number", "mac", "seal"]).values_panic([
            number.into(),
            mac.to_vec().into(),
            seal.to_vec().into(),
        ]))
        .await?;
    Ok(())
}

/// Entries with their MACs behind a number, oldest first.
pub(in crate::access) async fn portion(
    read: &DatabaseTransaction,
    behind: i64,
    limit: u64,
) -> Result<Vec<(AuditEntry, Bytes32)>, DbErr> {
    let some = Query::select()
        .columns(columns())
        .from(TABLE)
        .and_where(Expr::col("number").gt(behind))
        .order_by("number", Order::Asc)
        .limit(limit)
        .to_owned();
    let rows = read.query_all(&some).await?;
    rows.iter().map(|row| Ok((entry(row)?, mac_of(row.try_get("", "mac")?)))).collect()
}

fn filtered(filter: &AuditFilter) -> SelectStatement {
    let mut select = Query::select().columns(AuditEntry::PARTS).from(TABLE).to_owned();
    if let Some(from_ms) = filter.from_ms {
        select.and_where(Expr::col("at_ms").gte(from_ms));
    }
    if let Some(to_ms) = filter.to_ms {
        select.and_where(Expr::col("at_ms").lt(to_ms));
    }
    if let Some(actor) = &filter.actor {
        select.and_where(Expr::col("actor_id").eq(actor.as_str()).or(Expr::col("actor_name").eq(actor.as_str())));
    }
    match &filter.action {
        Some(beginning) if beginning.ends_with('.') => {
            // What a person writes is text, not a pattern.
            let text: String =
                beginning.chars().flat_map(|c| "\\%_".contains(c).then_some('\\').into_iter().chain([c])).collect();
            select.and_where(Expr::col("action").like(LikeExpr::new(format!("{text}%")).escape('\\')));
        }
        Some(action) => {
            select.and_where(Expr::col("action").eq(action.as_str()));
        }
        None => {}
    }
    if let Some(result) = filter.result {
        select.and_where(Expr::col("result").eq(result.name()));
    }
    select
}

/// Entries that a filter takes, newest first, behind a number.
pub(in crate::access) async fn entries(
    read: &DatabaseConnection,
    filter: &AuditFilter,
    after: Option<i64>,
    limit: u64,
) -> Result<Vec<AuditEntry>, DbErr> {
    let mut select = filtered(filter);
    if let Some(after) = after {
        select.and_where(Expr::col("number").lt(after));
    }
    select.order_by("number", Order::Desc).limit(limit);
    read.query_all(&select).await?.iter().map(entry).collect()
}
