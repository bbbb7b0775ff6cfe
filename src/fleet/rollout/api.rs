//! The API of roll-outs. Each handler: extract, permit, call the domain, render.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::packages::Package;
use super::plan::{Action, Step};
use super::program::Program;
use super::{Credential, KnownKey, Line, Order, PackagesError, Rollout, RolloutError, Rollouts, State, Target, Told};
use crate::access::Permit;
use crate::access::Principal;
use crate::access::capability::{AgentsRead, AgentsWrite};
use crate::platform::clock::UnixMs;
use crate::platform::http::page::{Limit, Page};
use crate::platform::http::{Language, Problem, finish};
use crate::platform::ids::{AgentId, HostKeyId, OrganizationId, RolloutId};

/// All operations.
pub fn router(rollouts: Rollouts) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(rollout_list, rollout_create))
        .routes(routes!(package_list))
        .routes(routes!(rollout_fetch))
        .routes(routes!(rollout_resume))
        .routes(routes!(rollout_transcript))
        .routes(routes!(host_key_confirm))
        .routes(routes!(host_key_list))
        .routes(routes!(host_key_delete))
        .with_state(rollouts)
}

/// Machines by how they are.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Counts {
    /// Whose turn has not come.
    waiting: usize,
    /// Worked on.
    running: usize,
    /// Done.
    done: usize,
    /// Stopped by a fault.
    failed: usize,
}

impl FromIterator<(State, usize)> for Counts {
    fn from_iter<I: IntoIterator<Item = (State, usize)>>(states: I) -> Self {
        states.into_iter().fold(Self::default(), |mut counts, (state, machines)| {
            *match state {
                State::Waiting => &mut counts.waiting,
                State::Running => &mut counts.running,
                State::Done => &mut counts.done,
                State::Failed => &mut counts.failed,
            } += machines;
            counts
        })
    }
}

/// A roll-out.
#[derive(Debug, Serialize, ToSchema)]
struct RolloutReport {
    /// Its id.
    #[schema(value_type = String, example = "rollout_3")]
    id: RolloutId,
    /// Whose it is.
    #[schema(value_type = String, example = "org_1")]
    organization: OrganizationId,
    /// What is done.
    action: Action,
    /// To which agent.
    program: Program,
    /// Whether nothing is changed.
    dry_run: bool,
    /// Who asked for it, as they were called then.
    made_by: String,
    /// When it was asked for (Unix time in milliseconds).
    created_ms: UnixMs,
    /// When it ended; null: it runs.
    finished_ms: Option<UnixMs>,
    /// Its machines.
    machines: Counts,
    /// The steps of its action, in order.
    plan: Vec<Step>,
}

impl RolloutReport {
    fn new(rollout: Rollout, states: impl IntoIterator<Item = (State, usize)>) -> Self {
        let Rollout { id, organization, action, program, dry_run, made_by, created_ms, finished_ms } = rollout;
        let machines = states.into_iter().collect();
        let plan = action.plan().to_vec();
        Self { id, organization, action, program, dry_run, made_by, created_ms, finished_ms, machines, plan }
    }
}

/// Why a machine is not done.
#[derive(Debug, Serialize, ToSchema)]
struct FaultReport {
    /// Its kind, such as `host_key_unknown`, `login_refused`, `no_space`.
    #[schema(example = "host_key_unknown")]
    kind: String,
    /// What it is and what to do.
    detail: String,
}

impl FaultReport {
    fn new(told: Told, language: Language) -> Self {
        let Told { code, english, chinese } = told;
        Self { kind: code, detail: if language == Language::Chinese { chinese } else { english } }
    }
}

/// One machine of a roll-out.
#[derive(Debug, Serialize, ToSchema)]
struct TargetReport {
    /// Its number in the roll-out.
    number: i64,
    /// Host name or address.
    address: String,
    /// Of its SSH server.
    port: u16,
    /// Who logs in.
    user: String,
    /// Where it stands.
    site: String,
    /// Owner of what is enrolled there.
    #[schema(value_type = String, example = "org_1")]
    organization: OrganizationId,
    /// How it is.
    state: State,
    /// The step that it is in, or ended in.
    step: Option<Step>,
    /// Why it is not done.
    fault: Option<FaultReport>,
    /// Fingerprint of the host key that it showed last.
    #[schema(example = "SHA256:uNiVztksCsDhcc0u9e8BrrJ2IyDkNaoxtEvn7T1Rgxg")]
    host_key: Option<String>,
    /// The agent there.
    #[schema(value_type = Option<String>, example = "agent_7")]
    agent: Option<AgentId>,
    /// The version that was there before.
    version_before: Option<String>,
    /// The version that is to be there.
    version: Option<String>,
    /// When this was last so (Unix time in milliseconds).
    updated_ms: UnixMs,
}

