//! The configuration: an embedded default, over it a file, over that the command line.
//!
//! Every key stands in `default.toml` with its meaning. A key that is not there, or a value of the
//! wrong unit, ends the start with one sentence that names file and key.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub mod effective;
#[cfg(test)]
mod tests;
pub mod units;

/// The defaults, as a person reads them.
pub const DEFAULT: &str = include_str!("default.toml");

/// The audit log is kept at least so long.
pub const AUDIT_RETENTION_MIN: Duration = Duration::from_secs(184 * 86_400);

/// Everything that can be configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// API and `/metrics`.
    pub http: Http,
    /// The agents' port.
    pub agents: Agents,
    /// Where state is kept.
    pub database: Database,
    /// What is logged and how.
    pub log: Log,
    /// Frames, windows, slots.
    pub telemetry: Telemetry,
    /// Sessions of people, and the audit log.
    pub access: Access,
    /// Where the values come from.
    #[serde(skip)]
    pub said: effective::Said,
}

/// API and `/metrics`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Without TLS a loopback address.
    #[serde(deserialize_with = "units::address")]
    pub listen: SocketAddr,
    /// Whether it speaks TLS, and with which certificate.
    pub tls: Tls,
    /// For [`Tls::Files`]: the chain, PEM.
    #[serde(default)]
    pub tls_certificate: Option<PathBuf>,
    /// For [`Tls::Files`]: the key, PEM.
    #[serde(default)]
    pub tls_key: Option<PathBuf>,
    /// Requests of a session, or of an address without one.
    pub requests_per_second: u32,
}

/// Which certificate the HTTP port shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// None: it is plain HTTP.
    Off,
    /// One of the internal authority.
    SelfMade,
    /// That of the files.
    Files,
}

/// The agents' port.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agents {
    /// Where agents connect.
    #[serde(deserialize_with = "units::address")]
    pub listen: SocketAddr,
    /// What enrolment tokens carry, `HOST:PORT`.
    #[serde(default)]
    pub advertise: Option<String>,
    /// Programs that are rolled out.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// Machines that are worked on at once.
    pub rollout_machines: usize,
    /// The same of one site.
    pub rollout_machines_per_site: usize,
}

/// Sessions of people, and the audit log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// A session that is not used for so long ends.
    #[serde(deserialize_with = "units::duration")]
    pub session_idle_timeout: Duration,
    /// A session ends after this in any case.
    #[serde(deserialize_with = "units::duration")]
    pub session_timeout: Duration,
    /// How long the audit log is kept.
    #[serde(deserialize_with = "units::duration")]
    pub audit_retention: Duration,
}

/// Where state is kept.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// PostgreSQL; absent: SQLite in the data directory.
    #[serde(default)]
    pub url: Option<String>,
}

/// The URL may hold a password, which no log shall see.
impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.url.is_some() { "PostgreSQL" } else { "SQLite" })
    }
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
    /// Records wait this long for a commit, fewer than 128 frames three and a half times as long.
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

/// How long what was measured is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Frames as they came.
    pub raw: Duration,
    /// 5-minute slots.
    pub slot: Duration,
    /// Hours.
    pub hour: Duration,
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
        merge(&mut table, over.clone());
        let mut config: Self = table.try_into().map_err(invalid)?;
        config.validate().map_err(|reason| ConfigError::Invalid { file: file.to_owned(), reason })?;
        config.said.file = over;
        Ok(config)
    }

    /// What the types do not say.
    ///
    /// # Errors
    /// One sentence that names the key.
    pub fn validate(&self) -> Result<(), String> {
        self.http.validate()?;
        if let Some(advertise) = &self.agents.advertise {
            let port =
                advertise.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) {
                return Err(format!(
                    "agents.advertise = \"{advertise}\" is not HOST:PORT, such as \"control.example.gov.cn:6481\""
                ));
            }
        }
        for (key, machines) in [
            ("rollout_machines", self.agents.rollout_machines),
            ("rollout_machines_per_site", self.agents.rollout_machines_per_site),
        ] {
            if !(1..=256).contains(&machines) {
                return Err(format!("agents.{key} = {machines} is not between 1 and 256"));
            }
        }
        self.access.validate()?;
        self.telemetry.validate()
    }
}

