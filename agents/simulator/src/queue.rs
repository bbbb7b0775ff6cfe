//! An agent's queue in memory: makes the frames of its sources when they are due and keeps them until control has
//! settled them.
//!
//! What must hold: a frame is made once, counted once when it is settled, and can be sent again as
//! often as it takes. Deliberately absent: a bound. A simulated outage lasts as long as the run.

use crate::figures::Figures;
use crate::host::Host;
use crate::log::AcknowledgementLog;
use crate::recording::Playback;
use crate::scenario::Pacing;
use crate::script::{Happening, Script, What};
use crate::time::Time;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tongtu_agent_runtime::clock;
use tongtu_agent_runtime::queue::{Queue, QueueError, Queued, Settled, Source, Span};
use tongtu_protocol::{codec::State, schema::SchemaId, v1};

/// Where an agent's values come from.
#[derive(Debug)]
pub(crate) enum Values {
    Host(Box<Host>),
    Playback(Box<Playback>),
}

impl Values {
    fn state(&self) -> &State {
        match self {
            Self::Host(host) => host.state(),
            Self::Playback(playback) => playback.state(),
        }
    }

    fn advance(&mut self, seconds: f64, wall_ms: i64, sequence: u64) {
        match self {
            Self::Host(host) => host.advance(seconds, wall_ms, sequence),
            Self::Playback(playback) => playback.advance(),
        }
    }

    fn schema(&self) -> Option<v1::Schema> {
        match self {
            Self::Host(host) => Some(host.plan().schema.clone()),
            Self::Playback(playback) => playback.recording().schema.clone(),
        }
    }
}

/// A machine's present boot and clock, which the queue changes and the session's hello reads.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) id: Arc<str>,
    /// True time at which it booted.
    pub(crate) at_ms: i64,
}

impl Boot {
    /// The boot time of an instant.
    pub(crate) fn boottime_ms(&self, at_ms: i64) -> u64 {
        u64::try_from(at_ms - self.at_ms).unwrap_or(0)
    }
}

/// What all queues of a fleet share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) figures: Figures,
    pub(crate) log: Option<AcknowledgementLog>,
    pub(crate) time: Time,
    pub(crate) pacing: Pacing,
    pub(crate) interval_ms: i64,
    /// No frame is made from here on.
    pub(crate) end_ms: AtomicI64,
}

/// What an agent reports as one thing.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) kind: &'static str,
    pub(crate) key: String,
    pub(crate) values: Values,
    pub(crate) facts: BTreeMap<String, String>,
}

/// A unit at work.
#[derive(Debug)]
struct Reported {
    values: Values,
    source: Arc<Source>,
    /// The state before the oldest of its frames that are pending.
    base: State,
    /// Number of its last frame; 0: none in this epoch, so the next is a keyframe.
    last_frame: u64,
    facts: BTreeMap<String, String>,
    facts_due: bool,
}

impl Reported {
    fn new(unit: Unit, interval_ms: u32) -> Self {
        let schema = unit.values.schema().and_then(|schema| SchemaId::from_bytes(&schema.id));
        let columns = unit.values.state().columns();
        let source = Source {
            kind: unit.kind.to_owned(),
            key: unit.key,
            schema: schema.unwrap_or(SchemaId([0; 16])),
            columns,
            interval_ms,
        };
        Self {
            values: unit.values,
            source: Arc::new(source),
            base: State::zero(columns),
            last_frame: 0,
            facts: unit.facts,
            facts_due: true,
        }
    }
}

/// A record that is not settled, or lies behind one that is not.
#[derive(Debug)]
struct Pending {
    /// Of which unit.
    unit: u32,
    boot: u16,
    boottime_ms: u64,
    content: Content,
    settled: bool,
    handed: Option<Instant>,
}

/// Whether frames are held back: after a restored snapshot none is made before control has said, in a
/// new session, how to number it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    No,
    UntilReconnected,
    UntilWelcomed,
}

/// What a record holds.
#[derive(Debug)]
enum Content {
    /// A delta to its unit's frame `back` records before; `back` is 0 for a keyframe.
    Frame { back: u64, body: Bytes, crc32c: u32, samples: u32 },
    /// The unit's inventory.
    Facts,
}

