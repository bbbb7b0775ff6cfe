//! Hosts, virtual machines and who provides them: things over time, joined from the sources that measure them.
//!
//! A host is a machine id within one organisation; its sources change when its agent is enrolled
//! anew, its id and history do not. A virtual machine (`vm`) is the same of a UUID. What must hold: two
//! organisations never share a thing; a figure that is not known now is null, and what stopped reporting has no
//! present figures.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use sea_orm::DbErr;

use crate::access::capability::MeasurementsRead;
use crate::access::{Access, Permit, Resource};
use crate::fleet::Fleet;
use crate::platform::clock::Clock;
use crate::platform::db::Db;
use crate::platform::ids::{AgentId, HostId, ProviderId, SourceId};
use crate::telemetry::{StoredSchema, Telemetry};

mod allocation;
pub mod api;
mod board;
mod capacity;
mod figures;
mod host_line;
mod host_list;
mod hypervisor;
mod joining;
mod ledger;
mod list;
mod live;
mod overview;
mod pool;
mod provider;
mod reconciler;
mod report;
mod review;
mod store;
mod survey;
#[cfg(test)]
mod tests;
mod usage;
mod vm;

use allocation::Allocations;
use board::{Board, Boards};
use figures::Plan;
use host_line::HostLine;
use host_list::Wanted;
use joining::{HostRow, Join, Known};
use ledger::{Imports, Ledger};
use list::OtherOrder;
use live::Hub;
use overview::Overviews;
use provider::Provider;
use reconciler::Joining;
pub use reconciler::Reconciled;
use report::HostDetail;
use store::JoinTable;
use survey::Survey;
use vm::line::VmLine;
use vm::{Node, Nodes, Vms};

/// The kind of source that a host is made of.
const HOST_KIND: &str = "host";

/// Hosts and virtual machines. Clones share them.
#[derive(Debug, Clone)]
pub struct Compute(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    db: Db,
    access: Access,
    fleet: Fleet,
    telemetry: Telemetry,
    clock: Clock,
    index: RwLock<Index>,
    /// Held by the one pass that joins.
    joining: tokio::sync::Mutex<Joining>,
    /// By schema; a plan lives as long as a host uses it.
    plans: Mutex<HashMap<i64, Weak<Plan>>>,
    boards: Boards<HostLine>,
    vm_boards: Boards<VmLine>,
    /// Somebody looks at a board.
    asked: tokio::sync::Notify,
    overviews: Overviews,
    hub: Hub,
    survey: Survey,
    allocations: Allocations,
    imports: Imports,
}

/// Everything, in memory: one process writes.
#[derive(Debug, Default)]
struct Index {
    /// How often it was changed.
    revision: u64,
    hosts: BTreeMap<HostId, Arc<Host>>,
    known: Known,
    /// Sources of hosts and hypervisors.
    joined: HashSet<SourceId>,
    vms: Vms,
    nodes: Nodes,
    providers: BTreeMap<ProviderId, Provider>,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
struct Host {
    row: HostRow,
    /// Its sources, the newest last.
    sources: RwLock<Vec<Join>>,
}

impl Index {
    fn insert(&mut self, row: HostRow) {
        self.revision += 1;
        self.known.insert(&row);
        let host = Host { row, sources: RwLock::default() };
        self.hosts.insert(host.row.id, Arc::new(host));
    }

    /// Another state of a host that is known.
    fn change(&mut self, row: HostRow) {
        self.revision += 1;
        let sources = self.hosts.get(&row.id).map(|host| host.sources()).unwrap_or_default();
        self.hosts.insert(row.id, Arc::new(Host { row, sources: RwLock::new(sources) }));
    }

    /// A hypervisor of an agent. Of several on one machine the newest counts.
    fn join_node(&mut self, agent: AgentId, join: Join) {
        self.revision += 1;
        self.joined.insert(join.source);
        let node = Node { source: join.source, host: join.host };
        let known = self.nodes.entry(agent).or_insert(node);
        if known.source < node.source {
            *known = node;
        }
    }

