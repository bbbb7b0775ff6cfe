//! What is stored of one source, found wherever it lies and handed to a question.
//!
//! What must hold: a frame is found once, and so is a slot, while compaction and the calendar move
//! them. So one snapshot of the database answers a whole question, and says itself which windows
//! are compacted: chunks and slots of later ones do not count, batches of earlier ones neither.

use super::columns::Columns;
use super::compact;
use super::live::{LiveSource, Place};
use super::ordered::{Decoded, FramesError, Ordered, WindowFrame};
use super::query::{Assembly, QueryError};
use super::service::Inner;
use super::slot::Predecessor;
use super::slot_block::SlotBlockView;
use super::{Measured, StoredSchema, batch, chunk, store, store_rows};
use crate::platform::clock::UnixMs;
use futures_util::TryStreamExt;
use sea_orm::{DatabaseTransaction, DbErr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Compaction may take a window away while it is read; then all is read again.
const ATTEMPTS: usize = 5;

impl From<DbErr> for QueryError {
    fn from(error: DbErr) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<FramesError> for QueryError {
    fn from(error: FramesError) -> Self {
        Self::Store(error.to_string())
    }
}

/// What of a source is not compacted.
pub(super) struct Fresh {
    pub compacted: i64,
    /// Schemas of closed days.
    schemas: Vec<i64>,
    /// Entries of batches, in order of arrival.
    pub entries: Vec<Vec<u8>>,
    handed_on: Option<Predecessor>,
}

impl Inner {
    /// Hands the assembly everything stored that it asks for; gives the snapshot in which it was found.
    pub(super) async fn gather(
        &self,
        source: &LiveSource,
        assembly: &mut Assembly,
    ) -> Result<DatabaseTransaction, QueryError> {
        let (from_ms, to_ms) = assembly.span();
        let (snapshot, fresh) = self.fresh(source, to_ms, assembly.slot_ms()).await?;
        match assembly.slot_ms() {
            None => self.gather_chunks(&snapshot, source, fresh.compacted, assembly).await?,
            Some(slot_ms) => self.gather_slots(&snapshot, source, slot_ms, &fresh, assembly).await?,
        }
        if fresh.entries.is_empty() {
            return Ok(snapshot);
        }
        // Late frames inside what is compacted change slots that are counted already: the next
        // compaction makes those anew, and until then the frames are not in them.
        let counted = match assembly.slot_ms() {
            None => Vec::new(),
            Some(_) => store_rows::chunk_spans(&snapshot, source.id, from_ms, to_ms, fresh.compacted).await?,
        };
        let frames = frames(&fresh.entries)?;
        let measured = fresh.handed_on.as_ref().map(|frame| frame.measured.clone()).unwrap_or_default();
        let columns = Columns::default();
        let mut pieces = FreshPieces { assembly, before: fresh.handed_on, measured, columns, schema: None };
        Ordered::new(&frames, &self.registry)?.for_each(&self.registry, |frame| {
            let instant = frame.meta.instant_ms;
            if !counted.iter().any(|(first, last)| (*first..=*last).contains(&instant)) {
                pieces.push(&frame);
            }
            Ok::<_, FramesError>(())
        })?;
        pieces.finish();
        Ok(snapshot)
    }

    /// A snapshot, and what of the source is not compacted in it. `slot_ms`: of the closed days that matter.
    pub(super) async fn fresh(
        &self,
        source: &LiveSource,
        to_ms: UnixMs,
        slot_ms: Option<i64>,
    ) -> Result<(DatabaseTransaction, Fresh), QueryError> {
        let mut attempt = 1;
        loop {
            // Places before the snapshot: so their batches are in it, or it says that they are
            // compacted.
            let places = source.places(0);
            let snapshot = store::snapshot(&self.db).await?;
            let days = slot_ms.unwrap_or(0);
            let (compacted, schemas) = store_rows::compacted_and_schemas(&snapshot, source.id, days).await?;
            let compacted = compacted.unwrap_or_else(|| self.compacted.load(Ordering::SeqCst));
            let mut fresh = Fresh { compacted, schemas, entries: Vec::new(), handed_on: None };
            let places: Vec<_> = places.into_iter().filter(|place| i64::from(place.window) > compacted).collect();
            if places.iter().all(|place| place.instant_ms >= to_ms) {
                return Ok((snapshot, fresh));
            }
            match entries(&snapshot, &places).await {
                Ok(entries) => fresh.entries = entries,
                // On PostgreSQL a table that was dropped is gone from older snapshots as well.
                Err(_) if attempt < ATTEMPTS => {
                    attempt += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let carried = store::carried_list(&snapshot, source.id.0, 1, compacted).await?;
            let carried = carried.into_iter().find(|row| row.source == source.id);
            fresh.handed_on =
                carried.map(|row| compact::handed_on(&self.registry, row.schema, row.meta, &row.body)).transpose()?;
            return Ok((snapshot, fresh));
        }
    }

    async fn gather_chunks(
        &self,
        snapshot: &DatabaseTransaction,
        source: &LiveSource,
        compacted: i64,
        assembly: &mut Assembly,
    ) -> Result<(), QueryError> {
        let (from_ms, to_ms) = assembly.span();
        let damaged = |error: chunk::ChunkError| QueryError::Store(error.to_string());
        for (schema, body) in store_rows::chunks_between(snapshot, source.id, from_ms, to_ms, compacted).await? {
            let schema = self.schema(schema)?;
            let chunk = chunk::Chunk::open(&body).map_err(damaged)?;
            for &column in assembly.columns(&schema).iter() {
                assembly.frames(&schema, column, chunk.frames(), &chunk.column(column).map_err(damaged)?);
            }
        }
        Ok(())
    }

    async fn gather_slots(
        &self,
        snapshot: &DatabaseTransaction,
        source: &LiveSource,
        slot_ms: i64,
        fresh: &Fresh,
        assembly: &mut Assembly,
    ) -> Result<(), QueryError> {
        let mut blocks = Vec::new();
        for &number in &fresh.schemas {
            let schema = self.schema(number)?;
            let columns = assembly.columns(&schema);
            blocks.extend(columns.iter().map(|column| (number, store_rows::first_column(*column))));
        }
        // A row joined twice would count twice.
        blocks.sort_unstable();
        blocks.dedup();
        let days = store_rows::DayBlocks { slot_ms, blocks: &blocks };
        let span = assembly.span();
        let mut bodies = store_rows::slots_between(snapshot, source.id, days, span, fresh.compacted).await?;
        while let Some(body) = bodies.try_next().await? {
            self.hand_slots(&body, assembly)?;
            // A page of charts is hundreds of rows: what is answered at once does not wait for all of them.
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }

    fn hand_slots(&self, body: &[u8], assembly: &mut Assembly) -> Result<(), QueryError> {
        let damaged = |error: super::slot_block::SlotError| QueryError::Store(error.to_string());
        let view = SlotBlockView::open(body).map_err(damaged)?;
        let schema = self.schema(view.schema())?;
        let here = view.columns();
        let asked = assembly.columns(&schema);
        // A closed day's columns lie in several blocks, each with the same frames.
        if asked.first().is_none_or(|first| here.contains(first)) {
            assembly.framed(view.first_ms(), view.slot_ms(), view.frames());
        }
        for &column in asked.iter().filter(|column| here.contains(column)) {
            let slots = view.column(column).map_err(damaged)?;
            assembly.slots(&schema, column, view.first_ms(), view.slot_ms(), &slots);
        }
        Ok(())
    }

    fn schema(&self, number: i64) -> Result<Arc<StoredSchema>, FramesError> {
        self.registry.schema_by_number(number).ok_or(FramesError::NoSchema(number))
    }
}

/// Entries of batches, by their places.
async fn entries(snapshot: &DatabaseTransaction, places: &[Place]) -> Result<Vec<Vec<u8>>, DbErr> {
    let mut entries = Vec::with_capacity(places.len());
    for some in places.chunk_by(|a, b| a.window == b.window) {
        for some in some.chunks(2_000) {
            entries.extend(store::entries_fetch(snapshot, some).await?);
        }
    }
    Ok(entries)
}

/// The frames in entries of batches.
pub(super) fn frames(entries: &[Vec<u8>]) -> Result<Vec<WindowFrame<'_>>, QueryError> {
    let mut frames = Vec::with_capacity(entries.len());
    for entry in entries {
        match batch::single(entry) {
            Ok(batch::Entry::Frame(frame)) => frames.push(WindowFrame::from(&frame)),
            Ok(batch::Entry::Settled(_)) => {}
            Err(error) => return Err(QueryError::Store(error.to_string())),
        }
    }
    Ok(frames)
}

/// Frames in order, handed over in pieces of one schema.
struct FreshPieces<'a> {
    assembly: &'a mut Assembly,
    before: Option<Predecessor>,
    measured: Measured,
    columns: Columns,
    schema: Option<Arc<StoredSchema>>,
}

impl FreshPieces<'_> {
    fn push(&mut self, frame: &Decoded<'_>) {
        if self.schema.as_ref().is_none_or(|schema| schema.number != frame.schema.number) {
            self.finish();
            self.columns.reset(frame.schema.columns.len());
            self.schema = Some(Arc::clone(frame.schema));
        }
        self.measured.take(frame.schema, frame.state, frame.meta.instant_ms, frame.meta.boot);
        self.columns.push_state(*frame.meta, frame.state);
    }

    fn finish(&mut self) {
        let (Some(schema), Some(first)) = (&self.schema, self.columns.frames().first()) else { return };
        let before = self.before.take().filter(|before| before.meta.instant_ms < first.instant_ms);
        self.assembly.fresh(schema, before.as_ref(), &mut self.columns);
        if let Some((meta, state)) = self.columns.last() {
            let measured = self.measured.clone();
            self.before = Some(Predecessor { meta, schema: Arc::clone(schema), state, measured });
        }
    }
}
