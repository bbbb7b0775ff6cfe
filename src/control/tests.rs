//! Tests of control as it is started: authentication, one shape of refusals, readiness, the document.

use std::path::Path;

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::access::Role;
use crate::metrics;
use crate::platform::testing;

mod directory;
mod https;
mod language;
mod ledger;
mod matrix;
mod people;
mod setting;

struct Started {
    running: Running,
    data: TempDir,
    shutdown: Shutdown,
    client: Client,
}

fn options(data: &Path) -> Options {
    let mut config = Config::default();
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config.agents.listen = ([127, 0, 0, 1], 0).into();
    // Tests ask as quickly as they can; what the limit does has a test of its own.
    config.http.requests_per_second = 100_000;
    Options { config, data: data.to_owned(), clock: Clock::System, renew_api_token: false }
}

async fn started() -> Started {
    started_at(Clock::System).await
}

async fn started_at(clock: Clock) -> Started {
    started_in(tempfile::tempdir().expect("a directory"), clock).await
}

async fn started_in(data: TempDir, clock: Clock) -> Started {
    let options = Options { clock, ..options(data.path()) };
    started_with(data, options).await
}

async fn started_with(data: TempDir, options: Options) -> Started {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let shutdown = Shutdown::new();
    let running = run(options, shutdown.clone()).await.expect("control starts");
    let client = Client::builder().no_proxy().build().expect("a client");
    Started { running, data, shutdown, client }
}

impl Started {
    fn token(&self) -> String {
        fs::read_to_string(self.data.path().join("api-token")).expect("the token").trim().to_owned()
    }

    async fn send(&self, method: Method, path: &str, token: Option<&str>) -> Response {
        let mut request = self.client.request(method, format!("{}{path}", self.base()));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await.expect("an answer")
    }
}

/// A person in a session, as the browser keeps it.
struct Person {
    client: Client,
    base: String,
    cookie: String,
    csrf: String,
    me: Value,
}

impl Person {
    async fn welcomed(client: &Client, base: String, response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        let cookie =
            response.headers()["set-cookie"].to_str().expect("text").split(';').next().expect("a cookie").to_owned();
        let me: Value = response.json().await.expect("JSON");
        Self { client: client.clone(), base, cookie, csrf: me["csrf"].as_str().expect("a token").to_owned(), me }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).header("cookie", &self.cookie)
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let mut request = self.request(method, path).header("x-csrf-token", &self.csrf);
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.expect("an answer")
    }
}

const PASSWORD: &str = "a quiet thoroughfare";

impl Started {
    fn base(&self) -> String {
        let said = fs::read_to_string(self.data.path().join(ADDRESS_FILE)).expect("it runs");
        said.trim().to_owned()
    }

    async fn post(&self, path: &str, body: Value) -> Response {
        self.client.post(format!("{}{path}", self.base())).json(&body).send().await.expect("an answer")
    }

    async fn first_administrator(&self) -> Person {
        let link = self.running.first_link().expect("nobody can log in yet");
        let secret = link.rsplit_once('#').expect("a secret").1;
        let accepted =
            json!({ "secret": secret, "name": "security", "display_name": "安全管理员", "password": PASSWORD });
        let response = self.post("/api/v1/invitations/accept", accepted).await;
        Person::welcomed(&self.client, self.base(), response).await
    }

    async fn log_in(&self, name: &str, password: &str) -> Response {
        self.post("/api/v1/session", json!({ "name": name, "password": password })).await
    }
}

async fn problem(response: Response, status: StatusCode) -> Value {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["status"], status.as_u16());
    assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("urn:tongtu:problem:")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
    problem
}

