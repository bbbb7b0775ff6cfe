//! Messages out of a stream's body.
//!
//! What must hold: between two messages a stream keeps no buffer. A host's schema is a hundred
//! kilobytes, sent once; a buffer that had grown to it would be kept by each of ten thousand streams.
//! So a message that came whole is decoded where HTTP/2 read it, and only one that came in pieces is
//! put together, in memory of its own that goes with it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use tongtu_protocol::{limits, reason::Reason, v1, wire};

use super::admission::Fault;

/// gRPC's head of a message: a flag and the length.
const HEAD: usize = 5;

/// The agent's half of a stream.
pub(super) struct Inbound {
    body: Incoming,
    /// What came and was not read yet, if it is whole messages or none.
    chunk: Bytes,
    /// The beginning of a message whose end has not come yet; empty otherwise.
    pieces: BytesMut,
}

impl Inbound {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, chunk: Bytes::new(), pieces: BytesMut::new() }
    }

    /// The next message. `None`: the agent has ended its half, or the connection is gone.
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<v1::ToControl, Fault>>> {
        loop {
            match self.take() {
                Ok(None) => {}
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Err(fault) => return Poll::Ready(Some(Err(fault))),
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None | Some(Err(_)) => return Poll::Ready(None),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    self.chunk = data;
                }
            }
        }
    }

    /// A message out of what has come, if it is whole.
    fn take(&mut self) -> Result<Option<v1::ToControl>, Fault> {
        if !self.pieces.is_empty() {
            return self.take_pieces();
        }
        let Some(length) = message_length(&self.chunk)? else {
            self.keep();
            return Ok(None);
        };
        if self.chunk.len() < HEAD + length {
            self.pieces.reserve(HEAD + length);
            self.keep();
            return Ok(None);
        }
        self.chunk.advance(HEAD);
        let encoded = self.chunk.split_to(length);
        if self.chunk.is_empty() {
            // Nothing of HTTP/2's buffer is held while nothing comes.
            self.chunk = Bytes::new();
        }
        read(encoded).map(Some)
    }

    fn take_pieces(&mut self) -> Result<Option<v1::ToControl>, Fault> {
        let head = HEAD.saturating_sub(self.pieces.len()).min(self.chunk.len());
        self.pieces.extend_from_slice(&self.chunk.split_to(head));
        let Some(length) = message_length(&self.pieces)? else { return Ok(None) };
        let whole = HEAD + length;
        self.pieces.reserve(whole - self.pieces.len());
        let rest = (whole - self.pieces.len()).min(self.chunk.len());
        self.pieces.extend_from_slice(&self.chunk.split_to(rest));
        if self.pieces.len() < whole {
            return Ok(None);
        }
        let mut encoded = std::mem::take(&mut self.pieces).freeze();
        encoded.advance(HEAD);
        read(encoded).map(Some)
    }

    fn keep(&mut self) {
        self.pieces.extend_from_slice(&std::mem::take(&mut self.chunk));
    }
}

/// The length that a head says, judged before anything is allocated for it.
fn message_length(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let Some(&[flag, length @ ..]) = bytes.first_chunk::<HEAD>() else { return Ok(None) };
    let length = u32::from_be_bytes(length) as usize;
    if flag != 0 {
        return Err(Reason::Undecodable.into());
    }
    if length > limits::MESSAGE_BYTES {
        return Err(Reason::Limit.into());
    }
    Ok(Some(length))
}

fn read(encoded: Bytes) -> Result<v1::ToControl, Fault> {
    wire::read(encoded).map_err(|excess| Fault { reason: excess.reason(), detail: excess.to_string() })
}