impl Http {
    /// What its addresses begin with.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls == Tls::Off { "http" } else { "https" }
    }

    fn validate(&self) -> Result<(), String> {
        let files = [("tls_certificate", &self.tls_certificate), ("tls_key", &self.tls_key)];
        for (key, file) in files {
            match (self.tls, file) {
                (Tls::Files, None) => return Err(format!("http.tls = \"files\" needs http.{key}, the path of a file")),
                (Tls::Off | Tls::SelfMade, Some(_)) => {
                    return Err(format!("http.{key} is of no use unless http.tls = \"files\""));
                }
                _ => {}
            }
        }
        if !(1..=1_000_000).contains(&self.requests_per_second) {
            return Err(format!(
                "http.requests_per_second = {} is not between 1 and 1000000",
                self.requests_per_second
            ));
        }
        if self.tls == Tls::Off && !self.listen.ip().is_loopback() {
            return Err(format!(
                "http.listen = {} is not a loopback address, and without TLS no other is taken; write tls = \"self_made\" (or \"files\") below [http], or listen on 127.0.0.1 with a TLS proxy before it",
                self.listen
            ));
        }
        Ok(())
    }
}

impl Access {
    fn validate(&self) -> Result<(), String> {
        let (least, most) = (Duration::from_secs(60), Duration::from_secs(30 * 86_400));
        let spans = [("session_idle_timeout", self.session_idle_timeout), ("session_timeout", self.session_timeout)];
        for (key, value) in spans {
            if !(least..=most).contains(&value) {
                let [value, least, most] = [value, least, most].map(units::shown);
                return Err(format!("access.{key} = \"{value}\" is not between {least} and {most}"));
            }
        }
        let least = AUDIT_RETENTION_MIN;
        if self.audit_retention < least {
            let [value, least] = [self.audit_retention, least].map(units::shown);
            return Err(format!(
                "access.audit_retention = \"{value}\" is less than {least}, which the audit log is kept at least"
            ));
        }
        if self.session_idle_timeout > self.session_timeout {
            return Err("access.session_idle_timeout is longer than access.session_timeout, which ends every session"
                .to_owned());
        }
        Ok(())
    }
}

impl Telemetry {
    /// How long what was measured is kept, if nothing else was set.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention { raw: self.raw_retention, slot: self.slot_retention, hour: self.hour_retention }
    }

    fn validate(&self) -> Result<(), String> {
        let within = |key: &str, value: Duration, least: Duration, most: Duration| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                let [value, least, most] = [value, least, most].map(units::shown);
                Err(format!("telemetry.{key} = \"{value}\" is not between {least} and {most}"))
            }
        };
        let second = Duration::from_secs(1);
        let day = Duration::from_secs(86_400);
        within("commit_interval", self.commit_interval, Duration::from_millis(1), 10 * second)?;
        within("window_span", self.window_span, second, day)?;
        if self.commit_frames == 0 {
            return Err("telemetry.commit_frames = 0 would never commit; write at least 1".to_owned());
        }
        for (key, value, least) in
            [("queue_size", self.queue_size, 1 << 20), ("window_size", self.window_size, 16 << 10)]
        {
            if value < least {
                return Err(format!("telemetry.{key} = {value} bytes is less than {least}"));
            }
        }
        let ordered = [
            ("window_span", self.window_span),
            ("raw_retention", self.raw_retention),
            ("slot_retention", self.slot_retention),
            ("hour_retention", self.hour_retention),
        ];
        for [(shorter, less), (longer, more)] in ordered.array_windows() {
            if less > more {
                let [more, less] = [more, less].map(|duration| units::shown(*duration));
                return Err(format!("telemetry.{longer} = \"{more}\" is shorter than {shorter} = \"{less}\""));
            }
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

/// A parser's report spans lines; a start error is one sentence with line or key.
fn one_sentence(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().replace("unknown field", "unknown key");
    if let Some(span) = error.span() {
        let before = text.get(..span.start).unwrap_or(text);
        let number = before.matches('\n').count() + 1;
        // The key only: a value may be a secret.
        let line = text.lines().nth(number - 1).unwrap_or_default();
        let key = line.split_once('=').map_or(String::new(), |(key, _)| format!(" ({})", key.trim()));
        return format!("line {number}{key}: {message}");
    }
    let report = error.to_string();
    match report.trim_end().rsplit_once("\nin `").and_then(|(_, key)| key.strip_suffix('`')) {
        Some(key) => format!("{key}: {message}"),
        None => message,
    }
}
