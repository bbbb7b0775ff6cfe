//! Users: who they are, and the rules of changing them.

use serde_json::{Value, json};

use super::audit::Change;
use super::capability::{AccessRead, AccessWrite, AccountWrite};
use super::form::{self, Fault, Faults};
use super::invitation::{Made, Purpose};
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

    /// As the audit log shows them.
    pub(super) fn audited(&self) -> Value {
        json!({
            "name": self.name,
            "display_name": self.display_name,
            "organization": self.organization,
            "roles": self.roles.iter().collect::<Vec<_>>(),
            "disabled": self.disabled_ms.is_some(),
        })
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
    /// One's own roles, organisation or right to log in.
    #[error("nobody changes their own roles or organisation, or disables themselves")]
    OwnRights,
    /// Nobody could give rights any more.
    #[error("at least one security administrator who can log in must remain")]
    LastSecurityAdministrator,
    /// A link for somebody who may not log in.
    #[error("this user is disabled; enable them first")]
    Disabled,
    /// The database.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// A user that is wished for.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// With which they will log in.
    pub name: String,
    /// How they are called.
    pub display_name: String,
    /// What they may do.
    pub roles: Vec<Role>,
    /// Where they belong.
    pub organization: OrganizationId,
}

/// What of a user changes; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// How they are called.
    pub display_name: Option<String>,
    /// What they may do.
    pub roles: Option<Vec<Role>>,
    /// Where they belong.
    pub organization: Option<OrganizationId>,
    /// Whether they may not log in.
    pub disabled: Option<bool>,
}

