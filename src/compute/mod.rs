//! Placeholder: compute.

mod figures;
mod joining;
mod store;
