//! The tables of roll-outs: the only SQL here.

use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Order, QueryResult};

use super::host_key::HostKey;
use super::plan::{Action, Step};
use super::program::Program;
use super::{KnownKey, Line, Rollout, State, Target, Told};
use crate::fleet::FleetError;
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, HostKeyId, OrganizationId, RolloutId};

const ROLLOUT: [&str; 8] =
    ["id", "organization_id", "action", "program", "dry_run", "made_by", "created_ms", "finished_ms"];
const TARGET: [&str; 19] = [
    "rollout_id",
    "number",
    "organization_id",
    "address",
    "port",
    "login",
    "site",
    "state",
    "step",
    "fault",
    "fault_english",
    "fault_chinese",
    "key_algorithm",
    "key_text",
    "key_fingerprint",
    "agent_id",
    "version_before",
    "version",
    "updated_ms",
];
const KEY: [&str; 9] = [
    "id",
    "organization_id",
    "address",
    "port",
    "algorithm",
    "key_text",
    "fingerprint",
    "confirmed_by",
    "confirmed_ms",
];

fn rollout(row: &QueryResult) -> Result<Rollout, FleetError> {
    let [action, program]: [String; 2] = [row.try_get("", "action")?, row.try_get("", "program")?];
    Ok(Rollout {
        id: RolloutId(row.try_get("", "id")?),
        organization: OrganizationId(row.try_get("", "organization_id")?),
        action: Action::of_name(&action).ok_or(FleetError::Unknown { table: "rollout", column: "action" })?,
        program: Program::of_name(&program).ok_or(FleetError::Unknown { table: "rollout", column: "program" })?,
        dry_run: row.try_get::<i64>("", "dry_run")? != 0,
        made_by: row.try_get("", "made_by")?,
        created_ms: row.try_get("", "created_ms")?,
        finished_ms: row.try_get("", "finished_ms")?,
    })
}

fn target(row: &QueryResult) -> Result<Target, FleetError> {
    let unknown = |column| FleetError::Unknown { table: "rollout_target", column };
    let state: String = row.try_get("", "state")?;
    let step: Option<String> = row.try_get("", "step")?;
    let fault: Option<String> = row.try_get("", "fault")?;
    let text: Option<String> = row.try_get("", "key_text")?;
    let or_empty = |column| row.try_get::<Option<String>>("", column).map(Option::unwrap_or_default);
    let agent: Option<i64> = row.try_get("", "agent_id")?;
    Ok(Target {
        rollout: RolloutId(row.try_get("", "rollout_id")?),
        number: row.try_get("", "number")?,
        organization: OrganizationId(row.try_get("", "organization_id")?),
        address: row.try_get("", "address")?,
        port: port(row, "rollout_target")?,
        user: row.try_get("", "login")?,
        site: row.try_get("", "site")?,
        state: State::of_name(&state).ok_or(unknown("state"))?,
        step: match step {
            Some(step) => Some(Step::of_name(&step).ok_or(unknown("step"))?),
            None => None,
        },
        fault: match fault {
            Some(code) => Some(Told { code, english: or_empty("fault_english")?, chinese: or_empty("fault_chinese")? }),
            None => None,
        },
        offered: match text {
            Some(text) => {
                let [algorithm, fingerprint] = [or_empty("key_algorithm")?, or_empty("key_fingerprint")?];
                Some(HostKey { algorithm, text, fingerprint })
            }
            None => None,
        },
        agent: agent.map(AgentId),
        version_before: row.try_get("", "version_before")?,
        version: row.try_get("", "version")?,
        updated_ms: row.try_get("", "updated_ms")?,
    })
}

fn port(row: &QueryResult, table: &'static str) -> Result<u16, FleetError> {
    let port: i64 = row.try_get("", "port")?;
    u16::try_from(port).map_err(|_| FleetError::Unknown { table, column: "port" })
}

fn known(row: &QueryResult) -> Result<KnownKey, FleetError> {
    Ok(KnownKey {
        id: HostKeyId(row.try_get("", "id")?),
        organization: OrganizationId(row.try_get("", "organization_id")?),
        address: row.try_get("", "address")?,
        port: port(row, "ssh_host_key")?,
        key: HostKey {
            algorithm: row.try_get("", "algorithm")?,
            text: row.try_get("", "key_text")?,
            fingerprint: row.try_get("", "fingerprint")?,
        },
        confirmed_by: row.try_get("", "confirmed_by")?,
        confirmed_ms: row.try_get("", "confirmed_ms")?,
    })
}

