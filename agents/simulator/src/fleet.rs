//! Plays a fleet: enrols its agents, runs a session for each, and waits for the last acknowledgements.

use crate::duration::Span;
use crate::enrol::{self, Enrolled};
use crate::figures::{Figures, Summary};
use crate::host::{Host, Random};
use crate::hypervisor::{self, Domain};
use crate::log::AcknowledgementLog;
use crate::machine::{Plan, Size};
use crate::pattern::{Pattern, Week};
use crate::queue::{self, Beginning, Boot, FrameQueue, Shared, Unit, Values};
use crate::recording::{Playback, Recording, RecordingError};
use crate::scenario::{Group, Pacing, Scenario};
use crate::script::Script;
use crate::time::Time;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tongtu_agent_runtime::backoff;
use tongtu_agent_runtime::link::Link;
use tongtu_agent_runtime::queue::Agent;
use tongtu_agent_runtime::session::{Ended, Identity, SessionError, session};
use tongtu_protocol::token::Token;
use tongtu_protocol::v1;

/// Handshakes at a time.
const ENROLLING: usize = 64;
/// Attempts to enrol one agent.
const ATTEMPTS: u32 = 5;
/// For the last acknowledgements.
const LAST: Duration = Duration::from_secs(60);
/// With `saturated` and no history.
const DEFAULT_HISTORY: Duration = Duration::from_secs(86_400);
/// Between two lines on progress.
const PROGRESS: Duration = Duration::from_secs(10);
/// The longest pause before an agent connects again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What to play.
#[derive(Debug)]
pub struct Options {
    /// With a use for each agent.
    pub token: Token,
    /// How many.
    pub agents: u32,
    /// Between two frames of an agent.
    pub interval: Duration,
    /// How long frames are made.
    pub duration: Duration,
    /// What the fleet is.
    pub scenario: Scenario,
    /// Where acknowledgements are written.
    pub log: Option<PathBuf>,
}

/// Why a fleet cannot be played.
#[derive(Debug, Error)]
pub enum FleetError {
    /// The system gives no threads.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    /// A recording that cannot be played.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The log cannot be written.
    #[error("{path}: {source}")]
    Log {
        /// Which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Control takes no agent.
    #[error("agent {index} of {agents} cannot enrol: {why}")]
    Enrol {
        /// Which one.
        index: u32,
        /// Of how many.
        agents: u32,
        /// What control or the network says.
        why: String,
    },
    /// Frames that are not a whole number of milliseconds apart.
    #[error("the interval must be at least 1ms and at most 1d")]
    Interval,
}

/// Plays it to the end.
///
/// # Errors
/// A fleet that cannot begin. What happens to it later is in the summary.
pub fn play(options: Options) -> Result<Summary, FleetError> {
    if options.interval.is_zero() || options.interval > Duration::from_secs(86_400) {
        return Err(FleetError::Interval);
    }
    raise_open_files(u64::from(options.agents));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(FleetError::Runtime)?;
    runtime.block_on(run(options))
}

/// A connection is an open file, and enrolments come on top.
fn raise_open_files(agents: u64) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = agents + 512;
    if limit.current.is_some_and(|current| current < wanted) {
        let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
        if raised.is_err() && setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_err() {
            eprintln!("cannot raise the limit of open files to {wanted}: some agents may not connect");
        }
    }
}

/// What is made once for all agents that are alike.
#[derive(Default)]
struct Kinds {
    plans: HashMap<Size, Arc<Plan>>,
    weeks: HashMap<Pattern, Arc<Week>>,
    recordings: HashMap<PathBuf, Arc<Recording>>,
}

impl Kinds {
    fn of(scenario: &Scenario) -> Result<Self, RecordingError> {
        let mut kinds = Self::default();
        for group in &scenario.groups {
            if let Some(path) = &group.recording {
                kinds.recordings.insert(path.clone(), Arc::new(Recording::read(path)?));
            }
            kinds.plans.entry(group.host).or_insert_with(|| Arc::new(Plan::of(group.host)));
            kinds.weeks.entry(group.pattern).or_insert_with(|| Arc::new(Week::of(group.pattern)));
        }
        Ok(kinds)
    }
}

