//! Virtual machines over real databases: fed through the sink as hypervisors' agents feed it.

use super::*;
use crate::access::capability::MeasurementsWrite;
use crate::platform::ids::VmId;
use axum::http::Method;
use bytes::Bytes;

pub(super) const UUID: &str = "0b5a6f3e-2d1c-4b7a-9e8f-112233445566";
const CPU: &str = "libvirt_domain_info_cpu_time_seconds_total";

/// libvirt's states.
pub(super) const RUNNING: i64 = 1;
const PAUSED: i64 = 3;
pub(super) const SHUT_OFF: i64 = 5;

/// An agent at a hypervisor with one domain.
pub(super) struct Hypervisor {
    session: Box<dyn crate::fleet::sink::SinkSession>,
    answers: mpsc::UnboundedReceiver<v1::Answers>,
    sequence: u64,
    epoch: u64,
}

fn column(metric: &str, kind: v1::Kind, exponent: i32, labels: &[(&str, &str)]) -> v1::Column {
    let label = |(name, value): &(&str, &str)| v1::Label { name: (*name).to_owned(), value: (*value).to_owned() };
    v1::Column {
        metric: metric.to_owned(),
        kind: kind.into(),
        exponent,
        unit: "1".to_owned(),
        help: "Help.".to_owned(),
        labels: labels.iter().map(label).collect(),
        ..Default::default()
    }
}

fn domain_columns() -> Vec<v1::Column> {
    let vda: &[(&str, &str)] = &[("target_device", "vda"), ("domain", "web")];
    vec![
        column("libvirt_domain_state_code", v1::Kind::Gauge, 0, &[("domain", "web")]),
        column("libvirt_domain_info_virtual_cpus", v1::Kind::Gauge, 0, &[("domain", "web")]),
        column(CPU, v1::Kind::Counter, -9, &[("domain", "web")]),
        column("libvirt_domain_info_memory_usage_bytes", v1::Kind::Gauge, 0, &[("domain", "web")]),
        column("libvirt_domain_memory_stats_available_bytes", v1::Kind::Gauge, 0, &[("domain", "web")]),
        column("libvirt_domain_memory_stats_usable_bytes", v1::Kind::Gauge, 0, &[("domain", "web")]),
        column("libvirt_domain_block_stats_capacity_bytes", v1::Kind::Gauge, 0, vda),
        column("libvirt_domain_block_stats_allocation", v1::Kind::Gauge, 0, vda),
        column("libvirt_domain_block_stats_physicalsize_bytes", v1::Kind::Gauge, 0, vda),
    ]
}

fn node_columns() -> Vec<v1::Column> {
    vec![
        column("libvirt_up", v1::Kind::Gauge, 0, &[]),
        column("libvirt_pool_info_capacity_bytes", v1::Kind::Gauge, 0, &[("pool", "default")]),
        column("tongtu_libvirt_domains_left_out", v1::Kind::Gauge, 0, &[]),
        column("tongtu_libvirt_calls_hanging", v1::Kind::Gauge, 0, &[]),
    ]
}

impl Hypervisor {
    pub(super) async fn open(control: &Control, agent: i64, organization: i64, machine_id: &str) -> Self {
        Self::open_with(control, agent, organization, machine_id, UUID).await
    }

    /// The same with a domain of another UUID.
    pub(super) async fn open_with(
        control: &Control,
        agent: i64,
        organization: i64,
        machine_id: &str,
        uuid: &str,
    ) -> Self {
        let epoch = agent as u64;
        let hello = v1::Hello { boot_id: "boot".to_owned(), epoch, ..Default::default() };
        let opening = Opening { agent: AgentId(agent), organization: OrganizationId(organization), hello };
        let (sender, answers) = mpsc::unbounded_channel();
        let mut session = control.telemetry.open(opening, sender);
        let control_ms = control.now.load(Ordering::Relaxed);
        session.anchor(ControlAnchor { boottime_ms: (control_ms - BOOTED_MS) as u64, control_ms, round_trip_ms: 1 });
        let schema = |columns: Vec<v1::Column>| v1::Schema { id: SchemaId::of(&columns).0.to_vec().into(), columns };
        let schemas = vec![schema(node_columns()), schema(domain_columns())];
        let source = |number: u32, kind: &str, key: &str| v1::Source {
            number,
            kind: kind.to_owned(),
            key: key.to_owned(),
            schema_id: schemas[number as usize - 1].id.clone(),
            interval_ms: 15_000,
        };
        let sources = vec![source(1, "libvirt_node", "node"), source(2, "libvirt_domain", uuid)];
        let boots = vec![v1::Boot { number: 1, boot_id: "boot".to_owned(), anchors: Vec::new() }];
        session.define(v1::Define { boots, sources, schemas }).expect("room");
        let mut hypervisor = Self { session, answers, sequence: 0, epoch };
        let pool = r#"{"type":"dir","state":"running","autostart":true,"path":"/var/lib/libvirt/images"}"#;
        hypervisor.facts(1, NOON - 60_000, &[("machine_id", machine_id), ("pool.default", pool)]).await;
        hypervisor
    }