/// All roll-outs, newest first, with how many of their machines are in which state.
pub(super) async fn rollout_list(
    connection: &impl ConnectionTrait,
) -> Result<Vec<(Rollout, Vec<(State, usize)>)>, FleetError> {
    let rows = Query::select().columns(ROLLOUT).from("rollout").order_by("id", Order::Desc).to_owned();
    let mut rollouts = Vec::new();
    for row in connection.query_all(&rows).await? {
        rollouts.push((rollout(&row)?, Vec::new()));
    }
    let states = Query::select()
        .columns(["rollout_id", "state"])
        .expr_as(Expr::col("number").count(), "machines")
        .from("rollout_target")
        .group_by_columns(["rollout_id", "state"])
        .to_owned();
    for row in connection.query_all(&states).await? {
        let (id, state, machines): (i64, String, i64) =
            (row.try_get("", "rollout_id")?, row.try_get("", "state")?, row.try_get("", "machines")?);
        // Newest first.
        let at = rollouts.binary_search_by(|(rollout, _)| id.cmp(&rollout.id.0));
        if let (Ok(at), Some(state)) = (at, State::of_name(&state)) {
            rollouts[at].1.push((state, usize::try_from(machines).unwrap_or(0)));
        }
    }
    Ok(rollouts)
}

pub(super) async fn rollout_fetch(
    connection: &impl ConnectionTrait,
    id: RolloutId,
) -> Result<Option<Rollout>, FleetError> {
    let row = Query::select().columns(ROLLOUT).from("rollout").and_where(Expr::col("id").eq(id.0)).to_owned();
    connection.query_one(&row).await?.as_ref().map(rollout).transpose()
}

/// Its machines, in order.
pub(super) async fn targets_fetch(connection: &impl ConnectionTrait, id: RolloutId) -> Result<Vec<Target>, FleetError> {
    let rows = Query::select()
        .columns(TARGET)
        .from("rollout_target")
        .and_where(Expr::col("rollout_id").eq(id.0))
        .order_by("number", Order::Asc)
        .to_owned();
    connection.query_all(&rows).await?.iter().map(target).collect()
}

/// What was said of a machine, in order.
pub(super) async fn lines_fetch(
    connection: &impl ConnectionTrait,
    id: RolloutId,
    number: i64,
) -> Result<Vec<Line>, FleetError> {
    let rows = Query::select()
        .columns(["at_ms", "step", "english", "chinese"])
        .from("rollout_line")
        .and_where(Expr::col("rollout_id").eq(id.0))
        .and_where(Expr::col("target").eq(number))
        .order_by("number", Order::Asc)
        .to_owned();
    let mut lines = Vec::new();
    for row in connection.query_all(&rows).await? {
        let step: Option<String> = row.try_get("", "step")?;
        lines.push(Line {
            at_ms: row.try_get("", "at_ms")?,
            step: step.as_deref().and_then(Step::of_name),
            english: row.try_get("", "english")?,
            chinese: row.try_get("", "chinese")?,
        });
    }
    Ok(lines)
}

/// Inserts a roll-out with its machines and forgets the oldest beyond `kept`.
pub(super) async fn rollout_insert(
    transaction: &DatabaseTransaction,
    rollout: &Rollout,
    targets: &[Target],
    kept: i64,
) -> Result<(), DbErr> {
    let old = rollout.id.0 - kept;
    for (table, column) in [("rollout_line", "rollout_id"), ("rollout_target", "rollout_id"), ("rollout", "id")] {
        transaction.execute(Query::delete().from_table(table).and_where(Expr::col(column).lte(old))).await?;
    }
    transaction
        .execute(Query::insert().into_table("rollout").columns(ROLLOUT).values_panic([
            rollout.id.0.into(),
            rollout.organization.0.into(),
            rollout.action.name().into(),
            rollout.program.name().into(),
            i64::from(rollout.dry_run).into(),
            rollout.made_by.as_str().into(),
            rollout.created_ms.into(),
            rollout.finished_ms.into(),
        ]))
        .await?;
    for some in targets.chunks(100) {
        let columns = TARGET[..8].iter().copied().chain(["updated_ms"]);
        let mut insert = Query::insert().into_table("rollout_target").columns(columns).to_owned();
        for target in some {
            insert.values_panic([
                target.rollout.0.into(),
                target.number.into(),
                target.organization.0.into(),
                target.address.as_str().into(),
                i64::from(target.port).into(),
                target.user.as_str().into(),
                target.site.as_str().into(),
                target.state.name().into(),
                target.updated_ms.into(),
            ]);
        }
        transaction.execute(&insert).await?;
    }
    Ok(())
}

