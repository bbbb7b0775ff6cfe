//! Hypervisors as their hosts show them, by the agent of libvirt. It stands in for a host's own where there is none:
//! the host is named and its state is told then, and its figures are not known, because nobody measured them.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use utoipa::ToSchema;

use super::report::{HostState, HostSummary, fact};
use super::vm::Node;
use super::{Compute, Host, Index};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Resource};
use crate::fleet::Fleet;
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, HostId, SourceId};
use crate::telemetry::{Glance, SourceView};

/// Of those that need somebody so many are named.
const NAMED: usize = 4;

/// A hypervisor by the agent that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub agent: AgentId,
    pub node: Node,
    /// It reports now.
    pub reports: bool,
}

/// A hypervisor's source that a permit shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ShownNode {
    pub view: SourceView,
    /// The permit shows its agent as well.
    pub agent_shown: bool,
}

/// The hypervisor on a host, as the agent of libvirt reports it. What is not known now is null.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct HypervisorReport {
    /// That agent.
    #[schema(value_type = String, example = "agent_1")]
    pub agent: AgentId,
    /// Whether it reports.
    pub state: HostState,
    /// Instant of its newest frame (Unix time in milliseconds).
    pub last_report_ms: Option<UnixMs>,
    /// Libvirt answers it.
    pub libvirt_up: Option<bool>,
    /// Virtual machines that libvirt lists beyond those that one agent reports.
    pub vms_left_out: Option<i64>,
    /// Calls that libvirt has not answered in time, and not yet since.
    pub calls_hanging: Option<i64>,
    /// What runs the virtual machines, as libvirt names it.
    #[schema(example = "QEMU")]
    pub kind: Option<String>,
    /// Version of that.
    #[schema(example = "7.2.0")]
    pub version: Option<String>,
    /// Version of libvirt.
    #[schema(example = "9.0.0")]
    pub libvirt_version: Option<String>,
    /// Its virtual networks, as they were told last, in order of name.
    pub networks: Vec<NetworkReport>,
}

/// A virtual network of a hypervisor. What is not known is null.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct NetworkReport {
    /// Its name.
    #[schema(example = "default")]
    pub name: String,
    /// It is up.
    pub active: Option<bool>,
    /// It starts with its host.
    pub autostart: Option<bool>,
    /// The bridge on the host.
    #[schema(example = "virbr0")]
    pub bridge: Option<String>,
    /// How it leaves the host: `nat`, `route`, `bridge`, …; null: not at all, or it was not told.
    pub forward: Option<String>,
}

/// The networks that an inventory names.
fn networks(facts: &BTreeMap<String, String>) -> Vec<NetworkReport> {
    let network = |(key, value): (&String, &String)| {
        let name = key.strip_prefix("network.")?.to_owned();
        let told: serde_json::Value = serde_json::from_str(value).unwrap_or_default();
        let is = |field: &str| told[field].as_bool();
        let text = |field: &str| told[field].as_str().map(str::to_owned);
        let (active, autostart, bridge, forward) = (is("active"), is("autostart"), text("bridge"), text("forward"));
        Some(NetworkReport { name, active, autostart, bridge, forward })
    };
    facts.iter().filter_map(network).collect()
}

/// How many hypervisors there are, and with which something is wrong.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct HypervisorCounts {
    /// All of them.
    pub total: usize,
    /// Those that report that libvirt does not answer.
    pub libvirt_down: TroubledHosts,
    /// Those that report that libvirt lists more virtual machines than one agent reports.
    pub leaving_out: TroubledHosts,
}

/// Hosts that need somebody.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct TroubledHosts {
    /// How many.
    pub count: usize,
    /// The first of them.
    pub hosts: Vec<TroubledHost>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct TroubledHost {
    /// Its id.
    #[schema(value_type = String, example = "host_1")]
    pub id: HostId,
    /// Its name.
    pub name: String,
}

impl TroubledHosts {
    fn add(&mut self, host: &HostSummary) {
        self.count += 1;
        if self.hosts.len() < NAMED {
            self.hosts.push(TroubledHost { id: host.id, name: host.name.clone() });
        }
    }
}

/// What a frame says of libvirt; nothing of what it does not hold.
#[derive(Debug, Clone, Copy, Default)]
struct Health {
    up: Option<bool>,
    left_out: Option<i64>,
    hanging: Option<i64>,
}

impl Health {
    /// `None`: the frame is not of now.
    fn of(glance: &Glance<'_>, now_ms: UnixMs) -> Option<Self> {
        let value = |metric: &str| {
            let column = glance.schema.columns.iter().position(|column| column.metric == metric)?;
            glance.value(column)
        };
        (!glance.is_stale(now_ms)).then(|| Self {
            up: value("libvirt_up").map(|up| up == 1),
            left_out: value("tongtu_libvirt_domains_left_out"),
            hanging: value("tongtu_libvirt_calls_hanging"),
        })
    }
}

