//! How long to wait before the next attempt to reach control. Pure: randomness is an argument.

use std::time::Duration;

/// After the first failure.
const FIRST: Duration = Duration::from_secs(1);

/// The pause before the attempt that follows `failures` failures in a row (at least 1): doubled
/// each time up to `longest`, and between half of that and all of it, by `random` (0 ..= u32::MAX),
/// so that agents which lost control together do not return together.
#[must_use]
pub fn pause(failures: u32, longest: Duration, random: u32) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let whole = doubled.min(longest);
    whole / 2 + whole.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_the_longest_and_is_spread() {
        let longest = Duration::from_secs(15);
        let bounds = |failures| (pause(failures, longest, 0), pause(failures, longest, u32::MAX));
        let seconds = |from: f64, to: f64| (Duration::from_secs_f64(from), Duration::from_secs_f64(to));
        assert_eq!(bounds(1), seconds(0.5, 1.0));
        assert_eq!(bounds(2), seconds(1.0, 2.0));
        assert_eq!(bounds(4), seconds(4.0, 8.0));
        assert_eq!(bounds(5), seconds(7.5, 15.0));
        assert_eq!(bounds(u32::MAX), seconds(7.5, 15.0));
        assert_eq!(pause(1, Duration::from_millis(100), u32::MAX), Duration::from_millis(100));
    }
}
