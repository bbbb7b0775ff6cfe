//! What agents are told to be like: interval and collectors. It names what to measure and how often;
//! there is nothing in it that an agent could execute.
//!
//! One document for the whole fleet. What must hold: a version is one content for ever; whoever
//! changes it says which version it was made from; memory never goes back to an older version.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError, RwLock};

use sea_orm::DbErr;
use serde::{Deserialize, Serialize};
use tongtu_protocol::limits::{COLLECTOR_INTERVAL_MS, COLLECTOR_NAME_BYTES, COLLECTORS, INTERVAL_MS};
use tongtu_protocol::v1;
use utoipa::ToSchema;

use super::{Fleet, FleetError, store};
use crate::access::audit::Change;
use crate::access::capability::{AgentsRead, AgentsWrite};
use crate::access::{Permit, ROOT};
use crate::platform::clock::UnixMs;

/// What every agent of the fleet is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// Grows with every change. Send the one that was read: a document that another changed
    /// meanwhile is not overwritten.
    #[schema(example = 3)]
    pub version: u64,
    /// When this version was made (Unix time in milliseconds); null: as built. What is sent is ignored.
    #[serde(default)]
    #[schema(required)]
    pub changed_ms: Option<UnixMs>,
    /// Between two frames; null: what each agent's own `agent.toml` says.
    #[serde(default)]
    #[schema(required, minimum = 1_000, maximum = 3_600_000, example = 15_000)]
    pub interval_ms: Option<u32>,
    /// Collectors that differ from how they are built, each once. `tongtu-agent check` names them.
    #[serde(default)]
    #[schema(required, max_items = 256)]
    pub collectors: Vec<Collector>,
}

/// How a collector differs from how it is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Collector {
    /// Its name; an agent that has none of this name says so in its log.
    #[schema(example = "filesystem")]
    pub name: String,
    /// Whether it runs.
    pub enabled: bool,
    /// Runs at most this often; null: as built.
    #[serde(default)]
    #[schema(required, minimum = 1_000, maximum = 3_600_000)]
    pub interval_ms: Option<u32>,
}

/// Why a document is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// It says something that it may not.
    #[error("fields of the configuration are wrong")]
    Invalid(Vec<Fault>),
    /// It was made from a version that is not the newest.
    #[error(
        "this was made from version {made_from}, but the configuration is at version {newest} by now: read it again and change that"
    )]
    Changed {
        /// What was sent.
        made_from: u64,
        /// What is there.
        newest: u64,
    },
    /// It is the whole fleet's, and the permit is not.
    #[error("the configuration is every agent's: only the root organisation changes it")]
    NotRoot,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] FleetError),
}

impl From<DbErr> for ConfigurationError {
    fn from(error: DbErr) -> Self {
        Self::Store(error.into())
    }
}

impl Default for Desired {
    /// The first version leaves everything as the agent was built.
    fn default() -> Self {
        Self { version: 1, changed_ms: None, interval_ms: None, collectors: Vec::new() }
    }
}

impl Desired {
    /// As it goes over the wire.
    fn message(&self, ca_bundle_pem: &str) -> v1::DesiredConfiguration {
        let collectors = self.collectors.iter().map(|collector| v1::CollectorSetting {
            name: collector.name.clone(),
            enabled: collector.enabled,
            interval_ms: collector.interval_ms.unwrap_or(0),
        });
        v1::DesiredConfiguration {
            version: self.version,
            interval_ms: self.interval_ms.unwrap_or(0),
            collectors: collectors.collect(),
            ca_bundle_pem: ca_bundle_pem.to_owned(),
        }
    }

    /// With no collector's interval beyond what agents take now: they would refuse all of it for one that an older
    /// control took.
    pub(super) fn within_limits(mut self) -> Self {
        let (least, most) = (*COLLECTOR_INTERVAL_MS.start(), *COLLECTOR_INTERVAL_MS.end());
        for collector in &mut self.collectors {
            let Some(ms) = collector.interval_ms.filter(|ms| !COLLECTOR_INTERVAL_MS.contains(ms)) else { continue };
            let within_ms = ms.clamp(least, most);
            tracing::warn!(
                collector = collector.name,
                interval_ms = ms,
                within_ms,
                "an interval that is stored is not one that agents take; they are told the nearest one"
            );
            collector.interval_ms = Some(within_ms);
        }
        self
    }

    fn says_the_same(&self, other: &Self) -> bool {
        (&self.interval_ms, &self.collectors) == (&other.interval_ms, &other.collectors)
    }

    /// Every field that is wrong, with what it should be.
    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(ms) = self.interval_ms
            && !INTERVAL_MS.contains(&ms)
        {
            faults.push(Fault::out_of("interval_ms".to_owned(), ms, &INTERVAL_MS));
        }
        if self.collectors.len() > COLLECTORS {
            let count = self.collectors.len();
            faults.push(Fault {
                field: "collectors".to_owned(),
                english: format!("{count} are more than {COLLECTORS}"),
                chinese: format!("{count} 个超过上限 {COLLECTORS} 个"),
            });
            return faults;
        }
        let mut seen = BTreeSet::new();
        for (at, collector) in self.collectors.iter().enumerate() {
            let name = &collector.name;
            let field = |name| format!("collectors[{at}].{name}");
            let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            if name.is_empty() || name.len() > COLLECTOR_NAME_BYTES || !name.bytes().all(is_name) {
                faults.push(Fault {
                    field: field("name"),
                    english: format!("a collector's name is 1 to {COLLECTOR_NAME_BYTES} of a-z, 0-9 and _"),
                    chinese: format!("采集器名称由 1 到 {COLLECTOR_NAME_BYTES} 个 a-z、0-9 或 _ 组成"),
                });
            } else if !seen.insert(name) {
                faults.push(Fault {
                    field: field("name"),
                    english: format!("{name} stands there before"),
                    chinese: format!("{name} 重复出现"),
                });
            }
            if let Some(ms) = collector.interval_ms
                && !COLLECTOR_INTERVAL_MS.contains(&ms)
            {
                faults.push(Fault::out_of(field("interval_ms"), ms, &COLLECTOR_INTERVAL_MS));
            }
        }
        faults
    }
}

