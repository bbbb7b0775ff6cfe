//! The agents' API. Each handler: extract, permit, call the domain, render.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{AgentReport, ConfigurationError, Desired, EnrolmentToken, Fleet, TokenError, enrolment};
use crate::access::Principal;
use crate::platform::clock::UnixMs;
use crate::platform::http::page::{Limit, Page};
use crate::platform::http::{Problem, finish};
use crate::platform::ids::{AgentId, EnrolmentTokenId, OrganizationId};

/// All operations.
pub fn router(fleet: Fleet) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(agent_list))
        .routes(routes!(agent_fetch))
        .routes(routes!(agent_revoke))
        .routes(routes!(configuration_fetch, configuration_set))
        .routes(routes!(token_create, token_list))
        .routes(routes!(token_revoke))
        .with_state(fleet)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only agents behind this one: the `next` of the page before.
    #[param(value_type = Option<String>, example = "agent_7")]
    after: Option<AgentId>,
    /// Agents of one page.
    #[serde(default)]
    #[param(value_type = Option<usize>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// Agents in order of their ids: who they are, how they are, what came of them.
#[utoipa::path(get, path = "/api/v1/agents", tag = "agents", params(ListQuery),
    responses((status = 200, body = Page<AgentReport>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn agent_list(
    State(fleet): State<Fleet>,
    principal: Principal,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<AgentReport>>, Problem> {
    let permit = principal.permit()?;
    Ok(Json(Page::cut(fleet.agent_reports(&permit, query.after), query.limit, |last| last.id)))
}

fn no_agent(id: AgentId) -> Problem {
    Problem::not_found(format!("there is no agent {id}")).chinese(format!("没有探针 {id}，或您看不到它"))
}

/// One agent.
#[utoipa::path(get, path = "/api/v1/agents/{id}", tag = "agents",
    params(("id" = String, Path, example = "agent_7")),
    responses((status = 200, body = AgentReport), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn agent_fetch(
    State(fleet): State<Fleet>,
    principal: Principal,
    Path(id): Path<AgentId>,
) -> Result<Json<AgentReport>, Problem> {
    let permit = principal.permit()?;
    fleet.agent_fetch(&permit, id).map(Json).ok_or_else(|| no_agent(id))
}

/// Takes an agent's identity away for ever and ends its stream. Its data stays.
#[utoipa::path(post, path = "/api/v1/agents/{id}/revoke", tag = "agents",
    params(("id" = String, Path, example = "agent_7")),
    responses((status = 200, body = AgentReport), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn agent_revoke(
    State(fleet): State<Fleet>,
    principal: Principal,
    Path(id): Path<AgentId>,
) -> Result<Json<AgentReport>, Problem> {
    let permit = principal.permit()?;
    let revoked = finish(async move { fleet.agent_revoke(&permit, id).await }).await?;
    revoked.map_err(|error| Problem::internal(&error))?.map(Json).ok_or_else(|| no_agent(id))
}

/// What every agent is told: interval and collectors.
#[utoipa::path(get, path = "/api/v1/agents/configuration", tag = "agents",
    responses((status = 200, body = Desired), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn configuration_fetch(State(fleet): State<Fleet>, principal: Principal) -> Result<Json<Desired>, Problem> {
    let permit = principal.permit()?;
    Ok(Json(Desired::clone(&fleet.configuration(&permit))))
}

/// Changes what every agent is told; those that are connected are told at once, the others when they
/// come. The document is whole: what it leaves out is as built.
#[utoipa::path(put, path = "/api/v1/agents/configuration", tag = "agents", request_body = Desired,
    responses((status = 200, body = Desired), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, description = "Another changed it meanwhile", body = Problem),
        (status = 422, body = Problem)))]
async fn configuration_set(
    State(fleet): State<Fleet>,
    principal: Principal,
    wanted: Result<Json<Desired>, JsonRejection>,
) -> Result<Json<Desired>, Problem> {
    let permit = principal.permit()?;
    let Json(wanted) = wanted?;
    let set = finish(async move { fleet.configuration_set(&permit, wanted).await }).await??;
    Ok(Json(Desired::clone(&set)))
}

impl From<ConfigurationError> for Problem {
    fn from(error: ConfigurationError) -> Self {
        match error {
            ConfigurationError::Invalid(ref faults) => {
                let problem = Self::invalid(error.to_string()).chinese("配置中有不正确的字段");
                faults
                    .iter()
                    .fold(problem, |problem, fault| problem.field(&fault.field, &fault.english, &fault.chinese))
            }
            ConfigurationError::Changed { made_from, newest } => Self::conflict(error.to_string())
                .chinese(format!("您的修改基于版本 {made_from}，而配置已是版本 {newest}：请重新读取后再修改")),
            ConfigurationError::NotRoot => {
                Self::forbidden(error.to_string()).chinese("此配置对所有探针生效，只有根组织可以修改")
            }
            ConfigurationError::Store(_) => Self::internal(&error),
        }
    }
}

/// What a new enrolment token may do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    /// How long it lives, up to 30 days.
    #[serde(default = "ten_minutes")]
    #[schema(default = 600, minimum = 1, maximum = 2_592_000)]
    ttl_seconds: u64,
    /// How many agents it enrols.
    #[serde(default = "once")]
    #[schema(default = 1, minimum = 1, maximum = 100_000)]
    uses: u32,
    /// Owner of what it enrols; the caller's organisation if absent.
    #[schema(value_type = Option<String>, example = "org_1")]
    organization: Option<OrganizationId>,
}

fn ten_minutes() -> u64 {
    600
}

fn once() -> u32 {
    1
}

/// An enrolment token.
#[derive(Debug, Serialize, ToSchema)]
struct TokenReport {
    /// Its id.
    #[schema(value_type = String, example = "enrolment_3")]
    id: EnrolmentTokenId,
    /// Owner of what it enrols.
    #[schema(value_type = String, example = "org_1")]
    organization: OrganizationId,
    /// When it was made (Unix time in milliseconds).
    created_ms: UnixMs,
    /// When it ends.
    expires_ms: UnixMs,
    /// Agents it may enrol in all.
    uses: u32,
    /// Agents it may still enrol.
    uses_left: u32,
    /// When it was revoked.
    revoked_ms: Option<UnixMs>,
}

impl From<EnrolmentToken> for TokenReport {
    fn from(token: EnrolmentToken) -> Self {
        Self {
            id: token.id,
            organization: token.organization,
            created_ms: token.created_ms,
            expires_ms: token.expires_ms,
            uses: token.uses,
            uses_left: token.uses_left,
            revoked_ms: token.revoked_ms,
        }
    }
}

/// A token that was just made.
#[derive(Debug, Serialize, ToSchema)]
struct TokenCreated {
    #[serde(flatten)]
    report: TokenReport,
    /// What `tongtu-agent enroll --token` takes. It is shown this once.
    token: String,
}

/// Makes an enrolment token.
#[utoipa::path(post, path = "/api/v1/agents/tokens", tag = "agents", request_body = TokenRequest,
    responses((status = 201, body = TokenCreated), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn token_create(
    State(fleet): State<Fleet>,
    principal: Principal,
    Json(request): Json<TokenRequest>,
) -> Result<(StatusCode, Json<TokenCreated>), Problem> {
    let permit = principal.permit()?;
    let ttl = Duration::from_secs(request.ttl_seconds);
    let (token, text) = fleet.token_create(&permit, ttl, request.uses, request.organization).await?;
    Ok((StatusCode::CREATED, Json(TokenCreated { report: token.into(), token: text })))
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let english = error.to_string();
        match error {
            TokenError::Ttl => Self::invalid(english)
                .chinese(format!("令牌的有效期应为一秒到 {} 天", enrolment::TTL_MAX.as_secs() / 86_400)),
            TokenError::Uses => {
                Self::invalid(english).chinese(format!("令牌可登记 1 到 {} 个探针", enrolment::USES_MAX))
            }
            TokenError::Organization(id) => Self::not_found(english).chinese(format!("没有组织 {id}，或您看不到它")),
            TokenError::Database(_) => Self::internal(&error),
        }
    }
}

/// Enrolment tokens, oldest first, used and expired ones as well, without their texts.
#[utoipa::path(get, path = "/api/v1/agents/tokens", tag = "agents",
    responses((status = 200, body = Page<TokenReport>), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn token_list(State(fleet): State<Fleet>, principal: Principal) -> Result<Json<Page<TokenReport>>, Problem> {
    let permit = principal.permit()?;
    let tokens = fleet.token_list(&permit).await.map_err(|error| Problem::internal(&error))?;
    Ok(Json(Page { items: tokens.into_iter().map(TokenReport::from).collect(), next: None }))
}

/// Takes an enrolment token back. Agents that it enrolled stay.
#[utoipa::path(delete, path = "/api/v1/agents/tokens/{id}", tag = "agents",
    params(("id" = String, Path, example = "enrolment_3")),
    responses((status = 204), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn token_revoke(
    State(fleet): State<Fleet>,
    principal: Principal,
    Path(id): Path<EnrolmentTokenId>,
) -> Result<StatusCode, Problem> {
    let permit = principal.permit()?;
    let revoked = fleet.token_revoke(&permit, id).await.map_err(|error| Problem::internal(&error))?;
    if revoked {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found(format!("there is no enrolment token {id}"))
            .chinese(format!("没有登记令牌 {id}，或您看不到它")))
    }
}
