//! Who may do what: people and their roles, sessions, machine tokens, permits, organisations, and whose
//! each thing is since when.
//!
//! What must hold:
//! - A function that reads or changes another domain's things takes a [`Permit`], which only this
//!   module makes, from the one table in [`roles`].
//! - A secret's text (token, cookie, one-time link) is shown once and kept nowhere; tables hold its SHA-256.
//! - A thing is visible to an organisation, and to those above it, only for the time it was theirs.
//! - Every change and every refused attempt is in the [`audit`] log.
//! - A change is checked and written under one lock, in one transaction; memory follows its commit. If nobody
//!   knows how a commit ended, memory is read anew before the next change.
//!
//! The state is small and one process writes, so it is kept in memory and read from there: no request
//! asks the database who it is from.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sea_orm::{DatabaseTransaction, DbErr};

use crate::platform::clock::{Clock, UnixMs};
use crate::platform::db::Db;
use crate::platform::ids::{AgentId, ApiTokenId, HostId, OrganizationId, SourceId, UserId, VmId};

pub mod api;
pub mod audit;
pub mod form;
pub mod http;
mod invitation;
mod known;
mod limits;
mod login;
mod organization;
mod password;
mod permit;
mod rate;
pub mod roles;
mod secret;
mod session;
mod store;
#[cfg(test)]
mod tests;
mod token;
mod turns;
mod user;

pub use invitation::{FIRST_LINK, FirstLinkError, FirstRun, Invitation, InvitationError, Purpose};
pub use login::{Authentication, LoginError};
pub use organization::{AdministrativeLevel, Organization, OrganizationChange};
pub use password::{Password, Passwords, WeakPassword, check_password};
pub use permit::{Actor, Denied, Permit, Principal};
pub use roles::{Role, Roles, capability};
pub use session::Session;
#[cfg(test)]
pub(crate) use token::testing as testing_token;
pub use token::{ApiTokenFile, ApiTokenInfo, NewToken, TokenFileError};
pub use turns::Busy;
pub use user::{NewUser, PeopleError, User, UserChange, UserFilter};

/// The organisation that the first start creates; every other is below it.
pub const ROOT: OrganizationId = OrganizationId(1);

/// Something that an organisation owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// An agent.
    Agent(AgentId),
    /// A source.
    Source(SourceId),
    /// A host.
    Host(HostId),
    /// A virtual machine.
    Vm(VmId),
}

/// Why access cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The database failed.
    #[error("people, organisations and tokens cannot be read or written: {0}")]
    Database(#[from] DbErr),
    /// A row holds what this version does not know.
    #[error("the table {table} holds {value}, which this version does not know; was it written by a newer tongtu?")]
    Unknown {
        /// The table.
        table: &'static str,
        /// The value.
        value: String,
    },
}

/// Organisations, tokens and ownership. Clones share them.
#[derive(Debug, Clone)]
pub struct Access {
    db: Db,
    clock: Clock,
    state: Arc<RwLock<State>>,
    /// Held from the check of a change to the memory of its commit.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// A commit ended in a way that nobody knows, and memory has not been read anew since.
    behind: Arc<AtomicBool>,
    audit: Arc<audit::Audit>,
}

/// A copy of the tables, in the form that questions need.
#[derive(Debug, Default)]
struct State {
    /// How often it was changed.
    revision: u64,
    organizations: BTreeMap<OrganizationId, Organization>,
    /// Revoked ones as well, so that a file's token is recognised.
    tokens: BTreeMap<ApiTokenId, ApiTokenInfo>,
    /// Which token has a hash.
    token_hashes: HashMap<secret::Hash, ApiTokenId>,
    /// When each token was last used.
    uses: HashMap<ApiTokenId, token::Use>,
    /// All of them, disabled ones as well.
    users: BTreeMap<UserId, User>,
    /// By hash.
    sessions: HashMap<secret::Hash, Session>,
    /// By hash; those that can still be used.
    invitations: HashMap<secret::Hash, invitation::Invitation>,
    /// Each thing's owners, oldest first.
    owners: HashMap<Resource, Vec<(UnixMs, OrganizationId)>>,
}

impl State {
    /// When things were last used is newer here than in the tables that `self` was read from.
    fn keep_uses(&mut self, known: &Self) {
        for (hash, session) in &self.sessions {
            if let Some(known) = known.sessions.get(hash) {
                session.last_used_ms.fetch_max(known.last_used_ms(), Ordering::Relaxed);
            }
        }
        for (id, used) in &self.uses {
            if let Some(known) = known.uses.get(id) {
                used.keep(known);
            }
        }
    }

