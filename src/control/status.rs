//! `/api/v1/health`: control's own figures, for a person.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::storage::Storage;
use crate::access::{Principal, capability::HealthRead};
use crate::fleet::Fleet;
use crate::platform::clock::Stopwatch;
use crate::platform::db::Backend;
use crate::platform::http::Problem;
use crate::platform::shutdown::Shutdown;
use crate::telemetry::{Compaction, Telemetry};

/// The rate of records is that of so long.
const RATE_OVER: Duration = Duration::from_secs(60);
/// It is counted so often.
const RATE_EVERY: Duration = Duration::from_secs(5);

/// What is asked for the answer.
#[derive(Debug, Clone)]
pub(super) struct Status(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    backend: Backend,
    storage: Storage,
    fleet: Fleet,
    telemetry: Telemetry,
    since: Stopwatch,
    /// When it was counted, and how many records were durable then.
    counted: Mutex<VecDeque<(Duration, u64)>>,
}

impl Status {
    pub(super) fn new(backend: Backend, storage: Storage, fleet: Fleet, telemetry: Telemetry) -> Self {
        let (since, counted) = (Stopwatch::start(), Mutex::default());
        Self(Arc::new(Shared { backend, storage, fleet, telemetry, since, counted }))
    }

    /// Counts records until control stops.
    pub(super) async fn keep(self, shutdown: Shutdown) -> io::Result<()> {
        loop {
            self.count();
            tokio::select! {
                () = shutdown.triggered() => return Ok(()),
                () = tokio::time::sleep(RATE_EVERY) => {}
            }
        }
    }

    fn count(&self) {
        let now = (self.0.since.elapsed(), self.0.telemetry.records_accepted());
        let mut counted = self.0.counted.lock().unwrap_or_else(PoisonError::into_inner);
        while counted.front().is_some_and(|(at, _)| now.0 - *at > RATE_OVER) {
            counted.pop_front();
        }
        counted.push_back(now);
    }

    /// Records a second over the last minute, or since the start if that is later.
    fn rate(&self) -> Option<f64> {
        let (at, records) = (self.0.since.elapsed(), self.0.telemetry.records_accepted());
        let first = self.0.counted.lock().unwrap_or_else(PoisonError::into_inner).front().copied()?;
        let seconds = (at - first.0).as_secs_f64();
        (seconds > 0.0).then(|| (records - first.1) as f64 / seconds)
    }
}

/// Which database.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum DatabaseKind {
    Sqlite,
    Postgresql,
}

/// Control's own figures.
#[derive(Debug, Serialize, ToSchema)]
struct HealthReport {
    /// Of control.
    #[schema(value_type = String)]
    version: &'static str,
    /// Since the start.
    uptime_ms: u64,
    /// Which database it uses.
    database: DatabaseKind,
    /// What the database takes; null if it does not answer.
    database_bytes: Option<u64>,
    /// Room that control may still use where its data directory is.
    data_free_bytes: Option<u64>,
    /// The file system that holds the data directory.
    data_size_bytes: Option<u64>,
    /// Number of the window that takes what comes.
    open_window: i64,
    /// Windows that wait for compaction or are in it.
    windows_waiting: i64,
    /// Bytes that wait for their commit.
    queue_bytes: u64,
    /// Beyond it agents are told to send again later.
    queue_limit_bytes: u64,
    /// Records that became durable, a second, over the last minute.
    records_per_second: Option<f64>,
    /// Agents that hold a stream.
    agents_connected: u64,
    /// The last compaction since the start.
    last_compaction: Option<Compaction>,
    /// Sources that compaction left out since the start; their frames are kept aside.
    sources_left_out: u64,
}

pub(super) fn router(status: Status) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(health_fetch)).with_state(status)
}

/// Control's own figures: storage, ingest, compaction.
#[utoipa::path(get, path = "/api/v1/health", tag = "health",
    responses((status = 200, body = HealthReport), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn health_fetch(State(status): State<Status>, principal: Principal) -> Result<Json<HealthReport>, Problem> {
    let permit = principal.permit::<HealthRead>()?;
    let shared = &status.0;
    let figures = shared.telemetry.figures(&permit);
    let room = shared.storage.room();
    Ok(Json(HealthReport {
        version: env!("CARGO_PKG_VERSION"),
        uptime_ms: u64::try_from(shared.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        database: match shared.backend {
            Backend::Sqlite => DatabaseKind::Sqlite,
            Backend::Postgres => DatabaseKind::Postgresql,
        },
        database_bytes: shared.storage.database_bytes().await,
        data_free_bytes: room.map(|room| room.free_bytes),
        data_size_bytes: room.map(|room| room.size_bytes),
        open_window: figures.open_window,
        windows_waiting: figures.windows_waiting,
        queue_bytes: figures.queue_bytes,
        queue_limit_bytes: figures.queue_limit_bytes,
        records_per_second: status.rate(),
        agents_connected: shared.fleet.connected(&permit),
        last_compaction: figures.last_compaction,
        sources_left_out: figures.sources_left_out,
    }))
}
