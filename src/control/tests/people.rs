//! People over HTTP: the first run, logins and their limits, sessions, forged requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

const NOW: i64 = 1_800_000_000_000;
const MINUTE: i64 = 60_000;

async fn json_of(response: Response) -> Value {
    response.json().await.expect("JSON")
}

#[tokio::test]
async fn a_link_makes_the_first_security_administrator_once() {
    let started = started().await;
    let step = async || json_of(started.send(Method::GET, "/api/v1/first-run", None).await).await["step"].clone();
    assert_eq!(step().await, "security_administrator");
    let file = started.data.path().join(access::FIRST_LINK);
    let link = fs::read_to_string(&file).expect("the link stands in the data directory");
    assert_eq!(link.trim(), started.running.first_link().expect("a link"));
    assert!(link.starts_with(&format!("{}/invitation#", started.base())), "{link}");
    let secret = link.trim().rsplit_once('#').expect("a secret").1;

    let look = async |secret: &str| started.post("/api/v1/invitations/look", json!({ "secret": secret })).await;
    let seen = json_of(look(secret).await).await;
    assert_eq!((&seen["purpose"], &seen["name"]), (&json!("first_security_administrator"), &Value::Null));
    let accept = async |name: &str, password: &str| {
        let body = json!({ "secret": secret, "name": name, "display_name": "安全员", "password": password });
        started.post("/api/v1/invitations/accept", body).await
    };
    let faults = problem(accept("a b", "short").await, StatusCode::UNPROCESSABLE_ENTITY).await;
    let fields: Vec<_> = faults["errors"].as_array().expect("errors").iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["name", "password"]);

    let me = Person::welcomed(&started.client, started.base(), accept("anquan", PASSWORD).await).await;
    assert_eq!(me.me["user"]["roles"], json!(["security_administrator"]));
    assert_eq!(me.me["landing"], "/users");
    assert_eq!(me.me["capabilities"]["access"], "write");
    assert_eq!(me.me["capabilities"]["measurements"], "none");
    assert_eq!(step().await, "operator");
    problem(accept("again", PASSWORD).await, StatusCode::NOT_FOUND).await;
    problem(look(secret).await, StatusCode::NOT_FOUND).await;
    problem(look("forged").await, StatusCode::NOT_FOUND).await;
    problem(me.send(Method::GET, "/api/v1/hosts", None).await, StatusCode::FORBIDDEN).await;

    // The next start asks for nobody any more.
    started.shutdown.trigger();
    let Started { running, data, .. } = started;
    running.finished().await.expect("a clean stop");
    let again = run(options(data.path()), Shutdown::new()).await.expect("starts again");
    assert_eq!(again.first_link(), None);
    assert!(!file.exists());
    let session = me.client.get(format!("http://{}/api/v1/session", again.http())).header("cookie", &me.cookie);
    assert_eq!(session.send().await.expect("an answer").status(), StatusCode::OK, "a session outlives a restart");
}

#[tokio::test]
async fn a_wrong_password_and_no_such_user_are_one_answer_for_one_work() {
    let started = started().await;
    started.first_administrator().await;
    let passwords = started.running.parts.authentication.passwords().clone();
    let mut said = Vec::new();
    for (name, password) in [("security", "another thoroughfare"), ("nobody", "another thoroughfare")] {
        let before = passwords.verifications();
        let mut problem = problem(started.log_in(name, password).await, StatusCode::UNAUTHORIZED).await;
        assert_eq!(passwords.verifications(), before + 1, "{name}");
        problem["request_id"].take();
        said.push(problem);
    }
    assert_eq!(said[0], said[1]);
    let before = passwords.verifications();
    assert_eq!(started.log_in("SECURITY", PASSWORD).await.status(), StatusCode::OK, "case is no part of a name");
    assert_eq!(passwords.verifications(), before + 1);
}

