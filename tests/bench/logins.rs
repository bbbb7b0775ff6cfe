//! 10,000 logins a minute with wrong passwords, and what everybody else notices of them.
//!
//! Half of them come from 250 addresses and half from one, as a proxy on loopback tells addresses; half of the
//! names exist. Meanwhile an operator asks for the list, agents report, and somebody logs in who may.

use crate::fleet::{self, Fleet, Task};
use crate::report::{Bar, Latencies, Report};
use crate::{Mode, control};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tongtu_tests::control::Control;
use tongtu_tests::person::{PASSWORD, Person};
use tongtu_tests::wait;

const A_MINUTE: f64 = 10_000.0;
const AGENTS: u32 = 1_000;
const INTERVAL: Duration = Duration::from_secs(5);
const ADDRESSES: u64 = 250;
/// Between two lists, and between two logins of somebody who may.
const LIST_EVERY: Duration = Duration::from_millis(50);
const LOGIN_EVERY: Duration = Duration::from_secs(1);
/// Slower than this nobody is harmed: the bar on the ratio is of what people notice.
const UNNOTICED_MS: f64 = 50.0;

/// Answers of logins, by status; 0 where there was none.
type Answers = Arc<Mutex<BTreeMap<u16, u64>>>;

/// What others notice.
struct Noticed {
    lists: Latencies,
    logins: Latencies,
    /// How often somebody who may log in was told to come again.
    refused: u64,
    acknowledgements: Value,
}

/// Runs it.
pub(crate) fn run(mode: Mode) -> Report {
    let mut report = Report::new("logins", "10,000 logins a minute with wrong passwords, and everybody else");
    let time = match mode {
        Mode::Short => Duration::from_secs(20),
        Mode::Full => Duration::from_secs(60),
    };
    let mut quiet = play(time, None);
    let answers = Answers::default();
    let mut flooded = play(time, Some(&answers));
    let answers = answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let of = |status: u16| answers.get(&status).copied().unwrap_or(0) as f64;
    let all: u64 = answers.values().sum();
    report.figure("wrong logins answered", all as f64, "");
    report.figure("of these: 401, verified", of(401), "");
    report.figure("of these: 429, without any work", of(429), "");
    report.bar("of these: anything else", all as f64 - of(401) - of(429), "", Bar::AtMost(0.0));
    put(&mut report, "list of hosts", &mut quiet.lists, &mut flooded.lists, true);
    for (name, noticed) in [("without", &quiet), ("with", &flooded)] {
        let p99 = fleet::number(&noticed.acknowledgements, "/steady_acknowledgement_ms/p99");
        report.bar(&format!("acknowledgement p99 {name} the flood"), p99, "ms", Bar::AtMost(500.0));
    }
    put(&mut report, "rightful login", &mut quiet.logins, &mut flooded.logins, false);
    report.figure("rightful login: told to come again", flooded.refused as f64, "times");
    report.bar("rightful login: slowest", flooded.logins.percentile(1.0), "ms", Bar::AtMost(5_000.0));
    report
}

fn put(report: &mut Report, what: &str, quiet: &mut Latencies, flooded: &mut Latencies, has_bar: bool) {
    report.figure(&format!("{what}: how many"), flooded.len() as f64, "");
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        report.figure(&format!("{what}: {name} without the flood"), quiet.percentile(share), "ms");
        report.figure(&format!("{what}: {name} with the flood"), flooded.percentile(share), "ms");
    }
    let (before, after) = (quiet.percentile(0.99), flooded.percentile(0.99));
    let name = format!("{what}: p99, with ÷ without");
    if has_bar && after > UNNOTICED_MS {
        report.bar(&name, after / before, "", Bar::AtMost(2.0));
    } else {
        report.figure(&name, after / before, "");
    }
}

