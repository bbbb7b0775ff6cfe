//! Where a virtual machine is, told by what each host's source says of its UUID. Pure.
//!
//! A *run* is the time in which a source showed it running, up to now or until it stopped. While it migrates both
//! hosts list it; on the target it is paused until it has arrived, and a pause begins no run. What must hold: it
//! has one place at any instant, and its places follow each other in time; when it runs in two places at once,
//! which no migration does, nothing is decided but said.

use crate::platform::clock::UnixMs;
use crate::platform::ids::SourceId;

/// Both may be seen to run for so long before that is a conflict: hosts' clocks are told apart no better, and the
/// last frame of the one may come after the first of the other.
const TOGETHER_MS: i64 = 60_000;

/// As libvirt names states.
const RUNNING: i64 = 1;
const BLOCKED: i64 = 2;
const PAUSED: i64 = 3;

/// From then on it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::compute) struct Place {
    pub source: SourceId,
    pub from_ms: UnixMs,
}

/// What one source showed of it lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::compute) struct Run {
    pub source: SourceId,
    /// It runs there since.
    pub arrived_ms: UnixMs,
    /// When it was last seen to.
    pub ran_ms: UnixMs,
    /// Between two frames of the source.
    pub interval_ms: u32,
}

/// A frame of a source, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::compute) struct Look {
    pub instant_ms: UnixMs,
    /// libvirt's state.
    pub state: Option<i64>,
    pub interval_ms: u32,
    /// It may have run there for long: nobody looked before.
    pub first: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::compute) enum Decision {
    /// It is where it was.
    Stays,
    /// It is somewhere else.
    Moves(Place),
    /// It runs at this one as well.
    Conflict(SourceId),
}

/// The run of a source after another look at it.
pub(in crate::compute) fn look(source: SourceId, known: Option<Run>, look: Look) -> Option<Run> {
    let Look { instant_ms, state, interval_ms, first } = look;
    if let Some(run) = known.filter(|run| instant_ms <= run.ran_ms) {
        return Some(run);
    }
    // Over a gap it may have been elsewhere.
    let known = known.filter(|run| goes_on(run, instant_ms));
    match (state, known) {
        (Some(RUNNING | BLOCKED), None) => {
            let arrived_ms = if first { UnixMs::MIN } else { instant_ms };
            Some(Run { source, arrived_ms, ran_ms: instant_ms, interval_ms })
        }
        (Some(RUNNING | BLOCKED | PAUSED), Some(run)) => Some(Run { ran_ms: instant_ms, interval_ms, ..run }),
        (Some(_), _) => None,
        (None, known) => known,
    }
}

/// Whether a run may still go on at an instant.
fn goes_on(run: &Run, at_ms: UnixMs) -> bool {
    at_ms - run.ran_ms <= i64::from(run.interval_ms) * 5 / 2 + 5_000
}

/// Where it is, after `here`.
pub(in crate::compute) fn decide(here: Place, runs: &[Run]) -> Decision {
    let Some(newest_ms) = runs.iter().map(|run| run.ran_ms).max() else { return Decision::Stays };
    let going_on = |run: &&Run| goes_on(run, newest_ms);
    let others = runs.iter().filter(|run| run.source != here.source).filter(going_on);
    let Some(other) = others.max_by_key(|run| (run.arrived_ms, run.source)) else { return Decision::Stays };
    let own = runs.iter().find(|run| run.source == here.source);
    let from_ms = match own {
        Some(own) if goes_on(own, newest_ms) => {
            let together_ms = own.ran_ms.min(other.ran_ms).saturating_sub(own.arrived_ms.max(other.arrived_ms));
            if together_ms > TOGETHER_MS {
                return Decision::Conflict(other.source);
            }
            if other.arrived_ms <= own.arrived_ms {
                return Decision::Stays;
            }
            other.arrived_ms
        }
        // The one that was there first ended.
        Some(own) => other.arrived_ms.max(own.ran_ms.saturating_add(1)),
        None => other.arrived_ms,
    };
    Decision::Moves(Place { source: other.source, from_ms: from_ms.max(here.from_ms.saturating_add(1)) })
}

