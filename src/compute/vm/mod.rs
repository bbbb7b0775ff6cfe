//! Virtual machines: each one over time, joined from the sources of the hosts that it was on.
//!
//! A virtual machine is a UUID within the organisation whose agents report it, or, where no hypervisor of ours does, a
//! host whose own agent says that it is virtual (`inside`). What must hold: it has one place at
//! any instant; its sources are whose it is, from the instant on at which it was given to somebody; a UUID that two
//! organisations claim makes two of them, and who sees both is told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::Named;
use super::{Compute, Index};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Resource};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, HostId, OrganizationId, ProviderId, SourceId, VmId};
use crate::telemetry::Part;

pub(super) mod api;
pub(super) mod change;
pub(super) mod figures;
pub(super) mod inside;
pub(super) mod joining;
pub(super) mod line;
mod list;
pub(super) mod placing;
pub(super) mod report;
mod track;

pub(super) use track::Tracks;

pub(super) use change::VmChange;
use change::VmChangeError;
use figures::VmPlan;
use inside::Inside;

use placing::{Place, stays};

/// The kind of source that a virtual machine is made of.
pub(super) const DOMAIN_KIND: &str = "libvirt_domain";
/// The kind of source that a hypervisor is.
pub(super) const NODE_KIND: &str = "libvirt_node";

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Purpose {
    /// Serves people.
    Production,
    /// Is developed or tested with.
    Development,
    /// Stands by for an emergency.
    Emergency,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Production, Self::Development, Self::Emergency];

    /// As the API and the database name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Development => "development",
            Self::Emergency => "emergency",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }
}

impl Named for Purpose {
    const EXPECTED: &'static str = "`purpose` must be one or more of production, development, emergency";
}

/// A virtual machine as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VmRow {
    pub id: VmId,
    /// Whose agents report it.
    pub organization: OrganizationId,
    /// As its hypervisor names it; of one that its own agent tells of, [`uuid_of`](Self::uuid_of) its host.
    pub uuid: String,
    pub created_ms: UnixMs,
    /// Grows with every change; 1: nobody changed it.
    pub version: u64,
    /// Whose it is; `None`: nobody was given it, or it was taken back.
    pub owner: Option<OrganizationId>,
    /// When that was said to begin.
    pub assigned_ms: Option<UnixMs>,
    pub application: Option<String>,
    pub purpose: Option<Purpose>,
    pub expires_ms: Option<UnixMs>,
    pub provider: Option<ProviderId>,
    /// The host that it is, if no hypervisor tells of it.
    pub host: Option<HostId>,
}

impl VmRow {
    /// What stands in the place of the UUID of a machine that its own agent tells of. A hypervisor's are lower case.
    pub(super) fn uuid_of(host: HostId) -> String {
        format!("HOST:{}", host.0)
    }

    /// Who sees it as its own, and since when that is so.
    pub(super) fn owned(&self) -> (OrganizationId, UnixMs) {
        (self.owner.unwrap_or(self.organization), self.assigned_ms.unwrap_or(self.created_ms))
    }
}

/// A source of a virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VmJoin {
    pub source: SourceId,
    pub vm: VmId,
    /// Since when control knows the source.
    pub from_ms: UnixMs,
}

/// A virtual machine in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vm {
    pub row: VmRow,
    /// In order of their ids.
    pub sources: Vec<VmJoin>,
    /// In order of time; never empty once it has a source.
    pub places: Vec<Place>,
    /// It runs there as well.
    pub conflict: Option<SourceId>,
}

impl Vm {
    /// The source of where it is now.
    pub(super) fn source(&self) -> Option<SourceId> {
        self.places.last().map(|place| place.source)
    }

    /// What measured it and when, each source once, the present one last.
    pub(super) fn parts(&self) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        for (source, from_ms, to_ms) in stays(&self.places) {
            let known = parts.iter().position(|part| part.source == source).map(|at| parts.remove(at));
            let mut part = known.unwrap_or(Part { source, stays: Vec::new() });
            part.stays.push((from_ms, to_ms));
            parts.push(part);
        }
        parts
    }
}

/// Every virtual machine, and where hypervisors are.
#[derive(Debug, Default)]
pub(super) struct Vms {
    pub all: BTreeMap<VmId, Arc<Vm>>,
    /// By UUID: the organisations that claim it.
    claims: HashMap<String, Vec<(OrganizationId, VmId)>>,
    /// Sources that are joined to one.
    pub joined: HashMap<SourceId, VmId>,
    /// Those that hosts are by their own agents.
    pub of_hosts: HashMap<HostId, VmId>,
    /// Which are inside of which, as the last pass found it.
    pub inside: Inside,
    /// Those with several sources: they may migrate.
    pub several: HashSet<VmId>,
    last: i64,
}

