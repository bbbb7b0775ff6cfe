//! The ledger: what the city's tables say of its virtual machines, and how that stands to what is measured.
//!
//! What must hold: a table is checked whole before anything is written, and what is taken of it is written in one
//! transaction or not at all; rows that are not taken come back with their reasons; the same table again changes
//! nothing. What a line says of whose a machine is goes the same way as what a person says of it by hand.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::Compute;
use super::board::Board;
use super::list::{Cut, Field, Listed, OtherOrder, page, sought};
use super::vm::Purpose;
use super::vm::line::VmLine;
use super::vm::report::{ToldBy, VmState, VmSummary};
use crate::access::Permit;
use crate::access::capability::MeasurementsRead;
use crate::platform::clock::UnixMs;
use crate::platform::ids::{HostId, LedgerLineId, OrganizationId, ProviderId, VmId};

pub(super) mod api;
mod compare;
mod import;
mod job;
mod plan;
mod row;
mod sheet;
mod workbook;

pub(super) use job::Imports;

use compare::{FieldDifference, Pair, Standing, reconcile};

/// What the ledger says of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LedgerLine {
    pub id: LedgerLineId,
    pub name: String,
    pub uuid: Option<String>,
    pub organization: OrganizationId,
    pub application: Option<String>,
    pub purpose: Option<Purpose>,
    pub expires_ms: Option<UnixMs>,
    pub provider: Option<ProviderId>,
    pub vcpus: Option<i64>,
    pub memory_bytes: Option<i64>,
    pub disk_bytes: Option<i64>,
    pub contact: Option<String>,
    pub note: Option<String>,
}

/// The import that changed the ledger last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Imported {
    /// When (Unix time in milliseconds).
    pub at_ms: UnixMs,
    /// Who.
    pub by: String,
    /// The table's name.
    pub file: String,
}

/// Everything that was imported.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ledger {
    /// In order of id.
    pub lines: Vec<LedgerLine>,
    pub imported: Option<Imported>,
}

/// What the ledger says of a machine, as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct LineReport {
    /// Its id.
    #[schema(value_type = String, example = "line_1")]
    id: LedgerLineId,
    /// How it is called.
    name: String,
    /// Its UUID.
    uuid: Option<String>,
    /// Whose it is.
    #[schema(value_type = String, example = "org_2")]
    organization: OrganizationId,
    /// Of which application it is a part.
    application: Option<String>,
    /// What it is for.
    purpose: Option<Purpose>,
    /// Until when it is given (Unix time in milliseconds).
    expires_ms: Option<UnixMs>,
    /// Who provides it.
    #[schema(value_type = Option<String>, example = "provider_1")]
    provider: Option<ProviderId>,
    /// Virtual processors.
    vcpus: Option<i64>,
    /// Memory.
    memory_bytes: Option<i64>,
    /// Size of its disks.
    disk_bytes: Option<i64>,
    /// Whom to ask.
    contact: Option<String>,
    /// What else is said.
    note: Option<String>,
}

/// A machine that is measured, as far as a ledger speaks of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct MachineReport {
    /// Its id.
    #[schema(value_type = String, example = "vm_1")]
    vm: VmId,
    /// Its name on its host.
    name: String,
    /// Its UUID; null: its own agent tells of it, and may not read it.
    uuid: Option<String>,
    /// Who tells of it.
    told_by: ToldBy,
    /// How it is.
    state: VmState,
    /// Who sees it as its own.
    #[schema(value_type = String, example = "org_2")]
    organization: OrganizationId,
    /// It was given to that organisation.
    assigned: bool,
    /// Where it is.
    #[schema(value_type = Option<String>, example = "host_1")]
    host: Option<HostId>,
    /// That host's name.
    host_name: Option<String>,
    /// Of which application it is a part.
    application: Option<String>,
    /// What it is for.
    purpose: Option<Purpose>,
    /// Until when it was given (Unix time in milliseconds).
    expires_ms: Option<UnixMs>,
    /// Who provides it.
    #[schema(value_type = Option<String>, example = "provider_1")]
    provider: Option<ProviderId>,
    /// Virtual processors.
    vcpus: Option<i64>,
    /// Memory that it may be given.
    memory_bytes: Option<i64>,
    /// Size of its disks.
    disk_bytes: Option<i64>,
}

/// A line of the ledger, a machine, or both.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Reconciled {
    /// Its id: that of the line, else of the machine.
    #[schema(example = "line_1")]
    id: String,
    /// How the two stand to each other.
    standing: Standing,
    /// Which fields differ, of those that both say.
    differences: Vec<FieldDifference>,
    /// What the ledger says.
    line: Option<LineReport>,
    /// What is measured. With `only_ledger`: its host says that it is not there any more.
    machine: Option<MachineReport>,
}

/// How many there are of a standing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
struct StandingCounts {
    /// In both, and something differs.
    conflicting: usize,
    /// In the ledger, and not there.
    only_ledger: usize,
    /// There, and not in the ledger.
    only_measured: usize,
    /// In both, and nothing differs.
    both: usize,
}

impl StandingCounts {
    fn of(all: &[Reconciled]) -> Self {
        let [conflicting, only_ledger, only_measured, both] =
            Standing::ALL.map(|standing| all.iter().filter(|one| one.standing == standing).count());
        Self { conflicting, only_ledger, only_measured, both }
    }
}

impl From<LedgerLine> for LineReport {
    fn from(line: LedgerLine) -> Self {
        let LedgerLine { id, name, uuid, organization, application, purpose, expires_ms, provider, .. } = line;
        let LedgerLine { vcpus, memory_bytes, disk_bytes, contact, note, .. } = line;
        Self {
            id,
            name,
            uuid,
            organization,
            application,
            purpose,
            expires_ms,
            provider,
            vcpus,
            memory_bytes,
            disk_bytes,
            contact,
            note,
        }
    }
}

