//! Telemetry over real databases: an agent that speaks to the sink, a control that is started,
//! killed and started again.

use super::columns::FrameMeta;
use super::ordered::{FramesError, Ordered};
use super::slot::SlotBlock;
use super::slot_block::SlotBlockView;
use super::{StoredSchema, Telemetry, store, store_rows};
use crate::access::Access;
use crate::config;
use crate::fleet::sink::{ControlAnchor, Opening, Sink, SinkSession};
use crate::platform::clock::{Clock, UnixMs};
use crate::platform::ids::{AgentId, OrganizationId, SourceId};
use crate::platform::metrics::Registry;
use crate::platform::shutdown::Shutdown;
use crate::platform::testing::TestDatabase;
use futures_util::TryStreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tongtu_protocol::codec::State;
use tongtu_protocol::schema::SchemaId;
use tongtu_protocol::v1::{self, Verdict};

mod cadence;
mod compact_model;
mod compaction;
mod days;
mod deleted;
mod faults;
mod gaps;
mod ingest;
mod intervals;
mod lifetime;

pub(super) const NOON: UnixMs = 1_790_000_100_000;
pub(super) const INTERVAL_MS: u32 = 15_000;

/// A running telemetry over a database.
pub(super) struct Control {
    pub telemetry: Telemetry,
    pub clock: Arc<AtomicI64>,
    /// Tasks end with it.
    _shutdown: Shutdown,
}

impl Control {
    pub(super) async fn start(database: &TestDatabase, now_ms: UnixMs) -> Self {
        Self::start_with(database, now_ms, |_| {}).await
    }

    pub(super) async fn start_with(
        database: &TestDatabase,
        now_ms: UnixMs,
        change: impl FnOnce(&mut config::Telemetry),
    ) -> Self {
        let clock = Arc::new(AtomicI64::new(now_ms));
        let manual = Clock::Manual(Arc::clone(&clock));
        let mut config = config::Config::default().telemetry;
        config.commit_interval = Duration::from_millis(1);
        change(&mut config);
        let access = Access::open(database.db.clone(), manual.clone()).await.expect("access opens");
        let telemetry = Telemetry::open(database.db.clone(), access, manual, config, &Registry::new()).await;
        let telemetry = telemetry.expect("telemetry opens");
        let shutdown = Shutdown::new();
        telemetry.start(&shutdown);
        Self { telemetry, clock, _shutdown: shutdown }
    }

    /// Ends every task where it stands, as a kill does.
    pub(super) async fn kill(&self) {
        self.telemetry.abandon().await;
    }

    pub(super) fn set(&self, now_ms: UnixMs) {
        self.clock.store(now_ms, Ordering::Relaxed);
    }
}

impl Control {
    /// Seals the open window and waits until `window` is compacted.
    pub(super) async fn seal(&self, window: i64) {
        self.telemetry.seal();
        until(|| self.telemetry.inner.compacted.load(Ordering::SeqCst) >= window).await;
    }
}

/// Waits for a condition.
pub(super) async fn until(condition: impl Fn() -> bool) {
    for _ in 0..4_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come about in 20 seconds");
}

/// From hexadecimal digits, two a byte.
pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

pub(super) fn schema() -> StoredSchema {
    let columns = columns();
    StoredSchema::new(1, SchemaId::of(&columns), columns)
}

/// A frame as it is found in windows and chunks.
pub(super) struct StoredFrame {
    pub meta: FrameMeta,
    pub state: State,
    /// In a chunk.
    pub kept: bool,
}

/// Every frame of source 1 that is stored, in order of instant.
pub(super) async fn stored(control: &Control) -> Vec<StoredFrame> {
    let inner = &control.telemetry.inner;
    let source = inner.registry.source(SourceId(1)).expect("the source");
    let (_snapshot, fresh) = inner.fresh(&source, UnixMs::MAX, None).await.expect("the windows can be read");
    let frames = super::fetch::frames(&fresh.entries).expect("entries");
    let mut ordered = Ordered::new(&frames, &inner.registry).expect("frames");
    let chunks = store_rows::chunks_between(inner.db.read(), SourceId(1), 0, UnixMs::MAX, fresh.compacted).await;
    let chunks = chunks.expect("chunks");
    for (schema, chunk) in &chunks {
        ordered.add_chunk(*schema, chunk).expect("a chunk");
    }
    let mut all = Vec::new();
    let read = ordered.for_each(&inner.registry, |frame| {
        all.push(StoredFrame { meta: *frame.meta, state: frame.state.clone(), kept: frame.kept });
        Ok::<_, FramesError>(())
    });
    read.expect("frames that can be read");
    all
}

/// The slots of open days, as bytes.
pub(super) async fn open_slots(control: &Control, source: SourceId) -> Vec<Vec<u8>> {
    let inner = &control.telemetry.inner;
    let compacted = inner.compacted.load(Ordering::SeqCst);
    let snapshot = store::snapshot(&inner.db).await.expect("a snapshot");
    let (days, all) = (store_rows::DayBlocks::default(), (0, UnixMs::MAX));
    let slots = store_rows::slots_between(&snapshot, source, days, all, compacted).await.expect("slots");
    slots.try_collect().await.expect("slots")
}

