//! An agent's life: frames into the spool by one thread, a session with control beside it.
//!
//! Threads: the caller's runtime (a current-thread one is meant) has the session; `frames` waits for
//! the next tick, runs the collector table, appends to the spool and syncs; `collect` are the table's
//! workers; `inventory` looks at the machine at start and hourly. On SIGTERM or SIGINT the session
//! ends at once, the frame in the making is finished and synced, and [`run`] returns.
//!
//! What control may change is the interval, which collectors run and how often, and the bundle of
//! authorities; the last only if it takes the control that sends it.

use crate::clock;
use crate::collect::{CollectorSpec, Context};
use crate::configuration::{Configuration, ConfigurationError};
use crate::data::{DataDirectory, DataError, Enrolment, renewal_due_ms};
use crate::desired::Desired;
use crate::enrol::{EnrolError, renew};
use crate::exposition::{LastFrame, serve};
use crate::frames::{Frames, Orders};
use crate::heap;
use crate::link::{Link, Trust};
use crate::queue::Agent;
use crate::session::{self, Ended, Identity, SessionError};
use crate::spool::{Spool, SpoolError};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tongtu_protocol::reason::Reason;
use tongtu_protocol::v1;

/// Between two looks at the certificate's age while a session lasts.
const RENEWAL_CHECK: Duration = Duration::from_secs(6 * 3_600);

/// What makes one agent differ from another.
pub struct AgentOptions {
    /// `host`, `libvirt`, `network`, `kubernetes`.
    pub kind: &'static str,
    /// The kind of its own source, which has its figures of itself.
    pub source_kind: &'static str,
    /// The key of that source; `None`: the machine's id.
    pub source_key: Option<&'static str>,
    /// Of the agent.
    pub version: &'static str,
    /// What it collects.
    pub collectors: &'static [CollectorSpec],
    /// The facts of the machine; called in a thread of its own, at start and hourly. None of an agent whose
    /// collectors say them.
    pub inventory: fn() -> BTreeMap<String, String>,
    /// Its data directory.
    pub data: PathBuf,
    /// Where the machine is looked at.
    pub context: Context,
}

/// Why an agent does not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// `agent.toml` cannot be used.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The local `/metrics` cannot be served.
    #[error("cannot serve metrics on {address}: {cause}; change `metrics` in agent.toml")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
    /// A thread or a signal handler cannot be had.
    #[error("this system gives the agent no {what}: {cause}")]
    System {
        /// What is missing.
        what: &'static str,
        /// What the system says.
        cause: io::Error,
    },
}

/// Runs an enrolled agent until SIGTERM or SIGINT.
///
/// # Errors
/// One sentence, before anything runs.
pub async fn run(options: AgentOptions) -> Result<(), RunError> {
    let fault = |cause| RunError::System { what: "signal handler", cause };
    let mut terminated = signal(SignalKind::terminate()).map_err(fault)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(fault)?;
    let stopped = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    run_until(options, stopped).await
}

/// Runs an enrolled agent until `stopped` returns.
///
/// # Errors
/// One sentence, before anything runs.
pub async fn run_until(options: AgentOptions, stopped: impl Future<Output = ()>) -> Result<(), RunError> {
    run_checking(options, RENEWAL_CHECK, stopped).await
}

