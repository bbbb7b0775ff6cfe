//! Hosts that are virtual machines, as their own agents tell: which of them a hypervisor of ours reports as well, and
//! which are machines of another platform's.
//!
//! What must hold: a machine counts once, a hypervisor's word before its own; a host on hardware, in a container or
//! that is a hypervisor of ours is never one; what a host says of itself hides nothing but itself, and gives nobody
//! anything; two machines with one machine id are never one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use sea_orm::DbErr;

use super::figures::{SHUT_OFF, STATE};
use super::placing::Place;
use super::{Vm, VmJoin, VmRow};
use crate::access::{ROOT, Resource};
use crate::compute::joining::Join;
use crate::compute::reconciler::{Owned, Reconciled};
use crate::compute::survey::SLOT_MS;
use crate::compute::usage::HALF;
use crate::compute::{Compute, Host, store};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{HostId, SourceId, VmId};
use crate::telemetry::{Facts, Glance, Part, Points};

/// What says nothing for so long is not waited for; two slots.
const LONG_MS: i64 = 2 * SLOT_MS;

/// What a host's agent sends with every frame.
const BOOT_TIME: &str = "node_boot_time_seconds";

/// What a pass found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::compute) struct Inside {
    /// The machines that hosts are: a hypervisor's, or their own.
    pub vms: HashMap<HostId, VmId>,
    /// The hosts inside of hypervisors' machines.
    pub hosts: HashMap<VmId, HostId>,
    /// Hosts' own machines that are none: a hypervisor reports them, or they are not virtual any more.
    pub hidden: HashSet<VmId>,
    /// Some hosts have not said yet what they are.
    pub waiting: bool,
}

impl Inside {
    /// Whether a host was found to be a machine of its own.
    fn is_apart(&self, host: HostId) -> bool {
        self.vms.get(&host).is_some_and(|vm| !self.hosts.contains_key(vm))
    }
}

/// What was read of inventories, and since when each holds.
#[derive(Debug, Default)]
pub(in crate::compute) struct Told {
    hosts: HashMap<SourceId, (UnixMs, Arc<Inventory>)>,
    domains: HashMap<VmId, (SourceId, UnixMs, Vec<String>)>,
}

/// A host's source, and what it says of the host.
#[derive(Debug, Clone)]
struct Said {
    join: Join,
    inventory: Arc<Inventory>,
}

/// What a host's inventory says of what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Inventory {
    is_virtual: bool,
    /// Of its firmware; for root alone to read.
    uuid: Option<String>,
    /// Its machine id, which systemd takes from the firmware at the first start of a virtual machine.
    machine: Option<String>,
    /// Of its hardware.
    macs: Vec<String>,
    /// Since its kernel was started.
    boot: Option<String>,
}

/// The UUID that a machine's firmware says, unless it is one that firmware without any says.
pub(super) fn firmware_uuid(facts: &BTreeMap<String, String>) -> Option<String> {
    facts.get("hardware_uuid").and_then(|text| uuid(text))
}

fn uuid(text: &str) -> Option<String> {
    let uuid = uuid::Uuid::parse_str(text).ok().filter(|uuid| !uuid.is_nil() && !uuid.is_max());
    uuid.map(|uuid| uuid.hyphenated().to_string())
}

impl Inventory {
    fn of(machine_id: &str, facts: &BTreeMap<String, String>) -> Self {
        let said = |name: &str| facts.get(name).map(String::as_str).filter(|text| !text.is_empty());
        let mac = |(name, mac): (&String, &String)| {
            let interface = name.strip_prefix("interface.")?.strip_suffix(".mac")?;
            let is_hardware = facts.contains_key(&format!("interface.{interface}.driver"));
            let mac = mac.to_ascii_lowercase();
            (is_hardware && mac.chars().any(|digit| !matches!(digit, '0' | 'f' | ':'))).then_some(mac)
        };
        Self {
            is_virtual: said("virtualization").is_some_and(|kind| kind != "none") && said("container").is_none(),
            uuid: firmware_uuid(facts),
            machine: uuid(machine_id),
            macs: facts.iter().filter_map(mac).collect(),
            boot: said("boot_id").map(str::to_owned),
        }
    }

    /// Whether one of two with the same machine id is a copy of the other: two kernels run `together`, or their hardware
    /// is not the same.
    fn is_other(&self, other: &Self, together: bool) -> bool {
        if together && (self.boot.is_none() || self.boot != other.boot) {
            return true;
        }
        match (&self.uuid, &other.uuid) {
            (Some(own), Some(other)) => own != other,
            _ => {
                let both_say = !self.macs.is_empty() && !other.macs.is_empty();
                both_say && !self.macs.iter().any(|mac| other.macs.contains(mac))
            }
        }
    }

