//! The API of providers and storage pools. Each handler: extract, permit, call the domain, render.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::no_host;
use crate::access::Principal;
use crate::compute::Compute;
use crate::compute::pool::PoolReport;
use crate::compute::provider::{ProviderContent, ProviderError, ProviderKind, ProviderReport};
use crate::platform::http::page::Page;
use crate::platform::http::{Problem, finish};
use crate::platform::ids::{HostId, ProviderId};

pub(super) fn router(compute: Compute) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(provider_list, provider_create))
        .routes(routes!(provider_update, provider_delete))
        .routes(routes!(host_provider_set))
        .routes(routes!(pool_list))
        .with_state(compute)
}

/// Who provides hosts and virtual machines, in order of id.
#[utoipa::path(get, path = "/api/v1/providers", tag = "providers",
    responses((status = 200, body = Page<ProviderReport>), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn provider_list(
    State(compute): State<Compute>,
    principal: Principal,
) -> Result<Json<Page<ProviderReport>>, Problem> {
    Ok(Json(Page { items: compute.providers(&principal.permit()?), next: None }))
}

/// A provider to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProviderRequest {
    /// How it is called: 1 to 100 characters, each provider otherwise.
    #[schema(example = "市政务云平台")]
    name: String,
    /// Whose platform it is.
    kind: ProviderKind,
    /// Whom to ask; may be empty.
    #[serde(default)]
    contact: String,
}

fn shown(compute: &Compute, principal: &Principal, id: ProviderId) -> Result<Json<ProviderReport>, Problem> {
    let found = compute.providers(&principal.permit()?).into_iter().find(|provider| provider.id == id);
    found.map(Json).ok_or_else(|| no_provider(&id.to_string()))
}

fn no_provider(id: &str) -> Problem {
    Problem::not_found(format!("there is no provider {id}")).chinese(format!("没有云服务商 {id}"))
}

/// Adds a provider.
#[utoipa::path(post, path = "/api/v1/providers", tag = "providers", request_body = ProviderRequest,
    responses((status = 201, body = ProviderReport), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, description = "`errors` names the fields.", body = Problem)))]
async fn provider_create(
    State(compute): State<Compute>,
    principal: Principal,
    wanted: Result<Json<ProviderRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<ProviderReport>), Problem> {
    let permit = principal.permit()?;
    let Json(ProviderRequest { name, kind, contact }) = wanted?;
    let content = ProviderContent { name, kind, contact };
    let changing = compute.clone();
    let id = finish(async move { changing.provider_put(&permit, None, content).await }).await??;
    let id = id.ok_or_else(|| no_provider(""))?;
    Ok((StatusCode::CREATED, shown(&compute, &principal, id)?))
}

/// A provider as it shall be, whole.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProviderChange {
    /// The version that was read: what another changed meanwhile is not overwritten.
    #[schema(example = 1)]
    version: u64,
    /// How it is called.
    name: String,
    /// Whose platform it is.
    kind: ProviderKind,
    /// Whom to ask; may be empty.
    #[serde(default)]
    #[schema(required)]
    contact: String,
}

/// Changes a provider.
#[utoipa::path(put, path = "/api/v1/providers/{id}", tag = "providers",
    params(("id" = String, Path, example = "provider_1")), request_body = ProviderChange,
    responses((status = 200, body = ProviderReport), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, description = "Another changed it meanwhile", body = Problem),
        (status = 422, description = "`errors` names the fields.", body = Problem)))]
async fn provider_update(
    State(compute): State<Compute>,
    principal: Principal,
    Path(id): Path<ProviderId>,
    wanted: Result<Json<ProviderChange>, JsonRejection>,
) -> Result<Json<ProviderReport>, Problem> {
    let permit = principal.permit()?;
    let Json(ProviderChange { version, name, kind, contact }) = wanted?;
    let content = ProviderContent { name, kind, contact };
    let changing = compute.clone();
    let changed = finish(async move { changing.provider_put(&permit, Some((id, version)), content).await }).await??;
    shown(&compute, &principal, changed.ok_or_else(|| no_provider(&id.to_string()))?)
}

/// Removes a provider that nothing is of.
#[utoipa::path(delete, path = "/api/v1/providers/{id}", tag = "providers",
    params(("id" = String, Path, example = "provider_1")),
    responses((status = 204), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, description = "Something is of it", body = Problem)))]
async fn provider_delete(
    State(compute): State<Compute>,
    principal: Principal,
    Path(id): Path<ProviderId>,
) -> Result<StatusCode, Problem> {
    let permit = principal.permit()?;
    let removed = finish(async move { compute.provider_delete(&permit, id).await }).await??;
    removed.map(|()| StatusCode::NO_CONTENT).ok_or_else(|| no_provider(&id.to_string()))
}

/// Who provides a host.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HostProvider {
    /// Who; null: nobody said.
    #[serde(default)]
    #[schema(required, value_type = Option<String>, example = "provider_1")]
    provider: Option<ProviderId>,
}

/// Says who provides a host, and with it the virtual machines on it that have no provider of their own.
#[utoipa::path(put, path = "/api/v1/hosts/{id}/provider", tag = "providers",
    params(("id" = String, Path, example = "host_1")), request_body = HostProvider,
    responses((status = 204), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 422, description = "`errors` names the fields.", body = Problem)))]
async fn host_provider_set(
    State(compute): State<Compute>,
    principal: Principal,
    Path(id): Path<String>,
    wanted: Result<Json<HostProvider>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let permit = principal.permit()?;
    let Json(HostProvider { provider }) = wanted?;
    let host: HostId = id.parse().map_err(|_| no_host(&id))?;
    let set = finish(async move { compute.host_provider_set(&permit, host, provider).await }).await??;
    set.map(|()| StatusCode::NO_CONTENT).ok_or_else(|| no_host(&id))
}

impl From<ProviderError> for Problem {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Invalid(faults) => faults.into(),
            ProviderError::Changed { made_from, newest } => Self::conflict(error.to_string())
                .chinese(format!("您的修改基于版本 {made_from}，而此云服务商已是版本 {newest}：请重新读取后再修改")),
            ProviderError::InUse => Self::conflict(error.to_string())
                .chinese("仍有主机、虚拟机或台账记录属于此云服务商，请先改归其他云服务商"),
            ProviderError::NotRoot => {
                Self::forbidden(error.to_string()).chinese("云服务商属于全市，只有管辖全市的人员可以修改")
            }
            ProviderError::Database(_) => Self::internal(&error),
        }
    }
}

/// Storage pools of hypervisors, in order of host and name.
#[utoipa::path(get, path = "/api/v1/pools", tag = "vms",
    responses((status = 200, body = Page<PoolReport>), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn pool_list(State(compute): State<Compute>, principal: Principal) -> Result<Json<Page<PoolReport>>, Problem> {
    Ok(Json(Page { items: compute.pools(&principal.permit()?), next: None }))
}
