//! Rows of providers.

use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use crate::compute::provider::{Provider, ProviderKind};
use crate::platform::ids::ProviderId;

const COLUMNS: [&str; 6] = ["id", "name", "kind", "contact", "version", "created_ms"];

pub(in crate::compute) async fn list(connection: &impl ConnectionTrait) -> Result<Vec<Provider>, DbErr> {
    let all = Query::select().columns(COLUMNS).from("provider").to_owned();
    let provider = |row: &sea_orm::QueryResult| -> Result<Provider, DbErr> {
        let (kind, version): (String, i64) = (row.try_get("", "kind")?, row.try_get("", "version")?);
        Ok(Provider {
            id: ProviderId(row.try_get("", "id")?),
            name: row.try_get("", "name")?,
            kind: if kind == ProviderKind::Own.name() { ProviderKind::Own } else { ProviderKind::Outsourced },
            contact: row.try_get("", "contact")?,
            version: version.unsigned_abs(),
            created_ms: row.try_get("", "created_ms")?,
        })
    };
    connection.query_all(&all).await?.iter().map(provider).collect()
}

pub(in crate::compute) async fn insert(transaction: &DatabaseTransaction, provider: &Provider) -> Result<(), DbErr> {
    let insert = Query::insert()
        .into_table("provider")
        .columns(COLUMNS)
        .values_panic([
            provider.id.0.into(),
            provider.name.as_str().into(),
            provider.kind.name().into(),
            provider.contact.as_str().into(),
            (provider.version as i64).into(),
            provider.created_ms.into(),
        ])
        .to_owned();
    transaction.execute(&insert).await?;
    Ok(())
}

pub(in crate::compute) async fn update(transaction: &DatabaseTransaction, provider: &Provider) -> Result<(), DbErr> {
    let update = Query::update()
        .table("provider")
        .value("name", provider.name.as_str())
        .value("kind", provider.kind.name())
        .value("contact", provider.contact.as_str())
        .value("version", provider.version as i64)
        .and_where(Expr::col("id").eq(provider.id.0))
        .to_owned();
    transaction.execute(&update).await?;
    Ok(())
}

pub(in crate::compute) async fn delete(transaction: &DatabaseTransaction, id: ProviderId) -> Result<(), DbErr> {
    let delete = Query::delete().from_table("provider").and_where(Expr::col("id").eq(id.0)).to_owned();
    transaction.execute(&delete).await?;
    Ok(())
}
