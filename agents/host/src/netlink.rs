//! Dumps over netlink, read without allocating: one request, messages until the kernel says done.
//! Only what the collectors need; nothing is ever changed through it.

use rustix::net::{self, AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::{io, os::fd::OwnedFd, time::Duration};

const HEADER: usize = 16;
const DUMP_REQUEST: u16 = 0x301; // NLM_F_REQUEST | NLM_F_DUMP
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The kernel fills at most this much at once.
const BUFFER: usize = 32 << 10;

/// A netlink socket.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
    request: Vec<u8>,
}

impl Netlink {
    /// Opens one of this protocol (`None`: routing).
    ///
    /// # Errors
    /// Of the kernel, which may lack the protocol.
    pub(crate) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        net::sockopt::set_socket_timeout(&socket, net::sockopt::Timeout::Recv, Some(Duration::from_secs(2)))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER], request: Vec::new() })
    }

    /// Asks for a dump and hands the body of each message to `each`.
    ///
    /// # Errors
    /// What the kernel answered, or that it did not answer.
    pub(crate) fn dump(&mut self, kind: u16, body: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.request.clear();
        self.request.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        self.request.extend(kind.to_ne_bytes());
        self.request.extend(DUMP_REQUEST.to_ne_bytes());
        self.request.extend(self.sequence.to_ne_bytes());
        self.request.extend(0_u32.to_ne_bytes());
        self.request.extend(body);
        let kernel = net::netlink::SocketAddrNetlink::new(0, 0);
        net::sendto(&self.socket, &self.request, SendFlags::empty(), &kernel)?;
        loop {
            let (length, _) = net::recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
            if read_messages(&self.buffer[..length], self.sequence, &mut each)? {
                return Ok(());
            }
        }
    }
}

/// Reads one datagram; says whether the dump is done. Messages of an earlier dump are skipped.
fn read_messages(mut bytes: &[u8], sequence: u32, each: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    while let Some(length) = u32_at(bytes, 0) {
        let length = length as usize;
        if length < HEADER || length > bytes.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a truncated netlink message"));
        }
        let body = &bytes[HEADER..length];
        if u32_at(bytes, 8) == Some(sequence) {
            match u16_at(bytes, 4) {
                Some(DONE) => return Ok(true),
                Some(ERROR) => {
                    let code = u32_at(body, 0).map_or(0, |code| (code as i32).wrapping_neg());
                    return Err(io::Error::from_raw_os_error(code));
                }
                _ => each(body),
            }
        }
        bytes = bytes.get(align(length)..).unwrap_or_default();
    }
    Ok(false)
}

/// The attributes that follow a message's fixed part; ends at the first that is damaged.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16_at(bytes, 0)? as usize;
        let kind = u16_at(bytes, 2)? & 0x3fff; // without the nested and byte-order flags
        let value = bytes.get(4..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// A number of 16 bits in the machine's order.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A number of 32 bits in the machine's order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A number of 64 bits in the machine's order.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    fn read(bytes: &[u8]) -> (io::Result<bool>, Vec<Vec<u8>>) {
        let mut bodies = Vec::new();
        let done = read_messages(bytes, 7, &mut |body| bodies.push(body.to_vec()));
        (done, bodies)
    }

    #[test]
    fn messages_of_another_dump_are_skipped_and_damage_is_an_error() {
        let mut bytes = message(16, 6, b"old!");
        bytes.extend(message(16, 7, b"abc"));
        bytes.extend(message(16, 7, b"defg"));
        let (done, bodies) = read(&bytes);
        assert_eq!((done.expect("sound"), bodies.len()), (false, 2));
        bytes.extend(message(DONE, 7, &[0; 4]));
        assert!(read(&bytes).0.expect("sound"));
        let refused = read(&message(ERROR, 7, &(-1_i32).to_ne_bytes())).0.expect_err("refused");
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        let whole = message(16, 7, b"abcd");
        for length in 4..whole.len() {
            assert!(read(&whole[..length]).0.is_err(), "cut at {length}");
        }
        assert!(read(&[0; 32]).0.is_err());
    }

    #[test]
    fn attributes_end_where_they_are_damaged() {
        let sound = [8, 0, 4, 0, 1, 2, 3, 4, 5, 0, 3, 0, b'a', 0, 0, 0];
        let read: Vec<_> = attributes(&sound).collect();
        assert_eq!(read, vec![(4, &[1, 2, 3, 4][..]), (3, &b"a"[..])]);
        assert_eq!(attributes(&[200, 0, 1, 0, 0]).count(), 0);
        assert_eq!(attributes(&[0; 8]).count(), 0);
    }
}
