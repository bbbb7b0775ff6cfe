//! What is shown of a virtual machine, and how it is made from the newest frame of the source that it is at.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::figures::{SHUT_OFF, VmFigures, VmPlan, devices, figures};
use super::inside::firmware_uuid;
use super::placing::stays;
use super::{HostNamed, Purpose, Vm, VmJoin};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Resource};
use crate::compute::Compute;
use crate::compute::list::Named;
use crate::platform::clock::UnixMs;
use crate::platform::ids::{HostId, OrganizationId, ProviderId, SourceId, VmId};
use crate::telemetry::{Facts, Glance, SourceView};

/// How a virtual machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::compute) enum VmState {
    /// No frame ever came.
    NeverSeen,
    /// It runs.
    Running,
    /// It is held.
    Paused,
    /// Its guest is ending.
    ShuttingDown,
    /// It is off.
    ShutOff,
    /// It crashed.
    Crashed,
    /// Its guest suspended itself.
    Suspended,
    /// Its hypervisor does not say.
    Unknown,
    /// Its host reports, and does not list it any more; or every agent that told of it was revoked.
    Gone,
    /// Nothing tells of it at the moment, be it its hypervisor, the libvirt there or its own agent: present figures are
    /// null.
    Stale,
}

impl VmState {
    fn of_libvirt(state: Option<i64>) -> Self {
        match state {
            Some(1 | 2) => Self::Running,
            Some(3) => Self::Paused,
            Some(4) => Self::ShuttingDown,
            Some(SHUT_OFF) => Self::ShutOff,
            Some(6) => Self::Crashed,
            Some(7) => Self::Suspended,
            _ => Self::Unknown,
        }
    }

    /// Whether its frames are of now.
    fn is_present(self) -> bool {
        !matches!(self, Self::NeverSeen | Self::Gone | Self::Stale)
    }
}

impl Named for VmState {
    const EXPECTED: &'static str = "`state` must be one or more of never_seen, running, paused, shutting_down, shut_off, crashed, suspended, unknown, gone, stale";
}

/// Who tells of a virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::compute) enum ToldBy {
    /// A hypervisor of ours.
    Hypervisor,
    /// Its own agent alone: it is on a platform that nothing of ours sees into.
    Guest,
}

/// What is not as it should be with who or where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::compute) enum VmConflict {
    /// It runs on two hosts at once.
    RunningTwice,
    /// Another organisation's has the same UUID: one of them is a copy.
    ClaimedTwice,
}

/// A virtual machine, as lists show it. What is not known is null.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(in crate::compute) struct VmSummary {
    /// Its id.
    #[schema(value_type = String, example = "vm_1")]
    pub id: VmId,
    /// Its name on its host; of one that its own agent tells of, what it calls itself.
    pub name: String,
    /// What makes it one, on whatever host; null: its own agent tells of it, and may not read it.
    pub uuid: Option<String>,
    /// Who tells of it.
    pub told_by: ToldBy,
    /// The host that its own agent reports.
    #[schema(value_type = Option<String>, example = "host_2")]
    pub guest: Option<HostId>,
    /// How it is.
    pub state: VmState,
    /// Who sees it as its own: who was given it, else whose hypervisor reports it.
    #[schema(value_type = String, example = "org_2")]
    pub organization: OrganizationId,
    /// It was given to that organisation.
    pub assigned: bool,
    /// Where it is.
    #[schema(value_type = Option<String>, example = "host_1")]
    pub host: Option<HostId>,
    /// That host's name.
    pub host_name: Option<String>,
    /// Who provides it: its own provider, else its host's.
    #[schema(value_type = Option<String>, example = "provider_1")]
    pub provider: Option<ProviderId>,
    /// Of which application it is a part.
    pub application: Option<String>,
    /// What it is for.
    pub purpose: Option<Purpose>,
    /// Until when it was given (Unix time in milliseconds).
    pub expires_ms: Option<UnixMs>,
    /// That is over.
    pub expired: bool,
    /// What is not as it should be.
    pub conflict: Option<VmConflict>,
    /// Instant of its newest frame (Unix time in milliseconds).
    pub last_report_ms: Option<UnixMs>,
    /// Virtual processors that it has now.
    pub vcpus: Option<i64>,
    /// Share of all its virtual processors' time, between the last two frames.
    pub cpu_usage_percent: Option<f64>,
    /// Memory that it is given now.
    pub memory_bytes: Option<i64>,
    /// Memory that it may be given.
    pub memory_maximum_bytes: Option<i64>,
    /// Memory in use, as its guest tells it.
    pub memory_used_bytes: Option<i64>,
    /// That of what its guest has.
    pub memory_used_percent: Option<f64>,
    /// Memory of the host that it takes.
    pub memory_resident_bytes: Option<i64>,
    /// Size of its disks.
    pub disk_capacity_bytes: Option<i64>,
    /// What its disks take on its host.
    pub disk_allocation_bytes: Option<i64>,
    /// Read from its disks, between the last two frames.
    pub disk_read_bytes_per_second: Option<f64>,
    /// Written to them.
    pub disk_write_bytes_per_second: Option<f64>,
    /// Received by its interfaces, between the last two frames.
    pub network_receive_bytes_per_second: Option<f64>,
    /// Sent by them.
    pub network_transmit_bytes_per_second: Option<f64>,
    /// Grows with every change of what people say of it.
    pub version: u64,
}