impl TargetReport {
    fn new(target: Target, language: Language) -> Self {
        Self {
            number: target.number,
            address: target.address,
            port: target.port,
            user: target.user,
            site: target.site,
            organization: target.organization,
            state: target.state,
            step: target.step,
            fault: target.fault.map(|told| FaultReport::new(told, language)),
            host_key: target.offered.map(|key| key.fingerprint),
            agent: target.agent,
            version_before: target.version_before,
            version: target.version,
            updated_ms: target.updated_ms,
        }
    }
}

/// A roll-out with its machines.
#[derive(Debug, Serialize, ToSchema)]
struct RolloutDetail {
    #[serde(flatten)]
    rollout: RolloutReport,
    /// Each machine.
    targets: Vec<TargetReport>,
}

/// A line of what was said and done.
#[derive(Debug, Serialize, ToSchema)]
struct TranscriptLine {
    /// When (Unix time in milliseconds).
    at_ms: UnixMs,
    /// In which step.
    step: Option<Step>,
    /// What.
    text: String,
}

/// What was said and done on one machine. No credential and no token is in it.
#[derive(Debug, Serialize, ToSchema)]
struct Transcript {
    /// The machine.
    target: TargetReport,
    /// Oldest first.
    lines: Vec<TranscriptLine>,
}

/// A host key that a person confirmed.
#[derive(Debug, Serialize, ToSchema)]
struct HostKeyReport {
    /// Its id.
    #[schema(value_type = String, example = "hostkey_2")]
    id: HostKeyId,
    /// In whose network.
    #[schema(value_type = String, example = "org_1")]
    organization: OrganizationId,
    /// Host name or address.
    address: String,
    /// Of its SSH server.
    port: u16,
    /// Such as `ssh-ed25519`.
    algorithm: String,
    /// As `ssh-keygen -l` prints it.
    fingerprint: String,
    /// Who confirmed it, as they were called then.
    confirmed_by: String,
    /// When (Unix time in milliseconds).
    confirmed_ms: UnixMs,
}

impl From<KnownKey> for HostKeyReport {
    fn from(known: KnownKey) -> Self {
        Self {
            id: known.id,
            organization: known.organization,
            address: known.address,
            port: known.port,
            algorithm: known.key.algorithm,
            fingerprint: known.key.fingerprint,
            confirmed_by: known.confirmed_by,
            confirmed_ms: known.confirmed_ms,
        }
    }
}

/// A program that can be rolled out.
#[derive(Debug, Serialize, ToSchema)]
struct PackageReport {
    /// Which agent it is.
    program: Program,
    /// Its version.
    version: String,
    /// As `uname -m` says it.
    #[schema(example = "x86_64")]
    architecture: String,
    /// The oldest glibc on which it runs.
    #[schema(example = "2.17")]
    glibc: String,
    /// The oldest libvirt with which it runs; null: it needs none.
    #[schema(example = "1.2.14")]
    libvirt: Option<String>,
    /// Of its file.
    sha256: String,
    /// Bytes.
    size: u64,
}

impl From<Package> for PackageReport {
    fn from(package: Package) -> Self {
        let Package { program, version, architecture, glibc: (major, minor), libvirt, sha256, size, file: _ } = package;
        let libvirt = libvirt.map(|(major, minor, micro)| format!("{major}.{minor}.{micro}"));
        Self { program, version, architecture, glibc: format!("{major}.{minor}"), libvirt, sha256, size }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only roll-outs before this one: the `next` of the page before.
    #[param(value_type = Option<String>, example = "rollout_7")]
    after: Option<RolloutId>,
    /// Roll-outs of one page.
    #[serde(default)]
    #[param(value_type = Option<usize>, minimum = 1, maximum = 10_000)]
    limit: Limit,
}

/// Roll-outs, newest first.
#[utoipa::path(get, path = "/api/v1/rollouts", tag = "agents", params(ListQuery),
    responses((status = 200, body = Page<RolloutReport>), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem)))]
async fn rollout_list(
    Shared(rollouts): Shared<Rollouts>,
    principal: Principal,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<RolloutReport>>, Problem> {
    let permit = principal.permit()?;
    let listed = rollouts.list(&permit).await.map_err(|error| Problem::internal(&error))?;
    let listed = listed.into_iter().filter(|(rollout, _)| query.after.is_none_or(|after| rollout.id < after));
    let reports = listed.map(|(rollout, states)| RolloutReport::new(rollout, states));
    Ok(Json(Page::cut(reports, query.limit, |last| last.id)))
}

/// Begins to put agents on machines, to bring them up to date, to take them back or to remove them. The answer comes at
/// once; the roll-out tells how far it is. A machine whose host key nobody confirmed stops with `host_key_unknown`
/// before anything is sent to it: confirm the fingerprint, then resume.
#[utoipa::path(post, path = "/api/v1/rollouts", tag = "agents", request_body = Order,
    responses((status = 202, description = "It is begun.", body = RolloutDetail), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "A machine is worked on already, or control has no programs", body = Problem),
        (status = 422, body = Problem)))]
