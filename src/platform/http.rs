//! HTTP as every part of control speaks it: problems in one shape, limits, tracing, serving.
//!
//! Handlers use axum's extractors as they are; [`layered`] turns every refusal (theirs, the router's,
//! a limit's, a panic's) into the same `application/problem+json`.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use prometheus::{HistogramVec, IntCounterVec};
use serde::Serialize;
use tokio::net::TcpListener;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{And, NotForContentType, Predicate, SizeAbove};
use tower_http::timeout::TimeoutLayer;

use crate::metrics;
use crate::platform::clock::Stopwatch;
use crate::platform::metrics::Registry;
use crate::platform::shutdown::Shutdown;

pub mod page;

/// Largest request body.
const BODY_LIMIT: usize = 1024 * 1024;
/// Answers below this are not worth compressing.
const COMPRESS_FROM_BYTES: u64 = 8 << 10;
/// A request is answered within this or not at all.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests under way when control stops have this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request was not done (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// Stable name of the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:tongtu:problem:not-found")]
    pub kind: String,
    /// The same for every problem of a kind.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What went wrong this time and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Problem {
    /// A problem of a status and kind (`not-found`).
    #[must_use]
    pub fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:tongtu:problem:{kind}"),
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: status.as_u16(),
            detail: Some(detail.into()),
        }
    }

    /// 400: the request cannot be understood.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// 401: no known token.
    #[must_use]
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
    }

    /// 403: known, but not allowed.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: there is no such thing, or the caller may not see it.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// 409: it is in a state that does not allow this.
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 422: understood, but a value is out of range.
    #[must_use]
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    /// 503: not now.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// 500: our fault. Logs the cause here; the caller learns nothing of it.
    #[must_use]
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "control failed; its log says why")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("strings and a number are JSON");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Puts limits, tracing, metrics and the one shape of refusals around a router.
pub fn layered(router: Router, registry: &Registry) -> Router {
    let observed = Observed {
        requests: registry.counter_vec(&metrics::HTTP_REQUESTS),
        duration: registry.histogram_vec(
            &metrics::HTTP_REQUEST_DURATION,
            &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0],
        ),
    };
    router
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(as_problem))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth_compressing()))
        .layer(middleware::from_fn_with_state(observed, observe))
}

/// Answers of some size; never an endless one, whose parts must not wait in a compressor.
fn worth_compressing() -> And<SizeAbove, NotForContentType> {
    SizeAbove::new(COMPRESS_FROM_BYTES).and(NotForContentType::SSE)
}

/// Tells [`layered`], around it, which of an inner router's routes answered.
pub async fn named(request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(matched) = matched {
        response.extensions_mut().insert(matched);
    }
    response
}

/// Serves until told to stop; what is under way then has ten seconds.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> std::io::Result<()> {
    let told = shutdown.triggered();
    // The end of an answer does not wait for the acknowledgement of its beginning.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.triggered());
    tokio::select! {
        served = server => served,
        () = async { told.await; tokio::time::sleep(DRAIN_TIMEOUT).await } => Ok(()),
    }
}

fn panicked(panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let cause = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    Problem::internal(&format_args!("a handler panicked: {cause}")).into_response()
}

