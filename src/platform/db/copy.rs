//! A consistent copy of the SQLite database, made while it is read and written.

use std::path::Path;

use sea_orm::sqlx::{
    self, ConnectOptions, Connection,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};
use sea_orm::{DbErr, RuntimeErr};

use super::Db;

/// Steps of SQLite's machine between two questions whether to go on: some thirty rows.
const STEPS: i32 = 100;

impl Db {
    /// Writes what the database holds at this instant into the new file `to`. Neither readers nor the writer wait
    /// for it; SQLite's log only cannot shrink meanwhile. It takes a connection and a thread of its own, which has
    /// the priority of the one that calls: call it where it may block. Again and again it is asked whether it `goes_on`.
    ///
    /// # Errors
    /// There is no file (PostgreSQL), it cannot be read, the copy cannot be written, or it did not go on: a part of the
    /// copy is left then.
    pub fn copy_into(&self, to: &Path, goes_on: impl FnMut() -> bool + Send + 'static) -> Result<(), DbErr> {
        let failed = |error: sqlx::Error| DbErr::Exec(RuntimeErr::SqlxError(error.into()));
        let Some(from) = &self.shared.file else {
            return Err(DbErr::Custom("a database on a server is copied by pg_dump".to_owned()));
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| DbErr::Custom(error.to_string()))?;
        let options = SqliteConnectOptions::new().filename(from).read_only(true).disable_statement_logging();
        let name = to.to_string_lossy().into_owned();
        runtime.block_on(async {
            let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
            connection.lock_handle().await.map_err(failed)?.set_progress_handler(STEPS, goes_on);
            let copied = sqlx::query("VACUUM INTO ?").bind(name).execute(&mut connection).await;
            let closed = connection.close().await;
            copied.map_err(failed)?;
            closed.map_err(failed)
        })
    }
}
