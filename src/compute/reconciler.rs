//! Gives every host's source its host. Idempotent; a pass does a bounded batch.
//!
//! What must hold: memory knows what the database holds. A commit may be durable and yet be reported as
//! failed; so after any failure the next pass reads back first.

use std::sync::PoisonError;
use std::time::Duration;

use sea_orm::DbErr;

use super::joining::Loose;
use super::{Compute, HOST_KIND, store};
use crate::access::Resource;
use crate::platform::shutdown::Shutdown;

/// Between two passes.
const PASS: Duration = Duration::from_secs(1);
/// Between two if nothing is new, as far as this process knows.
const QUIET: Duration = Duration::from_secs(60);
/// Sources of one pass.
const BATCH: usize = 5_000;

/// What one pass tells the next.
#[derive(Debug, Default)]
pub(super) struct Joining {
    /// How many sources there were when none was left to join.
    seen: usize,
    /// A pass failed: the database may hold what memory does not.
    unsure: bool,
}

/// What a pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// Hosts that are new.
    pub hosts: usize,
    /// Sources that have a host now.
    pub sources: usize,
    /// Sources that wait for the transaction that says whose they are.
    pub waiting: usize,
}

impl Compute {
    /// Reconciles until the shutdown.
    pub async fn keep_reconciled(self, shutdown: Shutdown) {
        let mut failing = false;
        let mut told = std::pin::pin!(shutdown.triggered());
        loop {
            let done = self.reconcile().await;
            let quiet = matches!(&done, Ok(done) if *done == Reconciled::default());
            match done {
                Ok(done) if done.sources > 0 => {
                    tracing::info!(hosts = done.hosts, sources = done.sources, "hosts joined");
                    failing = false;
                }
                Ok(_) => failing = false,
                // Once, not each second.
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "hosts could not be joined; trying again");
                }
                Err(_) => {}
            }
            let wait = async {
                if quiet {
                    let _ = tokio::time::timeout(QUIET, self.0.telemetry.sources_added()).await;
                }
                // Those that come at once are joined at once.
                tokio::time::sleep(PASS).await;
            };
            tokio::select! {
                () = wait => {}
                () = &mut told => return,
            }
        }
    }

    /// One pass.
    ///
    /// # Errors
    /// The database failed; nothing is joined then.
    pub async fn reconcile(&self) -> Result<Reconciled, DbErr> {
        let mut joining = self.0.joining.lock().await;
        if joining.unsure {
            self.read_back().await?;
        }
        let done = self.join(&mut joining.seen).await;
        joining.unsure = done.is_err();
        done
    }

    /// Takes over hosts and joins that memory does not know.
    async fn read_back(&self) -> Result<(), DbErr> {
        let shared = &self.0;
        // On the writing connection: what was begun before on it has ended.
        let transaction = shared.db.begin("hosts_read_back").await?;
        let hosts = store::host_list(&transaction).await?;
        let joins = store::host_source_list(&transaction).await?;
        transaction.rollback().await?;
        let mut index = shared.index.write().unwrap_or_else(PoisonError::into_inner);
        for host in hosts {
            if !index.hosts.contains_key(&host.id) {
                shared.access.owned(&[(Resource::Host(host.id), host.organization, host.created_ms)]);
                index.insert(host);
            }
        }
        for join in joins {
            if !index.joined.contains(&join.source) {
                index.join(join);
            }
        }
        Ok(())
    }

    async fn join(&self, seen: &mut usize) -> Result<Reconciled, DbErr> {
        let shared = &self.0;
        let count = shared.telemetry.source_count();
        if *seen == count {
            return Ok(Reconciled::default());
        }
        let (decision, waiting) = {
            let index = shared.index.read().unwrap_or_else(PoisonError::into_inner);
            let mut loose = Vec::new();
            let mut waiting = 0;
            for source in shared.telemetry.sources_unknown(HOST_KIND, |id| index.joined.contains(&id)) {
                let owner = shared.access.owner(Resource::Source(source.id));
                let Some(organization) = owner else {
                    waiting += 1;
                    continue;
                };
                // A source without a machine id is a machine of its own.
                let machine_id = if source.key.is_empty() { source.id.to_string() } else { source.key };
                loose.push(Loose { source: source.id, organization, machine_id, created_ms: source.created_ms });
                if loose.len() == BATCH {
                    break;
                }
            }
            (index.known.decide(loose), waiting)
        };
        let done = Reconciled { hosts: decision.hosts.len(), sources: decision.joins.len(), waiting };
        if decision.joins.is_empty() {
            if waiting == 0 {
                *seen = count;
            }
            return Ok(done);
        }
        let owned: Vec<_> =
            decision.hosts.iter().map(|host| (Resource::Host(host.id), host.organization, host.created_ms)).collect();
        let transaction = shared.db.begin("hosts_join").await?;
        store::host_insert(&transaction, &decision.hosts).await?;
        store::host_source_insert(&transaction, &decision.joins).await?;
        shared.access.own(&transaction, &owned).await?;
        transaction.commit().await?;
        shared.access.owned(&owned);
        let mut index = shared.index.write().unwrap_or_else(PoisonError::into_inner);
        decision.hosts.into_iter().for_each(|host| index.insert(host));
        decision.joins.into_iter().for_each(|join| index.join(join));
        Ok(done)
    }
}
