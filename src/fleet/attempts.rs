//! Machines that were refused a certificate, or to connect with one, for those who may see agents: one line for each
//! reason and network an hour, with its number of times.
//!
//! What must hold: a line is shown to those who see the organisation whose token or agent it was; of what shows
//! neither, to those of the whole city. Who asks for ever, from ever other networks, fills neither the table nor the
//! screen: of an hour's lines of one organisation a few name a network, and what is beyond them is told without.
//! Lines are written every few seconds; what a kill loses of certificates that were refused is in the audit log.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sea_orm::DbErr;
use serde::Serialize;
use tongtu_protocol::reason::Reason;
use utoipa::ToSchema;

use super::enrolment::{ENROL, RENEW};
use super::{Fleet, store};
use crate::access::audit::{AuditResult, Doer};
use crate::access::capability::AgentsRead;
use crate::access::{Permit, ROOT};
use crate::platform::clock::UnixMs;
use crate::platform::http::origin::{Origin, network};
use crate::platform::ids::OrganizationId;

/// For so long the same is one line.
const LINE_MS: i64 = 3_600_000;
/// Lines of one organisation, and of those who show none, that name a network in that time.
const NETWORKS: usize = 10;
/// So many lines are kept.
pub(super) const KEPT: usize = 1_000;

/// What a machine asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentAttempt {
    /// A first certificate.
    Enrol,
    /// The next one.
    Renew,
    /// To connect with the one it has.
    Connect,
}

impl AgentAttempt {
    const ALL: [Self; 3] = [Self::Enrol, Self::Renew, Self::Connect];

    /// As the table names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Enrol => "enrol",
            Self::Renew => "renew",
            Self::Connect => "connect",
        }
    }

    /// The reverse.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attempt| attempt.name() == name)
    }

    /// As the audit log names it. An agent tries to connect again and again, which is counted and logged alone.
    fn action(self) -> Option<&'static str> {
        match self {
            Self::Enrol => Some(ENROL),
            Self::Renew => Some(RENEW),
            Self::Connect => None,
        }
    }
}

/// Machines that were refused, within an hour and for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AgentRefusal {
    /// When last (Unix time in milliseconds).
    pub at_ms: UnixMs,
    /// When first.
    pub since_ms: UnixMs,
    /// What they asked for.
    pub attempt: AgentAttempt,
    /// Why not, as `tongtu_agents_refused_total` names it.
    #[schema(example = "token_expired")]
    pub reason: String,
    /// From where, of IPv6 the network; null: from several places.
    #[schema(example = "192.0.2.7")]
    pub address: Option<String>,
    /// How often.
    pub times: u64,
}

/// A line as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) id: i64,
    /// Whose token or agent it was; `None`: nobody's.
    pub(super) organization: Option<OrganizationId>,
    pub(super) attempt: AgentAttempt,
    pub(super) reason: String,
    pub(super) network: Option<IpAddr>,
    pub(super) since_ms: UnixMs,
    pub(super) at_ms: UnixMs,
    pub(super) times: u64,
    /// So many of them the table has.
    pub(super) written: u64,
}

/// The lines, the newest last.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    lines: Mutex<VecDeque<Line>>,
    /// Held by the one who writes.
    writing: tokio::sync::Mutex<()>,
}

