//! Agents rolled out over SSH: put on machines, brought up to date, taken back, removed.
//!
//! | file | owns |
//! |---|---|
//! | `plan`, `fault` | the steps of each action; why one fails, in both languages |
//! | `facts`, `layout` | what a machine says of itself; paths, unit, commands |
//! | `program`, `packages` | which agents there are to roll out; their files as control has them |
//! | `libvirt` | what the agent of a hypervisor needs of a machine |
//! | `host_key`, `credential` | whether a machine is the confirmed one; with what control logs in |
//! | `caps` | how many machines at once |
//! | `ssh` | a connection |
//! | `work` | one machine, through its steps |
//! | `order` | what may be asked for |
//! | `store`, `api` | the tables; HTTP |
//!
//! What must hold:
//! - Nothing is sent to a machine whose host key no person confirmed: who comes first is shown its fingerprint.
//! - A credential lives in memory for one run. It is never stored, so a run that control's end cut off is resumed by
//!   a person who brings it again.
//! - A machine is worked on by one roll-out at a time, under whichever name it was given.
//! - An agent is said to be there when control has a record of it, not when a command said so.
//! - Each order, and what came of each machine, is in the audit log.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::DbErr;
use serde_json::{Value, json};

use super::{Fleet, FleetError};
use crate::access::Permit;
use crate::access::audit::Change;
use crate::access::capability::{AgentsRead, AgentsWrite};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, HostKeyId, OrganizationId, RolloutId};

pub mod api;
mod caps;
mod credential;
mod facts;
mod fault;
mod host_key;
mod layout;
mod libvirt;
mod order;
mod packages;
mod plan;
mod program;
mod ssh;
mod store;
#[cfg(test)]
mod tests;
mod work;

pub use credential::{Credential, Secret};
pub use order::{Machine, Order, OrderFault};
pub use packages::PackagesError;
pub use plan::{Action, Step};
pub use program::Program;

use caps::Caps;
use fault::Fault;
use host_key::HostKey;
use packages::Package;

/// So many roll-outs are kept; what they did stays in the audit log.
const KEPT: i64 = 1_000;

/// How a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its turn has not come.
    Waiting,
    /// It is worked on.
    Running,
    /// Everything was done.
    Done,
    /// It was stopped by a fault; it can be resumed.
    Failed,
}

impl State {
    /// As API and database name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Running, Self::Done, Self::Failed].into_iter().find(|state| state.name() == name)
    }
}

/// A roll-out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// Its number.
    pub id: RolloutId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// What is done.
    pub action: Action,
    /// To which agent.
    pub program: Program,
    /// Whether nothing is changed.
    pub dry_run: bool,
    /// Who asked for it, as they were called then.
    pub made_by: String,
    /// When it was asked for.
    pub created_ms: UnixMs,
    /// When it ended; it may be resumed.
    pub finished_ms: Option<UnixMs>,
}

/// A fault as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its kind.
    pub code: String,
    /// In English.
    pub english: String,
    /// In Chinese.
    pub chinese: String,
}

impl From<&Fault> for Told {
    fn from(fault: &Fault) -> Self {
        Self { code: fault.code().to_owned(), english: fault.to_string(), chinese: fault.chinese() }
    }
}

/// One machine of a roll-out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    rollout: RolloutId,
    number: i64,
    /// Owner of what is enrolled there.
    organization: OrganizationId,
    address: String,
    port: u16,
    user: String,
    site: String,
    state: State,
    step: Option<Step>,
    fault: Option<Told>,
    offered: Option<HostKey>,
    agent: Option<AgentId>,
    version_before: Option<String>,
    version: Option<String>,
    updated_ms: UnixMs,
}

/// What was said of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    at_ms: UnixMs,
    step: Option<Step>,
    english: String,
    chinese: String,
}

/// A host key that a person confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    id: HostKeyId,
    organization: OrganizationId,
    address: String,
    port: u16,
    key: HostKey,
    confirmed_by: String,
    confirmed_ms: UnixMs,
}

