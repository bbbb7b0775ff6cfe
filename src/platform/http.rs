//! HTTP as every part of control speaks it: problems in one shape, limits, tracing, serving.
//!
//! Handlers use axum's extractors as they are; [`layered`] turns every refusal (theirs, the router's,
//! a limit's, a panic's) into the same `application/problem+json`.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use prometheus::{HistogramVec, IntCounterVec};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{And, NotForContentType, Predicate, SizeAbove};
use tower_http::timeout::TimeoutLayer;

use crate::metrics;
use crate::platform::clock::Stopwatch;
use crate::platform::metrics::Registry;

mod chinese;
mod connection;
pub mod origin;
pub mod page;
mod problem;
mod serve;
pub mod tls;

pub use origin::Language;
use origin::Origin;
pub use problem::{FieldProblem, Problem};
pub use serve::serve;

/// Largest request body.
const BODY_LIMIT: usize = 1024 * 1024;
/// Answers below this are not worth compressing.
const COMPRESS_FROM_BYTES: u64 = 8 << 10;
/// For a year a browser asks this host over TLS alone, on whatever port.
const STRICT_TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=31536000");
/// A request is answered within this or not at all.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

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

/// Runs to its end even if the caller goes away: a commit and what memory knows of it are one.
///
/// # Errors
/// The work panicked.
pub async fn finish<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Problem> {
    tokio::spawn(work).await.map_err(|panic| Problem::internal(&panic))
}

fn panicked(panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let cause = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    Problem::internal(&format_args!("a handler panicked: {cause}")).into_response()
}

/// Gives every refusal one shape: those that are no problems yet (extractors, router, limits) become
/// ones, and each is said in the language that was asked for.
async fn as_problem(request: Request, next: Next) -> Response {
    let origin = Origin::of(request.extensions());
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return with_problem(response, problem, origin);
    }
    let status = response.status();
    let plain =
        response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !plain {
        return response;
    }
    let kind = match status {
        StatusCode::BAD_REQUEST => "bad-request",
        StatusCode::NOT_FOUND => "not-found",
        StatusCode::METHOD_NOT_ALLOWED => "method-not-allowed",
        StatusCode::PAYLOAD_TOO_LARGE => "too-large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "media-type",
        StatusCode::UNPROCESSABLE_ENTITY => "invalid",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        _ if status.is_server_error() => "internal",
        _ => "refused",
    };
    let (parts, body) = response.into_parts();
    let said = to_bytes(body, 64 * 1024).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    with_problem(Response::from_parts(parts, Body::empty()), Problem::extracted(status, kind, said.trim()), origin)
}

/// A problem in place of a response's body; its own headers (`allow`) stay.
fn with_problem(response: Response, problem: Problem, origin: Origin) -> Response {
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut said = problem.rendered(origin.language, origin.request).into_response();
    said.extensions_mut().clear();
    let (new, body) = said.into_parts();
    parts.headers.extend(new.headers);
    parts.headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(origin.language.tag()));
    Response::from_parts(parts, body)
}

#[derive(Debug, Clone)]
struct Observed {
    requests: IntCounterVec,
    duration: HistogramVec,
}

/// Counts and traces a request under its route's template, so that ids make no new series.
async fn observe(State(observed): State<Observed>, mut request: Request, next: Next) -> Response {
    let origin = Origin::read(&request);
    request.extensions_mut().insert(origin);
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let is_strict = origin.is_secure && is_whole_host(request.headers().get(header::HOST));
    // Measured whatever the route turns out to be.
    let stopwatch = Stopwatch::start();
    let mut response = next.run(request).await;
    // Answers are for the caller alone, and are what they say they are.
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_strict {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
    }
    if let Ok(id) = HeaderValue::from_str(&origin.request.to_string()) {
        headers.insert("x-request-id", id);
    }
    let seconds = stopwatch.elapsed().as_secs_f64();
    let matched = response.extensions().get::<MatchedPath>().or(matched.as_ref());
    let route = matched.map_or("unmatched", MatchedPath::as_str).to_owned();
    observed.duration.with_label_values(&[&route]).observe(seconds);
    let status = response.status();
    observed.requests.with_label_values(&[&method, &route, &status.as_str().to_owned()]).inc();
    if status.is_server_error() {
        tracing::warn!(%method, %route, status = status.as_u16(), seconds, request = %origin.request, "answered");
    } else {
        tracing::debug!(%method, %route, status = status.as_u16(), seconds, "answered");
    }
    response
}

/// Whether who asks for a host asks for what has it to itself. What a browser is told of TLS holds for every port of
/// the host: on a port of its own control would take others' plain services away (Grafana, Prometheus), and as
/// `localhost` those of the reader's own machine.
fn is_whole_host(host: Option<&HeaderValue>) -> bool {
    let host = host.and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    host.is_some_and(|host| matches!(host.port_u16(), None | Some(443)) && host.host() != "localhost")
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