impl Index {
    /// The hypervisor of each host, retired or not: the newest of those whose agents were not revoked, if there is one.
    pub(super) fn nodes_by_host(&self, fleet: &Fleet) -> HashMap<HostId, SourceId> {
        let mut newest: HashMap<HostId, (bool, SourceId)> = HashMap::with_capacity(self.nodes.len());
        for (agent, node) in &self.nodes {
            let told = (!fleet.agent_is_revoked(*agent), node.source);
            let known = newest.entry(node.host).or_insert(told);
            *known = told.max(*known);
        }
        newest.into_iter().map(|(host, (_, source))| (host, source)).collect()
    }
}

impl Compute {
    /// The hypervisors, in order of host: of several agents on one machine the one that reports, then the newest. One of
    /// which every agent was revoked is there no more.
    pub(super) fn hypervisors_told(&self, now_ms: UnixMs) -> impl Iterator<Item = Told> {
        let nodes: Vec<(AgentId, Node)> = self.index().nodes.iter().map(|(agent, node)| (*agent, *node)).collect();
        let mut found: BTreeMap<HostId, Told> = BTreeMap::new();
        for (agent, node) in nodes {
            if self.0.fleet.agent_is_revoked(agent) {
                continue;
            }
            let view = self.0.telemetry.source_known(node.source);
            let reports = view.and_then(|view| view.glance(|glance| !glance.is_stale(now_ms))).unwrap_or(false);
            let told = Told { agent, node, reports };
            let known = found.entry(node.host).or_insert(told);
            if (known.reports, known.node.source) < (reports, node.source) {
                *known = told;
            }
        }
        found.into_values()
    }

    /// A hypervisor, for a permit that shows it.
    pub(super) fn node_shown(&self, permit: &Permit<MeasurementsRead>, source: SourceId) -> Option<ShownNode> {
        let view = self.0.telemetry.source(permit, source)?;
        let agent_shown = self.0.access.is_visible(permit, Resource::Agent(view.agent()));
        Some(ShownNode { view, agent_shown })
    }

    /// A host that the agent of its hypervisor alone reports.
    pub(super) fn told_by_node(&self, host: &Host, node: &ShownNode, now_ms: UnixMs) -> HostSummary {
        let agent = node.view.agent();
        let (state, last_report_ms) = node.seen(now_ms);
        let name = self.hostname(agent, node.agent_shown);
        let name = name.or_else(|| fact(node.view.facts().as_deref(), "hostname"));
        let name = name.unwrap_or_else(|| host.row.machine_id.clone());
        HostSummary {
            agent: Some(agent),
            state,
            last_report_ms,
            ..HostSummary::unmeasured(host.row.id, name, self.owner(host))
        }
    }

    /// How many of some hosts (in order of id) are hypervisors, and which of them need somebody.
    pub(super) fn hypervisor_counts<'a>(
        &self,
        hosts: impl Iterator<Item = &'a HostSummary>,
        nodes: &HashMap<HostId, SourceId>,
        now_ms: UnixMs,
    ) -> HypervisorCounts {
        let mut counts = HypervisorCounts::default();
        for host in hosts {
            let Some(node) = nodes.get(&host.id) else { continue };
            counts.total += 1;
            let view = self.0.telemetry.source_known(*node);
            let health = view.and_then(|view| view.glance(|glance| Health::of(&glance, now_ms))?);
            let Health { up, left_out, .. } = health.unwrap_or_default();
            if up == Some(false) {
                counts.libvirt_down.add(host);
            }
            if left_out.is_some_and(|left_out| left_out > 0) {
                counts.leaving_out.add(host);
            }
        }
        counts
    }
}

impl ShownNode {
    /// Whether its agent reports, and the instant of its newest frame.
    fn seen(&self, now_ms: UnixMs) -> (HostState, Option<UnixMs>) {
        match self.view.glance(|glance| (glance.is_stale(now_ms), glance.instant_ms)) {
            None => (HostState::NeverSeen, None),
            Some((true, instant_ms)) => (HostState::Stale, Some(instant_ms)),
            Some((false, instant_ms)) => (HostState::Up, Some(instant_ms)),
        }
    }

    /// As its host's page shows it.
    pub(super) fn report(&self, now_ms: UnixMs) -> HypervisorReport {
        let (state, last_report_ms) = self.seen(now_ms);
        let health = self.view.glance(|glance| Health::of(&glance, now_ms));
        let Health { up, left_out, hanging } = health.flatten().unwrap_or_default();
        let facts = self.view.facts();
        let fact = |name: &str| fact(facts.as_deref(), name);
        HypervisorReport {
            agent: self.view.agent(),
            state,
            last_report_ms,
            libvirt_up: up,
            vms_left_out: left_out,
            calls_hanging: hanging,
            kind: fact("hypervisor"),
            version: fact("hypervisor_version"),
            libvirt_version: fact("libvirt_version"),
            networks: facts.as_ref().map(|facts| networks(&facts.values)).unwrap_or_default(),
        }
    }
}
