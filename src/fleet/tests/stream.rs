//! An agent's stream.

use super::*;
use state::AgentState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use v1::to_agent::Message as Heard;
use v1::to_control::Message as Said;

#[tokio::test]
async fn records_reach_the_sink_and_its_answers_the_agent() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let (mut stream, welcome) = machine.session().await.expect("welcomed");
    assert_eq!(welcome.protocol, VERSION);
    assert_eq!(welcome.agent_id, machine.id.to_string());
    assert!(!welcome.new_epoch);
    let configuration = welcome.configuration.expect("told what to be like");
    assert_eq!(configuration.version, 1);
    assert!(configuration.ca_bundle_pem.contains("BEGIN CERTIFICATE"));

    let define = v1::Define {
        boots: vec![v1::Boot { number: 1, boot_id: "boot-1".to_owned(), anchors: Vec::new() }],
        ..Default::default()
    };
    let lost = v1::LostRanges {
        epoch: 1,
        ranges: vec![v1::LostRange { first: 3, last: 9, reason: v1::LossReason::SpoolAge.into() }],
    };
    stream.say(Said::Define(define.clone()));
    stream.say(records(1..=2));
    stream.say(Said::Lost(lost.clone()));
    let Heard::Answers(answers) = stream.hear_beside_pings().await.expect("answered") else { panic!("answers") };
    assert_eq!(answers.answers.iter().map(|answer| answer.first).collect::<Vec<_>>(), [1, 2]);
    until("the sink has all", || control.sink.given().contains(&Given::Lost(lost.clone()))).await;
    let given = control.sink.given();
    let place = |wanted: &Given| given.iter().position(|each| each == wanted).expect("given");
    let Said::Records(sent) = records(1..=2) else { panic!("records") };
    let order = [
        place(&Given::Opened(machine.id)),
        place(&Given::Define(define)),
        place(&Given::Records(machine.id, sent)),
        place(&Given::Lost(lost)),
    ];
    assert!(order.is_sorted(), "{order:?}");

    let report = control.report(machine.id);
    assert_eq!((report.state, report.connected), (AgentState::Up, true));
    assert_eq!(report.last_report_ms, Some(NOW));
    assert_eq!((report.version.as_str(), report.protocol), ("0.2.0", Some(1)));
    drop(stream);
    until("closed", || control.sink.given().contains(&Given::Closed(machine.id))).await;
    until("shown", || !control.report(machine.id).connected).await;
    assert!(control.registry.encode().contains("tongtu_agent_sessions 0"));
}

#[tokio::test]
async fn a_clock_an_hour_off_is_measured_and_shown() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let (mut stream, _) = machine.session().await.expect("welcomed");
    assert_eq!(control.report(machine.id).clock_offset_ms, Some(3_600_000), "as its hello said");
    // The answer takes 40 ms; the agent's clocks were read half way.
    let Heard::Ping(ping) = stream.hear().await.expect("a ping") else { panic!("a ping") };
    assert_eq!(ping.wall_ms, NOW);
    control.now.fetch_add(40, Ordering::Relaxed);
    stream.pong(ping.nonce, 5_500, NOW + 20 - 60_000);
    let measured = ControlAnchor { boottime_ms: 5_500, control_ms: NOW + 20, round_trip_ms: 40 };
    until("the sink has the anchor", || control.sink.given().contains(&Given::Anchor(measured))).await;
    assert_eq!(control.report(machine.id).clock_offset_ms, Some(-60_000));

    // One that comes too late, and one that answers nothing, are not used.
    let Heard::Ping(ping) = stream.hear().await.expect("another ping") else { panic!("a ping") };
    control.now.fetch_add(11_000, Ordering::Relaxed);
    stream.pong(ping.nonce, 17_000, 0);
    stream.pong(ping.nonce + 100, 17_000, 0);
    stream.say(records(1..=1));
    while !matches!(stream.hear().await.expect("goes on"), Heard::Answers(_)) {}
    assert_eq!(control.report(machine.id).clock_offset_ms, Some(-60_000));
}