    async fn send(&mut self, instant_ms: UnixMs, body: v1::record::Body, bytes: &[u8]) {
        self.sequence += 1;
        let record = v1::Record {
            sequence: self.sequence,
            boot: 1,
            boottime_ms: (instant_ms - BOOTED_MS) as u64,
            crc32c: crc32c::crc32c(bytes),
            body: Some(body),
        };
        self.session.records(v1::Records { lane: 1, live: true, epoch: self.epoch, records: vec![record] });
        let answers = tokio::time::timeout(Duration::from_secs(20), self.answers.recv()).await.expect("in time");
        let verdicts: Vec<_> = answers.expect("answers").answers.iter().map(|answer| answer.verdict()).collect();
        assert_eq!(verdicts, [v1::Verdict::Accepted]);
    }

    pub(super) async fn facts(&mut self, source: u32, instant_ms: UnixMs, facts: &[(&str, &str)]) {
        let facts: BTreeMap<_, _> =
            facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let facts = v1::Facts { source, facts: facts.into_iter().collect() };
        let bytes = prost::Message::encode_to_vec(&facts);
        self.send(instant_ms, v1::record::Body::Facts(facts), &bytes).await;
    }

    async fn event(&mut self, instant_ms: UnixMs, name: &str, detail: &str) {
        let attributes = [("detail".to_owned(), detail.to_owned())].into_iter().collect();
        let event = v1::Event { source: 2, name: name.to_owned(), attributes };
        let bytes = prost::Message::encode_to_vec(&event);
        self.send(instant_ms, v1::record::Body::Event(event), &bytes).await;
    }

    async fn values(&mut self, source: u32, instant_ms: UnixMs, values: &[Option<i64>]) {
        let mut body = Vec::new();
        State::from_values(values).encode_keyframe(&mut body);
        let frame = v1::Frame { source, base_sequence: 0, body: body.clone().into() };
        self.send(instant_ms, v1::record::Body::Frame(frame), &body).await;
    }

    /// A frame of the domain, which has used so many seconds of its two processors. Its disk is a file with holes.
    pub(super) async fn frame(&mut self, instant_ms: UnixMs, state: i64, cpu_s: i64) {
        let cpu = (state != SHUT_OFF).then_some(cpu_s * 1_000_000_000);
        let gib = |count: i64| Some(count << 30);
        // What libvirt calls allocation and physical.
        let [allocation, physical] = if state == SHUT_OFF { [gib(8), gib(20)] } else { [gib(15), gib(8)] };
        let values = [Some(state), Some(2), cpu, gib(4), gib(4), gib(1), gib(20), allocation, physical];
        self.values(2, instant_ms, &values).await;
    }

    /// The domain has other columns from now on: it is source 3.
    fn redefine(&mut self, columns: Vec<v1::Column>) {
        let schema_id: Bytes = SchemaId::of(&columns).0.to_vec().into();
        let source = v1::Source {
            number: 3,
            kind: "libvirt_domain".to_owned(),
            key: UUID.to_owned(),
            schema_id: schema_id.clone(),
            interval_ms: 15_000,
        };
        let schemas = vec![v1::Schema { id: schema_id, columns }];
        self.session.define(v1::Define { boots: Vec::new(), sources: vec![source], schemas }).expect("room");
    }

    pub(super) async fn node(&mut self, instant_ms: UnixMs) {
        self.node_of(instant_ms, true, Some(0), 0).await;
    }

    /// A frame of the node: whether libvirt answers, guests that are left out, calls that hang.
    pub(super) async fn node_of(&mut self, instant_ms: UnixMs, up: bool, left_out: Option<i64>, hanging: i64) {
        self.values(1, instant_ms, &[Some(up.into()), Some(100 << 30), left_out, Some(hanging)]).await;
    }
}

