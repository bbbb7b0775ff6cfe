//! Tests of access on both databases.

use super::capability::{AccessWrite, AgentsRead, AgentsWrite, MeasurementsRead};
use super::roles::{Area, Level};
use super::*;
use crate::platform::testing;
use std::sync::atomic::AtomicI64;

fn clock(ms: UnixMs) -> Clock {
    Clock::Manual(Arc::new(AtomicI64::new(ms)))
}

#[tokio::test]
async fn the_first_start_makes_one_token_that_works_and_can_be_revoked() {
    for test in testing::databases().await {
        let access = Access::open(test.db.clone(), clock(1_000)).await.expect("access opens");
        let made = access.ensure_api_token(test.data.path()).await.expect("a token");
        assert_eq!(made, ApiTokenFile::Created, "{}", test.name);
        let text = std::fs::read_to_string(test.data.path().join("api-token")).expect("the file");
        let principal = access.authenticate(text.trim()).expect("the token works");
        assert!(principal.permit::<AgentsWrite>().is_ok());
        assert!(access.authenticate("tongtu_wrong").is_none());

        let Actor::Token(id) = principal.actor() else { panic!("{principal:?}") };
        let permit = Permit::<AccessWrite>::system();
        let revoked = access.token_revoke(&permit, id).await.expect("revoked").expect("it exists");
        assert_eq!(revoked.revoked_ms, Some(1_000));
        assert!(access.authenticate(text.trim()).is_none());
        // It stays so after a restart, which makes a new one, since none is live.
        let access = Access::open(test.db.clone(), clock(2_000)).await.expect("access opens");
        assert!(access.authenticate(text.trim()).is_none());
        assert_eq!(access.ensure_api_token(test.data.path()).await.expect("seen to"), ApiTokenFile::Created);
        let new = std::fs::read_to_string(test.data.path().join("api-token")).expect("the file");
        assert_ne!(new, text);
        assert!(access.authenticate(new.trim()).is_some());
    }
}

#[tokio::test]
async fn a_crash_between_file_and_row_does_not_lock_the_operator_out() {
    let test = testing::sqlite().await;
    let access = Access::open(test.db.clone(), clock(1)).await.expect("access opens");
    access.ensure_api_token(test.data.path()).await.expect("a token");
    let text = std::fs::read_to_string(test.data.path().join("api-token")).expect("the file");
    // The same file before an empty table is what the crash leaves.
    let other = testing::sqlite().await;
    let access = Access::open(other.db.clone(), clock(1)).await.expect("access opens");
    std::fs::write(other.data.path().join("api-token"), &text).expect("written");
    assert_eq!(access.ensure_api_token(other.data.path()).await.expect("seen to"), ApiTokenFile::Created);
    assert!(access.authenticate(text.trim()).is_some());
}

#[tokio::test]
async fn a_lost_file_is_said_and_renewed_only_on_demand() {
    let test = testing::sqlite().await;
    let access = Access::open(test.db.clone(), clock(1)).await.expect("access opens");
    access.ensure_api_token(test.data.path()).await.expect("a token");
    let file = test.data.path().join("api-token");
    let old = std::fs::read_to_string(&file).expect("the file");
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(access.ensure_api_token(test.data.path()).await.expect("seen to"), ApiTokenFile::Missing);
    assert!(!file.exists());
    access.renew_api_token(test.data.path()).await.expect("renewed");
    let new = std::fs::read_to_string(&file).expect("the file");
    assert!(access.authenticate(old.trim()).is_none());
    assert!(access.authenticate(new.trim()).is_some());
    assert_eq!(access.ensure_api_token(test.data.path()).await.expect("seen to"), ApiTokenFile::Live);
}

