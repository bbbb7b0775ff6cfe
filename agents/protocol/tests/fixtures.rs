//! The bytes of version 1, stored. An agent of that version may be met for years: what it sends must
//! be read as what it meant, and what it is told must be bytes that it can read.
//!
//! `BLESS=1 cargo test -p tongtu-protocol` writes the fixtures that are missing. One that is there is
//! never changed: a difference means that the wire has, and that a new version is due.

use prost::Message;
use std::path::PathBuf;
use tongtu_protocol::{codec::State, schema, token::Token, v1};

fn stored(name: &str, made: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name);
    if !path.exists() && std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, made).expect("written");
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Holds a message against its stored bytes, both ways.
fn check<M: Message + Default + PartialEq + std::fmt::Debug>(name: &str, message: &M) {
    let made = message.encode_to_vec();
    let stored = stored(&format!("{name}.bin"), &made);
    assert_eq!(M::decode(stored.as_slice()).as_ref().ok(), Some(message), "{name} is read as what it meant");
    assert_eq!(made, stored, "{name} is written as it was");
}

fn clock() -> v1::Clock {
    v1::Clock { boottime_ms: 86_400_000, wall_ms: 1_793_000_000_123, synchronised: true }
}

fn schema() -> v1::Schema {
    let columns = vec![
        v1::Column {
            metric: "node_network_receive_bytes_total".to_owned(),
            kind: v1::Kind::Counter.into(),
            unit: "By".to_owned(),
            exponent: 0,
            float: false,
            resource: "eth0".to_owned(),
            labels: vec![v1::Label { name: "device".to_owned(), value: "eth0".to_owned() }],
            help: "Bytes received.".to_owned(),
            width_bits: 32,
            speed_column: 2,
            cadence_s: 0,
        },
        v1::Column {
            metric: "node_network_speed_bytes".to_owned(),
            kind: v1::Kind::Gauge.into(),
            unit: "By/s".to_owned(),
            exponent: -3,
            ..Default::default()
        },
        v1::Column { metric: "foreign".to_owned(), kind: v1::Kind::Untyped.into(), float: true, ..Default::default() },
    ];
    v1::Schema { id: schema::SchemaId::of(&columns).0.to_vec().into(), columns }
}

/// Measured less often than frames come.
fn schema_with_cadence() -> v1::Schema {
    let columns = vec![v1::Column {
        metric: "node_tcp_connection_states".to_owned(),
        kind: v1::Kind::Gauge.into(),
        unit: "1".to_owned(),
        labels: vec![v1::Label { name: "state".to_owned(), value: "listen".to_owned() }],
        help: "Sockets in this state.".to_owned(),
        width_bits: 64,
        cadence_s: 300,
        ..Default::default()
    }];
    v1::Schema { id: schema::SchemaId::of(&columns).0.to_vec().into(), columns }
}

fn states() -> (State, State) {
    let keyframe = State::from_values(&[Some(4_294_967_290), Some(125_000_000_000), Some(1.5f64.to_bits() as i64)]);
    let next = State::from_values(&[Some(-6), None, Some(1.5f64.to_bits() as i64)]);
    (keyframe, next)
}

fn bodies() -> (Vec<u8>, Vec<u8>) {
    let (keyframe, next) = states();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    keyframe.encode_keyframe(&mut first);
    next.encode(&keyframe, &mut second);
    (first, second)
}

fn to_control(message: v1::to_control::Message) -> v1::ToControl {
    v1::ToControl { message: Some(message) }
}

fn to_agent(message: v1::to_agent::Message) -> v1::ToAgent {
    v1::ToAgent { message: Some(message) }
}

fn configuration() -> v1::DesiredConfiguration {
    v1::DesiredConfiguration {
        version: 3,
        interval_ms: 15_000,
        collectors: vec![v1::CollectorSetting { name: "cpu".to_owned(), enabled: true, interval_ms: 60_000 }],
        ca_bundle_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
    }
}

