//! Storage pools of hypervisors, as these report them now.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::Compute;
use super::figures::{Reading, label};
use super::hypervisor::Told;
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Resource};
use crate::platform::ids::HostId;

/// A storage pool. What is not known now is null.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct PoolReport {
    /// On which host.
    #[schema(value_type = String, example = "host_1")]
    pub host: HostId,
    /// That host's name.
    pub host_name: Option<String>,
    /// Its name.
    #[schema(example = "default")]
    pub name: String,
    /// `dir`, `logical`, `rbd`, …
    pub kind: Option<String>,
    /// `running`, `inactive`, …
    pub state: Option<String>,
    /// Where it is on the host.
    pub path: Option<String>,
    /// Its size.
    pub capacity_bytes: Option<i64>,
    /// What is given out of it.
    pub allocation_bytes: Option<i64>,
    /// What is left.
    pub available_bytes: Option<i64>,
}

impl Compute {
    /// The pools of the hosts that a permit shows, in order of host and name.
    pub(super) fn pools(&self, permit: &Permit<MeasurementsRead>) -> Vec<PoolReport> {
        let now_ms = self.0.clock.now_ms();
        let mut pools = Vec::new();
        for Told { agent, node, .. } in self.hypervisors_told(now_ms) {
            if !self.0.access.is_visible(permit, Resource::Host(node.host)) {
                continue;
            }
            let Some(view) = self.0.telemetry.source_known(node.source) else { continue };
            let host_name = self.host_named(permit, Some(node), agent).host_name;
            let mut known: BTreeMap<String, PoolReport> = BTreeMap::new();
            let new = |name: &str| PoolReport {
                host: node.host,
                host_name: host_name.clone(),
                name: name.to_owned(),
                kind: None,
                state: None,
                path: None,
                capacity_bytes: None,
                allocation_bytes: None,
                available_bytes: None,
            };
            if let Some(facts) = view.facts() {
                for (key, value) in &facts.values {
                    let Some(name) = key.strip_prefix("pool.") else { continue };
                    let told: serde_json::Value = serde_json::from_str(value).unwrap_or_default();
                    let text = |field: &str| told[field].as_str().map(str::to_owned);
                    let (kind, state, path) = (text("type"), text("state"), text("path"));
                    known.insert(name.to_owned(), PoolReport { kind, state, path, ..new(name) });
                }
            }
            view.glance(|glance| {
                if glance.is_stale(now_ms) {
                    return;
                }
                let reading = Reading::new(&glance);
                for (index, column) in (0u16..).zip(&glance.schema.columns) {
                    let Some(figure) = column.metric.strip_prefix("libvirt_pool_info_") else { continue };
                    let name = label(column, "pool");
                    let pool = known.entry(name.to_owned()).or_insert_with(|| new(name));
                    let value = reading.value(Some(index)).map(|bytes| bytes as i64);
                    match figure {
                        "capacity_bytes" => pool.capacity_bytes = value,
                        "allocation_bytes" => pool.allocation_bytes = value,
                        "available_bytes" => pool.available_bytes = value,
                        _ => {}
                    }
                }
            });
            pools.extend(known.into_values());
        }
        pools
    }
}
