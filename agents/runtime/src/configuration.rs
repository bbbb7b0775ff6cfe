//! `agent.toml`: what the operator of a machine sets. Everything has a default; an unknown key or a
//! wrong unit is an error.

use crate::spool::Bounds;
use serde::Deserialize;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Frames are not taken more often.
pub(crate) const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// Or less often.
pub(crate) const LONGEST_INTERVAL: Duration = Duration::from_secs(3_600);

/// A configuration file that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigurationError {
    /// It cannot be read.
    #[error("cannot read {}: {cause}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// It says something that it may not.
    #[error("{}: {fault}", .path.display())]
    Fault {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
}

/// What an agent is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// Between two frames, until control desires another.
    pub interval: Duration,
    /// Of the spool.
    pub spool: Bounds,
    /// Where `/metrics` of the last frame is served; on loopback.
    pub metrics: Option<SocketAddr>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self { interval: Duration::from_secs(15), spool: Bounds::default(), metrics: None }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    interval: Option<String>,
    metrics: Option<String>,
    spool: SpoolDocument,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SpoolDocument {
    max_size: Option<String>,
    max_age: Option<String>,
}

impl Configuration {
    /// Reads a file; one that is not there leaves the defaults.
    ///
    /// # Errors
    /// One sentence.
    pub fn read(path: &Path) -> Result<Self, ConfigurationError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|fault| ConfigurationError::Fault { path: path.to_owned(), fault }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(cause) => Err(ConfigurationError::Read { path: path.to_owned(), cause }),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let document: Document = toml::from_str(text).map_err(|error| place(text, &error))?;
        let mut configuration = Self::default();
        if let Some(interval) = &document.interval {
            configuration.interval = duration("interval", interval)?;
            if !(SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&configuration.interval) {
                return Err(format!("interval = {interval:?} is not between 1s and 1h"));
            }
        }
        if let Some(size) = &document.spool.max_size {
            configuration.spool.max_bytes = bytes(size)?;
            if configuration.spool.max_bytes < 8 << 20 {
                return Err(format!("spool.max_size = {size:?} is less than 8MiB"));
            }
        }
        if let Some(age) = &document.spool.max_age {
            configuration.spool.max_age = duration("spool.max_age", age)?;
        }
        if let Some(metrics) = &document.metrics {
            let address: Result<SocketAddr, _> = metrics.parse();
            let address =
                address.map_err(|_| format!("metrics = {metrics:?} is no address such as \"127.0.0.1:6482\""))?;
            if !address.ip().is_loopback() {
                return Err(format!(
                    "metrics = {metrics:?} is not on loopback: what is measured here goes to control only"
                ));
            }
            configuration.metrics = Some(address);
        }
        Ok(configuration)
    }
}

/// A fault of the file in one line, with its place.
fn place(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = error.message().replace('\n', " ");
    line.map_or(message.clone(), |line| format!("line {line}: {message}"))
}

fn duration(key: &str, text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let found = number(text, &units).map(Duration::from_millis);
    found.ok_or_else(|| format!("{key} = {text:?} is no duration such as \"15s\": a whole number and ms, s, m, h or d"))
}

fn bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    number(text, &units).ok_or_else(|| {
        format!("spool.max_size = {text:?} is no size such as \"512MiB\": a whole number and KiB, MiB or GiB")
    })
}

fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let at = text.find(|character: char| !character.is_ascii_digit())?;
    let (digits, unit) = text.split_at(at);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_is_set_and_what_is_wrong() {
        let text = "interval = \"30s\"\nmetrics = \"[::1]:6482\"\n[spool]\nmax_size = \"1GiB\"\nmax_age = \"2d\"\n";
        let configuration = Configuration::parse(text).expect("a good file");
        assert_eq!(configuration.interval, Duration::from_secs(30));
        assert_eq!(configuration.spool, Bounds { max_bytes: 1 << 30, max_age: Duration::from_secs(172_800) });
        assert!(configuration.metrics.is_some());
        assert_eq!(Configuration::parse("").expect("all defaults"), Configuration::default());
        for (text, part) in [
            ("intervall = \"15s\"", "unknown field `intervall`"),
            ("\n[spool]\nsize = \"1GiB\"", "line 3"),
            ("interval = 15", "line 1"),
            ("interval = \"15\"", "is no duration such as"),
            ("interval = \"15 sec\"", "is no duration such as"),
            ("interval = \"0s\"", "between 1s and 1h"),
            ("[spool]\nmax_size = \"512MB\"", "is no size such as"),
            ("[spool]\nmax_size = \"1MiB\"", "less than 8MiB"),
            ("metrics = \"0.0.0.0:6482\"", "not on loopback"),
            ("metrics = \"here\"", "is no address"),
        ] {
            let fault = Configuration::parse(text).expect_err(text);
            assert!(fault.contains(part) && !fault.contains('\n'), "{fault}");
        }
    }
}
