//! The database: SQLite in the data directory (default) or PostgreSQL by URL.
//!
//! What must hold:
//! - One process writes. The data directory's lock is held for the life of a [`Db`]; on PostgreSQL
//!   the one writing connection holds an advisory lock as well, so that it cannot write without it,
//!   and a connection made after a broken one finds the term unchanged or is not used: nobody else
//!   wrote in between, so what memory knows is still true.
//! - Every change goes through [`Db::begin`] or [`Db::execute_alone`], over one connection: a
//!   transaction never meets another writer. [`Db::read`] cannot write.
//! - A commit that returned is durable: SQLite syncs its log at every commit, PostgreSQL is asked at
//!   start whether it does.
//!
//! Deliberately absent: retries. What may be tried again is known only to the caller.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sea_orm::sqlx::{
    self, Executor,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, RuntimeErr, SqliteTransactionMode,
    SqlxPostgresConnector, SqlxSqliteConnector, Statement, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;
use tongtu_migrations::Migrator;

use crate::config;

#[cfg(test)]
mod tests;

/// The advisory lock of the one process that writes ("tongtu" in ASCII).
const ADVISORY_LOCK: i64 = 0x746f_6e67_7475;
/// Which start of a writing process was the last.
const TERM: &str = "SELECT term FROM writer WHERE id = 1";
/// How often and after which pause the lock of a process that seems to run is tried: 5 seconds.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// To what SQLite's log is cut when it is empty: 64 MiB.
const JOURNAL_SIZE_LIMIT: &str = "67108864";
/// Readers beside the writer.
const READERS: u32 = 4;
/// A transaction waits this long for the writing connection.
const WRITER_WAIT: Duration = Duration::from_secs(60);
/// Shorter where the connection may have to be made anew: the pool's pauses between two attempts
/// grow up to a fifth of it.
const POSTGRES_WRITER_WAIT: Duration = Duration::from_secs(15);

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file in the data directory.
    Sqlite,
    /// A server.
    Postgres,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Another process holds the data directory.
    #[error("the data directory {} is in use by another tongtu ({holder}); stop it or choose another with --data", path.display())]
    DirectoryInUse {
        /// The directory.
        path: PathBuf,
        /// What the lock file says of its holder.
        holder: String,
    },
    /// The data directory cannot be made or written.
    #[error("the data directory {} cannot be written: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process writes this PostgreSQL database.
    #[error("the PostgreSQL database is in use by another tongtu; only one may write")]
    DatabaseInUse,
    /// PostgreSQL would acknowledge what a crash can lose.
    #[error("PostgreSQL runs with {setting} = {value}, which can lose acknowledged data; set it to {wanted}")]
    NotDurable {
        /// The setting.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The URL is none that we know.
    #[error("database.url must begin with postgres:// or postgresql://")]
    Url,
    /// The database cannot be opened.
    #[error("the database {name} cannot be opened: {source}")]
    Open {
        /// File or host, without secrets.
        name: String,
        /// What the driver says.
        source: sqlx::Error,
    },
    /// A question at start failed.
    #[error("the database does not answer: {0}")]
    Query(#[source] DbErr),
}

/// An open database. Clones share it.
#[derive(Debug, Clone)]
pub struct Db {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    backend: Backend,
    reader: DatabaseConnection,
    writer: DatabaseConnection,
    /// Which start of a writing process this is; 0 before [`Db::migrate`].
    term: Arc<AtomicI64>,
    /// Locked while it is open.
    _lock: File,
}

impl Db {
    /// Opens the configured database and takes its locks for the life of the result.
    ///
    /// # Errors
    /// One sentence each: see [`DbError`].
    pub async fn open(config: &config::Database, data: &Path) -> Result<Self, DbError> {
        let lock = lock_directory(data)?;
        let term = Arc::new(AtomicI64::new(0));
        let (backend, reader, writer) = match &config.url {
            None => open_sqlite(&data.join("tongtu.db")).await?,
            Some(url) => open_postgres(url, term.clone()).await?,
        };
        Ok(Self { shared: Arc::new(Shared { backend, reader, writer, term, _lock: lock }) })
    }

    /// A connection that only reads, beside a process that writes: it takes no lock and changes no schema.
    ///
    /// # Errors
    /// One sentence each: see [`DbError`].
    pub async fn look(config: &config::Database, data: &Path) -> Result<DatabaseConnection, DbError> {
        let Some(url) = &config.url else {
            let file = data.join("tongtu.db");
            let options = SqliteConnectOptions::new().filename(&file).pragma("query_only", "ON");
            let options =
                sqlx::ConnectOptions::disable_statement_logging(options.busy_timeout(Duration::from_secs(30)));
            let opened = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
            let opened = opened.map_err(|source| DbError::Open { name: file.display().to_string(), source })?;
            return Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(opened));
        };
        let failed = |source| DbError::Open { name: "of database.url".to_owned(), source };
        let options: PgConnectOptions = url.parse().map_err(failed)?;
        let options = options.application_name("tongtu").options([("default_transaction_read_only", "on")]);
        let opened = PgPoolOptions::new().max_connections(1).connect_with(options).await.map_err(failed)?;
        Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(opened))
    }

    /// Which database it is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.shared.backend
    }

    /// Connections that only read.
    #[must_use]
    pub fn read(&self) -> &DatabaseConnection {
        &self.shared.reader
    }

    /// Begins the transaction `name` on the one writing connection, when that is free.
    ///
    /// # Errors
    /// The database does not answer, or another transaction holds the connection too long.
    pub async fn begin(&self, name: &'static str) -> Result<DatabaseTransaction, DbErr> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let transaction = self.shared.writer.begin_with_options(options).await;
        tracing::trace!(transaction = name, ok = transaction.is_ok(), "begun");
        transaction
    }

    /// Carries out one statement as the transaction `name` of its own: one way to the database and back where
    /// [`Db::begin`] and its commit are two more. A frame a second must not cost three.
    ///
    /// # Errors
    /// As of [`Db::begin`] and of the statement; see [`Db::is_undone`].
    pub async fn execute_alone(&self, name: &'static str, statement: Statement) -> Result<(), DbErr> {
        let done = self.shared.writer.execute_raw(statement).await;
        tracing::trace!(transaction = name, ok = done.is_ok(), "carried out");
        done.map(drop)
    }

    /// Whether a statement [alone](Self::execute_alone) that failed so was certainly not carried out, rather than
    /// cut off while it was committed.
    #[must_use]
    pub fn is_undone(&self, error: &DbErr) -> bool {
        if Self::is_disk_full(error) {
            return true;
        }
        let (DbErr::Exec(RuntimeErr::SqlxError(sqlx)) | DbErr::Query(RuntimeErr::SqlxError(sqlx))) = error else {
            return matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(_));
        };
        let Some(code) = sqlx.as_database_error().and_then(|error| error.code()) else { return false };
        match self.backend() {
            // The low byte of SQLITE_IOERR and its kinds.
            Backend::Sqlite => code.parse::<u32>().is_ok_and(|code| code & 0xff != 10),
            // Connections that end, operators, systems, and what the server itself does not understand.
            Backend::Postgres => !["08", "57", "58", "XX"].iter().any(|class| code.starts_with(class)),
        }
    }

    /// Applies the steps of the schema that are missing and names them, then begins a term of writing.
    ///
    /// # Errors
    /// A step failed; it and those after it are not applied.
    pub async fn migrate(&self) -> Result<Vec<String>, DbErr> {
        let writer = &self.shared.writer;
        let pending = Migrator::get_pending_migrations(writer).await?;
        let pending: Vec<String> = pending.iter().map(|step| step.name().to_owned()).collect();
        if !pending.is_empty() {
            Migrator::up(writer, None).await?;
            self.reread_schema().await?;
        }
        let transaction = self.begin("term").await?;
        transaction.execute_unprepared("UPDATE writer SET term = term + 1 WHERE id = 1").await?;
        let row = transaction.query_one_raw(Statement::from_string(self.statements(), TERM)).await?;
        let term: i64 = row.map_or(Ok(0), |row| row.try_get("", "term"))?;
        transaction.commit().await?;
        self.shared.term.store(term, Ordering::Relaxed);
        Ok(pending)
    }

    /// Makes every reader see the schema of now. One that read before a step of it knows that of then, and
    /// SQLite takes the quoted name of a column that it does not know for a text.
    async fn reread_schema(&self) -> Result<(), DbErr> {
        if self.shared.backend != Backend::Sqlite {
            return Ok(());
        }
        // Held until all are there, so that each is another connection.
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let reader = self.shared.reader.begin().await?;
            reader.execute_unprepared("SELECT COUNT(*) FROM sqlite_master").await?;
            readers.push(reader);
        }
        for reader in readers {
            reader.rollback().await?;
        }
        Ok(())
    }

    /// The dialect of hand-written statements.
    #[must_use]
    pub fn statements(&self) -> DbBackend {
        self.shared.writer.get_database_backend()
    }

    /// Writes and commits a number, which is the only proof that writing works.
    ///
    /// # Errors
    /// It does not; why.
    pub async fn check_writable(&self) -> Result<(), DbErr> {
        let transaction = self.begin("check_writable").await?;
        transaction.execute_unprepared("UPDATE writer SET checks = checks + 1 WHERE id = 1").await?;
        transaction.commit().await
    }

    /// Whether an error says that the disk is full: a reason to try later, not to refuse for ever.
    #[must_use]
    pub fn is_disk_full(error: &DbErr) -> bool {
        let (DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error))
        | DbErr::Conn(RuntimeErr::SqlxError(error))) = error
        else {
            return false;
        };
        match error.as_database_error().and_then(|error| error.code()) {
            // SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC (some file systems say no space so); PostgreSQL disk_full.
            Some(code) => matches!(code.as_ref(), "13" | "778" | "1034" | "4874" | "53100"),
            None => false,
        }
    }

    /// Closes every connection; what is written stays.
    pub async fn close(&self) {
        let _ = self.shared.reader.clone().close().await;
        let _ = self.shared.writer.clone().close().await;
    }
}

