//! Refused attempts that wait for the log, counted.
//!
//! What must hold: none is forgotten before it is written, only told in less detail. Who is nobody can ask
//! for ever, each time something else and from another address; so one who asks has a bounded number of entries a
//! minute (by network, where addresses are of IPv6), and what is beyond it is one entry, `many`, with its number of
//! times. So have all together, those who are nobody and those who are somebody apart, so that the first hide
//! nothing of the second; what is beyond that is told as anybody's.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Doer;
use crate::platform::clock::UnixMs;
use crate::platform::http::origin::{RequestId, network};

/// Different attempts that wait; beyond it those of everybody are one.
pub(super) const WAITING: usize = 1_000;
/// Entries of one who asks from one network in a minute.
const A_MINUTE: u32 = 60;
/// Entries of all who are nobody in a minute, and of all who are somebody.
const ALL_A_MINUTE: u32 = 120;

/// What makes refused attempts the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) actor: Doer,
    pub(super) address: Option<IpAddr>,
    pub(super) action: String,
    pub(super) resource: String,
    pub(super) result: &'static str,
    pub(super) reason: &'static str,
}

impl Attempt {
    /// This and others like it of the same one, as one.
    fn many(self) -> Self {
        let address = self.address.map(network);
        Self { action: "many".to_owned(), resource: String::new(), address, ..self }
    }

    /// This and those of everybody, as one.
    fn anybody(self) -> Self {
        Self { actor: Doer::nobody(), address: None, ..self.many() }
    }
}

/// Attempts with their number of times and one of their requests.
pub(super) type Due = HashMap<Attempt, (u64, RequestId)>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    waiting: Due,
    minute: i64,
    /// Entries of this minute, by id and network.
    entries: HashMap<(Option<String>, Option<IpAddr>), u32>,
    /// Of all who are nobody, and of all who are somebody.
    all: [u32; 2],
}

impl Refusals {
    pub(super) fn add(&mut self, attempt: Attempt, times: u64, request: RequestId) {
        let has_room = self.waiting.len() < WAITING || self.waiting.contains_key(&attempt);
        let attempt = if has_room { attempt } else { attempt.anybody() };
        self.waiting.entry(attempt).or_insert((0, request)).0 += times;
    }

    /// What is to be written now; at the end everything.
    pub(super) fn due(&mut self, now_ms: UnixMs, is_end: bool) -> Due {
        let minute = now_ms.div_euclid(60_000);
        if self.minute != minute {
            self.minute = minute;
            self.entries.clear();
            self.all = [0; 2];
        }
        let waiting = std::mem::take(&mut self.waiting);
        if is_end {
            return waiting;
        }
        let mut due = Due::with_capacity(waiting.len());
        for (attempt, (times, request)) in waiting {
            let (is_entry, attempt) = self.entry(attempt);
            if is_entry {
                due.insert(attempt, (times, request));
            } else {
                self.add(attempt, times, request);
            }
        }
        due
    }

    /// Takes an entry of this minute for an attempt; if there is none left, `false`, and as what it waits for another's.
    fn entry(&mut self, attempt: Attempt) -> (bool, Attempt) {
        let one = (attempt.actor.id.clone(), attempt.address.map(network));
        // What is anybody's has been summed already: one is all that it has to keep to.
        let is_anybody = one == (None, None);
        let all = &mut self.all[usize::from(one.0.is_some())];
        let entries = self.entries.entry(one).or_default();
        if *entries == A_MINUTE {
            return (false, attempt.many());
        }
        if *all == ALL_A_MINUTE && !is_anybody {
            return (false, attempt.anybody());
        }
        *entries += 1;
        *all += u32::from(!is_anybody);
        (true, attempt)
    }

