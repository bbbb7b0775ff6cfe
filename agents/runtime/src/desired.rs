//! What control last told the agent to be like: judged, then kept in `desired.json`, so that an agent
//! that starts while control is away runs as it was last told. Pure; `data` writes the file.
//!
//! Nonsense is refused whole: an agent that would take half of a document runs as nobody told it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use tongtu_protocol::limits::{COLLECTOR_INTERVAL_MS, COLLECTOR_NAME_BYTES, COLLECTORS, INTERVAL_MS};
use tongtu_protocol::v1;

/// A configuration that may be applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Desired {
    pub(crate) version: u64,
    /// 0: what `agent.toml` says.
    pub(crate) interval_ms: u32,
    pub(crate) collectors: Vec<Setting>,
}

/// Of one collector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) enabled: bool,
    /// 0: as built.
    pub(crate) interval_ms: u32,
}

impl Desired {
    /// What a message says, or what is wrong with it.
    pub(crate) fn take(message: &v1::DesiredConfiguration) -> Result<Self, String> {
        let collectors = message.collectors.iter().map(|setting| Setting {
            name: setting.name.clone(),
            enabled: setting.enabled,
            interval_ms: setting.interval_ms,
        });
        let (version, interval_ms) = (message.version, message.interval_ms);
        Self { version, interval_ms, collectors: collectors.collect() }.checked()
    }

    /// What the file says, or what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let desired: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        desired.checked()
    }

    fn checked(self) -> Result<Self, String> {
        within("the interval", self.interval_ms, &INTERVAL_MS)?;
        if self.collectors.len() > COLLECTORS {
            return Err(format!("{} collectors are more than {COLLECTORS}", self.collectors.len()));
        }
        let mut seen = BTreeSet::new();
        for setting in &self.collectors {
            if setting.name.is_empty() || setting.name.len() > COLLECTOR_NAME_BYTES {
                return Err("a collector's name is empty or too long".to_owned());
            }
            if !seen.insert(&setting.name) {
                return Err(format!("the collector {} is set twice", setting.name));
            }
            within(&format!("the interval of {}", setting.name), setting.interval_ms, &COLLECTOR_INTERVAL_MS)?;
        }
        Ok(self)
    }

    /// As the file has it.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and numbers are JSON")
    }
}

/// 0 is always good: it leaves things as they are.
fn within(what: &str, ms: u32, range: &RangeInclusive<u32>) -> Result<(), String> {
    if ms == 0 || range.contains(&ms) {
        Ok(())
    } else {
        Err(format!("{what}, {ms} ms, is not {} to {} ms", range.start(), range.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(interval_ms: u32, collectors: &[(&str, u32)]) -> v1::DesiredConfiguration {
        let collectors = collectors.iter().map(|(name, interval_ms)| v1::CollectorSetting {
            name: (*name).to_owned(),
            enabled: true,
            interval_ms: *interval_ms,
        });
        v1::DesiredConfiguration {
            version: 2,
            interval_ms,
            collectors: collectors.collect(),
            ..v1::DesiredConfiguration::default()
        }
    }

    #[test]
    fn what_is_kept_is_read_and_nonsense_is_not() {
        let good = Desired::take(&message(1_000, &[("cpu", 0), ("disk", 60_000)])).expect("good");
        assert_eq!(Desired::parse(&good.text()), Ok(good));
        let many: Vec<_> = (0..=COLLECTORS).map(|at| at.to_string()).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), 0)).collect();
        for (message, part) in [
            (message(999, &[]), "the interval, 999 ms, is not 1000 to 3600000 ms"),
            (message(u32::MAX, &[]), "the interval"),
            (message(0, &[("cpu", 1)]), "the interval of cpu"),
            (message(0, &[("cpu", 0), ("cpu", 0)]), "twice"),
            (message(0, &[("", 0)]), "empty"),
            (message(0, &many), "more than"),
        ] {
            let fault = Desired::take(&message).expect_err(part);
            assert!(fault.contains(part), "{fault}");
        }
        for text in ["", "{", "{}", r#"{"version":1,"interval_ms":5,"collectors":[]}"#] {
            assert!(Desired::parse(text).is_err(), "{text}");
        }
    }
}
