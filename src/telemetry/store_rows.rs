//! The tables of what compaction makes: chunks, slots, days, frames handed on. The only SQL of it.

use super::compact::{self, Anew, Made};
use super::service::Inner;
use super::slot::{SLOT_MS, SlotBlock};
use super::slot_block::{SlotBlockView, SlotError};
use super::store::{CarriedRow, WindowState, carried_list, insert, sql};
use crate::platform::clock::UnixMs;
use crate::platform::db::Db;
use crate::platform::ids::SourceId;
use futures_util::{Stream, StreamExt};
use sea_orm::sea_query::Expr;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, StreamTrait};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Sources whose frames handed on are read at once.
const HANDED_ON: i64 = 256;

/// Rows to be written together.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub made: Vec<(SourceId, Made)>,
    pub bytes: usize,
}

/// Rows that others take the place of.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    pub slots: Vec<i64>,
    pub days: Vec<i64>,
}

impl Replaced {
    pub(super) fn append(&mut self, mut other: Self) {
        self.slots.append(&mut other.slots);
        self.days.append(&mut other.days);
    }
}

/// Deletes what an attempt to compact a window left; `false`: it succeeded, and its rows count.
pub(super) async fn unmade_delete(db: &Db, window: i64) -> Result<bool, DbErr> {
    let transaction = db.begin("unmade_delete").await?;
    // Changes nothing, but waits for a commit that is still under way.
    let text = "UPDATE telemetry_window SET state = state WHERE id = $1 AND state <> $2";
    let values = [window.into(), WindowState::Compacted.number().into()];
    if transaction.execute_raw(sql(&transaction, text, values)).await?.rows_affected() == 0 {
        return Ok(false);
    }
    for table in ["telemetry_chunk", "telemetry_slots", "telemetry_carried", "telemetry_unreadable"] {
        let text = format!("DELETE FROM {table} WHERE made_by = $1");
        transaction.execute_raw(sql(&transaction, &text, [window.into()])).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// Writes rows of a window that is being compacted.
pub(super) async fn rows_insert(inner: &Inner, window: i64, rows: Rows) -> Result<(), DbErr> {
    let (mut chunks, mut slots, mut carried) = (Vec::<[Expr; 7]>::new(), Vec::<[Expr; 7]>::new(), Vec::new());
    let mut unreadable = Vec::new();
    for (source, made) in rows.made {
        unreadable.extend(made.left_out.map(|left_out| {
            let (first_ms, last_ms) = (left_out.first_ms.into(), left_out.last_ms.into());
            [source.0.into(), window.into(), first_ms, last_ms, left_out.reason.into(), left_out.body.into()]
        }));
        for chunk in made.chunks {
            inner.metrics.chunk_bytes.inc_by(chunk.body.len() as u64);
            let id = inner.next_chunk.fetch_add(1, Ordering::Relaxed);
            let (first_ms, last_ms) = (chunk.first_ms.into(), chunk.last_ms.into());
            let body = chunk.body.into();
            chunks.push([id.into(), source.0.into(), chunk.schema.into(), first_ms, last_ms, window.into(), body]);
        }
        for block in made.slots {
            let id = inner.next_slots.fetch_add(1, Ordering::Relaxed);
            let (first_ms, end_ms) = (block.first_ms.into(), block.end_ms.into());
            let body = block.body.into();
            slots.push([id.into(), source.0.into(), block.schema.into(), first_ms, end_ms, window.into(), body]);
        }
        carried.extend(made.carried.map(|carried| {
            let meta = carried.meta;
            [
                source.0.into(),
                window.into(),
                carried.schema.into(),
                meta.instant_ms.into(),
                i16::from(meta.uncertain).into(),
                i64::from(meta.boot).into(),
                (meta.epoch as i64).into(),
                (meta.sequence as i64).into(),
                i64::from(meta.interval_ms).into(),
                carried.body.into(),
            ]
        }));
    }
    let transaction = inner.db.begin("compacted_rows").await?;
    let columns = ["id", "source_id", "schema_number", "first_ms", "last_ms", "made_by", "body"];
    insert(&transaction, "telemetry_chunk", columns, None, chunks).await?;
    let columns = ["id", "source_id", "schema_number", "first_ms", "end_ms", "made_by", "body"];
    insert(&transaction, "telemetry_slots", columns, None, slots).await?;
    let columns = [
        "source_id",
        "made_by",
        "schema_number",
        "instant_ms",
        "uncertain",
        "boot",
        "epoch",
        "sequence",
        "interval_ms",
        "body",
    ];
    insert(&transaction, "telemetry_carried", columns, None, carried).await?;
    let columns = ["source_id", "made_by", "first_ms", "last_ms", "reason", "body"];
    insert(&transaction, "telemetry_unreadable", columns, None, unreadable).await?;
    transaction.commit().await
}

/// Deletes rows by their keys.
pub(super) async fn replaced_delete(transaction: &DatabaseTransaction, replaced: &Replaced) -> Result<(), DbErr> {
    for (table, ids) in [("telemetry_slots", &replaced.slots), ("telemetry_day", &replaced.days)] {
        ids_delete(transaction, table, ids).await?;
    }
    Ok(())
}

pub(super) async fn ids_delete(transaction: &DatabaseTransaction, table: &str, ids: &[i64]) -> Result<(), DbErr> {
    for some in ids.chunks(500) {
        let list: Vec<_> = some.iter().map(i64::to_string).collect();
        let text = format!("DELETE FROM {table} WHERE id IN ({})", list.join(","));
        transaction.execute_unprepared(&text).await?;
    }
    Ok(())
}

/// Deletes frames handed on that newer ones took the place of, in small steps.
pub(super) async fn carried_prune(db: &Db, window: i64) -> Result<(), DbErr> {
    let mut from = 0;
    loop {
        let rows = carried_sources(db, window, from).await?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
        let transaction = db.begin("carried_prune").await?;
        let text = "DELETE FROM telemetry_carried WHERE source_id BETWEEN $1 AND $2 AND made_by < $3
            AND EXISTS (SELECT 1 FROM telemetry_carried n
                WHERE n.source_id = telemetry_carried.source_id AND n.made_by = $3)";
        let values = [(*first).into(), (*last).into(), window.into()];
        transaction.execute_raw(sql(&transaction, text, values)).await?;
        transaction.commit().await?;
        from = last + 1;
    }
}

async fn carried_sources(db: &Db, window: i64, from: i64) -> Result<Vec<i64>, DbErr> {
    let text = "SELECT source_id FROM telemetry_carried WHERE made_by = $1 AND source_id >= $2
        ORDER BY source_id LIMIT 500";
    let rows = db.read().query_all_raw(sql(db.read(), text, [window.into(), from.into()])).await?;
    rows.iter().map(|row| row.try_get("", "source_id")).collect()
}

/// The frames handed on, of sources that are asked for in order.
#[derive(Debug)]
pub(super) struct HandedOn {
    rest: Range<i64>,
    compacted: i64,
    read: VecDeque<CarriedRow>,
}

impl HandedOn {
    pub(super) fn new(sources: Range<i64>, compacted: i64) -> Self {
        Self { rest: sources, compacted, read: VecDeque::new() }
    }

    pub(super) async fn of(&mut self, db: &Db, source: SourceId) -> Result<Option<CarriedRow>, DbErr> {
        loop {
            while let Some(row) = self.read.pop_front() {
                match row.source.cmp(&source) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return Ok(Some(row)),
                    std::cmp::Ordering::Greater => {
                        self.read.push_front(row);
                        return Ok(None);
                    }
                }
            }
            self.rest.start = self.rest.start.max(source.0);
            if self.rest.is_empty() {
                return Ok(None);
            }
            self.read = carried_list(db.read(), self.rest.start, HANDED_ON, self.compacted).await?.into();
            self.rest.start = match self.read.back() {
                Some(row) => row.source.0 + 1,
                None => self.rest.end,
            };
        }
    }
}

/// Stored slots that reach into the stretches of a source, as bytes, by their keys.
#[derive(Debug, Default)]
pub(super) struct Taken {
    slots: BTreeMap<i64, Vec<u8>>,
    days: BTreeMap<i64, Option<Vec<u8>>>,
}

impl Taken {
    /// The slots, decoded; their rows are to be deleted.
    pub(super) fn finish(self, replaced: &mut Replaced) -> Result<Vec<SlotBlock>, SlotError> {
        replaced.slots.extend(self.slots.keys());
        replaced.days.extend(self.days.keys());
        let days: Vec<_> = self.days.into_values().flatten().collect();
        let mut blocks = compact::join_columns(&days)?;
        for body in self.slots.values() {
            let view = SlotBlockView::open(body)?;
            blocks.push(view.block(view.columns())?);
        }
        Ok(blocks)
    }

    /// Reads the slots that reach into a stretch.
    pub(super) async fn read(&mut self, db: &Db, source: SourceId, anew: &Anew, compacted: i64) -> Result<(), DbErr> {
        let text = "SELECT id, body FROM telemetry_slots WHERE source_id = $1 AND end_ms > $2 AND first_ms < $3
            AND made_by <= $4";
        let values = [source.0.into(), anew.from_ms.into(), anew.to_ms.into(), compacted.into()];
        for row in db.read().query_all_raw(sql(db.read(), text, values)).await? {
            self.slots.insert(row.try_get("", "id")?, row.try_get("", "body")?);
        }
        let days = [day_of(anew.from_ms), day_of(anew.to_ms.saturating_sub(1))];
        let text = "SELECT id, slot_ms, body FROM telemetry_day WHERE source_id = $1 AND day >= $2 AND day <= $3";
        let values = [source.0.into(), days[0].into(), days[1].into()];
        for row in db.read().query_all_raw(sql(db.read(), text, values)).await? {
            // Hours are made again when the day is closed again.
            let is_slots = row.try_get::<i64>("", "slot_ms")? == SLOT_MS;
            let body = if is_slots { Some(row.try_get("", "body")?) } else { None };
            self.days.insert(row.try_get("", "id")?, body);
        }
        Ok(())
    }
}

/// Chunks of a source around a stretch: those that reach into it, and the one before, whose last
/// frame says whether the machine was started anew.
pub(super) async fn chunks_around(
    db: &Db,
    source: SourceId,
    anew: &Anew,
    compacted: i64,
) -> Result<Vec<(i64, Vec<u8>)>, DbErr> {
    let (from_ms, to_ms) = (anew.reach_from_ms(), anew.reach_to_ms());
    let mut chunks = chunks_between(db.read(), source, from_ms, to_ms, compacted).await?;
    let text = "SELECT schema_number, body FROM telemetry_chunk WHERE source_id = $1 AND last_ms < $2 AND made_by <= $3
        ORDER BY last_ms DESC LIMIT 1";
    let values = [source.0.into(), from_ms.into(), compacted.into()];
    if let Some(row) = db.read().query_one_raw(sql(db.read(), text, values)).await? {
        chunks.push((row.try_get("", "schema_number")?, row.try_get("", "body")?));
    }
    Ok(chunks)
}

/// The first chunk of a source that begins after an instant.
pub(super) async fn chunk_after(
    db: &Db,
    source: SourceId,
    after_ms: UnixMs,
    compacted: i64,
) -> Result<Option<(i64, Vec<u8>)>, DbErr> {
    let text = "SELECT schema_number, body FROM telemetry_chunk WHERE source_id = $1 AND last_ms > $2 AND first_ms > $2
        AND made_by <= $3 ORDER BY first_ms LIMIT 1";
    let values = [source.0.into(), after_ms.into(), compacted.into()];
    let row = db.read().query_one_raw(sql(db.read(), text, values)).await?;
    row.map(|row| Ok((row.try_get("", "schema_number")?, row.try_get("", "body")?))).transpose()
}

/// Chunks that hold frames of a period (both ends included), with their schemas.
pub(super) async fn chunks_between(
    connection: &impl ConnectionTrait,
    source: SourceId,
    from_ms: UnixMs,
    to_ms: UnixMs,
    compacted: i64,
) -> Result<Vec<(i64, Vec<u8>)>, DbErr> {
    let text = "SELECT schema_number, body FROM telemetry_chunk
        WHERE source_id = $1 AND last_ms >= $2 AND first_ms <= $3 AND made_by <= $4 ORDER BY last_ms";
    let values = [source.0.into(), from_ms.into(), to_ms.into(), compacted.into()];
    let rows = connection.query_all_raw(sql(connection, text, values)).await?;
    rows.iter().map(|row| Ok((row.try_get("", "schema_number")?, row.try_get("", "body")?))).collect()
}

/// The day (UTC) of an instant.
pub(super) fn day_of(instant_ms: UnixMs) -> i64 {
    instant_ms.div_euclid(super::DAY_MS)
}

/// First and last instant of frames of a period that no slots were made of. `chunks`: those that
/// became chunks as well.
pub(super) async fn unreadable_spans(
    connection: &impl ConnectionTrait,
    source: SourceId,
    (from_ms, to_ms): (UnixMs, UnixMs),
    chunks: bool,
    compacted: i64,
) -> Result<Vec<(UnixMs, UnixMs)>, DbErr> {
    let all = if chunks { "" } else { "AND LENGTH(body) > 0" };
    let text = format!(
        "SELECT first_ms, last_ms FROM telemetry_unreadable
        WHERE source_id = $1 AND last_ms >= $2 AND first_ms <= $3 AND made_by <= $4 {all}"
    );
    let values = [source.0.into(), from_ms.into(), to_ms.into(), compacted.into()];
    let rows = connection.query_all_raw(sql(connection, &text, values)).await?;
    rows.iter().map(|row| Ok((row.try_get("", "first_ms")?, row.try_get("", "last_ms")?))).collect()
}

/// First and last instant of chunks that reach into a period.
pub(super) async fn chunk_spans(
    connection: &impl ConnectionTrait,
    source: SourceId,
    from_ms: UnixMs,
    to_ms: UnixMs,
    compacted: i64,
) -> Result<Vec<(UnixMs, UnixMs)>, DbErr> {
    let text = "SELECT first_ms, last_ms FROM telemetry_chunk
        WHERE source_id = $1 AND last_ms >= $2 AND first_ms <= $3 AND made_by <= $4";
    let values = [source.0.into(), from_ms.into(), to_ms.into(), compacted.into()];
    let rows = connection.query_all_raw(sql(connection, text, values)).await?;
    rows.iter().map(|row| Ok((row.try_get("", "first_ms")?, row.try_get("", "last_ms")?))).collect()
}

/// Columns of one row of a closed day.
pub(super) const DAY_COLUMNS: usize = 16;

/// The first column of the row that has a column.
pub(super) fn first_column(column: usize) -> i64 {
    (column / DAY_COLUMNS * DAY_COLUMNS) as i64
}

/// Some columns of a source over closed days.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DayBlocks<'a> {
    pub slot_ms: i64,
    /// Schema and first column of each.
    pub blocks: &'a [(i64, i64)],
}