async fn rollout_create(
    Shared(rollouts): Shared<Rollouts>,
    principal: Principal,
    order: Result<Json<Order>, JsonRejection>,
) -> Result<(StatusCode, Json<RolloutDetail>), Problem> {
    let permit: Permit<AgentsWrite> = principal.permit()?;
    let Json(order) = order?;
    let creating = rollouts.clone();
    let id = finish(async move { creating.create(permit, order).await }).await??;
    Ok((StatusCode::ACCEPTED, Json(detail(&rollouts, &principal, id).await?)))
}

/// One roll-out with its machines.
#[utoipa::path(get, path = "/api/v1/rollouts/{id}", tag = "agents",
    params(("id" = String, Path, example = "rollout_3")),
    responses((status = 200, body = RolloutDetail), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn rollout_fetch(
    Shared(rollouts): Shared<Rollouts>,
    principal: Principal,
    Path(id): Path<RolloutId>,
) -> Result<Json<RolloutDetail>, Problem> {
    detail(&rollouts, &principal, id).await.map(Json)
}

async fn detail(rollouts: &Rollouts, principal: &Principal, id: RolloutId) -> Result<RolloutDetail, Problem> {
    let permit: Permit<AgentsRead> = principal.permit()?;
    let fetched = rollouts.fetch(&permit, id).await.map_err(|error| Problem::internal(&error))?;
    let (rollout, targets) = fetched.ok_or_else(|| no_rollout(id))?;
    let states: Vec<_> = targets.iter().map(|target| (target.state, 1)).collect();
    let language = permit.origin().language;
    let targets = targets.into_iter().map(|target| TargetReport::new(target, language)).collect();
    Ok(RolloutDetail { rollout: RolloutReport::new(rollout, states), targets })
}

fn no_rollout(id: RolloutId) -> Problem {
    Problem::not_found(format!("there is no roll-out {id}")).chinese(format!("没有部署任务 {id}，或您看不到它"))
}

/// With what a roll-out goes on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ResumeRequest {
    /// With what control logs in: it kept none.
    credential: Credential,
}

/// Goes on with the machines of a roll-out that are not done. What is done is not done again.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/resume", tag = "agents", request_body = ResumeRequest,
    params(("id" = String, Path, example = "rollout_3")),
    responses((status = 202, description = "It goes on.", body = RolloutDetail), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, description = "It runs, or a machine is worked on already, or all are done", body = Problem),
        (status = 422, body = Problem)))]
async fn rollout_resume(
    Shared(rollouts): Shared<Rollouts>,
    principal: Principal,
    Path(id): Path<RolloutId>,
    request: Result<Json<ResumeRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<RolloutDetail>), Problem> {
    let permit: Permit<AgentsWrite> = principal.permit()?;
    let Json(request) = request?;
    let resuming = rollouts.clone();
    let is_there = finish(async move { resuming.resume(permit, id, request.credential).await }).await??;
    if !is_there {
        return Err(no_rollout(id));
    }
    Ok((StatusCode::ACCEPTED, Json(detail(&rollouts, &principal, id).await?)))
}

/// What was said and done on one machine of a roll-out.
#[utoipa::path(get, path = "/api/v1/rollouts/{id}/targets/{number}", tag = "agents",
    params(("id" = String, Path, example = "rollout_3"), ("number" = i64, Path, example = 1)),
    responses((status = 200, body = Transcript), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn rollout_transcript(
    Shared(rollouts): Shared<Rollouts>,
    principal: Principal,
    Path((id, number)): Path<(RolloutId, i64)>,
) -> Result<Json<Transcript>, Problem> {
    let permit = principal.permit()?;
    let fetched = rollouts.transcript(&permit, id, number).await.map_err(|error| Problem::internal(&error))?;
    let (target, lines) = fetched.ok_or_else(|| no_rollout(id))?;
    let language = permit.origin().language;
    let line = |Line { at_ms, step, english, chinese }| TranscriptLine {
        at_ms,
        step,
        text: if language == Language::Chinese { chinese } else { english },
    };
    Ok(Json(Transcript { target: TargetReport::new(target, language), lines: lines.into_iter().map(line).collect() }))
}

/// What a person compared.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    /// As the machine itself prints it: `for f in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $f; done`.
    #[schema(example = "SHA256:uNiVztksCsDhcc0u9e8BrrJ2IyDkNaoxtEvn7T1Rgxg")]
    fingerprint: String,
}

