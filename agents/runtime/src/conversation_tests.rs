//! A conversation against a model of control that decodes as control does.

use super::*;
use crate::clock;
use crate::memory::MemoryQueue;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tongtu_protocol::{codec::State, schema};

fn gauges(columns: usize) -> v1::Schema {
    let column = |index| v1::Column {
        metric: format!("metric_{index}"),
        kind: v1::Kind::Gauge as i32,
        unit: "1".into(),
        ..v1::Column::default()
    };
    let columns: Vec<v1::Column> = (0..columns).map(column).collect();
    v1::Schema { id: SchemaId::of(&columns).0.to_vec().into(), columns }
}

fn queue() -> MemoryQueue {
    let anchor = v1::Clock { boottime_ms: 1, wall_ms: 1_790_000_000_000, synchronised: true };
    MemoryQueue::new("host", "m", gauges(3), 15_000, "boot", anchor)
}

/// A frame whose values tell its number.
fn push(queue: &mut MemoryQueue) -> u64 {
    let number = queue.span().next;
    let values = [Some(number as i64), None, Some(-7)];
    queue.push_frame(number * 15_000, &State::from_values(&values))
}

type Chains = HashMap<u32, (u64, State)>;

/// What control knows and how it answers.
#[derive(Default)]
struct Control {
    sources: HashMap<u32, SchemaId>,
    boots: HashMap<u32, String>,
    schemas: HashMap<SchemaId, usize>,
    /// By lane: the last sequence, and the state of each source with its sequence.
    lanes: HashMap<u32, (u64, Chains)>,
    /// First column of each record received, by sequence.
    received: BTreeMap<u64, Option<i64>>,
    /// In order of arrival: (live, sequence).
    order: Vec<(bool, u64)>,
}

impl Control {
    /// Takes a message; returns what it has to answer: (lane, epoch, sequences, schema needed).
    fn take(&mut self, message: v1::ToControl) -> Option<(u32, u64, Vec<u64>, Option<SchemaId>)> {
        let records = match message.message? {
            v1::to_control::Message::Define(define) => {
                for boot in define.boots {
                    assert!(!boot.anchors.is_empty());
                    self.boots.insert(boot.number, boot.boot_id);
                }
                for source in define.sources {
                    let id = SchemaId::from_bytes(&source.schema_id).expect("16 bytes");
                    self.sources.insert(source.number, id);
                }
                for schema in define.schemas {
                    let id = schema::check(&schema).expect("a schema that control takes");
                    self.schemas.insert(id, schema.columns.len());
                }
                return None;
            }
            v1::to_control::Message::Records(records) => records,
            _ => return None,
        };
        let (last, states) = self.lanes.entry(records.lane).or_default();
        let mut sequences = Vec::new();
        let mut need = None;
        for record in records.records {
            assert!(record.sequence > *last, "ascending in its lane");
            *last = record.sequence;
            sequences.push(record.sequence);
            assert!(self.boots.contains_key(&record.boot));
            let Some(v1::record::Body::Frame(frame)) = record.body else { continue };
            assert_eq!(crc32c::crc32c(&frame.body), record.crc32c);
            let id = self.sources[&frame.source];
            let Some(&columns) = self.schemas.get(&id) else {
                need = Some(id);
                continue;
            };
            let mut state = if frame.base_sequence == 0 {
                State::zero(columns)
            } else {
                let (base, state) = states[&frame.source].clone();
                assert_eq!(base, frame.base_sequence, "a frame continues its lane");
                state
            };
            state.apply(&frame.body).expect("a frame that decodes");
            if need.is_none() {
                self.order.push((records.live, record.sequence));
                self.received.insert(record.sequence, state.get(0));
            }
            states.insert(frame.source, (record.sequence, state));
        }
        Some((records.lane, records.epoch, sequences, need))
    }
}

fn answers(epoch: u64, lane: u32, sequences: &[u64], verdict: v1::Verdict) -> v1::Answers {
    let answer = |sequence: &u64| v1::Answer {
        first: *sequence,
        last: *sequence,
        verdict: verdict as i32,
        lane,
        retry_after_ms: 1_000,
        ..v1::Answer::default()
    };
    v1::Answers { epoch, answers: sequences.iter().map(answer).collect() }
}

