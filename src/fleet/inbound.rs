//! Messages out of a stream's body.
//!
//! What must hold: between two messages a stream keeps no buffer. A host's schema is a hundred
//! kilobytes, sent once; a buffer that had grown to it would be kept by each of ten thousand streams.
//! So a message that came whole is decoded where HTTP/2 read it, and only one that came in pieces is
//! put together, in memory of its own that goes with it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::Body;
use tongtu_protocol::{limits, reason::Reason, v1, wire};

use super::admission::Fault;
use super::connection::Received;

/// gRPC's head of a message: a flag and the length.
const HEAD: usize = 5;

/// The agent's half of a stream.
pub(super) struct Inbound<B = Received> {
    body: B,
    /// What came and was not read yet, if it is whole messages or none.
    chunk: Bytes,
    /// The beginning of a message whose end has not come yet; empty otherwise.
    pieces: BytesMut,
}

impl<B: Body<Data = Bytes> + Unpin> Inbound<B> {
    pub(super) fn new(body: B) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Frame;
    use proptest::prelude::*;
    use prost::Message;
    use std::collections::VecDeque;
    use v1::to_control::Message as Said;

    /// A body that comes in these chunks.
    struct Chunks(VecDeque<Bytes>);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
        }
    }

    /// Cuts bytes into chunks of these lengths, again and again.
    fn cut(mut bytes: Bytes, lengths: &[usize]) -> Chunks {
        let mut chunks = VecDeque::new();
        for length in lengths.iter().cycle() {
            if bytes.is_empty() {
                break;
            }
            chunks.push_back(bytes.split_to((*length).min(bytes.len())));
        }
        Chunks(chunks)
    }

    /// Everything that comes, and whether it ended by a fault.
    fn read_all(inbound: &mut Inbound<Chunks>) -> (Vec<v1::ToControl>, Option<Reason>) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut messages = Vec::new();
        loop {
            match inbound.poll_message(&mut cx) {
                Poll::Ready(Some(Ok(message))) => messages.push(message),
                Poll::Ready(Some(Err(fault))) => return (messages, Some(fault.reason)),
                Poll::Ready(None) | Poll::Pending => return (messages, None),
            }
        }
    }

    fn message(length: usize) -> v1::ToControl {
        let frame = v1::Frame { source: 1, base_sequence: 2, body: vec![length as u8; length].into() };
        let record = v1::Record { body: Some(v1::record::Body::Frame(frame)), ..Default::default() };
        let records = v1::Records { records: vec![record], ..Default::default() };
        v1::ToControl { message: Some(Said::Records(records)) }
    }

    fn framed(messages: &[v1::ToControl]) -> Bytes {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.push(0);
            bytes.extend((message.encoded_len() as u32).to_be_bytes());
            message.encode(&mut bytes).expect("a Vec takes every byte");
        }
        bytes.into()
    }

    proptest! {
        #[test]
        fn messages_come_through_however_they_are_cut(
            lengths in proptest::collection::vec(prop_oneof![0usize..20, 0usize..3_000], 0..12),
            cuts in proptest::collection::vec(prop_oneof![1usize..8, 1usize..2_000], 1..10),
        ) {
            let messages: Vec<_> = lengths.into_iter().map(message).collect();
            let mut inbound = Inbound::new(cut(framed(&messages), &cuts));
            prop_assert_eq!(read_all(&mut inbound), (messages, None));
            prop_assert!(inbound.chunk.is_empty() && inbound.pieces.capacity() == 0, "nothing is held");
        }

        #[test]
        fn random_bytes_end_in_a_fault_or_in_nothing(bytes: Vec<u8>, cuts in proptest::collection::vec(1usize..50, 1..5)) {
            let _ = read_all(&mut Inbound::new(cut(bytes.into(), &cuts)));
        }
    }

    #[test]
    fn heads_are_judged_before_anything_is_allocated() {
        let too_long = (limits::MESSAGE_BYTES as u32 + 1).to_be_bytes();
        for (head, expected) in [
            ([&[0], &too_long[..]].concat(), Some(Reason::Limit)),
            (vec![1, 0, 0, 0, 0], Some(Reason::Undecodable)),
            (vec![0, 0, 0, 0, 1, 0xff], Some(Reason::Undecodable)),
            (vec![0, 0, 0], None),
        ] {
            for cuts in [[1], [100]] {
                let mut inbound = Inbound::new(cut(head.clone().into(), &cuts));
                assert_eq!(read_all(&mut inbound), (Vec::new(), expected), "{head:?}");
                assert!(inbound.pieces.capacity() < 1_000);
            }
        }
    }
}
