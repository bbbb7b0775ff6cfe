//! What people say of a virtual machine: whose it is since when, of which application, what for, until when.
//!
//! What must hold: whoever changes it says which version it was made from; a change is written with its audit entry;
//! its sources are given to the owner with it, from the same instant on; the past stays whose it was.

use std::sync::PoisonError;

use sea_orm::DbErr;
use serde_json::{Value, json};

use super::{Purpose, Vm, VmRow};
use crate::access::audit::Change;
use crate::access::capability::MeasurementsWrite;
use crate::access::form::{Fault, Faults, check_shown};
use crate::access::{Permit, Resource};
use crate::compute::provider::no_provider;
use crate::compute::reconciler::owners;
use crate::compute::{Compute, store};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{OrganizationId, ProviderId, VmId};

/// What is to be said of it, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VmChange {
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
    fn changed(&self, change: &VmChange, now_ms: UnixMs, mut faults: Faults) -> Result<Self, Faults> {
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
        let changed = Vm { row, ..Vm::clone(&known) };
        let owned = if changed.row.owned() == known.row.owned() { Vec::new() } else { owners(&changed) };
        let transaction = shared.db.begin("vm_change").await?;
        store::vm::update(&transaction, &changed.row).await?;
        shared.access.own(&transaction, &owned).await?;
        let (before, after) = (known.row.audited(), changed.row.audited());
        let change = Change { action: "vm.update", resource: id.to_string(), before, after };
        let recorded = shared.access.record(&transaction, permit, change).await?;
        if let Err(error) = transaction.commit().await {
            joining.unsure = true;
            return Err(error.into());
        }
        shared.access.recorded(recorded);
        shared.access.owned(&owned);
        let mut index = shared.index.write().unwrap_or_else(PoisonError::into_inner);
        index.revision += 1;
        index.vms.put(changed);
        Ok(Some(()))
    }
}
