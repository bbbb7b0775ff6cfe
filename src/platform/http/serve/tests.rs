//! Real sockets: what a client notices.

use std::convert::Infallible;

use axum::routing::get;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
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
        ("GET /hosts?a=b HTTP/1.1\r\nHost: c.example:1\r\n\r\n", 307, "location: https://c.example:1/hosts?a=b\r\n"),
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
