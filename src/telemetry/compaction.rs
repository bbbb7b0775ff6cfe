//! The job that turns sealed windows into chunks and slots, one window after another.
//!
//! What must hold: a window's frames are found either in the window or in chunks, never in both
//! and never in neither, whenever the process is killed. Rows are written in small transactions, so
//! that commits go on meanwhile, and carry the number of the window that they are made from; none
//! of them counts before that window is marked as compacted. That mark, and the deletion of the
//! slots that were made anew, is one small transaction. What a killed attempt left is deleted
//! before the next one; a compacted window's batches go away in small steps.

use super::batch::{self, Entry};
use super::compact::{self, Anew, Made, Stretch};
use super::figures::Compaction;
use super::ordered::WindowFrame;
use super::service::Inner;
use super::store::{self, SettledRow, WindowState};
use super::store_rows::{self, Rows, Taken};
use crate::platform::background;
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, SourceId};
use sea_orm::DbErr;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Bytes of frames that are held at once.
const PART_BYTES: usize = 32 << 20;
/// Bytes of rows that one transaction writes.
const WRITE_BYTES: usize = 1 << 20;
/// Bytes of batches that one transaction deletes, about.
const DRAIN_BYTES: u64 = 8 << 20;
/// After a failure the next attempt waits this long.
const RETRY: Duration = Duration::from_secs(5);

/// Why a window is not compacted.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompactionError {
    #[error("the database failed: {0}")]
    Database(#[from] DbErr),
    #[error("batch {batch}: {error}")]
    Batch { batch: i64, error: batch::BatchError },
    #[error("source {source_id}: {error}")]
    Source { source_id: SourceId, error: compact::CompactError },
    #[error("the work was interrupted")]
    Interrupted,
}

/// Compacts what is sealed, for ever.
pub(super) async fn run(inner: Arc<Inner>) {
    if let Err(error) = remove_compacted(&inner).await {
        tracing::warn!(%error, "a compacted window was not taken away; it is tried at the next start");
    }
    let mut sealed = inner.sealed.subscribe();
    let mut compacted = false;
    loop {
        let window = inner.compacted.load(Ordering::Relaxed) + 1;
        let newest = *sealed.borrow_and_update();
        inner.metrics.windows_sealed.set((newest - window).max(0));
        if window >= newest {
            if std::mem::take(&mut compacted) {
                inner.calendar.notify_one();
            }
            if sealed.changed().await.is_err() {
                return;
            }
            continue;
        }
        let before = inner.metrics.sources_left_out.get();
        let timer = inner.metrics.compaction_duration.start_timer();
        let result = compact_window(&inner, window).await;
        timer.observe_duration();
        compacted |= result.is_ok();
        let label = if result.is_ok() { "ok" } else { "failed" };
        inner.metrics.compactions.with_label_values(&[label]).inc();
        inner.compacted_last(Compaction {
            ended_ms: inner.clock.now_ms(),
            done: result.is_ok(),
            sources_left_out: inner.metrics.sources_left_out.get() - before,
        });
        if let Err(error) = result {
            tracing::error!(window, %error, "a window was not compacted; it stays and is tried again");
            sleep(RETRY).await;
        }
    }
}

/// Compacts one sealed window and takes it away.
pub(super) async fn compact_window(inner: &Arc<Inner>, window: i64) -> Result<(), CompactionError> {
    let alone = inner.slots_writer.lock().await;
    make(inner, window).await?;
    inner.compacted.store(window, Ordering::SeqCst);
    for source in inner.registry.sources() {
        source.forget_places(window);
    }
    drop(alone);
    if let Err(error) = remove(inner, window).await {
        tracing::warn!(window, %error, "a compacted window was not taken away; it is tried at the next start");
    }
    Ok(())
}

