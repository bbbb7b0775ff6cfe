//! The tables that the calendar changes: closed days, and what is too old. The only SQL of it.

use super::DAY_MS;
use super::deleted::Deleted;
use super::registry::Pruned;
use super::service::Inner;
use super::slot::{HOUR_MS, SLOT_MS};
use super::store::{anchors_insert, insert, sql};
use super::store_rows::{Replaced, day_of, ids_delete, replaced_delete};
use crate::platform::clock::UnixMs;
use crate::platform::db::Db;
use crate::platform::ids::SourceId;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Statement, Value};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

/// Rows that one transaction deletes.
const ROWS: usize = 500;

/// Slots of an open day.
#[derive(Debug)]
pub(super) struct OpenRow {
    pub id: i64,
    pub source: SourceId,
    pub body: Vec<u8>,
}

/// Some columns of a closed day.
#[derive(Debug)]
pub(super) struct DayRow {
    pub source: SourceId,
    pub slot_ms: i64,
    pub schema: i64,
    pub first_column: i64,
    pub day: i64,
    pub body: Vec<u8>,
}

/// When the oldest frame, slot and hour ended that are kept.
pub(super) async fn oldest(db: &Db) -> Result<[Option<UnixMs>; 3], DbErr> {
    let text = format!(
        "SELECT (SELECT MIN(last_ms) FROM telemetry_chunk) AS raw, (SELECT MIN(end_ms) FROM telemetry_slots) AS slot,
         (SELECT MIN(day) FROM telemetry_day WHERE slot_ms = {SLOT_MS}) AS slot_day,
         (SELECT MIN(day) FROM telemetry_day WHERE slot_ms = {HOUR_MS}) AS hour_day"
    );
    let Some(row) = db.read().query_one_raw(Statement::from_string(db.statements(), text)).await? else {
        return Ok([None; 3]);
    };
    let day = |name: &str| Ok::<_, DbErr>(row.try_get::<Option<i64>>("", name)?.map(|day| (day + 1) * DAY_MS));
    let slot = [row.try_get("", "slot")?, day("slot_day")?].into_iter().flatten().min();
    Ok([row.try_get("", "raw")?, slot, day("hour_day")?])
}

/// Sources that have slots before a midnight in open days, in order.
pub(super) async fn open_sources(
    db: &Db,
    from: i64,
    before_ms: UnixMs,
    compacted: i64,
    most: i64,
) -> Result<Vec<SourceId>, DbErr> {
    let text = "SELECT DISTINCT source_id FROM telemetry_slots
        WHERE source_id >= $1 AND end_ms <= $2 AND made_by <= $3 ORDER BY source_id LIMIT $4";
    let values = [from.into(), before_ms.into(), compacted.into(), most.into()];
    let rows = db.read().query_all_raw(sql(db.read(), text, values)).await?;
    rows.iter().map(|row| Ok(SourceId(row.try_get("", "source_id")?))).collect()
}

/// Days before a midnight that are open, of some sources, each with the newest window that added to it.
pub(super) async fn open_days(
    db: &Db,
    sources: RangeInclusive<SourceId>,
    before_ms: UnixMs,
    compacted: i64,
) -> Result<BTreeMap<(SourceId, i64), i64>, DbErr> {
    let text = "SELECT source_id, first_ms, made_by FROM telemetry_slots
        WHERE source_id >= $1 AND source_id <= $2 AND end_ms <= $3 AND made_by <= $4";
    let values = [sources.start().0.into(), sources.end().0.into(), before_ms.into(), compacted.into()];
    let mut days = BTreeMap::new();
    for row in db.read().query_all_raw(sql(db.read(), text, values)).await? {
        let day = (SourceId(row.try_get("", "source_id")?), day_of(row.try_get("", "first_ms")?));
        let made_by: i64 = row.try_get("", "made_by")?;
        days.entry(day).and_modify(|newest: &mut i64| *newest = made_by.max(*newest)).or_insert(made_by);
    }
    Ok(days)
}

/// A source's slots of an open day.
pub(super) async fn open_rows(db: &Db, source: SourceId, day: i64, compacted: i64) -> Result<Vec<OpenRow>, DbErr> {
    // No row lies over midnight.
    let text = "SELECT id, body FROM telemetry_slots
        WHERE source_id = $1 AND end_ms > $2 AND end_ms <= $3 AND made_by <= $4";
    let values = [source.0.into(), (day * DAY_MS).into(), ((day + 1) * DAY_MS).into(), compacted.into()];
    let rows = db.read().query_all_raw(sql(db.read(), text, values)).await?;
    rows.iter().map(|row| Ok(OpenRow { id: row.try_get("", "id")?, source, body: row.try_get("", "body")? })).collect()
}

