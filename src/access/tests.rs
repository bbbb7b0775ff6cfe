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
