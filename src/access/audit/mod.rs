//! The audit log: every change and every refused attempt, with who, when, from where, and what was
//! before and after.
//!
//! What must hold:
//! - An entry of a change is written in the change's own transaction: neither is there without the other.
//! - Entries are chained by a MAC with a key outside of the database; each head is noted in a file beside
//!   it. So what was changed, removed, put in, exchanged, cut off or made anew is found ([`verify`]).
//! - No secret is in an entry.
//! - Refused attempts are counted: the same one within a second is one entry with its number of times, and
//!   one who asks has a bounded number of entries a minute (`refusals`): a flood of them costs one
//!   transaction a second and does not fill the disk. They wait until they are written.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr};
use serde_json::Value;
use tokio::sync::watch;

use super::capability::{AuditRead, SettingsRead};
use super::{Access, AccessError, Actor, Permit, store};
use crate::platform::clock::UnixMs;
use crate::platform::http::origin::{Origin, RequestId};
use crate::platform::ids::{AgentId, UserId};
use crate::platform::shutdown::Shutdown;

mod chain;
mod checkpoint;
mod refusals;
#[cfg(test)]
mod tests;

pub(super) use chain::Bytes32;
pub use chain::{AuditFault, FaultKind};

use chain::{Anchor, GENESIS, Key, Link, Loss};
use refusals::{Attempt, Due, Refusals};

/// How often refused attempts are written.
const REFUSALS_INTERVAL: Duration = Duration::from_secs(1);
/// How often what is too old goes, in intervals of refusals: an hour.
const RETAIN_EVERY: u32 = 3_600;
/// The action of an entry that says that the file of checkpoints was missing.
const CHECKPOINTS_LOST: &str = "audit.checkpoints_lost";
/// The same of the key.
const KEY_LOST: &str = "audit.key_lost";
/// Entries that go in one transaction, and that are read at a time.
const PORTION: u64 = 10_000;

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditResult {
    /// It was done.
    Done,
    /// It was not allowed.
    Refused,
    /// It broke.
    Failed,
}

impl AuditResult {
    /// As the table names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its place.
    pub number: i64,
    /// When.
    pub at_ms: UnixMs,
    /// `user`, `token`, `agent`, `system` or `nobody`.
    pub actor_kind: String,
    /// `user_7`.
    pub actor_id: Option<String>,
    /// As they were called then.
    pub actor_name: String,
    /// From where.
    pub address: Option<String>,
    /// `user.update`.
    pub action: String,
    /// `user_8`.
    pub resource: String,
    /// JSON.
    pub before: Option<String>,
    /// JSON.
    pub after: Option<String>,
    /// `done`, `refused` or `failed`.
    pub result: String,
    /// Why not.
    pub reason: Option<String>,
    /// Of the request.
    pub request_id: Option<String>,
}

impl AuditEntry {
    /// Its parts as the table names them, in order.
    pub(super) const PARTS: [&'static str; 13] = [
        "number",
        "at_ms",
        "actor_kind",
        "actor_id",
        "actor_name",
        "address",
        "action",
        "resource",
        "before",
        "after",
        "result",
        "reason",
        "request_id",
    ];

    fn content(&self) -> Bytes32 {
        let at_ms = self.at_ms.to_string();
        chain::digest(&[
            Some(&at_ms),
            Some(&self.actor_kind),
            self.actor_id.as_deref(),
            Some(&self.actor_name),
            self.address.as_deref(),
            Some(&self.action),
            Some(&self.resource),
            self.before.as_deref(),
            self.after.as_deref(),
            Some(&self.result),
            self.reason.as_deref(),
            self.request_id.as_deref(),
        ])
    }
}

/// Who did or tried something, as an entry says it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Doer {
    kind: &'static str,
    id: Option<String>,
    name: String,
}

impl Doer {
    /// Somebody who did not show who they are.
    #[must_use]
    pub fn nobody() -> Self {
        Self { kind: "nobody", id: None, name: String::new() }
    }

    /// Who shows an agent's certificate.
    #[must_use]
    pub fn agent(id: AgentId, name: String) -> Self {
        Self { kind: "agent", id: Some(id.to_string()), name }
    }