#[tokio::test]
async fn a_spool_restored_from_a_copy_begins_a_new_epoch() {
    let control = Control::start().await;
    let machine = control.machine().await;
    control.sink.highest.store(10, Ordering::Relaxed);
    for (epoch, own_from, next, expected) in [
        (1, 10, 10, true),
        (1, 3, 3, true),
        // It was long without control, and has passed what its original had sent.
        (1, 7, 20, true),
        (1, 11, 11, false),
        (1, 11, 20, false),
        (2, 1, 1, false),
    ] {
        let mut stream = machine.stream().await.expect("open");
        stream.say(Said::Hello(v1::Hello { epoch, own_from, next_sequence: next, ..machine.hello() }));
        let Heard::Welcome(welcome) = stream.hear().await.expect("welcomed") else { panic!("a welcome") };
        assert_eq!(welcome.new_epoch, expected, "epoch {epoch}, own from {own_from}, next {next}");
    }
}

#[tokio::test]
async fn the_same_machine_and_boot_replaces_its_stream() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let (first, _) = machine.session().await.expect("welcomed");
    let (mut second, _) = machine.session().await.expect("welcomed");
    assert_eq!(first.end().await, Some(Reason::Replaced));
    second.say(records(1..=1));
    assert!(matches!(second.hear_beside_pings().await, Ok(Heard::Answers(_))));
    assert!(control.report(machine.id).connected);
    assert_eq!(control.refused("replaced"), 0, "that is no fault");
}

#[tokio::test]
async fn a_clone_is_refused_and_shown_and_the_first_goes_on() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let (mut first, _) = machine.session().await.expect("welcomed");
    let living = tokio::spawn(async move {
        // Answers pings, as agents do, until it is told to report.
        let mut answered = 0;
        while answered < 20 {
            if let Heard::Ping(ping) = first.hear().await.expect("goes on") {
                first.pong(ping.nonce, 5_000, NOW);
                answered += 1;
            }
        }
        first
    });
    let clone = machine.copy();
    let refused = clone.session().await.err().expect("refused");
    assert_eq!(Reason::of(&refused), Some(Reason::Cloned));
    assert_eq!(control.refused("cloned"), 1);
    let report = control.report(machine.id);
    assert_eq!((report.state, report.cloned_ms), (AgentState::Cloned, Some(NOW)));

    let mut first = living.await.expect("it lives");
    first.say(records(1..=1));
    assert!(matches!(first.hear_beside_pings().await, Ok(Heard::Answers(_))));
    let opened = control.sink.given().iter().filter(|each| matches!(each, Given::Opened(_))).count();
    assert_eq!(opened, 1, "nothing of the clone reached the sink");
    control.now.fetch_add(state::CLONED_FOR_MS, Ordering::Relaxed);
    first.say(records(2..=2));
    until("forgotten", || control.report(machine.id).state == AgentState::Up).await;
}

#[tokio::test]
async fn a_clone_is_still_shown_after_control_was_killed() {
    for database in testing::databases().await {
        let name = database.name;
        let control = Control::start_on(database, timing()).await;
        let machine = control.machine().await;
        let (mut first, _) = machine.session().await.expect("welcomed");
        let living = tokio::spawn(async move {
            while let Ok(heard) = first.hear().await {
                if let Heard::Ping(ping) = heard {
                    first.pong(ping.nonce, 5_000, NOW);
                }
            }
        });
        assert!(machine.copy().session().await.is_err(), "{name}");
        let Control { fleet, database, .. } = &control;
        let stored = async || {
            let rows = super::super::store::agents_load(&database.db, None).await.expect("agents");
            rows[0].cloned_ms
        };
        // Long before the pass that writes reports.
        let written = async {
            while stored().await.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), written).await.expect("the clone is written");
        // What another process would read.
        let (db, clock) = (database.db.clone(), Clock::Manual(control.now.clone()));
        let access = Access::open(db.clone(), clock.clone()).await.expect("access opens");
        let (data, registry) = (database.data.path(), Registry::new());
        let again = Fleet::open(db, access, clock, data, fleet.advertise.clone(), &registry).await.expect("opens");
        let report = again.agent_fetch(&Permit::testing(ROOT), machine.id).expect("it is there");
        assert_eq!((report.state, report.cloned_ms), (AgentState::Cloned, Some(NOW)), "{name}");
        living.abort();
    }
}

