//! Roll-outs as they are ordered, remembered and shown, on either database. What a machine does is tested with a real
//! SSH server (`tests/integration/rollout.rs`).

use std::net::{Ipv4Addr, TcpListener};

use super::*;
use crate::access::{Access, ROOT};
use crate::platform::clock::Clock;
use crate::platform::metrics::Registry;
use crate::platform::testing::{self, TestDatabase};
use sea_orm::{ConnectionTrait, Statement};

const DEPARTMENT: OrganizationId = OrganizationId(2);

async fn rollouts(database: &TestDatabase) -> Rollouts {
    let db = database.db.clone();
    let access = Access::open(db.clone(), Clock::System).await.expect("access");
    let data = database.data.path();
    let fleet = Fleet::open(db, access, Clock::System, data, "control:6481".to_owned(), &Registry::new()).await;
    let agents = data.join("no-agents");
    Rollouts::open(fleet.expect("a fleet"), agents, (4, 2)).await.expect("roll-outs")
}

/// With one organisation below the root.
async fn with_department(database: &TestDatabase) {
    let _ = rollouts(database).await;
    let transaction = database.db.begin("test").await.expect("begun");
    let department =
        "INSERT INTO organization (id, parent_id, name, level, created_ms) VALUES (2, 1, 'd', 'department', 0)";
    transaction.execute_unprepared(department).await.expect("inserted");
    transaction.commit().await.expect("committed");
}

fn order(ports: &[u16]) -> Order {
    let machines: Vec<Value> = ports.iter().map(|port| json!({ "address": "127.0.0.1", "port": port })).collect();
    let order = json!({ "action": "uninstall", "machines": machines, "credential": { "password": "opensesame" } });
    serde_json::from_value(order).expect("an order")
}

/// A port that takes connections and says nothing, and one that takes none.
fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

fn closed() -> u16 {
    silent().1
}

fn writing(organization: OrganizationId) -> Permit<AgentsWrite> {
    Permit::testing(organization)
}

fn reading(organization: OrganizationId) -> Permit<AgentsRead> {
    Permit::testing(organization)
}

