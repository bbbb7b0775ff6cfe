//! `tongtu-agent`, as a person runs it. With control it is run in the integration tests.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, Output},
};

fn run(command: &mut Command) -> Output {
    command.output().expect("the agent starts")
}

fn agent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tongtu-agent"))
}

#[test]
fn it_says_what_is_collected_and_why_the_rest_is_not() {
    let output = run(agent().arg("check"));
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("COLLECTOR"), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("stat ")), "{text}");
    assert!(lines.last().is_some_and(|line| line.contains(" values by ")), "{text}");
}

#[test]
fn its_json_holds_every_value_and_the_inventory() {
    let output = run(agent().args(["check", "--json"]));
    assert!(output.status.success());
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one document");
    let collectors = document["collectors"].as_array().expect("a list");
    let counted: usize = collectors.iter().map(|c| c["values"].as_object().expect("values").len()).sum();
    assert_eq!(document["totals"]["values"], counted);
    let load = collectors.iter().find(|c| c["name"] == "loadavg").expect("listed");
    assert!(load["values"]["node_load1"].is_string(), "a value is exact, as text: {load}");
    assert_eq!(document["inventory"]["agent_version"], env!("CARGO_PKG_VERSION"));
    for collector in collectors {
        let reason = collector["reason"].is_string();
        assert_eq!(collector["outcome"] == "collected", !reason, "{collector}");
    }
}

#[test]
fn it_needs_no_root() {
    if !rustix::process::geteuid().is_root() {
        return; // The other tests are it.
    }
    // Built as root, the binary may lie where nobody else may look.
    let directory = tempfile::tempdir().expect("a directory");
    let binary = directory.path().join("tongtu-agent");
    // Copied by another process: a test that forks while we write would keep the file busy.
    let copied = run(Command::new("cp").arg(env!("CARGO_BIN_EXE_tongtu-agent")).arg(&binary));
    assert!(copied.status.success());
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("set");
    let output = run(Command::new(&binary).args(["check", "--json"]).uid(65_534).gid(65_534));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(document["totals"]["failed"], 0, "{document:#}");
}

/// It ends with 1 and one sentence of what is wrong.
#[track_caller]
fn refused(arguments: &[&str], part: &str) {
    let output = run(agent().args(arguments));
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
    assert!(text.starts_with("tongtu-agent: ") && text.contains(part), "{arguments:?}: {text}");
    assert_eq!(text.trim().lines().count(), 1, "{text}");
    assert!(output.stdout.is_empty());
}

#[test]
fn what_cannot_work_is_one_sentence() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    refused(&["run", "--data", &path("none")], "enroll");
    refused(&["run", "--data", &path("")], "enroll");
    refused(&["enroll", "--token", "nonsense", "--data", &path("new")], "token");
    fs::write(directory.path().join("file"), "").expect("written");
    refused(&["run", "--data", &path("file")], "file");
}

#[test]
fn a_wrong_word_is_a_usage_error_and_help_teaches() {
    for wrong in [&["chekc"][..], &["enroll"], &["enroll", "--token", "x"], &["run"], &[]] {
        assert_eq!(run(agent().args(wrong)).status.code(), Some(2), "{wrong:?}");
    }
    for (arguments, part) in [
        (&["--help"][..], "tongtu agent token"),
        (&["enroll", "--help"], "fingerprint"),
        (&["run", "--help"], "max_size"),
        (&["check", "--help"], "--json"),
    ] {
        let help = run(agent().args(arguments));
        let text = String::from_utf8(help.stdout).expect("text");
        assert!(help.status.success() && text.contains(part), "{text}");
    }
}
