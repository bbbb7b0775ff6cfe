//! The rules of a session, without its connection: what is sent next, what an answer means.
//!
//! Two lanes. The live one begins with the newest frames and takes everything made after them; the
//! backlog follows oldest first, with a bounded number of records unanswered. A lane that control
//! answers *later* or *need schema* is started anew, and what is in that answer is sent again.
//! Only records sent in this conversation are settled by its answers. Pure but for the queue;
//! the time is an argument.

use crate::queue::{Queue, QueueError, Queued, Settled, Source};
use prost::Message;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tongtu_protocol::{limits, schema::SchemaId, v1};

/// Bodies in one message: more are sent in the next.
const MESSAGE_BODIES: usize = 128 << 10;
/// Records of the backlog in one message.
const BACKLOG_RECORDS: usize = 64;
/// A record that stays unanswered for so long ends the session.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause before a schema that control asks for again.
const AGAIN: Duration = Duration::from_secs(5);
/// The shortest pause after *later*: a lane that begins anew is not free.
const SHORTEST_LATER: Duration = Duration::from_millis(50);
/// The longest pause that control may ask for with *later*.
const LONGEST_LATER: Duration = Duration::from_secs(300);

/// Why a conversation cannot go on.
#[derive(Debug, Error)]
pub(crate) enum ConversationError {
    #[error("control has not answered for {} s", ANSWER_TIMEOUT.as_secs())]
    Unanswered,
    #[error("this stream has used up its numbers")]
    Numbers,
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// A record that is sent and not answered.
struct Flight {
    epoch: u64,
    sequence: u64,
    live: bool,
    sent: Instant,
}

struct Lane<C> {
    /// 0: not begun.
    number: u32,
    /// `None`: to be placed.
    cursor: Option<C>,
    /// Nothing more for it until the queue changes or what it passed is to be sent again.
    idle: bool,
    paused_until: Option<Instant>,
    epoch: u64,
    /// The last frame of each source in this lane.
    chain: Vec<(u32, u64)>,
}

impl<C> Lane<C> {
    fn new() -> Self {
        Self { number: 0, cursor: None, idle: false, paused_until: None, epoch: 0, chain: Vec::new() }
    }

    fn restart(&mut self, paused_until: Option<Instant>) {
        (self.number, self.cursor, self.idle) = (0, None, false);
        self.paused_until = self.paused_until.max(paused_until);
        self.chain.clear();
    }
}

pub(crate) struct Conversation<C> {
    live: Lane<C>,
    backlog: Lane<C>,
    /// The number after the last that the live lane read: the backlog ends before it.
    live_next: u64,
    lanes: u32,
    backlog_in_flight: usize,
    in_flight: VecDeque<Flight>,
    outbox: VecDeque<v1::ToControl>,
    boots: Vec<Arc<str>>,
    sources: Vec<Arc<Source>>,
    schemas_sent: HashMap<SchemaId, Instant>,
    /// Reported lost and not answered, by epoch.
    lost_sent: HashMap<u64, Vec<(u64, u64)>>,
    lost_paused_until: Option<Instant>,
    refusals_logged: HashSet<i32>,
    accepted: u64,
}

pub(crate) fn message(message: v1::to_control::Message) -> v1::ToControl {
    v1::ToControl { message: Some(message) }
}

impl<C> Conversation<C> {
    pub(crate) fn new(backlog_in_flight: u32) -> Self {
        Self {
            live: Lane::new(),
            backlog: Lane::new(),
            live_next: 0,
            lanes: 0,
            backlog_in_flight: backlog_in_flight.max(1) as usize,
            in_flight: VecDeque::new(),
            outbox: VecDeque::new(),
            boots: Vec::new(),
            sources: Vec::new(),
            schemas_sent: HashMap::new(),
            lost_sent: HashMap::new(),
            lost_paused_until: None,
            refusals_logged: HashSet::new(),
            accepted: 0,
        }
    }

    /// Records accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// A ping is answered before anything else.
    pub(crate) fn pong(&mut self, ping: &v1::Ping, clock: v1::Clock) {
        let pong = v1::Pong { nonce: ping.nonce, clock: Some(clock) };
        self.outbox.push_front(message(v1::to_control::Message::Pong(pong)));
    }

    /// The queue may have more.
    pub(crate) fn queue_changed(&mut self) {
        self.live.idle = false;
    }

    /// When to look again though nothing happens; `blocked`: a message waits to be sent.
    pub(crate) fn wake_at(&self, blocked: bool) -> Option<Instant> {
        let answer = self.in_flight.front().map(|flight| flight.sent + ANSWER_TIMEOUT);
        let pauses = [self.live.paused_until, self.backlog.paused_until, self.lost_paused_until];
        pauses.into_iter().flatten().filter(|_| !blocked).chain(answer).min()
    }