/// Runs an enrolled agent until `stopped` returns; its certificate's age is looked at so often.
///
/// # Errors
/// One sentence, before anything runs.
pub async fn run_checking(
    options: AgentOptions,
    renewal_check: Duration,
    stopped: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let system = |what| move |cause| RunError::System { what, cause };
    heap::share();
    let data = DataDirectory::open(&options.data, false)?;
    let enrolment = data.enrolment()?.ok_or_else(|| DataError::NotEnrolled(options.data.clone()))?;
    let configuration = Configuration::read(&data.configuration())?;
    let machine_id = clock::machine_id(data.path()).map_err(|cause| DataError::File {
        action: "write",
        path: data.path().join("machine-id"),
        cause,
    })?;
    let boot_id = clock::boot_id();
    let (mut spool, writer) = Spool::open(&data.spool(), configuration.spool, &boot_id, clock::clock())?;
    let last = match configuration.metrics {
        Some(address) => {
            let listener = TcpListener::bind(address).await.map_err(|cause| RunError::Metrics { address, cause })?;
            let last = LastFrame::default();
            tokio::spawn(serve(listener, last.clone()));
            Some(last)
        }
        None => None,
    };
    let orders = Arc::new(Orders::new(configuration.interval));
    let desired = data.desired();
    if desired != Desired::default() {
        tracing::info!(version = desired.version, "as control last told");
        apply(&desired, configuration.interval, &orders);
    }
    let frames =
        Frames::new(&options, machine_id.clone(), boot_id.clone(), spool.clone(), writer, Arc::clone(&orders), last);
    let frames =
        std::thread::Builder::new().name("frames".into()).spawn(move || frames.run()).map_err(system("thread"))?;
    watch_inventory(options.inventory, &orders).map_err(system("thread"))?;
    let address = &enrolment.identity.address;
    tracing::info!(agent = enrolment.identity.agent_id, control = address, "running");
    let identity = Identity {
        agent_version: options.version.to_owned(),
        kind: options.kind.to_owned(),
        machine_id,
        boot_id,
        hostname: clock::hostname(),
        interval_ms: 0,
    };
    let renewal_due = Arc::new(AtomicI64::new(i64::MAX));
    let mut reporter = Reporter {
        data,
        enrolment,
        renewal_due: Arc::clone(&renewal_due),
        identity,
        link: None,
        renew_now: false,
        welcomed: false,
        local_interval: configuration.interval,
        desired,
        kept: true,
        orders: Arc::clone(&orders),
        spool: spool.clone(),
    };
    let mut stopped = std::pin::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => break,
            () = until_renewal(&renewal_due, renewal_check) => reporter.cut(),
            never = session::run(&mut spool, &mut reporter) => match never {},
        }
    }
    orders.stop();
    // Nothing else is to be done by this thread.
    let _ = frames.join();
    spool.close();
    tracing::info!("stopped");
    Ok(())
}

/// Returns when the certificate is due; at least one check from now, for control may be away.
async fn until_renewal(due_ms: &AtomicI64, check: Duration) {
    loop {
        sleep(check).await;
        if clock::wall_ms() >= due_ms.load(Ordering::Relaxed) {
            return;
        }
    }
}

fn apply(desired: &Desired, local_interval: Duration, orders: &Orders) {
    let interval = match desired.interval_ms {
        0 => local_interval,
        ms => Duration::from_millis(ms.into()),
    };
    orders.configure(interval, desired.collectors.clone());
}

/// Gives the frames new facts when they change.
fn watch_inventory(inventory: fn() -> BTreeMap<String, String>, orders: &Arc<Orders>) -> io::Result<()> {
    let orders = Arc::clone(orders);
    let watch = move || {
        let mut known = BTreeMap::new();
        loop {
            let facts = inventory();
            if facts != known {
                orders.facts(facts.clone());
                known = facts;
            }
            if orders.wait_stop(Duration::from_secs(3_600)) {
                return;
            }
        }
    };
    std::thread::Builder::new().name("inventory".into()).spawn(watch).map(drop)
}

/// The agent as its session sees it.
struct Reporter {
    data: DataDirectory,
    enrolment: Enrolment,
    /// When the certificate of the session that is open is due; `MAX` without one: it is looked at before each.
    renewal_due: Arc<AtomicI64>,
    identity: Identity,
    link: Option<Link>,
    /// Control says that the certificate has expired.
    renew_now: bool,
    welcomed: bool,
    local_interval: Duration,
    /// What runs.
    desired: Desired,
    /// It is kept for the next start.
    kept: bool,
    orders: Arc<Orders>,
    spool: Spool,
}

impl Reporter {
    /// The session, if there is one, was dropped where it stood: the next one says what it said.
    fn cut(&mut self) {
        self.link = None;
        if self.welcomed {
            self.orders.count_reconnect();
        }
        self.part();
    }

