//! Hypervisors as their hosts show them: fed through the sink as their agents feed it.

use serde_json::json;

use super::vm::Hypervisor;
use super::*;

#[tokio::test]
async fn a_host_without_an_agent_of_its_own_is_told_by_that_of_its_hypervisor() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut one = Hypervisor::open(&control, 7, 1, "machine-a").await;
    let facts = [("machine_id", "machine-a"), ("hostname", "kvm-1"), ("cpu_model", "EPYC"), ("cpus", "64")];
    one.facts(1, NOON - 30_000, &facts).await;
    control.compute.reconcile().await.expect("reconciled");
    let bare = control.json("/api/v1/hosts").await["items"][0].clone();
    assert_eq!((&bare["name"], &bare["state"]), (&"kvm-1".into(), &"never_seen".into()));

    one.node(NOON).await;
    let host = control.json("/api/v1/hosts").await["items"][0].clone();
    assert_eq!((&host["name"], &host["state"], &host["agent"]), (&"kvm-1".into(), &"up".into(), &"agent_7".into()));
    assert_eq!((&host["last_report_ms"], &host["source"]), (&NOON.into(), &Value::Null));
    assert_eq!((&host["cpu_count"], &host["memory_total_bytes"]), (&Value::Null, &Value::Null), "nobody measured it");
    let page = control.json("/api/v1/hosts/host_1").await;
    assert_eq!((&page["name"], &page["state"], &page["agent"]), (&"kvm-1".into(), &"up".into(), &"agent_7".into()));
    assert_eq!((&page["cpu_model"], &page["sources"]), (&"EPYC".into(), &json!([])));
    let overview = control.json("/api/v1/overview").await;
    assert_eq!(overview["hosts"], json!({ "total": 1, "up": 1, "stale": 0, "never_seen": 0 }));
    assert_eq!(overview["totals"]["cpu_count"]["hosts"], 0);

    control.at(NOON + 60_000);
    assert_eq!(control.json("/api/v1/hosts").await["items"][0]["state"], "stale");
    assert_eq!(control.json("/api/v1/hosts/host_1").await["state"], "stale");

    // Its own agent comes before.
    one.node(NOON + 60_000).await;
    let mut own = Stream::open(&control, 8, 1, "machine-a");
    own.facts(NOON + 59_000, 8, &[("hostname", "own-1")]).await;
    own.frame(NOON + 60_000, 8, FIRST).await;
    assert_eq!(control.compute.reconcile().await.expect("reconciled").hosts, 0, "it is the same host");
    let host = control.json("/api/v1/hosts").await["items"][0].clone();
    assert_eq!((&host["name"], &host["agent"]), (&"own-1".into(), &"agent_8".into()));
    assert!(host["memory_total_bytes"].is_number(), "{host}");
    drop((one, own));
    control.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_libvirt_is_said_of_the_host_and_at_a_glance() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut one = Hypervisor::open(&control, 7, 1, "machine-a").await;
    one.facts(1, NOON - 30_000, &[("machine_id", "machine-a"), ("hostname", "kvm-1")]).await;
    control.compute.reconcile().await.expect("reconciled");
    let mut other = Stream::open(&control, 8, 1, "machine-b");
    other.frame(NOON, 8, FIRST).await;
    control.compute.reconcile().await.expect("reconciled");
    let fine = json!({ "count": 0, "hosts": [] });
    let troubled = json!({ "count": 1, "hosts": [{ "id": "host_1", "name": "kvm-1" }] });
    // Up, left out, hanging; what the host's page says of it, and which hosts are down and leave out at a glance.
    let cases = [
        ((true, Some(0), 0), json!([true, 0, 0]), [&fine, &fine]),
        ((true, Some(3), 2), json!([true, 3, 2]), [&fine, &troubled]),
        ((false, None, 1), json!([false, null, 1]), [&troubled, &fine]),
    ];
    for (at, ((up, left_out, hanging), shown, [down, leaving])) in (0..).zip(cases) {
        let at_ms = NOON + at * 15_000;
        control.at(at_ms);
        one.node_of(at_ms, up, left_out, hanging).await;
        let page = control.json("/api/v1/hosts/host_1").await["hypervisor"].clone();
        assert_eq!((&page["agent"], &page["state"]), (&"agent_7".into(), &"up".into()));
        assert_eq!(json!([page["libvirt_up"], page["vms_left_out"], page["calls_hanging"]]), shown);
        let counts = control.json("/api/v1/overview").await["hypervisors"].clone();
        assert_eq!((&counts["total"], &counts["libvirt_down"], &counts["leaving_out"]), (&1.into(), down, leaving));
    }
    assert_eq!(control.json("/api/v1/hosts/host_2").await["hypervisor"], Value::Null);
    // Of what was nothing is said.
    control.at(NOON + 120_000);
    let page = control.json("/api/v1/hosts/host_1").await["hypervisor"].clone();
    assert_eq!((&page["state"], &page["libvirt_up"]), (&"stale".into(), &Value::Null));
    assert_eq!(control.json("/api/v1/overview").await["hypervisors"]["libvirt_down"], fine);
    drop((one, other));
    control.stop().await;
}

#[tokio::test]
async fn a_hypervisors_versions_and_networks_are_on_its_hosts_page() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut one = Hypervisor::open(&control, 7, 1, "machine-a").await;
    let facts = [
        ("machine_id", "machine-a"),
        ("hypervisor", "QEMU"),
        ("hypervisor_version", "7.2.11"),
        ("libvirt_version", "9.0.0"),
        ("network.default", r#"{"active":true,"autostart":false,"bridge":"virbr0","forward":"nat"}"#),
        ("network.inner", r#"{"active":false}"#),
        ("network.odd", "not what it should be"),
    ];
    one.facts(1, NOON - 30_000, &facts).await;
    one.node(NOON).await;
    control.compute.reconcile().await.expect("reconciled");
    let page = control.json("/api/v1/hosts/host_1").await["hypervisor"].clone();
    assert_eq!(json!([page["kind"], page["version"], page["libvirt_version"]]), json!(["QEMU", "7.2.11", "9.0.0"]));
    let network = |name: &str, active: Value, autostart: Value, bridge: Value, forward: Value| -> Value {
        json!({ "name": name, "active": active, "autostart": autostart, "bridge": bridge, "forward": forward })
    };
    let null = || Value::Null;
    let networks = [
        network("default", true.into(), false.into(), "virbr0".into(), "nat".into()),
        network("inner", false.into(), null(), null(), null()),
        network("odd", null(), null(), null(), null()),
    ];
    assert_eq!(page["networks"], json!(networks));
    drop(one);
    control.stop().await;
}