#[test]
fn what_an_agent_sends() {
    use v1::to_control::Message;
    check(
        "hello",
        &to_control(Message::Hello(v1::Hello {
            protocol: 1,
            agent_version: "0.1.0".to_owned(),
            kind: "host".to_owned(),
            machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
            boot_id: "01234567-89ab-cdef-0123-456789abcdef".to_owned(),
            epoch: 0xfedc_ba98_7654_3210,
            first_sequence: 17,
            next_sequence: 4_711,
            clock: Some(clock()),
            interval_ms: 15_000,
            hostname: "host-1".to_owned(),
            own_from: 4_700,
        })),
    );
    check(
        "define",
        &to_control(Message::Define(v1::Define {
            boots: vec![v1::Boot { number: 1, boot_id: "boot".to_owned(), anchors: vec![clock()] }],
            sources: vec![v1::Source {
                number: 1,
                kind: "host".to_owned(),
                key: "0123456789abcdef0123456789abcdef".to_owned(),
                schema_id: schema().id,
                interval_ms: 15_000,
            }],
            schemas: vec![schema()],
        })),
    );
    let (keyframe, delta) = bodies();
    let record =
        |sequence, crc32c, body| v1::Record { sequence, boot: 1, boottime_ms: 86_400_000, crc32c, body: Some(body) };
    let frame = |base_sequence, body: Vec<u8>| {
        v1::record::Body::Frame(v1::Frame { source: 1, base_sequence, body: body.into() })
    };
    let texts =
        |texts: &[(&str, &str)]| texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    check(
        "records",
        &to_control(Message::Records(v1::Records {
            lane: 2,
            live: true,
            epoch: 0xfedc_ba98_7654_3210,
            records: vec![
                record(17, 0xdead_beef, frame(0, keyframe)),
                record(18, 0x0bad_cafe, frame(17, delta)),
                record(
                    19,
                    3,
                    v1::record::Body::Facts(v1::Facts {
                        source: 1,
                        facts: texts(&[("os", "Debian GNU/Linux 12"), ("kernel", "6.1.0"), ("virtualisation", "kvm")]),
                    }),
                ),
                record(
                    20,
                    4,
                    v1::record::Body::Event(v1::Event {
                        source: 1,
                        name: "link_down".to_owned(),
                        attributes: texts(&[("device", "eth0")]),
                    }),
                ),
            ],
        })),
    );
    check(
        "lost",
        &to_control(Message::Lost(v1::LostRanges {
            epoch: 1,
            ranges: [
                v1::LossReason::SpoolSize,
                v1::LossReason::SpoolAge,
                v1::LossReason::DiskFull,
                v1::LossReason::Corrupt,
            ]
            .into_iter()
            .zip(1..)
            .map(|(reason, at)| v1::LostRange { first: at * 10, last: at * 10 + 5, reason: reason.into() })
            .collect(),
        })),
    );
    check(
        "define_cadence",
        &to_control(Message::Define(v1::Define { schemas: vec![schema_with_cadence()], ..Default::default() })),
    );
    check("pong", &to_control(Message::Pong(v1::Pong { nonce: 9, clock: Some(clock()) })));
    check(
        "enroll_request",
        &v1::EnrollRequest {
            token_secret: vec![7; 24].into(),
            csr_der: vec![0x30, 0x82].into(),
            kind: "host".to_owned(),
            machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
            hostname: "host-1".to_owned(),
            agent_version: "0.1.0".to_owned(),
        },
    );
    check("renew_request", &v1::RenewRequest { csr_der: vec![0x30, 0x82].into() });
}

