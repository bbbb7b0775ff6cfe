//! The tables of compute: the only SQL here. Hosts; one file more for each other kind of thing.

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use super::joining::{HostRow, Join};
use crate::platform::ids::{HostId, OrganizationId, ProviderId, SourceId};

pub(super) mod ledger;
pub(super) mod provider;
pub(super) mod vm;

/// Rows a statement: well below the number of parameters that either database takes.
pub(super) const ROWS: usize = 1_000;

pub(super) async fn host_list(connection: &impl ConnectionTrait) -> Result<Vec<HostRow>, DbErr> {
    let hosts = Query::select()
        .columns(["id", "organization_id", "machine_id", "created_ms", "provider_id"])
        .from("host")
        .to_owned();
    let rows = connection.query_all(&hosts).await?;
    let host = |row: &sea_orm::QueryResult| -> Result<HostRow, DbErr> {
        let provider: Option<i64> = row.try_get("", "provider_id")?;
        Ok(HostRow {
            id: HostId(row.try_get("", "id")?),
            organization: OrganizationId(row.try_get("", "organization_id")?),
            machine_id: row.try_get("", "machine_id")?,
            created_ms: row.try_get("", "created_ms")?,
            provider: provider.map(ProviderId),
        })
    };
    rows.iter().map(host).collect()
}

/// Which source is of which host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinTable {
    /// Hosts' own.
    Host,
    /// Hypervisors'.
    Node,
}

impl JoinTable {
    fn name(self) -> &'static str {
        match self {
            Self::Host => "host_source",
            Self::Node => "host_node",
        }
    }
}

pub(super) async fn host_source_list(connection: &impl ConnectionTrait, table: JoinTable) -> Result<Vec<Join>, DbErr> {
    let sources = Query::select().columns(["source_id", "host_id", "from_ms"]).from(table.name()).to_owned();
    let rows = connection.query_all(&sources).await?;
    let join = |row: &sea_orm::QueryResult| -> Result<Join, DbErr> {
        Ok(Join {
            source: SourceId(row.try_get("", "source_id")?),
            host: HostId(row.try_get("", "host_id")?),
            from_ms: row.try_get("", "from_ms")?,
        })
    };
    rows.iter().map(join).collect()
}

pub(super) async fn host_insert(transaction: &DatabaseTransaction, hosts: &[HostRow]) -> Result<(), DbErr> {
    for some in hosts.chunks(ROWS) {
        let mut insert = Query::insert()
            .into_table("host")
            .columns(["id", "organization_id", "machine_id", "created_ms"])
            .to_owned();
        for host in some {
            insert.values_panic([
                host.id.0.into(),
                host.organization.0.into(),
                host.machine_id.as_str().into(),
                host.created_ms.into(),
            ]);
        }
        transaction.execute(&insert).await?;
    }
    Ok(())
}

pub(super) async fn host_source_insert(
    transaction: &DatabaseTransaction,
    table: JoinTable,
    joins: &[Join],
) -> Result<(), DbErr> {
    for some in joins.chunks(ROWS) {
        let mut insert = Query::insert()
            .into_table(table.name())
            .columns(["source_id", "host_id", "from_ms"])
            .on_conflict(OnConflict::column("source_id").do_nothing().to_owned())
            .to_owned();
        for join in some {
            insert.values_panic([join.source.0.into(), join.host.0.into(), join.from_ms.into()]);
        }
        transaction.execute(&insert).await?;
    }
    Ok(())
}

/// Says who provides a host.
pub(super) async fn host_provider_set(
    transaction: &DatabaseTransaction,
    host: HostId,
    provider: Option<ProviderId>,
) -> Result<(), DbErr> {
    let update = Query::update()
        .table("host")
        .value("provider_id", provider.map(|provider| provider.0))
        .and_where(Expr::col("id").eq(host.0))
        .to_owned();
    transaction.execute(&update).await?;
    Ok(())
}
