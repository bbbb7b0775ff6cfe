//! The one stream that an agent keeps open to control, for any [`Queue`].
//!
//! [`session`] is one stream from connecting to its end; [`run`] opens one after another with
//! back-off, for ever. Both are plain futures without tasks or shared state of their own (the HTTP/2
//! connection is a task of tonic's): dropping one closes the connection. Thousands of them run in
//! one process; a queue that makes its records inside [`Queue::changed`] needs no other task, and
//! one that pushes inside [`Queue::settle`] keeps exactly one record in flight.
//! What is acknowledged is counted by the queue, which settles each record once.
//!
//! What must hold: an agent reports and probes, and nothing else. The only things that control can
//! change are in [`v1::DesiredConfiguration`].

use crate::backoff::pause;
use crate::clock;
use crate::conversation::{Conversation, ConversationError, message};
use crate::link::{self, Link, LinkError};
use crate::queue::{Agent, Queue};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tongtu_protocol::{VERSION, limits, reason::Reason, v1};
use tonic::Status;

/// For control to welcome.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(20);
/// A session that lasted so long was healthy, whatever came of it.
const HEALTHY: Duration = Duration::from_secs(60);
/// Between attempts when control refuses this agent for good: somebody has to act first.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);

/// Who the agent is, for the hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its version.
    pub agent_version: String,
    /// `host`, `libvirt`, `network`, `kubernetes`.
    pub kind: String,
    /// Of the machine.
    pub machine_id: String,
    /// Of the present boot.
    pub boot_id: String,
    /// Of the machine.
    pub hostname: String,
    /// Between two frames of a source.
    pub interval_ms: u32,
}

/// Why a session ended.
#[derive(Debug, Error)]
pub enum SessionError {
    /// There was no connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Control refused, with a reason.
    #[error("control refuses this agent: {}{}", .0.sentence(), mend(*.0))]
    Refused(Reason),
    /// The connection broke.
    #[error("the connection to control broke: {0}")]
    Broken(String),
    /// Control ended the stream.
    #[error("control ended the session")]
    Ended,
    /// Control did not speak as the protocol says.
    #[error("control does not follow the protocol: {0}")]
    Protocol(&'static str),
    /// Records went unanswered.
    #[error("control has answered nothing for a minute")]
    Unanswered,
    /// Control knows later records of this spool: it was restored from a copy and numbers anew now.
    #[error("this spool was restored from a copy; its records are numbered anew")]
    NewEpoch,
    /// The spool cannot be read.
    #[error("{0}")]
    Queue(String),
}

fn mend(reason: Reason) -> &'static str {
    match reason {
        Reason::Revoked | Reason::CertificateUnknown => "; to take it back, enrol it again with --replace",
        Reason::Cloned => "; if this machine is a copy, enrol it again with --replace",
        Reason::Protocol => "; install an agent of control's version",
        _ => "",
    }
}

impl SessionError {
    /// The reason that control gave, if it refused.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused(reason) => Some(*reason),
            _ => None,
        }
    }

    fn is_final(&self) -> bool {
        matches!(
            self.reason(),
            Some(Reason::Revoked | Reason::CertificateUnknown | Reason::NoCertificate | Reason::Protocol)
        )
    }
}

impl From<Status> for SessionError {
    fn from(status: Status) -> Self {
        match Reason::of(&status) {
            Some(reason) => Self::Refused(reason),
            None => match broken(&status) {
                text if link::is_certificate_refused(&text) => Self::Link(LinkError::CertificateRefused),
                text => Self::Broken(text),
            },
        }
    }
}

/// What broke a connection, without the layers in between.
fn broken(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = match cause.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => cause.to_string(),
    };
    // How rustls says that the connection ended without a goodbye.
    if text.contains("close_notify") { "control went away".to_owned() } else { text }
}

impl From<ConversationError> for SessionError {
    fn from(error: ConversationError) -> Self {
        match error {
            ConversationError::Unanswered => Self::Unanswered,
            ConversationError::Numbers => Self::Ended,
            ConversationError::Queue(error) => Self::Queue(error.to_string()),
        }
    }
}

/// How a session went.
#[derive(Debug)]
pub struct Ended {
    /// Control accepted records, or it lasted.
    pub healthy: bool,
    /// Why it ended.
    pub why: SessionError,
}

/// One session, from connecting to its end.
pub async fn session<Q: Queue, A: Agent>(link: &Link, identity: &Identity, queue: &mut Q, agent: &mut A) -> Ended {
    let started = clock::monotonic();
    let mut accepted = 0;
    let why = match talk(link, identity, queue, agent, &mut accepted).await {
        Ok(never) => match never {},
        Err(why) => why,
    };
    let healthy = accepted > 0 || started.elapsed() >= HEALTHY;
    Ended { healthy, why }
}

