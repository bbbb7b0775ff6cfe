//! Tests of what must hold of the database, on both kinds.

use super::*;
use crate::platform::testing;
use sqlx::Executor;

#[tokio::test]
async fn a_data_directory_has_one_holder_at_a_time() {
    let test = testing::sqlite().await;
    let error = Db::open(&test.config, test.data.path()).await.expect_err("held");
    assert!(matches!(error, DbError::DirectoryInUse { .. }), "{error}");
    // The last clone's end frees it.
    let test = test.reopen().await;
    test.db.check_writable().await.expect("writable");
}

#[tokio::test]
async fn a_directory_that_is_restored_into_is_left_alone() {
    let data = tempfile::tempdir().expect("a directory");
    let mark = data.path().join(RESTORING);
    std::fs::create_dir(&mark).expect("made");
    let error = Db::open(&config::Database::default(), data.path()).await.expect_err("not whole");
    assert!(matches!(error, DbError::Restoring(_)), "{error}");
    assert!(!data.path().join(SQLITE_FILE).exists() && !data.path().join("lock").exists());
    std::fs::remove_dir(&mark).expect("removed");
    Db::open(&config::Database::default(), data.path()).await.expect("it opens");
}

#[tokio::test]
async fn readers_cannot_write() {
    for test in testing::databases().await {
        let written = test.db.read().execute_unprepared("UPDATE writer SET checks = 0").await;
        assert!(written.is_err(), "{}", test.name);
    }
}

#[tokio::test]
async fn readers_know_a_column_that_a_step_added() {
    let test = testing::sqlite().await;
    let ask = async || {
        let text = Statement::from_string(test.db.statements(), "SELECT \"added\" FROM writer");
        test.db.read().query_one_raw(text).await.expect("read").expect("a row").try_get::<i64>("", "added")
    };
    let readers = async || {
        let mut readers = Vec::new();
        for _ in 0..READERS {
            readers.push(test.db.shared.reader.begin().await.expect("begun"));
        }
        for reader in readers {
            reader.execute_unprepared("SELECT term FROM writer").await.expect("read");
        }
    };
    readers().await;
    let step = test.db.begin("step").await.expect("begun");
    step.execute_unprepared("ALTER TABLE writer ADD COLUMN added integer NOT NULL DEFAULT 7").await.expect("added");
    step.commit().await.expect("committed");
    test.db.reread_schema().await.expect("read anew");
    for _ in 0..READERS {
        assert_eq!(ask().await, Ok(7));
    }
}

