//! The tables of telemetry: the only SQL of the write path and of the start.

use super::agent_state::Counts;
use super::columns::FrameMeta;
use super::gaps::Loss;
use super::live::Place;
use super::queue::{LossRow, Rows};
use super::registry::{BootRow, Definitions, Owned};
use super::{Facts, SourceEvent};
use crate::access::Access;
use crate::fleet::sink::ControlAnchor;
use crate::platform::clock::UnixMs;
use crate::platform::db::{Backend, Db};
use crate::platform::ids::{AgentId, SourceId};
use sea_orm::sea_query::{Expr, OnConflict, Order, Query};
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseBackend, DatabaseTransaction, DbErr, IsolationLevel, QueryResult, Statement,
    TransactionTrait, Value,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tongtu_protocol::{schema::SchemaId, v1};

/// Bytes of batches that are read at once, about. Most are small, and a question costs as much as hundreds of frames.
const READ_BYTES: u64 = 1 << 20;

/// Well below the parameters that either database takes in one statement.
const PARAMETERS: usize = 20_000;

/// A window that is not gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowRow {
    pub id: i64,
    pub opened_ms: UnixMs,
    pub state: WindowState,
}

/// A window's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WindowState {
    Open,
    Sealed,
    /// Its rows do not count any more and go away.
    Compacted,
}

impl WindowState {
    pub(super) fn number(self) -> i16 {
        match self {
            Self::Open => 0,
            Self::Sealed => 1,
            Self::Compacted => 2,
        }
    }
}

pub(super) fn sql(connection: &impl ConnectionTrait, text: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(connection.get_database_backend(), text, values)
}

/// Inserts rows, as many in one statement as parameters allow.
pub(super) async fn insert<const N: usize>(
    transaction: &DatabaseTransaction,
    table: &'static str,
    columns: [&'static str; N],
    conflict: Option<OnConflict>,
    rows: Vec<[Expr; N]>,
) -> Result<(), DbErr> {
    let mut rows = rows.into_iter();
    while rows.len() > 0 {
        let mut insert = Query::insert().into_table(table).columns(columns).to_owned();
        for row in rows.by_ref().take(PARAMETERS / N) {
            insert.values_panic(row);
        }
        if let Some(conflict) = &conflict {
            insert.on_conflict(conflict.clone());
        }
        transaction.execute(&insert).await?;
    }
    Ok(())
}

pub(super) async fn window_list(db: &Db) -> Result<Vec<WindowRow>, DbErr> {
    let text = "SELECT id, opened_ms, state FROM telemetry_window ORDER BY id";
    let rows = db.read().query_all_raw(sql(db.read(), text, [])).await?;
    let window = |row: &QueryResult| {
        let state = match row.try_get::<i16>("", "state")? {
            0 => WindowState::Open,
            1 => WindowState::Sealed,
            _ => WindowState::Compacted,
        };
        Ok(WindowRow { id: row.try_get("", "id")?, opened_ms: row.try_get("", "opened_ms")?, state })
    };
    rows.iter().map(window).collect()
}

/// One state of the database for several questions.
pub(super) async fn snapshot(db: &Db) -> Result<DatabaseTransaction, DbErr> {
    match db.backend() {
        // What the first question sees, all see.
        Backend::Sqlite => db.read().begin().await,
        Backend::Postgres => {
            let (level, mode) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
            db.read().begin_with_config(Some(level), Some(mode)).await
        }
    }
}

/// Makes a window's table and seals the ones before it.
pub(super) async fn window_open(transaction: &DatabaseTransaction, id: i64, opened_ms: UnixMs) -> Result<(), DbErr> {
    let postgres = transaction.get_database_backend() == DatabaseBackend::Postgres;
    let (key, blob) = if postgres { ("BIGINT", "BYTEA") } else { ("INTEGER", "BLOB") };
    let table = format!("CREATE TABLE window_{id} (id {key} PRIMARY KEY, body {blob} NOT NULL)");
    transaction.execute_unprepared(&table).await?;
    if postgres {
        let storage = format!("ALTER TABLE window_{id} ALTER COLUMN body SET STORAGE EXTERNAL");
        transaction.execute_unprepared(&storage).await?;
    }
    let seal = "UPDATE telemetry_window SET state = 1 WHERE state = 0";
    transaction.execute_raw(sql(transaction, seal, [])).await?;
    let insert = "INSERT INTO telemetry_window (id, opened_ms, state) VALUES ($1, $2, 0)";
    transaction.execute_raw(sql(transaction, insert, [id.into(), opened_ms.into()])).await?;
    Ok(())
}

pub(super) async fn window_set(transaction: &DatabaseTransaction, id: i64, state: WindowState) -> Result<(), DbErr> {
    let text = "UPDATE telemetry_window SET state = $1 WHERE id = $2";
    transaction.execute_raw(sql(transaction, text, [state.number().into(), id.into()])).await?;
    Ok(())
}

/// Deletes up to `batches` of a compacted window's rows and says whether some are left.
pub(super) async fn window_drain(db: &Db, id: i64, batches: i64) -> Result<bool, DbErr> {
    let transaction = db.begin("window_drain").await?;
    let text = format!("DELETE FROM window_{id} WHERE id IN (SELECT id FROM window_{id} ORDER BY id LIMIT $1)");
    let deleted = transaction.execute_raw(sql(&transaction, &text, [batches.into()])).await?.rows_affected();
    transaction.commit().await?;
    Ok(deleted > 0)
}

/// How many of a window's batches have about this many bytes.
pub(super) async fn window_batches(db: &Db, id: i64, bytes: u64) -> Result<i64, DbErr> {
    let text = format!("SELECT COALESCE(MAX(LENGTH(body)), 1) AS largest FROM window_{id}");
    let row = db.read().query_one_raw(sql(db.read(), &text, [])).await?;
    let largest: i64 = match row {
        Some(row) => i64::from(row.try_get::<i32>("", "largest")?),
        None => 1,
    };
    Ok((bytes as i64 / largest.max(1)).max(1))
}

/// Drops a compacted window's table, which is empty by now.
pub(super) async fn window_drop(db: &Db, id: i64) -> Result<(), DbErr> {
    let transaction = db.begin("window_drop").await?;
    transaction.execute_unprepared(&format!("DROP TABLE window_{id}")).await?;
    let text = "DELETE FROM telemetry_window WHERE id = $1";
    transaction.execute_raw(sql(&transaction, text, [id.into()])).await?;
    transaction.commit().await
}

/// Inserts a batch.
pub(super) fn batch_statement(database: DatabaseBackend, window: i64, id: i64, body: Vec<u8>) -> Statement {
    let text = format!("INSERT INTO window_{window} (id, body) VALUES ($1, $2)");
    Statement::from_sql_and_values(database, text, [id.into(), body.into()])
}

/// All batches of a window, in order, some at a time.
#[derive(Debug)]
pub(super) struct Batches<'a> {
    db: &'a Db,
    window: i64,
    after: i64,
    at_once: i64,
    read: std::vec::IntoIter<(i64, Vec<u8>)>,
}

