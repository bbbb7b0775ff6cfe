//! Logging in: limits first, then one verification in the pool of passwords, then a session.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::audit::{AuditResult, Change, Doer};
use super::capability::AccountWrite;
use super::form::{self, Fault, Faults};
use super::invitation::{FirstLinkError, Invitation, InvitationError, Purpose};
use super::limits::{Limits, Pair};
use super::rate::Rates;
use super::session::{Begun, Spans};
use super::turns::Place;
use super::{
    Access, AccessError, Actor, Busy, Passwords, Permit, Principal, ROOT, Role, Roles, User, known, secret, store,
};
use crate::config::Config;
use crate::metrics;
use crate::platform::http::Language;
use crate::platform::http::origin::Origin;
use crate::platform::ids::UserId;
use crate::platform::metrics::Registry;
use crate::platform::shutdown::Shutdown;

/// How often what is over goes.
const SETTLE_INTERVAL: Duration = Duration::from_secs(60);

/// Makes principals of requests: tokens, sessions, logins. Clones share it.
#[derive(Debug, Clone)]
pub struct Authentication {
    pub(super) access: Access,
    pub(super) passwords: Passwords,
    pub(super) spans: Spans,
    /// How long the audit log is kept now.
    audit_retention: watch::Sender<Duration>,
    limits: Arc<Mutex<Limits>>,
    /// How often one may ask.
    pub(super) rates: Arc<Rates>,
    /// Counts requests that nobody sent.
    pub(super) refused: IntCounter,
    logins: IntCounterVec,
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Name, password or both; or the person may not log in.
    #[error("name or password is wrong")]
    Wrong,
    /// Too many failures from there with this name.
    #[error("too many failed logins; wait {0} seconds")]
    Limited(u32),
    /// Too many at once.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// Fields.
    #[error(transparent)]
    Form(#[from] Faults),
    /// The database.
    #[error(transparent)]
    Access(#[from] AccessError),
}

impl From<sea_orm::DbErr> for LoginError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Access(error.into())
    }
}

/// Somebody who is logged in.
pub(super) struct LoggedIn {
    /// What the cookie holds.
    pub(super) secret: String,
    /// By which the browser is known at the next login.
    pub(super) remembered: Option<String>,
    pub(super) principal: Principal,
}

/// From where and with what somebody logs in.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) origin: Origin,
    /// What the browser says of itself.
    pub(super) agent: String,
    /// Who has logged in there before.
    pub(super) known: known::Shown,
}

/// What a person writes who uses a link.
pub(super) struct Acceptance {
    pub(super) secret: String,
    pub(super) name: Option<String>,
    pub(super) display_name: Option<String>,
    pub(super) password: String,
    pub(super) language: Option<Language>,
}

/// A login under way; it ends with this, however that comes.
struct Trying<'a>(&'a Mutex<Limits>, Pair);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).end(self.1);
    }
}

impl Authentication {
    /// Over the people and tokens of `access`.
    #[must_use]
    pub fn new(access: Access, config: &Config, registry: &Registry) -> Self {
        let rates = Arc::new(Rates::new(config.http.requests_per_second, registry));
        let config = &config.access;
        Self {
            access,
            rates,
            passwords: Passwords::new(),
            spans: Spans { idle: config.session_idle_timeout, absolute: config.session_timeout },
            audit_retention: watch::Sender::new(config.audit_retention),
            limits: Arc::default(),
            refused: registry.counter(&metrics::HTTP_UNAUTHENTICATED),
            logins: registry.counter_vec(&metrics::LOGINS),
        }
    }

    /// Keeps the audit log so long from now on; what is too old by it goes at once.
    pub fn audit_retain(&self, retention: Duration) {
        self.audit_retention.send_replace(retention);
    }

    /// The people and tokens.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The pool in which passwords are verified.
    #[must_use]
    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// Sees to the link for the first security administrator; gives it while it is needed.
    ///
    /// # Errors
    /// The file or the database cannot be written.
    pub async fn first_link(&self, data: &Path, base: &str) -> Result<Option<String>, FirstLinkError> {
        self.access.first_link_ensure(data, base).await
    }

    /// Until told to stop: sees to sessions, tokens, links and the audit log.
    pub async fn keep(&self, data: &Path, base: &str, shutdown: Shutdown) {
        let retention = self.audit_retention.subscribe();
        tokio::join!(self.settle(data, base, shutdown.clone()), self.access.audit_keep(retention, shutdown));
    }

    /// Once a minute: what is over goes, when sessions were used is written, the link
    /// for the first security administrator is there while it is needed.
    async fn settle(&self, data: &Path, base: &str, shutdown: Shutdown) {
        let told = shutdown.triggered();
        tokio::pin!(told);
        loop {
            let stops = tokio::select! {
                () = &mut told => true,
                () = tokio::time::sleep(SETTLE_INTERVAL) => false,
            };
            let settled = self.access.sessions_settle(self.spans.idle).await;
            if let Err(error) = settled.and(self.access.tokens_settle().await) {
                tracing::warn!(%error, "when sessions and tokens were used is not written; tried again in a minute");
            }
            if stops {
                return;
            }
            if let Err(error) = self.first_link(data, base).await {
                tracing::warn!(%error, "tried again in a minute");
            }
        }
    }

