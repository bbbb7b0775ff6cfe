//! The audit log: list, export, verify. For auditors.

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::access::audit::{AuditEntry, AuditFilter, AuditResult, AuditVerification};
use crate::access::capability::AuditRead;
use crate::access::{Access, Permit, Principal};
use crate::platform::http::Problem;
use crate::platform::http::page::{Limit, Page};

/// Entries that an export reads at a time.
const PORTION: u64 = 1_000;

pub(super) fn router(access: Access) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(audit_list))
        .routes(routes!(audit_export))
        .routes(routes!(audit_verification))
        .with_state(access)
}

/// Who acted, as they were called then.
#[derive(Debug, Serialize, ToSchema)]
struct AuditActor {
    /// `user`, `token`, `agent`, `system` or `nobody`.
    #[schema(example = "user")]
    kind: String,
    #[schema(example = "user_1")]
    id: Option<String>,
    name: String,
}

/// An entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
struct AuditReport {
    number: i64,
    at_ms: i64,
    actor: AuditActor,
    address: Option<String>,
    /// What was done (`user.update`), or asked and refused (`POST /api/v1/users`).
    #[schema(example = "user.update")]
    action: String,
    #[schema(example = "user_7")]
    resource: String,
    /// What was; null: nothing.
    #[schema(value_type = Option<Object>)]
    before: Value,
    /// What is; null: nothing. Of refused attempts `times`, if there were several within a second.
    #[schema(value_type = Option<Object>)]
    after: Value,
    /// `done`, `refused` or `failed`.
    #[schema(value_type = AuditResult)]
    result: String,
    reason: Option<String>,
    request_id: Option<String>,
}

impl From<AuditEntry> for AuditReport {
    fn from(entry: AuditEntry) -> Self {
        let json =
            |text: Option<String>| text.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap_or(text.into()));
        Self {
            number: entry.number,
            at_ms: entry.at_ms,
            actor: AuditActor { kind: entry.actor_kind, id: entry.actor_id, name: entry.actor_name },
            address: entry.address,
            action: entry.action,
            resource: entry.resource,
            before: json(entry.before),
            after: json(entry.after),
            result: entry.result,
            reason: entry.reason,
            request_id: entry.request_id,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// From this instant on (Unix time in milliseconds).
    from: Option<i64>,
    /// Before this instant.
    to: Option<i64>,
    /// An actor's id or name.
    #[param(example = "user_1")]
    actor: Option<String>,
    /// An action, as it is named; with a dot at its end, all that begin with it.
    #[param(example = "user.")]
    action: Option<String>,
    result: Option<AuditResult>,
    /// Only entries older than this one: the `next` of the page before.
    after: Option<i64>,
    /// Entries of one page.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// The audit log, newest entry first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(ListQuery),
    responses((status = 200, body = Page<AuditReport>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn audit_list(
    State(access): State<Access>,
    principal: Principal,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<AuditReport>>, Problem> {
    let permit = principal.permit()?;
    let ListQuery { from, to, actor, action, result, after, limit } = query;
    let filter = AuditFilter { from_ms: from, to_ms: to, actor, action, result };
    let entries = access.audit_entries(&permit, &filter, after, limit.get() as u64 + 1).await?;
    Ok(Json(Page::cut(entries, limit, |entry| entry.number).map(AuditReport::from)))
}

/// Form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ExportFormat {
    /// A table.
    Csv,
    /// A JSON object a line.
    Jsonl,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ExportQuery {
    #[param(inline)]
    format: ExportFormat,
    /// From this instant on (Unix time in milliseconds).
    from: Option<i64>,
    /// Before this instant.
    to: Option<i64>,
    /// An actor's id or name.
    #[param(example = "user_1")]
    actor: Option<String>,
    /// An action, as it is named; with a dot at its end, all that begin with it.
    #[param(example = "user.")]
    action: Option<String>,
    result: Option<AuditResult>,
}

/// The audit log as a file, newest entry first; of what the same filter lists.
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "audit", params(ExportQuery),
    responses((status = 200, description = "The file.", body = String, content_type = "text/csv"), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn audit_export(
    State(access): State<Access>,
    principal: Principal,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Problem> {
    let permit: Permit<AuditRead> = principal.permit()?;
    let ExportQuery { format, from, to, actor, action, result } = query;
    let filter = AuditFilter { from_ms: from, to_ms: to, actor, action, result };
    let head = if format == ExportFormat::Csv { csv_head() } else { String::new() };
    // (what to send first, behind which number to go on; none: it is over)
    let begin = (access, permit, filter, Some(None::<i64>), head);
    let portions = futures_util::stream::unfold(begin, move |(access, permit, filter, after, mut text)| async move {
        let after = after?;
        let entries = match access.audit_entries(&permit, &filter, after, PORTION).await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(%error, "an export of the audit log broke off");
                return Some((
                    Err(std::io::Error::other("it broke off")),
                    (access, permit, filter, None, String::new()),
                ));
            }
        };
        let next = (entries.len() as u64 == PORTION).then(|| entries.last().map(|entry| entry.number));
        for entry in entries {
            match format {
                ExportFormat::Csv => csv_line(&entry, &mut text),
                ExportFormat::Jsonl => {
                    text.push_str(&serde_json::to_string(&AuditReport::from(entry)).unwrap_or_default());
                    text.push('\n');
                }
            }
        }
        Some((Ok(text), (access, permit, filter, next, String::new())))
    });
    let (kind, name) = match format {
        ExportFormat::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"audit.csv\""),
        ExportFormat::Jsonl => ("application/jsonl; charset=utf-8", "attachment; filename=\"audit.jsonl\""),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static(name)),
    ];
    // What compresses it asks once more behind its end.
    Ok((headers, Body::from_stream(portions.fuse())).into_response())
}

/// An entry's parts by name; the instant is written for people.
fn csv_head() -> String {
    let names = AuditEntry::PARTS.map(|part| if part == "at_ms" { "at" } else { part });
    format!("{}\r\n", names.join(","))
}

fn csv_line(entry: &AuditEntry, into: &mut String) {
    let at = jiff::Timestamp::from_millisecond(entry.at_ms).map(|at| at.to_string()).unwrap_or_default();
    let number = entry.number.to_string();
    let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
    let cells = [
        number,
        at,
        entry.actor_kind.clone(),
        text(&entry.actor_id),
        entry.actor_name.clone(),
        text(&entry.address),
        entry.action.clone(),
        entry.resource.clone(),
        text(&entry.before),
        text(&entry.after),
        entry.result.clone(),
        text(&entry.reason),
        text(&entry.request_id),
    ];
    let cells: Vec<String> = cells.iter().map(|cell| csv_cell(cell)).collect();
    into.push_str(&cells.join(","));
    into.push_str("\r\n");
}

/// In quotes; what a spreadsheet would take for a formula is text.
fn csv_cell(cell: &str) -> String {
    let formula = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{formula}{}\"", cell.replace('"', "\"\""))
}

/// Whether the audit log is as it was written; what was done to it if not.
#[utoipa::path(get, path = "/api/v1/audit/verification", tag = "audit",
    responses((status = 200, body = AuditVerification), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn audit_verification(
    State(access): State<Access>,
    principal: Principal,
) -> Result<Json<AuditVerification>, Problem> {
    let permit = principal.permit()?;
    access.audit_verification(&permit).await.map(Json).map_err(|error| Problem::internal(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_text_for_every_spreadsheet() {
        assert_eq!(csv_cell("a \"b\", c\nd"), "\"a \"\"b\"\", c\nd\"");
        assert_eq!(csv_cell("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
    }
}
