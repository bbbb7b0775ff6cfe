//! From a token to a certificate, and from an old certificate to a new one.

use super::*;
use crate::access::capability::AgentsRead;
use crate::platform::http::origin::Origin;
use sea_orm::ConnectionTrait;

/// After this an agent that asks again is given another certificate.
const A_WHILE_MS: i64 = 10 * 60_000;

fn reason<T>(result: Result<T, Status>) -> Option<Reason> {
    Reason::of(&result.err().expect("refused"))
}

#[tokio::test]
async fn a_token_enrols_as_often_as_it_may_and_the_agent_is_its_organisations() {
    for database in testing::databases().await {
        let control = Control::start_on(database, timing()).await;
        let token = control.token(2).await;
        assert_eq!(token.ca_fingerprint, control.fleet.ca_fingerprint());
        assert_eq!(token.address, control.address.to_string());
        let mut first = Machine::new(&control);
        first.enroll(&token).await.expect("the first");
        Machine::new(&control).enroll(&token).await.expect("the second");
        let third = Machine::new(&control).enroll(&token).await;
        assert_eq!(reason(third), Some(Reason::TokenUsed), "{}", control.database.name);
        assert_eq!(control.refused("token_used"), 1);

        let report = control.report(first.id);
        assert_eq!((report.state, report.organization), (state::AgentState::NeverSeen, ROOT));
        assert_eq!(report.certificate_not_after_ms, Some(NOW + 365 * DAY_MS));
        assert_eq!(report.hostname, "host-1");
        let tokens = control.fleet.token_list(&Permit::testing(ROOT)).await.expect("tokens");
        assert_eq!((tokens[0].uses, tokens[0].uses_left), (2, 0));
    }
}

#[tokio::test]
async fn one_use_makes_one_agent_however_many_ask_at_once() {
    let control = Control::start().await;
    let token = control.token(1).await;
    let tries = (0..8).map(|_| {
        let (mut machine, token) = (Machine::new(&control), token.clone());
        tokio::spawn(async move { machine.enroll(&token).await.is_ok() })
    });
    let mut enrolled = 0;
    for each in tries.collect::<Vec<_>>() {
        enrolled += u32::from(each.await.expect("no panic"));
    }
    assert_eq!(enrolled, 1);
    assert_eq!(control.fleet.agents().len(), 1);
}

#[tokio::test]
async fn a_machine_whose_answer_was_lost_is_answered_again_without_another_use() {
    let control = Control::start().await;
    let token = control.token(1).await;
    let mut machine = Machine::new(&control);
    machine.enroll(&token).await.expect("enrolled");
    let first = machine.id;
    machine.certificate = None;
    machine.enroll(&token).await.expect("the same key again");
    assert_eq!(machine.id, first);
    assert_eq!(control.fleet.agents().len(), 1);
    machine.session().await.expect("its certificate is good");
    // Another machine with a copy of the key is another machine.
    let mut other = machine.copy();
    other.certificate = None;
    other.machine_id = "machine-2".to_owned();
    assert_eq!(reason(other.enroll(&token).await), Some(Reason::TokenUsed));
    // A revoked agent does not come back by its token.
    let permit = Permit::testing(ROOT);
    control.fleet.agent_revoke(&permit, first).await.expect("stored").expect("it is there");
    machine.certificate = None;
    assert_eq!(reason(machine.enroll(&token).await), Some(Reason::TokenUsed));
}

#[tokio::test]
async fn metrics_tell_of_an_agent_only_to_whom_it_is_shown() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let text = |organization| {
        let agents = crate::control::agent_metrics::of(&control.fleet, &Permit::testing(organization));
        control.registry.encode_with(agents)
    };
    assert!(text(ROOT).contains("host-1"));
    let other = crate::platform::ids::OrganizationId(9);
    assert!(!text(other).contains("host-1") && !control.registry.encode().contains("host-1"));
    assert!(control.fleet.agent_shown(&Permit::<AgentsRead>::testing(ROOT), machine.id).is_some());
    assert!(control.fleet.agent_shown(&Permit::<AgentsRead>::testing(other), machine.id).is_none());
}

