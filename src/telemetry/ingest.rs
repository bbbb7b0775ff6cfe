//! One stream's records: judged, decoded once, queued for the next commit.
//!
//! What must hold: nothing is answered here but what needs no commit (*later*, *need schema*, and
//! a repetition of what is durable); all other answers are sent by the committer. A message holds
//! its agent's lock and the flow from its first record to its last, and no other lock for longer
//! than an append.

use super::absent::{self, Absent};
use super::agent_state::{Agent, AgentState};
use super::batch::{self, FrameEntry};
use super::instant;
use super::lane::{Ended, Lane, Undecoded};
use super::live::{LiveSource, Moment, RecordId, interval_within};
use super::queue::{EventRow, FactsRow, Fate, Flow, LossRow, Prepared, QueuedFrame, QueuedRange, Seat};
use super::registry::{Boot, Registry};
use super::service::Inner;
use super::{Facts, StoredSchema};
use crate::fleet::sink::{ControlAnchor, Opening, SinkSession};
use crate::platform::clock::UnixMs;
use crate::platform::ids::OrganizationId;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLockReadGuard};
use tokio::sync::mpsc;
use tongtu_protocol::limits;
use tongtu_protocol::reason::Reason;
use tongtu_protocol::schema::{self, SchemaId};
use tongtu_protocol::v1::{self, Refusal, Verdict, record::Body};

/// An agent that was told *later* waits this long, and up to twice as long.
const RETRY_MS: u32 = 2_000;

thread_local! {
    /// Empty buffers for the next message of whichever session: ten thousand sessions would keep
    /// what their largest message needed.
    static PREPARED: RefCell<Prepared> = RefCell::default();
}

/// Spools that an agent may have had.
const EPOCHS: usize = 4_096;

/// After which an agent that brings too many new schemas may try again.
const NEW_SCHEMAS_AFTER_MS: u32 = 60_000;

/// No spool counts as far: ranges beyond would only make sums overflow.
const LOST_LAST: u64 = 1 << 48;

/// A stream.
pub(super) struct Session {
    inner: Arc<Inner>,
    organization: OrganizationId,
    agent: Arc<Agent>,
    answers: mpsc::UnboundedSender<v1::Answers>,
    boots: HashMap<u32, HeldBoot>,
    /// The boot that the agent runs in; none if it has too many.
    current_boot: Option<HeldBoot>,
    sources: HashMap<u32, DefinedSource>,
    /// What has a number and is one too many.
    too_many: HashSet<Numbered>,
    live: Lane,
    backlog: Lane,
    seat: Seat,
    /// What the message at hand adds to the queue.
    prepared: Prepared,
}

struct DefinedSource {
    live: Arc<LiveSource>,
    /// Of its frames: after a change, those of the backlog have another one.
    interval_ms: u32,
    schema_id: Option<SchemaId>,
    schema: Option<Arc<StoredSchema>>,
    /// Its schema was sent and is not acceptable.
    schema_refused: Option<Refusal>,
    /// It was sent and is one of too many new ones: the next frame is to come later.
    schema_later: bool,
}

/// A number of the stream.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Numbered {
    Boot(u32),
    Source(u32),
}

/// A boot that a stream speaks of.
struct HeldBoot(Arc<Boot>);

impl HeldBoot {
    fn new(boot: Arc<Boot>) -> Self {
        boot.hold();
        Self(boot)
    }
}

impl std::ops::Deref for HeldBoot {
    type Target = Boot;

    fn deref(&self) -> &Boot {
        &self.0
    }
}

