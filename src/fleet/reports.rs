//! What is known of agents: for other domains, for the API, and, every few minutes, for the database.

use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

use super::directory::Agent;
use super::sink::Delivery;
use super::state::{AgentState, Inputs, state};
use super::{Fleet, store};
use crate::access::audit::Change;
use crate::access::capability::{AgentsRead, AgentsWrite};
use crate::access::{Permit, ROOT, Resource};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, OrganizationId};
use crate::platform::shutdown::Shutdown;
use sea_orm::DbErr;
use serde_json::json;
use tongtu_protocol::reason::Reason;

/// Assumed until an agent's first hello.
const INTERVAL_MS: u32 = 15_000;
/// A pass over what the database does not know yet.
const PASS: Duration = Duration::from_secs(30);
/// What it knows of an agent's last report may be this old.
pub(super) const REPORT_AGE_MS: i64 = 300_000;

/// An agent, as other domains need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentInfo {
    /// Its number.
    pub id: AgentId,
    /// `host`, `libvirt`, …
    pub kind: String,
    /// The machine it runs on.
    pub machine_id: String,
    /// Its host name.
    pub hostname: String,
    /// Its owner.
    pub organization: OrganizationId,
    /// Its version.
    pub version: String,
    /// How it is.
    pub state: AgentState,
    /// When a record last came.
    pub last_report_ms: Option<UnixMs>,
    /// Between two of its frames.
    pub interval_ms: u32,
    /// Its wall clock minus control's, as last measured.
    pub clock_offset_ms: Option<i64>,
}

/// An agent, as its API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AgentReport {
    /// Its id.
    #[schema(value_type = String, example = "agent_7")]
    pub id: AgentId,
    /// What it measures: `host`, `libvirt`, `network`, `kubernetes`.
    #[schema(example = "host")]
    pub kind: String,
    /// Host name of its machine.
    pub hostname: String,
    /// Identity of its machine.
    pub machine_id: String,
    /// Its owner.
    #[schema(value_type = String, example = "org_1")]
    pub organization: OrganizationId,
    /// How it is.
    pub state: AgentState,
    /// Whether it holds a stream now.
    pub connected: bool,
    /// Its version.
    pub version: String,
    /// The protocol version it speaks; null before its first stream.
    pub protocol: Option<u32>,
    /// Milliseconds between two of its frames.
    pub interval_ms: u32,
    /// When it enrolled (Unix time in milliseconds).
    pub enrolled_ms: UnixMs,
    /// When a record last came.
    pub last_report_ms: Option<UnixMs>,
    /// Its wall clock minus control's, as last measured.
    pub clock_offset_ms: Option<i64>,
    /// When another machine last tried to use its identity.
    pub cloned_ms: Option<UnixMs>,
    /// When it was revoked.
    pub revoked_ms: Option<UnixMs>,
    /// When its newest certificate ends.
    pub certificate_not_after_ms: Option<UnixMs>,
    /// Frames of the last hour that are here ÷ those that should be; null while none is expected.
    pub completeness: Option<f64>,
    /// Records that are durable.
    pub records_accepted: u64,
    /// Records refused for good.
    pub records_refused: u64,
    /// Records that the agent reported lost.
    pub records_lost: u64,
}

impl Fleet {
    /// An agent, from memory. Without a permit: for domains that show it under a permit of their own.
    #[must_use]
    pub fn agent(&self, id: AgentId) -> Option<AgentInfo> {
        self.directory.get(id).map(|agent| self.info(&agent))
    }

    /// What an agent's machine calls itself, as [`agent`](Self::agent) tells it.
    #[must_use]
    pub fn agent_hostname(&self, id: AgentId) -> Option<String> {
        self.directory.get(id).map(|agent| agent.details().hostname.clone())
    }

