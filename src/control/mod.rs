//! The composition root: opens every part in order, joins them, serves them, and closes them in turn.
//!
//! What must hold: a port that is taken, a directory in use or a bad file ends the start with one
//! sentence; the health checks answer from the moment the port is bound; nothing is served before it
//! is restored; what was accepted is flushed before the database closes.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::middleware;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use crate::access::{self, Access, ApiTokenFile, Authentication};
use crate::backup::{self, Backups};
use crate::compute::Compute;
use crate::config::{self, Config};
use crate::fleet::rollout::Rollouts;
use crate::fleet::{Fleet, FleetError};
use crate::platform::clock::Clock;
use crate::platform::db::{Db, DbError};
use crate::platform::http;
use crate::platform::http::tls::Certificates;
use crate::platform::metrics::Registry;
use crate::platform::process;
use crate::platform::shutdown::Shutdown;
use crate::settings::{Settings, SettingsError};
use crate::telemetry::{Telemetry, TelemetryError};

use self::health::Health;
pub(crate) use self::https::base;
use self::https::{Https, HttpsError};

pub(crate) mod agent_metrics;
mod dashboard;
mod health;
mod https;
mod settings;
mod status;
mod storage;
#[cfg(test)]
mod tests;

/// The file in which the command line finds the running service's address.
pub(crate) const ADDRESS_FILE: &str = "http-address";

/// What a start is given.
#[derive(Debug, Clone)]
pub struct Options {
    /// Validated configuration.
    pub config: Config,
    /// Database, keys and tokens.
    pub data: PathBuf,
    /// Where the time comes from.
    pub clock: Clock,
    /// Replace `api-token`, whose file was lost.
    pub renew_api_token: bool,
}

