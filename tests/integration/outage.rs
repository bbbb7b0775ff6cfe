//! Control is away for a day: the newest frames come first, the day behind them, and nothing twice,
//! however often and however late it is sent.

use std::collections::BTreeSet;
use std::time::Duration;
use tongtu_tests::agent::Agent;
use tongtu_tests::control::Control;
use tongtu_tests::series;
use tongtu_tests::simulator::{Fleet, Simulator};
use tongtu_tests::wait::{self, Stopwatch};

const MINUTE: Duration = Duration::from_secs(60);
const DAY_MS: i64 = 86_400_000;

#[test]
fn a_day_of_backlog_follows_the_live_frames_without_loss() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path()).with_configuration("[telemetry]\nwindow_size = \"256KiB\"\n");
    control.start();
    let token = control.enrolment_token(3);
    let scenario = "pacing = \"backlog\"\nhistory = \"24h\"\n[[group]]\nname = \"away\"\nhost = \"small\"\n";
    let fleet = Fleet { token: &token, agents: 3, interval: "15s", duration: "20s", scenario: Some(scenario) };
    let begin_ms = wait::wall_ms();
    let simulator = Simulator::start(directory.path(), &fleet);
    let log = simulator.log.clone();
    let figures = simulator.finish(3 * MINUTE);
    assert_eq!(figures["frames_open"], 0, "{figures}");
    assert_eq!(figures["frames_acknowledged"], figures["frames_made"], "{figures}");

    let acknowledged = series::acknowledged(&log);
    assert_eq!(acknowledged.len(), 3);
    for (agent, sequences) in &acknowledged {
        assert!(sequences.len() >= 5_760, "{agent}: a day has 5,760 frames, not {}", sequences.len());
        let source = series::source_of(&control, agent);
        let raw = series::raw(
            &control,
            &source,
            "tongtu_simulator_sequence",
            begin_ms - DAY_MS - 60_000,
            wait::wall_ms() + 60_000,
        );
        let there: BTreeSet<i64> = raw.iter().filter_map(|(_, value)| *value).collect();
        assert_eq!(raw.len(), there.len(), "{agent}: some are there twice");
        assert_eq!(&there, sequences, "{agent}");
        // In the order of instants the numbers are those of the order of making: no instant is wrong.
        assert!(raw.is_sorted(), "{agent}: instants and numbers disagree");
        let gaps: Vec<i64> = raw.windows(2).map(|two| two[1].0 - two[0].0).filter(|gap| *gap > 16_000).collect();
        assert!(gaps.len() <= 1, "{agent}: gaps of {gaps:?} ms");
    }
}

/// The order in which the simulator saw acknowledgements: some of the newest must come before the oldest.
#[test]
fn live_frames_do_not_wait_for_the_backlog() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path());
    control.start();
    let token = control.enrolment_token(1);
    let scenario = "pacing = \"backlog\"\nhistory = \"24h\"\n[[group]]\nname = \"away\"\n";
    let fleet = Fleet { token: &token, agents: 1, interval: "1s", duration: "5s", scenario: Some(scenario) };
    let simulator = Simulator::start(directory.path(), &fleet);
    let log = simulator.log.clone();
    let figures = simulator.finish(5 * MINUTE);
    assert_eq!(figures["frames_open"], 0, "{figures}");
    let order = series::acknowledged_in_order(&log);
    let newest_of_history = 86_400;
    let first_live = order.iter().position(|sequence| *sequence >= newest_of_history).expect("live frames");
    assert!(
        first_live < order.len() / 4,
        "the first live frame was acknowledged after {first_live} of {} frames",
        order.len()
    );
}

