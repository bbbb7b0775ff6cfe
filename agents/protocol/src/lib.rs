//! The wire between Tongtu's agents and control: messages, frame codec, schemas, tokens, limits.
//!
//! Both sides use this crate, so a definition stands here once. It does no input or output, reads
//! no clock and holds no state of a session. What must hold: a frame decodes to exactly the values
//! it was made from; every size is checked before memory is allocated for it; nothing here can
//! make an agent act (`tests/messages.rs`).

pub mod codec;
pub mod limits;
pub mod reason;
pub mod schema;
pub mod token;
pub mod wire;

/// The generated messages and gRPC services of `proto/tongtu/agent/v1/agent.proto`.
#[expect(missing_docs, clippy::all, clippy::allow_attributes, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("tongtu.agent.v1");
}

/// The protocol's one integer version.
///
/// - 1 (2026-11): first.
pub const VERSION: u32 = 1;

/// The name in control's certificate that agents verify, whatever address they reach it at.
pub const CONTROL_NAME: &str = "tongtu-control";