fn need(epoch: u64, lane: u32, sequences: &[u64], id: SchemaId) -> v1::Answers {
    let mut answers = answers(epoch, lane, sequences, v1::Verdict::NeedSchema);
    answers.answers.iter_mut().for_each(|answer| answer.schema_id = id.0.to_vec().into());
    answers
}

#[test]
fn the_newest_goes_first_and_the_backlog_follows_oldest_first() {
    let mut queue = queue();
    for _ in 0..100 {
        push(&mut queue);
    }
    let mut control = Control::default();
    control.schemas.insert(SchemaId::of(&gauges(3).columns), 3);
    let mut conversation = Conversation::new(8);
    let now = clock::monotonic();
    let mut most = 0;
    for round in 0..60 {
        let mut waiting = Vec::new();
        while let Some(message) = conversation.next(&mut queue, now).expect("no error") {
            waiting.extend(control.take(message));
        }
        most = most.max(waiting.iter().map(|(_, _, sequences, _)| sequences.len()).sum());
        for (lane, epoch, sequences, _) in waiting {
            let answers = answers(epoch, lane, &sequences, v1::Verdict::Accepted);
            conversation.answers(&mut queue, answers, now).expect("no error");
        }
        if round == 3 {
            push(&mut queue);
            conversation.queue_changed();
        }
    }
    assert_eq!(control.order[0], (true, 100), "live at once");
    let backlog: Vec<u64> = control.order.iter().filter(|(live, _)| !live).map(|(_, sequence)| *sequence).collect();
    assert_eq!(backlog, (1..100).collect::<Vec<_>>());
    assert!(control.order.iter().position(|of| *of == (true, 101)) < Some(60), "live beside the backlog");
    assert!(most <= 9, "{most} records unanswered");
    assert_eq!(queue.counts().frames_accepted, 101);
    assert_eq!(queue.counts().samples_accepted, 202);
    assert_eq!(queue.waiting(), 0);
}

#[test]
fn later_is_sent_again_after_the_pause_in_a_new_lane() {
    let mut queue = queue();
    push(&mut queue);
    let mut control = Control::default();
    control.schemas.insert(SchemaId::of(&gauges(3).columns), 3);
    let mut conversation = Conversation::new(8);
    let now = clock::monotonic();
    let mut first = None;
    while let Some(message) = conversation.next(&mut queue, now).expect("no error") {
        first = control.take(message).or(first);
    }
    let (lane, epoch, sequences, _) = first.expect("records");
    conversation.answers(&mut queue, answers(epoch, lane, &sequences, v1::Verdict::Later), now).expect("no error");
    push(&mut queue);
    conversation.queue_changed();
    assert!(conversation.next(&mut queue, now).expect("no error").is_none(), "nothing during the pause");
    let later = conversation.wake_at(false).expect("a time to wake");
    assert_eq!(later, now + Duration::from_secs(1));
    let mut lanes = Vec::new();
    while let Some(message) = conversation.next(&mut queue, later).expect("no error") {
        lanes.extend(control.take(message).map(|(lane, _, sequences, _)| (lane, sequences)));
    }
    assert_eq!(lanes, [(lane + 1, vec![2]), (lane + 2, vec![1])]);
    assert_eq!(queue.counts(), crate::memory::Counts { frames_made: 2, ..Default::default() });
}

#[test]
fn a_schema_goes_once_when_it_is_asked_for() {
    let mut queue = queue();
    let mut conversation = Conversation::new(8);
    let mut control = Control::default();
    let now = clock::monotonic();
    let mut schemas = 0;
    for _ in 0..4 {
        push(&mut queue);
        conversation.queue_changed();
        let mut waiting = Vec::new();
        while let Some(message) = conversation.next(&mut queue, now).expect("no error") {
            if let Some(v1::to_control::Message::Define(define)) = &message.message {
                schemas += define.schemas.len();
            }
            waiting.extend(control.take(message));
        }
        for (lane, epoch, sequences, needed) in waiting {
            let answers = match needed {
                Some(id) => need(epoch, lane, &sequences, id),
                None => answers(epoch, lane, &sequences, v1::Verdict::Accepted),
            };
            conversation.answers(&mut queue, answers, now).expect("no error");
        }
    }
    assert_eq!(schemas, 1);
    assert_eq!(queue.counts().frames_accepted, 4);
}

