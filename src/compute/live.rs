//! What changes, told to everybody who has a dashboard open (server-sent events).
//!
//! Two hundred dashboards cost little because nothing is made for one of them alone: for each
//! organisation what changed is rendered once in a tick, and every stream is handed the same bytes.
//! A stream holds no state: who was away asks for the lists again. What changes after a stream was opened
//! is told, so a list that is asked for after it misses nothing.
//!
//! | event | data |
//! |---|---|
//! | `overview` | an overview, as `/api/v1/overview` answers |
//! | `hosts` | `{"total", "columns", "rows"}`: hosts that changed, figures with seven digits; another `total` than one knows: ask for the list |
//! | `agents` | `{"total", "columns", "rows"}`: agents whose state or connection changed |
//! | `reset` | something was left out for a slow reader: ask for the lists again |
//! | `alive` | `{}`: nothing else was to be told. Some event comes every 14 seconds; after three times that the connection is dead |

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::sync::Notify;
use tokio::sync::broadcast::{self, error::RecvError};

use super::Compute;
use super::board::Board;
use super::host_line::HostLine;
use crate::access::capability::{AgentsRead, MeasurementsRead};
use crate::access::{Actor, Permit, Principal};
use crate::fleet::state::AgentState;
use crate::platform::http::Problem;
use crate::platform::ids::{AgentId, OrganizationId};
use crate::platform::shutdown::Shutdown;

/// Between two ticks.
const TICK: Duration = Duration::from_secs(2);
/// An overview is made every so many ticks.
const OVERVIEW_TICKS: u64 = 3;
/// A stream that has nothing to tell says so every so many ticks, so that a dead one is noticed, at both ends.
const SILENT_TICKS: u64 = 7;
/// A reader may be so many ticks behind.
const BEHIND: usize = 8;
/// Streams that are open at once.
const STREAMS: usize = 2_000;
/// Streams of one session or token, so that nobody takes all.
const STREAMS_OF_ONE: usize = 20;

/// The columns of a row of `hosts`.
const HOST_COLUMNS: &str = r#"["id","state","last_report_ms","cpu_usage_percent","load_1m","memory_available_bytes","network_receive_bytes_per_second","network_transmit_bytes_per_second","filesystem_fullest_percent"]"#;
/// The columns of a row of `agents`.
const AGENT_COLUMNS: &str = r#"["id","state","connected"]"#;

/// What a stream tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Topics {
    pub overview: bool,
    pub hosts: bool,
    pub agents: bool,
}

/// What a tick tells: the same bytes for all who want the same of it.
#[derive(Debug, Default)]
struct Tick {
    number: u64,
    overview: Option<String>,
    hosts: Option<String>,
    agents: Option<String>,
    joined: [OnceLock<Bytes>; 8],
}

/// Everybody who listens.
#[derive(Debug, Default)]
pub(super) struct Hub {
    listeners: Arc<Mutex<Listeners>>,
    /// Somebody came.
    joined: Notify,
}

#[derive(Debug, Default)]
struct Listeners {
    closed: bool,
    /// By organisation, and whether agents are seen.
    scopes: HashMap<(OrganizationId, bool), Scope>,
    /// Open streams of each who listens.
    open: HashMap<Actor, usize>,
}

/// The place of an open stream; it is free again with this.
#[derive(Debug)]
struct Place(Arc<Mutex<Listeners>>, Actor);

impl Drop for Place {
    fn drop(&mut self) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = listeners.open.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                listeners.open.remove(&self.1);
            }
        }
    }
}

#[derive(Debug)]
struct Scope {
    sender: broadcast::Sender<Arc<Tick>>,
    hosts: Arc<Permit<MeasurementsRead>>,
    agents: Option<Arc<Permit<AgentsRead>>>,
    told: Told,
}

/// What was told of last; of a new scope what was so when it was made.
#[derive(Debug, Default)]
struct Told {
    tick: u64,
    /// Of the board.
    version: u64,
    hosts: usize,
    agents: AgentsNow,
}

/// How each agent is, and whether it holds a stream.
type AgentsNow = HashMap<AgentId, (AgentState, bool)>;

/// Why nobody is told anything more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LiveError {
    /// Control ends.
    #[error("control is stopping")]
    Stopping,
    /// Too many listen.
    #[error("{STREAMS} streams are open, which is as many as there may be")]
    Streams,
    /// Too many of one.
    #[error("{STREAMS_OF_ONE} streams of this session or token are open, which is as many as one may have; close one")]
    StreamsOfOne,
}

