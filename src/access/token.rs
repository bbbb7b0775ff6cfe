//! Machine tokens, and the file that gives this machine the first one.
//!
//! The file is written, synced and renamed before its row: a crash between leaves a file whose token
//! is unknown and a table without any, and the next start adopts it. Once any token was made, a
//! missing file is never replaced by itself: whoever holds the old one would not know.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use sea_orm::DbErr;
use serde_json::{Value, json};

use super::audit::Change;
use super::capability::{AccessRead, AccessWrite};
use super::form::{self, Fault, Faults};
use super::secret::{self, hash};
use super::{Access, AccessError, Actor, PeopleError, Permit, Principal, ROOT, Role, Roles, State, store};
use crate::platform::clock::UnixMs;
use crate::platform::http::origin::Origin;
use crate::platform::ids::{ApiTokenId, OrganizationId, UserId};

const PREFIX: &str = "tongtu_";
const FILE: &str = "api-token";

/// A token, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTokenInfo {
    /// Its id.
    pub id: ApiTokenId,
    /// What it is for.
    pub name: String,
    /// Whose things it reaches.
    pub organization: OrganizationId,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_ms: UnixMs,
    /// By whom; absent: by control, or by who holds the machine.
    pub created_by: Option<UserId>,
    /// When it ends.
    pub expires_ms: Option<UnixMs>,
    /// When it was revoked.
    pub revoked_ms: Option<UnixMs>,
}

impl ApiTokenInfo {
    /// As the audit log shows it.
    fn audited(&self) -> Value {
        json!({
            "name": self.name,
            "role": self.role,
            "organization": self.organization,
            "expires_ms": self.expires_ms,
            "revoked": self.revoked_ms.is_some(),
        })
    }

    /// Whether it opens anything.
    #[must_use]
    pub fn is_live(&self, now: UnixMs) -> bool {
        self.revoked_ms.is_none() && self.expires_ms.is_none_or(|expires| expires > now)
    }
}

/// When a token was last used: as it is, and as the table says. 0: never.
#[derive(Debug, Default)]
pub(super) struct Use {
    now_ms: AtomicI64,
    stored_ms: AtomicI64,
}

impl Use {
    pub(super) fn stored(last_used_ms: Option<UnixMs>) -> Self {
        let ms = last_used_ms.unwrap_or(0);
        Self { now_ms: AtomicI64::new(ms), stored_ms: AtomicI64::new(ms) }
    }

    /// A use that is newer than the table's.
    pub(super) fn keep(&self, known: &Self) {
        self.now_ms.fetch_max(known.now_ms.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn last_ms(&self) -> Option<UnixMs> {
        Some(self.now_ms.load(Ordering::Relaxed)).filter(|ms| *ms != 0)
    }
}

/// A token that is wished for.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is for.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whose things it reaches; absent: those of the whole city.
    pub organization: Option<OrganizationId>,
    /// When it ends; absent: when it is revoked.
    pub expires_ms: Option<UnixMs>,
}

/// What was found in or done to `DATA/api-token`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiTokenFile {
    /// It holds a live token.
    Live,
    /// It was made, with a new token.
    Created,
    /// It is missing, though live tokens exist.
    Missing,
    /// It holds an unknown or revoked token, though live ones exist.
    Stale,
}

/// Why the file could not be seen to.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The file.
    #[error("the token file {} cannot be read or written: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The table.
    #[error(transparent)]
    Access(#[from] AccessError),
}

fn generate() -> String {
    format!("{PREFIX}{}", secret::generate())
}

fn is_token(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(secret::is_secret)
}

impl State {
    fn token_of(&self, hash: &secret::Hash) -> Option<&ApiTokenInfo> {
        self.tokens.get(self.token_hashes.get(hash)?)
    }
}

impl Access {
    /// The principal of a live token.
    #[must_use]
    pub fn authenticate(&self, bearer: &str) -> Option<Principal> {
        let hash = hash(bearer);
        let now = self.clock.now_ms();
        let state = self.read();
        let token = state.token_of(&hash).filter(|token| token.is_live(now))?;
        if let Some(used) = state.uses.get(&token.id) {
            used.now_ms.fetch_max(now, Ordering::Relaxed);
        }
        Some(Principal {
            actor: Actor::Token(token.id),
            organization: token.organization,
            roles: Roles::one(token.role),
            origin: Origin::default(),
        })
    }