#[tokio::test]
async fn an_enrolment_that_was_committed_and_reported_as_failed_is_found() {
    for database in testing::databases().await {
        let control = Control::start_on(database, timing()).await;
        let token = control.token(1).await;
        // A memory that does not know what is committed from here on.
        let (db, clock) = (control.database.db.clone(), Clock::Manual(control.now.clone()));
        let access = Access::open(db.clone(), clock.clone()).await.expect("access opens");
        let (data, address) = (control.database.data.path(), control.address.to_string());
        let behind = Fleet::open(db, access, clock, data, address, &Registry::new()).await.expect("the fleet opens");
        let mut machine = Machine::new(&control);
        machine.enroll(&token).await.expect("enrolled");
        let asked = v1::EnrollRequest {
            token_secret: token.secret.to_vec().into(),
            csr_der: machine.request().into(),
            kind: "host".to_owned(),
            machine_id: machine.machine_id.clone(),
            hostname: "host-1".to_owned(),
            agent_version: "0.1.0".to_owned(),
        };
        let again = behind.enroll(asked, Origin::default()).await.expect("answered again");
        assert_eq!(again.agent_id, machine.id.to_string(), "{}", control.database.name);
        assert!(behind.agent_fetch(&Permit::testing(ROOT), machine.id).is_some(), "it has its owner");
    }
}

#[tokio::test]
async fn tokens_that_do_not_enrol_are_told_apart() {
    let control = Control::start().await;
    let permit = Permit::testing(ROOT);
    let foreign = Token { secret: [7; 24], ..control.token(1).await };
    assert_eq!(reason(Machine::new(&control).enroll(&foreign).await), Some(Reason::TokenUnknown));

    let revoked = control.token(1).await;
    let id = control.fleet.token_list(&Permit::testing(ROOT)).await.expect("tokens").last().expect("one").id;
    assert!(control.fleet.token_revoke(&permit, id).await.expect("stored"));
    assert_eq!(reason(Machine::new(&control).enroll(&revoked).await), Some(Reason::TokenRevoked));

    let expired = control.token(1).await;
    control.now.fetch_add(600_000, Ordering::Relaxed);
    assert_eq!(reason(Machine::new(&control).enroll(&expired).await), Some(Reason::TokenExpired));
    for each in ["token_unknown", "token_revoked", "token_expired"] {
        assert_eq!(control.refused(each), 1, "{each}");
    }
    assert!(control.fleet.agents().is_empty());
}

#[tokio::test]
async fn bad_requests_and_identities_are_refused_and_use_nothing() {
    let control = Control::start().await;
    let token = control.token(1).await;
    let good = v1::EnrollRequest {
        token_secret: token.secret.to_vec().into(),
        csr_der: Machine::new(&control).request().into(),
        kind: "host".to_owned(),
        machine_id: "m".to_owned(),
        hostname: "h".to_owned(),
        agent_version: "1".to_owned(),
    };
    let channel = Machine::new(&control).channel().await.expect("connected");
    let mut client = EnrolmentClient::new(channel);
    for (made, expected) in [
        (v1::EnrollRequest { csr_der: vec![1, 2, 3].into(), ..good.clone() }, Reason::BadRequest),
        (v1::EnrollRequest { csr_der: vec![0; 9_000].into(), ..good.clone() }, Reason::BadRequest),
        (v1::EnrollRequest { machine_id: String::new(), ..good.clone() }, Reason::BadIdentity),
        (v1::EnrollRequest { hostname: "h".repeat(300), ..good.clone() }, Reason::BadIdentity),
        (v1::EnrollRequest { token_secret: vec![1].into(), ..good.clone() }, Reason::TokenUnknown),
    ] {
        assert_eq!(reason(client.enroll(made).await), Some(expected));
    }
    let huge = v1::EnrollRequest { csr_der: vec![0; 100_000].into(), ..good.clone() };
    assert_eq!(client.enroll(huge).await.expect_err("refused").code(), tonic::Code::OutOfRange);
    client.enroll(good).await.expect("the token is as good as before");
}

