//! Gives every source of a host, a hypervisor or a domain the thing that it is of, and follows virtual machines
//! from host to host. Idempotent; a pass does a bounded batch.
//!
//! What must hold: memory knows what the database holds. A commit may be durable and yet be reported as
//! failed; so after any failure the next pass reads back first.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sea_orm::DbErr;

use super::joining::{Join, Loose};
use super::store::JoinTable;
use super::vm::inside::Told;
use super::vm::joining::LooseDomain;
use super::vm::{DOMAIN_KIND, NODE_KIND, Tracks, Vm};
use super::{Compute, HOST_KIND, store};
use crate::access::Resource;
use crate::platform::clock::UnixMs;
use crate::platform::ids::OrganizationId;
use crate::platform::shutdown::Shutdown;
use crate::telemetry::SourceInfo;

/// Between two passes.
const PASS: Duration = Duration::from_secs(1);
/// Between two if nothing is new, as far as this process knows.
const QUIET: Duration = Duration::from_secs(60);
/// The same, while virtual machines are followed, or hosts have not said what they are.
const FOLLOWING: Duration = Duration::from_secs(2);
/// Sources of one pass.
const BATCH: usize = 5_000;

/// What one pass tells the next.
#[derive(Debug)]
pub(super) struct Joining {
    /// How many sources there were when none was left to join.
    seen: usize,
    /// A pass or a change failed: the database may hold what memory does not.
    pub unsure: bool,
    tracks: Tracks,
    told: Told,
}

impl Joining {
    /// Nothing is known yet, and it is looked from now on.
    pub(super) fn new(now_ms: UnixMs) -> Self {
        Self { seen: 0, unsure: false, tracks: Tracks::new(now_ms), told: Told::default() }
    }
}

/// What a pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// Hosts that are new.
    pub hosts: usize,
    /// Virtual machines that are new.
    pub vms: usize,
    /// Sources that are of something now.
    pub sources: usize,
    /// Sources that wait: for the transaction that says whose they are, or for their facts.
    pub waiting: usize,
    /// Virtual machines that are on another host now.
    pub moved: usize,
}

