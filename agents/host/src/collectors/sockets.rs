//! Sockets by state and the bytes in their queues, from the kernel's socket diagnostics; never from
//! `/proc/net/tcp`, which prints at length what is only counted here.
//!
//! The walk over the kernel's table of TCP sockets takes up to ten milliseconds on a machine with much
//! memory, however few they are, so TCP is asked every five minutes, and UDP every minute. How many
//! connections are open or wait after closing is in every frame, from `/proc/net/snmp` and
//! `/proc/net/sockstat`.

use crate::{
    metrics as m,
    netlink::{Netlink, u32_at},
    text::{TextFile, number},
};
use rustix::net::netlink::SOCK_DIAG;
use std::io;
use tongtu_agent_runtime::collect::{CollectError, Collector, Context, Unavailable, Values};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// The older request for TCP. It is the only one that answers for both families in one walk over
/// the kernel's table, whose empty places cost more than its sockets.
const TCPDIAG_GETSOCK: u16 = 18;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const UDP: u8 = 17;

/// By the kernel's number of the state, less one.
const STATES: [&str; 11] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];
const ESTABLISHED: usize = 0;
const SYN_RECV: usize = 2;
const TIME_WAIT: usize = 5;

/// With more sockets than this the two states that nearly all are in, which `/proc/net/snmp` and
/// `/proc/net/sockstat` count as well, are not dumped; neither are the queues then.
const MANY: i64 = 20_000;

/// Sums over a dump.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sums {
    states: [i64; STATES.len()],
    received: i64,
    sent: i64,
}

/// Opens the kernel's diagnostics and tries a dump: a kernel may be built without it.
fn open(name: &str, dump: fn(&mut Netlink) -> io::Result<Sums>) -> Result<Netlink, Unavailable> {
    let opened = Netlink::open(Some(SOCK_DIAG)).and_then(|mut netlink| {
        dump(&mut netlink)?;
        Ok(netlink)
    });
    opened.map_err(|error| Unavailable::new(format!("the kernel gives no {name} diagnostics: {error}")))
}

/// TCP sockets in these states. A `struct inet_diag_req`.
fn dump_tcp(netlink: &mut Netlink, states: u32) -> io::Result<Sums> {
    let mut request = [0; 60];
    request[52..56].copy_from_slice(&states.to_ne_bytes());
    let mut sums = Sums::default();
    netlink.dump(TCPDIAG_GETSOCK, &request, |message| sums.add(message))?;
    Ok(sums)
}

/// UDP sockets of a family. A `struct inet_diag_req_v2`.
fn dump_udp(netlink: &mut Netlink, family: u8) -> io::Result<Sums> {
    let mut request = [0; 56];
    request[0] = family;
    request[1] = UDP;
    request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    let mut sums = Sums::default();
    netlink.dump(SOCK_DIAG_BY_FAMILY, &request, |message| sums.add(message))?;
    Ok(sums)
}

impl Sums {
    /// Adds a `struct inet_diag_msg`.
    fn add(&mut self, message: &[u8]) {
        let (Some(&state), Some(received), Some(sent)) = (message.get(1), u32_at(message, 56), u32_at(message, 60))
        else {
            return;
        };
        // A request that becomes a connection is SYN_RECV to everybody but the kernel.
        let place = if state == 12 { SYN_RECV } else { usize::from(state).wrapping_sub(1) };
        if let Some(count) = self.states.get_mut(place) {
            *count += 1;
        }
        self.received += i64::from(received);
        self.sent += i64::from(sent);
    }
}

struct Tcp {
    netlink: Netlink,
    counts: TextFile,
}

/// TCP sockets by state.
///
/// # Errors
/// On a kernel without TCP diagnostics.
pub(super) fn tcp(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    Ok(Box::new(Tcp {
        counts: TextFile::open(context.proc.join("net/sockstat"))?,
        // No state is asked for, so nothing is dumped.
        netlink: open("TCP", |netlink| dump_tcp(netlink, 0))?,
    }))
}

impl Collector for Tcp {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        let many = sockets(self.counts.read()?) > MANY;
        let left_out = 1 << (ESTABLISHED + 1) | 1 << (TIME_WAIT + 1);
        let states = if many { !left_out } else { u32::MAX };
        let sums = dump_tcp(&mut self.netlink, states)?;
        for (place, state) in STATES.iter().enumerate() {
            if !many || (place != ESTABLISHED && place != TIME_WAIT) {
                out.put(&m::TCP_STATES, &[state], sums.states[place]);
            }
        }
        if !many {
            out.put(&m::TCP_STATES, &["rx_queued_bytes"], sums.received);
            out.put(&m::TCP_STATES, &["tx_queued_bytes"], sums.sent);
        }
        Ok(())
    }
}

/// TCP sockets of every state, by `/proc/net/sockstat`.
fn sockets(text: &str) -> i64 {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    let mut sum = 0;
    while let Some(word) = words.next() {
        if matches!(word, "inuse" | "tw") {
            sum += words.next().and_then(number::<i64>).unwrap_or_default();
        }
    }
    sum
}

struct Udp(Netlink);

/// Bytes in the queues of UDP sockets.
///
/// # Errors
/// On a kernel without UDP diagnostics.
pub(super) fn udp(_: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    Ok(Box::new(Udp(open("UDP", |netlink| dump_udp(netlink, AF_INET))?)))
}

impl Collector for Udp {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        for (family, name) in [(AF_INET, "v4"), (AF_INET6, "v6")] {
            let sums = dump_udp(&mut self.0, family)?;
            out.put(&m::UDP_QUEUES, &[name, "rx"], sums.received);
            out.put(&m::UDP_QUEUES, &[name, "tx"], sums.sent);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(state: u8, received: u32, sent: u32) -> Vec<u8> {
        let mut bytes = vec![0; 72];
        bytes[1] = state;
        bytes[56..60].copy_from_slice(&received.to_ne_bytes());
        bytes[60..64].copy_from_slice(&sent.to_ne_bytes());
        bytes
    }

    #[test]
    fn states_and_queues_are_summed() {
        let mut sums = Sums::default();
        for (state, received) in [(1, 100), (1, 20), (10, 3), (12, 0), (3, 0), (99, 0)] {
            sums.add(&message(state, received, 7));
        }
        sums.add(&[0; 40]);
        assert_eq!((sums.states[ESTABLISHED], sums.states[9], sums.states[SYN_RECV]), (2, 1, 2));
        assert_eq!((sums.received, sums.sent), (123, 42));
    }

    #[test]
    fn sockets_of_sockstat() {
        assert_eq!(sockets("sockets: used 22\nTCP: inuse 2 orphan 0 tw 3 alloc 9 mem 70\n"), 5);
        assert_eq!(sockets("sockets: used 22\n"), 0);
        assert_eq!(sockets("TCP: inuse x tw"), 0);
    }
}
