//! The log on both databases: what is found of what was done to its table.

use std::sync::atomic::{AtomicI64, Ordering};

use sea_orm::ConnectionTrait;

use super::*;
use crate::access::ROOT;
use crate::platform::clock::Clock;
use crate::platform::testing;

const DAY: i64 = 86_400_000;

async fn write(access: &Access, times: usize) {
    for n in 0..times {
        let transaction = access.db.begin("test").await.expect("begun");
        let change = Change {
            action: "test.change",
            resource: format!("thing_{n}"),
            before: Value::Null,
            after: serde_json::json!({ "n": n }),
        };
        let recorded =
            access.record_of(&transaction, Actor::System, Origin::default(), change).await.expect("recorded");
        transaction.commit().await.expect("committed");
        access.recorded(recorded);
    }
}

async fn found(access: &Access, data: &Path) -> Vec<(FaultKind, i64)> {
    let found = verify(access.db.read(), data).await.expect("it can be verified");
    let asked = access.audit_verification(&Permit::testing(ROOT)).await.expect("it can be verified");
    assert_eq!(found, asked, "the file's key is the one in use");
    assert_eq!(found.verified, found.faults.is_empty());
    found.faults.into_iter().map(|fault| (fault.kind, fault.number)).collect()
}

#[tokio::test]
async fn what_was_done_to_the_table_is_named_on_either_database() {
    for (statement, expected) in [
        ("", vec![]),
        ("UPDATE audit_entry SET after = '{\"n\":99}' WHERE number = 4", vec![(FaultKind::Changed, 4)]),
        ("UPDATE audit_entry SET after = NULL WHERE number = 4", vec![(FaultKind::Changed, 4)]),
        (
            "UPDATE audit_entry SET mac = (SELECT mac FROM audit_entry WHERE number = 1) WHERE number = 8",
            vec![(FaultKind::Changed, 8)],
        ),
        ("DELETE FROM audit_entry WHERE number = 4", vec![(FaultKind::Removed, 4)]),
        ("DELETE FROM audit_entry WHERE number > 6", vec![(FaultKind::Truncated, 7)]),
        (
            "UPDATE audit_entry SET number = CASE number WHEN 3 THEN -3 ELSE -4 END WHERE number IN (3, 4); \
          UPDATE audit_entry SET number = CASE number WHEN -3 THEN 4 ELSE 3 END WHERE number < 0",
            vec![(FaultKind::Reordered, 3), (FaultKind::Reordered, 4)],
        ),
        (
            "INSERT INTO audit_entry (number, at_ms, actor_kind, actor_name, action, resource, result, mac) \
          SELECT 9, at_ms, actor_kind, actor_name, action, resource, result, mac FROM audit_entry WHERE number = 8",
            vec![(FaultKind::Inserted, 9)],
        ),
    ] {
        for test in testing::databases().await {
            let access =
                Access::open(test.db.clone(), Clock::Manual(Arc::new(AtomicI64::new(1)))).await.expect("opens");
            let access = access.audited(test.data.path()).await.expect("the files");
            write(&access, 8).await;
            let transaction = test.db.begin("tamper").await.expect("begun");
            transaction.execute_unprepared(statement).await.expect("done");
            transaction.commit().await.expect("committed");
            assert_eq!(found(&access, test.data.path()).await, expected, "{}: {statement}", test.name);
        }
    }
}