impl From<LiveError> for Problem {
    fn from(error: LiveError) -> Self {
        let problem = match error {
            LiveError::Stopping | LiveError::Streams => Self::unavailable(error.to_string()),
            LiveError::StreamsOfOne => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", error.to_string()).retry_after(10)
            }
        };
        problem.chinese(match error {
            LiveError::Stopping => "服务正在停止".to_owned(),
            LiveError::Streams => format!("实时连接已达到上限 {STREAMS} 个，请稍后重试"),
            LiveError::StreamsOfOne => {
                format!("同一会话或令牌最多可同时打开 {STREAMS_OF_ONE} 个实时连接，请先关闭其中一个")
            }
        })
    }
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_silent(&self) -> bool {
        self.lock().scopes.is_empty()
    }

    fn listen(
        &self,
        hosts: Permit<MeasurementsRead>,
        agents: Option<Permit<AgentsRead>>,
        now: impl FnOnce(&Permit<MeasurementsRead>, Option<&Permit<AgentsRead>>) -> Told,
    ) -> Result<(broadcast::Receiver<Arc<Tick>>, Place), LiveError> {
        let actor = hosts.actor();
        let mut listeners = self.lock();
        if listeners.closed {
            return Err(LiveError::Stopping);
        }
        if listeners.open.values().sum::<usize>() >= STREAMS {
            return Err(LiveError::Streams);
        }
        let of_one = listeners.open.entry(actor).or_default();
        if *of_one >= STREAMS_OF_ONE {
            return Err(LiveError::StreamsOfOne);
        }
        *of_one += 1;
        let key = (hosts.organization(), agents.is_some());
        // Under the lock: those who come at once do not all look.
        let scope = listeners.scopes.entry(key).or_insert_with(|| Scope {
            sender: broadcast::Sender::new(BEHIND),
            told: now(&hosts, agents.as_ref()),
            hosts: Arc::new(hosts),
            agents: agents.map(Arc::new),
        });
        let listening = (scope.sender.subscribe(), Place(Arc::clone(&self.listeners), actor));
        drop(listeners);
        self.joined.notify_one();
        Ok(listening)
    }
}

impl Compute {
    /// Tells everybody what changed, until the shutdown.
    pub async fn keep_live(self, shutdown: Shutdown) {
        let mut told = std::pin::pin!(shutdown.triggered());
        loop {
            // As long as nobody listens, nothing is done.
            let silent = self.0.hub.is_silent();
            tokio::select! {
                () = self.0.hub.joined.notified(), if silent => {}
                () = tokio::time::sleep(TICK), if !silent => self.tick(),
                () = &mut told => {
                    let mut listeners = self.0.hub.lock();
                    listeners.closed = true;
                    // The streams end with their senders.
                    listeners.scopes.clear();
                    return;
                }
            }
        }
    }

    /// One tick: for each organisation that somebody listens for.
    pub(super) fn tick(&self) {
        let scopes: Vec<_> = {
            let mut listeners = self.0.hub.lock();
            listeners.scopes.retain(|_, scope| scope.sender.receiver_count() > 0);
            let each = listeners.scopes.iter_mut().map(|(key, scope)| {
                let told = std::mem::take(&mut scope.told);
                (*key, scope.sender.clone(), Arc::clone(&scope.hosts), scope.agents.clone(), told)
            });
            each.collect()
        };
        // Without the lock: nobody who comes or goes waits for a rendering.
        for (key, sender, hosts, agents, mut told) in scopes {
            let tick = self.render(&hosts, agents.as_deref(), &mut told);
            let _ = sender.send(Arc::new(tick));
            if let Some(scope) = self.0.hub.lock().scopes.get_mut(&key) {
                scope.told = told;
            }
        }
    }

    /// What is so now.
    fn told_now(&self, hosts: &Permit<MeasurementsRead>, agents: Option<&Permit<AgentsRead>>) -> Told {
        let (version, hosts) = self.look(hosts, |board: &Board<HostLine>| (board.version, board.rows.len()));
        let agents = agents.map(|permit| self.agents_now(permit)).unwrap_or_default();
        Told { tick: 0, version, hosts, agents }
    }

    fn agents_now(&self, permit: &Permit<AgentsRead>) -> AgentsNow {
        self.0.fleet.agent_states(permit).map(|(id, state, connected)| (id, (state, connected))).collect()
    }