impl Control {
    pub(super) async fn put(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let mut request = Request::builder().method(Method::PUT).uri(path).header("content-type", "application/json");
        request.extensions_mut().expect("extensions").insert(self.principal);
        let request = request.body(Body::from(body.to_string())).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub(super) fn at(&self, now_ms: UnixMs) {
        self.now.store(now_ms, Ordering::Relaxed);
    }
}

/// Two departments below the root.
pub(super) async fn organizations(test: &TestDatabase) {
    Access::open(test.db.clone(), Clock::Manual(Arc::default())).await.expect("access opens");
    let transaction = test.db.begin("test").await.expect("begun");
    for organization in ["(2, 1, 'health', 0)", "(3, 1, 'school', 0)"] {
        let insert = format!("INSERT INTO organization (id, parent_id, name, created_ms) VALUES {organization}");
        sea_orm::ConnectionTrait::execute_unprepared(&transaction, &insert).await.expect("inserted");
    }
    transaction.commit().await.expect("committed");
}

/// Agents that are enrolled, and whether each was revoked; taken note of at the next start.
pub(super) async fn enrolled(test: &TestDatabase, agents: &[(i64, bool)]) {
    let transaction = test.db.begin("test").await.expect("begun");
    let token = "INSERT INTO enrolment_token (id, hash, organization_id, created_ms, expires_ms, uses, uses_left) \
         VALUES (1, zeroblob(32), 1, 0, 0, 9, 0)";
    sea_orm::ConnectionTrait::execute_unprepared(&transaction, token).await.expect("inserted");
    for (agent, revoked) in agents {
        let revoked_ms = if *revoked { "1" } else { "NULL" };
        let insert = format!(
            "INSERT INTO agent (id, kind, machine_id, hostname, version, protocol, interval_ms, enrolled_ms, \
             enrolment_token_id, enrolment_key, revoked_ms) \
             VALUES ({agent}, 'host', 'machine-{agent}', '', '', 1, 15000, 0, 1, zeroblob(32), {revoked_ms})"
        );
        sea_orm::ConnectionTrait::execute_unprepared(&transaction, &insert).await.expect("inserted");
    }
    transaction.commit().await.expect("committed");
}

#[tokio::test]
async fn a_machine_shows_what_its_hypervisor_says_of_it() {
    for test in testing::databases().await {
        let control = Control::start(&test).await;
        let mut one = Hypervisor::open(&control, 7, 1, "machine-a").await;
        one.facts(2, NOON - 30_000, &[("name", "web"), ("os_type", "hvm")]).await;
        one.node(NOON).await;
        one.frame(NOON - 15_000, RUNNING, 100).await;
        one.frame(NOON, RUNNING, 106).await;
        let done = control.compute.reconcile().await.expect("reconciled");
        assert_eq!((done.hosts, done.vms, done.sources), (1, 1, 2), "{}", test.name);
        assert_eq!(control.compute.reconcile().await.expect("reconciled"), Reconciled::default());
        let listed = control.json("/api/v1/vms").await;
        let vm = &listed["items"][0];
        assert_eq!((&vm["id"], &vm["name"], &vm["uuid"]), (&"vm_1".into(), &"web".into(), &UUID.into()));
        assert_eq!((&vm["state"], &vm["host"]), (&"running".into(), &"host_1".into()));
        assert_eq!((&vm["organization"], &vm["assigned"]), (&"org_1".into(), &false.into()));
        let usage = vm["cpu_usage_percent"].as_f64().expect("a number");
        assert!((usage - 20.0).abs() < 1e-9, "6 of 30 seconds: {usage}");
        assert_eq!(vm["memory_used_percent"], 75.0);
        assert_eq!(vm["disk_capacity_bytes"], 20_i64 << 30);
        assert_eq!(vm["disk_allocation_bytes"], 8_i64 << 30, "what its file takes, not how far it was written");
        let page = control.json("/api/v1/vms/vm_1").await;
        assert_eq!((&page["facts"]["os_type"], &page["disks"][0]["device"]), (&"hvm".into(), &"vda".into()));
        assert_eq!(page["places"][0]["host"], "host_1");
        assert_eq!(control.json("/api/v1/hosts/host_1/vms").await, listed);
        let pool = &control.json("/api/v1/pools").await["items"][0];
        assert_eq!((&pool["name"], &pool["kind"]), (&"default".into(), &"dir".into()));
        assert_eq!(pool["capacity_bytes"], 100_i64 << 30);

        control.at(NOON + 5_000);
        one.frame(NOON + 5_000, SHUT_OFF, 0).await;
        let off = &control.json("/api/v1/vms").await["items"][0];
        assert_eq!((&off["state"], &off["disk_allocation_bytes"]), (&"shut_off".into(), &(8_i64 << 30).into()));

        // It is gone while its hypervisor reports, and stale when that does not either.
        control.at(NOON + 60_000);
        one.node(NOON + 60_000).await;
        let gone = &control.json("/api/v1/vms").await["items"][0];
        assert_eq!((&gone["state"], &gone["cpu_usage_percent"]), (&"gone".into(), &Value::Null));
        assert_eq!(gone["vcpus"], 2, "what it was given is still said");
        control.at(NOON + 200_000);
        assert_eq!(control.json("/api/v1/vms?state=stale").await["items"][0]["id"], "vm_1");
        assert_eq!(control.json("/api/v1/vms?state=running,gone").await["items"], serde_json::json!([]));
        drop(one);
        control.stop().await;
    }
}

#[tokio::test]
async fn what_is_plugged_in_has_rates_with_its_second_frame() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut one = Hypervisor::open(&control, 7, 1, "machine-a").await;
    one.frame(NOON - 15_000, RUNNING, 100).await;
    control.compute.reconcile().await.expect("reconciled");
    let read = "libvirt_domain_block_stats_read_bytes_total";
    let mut columns = domain_columns();
    columns.push(column(read, v1::Kind::Counter, 0, &[("target_device", "vda"), ("domain", "web")]));
    one.redefine(columns);
    let gib = |count: i64| Some(count << 30);
    let mut shown = Vec::new();
    for (at_ms, bytes) in [(NOON, 4_096), (NOON + 15_000, 4_096 + 1_500)] {
        control.at(at_ms);
        let values = [Some(RUNNING), Some(2), Some(1), gib(4), gib(4), gib(1), gib(20), gib(8), gib(8), Some(bytes)];
        one.values(3, at_ms, &values).await;
        let vm = control.json("/api/v1/vms").await["items"][0].clone();
        shown.push((vm["state"].clone(), vm["disk_read_bytes_per_second"].clone()));
    }
    assert_eq!(shown, [("running".into(), Value::Null), ("running".into(), 100.0.into())]);
    drop(one);
    control.stop().await;
}

