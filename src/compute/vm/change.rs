//! What people say of a virtual machine: whose it is since when, of which application, what for, until when.
//!
//! What must hold: whoever changes it says which version it was made from; a change is written with its audit entry;
//! its sources are given to the owner with it, from the same instant on; the past stays whose it was.

use std::sync::{Arc, PoisonError};

use sea_orm::{DatabaseTransaction, DbErr};
use serde_json::{Value, json};

use super::{Purpose, Vm, VmRow};
use crate::access::audit::Change;
use crate::access::capability::MeasurementsWrite;
use crate::access::form::{Fault, Faults, check_shown};
use crate::access::{Permit, Resource};
use crate::compute::provider::no_provider;
use crate::compute::reconciler::{Owned, owners};
use crate::compute::{Compute, Index, store};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{OrganizationId, ProviderId, VmId};

/// What is to be said of it, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::compute) struct VmChange {
    /// The version that it was made from.
    pub version: u64,
    /// Whose it is; `None`: nobody's.
    pub organization: Option<OrganizationId>,
    /// Since when, if that changes; `None`: now.
    pub since_ms: Option<UnixMs>,
    pub application: Option<String>,
    pub purpose: Option<Purpose>,
    pub expires_ms: Option<UnixMs>,
    pub provider: Option<ProviderId>,
}

/// Why it is not changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum VmChangeError {
    /// Fields.
    #[error(transparent)]
    Invalid(#[from] Faults),
    /// It was made from a version that is not the newest.
    #[error(
        "this was made from version {made_from}, but the virtual machine is at version {newest} by now: read it again and change that"
    )]
    Changed {
        /// What was sent.
        made_from: u64,
        /// What is there.
        newest: u64,
    },
    /// The database failed.
    #[error("the virtual machine cannot be changed: {0}")]
    Database(#[from] DbErr),
}

impl VmRow {
    /// As the audit log shows it.
    fn audited(&self) -> Value {
        json!({
            "organization": self.owner,
            "since_ms": self.assigned_ms,
            "application": self.application,
            "purpose": self.purpose,
            "expires_ms": self.expires_ms,
            "provider": self.provider,
        })
    }

    /// The same with a change, at an instant.
    pub(in crate::compute) fn changed(
        &self,
        change: &VmChange,
        now_ms: UnixMs,
        mut faults: Faults,
    ) -> Result<Self, Faults> {
        if let Some(application) = &change.application {
            faults.note(check_shown("application", application));
        }
        let mut assigned_ms = self.assigned_ms;
        if change.organization != self.owner {
            let (_, last_ms) = self.owned();
            // Before it was known it was nobody else's: the first one may have it from the beginning.
            let since_ms = match (change.since_ms, self.assigned_ms) {
                (None, _) => now_ms.max(last_ms),
                (Some(since_ms), None) => since_ms.max(last_ms),
                (Some(since_ms), Some(_)) => since_ms,
            };
            if since_ms < last_ms || change.since_ms.is_some_and(|since_ms| since_ms > now_ms) {
                faults.note(Err(Fault::new(
                    "since_ms",
                    "it cannot begin before the last change of its owner, nor in the future",
                    "归属起始时间不能早于上一次变更归属的时间，也不能晚于现在",
                )));
            }
            assigned_ms = Some(since_ms);
        }
        faults.settled()?;
        Ok(Self {
            version: self.version + 1,
            owner: change.organization,
            assigned_ms,
            application: change.application.clone(),
            purpose: change.purpose,
            expires_ms: change.expires_ms,
            provider: change.provider,
            ..self.clone()
        })
    }
}

