//! The one connection to a hypervisor that everything in this process shares: libvirtd and this process sign to
//! each other every few seconds on each that is open, which costs both more than what is asked on it.
//!
//! What must hold: no lock is held while libvirt is asked; and a call that hangs keeps only its own connection,
//! for whoever gives it up [leaves](Hypervisor::leave) that one, and the next who asks opens another.

use crate::ffi::{Connection, Failure};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// One of them; clones are the same one.
#[derive(Clone)]
pub(crate) struct Hypervisor {
    uri: Arc<str>,
    open: Arc<Mutex<Weak<Connection>>>,
}

impl Hypervisor {
    /// That of a URI. Opens nothing.
    pub(crate) fn at(uri: &str) -> Self {
        static KNOWN: Mutex<Option<HashMap<String, Hypervisor>>> = Mutex::new(None);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Self { uri: uri.into(), open: Arc::default() };
        known.get_or_insert_default().entry(uri.to_owned()).or_insert_with(new).clone()
    }

    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// The connection that others have open, or a new one. It is closed when nobody holds it any more.
    pub(crate) fn connection(&self) -> Result<Arc<Connection>, Failure> {
        if let Some(open) = self.open().upgrade().filter(|open| open.is_alive()) {
            return Ok(open);
        }
        let opened = Arc::new(Connection::open(&self.uri)?);
        let mut open = self.open();
        match open.upgrade().filter(|open| open.is_alive()) {
            // Somebody was quicker.
            Some(first) => Ok(first),
            None => {
                *open = Arc::downgrade(&opened);
                Ok(opened)
            }
        }
    }

    /// A call hangs: who asks now does so over another connection.
    pub(crate) fn leave(&self) {
        *self.open() = Weak::new();
    }

    fn open(&self) -> MutexGuard<'_, Weak<Connection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_share_one_connection_until_a_call_hangs() {
        // Of nobody else in this process.
        let (one, other) = (Hypervisor::at("test:///default?a"), Hypervisor::at("test:///default?a"));
        let first = one.connection().expect("libvirt's own driver");
        assert!(Arc::ptr_eq(&first, &other.connection().expect("the same")));
        one.leave();
        let second = other.connection().expect("another");
        assert!(first.is_alive() && !Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &one.connection().expect("that other")));
        drop((first, second));
        assert!(one.open().upgrade().is_none(), "nobody holds it: it is closed");
    }
}
