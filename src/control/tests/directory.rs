//! Users, organisations and machine tokens over HTTP: what a security administrator does, and what nobody may.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

const NOW: i64 = 1_800_000_000_000;

async fn json_of(response: Response, status: StatusCode) -> Value {
    let answered = response.status();
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(answered, status, "{body}");
    body
}

fn fields(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().map_or(&[][..], Vec::as_slice);
    errors.iter().filter_map(|error| error["field"].as_str()).collect()
}

impl Started {
    /// A user who has set a password by their link, logged in.
    pub(super) async fn join(&self, administrator: &Person, name: &str, role: &str) -> (String, Person) {
        let wished = json!({ "name": name, "display_name": name, "roles": [role], "organization": "org_1" });
        let made = administrator.send(Method::POST, "/api/v1/users", Some(wished)).await;
        let made = json_of(made, StatusCode::CREATED).await;
        let url = made["invitation"]["url"].as_str().expect("a link");
        let secret = url.strip_prefix(&format!("{}/invitation#", self.base())).expect("a link to here");
        let seen = self.post("/api/v1/invitations/look", json!({ "secret": secret })).await;
        assert_eq!(json_of(seen, StatusCode::OK).await["name"], name);
        let body = json!({ "secret": secret, "password": PASSWORD });
        let accepted = self.post("/api/v1/invitations/accept", body.clone()).await;
        let person = Person::welcomed(&self.client, self.base(), accepted).await;
        problem(self.post("/api/v1/invitations/accept", body).await, StatusCode::NOT_FOUND).await;
        (made["user"]["id"].as_str().expect("an id").to_owned(), person)
    }
}