    /// Whether control still answers.
    pub(crate) fn check(&self, now: Instant) -> Result<(), ConversationError> {
        match self.in_flight.front() {
            Some(flight) if now >= flight.sent + ANSWER_TIMEOUT => Err(ConversationError::Unanswered),
            _ => Ok(()),
        }
    }

    /// The next message to send now.
    pub(crate) fn next<Q: Queue<Cursor = C>>(
        &mut self,
        queue: &mut Q,
        now: Instant,
    ) -> Result<Option<v1::ToControl>, ConversationError> {
        if let Some(message) = self.outbox.pop_front() {
            return Ok(Some(message));
        }
        if let Some(lost) = self.next_lost(queue, now) {
            return Ok(Some(lost));
        }
        for live in [true, false] {
            let records = self.next_records(queue, live, now)?;
            if let Some(records) = records {
                self.outbox.push_back(message(v1::to_control::Message::Records(records)));
                return Ok(self.outbox.pop_front());
            }
        }
        Ok(None)
    }

    fn next_lost<Q: Queue<Cursor = C>>(&mut self, queue: &Q, now: Instant) -> Option<v1::ToControl> {
        if self.lost_paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.lost_paused_until = None;
        for mut lost in queue.lost() {
            let sent = self.lost_sent.entry(lost.epoch).or_default();
            lost.ranges.retain(|range| !sent.contains(&(range.first, range.last)));
            lost.ranges.truncate(limits::RANGES);
            if !lost.ranges.is_empty() {
                sent.extend(lost.ranges.iter().map(|range| (range.first, range.last)));
                return Some(message(v1::to_control::Message::Lost(lost)));
            }
        }
        None
    }

    fn next_records<Q: Queue<Cursor = C>>(
        &mut self,
        queue: &mut Q,
        live: bool,
        now: Instant,
    ) -> Result<Option<v1::Records>, ConversationError> {
        let lane = if live { &mut self.live } else { &mut self.backlog };
        if lane.paused_until.is_some_and(|until| now < until) {
            return Ok(None);
        }
        lane.paused_until = None;
        if lane.idle {
            return Ok(None);
        }
        let room = if live {
            limits::RECORDS
        } else {
            let waiting = self.in_flight.iter().filter(|flight| !flight.live).count();
            let free = self.backlog_in_flight.saturating_sub(waiting);
            // A message costs both sides more than what is in it: not one for each answer.
            if free * 2 < self.backlog_in_flight { 0 } else { free.min(BACKLOG_RECORDS) }
        };
        if room == 0 {
            return Ok(None);
        }
        let mut cursor = match lane.cursor.take() {
            Some(cursor) => cursor,
            None if live => {
                // What lies before the newest frames is the backlog's.
                self.backlog.idle = false;
                let (newest, next) = queue.newest()?;
                self.live_next = next;
                newest
            }
            None => queue.oldest()?,
        };
        let until = if live { u64::MAX } else { self.live_next };
        let mut records = v1::Records { live, ..v1::Records::default() };
        let mut bytes = 0;
        let mut define = v1::Define::default();
        let mut idle = false;
        while records.records.len() < room && bytes < MESSAGE_BODIES {
            let Some(mut queued) = queue.next(&mut cursor, until)? else {
                idle = true;
                break;
            };
            let (epoch, sequence) = (queued.epoch, queued.record.sequence);
            if live {
                self.live_next = self.live_next.max(sequence + 1);
            }
            if self.in_flight.iter().any(|flight| flight.sequence == sequence && flight.epoch == epoch) {
                continue;
            }
            let lane = if live { &mut self.live } else { &mut self.backlog };
            if lane.number == 0 || lane.epoch != epoch {
                if !records.records.is_empty() {
                    // The next message's lane. The record is passed over once and found again.
                    lane.restart(None);
                    break;
                }
                self.lanes += 1;
                (lane.number, lane.epoch) = (self.lanes, epoch);
                lane.chain.clear();
            }
            (records.lane, records.epoch) = (lane.number, epoch);
            self.number(queue, &mut queued, &mut define, now)?;
            let lane = if live { &mut self.live } else { &mut self.backlog };
            bytes += finish(queue, &mut cursor, &mut lane.chain, &mut queued.record)?;
            records.records.push(queued.record);
            self.in_flight.push_back(Flight { epoch, sequence, live, sent: now });
        }
        let lane = if live { &mut self.live } else { &mut self.backlog };
        if idle || lane.number != 0 {
            lane.idle = idle;
            // A backlog that is done holds no place and no state.
            lane.cursor = (live || !idle).then_some(cursor);
        }
        if !define.boots.is_empty() || !define.sources.is_empty() {
            self.outbox.push_back(message(v1::to_control::Message::Define(define)));
        }
        Ok((!records.records.is_empty()).then_some(records))
    }

