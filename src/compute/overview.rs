//! What is to be known at a glance: how many hosts, virtual machines and agents are how, what hosts have in sum,
//! which are the busiest. A sum says of how many hosts it is; what is not known is in no sum.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

use super::Compute;
use super::board::Board;
use super::host_line::HostLine;
use super::host_list::memory_used_percent;
use super::hypervisor::HypervisorCounts;
use super::report::{HostState, HostSummary};
use super::vm::line::VmLine;
use super::vm::report::{VmState, VmSummary};
use crate::access::capability::{AgentsRead, MeasurementsRead};
use crate::access::{Permit, Resource};
use crate::fleet::{AgentCounts, AgentEvent, AgentRefusal};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{HostId, OrganizationId};

/// An overview is made anew after this.
const MADE_FOR_MS: i64 = 2_000;
/// The busiest that are named.
const BUSIEST: usize = 5;
/// A file system of which so much is in use needs somebody.
const FULL_PERCENT: f64 = 90.0;
/// The newest events that are told.
const EVENTS: usize = 12;

/// Everything at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Overview {
    /// Of when it is (Unix time in milliseconds).
    pub at_ms: UnixMs,
    /// Hosts by state.
    pub hosts: HostCounts,
    /// Hypervisors among them, and those with which something is wrong.
    pub hypervisors: HypervisorCounts,
    /// Virtual machines by state, and how many need somebody.
    pub vms: VmCounts,
    /// Agents by state, and the completeness of what they send; null for who may not see agents.
    pub agents: Option<AgentCounts>,
    /// What the hosts that report have in sum.
    pub totals: Totals,
    /// Which hosts are the busiest now.
    pub busiest: Busiest,
    /// Hosts whose fullest file system is nearly full.
    pub full: Full,
    /// What became of hosts and agents while they were the caller's, the newest first: starts of hosts, and, for who
    /// may see agents, what became of these and which machines were refused.
    pub events: Vec<Event>,
}

/// How many hosts have a file system that is nearly full.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(super) struct Full {
    /// From so much in use on.
    pub from_percent: f64,
    /// So many of the hosts that report.
    pub hosts: usize,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Event {
    /// A host was started.
    HostStarted {
        /// When, on control's clock (Unix time in milliseconds).
        at_ms: UnixMs,
        /// Which.
        #[schema(value_type = String, example = "host_1")]
        host: HostId,
        /// Its name.
        name: String,
    },
    /// An agent's state changed.
    Agent(AgentEvent),
    /// A machine was refused a certificate, or to connect with one.
    AgentRefused(AgentRefusal),
}

impl Event {
    fn at_ms(&self) -> UnixMs {
        match self {
            Self::HostStarted { at_ms, .. }
            | Self::Agent(AgentEvent { at_ms, .. })
            | Self::AgentRefused(AgentRefusal { at_ms, .. }) => *at_ms,
        }
    }
}

/// Hosts by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct HostCounts {
    /// All of them.
    pub total: usize,
    /// Reporting.
    pub up: usize,
    /// No longer reporting.
    pub stale: usize,
    /// Of which no frame ever came.
    pub never_seen: usize,
}

/// Virtual machines by state, and how many need somebody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct VmCounts {
    /// All of them.
    pub total: usize,
    /// By state; one that none is in is not there.
    pub states: BTreeMap<VmState, usize>,
    /// Those that run twice or are claimed twice.
    pub conflict: usize,
    /// Those whose time is over.
    pub expired: usize,
    /// Those that nobody was given.
    pub unowned: usize,
}

impl VmCounts {
    fn of<'a>(vms: impl Iterator<Item = &'a VmSummary>) -> Self {
        let mut counts = Self::default();
        for vm in vms {
            counts.total += 1;
            *counts.states.entry(vm.state).or_default() += 1;
            // What is there no more asks for nobody.
            let is_there = vm.state != VmState::Gone;
            counts.conflict += usize::from(is_there && vm.conflict.is_some());
            counts.expired += usize::from(is_there && vm.expired);
            counts.unowned += usize::from(is_there && !vm.assigned);
        }
        counts
    }
}

/// A sum over hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct Sum {
    /// The sum; null if it is known of none.
    pub value: Option<f64>,
    /// Over how many hosts it is.
    pub hosts: usize,
}

/// Sums over the hosts that report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct Totals {
    /// Logical processors.
    pub cpu_count: Sum,
    /// Processors that are busy: of each host its share times its processors.
    pub cpu_busy_count: Sum,
    /// Memory.
    pub memory_total_bytes: Sum,
    /// Memory that programs could get without swapping.
    pub memory_available_bytes: Sum,
    /// Space of file systems.
    pub filesystem_size_bytes: Sum,
    /// Space in use.
    pub filesystem_used_bytes: Sum,
    /// Received by hardware interfaces.
    pub network_receive_bytes_per_second: Sum,
    /// Sent.
    pub network_transmit_bytes_per_second: Sum,
}