#[test]
fn what_an_agent_is_told() {
    use v1::to_agent::Message;
    check(
        "welcome",
        &to_agent(Message::Welcome(v1::Welcome {
            protocol: 1,
            agent_id: "agent_7".to_owned(),
            wall_ms: 1_793_000_000_123,
            new_epoch: true,
            backlog_in_flight: 256,
            configuration: Some(configuration()),
        })),
    );
    let refusals = (1..=11).map(|refusal| v1::Answer {
        first: 100 + refusal as u64,
        last: 100 + refusal as u64,
        verdict: v1::Verdict::Refused.into(),
        refusal,
        ..Default::default()
    });
    let mut answers = vec![
        v1::Answer { first: 1, last: 90, verdict: v1::Verdict::Accepted.into(), ..Default::default() },
        v1::Answer {
            first: 91,
            last: 92,
            verdict: v1::Verdict::Later.into(),
            retry_after_ms: 5_000,
            lane: 2,
            ..Default::default()
        },
        v1::Answer {
            first: 93,
            last: 93,
            verdict: v1::Verdict::NeedSchema.into(),
            schema_id: schema().id,
            lane: 2,
            ..Default::default()
        },
    ];
    answers.extend(refusals);
    check("answers", &to_agent(Message::Answers(v1::Answers { epoch: 1, answers })));
    let too_many = v1::Answer {
        first: 112,
        last: 112,
        verdict: v1::Verdict::Refused.into(),
        refusal: v1::Refusal::TooMany.into(),
        ..Default::default()
    };
    check("answer_too_many", &to_agent(Message::Answers(v1::Answers { epoch: 1, answers: vec![too_many] })));
    check("ping", &to_agent(Message::Ping(v1::Ping { nonce: 9, wall_ms: 1_793_000_000_123 })));
    check("configuration", &to_agent(Message::Configuration(configuration())));
    check(
        "enroll_response",
        &v1::EnrollResponse {
            agent_id: "agent_7".to_owned(),
            certificate_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
            ca_bundle_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        },
    );
    check(
        "renew_response",
        &v1::RenewResponse {
            certificate_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
            ca_bundle_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        },
    );
}

#[test]
fn frames_and_the_identity_of_their_schema() {
    let (keyframe, delta) = bodies();
    let (first, next) = states();
    let mut state = State::zero(3);
    state.apply(&stored("frame_keyframe.bin", &keyframe)).expect("it decodes");
    assert_eq!(state, first);
    state.apply(&stored("frame_delta.bin", &delta)).expect("it decodes");
    assert_eq!(state, next);
    assert_eq!(keyframe, stored("frame_keyframe.bin", &keyframe));
    assert_eq!(delta, stored("frame_delta.bin", &delta));

    assert_eq!(schema().id.to_vec(), stored("schema_id.bin", &schema().id), "the identity of the same columns");
    schema::check(&schema()).expect("good");
    let slow = schema_with_cadence();
    assert_eq!(slow.id.to_vec(), stored("schema_id_cadence.bin", &slow.id), "the identity says the cadence");
    schema::check(&slow).expect("good");
}

#[test]
fn a_token() {
    let token = Token { address: "control.example:6481".to_owned(), ca_fingerprint: [0xca; 32], secret: [0x5e; 24] };
    let stored = String::from_utf8(stored("token.txt", token.to_string().as_bytes())).expect("text");
    assert_eq!(stored.parse::<Token>(), Ok(token));
}

#[test]
fn fields_of_a_later_version_are_passed_over() {
    // Field 99 of the envelope and of the ping: unknown to this version.
    let mut ping = v1::Ping { nonce: 9, wall_ms: 1 }.encode_to_vec();
    ping.extend([0x9a, 0x06, 3, b'n', b'e', b'w']);
    let mut bytes = vec![0x1a, ping.len() as u8];
    bytes.extend(&ping);
    bytes.extend([0x98, 0x06, 1]);
    let expected = to_agent(v1::to_agent::Message::Ping(v1::Ping { nonce: 9, wall_ms: 1 }));
    assert_eq!(v1::ToAgent::decode(bytes.as_slice()), Ok(expected));
}
