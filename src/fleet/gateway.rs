//! The agents' port: TLS 1.3, HTTP/2, and the two gRPC services.
//!
//! What must hold: a peer without a certificate of our authority can do nothing but enrol, and not
//! for long; one with a certificate, whatever became of it since, holds a few connections, and none for long
//! without a session; who resets what it began has no more at work than who waits for it;
//! handshakes under way are bounded in number and time, what is more waits in the kernel;
//! a connection that is idle holds little memory (ten thousand live in one process), and one whose
//! peer has died goes within two minutes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use prometheus::IntGauge;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tongtu_protocol::{limits, reason::Reason, v1};
use tonic::{Request, Response, Status, Streaming};
use tower::Service;
use v1::enrolment_server::{self, Enrolment, EnrolmentServer};
use v1::telemetry_server::{self, Telemetry, TelemetryServer};

use super::admission::Fault;
use super::attempts::AgentAttempt;
use super::authority::{Serial, ServerCertificate};
use super::connection::{self, Connection, Ended, Exchange, Http, Received, STREAMS};
use super::inbound::Inbound;
use super::peer::{Peer, PeerCertificate, Verifier};
use super::refusals::Subject;
use super::session::Session;
use super::sink::Sink;
use super::{Fleet, FleetError};
use crate::access::Resource;
use crate::access::audit::Doer;
use crate::platform::http::origin::Origin;
use crate::platform::shutdown::Shutdown;

/// TLS handshakes under way at once.
const HANDSHAKES: usize = 1_024;
/// Connections without a certificate at once: who wants to enrol waits, who is enrolled does not.
const ANONYMOUS: usize = 1_024;
/// Connections of one certificate at once. Each that broke unseen stays until it is missed.
const OF_ONE_CERTIFICATE: u32 = 16;
/// Bytes that a peer may send before control has read them: of one stream, and of a connection.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Bytes that wait to be sent on a connection before a stream is asked for more.
const SEND_BUFFER: usize = 32 << 10;
/// Why a connection is refused whose certificate is not of our authority, or no agent's.
const FOREIGN: &str = "foreign_certificate";
/// Open streams have this long to take leave when control stops.
const DRAIN: Duration = Duration::from_secs(5);

impl Fleet {
    /// Serves agents until told to stop. `sink` takes their records.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub async fn serve_gateway(
        &self,
        listener: TcpListener,
        sink: Arc<dyn Sink>,
        shutdown: Shutdown,
    ) -> Result<(), FleetError> {
        let _ = self.sink.set(sink.clone());
        let services = Arc::new(Services { fleet: self.clone(), sink });
        let gateway = Gateway {
            acceptor: TlsAcceptor::from(Arc::new(self.tls()?)),
            enrolment: EnrolmentServer::from_arc(services.clone()).max_decoding_message_size(limits::ENROLMENT_BYTES),
            telemetry: TelemetryServer::from_arc(services.clone()).max_decoding_message_size(limits::ENROLMENT_BYTES),
            services,
            anonymous: Arc::new(Semaphore::new(ANONYMOUS)),
            enrolled: Arc::default(),
            fleet: self.clone(),
            shutdown: shutdown.clone(),
        };
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        let reports = tokio::spawn(self.clone().keep_reports(shutdown.clone()));
        let events = tokio::spawn(self.clone().keep_events(shutdown.clone()));
        // Each connection holds a sender: when all are gone, nothing comes any more.
        let (open, mut all_closed) = mpsc::channel::<()>(1);
        let told = shutdown.triggered();
        tokio::pin!(told);
        loop {
            let next = async {
                let permit = handshakes.clone().acquire_owned().await.expect("it is never closed");
                listener.accept().await.map(|accepted| (permit, accepted))
            };
            let accepted = tokio::select! {
                accepted = next => accepted,
                () = &mut told => break,
            };
            match accepted {
                Ok((permit, (stream, address))) => {
                    let (gateway, open) = (gateway.clone(), open.clone());
                    tokio::spawn(gateway.connection(stream, address, (permit, open)));
                }
                // Out of file descriptors, or the peer has gone already: neither ends the service.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        for agent in self.directory.all() {
            agent.end(Reason::Stopping);
        }
        drop(open);
        let _ = tokio::time::timeout(DRAIN, all_closed.recv()).await;
        let _ = reports.await;
        let _ = events.await;
        if let Err(error) = self.attempts_write().await {
            tracing::warn!(%error, "the last machines that were refused are not in the table of them");
        }
        Ok(())
    }

    fn tls(&self) -> Result<ServerConfig, FleetError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = ServerCertificate::new(self.authority.clone(), self.clock.clone())?;
        let verifier = Verifier::new(&self.authority, provider.clone())?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(certificate));
        config.alpn_protocols = vec![b"h2".to_vec()];
        // Streams last for days: resumption is worth nothing, and a ticket would outlive a revocation.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Counts and logs a refusal.
    pub(super) fn refuse(&self, fault: &Fault, subject: Subject) {
        self.refusals.count(fault.reason.as_str(), subject, &fault.detail, self.clock.now_ms());
    }
}

