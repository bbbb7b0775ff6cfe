//! The API of hosts. Each handler: extract, permit, call the domain, render.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::Compute;
use super::report::{HostDetail, HostSummary};
use crate::access::Principal;
use crate::platform::http::Problem;
use crate::platform::http::page::{Limit, Page};
use crate::platform::ids::HostId;

/// All operations.
pub fn router(compute: Compute) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(host_list)).routes(routes!(host_fetch)).with_state(compute)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only hosts behind this one: the `next` of the page before.
    #[param(value_type = Option<String>, example = "host_7")]
    after: Option<HostId>,
    /// Hosts of one page.
    #[serde(default)]
    #[param(value_type = Option<usize>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// Hosts in order of their ids: what they are and how they are now.
#[utoipa::path(get, path = "/api/v1/hosts", tag = "hosts", params(ListQuery),
    responses((status = 200, body = Page<HostSummary>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn host_list(
    State(compute): State<Compute>,
    principal: Principal,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let permit = principal.permit()?;
    let (hosts, next) = compute.host_page(&permit, query.after, query.limit.get());
    let mut body = Vec::with_capacity(hosts.iter().map(|host| host.len() + 1).sum::<usize>() + 64);
    body.extend_from_slice(b"{\"items\":[");
    for (index, host) in hosts.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(host);
    }
    body.extend_from_slice(b"],\"next\":");
    match next {
        Some(next) => body.extend_from_slice(format!("\"{next}\"}}").as_bytes()),
        None => body.extend_from_slice(b"null}"),
    }
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

/// One host with everything that is known of it now.
#[utoipa::path(get, path = "/api/v1/hosts/{id}", tag = "hosts",
    params(("id" = String, Path, example = "host_7")),
    responses((status = 200, body = HostDetail), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn host_fetch(
    State(compute): State<Compute>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Json<HostDetail>, Problem> {
    let permit = principal.permit()?;
    let host = id.parse().ok().and_then(|id| compute.host_fetch(&permit, id));
    host.map(Json).ok_or_else(|| Problem::not_found(format!("there is no host {id}")))
}
