//! What libvirt's life-cycle events mean: their names, and what several of them say together. Pure.
//!
//! A domain that migrates in is started (`migrated`) as soon as the migration begins, and does not run here
//! before it is resumed. The same event `resumed` on the host that it leaves says that the migration failed.

use std::collections::HashMap;

const RUNNING_ELSEWHERE: &str = "migrated";

/// The names of libvirt's events, and of the details of each, in the order of their numbers.
static EVENTS: [(&str, &[&str]); 9] = [
    ("domain.defined", &["added", "updated", "renamed", "from_snapshot"]),
    ("domain.undefined", &["removed", "renamed"]),
    ("domain.started", &["booted", RUNNING_ELSEWHERE, "restored", "from_snapshot", "wakeup", "recovered"]),
    (
        "domain.suspended",
        &[
            "paused",
            RUNNING_ELSEWHERE,
            "io_error",
            "watchdog",
            "restored",
            "from_snapshot",
            "api_error",
            "postcopy",
            "postcopy_failed",
            "guest_shutdown",
        ],
    ),
    ("domain.resumed", &["unpaused", RUNNING_ELSEWHERE, "from_snapshot", "postcopy", "postcopy_failed"]),
    (
        "domain.stopped",
        &["shutdown", "destroyed", "crashed", RUNNING_ELSEWHERE, "saved", "failed", "from_snapshot", "recreated"],
    ),
    ("domain.shutdown", &["finished", "guest", "host"]),
    ("domain.pmsuspended", &["memory", "disk"]),
    ("domain.crashed", &["panicked", "crashloaded"]),
];

const STARTED: i32 = 2;
const RESUMED: i32 = 4;
const STOPPED: i32 = 5;
const DETAIL_MIGRATED: i32 = 1;
const STOPPED_FAILED: i32 = 5;

/// virDomainState, and reasons within one.
const RUNNING: i64 = 1;
const BLOCKED: i64 = 2;
const PAUSED: i64 = 3;
const PAUSED_BY_USER: i64 = 1;
const SHUT_OFF: i64 = 5;
const SHUT_OFF_CRASHED: i64 = 3;

/// What an event means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// An event of ours, and its detail.
    Is(&'static str, &'static str),
    /// The process that ran it is gone and libvirt did not expect that; [`stopped`] tells more.
    Failed,
}

/// What goes on with the domains of one hypervisor.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    /// They are migrating in; and whether they were found running since.
    incoming: HashMap<String, bool>,
}

impl Lifecycle {
    /// An event of a domain, by libvirt's numbers. `None`: one of a libvirt to come.
    pub(crate) fn take(&mut self, uuid: &str, event: i32, detail: i32) -> Option<Meaning> {
        let (name, details) = EVENTS.get(usize::try_from(event).ok()?)?;
        let detail_name = usize::try_from(detail).ok().and_then(|at| details.get(at)).copied().unwrap_or("unknown");
        match event {
            STARTED if detail == DETAIL_MIGRATED => {
                self.incoming.insert(uuid.to_owned(), false);
            }
            STARTED => {
                self.incoming.remove(uuid);
            }
            RESUMED if self.incoming.remove(uuid).is_some() => {
                return Some(Meaning::Is("domain.migrated_in", RUNNING_ELSEWHERE));
            }
            STOPPED => {
                let incoming = self.incoming.remove(uuid).is_some();
                if detail == STOPPED_FAILED && !incoming {
                    return Some(Meaning::Failed);
                }
            }
            _ => {}
        }
        Some(Meaning::Is(name, detail_name))
    }

    /// A domain as it was found, when all events of before were taken. One that was paused before it migrated is never
    /// resumed here. Of one that is found running the resume may be told next; if it is not, it was told while nobody
    /// listened.
    pub(crate) fn find(&mut self, uuid: &str, state: Option<(i64, i64)>) -> Option<Meaning> {
        let was_running = self.incoming.get_mut(uuid)?;
        match state? {
            (RUNNING | BLOCKED, _) if !*was_running => *was_running = true,
            (RUNNING | BLOCKED, _) => {
                self.incoming.remove(uuid);
            }
            (PAUSED, PAUSED_BY_USER) => {
                self.incoming.remove(uuid);
                return Some(Meaning::Is("domain.migrated_in", RUNNING_ELSEWHERE));
            }
            _ => {}
        }
        None
    }
}

