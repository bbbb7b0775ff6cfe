//! Placeholder: compute.