/// What is closed of a source's day: the slots of five minutes; the keys of all its rows.
pub(super) async fn closed_rows(
    db: &Db,
    source: SourceId,
    day: i64,
    keys: &mut Vec<i64>,
) -> Result<Vec<Vec<u8>>, DbErr> {
    let text = "SELECT id, slot_ms, body FROM telemetry_day WHERE source_id = $1 AND day = $2";
    let mut bodies = Vec::new();
    for row in db.read().query_all_raw(sql(db.read(), text, [source.0.into(), day.into()])).await? {
        keys.push(row.try_get("", "id")?);
        if row.try_get::<i64>("", "slot_ms")? == SLOT_MS {
            bodies.push(row.try_get("", "body")?);
        }
    }
    Ok(bodies)
}

/// Closed days take the place of rows of open ones.
pub(super) async fn close(inner: &Inner, replaced: &Replaced, days: Vec<DayRow>) -> Result<(), DbErr> {
    let rows: Vec<[Expr; 7]> = days
        .into_iter()
        .map(|row| {
            let id = inner.next_day.fetch_add(1, Ordering::Relaxed);
            let (source, slot_ms, schema) = (row.source.0.into(), row.slot_ms.into(), row.schema.into());
            [id.into(), source, slot_ms, schema, row.first_column.into(), row.day.into(), row.body.into()]
        })
        .collect();
    let transaction = inner.db.begin("days_close").await?;
    let columns = ["id", "source_id", "slot_ms", "schema_number", "first_column", "day", "body"];
    replaced_delete(&transaction, replaced).await?;
    insert(&transaction, "telemetry_day", columns, None, rows).await?;
    transaction.commit().await
}

/// How far deletion has come.
pub(super) async fn deleted(db: &Db) -> Result<Deleted, DbErr> {
    let text = "SELECT slot_ms, before_ms FROM telemetry_deleted";
    let mut deleted = Deleted::default();
    for row in db.read().query_all_raw(sql(db.read(), text, [])).await? {
        let before_ms = row.try_get("", "before_ms")?;
        match row.try_get::<i64>("", "slot_ms")? {
            SLOT_MS => deleted.slot_ms = before_ms,
            HOUR_MS => deleted.hour_ms = before_ms,
            _ => deleted.raw_ms = before_ms,
        }
    }
    Ok(deleted)
}

/// Writes how far deletion comes next.
pub(super) async fn deleted_set(inner: &Inner, deleted: Deleted) -> Result<(), DbErr> {
    let rows = [(0, deleted.raw_ms), (SLOT_MS, deleted.slot_ms), (HOUR_MS, deleted.hour_ms)];
    let row = |(slot_ms, before_ms): (i64, UnixMs)| -> [Expr; 2] { [slot_ms.into(), before_ms.into()] };
    let conflict = OnConflict::column("slot_ms").update_column("before_ms").to_owned();
    let transaction = inner.db.begin("deleted").await?;
    let columns = ["slot_ms", "before_ms"];
    insert(&transaction, "telemetry_deleted", columns, Some(conflict), Vec::from(rows.map(row))).await?;
    transaction.commit().await
}

/// Deletes rows whose `column` lies before an instant; gives the one before which none is left.
pub(super) async fn older_delete(
    inner: &Inner,
    table: &str,
    column: &str,
    before: impl Fn() -> UnixMs,
    noted: fn(UnixMs) -> Deleted,
) -> Result<UnixMs, DbErr> {
    let compacted = inner.compacted.load(Ordering::SeqCst);
    let text = format!(
        "SELECT id, {column} AS at FROM {table} WHERE {column} < $1 AND made_by <= $2 ORDER BY {column} LIMIT {ROWS}"
    );
    let values = |before_ms: UnixMs| [before_ms.into(), compacted.into()];
    // To the end of its hour, so that a mark serves many.
    let noted = |at_ms: i64, before_ms: UnixMs| noted(before_ms.min((at_ms.div_euclid(HOUR_MS) + 1) * HOUR_MS));
    delete_by(inner, table, &text, before, values, noted).await
}

/// Deletes closed days before that of an instant; gives the one before whose day none is left.
pub(super) async fn days_delete(
    inner: &Inner,
    slot_ms: i64,
    before: impl Fn() -> UnixMs,
    noted: fn(UnixMs) -> Deleted,
) -> Result<UnixMs, DbErr> {
    let text =
        format!("SELECT id, day AS at FROM telemetry_day WHERE slot_ms = $1 AND day < $2 ORDER BY day LIMIT {ROWS}");
    let values = |before_ms: UnixMs| [slot_ms.into(), before_ms.div_euclid(DAY_MS).into()];
    delete_by(inner, "telemetry_day", &text, before, values, |day, _| noted((day + 1) * DAY_MS)).await
}