#[tokio::test]
async fn failures_slow_an_address_and_a_name_and_nobody_else() {
    let now = Arc::new(AtomicI64::new(NOW));
    let started = started_at(Clock::Manual(now.clone())).await;
    started.first_administrator().await;
    let from = async |address: &str, password: &str| {
        let request = started.client.post(format!("{}/api/v1/session", started.base()));
        let request = request.header("x-forwarded-for", address);
        request.json(&json!({ "name": "security", "password": password })).send().await.expect("an answer")
    };
    for _ in 0..5 {
        assert_eq!(from("10.0.0.9", "wrong wrong wrong").await.status(), StatusCode::UNAUTHORIZED);
    }
    let verified = started.running.parts.authentication.passwords().verifications();
    let limited = from("10.0.0.9", PASSWORD).await;
    assert_eq!(limited.headers()["retry-after"], "1");
    problem(limited, StatusCode::TOO_MANY_REQUESTS).await;
    assert_eq!(started.running.parts.authentication.passwords().verifications(), verified, "refused before any work");
    assert_eq!(from("10.0.0.10", PASSWORD).await.status(), StatusCode::OK, "the administrator's own desk");
    now.fetch_add(1_000, Ordering::Relaxed);
    assert_eq!(from("10.0.0.9", PASSWORD).await.status(), StatusCode::OK, "after the pause");
}

