//! What hypervisors have and what of it is given to virtual machines now, and what was used of it: by host, provider
//! and organisation.
//!
//! What must hold: a machine counts where it is, once; one that its host lists no more counts nowhere; what is not
//! known is null, and a sum says of how many it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Compute;
use super::capacity::{Holder, Room, Size, UNKNOWN_DISK, room};
use super::figures::Reading;
use super::hypervisor::Told;
use super::survey::{GroupUsed, PERIODS, Period, Used};
use super::usage::Usage;
use super::vm::Vm;
use super::vm::figures::{VmPlan, figures};
use super::vm::report::{disk_bytes, number};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, ROOT, Resource};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{HostId, OrganizationId, ProviderId, VmId};
use crate::telemetry::query::evidence_stars;
use crate::telemetry::{Glance, SourceView};

/// What machines are given is looked at anew after this.
const GIVEN_FOR_MS: i64 = 10_000;

/// What a machine is given, and where it is.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Given {
    size: Size,
    host: Option<HostId>,
    provider: Option<ProviderId>,
}

type AllGiven = Arc<HashMap<VmId, Given>>;

/// What every machine is given, as it was looked at last, and when that was.
#[derive(Debug, Default)]
pub(super) struct Allocations(Mutex<Option<(UnixMs, AllGiven)>>);

/// By what capacity is grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum By {
    /// Each hypervisor.
    Host,
    /// Who provides.
    Provider,
    /// Whose it is.
    Organization,
}

/// One kind of capacity. What is not known is null.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct CapacityFigure {
    /// What hypervisors have.
    pub physical: Option<f64>,
    /// What virtual machines are given.
    pub allocated: f64,
    /// Allocated on hypervisors ÷ physical.
    pub overcommit_ratio: Option<f64>,
    /// Mean over the period.
    pub used_mean: Option<f64>,
    /// 95th percentile of 5-minute slots.
    pub used_p95: Option<f64>,
    /// The largest 5-minute slot.
    pub used_peak: Option<f64>,
    /// How much of the period was measured.
    pub coverage_percent: Option<f64>,
    /// Grade of the evidence, 1 to 5.
    pub evidence_stars: Option<u8>,
}

/// The capacity of a host, provider or organisation.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct CapacityItem {
    /// Its id; null: of what has no provider.
    #[schema(example = "host_1")]
    pub key: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Hypervisors in it.
    pub hosts: usize,
    /// Virtual machines in it.
    pub vms: usize,
    /// Processors: logical ones, virtual ones, busy ones.
    pub cpu: CapacityFigure,
    /// Memory in bytes. Used is what virtual machines take of their hosts'.
    pub memory: CapacityFigure,
    /// Storage in bytes: pools, and the sizes of disks. Use is what pools tell as given out, now.
    pub storage: CapacityFigure,
}

/// Capacity, and what was used of it over a period.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CapacityReport {
    /// Of when it is (Unix time in milliseconds).
    pub at_ms: UnixMs,
    /// The period, in days.
    pub days: u32,
    /// Begin of the period; null: use is not known yet.
    pub from_ms: Option<UnixMs>,
    /// Its end.
    pub to_ms: Option<UnixMs>,
    /// Use was surveyed since the start.
    pub usage_ready: bool,
    /// How figures are defined.
    pub definitions: BTreeMap<&'static str, &'static str>,
    /// One for each host, provider or organisation.
    pub items: Vec<CapacityItem>,
    /// All that the asker sees. Use is told to who reaches the whole city: it is ranked after it is summed.
    pub total: CapacityItem,
}