async fn talk<Q: Queue, A: Agent>(
    link: &Link,
    identity: &Identity,
    queue: &mut Q,
    agent: &mut A,
    accepted: &mut u64,
) -> Result<std::convert::Infallible, SessionError> {
    let channel = link.connect().await?;
    let mut client =
        v1::telemetry_client::TelemetryClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES);
    let (sender, receiver) = mpsc::channel(1);
    let hello = hello(identity, queue, agent);
    sender.try_send(hello).expect("the channel is new and has room");
    let slow = |_| SessionError::Refused(Reason::TooSlow);
    let call = timeout(WELCOME_TIMEOUT, client.session(ReceiverStream::new(receiver)));
    let mut inbound = call.await.map_err(slow)??.into_inner();
    let first = timeout(WELCOME_TIMEOUT, inbound.message()).await.map_err(slow)??;
    let welcome = match first.and_then(|first| first.message) {
        Some(v1::to_agent::Message::Welcome(welcome)) => welcome,
        Some(_) => return Err(SessionError::Protocol("a session begins with a welcome")),
        None => return Err(SessionError::Ended),
    };
    if welcome.protocol != VERSION {
        return Err(SessionError::Refused(Reason::Protocol));
    }
    if welcome.new_epoch {
        queue.new_epoch().map_err(ConversationError::from)?;
        return Err(SessionError::NewEpoch);
    }
    agent.welcomed(&welcome);
    if let Some(desired) = &welcome.configuration {
        agent.configure(desired);
    }
    let mut conversation = Conversation::new(welcome.backlog_in_flight);
    let mut pending = None;
    loop {
        let now = clock::monotonic();
        conversation.check(now)?;
        if pending.is_none() {
            pending = conversation.next(queue, now)?;
        }
        let wake = conversation.wake_at(pending.is_some());
        tokio::select! {
            biased;
            inbound = inbound.message() => match inbound?.and_then(|inbound| inbound.message) {
                Some(v1::to_agent::Message::Answers(answers)) => {
                    conversation.answers(queue, answers, clock::monotonic())?;
                    *accepted = conversation.accepted();
                }
                Some(v1::to_agent::Message::Ping(ping)) => conversation.pong(&ping, agent.clock()),
                Some(v1::to_agent::Message::Configuration(desired)) => agent.configure(&desired),
                Some(v1::to_agent::Message::Welcome(_)) => {
                    return Err(SessionError::Protocol("a session has one welcome"));
                }
                None => return Err(SessionError::Ended),
            },
            permit = sender.reserve(), if pending.is_some() => match (permit, pending.take()) {
                (Ok(permit), Some(message)) => permit.send(message),
                // The stream's end comes with its reason.
                _ => return Err(inbound.message().await.err().map_or(SessionError::Ended, SessionError::from)),
            },
            () = queue.changed() => conversation.queue_changed(),
            () = until(wake), if wake.is_some() => {}
        }
    }
}

async fn until(wake: Option<Instant>) {
    if let Some(wake) = wake {
        sleep_until(wake.into()).await;
    }
}

fn hello<Q: Queue, A: Agent>(identity: &Identity, queue: &Q, agent: &mut A) -> v1::ToControl {
    let span = queue.span();
    message(v1::to_control::Message::Hello(v1::Hello {
        protocol: VERSION,
        agent_version: identity.agent_version.clone(),
        kind: identity.kind.clone(),
        machine_id: identity.machine_id.clone(),
        boot_id: identity.boot_id.clone(),
        epoch: span.epoch,
        first_sequence: span.first,
        next_sequence: span.next,
        clock: Some(agent.clock()),
        interval_ms: identity.interval_ms,
        hostname: identity.hostname.clone(),
        own_from: span.own_from,
    }))
}

/// Sessions one after another, for ever: live again within one interval after control is back.
pub async fn run<Q: Queue, A: Agent>(queue: &mut Q, agent: &mut A) -> std::convert::Infallible {
    let mut failures = 0;
    let mut said = String::new();
    loop {
        let (ended, interval_ms) = match agent.connection().await {
            Ok((link, identity)) => (session(&link, &identity, queue, agent).await, identity.interval_ms),
            Err(why) => (Ended { healthy: false, why }, 0),
        };
        agent.ended(&ended);
        let text = ended.why.to_string();
        if ended.healthy || text != said {
            tracing::warn!("{text}");
        }
        said = text;
        failures = if ended.healthy { 1 } else { failures + 1 };
        if matches!(ended.why, SessionError::NewEpoch) && failures == 1 {
            continue;
        }
        let longest = Duration::from_millis(interval_ms.into()).max(Duration::from_secs(5));
        let longest = if ended.why.is_final() { REFUSED_PAUSE } else { longest };
        sleep(pause(failures, longest, rand::random())).await;
    }
}
