//! `tongtu audit verify`, as an auditor runs it on a copy: what was done to the log is named, and the exit code
//! says that something was.

use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, Statement, TransactionTrait};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tongtu_tests::control::Control;
use tongtu_tests::postgres::Postgres;
use tongtu_tests::{http, process};

const SOON: Duration = Duration::from_secs(60);

/// What is done to a copy: its name, how, and what must be found at which numbers.
type Case = (&'static str, fn(&Copy), &'static [(&'static str, i64)]);

struct Copy {
    data: std::path::PathBuf,
    /// Of its database, to write to.
    url: String,
}

impl Copy {
    fn sqlite(data: &Path) -> Self {
        Self { data: data.to_owned(), url: format!("sqlite://{}", data.join("tongtu.db").display()) }
    }

    /// Runs statements in one transaction.
    #[track_caller]
    fn execute(&self, statements: &[&str]) {
        self.work(async |database| {
            let transaction = database.begin().await?;
            for statement in statements {
                transaction.execute_unprepared(statement).await?;
            }
            transaction.commit().await
        });
    }

    #[track_caller]
    fn work(&self, work: impl AsyncFnOnce(&DatabaseConnection) -> Result<(), DbErr>) {
        let done = http::wait(async {
            let database = Database::connect(&self.url).await?;
            work(&database).await?;
            database.close().await
        });
        done.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Chains every entry from a number on anew, as somebody can who has the key.
    #[track_caller]
    fn recompute(&self, from: i64) {
        let key = std::fs::read_to_string(self.data.join("audit.key")).expect("the key");
        let key: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&key[2 * at..2 * at + 2], 16).expect("hexadecimal")).collect();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
        self.work(async |database| {
            let text = |sql: String| Statement::from_string(DbBackend::Sqlite, sql);
            let before =
                database.query_one_raw(text(format!("SELECT mac FROM audit_entry WHERE number = {}", from - 1)));
            let mut before: Vec<u8> = before.await?.expect("an entry before").try_get("", "mac")?;
            let rows = database
                .query_all_raw(text(format!("SELECT * FROM audit_entry WHERE number >= {from} ORDER BY number")));
            for row in rows.await? {
                let mut content = ring::digest::Context::new(&ring::digest::SHA256);
                let at_ms: i64 = row.try_get("", "at_ms")?;
                let mut parts = vec![Some(at_ms.to_string())];
                for column in [
                    "actor_kind",
                    "actor_id",
                    "actor_name",
                    "address",
                    "action",
                    "resource",
                    "before",
                    "after",
                    "result",
                    "reason",
                    "request_id",
                ] {
                    parts.push(row.try_get::<Option<String>>("", column)?);
                }
                for part in parts {
                    match part {
                        Some(part) => {
                            content.update(&[1]);
                            content.update(&(part.len() as u64).to_be_bytes());
                            content.update(part.as_bytes());
                        }
                        None => content.update(&[0]),
                    }
                }
                let number: i64 = row.try_get("", "number")?;
                let mut mac = ring::hmac::Context::with_key(&key);
                for part in [&b"entry"[..], &number.to_be_bytes(), content.finish().as_ref(), &before] {
                    mac.update(part);
                }
                before = mac.sign().as_ref().to_vec();
                let digits: String = before.iter().map(|byte| format!("{byte:02x}")).collect();
                let set = format!("UPDATE audit_entry SET mac = x'{digits}' WHERE number = {number}");
                database.execute_unprepared(&set).await?;
            }
            Ok(())
        });
    }
}

/// What `tongtu audit verify` finds, in both of its forms; `None`: everything is as it was written.
#[track_caller]
fn verified(data: &Path, arguments: &[&str]) -> Option<Vec<(String, i64)>> {
    let run = |form: &[&str]| {
        let mut command = Command::new(process::binary("tongtu"));
        command.args(["audit", "verify", "--data"]).arg(data).args(arguments).args(form);
        process::run(command, SOON)
    };
    let (text, json) = (run(&[]), run(&["--json"]));
    assert_eq!(text.status.code(), json.status.code(), "{}{}", text.stderr, json.stderr);
    let said: serde_json::Value =
        serde_json::from_str(&json.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", json.stdout, json.stderr));
    let faults = said["faults"].as_array().expect("faults").iter().map(|fault| {
        let (kind, number) = (fault["kind"].as_str().expect("a kind"), fault["number"].as_i64().expect("a number"));
        let line = format!("  {number}: {kind}: {}", fault["detail"].as_str().expect("a sentence"));
        assert!(text.stdout.lines().any(|said| said == line), "{line:?} is not in {}", text.stdout);
        (kind.to_owned(), number)
    });
    let faults: Vec<_> = faults.collect();
    assert_eq!(said["verified"], faults.is_empty());
    match text.status.code() {
        Some(0) => {
            assert!(faults.is_empty() && text.stdout.contains("as they were written"), "{}", text.stdout);
            None
        }
        code => {
            assert!(code == Some(1) && text.stdout.contains("NOT"), "{code:?}: {}{}", text.stdout, text.stderr);
            Some(faults)
        }
    }
}

/// A control with ten entries in its log, stopped: the token, the first link, eight enrolment tokens.
fn control(directory: &Path, configuration: &str) -> Control {
    let mut control = Control::new(directory).with_configuration(configuration);
    control.start();
    for _ in 0..8 {
        let _ = control.enrolment_token(1);
    }
    control
}

#[test]
fn what_was_done_to_a_copy_is_named() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = control(directory.path(), "");
    assert_eq!(verified(&control.data, &[]), None, "beside the running service");
    assert!(control.interrupt().success());

    let cases: [Case; 9] = [
        ("nothing", |_| (), &[]),
        (
            "a changed row",
            |copy| copy.execute(&["UPDATE audit_entry SET resource = 'x' WHERE number = 5"]),
            &[("changed", 5)],
        ),
        ("a removed row", |copy| copy.execute(&["DELETE FROM audit_entry WHERE number = 5"]), &[("removed", 5)]),
        (
            "an inserted row",
            |copy| {
                copy.execute(&[
                    "UPDATE audit_entry SET number = -number - 1 WHERE number >= 5",
                    "UPDATE audit_entry SET number = -number WHERE number < 0",
                    "INSERT INTO audit_entry (number, at_ms, actor_kind, actor_name, action, resource, result, mac) \
                     SELECT 5, at_ms, actor_kind, 'somebody else', action, resource, result, mac \
                     FROM audit_entry WHERE number = 6",
                ]);
            },
            &[("inserted", 5)],
        ),
        (
            "two re-ordered rows",
            |copy| {
                copy.execute(&[
                    "UPDATE audit_entry SET number = -number WHERE number IN (5, 6)",
                    "UPDATE audit_entry SET number = 11 + number WHERE number < 0",
                ]);
            },
            &[("reordered", 5), ("reordered", 6)],
        ),
        ("a log cut off", |copy| copy.execute(&["DELETE FROM audit_entry WHERE number > 7"]), &[("truncated", 8)]),
        (
            "a log recomputed with the key",
            |copy| {
                copy.execute(&["UPDATE audit_entry SET actor_name = 'somebody else' WHERE number = 4"]);
                copy.recompute(4);
            },
            &[("recomputed", 4)],
        ),
        (
            "a missing file of checkpoints",
            |copy| std::fs::remove_file(copy.data.join("audit.checkpoint")).expect("removed"),
            &[("unproven", 11)],
        ),
        (
            "an empty file of checkpoints",
            |copy| std::fs::write(copy.data.join("audit.checkpoint"), "").expect("emptied"),
            &[("unproven", 11)],
        ),
    ];
    for (name, tamper, expected) in cases {
        let copied = tempfile::tempdir().expect("a folder");
        copy(&control.data, copied.path());
        tamper(&Copy::sqlite(copied.path()));
        let expected: Vec<_> = expected.iter().map(|(kind, number)| ((*kind).to_owned(), *number)).collect();
        let expected = (!expected.is_empty()).then_some(expected);
        assert_eq!(verified(copied.path(), &[]), expected, "{name}");
    }

    // Without the key nothing can be said, and that is no success.
    let copied = tempfile::tempdir().expect("a folder");
    copy(&control.data, copied.path());
    std::fs::remove_file(copied.path().join("audit.key")).expect("removed");
    let said = Control::new(directory.path()).with_data(copied.path()).tongtu(&["audit", "verify"]);
    assert!(said.status.code() == Some(1) && said.stderr.contains("audit.key"), "{}", said.stderr);
}

#[test]
fn checkpoints_that_were_taken_away_stay_said_after_the_next_start() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = control(directory.path(), "");
    control.interrupt();
    // With the end of the log, so that nothing else tells of it.
    std::fs::remove_file(control.data.join("audit.checkpoint")).expect("removed");
    Copy::sqlite(&control.data).execute(&["DELETE FROM audit_entry WHERE number > 7"]);
    control.start();
    let log = control.process().log();
    assert!(log.contains("audit.checkpoint is missing"), "{log}");
    let expected = Some(vec![("unproven".to_owned(), 8)]);
    assert_eq!(verified(&control.data, &[]), expected);
    let _ = control.enrolment_token(1);
    control.interrupt();
    control.start();
    assert_eq!(verified(&control.data, &[]), expected, "said once, and not forgotten");
}

#[test]
fn a_log_on_a_server_is_verified_as_well() {
    let Some(postgres) = Postgres::start() else { return };
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = control(directory.path(), &format!("[database]\nurl = \"{}\"\n", postgres.url()));
    let config = directory.path().join("tongtu.toml").display().to_string();
    let config = ["--config", config.as_str()];
    assert_eq!(verified(&control.data, &config), None, "beside the running service");
    control.interrupt();
    let log = Copy { data: control.data.clone(), url: postgres.url() };
    let found = |kind: &str, number| Some(vec![(kind.to_owned(), number)]);
    log.execute(&["UPDATE audit_entry SET number = number + 100 WHERE number = 10"]);
    assert_eq!(verified(&control.data, &config).map(|found| found[0].clone()), Some(("removed".to_owned(), 10)));
    log.execute(&["DELETE FROM audit_entry WHERE number > 7"]);
    assert_eq!(verified(&control.data, &config), found("truncated", 8));
}

/// The files of a stopped control.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("its type").is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}