    fn own(&mut self, resource: Resource, organization: OrganizationId, from: UnixMs) {
        let owners = self.owners.entry(resource).or_default();
        let at = owners.partition_point(|(since, _)| *since < from);
        match owners.get_mut(at) {
            Some(owner) if owner.0 == from => owner.1 = organization,
            _ => owners.insert(at, (from, organization)),
        }
    }
}

impl Access {
    /// Reads the tables; the first start makes the root organisation.
    ///
    /// # Errors
    /// The database failed or was written by a newer version.
    pub async fn open(db: Db, clock: Clock) -> Result<Self, AccessError> {
        store::root_ensure(&db, clock.now_ms()).await?;
        let state = store::load(db.read()).await?;
        Ok(Self {
            db,
            clock,
            state: Arc::new(RwLock::new(state)),
            changing: Arc::default(),
            behind: Arc::default(),
            audit: Arc::new(audit::Audit::without_files()),
        })
    }

    /// See to it that `DATA/api-token` holds a live token on the first start, and when none is live.
    ///
    /// # Errors
    /// The file or the database cannot be written.
    pub async fn ensure_api_token(&self, data: &Path) -> Result<ApiTokenFile, TokenFileError> {
        token::ensure(self, data).await
    }

    /// Replaces the token of `DATA/api-token`, for an operator who lost the file.
    ///
    /// # Errors
    /// The file or the database cannot be written.
    pub async fn renew_api_token(&self, data: &Path) -> Result<(), TokenFileError> {
        token::renew(self, data).await
    }

    /// Whether an organisation exists within a permit's scope.
    #[must_use]
    pub fn is_visible_organization<C>(&self, permit: &Permit<C>, organization: OrganizationId) -> bool {
        let state = self.read();
        state.organizations.contains_key(&organization) && state.is_within(organization, permit.organization())
    }

    /// Whether an organisation is another one or below it.
    pub(crate) fn is_within(&self, organization: OrganizationId, above: OrganizationId) -> bool {
        self.read().is_within(organization, above)
    }

    /// Records owners inside the caller's transaction. After its commit call [`owned`](Self::owned).
    ///
    /// # Errors
    /// The database failed.
    pub async fn own(
        &self,
        transaction: &DatabaseTransaction,
        things: &[(Resource, OrganizationId, UnixMs)],
    ) -> Result<(), DbErr> {
        store::ownership_insert(transaction, things).await
    }

    /// Makes visible what was committed.
    pub fn owned(&self, things: &[(Resource, OrganizationId, UnixMs)]) {
        // Most commits have nothing new; lists of hosts are made anew when this changes.
        if things.is_empty() {
            return;
        }
        let mut state = self.write();
        for (resource, organization, from) in things {
            state.own(*resource, *organization, *from);
        }
    }

    /// Periods (from inclusive, to exclusive) in which the permit's organisations owned a thing,
    /// oldest first. Empty: they may not know that it exists.
    #[must_use]
    pub fn periods<C>(&self, permit: &Permit<C>, resource: Resource) -> Vec<(UnixMs, UnixMs)> {
        let state = self.read();
        let Some(owners) = state.owners.get(&resource) else { return Vec::new() };
        let mut periods: Vec<(UnixMs, UnixMs)> = Vec::with_capacity(1);
        for (at, (from, organization)) in owners.iter().enumerate() {
            if !state.is_within(*organization, permit.organization()) {
                continue;
            }
            let to = owners.get(at + 1).map_or(UnixMs::MAX, |(next, _)| *next);
            match periods.last_mut() {
                Some(last) if last.1 == *from => last.1 = to,
                _ => periods.push((*from, to)),
            }
        }
        periods
    }

    /// Owners of a thing that the permit covers, oldest first, and since when each was.
    #[must_use]
    pub fn owners<C>(&self, permit: &Permit<C>, resource: Resource) -> Vec<(UnixMs, OrganizationId)> {
        let state = self.read();
        let owners = state.owners.get(&resource).into_iter().flatten();
        owners.filter(|(_, organization)| state.is_within(*organization, permit.organization())).copied().collect()
    }

    /// Whether the permit's organisations own a thing now.
    #[must_use]
    pub fn is_visible<C>(&self, permit: &Permit<C>, resource: Resource) -> bool {
        let state = self.read();
        state
            .owners
            .get(&resource)
            .and_then(|owners| owners.last())
            .is_some_and(|(_, organization)| state.is_within(*organization, permit.organization()))
    }

