//! Control over TLS: what the command line, another machine and who gave wrong files see.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tongtu_tests::control::Control;
use tongtu_tests::process::{self, Output};
use tongtu_tests::{http, wait};

const SOON: Duration = Duration::from_secs(60);

/// `tongtu agent list` with these arguments.
fn list(arguments: &[&str]) -> Output {
    let mut command = Command::new(process::binary("tongtu"));
    command.args(["agent", "list"]).args(arguments);
    process::run(command, SOON)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A certificate of nobody's authority for `control.test`, and its key.
fn write_certificate(certificate: &Path, key: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["control.test".to_owned()]).expect("a certificate");
    std::fs::write(certificate, made.cert.pem()).expect("written");
    std::fs::write(key, made.signing_key.serialize_pem()).expect("written");
    made.cert.pem()
}

fn answers(control: &Control) {
    wait::until(SOON, "the command line is answered", || {
        let output = list(&["--data", text(&control.data)]);
        output.status.success().then_some(()).ok_or(output.stderr)
    });
}

#[test]
fn the_command_line_knows_a_self_made_certificate() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path()).with_configuration("[http]\ntls = \"self_made\"\n");
    control.spawn();
    answers(&control);

    // From elsewhere: with the authority's certificate, and not without it.
    let url = format!("https://{}", control.http());
    let said = std::fs::read_to_string(control.data.join("http-address")).expect("its address");
    assert_eq!(said.trim(), url);
    let (token, ca) = (control.data.join("api-token"), control.data.join("ca/ca.pem"));
    let remote = ["--server", &url, "--token-file", text(&token)];
    let output = list(&[&remote[..], &["--ca", text(&ca)]].concat());
    assert!(output.status.success(), "{}", output.stderr);
    let output = list(&remote);
    assert!(!output.status.success() && output.stderr.contains("certificate"), "{}", output.stderr);
    assert_eq!(output.stderr.trim().lines().count(), 1, "{}", output.stderr);

    // Another authority's data directory does not trust it.
    let other = directory.path().join("other");
    std::fs::create_dir_all(other.join("ca")).expect("a folder");
    std::fs::copy(&token, other.join("api-token")).expect("copied");
    std::fs::copy(control.data.join("http-address"), other.join("http-address")).expect("copied");
    write_certificate(&other.join("ca/ca.pem"), &other.join("key.pem"));
    let output = list(&["--data", text(&other)]);
    assert!(!output.status.success() && output.stderr.contains("certificate"), "{}", output.stderr);
    assert!(control.interrupt().success());
}

#[test]
fn files_are_shown_to_people_and_the_command_line_needs_none_of_them() {
    let directory = tempfile::tempdir().expect("a folder");
    let [certificate, key] = ["https.pem", "https-key.pem"].map(|name| directory.path().join(name));
    let pem = write_certificate(&certificate, &key);
    let configuration = format!(
        "[http]\ntls = \"files\"\ntls_certificate = \"{}\"\ntls_key = \"{}\"\n",
        certificate.display(),
        key.display()
    );
    let mut control = Control::new(directory.path()).with_configuration(&configuration);
    control.spawn();
    answers(&control);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let known = reqwest::Certificate::from_pem(pem.as_bytes()).expect("PEM");
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([known]).resolve("control.test", control.http());
    let client = client.build().expect("a client");
    let url = format!("https://control.test:{}/healthz", control.http().port());
    let answer = http::wait(client.get(url).send()).expect("trusted");
    assert_eq!(answer.status(), 200);
    assert!(control.interrupt().success());

    // The key of another certificate ends the start with one sentence.
    write_certificate(&directory.path().join("other.pem"), &key);
    let output = process::run(control.command(), SOON);
    assert!(!output.status.success());
    let said: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("tongtu: ")).collect();
    assert!(
        said.len() == 1 && said[0].contains("https-key.pem") && said[0].contains("is not that of"),
        "{}",
        output.stderr
    );
}
