//! Authentication of HTTP requests, and the API of bearer tokens.

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus::IntCounter;

use super::Access;
use crate::platform::http::Problem;

/// What a person without a token is told.
pub(super) const SEND_A_TOKEN: &str =
    "send a token: `Authorization: Bearer TOKEN`; the first one is in the data directory's file api-token";

/// State of [`authenticate`].
#[derive(Debug, Clone)]
pub struct Authentication {
    /// Who is who.
    pub access: Access,
    /// Counts refusals.
    pub refused: IntCounter,
}

/// Lets a request with a live token through, with its [`Principal`](super::Principal).
pub async fn authenticate(State(state): State<Authentication>, mut request: Request, next: Next) -> Response {
    let bearer = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let problem = match bearer {
        None => Problem::unauthenticated(SEND_A_TOKEN),
        Some(token) => match state.access.authenticate(token) {
            Some(principal) => {
                request.extensions_mut().insert(principal);
                return next.run(request).await;
            }
            None => Problem::unauthenticated("this token is unknown or revoked"),
        },
    };
    state.refused.inc();
    problem.into_response()
}