impl Drop for HeldBoot {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// What is made of a record.
enum Judged {
    Fate(Fate),
    /// Durable already.
    Settled,
    /// A number that no record can have: there is nothing to settle.
    Impossible,
    End(Ended),
}

impl From<Refusal> for Judged {
    fn from(refusal: Refusal) -> Self {
        Self::Fate(Fate::Refused(refusal))
    }
}

impl Session {
    pub(super) fn new(inner: Arc<Inner>, opening: Opening, answers: mpsc::UnboundedSender<v1::Answers>) -> Self {
        let agent = inner.agent(opening.agent);
        let boot_id = opening.hello.boot_id.replace('\0', "");
        let now_ms = inner.clock.now_ms();
        let current_boot = inner.queue.define(&inner.registry, |registry, definitions| {
            registry.boot_define(agent.id, &boot_id, now_ms, definitions).map(HeldBoot::new)
        });
        if let (Some(boot), Some(clock)) = (&current_boot, &opening.hello.clock) {
            boot.anchors.lock().unwrap_or_else(PoisonError::into_inner).add_agent(clock);
        }
        Self {
            agent,
            answers,
            boots: HashMap::new(),
            current_boot,
            sources: HashMap::new(),
            too_many: HashSet::new(),
            // Lanes are numbered from 1 up.
            live: Lane::new(0, 0, 0),
            backlog: Lane::new(0, 0, 0),
            seat: Seat::default(),
            prepared: Prepared::default(),
            inner,
            organization: opening.organization,
        }
    }

    fn define_boot(&mut self, boot: v1::Boot, now_ms: UnixMs) {
        let full = self.boots.len() >= limits::BOOTS && !self.boots.contains_key(&boot.number);
        if boot.boot_id.is_empty() || !is_text(&boot.boot_id, limits::IDENTITY_BYTES) {
            return;
        }
        let Inner { queue, registry, .. } = &*self.inner;
        let known = queue.define(registry, |registry, definitions| {
            let room = !full;
            room.then(|| registry.boot_define(self.agent.id, &boot.boot_id, now_ms, definitions))
                .flatten()
                .map(HeldBoot::new)
        });
        let Some(known) = known else { return self.turn_away(Numbered::Boot(boot.number)) };
        let mut anchors = known.anchors.lock().unwrap_or_else(PoisonError::into_inner);
        boot.anchors.iter().take(limits::ANCHORS).for_each(|clock| anchors.add_agent(clock));
        drop(anchors);
        self.boots.insert(boot.number, known);
    }

    fn define_source(&mut self, source: v1::Source, now_ms: UnixMs) {
        // They are the key of an index, which takes no long texts.
        let texts = is_text(&source.kind, limits::SOURCE_KIND_BYTES) && is_text(&source.key, limits::SOURCE_KEY_BYTES);
        let full = self.sources.len() >= limits::SOURCES && !self.sources.contains_key(&source.number);
        if source.kind.is_empty() || !texts {
            return;
        }
        let Inner { queue, registry, .. } = &*self.inner;
        let schema_id = SchemaId::from_bytes(&source.schema_id);
        let schema = schema_id.and_then(|id| registry.schema_used(id, now_ms));
        let live = queue.define(registry, |registry, definitions| {
            if full {
                None
            } else {
                registry.source_define(self.agent.id, self.organization, &source, now_ms, definitions)
            }
        });
        let Some(live) = live else { return self.turn_away(Numbered::Source(source.number)) };
        let interval_ms = interval_within(source.interval_ms);
        let defined = DefinedSource { live, interval_ms, schema_id, schema, schema_refused: None, schema_later: false };
        self.sources.insert(source.number, defined);
    }

    /// Records with this number are refused as of something that is one too many.
    fn turn_away(&mut self, number: Numbered) {
        match number {
            Numbered::Boot(boot) => drop(self.boots.remove(&boot)),
            Numbered::Source(source) => drop(self.sources.remove(&source)),
        }
        if self.too_many.len() < limits::SOURCES + limits::BOOTS {
            self.too_many.insert(number);
        }
    }

    fn define_schema(&mut self, schema: v1::Schema, now_ms: UnixMs) {
        let Inner { queue, registry, .. } = &*self.inner;
        let claimed = SchemaId::from_bytes(&schema.id);
        match schema::check(&schema) {
            Ok(id) => {
                let known = queue.define(registry, |registry, definitions| {
                    registry.schema_define(self.agent.id, id, schema.columns, now_ms, definitions)
                });
                for source in self.sources.values_mut().filter(|source| source.schema_id == Some(id)) {
                    source.schema = known.clone();
                    (source.schema_refused, source.schema_later) = (None, known.is_none());
                }
            }
            Err(error) => {
                if self.agent.lock().is_log_due(Refusal::BadSchema, now_ms) {
                    tracing::warn!(agent = %self.agent.id, %error, "a schema was refused");
                }
                for source in self.sources.values_mut().filter(|source| source.schema_id == claimed) {
                    source.schema_refused = Some(Refusal::BadSchema);
                }
            }
        }
    }

