//! When something was measured: a boot time becomes an instant through the anchors of its boot.
//! Pure.
//!
//! While a stream is up control takes anchors of its own (boot time ↔ control's clock), and the
//! agent's wall clock plays no part. A boot that control never saw alive has the agent's anchors
//! only; its instants are marked *uncertain*. What must hold: a step of the agent's wall clock
//! makes neither a gap nor an overlap between two records of one boot.

use crate::fleet::sink::ControlAnchor;
use crate::platform::clock::UnixMs;
use tongtu_protocol::{limits, v1};

/// How far beyond control's clock an instant may lie.
pub const FUTURE_LIMIT_MS: i64 = 60_000;

/// A clock that is off by this part of the time passed is worse than quartz gets: 100 ppm.
const DRIFT_DIVISOR: u64 = 10_000;

/// Two agent anchors differ by more than this beyond drift: its wall clock was stepped.
const STEP_MS: u64 = 500;

/// When a record was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// The instant.
    pub ms: UnixMs,
    /// It rests on the agent's own clock alone.
    pub uncertain: bool,
}

/// Whether an instant lies further ahead of control's clock than clocks may differ.
#[must_use]
pub fn is_future(instant_ms: UnixMs, control_ms: UnixMs) -> bool {
    instant_ms > control_ms.saturating_add(FUTURE_LIMIT_MS)
}

/// What is known of the clocks of one boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anchors {
    /// Ascending in boot time; at most [`limits::ANCHORS`].
    control: Vec<ControlAnchor>,
    /// Ascending in boot time; at most [`limits::ANCHORS`].
    agent: Vec<AgentAnchor>,
}

/// An instant on both clocks of the agent's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AgentAnchor {
    boottime_ms: u64,
    wall_ms: UnixMs,
    synchronised: bool,
}

impl AgentAnchor {
    /// The wall clock's reading at boot.
    fn offset(&self) -> i128 {
        i128::from(self.wall_ms) - i128::from(self.boottime_ms)
    }
}

impl Anchors {
    /// Adds an anchor that control took. Of two at the same boot time the shorter round trip stays.
    pub fn add_control(&mut self, anchor: ControlAnchor) {
        let at = self.control.partition_point(|known| known.boottime_ms < anchor.boottime_ms);
        match self.control.get_mut(at) {
            Some(known) if known.boottime_ms == anchor.boottime_ms => {
                if anchor.round_trip_ms < known.round_trip_ms {
                    *known = anchor;
                }
            }
            _ => self.control.insert(at, anchor),
        }
        thin(&mut self.control, |anchor| anchor.boottime_ms);
    }

    /// Adds an anchor that the agent took.
    pub fn add_agent(&mut self, clock: &v1::Clock) {
        let anchor =
            AgentAnchor { boottime_ms: clock.boottime_ms, wall_ms: clock.wall_ms, synchronised: clock.synchronised };
        let at = self.agent.partition_point(|known| known.boottime_ms < anchor.boottime_ms);
        match self.agent.get_mut(at) {
            Some(known) if known.boottime_ms == anchor.boottime_ms => *known = anchor,
            _ => self.agent.insert(at, anchor),
        }
        thin(&mut self.agent, |anchor| anchor.boottime_ms);
    }

    /// Keeps one of the agent's anchors, the one that is trusted most.
    pub fn forget_agent(&mut self) {
        let trusted = self.trusted_agent().map(|at| self.agent[at]);
        self.agent = trusted.into_iter().collect();
    }

    #[cfg(test)]
    pub(super) fn agent_count(&self) -> usize {
        self.agent.len()
    }

    fn trusted_agent(&self) -> Option<usize> {
        let synchronised = self.agent.iter().rposition(|anchor| anchor.synchronised);
        synchronised.or(self.agent.len().checked_sub(1))
    }

    /// The anchors that control took, ascending.
    #[must_use]
    pub fn control(&self) -> &[ControlAnchor] {
        &self.control
    }

    /// When a record of this boot was measured; `None` without any anchor.
    #[must_use]
    pub fn instant(&self, boottime_ms: u64) -> Option<Instant> {
        if let Some(anchor) = self.nearest_control(boottime_ms) {
            let ms = shift(anchor.control_ms, anchor.boottime_ms, boottime_ms);
            return Some(Instant { ms, uncertain: false });
        }
        let anchor = self.nearest_agent(boottime_ms)?;
        let ms = shift(anchor.wall_ms, anchor.boottime_ms, boottime_ms);
        Some(Instant { ms, uncertain: true })
    }