const DEFINITIONS: [(&str, &str); 6] = [
    ("physical", "what libvirt says that the hypervisors have; pools that several hosts share count with each"),
    (
        "allocated",
        "vCPUs, memory and disk sizes of the virtual machines that are defined, running or not; of those that their own agents tell of, what they have by their inventory; these are in no overcommit",
    ),
    (
        "used",
        "the sum over its virtual machines, slot by slot of 5 minutes, then mean, p95 and peak; where it has hypervisors that report, only of machines on such, beside what these have",
    ),
    ("p95", "nearest rank ⌈0.95·n⌉ over the n slots that are at least half covered"),
    (
        "memory_used",
        "memory of the hosts that virtual machines take (resident); of those that their own agents tell of, memory in use in them",
    ),
    ("coverage", "covered ÷ expected time, mean of its virtual machines since each was first measured"),
];

/// Room for more machines of a size.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoomReport {
    /// Of each hypervisor that reports and of which it is known what it has.
    pub hosts: Vec<RoomOfHost>,
    /// On all of them.
    pub fits: u64,
    /// With the host lost of which it matters most, and what ran there placed on the others.
    pub fits_with_one_lost: u64,
    /// That host.
    #[schema(value_type = Option<String>, example = "host_1")]
    pub worst_host: Option<HostId>,
    /// How that is reckoned.
    pub definition: &'static str,
}

/// Room on one host.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoomOfHost {
    /// Which.
    #[schema(value_type = String, example = "host_1")]
    pub host: HostId,
    /// Its name.
    pub name: Option<String>,
    /// How many more fit.
    pub fits: u64,
}

const ROOM: &str = "whole machines on one host each that reports: processors × overcommit, memory once, disks within what pools \
    have left; after a loss the largest by memory is placed first, each where the most memory is left. A host that tells \
    of no pool has no room for a machine with a disk, but takes those of a lost host: where their disks are is not known";

/// A hypervisor as capacity counts it.
#[derive(Debug, Clone)]
struct Hypervisor {
    host: HostId,
    /// It reports now.
    reports: bool,
    name: Option<String>,
    organization: Option<OrganizationId>,
    provider: Option<ProviderId>,
    cpus: Option<f64>,
    memory_bytes: Option<f64>,
    pool_bytes: Option<f64>,
    pool_available_bytes: Option<f64>,
    pool_allocation_bytes: Option<f64>,
}

/// What is added up of one group.
#[derive(Debug, Default)]
struct Group {
    name: Option<String>,
    hosts: usize,
    vms: usize,
    physical: [Option<f64>; 3],
    allocated: Size,
    /// The part of it that is on hypervisors of ours.
    placed: Size,
    pool_allocation_bytes: Option<f64>,
}

impl Group {
    fn host(&mut self, host: &Hypervisor) {
        self.hosts += 1;
        for (sum, part) in self.physical.iter_mut().zip([host.cpus, host.memory_bytes, host.pool_bytes]) {
            if let Some(part) = part {
                *sum.get_or_insert(0.0) += part;
            }
        }
        if let Some(part) = host.pool_allocation_bytes {
            *self.pool_allocation_bytes.get_or_insert(0.0) += part;
        }
    }

    fn vm(&mut self, Given { size, host, .. }: &Given) {
        self.vms += 1;
        self.allocated = self.allocated.plus(*size);
        if host.is_some() {
            self.placed = self.placed.plus(*size);
        }
    }

    /// What is set against what it has: the use of that, or of everything if it has nothing.
    fn used(&self, used: &GroupUsed) -> Used {
        if self.hosts > 0 { used.placed } else { used.all }
    }

    fn item(self, key: Option<String>, used: Option<Used>) -> CapacityItem {
        let [cpus, memory, storage] = self.physical;
        let mut storage = figure(storage, (self.allocated.disk_bytes, self.placed.disk_bytes), None);
        storage.used_mean = self.pool_allocation_bytes;
        CapacityItem {
            key,
            name: self.name,
            hosts: self.hosts,
            vms: self.vms,
            cpu: figure(cpus, (self.allocated.cpus, self.placed.cpus), used.and_then(|used| used.cpus)),
            memory: figure(
                memory,
                (self.allocated.memory_bytes, self.placed.memory_bytes),
                used.and_then(|used| used.memory_bytes),
            ),
            storage,
        }
    }
}