#[tokio::test]
async fn transactions_follow_one_another_and_an_abandoned_one_leaves_nothing() {
    for test in testing::databases().await {
        let first = test.db.begin("first").await.expect("begun");
        first.execute_unprepared("UPDATE writer SET checks = 7").await.expect("written");
        let second = tokio::spawn({
            let db = test.db.clone();
            async move { db.check_writable().await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        second.await.expect("no panic").expect("its turn came");
        let row = Statement::from_string(test.db.statements(), "SELECT checks FROM writer");
        let row = test.db.read().query_one_raw(row).await.expect("read").expect("a row");
        assert_eq!(row.try_get::<i64>("", "checks").expect("a number"), 1, "{}", test.name);
    }
}

#[tokio::test]
async fn each_start_on_a_server_is_a_term_and_the_schema_is_made_once() {
    for test in testing::databases().await {
        let before = test.db.shared.term.load(Ordering::Relaxed);
        let test = test.reopen().await;
        assert_eq!(test.db.migrate().await.expect("migrated"), Vec::<String>::new());
        let expected = if test.db.backend() == Backend::Postgres { before + 1 } else { 0 };
        assert_eq!(test.db.shared.term.load(Ordering::Relaxed), expected, "{}", test.name);
    }
}

#[tokio::test]
async fn a_step_that_was_applied_under_its_former_name_is_known() {
    for test in testing::databases().await {
        let older = test.db.begin("older").await.expect("begun");
        let rename = "UPDATE seaql_migrations SET version = 'm0007_lifetime' WHERE version = 'm0008_lifetime'";
        older.execute_unprepared(rename).await.expect("renamed");
        older.commit().await.expect("committed");
        assert_eq!(test.db.migrate().await.expect("up to date"), Vec::<String>::new(), "{}", test.name);
    }
}

#[tokio::test]
async fn a_full_disk_is_told_from_other_errors() {
    let test = testing::sqlite().await;
    let transaction = test.db.begin("fill").await.expect("begun");
    transaction.execute_unprepared("CREATE TABLE filler (bytes BLOB)").await.expect("made");
    transaction.execute_unprepared("PRAGMA max_page_count = 1").await.expect("limited");
    let full =
        transaction.execute_unprepared("INSERT INTO filler VALUES (zeroblob(1000000))").await.expect_err("no room");
    assert!(Db::is_disk_full(&full), "{full}");
    let other = transaction.execute_unprepared("SELECT nonsense").await.expect_err("no such column");
    assert!(!Db::is_disk_full(&other), "{other}");
}

#[tokio::test]
async fn a_statement_alone_is_there_or_was_certainly_not_carried_out() {
    let test = testing::sqlite().await;
    let sql = |text: &str| Statement::from_string(test.db.statements(), text);
    test.db.execute_alone("made", sql("CREATE TABLE alone (id INTEGER PRIMARY KEY, body BLOB)")).await.expect("made");
    test.db.execute_alone("first", sql("INSERT INTO alone VALUES (1, NULL)")).await.expect("written");
    let again = test.db.execute_alone("again", sql("INSERT INTO alone VALUES (1, NULL)")).await.expect_err("there");
    assert!(test.db.is_undone(&again), "{again}");
    test.db.execute_alone("limit", sql("PRAGMA max_page_count = 1")).await.expect("limited");
    let full = sql("INSERT INTO alone VALUES (2, zeroblob(1000000))");
    let full = test.db.execute_alone("full", full).await.expect_err("no room");
    assert!(test.db.is_undone(&full) && Db::is_disk_full(&full), "{full}");
    let cut_off = DbErr::Exec(RuntimeErr::SqlxError(Arc::new(sqlx::Error::WorkerCrashed)));
    assert!(!test.db.is_undone(&cut_off), "it may have been committed");
    let row = test.db.read().query_one_raw(sql("SELECT COUNT(*) AS rows FROM alone")).await.expect("read");
    assert_eq!(row.expect("a row").try_get::<i64>("", "rows").expect("a number"), 1);
}

#[tokio::test]
async fn a_commit_that_failed_leaves_no_connection_behind() {
    let test = testing::sqlite().await;
    let mark = test.db.begin("mark").await.expect("begun");
    mark.execute_unprepared("CREATE TEMP TABLE of_this_connection (id)").await.expect("made");
    mark.commit().await.expect("committed");
    let broken = test.db.begin("broken").await.expect("begun");
    broken.execute_unprepared("SELECT * FROM of_this_connection").await.expect("the same connection");
    // As SQLite does by itself when a commit meets an I/O error.
    broken.execute_unprepared("ROLLBACK").await.expect("rolled back");
    broken.commit().await.expect_err("nothing to commit");
    let next = test.db.begin("next").await.expect("begun");
    next.execute_unprepared("SELECT * FROM of_this_connection").await.expect_err("another connection");
    next.execute_unprepared("UPDATE writer SET checks = 7").await.expect("written");
    next.commit().await.expect("committed");
    let row = Statement::from_string(test.db.statements(), "SELECT checks FROM writer");
    let row = test.db.read().query_one_raw(row).await.expect("read").expect("a row");
    assert_eq!(row.try_get::<i64>("", "checks").expect("a number"), 7);
}

#[tokio::test]
async fn postgres_has_one_writer_even_after_its_connection_broke() {
    let Some(test) = testing::postgres().await else { return };
    let elsewhere = tempfile::tempdir().expect("a directory");
    let error = Db::open(&test.config, elsewhere.path()).await.expect_err("held");
    assert!(matches!(error, DbError::DatabaseInUse), "{error}");

    let kill = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                (SELECT oid FROM pg_database WHERE datname = current_database())";
    test.db.read().execute_unprepared(kill).await.expect("the writer's connection is cut");
    test.db.check_writable().await.expect("a new connection takes the lock");

    let url = test.config.url.as_deref().expect("a URL");
    let mut other = <sqlx::PgConnection as sqlx::Connection>::connect(url).await.expect("another process");
    other.execute("UPDATE writer SET term = term + 1").await.expect("it wrote");
    test.db.read().execute_unprepared(kill).await.expect("the writer's connection is cut");
    // The pool tries again and again until its patience ends; ours here is shorter.
    let written = tokio::time::timeout(Duration::from_secs(1), test.db.check_writable()).await;
    assert!(!matches!(written, Ok(Ok(()))), "what memory knows is no longer true");
}

#[tokio::test]
async fn postgres_that_can_lose_a_commit_is_refused() {
    let Some(test) = testing::postgres().await else { return };
    let set =
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$";
    let transaction = test.db.begin("test").await.expect("begun");
    transaction.execute_unprepared(set).await.expect("set");
    transaction.commit().await.expect("committed");
    test.db.close().await;
    let data = tempfile::tempdir().expect("a directory");
    let error = Db::open(&test.config, data.path()).await.expect_err("not durable").to_string();
    assert!(error.contains("synchronous_commit = off"), "{error}");
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_said_without_its_password() {
    let data = tempfile::tempdir().expect("a directory");
    let open = async |url: &str| {
        let config = config::Database { url: Some(url.to_owned()) };
        Db::open(&config, data.path()).await.expect_err("it cannot").to_string()
    };
    let said = open("postgres://tongtu:secret@127.0.0.1:1/tongtu").await;
    assert!(said.contains("127.0.0.1:1") && !said.contains("secret"), "{said}");
    let said = open("mysql://tongtu:secret@127.0.0.1/tongtu").await;
    assert!(said.contains("postgres://") && !said.contains("secret"), "{said}");
}
