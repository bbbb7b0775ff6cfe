//! Hosts that say that they are virtual machines, over real databases: another platform's, or a hypervisor's of ours.

use axum::http::Method;
use serde_json::json;

use super::vm::{Hypervisor, RUNNING, SHUT_OFF, UUID, enrolled, organizations};
use super::*;
use crate::access::capability::MeasurementsWrite;
use crate::platform::ids::VmId;

const GIB: i64 = 1 << 30;
const CPUS: &str = "2";
const MEMORY: &str = "8589934592";

/// A host's agent that says that it is virtual.
async fn guest(control: &Control, agent: i64, organization: i64, name: &str, more: &[(&str, &str)]) -> Stream {
    let mut stream = Stream::open(control, agent, organization, &format!("machine-{agent}"));
    let facts = [
        ("hostname", name),
        ("virtualization", "vmware"),
        ("cpus", CPUS),
        ("memory_bytes", MEMORY),
        ("disk.sda.size_bytes", "42949672960"),
        ("disk.dm-0.size_bytes", "42949672960"),
    ];
    stream.facts(NOON - 60_000, agent as u64, &[&facts[..], more].concat()).await;
    stream.frame(NOON - 15_000, agent as u64, FIRST).await;
    stream.frame(NOON, agent as u64, SECOND).await;
    stream
}

/// A host's agent of the whole city on a machine with a machine id, which came up with a boot, and its first frame.
async fn booted(
    control: &Control,
    (agent, machine, boot): (i64, &str, &str),
    at_ms: UnixMs,
    more: &[(&str, &str)],
) -> Stream {
    let mut stream = Stream::open_boot(control, agent, 1, machine, (boot, BOOTED_MS));
    let name = format!("guest-{agent}");
    let facts = [("hostname", name.as_str()), ("virtualization", "vmware"), ("cpus", CPUS), ("boot_id", boot)];
    stream.facts(at_ms - 1, agent as u64, &[&facts[..], more].concat()).await;
    stream.frame(at_ms, agent as u64, FIRST).await;
    stream
}

