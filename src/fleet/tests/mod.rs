//! The gateway as agents meet it: real TLS over loopback, a client that speaks the protocol, a sink
//! that remembers what it was given.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tongtu_protocol::{CONTROL_NAME, VERSION, reason::Reason, token::Token, v1};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use v1::{enrolment_client::EnrolmentClient, telemetry_client::TelemetryClient};

use super::session::Timing;
use super::sink::{ControlAnchor, Delivery, Opening, Sink, SinkSession};
use super::*;
use crate::access::{Permit, ROOT};
use crate::platform::ids::AgentId;
use crate::platform::shutdown::Shutdown;
use crate::platform::testing::{self, TestDatabase};

mod attempts;
mod configuration;
mod connection;
mod enrolment;
mod events;
mod http;
mod stream;

const NOW: i64 = 1_800_000_000_000;
const DAY_MS: i64 = 86_400_000;

/// Nothing runs out on a busy machine; what a test waits for it makes short itself.
fn timing() -> Timing {
    let long = Duration::from_secs(20);
    Timing {
        handshake: long,
        anonymous: long,
        hello: long,
        challenge: Duration::from_secs(1),
        ping: Duration::from_millis(50),
        room: long,
        keepalive: long,
        keepalive_answer: long,
    }
}

/// Soon, for what is to run out.
const SOON: Duration = Duration::from_millis(200);

/// What a sink was given.
#[derive(Debug, Clone, PartialEq)]
enum Given {
    Opened(AgentId),
    Define(v1::Define),
    Anchor(ControlAnchor),
    Records(AgentId, v1::Records),
    Lost(v1::LostRanges),
    Closed(AgentId),
}

#[derive(Debug, Default)]
struct Remembering {
    given: Arc<Mutex<Vec<Given>>>,
    highest: AtomicU64,
    delivery: Mutex<Delivery>,
}

impl Remembering {
    fn given(&self) -> Vec<Given> {
        self.given.lock().expect("no panic").clone()
    }
}

impl Sink for Remembering {
    fn highest_sequence(&self, _agent: AgentId, epoch: u64) -> u64 {
        // Only of one epoch is anything known.
        if epoch == 1 { self.highest.load(Ordering::Relaxed) } else { 0 }
    }

    fn open(&self, opening: Opening, answers: mpsc::UnboundedSender<v1::Answers>) -> Box<dyn SinkSession> {
        self.given.lock().expect("no panic").push(Given::Opened(opening.agent));
        Box::new(RememberingSession { agent: opening.agent, given: self.given.clone(), answers })
    }

    fn delivery(&self, _agent: AgentId) -> Delivery {
        *self.delivery.lock().expect("no panic")
    }
}

struct RememberingSession {
    agent: AgentId,
    given: Arc<Mutex<Vec<Given>>>,
    answers: mpsc::UnboundedSender<v1::Answers>,
}

impl RememberingSession {
    fn push(&self, given: Given) {
        self.given.lock().expect("no panic").push(given);
    }
}

impl SinkSession for RememberingSession {
    fn define(&mut self, define: v1::Define) -> Result<(), Reason> {
        self.push(Given::Define(define));
        Ok(())
    }
    fn anchor(&mut self, anchor: ControlAnchor) {
        self.push(Given::Anchor(anchor));
    }
    fn records(&mut self, records: v1::Records) {
        let answers = records.records.iter().map(|record| v1::Answer {
            first: record.sequence,
            last: record.sequence,
            verdict: v1::Verdict::Accepted.into(),
            ..Default::default()
        });
        let _ = self.answers.send(v1::Answers { epoch: records.epoch, answers: answers.collect() });
        self.push(Given::Records(self.agent, records));
    }
    fn lost(&mut self, lost: v1::LostRanges) {
        self.push(Given::Lost(lost));
    }
}

impl Drop for RememberingSession {
    fn drop(&mut self) {
        self.push(Given::Closed(self.agent));
    }
}

/// A control that serves agents.
struct Control {
    fleet: Fleet,
    registry: Registry,
    sink: Arc<Remembering>,
    address: SocketAddr,
    now: Arc<AtomicI64>,
    shutdown: Shutdown,
    serving: tokio::task::JoinHandle<Result<(), FleetError>>,
    database: TestDatabase,
}

impl Control {
    async fn start() -> Self {
        Self::start_on(testing::sqlite().await, timing()).await
    }