#[tokio::test]
async fn a_migration_keeps_one_machine_with_one_history() {
    for test in testing::databases().await {
        let control = Control::start(&test).await;
        let mut a = Hypervisor::open(&control, 1, 1, "machine-a").await;
        let mut b = Hypervisor::open(&control, 2, 1, "machine-b").await;
        a.frame(NOON - 30_000, RUNNING, 10).await;
        a.frame(NOON - 15_000, RUNNING, 25).await;
        control.compute.reconcile().await.expect("reconciled");
        // While it migrates both list it.
        b.event(NOON - 9_000, "domain.started", "migrated").await;
        b.frame(NOON - 8_000, PAUSED, 0).await;
        control.compute.reconcile().await.expect("reconciled");
        let during = &control.json("/api/v1/vms").await;
        assert_eq!(during["items"].as_array().map(Vec::len), Some(1), "{}: one machine", test.name);
        assert_eq!(during["items"][0]["host"], "host_1", "it has not arrived");
        a.frame(NOON, RUNNING, 40).await;
        control.at(NOON + 7_000);
        b.event(NOON + 2_000, "domain.migrated_in", "migrated").await;
        a.event(NOON + 2_050, "domain.stopped", "migrated").await;
        b.frame(NOON + 7_000, RUNNING, 2).await;
        let done = control.compute.reconcile().await.expect("reconciled");
        assert_eq!(done.moved, 1, "{}", test.name);
        control.at(NOON + 37_000);
        b.frame(NOON + 22_000, RUNNING, 17).await;
        b.frame(NOON + 37_000, RUNNING, 32).await;
        assert_eq!(control.compute.reconcile().await.expect("reconciled").moved, 0);
        let page = control.json("/api/v1/vms/vm_1").await;
        assert_eq!(
            (&page["host"], &page["conflict"], &page["state"]),
            (&"host_2".into(), &Value::Null, &"running".into())
        );
        let places = page["places"].as_array().expect("places");
        assert_eq!(places.len(), 2, "{page}");
        assert_eq!((&places[0]["to_ms"], &places[1]["from_ms"]), (&(NOON + 2_000).into(), &(NOON + 2_000).into()));
        assert_eq!(places[1]["to_ms"], Value::Null);
        // Its events are those of both hosts.
        let events = control.json("/api/v1/vms/vm_1/events").await;
        let names: Vec<_> = events["items"].as_array().expect("events").iter().map(|event| &event["name"]).collect();
        assert_eq!(names, ["domain.stopped", "domain.migrated_in", "domain.started"]);
        // One series over both, and no rate of one host's counter against the other's.
        let path = format!("/api/v1/vms/vm_1/series?metric={CPU}&from_ms={}&to_ms={}", NOON - 60_000, NOON + 40_000);
        let series = control.json(&path).await;
        assert_eq!(series["vm"], "vm_1");
        assert_eq!(series["series"].as_array().map(Vec::len), Some(1));
        let expected: Vec<i64> = [-30, -15, 0, 7, 22, 37].iter().map(|second| NOON + second * 1_000).collect();
        assert_eq!(series["series"][0]["instants_ms"], serde_json::json!(expected));
        assert_eq!(series["series"][0]["value"], serde_json::json!([10, 25, 40, 2, 17, 32]));
        let slots = control.json(&format!("{path}&step_seconds=300")).await;
        let rates: Vec<_> =
            slots["series"][0]["value"].as_array().expect("values").iter().filter_map(Value::as_f64).collect();
        // Of the other host's slot a part is of the time in which it was held there.
        assert!(
            matches!(rates[..], [1.0, second] if (0.8..0.9).contains(&second)),
            "each host's own seconds: {rates:?}"
        );
        drop((a, b));
        control.stop().await;

        let control = Control::start(&test).await;
        assert_eq!(control.compute.reconcile().await.expect("reconciled").moved, 0, "a restart moves nothing");
        assert_eq!(control.json("/api/v1/vms/vm_1").await["places"], page["places"]);
        control.stop().await;
    }
}