    /// Whether an agent may report no more.
    #[must_use]
    pub fn agent_is_revoked(&self, id: AgentId) -> bool {
        self.directory.get(id).is_some_and(|agent| agent.details().revoked_ms.is_some())
    }

    /// An agent that the permit's organisations own now.
    #[must_use]
    pub fn agent_shown<C>(&self, permit: &Permit<C>, id: AgentId) -> Option<AgentInfo> {
        self.agent(id).filter(|_| self.access.is_visible(permit, Resource::Agent(id)))
    }

    /// All agents, from memory, in order of ids.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentInfo> {
        self.directory.all().iter().map(|agent| self.info(agent)).collect()
    }

    /// The agents behind `after` that the permit's organisations own, in order of ids.
    pub fn agent_reports<'a>(
        &'a self,
        permit: &'a Permit<AgentsRead>,
        after: Option<AgentId>,
    ) -> impl Iterator<Item = AgentReport> + 'a {
        let agents = self.directory.all().into_iter().filter(move |agent| {
            after.is_none_or(|after| agent.id > after) && self.access.is_visible(permit, Resource::Agent(agent.id))
        });
        agents.map(|agent| self.report(&agent))
    }

    /// One of them.
    #[must_use]
    pub fn agent_fetch(&self, permit: &Permit<AgentsRead>, id: AgentId) -> Option<AgentReport> {
        self.visible(permit, id).map(|agent| self.report(&agent))
    }

    /// Takes an agent's identity away for ever and ends its stream. `None`: there is none for this permit.
    ///
    /// # Errors
    /// The database failed.
    pub async fn agent_revoke(&self, permit: &Permit<AgentsWrite>, id: AgentId) -> Result<Option<AgentReport>, DbErr> {
        let Some(agent) = self.visible(permit, id) else { return Ok(None) };
        let now_ms = self.clock.now_ms();
        let transaction = self.db.begin("agent_revoke").await?;
        store::agent_revoke(&transaction, id, now_ms).await?;
        let before = json!({ "revoked_ms": agent.details().revoked_ms });
        let after = json!({ "revoked_ms": agent.details().revoked_ms.unwrap_or(now_ms) });
        let change = Change { action: "agent.revoke", resource: id.to_string(), before, after };
        let recorded = self.access.record(&transaction, permit, change).await?;
        transaction.commit().await?;
        self.access.recorded(recorded);
        agent.details().revoked_ms.get_or_insert(now_ms);
        agent.end(Reason::Revoked);
        tracing::info!(agent = %id, "agent revoked");
        Ok(Some(self.report(&agent)))
    }

    fn visible<C>(&self, permit: &Permit<C>, id: AgentId) -> Option<std::sync::Arc<Agent>> {
        self.directory.get(id).filter(|_| self.access.is_visible(permit, Resource::Agent(id)))
    }

    pub(super) fn delivery(&self, id: AgentId) -> Delivery {
        self.sink.get().map(|sink| sink.delivery(id)).unwrap_or_default()
    }

    fn owner(&self, id: AgentId) -> OrganizationId {
        self.access.owner(Resource::Agent(id)).unwrap_or(ROOT)
    }

    fn info(&self, agent: &Agent) -> AgentInfo {
        let last_report_ms = agent.last_report_ms();
        let state = self.state(agent, last_report_ms);
        let details = agent.details();
        AgentInfo {
            id: agent.id,
            kind: details.kind.clone(),
            machine_id: details.machine_id.clone(),
            hostname: details.hostname.clone(),
            organization: self.owner(agent.id),
            version: details.version.clone(),
            state,
            last_report_ms,
            interval_ms: interval_ms(details.interval_ms),
            clock_offset_ms: agent.clock_offset_ms(),
        }
    }

    pub(super) fn state(&self, agent: &Agent, last_report_ms: Option<UnixMs>) -> AgentState {
        let details = agent.details();
        state(Inputs {
            revoked: details.revoked_ms.is_some(),
            cloned_ms: agent.cloned_ms(),
            last_report_ms,
            interval_ms: interval_ms(details.interval_ms),
            now_ms: self.clock.now_ms(),
        })
    }

    fn report(&self, agent: &Agent) -> AgentReport {
        let delivery = self.delivery(agent.id);
        let last_report_ms = agent.last_report_ms().max(delivery.last_arrival_ms);
        let state = self.state(agent, last_report_ms);
        let details = agent.details();
        AgentReport {
            id: agent.id,
            kind: details.kind.clone(),
            hostname: details.hostname.clone(),
            machine_id: details.machine_id.clone(),
            organization: self.owner(agent.id),
            state,
            connected: details.live.is_some(),
            version: details.version.clone(),
            protocol: Some(details.protocol).filter(|protocol| *protocol > 0),
            interval_ms: interval_ms(details.interval_ms),
            enrolled_ms: agent.enrolled_ms,
            last_report_ms,
            clock_offset_ms: agent.clock_offset_ms(),
            cloned_ms: agent.cloned_ms(),
            revoked_ms: details.revoked_ms,
            certificate_not_after_ms: details.certificates.last().map(|certificate| certificate.not_after_ms),
            completeness: completeness(&delivery),
            records_accepted: delivery.records_accepted,
            records_refused: delivery.records_refused,
            records_lost: delivery.records_lost,
        }
    }

    /// Writes what agents said and when they last reported, in passes, so that no record waits for it.
    pub(super) async fn keep_reports(self, shutdown: Shutdown) {
        loop {
            let stopping = tokio::select! {
                () = tokio::time::sleep(PASS) => false,
                () = self.clone_found.notified() => false,
                () = shutdown.triggered() => true,
            };
            // On the way out everything, so that a restart shows what was.
            let age_ms = if stopping { 0 } else { REPORT_AGE_MS };
            if let Err(error) = self.reports_store(age_ms).await {
                tracing::warn!(%error, "agents' last reports could not be stored; trying again");
            }
            if stopping {
                return;
            }
        }
    }

    pub(super) async fn reports_store(&self, age_ms: i64) -> Result<(), DbErr> {
        let agents = self.directory.all();
        let (mut said, mut heard) = (Vec::new(), Vec::new());
        for agent in &agents {
            let mut details = agent.details();
            if std::mem::take(&mut details.changed) {
                said.push(store::Said {
                    id: agent.id,
                    machine_id: details.machine_id.clone(),
                    hostname: details.hostname.clone(),
                    version: details.version.clone(),
                    protocol: details.protocol,
                    interval_ms: details.interval_ms,
                    cloned_ms: agent.cloned_ms(),
                });
            }
            if let Some(last_report_ms) = agent.unstored_report(age_ms) {
                let clock_offset_ms = agent.clock_offset_ms();
                heard.push(store::Heard { id: agent.id, last_report_ms, clock_offset_ms });
            }
        }
        if said.is_empty() && heard.is_empty() {
            return Ok(());
        }
        let stored = store::agents_update(&self.db, &said, &heard).await;
        for heard in &heard {
            if stored.is_ok()
                && let Some(agent) = self.directory.get(heard.id)
            {
                agent.stored_report(heard.last_report_ms);
            }
        }
        if stored.is_err() {
            for said in &said {
                if let Some(agent) = self.directory.get(said.id) {
                    agent.details().changed = true;
                }
            }
        }
        stored
    }
}

/// Milliseconds between two frames of an agent that said so, or nothing yet.
pub(super) fn interval_ms(said: u32) -> u32 {
    if said == 0 { INTERVAL_MS } else { said }
}

/// Delivered ÷ expected; more than expected is no more than all.
fn completeness(delivery: &Delivery) -> Option<f64> {
    (delivery.frames_expected > 0)
        .then(|| (delivery.frames_delivered as f64 / delivery.frames_expected as f64).min(1.0))
}
