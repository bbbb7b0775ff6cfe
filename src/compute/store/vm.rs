//! Rows of virtual machines.

use std::collections::BTreeMap;

use sea_orm::sea_query::{OnConflict, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult};

use super::ROWS;
use crate::compute::vm::placing::Place;
use crate::compute::vm::{Purpose, Vm, VmJoin, VmRow};
use crate::platform::ids::{HostId, OrganizationId, ProviderId, SourceId, VmId};

const COLUMNS: [&str; 12] = [
    "id",
    "organization_id",
    "uuid",
    "created_ms",
    "version",
    "owner_id",
    "assigned_ms",
    "application",
    "purpose",
    "expires_ms",
    "provider_id",
    "host_id",
];

/// What people change.
const CHANGING: [&str; 7] =
    ["version", "owner_id", "assigned_ms", "application", "purpose", "expires_ms", "provider_id"];

fn row(row: &QueryResult) -> Result<VmRow, DbErr> {
    let (owner, provider): (Option<i64>, Option<i64>) = (row.try_get("", "owner_id")?, row.try_get("", "provider_id")?);
    let host: Option<i64> = row.try_get("", "host_id")?;
    let (version, purpose): (i64, Option<String>) = (row.try_get("", "version")?, row.try_get("", "purpose")?);
    Ok(VmRow {
        id: VmId(row.try_get("", "id")?),
        organization: OrganizationId(row.try_get("", "organization_id")?),
        uuid: row.try_get("", "uuid")?,
        created_ms: row.try_get("", "created_ms")?,
        version: version.unsigned_abs(),
        owner: owner.map(OrganizationId),
        assigned_ms: row.try_get("", "assigned_ms")?,
        application: row.try_get("", "application")?,
        purpose: purpose.as_deref().and_then(Purpose::of_name),
        expires_ms: row.try_get("", "expires_ms")?,
        provider: provider.map(ProviderId),
        host: host.map(HostId),
    })
}

/// All of them, with their sources and places.
pub(in crate::compute) async fn list(connection: &impl ConnectionTrait) -> Result<Vec<Vm>, DbErr> {
    let mut all = BTreeMap::new();
    let rows = Query::select().columns(COLUMNS).from("vm").to_owned();
    for found in connection.query_all(&rows).await? {
        let row = row(&found)?;
        all.insert(row.id, Vm { row, sources: Vec::new(), places: Vec::new(), conflict: None });
    }
    let sources = Query::select().columns(["source_id", "vm_id", "from_ms"]).from("vm_source").to_owned();
    for row in connection.query_all(&sources).await? {
        let (source, vm) = (SourceId(row.try_get("", "source_id")?), VmId(row.try_get("", "vm_id")?));
        let join = VmJoin { source, vm, from_ms: row.try_get("", "from_ms")? };
        if let Some(vm) = all.get_mut(&vm) {
            vm.sources.push(join);
        }
    }
    let places = Query::select().columns(["vm_id", "from_ms", "source_id"]).from("vm_place").to_owned();
    for row in connection.query_all(&places).await? {
        let place = Place { source: SourceId(row.try_get("", "source_id")?), from_ms: row.try_get("", "from_ms")? };
        if let Some(vm) = all.get_mut(&VmId(row.try_get("", "vm_id")?)) {
            vm.places.push(place);
        }
    }
    let mut all: Vec<_> = all.into_values().collect();
    for vm in &mut all {
        vm.sources.sort_unstable_by_key(|join| join.source);
        vm.places.sort_unstable_by_key(|place| place.from_ms);
    }
    Ok(all)
}

/// Writes new ones, or others in the place of those that are there.
pub(in crate::compute) async fn put(transaction: &DatabaseTransaction, rows: &[VmRow]) -> Result<(), DbErr> {
    for some in rows.chunks(ROWS) {
        let mut insert = Query::insert()
            .into_table("vm")
            .columns(COLUMNS)
            .on_conflict(OnConflict::column("id").update_columns(CHANGING).to_owned())
            .to_owned();
        for row in some {
            insert.values_panic([
                row.id.0.into(),
                row.organization.0.into(),
                row.uuid.as_str().into(),
                row.created_ms.into(),
                (row.version as i64).into(),
                row.owner.map(|owner| owner.0).into(),
                row.assigned_ms.into(),
                row.application.clone().into(),
                row.purpose.map(Purpose::name).into(),
                row.expires_ms.into(),
                row.provider.map(|provider| provider.0).into(),
                row.host.map(|host| host.0).into(),
            ]);
        }
        transaction.execute(&insert).await?;
    }
    Ok(())
}

pub(in crate::compute) async fn source_insert(
    transaction: &DatabaseTransaction,
    joins: &[VmJoin],
) -> Result<(), DbErr> {
    for some in joins.chunks(ROWS) {
        let mut insert = Query::insert()
            .into_table("vm_source")
            .columns(["source_id", "vm_id", "from_ms"])
            .on_conflict(OnConflict::column("source_id").do_nothing().to_owned())
            .to_owned();
        for join in some {
            insert.values_panic([join.source.0.into(), join.vm.0.into(), join.from_ms.into()]);
        }
        transaction.execute(&insert).await?;
    }
    Ok(())
}

pub(in crate::compute) async fn place_insert(
    transaction: &DatabaseTransaction,
    places: &[(VmId, Place)],
) -> Result<(), DbErr> {
    for some in places.chunks(ROWS) {
        let mut insert = Query::insert()
            .into_table("vm_place")
            .columns(["vm_id", "from_ms", "source_id"])
            .on_conflict(OnConflict::columns(["vm_id", "from_ms"]).do_nothing().to_owned())
            .to_owned();
        for (vm, place) in some {
            insert.values_panic([vm.0.into(), place.from_ms.into(), place.source.0.into()]);
        }
        transaction.execute(&insert).await?;
    }
    Ok(())
}