#[tokio::test]
async fn what_runs_twice_is_said_and_what_two_organisations_claim_is_two() {
    for test in testing::databases().await {
        organizations(&test).await;
        let control = Control::start(&test).await;
        let mut a = Hypervisor::open(&control, 1, 2, "machine-a").await;
        let mut b = Hypervisor::open(&control, 2, 2, "machine-b").await;
        let mut other = Hypervisor::open(&control, 3, 3, "machine-c").await;
        other.frame(NOON, RUNNING, 1).await;
        control.compute.reconcile().await.expect("reconciled");
        for second in [0, 15, 30, 45, 60, 75, 90] {
            let at_ms = NOON + second * 1_000;
            control.at(at_ms);
            a.frame(at_ms, RUNNING, second).await;
            b.frame(at_ms, RUNNING, second).await;
            control.compute.reconcile().await.expect("reconciled");
        }
        let listed = control.json("/api/v1/vms?conflict=true").await;
        let of: Vec<_> = listed["items"].as_array().expect("machines").iter().map(|vm| &vm["conflict"]).collect();
        assert_eq!(of, ["running_twice", "claimed_twice"], "{}", test.name);
        let page = control.json("/api/v1/vms/vm_1").await;
        assert!(page["conflict_host"].is_string(), "{page}");
        assert_eq!(page["claimed_by"], serde_json::json!(["vm_2"]));
        // A department learns nothing of another's.
        let school = Permit::<MeasurementsRead>::testing(OrganizationId(3));
        assert!(control.compute.vm_visible(&school, VmId(1)).is_none());
        // One of them ends: it is where it still runs.
        control.at(NOON + 105_000);
        a.frame(NOON + 105_000, SHUT_OFF, 0).await;
        b.frame(NOON + 105_000, RUNNING, 105).await;
        control.compute.reconcile().await.expect("reconciled");
        let page = control.json("/api/v1/vms/vm_1").await;
        assert_eq!((&page["host"], &page["conflict"]), (&"host_2".into(), &"claimed_twice".into()));
        drop((a, b, other));
        control.stop().await;
    }
}

