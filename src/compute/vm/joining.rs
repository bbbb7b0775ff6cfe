//! Which source is of which virtual machine. Pure.
//!
//! What must hold: a UUID within one organisation is one machine, whatever hosts report it; two organisations
//! that claim a UUID never share one; deciding twice changes nothing.

use std::collections::HashMap;

use super::placing::Place;
use super::{Vm, VmJoin, VmRow, Vms};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{OrganizationId, SourceId, VmId};

/// A domain's source that belongs to none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::compute) struct LooseDomain {
    pub source: SourceId,
    pub organization: OrganizationId,
    pub uuid: String,
    pub created_ms: UnixMs,
}

/// What is to be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::compute) struct VmDecision {
    pub new: Vec<VmRow>,
    pub joins: Vec<VmJoin>,
    /// Of those that had none.
    pub places: Vec<(VmId, Place)>,
}

/// A machine for each of these sources. Where a new one is, the first source of it says.
pub(in crate::compute) fn decide(known: &Vms, loose: Vec<LooseDomain>) -> VmDecision {
    let mut decision = VmDecision::default();
    let mut made: HashMap<(OrganizationId, String), VmId> = HashMap::new();
    for LooseDomain { source, organization, uuid, created_ms } in loose {
        let key = (organization, uuid);
        let vm = known.of_uuid(organization, &key.1).or_else(|| made.get(&key).copied());
        let vm = vm.unwrap_or_else(|| {
            let id = VmId(known.last() + made.len() as i64 + 1);
            decision.new.push(VmRow {
                id,
                organization,
                uuid: key.1.clone(),
                created_ms,
                version: 1,
                owner: None,
                assigned_ms: None,
                application: None,
                purpose: None,
                expires_ms: None,
                provider: None,
                host: None,
            });
            decision.places.push((id, Place { source, from_ms: created_ms }));
            made.insert(key, id);
            id
        });
        decision.joins.push(VmJoin { source, vm, from_ms: created_ms });
    }
    decision
}

impl VmDecision {
    /// Takes over what was written.
    pub(in crate::compute) fn put(self, vms: &mut Vms) {
        for row in self.new {
            vms.put(Vm { row, sources: Vec::new(), places: Vec::new(), conflict: None });
        }
        for join in self.joins {
            let Some(vm) = vms.all.get(&join.vm) else { continue };
            let mut vm = Vm::clone(vm);
            let at = vm.sources.partition_point(|known| known.source < join.source);
            vm.sources.insert(at, join);
            vms.put(vm);
        }
        for (id, place) in self.places {
            let Some(vm) = vms.all.get(&id) else { continue };
            let mut vm = Vm::clone(vm);
            vm.places.push(place);
            vms.put(vm);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loose(source: i64, organization: i64, uuid: &str) -> LooseDomain {
        LooseDomain {
            source: SourceId(source),
            organization: OrganizationId(organization),
            uuid: uuid.to_owned(),
            created_ms: source * 10,
        }
    }

    #[test]
    fn a_uuid_is_one_machine_within_an_organisation() {
        let mut vms = Vms::default();
        let first = decide(&vms, vec![loose(1, 1, "a"), loose(2, 2, "a"), loose(3, 1, "b"), loose(4, 1, "a")]);
        let joins: Vec<_> = first.joins.iter().map(|join| (join.source.0, join.vm.0)).collect();
        assert_eq!(joins, [(1, 1), (2, 2), (3, 3), (4, 1)]);
        assert_eq!(first.places.len(), 3, "the first source says where it is");
        first.put(&mut vms);
        let a = &vms.all[&VmId(1)];
        assert_eq!(a.places, [Place { source: SourceId(1), from_ms: 10 }]);
        assert_eq!(a.sources.iter().map(|join| join.source.0).collect::<Vec<_>>(), [1, 4]);
        assert!(vms.several.contains(&VmId(1)) && !vms.several.contains(&VmId(2)));
        let second = decide(&vms, vec![loose(9, 2, "a"), loose(10, 2, "c")]);
        assert_eq!(second.joins.iter().map(|join| join.vm.0).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(second.new.len(), 1);
        assert_eq!(decide(&vms, Vec::new()), VmDecision::default());
        assert_eq!(vms.claims("a").map(|(_, vm)| vm.0).collect::<Vec<_>>(), [1, 2]);
    }
}