    pub(super) fn user(id: UserId, name: String) -> Self {
        Self { kind: "user", id: Some(id.to_string()), name }
    }
}

/// A change that is made in a transaction.
#[derive(Debug, Clone)]
pub struct Change {
    /// `user.update`.
    pub action: &'static str,
    /// `user_8`.
    pub resource: String,
    /// What was; null: nothing.
    pub before: Value,
    /// What is; null: nothing.
    pub after: Value,
}

/// Entries that a transaction holds; to be given back after its commit.
#[derive(Debug)]
#[must_use = "noted after the commit"]
pub struct Recorded(Vec<(i64, Bytes32)>);

/// Why the log's files are of no use.
#[derive(Debug, thiserror::Error)]
#[error("the audit log's files in {} cannot be read or written: {source}", data.display())]
pub struct AuditFilesError {
    data: PathBuf,
    source: std::io::Error,
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file.
    #[error(transparent)]
    Files(#[from] AuditFilesError),
    /// The database.
    #[error("the audit log cannot be written: {0}")]
    Database(#[from] DbErr),
}

/// What of the log is asked for.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// From this instant on.
    pub from_ms: Option<UnixMs>,
    /// Before this instant.
    pub to_ms: Option<UnixMs>,
    /// An id or a name.
    pub actor: Option<String>,
    /// An action; with a dot at its end, all that begin with it.
    pub action: Option<String>,
    /// How it ended.
    pub result: Option<AuditResult>,
}

/// What was found out about a log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct AuditVerification {
    /// Whether everything is as control wrote it.
    pub verified: bool,
    /// Entries.
    pub rows: u64,
    /// Number of the first one.
    pub first: Option<i64>,
    /// Number of the last one.
    pub last: Option<i64>,
    /// What was done to it.
    pub faults: Vec<AuditFault>,
}

