//! The API of capacity and of the utilisation review. Each handler: extract, permit, call the domain, render.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::access::Permit;
use crate::access::Principal;
use crate::access::capability::MeasurementsRead;
use crate::compute::Compute;
use crate::compute::allocation::{By, CapacityReport, RoomReport};
use crate::compute::board::Board;
use crate::compute::capacity::Size;
use crate::compute::list::{AnyOf, Cursor, Cut, Field, Listed, Sort, page, sought};
use crate::compute::review::{DEFINITIONS, Lack, Proposal, Verdict};
use crate::compute::survey::PERIODS;
use crate::compute::usage::Usage;
use crate::compute::vm::line::VmLine;
use crate::compute::vm::report::VmState;
use crate::platform::clock::UnixMs;
use crate::platform::http::Problem;
use crate::platform::http::page::Limit;
use crate::platform::ids::{HostId, OrganizationId, VmId};
use crate::telemetry::query::evidence_stars;

pub(super) fn router(compute: Compute) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(capacity))
        .routes(routes!(capacity_room))
        .routes(routes!(review))
        .with_state(compute)
}

/// Place of a period of so many days.
fn period(days: Option<u32>) -> Result<usize, Problem> {
    let days = days.unwrap_or(PERIODS[PERIODS.len() - 1]);
    PERIODS
        .iter()
        .position(|known| *known == days)
        .ok_or_else(|| Problem::bad_request("`days` must be 1, 7 or 30").chinese("`days` 应为 1、7 或 30"))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CapacityQuery {
    /// By what it is grouped.
    #[param(inline)]
    by: By,
    /// Over how many days use is told: 1, 7 or 30; 30 if absent.
    days: Option<u32>,
}

/// What hypervisors have, what of it is given, and what of that was used: by host, provider or organisation.
#[utoipa::path(get, path = "/api/v1/capacity", tag = "capacity", params(CapacityQuery),
    responses((status = 200, body = CapacityReport), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn capacity(
    State(compute): State<Compute>,
    principal: Principal,
    Query(query): Query<CapacityQuery>,
) -> Result<Json<CapacityReport>, Problem> {
    let permit = principal.permit()?;
    Ok(Json(compute.capacity(&permit, query.by, period(query.days)?)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RoomQuery {
    /// Virtual processors of a machine.
    #[param(example = 4)]
    vcpus: u32,
    /// Its memory.
    #[param(example = 8_589_934_592u64)]
    memory_bytes: u64,
    /// The size of its disks; 0 if absent.
    #[serde(default)]
    disk_bytes: u64,
    /// How many times over processors are given; 4 if absent.
    #[param(minimum = 1, maximum = 64)]
    overcommit: Option<f64>,
}

/// For how many more virtual machines of a size there is room, and how many with one host lost.
#[utoipa::path(get, path = "/api/v1/capacity/room", tag = "capacity", params(RoomQuery),
    responses((status = 200, body = RoomReport), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn capacity_room(
    State(compute): State<Compute>,
    principal: Principal,
    Query(query): Query<RoomQuery>,
) -> Result<Json<RoomReport>, Problem> {
    let permit = principal.permit()?;
    let overcommit = query.overcommit.unwrap_or(4.0);
    if query.vcpus == 0 || query.memory_bytes == 0 || !(1.0..=64.0).contains(&overcommit) {
        return Err(Problem::bad_request("`vcpus` and `memory_bytes` must be above 0, and `overcommit` from 1 to 64")
            .chinese("`vcpus` 与 `memory_bytes` 应大于 0，`overcommit` 应在 1 到 64 之间"));
    }
    let size = Size {
        cpus: f64::from(query.vcpus),
        memory_bytes: query.memory_bytes as f64,
        disk_bytes: query.disk_bytes as f64,
    };
    Ok(Json(compute.room(&permit, size, overcommit)))
}

/// Use over a period, in percent of what a machine was given.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
struct UseReport {
    /// Mean.
    mean_percent: f64,
    /// 95th percentile of 5-minute slots.
    p95_percent: f64,
    /// The largest 5-minute slot.
    peak_percent: f64,
    /// How much of the period was measured.
    coverage_percent: f64,
    /// Grade of the evidence, 1 to 5.
    evidence_stars: u8,
}

impl From<Usage> for UseReport {
    fn from(usage: Usage) -> Self {
        Self {
            mean_percent: usage.mean,
            p95_percent: usage.p95,
            peak_percent: usage.peak,
            coverage_percent: usage.coverage * 100.0,
            evidence_stars: evidence_stars(usage.coverage),
        }
    }
}

/// How a virtual machine was used.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
struct ReviewItem {
    /// Which.
    #[schema(value_type = String, example = "vm_1")]
    id: VmId,
    /// Its name.
    name: String,
    /// Whose.
    #[schema(value_type = String, example = "org_2")]
    organization: OrganizationId,
    /// Where it is.
    #[schema(value_type = Option<String>, example = "host_1")]
    host: Option<HostId>,
    /// Of which application it is a part.
    application: Option<String>,
    /// Virtual processors that it has.
    vcpus: Option<i64>,
    /// Memory that it is given.
    memory_bytes: Option<i64>,
    /// Begin of the period, or when its owner got it or it was first measured, if that was later.
    from_ms: UnixMs,
    /// End of the period.
    to_ms: UnixMs,
    /// CPU; null: not measured, or not yet surveyed since its owner got it.
    cpu: Option<UseReport>,
    /// Memory; null: as CPU, or its guest does not tell.
    memory: Option<UseReport>,
    /// What is found. Each is defined in `definitions`.
    verdicts: Vec<Verdict>,
    /// Why something is not said.
    lack: Option<Lack>,
    /// A size that would do better.
    proposal: Option<Proposal>,
}

impl Listed for ReviewItem {
    const FIELDS: &'static [Field<Self>] = &[
        Field::Number("id", |item| Some(item.id.0 as f64)),
        Field::Text("name", |item| Some(item.name.as_str())),
        Field::Number("organization", |item| Some(item.organization.0 as f64)),
        Field::Number("vcpus", |item| item.vcpus.map(|vcpus| vcpus as f64)),
        Field::Number("memory_bytes", |item| item.memory_bytes.map(|bytes| bytes as f64)),
        Field::Number("cpu_mean_percent", |item| item.cpu.as_ref().map(|cpu| cpu.mean_percent)),
        Field::Number("cpu_p95_percent", |item| item.cpu.as_ref().map(|cpu| cpu.p95_percent)),
        Field::Number("cpu_peak_percent", |item| item.cpu.as_ref().map(|cpu| cpu.peak_percent)),
        Field::Number("memory_mean_percent", |item| item.memory.as_ref().map(|memory| memory.mean_percent)),
        Field::Number("memory_p95_percent", |item| item.memory.as_ref().map(|memory| memory.p95_percent)),
    ];
    const PREFIX: &'static str = "vm";

    fn number(&self) -> i64 {
        self.id.0
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReviewQuery {
    /// Over how many days: 1, 7 or 30; 30 if absent.
    days: Option<u32>,
    /// Only those of which one of these is found, separated by commas.
    #[param(value_type = Option<String>, example = "idle,flat")]
    verdict: Option<AnyOf<Verdict>>,
    /// Only those of this organisation.
    #[param(value_type = Option<String>, example = "org_2")]
    organization: Option<OrganizationId>,
    /// Only those with this in their name or application.
    search: Option<String>,
    /// By what they are sorted, `id` if absent; with `-` before it the largest first. What is not known stands last.
    /// One of id, name, organization, vcpus, memory_bytes, cpu_mean_percent, cpu_p95_percent, cpu_peak_percent,
    /// memory_mean_percent, memory_p95_percent.
    #[serde(default)]
    #[param(value_type = Option<String>, example = "cpu_mean_percent")]
    sort: Sort<ReviewItem>,
    /// Only those behind this: the `next` of the page before, of the same sort.
    #[param(value_type = Option<String>, example = "vm_7")]
    after: Option<Cursor<ReviewItem>>,
    /// How many on one page.
    #[serde(default)]
    #[param(value_type = Option<usize>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// How virtual machines were used over a period.
#[derive(Debug, Serialize, ToSchema)]
struct ReviewReport {
    /// When use was surveyed (Unix time in milliseconds), which is done at least once an hour; null: not yet since the start.
    surveyed_ms: Option<UnixMs>,
    /// The period, in days.
    days: u32,
    /// How figures and verdicts are defined.
    definitions: BTreeMap<&'static str, &'static str>,
    /// Of all that are asked for, how many have each verdict.
    counts: BTreeMap<Verdict, usize>,
    /// The machines.
    items: Vec<ReviewItem>,
    /// What `after` must be for the next page; null: this is the last one.
    next: Option<String>,
}

/// Which virtual machines are idle, over-used, kept busy to look busy, too large or too small, and which size would do.
///
/// Those that are there no more are left out.
#[utoipa::path(get, path = "/api/v1/review", tag = "capacity", params(ReviewQuery),
    responses((status = 200, body = ReviewReport), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn review(
    State(compute): State<Compute>,
    principal: Principal,
    Query(query): Query<ReviewQuery>,
) -> Result<Json<ReviewReport>, Problem> {
    let permit: Permit<MeasurementsRead> = principal.permit()?;
    let at = period(query.days)?;
    let surveyed = compute.surveyed();
    let search = sought(query.search.as_deref());
    let found: Vec<ReviewItem> = compute.look(&permit, |board: &Board<VmLine>| {
        let Some(period) = surveyed.as_ref().map(|surveyed| &surveyed.periods[at]) else { return Vec::new() };
        let item = |row: &VmLine| {
            let vm = &row.shown;
            let used = period.vms.get(&vm.id)?.of_owner(row.vm.row.owned());
            let has = |text: &str| search.as_ref().is_none_or(|search| text.to_lowercase().contains(search));
            let is_asked = query.organization.is_none_or(|organization| vm.organization == organization)
                && (has(&vm.name) || vm.application.as_deref().is_some_and(has));
            is_asked.then(|| ReviewItem {
                id: vm.id,
                name: vm.name.clone(),
                organization: vm.organization,
                host: vm.host,
                application: vm.application.clone(),
                vcpus: vm.vcpus,
                memory_bytes: vm.memory_bytes,
                from_ms: used.from_ms.min(period.to_ms),
                to_ms: period.to_ms,
                cpu: used.cpu.map(UseReport::from),
                memory: used.memory.map(UseReport::from),
                verdicts: used.finding.verdicts.clone(),
                lack: used.finding.lack,
                proposal: used.finding.proposal,
            })
        };
        // Nobody reclaims what is there no more.
        board.rows.iter().filter(|row| row.shown.state != VmState::Gone).filter_map(item).collect()
    });
    let mut counts = BTreeMap::new();
    found.iter().flat_map(|item| &item.verdicts).for_each(|verdict| *counts.entry(*verdict).or_default() += 1);
    let is_wanted = |item: &ReviewItem| {
        query.verdict.as_ref().is_none_or(|wanted| item.verdicts.iter().any(|verdict| wanted.has(*verdict)))
    };
    let cut = Cut { sort: query.sort, after: query.after.clone(), limit: query.limit.get() };
    let wanted = found.iter().enumerate().filter(|(_, item)| is_wanted(item));
    let (places, next) = page(wanted, &cut)?;
    Ok(Json(ReviewReport {
        surveyed_ms: surveyed.as_ref().map(|surveyed| surveyed.at_ms),
        days: PERIODS[at],
        definitions: DEFINITIONS.into_iter().collect(),
        counts,
        next: next.map(|next| next.to_string()),
        items: places.into_iter().map(|place| found[place].clone()).collect(),
    }))
}
