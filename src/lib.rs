#![doc = include_str!("ARCHITECTURE.md")]

pub mod access;
pub mod backup;
pub mod cli;
pub mod compute;
pub mod config;
mod control;
pub mod fleet;
pub mod metrics;
pub mod platform;
pub mod settings;
pub mod telemetry;

pub use control::{Options, Running, StartError, openapi, run};
