//! Durations as people write them: `250ms`, `15s`, `10m`, `4h`, `7d`; a step of a clock may be negative.

use serde::{Deserialize, Deserializer, de::Error};
use std::{str::FromStr, time::Duration};

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a duration: write a whole number and ms, s, m, h or d, like \"15s\"")]
pub struct DurationError(String);

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A length of time in either direction, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step(pub i64);

impl FromStr for Span {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        milliseconds(text).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(|| DurationError(text.to_owned()))
    }
}

impl FromStr for Step {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        milliseconds(rest).map(|ms| Self(sign * ms as i64)).ok_or_else(|| DurationError(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit).filter(|&ms| ms <= i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_others_refused() {
        for (text, ms) in [("250ms", 250), ("15s", 15_000), ("10m", 600_000), ("4h", 14_400_000), ("7d", 604_800_000)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(ms))), "{text}");
        }
        for text in ["", "15", "s", "1.5s", "-1s", "15 s", "99999999999999999d", "１5s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!("-1h".parse(), Ok(Step(-3_600_000)));
        assert_eq!("90s".parse(), Ok(Step(90_000)));
    }
}