/// Which users are asked for.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// Part of a name or display name.
    pub search: Option<String>,
    /// With this role.
    pub role: Option<Role>,
    /// Of this organisation or one below it.
    pub organization: Option<OrganizationId>,
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
        let _changing = self.change().await?;
        let Some(mut user) = self.account(permit) else { return Ok(None) };
        let tag = |language: Option<Language>| json!({ "language": language });
        let change = Change {
            action: "account.update",
            resource: user.id.to_string(),
            before: tag(user.language),
            after: tag(language),
        };
        user.language = language;
        let transaction = self.db.begin("account_update").await?;
        store::user::update(&transaction, &user).await?;
        let recorded = self.record(&transaction, permit, change).await?;
        self.commit(transaction, [recorded]).await?;
        self.write().users.insert(user.id, user.clone());
        Ok(Some(user))
    }

    /// Users that a permit covers and a filter takes, in order of id.
    #[must_use]
    pub fn users(&self, permit: &Permit<AccessRead>, filter: &UserFilter) -> Vec<User> {
        let state = self.read();
        let search = filter.search.as_deref().unwrap_or_default().trim().to_lowercase();
        let is_wanted = |user: &User| {
            state.is_within(user.organization, permit.organization())
                && filter.role.is_none_or(|role| user.roles.has(role))
                && filter.organization.is_none_or(|organization| state.is_within(user.organization, organization))
                && [&user.name, &user.display_name].iter().any(|name| name.to_lowercase().contains(&search))
        };
        state.users.values().filter(|user| is_wanted(user)).cloned().collect()
    }

    /// One of them.
    #[must_use]
    pub fn user_fetch(&self, permit: &Permit<AccessRead>, id: UserId) -> Option<User> {
        self.user_covered(permit, id)
    }

    fn user_covered<C>(&self, permit: &Permit<C>, id: UserId) -> Option<User> {
        let state = self.read();
        state.users.get(&id).filter(|user| state.is_within(user.organization, permit.organization())).cloned()
    }

    /// Adds a user, with the link by which they set a password.
    ///
    /// # Errors
    /// Fields; the database.
    pub(super) async fn user_create(
        &self,
        permit: &Permit<AccessWrite>,
        wished: NewUser,
    ) -> Result<(User, Made), PeopleError> {
        let _changing = self.change().await?;
        let now = self.clock.now_ms();
        let mut faults = Faults::default();
        faults.note(form::check_name(&wished.name));
        faults.note(form::check_shown("display_name", &wished.display_name));
        if self.read().user_named(&wished.name).is_some() {
            faults.note(Err(form::name_taken()));
        }
        faults.note(self.check_organization(permit, wished.organization));
        let roles = Roles::of_person(wished.roles);
        faults.note(roles.map(|_| ()).map_err(Fault::from));
        faults.settled()?;
        let mut user = User {
            id: UserId(0),
            name: wished.name,
            display_name: wished.display_name,
            organization: wished.organization,
            roles: roles.unwrap_or_default(),
            password: None,
            language: None,
            created_ms: now,
            disabled_ms: None,
            last_login_ms: None,
        };
        let transaction = self.db.begin("user_create").await?;
        store::user::insert(&transaction, &mut user).await?;
        let made = Made::new(Purpose::SetPassword(user.id), now);
        store::invitation::replace(&transaction, &made.hash, &made.invitation).await?;
        let resource = user.id.to_string();
        let change = Change { action: "user.create", resource, before: Value::Null, after: user.audited() };
        let created = self.record(&transaction, permit, change).await?;
        let invited = self.record(&transaction, permit, made.change(user.id)).await?;
        self.commit(transaction, [created, invited]).await?;
        let mut state = self.write();
        state.invite(&made);
        state.users.insert(user.id, user.clone());
        Ok((user, made))
    }

    fn check_organization<C>(&self, permit: &Permit<C>, organization: OrganizationId) -> Result<(), Fault> {
        if self.is_visible_organization(permit, organization) {
            Ok(())
        } else {
            Err(Fault::new("organization", "there is no such organisation", "没有此组织"))
        }
    }

    /// Changes a user; one who is disabled is logged out, and a link by which they could set a password ends.
    /// `None`: there is none such for this permit.
    ///
    /// # Errors
    /// Fields; one's own rights; the last security administrator; the database.
    pub async fn user_update(
        &self,
        permit: &Permit<AccessWrite>,
        id: UserId,
        change: UserChange,
    ) -> Result<Option<User>, PeopleError> {
        let _changing = self.change().await?;
        let Some(before) = self.user_covered(permit, id) else { return Ok(None) };
        let user = self.changed(permit, &before, change)?;
        let is_disabled = user.disabled_ms.is_some();
        let ended = if is_disabled { self.read().sessions_of(id) } else { Vec::new() };
        let link = Purpose::SetPassword(id);
        let transaction = self.db.begin("user_update").await?;
        store::user::update(&transaction, &user).await?;
        store::session::delete(&transaction, &ended).await?;
        if is_disabled {
            store::invitation::delete(&transaction, link).await?;
        }
        // By a name of its own, so that an auditor finds what gave or took rights.
        let action = if user.roles == before.roles { "user.update" } else { "user.update.roles" };
        let change = Change { action, resource: id.to_string(), before: before.audited(), after: user.audited() };
        let recorded = self.record(&transaction, permit, change).await?;
        self.commit(transaction, [recorded]).await?;
        let mut state = self.write();
        if is_disabled {
            state.uninvite(link);
        }
        state.sessions_remove(&ended);
        state.users.insert(id, user.clone());
        Ok(Some(user))
    }

    /// A user as a change would make them, if it may.
    fn changed(&self, permit: &Permit<AccessWrite>, before: &User, change: UserChange) -> Result<User, PeopleError> {
        let mut user = before.clone();
        let mut faults = Faults::default();
        if let Some(display_name) = change.display_name {
            faults.note(form::check_shown("display_name", &display_name));
            user.display_name = display_name;
        }
        if let Some(organization) = change.organization {
            faults.note(self.check_organization(permit, organization));
            user.organization = organization;
        }
        match change.roles.map(Roles::of_person) {
            Some(Ok(roles)) => user.roles = roles,
            Some(Err(error)) => faults.note(Err(error.into())),
            None => {}
        }
        faults.settled()?;
        match change.disabled {
            Some(true) => user.disabled_ms = user.disabled_ms.or(Some(self.clock.now_ms())),
            Some(false) => user.disabled_ms = None,
            None => {}
        }
        let rights = |user: &User| (user.roles, user.organization, user.disabled_ms.is_some());
        if permit.user() == Some(user.id) && rights(&user) != rights(before) {
            return Err(PeopleError::OwnRights);
        }
        let secures = |user: &User| user.is_able() && user.roles.has(Role::SecurityAdministrator);
        if secures(before)
            && !secures(&user)
            && !self.read().users.values().any(|other| other.id != user.id && secures(other))
        {
            return Err(PeopleError::LastSecurityAdministrator);
        }
        Ok(user)
    }

    /// A new link by which a user sets a password; the old password works until it is used.
    /// `None`: there is no such user for this permit.
    ///
    /// # Errors
    /// The user is disabled; the database.
    pub(super) async fn user_invite(
        &self,
        permit: &Permit<AccessWrite>,
        id: UserId,
    ) -> Result<Option<(User, Made)>, PeopleError> {
        let _changing = self.change().await?;
        let Some(user) = self.user_covered(permit, id) else { return Ok(None) };
        if user.disabled_ms.is_some() {
            return Err(PeopleError::Disabled);
        }
        let made = Made::new(Purpose::SetPassword(id), self.clock.now_ms());
        let transaction = self.db.begin("user_invite").await?;
        store::invitation::replace(&transaction, &made.hash, &made.invitation).await?;
        let recorded = self.record(&transaction, permit, made.change(id)).await?;
        self.commit(transaction, [recorded]).await?;
        self.write().invite(&made);
        Ok(Some((user, made)))
    }
}