impl<'a> Batches<'a> {
    pub(super) async fn of(db: &'a Db, window: i64) -> Result<Self, DbErr> {
        let at_once = window_batches(db, window, READ_BYTES).await?;
        Ok(Self { db, window, after: 0, at_once, read: Vec::new().into_iter() })
    }

    pub(super) async fn next(&mut self) -> Result<Option<(i64, Vec<u8>)>, DbErr> {
        if self.read.len() == 0 {
            self.read = batches_after(self.db, self.window, self.after, self.at_once).await?.into_iter();
        }
        let next = self.read.next();
        self.after = next.as_ref().map_or(self.after, |(id, _)| *id);
        Ok(next)
    }
}

/// The first `limit` batches of a window behind one of them.
async fn batches_after(db: &Db, window: i64, after: i64, limit: i64) -> Result<Vec<(i64, Vec<u8>)>, DbErr> {
    let text = format!("SELECT id, body FROM window_{window} WHERE id > $1 ORDER BY id LIMIT $2");
    let rows = db.read().query_all_raw(sql(db.read(), &text, [after.into(), limit.into()])).await?;
    rows.iter().map(|row| Ok((row.try_get("", "id")?, row.try_get("", "body")?))).collect()
}

/// Writes what is new, and who owns it.
pub(super) async fn definitions_insert(
    transaction: &DatabaseTransaction,
    access: &Access,
    definitions: &Definitions,
) -> Result<(), DbErr> {
    // What the registry forgot may still have its row, or wait here before the one that came again:
    // nothing stored is of it, so the newest takes its place.
    let mut schemas: Vec<_> = definitions.schemas.iter().rev().collect();
    schemas.sort_by_key(|(schema, _)| schema.id);
    schemas.dedup_by_key(|(schema, _)| schema.id);
    let schemas = schemas.into_iter().map(|(schema, owned)| {
        let columns = v1::Schema {
            id: Default::default(),
            columns: schema.columns.iter().map(|column| (**column).clone()).collect(),
        };
        let columns = prost::Message::encode_to_vec(&columns);
        let agent = owned.agent.map(|agent| agent.0).into();
        [schema.number.into(), schema.id.0.to_vec().into(), columns.into(), agent, owned.used_ms.into()]
    });
    let columns = ["number", "identity", "columns", "agent_id", "used_ms"];
    let conflict = OnConflict::column("identity").update_columns(["number", "agent_id", "used_ms"]).to_owned();
    insert(transaction, "telemetry_schema", columns, Some(conflict), schemas.collect()).await?;
    let mut boots: Vec<_> = definitions.boots.iter().rev().collect();
    boots.sort_by_key(|boot| (boot.agent, &boot.boot_id));
    boots.dedup_by_key(|boot| (boot.agent, &boot.boot_id));
    let boots = boots.into_iter().map(|boot| {
        let (number, boot_id) = (i64::from(boot.number).into(), boot.boot_id.clone().into());
        [number, boot.agent.0.into(), boot_id, boot.used_ms.into()]
    });
    let columns = ["number", "agent_id", "boot_id", "used_ms"];
    let conflict = OnConflict::columns(["agent_id", "boot_id"]).update_columns(["number", "used_ms"]).to_owned();
    insert(transaction, "telemetry_boot", columns, Some(conflict), boots.collect()).await?;
    anchors_insert(transaction, &definitions.anchors).await?;
    // The same source twice in one statement would be an error on PostgreSQL.
    let mut sources: Vec<_> = definitions.sources.iter().collect();
    sources.sort_by_key(|row| row.source.id);
    sources.dedup_by_key(|row| row.source.id);
    let sources = sources.into_iter().map(|row| {
        let source = &row.source;
        [
            source.id.0.into(),
            source.agent.0.into(),
            source.kind.clone().into(),
            source.key.clone().into(),
            source.created_ms.into(),
            i64::from(source.interval_ms()).into(),
            i64::from(source.widest_ms()).into(),
            i64::from(source.widest_cadence_ms()).into(),
        ]
    });
    let columns =
        ["id", "agent_id", "kind", "local_key", "created_ms", "interval_ms", "widest_ms", "widest_cadence_ms"];
    let conflict =
        OnConflict::column("id").update_columns(["interval_ms", "widest_ms", "widest_cadence_ms"]).to_owned();
    insert(transaction, "telemetry_source", columns, Some(conflict), sources.collect()).await?;
    access.own(transaction, &definitions.owned()).await
}