    /// How far the agent's wall clock is ahead of control's; `None` if control has no anchor.
    #[must_use]
    pub fn clock_offset_ms(&self, clock: &v1::Clock) -> Option<i64> {
        let instant = self.instant(clock.boottime_ms).filter(|instant| !instant.uncertain)?;
        Some(clock.wall_ms.saturating_sub(instant.ms))
    }

    /// The anchor with the least possible error: its round trip, and drift over the distance.
    fn nearest_control(&self, boottime_ms: u64) -> Option<&ControlAnchor> {
        let at = self.control.partition_point(|anchor| anchor.boottime_ms <= boottime_ms);
        let (before, after) = self.control.split_at(at);
        let mut best: Option<(u64, &ControlAnchor)> = None;
        let nearest_first: [&mut dyn Iterator<Item = &ControlAnchor>; 2] =
            [&mut before.iter().rev(), &mut after.iter()];
        for anchors in nearest_first {
            for anchor in anchors {
                let drift = anchor.boottime_ms.abs_diff(boottime_ms) / DRIFT_DIVISOR;
                if best.is_some_and(|(least, _)| drift >= least) {
                    break;
                }
                let error = drift.saturating_add(u64::from(anchor.round_trip_ms));
                if best.is_none_or(|(least, _)| error < least) {
                    best = Some((error, anchor));
                }
            }
        }
        best.map(|(_, anchor)| anchor)
    }

    /// The nearest anchor of the stretch between two steps of the wall clock that is trusted most:
    /// the one that was synchronised last, or the last one. One stretch serves the whole boot, so
    /// that a step does not tear its records apart.
    fn nearest_agent(&self, boottime_ms: u64) -> Option<&AgentAnchor> {
        let trusted = self.trusted_agent()?;
        let mut first = trusted;
        while first > 0 && !stepped(&self.agent[first - 1], &self.agent[first]) {
            first -= 1;
        }
        let mut last = trusted;
        while last + 1 < self.agent.len() && !stepped(&self.agent[last], &self.agent[last + 1]) {
            last += 1;
        }
        let stretch = &self.agent[first..=last];
        stretch.iter().min_by_key(|anchor| anchor.boottime_ms.abs_diff(boottime_ms))
    }
}

/// Whether the wall clock was set between two anchors.
fn stepped(earlier: &AgentAnchor, later: &AgentAnchor) -> bool {
    let drift = (later.boottime_ms - earlier.boottime_ms) / DRIFT_DIVISOR * 5;
    let moved = (later.offset() - earlier.offset()).unsigned_abs();
    moved > u128::from(STEP_MS.saturating_add(drift))
}

