//! What an import would change: of the ledger, and of the machines that its lines are of. Pure.
//!
//! What must hold: an empty cell and an absent column take nothing from a machine; what is said already is no change,
//! so the same table again changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::compare::{By, Counting, Key, matched};
use super::row::{Column, Entry, Failed, Parsed, alike, last_day};
use super::{Ledger, LedgerLine, MachineReport};
use crate::access::form::{Fault, Faults};
use crate::compute::vm::{Purpose, Vm, VmChange, VmRow};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{LedgerLineId, OrganizationId, ProviderId, VmId};

/// Lines of the whole ledger.
pub(super) const MOST_LINES: usize = 100_000;

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChangeKind {
    /// It is new.
    Added,
    /// It says something else.
    Changed,
    /// It says the same; of its machine something else is said.
    Unchanged,
    /// It stands in the table no more.
    Removed,
}

/// What a field was and is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct FieldChange {
    /// As a line's or a machine's.
    #[schema(value_type = String, example = "application")]
    pub field: &'static str,
    /// What it was; null: nothing.
    pub before: Option<String>,
    /// What it is to be; null: nothing.
    pub after: Option<String>,
}

/// What a row of the table changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct LineChange {
    /// The row in the table; null: it stands there no more.
    pub row: Option<usize>,
    /// What becomes of the line.
    pub kind: ChangeKind,
    /// How the machine is called.
    pub name: String,
    /// Whose it is by the ledger.
    #[schema(value_type = String, example = "org_2")]
    pub organization: OrganizationId,
    /// What of the line changes; of a new one nothing is told.
    pub line: Vec<FieldChange>,
    /// The machine that it is of; null: none is measured.
    #[schema(value_type = Option<String>, example = "vm_1")]
    pub vm: Option<VmId>,
    /// What of the machine changes.
    pub machine: Vec<FieldChange>,
}

/// What an import counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct ImportCounts {
    /// Lines that are new.
    pub added: usize,
    /// Lines that say something else.
    pub changed: usize,
    /// Lines that say the same.
    pub unchanged: usize,
    /// Lines that stand in the table no more.
    pub removed: usize,
    /// Rows that are not taken.
    pub failed: usize,
    /// Rows whose machine is measured.
    pub matched: usize,
    /// Machines of which something else is said.
    pub machines_changed: usize,
}

/// What is written, if it is.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub counts: ImportCounts,
    pub failed: Vec<Failed>,
    pub changes: Vec<LineChange>,
    /// Lines that are new or changed.
    pub put: Vec<LedgerLine>,
    pub removed: Vec<LedgerLineId>,
    /// Machines as they were, and as they are to be.
    pub machines: Vec<(Arc<Vm>, VmRow)>,
}

impl Plan {
    pub(super) fn is_nothing(&self) -> bool {
        self.put.is_empty() && self.removed.is_empty() && self.machines.is_empty()
    }
}

/// What an import looks up.
#[derive(Debug)]
pub(super) struct World {
    pub organizations: HashMap<OrganizationId, String>,
    pub providers: HashMap<ProviderId, String>,
    pub ledger: Arc<Ledger>,
    pub machines: Vec<MachineReport>,
    pub vms: BTreeMap<VmId, Arc<Vm>>,
    pub now_ms: UnixMs,
}

/// Names that are wrong for which one that looks like them is sought.
const MOST_SOUGHT: usize = 200;

/// Things by name, and what looked like a name that none has.
struct Names<'a, I> {
    all: HashMap<&'a str, Vec<I>>,
    sought: HashMap<String, Option<&'a str>>,
}

impl<'a, I: Copy + Ord> Names<'a, I> {
    fn of(names: &'a HashMap<I, String>) -> Self {
        let mut all: HashMap<&str, Vec<I>> = HashMap::new();
        names.iter().for_each(|(id, name)| all.entry(name.as_str()).or_default().push(*id));
        Self { all, sought: HashMap::new() }
    }

    /// A table that spells one name otherwise does so in every row.
    fn alike(&mut self, name: &str) -> Option<&'a str> {
        if let Some(found) = self.sought.get(name) {
            return *found;
        }
        if self.sought.len() == MOST_SOUGHT {
            return None;
        }
        let found = alike(name, self.all.keys().copied());
        self.sought.insert(name.to_owned(), found);
        found
    }
}

