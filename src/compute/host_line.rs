//! A host as a board shows it.

use std::sync::{Arc, PoisonError};

use super::board::{Boards, Line};
use super::figures::Plan;
use super::hypervisor::ShownNode;
use super::report::{HostSummary, Shown, newest};
use super::{Compute, Host};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Resource};
use crate::platform::clock::UnixMs;
use crate::platform::ids::SourceId;

/// A host as it is shown.
#[derive(Debug)]
pub(super) struct HostLine {
    pub host: Arc<Host>,
    pub shown: HostSummary,
    /// The same.
    pub json: Vec<u8>,
    /// [`Board::version`](super::board::Board::version) of the look that found it changed.
    pub changed: u64,
    /// When it was started last, on control's clock.
    pub started_ms: Option<UnixMs>,
    /// The boot that began then.
    boot: Option<u32>,
    sources: Vec<Shown>,
    /// Its hypervisor's source, if it has no other.
    node: Option<ShownNode>,
    key: Option<Key>,
    /// Up to then it reports, if no other frame comes.
    up_until_ms: UnixMs,
    plan: Option<(i64, Arc<Plan>)>,
}

/// Two looks at a host that find the same key show the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    source: SourceId,
    schema: i64,
    instant_ms: UnixMs,
    before_ms: Option<UnixMs>,
    stale: bool,
    facts_ms: Option<UnixMs>,
}

impl Line for HostLine {
    fn boards(compute: &Compute) -> &Boards<Self> {
        &compute.0.boards
    }

    fn revision(compute: &Compute) -> u64 {
        compute.0.index.read().unwrap_or_else(PoisonError::into_inner).revision
    }

    fn found(compute: &Compute, permit: &Permit<MeasurementsRead>, known: Vec<Self>) -> Vec<Self> {
        let index = compute.0.index.read().unwrap_or_else(PoisonError::into_inner);
        let nodes = index.nodes_by_host(&compute.0.fleet);
        let mut known = known.into_iter().peekable();
        let visible = index.hosts.iter().filter(|(id, _)| compute.0.access.is_visible(permit, Resource::Host(**id)));
        visible
            .map(|(id, host)| {
                while known.next_if(|line| line.host.row.id < *id).is_some() {}
                let line = known.next_if(|line| line.host.row.id == *id);
                Self::new(compute, permit, host, nodes.get(id).copied(), line)
            })
            .collect()
    }

    fn number(&self) -> i64 {
        self.host.row.id.0
    }

    fn show(&mut self, compute: &Compute, now_ms: UnixMs, version: u64) {
        let Self { host, sources, node, key: known, plan, .. } = self;
        let newest = newest(sources);
        let facts_ms = newest.and_then(|newest| newest.source.facts_instant_ms());
        let measured = newest.and_then(|newest| {
            newest.source.glance(|glance| {
                let schema = glance.schema.number;
                let key = Key {
                    source: newest.join.source,
                    schema,
                    instant_ms: glance.instant_ms,
                    before_ms: glance.before.map(|before| before.instant_ms),
                    stale: glance.is_stale(now_ms),
                    facts_ms,
                };
                if *known == Some(key) {
                    return None;
                }
                let plan = match plan {
                    Some((number, plan)) if *number == schema => Arc::clone(plan),
                    _ => {
                        let new = compute.plan(glance.schema);
                        *plan = Some((schema, Arc::clone(&new)));
                        new
                    }
                };
                let facts = newest.source.facts();
                let shown = compute.measured(host, newest, &plan, &glance, facts.as_deref(), now_ms);
                Some((key, glance.up_until_ms(), shown, glance.boot))
            })
        });
        let (key, up_until_ms, shown, boot) = match measured {
            Some(None) => return,
            Some(Some((key, up_until_ms, shown, boot))) => (Some(key), up_until_ms, shown, Some(boot)),
            None => (None, UnixMs::MIN, compute.unmeasured(host, newest, node.as_ref(), now_ms), None),
        };
        // Asked once a boot: a later anchor would move it by milliseconds.
        if boot != self.boot || self.started_ms.is_none() {
            let agent = newest.map(|newest| newest.source.agent());
            self.started_ms = agent.zip(boot).and_then(|(agent, boot)| compute.0.telemetry.boot_began_ms(agent, boot));
            self.boot = boot;
        }
        (self.key, self.up_until_ms) = (key, up_until_ms);
        if shown != self.shown || self.json.is_empty() {
            self.json.clear();
            serde_json::to_writer(&mut self.json, &shown).expect("texts and numbers are JSON");
            self.shown = shown;
            self.changed = version;
        }
    }

    fn is_certain(&self, now_ms: UnixMs) -> bool {
        self.key.is_some_and(|key| !key.stale) && now_ms <= self.up_until_ms
    }
}

impl HostLine {
    fn new(
        compute: &Compute,
        permit: &Permit<MeasurementsRead>,
        host: &Arc<Host>,
        node: Option<SourceId>,
        known: Option<Self>,
    ) -> Self {
        let sources = compute.shown(permit, host);
        // A host's own agent comes before.
        let node = node.filter(|_| sources.is_empty()).and_then(|node| compute.node_shown(permit, node));
        let is_same = |line: &Self| {
            line.sources == sources && line.node == node && line.shown.organization == compute.owner(host)
        };
        match known {
            // What it is made of is the same.
            Some(line) if is_same(&line) => Self { host: Arc::clone(host), ..line },
            Some(line) => Self { host: Arc::clone(host), sources, node, key: None, ..line },
            None => Self {
                host: Arc::clone(host),
                shown: compute.unmeasured(host, None, None, UnixMs::MIN),
                json: Vec::new(),
                changed: 0,
                started_ms: None,
                boot: None,
                sources,
                node,
                key: None,
                up_until_ms: UnixMs::MIN,
                plan: None,
            },
        }
    }
}
