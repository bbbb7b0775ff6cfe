//! The HTTP port: takes connections and serves a router on each, until told to stop.
//!
//! What must hold: a client that does not finish its handshake or its request's head, asks nothing, or does not
//! read its answer, does not keep its connection, and no other client waits for it; there are not more connections
//! than control can carry, nor all of them one client's; an answer may take as long as its handler
//! wants (`/api/v1/live`); one connection's fault is that connection's alone.
//! Deliberately absent: HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::uri::{Authority, PathAndQuery};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::connection::{Impatient, Places};
use super::origin::OverTls;
use crate::platform::shutdown::Shutdown;

/// The head of a request is there within this, from the connection's begin or the last answer's end.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A TLS handshake is done within this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Of what is sent to a client something is taken within this.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections at once, and of one address (of IPv6 one network).
const CONNECTIONS: usize = 4_096;
const OF_ONE_ADDRESS: usize = 256;
/// How often it is said that connections were turned away.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Requests under way when control stops have this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Before the next connection is taken when this process has no room for one (open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    head: Duration,
    handshake: Duration,
    write: Duration,
}

/// Serves until told to stop, over TLS if there is an acceptor; what is under way then has ten seconds.
///
/// # Errors
/// None today; the listener's own would be one.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let patience = Patience { head: HEAD_TIMEOUT, handshake: HANDSHAKE_TIMEOUT, write: WRITE_TIMEOUT };
    let places = Places::new(CONNECTIONS, OF_ONE_ADDRESS);
    serve_within(listener, tls, router, shutdown, patience, places).await;
    Ok(())
}

async fn serve_within(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    shutdown: Shutdown,
    patience: Patience,
    places: Arc<Places>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience.head);
    let mut connections = JoinSet::new();
    let mut turned_away = 0_u64;
    let mut say = tokio::time::interval(SAY_EVERY);
    let told = shutdown.triggered();
    tokio::pin!(told);
    loop {
        let accepted = tokio::select! {
            () = &mut told => break,
            accepted = listener.accept() => accepted,
            // Those that ended make room.
            Some(_) = connections.join_next() => continue,
            _ = say.tick() => {
                if turned_away > 0 {
                    tracing::warn!(turned_away, "there were too many HTTP connections, in all or of one address");
                    turned_away = 0;
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, client)) => {
                let Some(place) = places.take(client.ip()) else {
                    turned_away += 1;
                    continue;
                };
                // The end of an answer does not wait for the acknowledgement of its beginning.
                let _ = stream.set_nodelay(true);
                let client = Client { address: client, http: http.clone(), router: router.clone() };
                let (tls, shutdown) = (tls.clone(), shutdown.clone());
                connections.spawn(async move {
                    let _held = place;
                    match tls {
                        None => client.serve(Impatient::new(stream, patience.write), false, shutdown).await,
                        Some(tls) => client.serve_secured(stream, tls, patience, shutdown).await,
                    }
                });
            }
            // Gone before it was taken.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!(connections = connections.len(), "some answers did not end in time; their connections are cut");
    }
}

/// One client and what serves it.
struct Client {
    address: SocketAddr,
    http: http1::Builder,
    router: Router,
}

impl Client {
    /// Over whatever carries its bytes.
    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        is_tls: bool,
        shutdown: Shutdown,
    ) {
        let Self { address, http, router } = self;
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(address));
            if is_tls {
                request.extensions_mut().insert(OverTls);
            }
            router.clone().oneshot(request)
        });
        let served = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        tokio::pin!(served);
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            () = shutdown.triggered() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, client = %address, "a connection ended early");
        }
    }

    /// Over TLS, whose handshake comes first.
    async fn serve_secured(self, stream: TcpStream, tls: TlsAcceptor, patience: Patience, shutdown: Shutdown) {
        let client = self.address;
        let begun = async {
            // The first byte of a handshake is the type of its record; a request begins with a letter.
            let mut first = [0];
            stream.peek(&mut first).await?;
            if first[0].is_ascii_alphabetic() {
                let plain = self.http.serve_connection(TokioIo::new(stream), service_fn(said_plainly));
                plain.await.map_err(std::io::Error::other)?;
                return Ok(None);
            }
            tls.accept(Impatient::new(stream, patience.write)).await.map(Some)
        };
        let begun = tokio::select! {
            begun = tokio::time::timeout(patience.handshake, begun) => begun,
            () = shutdown.triggered() => return,
        };
        match begun {
            Ok(Ok(Some(stream))) => self.serve(stream, true, shutdown).await,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(%error, %client, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%client, "a TLS handshake was not done in time"),
        }
    }
}

