//! The tables of the fleet: the only SQL here. Reads at start fill the memory that everything else asks.

use sea_orm::sea_query::{Expr, ExprTrait, Func, OnConflict, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult};

use super::FleetError;
use super::attempts::{AgentAttempt, Line};
use super::authority::{Issued, Serial};
use super::configuration::Desired;
use super::directory::{Certificate, Details};
use super::enrolment::{EnrolmentToken, NewAgent};
use super::events::Noted;
use super::state::AgentState;
use crate::platform::clock::UnixMs;
use crate::platform::db::Db;
use crate::platform::ids::{AgentId, EnrolmentTokenId, OrganizationId};

/// An agent as its row says.
pub(super) struct AgentRow {
    pub(super) id: AgentId,
    pub(super) enrolled_ms: UnixMs,
    pub(super) details: Details,
    pub(super) last_report_ms: Option<UnixMs>,
    pub(super) clock_offset_ms: Option<i64>,
    pub(super) cloned_ms: Option<UnixMs>,
}

const TOKEN_COLUMNS: [&str; 7] =
    ["id", "organization_id", "created_ms", "expires_ms", "uses", "uses_left", "revoked_ms"];

/// All agents, or those that enrolled with the key of this hash, in order of ids.
pub(super) async fn agents_load(db: &Db, key: Option<[u8; 32]>) -> Result<Vec<AgentRow>, FleetError> {
    let mut agents = Vec::new();
    let mut rows = Query::select()
        .columns(["id", "kind", "machine_id", "hostname", "version", "protocol", "interval_ms"])
        .columns(["enrolled_ms", "enrolment_token_id", "enrolment_key"])
        .columns(["revoked_ms", "last_report_ms", "clock_offset_ms", "cloned_ms"])
        .from("agent")
        .order_by("id", sea_orm::Order::Asc)
        .to_owned();
    if let Some(key) = key {
        rows.and_where(Expr::col("enrolment_key").eq(key.to_vec()));
    }
    for row in db.read().query_all(&rows).await? {
        let protocol: i64 = row.try_get("", "protocol")?;
        let interval_ms: i64 = row.try_get("", "interval_ms")?;
        agents.push(AgentRow {
            id: AgentId(row.try_get("", "id")?),
            enrolled_ms: row.try_get("", "enrolled_ms")?,
            details: Details {
                kind: row.try_get("", "kind")?,
                machine_id: row.try_get("", "machine_id")?,
                hostname: row.try_get("", "hostname")?,
                version: row.try_get("", "version")?,
                protocol: protocol as u32,
                interval_ms: interval_ms as u32,
                revoked_ms: row.try_get("", "revoked_ms")?,
                enrolled_with: (
                    EnrolmentTokenId(row.try_get("", "enrolment_token_id")?),
                    bytes(&row, "agent", "enrolment_key")?,
                ),
                certificates: Vec::new(),
                live: None,
                changed: false,
            },
            last_report_ms: row.try_get("", "last_report_ms")?,
            clock_offset_ms: row.try_get("", "clock_offset_ms")?,
            cloned_ms: row.try_get("", "cloned_ms")?,
        });
    }
    let mut certificates = Query::select()
        .columns(["serial", "agent_id", "not_after_ms"])
        .from("agent_certificate")
        .order_by("issued_ms", sea_orm::Order::Asc)
        .to_owned();
    if key.is_some() {
        certificates.and_where(Expr::col("agent_id").is_in(agents.iter().map(|row| row.id.0)));
    }
    for row in db.read().query_all(&certificates).await? {
        let agent = AgentId(row.try_get("", "agent_id")?);
        let Ok(at) = agents.binary_search_by_key(&agent, |row| row.id) else { continue };
        agents[at].details.certificates.push(Certificate {
            serial: bytes(&row, "agent_certificate", "serial")?,
            not_after_ms: row.try_get("", "not_after_ms")?,
        });
    }
    Ok(agents)
}

fn bytes<const N: usize>(row: &QueryResult, table: &'static str, column: &'static str) -> Result<[u8; N], FleetError> {
    let bytes: Vec<u8> = row.try_get("", column)?;
    bytes.try_into().map_err(|_| FleetError::Unknown { table, column })
}

fn token(row: &QueryResult) -> Result<EnrolmentToken, DbErr> {
    let count = |column| row.try_get::<i64>("", column).map(|count| count as u32);
    Ok(EnrolmentToken {
        id: EnrolmentTokenId(row.try_get("", "id")?),
        organization: OrganizationId(row.try_get("", "organization_id")?),
        created_ms: row.try_get("", "created_ms")?,
        expires_ms: row.try_get("", "expires_ms")?,
        uses: count("uses")?,
        uses_left: count("uses_left")?,
        revoked_ms: row.try_get("", "revoked_ms")?,
    })
}

