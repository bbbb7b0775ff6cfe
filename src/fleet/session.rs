//! One agent's stream: hello, welcome, then records in and answers out.
//!
//! It is one state machine, driven by whoever sends its messages over HTTP/2, and not while one of them
//! waits. So nothing is read while something cannot be written: an agent that does not take its answers
//! sends nothing either, and no queue grows. Between two messages a stream costs no task of its own and
//! no timer but one.
//!
//! What must hold: nothing of a message is kept before it was judged; every end has a reason, which
//! the agent is told, or is the agent's own doing.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tongtu_protocol::{VERSION, reason::Reason, v1};
use tonic::Status;

use super::Fleet;
use super::admission::{self, Fault};
use super::directory::{Admission, Agent, Live, Order, Rival};
use super::inbound::Inbound;
use super::peer::{Peer, PeerCertificate};
use super::refusals::Subject;
use super::sink::{ControlAnchor, Opening, Sink, SinkSession};
use crate::access::Resource;
use crate::platform::clock::UnixMs;
use v1::{to_agent::Message as ToAgent, to_control::Message as ToControl};

/// Messages read before others of this thread have their turn.
const TURN: u32 = 64;
/// Records of the backlog lane that may be unanswered.
const BACKLOG_IN_FLIGHT: u32 = 256;
/// A sign of life that took longer says nothing about a clock.
const ROUND_TRIP_MAX_MS: i64 = 10_000;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// TLS and the beginning of HTTP/2.
    pub(super) handshake: Duration,
    /// A connection without a certificate, or without a session.
    pub(super) anonymous: Duration,
    /// From the stream to its hello.
    pub(super) hello: Duration,
    /// A sign of life of the stream in the way.
    pub(super) challenge: Duration,
    /// Between two anchors.
    pub(super) ping: Duration,
    /// For an agent to make room for a message.
    pub(super) room: Duration,
    /// Silence on a connection, at the longest, before HTTP/2 asks whether the peer lives.
    pub(super) keepalive: Duration,
    /// For its answer.
    pub(super) keepalive_answer: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            anonymous: Duration::from_secs(30),
            hello: Duration::from_secs(30),
            challenge: Duration::from_secs(5),
            ping: Duration::from_secs(120),
            room: Duration::from_secs(60),
            keepalive: Duration::from_secs(90),
            keepalive_answer: Duration::from_secs(20),
        }
    }
}

/// Why a stream ends.
enum End {
    /// The agent's own doing.
    Quiet,
    /// Control's.
    Fault(Fault),
}