/// Writes anchors that are not there.
pub(super) async fn anchors_insert(
    transaction: &DatabaseTransaction,
    anchors: &[(u32, ControlAnchor)],
) -> Result<(), DbErr> {
    let anchors = anchors.iter().map(|(boot, anchor)| {
        [
            i64::from(*boot).into(),
            (anchor.boottime_ms as i64).into(),
            anchor.control_ms.into(),
            i64::from(anchor.round_trip_ms).into(),
        ]
    });
    let columns = ["boot", "boottime_ms", "control_ms", "round_trip_ms"];
    let conflict = OnConflict::columns(["boot", "boottime_ms"]).do_nothing().to_owned();
    insert(transaction, "telemetry_anchor", columns, Some(conflict), anchors.collect()).await
}

/// Writes facts, events and losses. `event` is the first free number of an event.
pub(super) async fn rows_insert(transaction: &DatabaseTransaction, rows: &Rows, event: i64) -> Result<(), DbErr> {
    let mut facts: Vec<_> = rows.facts.iter().map(|row| (row.source.id, row.facts.instant_ms, &row.facts)).collect();
    // Of two at one instant the later one counts.
    facts.reverse();
    facts.sort_by_key(|row| (row.0, row.1));
    facts.dedup_by_key(|row| (row.0, row.1));
    let facts = facts.into_iter().map(|(source, instant_ms, facts)| {
        let text = serde_json::to_string(&facts.values).expect("texts are JSON");
        [source.0.into(), instant_ms.into(), text.into()]
    });
    let conflict = OnConflict::columns(["source_id", "instant_ms"]).update_column("facts").to_owned();
    insert(transaction, "telemetry_facts", ["source_id", "instant_ms", "facts"], Some(conflict), facts.collect())
        .await?;
    let events = (event..).zip(&rows.events).map(|(id, row)| {
        let (name, attributes) = (row.name.clone(), row.attributes.clone());
        [id.into(), row.source.0.into(), row.instant_ms.into(), name.into(), attributes.into()]
    });
    let columns = ["id", "source_id", "instant_ms", "name", "attributes"];
    insert(transaction, "telemetry_event", columns, None, events.collect()).await?;
    // A range that was placed more exactly is there again: the last says most.
    let last: BTreeMap<_, _> = rows.losses.iter().map(|row| ((row.agent, row.epoch, row.first), row)).collect();
    let losses = last.into_values().map(|row| {
        [
            row.agent.0.into(),
            (row.epoch as i64).into(),
            (row.first as i64).into(),
            (row.last as i64).into(),
            (row.reason as i16).into(),
            row.arrival_ms.into(),
            row.from_ms.into(),
            row.to_ms.into(),
        ]
    });
    let columns = ["agent_id", "epoch", "first_sequence", "last_sequence", "reason", "arrival_ms", "from_ms", "to_ms"];
    let conflict = OnConflict::columns(["agent_id", "epoch", "first_sequence"])
        .update_columns(["last_sequence", "from_ms", "to_ms"])
        .to_owned();
    insert(transaction, "telemetry_loss", columns, Some(conflict), losses.collect()).await
}

