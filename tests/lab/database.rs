//! Looking into control's database from outside, for what no route tells.

use crate::http;
use sea_orm::{ConnectionTrait, Database, DbBackend, Statement};
use std::path::Path;

/// The address of the SQLite database in a data directory.
#[must_use]
pub fn sqlite(data: &Path) -> String {
    format!("sqlite://{}?mode=ro", data.join("tongtu.db").display())
}

/// The number that a query gives.
///
/// # Panics
/// When it gives none.
#[must_use]
#[track_caller]
pub fn number(url: &str, query: &str) -> i64 {
    let backend = if url.starts_with("sqlite") { DbBackend::Sqlite } else { DbBackend::Postgres };
    let answer = http::wait(async {
        let database = Database::connect(url).await?;
        let row = database.query_one_raw(Statement::from_string(backend, query)).await?;
        let number = row.map(|row| row.try_get_by_index::<i64>(0)).transpose()?;
        database.close().await?;
        Ok::<_, sea_orm::DbErr>(number)
    });
    answer.unwrap_or_else(|err| panic!("{query}: {err}")).unwrap_or_else(|| panic!("{query}: no row"))
}
