//! The HTTP API of measurements: series, the last frame of a source as Prometheus reads it, and
//! the targets that Prometheus finds. Each handler: extract, permit, call the domain, render.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::report::{self, Of, SeriesReport, Wanted};
use super::{SourceInfo, Telemetry, exposition};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Principal};
use crate::fleet::Fleet;
use crate::platform::clock::{Clock, UnixMs};
use crate::platform::http::Problem;
use crate::platform::http::page::{Limit, Page};
use crate::platform::ids::{AgentId, SourceId};

mod losses;

/// What the handlers ask.
#[derive(Debug, Clone)]
struct Api {
    telemetry: Telemetry,
    fleet: Fleet,
    clock: Clock,
}

/// All operations.
pub fn router(telemetry: Telemetry, fleet: Fleet, clock: Clock) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(series))
        .routes(routes!(source_list))
        .routes(routes!(source_metrics))
        .routes(routes!(targets))
        .routes(routes!(losses::loss_list))
        .with_state(Api { telemetry, fleet, clock })
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SeriesParameters {
    /// Of which source.
    #[param(example = "source_1")]
    source: String,
    /// Name of the metric, or of several, separated by commas (at most 64).
    #[param(example = "node_load1,node_cpu_seconds_total")]
    metric: String,
    /// Only what measures this.
    resource: Option<String>,
    /// Begin of the period, inclusive (Unix time in milliseconds); an hour before its end if absent.
    from_ms: Option<UnixMs>,
    /// End of the period, exclusive; now if absent.
    to_ms: Option<UnixMs>,
    /// Width of a point, a multiple of 300. Absent: frames as they came; with `points`, what shows the
    /// period best: frames of up to 12 hours, else slots of five minutes, of years, or of very many series, hours. Points
    /// of a day and longer begin at midnight in Asia/Shanghai.
    step_seconds: Option<i64>,
    /// To draw: at most so many points a series, 2 to 20000. Where there are more, each point is the mean
    /// of several, with the smallest and largest of them in `min` and `max` and what part of its time is
    /// covered. A counter then always shows its rate.
    #[param(minimum = 2, maximum = 20_000)]
    points: Option<usize>,
    /// Adds up series of a metric that agree in these labels, separated by commas; empty: all of them. Done
    /// before points are made: a sum stands only where every part has a value.
    #[param(example = "mode")]
    sum_by: Option<String>,
}

/// Series of one source.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's shape; the answer is written series by series")]
struct SeriesAnswer {
    /// Of which source.
    #[schema(value_type = String, example = "source_1")]
    source: SourceId,
    /// One for each metric, resource and label set, in this order.
    series: Vec<SeriesReport>,
}