fn lock_directory(data: &Path) -> Result<File, DbError> {
    let broken = |source| DbError::Directory { path: data.to_owned(), source };
    if !data.exists() {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(broken)?;
    }
    let mut lock =
        File::options().read(true).write(true).create(true).truncate(false).open(data.join("lock")).map_err(broken)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "unknown process".to_owned() } else { holder.trim().to_owned() };
            return Err(DbError::DirectoryInUse { path: data.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(broken(source)),
    }
    // For the person who meets the lock; the lock itself does not depend on it.
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "process {}", std::process::id()))
        .map_err(broken)?;
    Ok(lock)
}

type Opened = (Backend, DatabaseConnection, DatabaseConnection);

async fn open_sqlite(file: &Path) -> Result<Opened, DbError> {
    let failed = |source| DbError::Open { name: file.display().to_string(), source };
    let options = SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // A large transaction must not leave a large log behind.
        .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
        .busy_timeout(Duration::from_secs(30))
        .foreign_keys(true);
    let options = sqlx::ConnectOptions::disable_statement_logging(options);
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(WRITER_WAIT)
        .idle_timeout(None)
        .max_lifetime(None)
        // Tested when it is given back; that also lets the rollback of a dropped transaction come first.
        .test_before_acquire(false)
        .before_acquire(|connection, _| {
            // SQLite ends a transaction by itself when a commit meets an I/O error; the driver goes on
            // counting it, and later commits would only release a savepoint inside of nothing durable.
            let ended = !sqlx::Connection::is_in_transaction(connection);
            if !ended {
                tracing::warn!("a transaction did not end; the writing connection is opened anew");
            }
            Box::pin(async move { Ok(ended) })
        })
        .connect_with(options.clone().create_if_missing(true))
        .await
        .map_err(failed)?;
    let reader = SqlitePoolOptions::new()
        .max_connections(READERS)
        .test_before_acquire(false)
        .connect_with(options.pragma("query_only", "ON"))
        .await
        .map_err(failed)?;
    Ok((
        Backend::Sqlite,
        SqlxSqliteConnector::from_sqlx_sqlite_pool(reader),
        SqlxSqliteConnector::from_sqlx_sqlite_pool(writer),
    ))
}

