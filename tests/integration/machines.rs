//! What happens to machines: a clock that steps, a snapshot that is restored, a reboot. Control
//! shows what was, with every frame at its instant and once.

use std::collections::BTreeSet;
use std::time::Duration;
use tongtu_tests::control::Control;
use tongtu_tests::series::{self, Raw};
use tongtu_tests::simulator::{Fleet, Simulator};
use tongtu_tests::wait;

const MINUTE: Duration = Duration::from_secs(60);

/// Plays one agent with an event, and returns control, its report of the agent while it runs,
/// the frames and the figures.
fn play(
    directory: &std::path::Path,
    event: &str,
    duration: &str,
) -> (Control, serde_json::Value, Raw, serde_json::Value) {
    let mut control = Control::new(directory);
    control.start();
    let begin_ms = wait::wall_ms();
    let token = control.enrolment_token(1);
    let scenario = format!("[[group]]\nname = \"m\"\nhost = \"small\"\n[[group.event]]\nat = \"3s\"\n{event}\n");
    let fleet = Fleet { token: &token, agents: 1, interval: "500ms", duration, scenario: Some(&scenario) };
    let mut simulator = Simulator::start(directory, &fleet);
    let mut report = serde_json::Value::Null;
    while simulator.process().ended().is_none() {
        if let [agent] = control.agents().as_slice()
            && agent["connected"] == true
        {
            report = agent.clone();
        }
        wait::pause(Duration::from_millis(100));
    }
    let log = simulator.log.clone();
    let figures = simulator.finish(MINUTE);
    assert_eq!(figures["frames_open"], 0, "{figures}");
    let agent = series::acknowledged(&log).into_keys().next().expect("an agent");
    let source = series::source_of(&control, &agent);
    let metric = "tongtu_simulator_sequence";
    let raw = series::raw(&control, &source, metric, begin_ms - 7_200_000, wait::wall_ms() + 7_200_000);
    assert_eq!(raw.len() as u64, figures["frames_acknowledged"].as_u64().expect("a number"), "{raw:?}");
    let instants: BTreeSet<i64> = raw.iter().map(|frame| frame.0).collect();
    assert_eq!(instants.len(), raw.len(), "two frames of one instant: {raw:?}");
    (control, report, raw, figures)
}

/// The longest time between two frames.
fn longest_gap_ms(raw: &Raw) -> i64 {
    raw.windows(2).map(|two| two[1].0 - two[0].0).max().expect("frames")
}

#[test]
fn a_clock_that_steps_makes_neither_gap_nor_overlap_and_is_shown() {
    std::thread::scope(|both| {
        for (by, offset_ms) in [("1h", 3_600_000), ("-1h", -3_600_000)] {
            both.spawn(move || {
                let directory = tempfile::tempdir().expect("a folder");
                let event = format!("kind = \"clock_step\"\nby = \"{by}\"");
                // Control asks an agent for its clock every two minutes.
                let (_control, report, raw, _) = play(directory.path(), &event, "140s");
                assert!(raw.is_sorted(), "{by}: out of order: {raw:?}");
                assert!(longest_gap_ms(&raw) < 2_000, "{by}: {raw:?}");
                let shown = report["clock_offset_ms"].as_i64().unwrap_or_else(|| panic!("no offset: {report}"));
                assert!((shown - offset_ms).abs() < 5_000, "{by}: shown as {shown} ms");
            });
        }
    });
}

#[test]
fn a_restored_snapshot_goes_on_in_a_new_epoch() {
    let directory = tempfile::tempdir().expect("a folder");
    let (_control, _, raw, figures) = play(directory.path(), "kind = \"restored_snapshot\"", "12s");
    assert_eq!(figures["new_epochs"], 1, "{figures}");
    // Its numbers repeat, and each frame is there.
    let numbers: BTreeSet<_> = raw.iter().map(|frame| frame.1).collect();
    assert!(numbers.len() < raw.len(), "no number came twice: {raw:?}");
}

#[test]
fn a_reboot_is_a_gap() {
    let directory = tempfile::tempdir().expect("a folder");
    let (_control, _, raw, _) = play(directory.path(), "kind = \"reboot\"\nlasts = \"4s\"", "12s");
    let gap = longest_gap_ms(&raw);
    assert!((3_500..6_500).contains(&gap), "a gap of {gap} ms for 4 s: {raw:?}");
}
