//! Authentication of HTTP requests: a bearer token, or the cookie of a session.
//!
//! A cookie is sent by the browser whoever made the page, so a request that changes something needs two
//! more things with it: it comes from a page of this origin, and it carries the session's CSRF token,
//! which only such a page can read. A bearer token is sent by nobody unasked and needs neither.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Actor;
use super::audit::AuditResult;
use super::login::Authentication;
use super::secret;
use crate::platform::http::Problem;
use crate::platform::http::origin::Origin;

const COOKIE: &str = "tongtu_session";
/// Its name under TLS: a browser takes it from this host alone, over TLS alone, for all of its paths.
const SECURE_COOKIE: &str = "__Host-tongtu_session";
/// The header with a session's CSRF token.
const CSRF: &str = "x-csrf-token";
/// The header, `1`, of a request that a page makes by itself.
const AUTOMATIC: &str = "x-tongtu-automatic";

/// What somebody without token and session is told.
pub(super) fn nobody() -> Problem {
    Problem::unauthenticated(
        "log in, or send a token: `Authorization: Bearer TOKEN`; the first one is in the data directory's file api-token",
    )
    .chinese("请先登录，或发送令牌：`Authorization: Bearer TOKEN`；首个令牌在数据目录的 api-token 文件中")
}

/// Lets a request with a live token or session through, with its [`Principal`](super::Principal), as often as
/// it may ask.
pub async fn authenticate(State(state): State<Authentication>, mut request: Request, next: Next) -> Response {
    let origin = Origin::of(request.extensions());
    let headers = request.headers();
    let (mut is_nobody, mut session) = (false, None);
    let principal = if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        bearer(authorization).and_then(|token| state.access.authenticate(token)).ok_or_else(|| {
            Problem::unauthenticated("this token is unknown, revoked or has expired")
                .chinese("此令牌不存在、已吊销或已过期")
        })
    } else if let Some(secret) = session_secret(headers, origin) {
        session = Some(secret);
        state.access.session_principal(secret, origin, state.spans.idle, is_automatic(headers)).ok_or_else(|| {
            Problem::unauthenticated("this session has ended; log in again").chinese("会话已结束，请重新登录")
        })
    } else {
        is_nobody = true;
        Err(nobody())
    };
    let counted = match &principal {
        Ok(principal) => state.rates.somebody(principal.actor),
        Err(_) => state.rates.nobody(origin.address),
    };
    if let Err(limited) = counted {
        return limited.into_response();
    }
    match principal {
        Ok(mut principal) => {
            let is_forged = |secret| !request.method().is_safe() && !is_from_our_page(headers, secret, origin);
            let attempt = Attempt::of(&request);
            if session.is_some_and(is_forged) {
                attempt.refused(&state, Some(principal.actor), origin, (AuditResult::Refused, "csrf"));
                return Problem::of_kind(StatusCode::FORBIDDEN, "csrf").into_response();
            }
            principal.origin = origin;
            request.extensions_mut().insert(principal);
            let response = next.run(request).await;
            if let Some(ended) = attempt.ended(&response) {
                attempt.refused(&state, Some(principal.actor), origin, ended);
            }
            response
        }
        Err(problem) => {
            state.refused.inc();
            // Who shows nothing and only looks has tried nothing: each opening of the login page does that.
            if !is_nobody || !request.method().is_safe() {
                // By the route alone: what nobody names may be anything.
                let action = Attempt::of(&request).action();
                state.access.refused(None, origin, &action, "", (AuditResult::Refused, problem.kind));
            }
            problem.into_response()
        }
    }
}

/// Lets a request of anybody through, as often as their address may ask.
pub async fn limit(State(state): State<Authentication>, request: Request, next: Next) -> Response {
    match state.rates.nobody(Origin::of(request.extensions()).address) {
        Ok(()) => next.run(request).await,
        Err(limited) => limited.into_response(),
    }
}

/// What is asked, for the audit log. It is put into words only for those that are refused.
struct Attempt {
    method: Method,
    route: Option<MatchedPath>,
    uri: Uri,
}

impl Attempt {
    /// Clones that copy nothing: the path's text is shared.
    fn of(request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>().cloned();
        Self { method: request.method().clone(), route, uri: request.uri().clone() }
    }

    fn action(&self) -> String {
        format!("{} {}", self.method, self.route.as_ref().map_or("unmatched", MatchedPath::as_str))
    }

