//! Providers: who runs hosts and virtual machines, the city itself or a company that it pays.
//!
//! What must hold: only who reaches the whole city says who there is; one that something is of stays.

use std::sync::PoisonError;

use sea_orm::DbErr;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Compute, store};
use crate::access::audit::Change;
use crate::access::capability::{MeasurementsRead, MeasurementsWrite};
use crate::access::form::{Fault, Faults, check_shown};
use crate::access::{Permit, ROOT, Resource};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{HostId, ProviderId};

/// Whose platform it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ProviderKind {
    /// The city's own.
    Own,
    /// A company's.
    Outsourced,
}

impl ProviderKind {
    /// As the database names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Outsourced => "outsourced",
        }
    }
}

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Provider {
    pub id: ProviderId,
    pub name: String,
    pub kind: ProviderKind,
    pub contact: String,
    /// Grows with every change.
    pub version: u64,
    pub created_ms: UnixMs,
}

/// What is said of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProviderContent {
    pub name: String,
    pub kind: ProviderKind,
    pub contact: String,
}

/// A provider, as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProviderReport {
    /// Its id.
    #[schema(value_type = String, example = "provider_1")]
    pub id: ProviderId,
    /// How it is called.
    pub name: String,
    /// Whose platform it is.
    pub kind: ProviderKind,
    /// Whom to ask.
    pub contact: String,
    /// Grows with every change.
    pub version: u64,
    /// When it was added.
    pub created_ms: UnixMs,
    /// Its hosts that are no virtual machines, of those that the asker sees.
    pub hosts: usize,
    /// Its virtual machines, of those that the asker sees.
    pub vms: usize,
}

/// Why it is not changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProviderError {
    /// Fields.
    #[error(transparent)]
    Invalid(#[from] Faults),
    /// It was made from a version that is not the newest.
    #[error(
        "this was made from version {made_from}, but the provider is at version {newest} by now: read it again and change that"
    )]
    Changed {
        /// What was sent.
        made_from: u64,
        /// What is there.
        newest: u64,
    },
    /// Something is of it.
    #[error("hosts, virtual machines or lines of the ledger are of this provider: give them to another one first")]
    InUse,
    /// Who asks reaches a part of the city alone.
    #[error("providers are the whole city's: this takes somebody who reaches all of it")]
    NotRoot,
    /// The database failed.
    #[error("the provider cannot be changed: {0}")]
    Database(#[from] DbErr),
}

/// What is said of a provider that is not there.
pub(super) fn no_provider() -> Fault {
    Fault::new("provider", "there is no such provider", "没有此云服务商")
}

impl Provider {
    /// As the audit log shows it.
    fn audited(&self) -> Value {
        json!({ "name": self.name, "kind": self.kind, "contact": self.contact })
    }
}

impl ProviderContent {
    fn check(&self, taken: bool) -> Result<(), Faults> {
        let mut faults = Faults::default();
        faults.note(check_shown("name", &self.name));
        if !self.contact.is_empty() {
            faults.note(check_shown("contact", &self.contact));
        }
        if taken {
            faults.note(Err(Fault::new("name", "another provider has this name", "此名称已被另一云服务商使用")));
        }
        faults.settled()
    }
}

impl Compute {
    /// All of them, in order of id.
    pub(super) fn providers(&self, permit: &Permit<MeasurementsRead>) -> Vec<ProviderReport> {
        // Those of machines follow from their hosts', so they are counted where they are shown.
        let vms = self.look(permit, |board: &super::board::Board<super::vm::line::VmLine>| {
            let mut counts = std::collections::HashMap::<ProviderId, usize>::new();
            board.rows.iter().filter_map(|row| row.shown.provider).for_each(|id| *counts.entry(id).or_default() += 1);
            counts
        });
        let index = self.index();
        let seen = index.hosts.values().filter(|host| self.0.access.is_visible(permit, Resource::Host(host.row.id)));
        let seen = seen.filter(|host| !index.vms.inside.vms.contains_key(&host.row.id));
        let hosts: Vec<_> = seen.filter_map(|host| host.row.provider).collect();
        let report = |provider: &Provider| ProviderReport {
            id: provider.id,
            name: provider.name.clone(),
            kind: provider.kind,
            contact: provider.contact.clone(),
            version: provider.version,
            created_ms: provider.created_ms,
            hosts: hosts.iter().filter(|id| **id == provider.id).count(),
            vms: vms.get(&provider.id).copied().unwrap_or(0),
        };
        index.providers.values().map(report).collect()
    }