#[tokio::test]
async fn what_is_gone_claims_nothing() {
    let test = testing::sqlite().await;
    organizations(&test).await;
    let control = Control::start(&test).await;
    // A hypervisor that was enrolled for a department, and then for the city.
    let mut wrong = Hypervisor::open(&control, 1, 2, "machine-a").await;
    let mut right = Hypervisor::open(&control, 2, 1, "machine-a").await;
    let conflicts = async || {
        let listed = control.json("/api/v1/vms").await;
        let listed = listed["items"].as_array().expect("machines");
        let of: Vec<_> = listed.iter().map(|vm| vm["conflict"].clone()).collect();
        let pages = [control.json("/api/v1/vms/vm_1").await, control.json("/api/v1/vms/vm_2").await];
        assert_eq!(pages.each_ref().map(|page| page["conflict"].clone()).as_slice(), of, "the pages say the same");
        (of, pages.map(|page| page["claimed_by"].clone()))
    };
    for hypervisor in [&mut wrong, &mut right] {
        hypervisor.node(NOON).await;
        hypervisor.frame(NOON, RUNNING, 1).await;
    }
    control.compute.reconcile().await.expect("reconciled");
    let twice = Value::from("claimed_twice");
    let both = (vec![twice.clone(), twice], [serde_json::json!(["vm_2"]), serde_json::json!(["vm_1"])]);
    assert_eq!(conflicts().await, both);
    // The first one's is listed no more.
    control.at(NOON + 60_000);
    wrong.node(NOON + 60_000).await;
    right.node(NOON + 60_000).await;
    right.frame(NOON + 60_000, RUNNING, 61).await;
    let none = [serde_json::json!([]), serde_json::json!([])];
    assert_eq!(conflicts().await, (vec![Value::Null; 2], none));
    assert_eq!(control.json("/api/v1/overview").await["vms"]["conflict"], 0);
    // And is there again, while nothing else changed.
    wrong.frame(NOON + 60_000, RUNNING, 61).await;
    assert_eq!(conflicts().await, both);
    drop((wrong, right));
    control.stop().await;
}

#[tokio::test]
async fn a_machine_is_given_to_somebody_from_an_instant_on() {
    for test in testing::databases().await {
        organizations(&test).await;
        let control = Control::start(&test).await;
        let mut one = Hypervisor::open(&control, 1, 1, "machine-a").await;
        one.frame(NOON - 15_000, RUNNING, 10).await;
        control.compute.reconcile().await.expect("reconciled");
        assert_eq!(control.json("/api/v1/vms?unowned=true").await["items"][0]["id"], "vm_1");
        assert_eq!(control.json("/api/v1/overview").await["vms"]["unowned"], 1);
        control.at(NOON + 20_000);
        let said = serde_json::json!({ "version": 1, "organization": "org_2", "since_ms": NOON + 10_000,
            "application": "i厦门", "purpose": "production", "expires_ms": NOON + 25_000 });
        let (status, page) = control.put("/api/v1/vms/vm_1", said.clone()).await;
        assert_eq!(
            (status, &page["organization"], &page["version"]),
            (StatusCode::OK, &"org_2".into(), &2.into()),
            "{page}"
        );
        assert_eq!((&page["assigned"], &page["expired"]), (&true.into(), &false.into()));
        let (status, _) = control.put("/api/v1/vms/vm_1", said).await;
        assert_eq!(status, StatusCode::CONFLICT, "it was made from an older version");
        one.frame(NOON + 20_000, RUNNING, 25).await;
        // The department sees its own time alone.
        let health = Permit::<MeasurementsRead>::testing(OrganizationId(2));
        let vm = control.compute.vm_visible(&health, VmId(1)).expect("its own");
        let owned = control.compute.0.access.periods(&health, Resource::Vm(VmId(1)));
        assert_eq!(owned, [(NOON + 10_000, UnixMs::MAX)]);
        let query = SeriesQuery {
            source: SourceId(0),
            metrics: vec![CPU.to_owned()],
            points: None,
            sum_by: None,
            resource: None,
            from_ms: NOON - 60_000,
            to_ms: NOON + 20_001,
            step_ms: None,
        };
        let series = control.telemetry.series_joined(&vm.parts(), &owned, &query).await.expect("an answer");
        assert_eq!(series[0].points.instants_ms, [NOON + 20_000], "what was before is another's");
        let source = vm.source().expect("a source");
        assert!(control.telemetry.source(&health, source).is_some(), "its source is its own as well");
        let detail = control.compute.vm_detail(&health, &vm);
        let detail = serde_json::to_value(detail).expect("JSON");
        assert_eq!(detail["owners"], serde_json::json!([{ "organization": "org_2", "from_ms": NOON + 10_000 }]));
        assert_eq!(
            (&detail["host"], &detail["places"][0]["host"]),
            (&Value::Null, &Value::Null),
            "the host is not its own"
        );
        let overview = || -> Value { serde_json::from_str(&control.compute.overview(&health, None)).expect("JSON") };
        let counts =
            serde_json::json!({ "total": 1, "states": { "running": 1 }, "conflict": 0, "expired": 0, "unowned": 0 });
        assert_eq!((&overview()["hosts"]["total"], &overview()["vms"]), (&0.into(), &counts), "it is all it has");
        // Expired, and then somebody else's.
        control.at(NOON + 25_000);
        assert_eq!(control.json("/api/v1/vms?expired=true").await["items"][0]["id"], "vm_1");
        assert_eq!(overview()["vms"]["expired"], 1);
        let before = serde_json::json!({ "version": 2, "organization": "org_3", "since_ms": NOON });
        let (status, _) = control.put("/api/v1/vms/vm_1", before).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "the past stays whose it was");
        let (status, _) =
            control.put("/api/v1/vms/vm_1", serde_json::json!({ "version": 2, "organization": "org_3" })).await;
        assert_eq!(status, StatusCode::OK);
        assert!(control.compute.vm_visible(&health, VmId(1)).is_none());
        assert_eq!(overview()["vms"]["total"], 0);
        let owned = control.compute.0.access.periods(&health, Resource::Vm(VmId(1)));
        assert_eq!(owned, [(NOON + 10_000, NOON + 25_000)], "it still sees its time");
        drop(one);
        control.stop().await;

        let control = Control::start(&test).await;
        let page = control.json("/api/v1/vms/vm_1").await;
        assert_eq!(
            (&page["organization"], &page["version"], &page["application"]),
            (&"org_3".into(), &3.into(), &Value::Null)
        );
        assert_eq!(page["owners"].as_array().map(Vec::len), Some(3), "{page}");
        control.stop().await;
    }
}

