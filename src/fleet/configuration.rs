//! What agents are told to be like: interval and collectors. It names what to measure and how often;
//! there is nothing in it that an agent could execute.

use serde::Deserialize;
use tongtu_protocol::v1;

/// The configuration that every agent of the fleet is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Desired {
    pub(super) version: u64,
    /// 0: what the agent has.
    pub(super) interval_ms: u32,
    pub(super) collectors: Vec<v1::CollectorSetting>,
}

impl Default for Desired {
    /// The first version leaves everything as the agent was built.
    fn default() -> Self {
        Self { version: 1, interval_ms: 0, collectors: Vec::new() }
    }
}

/// One element of the stored list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Collector {
    pub(super) name: String,
    pub(super) enabled: bool,
    #[serde(default)]
    pub(super) interval_ms: u32,
}

impl Desired {
    /// As it goes over the wire.
    pub(super) fn message(&self, ca_bundle_pem: &str) -> v1::DesiredConfiguration {
        v1::DesiredConfiguration {
            version: self.version,
            interval_ms: self.interval_ms,
            collectors: self.collectors.clone(),
            ca_bundle_pem: ca_bundle_pem.to_owned(),
        }
    }
}