/// Why a roll-out is not begun, resumed or shown.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// Something in the order is wrong.
    #[error("fields of the roll-out are wrong")]
    Invalid(Vec<OrderFault>),
    /// There is no such organisation for this permit.
    #[error("there is no organisation {0}")]
    Organization(OrganizationId),
    /// A machine is worked on.
    #[error("a roll-out works on {0} already; wait until it has ended")]
    Busy(String),
    /// Every machine is done.
    #[error("every machine of this roll-out is done")]
    Nothing,
    /// The machine offered no key that could be confirmed, or another one.
    #[error("{0} is not the fingerprint that the machine showed: look at the roll-out again")]
    NotOffered(String),
    /// Another key is known.
    #[error("another key of this machine was confirmed; delete {0} first, if the machine was set up anew")]
    Known(HostKeyId),
    /// No programs.
    #[error(transparent)]
    Packages(#[from] PackagesError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] FleetError),
}

impl From<DbErr> for RolloutError {
    fn from(error: DbErr) -> Self {
        Self::Store(error.into())
    }
}

/// All roll-outs of this control. Clones share them.
#[derive(Debug, Clone)]
pub struct Rollouts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fleet: Fleet,
    /// Programs to roll out.
    directory: PathBuf,
    caps: Caps,
    /// Machines that are worked on, by place and by identity.
    occupied: Mutex<BTreeSet<String>>,
}

/// Machines that nobody else works on while this lives.
#[derive(Debug)]
struct Occupied {
    rollouts: Rollouts,
    names: Vec<String>,
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let mut occupied = self.rollouts.0.occupied.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            occupied.remove(name);
        }
    }
}

/// What the machines of one run share.
#[derive(Debug)]
struct Run {
    rollout: Rollout,
    permit: Permit<AgentsWrite>,
    credential: Credential,
    packages: Vec<Package>,
    /// A program's bytes, once the first machine of its architecture needed them.
    programs: tokio::sync::Mutex<Vec<(String, Arc<Vec<u8>>)>>,
}