/// The answer to a request that came without TLS: where to ask instead. Who sent a secret is told so, rather
/// than sent on, because it was readable on its way.
async fn said_plainly(request: hyper::Request<Incoming>) -> Result<Response, Infallible> {
    let headers = request.headers();
    let had_secret = headers.contains_key(header::AUTHORIZATION) || headers.contains_key(header::COOKIE);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    let there = host.filter(|_| request.method().is_safe() && !had_secret && path.starts_with('/'));
    let close = (header::CONNECTION, "close");
    Ok(match there {
        Some(host) => {
            let there = (header::LOCATION, format!("https://{host}{path}"));
            (StatusCode::TEMPORARY_REDIRECT, [close], [there]).into_response()
        }
        None => (StatusCode::BAD_REQUEST, [close], "this port speaks TLS; ask with https://\n").into_response(),
    })
}

#[cfg(test)]
mod tests {
    //! Real sockets: what a client notices.

    use axum::routing::get;
    use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::sign::CertifiedKey;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use super::super::tls::Certificates;
    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const PATIENCE: Patience = Patience {
        head: Duration::from_millis(200),
        handshake: Duration::from_millis(1_000),
        // A busy machine's client may be slow to read.
        write: SOON,
    };

    struct Server {
        address: SocketAddr,
        shutdown: Shutdown,
        task: tokio::task::JoinHandle<()>,
        /// Each lets `/parts` send one more part.
        parts: tokio::sync::mpsc::UnboundedSender<&'static str>,
        /// Hears when an answer of `/endless` is given up.
        given_up: tokio::sync::mpsc::UnboundedReceiver<()>,
    }

    /// Says when it is dropped.
    struct GivenUp(tokio::sync::mpsc::UnboundedSender<()>);

    impl Drop for GivenUp {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    async fn server() -> Server {
        server_with(None).await
    }

    async fn server_with(tls: Option<TlsAcceptor>) -> Server {
        server_within(tls, PATIENCE, CONNECTIONS).await
    }

    async fn server_within(tls: Option<TlsAcceptor>, patience: Patience, connections: usize) -> Server {
        let (give_up, given_up) = tokio::sync::mpsc::unbounded_channel();
        let (parts, receiver) = tokio::sync::mpsc::unbounded_channel::<&str>();
        let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(Some(receiver)));
        let router = Router::new()
            .route("/who", get(async |ConnectInfo(client): ConnectInfo<SocketAddr>| client.to_string()))
            .route("/big", get(async || vec![b'a'; 8 << 20]))
            .route(
                "/endless",
                get(async move || {
                    let parts = futures_util::stream::unfold(GivenUp(give_up), async |held| {
                        Some((Ok::<_, Infallible>(vec![b'a'; 64 << 10]), held))
                    });
                    Body::from_stream(parts)
                }),
            )
            .route(
                "/parts",
                get(async move || {
                    let receiver = receiver.lock().await.take().expect("asked once");
                    let parts = futures_util::stream::unfold(receiver, async |mut receiver| {
                        receiver.recv().await.map(|part| (Ok::<_, Infallible>(part), receiver))
                    });
                    Body::from_stream(parts)
                }),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shutdown = Shutdown::new();
        let places = Places::new(connections, OF_ONE_ADDRESS);
        let task = tokio::spawn(serve_within(listener, tls, router, shutdown.clone(), patience, places));
        Server { address, shutdown, task, parts, given_up }
    }

    async fn connect(server: &Server) -> TcpStream {
        TcpStream::connect(server.address).await.expect("connected")
    }

