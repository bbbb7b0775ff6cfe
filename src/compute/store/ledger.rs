//! Rows of the ledger.

use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult};

use super::ROWS;
use crate::compute::ledger::{Imported, Ledger, LedgerLine};
use crate::compute::vm::Purpose;
use crate::platform::ids::{LedgerLineId, OrganizationId, ProviderId};

const COLUMNS: [&str; 13] = [
    "id",
    "name",
    "uuid",
    "organization_id",
    "application",
    "purpose",
    "expires_ms",
    "provider_id",
    "vcpus",
    "memory_bytes",
    "disk_bytes",
    "contact",
    "note",
];
/// The one row of `ledger_import`.
const LAST: i64 = 1;

fn line(row: &QueryResult) -> Result<LedgerLine, DbErr> {
    let (purpose, provider): (Option<String>, Option<i64>) =
        (row.try_get("", "purpose")?, row.try_get("", "provider_id")?);
    Ok(LedgerLine {
        id: LedgerLineId(row.try_get("", "id")?),
        name: row.try_get("", "name")?,
        uuid: row.try_get("", "uuid")?,
        organization: OrganizationId(row.try_get("", "organization_id")?),
        application: row.try_get("", "application")?,
        purpose: purpose.as_deref().and_then(Purpose::of_name),
        expires_ms: row.try_get("", "expires_ms")?,
        provider: provider.map(ProviderId),
        vcpus: row.try_get("", "vcpus")?,
        memory_bytes: row.try_get("", "memory_bytes")?,
        disk_bytes: row.try_get("", "disk_bytes")?,
        contact: row.try_get("", "contact")?,
        note: row.try_get("", "note")?,
    })
}

/// All of it.
pub(in crate::compute) async fn load(connection: &impl ConnectionTrait) -> Result<Ledger, DbErr> {
    let all = Query::select().columns(COLUMNS).from("ledger_line").to_owned();
    let mut lines = connection.query_all(&all).await?.iter().map(line).collect::<Result<Vec<_>, _>>()?;
    lines.sort_unstable_by_key(|line| line.id);
    let last = Query::select().columns(["at_ms", "author", "file"]).from("ledger_import").to_owned();
    let imported = connection.query_one(&last).await?.map(|row| -> Result<Imported, DbErr> {
        Ok(Imported {
            at_ms: row.try_get("", "at_ms")?,
            by: row.try_get("", "author")?,
            file: row.try_get("", "file")?,
        })
    });
    Ok(Ledger { lines, imported: imported.transpose()? })
}

/// Writes some lines, new ones or others in their place; at most [`ROWS`].
pub(in crate::compute) async fn put(transaction: &DatabaseTransaction, lines: &[LedgerLine]) -> Result<(), DbErr> {
    let mut insert = Query::insert()
        .into_table("ledger_line")
        .columns(COLUMNS)
        .on_conflict(OnConflict::column("id").update_columns(COLUMNS.into_iter().skip(1)).to_owned())
        .to_owned();
    for line in lines {
        insert.values_panic([
            line.id.0.into(),
            line.name.as_str().into(),
            line.uuid.clone().into(),
            line.organization.0.into(),
            line.application.clone().into(),
            line.purpose.map(Purpose::name).into(),
            line.expires_ms.into(),
            line.provider.map(|provider| provider.0).into(),
            line.vcpus.into(),
            line.memory_bytes.into(),
            line.disk_bytes.into(),
            line.contact.clone().into(),
            line.note.clone().into(),
        ]);
    }
    transaction.execute(&insert).await?;
    Ok(())
}

/// Removes some.
pub(in crate::compute) async fn delete(transaction: &DatabaseTransaction, ids: &[LedgerLineId]) -> Result<(), DbErr> {
    for some in ids.chunks(ROWS) {
        let ids = some.iter().map(|id| id.0);
        let delete = Query::delete().from_table("ledger_line").and_where(Expr::col("id").is_in(ids)).to_owned();
        transaction.execute(&delete).await?;
    }
    Ok(())
}

/// Notes the import that changes it.
pub(in crate::compute) async fn import_set(
    transaction: &DatabaseTransaction,
    imported: &Imported,
) -> Result<(), DbErr> {
    let insert = Query::insert()
        .into_table("ledger_import")
        .columns(["id", "at_ms", "author", "file"])
        .values_panic([LAST.into(), imported.at_ms.into(), imported.by.as_str().into(), imported.file.as_str().into()])
        .on_conflict(OnConflict::column("id").update_columns(["at_ms", "author", "file"]).to_owned())
        .to_owned();
    transaction.execute(&insert).await?;
    Ok(())
}
