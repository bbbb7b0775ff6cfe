//! Series as the API answers them: of a source, or of a thing that several sources measured over time.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tongtu_protocol::v1;
use utoipa::ToSchema;

use super::gaps::{Gap, GapReason};
use super::query::{ALL_POINTS, METRICS, POINTS, QueryError, evidence_stars};
use super::{Part, Points, Resolution, Series, SeriesQuery, Telemetry, json, slot};
use crate::access::Permit;
use crate::access::capability::MeasurementsRead;
use crate::platform::clock::{Clock, UnixMs};
use crate::platform::http::Problem;
use crate::platform::ids::SourceId;

/// Without a period: the last hour.
const PERIOD_MS: i64 = 3_600_000;

/// What is asked of series, beside of what.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Names, separated by commas.
    pub metric: String,
    pub resource: Option<String>,
    pub from_ms: Option<UnixMs>,
    pub to_ms: Option<UnixMs>,
    pub step_seconds: Option<i64>,
    pub points: Option<usize>,
    /// Labels, separated by commas.
    pub sum_by: Option<String>,
}

/// Of what series are asked.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of<'a> {
    /// Of a source.
    Source(&'a Permit<MeasurementsRead>, SourceId),
    /// Of what several sources measured over time, in the periods in which it was the asker's.
    Joined(&'a [Part], &'a [(UnixMs, UnixMs)]),
}

impl Of<'_> {
    async fn series(self, telemetry: &Telemetry, query: &SeriesQuery) -> Result<Option<Vec<Series>>, QueryError> {
        match self {
            Self::Source(permit, _) => telemetry.series(permit, query).await,
            Self::Joined(parts, owned) => telemetry.series_joined(parts, owned, query).await.map(Some),
        }
    }

    /// The newest source.
    fn source(self) -> SourceId {
        match self {
            Self::Source(_, source) => source,
            Self::Joined(parts, _) => parts.last().map_or(SourceId(0), |part| part.source),
        }
    }
}

/// Asks for series and answers with them, under the name and id of what they are of. `None`: it is not for who asks.
pub(crate) async fn answer(
    telemetry: &Telemetry,
    clock: &Clock,
    (name, id): (&str, String),
    of: Of<'_>,
    wanted: Wanted,
) -> Result<Option<Response>, Problem> {
    let to_ms = wanted.to_ms.unwrap_or_else(|| clock.now_ms());
    let from_ms = wanted.from_ms.unwrap_or_else(|| to_ms.saturating_sub(PERIOD_MS));
    let step_ms = match wanted.step_seconds {
        Some(seconds) => Some(seconds.saturating_mul(1_000)),
        None if wanted.points.is_some() => telemetry.drawn_from(from_ms, to_ms),
        None => None,
    };
    let names = |text: &str| text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let mut query = SeriesQuery {
        source: of.source(),
        metrics: wanted.metric.split(',').map(str::to_owned).collect(),
        resource: wanted.resource,
        from_ms,
        to_ms,
        step_ms,
        points: wanted.points,
        sum_by: wanted.sum_by.as_deref().map(names),
    };
    let mut answer = of.series(telemetry, &query).await;
    // To draw many series, wider slots do: all of them matter more than the finest step.
    while let Err(QueryError::TooManyInAll { .. }) = answer
        && wanted.points.is_some()
        && wanted.step_seconds.is_none()
        && let Some(wider) = wider(query.step_ms)
    {
        query.step_ms = Some(wider);
        answer = of.series(telemetry, &query).await;
    }
    let Some(series) = answer? else { return Ok(None) };
    let mut body = format!("{{\"{name}\":\"{id}\",\"series\":[").into_bytes();
    for (index, series) in series.into_iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let (head, points) = SeriesReport::head(series);
        json::object(&head, &points, &mut body);
    }
    body.extend_from_slice(b"]}");
    Ok(Some(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()))
}

/// What is drawn from if it would be too much otherwise.
fn wider(step_ms: Option<i64>) -> Option<i64> {
    match step_ms {
        None => Some(slot::SLOT_MS),
        Some(slot::SLOT_MS) => Some(slot::HOUR_MS),
        Some(_) => None,
    }
}

/// One series: columns of equal length. A gap is null with coverage 0.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SeriesReport {
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
    /// Begin of the first point, where each of the others begins `step_seconds` after the one before; null of frames
    /// as they came.
    first_ms: Option<UnixMs>,
    /// Begin of each point, where `first_ms` is null; else empty.
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
pub(crate) struct GapReport {
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
pub(crate) enum ResolutionName {
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
            first_ms: series.points.first_ms,
            instants_ms: Vec::new(),
            value: Vec::new(),
            min: Vec::new(),
            max: Vec::new(),
            coverage: Vec::new(),
        };
        (head, series.points)
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