/// A virtual machine with everything that is known of it now.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(in crate::compute) struct VmDetail {
    #[serde(flatten)]
    pub summary: VmSummary,
    /// Since when control knows it.
    pub created_ms: UnixMs,
    /// Its own provider; null: it is provided as its host is.
    #[schema(value_type = Option<String>, example = "provider_1")]
    pub own_provider: Option<ProviderId>,
    /// The source that its figures come from.
    #[schema(value_type = Option<String>, example = "source_9")]
    pub source: Option<SourceId>,
    /// The instant of its newest frame rests on its host's own clock alone.
    pub clock_uncertain: bool,
    /// Its inventory.
    pub facts: BTreeMap<String, String>,
    /// Since when the inventory holds.
    pub facts_since_ms: Option<UnixMs>,
    /// Whose it was, oldest first, as far as the asker reaches.
    pub owners: Vec<VmOwner>,
    /// Where it was in the time in which it was the asker's, oldest first.
    pub places: Vec<VmPlace>,
    /// Where it runs as well.
    #[schema(value_type = Option<String>, example = "host_2")]
    pub conflict_host: Option<HostId>,
    /// Those of other organisations with the same UUID that are there, as far as the asker sees them.
    #[schema(value_type = Vec<String>)]
    pub claimed_by: Vec<VmId>,
    /// Its disks.
    pub disks: Vec<VmDisk>,
    /// Its network interfaces.
    pub interfaces: Vec<VmInterface>,
}

/// Whose it was.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(in crate::compute) struct VmOwner {
    /// Whose.
    #[schema(value_type = String, example = "org_2")]
    pub organization: OrganizationId,
    /// Since when.
    pub from_ms: UnixMs,
}

/// Where it was.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(in crate::compute) struct VmPlace {
    /// On which host.
    #[schema(value_type = Option<String>, example = "host_1")]
    pub host: Option<HostId>,
    /// That host's name.
    pub host_name: Option<String>,
    /// What measured it there.
    #[schema(value_type = String, example = "source_9")]
    pub source: SourceId,
    /// Since when; null: since before it was known.
    pub from_ms: Option<UnixMs>,
    /// Until when; null: it is there.
    pub to_ms: Option<UnixMs>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(in crate::compute) struct VmDisk {
    /// Its name in the guest.
    #[schema(example = "vda")]
    pub device: String,
    /// Its size.
    pub capacity_bytes: Option<i64>,
    /// What it takes on the host.
    pub allocation_bytes: Option<i64>,
    /// Read between the last two frames.
    pub read_bytes_per_second: Option<f64>,
    /// Written.
    pub write_bytes_per_second: Option<f64>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(in crate::compute) struct VmInterface {
    /// Its name on the host.
    #[schema(example = "vnet0")]
    pub device: String,
    /// Received between the last two frames.
    pub receive_bytes_per_second: Option<f64>,
    /// Sent.
    pub transmit_bytes_per_second: Option<f64>,
}

/// What of a machine is not measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Head {
    pub organization: OrganizationId,
    pub place: HostNamed,
    pub guest: Option<HostId>,
    pub provider: Option<ProviderId>,
    pub conflict: Option<VmConflict>,
    /// The machines of other organisations with the same UUID, there or not.
    pub claims: Vec<VmId>,
}

/// What its newest frame says of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seen {
    pub state: Option<VmState>,
    pub last_report_ms: Option<UnixMs>,
    pub figures: VmFigures,
}

