//! The configuration: an embedded default, over it a file, over that the command line.
//!
//! Every key stands in `default.toml` with its meaning. A key that is not there, or a value of the
//! wrong unit, ends the start with one sentence that names file and key.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub mod units;

/// The defaults, as a person reads them.
pub const DEFAULT: &str = include_str!("default.toml");

/// Everything that can be configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// API, UI and `/metrics`.
    pub http: Http,
    /// The agents' port.
    pub agents: Agents,
    /// Where state is kept.
    pub database: Database,
    /// What is logged and how.
    pub log: Log,
    /// Frames, windows, slots.
    pub telemetry: Telemetry,
}

/// API, UI and `/metrics`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// A loopback address.
    pub listen: SocketAddr,
}

/// The agents' port.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agents {
    /// Where agents connect.
    pub listen: SocketAddr,
    /// What enrolment tokens carry, `HOST:PORT`.
    #[serde(default)]
    pub advertise: Option<String>,
}

/// Where state is kept.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// PostgreSQL; absent: SQLite in the data directory.
    #[serde(default)]
    pub url: Option<String>,
}

/// What is logged and how.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A level, or levels by module.
    pub filter: String,
    /// For people or for collectors.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line that a person reads.
    Text,
    /// A JSON object a line.
    Json,
}

/// Frames, windows, slots.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Agents take a frame of every source this often.
    #[serde(deserialize_with = "units::duration")]
    pub interval: Duration,
    /// Records wait at most this long for a commit.
    #[serde(deserialize_with = "units::duration")]
    pub commit_interval: Duration,
    /// Frames that make a commit at once.
    pub commit_frames: usize,
    /// Bytes received but not yet committed.
    #[serde(deserialize_with = "units::size")]
    pub queue_size: u64,
    /// A window is sealed after this time of arrival.
    #[serde(deserialize_with = "units::duration")]
    pub window_span: Duration,
    /// A window is sealed at this many bytes.
    #[serde(deserialize_with = "units::size")]
    pub window_size: u64,
    /// Frames as they came.
    #[serde(deserialize_with = "units::duration")]
    pub raw_retention: Duration,
    /// 5-minute slots.
    #[serde(deserialize_with = "units::duration")]
    pub slot_retention: Duration,
    /// Hours.
    #[serde(deserialize_with = "units::duration")]
    pub hour_retention: Duration,
}

/// Why a configuration is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {} cannot be read: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is not what it should be.
    #[error("{file}: {reason}")]
    Invalid {
        /// The file, or the command line.
        file: String,
        /// Key and reason.
        reason: String,
    },
}

impl Default for Config {
    fn default() -> Self {
        toml::from_str(DEFAULT).expect("a test reads the embedded default")
    }
}

impl Config {
    /// The default with `file` over it.
    ///
    /// # Errors
    /// One sentence with file and key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = file else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_owned(), reason: error.to_string() })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// The default with `text` over it; `file` is named in errors.
    ///
    /// # Errors
    /// One sentence with file and key.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let invalid =
            |error: toml::de::Error| ConfigError::Invalid { file: file.to_owned(), reason: one_sentence(&error, text) };
        let over: toml::Table = toml::from_str(text).map_err(invalid)?;
        let mut table: toml::Table = toml::from_str(DEFAULT).expect("a test reads the embedded default");
        merge(&mut table, over);
        let config: Self = table.try_into().map_err(invalid)?;
        config.validate().map_err(|reason| ConfigError::Invalid { file: file.to_owned(), reason })?;
        Ok(config)
    }

    /// What the types do not say.
    ///
    /// # Errors
    /// One sentence that names the key.
    pub fn validate(&self) -> Result<(), String> {
        if !self.http.listen.ip().is_loopback() {
            return Err(format!(
                "http.listen = {} is not a loopback address; the API is plain HTTP, so listen on 127.0.0.1 and put a TLS proxy before it",
                self.http.listen
            ));
        }
        Ok(())
    }
}

fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// A parser's report spans lines; a start error is one sentence.
fn one_sentence(error: &toml::de::Error, text: &str) -> String {
    let place = error.span().map(|span| {
        let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
        format!("line {line}: ")
    });
    format!("{}{}", place.unwrap_or_default(), error.to_string().trim().replace('\n', " "))
}
