//! kill -9 of control and of agents at random moments, with windows so small that compaction runs
//! between and under them. Afterwards everything acknowledged is there exactly once.
//!
//! Two accounts that control does not write: the simulator's log of acknowledgements (its queue is
//! in memory), and the log of the laboratory's agents (the real runtime with its spool on disk),
//! which says what was made before anything else saw it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tongtu_tests::agent::Agent;
use tongtu_tests::control::Control;
use tongtu_tests::database;
use tongtu_tests::postgres::Postgres;
use tongtu_tests::random::Random;
use tongtu_tests::series::{self, Raw};
use tongtu_tests::simulator::{Fleet, Simulator};
use tongtu_tests::wait;

/// The least that a run must survive.
const KILLS: u32 = 200;
/// How many agents the simulator plays.
const PLAYED: u32 = 20;
/// How many agents have a spool on disk.
const LAB: usize = 2;

/// Small enough that several windows are compacted between two kills of control.
const SMALL_WINDOWS: &str = r#"
[telemetry]
commit_interval = "20ms"
window_span = "1s"
window_size = "32KiB"
"#;

#[test]
fn every_acknowledged_frame_is_there_once_after_200_kills() {
    let directory = tempfile::tempdir().expect("a folder");
    let control = Control::new(directory.path()).with_configuration(SMALL_WINDOWS);
    let url = database::sqlite(&control.data);
    survive(directory.path(), control, &url, KILLS);
}

/// The same promise on the other database; its own kill -9 is in `faults`.
#[test]
fn every_acknowledged_frame_is_there_once_on_postgresql() {
    let Some(postgres) = Postgres::start() else { return };
    let directory = tempfile::tempdir().expect("a folder");
    let configuration = format!("{SMALL_WINDOWS}[database]\nurl = \"{}\"\n", postgres.url());
    let control = Control::new(directory.path()).with_configuration(&configuration);
    survive(directory.path(), control, &postgres.url(), KILLS / 5);
}

/// Kills so often, and then checks.
fn survive(directory: &Path, mut control: Control, database: &str, kills: u32) {
    let mut random = Random::new();
    let begin_ms = wait::wall_ms();
    control.start();
    let mut agents: Vec<_> = (0..LAB)
        .map(|number| {
            let mut agent = Agent::lab(directory, &format!("lab-{number}"));
            agent.enroll(&control);
            agent.start();
            agent
        })
        .collect();
    let token = control.enrolment_token(PLAYED);
    let fleet = Fleet {
        token: &token,
        agents: PLAYED,
        interval: "250ms",
        duration: &format!("{}s", kills / 2),
        scenario: Some("[[group]]\nname = \"crash\"\nhost = \"large\"\n"),
    };
    let simulator = Simulator::start(directory, &fleet);
    wait::until(Duration::from_secs(30), "the fleet has enrolled", || {
        let enrolled = control.agents().len();
        (enrolled == LAB + PLAYED as usize).then_some(()).ok_or(format!("{enrolled} agents"))
    });

    let mut killed = BTreeMap::new();
    for _ in 0..kills {
        // From the first moments of a start to well after it.
        wait::pause(Duration::from_millis(random.below(900)));
        let victim = random.below(5);
        match usize::try_from(victim) {
            Ok(agent) if agent < LAB => {
                agents[agent].kill();
                agents[agent].start();
                *killed.entry("agent").or_insert(0) += 1;
            }
            _ => {
                control.kill();
                control.spawn();
                *killed.entry("control").or_insert(0) += 1;
            }
        }
    }
    control.wait_ready();
    let figures = simulator.finish(Duration::from_secs(180));
    eprintln!("kill -9: {killed:?}; {figures}");
    assert_eq!(figures["frames_open"], 0, "the fleet has no answer for some: {figures}");

    // What the lab's agents spooled arrives, too.
    for agent in &agents {
        let (_, expected) = agent.made();
        wait::until(Duration::from_secs(60), "the spool is empty", || {
            let there = values(&raw_of(&control, begin_ms, &agent.id(), "tongtu_lab_sequence"));
            let missing = expected.difference(&there).count();
            (missing == 0).then_some(()).ok_or(format!("{missing} of {} are missing", expected.len()))
        });
    }
    for agent in &mut agents {
        agent.kill();
    }
    check(&control, begin_ms, &agents, directory, kills);

    // And once more from what a start reads again.
    control.kill();
    control.start();
    check(&control, begin_ms, &agents, directory, kills);
    // It says something only if windows were compacted and dropped all the time.
    let windows = database::number(database, "SELECT MAX(id) FROM telemetry_window");
    let chunks = database::number(database, "SELECT COUNT(*) FROM telemetry_chunk");
    let open = database::number(database, "SELECT COUNT(*) FROM telemetry_window");
    eprintln!("{windows} windows, {open} of them there still, {chunks} chunks");
    assert!(windows >= i64::from(kills / 5) && chunks > 0, "too few windows ({windows}) were compacted");
}

/// Compares control's account with the two others.
fn check(control: &Control, begin_ms: i64, agents: &[Agent], directory: &Path, kills: u32) {
    for agent in agents {
        let raw = raw_of(control, begin_ms, &agent.id(), "tongtu_lab_sequence");
        let there = values(&raw);
        assert_eq!(raw.len(), there.len(), "{}: some are there twice", agent.id());
        let (made, surely) = agent.made();
        assert!(there.is_subset(&made), "{}: control has numbers that nobody made", agent.id());
        assert!(
            surely.len() > kills as usize / 10,
            "{}: too few frames ({}) to say anything",
            agent.id(),
            surely.len()
        );
        let missing: Vec<_> = surely.difference(&there).collect();
        assert!(missing.is_empty(), "{}: lost: {missing:?}", agent.id());
    }
    let acknowledged = series::acknowledged(&directory.join("acknowledged.log"));
    let frames: usize = acknowledged.values().map(BTreeSet::len).sum();
    assert_eq!(acknowledged.len(), PLAYED as usize, "agents with an acknowledgement");
    assert!(frames > 2 * kills as usize, "too few frames ({frames}) to say anything");
    for (agent, sequences) in acknowledged {
        let raw = raw_of(control, begin_ms, &agent, "tongtu_simulator_sequence");
        let there = values(&raw);
        assert_eq!(raw.len(), there.len(), "{agent}: some are there twice");
        let lost: Vec<_> = sequences.difference(&there).collect();
        assert!(lost.is_empty(), "{agent}: acknowledged and lost: {lost:?}");
    }
}

/// The frames of an agent's only source.
fn raw_of(control: &Control, begin_ms: i64, agent: &str, metric: &str) -> Raw {
    series::raw(control, &series::source_of(control, agent), metric, begin_ms - 60_000, wait::wall_ms() + 60_000)
}

fn values(raw: &Raw) -> BTreeSet<i64> {
    raw.iter().filter_map(|(_, value)| *value).collect()
}
