//! The API of what is set while control runs. Each handler: extract, permit, call the domain, render.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::retention::{RetentionSet, Span};
use super::schedule::Schedule;
use super::{Document, Settings, SettingsError};
use crate::access::Principal;
use crate::access::{Permit, capability::SettingsRead};
use crate::config::effective::Origin;
use crate::platform::clock::UnixMs;
use crate::platform::http::{Problem, finish};

/// All operations.
pub fn router(settings: Settings) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(retention_fetch, retention_set))
        .routes(routes!(backup_schedule_fetch, backup_schedule_set))
        .with_state(settings)
}

/// How long one thing is kept.
#[derive(Debug, Serialize, ToSchema)]
struct KeptReport {
    /// What is in force.
    ms: u64,
    /// Where that comes from.
    source: Origin,
    /// What would be in force if it were not set.
    configured_ms: u64,
    /// At least this may be set.
    least_ms: u64,
    /// At most this may be set.
    most_ms: u64,
    /// When the oldest that is kept ended (Unix time in milliseconds); null: nothing is old enough to be asked for.
    oldest_ms: Option<UnixMs>,
}

impl KeptReport {
    fn new(span: Span, oldest_ms: Option<UnixMs>) -> Self {
        let ms = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self {
            ms: ms(span.now),
            source: span.source,
            configured_ms: ms(span.configured),
            least_ms: ms(span.least),
            most_ms: ms(span.most),
            oldest_ms,
        }
    }
}

/// How long things are kept.
#[derive(Debug, Serialize, ToSchema)]
struct RetentionReport {
    /// Grows with every change; 1: it was never set.
    version: u64,
    /// When it was set (Unix time in milliseconds).
    changed_ms: Option<UnixMs>,
    /// Who set it, as they were called then.
    changed_by: Option<String>,
    /// Frames as they came.
    raw: KeptReport,
    /// 5-minute slots.
    slot: KeptReport,
    /// Hours.
    hour: KeptReport,
    /// The audit log.
    audit: KeptReport,
}

/// How long things shall be kept. The document is whole: what is null is as configured.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RetentionRequest {
    /// The version that was read: what another changed meanwhile is not overwritten.
    #[schema(example = 1)]
    version: u64,
    /// Frames as they came: at least a day.
    #[serde(default)]
    #[schema(required, example = 691_200_000)]
    raw_ms: Option<u64>,
    /// 5-minute slots: at least a week, and as long as frames.
    #[serde(default)]
    #[schema(required)]
    slot_ms: Option<u64>,
    /// Hours: at least 30 days, and as long as slots.
    #[serde(default)]
    #[schema(required)]
    hour_ms: Option<u64>,
    /// The audit log: at least 184 days.
    #[serde(default)]
    #[schema(required)]
    audit_ms: Option<u64>,
}

async fn report(settings: &Settings, permit: &Permit<SettingsRead>) -> Result<RetentionReport, Problem> {
    let [raw, slot, hour, audit] = settings.oldest(permit).await?;
    let (document, kept) = settings.retention(permit);
    let (changed_ms, changed_by) = document.changed.clone().unzip();
    Ok(RetentionReport {
        version: document.version,
        changed_ms,
        changed_by,
        raw: KeptReport::new(kept.raw, raw),
        slot: KeptReport::new(kept.slot, slot),
        hour: KeptReport::new(kept.hour, hour),
        audit: KeptReport::new(kept.audit, audit),
    })
}

/// How long things are kept, since when, and what is the oldest of each.
#[utoipa::path(get, path = "/api/v1/settings/retention", tag = "settings",
    responses((status = 200, body = RetentionReport), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn retention_fetch(
    State(settings): State<Settings>,
    principal: Principal,
) -> Result<Json<RetentionReport>, Problem> {
    Ok(Json(report(&settings, &principal.permit()?).await?))
}

/// Sets how long things are kept, from now on and after a restart. What is too old by it is deleted at once.
#[utoipa::path(put, path = "/api/v1/settings/retention", tag = "settings", request_body = RetentionRequest,
    responses((status = 200, body = RetentionReport), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, description = "Another changed it meanwhile", body = Problem),
        (status = 422, body = Problem)))]