    /// Since when the permit's organisations have owned a thing that they own now; from the beginning if nobody else
    /// ever did.
    #[must_use]
    pub fn visible_since<C>(&self, permit: &Permit<C>, resource: Resource) -> Option<UnixMs> {
        let state = self.read();
        let owners = state.owners.get(&resource).filter(|owners| !owners.is_empty())?;
        let is_other =
            |(_, organization): &(UnixMs, OrganizationId)| !state.is_within(*organization, permit.organization());
        match owners.iter().rposition(is_other) {
            None => Some(UnixMs::MIN),
            Some(last) => owners.get(last + 1).map(|(from_ms, _)| *from_ms),
        }
    }

    /// Whether the permit's organisations owned a thing at an instant.
    #[must_use]
    pub fn was_visible<C>(&self, permit: &Permit<C>, resource: Resource, at_ms: UnixMs) -> bool {
        self.periods(permit, resource).iter().any(|(from, to)| (*from..*to).contains(&at_ms))
    }

    /// Who owns a thing now.
    #[must_use]
    pub fn owner(&self, resource: Resource) -> Option<OrganizationId> {
        self.read().owners.get(&resource)?.last().map(|(_, organization)| *organization)
    }

    /// Organisations that a permit covers, and how they are called.
    #[must_use]
    pub fn organizations_within<C>(&self, permit: &Permit<C>) -> HashMap<OrganizationId, String> {
        let state = self.read();
        let within = state.organizations.iter().filter(|(id, _)| state.is_within(**id, permit.organization()));
        within.map(|(id, organization)| (*id, organization.name.clone())).collect()
    }

    /// An organisation's name, for one who belongs to it or reaches it.
    pub(crate) fn organization_name(&self, id: OrganizationId) -> String {
        self.read().organizations.get(&id).map(|organization| organization.name.clone()).unwrap_or_default()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a principal that was let in still would be, with the same rights. Asking keeps no session
    /// from idling.
    #[must_use]
    pub(crate) fn is_let_in(&self, principal: &Principal) -> bool {
        let now_ms = self.clock.now_ms();
        let state = self.read();
        match principal.actor {
            Actor::System => true,
            Actor::Token(id) => state.tokens.get(&id).is_some_and(|token| {
                token.is_live(now_ms)
                    && (token.organization, Roles::one(token.role)) == (principal.organization, principal.roles)
            }),
            Actor::User(id, session) => {
                state.sessions.values().any(|known| known.id == session && now_ms < known.expires_ms)
                    && state.users.get(&id).is_some_and(|user| {
                        user.is_able() && (user.organization, user.roles) == (principal.organization, principal.roles)
                    })
            }
        }
    }

    /// Begins a change: until its guard is dropped nothing else changes, and memory says what the tables do.
    async fn change(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, AccessError> {
        let changing = self.changing.lock().await;
        if self.behind.load(Ordering::Relaxed) {
            self.reload().await?;
        }
        Ok(changing)
    }

    /// Reads the tables anew, if memory may be behind them.
    async fn catch_up(&self) -> Result<(), AccessError> {
        if self.behind.load(Ordering::Relaxed) {
            drop(self.change().await?);
        }
        Ok(())
    }

    /// Commits a change and notes its entries; to be called while nothing else changes. Who is told that it
    /// failed finds memory as the tables are, whatever became of the commit.
    async fn commit(
        &self,
        transaction: DatabaseTransaction,
        recorded: impl IntoIterator<Item = audit::Recorded>,
    ) -> Result<(), DbErr> {
        if let Err(error) = transaction.commit().await {
            self.behind.store(true, Ordering::Relaxed);
            if let Err(reload) = self.reload().await {
                tracing::error!(%error, %reload, "a change of access may be committed; its tables are read when they can be");
            }
            return Err(error);
        }
        self.audit.note(recorded);
        Ok(())
    }

    /// Reads the tables anew; to be called while nothing else changes.
    async fn reload(&self) -> Result<(), AccessError> {
        // On the writing connection: it is given only when the commit before has ended, in one way or the other,
        // and while it is held nobody commits what is missing in what was read.
        let transaction = self.db.begin("access_reload").await?;
        let mut read = store::load(&transaction).await?;
        {
            let mut state = self.write();
            read.keep_uses(&state);
            read.revision = state.revision;
            *state = read;
        }
        self.behind.store(false, Ordering::Relaxed);
        transaction.rollback().await?;
        Ok(())
    }

    /// Grows with every change: what a permit showed before may be another now.
    #[must_use]
    pub(crate) fn revision(&self) -> u64 {
        self.read().revision
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.revision += 1;
        state
    }
}