/// The newest events of some sources between two instants, the newest first.
pub(super) async fn events_between(
    connection: &impl ConnectionTrait,
    sources: &[SourceId],
    (from_ms, to_ms): (UnixMs, UnixMs),
    most: usize,
) -> Result<Vec<SourceEvent>, DbErr> {
    use sea_orm::sea_query::ExprTrait as _;
    let events = Query::select()
        .columns(["source_id", "instant_ms", "name", "attributes"])
        .from("telemetry_event")
        .and_where(Expr::col("source_id").is_in(sources.iter().map(|source| source.0)))
        .and_where(Expr::col("instant_ms").gte(from_ms))
        .and_where(Expr::col("instant_ms").lt(to_ms))
        .order_by("instant_ms", Order::Desc)
        .order_by("id", Order::Desc)
        .limit(most as u64)
        .to_owned();
    let event = |row: &sea_orm::QueryResult| -> Result<SourceEvent, DbErr> {
        let attributes: String = row.try_get("", "attributes")?;
        Ok(SourceEvent {
            source: SourceId(row.try_get("", "source_id")?),
            instant_ms: row.try_get("", "instant_ms")?,
            name: row.try_get("", "name")?,
            attributes: serde_json::from_str(&attributes).unwrap_or_default(),
        })
    };
    connection.query_all(&events).await?.iter().map(event).collect()
}

/// Ranges of an agent's records that will never come, and may lie in a period: reason, arrival, and
/// the instants between which they lie. At most `limit`, the newest; whether there are more.
pub(super) async fn losses_between(
    connection: &impl ConnectionTrait,
    agent: AgentId,
    (from_ms, to_ms): (UnixMs, UnixMs),
    limit: usize,
) -> Result<(Vec<Loss>, bool), DbErr> {
    let text = "SELECT reason, arrival_ms, from_ms, to_ms FROM telemetry_loss WHERE agent_id = $1
        AND (to_ms IS NULL OR to_ms > $2) AND (from_ms IS NULL OR from_ms < $3)
        ORDER BY arrival_ms DESC, epoch, first_sequence LIMIT $4";
    let values = [agent.0.into(), from_ms.into(), to_ms.into(), (limit as i64 + 1).into()];
    let rows = connection.query_all_raw(sql(connection, text, values)).await?;
    let loss = |row: &QueryResult| {
        let reason: i16 = row.try_get("", "reason")?;
        let (from_ms, to_ms) = (row.try_get("", "from_ms")?, row.try_get("", "to_ms")?);
        Ok(Loss { reason: i32::from(reason), arrival_ms: row.try_get("", "arrival_ms")?, from_ms, to_ms })
    };
    let losses = rows.iter().take(limit).map(loss).collect::<Result<_, DbErr>>()?;
    Ok((losses, rows.len() > limit))
}

