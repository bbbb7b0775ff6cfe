//! What became of agents: each change of a state, noted when it is seen, the newest kept.
//!
//! What must hold: silence is told only of the time in which control listened, so a restart of control makes no
//! agent late; what was noted is in the database before anybody is shown it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sea_orm::DbErr;
use serde::Serialize;
use utoipa::ToSchema;

use super::Fleet;
use super::directory::Agent;
use super::reports::interval_ms;
use super::state::{AgentState, Inputs, state};
use super::store;
use crate::access::capability::AgentsRead;
use crate::access::{Permit, Resource};
use crate::platform::clock::UnixMs;
use crate::platform::ids::AgentId;
use crate::platform::shutdown::Shutdown;

/// Agents are looked at so often.
const LOOK: Duration = Duration::from_secs(5);
/// So many changes are kept; a city's agents that all go and come back are two each.
pub(super) const KEPT: usize = 20_000;

/// A change of an agent's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AgentEvent {
    /// When (Unix time in milliseconds); of what control had to look for, to a few seconds.
    pub at_ms: UnixMs,
    /// Whose.
    #[schema(value_type = String, example = "agent_7")]
    pub agent: AgentId,
    /// Host name of its machine.
    pub hostname: String,
    /// What it became.
    pub state: AgentState,
}

/// A change as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) id: i64,
    pub(super) agent: AgentId,
    pub(super) at_ms: UnixMs,
    pub(super) state: AgentState,
}

/// What was noted, and how each agent was last.
#[derive(Debug)]
pub(super) struct Events {
    since_ms: UnixMs,
    inner: Mutex<Inner>,
    /// Held by the one look that notes.
    noting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The newest last.
    noted: VecDeque<Noted>,
    known: HashMap<AgentId, AgentState>,
}

impl Events {
    /// Of a start at `since_ms`: what the database holds, oldest first, and the agents of then.
    pub(super) fn new(since_ms: UnixMs, noted: Vec<Noted>, agents: &[std::sync::Arc<Agent>]) -> Self {
        let mut known: HashMap<_, _> = noted.iter().map(|noted| (noted.agent, noted.state)).collect();
        for agent in agents {
            // What it was before is not on record any more: nothing is made up.
            known.entry(agent.id).or_insert_with(|| seen(agent, since_ms, since_ms).0);
        }
        Self {
            since_ms,
            inner: Mutex::new(Inner { noted: noted.into(), known }),
            noting: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an agent is, and since when: it is silent only while control listens.
fn seen(agent: &Agent, since_ms: UnixMs, now_ms: UnixMs) -> (AgentState, UnixMs) {
    let details = agent.details();
    let state = state(Inputs {
        revoked: details.revoked_ms.is_some(),
        cloned_ms: agent.cloned_ms(),
        last_report_ms: agent.last_report_ms().map(|last_ms| last_ms.max(since_ms)),
        interval_ms: interval_ms(details.interval_ms),
        now_ms,
    });
    let at_ms = match state {
        AgentState::NeverSeen => Some(agent.enrolled_ms),
        AgentState::Revoked => details.revoked_ms,
        AgentState::Cloned => agent.cloned_ms(),
        AgentState::Up | AgentState::Late | AgentState::Lost => None,
    };
    (state, at_ms.unwrap_or(now_ms))
}

impl Fleet {
    /// The newest changes of agents that the permit's organisations own, the newest first.
    #[must_use]
    pub fn agent_events(&self, permit: &Permit<AgentsRead>, most: usize) -> Vec<AgentEvent> {
        let inner = self.events.lock();
        let own = inner.noted.iter().rev().filter(|noted| self.access.is_visible(permit, Resource::Agent(noted.agent)));
        let event = |noted: &Noted| AgentEvent {
            at_ms: noted.at_ms,
            agent: noted.agent,
            hostname: self.directory.get(noted.agent).map(|agent| agent.details().hostname.clone()).unwrap_or_default(),
            state: noted.state,
        };
        own.take(most).map(event).collect()
    }

    /// Notes what became of agents, until the shutdown.
    pub(super) async fn keep_events(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.triggered() => return,
            }
            if let Err(error) = self.events_note().await {
                tracing::warn!(%error, "what became of agents could not be stored; trying again");
            }
        }
    }

    /// One look at all agents.
    pub(super) async fn events_note(&self) -> Result<(), DbErr> {
        let _one = self.events.noting.lock().await;
        let now_ms = self.clock.now_ms();
        let agents = self.directory.all();
        let mut noted = Vec::new();
        {
            let inner = self.events.lock();
            let mut next = inner.noted.back().map_or(0, |last| last.id);
            let mut note = |agent: AgentId, (state, at_ms): (AgentState, UnixMs)| {
                next += 1;
                noted.push(Noted { id: next, agent, at_ms, state });
            };
            for agent in &agents {
                let (state, at_ms) = seen(agent, self.events.since_ms, now_ms);
                let known = inner.known.get(&agent.id).copied();
                if known.is_none() && state != AgentState::NeverSeen {
                    note(agent.id, (AgentState::NeverSeen, agent.enrolled_ms));
                }
                if known != Some(state) {
                    note(agent.id, (state, at_ms));
                }
            }
        }
        if noted.is_empty() {
            return Ok(());
        }
        store::events_insert(&self.db, &noted, KEPT).await?;
        let mut inner = self.events.lock();
        for one in noted {
            inner.known.insert(one.agent, one.state);
            inner.noted.push_back(one);
        }
        let over = inner.noted.len().saturating_sub(KEPT);
        inner.noted.drain(..over);
        Ok(())
    }
}
