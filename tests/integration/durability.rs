//! What is acknowledged is on the disk: the order of system calls, a slow sync and a failing one.

use std::time::Duration;
use tongtu_tests::agent::Agent;
use tongtu_tests::control::Control;
use tongtu_tests::series;
use tongtu_tests::simulator::{Fleet, Simulator};
use tongtu_tests::strace::{Call, Strace};
use tongtu_tests::wait;

const CALLS: &str = "trace=fsync,fdatasync,pwrite64,pwritev,write,writev,sendto,sendmsg,read,readv,recvfrom,recvmsg";

/// Control, and one agent with a frame every half second.
fn one_agent(directory: &std::path::Path, duration: &str) -> (Control, Simulator) {
    let mut control = Control::new(directory)
        .with_configuration("[telemetry]\ncommit_interval = \"20ms\"\n[log]\nfilter = \"info\"\n");
    control.start();
    let token = control.enrolment_token(1);
    let fleet = Fleet { token: &token, agents: 1, interval: "500ms", duration, scenario: None };
    let simulator = Simulator::start(directory, &fleet);
    wait::until(Duration::from_secs(30), "the first acknowledgement", || {
        let acknowledged = acknowledged(&simulator);
        (acknowledged > 0).then_some(()).ok_or_else(|| "none".to_owned())
    });
    (control, simulator)
}

fn acknowledged(simulator: &Simulator) -> usize {
    if simulator.log.exists() { series::acknowledged(&simulator.log).values().map(|set| set.len()).sum() } else { 0 }
}

fn is_log_write(call: &Call) -> bool {
    call.name.starts_with("pwrite") && call.arguments.contains("tongtu.db-wal")
}

fn is_log_sync(call: &Call) -> bool {
    call.name.contains("sync") && call.arguments.contains("tongtu.db-wal")
}

#[test]
fn the_log_is_synced_before_each_acknowledgement() {
    let directory = tempfile::tempdir().expect("a folder");
    let (mut control, simulator) = one_agent(directory.path(), "20s");
    let Some(strace) = Strace::attach(directory.path(), control.process().id(), &[CALLS]) else { return };
    let before = acknowledged(&simulator);
    wait::until(Duration::from_secs(30), "ten acknowledgements", || {
        let more = acknowledged(&simulator) - before;
        (more >= 10).then_some(()).ok_or(format!("{more}"))
    });
    let calls = strace.detach();

    // What control says to the agent is an acknowledgement, but for a rare ping or a window update of
    // HTTP/2: those stand nearly alone, so that two exceptions are let pass.
    let agents = format!("[{}->", control.agents);
    let mut order: Vec<(usize, char)> = Vec::new();
    for call in &calls {
        if is_log_write(call) {
            order.push((call.begin, 'w'));
        } else if is_log_sync(call) {
            order.push((call.end, 's'));
        } else if call.arguments.contains(&agents) && call.result > 0 {
            let reads = call.name.starts_with("read") || call.name.starts_with("recv");
            order.push(if reads { (call.end, 'r') } else { (call.begin, 'a') });
        }
    }
    order.sort_unstable();
    let order: String = order.into_iter().map(|(_, kind)| kind).collect();
    let (mut right, mut wrong) = (0, 0);
    // Since a record was read, its commit must be written and synced before anything is said.
    for turn in order.split('r') {
        match turn.find('a') {
            None => {}
            Some(said) => {
                let (before, _) = turn.split_at(said);
                if before.contains('w') && before.ends_with('s') { right += 1 } else { wrong += 1 }
            }
        }
    }
    assert!(right >= 8 && wrong <= 2, "{right} acknowledgements after their sync, {wrong} before it: {order}");
}

#[test]
fn an_acknowledgement_waits_for_a_slow_sync() {
    let directory = tempfile::tempdir().expect("a folder");
    let (mut control, simulator) = one_agent(directory.path(), "8s");
    let slow = "inject=fsync,fdatasync:delay_enter=400000";
    let Some(strace) = Strace::attach(directory.path(), control.process().id(), &["trace=fsync,fdatasync", slow])
    else {
        return;
    };
    let figures = simulator.finish(Duration::from_secs(90));
    drop(strace);
    let median = figures["acknowledgement_ms"]["p50"].as_f64().unwrap_or_else(|| panic!("no median: {figures}"));
    assert!(median >= 400.0, "acknowledged in {median} ms, and a sync takes 400: {figures}");
    assert_eq!(figures["frames_open"], 0, "{figures}");
}

#[test]
fn a_failed_sync_acknowledges_nothing() {
    let directory = tempfile::tempdir().expect("a folder");
    let (mut control, simulator) = one_agent(directory.path(), "20s");
    let failing = "inject=fsync,fdatasync:error=EIO";
    let Some(strace) = Strace::attach(directory.path(), control.process().id(), &["trace=fsync,fdatasync", failing])
    else {
        return;
    };
    // What was under way when it attached may still be acknowledged.
    let attached = wait::Stopwatch::start();
    wait::until(Duration::from_secs(10), "a second", || {
        (attached.elapsed() > Duration::from_secs(1)).then_some(()).ok_or(String::new())
    });
    let before = acknowledged(&simulator);
    wait::until(Duration::from_secs(20), "several frames later", || {
        (attached.elapsed() > Duration::from_secs(5)).then_some(()).ok_or(String::new())
    });
    let after = acknowledged(&simulator);
    let syncs = strace.detach();
    assert_eq!(after, before, "acknowledged although no sync succeeds: {syncs:#?}");
    assert!(syncs.iter().any(is_log_sync), "control did not even try");
    // The disk is well again: control must be able to go on, at the latest after a restart.
    control.kill();
    control.start();
    let figures = simulator.finish(Duration::from_secs(120));
    assert_eq!(figures["frames_open"], 0, "{figures}");
}

#[test]
fn an_agent_syncs_a_record_before_it_sends_it() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path());
    control.start();
    let mut agent = Agent::lab(directory.path(), "lab");
    agent.enroll(&control).start();
    wait::until(Duration::from_secs(30), "the first frame", || {
        series::source_if_any(&control, &agent.id()).map(|_| ()).ok_or_else(|| "no source".to_owned())
    });
    let Some(strace) = Strace::attach(directory.path(), agent.process().id(), &[CALLS]) else { return };
    let begin = agent.made().0.len();
    wait::until(Duration::from_secs(30), "eight more frames", || {
        let more = agent.made().0.len() - begin;
        (more >= 8).then_some(()).ok_or(format!("{more}"))
    });
    let calls = strace.detach();
    let spool = agent.data.display().to_string();
    let control_address = format!("->{}]", control.agents);
    let mut order: Vec<(usize, char)> = Vec::new();
    for call in calls.iter().filter(|call| call.result >= 0) {
        if call.name.starts_with("pwrite") && call.arguments.contains(&spool) {
            order.push((call.begin, 'w'));
        } else if call.name.contains("sync") && call.arguments.contains(&spool) {
            order.push((call.end, 's'));
        } else if call.arguments.contains(&control_address) && !call.name.starts_with(['r']) {
            order.push((call.begin, 'a'));
        }
    }
    order.sort_unstable();
    let order: String = order.into_iter().map(|(_, kind)| kind).collect();
    let ticks: Vec<&str> = order.split('w').skip(1).collect();
    // Written, synced, sent: and nothing is said between the first two.
    let right = ticks.iter().filter(|tick| tick.starts_with('s') && tick.contains('a')).count();
    assert!(right >= 5 && right + 2 >= ticks.len(), "{right} of {} ticks: {order}", ticks.len());
}