/// The five busiest hosts in each respect, the busiest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct Busiest {
    /// By `cpu_usage_percent`.
    pub cpu_usage_percent: Vec<Busy>,
    /// By the memory that is not available.
    pub memory_used_percent: Vec<Busy>,
    /// By the fullest file system.
    pub filesystem_fullest_percent: Vec<Busy>,
    /// By what is received and sent.
    pub network_bytes_per_second: Vec<Busy>,
}

/// A busy host.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Busy {
    /// Its id.
    #[schema(value_type = String, example = "host_1")]
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// How busy.
    pub value: f64,
}

impl Sum {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            *self.value.get_or_insert(0.0) += value;
            self.hosts += 1;
        }
    }
}

/// The last overview of each organisation, by whether agents are in it, as JSON.
#[derive(Debug, Default)]
pub(super) struct Overviews(Mutex<HashMap<(OrganizationId, bool), Made>>);

#[derive(Debug)]
struct Made {
    at_ms: UnixMs,
    /// Of owners.
    revision: u64,
    json: Arc<str>,
}

impl Compute {
    /// The overview for a permit as JSON, at most two seconds old.
    pub(super) fn overview(&self, hosts: &Permit<MeasurementsRead>, agents: Option<&Permit<AgentsRead>>) -> Arc<str> {
        let key = (hosts.organization(), agents.is_some());
        let (now_ms, revision) = (self.0.clock.now_ms(), self.0.access.revision());
        // Held while one is made, so that those who ask at once do not all make one.
        let mut known = self.0.overviews.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = known.get(&key)
            && made.revision == revision
            && (0..MADE_FOR_MS).contains(&(now_ms - made.at_ms))
        {
            return Arc::clone(&made.json);
        }
        known.retain(|_, made| (0..MADE_FOR_MS).contains(&(now_ms - made.at_ms)));
        let mut told: Vec<Event> = Vec::new();
        if let Some(permit) = agents {
            told.extend(self.0.fleet.agent_events(permit, EVENTS).into_iter().map(Event::Agent));
            told.extend(self.0.fleet.agent_refusals(permit, EVENTS).into_iter().map(Event::AgentRefused));
        }
        let agents = agents.map(|permit| self.0.fleet.agent_counts(permit));
        let vms = self.look(hosts, |board: &Board<VmLine>| VmCounts::of(board.rows.iter().map(|row| &row.shown)));
        let nodes = self.hypervisors_told(now_ms).map(|told| (told.node.host, told.node.source)).collect();
        let overview = self.look(hosts, |board: &Board<HostLine>| {
            told.extend(self.started(hosts, board));
            let shown = board.rows.iter().map(|row| &row.shown);
            let hypervisors = self.hypervisor_counts(shown.clone(), &nodes, now_ms);
            of(shown, hypervisors, vms, agents, latest(told), now_ms)
        });
        let json: Arc<str> = serde_json::to_string(&overview).expect("texts and numbers are JSON").into();
        known.insert(key, Made { at_ms: now_ms, revision, json: Arc::clone(&json) });
        json
    }

    /// The latest starts of hosts in the time in which the permit's organisations owned them.
    fn started(&self, permit: &Permit<MeasurementsRead>, board: &Board<HostLine>) -> Vec<Event> {
        // Nobody owned a host before control knew it.
        let known = board.rows.iter().filter(|row| row.started_ms >= Some(row.host.row.created_ms));
        let mut latest: Vec<_> = known.filter_map(|row| Some((row.started_ms?, &row.shown))).collect();
        latest.sort_unstable_by_key(|(at_ms, host)| (Reverse(*at_ms), host.id));
        let owned = latest
            .into_iter()
            .filter(|(at_ms, host)| self.0.access.was_visible(permit, Resource::Host(host.id), *at_ms));
        let told = |(at_ms, host): (UnixMs, &HostSummary)| Event::HostStarted {
            at_ms,
            host: host.id,
            name: host.name.clone(),
        };
        owned.take(EVENTS).map(told).collect()
    }
}

