//! What agents are told, changed over the API while they are connected.

use super::http::ask;
use super::*;
use axum::http::StatusCode;
use serde_json::{Value, json};
use v1::to_agent::Message as Heard;

const PATH: &str = "/api/v1/agents/configuration";

#[tokio::test]
async fn a_change_reaches_open_streams_new_ones_and_the_next_start_on_either_database() {
    for database in testing::databases().await {
        let control = Control::start_on(database, timing()).await;
        let machine = control.machine().await;
        let (mut stream, _) = machine.session().await.expect("welcomed");
        let (status, built) = ask(&control, "GET", PATH, None).await;
        let expected = json!({ "version": 1, "changed_ms": null, "interval_ms": null, "collectors": [] });
        assert_eq!((status, built), (StatusCode::OK, expected));

        let wanted = json!({
            "version": 1, "interval_ms": 5_000,
            "collectors": [{ "name": "thermal", "enabled": false }, { "name": "disk", "enabled": true, "interval_ms": 60_000 }],
        });
        let (status, set) = ask(&control, "PUT", PATH, Some(wanted)).await;
        assert_eq!((status, &set["version"], &set["changed_ms"]), (StatusCode::OK, &json!(2), &json!(NOW)));
        let Heard::Configuration(told) = stream.hear_beside_pings().await.expect("told") else { panic!("told") };
        assert_eq!((told.version, told.interval_ms), (2, 5_000));
        let collectors: Vec<_> =
            told.collectors.iter().map(|each| (each.name.as_str(), each.enabled, each.interval_ms)).collect();
        assert_eq!(collectors, [("thermal", false, 0), ("disk", true, 60_000)]);
        assert!(told.ca_bundle_pem.contains("BEGIN CERTIFICATE"));

        // What was read can be sent as it is, and is no change.
        assert_eq!(ask(&control, "GET", PATH, None).await.1, set);
        assert_eq!(ask(&control, "PUT", PATH, Some(set.clone())).await, (StatusCode::OK, set.clone()));
        // Made from what another changed meanwhile: refused, and nothing is lost.
        let late = json!({ "version": 1, "interval_ms": 30_000 });
        let (status, problem) = ask(&control, "PUT", PATH, Some(late)).await;
        assert_eq!(status, StatusCode::CONFLICT, "{problem}");
        assert_eq!(ask(&control, "GET", PATH, None).await.1, set);

        drop(stream);
        let control = Control::start_on(control.stop().await, timing()).await;
        assert_eq!(ask(&control, "GET", PATH, None).await.1, set);
        let machine = Machine { address: control.address, ..machine };
        let (_stream, welcome) = machine.session().await.expect("welcomed");
        assert_eq!(welcome.configuration.map(|told| (told.version, told.interval_ms)), Some((2, 5_000)));
    }
}

#[tokio::test]
async fn an_interval_that_an_older_control_took_is_told_as_agents_take_it() {
    for database in testing::databases().await {
        let collector = |name: &str, ms| Collector { name: name.to_owned(), enabled: true, interval_ms: Some(ms) };
        let collectors = vec![collector("thermal", 86_400_000), collector("disk", 60_000)];
        let stored = Desired { version: 5, collectors, ..Desired::default() };
        let transaction = database.db.begin("older_control").await.expect("begun");
        store::configuration_insert(&transaction, &stored).await.expect("stored");
        transaction.commit().await.expect("committed");
        let control = Control::start_on(database, timing()).await;
        let (_stream, welcome) = control.machine().await.session().await.expect("welcomed");
        let told = welcome.configuration.expect("a configuration");
        let intervals: Vec<_> = told.collectors.iter().map(|each| (each.name.as_str(), each.interval_ms)).collect();
        assert_eq!((told.version, intervals), (5, vec![("thermal", 3_600_000), ("disk", 60_000)]));
        // What is shown can be sent back.
        let (_, shown) = ask(&control, "GET", PATH, None).await;
        assert_eq!(ask(&control, "PUT", PATH, Some(shown.clone())).await, (StatusCode::OK, shown));
    }
}

#[tokio::test]
async fn of_two_changes_at_once_one_is_taken() {
    for database in testing::databases().await {
        let control = Control::start_on(database, timing()).await;
        let change = |interval_ms: u32| {
            let wanted = Desired { interval_ms: Some(interval_ms), ..Desired::default() };
            let fleet = control.fleet.clone();
            async move { fleet.configuration_set(&Permit::testing(ROOT), wanted).await }
        };
        let (first, second) = tokio::join!(change(5_000), change(6_000));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        assert_eq!(control.fleet.configuration(&Permit::testing(ROOT)).version, 2);
    }
}

#[tokio::test]
async fn what_may_not_be_said_is_a_problem_that_names_it() {
    let control = Control::start().await;
    for (wanted, part) in [
        (json!({ "version": 1, "interval_ms": 0 }), "\"interval_ms\" \"0 is not 1000 to 3600000\""),
        (json!({ "version": 1, "interval_ms": -1 }), "interval_ms"),
        (json!({ "version": 1, "interval": "15s" }), "unknown field `interval`"),
        (json!({ "interval_ms": 5_000 }), "missing field `version`"),
        (json!({ "version": 1, "collectors": [{ "name": "cpu" }] }), "missing field `enabled`"),
        (json!({ "version": 1, "collectors": [{ "name": "a b", "enabled": true }] }), "collectors[0].name"),
        (json!({ "version": 1, "collectors": [{ "name": "cpu", "enabled": true, "command": "ls" }] }), "`command`"),
    ] {
        let (status, problem) = ask(&control, "PUT", PATH, Some(wanted)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        let said =
            format!("{} {} {}", problem["detail"], problem["errors"][0]["field"], problem["errors"][0]["message"]);
        assert!(said.contains(part), "{part}: {problem}");
    }
    let of_a_department = Permit::testing(crate::platform::ids::OrganizationId(2));
    let refused = control.fleet.configuration_set(&of_a_department, Desired::default()).await;
    assert!(matches!(refused, Err(ConfigurationError::NotRoot)), "{refused:?}");
    assert_eq!(ask(&control, "GET", PATH, None).await.1["version"], Value::from(1));
}

#[tokio::test]
async fn an_interval_that_changes_while_a_stream_lasts_is_the_agents() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let (stream, _) = machine.session().await.expect("welcomed");
    let source = |kind: &str, interval_ms| v1::Source {
        kind: kind.to_owned(),
        key: machine.machine_id.clone(),
        interval_ms,
        number: interval_ms,
        schema_id: vec![0; 16].into(),
    };
    let sources = vec![source("host", 600_000), source("probe", 1_000)];
    stream.say(v1::to_control::Message::Define(v1::Define { sources, ..Default::default() }));
    until("its own interval is known", || control.report(machine.id).interval_ms == 600_000).await;
}