/// An agent's ranges in the order of their keys, behind one of them.
pub(super) async fn loss_list(
    db: &Db,
    agent: AgentId,
    after: Option<(u64, u64)>,
    limit: usize,
) -> Result<Vec<LossRow>, DbErr> {
    let text = "SELECT epoch, first_sequence, last_sequence, reason, arrival_ms, from_ms, to_ms FROM telemetry_loss
        WHERE agent_id = $1 AND (epoch > $2 OR (epoch = $2 AND first_sequence > $3))
        ORDER BY epoch, first_sequence LIMIT $4";
    let (epoch, first) = after.map_or((i64::MIN, i64::MIN), |(epoch, first)| (epoch as i64, first as i64));
    let values = [agent.0.into(), epoch.into(), first.into(), (limit as i64).into()];
    let rows = db.read().query_all_raw(sql(db.read(), text, values)).await?;
    let loss = |row: &QueryResult| {
        let number = |name| row.try_get::<i64>("", name);
        let reason: i16 = row.try_get("", "reason")?;
        Ok(LossRow {
            agent,
            epoch: number("epoch")? as u64,
            first: number("first_sequence")? as u64,
            last: number("last_sequence")? as u64,
            reason: reason.into(),
            arrival_ms: number("arrival_ms")?,
            from_ms: row.try_get("", "from_ms")?,
            to_ms: row.try_get("", "to_ms")?,
        })
    };
    rows.iter().map(loss).collect()
}

/// What is settled of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SettledRow {
    pub agent: AgentId,
    pub epoch: u64,
    pub ranges: Vec<(u64, u64)>,
    pub counts: Counts,
    pub last_instant_ms: Option<UnixMs>,
    pub last_arrival_ms: Option<UnixMs>,
}

pub(super) async fn settled_upsert(transaction: &DatabaseTransaction, rows: &[SettledRow]) -> Result<(), DbErr> {
    let values = rows.iter().map(|row| {
        [
            row.agent.0.into(),
            (row.epoch as i64).into(),
            ranges_encode(&row.ranges).into(),
            (row.counts.accepted as i64).into(),
            (row.counts.refused as i64).into(),
            (row.counts.lost as i64).into(),
            row.last_instant_ms.into(),
            row.last_arrival_ms.into(),
        ]
    });
    let columns = ["agent_id", "epoch", "ranges", "accepted", "refused", "lost", "last_instant_ms", "last_arrival_ms"];
    let conflict = OnConflict::columns(["agent_id", "epoch"])
        .update_columns(["ranges", "accepted", "refused", "lost", "last_instant_ms", "last_arrival_ms"])
        .to_owned();
    insert(transaction, "telemetry_settled", columns, Some(conflict), values.collect()).await
}

pub(super) async fn settled_list(db: &Db) -> Result<Vec<SettledRow>, DbErr> {
    let text = "SELECT * FROM telemetry_settled";
    let rows = db.read().query_all_raw(sql(db.read(), text, [])).await?;
    let settled = |row: &QueryResult| {
        let count = |name| row.try_get::<i64>("", name).map(|count| count as u64);
        let ranges: Vec<u8> = row.try_get("", "ranges")?;
        let ranges = ranges_decode(&ranges)
            .ok_or_else(|| DbErr::Custom("telemetry_settled holds ranges that cannot be read".to_owned()))?;
        Ok(SettledRow {
            agent: AgentId(row.try_get("", "agent_id")?),
            epoch: count("epoch")?,
            ranges,
            counts: Counts { accepted: count("accepted")?, refused: count("refused")?, lost: count("lost")? },
            last_instant_ms: row.try_get("", "last_instant_ms")?,
            last_arrival_ms: row.try_get("", "last_arrival_ms")?,
        })
    };
    rows.iter().map(settled).collect()
}