/// Writes how far a machine is, and what was said of it, behind the `from` lines that are there.
pub(super) async fn target_save(
    transaction: &DatabaseTransaction,
    target: &Target,
    lines: &[Line],
    from: i64,
) -> Result<(), DbErr> {
    let fault = |part: fn(&Told) -> &str| target.fault.as_ref().map(|fault| part(fault).to_owned());
    let key = |part: fn(&HostKey) -> &str| target.offered.as_ref().map(|key| part(key).to_owned());
    transaction
        .execute(
            Query::update()
                .table("rollout_target")
                .value("state", target.state.name())
                .value("step", target.step.map(Step::name))
                .value("fault", fault(|fault| &fault.code))
                .value("fault_english", fault(|fault| &fault.english))
                .value("fault_chinese", fault(|fault| &fault.chinese))
                .value("key_algorithm", key(|key| &key.algorithm))
                .value("key_text", key(|key| &key.text))
                .value("key_fingerprint", key(|key| &key.fingerprint))
                .value("agent_id", target.agent.map(|agent| agent.0))
                .value("version_before", target.version_before.clone())
                .value("version", target.version.clone())
                .value("updated_ms", target.updated_ms)
                .and_where(Expr::col("rollout_id").eq(target.rollout.0))
                .and_where(Expr::col("number").eq(target.number)),
        )
        .await?;
    if lines.is_empty() {
        return Ok(());
    }
    let mut insert = Query::insert()
        .into_table("rollout_line")
        .columns(["rollout_id", "target", "number", "at_ms", "step", "english", "chinese"])
        .to_owned();
    for (line, number) in lines.iter().zip(from..) {
        insert.values_panic([
            target.rollout.0.into(),
            target.number.into(),
            number.into(),
            line.at_ms.into(),
            line.step.map(Step::name).into(),
            line.english.as_str().into(),
            line.chinese.as_str().into(),
        ]);
    }
    transaction.execute(&insert).await.map(drop)
}

/// Says when a roll-out ended, or that it runs again.
pub(super) async fn rollout_finish(
    transaction: &DatabaseTransaction,
    id: RolloutId,
    finished_ms: Option<UnixMs>,
) -> Result<(), DbErr> {
    let update = Query::update()
        .table("rollout")
        .value("finished_ms", finished_ms)
        .and_where(Expr::col("id").eq(id.0))
        .to_owned();
    transaction.execute(&update).await.map(drop)
}

/// Of one roll-out, or of all: machines that are neither done nor failed become failed with a cause, and the roll-out
/// is over. How many they were.
pub(super) async fn interrupt(
    transaction: &DatabaseTransaction,
    id: Option<RolloutId>,
    fault: &Told,
    now_ms: UnixMs,
) -> Result<u64, DbErr> {
    let mut targets = Query::update()
        .table("rollout_target")
        .value("state", State::Failed.name())
        .value("fault", fault.code.as_str())
        .value("fault_english", fault.english.as_str())
        .value("fault_chinese", fault.chinese.as_str())
        .value("updated_ms", now_ms)
        .and_where(Expr::col("state").is_in([State::Waiting.name(), State::Running.name()]))
        .to_owned();
    let mut rollouts = Query::update()
        .table("rollout")
        .value("finished_ms", now_ms)
        .and_where(Expr::col("finished_ms").is_null())
        .to_owned();
    if let Some(id) = id {
        targets.and_where(Expr::col("rollout_id").eq(id.0));
        rollouts.and_where(Expr::col("id").eq(id.0));
    }
    let interrupted = transaction.execute(&targets).await?.rows_affected();
    transaction.execute(&rollouts).await?;
    Ok(interrupted)
}

/// The key that is known of a place in an organisation's network.
pub(super) async fn key_fetch(
    connection: &impl ConnectionTrait,
    organization: OrganizationId,
    (address, port): (&str, u16),
) -> Result<Option<KnownKey>, FleetError> {
    let row = Query::select()
        .columns(KEY)
        .from("ssh_host_key")
        .and_where(Expr::col("organization_id").eq(organization.0))
        .and_where(Expr::col("address").eq(address))
        .and_where(Expr::col("port").eq(i64::from(port)))
        .to_owned();
    connection.query_one(&row).await?.as_ref().map(known).transpose()
}

/// All of them, in order of ids.
pub(super) async fn key_list(connection: &impl ConnectionTrait) -> Result<Vec<KnownKey>, FleetError> {
    let rows = Query::select().columns(KEY).from("ssh_host_key").order_by("id", Order::Asc).to_owned();
    connection.query_all(&rows).await?.iter().map(known).collect()
}

pub(super) async fn key_insert(transaction: &DatabaseTransaction, key: &KnownKey) -> Result<(), DbErr> {
    transaction
        .execute(Query::insert().into_table("ssh_host_key").columns(KEY).values_panic([
            key.id.0.into(),
            key.organization.0.into(),
            key.address.as_str().into(),
            i64::from(key.port).into(),
            key.key.algorithm.as_str().into(),
            key.key.text.as_str().into(),
            key.key.fingerprint.as_str().into(),
            key.confirmed_by.as_str().into(),
            key.confirmed_ms.into(),
        ]))
        .await
        .map(drop)
}

pub(super) async fn key_delete(transaction: &DatabaseTransaction, id: HostKeyId) -> Result<(), DbErr> {
    transaction.execute(Query::delete().from_table("ssh_host_key").and_where(Expr::col("id").eq(id.0))).await.map(drop)
}