#[tokio::test]
async fn a_log_goes_on_after_a_restart_and_after_retention() {
    for test in testing::databases().await {
        let now = Arc::new(AtomicI64::new(1_000 * DAY));
        let open = async || {
            let access = Access::open(test.db.clone(), Clock::Manual(now.clone())).await.expect("opens");
            access.audited(test.data.path()).await.expect("the files")
        };
        let access = open().await;
        write(&access, 3).await;
        now.fetch_add(100 * DAY, Ordering::Relaxed);
        let access = open().await;
        write(&access, 3).await;
        assert_eq!(found(&access, test.data.path()).await, [], "{}", test.name);
        now.fetch_add(100 * DAY, Ordering::Relaxed);
        access.audit_retain(|| Duration::from_secs(184 * 86_400)).await.expect("retained");
        assert_eq!(found(&access, test.data.path()).await, [], "{}", test.name);
        let permit = Permit::testing(ROOT);
        let entries = access.audit_entries(&permit, &AuditFilter::default(), None, 100).await.expect("entries");
        let numbers: Vec<_> = entries.iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, [7, 6, 5, 4], "{}: the first three are gone, that they are is written", test.name);
        assert_eq!(entries[0].action, "audit.retain");
        // Even of an empty log the numbers go on.
        now.fetch_add(1_000 * DAY, Ordering::Relaxed);
        access.audit_retain(|| Duration::from_secs(184 * 86_400)).await.expect("retained");
        let access = open().await;
        write(&access, 1).await;
        assert_eq!(found(&access, test.data.path()).await, [], "{}", test.name);
        let transaction = test.db.begin("tamper").await.expect("begun");
        transaction.execute_unprepared("UPDATE audit_anchor SET number = number + 1").await.expect("done");
        transaction.commit().await.expect("committed");
        assert_ne!(found(&access, test.data.path()).await, [], "{}: the anchor is sealed", test.name);
    }
}

#[tokio::test]
async fn a_file_of_checkpoints_that_was_taken_away_is_said_and_stays_said() {
    for test in testing::databases().await {
        let now = Arc::new(AtomicI64::new(1_000 * DAY));
        let open = async || {
            let access = Access::open(test.db.clone(), Clock::Manual(now.clone())).await.expect("opens");
            access.audited(test.data.path()).await.expect("the files")
        };
        let file = test.data.path().join("audit.checkpoint");
        let access = open().await;
        assert_eq!(found(&access, test.data.path()).await, [], "{}: an empty log", test.name);
        let access = open().await;
        write(&access, 3).await;
        assert_eq!(found(&access, test.data.path()).await, [], "{}: a first start killed is no loss", test.name);
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(found(&access, test.data.path()).await, [(FaultKind::Unproven, 4)], "{}", test.name);
        let access = open().await;
        write(&access, 2).await;
        assert_eq!(found(&access, test.data.path()).await, [(FaultKind::Unproven, 4)], "{}", test.name);
        // Also while control runs, within the hour.
        std::fs::write(&file, "").expect("emptied");
        access.audit_retain(|| Duration::from_secs(184 * 86_400)).await.expect("retained");
        write(&access, 1).await;
        let both = [(FaultKind::Unproven, 4), (FaultKind::Unproven, 7)];
        assert_eq!(found(&access, test.data.path()).await, both, "{}", test.name);
        // Also if something was written meanwhile, so that the file is not empty any more.
        std::fs::write(&file, "").expect("emptied");
        write(&access, 2).await;
        let seen = [(FaultKind::Unproven, 4), (FaultKind::Unproven, 7), (FaultKind::Unproven, 9)];
        assert_eq!(found(&access, test.data.path()).await, seen, "{}", test.name);
        access.audit_retain(|| Duration::from_secs(184 * 86_400)).await.expect("retained");
        write(&access, 1).await;
        access.audit_retain(|| Duration::from_secs(184 * 86_400)).await.expect("it is said once");
        let said = [(FaultKind::Unproven, 4), (FaultKind::Unproven, 7), (FaultKind::Unproven, 11)];
        assert_eq!(found(&access, test.data.path()).await, said, "{}", test.name);
        // Until retention takes it away, as everything.
        now.fetch_add(200 * DAY, Ordering::Relaxed);
        access.audit_retain(|| Duration::from_secs(184 * 86_400)).await.expect("retained");
        assert_eq!(found(&access, test.data.path()).await, [], "{}", test.name);
    }
}

