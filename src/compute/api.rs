//! The API of hosts. Each handler: extract, permit, call the domain, render.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::Compute;
use super::list::{Cursor, Sort, States, Wanted};
use super::report::{HostDetail, HostSummary};
use crate::access::Principal;
use crate::platform::http::Problem;
use crate::platform::http::page::{Limit, Page};

/// All operations.
pub fn router(compute: Compute) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(host_list)).routes(routes!(host_fetch)).with_state(compute)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only hosts with this in their name, machine id or operating system, or with this id or agent.
    search: Option<String>,
    /// Only hosts in these states, separated by commas.
    #[param(value_type = Option<String>, example = "stale,never_seen")]
    state: Option<States>,
    /// By what they are sorted, `id` if absent; with `-` before it the largest first. What is not known
    /// stands last. One of id, name, state, last_report_ms, uptime_seconds, cpu_count, cpu_usage_percent,
    /// load_1m, memory_total_bytes, memory_used_percent, network_receive_bytes_per_second,
    /// network_transmit_bytes_per_second, filesystem_size_bytes, filesystem_fullest_percent.
    #[serde(default)]
    #[param(value_type = Option<String>, example = "-cpu_usage_percent")]
    sort: Sort,
    /// Only hosts behind this: the `next` of the page before, of the same sort.
    #[param(value_type = Option<String>, example = "host_7")]
    after: Option<Cursor>,
    /// Hosts of one page.
    #[serde(default)]
    #[param(value_type = Option<usize>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// Hosts: what they are and how they are now.
#[utoipa::path(get, path = "/api/v1/hosts", tag = "hosts", params(ListQuery),
    responses((status = 200, body = Page<HostSummary>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn host_list(
    State(compute): State<Compute>,
    principal: Principal,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let permit = principal.permit()?;
    let ListQuery { search, state: states, sort, after, limit } = query;
    let wanted = Wanted { search, states, sort, after, limit: limit.get() };
    let page = compute.host_page(&permit, &wanted).map_err(|other| Problem::bad_request(other.to_string()))?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], page).into_response())
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
