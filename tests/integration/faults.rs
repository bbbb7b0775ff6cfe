//! What fails under control and agents: full disks on either side, and the database server.

use std::collections::BTreeSet;
use std::time::Duration;
use tongtu_tests::agent::Agent;
use tongtu_tests::control::Control;
use tongtu_tests::database;
use tongtu_tests::http;
use tongtu_tests::postgres::Postgres;
use tongtu_tests::process;
use tongtu_tests::series;
use tongtu_tests::simulator::{Fleet, Simulator};
use tongtu_tests::tmpfs::Tmpfs;
use tongtu_tests::wait::{self, Stopwatch};

const SOON: Duration = Duration::from_secs(60);
const EVERY_SECOND: &str = "[telemetry]\ncommit_interval = \"20ms\"\n";

fn acknowledged(simulator: &Simulator) -> usize {
    if simulator.log.exists() { series::acknowledged(&simulator.log).values().map(BTreeSet::len).sum() } else { 0 }
}

/// Waits until the fleet has got more acknowledgements.
#[track_caller]
fn more_acknowledgements(simulator: &Simulator) {
    let before = acknowledged(simulator);
    wait::until(SOON, "acknowledgements go on", || {
        let now = acknowledged(simulator);
        (now > before + 3).then_some(()).ok_or(format!("{before}, then {now}"))
    });
}

/// Fills the disk until control acknowledges nothing more.
#[track_caller]
fn fill(disk: &Tmpfs, simulator: &Simulator) {
    disk.fill();
    wait::until(SOON, "the disk is full for control", || {
        let before = acknowledged(simulator);
        let quiet = Stopwatch::start();
        while quiet.elapsed() < Duration::from_secs(3) {
            if acknowledged(simulator) > before {
                return Err("still acknowledging".to_owned());
            }
            wait::pause(Duration::from_millis(100));
        }
        Ok(())
    });
}

/// Whether everything acknowledged is in control, once.
#[track_caller]
fn all_there(control: &Control, simulator_log: &std::path::Path, begin_ms: i64) {
    for (agent, sequences) in series::acknowledged(simulator_log) {
        let source = series::source_of(control, &agent);
        let raw =
            series::raw(control, &source, "tongtu_simulator_sequence", begin_ms - 60_000, wait::wall_ms() + 60_000);
        let there: BTreeSet<i64> = raw.iter().filter_map(|(_, value)| *value).collect();
        assert_eq!(raw.len(), there.len(), "{agent}: some are there twice");
        let lost: Vec<_> = sequences.difference(&there).collect();
        assert!(lost.is_empty(), "{agent}: acknowledged and lost: {lost:?}");
    }
}

/// Control with its data on a small disk of its own, and a fleet that sends to it. Without root there is none.
struct SmallDisk {
    control: Control,
    simulator: Simulator,
    begin_ms: i64,
    disk: Tmpfs,
    _directory: tempfile::TempDir,
}

impl SmallDisk {
    fn start(duration: &str) -> Option<Self> {
        if !tongtu_tests::has("root, to mount a file system", tongtu_tests::is_root()) {
            return None;
        }
        let directory = tempfile::tempdir().expect("a folder");
        let disk = Tmpfs::mount(directory.path(), 32);
        let mut control =
            Control::new(directory.path()).with_data(&disk.path().join("control")).with_configuration(EVERY_SECOND);
        let begin_ms = wait::wall_ms();
        control.start();
        let token = control.enrolment_token(5);
        let fleet = Fleet { token: &token, agents: 5, interval: "500ms", duration, scenario: None };
        let simulator = Simulator::start(directory.path(), &fleet);
        more_acknowledgements(&simulator);
        Some(Self { control, simulator, begin_ms, disk, _directory: directory })
    }
}