#[derive(Clone)]
struct Gateway {
    acceptor: TlsAcceptor,
    enrolment: EnrolmentServer<Services>,
    telemetry: TelemetryServer<Services>,
    services: Arc<Services>,
    anonymous: Arc<Semaphore>,
    enrolled: Arc<Enrolled>,
    fleet: Fleet,
    shutdown: Shutdown,
}

/// How many connections each certificate holds.
#[derive(Default)]
struct Enrolled(Mutex<HashMap<Serial, u32>>);

/// One of them.
struct Held(Arc<Enrolled>, Serial);

impl Enrolled {
    fn hold(self: &Arc<Self>, serial: Serial) -> Option<Held> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(serial).or_default();
        if *count == OF_ONE_CERTIFICATE {
            return None;
        }
        *count += 1;
        Some(Held(self.clone(), serial))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.1);
            }
        }
    }
}

/// A connection, counted until its task ends, in whatever way.
struct Counted(IntGauge);

impl Counted {
    fn new(connections: &IntGauge) -> Self {
        connections.inc();
        Self(connections.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What a call knows of its connection.
#[derive(Clone)]
struct Caller {
    peer: Peer,
    /// For what its calls have begun and not ended, whether they were reset or not.
    places: Arc<Semaphore>,
}

impl Gateway {
    async fn connection(
        self,
        stream: TcpStream,
        address: SocketAddr,
        (permit, open): (OwnedSemaphorePermit, mpsc::Sender<()>),
    ) {
        let _ = stream.set_nodelay(true);
        // Of TLS and of HTTP/2 together.
        let mut late = std::pin::pin!(tokio::time::sleep(self.fleet.timing.handshake));
        let shaken = tokio::select! {
            shaken = self.acceptor.accept(stream) => Some(shaken),
            () = &mut late => None,
        };
        drop(permit);
        let refuse = |reason: &'static str, detail: &dyn std::fmt::Display| {
            let now_ms = self.fleet.clock.now_ms();
            self.fleet.refusals.count(reason, Subject::Address(address.ip()), detail, now_ms);
            // What else does not come through a handshake is no machine of ours.
            if reason == FOREIGN {
                let attempt = (AgentAttempt::Connect, "");
                self.fleet.attempt_failed(Doer::nobody(), origin(address), attempt, None, reason);
            }
        };
        let stream = match shaken {
            None => return refuse("handshake_timeout", &"no TLS handshake in time"),
            Some(Err(error)) => return refuse(handshake_reason(&error), &error),
            Some(Ok(stream)) => stream,
        };
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return refuse("handshake_failed", &"the peer does not speak HTTP/2");
        }
        let certificate = match stream.get_ref().1.peer_certificates() {
            None => None,
            Some(chain) => match chain.first().and_then(PeerCertificate::read) {
                Some(certificate) => Some(certificate),
                None => return refuse(FOREIGN, &"the certificate is no agent's"),
            },
        };
        let place = match certificate {
            Some(certificate) => match self.enrolled.hold(certificate.serial) {
                Some(held) => (None, Some(held)),
                None => return refuse("too_many", &"too many connections with one certificate"),
            },
            None => match self.anonymous.clone().try_acquire_owned() {
                Ok(permit) => (Some(permit), None),
                Err(_) => return refuse("too_many", &"too many connections without a certificate"),
            },
        };
        let peer = Peer { certificate, address, connected_ms: self.fleet.clock.now_ms() };
        let greeted = tokio::select! {
            greeted = greet(stream) => Some(greeted),
            () = &mut late => None,
        };
        let http = match greeted {
            None => return refuse("handshake_timeout", &"no HTTP/2 in time"),
            Some(Err(error)) => return refuse("handshake_failed", &error),
            Some(Ok(http)) => http,
        };
        let counted = Counted::new(&self.fleet.metrics.connections);
        let serving = self.serve(http, peer);
        // A task of its own, so that what the handshake needed does not stay for the connection's life.
        tokio::spawn(async move {
            serving.await;
            drop((counted, open, place));
        });
    }

    /// Serves a connection until it is closed, idle, or control stops.
    fn serve(self, mut http: Http, peer: Peer) -> impl Future<Output = ()> + Send {
        let timing = self.fleet.timing;
        let anonymous = peer.certificate.is_none();
        let ping = http.ping_pong().expect("it is taken once");
        let (fleet, shutdown) = (self.fleet.clone(), self.shutdown.clone());
        // Each session of the connection holds one more.
        let sessions = Arc::new(());
        let held = sessions.clone();
        let caller = Caller { peer, places: Arc::new(Semaphore::new(STREAMS as usize)) };
        let call = move |request, respond| self.call(request, respond, &caller, &held);
        // In a box: an async block would hold it once as what it captured and once as what it waits for.
        let mut connection = Box::new(Connection::new(http, call));
        let alive = connection.pulse().stops(ping, timing.keepalive, timing.keepalive_answer);
        let outlived = async move {
            tokio::time::sleep(timing.anonymous).await;
            // This one and the calls'.
            while !anonymous && Arc::strong_count(&sessions) > 2 {
                // Seldom: ten thousand do so.
                tokio::time::sleep(timing.anonymous * 4).await;
            }
        };
        let looks = async move {
            tokio::select! {
                () = alive => Look::Gone,
                () = outlived => Look::Outlived,
                () = shutdown.triggered() => Look::Told,
            }
        };
        connection.until(looks);
        async move {
            match (&mut *connection).await {
                // What ends a connection is the peer's affair, or its session has said why.
                Ended::Closed | Ended::Looks(Look::Gone) => return,
                Ended::Looks(Look::Outlived) if anonymous => return,
                Ended::Looks(Look::Outlived) => {
                    let detail = "a connection without a session";
                    fleet.refusals.count("idle", Subject::Address(peer.address.ip()), &detail, fleet.clock.now_ms());
                }
                Ended::Looks(Look::Told) => {}
            }
            connection.shut_down();
            let _ = tokio::time::timeout(DRAIN, &mut *connection).await;
        }
    }

    /// Begins one call: a session, which the connection drives, or a task that answers it. The services are found by
    /// path, without a router for each connection.
    fn call(
        &self,
        mut request: hyper::Request<Received>,
        mut respond: SendResponse<Bytes>,
        caller: &Caller,
        held: &Arc<()>,
    ) -> Option<Exchange> {
        let (service, method) = request.uri().path().trim_start_matches('/').split_once('/').unwrap_or_default();
        if service == telemetry_server::SERVICE_NAME && method == "Session" {
            return match self.services.session_begin(request.into_body(), caller.peer, held.clone()) {
                Ok(session) => Exchange::begin(session, respond, self.fleet.timing.room),
                Err(status) => {
                    tokio::spawn(connection::answer(status.into_http(), respond));
                    None
                }
            };
        }
        let is_enrolment = service == enrolment_server::SERVICE_NAME;
        request.extensions_mut().insert(caller.clone());
        let answered = if is_enrolment {
            self.enrolment.clone().call(request)
        } else {
            // It answers what it does not know with UNIMPLEMENTED.
            self.telemetry.clone().call(request)
        };
        tokio::spawn(async move {
            let answered = tokio::select! {
                biased;
                // Nobody waits for the answer any more; see `finish`.
                _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => return,
                answered = answered => answered,
            };
            let Ok(response) = answered;
            connection::answer(response, respond).await;
        });
        None
    }
}

/// HTTP/2 on a connection, once its peer has begun it.
async fn greet(stream: TlsStream<TcpStream>) -> Result<Http, h2::Error> {
    let mut http = h2::server::Builder::new();
    http.initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(8 << 10);
    http.handshake(stream).await
}

/// What a connection's timers say.
#[derive(Debug)]
enum Look {
    /// Nobody answers on the other side.
    Gone,
    /// It has had its time and no session.
    Outlived,
    /// Control stops.
    Told,
}

/// From where somebody comes, for the audit log.
fn origin(address: SocketAddr) -> Origin {
    Origin { address: Some(address.ip().to_canonical()), ..Origin::default() }
}

/// Sorts a failed handshake.
fn handshake_reason(error: &std::io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => FOREIGN,
        _ => "handshake_failed",
    }
}

