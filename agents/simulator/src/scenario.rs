//! What a fleet is made of and what happens to it: the scenario file. Pure.

use crate::duration::{Span, Step};
use crate::machine::Size;
use crate::pattern::Pattern;
use serde::Deserialize;
use std::path::PathBuf;

/// A fleet's script.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The same seed makes the same machines and values.
    #[serde(default = "one")]
    pub seed: u64,
    /// When frames are made.
    #[serde(default)]
    pub pacing: Pacing,
    /// With `saturated` and `backlog`: how far back the first frame lies.
    #[serde(default)]
    pub history: Option<Span>,
    /// Kinds of machine.
    #[serde(default, rename = "group")]
    pub groups: Vec<Group>,
}

/// When frames are made and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Pacing {
    /// One an interval, sent at once, as real agents do.
    #[default]
    Paced,
    /// The next one as soon as the one before is acknowledged; instants stay an interval apart and begin
    /// `history` ago.
    Saturated,
    /// Those of `history` are there before the agent connects and are sent as quickly as control takes
    /// them; then it is done.
    Backlog,
}

/// Machines that are alike.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Begins their host names.
    pub name: String,
    /// Their part of the fleet, against the other groups' shares.
    #[serde(default = "whole")]
    pub share: f64,
    /// How big they are.
    #[serde(default)]
    pub host: Size,
    /// When they are busy.
    #[serde(default)]
    pub pattern: Pattern,
    /// Play recorded frames instead of making values up.
    #[serde(default)]
    pub recording: Option<PathBuf>,
    /// Above 0: they are hypervisors with so many virtual machines each, reported as the libvirt agent does.
    #[serde(default)]
    pub vms: usize,
    /// They are virtual machines of a platform that is not ours: their own agents say so, and their UUIDs.
    #[serde(default, rename = "virtual")]
    pub is_virtual: bool,
    /// What happens to them.
    #[serde(default, rename = "event")]
    pub events: Vec<Event>,
}

/// Something that happens to a group.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// After the start.
    pub at: Span,
    /// What.
    pub kind: EventKind,
    /// How long (outage, reboot).
    #[serde(default)]
    pub lasts: Option<Span>,
    /// How far (clock_step).
    #[serde(default)]
    pub by: Option<Step>,
    /// To which part of the group.
    #[serde(default = "whole")]
    pub share: f64,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The network is down for `lasts`: frames are made, and sent afterwards.
    Outage,
    /// The machine is down for `lasts`: no frames, then a new boot with counters at 0.
    Reboot,
    /// The interfaces' counters begin at 0.
    CounterReset,
    /// The wall clock steps `by`.
    ClockStep,
    /// The machine goes back to a snapshot that it was copied from: numbers repeat.
    RestoredSnapshot,
}

/// Why a scenario cannot be played.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, an unknown key, or a wrong type or unit.
    #[error("{0}")]
    Syntax(String),
    /// Values that do not fit together.
    #[error("{0}")]
    Rule(String),
}

/// Virtual machines of one hypervisor.
const MOST_VMS: usize = 500;

fn one() -> u64 {
    1
}

fn whole() -> f64 {
    1.0
}