fn figure(physical: Option<f64>, (allocated, placed): (f64, f64), used: Option<Usage>) -> CapacityFigure {
    CapacityFigure {
        physical,
        allocated,
        overcommit_ratio: physical.filter(|physical| *physical > 0.0).map(|physical| placed / physical),
        used_mean: used.map(|used| used.mean),
        used_p95: used.map(|used| used.p95),
        used_peak: used.map(|used| used.peak),
        coverage_percent: used.map(|used| used.coverage * 100.0),
        evidence_stars: used.map(|used| evidence_stars(used.coverage)),
    }
}

impl Compute {
    /// Capacity of what a permit shows.
    pub(super) fn capacity(&self, permit: &Permit<MeasurementsRead>, by: By, period: usize) -> CapacityReport {
        let at_ms = self.0.clock.now_ms();
        let surveyed = self.surveyed();
        let period = period.min(PERIODS.len() - 1);
        let used = surveyed.as_ref().map(|surveyed| &surveyed.periods[period]);
        let given = self.given(at_ms);
        CapacityReport {
            at_ms,
            days: PERIODS[period],
            from_ms: used.map(|used| used.from_ms),
            to_ms: used.map(|used| used.to_ms),
            usage_ready: used.is_some(),
            definitions: DEFINITIONS.into_iter().collect(),
            items: self.capacity_items(permit, by, &given, used),
            total: self.capacity_total(permit, &given, used),
        }
    }

    fn capacity_total(
        &self,
        permit: &Permit<MeasurementsRead>,
        given: &HashMap<VmId, Given>,
        used: Option<&Period>,
    ) -> CapacityItem {
        let mut total = Group::default();
        self.hypervisors(permit).iter().for_each(|host| total.host(host));
        let seen = given.iter().filter(|(vm, _)| self.vm_is_listed(permit, **vm));
        seen.for_each(|(_, given)| total.vm(given));
        let whole = used.filter(|_| permit.organization() == ROOT).map(|used| total.used(&used.whole));
        total.item(None, whole)
    }

    fn capacity_items(
        &self,
        permit: &Permit<MeasurementsRead>,
        by: By,
        given: &HashMap<VmId, Given>,
        used: Option<&Period>,
    ) -> Vec<CapacityItem> {
        let access = &self.0.access;
        let hypervisors = self.hypervisors(permit);
        match by {
            By::Host => {
                let mut groups: BTreeMap<HostId, Group> = BTreeMap::new();
                for host in &hypervisors {
                    let group = groups.entry(host.host).or_default();
                    group.name = host.name.clone();
                    group.host(host);
                }
                // A host's sums are its owner's, whosever the machines are.
                for given in given.values() {
                    if let Some(group) = given.host.and_then(|host| groups.get_mut(&host)) {
                        group.vm(given);
                    }
                }
                let item = |(host, group): (HostId, Group)| {
                    group.item(Some(host.to_string()), used.and_then(|used| used.hosts.get(&host).copied()))
                };
                groups.into_iter().map(item).collect()
            }
            By::Organization => {
                let mut groups: BTreeMap<OrganizationId, Group> = BTreeMap::new();
                for host in &hypervisors {
                    if let Some(organization) = host.organization {
                        groups.entry(organization).or_default().host(host);
                    }
                }
                for (vm, given) in given.iter().filter(|(vm, _)| self.vm_is_listed(permit, **vm)) {
                    if let Some(owner) = access.owner(Resource::Vm(*vm)) {
                        groups.entry(owner).or_default().vm(given);
                    }
                }
                let item = |(organization, mut group): (OrganizationId, Group)| {
                    group.name = Some(access.organization_name(organization)).filter(|name| !name.is_empty());
                    let used = used.and_then(|used| used.organizations.get(&organization)).map(|used| group.used(used));
                    group.item(Some(organization.to_string()), used)
                };
                groups.into_iter().map(item).collect()
            }
            By::Provider => {
                let mut groups: BTreeMap<Option<ProviderId>, Group> = BTreeMap::new();
                for host in &hypervisors {
                    groups.entry(host.provider).or_default().host(host);
                }
                for (_, given) in given.iter().filter(|(vm, _)| self.vm_is_listed(permit, **vm)) {
                    groups.entry(given.provider).or_default().vm(given);
                }
                let names: BTreeMap<ProviderId, String> =
                    self.index().providers.values().map(|provider| (provider.id, provider.name.clone())).collect();
                // Of a part of the city the use of a provider is not told: it is a sum over the whole.
                let whole = permit.organization() == ROOT;
                let item = |(provider, mut group): (Option<ProviderId>, Group)| {
                    group.name = provider.and_then(|provider| names.get(&provider).cloned());
                    let used = used.filter(|_| whole).and_then(|used| used.providers.get(&provider));
                    let used = used.map(|used| group.used(used));
                    group.item(provider.map(|provider| provider.to_string()), used)
                };
                groups.into_iter().map(item).collect()
            }
        }
    }

