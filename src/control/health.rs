//! Whether control is alive, ready, and how it is: `/healthz`, `/readyz`, `/metrics`.
//!
//! The HTTP port answers from the first moment: until everything is restored, `/readyz` says what is
//! being waited for, and the API that it is starting.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::IntGauge;
use serde::Serialize;
use tower::ServiceExt;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::storage::Storage;
use super::{agent_metrics, dashboard};
use crate::access::{Principal, capability::HealthRead};
use crate::fleet::Fleet;
use crate::metrics;
use crate::platform::clock::Stopwatch;
use crate::platform::db::Db;
use crate::platform::http::Problem;
use crate::platform::metrics::Registry;
use crate::platform::shutdown::Shutdown;
use crate::telemetry::Telemetry;

/// A busy writer is no fault until it is busy this long.
const DATABASE_PATIENCE: Duration = Duration::from_secs(5);
/// Who asks for `/readyz` is anybody, and the check of the database writes: its outcome stands this long.
const CHECK_STANDS: Duration = Duration::from_secs(1);

/// How far the start is, and the API once it is there.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    db: Db,
    shutdown: Shutdown,
    /// What the start waits for.
    phase: std::sync::Mutex<&'static str>,
    started: OnceLock<(Router, Telemetry)>,
    ready: IntGauge,
    /// The last check of the database, and since when it stands. One at a time; whoever waits is given the same.
    checked: tokio::sync::Mutex<Option<(Stopwatch, Check)>>,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Readiness {
    /// Whether every check is well.
    ready: bool,
    /// What was looked at.
    checks: Vec<Check>,
}

/// One thing that must be well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Check {
    /// What.
    #[schema(example = "database")]
    name: &'static str,
    /// Whether it is well.
    ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Check {
    fn new(name: &'static str, reason: Option<String>) -> Self {
        Self { name, ok: reason.is_none(), reason }
    }
}

impl Health {
    pub(crate) fn new(db: Db, shutdown: Shutdown, registry: &Registry) -> Self {
        registry.gauge_vec(&metrics::BUILD_INFO).with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let ready = registry.gauge(&metrics::READY);
        let phase = std::sync::Mutex::new("starting");
        Self {
            shared: Arc::new(Shared {
                db,
                shutdown,
                phase,
                started: OnceLock::new(),
                ready,
                checked: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// Names what the start does now.
    pub(crate) fn phase(&self, phase: &'static str) {
        tracing::debug!(phase, "starting");
        *self.shared.phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = phase;
    }

    /// Everything is restored: the API answers from now on.
    pub(crate) fn started(&self, api: Router, telemetry: Telemetry) {
        let _ = self.shared.started.set((api, telemetry));
        self.shared.ready.set(1);
    }

    async fn check(&self) -> Readiness {
        let start = self
            .shared
            .started
            .get()
            .is_none()
            .then(|| (*self.shared.phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner)).to_owned());
        let stop = self.shared.shutdown.is_triggered().then(|| "control is stopping".to_owned());
        let database = self.database().await;
        let records = self.shared.started.get().and_then(|(_, telemetry)| telemetry.failing());
        let checks = vec![
            Check::new("start", start),
            Check::new("stop", stop),
            database,
            Check::new("records", records.map(ToOwned::to_owned)),
        ];
        let ready = checks.iter().all(|check| check.ok);
        self.shared.ready.set(i64::from(ready));
        Readiness { ready, checks }
    }

    async fn database(&self) -> Check {
        let mut checked = self.shared.checked.lock().await;
        if let Some((_, check)) = checked.as_ref().filter(|(since, _)| since.elapsed() < CHECK_STANDS) {
            return check.clone();
        }
        let reason = match tokio::time::timeout(DATABASE_PATIENCE, self.shared.db.check_writable()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) if Db::is_disk_full(&error) => Some("the disk is full".to_owned()),
            Ok(Err(error)) => Some(format!("it cannot be written: {error}")),
            Err(_) => Some(format!("nothing could be written for {DATABASE_PATIENCE:?}")),
        };
        let check = Check::new("database", reason);
        *checked = Some((Stopwatch::start(), check.clone()));
        check
    }

    /// Everything that the HTTP port answers.
    pub(crate) fn router(&self) -> Router {
        let api = |State(health): State<Health>, request: Request| async move {
            if let Some(page) = dashboard::answer(&request) {
                return page;
            }
            match health.shared.started.get() {
                Some((api, _)) => api.clone().oneshot(request).await.unwrap_or_else(|never| match never {}),
                None => {
                    let mut response = Problem::unavailable("control is starting; /readyz says what it waits for")
                        .chinese("服务正在启动；/readyz 说明它在等待什么")
                        .into_response();
                    response.headers_mut().insert(header::RETRY_AFTER, 1.into());
                    response
                }
            }
        };
        Router::new().route("/healthz", get(alive)).route("/readyz", get(ready)).fallback(api).with_state(self.clone())
    }
}

/// The health checks, for the document: [`Health::router`] serves them.
pub(crate) fn document() -> OpenApiRouter {
    #[derive(utoipa::OpenApi)]
    #[openapi(paths(alive, ready), components(schemas(Readiness, Check)))]
    struct Checks;
    OpenApiRouter::with_openapi(<Checks as utoipa::OpenApi>::openapi())
}

/// Control's own metrics.
pub(crate) fn metrics_router(
    registry: Registry,
    storage: Storage,
    fleet: Fleet,
    telemetry: Telemetry,
) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(own_metrics)).with_state((registry, storage, fleet, telemetry))
}

/// Alive: the process answers.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "It answers.", body = String, content_type = "text/plain")))]
async fn alive() -> &'static str {
    "ok\n"
}

/// Ready: records and questions are taken. The reasons stand in the answer when not.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses(
        (status = 200, description = "Ready.", body = Readiness),
        (status = 503, description = "Not ready, and why.", body = Readiness),
    ))]
async fn ready(State(health): State<Health>) -> Response {
    let readiness = health.check().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

/// Control's own metrics, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses(
        (status = 200, description = "Metrics of control itself.", body = String, content_type = "text/plain"),
        (status = 403, description = "The token may not.", body = Problem),
    ))]
async fn own_metrics(
    State((registry, storage, fleet, telemetry)): State<(Registry, Storage, Fleet, Telemetry)>,
    principal: Principal,
) -> Result<Response, Problem> {
    principal.permit::<HealthRead>()?;
    // The figures of agents are only for who may see agents.
    let agents = principal.permit().map(|permit| agent_metrics::of(&fleet, &permit)).unwrap_or_default();
    telemetry.measure();
    storage.measure().await;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], registry.encode_with(agents))
        .into_response())
}
