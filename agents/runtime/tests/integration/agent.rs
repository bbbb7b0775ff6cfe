//! A whole agent: collectors, spool, session, renewal, and what control may change.

use crate::control::{Authority, Control, until};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tempfile::tempdir;
use tokio::sync::oneshot;
use tongtu_agent_runtime::agent::{AgentOptions, run_checking, run_until};
use tongtu_agent_runtime::clock;
use tongtu_agent_runtime::collect::{CollectError, Collector, CollectorSpec, Context, Values};
use tongtu_agent_runtime::enrol::{Enrol, enroll};
use tongtu_agent_runtime::metric::{Kind, Metric};
use tongtu_protocol::v1;

static COUNT: Metric = Metric {
    name: "test_count",
    kind: Kind::Gauge,
    unit: "1",
    exponent: 0,
    labels: &[],
    help: "How often it was asked.",
    source: "test",
    width_bits: 0,
};

struct Count(i64);

impl Collector for Count {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        self.0 += 1;
        out.put(&COUNT, &[], self.0);
        Ok(())
    }
}

static COLLECTORS: &[CollectorSpec] = &[CollectorSpec {
    name: "count",
    interval: Duration::ZERO,
    timeout: Duration::from_secs(5),
    make: |_| Ok(Box::new(Count(0))),
}];

async fn enrolled(control: &Control, data: &Path) {
    let token = control.token();
    enroll(Enrol { token: &token, data, kind: "host", version: "0.1.0", replace: false }).await.expect("enrolled");
    std::fs::write(data.join("agent.toml"), "interval = \"1s\"\n").expect("room");
}

/// Runs an agent until the sender is dropped.
fn start(data: &Path) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    start_checking(data, Duration::from_secs(3_600))
}

/// The same, and its certificate's age is looked at so often.
fn start_checking(data: &Path, renewal_check: Duration) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = oneshot::channel();
    let options = AgentOptions {
        kind: "host",
        source_kind: "host",
        source_key: None,
        version: "0.1.0",
        collectors: COLLECTORS,
        inventory: || BTreeMap::from([("os".to_owned(), "Debian".to_owned())]),
        data: data.to_owned(),
        context: Context::default(),
    };
    let running = tokio::spawn(async move {
        let stopped = async move { drop(receiver.await) };
        run_checking(options, renewal_check, stopped).await.expect("it runs");
    });
    (sender, running)
}

#[tokio::test]
async fn an_agent_reports_frames_and_facts_and_goes_on_after_a_restart() {
    let control = Control::start().await;
    let data = tempdir().expect("a folder");
    enrolled(&control, data.path()).await;
    let (stop, running) = start(data.path());
    until(&control, "three frames and facts", |told| {
        (1..=3).all(|value| told.arrived.iter().any(|record| record.value == Some(value)))
            && told.arrived.iter().any(|record| record.facts)
    })
    .await;
    drop(stop);
    running.await.expect("no panic");
    let last = control.tell(|told| told.arrived.iter().map(|record| record.sequence).max());
    let before = control.tell(|told| told.arrived.len());
    let (stop, running) = start(data.path());
    until(&control, "a frame of the second run", |told| told.arrived.len() > before).await;
    let arrived = control.tell(|told| told.arrived.clone());
    assert!(arrived[before..].iter().all(|record| Some(record.sequence) >= last), "no number is used twice");
    assert!(arrived.iter().all(|record| record.epoch == arrived[0].epoch));
    drop(stop);
    running.await.expect("no panic");
}

#[tokio::test]
async fn a_certificate_is_renewed_when_it_is_due() {
    let control = Control::start().await;
    let data = tempdir().expect("a folder");
    control.tell(|told| told.certificate_end_ms = Some(clock::wall_ms() + 3_600_000));
    enrolled(&control, data.path()).await;
    let path = data.path().join("identity.json");
    let text = std::fs::read_to_string(&path).expect("an identity");
    let mut identity: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    identity["certificate_since_ms"] = (clock::wall_ms() - 10 * 3_600_000).into();
    std::fs::write(&path, identity.to_string()).expect("room");
    let read = |name: &str| std::fs::read_to_string(data.path().join(name)).expect("a file");
    let (certificate, key) = (read("certificate.pem"), read("key.pem"));
    let (stop, running) = start(data.path());
    until(&control, "a frame", |told| told.arrived.iter().any(|record| record.value.is_some())).await;
    assert_eq!(control.tell(|told| told.renewals), 1);
    assert_ne!(read("certificate.pem"), certificate);
    assert_eq!(read("key.pem"), key);
    drop(stop);
    running.await.expect("no panic");
}