#[tokio::test]
async fn a_security_administrator_adds_people_who_set_their_own_passwords() {
    let started = started().await;
    let administrator = started.first_administrator().await;
    let (id, operator) = started.join(&administrator, "op", "operator").await;
    assert_eq!(operator.me["landing"], "/overview");
    assert_eq!(operator.send(Method::GET, "/api/v1/hosts", None).await.status(), StatusCode::OK);
    problem(operator.send(Method::GET, "/api/v1/users", None).await, StatusCode::FORBIDDEN).await;
    let step: Value = started.send(Method::GET, "/api/v1/first-run", None).await.json().await.expect("JSON");
    assert_eq!(step["step"], "done");

    let listed = administrator.send(Method::GET, "/api/v1/users?role=operator&search=OP", None).await;
    let listed = json_of(listed, StatusCode::OK).await;
    assert_eq!(listed["items"][0]["id"], *id);
    assert_eq!(listed["items"][0]["has_password"], true);
    assert!(!listed.to_string().contains("argon2"));

    let path = format!("/api/v1/users/{id}");
    let patch = async |body: Value| administrator.send(Method::PATCH, &path, Some(body)).await;
    let said =
        problem(patch(json!({ "roles": ["operator", "auditor"] })).await, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!(fields(&said), ["roles"]);
    json_of(patch(json!({ "roles": ["operator", "migration_manager"] })).await, StatusCode::OK).await;
    // A role that is taken is gone at once, from sessions as well.
    json_of(patch(json!({ "roles": ["department_user"] })).await, StatusCode::OK).await;
    problem(operator.send(Method::GET, "/api/v1/agents", None).await, StatusCode::FORBIDDEN).await;
    json_of(patch(json!({ "disabled": true })).await, StatusCode::OK).await;
    problem(operator.send(Method::GET, "/api/v1/session", None).await, StatusCode::UNAUTHORIZED).await;
    problem(started.log_in("op", PASSWORD).await, StatusCode::UNAUTHORIZED).await;
    let invited = administrator.send(Method::POST, &format!("{path}/invitation"), None).await;
    problem(invited, StatusCode::CONFLICT).await;
    json_of(patch(json!({ "disabled": false })).await, StatusCode::OK).await;
    assert_eq!(started.log_in("op", PASSWORD).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn what_people_write_is_kept_as_text() {
    let started = started().await;
    let administrator = started.first_administrator().await;
    let script = "<script>alert(1)</script>'; DROP TABLE user_account; --";
    let body = json!({ "name": "x", "display_name": script, "roles": ["operator"], "organization": "org_1" });
    let made = json_of(administrator.send(Method::POST, "/api/v1/users", Some(body)).await, StatusCode::CREATED).await;
    assert_eq!(made["user"]["display_name"], script);
    let body = json!({ "name": "X", "display_name": "", "roles": [], "organization": "org_9" });
    let said = administrator.send(Method::POST, "/api/v1/users", Some(body)).await;
    let said = problem(said, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!(fields(&said), ["display_name", "name", "organization", "roles"]);
    let searched = administrator.send(Method::GET, "/api/v1/users?search=%25%27%20OR%201%3D1", None).await;
    assert_eq!(json_of(searched, StatusCode::OK).await["items"], json!([]));

    // The same in every other field that takes a text, and in what is asked for.
    let body = json!({ "name": script, "level": "department", "parent": "org_1" });
    let organization = administrator.send(Method::POST, "/api/v1/organizations", Some(body)).await;
    assert_eq!(json_of(organization, StatusCode::CREATED).await["name"], script);
    let body = json!({ "name": script, "role": "reader" });
    let token = administrator.send(Method::POST, "/api/v1/tokens", Some(body)).await;
    assert_eq!(json_of(token, StatusCode::CREATED).await["token"]["name"], script);
    let login = started.client.post(format!("{}/api/v1/session", started.base())).header("user-agent", script);
    let login = login.json(&json!({ "name": "security", "password": PASSWORD })).send().await.expect("an answer");
    let browser = Person::welcomed(&started.client, started.base(), login).await;
    let (_, auditor) = started.join(&administrator, "auditor", "auditor").await;
    let (_, operator) = started.join(&administrator, "op", "operator").await;
    for name in [script, "security' --", "%", "\u{0}", "x\ny"] {
        problem(started.log_in(name, PASSWORD).await, StatusCode::UNAUTHORIZED).await;
        problem(started.log_in("security", name).await, StatusCode::UNAUTHORIZED).await;
        let token = reqwest::header::HeaderValue::from_bytes(format!("Bearer tongtu_{name}").as_bytes());
        if let Ok(token) = token {
            let request = started.client.get(format!("{}/api/v1/agents", started.base()));
            let refused = request.header("authorization", token).send().await.expect("an answer");
            problem(refused, StatusCode::UNAUTHORIZED).await;
        }
    }
    for (person, question) in [
        (&auditor, "/api/v1/audit?actor={}"),
        (&auditor, "/api/v1/audit?action={}"),
        (&administrator, "/api/v1/users?search={}"),
        (&operator, "/api/v1/hosts?search={}"),
    ] {
        for text in [script, "' OR 1=1 --", "%", "_"] {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let asked = person.send(Method::GET, &question.replace("{}", &encoded), None).await;
            let found = json_of(asked, StatusCode::OK).await["items"].as_array().map(Vec::len);
            let is_there = question.contains("users") && script.contains(text);
            assert_eq!(found, Some(usize::from(is_there)), "{question} {text}");
        }
    }
    let sessions = json_of(browser.send(Method::GET, "/api/v1/account/sessions", None).await, StatusCode::OK).await;
    let mut agents = sessions["items"].as_array().expect("sessions").iter().map(|session| &session["agent"]);
    assert!(agents.any(|agent| agent == script), "{sessions}");
    let all =
        json_of(auditor.send(Method::GET, "/api/v1/audit?action=organization.", None).await, StatusCode::OK).await;
    assert_eq!(all["items"][0]["after"]["name"], script, "as text, in the log as well");
}

#[tokio::test]
async fn nobody_changes_their_own_rights_and_the_last_security_administrator_stays() {
    let started = started().await;
    let first = started.first_administrator().await;
    let own = format!("/api/v1/users/{}", first.me["user"]["id"].as_str().expect("an id"));
    for change in [json!({ "roles": ["operator"] }), json!({ "disabled": true })] {
        let said = problem(first.send(Method::PATCH, &own, Some(change)).await, StatusCode::FORBIDDEN).await;
        assert_eq!(said["type"], "urn:tongtu:problem:own-rights");
    }
    let renamed = first.send(Method::PATCH, &own, Some(json!({ "display_name": "另一名" }))).await;
    assert_eq!(json_of(renamed, StatusCode::OK).await["display_name"], "另一名");

    let (second_id, second) = started.join(&first, "second", "security_administrator").await;
    let change = json!({ "roles": ["auditor"] });
    json_of(second.send(Method::PATCH, &own, Some(change)).await, StatusCode::OK).await;
    problem(first.send(Method::PATCH, &own, Some(json!({ "display_name": "x" }))).await, StatusCode::FORBIDDEN).await;
    // Now the second one is the last; a third who has not set a password does not count.
    let wished =
        json!({ "name": "third", "display_name": "三", "roles": ["security_administrator"], "organization": "org_1" });
    json_of(second.send(Method::POST, "/api/v1/users", Some(wished)).await, StatusCode::CREATED).await;
    let access = started.running.parts.authentication.access();
    let id = second_id.parse().expect("an id");
    for change in [
        access::UserChange { disabled: Some(true), ..Default::default() },
        access::UserChange { roles: Some(vec![Role::Operator]), ..Default::default() },
    ] {
        let refused = access.user_update(&access::Permit::testing(access::ROOT), id, change).await;
        assert!(matches!(refused, Err(access::PeopleError::LastSecurityAdministrator)), "{refused:?}");
    }
}

#[tokio::test]
async fn a_new_link_sets_a_new_password_and_ends_sessions() {
    let now = Arc::new(AtomicI64::new(NOW));
    let started = started_at(Clock::Manual(now.clone())).await;
    let administrator = started.first_administrator().await;
    let (id, operator) = started.join(&administrator, "op", "operator").await;
    let invite = async || {
        let made = administrator.send(Method::POST, &format!("/api/v1/users/{id}/invitation"), None).await;
        let made = json_of(made, StatusCode::CREATED).await;
        let url = made["invitation"]["url"].as_str().expect("a link").to_owned();
        url.rsplit_once('#').expect("a secret").1.to_owned()
    };
    let accept = async |secret: &str| {
        started.post("/api/v1/invitations/accept", json!({ "secret": secret, "password": "a wide thoroughfare" })).await
    };
    let (first, second) = (invite().await, invite().await);
    problem(accept(&first).await, StatusCode::NOT_FOUND).await;
    assert_eq!(started.log_in("op", PASSWORD).await.status(), StatusCode::OK, "until the link is used");
    assert_eq!(accept(&second).await.status(), StatusCode::OK);
    problem(operator.send(Method::GET, "/api/v1/session", None).await, StatusCode::UNAUTHORIZED).await;
    problem(started.log_in("op", PASSWORD).await, StatusCode::UNAUTHORIZED).await;
    // A link that waits dies with a new password, and with its user's right to log in.
    let waits = invite().await;
    let response = started.log_in("op", "a wide thoroughfare").await;
    let operator = Person::welcomed(&started.client, started.base(), response).await;
    let change = json!({ "current": "a wide thoroughfare", "new": "a long thoroughfare" });
    let changed = operator.send(Method::PUT, "/api/v1/account/password", Some(change)).await;
    assert_eq!(changed.status(), StatusCode::NO_CONTENT);
    problem(accept(&waits).await, StatusCode::NOT_FOUND).await;
    let waits = invite().await;
    for disabled in [true, false] {
        let path = format!("/api/v1/users/{id}");
        let changed = administrator.send(Method::PATCH, &path, Some(json!({ "disabled": disabled }))).await;
        json_of(changed, StatusCode::OK).await;
        problem(accept(&waits).await, StatusCode::NOT_FOUND).await;
    }
    assert_eq!(started.log_in("op", "a long thoroughfare").await.status(), StatusCode::OK);
    let late = invite().await;
    now.fetch_add(72 * 60 * 60_000, Ordering::Relaxed);
    problem(accept(&late).await, StatusCode::NOT_FOUND).await;
}

#[tokio::test]
async fn who_holds_the_machine_lets_a_user_in_again() {
    let started = started().await;
    started.first_administrator().await;
    let access = started.running.parts.authentication.access();
    assert_eq!(access.link_from_machine("nobody", "http://h").await.expect("asked"), None);
    let link = access.link_from_machine("SECURITY", "http://h").await.expect("made").expect("a link");
    let secret = link.strip_prefix("http://h/invitation#").expect("a link");
    let body = json!({ "secret": secret, "password": "a wide thoroughfare" });
    json_of(started.post("/api/v1/invitations/accept", body).await, StatusCode::OK).await;
    problem(started.log_in("security", PASSWORD).await, StatusCode::UNAUTHORIZED).await;
    assert_eq!(started.log_in("security", "a wide thoroughfare").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn sessions_of_others_can_be_seen_and_ended() {
    let started = started().await;
    let administrator = started.first_administrator().await;
    let (_, operator) = started.join(&administrator, "op", "operator").await;
    let listed = json_of(administrator.send(Method::GET, "/api/v1/sessions", None).await, StatusCode::OK).await;
    let sessions = listed["items"].as_array().expect("sessions");
    let of = |name: &str| sessions.iter().find(|session| session["user_name"] == name).expect("a session");
    assert_eq!((&of("security")["current"], &of("op")["current"]), (&json!(true), &json!(false)));
    let path = format!("/api/v1/sessions/{}", of("op")["id"].as_str().expect("an id"));
    assert_eq!(administrator.send(Method::DELETE, &path, None).await.status(), StatusCode::NO_CONTENT);
    problem(operator.send(Method::GET, "/api/v1/session", None).await, StatusCode::UNAUTHORIZED).await;
    problem(administrator.send(Method::DELETE, &path, None).await, StatusCode::NOT_FOUND).await;
}

#[tokio::test]
async fn a_machine_token_has_a_role_a_reach_and_an_end() {
    let now = Arc::new(AtomicI64::new(NOW));
    let started = started_at(Clock::Manual(now.clone())).await;
    let administrator = started.first_administrator().await;
    let make = async |body: Value| administrator.send(Method::POST, "/api/v1/tokens", Some(body)).await;
    let said = make(json!({ "name": "", "role": "auditor", "organization": "org_9", "expires_ms": NOW })).await;
    let said = problem(said, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!(fields(&said), ["name", "role", "organization", "expires_ms"]);
    let made = make(json!({ "name": "prometheus", "role": "reader", "expires_ms": NOW + 60_000 })).await;
    let made = json_of(made, StatusCode::CREATED).await;
    let secret = made["secret"].as_str().expect("its text").to_owned();
    assert_eq!(made["token"]["created_by"], administrator.me["user"]["id"]);
    let listed = async || json_of(administrator.send(Method::GET, "/api/v1/tokens", None).await, StatusCode::OK).await;
    assert_eq!(listed().await["items"][1]["last_used_ms"], Value::Null);
    assert_eq!(started.send(Method::GET, "/metrics", Some(&secret)).await.status(), StatusCode::OK);
    problem(started.send(Method::POST, "/api/v1/agents/agent_1/revoke", Some(&secret)).await, StatusCode::FORBIDDEN)
        .await;
    let seen = listed().await;
    assert_eq!(seen["items"][1]["last_used_ms"], NOW);
    assert!(!seen.to_string().contains(&secret));
    now.fetch_add(60_000, Ordering::Relaxed);
    problem(started.send(Method::GET, "/metrics", Some(&secret)).await, StatusCode::UNAUTHORIZED).await;

    // One that is made for a department stays in it.
    let department = async |name: &str| {
        let body = json!({ "name": name, "level": "department", "parent": "org_1" });
        let made = administrator.send(Method::POST, "/api/v1/organizations", Some(body)).await;
        json_of(made, StatusCode::CREATED).await["id"].as_str().expect("an id").to_owned()
    };
    let (health, school) = (department("卫健委").await, department("教育局").await);
    let made = make(json!({ "name": "health", "role": "operator", "organization": health })).await;
    let made = json_of(made, StatusCode::CREATED).await;
    assert_eq!(made["token"]["organization"], health);
    let (scoped, whole) = (made["secret"].as_str().expect("its text"), started.token());
    let enrol = async |token: &str, organization: &str| {
        let request = started.client.post(format!("{}/api/v1/agents/tokens", started.base())).bearer_auth(token);
        request.json(&json!({ "organization": organization })).send().await.expect("an answer")
    };
    let foreign = json_of(enrol(&whole, &school).await, StatusCode::CREATED).await;
    json_of(enrol(&whole, &health).await, StatusCode::CREATED).await;
    json_of(enrol(scoped, &health).await, StatusCode::CREATED).await;
    for organization in [school.as_str(), "org_1"] {
        problem(enrol(scoped, organization).await, StatusCode::NOT_FOUND).await;
    }
    let seen = json_of(started.send(Method::GET, "/api/v1/agents/tokens", Some(scoped)).await, StatusCode::OK).await;
    let owners: Vec<_> = seen["items"].as_array().expect("tokens").iter().map(|token| &token["organization"]).collect();
    assert_eq!(owners, [health.as_str(); 2]);
    let path = format!("/api/v1/agents/tokens/{}", foreign["id"].as_str().expect("an id"));
    problem(started.send(Method::DELETE, &path, Some(scoped)).await, StatusCode::NOT_FOUND).await;
    assert_eq!(started.send(Method::DELETE, &path, Some(&whole)).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn organisations_are_a_tree() {
    let started = started().await;
    let administrator = started.first_administrator().await;
    let make = async |name: &str, level: &str, parent: &str| {
        let body = json!({ "name": name, "level": level, "parent": parent });
        administrator.send(Method::POST, "/api/v1/organizations", Some(body)).await
    };
    let district = json_of(make("东城区", "district", "org_1").await, StatusCode::CREATED).await;
    let district = district["id"].as_str().expect("an id");
    let bureau = json_of(make("教育局", "department", district).await, StatusCode::CREATED).await;
    let bureau = bureau["id"].as_str().expect("an id");
    let path = format!("/api/v1/organizations/{district}");
    let said = administrator.send(Method::PATCH, &path, Some(json!({ "parent": bureau }))).await;
    assert_eq!(fields(&problem(said, StatusCode::UNPROCESSABLE_ENTITY).await), ["parent"]);
    let renamed = administrator.send(Method::PATCH, &path, Some(json!({ "name": "西城区" }))).await;
    assert_eq!(json_of(renamed, StatusCode::OK).await["name"], "西城区");
    let page = administrator.send(Method::GET, "/api/v1/organizations?limit=2", None).await;
    let page = json_of(page, StatusCode::OK).await;
    assert_eq!((page["items"].as_array().map(Vec::len), &page["next"]), (Some(2), &json!(district)));

    // Owners' names, to everybody who sees what they own: an operator of the whole city, a department user of
    // their own organisation and what is below it.
    let owners = async |person: &Person| {
        let asked = person.send(Method::GET, "/api/v1/account/organizations", None).await;
        let answer = json_of(asked, StatusCode::OK).await;
        let items = answer["items"].as_array().expect("a list").iter();
        items.map(|owner| owner["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let (_, operator) = started.join(&administrator, "op", "operator").await;
    assert_eq!(owners(&operator).await, ["root", "西城区", "教育局"]);
    let (user, department) = started.join(&administrator, "dep", "department_user").await;
    let moved = json!({ "organization": district });
    json_of(administrator.send(Method::PATCH, &format!("/api/v1/users/{user}"), Some(moved)).await, StatusCode::OK)
        .await;
    assert_eq!(owners(&department).await, ["西城区", "教育局"]);
}
