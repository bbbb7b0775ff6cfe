//! A backup that is made while records come: restored elsewhere, everything acknowledged before it is there.

use std::collections::BTreeSet;
use std::time::Duration;
use tongtu_tests::control::Control;
use tongtu_tests::person::Person;
use tongtu_tests::simulator::{Fleet, Simulator};
use tongtu_tests::{series, wait};

const PLAYED: u32 = 20;
const BACKUPS: &str = "/api/v1/backups";

/// Small enough that windows are compacted and dropped under the backup.
const SMALL_WINDOWS: &str = r#"
[telemetry]
commit_interval = "20ms"
window_span = "1s"
window_size = "32KiB"
"#;

/// Makes one and waits until it is there.
fn backup(control: &Control, system: &Person) -> String {
    let begun = system.ask(control, "POST", BACKUPS, None);
    assert_eq!(begun.status, 202, "{}", begun.text);
    wait::until(Duration::from_secs(60), "the backup is made", || {
        let list = system.ask(control, "GET", BACKUPS, None).ok().json();
        assert!(list["failed"].is_null(), "{list}");
        let newest = &list["items"][0];
        let is_made = list["making"].is_null() && newest["whole"] == true;
        is_made.then(|| newest["name"].as_str().expect("a name").to_owned()).ok_or(list.to_string())
    })
}

#[test]
fn what_was_acknowledged_before_a_backup_is_there_after_its_restoring() {
    let directory = tempfile::tempdir().expect("a folder");
    let begin_ms = wait::wall_ms();
    let mut control = Control::new(directory.path()).with_configuration(SMALL_WINDOWS);
    control.start();
    let security = Person::first(&control);
    let system = security.create(&control, "sys", "system_administrator");
    let token = control.enrolment_token(PLAYED);
    let fleet = Fleet { token: &token, agents: PLAYED, interval: "250ms", duration: "40s", scenario: None };
    let simulator = Simulator::start(directory.path(), &fleet);
    let log = directory.path().join("acknowledged.log");
    wait::until(Duration::from_secs(60), "every agent has frames", || {
        let known = if log.exists() { series::acknowledged(&log) } else { Default::default() };
        let few = known.values().map(BTreeSet::len).min().unwrap_or(0);
        (known.len() == PLAYED as usize && few >= 10)
            .then_some(())
            .ok_or(format!("{} agents, {few} frames", known.len()))
    });
    let before = series::acknowledged(&log);
    let name = backup(&control, &system);
    let agents = control.agents().len();
    drop(simulator);
    control.kill();

    let from = control.data.join("backups").join(&name);
    let from_text = from.to_str().expect("UTF-8").to_owned();
    let mut restored = Control::new(directory.path()).with_data(&directory.path().join("restored"));
    let done = restored.tongtu(&["restore", "--from", &from_text]);
    assert!(done.status.success(), "{}", done.stderr);
    let again = restored.tongtu(&["restore", "--from", &from_text]);
    assert!(!again.status.success() && again.stderr.contains("is not empty"), "{}", again.stderr);
    let verified = restored.tongtu(&["audit", "verify"]);
    assert!(verified.status.success(), "{}{}", verified.stdout, verified.stderr);
    restored.start();
    assert_eq!((restored.agents().len(), restored.hosts().len()), (agents, PLAYED as usize));
    for (agent, sequences) in before {
        let source = series::source_of(&restored, &agent);
        let raw =
            series::raw(&restored, &source, "tongtu_simulator_sequence", begin_ms - 60_000, wait::wall_ms() + 60_000);
        let there: BTreeSet<i64> = raw.iter().filter_map(|(_, value)| *value).collect();
        let lost: Vec<_> = sequences.difference(&there).collect();
        assert!(lost.is_empty(), "{agent}: acknowledged before the backup and not in it: {lost:?}");
    }
    // It goes on from there: the same people, who log in anew, and a log that is whole.
    assert_eq!(system.ask(&restored, "GET", BACKUPS, None).status, 401);
    let system = Person::again(&restored, "sys");
    assert_eq!(system.ask(&restored, "GET", BACKUPS, None).status, 200);
    let verified = restored.tongtu(&["audit", "verify"]);
    assert!(verified.status.success(), "{}{}", verified.stdout, verified.stderr);

    // A damaged one is named and not used.
    let database = from.join("tongtu.db");
    let mut bytes = std::fs::read(&database).expect("the copy");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&database, bytes).expect("written");
    let other = Control::new(directory.path()).with_data(&directory.path().join("other"));
    let refused = other.tongtu(&["restore", "--from", &from_text]);
    assert!(!refused.status.success() && refused.stderr.contains("tongtu.db is damaged"), "{}", refused.stderr);
    assert!(!other.data.exists(), "nothing of a damaged backup is left");
}
