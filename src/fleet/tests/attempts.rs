//! Machines that were refused are told to those whose token or agent it was, and to nobody else.

use super::*;
use crate::access::AdministrativeLevel;
use crate::platform::ids::OrganizationId;

/// (what was asked for, why not, how often), the newest first.
fn told(control: &Control, organization: OrganizationId) -> Vec<(String, String, u64)> {
    let refusals = control.fleet.agent_refusals(&Permit::testing(organization), 100);
    let told = refusals.into_iter().map(|it| {
        assert_eq!(it.address.as_deref(), Some("127.0.0.1"), "{it:?}");
        (format!("{:?}", it.attempt), it.reason, it.times)
    });
    told.collect()
}

fn line(attempt: &str, reason: &str, times: u64) -> (String, String, u64) {
    (attempt.to_owned(), reason.to_owned(), times)
}

#[tokio::test]
async fn who_was_refused_is_told_to_those_whose_it_was_also_after_a_restart() {
    for database in testing::databases().await {
        let control = Control::start_on(database, timing()).await;
        let department = async |name: &str| {
            let (permit, level) = (Permit::testing(ROOT), AdministrativeLevel::Department);
            let made = control.fleet.access.organization_create(&permit, name.to_owned(), level, ROOT).await;
            made.expect("made").id
        };
        let (school, health) = (department("school").await, department("health").await);
        let made = control.fleet.token_create(&Permit::testing(ROOT), Duration::from_secs(60), 1, Some(school)).await;
        let token: Token = made.expect("a token").1.parse().expect("a token's text");
        let mut machine = Machine::new(&control);
        machine.enroll(&token).await.expect("enrolled");
        for _ in 0..3 {
            Machine::new(&control).enroll(&token).await.expect_err("it is used up");
        }
        control.now.fetch_add(1_000, Ordering::Relaxed);
        control.fleet.agent_revoke(&Permit::testing(ROOT), machine.id).await.expect("stored").expect("it is there");
        machine.renew().await.expect_err("revoked");
        control.now.fetch_add(1_000, Ordering::Relaxed);
        Machine::new(&control).enroll(&Token { secret: [7; 24], ..token }).await.expect_err("nobody's token");

        let theirs = [line("Renew", "revoked", 1), line("Enrol", "token_used", 3)];
        let whole = [&[line("Enrol", "token_unknown", 1)][..], &theirs].concat();
        assert_eq!(told(&control, school), theirs);
        assert_eq!(told(&control, health), []);
        assert_eq!(told(&control, ROOT), whole);

        // What came since it was written counts in the same line.
        control.fleet.attempts_write().await.expect("written");
        let control = Control::start_at(control.stop().await, NOW + 3_000, timing()).await;
        assert_eq!((told(&control, ROOT), told(&control, school)), (whole, theirs.to_vec()));
        machine.address = control.address;
        machine.renew().await.expect_err("revoked");
        let database = control.stop().await;
        let lines = store::refusals_load(database.db.read(), 100).await.expect("read");
        let counted = (lines.iter().map(|line| line.times).sum::<u64>(), lines.len());
        assert_eq!(counted, (6, 3), "{}: the end writes the last ones", database.name);
    }
}

#[tokio::test]
async fn a_machine_with_a_certificate_of_elsewhere_or_of_before_is_told_to_the_city() {
    let control = Control::start().await;
    let other = Control::start().await;
    let mut machine = other.machine().await;
    machine.address = control.address;
    machine.roots = Machine::new(&control).roots;
    machine.session().await.err().expect("refused");
    until("told", || told(&control, ROOT) == [line("Connect", "foreign_certificate", 1)]).await;
    assert_eq!(told(&control, OrganizationId(2)), []);
    // A scanner is none.
    let mut stream = TcpStream::connect(control.address).await.expect("connected");
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    until("counted", || control.refused("handshake_failed") >= 1).await;
    assert_eq!(told(&control, ROOT).len(), 1);
}