fn names(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn a_virtual_host_is_a_machine_once_whoever_tells_of_it() {
    for test in testing::databases().await {
        organizations(&test).await;
        let control = Control::start(&test).await;
        let mut out = guest(&control, 21, 1, "jia-01", &[]).await;
        let mut metal = Stream::open(&control, 22, 1, "machine-22");
        metal.facts(NOON - 60_000, 22, &[("hostname", "metal"), ("virtualization", "none")]).await;
        let done = control.compute.reconcile().await.expect("reconciled");
        assert_eq!((done.hosts, done.vms), (2, 1), "{}", test.name);
        assert_eq!(control.compute.reconcile().await.expect("reconciled"), Reconciled::default());
        let vm = control.json("/api/v1/vms").await["items"][0].clone();
        assert_eq!((&vm["name"], &vm["state"], &vm["told_by"]), (&"jia-01".into(), &"running".into(), &"guest".into()));
        assert_eq!((&vm["guest"], &vm["host"], &vm["uuid"]), (&"host_1".into(), &Value::Null, &Value::Null));
        assert_eq!((&vm["assigned"], &vm["vcpus"]), (&false.into(), &1.into()), "as its frames say");
        assert_eq!((&vm["memory_bytes"], &vm["disk_capacity_bytes"]), (&(8 * GIB).into(), &(40 * GIB).into()));
        assert!(vm["cpu_usage_percent"].is_number() && vm["memory_maximum_bytes"].is_null(), "{vm}");
        assert_eq!(control.json("/api/v1/hosts/host_1").await["vm"], "vm_1");
        assert_eq!(control.json("/api/v1/hosts/host_2").await["vm"], Value::Null);
        let total = control.json("/api/v1/capacity?by=organization").await["total"].clone();
        assert_eq!((&total["vms"], &total["cpu"]["allocated"]), (&1.into(), &2.0.into()), "by its inventory");
        assert_eq!((&total["cpu"]["physical"], &total["hosts"]), (&Value::Null, &0.into()));

        // An agent that may read it says its UUID; then a hypervisor of ours reports the same machine.
        out.facts(
            NOON,
            21,
            &[("hostname", "jia-01"), ("virtualization", "kvm"), ("hardware_uuid", &UUID.to_uppercase())],
        )
        .await;
        control.compute.reconcile().await.expect("reconciled");
        assert_eq!(control.json("/api/v1/vms/vm_1").await["uuid"], UUID);
        let mut one = Hypervisor::open(&control, 7, 1, "machine-a").await;
        one.facts(2, NOON - 30_000, &[("name", "web")]).await;
        one.frame(NOON, RUNNING, 100).await;
        control.compute.reconcile().await.expect("reconciled");
        let listed = control.json("/api/v1/vms").await;
        assert_eq!(names(&listed), ["web"], "{}: once", test.name);
        let vm = &listed["items"][0];
        assert_eq!((&vm["told_by"], &vm["guest"]), (&"hypervisor".into(), &"host_1".into()));
        assert_eq!(control.json("/api/v1/hosts/host_1").await["vm"], "vm_2");
        // Its own row is in no list, and there by its id: what people say of it is taken and answered.
        let said = json!({ "version": 1, "organization": "org_2" });
        assert_eq!(control.put("/api/v1/vms/vm_1", said).await.0, StatusCode::OK, "{}", test.name);
        let own = control.json("/api/v1/vms/vm_1").await;
        assert_eq!((&own["organization"], &own["version"]), (&"org_2".into(), &2.into()), "{}", test.name);
        assert_eq!(names(&control.json("/api/v1/vms").await), ["web"]);
        assert_eq!(control.json("/api/v1/ledger").await["counts"]["only_measured"], 1);
        drop((out, metal, one));
        control.stop().await;

        // And after a restart.
        let test = test.reopen().await;
        let control = Control::start(&test).await;
        control.compute.reconcile().await.expect("reconciled");
        assert_eq!(names(&control.json("/api/v1/vms").await), ["web"], "{}", test.name);
        control.stop().await;
    }
}

#[tokio::test]
async fn an_agent_without_rights_is_found_by_its_hardware_and_a_liar_hides_itself_alone() {
    let test = testing::sqlite().await;
    organizations(&test).await;
    let control = Control::start(&test).await;
    let nic = [("name", "web"), ("nic.52:54:00:aa:00:01", "{}")];
    let mut ours = Hypervisor::open(&control, 7, 1, "machine-a").await;
    ours.facts(2, NOON - 30_000, &nic).await;
    ours.frame(NOON, RUNNING, 100).await;
    let hardware = [("interface.eth0.mac", "52:54:00:AA:00:01"), ("interface.eth0.driver", "virtio_net")];
    let inside = guest(&control, 21, 2, "web-inside", &hardware).await;
    control.compute.reconcile().await.expect("reconciled");
    assert_eq!(names(&control.json("/api/v1/vms").await), ["web"], "the city's hypervisor has the department's guest");
    // A hypervisor of another department says the same UUID as a machine of this one: each is shown.
    let school = guest(&control, 22, 3, "school", &[("hardware_uuid", "22222222-2d1c-4b7a-9e8f-112233445566")]).await;
    let mut theirs = Hypervisor::open_with(&control, 8, 2, "machine-b", "22222222-2d1c-4b7a-9e8f-112233445566").await;
    theirs.facts(2, NOON - 30_000, &[("name", "copy")]).await;
    theirs.frame(NOON, RUNNING, 100).await;
    control.compute.reconcile().await.expect("reconciled");
    assert_eq!(names(&control.json("/api/v1/vms?sort=name").await), ["copy", "school", "web"]);
    let permit = Permit::<MeasurementsRead>::testing(OrganizationId(3));
    let machines = control.compute.reconciled(&permit);
    assert_eq!(machines.len(), 1, "the school sees its own: {machines:?}");
    drop((ours, inside, school, theirs));
    control.stop().await;
}

#[tokio::test]
async fn the_ledger_gives_such_a_machine_with_its_host_and_a_name_takes_none_from_another() {
    for test in testing::databases().await {
        organizations(&test).await;
        let control = Control::start(&test).await;
        let provider = json!({ "name": "甲公司云", "kind": "outsourced", "contact": "" }).to_string();
        let mut request = Request::builder().method(Method::POST).uri("/api/v1/providers");
        request.extensions_mut().expect("extensions").insert(control.principal);
        let request = request.header("content-type", "application/json").body(Body::from(provider)).expect("a request");
        let made = control.router.clone().oneshot(request).await.expect("an answer");
        assert_eq!(made.status(), StatusCode::CREATED);
        let city = guest(&control, 21, 1, "jia-01", &[]).await;
        let health = guest(&control, 22, 2, "his", &[("hardware_uuid", UUID)]).await;
        control.compute.reconcile().await.expect("reconciled");
        let set = control.put("/api/v1/hosts/host_2/provider", json!({ "provider": "provider_1" })).await;
        assert_eq!(set.0, StatusCode::NO_CONTENT, "assigned by its host");
        let table =
            "虚拟机名称,使用单位,应用系统,云服务商,vCPU,内存(GB)\njia-01,school,学籍,甲公司云,1,8.5\nhis,school,,,,\n";
        let done = control.import("", table).await;
        assert_eq!((&done["counts"]["matched"], &done["counts"]["machines_changed"]), (&2.into(), &1.into()), "{done}");
        let vm = control.json("/api/v1/vms/vm_1").await;
        assert_eq!((&vm["organization"], &vm["application"]), (&"org_3".into(), &"学籍".into()), "{}", test.name);
        assert_eq!(vm["provider"], "provider_1");
        let page = control.json("/api/v1/ledger").await;
        let standings: Vec<_> = page["items"].as_array().expect("items").iter().map(|one| &one["standing"]).collect();
        assert_eq!(standings, ["both", "conflicting"], "a guest's kernel keeps a part of its memory: {page}");
        assert_eq!(page["items"][1]["differences"][0]["field"], "organization");
        let school = Permit::<MeasurementsRead>::testing(OrganizationId(3));
        let access = &control.compute.0.access;
        let seen = |resource| access.is_visible(&school, resource);
        assert!(seen(Resource::Vm(VmId(1))) && seen(Resource::Host(HostId(1))), "its host goes with it");
        let source = control.json("/api/v1/hosts/host_1").await["source"].as_str().expect("a source").to_owned();
        assert!(seen(Resource::Source(source.parse().expect("an id"))));
        assert!(!seen(Resource::Vm(VmId(2))) && !seen(Resource::Host(HostId(2))), "health's stays health's");
        let providers = control.json("/api/v1/providers").await;
        assert_eq!((&providers["items"][0]["vms"], &providers["items"][0]["hosts"]), (&2.into(), &0.into()));
        let by = control.json("/api/v1/capacity?by=provider").await;
        assert_eq!((&by["items"][0]["key"], &by["items"][0]["vms"]), (&"provider_1".into(), &2.into()));
        assert_eq!(by["items"][0]["memory"]["allocated"], (16 * GIB) as f64);
        // Its UUID says it is the school's.
        let done = control.import("", format!("虚拟机名称,UUID,使用单位\nhis,{UUID},school\n")).await;
        assert_eq!(done["counts"]["machines_changed"], 1);
        assert!(seen(Resource::Vm(VmId(2))) && seen(Resource::Host(HostId(2))));
        let health_sees = Permit::<MeasurementsRead>::testing(OrganizationId(2));
        assert!(!access.is_visible(&health_sees, Resource::Host(HostId(2))));
        drop((city, health));
        control.stop().await;
    }
}

#[tokio::test]
async fn what_it_used_is_reviewed_as_its_own_agent_measured_it() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut one = Stream::open(&control, 21, 1, "machine-21");
    one.facts(NOON - 1, 21, &[("hostname", "jia-01"), ("virtualization", "kvm"), ("cpus", "1")]).await;
    // An hour: a quarter of its processor.
    for frame in 0..=240_i64 {
        let at_ms = NOON + frame * 15_000;
        control.now.store(at_ms, Ordering::Relaxed);
        one.frame(at_ms, 21, [frame * 375, frame * 1_125, 8 << 30, 0, 0, BOOTED_MS / 1_000]).await;
    }
    control.compute.reconcile().await.expect("reconciled");
    assert_eq!(control.compute.survey().await.expect("surveyed"), 1);
    let item = control.json("/api/v1/review?days=1").await["items"][0].clone();
    assert_eq!(item["name"], "jia-01");
    let mean = item["cpu"]["mean_percent"].as_f64().expect("measured");
    assert!((mean - 25.0).abs() < 0.5, "{item}");
    assert_eq!(item["memory"], Value::Null, "what is available was not measured");
    let total = control.json("/api/v1/capacity?by=organization&days=1").await["items"][0].clone();
    let mean = total["cpu"]["used_mean"].as_f64().expect("measured");
    assert!((mean - 0.25).abs() < 0.01, "{total}");
    drop(one);
    control.stop().await;
}

