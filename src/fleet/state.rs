//! An agent's state: one function of what is known of it. Pure.

use crate::platform::clock::UnixMs;
use serde::Serialize;
use utoipa::ToSchema;

/// How an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// Enrolled, and nothing came since.
    NeverSeen,
    /// It reports as it should.
    Up,
    /// It has missed reports.
    Late,
    /// It has been silent so long that somebody should look.
    Lost,
    /// Two machines use its identity.
    Cloned,
    /// An operator took its identity away.
    Revoked,
}

impl AgentState {
    /// As the API names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NeverSeen => "never_seen",
            Self::Up => "up",
            Self::Late => "late",
            Self::Lost => "lost",
            Self::Cloned => "cloned",
            Self::Revoked => "revoked",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::NeverSeen, Self::Up, Self::Late, Self::Lost, Self::Cloned, Self::Revoked]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// What a state follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inputs {
    /// It was revoked.
    pub revoked: bool,
    /// When another machine last tried to use its identity.
    pub cloned_ms: Option<UnixMs>,
    /// When a record last came.
    pub last_report_ms: Option<UnixMs>,
    /// Between two of its frames.
    pub interval_ms: u32,
    /// Now.
    pub now_ms: UnixMs,
}

/// A clone that does not try again is forgotten after this; one that does is back within a minute.
pub const CLONED_FOR_MS: i64 = 600_000;
/// Up, as long as fewer intervals than this have passed in silence.
pub const UP_INTERVALS: i64 = 3;
/// Late, as long as fewer than this.
pub const LATE_INTERVALS: i64 = 20;
/// Intervals are counted as if none were shorter: a network's hiccup is no state.
pub const SHORTEST_INTERVAL_MS: u32 = 5_000;

/// The state.
#[must_use]
pub fn state(inputs: Inputs) -> AgentState {
    if inputs.revoked {
        return AgentState::Revoked;
    }
    if inputs.cloned_ms.is_some_and(|cloned_ms| inputs.now_ms - cloned_ms < CLONED_FOR_MS) {
        return AgentState::Cloned;
    }
    let Some(last_report_ms) = inputs.last_report_ms else { return AgentState::NeverSeen };
    let interval_ms = i64::from(inputs.interval_ms.max(SHORTEST_INTERVAL_MS));
    match (inputs.now_ms - last_report_ms) / interval_ms {
        ..UP_INTERVALS => AgentState::Up,
        UP_INTERVALS..LATE_INTERVALS => AgentState::Late,
        LATE_INTERVALS.. => AgentState::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        use AgentState::*;
        const NOW: UnixMs = 1_800_000_000_000;
        // revoked, seconds since a clone, seconds since a report, interval in seconds
        for (revoked, cloned, report, interval, expected) in [
            (false, None, None, 15, NeverSeen),
            (false, None, Some(0), 15, Up),
            (false, None, Some(-30), 15, Up),
            (false, None, Some(44), 15, Up),
            (false, None, Some(45), 15, Late),
            (false, None, Some(299), 15, Late),
            (false, None, Some(300), 15, Lost),
            (false, None, Some(100), 60, Up),
            (false, None, Some(600), 60, Late),
            (false, None, Some(14), 1, Up),
            (false, None, Some(14), 0, Up),
            (false, None, Some(15), 1, Late),
            (false, Some(0), Some(0), 15, Cloned),
            (false, Some(0), None, 15, Cloned),
            (false, Some(599), Some(1_000), 15, Cloned),
            (false, Some(600), Some(0), 15, Up),
            (true, Some(0), Some(0), 15, Revoked),
            (true, None, None, 15, Revoked),
        ] {
            let ago = |seconds: Option<i64>| seconds.map(|seconds| NOW - seconds * 1_000);
            let inputs = Inputs {
                revoked,
                cloned_ms: ago(cloned),
                last_report_ms: ago(report),
                interval_ms: interval * 1_000,
                now_ms: NOW,
            };
            assert_eq!(state(inputs), expected, "{inputs:?}");
        }
    }
}
