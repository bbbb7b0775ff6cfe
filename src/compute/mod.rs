//! Hosts: machines over time, joined from the sources that measure them.
//!
//! A host is a machine id within one organisation; its sources change when its agent is enrolled
//! anew, its id and history do not. What must hold: two organisations never share a host; a figure
//! that is not known now is null, and a host that stopped reporting has no present figures.
//!
//! Deliberately absent: virtual machines, capacity and right-sizing, which come with hypervisors.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use sea_orm::DbErr;

use crate::access::capability::HostsRead;
use crate::access::{Access, Permit, Resource};
use crate::fleet::Fleet;
use crate::platform::clock::Clock;
use crate::platform::db::Db;
use crate::platform::ids::{HostId, SourceId};
use crate::telemetry::{StoredSchema, Telemetry};

pub mod api;
mod figures;
mod joining;
mod reconciler;
mod report;
mod store;
#[cfg(test)]
mod tests;

use figures::Plan;
use joining::{HostRow, Join, Known};
use reconciler::Joining;
pub use reconciler::Reconciled;
use report::{HostDetail, Rendered};

/// The kind of source that a host is made of.
const HOST_KIND: &str = "host";

/// Hosts. Clones share them.
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
}

/// Every host, in memory: one process writes.
#[derive(Debug, Default)]
struct Index {
    hosts: BTreeMap<HostId, Arc<Host>>,
    known: Known,
    joined: HashSet<SourceId>,
}

#[derive(Debug)]
struct Host {
    row: HostRow,
    /// Its sources, the newest last.
    sources: RwLock<Vec<Join>>,
    /// What was last shown of it.
    rendered: Mutex<Option<Rendered>>,
}

impl Index {
    fn insert(&mut self, row: HostRow) {
        self.known.insert(&row);
        let host = Host { row, sources: RwLock::default(), rendered: Mutex::default() };
        self.hosts.insert(host.row.id, Arc::new(host));
    }

    fn join(&mut self, join: Join) {
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
        store::host_source_list(db.read()).await?.into_iter().for_each(|join| index.join(join));
        Ok(Self(Arc::new(Shared {
            db,
            access,
            fleet,
            telemetry,
            clock,
            index: RwLock::new(index),
            joining: tokio::sync::Mutex::default(),
            plans: Mutex::default(),
        })))
    }

    /// At most `limit` hosts that the permit's organisations own, in order of ids, behind `after`,
    /// each as a JSON object; and the last one's id if there are more.
    fn host_page(
        &self,
        permit: &Permit<HostsRead>,
        after: Option<HostId>,
        limit: usize,
    ) -> (Vec<Arc<[u8]>>, Option<HostId>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut hosts: Vec<Arc<Host>> = {
            let index = self.0.index.read().unwrap_or_else(PoisonError::into_inner);
            let visible = index.hosts.range((from, Bound::Unbounded)).filter(|(id, _)| self.is_visible(permit, **id));
            visible.take(limit + 1).map(|(_, host)| Arc::clone(host)).collect()
        };
        let more = hosts.len() > limit;
        hosts.truncate(limit);
        let next = hosts.last().map(|host| host.row.id).filter(|_| more);
        let now_ms = self.0.clock.now_ms();
        (hosts.iter().map(|host| self.summary(permit, host, now_ms)).collect(), next)
    }

    /// One host. `None`: there is none for this permit.
    fn host_fetch(&self, permit: &Permit<HostsRead>, id: HostId) -> Option<HostDetail> {
        let host = {
            let index = self.0.index.read().unwrap_or_else(PoisonError::into_inner);
            index.hosts.get(&id).cloned().filter(|_| self.is_visible(permit, id))?
        };
        Some(self.detail(permit, &host, self.0.clock.now_ms()))
    }

    /// Whether a machine id names another host that the permit shows as well.
    fn is_claimed_twice(&self, permit: &Permit<HostsRead>, host: &HostRow) -> bool {
        let index = self.0.index.read().unwrap_or_else(PoisonError::into_inner);
        index.known.claims(&host.machine_id).any(|id| id != host.id && self.is_visible(permit, id))
    }

    fn is_visible(&self, permit: &Permit<HostsRead>, id: HostId) -> bool {
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