    fn render(&self, hosts: &Permit<MeasurementsRead>, agents: Option<&Permit<AgentsRead>>, told: &mut Told) -> Tick {
        told.tick += 1;
        let mut tick = Tick { number: told.tick, ..Tick::default() };
        self.look(hosts, |board: &Board<HostLine>| {
            let since = std::mem::replace(&mut told.version, board.version);
            let changed = board.rows.iter().filter(|row| row.changed > since);
            let mut rows = String::new();
            changed.for_each(|row| host_row(row, &mut rows));
            let total = board.rows.len();
            if !rows.is_empty() || total != told.hosts {
                tick.hosts = Some(event("hosts", total, HOST_COLUMNS, &rows));
            }
            told.hosts = total;
        });
        if let Some(permit) = agents {
            let now = self.agents_now(permit);
            let mut rows = String::new();
            let mut changed: Vec<_> = now.iter().filter(|(id, state)| told.agents.get(id) != Some(state)).collect();
            changed.sort_unstable_by_key(|(id, _)| **id);
            for (id, (state, connected)) in changed {
                let _ = write!(rows, ",[\"{id}\",\"{}\",{connected}]", state.as_str());
            }
            if !rows.is_empty() || told.agents.len() != now.len() {
                tick.agents = Some(event("agents", now.len(), AGENT_COLUMNS, &rows));
            }
            told.agents = now;
        }
        if told.tick % OVERVIEW_TICKS == 1 {
            tick.overview = Some(format!("event: overview\ndata: {}\n\n", self.overview(hosts, agents)));
        }
        tick
    }

    /// A stream of what changes, for as long as the principal is let in.
    pub(super) fn listen(
        &self,
        principal: &Principal,
        hosts: Permit<MeasurementsRead>,
        agents: Option<Permit<AgentsRead>>,
        topics: Topics,
    ) -> Result<impl Stream<Item = Result<Bytes, std::convert::Infallible>> + use<>, LiveError> {
        // Whoever comes is not left waiting for the next tick.
        let first = if topics.overview {
            format!("event: overview\ndata: {}\n\n", self.overview(&hosts, agents.as_ref()))
        } else {
            ": listening\n\n".to_owned()
        };
        let (receiver, place) = self.0.hub.listen(hosts, agents, |hosts, agents| self.told_now(hosts, agents))?;
        let listener = Listener { compute: self.clone(), principal: *principal, topics, receiver, _place: place };
        Ok(stream::unfold((Some(first), listener), |(first, mut listener)| async move {
            let bytes = match first {
                Some(first) => Bytes::from(first),
                None => listener.next().await?,
            };
            Some((Ok(bytes), (None, listener)))
        }))
    }
}

#[derive(Debug)]
struct Listener {
    compute: Compute,
    principal: Principal,
    topics: Topics,
    receiver: broadcast::Receiver<Arc<Tick>>,
    _place: Place,
}

impl Listener {
    /// `None`: it is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let tick = match self.receiver.recv().await {
                Ok(tick) => tick,
                Err(RecvError::Lagged(_)) => return Some(Bytes::from_static(b"event: reset\ndata: {}\n\n")),
                Err(RecvError::Closed) => return None,
            };
            if !self.compute.0.access.is_let_in(&self.principal) {
                return None;
            }
            let bytes = tick.bytes(self.topics);
            if !bytes.is_empty() {
                return Some(bytes);
            }
            if tick.number % SILENT_TICKS == 0 {
                return Some(Bytes::from_static(b"event: alive\ndata: {}\n\n"));
            }
        }
    }
}

impl Tick {
    fn bytes(&self, topics: Topics) -> Bytes {
        let wanted = [(topics.overview, &self.overview), (topics.hosts, &self.hosts), (topics.agents, &self.agents)];
        let number = wanted.iter().enumerate().map(|(place, (wanted, _))| usize::from(*wanted) << place).sum::<usize>();
        let join = || -> Bytes {
            let parts = wanted.iter().filter(|(wanted, _)| *wanted).filter_map(|(_, part)| part.as_deref());
            parts.collect::<Vec<_>>().concat().into()
        };
        self.joined[number].get_or_init(join).clone()
    }
}

/// `rows` begin with a comma each.
fn event(name: &str, total: usize, columns: &str, rows: &str) -> String {
    let rows = rows.strip_prefix(',').unwrap_or(rows);
    format!("event: {name}\ndata: {{\"total\":{total},\"columns\":{columns},\"rows\":[{rows}]}}\n\n")
}

fn host_row(row: &HostLine, out: &mut String) {
    let host = &row.shown;
    let figure = |out: &mut String, value: Option<f64>| {
        let _ = match value {
            // Seven digits: what is live is looked at, not reckoned with.
            Some(value) if value.is_finite() => write!(out, ",{}", value as f32),
            _ => write!(out, ",null"),
        };
    };
    let _ = write!(out, ",[\"{}\",\"{}\"", host.id, host.state.as_str());
    let _ = match host.last_report_ms {
        Some(ms) => write!(out, ",{ms}"),
        None => write!(out, ",null"),
    };
    figure(out, host.cpu_usage_percent);
    figure(out, host.load_1m);
    figure(out, host.memory_available_bytes.map(|bytes| bytes as f64));
    figure(out, host.network_receive_bytes_per_second);
    figure(out, host.network_transmit_bytes_per_second);
    figure(out, host.filesystem_fullest_percent);
    out.push(']');
}