/// Control takes numbers that it knows for those of another machine: what was sent before the session was left for
/// the renewal must not be said to be new.
#[tokio::test]
async fn a_renewal_while_connected_is_no_copy_of_this_machine() {
    let control = Control::start().await;
    let data = tempdir().expect("a folder");
    let end_ms = clock::wall_ms() / 1_000 * 1_000 + 3_600_000;
    control.tell(|told| told.certificate_end_ms = Some(end_ms));
    enrolled(&control, data.path()).await;
    // Two thirds of its life are over in twelve seconds, when a session has long been open.
    let path = data.path().join("identity.json");
    let text = std::fs::read_to_string(&path).expect("an identity");
    let mut identity: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    identity["certificate_since_ms"] = (end_ms - 3 * (end_ms - clock::wall_ms() - 12_000)).into();
    std::fs::write(&path, identity.to_string()).expect("room");
    let (stop, running) = start_checking(data.path(), Duration::from_millis(50));
    until(&control, "a frame of the session before", |told| told.arrived.iter().any(|record| record.value.is_some()))
        .await;
    assert_eq!(control.tell(|told| told.renewals), 0, "it was not due at the start");
    until(&control, "a frame of the session after", |told| {
        told.hellos.get(1).is_some_and(|hello| told.arrived.iter().any(|record| record.sequence >= hello.own_from))
    })
    .await;
    control.tell(|told| {
        assert_eq!((told.renewals, told.hellos.len()), (1, 2));
        let own_from = told.hellos[1].own_from;
        assert!(told.arrived[0].sequence < own_from, "{own_from} and all behind it were sent by nobody: {told:?}");
        assert!(told.arrived.iter().all(|record| record.epoch == told.arrived[0].epoch), "{told:?}");
    });
    drop(stop);
    running.await.expect("no panic");
}

#[tokio::test]
async fn a_bundle_is_taken_only_if_it_takes_this_control() {
    let control = Control::start().await;
    let data = tempdir().expect("a folder");
    enrolled(&control, data.path()).await;
    let read = || std::fs::read_to_string(data.path().join("ca.pem")).expect("a bundle");
    let first = read();
    let foreign = Authority::new("another").pem;
    let (stop, running) = start(data.path());
    until(&control, "a hello", |told| !told.hellos.is_empty()).await;
    let desire = |version, ca_bundle_pem: &str| v1::DesiredConfiguration {
        version,
        ca_bundle_pem: ca_bundle_pem.to_owned(),
        collectors: vec![v1::CollectorSetting { name: "count".into(), enabled: version != 1, interval_ms: 0 }],
        ..v1::DesiredConfiguration::default()
    };
    control.configure(desire(1, &foreign));
    // The collector is off when the configuration was applied.
    until(&control, "a frame without the count", |told| {
        told.arrived.last().is_some_and(|record| !record.facts && record.value.is_none())
    })
    .await;
    assert_eq!(read(), first);
    let both = format!("{first}{foreign}");
    control.configure(desire(2, &both));
    let taken = async {
        while read() != both {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken).await.expect("the bundle is taken");
    drop(stop);
    running.await.expect("no panic");
}

#[tokio::test]
async fn what_control_told_last_holds_after_a_restart_and_nonsense_never() {
    let control = Control::start().await;
    let data = tempdir().expect("a folder");
    enrolled(&control, data.path()).await;
    let file = data.path().join("desired.json");
    let (stop, running) = start(data.path());
    until(&control, "a count", |told| told.arrived.iter().any(|record| record.value.is_some())).await;
    let desire = |version, interval_ms| v1::DesiredConfiguration {
        version,
        interval_ms,
        collectors: vec![v1::CollectorSetting { name: "count".into(), enabled: false, interval_ms: 0 }],
        ..v1::DesiredConfiguration::default()
    };
    // Nonsense is refused whole, and what is good after it is taken.
    control.configure(desire(2, 1));
    control.configure(desire(3, 1_000));
    until(&control, "a frame without the count", |told| {
        told.arrived.last().is_some_and(|record| !record.facts && record.value.is_none())
    })
    .await;
    drop(stop);
    running.await.expect("no panic");
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).expect("kept")).expect("JSON");
    assert_eq!((&kept["version"], &kept["interval_ms"]), (&3.into(), &1_000.into()));

    // Told nothing, it runs as it was told last; a broken file is as if there were none.
    control.forget_configuration();
    for (broken, counts) in [(false, false), (true, true)] {
        if broken {
            std::fs::write(&file, "{\"version\": 3").expect("room");
        }
        let before = control.tell(|told| told.arrived.len());
        let (stop, running) = start(data.path());
        until(&control, "frames of this run", |told| {
            told.arrived[before..].iter().filter(|record| !record.facts).count() >= 2
        })
        .await;
        let counted = control.tell(|told| told.arrived[before..].iter().any(|record| record.value.is_some()));
        assert_eq!(counted, counts, "broken: {broken}");
        drop(stop);
        running.await.expect("no panic");
    }
}

#[tokio::test]
async fn what_keeps_an_agent_from_running_is_one_sentence() {
    let control = Control::start().await;
    let data = tempdir().expect("a folder");
    let attempt = || async {
        let options = AgentOptions {
            kind: "host",
            source_kind: "host",
            source_key: None,
            version: "0.1.0",
            collectors: COLLECTORS,
            inventory: BTreeMap::new,
            data: data.path().to_owned(),
            context: Context::default(),
        };
        let failure = run_until(options, std::future::pending()).await.expect_err("it does not run").to_string();
        assert!(!failure.contains('\n'), "{failure}");
        failure
    };
    assert!(attempt().await.contains("enroll --token"));
    enrolled(&control, data.path()).await;
    std::fs::write(data.path().join("agent.toml"), "intervall = \"1s\"\n").expect("room");
    assert!(attempt().await.contains("unknown field `intervall`"));
    std::fs::write(data.path().join("agent.toml"), "metrics = \"192.0.2.1:1\"\n").expect("room");
    assert!(attempt().await.contains("loopback"));
    std::fs::remove_file(data.path().join("agent.toml")).expect("a file");
    std::fs::write(data.path().join("identity.json"), "{").expect("room");
    assert!(attempt().await.contains("--replace"));
}