    /// Hypervisors' machines that it may be: by its firmware's UUID, and only where that is not told by others.
    fn same(&self, of_uuid: impl Fn(&str) -> Vec<VmId>, of_mac: impl Fn(&str) -> Vec<VmId>) -> Vec<VmId> {
        if let Some(uuid) = &self.uuid {
            return of_uuid(uuid);
        }
        let machine = self.machine.as_deref().map(of_uuid).unwrap_or_default();
        if !machine.is_empty() {
            return machine;
        }
        let mut same: Vec<_> = self.macs.iter().flat_map(|mac| of_mac(mac)).collect();
        same.sort_unstable();
        same.dedup();
        same
    }
}

/// The hardware addresses of a hypervisor's machine.
fn macs(facts: &BTreeMap<String, String>) -> Vec<String> {
    facts.keys().filter_map(|name| name.strip_prefix("nic.")).map(str::to_ascii_lowercase).collect()
}

impl Compute {
    /// Finds what hosts are, and makes machines of those that no hypervisor of ours reports.
    pub(in crate::compute) async fn join_inside(&self, told: &mut Told, done: &mut Reconciled) -> Result<(), DbErr> {
        let shared = &self.0;
        let (hosts, nodes) = {
            let index = self.index();
            let nodes: HashSet<HostId> = index.nodes.values().map(|node| node.host).collect();
            (index.hosts.values().cloned().collect::<Vec<_>>(), nodes)
        };
        let now_ms = shared.clock.now_ms();
        let said: Vec<_> = hosts.iter().map(|host| self.told_host(&mut told.hosts, host)).collect();
        let needs_macs = told.hosts.values().any(|(_, said)| said.is_virtual && said.uuid.is_none());
        let of_macs = if needs_macs { self.told_macs(&mut told.domains) } else { HashMap::new() };
        let mut found = Inside::default();
        let (mut new, mut joins, mut places, mut conflicts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut owned: Owned = Vec::new();
        let mut last = self.index().vms.last();
        for (host, said) in hosts.iter().zip(&said) {
            let id = host.row.id;
            let known = {
                let index = self.index();
                index.vms.of_hosts.get(&id).and_then(|vm| index.vms.all.get(vm)).cloned()
            };
            let Some(present) = self.present(known.as_deref(), said, now_ms) else {
                let newest = host.sources().last().copied();
                found.waiting |= newest.is_some_and(|join| now_ms.saturating_sub(join.from_ms) < LONG_MS);
                continue;
            };
            let is_virtual = present.inventory.is_virtual && !nodes.contains(&id);
            let domain = if is_virtual { self.domain_of(host, present, &of_macs, now_ms).await } else { None };
            let is_own = is_virtual && domain.is_none();
            if let Some(domain) = domain {
                found.vms.insert(id, domain);
                found.hosts.insert(domain, id);
            }
            if !is_own {
                found.hidden.extend(known.as_ref().map(|known| known.row.id));
            }
            let make = || {
                last += 1;
                let vm = own(host, VmId(last));
                new.push(vm.row.clone());
                owned.extend(crate::compute::reconciler::owners(&vm));
                Arc::new(vm)
            };
            // One that is hidden keeps its sources together as well: people may have said whose they are.
            let Some(vm) = known.or_else(|| is_own.then(make)) else { continue };
            if is_own {
                found.vms.insert(id, vm.row.id);
            }
            let here = present.join.source;
            let others = said.iter().filter(|one| one.join.source != here);
            let (copies, same): (Vec<_>, Vec<_>) = others.partition(|one| self.is_other(present, one, now_ms));
            let conflict = copies.iter().rev().map(|one| one.join.source).find(|copy| self.reports(*copy, now_ms));
            if conflict != vm.conflict {
                conflicts.push((vm.row.id, conflict));
            }
            // Of one that is new all that are the same machine's; later those that came after the one where it is.
            let is_new = vm.places.is_empty();
            let joined = |of: SourceId| vm.sources.iter().any(|own| own.source == of);
            let loose = said.iter().map(|one| one.join).filter(|join| {
                let is_same = join.source == here || same.iter().any(|one| one.join.source == join.source);
                is_same && (is_new || join.source > here) && !joined(join.source)
            });
            let mut since_ms = vm.places.last().map_or(UnixMs::MIN, |place| place.from_ms);
            for join in loose {
                joins.push(VmJoin { source: join.source, vm: vm.row.id, from_ms: join.from_ms });
                since_ms = join.from_ms.max(since_ms.saturating_add(1));
                places.push((vm.row.id, Place { source: join.source, from_ms: since_ms }));
                if vm.row.assigned_ms.is_some() {
                    let (owner, from_ms) = vm.row.owned();
                    owned.push((Resource::Source(join.source), owner, from_ms.max(join.from_ms)));
                }
            }
        }
        if !joins.is_empty() {
            let transaction = shared.db.begin("vms_inside").await?;
            store::vm::put(&transaction, &new).await?;
            store::vm::source_insert(&transaction, &joins).await?;
            store::vm::place_insert(&transaction, &places).await?;
            shared.access.own(&transaction, &owned).await?;
            transaction.commit().await?;
            shared.access.owned(&owned);
        }
        done.vms += new.len();
        if joins.is_empty() && conflicts.is_empty() && self.index().vms.inside == found {
            return Ok(());
        }
        let mut index = shared.index.write().unwrap_or_else(PoisonError::into_inner);
        index.revision += 1;
        super::joining::VmDecision { new, joins, places }.put(&mut index.vms);
        for (id, conflict) in conflicts {
            if let Some(source) = conflict {
                tracing::warn!(vm = %id, %source, "another machine has the machine id of a virtual machine");
            }
            let changed = index.vms.all.get(&id).map(|known| Vm { conflict, ..Vm::clone(known) });
            changed.into_iter().for_each(|vm| index.vms.put(vm));
        }
        index.vms.inside = found;
        Ok(())
    }

    /// What a host's sources say of it, those that say anything, the newest last.
    fn told_host(&self, told: &mut HashMap<SourceId, (UnixMs, Arc<Inventory>)>, host: &Host) -> Vec<Said> {
        let said = |join: Join| {
            let view = self.0.telemetry.source_known(join.source)?;
            let since_ms = view.facts_instant_ms()?;
            let inventory = match told.get(&join.source) {
                Some((known_ms, inventory)) if *known_ms == since_ms => Arc::clone(inventory),
                _ => {
                    let inventory = Arc::new(Inventory::of(&host.row.machine_id, &view.facts()?.values));
                    told.insert(join.source, (since_ms, Arc::clone(&inventory)));
                    inventory
                }
            };
            Some(Said { join, inventory })
        };
        host.sources().into_iter().filter_map(said).collect()
    }

    /// The source by which a host is judged: the one where its machine is; of one that is new the first that reports,
    /// else the newest. So nobody takes a machine over by naming its machine id.
    fn present<'a>(&self, known: Option<&Vm>, said: &'a [Said], now_ms: UnixMs) -> Option<&'a Said> {
        match known.and_then(Vm::source) {
            Some(here) => said.iter().find(|one| one.join.source == here),
            None => said.iter().find(|one| self.reports(one.join.source, now_ms)).or(said.last()),
        }
    }

    /// Whether a source of a host is of another machine than the one by which it is judged.
    fn is_other(&self, present: &Said, other: &Said, now_ms: UnixMs) -> bool {
        let together = self.reports(present.join.source, now_ms) && self.reports(other.join.source, now_ms);
        present.inventory.is_other(&other.inventory, together)
    }

    fn reports(&self, source: SourceId, now_ms: UnixMs) -> bool {
        let view = self.0.telemetry.source_known(source);
        view.and_then(|view| view.glance(|glance| !glance.is_stale(now_ms))).unwrap_or(false)
    }

    /// Hypervisors' machines by hardware address.
    fn told_macs(&self, told: &mut HashMap<VmId, (SourceId, UnixMs, Vec<String>)>) -> HashMap<String, Vec<VmId>> {
        let vms: Vec<Arc<Vm>> = {
            let index = self.index();
            index.vms.all.values().filter(|vm| vm.row.host.is_none()).cloned().collect()
        };
        let mut found: HashMap<String, Vec<VmId>> = HashMap::new();
        for vm in vms {
            let Some(source) = vm.source() else { continue };
            let Some(view) = self.0.telemetry.source_known(source) else { continue };
            let Some(since_ms) = view.facts_instant_ms() else { continue };
            let id = vm.row.id;
            if told.get(&id).is_none_or(|known| (known.0, known.1) != (source, since_ms)) {
                let macs = view.facts().map(|facts: Arc<Facts>| macs(&facts.values)).unwrap_or_default();
                told.insert(id, (source, since_ms, macs));
            }
            for mac in told.get(&id).into_iter().flat_map(|(_, _, macs)| macs) {
                found.entry(mac.clone()).or_default().push(id);
            }
        }
        found
    }

    /// The machine of a hypervisor that a host is, if that is clear. It is of the host's organisation or of one above, by
    /// its hypervisor or by what people said of it: nobody hides another's machine by saying that it is theirs.
    /// One that has long been silent or off hides nothing that reports: its hypervisor was retired, or it went elsewhere.
    async fn domain_of(
        &self,
        host: &Host,
        present: &Said,
        of_macs: &HashMap<String, Vec<VmId>>,
        now_ms: UnixMs,
    ) -> Option<VmId> {
        let candidates: Vec<Arc<Vm>> = {
            let index = self.index();
            let of_uuid = |uuid: &str| index.vms.claims(uuid).map(|(_, vm)| vm).collect();
            let of_mac = |mac: &str| of_macs.get(mac).cloned().unwrap_or_default();
            let same = present.inventory.same(of_uuid, of_mac);
            same.into_iter().filter_map(|vm| index.vms.all.get(&vm).cloned()).collect()
        };
        let is_ours = |vm: &Arc<Vm>| {
            let mut above = [Some(vm.row.organization), vm.row.owner].into_iter().flatten();
            above.any(|above| self.0.access.is_within(host.row.organization, above))
        };
        let reports = self.reports(present.join.source, now_ms);
        let mut ours = Vec::new();
        for vm in candidates.into_iter().filter(is_ours) {
            let here = present.join.source;
            let is_past = self.is_gone(&vm)
                || (reports && self.is_long_silent(&vm, now_ms))
                || (reports && self.is_off_while(&vm, host.row.id, here, now_ms).await);
            if !is_past {
                ours.push(vm);
            }
        }
        let own = |vm: &&Arc<Vm>| vm.row.organization == host.row.organization;
        match ours.as_slice() {
            [one] => Some(one.row.id),
            several => {
                let mut own = several.iter().filter(own);
                own.next().filter(|_| own.next().is_none()).map(|vm| vm.row.id)
            }
        }
    }

    /// Nothing has come of it for long: no restart of an agent takes that time.
    fn is_long_silent(&self, vm: &Vm, now_ms: UnixMs) -> bool {
        let view = vm.source().and_then(|source| self.0.telemetry.source_known(source));
        let silent = view.and_then(|view| {
            view.glance(|glance| glance.is_stale(now_ms) && now_ms.saturating_sub(glance.instant_ms) > LONG_MS)
        });
        silent == Some(true)
    }

    /// It is off, and what reports runs elsewhere: it was found to before, or reported through a whole slot in which this
    /// one was off.
    async fn is_off_while(&self, vm: &Vm, host: HostId, reporting: SourceId, now_ms: UnixMs) -> bool {
        let state = |glance: &Glance<'_>| {
            let column = glance.schema.columns.iter().position(|column| column.metric == STATE)?;
            glance.value(column).filter(|_| !glance.is_stale(now_ms))
        };
        let view = vm.source().and_then(|source| self.0.telemetry.source_known(source));
        if view.and_then(|view| view.glance(|glance| state(&glance))?) != Some(SHUT_OFF) {
            return false;
        }
        if self.index().vms.inside.is_apart(host) {
            return true;
        }
        let to_ms = now_ms.div_euclid(SLOT_MS) * SLOT_MS;
        // What cannot be read is not known.
        let only = async |part: Part, metric: &str| {
            let found = self.slots(part, &[metric], None, (to_ms - LONG_MS, to_ms)).await.ok()?;
            found.into_iter().next().map(|series| series.points)
        };
        let Some(part) = vm.parts().into_iter().find(|part| Some(part.source) == vm.source()) else { return false };
        let Some(states) = only(part, STATE).await else { return false };
        let own = Part { source: reporting, stays: vec![(UnixMs::MIN, UnixMs::MAX)] };
        let Some(reported) = only(own, BOOT_TIME).await else { return false };
        (0..states.value.len()).any(|at| {
            let is_off = |of: &[Option<f64>]| of.get(at).copied().flatten() == Some(SHUT_OFF as f64);
            let is_known = |of: &Points| of.coverage.get(at).is_some_and(|coverage| *coverage >= HALF);
            is_off(&states.min) && is_off(&states.max) && is_known(&states) && is_known(&reported)
        })
    }

    /// It is there no more.
    fn is_gone(&self, vm: &Vm) -> bool {
        let now_ms = self.0.clock.now_ms();
        let view = vm.source().and_then(|source| self.0.telemetry.source_known(source));
        view.is_some_and(|view| {
            view.glance(|glance| glance.is_stale(now_ms)) == Some(true) && self.vm_is_over(vm, &view, now_ms)
        })
    }
}

