//! What a department is told of what is listed and summed: nothing of another's, and nothing of another's time.

use serde_json::json;

use super::vm::{Hypervisor, RUNNING, UUID, organizations};
use super::*;
use crate::access::Role;
use crate::access::capability::MeasurementsWrite;
use crate::compute::provider::{ProviderContent, ProviderKind};

const OTHER_UUID: &str = "7d1f0c2b-5e6a-4c3d-8b9a-445566778899";

/// Answers in which things stand by their ids and names.
const LISTS: [&str; 8] = [
    "/api/v1/hosts",
    "/api/v1/vms",
    "/api/v1/pools",
    "/api/v1/prometheus/targets",
    "/api/v1/review?days=1",
    "/api/v1/capacity?by=host&days=1",
    "/api/v1/capacity?by=organization&days=1",
    ROOM,
];
const ROOM: &str = "/api/v1/capacity/room?vcpus=4&memory_bytes=8589934592&overcommit=1";
const BY_PROVIDER: &str = "/api/v1/capacity?by=provider&days=1";

/// Of a department, a machine with 16 processors and its two agents: the hypervisor's, with a domain and a pool of the
/// department's name, and its own.
async fn machine(control: &Control, agent: i64, organization: i64, name: &str, uuid: &str) -> (Hypervisor, Stream) {
    let machine = format!("machine-{name}");
    let mut hypervisor = Hypervisor::open_with(control, agent, organization, &machine, uuid).await;
    let pool = format!("pool.{name}");
    let node = [
        ("machine_id", machine.as_str()),
        ("cpus", "16"),
        ("memory_bytes", "68719476736"),
        (pool.as_str(), r#"{"type":"dir","state":"running"}"#),
    ];
    hypervisor.facts(1, NOON - 1, &node).await;
    hypervisor.facts(2, NOON - 1, &[("name", name)]).await;
    (hypervisor, Stream::open(control, agent + 10, organization, &machine))
}

/// By what a department's things are known in an answer.
fn marks(vms: &Value, organization: &str, agent: i64, name: &str) -> Vec<String> {
    let mut items = vms["items"].as_array().expect("machines").iter();
    let vm = items.find(|vm| vm["organization"] == organization).expect("a machine");
    let text = |field: &str| vm[field].as_str().expect("a text").to_owned();
    let agents = [agent, agent + 10].map(|agent| format!("agent_{agent}"));
    let all = [organization.to_owned(), name.to_owned(), text("id"), text("host")].into_iter().chain(agents);
    all.map(|mark| format!("\"{mark}\"")).collect()
}

/// Hosts, machines and processors of a sum.
fn counts(item: &Value) -> (Option<u64>, Option<u64>, Option<f64>) {
    (item["hosts"].as_u64(), item["vms"].as_u64(), item["cpu"]["physical"].as_f64())
}

impl Control {
    /// A machine token of one department.
    pub(super) async fn token_of(&self, organization: OrganizationId) -> Principal {
        let access = &self.compute.0.access;
        let (name, role) = ("department".to_owned(), Role::Reader);
        let wished = crate::access::NewToken { name, role, organization: Some(organization), expires_ms: None };
        let (_, secret) = access.token_create(&Permit::system(), wished).await.expect("a token");
        access.authenticate(&secret).expect("a live token")
    }
}

#[tokio::test]
async fn a_department_is_told_of_its_own_alone() {
    let test = testing::sqlite().await;
    organizations(&test).await;
    let mut control = Control::start(&test).await;
    let (mut own, mut own_host) = machine(&control, 1, 2, "health", UUID).await;
    let (mut other, mut other_host) = machine(&control, 2, 3, "school", OTHER_UUID).await;
    // Two whole slots and more.
    let mut last_ms = NOON;
    for frame in 0..=44 {
        last_ms = NOON + frame * 15_000;
        control.at(last_ms);
        for hypervisor in [&mut own, &mut other] {
            hypervisor.frame(last_ms, RUNNING, frame * 15 / 2).await;
        }
    }
    own.node(last_ms).await;
    other.node(last_ms).await;
    own_host.frame(last_ms, 11, FIRST).await;
    other_host.frame(last_ms, 12, FIRST).await;
    control.compute.reconcile().await.expect("reconciled");
    let write = Permit::<MeasurementsWrite>::testing(OrganizationId(1));
    let content = ProviderContent { name: "市政务云".to_owned(), kind: ProviderKind::Own, contact: String::new() };
    let provider = control.compute.provider_put(&write, None, content).await.expect("added").expect("an id");
    for host in ["host_1", "host_2"] {
        let (status, _) = control.put(&format!("/api/v1/hosts/{host}/provider"), json!({ "provider": provider })).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    assert_eq!(control.compute.survey().await.expect("surveyed"), 2);

    // Who reaches the whole city is told of both.
    let vms = control.json("/api/v1/vms").await;
    let (ours, theirs) = (marks(&vms, "org_2", 1, "health"), marks(&vms, "org_3", 2, "school"));
    let found = |answer: &str, marks: &[String]| marks.iter().find(|mark| answer.contains(mark.as_str())).cloned();
    for path in LISTS {
        let (_, answer) = control.get(path).await;
        assert!(found(&answer, &ours).is_some() && found(&answer, &theirs).is_some(), "{path}: {answer}");
    }
    let sum = control.json(BY_PROVIDER).await;
    assert_eq!(counts(&sum["items"][0]), (Some(2), Some(2), Some(32.0)), "{sum}");
    assert!(sum["items"][0]["cpu"]["used_mean"].is_number() && sum["total"]["cpu"]["used_mean"].is_number(), "{sum}");
    assert_eq!(control.json(ROOM).await["fits"], 6);

    let health = OrganizationId(2);
    let token = control.token_of(health).await;
    for principal in [token, Principal::testing(health, Role::DepartmentUser)] {
        control.principal = principal;
        for path in LISTS {
            let (status, answer) = control.get(path).await;
            assert_eq!(status, StatusCode::OK, "{path}: {answer}");
            assert!(found(&answer, &ours).is_some(), "{path}: {answer}");
            assert_eq!(found(&answer, &theirs), None, "{path}: {answer}");
        }
        // A sum is of their own, and the use of a provider, which is a sum over the whole city, is not told.
        let sum = control.json(BY_PROVIDER).await;
        assert_eq!(sum["items"].as_array().map(Vec::len), Some(1), "{sum}");
        for part in [&sum["items"][0], &sum["total"]] {
            assert_eq!(counts(part), (Some(1), Some(1), Some(16.0)), "{sum}");
            assert_eq!((&part["cpu"]["used_mean"], &part["memory"]["used_mean"]), (&Value::Null, &Value::Null));
        }
        let providers = control.json("/api/v1/providers").await;
        assert_eq!((&providers["items"][0]["hosts"], &providers["items"][0]["vms"]), (&1.into(), &1.into()));
        let room = control.json(ROOM).await;
        assert_eq!((&room["fits"], &room["fits_with_one_lost"]), (&3.into(), &0.into()), "{room}");
        let overview = control.json("/api/v1/overview").await;
        assert_eq!((&overview["hosts"]["total"], &overview["vms"]["total"]), (&1.into(), &1.into()), "{overview}");
    }
    drop((own, own_host, other, other_host));
    control.stop().await;
}

#[tokio::test]
async fn a_former_owner_is_told_of_its_own_time_alone() {
    let test = testing::sqlite().await;
    organizations(&test).await;
    let mut control = Control::start(&test).await;
    let mut one = Hypervisor::open(&control, 1, 2, "machine-a").await;
    one.frame(NOON, RUNNING, 10).await;
    control.compute.reconcile().await.expect("reconciled");
    control.at(NOON + 20_000);
    let (status, page) = control.put("/api/v1/vms/vm_1", json!({ "version": 1, "organization": "org_3" })).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    control.at(NOON + 30_000);
    one.frame(NOON + 30_000, RUNNING, 25).await;
    let sources = control.json("/api/v1/sources").await;
    let mut sources = sources["items"].as_array().expect("sources").iter();
    let source = sources.find(|source| source["kind"] == "libvirt_domain").expect("the domain")["id"].clone();
    let source = source.as_str().expect("an id");
    let asked = format!("metric=libvirt_domain_state_code&from_ms={}&to_ms={}", NOON - 60_000, NOON + 60_000);
    let paths = [format!("/api/v1/vms/vm_1/series?{asked}"), format!("/api/v1/series?source={source}&{asked}")];
    for (organization, theirs) in [(1, vec![NOON, NOON + 30_000]), (2, vec![NOON]), (3, vec![NOON + 30_000])] {
        control.principal = control.token_of(OrganizationId(organization)).await;
        for path in &paths {
            let answer = control.json(path).await;
            assert_eq!(answer["series"][0]["instants_ms"], json!(theirs), "org_{organization}: {answer}");
        }
    }
    drop(one);
    control.stop().await;
}
