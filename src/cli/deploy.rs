//! `tongtu agent deploy`: agents put on machines over SSH by the running service. This command asks for it, watches it,
//! and lets a person confirm the fingerprints of machines that come for the first time.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::{CliError, Deploy, print};

/// Between two looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn run(asked: Deploy) -> Result<(), CliError> {
    let client = Client::open(&asked.server)?;
    let credential = credential(&asked)?;
    let begun = match &asked.resume {
        Some(id) => client.post(&resume_path(&id.to_string()), &json!({ "credential": credential })).await?,
        None => {
            let machines =
                asked.machines.iter().map(|machine| parsed(machine, &asked)).collect::<Result<Vec<_>, _>>()?;
            let order = json!({
                "action": asked.action, "program": asked.program, "machines": machines, "credential": credential,
                "dry_run": asked.dry_run,
            });
            client.post("/api/v1/rollouts", &order).await?
        }
    };
    let id = begun["id"].as_str().unwrap_or_default().to_owned();
    let ended = loop {
        let ended = watch(&client, &id, !asked.server.json).await?;
        if !confirm(&client, &id, &ended, &asked.host_keys).await? {
            break ended;
        }
        client.post(&resume_path(&id), &json!({ "credential": credential })).await?;
    };
    report(&client, &id, &ended, asked.server.json).await
}

fn resume_path(id: &str) -> String {
    format!("/api/v1/rollouts/{id}/resume")
}

/// `USER@HOST:PORT`, of which only the host is needed. An IPv6 address with a port stands in brackets.
fn parsed(machine: &str, asked: &Deploy) -> Result<Value, CliError> {
    let (user, place) = machine.rsplit_once('@').unwrap_or(("root", machine));
    let (address, port) = match place.rsplit_once(':') {
        Some((address, port)) if !address.contains(':') || address.ends_with(']') => (address, Some(port)),
        _ => (place, None),
    };
    let port = port.map_or(Ok(22), str::parse::<u16>);
    let port = port.map_err(|_| CliError::Stopped(format!("{machine} is not USER@HOST:PORT")))?;
    Ok(json!({
        "address": address, "port": port, "user": user, "site": asked.site,
        "organization": asked.organization.map(|id| id.to_string()),
    }))
}

/// What the files hold. None of it is an argument, which everybody on this machine could read.
fn credential(asked: &Deploy) -> Result<Value, CliError> {
    let mut credential = serde_json::Map::new();
    for (name, file) in [
        ("password", &asked.password_file),
        ("private_key", &asked.key),
        ("passphrase", &asked.passphrase_file),
        ("sudo_password", &asked.sudo_password_file),
    ] {
        if let Some(file) = file {
            let text = secret(file)?;
            // A key ends with a line's end; a password does not.
            let text = if name == "private_key" { text.as_str() } else { text.trim_end_matches(['\r', '\n']) };
            credential.insert(name.to_owned(), text.into());
        }
    }
    Ok(credential.into())
}

fn secret(file: &Path) -> Result<String, CliError> {
    let text =
        if file == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    text.map_err(|error| CliError::Stopped(format!("{}: {error}", file.display())))
}

/// A machine as a line shows it.
fn place(target: &Value) -> String {
    format!("{}:{}", target["address"].as_str().unwrap_or("-"), target["port"])
}

fn shown(target: &Value) -> String {
    let [state, step] = ["state", "step"].map(|field| target[field].as_str().unwrap_or("-"));
    let detail = target["fault"]["detail"].as_str().or(target["agent"].as_str()).unwrap_or_default();
    format!("{:<24} {state:<8} {step:<9} {detail}", place(target)).trim_end().to_owned()
}

fn targets(rollout: &Value) -> &[Value] {
    rollout["targets"].as_array().map_or(&[][..], Vec::as_slice)
}

