//! What libvirt tells of domains between two readings, over a connection that is made anew when it breaks. What
//! happened while it was broken is not made up.

use crate::ffi::{Failure, Watch};
use crate::hypervisor::Hypervisor;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tongtu_agent_runtime::clock;

/// Events that wait to be reported; the oldest beyond that go.
const MOST: usize = 10_000;
/// Between two looks at a connection whose end libvirt tells.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Between two looks at one whose end it does not tell. A look asks nobody.
const LOOK_OFTEN: Duration = Duration::from_secs(2);
/// Between two attempts to connect, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A connection that did not last so long is not made anew at once.
const SHORT_LIFE: Duration = Duration::from_secs(5);

/// Something that libvirt told of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) boottime_ms: u64,
    pub(crate) what: What,
}

/// What it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// libvirt's numbers; `lifecycle` knows what they mean.
    Lifecycle {
        event: i32,
        detail: i32,
    },
    /// A device, by its alias.
    DeviceAdded(String),
    DeviceRemoved(String),
    /// Title, description or metadata changed, or its guest agent came or went.
    Described,
}

/// A list that libvirt's event loop fills. Clones are the same list.
#[derive(Debug, Clone, Default)]
pub(crate) struct ToldList(Arc<Mutex<Vec<Told>>>);

impl ToldList {
    fn list(&self) -> MutexGuard<'_, Vec<Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, told: Told) {
        let mut list = self.list();
        if list.len() >= MOST {
            list.remove(0);
        }
        list.push(told);
    }

    /// What came since this was asked last.
    pub(crate) fn take(&self) -> Vec<Told> {
        std::mem::take(&mut *self.list())
    }

    /// What cannot be reported yet.
    pub(crate) fn put_back(&self, mut told: Vec<Told>) {
        let mut list = self.list();
        told.append(&mut list);
        told.drain(..told.len().saturating_sub(MOST));
        *list = told;
    }
}

/// Wakes the thread that listens. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bell(Arc<(Mutex<Rung>, Condvar)>);

#[derive(Debug, Default)]
struct Rung {
    /// Nobody wants to hear any more.
    over: bool,
    /// A connection is gone.
    closed: bool,
}

impl Bell {
    fn ring(&self, ring: impl FnOnce(&mut Rung)) {
        let (rung, changed) = &*self.0;
        ring(&mut rung.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }

    /// The connection is gone.
    pub(crate) fn closed(&self) {
        self.ring(|rung| rung.closed = true);
    }

    fn over(&self) {
        self.ring(|rung| rung.over = true);
    }

    /// Waits for it; whether it is over.
    fn wait(&self, longest: Duration) -> bool {
        let (rung, changed) = &*self.0;
        let rung = rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(rung, longest, |rung| !rung.over && !rung.closed);
        let mut rung = waited.unwrap_or_else(PoisonError::into_inner).0;
        rung.closed = false;
        rung.over
    }
}

/// Listens until it is dropped.
pub(crate) struct Events {
    pub(crate) told: ToldList,
    bell: Bell,
}

impl Events {
    /// Begins to listen to a hypervisor, in a thread of its own.
    pub(crate) fn start(hypervisor: &Hypervisor) -> std::io::Result<Self> {
        let (told, bell) = (ToldList::default(), Bell::default());
        let watch = {
            let (hypervisor, told, bell) = (hypervisor.clone(), told.clone(), bell.clone());
            move || listen(&hypervisor, &told, &bell)
        };
        std::thread::Builder::new().name("libvirt-watch".into()).spawn(watch)?;
        Ok(Self { told, bell })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.bell.over();
    }
}

fn listen(hypervisor: &Hypervisor, told: &ToldList, bell: &Bell) {
    let mut pause = Duration::ZERO;
    let mut failing = false;
    while !bell.wait(pause) {
        match hypervisor.connection().and_then(|connection| Watch::start(connection, told, bell)) {
            Ok(watch) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("libvirt's events are heard again");
                }
                let began = clock::monotonic();
                while watch.is_alive() {
                    if bell.wait(if watch.rings() { LOOK_EVERY } else { LOOK_OFTEN }) {
                        return;
                    }
                }
                tracing::warn!("the connection that listens to libvirt is gone");
                let was_short = clock::monotonic().duration_since(began) < SHORT_LIFE;
                pause = if was_short { Duration::from_secs(1) } else { Duration::ZERO };
            }
            Err(failure) => {
                note(&failure, &mut failing);
                pause = (pause * 2).clamp(Duration::from_secs(1), LONGEST_PAUSE);
            }
        }
    }
}

/// Said once.
fn note(failure: &Failure, failing: &mut bool) {
    if !std::mem::replace(failing, true) {
        tracing::warn!(reason = %failure, "libvirt's events cannot be heard");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt::connect::Connect;
    use virt::domain::Domain;

    #[test]
    fn what_a_driver_tells_is_heard_with_its_time() {
        let hypervisor = Hypervisor::at("test:///default");
        let _first = hypervisor.connection().expect("the loop is there before a connection is");
        let events = Events::start(&hypervisor).expect("a thread");
        let mut connection = Connect::open(Some("test:///default")).expect("the test driver");
        let domain = Domain::lookup_by_name(&connection, "test").expect("its domain");
        let begin_ms = clock::boottime_ms();
        let deadline = clock::monotonic() + Duration::from_secs(20);
        // It may not listen yet, and whoever opens this driver within a process shares its domains.
        let suspended = loop {
            domain.suspend().expect("it runs");
            domain.resume().expect("it was suspended");
            std::thread::park_timeout(Duration::from_millis(20));
            let mut told = events.told.take().into_iter();
            if let Some(told) = told.find(|told| told.what == What::Lifecycle { event: 3, detail: 0 }) {
                break told;
            }
            assert!(clock::monotonic() < deadline, "nothing was heard");
        };
        assert_eq!((suspended.name.as_str(), suspended.uuid.len()), ("test", 36));
        assert!((begin_ms..=clock::boottime_ms()).contains(&suspended.boottime_ms));
        drop(domain);
        let _ = connection.close();
    }

    #[test]
    fn what_cannot_be_reported_yet_stays_in_order_and_bounded() {
        let list = ToldList::default();
        let told = |boottime_ms| Told { uuid: String::new(), name: String::new(), boottime_ms, what: What::Described };
        (0..3).for_each(|at| list.push(told(at)));
        let first = list.take();
        list.push(told(3));
        list.put_back(first);
        let order = |told: Vec<Told>| told.iter().map(|told| told.boottime_ms).collect::<Vec<_>>();
        assert_eq!(order(list.take()), [0, 1, 2, 3]);
        (0..MOST as u64 + 5).for_each(|at| list.push(told(at)));
        list.put_back(vec![told(0)]);
        let kept = order(list.take());
        assert_eq!((kept.len(), kept.last()), (MOST, Some(&(MOST as u64 + 4))));
    }
}
