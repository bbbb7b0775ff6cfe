//! Hosts over real databases, fed through the sink as agents feed it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;
use tongtu_protocol::codec::State;
use tongtu_protocol::schema::SchemaId;
use tongtu_protocol::v1;
use tower::ServiceExt;

use super::*;
use crate::access::Principal;
use crate::access::capability::MeasurementsRead;
use crate::config::Config;
use crate::fleet::sink::{ControlAnchor, Opening, Sink};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, OrganizationId};
use crate::platform::metrics::Registry;
use crate::platform::shutdown::Shutdown;
use crate::platform::testing::{self, TestDatabase};
use crate::telemetry::{self, SeriesQuery};

mod board;
mod hypervisor;
mod inside;
mod ledger;
mod live;
mod moved;
mod overview;
mod scope;
mod vm;

const NOON: UnixMs = 1_790_000_100_000;

struct Control {
    now: Arc<AtomicI64>,
    telemetry: Telemetry,
    compute: Compute,
    router: Router,
    principal: Principal,
    shutdown: Shutdown,
}

impl Control {
    async fn start(test: &TestDatabase) -> Self {
        let now = Arc::new(AtomicI64::new(NOON));
        let clock = Clock::Manual(Arc::clone(&now));
        let registry = Registry::new();
        let access = Access::open(test.db.clone(), clock.clone()).await.expect("access opens");
        access.ensure_api_token(test.data.path()).await.expect("a token");
        let text = std::fs::read_to_string(test.data.path().join("api-token")).expect("the token's file");
        let principal = access.authenticate(text.trim()).expect("a live token");
        let address = "127.0.0.1:6481".to_owned();
        let fleet = Fleet::open(test.db.clone(), access.clone(), clock.clone(), test.data.path(), address, &registry);
        let fleet = fleet.await.expect("the fleet opens");
        let mut config = Config::default().telemetry;
        config.commit_interval = Duration::from_millis(1);
        let telemetry = Telemetry::open(test.db.clone(), access.clone(), clock.clone(), config, &registry);
        let telemetry = telemetry.await.expect("telemetry opens");
        let shutdown = Shutdown::new();
        telemetry.start(&shutdown);
        let compute = Compute::open(test.db.clone(), access.clone(), fleet.clone(), telemetry.clone(), clock.clone());
        let compute = compute.await.expect("compute opens");
        let router = api::router(compute.clone()).merge(telemetry::api::router(telemetry.clone(), fleet, clock));
        let router = router.split_for_parts().0;
        Self { now, telemetry, compute, router, principal, shutdown }
    }