fn place(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

impl Rollouts {
    /// Makes them. What the end of control cut off is said to be interrupted. `directory` holds the programs;
    /// so many machines are worked on at once, in all and of one site.
    ///
    /// # Errors
    /// The database failed.
    pub async fn open(fleet: Fleet, directory: PathBuf, (total, per_site): (usize, usize)) -> Result<Self, FleetError> {
        let transaction = fleet.db.begin("rollouts_interrupt").await?;
        let told = Told::from(&Fault::Interrupted);
        let interrupted = store::interrupt(&transaction, None, &told, fleet.clock.now_ms()).await?;
        transaction.commit().await?;
        if interrupted > 0 {
            tracing::warn!(machines = interrupted, "roll-outs were interrupted; resume them with their credential");
        }
        Ok(Self(Arc::new(Inner { fleet, directory, caps: Caps::new(total, per_site), occupied: Mutex::default() })))
    }

    /// Takes machines for one run, all or none.
    fn occupy(&self, names: Vec<String>) -> Result<Occupied, String> {
        let mut occupied = self.0.occupied.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = names.iter().find(|name| occupied.contains(*name)) {
            return Err(taken.clone());
        }
        occupied.extend(names.iter().cloned());
        Ok(Occupied { rollouts: self.clone(), names })
    }

    /// Begins a roll-out; it goes on when this has returned.
    ///
    /// # Errors
    /// See [`RolloutError`].
    pub async fn create(&self, permit: Permit<AgentsWrite>, order: Order) -> Result<RolloutId, RolloutError> {
        let fleet = &self.0.fleet;
        let Order { action, program, machines, credential, dry_run } =
            order.checked().map_err(RolloutError::Invalid)?;
        let packages = self.packages_for(action)?;
        for machine in &machines {
            if let Some(organization) = machine.organization
                && !fleet.access.is_visible_organization(&permit, organization)
            {
                return Err(RolloutError::Organization(organization));
            }
        }
        let names = machines.iter().map(|machine| place(&machine.address, machine.port)).collect();
        let occupied = self.occupy(names).map_err(RolloutError::Busy)?;
        let created_ms = fleet.clock.now_ms();
        let transaction = fleet.db.begin("rollout_create").await?;
        let rollout = Rollout {
            id: RolloutId(super::store::next_id(&transaction, "rollout").await?),
            organization: permit.organization(),
            action,
            program,
            dry_run,
            made_by: fleet.access.actor_name(permit.actor()),
            created_ms,
            finished_ms: None,
        };
        let target = |(machine, number): (Machine, i64)| Target {
            rollout: rollout.id,
            number,
            organization: machine.organization.unwrap_or(rollout.organization),
            address: machine.address,
            port: machine.port,
            user: machine.user,
            site: machine.site,
            state: State::Waiting,
            step: None,
            fault: None,
            offered: None,
            agent: None,
            version_before: None,
            version: None,
            updated_ms: created_ms,
        };
        let targets: Vec<Target> = machines.into_iter().zip(1..).map(target).collect();
        store::rollout_insert(&transaction, &rollout, &targets, KEPT).await?;
        let after = json!({
            "action": action.name(), "program": program.name(), "dry_run": dry_run, "machines": listed(&targets),
        });
        let change = Change { action: "rollout.create", resource: rollout.id.to_string(), before: Value::Null, after };
        let recorded = fleet.access.record(&transaction, &permit, change).await?;
        transaction.commit().await?;
        fleet.access.recorded(recorded);
        tracing::info!(rollout = %rollout.id, action = action.name(), program = program.name(), machines = targets.len(), "roll-out begun");
        let id = rollout.id;
        self.begin(
            Run { rollout, permit, credential, packages, programs: tokio::sync::Mutex::default() },
            targets,
            occupied,
        );
        Ok(id)
    }

    /// Goes on with the machines of a roll-out that are not done. `false`: there is none for this permit.
    ///
    /// # Errors
    /// See [`RolloutError`].
    pub async fn resume(
        &self,
        permit: Permit<AgentsWrite>,
        id: RolloutId,
        credential: Credential,
    ) -> Result<bool, RolloutError> {
        let fleet = &self.0.fleet;
        let Some(rollout) = self.visible(&permit, id).await? else { return Ok(false) };
        if let Some(fault) = order::credential_fault(&credential) {
            return Err(RolloutError::Invalid(vec![fault]));
        }
        let packages = self.packages_for(rollout.action)?;
        let mut targets = store::targets_fetch(fleet.db.read(), id).await?;
        targets.retain(|target| target.state != State::Done);
        if targets.is_empty() {
            return Err(RolloutError::Nothing);
        }
        let names = targets.iter().map(|target| place(&target.address, target.port)).collect();
        let occupied = self.occupy(names).map_err(RolloutError::Busy)?;
        let now_ms = fleet.clock.now_ms();
        let transaction = fleet.db.begin("rollout_resume").await?;
        for target in &mut targets {
            (target.state, target.fault, target.updated_ms) = (State::Waiting, None, now_ms);
            store::target_save(&transaction, target, &[], 0).await?;
        }
        store::rollout_finish(&transaction, id, None).await?;
        let after = json!({ "machines": listed(&targets) });
        let change = Change { action: "rollout.resume", resource: id.to_string(), before: Value::Null, after };
        let recorded = fleet.access.record(&transaction, &permit, change).await?;
        transaction.commit().await?;
        fleet.access.recorded(recorded);
        self.begin(
            Run { rollout, permit, credential, packages, programs: tokio::sync::Mutex::default() },
            targets,
            occupied,
        );
        Ok(true)
    }

    fn packages_for(&self, action: Action) -> Result<Vec<Package>, PackagesError> {
        if action.brings_a_program() { packages::read(&self.0.directory) } else { Ok(Vec::new()) }
    }

    /// Lets every machine have its turn, and says when all have had it.
    fn begin(&self, run: Run, targets: Vec<Target>, occupied: Occupied) {
        let id = run.rollout.id;
        let (rollouts, run) = (self.clone(), Arc::new(run));
        tokio::spawn(async move {
            let mut machines = tokio::task::JoinSet::new();
            for target in targets {
                let (rollouts, run) = (rollouts.clone(), run.clone());
                machines.spawn(async move {
                    let _turn = rollouts.0.caps.turn(&target.site).await;
                    work::carry_out(&rollouts, &run, target).await;
                });
            }
            while let Some(ended) = machines.join_next().await {
                if let Err(panic) = ended {
                    tracing::error!(rollout = %id, %panic, "a machine of a roll-out was left");
                }
            }
            // The credential goes with the run.
            drop(run);
            if let Err(error) = rollouts.finish(id).await {
                tracing::error!(rollout = %id, %error, "the end of a roll-out could not be written");
            }
            drop(occupied);
        });
    }

    async fn finish(&self, id: RolloutId) -> Result<(), DbErr> {
        let fleet = &self.0.fleet;
        let transaction = fleet.db.begin("rollout_finish").await?;
        let now_ms = fleet.clock.now_ms();
        // Whatever was left without a word failed for a reason of ours.
        store::interrupt(&transaction, Some(id), &Told::from(&Fault::Internal), now_ms).await?;
        store::rollout_finish(&transaction, id, Some(now_ms)).await?;
        transaction.commit().await?;
        tracing::info!(rollout = %id, "roll-out ended");
        Ok(())
    }

    async fn visible<C>(&self, permit: &Permit<C>, id: RolloutId) -> Result<Option<Rollout>, FleetError> {
        let fleet = &self.0.fleet;
        let rollout = store::rollout_fetch(fleet.db.read(), id).await?;
        Ok(rollout.filter(|rollout| fleet.access.is_visible_organization(permit, rollout.organization)))
    }

    /// The roll-outs of the permit's organisations, newest first, with how many of their machines are in which state.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list(&self, permit: &Permit<AgentsRead>) -> Result<Vec<(Rollout, Vec<(State, usize)>)>, FleetError> {
        let fleet = &self.0.fleet;
        let mut rollouts = store::rollout_list(fleet.db.read()).await?;
        rollouts.retain(|(rollout, _)| fleet.access.is_visible_organization(permit, rollout.organization));
        Ok(rollouts)
    }

    /// One of them with its machines.
    ///
    /// # Errors
    /// The database failed.
    pub async fn fetch(
        &self,
        permit: &Permit<AgentsRead>,
        id: RolloutId,
    ) -> Result<Option<(Rollout, Vec<Target>)>, FleetError> {
        let Some(rollout) = self.visible(permit, id).await? else { return Ok(None) };
        Ok(Some((rollout, store::targets_fetch(self.0.fleet.db.read(), id).await?)))
    }

    /// What was said of one of its machines.
    ///
    /// # Errors
    /// The database failed.
    pub async fn transcript(
        &self,
        permit: &Permit<AgentsRead>,
        id: RolloutId,
        number: i64,
    ) -> Result<Option<(Target, Vec<Line>)>, FleetError> {
        let Some((_, targets)) = self.fetch(permit, id).await? else { return Ok(None) };
        let Some(target) = targets.into_iter().find(|target| target.number == number) else { return Ok(None) };
        Ok(Some((target, store::lines_fetch(self.0.fleet.db.read(), id, number).await?)))
    }

    /// A person says that the fingerprint which a machine showed is the right one: from now on this key, and no other,
    /// is that machine's. `None`: there is no such machine for this permit.
    ///
    /// # Errors
    /// See [`RolloutError`].
    pub async fn host_key_confirm(
        &self,
        permit: &Permit<AgentsWrite>,
        (id, number): (RolloutId, i64),
        fingerprint: &str,
    ) -> Result<Option<KnownKey>, RolloutError> {
        let fleet = &self.0.fleet;
        let Some(rollout) = self.visible(permit, id).await? else { return Ok(None) };
        let targets = store::targets_fetch(fleet.db.read(), id).await?;
        let Some(target) = targets.into_iter().find(|target| target.number == number) else { return Ok(None) };
        let not_offered = || RolloutError::NotOffered(fingerprint.chars().take(100).collect());
        let offered = target.offered.ok_or_else(not_offered)?;
        if !host_key::is_confirmed(&offered.fingerprint, fingerprint) {
            return Err(not_offered());
        }
        let transaction = fleet.db.begin("host_key_confirm").await?;
        let place = (target.address.as_str(), target.port);
        if let Some(known) = store::key_fetch(&transaction, rollout.organization, place).await? {
            transaction.rollback().await?;
            return if known.key.text == offered.text { Ok(Some(known)) } else { Err(RolloutError::Known(known.id)) };
        }
        let known = KnownKey {
            id: HostKeyId(super::store::next_id(&transaction, "ssh_host_key").await?),
            organization: rollout.organization,
            address: target.address,
            port: target.port,
            key: offered,
            confirmed_by: fleet.access.actor_name(permit.actor()),
            confirmed_ms: fleet.clock.now_ms(),
        };
        store::key_insert(&transaction, &known).await?;
        let change = Change {
            action: "host_key.confirm",
            resource: known.id.to_string(),
            before: Value::Null,
            after: audited(&known),
        };
        let recorded = fleet.access.record(&transaction, permit, change).await?;
        transaction.commit().await?;
        fleet.access.recorded(recorded);
        Ok(Some(known))
    }

    /// The host keys that were confirmed, of the permit's organisations.
    ///
    /// # Errors
    /// The database failed.
    pub async fn host_key_list(&self, permit: &Permit<AgentsRead>) -> Result<Vec<KnownKey>, FleetError> {
        let fleet = &self.0.fleet;
        let mut keys = store::key_list(fleet.db.read()).await?;
        keys.retain(|key| fleet.access.is_visible_organization(permit, key.organization));
        Ok(keys)
    }

    /// Forgets a host key: the machine's next key is shown and confirmed anew. `false`: there is none for this permit.
    ///
    /// # Errors
    /// The database failed.
    pub async fn host_key_delete(&self, permit: &Permit<AgentsWrite>, id: HostKeyId) -> Result<bool, FleetError> {
        let fleet = &self.0.fleet;
        let keys = store::key_list(fleet.db.read()).await?;
        let mut keys = keys.into_iter();
        let known = keys.find(|key| key.id == id && fleet.access.is_visible_organization(permit, key.organization));
        let Some(known) = known else { return Ok(false) };
        let transaction = fleet.db.begin("host_key_delete").await?;
        store::key_delete(&transaction, id).await?;
        let change =
            Change { action: "host_key.delete", resource: id.to_string(), before: audited(&known), after: Value::Null };
        let recorded = fleet.access.record(&transaction, permit, change).await?;
        transaction.commit().await?;
        fleet.access.recorded(recorded);
        Ok(true)
    }

    /// The programs that can be rolled out.
    ///
    /// # Errors
    /// There are none, or they are not usable.
    fn packages(&self, _: &Permit<AgentsRead>) -> Result<Vec<Package>, PackagesError> {
        packages::read(&self.0.directory)
    }
}

fn listed(targets: &[Target]) -> Vec<String> {
    targets.iter().map(|target| format!("{}@{}", target.user, place(&target.address, target.port))).collect()
}

fn audited(key: &KnownKey) -> Value {
    json!({ "address": place(&key.address, key.port), "fingerprint": key.key.fingerprint, "organization": key.organization })
}
