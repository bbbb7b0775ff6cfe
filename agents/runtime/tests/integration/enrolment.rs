//! Enrolling, and what may go wrong at it.

use crate::control::Control;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::tempdir;
use tokio::net::TcpListener;
use tongtu_agent_runtime::data::DataDirectory;
use tongtu_agent_runtime::enrol::{Enrol, EnrolError, enroll};

async fn attempt(token: &str, data: &Path, replace: bool) -> Result<String, EnrolError> {
    let enrol = Enrol { token, data, kind: "host", version: "0.1.0", replace };
    enroll(enrol).await.map(|identity| identity.agent_id)
}

#[tokio::test]
async fn a_machine_is_enrolled_once_unless_it_is_told_to_replace() {
    let control = Control::start().await;
    let data = tempdir().expect("a folder");
    assert_eq!(attempt(&control.token(), data.path(), false).await.expect("enrolled"), "agent_1");
    let mode = std::fs::metadata(data.path().join("key.pem")).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = std::fs::read_to_string(data.path().join("key.pem")).expect("a key");
    let again = attempt(&control.token(), data.path(), false).await.expect_err("enrolled already");
    assert!(again.to_string().contains("--replace"), "{again}");
    assert_eq!(control.tell(|told| told.enrolments), 1);
    attempt(&control.token(), data.path(), true).await.expect("replaced");
    assert_ne!(std::fs::read_to_string(data.path().join("key.pem")).expect("a key"), key);
}

#[tokio::test]
async fn an_enrolment_whose_answer_was_lost_is_repeated_with_the_same_key() {
    let control = Control::start().await;
    let data = tempdir().expect("a folder");
    control.tell(|told| told.lose_answer = Some(tonic::Status::unavailable("the connection broke")));
    let lost = attempt(&control.token(), data.path(), false).await.expect_err("the answer is lost");
    assert!(lost.to_string().contains("run the same command again"), "{lost}");
    // Control was not told whether its commit was done.
    control.tell(|told| told.lose_answer = Some(tongtu_protocol::reason::Reason::Unavailable.status()));
    attempt(&control.token(), data.path(), false).await.expect_err("control cannot say");
    assert!(DataDirectory::open(data.path(), false).expect("free").enrolment().expect("readable").is_none());
    attempt(&control.token(), data.path(), false).await.expect("enrolled");
    let keys = control.tell(|told| told.keys.clone());
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[tokio::test]
async fn nothing_is_sent_to_another_control() {
    let (control, other) = (Control::start().await, Control::start().await);
    let data = tempdir().expect("a folder");
    let token: tongtu_protocol::token::Token = other.token().parse().expect("a token");
    let token = tongtu_protocol::token::Token { address: control.address.to_string(), ..token };
    let foreign = attempt(&token.to_string(), data.path(), false).await.expect_err("another authority");
    assert!(foreign.to_string().contains("fingerprint"), "{foreign}");
    assert_eq!(control.tell(|told| told.enrolments), 0);
}

#[tokio::test]
async fn each_failure_says_what_where_and_what_to_do() {
    let control = Control::start().await;
    let data = tempdir().expect("a folder");
    let token: tongtu_protocol::token::Token = control.token().parse().expect("a token");
    let at = |address: &str| tongtu_protocol::token::Token { address: address.into(), ..token.clone() }.to_string();
    let plain = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let plain_address = plain.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = plain.accept().await {
            let _ = stream.try_write(b"SSH-2.0-OpenSSH_9.2\r\n");
            drop(stream);
        }
    });
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").to_string();
    for (token, part) in [
        ("nonsense".to_owned(), "not an enrolment token"),
        (at("no-such-host.invalid:6481"), "cannot find the host"),
        (at(&closed), "refuses the connection"),
        (at(&plain_address), "not control's agents' port"),
    ] {
        let failure = attempt(&token, data.path(), false).await.expect_err(part).to_string();
        assert!(failure.contains(part) && !failure.contains('\n'), "{failure}");
    }
    let mut wrong = token.clone();
    wrong.secret[0] ^= 1;
    let refused = attempt(&wrong.to_string(), data.path(), false).await.expect_err("unknown").to_string();
    assert!(refused.contains("not known here") && refused.contains("tongtu agent token"), "{refused}");
    let held = DataDirectory::open(data.path(), true).expect("free");
    let busy = attempt(&control.token(), data.path(), false).await.expect_err("in use").to_string();
    assert!(busy.contains("in use by another"), "{busy}");
    drop(held);
}
