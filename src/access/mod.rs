//! Placeholder: access.
