//! A control of a few lines: real TLS, the real services, answers as a test wants them.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tongtu_protocol::codec::State;
use tongtu_protocol::schema::{self, SchemaId};
use tongtu_protocol::token::{SECRET_BYTES, Token};
use tongtu_protocol::{CONTROL_NAME, VERSION, v1};
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

/// How records are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Accept,
    Later,
    Refuse,
    Silent,
}

/// A record that arrived whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub live: bool,
    pub epoch: u64,
    pub sequence: u64,
    /// The first column of a frame, if it is no figure of the agent itself.
    pub value: Option<i64>,
    pub facts: bool,
    pub mood: Mood,
}

#[derive(Debug)]
pub(crate) struct Told {
    pub mood: Mood,
    pub new_epoch: bool,
    pub enrolments: usize,
    /// Public keys that asked for a certificate.
    pub keys: Vec<Vec<u8>>,
    /// The next enrolment is made, and this is answered.
    pub lose_answer: Option<Status>,
    pub hellos: Vec<v1::Hello>,
    pub arrived: Vec<Arrived>,
    pub lost: Vec<v1::LostRange>,
    pub pongs: Vec<v1::Pong>,
    /// How many columns, and whether the first is a figure of the agent itself.
    pub schemas: HashMap<SchemaId, (usize, bool)>,
    pub renewals: usize,
    /// When certificates end that enrolment gives.
    pub certificate_end_ms: Option<i64>,
    pub configuration: Option<v1::DesiredConfiguration>,
}

pub(crate) struct Authority {
    pub pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.der);
        digest.as_ref().try_into().expect("32 bytes")
    }

    fn sign(&self, csr_der: &[u8], end_ms: Option<i64>) -> Option<String> {
        let mut request = CertificateSigningRequestParams::from_der(&csr_der.to_vec().into()).ok()?;
        if let Some(end_ms) = end_ms {
            request.params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(end_ms as u64);
        }
        Some(request.signed_by(&self.issuer).ok()?.pem())
    }
}

pub(crate) struct Control {
    pub address: SocketAddr,
    pub authority: Arc<Authority>,
    pub told: Arc<Mutex<Told>>,
    configurations: watch::Sender<Option<v1::DesiredConfiguration>>,
    /// Its connections die with it.
    serving: Option<Runtime>,
}

impl Control {
    pub(crate) async fn start() -> Self {
        let told = Told {
            mood: Mood::Accept,
            new_epoch: false,
            enrolments: 0,
            keys: Vec::new(),
            lose_answer: None,
            hellos: Vec::new(),
            arrived: Vec::new(),
            lost: Vec::new(),
            pongs: Vec::new(),
            schemas: HashMap::new(),
            renewals: 0,
            certificate_end_ms: None,
            configuration: None,
        };
        let mut control = Self {
            address: "127.0.0.1:0".parse().expect("an address"),
            authority: Arc::new(Authority::new("the authority of this test")),
            told: Arc::new(Mutex::new(told)),
            configurations: watch::Sender::new(None),
            serving: None,
        };
        control.resume().await;
        control
    }

    pub(crate) fn token(&self) -> String {
        let token = Token {
            address: self.address.to_string(),
            ca_fingerprint: self.authority.fingerprint(),
            secret: [7; SECRET_BYTES],
        };
        token.to_string()
    }

    pub(crate) fn tell<T>(&self, tell: impl FnOnce(&mut Told) -> T) -> T {
        tell(&mut self.told.lock().expect("no panic holds it"))
    }

    pub(crate) fn configure(&self, desired: v1::DesiredConfiguration) {
        self.configurations.send_replace(Some(desired));
    }

    /// Tells the sessions to come nothing.
    pub(crate) fn forget_configuration(&self) {
        self.configurations.send_replace(None);
    }

