//! What control says of a series, and what the simulator says was acknowledged.

use crate::control::{Control, listed};
use crate::simulator::{Fleet, Simulator};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tongtu_agent_host::exporter;

/// The frames of a series: instant and value.
pub type Raw = Vec<(i64, Option<i64>)>;

/// The id of an agent's only source, once it has one.
///
/// # Panics
/// When it has several.
#[must_use]
#[track_caller]
pub fn source_if_any(control: &Control, agent: &str) -> Option<String> {
    let sources = listed(&control.get("/api/v1/sources?limit=10000").json());
    let mut own = sources.iter().filter(|source| source["agent"] == agent);
    let source = own.next()?["id"].as_str()?.to_owned();
    assert!(own.next().is_none(), "{agent} has several sources");
    Some(source)
}

/// The id of an agent's only source.
///
/// # Panics
/// When it has none, or several.
#[must_use]
#[track_caller]
pub fn source_of(control: &Control, agent: &str) -> String {
    source_if_any(control, agent).unwrap_or_else(|| panic!("{agent} has no source"))
}

/// The frames of one column, as they came.
///
/// # Panics
/// When the answer is not of the form.
#[must_use]
#[track_caller]
pub fn raw(control: &Control, source: &str, metric: &str, from_ms: i64, to_ms: i64) -> Raw {
    let route = format!("/api/v1/series?source={source}&metric={metric}&from_ms={from_ms}&to_ms={to_ms}");
    let answer = control.ask(&route).unwrap_or_else(|err| panic!("{route}: {err}"));
    // Nothing was measured then.
    if answer.status == 404 {
        return Raw::new();
    }
    let answer = answer.ok().json();
    let series = &answer["series"][0];
    let instants = series["instants_ms"].as_array().unwrap_or_else(|| panic!("no instants: {answer}"));
    let values = series["value"].as_array().unwrap_or_else(|| panic!("no values: {answer}"));
    let frames = instants.iter().zip(values).filter(|(_, value)| !value.is_null());
    frames.map(|(at, value)| (at.as_i64().expect("ms"), value.as_f64().map(|value| value as i64))).collect()
}

/// The sequences that the simulator saw acknowledged, by agent.
///
/// # Panics
/// When its log is not of the form.
#[must_use]
#[track_caller]
pub fn acknowledged(log: &Path) -> BTreeMap<String, BTreeSet<i64>> {
    let text = std::fs::read_to_string(log).expect("the simulator's log");
    let mut by_agent: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for line in whole.lines() {
        let mut parts = line.split(' ');
        let agent = parts.next().expect("an agent").to_owned();
        let sequence = parts.nth(1).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("not a line: {line}"));
        by_agent.entry(agent).or_default().insert(sequence);
    }
    by_agent
}

/// The sequences of the log, in the order in which they were acknowledged.
///
/// # Panics
/// When it is not of the form.
#[must_use]
#[track_caller]
pub fn acknowledged_in_order(log: &Path) -> Vec<i64> {
    let text = std::fs::read_to_string(log).expect("the simulator's log");
    text.lines().filter_map(|line| line.split(' ').nth(2)?.parse().ok()).collect()
}

/// The paths of all targets of service discovery.
#[must_use]
pub fn target_paths(targets: &serde_json::Value) -> Vec<String> {
    let groups = targets.as_array().map(Vec::as_slice).unwrap_or_default();
    groups.iter().filter_map(|group| Some(group["labels"]["__metrics_path__"].as_str()?.to_owned())).collect()
}

/// Waits until every window that is open now is compacted and dropped: a fleet of its own fills it.
///
/// # Panics
/// When that does not happen.
#[track_caller]
pub fn compact(control: &Control, directory: &Path) {
    let compactions = || {
        let metrics = exporter::parse(&control.get("/metrics").text);
        let ok = vec![("result".to_owned(), "ok".to_owned())];
        metrics.get("tongtu_compactions_total").and_then(|family| family.series.get(&ok).copied()).unwrap_or(0.0)
    };
    let begin = compactions();
    for round in 0.. {
        let apart = directory.join(format!("fill-{round}"));
        std::fs::create_dir_all(&apart).expect("a folder");
        let token = control.enrolment_token(5);
        let scenario = "pacing = \"backlog\"\nhistory = \"1h\"\n[[group]]\nname = \"fill\"\n";
        let fleet = Fleet { token: &token, agents: 5, interval: "15s", duration: "1s", scenario: Some(scenario) };
        Simulator::start(&apart, &fleet).finish(Duration::from_secs(60));
        // The open one, and one begun after it.
        let done = compactions() - begin;
        if done >= 2.0 {
            return;
        }
        assert!(round < 20, "only {done} compactions");
    }
}
