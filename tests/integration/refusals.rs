//! Bad input at the command lines: one clear sentence, and an exit code that is not 0.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tongtu_tests::agent::Agent;
use tongtu_tests::control::Control;
use tongtu_tests::http;
use tongtu_tests::process::{self, Output};
use tongtu_tests::tmpfs::Tmpfs;
use tongtu_tests::wait::{self, Stopwatch};

const SOON: Duration = Duration::from_secs(60);

/// The refusal is one sentence that has these words, and the exit code says that it failed.
#[track_caller]
fn is_refused(output: &Output, words: &[&str]) {
    let code = output.status.code();
    assert!(matches!(code, Some(1 | 2)), "exit code {code:?}\n{}{}", output.stdout, output.stderr);
    // Logs of the time before the refusal may precede it.
    let last = output.stderr.lines().last().unwrap_or_default();
    for word in words {
        assert!(last.contains(word), "{word:?} is not in the last line: {}", output.stderr);
    }
    for noise in ["panicked", "RUST_BACKTRACE", "Os {", "Error {", "Some("] {
        assert!(!output.stderr.contains(noise), "not for people: {}", output.stderr);
    }
}

/// Starts control where it must refuse to.
#[track_caller]
fn serve(control: &Control) -> Output {
    process::run(control.command(), SOON)
}

#[test]
fn a_bad_configuration_names_its_fault() {
    for (toml, words) in [
        ("[telemetry]\nno_such_key = 1\n", ["no_such_key"]),
        ("[no_such_section]\n", ["no_such_section"]),
        ("[telemetry\n", ["line 1"]),
    ] {
        let directory = tempfile::tempdir().expect("a folder");
        is_refused(&serve(&Control::new(directory.path()).with_configuration(toml)), &words);
    }
    let directory = tempfile::tempdir().expect("a folder");
    let mut command = Control::new(directory.path()).command();
    command.args(["--config", "/no/such/tongtu.toml"]);
    is_refused(&process::run(command, SOON), &["/no/such/tongtu.toml"]);
}

#[test]
fn a_data_directory_serves_one() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut first = Control::new(directory.path());
    first.start();
    let second = Control::new(directory.path()).with_data(&first.data);
    is_refused(&serve(&second), &["in use"]);
    // The first one is not harmed, and after its end the directory is free.
    assert_eq!(first.get("/healthz").status, 200);
    first.interrupt();
    Control::new(directory.path()).with_data(&first.data).start();
}

#[test]
fn an_unwritable_data_directory_is_named() {
    let directory = tempfile::tempdir().expect("a folder");
    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("a file");
    is_refused(&serve(&Control::new(directory.path()).with_data(&file.join("data"))), &["file"]);

    if tongtu_tests::has("root, to mount a file system", tongtu_tests::is_root()) {
        let read_only = Tmpfs::mount(directory.path(), 1);
        let remount =
            Command::new("mount").args(["-o", "remount,ro"]).arg(read_only.path()).status().expect("mount runs");
        assert!(remount.success());
        is_refused(&serve(&Control::new(directory.path()).with_data(read_only.path())), &["small"]);
    }
}

#[test]
fn a_taken_port_is_named() {
    let directory = tempfile::tempdir().expect("a folder");
    let control = Control::new(directory.path());
    let _taken = TcpListener::bind(control.agents).expect("a free port");
    is_refused(&serve(&control), &[&control.agents.to_string()]);

    let control = Control::new(directory.path());
    let _taken = TcpListener::bind(control.http()).expect("a free port");
    is_refused(&serve(&control), &[&control.http().to_string()]);
}

#[test]
fn plain_http_is_for_loopback_only() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(process::binary("tongtu"));
    command.args(["serve", "--http", "0.0.0.0:0", "--agents", "127.0.0.1:0", "--data"]);
    command.arg(directory.path().join("data"));
    is_refused(&process::run(command, SOON), &["loopback"]);
}

#[test]
fn a_command_line_without_control_says_so() {
    let directory = tempfile::tempdir().expect("a folder");
    let control = Control::new(directory.path());
    is_refused(&control.tongtu(&["agent", "list"]), &[&control.data.display().to_string()]);
}

#[test]
fn routes_need_the_token() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path());
    control.start();
    // Every operation of the API's own document, so that a new one cannot be forgotten.
    let mut openapi = Command::new(process::binary("tongtu"));
    openapi.arg("openapi");
    let document: serde_json::Value = serde_json::from_str(&process::run(openapi, SOON).stdout).expect("JSON");
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            // To become somebody, and the health checks: the document says so of each.
            if operation["security"] == serde_json::json!([{}]) {
                continue;
            }
            let url = control.url(&path.replace("{id}", "x_1"));
            for token in [None, Some("wrong")] {
                let answer = http::request(&method.to_uppercase(), &url, token, None).expect("an answer");
                assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text);
                assert_eq!(answer.content_type, "application/problem+json", "{method} {path}");
                asked += 1;
            }
        }
    }
    assert!(asked >= 20, "only {asked} questions");
    for route in ["/healthz", "/readyz"] {
        assert_eq!(http::get(&control.url(route), None).expect("an answer").status, 200);
    }
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
    };
    assert_eq!(mode(&control.data.join("api-token")), 0o600);
    assert_eq!(mode(&control.data.join("ca/ca-key.pem")), 0o600);
}

#[test]
fn an_enrolment_token_is_good_once_for_its_control_and_its_time() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path());
    control.start();
    let agent = |name: &str| Agent::new(directory.path()).with_data(&directory.path().join(name));

    // Reused.
    let token = control.enrolment_token(1);
    let first = agent("first").try_enroll(&token);
    assert!(first.status.success(), "{}", first.stderr);
    is_refused(&agent("second").try_enroll(&token), &["token", "used"]);

    // Expired: the time is control's, so what passes here passes there.
    let short = control.tongtu(&["agent", "token", "--ttl", "1s"]);
    assert!(short.status.success(), "{}", short.stderr);
    let made = Stopwatch::start();
    wait::until(SOON, "a second passes", || (made.elapsed().as_millis() > 1_100).then_some(()).ok_or(String::new()));
    is_refused(&agent("third").try_enroll(short.stdout.trim()), &["expired"]);

    // Foreign: it leads to this control, but names the authority of another. The agent must notice
    // before it says the secret.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut other = Control::new(elsewhere.path()).with_advertised(control.agents);
    let foreign = other.start().enrolment_token(1);
    is_refused(&agent("fourth").try_enroll(&foreign), &["fingerprint"]);
    // And where nobody is: its own control, which has ended.
    let third = tempfile::tempdir().expect("a folder");
    let mut ended = Control::new(third.path());
    ended.start();
    let nobody = ended.enrolment_token(1);
    ended.interrupt();
    is_refused(&agent("fourth").try_enroll(&nobody), &[&ended.agents.to_string()]);
    // No token at all.
    is_refused(&agent("fifth").try_enroll("nonsense"), &["token"]);
    // Nothing was written for those that were refused.
    for name in ["second", "third", "fourth", "fifth"] {
        assert!(!agent(name).data.join("identity.json").exists(), "{name} has an identity");
    }
}

#[test]
fn an_agent_that_is_not_enrolled_says_so() {
    let directory = tempfile::tempdir().expect("a folder");
    let agent = Agent::new(directory.path());
    is_refused(&process::run(agent.command(), SOON), &["enroll"]);
}