    async fn stop(self) {
        self.shutdown.trigger();
        self.telemetry.close().await;
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let mut request = Request::get(path).header("host", "127.0.0.1:6480").body(Body::empty()).expect("a request");
        request.extensions_mut().insert(self.principal);
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

fn columns() -> Vec<v1::Column> {
    let column = |metric: &str, kind: v1::Kind, exponent: i32, labels: &[(&str, &str)]| v1::Column {
        metric: metric.to_owned(),
        kind: kind.into(),
        exponent,
        unit: "1".to_owned(),
        help: "Help.".to_owned(),
        labels: labels
            .iter()
            .map(|(name, value)| v1::Label { name: (*name).to_owned(), value: (*value).to_owned() })
            .collect(),
        ..Default::default()
    };
    vec![
        column("node_cpu_seconds_total", v1::Kind::Counter, -2, &[("cpu", "0"), ("mode", "user")]),
        column("node_cpu_seconds_total", v1::Kind::Counter, -2, &[("cpu", "0"), ("mode", "idle")]),
        column("node_memory_MemTotal_bytes", v1::Kind::Gauge, 0, &[]),
        column("node_network_receive_bytes_total", v1::Kind::Counter, 0, &[("device", "eth0")]),
        column("node_network_transmit_bytes_total", v1::Kind::Counter, 0, &[("device", "eth0")]),
        column("node_boot_time_seconds", v1::Kind::Gauge, 0, &[]),
    ]
}

/// An agent's stream, on a machine that was started a day before [`NOON`].
struct Stream {
    session: Box<dyn crate::fleet::sink::SinkSession>,
    answers: mpsc::UnboundedReceiver<v1::Answers>,
    sequence: u64,
    booted_ms: UnixMs,
}

const BOOTED_MS: UnixMs = NOON - 86_400_000;

impl Stream {
    fn open(control: &Control, agent: i64, organization: i64, machine_id: &str) -> Self {
        Self::open_boot(control, agent, organization, machine_id, ("boot", BOOTED_MS))
    }

    fn open_boot(
        control: &Control,
        agent: i64,
        organization: i64,
        machine_id: &str,
        (boot_id, booted_ms): (&str, UnixMs),
    ) -> Self {
        let hello = v1::Hello { boot_id: boot_id.to_owned(), epoch: agent as u64, ..Default::default() };
        let opening = Opening { agent: AgentId(agent), organization: OrganizationId(organization), hello };
        let (sender, answers) = mpsc::unbounded_channel();
        let mut session = control.telemetry.open(opening, sender);
        let control_ms = control.now.load(Ordering::Relaxed);
        session.anchor(ControlAnchor { boottime_ms: (control_ms - booted_ms) as u64, control_ms, round_trip_ms: 1 });
        let columns = columns();
        let id = SchemaId::of(&columns).0.to_vec();
        let source = v1::Source {
            number: 1,
            kind: "host".to_owned(),
            key: machine_id.to_owned(),
            schema_id: id.clone().into(),
            interval_ms: 15_000,
        };
        session
            .define(v1::Define {
                boots: vec![v1::Boot { number: 1, boot_id: boot_id.to_owned(), anchors: Vec::new() }],
                sources: vec![source],
                schemas: vec![v1::Schema { id: id.into(), columns }],
            })
            .expect("room");
        Self { session, answers, sequence: 0, booted_ms }
    }

    async fn send(&mut self, instant_ms: UnixMs, epoch: u64, body: v1::record::Body, bytes: &[u8]) {
        self.sequence += 1;
        let record = v1::Record {
            sequence: self.sequence,
            boot: 1,
            boottime_ms: (instant_ms - self.booted_ms) as u64,
            crc32c: crc32c::crc32c(bytes),
            body: Some(body),
        };
        self.session.records(v1::Records { lane: 1, live: true, epoch, records: vec![record] });
        let answers = tokio::time::timeout(Duration::from_secs(20), self.answers.recv()).await.expect("in time");
        let verdicts: Vec<_> = answers.expect("answers").answers.iter().map(|answer| answer.verdict()).collect();
        assert_eq!(verdicts, [v1::Verdict::Accepted]);
    }

    async fn frame(&mut self, instant_ms: UnixMs, epoch: u64, values: [i64; 6]) {
        let (frame, body) = frame(values);
        self.send(instant_ms, epoch, frame, &body).await;
    }

    async fn facts(&mut self, instant_ms: UnixMs, epoch: u64, facts: &[(&str, &str)]) {
        let facts: BTreeMap<_, _> =
            facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let facts = v1::Facts { source: 1, facts: facts.into_iter().collect() };
        let bytes = prost::Message::encode_to_vec(&facts);
        self.send(instant_ms, epoch, v1::record::Body::Facts(facts), &bytes).await;
    }
}

fn frame(values: [i64; 6]) -> (v1::record::Body, Vec<u8>) {
    let mut body = Vec::new();
    State::from_values(&values.map(Some)).encode_keyframe(&mut body);
    let frame = v1::Frame { source: 1, base_sequence: 0, body: body.clone().into() };
    (v1::record::Body::Frame(frame), body)
}

/// CPU: 6 of 15 seconds busy; 150 bytes in, 300 out.
const FIRST: [i64; 6] = [0, 0, 8 << 30, 1_000, 2_000, BOOTED_MS / 1_000];
const SECOND: [i64; 6] = [600, 900, 8 << 30, 1_150, 2_300, BOOTED_MS / 1_000];

#[tokio::test]
async fn a_host_shows_what_its_last_frames_say_until_they_are_stale() {
    for test in testing::databases().await {
        let control = Control::start(&test).await;
        let mut stream = Stream::open(&control, 7, 1, "machine-a");
        let facts =
            [("os_name", "Debian 12"), ("hostname", "web-1"), ("cpu_model", "Some CPU"), ("virtualization", "kvm")];
        stream.facts(NOON - 15_000, 7, &facts).await;
        assert_eq!(control.compute.reconcile().await.expect("reconciled").hosts, 1, "{}", test.name);
        assert_eq!(control.compute.reconcile().await.expect("reconciled"), Reconciled::default());
        let bare = &control.json("/api/v1/hosts").await["items"][0];
        assert_eq!((&bare["state"], &bare["cpu_usage_percent"]), (&"never_seen".into(), &Value::Null));

        stream.frame(NOON - 15_000, 7, FIRST).await;
        let one = control.json("/api/v1/hosts").await;
        assert_eq!(one["items"][0]["cpu_usage_percent"], Value::Null, "one frame tells no rate");
        stream.frame(NOON, 7, SECOND).await;
        let listed = control.json("/api/v1/hosts").await;
        let host = &listed["items"][0];
        assert_eq!(host["id"], "host_1");
        assert_eq!(host["name"], "web-1");
        assert_eq!(host["state"], "up");
        assert_eq!(host["organization"], "org_1");
        assert_eq!(host["agent"], "agent_7");
        assert_eq!(host["last_report_ms"], NOON);
        assert_eq!(host["uptime_seconds"], 86_400.0);
        assert_eq!(host["operating_system"], "Debian 12");
        assert_eq!(host["cpu_count"], 1);
        let usage = host["cpu_usage_percent"].as_f64().expect("a number");
        assert!((usage - 40.0).abs() < 1e-9, "{usage}");
        assert_eq!(host["memory_total_bytes"], 8_i64 << 30);
        assert_eq!(host["memory_available_bytes"], Value::Null);
        assert_eq!(host["network_receive_bytes_per_second"], 10.0);
        assert_eq!(host["network_transmit_bytes_per_second"], 20.0);

        let page = control.json("/api/v1/hosts/host_1").await;
        assert_eq!(page["name"], "web-1");
        assert_eq!(page["virtualization"], "kvm");
        assert_eq!(page["boot_time_ms"], BOOTED_MS);
        assert_eq!(page["machine_id"], "machine-a");
        assert_eq!(page["facts"]["cpu_model"], "Some CPU");
        assert_eq!(page["interfaces"][0]["name"], "eth0");
        assert_eq!(page["interfaces"][0]["receive_bytes_per_second"], 10.0);
        assert_eq!(page["sources"][0]["source"], "source_1");

        control.now.store(NOON + 60_000, Ordering::Relaxed);
        let stale = control.json("/api/v1/hosts").await;
        let host = &stale["items"][0];
        assert_eq!(host["state"], "stale");
        assert_eq!(host["cpu_usage_percent"], Value::Null);
        assert_eq!(host["operating_system"], "Debian 12");
        control.stop().await;
    }
}

#[tokio::test]
async fn a_rebuilt_agent_keeps_the_host_and_a_restart_keeps_all() {
    for test in testing::databases().await {
        let control = Control::start(&test).await;
        let mut old = Stream::open(&control, 1, 1, "machine-a");
        old.frame(NOON - 30_000, 1, FIRST).await;
        control.compute.reconcile().await.expect("reconciled");
        let mut rebuilt = Stream::open(&control, 2, 1, "machine-a");
        rebuilt.frame(NOON - 15_000, 2, FIRST).await;
        let mut other = Stream::open(&control, 3, 1, "machine-b");
        other.frame(NOON, 3, FIRST).await;
        let done = control.compute.reconcile().await.expect("reconciled");
        assert_eq!((done.hosts, done.sources), (1, 2));
        let listed = control.json("/api/v1/hosts").await;
        let names: Vec<_> =
            listed["items"].as_array().expect("hosts").iter().map(|host| (&host["id"], &host["agent"])).collect();
        assert_eq!(names, [(&"host_1".into(), &"agent_2".into()), (&"host_2".into(), &"agent_3".into())]);
        drop((old, rebuilt, other));
        control.stop().await;

        let control = Control::start(&test).await;
        assert_eq!(control.compute.reconcile().await.expect("reconciled"), Reconciled::default());
        assert_eq!(control.json("/api/v1/hosts").await, listed, "{}", test.name);
        let first = control.json("/api/v1/hosts?limit=1").await;
        assert_eq!(first["next"], "host_1");
        let second = control.json("/api/v1/hosts?limit=1&after=host_1").await;
        assert_eq!((&second["next"], &second["items"][0]["id"]), (&Value::Null, &"host_2".into()));
        control.stop().await;
    }
}

#[tokio::test]
async fn hosts_that_were_committed_and_reported_as_failed_are_read_back() {
    for test in testing::databases().await {
        let control = Control::start(&test).await;
        let mut first = Stream::open(&control, 1, 1, "machine-a");
        first.frame(NOON, 1, FIRST).await;
        // What the failed pass wrote, and memory does not know.
        let host = HostRow {
            id: HostId(1),
            organization: OrganizationId(1),
            machine_id: "machine-a".to_owned(),
            created_ms: NOON,
            provider: None,
        };
        let transaction = test.db.begin("test").await.expect("begun");
        store::host_insert(&transaction, std::slice::from_ref(&host)).await.expect("inserted");
        let join = Join { source: SourceId(1), host: host.id, from_ms: NOON };
        store::host_source_insert(&transaction, JoinTable::Host, &[join]).await.expect("inserted");
        let owned = [(Resource::Host(host.id), host.organization, host.created_ms)];
        control.compute.0.access.own(&transaction, &owned).await.expect("inserted");
        transaction.commit().await.expect("committed");
        let mut second = Stream::open(&control, 2, 1, "machine-b");
        second.frame(NOON, 2, FIRST).await;
        control.compute.reconcile().await.expect_err("the number is taken");
        let done = control.compute.reconcile().await.expect("reconciled");
        assert_eq!((done.hosts, done.sources), (1, 1), "{}", test.name);
        let listed = control.json("/api/v1/hosts").await;
        let agents: Vec<_> = listed["items"].as_array().expect("hosts").iter().map(|host| &host["agent"]).collect();
        assert_eq!(agents, ["agent_1", "agent_2"]);
        drop((first, second));
        control.stop().await;
    }
}

#[tokio::test]
async fn organisations_never_share_a_host_or_see_each_others() {
    for test in testing::databases().await {
        // Makes the root.
        Access::open(test.db.clone(), Clock::Manual(Arc::default())).await.expect("access opens");
        let transaction = test.db.begin("test").await.expect("begun");
        for organization in ["(2, 1, 'health', 0)", "(3, 1, 'school', 0)"] {
            let insert = format!("INSERT INTO organization (id, parent_id, name, created_ms) VALUES {organization}");
            sea_orm::ConnectionTrait::execute_unprepared(&transaction, &insert).await.expect("inserted");
        }
        transaction.commit().await.expect("committed");
        let control = Control::start(&test).await;
        for (agent, organization) in [(5, 2), (6, 3)] {
            let mut stream = Stream::open(&control, agent, organization, "machine-a");
            stream.frame(NOON, agent as u64, FIRST).await;
        }
        let done = control.compute.reconcile().await.expect("reconciled");
        assert_eq!((done.hosts, done.sources), (2, 2), "{}", test.name);
        let both = control.json("/api/v1/hosts").await;
        assert_eq!(both["items"].as_array().map(Vec::len), Some(2));
        let page = control.json("/api/v1/hosts/host_1").await;
        assert_eq!(page["machine_id_claimed_twice"], true, "who sees both learns of it");

        let health = Permit::<MeasurementsRead>::testing(OrganizationId(2));
        let wanted = Wanted { cut: list::Cut { limit: 10, ..Default::default() }, ..Default::default() };
        let seen = control.compute.host_page(&health, &wanted).expect("a page");
        let seen: Value = serde_json::from_slice(&seen).expect("JSON");
        assert_eq!((&seen["items"][0]["id"], &seen["items"][1]), (&"host_1".into(), &Value::Null));
        let own = control.compute.host_fetch(&health, HostId(1)).expect("its own");
        assert!(!own.machine_id_claimed_twice, "nothing is told of another department's host");
        assert!(control.compute.host_fetch(&health, HostId(2)).is_none());
        let measurements = Permit::<MeasurementsRead>::testing(OrganizationId(2));
        let mut query = SeriesQuery {
            source: SourceId(1),
            metrics: vec!["node_boot_time_seconds".to_owned()],
            points: None,
            sum_by: None,
            resource: None,
            from_ms: NOON - 60_000,
            to_ms: NOON + 1,
            step_ms: None,
        };
        let own = control.telemetry.series(&measurements, &query).await.expect("an answer");
        assert_eq!(own.expect("its own").len(), 1);
        query.source = SourceId(2);
        assert!(control.telemetry.series(&measurements, &query).await.expect("an answer").is_none());
        assert!(control.telemetry.live(&measurements, SourceId(2)).is_none());
        assert_eq!(control.telemetry.sources(&measurements).len(), 1);
        control.stop().await;
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_found_and_an_unknown_parameter_is_named() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut stream = Stream::open(&control, 7, 1, "machine-a");
    stream.frame(NOON - 15_000, 7, FIRST).await;
    stream.frame(NOON, 7, SECOND).await;
    for (path, status) in [
        ("/api/v1/hosts/host_9", StatusCode::NOT_FOUND),
        ("/api/v1/hosts/nonsense", StatusCode::NOT_FOUND),
        ("/metrics/sources/source_9", StatusCode::NOT_FOUND),
        ("/metrics/sources/9", StatusCode::NOT_FOUND),
        ("/api/v1/series?source=source_9&metric=x", StatusCode::NOT_FOUND),
        ("/api/v1/series?source=nonsense&metric=x", StatusCode::NOT_FOUND),
        ("/api/v1/series?source=source_1&metric=x", StatusCode::NOT_FOUND),
        ("/api/v1/series?source=source_1&metric=x&step_seconds=7", StatusCode::BAD_REQUEST),
        ("/api/v1/series?source=source_1&metric=x&from_ms=5&to_ms=5", StatusCode::BAD_REQUEST),
        ("/api/v1/series?source=source_1", StatusCode::BAD_REQUEST),
    ] {
        let (found, body) = control.get(path).await;
        assert_eq!(found, status, "{path}: {body}");
    }
    for path in ["/api/v1/hosts?sort=x", "/api/v1/series?source=source_1&metric=x&sort=1", "/api/v1/sources?sort=1"] {
        let (status, body) = control.get(path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert!(body.contains("sort"), "{path}: {body}");
    }
    control.stop().await;
}

#[tokio::test]
async fn a_source_is_scraped_and_found_while_it_reports() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut stream = Stream::open(&control, 7, 1, "machine-a");
    assert_eq!(control.json("/api/v1/prometheus/targets").await, serde_json::json!([]));
    stream.frame(NOON, 7, SECOND).await;
    let (_, text) = control.get("/metrics/sources/source_1").await;
    assert!(text.contains("# TYPE node_cpu_seconds_total counter\n"), "{text}");
    assert!(text.contains("node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 9\n"), "{text}");
    let targets = control.json("/api/v1/prometheus/targets").await;
    assert_eq!(targets[0]["targets"], serde_json::json!(["127.0.0.1:6480"]));
    let labels = &targets[0]["labels"];
    assert_eq!(labels["__metrics_path__"], "/metrics/sources/source_1");
    assert_eq!(labels["tongtu_agent"], "agent_7");
    assert_eq!(labels["instance"], "machine-a", "without its agent a host is known by its key");
    control.now.store(NOON + 60_000, Ordering::Relaxed);
    assert_eq!(control.json("/api/v1/prometheus/targets").await, serde_json::json!([]));
    let (status, text) = control.get("/metrics/sources/source_1").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
    control.stop().await;
}

#[tokio::test]
async fn a_boot_time_that_cannot_be_breaks_no_list() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    for (agent, boot_time) in [(1, i64::MIN), (2, i64::MAX)] {
        let mut stream = Stream::open(&control, agent, 1, &format!("machine-{agent}"));
        stream.frame(NOON, agent as u64, [0, 0, 0, 0, 0, boot_time]).await;
    }
    control.compute.reconcile().await.expect("reconciled");
    let listed = control.json("/api/v1/hosts").await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
    control.stop().await;
}

#[tokio::test]
async fn frames_are_asked_for_as_a_series() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut stream = Stream::open(&control, 7, 1, "machine-a");
    stream.frame(NOON - 15_000, 7, FIRST).await;
    stream.frame(NOON, 7, SECOND).await;
    control.now.store(NOON + 1, Ordering::Relaxed);
    let answer = control.json("/api/v1/series?source=source_1&metric=node_network_receive_bytes_total").await;
    let series = &answer["series"][0];
    assert_eq!(series["labels"]["device"], "eth0");
    assert_eq!(series["instants_ms"], serde_json::json!([NOON - 15_000, NOON]));
    assert_eq!(series["value"], serde_json::json!([1_000, 1_150]));
    assert_eq!(series["resolution"], "raw");
    let path = "/api/v1/series?source=source_1&metric=node_network_receive_bytes_total&step_seconds=300";
    let slots = control.json(path).await;
    let series = &slots["series"][0];
    let rates: Vec<_> = series["value"].as_array().expect("values").iter().filter_map(Value::as_f64).collect();
    assert_eq!(rates, [10.0], "{series}");
    assert_eq!(series["unit"], "1/s");
    assert_eq!(series["evidence_stars"], 1);
    // The host's are those of what measures it.
    let (status, _) = control.get(&path.replace("series?source=source_1&", "hosts/host_1/series?")).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "there is no host yet");
    control.compute.reconcile().await.expect("reconciled");
    let of_host = control.json(&path.replace("series?source=source_1&", "hosts/host_1/series?")).await;
    assert_eq!((&of_host["host"], &of_host["series"]), (&"host_1".into(), &slots["series"]));
    control.stop().await;
}