async fn run(options: Options) -> Result<Summary, FleetError> {
    let log_error = |source| {
        let path = options.log.as_deref().map_or(String::new(), |path| path.display().to_string());
        FleetError::Log { path, source }
    };
    let kinds = Kinds::of(&options.scenario)?;
    let log = options.log.as_deref().map(AcknowledgementLog::open).transpose().map_err(log_error)?;
    let figures = Figures::default();
    let groups = options.scenario.assign(options.agents as usize);
    let enrolled = enrol_all(&options, &groups, &figures).await?;
    eprintln!("enrolled {}", enrolled.len());

    let time = Time::start();
    let shared = Arc::new(Shared {
        figures,
        log,
        time,
        pacing: options.scenario.pacing,
        interval_ms: options.interval.as_millis() as i64,
        end_ms: AtomicI64::new(time.start_ms() + options.duration.as_millis() as i64),
    });
    let mut tasks = JoinSet::new();
    for ((index, agent), group) in (0u64..).zip(enrolled).zip(groups) {
        let player = Player::new(&options, &kinds, &shared, index, group, agent);
        tasks.spawn(player.play());
    }
    let watcher = tokio::spawn(watch(Arc::clone(&shared), u64::from(options.agents)));
    let all = async { while tasks.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        () = past_end(&shared) => {}
    }
    watcher.abort();
    let elapsed = Duration::from_millis((time.now_ms() - time.start_ms()) as u64);
    drop(tasks);
    if let Some(log) = &shared.log {
        log.close().map_err(log_error)?;
    }
    Ok(shared.figures.summary(options.agents as usize, elapsed))
}

/// The end of the run and of the patience behind it; Ctrl-C brings the end forward.
async fn past_end(shared: &Shared) {
    let remaining = |shared: &Shared| {
        let left_ms = shared.end_ms.load(Relaxed) - shared.time.now_ms();
        Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)) + LAST
    };
    if timeout(remaining(shared), tokio::signal::ctrl_c()).await.is_ok() {
        eprintln!("no more frames; waiting for the last acknowledgements (Ctrl-C again: not)");
        shared.end_ms.fetch_min(shared.time.now_ms(), Relaxed);
        tokio::select! {
            () = sleep(LAST) => {}
            () = settled(shared) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}

/// Returns when every frame made is acknowledged or refused.
async fn settled(shared: &Shared) {
    let mut ticks = interval(Duration::from_millis(50));
    loop {
        ticks.tick().await;
        if shared.figures.open() == 0 {
            return;
        }
    }
}

/// Says on stderr how it goes.
async fn watch(shared: Arc<Shared>, agents: u64) {
    let mut ticks = interval(Duration::from_millis(100));
    let (mut said_reporting, mut next) = (false, PROGRESS);
    loop {
        ticks.tick().await;
        let figures = &shared.figures;
        let samples = figures.samples_acknowledged.load(Relaxed);
        if !said_reporting && figures.reporting.load(Relaxed) == agents {
            said_reporting = true;
            figures.all_report.store(true, Relaxed);
            eprintln!("reporting: samples_acknowledged {samples}");
        }
        let elapsed = Duration::from_millis((shared.time.now_ms() - shared.time.start_ms()) as u64);
        if elapsed >= next {
            next += PROGRESS;
            let (made, acknowledged) = (figures.frames_made.load(Relaxed), figures.frames_acknowledged.load(Relaxed));
            let reporting = figures.reporting.load(Relaxed);
            eprintln!(
                "{} s: {reporting} agents report, {made} frames made, {acknowledged} acknowledged",
                elapsed.as_secs()
            );
        }
    }
}

/// A machine's id, the same for the same seed and index.
fn machine_id(seed: u64, index: u64) -> String {
    let mut random = Random::new(seed ^ 0x6d61_6368_696e_6500, index);
    format!("{:016x}{:016x}", random.next(), random.next())
}

/// The inventory of a simulated machine.
fn facts(identity: &Identity, size: Size, is_virtual: bool) -> BTreeMap<String, String> {
    let cores = size.shape().cores;
    let mut facts: BTreeMap<_, _> = [
        ("agent_version", identity.agent_version.clone()),
        ("architecture", "x86_64".to_owned()),
        ("boot_id", identity.boot_id.clone()),
        ("hostname", identity.hostname.clone()),
        ("kernel", "6.1.0-31-amd64".to_owned()),
        ("machine_id", identity.machine_id.clone()),
        ("os_id", "debian".to_owned()),
        ("os_name", "Debian GNU/Linux 12 (bookworm)".to_owned()),
        ("os_version", "12".to_owned()),
        ("cpus", cores.to_string()),
        ("memory_bytes", ((cores as u64) << 32).to_string()),
        ("virtualization", if is_virtual { "kvm" } else { "none" }.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if is_virtual {
        let id = &identity.machine_id;
        let uuid = format!("{}-{}-4{}-8{}-{}", &id[..8], &id[8..12], &id[13..16], &id[17..20], &id[20..]);
        facts.insert("hardware_uuid".to_owned(), uuid);
        facts.insert("disk.vda.size_bytes".to_owned(), ((cores as u64 * 20) << 30).to_string());
    }
    facts
}

/// As an agent that reports this group's machines names its kind.
fn kind(scenario: &Scenario, group: usize) -> &'static str {
    if scenario.groups[group].vms > 0 { "libvirt" } else { "host" }
}

fn hostname(scenario: &Scenario, group: usize, index: u64) -> String {
    format!("{}-{index:05}", scenario.groups[group].name)
}

async fn enrol_all(options: &Options, groups: &[usize], figures: &Figures) -> Result<Vec<Enrolled>, FleetError> {
    let turns = Arc::new(Semaphore::new(ENROLLING));
    let mut tasks = JoinSet::new();
    for (index, group) in (0u32..).zip(groups) {
        let (turns, token) = (Arc::clone(&turns), options.token.clone());
        let id = machine_id(options.scenario.seed, index.into());
        let name = hostname(&options.scenario, *group, index.into());
        let kind = kind(&options.scenario, *group);
        tasks.spawn(async move {
            let mut why = String::new();
            for attempt in 1..=ATTEMPTS {
                // Closed only with the program.
                let _turn = turns.acquire().await;
                match enrol::enrol(&token, kind, &id, &name).await {
                    Ok(enrolled) => return Ok((index, enrolled)),
                    Err(error) => why = error,
                }
                sleep(backoff::pause(attempt, LONGEST_PAUSE, rand::random())).await;
            }
            Err((index, why))
        });
    }
    let mut enrolled = Vec::with_capacity(groups.len());
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(Ok(one)) => {
                figures.enrolled.fetch_add(1, Relaxed);
                enrolled.push(one);
            }
            Ok(Err((index, why))) => return Err(FleetError::Enrol { index, agents: options.agents, why }),
            Err(error) => return Err(FleetError::Runtime(std::io::Error::other(error))),
        }
    }
    enrolled.sort_by_key(|(index, _)| *index);
    Ok(enrolled.into_iter().map(|(_, enrolled)| enrolled).collect())
}

