//! What the overview tells of starts of hosts.

use super::*;

#[tokio::test]
async fn a_start_is_told_on_controls_clock_to_those_whose_the_host_was_then() {
    let test = testing::sqlite().await;
    Access::open(test.db.clone(), Clock::Manual(Arc::default())).await.expect("access opens");
    let transaction = test.db.begin("test").await.expect("begun");
    for organization in ["(2, 1, 'health', 0)", "(3, 1, 'school', 0)"] {
        let insert = format!("INSERT INTO organization (id, parent_id, name, created_ms) VALUES {organization}");
        sea_orm::ConnectionTrait::execute_unprepared(&transaction, &insert).await.expect("inserted");
    }
    transaction.commit().await.expect("committed");
    let control = Control::start(&test).await;
    let started = |organization| {
        let permit = Permit::<MeasurementsRead>::testing(OrganizationId(organization));
        let overview: Value = serde_json::from_str(&control.compute.overview(&permit, None)).expect("JSON");
        let events = overview["events"].as_array().expect("events");
        events.iter().map(|event| (event["host"].clone(), event["at_ms"].as_i64())).collect::<Vec<_>>()
    };
    let mut before = Stream::open(&control, 5, 2, "machine-a");
    before.frame(NOON, 5, FIRST).await;
    control.compute.reconcile().await.expect("reconciled");
    assert_eq!(started(1), vec![], "it was nobody's then");

    // It is started anew; its own clock is a day behind.
    control.now.store(NOON + 60_000, Ordering::Relaxed);
    let mut again = Stream::open_boot(&control, 5, 2, "machine-a", ("another boot", NOON + 30_000));
    again.sequence = before.sequence;
    again.frame(NOON + 60_000, 5, FIRST).await;
    let start = vec![(Value::from("host_1"), Some(NOON + 30_000))];
    assert_eq!(started(1), start);
    control.now.store(NOON + 600_000, Ordering::Relaxed);
    assert_eq!(control.json("/api/v1/hosts").await["items"][0]["state"], "stale");
    assert_eq!((started(2), started(3)), (start.clone(), vec![]), "it stopped reporting since");

    for resource in [Resource::Host(HostId(1)), Resource::Source(SourceId(1))] {
        control.compute.0.access.owned(&[(resource, OrganizationId(3), NOON + 500_000)]);
    }
    assert_eq!((started(1), started(2), started(3)), (start, vec![], vec![]));
    drop((before, again));
    control.stop().await;
}
