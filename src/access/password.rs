//! Passwords: argon2id, in a bounded pool of its own, so that a flood of logins leaves others unharmed.
//!
//! What must hold: a login costs one verification whether the name exists or not; what does not find a
//! place in the pool costs none. Which passwords are taken is a pure rule.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

/// Memory of one computation, KiB; how often it is passed over. Tests need no strength.
const MEMORY: u32 = if cfg!(test) { 64 } else { 19_456 };
const PASSES: u32 = 2;
/// Computations that may wait for one that runs.
const PLACES: usize = 32;
/// Shortest and longest password, in characters.
const LENGTH: std::ops::RangeInclusive<usize> = 12..=256;
/// Long enough, and tried first by everybody.
const COMMON: [&str; 24] = [
    "123456789012",
    "1234567890123",
    "12345678901234",
    "123456123456",
    "123123123123",
    "111111111111",
    "000000000000",
    "888888888888",
    "666666666666",
    "qwertyuiop123",
    "qwertyuiopas",
    "1qaz2wsx3edc",
    "q1w2e3r4t5y6",
    "password1234",
    "passwordpassword",
    "password12345",
    "administrator",
    "adminadminadmin",
    "iloveyou1234",
    "woaini1314520",
    "woaini520520",
    "abcdefghijkl",
    "abc123abc123",
    "zaq12wsxcde3",
];

/// A password's hash in PHC's form. It does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub(super) String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Too short.
    #[error("use at least 12 characters")]
    Short,
    /// Too long.
    #[error("use at most 256 characters")]
    Long,
    /// The name.
    #[error("the name is no password")]
    Name,
    /// Everybody's.
    #[error("this one is among the first that anybody tries; choose another")]
    Common,
}

/// Whether a person may have a password. There are no rules of composition: length is what counts.
///
/// # Errors
/// Why not.
pub fn check_password(password: &str, name: &str) -> Result<(), WeakPassword> {
    let length = password.chars().count();
    let lower = password.to_lowercase();
    let first = lower.chars().next();
    if length < *LENGTH.start() {
        Err(WeakPassword::Short)
    } else if length > *LENGTH.end() {
        Err(WeakPassword::Long)
    } else if lower == name.to_lowercase() {
        Err(WeakPassword::Name)
    } else if COMMON.contains(&lower.as_str()) || lower.chars().all(|c| Some(c) == first) {
        Err(WeakPassword::Common)
    } else {
        Ok(())
    }
}

/// Every place is taken: try again in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many logins at once")]
pub struct Busy;

/// The pool. Clones share it.
#[derive(Debug, Clone)]
pub struct Passwords {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    places: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    verifications: AtomicU64,
}

impl Passwords {
    /// Half of the machine at most, and never more than 4.
    #[must_use]
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = (cores / 2).clamp(1, 4);
        Self {
            shared: Arc::new(Shared {
                places: Arc::new(Semaphore::new(workers + PLACES)),
                workers: Arc::new(Semaphore::new(workers)),
                verifications: AtomicU64::new(0),
            }),
        }
    }

    /// The hash of a new password.
    ///
    /// # Errors
    /// No place is free.
    pub async fn hash(&self, password: String) -> Result<Password, Busy> {
        self.run(move || {
            let hash = argon2().hash_password(password.as_bytes()).expect("the cost is valid, the system gives salt");
            Password(hash.to_string())
        })
        .await
    }

    /// Whether a password is the one of a hash. Without one it is not, after the same work.
    ///
    /// # Errors
    /// No place is free; nothing was computed.
    pub async fn verify(&self, password: String, stored: Option<Password>) -> Result<bool, Busy> {
        let shared = Arc::clone(&self.shared);
        self.run(move || {
            shared.verifications.fetch_add(1, Ordering::Relaxed);
            let exists = stored.is_some();
            let stored = stored.map_or_else(nobodys, |password| password.0);
            // A hash that cannot be read is nobody's password.
            let verified = PasswordHash::new(&stored)
                .is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok());
            verified && exists
        })
        .await
    }

    /// Verifications so far.
    #[must_use]
    pub fn verifications(&self) -> u64 {
        self.shared.verifications.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(&self, compute: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let place = Arc::clone(&self.shared.places).try_acquire_owned().map_err(|_| Busy)?;
        let worker = Arc::clone(&self.shared.workers).acquire_owned().await.expect("it is never closed");
        let computed = tokio::task::spawn_blocking(move || {
            // Held until the work is done, also if the asker goes away.
            let _held = (place, worker);
            compute()
        });
        Ok(computed.await.expect("argon2 does not panic, and the runtime ends after its tasks"))
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

fn argon2() -> Argon2<'static> {
    let cost = Params::new(MEMORY, PASSES, 1, None).expect("constants within argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, cost)
}

/// A hash that no known password has, at the same cost.
fn nobodys() -> String {
    format!(
        "$argon2id$v=19$m={MEMORY},t={PASSES},p=1$c29tZSBzYWx0IG9mIG5vYm9keQ$UdYCDZrtKM0mBrLFjLyRwyhPPEtpXsXVKsR3bLFDy2U"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_verification_whether_there_is_a_hash_or_not() {
        let passwords = Passwords::new();
        let hash = passwords.hash("correct horse battery".to_owned()).await.expect("a place");
        assert!(!format!("{hash:?}").contains("argon2"));
        for (password, stored, expected) in [
            ("correct horse battery", Some(hash.clone()), true),
            ("wrong horse battery", Some(hash), false),
            ("correct horse battery", None, false),
        ] {
            let before = passwords.verifications();
            assert_eq!(passwords.verify(password.to_owned(), stored).await, Ok(expected));
            assert_eq!(passwords.verifications(), before + 1);
        }
        assert!(PasswordHash::new(&nobodys()).is_ok(), "the work of nobody's password is done");
    }

    #[tokio::test]
    async fn what_finds_no_place_costs_nothing() {
        let passwords = Passwords::new();
        let places = passwords.shared.places.available_permits() as u32;
        let taken = Arc::clone(&passwords.shared.places).acquire_many_owned(places).await.expect("places");
        assert_eq!(passwords.verify("x".to_owned(), None).await, Err(Busy));
        assert_eq!(passwords.verifications(), 0);
        drop(taken);
        assert_eq!(passwords.verify("x".to_owned(), None).await, Ok(false));
    }

    #[test]
    fn length_counts_and_what_everybody_tries_does_not() {
        for (password, expected) in [
            ("elevenchars", Err(WeakPassword::Short)),
            ("一二三四五六七八九十甲乙", Ok(())),
            ("zhang.wei.2026", Err(WeakPassword::Name)),
            ("ADMINISTRATOR", Err(WeakPassword::Common)),
            ("aaaaaaaaaaaaaaa", Err(WeakPassword::Common)),
            ("a quiet thoroughfare", Ok(())),
        ] {
            assert_eq!(check_password(password, "Zhang.Wei.2026"), expected, "{password}");
        }
        assert_eq!(check_password(&"ab".repeat(200), "x"), Err(WeakPassword::Long));
        for common in COMMON {
            assert!(common.len() >= *LENGTH.start() && common == common.to_lowercase(), "{common}");
        }
    }
}