#[tokio::test]
async fn a_thing_is_seen_for_the_time_it_was_ones_own() {
    for test in testing::databases().await {
        let access = Access::open(test.db.clone(), clock(1)).await.expect("access opens");
        let (health, school) = (OrganizationId(2), OrganizationId(3));
        let transaction = test.db.begin("test").await.expect("begun");
        store::testing_organization(&transaction, health).await.expect("inserted");
        store::testing_organization(&transaction, school).await.expect("inserted");
        let thing = Resource::Source(SourceId(7));
        let things = [(thing, health, 100), (thing, school, 200), (thing, health, 300)];
        access.own(&transaction, &things).await.expect("owned");
        transaction.commit().await.expect("committed");

        let access = Access::open(test.db.clone(), clock(1)).await.expect("access opens");
        let root = Permit::<MeasurementsRead>::system();
        let of = Permit::<MeasurementsRead>::testing;
        assert_eq!(access.periods(&root, thing), [(100, UnixMs::MAX)]);
        assert_eq!(access.periods(&of(health), thing), [(100, 200), (300, UnixMs::MAX)]);
        assert_eq!(access.periods(&of(school), thing), [(200, 300)]);
        assert!(access.periods(&of(school), Resource::Source(SourceId(8))).is_empty());
        assert!(access.is_visible(&of(health), thing) && !access.is_visible(&of(school), thing));
        assert_eq!(access.owner(thing), Some(health));
    }
}

#[tokio::test]
async fn a_reader_may_look_and_not_touch() {
    let test = testing::sqlite().await;
    let access = Access::open(test.db.clone(), clock(1)).await.expect("access opens");
    let text = testing_token(&access, Role::Reader).await;
    let reader = access.authenticate(&text).expect("the token works");
    assert!(reader.permit::<AgentsRead>().is_ok());
    let denied = Denied { area: Area::Agents, level: Level::Write };
    assert_eq!(reader.permit::<AgentsWrite>().map(|_| ()), Err(denied));
}

/// Makes every commit fail that changed a user: what it inserts points nowhere, and that is found by the commit.
const BREAK_COMMITS: [&str; 3] = [
    "CREATE TABLE somewhere (id BIGINT PRIMARY KEY)",
    "CREATE TABLE nowhere (id BIGINT REFERENCES somewhere (id) DEFERRABLE INITIALLY DEFERRED)",
    "INSERT INTO somewhere VALUES (1)",
];
const BREAK_SQLITE: [&str; 1] =
    ["CREATE TRIGGER breaks AFTER UPDATE ON user_account BEGIN INSERT INTO nowhere VALUES (2); END"];
const BREAK_POSTGRES: [&str; 2] = [
    "CREATE FUNCTION breaks_commit() RETURNS trigger AS $$ BEGIN INSERT INTO nowhere VALUES (2); RETURN NULL; END $$ LANGUAGE plpgsql",
    "CREATE TRIGGER breaks AFTER UPDATE ON user_account FOR EACH ROW EXECUTE FUNCTION breaks_commit()",
];

async fn execute(db: &Db, statements: &[&str]) {
    use sea_orm::ConnectionTrait;
    let transaction = db.begin("test").await.expect("begun");
    for statement in statements {
        transaction.execute_unprepared(statement).await.expect(statement);
    }
    transaction.commit().await.expect("committed");
}

