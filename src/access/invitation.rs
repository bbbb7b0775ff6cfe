//! One-time links: the first security administrator's, and those with which a person sets a password.
//!
//! What must hold: a link works once and for three days; a new one of the same purpose ends the old one, and so
//! does a new password of its user or that they are disabled; unknown, used and expired ones are told apart by nobody. While no security administrator can log in,
//! a link for the first one stands in the data directory; it goes when it was used.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::Value;

use super::audit::Change;
use super::form::Faults;
use super::secret::{self, Hash};
use super::{Access, AccessError, Actor, Busy, Role, State, User, store};
use crate::platform::clock::UnixMs;
use crate::platform::http::origin::Origin;
use crate::platform::ids::{InvitationId, UserId};

/// The file in the data directory with the link for the first security administrator.
pub const FIRST_LINK: &str = "first-link";
/// How long a link can be used.
const SPAN_MS: i64 = 72 * 60 * 60_000;

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Making the first security administrator.
    FirstSecurityAdministrator,
    /// Setting this person's password.
    SetPassword(UserId),
}

/// A link, without its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// What it is for.
    pub purpose: Purpose,
    /// When it was made.
    pub created_ms: UnixMs,
    /// When it ends.
    pub expires_ms: UnixMs,
}

/// A link that was just made, with its secret.
pub(super) struct Made {
    pub(super) secret: String,
    pub(super) hash: Hash,
    pub(super) invitation: Invitation,
}

impl Made {
    pub(super) fn new(purpose: Purpose, now: UnixMs) -> Self {
        let secret = secret::generate();
        let invitation =
            Invitation { id: InvitationId(secret::random_id()), purpose, created_ms: now, expires_ms: now + SPAN_MS };
        Self { hash: secret::hash(&secret), secret, invitation }
    }

    /// As the audit log shows that it was made for a user.
    pub(super) fn change(&self, user: UserId) -> Change {
        let after = serde_json::json!({ "expires_ms": self.invitation.expires_ms });
        Change { action: "user.invite", resource: user.to_string(), before: Value::Null, after }
    }
}

/// The address of a link. The secret is behind `#`, so that no server's log sees it.
pub(super) fn link(base: &str, secret: &str) -> String {
    format!("{base}/invitation#{secret}")
}

/// Why a link is not taken.
#[derive(Debug, thiserror::Error)]
pub enum InvitationError {
    /// Unknown, used or expired.
    #[error("this link is unknown, was used or has expired; ask for another one")]
    Unknown,
    /// Fields.
    #[error(transparent)]
    Form(#[from] Faults),
    /// Too many at once.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The database.
    #[error(transparent)]
    Access(#[from] AccessError),
}

impl From<sea_orm::DbErr> for InvitationError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Access(error.into())
    }
}

/// Who is still missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirstRun {
    /// The first security administrator: the link that the first start printed makes one.
    SecurityAdministrator,
    /// The first operator: the security administrator adds one.
    Operator,
    /// Nobody.
    Done,
}

impl State {
    /// A link that can still be used.
    pub(super) fn invitation(&self, hash: &Hash, now: UnixMs) -> Option<Invitation> {
        let invitation = self.invitations.get(hash).filter(|invitation| invitation.expires_ms > now)?;
        match invitation.purpose {
            Purpose::FirstSecurityAdministrator if self.has_able(Role::SecurityAdministrator) => None,
            Purpose::SetPassword(user) if self.users.get(&user).is_none_or(|user| user.disabled_ms.is_some()) => None,
            _ => Some(*invitation),
        }
    }

    /// Puts a link in place of every other of its purpose.
    pub(super) fn invite(&mut self, made: &Made) {
        self.uninvite(made.invitation.purpose);
        self.invitations.insert(made.hash, made.invitation);
    }

    pub(super) fn uninvite(&mut self, purpose: Purpose) {
        self.invitations.retain(|_, invitation| invitation.purpose != purpose);
    }
}

impl Access {
    /// Who is still missing.
    #[must_use]
    pub fn first_run(&self) -> FirstRun {
        let state = self.read();
        if !state.has_able(Role::SecurityAdministrator) {
            FirstRun::SecurityAdministrator
        } else if !state.users.values().any(|user| user.roles.has(Role::Operator)) {
            FirstRun::Operator
        } else {
            FirstRun::Done
        }
    }

