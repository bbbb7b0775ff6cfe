//! Agents, counted: for overviews, which are asked for often.

use serde::Serialize;
use utoipa::ToSchema;

use super::Fleet;
use super::state::AgentState;
use crate::access::capability::AgentsRead;
use crate::access::{Permit, Resource};
use crate::platform::ids::AgentId;

/// Agents by state, and how complete is what they send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub struct AgentCounts {
    /// All of them.
    pub total: usize,
    /// Reporting as they should.
    pub up: usize,
    /// With missed reports.
    pub late: usize,
    /// Silent for long.
    pub lost: usize,
    /// Enrolled, and nothing came since.
    pub never_seen: usize,
    /// Used by two machines.
    pub cloned: usize,
    /// Whose identity was taken away.
    pub revoked: usize,
    /// Holding a stream now.
    pub connected: usize,
    /// Frames of the last hour that are here ÷ those that should be, of all agents; null while none is
    /// expected.
    pub completeness: Option<f64>,
}

impl Fleet {
    /// The agents that the permit's organisations own, counted.
    #[must_use]
    pub fn agent_counts(&self, permit: &Permit<AgentsRead>) -> AgentCounts {
        let mut counts = AgentCounts::default();
        let (mut delivered, mut expected) = (0u64, 0u64);
        for (id, state, connected) in self.agent_states(permit) {
            counts.total += 1;
            counts.connected += usize::from(connected);
            *match state {
                AgentState::NeverSeen => &mut counts.never_seen,
                AgentState::Up => &mut counts.up,
                AgentState::Late => &mut counts.late,
                AgentState::Lost => &mut counts.lost,
                AgentState::Cloned => &mut counts.cloned,
                AgentState::Revoked => &mut counts.revoked,
            } += 1;
            if state != AgentState::Revoked {
                let delivery = self.delivery(id);
                delivered += delivery.frames_delivered;
                expected += delivery.frames_expected;
            }
        }
        counts.completeness = (expected > 0).then(|| (delivered as f64 / expected as f64).min(1.0));
        counts
    }

    /// The agents that the permit's organisations own: how each is, and whether it holds a stream.
    pub fn agent_states<'a>(
        &'a self,
        permit: &'a Permit<AgentsRead>,
    ) -> impl Iterator<Item = (AgentId, AgentState, bool)> + 'a {
        let agents = self.directory.all().into_iter();
        agents.filter(|agent| self.access.is_visible(permit, Resource::Agent(agent.id))).map(|agent| {
            let state = self.state(&agent, agent.last_report_ms());
            let connected = agent.details().live.is_some();
            (agent.id, state, connected)
        })
    }
}