    /// For how many more machines of a size there is room on the hosts that a permit shows.
    pub(super) fn room(&self, permit: &Permit<MeasurementsRead>, size: Size, overcommit: f64) -> RoomReport {
        let given = self.given(self.0.clock.now_ms());
        let mut on: HashMap<HostId, Vec<Size>> = HashMap::new();
        for given in given.values() {
            if let Some(host) = given.host {
                on.entry(host).or_default().push(given.size);
            }
        }
        let hypervisors = self.hypervisors(permit);
        let holder = |host: &Hypervisor| Holder {
            host: host.host,
            physical: host.cpus.zip(host.memory_bytes).filter(|_| host.reports).map(|(cpus, memory_bytes)| Size {
                cpus,
                memory_bytes,
                disk_bytes: host.pool_available_bytes.unwrap_or(UNKNOWN_DISK),
            }),
            vms: on.remove(&host.host).unwrap_or_default(),
        };
        let holders: Vec<_> = hypervisors.iter().map(holder).collect();
        let Room { hosts, fits, fits_with_one_lost, worst } = room(&holders, size, overcommit);
        let named =
            |host: HostId| hypervisors.iter().find(|known| known.host == host).and_then(|known| known.name.clone());
        RoomReport {
            hosts: hosts.into_iter().map(|(host, fits)| RoomOfHost { host, name: named(host), fits }).collect(),
            fits,
            fits_with_one_lost,
            worst_host: worst,
            definition: ROOM,
        }
    }

    /// The hypervisors that a permit shows, in order of host.
    fn hypervisors(&self, permit: &Permit<MeasurementsRead>) -> Vec<Hypervisor> {
        let access = &self.0.access;
        let mut found = Vec::new();
        for Told { agent, node, reports } in self.hypervisors_told(self.0.clock.now_ms()) {
            if !access.is_visible(permit, Resource::Host(node.host)) {
                continue;
            }
            let provider = self.index().hosts.get(&node.host).and_then(|host| host.row.provider);
            let Some(view) = self.0.telemetry.source_known(node.source) else { continue };
            let fact = |name: &str| view.facts().and_then(|facts| number(facts.values.get(name)?));
            let mut known = Hypervisor {
                host: node.host,
                reports,
                name: self.host_named(permit, Some(node), agent).host_name,
                organization: access.owner(Resource::Host(node.host)),
                provider,
                cpus: fact("cpus"),
                memory_bytes: fact("memory_bytes"),
                pool_bytes: None,
                pool_available_bytes: None,
                pool_allocation_bytes: None,
            };
            // What it has stays known while it does not report.
            view.glance(|glance| {
                let reading = Reading::new(&glance);
                for (index, column) in (0u16..).zip(&glance.schema.columns) {
                    let Some(value) = reading.value(Some(index)) else { continue };
                    match column.metric.as_str() {
                        "tongtu_libvirt_node_cpus" => known.cpus = Some(value),
                        "tongtu_libvirt_node_memory_bytes" => known.memory_bytes = Some(value),
                        "libvirt_pool_info_capacity_bytes" => *known.pool_bytes.get_or_insert(0.0) += value,
                        "libvirt_pool_info_allocation_bytes" => {
                            *known.pool_allocation_bytes.get_or_insert(0.0) += value;
                        }
                        "libvirt_pool_info_available_bytes" => {
                            *known.pool_available_bytes.get_or_insert(0.0) += value;
                        }
                        _ => {}
                    }
                }
            });
            found.push(known);
        }
        found
    }