    async fn start_with(timing: Timing) -> Self {
        Self::start_on(testing::sqlite().await, timing).await
    }

    async fn start_on(database: TestDatabase, timing: Timing) -> Self {
        Self::start_at(database, NOW, timing).await
    }

    async fn start_at(database: TestDatabase, now_ms: i64, timing: Timing) -> Self {
        let now = Arc::new(AtomicI64::new(now_ms));
        let clock = Clock::Manual(now.clone());
        let registry = Registry::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let access = Access::open(database.db.clone(), clock.clone()).await.expect("access opens");
        let data = database.data.path();
        let fleet = Fleet::open_with(database.db.clone(), access, clock, data, address.to_string(), &registry, timing)
            .await
            .expect("the fleet opens");
        let (sink, shutdown) = (Arc::new(Remembering::default()), Shutdown::new());
        let serving = {
            let (fleet, sink, shutdown) = (fleet.clone(), sink.clone(), shutdown.clone());
            tokio::spawn(async move { fleet.serve_gateway(listener, sink, shutdown).await })
        };
        Self { fleet, registry, sink, address, now, shutdown, serving, database }
    }

    /// Stops and gives the database back, for a restart.
    async fn stop(self) -> TestDatabase {
        self.shutdown.trigger();
        self.serving.await.expect("no panic").expect("it served");
        self.database
    }

    async fn token(&self, uses: u32) -> Token {
        let permit = Permit::testing(ROOT);
        let ttl = Duration::from_secs(600);
        let (_, text) = self.fleet.token_create(&permit, ttl, uses, None).await.expect("a token");
        text.parse().expect("a token's text")
    }

    /// A machine that has enrolled.
    async fn machine(&self) -> Machine {
        let mut machine = Machine::new(self);
        machine.enroll(&self.token(1).await).await.expect("it enrols");
        machine
    }

    fn refused(&self, reason: &str) -> u64 {
        let text = self.registry.encode();
        let line = format!("tongtu_agents_refused_total{{reason=\"{reason}\"}} ");
        text.lines()
            .find_map(|each| each.strip_prefix(line.as_str()))
            .map_or(0, |count| count.parse().expect("a count"))
    }

    fn report(&self, id: AgentId) -> AgentReport {
        self.fleet.agent_fetch(&Permit::testing(ROOT), id).expect("it is there")
    }
}

/// Waits for a condition.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// The agent's side: a key, and what control gave for it.
struct Machine {
    address: SocketAddr,
    roots: Arc<RootCertStore>,
    key: KeyPair,
    certificate: Option<CertificateDer<'static>>,
    machine_id: String,
    boot_id: String,
    id: AgentId,
}