    /// Gives boot and source of a record their numbers in this stream.
    fn number<Q: Queue<Cursor = C>>(
        &mut self,
        queue: &mut Q,
        queued: &mut Queued,
        define: &mut v1::Define,
        now: Instant,
    ) -> Result<(), ConversationError> {
        let boot = match self.boots.iter().position(|boot| *boot == queued.boot_id) {
            Some(at) => at,
            None if self.boots.len() >= limits::BOOTS => return Err(ConversationError::Numbers),
            None => {
                self.boots.push(Arc::clone(&queued.boot_id));
                let mut anchors = queue.anchors(&queued.boot_id);
                anchors.drain(..anchors.len().saturating_sub(limits::ANCHORS));
                let number = self.boots.len() as u32;
                define.boots.push(v1::Boot { number, boot_id: queued.boot_id.to_string(), anchors });
                self.boots.len() - 1
            }
        };
        queued.record.boot = boot as u32 + 1;
        // By address first: an agent may have hundreds of sources.
        let known = self.sources.iter().position(|source| Arc::ptr_eq(source, &queued.source));
        let known = known.or_else(|| self.sources.iter().position(|source| **source == *queued.source));
        let source = match known {
            Some(at) => at,
            None if self.sources.len() >= limits::SOURCES => return Err(ConversationError::Numbers),
            None => {
                let source = &queued.source;
                // A source whose schema changes while the stream is up: control has not seen the new one.
                let changed = self.sources.iter().any(|known| known.kind == source.kind && known.key == source.key);
                if changed && !self.schemas_sent.contains_key(&source.schema) {
                    self.schemas_sent.insert(source.schema, now);
                    define.schemas.extend(queue.schema(source.schema)?);
                }
                self.sources.push(Arc::clone(source));
                define.sources.push(v1::Source {
                    number: self.sources.len() as u32,
                    kind: source.kind.clone(),
                    key: source.key.clone(),
                    schema_id: source.schema.0.to_vec().into(),
                    interval_ms: source.interval_ms,
                });
                self.sources.len() - 1
            }
        };
        let number = source as u32 + 1;
        match &mut queued.record.body {
            Some(v1::record::Body::Frame(frame)) => frame.source = number,
            Some(v1::record::Body::Facts(facts)) => facts.source = number,
            Some(v1::record::Body::Event(event)) => event.source = number,
            None => {}
        }
        Ok(())
    }

    /// What control says of records.
    pub(crate) fn answers<Q: Queue<Cursor = C>>(
        &mut self,
        queue: &mut Q,
        answers: v1::Answers,
        now: Instant,
    ) -> Result<(), ConversationError> {
        for answer in &answers.answers {
            match answer.verdict() {
                v1::Verdict::Accepted => self.settle(queue, answers.epoch, answer, Settled::Accepted),
                v1::Verdict::Refused => {
                    let refusal = answer.refusal();
                    if self.refusals_logged.insert(refusal as i32) {
                        let (first, last) = (answer.first, answer.last);
                        tracing::warn!(first, last, reason = refusal.as_str_name(), "control refuses records");
                    }
                    self.settle(queue, answers.epoch, answer, Settled::Refused(refusal));
                }
                v1::Verdict::Later => {
                    let pause =
                        Duration::from_millis(answer.retry_after_ms.into()).clamp(SHORTEST_LATER, LONGEST_LATER);
                    self.again(answers.epoch, answer, Some(now + pause));
                    self.report_again(answers.epoch, answer, now + pause);
                }
                v1::Verdict::NeedSchema => self.need_schema(queue, answers.epoch, answer, now)?,
                v1::Verdict::Unspecified => {}
            }
        }
        Ok(())
    }

    fn settle<Q: Queue<Cursor = C>>(&mut self, queue: &mut Q, epoch: u64, answer: &v1::Answer, settled: Settled) {
        let of = |epoch_of, sequence: u64| epoch_of == epoch && (answer.first..=answer.last).contains(&sequence);
        let mut run: Option<(u64, u64)> = None;
        let mut settle = |run: (u64, u64)| queue.settle(epoch, run.0, run.1, settled);
        let mut count = 0;
        self.in_flight.retain(|flight| {
            let answered = of(flight.epoch, flight.sequence);
            if answered {
                count += 1;
                match &mut run {
                    Some((_, last)) if *last + 1 == flight.sequence => *last += 1,
                    _ => {
                        if let Some(done) = run.replace((flight.sequence, flight.sequence)) {
                            settle(done);
                        }
                    }
                }
            }
            !answered
        });
        if let Some(done) = run {
            settle(done);
        }
        if settled == Settled::Accepted {
            self.accepted += count;
        }
        if let Some(lost) = self.lost_sent.get_mut(&epoch) {
            for (first, last) in lost.iter() {
                let (first, last) = (*first.max(&answer.first), *last.min(&answer.last));
                if first <= last {
                    settle((first, last));
                }
            }
            // Kept until answered whole: a range that was answered in part is not sent again as it was.
            lost.retain(|(first, last)| *first < answer.first || *last > answer.last);
        }
    }