/// `known_ms`, moved as boot time moved from `from_ms` to `to_ms`.
fn shift(known_ms: i64, from_ms: u64, to_ms: u64) -> i64 {
    let moved = i128::from(known_ms) + i128::from(to_ms) - i128::from(from_ms);
    moved.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// Keeps the number of anchors at its limit: drops the inner one whose neighbours lie closest.
fn thin<A>(anchors: &mut Vec<A>, boottime_ms: impl Fn(&A) -> u64) {
    while anchors.len() > limits::ANCHORS {
        let crowded =
            (1..anchors.len() - 1).min_by_key(|&at| boottime_ms(&anchors[at + 1]) - boottime_ms(&anchors[at - 1]));
        anchors.remove(crowded.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: i64 = 1_790_000_000_000;

    fn control(boottime_ms: u64, control_ms: i64, round_trip_ms: u32) -> ControlAnchor {
        ControlAnchor { boottime_ms, control_ms, round_trip_ms }
    }

    fn clock(boottime_ms: u64, wall_ms: i64, synchronised: bool) -> v1::Clock {
        v1::Clock { boottime_ms, wall_ms, synchronised }
    }

    #[test]
    fn without_an_anchor_there_is_no_instant() {
        assert_eq!(Anchors::default().instant(5), None);
    }

    #[test]
    fn control_outranks_the_agent() {
        let mut anchors = Anchors::default();
        anchors.add_agent(&clock(1_000, NOON - 3_600_000, true));
        assert_eq!(anchors.instant(2_000), Some(Instant { ms: NOON - 3_599_000, uncertain: true }));
        anchors.add_control(control(61_000, NOON, 3));
        assert_eq!(anchors.instant(2_000), Some(Instant { ms: NOON - 59_000, uncertain: false }));
        assert_eq!(anchors.clock_offset_ms(&clock(61_000, NOON - 3_600_000, true)), Some(-3_600_000));
    }

    #[test]
    fn the_nearest_anchor_serves_unless_its_round_trip_was_long() {
        let mut anchors = Anchors::default();
        anchors.add_control(control(0, NOON, 2));
        anchors.add_control(control(3_600_000, NOON + 3_600_100, 2));
        anchors.add_control(control(3_660_000, NOON + 3_664_000, 9_000));
        let ms = |boottime| anchors.instant(boottime).expect("an instant").ms - NOON;
        assert_eq!(ms(15_000), 15_000);
        assert_eq!(ms(3_500_000), 3_500_100);
        assert_eq!(ms(3_660_000), 3_660_100, "right within 8 ms, not within 9 s");
    }

    #[test]
    fn a_clock_step_tears_no_boot_apart() {
        // Booted with the clock an hour behind; time synchronisation set it after ten minutes.
        let mut anchors = Anchors::default();
        for minute in 0..60u64 {
            let behind = if minute < 10 { 3_600_000 } else { 0 };
            let wall = NOON + minute as i64 * 60_000 - behind;
            anchors.add_agent(&clock(minute * 60_000, wall, minute >= 10));
        }
        for frame in 0..240u64 {
            let instant = anchors.instant(frame * 15_000).expect("an instant");
            assert_eq!(instant, Instant { ms: NOON + frame as i64 * 15_000, uncertain: true });
        }
        // While control watches, the wall clock plays no part at all.
        anchors.add_control(control(0, NOON + 7, 1));
        assert_eq!(anchors.instant(3_000_000).map(|instant| instant.ms), Some(NOON + 3_000_007));
    }

    #[test]
    fn slow_drift_is_no_step() {
        let mut anchors = Anchors::default();
        for hour in 0..48i64 {
            // 50 ppm: 180 ms an hour.
            let wall = NOON + hour * 3_600_180;
            anchors.add_agent(&clock(hour as u64 * 3_600_000, wall, true));
        }
        assert_eq!(anchors.instant(0).map(|instant| instant.ms), Some(NOON));
        assert_eq!(anchors.instant(47 * 3_600_000).map(|instant| instant.ms), Some(NOON + 47 * 3_600_180));
    }

    #[test]
    fn the_future_begins_a_minute_ahead() {
        assert!(!is_future(NOON + 60_000, NOON));
        assert!(is_future(NOON + 60_001, NOON));
        assert!(!is_future(i64::MAX, i64::MAX));
    }

    #[test]
    fn anchors_are_bounded_and_keep_both_ends() {
        let mut anchors = Anchors::default();
        for second in 0..3 * limits::ANCHORS as u64 {
            anchors.add_control(control(second * 1_000, NOON + second as i64 * 1_000, 1));
        }
        assert_eq!(anchors.control().len(), limits::ANCHORS);
        assert_eq!(anchors.control()[0].boottime_ms, 0);
        let last = (3 * limits::ANCHORS as u64 - 1) * 1_000;
        assert_eq!(anchors.control().last().map(|anchor| anchor.boottime_ms), Some(last));
    }

    proptest! {
        #[test]
        fn any_numbers_give_an_answer(
            known in proptest::collection::vec((any::<u64>(), any::<i64>(), any::<u32>()), 0..8),
            walls in proptest::collection::vec((any::<u64>(), any::<i64>(), any::<bool>()), 0..8),
            boottime in any::<u64>(),
        ) {
            let mut anchors = Anchors::default();
            for (boottime, wall, synchronised) in &walls {
                anchors.add_agent(&clock(*boottime, *wall, *synchronised));
            }
            for (boottime, ms, round_trip) in &known {
                anchors.add_control(control(*boottime, *ms, *round_trip));
            }
            let instant = anchors.instant(boottime);
            prop_assert_eq!(instant.is_some(), !known.is_empty() || !walls.is_empty());
            prop_assert!(instant.is_none_or(|instant| instant.uncertain == known.is_empty()));
        }
    }
}
