//! The jobs that follow the calendar: days are closed, and what is too old goes away.
//!
//! A closed day's slots become rows of a few columns each, so that one series over a month reads a
//! row a day, and its hours. What must hold: a slot is either in `telemetry_slots` or in a closed
//! day; a source's day is closed in one transaction. Frames that come for a day after it was closed
//! open it again (see [`compact`](super::compact)), and it is closed anew.

use super::DAY_MS;
use super::compact::{self, CompactError};
use super::compaction::CompactionError;
use super::deleted::{AROUND, Deleted};
use super::service::Inner;
use super::slot::{HOUR_MS, SLOT_MS, SlotBlock};
use super::slot_block::SlotBlockView;
use super::store_days::{self, DayRow, OpenRow};
use super::store_rows::{DAY_COLUMNS, Replaced};
use crate::config::Retention;
use crate::platform::background;
use crate::platform::clock::UnixMs;
use crate::platform::ids::SourceId;
use sea_orm::DbErr;
use std::collections::{BTreeMap, btree_map::Entry};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// How often the calendar is looked at, at least; and whenever compaction has nothing more to do.
const EVERY: Duration = Duration::from_secs(300);
/// A day is closed once or twice this long after a window last added to it: while a backlog fills it, it would be
/// closed again and again, each time as a whole.
const SETTLED: Duration = Duration::from_secs(60);
/// A day is closed this long after its end, when its last windows are compacted in the usual case.
const AFTER_MS: i64 = 3 * 3_600_000;
/// Boots and schemas stay this much longer than what refers to them: when they were used is known to
/// a day, and to the last time that it was written.
const UNUSED_MS: i64 = 3 * DAY_MS;
/// Sources whose open days are looked at together.
const SOURCES: i64 = 64;
/// Days of sources that are closed in one transaction.
const CLOSED: usize = 4;

/// Closes days and deletes what is too old, for ever.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut settled = inner.compacted.load(Ordering::SeqCst);
    // When, and up to which, more windows are settled.
    let mut next: Option<(Pin<Box<Sleep>>, i64)> = None;
    loop {
        if let Err(error) = close_days(&inner, settled).await {
            tracing::error!(%error, "days were not closed; it is tried again");
        }
        if let Err(error) = retain(&inner).await {
            tracing::error!(%error, "what is too old was not deleted; it is tried again");
        }
        let compacted = inner.compacted.load(Ordering::SeqCst);
        if next.is_none() && compacted > settled {
            next = Some((Box::pin(sleep(SETTLED)), compacted));
        }
        let (mut wait, window) = next.take().unwrap_or_else(|| (Box::pin(sleep(EVERY)), settled));
        tokio::select! {
            () = &mut wait => settled = window,
            () = inner.calendar.notified() => next = Some((wait, window)).filter(|(_, window)| *window > settled),
        }
    }
}

/// Closes every day that is over and to which no window after `settled` added.
pub(super) async fn close_days(inner: &Arc<Inner>, settled: i64) -> Result<(), CompactionError> {
    let before_ms = (inner.clock.now_ms() - AFTER_MS).div_euclid(DAY_MS) * DAY_MS;
    let mut from = 0;
    loop {
        let compacted = inner.compacted.load(Ordering::SeqCst);
        let sources = store_days::open_sources(&inner.db, from, before_ms, compacted, SOURCES).await?;
        let (Some(&first), Some(&last)) = (sources.first(), sources.last()) else { return Ok(()) };
        from = last.0 + 1;
        let days = store_days::open_days(&inner.db, first..=last, before_ms, compacted).await?;
        let days: Vec<_> = days.into_iter().filter(|(_, made_by)| *made_by <= settled).map(|(day, _)| day).collect();
        for some in days.chunks(CLOSED) {
            close_some(inner, some, compacted).await?;
        }
    }
}

/// Closes some days of sources.
async fn close_some(inner: &Arc<Inner>, days: &[(SourceId, i64)], compacted: i64) -> Result<(), CompactionError> {
    // Compaction takes slots out of rows too: one of the two at a time.
    let _alone = inner.slots_writer.lock().await;
    let (mut open, mut known, mut replaced) = (Vec::new(), Vec::new(), Replaced::default());
    for &(source, day) in days {
        let rows = store_days::open_rows(&inner.db, source, day, compacted).await?;
        if rows.is_empty() {
            continue;
        }
        // A day that was closed before some of its frames came.
        known.push((source, store_days::closed_rows(&inner.db, source, day, &mut replaced.days).await?));
        replaced.slots.extend(rows.iter().map(|row| row.id));
        open.extend(rows);
    }
    let closed = background::spawn("days", move || close(open, known)).await;
    let closed = closed.map_err(|_| CompactionError::Interrupted)??;
    Ok(store_days::close(inner, &replaced, closed).await?)
}

