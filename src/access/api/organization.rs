//! Organisations: list, add, change.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::finish;
use crate::access::{Access, AdministrativeLevel, Organization, OrganizationChange, Principal};
use crate::platform::http::Problem;
use crate::platform::http::page::{Limit, Page};
use crate::platform::ids::OrganizationId;

pub(super) fn router(access: Access) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(organization_list, organization_create))
        .routes(routes!(organization_fetch, organization_update))
        .with_state(access)
}

/// An organisation.
#[derive(Debug, Serialize, ToSchema)]
struct OrganizationReport {
    #[schema(example = "org_2")]
    id: String,
    #[schema(example = "市卫生健康委员会")]
    name: String,
    level: AdministrativeLevel,
    /// Under which it is; null: it is the root.
    #[schema(example = "org_1")]
    parent: Option<String>,
    created_ms: i64,
}

impl From<Organization> for OrganizationReport {
    fn from(organization: Organization) -> Self {
        Self {
            id: organization.id.to_string(),
            name: organization.name,
            level: organization.level,
            parent: organization.parent.map(|parent| parent.to_string()),
            created_ms: organization.created_ms,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only organisations behind this one: the `next` of the page before.
    #[param(value_type = Option<String>, example = "org_7")]
    after: Option<OrganizationId>,
    /// Organisations of one page.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// Organisations, in order of id.
#[utoipa::path(get, path = "/api/v1/organizations", tag = "access", params(ListQuery),
    responses((status = 200, body = Page<OrganizationReport>), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn organization_list(
    State(access): State<Access>,
    principal: Principal,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<OrganizationReport>>, Problem> {
    let permit = principal.permit()?;
    let all = access.organizations(&permit).into_iter();
    let behind = all.filter(|organization| query.after.is_none_or(|after| organization.id > after));
    Ok(Json(Page::cut(behind, query.limit, |organization| organization.id).map(OrganizationReport::from)))
}

fn no_organization(id: OrganizationId) -> Problem {
    Problem::not_found(format!("there is no organisation {id}")).chinese(format!("没有组织 {id}"))
}

/// One organisation.
#[utoipa::path(get, path = "/api/v1/organizations/{id}", tag = "access",
    params(("id" = String, Path, example = "org_2")),
    responses((status = 200, body = OrganizationReport), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn organization_fetch(
    State(access): State<Access>,
    principal: Principal,
    Path(id): Path<OrganizationId>,
) -> Result<Json<OrganizationReport>, Problem> {
    let permit = principal.permit()?;
    access.organization(&permit, id).map(|it| Json(it.into())).ok_or_else(|| no_organization(id))
}

/// An organisation to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OrganizationRequest {
    #[schema(example = "市卫生健康委员会")]
    name: String,
    /// Not above its parent's.
    level: AdministrativeLevel,
    #[schema(value_type = String, example = "org_1")]
    parent: OrganizationId,
}

/// Adds an organisation.
#[utoipa::path(post, path = "/api/v1/organizations", tag = "access", request_body = OrganizationRequest,
    responses((status = 201, body = OrganizationReport), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, description = "`errors` names the fields.", body = Problem)))]
async fn organization_create(
    State(access): State<Access>,
    principal: Principal,
    Json(request): Json<OrganizationRequest>,
) -> Result<(StatusCode, Json<OrganizationReport>), Problem> {
    let permit = principal.permit()?;
    let OrganizationRequest { name, level, parent } = request;
    let made = finish(async move { access.organization_create(&permit, name, level, parent).await }).await??;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// What of an organisation changes; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OrganizationPatch {
    name: Option<String>,
    level: Option<AdministrativeLevel>,
    /// Under which it moves, with everything below it. Not under itself.
    #[schema(value_type = Option<String>, example = "org_1")]
    parent: Option<OrganizationId>,
}

/// Changes an organisation.
///
/// One that moves takes what is below it along, and is seen, its past as well, by whom it moved under. None is ever
/// deleted: what it owned stays known.
#[utoipa::path(patch, path = "/api/v1/organizations/{id}", tag = "access",
    params(("id" = String, Path, example = "org_2")), request_body = OrganizationPatch,
    responses((status = 200, body = OrganizationReport), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 422, description = "`errors` names the fields.", body = Problem)))]
async fn organization_update(
    State(access): State<Access>,
    principal: Principal,
    Path(id): Path<OrganizationId>,
    Json(patch): Json<OrganizationPatch>,
) -> Result<Json<OrganizationReport>, Problem> {
    let permit = principal.permit()?;
    let OrganizationPatch { name, level, parent } = patch;
    let change = OrganizationChange { name, level, parent };
    let changed = finish(async move { access.organization_update(&permit, id, change).await }).await??;
    changed.map(|it| Json(it.into())).ok_or_else(|| no_organization(id))
}
