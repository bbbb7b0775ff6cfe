//! What the agent of a host measures: a table of collectors, the list of their metrics, and the
//! inventory. Collection, spooling and sending are `tongtu-agent-runtime`'s.
//!
//! It is a library so that tests elsewhere can compare a host's metrics with those of
//! node_exporter ([`exporter`]); the binary is `tongtu-agent`.

pub mod collectors;
pub mod exporter;
pub mod inventory;
pub mod metrics;
#[cfg(target_os = "linux")]
mod netlink;
mod os_release;
mod text;
mod zone;