#[tokio::test]
async fn a_note_that_was_cut_short_accuses_nobody() {
    let test = testing::sqlite().await;
    let now = Arc::new(AtomicI64::new(1_000 * DAY));
    let open = async || {
        let access = Access::open(test.db.clone(), Clock::Manual(now.clone())).await.expect("opens");
        access.audited(test.data.path()).await.expect("the files")
    };
    let file = test.data.path().join("audit.checkpoint");
    // Of the last line only the first digit was written.
    let tear = || {
        let text = std::fs::read_to_string(&file).expect("notes");
        let last = text.trim_end().rfind('\n').expect("lines") + 1;
        std::fs::OpenOptions::new().write(true).open(&file).expect("opened").set_len(last as u64 + 1).expect("cut");
    };
    let access = open().await;
    write(&access, 12).await;
    tear();
    write(&access, 1).await;
    assert_eq!(found(&access, test.data.path()).await, [], "by a write that failed");
    tear();
    let access = open().await;
    write(&access, 1).await;
    assert_eq!(found(&access, test.data.path()).await, [], "by a crash");
    let text = std::fs::read_to_string(&file).expect("notes");
    assert_eq!(text.lines().filter(|line| *line == "1").count(), 2, "{text}");
    // Nor one that is missing where retention cuts.
    tear();
    now.fetch_add(100 * DAY, Ordering::Relaxed);
    write(&access, 1).await;
    now.fetch_add(100 * DAY, Ordering::Relaxed);
    access.audit_retain(|| Duration::from_secs(150 * 86_400)).await.expect("retained");
    assert_eq!(found(&access, test.data.path()).await, []);
    let text = std::fs::read_to_string(&file).expect("notes");
    assert!(text.starts_with("14 ") && text.lines().count() == 3, "{text}");
    std::fs::write(&file, "").expect("emptied");
    write(&access, 1).await;
    assert_eq!(found(&access, test.data.path()).await, [(FaultKind::Unproven, 17)]);
}

#[tokio::test]
async fn a_log_is_verified_as_it_is_at_one_moment() {
    for test in testing::databases().await {
        let now = Arc::new(AtomicI64::new(1_000 * DAY));
        let access = Access::open(test.db.clone(), Clock::Manual(now.clone())).await.expect("opens");
        let access = access.audited(test.data.path()).await.expect("the files");
        write(&access, 5).await;
        let read = store::audit::snapshot(test.db.read()).await.expect("a snapshot");
        assert_eq!(store::audit::anchor(&read).await.expect("read"), None);
        now.fetch_add(200 * DAY, Ordering::Relaxed);
        access.audit_retain(|| Duration::from_secs(184 * 86_400)).await.expect("retained");
        let rows = store::audit::portion(&read, 0, PORTION).await.expect("read");
        assert_eq!(rows.len(), 5, "{}: what the anchor then was belongs to", test.name);
        read.rollback().await.expect("ended");
        assert_eq!(found(&access, test.data.path()).await, [], "{}", test.name);
    }
}

#[tokio::test]
async fn refused_attempts_are_counted_and_bounded() {
    let test = testing::sqlite().await;
    let access = Access::open(test.db.clone(), Clock::Manual(Arc::new(AtomicI64::new(1)))).await.expect("opens");
    let refused = (AuditResult::Refused, "forbidden");
    for n in 0..5_000 {
        access.refused(None, Origin::default(), "GET /api/v1/x", "", refused);
        access.refused(None, Origin::default(), &format!("GET /{n}"), "a\nb", refused);
    }
    access.refusals_settle(true).await.expect("written");
    let filter = AuditFilter { result: Some(AuditResult::Refused), ..AuditFilter::default() };
    let permit = Permit::testing(ROOT);
    let entries = access.audit_entries(&permit, &filter, None, 10_000).await.expect("entries");
    assert_eq!(entries.len(), super::refusals::WAITING + 1);
    let times = |entry: &AuditEntry| {
        let after = entry.after.as_deref().map_or(Value::Null, |after| serde_json::from_str(after).expect("JSON"));
        after["times"].as_u64().unwrap_or(1)
    };
    assert_eq!(entries.iter().map(times).sum::<u64>(), 10_000, "every one counts");
    let filter = AuditFilter { action: Some("GET /api/v1/x".to_owned()), ..AuditFilter::default() };
    let entries = access.audit_entries(&permit, &filter, None, 10).await.expect("entries");
    assert_eq!(entries.iter().map(times).collect::<Vec<_>>(), [5_000]);
}