/// Series of a source, with what part of the time each point covers.
#[utoipa::path(get, path = "/api/v1/series", tag = "measurements", params(SeriesParameters),
    responses((status = 200, body = SeriesAnswer), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn series(
    State(api): State<Api>,
    principal: Principal,
    Query(asked): Query<SeriesParameters>,
) -> Result<Response, Problem> {
    let permit = principal.permit()?;
    let source = source_id(&asked.source)?;
    let SeriesParameters { metric, resource, from_ms, to_ms, step_seconds, points, sum_by, .. } = asked;
    let wanted = Wanted { metric, resource, from_ms, to_ms, step_seconds, points, sum_by };
    let of = Of::Source(&permit, source);
    let answer = report::answer(&api.telemetry, &api.clock, ("source", source.to_string()), of, wanted).await?;
    answer.ok_or_else(|| no_source(&source))
}

fn source_id(text: &str) -> Result<SourceId, Problem> {
    text.parse().map_err(|_| no_source(&text))
}

fn no_source(id: &dyn std::fmt::Display) -> Problem {
    Problem::not_found(format!("there is no source {id}; /api/v1/sources lists them"))
        .chinese(format!("没有来源 {id}，或您看不到它；/api/v1/sources 列出全部来源"))
}

/// What is measured as one thing.
#[derive(Debug, Serialize, ToSchema)]
struct SourceReport {
    /// Its id.
    #[schema(value_type = String, example = "source_1")]
    id: SourceId,
    /// Whose records these are.
    #[schema(value_type = String, example = "agent_1")]
    agent: AgentId,
    /// `host`, `libvirt_domain`, …
    #[schema(example = "host")]
    kind: String,
    /// Names it within its agent and kind.
    key: String,
    /// Milliseconds between two frames.
    interval_ms: u32,
    /// Since when control knows it.
    created_ms: UnixMs,
    /// Instant of its newest frame; null: none yet.
    last_instant_ms: Option<UnixMs>,
}

impl From<SourceInfo> for SourceReport {
    fn from(info: SourceInfo) -> Self {
        let SourceInfo { id, agent, kind, key, interval_ms, created_ms, last_instant_ms } = info;
        Self { id, agent, kind, key, interval_ms, created_ms, last_instant_ms }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SourceListQuery {
    /// Only sources behind this one: the `next` of the page before.
    #[param(value_type = Option<String>, example = "source_7")]
    after: Option<SourceId>,
    /// Sources of one page.
    #[serde(default)]
    #[param(value_type = Option<usize>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// Sources in order of their ids: what is measured, and when a frame last came.
#[utoipa::path(get, path = "/api/v1/sources", tag = "measurements", params(SourceListQuery),
    responses((status = 200, body = Page<SourceReport>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn source_list(
    State(api): State<Api>,
    principal: Principal,
    Query(query): Query<SourceListQuery>,
) -> Result<Json<Page<SourceReport>>, Problem> {
    let permit = principal.permit()?;
    let sources = api.telemetry.sources(&permit).into_iter();
    let behind = sources.filter(|source| query.after.is_none_or(|after| source.id > after));
    Ok(Json(Page::cut(behind, query.limit, |last| last.id).map(SourceReport::from)))
}

/// The last frame of a source, in Prometheus' text format. A stale source has no values.
#[utoipa::path(get, path = "/metrics/sources/{id}", tag = "measurements",
    params(("id" = String, Path, example = "source_1")),
    responses((status = 200, body = String, content_type = "text/plain"), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn source_metrics(
    State(api): State<Api>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let permit = principal.permit()?;
    let source = source_id(&id)?;
    if api.telemetry.source(&permit, source).is_none() {
        return Err(no_source(&source));
    }
    let mut text = String::new();
    match api.telemetry.live(&permit, source) {
        Some(frame) if !frame.is_stale(api.clock.now_ms()) => exposition::encode(&frame, &mut text),
        Some(_) => text.push_str("# stale: no frame came lately\n"),
        None => text.push_str("# no frame has come yet\n"),
    }
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(exposition::CONTENT_TYPE))], text).into_response())
}

/// Targets with the same labels.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct TargetGroup {
    /// Addresses: this service.
    #[schema(example = json!(["127.0.0.1:6480"]))]
    targets: Vec<String>,
    /// Labels of the target.
    labels: BTreeMap<&'static str, String>,
}

/// What Prometheus should scrape: a target for each source that reports (HTTP service discovery).
///
/// A source's values are at this service's own address, so the answer names the address that the
/// question was sent to.
#[utoipa::path(get, path = "/api/v1/prometheus/targets", tag = "measurements",
    responses((status = 200, body = Vec<TargetGroup>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn targets(
    State(api): State<Api>,
    principal: Principal,
    headers: HeaderMap,
) -> Result<Json<Vec<TargetGroup>>, Problem> {
    let permit = principal.permit()?;
    let address = headers.get(header::HOST).and_then(|host| host.to_str().ok()).filter(|host| is_address(host));
    let address = address.ok_or_else(|| {
        Problem::bad_request("the Host header must be HOST or HOST:PORT").chinese("Host 标头应为“主机”或“主机:端口”")
    })?;
    let now_ms = api.clock.now_ms();
    let reporting = api.telemetry.sources(&permit).into_iter().filter(|source| {
        let view = api.telemetry.source(&permit, source.id);
        view.and_then(|view| view.glance(|glance| !glance.is_stale(now_ms))).unwrap_or(false)
    });
    Ok(Json(reporting.map(|source| target(&api, &permit, address, &source)).collect()))
}

fn target(api: &Api, permit: &Permit<MeasurementsRead>, address: &str, source: &SourceInfo) -> TargetGroup {
    let agent = api.fleet.agent_shown(permit, source.agent);
    // A host is known by its name; what it hosts by its own key.
    let instance = match (&agent, source.kind.as_str()) {
        (Some(agent), "host") if !agent.hostname.is_empty() => agent.hostname.clone(),
        _ => source.key.clone(),
    };
    let mut labels = BTreeMap::from([
        ("__metrics_path__", format!("/metrics/sources/{}", source.id)),
        ("__meta_tongtu_kind", source.kind.clone()),
        ("__meta_tongtu_key", source.key.clone()),
        ("instance", instance),
        ("tongtu_agent", source.agent.to_string()),
        ("tongtu_source", source.id.to_string()),
    ]);
    if let Some(agent) = agent {
        labels.insert("organization", agent.organization.to_string());
        labels.insert("__meta_tongtu_hostname", agent.hostname);
    }
    TargetGroup { targets: vec![address.to_owned()], labels }
}

/// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`, and nothing that could be more than an address.
fn is_address(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            (1..=253).contains(&host.len())
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
        }
    };
    is_host && port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, good) in [
            ("127.0.0.1:6480", true),
            ("control.example.gov.cn", true),
            ("[::1]:6480", true),
            ("[::1]", true),
            ("a_b-c:1", true),
            ("", false),
            (":80", false),
            ("a:99999", false),
            ("a:+1", false),
            ("a:", false),
            ("a b:80", false),
            ("a/b:80", false),
            ("user@a:80", false),
            ("[::1:80", false),
            ("::1", false),
        ] {
            assert_eq!(is_address(text), good, "{text:?}");
        }
    }
}
