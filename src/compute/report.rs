//! What is shown of a host, and how it is made from the newest frame of its newest source.
//!
//! A list has what a table of hosts shows and sorts by; everything else is on the host's page.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::figures::{Details, Figures, Plan, details, figures};
use super::hypervisor::{HypervisorReport, ShownNode};
use super::joining::Join;
use super::{Compute, Host};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Resource};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, HostId, OrganizationId, ProviderId, SourceId, VmId};
use crate::telemetry::{Facts, Glance, SourceView};

/// How a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum HostState {
    /// No frame ever came.
    NeverSeen,
    /// Its last frame is of now.
    Up,
    /// It stopped reporting: present figures are null.
    Stale,
}

impl HostState {
    /// As the API names it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NeverSeen => "never_seen",
            Self::Up => "up",
            Self::Stale => "stale",
        }
    }
}

/// A host, as lists show it. What is not known is null.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct HostSummary {
    /// Its id.
    #[schema(value_type = String, example = "host_1")]
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Its owner.
    #[schema(value_type = String, example = "org_1")]
    pub organization: OrganizationId,
    /// The agent that reports it: its own, or that of its hypervisor, if it has no other.
    #[schema(value_type = Option<String>, example = "agent_1")]
    pub agent: Option<AgentId>,
    /// The source that its figures come from; null: none of its own agent's.
    #[schema(value_type = Option<String>, example = "source_1")]
    pub source: Option<SourceId>,
    /// How it is.
    pub state: HostState,
    /// Instant of its newest frame (Unix time in milliseconds).
    pub last_report_ms: Option<UnixMs>,
    /// Since when it runs, at its last report.
    pub uptime_seconds: Option<f64>,
    /// Operating system.
    pub operating_system: Option<String>,
    /// Logical processors.
    pub cpu_count: Option<usize>,
    /// Share of all processors' time that was not idle, between the last two frames.
    pub cpu_usage_percent: Option<f64>,
    /// Load average over one minute.
    pub load_1m: Option<f64>,
    /// Memory.
    pub memory_total_bytes: Option<i64>,
    /// Memory that programs could get without swapping.
    pub memory_available_bytes: Option<i64>,
    /// Received by the hardware interfaces, between the last two frames.
    pub network_receive_bytes_per_second: Option<f64>,
    /// Sent by the hardware interfaces.
    pub network_transmit_bytes_per_second: Option<f64>,
    /// Space of its file systems, each device once.
    pub filesystem_size_bytes: Option<i64>,
    /// Space in use.
    pub filesystem_used_bytes: Option<i64>,
    /// How full the fullest file system is, as `df` tells it.
    pub filesystem_fullest_percent: Option<f64>,
}