struct Services {
    fleet: Fleet,
    sink: Arc<dyn Sink>,
}

impl Services {
    /// Who calls.
    fn caller<T>(&self, request: &Request<T>) -> Caller {
        request.extensions().get::<Caller>().expect("the gateway puts it into every request").clone()
    }

    fn refused(&self, fault: Fault, subject: Subject) -> Status {
        self.fleet.refuse(&fault, subject);
        fault.reason.status_with(fault.detail)
    }

    /// The certificate that a call needs.
    fn certificate(&self, peer: Peer) -> Result<PeerCertificate, Status> {
        peer.certificate.ok_or_else(|| self.refused(Reason::NoCertificate.into(), Subject::Address(peer.address.ip())))
    }

    /// Runs to its end even if the caller goes away: a commit and what memory knows of it are one. Until then it holds
    /// a place, and its refusal is counted as well.
    async fn finish<T: Send + 'static>(
        &self,
        places: Arc<Semaphore>,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
        subject: Subject,
    ) -> Result<Response<T>, Status> {
        let Ok(place) = places.try_acquire_owned() else {
            let detail = "too much that this connection asked for is still at work; try again later".to_owned();
            return Err(self.refused(Fault { reason: Reason::Unavailable, detail }, subject));
        };
        let fleet = self.fleet.clone();
        let work = async move {
            let _place = place;
            work.await.inspect_err(|fault| fleet.refuse(fault, subject))
        };
        match tokio::spawn(work).await {
            Ok(Ok(answer)) => Ok(Response::new(answer)),
            Ok(Err(fault)) => Err(fault.reason.status_with(fault.detail)),
            Err(_) => Err(self.refused(Reason::Unavailable.into(), subject)),
        }
    }
}

