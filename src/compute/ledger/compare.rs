//! The ledger held against what is measured. Pure.
//!
//! A line and a machine are the same by UUID, else by a name that only one of each has, within one organisation
//! first; machines that are gone come last. What must hold: every line and every machine that is there is in exactly one of the four kinds; what only
//! one of them says is no conflict.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::row::last_day;
use super::{LedgerLine, MachineReport};
use crate::compute::list::Named;
use crate::compute::vm::report::{ToldBy, VmState};
use crate::platform::ids::{HostId, OrganizationId};

/// Sizes that are so much apart, of the larger one, differ: a table is in rounded gigabytes.
const TOLERANCE: f64 = 0.01;

/// How a line and a machine stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// In both, and something differs.
    Conflicting,
    /// In the ledger, and not there.
    OnlyLedger,
    /// There, and not in the ledger.
    OnlyMeasured,
    /// In both, and nothing differs.
    Both,
}

impl Standing {
    pub(super) const ALL: [Self; 4] = [Self::Conflicting, Self::OnlyLedger, Self::OnlyMeasured, Self::Both];
}

impl Named for Standing {
    const EXPECTED: &'static str = "`standing` must be one or more of conflicting, only_ledger, only_measured, both";
}

/// Which field differs, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct FieldDifference {
    /// `name`, `organization`, `application`, `purpose`, `expires_ms`, `provider`, `vcpus`, `memory_bytes` or
    /// `disk_bytes`.
    #[schema(value_type = String, example = "vcpus")]
    pub field: &'static str,
    /// What the ledger says.
    pub ledger: String,
    /// What is measured, or said of the machine.
    pub measured: String,
}

/// By what the same machine is told in two lists.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    pub uuid: Option<&'a str>,
    pub name: &'a str,
    /// Whose it is; `None`: nobody was given it.
    pub organization: Option<OrganizationId>,
    /// It is there no more: it is matched with what is left.
    pub gone: bool,
    /// Its own agent says so alone: a hypervisor's word comes before.
    pub inside: bool,
}

impl<'a> Key<'a> {
    pub(super) fn of_line(line: &'a LedgerLine) -> Self {
        Self {
            uuid: line.uuid.as_deref(),
            name: &line.name,
            organization: Some(line.organization),
            gone: false,
            inside: false,
        }
    }

    pub(super) fn of_machine(vm: &'a MachineReport) -> Self {
        let organization = Some(vm.organization).filter(|_| vm.assigned);
        Self {
            uuid: vm.uuid.as_deref(),
            name: &vm.name,
            organization,
            gone: vm.state == VmState::Gone,
            inside: vm.told_by == ToldBy::Guest,
        }
    }
}

/// By what two are told to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Uuid,
    /// A name that is clear, within one organisation or of what is nobody's.
    Name,
    /// The name alone; it is another organisation's.
    NameElsewhere,
}

/// Whether a name counts across organisations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    Within,
    Across,
}

