//! Hosts: machines over time, joined from the sources that measure them.
//!
//! A host is a machine id within one organisation; its sources change when its agent is enrolled
//! anew, its id and history do not. What must hold: two organisations never share a host; a figure
//! that is not known now is null, and a host that stopped reporting has no present figures.
//!
//! Deliberately absent: virtual machines, capacity and right-sizing, which come with hypervisors.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use sea_orm::DbErr;

use crate::access::capability::MeasurementsRead;
use crate::access::{Access, Permit, Resource};
use crate::fleet::Fleet;
use crate::platform::clock::Clock;
use crate::platform::db::Db;
use crate::platform::ids::{HostId, SourceId};
use crate::telemetry::{StoredSchema, Telemetry};

pub mod api;
mod board;
mod figures;
mod joining;
mod list;
mod live;
mod overview;
mod reconciler;
mod report;
mod store;
#[cfg(test)]
mod tests;

use board::Boards;
use figures::Plan;
use joining::{HostRow, Join, Known};
use list::{OtherOrder, Wanted};
use live::Hub;
use overview::Overviews;
use reconciler::Joining;
pub use reconciler::Reconciled;
use report::HostDetail;

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
    boards: Boards,
    overviews: Overviews,
    hub: Hub,
}

/// Every host, in memory: one process writes.
#[derive(Debug, Default)]
struct Index {
    /// How often it was changed.
    revision: u64,
    hosts: BTreeMap<HostId, Arc<Host>>,
    known: Known,
    joined: HashSet<SourceId>,
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
            boards: Boards::default(),
            overviews: Overviews::default(),
            hub: Hub::default(),
        })))
    }

    /// The hosts that are wanted, of those that the permit's organisations own, as the JSON of a page.
    fn host_page(&self, permit: &Permit<MeasurementsRead>, wanted: &Wanted) -> Result<Vec<u8>, OtherOrder> {
        self.look(permit, |board| {
            let rows = board.rows.iter().map(|row| (&row.shown, row.host.row.machine_id.as_str()));
            let (places, next) = list::page(rows, wanted)?;
            let bytes: usize = places.iter().map(|place| board.rows[*place].json.len() + 1).sum();
            let mut page = Vec::with_capacity(bytes + 256);
            page.extend_from_slice(b"{\"items\":[");
            for (index, place) in places.into_iter().enumerate() {
                if index > 0 {
                    page.push(b',');
                }
                page.extend_from_slice(&board.rows[place].json);
            }
            page.extend_from_slice(b"],\"next\":");
            let next = next.map(|next| next.to_string());
            serde_json::to_writer(&mut page, &next).expect("a text is JSON");
            page.push(b'}');
            Ok(page)
        })
    }

    /// One host. `None`: there is none for this permit.
    fn host_fetch(&self, permit: &Permit<MeasurementsRead>, id: HostId) -> Option<HostDetail> {
        let host = {
            let index = self.0.index.read().unwrap_or_else(PoisonError::into_inner);
            index.hosts.get(&id).cloned().filter(|_| self.is_visible(permit, id))?
        };
        Some(self.detail(permit, &host, self.0.clock.now_ms()))
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