/// Writes what a window becomes, unless an attempt whose end was not heard of has.
pub(super) async fn make(inner: &Arc<Inner>, window: i64) -> Result<(), CompactionError> {
    if !store_rows::unmade_delete(&inner.db, window).await? {
        return Ok(());
    }
    let mut replaced = store_rows::Replaced::default();
    let mut agents = BTreeSet::new();
    for sources in parts(inner, window) {
        let part = gather(inner, window, sources.clone(), &mut agents).await?;
        replaced.append(compact_part(inner, window, sources, part).await?);
    }
    settle(inner, &agents).await?;
    let transaction = inner.db.begin("window_compacted").await?;
    store_rows::replaced_delete(&transaction, &replaced).await?;
    store::window_set(&transaction, window, WindowState::Compacted).await?;
    Ok(transaction.commit().await?)
}

/// Takes away windows that were compacted before the last process ended.
async fn remove_compacted(inner: &Inner) -> Result<(), DbErr> {
    for window in store::window_list(&inner.db).await? {
        if window.state == WindowState::Compacted {
            remove(inner, window.id).await?;
        }
    }
    Ok(())
}

/// Takes away what is left of a compacted window.
pub(super) async fn remove(inner: &Inner, window: i64) -> Result<(), DbErr> {
    store_rows::carried_prune(&inner.db, window).await?;
    let batches = store::window_batches(&inner.db, window, DRAIN_BYTES).await?;
    while store::window_drain(&inner.db, window, batches).await? {}
    store::window_drop(&inner.db, window).await
}

/// Ranges of source ids whose frames are held at once.
fn parts(inner: &Inner, window: i64) -> Vec<Range<i64>> {
    let mut parts = Vec::new();
    let (mut from, mut bytes, mut end) = (0, 0, 0);
    for source in inner.registry.sources() {
        let mine = source.bytes_in(window);
        if bytes > 0 && bytes + mine > PART_BYTES {
            parts.push(from..source.id.0);
            (from, bytes) = (source.id.0, 0);
        }
        bytes += mine;
        end = source.id.0 + 1;
    }
    parts.push(from..end.max(from));
    parts
}

/// The frames of some sources.
#[derive(Debug, Default)]
struct Part {
    bodies: Vec<u8>,
    sources: BTreeMap<SourceId, Vec<Gathered>>,
}

#[derive(Debug)]
struct Gathered {
    frame: WindowFrame<'static>,
    body: Range<usize>,
}

async fn gather(
    inner: &Inner,
    window: i64,
    sources: Range<i64>,
    agents: &mut BTreeSet<(AgentId, u64)>,
) -> Result<Part, CompactionError> {
    let mut part = Part::default();
    let mut batches = store::Batches::of(&inner.db, window).await?;
    while let Some((batch, body)) = batches.next().await? {
        let damaged = |error| CompactionError::Batch { batch, error };
        for entry in batch::entries(&body).map_err(damaged)? {
            match entry.map_err(damaged)?.1 {
                Entry::Settled(settled) => {
                    agents.insert((settled.agent, settled.epoch));
                }
                Entry::Frame(frame) if sources.contains(&frame.source.0) => {
                    agents.insert((frame.agent, frame.epoch));
                    let from = part.bodies.len();
                    part.bodies.extend_from_slice(frame.body);
                    let body = from..part.bodies.len();
                    let WindowFrame { meta, schema, base_sequence, .. } = WindowFrame::from(&frame);
                    let frame_of = WindowFrame { meta, schema, base_sequence, body: &[] };
                    part.sources.entry(frame.source).or_default().push(Gathered { frame: frame_of, body });
                }
                Entry::Frame(_) => {}
            }
        }
    }
    Ok(part)
}