    fn count(&self, result: &str) {
        self.logins.with_label_values(&[result]).inc();
    }

    /// A login is nobody's, of the user whose name was tried; another name may be a password in the wrong field. Whoever
    /// is somebody wanted to replace theirs.
    fn login_refused(&self, who: Option<Actor>, name: &str, origin: Origin, reason: &'static str) {
        let tried = self.access.read().user_named(name).map(|user| user.id.to_string()).unwrap_or_default();
        let action = if who.is_some() { "account.password" } else { "session.begin" };
        self.access.refused(who, origin, action, &tried, (AuditResult::Refused, reason));
    }

    fn limits(&self) -> std::sync::MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verifies a password within the limits of a pair, for nobody yet or for somebody.
    async fn verify(
        &self,
        pair: Pair,
        who: Option<Actor>,
        name: &str,
        password: String,
        origin: Origin,
    ) -> Result<User, LoginError> {
        if let Err(wait) = self.limits().begin(pair, self.access.clock.now_ms()) {
            self.count("limited");
            self.login_refused(who, name, origin, "limited");
            return Err(LoginError::Limited(
                u32::try_from(wait.max(0).unsigned_abs().div_ceil(1000)).unwrap_or(u32::MAX),
            ));
        }
        let _trying = Trying(&self.limits, pair);
        // Who may not log in has no password, for the same work.
        let user = self.access.read().user_named(name).filter(|user| user.is_able()).cloned();
        let stored = user.as_ref().and_then(|user| user.password.clone());
        let verified = self.passwords.verify(pair.place(), password, stored).await;
        let verified = verified.inspect_err(|_| {
            self.count("busy");
            self.login_refused(who, name, origin, "too-many");
        })?;
        match user.filter(|_| verified) {
            Some(user) => {
                self.limits().succeeded(pair);
                Ok(user)
            }
            None => {
                self.login_refused(who, name, origin, "wrong name or password");
                self.limits().failed(pair, self.access.clock.now_ms());
                self.count("wrong");
                Err(LoginError::Wrong)
            }
        }
    }

    /// Begins a session for a name and its password.
    pub(super) async fn log_in(&self, name: &str, password: String, client: Client) -> Result<LoggedIn, LoginError> {
        let pair = self
            .access
            .read()
            .user_named(name)
            .and_then(|user| client.known.browser(user))
            .map_or_else(|| Pair::new(client.origin.address, name), |browser| Pair::of_browser(browser, name));
        let user = self.verify(pair, None, name, password, client.origin).await?;
        let access = &self.access;
        let _changing = access.change().await?;
        // What was verified may have changed meanwhile.
        let now = access.clock.now_ms();
        let current = access.user(user.id).filter(|current| current.is_able() && current.password == user.password);
        let mut user = current.ok_or(LoginError::Wrong)?;
        user.last_login_ms = Some(now);
        let begun = Begun::new(user.id, client.origin, &client.agent, now, self.spans);
        let beyond = access.read().sessions_beyond(user.id);
        let transaction = access.db.begin("session_begin").await?;
        store::user::update(&transaction, &user).await?;
        store::session::delete(&transaction, &beyond).await?;
        store::session::insert(&transaction, &begun.hash, &begun.session).await?;
        let principal = begun.principal(&user, client.origin);
        let change = began(&begun, &user);
        let recorded = access.record_of(&transaction, principal.actor(), client.origin, change).await?;
        access.commit(transaction, [recorded]).await?;
        let remembered = known::remembered(&user);
        let mut state = access.write();
        state.sessions_remove(&beyond);
        state.sessions.insert(begun.hash, begun.session);
        state.users.insert(user.id, user);
        self.count("done");
        Ok(LoggedIn { secret: begun.secret, remembered, principal })
    }

