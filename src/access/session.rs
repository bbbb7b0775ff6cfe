//! Sessions of people, kept by the server: idle and absolute time-outs, ended at any moment.
//!
//! A cookie holds a random secret, tables and memory its hash. When a session was last used is written
//! once a minute, not for each request; a crash forgets at most that minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sea_orm::DbErr;
use serde_json::Value;

use super::audit::Change;
use super::capability::{AccessRead, AccessWrite, AccountWrite};
use super::secret::{self, Hash};
use super::{Access, AccessError, Actor, Permit, Principal, State, User, store};
use crate::platform::clock::UnixMs;
use crate::platform::http::origin::Origin;
use crate::platform::ids::{SessionId, UserId};

/// Sessions of one person; the one that was used least recently ends when there are more.
const PER_USER: usize = 20;
/// Characters kept of what a browser says of itself.
const AGENT_LENGTH: usize = 200;

/// A person's session, without its secret.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// When it began.
    pub created_ms: UnixMs,
    /// When it ends in any case.
    pub expires_ms: UnixMs,
    /// From where it was begun.
    pub address: Option<IpAddr>,
    /// What the browser says of itself.
    pub agent: String,
    pub(super) last_used_ms: AtomicI64,
    /// What the table says of it.
    pub(super) stored_used_ms: AtomicI64,
}

impl Session {
    /// When a person last used it.
    #[must_use]
    pub fn last_used_ms(&self) -> UnixMs {
        self.last_used_ms.load(Ordering::Relaxed)
    }

    fn is_over(&self, now: UnixMs, idle: Duration) -> bool {
        now >= self.expires_ms || now - self.last_used_ms() >= idle.as_millis() as i64
    }
}

impl Clone for Session {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            user: self.user,
            created_ms: self.created_ms,
            expires_ms: self.expires_ms,
            address: self.address,
            agent: self.agent.clone(),
            last_used_ms: AtomicI64::new(self.last_used_ms()),
            stored_used_ms: AtomicI64::new(self.stored_used_ms.load(Ordering::Relaxed)),
        }
    }
}

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spans {
    pub(super) idle: Duration,
    pub(super) absolute: Duration,
}

/// A session that begins, with its secret.
pub(super) struct Begun {
    pub(super) secret: String,
    pub(super) hash: Hash,
    pub(super) session: Session,
}

impl Begun {
    pub(super) fn new(user: UserId, origin: Origin, agent: &str, now: UnixMs, spans: Spans) -> Self {
        let secret = secret::generate();
        let session = Session {
            id: SessionId(secret::random_id()),
            user,
            created_ms: now,
            expires_ms: now + spans.absolute.as_millis() as i64,
            address: origin.address,
            agent: agent.chars().filter(|c| !c.is_control()).take(AGENT_LENGTH).collect(),
            last_used_ms: AtomicI64::new(now),
            stored_used_ms: AtomicI64::new(now),
        };
        Self { hash: secret::hash(&secret), secret, session }
    }

    pub(super) fn principal(&self, user: &User, origin: Origin) -> Principal {
        principal(user, self.session.id, origin)
    }
}

fn principal(user: &User, session: SessionId, origin: Origin) -> Principal {
    Principal { actor: Actor::User(user.id, session), organization: user.organization, roles: user.roles, origin }
}

impl State {
    fn is_covered<C>(&self, session: &Session, permit: &Permit<C>) -> bool {
        let user = self.users.get(&session.user);
        user.is_some_and(|user| self.is_within(user.organization, permit.organization()))
    }

    /// Of a person, the sessions that must end so that one more finds room.
    pub(super) fn sessions_beyond(&self, user: UserId) -> Vec<SessionId> {
        let mut sessions: Vec<_> = self.sessions.values().filter(|session| session.user == user).collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(session.last_used_ms()));
        sessions.into_iter().skip(PER_USER - 1).map(|session| session.id).collect()
    }

    pub(super) fn sessions_of(&self, user: UserId) -> Vec<SessionId> {
        self.sessions.values().filter(|session| session.user == user).map(|session| session.id).collect()
    }

    pub(super) fn sessions_remove(&mut self, ids: &[SessionId]) {
        if !ids.is_empty() {
            self.sessions.retain(|_, session| !ids.contains(&session.id));
        }
    }
}

impl Access {
    /// The principal of a session's secret. Using it keeps the session from idling, unless no person did.
    pub(super) fn session_principal(
        &self,
        secret: &str,
        origin: Origin,
        idle: Duration,
        is_automatic: bool,
    ) -> Option<Principal> {
        let now = self.clock.now_ms();
        let state = self.read();
        let session = state.sessions.get(&secret::hash(secret)).filter(|session| !session.is_over(now, idle))?;
        let user = state.users.get(&session.user).filter(|user| user.is_able())?;
        if !is_automatic {
            session.last_used_ms.fetch_max(now, Ordering::Relaxed);
        }
        Some(principal(user, session.id, origin))
    }

