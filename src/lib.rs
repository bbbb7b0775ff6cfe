#![doc = include_str!("ARCHITECTURE.md")]

pub mod access;
pub mod compute;
pub mod config;
pub mod fleet;
pub mod metrics;
pub mod platform;
pub mod telemetry;