impl Attempts {
    /// Of what the table has, the oldest first.
    pub(super) fn new(lines: Vec<Line>) -> Self {
        Self { lines: Mutex::new(lines.into()), writing: tokio::sync::Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(
        &self,
        organization: Option<OrganizationId>,
        (attempt, reason): (AgentAttempt, &str),
        address: Option<IpAddr>,
        now_ms: UnixMs,
    ) {
        let mut lines = self.lock();
        let is_alike =
            |line: &Line| line.organization == organization && (0..LINE_MS).contains(&(now_ms - line.since_ms));
        let same = |lines: &VecDeque<Line>, network: Option<IpAddr>| {
            lines.iter().rposition(|line| {
                is_alike(line) && (line.attempt, line.reason.as_str(), line.network) == (attempt, reason, network)
            })
        };
        let mut network = address.map(network);
        let mut place = same(&lines, network);
        let named = |line: &&Line| is_alike(line) && line.network.is_some();
        if place.is_none() && network.is_some() && lines.iter().filter(named).count() >= NETWORKS {
            network = None;
            place = same(&lines, network);
        }
        if let Some(line) = place.and_then(|place| lines.get_mut(place)) {
            line.at_ms = now_ms;
            line.times += 1;
            return;
        }
        let id = lines.back().map_or(1, |last| last.id + 1);
        let reason = reason.to_owned();
        let (since_ms, at_ms) = (now_ms, now_ms);
        lines.push_back(Line { id, organization, attempt, reason, network, since_ms, at_ms, times: 1, written: 0 });
        if lines.len() > KEPT {
            lines.pop_front();
        }
    }

    /// What the table does not have yet.
    fn unwritten(&self) -> Vec<Line> {
        self.lock().iter().filter(|line| line.times != line.written).cloned().collect()
    }

    fn written(&self, written: &[Line]) {
        let mut lines = self.lock();
        for one in written {
            if let Ok(place) = lines.binary_search_by_key(&one.id, |line| line.id) {
                lines[place].written = one.times;
            }
        }
    }
}

/// As a person reads it.
fn shown(network: IpAddr) -> String {
    match network {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(network) => format!("{network}/64"),
    }
}

impl Fleet {
    /// Notes that a machine was refused: in the audit log, and for who may see the agents of the `organization` whose
    /// token or agent it was.
    pub(super) fn attempt_failed(
        &self,
        who: Doer,
        origin: Origin,
        (attempt, resource): (AgentAttempt, &str),
        organization: Option<OrganizationId>,
        reason: &'static str,
    ) {
        let is_own_fault = reason == Reason::Unavailable.as_str();
        let result = if is_own_fault { AuditResult::Failed } else { AuditResult::Refused };
        if let Some(action) = attempt.action() {
            self.access.refused_to(who, origin, action, resource, (result, reason));
        }
        self.attempts.add(organization, (attempt, reason), origin.address, self.clock.now_ms());
    }

    /// The latest machines that were refused, as far as the permit may see whose they are, the newest first.
    #[must_use]
    pub fn agent_refusals(&self, permit: &Permit<AgentsRead>, most: usize) -> Vec<AgentRefusal> {
        let is_theirs = |line: &&Line| match line.organization {
            Some(organization) => self.access.is_visible_organization(permit, organization),
            None => permit.organization() == ROOT,
        };
        let mut latest: Vec<Line> = self.attempts.lock().iter().rev().filter(is_theirs).cloned().collect();
        latest.sort_by_key(|line| Reverse(line.at_ms));
        let refusal = |line: Line| AgentRefusal {
            at_ms: line.at_ms,
            since_ms: line.since_ms,
            attempt: line.attempt,
            reason: line.reason,
            address: line.network.map(shown),
            times: line.times,
        };
        latest.into_iter().take(most).map(refusal).collect()
    }

    /// Writes the lines that changed.
    pub(super) async fn attempts_write(&self) -> Result<(), DbErr> {
        let _writing = self.attempts.writing.lock().await;
        let unwritten = self.attempts.unwritten();
        if unwritten.is_empty() {
            return Ok(());
        }
        store::refusals_write(&self.db, &unwritten, KEPT).await?;
        self.attempts.written(&unwritten);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHOOL: Option<OrganizationId> = Some(OrganizationId(2));
    const USED: (AgentAttempt, &str) = (AgentAttempt::Enrol, "token_used");

    fn from(address: &str) -> Option<IpAddr> {
        Some(address.parse().expect("an address"))
    }

    /// (network, times) of each line, the oldest first.
    fn told(attempts: &Attempts) -> Vec<(String, u64)> {
        let lines = attempts.lock();
        lines.iter().map(|line| (line.network.map_or("several".to_owned(), shown), line.times)).collect()
    }

    fn line(network: &str, times: u64) -> (String, u64) {
        (network.to_owned(), times)
    }

    #[test]
    fn the_same_from_one_network_is_one_line_an_hour() {
        let attempts = Attempts::default();
        for address in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2"] {
            attempts.add(SCHOOL, USED, from(address), 0);
        }
        attempts.add(SCHOOL, (AgentAttempt::Enrol, "token_expired"), from("192.0.2.1"), 1);
        attempts.add(SCHOOL, (AgentAttempt::Renew, "token_used"), from("192.0.2.1"), 1);
        attempts.add(None, USED, from("192.0.2.1"), 1);
        attempts.add(SCHOOL, USED, from("192.0.2.1"), LINE_MS - 1);
        attempts.add(SCHOOL, USED, from("192.0.2.1"), LINE_MS);
        let first = [line("192.0.2.1", 3), line("2001:db8::/64", 2)];
        let others = vec![line("192.0.2.1", 1); 4];
        assert_eq!(told(&attempts), [&first[..], &others].concat());
        assert_eq!(attempts.lock()[0].at_ms, LINE_MS - 1);
    }

    #[test]
    fn who_comes_from_everywhere_is_few_lines_and_hides_nobody() {
        let attempts = Attempts::default();
        for n in 0..100_u8 {
            attempts.add(None, USED, Some([192, 0, 2, n].into()), 0);
        }
        attempts.add(None, USED, from("192.0.2.3"), 1);
        attempts.add(SCHOOL, USED, from("192.0.2.200"), 1);
        let told = told(&attempts);
        assert_eq!(told.len(), NETWORKS + 2, "{told:?}");
        assert_eq!(told[3], line("192.0.2.3", 2), "who has a line keeps it");
        assert_eq!(told[NETWORKS..], [line("several", 100 - NETWORKS as u64), line("192.0.2.200", 1)]);
    }

    #[test]
    fn only_what_changed_is_written_and_what_comes_meanwhile_is_not_forgotten() {
        let attempts = Attempts::default();
        for address in ["192.0.2.1", "192.0.2.2"] {
            attempts.add(None, USED, from(address), 0);
        }
        let first = attempts.unwritten();
        attempts.add(None, USED, from("192.0.2.2"), 1);
        attempts.written(&first);
        let left: Vec<_> = attempts.unwritten().iter().map(|line| (line.id, line.times)).collect();
        assert_eq!((first.len(), left), (2, vec![(2, 2)]));
        for n in 0..KEPT as i64 {
            attempts.add(None, USED, None, (n + 2) * LINE_MS);
        }
        let ids: Vec<_> = attempts.lock().iter().map(|line| line.id).collect();
        assert_eq!((ids.len(), ids[0]), (KEPT, 3), "the oldest go");
    }
}