    /// Judges the records of a message one after another.
    fn take(&mut self, message: v1::Records, lane: &mut Lane, state: &mut AgentState, flow: Flow) {
        self.prepared = PREPARED.take();
        let (now_ms, is_live) = (self.inner.clock.now_ms(), message.live);
        let (mut settled, mut impossible, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        let too_many = state.epochs.len() >= EPOCHS && !state.epochs.contains_key(&lane.epoch);
        for record in message.records {
            let sequence = record.sequence;
            let judged = match lane.ended {
                Some(ended) => Judged::End(ended),
                None if too_many => Judged::Impossible,
                None => self.judge(record, (lane, is_live), state, flow, now_ms),
            };
            let refusal = match judged {
                Judged::Fate(Fate::Refused(refusal)) => Some(refusal),
                Judged::Impossible => Some(Refusal::BadSequence),
                _ => None,
            };
            if let Some(refusal) = refusal.filter(|refusal| state.is_log_due(*refusal, now_ms)) {
                let reason = super::instruments::reason(refusal);
                tracing::warn!(agent = %self.agent.id, sequence, reason, "a record was refused");
            }
            match judged {
                Judged::Fate(fate) => {
                    let epoch = state.epochs.entry(lane.epoch).or_default();
                    let highest = epoch.highest();
                    epoch.queue(sequence, fate);
                    self.place((lane.epoch, sequence), fate, is_live, highest, &mut state.absent);
                    push(&mut self.prepared.ranges, lane, sequence, fate);
                }
                Judged::Settled => extend(&mut settled, sequence),
                Judged::Impossible => extend(&mut impossible, sequence),
                Judged::End(why) => {
                    if lane.ended.is_none() {
                        lane.end(why);
                    }
                    extend(&mut ended, sequence);
                }
            }
        }
        let mut answers = Vec::new();
        self.inner.metrics.settled(Fate::Refused(Refusal::BadSequence), count(&impossible));
        let refusal = Refusal::BadSequence.into();
        answer(&mut answers, settled, v1::Answer { verdict: Verdict::Accepted.into(), ..Default::default() });
        answer(
            &mut answers,
            impossible,
            v1::Answer { verdict: Verdict::Refused.into(), refusal, ..Default::default() },
        );
        if let Some(why) = lane.ended {
            if !matches!(why, Ended::NeedSchema(_)) {
                self.inner.metrics.later.inc_by(count(&ended));
            }
            answer(&mut answers, ended, self.ended(lane, why));
        }
        if !answers.is_empty() {
            // The stream may be gone; then nobody waits.
            let _ = self.answers.send(v1::Answers { epoch: lane.epoch, answers });
        }
    }

    /// Lays a frame, or one that was refused, into the agent's time.
    fn place(&mut self, record: (u64, u64), fate: Fate, is_live: bool, highest: u64, absent: &mut Absent) {
        let Prepared { frames, rows, .. } = &mut self.prepared;
        match (fate, frames.last()) {
            (Fate::Frame, Some(frame)) => absent.frame(record, frame.instant_ms, is_live, highest, &mut rows.losses),
            (Fate::Refused(refusal), _) => {
                let ((epoch, first), arrival_ms) = (record, self.inner.clock.now_ms());
                let (agent, last, reason) = (self.agent.id, first, absent::refused(refusal));
                let (from_ms, to_ms) = (None, None);
                absent
                    .never(LossRow { agent, epoch, first, last, reason, arrival_ms, from_ms, to_ms }, &mut rows.losses);
            }
            _ => {}
        }
    }

    fn judge(
        &mut self,
        record: v1::Record,
        (lane, is_live): (&mut Lane, bool),
        state: &mut AgentState,
        flow: Flow,
        now_ms: UnixMs,
    ) -> Judged {
        let sequence = record.sequence;
        let epoch = state.epochs.entry(lane.epoch).or_default();
        let again = match (epoch.settled.contains(sequence), epoch.queued.contains(sequence)) {
            (true, _) => Some(Judged::Settled),
            (_, true) => Some(Judged::Fate(Fate::Again)),
            _ => None,
        };
        if sequence == 0 || sequence == u64::MAX || (again.is_none() && epoch.is_scattered(sequence)) {
            return Judged::Impossible;
        }
        if sequence <= lane.last {
            return again.unwrap_or(Refusal::OutOfOrder.into());
        }
        lane.last = sequence;
        match record.body {
            Some(Body::Frame(frame)) => {
                let stamp = (sequence, record.boot, record.boottime_ms, record.crc32c);
                self.judge_frame(stamp, &frame, (lane, is_live), again, flow, now_ms)
            }
            _ if again.is_some() => again.unwrap_or(Judged::Settled),
            Some(body) => self.judge_row(record.boot, record.boottime_ms, record.crc32c, body, now_ms),
            None => Refusal::Undecodable.into(),
        }
    }

    fn judge_frame(
        &mut self,
        (sequence, boot, boottime_ms, crc): (u64, u32, u64, u32),
        frame: &v1::Frame,
        (lane, is_live): (&mut Lane, bool),
        again: Option<Judged>,
        flow: Flow,
        now_ms: UnixMs,
    ) -> Judged {
        let Some(source) = self.sources.get_mut(&frame.source) else {
            let one_too_many = self.too_many.contains(&Numbered::Source(frame.source));
            return again.unwrap_or(too_many_or(one_too_many, Refusal::UnknownSource).into());
        };
        let id = source.live.id;
        let refuse = |lane: &mut Lane, again: Option<Judged>, refusal: Refusal| {
            lane.skip(id, sequence);
            again.unwrap_or(refusal.into())
        };
        if frame.body.len() > limits::FRAME_BYTES {
            return refuse(lane, again, Refusal::TooLarge);
        }
        if crc32c::crc32c(&frame.body) != crc {
            return refuse(lane, again, Refusal::Checksum);
        }
        let schema_id = match (source.schema_refused, source.schema_id) {
            (None, Some(id)) => id,
            (refused, _) => return refuse(lane, again, refused.unwrap_or(Refusal::BadSchema)),
        };
        if source.schema.is_none() {
            // Another agent may have sent it since.
            source.schema = self.inner.registry.schema(schema_id);
        }
        let Some(schema) = &source.schema else {
            let later = std::mem::take(&mut source.schema_later);
            return Judged::End(if later { Ended::NewSchemas } else { Ended::NeedSchema(schema_id) });
        };
        let (lane_epoch, window) = (lane.epoch, flow.window);
        let unknown_boot = too_many_or(self.too_many.contains(&Numbered::Boot(boot)), Refusal::UnknownBoot);
        let boot = self.boots.get(&boot);
        let measured =
            boot.and_then(|boot| boot.anchors.lock().unwrap_or_else(PoisonError::into_inner).instant(boottime_ms));
        let measured = match (boot, measured) {
            (Some(boot), Some(measured)) => {
                self.inner.check_instant(measured.ms, now_ms).map(|()| (boot.number, measured))
            }
            _ => Err(unknown_boot),
        };
        let moment = measured.ok().filter(|_| again.is_none()).map(|(boot, measured)| Moment {
            record: RecordId { epoch: lane_epoch, sequence },
            instant_ms: measured.ms,
            arrival_ms: now_ms,
            uncertain: measured.uncertain,
            boot,
        });
        let chain = match lane.decode(&source.live, schema, (sequence, frame), moment, is_live) {
            Ok(chain) => chain,
            Err(Undecoded::Restart) => return Judged::End(Ended::Later),
            Err(Undecoded::Refused(refusal)) => return again.unwrap_or(refusal.into()),
        };
        if let Some(again) = again {
            chain.left_out();
            return again;
        }
        let (boot, measured) = match measured {
            Ok(measured) => measured,
            Err(refusal) => {
                chain.left_out();
                return refusal.into();
            }
        };
        let offset = self.prepared.body.len();
        let keyframe;
        let (base_sequence, body) = match chain.store(window, frame.base_sequence) {
            Some(base) => (base, &*frame.body),
            None => {
                // Its agent's lock is held, so nobody else moved the live view.
                let Some(made) = chain.keyframe(&source.live, lane_epoch) else { return Judged::End(Ended::Later) };
                keyframe = made;
                (0, &*keyframe)
            }
        };
        let entry = FrameEntry {
            agent: self.agent.id,
            epoch: lane_epoch,
            source: source.live.id,
            schema: schema.number,
            boot,
            sequence,
            base_sequence,
            instant_ms: measured.ms,
            uncertain: measured.uncertain,
            interval_ms: source.interval_ms,
            body,
        };
        batch::put_frame(&mut self.prepared.body, &entry);
        self.prepared.frames.push(QueuedFrame {
            source: Arc::clone(&source.live),
            session: 0,
            offset: offset as u32,
            length: (self.prepared.body.len() - offset) as u32,
            instant_ms: measured.ms,
            interval_ms: source.interval_ms,
        });
        let cadence_ms = schema.widest_cadence_ms;
        if source.interval_ms > source.live.widest_ms() || cadence_ms > source.live.widest_cadence_ms() {
            let Inner { queue, registry, .. } = &*self.inner;
            let (live, interval_ms) = (&source.live, source.interval_ms);
            queue.define(registry, |_, definitions| Registry::widen(live, interval_ms, cadence_ms, definitions));
        }
        if source.interval_ms != source.live.interval_ms() && source.live.last_instant_ms() == Some(measured.ms) {
            let Inner { queue, registry, .. } = &*self.inner;
            let (live, interval_ms) = (&source.live, source.interval_ms);
            queue.define(registry, |_, definitions| Registry::interval_set(live, interval_ms, definitions));
        }
        Judged::Fate(Fate::Frame)
    }

    /// Facts and events.
    fn judge_row(&mut self, boot: u32, boottime_ms: u64, crc: u32, body: Body, now_ms: UnixMs) -> Judged {
        let (number, encoded) = match &body {
            Body::Facts(facts) => (facts.source, prost::Message::encode_to_vec(facts)),
            Body::Event(event) => (event.source, prost::Message::encode_to_vec(event)),
            Body::Frame(_) => return Refusal::Undecodable.into(),
        };
        if crc32c::crc32c(&encoded) != crc {
            return Refusal::Checksum.into();
        }
        if encoded.len() > limits::FACTS_BYTES {
            return Refusal::TooLarge.into();
        }
        if matches!(&body, Body::Event(event) if !is_text(&event.name, limits::TEXT_BYTES)) {
            return Refusal::Undecodable.into();
        }
        let too_many = |number| self.too_many.contains(&number);
        let Some(source) = self.sources.get(&number) else {
            return too_many_or(too_many(Numbered::Source(number)), Refusal::UnknownSource).into();
        };
        let Some(boot) = self.boots.get(&boot) else {
            return too_many_or(too_many(Numbered::Boot(boot)), Refusal::UnknownBoot).into();
        };
        let measured = boot.anchors.lock().unwrap_or_else(PoisonError::into_inner).instant(boottime_ms);
        let Some(measured) = measured else { return Refusal::UnknownBoot.into() };
        if let Err(refusal) = self.inner.check_instant(measured.ms, now_ms) {
            return refusal.into();
        }
        let instant_ms = measured.ms;
        self.prepared.row_bytes += encoded.len();
        match body {
            Body::Facts(facts) => {
                let facts = Arc::new(Facts { values: facts.facts, instant_ms });
                self.prepared.rows.facts.push(FactsRow { source: Arc::clone(&source.live), facts });
            }
            Body::Event(event) => {
                let attributes = serde_json::to_string(&event.attributes).expect("texts are JSON");
                let row = EventRow { source: source.live.id, instant_ms, name: event.name, attributes };
                self.prepared.rows.events.push(row);
            }
            Body::Frame(_) => {}
        }
        Judged::Fate(Fate::Row)
    }

    fn ended(&self, lane: &Lane, why: Ended) -> v1::Answer {
        let answer = v1::Answer { lane: lane.number, ..Default::default() };
        match why {
            Ended::Later => {
                let retry_after_ms = retry_after_ms(self.agent.id.0);
                v1::Answer { verdict: Verdict::Later.into(), retry_after_ms, ..answer }
            }
            Ended::NewSchemas => {
                v1::Answer { verdict: Verdict::Later.into(), retry_after_ms: NEW_SCHEMAS_AFTER_MS, ..answer }
            }
            Ended::NeedSchema(id) => {
                v1::Answer { verdict: Verdict::NeedSchema.into(), schema_id: id.0.to_vec().into(), ..answer }
            }
        }
    }

    /// Answers lost ranges that no spool can have at once: there is nothing to settle. Each counts as one record,
    /// since what it claims to hold is nonsense.
    fn refuse_lost(&self, epoch: u64, ranges: Vec<(u64, u64)>, state: &mut AgentState, now_ms: UnixMs) {
        let refusal = Refusal::BadSequence;
        if let Some((first, last)) = ranges.first().filter(|_| state.is_log_due(refusal, now_ms)) {
            let reason = super::instruments::reason(refusal);
            tracing::warn!(agent = %self.agent.id, first, last, reason, "a lost range was refused");
        }
        self.inner.metrics.settled(Fate::Refused(refusal), ranges.len() as u64);
        let refused = v1::Answer { verdict: Verdict::Refused.into(), refusal: refusal.into(), ..Default::default() };
        let mut answers = Vec::with_capacity(ranges.len());
        answer(&mut answers, ranges, refused);
        // The stream may be gone; then nobody waits.
        let _ = self.answers.send(v1::Answers { epoch, answers });
    }

    /// Still under the agent's lock: what is marked as queued must be in the queue before another
    /// session of the agent can build on that.
    fn append(&mut self, flow: &RwLockReadGuard<'_, Flow>) {
        let Self { inner, seat, agent, answers, prepared, .. } = self;
        if !prepared.ranges.is_empty() {
            inner.queue.append(flow, seat, agent, answers, prepared);
        }
        PREPARED.set(std::mem::take(prepared));
    }
}

impl SinkSession for Session {
    fn define(&mut self, define: v1::Define) -> Result<(), Reason> {
        if !self.inner.queue.takes_definitions() {
            return Err(Reason::Unavailable);
        }
        let now_ms = self.inner.clock.now_ms();
        define.boots.into_iter().for_each(|boot| self.define_boot(boot, now_ms));
        define.sources.into_iter().for_each(|source| self.define_source(source, now_ms));
        define.schemas.into_iter().for_each(|schema| self.define_schema(schema, now_ms));
        Ok(())
    }

