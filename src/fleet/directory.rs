//! All agents in memory: who they are, their certificates, and the stream each holds. The path of a
//! record asks nothing else, and never the database.
//!
//! What must hold: of one agent at most one stream is live. A second one replaces the first if it
//! comes from the same machine and boot; otherwise the first is asked for a sign of life, and only
//! if it gives none the second takes its place. So a rebooted machine comes in while its old
//! connection has not been missed yet, and a clone does not.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use futures_util::task::AtomicWaker;
use tongtu_protocol::reason::Reason;
use tongtu_protocol::v1;

use super::authority::Serial;
use super::store::AgentRow;
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, EnrolmentTokenId};

/// Stands for "none" in the atomics.
const NEVER: i64 = i64::MIN;

/// One agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) id: AgentId,
    pub(super) enrolled_ms: UnixMs,
    details: Mutex<Details>,
    last_report_ms: AtomicI64,
    /// What the database says of it.
    stored_report_ms: AtomicI64,
    clock_offset_ms: AtomicI64,
    cloned_ms: AtomicI64,
    /// The certificate given last since control started; locked while one is made.
    pub(super) given: tokio::sync::Mutex<Option<Given>>,
}

/// A certificate as it was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given {
    pub(super) at_ms: UnixMs,
    /// Hash of its key.
    pub(super) key: [u8; 32],
    pub(super) certificate: Certificate,
}

/// What changes seldom.
#[derive(Debug)]
pub(super) struct Details {
    pub(super) kind: String,
    pub(super) machine_id: String,
    pub(super) hostname: String,
    pub(super) version: String,
    /// 0 until its first hello.
    pub(super) protocol: u32,
    /// 0 until its first hello.
    pub(super) interval_ms: u32,
    pub(super) revoked_ms: Option<UnixMs>,
    /// The token and the hash of the key.
    pub(super) enrolled_with: (EnrolmentTokenId, [u8; 32]),
    /// Oldest first.
    pub(super) certificates: Vec<Certificate>,
    pub(super) live: Option<Arc<Live>>,
    /// The database does not know yet.
    pub(super) changed: bool,
}

/// A certificate that was given to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) serial: Serial,
    pub(super) not_after_ms: UnixMs,
}

/// A stream that said hello, as others see it.
#[derive(Debug)]
pub(super) struct Live {
    machine_id: String,
    boot_id: String,
    /// When it said hello.
    since_ms: UnixMs,
    /// Messages that came.
    heard: AtomicU32,
    /// 0: none; 1: ping; else 2 + the index of the reason to end with.
    order: AtomicU8,
    /// There is a newer configuration.
    configure: AtomicBool,
    waker: AtomicWaker,
}

/// What another asks of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Ask the agent for a sign of life.
    Ping,
    /// End with this reason.
    End(Reason),
}