#[tokio::test]
async fn what_may_not_be_made_is_not_made() {
    let control = Control::start().await;
    let permit = Permit::testing(ROOT);
    let hour = Duration::from_secs(3_600);
    let other = Some(crate::platform::ids::OrganizationId(9));
    let fleet = &control.fleet;
    assert!(matches!(fleet.token_create(&permit, Duration::ZERO, 1, None).await, Err(TokenError::Ttl)));
    assert!(matches!(fleet.token_create(&permit, hour * 24 * 31, 1, None).await, Err(TokenError::Ttl)));
    assert!(matches!(fleet.token_create(&permit, hour, 0, None).await, Err(TokenError::Uses)));
    assert!(matches!(fleet.token_create(&permit, hour, 1, other).await, Err(TokenError::Organization(_))));
    let machine = control.machine().await;
    let foreign = crate::platform::ids::OrganizationId(9);
    assert_eq!(fleet.agent_fetch(&Permit::testing(foreign), machine.id), None);
    assert!(fleet.agent_reports(&Permit::testing(foreign), None).next().is_none());
    assert_eq!(fleet.agent_revoke(&Permit::testing(foreign), machine.id).await.expect("no error"), None);
    assert!(fleet.token_list(&Permit::testing(foreign)).await.expect("no error").is_empty());
}

#[tokio::test]
async fn without_a_certificate_nothing_but_enrolment_is_possible() {
    let control = Control::start().await;
    let mut machine = Machine::new(&control);
    assert_eq!(reason(machine.stream().await), Some(Reason::NoCertificate));
    assert_eq!(reason(machine.renew().await), Some(Reason::NoCertificate));
    assert_eq!(control.refused("no_certificate"), 2);
}

#[tokio::test]
async fn a_renewed_certificate_and_the_one_before_are_good_and_older_ones_are_not() {
    for database in testing::databases().await {
        let control = Control::start_on(database, timing()).await;
        let mut machine = control.machine().await;
        let first = machine.certificate.clone();
        control.now.fetch_add(243 * DAY_MS, Ordering::Relaxed);
        machine.renew().await.expect("renewed");
        assert_ne!(machine.certificate, first);
        let renewed = control.report(machine.id).certificate_not_after_ms;
        assert_eq!(renewed, Some(NOW + (243 + 365) * DAY_MS));
        // The answer was lost in a crash: the old one still serves.
        let second = std::mem::replace(&mut machine.certificate, first.clone());
        machine.session().await.expect("the old one is good");
        control.now.fetch_add(A_WHILE_MS, Ordering::Relaxed);
        machine.renew().await.expect("renewed again");
        machine.session().await.expect("the newest is good");
        let third = std::mem::replace(&mut machine.certificate, second);
        assert_eq!(reason(machine.session().await), Some(Reason::CertificateUnknown));
        machine.certificate = third;

        // What is on record survives a restart.
        let database = control.stop().await;
        let control = Control::start_on(database, timing()).await;
        machine.address = control.address;
        machine.session().await.expect("the newest is good");
        let report = control.report(machine.id);
        assert_eq!(report.version, "0.2.0", "what its hello said was stored");
    }
}

#[tokio::test]
async fn an_expired_certificate_may_renew_and_nothing_else() {
    let control = Control::start().await;
    let mut machine = control.machine().await;
    control.now.fetch_add(366 * DAY_MS, Ordering::Relaxed);
    assert_eq!(reason(machine.session().await), Some(Reason::CertificateExpired));
    assert_eq!(control.refused("certificate_expired"), 1);
    machine.renew().await.expect("renewed");
    machine.session().await.expect("good again");
}

#[tokio::test]
async fn a_stream_ends_when_its_certificate_does() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let (stream, _) = machine.session().await.expect("good");
    control.now.fetch_add(366 * DAY_MS, Ordering::Relaxed);
    assert_eq!(stream.end().await, Some(Reason::CertificateExpired));
}