#[test]
fn control_on_a_full_disk_says_later_and_recovers() {
    let Some(small) = SmallDisk::start("25s") else { return };
    let SmallDisk { disk, mut control, simulator, begin_ms, .. } = small;

    fill(&disk, &simulator);
    assert_eq!(http::get(&control.url("/healthz"), None).expect("control lives").status, 200);
    assert_eq!(control.agents().len(), 5, "what is known is still shown");

    disk.make_room();
    more_acknowledgements(&simulator);
    let log = simulator.log.clone();
    let figures = simulator.finish(Duration::from_secs(120));
    assert_eq!(figures["frames_open"], 0, "{figures}");
    assert_eq!(figures["frames_acknowledged"], figures["frames_made"], "refused for good: {figures}");
    all_there(&control, &log, begin_ms);
    // The file is sound: a start reads it again.
    control.kill();
    control.start();
    all_there(&control, &log, begin_ms);
}

#[test]
fn control_starts_on_a_full_disk_and_goes_on_when_there_is_room() {
    let Some(small) = SmallDisk::start("40s") else { return };
    let SmallDisk { disk, mut control, simulator, begin_ms, .. } = small;
    fill(&disk, &simulator);
    control.kill();

    control.spawn();
    wait::until(SOON, "what is known is shown", || {
        assert!(control.process().ended().is_none(), "it ended:\n{}", control.process().log());
        let answer = control.ask("/api/v1/agents")?;
        (answer.status == 200).then_some(()).ok_or(answer.text)
    });
    assert_eq!(control.agents().len(), 5);
    let ready = http::get(&control.url("/readyz"), None).expect("an answer");
    assert!(ready.status == 503 && ready.text.contains("the disk is full"), "{}", ready.text);

    disk.make_room();
    more_acknowledgements(&simulator);
    control.wait_ready();
    let log = simulator.log.clone();
    let figures = simulator.finish(Duration::from_secs(120));
    assert_eq!(figures["frames_open"], 0, "{figures}");
    all_there(&control, &log, begin_ms);

    // Stopped in order, control leaves nothing that a start could use again: it runs, or says why not.
    assert!(control.interrupt().success());
    disk.fill();
    control.spawn();
    let full = wait::until(SOON, "it runs or has ended", || match control.process().ended() {
        Some(status) => Ok(Some(status)),
        None => control.ask("/api/v1/agents").and_then(|answer| match answer.status {
            200 => Ok(None),
            _ => Err(answer.text),
        }),
    });
    if let Some(status) = full {
        assert!(!status.success());
        let said = control.process().log();
        assert!(said.lines().last().is_some_and(|line| line.contains("full")), "{said}");
    }
    control.kill();
    disk.make_room();
    control.start();
    all_there(&control, &log, begin_ms);
}

#[test]
fn an_agent_on_a_full_disk_goes_on_and_reports_what_is_lost() {
    if !tongtu_tests::has("root, to mount a file system", tongtu_tests::is_root()) {
        return;
    }
    let directory = tempfile::tempdir().expect("a folder");
    let disk = Tmpfs::mount(directory.path(), 8);
    let mut control = Control::new(directory.path()).with_configuration(EVERY_SECOND);
    let begin_ms = wait::wall_ms();
    control.start();
    let mut agent = Agent::lab(directory.path(), "lab").with_data(&disk.path().join("agent"));
    agent.enroll(&control).start();
    let there = |control: &Control| -> BTreeSet<i64> {
        let Some(source) = series::source_if_any(control, &agent.id()) else { return BTreeSet::new() };
        let raw = series::raw(control, &source, "tongtu_lab_sequence", begin_ms - 60_000, wait::wall_ms() + 60_000);
        assert_eq!(raw.len(), raw.iter().map(|frame| frame.1).collect::<BTreeSet<_>>().len(), "some are there twice");
        raw.iter().filter_map(|(_, value)| *value).collect()
    };
    wait::until(SOON, "the first frames", || (there(&control).len() > 2).then_some(()).ok_or(String::new()));

    // Without control the spool must take everything, and has no room.
    control.kill();
    disk.fill();
    let full_from = *agent.made().0.last().expect("a number");
    wait::until(SOON, "frames are made on a full disk", || {
        let now = *agent.made().0.last().expect("a number");
        (now > full_from + 4).then_some(()).ok_or(format!("{now}"))
    });
    disk.make_room();
    let room_from = *agent.made().0.last().expect("a number");
    control.start();
    wait::until(SOON, "frames arrive again", || {
        let there = there(&control);
        let after = there.range(room_from + 2..).count();
        (after > 3).then_some(()).ok_or(format!("{after} of {there:?}"))
    });
    let (all, _) = agent.made();
    let there = there(&control);
    let last = *there.last().expect("a number");
    for number in all.range(..last).filter(|number| !there.contains(number)) {
        assert!((full_from - 1..=room_from + 1).contains(number), "{number} was lost while there was room");
    }
}

