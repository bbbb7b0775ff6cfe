//! The API of the ledger. Each handler: extract, permit, call the domain, render.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::compare::Standing;
use super::import::{ImportError, Permits};
use super::job::{ImportState, ImportWanted, Job};
use super::plan::{ImportCounts, LineChange};
use super::{Imported, Reconciled, ReconciledWanted, StandingCounts, chosen, workbook};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Principal, ROOT};
use crate::compute::Compute;
use crate::compute::api::json;
use crate::compute::list::{AnyOf, Cursor, Cut, OtherOrder, Sort};
use crate::platform::background;
use crate::platform::clock::UnixMs;
use crate::platform::http::page::{Limit, Page};
use crate::platform::http::{Language, Problem};
use crate::platform::ids::{LedgerImportId, OrganizationId};

/// Largest table.
const MOST_BYTES: usize = 20 << 20;
/// Rows that were not taken, of those that are told at once.
const MOST_FAILURES: usize = 100;
/// Characters of a table's name.
const MOST_OF_NAME: usize = 100;
const WORKBOOK: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

pub(in crate::compute) fn router(compute: Compute) -> OpenApiRouter {
    let import = OpenApiRouter::new().routes(routes!(ledger_import_begin)).layer(DefaultBodyLimit::max(MOST_BYTES));
    OpenApiRouter::new()
        .routes(routes!(ledger_list))
        .routes(routes!(ledger_template))
        .merge(import)
        .routes(routes!(ledger_import_fetch))
        .routes(routes!(ledger_import_change_list))
        .routes(routes!(ledger_import_failed))
        .with_state(compute)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LedgerQuery {
    /// Only those with this in a name, UUID, application, host's name, contact or note, or with this id.
    search: Option<String>,
    /// Only those of this organisation: by the ledger, else as measured.
    #[param(value_type = Option<String>, example = "org_2")]
    organization: Option<OrganizationId>,
    /// Only those of these standings, separated by commas.
    #[param(value_type = Option<String>, example = "conflicting,only_ledger")]
    standing: Option<AnyOf<Standing>>,
    /// By what they are sorted, `id` if absent; with `-` before it the largest first. One of id, standing, name,
    /// organization, differences.
    #[serde(default)]
    #[param(value_type = Option<String>, example = "standing")]
    sort: Sort<Reconciled>,
    /// Only those behind this: the `next` of the page before, of the same sort.
    #[param(value_type = Option<String>, example = "entry_7")]
    after: Option<Cursor<Reconciled>>,
    /// How many on one page.
    #[serde(default)]
    #[param(value_type = Option<usize>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// The ledger beside what is measured.
#[derive(Debug, Serialize, ToSchema)]
struct LedgerReport {
    /// The import that changed the ledger last; null: nothing was imported, or the asker reaches a part of the city.
    imported: Option<Imported>,
    /// How many there are of each standing, whatever is filtered.
    counts: StandingCounts,
    /// What is on this page.
    items: Vec<Reconciled>,
    /// What `after` must be for the next page; null: this is the last one.
    next: Option<String>,
}

/// The ledger beside what is measured: in both, in one alone, or with fields that differ.
///
/// A line and a virtual machine are the same by UUID, else by a name that is clear. Who reaches a part of the city is
/// shown that part alone: what is in another one is not compared.
#[utoipa::path(get, path = "/api/v1/ledger", tag = "ledger", params(LedgerQuery),
    responses((status = 200, body = LedgerReport), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn ledger_list(
    State(compute): State<Compute>,
    principal: Principal,
    Query(query): Query<LedgerQuery>,
) -> Result<Response, Problem> {
    let permit = principal.permit()?;
    let LedgerQuery { search, organization, standing, sort, after, limit } = query;
    let cut = Cut { sort, after, limit: limit.get() };
    let wanted = ReconciledWanted { search, organization, standings: standing, cut };
    // Of ten thousand lines it is tens of milliseconds of computing.
    let made = tokio::task::spawn_blocking(move || -> Result<Vec<u8>, OtherOrder> {
        let all = compute.reconciled(&permit);
        let counts = StandingCounts::of(&all);
        let (places, next) = chosen(&all, &wanted)?;
        let mut all: Vec<_> = all.into_iter().map(Some).collect();
        let items = places.into_iter().filter_map(|place| all[place].take()).collect();
        let imported = compute.index().ledger.imported.clone().filter(|_| permit.organization() == ROOT);
        let report = LedgerReport { imported, counts, items, next: next.map(|next| next.to_string()) };
        Ok(serde_json::to_vec(&report).expect("texts and numbers are JSON"))
    });
    Ok(json(made.await.map_err(|panic| Problem::internal(&panic))??))
}

fn attached(name: &'static str, workbook: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(WORKBOOK)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static(name)),
    ];
    (headers, workbook).into_response()
}

/// An empty ledger to be filled in: a workbook with the headers, and a sheet that explains them.
#[utoipa::path(get, path = "/api/v1/ledger/template", tag = "ledger",
    responses((status = 200, description = "The workbook.", body = FileBytes, content_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn ledger_template(principal: Principal) -> Result<Response, Problem> {
    let _: Permit<MeasurementsRead> = principal.permit()?;
    let made = workbook::template().map_err(|error| Problem::internal(&error))?;
    Ok(attached(
        "attachment; filename=\"ledger.xlsx\"; filename*=UTF-8''%E8%99%9A%E6%8B%9F%E6%9C%BA%E5%8F%B0%E8%B4%A6.xlsx",
        made,
    ))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ImportQuery {
    /// Nothing is written: what would be is told.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    dry_run: bool,
    /// The table is the whole ledger: what stands in no row of it is removed. Then every row must be right.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    replace: bool,
    /// The table's name, to be shown.
    #[serde(default)]
    #[param(value_type = Option<String>, example = "台账.xlsx")]
    file: String,
}

/// An import.
#[derive(Debug, Serialize, ToSchema)]
struct ImportReport {
    /// Its id. It is remembered until a few others went on, or control ends.
    #[schema(value_type = String, example = "import_1790000100000")]
    id: LedgerImportId,
    /// The table's name.
    file: String,
    /// Nothing is written.
    dry_run: bool,
    /// The table is the whole ledger.
    replace: bool,
    /// Who began it.
    by: String,
    /// When it began (Unix time in milliseconds).
    begun_ms: UnixMs,
    /// When it was over.
    ended_ms: Option<UnixMs>,
    /// How far it is.
    state: ImportState,
    /// How much of that is done: rows that are read or checked, lines and machines that are written.
    done: usize,
    /// Of how much; null: not known yet.
    total: Option<usize>,
    /// Why nothing was written.
    reason: Option<String>,
    /// What was changed, or would be; null: it is not known yet.
    counts: Option<ImportCounts>,
    /// Columns that were left out.
    ignored: Vec<IgnoredColumn>,
    /// The first 100 rows that were not taken; the workbook has all of them.
    failures: Vec<FailedRow>,
}

/// A column that no ledger has.
#[derive(Debug, Serialize, ToSchema)]
struct IgnoredColumn {
    /// Its header.
    header: String,
    /// The column that it looks like.
    alike: Option<String>,
}

/// A row that was not taken.
#[derive(Debug, Serialize, ToSchema)]
struct FailedRow {
    /// Its number in the table.
    row: usize,
    /// Why.
    reasons: Vec<String>,
}

impl ImportReport {
    fn of(job: &Job, language: Language) -> Self {
        let (state, ended_ms, outcome) = job.state();
        let (done, total) = job.progress();
        let spoken = |english: &str, chinese: &str| match language {
            Language::Chinese => chinese.to_owned(),
            Language::English => english.to_owned(),
        };
        let failures = outcome.failed.iter().take(MOST_FAILURES).map(|failed| FailedRow {
            row: failed.row,
            reasons: failed.faults.0.iter().map(|fault| spoken(&fault.english, &fault.chinese)).collect(),
        });
        let ignored = outcome
            .ignored
            .iter()
            .map(|ignored| IgnoredColumn { header: ignored.header.clone(), alike: ignored.alike.map(str::to_owned) });
        Self {
            id: job.id,
            file: job.wanted.file.clone(),
            dry_run: job.wanted.dry_run,
            replace: job.wanted.replace,
            by: job.by.clone(),
            begun_ms: job.begun_ms,
            ended_ms,
            state,
            done,
            total,
            reason: outcome.reason.as_ref().map(|said| spoken(&said.english, &said.chinese)),
            counts: outcome.counts,
            ignored: ignored.collect(),
            failures: failures.collect(),
        }
    }
}

/// A file as it is.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "the document's shape; bytes are taken and given as they are")]
struct FileBytes(Vec<u8>);

/// Imports a table, an .xlsx workbook or a .csv text in UTF-8 or GB18030, of at most 20 MiB.
///
/// It goes on in the background, one after another. Rows that cannot be taken come back in a workbook; the others are
/// written in one transaction, and so is whose their virtual machines are, of which application, what for, until when.
#[utoipa::path(post, path = "/api/v1/ledger/imports", tag = "ledger", params(ImportQuery),
    request_body(content = FileBytes, content_type = "application/octet-stream", description = "The table."),
    responses((status = 202, body = ImportReport), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 413, description = "More than 20 MiB", body = Problem),
        (status = 429, description = "Others are waiting", body = Problem)))]
async fn ledger_import_begin(
    State(compute): State<Compute>,
    principal: Principal,
    Query(query): Query<ImportQuery>,
    table: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<ImportReport>), Problem> {
    let permits = Permits { writing: principal.permit()?, reading: principal.permit()? };
    let language = permits.writing.origin().language;
    let table = table.map_err(|refused| match refused.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let english = format!("the table is larger than {} MiB", MOST_BYTES >> 20);
            let chinese = format!("表格文件超过 {} MiB 的上限", MOST_BYTES >> 20);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", english).chinese(chinese)
        }
        _ => Problem::bad_request(refused.body_text()).chinese("未能完整收到文件，请重新上传"),
    })?;
    let ImportQuery { dry_run, replace, file } = query;
    let file = file.chars().filter(|c| !c.is_control()).take(MOST_OF_NAME).collect();
    let job = compute.import_begin(permits, ImportWanted { file, dry_run, replace }, table)?;
    Ok((StatusCode::ACCEPTED, Json(ImportReport::of(&job, language))))
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        let english = error.to_string();
        match error {
            ImportError::NotRoot => Self::forbidden(english).chinese("台账属于全市，只有管辖全市的人员可以导入"),
            ImportError::Busy => Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", english)
                .chinese("已有多个导入在等待，请稍后再试")
                .retry_after(5),
        }
    }
}

