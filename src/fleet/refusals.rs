//! What was refused: counted each time by reason, logged once an hour for one reason and one subject,
//! so that neither a broken agent nor an attacker fills the log.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use prometheus::IntCounterVec;
use tongtu_protocol::reason::Reason;

use crate::platform::clock::UnixMs;
use crate::platform::http::origin::network;
use crate::platform::ids::AgentId;

/// What ends a connection before it can be told why.
const CONNECTION_REASONS: [&str; 4] = ["foreign_certificate", "handshake_failed", "handshake_timeout", "too_many"];

const QUIET_MS: i64 = 3_600_000;
/// Subjects remembered; beyond that all are forgotten, and logged once more.
const SUBJECTS: usize = 10_000;

/// Who was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Agent(AgentId),
    Address(IpAddr),
}

impl Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent(agent) => agent.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[derive(Debug)]
pub(super) struct Refusals {
    counter: IntCounterVec,
    logged: Mutex<HashMap<(&'static str, Subject), UnixMs>>,
}

impl Refusals {
    pub(super) fn new(counter: IntCounterVec) -> Self {
        // From 0 up, so that the first of a reason is seen as a growth.
        let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
        for reason in reasons.chain(CONNECTION_REASONS) {
            counter.with_label_values(&[reason]);
        }
        Self { counter, logged: Mutex::default() }
    }

    /// Counts a refusal, and logs it if that is due.
    pub(super) fn count(&self, reason: &'static str, subject: Subject, detail: &dyn Display, now_ms: UnixMs) {
        self.counter.with_label_values(&[reason]).inc();
        if self.is_due(reason, subject, now_ms) {
            tracing::warn!(reason, %subject, %detail, "refused");
        }
    }

    fn is_due(&self, reason: &'static str, subject: Subject, now_ms: UnixMs) -> bool {
        let subject = match subject {
            Subject::Agent(_) => subject,
            Subject::Address(address) => Subject::Address(network(address)),
        };
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.get(&(reason, subject)).is_some_and(|then_ms| (now_ms - then_ms) < QUIET_MS) {
            return false;
        }
        if logged.len() >= SUBJECTS {
            logged.clear();
        }
        logged.insert((reason, subject), now_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_counted_each_time_and_logged_once_an_hour() {
        let counter = IntCounterVec::new(prometheus::Opts::new("c", "c"), &["reason"]).expect("valid");
        let refusals = Refusals::new(counter.clone());
        let (one, other) = (Subject::Agent(AgentId(1)), Subject::Agent(AgentId(2)));
        assert!(refusals.is_due("cloned", one, 0));
        assert!(!refusals.is_due("cloned", one, QUIET_MS - 1));
        assert!(refusals.is_due("cloned", other, 0));
        assert!(refusals.is_due("limit", one, 0));
        assert!(refusals.is_due("cloned", one, QUIET_MS));
        let [here, neighbour] =
            ["2001:db8::1", "2001:db8::2"].map(|text| Subject::Address(text.parse().expect("IPv6")));
        assert!(refusals.is_due("handshake_failed", here, 0));
        assert!(!refusals.is_due("handshake_failed", neighbour, 0), "of one network");
        refusals.count("cloned", one, &"", 0);
        refusals.count("cloned", one, &"", 0);
        assert_eq!(counter.with_label_values(&["cloned"]).get(), 2);
    }
}