impl Vms {
    /// Takes over one that is new, or another state of one that is known.
    pub(super) fn put(&mut self, vm: Vm) {
        let id = vm.row.id;
        self.last = self.last.max(id.0);
        if let Some(host) = vm.row.host {
            self.of_hosts.insert(host, id);
        } else if !self.all.contains_key(&id) {
            self.claims.entry(vm.row.uuid.clone()).or_default().push((vm.row.organization, id));
        }
        self.joined.extend(vm.sources.iter().map(|join| (join.source, id)));
        if vm.sources.len() > 1 && vm.row.host.is_none() {
            self.several.insert(id);
        }
        self.all.insert(id, Arc::new(vm));
    }

    /// Those that are machines of their own, each once, for who sees all.
    pub(super) fn counted(&self) -> impl Iterator<Item = &Arc<Vm>> {
        self.all.values().filter(|vm| !self.inside.hidden.contains(&vm.row.id))
    }

    /// The one of an organisation with a UUID.
    pub(super) fn of_uuid(&self, organization: OrganizationId, uuid: &str) -> Option<VmId> {
        self.claims(uuid).find(|(claimant, _)| *claimant == organization).map(|(_, vm)| vm)
    }

    /// All that have a UUID.
    pub(super) fn claims(&self, uuid: &str) -> impl Iterator<Item = (OrganizationId, VmId)> + '_ {
        self.claims.get(uuid).into_iter().flatten().copied()
    }

    /// The last id that was given.
    pub(super) fn last(&self) -> i64 {
        self.last
    }
}

/// A hypervisor: a source of an agent, on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node {
    pub source: SourceId,
    pub host: HostId,
}

/// Hypervisors by the agents that report them.
pub(super) type Nodes = HashMap<AgentId, Node>;

impl Compute {
    /// One that a permit shows. A host's own row that is in no list is there by its id: people may take back what they
    /// said of it.
    pub(super) fn vm_visible(&self, permit: &Permit<MeasurementsRead>, id: VmId) -> Option<Arc<Vm>> {
        if !self.0.access.is_visible(permit, Resource::Vm(id)) {
            return None;
        }
        self.index().vms.all.get(&id).cloned()
    }

    /// Whether a permit shows a machine among others: a host's own row to those alone who do not see the hypervisor's row
    /// of the same machine.
    pub(super) fn vm_is_listed(&self, permit: &Permit<MeasurementsRead>, id: VmId) -> bool {
        let is_visible = |vm| self.0.access.is_visible(permit, Resource::Vm(vm));
        if !is_visible(id) {
            return false;
        }
        let index = self.index();
        let inside = &index.vms.inside;
        let same = || inside.vms.get(&index.vms.all.get(&id)?.row.host?).copied();
        !inside.hidden.contains(&id) || same().is_some_and(|same| !is_visible(same))
    }

    /// Who provides a machine: its own provider, else that of the host that it is or is on.
    pub(super) fn provider_of(index: &Index, vm: &Vm, agent: Option<AgentId>) -> Option<ProviderId> {
        let on = || agent.and_then(|agent| Self::node(index, agent)).map(|node| node.host);
        vm.row.provider.or_else(|| index.hosts.get(&vm.row.host.or_else(on)?)?.row.provider)
    }

    /// The host that an agent's hypervisor is.
    pub(super) fn node(index: &Index, agent: AgentId) -> Option<Node> {
        index.nodes.get(&agent).copied()
    }

    /// A host's name, for a permit that shows it.
    pub(super) fn host_named(
        &self,
        permit: &Permit<MeasurementsRead>,
        node: Option<Node>,
        agent: AgentId,
    ) -> HostNamed {
        let shown = node.filter(|node| self.0.access.is_visible(permit, Resource::Host(node.host)));
        let name = shown.and_then(|_| self.0.fleet.agent_hostname(agent)).filter(|name| !name.is_empty());
        HostNamed { host: shown.map(|node| node.host), host_name: name }
    }

    pub(super) fn index(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.0.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where something is, as far as who asks may know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HostNamed {
    pub host: Option<HostId>,
    pub host_name: Option<String>,
}
