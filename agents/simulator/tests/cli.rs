//! The command line: what a person sees before a fleet is played.

use std::process::{Command, Output};

/// A token that leads nowhere: port 1 of this machine.
fn token() -> String {
    tongtu_protocol::token::Token { address: "127.0.0.1:1".to_owned(), ca_fingerprint: [1; 32], secret: [2; 24] }
        .to_string()
}

fn simulator(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_tongtu-simulator")).args(arguments).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn help_teaches_scenarios_results_and_exit_codes() {
    let (code, help, _) = simulator(&["--help"]);
    assert_eq!(code, Some(0));
    for word in
        ["SCENARIO", "saturated", "restored_snapshot", "frames_acknowledged", "tongtu_simulator_sequence", "EXIT CODE"]
    {
        assert!(help.contains(word), "{word} is not explained:\n{help}");
    }
}

#[test]
fn a_scenario_with_an_unknown_key_is_one_clear_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("fleet.toml");
    std::fs::write(&path, "pace = \"paced\"\n").expect("written");
    let (code, _, error) = simulator(&["--token", &token(), "--scenario", path.to_str().expect("UTF-8")]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("fleet.toml") && error.contains("unknown field `pace`"), "{error}");
}

#[test]
fn a_wrong_token_or_duration_is_a_usage_error() {
    let (code, _, error) = simulator(&["--token", "tongtu2_x"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("not an enrolment token"), "{error}");
    let (code, _, error) = simulator(&["--token", &token(), "--interval", "15"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("15s"), "{error}");
}
