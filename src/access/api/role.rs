//! The table of roles, and everybody's sessions: what a security administrator looks at.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::account::{SessionReport, no_session};
use super::finish;
use crate::access::capability::AccessRead;
use crate::access::roles::{Area, Level};
use crate::access::{Access, Principal, Role};
use crate::platform::http::Problem;
use crate::platform::http::page::{Limit, Page};
use crate::platform::ids::SessionId;

pub(super) fn router(access: Access) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(role_list))
        .routes(routes!(session_list))
        .routes(routes!(session_revoke))
        .with_state(access)
}

/// A row of the table.
#[derive(Debug, Serialize, ToSchema)]
struct RoleReport {
    role: Role,
    /// Whether it is held alone.
    exclusive: bool,
    /// Whether a person can have it.
    people: bool,
    /// Whether a machine token can have it.
    machines: bool,
    /// How much it gives of each area.
    #[schema(value_type = BTreeMap<String, Level>)]
    capabilities: BTreeMap<&'static str, Level>,
}

/// The table of roles: what it does not give is refused.
#[utoipa::path(get, path = "/api/v1/roles", tag = "access",
    responses((status = 200, body = Page<RoleReport>), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn role_list(principal: Principal) -> Result<Json<Page<RoleReport>>, Problem> {
    principal.permit::<AccessRead>()?;
    let row = |role: Role| RoleReport {
        role,
        exclusive: role.is_duty(),
        people: role.is_for_people(),
        machines: role.is_for_machines(),
        capabilities: Area::all().map(|area| (area.name(), role.level(area))).collect(),
    };
    Ok(Json(Page { items: Role::all().map(row).collect(), next: None }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only sessions behind this one: the `next` of the page before.
    #[param(value_type = Option<String>, example = "session_7193084123456")]
    after: Option<SessionId>,
    /// Sessions of one page.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// Everybody's sessions, in order of id.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "access", params(ListQuery),
    responses((status = 200, body = Page<SessionReport>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn session_list(
    State(access): State<Access>,
    principal: Principal,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<SessionReport>>, Problem> {
    let permit = principal.permit()?;
    let all = access.sessions(&permit).into_iter();
    let behind = all.filter(|session| query.after.is_none_or(|after| session.id > after));
    let page = Page::cut(behind, query.limit, |session| session.id);
    Ok(Json(page.map(|session| SessionReport::new(&access, &session, principal.actor()))))
}

/// Ends anybody's session.
#[utoipa::path(delete, path = "/api/v1/sessions/{id}", tag = "access",
    params(("id" = String, Path, example = "session_7193084123456")),
    responses((status = 204), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn session_revoke(
    State(access): State<Access>,
    principal: Principal,
    Path(id): Path<SessionId>,
) -> Result<StatusCode, Problem> {
    let permit = principal.permit()?;
    let ended = finish(async move { access.session_end(&permit, id).await }).await??;
    if ended { Ok(StatusCode::NO_CONTENT) } else { Err(no_session(id)) }
}