    /// Adds one, or changes the one of an id that was read at a version. `None`: there is none such.
    pub(super) async fn provider_put(
        &self,
        permit: &Permit<MeasurementsWrite>,
        target: Option<(ProviderId, u64)>,
        content: ProviderContent,
    ) -> Result<Option<ProviderId>, ProviderError> {
        let shared = &self.0;
        if permit.organization() != ROOT {
            return Err(ProviderError::NotRoot);
        }
        let mut joining = shared.joining.lock().await;
        if joining.unsure {
            self.read_back().await?;
            joining.unsure = false;
        }
        let (id, known, taken) = {
            let index = self.index();
            let next = || ProviderId(index.providers.keys().last().map_or(0, |last| last.0) + 1);
            let id = target.map_or_else(next, |(id, _)| id);
            let taken = index.providers.values().any(|other| other.id != id && other.name == content.name);
            (id, index.providers.get(&id).cloned(), taken)
        };
        if let Some((_, made_from)) = target {
            let Some(known) = &known else { return Ok(None) };
            if known.version != made_from {
                return Err(ProviderError::Changed { made_from, newest: known.version });
            }
        }
        content.check(taken)?;
        let ProviderContent { name, kind, contact } = content;
        let (version, created_ms) =
            known.as_ref().map_or((1, shared.clock.now_ms()), |known| (known.version + 1, known.created_ms));
        let provider = Provider { id, name, kind, contact, version, created_ms };
        let transaction = shared.db.begin("provider_put").await?;
        match &known {
            None => store::provider::insert(&transaction, &provider).await?,
            Some(_) => store::provider::update(&transaction, &provider).await?,
        }
        let change = Change {
            action: if known.is_some() { "provider.update" } else { "provider.create" },
            resource: id.to_string(),
            before: known.as_ref().map_or(Value::Null, Provider::audited),
            after: provider.audited(),
        };
        let recorded = shared.access.record(&transaction, permit, change).await?;
        if let Err(error) = transaction.commit().await {
            joining.unsure = true;
            return Err(error.into());
        }
        shared.access.recorded(recorded);
        shared.index.write().unwrap_or_else(PoisonError::into_inner).providers.insert(id, provider);
        Ok(Some(id))
    }

    /// Removes one that nothing is of. `None`: there is none such.
    pub(super) async fn provider_delete(
        &self,
        permit: &Permit<MeasurementsWrite>,
        id: ProviderId,
    ) -> Result<Option<()>, ProviderError> {
        let shared = &self.0;
        if permit.organization() != ROOT {
            return Err(ProviderError::NotRoot);
        }
        let mut joining = shared.joining.lock().await;
        if joining.unsure {
            self.read_back().await?;
            joining.unsure = false;
        }
        let (known, in_use) = {
            let index = self.index();
            let Some(known) = index.providers.get(&id).cloned() else { return Ok(None) };
            let hosts = index.hosts.values().any(|host| host.row.provider == Some(id));
            let vms = index.vms.all.values().any(|vm| vm.row.provider == Some(id));
            let lines = index.ledger.lines.iter().any(|line| line.provider == Some(id));
            (known, hosts || vms || lines)
        };
        if in_use {
            return Err(ProviderError::InUse);
        }
        let transaction = shared.db.begin("provider_delete").await?;
        store::provider::delete(&transaction, id).await?;
        let (resource, before) = (id.to_string(), known.audited());
        let change = Change { action: "provider.delete", resource, before, after: Value::Null };
        let recorded = shared.access.record(&transaction, permit, change).await?;
        if let Err(error) = transaction.commit().await {
            joining.unsure = true;
            return Err(error.into());
        }
        shared.access.recorded(recorded);
        shared.index.write().unwrap_or_else(PoisonError::into_inner).providers.remove(&id);
        Ok(Some(()))
    }

    /// Says who provides a host. `None`: there is no such host for this permit.
    pub(super) async fn host_provider_set(
        &self,
        permit: &Permit<MeasurementsWrite>,
        host: HostId,
        provider: Option<ProviderId>,
    ) -> Result<Option<()>, ProviderError> {
        let shared = &self.0;
        let mut joining = shared.joining.lock().await;
        if joining.unsure {
            self.read_back().await?;
            joining.unsure = false;
        }
        if !shared.access.is_visible(permit, Resource::Host(host)) {
            return Ok(None);
        }
        let row = {
            let index = self.index();
            if provider.is_some_and(|provider| !index.providers.contains_key(&provider)) {
                return Err(Faults::from(no_provider()).into());
            }
            let Some(known) = index.hosts.get(&host) else { return Ok(None) };
            known.row.clone()
        };
        let transaction = shared.db.begin("host_provider_set").await?;
        store::host_provider_set(&transaction, host, provider).await?;
        let change = Change {
            action: "host.update",
            resource: host.to_string(),
            before: json!({ "provider": row.provider }),
            after: json!({ "provider": provider }),
        };
        let recorded = shared.access.record(&transaction, permit, change).await?;
        if let Err(error) = transaction.commit().await {
            joining.unsure = true;
            return Err(error.into());
        }
        shared.access.recorded(recorded);
        let mut index = shared.index.write().unwrap_or_else(PoisonError::into_inner);
        index.change(super::joining::HostRow { provider, ..row });
        Ok(Some(()))
    }
}
