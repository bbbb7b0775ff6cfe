//! What control desires of the agents of this machine: taken while they run, and kept.

use std::time::Duration;
use tongtu_tests::agent::Agent;
use tongtu_tests::control::Control;
use tongtu_tests::{http, series, wait};

const SOON: Duration = Duration::from_secs(60);
const PATH: &str = "/api/v1/agents/configuration";

/// The interval at which the only agent says that it reports.
fn interval_ms(control: &Control) -> Option<u64> {
    let sources = control.ask("/api/v1/sources").ok().filter(|answer| answer.status == 200)?.json();
    sources["items"][0]["interval_ms"].as_u64()
}

#[test]
fn an_interval_is_taken_at_once_and_kept_while_control_is_away() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path());
    control.start();
    let mut agent = Agent::lab(directory.path(), "lab");
    agent.enroll(&control).start();
    wait::until(SOON, "the agent's own interval", || {
        let now = interval_ms(&control);
        (now == Some(1_000)).then_some(()).ok_or(format!("{now:?}"))
    });

    let process = agent.process().id();
    let mut wanted = control.get(PATH).json();
    wanted["interval_ms"] = 3_000.into();
    http::request("PUT", &control.url(PATH), Some(&control.token()), Some(&wanted)).expect("an answer").ok();
    wait::until(SOON, "the desired interval", || {
        let now = interval_ms(&control);
        (now == Some(3_000)).then_some(()).ok_or(format!("{now:?}"))
    });
    assert_eq!(agent.process().id(), process);
    assert!(agent.process().ended().is_none(), "it was not restarted");

    // Started while nobody tells it anything, it goes on as it was told.
    control.kill();
    agent.kill();
    let (before, _) = agent.made();
    let restarted_ms = wait::wall_ms();
    agent.start();
    wait::until(SOON, "frames without control", || {
        let (now, _) = agent.made();
        (now.len() >= before.len() + 4).then_some(()).ok_or(format!("{} frames", now.len()))
    });
    // Control sets the instants right by what it knows of the clock, by which the last may seem to come later.
    let until_ms = wait::wall_ms() + 1_000;
    control.start();
    let source = series::source_of(&control, &agent.id());
    let instants = wait::until(SOON, "they arrive", || {
        let raw = series::raw(&control, &source, "tongtu_lab_sequence", restarted_ms, until_ms);
        (raw.len() >= 4).then(|| raw.iter().map(|(at, _)| *at).collect::<Vec<_>>()).ok_or(format!("{raw:?}"))
    });
    // The first comes at once, the others in step; a busy machine may be late, never early.
    for pair in instants[1..].windows(2) {
        let between = pair[1] - pair[0];
        assert!(between > 2_000, "{between} ms between two frames: {instants:?}");
    }
}