    /// Tokens of the permit's organisations with when they were last used, oldest first.
    #[must_use]
    pub fn tokens(&self, permit: &Permit<AccessRead>) -> Vec<(ApiTokenInfo, Option<UnixMs>)> {
        let state = self.read();
        let covered = state.tokens.values().filter(|token| state.is_within(token.organization, permit.organization()));
        covered.map(|token| (token.clone(), state.uses.get(&token.id).and_then(Use::last_ms))).collect()
    }

    /// Makes a token; its text is given this once.
    ///
    /// # Errors
    /// Fields; the database.
    pub async fn token_create(
        &self,
        permit: &Permit<AccessWrite>,
        wished: NewToken,
    ) -> Result<(ApiTokenInfo, String), PeopleError> {
        let _changing = self.change().await?;
        let now = self.clock.now_ms();
        let organization = wished.organization.unwrap_or_else(|| permit.organization());
        let mut faults = Faults::default();
        faults.note(form::check_shown("name", &wished.name));
        if !wished.role.is_for_machines() {
            let said = "a machine is an operator or a reader";
            faults.note(Err(Fault::new("role", said, "机器令牌的角色只能是运维人员或只读")));
        }
        if !self.is_visible_organization(permit, organization) {
            faults.note(Err(Fault::new("organization", "there is no such organisation", "没有此组织")));
        }
        if wished.expires_ms.is_some_and(|expires| expires <= now) {
            faults.note(Err(Fault::new("expires_ms", "this is in the past", "到期时间已过")));
        }
        faults.settled()?;
        let token = ApiTokenInfo {
            id: ApiTokenId(0),
            name: wished.name,
            organization,
            role: wished.role,
            created_ms: now,
            created_by: permit.user(),
            expires_ms: wished.expires_ms,
            revoked_ms: None,
        };
        let text = generate();
        let token = self.token_insert(&text, token, None, (permit.actor(), permit.origin())).await?;
        Ok((token, text))
    }

    /// Inserts a token and revokes `instead_of`; to be called while nothing else changes.
    async fn token_insert(
        &self,
        text: &str,
        mut token: ApiTokenInfo,
        instead_of: Option<ApiTokenId>,
        (actor, origin): (Actor, Origin),
    ) -> Result<ApiTokenInfo, DbErr> {
        let hash = hash(text);
        let transaction = self.db.begin("token_insert").await?;
        if let Some(old) = instead_of {
            store::token::revoke(&transaction, old, token.created_ms).await?;
        }
        store::token::insert(&transaction, &hash, &mut token).await?;
        let before = instead_of.map_or(Value::Null, |old| json!({ "revoked_instead": old }));
        let (resource, after) = (token.id.to_string(), token.audited());
        let change = Change { action: "token.create", resource, before, after };
        let recorded = self.record_of(&transaction, actor, origin, change).await?;
        self.commit(transaction, [recorded]).await?;
        let mut state = self.write();
        if let Some(old) = instead_of.and_then(|old| state.tokens.get_mut(&old)) {
            old.revoked_ms.get_or_insert(token.created_ms);
        }
        state.uses.insert(token.id, Use::default());
        state.token_hashes.insert(hash, token.id);
        state.tokens.insert(token.id, token.clone());
        Ok(token)
    }

