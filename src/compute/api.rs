//! The API of hosts. Each handler: extract, permit, call the domain, render.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::Compute;
use super::host_list::Wanted;
use super::list::{AnyOf, Cursor, Cut, OtherOrder, Sort};
use super::live::Topics;
use super::overview::Overview;
use super::report::{HostDetail, HostState, HostSummary};
use crate::access::Principal;
use crate::access::capability::AgentsRead;
use crate::platform::clock::UnixMs;
use crate::platform::http::Problem;
use crate::platform::http::page::{Limit, Page};
use crate::platform::ids::HostId;
use crate::telemetry::report::{self, Of, SeriesReport};

mod capacity;
mod cloud;

/// All operations.
pub fn router(compute: Compute) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(host_list))
        .routes(routes!(host_fetch))
        .routes(routes!(host_series))
        .routes(routes!(overview))
        .routes(routes!(live))
        .with_state(compute.clone())
        .merge(super::vm::api::router(compute.clone()))
        .merge(cloud::router(compute.clone()))
        .merge(capacity::router(compute.clone()))
        .merge(super::ledger::api::router(compute))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only hosts with this in their name, machine id or operating system, or with this id or agent.
    search: Option<String>,
    /// Only hosts in these states, separated by commas.
    #[param(value_type = Option<String>, example = "stale,never_seen")]
    state: Option<AnyOf<HostState>>,
    /// By what they are sorted, `id` if absent; with `-` before it the largest first. What is not known
    /// stands last. One of id, name, state, last_report_ms, uptime_seconds, cpu_count, cpu_usage_percent,
    /// load_1m, memory_total_bytes, memory_used_percent, network_receive_bytes_per_second,
    /// network_transmit_bytes_per_second, filesystem_size_bytes, filesystem_fullest_percent.
    #[serde(default)]
    #[param(value_type = Option<String>, example = "-cpu_usage_percent")]
    sort: Sort<HostSummary>,
    /// Only hosts behind this: the `next` of the page before, of the same sort.
    #[param(value_type = Option<String>, example = "host_7")]
    after: Option<Cursor<HostSummary>>,
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
    let wanted = Wanted { search, states, cut: Cut { sort, after, limit: limit.get() } };
    Ok(json(compute.host_page(&permit, &wanted)?))
}

/// What is JSON already.
pub(super) fn json(page: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], page).into_response()
}

impl From<OtherOrder> for Problem {
    fn from(other: OtherOrder) -> Self {
        Self::bad_request(other.to_string()).chinese("`after` 属于另一种排序的列表，请去掉它从头开始")
    }
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
    host.map(Json).ok_or_else(|| no_host(&id))
}

/// What is asked of the series of one thing.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ThingSeriesParameters {
    /// Name of the metric, or of several, separated by commas (at most 64).
    metric: String,
    /// Only what measures this.
    resource: Option<String>,
    /// As of `/api/v1/series`.
    from_ms: Option<UnixMs>,
    /// As of `/api/v1/series`.
    to_ms: Option<UnixMs>,
    /// As of `/api/v1/series`.
    step_seconds: Option<i64>,
    /// As of `/api/v1/series`.
    #[param(minimum = 2, maximum = 20_000)]
    points: Option<usize>,
    /// As of `/api/v1/series`.
    sum_by: Option<String>,
}

impl From<ThingSeriesParameters> for report::Wanted {
    fn from(asked: ThingSeriesParameters) -> Self {
        let ThingSeriesParameters { metric, resource, from_ms, to_ms, step_seconds, points, sum_by } = asked;
        Self { metric, resource, from_ms, to_ms, step_seconds, points, sum_by }
    }
}

/// Series of one host.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's shape; the answer is written series by series")]
struct HostSeriesAnswer {
    /// Of which host.
    #[schema(value_type = String, example = "host_7")]
    host: HostId,
    /// One for each metric, resource and label set, in this order.
    series: Vec<SeriesReport>,
}

/// Series of a host, of the source that its figures come from.
#[utoipa::path(get, path = "/api/v1/hosts/{id}/series", tag = "hosts",
    params(("id" = String, Path, example = "host_7"), ThingSeriesParameters),
    responses((status = 200, body = HostSeriesAnswer), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn host_series(
    State(compute): State<Compute>,
    principal: Principal,
    Path(id): Path<String>,
    Query(asked): Query<ThingSeriesParameters>,
) -> Result<Response, Problem> {
    let permit = principal.permit()?;
    let host = id.parse().ok().and_then(|id| compute.host(&permit, id)).ok_or_else(|| no_host(&id))?;
    let no_source = || {
        Problem::not_found(format!("nothing measures {id} by an agent of its own"))
            .chinese(format!("主机 {id} 没有自己的探针，因此没有测量数据"))
    };
    let of = Of::Source(&permit, compute.source_of(&permit, &host).ok_or_else(no_source)?);
    let (telemetry, clock) = (&compute.0.telemetry, &compute.0.clock);
    let answer = report::answer(telemetry, clock, ("host", host.row.id.to_string()), of, asked.into());
    answer.await?.ok_or_else(no_source)
}

pub(super) fn no_host(id: &str) -> Problem {
    Problem::not_found(format!("there is no host {id}")).chinese(format!("没有主机 {id}，或您看不到它"))
}

/// Everything at a glance: hosts, virtual machines and agents by state, sums, the busiest hosts. At most two seconds old.
#[utoipa::path(get, path = "/api/v1/overview", tag = "hosts",
    responses((status = 200, body = Overview), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn overview(State(compute): State<Compute>, principal: Principal) -> Result<Response, Problem> {
    let overview = compute.overview(&principal.permit()?, principal.permit().ok().as_ref());
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], overview.as_bytes().to_vec()).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LiveQuery {
    /// What to tell of, separated by commas: `overview`, `hosts`, `agents`.
    #[param(example = "overview,hosts")]
    topics: String,
}

/// What changes, as server-sent events, until the caller is no longer let in or control stops.
///
/// `overview`: an overview, every six seconds. `hosts`: `{"total","columns","rows"}`, the hosts that changed, every two
/// seconds, figures with seven digits. `agents`: the same of agents whose state or connection changed.
/// `reset`: this reader was too slow. `alive`: nothing else was to be told; some event comes every 14 seconds.
/// After `reset`, after a stream was opened, and when a `total` is another than one knows, ask for the lists.
#[utoipa::path(get, path = "/api/v1/live", tag = "hosts", params(LiveQuery),
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 429, description = "This session or token has 20 open.", body = Problem), (status = 503, body = Problem)))]
async fn live(
    State(compute): State<Compute>,
    principal: Principal,
    Query(query): Query<LiveQuery>,
) -> Result<Response, Problem> {
    let permit = principal.permit()?;
    let mut topics = Topics::default();
    for topic in query.topics.split(',') {
        match topic {
            "overview" => topics.overview = true,
            "hosts" => topics.hosts = true,
            "agents" => topics.agents = true,
            _ => {
                return Err(Problem::bad_request("`topics` must be one or more of overview, hosts, agents")
                    .chinese("`topics` 应为 overview、hosts、agents 中的一个或几个"));
            }
        }
    }
    let agents = principal.permit::<AgentsRead>();
    if topics.agents
        && let Err(denied) = agents
    {
        return Err(denied.into());
    }
    let events = compute.listen(&principal, permit, agents.ok(), topics)?;
    let kind = HeaderValue::from_static("text/event-stream");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(events.fuse())).into_response())
}