/// The overview.
fn of<'a>(
    hosts: impl Iterator<Item = &'a HostSummary> + Clone,
    hypervisors: HypervisorCounts,
    vms: VmCounts,
    agents: Option<AgentCounts>,
    events: Vec<Event>,
    at_ms: UnixMs,
) -> Overview {
    let mut counts = HostCounts::default();
    let mut totals = Totals::default();
    let mut full = Full { from_percent: FULL_PERCENT, hosts: 0 };
    for host in hosts.clone() {
        counts.total += 1;
        match host.state {
            HostState::Up => counts.up += 1,
            HostState::Stale => counts.stale += 1,
            HostState::NeverSeen => counts.never_seen += 1,
        }
        if host.state != HostState::Up {
            continue;
        }
        full.hosts += usize::from(host.filesystem_fullest_percent.is_some_and(|percent| percent >= FULL_PERCENT));
        let bytes = |bytes: Option<i64>| bytes.map(|bytes| bytes as f64);
        let cores = host.cpu_count.map(|count| count as f64);
        totals.cpu_count.add(cores);
        totals.cpu_busy_count.add(cores.zip(host.cpu_usage_percent).map(|(cores, busy)| cores * busy / 100.0));
        totals.memory_total_bytes.add(bytes(host.memory_total_bytes));
        totals.memory_available_bytes.add(bytes(host.memory_available_bytes));
        totals.filesystem_size_bytes.add(bytes(host.filesystem_size_bytes));
        totals.filesystem_used_bytes.add(bytes(host.filesystem_used_bytes));
        totals.network_receive_bytes_per_second.add(host.network_receive_bytes_per_second);
        totals.network_transmit_bytes_per_second.add(host.network_transmit_bytes_per_second);
    }
    let network =
        |host: &HostSummary| Some(host.network_receive_bytes_per_second? + host.network_transmit_bytes_per_second?);
    let up = hosts.filter(|host| host.state == HostState::Up);
    let busiest = Busiest {
        cpu_usage_percent: busiest(up.clone(), |host| host.cpu_usage_percent),
        memory_used_percent: busiest(up.clone(), memory_used_percent),
        filesystem_fullest_percent: busiest(up.clone(), |host| host.filesystem_fullest_percent),
        network_bytes_per_second: busiest(up, network),
    };
    Overview { at_ms, hosts: counts, hypervisors, vms, agents, totals, busiest, full, events }
}

/// The newest of what happened.
fn latest(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| Reverse(event.at_ms()));
    events.truncate(EVENTS);
    events
}

fn busiest<'a>(hosts: impl Iterator<Item = &'a HostSummary>, value: impl Fn(&HostSummary) -> Option<f64>) -> Vec<Busy> {
    let mut first: Vec<(f64, &HostSummary)> = Vec::with_capacity(BUSIEST + 1);
    for host in hosts {
        let Some(value) = value(host) else { continue };
        if first.len() == BUSIEST && first.last().is_some_and(|(least, _)| value <= *least) {
            continue;
        }
        // Of equals the one with the smaller id stays first.
        let at = first.partition_point(|(other, _)| *other >= value);
        first.insert(at, (value, host));
        first.truncate(BUSIEST);
    }
    first.into_iter().map(|(value, host)| Busy { id: host.id, name: host.name.clone(), value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::host_list::tests::host;

    #[test]
    fn what_is_not_known_is_in_no_sum() {
        let mut hosts: Vec<_> = (1..=8).map(|id| host(id, "up", Some(id as f64), HostState::Up)).collect();
        hosts.push(host(9, "again", Some(8.0), HostState::Up));
        hosts.push(host(10, "unknown", None, HostState::Up));
        let mut gone = host(11, "gone", None, HostState::Stale);
        gone.cpu_count = Some(64);
        hosts.extend([gone, host(12, "new", None, HostState::NeverSeen)]);
        hosts[0].cpu_count = Some(2);
        hosts[9].cpu_count = Some(4);
        hosts[1].filesystem_fullest_percent = Some(90.0);
        hosts[2].filesystem_fullest_percent = Some(89.9);
        let overview = of(hosts.iter(), HypervisorCounts::default(), VmCounts::default(), None, Vec::new(), 7);
        assert_eq!(overview.full.hosts, 1);
        assert_eq!(overview.hosts, HostCounts { total: 12, up: 10, stale: 1, never_seen: 1 });
        assert_eq!(overview.totals.cpu_count, Sum { value: Some(6.0), hosts: 2 });
        assert_eq!(overview.totals.cpu_busy_count, Sum { value: Some(0.02), hosts: 1 });
        assert_eq!(overview.totals.memory_total_bytes, Sum::default());
        let busy: Vec<_> = overview.busiest.cpu_usage_percent.iter().map(|busy| (busy.id.0, busy.value)).collect();
        assert_eq!(busy, [(8, 8.0), (9, 8.0), (7, 7.0), (6, 6.0), (5, 5.0)]);
        assert!(overview.busiest.network_bytes_per_second.is_empty());
    }
}