    /// What every machine is given, at most ten seconds old.
    fn given(&self, now_ms: UnixMs) -> AllGiven {
        let mut last = self.0.allocations.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at_ms, given)) = &*last
            && (0..GIVEN_FOR_MS).contains(&(now_ms - at_ms))
        {
            return Arc::clone(given);
        }
        // Who sees which of two rows of one machine is asked where they are added up.
        let vms: Vec<Arc<Vm>> = self.index().vms.all.values().cloned().collect();
        let mut given = HashMap::with_capacity(vms.len());
        for vm in vms {
            let Some(view) = vm.source().and_then(|source| self.0.telemetry.source_known(source)) else { continue };
            let stale = view.glance(|glance| glance.is_stale(now_ms));
            if stale != Some(false) && self.vm_is_over(&vm, &view, now_ms) {
                continue;
            }
            if vm.row.host.is_some() {
                // What it has stays known while it does not report. Nobody sees where it is.
                let Some(size) = given_inside(&vm, &view) else { continue };
                let provider = Self::provider_of(&self.index(), &vm, None);
                given.insert(vm.row.id, Given { size, host: None, provider });
                continue;
            }
            let Some(size) = view.glance(|glance| given_to(&glance)) else { continue };
            let index = self.index();
            let host = Self::node(&index, view.agent()).map(|node| node.host);
            let provider = Self::provider_of(&index, &vm, Some(view.agent()));
            given.insert(vm.row.id, Given { size, host, provider });
        }
        let given = Arc::new(given);
        *last = Some((now_ms, Arc::clone(&given)));
        given
    }
}

/// What a machine has by its own inventory, else by its last frame. `None`: it is not known, so it is in no sum.
fn given_inside(vm: &Vm, view: &SourceView) -> Option<Size> {
    let facts = view.facts();
    let said = |name: &str| facts.as_ref().and_then(|facts| number(facts.values.get(name)?));
    let seen = || view.glance(|glance| figures(&VmPlan::of(vm, glance.schema), &glance)).unwrap_or_default();
    Some(Size {
        cpus: said("cpus").or_else(|| seen().vcpus)?,
        memory_bytes: said("memory_bytes").or_else(|| seen().memory_bytes)?,
        disk_bytes: facts.as_ref().and_then(|facts| disk_bytes(&facts.values)).unwrap_or(0.0),
    })
}

/// What a machine is given, by its last frame.
fn given_to(glance: &Glance<'_>) -> Size {
    let reading = Reading::new(glance);
    let (mut size, mut current) = (Size::default(), 0.0);
    for (index, column) in (0u16..).zip(&glance.schema.columns) {
        let Some(figure) = column.metric.strip_prefix("libvirt_domain_") else { continue };
        let value = || reading.value(Some(index)).unwrap_or(0.0);
        match figure {
            "info_virtual_cpus" => size.cpus = value(),
            "info_maximum_memory_bytes" => size.memory_bytes = value(),
            "info_memory_usage_bytes" => current = value(),
            "block_stats_capacity_bytes" => size.disk_bytes += value(),
            _ => {}
        }
    }
    if size.memory_bytes == 0.0 {
        size.memory_bytes = current;
    }
    size
}
