//! For tests: a fresh database of each kind.
//!
//! `TONGTU_TEST_POSTGRES` is the URL of a PostgreSQL server where databases can be created. Without
//! it the PostgreSQL half says that it was skipped, and fails where `CI=true`.

use std::sync::atomic::{AtomicU32, Ordering};

use sea_orm::sqlx::{self, Connection, Executor};
use tempfile::TempDir;

use crate::config;
use crate::platform::db::Db;

/// A migrated database of its own, and how to open it again.
#[derive(Debug)]
pub struct TestDatabase {
    /// `sqlite` or `postgres`, for messages.
    pub name: &'static str,
    /// The database, open.
    pub db: Db,
    /// Its configuration.
    pub config: config::Database,
    /// Its data directory.
    pub data: TempDir,
}

impl TestDatabase {
    /// Closes the database and opens it again, as a restart does. Every other clone of `db` must be
    /// gone: the data directory's lock goes with the last one.
    #[must_use]
    pub async fn reopen(self) -> Self {
        let Self { name, db, config, data } = self;
        db.close().await;
        drop(db);
        let db = Db::open(&config, data.path()).await.expect("the database opens again");
        Self { name, db, config, data }
    }
}

/// A fresh SQLite database, migrated.
pub async fn sqlite() -> TestDatabase {
    open("sqlite", config::Database { url: None }).await
}

/// A fresh PostgreSQL database, migrated, if there is a server.
pub async fn postgres() -> Option<TestDatabase> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let Ok(server) = std::env::var("TONGTU_TEST_POSTGRES") else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "TONGTU_TEST_POSTGRES is not set: in CI the PostgreSQL half must run"
        );
        eprintln!("skipped on PostgreSQL: TONGTU_TEST_POSTGRES is not set");
        return None;
    };
    let name = format!("tongtu_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let mut admin = sqlx::PgConnection::connect(&server).await.expect("the PostgreSQL server answers");
    admin
        .execute(sqlx::AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}")))
        .await
        .expect("an old database of this name goes");
    admin.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a database can be created");
    let (base, options) =
        server.split_once('?').map_or((server.as_str(), None), |(base, options)| (base, Some(options)));
    let slash = base.rfind('/').filter(|at| *at > base.find("://").map_or(0, |at| at + 2)).unwrap_or(base.len());
    let mut url = format!("{}/{name}", &base[..slash]);
    if let Some(options) = options {
        url = format!("{url}?{options}");
    }
    Some(open("postgres", config::Database { url: Some(url) }).await)
}

/// One fresh database of each kind that is at hand: a suite runs over all of them.
pub async fn databases() -> Vec<TestDatabase> {
    let mut all = vec![sqlite().await];
    all.extend(postgres().await);
    all
}

async fn open(name: &'static str, config: config::Database) -> TestDatabase {
    let data = tempfile::tempdir().expect("a temporary directory");
    let db = Db::open(&config, data.path()).await.expect("a fresh database opens");
    db.migrate().await.expect("a fresh database is migrated");
    TestDatabase { name, db, config, data }
}
