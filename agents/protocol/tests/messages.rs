//! Every message and field of the wire, enumerated. What control can say to an agent is data about
//! what to measure and what became of records; nothing makes an agent execute, write or open anything.
//! Whoever adds a field to that half meets this test, and must be able to say the same of it.

use std::collections::{BTreeMap, BTreeSet};

/// As the build listed them from the `.proto`.
const FIELDS: &str = include_str!(concat!(env!("OUT_DIR"), "/fields.txt"));

/// Everything an agent can be told, and what it does with it.
const TOLD: &[(&str, &str)] = &[
    // Kept in its own data directory, under names of the agent's own.
    ("EnrollResponse.agent_id", "string"),
    ("EnrollResponse.certificate_pem", "string"),
    ("EnrollResponse.ca_bundle_pem", "string"),
    ("RenewResponse.certificate_pem", "string"),
    ("RenewResponse.ca_bundle_pem", "string"),
    // The stream.
    ("ToAgent.welcome", "Welcome"),
    ("ToAgent.answers", "Answers"),
    ("ToAgent.ping", "Ping"),
    ("ToAgent.configuration", "DesiredConfiguration"),
    // Compared, shown, or a bound.
    ("Welcome.protocol", "uint32"),
    ("Welcome.agent_id", "string"),
    ("Welcome.wall_ms", "int64"),
    ("Welcome.new_epoch", "bool"),
    ("Welcome.backlog_in_flight", "uint32"),
    ("Welcome.configuration", "DesiredConfiguration"),
    // Which of the collectors that the agent was built with run, and how often; whom it trusts.
    ("DesiredConfiguration.version", "uint64"),
    ("DesiredConfiguration.interval_ms", "uint32"),
    ("DesiredConfiguration.collectors", "repeated CollectorSetting"),
    ("DesiredConfiguration.ca_bundle_pem", "string"),
    ("CollectorSetting.name", "string"),
    ("CollectorSetting.enabled", "bool"),
    ("CollectorSetting.interval_ms", "uint32"),
    // What became of records.
    ("Answers.epoch", "fixed64"),
    ("Answers.answers", "repeated Answer"),
    ("Answer.first", "uint64"),
    ("Answer.last", "uint64"),
    ("Answer.verdict", "Verdict"),
    ("Answer.refusal", "Refusal"),
    ("Answer.retry_after_ms", "uint32"),
    ("Answer.schema_id", "bytes"),
    ("Answer.lane", "uint32"),
    // Answered with the agent's clocks.
    ("Ping.nonce", "uint64"),
    ("Ping.wall_ms", "int64"),
];

struct Wire {
    calls: BTreeSet<&'static str>,
    /// Message → its fields with their types.
    messages: BTreeMap<&'static str, Vec<(&'static str, &'static str)>>,
}

fn wire() -> Wire {
    let mut wire = Wire { calls: BTreeSet::new(), messages: BTreeMap::new() };
    for line in FIELDS.lines() {
        if let Some(call) = line.strip_prefix("rpc ") {
            wire.calls.insert(call);
            continue;
        }
        let field = line.strip_prefix("field ").expect("a call or a field");
        let (name, kind) = field.split_once(' ').expect("a name and a type");
        let (kind, _number) = kind.split_once(" = ").expect("a type and a number");
        let (message, _) = name.split_once('.').expect("a message and a field");
        wire.messages.entry(message).or_default().push((name, kind));
    }
    wire
}

/// The fields of a message and of everything in it.
fn reachable(wire: &Wire, from: &'static str) -> BTreeSet<(&'static str, &'static str)> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(message) = next.pop() {
        for &(name, kind) in wire.messages.get(message).into_iter().flatten() {
            if found.insert((name, kind)) {
                next.push(kind.trim_start_matches("repeated "));
            }
        }
    }
    found
}

#[test]
fn an_agent_is_called_by_nobody() {
    // It opens all calls itself, so control can only answer.
    let expected = [
        "Enrolment.Enroll EnrollRequest -> EnrollResponse",
        "Telemetry.Renew RenewRequest -> RenewResponse",
        "Telemetry.Session ToControl -> ToAgent",
    ];
    assert_eq!(wire().calls, BTreeSet::from(expected));
}

#[test]
fn what_control_can_say_is_known_and_harmless() {
    let wire = wire();
    let said: BTreeSet<_> = ["ToAgent", "EnrollResponse", "RenewResponse"]
        .into_iter()
        .flat_map(|message| reachable(&wire, message))
        .collect();
    let known: BTreeSet<_> = TOLD.iter().copied().collect();
    let new: Vec<_> = said.difference(&known).collect();
    let gone: Vec<_> = known.difference(&said).collect();
    assert!(new.is_empty() && gone.is_empty(), "new: {new:?}; gone: {gone:?}");
}

#[test]
fn no_field_is_named_for_an_action() {
    let wire = wire();
    let actions = [
        "exec",
        "command",
        "run",
        "shell",
        "script",
        "argv",
        "environment",
        "path",
        "file",
        "directory",
        "write",
        "delete",
        "remove",
        "open",
        "listen",
        "port",
        "url",
        "address",
        "host_key",
        "upload",
        "download",
        "install",
        "binary",
        "plugin",
        "module",
        "eval",
        "expression",
        "program",
    ];
    for (name, _) in wire.messages.values().flatten().filter(|(name, _)| TOLD.iter().any(|(told, _)| told == name)) {
        let (_, field) = name.split_once('.').expect("a message and a field");
        for word in field.split('_') {
            assert!(!actions.contains(&word), "{name} sounds like an action");
        }
    }
}

#[test]
fn every_message_is_of_one_half_or_both() {
    let wire = wire();
    let used: BTreeSet<_> =
        ["ToControl", "EnrollRequest", "RenewRequest", "ToAgent", "EnrollResponse", "RenewResponse"]
            .into_iter()
            .flat_map(|message| reachable(&wire, message))
            .collect();
    for (name, _) in wire.messages.values().flatten() {
        assert!(used.iter().any(|(used, _)| used == name), "nothing carries {name}");
    }
}

#[test]
fn every_repeated_field_that_an_agent_sends_is_bounded_before_it_is_decoded() {
    let wire = wire();
    let repeated: BTreeSet<_> = reachable(&wire, "ToControl")
        .into_iter()
        .filter(|(_, kind)| kind.starts_with("repeated "))
        .map(|(name, _)| name)
        .collect();
    // As in `src/wire.rs`; a field that is new here needs a line there.
    let bounded = [
        "Boot.anchors",
        "Column.labels",
        "Define.boots",
        "Define.schemas",
        "Define.sources",
        "Event.attributes",
        "Facts.facts",
        "LostRanges.ranges",
        "Records.records",
        "Schema.columns",
    ];
    assert_eq!(repeated, BTreeSet::from(bounded));
}