#[tokio::test]
async fn beside_what_hypervisors_have_stands_what_is_used_of_it() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut ours = Hypervisor::open(&control, 7, 1, "machine-a").await;
    ours.facts(1, NOON - 1, &[("machine_id", "machine-a"), ("cpus", "16"), ("memory_bytes", MEMORY)]).await;
    let mut out = Stream::open(&control, 21, 1, "machine-21");
    out.facts(NOON - 1, 21, &[("hostname", "jia-01"), ("virtualization", "vmware"), ("cpus", "1")]).await;
    // An hour: half of a processor on ours, a quarter of one elsewhere.
    for frame in 0..=240_i64 {
        let at_ms = NOON + frame * 15_000;
        control.at(at_ms);
        ours.frame(at_ms, RUNNING, frame * 15 / 2).await;
        out.frame(at_ms, 21, [frame * 375, frame * 1_125, 8 << 30, 0, 0, BOOTED_MS / 1_000]).await;
    }
    control.compute.reconcile().await.expect("reconciled");
    assert_eq!(control.compute.survey().await.expect("surveyed"), 2);
    for by in ["provider", "organization"] {
        let capacity = control.json(&format!("/api/v1/capacity?by={by}&days=1")).await;
        for group in [&capacity["items"][0], &capacity["total"]] {
            assert_eq!((&group["vms"], &group["cpu"]["allocated"]), (&2.into(), &3.0.into()), "{by}");
            let mean = group["cpu"]["used_mean"].as_f64().expect("measured");
            assert!((mean - 0.5).abs() < 0.01, "of 16 processors: {group}");
        }
    }
    // A provider that no hypervisor is of: all there is to know is what its machines use.
    let write = Permit::<MeasurementsWrite>::testing(OrganizationId(1));
    let content = provider::ProviderContent {
        name: "cloud".to_owned(),
        kind: provider::ProviderKind::Outsourced,
        contact: String::new(),
    };
    let cloud = control.compute.provider_put(&write, None, content).await.expect("added").expect("an id");
    let listed = control.json("/api/v1/vms?search=jia-01").await;
    let id = listed["items"][0]["id"].as_str().expect("an id");
    let given = control.put(&format!("/api/v1/vms/{id}"), json!({ "version": 1, "provider": cloud })).await;
    assert_eq!(given.0, StatusCode::OK, "{}", given.1);
    control.compute.survey().await.expect("surveyed");
    // What machines are given is looked at anew after ten seconds.
    control.at(NOON + 3_612_000);
    let capacity = control.json("/api/v1/capacity?by=provider&days=1").await;
    let group = capacity["items"].as_array().expect("items").iter().find(|item| item["name"] == "cloud");
    let cpu = &group.expect("listed")["cpu"];
    let mean = cpu["used_mean"].as_f64().expect("measured");
    assert!(cpu["physical"].is_null() && (mean - 0.25).abs() < 0.01, "{cpu}");
    drop((ours, out));
    control.stop().await;
}