/// One agent's queue.
#[derive(Debug)]
pub(crate) struct FrameQueue {
    shared: Arc<Shared>,
    units: Vec<Reported>,
    boots: Vec<Boot>,
    /// How far the machine's wall clock is from true time.
    pub(crate) step_ms: Arc<AtomicI64>,
    happenings: VecDeque<Happening>,
    epoch: u64,
    /// Of the oldest in `pending`.
    first: u64,
    pending: VecDeque<Pending>,
    unsettled: usize,
    /// Number of the first frame that was made at the last instant.
    newest: u64,
    /// True time of the next frame.
    due_ms: i64,
    made_ms: i64,
    held: Held,
    reported: bool,
    agent: Arc<str>,
    /// Told when everything made is settled and nothing more will be made.
    done: Arc<Notify>,
    scratch: Vec<u8>,
}

/// How a queue begins.
pub(crate) struct Beginning {
    pub(crate) units: Vec<Unit>,
    pub(crate) agent: String,
    pub(crate) epoch: u64,
    pub(crate) boot: Boot,
    pub(crate) script: Script,
    /// True time of the first frame.
    pub(crate) first_ms: i64,
    pub(crate) done: Arc<Notify>,
}

impl FrameQueue {
    pub(crate) fn new(shared: Arc<Shared>, begin: Beginning) -> Self {
        let interval_ms = shared.interval_ms as u32;
        Self {
            units: begin.units.into_iter().map(|unit| Reported::new(unit, interval_ms)).collect(),
            boots: vec![begin.boot],
            step_ms: Arc::default(),
            happenings: begin.script.happenings.into(),
            epoch: begin.epoch,
            first: 1,
            pending: VecDeque::new(),
            unsettled: 0,
            newest: 0,
            due_ms: begin.first_ms,
            made_ms: begin.first_ms - shared.interval_ms,
            held: Held::No,
            reported: false,
            agent: begin.agent.into(),
            done: begin.done,
            scratch: Vec::new(),
            shared,
        }
    }

    /// The boot that the machine runs in.
    pub(crate) fn boot(&self) -> &Boot {
        self.boots.last().unwrap_or(&self.boots[0])
    }

    /// Makes what is due, in order of time, whether there is a connection or not.
    pub(crate) fn make_due(&mut self) -> bool {
        if self.held != Held::No {
            return false;
        }
        let end_ms = self.end_ms();
        let now_ms = self.shared.time.now_ms().min(end_ms - 1);
        let mut made = false;
        while self.due_ms <= now_ms {
            if self.shared.pacing == Pacing::Saturated && (self.unsettled > 0 || self.is_closed()) {
                break;
            }
            if self.happens(self.due_ms) {
                if self.held != Held::No {
                    return made;
                }
                continue;
            }
            self.make();
            made = true;
        }
        if self.is_done() {
            self.done.notify_one();
        }
        made
    }

    /// Before a session is opened: everything up to now has happened.
    pub(crate) fn connecting(&mut self) {
        self.make_due();
        self.happens(self.shared.time.now_ms());
        if self.held == Held::UntilReconnected {
            self.held = Held::UntilWelcomed;
        }
    }