impl Machine {
    fn new(control: &Control) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(control.fleet.authority.certificate().clone()).expect("the authority's certificate");
        Self {
            address: control.address,
            roots: Arc::new(roots),
            key: KeyPair::generate().expect("a key"),
            certificate: None,
            machine_id: "machine-1".to_owned(),
            boot_id: "boot-1".to_owned(),
            id: AgentId(0),
        }
    }

    /// The same disk in another machine.
    fn copy(&self) -> Self {
        Self {
            address: self.address,
            roots: self.roots.clone(),
            key: KeyPair::from_pem(&self.key.serialize_pem()).expect("a key"),
            certificate: self.certificate.clone(),
            machine_id: self.machine_id.clone(),
            boot_id: "boot-2".to_owned(),
            id: self.id,
        }
    }

    fn tls(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.certificate {
            None => config.with_no_client_auth(),
            Some(certificate) => {
                let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key");
                config.with_client_auth_cert(vec![certificate.clone()], key).expect("they belong together")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// A connection on which hands were shaken and nothing was said.
    async fn connect(&self) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(CONTROL_NAME).expect("a name");
        TlsConnector::from(Arc::new(self.tls())).connect(name, TcpStream::connect(self.address).await?).await
    }

    async fn channel(&self) -> Result<Channel, tonic::transport::Error> {
        let (config, address) = (Arc::new(self.tls()), self.address);
        let connector = tower::service_fn(move |_| {
            let connector = TlsConnector::from(config.clone());
            async move {
                let name = ServerName::try_from(CONTROL_NAME).expect("a name");
                let stream = connector.connect(name, TcpStream::connect(address).await?).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        Endpoint::from_static("http://tongtu-control").connect_with_connector(connector).await
    }

    fn request(&self) -> Vec<u8> {
        CertificateParams::default().serialize_request(&self.key).expect("a request").der().to_vec()
    }

    fn keep(&mut self, pem: &str) {
        self.certificate = Some(CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate"));
    }

    fn enrolment(&self, token: &Token) -> v1::EnrollRequest {
        v1::EnrollRequest {
            token_secret: token.secret.to_vec().into(),
            csr_der: self.request().into(),
            kind: "host".to_owned(),
            machine_id: self.machine_id.clone(),
            hostname: "host-1".to_owned(),
            agent_version: "0.1.0".to_owned(),
        }
    }

    async fn enroll(&mut self, token: &Token) -> Result<(), Status> {
        let channel = self.channel().await.expect("connected");
        let enrolled = EnrolmentClient::new(channel).enroll(self.enrolment(token)).await?.into_inner();
        self.keep(&enrolled.certificate_pem);
        self.id = enrolled.agent_id.parse().expect("an id");
        Ok(())
    }

    async fn renew(&mut self) -> Result<(), Status> {
        let channel = self.channel().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let request = v1::RenewRequest { csr_der: self.request().into() };
        let renewed = TelemetryClient::new(channel).renew(request).await?.into_inner();
        self.keep(&renewed.certificate_pem);
        Ok(())
    }

    fn hello(&self) -> v1::Hello {
        v1::Hello {
            protocol: VERSION,
            agent_version: "0.2.0".to_owned(),
            kind: "host".to_owned(),
            machine_id: self.machine_id.clone(),
            boot_id: self.boot_id.clone(),
            epoch: 1,
            first_sequence: 1,
            next_sequence: 1,
            clock: Some(v1::Clock { boottime_ms: 5_000, wall_ms: NOW + 3_600_000, synchronised: false }),
            interval_ms: 15_000,
            hostname: "host-1".to_owned(),
            own_from: 1,
        }
    }

    /// A stream on which nothing was said.
    async fn stream(&self) -> Result<Stream, Status> {
        let channel = self.channel().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let inbound = TelemetryClient::new(channel).session(UnboundedReceiverStream::new(receiver)).await?.into_inner();
        Ok(Stream { sender, inbound })
    }

    /// A stream that was welcomed.
    async fn session(&self) -> Result<(Stream, v1::Welcome), Status> {
        let mut stream = self.stream().await?;
        stream.say(v1::to_control::Message::Hello(self.hello()));
        match stream.hear().await? {
            v1::to_agent::Message::Welcome(welcome) => Ok((stream, welcome)),
            other => panic!("the first message is a welcome, not {other:?}"),
        }
    }
}

struct Stream {
    sender: mpsc::UnboundedSender<v1::ToControl>,
    inbound: Streaming<v1::ToAgent>,
}

impl Stream {
    fn say(&self, message: v1::to_control::Message) {
        let _ = self.sender.send(v1::ToControl { message: Some(message) });
    }

    async fn hear(&mut self) -> Result<v1::to_agent::Message, Status> {
        let heard = tokio::time::timeout(Duration::from_secs(10), self.inbound.message()).await;
        let message = heard.expect("control says something")?.ok_or_else(|| Status::ok("ended"))?;
        Ok(message.message.expect("a message of this version"))
    }

    /// The next message that is no ping; pings are answered.
    async fn hear_beside_pings(&mut self) -> Result<v1::to_agent::Message, Status> {
        loop {
            match self.hear().await? {
                v1::to_agent::Message::Ping(ping) => self.pong(ping.nonce, 6_000, NOW),
                other => return Ok(other),
            }
        }
    }

    /// Why control ended the stream.
    async fn end(mut self) -> Option<Reason> {
        loop {
            if let Err(status) = self.hear().await {
                return Reason::of(&status);
            }
        }
    }

    fn pong(&self, nonce: u64, boottime_ms: u64, wall_ms: i64) {
        let clock = Some(v1::Clock { boottime_ms, wall_ms, synchronised: true });
        self.say(v1::to_control::Message::Pong(v1::Pong { nonce, clock }));
    }
}

fn records(sequences: std::ops::RangeInclusive<u64>) -> v1::to_control::Message {
    let records = sequences.map(|sequence| v1::Record { sequence, ..Default::default() }).collect();
    v1::to_control::Message::Records(v1::Records { lane: 1, live: true, epoch: 1, records })
}
