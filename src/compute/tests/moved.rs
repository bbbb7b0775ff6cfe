//! Machines that do not run, and hypervisors, whose agents or places change.

use super::vm::{Hypervisor, RUNNING, SHUT_OFF, enrolled};
use super::*;

const GIB: u64 = 1 << 30;

/// A hypervisor's agent that says what the machine has.
async fn hypervisor(control: &Control, agent: i64, machine: &str, cpus: &str) -> Hypervisor {
    let mut hypervisor = Hypervisor::open(control, agent, 1, machine).await;
    let memory = (64 * GIB).to_string();
    let pool = r#"{"type":"dir","state":"running"}"#;
    let facts = [("machine_id", machine), ("cpus", cpus), ("memory_bytes", memory.as_str()), ("pool.default", pool)];
    hypervisor.facts(1, NOON - 30_000, &facts).await;
    hypervisor
}

#[tokio::test]
async fn what_is_off_stays_where_it_is_when_its_hypervisor_gets_another_agent() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut first = hypervisor(&control, 1, "machine-a", "8").await;
    first.node(NOON).await;
    first.frame(NOON, SHUT_OFF, 0).await;
    control.compute.reconcile().await.expect("reconciled");
    drop(first);
    let mut second = hypervisor(&control, 2, "machine-a", "16").await;
    control.at(NOON + 90_000);
    second.node(NOON + 90_000).await;
    second.frame(NOON + 90_000, SHUT_OFF, 0).await;
    control.compute.reconcile().await.expect("reconciled");
    let page = control.json("/api/v1/vms/vm_1").await;
    assert_eq!((&page["state"], &page["host"]), (&"shut_off".into(), &"host_1".into()));
    assert_eq!(page["places"].as_array().map(Vec::len), Some(2));
    assert_eq!(page["places"][1]["from_ms"], NOON + 1, "since nothing came of it there");
    assert_eq!(control.compute.reconcile().await.expect("reconciled").moved, 0);
    // The machine is one, and its pools are there once.
    assert_eq!(control.json("/api/v1/pools").await["items"].as_array().map(Vec::len), Some(1));
    let capacity = control.json("/api/v1/capacity?by=host").await;
    assert_eq!((&capacity["total"]["hosts"], &capacity["total"]["cpu"]["physical"]), (&1.into(), &16.0.into()));
    drop(second);
    control.stop().await;
}

#[tokio::test]
async fn what_is_off_goes_along_when_it_is_defined_elsewhere() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut one = hypervisor(&control, 1, "machine-a", "8").await;
    let mut two = hypervisor(&control, 2, "machine-b", "8").await;
    one.node(NOON).await;
    one.frame(NOON, SHUT_OFF, 0).await;
    control.compute.reconcile().await.expect("reconciled");
    // Both list it: one of them is a leftover, and nobody knows which.
    control.at(NOON + 15_000);
    one.frame(NOON + 15_000, SHUT_OFF, 0).await;
    two.node(NOON + 15_000).await;
    two.frame(NOON + 15_000, SHUT_OFF, 0).await;
    control.compute.reconcile().await.expect("reconciled");
    assert_eq!(control.json("/api/v1/vms/vm_1").await["host"], "host_1");
    // The first says nothing at all: it may be cut off.
    control.at(NOON + 120_000);
    two.node(NOON + 120_000).await;
    two.frame(NOON + 120_000, SHUT_OFF, 0).await;
    control.compute.reconcile().await.expect("reconciled");
    assert_eq!(control.json("/api/v1/vms/vm_1").await["host"], "host_1");
    // It reports, and does not list it; with its first frame that may be to come.
    one.node(NOON + 105_000).await;
    control.compute.reconcile().await.expect("reconciled");
    assert_eq!(control.json("/api/v1/vms/vm_1").await["host"], "host_1");
    one.node(NOON + 120_000).await;
    assert_eq!(control.compute.reconcile().await.expect("reconciled").moved, 1);
    let page = control.json("/api/v1/vms/vm_1").await;
    assert_eq!((&page["state"], &page["host"]), (&"shut_off".into(), &"host_2".into()));
    drop((one, two));
    control.stop().await;
}

#[tokio::test]
async fn a_hypervisor_that_was_retired_or_is_silent_gives_no_room() {
    let test = testing::sqlite().await;
    enrolled(&test, &[(1, false), (2, true), (3, false)]).await;
    let control = Control::start(&test).await;
    let mut fleet = Vec::new();
    for (agent, machine) in [(1, "machine-a"), (2, "machine-b"), (3, "machine-c")] {
        let mut one = hypervisor(&control, agent, machine, "8").await;
        one.node(NOON).await;
        fleet.push(one);
    }
    fleet[0].frame(NOON, RUNNING, 0).await;
    control.compute.reconcile().await.expect("reconciled");
    let room = "/api/v1/capacity/room?vcpus=1&memory_bytes=1073741824&overcommit=1";
    let fits = async || control.json(room).await["fits"].clone();
    let capacity = control.json("/api/v1/capacity?by=host").await;
    assert_eq!((&capacity["total"]["hosts"], &capacity["total"]["cpu"]["physical"]), (&2.into(), &16.0.into()));
    assert_eq!(fits().await, 6 + 8, "the second was revoked");
    control.at(NOON + 60_000);
    fleet[0].node(NOON + 60_000).await;
    fleet[0].frame(NOON + 60_000, RUNNING, 0).await;
    assert_eq!(fits().await, 8 - 2, "the third is silent");
    let total = control.json("/api/v1/capacity?by=host").await["total"].clone();
    assert_eq!(total["cpu"]["physical"], 16.0, "what it has is known");
    drop(fleet);
    control.stop().await;
}
