//! The HTTP port: takes connections and serves a router on each, until told to stop.
//!
//! What must hold: a client that does not finish its handshake or its request's head, asks nothing, or does not
//! read its answer, does not keep its connection, and no other client waits for it; there are not more connections
//! than control can carry, nor all of them one client's; an answer may take as long as its handler
//! wants (`/api/v1/live`); one connection's fault is that connection's alone.
//! Deliberately absent: HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
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
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::connection::{Impatient, Places};
use super::origin::OverTls;
use crate::platform::shutdown::Shutdown;

mod secured;

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
}

#[cfg(test)]
mod tests;