pub(super) async fn token_list(db: &Db) -> Result<Vec<EnrolmentToken>, DbErr> {
    let rows =
        Query::select().columns(TOKEN_COLUMNS).from("enrolment_token").order_by("id", sea_orm::Order::Asc).to_owned();
    db.read().query_all(&rows).await?.iter().map(token).collect()
}

pub(super) async fn token_by_hash(
    connection: &impl ConnectionTrait,
    hash: &[u8; 32],
) -> Result<Option<EnrolmentToken>, DbErr> {
    let row = Query::select()
        .columns(TOKEN_COLUMNS)
        .from("enrolment_token")
        .and_where(Expr::col("hash").eq(hash.to_vec()))
        .to_owned();
    connection.query_one(&row).await?.as_ref().map(token).transpose()
}

/// Inserts a token under the next number, which it is given.
pub(super) async fn token_insert(
    transaction: &DatabaseTransaction,
    hash: &[u8; 32],
    token: &mut EnrolmentToken,
) -> Result<(), DbErr> {
    token.id = EnrolmentTokenId(next_id(transaction, "enrolment_token").await?);
    transaction
        .execute(
            Query::insert()
                .into_table("enrolment_token")
                .columns(["id", "hash", "organization_id", "created_ms", "expires_ms", "uses", "uses_left"])
                .values_panic([
                    token.id.0.into(),
                    hash.to_vec().into(),
                    token.organization.0.into(),
                    token.created_ms.into(),
                    token.expires_ms.into(),
                    i64::from(token.uses).into(),
                    i64::from(token.uses_left).into(),
                ]),
        )
        .await?;
    Ok(())
}

pub(super) async fn token_revoke(
    transaction: &DatabaseTransaction,
    id: EnrolmentTokenId,
    now_ms: UnixMs,
) -> Result<(), DbErr> {
    transaction
        .execute(
            Query::update()
                .table("enrolment_token")
                .value("revoked_ms", now_ms)
                .and_where(Expr::col("id").eq(id.0))
                .and_where(Expr::col("revoked_ms").is_null()),
        )
        .await?;
    Ok(())
}

/// Takes one use of a token that is still good. `false`: it is not.
pub(super) async fn token_take(
    transaction: &DatabaseTransaction,
    id: EnrolmentTokenId,
    now_ms: UnixMs,
) -> Result<bool, DbErr> {
    let taken = transaction
        .execute(
            Query::update()
                .table("enrolment_token")
                .value("uses_left", Expr::col("uses_left").sub(1))
                .and_where(Expr::col("id").eq(id.0))
                .and_where(Expr::col("uses_left").gt(0))
                .and_where(Expr::col("expires_ms").gt(now_ms))
                .and_where(Expr::col("revoked_ms").is_null()),
        )
        .await?;
    Ok(taken.rows_affected() == 1)
}

/// The number that the next row of a table gets. One process writes, through one connection.
pub(super) async fn next_id(transaction: &DatabaseTransaction, table: &'static str) -> Result<i64, DbErr> {
    let last = Query::select().expr_as(Func::max(Expr::col("id")), "last").from(table).to_owned();
    let last: Option<i64> = match transaction.query_one(&last).await? {
        Some(row) => row.try_get("", "last")?,
        None => None,
    };
    Ok(last.unwrap_or(0) + 1)
}

pub(super) async fn agent_insert(
    transaction: &DatabaseTransaction,
    id: AgentId,
    agent: &NewAgent,
    now_ms: UnixMs,
) -> Result<(), DbErr> {
    transaction
        .execute(
            Query::insert()
                .into_table("agent")
                .columns([
                    "id",
                    "kind",
                    "machine_id",
                    "hostname",
                    "version",
                    "protocol",
                    "interval_ms",
                    "enrolled_ms",
                    "enrolment_token_id",
                    "enrolment_key",
                ])
                .values_panic([
                    id.0.into(),
                    agent.kind.as_str().into(),
                    agent.machine_id.as_str().into(),
                    agent.hostname.as_str().into(),
                    agent.version.as_str().into(),
                    0i64.into(),
                    0i64.into(),
                    now_ms.into(),
                    agent.enrolled_with.0.0.into(),
                    agent.enrolled_with.1.to_vec().into(),
                ]),
        )
        .await?;
    Ok(())
}

pub(super) async fn certificate_insert(
    transaction: &DatabaseTransaction,
    agent: AgentId,
    issued: &Issued,
    now_ms: UnixMs,
) -> Result<(), DbErr> {
    transaction
        .execute(
            Query::insert()
                .into_table("agent_certificate")
                .columns(["serial", "agent_id", "issued_ms", "not_after_ms"])
                .values_panic([
                    issued.serial.to_vec().into(),
                    agent.0.into(),
                    now_ms.into(),
                    issued.not_after_ms.into(),
                ]),
        )
        .await?;
    Ok(())
}