#[tokio::test]
async fn who_has_logged_in_in_a_browser_is_not_slowed_by_others_behind_the_address() {
    let now = Arc::new(AtomicI64::new(NOW));
    let started = started_at(Clock::Manual(now.clone())).await;
    let me = started.first_administrator().await;
    let from = async |cookie: &str, password: &str| {
        let request = started.client.post(format!("{}/api/v1/session", started.base()));
        let request = request.header("x-forwarded-for", "10.0.0.9").header("cookie", cookie);
        request.json(&json!({ "name": "security", "password": password })).send().await.expect("an answer")
    };
    let known = |response: &Response| {
        let cookies = response.headers().get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
        let mut known = cookies.filter(|cookie| cookie.starts_with("tongtu_known_"));
        let cookie = known.next().expect("a cookie");
        assert!(cookie.contains("HttpOnly; SameSite=Strict; Path=/api/v1/session; Max-Age="), "{cookie}");
        cookie.split(';').next().expect("a value").to_owned()
    };
    let mine = known(&started.log_in("security", PASSWORD).await);
    for _ in 0..5 {
        assert_eq!(from("", "wrong wrong wrong").await.status(), StatusCode::UNAUTHORIZED);
    }
    let forged = format!("{mine}x");
    for cookie in ["", &forged, "tongtu_known_1=a.b"] {
        problem(from(cookie, PASSWORD).await, StatusCode::TOO_MANY_REQUESTS).await;
    }
    assert_eq!(from(&mine, PASSWORD).await.status(), StatusCode::OK, "from behind the same address");
    problem(from("", PASSWORD).await, StatusCode::TOO_MANY_REQUESTS).await;
    // Whoever has the cookie is slowed by what they try with it.
    for _ in 0..5 {
        assert_eq!(from(&mine, "wrong wrong wrong").await.status(), StatusCode::UNAUTHORIZED);
    }
    problem(from(&mine, PASSWORD).await, StatusCode::TOO_MANY_REQUESTS).await;
    now.fetch_add(1_000, Ordering::Relaxed);
    assert_eq!(from(&mine, PASSWORD).await.status(), StatusCode::OK, "after the pause");

    // Nor does it slow one who is logged in and changes the password; the old cookie dies with the old one.
    for _ in 0..7 {
        from("", "wrong wrong wrong").await;
        now.fetch_add(1_000, Ordering::Relaxed);
    }
    let change = json!({ "current": PASSWORD, "new": "a wide thoroughfare" });
    let change = me.request(Method::PUT, "/api/v1/account/password").header("x-csrf-token", &me.csrf).json(&change);
    let changed = change.header("x-forwarded-for", "10.0.0.9").send().await.expect("an answer");
    assert_eq!(changed.status(), StatusCode::NO_CONTENT);
    problem(from("", "a wide thoroughfare").await, StatusCode::TOO_MANY_REQUESTS).await;
    problem(from(&mine, "a wide thoroughfare").await, StatusCode::TOO_MANY_REQUESTS).await;
    assert_eq!(from(&known(&changed), "a wide thoroughfare").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_flood_of_logins_leaves_others_unharmed() {
    let started = started().await;
    let token = started.token();
    let flood = futures_util::future::join_all((0..300).map(|n| {
        let request = started.client.post(format!("{}/api/v1/session", started.base()));
        let request = request.header("x-forwarded-for", format!("10.1.{}.{}", n / 250, n % 250));
        async move { request.json(&json!({ "name": "nobody", "password": "x" })).send().await.expect("an answer") }
    }));
    let others = async {
        for _ in 0..20 {
            assert_eq!(started.send(Method::GET, "/api/v1/hosts", Some(&token)).await.status(), StatusCode::OK);
        }
    };
    let (answers, ()) = tokio::join!(flood, others);
    let wrong = answers.iter().filter(|answer| answer.status() == StatusCode::UNAUTHORIZED).count() as u64;
    let limited = answers.iter().filter(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS);
    assert!(limited.clone().all(|answer| answer.headers().contains_key("retry-after")));
    assert_eq!(wrong + limited.count() as u64, 300);
    assert_eq!(started.running.parts.authentication.passwords().verifications(), wrong, "no work for the refused");

    // Each of them is counted in the audit log, also who was sent away.
    let access = started.running.parts.authentication.access();
    access.refusals_settled().await;
    // The log's own writer may be under way with some: who begins after it finds them written.
    started.running.db.begin("test").await.expect("begun").rollback().await.expect("ended");
    let filter = access::audit::AuditFilter { result: Some(access::audit::AuditResult::Refused), ..Default::default() };
    let permit = access::Permit::testing(access::ROOT);
    let entries = access.audit_entries(&permit, &filter, None, 10_000).await.expect("entries");
    let times = |entry: &access::audit::AuditEntry| {
        let after = entry.after.as_deref().map(|after| serde_json::from_str::<Value>(after).expect("JSON"));
        after.and_then(|after| after["times"].as_u64()).unwrap_or(1)
    };
    let logged = |reason: &str| {
        let of = entries.iter().filter(|entry| entry.reason.as_deref() == Some(reason));
        of.map(times).sum::<u64>()
    };
    assert_eq!((logged("wrong name or password"), logged("too-many")), (wrong, 300 - wrong));
}

#[tokio::test]
async fn a_session_is_worth_nothing_without_its_page() {
    let started = started().await;
    let me = started.first_administrator().await;
    let end = || me.request(Method::DELETE, "/api/v1/session");
    let with = async |request: reqwest::RequestBuilder| request.send().await.expect("an answer");
    for forged in [
        end(),
        end().header("x-csrf-token", "forged"),
        end().header("x-csrf-token", &me.csrf).header("origin", "https://evil.example"),
        end().header("x-csrf-token", &me.csrf).header("sec-fetch-site", "cross-site"),
    ] {
        let refused = problem(with(forged).await, StatusCode::FORBIDDEN).await;
        assert_eq!(refused["type"], "urn:tongtu:problem:csrf");
    }
    // A page of another site cannot log its visitor in either.
    let login =
        started.client.post(format!("{}/api/v1/session", started.base())).header("origin", "https://evil.example");
    let login = login.json(&json!({ "name": "security", "password": PASSWORD }));
    problem(with(login).await, StatusCode::FORBIDDEN).await;

    // Changed in its middle, at its end, of another's name.
    let (begin, end) = me.cookie.split_at(me.cookie.len() / 2);
    let other = if end.starts_with('A') { "B" } else { "A" };
    let tampered = format!("{begin}{other}{}", &end[1..]);
    for cookie in ["tongtu_session=forged", "tongtu_session=", &format!("{}x", me.cookie), &tampered] {
        let request = started.client.get(format!("{}/api/v1/session", started.base())).header("cookie", cookie);
        problem(with(request).await, StatusCode::UNAUTHORIZED).await;
    }
    assert_eq!(me.send(Method::DELETE, "/api/v1/session", None).await.status(), StatusCode::NO_CONTENT);
    // Replayed.
    problem(me.send(Method::GET, "/api/v1/session", None).await, StatusCode::UNAUTHORIZED).await;
    problem(me.send(Method::DELETE, "/api/v1/session", None).await, StatusCode::UNAUTHORIZED).await;
}

#[tokio::test]
async fn a_session_ends_when_it_idles_and_in_any_case() {
    let now = Arc::new(AtomicI64::new(NOW));
    let started = started_at(Clock::Manual(now.clone())).await;
    let me = started.first_administrator().await;
    let status = async |person: &Person| person.send(Method::GET, "/api/v1/session", None).await.status();
    for _ in 0..24 {
        now.fetch_add(29 * MINUTE, Ordering::Relaxed);
        assert_eq!(status(&me).await, StatusCode::OK);
    }
    assert_eq!(me.me["expires_ms"], NOW + 12 * 60 * MINUTE);
    now.store(NOW + 12 * 60 * MINUTE, Ordering::Relaxed);
    assert_eq!(status(&me).await, StatusCode::UNAUTHORIZED, "after twelve hours");
    let again = Person::welcomed(&started.client, started.base(), started.log_in("security", PASSWORD).await).await;
    now.fetch_add(30 * MINUTE, Ordering::Relaxed);
    assert_eq!(status(&again).await, StatusCode::UNAUTHORIZED, "after half an hour without use");

    // What a page asks for by itself is answered and keeps nothing from idling; anything else does.
    let watched = Person::welcomed(&started.client, started.base(), started.log_in("security", PASSWORD).await).await;
    let by_itself = async |name: &str, value: &str| {
        let request = watched.request(Method::GET, "/api/v1/session").header(name, value);
        request.send().await.expect("an answer").status()
    };
    now.fetch_add(29 * MINUTE, Ordering::Relaxed);
    assert_eq!(by_itself("x-tongtu-automatic", "0").await, StatusCode::OK, "a person asked");
    now.fetch_add(29 * MINUTE, Ordering::Relaxed);
    assert_eq!(by_itself("x-tongtu-automatic", "1").await, StatusCode::OK);
    assert_eq!(by_itself("accept", "text/event-stream").await, StatusCode::OK);
    now.fetch_add(MINUTE, Ordering::Relaxed);
    assert_eq!(by_itself("x-tongtu-automatic", "1").await, StatusCode::UNAUTHORIZED, "half an hour after a person");
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let started = started().await;
    let me = started.first_administrator().await;
    let other = Person::welcomed(&started.client, started.base(), started.log_in("security", PASSWORD).await).await;
    let listed = json_of(me.send(Method::GET, "/api/v1/account/sessions", None).await).await;
    let sessions = listed["items"].as_array().expect("sessions");
    assert_eq!(sessions.iter().filter(|session| session["current"] == true).count(), 1);
    assert_eq!(sessions.len(), 2);
    let change = async |current: &str, new: &str| {
        me.send(Method::PUT, "/api/v1/account/password", Some(json!({ "current": current, "new": new }))).await
    };
    let said = problem(change("not my password", "a wide thoroughfare").await, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!(said["errors"][0]["field"], "current");
    let said = problem(change(PASSWORD, "short").await, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!(said["errors"][0]["field"], "new");
    assert_eq!(change(PASSWORD, "a wide thoroughfare").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(me.send(Method::GET, "/api/v1/session", None).await.status(), StatusCode::OK);
    problem(other.send(Method::GET, "/api/v1/session", None).await, StatusCode::UNAUTHORIZED).await;
    problem(started.log_in("security", PASSWORD).await, StatusCode::UNAUTHORIZED).await;
    assert_eq!(started.log_in("security", "a wide thoroughfare").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn words_follow_the_language_that_is_asked_for() {
    let started = started().await;
    let me = started.first_administrator().await;
    let asked = async |language: &str| {
        let request = me.request(Method::GET, "/api/v1/hosts").header("accept-language", language);
        let response = request.send().await.expect("an answer");
        let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
        let problem = problem(response, StatusCode::FORBIDDEN).await;
        assert_eq!(problem["request_id"], id);
        (
            problem["title"].as_str().expect("a title").to_owned(),
            problem["detail"].as_str().expect("a detail").to_owned(),
        )
    };
    let (title, detail) = asked("zh-CN,zh;q=0.9,en;q=0.5").await;
    assert!(title == "没有权限" && detail.contains("查看"), "{title}: {detail}");
    let (title, detail) = asked("en-GB").await;
    assert!(title == "Forbidden" && detail.contains("measurements"), "{title}: {detail}");
    let changed = me.send(Method::PATCH, "/api/v1/account", Some(json!({ "language": "en" }))).await;
    assert_eq!(changed.status(), StatusCode::NO_CONTENT);
    assert_eq!(json_of(me.send(Method::GET, "/api/v1/session", None).await).await["user"]["language"], "en");
}

#[tokio::test]
async fn a_body_of_a_hundred_megabytes_is_refused_clearly() {
    let started = started().await;
    let body = vec![b' '; 100 << 20];
    let request = started.client.post(format!("{}/api/v1/session", started.base()));
    let request = request.header("content-type", "application/json").header("accept-language", "en").body(body);
    let said = problem(request.send().await.expect("an answer"), StatusCode::PAYLOAD_TOO_LARGE).await;
    assert_eq!(said["detail"], "the body is larger than 1 MiB");
}