/// Rows of open days, and what was closed of the same days, become rows of closed days.
fn close(open: Vec<OpenRow>, known: Vec<(SourceId, Vec<Vec<u8>>)>) -> Result<Vec<DayRow>, CompactionError> {
    let mut days: BTreeMap<(SourceId, i64, i64), SlotBlock> = BTreeMap::new();
    let mut add = |source, block: SlotBlock| match days.entry((source, block.first_ms.div_euclid(DAY_MS), block.schema))
    {
        Entry::Occupied(mut known) => known.get_mut().merge(&block),
        Entry::Vacant(vacant) => {
            vacant.insert(block);
        }
    };
    for (source_id, bodies) in known {
        let broken = |error| CompactionError::Source { source_id, error: CompactError::Slots(error) };
        compact::join_columns(&bodies).map_err(broken)?.into_iter().for_each(|block| add(source_id, block));
    }
    for row in open {
        let broken = |error| CompactionError::Source { source_id: row.source, error: CompactError::Slots(error) };
        let view = SlotBlockView::open(&row.body).map_err(broken)?;
        add(row.source, view.block(view.columns()).map_err(broken)?);
    }
    let mut closed = Vec::new();
    for ((source, day, schema), block) in days {
        for wide in [block.widen(HOUR_MS), block] {
            for (first_column, part) in parts(&wide) {
                let body = part.encode();
                closed.push(DayRow { source, slot_ms: wide.slot_ms, schema, first_column, day, body });
            }
        }
    }
    Ok(closed)
}

/// A few columns each.
fn parts(block: &SlotBlock) -> impl Iterator<Item = (i64, SlotBlock)> + '_ {
    block.columns.chunks(DAY_COLUMNS).enumerate().map(|(part, columns)| {
        let first_column = part * DAY_COLUMNS;
        let (frames, columns) = (block.frames.clone(), columns.to_vec());
        (first_column as i64, SlotBlock { frames, columns, first_column, ..*block })
    })
}

/// Deletes what is too old, in small transactions. How long things are kept is asked again before each: what was set
/// too short by mistake, and set right, is no longer obeyed.
pub(super) async fn retain(inner: &Inner) -> Result<(), DbErr> {
    let now_ms = inner.clock.now_ms();
    let before = |kept: Duration| -> UnixMs { now_ms - kept.as_millis() as i64 };
    // A frame that was just young enough waits in its window, and the slots it touches are made anew from the frames
    // around it, as well as the hours of their day from all its slots.
    let raw = |retention: &Retention| retention.raw + inner.config.window_span + AROUND;
    let slot = |retention: &Retention| retention.slot.max(raw(retention));
    let retention = inner.retention();
    let (raw_ms, slots_ms, hours_ms) = (before(raw(&retention)), before(slot(&retention)), before(retention.hour));
    // What is set right meanwhile is obeyed at once.
    let raw = || raw_ms.min(before(raw(&inner.retention())));
    let slots = || slots_ms.min(before(slot(&inner.retention())));
    let hours = || hours_ms.min(before(inner.retention().hour));
    let raw_ms = store_days::older_delete(inner, "telemetry_chunk", "last_ms", raw, Deleted::raw).await?;
    // Days that are closed are the older ones.
    let closed_ms = store_days::days_delete(inner, SLOT_MS, slots, Deleted::slots).await?;
    let open_ms = store_days::older_delete(inner, "telemetry_slots", "end_ms", slots, Deleted::slots).await?;
    let hour_ms = store_days::days_delete(inner, HOUR_MS, hours, Deleted::hours).await?;
    store_days::history_delete(inner, slots()).await?;
    inner.delete_before(Deleted { raw_ms, slot_ms: closed_ms.min(open_ms), hour_ms }).await?;
    // By what is gone, not by what may go by now: what is left must be readable.
    let longest_ms = raw_ms.min(open_ms).min(closed_ms).min(hour_ms);
    store_days::unused_delete(inner, now_ms, raw_ms - UNUSED_MS, longest_ms - UNUSED_MS).await
}
