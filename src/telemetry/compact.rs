//! What becomes of one source's frames of a sealed window: chunks, slots, the frame handed on. Pure.
//!
//! What must hold: slots that are stored of one source add up to what all its frames say.
//! - Frames newer than what was handed on add to the slots: the interval that leads to them belongs
//!   to them.
//! - Frames between older ones change intervals that were counted already. The slots that they can
//!   touch are made anew from all frames around, and taken out of what was stored.

use super::batch;
use super::chunk::{self, Chunk};
use super::columns::{Columns, FrameMeta};
use super::ordered::{Decoded, FramesError, Ordered, WindowFrame};
use super::registry::Registry;
use super::slot::{self, Predecessor, SLOT_MS, SlotBlock};
use super::slot_block::{SlotBlockView, SlotError};
use super::{DAY_MS, Measured, StoredSchema};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, SourceId};
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tongtu_protocol::codec::State;

/// Frames of a chunk at most: four hours at 15 s.
const CHUNK_FRAMES: usize = 960;
/// A chunk ends where nothing came for this long.
const CHUNK_GAP_MS: i64 = 3_600_000;

/// Slots of all columns of a piece, and of a block: about 40 MB at most.
const CELLS: i64 = 1 << 20;

/// What is to be stored.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub chunks: Vec<ChunkMade>,
    pub slots: Vec<SlotsMade>,
    pub carried: Option<CarriedMade>,
    /// Values in the chunks.
    pub samples: u64,
    /// Slots are missing.
    pub left_out: Option<LeftOut>,
}

/// Frames that no slots were made of.
#[derive(Debug)]
pub(super) struct LeftOut {
    pub reason: String,
    pub first_ms: UnixMs,
    pub last_ms: UnixMs,
    /// The frames themselves as a batch; empty if they became chunks.
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct ChunkMade {
    pub schema: i64,
    pub first_ms: UnixMs,
    pub last_ms: UnixMs,
    pub body: Vec<u8>,
}

/// Slots of one day.
#[derive(Debug)]
pub(super) struct SlotsMade {
    pub schema: i64,
    pub first_ms: UnixMs,
    pub end_ms: UnixMs,
    pub body: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct CarriedMade {
    pub schema: i64,
    pub meta: FrameMeta,
    /// A keyframe.
    pub body: Vec<u8>,
}

/// Why a source cannot be compacted.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompactError {
    #[error("{0}")]
    Frames(#[from] FramesError),
    #[error("slots cannot be read: {0}")]
    Slots(#[from] SlotError),
}

/// Late frames, and the slots that have to be made anew because of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anew {
    /// Begin of the first slot.
    pub from_ms: UnixMs,
    /// End of the last slot; `MAX` if the newest frames lie in it.
    pub to_ms: UnixMs,
    /// No frame farther outside than this matters.
    pub margin_ms: i64,
}

impl Anew {
    /// Frames from here on matter.
    pub(super) fn reach_from_ms(&self) -> UnixMs {
        self.from_ms.saturating_sub(self.margin_ms)
    }

    /// Goes on to the end, if what is newest matters.
    fn reach_newest(&mut self, newest_ms: UnixMs) {
        if self.reach_to_ms() >= newest_ms {
            self.to_ms = UnixMs::MAX;
        }
    }