/// Says that the fingerprint which a machine showed is its own. From then on no other key is taken for it.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/targets/{number}/host-key", tag = "agents",
    request_body = Confirmation,
    params(("id" = String, Path, example = "rollout_3"), ("number" = i64, Path, example = 1)),
    responses((status = 200, body = HostKeyReport), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem),
        (status = 409, description = "The machine showed another key, or another one is known", body = Problem),
        (status = 422, body = Problem)))]
async fn host_key_confirm(
    Shared(rollouts): Shared<Rollouts>,
    principal: Principal,
    Path((id, number)): Path<(RolloutId, i64)>,
    request: Result<Json<Confirmation>, JsonRejection>,
) -> Result<Json<HostKeyReport>, Problem> {
    let permit: Permit<AgentsWrite> = principal.permit()?;
    let Json(Confirmation { fingerprint }) = request?;
    let confirming =
        finish(async move { rollouts.host_key_confirm(&permit, (id, number), &fingerprint).await }).await??;
    confirming.map(|known| Json(known.into())).ok_or_else(|| no_rollout(id))
}

/// The host keys that were confirmed.
#[utoipa::path(get, path = "/api/v1/host-keys", tag = "agents",
    responses((status = 200, body = Page<HostKeyReport>), (status = 401, body = Problem), (status = 403, body = Problem)))]
async fn host_key_list(
    Shared(rollouts): Shared<Rollouts>,
    principal: Principal,
) -> Result<Json<Page<HostKeyReport>>, Problem> {
    let permit = principal.permit()?;
    let keys = rollouts.host_key_list(&permit).await.map_err(|error| Problem::internal(&error))?;
    Ok(Json(Page { items: keys.into_iter().map(HostKeyReport::from).collect(), next: None }))
}

/// Forgets a host key, because the machine was set up anew: its next key is shown, and confirmed, as for the first time.
#[utoipa::path(delete, path = "/api/v1/host-keys/{id}", tag = "agents",
    params(("id" = String, Path, example = "hostkey_2")),
    responses((status = 204), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
async fn host_key_delete(
    Shared(rollouts): Shared<Rollouts>,
    principal: Principal,
    Path(id): Path<HostKeyId>,
) -> Result<StatusCode, Problem> {
    let permit: Permit<AgentsWrite> = principal.permit()?;
    let deleted = finish(async move { rollouts.host_key_delete(&permit, id).await }).await?;
    if deleted.map_err(|error| Problem::internal(&error))? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found(format!("there is no host key {id}"))
            .chinese(format!("没有主机密钥 {id}，或您看不到它")))
    }
}

/// The programs that control can roll out.
#[utoipa::path(get, path = "/api/v1/rollouts/packages", tag = "agents",
    responses((status = 200, body = Page<PackageReport>), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, description = "There are none", body = Problem)))]
async fn package_list(
    Shared(rollouts): Shared<Rollouts>,
    principal: Principal,
) -> Result<Json<Page<PackageReport>>, Problem> {
    let permit = principal.permit()?;
    let packages = rollouts.packages(&permit).map_err(RolloutError::from)?;
    Ok(Json(Page { items: packages.into_iter().map(PackageReport::from).collect(), next: None }))
}

impl From<RolloutError> for Problem {
    fn from(error: RolloutError) -> Self {
        let english = error.to_string();
        match error {
            RolloutError::Invalid(faults) => {
                let problem = Self::invalid(english).chinese("部署任务中有不正确的字段");
                faults.iter().fold(problem, |problem, fault| problem.field(&fault.field, fault.english, fault.chinese))
            }
            RolloutError::Organization(id) => Self::not_found(english).chinese(format!("没有组织 {id}，或您看不到它")),
            RolloutError::Busy(machine) => {
                Self::conflict(english).chinese(format!("{machine} 正由另一个部署任务处理，请等待其结束"))
            }
            RolloutError::Nothing => Self::conflict(english).chinese("此部署任务的所有主机均已完成"),
            RolloutError::NotOffered(fingerprint) => {
                Self::conflict(english).chinese(format!("{fingerprint} 不是该主机出示的指纹：请重新查看部署任务"))
            }
            RolloutError::Known(id) => {
                Self::conflict(english).chinese(format!("该主机已确认过另一个密钥；如主机已重装，请先删除 {id}"))
            }
            RolloutError::Packages(PackagesError::Missing(path)) => Self::conflict(english).chinese(format!(
                "控制端没有可部署的探针：缺少 {}；可用 `make agents` 生成，或用 agents.directory 指定目录",
                path.display()
            )),
            RolloutError::Packages(PackagesError::Damaged { path, reason }) => {
                Self::conflict(english).chinese(format!("可部署的探针不可用：{}：{reason}", path.display()))
            }
            RolloutError::Store(_) => Self::internal(&english),
        }
    }
}