#[tokio::test]
async fn a_provider_is_that_of_hosts_and_of_what_is_on_them() {
    for test in testing::databases().await {
        let control = Control::start(&test).await;
        let mut one = Hypervisor::open(&control, 1, 1, "machine-a").await;
        one.frame(NOON, RUNNING, 10).await;
        control.compute.reconcile().await.expect("reconciled");
        let write = Permit::<MeasurementsWrite>::testing(OrganizationId(1));
        let content = |name: &str| provider::ProviderContent {
            name: name.to_owned(),
            kind: provider::ProviderKind::Own,
            contact: String::new(),
        };
        let id = control.compute.provider_put(&write, None, content("市政务云")).await.expect("added").expect("an id");
        control.compute.provider_put(&write, None, content("市政务云")).await.expect_err("the name is taken");
        let scoped = Permit::<MeasurementsWrite>::testing(OrganizationId(2));
        control.compute.provider_put(&scoped, None, content("别家")).await.expect_err("not the whole city");
        let (status, _) = control.put("/api/v1/hosts/host_1/provider", serde_json::json!({ "provider": id })).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        let listed = control.json("/api/v1/providers").await;
        assert_eq!((&listed["items"][0]["hosts"], &listed["items"][0]["vms"]), (&1.into(), &1.into()), "{}", test.name);
        assert_eq!(control.json("/api/v1/vms?provider=provider_1").await["items"][0]["id"], "vm_1");
        control.compute.provider_delete(&write, id).await.expect_err("a host is of it");
        let (status, _) = control.put("/api/v1/hosts/host_1/provider", serde_json::json!({ "provider": null })).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        assert_eq!(control.compute.provider_delete(&write, id).await.expect("removed"), Some(()));
        assert_eq!(control.json("/api/v1/providers").await["items"], serde_json::json!([]));
        drop(one);
        control.stop().await;
    }
}