/// A host with everything that is known of it now.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct HostDetail {
    #[serde(flatten)]
    pub summary: HostSummary,
    /// Identity of the machine.
    pub machine_id: String,
    /// The instant of its newest frame rests on the host's own clock alone.
    pub clock_uncertain: bool,
    /// When it was started.
    pub boot_time_ms: Option<UnixMs>,
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// `x86_64`, `aarch64`, …
    pub architecture: Option<String>,
    /// `kvm`, `vmware`, …, `none`.
    pub virtualization: Option<String>,
    /// Model of the processor.
    pub cpu_model: Option<String>,
    /// Load average over five minutes.
    pub load_5m: Option<f64>,
    /// Load average over fifteen minutes.
    pub load_15m: Option<f64>,
    /// Since when control knows it.
    pub created_ms: UnixMs,
    /// Another organisation's host has the same machine id: one of them is a copy.
    pub machine_id_claimed_twice: bool,
    /// Swap space.
    pub swap_total_bytes: Option<i64>,
    /// Swap space that nothing uses.
    pub swap_free_bytes: Option<i64>,
    /// Share of all processors' time by mode.
    pub cpu_percent_by_mode: BTreeMap<String, f64>,
    /// Its network interfaces.
    pub interfaces: Vec<InterfaceReport>,
    /// Its file systems.
    pub filesystems: Vec<FilesystemReport>,
    /// Its inventory.
    pub facts: BTreeMap<String, String>,
    /// Since when the inventory holds.
    pub facts_since_ms: Option<UnixMs>,
    /// What measured it, oldest first.
    pub sources: Vec<HostSource>,
    /// Who provides it.
    #[schema(value_type = Option<String>, example = "provider_1")]
    pub provider: Option<ProviderId>,
    /// The virtual machine that it is, by a hypervisor's word or its own.
    #[schema(value_type = Option<String>, example = "vm_1")]
    pub vm: Option<VmId>,
    /// The hypervisor on it; null: no agent reports one.
    pub hypervisor: Option<HypervisorReport>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct InterfaceReport {
    /// Its name.
    #[schema(example = "eth0")]
    pub name: String,
    /// It is hardware, and counts in the host's sums.
    pub physical: bool,
    /// It is operational.
    pub up: Option<bool>,
    /// Speed of its link.
    pub speed_bytes_per_second: Option<f64>,
    /// Received between the last two frames.
    pub receive_bytes_per_second: Option<f64>,
    /// Sent.
    pub transmit_bytes_per_second: Option<f64>,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct FilesystemReport {
    /// Where it is mounted.
    #[schema(example = "/")]
    pub mountpoint: String,
    /// What it is on.
    pub device: String,
    /// Its type.
    #[schema(example = "ext4")]
    pub kind: String,
    /// Its size.
    pub size_bytes: Option<i64>,
    /// Free space that is not reserved for root.
    pub available_bytes: Option<i64>,
    /// Space in use.
    pub used_bytes: Option<i64>,
}

/// A source that measured a host.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct HostSource {
    /// Its id.
    #[schema(value_type = String, example = "source_1")]
    pub source: SourceId,
    /// Since when.
    pub from_ms: UnixMs,
}

/// A source of a host that a permit shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    pub join: Join,
    pub source: SourceView,
    /// The permit shows its agent as well.
    pub agent_shown: bool,
}

/// What only a host's page shows of its newest frame.
#[derive(Debug, Default)]
struct Page {
    clock_uncertain: bool,
    boot_time_ms: Option<UnixMs>,
    kernel: Option<String>,
    architecture: Option<String>,
    load: [Option<f64>; 3],
    details: Details,
}