/// The newest window whose batches do not count any more, as this connection sees it (`None` if no window is there at
/// all), and the schemas that a source's closed days have. In one question: each costs as much as tens of rows.
pub(super) async fn compacted_and_schemas(
    connection: &impl ConnectionTrait,
    source: SourceId,
    slot_ms: i64,
) -> Result<(Option<i64>, Vec<i64>), DbErr> {
    // From one to the next: a schema has many rows. The last row has none.
    let text = "WITH RECURSIVE known(number) AS (
            SELECT MIN(schema_number) FROM telemetry_day WHERE source_id = $1 AND slot_ms = $2
            UNION ALL
            SELECT (SELECT MIN(schema_number) FROM telemetry_day
                WHERE source_id = $1 AND slot_ms = $2 AND schema_number > known.number)
            FROM known WHERE number IS NOT NULL)
        SELECT number, (SELECT MIN(id) - 1 FROM telemetry_window WHERE state < 2) AS compacted FROM known";
    let rows = connection.query_all_raw(sql(connection, text, [source.0.into(), slot_ms.into()])).await?;
    let compacted = rows.first().map(|row| row.try_get("", "compacted")).transpose()?.flatten();
    let numbers = rows.iter().map(|row| row.try_get("", "number")).collect::<Result<Vec<Option<i64>>, _>>()?;
    Ok((compacted, numbers.into_iter().flatten().collect()))
}

