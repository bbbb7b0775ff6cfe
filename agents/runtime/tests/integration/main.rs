//! An agent and a control of a few lines, over real TLS on loopback.

mod control;
mod enrolment;
mod session;
