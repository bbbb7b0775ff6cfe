//! One agent's script: when it is down or cut off, and what else happens to its machine. Pure.
//!
//! Times are Unix milliseconds of true time; a machine's own wall clock may differ from it.

use crate::host::Random;
use crate::scenario::{Event, EventKind};

/// What happens to one machine, in order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Script {
    /// What happens to its values and clocks.
    pub(crate) happenings: Vec<Happening>,
    /// When nothing gets to control, from inclusive, to exclusive; they may overlap.
    pub(crate) cut_off: Vec<(i64, i64)>,
}

/// Something that happens at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Happening {
    /// When.
    pub(crate) at_ms: i64,
    /// What.
    pub(crate) what: What,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The machine is down until then, and boots anew.
    Down {
        /// When it is up again.
        until_ms: i64,
    },
    /// Interfaces count from 0.
    CounterReset,
    /// The wall clock moves by so many milliseconds.
    ClockStep {
        /// Forward or back.
        by_ms: i64,
    },
    /// The queue's numbering goes back to what it was at the start of the run.
    Restored,
}

impl Script {
    /// The script of agent `index` in a group with these events, for a run that begins at `start_ms`.
    #[must_use]
    pub(crate) fn of(events: &[Event], seed: u64, index: u64, start_ms: i64) -> Self {
        let mut script = Self::default();
        for (number, event) in (1u64..).zip(events) {
            // Each event meets other agents.
            let mut random = Random::new(seed.wrapping_add(number.wrapping_mul(0x5851_f42d_4c95_7f2d)), index);
            if f64::from(random.share()) >= event.share {
                continue;
            }
            let at_ms = start_ms + event.at.0.as_millis() as i64;
            let until_ms = at_ms + event.lasts.map_or(0, |lasts| lasts.0.as_millis() as i64);
            let what = match event.kind {
                EventKind::Outage => {
                    script.cut_off.push((at_ms, until_ms));
                    continue;
                }
                EventKind::Reboot => What::Down { until_ms },
                EventKind::CounterReset => What::CounterReset,
                EventKind::ClockStep => What::ClockStep { by_ms: event.by.map_or(0, |by| by.0) },
                EventKind::RestoredSnapshot => What::Restored,
            };
            match what {
                What::Down { until_ms } => script.cut_off.push((at_ms, until_ms)),
                What::Restored => script.cut_off.push((at_ms, at_ms + 1)),
                _ => {}
            }
            script.happenings.push(Happening { at_ms, what });
        }
        script.happenings.sort_by_key(|happening| happening.at_ms);
        script.cut_off.sort_unstable();
        script
    }

    /// Until when the agent is cut off at `now_ms`; `None` if it is not.
    #[must_use]
    pub(crate) fn cut_off_until(&self, now_ms: i64) -> Option<i64> {
        let spans = self.cut_off.iter().filter(|(from, to)| (*from..*to).contains(&now_ms));
        spans.map(|(_, to)| *to).max()
    }

    /// When it is cut off next, after `now_ms`.
    #[must_use]
    pub(crate) fn next_cut_ms(&self, now_ms: i64) -> Option<i64> {
        self.cut_off.iter().map(|(from, _)| *from).find(|from| *from > now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn events_meet_their_share_of_the_agents() {
        let scenario = Scenario::parse(
            "[[group]]\nname = \"a\"\n[[group.event]]\nat = \"10s\"\nkind = \"outage\"\nlasts = \"5s\"\nshare = 0.3\n\
             [[group.event]]\nat = \"4s\"\nkind = \"reboot\"\nlasts = \"2s\"",
        )
        .expect("a scenario");
        let scripts: Vec<_> = (0..1_000).map(|index| Script::of(&scenario.groups[0].events, 1, index, 0)).collect();
        let met = scripts.iter().filter(|script| script.cut_off_until(12_000) == Some(15_000)).count();
        assert!((250..350).contains(&met), "{met} of 1,000 have an outage");
        for script in &scripts {
            assert_eq!(script.happenings, [Happening { at_ms: 4_000, what: What::Down { until_ms: 6_000 } }]);
            assert_eq!(script.next_cut_ms(0), Some(4_000));
            assert_eq!(script.cut_off_until(6_000), None);
        }
    }
}