/// Deletes some rows at a time, the oldest first; how far these reach is noted before they go.
async fn delete_by(
    inner: &Inner,
    table: &str,
    text: &str,
    before: impl Fn() -> UnixMs,
    values: impl Fn(UnixMs) -> [Value; 2],
    noted: impl Fn(i64, UnixMs) -> Deleted,
) -> Result<UnixMs, DbErr> {
    loop {
        let before_ms = before();
        let read = inner.db.read();
        let rows = read.query_all_raw(sql(read, text, values(before_ms))).await?;
        let Some(last) = rows.last() else { return Ok(before_ms) };
        inner.delete_before(noted(last.try_get("", "at")?, before_ms)).await?;
        let ids: Vec<i64> = rows.iter().map(|row| row.try_get("", "id")).collect::<Result<_, _>>()?;
        let transaction = inner.db.begin("retention").await?;
        ids_delete(&transaction, table, &ids).await?;
        transaction.commit().await?;
    }
}

/// Deletes inventories, events and losses before an instant; the newest inventory stays.
pub(super) async fn history_delete(inner: &Inner, before_ms: UnixMs) -> Result<(), DbErr> {
    let transaction = inner.db.begin("retention").await?;
    for text in [
        "DELETE FROM telemetry_event WHERE instant_ms < $1",
        "DELETE FROM telemetry_loss WHERE arrival_ms < $1",
        "DELETE FROM telemetry_unreadable WHERE last_ms < $1",
        "DELETE FROM telemetry_facts WHERE instant_ms < $1 AND instant_ms <
            (SELECT MAX(n.instant_ms) FROM telemetry_facts n WHERE n.source_id = telemetry_facts.source_id)",
    ] {
        transaction.execute_raw(sql(&transaction, text, [before_ms.into()])).await?;
    }
    transaction.commit().await
}

/// Deletes boots and schemas that were not used since these instants.
pub(super) async fn unused_delete(
    inner: &Inner,
    now_ms: UnixMs,
    boots_ms: UnixMs,
    schemas_ms: UnixMs,
) -> Result<(), DbErr> {
    // Begun before they are forgotten: what is defined anew from then on is written after this.
    let transaction = inner.db.begin("unused").await?;
    let pruned = inner.registry.prune(now_ms, boots_ms, schemas_ms);
    let done = pruned_store(transaction, &pruned).await;
    if done.is_err() {
        inner.registry.untold(pruned);
    }
    done
}

async fn pruned_store(transaction: DatabaseTransaction, pruned: &Pruned) -> Result<(), DbErr> {
    if pruned.is_empty() {
        return transaction.commit().await;
    }
    let delete = async |table: &str, key: &str, ids: &[i64]| {
        for some in ids.chunks(1_000) {
            let ids = some.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
            transaction.execute_unprepared(&format!("DELETE FROM {table} WHERE {key} IN ({ids})")).await?;
        }
        Ok::<_, DbErr>(())
    };
    let boots: Vec<i64> = pruned.boots.iter().map(|number| i64::from(*number)).collect();
    let crowded = pruned.anchors.iter().map(|(boot, _)| i64::from(boot.number));
    delete("telemetry_anchor", "boot", &boots.iter().copied().chain(crowded).collect::<Vec<_>>()).await?;
    delete("telemetry_boot", "number", &boots).await?;
    delete("telemetry_schema", "number", &pruned.schemas).await?;
    for (table, used) in [("telemetry_boot", &pruned.boots_used), ("telemetry_schema", &pruned.schemas_used)] {
        let used: Vec<_> = used.iter().collect();
        for some in used.chunks(1_000) {
            // One statement for many rows; both databases name the columns of VALUES so.
            let values = some.iter().map(|(number, used_ms)| format!("({number},{used_ms})"));
            let values = values.collect::<Vec<_>>().join(",");
            let update = format!(
                "UPDATE {table} SET used_ms = v.column2 FROM (VALUES {values}) AS v WHERE {table}.number = v.column1"
            );
            transaction.execute_unprepared(&update).await?;
        }
    }
    let kept = pruned.anchors.iter().flat_map(|(boot, anchors)| anchors.iter().map(|one| (boot.number, *one)));
    anchors_insert(&transaction, &kept.collect::<Vec<_>>()).await?;
    transaction.commit().await
}