    fn join(&mut self, join: Join) {
        self.revision += 1;
        self.joined.insert(join.source);
        if let Some(host) = self.hosts.get(&join.host) {
            let mut sources = host.sources.write().unwrap_or_else(PoisonError::into_inner);
            let at = sources.partition_point(|known| (known.from_ms, known.source) < (join.from_ms, join.source));
            sources.insert(at, join);
        }
    }
}

impl Host {
    fn sources(&self) -> Vec<Join> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Compute {
    /// Reads the hosts.
    ///
    /// # Errors
    /// The database failed.
    pub async fn open(db: Db, access: Access, fleet: Fleet, telemetry: Telemetry, clock: Clock) -> Result<Self, DbErr> {
        let mut index = Index::default();
        store::host_list(db.read()).await?.into_iter().for_each(|row| index.insert(row));
        let joins = store::host_source_list(db.read(), JoinTable::Host).await?;
        joins.into_iter().for_each(|join| index.join(join));
        for join in store::host_source_list(db.read(), JoinTable::Node).await? {
            if let Some(view) = telemetry.source_known(join.source) {
                index.join_node(view.agent(), join);
            }
        }
        store::vm::list(db.read()).await?.into_iter().for_each(|vm| index.vms.put(vm));
        let providers = store::provider::list(db.read()).await?;
        index.providers = providers.into_iter().map(|provider| (provider.id, provider)).collect();
        index.ledger = Arc::new(store::ledger::load(db.read()).await?);
        let joining = tokio::sync::Mutex::new(Joining::new(clock.now_ms()));
        Ok(Self(Arc::new(Shared {
            db,
            access,
            fleet,
            telemetry,
            clock,
            index: RwLock::new(index),
            joining,
            plans: Mutex::default(),
            boards: Boards::default(),
            vm_boards: Boards::default(),
            asked: tokio::sync::Notify::new(),
            overviews: Overviews::default(),
            hub: Hub::default(),
            survey: Survey::default(),
            allocations: Allocations::default(),
            imports: Imports::default(),
        })))
    }

    /// The hosts that are wanted, of those that the permit's organisations own, as the JSON of a page.
    fn host_page(&self, permit: &Permit<MeasurementsRead>, wanted: &Wanted) -> Result<Vec<u8>, OtherOrder> {
        self.look(permit, |board: &Board<HostLine>| {
            let rows = board.rows.iter().map(|row| (&row.shown, row.host.row.machine_id.as_str()));
            let (places, next) = host_list::chosen(rows, wanted)?;
            let items = places.iter().map(|place| board.rows[*place].json.as_slice());
            Ok(list::rendered(items, next.map(|next| next.to_string())))
        })
    }

    /// One host. `None`: there is none for this permit.
    fn host_fetch(&self, permit: &Permit<MeasurementsRead>, id: HostId) -> Option<HostDetail> {
        let host = self.host(permit, id)?;
        Some(self.detail(permit, &host, self.0.clock.now_ms()))
    }

    /// The source that a host's figures come from.
    fn source_of(&self, permit: &Permit<MeasurementsRead>, host: &Host) -> Option<SourceId> {
        report::newest(&self.shown(permit, host)).map(|newest| newest.join.source)
    }

    fn host(&self, permit: &Permit<MeasurementsRead>, id: HostId) -> Option<Arc<Host>> {
        let index = self.0.index.read().unwrap_or_else(PoisonError::into_inner);
        index.hosts.get(&id).cloned().filter(|_| self.is_visible(permit, id))
    }

    /// Whether a machine id names another host that the permit shows as well.
    fn is_claimed_twice(&self, permit: &Permit<MeasurementsRead>, host: &HostRow) -> bool {
        let index = self.0.index.read().unwrap_or_else(PoisonError::into_inner);
        index.known.claims(&host.machine_id).any(|id| id != host.id && self.is_visible(permit, id))
    }

    fn is_visible(&self, permit: &Permit<MeasurementsRead>, id: HostId) -> bool {
        self.0.access.is_visible(permit, Resource::Host(id))
    }

    fn plan(&self, schema: &StoredSchema) -> Arc<Plan> {
        let mut plans = self.0.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&schema.number).and_then(Weak::upgrade) {
            return plan;
        }
        let plan = Arc::new(Plan::new(schema));
        plans.insert(schema.number, Arc::downgrade(&plan));
        if plans.len().is_power_of_two() {
            plans.retain(|_, plan| plan.strong_count() > 0);
        }
        plan
    }
}
