//! Machine tokens: list, make, revoke. A token's text is in one answer only: that which makes it.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::finish;
use crate::access::{Access, ApiTokenInfo, NewToken, Principal, Role};
use crate::platform::http::Problem;
use crate::platform::http::page::{Limit, Page};
use crate::platform::ids::{ApiTokenId, OrganizationId};

pub(super) fn router(access: Access) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(api_token_list, api_token_create))
        .routes(routes!(api_token_revoke))
        .with_state(access)
}

/// A machine token, without its text.
#[derive(Debug, Serialize, ToSchema)]
struct ApiTokenReport {
    #[schema(example = "token_1")]
    id: String,
    #[schema(example = "api-token")]
    name: String,
    /// `operator` or `reader`.
    role: Role,
    /// Whose things it reaches.
    #[schema(example = "org_1")]
    organization: String,
    created_ms: i64,
    /// When it ends; null: when it is revoked.
    expires_ms: Option<i64>,
    /// Written once a minute.
    last_used_ms: Option<i64>,
    revoked_ms: Option<i64>,
    /// The user who made it; null: control itself.
    #[schema(example = "user_1")]
    created_by: Option<String>,
}

impl ApiTokenReport {
    fn new((token, last_used_ms): (ApiTokenInfo, Option<i64>)) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name,
            role: token.role,
            organization: token.organization.to_string(),
            created_ms: token.created_ms,
            expires_ms: token.expires_ms,
            last_used_ms,
            revoked_ms: token.revoked_ms,
            created_by: token.created_by.map(|user| user.to_string()),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only tokens behind this one: the `next` of the page before.
    #[param(value_type = Option<String>, example = "token_7")]
    after: Option<ApiTokenId>,
    /// Tokens of one page.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// Machine tokens, oldest first, revoked ones as well.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "access", params(ListQuery),
    responses((status = 200, body = Page<ApiTokenReport>), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn api_token_list(
    State(access): State<Access>,
    principal: Principal,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ApiTokenReport>>, Problem> {
    let permit = principal.permit()?;
    let all = access.tokens(&permit).into_iter();
    let behind = all.filter(|(token, _)| query.after.is_none_or(|after| token.id > after));
    Ok(Json(Page::cut(behind, query.limit, |(token, _)| token.id).map(ApiTokenReport::new)))
}

/// A machine token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ApiTokenRequest {
    /// What it is for.
    #[schema(example = "prometheus")]
    name: String,
    /// `operator` or `reader`.
    role: Role,
    /// Whose things it reaches, with those below; absent: those of who makes it.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "org_2")]
    organization: Option<OrganizationId>,
    /// When it ends; absent: when it is revoked.
    #[serde(default)]
    expires_ms: Option<i64>,
}

/// A token that was just made.
#[derive(Debug, Serialize, ToSchema)]
struct ApiTokenCreated {
    token: ApiTokenReport,
    /// What the machine sends: `Authorization: Bearer SECRET`. It is shown this once.
    #[schema(example = "tongtu_0cS1…")]
    secret: String,
}

/// Makes a machine token.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "access", request_body = ApiTokenRequest,
    responses((status = 201, body = ApiTokenCreated), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, description = "`errors` names the fields.", body = Problem)))]
async fn api_token_create(
    State(access): State<Access>,
    principal: Principal,
    Json(request): Json<ApiTokenRequest>,
) -> Result<(StatusCode, Json<ApiTokenCreated>), Problem> {
    let permit = principal.permit()?;
    let ApiTokenRequest { name, role, organization, expires_ms } = request;
    let wished = NewToken { name, role, organization, expires_ms };
    let (token, secret) = finish(async move { access.token_create(&permit, wished).await }).await??;
    Ok((StatusCode::CREATED, Json(ApiTokenCreated { token: ApiTokenReport::new((token, None)), secret })))
}

/// Revokes a machine token for ever. If none is left, the next start makes a new `api-token`.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "access",
    params(("id" = String, Path, example = "token_1")),
    responses((status = 204, description = "It opens nothing any more."), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn api_token_revoke(
    State(access): State<Access>,
    principal: Principal,
    Path(id): Path<ApiTokenId>,
) -> Result<StatusCode, Problem> {
    let permit = principal.permit()?;
    let revoked = finish(async move { access.token_revoke(&permit, id).await }).await??;
    let unknown = || Problem::not_found(format!("there is no token {id}")).chinese(format!("没有令牌 {id}"));
    revoked.map(|_| StatusCode::NO_CONTENT).ok_or_else(unknown)
}
