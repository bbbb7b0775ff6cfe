//! Users: who they are, and the rules of changing them.

use super::capability::AccountWrite;
use super::form::Faults;
use super::{Access, AccessError, Actor, Password, Permit, Role, Roles, State, store};
use crate::platform::clock::UnixMs;
use crate::platform::http::Language;
use crate::platform::ids::{OrganizationId, UserId};

/// A person who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// With which they log in.
    pub name: String,
    /// How they are called.
    pub display_name: String,
    /// Where they belong.
    pub organization: OrganizationId,
    /// What they may do.
    pub roles: Roles,
    /// Absent until they have set one.
    pub password: Option<Password>,
    /// In which they are spoken to.
    pub language: Option<Language>,
    /// When they were added.
    pub created_ms: UnixMs,
    /// Since when they may not log in.
    pub disabled_ms: Option<UnixMs>,
    /// When they last logged in.
    pub last_login_ms: Option<UnixMs>,
}

impl User {
    /// Whether they can log in.
    #[must_use]
    pub fn is_able(&self) -> bool {
        self.disabled_ms.is_none() && self.password.is_some()
    }

    /// Where they land after a login.
    #[must_use]
    pub fn landing(&self) -> &'static str {
        let page = |role| match role {
            Role::SystemAdministrator => "/settings",
            Role::SecurityAdministrator => "/users",
            Role::Auditor => "/audit",
            _ => "/overview",
        };
        self.roles.iter().next().map_or("/overview", page)
    }
}

/// Why a change of people is not made.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// Fields.
    #[error(transparent)]
    Form(#[from] Faults),
    /// The database.
    #[error(transparent)]
    Access(#[from] AccessError),
}

impl From<sea_orm::DbErr> for PeopleError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Access(error.into())
    }
}

impl State {
    /// The user of a name.
    pub(super) fn user_named(&self, name: &str) -> Option<&User> {
        let key = name.to_lowercase();
        self.users.values().find(|user| user.name.to_lowercase() == key)
    }

    /// Whether anybody who can log in has a role.
    pub(super) fn has_able(&self, role: Role) -> bool {
        self.users.values().any(|user| user.is_able() && user.roles.has(role))
    }
}

impl Access {
    /// The user of an id, without a permit: for one's own account.
    pub(super) fn user(&self, id: UserId) -> Option<User> {
        self.read().users.get(&id).cloned()
    }

    /// The person whose account a permit is for.
    pub(super) fn account(&self, permit: &Permit<AccountWrite>) -> Option<User> {
        match permit.actor() {
            Actor::User(id, _) => self.user(id),
            Actor::Token(_) | Actor::System => None,
        }
    }

    /// Sets the language in which a person is spoken to. `None`: it is nobody's account.
    ///
    /// # Errors
    /// The database failed.
    pub async fn account_update(
        &self,
        permit: &Permit<AccountWrite>,
        language: Option<Language>,
    ) -> Result<Option<User>, AccessError> {
        let _changing = self.changing.lock().await;
        let Some(mut user) = self.account(permit) else { return Ok(None) };
        user.language = language;
        let transaction = self.db.begin("account_update").await?;
        store::user::update(&transaction, &user).await?;
        transaction.commit().await?;
        self.write().users.insert(user.id, user.clone());
        Ok(Some(user))
    }
}