/// Computes on a thread of its own and writes what comes out, side by side.
async fn compact_part(
    inner: &Arc<Inner>,
    window: i64,
    sources: Range<i64>,
    part: Part,
) -> Result<store_rows::Replaced, CompactionError> {
    let (sender, mut receiver) = mpsc::channel::<Rows>(2);
    let worker = Arc::clone(inner);
    let handle = Handle::current();
    let computing = background::spawn("compaction", move || compute(&worker, &handle, sources, &part, &sender));
    let mut failed = None;
    while let Some(rows) = receiver.recv().await {
        if let Err(error) = store_rows::rows_insert(inner, window, rows).await {
            failed = Some(error);
            break;
        }
    }
    drop(receiver);
    let computed = computing.await.map_err(|_| CompactionError::Interrupted)?;
    match failed {
        Some(error) => Err(error.into()),
        None => computed,
    }
}

fn compute(
    inner: &Inner,
    handle: &Handle,
    sources: Range<i64>,
    part: &Part,
    sender: &mpsc::Sender<Rows>,
) -> Result<store_rows::Replaced, CompactionError> {
    let compacted = inner.compacted.load(Ordering::SeqCst);
    let mut replaced = store_rows::Replaced::default();
    let mut rows = Rows::default();
    let mut handed_on = store_rows::HandedOn::new(sources, compacted);
    let mut frames = Vec::new();
    let (mut left_out, mut why): (u64, Option<String>) = (0, None);
    for (&id, gathered) in &part.sources {
        frames.clear();
        frames.extend(
            gathered.iter().map(|gathered| WindowFrame { body: &part.bodies[gathered.body.clone()], ..gathered.frame }),
        );
        let mut mine = store_rows::Replaced::default();
        let before = handle.block_on(handed_on.of(&inner.db, id))?;
        let work = AssertUnwindSafe(|| compute_source(inner, handle, (id, &frames), before.as_ref(), &mut mine));
        let reason = match catch_unwind(work) {
            Ok(Ok(made)) => Ok(made),
            Ok(Err(CompactionError::Source { error, .. })) => Err(error.to_string()),
            Ok(Err(error)) => return Err(error),
            Err(_) => Err("the work panicked".to_owned()),
        };
        let made = match reason {
            Ok(made) => {
                replaced.append(mine);
                made
            }
            Err(reason) => {
                left_out += 1;
                why.get_or_insert_with(|| format!("source {id}: {reason}"));
                let agent = inner.registry.source(id).map_or(AgentId(0), |source| source.agent);
                let handed_on = before.map(|row| {
                    compact::handed_on(&inner.registry, row.schema, row.meta, &row.body)
                        .map_err(|_| row.meta.instant_ms)
                });
                compact::left_out(&inner.registry, (agent, id), &frames, handed_on, reason)
            }
        };
        inner.metrics.compacted_samples.inc_by(made.samples);
        rows.push(id, made);
        if rows.bytes >= WRITE_BYTES && sender.blocking_send(std::mem::take(&mut rows)).is_err() {
            return Err(CompactionError::Interrupted);
        }
    }
    if let Some(first) = why {
        inner.metrics.sources_left_out.inc_by(left_out);
        tracing::error!(sources = left_out, first, "no slots can be made of frames of a window; they are kept aside");
    }
    if rows.bytes > 0 && sender.blocking_send(rows).is_err() {
        return Err(CompactionError::Interrupted);
    }
    Ok(replaced)
}

