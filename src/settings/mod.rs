//! What a system administrator sets while control runs: how long things are kept, when backups are made.
//!
//! Each setting is one document with a version. What must hold: whoever changes it says which version it
//! was made from; a change is written with its audit entry and is in force as soon as it is committed,
//! and after a restart, though nobody may know how its commit ended; what is set stands before the configuration file,
//! which stands before the default.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use sea_orm::DbErr;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::access::audit::Change;
use crate::access::capability::{SettingsRead, SettingsWrite};
use crate::access::{Access, Authentication, Permit};
use crate::config::Config;
use crate::config::effective::Origin;
use crate::platform::clock::{Clock, UnixMs};
use crate::platform::db::Db;
use crate::telemetry::Telemetry;

pub mod api;
pub mod retention;
pub mod schedule;
mod store;

use retention::{Configured, Kept, RetentionSet};
use schedule::Schedule;

/// A document as it was set last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document<T> {
    /// Grows with every change; 1: it was never set.
    pub version: u64,
    /// When it was set, and by whom, as they were called then.
    pub changed: Option<(UnixMs, String)>,
    /// What it says.
    pub content: T,
}

impl<T: Default> Default for Document<T> {
    fn default() -> Self {
        Self { version: 1, changed: None, content: T::default() }
    }
}

/// A setting: its name in the database, and what the audit log calls its change.
trait Content: Clone + Default + PartialEq + Serialize + DeserializeOwned {
    const NAME: &'static str;
    const ACTION: &'static str;
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its name in the document.
    pub field: &'static str,
    /// What is wrong and what is right.
    pub english: String,
    /// The same in Chinese.
    pub chinese: String,
}