/// What is wrong with one field of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its path in the document.
    pub field: String,
    /// What is wrong and what is right.
    pub english: String,
    /// The same in Chinese.
    pub chinese: String,
}

impl Fault {
    fn out_of(field: String, ms: u32, range: &RangeInclusive<u32>) -> Self {
        let (least, most) = (range.start(), range.end());
        Self {
            field,
            english: format!("{ms} is not {least} to {most}"),
            chinese: format!("{ms} 不在 {least} 到 {most} 之间"),
        }
    }
}

/// The newest version, as streams are told.
#[derive(Debug)]
pub(super) struct Newest(RwLock<Arc<Desired>>);

impl Newest {
    pub(super) fn new(desired: Desired) -> Self {
        Self(RwLock::new(Arc::new(desired)))
    }

    pub(super) fn get(&self) -> Arc<Desired> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a version unless it knows a newer one; whether it did.
    fn take(&self, desired: Desired) -> bool {
        let mut newest = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let newer = desired.version > newest.version;
        if newer {
            *newest = Arc::new(desired);
        }
        newer
    }
}

impl Fleet {
    /// What agents are told.
    #[must_use]
    pub fn configuration(&self, _: &Permit<AgentsRead>) -> Arc<Desired> {
        self.desired.get()
    }

    /// Changes what agents are told, and tells every one that is connected. A document that says what
    /// is said already makes no version.
    ///
    /// # Errors
    /// See [`ConfigurationError`].
    pub async fn configuration_set(
        &self,
        permit: &Permit<AgentsWrite>,
        wanted: Desired,
    ) -> Result<Arc<Desired>, ConfigurationError> {
        if permit.organization() != ROOT {
            return Err(ConfigurationError::NotRoot);
        }
        let faults = wanted.faults();
        if !faults.is_empty() {
            return Err(ConfigurationError::Invalid(faults));
        }
        let transaction = self.db.begin("configuration_set").await?;
        // The database is asked, not memory: a commit whose outcome was unknown may be there.
        let newest = store::configuration_load(&transaction).await?.unwrap_or_default();
        let made_from = wanted.version;
        if made_from != newest.version || wanted.says_the_same(&newest) {
            transaction.rollback().await?;
            let version = newest.version;
            self.tell(newest);
            return if made_from == version {
                Ok(self.desired.get())
            } else {
                Err(ConfigurationError::Changed { made_from, newest: version })
            };
        }
        let changed = Desired { version: newest.version + 1, changed_ms: Some(self.clock.now_ms()), ..wanted };
        store::configuration_insert(&transaction, &changed).await?;
        let (before, after) = (audited(&newest), audited(&changed));
        let change = Change { action: "agent_configuration.update", resource: "agents".to_owned(), before, after };
        let recorded = self.access.record(&transaction, permit, change).await?;
        transaction.commit().await?;
        self.access.recorded(recorded);
        tracing::info!(version = changed.version, "agents are configured anew");
        self.tell(changed.clone());
        Ok(Arc::new(changed))
    }

    /// What streams tell their agents.
    pub(super) fn desired_message(&self) -> v1::DesiredConfiguration {
        self.desired.get().message(self.authority.pem())
    }

    /// Tells every stream, if this is news. A stream that opens meanwhile is either listed already or
    /// reads the new version for its welcome.
    fn tell(&self, desired: Desired) {
        if self.desired.take(desired) {
            for agent in self.directory.all() {
                agent.configure();
            }
        }
    }
}

/// As the audit log shows it.
fn audited(desired: &Desired) -> serde_json::Value {
    serde_json::to_value(desired).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collector(name: &str, interval_ms: Option<u32>) -> Collector {
        Collector { name: name.to_owned(), enabled: true, interval_ms }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let good = Desired {
            interval_ms: Some(1_000),
            collectors: vec![collector("disk_2", None), collector("cpu", Some(3_600_000))],
            ..Desired::default()
        };
        assert_eq!(good.faults(), Vec::new());
        let bad = Desired {
            interval_ms: Some(999),
            collectors: vec![
                collector("cpu", Some(0)),
                collector("cpu", None),
                collector("", None),
                collector("../../etc", Some(3_600_001)),
            ],
            ..Desired::default()
        };
        let faults = bad.faults();
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        let expected = [
            "interval_ms",
            "collectors[0].interval_ms",
            "collectors[1].name",
            "collectors[2].name",
            "collectors[3].name",
            "collectors[3].interval_ms",
        ];
        assert_eq!(fields, expected);
        let many = Desired { collectors: vec![collector("cpu", None); COLLECTORS + 1], ..Desired::default() };
        assert_eq!(many.faults().len(), 1);
    }

    #[test]
    fn memory_never_goes_back() {
        let newest = Newest::new(Desired::default());
        assert!(newest.take(Desired { version: 3, ..Desired::default() }));
        assert!(!newest.take(Desired { version: 2, ..Desired::default() }));
        assert_eq!(newest.get().version, 3);
    }
}