#[test]
fn postgresql_is_met_over_tls_as_the_url_demands() {
    let Some(mut postgres) = Postgres::start() else { return };
    let directory = tempfile::tempdir().expect("a folder");
    // By the name that will stand in its certificate.
    let url = postgres.url().replace("127.0.0.1", "localhost");
    let start = |query: &str| {
        let configuration = format!("[database]\nurl = \"{url}?{query}\"\n");
        Control::new(directory.path()).with_configuration(&configuration)
    };
    // The one sentence of a start that fails.
    let refused = |query: &str| {
        let output = process::run(start(query).command(), SOON);
        assert!(!output.status.success(), "{query}");
        output.stderr.lines().last().unwrap_or_default().to_owned()
    };
    let said = refused("sslmode=require");
    assert!(said.contains("offers no TLS") && said.contains("ssl = on"), "{said}");

    let root = directory.path().join("root.pem");
    std::fs::write(&root, postgres.speak_tls("localhost")).expect("room");
    let said = refused("sslmode=verify-full");
    assert!(said.contains("does not prove who it is"), "its authority is not known: {said}");
    let said = refused("sslmode=verify-full&sslrootcert=/nowhere.pem");
    assert!(said.contains("/nowhere.pem") && said.contains("cannot be read"), "{said}");
    let root = root.display();
    let said = refused(&format!("sslmode=verify-full&sslrootcert={root}&host=127.0.0.1"));
    assert!(said.contains("does not prove who it is"), "the certificate is another host's: {said}");

    let connections = |encrypted: bool| {
        let query = format!(
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
             WHERE application_name = 'tongtu' AND ssl = {encrypted}"
        );
        database::number(&postgres.url(), &query)
    };
    for (query, encrypted) in [
        (format!("sslmode=verify-full&sslrootcert={root}"), true),
        (format!("sslmode=require&sslrootcert={root}"), true),
        (String::new(), true),
        ("sslmode=disable".to_owned(), false),
    ] {
        let mut control = start(&query);
        control.start();
        assert!(connections(encrypted) > 0 && connections(!encrypted) == 0, "{query}");
        assert!(control.interrupt().success());
    }
}

#[test]
fn kill_9_of_postgresql_loses_nothing() {
    let Some(mut postgres) = Postgres::start() else { return };
    let directory = tempfile::tempdir().expect("a folder");
    let configuration = format!(
        "{EVERY_SECOND}window_size = \"64KiB\"\nwindow_span = \"1s\"\n[database]\nurl = \"{}\"\n",
        postgres.url()
    );
    let mut control = Control::new(directory.path()).with_configuration(&configuration);
    let begin_ms = wait::wall_ms();
    control.start();
    let token = control.enrolment_token(5);
    let fleet = Fleet { token: &token, agents: 5, interval: "500ms", duration: "40s", scenario: None };
    let simulator = Simulator::start(directory.path(), &fleet);
    for _ in 0..3 {
        more_acknowledgements(&simulator);
        postgres.kill();
        postgres.restart();
        // Control may have ended, as it no longer holds the lock of the one that writes.
        if control.process().ended().is_some() {
            control.kill();
            control.start();
        }
    }
    more_acknowledgements(&simulator);
    let log = simulator.log.clone();
    let figures = simulator.finish(Duration::from_secs(120));
    assert_eq!(figures["frames_open"], 0, "{figures}");
    all_there(&control, &log, begin_ms);
    control.kill();
    control.start();
    all_there(&control, &log, begin_ms);
}