/// Forgets every certificate of an agent but these.
pub(super) async fn certificates_keep(
    transaction: &DatabaseTransaction,
    agent: AgentId,
    keep: [Serial; 2],
) -> Result<(), DbErr> {
    transaction
        .execute(
            Query::delete()
                .from_table("agent_certificate")
                .and_where(Expr::col("agent_id").eq(agent.0))
                .and_where(Expr::col("serial").is_not_in(keep.map(|serial| serial.to_vec()))),
        )
        .await?;
    Ok(())
}

pub(super) async fn agent_revoke(transaction: &DatabaseTransaction, id: AgentId, now_ms: UnixMs) -> Result<(), DbErr> {
    transaction
        .execute(
            Query::update()
                .table("agent")
                .value("revoked_ms", now_ms)
                .and_where(Expr::col("id").eq(id.0))
                .and_where(Expr::col("revoked_ms").is_null()),
        )
        .await?;
    Ok(())
}

/// What an agent said of itself in its last hello, and when another machine said that it was this agent.
pub(super) struct Said {
    pub(super) id: AgentId,
    pub(super) machine_id: String,
    pub(super) hostname: String,
    pub(super) version: String,
    pub(super) protocol: u32,
    pub(super) interval_ms: u32,
    pub(super) cloned_ms: Option<UnixMs>,
}

/// When an agent last reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) id: AgentId,
    pub(super) last_report_ms: UnixMs,
    pub(super) clock_offset_ms: Option<i64>,
}

/// Writes what changed of many agents in one transaction.
pub(super) async fn agents_update(db: &Db, said: &[Said], heard: &[Heard]) -> Result<(), DbErr> {
    let transaction = db.begin("agents_update").await?;
    for agent in said {
        transaction
            .execute(
                Query::update()
                    .table("agent")
                    .value("machine_id", agent.machine_id.as_str())
                    .value("hostname", agent.hostname.as_str())
                    .value("version", agent.version.as_str())
                    .value("protocol", i64::from(agent.protocol))
                    .value("interval_ms", i64::from(agent.interval_ms))
                    .value("cloned_ms", agent.cloned_ms)
                    .and_where(Expr::col("id").eq(agent.id.0)),
            )
            .await?;
    }
    for some in heard.chunks(500) {
        // One statement for many rows, of integers alone; both databases name the columns of VALUES so.
        let values: Vec<String> = some
            .iter()
            .map(|heard| {
                let offset = heard.clock_offset_ms.map_or("NULL".to_owned(), |offset| offset.to_string());
                format!("({},{},CAST({offset} AS BIGINT))", heard.id.0, heard.last_report_ms)
            })
            .collect();
        transaction
            .execute_unprepared(&format!(
                "UPDATE agent SET last_report_ms = v.column2, clock_offset_ms = v.column3 \
                 FROM (VALUES {}) AS v WHERE agent.id = v.column1",
                values.join(",")
            ))
            .await?;
    }
    transaction.commit().await
}

/// The newest changes of agents' states, oldest first.
pub(super) async fn events_load(connection: &impl ConnectionTrait, most: usize) -> Result<Vec<Noted>, FleetError> {
    let newest = Query::select()
        .columns(["id", "agent_id", "at_ms", "state"])
        .from("agent_event")
        .order_by("id", sea_orm::Order::Desc)
        .limit(most as u64)
        .to_owned();
    let mut noted = Vec::new();
    for row in connection.query_all(&newest).await? {
        let state: String = row.try_get("", "state")?;
        noted.push(Noted {
            id: row.try_get("", "id")?,
            agent: AgentId(row.try_get("", "agent_id")?),
            at_ms: row.try_get("", "at_ms")?,
            state: AgentState::of_name(&state).ok_or(FleetError::Unknown { table: "agent_event", column: "state" })?,
        });
    }
    noted.reverse();
    Ok(noted)
}

/// Inserts changes and forgets those before the newest `kept`.
pub(super) async fn events_insert(db: &Db, noted: &[Noted], kept: usize) -> Result<(), DbErr> {
    let transaction = db.begin("agent_events").await?;
    for some in noted.chunks(500) {
        let mut insert =
            Query::insert().into_table("agent_event").columns(["id", "agent_id", "at_ms", "state"]).to_owned();
        for one in some {
            insert.values_panic([one.id.into(), one.agent.0.into(), one.at_ms.into(), one.state.as_str().into()]);
        }
        transaction.execute(&insert).await?;
    }
    if let Some(last) = noted.last() {
        let before = last.id - kept as i64;
        let old = Query::delete().from_table("agent_event").and_where(Expr::col("id").lte(before)).to_owned();
        transaction.execute(&old).await?;
    }
    transaction.commit().await
}