    /// When a principal's session ends in any case.
    pub(super) fn session_expires_ms(&self, principal: &Principal) -> Option<UnixMs> {
        let Actor::User(_, id) = principal.actor() else { return None };
        self.read().sessions.values().find(|session| session.id == id).map(|session| session.expires_ms)
    }

    /// A person's own sessions, newest use first.
    pub fn account_sessions(&self, permit: &Permit<AccountWrite>) -> Vec<Session> {
        let Actor::User(user, _) = permit.actor() else { return Vec::new() };
        let state = self.read();
        let mut sessions: Vec<_> = state.sessions.values().filter(|session| session.user == user).cloned().collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(session.last_used_ms()));
        sessions
    }

    /// Ends one of a person's own sessions. `false`: there is none such.
    ///
    /// # Errors
    /// The database failed.
    pub async fn account_session_end(&self, permit: &Permit<AccountWrite>, id: SessionId) -> Result<bool, AccessError> {
        let _changing = self.change().await?;
        if !self.account_sessions(permit).iter().any(|session| session.id == id) {
            return Ok(false);
        }
        self.sessions_end("account_session_end", permit, id).await?;
        Ok(true)
    }

    /// Sessions of people that a permit covers, in order of id.
    #[must_use]
    pub fn sessions(&self, permit: &Permit<AccessRead>) -> Vec<Session> {
        let state = self.read();
        let mut sessions: Vec<_> =
            state.sessions.values().filter(|session| state.is_covered(session, permit)).cloned().collect();
        sessions.sort_by_key(|session| session.id);
        sessions
    }

    /// Ends anybody's session. `false`: there is none such for this permit.
    ///
    /// # Errors
    /// The database failed.
    pub async fn session_end(&self, permit: &Permit<AccessWrite>, id: SessionId) -> Result<bool, AccessError> {
        let _changing = self.change().await?;
        let is_there = {
            let state = self.read();
            state.sessions.values().any(|session| session.id == id && state.is_covered(session, permit))
        };
        if is_there {
            self.sessions_end("session_end", permit, id).await?;
        }
        Ok(is_there)
    }

    /// Ends a session; to be called while nothing else changes.
    async fn sessions_end<C>(&self, name: &'static str, permit: &Permit<C>, id: SessionId) -> Result<(), DbErr> {
        let user = self.read().sessions.values().find(|session| session.id == id).map(|session| session.user);
        let transaction = self.db.begin(name).await?;
        store::session::delete(&transaction, &[id]).await?;
        let before = serde_json::json!({ "user": user });
        let change = Change { action: "session.end", resource: id.to_string(), before, after: Value::Null };
        let recorded = self.record(&transaction, permit, change).await?;
        self.commit(transaction, [recorded]).await?;
        self.write().sessions_remove(&[id]);
        Ok(())
    }

    /// Ends everybody's session because of a change that control itself meets, and records that.
    ///
    /// # Errors
    /// The database failed.
    pub async fn sessions_end_all(&self, change: Change) -> Result<(), AccessError> {
        let _changing = self.change().await?;
        let all: Vec<_> = self.read().sessions.values().map(|session| session.id).collect();
        let transaction = self.db.begin("sessions_end_all").await?;
        store::session::delete(&transaction, &all).await?;
        let recorded = self.record_of(&transaction, Actor::System, Origin::default(), change).await?;
        self.commit(transaction, [recorded]).await?;
        self.write().sessions_remove(&all);
        Ok(())
    }

    /// Deletes what is over and writes when the others were last used.
    pub(super) async fn sessions_settle(&self, idle: Duration) -> Result<(), AccessError> {
        let _changing = self.change().await?;
        let now = self.clock.now_ms();
        let (over, used) = {
            let state = self.read();
            let over: Vec<_> = state
                .sessions
                .values()
                .filter(|session| session.is_over(now, idle))
                .map(|session| session.id)
                .collect();
            let used: Vec<_> = state
                .sessions
                .values()
                .filter(|session| !session.is_over(now, idle))
                .filter(|session| session.stored_used_ms.load(Ordering::Relaxed) != session.last_used_ms())
                .map(|session| (session.id.0, session.last_used_ms()))
                .collect();
            (over, used)
        };
        if over.is_empty() && used.is_empty() {
            return Ok(());
        }
        let transaction = self.db.begin("sessions_settle").await?;
        store::session::delete(&transaction, &over).await?;
        store::last_used(&transaction, store::session::TABLE, &used).await?;
        self.commit(transaction, []).await?;
        let stored: HashMap<_, _> = used.into_iter().collect();
        for session in self.read().sessions.values() {
            if let Some(used_ms) = stored.get(&session.id.0) {
                session.stored_used_ms.store(*used_ms, Ordering::Relaxed);
            }
        }
        if !over.is_empty() {
            self.write().sessions_remove(&over);
        }
        Ok(())
    }
}