    /// How long until the next frame is due.
    fn wait(&self) -> Option<Duration> {
        if self.held != Held::No {
            return None;
        }
        if self.shared.pacing == Pacing::Saturated && self.unsettled > 0 {
            return None;
        }
        if self.is_closed() {
            return None;
        }
        let wait_ms = self.due_ms - self.shared.time.now_ms();
        Some(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)))
    }

    /// Everything made is settled and nothing more will be made.
    pub(crate) fn is_done(&self) -> bool {
        self.unsettled == 0 && self.is_closed()
    }

    /// No more frames are made. A saturated agent's frames are of the past, so the run may end before it has
    /// caught up.
    fn is_closed(&self) -> bool {
        let past_end = || self.shared.time.now_ms() >= self.shared.end_ms.load(Relaxed);
        self.due_ms >= self.end_ms() || (self.shared.pacing == Pacing::Saturated && past_end())
    }

    /// No frame is of an instant from here on: agents with a history are done when they have caught up.
    fn end_ms(&self) -> i64 {
        let end_ms = self.shared.end_ms.load(Relaxed);
        match self.shared.pacing {
            Pacing::Saturated | Pacing::Backlog => end_ms.min(self.shared.time.start_ms()),
            Pacing::Paced => end_ms,
        }
    }

    /// Applies what happens up to an instant; true if the frame of that instant changed its time.
    fn happens(&mut self, at_ms: i64) -> bool {
        while let Some(happening) = self.happenings.front().copied() {
            if happening.at_ms > at_ms {
                return false;
            }
            if happening.what == What::Restored && self.unsettled > 0 {
                // A copy of a queue with unsent records would lose them; wait until there are none.
                return false;
            }
            self.happenings.pop_front();
            match happening.what {
                What::Down { until_ms } => {
                    let boot = Boot { id: boot_id(&self.agent, self.boots.len() as u64), at_ms: until_ms };
                    self.boots.push(boot);
                    for unit in &mut self.units {
                        if let Values::Host(host) = &mut unit.values {
                            host.reboot(until_ms);
                        }
                    }
                    while self.due_ms < until_ms {
                        self.due_ms += self.shared.interval_ms;
                    }
                    self.made_ms = until_ms;
                    let boot_id = self.boot().id.to_string();
                    if let Some(unit) = self.units.first_mut() {
                        unit.facts.insert("boot_id".to_owned(), boot_id);
                        unit.facts_due = true;
                    }
                    return true;
                }
                What::CounterReset => {
                    for unit in &mut self.units {
                        if let Values::Host(host) = &mut unit.values {
                            host.reset_interfaces();
                        }
                    }
                }
                What::ClockStep { by_ms } => {
                    self.step_ms.fetch_add(by_ms, Relaxed);
                }
                What::Restored => {
                    self.begin_at_one();
                    self.units.iter_mut().for_each(|unit| unit.facts_due = true);
                    self.held = Held::UntilReconnected;
                    return true;
                }
            }
        }
        false
    }

    /// A frame of each unit.
    fn make(&mut self) {
        let at_ms = self.due_ms;
        for number in 0..self.units.len() {
            if std::mem::take(&mut self.units[number].facts_due) {
                self.push(number, at_ms, Content::Facts);
            }
        }
        self.newest = self.next_sequence();
        let wall_ms = at_ms + self.step_ms.load(Relaxed);
        let seconds = (at_ms - self.made_ms) as f64 / 1_000.0;
        for number in 0..self.units.len() {
            let (sequence, first) = (self.next_sequence(), self.first);
            self.scratch.clear();
            let unit = &mut self.units[number];
            // The state before this frame is needed once, to encode the delta.
            let before = (unit.last_frame >= first).then(|| unit.values.state().clone());
            unit.values.advance(seconds, wall_ms, sequence);
            let state = unit.values.state();
            state.encode(before.as_ref().unwrap_or(&unit.base), &mut self.scratch);
            let body = Bytes::copy_from_slice(&self.scratch);
            let samples = state.present() as u32;
            let back = if unit.last_frame == 0 { 0 } else { sequence - unit.last_frame };
            unit.last_frame = sequence;
            self.shared.figures.made(body.len());
            let crc32c = crc32c::crc32c(&body);
            self.push(number, at_ms, Content::Frame { back, body, crc32c, samples });
        }
        self.made_ms = at_ms;
        self.due_ms += self.shared.interval_ms;
    }

    fn push(&mut self, unit: usize, at_ms: i64, content: Content) {
        self.pending.push_back(Pending {
            unit: unit as u32,
            boot: (self.boots.len() - 1) as u16,
            boottime_ms: self.boot().boottime_ms(at_ms),
            content,
            settled: false,
            handed: None,
        });
        self.unsettled += 1;
    }

    /// Numbers from 1 on; the first frame of each unit is then a keyframe.
    fn begin_at_one(&mut self) {
        let before = self.first - 1;
        self.newest = self.newest.saturating_sub(before);
        self.first = 1;
        for (number, unit) in (0u32..).zip(&mut self.units) {
            let zero = State::zero(unit.base.columns());
            let mut state = std::mem::replace(&mut unit.base, zero);
            unit.last_frame = unit.last_frame.saturating_sub(before);
            let mut frames = self.pending.iter_mut().filter(|pending| pending.unit == number);
            let first = frames.find_map(|pending| match &mut pending.content {
                Content::Frame { back, body, crc32c, .. } => Some((back, body, crc32c)),
                Content::Facts => None,
            });
            let Some((back, body, crc32c)) = first else {
                unit.last_frame = 0;
                continue;
            };
            let applied = state.apply(body);
            debug_assert!(applied.is_ok(), "a body that was encoded here");
            let mut keyframe = Vec::new();
            state.encode_keyframe(&mut keyframe);
            (*back, *crc32c, *body) = (0, crc32c::crc32c(&keyframe), keyframe.into());
        }
    }

    fn next_sequence(&self) -> u64 {
        self.first + self.pending.len() as u64
    }

    /// Forgets the settled records at the front.
    fn forget(&mut self) {
        if self.unsettled == 0 && !self.pending.is_empty() {
            self.first = self.next_sequence();
            self.pending.clear();
            for unit in self.units.iter_mut().filter(|unit| unit.last_frame > 0) {
                unit.base.copy_from(unit.values.state());
            }
            return;
        }
        while self.pending.front().is_some_and(|pending| pending.settled) {
            if let Some(pending) = self.pending.pop_front() {
                if let Content::Frame { body, .. } = &pending.content {
                    let applied = self.units[pending.unit as usize].base.apply(body);
                    debug_assert!(applied.is_ok(), "a body that was encoded here");
                }
                self.first += 1;
            }
        }
    }
}