/// Which one each is in another list, and by what; nothing there is two of them.
pub(super) fn matched(ones: &[Key<'_>], others: &[Key<'_>], counting: Counting) -> Vec<Option<(usize, By)>> {
    let mut found: Vec<Option<(usize, By)>> = vec![None; ones.len()];
    let mut taken = vec![false; others.len()];
    let mut by_uuid: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, other) in others.iter().enumerate() {
        if let Some(uuid) = other.uuid {
            by_uuid.entry(uuid).or_default().push(at);
        }
    }
    for (one, found) in ones.iter().zip(&mut found) {
        let same = one.uuid.and_then(|uuid| by_uuid.get(uuid)).map(Vec::as_slice).unwrap_or_default();
        // A UUID that two claim: the one that is there, if that may be no other's, a hypervisor's word first.
        let own = same.iter().min_by_key(|at| {
            let other = &others[**at];
            let is_others = other.organization.is_some() && other.organization != one.organization;
            (other.gone, is_others, other.inside, other.organization != one.organization)
        });
        let free = own.copied().filter(|at| !std::mem::replace(&mut taken[*at], true));
        *found = free.map(|at| (at, By::Uuid));
    }
    let passes = [(false, true), (false, false), (true, true), (true, false)];
    for (gone, within) in passes.into_iter().filter(|(_, within)| *within || counting == Counting::Across) {
        let mut names: HashMap<_, (Vec<usize>, Vec<usize>)> = HashMap::new();
        let group = |key: &Key<'_>| key.organization.filter(|_| within);
        for (at, one) in ones.iter().enumerate().filter(|(at, _)| found[*at].is_none()) {
            names.entry((one.name, group(one))).or_default().0.push(at);
        }
        for (at, other) in others.iter().enumerate().filter(|(at, other)| !taken[*at] && other.gone == gone) {
            if let Some(group) = names.get_mut(&(other.name, group(other))) {
                group.1.push(at);
            }
        }
        for (mut mine, mut theirs) in names.into_values() {
            // Two that name their UUIDs are not the same, whatever they are called.
            let mine_unnamed = mine.iter().any(|at| ones[*at].uuid.is_none());
            let theirs_unnamed = theirs.iter().any(|at| others[*at].uuid.is_none());
            mine.retain(|at| theirs_unnamed || ones[*at].uuid.is_none());
            theirs.retain(|at| mine_unnamed || others[*at].uuid.is_none());
            // By a name that it chooses a guest takes nothing from what a hypervisor tells of.
            if theirs.iter().any(|at| !others[*at].inside) {
                theirs.retain(|at| !others[*at].inside);
            }
            if let ([one], [other]) = (mine.as_slice(), theirs.as_slice())
                && (ones[*one].uuid.is_none() || others[*other].uuid.is_none())
            {
                let owner = others[*other].organization;
                let is_elsewhere = owner.is_some_and(|owner| Some(owner) != ones[*one].organization);
                found[*one] = Some((*other, if is_elsewhere { By::NameElsewhere } else { By::Name }));
                taken[*other] = true;
            }
        }
    }
    found
}

/// What of a machine's memory its own agent may not see: its kernel keeps a part, and another for when it crashes.
fn kernels(memory_bytes: i64) -> f64 {
    memory_bytes as f64 / 10.0 + (256 << 20) as f64
}

/// Which fields differ, of those that both say.
pub(super) fn differences(line: &LedgerLine, vm: &MachineReport) -> Vec<FieldDifference> {
    let mut differences = Vec::new();
    let mut compare = |field: &'static str, ledger: Option<String>, measured: Option<String>| {
        if let (Some(ledger), Some(measured)) = (ledger, measured)
            && ledger != measured
        {
            differences.push(FieldDifference { field, ledger, measured });
        }
    };
    // Of one that never said its name, that is its UUID, or the id of the host that it is.
    let is_unnamed =
        Some(&vm.name) == vm.uuid.as_ref() || (vm.told_by == ToldBy::Guest && vm.name.parse::<HostId>().is_ok());
    compare("name", Some(line.name.clone()), Some(vm.name.clone()).filter(|_| !is_unnamed));
    let owner = vm.assigned.then(|| vm.organization.to_string());
    compare("organization", Some(line.organization.to_string()), owner);
    compare("application", line.application.clone(), vm.application.clone());
    let purpose = |purpose: crate::compute::vm::Purpose| purpose.name().to_owned();
    compare("purpose", line.purpose.map(purpose), vm.purpose.map(purpose));
    let text = |number: i64| number.to_string();
    // A table says days.
    if line.expires_ms.map(last_day) != vm.expires_ms.map(last_day) {
        compare("expires_ms", line.expires_ms.map(text), vm.expires_ms.map(text));
    }
    let provider = |id: crate::platform::ids::ProviderId| id.to_string();
    compare("provider", line.provider.map(provider), vm.provider.map(provider));
    compare("vcpus", line.vcpus.map(text), vm.vcpus.map(text));
    for (field, ledger, measured) in
        [("memory_bytes", line.memory_bytes, vm.memory_bytes), ("disk_bytes", line.disk_bytes, vm.disk_bytes)]
    {
        let apart = |(ledger, measured): (i64, i64)| {
            let rounded = ledger.max(measured) as f64 * TOLERANCE;
            let kept = if field == "memory_bytes" && vm.told_by == ToldBy::Guest { kernels(ledger) } else { 0.0 };
            (measured - ledger) as f64 > rounded || (ledger - measured) as f64 > rounded.max(kept)
        };
        if ledger.zip(measured).is_some_and(apart) {
            compare(field, ledger.map(text), measured.map(text));
        }
    }
    differences
}