    /// Frames up to here matter.
    pub(super) fn reach_to_ms(&self) -> UnixMs {
        self.to_ms.saturating_add(self.margin_ms)
    }
}

/// The stretches of slots that frames up to `newest_ms`, what was handed on, make anew. `reach_ms` is
/// the widest interval at which the source was ever sampled and the widest cadence of its columns.
/// Slots that frames from before `deleted_ms` matter to stay as they are.
pub(super) fn anew(
    frames: &[WindowFrame<'_>],
    newest_ms: Option<UnixMs>,
    reach_ms: u32,
    deleted_ms: UnixMs,
) -> Vec<Anew> {
    let Some(newest_ms) = newest_ms else { return Vec::new() };
    let mut late: Vec<_> =
        frames.iter().map(|frame| frame.meta.instant_ms).filter(|instant| *instant <= newest_ms).collect();
    late.sort_unstable();
    let margin_ms = slot::longest_ms(reach_ms).max(1);
    let floor = |ms: UnixMs| ms.div_euclid(SLOT_MS) * SLOT_MS;
    let mut stretches: Vec<Anew> = Vec::new();
    for instant in late {
        let (from_ms, to_ms) = (floor(instant - margin_ms), floor(instant + margin_ms) + SLOT_MS);
        if from_ms - margin_ms < deleted_ms {
            continue;
        }
        match stretches.last_mut() {
            Some(last) if from_ms <= last.reach_to_ms() + margin_ms => last.to_ms = last.to_ms.max(to_ms),
            _ => stretches.push(Anew { from_ms, to_ms, margin_ms }),
        }
    }
    if let Some(last) = stretches.last_mut() {
        last.reach_newest(newest_ms);
    }
    stretches
}

/// A stretch of slots, with schema and bytes of the stored chunks around it.
pub(super) type Stretch = (Anew, Vec<(i64, Vec<u8>)>);

/// The slot behind a stretch that has to be made anew with it: that of the `next` stored frame, if
/// another boot lies before it, because a reboot is counted with the frame that follows it.
/// `before` is the frame that was stored before it, `newest_ms` that of what was handed on.
pub(super) fn anew_behind(
    anew: &Anew,
    newest_ms: UnixMs,
    frames: &[WindowFrame<'_>],
    before: Option<&FrameMeta>,
    next: &FrameMeta,
) -> Option<Anew> {
    let inside = |instant: UnixMs| (anew.from_ms..anew.to_ms).contains(&instant);
    let mut boots = frames.iter().filter(|frame| inside(frame.meta.instant_ms)).map(|frame| frame.meta.boot);
    let rebooted = boots.any(|boot| boot != next.boot) || before.is_some_and(|before| before.boot != next.boot);
    let from_ms = next.instant_ms.div_euclid(SLOT_MS) * SLOT_MS;
    let mut behind = Anew { from_ms, to_ms: from_ms + SLOT_MS, margin_ms: anew.margin_ms };
    behind.reach_newest(newest_ms);
    (rebooted && from_ms >= anew.to_ms).then_some(behind)
}

/// A source's frames of a window become rows. `taken` are the stored slots that reach into the
/// stretches, whole: what of them lies outside is stored again. Frames that do not say at which
/// interval they were sampled are taken as sampled at `interval_ms`.
pub(super) fn compact(
    registry: &Registry,
    frames: &[WindowFrame<'_>],
    handed_on: Option<Predecessor>,
    interval_ms: u32,
    stretches: &[Stretch],
    taken: &[SlotBlock],
) -> Result<Made, CompactError> {
    let newest_ms = handed_on.as_ref().map(|frame| frame.meta.instant_ms);
    // The newest frames add to the slots, unless they lie in a stretch that is made anew.
    let adds = stretches.iter().all(|(anew, _)| anew.to_ms < UnixMs::MAX);
    let mut made = Made::default();
    let mut keep = Pieces::new(interval_ms, true, handed_on.clone().filter(|_| adds));
    // What is handed on knows late measurements as well.
    keep.measured = handed_on.as_ref().map(|frame| frame.measured.clone()).unwrap_or_default();
    Ordered::new(frames, registry)?.for_each(registry, |frame| {
        let is_new = newest_ms.is_none_or(|newest| frame.meta.instant_ms > newest);
        keep.push(&frame, is_new && adds, &mut made);
        Ok::<_, CompactError>(())
    })?;
    made.carry(keep.last(), handed_on);
    keep.finish(&mut made);
    keep.put_slots(&mut made);
    let part = |block: &SlotBlock, from: UnixMs, to: UnixMs| part(block, from, to).map(Cow::into_owned);
    for (anew, chunks) in stretches {
        let mut all = Ordered::new(frames, registry)?;
        for (schema, chunk) in chunks {
            all.add_chunk(*schema, chunk)?;
        }
        let mut remake = Pieces::new(interval_ms, false, None);
        remake.slots_of = (anew.from_ms, anew.to_ms);
        all.for_each(registry, |frame| {
            let instant = frame.meta.instant_ms;
            if instant < anew.reach_from_ms() {
                remake.measured.take(frame.schema, frame.state, instant, frame.meta.boot);
                remember(&mut remake.before, &frame);
            } else if instant <= anew.reach_to_ms() {
                remake.push(&frame, true, &mut made);
            }
            Ok::<_, CompactError>(())
        })?;
        remake.finish(&mut made);
        remake.put_slots(&mut made);
    }
    for block in taken {
        let mut rest = vec![block.clone()];
        for (anew, _) in stretches {
            let outside =
                |block: &SlotBlock| [part(block, UnixMs::MIN, anew.from_ms), part(block, anew.to_ms, UnixMs::MAX)];
            rest = rest.iter().flat_map(outside).flatten().collect();
        }
        rest.iter().for_each(|block| put_days(block, &mut made.slots));
    }
    Ok(made)
}

/// What becomes of frames whose slots cannot be made: chunks if they can be read, else they are kept
/// as they are. `handed_on` is what was handed on, or at least when.
pub(super) fn left_out(
    registry: &Registry,
    (agent, source): (AgentId, SourceId),
    frames: &[WindowFrame<'_>],
    handed_on: Option<Result<Predecessor, UnixMs>>,
    reason: String,
) -> Made {
    let instants = frames.iter().map(|frame| frame.meta.instant_ms);
    let (first_ms, last_ms) = (instants.clone().min().unwrap_or(0), instants.max().unwrap_or(0));
    let mut left_out = LeftOut { reason, first_ms, last_ms, body: Vec::new() };
    let chunks = catch_unwind(AssertUnwindSafe(|| chunks(registry, frames, handed_on)));
    let mut made = match chunks {
        Ok(Ok(made)) => made,
        Ok(Err(_)) | Err(_) => {
            batch::begin(&mut left_out.body);
            for frame in frames {
                batch::put_frame(&mut left_out.body, &frame.entry(agent, source));
            }
            batch::finish(&mut left_out.body);
            Made::default()
        }
    };
    made.left_out = Some(left_out);
    made
}

/// Chunks alone.
fn chunks(
    registry: &Registry,
    frames: &[WindowFrame<'_>],
    handed_on: Option<Result<Predecessor, UnixMs>>,
) -> Result<Made, CompactError> {
    let mut made = Made::default();
    let mut keep = Pieces::new(0, true, None);
    if let Some(Ok(known)) = &handed_on {
        keep.measured = known.measured.clone();
    }
    Ordered::new(frames, registry)?.for_each(registry, |frame| {
        keep.push(&frame, false, &mut made);
        Ok::<_, CompactError>(())
    })?;
    match handed_on {
        // Nothing older takes its place.
        Some(Err(at_ms)) => made.carry(keep.last().filter(|last| last.meta.instant_ms > at_ms), None),
        handed_on => made.carry(keep.last(), handed_on.and_then(Result::ok)),
    }
    keep.finish(&mut made);
    Ok(made)
}

impl Made {
    /// Hands on the `last` frame, or the one that was handed on before if that is newer, with what is measured since.
    fn carry(&mut self, last: Option<Predecessor>, handed_on: Option<Predecessor>) {
        let newest = match (last, handed_on) {
            (Some(last), Some(before)) if last.meta.instant_ms <= before.meta.instant_ms => {
                let is_same = before.measured.is_same(&last.measured);
                (!is_same).then_some(Predecessor { measured: last.measured, ..before })
            }
            (last, _) => last,
        };
        self.carried = newest.map(|newest| {
            let mut body = Vec::new();
            let Predecessor { meta, schema, state, measured } = &newest;
            measured.append_to(schema, state, meta.instant_ms).encode_keyframe(&mut body);
            CarriedMade { schema: newest.schema.number, meta: newest.meta, body }
        });
    }
}

/// Keeps a frame, in the memory of the one before.
fn remember(place: &mut Option<Predecessor>, frame: &Decoded<'_>) {
    let mut measured = place.as_mut().map(|known| std::mem::take(&mut known.measured)).unwrap_or_default();
    measured.take(frame.schema, frame.state, frame.meta.instant_ms, frame.meta.boot);
    match place {
        Some(known) if known.schema.number == frame.schema.number => {
            known.meta = *frame.meta;
            known.state.copy_from(frame.state);
            known.measured = measured;
        }
        _ => {
            let (meta, schema, state) = (*frame.meta, Arc::clone(frame.schema), frame.state.clone());
            *place = Some(Predecessor { meta, schema, state, measured });
        }
    }
}

/// The slots of a block that begin in `from_ms..to_ms`; `None` if there are none.
fn part(block: &SlotBlock, from_ms: UnixMs, to_ms: UnixMs) -> Option<Cow<'_, SlotBlock>> {
    // Most often it is all of them.
    if from_ms <= block.first_ms && block.end_ms() <= to_ms && !block.frames.is_empty() {
        return Some(Cow::Borrowed(block));
    }
    block.cut(from_ms.max(block.first_ms), to_ms.min(block.end_ms())).map(Cow::Owned)
}

/// A block becomes a row for each day.
fn put_days(block: &SlotBlock, rows: &mut Vec<SlotsMade>) {
    for day in block.first_ms.div_euclid(DAY_MS)..=(block.end_ms() - 1).div_euclid(DAY_MS) {
        let Some(part) = part(block, day * DAY_MS, (day + 1) * DAY_MS) else { continue };
        if !part.is_empty() {
            let (schema, first_ms, end_ms) = (part.schema, part.first_ms, part.end_ms());
            rows.push(SlotsMade { schema, first_ms, end_ms, body: part.encode() });
        }
    }
}

/// Frames in order, cut into pieces of one schema.
struct Pieces {
    interval_ms: u32,
    /// Pieces become chunks; otherwise only slots.
    chunks: bool,
    columns: Columns,
    schema: Option<Arc<StoredSchema>>,
    /// The piece adds to the slots.
    adds: bool,
    before: Option<Predecessor>,
    /// What was measured less often, up to the last frame.
    measured: Measured,
    /// The last block, which may grow.
    slots: Option<SlotBlock>,
    /// Slots outside are not stored.
    slots_of: (UnixMs, UnixMs),
}

impl Pieces {
    fn new(interval_ms: u32, chunks: bool, before: Option<Predecessor>) -> Self {
        let (columns, slots_of) = (Columns::default(), (UnixMs::MIN, UnixMs::MAX));
        let measured = before.as_ref().map(|before| before.measured.clone()).unwrap_or_default();
        Self { interval_ms, chunks, columns, schema: None, adds: false, before, measured, slots: None, slots_of }
    }

    fn push(&mut self, frame: &Decoded<'_>, adds: bool, made: &mut Made) {
        let same_schema = self.schema.as_ref().is_some_and(|schema| schema.number == frame.schema.number);
        let frames = self.columns.frames();
        let follows = frames.first().zip(frames.last()).is_some_and(|(first, last)| {
            frame.meta.instant_ms - last.instant_ms <= CHUNK_GAP_MS
                && frames.len() < CHUNK_FRAMES
                && cells(frame.schema, first.instant_ms, frame.meta.instant_ms) <= CELLS
        });
        if !same_schema || !follows || adds != self.adds {
            self.finish(made);
            self.columns.reset(frame.schema.columns.len());
            self.schema = Some(Arc::clone(frame.schema));
            self.adds = adds;
        }
        self.measured.take(frame.schema, frame.state, frame.meta.instant_ms, frame.meta.boot);
        self.columns.push_state(*frame.meta, frame.state);
    }

    /// The last frame, if the piece has not ended.
    fn last(&self) -> Option<Predecessor> {
        let (meta, state) = self.columns.last()?;
        Some(Predecessor { meta, schema: self.schema.clone()?, state, measured: self.measured.clone() })
    }

    /// Ends the piece.
    fn finish(&mut self, made: &mut Made) {
        let (Some(schema), Some(first)) = (self.schema.clone(), self.columns.frames().first()) else { return };
        let schema = &schema;
        let first_ms = first.instant_ms;
        let Some((last, state)) = self.columns.last() else { return };
        if self.chunks {
            let mut body = Vec::new();
            chunk::encode(schema, &mut self.columns, &mut body);
            made.samples += (self.columns.frames().len() * self.columns.columns()) as u64;
            made.chunks.push(ChunkMade { schema: schema.number, first_ms, last_ms: last.instant_ms, body });
        }
        if self.adds {
            let block = slot::make(schema, self.before.as_ref(), &mut self.columns, self.interval_ms, SLOT_MS);
            if let Some(block) = block {
                match &mut self.slots {
                    // A hole costs nothing between two blocks, but inside one.
                    Some(known)
                        if known.schema == block.schema
                            && block.first_ms - known.end_ms() <= CHUNK_GAP_MS
                            && cells(schema, known.first_ms, block.end_ms()) <= CELLS =>
                    {
                        known.merge(&block);
                    }
                    _ => {
                        self.put_slots(made);
                        self.slots = Some(block);
                    }
                }
            }
            let measured = self.measured.clone();
            self.before = Some(Predecessor { meta: last, schema: Arc::clone(schema), state, measured });
        }
        let columns = self.columns.columns();
        self.columns.reset(columns);
    }

    /// The slots of all pieces, once the last one has ended.
    fn put_slots(&mut self, made: &mut Made) {
        let Some(block) = self.slots.take() else { return };
        let (from_ms, to_ms) = self.slots_of;
        if let Some(block) = part(&block, from_ms, to_ms) {
            put_days(&block, &mut made.slots);
        }
    }
}

/// The slots from one instant to another, of all columns.
fn cells(schema: &StoredSchema, from_ms: UnixMs, to_ms: UnixMs) -> i64 {
    ((to_ms - from_ms) / SLOT_MS + 2).saturating_mul(schema.columns.len() as i64)
}

/// Blocks of a closed day, which hold some columns each, as one block of all columns.
pub(super) fn join_columns(bodies: &[Vec<u8>]) -> Result<Vec<SlotBlock>, SlotError> {
    let mut blocks = Vec::new();
    for body in bodies {
        let view = SlotBlockView::open(body)?;
        blocks.push(view.block(view.columns())?);
    }
    blocks.sort_by_key(|block: &SlotBlock| (block.schema, block.first_ms, block.first_column));
    let mut whole: Vec<SlotBlock> = Vec::new();
    for block in blocks {
        match whole.last_mut() {
            Some(last)
                if (last.schema, last.first_ms) == (block.schema, block.first_ms)
                    && block.first_column == last.first_column + last.columns.len() =>
            {
                last.columns.extend(block.columns);
            }
            _ => whole.push(block),
        }
    }
    Ok(whole)
}

/// The last frame before an instant in some chunks.
pub(super) fn last_before(chunks: &[(i64, Vec<u8>)], before_ms: UnixMs) -> Result<Option<FrameMeta>, FramesError> {
    let mut last: Option<FrameMeta> = None;
    for (_, chunk) in chunks {
        let chunk = Chunk::open(chunk)?;
        let frames = chunk.frames();
        let found = frames[..frames.partition_point(|frame| frame.instant_ms < before_ms)].last();
        let newer = |found: &&FrameMeta| last.is_none_or(|last| last.instant_ms < found.instant_ms);
        last = found.filter(newer).copied().or(last);
    }
    Ok(last)
}

/// The first frame after an instant in some chunks.
pub(super) fn first_after<'a>(
    chunks: impl Iterator<Item = &'a (i64, Vec<u8>)>,
    after_ms: UnixMs,
) -> Result<Option<FrameMeta>, FramesError> {
    let mut first: Option<FrameMeta> = None;
    for (_, chunk) in chunks {
        let chunk = Chunk::open(chunk)?;
        let frames = chunk.frames();
        let found = frames.get(frames.partition_point(|frame| frame.instant_ms <= after_ms));
        let older = |found: &&FrameMeta| first.is_none_or(|first| first.instant_ms > found.instant_ms);
        first = found.filter(older).copied().or(first);
    }
    Ok(first)
}

/// The frame that was handed on, decoded.
pub(super) fn handed_on(
    registry: &Registry,
    schema: i64,
    meta: FrameMeta,
    body: &[u8],
) -> Result<Predecessor, FramesError> {
    let schema = registry.schema_by_number(schema).ok_or(FramesError::NoSchema(schema))?;
    let mut state = State::zero(Measured::appended(&schema));
    state.apply(body)?;
    let (state, measured) = Measured::split_from(&schema, &state, meta.instant_ms);
    Ok(Predecessor { meta, schema, state, measured })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tongtu_protocol::{schema::SchemaId, v1};

    #[test]
    fn no_piece_has_more_slots_than_fit() {
        let column = |number: usize| v1::Column {
            metric: format!("metric_{number}"),
            kind: v1::Kind::Gauge.into(),
            ..Default::default()
        };
        let columns: Vec<_> = (0..8_192).map(column).collect();
        let (registry, mut definitions) = (Registry::default(), Default::default());
        let schema = registry
            .schema_define(crate::platform::ids::AgentId(1), SchemaId::of(&columns), columns, 0, &mut definitions)
            .expect("room");
        let mut state = State::zero(8_192);
        state.set(0, Some(1));
        let mut pieces = Pieces::new(3_600_000, true, None);
        let mut made = Made::default();
        // A frame an hour, as far apart as frames of one piece may lie.
        for hour in 0..24 {
            let instant_ms = 1_790_000_100_000 + hour * 3_600_000;
            let (sequence, interval_ms) = (hour as u64 + 1, 3_600_000);
            let meta = FrameMeta { instant_ms, sequence, epoch: 1, boot: 1, uncertain: false, interval_ms };
            pieces.push(&Decoded { meta: &meta, schema: &schema, state: &state, kept: false }, true, &mut made);
            let slots = pieces.slots.as_ref().map_or(0, |block| block.frames.len());
            // The interval that leads to a block may reach back a little.
            assert!(slots as i64 * 8_192 <= 2 * CELLS, "{slots} slots");
        }
        pieces.finish(&mut made);
        pieces.put_slots(&mut made);
        let sum = |chunk: &ChunkMade| Chunk::open(&chunk.body).expect("a chunk").frames().len();
        assert_eq!(made.chunks.iter().map(sum).sum::<usize>(), 24);
        assert!(made.chunks.len() > 2, "{} chunks", made.chunks.len());
        let count = |slots: &SlotsMade| {
            let view = SlotBlockView::open(&slots.body).expect("slots");
            view.block(view.columns()).expect("slots").frames.iter().map(|slot| slot.count).sum::<u32>()
        };
        assert_eq!(made.slots.iter().map(count).sum::<u32>(), 24);
    }
}