#[tokio::test]
async fn after_a_commit_that_nobody_knows_of_memory_is_what_the_tables_say() {
    for test in testing::databases().await {
        let name = test.name;
        let permit = || Permit::<AccessWrite>::system();
        let access = Access::open(test.db.clone(), clock(1_000)).await.expect("access opens");
        let reader = testing_token(&access, Role::Reader).await;
        let wished = NewUser {
            name: "zhang".to_owned(),
            display_name: "张".to_owned(),
            roles: vec![Role::Operator],
            organization: ROOT,
        };
        let (user, _) = access.user_create(&permit(), wished).await.expect("made");
        assert!(access.authenticate(&reader).is_some());
        let known = |access: &Access| access.user(user.id).expect("there");
        // What is committed without this memory, as by a commit whose answer was lost.
        let elsewhere = Access::open(test.db.clone(), clock(1_000)).await.expect("access opens");
        let disable = UserChange { disabled: Some(true), ..UserChange::default() };
        elsewhere.user_update(&permit(), user.id, disable).await.expect("committed");
        assert_eq!(known(&access).disabled_ms, None);

        execute(&test.db, &BREAK_COMMITS).await;
        let breaks: &[&str] = if name == "sqlite" { &BREAK_SQLITE } else { &BREAK_POSTGRES };
        execute(&test.db, breaks).await;
        let rename = |name: &str| UserChange { display_name: Some(name.to_owned()), ..UserChange::default() };
        access.user_update(&permit(), user.id, rename("李")).await.expect_err("the commit fails");
        assert_eq!(known(&access).disabled_ms, Some(1_000), "{name}: read anew");
        assert_eq!(known(&access).display_name, "张", "{name}");
        let used = access.tokens(&Permit::testing(ROOT));
        assert_eq!(used[0].1, Some(1_000), "{name}: what is not in the tables yet is not forgotten");

        // While the tables cannot be read, nothing is changed on what may be wrong.
        let enable = UserChange { disabled: Some(false), ..UserChange::default() };
        execute(&test.db, &["ALTER TABLE ownership RENAME TO away"]).await;
        access.user_update(&permit(), user.id, rename("李")).await.expect_err("the commit fails");
        let (drop, create) = match name {
            "sqlite" => ("DROP TRIGGER breaks", "ALTER TABLE away RENAME TO ownership"),
            _ => ("DROP TRIGGER breaks ON user_account", "ALTER TABLE away RENAME TO ownership"),
        };
        execute(&test.db, &[drop]).await;
        elsewhere.user_update(&permit(), user.id, enable).await.expect("committed");
        access.user_update(&permit(), user.id, rename("李")).await.expect_err("memory may be behind");
        assert_eq!(known(&elsewhere).display_name, "张", "{name}");
        access.catch_up().await.expect_err("not yet");
        execute(&test.db, &[create]).await;
        access.catch_up().await.expect("read");
        assert_eq!(known(&access).disabled_ms, None, "{name}");
        let changed = access.user_update(&permit(), user.id, rename("李")).await.expect("changed").expect("there");
        assert_eq!((changed.display_name.as_str(), changed.disabled_ms), ("李", None), "{name}");
    }
}

#[tokio::test]
async fn who_moves_is_seen_whole_by_whom_it_moved_under() {
    for test in testing::databases().await {
        let access = Access::open(test.db.clone(), clock(1)).await.expect("access opens");
        let permit = || Permit::<AccessWrite>::system();
        let make = async |parent: OrganizationId, level| {
            access.organization_create(&permit(), "甲".to_owned(), level, parent).await.expect("made").id
        };
        use AdministrativeLevel::{Department, District, Unit};
        let (east, west) = (make(ROOT, District).await, make(ROOT, District).await);
        let bureau = make(east, Department).await;
        let school = make(bureau, Unit).await;
        let thing = Resource::Source(SourceId(7));
        let things = [(thing, school, 100)];
        let transaction = test.db.begin("test").await.expect("begun");
        access.own(&transaction, &things).await.expect("owned");
        transaction.commit().await.expect("committed");
        access.owned(&things);
        let seen = |access: &Access, by| access.periods(&Permit::<MeasurementsRead>::testing(by), thing);
        let all = vec![(100, UnixMs::MAX)];
        assert_eq!((seen(&access, east), seen(&access, west)), (all.clone(), vec![]));
        let to = |parent| OrganizationChange { parent: Some(parent), ..OrganizationChange::default() };
        access.organization_update(&permit(), bureau, to(west)).await.expect("moved").expect("there");
        for access in [&access, &Access::open(test.db.clone(), clock(1)).await.expect("access opens")] {
            assert_eq!((seen(access, east), seen(access, west)), (vec![], all.clone()), "{}", test.name);
        }
        let circle = access.organization_update(&permit(), west, to(school)).await;
        assert!(matches!(circle, Err(PeopleError::Form(_))), "{circle:?}");
        assert!(access.organization_update(&permit(), ROOT, to(west)).await.is_err(), "the root stays the root");
    }
}
