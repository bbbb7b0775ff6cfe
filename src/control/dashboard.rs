//! The dashboard: the files of `dashboards/web/dist`, embedded, and the manners of serving them.
//!
//! Owns what a browser is told about them: assets carry their content's hash in their name and are kept
//! for ever, `index.html` is asked for anew each time; nothing but the service's own files runs or is
//! drawn. Whoever asks for a page (not for data) gets `index.html`, whose router knows the pages.
//! Needs no session: what is served here is the same for everybody.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rust_embed::{EmbeddedFile, RustEmbed};

/// What stands for every page.
const INDEX: &str = "index.html";
/// Names below this folder hold the hash of what they name.
const HASHED: &str = "assets/";
/// Below this a file is not worth compressing.
const COMPRESS_FROM_BYTES: usize = 1 << 10;
/// Paths that are data; whatever else is unknown may be a page.
const DATA: [&str; 4] = ["/api/", "/metrics", "/healthz", "/readyz"];
/// Only what this service itself sends: no inline script, no inline style, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "dashboards/web/dist"]
struct Files;

/// Compressed once, when first asked for.
static COMPRESSED: LazyLock<Mutex<HashMap<(String, Coding), Bytes>>> = LazyLock::new(Mutex::default);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Coding {
    Zstd,
    Gzip,
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// The best one that the caller takes.
    fn accepted(headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get(header::ACCEPT_ENCODING)?.to_str().ok()?;
        let takes = |name: &str| {
            accepted.split(',').any(|offer| {
                let (coding, weight) = offer.split_once(';').unwrap_or((offer, ""));
                coding.trim().eq_ignore_ascii_case(name) && !matches!(weight.trim(), "q=0" | "q=0.0")
            })
        };
        [Self::Zstd, Self::Gzip].into_iter().find(|coding| takes(coding.name()))
    }

    fn compress(self, plain: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Zstd => zstd::bulk::compress(plain, 19),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(plain)?;
                encoder.finish()
            }
        }
    }
}

/// The answer, if it is a file of the dashboard or one of its pages that is asked for.
pub(super) fn answer(request: &Request<Body>) -> Option<Response> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let path = request.uri().path();
    let name = path.trim_start_matches('/');
    if let Some(file) = Files::get(name) {
        return Some(file_answer(name, file, request.headers()));
    }
    if name.starts_with(HASHED) {
        // A page of an older version asks for its parts; `index.html` would be no script.
        return Some(StatusCode::NOT_FOUND.into_response());
    }
    let page = path == "/" || (wants_page(request.headers()) && !DATA.iter().any(|data| path.starts_with(data)));
    page.then(|| Files::get(INDEX).map(|file| file_answer(INDEX, file, request.headers()))).flatten()
}

/// A browser that goes somewhere says that it takes HTML; what asks for data does not.
fn wants_page(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().windows(9).any(|part| part == b"text/html"))
}

fn file_answer(name: &str, file: EmbeddedFile, asked: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", STANDARD_NO_PAD.encode(&file.metadata.sha256_hash()[..12]));
    let mut headers = HeaderMap::new();
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    let hashed = name.starts_with(HASHED);
    set(header::CACHE_CONTROL, if hashed { "public, max-age=31536000, immutable" } else { "no-cache" });
    set(header::ETAG, &tag);
    set(header::VARY, "accept-encoding");
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(header::HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()");
    let known = asked.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    set(header::CONTENT_TYPE, content_type(name));
    let coding = Coding::accepted(asked).filter(|_| file.data.len() >= COMPRESS_FROM_BYTES && is_text(name));
    if let Some((coding, body)) = coding.and_then(|coding| Some((coding, compressed(name, &file.data, coding)?))) {
        set(header::CONTENT_ENCODING, coding.name());
        return (headers, body).into_response();
    }
    let body = match file.data {
        Cow::Borrowed(embedded) => Bytes::from_static(embedded),
        Cow::Owned(read) => Bytes::from(read),
    };
    (headers, body).into_response()
}

fn compressed(name: &str, plain: &[u8], coding: Coding) -> Option<Bytes> {
    let key = (name.to_owned(), coding);
    if let Some(body) = COMPRESSED.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Some(body.clone());
    }
    let body = Bytes::from(coding.compress(plain).ok()?);
    COMPRESSED.lock().unwrap_or_else(PoisonError::into_inner).insert(key, body.clone());
    Some(body)
}

