//! The table of settings. The only SQL of this domain.

use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use super::{Content, Document, SettingsError};

const TABLE: &str = "setting";

/// The newest version, if it was ever set.
pub(super) async fn load<T: Content>(connection: &impl ConnectionTrait) -> Result<Option<Document<T>>, SettingsError> {
    let newest = Query::select()
        .columns(["version", "content", "changed_ms", "changed_by"])
        .from(TABLE)
        .and_where(Expr::col("name").eq(T::NAME))
        .to_owned();
    let Some(row) = connection.query_one(&newest).await? else { return Ok(None) };
    let (version, content): (i64, String) = (row.try_get("", "version")?, row.try_get("", "content")?);
    Ok(Some(Document {
        version: version.unsigned_abs(),
        changed: Some((row.try_get("", "changed_ms")?, row.try_get("", "changed_by")?)),
        content: serde_json::from_str(&content).map_err(|_| SettingsError::Unknown(T::NAME))?,
    }))
}

/// Puts a version in the place of the one before.
pub(super) async fn save<T: Content>(transaction: &DatabaseTransaction, document: &Document<T>) -> Result<(), DbErr> {
    transaction.execute(Query::delete().from_table(TABLE).and_where(Expr::col("name").eq(T::NAME))).await?;
    let content = serde_json::to_string(&document.content).map_err(|error| DbErr::Custom(error.to_string()))?;
    let (changed_ms, changed_by) = document.changed.clone().unwrap_or_default();
    transaction
        .execute(
            Query::insert()
                .into_table(TABLE)
                .columns(["name", "version", "content", "changed_ms", "changed_by"])
                .values_panic([
                    T::NAME.into(),
                    (document.version as i64).into(),
                    content.into(),
                    changed_ms.into(),
                    changed_by.into(),
                ]),
        )
        .await?;
    Ok(())
}