#[tokio::test]
async fn a_machine_that_rebooted_takes_the_place_of_its_dead_stream() {
    let control = Control::start_with(Timing { challenge: SOON, ..timing() }).await;
    let machine = control.machine().await;
    // A stream that answers nothing, as one does whose machine lost power.
    let (dead, _) = machine.session().await.expect("welcomed");
    let rebooted = machine.copy();
    let (mut stream, _) = rebooted.session().await.expect("welcomed");
    assert_eq!(dead.end().await, Some(Reason::Replaced));
    stream.say(records(1..=1));
    assert!(matches!(stream.hear_beside_pings().await, Ok(Heard::Answers(_))));
    assert_eq!(control.report(machine.id).state, AgentState::Up);
    assert_eq!(control.refused("cloned"), 0);
}

/// Says one thing first and gives the reason that ends the stream.
async fn ended_after(machine: &Machine, first: Option<Said>) -> Option<Reason> {
    let stream = machine.stream().await.expect("open");
    if let Some(first) = first {
        stream.say(first);
    }
    stream.end().await
}

#[tokio::test]
async fn a_stream_that_does_not_begin_as_it_should_ends_with_its_reason() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let hello = machine.hello();
    for (first, expected) in [
        (records(1..=1), Reason::HelloExpected),
        (Said::Define(v1::Define::default()), Reason::HelloExpected),
        (Said::Hello(v1::Hello { protocol: VERSION + 1, ..hello.clone() }), Reason::Protocol),
        (Said::Hello(v1::Hello { protocol: 0, ..hello.clone() }), Reason::Protocol),
        (Said::Hello(v1::Hello { boot_id: String::new(), ..hello.clone() }), Reason::BadIdentity),
    ] {
        let before = control.refused(expected.as_str());
        assert_eq!(ended_after(&machine, Some(first)).await, Some(expected));
        assert_eq!(control.refused(expected.as_str()), before + 1);
    }
    assert!(control.sink.given().is_empty(), "nothing of them reached the sink");
    let mut stream = machine.stream().await.expect("open");
    stream.say(Said::Hello(v1::Hello { protocol: 2, ..hello }));
    let refused = stream.hear().await.expect_err("refused");
    assert_eq!(refused.message(), "control speaks protocol version 1 and the agent version 2; update control");
}

#[tokio::test]
async fn a_stream_that_says_nothing_ends() {
    let control = Control::start_with(Timing { hello: SOON, ..timing() }).await;
    let machine = control.machine().await;
    assert_eq!(ended_after(&machine, None).await, Some(Reason::TooSlow));
    assert_eq!(control.refused("too_slow"), 1);
}

