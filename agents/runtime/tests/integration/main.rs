//! An agent and a control of a few lines, over real TLS on loopback.

mod agent;
mod control;
mod enrolment;
mod session;
