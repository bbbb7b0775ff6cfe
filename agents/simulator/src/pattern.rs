//! The shape of a machine's load over a week. Pure.

use serde::Deserialize;

const QUARTER_MS: i64 = 15 * 60 * 1_000;
const QUARTERS: usize = 7 * 24 * 4;
/// From Unix time to a week that begins on Monday, 00:00 in Shanghai (1970-01-01 was a Thursday).
const MONDAY_MS: i64 = (3 * 24 + 8) * 3_600 * 1_000;

/// When a machine is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Working hours of an administration: two peaks, a dip at noon, quiet nights and weekends.
    #[default]
    Office,
    /// Backups and batch jobs: from 01:00 to 05:00.
    Night,
    /// Alike all day.
    Steady,
    /// Hardly anything, ever.
    Idle,
}

/// A pattern's load, 0 to 1, for each quarter of an hour of a week.
#[derive(Debug)]
pub struct Week([f32; QUARTERS]);

impl Week {
    /// The week of a pattern.
    #[must_use]
    pub fn of(pattern: Pattern) -> Self {
        let mut quarters = [0.0; QUARTERS];
        for (quarter, load) in quarters.iter_mut().enumerate() {
            let hour = (quarter % 96) as f32 / 4.0;
            let weekend = quarter / 96 >= 5;
            *load = match pattern {
                Pattern::Office => {
                    let day = bell(hour, 10.0, 1.8) + 0.85 * bell(hour, 15.3, 2.0) + 0.12 * bell(hour, 20.5, 1.5);
                    0.06 + day * if weekend { 0.12 } else { 0.7 }
                }
                Pattern::Night => 0.05 + 0.85 * bell(hour, 3.0, 1.2),
                Pattern::Steady => 0.45,
                Pattern::Idle => 0.015,
            };
        }
        Self(quarters)
    }

    /// The load at an instant.
    #[must_use]
    pub fn load(&self, wall_ms: i64) -> f32 {
        let at = wall_ms + MONDAY_MS;
        let quarter = (at.div_euclid(QUARTER_MS)).rem_euclid(QUARTERS as i64) as usize;
        let part = at.rem_euclid(QUARTER_MS) as f32 / QUARTER_MS as f32;
        let (from, to) = (self.0[quarter], self.0[(quarter + 1) % QUARTERS]);
        from + (to - from) * part
    }
}

fn bell(hour: f32, centre: f32, width: f32) -> f32 {
    let distance = (hour - centre) / width;
    (-0.5 * distance * distance).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23 00:00 in Shanghai, a Monday.
    const MONDAY: i64 = 1_795_363_200_000;
    const HOUR: i64 = 3_600_000;

    #[test]
    fn an_office_works_by_day_and_not_on_sunday() {
        let week = Week::of(Pattern::Office);
        let (ten, night, sunday) =
            (week.load(MONDAY + 10 * HOUR), week.load(MONDAY + 3 * HOUR), week.load(MONDAY + 154 * HOUR));
        assert!(ten > 0.6 && night < 0.1 && sunday < 0.2, "{ten} {night} {sunday}");
        assert!((week.load(MONDAY + 10 * HOUR + 7 * 24 * HOUR) - ten).abs() < 1e-6, "the next week is alike");
    }

    #[test]
    fn a_night_is_busy_at_three() {
        let week = Week::of(Pattern::Night);
        assert!(week.load(MONDAY + 3 * HOUR) > 0.8);
        assert!(week.load(MONDAY + 12 * HOUR) < 0.1);
    }
}