#[tokio::test]
async fn capacity_and_review_say_what_was_given_and_used() {
    let test = testing::sqlite().await;
    organizations(&test).await;
    let control = Control::start(&test).await;
    let mut one = Hypervisor::open(&control, 1, 1, "machine-a").await;
    let node = [("machine_id", "machine-a"), ("cpus", "16"), ("memory_bytes", "68719476736")];
    one.facts(1, NOON - 1, &node).await;
    one.node(NOON).await;
    // An hour: half of one of two processors.
    for frame in 0..=240 {
        let at_ms = NOON + frame * 15_000;
        control.at(at_ms);
        one.frame(at_ms, RUNNING, frame * 15 / 2).await;
    }
    control.compute.reconcile().await.expect("reconciled");
    assert_eq!(control.json("/api/v1/capacity?by=host").await["usage_ready"], false);
    assert_eq!(control.json("/api/v1/review").await["items"], serde_json::json!([]));
    let stopped = Shutdown::new();
    stopped.trigger();
    assert!(control.compute.survey_aside(stopped).await.is_none(), "what is told to stop finds nothing");
    let surveyed = control.compute.survey_aside(Shutdown::new()).await.expect("not told to stop");
    assert_eq!(surveyed.expect("surveyed"), 1);
    let capacity = control.json("/api/v1/capacity?by=host&days=1").await;
    let host = &capacity["items"][0];
    assert_eq!((&host["key"], &host["vms"]), (&"host_1".into(), &1.into()));
    assert_eq!((&host["cpu"]["physical"], &host["cpu"]["allocated"]), (&16.0.into(), &2.0.into()));
    assert_eq!(host["cpu"]["overcommit_ratio"], 0.125);
    assert_eq!(host["memory"]["allocated"], (4_i64 << 30) as f64);
    let mean = host["cpu"]["used_mean"].as_f64().expect("measured");
    assert!((mean - 0.5).abs() < 0.01, "{host}");
    assert_eq!(host["memory"]["used_mean"], Value::Null, "resident memory was not measured");
    assert_eq!(capacity["total"]["cpu"]["used_p95"], host["cpu"]["used_p95"]);
    one.node(NOON + 3_600_000).await;
    let room = control.json("/api/v1/capacity/room?vcpus=4&memory_bytes=8589934592&overcommit=1").await;
    assert_eq!((&room["fits"], &room["fits_with_one_lost"]), (&3.into(), &0.into()), "{room}");
    let review = control.json("/api/v1/review?days=1").await;
    let item = &review["items"][0];
    assert_eq!((&item["id"], &item["verdicts"]), (&"vm_1".into(), &serde_json::json!(["unknown"])));
    assert_eq!(item["lack"], "coverage", "an hour is no day");
    let mean = item["cpu"]["mean_percent"].as_f64().expect("measured");
    assert!((mean - 25.0).abs() < 0.5, "{item}");
    assert_eq!(item["memory"]["p95_percent"], 75.0);
    assert_eq!(review["counts"], serde_json::json!({ "unknown": 1 }));
    // Its new owner is told that it is there, and nothing of what was before.
    let (status, _) =
        control.put("/api/v1/vms/vm_1", serde_json::json!({ "version": 1, "organization": "org_2" })).await;
    assert_eq!(status, StatusCode::OK);
    let review = control.json("/api/v1/review?days=1").await;
    let item = &review["items"][0];
    assert_eq!((&item["organization"], &item["verdicts"]), (&"org_2".into(), &serde_json::json!(["unknown"])));
    assert_eq!((&item["cpu"], &item["memory"], &item["lack"]), (&Value::Null, &Value::Null, &"coverage".into()));
    assert_eq!(item["from_ms"], item["to_ms"], "it is theirs since after the last slot");
    // What they have of it the next survey says.
    for frame in 241..=280 {
        let at_ms = NOON + frame * 15_000;
        control.at(at_ms);
        one.frame(at_ms, RUNNING, frame * 15 / 2).await;
    }
    control.compute.survey().await.expect("surveyed");
    let item = &control.json("/api/v1/review?days=1").await["items"][0];
    assert!(item["cpu"]["mean_percent"].is_number(), "{item}");
    // It was deleted: its hypervisor reports, and lists it no more.
    let later_ms = NOON + 280 * 15_000 + 60_000;
    control.at(later_ms);
    let silent = control.json("/api/v1/review?days=1").await;
    assert_eq!(silent["items"].as_array().map(Vec::len), Some(1), "it may come back");
    one.node(later_ms).await;
    let review = control.json("/api/v1/review?days=1").await;
    assert_eq!((&review["items"], &review["counts"]), (&serde_json::json!([]), &serde_json::json!({})));
    drop(one);
    control.stop().await;
}