#[tokio::test]
async fn two_machines_with_one_machine_id_are_never_one_and_none_is_given_away() {
    for test in testing::databases().await {
        organizations(&test).await;
        let control = Control::start(&test).await;
        let card = |mac: &'static str| [("interface.eth0.mac", mac), ("interface.eth0.driver", "virtio_net")];
        let (own, others) = (card("52:54:00:aa:00:01"), card("52:54:00:aa:00:02"));
        let first = booted(&control, (21, "machine-t", "boot-a"), NOON, &own).await;
        control.compute.reconcile().await.expect("reconciled");
        let given = control.put("/api/v1/vms/vm_1", json!({ "version": 1, "organization": "org_3" })).await;
        assert_eq!(given.0, StatusCode::OK, "{}", test.name);
        let school = Permit::<MeasurementsRead>::testing(OrganizationId(3));
        let school_sees = |source| control.compute.0.access.is_visible(&school, Resource::Source(SourceId(source)));

        // A copy of the same template, which says that it is no virtual machine.
        let says = [&others[..], &[("virtualization", "none")]].concat();
        let mut copy = booted(&control, (22, "machine-t", "boot-b"), NOON, &says).await;
        control.compute.reconcile().await.expect("reconciled");
        let vm = control.json("/api/v1/vms?conflict=true").await["items"][0].clone();
        assert_eq!((&vm["name"], &vm["conflict"]), (&"guest-21".into(), &"claimed_twice".into()), "{}", test.name);
        assert!(school_sees(1) && !school_sees(2), "the copy stays the city's");

        // Nor when the first one is off.
        control.now.store(NOON + 60_000, Ordering::Relaxed);
        copy.frame(NOON + 60_000, 22, SECOND).await;
        control.compute.reconcile().await.expect("reconciled");
        let vm = control.json("/api/v1/vms/vm_1").await;
        assert_eq!((&vm["name"], &vm["state"]), (&"guest-21".into(), &"stale".into()), "{}", test.name);
        assert!(!school_sees(2));

        // The same machine after a reboot, with an agent that was enrolled anew, goes on.
        let mut anew = booted(&control, (23, "machine-t", "boot-c"), NOON + 60_000, &own).await;
        control.compute.reconcile().await.expect("reconciled");
        let vm = control.json("/api/v1/vms/vm_1").await;
        assert_eq!((&vm["name"], &vm["state"]), (&"guest-23".into(), &"running".into()), "{}", test.name);
        assert!(school_sees(3) && !school_sees(2));
        // Until the copy gets a machine id of its own.
        control.now.store(NOON + 120_000, Ordering::Relaxed);
        anew.frame(NOON + 120_000, 23, SECOND).await;
        control.compute.reconcile().await.expect("reconciled");
        assert_eq!(control.json("/api/v1/vms/vm_1").await["conflict"], Value::Null);

        // Two that are found at once.
        let one = booted(&control, (31, "machine-u", "boot-d"), NOON + 120_000, &[]).await;
        let two = booted(&control, (32, "machine-u", "boot-e"), NOON + 120_000, &[]).await;
        assert_eq!(control.compute.reconcile().await.expect("reconciled").vms, 1);
        let vm = control.json("/api/v1/vms/vm_2").await;
        assert_eq!((&vm["name"], &vm["conflict"]), (&"guest-31".into(), &"claimed_twice".into()), "{}", test.name);
        drop((first, copy, anew, one, two));
        control.stop().await;
    }
}

