//! The agents' API over HTTP, with an operator's token.

use super::*;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

pub(super) async fn ask(control: &Control, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let data = control.database.data.path();
    control.fleet.access.ensure_api_token(data).await.expect("a token");
    let token = std::fs::read_to_string(data.join("api-token")).expect("the file");
    let principal = control.fleet.access.authenticate(token.trim()).expect("the token works");
    let router: axum::Router = api::router(control.fleet.clone()).into();
    let mut request = Request::builder().method(method).uri(path).extension(principal);
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let response = router.oneshot(request.body(body).expect("a request")).await.expect("infallible");
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_token_is_made_shown_once_listed_and_revoked() {
    let control = Control::start().await;
    let (status, made) =
        ask(&control, "POST", "/api/v1/agents/tokens", Some(json!({"ttl_seconds": 60, "uses": 3}))).await;
    assert_eq!(status, StatusCode::CREATED);
    let text = made["token"].as_str().expect("its text");
    let mut machine = Machine::new(&control);
    machine.enroll(&text.parse().expect("a token")).await.expect("it enrols");
    assert_eq!(made["expires_ms"], NOW + 60_000);

    let (_, listed) = ask(&control, "GET", "/api/v1/agents/tokens", None).await;
    assert_eq!(listed["items"][0]["uses_left"], 2);
    assert!(!listed.to_string().contains(text), "its text is not shown again");
    let path = format!("/api/v1/agents/tokens/{}", made["id"].as_str().expect("an id"));
    assert_eq!(ask(&control, "DELETE", &path, None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(ask(&control, "DELETE", "/api/v1/agents/tokens/enrolment_99", None).await.0, StatusCode::NOT_FOUND);
    let (_, listed) = ask(&control, "GET", "/api/v1/agents/tokens", None).await;
    assert_eq!(listed["items"][0]["revoked_ms"], NOW);
}

#[tokio::test]
async fn tokens_out_of_range_are_problems() {
    let control = Control::start().await;
    for (body, expected) in [
        (json!({}), StatusCode::CREATED),
        (json!({"ttl_seconds": 0}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"ttl_seconds": u64::MAX}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"uses": 0}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"organization": "org_9"}), StatusCode::NOT_FOUND),
        (json!({"time_to_live": 1}), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let (status, _) = ask(&control, "POST", "/api/v1/agents/tokens", Some(body.clone())).await;
        assert_eq!(status, expected, "{body}");
    }
}

#[tokio::test]
async fn agents_are_listed_in_pages_fetched_and_revoked() {
    let control = Control::start().await;
    for _ in 0..3 {
        control.machine().await;
    }
    *control.sink.delivery.lock().expect("no panic") = Delivery {
        records_accepted: 7,
        records_refused: 2,
        records_lost: 1,
        frames_delivered: 3,
        frames_expected: 4,
        last_instant_ms: Some(NOW),
        last_arrival_ms: Some(NOW - 10_000),
    };
    let (status, page) = ask(&control, "GET", "/api/v1/agents?limit=2", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(page["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(page["next"], "agent_2");
    let (_, last) = ask(&control, "GET", "/api/v1/agents?limit=2&after=agent_2", None).await;
    assert_eq!((&last["items"][0]["id"], &last["next"]), (&json!("agent_3"), &Value::Null));

    let (_, agent) = ask(&control, "GET", "/api/v1/agents/agent_1", None).await;
    for (field, expected) in [
        ("kind", json!("host")),
        ("hostname", json!("host-1")),
        ("organization", json!("org_1")),
        ("state", json!("up")),
        ("connected", json!(false)),
        ("last_report_ms", json!(NOW - 10_000)),
        ("completeness", json!(0.75)),
        ("records_accepted", json!(7)),
        ("records_refused", json!(2)),
        ("records_lost", json!(1)),
        ("revoked_ms", Value::Null),
    ] {
        assert_eq!(agent[field], expected, "{field}");
    }
    let (status, revoked) = ask(&control, "POST", "/api/v1/agents/agent_1/revoke", None).await;
    assert_eq!((status, &revoked["state"]), (StatusCode::OK, &json!("revoked")));
    assert_eq!(ask(&control, "POST", "/api/v1/agents/agent_9/revoke", None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&control, "GET", "/api/v1/agents/agent_9", None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&control, "GET", "/api/v1/agents/nine", None).await.0, StatusCode::BAD_REQUEST);
}