/// All slots of five minutes that are stored of source 1.
pub(super) async fn stored_slots(control: &Control) -> Vec<SlotBlock> {
    let bodies = open_slots(control, SourceId(1)).await;
    let block = |body: &Vec<u8>| {
        let view = SlotBlockView::open(body).expect("a block");
        view.block(view.columns()).expect("its columns")
    };
    bodies.iter().map(block).collect()
}

/// The columns of the agent below: its sequence as a counter, a gauge, and one that comes and goes.
pub(super) fn columns() -> Vec<v1::Column> {
    let column = |metric: &str, kind: v1::Kind| v1::Column {
        metric: metric.to_owned(),
        kind: kind.into(),
        unit: "1".to_owned(),
        ..Default::default()
    };
    vec![
        column("sequence_total", v1::Kind::Counter),
        column("wave", v1::Kind::Gauge),
        column("now_and_then", v1::Kind::Gauge),
    ]
}

/// What the frame with this sequence holds.
pub(super) fn values(sequence: u64) -> State {
    let number = sequence as i64;
    State::from_values(&[Some(number), Some(50 + (number * 7) % 13), (!sequence.is_multiple_of(3)).then_some(-number)])
}

/// An agent's stream.
pub(super) struct Stream {
    session: Box<dyn SinkSession>,
    answers: mpsc::UnboundedReceiver<v1::Answers>,
    epoch: u64,
    lane: u32,
    base: u64,
    /// Answered for good.
    pub accepted: Vec<(u64, u64)>,
    pub refused: Vec<(u64, u64, v1::Refusal)>,
    pub later: Vec<(u64, u64)>,
    pub need_schema: usize,
}

pub(super) const BOOTED_MS: UnixMs = NOON - 100 * 86_400_000;

impl Stream {
    /// Opens a stream whose boot began at [`BOOTED_MS`], with everything defined.
    pub(super) fn open(control: &Control, agent: i64, epoch: u64) -> Self {
        let mut stream = Self::open_bare(control, agent, epoch);
        stream.define(true);
        stream
    }

    pub(super) fn open_bare(control: &Control, agent: i64, epoch: u64) -> Self {
        let now_ms = control.clock.load(Ordering::Relaxed);
        let hello = v1::Hello { boot_id: "boot".to_owned(), epoch, ..Default::default() };
        let (sender, answers) = mpsc::unbounded_channel();
        let opening = Opening { agent: AgentId(agent), organization: OrganizationId(1), hello };
        let mut session = Sink::open(&control.telemetry, opening, sender);
        session.anchor(ControlAnchor {
            boottime_ms: (now_ms - BOOTED_MS) as u64,
            control_ms: now_ms,
            round_trip_ms: 1,
        });
        let (accepted, refused, later) = Default::default();
        Self { session, answers, epoch, lane: 1, base: 0, accepted, refused, later, need_schema: 0 }
    }

    pub(super) fn define(&mut self, with_schema: bool) {
        let columns = columns();
        let id = SchemaId::of(&columns).0.to_vec().into();
        self.define_source(v1::Schema { id, columns }, with_schema);
    }

    pub(super) fn define_as(&mut self, schema: v1::Schema) {
        self.define_source(schema, true);
    }

    /// Gives the number 1 to a source with this key.
    pub(super) fn define_key(&mut self, key: &str) {
        let (kind, key, schema_id) = ("host".to_owned(), key.to_owned(), SchemaId::of(&columns()).0.to_vec().into());
        let source = v1::Source { number: 1, kind, key, schema_id, interval_ms: INTERVAL_MS };
        self.session.define(v1::Define { sources: vec![source], ..Default::default() }).expect("room");
    }

    /// The number 2 is the same source, sampled at another interval.
    pub(super) fn define_interval(&mut self, interval_ms: u32) {
        let (kind, key, schema_id) =
            ("host".to_owned(), "machine".to_owned(), SchemaId::of(&columns()).0.to_vec().into());
        let source = v1::Source { number: 2, kind, key, schema_id, interval_ms };
        self.session.define(v1::Define { sources: vec![source], ..Default::default() }).expect("room");
    }

    /// Sends frames in a lane of their own, of the source with this number.
    pub(super) fn frames_of(&mut self, number: u32, is_live: bool, sequences: impl IntoIterator<Item = u64>) {
        self.restart_lane();
        let mut records: Vec<_> = sequences.into_iter().map(|sequence| self.record(sequence)).collect();
        for record in &mut records {
            if let Some(v1::record::Body::Frame(frame)) = &mut record.body {
                frame.source = number;
            }
        }
        let (lane, epoch) = (self.lane, self.epoch);
        self.session.records(v1::Records { lane, live: is_live, epoch, records });
    }

