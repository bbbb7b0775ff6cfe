//! What connections may cost: how many there are, in all and of one address, and how long one may leave unread
//! what is sent to it.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::origin::network;

/// How many connections there may be.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// By address, of IPv6 its network.
    of_one: HashMap<IpAddr, usize>,
}

/// One connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    of: IpAddr,
}

impl Places {
    pub(super) fn new(all: usize, of_one: usize) -> Arc<Self> {
        Arc::new(Self { all, of_one, taken: Mutex::default() })
    }

    /// A place for who comes from an address; none if there are too many. Behind loopback may be a proxy, so
    /// what comes from there is not one client's.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let of = network(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = taken.of_one.get(&of).copied().unwrap_or_default();
        if taken.all >= self.all || (of_one >= self.of_one && !address.is_loopback()) {
            return None;
        }
        taken.all += 1;
        taken.of_one.insert(of, of_one + 1);
        Some(Place { places: self.clone(), of })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(of_one) = taken.of_one.get_mut(&self.of) {
            *of_one -= 1;
            if *of_one == 0 {
                taken.of_one.remove(&self.of);
            }
        }
    }
}

/// A stream that breaks when nothing of what is to be written has been taken for a while. What waits for
/// something to write (server-sent events) does not write, so it may wait.
#[derive(Debug)]
pub(super) struct Impatient<S> {
    stream: S,
    patience: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, waiting: None }
    }

    /// What a write came to, or that it has waited too long.
    fn wait(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read what is sent to it")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wait(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.wait(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_of_one_network_and_come_free() {
        let places = Places::new(6, 2);
        let take = |address: &str| places.take(address.parse().expect("an address"));
        let held = [take("192.0.2.1"), take("192.0.2.1"), take("2001:db8::1"), take("2001:db8::2")];
        assert!(held.iter().all(Option::is_some));
        for full in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::3"] {
            assert!(take(full).is_none(), "{full}");
        }
        let [first, ..] = held;
        drop(first);
        let _again = take("192.0.2.1").expect("one has gone");
        let _others = [take("192.0.2.2"), take("2001:db8:0:1::1")].map(|place| place.expect("another network"));
        assert!(take("192.0.2.3").is_none(), "full");
    }

    #[test]
    fn a_proxy_on_this_machine_is_not_one_client() {
        let places = Places::new(6, 2);
        let addresses = ["127.0.0.1", "127.0.0.1", "127.0.0.1", "::1", "::1", "::1"];
        let held = addresses.map(|address| places.take(address.parse().expect("an address")));
        assert!(held.iter().all(Option::is_some));
        assert!(places.take("127.0.0.1".parse().expect("an address")).is_none(), "full");
        drop(held);
        let taken = places.taken.lock().expect("no panic");
        assert!(taken.all == 0 && taken.of_one.is_empty(), "{taken:?}");
    }
}