/// A fleet that reports, an operator who asks for the list, and somebody who logs in again and again; with the
/// flood or without, each time in a control of its own.
fn play(time: Duration, flooded: Option<&Answers>) -> Noticed {
    let folder = tempfile::tempdir().expect("a folder");
    let control = &control::start(folder.path(), "");
    let security = Person::first(control);
    let reader = security.create(control, "reader", "operator");
    let _visitor = security.create(control, "visitor", "operator");
    let task = Task { agents: AGENTS, interval: INTERVAL, duration: Duration::from_secs(3_600), scenario: "" };
    let mut fleet = Fleet::start(control, folder.path(), task);
    fleet.wait_reporting(Duration::from_secs(300));
    let (lists, (logins, refused)) = std::thread::scope(|scope| {
        if let Some(answers) = flooded {
            scope.spawn(|| flood(control, answers, time));
        }
        let logins = scope.spawn(|| log_in(control, time));
        (read(control, &reader, time), logins.join().expect("logins are measured"))
    });
    let acknowledgements = fleet.end(Duration::from_secs(120));
    Noticed { lists, logins, refused, acknowledgements }
}

fn client() -> (tokio::runtime::Runtime, reqwest::Client) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    (runtime, reqwest::Client::builder().no_proxy().build().expect("a client without options that can fail"))
}

/// An operator's lists, one after another.
fn read(control: &Control, reader: &Person, time: Duration) -> Latencies {
    let (runtime, client) = client();
    let watch = wait::Stopwatch::start();
    let url = control.url("/api/v1/hosts?limit=200&sort=-cpu_usage_percent");
    let mut lists = Latencies::default();
    while watch.elapsed() < time {
        let request = client.get(&url).header("cookie", reader.cookie());
        lists.time(|| {
            runtime.block_on(async {
                let response = request.send().await.expect("control answers");
                assert!(response.status().is_success(), "{}", response.status());
                response.bytes().await.expect("a whole answer")
            })
        });
        wait::pause(LIST_EVERY);
    }
    lists
}

/// Logins from one's own desk, each until it succeeds; and how often one was told to come again.
fn log_in(control: &Control, time: Duration) -> (Latencies, u64) {
    let (runtime, client) = client();
    let watch = wait::Stopwatch::start();
    let mut logins = Latencies::default();
    let mut refused = 0;
    while watch.elapsed() < time {
        logins.time(|| {
            loop {
                let request = client.post(control.url("/api/v1/session")).header("x-forwarded-for", "192.0.2.1");
                let request = request.json(&json!({ "name": "visitor", "password": PASSWORD }));
                let response = runtime.block_on(request.send()).expect("control answers");
                if response.status().is_success() {
                    return;
                }
                assert_eq!(response.status(), 429, "a rightful login");
                refused += 1;
                let after = response.headers().get("retry-after").and_then(|after| after.to_str().ok());
                let after = after.and_then(|after| after.parse().ok()).expect("when to come again");
                wait::pause(Duration::from_secs(after));
            }
        });
        wait::pause(LOGIN_EVERY);
    }
    (logins, refused)
}

/// Wrong passwords at a steady pace, whatever becomes of those before.
fn flood(control: &Control, answers: &Answers, time: Duration) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client without options that can fail");
    let watch = wait::Stopwatch::start();
    let mut sent = 0_u64;
    while watch.elapsed() < time {
        while (sent as f64) < watch.elapsed().as_secs_f64() * A_MINUTE / 60.0 {
            let one = sent / 2;
            let address = match sent % 2 {
                0 => "198.51.100.1".to_owned(),
                _ => format!("10.1.0.{}", one % ADDRESSES),
            };
            let exists = (one / ADDRESSES).is_multiple_of(2);
            let name = if exists { "visitor".to_owned() } else { format!("nobody-{one}") };
            let body = json!({ "name": name, "password": format!("not the password {sent}") });
            let request = client.post(control.url("/api/v1/session")).header("x-forwarded-for", address).json(&body);
            let answers = Arc::clone(answers);
            runtime.spawn(async move {
                let status = request.send().await.map_or(0, |response| response.status().as_u16());
                *answers.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
            });
            sent += 1;
        }
        wait::pause(Duration::from_millis(5));
    }
    wait::until(Duration::from_secs(30), "the answers of all logins", || {
        let answered: u64 = answers.lock().unwrap_or_else(PoisonError::into_inner).values().sum();
        if answered == sent { Ok(()) } else { Err(format!("{answered} of {sent}")) }
    });
}