#[tokio::test]
async fn messages_beyond_the_limits_end_the_stream_and_keep_nothing() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let many = tongtu_protocol::limits::RECORDS as u64 + 1;
    let oversized = v1::Record {
        sequence: 1,
        body: Some(v1::record::Body::Frame(v1::Frame {
            body: vec![0; tongtu_protocol::limits::MESSAGE_BYTES].into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let source = v1::Source { kind: "host".to_owned(), schema_id: vec![1].into(), ..Default::default() };
    for (name, message, expected) in [
        ("a second hello", Said::Hello(machine.hello()), Reason::HelloExpected),
        ("many records", records(1..=many), Reason::Limit),
        (
            "a large message",
            Said::Records(v1::Records { records: vec![oversized], ..Default::default() }),
            Reason::Limit,
        ),
        ("a bad schema id", Said::Define(v1::Define { sources: vec![source], ..Default::default() }), Reason::Limit),
    ] {
        let (stream, _) = machine.session().await.expect("welcomed");
        stream.say(message);
        assert_eq!(stream.end().await, Some(expected), "{name}");
    }
    assert_eq!(control.refused("limit"), 3);
    let kept = control.sink.given().iter().any(|each| matches!(each, Given::Records(..) | Given::Define(_)));
    assert!(!kept, "nothing of them reached the sink");
}

#[tokio::test]
async fn a_message_of_a_later_version_is_passed_over() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let (mut stream, _) = machine.session().await.expect("welcomed");
    stream.sender.send(v1::ToControl { message: None }).expect("sent");
    stream.say(records(1..=1));
    assert!(matches!(stream.hear_beside_pings().await, Ok(Heard::Answers(_))));
}

/// The codec of a peer that sends whatever it likes.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, out: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(out, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = ();
    type Error = Status;
    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, Status> {
        let length = bytes::Buf::remaining(from);
        bytes::Buf::advance(from, length);
        Ok(Some(()))
    }
}

#[tokio::test]
async fn random_bytes_end_the_stream_that_they_come_on_and_no_other() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let neighbour = control.machine().await;
    let (mut good, _) = neighbour.session().await.expect("welcomed");
    let mut state = 42u64;
    for length in [1usize, 7, 64, 1_000, 50_000] {
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            // xorshift: the same noise in every run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // A length that reaches far beyond the message, so that no noise is a message by chance.
            (state >> 32) as u8 | 0x80
        })
        .take(length)
        .collect();
        let channel = machine.channel().await.expect("connected");
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.expect("ready");
        let path = tonic::codegen::http::uri::PathAndQuery::from_static("/tongtu.agent.v1.Telemetry/Session");
        let request = tonic::Request::new(tokio_stream::iter([noise]));
        let mut answers = client.streaming(request, path, Raw).await.expect("open").into_inner();
        let refused = answers.message().await.expect_err("refused");
        assert_eq!(Reason::of(&refused), Some(Reason::Undecodable), "{length} bytes");
    }
    assert_eq!(control.refused("undecodable"), 5);
    good.say(records(1..=1));
    assert!(matches!(good.hear_beside_pings().await, Ok(Heard::Answers(_))));
}

#[tokio::test]
async fn what_is_no_tls_or_says_nothing_is_counted_and_dropped() {
    let control = Control::start_with(Timing { handshake: Duration::from_secs(2), ..timing() }).await;
    let mut plain = TcpStream::connect(control.address).await.expect("connected");
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    until("counted", || control.refused("handshake_failed") == 1).await;
    let mut silent = TcpStream::connect(control.address).await.expect("connected");
    let _ = silent.read_to_end(&mut answer).await;
    until("counted", || control.refused("handshake_timeout") == 1).await;
    control.machine().await.session().await.expect("others are served");
}

#[tokio::test]
async fn a_connection_without_a_certificate_does_not_last() {
    let control = Control::start_with(Timing { anonymous: SOON, ..timing() }).await;
    let machine = Machine::new(&control);
    let _channel = machine.channel().await.expect("connected");
    until("dropped", || control.registry.encode().contains("tongtu_agent_connections 0")).await;
}

#[tokio::test]
async fn a_connection_without_a_session_does_not_last_and_one_certificate_holds_few() {
    let control = Control::start_with(Timing { anonymous: SOON, ..timing() }).await;
    let machine = control.machine().await;
    let (mut stream, _) = machine.session().await.expect("welcomed");
    let _idle = machine.channel().await.expect("connected");
    until("the idle one is dropped", || control.refused("idle") == 1).await;
    stream.say(records(1..=1));
    assert!(matches!(stream.hear_beside_pings().await, Ok(Heard::Answers(_))), "a session lasts");

    let control = Control::start().await;
    let machine = control.machine().await;
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(machine.channel().await);
    }
    until("all are there", || control.registry.encode().contains("tongtu_agent_connections 1")).await;
    assert_eq!(control.refused("too_many"), 0);
    held.push(machine.channel().await);
    until("one more is refused", || control.refused("too_many") == 1).await;
    drop(held);
    until("there is room again", || control.registry.encode().contains("tongtu_agent_connections 0")).await;
    machine.session().await.expect("welcomed");
}

