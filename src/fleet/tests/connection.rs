//! Connections of peers that do with HTTP/2 what they like.

use super::super::connection::{STREAMS, framed};
use super::*;
use bytes::{Bytes, BytesMut};
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use v1::to_agent::Message as Heard;
use v1::to_control::Message as Said;

/// A connection of a machine that makes room for so many bytes of a stream at a time.
async fn connection_with_room(machine: &Machine, room: u32) -> SendRequest<Bytes> {
    let tls = machine.connect().await.expect("shaken hands");
    let mut http = h2::client::Builder::new();
    http.initial_window_size(room);
    let (client, connection) = http.handshake::<_, Bytes>(tls).await.expect("HTTP/2");
    tokio::spawn(connection);
    client
}

/// A session that has said hello, of an agent that makes room for so many bytes at a time.
async fn session_with_room(machine: &Machine, room: u32) -> (SendRequest<Bytes>, ResponseFuture, SendStream<Bytes>) {
    let mut client = connection_with_room(machine, room).await.ready().await.expect("ready");
    let call = hyper::Request::post("http://tongtu-control/tongtu.agent.v1.Telemetry/Session");
    let (answer, mut said) = client.send_request(call.body(()).expect("a call"), false).expect("sent");
    let hello = v1::ToControl { message: Some(Said::Hello(machine.hello())) };
    said.send_data(framed(&hello), false).expect("sent");
    (client, answer, said)
}

/// Asks for the enrolment of a machine.
async fn enrolment(
    client: &SendRequest<Bytes>,
    machine: &Machine,
    token: &Token,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut client = client.clone().ready().await.expect("ready");
    let call = hyper::Request::post("http://tongtu-control/tongtu.agent.v1.Enrolment/Enroll");
    let (answer, mut said) = client.send_request(call.body(()).expect("a call"), false).expect("sent");
    said.send_data(framed(&machine.enrolment(token)), true).expect("sent");
    (answer, said)
}

#[tokio::test]
async fn an_agent_that_makes_no_room_is_not_waited_for_for_long() {
    let control = Control::start_with(Timing { room: SOON, ..timing() }).await;
    let machine = control.machine().await;
    let (_client, answer, _said) = session_with_room(&machine, 0).await;
    let mut body = answer.await.expect("answered").into_body();
    let end = tokio::time::timeout(Duration::from_secs(10), body.data()).await.expect("ended");
    assert_eq!(end.and_then(Result::err).and_then(|error| error.reason()), Some(h2::Reason::CANCEL));
    assert_eq!(control.refused("too_slow"), 1);
    assert!(control.sink.given().contains(&Given::Closed(machine.id)));
    assert!(!control.report(machine.id).connected);
}

#[tokio::test]
async fn an_agent_that_makes_little_room_is_told_all_the_same() {
    let control = Control::start().await;
    let machine = control.machine().await;
    let (_client, answer, _said) = session_with_room(&machine, 10).await;
    let mut body = answer.await.expect("answered").into_body();
    let (mut came, mut messages) = (BytesMut::new(), Vec::new());
    let told = async {
        while messages.len() < 5 {
            let piece = body.data().await.expect("goes on").expect("no reset");
            body.flow_control().release_capacity(piece.len()).expect("it was taken");
            came.extend_from_slice(&piece);
            while let Some(&[_, length @ ..]) = came.first_chunk::<5>() {
                let whole = 5 + u32::from_be_bytes(length) as usize;
                if came.len() < whole {
                    break;
                }
                let message = v1::ToAgent::decode(&came.split_to(whole)[5..]).expect("a message");
                messages.push(message.message.expect("a message of this version"));
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.expect("all comes");
    assert!(matches!(messages[0], Heard::Welcome(_)));
    assert!(messages[1..].iter().all(|message| matches!(message, Heard::Ping(_))));
}

#[tokio::test]
async fn a_challenger_that_goes_away_is_not_kept() {
    let long = Duration::from_secs(60);
    let control = Control::start_with(Timing { challenge: long, ping: long, ..timing() }).await;
    let machine = control.machine().await;
    let (mut first, _) = machine.session().await.expect("welcomed");
    assert!(matches!(first.hear().await, Ok(Heard::Ping(_))));
    let agent = control.fleet.directory.get(machine.id).expect("it is there");
    // Who else holds it: the directory, and this test.
    let streams = || Arc::strong_count(&agent) - 2;
    let (_client, _answer, mut said) = session_with_room(&machine.copy(), 1 << 16).await;
    assert!(matches!(first.hear().await, Ok(Heard::Ping(_))), "it is asked for a sign of life");
    assert!(streams() >= 2, "the other one waits");
    said.send_reset(h2::Reason::CANCEL);
    until("it is gone", || streams() == 1).await;
    first.say(records(1..=1));
    assert!(matches!(first.hear_beside_pings().await, Ok(Heard::Answers(_))));
}

#[tokio::test]
async fn who_resets_enrolments_has_no_more_of_them_at_work_than_who_waits() {
    let control = Control::start().await;
    let token = control.token(100).await;
    let client = connection_with_room(&Machine::new(&control), 1 << 16).await;
    let enrolled = || control.fleet.agents().len();
    // What began waits for it.
    let transaction = control.database.db.begin("hold").await.expect("begun");
    let refused = async {
        loop {
            let (answer, mut said) = enrolment(&client, &Machine::new(&control), &token).await;
            if let Ok(answer) = tokio::time::timeout(SOON, answer).await {
                return answer.expect("no reset");
            }
            said.send_reset(h2::Reason::CANCEL);
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(10), refused).await.expect("refused");
    let refused = Status::from_header_map(refused.headers()).expect("a status");
    assert_eq!(Reason::of(&refused), Some(Reason::Unavailable));
    assert!(control.refused("unavailable") >= 1);
    assert_eq!(enrolled(), 0);
    transaction.rollback().await.expect("given back");
    let most = STREAMS as usize;
    until("what began ends", || enrolled() == most).await;
    let (answer, _said) = enrolment(&client, &Machine::new(&control), &token).await;
    let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.expect("in time").expect("no reset");
    assert_eq!(Status::from_header_map(answer.headers()).map(|status| status.code()), None);
    assert_eq!(enrolled(), most + 1);
}

#[tokio::test]
async fn who_shakes_hands_and_speaks_no_http_2_is_counted_and_dropped() {
    let control = Control::start_with(Timing { handshake: Duration::from_secs(2), ..timing() }).await;
    let machine = Machine::new(&control);
    let mut other = machine.connect().await.expect("shaken hands");
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    until("counted", || control.refused("handshake_failed") == 1).await;
    let mut silent = machine.connect().await.expect("shaken hands");
    let _ = silent.read_to_end(&mut Vec::new()).await;
    until("counted", || control.refused("handshake_timeout") == 1).await;
}