/// The detail of a stop that failed, by the state and reason in which the domain is now, if it is there.
pub(crate) fn stopped(now: Option<(i64, i64)>) -> &'static str {
    match now {
        Some((SHUT_OFF, reason)) if reason != SHUT_OFF_CRASHED => "failed",
        _ => "crashed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Meaning::{Failed, Is};

    /// What a life of (event, detail) means.
    fn life(events: &[(i32, i32)]) -> Vec<Meaning> {
        let mut lifecycle = Lifecycle::default();
        events.iter().filter_map(|(event, detail)| lifecycle.take("u", *event, *detail)).collect()
    }

    #[test]
    fn a_migration_is_told_from_a_resume_by_its_beginning() {
        let source = life(&[(3, 1), (5, 3), (1, 0)]);
        let (suspended, stopped) = (Is("domain.suspended", "migrated"), Is("domain.stopped", "migrated"));
        assert_eq!(source, [suspended, stopped, Is("domain.undefined", "removed")]);
        let target = life(&[(2, 1), (4, 1), (0, 0), (3, 0), (4, 0)]);
        assert_eq!(
            target,
            [
                Is("domain.started", "migrated"),
                Is("domain.migrated_in", "migrated"),
                Is("domain.defined", "added"),
                Is("domain.suspended", "paused"),
                Is("domain.resumed", "unpaused"),
            ]
        );
        assert_eq!(life(&[(3, 1), (4, 1)]), [suspended, Is("domain.resumed", "migrated")], "it failed");
        assert_eq!(life(&[(2, 1), (5, 5)])[1], Is("domain.stopped", "failed"), "it failed to come in");
        let mut paused = Lifecycle::default();
        paused.take("u", 2, 1);
        assert_eq!(paused.find("u", Some((3, 2))), None, "still on its way");
        assert_eq!(paused.find("u", Some((3, 1))), Some(Is("domain.migrated_in", "migrated")));
        assert_eq!(paused.find("u", Some((3, 1))), None);
    }

    #[test]
    fn a_migration_whose_end_nobody_heard_is_none_later() {
        let (migrated_in, resumed) = (Is("domain.migrated_in", "migrated"), Is("domain.resumed", "unpaused"));
        let mut missed = Lifecycle::default();
        missed.take("u", 2, 1);
        assert_eq!([(3, 2), (1, 5), (1, 5)].map(|state| missed.find("u", Some(state))), [None; 3]);
        missed.take("u", 3, 0);
        assert_eq!(missed.find("u", Some((3, 1))), None, "somebody paused it");
        assert_eq!(missed.take("u", 4, 0), Some(resumed));
        // Between its events and its state it was resumed.
        let mut late = Lifecycle::default();
        late.take("u", 2, 1);
        assert_eq!((late.find("u", Some((1, 5))), late.take("u", 4, 1)), (None, Some(migrated_in)));
        // Nothing was heard of its end either, and it was started here.
        assert_eq!(life(&[(2, 1), (2, 0), (3, 0), (4, 0)])[3], resumed);
    }

    #[test]
    fn a_stop_that_nobody_asked_for_is_a_crash() {
        assert_eq!(life(&[(2, 0), (5, 5)]), [Is("domain.started", "booted"), Failed]);
        assert_eq!(stopped(Some((5, 3))), "crashed");
        assert_eq!(stopped(None), "crashed", "a transient domain is gone with its process");
        assert_eq!(stopped(Some((1, 1))), "crashed", "it was started again meanwhile");
        assert_eq!(stopped(Some((5, 6))), "failed");
        assert_eq!(life(&[(5, 0), (5, 1), (5, 4)]).len(), 3);
    }

    #[test]
    fn what_a_later_libvirt_says_is_no_lie() {
        assert_eq!(life(&[(99, 0), (-1, 0)]), []);
        assert_eq!(life(&[(5, 77)]), [Is("domain.stopped", "unknown")]);
    }
}