fn no_import(id: &str) -> Problem {
    let english = format!("there is no import {id}, or it was forgotten: only the last few are remembered");
    Problem::not_found(english).chinese(format!("没有导入任务 {id}：只保留最近几次的结果"))
}

fn found(compute: &Compute, permit: &Permit<MeasurementsRead>, id: &str) -> Result<std::sync::Arc<Job>, Problem> {
    let number = id.parse().map_err(|_| no_import(id));
    // Who may not see any is told that first.
    let job = compute.import_fetch(permit, number.clone().unwrap_or(LedgerImportId(0)))?;
    number.and(job.ok_or_else(|| no_import(id)))
}

/// How far an import is, or how it ended.
#[utoipa::path(get, path = "/api/v1/ledger/imports/{id}", tag = "ledger",
    params(("id" = String, Path, example = "import_1790000100000")),
    responses((status = 200, body = ImportReport), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn ledger_import_fetch(
    State(compute): State<Compute>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Json<ImportReport>, Problem> {
    let permit = principal.permit()?;
    let job = found(&compute, &permit, &id)?;
    Ok(Json(ImportReport::of(&job, permit.origin().language)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ChangeQuery {
    /// Only those behind this place: the `next` of the page before.
    after: Option<usize>,
    /// How many on one page.
    #[serde(default)]
    #[param(value_type = Option<usize>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// What an import changed, or would change: lines, and what is said of their machines.
#[utoipa::path(get, path = "/api/v1/ledger/imports/{id}/changes", tag = "ledger",
    params(("id" = String, Path, example = "import_1790000100000"), ChangeQuery),
    responses((status = 200, body = Page<LineChange>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn ledger_import_change_list(
    State(compute): State<Compute>,
    principal: Principal,
    Path(id): Path<String>,
    Query(query): Query<ChangeQuery>,
) -> Result<Json<Page<LineChange>>, Problem> {
    let (_, _, outcome) = found(&compute, &principal.permit()?, &id)?.state();
    let begin = query.after.map_or(0, |after| after.saturating_add(1));
    let behind = outcome.changes.iter().enumerate().skip(begin);
    let page = Page::cut(behind, query.limit, |(place, _)| *place);
    Ok(Json(page.map(|(_, change)| change.clone())))
}

/// The rows that were not taken, as they came, in a workbook: its column 失败原因 says why.
#[utoipa::path(get, path = "/api/v1/ledger/imports/{id}/failed", tag = "ledger",
    params(("id" = String, Path, example = "import_1790000100000")),
    responses((status = 200, description = "The workbook.", body = FileBytes, content_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn ledger_import_failed(
    State(compute): State<Compute>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (_, _, outcome) = found(&compute, &principal.permit()?, &id)?.state();
    if outcome.failed.is_empty() {
        let english = format!("no row of {id} failed");
        return Err(Problem::not_found(english).chinese(format!("导入任务 {id} 没有失败的行")));
    }
    let turn = Arc::clone(&compute.0.imports.making).lock_owned().await;
    let made = background::spawn("ledger-failed", move || {
        let _turn = turn;
        workbook::failed(&outcome.header, &outcome.failed)
    });
    let made = made.await;
    let made = made.map_err(|error| Problem::internal(&error))?.map_err(|error| Problem::internal(&error))?;
    Ok(attached("attachment; filename=\"failed.xlsx\"; filename*=UTF-8''%E5%A4%B1%E8%B4%A5%E8%A1%8C.xlsx", made))
}
