//! One simulated machine: its values from frame to frame. Pure, and the same for the same seed.
//!
//! What must hold: making a frame costs a few microseconds and allocates nothing, because a
//! thousand machines share a core with everything else.

use crate::machine::{Behaviour, DRIVERS, Driver, Plan};
use crate::pattern::Week;
use std::sync::Arc;
use tongtu_protocol::codec::State;

/// A machine.
#[derive(Debug)]
pub struct Host {
    plan: Arc<Plan>,
    week: Arc<Week>,
    state: State,
    random: Random,
    /// How big its load is against its pattern's.
    scale: f32,
    /// Slow noise of each driver.
    drift: [f32; DRIVERS],
    burst: f32,
    burst_frames: u32,
    boot_wall_ms: i64,
}

impl Host {
    /// The machine number `index` of a fleet. It booted at `boot_wall_ms` and it is `wall_ms` now: its
    /// counters stand where that long a run has brought them.
    #[must_use]
    pub fn new(plan: Arc<Plan>, week: Arc<Week>, seed: u64, index: u64, boot_wall_ms: i64, wall_ms: i64) -> Self {
        let mut random = Random::new(seed, index);
        let scale = 0.3 + random.share() * 0.9;
        let mut host = Self {
            state: State::zero(plan.at_boot.len()),
            plan,
            week,
            random,
            scale,
            drift: [0.0; DRIVERS],
            burst: 0.0,
            burst_frames: 0,
            boot_wall_ms,
        };
        host.boot(boot_wall_ms);
        let uptime_s = (wall_ms - boot_wall_ms).max(0) as f64 / 1_000.0;
        host.run(uptime_s, [0.3 * scale; DRIVERS], wall_ms, 0);
        host
    }

    /// What all machines of its size share.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The last frame's values.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Lives on for `seconds`: the next frame, which will be record `sequence`.
    pub fn advance(&mut self, seconds: f64, wall_ms: i64, sequence: u64) {
        let mean = self.week.load(wall_ms) * self.scale;
        if self.burst_frames > 0 {
            self.burst_frames -= 1;
        } else if self.random.share() < 0.004 {
            // A burst every hour or so, for up to five minutes.
            self.burst_frames = 1 + (self.random.share() * 20.0) as u32;
            self.burst = 0.2 + 0.6 * self.random.share();
        }
        let burst = if self.burst_frames > 0 { self.burst } else { 0.0 };
        let mut loads = [0.0; DRIVERS];
        for (driver, load) in loads.iter_mut().enumerate() {
            let (keep, step) = if driver == Driver::Memory as usize { (0.998, 0.01) } else { (0.85, 0.3) };
            let noise = self.random.share() * 2.0 - 1.0;
            self.drift[driver] = self.drift[driver] * keep + noise * step;
            *load = (mean * (1.0 + self.drift[driver]) + burst).clamp(0.0, 1.5);
        }
        self.run(seconds, loads, wall_ms, sequence);
    }

    /// Starts anew at `wall_ms`: counters at 0.
    pub fn reboot(&mut self, wall_ms: i64) {
        self.boot(wall_ms);
        self.drift = [0.0; DRIVERS];
        self.burst_frames = 0;
    }

    /// The interfaces' driver is loaded anew: their counters begin at 0 while the machine runs on.
    pub fn reset_interfaces(&mut self) {
        for column in &self.plan.interface_counters {
            self.state.set(*column as usize, Some(0));
        }
    }

    fn boot(&mut self, wall_ms: i64) {
        self.boot_wall_ms = wall_ms;
        for (column, value) in self.plan.at_boot.iter().enumerate() {
            self.state.set(column, Some(*value));
        }
    }

