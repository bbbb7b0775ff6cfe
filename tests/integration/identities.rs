//! Who an agent is: certificates of another authority, certificates that have expired, machines that
//! were copied. The real agent meets the real control; each fault is said clearly where it is seen, shown by the
//! API, counted by its reason, and harms nothing else.

use std::path::Path;
use std::time::Duration;
use tongtu_agent_host::exporter;
use tongtu_agent_runtime::link::{Credentials, Link, Trust};
use tongtu_agent_runtime::memory::MemoryQueue;
use tongtu_agent_runtime::session::{self, Ended};
use tongtu_agent_runtime::{clock, queue};
use tongtu_protocol::{codec::State, reason::Reason, schema::SchemaId, v1};
use tongtu_tests::agent::Agent;
use tongtu_tests::control::Control;
use tongtu_tests::wait;

const SOON: Duration = Duration::from_secs(60);

/// What control counts of a reason.
fn refused(control: &Control, reason: &str) -> f64 {
    let metrics = exporter::parse(&control.get("/metrics").text);
    let labels = vec![("reason".to_owned(), reason.to_owned())];
    let family = metrics.get("tongtu_agents_refused_total").expect("the counter");
    *family.series.get(&labels).unwrap_or_else(|| panic!("{reason} is not counted"))
}

#[track_caller]
fn until_refused(control: &Control, reason: &str, at_least: f64) {
    wait::until(SOON, &format!("{reason} is counted"), || {
        let count = refused(control, reason);
        (count >= at_least).then_some(()).ok_or(format!("{count}"))
    });
}

/// The only agent of a control.
#[track_caller]
fn only(control: &Control) -> serde_json::Value {
    let agents = control.agents();
    let [agent] = agents.as_slice() else { panic!("one agent, not {agents:?}") };
    agent.clone()
}

#[track_caller]
fn until_state(control: &Control, state: &str) -> serde_json::Value {
    wait::until(SOON, &format!("the agent is {state}"), || {
        let agent = only(control);
        if agent["state"] == state { Ok(agent) } else { Err(agent.to_string()) }
    })
}

#[track_caller]
fn until_said(agent: &mut Agent, words: &[&str]) {
    wait::until(SOON, &format!("the agent says {words:?}"), || {
        let log = agent.process().log();
        words.iter().all(|word| log.contains(word)).then_some(()).ok_or(log)
    });
}

fn rewrite(path: &Path, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(path).expect("a file of the agent");
    std::fs::write(path, change(text)).expect("a file of the agent");
}

#[test]
fn a_control_set_up_anew_is_told_from_the_one_an_agent_knows() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path());
    control.start();
    let mut agent = Agent::new(directory.path());
    agent.enroll(&control);
    control.interrupt();
    std::fs::remove_dir_all(&control.data).expect("the data of control");
    control.start();

    agent.start();
    until_said(&mut agent, &["another authority", "enrol again with --replace"]);
    until_refused(&control, "handshake_failed", 1.0);
    assert!(control.agents().is_empty(), "{:?}", control.agents());
    // What the sentence says helps.
    agent.interrupt();
    let token = control.enrolment_token(1);
    let again = agent.try_enroll_with(&token, &["--replace"]);
    assert!(again.status.success(), "{}", again.stderr);
    agent.start();
    until_state(&control, "up");
}

#[test]
fn a_certificate_of_another_authority_opens_nothing() {
    let (here, elsewhere) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (mut control, mut other) = (Control::new(here.path()), Control::new(elsewhere.path()));
    control.start();
    other.start();
    let mut own = Agent::new(here.path());
    own.enroll(&control).start();
    until_state(&control, "up");

    // An agent of the other control, which trusts this one and is sent here. Both agents are the first of
    // their control, so its certificate bears the name of an agent that is known here.
    let mut foreign = Agent::new(elsewhere.path());
    foreign.enroll(&other);
    let (theirs, ours) = (other.agents.to_string(), control.agents.to_string());
    rewrite(&foreign.data.join("identity.json"), |text| text.replace(&theirs, &ours));
    std::fs::copy(control.data.join("ca/ca.pem"), foreign.data.join("ca.pem")).expect("whom it trusts");
    foreign.start();
    until_refused(&control, "foreign_certificate", 1.0);
    until_said(&mut foreign, &["control does not take this agent's certificate", "enrol it again with --replace"]);
    let agent = only(&control);
    assert_eq!((&agent["state"], &agent["connected"]), (&"up".into(), &true.into()), "{agent}");
    foreign.kill();
    assert_eq!(other.agents()[0]["state"], "never_seen");
}