    /// Listens where it listened before.
    pub(crate) async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("a port").into_std().expect("a listener");
        self.address = listener.local_addr().expect("an address");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(self.tls()));
        let (sender, receiver) = mpsc::channel::<Result<Io, std::io::Error>>(8);
        let services = Services {
            told: Arc::clone(&self.told),
            authority: Arc::clone(&self.authority),
            configurations: self.configurations.subscribe(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a thread");
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let accept = async move {
                loop {
                    let Ok((tcp, _)) = listener.accept().await else { continue };
                    let (acceptor, sender) = (acceptor.clone(), sender.clone());
                    tokio::spawn(async move {
                        if let Ok(tls) = acceptor.accept(tcp).await {
                            let _ = sender.send(Ok(Io(tls))).await;
                        }
                    });
                }
            };
            let server = tonic::transport::Server::builder()
                .add_service(v1::enrolment_server::EnrolmentServer::new(services.clone()))
                .add_service(v1::telemetry_server::TelemetryServer::new(services))
                .serve_with_incoming(ReceiverStream::new(receiver));
            tokio::select! {
                () = accept => {}
                _ = server => {}
            }
        });
        self.serving = Some(runtime);
    }

    /// Ends every connection and listens no more.
    pub(crate) async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            let ended = tokio::task::spawn_blocking(move || serving.shutdown_timeout(Duration::from_secs(10)));
            ended.await.expect("no panic");
        }
        self.tell(|told| told.hellos.clear());
    }

    fn tls(&self) -> rustls::ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::DnsName(CONTROL_NAME.try_into().expect("a name"))];
        let certificate = params.signed_by(&key, &self.authority.issuer).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der.clone()).expect("an authority");
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .expect("a verifier");
        let chain = vec![certificate.der().clone(), self.authority.der.clone()];
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
            .expect("a certificate and its key");
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

#[derive(Clone)]
struct Services {
    told: Arc<Mutex<Told>>,
    authority: Arc<Authority>,
    configurations: watch::Receiver<Option<v1::DesiredConfiguration>>,
}

#[tonic::async_trait]
impl v1::enrolment_server::Enrolment for Services {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollResponse>, Status> {
        let request = request.into_inner();
        let mut told = self.told.lock().expect("no panic holds it");
        told.enrolments += 1;
        if *request.token_secret != [7; SECRET_BYTES] {
            return Err(tongtu_protocol::reason::Reason::TokenUnknown.status());
        }
        let end_ms = told.certificate_end_ms;
        let certificate_pem = self.authority.sign(&request.csr_der, end_ms).ok_or(Status::internal("no request"))?;
        let parsed = CertificateSigningRequestParams::from_der(&request.csr_der.to_vec().into()).expect("a request");
        told.keys.push(rcgen::PublicKeyData::der_bytes(&parsed.public_key).to_vec());
        if let Some(status) = told.lose_answer.take() {
            return Err(status);
        }
        Ok(Response::new(v1::EnrollResponse {
            agent_id: "agent_1".into(),
            certificate_pem,
            ca_bundle_pem: self.authority.pem.clone(),
        }))
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<v1::ToAgent, Status>> + Send>>;

#[tonic::async_trait]
impl v1::telemetry_server::Telemetry for Services {
    type SessionStream = Answers;