/// Owners to be written with what they own.
pub(super) type Owned = Vec<(Resource, OrganizationId, UnixMs)>;

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
                    let Reconciled { hosts, vms, sources, .. } = done;
                    tracing::info!(hosts, vms, sources, "hosts and virtual machines joined");
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
            let follows = {
                let vms = &self.index().vms;
                !vms.several.is_empty() || vms.inside.waiting
            };
            let wait = async {
                if quiet {
                    let longest = if follows { FOLLOWING } else { QUIET };
                    let _ = tokio::time::timeout(longest, self.0.telemetry.sources_added()).await;
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
        let done = self.pass(&mut joining).await;
        joining.unsure = done.is_err();
        done
    }

    async fn pass(&self, joining: &mut Joining) -> Result<Reconciled, DbErr> {
        let Joining { seen, tracks, told, .. } = joining;
        let mut done = Reconciled::default();
        let count = self.0.telemetry.source_count();
        if *seen != count {
            self.join_hosts(JoinTable::Host, &mut done).await?;
            self.join_hosts(JoinTable::Node, &mut done).await?;
            self.join_domains(&mut done).await?;
            if done.sources == 0 && done.waiting == 0 {
                *seen = count;
            }
        }
        self.join_inside(told, &mut done).await?;
        done.moved = self.vms_follow(tracks).await?;
        Ok(done)
    }

    /// Takes over what memory does not know.
    pub(super) async fn read_back(&self) -> Result<(), DbErr> {
        let shared = &self.0;
        // On the writing connection: what was begun before on it has ended.
        let transaction = shared.db.begin("hosts_read_back").await?;
        let hosts = store::host_list(&transaction).await?;
        let joins = store::host_source_list(&transaction, JoinTable::Host).await?;
        let nodes = store::host_source_list(&transaction, JoinTable::Node).await?;
        let vms = store::vm::list(&transaction).await?;
        let providers = store::provider::list(&transaction).await?;
        let ledger = store::ledger::load(&transaction).await?;
        transaction.rollback().await?;
        let mut index = shared.index.write().unwrap_or_else(PoisonError::into_inner);
        index.revision += 1;
        for host in hosts {
            match index.hosts.get(&host.id) {
                None => {
                    shared.access.owned(&[(Resource::Host(host.id), host.organization, host.created_ms)]);
                    index.insert(host);
                }
                Some(known) if known.row != host => index.change(host),
                Some(_) => {}
            }
        }
        for join in joins {
            if !index.joined.contains(&join.source) {
                index.join(join);
            }
        }
        for node in nodes {
            if !index.joined.contains(&node.source) {
                self.join_node(&mut index, node);
            }
        }
        for vm in vms {
            let known = index.vms.all.get(&vm.row.id);
            let conflict = known.and_then(|known| known.conflict);
            let vm = Vm { conflict, ..vm };
            if known.is_none_or(|known| **known != vm) {
                shared.access.owned(&owners(&vm));
                index.vms.put(vm);
            }
        }
        index.providers = providers.into_iter().map(|provider| (provider.id, provider)).collect();
        index.ledger = Arc::new(ledger);
        Ok(())
    }

    /// Hosts for their own sources, or for hypervisors on them.
    async fn join_hosts(&self, table: JoinTable, done: &mut Reconciled) -> Result<(), DbErr> {
        let shared = &self.0;
        let kind = if table == JoinTable::Host { HOST_KIND } else { NODE_KIND };
        let (decision, waiting) = {
            let index = self.index();
            let mut loose = Vec::new();
            let mut waiting = 0;
            for source in shared.telemetry.sources_unknown(kind, |id| index.joined.contains(&id)) {
                let owner = shared.access.owner(Resource::Source(source.id));
                let Some((organization, machine_id)) = owner.zip(self.machine_id(table, &source)) else {
                    waiting += 1;
                    continue;
                };
                loose.push(Loose { source: source.id, organization, machine_id, created_ms: source.created_ms });
                if loose.len() == BATCH {
                    break;
                }
            }
            (index.known.decide(loose), waiting)
        };
        done.waiting += waiting;
        if decision.joins.is_empty() {
            return Ok(());
        }
        let owned: Owned =
            decision.hosts.iter().map(|host| (Resource::Host(host.id), host.organization, host.created_ms)).collect();
        let transaction = shared.db.begin("hosts_join").await?;
        store::host_insert(&transaction, &decision.hosts).await?;
        store::host_source_insert(&transaction, table, &decision.joins).await?;
        shared.access.own(&transaction, &owned).await?;
        transaction.commit().await?;
        shared.access.owned(&owned);
        done.hosts += decision.hosts.len();
        done.sources += decision.joins.len();
        let mut index = shared.index.write().unwrap_or_else(PoisonError::into_inner);
        decision.hosts.into_iter().for_each(|host| index.insert(host));
        for join in decision.joins {
            match table {
                JoinTable::Host => index.join(join),
                JoinTable::Node => self.join_node(&mut index, join),
            }
        }
        Ok(())
    }

    /// The machine that a source is of. `None`: it has not said so yet.
    fn machine_id(&self, table: JoinTable, source: &SourceInfo) -> Option<String> {
        if table == JoinTable::Node {
            let facts = self.0.telemetry.source_known(source.id)?.facts()?;
            return facts.values.get("machine_id").filter(|id| !id.is_empty()).cloned();
        }
        // A source without a machine id is a machine of its own.
        Some(if source.key.is_empty() { source.id.to_string() } else { source.key.clone() })
    }

    pub(super) fn join_node(&self, index: &mut super::Index, join: Join) {
        if let Some(view) = self.0.telemetry.source_known(join.source) {
            index.join_node(view.agent(), join);
        }
    }

    /// Virtual machines for domains.
    async fn join_domains(&self, done: &mut Reconciled) -> Result<(), DbErr> {
        let shared = &self.0;
        let mut waiting = 0;
        let (decision, owned) = {
            let index = self.index();
            let mut loose = Vec::new();
            for source in shared.telemetry.sources_unknown(DOMAIN_KIND, |id| index.vms.joined.contains_key(&id)) {
                let Some(organization) = shared.access.owner(Resource::Source(source.id)) else {
                    waiting += 1;
                    continue;
                };
                loose.push(LooseDomain {
                    source: source.id,
                    organization,
                    uuid: source.key.to_lowercase(),
                    created_ms: source.created_ms,
                });
                if loose.len() == BATCH {
                    break;
                }
            }
            let decision = super::vm::joining::decide(&index.vms, loose);
            let mut owned: Owned =
                decision.new.iter().map(|vm| (Resource::Vm(vm.id), vm.organization, vm.created_ms)).collect();
            // What a machine that was given to somebody measures elsewhere is theirs as well.
            for join in &decision.joins {
                if let Some(vm) = index.vms.all.get(&join.vm).filter(|vm| vm.row.assigned_ms.is_some()) {
                    let (owner, from_ms) = vm.row.owned();
                    owned.push((Resource::Source(join.source), owner, from_ms.max(join.from_ms)));
                }
            }
            (decision, owned)
        };
        done.waiting += waiting;
        if decision.joins.is_empty() {
            return Ok(());
        }
        let transaction = shared.db.begin("vms_join").await?;
        store::vm::put(&transaction, &decision.new).await?;
        store::vm::source_insert(&transaction, &decision.joins).await?;
        store::vm::place_insert(&transaction, &decision.places).await?;
        shared.access.own(&transaction, &owned).await?;
        transaction.commit().await?;
        shared.access.owned(&owned);
        done.vms += decision.new.len();
        done.sources += decision.joins.len();
        let mut index = shared.index.write().unwrap_or_else(PoisonError::into_inner);
        index.revision += 1;
        decision.put(&mut index.vms);
        Ok(())
    }
}

/// A machine and its sources are whose it is, and so is the host that it is.
pub(super) fn owners(vm: &Vm) -> Owned {
    let (owner, from_ms) = vm.row.owned();
    let mut owned = vec![(Resource::Vm(vm.row.id), owner, from_ms)];
    if vm.row.assigned_ms.is_some() {
        let source = |join: &super::vm::VmJoin| (Resource::Source(join.source), owner, from_ms.max(join.from_ms));
        owned.extend(vm.sources.iter().map(source));
        owned.extend(vm.row.host.map(|host| (Resource::Host(host), owner, from_ms)));
    }
    owned
}
