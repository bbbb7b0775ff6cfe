//! What will never come of an agent's records, and why.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use tongtu_protocol::v1::LossReason;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use crate::access::Principal;
use crate::platform::clock::UnixMs;
use crate::platform::http::Problem;
use crate::platform::http::page::{Limit, Page};
use crate::platform::ids::AgentId;
use crate::telemetry::gaps::GapReason;
use crate::telemetry::queue::LossRow;
use crate::telemetry::{absent, instruments};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LossListQuery {
    /// Only ranges behind this one: the `next` of the page before.
    #[param(value_type = Option<String>, example = "00f3a1b2c3d4e5f6-41")]
    after: Option<String>,
    /// Ranges of one page.
    #[serde(default)]
    #[param(value_type = Option<usize>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// Records that will never come.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LossReport {
    /// The spool that they were in, in hexadecimal digits.
    #[schema(example = "00f3a1b2c3d4e5f6")]
    epoch: String,
    /// The first one's number.
    first: u64,
    /// The last one's number.
    last: u64,
    /// How many.
    records: u64,
    /// They were measured after this instant; null: not known.
    from_ms: Option<UnixMs>,
    /// They were measured before this instant; null: not known.
    to_ms: Option<UnixMs>,
    /// When control heard of it.
    heard_ms: UnixMs,
    /// As of a gap of a series: `lost_spool_size`, `lost_spool_age`, `lost_disk_full`, `lost_corrupt`, `lost`,
    /// `refused`.
    #[schema(example = "lost_spool_age")]
    reason: &'static str,
    /// Of what was refused: why, as in the metric `tongtu_records_refused_total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'static str>,
}

impl From<LossRow> for LossReport {
    fn from(row: LossRow) -> Self {
        let refusal = absent::refusal(row.reason);
        let reason = match refusal {
            Some(refusal) => GapReason::Refused(refusal),
            None => GapReason::Lost(LossReason::try_from(row.reason).unwrap_or_default()),
        };
        Self {
            epoch: format!("{:016x}", row.epoch),
            first: row.first,
            last: row.last,
            records: (row.last - row.first).saturating_add(1),
            from_ms: row.from_ms,
            to_ms: row.to_ms,
            heard_ms: row.arrival_ms,
            reason: reason.name(),
            refusal: refusal.map(instruments::reason),
        }
    }
}

/// What will never come of an agent's records, by spool and number: lost by the agent, or refused.
#[utoipa::path(get, path = "/api/v1/agents/{id}/losses", tag = "agents",
    params(("id" = String, Path, example = "agent_7"), LossListQuery),
    responses((status = 200, body = Page<LossReport>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn loss_list(
    State(api): State<Api>,
    principal: Principal,
    Path(id): Path<AgentId>,
    Query(query): Query<LossListQuery>,
) -> Result<Json<Page<LossReport>>, Problem> {
    let permit = principal.permit()?;
    if api.fleet.agent_fetch(&permit, id).is_none() {
        let unknown = Problem::not_found(format!("there is no agent {id}"));
        return Err(unknown.chinese(format!("没有探针 {id}，或您看不到它")));
    }
    let after = query.after.as_deref().map(cursor).transpose()?;
    // One more than the page says whether another follows.
    let rows = api.telemetry.losses(id, after, query.limit.get() + 1).await;
    let rows = rows.map_err(|error| Problem::internal(&error))?;
    let reports = rows.into_iter().map(LossReport::from);
    Ok(Json(Page::cut(reports, query.limit, |last| format!("{}-{}", last.epoch, last.first))))
}

/// Epoch and number of the last range of a page.
fn cursor(text: &str) -> Result<(u64, u64), Problem> {
    let parts = text.split_once('-').and_then(|(epoch, first)| {
        let epoch = u64::from_str_radix(epoch, 16).ok()?;
        Some((epoch, first.parse().ok()?))
    });
    parts.ok_or_else(|| {
        Problem::bad_request(format!("`after` must be the `next` of a page before, not {text:?}"))
            .chinese(format!("`after` 应为上一页返回的 `next`，而不是 {text:?}"))
    })
}