    /// All that comes until the server ends the connection.
    async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut all = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut all)).await;
        // Ended either way.
        let _ = read.expect("the server ends the connection");
        all
    }

    async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
        let mut said = Vec::new();
        let read = async {
            while !String::from_utf8_lossy(&said).contains(end) {
                let mut part = [0; 4096];
                let length = stream.read(&mut part).await.expect("read");
                assert!(length > 0, "it ended: {}", String::from_utf8_lossy(&said));
                said.extend_from_slice(&part[..length]);
            }
        };
        tokio::time::timeout(SOON, read).await.expect("an answer");
        String::from_utf8_lossy(&said).into_owned()
    }

    #[tokio::test]
    async fn half_a_head_or_none_keeps_no_connection() {
        let server = server().await;
        for head in ["", "G", "GET /who HT", "GET /who HTTP/1.1\r\nHost: a\r\n", "PRI * HTTP/2.0\r\n"] {
            let mut stream = connect(&server).await;
            stream.write_all(head.as_bytes()).await.expect("sent");
            let said = rest(&mut stream).await;
            assert!(!said.starts_with(b"HTTP/1.1 200"), "{head:?}: {}", String::from_utf8_lossy(&said));
        }
        // Somebody who asks is answered, twice on one connection, and known by address.
        let mut stream = connect(&server).await;
        let own = stream.local_addr().expect("an address").to_string();
        for _ in 0..2 {
            stream.write_all(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
            let said = read_until(&mut stream, &own).await;
            assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        }
    }

    #[tokio::test]
    async fn an_answer_takes_as_long_as_it_takes() {
        let server = server().await;
        let mut stream = connect(&server).await;
        stream.write_all(b"GET /parts HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
        read_until(&mut stream, "\r\n\r\n").await;
        for part in ["first", "second"] {
            // Other connections meet the timeout several times over meanwhile.
            for _ in 0..2 {
                rest(&mut connect(&server).await).await;
            }
            server.parts.send(part).expect("it listens");
            read_until(&mut stream, part).await;
        }
        let mut stream = connect(&server).await;
        stream.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("sent");
        assert!(rest(&mut stream).await.len() > 8 << 20);
    }

    #[tokio::test]
    async fn what_is_under_way_ends_before_the_server_does() {
        let Server { address, shutdown, task, parts, .. } = server().await;
        let mut idle = TcpStream::connect(address).await.expect("connected");
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(b"GET /parts HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
        read_until(&mut stream, "\r\n\r\n").await;
        shutdown.trigger();
        assert!(rest(&mut idle).await.is_empty());
        parts.send("the end").expect("it listens");
        drop(parts);
        let said = rest(&mut stream).await;
        assert!(String::from_utf8_lossy(&said).contains("the end"));
        tokio::time::timeout(SOON, task).await.expect("it ends").expect("no panic");
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn who_does_not_read_keeps_no_connection_and_who_waits_for_more_does() {
        let trust = Trust::new();
        let certificates = Certificates::new("own", trust.issue("own"));
        let tls = certificates.acceptor().expect("an acceptor");
        let patience = Patience { write: Duration::from_millis(300), ..PATIENCE };
        for tls in [None, Some(tls)] {
            let is_tls = tls.is_some();
            let mut server = server_within(tls, patience, CONNECTIONS).await;
            let open = async || {
                let stream: Box<dyn Both> = match is_tls {
                    true => Box::new(trust.connect(&server, "own").await.expect("trusted")),
                    false => Box::new(connect(&server).await),
                };
                stream
            };
            let mut events = open().await;
            events.write_all(b"GET /parts HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
            read_until(&mut events, "\r\n\r\n").await;
            let mut deaf = open().await;
            deaf.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
            let given_up = tokio::time::timeout(SOON, server.given_up.recv()).await;
            given_up.expect("its connection is ended").expect("said");
            // Nothing was sent to this one for as long.
            server.parts.send("more").expect("it listens");
            read_until(&mut events, "more").await;
        }
    }

    #[tokio::test]
    async fn there_are_so_many_connections_and_one_that_ends_makes_room() {
        let server = server_within(None, Patience { head: SOON, ..PATIENCE }, 3).await;
        let ask = async |stream: &mut TcpStream| {
            stream.write_all(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
            read_until(stream, "127.0.0.1").await
        };
        let mut held = [connect(&server).await, connect(&server).await, connect(&server).await];
        for stream in &mut held {
            ask(stream).await;
        }
        assert!(rest(&mut connect(&server).await).await.is_empty(), "one too many");
        let [first, mut second, _third] = held;
        ask(&mut second).await;
        drop(first);
        // When the server has seen that it went.
        let again = async {
            loop {
                let mut stream = connect(&server).await;
                let _ = stream.write_all(b"GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
                if rest(&mut stream).await.starts_with(b"HTTP/1.1 200") {
                    break;
                }
            }
        };
        tokio::time::timeout(SOON, again).await.expect("there is room again");
    }

    /// A connection, over TLS or not.
    trait Both: AsyncRead + AsyncWrite + Unpin {}

    impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

    /// An authority of the test, and what trusts it.
    struct Trust {
        issuer: CertifiedIssuer<'static, KeyPair>,
        connector: TlsConnector,
    }

    impl Trust {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("made");
            let mut roots = rustls::RootCertStore::empty();
            roots.add(issuer.der().clone()).expect("an authority");
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
            // Each handshake sees the certificate.
            config.resumption = rustls::client::Resumption::disabled();
            Self { issuer, connector: TlsConnector::from(Arc::new(config)) }
        }

        fn issue(&self, name: &str) -> CertifiedKey {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
            let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
            let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
            let key = rustls::crypto::ring::sign::any_supported_type(&key).expect("a usable key");
            CertifiedKey::new(vec![certificate.der().clone()], key)
        }

        async fn connect(&self, server: &Server, name: &'static str) -> std::io::Result<TlsStream<TcpStream>> {
            let stream = connect(server).await;
            self.connector.connect(ServerName::try_from(name).expect("a name"), stream).await
        }
    }

    async fn secured(trust: &Trust) -> (Server, Certificates) {
        let certificates = Certificates::new("own", trust.issue("own"));
        certificates.replace_public(trust.issue("public.example"));
        let server = server_with(Some(certificates.acceptor().expect("an acceptor"))).await;
        (server, certificates)
    }

    #[tokio::test]
    async fn each_name_is_shown_its_certificate_and_a_new_one_without_a_restart() {
        let trust = Trust::new();
        let (server, certificates) = secured(&trust).await;
        for name in ["public.example", "own"] {
            let mut stream = trust.connect(&server, name).await.expect("trusted");
            stream.write_all(b"GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("sent");
            assert!(rest(&mut stream).await.starts_with(b"HTTP/1.1 200"), "{name}");
        }
        let before = certificates.shown().fingerprint;
        certificates.replace_public(trust.issue("renewed.example"));
        trust.connect(&server, "renewed.example").await.expect("trusted");
        assert!(trust.connect(&server, "public.example").await.is_err(), "the old one is shown no more");
        trust.connect(&server, "own").await.expect("trusted still");
        assert_ne!(certificates.shown().fingerprint, before);
    }

    #[tokio::test]
    async fn who_asks_without_tls_is_sent_to_it_unless_a_secret_came_along() {
        let trust = Trust::new();
        let (server, _) = secured(&trust).await;
        for (request, status, part) in [
            (
                "GET /hosts?a=b HTTP/1.1\r\nHost: c.example:1\r\n\r\n",
                307,
                "location: https://c.example:1/hosts?a=b\r\n",
            ),
            ("GET / HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer s\r\n\r\n", 400, "speaks TLS"),
            ("GET / HTTP/1.1\r\nHost: c\r\nCookie: s=s\r\n\r\n", 400, "speaks TLS"),
            ("POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n\r\n", 400, "speaks TLS"),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "speaks TLS"),
        ] {
            let mut stream = connect(&server).await;
            stream.write_all(request.as_bytes()).await.expect("sent");
            let said = String::from_utf8_lossy(&rest(&mut stream).await).into_owned();
            assert!(said.starts_with(&format!("HTTP/1.1 {status}")) && said.contains(part), "{request}: {said}");
        }
    }

    #[tokio::test]
    async fn slow_handshakes_keep_neither_their_connection_nor_others() {
        let trust = Trust::new();
        let (server, _) = secured(&trust).await;
        let mut slow = Vec::new();
        // Nothing, half a record, no handshake, half a request.
        for bytes in [&b""[..], &[22, 3, 1], &[22, 3, 3, 0, 2, 1], &[0; 40], b"GET / HT"].repeat(20) {
            let mut stream = connect(&server).await;
            stream.write_all(bytes).await.expect("sent");
            slow.push(stream);
        }
        let mut stream = trust.connect(&server, "public.example").await.expect("while the others are slow");
        stream.write_all(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
        assert!(read_until(&mut stream, "127.0.0.1").await.starts_with("HTTP/1.1 200"));
        for mut stream in slow {
            assert!(!rest(&mut stream).await.starts_with(b"HTTP/1.1 200"));
        }
    }
}