impl Default for Scenario {
    /// What runs without a file: one group of medium office machines, paced, and nothing happens.
    fn default() -> Self {
        let group = Group {
            name: "host".to_owned(),
            share: 1.0,
            host: Size::Medium,
            pattern: Pattern::Office,
            recording: None,
            vms: 0,
            is_virtual: false,
            events: Vec::new(),
        };
        Self { seed: 1, pacing: Pacing::Paced, history: None, groups: vec![group] }
    }
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// The first fault, as one sentence with its place.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let mut scenario: Self =
            toml::from_str(text).map_err(|error| ScenarioError::Syntax(error.to_string().trim_end().to_owned()))?;
        if scenario.groups.is_empty() {
            scenario.groups = Self::default().groups;
        }
        scenario.check().map_err(ScenarioError::Rule)?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        if self.pacing == Pacing::Paced && self.history.is_some() {
            return Err("history belongs to the pacings saturated and backlog".to_owned());
        }
        if self.pacing == Pacing::Backlog && self.history.is_none() {
            return Err("the pacing backlog needs a history, like history = \"2h\"".to_owned());
        }
        for group in &self.groups {
            let name = &group.name;
            if !(group.share > 0.0 && group.share.is_finite()) {
                return Err(format!("group {name}: share must be a number above 0"));
            }
            if group.vms > MOST_VMS {
                return Err(format!("group {name}: a hypervisor has at most {MOST_VMS} vms"));
            }
            if group.vms > 0 && group.recording.is_some() {
                return Err(format!("group {name}: a recording is of a host, not of vms"));
            }
            if group.vms > 0 && group.is_virtual {
                return Err(format!("group {name}: a hypervisor is not virtual"));
            }
            for event in &group.events {
                let kind = event.kind;
                if !(event.share > 0.0 && event.share <= 1.0) {
                    return Err(format!("group {name}: the share of an event is above 0 and at most 1"));
                }
                if self.pacing != Pacing::Paced && kind != EventKind::Outage {
                    return Err(format!("group {name}: agents with a history know outages only"));
                }
                let needs_lasts = matches!(kind, EventKind::Outage | EventKind::Reboot);
                if needs_lasts != event.lasts.is_some() {
                    let verb = if needs_lasts { "needs" } else { "has no" };
                    return Err(format!("group {name}: {kind:?} {verb} lasts"));
                }
                if (kind == EventKind::ClockStep) != event.by.is_some() {
                    let verb = if event.by.is_none() { "needs" } else { "has no" };
                    return Err(format!("group {name}: {kind:?} {verb} by"));
                }
            }
        }
        Ok(())
    }

    /// The group of each of `agents` agents: shares are kept, and groups are mixed from first to last.
    #[must_use]
    pub fn assign(&self, agents: usize) -> Vec<usize> {
        let total: f64 = self.groups.iter().map(|group| group.share).sum();
        let mut given = vec![0.0; self.groups.len()];
        (1..=agents)
            .map(|so_far| {
                let owed = |group: usize| self.groups[group].share / total * so_far as f64 - given[group];
                let next = (0..self.groups.len()).max_by(|&a, &b| owed(a).total_cmp(&owed(b))).unwrap_or(0);
                given[next] += 1.0;
                next
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_read() {
        let scenario = Scenario::parse(
            r#"
            seed = 7
            [[group]]
            name = "web"
            share = 3
            host = "small"
            pattern = "office"
            [[group.event]]
            at = "20s"
            kind = "outage"
            lasts = "30s"
            share = 0.1
            [[group]]
            name = "backup"
            pattern = "night"
            "#,
        )
        .expect("a scenario");
        assert_eq!(scenario.groups[0].events[0].kind, EventKind::Outage);
        let groups = scenario.assign(8);
        assert_eq!(groups.iter().filter(|&&group| group == 0).count(), 6);
        assert!(groups[..4].contains(&1) && groups[4..].contains(&1), "groups are mixed: {groups:?}");
    }

    #[test]
    fn faults_are_named() {
        for (text, part) in [
            ("sed = 1", "unknown field `sed`"),
            ("history = \"2 hours\"\npacing = \"backlog\"", "\"2 hours\" is not a duration"),
            ("pacing = \"backlog\"", "needs a history"),
            ("[[group]]\nname = \"a\"\nhost = \"huge\"", "unknown variant `huge`"),
            ("[[group]]\nname = \"a\"\nvms = 501", "at most 500 vms"),
            ("[[group]]\nname = \"a\"\nvms = 5\nvirtual = true", "is not virtual"),
            ("[[group]]\nname = \"a\"\n[[group.event]]\nat = \"1s\"\nkind = \"outage\"", "Outage needs lasts"),
            ("[[group]]\nname = \"a\"\n[[group.event]]\nat = \"1s\"\nkind = \"clock_step\"", "ClockStep needs by"),
        ] {
            let error = Scenario::parse(text).expect_err(part).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