async fn open_postgres(url: &str, term: Arc<AtomicI64>) -> Result<Opened, DbError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(DbError::Url);
    }
    let options: PgConnectOptions =
        url.parse().map_err(|source| DbError::Open { name: "of database.url".to_owned(), source })?;
    let options = sqlx::ConnectOptions::disable_statement_logging(options.application_name("tongtu"));
    let name = format!("{}:{}", options.get_host(), options.get_port());
    let failed = |source| DbError::Open { name: name.clone(), source };
    let host = options.get_host();
    let is_local = host.starts_with('/') || matches!(host, "localhost" | "127.0.0.1" | "::1");
    if !is_local {
        tracing::warn!(host, "the connection to PostgreSQL is not encrypted; keep it within a protected network");
    }
    // By hand first: a pool tries for long and then says only that time ran out.
    let mut probe = <sqlx::PgConnection as sqlx::Connection>::connect_with(&options).await.map_err(failed)?;
    assert_durable(&mut probe).await.map_err(|error| match error {
        Durability::Setting(error) => error,
        Durability::Query(source) => failed(source),
    })?;
    if !lock_becomes_free(&mut probe).await.map_err(failed)? {
        return Err(DbError::DatabaseInUse);
    }
    sqlx::Connection::close(probe).await.map_err(failed)?;
    let reader = PgPoolOptions::new()
        .max_connections(READERS)
        .connect_with(options.clone().options([("default_transaction_read_only", "on")]))
        .await
        .map_err(failed)?;
    let writer = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(POSTGRES_WRITER_WAIT)
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |connection, _| {
            let term = term.load(Ordering::Relaxed);
            Box::pin(async move {
                let refused = |reason: &str| {
                    tracing::error!("{reason}; this process must not write until it is started again");
                    sqlx::Error::Configuration(reason.into())
                };
                if !advisory_lock(connection).await? {
                    return Err(refused("another process holds the database's lock"));
                }
                if term != 0 {
                    let now: i64 = sqlx::Row::try_get(&connection.fetch_one(TERM).await?, 0)?;
                    if now != term {
                        return Err(refused("another process wrote to the database meanwhile"));
                    }
                }
                Ok(())
            })
        })
        .connect_with(options)
        .await
        .map_err(failed)?;
    Ok((
        Backend::Postgres,
        SqlxPostgresConnector::from_sqlx_postgres_pool(reader),
        SqlxPostgresConnector::from_sqlx_postgres_pool(writer),
    ))
}