impl From<&VmSummary> for MachineReport {
    fn from(vm: &VmSummary) -> Self {
        Self {
            vm: vm.id,
            name: vm.name.clone(),
            uuid: vm.uuid.clone(),
            told_by: vm.told_by,
            state: vm.state,
            organization: vm.organization,
            assigned: vm.assigned,
            host: vm.host,
            host_name: vm.host_name.clone(),
            application: vm.application.clone(),
            purpose: vm.purpose,
            expires_ms: vm.expires_ms,
            provider: vm.provider,
            vcpus: vm.vcpus,
            memory_bytes: vm.memory_maximum_bytes.filter(|bytes| *bytes > 0).or(vm.memory_bytes),
            disk_bytes: vm.disk_capacity_bytes,
        }
    }
}

impl Reconciled {
    fn name(&self) -> &str {
        let line = self.line.as_ref().map(|line| line.name.as_str());
        line.or(self.machine.as_ref().map(|machine| machine.name.as_str())).unwrap_or_default()
    }

    fn organization(&self) -> Option<OrganizationId> {
        self.line.as_ref().map(|line| line.organization).or(self.machine.as_ref().map(|machine| machine.organization))
    }

    fn is_found(&self, search: &str) -> bool {
        let has = |text: &str| text.to_lowercase().contains(search);
        let some = |text: &Option<String>| text.as_deref().is_some_and(has);
        let in_line = |line: &LineReport| {
            has(&line.name) || some(&line.uuid) || some(&line.application) || some(&line.contact) || some(&line.note)
        };
        let in_machine = |machine: &MachineReport| {
            has(&machine.name) || some(&machine.uuid) || some(&machine.host_name) || some(&machine.application)
        };
        self.id == search || self.line.as_ref().is_some_and(in_line) || self.machine.as_ref().is_some_and(in_machine)
    }
}

/// Behind every line's.
const MACHINES_FROM: i64 = 1 << 40;

impl Listed for Reconciled {
    const FIELDS: &'static [Field<Self>] = &[
        Field::Number("id", |one| Some(one.number() as f64)),
        Field::Number("standing", |one| Some(f64::from(one.standing as u8))),
        Field::Text("name", |one| Some(one.name())),
        Field::Number("organization", |one| one.organization().map(|id| id.0 as f64)),
        Field::Number("differences", |one| Some(one.differences.len() as f64)),
    ];
    const PREFIX: &'static str = "entry";

    fn number(&self) -> i64 {
        let machine = self.machine.as_ref().map_or(0, |machine| MACHINES_FROM + machine.vm.0);
        self.line.as_ref().map_or(machine, |line| line.id.0)
    }
}

/// What is asked of the reconciliation. What is absent filters nothing.
#[derive(Debug, Default)]
struct ReconciledWanted {
    search: Option<String>,
    organization: Option<OrganizationId>,
    standings: Option<super::list::AnyOf<Standing>>,
    cut: Cut<Reconciled>,
}

impl Compute {
    /// The machines that a permit shows, as a ledger speaks of them.
    fn machines(&self, permit: &Permit<MeasurementsRead>) -> Vec<MachineReport> {
        self.look(permit, |board: &Board<VmLine>| {
            board.rows.iter().map(|row| MachineReport::from(&row.shown)).collect()
        })
    }

    /// What a permit shows of the ledger beside what it shows of the machines, in order of `Listed::number`.
    pub(super) fn reconciled(&self, permit: &Permit<MeasurementsRead>) -> Vec<Reconciled> {
        let ledger = Arc::clone(&self.index().ledger);
        let organizations = self.0.access.organizations_within(permit);
        let visible = ledger.lines.iter().filter(|line| organizations.contains_key(&line.organization));
        let lines: Vec<_> = visible.cloned().collect();
        let machines = self.machines(permit);
        let pairs = reconcile(&lines, &machines);
        let mut lines: Vec<_> = lines.into_iter().map(Some).collect();
        let mut machines: Vec<_> = machines.into_iter().map(Some).collect();
        // Each is in one pair.
        let shown = |Pair { standing, line, machine, differences }: Pair| {
            let line = line.and_then(|at| lines[at].take()).map(LineReport::from);
            let machine = machine.and_then(|at| machines[at].take());
            let id = line.as_ref().map(|line| line.id.to_string());
            let id = id.or(machine.as_ref().map(|machine| machine.vm.to_string())).unwrap_or_default();
            Reconciled { id, standing, differences, line, machine }
        };
        pairs.into_iter().map(shown).collect()
    }
}

/// The places of a page, and where the next one begins.
fn chosen(
    all: &[Reconciled],
    wanted: &ReconciledWanted,
) -> Result<(Vec<usize>, Option<super::list::Cursor<Reconciled>>), OtherOrder> {
    let search = sought(wanted.search.as_deref());
    let chosen = all.iter().enumerate().filter(|(_, one)| {
        wanted.organization.is_none_or(|organization| one.organization() == Some(organization))
            && wanted.standings.as_ref().is_none_or(|standings| standings.has(one.standing))
            && search.as_ref().is_none_or(|search| one.is_found(search))
    });
    page(chosen, &wanted.cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line that says little.
    pub(super) fn line(id: i64, uuid: Option<&str>, name: &str, organization: i64) -> LedgerLine {
        LedgerLine {
            id: LedgerLineId(id),
            name: name.to_owned(),
            uuid: uuid.map(str::to_owned),
            organization: OrganizationId(organization),
            application: None,
            purpose: None,
            expires_ms: None,
            provider: None,
            vcpus: None,
            memory_bytes: None,
            disk_bytes: None,
            contact: None,
            note: None,
        }
    }
}