/// Slots of a period: all columns of open days, some of closed ones. They come while more are read.
pub(super) async fn slots_between<'a>(
    snapshot: &'a DatabaseTransaction,
    source: SourceId,
    days: DayBlocks<'_>,
    (from_ms, to_ms): (UnixMs, UnixMs),
    compacted: i64,
) -> Result<impl Stream<Item = Result<Vec<u8>, DbErr>> + use<'a>, DbErr> {
    let open = "SELECT body FROM telemetry_slots
        WHERE source_id = $1 AND end_ms > $2 AND first_ms < $3 AND made_by <= $4";
    let mut text = open.to_owned();
    let mut values = vec![source.0.into(), from_ms.into(), to_ms.into(), compacted.into()];
    if !days.blocks.is_empty() {
        values.extend([days.slot_ms.into(), day_of(from_ms).into(), day_of(to_ms).into()]);
        // As parameters, so that the statement is prepared once.
        let wanted = (values.len() + 1..).step_by(2).take(days.blocks.len());
        let wanted: Vec<_> = wanted.map(|place| format!("(${place},${})", place + 1)).collect();
        values.extend(days.blocks.iter().flat_map(|(schema, column)| [(*schema).into(), (*column).into()]));
        text = format!(
            "WITH wanted(schema, first) AS (VALUES {}) {open}
            UNION ALL SELECT d.body FROM wanted JOIN telemetry_day d ON d.source_id = $1 AND d.slot_ms = $5
                AND d.schema_number = wanted.schema AND d.first_column = wanted.first AND d.day >= $6 AND d.day <= $7",
            wanted.join(",")
        );
    }
    let rows = snapshot.stream_raw(sql(snapshot, &text, values)).await?;
    Ok(rows.map(|row| row?.try_get("", "body")))
}