#[tokio::test]
async fn a_revoked_agent_loses_its_stream_and_may_nothing_any_more() {
    for database in testing::databases().await {
        let control = Control::start_on(database, timing()).await;
        let mut machine = control.machine().await;
        let (stream, _) = machine.session().await.expect("good");
        let permit = Permit::testing(ROOT);
        let revoked = control.fleet.agent_revoke(&permit, machine.id).await.expect("stored").expect("it is there");
        assert_eq!((revoked.state, revoked.revoked_ms), (state::AgentState::Revoked, Some(NOW)));
        assert_eq!(stream.end().await, Some(Reason::Revoked));
        assert_eq!(reason(machine.session().await), Some(Reason::Revoked));
        assert_eq!(reason(machine.renew().await), Some(Reason::Revoked));
        assert_eq!(control.refused("revoked"), 3);

        let database = control.stop().await;
        let control = Control::start_on(database, timing()).await;
        machine.address = control.address;
        assert_eq!(reason(machine.session().await), Some(Reason::Revoked));
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_does_not_pass_the_handshake() {
    let control = Control::start().await;
    let other = Control::start().await;
    let mut machine = other.machine().await;
    machine.address = control.address;
    machine.roots = Machine::new(&control).roots;
    let refused = machine.session().await.err().expect("refused");
    assert_eq!(Reason::of(&refused), None);
    until("counted", || control.refused("foreign_certificate") == 1).await;
    // And an agent does not talk to a control of another authority.
    let mut stray = Machine::new(&other);
    stray.address = control.address;
    assert!(stray.channel().await.is_err());
}

#[tokio::test]
async fn an_agent_that_an_older_database_does_not_know_is_refused() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let data = control.database.data.path().join("ca");
    let other = testing::sqlite().await;
    std::fs::create_dir(other.data.path().join("ca")).expect("made");
    for name in ["ca.pem", "ca-key.pem"] {
        std::fs::copy(data.join(name), other.data.path().join("ca").join(name)).expect("copied");
    }
    let restored = Control::start_on(other, timing()).await;
    let mut machine = Machine { address: restored.address, ..machine };
    assert_eq!(reason(machine.session().await), Some(Reason::CertificateUnknown));
    // Nor is it taken for the agent that has its number now.
    let newer = restored.machine().await;
    assert_eq!(newer.id, machine.id);
    assert_eq!(reason(machine.session().await), Some(Reason::CertificateUnknown));
    assert_eq!(reason(machine.renew().await), Some(Reason::CertificateUnknown));
}

#[tokio::test]
async fn a_failing_database_makes_no_agent_and_says_try_again() {
    let control = Control::start().await;
    let token = control.token(1).await;
    let mut machine = Machine::new(&control);
    let transaction = control.database.db.begin("break").await.expect("begun");
    transaction.execute_unprepared("ALTER TABLE agent_certificate RENAME TO elsewhere").await.expect("renamed");
    transaction.commit().await.expect("committed");
    assert_eq!(reason(machine.enroll(&token).await), Some(Reason::Unavailable));
    assert!(control.fleet.agents().is_empty());
    let transaction = control.database.db.begin("mend").await.expect("begun");
    transaction.execute_unprepared("ALTER TABLE elsewhere RENAME TO agent_certificate").await.expect("renamed");
    transaction.commit().await.expect("committed");
    machine.enroll(&token).await.expect("no use was taken");
}

#[tokio::test]
async fn who_was_given_a_certificate_and_who_was_refused_one_is_in_the_audit_log() {
    for database in testing::databases().await {
        let control = Control::start_on(database, timing()).await;
        let token = control.token(1).await;
        let mut machine = Machine::new(&control);
        machine.enroll(&token).await.expect("enrolled");
        control.now.fetch_add(A_WHILE_MS, Ordering::Relaxed);
        machine.renew().await.expect("renewed");
        for _ in 0..3 {
            assert_eq!(reason(Machine::new(&control).enroll(&token).await), Some(Reason::TokenUsed));
        }
        let foreign = Token { secret: [7; 24], ..token };
        assert_eq!(reason(Machine::new(&control).enroll(&foreign).await), Some(Reason::TokenUnknown));
        assert_eq!(reason(Machine::new(&control).renew().await), Some(Reason::NoCertificate));
        control.fleet.agent_revoke(&Permit::testing(ROOT), machine.id).await.expect("stored").expect("it is there");
        assert_eq!(reason(machine.renew().await), Some(Reason::Revoked));
        let access = &control.fleet.access;
        access.refusals_settled().await;
        let filter = crate::access::audit::AuditFilter::default();
        let entries = access.audit_entries(&Permit::testing(ROOT), &filter, None, 100).await.expect("entries");
        let mut said: Vec<_> = entries
            .iter()
            .filter(|entry| ["agent.enrol", "agent.renew"].contains(&entry.action.as_str()))
            .map(|entry| {
                assert_eq!(entry.address.as_deref(), Some("127.0.0.1"), "{entry:?}");
                let reason = entry.reason.as_deref().unwrap_or_default();
                (&*entry.action, &*entry.actor_kind, &*entry.resource, &*entry.result, reason)
            })
            .collect();
        said.sort_unstable();
        let expected = [
            ("agent.enrol", "agent", "agent_1", "done", ""),
            ("agent.enrol", "nobody", "", "refused", "token_unknown"),
            ("agent.enrol", "nobody", "enrolment_1", "refused", "token_used"),
            ("agent.renew", "agent", "agent_1", "done", ""),
            ("agent.renew", "agent", "agent_1", "refused", "revoked"),
            ("agent.renew", "nobody", "", "refused", "no_certificate"),
        ];
        assert_eq!(said, expected, "{}", control.database.name);
        let used = entries.iter().find(|entry| entry.reason.as_deref() == Some("token_used")).expect("it is there");
        assert_eq!(used.after.as_deref(), Some(r#"{"times":3}"#), "one entry, however many");
        let renewed = entries.iter().find(|entry| entry.action == "agent.renew" && entry.result == "done");
        assert!(renewed.expect("it is there").after.as_deref().is_some_and(|after| after.contains("not_after_ms")));
    }
}

#[tokio::test]
async fn who_asks_for_ever_is_answered_and_fills_no_log() {
    let control = Control::start().await;
    let token = control.token(1).await;
    let mut machine = Machine::new(&control);
    machine.enroll(&token).await.expect("enrolled");
    let said = async || {
        let (permit, filter) = (Permit::testing(ROOT), crate::access::audit::AuditFilter::default());
        let entries = control.fleet.access.audit_entries(&permit, &filter, None, 1_000).await.expect("entries");
        let given = entries.into_iter().map(|entry| entry.action).filter(|action| action.starts_with("agent."));
        given.rev().collect::<Vec<_>>()
    };
    // As who lost every answer, by a token that is used up.
    for _ in 0..20 {
        machine.certificate = None;
        machine.enroll(&token).await.expect("enrolled again");
        machine.renew().await.expect("renewed");
    }
    machine.session().await.expect("what it was given is good");
    assert_eq!(said().await, ["agent.enrol"]);

    control.now.fetch_add(A_WHILE_MS, Ordering::Relaxed);
    let first = machine.copy();
    for _ in 0..20 {
        machine.certificate.clone_from(&first.certificate);
        machine.renew().await.expect("renewed");
    }
    machine.session().await.expect("the new one is good");
    assert_eq!(said().await, ["agent.enrol", "agent.renew"]);
    assert_eq!(control.report(machine.id).certificate_not_after_ms, Some(NOW + A_WHILE_MS + 365 * DAY_MS));

    // With another key each time it has to wait.
    let asked = v1::RenewRequest { csr_der: Machine::new(&control).request().into() };
    let other = async || {
        let channel = machine.channel().await.expect("connected");
        TelemetryClient::new(channel).renew(asked.clone()).await
    };
    assert_eq!(reason(other().await), Some(Reason::Unavailable));
    control.now.fetch_add(A_WHILE_MS, Ordering::Relaxed);
    other().await.expect("some minutes later");
    assert_eq!(said().await, ["agent.enrol", "agent.renew", "agent.renew"]);
}