impl Compute {
    /// A host's page.
    pub(super) fn detail(&self, permit: &Permit<MeasurementsRead>, host: &Host, now_ms: UnixMs) -> HostDetail {
        let sources = self.shown(permit, host);
        let node = self.index().nodes_by_host(&self.0.fleet).remove(&host.row.id);
        let node = node.and_then(|node| self.node_shown(permit, node));
        // A host's own agent comes before.
        let stand_in = node.as_ref().filter(|_| sources.is_empty());
        let newest = newest(&sources);
        let facts = newest.and_then(|newest| newest.source.facts());
        let measured = newest.and_then(|newest| {
            newest.source.glance(|glance| {
                let plan = self.plan(glance.schema);
                let summary = self.measured(host, newest, &plan, &glance, facts.as_deref(), now_ms);
                let known = figures(&plan, &glance);
                let stale = glance.is_stale(now_ms);
                let page = Page {
                    clock_uncertain: glance.clock_uncertain,
                    boot_time_ms: known.boot_time_ms,
                    kernel: plan.kernel(glance.schema).map(str::to_owned),
                    architecture: plan.architecture(glance.schema).map(str::to_owned),
                    load: if stale { [None; 3] } else { known.load },
                    details: if stale { Details::default() } else { details(&plan, &glance) },
                };
                (summary, page)
            })
        });
        let unmeasured = || (self.unmeasured(host, newest, stand_in, now_ms), Page::default());
        let (summary, page) = measured.unwrap_or_else(unmeasured);
        let Page { clock_uncertain, boot_time_ms, kernel, architecture, load, details } = page;
        let told = stand_in.and_then(|node| node.view.facts());
        let fact = |name: &str| fact(facts.as_deref().or(told.as_deref()), name);
        HostDetail {
            machine_id_claimed_twice: self.is_claimed_twice(permit, &host.row),
            provider: host.row.provider,
            hypervisor: node.as_ref().map(|node| node.report(now_ms)),
            vm: {
                let (same, own) = {
                    let vms = &self.index().vms;
                    let same = vms.inside.vms.get(&host.row.id).copied();
                    (same, same.and_then(|_| vms.of_hosts.get(&host.row.id).copied()))
                };
                [same, own].into_iter().flatten().find(|vm| self.vm_is_listed(permit, *vm))
            },
            summary,
            machine_id: host.row.machine_id.clone(),
            clock_uncertain,
            boot_time_ms,
            kernel: fact("kernel").or(kernel),
            architecture: fact("architecture").or(architecture),
            virtualization: fact("virtualization"),
            cpu_model: fact("cpu_model"),
            load_5m: load[1],
            load_15m: load[2],
            created_ms: host.row.created_ms,
            swap_total_bytes: whole(details.swap_total_bytes),
            swap_free_bytes: whole(details.swap_free_bytes),
            cpu_percent_by_mode: details.cpu_percent_by_mode,
            interfaces: details
                .interfaces
                .into_iter()
                .map(|interface| InterfaceReport {
                    name: interface.name,
                    physical: interface.physical,
                    up: interface.up,
                    speed_bytes_per_second: interface.speed_bytes_per_second,
                    receive_bytes_per_second: interface.receive_bytes_per_second,
                    transmit_bytes_per_second: interface.transmit_bytes_per_second,
                })
                .collect(),
            filesystems: details
                .filesystems
                .into_iter()
                .map(|filesystem| FilesystemReport {
                    mountpoint: filesystem.mountpoint,
                    device: filesystem.device,
                    kind: filesystem.kind,
                    size_bytes: whole(filesystem.size_bytes),
                    available_bytes: whole(filesystem.available_bytes),
                    used_bytes: whole(filesystem.used_bytes),
                })
                .collect(),
            facts: facts.as_ref().map(|facts| facts.values.clone()).unwrap_or_default(),
            facts_since_ms: facts.map(|facts| facts.instant_ms),
            sources: host
                .sources()
                .into_iter()
                .filter(|join| self.0.access.is_visible(permit, Resource::Source(join.source)))
                .map(|join| HostSource { source: join.source, from_ms: join.from_ms })
                .collect(),
        }
    }

    /// The sources of a host that a permit shows, the newest last.
    pub(super) fn shown(&self, permit: &Permit<MeasurementsRead>, host: &Host) -> Vec<Shown> {
        let sources = host.sources.read().unwrap_or_else(PoisonError::into_inner);
        let shown = |join: &Join| {
            let source = self.0.telemetry.source(permit, join.source)?;
            let agent_shown = self.0.access.is_visible(permit, Resource::Agent(source.agent()));
            Some(Shown { join: *join, source, agent_shown })
        };
        sources.iter().filter_map(shown).collect()
    }

    pub(super) fn owner(&self, host: &Host) -> OrganizationId {
        let resource = Resource::Host(host.row.id);
        self.0.access.owner(resource).unwrap_or(host.row.organization)
    }

    /// What an agent's machine calls itself, if the agent is shown.
    pub(super) fn hostname(&self, agent: AgentId, agent_shown: bool) -> Option<String> {
        let name = agent_shown.then(|| self.0.fleet.agent_hostname(agent));
        name.flatten().filter(|name| !name.is_empty())
    }

    fn hostname_of(&self, from: &Shown) -> Option<String> {
        self.hostname(from.source.agent(), from.agent_shown)
    }