impl Queue for FrameQueue {
    /// The number that comes next.
    type Cursor = u64;

    fn span(&self) -> Span {
        let next = self.next_sequence();
        Span { epoch: self.epoch, first: self.first, next, own_from: next }
    }

    fn oldest(&mut self) -> Result<u64, QueueError> {
        Ok(self.first)
    }

    fn newest(&mut self) -> Result<(u64, u64), QueueError> {
        Ok((self.newest.max(self.first), self.next_sequence()))
    }

    fn next(&mut self, cursor: &mut u64, until: u64) -> Result<Option<Queued>, QueueError> {
        loop {
            let sequence = (*cursor).max(self.first);
            if sequence >= until || sequence >= self.next_sequence() {
                return Ok(None);
            }
            *cursor = sequence + 1;
            let index = (sequence - self.first) as usize;
            let Some(pending) = self.pending.get_mut(index) else { return Ok(None) };
            if pending.settled {
                continue;
            }
            pending.handed = Some(clock::monotonic());
            let unit = &self.units[pending.unit as usize];
            let (body, crc32c) = match &pending.content {
                Content::Frame { back, body, crc32c, .. } => {
                    let base_sequence = if *back == 0 { 0 } else { sequence - back };
                    let frame = v1::Frame { source: 0, base_sequence, body: body.clone() };
                    (v1::record::Body::Frame(frame), *crc32c)
                }
                Content::Facts => {
                    let facts = unit.facts.clone().into_iter().collect();
                    (v1::record::Body::Facts(v1::Facts { source: 0, facts }), 0)
                }
            };
            let record = v1::Record { sequence, boot: 0, boottime_ms: pending.boottime_ms, crc32c, body: Some(body) };
            let boot_id = Arc::clone(&self.boots[usize::from(pending.boot)].id);
            return Ok(Some(Queued { epoch: self.epoch, boot_id, source: Arc::clone(&unit.source), record }));
        }
    }

    fn keyframe(&mut self, cursor: &mut u64) -> Result<Bytes, QueueError> {
        let mut body = Vec::new();
        let behind = (*cursor - self.first) as usize;
        let number = self.pending.get(behind.saturating_sub(1)).map_or(0, |pending| pending.unit);
        let unit = &self.units[number as usize];
        if *cursor == unit.last_frame + 1 {
            unit.values.state().encode_keyframe(&mut body);
        } else {
            let mut state = unit.base.clone();
            for pending in self.pending.iter().take(behind).filter(|pending| pending.unit == number) {
                if let Content::Frame { body, .. } = &pending.content {
                    state.apply(body).map_err(|error| QueueError::new(&error))?;
                }
            }
            state.encode_keyframe(&mut body);
        }
        Ok(body.into())
    }

    fn schema(&mut self, id: SchemaId) -> Result<Option<v1::Schema>, QueueError> {
        Ok(self.units.iter().find(|unit| unit.source.schema == id).and_then(|unit| unit.values.schema()))
    }

    fn anchors(&self, boot_id: &str) -> Vec<v1::Clock> {
        let boot = self.boots.iter().find(|boot| *boot.id == *boot_id);
        let start_ms = self.shared.time.start_ms();
        boot.map(|boot| {
            let at_ms = start_ms.max(boot.at_ms);
            let wall_ms = at_ms + self.step_ms.load(Relaxed);
            v1::Clock { boottime_ms: boot.boottime_ms(at_ms), wall_ms, synchronised: true }
        })
        .into_iter()
        .collect()
    }