    /// What control may have heard in a session is behind what is this spool's own.
    fn part(&mut self) {
        if std::mem::take(&mut self.welcomed) {
            self.spool.session_ended();
        }
    }

    async fn renew(&mut self) -> Result<(), SessionError> {
        let renewed = renew(&self.enrolment).await.map_err(|error| match error {
            EnrolError::Link(error) => SessionError::Link(error),
            EnrolError::Refused { reason, .. } => SessionError::Refused(reason),
            error => SessionError::Broken(error.to_string()),
        })?;
        self.data.renew(&renewed).map_err(|error| SessionError::Broken(error.to_string()))?;
        self.enrolment = renewed;
        (self.link, self.renew_now) = (None, false);
        tracing::info!("the certificate was renewed");
        Ok(())
    }

    /// Takes a new bundle if it takes the control that this session is with.
    fn take_bundle(&mut self, pem: &str) {
        if pem.is_empty() || pem == self.enrolment.ca_pem {
            return;
        }
        let accepted = Trust::bundle(pem).and_then(|trust| match &self.link {
            Some(link) => link.accepted_by(&trust),
            None => Ok(()),
        });
        if let Err(error) = accepted {
            tracing::warn!(%error, "control sent a bundle of authorities that it does not fit itself; it is not taken");
            return;
        }
        match self.data.replace_ca(pem) {
            Ok(()) => {
                // For the next connection.
                pem.clone_into(&mut self.enrolment.ca_pem);
                tracing::info!("a new bundle of authorities was taken");
            }
            Err(error) => tracing::warn!(%error, "a new bundle of authorities cannot be kept"),
        }
    }
}

impl Agent for Reporter {
    async fn connection(&mut self) -> Result<(Link, Identity), SessionError> {
        self.welcomed = false;
        self.renewal_due.store(i64::MAX, Ordering::Relaxed);
        if self.renew_now || clock::wall_ms() >= renewal_due_ms(&self.enrolment) {
            let forced = self.renew_now;
            match self.renew().await {
                Ok(()) => {}
                Err(error) if forced => return Err(error),
                // The certificate may still do; if it does not, control says so.
                Err(error) => tracing::warn!(%error, "the certificate cannot be renewed now"),
            }
        }
        let link = Link::new(
            &self.enrolment.identity.address,
            &self.enrolment.trust()?,
            Some(&self.enrolment.credentials()?),
        )?;
        self.link = Some(link.clone());
        self.identity.interval_ms = self.orders.interval().as_millis() as u32;
        Ok((link, self.identity.clone()))
    }

    fn clock(&mut self) -> v1::Clock {
        // Control asks every few minutes: often enough to try again what failed.
        if !self.kept && self.data.keep_desired(&self.desired).is_ok() {
            self.kept = true;
            tracing::info!(version = self.desired.version, "what control told is kept for the next start now");
        }
        clock::clock()
    }

    fn configure(&mut self, desired: &v1::DesiredConfiguration) {
        self.take_bundle(&desired.ca_bundle_pem);
        match Desired::take(desired) {
            // It is told with every welcome.
            Ok(desired) if desired == self.desired => {}
            Ok(desired) => {
                tracing::info!(version = desired.version, interval_ms = desired.interval_ms, "control configures anew");
                apply(&desired, self.local_interval, &self.orders);
                let kept = self.data.keep_desired(&desired);
                (self.desired, self.kept) = (desired, kept.is_ok());
                if let Err(error) = kept {
                    tracing::warn!(%error, "what control told cannot be kept for the next start; it is tried again");
                }
            }
            Err(fault) => tracing::warn!(
                version = desired.version,
                fault,
                "control desires what may not be; the agent goes on as it is"
            ),
        }
    }

    fn welcomed(&mut self, _: &v1::Welcome) {
        self.welcomed = true;
        self.renewal_due.store(renewal_due_ms(&self.enrolment), Ordering::Relaxed);
        tracing::info!(control = self.enrolment.identity.address, "connected");
    }

    fn ended(&mut self, ended: &Ended) {
        self.orders.count_reconnect();
        self.renew_now = ended.why.reason() == Some(Reason::CertificateExpired);
        self.part();
    }
}