impl Compute {
    /// What of a machine is not measured, for a permit that shows it.
    pub(super) fn vm_head(&self, permit: &Permit<MeasurementsRead>, vm: &Vm, view: Option<&SourceView>) -> Head {
        let index = self.index();
        let node = view.and_then(|view| Self::node(&index, view.agent()));
        let provider = Self::provider_of(&index, vm, view.map(SourceView::agent));
        let guest = vm.row.host.or_else(|| index.vms.inside.hosts.get(&vm.row.id).copied());
        let is_shown = |vm| self.0.access.is_visible(permit, Resource::Vm(vm));
        let claims = index.vms.claims(&vm.row.uuid).map(|(_, other)| other);
        let claims = claims.filter(|other| *other != vm.row.id && is_shown(*other)).collect();
        let conflict = vm.conflict.map(|_| match vm.row.host {
            // Another machine has its machine id.
            Some(_) => VmConflict::ClaimedTwice,
            None => VmConflict::RunningTwice,
        });
        drop(index);
        Head {
            organization: self.0.access.owner(Resource::Vm(vm.row.id)).unwrap_or(vm.row.organization),
            place: view.map(|view| self.host_named(permit, node, view.agent())).unwrap_or_default(),
            guest: guest.filter(|host| self.is_visible(permit, *host)),
            provider,
            conflict,
            claims,
        }
    }

    /// The machines of other organisations with the same UUID that are there, as this one is. Those that are over would
    /// contradict it for ever.
    fn vm_claimants(&self, vm: &Vm, head: &Head, now_ms: UnixMs) -> Vec<VmId> {
        if head.claims.is_empty() || self.vm_is_past(vm, now_ms) {
            return Vec::new();
        }
        let is_there = |other: &VmId| {
            let other = self.index().vms.all.get(other).cloned();
            other.is_some_and(|other| !self.vm_is_past(&other, now_ms))
        };
        head.claims.iter().copied().filter(is_there).collect()
    }

    /// What is not as it should be with a machine now. Most have a UUID of their own, of which nothing is asked.
    pub(super) fn vm_conflict(&self, vm: &Vm, head: &Head, now_ms: UnixMs) -> Option<VmConflict> {
        let is_claimed = || !self.vm_claimants(vm, head, now_ms).is_empty();
        head.conflict.or_else(|| is_claimed().then_some(VmConflict::ClaimedTwice))
    }

    /// A machine is not measured now, and is there no more.
    fn vm_is_past(&self, vm: &Vm, now_ms: UnixMs) -> bool {
        let view = vm.source().and_then(|source| self.0.telemetry.source_known(source));
        view.is_some_and(|view| {
            view.glance(|glance| glance.is_stale(now_ms)) != Some(false) && self.vm_is_over(vm, &view, now_ms)
        })
    }

    /// Whether the hypervisor that a source is of reports now that libvirt answers.
    pub(super) fn node_reports(&self, view: &SourceView, now_ms: UnixMs) -> bool {
        let node = Self::node(&self.index(), view.agent());
        let node = node.and_then(|node| self.0.telemetry.source_known(node.source));
        let reports = node.and_then(|node| {
            node.glance(|glance| {
                let up = glance.schema.columns.iter().position(|column| column.metric == "libvirt_up");
                !glance.is_stale(now_ms) && up.and_then(|up| glance.value(up)) == Some(1)
            })
        });
        reports.unwrap_or(false)
    }

    /// Whether a machine that is not measured now is there no more: its hypervisor reports and does not list it, or
    /// every agent that told of it was revoked.
    pub(in crate::compute) fn vm_is_over(&self, vm: &Vm, view: &SourceView, now_ms: UnixMs) -> bool {
        let is_revoked = |join: &VmJoin| {
            let agent = self.0.telemetry.source_known(join.source).map(|view| view.agent());
            agent.is_some_and(|agent| self.0.fleet.agent_is_revoked(agent))
        };
        self.node_reports(view, now_ms) || vm.sources.iter().all(is_revoked)
    }