/// What an agent's units are made from.
struct Made<'a> {
    kinds: &'a Kinds,
    seed: u64,
    index: u64,
    boot_ms: i64,
    first_ms: i64,
}

impl Made<'_> {
    /// What an agent of a group reports: a host, or a hypervisor with its virtual machines.
    fn units(&self, of: &Group, identity: &Identity) -> Vec<Unit> {
        let week = &self.kinds.weeks[&of.pattern];
        let machine = |plan: Arc<Plan>, number: u64| {
            let index = self.index | number << 40;
            Values::Host(Box::new(Host::new(plan, Arc::clone(week), self.seed, index, self.boot_ms, self.first_ms)))
        };
        if of.vms > 0 {
            let (machine_id, hostname) = (&identity.machine_id, &identity.hostname);
            let node = Unit {
                kind: "libvirt_node",
                key: "node".to_owned(),
                values: machine(Arc::new(hypervisor::node_plan(of.vms)), 0),
                facts: hypervisor::node_facts(machine_id, hostname, of.vms),
            };
            let domains = (0..of.vms).map(|number| {
                let domain = Domain::new(self.seed, self.index, number, hostname);
                let values = machine(Arc::new(domain.plan()), number as u64 + 1);
                Unit { kind: "libvirt_domain", facts: domain.facts(), key: domain.uuid, values }
            });
            return std::iter::once(node).chain(domains).collect();
        }
        let recording = of.recording.as_ref().and_then(|path| self.kinds.recordings.get(path));
        let playback = recording.and_then(|recording| Playback::new(Arc::clone(recording), self.index).ok());
        let values = match playback {
            Some(playback) => Values::Playback(Box::new(playback)),
            None => machine(Arc::clone(&self.kinds.plans[&of.host]), 0),
        };
        vec![Unit {
            kind: "host",
            key: identity.machine_id.clone(),
            values,
            facts: facts(identity, of.host, of.is_virtual),
        }]
    }
}

/// One agent at work.
struct Player {
    link: Link,
    identity: Identity,
    queue: FrameQueue,
    script: Script,
    shared: Arc<Shared>,
    done: Arc<Notify>,
}