    /// Takes records back and starts their lane anew.
    fn again(&mut self, epoch: u64, answer: &v1::Answer, paused_until: Option<Instant>) {
        let before = self.in_flight.len();
        let range = answer.first..=answer.last;
        self.in_flight.retain(|flight| flight.epoch != epoch || !range.contains(&flight.sequence));
        if answer.lane != 0 && answer.lane == self.live.number {
            self.live.restart(paused_until);
            // Control that cannot take what is new cannot take what is old.
            self.backlog.paused_until = self.backlog.paused_until.max(paused_until);
        }
        // What is taken back, from whatever lane, lies behind the backlog's place.
        if self.in_flight.len() != before || answer.lane == self.backlog.number {
            let own = answer.lane == self.backlog.number;
            self.backlog.restart(paused_until.filter(|_| own));
        }
    }

    /// Lost ranges that control could not note.
    fn report_again(&mut self, epoch: u64, answer: &v1::Answer, paused_until: Instant) {
        let Some(sent) = self.lost_sent.get_mut(&epoch) else { return };
        let before = sent.len();
        sent.retain(|(first, last)| *last < answer.first || *first > answer.last);
        if sent.len() != before {
            self.lost_paused_until = Some(paused_until);
        }
    }

    fn need_schema<Q: Queue<Cursor = C>>(
        &mut self,
        queue: &mut Q,
        epoch: u64,
        answer: &v1::Answer,
        now: Instant,
    ) -> Result<(), ConversationError> {
        let Some(id) = SchemaId::from_bytes(&answer.schema_id) else {
            self.again(epoch, answer, Some(now + AGAIN));
            return Ok(());
        };
        let asked = |flight: &&Flight| flight.epoch == epoch && (answer.first..=answer.last).contains(&flight.sequence);
        let asked = self.in_flight.iter().find(asked).map(|flight| flight.sent);
        // The records were on their way before the schema was, or are not any more.
        if asked.is_none_or(|asked| self.schemas_sent.get(&id).is_some_and(|sent| *sent > asked)) {
            self.again(epoch, answer, None);
            return Ok(());
        }
        let Some(schema) = queue.schema(id)? else {
            tracing::error!("the spool has lost a schema; its records are dropped");
            self.settle(queue, epoch, answer, Settled::Refused(v1::Refusal::BadSchema));
            return Ok(());
        };
        // Asked for again: something is wrong, and must not be so at the speed of the network.
        let pause = self.schemas_sent.insert(id, now).map(|_| now + AGAIN);
        let define = v1::Define { schemas: vec![schema], ..v1::Define::default() };
        self.outbox.push_back(message(v1::to_control::Message::Define(define)));
        self.again(epoch, answer, pause);
        Ok(())
    }
}

/// Completes a record for its lane: a frame continues it or is a keyframe; the checksum is that of
/// the body as sent. Returns the body's size.
fn finish<Q: Queue>(
    queue: &mut Q,
    cursor: &mut Q::Cursor,
    chain: &mut Vec<(u32, u64)>,
    record: &mut v1::Record,
) -> Result<usize, QueueError> {
    let frame = match &mut record.body {
        Some(v1::record::Body::Frame(frame)) => frame,
        Some(v1::record::Body::Facts(facts)) => {
            let encoded = facts.encode_to_vec();
            record.crc32c = crc32c::crc32c(&encoded);
            return Ok(encoded.len());
        }
        Some(v1::record::Body::Event(event)) => {
            let encoded = event.encode_to_vec();
            record.crc32c = crc32c::crc32c(&encoded);
            return Ok(encoded.len());
        }
        None => return Ok(0),
    };
    let last = chain.iter_mut().find(|(source, _)| *source == frame.source);
    let continues = last.as_ref().is_some_and(|(_, last)| *last == frame.base_sequence);
    if frame.base_sequence != 0 && !continues {
        frame.body = queue.keyframe(cursor)?;
        frame.base_sequence = 0;
        record.crc32c = crc32c::crc32c(&frame.body);
    }
    match last {
        Some((_, last)) => *last = record.sequence,
        None => chain.push((frame.source, record.sequence)),
    }
    Ok(frame.body.len() + 32)
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