/// Of each range: the distance from the last, and its length.
fn ranges_encode(ranges: &[(u64, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    for (first, last) in ranges {
        tongtu_protocol::codec::put_varint(&mut out, first - at);
        tongtu_protocol::codec::put_varint(&mut out, last - first);
        at = *last;
    }
    out
}

fn ranges_decode(bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
    let (mut ranges, mut place, mut at) = (Vec::new(), 0, 0u64);
    while place < bytes.len() {
        let first = at.checked_add(tongtu_protocol::codec::get_varint(bytes, &mut place).ok()?)?;
        at = first.checked_add(tongtu_protocol::codec::get_varint(bytes, &mut place).ok()?)?;
        ranges.push((first, at));
    }
    Some(ranges)
}

/// `now_ms` stands for what an older version did not write down.
pub(super) async fn schema_list(db: &Db, now_ms: UnixMs) -> Result<Vec<(super::StoredSchema, Owned)>, DbErr> {
    let text = "SELECT number, identity, columns, agent_id, used_ms FROM telemetry_schema ORDER BY number";
    let rows = db.read().query_all_raw(sql(db.read(), text, [])).await?;
    let broken = || DbErr::Custom("telemetry_schema holds a schema that cannot be read".to_owned());
    let schema = |row: &QueryResult| {
        let (identity, columns): (Vec<u8>, Vec<u8>) = (row.try_get("", "identity")?, row.try_get("", "columns")?);
        let columns: v1::Schema = prost::Message::decode(&*columns).map_err(|_| broken())?;
        let id = SchemaId::from_bytes(&identity).ok_or_else(broken)?;
        let agent = row.try_get::<Option<i64>>("", "agent_id")?.map(AgentId);
        let used_ms = row.try_get::<Option<i64>>("", "used_ms")?.unwrap_or(now_ms);
        let schema = super::StoredSchema::new(row.try_get("", "number")?, id, columns.columns);
        Ok((schema, Owned { agent, used_ms }))
    };
    rows.iter().map(schema).collect()
}

pub(super) async fn boot_list(db: &Db, now_ms: UnixMs) -> Result<Vec<BootRow>, DbErr> {
    let text = "SELECT number, agent_id, boot_id, used_ms FROM telemetry_boot";
    let rows = db.read().query_all_raw(sql(db.read(), text, [])).await?;
    let boot = |row: &QueryResult| {
        let number: i64 = row.try_get("", "number")?;
        let agent = AgentId(row.try_get("", "agent_id")?);
        let used_ms = row.try_get::<Option<i64>>("", "used_ms")?.unwrap_or(now_ms);
        Ok(BootRow { number: number as u32, agent, boot_id: row.try_get("", "boot_id")?, used_ms })
    };
    rows.iter().map(boot).collect()
}

pub(super) async fn anchor_list(db: &Db) -> Result<Vec<(u32, ControlAnchor)>, DbErr> {
    let text = "SELECT boot, boottime_ms, control_ms, round_trip_ms FROM telemetry_anchor ORDER BY boot, boottime_ms";
    let rows = db.read().query_all_raw(sql(db.read(), text, [])).await?;
    let anchor = |row: &QueryResult| {
        let (boot, boottime, round_trip): (i64, i64, i64) =
            (row.try_get("", "boot")?, row.try_get("", "boottime_ms")?, row.try_get("", "round_trip_ms")?);
        let control_ms = row.try_get("", "control_ms")?;
        Ok((boot as u32, ControlAnchor { boottime_ms: boottime as u64, control_ms, round_trip_ms: round_trip as u32 }))
    };
    rows.iter().map(anchor).collect()
}

pub(super) async fn source_list(db: &Db) -> Result<Vec<super::live::LiveSource>, DbErr> {
    let text = "SELECT id, agent_id, kind, local_key, created_ms, interval_ms, widest_ms, widest_cadence_ms
        FROM telemetry_source";
    let rows = db.read().query_all_raw(sql(db.read(), text, [])).await?;
    let source = |row: &QueryResult| {
        let interval_ms: i64 = row.try_get("", "interval_ms")?;
        let widest_ms: i64 = row.try_get("", "widest_ms")?;
        let widest_cadence_ms: i64 = row.try_get("", "widest_cadence_ms")?;
        let source = super::live::LiveSource::new(
            SourceId(row.try_get("", "id")?),
            AgentId(row.try_get("", "agent_id")?),
            row.try_get("", "kind")?,
            row.try_get("", "local_key")?,
            row.try_get("", "created_ms")?,
            interval_ms as u32,
        );
        source.widen(widest_ms as u32, widest_cadence_ms as u32);
        Ok(source)
    };
    rows.iter().map(source).collect()
}

/// The newest facts of each source.
pub(super) async fn facts_newest(db: &Db) -> Result<Vec<(SourceId, Arc<Facts>)>, DbErr> {
    let text = "SELECT f.source_id, f.instant_ms, f.facts FROM telemetry_facts f
        JOIN (SELECT source_id, MAX(instant_ms) AS newest FROM telemetry_facts GROUP BY source_id) n
        ON n.source_id = f.source_id AND n.newest = f.instant_ms";
    let rows = db.read().query_all_raw(sql(db.read(), text, [])).await?;
    let facts = |row: &QueryResult| {
        let text: String = row.try_get("", "facts")?;
        let values = serde_json::from_str(&text)
            .map_err(|_| DbErr::Custom("telemetry_facts holds facts that cannot be read".to_owned()))?;
        let facts = Facts { values, instant_ms: row.try_get("", "instant_ms")? };
        Ok((SourceId(row.try_get("", "source_id")?), Arc::new(facts)))
    };
    rows.iter().map(facts).collect()
}

/// The largest key of a table, 0 for none.
pub(super) async fn last_key(db: &Db, table: &str) -> Result<i64, DbErr> {
    let text = format!("SELECT COALESCE(MAX(id), 0) AS last FROM {table}");
    let row = db.read().query_one_raw(sql(db.read(), &text, [])).await?;
    row.map_or(Ok(0), |row| row.try_get("", "last"))
}

/// Whether an error is a key that is there already.
pub(super) fn is_conflict(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_)))
}