    /// Writes when tokens were last used.
    pub(super) async fn tokens_settle(&self) -> Result<(), AccessError> {
        let _changing = self.change().await?;
        let used: Vec<_> = {
            let state = self.read();
            let uses = state.uses.iter().map(|(id, used)| (id.0, used.now_ms.load(Ordering::Relaxed), used));
            let changed = uses.filter(|(_, now, used)| used.stored_ms.load(Ordering::Relaxed) != *now);
            changed.map(|(id, now, _)| (id, now)).collect()
        };
        if used.is_empty() {
            return Ok(());
        }
        let transaction = self.db.begin("tokens_settle").await?;
        store::last_used(&transaction, store::token::TABLE, &used).await?;
        self.commit(transaction, []).await?;
        let state = self.read();
        for (id, used_ms) in used {
            if let Some(token) = state.uses.get(&ApiTokenId(id)) {
                token.stored_ms.store(used_ms, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Revokes a token for ever. `None`: there is no such token for this permit.
    ///
    /// # Errors
    /// The database failed.
    pub async fn token_revoke(
        &self,
        permit: &Permit<AccessWrite>,
        id: ApiTokenId,
    ) -> Result<Option<ApiTokenInfo>, AccessError> {
        let _changing = self.change().await?;
        let before = {
            let state = self.read();
            let token = state.tokens.get(&id);
            token.filter(|token| state.is_within(token.organization, permit.organization())).cloned()
        };
        let Some(before) = before else { return Ok(None) };
        let now = self.clock.now_ms();
        let transaction = self.db.begin("token_revoke").await?;
        store::token::revoke(&transaction, id, now).await?;
        let mut after = before.clone();
        after.revoked_ms.get_or_insert(now);
        let change = Change {
            action: "token.revoke",
            resource: id.to_string(),
            before: before.audited(),
            after: after.audited(),
        };
        let recorded = self.record(&transaction, permit, change).await?;
        self.commit(transaction, [recorded]).await?;
        let mut state = self.write();
        let token = state.tokens.get_mut(&id);
        Ok(token.map(|token| {
            token.revoked_ms.get_or_insert(now);
            token.clone()
        }))
    }
}

pub(super) async fn ensure(access: &Access, data: &Path) -> Result<ApiTokenFile, TokenFileError> {
    let path = data.join(FILE);
    let broken = |source| TokenFileError::File { path: path.clone(), source };
    let text = match fs::read_to_string(&path) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(broken(error)),
    };
    let (is_live, any_live, any) = {
        let state = access.read();
        let now = access.clock.now_ms();
        let live = |token: &ApiTokenInfo| token.is_live(now);
        (
            text.as_deref().and_then(|text| state.token_of(&hash(text))).is_some_and(live),
            state.tokens.values().any(live),
            !state.tokens.is_empty(),
        )
    };
    match text {
        Some(_) if is_live => {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(broken)?;
            Ok(ApiTokenFile::Live)
        }
        Some(_) if any_live => Ok(ApiTokenFile::Stale),
        None if any_live => Ok(ApiTokenFile::Missing),
        // A start that ended between file and row.
        Some(text) if !any && is_token(&text) => {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(broken)?;
            insert(access, &text, None).await?;
            Ok(ApiTokenFile::Created)
        }
        _ => {
            let text = generate();
            write(&path, &text).map_err(broken)?;
            insert(access, &text, None).await?;
            Ok(ApiTokenFile::Created)
        }
    }
}

pub(super) async fn renew(access: &Access, data: &Path) -> Result<(), TokenFileError> {
    let path = data.join(FILE);
    let old = {
        let state = access.read();
        let live = state.tokens.values().filter(|token| token.revoked_ms.is_none() && token.name == FILE);
        live.map(|token| token.id).max()
    };
    let text = generate();
    write(&path, &text).map_err(|source| TokenFileError::File { path, source })?;
    insert(access, &text, old).await
}

async fn insert(access: &Access, text: &str, instead_of: Option<ApiTokenId>) -> Result<(), TokenFileError> {
    let _changing = access.change().await?;
    let control = (Actor::System, Origin::default());
    access
        .token_insert(text, own(access, FILE, Role::Operator), instead_of, control)
        .await
        .map_err(AccessError::from)?;
    Ok(())
}

/// A token of control's own, over everything.
fn own(access: &Access, name: &str, role: Role) -> ApiTokenInfo {
    ApiTokenInfo {
        id: ApiTokenId(0),
        name: name.to_owned(),
        organization: ROOT,
        role,
        created_ms: access.clock.now_ms(),
        created_by: None,
        expires_ms: None,
        revoked_ms: None,
    }
}

/// A live token of a role, for tests of other domains.
#[cfg(test)]
pub(crate) async fn testing(access: &Access, role: Role) -> String {
    let text = generate();
    access
        .token_insert(&text, own(access, "test", role), None, (Actor::System, Origin::default()))
        .await
        .expect("inserted");
    text
}

/// The file is there whole, or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