    /// Uses a link: sets the password of whom it is for and begins a session.
    pub(super) async fn accept(&self, acceptance: Acceptance, client: Client) -> Result<LoggedIn, InvitationError> {
        let access = &self.access;
        let looked = access.invitation_look(&acceptance.secret);
        let (invitation, invited) = looked.ok_or_else(|| {
            let refused = (AuditResult::Refused, "unknown, used or expired link");
            access.refused(None, client.origin, "invitation.accept", "", refused);
            InvitationError::Unknown
        })?;
        let hash = secret::hash(&acceptance.secret);
        let wished = wished(&acceptance, invited)?;
        let password = self.passwords.hash(Place::Proved(hash), acceptance.password).await?;

        let _changing = access.change().await?;
        let now = access.clock.now_ms();
        let current: Option<Invitation> = access.read().invitation(&hash, now);
        let purpose = current.filter(|current| *current == invitation).ok_or(InvitationError::Unknown)?.purpose;
        let mut user = match purpose {
            Purpose::FirstSecurityAdministrator => {
                if access.read().user_named(&wished.name).is_some() {
                    return Err(Faults::from(form::name_taken()).into());
                }
                wished
            }
            Purpose::SetPassword(id) => access.user(id).ok_or(InvitationError::Unknown)?,
        };
        user.password = Some(password);
        user.language = acceptance.language.or(user.language);
        user.last_login_ms = Some(now);
        let transaction = access.db.begin("invitation_accept").await?;
        if purpose == Purpose::FirstSecurityAdministrator {
            user.created_ms = now;
            store::user::insert(&transaction, &mut user).await?;
        }
        let begun = Begun::new(user.id, client.origin, &client.agent, now, self.spans);
        let ended = access.read().sessions_of(user.id);
        store::user::update(&transaction, &user).await?;
        store::invitation::delete(&transaction, purpose).await?;
        store::session::delete(&transaction, &ended).await?;
        store::session::insert(&transaction, &begun.hash, &begun.session).await?;
        let principal = begun.principal(&user, client.origin);
        let change = Change {
            action: "invitation.accept",
            resource: user.id.to_string(),
            before: Value::Null,
            after: user.audited(),
        };
        let who = Doer::user(user.id, user.name.clone());
        let recorded = access.record_as(&transaction, who, client.origin, change).await?;
        access.commit(transaction, [recorded]).await?;
        let remembered = known::remembered(&user);
        let mut state = access.write();
        state.uninvite(purpose);
        state.sessions_remove(&ended);
        state.sessions.insert(begun.hash, begun.session);
        state.users.insert(user.id, user);
        Ok(LoggedIn { secret: begun.secret, remembered, principal })
    }

    /// Replaces a person's own password; their other sessions end, and a link by which it could be set. Gives
    /// that by which the browser is known at the next login.
    pub(super) async fn password_change(
        &self,
        permit: &Permit<AccountWrite>,
        current: String,
        new: String,
    ) -> Result<Option<String>, LoginError> {
        let access = &self.access;
        let account = access.account(permit).ok_or(LoginError::Wrong)?;
        form::check_password("new", &new, &account.name).map_err(Faults::from)?;
        let Actor::User(_, session) = permit.actor() else { return Err(LoginError::Wrong) };
        let pair = Pair::of_browser(&session.to_string(), &account.name);
        let verified = self.verify(pair, Some(permit.actor()), &account.name, current, permit.origin()).await;
        let verified = verified.map_err(|error| match error {
            LoginError::Wrong => {
                Faults::from(Fault::new("current", "this is not your password", "当前密码不正确")).into()
            }
            other => other,
        })?;
        let password = self.passwords.hash(pair.place(), new).await?;

        let _changing = access.change().await?;
        let mut user =
            access.account(permit).filter(|user| user.password == verified.password).ok_or(LoginError::Wrong)?;
        user.password = Some(password);
        let mut ended = access.read().sessions_of(user.id);
        ended.retain(|other| *other != session);
        let link = Purpose::SetPassword(user.id);
        let transaction = access.db.begin("password_change").await?;
        store::user::update(&transaction, &user).await?;
        store::session::delete(&transaction, &ended).await?;
        store::invitation::delete(&transaction, link).await?;
        let after = json!({ "sessions_ended": ended.len() });
        let resource = user.id.to_string();
        let change = Change { action: "account.password", resource, before: Value::Null, after };
        let recorded = access.record(&transaction, permit, change).await?;
        access.commit(transaction, [recorded]).await?;
        let remembered = known::remembered(&user);
        let mut state = access.write();
        state.uninvite(link);
        state.sessions_remove(&ended);
        state.users.insert(user.id, user);
        Ok(remembered)
    }
}

/// A login, as the audit log shows it.
fn began(begun: &Begun, user: &User) -> Change {
    let after = json!({ "user": user.id, "expires_ms": begun.session.expires_ms });
    Change { action: "session.begin", resource: begun.session.id.to_string(), before: Value::Null, after }
}

/// The user that an acceptance wishes for, if its form is right.
fn wished(acceptance: &Acceptance, invited: Option<User>) -> Result<User, Faults> {
    let mut faults = Faults::default();
    let user = invited.unwrap_or_else(|| {
        let name = acceptance.name.clone().unwrap_or_default();
        let display_name = acceptance.display_name.clone().unwrap_or_else(|| name.clone());
        faults.note(form::check_name(&name));
        faults.note(form::check_shown("display_name", &display_name));
        User {
            id: UserId(0),
            name,
            display_name,
            organization: ROOT,
            roles: Roles::one(Role::SecurityAdministrator),
            password: None,
            language: None,
            created_ms: 0,
            disabled_ms: None,
            last_login_ms: None,
        }
    });
    faults.note(form::check_password("password", &acceptance.password, &user.name));
    faults.settled().map(|()| user)
}
