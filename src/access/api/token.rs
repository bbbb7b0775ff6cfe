//! Machine tokens: list and revoke. A token's text is in no answer.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::finish;
use crate::access::{Access, ApiTokenInfo, Principal, Role};
use crate::platform::http::Problem;
use crate::platform::ids::ApiTokenId;

pub(super) fn router(access: Access) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(revoke)).with_state(access)
}

/// A bearer token, without its text.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Token {
    #[schema(example = "token_1")]
    id: String,
    #[schema(example = "api-token")]
    name: String,
    #[schema(example = "org_1")]
    organization: String,
    role: Role,
    created_ms: i64,
    /// Absent while it is live.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_ms: Option<i64>,
}

impl From<ApiTokenInfo> for Token {
    fn from(token: ApiTokenInfo) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name,
            organization: token.organization.to_string(),
            role: token.role,
            created_ms: token.created_ms,
            revoked_ms: token.revoked_ms,
        }
    }
}

/// All bearer tokens.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Tokens {
    tokens: Vec<Token>,
}

/// Bearer tokens, oldest first.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "access", operation_id = "api_token_list",
    responses(
        (status = 200, description = "The tokens.", body = Tokens),
        (status = 403, description = "The token may not.", body = Problem),
    ))]
async fn list(State(access): State<Access>, principal: Principal) -> Result<Json<Tokens>, Problem> {
    let permit = principal.permit()?;
    Ok(Json(Tokens { tokens: access.tokens(&permit).into_iter().map(Token::from).collect() }))
}

/// Revokes a bearer token for ever. If none is left, the next start makes a new `api-token`.
#[utoipa::path(post, path = "/api/v1/tokens/{id}/revoke", tag = "access", operation_id = "api_token_revoke",
    params(("id" = String, Path, example = "token_1")),
    responses(
        (status = 200, description = "The token, revoked.", body = Token),
        (status = 403, description = "The token may not.", body = Problem),
        (status = 404, description = "No such token.", body = Problem),
    ))]
async fn revoke(
    State(access): State<Access>,
    principal: Principal,
    Path(id): Path<ApiTokenId>,
) -> Result<Json<Token>, Problem> {
    let permit = principal.permit()?;
    let revoked = finish(async move { access.token_revoke(&permit, id).await }).await??;
    revoked.map(|token| Json(token.into())).ok_or_else(|| Problem::not_found(format!("{id} is not known")))
}
