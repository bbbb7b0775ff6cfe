//! Hypervisors as their hosts show them, by the agent of libvirt. It stands in for a host's own agent where there is none:
//! then the host is named and its state is told, and its figures are not known, because nobody measured them.

use std::collections::HashMap;

use super::report::{HostState, HostSummary, fact};
use super::{Compute, Host, Index};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Resource};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{HostId, SourceId};
use crate::telemetry::SourceView;

/// A hypervisor's source that a permit shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ShownNode {
    pub view: SourceView,
    /// The permit shows its agent as well.
    pub agent_shown: bool,
}

impl Index {
    /// The newest hypervisor of each host.
    pub(super) fn nodes_by_host(&self) -> HashMap<HostId, SourceId> {
        let mut newest = HashMap::with_capacity(self.nodes.len());
        for node in self.nodes.values() {
            let known = newest.entry(node.host).or_insert(node.source);
            *known = node.source.max(*known);
        }
        newest
    }

    /// The newest hypervisor of one.
    pub(super) fn node_on(&self, host: HostId) -> Option<SourceId> {
        self.nodes.values().filter(|node| node.host == host).map(|node| node.source).max()
    }
}

impl Compute {
    /// A hypervisor, for a permit that shows it.
    pub(super) fn node_shown(&self, permit: &Permit<MeasurementsRead>, source: SourceId) -> Option<ShownNode> {
        let view = self.0.telemetry.source(permit, source)?;
        let agent_shown = self.0.access.is_visible(permit, Resource::Agent(view.agent()));
        Some(ShownNode { view, agent_shown })
    }

    /// A host that the agent of its hypervisor alone reports.
    pub(super) fn told_by_node(&self, host: &Host, node: &ShownNode, now_ms: UnixMs) -> HostSummary {
        let agent = node.view.agent();
        let seen = node.view.glance(|glance| (glance.is_stale(now_ms), glance.instant_ms));
        let name = self.hostname(agent, node.agent_shown);
        let name = name.or_else(|| fact(node.view.facts().as_deref(), "hostname"));
        let name = name.unwrap_or_else(|| host.row.machine_id.clone());
        HostSummary {
            agent: Some(agent),
            state: match seen {
                None => HostState::NeverSeen,
                Some((true, _)) => HostState::Stale,
                Some((false, _)) => HostState::Up,
            },
            last_report_ms: seen.map(|(_, instant_ms)| instant_ms),
            ..HostSummary::unmeasured(host.row.id, name, self.owner(host))
        }
    }
}
