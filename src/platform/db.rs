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
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sea_orm::sqlx::{
    self,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, RuntimeErr, SqliteTransactionMode,
    SqlxSqliteConnector, Statement, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;
use tongtu_migrations::Migrator;

use crate::config;

mod copy;
mod postgres;
#[cfg(test)]
mod tests;

/// SQLite's file in a data directory.
pub const SQLITE_FILE: &str = "tongtu.db";
/// What a data directory holds while a backup is restored into it: it is none yet.
pub const RESTORING: &str = ".restoring";
/// Which start of a writing process was the last.
const TERM: &str = "SELECT term FROM writer WHERE id = 1";
/// To what SQLite's log is cut when it is empty: 64 MiB.
const JOURNAL_SIZE_LIMIT: &str = "67108864";
/// Readers beside the writer.
const READERS: u32 = 4;
/// A transaction waits this long for the writing connection.
const WRITER_WAIT: Duration = Duration::from_secs(60);

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
    /// A backup was not restored to its end.
    #[error("a backup was not restored into the data directory {} to its end; empty the directory and run `tongtu restore` again", .0.display())]
    Restoring(PathBuf),
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
    /// There is no room even for what reading needs.
    #[error("the disk of {} is full, and opening the database needs a little room beside it; make some and start again", path.display())]
    Full {
        /// The database's file.
        path: PathBuf,
    },
    /// The server speaks no TLS, and the URL demands it.
    #[error(
        "the PostgreSQL server {name} offers no TLS, which sslmode in database.url demands; set ssl = on in its \
         postgresql.conf, or choose sslmode=disable within a protected network"
    )]
    NoTls {
        /// Host and port.
        name: String,
    },
    /// The server's certificate is not accepted.
    #[error(
        "the PostgreSQL server {name} does not prove who it is: {source}; name the certificate authority with \
         sslrootcert=FILE in database.url, and the server as its certificate does"
    )]
    Refused {
        /// Host and port.
        name: String,
        /// What is wrong with the certificate.
        source: std::io::Error,
    },
    /// The file of root certificates cannot be read.
    #[error("sslrootcert = {} of database.url cannot be read: {source}", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
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
    /// Of SQLite.
    file: Option<PathBuf>,
    reader: DatabaseConnection,
    writer: DatabaseConnection,
    /// Which start of a writing process this is; 0 before [`Db::migrate`] and for a file.
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
        if data.join(RESTORING).exists() {
            return Err(DbError::Restoring(data.to_owned()));
        }
        let lock = lock_directory(data)?;
        let term = Arc::new(AtomicI64::new(0));
        let file = config.url.is_none().then(|| data.join(SQLITE_FILE));
        let (backend, reader, writer) = match &config.url {
            None => open_sqlite(&data.join(SQLITE_FILE)).await?,
            Some(url) => postgres::open(url, term.clone()).await?,
        };
        Ok(Self { shared: Arc::new(Shared { backend, file, reader, writer, term, _lock: lock }) })
    }

    /// A connection that only reads, beside a process that writes: it takes no lock and changes no schema.
    ///
    /// # Errors
    /// One sentence each: see [`DbError`].
    pub async fn look(config: &config::Database, data: &Path) -> Result<DatabaseConnection, DbError> {
        let Some(url) = &config.url else {
            let file = data.join(SQLITE_FILE);
            let options = SqliteConnectOptions::new().filename(&file).pragma("query_only", "ON");
            let options =
                sqlx::ConnectOptions::disable_statement_logging(options.busy_timeout(Duration::from_secs(30)));
            let opened = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
            let opened = opened.map_err(|source| DbError::Open { name: file.display().to_string(), source })?;
            return Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(opened));
        };
        postgres::look(url).await
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

    /// Applies the steps of the schema that are missing and names them, then begins a term of writing on a
    /// server. A file that is up to date is only read: control starts on a full disk.
    ///
    /// # Errors
    /// A step failed; it and those after it are not applied.
    pub async fn migrate(&self) -> Result<Vec<String>, DbErr> {
        let writer = &self.shared.writer;
        Migrator::rename(writer).await?;
        let pending = Migrator::get_pending_migrations(writer).await?;
        let pending: Vec<String> = pending.iter().map(|step| step.name().to_owned()).collect();
        if !pending.is_empty() {
            Migrator::up(writer, None).await?;
            self.reread_schema().await?;
        }
        if self.shared.backend == Backend::Postgres {
            self.begin_term().await?;
        }
        Ok(pending)
    }

    /// So that a later connection finds out whether another process wrote in between.
    async fn begin_term(&self) -> Result<(), DbErr> {
        let transaction = self.begin("term").await?;
        transaction.execute_unprepared("UPDATE writer SET term = term + 1 WHERE id = 1").await?;
        let row = transaction.query_one_raw(Statement::from_string(self.statements(), TERM)).await?;
        let term: i64 = row.map_or(Ok(0), |row| row.try_get("", "term"))?;
        transaction.commit().await?;
        self.shared.term.store(term, Ordering::Relaxed);
        Ok(())
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

    /// Bytes that it takes, where it is.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn size(&self) -> Result<u64, DbErr> {
        let question = match self.shared.backend {
            Backend::Sqlite => "SELECT page_count * page_size AS size FROM pragma_page_count(), pragma_page_size()",
            Backend::Postgres => "SELECT pg_database_size(current_database()) AS size",
        };
        let row = self.read().query_one_raw(Statement::from_string(self.statements(), question)).await?;
        row.map_or(Ok(0), |row| row.try_get::<i64>("", "size")).map(i64::unsigned_abs)
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
        says_full(error)
    }

    /// Closes every connection; what is written stays.
    pub async fn close(&self) {
        let _ = self.shared.reader.clone().close().await;
        let _ = self.shared.writer.clone().close().await;
    }
}

fn says_full(error: &sqlx::Error) -> bool {
    match error.as_database_error().and_then(|error| error.code()) {
        // SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC (some file systems say no space so), SQLITE_IOERR_SHMSIZE;
        // PostgreSQL disk_full.
        Some(code) => matches!(code.as_ref(), "13" | "778" | "1034" | "4874" | "53100"),
        None => false,
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
    let named =
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "process {}", std::process::id()));
    match named {
        Err(error) if error.kind() != ErrorKind::StorageFull => Err(broken(error)),
        _ => Ok(lock),
    }
}

type Opened = (Backend, DatabaseConnection, DatabaseConnection);

async fn open_sqlite(file: &Path) -> Result<Opened, DbError> {
    let failed = |source| match says_full(&source) {
        true => DbError::Full { path: file.to_owned() },
        false => DbError::Open { name: file.display().to_string(), source },
    };
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