/// The machine that a host is by its own word: that of the organisation that its agent was enrolled for, and nobody's if
/// that is the whole city.
fn own(host: &Host, id: VmId) -> Vm {
    let owner = Some(host.row.organization).filter(|organization| *organization != ROOT);
    let row = VmRow {
        id,
        organization: host.row.organization,
        uuid: VmRow::uuid_of(host.row.id),
        created_ms: host.row.created_ms,
        version: 1,
        owner,
        assigned_ms: owner.map(|_| host.row.created_ms),
        application: None,
        purpose: None,
        expires_ms: None,
        provider: None,
        host: Some(host.row.id),
    };
    Vm { row, sources: Vec::new(), places: Vec::new(), conflict: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(facts: &[(&str, &str)]) -> Inventory {
        let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Inventory::of("0b5a6f3e2d1c4b7a9e8f112233445566", &facts)
    }

    #[test]
    fn what_is_virtual_and_what_it_is_told_by() {
        for (facts, is_virtual) in [
            (&[("virtualization", "kvm")][..], true),
            (&[("virtualization", "none")], false),
            (&[("virtualization", "kvm"), ("container", "docker")], false),
            (&[], false),
        ] {
            assert_eq!(inventory(facts).is_virtual, is_virtual, "{facts:?}");
        }
        let zero = "00000000-0000-0000-0000-000000000000";
        let said = inventory(&[("hardware_uuid", zero), ("interface.eth0.mac", "52:54:00:AA:00:01")]);
        assert_eq!((said.uuid, said.macs.len()), (None, 0), "firmware without a UUID, an interface without hardware");
        let hardware = [("interface.eth0.mac", "52:54:00:AA:00:01"), ("interface.eth0.driver", "virtio_net")];
        assert_eq!(inventory(&hardware).macs, ["52:54:00:aa:00:01"]);
    }

    #[test]
    fn a_firmwares_uuid_comes_before_what_may_be_copied() {
        let by_uuid = |uuid: &str| match uuid {
            "0b5a6f3e-2d1c-4b7a-9e8f-112233445566" => vec![VmId(1)],
            "11111111-2d1c-4b7a-9e8f-112233445566" => vec![VmId(2)],
            _ => Vec::new(),
        };
        let by_mac = |_: &str| vec![VmId(3)];
        let hardware = [("interface.eth0.mac", "52:54:00:aa:00:01"), ("interface.eth0.driver", "virtio_net")];
        let with = |uuid: &'static str| inventory(&[&hardware[..], &[("hardware_uuid", uuid)]].concat());
        assert_eq!(with("11111111-2D1C-4b7a-9e8f-112233445566").same(by_uuid, by_mac), [VmId(2)]);
        assert_eq!(with("22222222-2d1c-4b7a-9e8f-112233445566").same(by_uuid, by_mac), [], "another platform's");
        assert_eq!(inventory(&hardware).same(by_uuid, by_mac), [VmId(1)], "its machine id");
        let cloned = Inventory { machine: None, ..inventory(&hardware) };
        assert_eq!(cloned.same(by_uuid, by_mac), [VmId(3)], "its hardware address");
    }

    #[test]
    fn a_copy_is_told_by_its_kernel_while_both_run_and_else_by_its_hardware() {
        let one = |boot: &'static str, mac: &'static str, uuid: &'static str| {
            let facts = [
                ("boot_id", boot),
                ("interface.eth0.mac", mac),
                ("interface.eth0.driver", "virtio_net"),
                ("hardware_uuid", uuid),
            ];
            inventory(&facts)
        };
        let (first, second) = ("52:54:00:aa:00:01", "52:54:00:aa:00:02");
        let uuid = "11111111-2d1c-4b7a-9e8f-112233445566";
        let known = one("a", first, "");
        for (other, together, alone) in [
            (one("a", first, ""), false, false),
            (one("b", first, ""), true, false),
            (one("b", second, ""), true, true),
            (one("", first, ""), true, false),
            (inventory(&[("boot_id", "b")]), true, false),
        ] {
            assert_eq!(known.is_other(&other, true), together, "{other:?}");
            assert_eq!(known.is_other(&other, false), alone, "{other:?}");
        }
        let known = one("a", first, uuid);
        assert!(!known.is_other(&one("b", second, uuid), false), "it got another network card");
        assert!(known.is_other(&one("b", first, "22222222-2d1c-4b7a-9e8f-112233445566"), false));
    }
}
