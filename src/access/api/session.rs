//! Logging in and out, and who one is.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{ToResponse, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::finish;
use crate::access::audit::AuditResult;
use crate::access::http::{cookie, csrf, is_same_origin, session_secret};
use crate::access::login::{Client, LoggedIn};
use crate::access::roles::{Area, Level};
use crate::access::{Access, Actor, Authentication, FirstRun, Principal, Role, User, known};
use crate::platform::http::origin::Origin;
use crate::platform::http::{Language, Problem};

pub(super) fn router(authentication: Authentication) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(session_fetch, session_end)).with_state(authentication)
}

pub(super) fn open_router(authentication: Authentication) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(session_begin)).routes(routes!(first_run_fetch)).with_state(authentication)
}

/// An organisation, named.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrganizationName {
    #[schema(example = "org_1")]
    id: String,
    name: String,
}

/// A person, as they see themselves.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Myself {
    #[schema(example = "user_7")]
    id: String,
    name: String,
    display_name: String,
    roles: Vec<Role>,
    organization: OrganizationName,
    language: Language,
}

/// Who one is and what one may do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Me {
    user: Myself,
    /// How much of each area: `settings`, `access`, `audit`, `agents`, `measurements`, `migration`, `health`, `account`.
    #[schema(value_type = BTreeMap<String, Level>, example = json!({"agents": "write", "access": "none"}))]
    capabilities: BTreeMap<&'static str, Level>,
    /// To be sent as the header `x-csrf-token` with everything that changes something.
    csrf: String,
    /// The page of one's duty.
    #[schema(example = "/overview")]
    landing: &'static str,
    /// When the session ends in any case (Unix time in milliseconds).
    expires_ms: i64,
}

impl Me {
    fn new(access: &Access, principal: &Principal, user: &User, secret: &str, origin: Origin) -> Option<Self> {
        let expires_ms = access.session_expires_ms(principal)?;
        Some(Self {
            user: Myself {
                id: user.id.to_string(),
                name: user.name.clone(),
                display_name: user.display_name.clone(),
                roles: user.roles.iter().collect(),
                organization: OrganizationName {
                    id: user.organization.to_string(),
                    name: access.organization_name(user.organization),
                },
                language: user.language.unwrap_or(origin.language),
            },
            capabilities: Area::all().map(|area| (area.name(), principal.level(area))).collect(),
            csrf: csrf(secret),
            landing: user.landing(),
            expires_ms,
        })
    }

    /// Of a session.
    pub(super) fn read(access: &Access, principal: &Principal, secret: &str, origin: Origin) -> Result<Self, Problem> {
        let user = match principal.actor() {
            Actor::User(id, _) => access.user(id),
            Actor::Token(_) | Actor::System => None,
        };
        user.and_then(|user| Self::new(access, principal, &user, secret, origin)).ok_or_else(|| {
            Problem::not_found("a machine token is nobody's session").chinese("机器令牌不属于任何人的会话")
        })
    }
}

/// Whoever has just logged in.
#[derive(ToResponse)]
#[response(description = "Who it is.", headers(("set-cookie" = String, description = "The session, for this site alone; and by what this browser is known at the next login.")))]
#[expect(dead_code, reason = "it is what the document says of `welcome`")]
pub(super) struct Welcome(Me);

/// Somebody who has just logged in, with their cookies.
pub(super) fn welcome(state: &Authentication, somebody: &LoggedIn, origin: Origin) -> Result<Response, Problem> {
    let me = Me::read(&state.access, &somebody.principal, &somebody.secret, origin)?;
    let session = cookie(Some(&somebody.secret), state.spans.absolute.as_secs(), origin);
    let known = somebody.remembered.as_deref().map(|remembered| known::cookie(remembered, origin));
    let cookies = [session].into_iter().chain(known).map(|cookie| (header::SET_COOKIE, cookie));
    Ok((AppendHeaders(cookies), Json(me)).into_response())
}

/// From where and with what nobody does something; a page of another site does not, and that it tried is audited.
pub(super) fn client(
    state: &Authentication,
    headers: &HeaderMap,
    origin: Origin,
    action: &str,
) -> Result<Client, Problem> {
    if !is_same_origin(headers, origin) {
        state.access.refused(None, origin, action, "", (AuditResult::Refused, "csrf"));
        return Err(Problem::of_kind(StatusCode::FORBIDDEN, "csrf"));
    }
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default().to_owned();
    Ok(Client { origin, agent, known: known::Shown::of(headers) })
}

/// A name and its password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    #[schema(example = "zhang.wei")]
    name: String,
    #[schema(format = Password)]
    password: String,
}

/// Logs in: the answer sets the cookie of a session. An unknown name and a wrong password are answered alike.
///
/// A session that nobody uses ends. A request with the header `x-tongtu-automatic: 1`, or one that accepts
/// `text/event-stream` alone, is answered and counts as no use.
#[utoipa::path(post, path = "/api/v1/session", tag = "session", security(()), request_body = Login,
    responses(
        (status = 200, response = inline(Welcome)),
        (status = 401, description = "Name or password is wrong.", body = Problem),
        (status = 403, description = "Sent by a page of another site.", body = Problem),
        (status = 429, description = "Too many failures, or too many logins at once; `retry-after` says when.", body = Problem),
    ))]
async fn session_begin(
    State(state): State<Authentication>,
    origin: Origin,
    headers: HeaderMap,
    Json(login): Json<Login>,
) -> Result<Response, Problem> {
    let client = client(&state, &headers, origin, "session.begin")?;
    let authentication = state.clone();
    let somebody = finish(async move { authentication.log_in(&login.name, login.password, client).await }).await??;
    welcome(&state, &somebody, origin)
}

/// Who one is and what one may do.
#[utoipa::path(get, path = "/api/v1/session", tag = "session",
    responses(
        (status = 200, body = Me),
        (status = 401, description = "There is no session.", body = Problem),
        (status = 404, description = "Asked with a machine token.", body = Problem),
    ))]
async fn session_fetch(
    State(state): State<Authentication>,
    principal: Principal,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Json<Me>, Problem> {
    Me::read(&state.access, &principal, session_secret(&headers, origin).unwrap_or_default(), origin).map(Json)
}

/// Logs out: the session ends.
#[utoipa::path(delete, path = "/api/v1/session", tag = "session",
    responses(
        (status = 204, description = "It has ended."),
        (status = 401, body = Problem),
        (status = 403, description = "Asked with a machine token.", body = Problem),
    ))]
async fn session_end(
    State(state): State<Authentication>,
    principal: Principal,
    origin: Origin,
) -> Result<Response, Problem> {
    let permit = principal.permit()?;
    if let Actor::User(_, session) = principal.actor() {
        finish(async move { state.access.account_session_end(&permit, session).await }).await??;
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie(None, 0, origin))]).into_response())
}

/// Who is still missing before the system can be used.
#[derive(Debug, Serialize, ToSchema)]
struct FirstRunStep {
    step: FirstRun,
}

/// Who is still missing before the system can be used.
#[utoipa::path(get, path = "/api/v1/first-run", tag = "session", security(()),
    responses((status = 200, body = FirstRunStep)))]
async fn first_run_fetch(State(state): State<Authentication>) -> Json<FirstRunStep> {
    Json(FirstRunStep { step: state.access.first_run() })
}