    fn run(&mut self, seconds: f64, loads: [f32; DRIVERS], wall_ms: i64, sequence: u64) {
        for &(column, behaviour) in &self.plan.active {
            let column = column as usize;
            let bits = self.random.next();
            // Three independent parts of one draw: whether it moves, how far, and the rounding.
            let swing = f64::from((bits >> 8) as u32 & 0xff_ffff) / f64::from(1 << 23) - 1.0;
            let value = match behaviour {
                Behaviour::Count { driver, base, slope, noise } => {
                    let load = f64::from(loads[driver as usize]);
                    let rate = (f64::from(base) + f64::from(slope) * load) * (1.0 + f64::from(noise) * swing);
                    let rounding = f64::from((bits >> 32) as u32) / f64::from(u32::MAX);
                    let delta = (rate * seconds + rounding).max(0.0) as i64;
                    if delta == 0 {
                        continue;
                    }
                    self.state.get(column).unwrap_or(0).wrapping_add(delta)
                }
                Behaviour::Level { driver, base, slope, noise, quantum, chance } => {
                    if bits as u8 >= chance {
                        continue;
                    }
                    let load = f64::from(loads[driver as usize]);
                    let value = (f64::from(base) + f64::from(slope) * load) * (1.0 + f64::from(noise) * swing);
                    (value.max(0.0) / quantum as f64).round() as i64 * quantum
                }
                Behaviour::WallClock => wall_ms,
                Behaviour::BootTime => self.boot_wall_ms / 1_000,
                Behaviour::Sequence => sequence as i64,
            };
            self.state.set(column, Some(value));
        }
    }
}

/// Wyrand: small, quick, good enough for noise.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index.wrapping_mul(0xd1b5_4a32_d192_ed03));
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        let wide = u128::from(self.0) * u128::from(self.0 ^ 0xe703_7ed1_a0b4_28db);
        (wide >> 64) as u64 ^ wide as u64
    }

    /// From 0 to below 1.
    pub(crate) fn share(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{SEQUENCE_METRIC, Size};
    use crate::pattern::Pattern;
    use tongtu_protocol::v1;

    const NOON: i64 = 1_795_363_200_000 + 12 * 3_600_000;

    fn host(index: u64) -> Host {
        let (plan, week) = (Arc::new(Plan::of(Size::Medium)), Arc::new(Week::of(Pattern::Office)));
        Host::new(plan, week, 1, index, NOON - 30 * 86_400_000, NOON)
    }

    #[test]
    fn a_fifth_of_the_columns_change_and_counters_only_grow() {
        let mut host = host(3);
        let columns = host.plan().schema.columns.clone();
        let (mut changed, mut before) = (0, host.state().clone());
        for frame in 1..=240u64 {
            host.advance(15.0, NOON + frame as i64 * 15_000, frame);
            for (column, (old, new)) in before.iter().zip(host.state().iter()).enumerate() {
                changed += usize::from(old != new);
                if columns[column].kind() == v1::Kind::Counter {
                    assert!(new >= old, "{} went back", columns[column].metric);
                }
            }
            before.copy_from(host.state());
        }
        let share = changed as f64 / (240 * columns.len()) as f64;
        assert!((0.10..0.25).contains(&share), "{share} of the columns change");
    }

    #[test]
    fn the_same_seed_makes_the_same_frames_and_another_machine_others() {
        let (mut one, mut again, mut other) = (host(5), host(5), host(6));
        for host in [&mut one, &mut again, &mut other] {
            host.advance(15.0, NOON + 15_000, 1);
        }
        assert_eq!(one.state(), again.state());
        assert_ne!(one.state(), other.state());
    }

    #[test]
    fn a_reboot_begins_at_zero_and_the_sequence_is_carried() {
        let mut host = host(1);
        let column = |name: &str| host.plan().schema.columns.iter().position(|column| column.metric == name);
        let (forks, sequence) =
            (column("node_forks_total").expect("a column"), column(SEQUENCE_METRIC).expect("a column"));
        host.advance(15.0, NOON, 7);
        assert!(host.state().get(forks) > Some(10_000));
        assert_eq!(host.state().get(sequence), Some(7));
        host.reboot(NOON + 60_000);
        host.advance(15.0, NOON + 75_000, 8);
        assert!(host.state().get(forks) < Some(1_000));
    }
}