    /// What a link is for, and whom. `None`: unknown, used or expired.
    pub(super) fn invitation_look(&self, secret: &str) -> Option<(Invitation, Option<User>)> {
        let state = self.read();
        let invitation = state.invitation(&secret::hash(secret), self.clock.now_ms())?;
        let user = match invitation.purpose {
            Purpose::SetPassword(user) => state.users.get(&user).cloned(),
            Purpose::FirstSecurityAdministrator => None,
        };
        Some((invitation, user))
    }

    /// A link by which a user sets a new password, for who holds the machine: the way back in when the last
    /// security administrator forgot theirs. `None`: there is no such user, or they are disabled.
    ///
    /// # Errors
    /// The database failed.
    pub async fn link_from_machine(&self, name: &str, base: &str) -> Result<Option<String>, AccessError> {
        let _changing = self.change().await?;
        let user = self.read().user_named(name).filter(|user| user.disabled_ms.is_none()).map(|user| user.id);
        let Some(user) = user else { return Ok(None) };
        let made = Made::new(Purpose::SetPassword(user), self.clock.now_ms());
        let transaction = self.db.begin("link_from_machine").await?;
        store::invitation::replace(&transaction, &made.hash, &made.invitation).await?;
        let recorded = self.record_of(&transaction, Actor::System, Origin::default(), made.change(user)).await?;
        self.commit(transaction, [recorded]).await?;
        self.write().invite(&made);
        Ok(Some(link(base, &made.secret)))
    }

    /// Sees to the file with the link for the first security administrator: there while nobody with
    /// that role can log in, and gone after. `base` is where control answers, such as
    /// `http://127.0.0.1:6480`. Gives the link while it is needed.
    ///
    /// # Errors
    /// The file or the database cannot be written.
    pub async fn first_link_ensure(&self, data: &Path, base: &str) -> Result<Option<String>, FirstLinkError> {
        let _changing = self.change().await?;
        let path = data.join(FIRST_LINK);
        if self.first_run() != FirstRun::SecurityAdministrator {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FirstLinkError::File(error)),
                _ => Ok(None),
            };
        }
        let now = self.clock.now_ms();
        let secret = fs::read_to_string(&path).ok().and_then(|text| Some(text.trim().rsplit_once('#')?.1.to_owned()));
        if let Some(secret) = secret.filter(|secret| self.read().invitation(&secret::hash(secret), now).is_some()) {
            // Control may answer at another place than at its last start.
            let link = link(base, &secret);
            write(&path, &link).map_err(FirstLinkError::File)?;
            return Ok(Some(link));
        }
        let made = Made::new(Purpose::FirstSecurityAdministrator, now);
        let transaction = self.db.begin("first_link").await.map_err(AccessError::from)?;
        store::invitation::replace(&transaction, &made.hash, &made.invitation).await.map_err(AccessError::from)?;
        let change = Change {
            action: "first_link.create",
            resource: made.invitation.id.to_string(),
            before: Value::Null,
            after: serde_json::json!({ "expires_ms": made.invitation.expires_ms }),
        };
        let recorded = self.record_of(&transaction, Actor::System, Origin::default(), change);
        let recorded = recorded.await.map_err(AccessError::from)?;
        self.commit(transaction, [recorded]).await.map_err(AccessError::from)?;
        self.write().invite(&made);
        let link = link(base, &made.secret);
        write(&path, &link).map_err(FirstLinkError::File)?;
        Ok(Some(link))
    }
}

/// Why the link for the first security administrator cannot be seen to.
#[derive(Debug, thiserror::Error)]
pub enum FirstLinkError {
    /// The file.
    #[error("the file {FIRST_LINK} in the data directory cannot be written: {0}")]
    File(#[source] io::Error),
    /// The database.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Whole or not at all, and for nobody else.
fn write(path: &Path, link: &str) -> io::Result<()> {
    // A start on a full disk needs no room for what is there.
    if fs::read_to_string(path).is_ok_and(|text| text.trim() == link) {
        return Ok(());
    }
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    writeln!(file, "{link}")?;
    file.sync_all()?;
    fs::rename(&new, path)
}