impl From<Reason> for End {
    fn from(reason: Reason) -> Self {
        Self::Fault(reason.into())
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

enum Phase {
    /// Waits for the hello.
    Begun,
    /// Said hello; another stream of the same agent was asked for a sign of life.
    Challenging(Box<Challenging>),
    Open(Box<Open>),
    Ended,
}

struct Challenging {
    hello: v1::Hello,
    hello_ms: UnixMs,
    rival: Rival,
}

struct Open {
    live: Arc<Live>,
    sink: Box<dyn SinkSession>,
    answers: mpsc::UnboundedReceiver<v1::Answers>,
    nonce: u64,
    /// When the ping of this nonce was sent, until its answer.
    asked_ms: Option<UnixMs>,
    /// A ping is due: it goes with the next answers, or by itself when it is due again.
    ping_due: bool,
}

/// One stream, as the messages for its agent.
pub(super) struct Session {
    fleet: Fleet,
    sink: Arc<dyn Sink>,
    peer: Peer,
    certificate: PeerCertificate,
    agent: Arc<Agent>,
    inbound: Inbound,
    phase: Phase,
    outbox: VecDeque<ToAgent>,
    timer: Pin<Box<Sleep>>,
    /// Tells the connection that it has a session.
    _held: Arc<()>,
}

impl Session {
    pub(super) fn new(
        fleet: Fleet,
        sink: Arc<dyn Sink>,
        (peer, certificate): (Peer, PeerCertificate),
        agent: Arc<Agent>,
        inbound: Inbound,
        held: Arc<()>,
    ) -> Self {
        let timer = Box::pin(tokio::time::sleep(fleet.timing.hello));
        Self {
            fleet,
            sink,
            peer,
            certificate,
            agent,
            inbound,
            phase: Phase::Begun,
            outbox: VecDeque::new(),
            timer,
            _held: held,
        }
    }

    /// The next message for the agent.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Result<ToAgent, End>> {
        let mut turn = TURN;
        loop {
            if let Phase::Open(open) = &mut self.phase {
                let order = open.live.take_order(cx);
                if open.live.take_configure() {
                    self.outbox.push_back(ToAgent::Configuration(self.fleet.desired_message()));
                }
                match order {
                    Some(Order::End(reason)) => return Poll::Ready(Err(reason.into())),
                    Some(Order::Ping) => self.ping(),
                    None => {}
                }
            }
            if let Some(message) = self.outbox.pop_front() {
                return Poll::Ready(Ok(message));
            }
            if let Phase::Open(open) = &mut self.phase
                && let Poll::Ready(answers) = open.answers.poll_recv(cx)
            {
                if std::mem::take(&mut open.ping_due) {
                    // In the same packet: a packet costs more than what is in it.
                    self.ping();
                }
                // A sink that has gone cannot take records.
                return Poll::Ready(answers.map(ToAgent::Answers).ok_or(Reason::Unavailable.into()));
            }
            let said = match self.phase {
                Phase::Challenging(_) => Poll::Pending,
                _ if turn == 0 => Poll::Pending,
                _ => self.inbound.poll_message(cx),
            };
            let Poll::Ready(said) = said else {
                // Looked at when there is nothing else to do, not with every message.
                if self.timer.as_mut().poll(cx).is_ready() {
                    self.on_time()?;
                    continue;
                }
                if turn == 0 {
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            };
            turn -= 1;
            match said {
                None => return Poll::Ready(Err(End::Quiet)),
                Some(Err(fault)) => return Poll::Ready(Err(fault.into())),
                Some(Ok(v1::ToControl { message: Some(message) })) => self.on_message(message)?,
                // Something of a later version that is no affair of this one.
                Some(Ok(v1::ToControl { message: None })) => {}
            }
        }
    }

    fn on_time(&mut self) -> Result<(), End> {
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Begun => Err(Reason::TooSlow.into()),
            Phase::Challenging(challenging) => {
                let Challenging { hello, hello_ms, rival } = *challenging;
                self.admit(hello, hello_ms, Some(&rival))
            }
            Phase::Open(mut open) => {
                let overdue = std::mem::replace(&mut open.ping_due, true);
                self.phase = Phase::Open(open);
                if self.certificate.not_after_ms <= self.fleet.clock.now_ms() {
                    return Err(Reason::CertificateExpired.into());
                }
                if overdue {
                    self.ping();
                }
                self.wait(self.fleet.timing.ping);
                Ok(())
            }
            Phase::Ended => Ok(()),
        }
    }

    fn on_message(&mut self, message: ToControl) -> Result<(), End> {
        let now_ms = self.fleet.clock.now_ms();
        let Phase::Open(open) = &mut self.phase else {
            let ToControl::Hello(hello) = message else { return Err(Reason::HelloExpected.into()) };
            admission::hello(&hello)?;
            return self.admit(hello, now_ms, None);
        };
        open.live.hear();
        match message {
            ToControl::Hello(_) => return Err(Reason::HelloExpected.into()),
            ToControl::Define(define) => {
                admission::define(&define)?;
                self.agent.hear_interval(&define);
                open.sink.define(define)?;
            }
            ToControl::Records(records) => {
                self.agent.report(now_ms);
                open.sink.records(records);
            }
            ToControl::Lost(lost) => open.sink.lost(lost),
            ToControl::Pong(pong) => {
                if pong.nonce == open.nonce
                    && let Some(asked_ms) = open.asked_ms.take()
                    && let Some(clock) = pong.clock
                    // Otherwise control's clock was stepped, or the answer is too old to be of use.
                    && (0..=ROUND_TRIP_MAX_MS).contains(&(now_ms - asked_ms))
                {
                    let control_ms = asked_ms + (now_ms - asked_ms) / 2;
                    self.agent.set_clock_offset(clock.wall_ms.saturating_sub(control_ms));
                    open.sink.anchor(ControlAnchor {
                        boottime_ms: clock.boottime_ms,
                        control_ms,
                        round_trip_ms: (now_ms - asked_ms) as u32,
                    });
                }
            }
        }
        Ok(())
    }

    fn admit(&mut self, hello: v1::Hello, hello_ms: UnixMs, rival: Option<&Rival>) -> Result<(), End> {
        match self.agent.admit(&hello, rival, self.fleet.clock.now_ms()) {
            Admission::Refused(reason) => {
                if reason == Reason::Cloned {
                    self.fleet.clone_found.notify_one();
                }
                Err(reason.into())
            }
            Admission::Challenge(rival) => {
                self.phase = Phase::Challenging(Box::new(Challenging { hello, hello_ms, rival }));
                self.wait(self.fleet.timing.challenge);
                Ok(())
            }
            Admission::Live(live) => {
                self.open(live, hello, hello_ms);
                Ok(())
            }
        }
    }

    fn open(&mut self, live: Arc<Live>, hello: v1::Hello, hello_ms: UnixMs) {
        let highest = self.sink.highest_sequence(self.agent.id, hello.epoch);
        // Nothing from `own_from` on was ever sent by this machine: who else did, it is a copy of.
        // `next_sequence` does not tell: a copy that was long without control has passed the other one.
        let new_epoch = highest > 0 && hello.own_from.min(hello.next_sequence) <= highest;
        if new_epoch {
            tracing::warn!(agent = %self.agent.id, highest, own_from = hello.own_from, next = hello.next_sequence, "its spool was restored from a copy");
        }
        let clock = hello.clock;
        let (answers, received) = mpsc::unbounded_channel();
        let organization = self.fleet.access.owner(Resource::Agent(self.agent.id)).unwrap_or(crate::access::ROOT);
        let mut sink = self.sink.open(Opening { agent: self.agent.id, organization, hello }, answers);
        if let Some(clock) = clock {
            self.agent.set_clock_offset(clock.wall_ms.saturating_sub(hello_ms));
            // It read its clocks after the connection stood and before its hello came.
            let since = hello_ms - self.peer.connected_ms;
            if (0..=ROUND_TRIP_MAX_MS).contains(&since) {
                sink.anchor(ControlAnchor {
                    boottime_ms: clock.boottime_ms,
                    control_ms: hello_ms,
                    round_trip_ms: since as u32,
                });
            }
        }
        self.phase =
            Phase::Open(Box::new(Open { live, sink, answers: received, nonce: 0, asked_ms: None, ping_due: false }));
        self.fleet.metrics.sessions.inc();
        self.outbox.push_back(ToAgent::Welcome(v1::Welcome {
            protocol: VERSION,
            agent_id: self.agent.id.to_string(),
            wall_ms: self.fleet.clock.now_ms(),
            new_epoch,
            backlog_in_flight: BACKLOG_IN_FLIGHT,
            configuration: Some(self.fleet.desired_message()),
        }));
        self.ping();
        self.wait(self.fleet.timing.ping);
    }

    fn ping(&mut self) {
        let Phase::Open(open) = &mut self.phase else { return };
        let wall_ms = self.fleet.clock.now_ms();
        open.ping_due = false;
        open.nonce += 1;
        open.asked_ms = Some(wall_ms);
        self.outbox.push_back(ToAgent::Ping(v1::Ping { nonce: open.nonce, wall_ms }));
    }

    fn wait(&mut self, time: Duration) {
        self.timer.set(tokio::time::sleep(time));
    }

    /// It reads nothing at present, so it does not see that its peer has given it up.
    pub(super) fn is_deaf(&self) -> bool {
        matches!(self.phase, Phase::Challenging(_))
    }

    /// Ends it, because the agent makes no room for what it is told.
    pub(super) fn give_up(&mut self) {
        let detail = "it makes no room for what it is told".to_owned();
        self.end(Fault { reason: Reason::TooSlow, detail }.into());
    }

    /// Ends it. What the agent is to be told, if that is control's doing.
    fn end(&mut self, end: End) -> Option<Status> {
        self.close();
        self.phase = Phase::Ended;
        let End::Fault(fault) = end else { return None };
        if !matches!(fault.reason, Reason::Replaced | Reason::Stopping) {
            self.fleet.refuse(&fault, Subject::Agent(self.agent.id));
        }
        Some(fault.reason.status_with(fault.detail))
    }

    fn close(&mut self) {
        if let Phase::Open(open) = std::mem::replace(&mut self.phase, Phase::Ended) {
            self.agent.leave(&open.live);
            self.fleet.metrics.sessions.dec();
        }
    }
}

impl Stream for Session {
    type Item = Result<v1::ToAgent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if matches!(self.phase, Phase::Ended) {
            return Poll::Ready(None);
        }
        match ready!(self.drive(cx)) {
            Ok(message) => Poll::Ready(Some(Ok(v1::ToAgent { message: Some(message) }))),
            Err(end) => Poll::Ready(self.end(end).map(Err)),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}
