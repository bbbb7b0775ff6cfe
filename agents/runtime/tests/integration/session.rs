//! Sessions from a real spool: outages, answers of every kind, kills.

use crate::control::{Authority, Control, Mood, until};
use prost::Message;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::{TempDir, tempdir};
use tokio::task::JoinHandle;
use tongtu_agent_runtime::clock;
use tongtu_agent_runtime::data::{DataDirectory, Enrolment};
use tongtu_agent_runtime::enrol::{Enrol, enroll};
use tongtu_agent_runtime::link::{Credentials, Link, Trust};
use tongtu_agent_runtime::queue::{Agent, Queue, Source};
use tongtu_agent_runtime::session::{self, Ended, Identity, SessionError};
use tongtu_agent_runtime::spool::{Bounds, Spool, Writer};
use tongtu_protocol::codec::State;
use tongtu_protocol::schema::SchemaId;
use tongtu_protocol::v1;

fn schema() -> v1::Schema {
    let column = |index| v1::Column {
        metric: format!("metric_{index}"),
        kind: v1::Kind::Gauge as i32,
        unit: "1".into(),
        ..v1::Column::default()
    };
    let columns: Vec<v1::Column> = (0..5).map(column).collect();
    v1::Schema { id: SchemaId::of(&columns).0.to_vec().into(), columns }
}

struct Reporter {
    enrolment: Enrolment,
    ended: Arc<Mutex<Vec<String>>>,
    configured: Arc<Mutex<Vec<v1::DesiredConfiguration>>>,
}

impl Agent for Reporter {
    async fn connection(&mut self) -> Result<(Link, Identity), SessionError> {
        let credentials = Credentials::from_pem(&self.enrolment.certificate_pem, &self.enrolment.key_pem)?;
        let trust = Trust::bundle(&self.enrolment.ca_pem)?;
        let link = Link::new(&self.enrolment.identity.address, &trust, Some(&credentials))?;
        let identity = Identity {
            agent_version: "0.1.0".into(),
            kind: "host".into(),
            machine_id: "m".into(),
            boot_id: "boot".into(),
            hostname: "here".into(),
            interval_ms: 1_000,
        };
        Ok((link, identity))
    }

    fn clock(&mut self) -> v1::Clock {
        clock::clock()
    }

    fn configure(&mut self, desired: &v1::DesiredConfiguration) {
        self.configured.lock().expect("no panic holds it").push(desired.clone());
    }

    fn ended(&mut self, ended: &Ended) {
        self.ended.lock().expect("no panic holds it").push(ended.why.to_string());
    }
}

/// An enrolled agent with a spool of its own, whose frames a test makes.
struct Machine {
    data: TempDir,
    enrolment: Enrolment,
    spool: Spool,
    writer: Writer,
    source: Arc<Source>,
    running: Option<JoinHandle<()>>,
    ended: Arc<Mutex<Vec<String>>>,
    configured: Arc<Mutex<Vec<v1::DesiredConfiguration>>>,
}

fn open(data: &Path) -> (Spool, Writer) {
    Spool::open(&data.join("spool"), Bounds::default(), "boot", clock::clock()).expect("a spool")
}

impl Machine {
    async fn enrol(control: &Control) -> Self {
        let data = tempdir().expect("a folder");
        let token = control.token();
        let enrol = Enrol { token: &token, data: data.path(), kind: "host", version: "0.1.0", replace: false };
        enroll(enrol).await.expect("enrolled");
        let enrolment = DataDirectory::open(data.path(), false).expect("free").enrolment().expect("readable");
        let (spool, writer) = open(data.path());
        let source = Source {
            kind: "host".into(),
            key: "m".into(),
            schema: SchemaId::of(&schema().columns),
            columns: 5,
            interval_ms: 1_000,
        };
        Self {
            data,
            enrolment: enrolment.expect("an enrolment"),
            spool,
            writer,
            source: Arc::new(source),
            running: None,
            ended: Arc::default(),
            configured: Arc::default(),
        }
    }

    fn run(&mut self) {
        let mut reporter = Reporter {
            enrolment: self.enrolment.clone(),
            ended: Arc::clone(&self.ended),
            configured: Arc::clone(&self.configured),
        };
        let mut spool = self.spool.clone();
        let run = async move { match session::run(&mut spool, &mut reporter).await {} };
        self.running = Some(tokio::spawn(run));
    }

    /// Ends as by a kill: the spool is closed by nobody.
    async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
    }

    fn frame(&mut self, value: i64) {
        self.writer.begin(clock::clock());
        let state = State::from_values(&[Some(value), Some(1), None, Some(value * 3), Some(0)]);
        self.writer.frame(&self.source, || schema().encode_to_vec(), &state);
        assert!(self.writer.commit());
    }
}

#[tokio::test]
async fn after_an_outage_the_newest_comes_first_and_then_everything_in_order() {
    let mut control = Control::start().await;
    let mut machine = Machine::enrol(&control).await;
    machine.run();
    machine.frame(1);
    until(&control, "the first frame", |told| told.arrived.iter().any(|record| record.value == Some(1))).await;
    until(&control, "the pong", |told| told.pongs.iter().any(|pong| pong.nonce == 42)).await;
    control.stop().await;
    (2..=100).for_each(|value| machine.frame(value));
    let before = control.tell(|told| told.arrived.len());
    control.resume().await;
    until(&control, "all of them", |told| {
        (1..=100).all(|value| told.arrived.iter().any(|record| record.value == Some(value)))
    })
    .await;
    let arrived = control.tell(|told| told.arrived.split_off(before));
    assert_eq!((arrived[0].live, arrived[0].value), (true, Some(100)));
    let backlog: Vec<_> = arrived.iter().filter(|record| !record.live).filter_map(|record| record.value).collect();
    assert!(backlog.is_sorted() && backlog.contains(&2), "{backlog:?}");
    assert_eq!(control.tell(|told| told.hellos[0].next_sequence), 101);
    let spool = machine.spool.clone();
    let settled = async {
        while spool.depth("boot", &clock::clock()).records > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), settled).await.expect("everything is settled");
    machine.kill().await;
}