/// A frame that a window handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CarriedRow {
    pub source: SourceId,
    pub schema: i64,
    pub meta: FrameMeta,
    /// A keyframe.
    pub body: Vec<u8>,
}

/// The newest frames that windows up to `compacted` handed on, of some sources from `from` on.
pub(super) async fn carried_list(
    connection: &impl ConnectionTrait,
    from: i64,
    sources: i64,
    compacted: i64,
) -> Result<Vec<CarriedRow>, DbErr> {
    let text = "SELECT * FROM telemetry_carried c WHERE c.source_id >= $1 AND c.source_id < $2 AND c.made_by =
        (SELECT MAX(made_by) FROM telemetry_carried n WHERE n.source_id = c.source_id AND n.made_by <= $3)
        ORDER BY c.source_id";
    let mut from = from;
    // Ids are given out without gaps, but for what was never committed.
    loop {
        let values = [from.into(), (from + sources).into(), compacted.into()];
        let rows = connection.query_all_raw(sql(connection, text, values)).await?;
        if !rows.is_empty() {
            return rows.iter().map(carried).collect();
        }
        let next = "SELECT MIN(source_id) AS next FROM telemetry_carried WHERE source_id >= $1 AND made_by <= $2";
        let values = [(from + sources).into(), compacted.into()];
        let row = connection.query_one_raw(sql(connection, next, values)).await?;
        match row.map(|row| row.try_get::<Option<i64>>("", "next")).transpose()?.flatten() {
            Some(next) => from = next,
            None => return Ok(Vec::new()),
        }
    }
}

fn carried(row: &QueryResult) -> Result<CarriedRow, DbErr> {
    let number = |name| row.try_get::<i64>("", name);
    let uncertain: i16 = row.try_get("", "uncertain")?;
    let meta = FrameMeta {
        instant_ms: number("instant_ms")?,
        sequence: number("sequence")? as u64,
        epoch: number("epoch")? as u64,
        boot: number("boot")? as u32,
        uncertain: uncertain != 0,
        interval_ms: number("interval_ms")? as u32,
    };
    let (source, schema) = (SourceId(number("source_id")?), number("schema_number")?);
    Ok(CarriedRow { source, schema, meta, body: row.try_get("", "body")? })
}

/// Entries of batches of one window, by their places.
pub(super) async fn entries_fetch(connection: &impl ConnectionTrait, places: &[Place]) -> Result<Vec<Vec<u8>>, DbErr> {
    let Some(first) = places.first() else { return Ok(Vec::new()) };
    let wanted = places.iter().enumerate().map(|(number, place)| {
        // SQL counts bytes from 1.
        format!("({number},{},{},{})", place.batch, place.offset + 1, place.length)
    });
    let wanted = wanted.collect::<Vec<_>>().join(",");
    let text = format!(
        "WITH wanted(number, batch, begin_at, size) AS (VALUES {wanted})
         SELECT substr(w.body, wanted.begin_at, wanted.size) AS entry
         FROM wanted JOIN window_{} w ON w.id = wanted.batch ORDER BY wanted.number",
        first.window
    );
    let rows = connection.query_all_raw(sql(connection, &text, [])).await?;
    if rows.len() != places.len() {
        return Err(DbErr::RecordNotFound(format!("batches of window {}", first.window)));
    }
    rows.iter().map(|row| row.try_get("", "entry")).collect()
}