/// What an agent that does not renew is told.
fn told(agent: &Agent) -> Ended {
    struct Still;
    impl queue::Agent for Still {
        async fn connection(&mut self) -> Result<(Link, session::Identity), session::SessionError> {
            unreachable!("one session is not asked for another connection")
        }
        fn clock(&mut self) -> v1::Clock {
            clock::clock()
        }
        fn configure(&mut self, _: &v1::DesiredConfiguration) {}
    }
    let read = |name: &str| std::fs::read_to_string(agent.data.join(name)).expect("a file of the agent");
    let identity: serde_json::Value = serde_json::from_str(&read("identity.json")).expect("JSON");
    let credentials = Credentials::from_pem(&read("certificate.pem"), &read("key.pem")).expect("its enrolment");
    let trust = Trust::bundle(&read("ca.pem")).expect("its enrolment");
    let link = Link::new(identity["address"].as_str().expect("HOST:PORT"), &trust, Some(&credentials));
    let identity = session::Identity {
        agent_version: "0".to_owned(),
        kind: "host".to_owned(),
        machine_id: "machine".to_owned(),
        boot_id: "boot".to_owned(),
        hostname: "host".to_owned(),
        interval_ms: 15_000,
    };
    let column = v1::Column { metric: "tongtu_lab_sequence".to_owned(), ..Default::default() };
    let schema =
        v1::Schema { id: SchemaId::of(std::slice::from_ref(&column)).0.to_vec().into(), columns: vec![column] };
    let mut records = MemoryQueue::new("host", "machine", schema, 15_000, "boot", clock::clock());
    records.push_frame(clock::boottime_ms(), &State::from_values(&[Some(1)]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let link = link.expect("its enrolment");
    let ended = runtime.block_on(session::session(&link, &identity, &mut records, &mut Still));
    assert_eq!(records.waiting(), 1, "the record stays");
    ended
}

#[test]
fn an_expired_certificate_may_renew_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path());
    control.start();
    let mut agent = Agent::new(directory.path());
    agent.enroll(&control);
    control.age_certificate(&agent.data);
    let path = agent.data.join("certificate.pem");
    let expired = std::fs::read_to_string(&path).expect("its certificate");

    let ended = told(&agent);
    assert_eq!(ended.why.reason(), Some(Reason::CertificateExpired), "{}", ended.why);
    assert!(ended.why.to_string().contains("the certificate has expired; renew it"), "{}", ended.why);
    until_refused(&control, "certificate_expired", 1.0);
    assert_eq!(only(&control)["state"], "never_seen");

    // The real agent renews by itself.
    agent.start();
    until_said(&mut agent, &["the certificate was renewed", "connected"]);
    until_state(&control, "up");
    assert_ne!(std::fs::read_to_string(&path).expect("its certificate"), expired);
    assert_eq!(refused(&control, "certificate_expired"), 1.0);
}

/// Copied with its data to a second machine, as virtual machines are: the same machine id, another boot.
#[test]
fn a_copied_machine_is_refused_and_shown() {
    if !tongtu_tests::has("root, to be another boot", tongtu_tests::is_root()) {
        return;
    }
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path());
    control.start();
    let mut agent = Agent::new(directory.path());
    agent.enroll(&control).start();
    until_state(&control, "up");

    let copy = directory.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(&agent.data).arg(&copy).status().expect("cp");
    assert!(copied.success());
    let boot = directory.path().join("boot_id");
    std::fs::write(&boot, "11111111-2222-3333-4444-555555555555\n").expect("a boot");
    let mount = format!("mount --bind {} /proc/sys/kernel/random/boot_id && exec \"$@\"", boot.display());
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut clone =
        Agent::new(elsewhere.path()).with_data(&copy).under(&["unshare", "--mount", "sh", "-c", &mount, "sh"]);
    clone.start();
    until_said(
        &mut clone,
        &["another machine is connected with this agent's identity", "enrol it again with --replace"],
    );
    until_refused(&control, "cloned", 1.0);
    let shown = until_state(&control, "cloned");
    assert_eq!(shown["connected"], true, "the first one goes on: {shown}");
    // What the sentence says helps: it becomes an agent of its own.
    clone.interrupt();
    let again = clone.try_enroll_with(&control.enrolment_token(1), &["--replace"]);
    assert!(again.status.success(), "{}", again.stderr);
    clone.start();
    wait::until(SOON, "the copy is an agent of its own", || {
        let agents = control.agents();
        let up = |agent: &&serde_json::Value| agent["state"] == "up";
        (agents.len() == 2 && agents.iter().any(|agent| up(&agent))).then_some(()).ok_or(format!("{agents:?}"))
    });
}