/// Why control does not start, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The schema.
    #[error("the database's schema cannot be brought up to date: {}", migrate_reason(.0))]
    Migrate(#[source] sea_orm::DbErr),
    /// Organisations and tokens.
    #[error(transparent)]
    Access(#[from] access::AccessError),
    /// The token file.
    #[error(transparent)]
    TokenFile(#[from] access::TokenFileError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] access::audit::AuditError),
    /// The link for the first security administrator.
    #[error(transparent)]
    FirstLink(#[from] access::FirstLinkError),
    /// Agents.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// What was measured.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// What was set.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// What a restored directory begins with.
    #[error(transparent)]
    Restored(#[from] backup::SettleError),
    /// Hosts.
    #[error("hosts cannot be read: {0}")]
    Compute(#[source] sea_orm::DbErr),
    /// The HTTP port's certificate.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// A port.
    #[error("{what} cannot listen on {address}: {}", port_reason(source))]
    Listen {
        /// Whose port.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A file in the data directory.
    #[error("{} cannot be written: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn migrate_reason(error: &sea_orm::DbErr) -> String {
    if Db::is_disk_full(error) { "the disk is full; make room and start again".to_owned() } else { error.to_string() }
}

fn port_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is taken by another process".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not use the port".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

/// A started control.
#[derive(Debug)]
pub struct Running {
    http: SocketAddr,
    agents: SocketAddr,
    shutdown: Shutdown,
    /// What tells telemetry that nothing comes any more.
    recording: Shutdown,
    serving: Vec<JoinHandle<io::Result<()>>>,
    telemetry: Telemetry,
    access: Access,
    db: Db,
    address_file: PathBuf,
    first_link: Option<String>,
    #[cfg(test)]
    parts: Parts,
}

impl Running {
    /// Where the API answers.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where agents connect.
    #[must_use]
    pub fn agents(&self) -> SocketAddr {
        self.agents
    }

    /// The one-time link that makes the first security administrator, while there is none.
    #[must_use]
    pub fn first_link(&self) -> Option<&str> {
        self.first_link.as_deref()
    }

    /// Waits until the shutdown is triggered and everything is closed.
    ///
    /// # Errors
    /// A port or an essential task broke, which stops control as well.
    pub async fn finished(mut self) -> io::Result<()> {
        let (first, _, rest) = futures_util::future::select_all(std::mem::take(&mut self.serving)).await;
        self.shutdown.trigger();
        let mut result = flatten(first);
        for task in rest {
            result = result.and(flatten(task.await));
        }
        // From here on nobody can ask or send.
        let _ = fs::remove_file(&self.address_file);
        self.recording.trigger();
        self.telemetry.close().await;
        self.access.audit_close().await;
        self.db.close().await;
        match self.shutdown.broken().or(self.recording.broken()) {
            Some(task) => result.and(Err(io::Error::other(format!("{task} ended by itself")))),
            None => result,
        }
    }
}

fn flatten(joined: Result<io::Result<()>, tokio::task::JoinError>) -> io::Result<()> {
    joined.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

/// Starts control and returns when it is ready.
///
/// # Errors
/// One sentence: see [`StartError`].
pub async fn run(options: Options, shutdown: Shutdown) -> Result<Running, StartError> {
    let running = start(options, shutdown.clone()).await;
    if running.is_err() {
        // What serves already must not outlive a start that failed.
        shutdown.trigger();
    }
    running
}

async fn start(options: Options, shutdown: Shutdown) -> Result<Running, StartError> {
    let Options { config, data, clock, renew_api_token } = options;
    let registry = Registry::new();
    process::register(&registry);
    let db = Db::open(&config.database, &data).await?;
    let http_listener = listen("the API", config.http.listen).await?;
    let agents_listener = listen("the agents' port", config.agents.listen).await?;
    let http = local_address("the API", config.http.listen, &http_listener)?;
    let agents = local_address("the agents' port", config.agents.listen, &agents_listener)?;

    let health = Health::new(db.clone(), shutdown.clone(), &registry);
    let outside = http::layered(health.router(), &registry);
    let advertise = advertised(&config.agents, agents);
    let https = Https::open(&config.http, &data, &advertise, clock.clone())?;
    let certificates = https.as_ref().map(|https| https.certificates().clone());
    let tls = certificates.as_ref().map(Certificates::acceptor).transpose().map_err(HttpsError::from)?;
    let mut serving = vec![tokio::spawn(http::serve(http_listener, tls, outside, shutdown.clone()))];
    if let Some(https) = https {
        let shutdown = shutdown.clone();
        let essential = shutdown.essential("keeping the HTTP port's certificate");
        serving.push(tokio::spawn(async move {
            https.keep(shutdown).await;
            drop(essential);
            Ok(())
        }));
    }

    health.phase("migrating the database");
    for step in db.migrate().await.map_err(StartError::Migrate)? {
        tracing::info!(step, "schema brought up to date");
    }
    health.phase("reading organisations and tokens");
    let access = Access::open(db.clone(), clock.clone()).await?.audited(&data).await?;
    backup::settle(&access, &data).await?;
    if renew_api_token {
        access.renew_api_token(&data).await?;
    }
    report_token_file(access.ensure_api_token(&data).await?, &data);

    health.phase("reading agents");
    let fleet = Fleet::open(db.clone(), access.clone(), clock.clone(), &data, advertise.clone(), &registry).await?;

    health.phase("reading what was measured");
    let telemetry =
        Telemetry::open(db.clone(), access.clone(), clock.clone(), config.telemetry.clone(), &registry).await?;
    // Before anything is deleted: what was set may keep it longer than the file says.
    let authentication = Authentication::new(access.clone(), &config, &registry);
    let set = Settings::open(db.clone(), clock.clone(), &config, authentication.clone(), telemetry.clone()).await?;
    health.phase("reading hosts");
    let compute = Compute::open(db.clone(), access.clone(), fleet.clone(), telemetry.clone(), clock.clone()).await;
    let compute = compute.map_err(StartError::Compute)?;
    agent_metrics::register(&registry);
    // Told later than the ports, so that what they still take is committed and answered.
    let recording = Shutdown::new();
    telemetry.start(&recording);
    tokio::spawn({
        let (recording, shutdown) = (recording.clone(), shutdown.clone());
        async move {
            recording.triggered().await;
            shutdown.trigger();
        }
    });
    serving.push(tokio::spawn({
        let (compute, shutdown) = (compute.clone(), shutdown.clone());
        let essential = shutdown.essential("joining hosts");
        async move {
            compute.keep_reconciled(shutdown).await;
            drop(essential);
            Ok(())
        }
    }));
    serving.push(tokio::spawn({
        let (compute, shutdown) = (compute.clone(), shutdown.clone());
        let essential = shutdown.essential("keeping lists of hosts");
        async move {
            compute.keep_boards(shutdown).await;
            drop(essential);
            Ok(())
        }
    }));
    serving.push(tokio::spawn({
        let (compute, shutdown) = (compute.clone(), shutdown.clone());
        let essential = shutdown.essential("telling what changes");
        async move {
            compute.keep_live(shutdown).await;
            drop(essential);
            Ok(())
        }
    }));
    serving.push(tokio::spawn({
        let (compute, shutdown) = (compute.clone(), shutdown.clone());
        let essential = shutdown.essential("surveying what was used");
        async move {
            compute.keep_surveyed(shutdown).await;
            drop(essential);
            Ok(())
        }
    }));

    let gateway = {
        let (fleet, telemetry, shutdown) = (fleet.clone(), telemetry.clone(), shutdown.clone());
        async move {
            let served = fleet.serve_gateway(agents_listener, Arc::new(telemetry), shutdown).await;
            served.map_err(io::Error::other)
        }
    };
    serving.push(tokio::spawn(gateway));

    let storage = storage::Storage::new(db.clone(), &data, &registry);
    let status = status::Status::new(db.backend(), storage.clone(), fleet.clone(), telemetry.clone());
    serving.push(tokio::spawn(status.clone().keep(shutdown.clone())));
    let settings = settings::Settings::new(&config, set.clone(), fleet.clone(), certificates);
    let backups =
        Backups::open(db.clone(), access.clone(), clock.clone(), set.clone(), &data, &config.database, &registry);
    serving.push(tokio::spawn({
        let (backups, shutdown) = (backups.clone(), shutdown.clone());
        let essential = shutdown.essential("scheduled backups");
        async move {
            backups.keep(shutdown).await;
            drop(essential);
            Ok(())
        }
    }));
    let directory = config.agents.directory.clone().unwrap_or_else(beside_the_program);
    let machines = (config.agents.rollout_machines, config.agents.rollout_machines_per_site);
    let rollouts = Rollouts::open(fleet.clone(), directory, machines).await?;
    let parts = Parts {
        authentication: authentication.clone(),
        fleet,
        rollouts,
        telemetry: telemetry.clone(),
        compute,
        clock,
        registry: registry.clone(),
        storage,
        status,
        settings,
        set,
        backups,
    };
    let limit = middleware::from_fn_with_state(authentication.clone(), access::http::limit);
    let open = parts.open_router().split_for_parts().0.layer(limit);
    let layer = middleware::from_fn_with_state(authentication.clone(), access::http::authenticate);
    let api = parts.router().split_for_parts().0.layer(layer).merge(open);
    let base = base(&config, http);
    let first_link = authentication.first_link(&data, &base).await?;
    serving.push(tokio::spawn({
        let (shutdown, data) = (shutdown.clone(), data.clone());
        async move {
            authentication.keep(&data, &base, shutdown).await;
            Ok(())
        }
    }));
    let address_file = data.join(ADDRESS_FILE);
    write_address(&address_file, &https::local_base(&config.http, http))?;
    // Last: who waits for it reads those files next.
    health.started(api.layer(middleware::from_fn(http::named)), telemetry.clone());
    tracing::info!(%http, tls = config.http.scheme() == "https", %agents, advertised = advertise, data = %data.display(), "ready");
    Ok(Running {
        http,
        agents,
        shutdown,
        recording,
        serving,
        telemetry,
        access,
        db,
        address_file,
        first_link,
        #[cfg(test)]
        parts,
    })
}

/// The parts that have an API.
#[derive(Debug)]
struct Parts {
    authentication: Authentication,
    fleet: Fleet,
    rollouts: Rollouts,
    telemetry: Telemetry,
    compute: Compute,
    clock: Clock,
    registry: Registry,
    storage: storage::Storage,
    status: status::Status,
    settings: settings::Settings,
    set: Settings,
    backups: Backups,
}

impl Parts {
    /// Every route and its document.
    #[cfg(test)]
    fn whole(&self) -> OpenApiRouter {
        self.router().merge(self.open_router())
    }

    /// Routes for anybody.
    fn open_router(&self) -> OpenApiRouter {
        access::api::open_router(&self.authentication)
    }

    /// Routes for those who are somebody.
    fn router(&self) -> OpenApiRouter {
        OpenApiRouter::with_openapi(document())
            .merge(health::document())
            .merge(health::metrics_router(
                self.registry.clone(),
                self.storage.clone(),
                self.fleet.clone(),
                self.telemetry.clone(),
            ))
            .merge(status::router(self.status.clone()))
            .merge(settings::router(self.settings.clone()))
            .merge(crate::settings::api::router(self.set.clone()))
            .merge(crate::backup::api::router(self.backups.clone()))
            .merge(access::api::router(&self.authentication))
            .merge(crate::fleet::api::router(self.fleet.clone()))
            .merge(crate::fleet::rollout::api::router(self.rollouts.clone()))
            .merge(crate::telemetry::api::router(self.telemetry.clone(), self.fleet.clone(), self.clock.clone()))
            .merge(crate::compute::api::router(self.compute.clone()))
    }
}

/// The document's frame; the parts bring the paths.
fn document() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(info(
        title = "Tongtu",
        description = "E-government cloud and network operations: agents, hosts, measurements. Any operation may answer 429 to who asks too often; `retry-after` says when to try again.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ))]
    struct Frame;
    let mut document = Frame::openapi();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    document
}

/// The API's document. A test holds it against what is served.
#[must_use]
pub fn openapi() -> &'static str {
    include_str!("../openapi.json")
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { what, address, source })
}

fn local_address(what: &'static str, address: SocketAddr, listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { what, address, source })
}

/// What tokens carry as control's address: what was configured, else where it listens, under this
/// machine's name if that is everywhere.
fn advertised(config: &config::Agents, listening: SocketAddr) -> String {
    match &config.advertise {
        Some(advertise) => advertise.clone(),
        None if listening.ip().is_unspecified() => {
            let system = rustix::system::uname();
            format!("{}:{}", system.nodename().to_string_lossy(), listening.port())
        }
        None => listening.to_string(),
    }
}

/// Where programs to roll out are, if nobody says.
fn beside_the_program() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.parent().unwrap_or(Path::new(".")).join("agents")
}

fn report_token_file(found: ApiTokenFile, data: &Path) {
    let file = data.join("api-token");
    let file = file.display();
    match found {
        ApiTokenFile::Live => {}
        ApiTokenFile::Created => tracing::info!("a token with an operator's rights is in {file}"),
        ApiTokenFile::Missing => tracing::warn!(
            "{file} is missing, but its token is still live; put it back, or start once with --renew-api-token to replace it"
        ),
        ApiTokenFile::Stale => tracing::warn!(
            "{file} holds a token that is unknown or revoked, though another is live; start once with --renew-api-token to replace it"
        ),
    }
}

/// Whole or not at all, because the command line may read it at any moment.
fn write_address(path: &Path, base: &str) -> Result<(), StartError> {
    let text = format!("{base}\n");
    // A start after a crash needs no room for it.
    if fs::read_to_string(path).is_ok_and(|said| said == text) {
        return Ok(());
    }
    let new = path.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .map_err(|source| StartError::File { path: path.to_owned(), source })
}
