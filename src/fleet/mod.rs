//! Agents: enrolment, certificates, sessions, desired configuration, their states.

pub mod sink;