async fn ended(rollouts: &Rollouts, id: RolloutId) -> (Rollout, Vec<Target>) {
    for _ in 0..60_000 {
        let fetched = rollouts.fetch(&reading(ROOT), id).await.expect("read").expect("there");
        if fetched.0.finished_ms.is_some() && rollouts.0.occupied.lock().expect("alone").is_empty() {
            return fetched;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("it does not end");
}

#[tokio::test]
async fn a_roll_out_is_remembered_and_its_own_organisations() {
    for database in testing::databases().await {
        with_department(&database).await;
        let rollouts = rollouts(&database).await;
        let ports = [closed(), closed()];
        let id = rollouts.create(writing(DEPARTMENT), order(&ports)).await.expect("begun");
        let (rollout, targets) = ended(&rollouts, id).await;
        let ordered = (rollout.organization, rollout.action, rollout.program);
        assert_eq!(ordered, (DEPARTMENT, Action::Uninstall, Program::Host), "{}", database.name);
        let places: Vec<_> = targets.iter().map(|target| (target.number, target.port)).collect();
        assert_eq!(places, [(1, ports[0]), (2, ports[1])]);
        for target in &targets {
            let fault = target.fault.as_ref().expect("nobody is there");
            assert_eq!(
                (target.state, target.step, fault.code.as_str()),
                (State::Failed, Some(Step::Connect), "unreachable")
            );
        }
        let (_, first) = rollouts.transcript(&reading(ROOT), id, 1).await.expect("read").expect("there");
        assert!(!first.is_empty());
        // It is tried again, and what was said stays.
        let credential = order(&[1]).credential;
        assert!(rollouts.resume(writing(DEPARTMENT), id, credential.clone()).await.expect("goes on"));
        ended(&rollouts, id).await;
        let (_, second) = rollouts.transcript(&reading(ROOT), id, 1).await.expect("read").expect("there");
        assert_eq!(second[..first.len()], first);
        assert!(second.len() > first.len());
        assert!(rollouts.transcript(&reading(ROOT), id, 3).await.expect("read").is_none());

        // Each order and what came of each machine is on record, without the password.
        let entries = Statement::from_string(
            database.db.statements(),
            "SELECT action, resource, after FROM audit_entry WHERE action LIKE 'rollout.%' ORDER BY number",
        );
        let mut actions = Vec::new();
        for row in database.db.read().query_all_raw(entries).await.expect("read") {
            let [action, resource, after] = ["action", "resource", "after"].map(|part| row.try_get::<String>("", part));
            let (action, resource, after) = (action.expect("text"), resource.expect("text"), after.expect("text"));
            assert!(resource.starts_with("rollout_1") && !after.contains("opensesame"), "{resource}: {after}");
            actions.push(action);
        }
        let expected =
            ["create", "machine", "machine", "resume", "machine", "machine"].map(|last| format!("rollout.{last}"));
        assert_eq!(actions, expected);

        // The root's are not the department's.
        let above = rollouts.create(writing(ROOT), order(&ports)).await.expect("begun");
        ended(&rollouts, above).await;
        let seen = |organization| {
            let rollouts = rollouts.clone();
            async move { rollouts.list(&reading(organization)).await.expect("read") }
        };
        let ids = |list: Vec<(Rollout, Vec<(State, usize)>)>| {
            list.into_iter().map(|(rollout, _)| rollout.id).collect::<Vec<_>>()
        };
        assert_eq!(seen(ROOT).await[0].1, [(State::Failed, 2)]);
        assert_eq!(ids(seen(ROOT).await), [above, id]);
        assert_eq!(ids(seen(DEPARTMENT).await), [id]);
        assert!(rollouts.fetch(&reading(DEPARTMENT), above).await.expect("read").is_none());
        assert!(!rollouts.resume(writing(DEPARTMENT), above, credential).await.expect("no word of it"));
        let confirmed = rollouts.host_key_confirm(&writing(DEPARTMENT), (above, 1), "x").await;
        assert!(confirmed.expect("no word of it").is_none());
        let elsewhere = Order {
            machines: vec![Machine { organization: Some(ROOT), ..order(&[1]).machines.remove(0) }],
            ..order(&[1])
        };
        let refused = rollouts.create(writing(DEPARTMENT), elsewhere).await;
        assert!(matches!(refused, Err(RolloutError::Organization(ROOT))), "{refused:?}");
    }
}

#[tokio::test]
async fn one_roll_out_works_on_a_machine() {
    let database = testing::sqlite().await;
    let rollouts = rollouts(&database).await;
    let (listener, held) = silent();
    let free = closed();
    let first = rollouts.create(writing(ROOT), order(&[held])).await.expect("begun");
    let second = rollouts.create(writing(ROOT), order(&[free, held])).await;
    assert!(matches!(&second, Err(RolloutError::Busy(place)) if place.ends_with(&held.to_string())), "{second:?}");
    // All or none: the other machine is free.
    rollouts.create(writing(ROOT), order(&[free])).await.expect("begun");
    let again = rollouts.resume(writing(ROOT), first, order(&[1]).credential).await;
    assert!(matches!(again, Err(RolloutError::Busy(_))), "{again:?}");
    drop(listener);
    ended(&rollouts, first).await;
    rollouts.create(writing(ROOT), order(&[held])).await.expect("free again");
}

#[tokio::test]
async fn without_programs_nothing_is_begun() {
    let database = testing::sqlite().await;
    let rollouts = rollouts(&database).await;
    let install = Order { action: Action::Install, ..order(&[1]) };
    let refused = rollouts.create(writing(ROOT), install).await.expect_err("no programs");
    assert!(refused.to_string().contains("make agents"), "{refused}");
    assert!(rollouts.list(&reading(ROOT)).await.expect("read").is_empty());
    assert!(rollouts.0.occupied.lock().expect("alone").is_empty());
}

fn target(rollout: RolloutId, key: &str) -> Target {
    Target {
        rollout,
        number: 1,
        organization: ROOT,
        address: "h".to_owned(),
        port: 22,
        user: "root".to_owned(),
        site: String::new(),
        state: State::Running,
        step: Some(Step::Upload),
        fault: None,
        offered: Some(HostKey {
            algorithm: "ssh-ed25519".to_owned(),
            text: format!("ssh-ed25519 {key}"),
            fingerprint: format!("SHA256:{key}"),
        }),
        agent: Some(AgentId(7)),
        version_before: None,
        version: Some("1-a".to_owned()),
        updated_ms: 5,
    }
}

async fn stored(rollouts: &Rollouts, id: i64, key: &str) -> RolloutId {
    let id = RolloutId(id);
    let rollout = Rollout {
        id,
        organization: ROOT,
        action: Action::Install,
        program: Program::Libvirt,
        dry_run: false,
        made_by: "somebody".to_owned(),
        created_ms: 1,
        finished_ms: None,
    };
    let target = target(id, key);
    let transaction = rollouts.0.fleet.db.begin("test").await.expect("begun");
    store::rollout_insert(&transaction, &rollout, std::slice::from_ref(&target), KEPT).await.expect("inserted");
    let line =
        Line { at_ms: 3, step: Some(Step::Check), english: "looked".to_owned(), chinese: "已检查".to_owned() };
    store::target_save(&transaction, &target, &[line], 0).await.expect("saved");
    transaction.commit().await.expect("committed");
    id
}

#[tokio::test]
async fn what_the_end_of_control_cut_off_is_interrupted() {
    for database in testing::databases().await {
        let id = stored(&rollouts(&database).await, 1, "a").await;
        let after = rollouts(&database).await;
        let (rollout, targets) = after.fetch(&reading(ROOT), id).await.expect("read").expect("there");
        assert!(rollout.finished_ms.is_some(), "{}", database.name);
        assert_eq!(rollout.program, Program::Libvirt);
        let expected = Target {
            state: State::Failed,
            fault: Some(Told::from(&Fault::Interrupted)),
            updated_ms: targets[0].updated_ms,
            ..target(id, "a")
        };
        assert_eq!(targets, [expected]);
        let (_, lines) = after.transcript(&reading(ROOT), id, 1).await.expect("read").expect("there");
        assert_eq!((lines.len(), lines[0].step, lines[0].chinese.as_str()), (1, Some(Step::Check), "已检查"));
    }
}

#[tokio::test]
async fn a_person_confirms_the_key_that_was_shown_and_only_that() {
    for database in testing::databases().await {
        with_department(&database).await;
        let rollouts = rollouts(&database).await;
        let first = stored(&rollouts, 1, "a").await;
        let confirm = |id, fingerprint: &'static str| {
            let rollouts = rollouts.clone();
            async move { rollouts.host_key_confirm(&writing(ROOT), (id, 1), fingerprint).await }
        };
        assert!(matches!(confirm(first, "SHA256:b").await, Err(RolloutError::NotOffered(_))), "{}", database.name);
        let known = confirm(first, "SHA256:a").await.expect("taken").expect("there");
        assert_eq!(confirm(first, "SHA256:a").await.expect("once more").expect("there"), known);
        // The machine shows another one.
        let second = stored(&rollouts, 2, "b").await;
        let refused = confirm(second, "SHA256:b").await;
        assert!(matches!(refused, Err(RolloutError::Known(id)) if id == known.id), "{refused:?}");
        assert_eq!(rollouts.host_key_list(&reading(ROOT)).await.expect("read"), std::slice::from_ref(&known));
        // It is nobody else's to see or to forget.
        assert!(rollouts.host_key_list(&reading(DEPARTMENT)).await.expect("read").is_empty());
        assert!(!rollouts.host_key_delete(&writing(DEPARTMENT), known.id).await.expect("no word of it"));
        assert!(rollouts.host_key_delete(&writing(ROOT), known.id).await.expect("forgotten"));
        assert!(confirm(second, "SHA256:b").await.expect("taken").is_some());
        let place = ("h", 22);
        let found = store::key_fetch(rollouts.0.fleet.db.read(), ROOT, place).await.expect("read").expect("known");
        assert_eq!(found.key.fingerprint, "SHA256:b");
        assert!(store::key_fetch(rollouts.0.fleet.db.read(), DEPARTMENT, place).await.expect("read").is_none());
    }
}

#[tokio::test]
async fn the_oldest_are_forgotten() {
    let database = testing::sqlite().await;
    let rollouts = rollouts(&database).await;
    for (id, key) in [(1, "a"), (2, "b"), (KEPT + 1, "c")] {
        stored(&rollouts, id, key).await;
    }
    let left = rollouts.list(&reading(ROOT)).await.expect("read");
    assert_eq!(left.iter().map(|(rollout, _)| rollout.id.0).collect::<Vec<_>>(), [KEPT + 1, 2]);
    assert!(rollouts.transcript(&reading(ROOT), RolloutId(1), 1).await.expect("read").is_none());
}