/// Prints what changes until the roll-out has ended.
async fn watch(client: &Client, id: &str, is_told: bool) -> Result<Value, CliError> {
    let mut last: BTreeMap<u64, String> = BTreeMap::new();
    loop {
        let rollout = client.get(&format!("/api/v1/rollouts/{id}")).await?;
        for target in targets(&rollout).iter().filter(|_| is_told) {
            let line = shown(target);
            let known = last.entry(target["number"].as_u64().unwrap_or(0)).or_default();
            if *known != line {
                print(&line);
                *known = line;
            }
        }
        if !rollout["finished_ms"].is_null() {
            return Ok(rollout);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a person, or the command line, confirmed a host key that was not known.
async fn confirm(client: &Client, id: &str, rollout: &Value, given: &[String]) -> Result<bool, CliError> {
    let mut is_any = false;
    for target in targets(rollout).iter().filter(|target| target["fault"]["kind"] == "host_key_unknown") {
        let fingerprint = target["host_key"].as_str().unwrap_or_default();
        if given.iter().any(|one| one == fingerprint) || is_confirmed(&place(target), fingerprint) {
            let path = format!("/api/v1/rollouts/{id}/targets/{}/host-key", target["number"]);
            client.post(&path, &json!({ "fingerprint": fingerprint })).await?;
            is_any = true;
        }
    }
    Ok(is_any)
}

fn is_confirmed(place: &str, fingerprint: &str) -> bool {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        eprintln!("{place}: compare {fingerprint} with the machine's own and add --host-key {fingerprint}");
        return false;
    }
    eprint!(
        "{place} shows the host key {fingerprint} for the first time.\nCompare it with what this prints on the machine: \
         for f in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $f; done\nIs it among them? (yes/no) "
    );
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}

/// What was said on machines that are not done, and of a dry run on all.
async fn report(client: &Client, id: &str, rollout: &Value, is_json: bool) -> Result<(), CliError> {
    let is_failed = |target: &&Value| target["state"] != "done";
    if is_json {
        print(&rollout.to_string());
    } else {
        let is_dry = rollout["dry_run"] == true;
        for target in targets(rollout).iter().filter(|target| is_dry || is_failed(target)) {
            let transcript = client.get(&format!("/api/v1/rollouts/{id}/targets/{}", target["number"])).await?;
            print(&format!("--- {}", place(target)));
            for line in transcript["lines"].as_array().into_iter().flatten() {
                print(&format!("    {}", line["text"].as_str().unwrap_or_default()));
            }
        }
    }
    match targets(rollout).iter().filter(is_failed).count() {
        0 => Ok(()),
        failed => Err(CliError::Stopped(format!(
            "{failed} of {} machines are not done; `tongtu agent deploy --resume {id}` goes on with them",
            targets(rollout).len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Server;
    use super::*;

    fn asked() -> Deploy {
        Deploy {
            machines: Vec::new(),
            action: "install".to_owned(),
            program: "host".to_owned(),
            site: "east".to_owned(),
            organization: None,
            key: None,
            passphrase_file: None,
            password_file: None,
            sudo_password_file: None,
            host_keys: Vec::new(),
            dry_run: false,
            resume: None,
            server: Server { data: "data".into(), server: None, token_file: None, ca: None, json: false },
        }
    }

    #[test]
    fn machines_are_read_as_ssh_writes_them() {
        for (text, address, port, user) in [
            ("web-1", "web-1", 22, "root"),
            ("ops@10.0.0.1:2222", "10.0.0.1", 2222, "ops"),
            ("fd00::1", "fd00::1", 22, "root"),
            ("a@[fd00::1]:23", "[fd00::1]", 23, "a"),
        ] {
            let machine = parsed(text, &asked()).expect("read");
            assert_eq!(
                machine,
                json!({ "address": address, "port": port, "user": user, "site": "east", "organization": null }),
                "{text}"
            );
        }
        assert!(parsed("h:port", &asked()).is_err() && parsed("h:99999", &asked()).is_err());
    }

    #[test]
    fn secrets_come_from_files() {
        let folder = tempfile::tempdir().expect("a directory");
        let [key, password] = ["key", "password"].map(|name| folder.path().join(name));
        std::fs::write(&key, "-----BEGIN\nEND-----\n").expect("room");
        std::fs::write(&password, "opensesame\n").expect("room");
        let files = Deploy { key: Some(key), password_file: Some(password), ..asked() };
        let expected = json!({ "password": "opensesame", "private_key": "-----BEGIN\nEND-----\n" });
        assert_eq!(credential(&files).expect("read"), expected);
        let missing = Deploy { password_file: Some("/nowhere/at/all".into()), ..asked() };
        assert!(credential(&missing).expect_err("no file").to_string().contains("/nowhere/at/all"));
    }

    #[test]
    fn a_machine_is_a_line() {
        let target = json!({ "address": "h", "port": 22, "state": "failed", "step": "connect",
            "fault": { "kind": "login_refused", "detail": "refused" }, "agent": null });
        assert_eq!(shown(&target), format!("{:<24} failed   connect   refused", "h:22"));
    }
}