#[tokio::test]
async fn who_is_given_a_host_is_told_of_its_own_time_alone() {
    let test = testing::sqlite().await;
    organizations(&test).await;
    let mut control = Control::start(&test).await;
    let mut inside = guest(&control, 21, 2, "web-inside", &[]).await;
    control.compute.reconcile().await.expect("reconciled");
    control.at(NOON + 20_000);
    let (status, page) = control.put("/api/v1/vms/vm_1", json!({ "version": 1, "organization": "org_3" })).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    control.at(NOON + 30_000);
    inside.frame(NOON + 30_000, 21, SECOND).await;
    let (from_ms, to_ms) = (NOON - 60_000, NOON + 60_000);
    let path = format!("/api/v1/hosts/host_1/series?metric=node_boot_time_seconds&from_ms={from_ms}&to_ms={to_ms}");
    for (organization, theirs) in [(1, vec![NOON - 15_000, NOON, NOON + 30_000]), (3, vec![NOON + 30_000])] {
        control.principal = control.token_of(OrganizationId(organization)).await;
        let answer = control.json(&path).await;
        assert_eq!(answer["series"][0]["instants_ms"], json!(theirs), "org_{organization}: {answer}");
    }
    control.principal = control.token_of(OrganizationId(2)).await;
    assert_eq!(control.get(&path).await.0, StatusCode::NOT_FOUND, "whose it was");
    drop(inside);
    control.stop().await;
}

