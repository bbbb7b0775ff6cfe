//! Boards that are kept: what may be old, and what may not.

use super::*;

/// Of each listed host: its state and CPU usage, rounded.
async fn listed(control: &Control) -> Vec<(String, Option<i64>)> {
    let listed = control.json("/api/v1/hosts").await;
    let host = |host: &Value| {
        let usage = host["cpu_usage_percent"].as_f64().map(|usage| usage.round() as i64);
        (host["state"].as_str().expect("a state").to_owned(), usage)
    };
    listed["items"].as_array().expect("hosts").iter().map(host).collect()
}

#[tokio::test]
async fn a_figure_is_a_second_old_at_most_and_a_state_is_never() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut first = Stream::open(&control, 1, 1, "machine-a");
    let mut second = Stream::open(&control, 2, 1, "machine-b");
    for (stream, epoch) in [(&mut first, 1), (&mut second, 2)] {
        stream.frame(NOON - 15_000, epoch, FIRST).await;
        stream.frame(NOON, epoch, SECOND).await;
    }
    control.compute.reconcile().await.expect("reconciled");
    assert!(!control.compute.keep_all().await, "nobody looks at a board");
    let up = |usage| ("up".to_owned(), usage);
    let stale = ("stale".to_owned(), None);
    assert_eq!(listed(&control).await, [up(Some(40)), up(Some(40))]);

    // Between two passes figures stay, for a second at most.
    assert!(control.compute.keep_all().await);
    let after = |busy, idle| [SECOND[0] + busy, SECOND[1] + idle, SECOND[2], SECOND[3], SECOND[4], SECOND[5]];
    first.frame(NOON + 1, 1, after(100, 0)).await;
    control.now.store(NOON + 1_000, Ordering::Relaxed);
    assert_eq!(listed(&control).await, [up(Some(40)), up(Some(40))]);
    control.now.store(NOON + 1_001, Ordering::Relaxed);
    assert_eq!(listed(&control).await[0], up(Some(100)), "the pass is too old");
    first.frame(NOON + 15_000, 1, after(350, 750)).await;
    assert_eq!(listed(&control).await[0], up(Some(25)), "no pass, no old figures");
    control.compute.keep_all().await;

    // A host that stops, and one that comes back, are seen at once.
    control.now.store(NOON + 42_500, Ordering::Relaxed);
    control.compute.keep_all().await;
    assert_eq!(listed(&control).await[1], up(Some(40)));
    control.now.store(NOON + 42_501, Ordering::Relaxed);
    assert_eq!(listed(&control).await[1], stale);
    second.frame(NOON + 42_501, 2, SECOND).await;
    assert_eq!(listed(&control).await[1], up(None), "no rate over a gap");

    // Nobody asked for a minute.
    control.now.store(NOON + 102_501, Ordering::Relaxed);
    assert!(!control.compute.keep_all().await);
    assert_eq!(listed(&control).await, [stale.clone(), stale]);
    control.stop().await;
}

/// What a list is made of changes with owners; a frame makes nothing anybody's.
#[tokio::test]
async fn frames_leave_what_is_known_of_owners() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let mut stream = Stream::open(&control, 1, 1, "machine-a");
    let before = control.compute.0.access.revision();
    stream.frame(NOON - 15_000, 1, FIRST).await;
    let known = control.compute.0.access.revision();
    assert_ne!(known, before, "its source is new");
    stream.frame(NOON, 1, SECOND).await;
    stream.facts(NOON, 1, &[("hostname", "web-1")]).await;
    assert_eq!(control.compute.0.access.revision(), known);
    control.stop().await;
}

#[tokio::test]
async fn what_is_not_theirs_any_more_is_gone_from_a_kept_board_at_once() {
    let test = testing::sqlite().await;
    Access::open(test.db.clone(), Clock::Manual(Arc::default())).await.expect("access opens");
    let transaction = test.db.begin("test").await.expect("begun");
    for organization in ["(2, 1, 'health', 0)", "(3, 1, 'school', 0)"] {
        let insert = format!("INSERT INTO organization (id, parent_id, name, created_ms) VALUES {organization}");
        sea_orm::ConnectionTrait::execute_unprepared(&transaction, &insert).await.expect("inserted");
    }
    transaction.commit().await.expect("committed");
    let control = Control::start(&test).await;
    let mut stream = Stream::open(&control, 5, 2, "machine-a");
    stream.frame(NOON, 5, FIRST).await;
    control.compute.reconcile().await.expect("reconciled");
    let seen = |organization| {
        let permit = Permit::<MeasurementsRead>::testing(OrganizationId(organization));
        let page = control
            .compute
            .host_page(&permit, &Wanted { cut: list::Cut { limit: 10, ..Default::default() }, ..Default::default() })
            .expect("a page");
        let page: Value = serde_json::from_slice(&page).expect("JSON");
        page["items"].as_array().expect("hosts").iter().map(|host| host["organization"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((seen(1), seen(2), seen(3)), (vec!["org_2".into()], vec!["org_2".into()], vec![]));
    control.compute.keep_all().await;
    for resource in [Resource::Host(HostId(1)), Resource::Source(SourceId(1))] {
        control.compute.0.access.owned(&[(resource, OrganizationId(3), NOON)]);
    }
    assert_eq!((seen(1), seen(2), seen(3)), (vec!["org_3".into()], vec![], vec!["org_3".into()]));
    control.stop().await;
}
