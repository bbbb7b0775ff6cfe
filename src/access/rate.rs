//! How often one may ask: so often a second for each session, machine token and, of nobody, address, and
//! four seconds' worth at once.
//!
//! A machine token may ask [`MACHINE`] times as often as a person: with one of them Prometheus asks for every
//! source, ten thousand each 15 seconds. Pages and their files, `/healthz` and `/readyz` are not counted: they
//! cost next to nothing, and a probe must be answered. What is kept is bounded: who is beyond it shares one place.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use prometheus::IntCounterVec;

use super::Actor;
use crate::metrics;
use crate::platform::clock::Stopwatch;
use crate::platform::http::Problem;
use crate::platform::http::origin::network;
use crate::platform::metrics::Registry;

/// How much more often a machine may ask than a person.
const MACHINE: u32 = 40;
/// Seconds' worth of requests at once.
const BURST: u32 = 4;
/// Who is known by what they asked lately, of each kind.
const KNOWN: usize = 50_000;
const SECOND_NS: u64 = 1_000_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Rates {
    per_second: u32,
    since: Stopwatch,
    somebody: Mutex<Buckets<Actor>>,
    nobody: Mutex<Buckets<IpAddr>>,
    limited: IntCounterVec,
}

impl Rates {
    pub(super) fn new(per_second: u32, registry: &Registry) -> Self {
        Self {
            per_second,
            since: Stopwatch::start(),
            somebody: Mutex::default(),
            nobody: Mutex::default(),
            limited: registry.counter_vec(&metrics::HTTP_LIMITED),
        }
    }

    /// Counts a request of somebody, or says that it is too many.
    pub(super) fn somebody(&self, actor: Actor) -> Result<(), Problem> {
        let (of, per_second) = match actor {
            Actor::System => return Ok(()),
            Actor::User(..) => ("session", self.per_second),
            Actor::Token(_) => ("token", self.per_second.saturating_mul(MACHINE)),
        };
        self.count(&self.somebody, Some(actor), of, per_second)
    }

    /// The same of nobody, by address (of IPv6 its network).
    pub(super) fn nobody(&self, address: Option<IpAddr>) -> Result<(), Problem> {
        self.count(&self.nobody, address.map(network), "address", self.per_second)
    }

    fn count<K: Hash + Eq>(
        &self,
        buckets: &Mutex<Buckets<K>>,
        key: Option<K>,
        of: &'static str,
        per_second: u32,
    ) -> Result<(), Problem> {
        let now_ns = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let taken = buckets.lock().unwrap_or_else(PoisonError::into_inner).take(key, per_second, now_ns);
        taken.map_err(|wait| {
            self.limited.with_label_values(&[of]).inc();
            let seconds = u32::try_from(wait.as_nanos().div_ceil(u128::from(SECOND_NS))).unwrap_or(u32::MAX);
            let said = format!("more than {per_second} requests a second; try again in {seconds} s");
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many", said)
                .chinese(format!("请求超过每秒 {per_second} 次，请在 {seconds} 秒后重试"))
                .retry_after(seconds)
        })
    }
}

/// When each will have all of its requests again. `None` is everybody who found no place.
#[derive(Debug)]
struct Buckets<K> {
    whole_ns: HashMap<Option<K>, u64>,
    swept_ns: u64,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self { whole_ns: HashMap::new(), swept_ns: 0 }
    }
}

impl<K: Hash + Eq> Buckets<K> {
    /// Takes one request, or says how long to wait for it.
    fn take(&mut self, key: Option<K>, per_second: u32, now_ns: u64) -> Result<(), Duration> {
        let one_ns = SECOND_NS / u64::from(per_second.max(1));
        let all_ns = one_ns * u64::from(per_second) * u64::from(BURST);
        let key = if self.whole_ns.len() < KNOWN || self.whole_ns.contains_key(&key) {
            key
        } else {
            // Who has all of their requests is as good as unknown.
            if now_ns - self.swept_ns >= SECOND_NS {
                self.swept_ns = now_ns;
                self.whole_ns.retain(|_, whole_ns| *whole_ns > now_ns);
            }
            if self.whole_ns.len() < KNOWN { key } else { None }
        };
        let whole_ns = self.whole_ns.entry(key).or_insert(now_ns);
        let after_ns = (*whole_ns).max(now_ns) + one_ns;
        if after_ns > now_ns + all_ns {
            return Err(Duration::from_nanos(after_ns - now_ns - all_ns));
        }
        *whole_ns = after_ns;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::platform::ids::{ApiTokenId, SessionId, UserId};

    #[test]
    fn who_asks_too_often_waits_and_nobody_else() {
        let mut buckets = Buckets::default();
        let mut taken = |key, now_ns| (0..1_000).take_while(|_| buckets.take(Some(key), 50, now_ns).is_ok()).count();
        assert_eq!(taken(1, 0), 200, "four seconds' worth");
        assert_eq!(taken(1, 0), 0);
        assert_eq!(taken(2, 0), 200, "another one");
        assert_eq!(taken(1, SECOND_NS), 50);
        assert_eq!(taken(1, 1_000 * SECOND_NS), 200, "never more at once");
        let wait = buckets.take(Some(1), 50, 1_000 * SECOND_NS).expect_err("too many");
        assert_eq!(wait, Duration::from_millis(20));
        assert_eq!(buckets.take(Some(1), 50, 1_000 * SECOND_NS + 20_000_000), Ok(()));
    }

    /// Ten thousand sources, each asked for every 15 seconds with one token, by two servers.
    #[test]
    fn two_prometheus_with_one_token_are_never_told_to_wait() {
        let mut buckets = Buckets::default();
        for request in 0..1_333 * 60 {
            let now_ns = request * SECOND_NS / 1_333;
            assert_eq!(buckets.take(Some(1), 50 * MACHINE, now_ns), Ok(()));
        }
    }

    #[test]
    fn memory_is_bounded_and_who_finds_no_place_still_waits() {
        let mut buckets = Buckets::default();
        for key in 0..2 * KNOWN {
            let _ = buckets.take(Some(key), 50, 0);
        }
        assert!(buckets.whole_ns.len() <= KNOWN + 1);
        assert!(buckets.take(Some(2 * KNOWN), 50, 0).is_err(), "with all others beyond");
        assert_eq!(buckets.take(Some(1), 50, 0), Ok(()), "who had a place keeps it");
        // A while later those who asked once are forgotten.
        assert_eq!(buckets.take(Some(2 * KNOWN), 50, 10 * SECOND_NS), Ok(()));
        assert!(buckets.whole_ns.len() < 3, "{}", buckets.whole_ns.len());
    }

    #[test]
    fn sessions_tokens_and_addresses_are_counted_apart() {
        let registry = Registry::new();
        let rates = Rates::new(1, &registry);
        let taken = |take: &dyn Fn() -> Result<(), Problem>| (0..1_000).take_while(|_| take().is_ok()).count();
        // Whoever runs this may be slow.
        assert!((4..10).contains(&taken(&|| rates.somebody(Actor::User(UserId(1), SessionId(1))))));
        assert!((4..10).contains(&taken(&|| rates.somebody(Actor::User(UserId(1), SessionId(2))))));
        assert!((160..400).contains(&taken(&|| rates.somebody(Actor::Token(ApiTokenId(1))))));
        let network = |last: u16| Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)));
        assert!((4..10).contains(&taken(&|| rates.nobody(network(1)))));
        assert!(taken(&|| rates.nobody(network(2))) < 4, "the same network");
        assert!(registry.encode().contains("tongtu_http_limited_total{principal=\"token\"} 1"));
    }
}