    /// A machine's page.
    pub(in crate::compute) fn vm_detail(&self, permit: &Permit<MeasurementsRead>, vm: &Vm) -> VmDetail {
        let now_ms = self.0.clock.now_ms();
        let view = vm.source().and_then(|source| self.0.telemetry.source(permit, source));
        let head = self.vm_head(permit, vm, view.as_ref());
        let facts = view.as_ref().and_then(SourceView::facts);
        let gone = view.as_ref().is_some_and(|view| self.vm_is_over(vm, view, now_ms));
        let seen = view.as_ref().and_then(|view| {
            view.glance(|glance| {
                let plan = VmPlan::of(vm, glance.schema);
                let seen = seen(&plan, &glance, now_ms, gone);
                let is_present = seen.state.is_some_and(VmState::is_present);
                let devices = if is_present { devices(&plan, &glance) } else { Default::default() };
                (seen, devices, glance.clock_uncertain)
            })
        });
        let (seen, (disks, interfaces), clock_uncertain) = seen.unwrap_or_default();
        let access = &self.0.access;
        let resource = Resource::Vm(vm.row.id);
        let owned = self.vm_owned(permit, vm);
        let conflict_agent = {
            let index = self.index();
            let conflict = vm.conflict.and_then(|source| self.0.telemetry.source_known(source));
            conflict.map(|view| (Self::node(&index, view.agent()), view.agent()))
        };
        let conflict = self.vm_conflict(vm, &head, now_ms);
        VmDetail {
            created_ms: vm.row.created_ms,
            own_provider: vm.row.provider,
            source: view.as_ref().and(vm.source()),
            clock_uncertain,
            facts_since_ms: facts.as_ref().map(|facts| facts.instant_ms),
            facts: facts.as_ref().map(|facts| facts.values.clone()).unwrap_or_default(),
            owners: access
                .owners(permit, resource)
                .into_iter()
                .map(|(from_ms, organization)| VmOwner { organization, from_ms })
                .collect(),
            places: self.vm_places(permit, vm, &owned),
            conflict_host: conflict_agent.and_then(|(node, agent)| self.host_named(permit, node, agent).host),
            claimed_by: self.vm_claimants(vm, &head, now_ms),
            disks: disks
                .into_iter()
                .map(|disk| VmDisk {
                    device: disk.device,
                    capacity_bytes: whole(disk.capacity_bytes),
                    allocation_bytes: whole(disk.allocation_bytes),
                    read_bytes_per_second: disk.read_bytes_per_second,
                    write_bytes_per_second: disk.write_bytes_per_second,
                })
                .collect(),
            interfaces: interfaces
                .into_iter()
                .map(|interface| VmInterface {
                    device: interface.device,
                    receive_bytes_per_second: interface.receive_bytes_per_second,
                    transmit_bytes_per_second: interface.transmit_bytes_per_second,
                })
                .collect(),
            summary: summary(vm, &head, conflict, seen, facts.as_deref(), now_ms),
        }
    }

    /// The periods in which it was the asker's. Its first owner owns what was before it was known.
    pub(super) fn vm_owned(&self, permit: &Permit<MeasurementsRead>, vm: &Vm) -> Vec<(UnixMs, UnixMs)> {
        let mut owned = self.0.access.periods(permit, Resource::Vm(vm.row.id));
        if let Some(first) = owned.first_mut().filter(|first| first.0 <= vm.row.created_ms) {
            first.0 = UnixMs::MIN;
        }
        owned
    }

    /// Where it was while it was the asker's.
    fn vm_places(&self, permit: &Permit<MeasurementsRead>, vm: &Vm, owned: &[(UnixMs, UnixMs)]) -> Vec<VmPlace> {
        let mut places = Vec::new();
        // Nobody sees where it is.
        if vm.row.host.is_some() {
            return places;
        }
        for (source, from_ms, to_ms) in stays(&vm.places) {
            let agent = self.0.telemetry.source_known(source).map(|view| view.agent());
            let named = agent.map(|agent| {
                let node = Self::node(&self.index(), agent);
                self.host_named(permit, node, agent)
            });
            let HostNamed { host, host_name } = named.unwrap_or_default();
            for (owned_from_ms, owned_to_ms) in owned {
                let (from_ms, to_ms) = (from_ms.max(*owned_from_ms), to_ms.min(*owned_to_ms));
                if from_ms < to_ms {
                    places.push(VmPlace {
                        host,
                        host_name: host_name.clone(),
                        source,
                        from_ms: Some(from_ms).filter(|ms| *ms > UnixMs::MIN),
                        to_ms: Some(to_ms).filter(|ms| *ms < UnixMs::MAX),
                    });
                }
            }
        }
        places
    }
}