    /// Takes back what could not be written.
    pub(super) fn give_back(&mut self, due: Due) {
        for (attempt, (times, request)) in due {
            self.add(attempt, times, request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::ids::UserId;

    fn attempt(number: u32) -> Attempt {
        Attempt {
            actor: Doer::user(UserId(7), "zhang".to_owned()),
            address: Some([192, 0, 2, 1].into()),
            action: "GET /api/v1/hosts/{id}".to_owned(),
            resource: format!("/api/v1/hosts/host_{number}"),
            result: "refused",
            reason: "forbidden",
        }
    }

    fn times(due: &Due) -> u64 {
        due.values().map(|(times, _)| times).sum()
    }

    #[test]
    fn one_who_asks_for_ever_has_some_entries_a_minute_and_none_is_forgotten() {
        let mut refusals = Refusals::default();
        let (mut entries, mut written) = (0, 0);
        for second in 0..240 {
            for number in 0..500 {
                refusals.add(attempt(second * 500 + number), 1, RequestId::default());
            }
            let due = refusals.due(i64::from(second) * 1_000, false);
            entries += due.len();
            written += times(&due);
        }
        assert_eq!(entries, 4 * A_MINUTE as usize);
        written += times(&refusals.due(240_000, true));
        assert_eq!(written, 240 * 500);
    }

    #[test]
    fn one_who_floods_hides_nobody_else() {
        let mut refusals = Refusals::default();
        for number in 0..900 {
            refusals.add(attempt(number), 1, RequestId::default());
        }
        assert_eq!(refusals.due(0, false).len(), A_MINUTE as usize);
        let other = Attempt { actor: Doer::user(UserId(8), "li".to_owned()), ..attempt(1) };
        refusals.add(other.clone(), 1, RequestId::default());
        assert_eq!(refusals.due(1_000, false).into_keys().collect::<Vec<_>>(), [other]);
    }

    fn of_nobody(address: &str) -> Attempt {
        Attempt { actor: Doer::nobody(), address: address.parse().ok(), ..attempt(1) }
    }

    #[test]
    fn a_network_of_ipv6_is_one_who_asks() {
        let mut refusals = Refusals::default();
        let (mut entries, mut written) = (0, 0);
        for second in 0..60_i64 {
            for number in 0..500 {
                refusals.add(of_nobody(&format!("2001:db8:1:2::{second:x}:{number:x}")), 1, RequestId::default());
            }
            let due = refusals.due(second * 1_000, false);
            entries += due.len();
            written += times(&due);
        }
        assert_eq!(entries, A_MINUTE as usize);
        let rest = refusals.due(60_000, false);
        assert_eq!(written + times(&rest), 60 * 500);
        let rest: Vec<_> = rest.into_keys().map(|attempt| (attempt.action, attempt.address)).collect();
        assert_eq!(rest, [("many".to_owned(), "2001:db8:1:2::".parse().ok())]);
    }

    #[test]
    fn however_many_are_nobody_together_they_have_some_entries_and_hide_nobody_who_is_known() {
        let mut refusals = Refusals::default();
        let (mut entries, mut written) = (0, 0);
        for second in 0..60_i64 {
            for number in 0..500 {
                refusals.add(of_nobody(&format!("2001:db8:{second:x}:{number:x}::1")), 1, RequestId::default());
            }
            if second == 30 {
                refusals.add(attempt(1), 1, RequestId::default());
            }
            let due = refusals.due(second * 1_000, false);
            assert_eq!(due.contains_key(&attempt(1)), second == 30);
            entries += due.len();
            written += times(&due);
        }
        // Each second one of what is summed.
        let most = (ALL_A_MINUTE + 1 + A_MINUTE) as usize;
        assert!((ALL_A_MINUTE as usize..=most).contains(&entries), "{entries}");
        assert_eq!(written + times(&refusals.due(60_000, true)), 60 * 500 + 1);
    }

    #[test]
    fn what_could_not_be_written_waits() {
        let mut refusals = Refusals::default();
        refusals.add(attempt(1), 3, RequestId::default());
        let due = refusals.due(0, false);
        refusals.add(attempt(1), 2, RequestId::default());
        refusals.give_back(due);
        assert_eq!(times(&refusals.due(1_000, false)), 5);
    }
}
