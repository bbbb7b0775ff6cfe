//! The agent of a host on this machine, on recorded ones, and beside node_exporter.

mod cli;
mod exporter;
mod kernels;
mod machine;
mod metrics;
