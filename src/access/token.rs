//! Bearer tokens, and the file that gives an operator the first one.
//!
//! The file is written, synced and renamed before its row: a crash between leaves a file whose token
//! is unknown and a table without any, and the next start adopts it. Once any token was made, a
//! missing file is never replaced by itself: whoever holds the old one would not know.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::capability::{AccessRead, AccessWrite};
use super::secret::{self, hash};
use super::{Access, AccessError, Actor, Permit, Principal, Role, Roles, store};
use crate::platform::clock::UnixMs;
use crate::platform::http::origin::Origin;
use crate::platform::ids::{ApiTokenId, OrganizationId};

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
    /// When it was revoked.
    pub revoked_ms: Option<UnixMs>,
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

impl Access {
    /// The principal of a live token.
    #[must_use]
    pub fn authenticate(&self, bearer: &str) -> Option<Principal> {
        let hash = hash(bearer);
        let state = self.read();
        let token = state.tokens.get(&hash).filter(|token| token.revoked_ms.is_none())?;
        Some(Principal {
            actor: Actor::Token(token.id),
            organization: token.organization,
            roles: Roles::one(token.role),
            origin: Origin::default(),
        })
    }

    /// Tokens of the permit's organisations, oldest first.
    #[must_use]
    pub fn tokens(&self, permit: &Permit<AccessRead>) -> Vec<ApiTokenInfo> {
        let state = self.read();
        let mut tokens: Vec<_> = state
            .tokens
            .values()
            .filter(|token| state.is_within(token.organization, permit.organization()))
            .cloned()
            .collect();
        tokens.sort_by_key(|token| token.id);
        tokens
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
        let _changing = self.changing.lock().await;
        let visible = {
            let state = self.read();
            state
                .tokens
                .values()
                .any(|token| token.id == id && state.is_within(token.organization, permit.organization()))
        };
        if !visible {
            return Ok(None);
        }
        let now = self.clock.now_ms();
        store::token::revoke(&self.db, id, now).await?;
        let mut state = self.write();
        let token = state.tokens.values_mut().find(|token| token.id == id);
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
        let live = |token: &super::ApiTokenInfo| token.revoked_ms.is_none();
        (
            text.as_deref().and_then(|text| state.tokens.get(&hash(text))).is_some_and(live),
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
    let hash = hash(text);
    let now = access.clock.now_ms();
    let token = store::token::insert(&access.db, hash, FILE, Role::Operator, now, instead_of)
        .await
        .map_err(AccessError::from)?;
    let mut state = access.write();
    for old in state.tokens.values_mut().filter(|token| Some(token.id) == instead_of) {
        old.revoked_ms = Some(now);
    }
    state.tokens.insert(hash, token);
    Ok(())
}

/// A live token of a role, for tests: nothing else makes one yet.
#[cfg(test)]
pub(crate) async fn testing(access: &Access, role: Role) -> String {
    let text = generate();
    let token = store::token::insert(&access.db, hash(&text), "test", role, access.clock.now_ms(), None).await;
    access.write().tokens.insert(hash(&text), token.expect("inserted"));
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
