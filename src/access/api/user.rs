//! Users: list, add, change, invite. Who adds one is given the link by which that person sets a password.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::finish;
use crate::access::invitation::{Made, link};
use crate::access::{Access, NewUser, Principal, Role, User, UserChange, UserFilter};
use crate::platform::http::Problem;
use crate::platform::http::origin::Origin;
use crate::platform::http::page::{Limit, Page};
use crate::platform::ids::{OrganizationId, UserId};

pub(super) fn router(access: Access) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(user_list, user_create))
        .routes(routes!(user_fetch, user_update))
        .routes(routes!(user_invite))
        .with_state(access)
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
struct UserReport {
    #[schema(example = "user_7")]
    id: String,
    /// With which they log in.
    #[schema(example = "zhang.wei")]
    name: String,
    #[schema(example = "张伟")]
    display_name: String,
    #[schema(example = "org_1")]
    organization: String,
    organization_name: String,
    roles: Vec<Role>,
    /// Whether they may not log in.
    disabled: bool,
    /// Whether they have set a password yet.
    has_password: bool,
    last_login_ms: Option<i64>,
    created_ms: i64,
}

impl UserReport {
    fn new(access: &Access, user: User) -> Self {
        Self {
            id: user.id.to_string(),
            organization: user.organization.to_string(),
            organization_name: access.organization_name(user.organization),
            roles: user.roles.iter().collect(),
            disabled: user.disabled_ms.is_some(),
            has_password: user.password.is_some(),
            last_login_ms: user.last_login_ms,
            created_ms: user.created_ms,
            name: user.name,
            display_name: user.display_name,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only users behind this one: the `next` of the page before.
    #[param(value_type = Option<String>, example = "user_7")]
    after: Option<UserId>,
    /// Users of one page.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    limit: Limit,
    /// Part of a name.
    search: Option<String>,
    role: Option<Role>,
    /// Of this organisation or one below it.
    #[param(value_type = Option<String>, example = "org_1")]
    organization: Option<OrganizationId>,
}

/// Users, in order of id.
#[utoipa::path(get, path = "/api/v1/users", tag = "access", params(ListQuery),
    responses((status = 200, body = Page<UserReport>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn user_list(
    State(access): State<Access>,
    principal: Principal,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<UserReport>>, Problem> {
    let permit = principal.permit()?;
    let filter = UserFilter { search: query.search, role: query.role, organization: query.organization };
    let users =
        access.users(&permit, &filter).into_iter().filter(|user| query.after.is_none_or(|after| user.id > after));
    let page = Page::cut(users, query.limit, |user| user.id);
    Ok(Json(page.map(|user| UserReport::new(&access, user))))
}

fn no_user(id: UserId) -> Problem {
    Problem::not_found(format!("there is no user {id}")).chinese(format!("没有用户 {id}"))
}

/// One user.
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "access", params(("id" = String, Path, example = "user_7")),
    responses((status = 200, body = UserReport), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn user_fetch(
    State(access): State<Access>,
    principal: Principal,
    Path(id): Path<UserId>,
) -> Result<Json<UserReport>, Problem> {
    let permit = principal.permit()?;
    let user = access.user_fetch(&permit, id).ok_or_else(|| no_user(id))?;
    Ok(Json(UserReport::new(&access, user)))
}

/// A user to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserRequest {
    /// 1 to 64 letters, digits, `.`, `-`, `_` or `@`; compared without regard to case.
    #[schema(example = "zhang.wei")]
    name: String,
    #[schema(example = "张伟")]
    display_name: String,
    /// At least one. The three administrators' duties are each held alone.
    roles: Vec<Role>,
    #[schema(value_type = String, example = "org_1")]
    organization: OrganizationId,
}

/// A one-time link by which a person sets a password.
#[derive(Debug, Serialize, ToSchema)]
struct InvitationReport {
    /// It is shown this once.
    #[schema(example = "https://tongtu.example.gov.cn/invitation#0cS1…")]
    url: String,
    expires_ms: i64,
}

/// A user with their link.
#[derive(Debug, Serialize, ToSchema)]
struct Invited {
    user: UserReport,
    invitation: InvitationReport,
}

impl Invited {
    fn new(access: &Access, user: User, made: &Made, base: &str) -> Self {
        let invitation = InvitationReport { url: link(base, &made.secret), expires_ms: made.invitation.expires_ms };
        Self { user: UserReport::new(access, user), invitation }
    }
}

/// Where the caller reaches control: who is given the link reaches it there as well.
fn base(headers: &HeaderMap, origin: Origin) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    format!("{}://{host}", if origin.is_secure { "https" } else { "http" })
}

/// Adds a user. The answer's link goes to that person, who sets a password with it.
#[utoipa::path(post, path = "/api/v1/users", tag = "access", request_body = UserRequest,
    responses((status = 201, body = Invited), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, description = "`errors` names the fields.", body = Problem)))]
async fn user_create(
    State(access): State<Access>,
    principal: Principal,
    origin: Origin,
    headers: HeaderMap,
    Json(request): Json<UserRequest>,
) -> Result<(StatusCode, Json<Invited>), Problem> {
    let permit = principal.permit()?;
    let UserRequest { name, display_name, roles, organization } = request;
    let wished = NewUser { name, display_name, roles, organization };
    let domain = access.clone();
    let (user, made) = finish(async move { domain.user_create(&permit, wished).await }).await??;
    Ok((StatusCode::CREATED, Json(Invited::new(&access, user, &made, &base(&headers, origin)))))
}

/// What of a user changes; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserPatch {
    display_name: Option<String>,
    roles: Option<Vec<Role>>,
    #[schema(value_type = Option<String>, example = "org_1")]
    organization: Option<OrganizationId>,
    /// A user who is disabled is logged out and may not log in.
    disabled: Option<bool>,
}

