//! What is told of changes, over the router as a dashboard hears it.

use futures_util::StreamExt;

use super::*;
use crate::access::{Actor, NewToken, Role};

/// An open stream of events.
struct Events(axum::body::BodyDataStream);

impl Events {
    async fn open(control: &Control, topics: &str) -> Self {
        let mut request = Request::get(format!("/api/v1/live?topics={topics}")).body(Body::empty()).expect("a request");
        request.extensions_mut().insert(control.principal);
        let response = control.router.clone().oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(response.into_body().into_data_stream())
    }

    /// What comes next; `None`: it is over.
    async fn next(&mut self) -> Option<String> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.0.next()).await.expect("in time");
        next.map(|bytes| String::from_utf8(bytes.expect("bytes").to_vec()).expect("text"))
    }
}

fn data(event: &str, name: &str) -> Value {
    let rest = event.strip_prefix(&format!("event: {name}\ndata: ")).unwrap_or_else(|| panic!("{name}: {event}"));
    serde_json::from_str(rest.strip_suffix("\n\n").expect("a whole event")).expect("JSON")
}

#[tokio::test]
async fn everybody_hears_what_changed_and_nothing_else() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut first = Stream::open(&control, 1, 1, "machine-a");
    first.frame(NOON - 15_000, 1, FIRST).await;
    let mut second = Stream::open(&control, 2, 1, "machine-b");
    second.frame(NOON, 2, FIRST).await;
    control.compute.reconcile().await.expect("reconciled");
    let (mut all, mut hosts) = (Events::open(&control, "overview,hosts").await, Events::open(&control, "hosts").await);
    let overview = data(&all.next().await.expect("at once"), "overview");
    assert_eq!(overview["hosts"], serde_json::json!({"total": 2, "up": 2, "stale": 0, "never_seen": 0}));
    assert_eq!(hosts.next().await.as_deref(), Some(": listening\n\n"));

    // Before the first tick: who asked for the list by now is told all the same.
    first.frame(NOON, 1, SECOND).await;
    control.compute.tick();
    let told = data(&hosts.next().await.expect("a change"), "hosts");
    assert_eq!(told["total"], 2);
    assert_eq!(told["columns"].as_array().map(Vec::len), told["rows"][0].as_array().map(Vec::len));
    assert_eq!(told["rows"], serde_json::json!([["host_1", "up", NOON, 40, null, null, 10, 20, null]]));
    let both = all.next().await.expect("a change");
    let (overview, change) = both.split_at(both.find("event: hosts").expect("a change"));
    data(overview, "overview");
    assert_eq!(data(change, "hosts"), told, "the same for everybody");

    // Nothing changed, then both hosts stopped.
    control.compute.tick();
    control.now.store(NOON + 60_000, Ordering::Relaxed);
    control.compute.tick();
    let told = data(&hosts.next().await.expect("a change"), "hosts");
    let states: Vec<_> = told["rows"].as_array().expect("rows").iter().map(|row| (&row[0], &row[1], &row[3])).collect();
    let stale = Value::from("stale");
    assert_eq!(states, [(&"host_1".into(), &stale, &Value::Null), (&"host_2".into(), &stale, &Value::Null)]);
    let overview = control.json("/api/v1/overview").await;
    assert_eq!((&overview["hosts"]["stale"], &overview["totals"]["cpu_count"]["hosts"]), (&2.into(), &0.into()));
    assert_eq!(overview["agents"]["total"], 0, "this fleet enrolled none");
    control.stop().await;
}