impl Player {
    fn new(
        options: &Options,
        kinds: &Kinds,
        shared: &Arc<Shared>,
        index: u64,
        group: usize,
        enrolled: Enrolled,
    ) -> Self {
        let scenario = &options.scenario;
        let of = &scenario.groups[group];
        let start_ms = shared.time.start_ms();
        let history = match scenario.pacing {
            Pacing::Paced => Duration::ZERO,
            Pacing::Saturated => scenario.history.map_or(DEFAULT_HISTORY, |Span(history)| history),
            Pacing::Backlog => scenario.history.map_or(Duration::ZERO, |Span(history)| history),
        };
        let mut random = Random::new(scenario.seed, index.wrapping_add(1 << 40));
        // Agents are spread over the interval, as on real networks.
        let phase_ms = (shared.interval_ms as u64 * index / u64::from(options.agents.max(1))) as i64;
        let first_ms = start_ms - history.as_millis() as i64 + phase_ms;
        let uptime_ms = (1.0 + f64::from(random.share()) * 200.0) * 86_400_000.0;
        let machine_id = machine_id(scenario.seed, index);
        let boot = Boot { id: queue::boot_id(&machine_id, 0), at_ms: first_ms - uptime_ms as i64 };
        let script = Script::of(&of.events, scenario.seed, index, start_ms);
        let done = Arc::<Notify>::default();
        let identity = Identity {
            agent_version: crate::VERSION.to_owned(),
            kind: kind(scenario, group).to_owned(),
            machine_id: machine_id.clone(),
            boot_id: boot.id.to_string(),
            hostname: hostname(scenario, group, index),
            interval_ms: shared.interval_ms as u32,
        };
        let made = Made { kinds, seed: scenario.seed, index, boot_ms: boot.at_ms, first_ms };
        let beginning = Beginning {
            units: made.units(of, &identity),
            agent: enrolled.agent,
            epoch: rand::random(),
            boot,
            script: script.clone(),
            first_ms,
            done: Arc::clone(&done),
        };
        let queue = FrameQueue::new(Arc::clone(shared), beginning);
        Self { link: enrolled.link, identity, queue, script, shared: Arc::clone(shared), done }
    }

    async fn play(mut self) {
        let (mut failures, mut first) = (0, true);
        loop {
            self.queue.connecting();
            if self.queue.is_done() {
                return;
            }
            let now_ms = self.shared.time.now_ms();
            if let Some(until_ms) = self.script.cut_off_until(now_ms) {
                sleep(self.until(until_ms)).await;
                continue;
            }
            if !std::mem::take(&mut first) {
                self.shared.figures.reconnects.fetch_add(1, Relaxed);
            }
            self.identity.boot_id = self.queue.boot().id.to_string();
            let mut machine = Machine {
                shared: Arc::clone(&self.shared),
                step_ms: Arc::clone(&self.queue.step_ms),
                boot_at_ms: self.queue.boot().at_ms,
            };
            let cut = self.script.next_cut_ms(now_ms).map(|cut_ms| self.until(cut_ms));
            let ended = tokio::select! {
                ended = session(&self.link, &self.identity, &mut self.queue, &mut machine) => ended,
                () = sleep(cut.unwrap_or_default()), if cut.is_some() => continue,
                () = self.done.notified() => return,
            };
            tracing::debug!("{}: {}", self.identity.hostname, ended.why);
            let anew = matches!(ended.why, SessionError::NewEpoch);
            failures = if ended.healthy || anew { 1 } else { failures + 1 };
            if !anew {
                sleep(backoff::pause(failures, LONGEST_PAUSE, rand::random())).await;
            }
        }
    }

    fn until(&self, at_ms: i64) -> Duration {
        Duration::from_millis(u64::try_from(at_ms - self.shared.time.now_ms()).unwrap_or(0))
    }
}

/// What the session asks of the machine around it.
struct Machine {
    shared: Arc<Shared>,
    step_ms: Arc<AtomicI64>,
    boot_at_ms: i64,
}

impl Agent for Machine {
    async fn connection(&mut self) -> Result<(Link, Identity), SessionError> {
        // The player opens each session itself, because an outage ends them as well.
        Err(SessionError::Ended)
    }

    fn clock(&mut self) -> v1::Clock {
        let now_ms = self.shared.time.now_ms();
        v1::Clock {
            boottime_ms: u64::try_from(now_ms - self.boot_at_ms).unwrap_or(0),
            wall_ms: now_ms + self.step_ms.load(Relaxed),
            synchronised: true,
        }
    }

    fn configure(&mut self, _desired: &v1::DesiredConfiguration) {}

    fn ended(&mut self, _ended: &Ended) {}
}
