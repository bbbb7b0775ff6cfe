//! What a system administrator sets while control runs.

use sea_orm::{ConnectionTrait, Statement};

use super::*;

const DAY_MS: i64 = 86_400_000;
const RETENTION: &str = "/api/v1/settings/retention";
const BACKUPS: &str = "/api/v1/backups";

async fn json_of(response: Response) -> Value {
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.expect("JSON")
}

/// Rows of raw frames that ended so many days ago.
async fn chunks(db: &Db, days: &[i64]) {
    let transaction = db.begin("chunks").await.expect("begun");
    for day in days {
        let ended = Clock::System.now_ms() - day * DAY_MS;
        let statement = format!(
            "INSERT INTO telemetry_chunk (id, source_id, schema_number, first_ms, last_ms, made_by, body) \
             VALUES ({day}, 1, 1, {ended}, {ended}, 0, x'00')"
        );
        transaction.execute_unprepared(&statement).await.expect("inserted");
    }
    transaction.commit().await.expect("committed");
}

/// Waits until the chunk of a day is gone, and gives those that are left.
async fn left_without(db: &Db, day: i64) -> Vec<i64> {
    loop {
        let all = Statement::from_string(db.statements(), "SELECT id FROM telemetry_chunk ORDER BY id");
        let rows = db.read().query_all_raw(all).await.expect("read");
        let left: Vec<i64> = rows.iter().map(|row| row.try_get("", "id").expect("a number")).collect();
        if !left.contains(&day) {
            return left;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn retention_is_set_by_who_may_and_in_force_at_once_and_after_a_restart() {
    let started = started().await;
    let security = started.first_administrator().await;
    let (_, system) = started.join(&security, "sys", "system_administrator").await;
    let (_, auditor) = started.join(&security, "aud", "auditor").await;
    let before = json_of(auditor.send(Method::GET, RETENTION, None).await).await;
    assert_eq!((&before["version"], &before["raw"]["ms"]), (&json!(1), &json!(8 * DAY_MS)));
    assert_eq!((&before["raw"]["source"], &before["changed_by"]), (&json!("default"), &Value::Null));

    // Wrong fields, another version, and who may not.
    let wrong = json!({ "version": 1, "raw_ms": DAY_MS - 1, "audit_ms": 183 * DAY_MS });
    let refused =
        problem(system.send(Method::PUT, RETENTION, Some(wrong)).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    let fields: Vec<_> = refused["errors"].as_array().expect("fields").iter().map(|it| &it["field"]).collect();
    assert_eq!(fields, ["raw_ms", "audit_ms"]);
    let longer = json!({ "version": 1, "raw_ms": 30 * DAY_MS, "audit_ms": 400 * DAY_MS });
    problem(auditor.send(Method::PUT, RETENTION, Some(longer.clone())).await, StatusCode::FORBIDDEN).await;
    let set = json_of(system.send(Method::PUT, RETENTION, Some(longer.clone())).await).await;
    assert_eq!((&set["version"], &set["changed_by"]), (&json!(2), &json!("sys")));
    assert_eq!((&set["raw"]["ms"], &set["raw"]["source"]), (&json!(30 * DAY_MS), &json!("set")));
    assert_eq!(set["raw"]["configured_ms"], json!(8 * DAY_MS));
    assert_eq!((&set["slot"]["source"], &set["audit"]["ms"]), (&json!("default"), &json!(400 * DAY_MS)));
    problem(system.send(Method::PUT, RETENTION, Some(longer)).await, StatusCode::CONFLICT).await;
    let all = json_of(system.send(Method::GET, "/api/v1/settings", None).await).await;
    let sections = all["sections"].as_array().expect("sections").iter();
    let raw = sections.flat_map(|it| it["settings"].as_array().expect("keys")).find(|it| it["name"] == "raw_retention");
    let raw = raw.expect("listed");
    assert_eq!((&raw["value"], &raw["source"], &raw["default"]), (&json!("30d"), &json!("set"), &json!("8d")));
    let log = json_of(auditor.send(Method::GET, "/api/v1/audit?action=retention.update&result=done", None).await).await;
    let entry = &log["items"][0];
    assert_eq!((&entry["actor"]["name"], &entry["resource"]), (&json!("sys"), &json!("settings")));
    assert_eq!((&entry["before"]["raw_ms"], &entry["after"]["raw_ms"]), (&Value::Null, &json!(30 * DAY_MS)));

    // It keeps what the file would delete, from the first moment after a restart on.
    chunks(&started.running.db, &[5, 20, 40]).await;
    let Started { running, data, shutdown, .. } = started;
    shutdown.trigger();
    running.finished().await.expect("a clean stop");
    let started = started_in(data, Clock::System).await;
    assert_eq!(left_without(&started.running.db, 40).await, [5, 20]);

    // Shorter: what is too old goes without a restart.
    let system = Person::welcomed(&started.client, started.base(), started.log_in("sys", PASSWORD).await).await;
    let now = json_of(system.send(Method::GET, RETENTION, None).await).await;
    let oldest_ms = now["raw"]["oldest_ms"].as_i64().expect("there is an oldest");
    assert!((Clock::System.now_ms() - 20 * DAY_MS - oldest_ms).abs() < DAY_MS, "{now}");
    let shorter = json!({ "version": 2, "raw_ms": DAY_MS });
    assert_eq!(json_of(system.send(Method::PUT, RETENTION, Some(shorter)).await).await["version"], 3);
    assert_eq!(left_without(&started.running.db, 20).await, [0_i64; 0]);
}

/// A commit may be there though its answer was lost: memory must not stay behind it.
#[tokio::test]
async fn a_change_whose_commit_was_answered_as_broken_is_in_force_after_the_next_try() {
    let started = started().await;
    let security = started.first_administrator().await;
    let (_, system) = started.join(&security, "sys", "system_administrator").await;
    let first = json!({ "version": 1, "raw_ms": 30 * DAY_MS });
    assert_eq!(json_of(system.send(Method::PUT, RETENTION, Some(first)).await).await["version"], 2);
    chunks(&started.running.db, &[5, 20]).await;
    let unseen = started.running.db.begin("unseen").await.expect("begun");
    let content = json!({ "raw_ms": 10 * DAY_MS, "slot_ms": null, "hour_ms": null, "audit_ms": null });
    let statement = format!("UPDATE setting SET version = 3, content = '{content}' WHERE name = 'retention'");
    unseen.execute_unprepared(&statement).await.expect("written");
    unseen.commit().await.expect("committed");

    let longer = json!({ "version": 2, "raw_ms": 40 * DAY_MS });
    let told = problem(system.send(Method::PUT, RETENTION, Some(longer)).await, StatusCode::CONFLICT).await;
    assert!(told["detail"].as_str().is_some_and(|detail| detail.contains('3')), "{told}");
    let now = json_of(system.send(Method::GET, RETENTION, None).await).await;
    assert_eq!((&now["version"], &now["raw"]["ms"]), (&json!(3), &json!(10 * DAY_MS)));
    assert_eq!(left_without(&started.running.db, 20).await, [5]);
    let longer = json!({ "version": 3, "raw_ms": 40 * DAY_MS });
    assert_eq!(json_of(system.send(Method::PUT, RETENTION, Some(longer)).await).await["version"], 4);
}

/// Waits until the list of backups says what is asked for.
async fn backups_until(person: &Person, is_so: impl Fn(&Value) -> bool) -> Value {
    loop {
        let list = json_of(person.send(Method::GET, BACKUPS, None).await).await;
        if list["making"].is_null() && is_so(&list) {
            return list;
        }
        tokio::task::yield_now().await;
    }
}

/// What the audit log says of the making of backups, newest first: who, what, how it ended, and why.
async fn made(started: &Started, auditor: &Person) -> Vec<[String; 4]> {
    started.running.access.refusals_settled().await;
    let log = json_of(auditor.send(Method::GET, "/api/v1/audit?action=backup.create", None).await).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let said = |it: &Value| [&it["actor"]["name"], &it["resource"], &it["result"], &it["reason"]].map(text);
    log["items"].as_array().expect("entries").iter().map(said).collect()
}

#[tokio::test]
async fn how_a_backup_ended_is_in_the_audit_log_and_counted_once() {
    let started = started().await;
    let security = started.first_administrator().await;
    let (_, system) = started.join(&security, "sys", "system_administrator").await;
    let (_, auditor) = started.join(&security, "aud", "auditor").await;
    // No directory can be made there.
    let place = started.data.path().join("backups");
    fs::write(&place, "in the way").expect("written");
    let failures = async || {
        let text = started.send(Method::GET, "/metrics", Some(&started.token())).await.text().await.expect("text");
        let line = text.lines().find(|line| line.starts_with("tongtu_backup_failures_total")).expect("the counter");
        line.rsplit(' ').next().expect("a value").to_owned()
    };
    problem(system.send(Method::POST, BACKUPS, None).await, StatusCode::INTERNAL_SERVER_ERROR).await;
    assert_eq!(failures().await, "1");
    let every_day = json!({ "version": 1, "every_ms": DAY_MS, "keep": 2 });
    json_of(system.send(Method::PUT, "/api/v1/settings/backup", Some(every_day)).await).await;
    while failures().await == "1" {
        tokio::task::yield_now().await;
    }
    assert_eq!(failures().await, "2");
    let list = backups_until(&system, |_| true).await;
    assert!(list["failed"]["reason"].as_str().is_some_and(|reason| reason.contains("backups")), "{list}");
    let scheduled = ["control", "backups", "failed", "copy-failed"].map(ToOwned::to_owned);
    let one = made(&started, &auditor).await;
    assert_eq!(one, std::slice::from_ref(&scheduled), "what was asked for is there as a request");

    fs::remove_file(&place).expect("removed");
    assert_eq!(system.send(Method::POST, BACKUPS, None).await.status(), StatusCode::ACCEPTED);
    let list = backups_until(&system, |list| list["items"][0]["whole"] == true).await;
    assert!(list["failed"].is_null(), "{list}");
    let name = list["items"][0]["name"].as_str().expect("a name");
    let done = ["sys", name, "done", ""].map(ToOwned::to_owned);
    assert_eq!(made(&started, &auditor).await, [done, scheduled]);

    // What is left of another is no backup, and deleting leaves nothing.
    fs::create_dir(place.join(".20200101T000000Z.removed")).expect("made");
    let path = format!("{BACKUPS}/{name}");
    assert_eq!(system.send(Method::DELETE, &path, None).await.status(), StatusCode::NO_CONTENT);
    assert!(!place.join(name).exists() && !place.join(format!(".{name}.removed")).exists());
    problem(system.send(Method::DELETE, &path, None).await, StatusCode::NOT_FOUND).await;
    // The keeper looks when the schedule changes.
    let never = json!({ "version": 2, "every_ms": null, "keep": 2 });
    json_of(system.send(Method::PUT, "/api/v1/settings/backup", Some(never)).await).await;
    while fs::read_dir(&place).expect("the directory").count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_backup_that_a_stop_or_a_crash_cut_off_is_in_the_audit_log_and_leaves_nothing() {
    let started = started().await;
    let security = started.first_administrator().await;
    let (_, system) = started.join(&security, "sys", "system_administrator").await;
    started.join(&security, "aud", "auditor").await;
    // One of its files is a pipe: it is read to its end when that is written.
    let pipe = started.data.path().join(access::FIRST_LINK);
    let _ = fs::remove_file(&pipe);
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).expect("a pipe");
    let begun = system.send(Method::POST, BACKUPS, None).await;
    assert_eq!(begun.status(), StatusCode::ACCEPTED);
    let Started { running, data, shutdown, .. } = started;
    let http = running.http();
    shutdown.trigger();
    let finished = tokio::spawn(running.finished());
    while tokio::net::TcpStream::connect(http).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let written = tokio::task::spawn_blocking({
        let pipe = pipe.clone();
        move || fs::write(pipe, "")
    });
    written.await.expect("no panic").expect("written");
    finished.await.expect("no panic").expect("a clean stop");
    let place = data.path().join("backups");
    assert_eq!(fs::read_dir(&place).expect("the directory").count(), 0, "nothing is left of it");
    fs::remove_file(&pipe).expect("removed");

    // As after kill -9.
    let cut_off = "20200101T000000Z";
    fs::create_dir(place.join(format!(".{cut_off}.unfinished"))).expect("made");
    fs::write(place.join(format!(".{cut_off}.unfinished/tongtu.db")), "a part").expect("written");
    let again = started_in(data, Clock::System).await;
    assert_eq!(fs::read_dir(&place).expect("the directory").count(), 0, "it is removed");
    let auditor = Person::welcomed(&again.client, again.base(), again.log_in("aud", PASSWORD).await).await;
    let said = made(&again, &auditor).await;
    let said: Vec<[&str; 4]> = said.iter().map(|entry| entry.each_ref().map(String::as_str)).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[0], ["control", cut_off, "failed", "cut-off"]);
    assert_eq!((said[1][0], said[1][2], said[1][3]), ("sys", "failed", "stopped"));
    let system = Person::welcomed(&again.client, again.base(), again.log_in("sys", PASSWORD).await).await;
    let list = json_of(system.send(Method::GET, BACKUPS, None).await).await;
    assert!(list["failed"]["reason"].as_str().is_some_and(|reason| reason.contains(cut_off)), "{list}");
}

#[tokio::test]
async fn a_start_on_what_was_restored_ends_every_session_and_says_so_once() {
    let started = started().await;
    let security = started.first_administrator().await;
    let (_, system) = started.join(&security, "sys", "system_administrator").await;
    started.join(&security, "aud", "auditor").await;
    assert_eq!(system.send(Method::POST, BACKUPS, None).await.status(), StatusCode::ACCEPTED);
    let list = backups_until(&system, |list| list["items"][0]["whole"] == true).await;
    let name = list["items"][0]["name"].as_str().expect("a name").to_owned();
    let Started { running, data, shutdown, .. } = started;
    shutdown.trigger();
    running.finished().await.expect("a clean stop");
    // Into a directory that is there, as a volume is.
    let fresh = tempfile::tempdir().expect("a directory");
    let from = data.path().join("backups").join(&name);
    backup::restore(&from, fresh.path()).expect("restored");

    let again = started_in(fresh, Clock::System).await;
    assert!(!again.data.path().join("restored").exists());
    let old = Person { base: again.base(), ..system };
    problem(old.send(Method::GET, BACKUPS, None).await, StatusCode::UNAUTHORIZED).await;
    let auditor = Person::welcomed(&again.client, again.base(), again.log_in("aud", PASSWORD).await).await;
    let log = json_of(auditor.send(Method::GET, "/api/v1/audit?action=backup.restore", None).await).await;
    let entries = log["items"].as_array().expect("entries");
    assert_eq!(entries.len(), 1);
    let entry = &entries[0];
    assert_eq!((&entry["actor"]["kind"], &entry["resource"]), (&json!("system"), &json!(name)));
    assert_eq!(entry["after"]["audit"]["number"], json!(entry["number"].as_i64().expect("a number") - 1));
    let verified = json_of(auditor.send(Method::GET, "/api/v1/audit/verification", None).await).await;
    assert_eq!(verified["verified"], true, "{verified}");
}
