//! What became of agents: each change of a state, noted when it is seen, the newest kept.
//!
//! What must hold: silence is told only of the time in which control listened, so a restart of control makes no
//! agent late, and none better than it was known to be; what was noted is in the database before anybody is shown it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::directory::Agent;
use super::reports::{REPORT_AGE_MS, interval_ms};
use super::state::{AgentState, Inputs, state};
use super::{Fleet, FleetError, store};
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
    /// Held by the one look that notes; true: the database may hold what memory does not.
    noting: tokio::sync::Mutex<bool>,
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
        // Until then control listened for certain. What the database says of a last report may be older than the
        // report, so only a longer silence counts.
        let last_ms = agents.iter().filter_map(|agent| agent.last_report_ms()).max();
        let last_ms = last_ms.max(noted.last().map(|last| last.at_ms)).unwrap_or(since_ms) - REPORT_AGE_MS;
        for agent in agents {
            // How it came to be so is not on record any more: nothing is made up.
            known.entry(agent.id).or_insert_with(|| seen(agent, UnixMs::MIN, last_ms).0);
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

/// Whether a change is told. An agent that was not `heard` since control listens may have become worse, nothing else.
fn is_told(known: Option<AgentState>, state: AgentState, heard: bool) -> bool {
    use AgentState::*;
    match (known, state) {
        (Some(known), _) if known == state => false,
        (None, _) | (_, Revoked | Cloned) => true,
        (_, NeverSeen | Up) | (Some(Lost), Late) => heard,
        (_, Late | Lost) => true,
    }
}

impl Fleet {
    /// The newest changes of agents that the permit's organisations own, as far as they owned them then, the newest
    /// first.
    #[must_use]
    pub fn agent_events(&self, permit: &Permit<AgentsRead>, most: usize) -> Vec<AgentEvent> {
        let inner = self.events.lock();
        let own = inner.noted.iter().rev().filter(|noted| {
            let agent = Resource::Agent(noted.agent);
            self.access.is_visible(permit, agent) && self.access.was_visible(permit, agent, noted.at_ms)
        });
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
            if let Err(error) = self.attempts_write().await {
                tracing::warn!(%error, "machines that were refused could not be stored; trying again");
            }
        }
    }

    /// One look at all agents.
    pub(super) async fn events_note(&self) -> Result<(), FleetError> {
        let mut behind = self.events.noting.lock().await;
        if *behind {
            self.events_reload().await?;
            *behind = false;
        }
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
                let heard = agent.last_report_ms().is_some_and(|ms| ms >= self.events.since_ms);
                if is_told(known, state, heard) {
                    note(agent.id, (state, at_ms));
                }
            }
        }
        if noted.is_empty() {
            return Ok(());
        }
        // An error of the commit says nothing of what became of it.
        *behind = true;
        store::events_insert(&self.db, &noted, KEPT).await?;
        *behind = false;
        let mut inner = self.events.lock();
        for one in noted {
            inner.known.insert(one.agent, one.state);
            inner.noted.push_back(one);
        }
        let over = inner.noted.len().saturating_sub(KEPT);
        inner.noted.drain(..over);
        Ok(())
    }
    /// Takes over what the database holds.
    async fn events_reload(&self) -> Result<(), FleetError> {
        // On the writing connection: what was begun before on it has ended.
        let transaction = self.db.begin("agent_events_reload").await?;
        let noted = store::events_load(&transaction, KEPT).await?;
        transaction.rollback().await?;
        let mut inner = self.events.lock();
        inner.known.extend(noted.iter().map(|noted| (noted.agent, noted.state)));
        inner.noted = noted.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_not_heard_became_worse_or_nothing() {
        use AgentState::*;
        for (known, state, heard, told) in [
            (None, NeverSeen, false, true),
            (Some(NeverSeen), Up, true, true),
            (Some(Up), Up, true, false),
            (Some(Up), Late, false, true),
            (Some(Late), Lost, false, true),
            // Of control's own silence.
            (Some(Late), Up, false, false),
            (Some(Lost), Up, false, false),
            (Some(Lost), Late, false, false),
            (Some(Cloned), Up, false, false),
            (Some(Up), NeverSeen, false, false),
            // It came back.
            (Some(Lost), Up, true, true),
            (Some(Lost), Late, true, true),
            (Some(Cloned), Up, true, true),
            // Not a matter of being heard.
            (Some(Lost), Revoked, false, true),
            (Some(Up), Cloned, false, true),
        ] {
            assert_eq!(is_told(known, state, heard), told, "{known:?} → {state:?}, heard: {heard}");
        }
    }
}