async fn retention_set(
    State(settings): State<Settings>,
    principal: Principal,
    wanted: Result<Json<RetentionRequest>, JsonRejection>,
) -> Result<Json<RetentionReport>, Problem> {
    let permit = principal.permit()?;
    let Json(RetentionRequest { version, raw_ms, slot_ms, hour_ms, audit_ms }) = wanted?;
    let wanted = RetentionSet { raw_ms, slot_ms, hour_ms, audit_ms };
    let changing = settings.clone();
    finish(async move { changing.retention_set(&permit, version, wanted).await }).await??;
    Ok(Json(report(&settings, &principal.permit()?).await?))
}

/// When backups are made.
#[derive(Debug, Serialize, ToSchema)]
struct ScheduleReport {
    /// Grows with every change; 1: it was never set.
    version: u64,
    /// When it was set (Unix time in milliseconds).
    changed_ms: Option<UnixMs>,
    /// Who set it, as they were called then.
    changed_by: Option<String>,
    /// Between two backups; null: none is made by itself.
    every_ms: Option<u64>,
    /// Of those that were made by themselves, the newest so many stay.
    keep: u32,
}

impl From<Document<Schedule>> for ScheduleReport {
    fn from(document: Document<Schedule>) -> Self {
        let (changed_ms, changed_by) = document.changed.unzip();
        let Schedule { every_ms, keep } = document.content;
        Self { version: document.version, changed_ms, changed_by, every_ms, keep }
    }
}

/// When backups shall be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ScheduleRequest {
    /// The version that was read: what another changed meanwhile is not overwritten.
    #[schema(example = 1)]
    version: u64,
    /// Between two backups, an hour to 366 days; null: none is made by itself.
    #[serde(default)]
    #[schema(required, example = 86_400_000)]
    every_ms: Option<u64>,
    /// Of those that are made by themselves, the newest so many stay. Those that somebody asked for stay until
    /// somebody deletes them.
    #[schema(minimum = 1, maximum = 1_000, example = 7)]
    keep: u32,
}

/// When backups are made by themselves.
#[utoipa::path(get, path = "/api/v1/settings/backup", tag = "settings",
    responses((status = 200, body = ScheduleReport), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn backup_schedule_fetch(
    State(settings): State<Settings>,
    principal: Principal,
) -> Result<Json<ScheduleReport>, Problem> {
    Ok(Json(settings.schedule(&principal.permit()?).into()))
}

/// Sets when backups are made by themselves. One that is due is begun within half a minute.
#[utoipa::path(put, path = "/api/v1/settings/backup", tag = "settings", request_body = ScheduleRequest,
    responses((status = 200, body = ScheduleReport), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, description = "Another changed it meanwhile", body = Problem),
        (status = 422, body = Problem)))]
async fn backup_schedule_set(
    State(settings): State<Settings>,
    principal: Principal,
    wanted: Result<Json<ScheduleRequest>, JsonRejection>,
) -> Result<Json<ScheduleReport>, Problem> {
    let permit = principal.permit()?;
    let Json(ScheduleRequest { version, every_ms, keep }) = wanted?;
    let changing = settings.clone();
    let set = async move { changing.schedule_set(&permit, version, Schedule { every_ms, keep }).await };
    finish(set).await??;
    Ok(Json(settings.schedule(&principal.permit()?).into()))
}

impl From<SettingsError> for Problem {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Invalid(ref faults) => {
                let problem = Self::invalid(error.to_string()).chinese("有内容不符合要求");
                faults.iter().fold(problem, |problem, fault| problem.field(fault.field, &fault.english, &fault.chinese))
            }
            SettingsError::Changed { made_from, newest } => Self::conflict(error.to_string())
                .chinese(format!("您的修改基于版本 {made_from}，而设置已是版本 {newest}：请重新读取后再修改")),
            SettingsError::Database(_) | SettingsError::Unknown(_) => Self::internal(&error),
        }
    }
}
