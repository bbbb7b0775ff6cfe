//! A PostgreSQL server: its connections, what of it must be durable, who else writes.
//!
//! How the connection is protected is the URL's `sslmode` and `sslrootcert`, as libpq reads them.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sea_orm::sqlx::{
    self, ConnectOptions, Connection, Executor, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};
use sea_orm::{DatabaseConnection, SqlxPostgresConnector};

use super::{Backend, DbError, Opened, READERS, TERM};

/// The advisory lock of the one process that writes ("tongtu" in ASCII).
const ADVISORY_LOCK: i64 = 0x746f_6e67_7475;
/// How often and after which pause the lock of a process that seems to run is tried: 5 seconds.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// Shorter than for a file, as the connection may have to be made anew: the pool's pauses between two
/// attempts grow up to a fifth of it.
const WRITER_WAIT: Duration = Duration::from_secs(15);
/// Whether this connection is encrypted; the server's own word.
const ENCRYPTED: &str = "SELECT COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)";

pub(super) async fn open(url: &str, term: Arc<AtomicI64>) -> Result<Opened, DbError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(DbError::Url);
    }
    let options = options(url)?;
    let name = format!("{}:{}", options.get_host(), options.get_port());
    let failed = |source| not_opened(&name, source);
    // By hand first: a pool tries for long and then says only that time ran out.
    let mut probe = PgConnection::connect_with(&options).await.map_err(failed)?;
    let encrypted = probe.fetch_one(ENCRYPTED).await.and_then(|row| sqlx::Row::try_get(&row, 0)).map_err(failed)?;
    warn_of_the_way(&options, encrypted);
    assert_durable(&mut probe).await.map_err(|error| match error {
        Durability::Setting(error) => error,
        Durability::Query(source) => failed(source),
    })?;
    if !lock_becomes_free(&mut probe).await.map_err(failed)? {
        return Err(DbError::DatabaseInUse);
    }
    probe.close().await.map_err(failed)?;
    let reader = PgPoolOptions::new()
        .max_connections(READERS)
        .connect_with(options.clone().options([("default_transaction_read_only", "on")]))
        .await
        .map_err(failed)?;
    let writer = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(WRITER_WAIT)
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

/// A connection that only reads.
pub(super) async fn look(url: &str) -> Result<DatabaseConnection, DbError> {
    let options = options(url)?;
    let name = format!("{}:{}", options.get_host(), options.get_port());
    let options = options.options([("default_transaction_read_only", "on")]);
    let opened = PgPoolOptions::new().max_connections(1).connect_with(options).await;
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(opened.map_err(|source| not_opened(&name, source))?))
}

/// What the URL says, with what it leaves out.
fn options(url: &str) -> Result<PgConnectOptions, DbError> {
    let options: PgConnectOptions =
        url.parse().map_err(|source| DbError::Open { name: "of database.url".to_owned(), source })?;
    let mut options = options.application_name("tongtu").disable_statement_logging();
    if let Some(root) = root(&options) {
        // libpq checks against a root that is named, the driver only where it is told to.
        if matches!(options.get_ssl_mode(), PgSslMode::Require) {
            options = options.ssl_mode(PgSslMode::VerifyCa);
        }
        // The driver says only that there is no such file.
        if let (Root::File(path), true) = (root, verifies(&options)) {
            File::open(&path).map_err(|source| DbError::Root { path, source })?;
        }
    }
    Ok(options)
}

/// Where the authority's certificate stands.
#[derive(Debug, PartialEq)]
enum Root {
    File(PathBuf),
    /// In the URL itself.
    Inline,
}

/// What `sslrootcert` names; the driver tells it only in a URL, where a file stands as `file: PATH`.
fn root(options: &PgConnectOptions) -> Option<Root> {
    let url = options.to_url_lossy();
    let (_, named) = url.query_pairs().find(|(key, _)| key == "sslrootcert")?;
    Some(named.strip_prefix("file: ").map_or(Root::Inline, |path| Root::File(path.into())))
}

/// Whether the server must prove who it is.
fn verifies(options: &PgConnectOptions) -> bool {
    matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull)
}

/// Says once a start what somebody between here and a distant server could do.
fn warn_of_the_way(options: &PgConnectOptions, encrypted: bool) {
    let host = options.get_host();
    if host.starts_with('/') || matches!(host, "localhost" | "127.0.0.1" | "::1") {
        return;
    }
    if !encrypted {
        tracing::warn!(
            host,
            "the connection to PostgreSQL is not encrypted; set ssl = on there and sslmode=verify-full in database.url, \
             or keep it within a protected network"
        );
    } else if !verifies(options) {
        tracing::warn!(
            host,
            "the connection to PostgreSQL is encrypted, but the server has not proved who it is; set \
             sslmode=verify-full in database.url (and sslrootcert=FILE for a certificate authority of your own)"
        );
    }
}

fn not_opened(name: &str, source: sqlx::Error) -> DbError {
    let name = name.to_owned();
    match source {
        sqlx::Error::Tls(reason) if reason.to_string() == "server does not support TLS" => DbError::NoTls { name },
        sqlx::Error::Io(error) if error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()) => {
            DbError::Refused { name, source: error }
        }
        source => DbError::Open { name, source },
    }
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