/// Why settings are not read or not taken.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Fields.
    #[error("a field is not as it should be")]
    Invalid(Vec<Fault>),
    /// It was made from a version that is not the newest.
    #[error(
        "this was made from version {made_from}, but the settings are at version {newest} by now: read them again and change those"
    )]
    Changed {
        /// What was sent.
        made_from: u64,
        /// What is there.
        newest: u64,
    },
    /// The database failed.
    #[error("settings cannot be read or written: {0}")]
    Database(#[from] DbErr),
    /// A row holds what this version does not know.
    #[error("the setting {0} holds what this version does not know; was it written by a newer tongtu?")]
    Unknown(&'static str),
}

/// The settings of this control. Clones share them.
#[derive(Debug, Clone)]
pub struct Settings(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    db: Db,
    clock: Clock,
    authentication: Authentication,
    telemetry: Telemetry,
    configured: Configured,
    retention: RwLock<Arc<Document<RetentionSet>>>,
    schedule: watch::Sender<Document<Schedule>>,
    /// Held from the check of a change to the memory of its commit.
    changing: tokio::sync::Mutex<()>,
}

impl Settings {
    /// Reads what was set, and brings it into force.
    ///
    /// # Errors
    /// The database failed, or a newer version wrote it.
    pub async fn open(
        db: Db,
        clock: Clock,
        config: &Config,
        authentication: Authentication,
        telemetry: Telemetry,
    ) -> Result<Self, SettingsError> {
        let sources: HashMap<String, Origin> =
            config.settings().into_iter().map(|setting| (setting.name, setting.source)).collect();
        let configured = Configured::new(config, |name| sources.get(name).copied().unwrap_or(Origin::Default));
        let retention = RwLock::new(Arc::new(store::load(db.read()).await?.unwrap_or_default()));
        let schedule = watch::Sender::new(store::load(db.read()).await?.unwrap_or_default());
        let changing = tokio::sync::Mutex::default();
        let settings =
            Self(Arc::new(Shared { db, clock, authentication, telemetry, configured, retention, schedule, changing }));
        settings.enforce();
        Ok(settings)
    }

    fn access(&self) -> &Access {
        self.0.authentication.access()
    }

    fn retention_now(&self) -> Arc<Document<RetentionSet>> {
        self.0.retention.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is kept how long, and why.
    #[must_use]
    pub fn retention(&self, _: &Permit<SettingsRead>) -> (Arc<Document<RetentionSet>>, Kept) {
        let set = self.retention_now();
        let kept = self.0.configured.kept(&set.content);
        (set, kept)
    }

    /// The oldest of frames, slots, hours and the audit log that is kept.
    ///
    /// # Errors
    /// The database failed.
    pub async fn oldest(&self, permit: &Permit<SettingsRead>) -> Result<[Option<UnixMs>; 4], SettingsError> {
        let [raw, slot, hour] = self.0.telemetry.oldest(permit).await?;
        Ok([raw, slot, hour, self.access().audit_oldest(permit).await?])
    }

    /// Sets how long things are kept. What is too old by it goes at once.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub async fn retention_set(
        &self,
        permit: &Permit<SettingsWrite>,
        made_from: u64,
        wanted: RetentionSet,
    ) -> Result<(), SettingsError> {
        let faults = self.0.configured.faults(&wanted);
        if !faults.is_empty() {
            return Err(SettingsError::Invalid(faults));
        }
        self.change(permit, made_from, wanted, |newest| self.retention_put(newest)).await
    }

    /// What the table holds comes into force.
    fn retention_put(&self, newest: Document<RetentionSet>) {
        if *self.retention_now() != newest {
            *self.0.retention.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newest);
            self.enforce();
        }
    }

    /// When backups are made.
    #[must_use]
    pub fn schedule(&self, _: &Permit<SettingsRead>) -> Document<Schedule> {
        self.0.schedule.borrow().clone()
    }

    /// The same for who makes them, and its changes.
    #[must_use]
    pub fn schedule_watch(&self) -> watch::Receiver<Document<Schedule>> {
        self.0.schedule.subscribe()
    }

    /// Sets when backups are made.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub async fn schedule_set(
        &self,
        permit: &Permit<SettingsWrite>,
        made_from: u64,
        wanted: Schedule,
    ) -> Result<(), SettingsError> {
        let faults = wanted.faults();
        if !faults.is_empty() {
            return Err(SettingsError::Invalid(faults));
        }
        self.change(permit, made_from, wanted, |newest| self.schedule_put(newest)).await
    }

    /// What the table holds comes into force.
    fn schedule_put(&self, newest: Document<Schedule>) {
        self.0.schedule.send_if_modified(|known| {
            let is_other = *known != newest;
            *known = newest;
            is_other
        });
    }

    /// Tells those who keep things how long.
    fn enforce(&self) {
        let kept = self.0.configured.kept(&self.retention_now().content);
        self.0.telemetry.retain(kept.measured());
        self.0.authentication.audit_retain(kept.audit.now);
    }

    /// Writes a new version with its audit entry, unless it says what was said already. Whatever comes of it, `put`
    /// is given what the table holds then: a commit before may be there though it was answered as broken.
    async fn change<T: Content>(
        &self,
        permit: &Permit<SettingsWrite>,
        made_from: u64,
        content: T,
        put: impl Fn(Document<T>),
    ) -> Result<(), SettingsError> {
        let _changing = self.0.changing.lock().await;
        let transaction = self.0.db.begin("setting_change").await?;
        let newest = store::load::<T>(&transaction).await?.unwrap_or_default();
        if made_from != newest.version || content == newest.content {
            transaction.rollback().await?;
            let version = newest.version;
            put(newest);
            let is_said_already = made_from == version;
            return if is_said_already { Ok(()) } else { Err(SettingsError::Changed { made_from, newest: version }) };
        }
        let changed = Some((self.0.clock.now_ms(), self.access().actor_name(permit.actor())));
        let document = Document { version: newest.version + 1, changed, content };
        store::save(&transaction, &document).await?;
        let audited = |content: &T| serde_json::to_value(content).unwrap_or_default();
        let change = Change {
            action: T::ACTION,
            resource: "settings".to_owned(),
            before: audited(&newest.content),
            after: audited(&document.content),
        };
        let recorded = self.access().record(&transaction, permit, change).await?;
        if let Err(error) = transaction.commit().await {
            match self.reread::<T>().await {
                Ok(newest) => put(newest),
                Err(reread) => {
                    tracing::error!(%error, %reread, setting = T::NAME, "a change may be committed; the next one finds out");
                }
            }
            return Err(error.into());
        }
        self.access().recorded(recorded);
        tracing::info!(setting = T::NAME, version = document.version, "set anew");
        put(document);
        Ok(())
    }

    /// On the writing connection: it is given only when the commit before has ended, in one way or the other.
    async fn reread<T: Content>(&self) -> Result<Document<T>, SettingsError> {
        let transaction = self.0.db.begin("setting_reread").await?;
        let newest = store::load(&transaction).await?.unwrap_or_default();
        transaction.rollback().await?;
        Ok(newest)
    }
}
