//! Limits of failed logins: a pause for each pair of address and name, that grows. Pure.
//!
//! A name alone is never slowed, so nobody locks another one out from elsewhere; a browser in which its person
//! has logged in before counts as a place of its own, so nobody locks another one out from behind the same
//! address either.

use std::collections::HashMap;
use std::net::IpAddr;

use super::secret::{self, Hash};
use super::turns::Place;
use crate::platform::clock::UnixMs;
use crate::platform::http::origin::network;

/// Failures without a pause.
const FREE: u32 = 5;
/// The first pause; each further one is twice as long, up to the longest.
const PAUSE_MS: i64 = 1_000;
const LONGEST_MS: i64 = 15 * 60_000;
/// After this without a failure a pair begins anew.
const FORGET_MS: i64 = 60 * 60_000;
/// Pairs that are remembered.
const PAIRS: usize = 50_000;

/// Who tries: a place and a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    place: Place,
    name: Hash,
}

impl Pair {
    /// Of a browser that is known by a text.
    pub(super) fn of_browser(browser: &str, name: &str) -> Self {
        Self { place: Place::Proved(secret::hash(browser)), name: name_hash(name) }
    }

    pub(super) fn new(address: Option<IpAddr>, name: &str) -> Self {
        Self { place: Place::Address(address.map(network)), name: name_hash(name) }
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }
}

fn name_hash(name: &str) -> Hash {
    secret::hash(&name.to_lowercase())
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last_ms: UnixMs,
}

impl Failures {
    fn pause_ends_ms(self) -> UnixMs {
        match self.count.checked_sub(FREE) {
            Some(beyond) => self.last_ms + (PAUSE_MS << beyond.min(20)).min(LONGEST_MS),
            None => self.last_ms,
        }
    }
}

/// What failed lately, and what is under way.
#[derive(Debug, Default)]
pub(super) struct Limits {
    failures: HashMap<Pair, Failures>,
    trying: Vec<Pair>,
}

impl Limits {
    /// Begins a login, or says for how many milliseconds the pair has to wait.
    pub(super) fn begin(&mut self, pair: Pair, now: UnixMs) -> Result<(), i64> {
        if let Some(failures) = self.failures.get(&pair) {
            let wait = failures.pause_ends_ms() - now;
            if wait > 0 {
                return Err(wait);
            }
        }
        if self.trying.contains(&pair) {
            return Err(PAUSE_MS);
        }
        self.trying.push(pair);
        Ok(())
    }

    /// A login that began has ended, whether it came to a verdict or not.
    pub(super) fn end(&mut self, pair: Pair) {
        if let Some(at) = self.trying.iter().position(|other| *other == pair) {
            self.trying.swap_remove(at);
        }
    }

    pub(super) fn succeeded(&mut self, pair: Pair) {
        self.failures.remove(&pair);
    }

    pub(super) fn failed(&mut self, pair: Pair, now: UnixMs) {
        if self.failures.len() >= PAIRS && !self.failures.contains_key(&pair) {
            self.failures.retain(|_, failures| now - failures.last_ms < FORGET_MS);
            // Full of fresh ones: those that wait for nothing can go.
            if self.failures.len() >= PAIRS {
                self.failures.retain(|_, failures| failures.count > FREE);
            }
            if self.failures.len() >= PAIRS {
                return;
            }
        }
        let failures = self.failures.entry(pair).or_insert(Failures { count: 0, last_ms: now });
        if now - failures.last_ms >= FORGET_MS {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last_ms = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(address: [u8; 4], name: &str) -> Pair {
        Pair::new(Some(address.into()), name)
    }

    #[test]
    fn pauses_grow_for_the_pair_and_for_nobody_else() {
        let mut limits = Limits::default();
        let attacker = pair([10, 0, 0, 1], "zhang");
        let mut now = 1_000;
        for _ in 0..FREE {
            limits.begin(attacker, now).expect("without a pause");
            limits.failed(attacker, now);
            limits.end(attacker);
        }
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let wait = limits.begin(attacker, now).expect_err("a pause");
            pauses.push(wait);
            now += wait;
            limits.begin(attacker, now).expect("after it");
            limits.failed(attacker, now);
            limits.end(attacker);
        }
        assert_eq!(&pauses[..3], [1_000, 2_000, 4_000]);
        assert_eq!(pauses.last(), Some(&LONGEST_MS));
        assert!(limits.begin(pair([10, 0, 0, 1], "ZHANG"), now).is_err(), "the same name");
        assert!(limits.begin(pair([10, 0, 0, 2], "zhang"), now).is_ok(), "zhang at another desk");
        assert!(limits.begin(pair([10, 0, 0, 1], "li"), now).is_ok(), "another at the same desk");
        let known = Pair::of_browser("b", "zhang");
        assert!(limits.begin(known, now).is_ok(), "zhang's own browser at the same desk");
        limits.end(known);
        for _ in 0..=FREE {
            limits.failed(known, now);
        }
        assert!(limits.begin(known, now).is_err(), "it has a limit of its own");
        limits.succeeded(attacker);
        assert!(limits.begin(attacker, now).is_ok());
    }

    #[test]
    fn a_pair_has_one_under_way() {
        let mut limits = Limits::default();
        let zhang = pair([10, 0, 0, 1], "zhang");
        assert!(limits.begin(zhang, 0).is_ok());
        assert_eq!(limits.begin(zhang, 0), Err(PAUSE_MS));
        assert!(limits.begin(pair([10, 0, 0, 1], "li"), 0).is_ok());
        limits.end(zhang);
        assert!(limits.begin(zhang, 0).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let of = |address: &str| Pair::new(address.parse().ok(), "zhang");
        assert_eq!(of("2001:db8:1:2::7"), of("2001:db8:1:2:ffff::8"));
        assert_ne!(of("2001:db8:1:2::7"), of("2001:db8:1:3::7"));
    }

    #[test]
    fn memory_is_bounded() {
        let mut limits = Limits::default();
        for n in 0..(PAIRS + 10) {
            limits.failed(pair([10, 0, 0, 1], &n.to_string()), 0);
        }
        assert!(limits.failures.len() <= PAIRS);
    }
}