#[tokio::test]
async fn later_is_kept_and_refused_is_dropped() {
    let control = Control::start().await;
    control.tell(|told| told.mood = Mood::Later);
    let mut machine = Machine::enrol(&control).await;
    (1..=3).for_each(|value| machine.frame(value));
    machine.run();
    until(&control, "an answer later", |told| told.arrived.len() > 8).await;
    control.tell(|told| told.mood = Mood::Accept);
    until(&control, "all of them", |told| {
        (1..=3).all(|value| told.arrived.iter().any(|record| record.value == Some(value)))
    })
    .await;
    control.tell(|told| told.mood = Mood::Refuse);
    machine.frame(4);
    until(&control, "the refused", |told| told.arrived.iter().any(|record| record.mood == Mood::Refuse)).await;
    control.tell(|told| told.mood = Mood::Accept);
    machine.frame(5);
    until(&control, "the next", |told| told.arrived.iter().any(|record| record.value == Some(5))).await;
    assert!(control.tell(|told| told.arrived.iter().all(|record| record.value != Some(4))));
    assert_eq!(machine.spool.depth("boot", &clock::clock()).refused[v1::Refusal::Future as usize], 1);
    machine.kill().await;
}

#[tokio::test]
async fn a_killed_agent_sends_again_what_was_not_answered_and_nothing_else() {
    let control = Control::start().await;
    let mut machine = Machine::enrol(&control).await;
    machine.run();
    (1..=5).for_each(|value| machine.frame(value));
    let all = |told: &crate::control::Told, to: i64| {
        (1..=to).all(|value| told.arrived.iter().any(|record| record.value == Some(value)))
    };
    until(&control, "five frames", |told| all(told, 5)).await;
    let spool = machine.spool.clone();
    while spool.depth("boot", &clock::clock()).records > 0 {
        tokio::task::yield_now().await;
    }
    control.tell(|told| told.mood = Mood::Silent);
    machine.frame(6);
    until(&control, "the unanswered", |told| told.arrived.iter().any(|record| record.mood == Mood::Silent)).await;
    machine.kill().await;
    let epoch = machine.spool.span().epoch;
    machine.spool.close();
    (machine.spool, machine.writer) = open(machine.data.path());
    assert_eq!(machine.spool.span().epoch, epoch);
    let before = control.tell(|told| {
        told.mood = Mood::Accept;
        told.arrived.len()
    });
    machine.frame(7);
    machine.run();
    until(&control, "the rest", |told| all(told, 7)).await;
    let arrived = control.tell(|told| told.arrived.split_off(before));
    let mut numbers: Vec<_> = arrived.iter().map(|record| (record.sequence, record.value)).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [(6, Some(6)), (7, Some(7))]);
    machine.kill().await;
}

#[tokio::test]
async fn lost_ranges_facts_and_a_new_epoch_reach_control() {
    let control = Control::start().await;
    control.tell(|told| told.new_epoch = true);
    let mut machine = Machine::enrol(&control).await;
    let old = machine.spool.span().epoch;
    machine.frame(1);
    machine.writer.begin(clock::clock());
    machine.writer.facts(
        &machine.source.clone(),
        || schema().encode_to_vec(),
        [("os".to_owned(), "Debian".to_owned()), ("a".to_owned(), "b".to_owned())].into(),
    );
    assert!(machine.writer.commit());
    machine.run();
    until(&control, "the frame", |told| told.arrived.iter().any(|record| record.value == Some(1))).await;
    until(&control, "the facts", |told| told.arrived.iter().any(|record| record.facts)).await;
    let hellos = control.tell(|told| told.hellos.clone());
    assert_eq!((hellos.len(), hellos[0].epoch), (2, old));
    assert_ne!(hellos[1].epoch, old);
    assert!(control.tell(|told| told.arrived.iter().all(|record| record.epoch != old)));
    machine.kill().await;
}

#[tokio::test]
async fn desired_configuration_arrives_and_a_foreign_control_is_named() {
    let mut control = Control::start().await;
    let mut machine = Machine::enrol(&control).await;
    machine.run();
    until(&control, "a hello", |told| !told.hellos.is_empty()).await;
    control.configure(v1::DesiredConfiguration { version: 7, interval_ms: 5_000, ..Default::default() });
    let configured = Arc::clone(&machine.configured);
    let arrived = async {
        while configured.lock().expect("no panic holds it").iter().all(|desired| desired.version != 7) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), arrived).await.expect("the configuration");
    control.stop().await;
    control.authority = Arc::new(Authority::new("another"));
    control.resume().await;
    let ended = Arc::clone(&machine.ended);
    let named = async {
        while ended.lock().expect("no panic holds it").iter().all(|text| !text.contains("another authority")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), named).await.expect("the foreign control is named");
    assert_eq!(control.tell(|told| told.hellos.len()), 0);
    machine.kill().await;
}