/// Changes a user. Nobody changes their own rights; the last security administrator stays.
#[utoipa::path(patch, path = "/api/v1/users/{id}", tag = "access", params(("id" = String, Path, example = "user_7")),
    request_body = UserPatch,
    responses((status = 200, body = UserReport), (status = 401, body = Problem),
        (status = 403, description = "Also of one's own rights.", body = Problem), (status = 404, body = Problem),
        (status = 409, description = "It is the last security administrator.", body = Problem),
        (status = 422, description = "`errors` names the fields.", body = Problem)))]
async fn user_update(
    State(access): State<Access>,
    principal: Principal,
    Path(id): Path<UserId>,
    Json(patch): Json<UserPatch>,
) -> Result<Json<UserReport>, Problem> {
    let permit = principal.permit()?;
    let UserPatch { display_name, roles, organization, disabled } = patch;
    let change = UserChange { display_name, roles, organization, disabled };
    let domain = access.clone();
    let user = finish(async move { domain.user_update(&permit, id, change).await }).await??;
    Ok(Json(UserReport::new(&access, user.ok_or_else(|| no_user(id))?)))
}

/// A new link by which a user sets a password. The old password works until the link is used.
#[utoipa::path(post, path = "/api/v1/users/{id}/invitation", tag = "access",
    params(("id" = String, Path, example = "user_7")),
    responses((status = 201, body = Invited), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, description = "The user is disabled.", body = Problem)))]
async fn user_invite(
    State(access): State<Access>,
    principal: Principal,
    origin: Origin,
    headers: HeaderMap,
    Path(id): Path<UserId>,
) -> Result<(StatusCode, Json<Invited>), Problem> {
    let permit = principal.permit()?;
    let domain = access.clone();
    let invited = finish(async move { domain.user_invite(&permit, id).await }).await??;
    let (user, made) = invited.ok_or_else(|| no_user(id))?;
    Ok((StatusCode::CREATED, Json(Invited::new(&access, user, &made, &base(&headers, origin)))))
}