    fn refused(
        &self,
        state: &Authentication,
        actor: Option<Actor>,
        origin: Origin,
        ended: (AuditResult, &'static str),
    ) {
        // Without the query: it is no name of a thing.
        state.access.refused(actor, origin, &self.action(), self.uri.path(), ended);
    }

    /// How it ended, if it was refused or broke. Not to find something is an attempt only where something
    /// was to be changed.
    fn ended(&self, response: &Response) -> Option<(AuditResult, &'static str)> {
        let result = match response.status() {
            StatusCode::FORBIDDEN => AuditResult::Refused,
            StatusCode::NOT_FOUND | StatusCode::CONFLICT if !self.method.is_safe() => AuditResult::Refused,
            status if status.is_server_error() && !self.method.is_safe() => AuditResult::Failed,
            _ => return None,
        };
        Some((result, response.extensions().get::<Problem>().map_or("refused", |problem| problem.kind)))
    }
}

fn bearer(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, token) = authorization.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether no person asked for a request: the page says so, or it is for a stream of events, with which a browser
/// sends no header of the page's, and which it opens anew by itself.
fn is_automatic(headers: &HeaderMap) -> bool {
    headers.get(AUTOMATIC).is_some_and(|value| value == "1")
        || headers.get(header::ACCEPT).is_some_and(|kind| kind == "text/event-stream")
}

fn cookie_name(origin: Origin) -> &'static str {
    if origin.is_secure { SECURE_COOKIE } else { COOKIE }
}

/// What the session's cookie holds.
pub(super) fn session_secret(headers: &HeaderMap, origin: Origin) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == cookie_name(origin))
        .map(|(_, secret)| secret)
}

/// The CSRF token of a session: it follows from the session's secret, so it need not be kept.
pub(super) fn csrf(secret: &str) -> String {
    secret::derive(secret, "csrf")
}

/// The header that gives a browser its session, or takes it.
pub(super) fn cookie(secret: Option<&str>, seconds: u64, origin: Origin) -> HeaderValue {
    let (secret, seconds) = secret.map_or(("", 0), |secret| (secret, seconds));
    let secure = if origin.is_secure { "; Secure" } else { "" };
    let name = cookie_name(origin);
    let cookie = format!("{name}={secret}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}{secure}");
    HeaderValue::try_from(cookie).expect("base64 and constants")
}

fn is_from_our_page(headers: &HeaderMap, secret: &str, origin: Origin) -> bool {
    let sent = headers.get(CSRF).and_then(|value| value.to_str().ok()).unwrap_or_default();
    is_same_origin(headers, origin) && secret::equal(sent, &csrf(secret))
}

/// Whether a browser says that the request is from a page of this origin. What is no browser says nothing.
pub(super) fn is_same_origin(headers: &HeaderMap, origin: Origin) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site")) {
        return site == "same-origin";
    }
    match headers.get(header::ORIGIN) {
        None => true,
        Some(page) => match page.to_str().ok().and_then(|page| page.split_once("://")) {
            // Under TLS a page without it is another's. A proxy may not have said that there is TLS.
            Some((scheme, _)) if origin.is_secure && scheme != "https" => false,
            Some((_, authority)) => Some(authority) == text(header::HOST),
            None => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().expect("a value")))
            .collect()
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let found = |cookies: &str, is_secure: bool| {
            let origin = Origin { is_secure, ..Origin::default() };
            session_secret(&headers(&[("cookie", cookies)]), origin).map(ToOwned::to_owned)
        };
        assert_eq!(found("a=b; tongtu_session=secret; c=d", false), Some("secret".to_owned()));
        assert_eq!(found("tongtu_session2=x; xtongtu_session=y", false), None);
        let both = "tongtu_session=planted; __Host-tongtu_session=secret";
        assert_eq!(found(both, true), Some("secret".to_owned()));
        assert_eq!(found("tongtu_session=planted", true), None, "anybody on the way could have set it");
    }

    #[test]
    fn a_page_of_another_origin_is_not_ours() {
        for (ours, pairs) in [
            (true, &[][..]),
            (true, &[("origin", "https://tongtu.example"), ("host", "tongtu.example")]),
            (true, &[("sec-fetch-site", "same-origin"), ("origin", "https://a"), ("host", "b")]),
            (false, &[("origin", "https://evil.example"), ("host", "tongtu.example")]),
            (false, &[("origin", "null"), ("host", "tongtu.example")]),
            (false, &[("sec-fetch-site", "cross-site")]),
            (false, &[("sec-fetch-site", "same-site"), ("origin", "https://b"), ("host", "b")]),
        ] {
            assert_eq!(is_same_origin(&headers(pairs), Origin::default()), ours, "{pairs:?}");
        }
        let secure = Origin { is_secure: true, ..Origin::default() };
        for (ours, page) in [(true, "https://tongtu.example"), (false, "http://tongtu.example"), (false, "null")] {
            let headers = headers(&[("origin", page), ("host", "tongtu.example")]);
            assert_eq!(is_same_origin(&headers, secure), ours, "{page}");
        }
    }

    #[test]
    fn the_cookie_is_for_this_site_and_no_script() {
        let insecure = cookie(Some("s"), 60, Origin::default());
        assert_eq!(insecure, "tongtu_session=s; HttpOnly; SameSite=Strict; Path=/; Max-Age=60");
        let secure = cookie(None, 60, Origin { is_secure: true, ..Origin::default() });
        assert_eq!(secure, "__Host-tongtu_session=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0; Secure");
    }
}
