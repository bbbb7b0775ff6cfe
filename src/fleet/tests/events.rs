//! What is noted of agents, and that a restart of control makes nothing up.

use super::*;
use crate::access::Resource;
use crate::fleet::state::AgentState;
use crate::platform::ids::OrganizationId;

/// (agent, seconds since [`NOW`], what it became), the newest first.
fn told(control: &Control) -> Vec<(i64, i64, AgentState)> {
    let events = control.fleet.agent_events(&Permit::testing(ROOT), 100);
    events.iter().map(|event| (event.agent.0, (event.at_ms - NOW) / 1_000, event.state)).collect()
}

async fn look(control: &Control, seconds: i64) {
    control.now.store(NOW + seconds * 1_000, Ordering::SeqCst);
    control.fleet.events_note().await.expect("noted");
}

#[tokio::test]
async fn each_change_is_noted_once_and_silence_of_control_is_none_of_an_agent() {
    use AgentState::*;
    let control = Control::start().await;
    let (first, second) = (control.machine().await.id, control.machine().await.id);
    let report = |control: &Control, id: AgentId| {
        control.fleet.directory.get(id).expect("it is there").report(control.now.load(Ordering::SeqCst));
    };
    report(&control, first);
    look(&control, 1).await;
    look(&control, 2).await;
    let begun = [(2, 0, NeverSeen), (1, 1, Up), (1, 0, NeverSeen)];
    assert_eq!(told(&control), begun);
    look(&control, 50).await;
    look(&control, 400).await;
    control.fleet.agent_revoke(&Permit::testing(ROOT), second).await.expect("revoked");
    look(&control, 401).await;
    let before = [&[(2, 400, Revoked), (1, 400, Lost), (1, 50, Late)][..], &begun].concat();
    assert_eq!(told(&control), before);
    report(&control, first);
    look(&control, 402).await;
    assert_eq!(told(&control)[0], (1, 402, Up));

    // Control is away for an hour: what it did not hear, nobody was silent of.
    let known = told(&control).len();
    let control = Control::start_at(control.stop().await, NOW + 4_000_000, timing()).await;
    assert_eq!(told(&control)[1..], before, "from the database");
    look(&control, 4_010).await;
    assert_eq!(told(&control).len(), known, "{:?}", told(&control));
    look(&control, 4_060).await;
    assert_eq!(told(&control)[0], (1, 4_060, Late));
    control.stop().await;
}

#[tokio::test]
async fn a_restart_tells_nothing_of_who_was_lost_or_had_just_begun() {
    use AgentState::*;
    let control = Control::start().await;
    let [lost, young, forgotten] = [control.machine().await.id, control.machine().await.id, control.machine().await.id];
    let report = |control: &Control, id: AgentId| {
        control.fleet.directory.get(id).expect("it is there").report(control.now.load(Ordering::SeqCst));
    };
    report(&control, lost);
    report(&control, forgotten);
    look(&control, 1).await;
    look(&control, 400).await;
    control.now.store(NOW + 1_000_000, Ordering::SeqCst);
    report(&control, young);
    look(&control, 1_000).await;
    assert_eq!(told(&control)[..3], [(2, 1_000, Up), (3, 400, Lost), (1, 400, Lost)]);

    // Control was killed before it wrote down when the young one reported; and what became of the third is pruned.
    let database = control.stop().await;
    let transaction = database.db.begin("test").await.expect("begun");
    for sql in [
        format!("UPDATE agent SET last_report_ms = NULL WHERE id = {}", young.0),
        format!("DELETE FROM agent_event WHERE agent_id = {}", forgotten.0),
    ] {
        sea_orm::ConnectionTrait::execute_unprepared(&transaction, &sql).await.expect("done");
    }
    transaction.commit().await.expect("committed");
    let control = Control::start_at(database, NOW + 4_000_000, timing()).await;
    let before = told(&control);
    for seconds in [4_005, 4_060, 4_400] {
        look(&control, seconds).await;
        assert_eq!(told(&control), before, "{seconds}");
    }
    for id in [lost, young, forgotten] {
        report(&control, id);
    }
    look(&control, 4_401).await;
    assert_eq!(told(&control), [&[(3, 4_401, Up), (1, 4_401, Up)][..], &before].concat());
    control.stop().await;
}

#[tokio::test]
async fn what_was_committed_and_reported_as_failed_is_told_once() {
    use AgentState::*;
    let control = Control::start().await;
    let agent = control.machine().await.id;
    // What the failed look wrote, and memory does not know.
    let noted = crate::fleet::events::Noted { id: 1, agent, at_ms: NOW, state: NeverSeen };
    store::events_insert(&control.fleet.db, &[noted], 100).await.expect("inserted");
    control.fleet.events_note().await.expect_err("the number is taken");
    control.fleet.directory.get(agent).expect("it is there").report(NOW);
    look(&control, 1).await;
    look(&control, 2).await;
    assert_eq!(told(&control), [(1, 1, Up), (1, 0, NeverSeen)]);
    control.stop().await;
}

#[tokio::test]
async fn what_became_of_an_agent_before_it_was_theirs_is_not_told_them() {
    let control = Control::start().await;
    let agent = control.machine().await.id;
    control.fleet.directory.get(agent).expect("it is there").report(NOW);
    look(&control, 1).await;
    control.fleet.access.owned(&[(Resource::Agent(agent), OrganizationId(2), NOW + 10_000)]);
    look(&control, 50).await;
    let theirs = control.fleet.agent_events(&Permit::testing(OrganizationId(2)), 100);
    assert_eq!(theirs.iter().map(|event| event.state).collect::<Vec<_>>(), [AgentState::Late]);
    control.stop().await;
}