    pub(super) fn measured(
        &self,
        host: &Host,
        from: &Shown,
        plan: &Plan,
        glance: &Glance<'_>,
        facts: Option<&Facts>,
        now_ms: UnixMs,
    ) -> HostSummary {
        let stale = glance.is_stale(now_ms);
        let fact = |name: &str| fact(facts, name);
        let schema = glance.schema;
        let known = figures(plan, glance);
        let boot_time_ms = known.boot_time_ms;
        let figures = if stale { Figures::default() } else { known };
        HostSummary {
            id: host.row.id,
            name: self.hostname_of(from).or_else(|| fact("hostname")).unwrap_or_else(|| host.row.machine_id.clone()),
            organization: self.owner(host),
            agent: Some(from.source.agent()),
            source: Some(from.join.source),
            state: if stale { HostState::Stale } else { HostState::Up },
            last_report_ms: Some(glance.instant_ms),
            uptime_seconds: boot_time_ms
                .map(|boot_ms| glance.instant_ms.saturating_sub(boot_ms) as f64 / 1_000.0)
                .filter(|uptime| *uptime >= 0.0),
            operating_system: fact("os_name").or_else(|| plan.operating_system(schema).map(str::to_owned)),
            cpu_count: plan.cpu_count(),
            cpu_usage_percent: figures.cpu_usage_percent,
            load_1m: figures.load[0],
            memory_total_bytes: whole(figures.memory_total_bytes),
            memory_available_bytes: whole(figures.memory_available_bytes),
            network_receive_bytes_per_second: figures.network_receive_bytes_per_second,
            network_transmit_bytes_per_second: figures.network_transmit_bytes_per_second,
            filesystem_size_bytes: whole(figures.filesystem_size_bytes),
            filesystem_used_bytes: whole(figures.filesystem_used_bytes),
            filesystem_fullest_percent: figures.filesystem_fullest_percent,
        }
    }

    /// A host of which no frame ever came, or which its hypervisor's agent alone reports (`node`).
    pub(super) fn unmeasured(
        &self,
        host: &Host,
        from: Option<&Shown>,
        node: Option<&ShownNode>,
        now_ms: UnixMs,
    ) -> HostSummary {
        if let Some(node) = node {
            return self.told_by_node(host, node, now_ms);
        }
        let name = from.and_then(|from| self.hostname_of(from)).unwrap_or_else(|| host.row.machine_id.clone());
        HostSummary {
            agent: from.map(|from| from.source.agent()),
            source: from.map(|from| from.join.source),
            ..HostSummary::unmeasured(host.row.id, name, self.owner(host))
        }
    }
}

impl HostSummary {
    /// A host of which no frame ever came.
    pub(super) fn unmeasured(id: HostId, name: String, organization: OrganizationId) -> Self {
        Self {
            id,
            name,
            organization,
            agent: None,
            source: None,
            state: HostState::NeverSeen,
            last_report_ms: None,
            uptime_seconds: None,
            operating_system: None,
            cpu_count: None,
            cpu_usage_percent: None,
            load_1m: None,
            memory_total_bytes: None,
            memory_available_bytes: None,
            network_receive_bytes_per_second: None,
            network_transmit_bytes_per_second: None,
            filesystem_size_bytes: None,
            filesystem_used_bytes: None,
            filesystem_fullest_percent: None,
        }
    }
}

/// Bytes are whole; the exponents of their columns are 0.
fn whole(bytes: Option<f64>) -> Option<i64> {
    bytes.map(|bytes| bytes as i64)
}

/// The source with the newest frame; without any frame the newest source.
pub(super) fn newest(sources: &[Shown]) -> Option<&Shown> {
    match sources {
        [] => None,
        [only] => Some(only),
        several => several
            .iter()
            .max_by_key(|one| (one.source.glance(|glance| glance.instant_ms), one.join.from_ms, one.join.source)),
    }
}

pub(super) fn fact(facts: Option<&Facts>, name: &str) -> Option<String> {
    facts.and_then(|facts| facts.values.get(name)).filter(|text| !text.is_empty()).cloned()
}
