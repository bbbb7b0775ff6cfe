//! TLS on the HTTP port: the handshake, and what is said to who comes without one.

use std::convert::Infallible;

use axum::http::uri::{Authority, PathAndQuery};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::super::connection::Impatient;
use super::{Client, Patience};
use crate::platform::shutdown::Shutdown;

impl Client {
    /// Over TLS, whose handshake comes first.
    pub(super) async fn serve_secured(
        self,
        stream: TcpStream,
        tls: TlsAcceptor,
        patience: Patience,
        shutdown: Shutdown,
    ) {
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
