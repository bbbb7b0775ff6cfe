//! A line between two places that can be cut: it hands bytes on, until so many have gone one way.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// The line. It hands on for as long as the process lives.
#[derive(Debug)]
pub struct Line {
    /// Its near end.
    pub address: SocketAddr,
    /// Bytes that may still go to the far end.
    left: Arc<AtomicU64>,
}

impl Line {
    /// A line to an address, over which so many bytes go there before it is cut.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn to(far: SocketAddr, bytes: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let left = Arc::new(AtomicU64::new(bytes));
        let counted = Arc::clone(&left);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(far) else { continue };
                let (back_from, back_to) = (far.try_clone().expect("a handle"), near.try_clone().expect("a handle"));
                let counted = Arc::clone(&counted);
                thread::spawn(move || hand_on(near, far, &counted));
                thread::spawn(move || hand_on(back_from, back_to, &AtomicU64::new(u64::MAX)));
            }
        });
        Self { address, left }
    }

    /// Lets everything pass from now on.
    pub fn mend(&self) {
        self.left.store(u64::MAX, Ordering::Relaxed);
    }

    /// Bytes that may still go.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, left: &AtomicU64) {
    let mut buffer = [0; 16 << 10];
    while let Ok(read) = from.read(&mut buffer) {
        let is_left = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(read as u64));
        if read == 0 || is_left.is_err() || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