impl Services {
    /// Begins a session on a call's body. It is read by [`Inbound`], so it does not pass tonic's reader.
    fn session_begin(&self, body: Received, peer: Peer, held: Arc<()>) -> Result<Session, Status> {
        let certificate = self.certificate(peer)?;
        let refused = |reason: Reason| self.refused(reason.into(), Subject::Agent(certificate.agent));
        let (agent, _) = self.fleet.on_record(certificate).map_err(|reason| {
            // A revoked one is known to be so; this one thinks that it is an agent.
            if reason == Reason::CertificateUnknown {
                let owner = self.fleet.access.owner(Resource::Agent(certificate.agent));
                let (nobody, from, attempt) = (Doer::nobody(), origin(peer.address), (AgentAttempt::Connect, ""));
                self.fleet.attempt_failed(nobody, from, attempt, owner, reason.as_str());
            }
            refused(reason)
        })?;
        if certificate.not_after_ms <= self.fleet.clock.now_ms() {
            return Err(refused(Reason::CertificateExpired));
        }
        let peer = (peer, certificate);
        Ok(Session::new(self.fleet.clone(), self.sink.clone(), peer, agent, Inbound::new(body), held))
    }
}

#[tonic::async_trait]
impl Enrolment for Services {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollResponse>, Status> {
        let Caller { peer, places } = self.caller(&request);
        let fleet = self.fleet.clone();
        let work = async move { fleet.enroll(request.into_inner(), origin(peer.address)).await };
        self.finish(places, work, Subject::Address(peer.address.ip())).await
    }
}

#[tonic::async_trait]
impl Telemetry for Services {
    type SessionStream = tokio_stream::Empty<Result<v1::ToAgent, Status>>;

    /// [`Services::session_begin`] answers this call before it could come here.
    async fn session(&self, _: Request<Streaming<v1::ToControl>>) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented("a session is begun elsewhere"))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let Caller { peer, places } = self.caller(&request);
        let origin = origin(peer.address);
        let certificate = self.certificate(peer).inspect_err(|_| {
            let reason = Reason::NoCertificate.as_str();
            self.fleet.attempt_failed(Doer::nobody(), origin, (AgentAttempt::Renew, ""), None, reason);
        })?;
        let fleet = self.fleet.clone();
        let work = async move { fleet.renew(certificate, request.into_inner(), origin).await };
        self.finish(places, work, Subject::Agent(certificate.agent)).await
    }
}