/// What a machine's newest frame says. `gone`: it is there no more if no frame comes.
pub(super) fn seen(plan: &VmPlan, glance: &Glance<'_>, now_ms: UnixMs, gone: bool) -> Seen {
    let state = match (glance.is_stale(now_ms), gone) {
        (false, _) if plan.is_inside() => VmState::Running,
        (false, _) => VmState::of_libvirt(plan.state(glance)),
        (true, true) => VmState::Gone,
        (true, false) => VmState::Stale,
    };
    let mut known = figures(plan, glance);
    if !state.is_present() {
        // What it was given is still said, what it does is not known.
        let VmFigures { vcpus, memory_bytes, memory_maximum_bytes, disk_capacity_bytes, .. } = known;
        known = VmFigures { vcpus, memory_bytes, memory_maximum_bytes, disk_capacity_bytes, ..VmFigures::default() };
    }
    Seen { state: Some(state), last_report_ms: Some(glance.instant_ms), figures: known }
}

/// A machine as lists show it.
pub(super) fn summary(
    vm: &Vm,
    head: &Head,
    conflict: Option<VmConflict>,
    seen: Seen,
    facts: Option<&Facts>,
    now_ms: UnixMs,
) -> VmSummary {
    let fact = |name: &str| facts.and_then(|facts| facts.values.get(name)).filter(|text| !text.is_empty()).cloned();
    let number = |name: &str| fact(name).and_then(|text| number(&text));
    let Seen { state, last_report_ms, figures } = seen;
    let row = &vm.row;
    let is_inside = row.host.is_some();
    let (name, cpus) = if is_inside { ("hostname", "cpus") } else { ("name", "vcpus") };
    let disks = facts.filter(|_| is_inside).and_then(|facts| disk_bytes(&facts.values));
    VmSummary {
        id: row.id,
        name: fact(name).unwrap_or_else(|| row.host.map_or_else(|| row.uuid.clone(), |host| host.to_string())),
        uuid: match row.host {
            None => Some(row.uuid.clone()),
            Some(_) => facts.and_then(|facts| firmware_uuid(&facts.values)),
        },
        told_by: if is_inside { ToldBy::Guest } else { ToldBy::Hypervisor },
        guest: head.guest,
        state: state.unwrap_or(VmState::NeverSeen),
        organization: head.organization,
        assigned: row.owner.is_some(),
        host: head.place.host,
        host_name: head.place.host_name.clone(),
        provider: head.provider,
        application: row.application.clone(),
        purpose: row.purpose,
        expires_ms: row.expires_ms,
        expired: row.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms),
        conflict,
        last_report_ms,
        vcpus: whole(figures.vcpus.or_else(|| number(cpus))),
        cpu_usage_percent: figures.cpu_usage_percent,
        memory_bytes: whole(figures.memory_bytes.or_else(|| number("memory_bytes"))),
        memory_maximum_bytes: whole(figures.memory_maximum_bytes.or_else(|| number("memory_maximum_bytes"))),
        memory_used_bytes: whole(figures.memory_used_bytes),
        memory_used_percent: figures.memory_used_percent,
        memory_resident_bytes: whole(figures.memory_resident_bytes),
        disk_capacity_bytes: whole(figures.disk_capacity_bytes.or(disks)),
        disk_allocation_bytes: whole(figures.disk_allocation_bytes),
        disk_read_bytes_per_second: figures.disk_read_bytes_per_second,
        disk_write_bytes_per_second: figures.disk_write_bytes_per_second,
        network_receive_bytes_per_second: figures.network_receive_bytes_per_second,
        network_transmit_bytes_per_second: figures.network_transmit_bytes_per_second,
        version: row.version,
    }
}

/// A size or a count that a machine says of itself. What can be none is not known: one machine makes no sum wrong.
pub(in crate::compute) fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| (0.0..1e18).contains(value))
}

/// The size of the disks that a host's inventory names: not of what is made of them.
pub(in crate::compute) fn disk_bytes(facts: &BTreeMap<String, String>) -> Option<f64> {
    const MADE: [&str; 5] = ["dm-", "md", "bcache", "drbd", "nbd"];
    let disk = |(name, size): (&String, &String)| {
        let disk = name.strip_prefix("disk.")?.strip_suffix(".size_bytes")?;
        number(size).filter(|_| MADE.iter().all(|made| !disk.starts_with(made)))
    };
    facts.iter().filter_map(disk).reduce(|a, b| a + b)
}

/// Bytes and processors are whole.
fn whole(value: Option<f64>) -> Option<i64> {
    value.map(|value| value as i64)
}
