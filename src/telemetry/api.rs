//! The HTTP API of measurements: series, the last frame of a source as Prometheus reads it, and
//! the targets that Prometheus finds. Each handler: extract, permit, call the domain, render.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tongtu_protocol::v1;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::gaps::{Gap, GapReason};
use super::query::{ALL_POINTS, METRICS, POINTS, QueryError, evidence_stars};
use super::{Points, Resolution, Series, SeriesQuery, SourceInfo, Telemetry, exposition, json, slot};
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

/// Without a period: the last hour.
const PERIOD_MS: i64 = 3_600_000;

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

/// One series: columns of equal length. A gap is null with coverage 0.
#[derive(Debug, Serialize, ToSchema)]
struct SeriesReport {
    /// Name of the metric.
    metric: String,
    /// What is measured inside the source.
    resource: String,
    /// The metric's labels.
    labels: BTreeMap<String, String>,
    /// Unit of the values: the metric's, of a rate a second.
    #[schema(example = "By/s")]
    unit: String,
    /// `counter`, `gauge` or `untyped`.
    #[schema(example = "counter")]
    kind: &'static str,
    /// What the points were made from.
    resolution: ResolutionName,
    /// How a value is defined.
    definition: &'static str,
    /// Width of a point; of single frames the time between two measurements.
    step_seconds: f64,
    /// Covered ÷ expected time of the whole period.
    coverage_percent: f64,
    /// Grade of the evidence, 1 to 5.
    evidence_stars: u8,
    /// Counter resets in the period; what lies across one is not covered.
    resets: u64,
    /// Intervals left out because their rate was above the interface's speed.
    dropped: u64,
    /// Of how many series it is the sum; 1: it is one itself.
    parts: usize,
    /// Where nothing is known, and why. Of slots and hours they begin and end with a point.
    gaps: Vec<GapReport>,
    /// Begin of each point.
    instants_ms: Vec<UnixMs>,
    /// Value, rate or mean.
    value: Vec<Option<f64>>,
    /// Smallest sample, or smallest rate of several; empty where a point is one sample or one rate, and of a sum
    /// of gauges over slots, of which it is not known.
    min: Vec<Option<f64>>,
    /// Largest sample or rate.
    max: Vec<Option<f64>>,
    /// Covered ÷ expected time of each point, 0 to 1.
    coverage: Vec<f32>,
}

/// A stretch without values, or without some of them.
#[derive(Debug, Serialize, ToSchema)]
struct GapReport {
    /// Its begin.
    from_ms: UnixMs,
    /// Its end.
    to_ms: UnixMs,
    /// `not_owned` (it was another's then), `expired` (older than what is kept), `before_first` (not known to
    /// control yet), `lost_spool_size`, `lost_spool_age`, `lost_disk_full`, `lost_corrupt`, `lost` (by the agent's
    /// spool), `unreadable` (stored, and cannot be read), `refused` (by control), `rebooted`, `reset` (the counter went back), `above_speed` (faster than the
    /// interface), `not_measured` (frames came without it), `not_delivered` (the agent still has it), `not_reporting`
    /// (the agent made no records), `unknown`.
    #[schema(example = "lost_spool_age")]
    reason: &'static str,
    /// Of what was refused: why, as in the metric `tongtu_records_refused_total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'static str>,
}

impl From<Gap> for GapReport {
    fn from(Gap { from_ms, to_ms, reason }: Gap) -> Self {
        let refusal = match reason {
            GapReason::Refused(refusal) => Some(super::instruments::reason(refusal)),
            _ => None,
        };
        Self { from_ms, to_ms, reason: reason.name(), refusal }
    }
}

/// What points were made from.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ResolutionName {
    /// Frames as they came.
    Raw,
    /// Slots of five minutes.
    Slot,
    /// Hours.
    Hour,
}

