//! The authorisation matrix: every operation of the document × every role × own, foreign and former
//! things, against the table of the separation of duties. An operation without a case fails the test.

use std::collections::BTreeSet;

use sea_orm::ConnectionTrait;

use super::*;
use crate::access::roles::{Area, Level};

/// The table as it was agreed; the code's own must say the same.
#[rustfmt::skip]
const AGREED: [(&str, [&str; 7]); 8] = [
    //                system_administrator, security_administrator, auditor, operator, migration_manager, department_user, reader
    ("settings",     ["write", "none",  "read",  "none",  "none",  "none",  "none"]),
    ("access",       ["none",  "write", "read",  "none",  "none",  "none",  "none"]),
    ("audit",        ["none",  "none",  "read",  "none",  "none",  "none",  "none"]),
    ("agents",       ["read",  "none",  "read",  "write", "read",  "none",  "read"]),
    ("measurements", ["none",  "none",  "read",  "write", "read",  "read",  "read"]),
    ("migration",    ["none",  "none",  "read",  "read",  "write", "read",  "none"]),
    ("health",       ["read",  "read",  "read",  "read",  "read",  "none",  "read"]),
    ("account",      ["write", "write", "write", "write", "write", "write", "none"]),
];

/// Whose things are, and how they are called: of organisation 2, of 3, and of 3 that were 2's before.
const WHOSE: [&str; 3] = ["1", "2", "3"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// One thing: `{}` in the path is its number, `{of}` in the body whose it is.
    One,
    /// The same of one that is there no more afterwards.
    Once,
    /// One thing whose former owner sees the time in which it was theirs; `compute/tests/scope.rs` asks for that time.
    OneOverTime,
    /// One thing that is of no organisation, or of the asker's own account, or what is summed or listed of what the asker
    /// reaches: of whose things that is, `compute/tests/scope.rs` asks where something reports.
    Any,
    /// What is the whole city's: whom the table gives it but who reaches less is refused.
    Whole,
    /// Like `Any`, but without an end: only its beginning is read.
    Endless,
    /// A list, in which things are found by this prefix.
    List(&'static str),
}

/// An operation: its area and level, how it is asked, and what one is answered who may.
struct Case(&'static str, Area, Level, Of, &'static str, &'static str, &'static str, u16);

use Area::{Access, Account, Agents, Audit, Health, Measurements, Settings};
use Level::{Read, Write};
use Of::{Any, Endless, List, Once, One, OneOverTime, Whole};

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case("agent_list",          Agents,       Read,  List("agent_"),  "GET",    "/api/v1/agents", "", 200),
    Case("agent_fetch",         Agents,       Read,  One,             "GET",    "/api/v1/agents/agent_{}", "", 200),
    Case("loss_list",           Agents,       Read,  One,             "GET",    "/api/v1/agents/agent_{}/losses", "", 200),
    Case("agent_revoke",        Agents,       Write, One,             "POST",   "/api/v1/agents/agent_{}/revoke", "", 200),
    Case("token_list",          Agents,       Read,  List("enrolment_"), "GET", "/api/v1/agents/tokens", "", 200),
    Case("token_create",        Agents,       Write, One,             "POST",   "/api/v1/agents/tokens", r#"{"organization":"{of}"}"#, 201),
    Case("token_revoke",        Agents,       Write, One,             "DELETE", "/api/v1/agents/tokens/enrolment_{}", "", 204),
    Case("configuration_fetch", Agents,       Read,  Any,             "GET",    "/api/v1/agents/configuration", "", 200),
    Case("configuration_set",   Agents,       Write, Whole,           "PUT",    "/api/v1/agents/configuration", r#"{"version":1,"collectors":[]}"#, 200),
    Case("rollout_list",        Agents,       Read,  List("rollout_"), "GET",   "/api/v1/rollouts", "", 200),
    Case("rollout_create",      Agents,       Write, Any,             "POST",   "/api/v1/rollouts", r#"{"action":"install","machines":[],"credential":{}}"#, 422),
    Case("rollout_fetch",       Agents,       Read,  One,             "GET",    "/api/v1/rollouts/rollout_{}", "", 200),
    Case("rollout_resume",      Agents,       Write, One,             "POST",   "/api/v1/rollouts/rollout_{}/resume", r#"{"credential":{}}"#, 422),
    Case("rollout_transcript",  Agents,       Read,  One,             "GET",    "/api/v1/rollouts/rollout_{}/targets/1", "", 200),
    Case("host_key_confirm",    Agents,       Write, One,             "POST",   "/api/v1/rollouts/rollout_{}/targets/1/host-key", r#"{"fingerprint":"SHA256:x"}"#, 409),
    Case("host_key_list",       Agents,       Read,  List("hostkey_"), "GET",   "/api/v1/host-keys", "", 200),
    Case("host_key_delete",     Agents,       Write, Once,            "DELETE", "/api/v1/host-keys/hostkey_{}", "", 204),
    Case("package_list",        Agents,       Read,  Any,             "GET",    "/api/v1/rollouts/packages", "", 409),
    Case("overview",            Measurements, Read,  Any,             "GET",    "/api/v1/overview", "", 200),
    Case("live",                Measurements, Read,  Endless,         "GET",    "/api/v1/live?topics=overview,hosts", "", 200),
    Case("host_list",           Measurements, Read,  List("host_"),   "GET",    "/api/v1/hosts", "", 200),
    Case("host_fetch",          Measurements, Read,  One,             "GET",    "/api/v1/hosts/host_{}", "", 200),
    Case("host_series",         Measurements, Read,  One,             "GET",    "/api/v1/hosts/host_{}/series?metric=node_load1", "", 404),
    Case("host_vm_list",        Measurements, Read,  One,             "GET",    "/api/v1/hosts/host_{}/vms", "", 200),
    Case("host_provider_set",   Measurements, Write, One,             "PUT",    "/api/v1/hosts/host_{}/provider", r#"{"provider":null}"#, 204),
    Case("vm_list",             Measurements, Read,  List("vm_"),     "GET",    "/api/v1/vms", "", 200),
    Case("ledger_list",         Measurements, Read,  Any,             "GET",    "/api/v1/ledger", "", 200),
    Case("ledger_template",     Measurements, Read,  Any,             "GET",    "/api/v1/ledger/template", "", 200),
    Case("ledger_import_begin", Measurements, Write, Whole,           "POST",   "/api/v1/ledger/imports?dry_run=true", "x", 202),
    Case("ledger_import_fetch", Measurements, Read,  Whole,           "GET",    "/api/v1/ledger/imports/import_1", "", 404),
    Case("ledger_import_change_list", Measurements, Read, Whole,      "GET",    "/api/v1/ledger/imports/import_1/changes", "", 404),
    Case("ledger_import_failed", Measurements, Read, Whole,           "GET",    "/api/v1/ledger/imports/import_1/failed", "", 404),
    Case("vm_fetch",            Measurements, Read,  One,             "GET",    "/api/v1/vms/vm_{}", "", 200),
    Case("vm_update",           Measurements, Write, One,             "PUT",    "/api/v1/vms/vm_{}", r#"{"version":1}"#, 200),
    Case("vm_event_list",       Measurements, Read,  One,             "GET",    "/api/v1/vms/vm_{}/events", "", 200),
    Case("vm_series",           Measurements, Read,  OneOverTime,     "GET",    "/api/v1/vms/vm_{}/series?metric=libvirt_up", "", 404),
    Case("pool_list",           Measurements, Read,  Any,             "GET",    "/api/v1/pools", "", 200),
    Case("capacity",            Measurements, Read,  Any,             "GET",    "/api/v1/capacity?by=host", "", 200),
    Case("capacity_room",       Measurements, Read,  Any,             "GET",    "/api/v1/capacity/room?vcpus=1&memory_bytes=1", "", 200),
    Case("review",              Measurements, Read,  Any,             "GET",    "/api/v1/review", "", 200),
    Case("provider_list",       Measurements, Read,  Any,             "GET",    "/api/v1/providers", "", 200),
    Case("provider_create",     Measurements, Write, Whole,           "POST",   "/api/v1/providers", r#"{"name":"","kind":"own"}"#, 422),
    Case("provider_update",     Measurements, Write, Whole,           "PUT",    "/api/v1/providers/provider_9", r#"{"version":1,"name":"x","kind":"own"}"#, 404),
    Case("provider_delete",     Measurements, Write, Whole,           "DELETE", "/api/v1/providers/provider_9", "", 404),
    Case("source_list",         Measurements, Read,  List("source_"), "GET",    "/api/v1/sources", "", 200),
    Case("source_metrics",      Measurements, Read,  One,             "GET",    "/metrics/sources/source_{}", "", 200),
    Case("series",              Measurements, Read,  OneOverTime,     "GET",    "/api/v1/series?source=source_{}&metric=node_load1", "", 404),
    Case("targets",             Measurements, Read,  Any,             "GET",    "/api/v1/prometheus/targets", "", 200),
    Case("health_fetch",        Health,       Read,  Any,             "GET",    "/api/v1/health", "", 200),
    Case("settings_fetch",      Settings,     Read,  Any,             "GET",    "/api/v1/settings", "", 200),
    Case("retention_fetch",     Settings,     Read,  Any,             "GET",    "/api/v1/settings/retention", "", 200),
    Case("retention_set",       Settings,     Write, Any,             "PUT",    "/api/v1/settings/retention", r#"{"version":1}"#, 200),
    Case("backup_schedule_fetch", Settings,   Read,  Any,             "GET",    "/api/v1/settings/backup", "", 200),
    Case("backup_schedule_set", Settings,     Write, Any,             "PUT",    "/api/v1/settings/backup", r#"{"version":1,"keep":7}"#, 200),
    Case("backup_list",         Settings,     Read,  Any,             "GET",    "/api/v1/backups", "", 200),
    Case("backup_create",       Settings,     Write, Any,             "POST",   "/api/v1/backups", "", 202),
    Case("backup_delete",       Settings,     Write, Any,             "DELETE", "/api/v1/backups/20260101T000000Z", "", 404),
    Case("own_metrics",         Health,       Read,  Any,             "GET",    "/metrics", "", 200),
    Case("audit_list",          Audit,        Read,  Any,             "GET",    "/api/v1/audit", "", 200),
    Case("audit_export",        Audit,        Read,  Any,             "GET",    "/api/v1/audit/export?format=csv", "", 200),
    Case("audit_verification",  Audit,        Read,  Any,             "GET",    "/api/v1/audit/verification", "", 200),
    Case("user_list",           Access,       Read,  Any,             "GET",    "/api/v1/users", "", 200),
    Case("user_create",         Access,       Write, Any,             "POST",   "/api/v1/users", r#"{"name":"new","display_name":"新","roles":["auditor"],"organization":"org_2"}"#, 201),
    Case("user_fetch",          Access,       Read,  Any,             "GET",    "/api/v1/users/user_90", "", 200),
    Case("user_update",         Access,       Write, Any,             "PATCH",  "/api/v1/users/user_90", r#"{"display_name":"改"}"#, 200),
    Case("user_invite",         Access,       Write, Any,             "POST",   "/api/v1/users/user_90/invitation", "", 201),
    Case("role_list",           Access,       Read,  Any,             "GET",    "/api/v1/roles", "", 200),
    Case("session_list",        Access,       Read,  Any,             "GET",    "/api/v1/sessions", "", 200),
    Case("session_revoke",      Access,       Write, Any,             "DELETE", "/api/v1/sessions/session_90", "", 204),
    Case("organization_list",   Access,       Read,  Any,             "GET",    "/api/v1/organizations", "", 200),
    Case("organization_create", Access,       Write, Any,             "POST",   "/api/v1/organizations", r#"{"name":"局","level":"department","parent":"org_1"}"#, 201),
    Case("organization_fetch",  Access,       Read,  Any,             "GET",    "/api/v1/organizations/org_3", "", 200),
    Case("organization_update", Access,       Write, Any,             "PATCH",  "/api/v1/organizations/org_3", r#"{"name":"委"}"#, 200),
    Case("api_token_list",      Access,       Read,  Any,             "GET",    "/api/v1/tokens", "", 200),
    Case("api_token_create",    Access,       Write, Any,             "POST",   "/api/v1/tokens", r#"{"name":"x","role":"reader"}"#, 201),
    Case("api_token_revoke",    Access,       Write, Any,             "DELETE", "/api/v1/tokens/token_90", "", 204),
    Case("account_update",      Account,      Write, Any,             "PATCH",  "/api/v1/account", r#"{"language":"en"}"#, 204),
    Case("account_password",    Account,      Write, Any,             "PUT",    "/api/v1/account/password", r#"{"current":"x","new":"short"}"#, 422),
    Case("account_organization_list", Account, Write, Any,            "GET",    "/api/v1/account/organizations", "", 200),
    Case("account_session_list", Account,     Write, Any,             "GET",    "/api/v1/account/sessions", "", 200),
    Case("account_session_end", Account,      Write, Any,             "DELETE", "/api/v1/account/sessions/session_1", "", 404),
    // Last: nobody is anybody after it.
    Case("session_end",         Account,      Write, Any,             "DELETE", "/api/v1/session", "", 204),
];

/// Somebody who asks.
pub(super) struct Asker {
    role: Role,
    is_machine: bool,
    /// Whether they reach organisation 2 alone.
    is_scoped: bool,
    /// Cookie or token.
    secret: String,
    csrf: String,
}

impl Asker {
    fn level(&self, area: Area) -> Level {
        if self.is_machine && area == Area::Account { Level::None } else { self.role.level(area) }
    }

    fn name(&self) -> String {
        let scope = if self.is_scoped { " of one organisation" } else { "" };
        format!("{}{}{scope}", self.role.name(), if self.is_machine { " (machine)" } else { "" })
    }

    async fn ask(&self, started: &Started, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = started.client.request(method.parse().expect("a method"), format!("{}{path}", started.base()));
        let mut request = request.header("accept-language", "en");
        request = if self.is_machine {
            request.bearer_auth(&self.secret)
        } else {
            request.header("cookie", format!("tongtu_session={}", self.secret)).header("x-csrf-token", &self.csrf)
        };
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        if response.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream") {
            return (status, Value::Null);
        }
        let text = response.text().await.expect("text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

fn hex_of(secret: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Things of three kinds of owners, somebody of every role, and control over them.
pub(super) async fn started_with_askers() -> (Started, Vec<Asker>) {
    let data = tempfile::tempdir().expect("a directory");
    let db = Db::open(&config::Database::default(), data.path()).await.expect("a database");
    db.migrate().await.expect("migrated");
    let transaction = db.begin("matrix").await.expect("begun");
    let mut statements = vec![
        "INSERT INTO organization (id, name, level, created_ms) VALUES (1, 'root', 'city', 0)".to_owned(),
        "INSERT INTO organization (id, parent_id, name, level, created_ms) VALUES (2, 1, 'own', 'department', 0), (3, 1, 'foreign', 'department', 0)".to_owned(),
    ];
    for id in WHOSE {
        let organization = if id == "1" { 2 } else { 3 };
        statements.push(format!(
            "INSERT INTO enrolment_token (id, hash, organization_id, created_ms, expires_ms, uses, uses_left) \
             VALUES ({id}, x'{}', {organization}, 0, 9000000000000000, 1, 0)",
            hex_of(id)
        ));
        statements.push(format!(
            "INSERT INTO agent (id, kind, machine_id, hostname, version, protocol, interval_ms, enrolled_ms, enrolment_token_id, enrolment_key) \
             VALUES ({id}, 'host', 'machine-{id}', 'h{id}', '1', 1, 15000, 0, {id}, x'{}')",
            hex_of(id)
        ));
        statements.push(format!(
            "INSERT INTO telemetry_source (id, agent_id, kind, local_key, created_ms, interval_ms) VALUES ({id}, {id}, 'host', 'h', 0, 15000)"
        ));
        statements.push(format!(
            "INSERT INTO host (id, organization_id, machine_id, created_ms) VALUES ({id}, {organization}, 'machine-{id}', 0)"
        ));
        statements.push(format!(
            "INSERT INTO rollout (id, organization_id, action, dry_run, made_by, created_ms, finished_ms) \
             VALUES ({id}, {organization}, 'install', 0, 'u', 0, 1)"
        ));
        statements.push(format!(
            "INSERT INTO rollout_target (rollout_id, number, organization_id, address, port, login, site, state, updated_ms) \
             VALUES ({id}, 1, {organization}, 'h{id}', 22, 'root', '', 'failed', 0)"
        ));
        statements.push(format!(
            "INSERT INTO ssh_host_key (id, organization_id, address, port, algorithm, key_text, fingerprint, confirmed_by, confirmed_ms) \
             VALUES ({id}, {organization}, 'h{id}', 22, 'ssh-ed25519', 'k', 'SHA256:k', 'u', 0)"
        ));
        statements.push(format!("INSERT INTO host_source (source_id, host_id, from_ms) VALUES ({id}, {id}, 0)"));
        statements.push(format!(
            "INSERT INTO vm (id, organization_id, uuid, created_ms, version) VALUES ({id}, {organization}, 'uuid-{id}', 0, 1)"
        ));
        for kind in 1..=4 {
            let mut owners = vec![(0, organization)];
            if id == "3" {
                owners = vec![(0, 2), (1_000, 3)];
            }
            for (from, organization) in owners {
                statements.push(format!(
                    "INSERT INTO ownership (resource_kind, resource_id, from_ms, organization_id) VALUES ({kind}, {id}, {from}, {organization})"
                ));
            }
        }
    }
    let mut askers = Vec::new();
    let mut user = |id: usize, role: Role, secret: &str| {
        statements.push(format!(
            "INSERT INTO user_account (id, name, name_key, display_name, organization_id, roles, password, created_ms) \
             VALUES ({id}, 'u{id}', 'u{id}', 'u', 2, '{}', 'x', 0)",
            role.name()
        ));
        statements.push(format!(
            "INSERT INTO user_session (id, hash, user_id, created_ms, last_used_ms, expires_ms, agent) \
             VALUES ({id}, x'{}', {id}, 0, 9000000000000000, 9000000000000000, '')",
            hex_of(secret)
        ));
    };
    for (index, role) in Role::all().enumerate().filter(|(_, role)| role.is_for_people()) {
        let secret = format!("session-{}", role.name());
        user(10 + index, role, &secret);
        let is_scoped = role == Role::DepartmentUser;
        askers.push(Asker { role, is_machine: false, is_scoped, secret, csrf: String::new() });
    }
    user(90, Role::Operator, "spare");
    for (id, role, organization) in [
        (10, Role::Operator, 1),
        (11, Role::Operator, 2),
        (12, Role::Reader, 1),
        (13, Role::Reader, 2),
        (90, Role::Reader, 1),
    ] {
        let secret = format!("token-{id}");
        statements.push(format!(
            "INSERT INTO api_token (id, name, hash, organization_id, role, created_ms) VALUES ({id}, 't', x'{}', {organization}, '{}', 0)",
            hex_of(&secret),
            role.name()
        ));
        if id != 90 {
            askers.push(Asker { role, is_machine: true, is_scoped: organization == 2, secret, csrf: String::new() });
        }
    }
    for statement in statements {
        transaction.execute_unprepared(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    transaction.commit().await.expect("committed");
    db.close().await;
    drop(db);
    let started = started_in(data, Clock::System).await;
    for asker in askers.iter_mut().filter(|asker| !asker.is_machine) {
        let (status, me) = asker.ask(&started, "GET", "/api/v1/session", "").await;
        assert_eq!(status, 200, "{}: {me}", asker.name());
        asker.csrf = me["csrf"].as_str().expect("a token").to_owned();
        assert_eq!(me["user"]["roles"], json!([asker.role]));
    }
    (started, askers)
}

#[tokio::test]
async fn the_matrix_of_operations_roles_and_owners_holds() {
    for (area, levels) in AGREED {
        for (role, level) in Role::all().zip(levels) {
            let area = Area::all().find(|known| known.name() == area).expect("an area");
            assert_eq!(json!(role.level(area)), level, "{} of {area:?}", role.name());
        }
    }
    let (started, askers) = started_with_askers().await;
    let document: Value = serde_json::from_str(openapi()).expect("JSON");
    let mut missing = BTreeSet::new();
    for operations in document["paths"].as_object().expect("paths").values() {
        for operation in operations.as_object().expect("operations").values() {
            let id = operation["operationId"].as_str().expect("an id");
            // Who one is, is for anybody who is somebody: the test of sessions asks it.
            if !is_open(operation) && id != "session_fetch" && !CASES.iter().any(|case| case.0 == id) {
                missing.insert(id.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "operations without a case: {missing:?}");
    let mut asked = 0;
    let mut wrong = Vec::new();
    // Who reaches less asks first: what is not theirs is there when they ask for it.
    let mut order: Vec<_> = askers.iter().collect();
    order.sort_by_key(|asker| !asker.is_scoped);
    for Case(id, area, level, of, method, path, body, allowed) in CASES {
        let mut gone = BTreeSet::new();
        for asker in &order {
            let may = asker.level(*area) >= *level;
            let whose: &[&str] = if matches!(of, One | Once | OneOverTime) { &WHOSE } else { &WHOSE[..1] };
            for number in whose {
                let body = body.replace("{of}", if *number == "1" { "org_2" } else { "org_3" });
                let (status, answer) = asker.ask(&started, method, &path.replace("{}", number), &body).await;
                asked += 1;
                let is_refused = !may || (*of == Whole && asker.is_scoped);
                let is_visible = !asker.is_scoped || *number == "1" || (*number == "3" && *of == OneOverTime);
                let mut fault = |why: &str| {
                    wrong.push(format!("{id} of {} on {number}: {status}, {why}: {answer}", asker.name()));
                };
                if is_refused {
                    if status != 403 {
                        fault("should be 403");
                    }
                } else if is_visible && !gone.contains(number) {
                    let is_hidden = answer["detail"].as_str().is_some_and(|said| {
                        ["there is no source", "there is no virtual machine", "there is no host"]
                            .iter()
                            .any(|no| said.contains(no))
                    });
                    if status != *allowed || is_hidden {
                        fault(&format!("should be {allowed}"));
                    }
                    if *of == Once {
                        gone.insert(*number);
                    }
                } else if status != 404 {
                    fault("should be 404");
                }
                if let (true, List(prefix)) = (may, of) {
                    let items =
                        answer["items"].as_array().or(answer["agents"].as_array()).or(answer["tokens"].as_array());
                    let ids: Vec<_> = items.into_iter().flatten().filter_map(|item| item["id"].as_str()).collect();
                    let expected: Vec<_> = WHOSE
                        .iter()
                        .filter(|number| !asker.is_scoped || **number == "1")
                        .map(|number| format!("{prefix}{number}"))
                        .collect();
                    let of_fixtures = ids.iter().filter(|id| WHOSE.iter().any(|n| **id == format!("{prefix}{n}")));
                    // Some lists have the newest first.
                    let mut found: Vec<_> = of_fixtures.map(|id| (*id).to_owned()).collect();
                    found.sort_unstable();
                    if found != expected {
                        fault(&format!("should list {expected:?}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked >= 400, "only {asked} questions");
}