#[tokio::test]
async fn a_peer_that_has_died_is_missed() {
    let timing =
        Timing { keepalive: Duration::from_millis(50), keepalive_answer: Duration::from_millis(50), ..timing() };
    let control = Control::start_with(timing).await;
    let machine = control.machine().await;
    let mut silent = machine.connect().await.expect("shaken hands");
    // HTTP/2 begins, and then nothing is answered any more.
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("written");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), silent.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "control let go of it");
    until("let go", || control.registry.encode().contains("tongtu_agent_connections 0")).await;
}

#[tokio::test]
async fn large_messages_come_in_pieces_and_many_small_ones_at_once() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let (mut stream, _) = machine.session().await.expect("welcomed");
    let columns = (0..8_000).map(|number| v1::Column { metric: format!("m{number}"), ..Default::default() }).collect();
    let define = v1::Define { schemas: vec![v1::Schema { id: vec![1; 16].into(), columns }], ..Default::default() };
    let frame = |length: usize| v1::Record {
        sequence: length as u64 + 1,
        body: Some(v1::record::Body::Frame(v1::Frame { body: vec![7; length].into(), ..Default::default() })),
        ..Default::default()
    };
    let lengths = [0, 1, 4_000, 16_379, 16_384, 70_000, 3, 5, 300_000, 2];
    stream.say(Said::Define(define.clone()));
    for length in lengths {
        let records = vec![frame(length)];
        stream.say(Said::Records(v1::Records { lane: 1, live: true, epoch: 1, records }));
    }
    let mut answered = Vec::new();
    while answered.len() < lengths.len() {
        let Heard::Answers(answers) = stream.hear_beside_pings().await.expect("answered") else { panic!("answers") };
        answered.extend(answers.answers.iter().map(|answer| answer.first as usize - 1));
    }
    assert_eq!(answered, lengths);
    let given = control.sink.given();
    assert!(given.contains(&Given::Define(define)));
    let bodies = given.iter().filter_map(|each| match each {
        Given::Records(_, records) => Some(records.records[0].clone()),
        _ => None,
    });
    assert!(bodies.eq(lengths.map(frame)));
}

#[tokio::test]
async fn a_stop_tells_every_agent_and_waits_for_none_for_long() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let (stream, _) = machine.session().await.expect("welcomed");
    let end = tokio::spawn(stream.end());
    let started = control.shutdown.clone();
    started.trigger();
    assert_eq!(end.await.expect("no panic"), Some(Reason::Stopping));
    control.stop().await;
}

#[tokio::test]
async fn an_agent_that_takes_no_answers_is_not_read_from() {
    let control = Control::start_with(Timing { ping: Duration::from_secs(60), ..timing() }).await;
    let machine = control.machine().await;
    let (stream, _) = machine.session().await.expect("welcomed");
    // Each message of 1000 records has 1000 answers; nobody reads them.
    for at in 0..400u64 {
        stream.say(records(at * 1_000 + 1..=(at + 1) * 1_000));
    }
    let taken = || control.sink.given().iter().filter(|each| matches!(each, Given::Records(..))).count();
    let mut before = usize::MAX;
    // It comes to rest long before all were taken.
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = taken();
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    assert!(taken() < 300, "{} of 400 messages were taken though no answer was", taken());
    // Reading again, all come through.
    let mut stream = stream;
    let mut answered = 0;
    while answered < 400_000 {
        if let Heard::Answers(answers) = stream.hear().await.expect("goes on") {
            answered += answers.answers.len();
        }
    }
}