/// What happened to it at a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::compute) struct Happened {
    pub at_ms: UnixMs,
    pub name: String,
    /// How, as libvirt says it.
    pub detail: String,
}

/// When it arrived, by the events of the source that it arrived at and of the one that it left, where these
/// tell it better than frames: an event lies between the frame without it and `seen_ms`, the first with it. That it
/// left by a migration tells it however long ago: what was measured there since comes later.
pub(in crate::compute) fn arrived(seen_ms: UnixMs, interval_ms: u32, there: &[Happened], left: &[Happened]) -> UnixMs {
    fn last<'a>(events: impl Iterator<Item = &'a Happened>, names: &[&str]) -> Option<&'a Happened> {
        events.filter(|one| names.contains(&one.name.as_str())).max_by_key(|one| one.at_ms)
    }
    let near = |one: &Happened| (seen_ms - i64::from(interval_ms) * 5 / 2..=seen_ms).contains(&one.at_ms);
    // While it migrates it is started there as well, and does not run yet.
    let began = there.iter().filter(|one| one.name != "domain.started" || one.detail != "migrated");
    let came = last(began, &["domain.migrated_in", "domain.resumed", "domain.started"]).filter(|one| near(one));
    let went = || {
        let last = last(left.iter(), &["domain.started", "domain.resumed", "domain.stopped"])?;
        Some(last).filter(|one| one.name == "domain.stopped" && (near(one) || one.detail == "migrated"))
    };
    came.or_else(went).map_or(seen_ms, |one| one.at_ms)
}