#[tokio::test]
async fn an_action_is_asked_for_by_its_name_or_by_a_beginning_that_ends_with_a_dot() {
    for test in testing::databases().await {
        let access = Access::open(test.db.clone(), Clock::Manual(Arc::new(AtomicI64::new(1)))).await.expect("opens");
        let refused = (AuditResult::Refused, "forbidden");
        for action in ["user.update", "user.update.roles", "user_group.update", "agent.enrol", "agent.enrol_again"] {
            access.refused(None, Origin::default(), action, "", refused);
        }
        access.refusals_settle(true).await.expect("written");
        let found = async |action: &str| {
            let filter = AuditFilter { action: Some(action.to_owned()), ..AuditFilter::default() };
            let entries = access.audit_entries(&Permit::testing(ROOT), &filter, None, 10).await.expect("entries");
            let mut actions: Vec<_> = entries.into_iter().map(|entry| entry.action).collect();
            actions.sort_unstable();
            actions
        };
        for (asked, expected) in [
            ("user.update", &["user.update"][..]),
            ("agent.enrol", &["agent.enrol"]),
            ("user.", &["user.update", "user.update.roles"]),
            ("user.update.", &["user.update.roles"]),
            // Text, not a pattern.
            ("%.", &[]),
            ("user_update.", &[]),
            ("user", &[]),
        ] {
            assert_eq!(found(asked).await, expected, "{asked} of {}", test.name);
        }
    }
}

#[tokio::test]
async fn a_key_that_is_lost_is_said_and_what_was_before_is_not_proven() {
    for test in testing::databases().await {
        let data = test.data.path();
        let open = async || {
            let access =
                Access::open(test.db.clone(), Clock::Manual(Arc::new(AtomicI64::new(1)))).await.expect("opens");
            access.audited(data).await.expect("the files")
        };
        write(&open().await, 5).await;
        std::fs::remove_file(data.join("audit.key")).expect("removed");
        let access = open().await;
        write(&access, 3).await;
        let entries = access.audit_entries(&Permit::testing(ROOT), &AuditFilter::default(), None, 10).await;
        let entries = entries.expect("read");
        let said = entries.iter().find(|entry| entry.action == KEY_LOST).expect("an entry");
        assert_eq!((said.number, said.after.as_deref()), (6, Some("{\"last\":5}")), "{}", test.name);
        assert_eq!(found(&access, data).await, [(FaultKind::Unproven, 6)], "{}", test.name);
        assert_eq!(found(&open().await, data).await, [(FaultKind::Unproven, 6)], "said once: {}", test.name);

        // What comes after it is proven; of what was before, what was noted.
        for (statement, expected) in [
            ("UPDATE audit_entry SET after = NULL WHERE number = 8", (FaultKind::Changed, 8)),
            (
                "UPDATE audit_entry SET mac = (SELECT mac FROM audit_entry WHERE number = 1) WHERE number = 3",
                (FaultKind::Recomputed, 3),
            ),
            ("DELETE FROM audit_entry WHERE number = 2", (FaultKind::Removed, 2)),
        ] {
            let tamper = test.db.begin("tamper").await.expect("begun");
            tamper.execute_unprepared(statement).await.expect("done");
            tamper.commit().await.expect("committed");
            let found = found(&access, data).await;
            assert!(found.contains(&expected) && found.contains(&(FaultKind::Unproven, 6)), "{found:?}: {statement}");
        }
    }
}