    fn settle(&mut self, epoch: u64, first: u64, last: u64, settled: Settled) {
        if epoch != self.epoch {
            return;
        }
        let now = clock::monotonic();
        for sequence in first.max(self.first)..=last.min(self.next_sequence().saturating_sub(1)) {
            let pending = &mut self.pending[(sequence - self.first) as usize];
            if std::mem::replace(&mut pending.settled, true) {
                continue;
            }
            self.unsettled -= 1;
            let Content::Frame { samples, .. } = pending.content else { continue };
            match settled {
                Settled::Accepted => {
                    let after = pending.handed.map_or(Duration::ZERO, |handed| now.saturating_duration_since(handed));
                    self.shared.figures.acknowledged(samples, after);
                    if let Some(log) = &self.shared.log {
                        let at_ms = self.boots[usize::from(pending.boot)].at_ms + pending.boottime_ms as i64;
                        log.acknowledged(&self.agent, epoch, sequence, at_ms);
                    }
                    if !std::mem::replace(&mut self.reported, true) {
                        self.shared.figures.reporting();
                    }
                }
                Settled::Refused(refusal) => self.shared.figures.refused(refusal.as_str_name()),
            }
        }
        self.forget();
        if self.is_done() {
            self.done.notify_one();
        }
    }

    fn lost(&self) -> Vec<v1::LostRanges> {
        Vec::new()
    }

    fn new_epoch(&mut self) -> Result<(), QueueError> {
        self.shared.figures.new_epochs.fetch_add(1, Relaxed);
        self.epoch = rand::random();
        self.begin_at_one();
        Ok(())
    }