async fn advisory_lock(connection: &mut sqlx::PgConnection) -> Result<bool, sqlx::Error> {
    let row = connection.fetch_one(sqlx::query("SELECT pg_try_advisory_lock($1)").bind(ADVISORY_LOCK)).await?;
    sqlx::Row::try_get(&row, 0)
}

/// Whether no other process holds the lock. The server may notice the end of a killed one late.
async fn lock_becomes_free(connection: &mut sqlx::PgConnection) -> Result<bool, sqlx::Error> {
    for attempt in 0..LOCK_ATTEMPTS {
        if advisory_lock(connection).await? {
            connection.execute(sqlx::query("SELECT pg_advisory_unlock($1)").bind(ADVISORY_LOCK)).await?;
            return Ok(true);
        }
        if attempt == 0 {
            tracing::info!("waiting for another process to leave the database");
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    Ok(false)
}

enum Durability {
    Setting(DbError),
    Query(sqlx::Error),
}

/// Settings without which a committed transaction can be lost.
async fn assert_durable(connection: &mut sqlx::PgConnection) -> Result<(), Durability> {
    for (setting, allowed, wanted) in [
        ("synchronous_commit", ["on", "remote_apply"].as_slice(), "on"),
        ("fsync", &["on"], "on"),
        ("full_page_writes", &["on"], "on"),
    ] {
        let row = connection
            .fetch_one(sqlx::query("SELECT current_setting($1)").bind(setting))
            .await
            .map_err(Durability::Query)?;
        let value: String = sqlx::Row::try_get(&row, 0).map_err(Durability::Query)?;
        if !allowed.contains(&value.as_str()) {
            return Err(Durability::Setting(DbError::NotDurable { setting, value, wanted }));
        }
    }
    Ok(())
}
