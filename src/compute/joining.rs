//! Which source is of which host. Pure.
//!
//! A host is one machine over time within one organisation. What must hold: an agent that is
//! enrolled anew on the same machine keeps the host; a machine id that two organisations claim makes
//! two hosts, never one that both see; deciding twice changes nothing.

use std::collections::HashMap;

use crate::platform::clock::UnixMs;
use crate::platform::ids::{HostId, OrganizationId, ProviderId, SourceId};

/// A host as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostRow {
    pub id: HostId,
    pub organization: OrganizationId,
    pub machine_id: String,
    pub created_ms: UnixMs,
    pub provider: Option<ProviderId>,
}

/// A source that belongs to a host, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Join {
    pub source: SourceId,
    pub host: HostId,
    pub from_ms: UnixMs,
}

/// A host's source that belongs to none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loose {
    pub source: SourceId,
    pub organization: OrganizationId,
    pub machine_id: String,
    pub created_ms: UnixMs,
}

/// The hosts known, by what makes them one.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By machine id: the organisations that claim it.
    hosts: HashMap<String, Vec<(OrganizationId, HostId)>>,
    last: i64,
}

/// What is to be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    pub hosts: Vec<HostRow>,
    pub joins: Vec<Join>,
}

impl Known {
    pub(super) fn insert(&mut self, host: &HostRow) {
        self.last = self.last.max(host.id.0);
        self.hosts.entry(host.machine_id.clone()).or_default().push((host.organization, host.id));
    }

    /// The hosts of every organisation that claims a machine id.
    pub(super) fn claims(&self, machine_id: &str) -> impl Iterator<Item = HostId> + '_ {
        self.hosts.get(machine_id).into_iter().flatten().map(|(_, host)| *host)
    }

    fn host(&self, organization: OrganizationId, machine_id: &str) -> Option<HostId> {
        let claims = self.hosts.get(machine_id)?;
        claims.iter().find(|(claimant, _)| *claimant == organization).map(|(_, host)| *host)
    }

    /// A host for each of these sources.
    pub(super) fn decide(&self, loose: Vec<Loose>) -> Decision {
        let mut decision = Decision::default();
        let mut new: HashMap<(OrganizationId, String), HostId> = HashMap::new();
        for Loose { source, organization, machine_id, created_ms } in loose {
            let key = (organization, machine_id);
            let known = self.host(organization, &key.1).or_else(|| new.get(&key).copied());
            let host = known.unwrap_or_else(|| {
                let id = HostId(self.last + new.len() as i64 + 1);
                let machine_id = key.1.clone();
                decision.hosts.push(HostRow { id, organization, machine_id, created_ms, provider: None });
                new.insert(key, id);
                id
            });
            decision.joins.push(Join { source, host, from_ms: created_ms });
        }
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loose(source: i64, organization: i64, machine_id: &str) -> Loose {
        Loose {
            source: SourceId(source),
            organization: OrganizationId(organization),
            machine_id: machine_id.into(),
            created_ms: source * 10,
        }
    }

    #[test]
    fn a_rebuilt_agent_keeps_its_host_and_organisations_never_share_one() {
        let mut known = Known::default();
        let first = known.decide(vec![loose(1, 1, "a"), loose(2, 2, "a"), loose(3, 1, "b"), loose(4, 1, "a")]);
        let ids: Vec<_> = first.joins.iter().map(|join| (join.source.0, join.host.0, join.from_ms)).collect();
        assert_eq!(ids, [(1, 1, 10), (2, 2, 20), (3, 3, 30), (4, 1, 40)]);
        assert_eq!(first.hosts.len(), 3);
        first.hosts.iter().for_each(|host| known.insert(host));
        let second = known.decide(vec![loose(9, 2, "a"), loose(10, 2, "c")]);
        let ids: Vec<_> = second.joins.iter().map(|join| (join.source.0, join.host.0)).collect();
        assert_eq!(ids, [(9, 2), (10, 4)]);
        assert_eq!(second.hosts.len(), 1);
        assert_eq!(known.decide(Vec::new()), Decision::default());
        assert_eq!(known.claims("a").collect::<Vec<_>>(), [HostId(1), HostId(2)]);
    }
}