/// A day in the disk spool of the real runtime, written frame by frame with the clock of then.
#[test]
fn a_day_in_the_disk_spool_follows_the_live_frames_without_loss() {
    const DAY: u32 = 5_760;
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path()).with_configuration("[telemetry]\nwindow_size = \"256KiB\"\n");
    control.start();
    let mut agent = Agent::lab(directory.path(), "lab");
    agent.enroll(&control);
    // A day of the source's interval is not more points than one answer has.
    std::fs::write(agent.data.join("agent.toml"), "interval = \"5s\"\n").expect("its configuration");
    control.interrupt();
    let begin_ms = wait::wall_ms() - DAY_MS;
    agent.spool_history(DAY);
    agent.start();
    wait::until(MINUTE, "control is missed", || {
        let log = agent.process().log();
        log.contains("refuses the connection").then_some(()).ok_or(log)
    });

    control.start();
    let returned = Stopwatch::start();
    let id = agent.id();
    let there = |control: &Control| -> Vec<(i64, i64)> {
        let Some(source) = series::source_if_any(control, &id) else { return Vec::new() };
        let raw = series::raw(control, &source, "tongtu_lab_sequence", begin_ms - 60_000, wait::wall_ms() + 60_000);
        raw.iter().filter_map(|&(at, value)| Some((at, value?))).collect()
    };
    let is_live = |frames: &[(i64, i64)]| frames.iter().any(|frame| frame.1 > i64::from(DAY));
    let behind = |frames: &[(i64, i64)]| frames.iter().filter(|frame| frame.1 <= i64::from(DAY)).count();
    wait::until(Duration::from_secs(15), "live within an interval of a host", || {
        let frames = there(&control);
        let (live, behind) = (is_live(&frames), behind(&frames));
        assert!(live || behind < DAY as usize, "the day came before the present");
        live.then_some(()).ok_or(format!("{behind} frames of the day"))
    });
    let live_after = returned.elapsed();
    wait::until(MINUTE, "the day is replayed", || {
        let count = behind(&there(&control));
        (count >= DAY as usize).then_some(()).ok_or(format!("{count} frames"))
    });
    println!("live after {live_after:?}, all of the day after {:?}", returned.elapsed());

    // And the same when the windows that took it are compacted: each once, at its instant.
    agent.interrupt();
    series::compact(&control, directory.path());
    let frames = there(&control);
    let numbers: BTreeSet<i64> = frames.iter().map(|frame| frame.1).collect();
    assert_eq!(numbers.len(), frames.len(), "some are there twice");
    let (_, surely) = agent.made();
    let missing: Vec<_> = surely.into_iter().chain(1..=i64::from(DAY)).filter(|it| !numbers.contains(it)).collect();
    assert!(missing.is_empty(), "lost: {missing:?}");
    let day = &frames[..DAY as usize];
    assert!(day.windows(2).all(|two| two[1] == (two[0].0 + 15_000, two[0].1 + 1)), "not at their instants: {day:?}");
}

#[test]
fn a_spool_sent_again_after_its_window_was_dropped_changes_nothing() {
    let directory = tempfile::tempdir().expect("a folder");
    let small = "[telemetry]\ncommit_interval = \"20ms\"\nwindow_span = \"1s\"\nwindow_size = \"64KiB\"\n";
    let mut control = Control::new(directory.path()).with_configuration(small);
    let begin_ms = wait::wall_ms();
    control.start();
    let mut agent = Agent::lab(directory.path(), "lab");
    agent.enroll(&control).start();
    wait::until(MINUTE, "the first frame", || {
        series::source_if_any(&control, &agent.id()).map(|_| ()).ok_or_else(|| "no source".to_owned())
    });

    // A spool of some seconds, and a copy of it.
    control.kill();
    let begin = *agent.made().0.last().expect("a number");
    wait::until(MINUTE, "frames wait in the spool", || {
        let now = *agent.made().0.last().expect("a number");
        (now > begin + 5).then_some(()).ok_or(format!("{now}"))
    });
    agent.kill();
    let copy = directory.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(&agent.data).arg(&copy).status().expect("cp");
    assert!(copied.success());
    let (_, surely) = agent.made();

    control.start();
    let there = |control: &Control| -> Vec<i64> {
        let source = series::source_of(control, &agent.id());
        let raw = series::raw(control, &source, "tongtu_lab_sequence", begin_ms - 60_000, wait::wall_ms() + 60_000);
        raw.iter().filter_map(|(_, value)| *value).collect()
    };
    let depths = |control: &Control, since_ms: i64| -> Vec<i64> {
        let source = series::source_of(control, &agent.id());
        let raw = series::raw(control, &source, "tongtu_agent_spool_records", since_ms, wait::wall_ms() + 60_000);
        raw.iter().filter_map(|(_, value)| *value).collect()
    };
    // Runs the agent until it says itself that a spool of several records is answered.
    let run_until_empty = |control: &Control| {
        let since_ms = wait::wall_ms();
        let mut again = Agent::lab(directory.path(), "lab");
        again.start();
        wait::until(MINUTE, "the spool is answered", || {
            let depths = depths(control, since_ms);
            let emptied = depths.iter().any(|depth| *depth >= 4) && depths.last().is_some_and(|depth| *depth <= 1);
            emptied.then_some(()).ok_or(format!("records in the spool: {depths:?}"))
        });
        again.kill();
    };
    run_until_empty(&control);
    let once = there(&control);
    let missing: Vec<_> = surely.iter().filter(|number| !once.contains(number)).collect();
    assert!(missing.is_empty(), "lost: {missing:?}");

    // The windows that took them are compacted and dropped.
    series::compact(&control, directory.path());
    std::fs::remove_dir_all(&agent.data).expect("the drained spool");
    std::fs::rename(&copy, &agent.data).expect("the copy in its place");
    run_until_empty(&control);
    let twice = there(&control);
    let distinct: BTreeSet<i64> = twice.iter().copied().collect();
    assert_eq!(twice.len(), distinct.len(), "some are there twice: {once:?}, then {twice:?}");
}