/// The one thing of a name.
fn named<I: Copy + Ord>(names: &mut Names<'_, I>, column: Column, name: &str, what: (&str, &str)) -> Result<I, Fault> {
    let (english, chinese) = what;
    match names.all.get(name).map(Vec::as_slice) {
        Some([one]) => Ok(*one),
        Some(_) => Err(Fault::new(
            column.field(),
            format!("{}: several {english}s are called {name}", column.header()),
            format!("“{}”有多个同名的{chinese}：{name}", column.header()),
        )),
        None => {
            let near = names.alike(name).map(|alike| (format!("; is it {alike}?"), format!("；是否为“{alike}”？")));
            let (near_english, near_chinese) = near.unwrap_or_default();
            Err(Fault::new(
                column.field(),
                format!("{}: there is no {english} {name}{near_english}", column.header()),
                format!("“{}”没有此{chinese}：{name}{near_chinese}", column.header()),
            ))
        }
    }
}

/// What a table changes. `replace`: what stands in no row goes; then every row must be taken.
pub(super) fn plan(parsed: Parsed, world: &World, replace: bool) -> Plan {
    let lines = &world.ledger.lines;
    let mut plan = Plan { failed: parsed.failed, ..Plan::default() };
    let mut organizations = Names::of(&world.organizations);
    let mut providers = Names::of(&world.providers);
    let mut entries = Vec::with_capacity(parsed.entries.len());
    for entry in parsed.entries {
        match line_of(&entry, &mut organizations, &mut providers) {
            Ok(line) => entries.push((entry, line)),
            Err(faults) => plan.failed.push(Failed { row: entry.row, cells: entry.cells, faults }),
        }
    }
    plan.failed.sort_by_key(|failed| failed.row);

    let of_rows: Vec<_> = entries.iter().map(|(_, line)| Key::of_line(line)).collect();
    // If the table is the whole ledger, a line that it has under the same name elsewhere went there.
    let counting = if replace { Counting::Across } else { Counting::Within };
    let known = matched(&of_rows, &lines.iter().map(Key::of_line).collect::<Vec<_>>(), counting);
    let mut standing: HashSet<usize> = HashSet::new();
    let mut last = lines.last().map_or(0, |line| line.id.0);
    let mut changes = Vec::with_capacity(entries.len());
    for ((entry, mut line), known) in entries.into_iter().zip(known) {
        // What has a UUID is given away by that alone.
        let known = known.filter(|(at, by)| *by != By::NameElsewhere || lines[*at].uuid.is_none());
        let change = match known.map(|(at, _)| (at, &lines[at])) {
            None => {
                last += 1;
                line.id = LedgerLineId(last);
                plan.counts.added += 1;
                (entry.row, ChangeKind::Added, Vec::new())
            }
            Some((at, known)) => {
                standing.insert(at);
                line = kept(line, known);
                let changed = changed(&fields(known), &fields(&line));
                let kind = if changed.is_empty() { ChangeKind::Unchanged } else { ChangeKind::Changed };
                match kind {
                    ChangeKind::Changed => plan.counts.changed += 1,
                    _ => plan.counts.unchanged += 1,
                }
                (entry.row, kind, changed)
            }
        };
        changes.push((change, line));
    }
    // Machines are found as by the whole ledger as it will be: what another line is of is not this row's.
    let others = lines.iter().enumerate().filter(|(at, _)| !replace && !standing.contains(at));
    let others = others.map(|(_, line)| Key::of_line(line));
    let of_lines: Vec<_> = changes.iter().map(|(_, line)| Key::of_line(line)).chain(others).collect();
    let machines: Vec<_> = world.machines.iter().map(Key::of_machine).collect();
    let machines = matched(&of_lines, &machines, Counting::Across);
    for (((row, kind, of_line), line), machine) in changes.into_iter().zip(machines) {
        let (machine, by) = machine.map(|(at, by)| (&world.machines[at], by)).unzip();
        let vm = machine.and_then(|machine| world.vms.get(&machine.vm));
        plan.counts.matched += usize::from(vm.is_some());
        // A machine of another organisation is given away by its UUID alone.
        let given = machine.zip(vm).filter(|_| by != Some(By::NameElsewhere));
        let said = given.and_then(|(machine, vm)| said(&line, machine, vm, world.now_ms));
        let of_machine =
            said.as_ref().zip(vm).map(|(row, vm)| changed(&row_fields(&vm.row), &row_fields(row))).unwrap_or_default();
        if let Some((row, vm)) = said.zip(vm) {
            plan.counts.machines_changed += 1;
            plan.machines.push((Arc::clone(vm), row));
        }
        if kind != ChangeKind::Unchanged || !of_machine.is_empty() {
            plan.changes.push(LineChange {
                row: Some(row),
                kind,
                name: line.name.clone(),
                organization: line.organization,
                line: of_line,
                vm: vm.map(|vm| vm.row.id),
                machine: of_machine,
            });
        }
        if kind != ChangeKind::Unchanged {
            plan.put.push(line);
        }
    }
    if replace {
        for (_, line) in lines.iter().enumerate().filter(|(at, _)| !standing.contains(at)) {
            plan.counts.removed += 1;
            plan.removed.push(line.id);
            plan.changes.push(LineChange {
                row: None,
                kind: ChangeKind::Removed,
                name: line.name.clone(),
                organization: line.organization,
                line: Vec::new(),
                vm: None,
                machine: Vec::new(),
            });
        }
    }
    plan.counts.failed = plan.failed.len();
    plan
}