    fn anchor(&mut self, anchor: ControlAnchor) {
        let Inner { queue, registry, .. } = &*self.inner;
        let Some(boot) = &self.current_boot else { return };
        queue.define(registry, |_, definitions| boot.anchor(anchor, definitions));
    }

    fn records(&mut self, records: v1::Records) {
        let inner = Arc::clone(&self.inner);
        let flow = inner.queue.flow();
        let which = if records.live { &mut self.live } else { &mut self.backlog };
        let mut lane = std::mem::replace(which, Lane::new(0, 0, 0));
        if lane.number != records.lane || lane.epoch != records.epoch {
            lane = Lane::new(records.lane, records.epoch, flow.generation);
        }
        lane.spoke();
        if lane.ended.is_none() && (lane.generation != flow.generation || inner.queue.is_over_limit()) {
            lane.end(Ended::Later);
        }
        let (is_live, agent) = (records.live, Arc::clone(&self.agent));
        let mut state = agent.lock();
        self.take(records, &mut lane, &mut state, *flow);
        self.append(&flow);
        drop(state);
        if is_live {
            self.live = lane;
            self.backlog.grow_quiet();
        } else {
            self.backlog = lane;
        }
    }

    fn lost(&mut self, lost: v1::LostRanges) {
        let (inner, agent) = (Arc::clone(&self.inner), Arc::clone(&self.agent));
        let flow = inner.queue.flow();
        let arrival_ms = inner.clock.now_ms();
        let mut state = agent.lock();
        let (session, lane, epoch) = (0, 0, lost.epoch);
        let too_many = state.epochs.len() >= EPOCHS && !state.epochs.contains_key(&epoch);
        let mut impossible = Vec::new();
        for range in lost.ranges.iter().take(limits::RANGES) {
            if too_many || range.first == 0 || range.first > range.last || range.last > LOST_LAST {
                impossible.push((range.first, range.last));
                continue;
            }
            let AgentState { epochs, absent, .. } = &mut *state;
            let known = epochs.entry(epoch).or_default();
            if known.is_scattered(range.first) {
                impossible.push((range.first, range.last));
                continue;
            }
            let unsettled: Vec<_> = known.settled.gaps(range.first, range.last).collect();
            let new =
                unsettled.into_iter().flat_map(|(first, last)| known.queued.gaps(first, last).collect::<Vec<_>>());
            for (first, last) in new.collect::<Vec<_>>() {
                known.queued.insert(first, last);
                self.prepared.ranges.push(QueuedRange { session, lane, epoch, first, last, fate: Fate::Lost });
                let (agent, reason) = (agent.id, range.reason);
                let (from_ms, to_ms) = (None, None);
                absent.never(
                    LossRow { agent, epoch, first, last, reason, arrival_ms, from_ms, to_ms },
                    &mut self.prepared.rows.losses,
                );
            }
            // Whatever was known before is answered as well: the agent waits for the whole range.
            let (first, last, fate) = (range.first, range.last, Fate::Again);
            self.prepared.ranges.push(QueuedRange { session, lane, epoch, first, last, fate });
        }
        if !impossible.is_empty() {
            self.refuse_lost(epoch, impossible, &mut state, arrival_ms);
        }
        self.append(&flow);
    }
}

fn too_many_or(too_many: bool, refusal: Refusal) -> Refusal {
    if too_many { Refusal::TooMany } else { refusal }
}

/// A text that every database takes.
fn is_text(text: &str, most: usize) -> bool {
    text.len() <= most && !text.contains('\0')
}

/// Appends to the last range where possible.
fn push(ranges: &mut Vec<QueuedRange>, lane: &Lane, sequence: u64, fate: Fate) {
    match ranges.last_mut() {
        Some(range) if range.fate == fate && sequence.checked_sub(range.last) == Some(1) => range.last = sequence,
        _ => {
            let (first, last) = (sequence, sequence);
            ranges.push(QueuedRange { session: 0, lane: lane.number, epoch: lane.epoch, first, last, fate });
        }
    }
}

fn extend(ranges: &mut Vec<(u64, u64)>, sequence: u64) {
    match ranges.last_mut() {
        Some(range) if sequence.checked_sub(range.1) == Some(1) => range.1 = sequence,
        _ => ranges.push((sequence, sequence)),
    }
}

fn count(ranges: &[(u64, u64)]) -> u64 {
    ranges.iter().map(|(first, last)| last - first + 1).sum()
}

/// The same answer for each range.
fn answer(answers: &mut Vec<v1::Answer>, ranges: Vec<(u64, u64)>, answer: v1::Answer) {
    answers.extend(ranges.into_iter().map(|(first, last)| v1::Answer { first, last, ..answer.clone() }));
}

/// Spread, so that not all come at once.
pub(super) fn retry_after_ms(agent: i64) -> u32 {
    RETRY_MS + (agent.unsigned_abs() * 7_919 % u64::from(RETRY_MS)) as u32
}

impl Inner {
    fn check_instant(&self, instant_ms: UnixMs, now_ms: UnixMs) -> Result<(), Refusal> {
        if instant::is_future(instant_ms, now_ms) {
            Err(Refusal::Future)
        } else if instant_ms < self.taken_ms(now_ms) {
            Err(Refusal::TooOld)
        } else {
            Ok(())
        }
    }
}