/// What becomes of one source's frames.
fn compute_source(
    inner: &Inner,
    handle: &Handle,
    (id, frames): (SourceId, &[WindowFrame<'_>]),
    before: Option<&store::CarriedRow>,
    replaced: &mut store_rows::Replaced,
) -> Result<Made, CompactionError> {
    let compacted = inner.compacted.load(Ordering::SeqCst);
    let known = inner.registry.source(id);
    let (interval_ms, reach_ms) = known.map_or((0, 0), |source| (source.interval_ms(), source.reach_ms()));
    let broken = |error| CompactionError::Source { source_id: id, error };
    let before = before
        .map(|row| compact::handed_on(&inner.registry, row.schema, row.meta, &row.body))
        .transpose()
        .map_err(|error| broken(error.into()))?;
    let newest_ms = before.as_ref().map(|frame| frame.meta.instant_ms);
    let stretches = compact::anew(frames, newest_ms, reach_ms, inner.deleted().raw_ms);
    let (mut taken, mut with_chunks) = (Vec::new(), Vec::new());
    if !stretches.is_empty() {
        let read = async {
            let stretches = around(inner, id, (frames, newest_ms.unwrap_or(0)), &stretches, compacted).await?;
            let mut taken = Taken::default();
            for (anew, _) in &stretches {
                taken.read(&inner.db, id, anew, compacted).await?;
            }
            Ok::<_, CompactionError>((stretches, taken))
        };
        let (stretches, slots) = handle.block_on(read)?;
        taken = slots.finish(replaced).map_err(|error| broken(error.into()))?;
        with_chunks = stretches;
    }
    compact::compact(&inner.registry, frames, before, interval_ms, &with_chunks, &taken).map_err(broken)
}

/// Reads the chunks around each stretch; a stretch may be followed by one more slot.
async fn around(
    inner: &Inner,
    source: SourceId,
    (frames, newest_ms): (&[WindowFrame<'_>], UnixMs),
    stretches: &[Anew],
    compacted: i64,
) -> Result<Vec<Stretch>, CompactionError> {
    let broken = |error| CompactionError::Source { source_id: source, error: compact::CompactError::Frames(error) };
    let mut all = Vec::new();
    for (place, anew) in stretches.iter().enumerate() {
        let around = store_rows::chunks_around(&inner.db, source, anew, compacted).await?;
        let after = store_rows::chunk_after(&inner.db, source, anew.reach_to_ms(), compacted).await?;
        let next = compact::first_after(around.iter().chain(&after), anew.to_ms - 1).map_err(broken)?;
        let mut behind = None;
        if let Some(next) = next {
            let before = compact::last_before(&around, next.instant_ms).map_err(broken)?;
            behind = compact::anew_behind(anew, newest_ms, frames, before.as_ref(), &next);
        }
        all.push((*anew, around));
        // It may lie in the next stretch anyway.
        let follows = stretches.get(place + 1).map_or(i64::MAX, |next| next.from_ms);
        if let Some(behind) = behind.filter(|behind| behind.to_ms <= follows) {
            let around = store_rows::chunks_around(&inner.db, source, &behind, compacted).await?;
            all.push((behind, around));
        }
    }
    Ok(all)
}

/// Writes what is settled of these agents' epochs. True at any time: everything settled is durable.
async fn settle(inner: &Inner, agents: &BTreeSet<(AgentId, u64)>) -> Result<(), DbErr> {
    let agents: Vec<_> = agents.iter().copied().collect();
    for some in agents.chunks(1_000) {
        let row = |(id, epoch): &(AgentId, u64)| {
            let agent = inner.agent(*id);
            let state = agent.lock();
            let (last_instant_ms, last_arrival_ms) = (state.last_instant_ms, state.last_arrival_ms);
            let known = state.epochs.get(epoch)?;
            let (ranges, counts) = (known.settled.iter().collect(), known.counts);
            Some(SettledRow { agent: *id, epoch: *epoch, ranges, counts, last_instant_ms, last_arrival_ms })
        };
        let rows: Vec<_> = some.iter().filter_map(row).collect();
        let transaction = inner.db.begin("settled").await?;
        store::settled_upsert(&transaction, &rows).await?;
        transaction.commit().await?;
    }
    Ok(())
}

impl Rows {
    fn push(&mut self, source: SourceId, made: Made) {
        let chunks = made.chunks.iter().map(|chunk| chunk.body.len());
        let slots = made.slots.iter().map(|slots| slots.body.len());
        let carried = made.carried.iter().map(|carried| carried.body.len());
        let left_out = made.left_out.iter().map(|left_out| left_out.body.len());
        self.bytes += chunks.chain(slots).chain(carried).chain(left_out).sum::<usize>() + 1;
        self.made.push((source, made));
    }
}