/// A row with ids in place of names.
fn line_of(
    entry: &Entry,
    organizations: &mut Names<'_, OrganizationId>,
    providers: &mut Names<'_, ProviderId>,
) -> Result<LedgerLine, Faults> {
    let mut faults = Faults::default();
    let organization = named(organizations, Column::Organization, &entry.organization, ("organisation", "组织"));
    let organization = organization.map_err(|fault| faults.note(Err(fault))).ok();
    let provider = entry.provider.as_ref().and_then(|name| {
        let found = named(providers, Column::Provider, name, ("provider", "云服务商"));
        found.map_err(|fault| faults.note(Err(fault))).ok()
    });
    faults.settled()?;
    let Some(organization) = organization else { return Err(Faults::default()) };
    Ok(LedgerLine {
        id: LedgerLineId(0),
        name: entry.name.clone(),
        uuid: entry.uuid.clone(),
        organization,
        application: entry.application.clone(),
        purpose: entry.purpose,
        expires_ms: entry.expires_ms,
        provider,
        vcpus: entry.vcpus,
        memory_bytes: entry.memory_bytes,
        disk_bytes: entry.disk_bytes,
        contact: entry.contact.clone(),
        note: entry.note.clone(),
    })
}

/// A line that is known, as a row says it: what a row leaves empty stays.
fn kept(line: LedgerLine, known: &LedgerLine) -> LedgerLine {
    LedgerLine {
        id: known.id,
        uuid: line.uuid.or_else(|| known.uuid.clone()),
        application: line.application.or_else(|| known.application.clone()),
        purpose: line.purpose.or(known.purpose),
        expires_ms: line.expires_ms.or(known.expires_ms),
        provider: line.provider.or(known.provider),
        vcpus: line.vcpus.or(known.vcpus),
        memory_bytes: line.memory_bytes.or(known.memory_bytes),
        disk_bytes: line.disk_bytes.or(known.disk_bytes),
        contact: line.contact.or_else(|| known.contact.clone()),
        note: line.note.or_else(|| known.note.clone()),
        ..line
    }
}

/// What is to be said of a machine by its line; `None`: it is said already.
fn said(line: &LedgerLine, machine: &MachineReport, vm: &Vm, now_ms: UnixMs) -> Option<VmRow> {
    let row = &vm.row;
    let change = VmChange {
        version: row.version,
        organization: Some(line.organization),
        since_ms: None,
        application: line.application.clone().or_else(|| row.application.clone()),
        purpose: line.purpose.or(row.purpose),
        // A table says a day; by hand somebody may have said an hour of it.
        expires_ms: line.expires_ms.filter(|ms| row.expires_ms.map(last_day) != Some(last_day(*ms))).or(row.expires_ms),
        // Its host's provider need not be said of it again.
        provider: line.provider.filter(|provider| machine.provider != Some(*provider)).or(row.provider),
    };
    // Every field was checked with the row, and ownership from now on can always be said.
    let said = row.changed(&change, now_ms, Faults::default()).ok()?;
    (VmRow { version: row.version, ..said.clone() } != *row).then_some(said)
}