impl Compute {
    /// Says of a virtual machine what people know. `None`: there is none for this permit.
    pub(super) async fn vm_change(
        &self,
        permit: &Permit<MeasurementsWrite>,
        id: VmId,
        change: VmChange,
    ) -> Result<Option<()>, VmChangeError> {
        let shared = &self.0;
        // Held from the check to the memory of the commit, as by the pass that joins.
        let mut joining = shared.joining.lock().await;
        if joining.unsure {
            self.read_back().await?;
            joining.unsure = false;
        }
        if !shared.access.is_visible(permit, Resource::Vm(id)) {
            return Ok(None);
        }
        let mut faults = Faults::default();
        let known = {
            let index = self.index();
            let Some(known) = index.vms.all.get(&id).cloned() else { return Ok(None) };
            if change.provider.is_some_and(|provider| !index.providers.contains_key(&provider)) {
                faults.note(Err(no_provider()));
            }
            known
        };
        if change.organization.is_some_and(|wanted| !shared.access.is_visible_organization(permit, wanted)) {
            faults.note(Err(Fault::new("organization", "there is no such organisation", "没有此组织")));
        }
        if change.version != known.row.version {
            return Err(VmChangeError::Changed { made_from: change.version, newest: known.row.version });
        }
        let row = known.row.changed(&change, shared.clock.now_ms(), faults)?;
        if (VmRow { version: known.row.version, ..row.clone() }) == known.row {
            // It is said already.
            return Ok(Some(()));
        }
        let changed = self.with_guests(vec![(known, row)]);
        let transaction = shared.db.begin("vm_change").await?;
        let owned = self.vms_put(&transaction, &changed).await?;
        let recorded = shared.access.record_all(&transaction, permit, vm_changes(&changed)).await?;
        if let Err(error) = transaction.commit().await {
            joining.unsure = true;
            return Err(error.into());
        }
        shared.access.recorded(recorded);
        self.vms_took(&mut shared.index.write().unwrap_or_else(PoisonError::into_inner), owned, changed);
        Ok(Some(()))
    }

    /// The same, and what follows of it for the hosts inside: see [`of_guest`].
    pub(in crate::compute) fn with_guests(&self, mut changed: Vec<(Arc<Vm>, VmRow)>) -> Vec<(Arc<Vm>, VmRow)> {
        let index = self.index();
        let guests: Vec<_> = changed.iter().filter_map(|(known, row)| of_guest(&index, known, row)).collect();
        changed.extend(guests);
        changed
    }

    /// Writes what is said of machines: as they were, and as they are to be. After the commit call
    /// [`vms_took`](Self::vms_took) with what this gives back.
    pub(in crate::compute) async fn vms_put(
        &self,
        transaction: &DatabaseTransaction,
        changed: &[(Arc<Vm>, VmRow)],
    ) -> Result<Owned, DbErr> {
        let rows: Vec<_> = changed.iter().map(|(_, row)| row.clone()).collect();
        store::vm::put(transaction, &rows).await?;
        let given = changed.iter().filter(|(known, row)| row.owned() != known.row.owned());
        let owned: Owned =
            given.flat_map(|(known, row)| owners(&Vm { row: row.clone(), ..Vm::clone(known) })).collect();
        self.0.access.own(transaction, &owned).await?;
        Ok(owned)
    }

    /// Takes over what was committed.
    pub(in crate::compute) fn vms_took(
        &self,
        index: &mut Index,
        owned: Owned,
        changed: impl IntoIterator<Item = (Arc<Vm>, VmRow)>,
    ) {
        self.0.access.owned(&owned);
        index.revision += 1;
        for (known, row) in changed {
            index.vms.put(Vm { row, ..Vm::clone(&known) });
        }
    }
}

/// What becomes of a host's own row when the hypervisor's row of the same machine gets another owner. If people had said
/// the same owner of both, the host and what it measures go with the machine; if they had given it to somebody else, it
/// is nobody's: whose machine it was reads it no more, and nobody gets it by a guest's word. An agent that was
/// enrolled for an organisation stays theirs.
fn of_guest(index: &Index, known: &Vm, row: &VmRow) -> Option<(Arc<Vm>, VmRow)> {
    let host = index.vms.inside.hosts.get(&row.id).filter(|_| row.owner != known.row.owner)?;
    let own = index.vms.all.get(index.vms.of_hosts.get(host)?)?;
    let given = own.row.owner.filter(|owner| *owner != own.row.organization && row.owner != Some(*owner))?;
    let owner = row.owner.filter(|_| known.row.owner == Some(given));
    let from_ms = row.owned().1.max(own.row.owned().1);
    let changed = VmRow { version: own.row.version + 1, owner, assigned_ms: Some(from_ms), ..own.row.clone() };
    Some((Arc::clone(own), changed))
}

/// What the audit log says of changed machines, one entry each.
pub(in crate::compute) fn vm_changes(changed: &[(Arc<Vm>, VmRow)]) -> Vec<Change> {
    let change = |(known, row): &(Arc<Vm>, VmRow)| Change {
        action: "vm.update",
        resource: row.id.to_string(),
        before: known.row.audited(),
        after: row.audited(),
    };
    changed.iter().map(change).collect()
}