#[tokio::test]
async fn the_host_inside_goes_with_its_machine_or_back_to_nobody() {
    for test in testing::databases().await {
        organizations(&test).await;
        let control = Control::start(&test).await;
        let give = async |vm: &str, version: i64, organization: &str| {
            control.now.fetch_add(1_000, Ordering::Relaxed);
            let said = json!({ "version": version, "organization": organization });
            let (status, answer) = control.put(&format!("/api/v1/vms/{vm}"), said).await;
            assert_eq!(status, StatusCode::OK, "{}: {answer}", test.name);
        };
        let sees = |organization, resource| {
            control.compute.0.access.is_visible(&Permit::<MeasurementsRead>::testing(organization), resource)
        };
        let (health, school) = (OrganizationId(2), OrganizationId(3));
        let other_uuid = "22222222-2d1c-4b7a-9e8f-112233445566";
        let with = |uuid| [("hardware_uuid", uuid)];
        let first = booted(&control, (21, "machine-21", "boot-a"), NOON, &with(UUID)).await;
        let second = booted(&control, (22, "machine-22", "boot-b"), NOON, &with(other_uuid)).await;
        control.compute.reconcile().await.expect("reconciled");
        give("vm_1", 1, "org_3").await;
        give("vm_2", 1, "org_3").await;
        // Then the city looks into its hypervisors.
        let mut ours = Hypervisor::open(&control, 7, 1, "machine-a").await;
        ours.frame(NOON, RUNNING, 100).await;
        let mut more = Hypervisor::open_with(&control, 8, 1, "machine-b", other_uuid).await;
        more.frame(NOON, RUNNING, 100).await;
        control.compute.reconcile().await.expect("reconciled");
        let anew = booted(&control, (23, "machine-21", "boot-a"), NOON, &with(UUID)).await;
        control.compute.reconcile().await.expect("reconciled");
        let (host, source) = (Resource::Host(HostId(1)), source_of(&control, "host_1").await);
        assert!(sees(school, host) && sees(school, source), "{}: an agent that is enrolled anew", test.name);

        // The same owner of both, and then another: the host goes with the machine.
        give("vm_3", 1, "org_3").await;
        assert!(sees(school, host) && sees(school, source));
        give("vm_3", 2, "org_2").await;
        assert!(!sees(school, host) && !sees(school, source), "{}: its owner reads it no more", test.name);
        assert!(sees(health, host) && sees(health, source));
        // Nobody had said of this one that it is the school's as well.
        let (host, source) = (Resource::Host(HostId(2)), source_of(&control, "host_2").await);
        assert!(sees(school, host) && sees(school, source));
        give("vm_4", 1, "org_2").await;
        for organization in [health, school] {
            assert!(!sees(organization, host) && !sees(organization, source), "{}: {organization:?}", test.name);
        }
        assert!(sees(health, Resource::Vm(VmId(4))));
        drop((first, second, ours, more, anew));
        control.stop().await;
    }
}

/// The source that a host's page shows.
async fn source_of(control: &Control, host: &str) -> Resource {
    let page = control.json(&format!("/api/v1/hosts/{host}")).await;
    Resource::Source(page["source"].as_str().expect("a source").parse().expect("an id"))
}