/// The newest lines of machines that were refused, the oldest first.
pub(super) async fn refusals_load(connection: &impl ConnectionTrait, most: usize) -> Result<Vec<Line>, FleetError> {
    let unknown = |column| FleetError::Unknown { table: "agent_refusal", column };
    let newest = Query::select()
        .columns(["id", "organization_id", "attempt", "reason", "network", "since_ms", "at_ms", "times"])
        .from("agent_refusal")
        .order_by("id", sea_orm::Order::Desc)
        .limit(most as u64)
        .to_owned();
    let mut lines = Vec::new();
    for row in connection.query_all(&newest).await? {
        let (attempt, network): (String, Option<String>) = (row.try_get("", "attempt")?, row.try_get("", "network")?);
        let times = row.try_get::<i64>("", "times")? as u64;
        lines.push(Line {
            id: row.try_get("", "id")?,
            organization: row.try_get::<Option<i64>>("", "organization_id")?.map(OrganizationId),
            attempt: AgentAttempt::of_name(&attempt).ok_or(unknown("attempt"))?,
            reason: row.try_get("", "reason")?,
            network: network.map(|text| text.parse()).transpose().map_err(|_| unknown("network"))?,
            since_ms: row.try_get("", "since_ms")?,
            at_ms: row.try_get("", "at_ms")?,
            times,
            written: times,
        });
    }
    lines.reverse();
    Ok(lines)
}

/// Writes lines, new or known, and forgets those before the newest `kept`.
pub(super) async fn refusals_write(db: &Db, lines: &[Line], kept: usize) -> Result<(), DbErr> {
    let transaction = db.begin("agent_refusals").await?;
    for some in lines.chunks(500) {
        let mut insert = Query::insert()
            .into_table("agent_refusal")
            .columns(["id", "organization_id", "attempt", "reason", "network", "since_ms", "at_ms", "times"])
            .on_conflict(OnConflict::column("id").update_columns(["at_ms", "times"]).to_owned())
            .to_owned();
        for line in some {
            insert.values_panic([
                line.id.into(),
                line.organization.map(|organization| organization.0).into(),
                line.attempt.name().into(),
                line.reason.as_str().into(),
                line.network.map(|network| network.to_string()).into(),
                line.since_ms.into(),
                line.at_ms.into(),
                (line.times as i64).into(),
            ]);
        }
        transaction.execute(&insert).await?;
    }
    if let Some(last) = lines.last() {
        let before = last.id - kept as i64;
        let old = Query::delete().from_table("agent_refusal").and_where(Expr::col("id").lte(before)).to_owned();
        transaction.execute(&old).await?;
    }
    transaction.commit().await
}

/// The newest version.
pub(super) async fn configuration_load(connection: &impl ConnectionTrait) -> Result<Option<Desired>, FleetError> {
    let newest = Query::select()
        .columns(["version", "interval_ms", "collectors", "created_ms"])
        .from("desired_configuration")
        .order_by("version", sea_orm::Order::Desc)
        .limit(1)
        .to_owned();
    let Some(row) = connection.query_one(&newest).await? else { return Ok(None) };
    let (version, interval_ms): (i64, i64) = (row.try_get("", "version")?, row.try_get("", "interval_ms")?);
    let collectors: String = row.try_get("", "collectors")?;
    let unknown = |_| FleetError::Unknown { table: "desired_configuration", column: "collectors" };
    let desired = Desired {
        version: version as u64,
        changed_ms: Some(row.try_get("", "created_ms")?),
        interval_ms: Some(interval_ms as u32).filter(|ms| *ms != 0),
        collectors: serde_json::from_str(&collectors).map_err(unknown)?,
    };
    Ok(Some(desired.within_limits()))
}

/// Inserts the newest version and forgets those before it.
pub(super) async fn configuration_insert(transaction: &DatabaseTransaction, desired: &Desired) -> Result<(), DbErr> {
    transaction.execute(&Query::delete().from_table("desired_configuration").to_owned()).await?;
    let collectors = serde_json::to_string(&desired.collectors).expect("texts and numbers are JSON");
    transaction
        .execute(
            Query::insert()
                .into_table("desired_configuration")
                .columns(["version", "interval_ms", "collectors", "created_ms"])
                .values_panic([
                    (desired.version as i64).into(),
                    i64::from(desired.interval_ms.unwrap_or(0)).into(),
                    collectors.into(),
                    desired.changed_ms.unwrap_or(0).into(),
                ]),
        )
        .await?;
    Ok(())
}
