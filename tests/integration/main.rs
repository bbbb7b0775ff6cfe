//! The built binaries together with real servers: what a person, an operator and Prometheus see.
//!
//! One binary, so that it links once. A file a promise; each starts its own control, agents and
//! servers in its own folder, on its own ports (`tongtu_tests`, the laboratory).

mod audit;
mod backup;
mod cloud;
mod configuration;
mod crash;
mod dashboards;
mod durability;
mod end_to_end;
mod faults;
mod https;
mod hypervisors;
mod identities;
mod ledger;
mod machines;
mod outage;
mod refusals;
mod rollout;