impl SeriesReport {
    /// Without its points.
    fn head(series: Series) -> (Self, Points) {
        let column = series.column;
        let kind = match column.kind() {
            v1::Kind::Counter => "counter",
            v1::Kind::Gauge => "gauge",
            v1::Kind::Untyped | v1::Kind::Unspecified => "untyped",
        };
        let resolution = match series.resolution {
            Resolution::Raw => ResolutionName::Raw,
            Resolution::Slot => ResolutionName::Slot,
            Resolution::Hour => ResolutionName::Hour,
        };
        let definition = match (resolution, series.rate, series.points.min.is_empty()) {
            (ResolutionName::Raw, true, _) => "counter delta ÷ seconds between two frames",
            (ResolutionName::Raw, false, true) => "the value as sampled",
            (_, true, _) => "counter delta ÷ covered seconds",
            (_, false, _) => "mean of the samples",
        };
        let unit = if series.rate { format!("{}/s", column.unit) } else { column.unit };
        let head = Self {
            metric: column.metric,
            resource: column.resource,
            labels: column.labels.into_iter().map(|label| (label.name, label.value)).collect(),
            unit,
            kind,
            resolution,
            definition,
            step_seconds: series.step_ms as f64 / 1_000.0,
            coverage_percent: series.coverage * 100.0,
            evidence_stars: evidence_stars(series.coverage),
            resets: series.resets,
            dropped: series.dropped,
            parts: series.parts,
            gaps: series.gaps.into_iter().map(GapReport::from).collect(),
            instants_ms: Vec::new(),
            value: Vec::new(),
            min: Vec::new(),
            max: Vec::new(),
            coverage: Vec::new(),
        };
        (head, series.points)
    }
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
    let to_ms = asked.to_ms.unwrap_or_else(|| api.clock.now_ms());
    let from_ms = asked.from_ms.unwrap_or_else(|| to_ms.saturating_sub(PERIOD_MS));
    let step_ms = match asked.step_seconds {
        Some(seconds) => Some(seconds.saturating_mul(1_000)),
        None if asked.points.is_some() => api.telemetry.drawn_from(from_ms, to_ms),
        None => None,
    };
    let names = |text: &str| text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let mut query = SeriesQuery {
        source,
        metrics: asked.metric.split(',').map(str::to_owned).collect(),
        resource: asked.resource,
        from_ms,
        to_ms,
        step_ms,
        points: asked.points,
        sum_by: asked.sum_by.as_deref().map(names),
    };
    let mut answer = api.telemetry.series(&permit, &query).await;
    // To draw many series, wider slots do: all of them matter more than the finest step.
    while let Err(QueryError::TooManyInAll { .. }) = answer
        && asked.points.is_some()
        && asked.step_seconds.is_none()
        && let Some(wider) = wider(query.step_ms)
    {
        query.step_ms = Some(wider);
        answer = api.telemetry.series(&permit, &query).await;
    }
    let series = match answer {
        Ok(Some(series)) => series,
        Ok(None) => return Err(no_source(&source)),
        Err(error) => return Err(error.into()),
    };
    let mut body = format!("{{\"source\":\"{source}\",\"series\":[").into_bytes();
    for (index, series) in series.into_iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let (head, points) = SeriesReport::head(series);
        json::object(&head, &points, &mut body);
    }
    body.extend_from_slice(b"]}");
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

/// What is drawn from if it would be too much otherwise.
fn wider(step_ms: Option<i64>) -> Option<i64> {
    match step_ms {
        None => Some(slot::SLOT_MS),
        Some(slot::SLOT_MS) => Some(slot::HOUR_MS),
        Some(_) => None,
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let english = error.to_string();
        let chinese = match error {
            QueryError::Store(_) => return Self::internal(&error),
            QueryError::Nothing => {
                return Self::not_found(english).chinese("此来源在这段时间内没有这样的指标或资源");
            }
            QueryError::Period => "时间范围为空：`from_ms` 必须早于 `to_ms`".to_owned(),
            QueryError::Step => "step_seconds 应为 300（五分钟）的正整数倍；不填则按原始采样给出".to_owned(),
            QueryError::TooManyPoints { points, step_seconds } => format!(
                "一条曲线会有 {points} 个点，超过上限 {POINTS}：请缩短时间范围，或把 step_seconds 设为至少 {step_seconds}"
            ),
            QueryError::TooManyInAll { points, series } => format!(
                "{series} 条曲线共会有 {points} 个点，超过上限 {ALL_POINTS}：请指定一个 `resource`、缩短时间范围或加大 step_seconds"
            ),
            QueryError::Metrics => format!("请指定 1 到 {METRICS} 个指标"),
            QueryError::Thin => format!("`points` 应为 2 到 {POINTS} 之间的数字"),
        };
        Self::bad_request(english).chinese(chinese)
    }
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
