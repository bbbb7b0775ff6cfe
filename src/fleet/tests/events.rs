//! What is noted of agents, and that a restart of control makes nothing up.

use super::*;
use crate::fleet::state::AgentState;

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