#[tokio::test]
async fn a_token_opens_the_api_until_it_is_revoked() {
    let started = started().await;
    let token = started.token();
    let refused = started.send(Method::GET, "/api/v1/agents", None).await;
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    problem(refused, StatusCode::UNAUTHORIZED).await;
    let wrong = format!("{token}x");
    problem(started.send(Method::GET, "/api/v1/agents", Some(&wrong)).await, StatusCode::UNAUTHORIZED).await;
    assert_eq!(started.send(Method::GET, "/api/v1/agents", Some(&token)).await.status(), StatusCode::OK);
    // An operator's rights are not those over tokens.
    problem(started.send(Method::GET, "/api/v1/tokens", Some(&token)).await, StatusCode::FORBIDDEN).await;

    let administrator = started.first_administrator().await;
    let listed: Value = administrator.send(Method::GET, "/api/v1/tokens", None).await.json().await.expect("JSON");
    assert_eq!(listed["items"][0]["id"], "token_1");
    assert!(!listed.to_string().contains(&token));
    let revoked = administrator.send(Method::DELETE, "/api/v1/tokens/token_1", None).await;
    assert_eq!(revoked.status(), StatusCode::NO_CONTENT);
    problem(started.send(Method::GET, "/api/v1/agents", Some(&token)).await, StatusCode::UNAUTHORIZED).await;
}

#[tokio::test]
async fn every_refusal_has_one_shape() {
    let started = started().await;
    let token = started.token();
    let send = async |method: Method, path: &str| started.send(method, path, Some(&token)).await;
    problem(send(Method::GET, "/api/v1/nothing").await, StatusCode::NOT_FOUND).await;
    let wrong_method = send(Method::DELETE, "/api/v1/agents").await;
    assert!(wrong_method.headers().contains_key("allow"));
    problem(wrong_method, StatusCode::METHOD_NOT_ALLOWED).await;
    problem(send(Method::POST, "/healthz").await, StatusCode::METHOD_NOT_ALLOWED).await;
    problem(send(Method::GET, "/api/v1/agents/7").await, StatusCode::BAD_REQUEST).await;
    problem(send(Method::GET, "/api/v1/agents/agent_7").await, StatusCode::NOT_FOUND).await;
}

/// Every operation of the document is refused to nobody, unless the document says that it is for anybody.
#[tokio::test]
async fn every_operation_asks_for_a_token() {
    let started = started().await;
    let document: Value = serde_json::from_str(openapi()).expect("JSON");
    let mut asked = 0;
    let mut ids = std::collections::BTreeSet::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            assert!(ids.insert(id.clone()), "two operations are called {id}");
            let method: Method = method.to_uppercase().parse().expect("a method");
            let url = path.replace(['{', '}'], "");
            let answer = started.send(method.clone(), &url, None).await;
            if is_open(operation) {
                assert_ne!(answer.status(), StatusCode::FORBIDDEN, "{method} {path}");
            } else {
                problem(answer, StatusCode::UNAUTHORIZED).await;
                asked += 1;
            }
        }
    }
    assert!(asked >= 3);
}

/// Operations that are for anybody: to become somebody, and the health checks.
const OPEN: [&str; 6] = ["alive", "ready", "session_begin", "first_run_fetch", "invitation_look", "invitation_accept"];

fn is_open(operation: &Value) -> bool {
    let says_so = operation["security"] == serde_json::json!([{}]);
    let id = operation["operationId"].as_str().expect("an id");
    assert_eq!(says_so, OPEN.contains(&id), "{id}");
    says_so
}

#[tokio::test]
async fn control_starts_again_on_what_it_left_on_either_database() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for test in testing::databases().await {
        let testing::TestDatabase { name, db, config, data } = test;
        db.close().await;
        drop(db);
        let mut options = options(data.path());
        options.config.database = config;
        for _ in 0..2 {
            let shutdown = Shutdown::new();
            let running =
                run(options.clone(), shutdown.clone()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            let token = fs::read_to_string(data.path().join("api-token")).expect("the token");
            let url = format!("http://{}/api/v1/agents", running.http());
            let client = Client::builder().no_proxy().build().expect("a client");
            let listed = client.get(url).bearer_auth(token.trim()).send().await.expect("an answer");
            assert_eq!(listed.status(), StatusCode::OK, "{name}");
            shutdown.trigger();
            running.finished().await.expect("a clean stop");
        }
    }
}

