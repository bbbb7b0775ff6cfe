//! The API of virtual machines. Each handler: extract, permit, call the domain, render.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::list::{VmWanted, chosen};
use super::report::{VmDetail, VmState, VmSummary};
use super::{Purpose, VmChange, VmChangeError};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Principal, Resource};
use crate::compute::Compute;
use crate::compute::api::{ThingSeriesParameters, json, no_host};
use crate::compute::board::Board;
use crate::compute::list::{self, AnyOf, Cursor, Cut, OtherOrder, Sort};
use crate::compute::vm::line::VmLine;
use crate::platform::clock::UnixMs;
use crate::platform::http::page::{Limit, Page};
use crate::platform::http::{Problem, finish};
use crate::platform::ids::{HostId, OrganizationId, ProviderId, VmId};
use crate::telemetry::report::{self, Of, SeriesReport};

/// All operations.
pub(in crate::compute) fn router(compute: Compute) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(vm_list))
        .routes(routes!(vm_fetch, vm_update))
        .routes(routes!(vm_event_list))
        .routes(routes!(vm_series))
        .routes(routes!(host_vm_list))
        .with_state(compute)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct VmListQuery {
    /// Only those with this in their name, UUID, application or host's name, or with this id.
    search: Option<String>,
    /// Only those of this organisation.
    #[param(value_type = Option<String>, example = "org_2")]
    organization: Option<OrganizationId>,
    /// Only those on this host.
    #[param(value_type = Option<String>, example = "host_1")]
    host: Option<HostId>,
    /// Only those of this provider.
    #[param(value_type = Option<String>, example = "provider_1")]
    provider: Option<ProviderId>,
    /// Only those in these states, separated by commas.
    #[param(value_type = Option<String>, example = "running,paused")]
    state: Option<AnyOf<VmState>>,
    /// Only those for these purposes, separated by commas.
    #[param(value_type = Option<String>, example = "production")]
    purpose: Option<AnyOf<Purpose>>,
    /// Only those that nobody was given, or only others.
    unowned: Option<bool>,
    /// Only those whose time is over, or only others.
    expired: Option<bool>,
    /// Only those that run twice or are claimed twice, or only others.
    conflict: Option<bool>,
    /// By what they are sorted, `id` if absent; with `-` before it the largest first. What is not known
    /// stands last. One of id, name, state, organization, host, application, purpose, expires_ms, last_report_ms, vcpus,
    /// cpu_usage_percent, memory_bytes, memory_used_percent, disk_capacity_bytes, disk_read_bytes_per_second,
    /// disk_write_bytes_per_second, network_receive_bytes_per_second, network_transmit_bytes_per_second.
    #[serde(default)]
    #[param(value_type = Option<String>, example = "-cpu_usage_percent")]
    sort: Sort<VmSummary>,
    /// Only those behind this: the `next` of the page before, of the same sort.
    #[param(value_type = Option<String>, example = "vm_7")]
    after: Option<Cursor<VmSummary>>,
    /// How many on one page.
    #[serde(default)]
    #[param(value_type = Option<usize>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

impl From<VmListQuery> for VmWanted {
    fn from(query: VmListQuery) -> Self {
        let VmListQuery { sort, after, limit, .. } = query;
        Self {
            search: query.search,
            organization: query.organization,
            host: query.host,
            provider: query.provider,
            states: query.state,
            purposes: query.purpose,
            unowned: query.unowned,
            expired: query.expired,
            conflict: query.conflict,
            cut: Cut { sort, after, limit: limit.get() },
        }
    }
}

impl Compute {
    /// The machines that are wanted, of those that a permit shows, as the JSON of a page.
    fn vm_page(&self, permit: &Permit<MeasurementsRead>, wanted: &VmWanted) -> Result<Vec<u8>, OtherOrder> {
        self.look(permit, |board: &Board<VmLine>| {
            let (places, next) = chosen(board.rows.iter().map(|row| &row.shown), wanted)?;
            let items = places.iter().map(|place| board.rows[*place].json.as_slice());
            Ok(list::rendered(items, next.map(|next| next.to_string())))
        })
    }
}

/// Virtual machines: whose they are, where they are, how they are now.
#[utoipa::path(get, path = "/api/v1/vms", tag = "vms", params(VmListQuery),
    responses((status = 200, body = Page<VmSummary>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn vm_list(
    State(compute): State<Compute>,
    principal: Principal,
    Query(query): Query<VmListQuery>,
) -> Result<Response, Problem> {
    let permit = principal.permit()?;
    Ok(json(compute.vm_page(&permit, &query.into())?))
}

/// The virtual machines that are on a host now.
#[utoipa::path(get, path = "/api/v1/hosts/{id}/vms", tag = "vms",
    params(("id" = String, Path, example = "host_7"), VmListQuery),
    responses((status = 200, body = Page<VmSummary>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn host_vm_list(
    State(compute): State<Compute>,
    principal: Principal,
    Path(id): Path<String>,
    Query(query): Query<VmListQuery>,
) -> Result<Response, Problem> {
    let permit: Permit<MeasurementsRead> = principal.permit()?;
    let host =
        id.parse::<HostId>().ok().filter(|host| compute.is_visible(&permit, *host)).ok_or_else(|| no_host(&id))?;
    let wanted = VmWanted { host: Some(host), ..query.into() };
    Ok(json(compute.vm_page(&permit, &wanted)?))
}

fn no_vm(id: &str) -> Problem {
    Problem::not_found(format!("there is no virtual machine {id}")).chinese(format!("没有虚拟机 {id}，或您看不到它"))
}

/// One virtual machine with everything that is known of it now.
#[utoipa::path(get, path = "/api/v1/vms/{id}", tag = "vms",
    params(("id" = String, Path, example = "vm_7")),
    responses((status = 200, body = VmDetail), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn vm_fetch(
    State(compute): State<Compute>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Json<VmDetail>, Problem> {
    let permit = principal.permit()?;
    let vm = id.parse().ok().and_then(|id| compute.vm_visible(&permit, id)).ok_or_else(|| no_vm(&id))?;
    Ok(Json(compute.vm_detail(&permit, &vm)))
}

/// What people say of a virtual machine. The document is whole: what is null is not so.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VmRequest {
    /// The version that was read: what another changed meanwhile is not overwritten.
    #[schema(example = 1)]
    version: u64,
    /// Whose it is; null: nobody's.
    #[serde(default)]
    #[schema(required, value_type = Option<String>, example = "org_2")]
    organization: Option<OrganizationId>,
    /// Since when it is theirs (Unix time in milliseconds), if that changes: not before the last change; absent: now.
    #[serde(default)]
    since_ms: Option<UnixMs>,
    /// Of which application it is a part.
    #[serde(default)]
    #[schema(required, example = "i厦门")]
    application: Option<String>,
    /// What it is for.
    #[serde(default)]
    #[schema(required)]
    purpose: Option<Purpose>,
    /// Until when it is given (Unix time in milliseconds).
    #[serde(default)]
    #[schema(required)]
    expires_ms: Option<UnixMs>,
    /// Who provides it; null: as its host.
    #[serde(default)]
    #[schema(required, value_type = Option<String>, example = "provider_1")]
    provider: Option<ProviderId>,
}

/// Says whose a virtual machine is, since when, what for, until when.
///
/// Who owned it before goes on seeing the time in which it was theirs.
#[utoipa::path(put, path = "/api/v1/vms/{id}", tag = "vms",
    params(("id" = String, Path, example = "vm_7")), request_body = VmRequest,
    responses((status = 200, body = VmDetail), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, description = "Another changed it meanwhile", body = Problem),
        (status = 422, description = "`errors` names the fields.", body = Problem)))]
async fn vm_update(
    State(compute): State<Compute>,
    principal: Principal,
    Path(id): Path<String>,
    wanted: Result<Json<VmRequest>, JsonRejection>,
) -> Result<Json<VmDetail>, Problem> {
    let permit = principal.permit()?;
    let number: VmId = id.parse().map_err(|_| no_vm(&id))?;
    let Json(VmRequest { version, organization, since_ms, application, purpose, expires_ms, provider }) = wanted?;
    let change = VmChange { version, organization, since_ms, application, purpose, expires_ms, provider };
    let changing = compute.clone();
    let changed = finish(async move { changing.vm_change(&permit, number, change).await }).await??;
    let reading = principal.permit()?;
    let vm = changed.and_then(|()| compute.vm_visible(&reading, number)).ok_or_else(|| no_vm(&id))?;
    Ok(Json(compute.vm_detail(&reading, &vm)))
}

impl From<VmChangeError> for Problem {
    fn from(error: VmChangeError) -> Self {
        match error {
            VmChangeError::Invalid(faults) => faults.into(),
            VmChangeError::Changed { made_from, newest } => Self::conflict(error.to_string())
                .chinese(format!("您的修改基于版本 {made_from}，而此虚拟机已是版本 {newest}：请重新读取后再修改")),
            VmChangeError::Database(_) => Self::internal(&error),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct VmEventQuery {
    /// Begin of the period, inclusive (Unix time in milliseconds); without it from the first one on.
    from_ms: Option<UnixMs>,
    /// End of the period, exclusive; now if absent.
    to_ms: Option<UnixMs>,
    /// At most so many, the newest.
    #[serde(default)]
    #[param(value_type = Option<usize>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// Something that happened to a virtual machine.
#[derive(Debug, Serialize, ToSchema)]
struct VmEvent {
    /// When (Unix time in milliseconds).
    at_ms: UnixMs,
    /// What.
    #[schema(example = "domain.started")]
    name: String,
    /// More of it.
    attributes: BTreeMap<String, String>,
    /// On which host.
    #[schema(value_type = Option<String>, example = "host_1")]
    host: Option<HostId>,
    /// That host's name.
    host_name: Option<String>,
}

/// What happened to a virtual machine in the time in which it was the asker's, the newest first, on whatever host.
#[utoipa::path(get, path = "/api/v1/vms/{id}/events", tag = "vms",
    params(("id" = String, Path, example = "vm_7"), VmEventQuery),
    responses((status = 200, body = Page<VmEvent>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn vm_event_list(
    State(compute): State<Compute>,
    principal: Principal,
    Path(id): Path<String>,
    Query(query): Query<VmEventQuery>,
) -> Result<Json<Page<VmEvent>>, Problem> {
    let permit: Permit<MeasurementsRead> = principal.permit()?;
    let vm = id.parse().ok().and_then(|id| compute.vm_visible(&permit, id)).ok_or_else(|| no_vm(&id))?;
    let between = (query.from_ms.unwrap_or(UnixMs::MIN), query.to_ms.unwrap_or(UnixMs::MAX));
    let sources: Vec<_> = vm.sources.iter().map(|join| join.source).collect();
    let telemetry = &compute.0.telemetry;
    let events =
        telemetry.events(&sources, between, query.limit.get()).await.map_err(|error| Problem::internal(&error))?;
    let owned = compute.vm_owned(&permit, &vm);
    let was_seen = |at_ms| owned.iter().any(|(from, to)| (*from..*to).contains(&at_ms));
    let items = events.into_iter().filter(|event| was_seen(event.instant_ms)).map(|event| {
        let agent = telemetry.source_known(event.source).map(|view| view.agent());
        let named = agent.map(|agent| {
            let node = Compute::node(&compute.index(), agent);
            compute.host_named(&permit, node, agent)
        });
        let named = named.unwrap_or_default();
        VmEvent {
            at_ms: event.instant_ms,
            name: event.name,
            attributes: event.attributes,
            host: named.host,
            host_name: named.host_name,
        }
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// Series of one virtual machine.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's shape; the answer is written series by series")]
struct VmSeriesAnswer {
    /// Of which machine.
    #[schema(value_type = String, example = "vm_7")]
    vm: VmId,
    /// One for each metric, resource and label set, in this order.
    series: Vec<SeriesReport>,
}

/// Series of a virtual machine, on whatever hosts it was, in the time in which it was the asker's.
#[utoipa::path(get, path = "/api/v1/vms/{id}/series", tag = "vms",
    params(("id" = String, Path, example = "vm_7"), ThingSeriesParameters),
    responses((status = 200, body = VmSeriesAnswer), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem)))]
async fn vm_series(
    State(compute): State<Compute>,
    principal: Principal,
    Path(id): Path<String>,
    Query(asked): Query<ThingSeriesParameters>,
) -> Result<Response, Problem> {
    let permit: Permit<MeasurementsRead> = principal.permit()?;
    let number: VmId = id.parse().map_err(|_| no_vm(&id))?;
    let (telemetry, clock) = (&compute.0.telemetry, &compute.0.clock);
    // Who owned it once still sees the time in which it was theirs.
    let owned = compute.0.access.periods(&permit, Resource::Vm(number));
    let parts = compute.index().vms.all.get(&number).map(|vm| vm.parts());
    let parts = parts.filter(|_| !owned.is_empty()).ok_or_else(|| no_vm(&id))?;
    let of = Of::Joined(&parts, &owned);
    let answer = report::answer(telemetry, clock, ("vm", number.to_string()), of, asked.into());
    answer.await?.ok_or_else(|| no_vm(&id))
}