    async fn session(&self, request: Request<Streaming<v1::ToControl>>) -> Result<Response<Answers>, Status> {
        let mut inbound = request.into_inner();
        let (sender, receiver) = mpsc::unbounded_channel();
        let (told, mut configurations) = (Arc::clone(&self.told), self.configurations.clone());
        tokio::spawn(async move {
            let mut stream = Stream1::default();
            loop {
                tokio::select! {
                    message = inbound.next() => {
                        let Some(Ok(message)) = message else { return };
                        for answer in stream.take(&mut told.lock().expect("no panic holds it"), message) {
                            let _ = sender.send(Ok(answer));
                        }
                    }
                    Ok(()) = configurations.changed() => {
                        let desired = configurations.borrow_and_update().clone();
                        if let Some(desired) = desired {
                            let _ = sender.send(Ok(to_agent(v1::to_agent::Message::Configuration(desired))));
                        }
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let request = request.into_inner();
        self.told.lock().expect("no panic holds it").renewals += 1;
        let certificate_pem = self.authority.sign(&request.csr_der, None).ok_or(Status::internal("no request"))?;
        Ok(Response::new(v1::RenewResponse { certificate_pem, ca_bundle_pem: self.authority.pem.clone() }))
    }
}

fn to_agent(message: v1::to_agent::Message) -> v1::ToAgent {
    v1::ToAgent { message: Some(message) }
}

/// What control knows of one stream.
#[derive(Default)]
struct Stream1 {
    sources: HashMap<u32, SchemaId>,
    boots: HashSet<u32>,
    lanes: HashMap<u32, HashMap<u32, (u64, State)>>,
    ended: HashSet<u32>,
}

impl Stream1 {
    fn take(&mut self, told: &mut Told, message: v1::ToControl) -> Vec<v1::ToAgent> {
        match message.message {
            Some(v1::to_control::Message::Hello(hello)) => {
                told.hellos.push(hello);
                let welcome = v1::Welcome {
                    protocol: VERSION,
                    agent_id: "agent_1".into(),
                    new_epoch: std::mem::take(&mut told.new_epoch),
                    backlog_in_flight: 16,
                    configuration: told.configuration.clone(),
                    ..v1::Welcome::default()
                };
                let ping = v1::Ping { nonce: 42, wall_ms: 1 };
                vec![to_agent(v1::to_agent::Message::Welcome(welcome)), to_agent(v1::to_agent::Message::Ping(ping))]
            }
            Some(v1::to_control::Message::Define(define)) => {
                self.boots.extend(define.boots.iter().map(|boot| boot.number));
                for source in define.sources {
                    let id = SchemaId::from_bytes(&source.schema_id).expect("16 bytes");
                    self.sources.insert(source.number, id);
                }
                for schema in define.schemas {
                    let id = schema::check(&schema).expect("a good schema");
                    let own = schema.columns.first().is_none_or(|first| first.metric.starts_with("tongtu_"));
                    told.schemas.insert(id, (schema.columns.len(), own));
                }
                Vec::new()
            }
            Some(v1::to_control::Message::Records(records)) => {
                let (epoch, lane) = (records.epoch, records.lane);
                let answers = records.records.into_iter().filter_map(|record| {
                    let sequence = record.sequence;
                    let mut answer = self.judge(told, (epoch, lane, records.live), record)?;
                    (answer.first, answer.last, answer.lane) = (sequence, sequence, lane);
                    Some(answer)
                });
                let answers = v1::Answers { epoch, answers: answers.collect() };
                vec![to_agent(v1::to_agent::Message::Answers(answers))]
            }
            Some(v1::to_control::Message::Lost(lost)) => {
                let answer = |range: &v1::LostRange| v1::Answer {
                    first: range.first,
                    last: range.last,
                    verdict: v1::Verdict::Accepted as i32,
                    ..v1::Answer::default()
                };
                let answers = v1::Answers { epoch: lost.epoch, answers: lost.ranges.iter().map(answer).collect() };
                told.lost.extend(lost.ranges);
                vec![to_agent(v1::to_agent::Message::Answers(answers))]
            }
            Some(v1::to_control::Message::Pong(pong)) => {
                told.pongs.push(pong);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn judge(
        &mut self,
        told: &mut Told,
        (epoch, lane, live): (u64, u32, bool),
        record: v1::Record,
    ) -> Option<v1::Answer> {
        let answer = |verdict: v1::Verdict| v1::Answer { verdict: verdict as i32, ..v1::Answer::default() };
        assert!(self.boots.contains(&record.boot), "a boot is defined before it is used");
        let mood = if self.ended.contains(&lane) { Mood::Later } else { told.mood };
        let (mut value, mut facts) = (None, false);
        match &record.body {
            Some(v1::record::Body::Frame(frame)) => {
                assert_eq!(crc32c::crc32c(&frame.body), record.crc32c);
                let id = self.sources[&frame.source];
                let Some(&(columns, own)) = told.schemas.get(&id) else {
                    self.ended.insert(lane);
                    let schema_id = id.0.to_vec().into();
                    return Some(v1::Answer { schema_id, ..answer(v1::Verdict::NeedSchema) });
                };
                if mood != Mood::Later {
                    let states = self.lanes.entry(lane).or_default();
                    let mut state = match frame.base_sequence {
                        0 => State::zero(columns),
                        base => {
                            let (sequence, state) = states[&frame.source].clone();
                            assert_eq!(sequence, base, "a frame continues its lane");
                            state
                        }
                    };
                    state.apply(&frame.body).expect("a frame that decodes");
                    value = state.get(0).filter(|_| mood == Mood::Accept && !own);
                    states.insert(frame.source, (record.sequence, state));
                }
            }
            Some(v1::record::Body::Facts(of)) => {
                assert_eq!(crc32c::crc32c(&prost::Message::encode_to_vec(of)), record.crc32c);
                facts = true;
            }
            _ => {}
        }
        told.arrived.push(Arrived { live, epoch, sequence: record.sequence, value, facts, mood });
        match mood {
            Mood::Accept => Some(answer(v1::Verdict::Accepted)),
            Mood::Later => {
                self.ended.insert(lane);
                Some(v1::Answer { retry_after_ms: 50, ..answer(v1::Verdict::Later) })
            }
            Mood::Refuse => {
                let refusal = v1::Refusal::Future as i32;
                Some(v1::Answer { refusal, ..answer(v1::Verdict::Refused) })
            }
            Mood::Silent => None,
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.shutdown_background();
        }
    }
}

/// Waits until `is` holds of what control was told.
pub(crate) async fn until(control: &Control, what: &str, is: impl Fn(&Told) -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !control.tell(|told| is(told)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    if waited.await.is_err() {
        panic!("{what} did not come: {:?}", control.tell(|told| told.arrived.clone()));
    }
}

/// A server's connection that tonic takes.
struct Io(TlsStream<TcpStream>);

impl Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
