//! Passwords: argon2id, in a bounded pool of its own, so that a flood of logins leaves others unharmed.
//!
//! What must hold: a login costs one verification whether the name exists or not; what does not find a
//! place in the pool costs none. Whose turn it is says [`Turns`]. Which passwords are taken is a pure rule.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::oneshot;

use super::turns::{Busy, LONGEST_WAIT, Place, Turns};
use crate::platform::clock::Stopwatch;

/// Memory of one computation, KiB; how often it is passed over. Tests need no strength.
const MEMORY: u32 = if cfg!(test) { 64 } else { 19_456 };
const PASSES: u32 = 2;
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

/// The pool. Clones share it.
#[derive(Debug, Clone)]
pub struct Passwords {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    turns: Mutex<Turns<oneshot::Sender<Turn>>>,
    since: Stopwatch,
    verifications: AtomicU64,
}

impl Shared {
    fn turns(&self) -> MutexGuard<'_, Turns<oneshot::Sender<Turn>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives turns to those who still wait for them, while some can run.
    fn give(self: &Arc<Self>) {
        loop {
            let Some((place, asker)) = self.turns().next() else { return };
            if asker.is_closed() {
                self.turns().end(place, None, None, self.since.elapsed());
            } else {
                // Who goes away just now drops it, which ends it.
                let _ = asker.send(Turn { shared: Arc::clone(self), place, cost: None, verdict: None });
            }
        }
    }
}

/// The right to compute; dropped when that is done, or when the asker has gone away.
#[derive(Debug)]
struct Turn {
    shared: Arc<Shared>,
    place: Place,
    cost: Option<Duration>,
    verdict: Option<bool>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.turns().end(self.place, self.cost, self.verdict, self.shared.since.elapsed());
        self.shared.give();
    }
}

impl Passwords {
    /// Half of the machine at most, and never more than 4.
    #[must_use]
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            shared: Arc::new(Shared {
                turns: Mutex::new(Turns::new((cores / 2).clamp(1, 4))),
                since: Stopwatch::start(),
                verifications: AtomicU64::new(0),
            }),
        }
    }

    /// The hash of a new password, asked for from a place.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) async fn hash(&self, place: Place, password: String) -> Result<Password, Busy> {
        let hash = move || {
            let hash = argon2().hash_password(password.as_bytes()).expect("the cost is valid, the system gives salt");
            Password(hash.to_string())
        };
        self.run(place, hash, |_| None).await
    }

    /// Whether a password is the one of a hash, asked from a place. Without a hash it is not, after the same work.
    ///
    /// # Errors
    /// Too many wait; nothing was computed.
    pub(super) async fn verify(&self, place: Place, password: String, stored: Option<Password>) -> Result<bool, Busy> {
        let shared = Arc::clone(&self.shared);
        let verify = move || {
            shared.verifications.fetch_add(1, Ordering::Relaxed);
            let exists = stored.is_some();
            let stored = stored.map_or_else(nobodys, |password| password.0);
            // A hash that cannot be read is nobody's password.
            let verified = PasswordHash::new(&stored)
                .is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok());
            verified && exists
        };
        self.run(place, verify, |verified| Some(*verified)).await
    }

    /// Verifications so far.
    #[must_use]
    pub fn verifications(&self) -> u64 {
        self.shared.verifications.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(
        &self,
        place: Place,
        compute: impl FnOnce() -> T + Send + 'static,
        verdict: fn(&T) -> Option<bool>,
    ) -> Result<T, Busy> {
        let mut turn = self.turn(place, LONGEST_WAIT).await?;
        let computed = tokio::task::spawn_blocking(move || {
            let watch = Stopwatch::start();
            let computed = compute();
            turn.cost = Some(watch.elapsed());
            turn.verdict = verdict(&computed);
            // Held until the work is done, also if the asker goes away.
            drop(turn);
            computed
        });
        Ok(computed.await.expect("argon2 does not panic, and the runtime ends after its tasks"))
    }

    /// Waits for a turn, and no longer.
    async fn turn(&self, place: Place, longest: Duration) -> Result<Turn, Busy> {
        let (asker, turn) = oneshot::channel();
        {
            let mut turns = self.shared.turns();
            turns.leave(oneshot::Sender::is_closed);
            // Who is sent away for this one hears of it when theirs is dropped.
            drop(turns.enter(place, asker, self.shared.since.elapsed())?);
        }
        self.shared.give();
        match tokio::time::timeout(longest, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(self.shared.turns().busy()),
        }
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
    use futures_util::FutureExt;

    use super::super::turns::LANE;
    use super::*;

    #[tokio::test]
    async fn one_verification_whether_there_is_a_hash_or_not() {
        let passwords = Passwords::new();
        let hash = passwords.hash(Place::Address(None), "correct horse battery".to_owned()).await.expect("a place");
        assert!(!format!("{hash:?}").contains("argon2"));
        for (password, stored, expected) in [
            ("correct horse battery", Some(hash.clone()), true),
            ("wrong horse battery", Some(hash), false),
            ("correct horse battery", None, false),
        ] {
            let before = passwords.verifications();
            assert_eq!(passwords.verify(Place::Address(None), password.to_owned(), stored).await, Ok(expected));
            assert_eq!(passwords.verifications(), before + 1);
        }
        assert!(PasswordHash::new(&nobodys()).is_ok(), "the work of nobody's password is done");
    }

    #[tokio::test]
    async fn what_finds_no_place_costs_nothing() {
        let passwords = Passwords::new();
        let place = Place::Address(None);
        let turn = passwords.turn(place, LONGEST_WAIT).await.expect("the first");
        let mut waiting: Vec<_> = (0..LANE).map(|_| Box::pin(passwords.verify(place, "x".to_owned(), None))).collect();
        for one in &mut waiting {
            assert_eq!(one.as_mut().now_or_never(), None, "it waits");
        }
        assert_eq!(passwords.verify(place, "x".to_owned(), None).await, Err(Busy(1)));
        assert_eq!(passwords.verifications(), 0);
        // Those who have gone away cost nothing either.
        waiting.truncate(1);
        drop(turn);
        assert_eq!(waiting.remove(0).await, Ok(false));
        assert_eq!(passwords.verify(place, "x".to_owned(), None).await, Ok(false));
        assert_eq!(passwords.verifications(), 2);
    }

    #[tokio::test]
    async fn who_has_gone_away_keeps_nobody_out() {
        let passwords = Passwords::new();
        let place = Place::Address(None);
        let turn = passwords.turn(place, LONGEST_WAIT).await.expect("the first");
        let wait = || Box::pin(passwords.verify(place, "x".to_owned(), None));
        let mut waiting: Vec<_> = (0..LANE).map(|_| wait()).collect();
        for one in &mut waiting {
            assert_eq!(one.as_mut().now_or_never(), None, "it waits");
        }
        drop(waiting);
        let mut next = wait();
        assert_eq!(next.as_mut().now_or_never(), None, "it waits, too");
        drop(turn);
        assert_eq!(next.await, Ok(false));
    }

    #[tokio::test]
    async fn nobody_waits_without_end() {
        let passwords = Passwords::new();
        let place = Place::Address(None);
        let turn = passwords.turn(place, LONGEST_WAIT).await.expect("the first");
        let waited = passwords.turn(place, Duration::from_millis(20)).await;
        assert_eq!(waited.err(), Some(Busy(1)));
        drop(turn);
        assert_eq!(passwords.verify(place, "x".to_owned(), None).await, Ok(false));
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