#[tokio::test]
async fn what_cannot_be_a_size_makes_no_sum_wrong() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let sane = guest(&control, 21, 1, "sane", &[]).await;
    let sizes = [("cpus", "NaN"), ("memory_bytes", "inf"), ("disk.sda.size_bytes", "-42949672960")];
    let wild = guest(&control, 22, 1, "wild", &sizes).await;
    // One that has said no more than that it is.
    let mut bare = Stream::open(&control, 23, 1, "machine-23");
    bare.facts(NOON, 23, &[("hostname", "bare"), ("virtualization", "kvm"), ("cpus", "1e300")]).await;
    control.compute.reconcile().await.expect("reconciled");
    let vm = control.json("/api/v1/vms/vm_2").await;
    assert_eq!((&vm["name"], &vm["vcpus"]), (&"wild".into(), &1.into()), "as its frames say");
    assert_eq!((&vm["memory_bytes"], &vm["disk_capacity_bytes"]), (&(8 * GIB).into(), &Value::Null));
    let vm = control.json("/api/v1/vms/vm_3").await;
    assert_eq!((&vm["name"], &vm["vcpus"], &vm["memory_bytes"]), (&"bare".into(), &Value::Null, &Value::Null));
    let total = control.json("/api/v1/capacity?by=organization").await["total"].clone();
    assert_eq!((&total["vms"], &total["cpu"]["allocated"]), (&2.into(), &3.0.into()), "{total}");
    assert_eq!(total["memory"]["allocated"], (16 * GIB) as f64);
    assert_eq!(total["storage"]["allocated"], (40 * GIB) as f64);
    drop((sane, wild, bare));
    control.stop().await;
}

#[tokio::test]
async fn a_guest_is_the_machine_that_its_organisation_was_given_whoevers_the_hypervisor_is() {
    let test = testing::sqlite().await;
    organizations(&test).await;
    let control = Control::start(&test).await;
    let mut theirs = Hypervisor::open(&control, 7, 3, "machine-a").await;
    theirs.facts(2, NOON - 30_000, &[("name", "web")]).await;
    theirs.frame(NOON, RUNNING, 100).await;
    let inside = guest(&control, 21, 2, "inside", &[("hardware_uuid", UUID)]).await;
    control.compute.reconcile().await.expect("reconciled");
    assert_eq!(names(&control.json("/api/v1/vms?sort=name").await), ["inside", "web"], "the school's is the school's");
    let given = control.put("/api/v1/vms/vm_1", json!({ "version": 1, "organization": "org_2" })).await;
    assert_eq!((given.0, &given.1["name"]), (StatusCode::OK, &"web".into()));
    control.compute.reconcile().await.expect("reconciled");
    let listed = control.json("/api/v1/vms").await;
    assert_eq!((names(&listed), &listed["items"][0]["guest"]), (vec!["web".to_owned()], &"host_1".into()));
    drop((theirs, inside));
    control.stop().await;
}

#[tokio::test]
async fn one_whose_agent_was_revoked_counts_no_more() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let (kept, left) = (guest(&control, 21, 1, "kept", &[]).await, guest(&control, 22, 1, "left", &[]).await);
    control.compute.reconcile().await.expect("reconciled");
    drop((kept, left));
    control.stop().await;
    enrolled(&test, &[(21, false), (22, true)]).await;

    let control = Control::start(&test).await;
    control.now.store(NOON + 60_000, Ordering::Relaxed);
    control.compute.reconcile().await.expect("reconciled");
    let items = control.json("/api/v1/vms").await["items"].clone();
    assert_eq!((&items[0]["state"], &items[1]["state"]), (&"stale".into(), &"gone".into()), "{items}");
    assert_eq!(control.json("/api/v1/vms/vm_2").await["state"], "gone");
    assert_eq!(control.json("/api/v1/capacity?by=organization").await["total"]["vms"], 1);
    assert_eq!(
        control.json("/api/v1/ledger").await["counts"]["only_measured"],
        1,
        "it stands in no list of what is there"
    );
    control.stop().await;
}