fn is_text(name: &str) -> bool {
    !name.ends_with(".woff2") && !name.ends_with(".png")
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json" | "webmanifest") => "application/json",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, path: &str, headers: &[(header::HeaderName, &str)]) -> Option<Response> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        answer(&request.body(Body::empty()).expect("a request"))
    }

    fn header(response: &Response, name: header::HeaderName) -> &str {
        response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The largest script of the committed build.
    fn asset() -> String {
        Files::iter()
            .filter(|name| name.starts_with(HASHED) && name.ends_with(".js"))
            .max_by_key(|name| Files::get(name).map(|file| file.data.len()))
            .expect("the build has a script")
            .into_owned()
    }

    #[test]
    fn a_page_is_the_index_asked_for_anew_and_runs_nothing_inline() {
        for (path, accept) in [("/", "*/*"), ("/hosts", "text/html,*/*;q=0.8"), ("/hosts/host_1?range=1h", "text/html")]
        {
            let response = ask(Method::GET, path, &[(header::ACCEPT, accept)]).expect(path);
            assert_eq!(response.status(), 200);
            assert_eq!(header(&response, header::CONTENT_TYPE), "text/html; charset=utf-8");
            assert_eq!(header(&response, header::CACHE_CONTROL), "no-cache");
            let policy = header(&response, header::CONTENT_SECURITY_POLICY);
            assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
            assert_eq!(header(&response, header::X_FRAME_OPTIONS), "DENY");
        }
        let index = Files::get(INDEX).expect("the build has an index");
        let index = String::from_utf8_lossy(&index.data).into_owned();
        assert!(!index.contains("<style") && !index.contains(" style="), "{index}");
        for script in index.split("<script").skip(1) {
            assert!(script.split('>').next().is_some_and(|tag| tag.contains("src=")), "inline: {script}");
        }
    }

    #[test]
    fn data_and_changes_are_never_answered_with_a_page() {
        let html = [(header::ACCEPT, "text/html")];
        for path in ["/api/v1/hosts", "/api/v1/none", "/metrics", "/metrics/sources/source_1"] {
            assert!(ask(Method::GET, path, &html).is_none(), "{path}");
        }
        assert!(ask(Method::POST, "/hosts", &html).is_none());
        assert!(ask(Method::GET, "/none", &[(header::ACCEPT, "*/*")]).is_none(), "not a browser going somewhere");
    }

    #[test]
    fn an_asset_is_kept_for_ever_and_an_unknown_one_is_no_page() {
        let response = ask(Method::GET, &format!("/{}", asset()), &[]).expect("an asset");
        assert_eq!(header(&response, header::CACHE_CONTROL), "public, max-age=31536000, immutable");
        assert_eq!(header(&response, header::CONTENT_TYPE), "text/javascript; charset=utf-8");
        let old = ask(Method::GET, "/assets/index-old.js", &[(header::ACCEPT, "text/html")]).expect("an answer");
        assert_eq!(old.status(), 404);
    }

    #[tokio::test]
    async fn an_asset_is_compressed_for_those_who_take_it_and_known_ones_are_not_sent_again() {
        let path = format!("/{}", asset());
        let plain = Files::get(path.trim_start_matches('/')).expect("an asset").data.into_owned();
        for (takes, coding) in [("gzip, deflate, br, zstd", "zstd"), ("gzip", "gzip"), ("zstd;q=0, gzip", "gzip")] {
            let response = ask(Method::GET, &path, &[(header::ACCEPT_ENCODING, takes)]).expect("an asset");
            assert_eq!(header(&response, header::CONTENT_ENCODING), coding);
            let body = axum::body::to_bytes(response.into_body(), 1 << 24).await.expect("a body");
            assert!(body.len() < plain.len());
            if coding == "zstd" {
                assert_eq!(zstd::decode_all(&body[..]).expect("zstd"), plain);
            }
        }
        let first = ask(Method::GET, "/", &[]).expect("a page");
        let tag = header(&first, header::ETAG);
        let again = ask(Method::GET, "/", &[(header::IF_NONE_MATCH, tag)]).expect("a page");
        assert_eq!(again.status(), 304);
    }
}
