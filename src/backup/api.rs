//! The API of backups. Each handler: extract, permit, call the domain, render.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Backup, BackupError, Backups, Failed, Making};
use crate::access::{Permit, Principal, capability::SettingsRead};
use crate::platform::clock::UnixMs;
use crate::platform::http::{Problem, finish};

/// All operations.
pub fn router(backups: Backups) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(backup_list, backup_create)).routes(routes!(backup_delete)).with_state(backups)
}

/// A backup that is there.
#[derive(Debug, Serialize, ToSchema)]
struct BackupReport {
    /// Its directory's name, the time (UTC) at which it was begun.
    #[schema(example = "20261129T213000Z")]
    name: String,
    /// When it was begun (Unix time in milliseconds); null: it does not say so.
    made_ms: Option<UnixMs>,
    /// Who asked for it, as they were called then; null: the schedule.
    made_by: Option<String>,
    /// What its files take.
    bytes: u64,
    /// Whether every file of its manifest is there in its size. Restoring compares their SHA-256 as well.
    whole: bool,
    /// Whether the database is in it; one on a server is not.
    database: bool,
    /// The tongtu that made it.
    version: Option<String>,
    /// The audit log's last entry in it.
    audit_number: Option<i64>,
}

/// A backup that is being made.
#[derive(Debug, Serialize, ToSchema)]
struct BackupProgress {
    /// As it will be called.
    name: String,
    /// When it was begun (Unix time in milliseconds).
    begun_ms: UnixMs,
    /// Who asked for it; null: the schedule.
    made_by: Option<String>,
    /// What is written.
    bytes: u64,
    /// About what there will be.
    expected_bytes: u64,
}

/// A backup that was not made.
#[derive(Debug, Serialize, ToSchema)]
struct BackupFailure {
    /// When (Unix time in milliseconds).
    at_ms: UnixMs,
    /// Whether there was no room.
    disk_full: bool,
    /// Why, for who runs the machine.
    reason: String,
}

/// What there is of backups.
#[derive(Debug, Serialize, ToSchema)]
struct BackupList {
    /// Newest first.
    items: Vec<BackupReport>,
    /// The one that is being made.
    making: Option<BackupProgress>,
    /// The last one that failed, until one is made.
    failed: Option<BackupFailure>,
    /// Where they lie on the machine of this service.
    directory: String,
    /// The line that copies the database, if that is on a server: backups hold only the keys beside it then.
    dump: Option<String>,
}

impl From<Backup> for BackupReport {
    fn from(backup: Backup) -> Self {
        let made_ms = backup.made_ms();
        let Backup { name, bytes, manifest, is_whole } = backup;
        let (made_by, version, database, audit) = match manifest {
            Some(manifest) => (manifest.made_by, Some(manifest.version), manifest.database, manifest.audit),
            None => (None, None, false, None),
        };
        let audit_number = audit.map(|head| head.number);
        Self { name, made_ms, made_by, bytes, whole: is_whole, database, version, audit_number }
    }
}

impl From<(Making, u64)> for BackupProgress {
    fn from((making, bytes): (Making, u64)) -> Self {
        let Making { name, begun_ms, by, expected_bytes } = making;
        Self { name, begun_ms, made_by: by, bytes, expected_bytes }
    }
}

async fn report(backups: &Backups, permit: &Permit<SettingsRead>) -> BackupList {
    let overview = backups.overview(permit).await;
    let failure = |Failed { at_ms, is_disk_full, reason }| BackupFailure { at_ms, disk_full: is_disk_full, reason };
    BackupList {
        items: overview.backups.into_iter().map(BackupReport::from).collect(),
        making: overview.making.map(BackupProgress::from),
        failed: overview.failed.map(failure),
        directory: backups.directory(permit).display().to_string(),
        dump: backups.dump(permit).map(ToOwned::to_owned),
    }
}

/// The backups that are there, the one that is being made, and the last failure.
#[utoipa::path(get, path = "/api/v1/backups", tag = "settings",
    responses((status = 200, body = BackupList), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn backup_list(State(backups): State<Backups>, principal: Principal) -> Result<Json<BackupList>, Problem> {
    Ok(Json(report(&backups, &principal.permit()?).await))
}

/// Begins to make a backup; the list tells how far it is. Records are taken meanwhile.
#[utoipa::path(post, path = "/api/v1/backups", tag = "settings",
    responses((status = 202, description = "It is being made.", body = BackupList), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 409, description = "One is being made already", body = Problem),
        (status = 507, description = "There is no room for it", body = Problem)))]
async fn backup_create(
    State(backups): State<Backups>,
    principal: Principal,
) -> Result<(StatusCode, Json<BackupList>), Problem> {
    let (permit, making) = (principal.permit()?, backups.clone());
    finish(async move { making.create(&permit).await }).await??;
    Ok((StatusCode::ACCEPTED, Json(report(&backups, &principal.permit()?).await)))
}

/// Removes a backup.
#[utoipa::path(delete, path = "/api/v1/backups/{name}", tag = "settings",
    params(("name" = String, Path, example = "20261129T213000Z")),
    responses((status = 204), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn backup_delete(
    State(backups): State<Backups>,
    principal: Principal,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let permit = principal.permit()?;
    finish(async move { backups.delete(&permit, &name).await }).await??;
    Ok(StatusCode::NO_CONTENT)
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        match &error {
            BackupError::Busy(name) => {
                Self::conflict(error.to_string()).chinese(format!("备份 {name} 正在进行，同一时间只能进行一个"))
            }
            BackupError::NoRoom { needed, free } => {
                let mib = |bytes: u64| bytes.div_ceil(1 << 20);
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "no-room", error.to_string()).chinese(format!(
                    "备份约需 {} MiB，而数据目录所在的文件系统只剩 {} MiB：请删除旧备份或清理磁盘",
                    mib(*needed),
                    mib(*free)
                ))
            }
            BackupError::Unknown(name) => Self::not_found(error.to_string()).chinese(format!("没有名为 {name} 的备份")),
            BackupError::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Self::of_kind(StatusCode::INSUFFICIENT_STORAGE, "no-room")
            }
            BackupError::File { .. } | BackupError::Database(_) => Self::internal(&error),
        }
    }
}