/// The times in which it was at each source, from its places in order: the last one has no end.
pub(in crate::compute) fn stays(places: &[Place]) -> impl Iterator<Item = (SourceId, UnixMs, UnixMs)> + '_ {
    places.iter().enumerate().map(|(at, place)| {
        // What its first source measured before it was known is its own as well.
        let from_ms = if at == 0 { UnixMs::MIN } else { place.from_ms };
        (place.source, from_ms, places.get(at + 1).map_or(UnixMs::MAX, |next| next.from_ms))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: SourceId = SourceId(1);
    const B: SourceId = SourceId(2);
    const SECOND: i64 = 1_000;

    fn run(source: SourceId, arrived_s: i64, ran_s: i64) -> Run {
        Run { source, arrived_ms: arrived_s * SECOND, ran_ms: ran_s * SECOND, interval_ms: 15_000 }
    }

    fn place(source: SourceId, from_s: i64) -> Place {
        Place { source, from_ms: from_s * SECOND }
    }

    #[test]
    fn a_migration_moves_it_once() {
        let here = place(A, 0);
        assert_eq!(decide(here, &[]), Decision::Stays);
        assert_eq!(decide(here, &[run(A, 0, 100)]), Decision::Stays);
        // The last frame of the old host comes a little after the first of the new one.
        let moved = Decision::Moves(place(B, 104));
        assert_eq!(decide(here, &[run(A, 0, 100), run(B, 104, 104)]), moved);
        assert_eq!(decide(here, &[run(A, 0, 105), run(B, 104, 104)]), moved);
        assert_eq!(decide(here, &[run(B, 104, 104)]), moved, "the old host said that it stopped");
        assert_eq!(decide(place(B, 104), &[run(A, 0, 105), run(B, 104, 119)]), Decision::Stays);
        // And back.
        assert_eq!(decide(place(B, 104), &[run(A, 300, 300), run(B, 104, 299)]), Decision::Moves(place(A, 300)));
    }

    #[test]
    fn what_runs_twice_is_a_conflict_until_one_ends() {
        let (here, both) = (place(A, 0), [run(A, 0, 300), run(B, 200, 300)]);
        assert_eq!(decide(here, &both), Decision::Conflict(B));
        assert_eq!(decide(place(B, 200), &both), Decision::Conflict(A), "wherever it was thought to be");
        assert_eq!(decide(here, &[run(A, 0, 300), run(B, 200, 600)]), Decision::Moves(place(B, 300)).later(1));
        assert_eq!(decide(here, &[run(A, 0, 600), run(B, 200, 300)]), Decision::Stays);
    }

    impl Decision {
        fn later(self, ms: i64) -> Self {
            match self {
                Self::Moves(to) => Self::Moves(Place { from_ms: to.from_ms + ms, ..to }),
                other => other,
            }
        }
    }

    #[test]
    fn a_pause_begins_no_run_and_ends_none() {
        let frame = |instant_ms, state| Look { instant_ms, state: Some(state), interval_ms: 15_000, first: false };
        assert_eq!(look(B, None, frame(10, PAUSED)), None, "incoming");
        let begun = look(B, None, frame(20, RUNNING)).expect("it runs");
        assert_eq!((begun.arrived_ms, begun.ran_ms), (20, 20));
        let paused = look(B, Some(begun), frame(30, PAUSED)).expect("it is still there");
        assert_eq!((paused.arrived_ms, paused.ran_ms), (20, 30));
        assert_eq!(look(B, Some(paused), frame(40, 5)), None, "shut off");
        assert_eq!(look(B, Some(paused), frame(25, 5)), Some(paused), "an older frame tells nothing");
        let back = look(B, Some(paused), frame(60_000, RUNNING)).expect("it runs");
        assert_eq!(back.arrived_ms, 60_000, "over a gap it may have been elsewhere");
        let found = look(B, None, Look { first: true, ..frame(20, RUNNING) }).expect("it runs");
        assert!(found.arrived_ms < 0, "nobody knows since when");
    }

    #[test]
    fn events_tell_it_to_the_second() {
        let event = |at_ms: i64, name: &str| Happened { at_ms, name: name.to_owned(), detail: String::new() };
        let there =
            [event(1_000, "domain.migrated_in"), event(97_000, "domain.started"), event(99_500, "domain.migrated_in")];
        let left = [event(99_400, "domain.stopped")];
        assert_eq!(arrived(104_000, 15_000, &there, &left), 99_500);
        assert_eq!(arrived(104_000, 15_000, &[], &left), 99_400);
        assert_eq!(arrived(104_000, 15_000, &[], &[]), 104_000);
        // While nothing came from there it left; or it stopped, and was started there much later.
        assert_eq!(arrived(4_000_000, 15_000, &[], &left), 4_000_000);
        let migrated = Happened { detail: "migrated".to_owned(), ..left[0].clone() };
        assert_eq!(arrived(4_000_000, 15_000, &[], std::slice::from_ref(&migrated)), 99_400);
        let again = [event(200_000, "domain.started"), migrated];
        assert_eq!(arrived(4_000_000, 15_000, &[], &again), 4_000_000, "it came back, and went unseen");
        let booted = [event(3_999_000, "domain.started")];
        assert_eq!(arrived(4_000_000, 15_000, &booted, &again[1..]), 3_999_000, "it was elsewhere in between");
    }

    proptest! {
        /// Whatever hosts say in whatever order: places follow each other, and times do not overlap.
        #[test]
        fn it_is_never_in_two_places_at_once(
            seen in proptest::collection::vec((1i64..4, 0i64..40, 0i64..8), 1..120)
        ) {
            let mut places = vec![place(A, 0)];
            let mut runs: Vec<Run> = Vec::new();
            let mut now_ms = 0;
            for (source, after_s, state) in seen {
                now_ms += after_s * SECOND;
                let source = SourceId(source);
                let known = runs.iter().position(|run| run.source == source).map(|at| runs.swap_remove(at));
                let seen = Look { instant_ms: now_ms, state: Some(state), interval_ms: 15_000, first: state == 7 };
                runs.extend(look(source, known, seen));
                let here = *places.last().expect("the first one");
                match decide(here, &runs) {
                    Decision::Moves(to) => {
                        prop_assert!(to.source != here.source && to.from_ms > here.from_ms);
                        places.push(to);
                    }
                    Decision::Conflict(with) => prop_assert!(with != here.source),
                    Decision::Stays => {}
                }
            }
            let stays: Vec<_> = stays(&places).collect();
            for two in stays.windows(2) {
                prop_assert!(two[0].1 < two[0].2 && two[0].2 == two[1].1);
            }
        }
    }
}
