//! Values with units as people write them: `"15s"`, `"8d"`, `"64MiB"`.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};

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

/// Writes a duration as it would be configured.
#[must_use]
pub fn shown(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms >= unit && ms.is_multiple_of(unit) {
            return format!("{}{name}", ms / unit);
        }
    }
    format!("{ms}ms")
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

/// Reads `"127.0.0.1:6480"`.
///
/// # Errors
/// A name, or no port.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no address; write IP:PORT, such as \"127.0.0.1:6480\""))
}

pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    text(from, "a duration with its unit, such as \"15s\" or \"8d\"", parse_duration)
}

pub(super) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    text(from, "a size with its unit, such as \"64MiB\"", parse_size)
}

pub(super) fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    text(from, "an address as IP:PORT, such as \"127.0.0.1:6480\"", parse_address)
}

/// A text, and what to say to a number.
fn text<'de, D: Deserializer<'de>, T>(
    from: D,
    expected: &'static str,
    parse: fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct Text<T>(&'static str, fn(&str) -> Result<T, String>);
    impl<T> Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            self.1(text).map_err(E::custom)
        }
    }
    from.deserialize_str(Text(expected, parse))
}
