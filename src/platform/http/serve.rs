//! The HTTP port: takes connections and serves a router on each, until told to stop.
//!
//! What must hold: a client that does not finish its request's head, or asks nothing, does not keep its
//! connection; an answer may take as long as its handler wants (`/api/v1/live`); one connection's
//! fault is that connection's alone.
//! Deliberately absent: HTTP/2 and TLS. [`connection`] takes any stream, so a handshake fits before it.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::platform::shutdown::Shutdown;

/// The head of a request is there within this, from the connection's begin or the last answer's end.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests under way when control stops have this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Before the next connection is taken when this process has no room for one (open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Serves until told to stop; what is under way then has ten seconds.
///
/// # Errors
/// None today; the listener's own would be one.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> std::io::Result<()> {
    serve_within(listener, router, shutdown, HEAD_TIMEOUT).await;
    Ok(())
}

async fn serve_within(listener: TcpListener, router: Router, shutdown: Shutdown, head: Duration) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head);
    let mut connections = JoinSet::new();
    let told = shutdown.triggered();
    tokio::pin!(told);
    loop {
        let accepted = tokio::select! {
            () = &mut told => break,
            accepted = listener.accept() => accepted,
            // Those that ended make room.
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, client)) => {
                // The end of an answer does not wait for the acknowledgement of its beginning.
                let _ = stream.set_nodelay(true);
                connections.spawn(connection(http.clone(), stream, client, router.clone(), shutdown.clone()));
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

/// One client, over whatever carries its bytes.
async fn connection(
    http: http1::Builder,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: SocketAddr,
    router: Router,
    shutdown: Shutdown,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(client));
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
        tracing::debug!(%error, %client, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    //! Real sockets: what a client notices.

    use std::convert::Infallible;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const HEAD: Duration = Duration::from_millis(200);

    struct Server {
        address: SocketAddr,
        shutdown: Shutdown,
        task: tokio::task::JoinHandle<()>,
        /// Each lets `/parts` send one more part.
        parts: tokio::sync::mpsc::UnboundedSender<&'static str>,
    }

    async fn server() -> Server {
        let (parts, receiver) = tokio::sync::mpsc::unbounded_channel::<&str>();
        let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(Some(receiver)));
        let router = Router::new()
            .route("/who", get(async |ConnectInfo(client): ConnectInfo<SocketAddr>| client.to_string()))
            .route("/big", get(async || vec![b'a'; 8 << 20]))
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
        let task = tokio::spawn(serve_within(listener, router, shutdown.clone(), HEAD));
        Server { address, shutdown, task, parts }
    }

    async fn connect(server: &Server) -> TcpStream {
        TcpStream::connect(server.address).await.expect("connected")
    }

    /// All that comes until the server ends the connection.
    async fn rest(stream: &mut TcpStream) -> Vec<u8> {
        let mut all = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut all)).await;
        // Ended either way.
        let _ = read.expect("the server ends the connection");
        all
    }

    async fn read_until(stream: &mut TcpStream, end: &str) -> String {
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
        let Server { address, shutdown, task, parts } = server().await;
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
}