impl Live {
    fn of(hello: &v1::Hello, since_ms: UnixMs) -> Self {
        Self {
            machine_id: hello.machine_id.clone(),
            boot_id: hello.boot_id.clone(),
            since_ms,
            heard: AtomicU32::new(0),
            order: AtomicU8::new(0),
            configure: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    fn is_same(&self, hello: &v1::Hello) -> bool {
        self.machine_id == hello.machine_id && self.boot_id == hello.boot_id
    }

    /// A message came.
    pub(super) fn hear(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    fn order(&self, order: Order) {
        let code = match order {
            Order::Ping => 1,
            Order::End(reason) => {
                let index = Reason::ALL.iter().position(|each| *each == reason).expect("all reasons are listed");
                2 + index as u8
            }
        };
        // An end is never taken back.
        self.order.fetch_max(code, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the agent is to be told the configuration; asked after [`Self::take_order`].
    pub(super) fn take_configure(&self) -> bool {
        // Every message of the stream asks; the swap is for the few that find something.
        self.configure.load(Ordering::Acquire) && self.configure.swap(false, Ordering::Acquire)
    }

    /// Takes what another asked, and wakes this task when another asks next.
    pub(super) fn take_order(&self, cx: &std::task::Context<'_>) -> Option<Order> {
        self.waker.register(cx.waker());
        // As above.
        if self.order.load(Ordering::Acquire) == 0 {
            return None;
        }
        match self.order.swap(0, Ordering::Acquire) {
            0 => None,
            1 => Some(Order::Ping),
            code => Some(Order::End(Reason::ALL[code as usize - 2])),
        }
    }
}

/// Whether a stream may begin.
#[derive(Debug)]
pub(super) enum Admission {
    /// It is the live one now.
    Live(Arc<Live>),
    /// Another machine or boot holds a stream, and was asked for a sign of life: come again with this.
    Challenge(Rival),
    /// It may not.
    Refused(Reason),
}

/// The stream in the way, and what had been heard of it when it was asked.
#[derive(Debug)]
pub(super) struct Rival {
    live: Arc<Live>,
    heard: u32,
}

impl Agent {
    pub(super) fn new(row: AgentRow) -> Self {
        Self {
            id: row.id,
            enrolled_ms: row.enrolled_ms,
            details: Mutex::new(row.details),
            last_report_ms: AtomicI64::new(row.last_report_ms.unwrap_or(NEVER)),
            stored_report_ms: AtomicI64::new(row.last_report_ms.unwrap_or(NEVER)),
            clock_offset_ms: AtomicI64::new(row.clock_offset_ms.unwrap_or(NEVER)),
            cloned_ms: AtomicI64::new(row.cloned_ms.unwrap_or(NEVER)),
            given: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn details(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn last_report_ms(&self) -> Option<UnixMs> {
        some(&self.last_report_ms)
    }

    pub(super) fn clock_offset_ms(&self) -> Option<i64> {
        some(&self.clock_offset_ms)
    }

    pub(super) fn cloned_ms(&self) -> Option<UnixMs> {
        some(&self.cloned_ms)
    }

    /// A record came.
    pub(super) fn report(&self, now_ms: UnixMs) {
        self.last_report_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Whether a record came over a stream that began then or later, so from a process that was started then or later.
    pub(super) fn has_reported_anew(&self, from_ms: UnixMs) -> bool {
        let began_ms = self.details().live.as_ref().map(|live| live.since_ms);
        began_ms.is_some_and(|began_ms| began_ms >= from_ms && self.last_report_ms() >= Some(began_ms))
    }

    pub(super) fn set_clock_offset(&self, offset_ms: i64) {
        self.clock_offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    /// The last report, if the database should be told: it knows none or one older than `age_ms`.
    pub(super) fn unstored_report(&self, age_ms: i64) -> Option<UnixMs> {
        let last = self.last_report_ms()?;
        let stored = self.stored_report_ms.load(Ordering::Relaxed);
        (last.saturating_sub(stored) > age_ms).then_some(last)
    }

    pub(super) fn stored_report(&self, report_ms: UnixMs) {
        self.stored_report_ms.store(report_ms, Ordering::Relaxed);
    }

    /// Whether a stream that said `hello` may begin; `rival` is what an earlier challenge gave.
    pub(super) fn admit(&self, hello: &v1::Hello, rival: Option<&Rival>, now_ms: UnixMs) -> Admission {
        let mut guard = self.details();
        let details = &mut *guard;
        if details.revoked_ms.is_some() {
            return Admission::Refused(Reason::Revoked);
        }
        if let Some(live) = &details.live
            && !live.is_same(hello)
        {
            let heard = live.heard.load(Ordering::Relaxed);
            match rival {
                Some(rival) if Arc::ptr_eq(&rival.live, live) => {
                    if rival.heard != heard {
                        self.cloned_ms.store(now_ms, Ordering::Relaxed);
                        details.changed = true;
                        return Admission::Refused(Reason::Cloned);
                    }
                }
                _ => {
                    live.order(Order::Ping);
                    return Admission::Challenge(Rival { live: live.clone(), heard });
                }
            }
        }
        if let Some(old) = details.live.take() {
            old.order(Order::End(Reason::Replaced));
        }
        let live = Arc::new(Live::of(hello, now_ms));
        details.live = Some(live.clone());
        details.hear(hello);
        Admission::Live(live)
    }

    /// A stream ended.
    pub(super) fn leave(&self, live: &Arc<Live>) {
        let mut details = self.details();
        if details.live.as_ref().is_some_and(|held| Arc::ptr_eq(held, live)) {
            details.live = None;
        }
    }

    /// Tells the live stream, if there is one, that there is a newer configuration.
    pub(super) fn configure(&self) {
        if let Some(live) = &self.details().live {
            live.configure.store(true, Ordering::Release);
            live.waker.wake();
        }
    }

    /// Takes over the interval of the agent's own frames, which may change while a stream lasts.
    pub(super) fn hear_interval(&self, define: &v1::Define) {
        if define.sources.is_empty() {
            return;
        }
        let mut details = self.details();
        // Of an agent of something else than its machine it is the node: `libvirt_node` of `libvirt`.
        let is_own = |source: &&v1::Source| match source.kind.strip_prefix(details.kind.as_str()) {
            Some("") => source.key == details.machine_id,
            suffix => suffix == Some("_node"),
        };
        let own = define.sources.iter().rfind(is_own);
        if let Some(source) = own
            && source.interval_ms != 0
            && source.interval_ms != details.interval_ms
        {
            details.interval_ms = source.interval_ms;
            details.changed = true;
        }
    }

    /// Ends the live stream, if there is one.
    pub(super) fn end(&self, reason: Reason) {
        if let Some(live) = &self.details().live {
            live.order(Order::End(reason));
        }
    }
}

impl Details {
    /// Takes over what a hello says of the agent.
    fn hear(&mut self, hello: &v1::Hello) {
        let said = (&hello.machine_id, &hello.hostname, &hello.agent_version, hello.protocol, hello.interval_ms);
        if said == (&self.machine_id, &self.hostname, &self.version, self.protocol, self.interval_ms) {
            return;
        }
        self.machine_id.clone_from(&hello.machine_id);
        self.hostname.clone_from(&hello.hostname);
        self.version.clone_from(&hello.agent_version);
        self.protocol = hello.protocol;
        self.interval_ms = hello.interval_ms;
        self.changed = true;
    }
}

fn some(value: &AtomicI64) -> Option<i64> {
    Some(value.load(Ordering::Relaxed)).filter(|value| *value != NEVER)
}

/// Every agent.
#[derive(Debug, Default)]
pub(super) struct Directory(RwLock<Index>);

#[derive(Debug, Default)]
struct Index {
    by_id: BTreeMap<AgentId, Arc<Agent>>,
    /// By the hash of the key it enrolled with.
    by_key: HashMap<[u8; 32], Vec<AgentId>>,
}

impl Directory {
    /// Takes an agent in. One that is there stays: it may hold a stream.
    pub(super) fn insert(&self, agent: Agent) {
        let key = agent.details().enrolled_with.1;
        let mut index = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if index.by_id.contains_key(&agent.id) {
            return;
        }
        index.by_key.entry(key).or_default().push(agent.id);
        index.by_id.insert(agent.id, Arc::new(agent));
    }

    /// Whether an agent enrolled with the key of this hash.
    pub(super) fn knows(&self, key: [u8; 32]) -> bool {
        self.read().by_key.contains_key(&key)
    }

    pub(super) fn get(&self, id: AgentId) -> Option<Arc<Agent>> {
        self.read().by_id.get(&id).cloned()
    }

    /// All of them, in order of ids.
    pub(super) fn all(&self) -> Vec<Arc<Agent>> {
        self.read().by_id.values().cloned().collect()
    }

    /// The living agent that a machine got by one token for one key, if it did.
    pub(super) fn enrolled_before(
        &self,
        enrolled_with: (EnrolmentTokenId, [u8; 32]),
        machine_id: &str,
    ) -> Option<Arc<Agent>> {
        let index = self.read();
        let ids = index.by_key.get(&enrolled_with.1)?;
        ids.iter().filter_map(|id| index.by_id.get(id)).find_map(|agent| {
            let details = agent.details();
            let same = details.enrolled_with == enrolled_with
                && details.machine_id == machine_id
                && details.revoked_ms.is_none();
            same.then(|| agent.clone())
        })
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Agent {
        Agent::new(AgentRow {
            id: AgentId(1),
            enrolled_ms: 0,
            details: Details {
                kind: "host".to_owned(),
                machine_id: "m".to_owned(),
                hostname: "h".to_owned(),
                version: "1".to_owned(),
                protocol: 1,
                interval_ms: 15_000,
                revoked_ms: None,
                enrolled_with: (EnrolmentTokenId(1), [0; 32]),
                certificates: Vec::new(),
                live: None,
                changed: false,
            },
            last_report_ms: None,
            clock_offset_ms: None,
            cloned_ms: None,
        })
    }

    fn hello(machine: &str, boot: &str) -> v1::Hello {
        v1::Hello {
            machine_id: machine.to_owned(),
            boot_id: boot.to_owned(),
            hostname: "h".to_owned(),
            agent_version: "1".to_owned(),
            protocol: 1,
            interval_ms: 15_000,
            ..Default::default()
        }
    }

    fn taken(live: &Live) -> Option<Order> {
        live.take_order(&std::task::Context::from_waker(std::task::Waker::noop()))
    }

    fn live(admission: Admission) -> Arc<Live> {
        match admission {
            Admission::Live(live) => live,
            other => panic!("expected a live stream, got {other:?}"),
        }
    }

    fn rival(admission: Admission) -> Rival {
        match admission {
            Admission::Challenge(rival) => rival,
            other => panic!("expected a challenge, got {other:?}"),
        }
    }

    #[test]
    fn the_same_machine_and_boot_replaces_its_stream() {
        let agent = agent();
        let first = live(agent.admit(&hello("m", "b"), None, 0));
        let second = live(agent.admit(&hello("m", "b"), None, 0));
        assert_eq!(taken(&first), Some(Order::End(Reason::Replaced)));
        assert_eq!(taken(&second), None);
        // The old one's end does not take the new one away.
        agent.leave(&first);
        assert!(agent.details().live.is_some());
        agent.leave(&second);
        assert!(agent.details().live.is_none());
        assert!(!agent.details().changed, "nothing new was said");
    }

    #[test]
    fn what_came_over_an_earlier_stream_is_of_the_process_before() {
        let agent = agent();
        let _before = live(agent.admit(&hello("m", "b"), None, 10));
        assert!(!agent.has_reported_anew(10), "nothing came");
        agent.report(30);
        assert!(agent.has_reported_anew(10) && !agent.has_reported_anew(20));
        let _after = live(agent.admit(&hello("m", "b"), None, 40));
        assert!(!agent.has_reported_anew(20));
        agent.report(50);
        assert!(agent.has_reported_anew(20));
    }

    #[test]
    fn a_clone_is_refused_while_the_first_lives() {
        let agent = agent();
        let first = live(agent.admit(&hello("m", "b"), None, 0));
        let challenge = rival(agent.admit(&hello("m", "clone"), None, 0));
        assert_eq!(taken(&first), Some(Order::Ping));
        first.hear();
        let verdict = agent.admit(&hello("m", "clone"), Some(&challenge), 7);
        assert!(matches!(verdict, Admission::Refused(Reason::Cloned)), "{verdict:?}");
        assert_eq!(agent.cloned_ms(), Some(7));
        assert_eq!(taken(&first), None, "the first goes on");
    }

    #[test]
    fn a_rebooted_machine_takes_the_place_of_its_dead_stream() {
        let agent = agent();
        let dead = live(agent.admit(&hello("m", "before"), None, 0));
        let challenge = rival(agent.admit(&hello("m", "after"), None, 0));
        live(agent.admit(&hello("m", "after"), Some(&challenge), 5));
        assert_eq!(taken(&dead), Some(Order::End(Reason::Replaced)), "an end outweighs a ping");
        assert_eq!(agent.cloned_ms(), None);
    }

    #[test]
    fn a_rival_that_changed_is_challenged_anew() {
        let agent = agent();
        let _first = live(agent.admit(&hello("m", "1"), None, 0));
        let challenge = rival(agent.admit(&hello("m", "2"), None, 0));
        let _other = live(agent.admit(&hello("m", "1"), None, 0));
        rival(agent.admit(&hello("m", "2"), Some(&challenge), 0));
    }

    #[test]
    fn a_revoked_agent_is_refused() {
        let agent = agent();
        agent.details().revoked_ms = Some(1);
        assert!(matches!(agent.admit(&hello("m", "b"), None, 0), Admission::Refused(Reason::Revoked)));
    }
}