/// Gives refusals that are not problems yet (extractors, router, limits) the same shape.
async fn as_problem(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let plain =
        response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !plain {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let said = to_bytes(body, 64 * 1024).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let (kind, otherwise) = match status {
        StatusCode::BAD_REQUEST => ("bad-request", "the request cannot be understood"),
        StatusCode::NOT_FOUND => ("not-found", "there is no such path; `tongtu openapi` lists them"),
        StatusCode::METHOD_NOT_ALLOWED => {
            ("method-not-allowed", "this path does not take this method; see the Allow header")
        }
        StatusCode::PAYLOAD_TOO_LARGE => ("too-large", "the body is larger than 1 MiB"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ("media-type", "send application/json"),
        StatusCode::UNPROCESSABLE_ENTITY => ("invalid", "the body does not have the expected shape"),
        StatusCode::SERVICE_UNAVAILABLE => ("unavailable", "not answered in time"),
        _ if status.is_server_error() => ("internal", "control failed; its log says why"),
        _ => ("refused", "the request was refused"),
    };
    let detail = if said.trim().is_empty() { otherwise.to_owned() } else { said.trim().to_owned() };
    let problem = Problem::new(status, kind, detail).into_response();
    parts.headers.remove(header::CONTENT_LENGTH);
    let (new, body) = problem.into_parts();
    parts.headers.extend(new.headers);
    Response::from_parts(parts, Body::new(body))
}

#[derive(Debug, Clone)]
struct Observed {
    requests: IntCounterVec,
    duration: HistogramVec,
}

/// Counts and traces a request under its route's template, so that ids make no new series.
async fn observe(State(observed): State<Observed>, request: Request, next: Next) -> Response {
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let matched = request.extensions().get::<MatchedPath>().cloned();
    // Measured whatever the route turns out to be.
    let stopwatch = Stopwatch::start();
    let mut response = next.run(request).await;
    // Answers are for the caller alone, and are what they say they are.
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let seconds = stopwatch.elapsed().as_secs_f64();
    let matched = response.extensions().get::<MatchedPath>().or(matched.as_ref());
    let route = matched.map_or("unmatched", MatchedPath::as_str).to_owned();
    observed.duration.with_label_values(&[&route]).observe(seconds);
    let status = response.status();
    observed.requests.with_label_values(&[&method, &route, &status.as_str().to_owned()]).inc();
    if status.is_server_error() {
        tracing::warn!(%method, %route, status = status.as_u16(), seconds, "answered");
    } else {
        tracing::debug!(%method, %route, status = status.as_u16(), seconds, "answered");
    }
    response
}

#[cfg(test)]
mod tests {
    //! Limits and panics, on a router of their own.

    use axum::routing::{get, post};
    use axum::{Json, body::to_bytes};
    use tower::ServiceExt;

    use super::*;

    async fn said(request: Request) -> (u16, serde_json::Value) {
        #[derive(serde::Deserialize)]
        struct Asked {
            #[expect(dead_code, reason = "only its shape matters")]
            number: u32,
        }
        async fn panic() {
            panic!("on purpose");
        }
        let router = Router::new()
            .route("/panic", get(panic))
            .route("/json", post(async |_: Json<Asked>| StatusCode::NO_CONTENT));
        let response = layered(router, &Registry::new()).oneshot(request).await.expect("an answer");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(problem["status"], status);
        (status, problem)
    }

    fn json(body: impl Into<Body>) -> Request {
        let request = Request::post("/json").header(header::CONTENT_TYPE, "application/json");
        request.body(body.into()).expect("a request")
    }

    #[tokio::test]
    async fn refusals_of_axum_and_panics_are_problems() {
        let (status, problem) = said(Request::get("/panic").body(Body::empty()).expect("a request")).await;
        assert_eq!(status, 500);
        assert!(!problem.to_string().contains("on purpose"), "{problem}");
        assert_eq!(said(Request::post("/json").body("{}".into()).expect("a request")).await.0, 415);
        assert_eq!(said(json("{")).await.0, 400);
        let (status, problem) = said(json("{\"number\":\"x\"}")).await;
        assert_eq!(status, 422);
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("number")), "{problem}");
        assert_eq!(said(json(vec![b' '; BODY_LIMIT + 1])).await.0, 413);
        assert_eq!(said(Request::get("/json").body(Body::empty()).expect("a request")).await.0, 405);
        assert_eq!(said(Request::get("/none").body(Body::empty()).expect("a request")).await.0, 404);
    }

    #[tokio::test]
    async fn a_long_answer_is_compressed_for_those_who_take_it() {
        let router = Router::new()
            .route("/long", get(async || "a".repeat(COMPRESS_FROM_BYTES as usize)))
            .route("/short", get(async || "a".repeat(100)))
            .route("/events", get(async || ([(header::CONTENT_TYPE, "text/event-stream")], "a".repeat(1 << 16))));
        let router = layered(router, &Registry::new());
        for (path, accept, expected) in [
            ("/long", "gzip, deflate", Some("gzip")),
            ("/long", "gzip, deflate, br, zstd", Some("zstd")),
            ("/long", "gzip, zstd;q=0", Some("gzip")),
            ("/long", "identity", None),
            ("/short", "gzip", None),
            ("/events", "gzip", None),
        ] {
            let request = Request::get(path).header(header::ACCEPT_ENCODING, accept).body(Body::empty());
            let response = router.clone().oneshot(request.expect("a request")).await.expect("an answer");
            let coding = response.headers().get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
            assert_eq!(coding, expected, "{path} {accept}");
        }
    }
}
