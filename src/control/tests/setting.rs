//! What a system administrator sets while control runs.

use sea_orm::{ConnectionTrait, Statement};

use super::*;

const DAY_MS: i64 = 86_400_000;
const RETENTION: &str = "/api/v1/settings/retention";

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
