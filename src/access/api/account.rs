//! One's own account: language, password, sessions.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::finish;
use crate::access::capability::AccountWrite;
use crate::access::{Access, Actor, Authentication, Permit, Principal, Session, known};
use crate::platform::http::origin::Origin;
use crate::platform::http::page::Page;
use crate::platform::http::{Language, Problem};
use crate::platform::ids::SessionId;

pub(super) fn router(authentication: Authentication) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(account_update))
        .routes(routes!(account_password))
        .routes(routes!(account_organization_list))
        .routes(routes!(account_session_list))
        .routes(routes!(account_session_end))
        .with_state(authentication)
}

/// What of one's account changes; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AccountChange {
    #[serde(default)]
    language: Option<Language>,
}

/// Changes one's own account.
#[utoipa::path(patch, path = "/api/v1/account", tag = "account", request_body = AccountChange,
    responses((status = 204), (status = 401, body = Problem), (status = 403, body = Problem), (status = 422, body = Problem)))]
async fn account_update(
    State(state): State<Authentication>,
    principal: Principal,
    Json(change): Json<AccountChange>,
) -> Result<StatusCode, Problem> {
    let permit = principal.permit()?;
    if change.language.is_some() {
        finish(async move { state.access.account_update(&permit, change.language).await }).await??;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The password that is, and the one that shall be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordChange {
    #[schema(format = Password)]
    current: String,
    /// At least 12 characters, not the name, none that everybody tries first.
    #[schema(format = Password)]
    new: String,
}

/// Replaces one's own password. One's other sessions end, and a link by which it could be set.
#[utoipa::path(put, path = "/api/v1/account/password", tag = "account", request_body = PasswordChange,
    responses(
        (status = 204),
        (status = 401, body = Problem),
        (status = 403, body = Problem),
        (status = 422, description = "`errors` names the field.", body = Problem),
        (status = 429, body = Problem),
    ))]
async fn account_password(
    State(state): State<Authentication>,
    principal: Principal,
    origin: Origin,
    Json(change): Json<PasswordChange>,
) -> Result<Response, Problem> {
    let permit = principal.permit()?;
    let changed = finish(async move { state.password_change(&permit, change.current, change.new).await }).await??;
    let known = changed.map(|remembered| (header::SET_COOKIE, known::cookie(&remembered, origin)));
    Ok((StatusCode::NO_CONTENT, AppendHeaders(known)).into_response())
}

/// An organisation that one reaches: the owner of something that one sees.
#[derive(Debug, Serialize, ToSchema)]
struct OwnerReport {
    #[schema(example = "org_2")]
    id: String,
    #[schema(example = "市卫生健康委员会")]
    name: String,
    /// Under which it is; null: it is the root.
    #[schema(example = "org_1")]
    parent: Option<String>,
}

/// The organisations that one reaches, in order of id, to name the owners of what one sees.
#[utoipa::path(get, path = "/api/v1/account/organizations", tag = "account",
    responses((status = 200, body = Page<OwnerReport>), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn account_organization_list(
    State(state): State<Authentication>,
    principal: Principal,
) -> Result<Json<Page<OwnerReport>>, Problem> {
    let permit = principal.permit()?;
    let reached = state.access.account_organizations(&permit).into_iter();
    let items = reached.map(|it| OwnerReport {
        id: it.id.to_string(),
        name: it.name,
        parent: it.parent.map(|parent| parent.to_string()),
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// A session, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionReport {
    #[schema(example = "session_7193084123456")]
    id: String,
    #[schema(example = "user_7")]
    user: String,
    user_name: String,
    created_ms: i64,
    last_used_ms: i64,
    /// When it ends in any case.
    expires_ms: i64,
    /// From where it was begun.
    address: Option<String>,
    /// What the browser said of itself.
    agent: String,
    /// Whether it is the one that asks.
    current: bool,
}

impl SessionReport {
    pub(super) fn new(access: &Access, session: &Session, asks: Actor) -> Self {
        Self {
            id: session.id.to_string(),
            user: session.user.to_string(),
            user_name: access.user(session.user).map(|user| user.name).unwrap_or_default(),
            created_ms: session.created_ms,
            last_used_ms: session.last_used_ms(),
            expires_ms: session.expires_ms,
            address: session.address.map(|address| address.to_string()),
            agent: session.agent.clone(),
            current: asks == Actor::User(session.user, session.id),
        }
    }
}

/// One's own sessions, the one used last first.
#[utoipa::path(get, path = "/api/v1/account/sessions", tag = "account",
    responses((status = 200, body = Page<SessionReport>), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn account_session_list(
    State(state): State<Authentication>,
    principal: Principal,
) -> Result<Json<Page<SessionReport>>, Problem> {
    let permit: Permit<AccountWrite> = principal.permit()?;
    let sessions = state.access.account_sessions(&permit);
    let items = sessions.iter().map(|session| SessionReport::new(&state.access, session, principal.actor())).collect();
    Ok(Json(Page { items, next: None }))
}

/// Ends one of one's own sessions.
#[utoipa::path(delete, path = "/api/v1/account/sessions/{id}", tag = "account",
    params(("id" = String, Path, example = "session_7193084123456")),
    responses((status = 204), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn account_session_end(
    State(state): State<Authentication>,
    principal: Principal,
    Path(id): Path<SessionId>,
) -> Result<StatusCode, Problem> {
    let permit = principal.permit()?;
    let ended = finish(async move { state.access.account_session_end(&permit, id).await }).await??;
    if ended { Ok(StatusCode::NO_CONTENT) } else { Err(no_session(id)) }
}

pub(super) fn no_session(id: SessionId) -> Problem {
    Problem::not_found(format!("there is no session {id}")).chinese(format!("没有会话 {id}"))
}
