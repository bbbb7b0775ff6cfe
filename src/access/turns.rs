//! Whose password is computed next: fair between places, so that a flood of logins holds up itself. Pure.
//!
//! A [`Place`] is an address (of IPv6 its network), or a browser, session or link that has been proved. Each has a
//! short lane of its own, of which one computation runs at a time; lanes take turns. Those of whom something good is
//! known come first, those that failed last, and the last still get every [`PASSED`]th turn.
//!
//! What must hold:
//! - Who asks once is served before any other of the same standing is served twice.
//! - What waits is bounded in time: as many as the pool computes in [`LONGEST_WAIT`], and a few of one place. When
//!   all of it is taken, who comes takes the end of the longest lane of the worst standing, if that is worse than
//!   they are; who is sent away costs no work.
//! - Each that was let in leaves once: with a turn, sent away, or because the asker has gone.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::secret::Hash;

/// Nobody waits for a turn longer.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// Of one place, beside the one that runs.
pub(super) const LANE: usize = 8;
/// Turns that others may take while one standing waits.
const PASSED: u32 = 8;
/// Of all places, whatever a computation costs.
const PLACES: std::ops::RangeInclusive<usize> = 16..=1_024;
/// What a computation is thought to cost before one was measured.
const COST: Duration = Duration::from_millis(50);
/// Failures after a success that leave a good standing good.
const FREE: u32 = 5;
/// After this without a verdict an address is as good as new.
const FORGET: Duration = Duration::from_secs(3_600);
/// Addresses whose standing is remembered.
const REMEMBERED: usize = 50_000;

/// From where somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// An address, of IPv6 its network.
    Address(Option<IpAddr>),
    /// A browser, a session in it or a one-time link that has been proved.
    Proved(Hash),
}

/// What is known of a place, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Proved, or an address from which somebody has logged in lately.
    Good = 0,
    New = 1,
    Failed = 2,
}

impl Standing {
    const ALL: [Self; 3] = [Self::Good, Self::New, Self::Failed];
}

/// What the last verdicts of an address leave.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    /// Failures until its standing is lost.
    free: u32,
    at: Duration,
}

/// Those of one place who wait.
#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<T>,
    is_running: bool,
    standing: Standing,
    /// The later one began to wait for its turn, the greater.
    entered: u64,
}

/// Every place is taken: come again in so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many logins at once; come again in {0} s")]
pub struct Busy(pub u32);

/// Those who wait, and whose turn it is. Times are since its beginning.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// Computations at a time.
    workers: usize,
    running: usize,
    waiting: usize,
    /// What a computation costs, lately.
    cost: Duration,
    lanes: HashMap<Place, Lane<T>>,
    /// Of each standing the places that wait for their turn, in its order.
    order: [VecDeque<Place>; Standing::ALL.len()],
    /// Of each standing the turns that others took while it waited.
    passed: [u32; Standing::ALL.len()],
    entered: u64,
    remembered: HashMap<Place, Remembered>,
}