/// A line, a machine, or both, by their places.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pair {
    pub standing: Standing,
    pub line: Option<usize>,
    pub machine: Option<usize>,
    pub differences: Vec<FieldDifference>,
}

/// Every line once and every machine that is there once: lines in their order, then machines that are in none.
pub(super) fn reconcile(lines: &[LedgerLine], machines: &[MachineReport]) -> Vec<Pair> {
    let keys: Vec<_> = lines.iter().map(Key::of_line).collect();
    let found = matched(&keys, &machines.iter().map(Key::of_machine).collect::<Vec<_>>(), Counting::Across);
    let mut seen = vec![false; machines.len()];
    let mut pairs = Vec::with_capacity(lines.len() + machines.len());
    for (at, (line, found)) in lines.iter().zip(found).enumerate() {
        let machine = found.map(|(machine, _)| machine);
        machine.into_iter().for_each(|machine| seen[machine] = true);
        // Its host says that it is not there any more.
        let present = machine.map(|machine| &machines[machine]).filter(|vm| vm.state != VmState::Gone);
        let differences = present.map(|vm| differences(line, vm)).unwrap_or_default();
        let standing = match (present, differences.is_empty()) {
            (None, _) => Standing::OnlyLedger,
            (Some(_), true) => Standing::Both,
            (Some(_), false) => Standing::Conflicting,
        };
        pairs.push(Pair { standing, line: Some(at), machine, differences });
    }
    for (at, vm) in machines.iter().enumerate() {
        if !seen[at] && vm.state != VmState::Gone {
            let standing = Standing::OnlyMeasured;
            pairs.push(Pair { standing, line: None, machine: Some(at), differences: Vec::new() });
        }
    }
    pairs
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compute::ledger::tests::line;
    use crate::platform::ids::VmId;

    /// A machine that somebody was given.
    pub(in crate::compute::ledger) fn machine(id: i64, uuid: &str, name: &str, organization: i64) -> MachineReport {
        MachineReport {
            vm: VmId(id),
            name: name.to_owned(),
            uuid: Some(uuid.to_owned()),
            told_by: ToldBy::Hypervisor,
            state: VmState::Running,
            organization: OrganizationId(organization),
            assigned: true,
            host: None,
            host_name: None,
            application: None,
            purpose: None,
            expires_ms: None,
            provider: None,
            vcpus: Some(4),
            memory_bytes: Some(8 << 30),
            disk_bytes: Some(100 << 30),
        }
    }

    #[test]
    fn each_line_and_machine_stands_somewhere() {
        let lines = [
            line(1, Some("u1"), "one", 2),
            LedgerLine { vcpus: Some(2), ..line(2, None, "web", 2) },
            line(3, None, "twin", 4),
            line(4, Some("u9"), "db", 2),
            line(5, None, "db", 2),
            line(6, None, "mail", 2),
            line(7, None, "twin", 2),
            line(8, None, "gone", 2),
        ];
        let gone = MachineReport { state: VmState::Gone, ..machine(8, "u8", "gone", 2) };
        let machines = [
            machine(1, "u1", "one", 2),
            machine(2, "u2", "web", 2),
            machine(3, "u3", "twin", 2),
            machine(4, "u4", "twin", 3),
            machine(5, "u5", "db", 2),
            MachineReport { assigned: false, ..machine(6, "u6", "mail", 1) },
            gone.clone(),
            MachineReport { state: VmState::Gone, ..machine(9, "u10", "forgotten", 2) },
        ];
        let pairs = reconcile(&lines, &machines);
        let ids = |pair: &Pair| (pair.line.map(|at| lines[at].id.0), pair.machine.map(|at| machines[at].vm.0));
        let standing: Vec<_> = pairs.iter().map(|pair| (pair.standing, ids(pair))).collect();
        use Standing::*;
        assert_eq!(
            standing,
            [
                (Both, (Some(1), Some(1))),
                (Conflicting, (Some(2), Some(2))),
                // The twin that is left once its namesake has its own is of another organisation.
                (Conflicting, (Some(3), Some(4))),
                (OnlyLedger, (Some(4), None)),
                (Both, (Some(5), Some(5))),
                (Both, (Some(6), Some(6))),
                (Both, (Some(7), Some(3))),
                (OnlyLedger, (Some(8), Some(8))),
            ]
        );
        let [difference] = pairs[1].differences.as_slice() else { panic!("{:?}", pairs[1]) };
        assert_eq!((difference.field, difference.ledger.as_str(), difference.measured.as_str()), ("vcpus", "2", "4"));
        assert_eq!(pairs[2].differences[0].field, "organization");
        let more = [machine(1, "u1", "one", 2), machine(2, "u2", "new", 2)];
        let standing: Vec<_> = reconcile(&lines[..1], &more).iter().map(|pair| pair.standing).collect();
        assert_eq!(standing, [Both, OnlyMeasured]);
    }

    #[test]
    fn a_field_differs_if_both_say_something_else() {
        let full = LedgerLine {
            application: Some("甲".to_owned()),
            vcpus: Some(8),
            memory_bytes: Some(16 << 30),
            disk_bytes: Some(200 << 30),
            expires_ms: Some(1_798_732_800_000),
            ..line(1, Some("u1"), "other", 3)
        };
        let said = MachineReport {
            application: Some("乙".to_owned()),
            expires_ms: Some(1_798_732_800_001),
            ..machine(1, "u1", "one", 2)
        };
        let fields: Vec<_> = differences(&full, &said).into_iter().map(|difference| difference.field).collect();
        assert_eq!(
            fields,
            ["name", "organization", "application", "expires_ms", "vcpus", "memory_bytes", "disk_bytes"]
        );
        let silent = MachineReport {
            name: "u1".to_owned(),
            assigned: false,
            vcpus: None,
            memory_bytes: None,
            disk_bytes: None,
            ..machine(1, "u1", "one", 2)
        };
        assert_eq!(differences(&full, &silent), []);
        let nameless = MachineReport { name: "host_5".to_owned(), told_by: ToldBy::Guest, ..silent.clone() };
        assert_eq!(differences(&full, &nameless), [], "a guest that says no name is called as its host");
        // Somebody wrote 23:59 of the same day.
        let by_hand = MachineReport { expires_ms: Some(1_798_732_740_000), ..machine(1, "u1", "one", 2) };
        let of_table = LedgerLine { expires_ms: Some(1_798_732_800_000), ..line(1, Some("u1"), "one", 2) };
        assert_eq!(differences(&of_table, &by_hand), []);
        // 100 GB that are a few megabytes short are rounded.
        let rounded = LedgerLine { disk_bytes: Some((100 << 30) - (50 << 20)), ..line(1, Some("u1"), "one", 2) };
        assert_eq!(differences(&rounded, &machine(1, "u1", "one", 2)), []);
    }

    #[test]
    fn what_is_there_comes_before_what_is_gone() {
        let gone = |id, uuid: &str| MachineReport { state: VmState::Gone, ..machine(id, uuid, "web", 2) };
        // Made anew under its old name; and a UUID that two organisations claimed, one of which is gone.
        let lines = [line(1, None, "web", 2), line(2, Some("u3"), "db", 2)];
        let there = MachineReport { assigned: false, ..machine(4, "u3", "db", 1) };
        let machines = [gone(1, "u1"), machine(2, "u2", "web", 2), gone(3, "u3"), there];
        let found: Vec<_> = reconcile(&lines, &machines).iter().map(|pair| (pair.standing, pair.machine)).collect();
        assert_eq!(found, [(Standing::Both, Some(1)), (Standing::Both, Some(3))]);
    }

    #[test]
    fn a_guest_sees_less_memory_than_it_was_given_and_its_word_comes_second() {
        let given = LedgerLine { memory_bytes: Some(8 << 30), ..line(1, Some("u1"), "one", 2) };
        let seen = |told_by, mib: i64| {
            let vm = MachineReport { told_by, memory_bytes: Some(mib << 20), ..machine(1, "u1", "one", 2) };
            differences(&given, &vm).len()
        };
        assert_eq!((seen(ToldBy::Guest, 7_200), seen(ToldBy::Hypervisor, 7_200)), (0, 1));
        assert_eq!((seen(ToldBy::Guest, 6_000), seen(ToldBy::Guest, 8_300)), (1, 1));
        let unassigned = |id, told_by| MachineReport { told_by, assigned: false, ..machine(id, "u1", "x", 1) };
        let machines = [unassigned(1, ToldBy::Guest), unassigned(2, ToldBy::Hypervisor)];
        assert_eq!(reconcile(std::slice::from_ref(&given), &machines)[0].machine, Some(1));
        // The department's own agent says so of what another's hypervisor has and nobody was given.
        let own = MachineReport { told_by: ToldBy::Guest, ..machine(1, "u1", "x", 2) };
        let machines = [own.clone(), unassigned(2, ToldBy::Hypervisor)];
        assert_eq!(reconcile(std::slice::from_ref(&given), &machines)[0].machine, Some(1));
        let machines = [own, machine(2, "u1", "x", 3)];
        assert_eq!(reconcile(std::slice::from_ref(&given), &machines)[0].machine, Some(0), "that one is another's");
    }

    #[test]
    fn a_guest_that_takes_anothers_name_makes_it_no_less_clear() {
        let named =
            |id, told_by| MachineReport { told_by, assigned: false, ..machine(id, &format!("u{id}"), "web", 1) };
        let machines = [named(1, ToldBy::Guest), named(2, ToldBy::Hypervisor)];
        let found = |machines: &[MachineReport]| reconcile(&[line(1, None, "web", 2)], machines)[0].machine;
        assert_eq!(found(&machines), Some(1));
        assert_eq!(found(&machines[..1]), Some(0), "alone its word is enough");
        assert_eq!(found(&[named(1, ToldBy::Guest), named(3, ToldBy::Guest)]), None, "two guests are not clear");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_told_twice(
            ledger in proptest::collection::vec((proptest::option::of(0u8..12), 0u8..8, 2i64..4), 0..20),
            measured in proptest::collection::vec((0u8..8, 2i64..4), 0..12),
        ) {
            let lines: Vec<_> = (1..)
                .zip(&ledger)
                .map(|(id, (uuid, name, owner))| {
                    line(id, uuid.map(|uuid| uuid.to_string()).as_deref(), &name.to_string(), *owner)
                })
                .collect();
            let machines: Vec<_> = (0..)
                .zip(&measured)
                .map(|(id, (name, owner))| machine(id, &id.to_string(), &name.to_string(), *owner))
                .collect();
            let pairs = reconcile(&lines, &machines);
            let told: Vec<_> = pairs.iter().filter_map(|pair| pair.line).collect();
            let mut there: Vec<_> = pairs.iter().filter_map(|pair| pair.machine).collect();
            there.sort_unstable();
            prop_assert_eq!(told, (0..lines.len()).collect::<Vec<_>>());
            prop_assert_eq!(there, (0..machines.len()).collect::<Vec<_>>());
            for pair in pairs {
                if let (Some(line), Some(machine)) = (pair.line, pair.machine) {
                    let uuid = lines[line].uuid.as_ref();
                    prop_assert!(uuid.is_none_or(|uuid| Some(uuid) == machines[machine].uuid.as_ref()));
                }
            }
        }
    }
}
