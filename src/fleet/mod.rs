//! Agents: enrolment, certificates, the port they connect to, their streams, their states.
//!
//! | file | owns |
//! |---|---|
//! | `authority` | the internal certificate authority in `DIR/ca` |
//! | `peer` | who is at the other end of a connection |
//! | `enrolment` | tokens; from a token, or an old certificate, to a certificate |
//! | `gateway` | the agents' port: TLS, HTTP/2, the gRPC services |
//! | `session`, `inbound` | one agent's stream, as a state machine; messages out of its bytes |
//! | `admission`, `state` | rules, pure |
//! | `configuration` | what agents are told to be like |
//! | `directory` | all agents in memory, and the stream each holds |
//! | `events` | what became of agents: changes of their states |
//! | `attempts` | machines that were refused, for who may see agents |
//! | `reports` | what is known of agents, for others and for the database |
//! | `sink` | where records go; `telemetry` implements it |
//! | `rollout` | agents put on machines over SSH |
//!
//! What must hold: an agent is who its certificate says, and writes as nobody else; what is refused is
//! told with a typed reason, counted by it, and logged once. A record's path asks memory only.
//! Deliberately absent: what a frame holds, and any message that would make an agent act.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use prometheus::{IntCounter, IntGauge};

use crate::access::Access;
use crate::access::Permit;
use crate::access::capability::{HealthRead, SettingsRead};
use crate::metrics as list;
use crate::platform::clock::Clock;
use crate::platform::db::Db;
use crate::platform::http::tls::CertificateShown;
use crate::platform::metrics::Registry;

mod admission;
pub mod api;
mod attempts;
mod authority;
mod configuration;
mod connection;
mod counts;
mod directory;
mod enrolment;
mod events;
mod gateway;
mod inbound;
mod peer;
mod refusals;
mod reports;
pub mod rollout;
mod session;
pub mod sink;
pub mod state;
mod store;
#[cfg(test)]
mod tests;

pub use attempts::AgentRefusal;
pub use authority::{Authority, AuthorityError};
pub use configuration::{Collector, ConfigurationError, Desired};
pub use counts::AgentCounts;
pub use enrolment::{EnrolmentToken, TTL_MAX, TokenError, USES_MAX};
pub use events::AgentEvent;
pub use reports::{AgentInfo, AgentReport};

/// Why the fleet cannot be opened or served.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The certificate authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The database.
    #[error("agents cannot be read: {0}")]
    Database(#[from] sea_orm::DbErr),
    /// A row holds what this version does not know.
    #[error(
        "the column {column} of the table {table} holds what this version does not know; was it written by a newer tongtu?"
    )]
    Unknown {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// TLS.
    #[error("the agents' port cannot be served: {0}")]
    Tls(#[from] rustls::Error),
}

/// All agents of this control. Clones share them.
#[derive(Clone)]
pub struct Fleet(Arc<Shared>);

/// What the clones share.
#[doc(hidden)]
pub struct Shared {
    db: Db,
    access: Access,
    clock: Clock,
    authority: Arc<authority::Authority>,
    /// Address in tokens.
    advertise: String,
    directory: directory::Directory,
    events: events::Events,
    attempts: attempts::Attempts,
    desired: configuration::Newest,
    refusals: refusals::Refusals,
    metrics: Metrics,
    timing: session::Timing,
    /// An agent was found to be cloned: the database should know at once.
    clone_found: tokio::sync::Notify,
    /// Known once the gateway is served.
    sink: OnceLock<Arc<dyn sink::Sink>>,
}

#[derive(Debug)]
struct Metrics {
    connections: IntGauge,
    sessions: IntGauge,
    enrolled: IntCounter,
    renewed: IntCounter,
}

impl std::ops::Deref for Fleet {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fleet")
    }
}

impl Fleet {
    /// Reads all agents into memory; the first start makes the certificate authority in `DATA/ca`.
    /// `advertise` is the `HOST:PORT` that tokens carry.
    ///
    /// # Errors
    /// One sentence each: see [`FleetError`].
    pub async fn open(
        db: Db,
        access: Access,
        clock: Clock,
        data: &Path,
        advertise: String,
        registry: &Registry,
    ) -> Result<Self, FleetError> {
        Self::open_with(db, access, clock, data, advertise, registry, session::Timing::default()).await
    }

    async fn open_with(
        db: Db,
        access: Access,
        clock: Clock,
        data: &Path,
        advertise: String,
        registry: &Registry,
        timing: session::Timing,
    ) -> Result<Self, FleetError> {
        let authority = Arc::new(authority::Authority::open(data, clock.now_ms())?);
        let directory = directory::Directory::default();
        for row in store::agents_load(&db, None).await? {
            directory.insert(directory::Agent::new(row));
        }
        let desired = configuration::Newest::new(store::configuration_load(db.read()).await?.unwrap_or_default());
        let noted = store::events_load(db.read(), events::KEPT).await?;
        let events = events::Events::new(clock.now_ms(), noted, &directory.all());
        let attempts = attempts::Attempts::new(store::refusals_load(db.read(), attempts::KEPT).await?);
        Ok(Self(Arc::new(Shared {
            db,
            access,
            clock,
            authority,
            advertise,
            directory,
            events,
            attempts,
            desired,
            refusals: refusals::Refusals::new(registry.counter_vec(&list::AGENTS_REFUSED)),
            metrics: Metrics {
                connections: registry.gauge(&list::AGENT_CONNECTIONS),
                sessions: registry.gauge(&list::AGENT_SESSIONS),
                enrolled: registry.counter(&list::AGENTS_ENROLLED),
                renewed: registry.counter(&list::AGENT_CERTIFICATES_RENEWED),
            },
            timing,
            clone_found: tokio::sync::Notify::new(),
            sink: OnceLock::new(),
        })))
    }

    /// Agents' streams that said hello and are open.
    #[must_use]
    pub fn connected(&self, _: &Permit<HealthRead>) -> u64 {
        self.metrics.sessions.get().unsigned_abs()
    }

    /// The authority's certificate, which is public.
    #[must_use]
    pub fn authority_shown(&self, _: &Permit<SettingsRead>) -> CertificateShown {
        self.authority.shown()
    }

    /// SHA-256 of the authority's certificate: what tokens carry and agents know control by.
    #[must_use]
    pub fn ca_fingerprint(&self) -> [u8; 32] {
        self.authority.fingerprint()
    }
}