/// Why a log cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no key.
    #[error("{} holds no audit.key: without it nothing can be verified", .0.display())]
    NoKey(PathBuf),
    /// A file.
    #[error(transparent)]
    Files(#[from] AuditFilesError),
    /// The database.
    #[error("the audit log cannot be read: {0}")]
    Database(#[from] DbErr),
}

/// The log's writer.
#[derive(Debug)]
pub(super) struct Audit {
    key: Key,
    /// Absent in tests of other things.
    data: Option<PathBuf>,
    file: Mutex<Option<File>>,
    refused: Mutex<Refusals>,
}

impl Audit {
    /// Without files: entries are chained, but nobody can verify them later.
    pub(super) fn without_files() -> Self {
        let key = Key::new(super::secret::generate().as_bytes());
        Self { key, data: None, file: Mutex::default(), refused: Mutex::default() }
    }

    /// With a key and the files of a data directory.
    fn with_files(key: &[u8], data: &Path) -> Self {
        Self { key: Key::new(key), data: Some(data.to_owned()), file: Mutex::default(), refused: Mutex::default() }
    }

    fn file(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn append(&self, transaction: &DatabaseTransaction, mut entries: Vec<AuditEntry>) -> Result<Recorded, DbErr> {
        let (mut last, mut before) = store::audit::head(transaction).await?.unwrap_or((0, GENESIS));
        let mut recorded = Vec::with_capacity(entries.len());
        for entry in &mut entries {
            last += 1;
            entry.number = last;
            before = self.key.mac(entry.number, &entry.content(), &before);
            recorded.push((last, before));
        }
        let macs = recorded.iter().map(|(_, mac)| *mac);
        store::audit::insert(transaction, &entries.into_iter().zip(macs).collect::<Vec<_>>()).await?;
        Ok(Recorded(recorded))
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, recorded: impl IntoIterator<Item = Recorded>) {
        let mut file = self.file();
        let Some(file) = file.as_mut() else { return };
        let lines: String =
            recorded.into_iter().flat_map(|it| it.0).map(|(number, mac)| checkpoint::line(number, &mac)).collect();
        if let Err(error) = checkpoint::append(file, &lines) {
            tracing::error!(%error, "audit.checkpoint cannot be written; a log that is cut off here would not be found");
        }
    }
}

impl Access {
    /// With the audit log's files in a data directory.
    ///
    /// # Errors
    /// They or the log cannot be read or written.
    pub async fn audited(mut self, data: &Path) -> Result<Self, AuditError> {
        let broken = |source| AuditFilesError { data: data.to_owned(), source };
        let mut lost = None;
        if let Some(key) = checkpoint::key_read(data).map_err(broken)? {
            self.audit = Arc::new(Audit::with_files(&key, data));
        } else {
            let key = checkpoint::key_generate();
            self.audit = Arc::new(Audit::with_files(&key, data));
            // Committed before there is a key: a start that ends between them says it again.
            lost = self.key_lost().await?;
            checkpoint::key_write(data, &key).map_err(broken)?;
            tracing::info!("made audit.key: keep a copy apart from the database's backups");
        }
        self.checkpoints_ensure().await?;
        self.audit.note(lost);
        Ok(self)
    }

    /// Where entries are and no key is, somebody took it away: that is said, and the first entry of the new one.
    async fn key_lost(&self) -> Result<Option<Recorded>, DbErr> {
        let transaction = self.db.begin("audit_key").await?;
        let Some((last, _)) = store::audit::head(&transaction).await? else {
            transaction.rollback().await?;
            return Ok(None);
        };
        tracing::error!(
            last,
            "audit.key is missing: nothing tells whether entries of the audit log are as they were written"
        );
        let recorded = self.record_of(&transaction, Actor::System, Origin::default(), lost(KEY_LOST, last)).await?;
        transaction.commit().await?;
        Ok(Some(recorded))
    }

    /// Sees to the file of checkpoints. Where entries are and no file is, or one that begins later than they do,
    /// somebody took it away: that is said, and written into the log before there is a new one, since nothing tells
    /// any more what was cut off before.
    async fn checkpoints_ensure(&self) -> Result<(), AuditError> {
        let Some(data) = &self.audit.data else { return Ok(()) };
        let broken = |source| AuditFilesError { data: data.clone(), source };
        let noted = checkpoint::read(data).map_err(broken)?.unwrap_or_default();
        if self.is_noted_whole(&noted).await? {
            let mut file = self.audit.file();
            if file.is_none() {
                *file = Some(checkpoint::open(data).map_err(broken)?);
            }
            return Ok(());
        }
        let transaction = self.db.begin("audit_checkpoints").await?;
        // So that the first log's file is never empty either.
        let mut first = Recorded(vec![(0, GENESIS)]);
        if let Some((last, _)) = store::audit::head(&transaction).await? {
            tracing::error!(
                last,
                "audit.checkpoint is missing or lacks its beginning: nothing tells whether entries of the audit log were cut off"
            );
            let change = lost(CHECKPOINTS_LOST, last);
            first = self.record_of(&transaction, Actor::System, Origin::default(), change).await?;
        }
        transaction.commit().await?;
        *self.audit.file() = Some(checkpoint::open(data).map_err(broken)?);
        self.recorded(first);
        Ok(())
    }

    /// Whether notes reach back to the log's beginning, or an entry says that they do not.
    async fn is_noted_whole(&self, noted: &[(i64, Bytes32)]) -> Result<bool, DbErr> {
        let Some(least) = noted.iter().map(|(number, _)| *number).min() else { return Ok(false) };
        let read = store::audit::snapshot(self.db.read()).await?;
        let anchor = store::audit::anchor(&read).await?.map_or(0, |(number, ..)| number);
        let is_whole = least <= anchor || store::audit::is_said_from(&read, CHECKPOINTS_LOST, least).await?;
        read.rollback().await?;
        Ok(is_whole)
    }

    /// Records a change inside its transaction. After the commit call [`recorded`](Self::recorded).
    ///
    /// # Errors
    /// The database failed; the change must not be committed.
    pub async fn record<C>(
        &self,
        transaction: &DatabaseTransaction,
        permit: &Permit<C>,
        change: Change,
    ) -> Result<Recorded, DbErr> {
        self.record_of(transaction, permit.actor(), permit.origin(), change).await
    }

    /// The same of many changes at once, one entry each.
    ///
    /// # Errors
    /// The database failed; the changes must not be committed.
    pub async fn record_all<C>(
        &self,
        transaction: &DatabaseTransaction,
        permit: &Permit<C>,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<Recorded, DbErr> {
        let doer = self.named(permit.actor());
        let entries = changes.into_iter().map(|change| self.entry(doer.clone(), permit.origin(), change));
        self.audit.append(transaction, entries.collect()).await
    }

    /// The same, of somebody without a permit: control itself, or who logs in.
    ///
    /// # Errors
    /// The database failed; the change must not be committed.
    pub async fn record_of(
        &self,
        transaction: &DatabaseTransaction,
        actor: Actor,
        origin: Origin,
        change: Change,
    ) -> Result<Recorded, DbErr> {
        self.record_as(transaction, self.named(actor), origin, change).await
    }

    /// The same, of whoever it was.
    ///
    /// # Errors
    /// The database failed; the change must not be committed.
    pub async fn record_as(
        &self,
        transaction: &DatabaseTransaction,
        doer: Doer,
        origin: Origin,
        change: Change,
    ) -> Result<Recorded, DbErr> {
        self.audit.append(transaction, vec![self.entry(doer, origin, change)]).await
    }

    fn entry(&self, doer: Doer, origin: Origin, change: Change) -> AuditEntry {
        let text = |value: Value| (!value.is_null()).then(|| value.to_string());
        AuditEntry {
            number: 0,
            at_ms: self.clock.now_ms(),
            actor_kind: doer.kind.to_owned(),
            actor_id: doer.id,
            actor_name: doer.name,
            address: origin.address.map(|address| address.to_string()),
            action: change.action.to_owned(),
            resource: change.resource,
            before: text(change.before),
            after: text(change.after),
            result: AuditResult::Done.name().to_owned(),
            reason: None,
            request_id: request_id(origin.request),
        }
    }

    /// Notes what was committed, outside of the database.
    pub fn recorded(&self, recorded: Recorded) {
        self.audit.note([recorded]);
    }

    /// What somebody is called in the log.
    #[must_use]
    pub fn actor_name(&self, actor: Actor) -> String {
        self.named(actor).name
    }

    fn named(&self, actor: Actor) -> Doer {
        let state = self.read();
        match actor {
            Actor::System => Doer { kind: "system", id: None, name: "control".to_owned() },
            Actor::User(id, _) => {
                Doer::user(id, state.users.get(&id).map(|user| user.name.clone()).unwrap_or_default())
            }
            Actor::Token(id) => {
                let name = state.tokens.get(&id).map(|token| token.name.clone());
                Doer { kind: "token", id: Some(id.to_string()), name: name.unwrap_or_default() }
            }
        }
    }

    /// Counts an attempt that was refused or failed; it is written within a second.
    pub fn refused(
        &self,
        actor: Option<Actor>,
        origin: Origin,
        action: &str,
        resource: &str,
        ended: (AuditResult, &'static str),
    ) {
        let doer = actor.map_or_else(Doer::nobody, |actor| self.named(actor));
        self.refused_to(doer, origin, action, resource, ended);
    }

    /// The same, of whoever it was.
    pub fn refused_to(
        &self,
        actor: Doer,
        origin: Origin,
        action: &str,
        resource: &str,
        (result, reason): (AuditResult, &'static str),
    ) {
        let short = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
        let attempt = Attempt {
            actor,
            address: origin.address,
            action: short(action),
            resource: short(resource),
            result: result.name(),
            reason,
        };
        self.audit.refusals().add(attempt, 1, origin.request);
    }

    /// Writes the refused attempts that were counted and are due; at the end, all of them.
    pub(super) async fn refusals_settle(&self, is_end: bool) -> Result<(), DbErr> {
        let at_ms = self.clock.now_ms();
        let due = self.audit.refusals().due(at_ms, is_end);
        if due.is_empty() {
            return Ok(());
        }
        let written = self.refusals_write(at_ms, &due).await;
        if written.is_err() {
            self.audit.refusals().give_back(due);
        }
        written
    }

    async fn refusals_write(&self, at_ms: UnixMs, due: &Due) -> Result<(), DbErr> {
        let transaction = self.db.begin("audit_refusals").await?;
        let mut entries = Vec::with_capacity(due.len());
        for (attempt, (times, request)) in due {
            let Doer { kind, id: actor_id, name: actor_name } = attempt.actor.clone();
            entries.push(AuditEntry {
                number: 0,
                at_ms,
                actor_kind: kind.to_owned(),
                actor_id,
                actor_name,
                address: attempt.address.map(|address| address.to_string()),
                action: attempt.action.clone(),
                resource: attempt.resource.clone(),
                before: None,
                after: (*times > 1).then(|| serde_json::json!({ "times": times }).to_string()),
                result: attempt.result.to_owned(),
                reason: Some(attempt.reason.to_owned()),
                request_id: request_id(*request),
            });
        }
        let recorded = self.audit.append(&transaction, entries).await?;
        transaction.commit().await?;
        self.audit.note([recorded]);
        Ok(())
    }

    /// Writes them now, for tests.
    #[cfg(test)]
    pub(crate) async fn refusals_settled(&self) {
        self.refusals_settle(true).await.expect("written");
    }

    /// Until told to stop: writes refused attempts each second, reads anew what may have been committed unseen,
    /// and takes away what is older than `retention` each hour, and when that changed. What is refused while requests
    /// under way come to their end is for [`audit_close`](Self::audit_close).
    pub(super) async fn audit_keep(&self, mut retention: watch::Receiver<Duration>, shutdown: Shutdown) {
        let told = shutdown.triggered();
        tokio::pin!(told);
        for round in (0..RETAIN_EVERY).cycle() {
            let stops = tokio::select! {
                () = &mut told => true,
                () = tokio::time::sleep(REFUSALS_INTERVAL) => false,
            };
            if let Err(error) = self.refusals_settle(stops).await {
                tracing::error!(%error, "refused attempts wait for the audit log");
            }
            if stops {
                return;
            }
            if let Err(error) = self.catch_up().await {
                tracing::warn!(%error, "what may have been committed is not read yet; tried again in a second");
            }
            let is_due = round == 0 || retention.has_changed().unwrap_or(false);
            retention.mark_unchanged();
            if is_due && let Err(error) = self.audit_retain(|| *retention.borrow()).await {
                tracing::warn!(%error, "what is too old stays in the audit log for another hour");
            }
        }
    }

    /// Writes the last refused attempts, when nobody can ask any more.
    pub async fn audit_close(&self) {
        if let Err(error) = self.refusals_settle(true).await {
            tracing::error!(%error, "the last refused attempts are not in the audit log");
        }
    }

    /// Takes away entries older than `retention`, and leaves a sealed anchor in their place. It is asked before each
    /// portion: what was set too short by mistake, and set right, is no longer obeyed.
    pub(super) async fn audit_retain(&self, retention: impl Fn() -> Duration) -> Result<(), AuditError> {
        self.checkpoints_ensure().await?;
        let mut removed = None;
        loop {
            let before_ms = self.clock.now_ms() - retention().as_millis() as i64;
            let transaction = self.db.begin("audit_retain").await?;
            let Some((number, mac)) = store::audit::last_before(&transaction, before_ms, PORTION).await? else {
                transaction.rollback().await?;
                break;
            };
            let anchor = Anchor { number, mac, seal: self.audit.key.seal(number, &mac) };
            store::audit::cut(&transaction, anchor.number, &anchor.mac, &anchor.seal).await?;
            let change = Change {
                action: "audit.retain",
                resource: "audit".to_owned(),
                before: Value::Null,
                after: serde_json::json!({ "removed_up_to": number }),
            };
            let recorded = self.record_of(&transaction, Actor::System, Origin::default(), change).await?;
            transaction.commit().await?;
            self.recorded(recorded);
            removed = Some((number, mac));
        }
        if let (Some(anchor), Some(data)) = (removed, &self.audit.data) {
            let mut file = self.audit.file();
            match checkpoint::cut(data, anchor) {
                Ok(new) => *file = Some(new),
                Err(error) => tracing::warn!(%error, "audit.checkpoint keeps what is no longer needed"),
            }
        }
        Ok(())
    }

    /// Entries that a filter takes, newest first, behind number `after`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn audit_entries(
        &self,
        _: &Permit<AuditRead>,
        filter: &AuditFilter,
        after: Option<i64>,
        limit: u64,
    ) -> Result<Vec<AuditEntry>, AccessError> {
        Ok(store::audit::entries(self.db.read(), filter, after, limit).await?)
    }

    /// When the oldest entry that is kept was written.
    ///
    /// # Errors
    /// The database failed.
    pub async fn audit_oldest(&self, _: &Permit<SettingsRead>) -> Result<Option<UnixMs>, DbErr> {
        store::audit::oldest(self.db.read()).await
    }

    /// Whether the log is as it was written.
    ///
    /// # Errors
    /// A file or the database cannot be read.
    pub async fn audit_verification(&self, _: &Permit<AuditRead>) -> Result<AuditVerification, VerifyError> {
        // Notes first: an entry that comes meanwhile is in the log and not in them, which is nothing bad.
        let noted = match &self.audit.data {
            Some(data) => checkpoint::read(data).map_err(|source| AuditFilesError { data: data.clone(), source })?,
            None => Some(Vec::new()),
        };
        verified(self.db.read(), self.audit.key.clone(), noted).await
    }
}

/// Number and MAC (in hexadecimal digits) of a log's last entry.
///
/// # Errors
/// The database failed.
pub async fn head(read: &DatabaseConnection) -> Result<Option<(i64, String)>, DbErr> {
    Ok(store::audit::head(read).await?.map(|(number, mac)| (number, checkpoint::hex(&mac))))
}

/// Verifies the log of a database with the files of its data directory.
///
/// # Errors
/// There is no key, or something cannot be read.
pub async fn verify(read: &DatabaseConnection, data: &Path) -> Result<AuditVerification, VerifyError> {
    let broken = |source| AuditFilesError { data: data.to_owned(), source };
    let noted = checkpoint::read(data).map_err(broken)?;
    let key = checkpoint::key_read(data).map_err(broken)?.ok_or_else(|| VerifyError::NoKey(data.to_owned()))?;
    verified(read, Key::new(&key), noted).await
}

/// That a file is lost on which entries up to the last one rest.
fn lost(action: &'static str, last: i64) -> Change {
    let after = serde_json::json!({ "last": last });
    Change { action, resource: "audit".to_owned(), before: Value::Null, after }
}

/// Of a request, if it was one.
fn request_id(request: RequestId) -> Option<String> {
    (request != RequestId::default()).then(|| request.to_string())
}

async fn verified(
    read: &DatabaseConnection,
    key: Key,
    noted: Option<Vec<(i64, Bytes32)>>,
) -> Result<AuditVerification, VerifyError> {
    // Of one moment: retention may move the anchor at any time.
    let read = store::audit::snapshot(read).await?;
    let anchor = store::audit::anchor(&read).await?;
    let anchor = anchor.map(|(number, mac, seal)| Anchor { number, mac, seal });
    let mut links: Vec<Link> = Vec::new();
    loop {
        let behind = links.last().map_or(i64::MIN, |link| link.number);
        let some = store::audit::portion(&read, behind, PORTION).await?;
        if some.is_empty() {
            break;
        }
        links.extend(some.iter().map(|(entry, mac)| Link {
            number: entry.number,
            content: entry.content(),
            mac: *mac,
            loss: match entry.action.as_str() {
                _ if entry.actor_kind != "system" => None,
                CHECKPOINTS_LOST => Some(Loss::Checkpoints),
                KEY_LOST => Some(Loss::Key),
                _ => None,
            },
        }));
    }
    read.rollback().await?;
    let (rows, first, last) = (links.len() as u64, links.first().map(|it| it.number), links.last().map(|it| it.number));
    let faults = tokio::task::spawn_blocking(move || chain::verify(&key, anchor, &links, noted.as_deref()));
    let faults = faults.await.map_err(|panic| DbErr::Custom(panic.to_string()))?;
    Ok(AuditVerification { verified: faults.is_empty(), rows, first, last, faults })
}