#[tokio::test]
async fn health_needs_no_token_and_gives_its_reasons() {
    let started = started().await;
    assert_eq!(started.send(Method::GET, "/healthz", None).await.status(), StatusCode::OK);
    let ready: Value = started.send(Method::GET, "/readyz", None).await.json().await.expect("JSON");
    assert_eq!(ready["ready"], true, "{ready}");
    assert!(ready["checks"].as_array().is_some_and(|checks| checks.iter().any(|check| check["name"] == "database")));
}

/// Who asks is anybody, and the check writes: however many ask, it writes once a second.
#[tokio::test]
async fn many_who_ask_whether_it_is_ready_make_few_writes() {
    use sea_orm::ConnectionTrait as _;
    let started = started().await;
    let checks = async || {
        let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, "SELECT checks FROM writer");
        let row = started.running.db.read().query_one_raw(statement).await.expect("a row").expect("one row");
        row.try_get_by_index::<i64>(0).expect("a number")
    };
    let before = checks().await;
    let stopwatch = crate::platform::clock::Stopwatch::start();
    let asked = (0..200).map(|_| started.send(Method::GET, "/readyz", None));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let (writes, most) = (checks().await - before, stopwatch.elapsed().as_secs() as i64 + 1);
    assert!((1..=most).contains(&writes), "{writes} writes in {most} s");
}

#[tokio::test]
async fn own_metrics_are_those_of_the_list() {
    let started = started().await;
    let listed = metrics::ALL.iter().map(|spec| spec.name).collect();
    assert_eq!(started.running.parts.registry.names(), listed, "registered, and listed in src/metrics.rs");
    for spec in metrics::ALL {
        assert!(spec.name.starts_with("tongtu_"), "{}", spec.name);
        let is_counter = spec.kind == crate::platform::metrics::Kind::Counter;
        assert_eq!(spec.name.ends_with("_total"), is_counter, "{}", spec.name);
        assert!(spec.help.ends_with('.'), "{}", spec.name);
    }
    let text = started.send(Method::GET, "/metrics", Some(&started.token())).await.text().await.expect("text");
    assert!(text.contains("tongtu_build_info{version=\""), "{text}");
    assert!(text.contains("tongtu_ready 1"), "{text}");
}

/// `UPDATE_SNAPSHOTS=1 cargo test openapi` writes the file anew.
#[tokio::test]
async fn the_openapi_document_is_what_is_served() {
    let started = started().await;
    let (_, document) = started.running.parts.whole().split_for_parts();
    let mut now = document.to_pretty_json().expect("JSON");
    now.push('\n');
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/openapi.json"), &now).expect("written");
    } else {
        assert!(now == openapi(), "src/openapi.json is not what is served; write it anew with UPDATE_SNAPSHOTS=1");
    }
}

#[tokio::test]
async fn a_second_start_says_what_is_in_its_way() {
    let started = started().await;
    let said = run(options(started.data.path()), Shutdown::new()).await.expect_err("in use").to_string();
    assert!(said.contains("in use by another tongtu") && said.contains(&std::process::id().to_string()), "{said}");

    let other = tempfile::tempdir().expect("a directory");
    let mut taken = options(other.path());
    taken.config.http.listen = started.running.http();
    let said = run(taken, Shutdown::new()).await.expect_err("taken").to_string();
    assert!(said.contains(&started.running.http().to_string()) && said.contains("taken"), "{said}");

    let file = other.path().join("file");
    fs::write(&file, "").expect("written");
    let said = run(options(&file), Shutdown::new()).await.expect_err("no directory").to_string();
    assert!(said.contains("cannot be written"), "{said}");
}

#[tokio::test]
async fn a_stop_frees_everything_for_the_next_start() {
    let started = started().await;
    assert!(started.data.path().join(ADDRESS_FILE).exists());
    let token = started.token();
    started.shutdown.trigger();
    started.running.finished().await.expect("a clean stop");
    assert!(!started.data.path().join(ADDRESS_FILE).exists());
    let again = run(options(started.data.path()), Shutdown::new()).await.expect("starts again");
    let url = format!("http://{}/api/v1/agents", again.http());
    let answer = started.client.get(url).bearer_auth(token).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
}