#[tokio::test]
async fn an_organisation_keeps_its_own_machine_while_it_does_not_see_the_hypervisors() {
    let test = testing::sqlite().await;
    organizations(&test).await;
    let control = Control::start(&test).await;
    let inside = guest(&control, 21, 2, "inside", &[("hardware_uuid", UUID)]).await;
    control.compute.reconcile().await.expect("reconciled");
    let mut ours = Hypervisor::open(&control, 7, 1, "machine-a").await;
    ours.facts(2, NOON - 30_000, &[("name", "web")]).await;
    ours.frame(NOON, RUNNING, 100).await;
    control.compute.reconcile().await.expect("reconciled");
    let (city, health) = (OrganizationId(1), OrganizationId(2));
    // What each is shown in the list, how many count in its capacity, and which one its host is.
    let seen = |organization| {
        let permit = Permit::<MeasurementsRead>::testing(organization);
        let name = |row: &VmLine| row.shown.name.clone();
        let listed: Vec<String> =
            control.compute.look(&permit, |board: &Board<VmLine>| board.rows.iter().map(name).collect());
        let capacity = control.compute.capacity(&permit, allocation::By::Organization, 0);
        let vm = control.compute.host_fetch(&permit, HostId(1)).expect("a host").vm;
        (listed, capacity.total.vms, vm)
    };
    let shown = |name: &str, vm| (vec![name.to_owned()], 1, Some(VmId(vm)));
    assert_eq!(seen(city), shown("web", 2));
    assert_eq!(seen(health), shown("inside", 1), "the city's is not theirs to see");
    let given = control.put("/api/v1/vms/vm_2", json!({ "version": 1, "organization": "org_2" })).await;
    assert_eq!(given.0, StatusCode::OK);
    assert_eq!(seen(health), shown("web", 2), "once");
    drop((inside, ours));
    control.stop().await;
}

#[tokio::test]
async fn a_machine_that_is_long_silent_hides_no_guest_that_reports() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut ours = Hypervisor::open(&control, 7, 1, "machine-a").await;
    ours.facts(2, NOON - 60_000, &[("name", "web")]).await;
    ours.frame(NOON - 15_000, RUNNING, 100).await;
    let mut inside = booted(&control, (21, UUID, "boot-a"), NOON - 5_000, &[]).await;
    let listed = async || {
        control.compute.reconcile().await.expect("reconciled");
        names(&control.json("/api/v1/vms?sort=name").await)
    };
    assert_eq!(listed().await, ["web"], "by its machine id");
    control.now.store(NOON + 300_000, Ordering::Relaxed);
    inside.frame(NOON + 300_000, 21, SECOND).await;
    assert_eq!(listed().await, ["web"], "its hypervisor may come back");
    control.now.store(NOON + 700_000, Ordering::Relaxed);
    inside.frame(NOON + 700_000, 21, SECOND).await;
    assert_eq!(listed().await, ["guest-21", "web"], "it was retired");
    drop((ours, inside));
    control.stop().await;
}

#[tokio::test]
async fn a_machine_that_is_long_off_hides_no_guest_that_reports() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut ours = Hypervisor::open(&control, 7, 1, "machine-a").await;
    ours.facts(2, NOON - 60_000, &[("name", "web")]).await;
    let mut inside = booted(&control, (21, UUID, "boot-a"), NOON - 5_000, &[]).await;
    let listed = async || {
        control.compute.reconcile().await.expect("reconciled");
        names(&control.json("/api/v1/vms?sort=name").await)
    };
    for quarter in 0..=68_i64 {
        let at_ms = NOON + quarter * 15_000;
        control.at(at_ms);
        ours.frame(at_ms, if (1..68).contains(&quarter) { SHUT_OFF } else { RUNNING }, 100).await;
        inside.frame(at_ms, 21, SECOND).await;
        match quarter {
            // Off since a quarter of a minute; through most of a slot; through one, through two; not any more.
            1 | 39 | 68 => assert_eq!(listed().await, ["web"], "{quarter}"),
            41 | 61 => assert_eq!(listed().await, ["guest-21", "web"], "it runs elsewhere"),
            _ => {}
        }
    }
    drop((ours, inside));
    control.stop().await;
}