#[test]
fn refused_is_dropped_and_counted_and_what_was_not_sent_is_not_settled() {
    let mut queue = queue();
    push(&mut queue);
    let mut conversation = Conversation::new(8);
    let now = clock::monotonic();
    let epoch = queue.span().epoch;
    let all = v1::Answers {
        epoch,
        answers: vec![v1::Answer { first: 1, last: 9, verdict: v1::Verdict::Accepted as i32, ..Default::default() }],
    };
    conversation.answers(&mut queue, all, now).expect("no error");
    assert_eq!(queue.waiting(), 1, "never sent, so never settled");
    while conversation.next(&mut queue, now).expect("no error").is_some() {}
    conversation.answers(&mut queue, answers(epoch, 1, &[1], v1::Verdict::Refused), now).expect("no error");
    assert_eq!((queue.waiting(), queue.counts().records_refused), (0, 1));
}

#[test]
fn silence_ends_it() {
    let mut queue = queue();
    push(&mut queue);
    let mut conversation = Conversation::new(8);
    let now = clock::monotonic();
    while conversation.next(&mut queue, now).expect("no error").is_some() {}
    assert!(conversation.check(now + ANSWER_TIMEOUT - Duration::from_millis(1)).is_ok());
    assert!(matches!(conversation.check(now + ANSWER_TIMEOUT), Err(ConversationError::Unanswered)));
    assert_eq!(conversation.wake_at(true), Some(now + ANSWER_TIMEOUT));
}

#[derive(Debug, Clone)]
enum Step {
    Push,
    Accept,
    Refuse,
    Later,
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Push),
        4 => Just(Step::Accept),
        1 => Just(Step::Refuse),
        2 => Just(Step::Later),
        1 => Just(Step::Reconnect),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever control answers and however often the stream breaks, in the end every record has
    /// arrived with its values, and is settled once.
    #[test]
    fn nothing_is_lost_and_every_frame_decodes(steps in steps(), window in 1u32..12) {
        let mut queue = queue();
        let mut control = Control::default();
        let mut conversation = Conversation::new(window);
        let mut now = clock::monotonic();
        let mut waiting: VecDeque<(u32, u64, Vec<u64>, Option<SchemaId>)> = VecDeque::new();
        let rest = std::iter::repeat_n(Step::Accept, 4_000);
        for step in steps.into_iter().chain(rest) {
            now += Duration::from_millis(1_000);
            match step {
                Step::Push => {
                    push(&mut queue);
                    conversation.queue_changed();
                }
                Step::Reconnect => {
                    conversation = Conversation::new(window);
                    waiting.clear();
                    control = Control { schemas: control.schemas, received: control.received, ..Control::default() };
                }
                _ => {
                    let Some((lane, epoch, sequences, needed)) = waiting.pop_front() else {
                        if queue.waiting() == 0 { continue };
                        while let Some(message) = conversation.next(&mut queue, now).expect("no error") {
                            waiting.extend(control.take(message));
                        }
                        continue;
                    };
                    let answers = match (needed, step) {
                        (Some(id), _) => need(epoch, lane, &sequences, id),
                        (None, Step::Refuse) => answers(epoch, lane, &sequences, v1::Verdict::Refused),
                        (None, Step::Later) => answers(epoch, lane, &sequences, v1::Verdict::Later),
                        _ => answers(epoch, lane, &sequences, v1::Verdict::Accepted),
                    };
                    conversation.answers(&mut queue, answers, now).expect("no error");
                }
            }
            while let Some(message) = conversation.next(&mut queue, now).expect("no error") {
                waiting.extend(control.take(message));
            }
        }
        prop_assert_eq!(queue.waiting(), 0);
        let counts = queue.counts();
        prop_assert_eq!(counts.records_accepted + counts.records_refused, counts.frames_made);
        for number in 1..=counts.frames_made {
            prop_assert_eq!(control.received.get(&number), Some(&Some(number as i64)));
        }
    }
}
