//! Values with units as people write them: `"15s"`, `"8d"`, `"64MiB"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// Longer than this is surely a slip: 100 years.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Reads `"1h30m"`, `"15s"`, `"8d"` (a day is 24 hours).
///
/// # Errors
/// No unit, an unknown one, a negative or absurd duration.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("\"{text}\" is no duration; write a number with ms, s, m, h or d, such as \"15s\" or \"8d\"");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    let duration = Duration::try_from(duration).map_err(|_| wrong())?;
    if duration > LONGEST { Err(wrong()) } else { Ok(duration) }
}

/// Reads `"512B"`, `"64MiB"`, `"2GiB"`.
///
/// # Errors
/// No unit, an unknown one, or more than fits.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("\"{text}\" is no size; write a whole number with B, KiB, MiB, GiB or TiB, such as \"64MiB\"");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    let shift = match text[at..].trim_start() {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(from)?).map_err(D::Error::custom)
}

pub(super) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    parse_size(&String::deserialize(from)?).map_err(D::Error::custom)
}