type Fields = Vec<(&'static str, Option<String>)>;

fn fields(line: &LedgerLine) -> Fields {
    let number = |number: Option<i64>| number.map(|number| number.to_string());
    vec![
        ("name", Some(line.name.clone())),
        ("uuid", line.uuid.clone()),
        ("organization", Some(line.organization.to_string())),
        ("application", line.application.clone()),
        ("purpose", line.purpose.map(|purpose| purpose.name().to_owned())),
        ("expires_ms", number(line.expires_ms)),
        ("provider", line.provider.map(|provider| provider.to_string())),
        ("vcpus", number(line.vcpus)),
        ("memory_bytes", number(line.memory_bytes)),
        ("disk_bytes", number(line.disk_bytes)),
        ("contact", line.contact.clone()),
        ("note", line.note.clone()),
    ]
}

fn row_fields(row: &VmRow) -> Fields {
    vec![
        ("organization", row.owner.map(|owner| owner.to_string())),
        ("application", row.application.clone()),
        ("purpose", row.purpose.map(Purpose::name).map(str::to_owned)),
        ("expires_ms", row.expires_ms.map(|ms| ms.to_string())),
        ("provider", row.provider.map(|provider| provider.to_string())),
    ]
}

fn changed(before: &Fields, after: &Fields) -> Vec<FieldChange> {
    let pairs = before.iter().zip(after).filter(|((_, before), (_, after))| before != after);
    pairs
        .map(|((field, before), (_, after))| FieldChange { field, before: before.clone(), after: after.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::ledger::compare::tests::machine;
    use crate::compute::ledger::row::parse;
    use crate::compute::ledger::sheet::Table;
    use crate::compute::ledger::tests::line;

    const U1: &str = "0b5a6f3e-2d1c-4b7a-9e8f-112233445561";
    const U2: &str = "0b5a6f3e-2d1c-4b7a-9e8f-112233445562";

    fn vm(id: i64, uuid: &str, owner: Option<i64>) -> Arc<Vm> {
        let row = VmRow {
            id: VmId(id),
            organization: OrganizationId(1),
            uuid: uuid.to_owned(),
            created_ms: 10,
            version: 1,
            owner: owner.map(OrganizationId),
            assigned_ms: owner.map(|_| 20),
            application: Some("旧".to_owned()),
            purpose: None,
            expires_ms: None,
            provider: None,
            host: None,
        };
        Arc::new(Vm { row, sources: Vec::new(), places: Vec::new(), conflict: None })
    }

    fn planned(rows: &[&[&str]], lines: &[LedgerLine], replace: bool) -> Plan {
        let texts = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let table = Table {
            header: texts(&["虚拟机名称", "UUID", "使用单位", "应用系统", "云服务商"]),
            rows: (2..).zip(rows).map(|(row, cells)| (row, texts(cells))).collect(),
        };
        let names = [(1, "市"), (2, "卫健委"), (3, "教育局"), (4, "双"), (5, "双")];
        let organizations = names.map(|(id, name)| (OrganizationId(id), name.to_owned())).into();
        let providers = [(ProviderId(1), "市云".to_owned())].into();
        let machines =
            vec![MachineReport { provider: Some(ProviderId(1)), ..machine(1, U1, "one", 2) }, machine(2, U2, "two", 3)];
        let vms = [(VmId(1), vm(1, U1, None)), (VmId(2), vm(2, U2, Some(3)))].into();
        let ledger = Arc::new(Ledger { lines: lines.to_vec(), imported: None });
        let world = World { organizations, providers, ledger, machines, vms, now_ms: 100 };
        plan(parse(table, |_| {}).expect("a ledger"), &world, replace)
    }

    #[test]
    fn names_are_looked_up_and_what_is_like_them_is_told() {
        let plan = planned(&[&["a", "", "卫建委"], &["b", "", "双"], &["c", "", "市", "", "别云"]], &[], false);
        let said: Vec<_> = plan.failed.iter().map(|failed| failed.faults.0[0].chinese.as_str()).collect();
        assert_eq!(
            said,
            [
                "“使用单位”没有此组织：卫建委；是否为“卫健委”？",
                "“使用单位”有多个同名的组织：双",
                "“云服务商”没有此云服务商：别云；是否为“市云”？"
            ]
        );
        assert_eq!((plan.counts.failed, plan.is_nothing()), (3, true));
        assert!(plan.failed[0].faults.0[0].english.contains("is it 卫健委?"));
    }

    #[test]
    fn a_line_says_whose_its_machine_is_and_takes_nothing_away() {
        let plan = planned(&[&["one", U1, "卫健委", "", "市云"], &["two", U2, "教育局", "新"]], &[], false);
        let counts = ImportCounts { added: 2, matched: 2, machines_changed: 2, ..ImportCounts::default() };
        assert_eq!(plan.counts, counts);
        let (_, first) = &plan.machines[0];
        assert_eq!((first.owner, first.assigned_ms, first.version), (Some(OrganizationId(2)), Some(100), 2));
        assert_eq!(first.application.as_deref(), Some("旧"), "an empty cell says nothing");
        assert_eq!(first.provider, None, "its host says that");
        let (_, second) = &plan.machines[1];
        assert_eq!((second.owner, second.assigned_ms), (Some(OrganizationId(3)), Some(20)));
        let [change] = plan.changes[1].machine.as_slice() else { panic!("{:?}", plan.changes) };
        assert_eq!(
            (change.field, change.before.as_deref(), change.after.as_deref()),
            ("application", Some("旧"), Some("新"))
        );
    }

    #[test]
    fn a_row_changes_the_line_that_it_is_and_the_same_table_changes_nothing() {
        let lines = [
            LedgerLine { note: Some("记".to_owned()), ..line(4, Some(U1), "one", 2) },
            line(5, None, "three", 2),
            line(6, None, "four", 2),
        ];
        let rows: &[&[&str]] = &[&["one", "", "卫健委", "旧"], &["three", "", "教育局"], &["five", "", "市"]];
        let plan = planned(rows, &lines, true);
        let counts =
            ImportCounts { added: 1, changed: 2, removed: 1, matched: 1, machines_changed: 1, ..Default::default() };
        assert_eq!(plan.counts, counts);
        assert_eq!(plan.removed, [LedgerLineId(6)]);
        let put: Vec<_> = plan.put.iter().map(|line| (line.id.0, line.uuid.as_deref(), line.organization.0)).collect();
        assert_eq!(put, [(4, Some(U1), 2), (5, None, 3), (7, None, 1)]);
        assert_eq!(plan.put[0].note.as_deref(), Some("记"), "no column says otherwise");
        let again = planned(rows, &plan.put, true);
        assert_eq!((again.counts.unchanged, again.put.len(), again.removed.len()), (3, 0, 0));
        let kinds: Vec<_> = again.changes.iter().map(|change| change.kind).collect();
        assert_eq!(kinds, [ChangeKind::Unchanged], "its machine is not theirs yet");
        assert!(!planned(&[&["new", "", "市"]], &lines, false).is_nothing());
        assert_eq!(planned(&[&["new", "", "市"]], &lines, false).removed, []);
    }

    #[test]
    fn a_name_alone_takes_nothing_from_another_organisation() {
        let lines = [line(4, Some(U1), "one", 2)];
        let counts = |plan: &Plan| (plan.counts.added, plan.counts.changed, plan.counts.matched, plan.machines.len());
        let plan = planned(&[&["one", "", "教育局"]], &lines, false);
        assert_eq!(counts(&plan), (1, 0, 0, 0), "its own line, and the machine is the other line's");
        assert_eq!((plan.put[0].id.0, plan.put[0].uuid.as_deref()), (5, None));
        let both = [lines[0].clone(), plan.put[0].clone()];
        assert!(planned(&[&["one", "", "教育局"]], &both, false).is_nothing(), "the same table again");
        // The second machine is 教育局's.
        let plan = planned(&[&["two", "", "卫健委"]], &[], false);
        assert_eq!(counts(&plan), (1, 0, 1, 0), "a conflict to show, not a machine to give away");
        assert_eq!(counts(&planned(&[&["two", U2, "卫健委"]], &[], false)), (1, 0, 1, 1), "its UUID says so");
    }

    #[test]
    fn an_empty_cell_takes_nothing_from_a_line() {
        let known = LedgerLine { application: Some("办公".to_owned()), vcpus: Some(4), ..line(4, None, "x", 2) };
        assert!(planned(&[&["x", "", "卫健委", ""]], &[known], false).is_nothing());
    }

    #[test]
    fn names_that_are_wrong_are_sought_once() {
        let names = [(1, "卫健委".to_owned())].into();
        let mut names = Names::<i64>::of(&names);
        assert_eq!(names.alike("卫建委"), Some("卫健委"));
        for number in 0..2 * MOST_SOUGHT {
            assert_eq!(names.alike(&number.to_string()), None);
        }
        assert_eq!((names.sought.len(), names.alike("卫建委")), (MOST_SOUGHT, Some("卫健委")));
        assert_eq!(names.alike("卫健"), None, "enough was sought");
    }
}
