//! The audit log over HTTP: who did what, who tried what, and an auditor who looks.

use super::*;

async fn json_of(response: Response) -> Value {
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.expect("JSON")
}

#[tokio::test]
async fn changes_and_refused_attempts_are_in_the_log_without_secrets() {
    let started = started().await;
    let administrator = started.first_administrator().await;
    let (_, auditor) = started.join(&administrator, "auditor", "auditor").await;
    let (id, operator) = started.join(&administrator, "op", "operator").await;
    let path = format!("/api/v1/users/{id}");
    let changed = administrator.send(Method::PATCH, &path, Some(json!({ "display_name": "<b>改</b>" }))).await;
    let request = changed.headers()["x-request-id"].to_str().expect("text").to_owned();
    assert_eq!(changed.status(), StatusCode::OK);
    let granted = administrator.send(Method::PATCH, &path, Some(json!({ "roles": ["migration_manager"] }))).await;
    assert_eq!(granted.status(), StatusCode::OK);
    problem(operator.send(Method::PATCH, &path, Some(json!({ "roles": ["auditor"] }))).await, StatusCode::FORBIDDEN)
        .await;
    problem(started.log_in("op", "wrong wrong wrong").await, StatusCode::UNAUTHORIZED).await;
    problem(started.send(Method::GET, "/api/v1/hosts", Some("tongtu_forged")).await, StatusCode::UNAUTHORIZED).await;
    started.running.parts.authentication.access().refusals_settled().await;

    let all = json_of(auditor.send(Method::GET, "/api/v1/audit", None).await).await;
    let items = all["items"].as_array().expect("entries");
    let numbers: Vec<_> = items.iter().map(|item| item["number"].as_i64().expect("a number")).collect();
    assert_eq!(numbers, (1..=numbers.len() as i64).rev().collect::<Vec<_>>(), "newest first, without a gap");
    let of =
        |action: &str| items.iter().find(|item| item["action"] == action).unwrap_or_else(|| panic!("{action}: {all}"));
    let update = of("user.update");
    assert_eq!(update["actor"], json!({ "kind": "user", "id": "user_1", "name": "security" }));
    assert_eq!(
        (&update["before"]["display_name"], &update["after"]["display_name"]),
        (&json!("op"), &json!("<b>改</b>"))
    );
    assert_eq!(
        (&update["resource"], &update["result"], &update["request_id"]),
        (&json!(id), &json!("done"), &json!(request))
    );
    assert_eq!(update["address"], "127.0.0.1");
    let invited = items.iter().filter(|item| item["action"] == "user.invite");
    let invited: Vec<_> = invited.map(|item| (&item["actor"]["name"], &item["resource"])).collect();
    let by = json!("security");
    assert_eq!(invited, [(&by, &json!("user_3")), (&by, &json!("user_2"))], "every link that was made");
    let granted = of("user.update.roles");
    assert_eq!(
        (&granted["before"]["roles"], &granted["after"]["roles"]),
        (&json!(["operator"]), &json!(["migration_manager"]))
    );
    let refused = of("PATCH /api/v1/users/{id}");
    assert_eq!(
        (&refused["result"], &refused["reason"], &refused["resource"]),
        (&json!("refused"), &json!("forbidden"), &json!(path))
    );
    assert_eq!(refused["actor"]["name"], "op");
    let login = items.iter().find(|item| item["action"] == "session.begin" && item["result"] == "refused");
    assert_eq!(login.expect("the failed login")["resource"], id);
    assert_eq!(of("GET /api/v1/hosts")["actor"]["kind"], "nobody");
    let accepted = |result: &str| items.iter().find(|it| it["action"] == "invitation.accept" && it["result"] == result);
    assert_eq!(accepted("done").expect("used")["actor"]["kind"], "user");
    assert_eq!(accepted("refused").expect("used again")["actor"]["kind"], "nobody");
    for secret in [PASSWORD, "argon2", "wrong wrong", &started.token(), "tongtu_forged", &administrator.csrf] {
        assert!(!all.to_string().contains(secret), "{secret}");
    }

    let some =
        json_of(auditor.send(Method::GET, "/api/v1/audit?action=user.&actor=security&result=done&limit=1", None).await)
            .await;
    assert_eq!(some["items"].as_array().map(Vec::len), Some(1));
    assert!(some["next"].is_string(), "{some}");
    let next = format!("/api/v1/audit?action=user.&limit=1&after={}", some["next"].as_str().expect("a cursor"));
    assert!(
        json_of(auditor.send(Method::GET, &next, None).await).await["items"][0]["number"].as_i64()
            < some["items"][0]["number"].as_i64()
    );

    let csv = auditor.send(Method::GET, "/api/v1/audit/export?format=csv", None).await.text().await.expect("text");
    assert_eq!(csv.lines().count(), numbers.len() + 1, "{csv}");
    // As a browser asks for it.
    let export = auditor.request(Method::GET, "/api/v1/audit/export?format=csv").header("accept-encoding", "gzip");
    let export = export.send().await.expect("an answer");
    assert_eq!(export.headers()["content-encoding"], "gzip");
    assert!(!export.bytes().await.expect("it comes to its end").is_empty());
    let lines =
        auditor.send(Method::GET, "/api/v1/audit/export?format=jsonl&from=0", None).await.text().await.expect("text");
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|entry| entry["number"].is_i64())));
    assert_eq!(lines.lines().count(), numbers.len());

    // What is listed by a filter is what is exported by it.
    let filter = "action=user.&actor=security&result=done&from=0";
    let listed = json_of(auditor.send(Method::GET, &format!("/api/v1/audit?{filter}"), None).await).await;
    let listed = listed["items"].as_array().cloned().expect("items");
    let lines = auditor.send(Method::GET, &format!("/api/v1/audit/export?format=jsonl&{filter}"), None).await;
    let lines = lines.text().await.expect("text");
    let exported: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("an entry")).collect();
    assert!(!listed.is_empty() && exported == listed, "{exported:?}");

    let verification = json_of(auditor.send(Method::GET, "/api/v1/audit/verification", None).await).await;
    assert_eq!(
        verification,
        json!({ "verified": true, "rows": numbers.len(), "first": 1, "last": numbers.len(), "faults": [] })
    );
    // The same from outside, beside the running service.
    let read = Db::look(&config::Database::default(), started.data.path()).await.expect("a look");
    let found = access::audit::verify(&read, started.data.path()).await.expect("verified");
    assert!(found.verified && found.rows == numbers.len() as u64, "{found:?}");
}