    fn define_source(&mut self, schema: v1::Schema, with_schema: bool) {
        self.session
            .define(v1::Define {
                boots: vec![v1::Boot { number: 1, boot_id: "boot".to_owned(), anchors: vec![] }],
                sources: vec![v1::Source {
                    number: 1,
                    kind: "host".to_owned(),
                    key: "machine".to_owned(),
                    schema_id: schema.id.clone(),
                    interval_ms: INTERVAL_MS,
                }],
                schemas: if with_schema { vec![schema] } else { vec![] },
            })
            .expect("room");
    }

    pub(super) fn define_boot(&mut self, number: u32, boot_id: &str, anchors: Vec<v1::Clock>) {
        let boot = v1::Boot { number, boot_id: boot_id.to_owned(), anchors };
        self.session.define(v1::Define { boots: vec![boot], ..Default::default() }).expect("room");
    }

    /// The frame of this sequence, measured `sequence` intervals after noon.
    pub(super) fn record(&mut self, sequence: u64) -> v1::Record {
        self.record_at(sequence, NOON + sequence as i64 * i64::from(INTERVAL_MS))
    }

    pub(super) fn record_at(&mut self, sequence: u64, instant_ms: UnixMs) -> v1::Record {
        let mut body = Vec::new();
        match self.base {
            0 => values(sequence).encode_keyframe(&mut body),
            base => values(sequence).encode(&values(base), &mut body),
        }
        self.record_with(sequence, instant_ms, body.into())
    }

    fn record_with(&mut self, sequence: u64, instant_ms: UnixMs, body: bytes::Bytes) -> v1::Record {
        let base_sequence = std::mem::replace(&mut self.base, sequence);
        v1::Record {
            sequence,
            boot: 1,
            boottime_ms: (instant_ms - BOOTED_MS) as u64,
            crc32c: crc32c::crc32c(&body),
            body: Some(v1::record::Body::Frame(v1::Frame { source: 1, base_sequence, body })),
        }
    }

    pub(super) fn facts(&mut self, sequence: u64, facts: &[(&str, &str)]) -> v1::Record {
        let facts: BTreeMap<String, String> =
            facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let facts = v1::Facts { source: 1, facts };
        let encoded = prost::Message::encode_to_vec(&facts);
        let instant_ms = NOON + sequence as i64 * i64::from(INTERVAL_MS);
        v1::Record {
            sequence,
            boot: 1,
            boottime_ms: (instant_ms - BOOTED_MS) as u64,
            crc32c: crc32c::crc32c(&encoded),
            body: Some(v1::record::Body::Facts(facts)),
        }
    }

    pub(super) fn send(&mut self, records: Vec<v1::Record>) {
        let (lane, epoch) = (self.lane, self.epoch);
        self.session.records(v1::Records { lane, live: true, epoch, records });
    }

    /// Sends frames of these sequences in one message.
    pub(super) fn frames(&mut self, sequences: impl IntoIterator<Item = u64>) {
        let records = sequences.into_iter().map(|sequence| self.record(sequence)).collect();
        self.send(records);
    }

    pub(super) fn lost(&mut self, first: u64, last: u64) {
        let reason = v1::LossReason::SpoolAge.into();
        self.session.lost(v1::LostRanges { epoch: self.epoch, ranges: vec![v1::LostRange { first, last, reason }] });
    }

    /// Begins a new lane: the next frame is a keyframe.
    pub(super) fn restart_lane(&mut self) {
        self.lane += 1;
        self.base = 0;
    }

    /// Waits until `until` holds of what was answered.
    pub(super) async fn answered(&mut self, until: impl Fn(&Self) -> bool) {
        let deadline = Duration::from_secs(20);
        while !until(self) {
            let answers = tokio::time::timeout(deadline, self.answers.recv()).await;
            let Ok(Some(answers)) = answers else {
                panic!("no answer: accepted {:?}, refused {:?}, later {:?}", self.accepted, self.refused, self.later);
            };
            self.note(answers);
        }
    }

    /// Takes the answers that are there.
    pub(super) fn pending(&mut self) {
        while let Ok(answers) = self.answers.try_recv() {
            self.note(answers);
        }
    }

    fn note(&mut self, answers: v1::Answers) {
        {
            assert_eq!(answers.epoch, self.epoch);
            for answer in answers.answers {
                match answer.verdict() {
                    Verdict::Accepted => self.accepted.push((answer.first, answer.last)),
                    Verdict::Refused => self.refused.push((answer.first, answer.last, answer.refusal())),
                    Verdict::Later => self.later.push((answer.first, answer.last)),
                    Verdict::NeedSchema => self.need_schema += 1,
                    Verdict::Unspecified => panic!("an answer without verdict"),
                }
            }
        }
    }

    /// Whether every one of these sequences was answered *accepted*.
    pub(super) fn has_accepted(&self, first: u64, last: u64) -> bool {
        let accepted: super::ranges::RangeSet = self.accepted.iter().copied().collect();
        accepted.contains_range(first, last)
    }

    pub(super) async fn accepted(&mut self, first: u64, last: u64) {
        self.answered(|stream| stream.has_accepted(first, last)).await;
    }
}