#[tokio::test]
async fn a_department_hears_of_its_own_hosts_alone() {
    let test = testing::sqlite().await;
    super::vm::organizations(&test).await;
    let mut control = Control::start(&test).await;
    let mut own = Stream::open(&control, 5, 2, "machine-a");
    own.frame(NOON - 15_000, 5, FIRST).await;
    let mut other = Stream::open(&control, 6, 3, "machine-b");
    other.frame(NOON - 15_000, 6, FIRST).await;
    control.compute.reconcile().await.expect("reconciled");
    control.principal = control.token_of(OrganizationId(2)).await;
    let mut events = Events::open(&control, "overview,hosts").await;
    let overview = data(&events.next().await.expect("at once"), "overview");
    assert_eq!(overview["hosts"]["total"], 1, "{overview}");
    own.frame(NOON, 5, SECOND).await;
    other.frame(NOON, 6, SECOND).await;
    control.compute.tick();
    let both = events.next().await.expect("a change");
    let (overview, change) = both.split_at(both.find("event: hosts").expect("a change"));
    assert_eq!(data(overview, "overview")["hosts"]["total"], 1, "{overview}");
    let change = data(change, "hosts");
    let ids: Vec<_> = change["rows"].as_array().expect("rows").iter().map(|row| &row[0]).collect();
    assert_eq!((&change["total"], ids), (&1.into(), vec![&Value::from("host_1")]));
    drop((own, other));
    control.stop().await;
}

#[tokio::test]
async fn a_stream_with_nothing_to_tell_gives_signs_of_life() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut events = Events::open(&control, "hosts").await;
    events.next().await;
    for _ in 0..7 {
        control.compute.tick();
    }
    assert_eq!(events.next().await.as_deref(), Some("event: alive\ndata: {}\n\n"));
    control.stop().await;
}

#[tokio::test]
async fn a_slow_reader_is_told_that_it_missed_something() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut stream = Stream::open(&control, 1, 1, "machine-a");
    stream.frame(NOON, 1, FIRST).await;
    control.compute.reconcile().await.expect("reconciled");
    let mut slow = Events::open(&control, "hosts").await;
    slow.next().await;
    for _ in 0..20 {
        control.compute.tick();
    }
    assert_eq!(slow.next().await.as_deref(), Some("event: reset\ndata: {}\n\n"));
    control.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_token_and_with_control() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let told = |path: &'static str| control.get(path);
    for nonsense in ["/api/v1/live", "/api/v1/live?topics=", "/api/v1/live?topics=hosts,weather"] {
        let (status, body) = told(nonsense).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{nonsense}");
        assert!(body.contains("topics"), "{body}");
    }
    let stopping = Shutdown::new();
    let telling = tokio::spawn(control.compute.clone().keep_live(stopping.clone()));
    let mut events = Events::open(&control, "agents").await;
    events.next().await;
    stopping.trigger();
    telling.await.expect("it ends");
    assert_eq!(events.next().await, None, "control stops");
    assert_eq!(told("/api/v1/live?topics=hosts").await.0, StatusCode::SERVICE_UNAVAILABLE);
    control.stop().await;

    let control = Control::start(&test).await;
    let mut events = Events::open(&control, "hosts").await;
    events.next().await;
    let access = &control.compute.0.access;
    let Actor::Token(token) = control.principal.actor() else { panic!("a token") };
    access.token_revoke(&Permit::system(), token).await.expect("revoked");
    control.compute.tick();
    assert_eq!(events.next().await, None, "the token is revoked");
    control.stop().await;
}

#[tokio::test]
async fn one_who_listens_does_not_take_every_place() {
    let test = testing::sqlite().await;
    let mut control = Control::start(&test).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(Events::open(&control, "hosts").await);
    }
    let (status, problem) = control.get("/api/v1/live?topics=hosts").await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert!(problem.contains("urn:tongtu:problem:too-many"), "{problem}");

    let access = &control.compute.0.access;
    let wished = NewToken { name: "wall".to_owned(), role: Role::Reader, organization: None, expires_ms: None };
    let (_, secret) = access.token_create(&Permit::system(), wished).await.expect("a token");
    let other = access.authenticate(&secret).expect("a live token");
    let first = std::mem::replace(&mut control.principal, other);
    Events::open(&control, "hosts").await;

    control.principal = first;
    open.pop();
    Events::open(&control, "hosts").await;
    control.stop().await;
}