impl<T> Turns<T> {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            workers,
            running: 0,
            waiting: 0,
            cost: COST,
            lanes: HashMap::new(),
            order: Default::default(),
            passed: Default::default(),
            entered: 0,
            remembered: HashMap::new(),
        }
    }

    /// Lets somebody of a place wait. Gives who was sent away for it, if anybody.
    pub(super) fn enter(&mut self, place: Place, who: T, now: Duration) -> Result<Option<T>, Busy> {
        let standing = self.standing(place, now);
        let before = self.lanes.get(&place).map_or(0, |lane| lane.waiting.len());
        if before >= LANE {
            return Err(self.busy());
        }
        let sent_away = if self.waiting < self.places() { None } else { Some(self.send_away((standing, before + 1))?) };
        self.waiting += 1;
        let lane = self.lanes.entry(place).or_insert_with(|| Lane {
            waiting: VecDeque::new(),
            is_running: false,
            standing,
            entered: 0,
        });
        lane.waiting.push_back(who);
        if lane.waiting.len() == 1 && !lane.is_running {
            self.queue(place, standing);
        }
        Ok(sent_away)
    }

    /// Gives up the places of those who have gone away.
    pub(super) fn leave(&mut self, has_gone: impl Fn(&T) -> bool) {
        let Self { lanes, order, waiting, .. } = self;
        lanes.retain(|place, lane| {
            let before = lane.waiting.len();
            lane.waiting.retain(|who| !has_gone(who));
            *waiting -= before - lane.waiting.len();
            let stays = lane.is_running || !lane.waiting.is_empty();
            if !stays {
                order[lane.standing as usize].retain(|other| other != place);
            }
            stays
        });
    }

    /// Whose turn it is, if one can run; it runs until [`Self::end`].
    pub(super) fn next(&mut self) -> Option<(Place, T)> {
        if self.running >= self.workers {
            return None;
        }
        let waits = |standing: &Standing| !self.order[*standing as usize].is_empty();
        let overdue = |standing: &Standing| waits(standing) && self.passed[*standing as usize] >= PASSED;
        let overdue = Standing::ALL.into_iter().rev().find(overdue);
        let served = overdue.or_else(|| Standing::ALL.into_iter().find(waits))? as usize;
        for (standing, order) in self.order.iter().enumerate() {
            let is_passed = standing != served && !order.is_empty();
            self.passed[standing] = if is_passed { self.passed[standing] + 1 } else { 0 };
        }
        let place = self.order[served].pop_front()?;
        let lane = self.lanes.get_mut(&place)?;
        lane.is_running = true;
        let who = lane.waiting.pop_front()?;
        self.running += 1;
        self.waiting -= 1;
        Some((place, who))
    }

    /// What ran has ended: what it cost, and whether it was the right password, if that was asked.
    pub(super) fn end(&mut self, place: Place, cost: Option<Duration>, verdict: Option<bool>, now: Duration) {
        self.running -= 1;
        if let Some(cost) = cost {
            self.cost = (self.cost * 7 + cost) / 8;
        }
        if let Some(is_right) = verdict {
            self.remember(place, is_right, now);
        }
        let standing = self.standing(place, now);
        let Some(lane) = self.lanes.get_mut(&place) else { return };
        lane.is_running = false;
        if lane.waiting.is_empty() {
            self.lanes.remove(&place);
        } else {
            self.queue(place, standing);
        }
    }

    /// A turn of the place comes after those that wait.
    fn queue(&mut self, place: Place, standing: Standing) {
        self.entered += 1;
        if let Some(lane) = self.lanes.get_mut(&place) {
            lane.standing = standing;
            lane.entered = self.entered;
        }
        self.order[standing as usize].push_back(place);
    }

    /// Sends away who matters least, if that is less than one of this standing in a lane of this length.
    fn send_away(&mut self, than: (Standing, usize)) -> Result<T, Busy> {
        let busy = self.busy();
        let worst = self.lanes.iter_mut().filter(|(_, lane)| !lane.waiting.is_empty());
        let worst = worst.max_by_key(|(_, lane)| (lane.standing, lane.waiting.len(), lane.entered));
        let (place, lane) = worst.filter(|(_, lane)| (lane.standing, lane.waiting.len()) > than).ok_or(busy)?;
        let who = lane.waiting.pop_back().ok_or(busy)?;
        self.waiting -= 1;
        if lane.waiting.is_empty() && !lane.is_running {
            let place = *place;
            self.order[lane.standing as usize].retain(|other| *other != place);
            self.lanes.remove(&place);
        }
        Ok(who)
    }

    fn standing(&self, place: Place, now: Duration) -> Standing {
        match (place, self.remembered.get(&place)) {
            (Place::Proved(_), _) => Standing::Good,
            (Place::Address(_), Some(of)) if now.saturating_sub(of.at) < FORGET => {
                if of.free > 0 {
                    Standing::Good
                } else {
                    Standing::Failed
                }
            }
            (Place::Address(_), _) => Standing::New,
        }
    }

    fn remember(&mut self, place: Place, is_right: bool, now: Duration) {
        if matches!(place, Place::Proved(_)) {
            return;
        }
        if self.remembered.len() >= REMEMBERED && !self.remembered.contains_key(&place) {
            self.remembered.retain(|_, of| now.saturating_sub(of.at) < FORGET);
            if self.remembered.len() >= REMEMBERED {
                return;
            }
        }
        let of = self.remembered.entry(place).or_insert(Remembered { free: 0, at: now });
        if now.saturating_sub(of.at) >= FORGET {
            of.free = 0;
        }
        of.free = if is_right { FREE } else { of.free.saturating_sub(1) };
        of.at = now;
    }

    /// How many may wait.
    fn places(&self) -> usize {
        let in_time = LONGEST_WAIT.as_nanos() / self.cost.as_nanos().max(1);
        let in_time = usize::try_from(in_time).unwrap_or(usize::MAX).saturating_mul(self.workers);
        in_time.clamp(*PLACES.start(), *PLACES.end())
    }

    /// When those who wait now have had their turn.
    pub(super) fn busy(&self) -> Busy {
        let nanos = self.cost.as_nanos() * self.waiting as u128 / self.workers.max(1) as u128;
        let seconds = nanos.div_ceil(1_000_000_000).clamp(1, u128::from(LONGEST_WAIT.as_secs()));
        Busy(u32::try_from(seconds).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn address(n: u32) -> Place {
        Place::Address(Some(IpAddr::V4(n.into())))
    }

    /// Gives the next one a turn, which ends with a verdict.
    fn serve<T>(turns: &mut Turns<T>, verdict: bool) -> Option<(Place, T)> {
        let (place, who) = turns.next()?;
        turns.end(place, None, Some(verdict), NOW);
        Some((place, who))
    }

    #[test]
    fn one_place_does_not_hold_up_another() {
        let mut turns = Turns::new(1);
        for n in 0..LANE {
            assert_eq!(turns.enter(address(1), n, NOW), Ok(None));
        }
        assert_eq!(turns.enter(address(1), 99, NOW), Err(Busy(1)), "its lane is full");
        assert_eq!(turns.enter(address(2), 50, NOW), Ok(None));
        let (first, who) = turns.next().expect("a turn");
        assert_eq!((first, who), (address(1), 0));
        assert_eq!(turns.next(), None, "one worker");
        turns.end(first, None, None, NOW);
        assert_eq!(serve(&mut turns, true), Some((address(2), 50)), "after one of the other, not after eight");
        assert_eq!(serve(&mut turns, true).map(|(place, _)| place), Some(address(1)));
    }

    #[test]
    fn who_has_gone_away_keeps_no_place() {
        let mut turns = Turns::new(1);
        for (place, n) in [(1, 10), (2, 20), (1, 11), (1, 12), (3, 30)] {
            turns.enter(address(place), n, NOW).expect("a place");
        }
        assert_eq!(turns.next(), Some((address(1), 10)));
        turns.leave(|n| [11, 20].contains(n));
        assert_eq!((turns.waiting, turns.lanes.len()), (2, 2));
        turns.end(address(1), None, None, NOW);
        assert_eq!(serve(&mut turns, true), Some((address(3), 30)));
        assert_eq!(serve(&mut turns, true), Some((address(1), 12)));
        assert_eq!((turns.next(), turns.lanes.len()), (None, 0));
    }

    #[test]
    fn one_of_a_place_runs_at_a_time_whatever_the_workers() {
        let mut turns = Turns::new(4);
        for n in 0..4 {
            turns.enter(address(1), n, NOW).expect("a place");
        }
        assert!(turns.next().is_some());
        assert_eq!(turns.next(), None);
        turns.enter(address(2), 9, NOW).expect("a place");
        assert_eq!(turns.next(), Some((address(2), 9)));
    }

    #[test]
    fn who_failed_comes_last_and_is_sent_away_first() {
        let mut turns = Turns::new(1);
        turns.cost = Duration::from_secs(1);
        assert_eq!(turns.places(), *PLACES.start());
        let places = *PLACES.start() as u32;
        for n in 0..places {
            turns.enter(address(n), n, NOW).expect("a place");
            serve(&mut turns, n == 7);
        }
        for n in (0..=places).filter(|n| *n != 7) {
            assert_eq!(turns.enter(address(n), n, NOW), Ok(None));
        }
        assert_eq!(turns.enter(address(0), 100, NOW), Err(Busy(4)), "no better than the others");
        assert_eq!(turns.enter(address(7), 7, NOW), Ok(Some(places - 1)), "from there somebody has logged in");
        assert_eq!(turns.enter(Place::Proved([0; 32]), 200, NOW), Ok(Some(places - 2)));
        let order: Vec<u32> = std::iter::from_fn(|| serve(&mut turns, false)).map(|(_, who)| who).collect();
        assert_eq!(order[..5], [7, 200, places, 0, 1]);

        turns.remember(address(7), true, NOW);
        // A typing error or two take nothing from an address that was good; more do, and an hour heals.
        for n in 1..=FREE {
            assert_eq!(turns.standing(address(7), NOW), Standing::Good, "failure {n}");
            turns.remember(address(7), false, NOW);
        }
        assert_eq!(turns.standing(address(7), NOW), Standing::Failed);
        assert_eq!(turns.standing(address(7), NOW + FORGET), Standing::New);
    }

    #[test]
    fn what_waits_is_bounded_by_what_the_pool_computes_in_time() {
        let mut turns = Turns::new(2);
        for _ in 0..100 {
            turns.enter(address(1), 0, NOW).expect("a place");
            let (place, _) = turns.next().expect("a turn");
            turns.end(place, Some(Duration::from_millis(40)), Some(false), NOW);
        }
        assert!((195..=205).contains(&turns.places()), "{}", turns.places());
        let waiting = (10..1_000).take_while(|n| turns.enter(address(*n), 0, NOW).is_ok()).count();
        assert_eq!(waiting, turns.places());
        assert_eq!(turns.busy(), Busy(4));
    }

    #[test]
    fn memory_is_bounded() {
        let mut turns: Turns<()> = Turns::new(1);
        for n in 0..REMEMBERED as u32 + 10 {
            turns.remember(address(n), false, NOW);
        }
        assert_eq!(turns.remembered.len(), REMEMBERED);
        turns.remember(address(u32::MAX), false, NOW + FORGET);
        assert_eq!(turns.remembered.len(), 1, "the old ones have gone");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// While others ask without end, wrong or right, each that asks is served within one round of those who ask.
        #[test]
        fn nobody_waits_longer_than_a_round(
            workers in 1_usize..4,
            others in 1_u32..40,
            warm in 0_u32..200,
            is_good in proptest::collection::vec(any::<bool>(), 40),
            eager in 1_usize..LANE,
        ) {
            let mut turns = Turns::new(workers);
            turns.cost = Duration::from_millis(1);
            let mut running = VecDeque::new();
            let step = |turns: &mut Turns<u32>, running: &mut VecDeque<(Place, u32)>| {
                for n in 0..others {
                    while turns.lanes.get(&address(n)).is_none_or(|lane| lane.waiting.len() < eager)
                        && turns.enter(address(n), n, NOW).is_ok() {}
                }
                if running.len() == workers || (running.len() as u32) == others {
                    let (place, n) = running.pop_front().expect("one runs");
                    turns.end(place, None, Some(is_good.get(n as usize).is_some_and(|good| *good)), NOW);
                }
                let served = turns.next();
                running.extend(served);
                served.map(|(_, who)| who)
            };
            for _ in 0..warm {
                step(&mut turns, &mut running);
            }
            // One who has never asked.
            prop_assert_eq!(turns.enter(address(1_000), 1_000, NOW), Ok(None));
            let mut served: BTreeMap<u32, u32> = BTreeMap::new();
            let mut all = 0;
            loop {
                all += 1;
                prop_assert!(all <= 4 * (others + 2) * (PASSED + 1), "never served");
                match step(&mut turns, &mut running) {
                    Some(1_000) => break,
                    Some(who) => *served.entry(who).or_default() += 1,
                    None => {}
                }
            }
            // Better ones leave it every ninth turn.
            prop_assert!(served.values().sum::<u32>() <= (others + 1) * (PASSED + 1), "{:?}", served);
            if warm > others * 2 && is_good.iter().take(others as usize).all(|good| !good) {
                prop_assert!(served.values().sum::<u32>() <= PASSED + workers as u32, "before those that failed: {:?}", served);
            }
            // And each of the others is served while they all ask.
            let mut still: BTreeSet<u32> = (0..others).collect();
            for _ in 0..4 * (others + 2) * (PASSED + 1) {
                if let Some(who) = step(&mut turns, &mut running) {
                    still.remove(&who);
                }
            }
            prop_assert!(still.is_empty(), "starved: {:?}", still);
        }

    }

    proptest! {
        /// Whatever happens: bounds hold, each leaves once, one of a place runs at a time.
        #[test]
        fn each_leaves_once_and_bounds_hold(
            workers in 1_usize..5,
            cost_ms in 1_u64..400,
            events in proptest::collection::vec((0_u8..3, 0_u32..80, any::<bool>()), 1..600),
        ) {
            let mut turns = Turns::new(workers);
            turns.cost = Duration::from_millis(cost_ms);
            let mut inside = BTreeMap::new();
            let mut running: Vec<Place> = Vec::new();
            for (id, (kind, n, flag)) in events.into_iter().enumerate() {
                let place = if n < 5 { Place::Proved([n as u8; 32]) } else { address(n) };
                match kind {
                    0 | 1 => {
                        let length = turns.lanes.get(&place).map_or(0, |lane| lane.waiting.len());
                        let was_full = turns.waiting >= turns.places();
                        match turns.enter(place, id, NOW) {
                            Ok(sent_away) => {
                                prop_assert!(length < LANE);
                                prop_assert_eq!(sent_away.is_some(), was_full);
                                inside.insert(id, place);
                                if let Some(who) = sent_away {
                                    prop_assert!(who != id && inside.remove(&who).is_some(), "{} was inside", who);
                                }
                            }
                            Err(busy) => {
                                prop_assert!(length == LANE || was_full);
                                prop_assert!((1..=4).contains(&busy.0));
                            }
                        }
                    }
                    _ if flag || running.is_empty() => {
                        let next = turns.next();
                        let could = inside.values().any(|place| !running.contains(place));
                        prop_assert_eq!(next.is_some(), running.len() < workers && could);
                        if let Some((place, who)) = next {
                            prop_assert_eq!(inside.remove(&who), Some(place));
                            prop_assert!(!running.contains(&place), "two of one place");
                            running.push(place);
                        }
                    }
                    _ => turns.end(running.swap_remove(n as usize % running.len()), None, Some(n % 3 == 0), NOW),
                }
                prop_assert_eq!(turns.waiting, inside.len());
                prop_assert!(turns.waiting <= turns.places());
                prop_assert_eq!(turns.running, running.len());
            }
            for place in running {
                turns.end(place, None, None, NOW);
            }
            while let Some((place, who)) = turns.next() {
                prop_assert_eq!(inside.remove(&who), Some(place));
                turns.end(place, None, None, NOW);
            }
            prop_assert!(inside.is_empty() && turns.lanes.is_empty(), "nobody is forgotten: {:?}", inside);
        }
    }
}