#[tokio::test]
async fn an_attempt_with_a_password_says_who_tried_what() {
    let started = started().await;
    let administrator = started.first_administrator().await;
    let (_, auditor) = started.join(&administrator, "auditor", "auditor").await;
    let (id, operator) = started.join(&administrator, "op", "operator").await;
    let change = json!({ "current": "wrong wrong wrong", "new": "a wide thoroughfare" });
    let changed = operator.send(Method::PUT, "/api/v1/account/password", Some(change)).await;
    problem(changed, StatusCode::UNPROCESSABLE_ENTITY).await;
    // A page of another site: what it sends along is right.
    let log_in = json!({ "name": "op", "password": PASSWORD });
    let accept = json!({ "secret": "unknown", "password": PASSWORD });
    for (path, body) in [("/api/v1/session", log_in), ("/api/v1/invitations/accept", accept)] {
        let forged = started.client.post(format!("{}{path}", started.base())).header("sec-fetch-site", "cross-site");
        problem(forged.json(&body).send().await.expect("an answer"), StatusCode::FORBIDDEN).await;
    }
    started.running.parts.authentication.access().refusals_settled().await;
    let refused = json_of(auditor.send(Method::GET, "/api/v1/audit?result=refused", None).await).await;
    let said = |action: &str| {
        let entries = refused["items"].as_array().expect("entries").iter().filter(|entry| entry["action"] == action);
        entries.map(|it| json!([it["actor"]["name"], it["resource"], it["reason"]])).collect::<Vec<_>>()
    };
    assert_eq!(said("account.password"), [json!(["op", id, "wrong name or password"])]);
    assert_eq!(said("session.begin"), [json!(["", "", "csrf"])]);
    assert!(said("invitation.accept").contains(&json!(["", "", "csrf"])), "{refused}");
}

#[tokio::test]
async fn what_is_refused_while_control_stops_is_in_the_log() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let started = started().await;
    let administrator = started.first_administrator().await;
    let (_, operator) = started.join(&administrator, "op", "operator").await;
    let address = started.running.http();
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    let body = r#"{"name":"x","display_name":"x","roles":["operator"],"organization":"org_1"}"#;
    let head = format!(
        "POST /api/v1/users HTTP/1.1\r\nhost: a\r\ncookie: {}\r\nx-csrf-token: {}\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        operator.cookie,
        operator.csrf,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut said = vec![0; 4096];
    let length = stream.read(&mut said).await.expect("an answer");
    assert!(said[..length].starts_with(b"HTTP/1.1 100"), "the request is under way");
    started.shutdown.trigger();
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(body.as_bytes()).await.expect("sent");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.expect("an answer");
    assert!(said.starts_with(b"HTTP/1.1 403"), "{}", String::from_utf8_lossy(&said));
    let Started { running, data, .. } = started;
    running.finished().await.expect("a clean stop");

    let again = started_in(data, Clock::System).await;
    let access = again.running.parts.authentication.access();
    let filter = access::audit::AuditFilter { action: Some("POST /api/v1/users".to_owned()), ..Default::default() };
    let permit = access::Permit::testing(access::ROOT);
    let entries = access.audit_entries(&permit, &filter, None, 10).await.expect("entries");
    assert_eq!(entries.iter().map(|entry| entry.actor_name.as_str()).collect::<Vec<_>>(), ["op"]);
}