    async fn changed(&mut self) {
        // Called in a session that is up: control has said how to number.
        if self.held == Held::UntilWelcomed {
            self.held = Held::No;
        }
        // Made and told in one poll: a future that is dropped in between would tell nobody.
        while !self.make_due() {
            match self.wait() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }
}

/// A machine's boot, the same for the same agent and number.
pub(crate) fn boot_id(agent: &str, number: u64) -> Arc<str> {
    let seed = agent.bytes().fold(number, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut random = crate::host::Random::new(seed, number);
    let (high, low) = (random.next(), random.next());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Plan, SEQUENCE_METRIC, Size};
    use crate::pattern::{Pattern, Week};

    const FRAMES: u64 = 20;
    /// The facts come first.
    const RECORDS: u64 = FRAMES + 1;

    /// A queue that has made [`FRAMES`] frames and makes no more.
    fn queue(happenings: &[Happening]) -> FrameQueue {
        let time = Time::start();
        let shared = Shared {
            figures: Figures::default(),
            log: None,
            time,
            pacing: Pacing::Backlog,
            interval_ms: 15_000,
            end_ms: AtomicI64::new(time.start_ms()),
        };
        let first_ms = time.start_ms() - 15_000 * FRAMES as i64;
        let boot = Boot { id: boot_id("a", 0), at_ms: first_ms - 1_000_000 };
        let (plan, week) = (Arc::new(Plan::of(Size::Small)), Arc::new(Week::of(Pattern::Office)));
        let script = Script {
            happenings: happenings.iter().map(|one| Happening { at_ms: first_ms + one.at_ms, ..*one }).collect(),
            cut_off: Vec::new(),
        };
        let unit = Unit {
            kind: "host",
            key: "a".to_owned(),
            values: Values::Host(Box::new(Host::new(plan, week, 1, 0, boot.at_ms, first_ms))),
            facts: [("hostname".to_owned(), "a".to_owned())].into(),
        };
        let begin = Beginning {
            units: vec![unit],
            agent: "agent_1".to_owned(),
            epoch: 7,
            boot,
            script,
            first_ms,
            done: Arc::default(),
        };
        let mut queue = FrameQueue::new(Arc::new(shared), begin);
        queue.connecting();
        queue
    }

    fn body(queued: &Queued) -> Option<(u64, Bytes)> {
        match &queued.record.body {
            Some(v1::record::Body::Frame(frame)) => Some((frame.base_sequence, frame.body.clone())),
            _ => None,
        }
    }

    /// What control would hold of a lane that begins at a cursor.
    fn lane(queue: &mut FrameQueue, cursor: &mut u64) -> Vec<(u64, State)> {
        let mut state = State::zero(queue.units[0].base.columns());
        let mut last = 0;
        let mut received = Vec::new();
        while let Some(queued) = queue.next(cursor, u64::MAX).expect("a queue in memory") {
            let Some((base, body)) = body(&queued) else { continue };
            if base == 0 || base != last {
                let keyframe = queue.keyframe(cursor).expect("a queue in memory");
                state = State::zero(queue.units[0].base.columns());
                state.apply(&keyframe).expect("a keyframe");
                if base == 0 {
                    assert_eq!(keyframe, body);
                }
            } else {
                state.apply(&body).expect("a delta");
            }
            last = queued.record.sequence;
            received.push((last, state.clone()));
        }
        received
    }

    fn sequence_column(queue: &FrameQueue) -> usize {
        let schema = queue.units[0].values.schema().expect("a host has one");
        schema.columns.iter().position(|column| column.metric == SEQUENCE_METRIC).expect("it is there")
    }

    #[test]
    fn every_lane_yields_the_same_frames_and_they_carry_their_sequence() {
        let mut queue = queue(&[]);
        let column = sequence_column(&queue);
        let mut oldest = queue.oldest().expect("a queue in memory");
        let all = lane(&mut queue, &mut oldest);
        assert_eq!(all.len() as u64, FRAMES);
        assert!(all.iter().all(|(sequence, state)| state.get(column) == Some(*sequence as i64)));
        let (mut newest, _) = queue.newest().expect("a queue in memory");
        assert_eq!(lane(&mut queue, &mut newest), all[all.len() - 1..]);
        queue.settle(7, 3, 5, Settled::Accepted);
        queue.settle(7, 1, 1, Settled::Accepted);
        let mut again = queue.oldest().expect("a queue in memory");
        let rest: Vec<_> = all.iter().filter(|(sequence, _)| *sequence == 2 || *sequence > 5).cloned().collect();
        assert_eq!(lane(&mut queue, &mut again), rest);
    }

    #[test]
    fn each_frame_is_counted_once_however_often_it_is_answered() {
        let mut queue = queue(&[]);
        assert!(!queue.is_done());
        for _ in 0..2 {
            queue.settle(7, 1, RECORDS, Settled::Accepted);
            queue.settle(8, 1, RECORDS, Settled::Accepted);
        }
        assert!(queue.is_done());
        let figures = &queue.shared.figures;
        assert_eq!(figures.frames_acknowledged.load(Relaxed), FRAMES);
        assert_eq!(figures.frames_made.load(Relaxed), FRAMES);
        assert_eq!(queue.span(), Span { epoch: 7, first: RECORDS + 1, next: RECORDS + 1, own_from: RECORDS + 1 });
    }

    #[test]
    fn a_reboot_leaves_a_hole_and_a_new_boot() {
        let down = What::Down { until_ms: 0 };
        let mut queue = queue(&[Happening { at_ms: 15_000, what: down }]);
        assert_eq!(queue.boots.len(), 2, "down until long ago: booted anew at once");
        let mut cursor = 2;
        let first = queue.next(&mut cursor, u64::MAX).expect("a queue").expect("a frame");
        let second = queue.next(&mut cursor, u64::MAX).expect("a queue").expect("a frame");
        assert_ne!(first.boot_id, second.boot_id);
    }

    #[test]
    fn a_new_epoch_begins_at_one_with_a_keyframe() {
        let mut queue = queue(&[]);
        queue.settle(7, 1, 4, Settled::Accepted);
        let mut cursor = queue.oldest().expect("a queue");
        let before: Vec<_> = lane(&mut queue, &mut cursor).into_iter().map(|(_, state)| state).collect();
        queue.new_epoch().expect("a queue");
        assert_eq!(queue.span().first, 1);
        assert_eq!(queue.span().next, RECORDS - 3);
        let mut cursor = queue.oldest().expect("a queue");
        let after = lane(&mut queue, &mut cursor);
        assert_eq!(
            after.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(),
            (1..=RECORDS - 4).collect::<Vec<_>>()
        );
        assert_eq!(after.into_iter().map(|(_, state)| state).collect::<Vec<_>>(), before);
    }
}
