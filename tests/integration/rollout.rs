//! Agents rolled out over SSH: to a real OpenSSH server, with the real program, which then truly reports. Each fault is
//! told as what it is, and nothing secret is kept.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tongtu_tests::agent::Agent;
use tongtu_tests::control::{Control, listed};
use tongtu_tests::guest::Plan;
use tongtu_tests::hypervisor::{self, Hypervisor};
use tongtu_tests::line::Line;
use tongtu_tests::person::Person;
use tongtu_tests::sshd::{self, Kind, PASSWORD, Sshd};
use tongtu_tests::{database, http, process, wait};

/// A roll-out to one machine, on a busy machine of ours.
const DONE: Duration = Duration::from_secs(240);

/// Control with programs to roll out.
struct Place {
    folder: TempDir,
    control: Control,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let agents = folder.path().join("agents");
        std::fs::create_dir_all(&agents).expect("room");
        let toml = format!("[agents]\ndirectory = \"{}\"\n", agents.display());
        let control = Control::new(folder.path()).with_configuration(&toml);
        let mut place = Self { folder, control };
        place.offer(b"", "2.17");
        place.control.start();
        place
    }

    /// The built agent of a host as the program to roll out, with some bytes behind its end that make it another build.
    fn offer(&self, more: &[u8], glibc: &str) {
        self.offer_built("tongtu-agent", more, glibc);
    }

    /// The same of any agent, besides what is there already; the directory that its version has on machines.
    fn offer_built(&self, name: &str, more: &[u8], glibc: &str) -> String {
        let file = self.folder.path().join("agents").join(name);
        let mut command = Command::new("strip");
        command.arg("-o").arg(&file).arg(process::binary(name));
        let stripped = process::run(command, DONE);
        assert!(stripped.status.success(), "{}", stripped.stderr);
        let mut program = std::fs::read(&file).expect("a program");
        program.extend_from_slice(more);
        self.offer_program(name, &program, glibc)
    }

    fn offer_program(&self, name: &str, program: &[u8], glibc: &str) -> String {
        let agents = self.folder.path().join("agents");
        std::fs::write(agents.join(name), program).expect("room");
        let manifest = agents.join("manifest.json");
        let text = std::fs::read_to_string(&manifest).unwrap_or_else(|_| r#"{"packages":[]}"#.to_owned());
        let known: Value = serde_json::from_str(&text).expect("JSON");
        let mut packages: Vec<Value> = known["packages"].as_array().expect("packages").clone();
        packages.retain(|package| package["program"] != name);
        let sha256 = sha256(program);
        let directory = format!("{}-{}", env!("CARGO_PKG_VERSION"), &sha256[..8]);
        packages.push(json!({
            "program": name, "version": env!("CARGO_PKG_VERSION"), "architecture": std::env::consts::ARCH,
            "glibc": glibc, "sha256": sha256, "size": program.len(), "file": name,
        }));
        std::fs::write(manifest, json!({ "packages": packages }).to_string()).expect("room");
        directory
    }

    fn post(&self, route: &str, body: &Value) -> http::Response {
        let url = self.control.url(route);
        http::request("POST", &url, Some(&self.control.token()), Some(body)).expect("an answer")
    }

    /// Begins a roll-out to one machine; its id.
    #[track_caller]
    fn begin(&self, machine: &Value, order: &Value) -> String {
        self.begin_on(&json!([machine]), order)
    }

    #[track_caller]
    fn begin_on(&self, machines: &Value, order: &Value) -> String {
        let mut order = order.clone();
        order["machines"] = machines.clone();
        let begun = self.post("/api/v1/rollouts", &order);
        assert_eq!(begun.status, 202, "{}", begun.text);
        begun.json()["id"].as_str().expect("an id").to_owned()
    }

    /// The only machine of a roll-out that has ended.
    #[track_caller]
    fn ended(&self, id: &str) -> Value {
        self.all_ended(id).swap_remove(0)
    }

    #[track_caller]
    fn all_ended(&self, id: &str) -> Vec<Value> {
        let route = format!("/api/v1/rollouts/{id}");
        wait::until(DONE, "the roll-out has ended", || {
            let rollout = self.control.get(&route).json();
            if rollout["finished_ms"].is_null() { Err(rollout.to_string()) } else { Ok(listed(&rollout["targets"])) }
        })
    }

    #[track_caller]
    fn carried_out(&self, machine: &Value, order: &Value) -> (String, Value) {
        let id = self.begin(machine, order);
        let target = self.ended(&id);
        (id, target)
    }

    #[track_caller]
    fn resumed(&self, id: &str, credential: &Value) -> Value {
        self.all_resumed(id, credential).swap_remove(0)
    }

    #[track_caller]
    fn all_resumed(&self, id: &str, credential: &Value) -> Vec<Value> {
        let resumed = self.post(&format!("/api/v1/rollouts/{id}/resume"), &json!({ "credential": credential }));
        assert_eq!(resumed.status, 202, "{}", resumed.text);
        self.all_ended(id)
    }

    /// A person compares and confirms.
    #[track_caller]
    fn confirmed(&self, id: &str, fingerprint: &str) -> http::Response {
        self.confirmed_of(id, 1, fingerprint)
    }

    #[track_caller]
    fn confirmed_of(&self, id: &str, number: u32, fingerprint: &str) -> http::Response {
        self.post(&format!("/api/v1/rollouts/{id}/targets/{number}/host-key"), &json!({ "fingerprint": fingerprint }))
    }

    /// What was said of its only machine, as one text (in Chinese, as nobody asked for another language).
    #[track_caller]
    fn transcript(&self, id: &str) -> String {
        let said = self.control.get(&format!("/api/v1/rollouts/{id}/targets/1")).json();
        let lines: Vec<_> = said["lines"].as_array().expect("lines").iter().map(|line| line["text"].clone()).collect();
        lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn at(machine: &Sshd) -> Value {
    json!({ "address": "127.0.0.1", "port": machine.address.port(), "site": "east" })
}

fn order(action: &str, credential: &Value) -> Value {
    json!({ "action": action, "credential": credential })
}

#[track_caller]
fn assert_done(place: &Place, id: &str, target: &Value) {
    assert_eq!(target["state"], "done", "{target}\n{}", place.transcript(id));
}

#[track_caller]
fn assert_failed(target: &Value, step: &str, kind: &str) {
    let found = (target["state"].as_str(), target["step"].as_str(), target["fault"]["kind"].as_str());
    assert_eq!(found, (Some("failed"), Some(step), Some(kind)), "{target}");
    assert!(target["fault"]["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{target}");
}

/// Nothing that control wrote holds a text.
#[track_caller]
fn assert_nowhere(directory: &Path, secret: &str) {
    for entry in std::fs::read_dir(directory).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            assert_nowhere(&path, secret);
        } else if let Ok(bytes) = std::fs::read(&path) {
            let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_there, "{} holds a secret", path.display());
        }
    }
}

#[test]
fn an_agent_is_put_there_brought_up_to_date_taken_back_and_removed() {
    if !sshd::is_possible() {
        return;
    }
    let place = Place::new();
    let machine = Sshd::start(place.folder.path(), Kind::Systemd);
    let by_password = json!({ "password": PASSWORD });
    let by_key = json!({ "private_key": machine.key() });

    // Nobody knows the machine: nothing is sent, its fingerprint is shown.
    let (first, target) = place.carried_out(&at(&machine), &order("install", &by_password));
    assert_failed(&target, "connect", "host_key_unknown");
    assert_eq!(target["host_key"], machine.fingerprint());
    assert!(!machine.log().contains("password"), "no login was tried:\n{}", machine.log());
    let wrong = place.confirmed(&first, "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(wrong.status, 409, "{}", wrong.text);
    let right = place.confirmed(&first, &machine.fingerprint());
    assert_eq!(right.status, 200, "{}", right.text);

    // It goes on, and the agent reports.
    let target = place.resumed(&first, &by_password);
    assert_done(&place, &first, &target);
    let agent = target["agent"].as_str().expect("an agent").to_owned();
    let agents = place.control.agents();
    assert_eq!((agents.len(), &agents[0]["id"], &agents[0]["state"]), (1, &json!(agent), &json!("up")), "{agents:?}");
    wait::until(DONE, "its host is there", || match place.control.hosts().len() {
        1 => Ok(()),
        hosts => Err(format!("{hosts} hosts")),
    });
    let version = target["version"].as_str().expect("a version").to_owned();
    assert_eq!(machine.link("/opt/tongtu-agent/current").as_deref(), Some(version.as_str()));
    // As a user of its own, whose data nobody else reads.
    let passwd = std::fs::read_to_string(machine.path("/etc/passwd")).expect("users");
    assert!(passwd.lines().any(|line| line.starts_with("tongtu-agent:") && line.ends_with("nologin")), "{passwd}");
    assert!(!std::fs::read_to_string("/etc/passwd").expect("users").contains("tongtu-agent:"), "not here");
    {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let data = std::fs::metadata(machine.path("/var/lib/tongtu-agent")).expect("its data");
        assert_eq!(data.permissions().mode() & 0o077, 0);
        assert_ne!(data.uid(), 0);
    }

    // systemd has shut it in, and it sees the machine as it is all the same.
    assert_eq!(machine.run_there(&["systemctl", "is-enabled", "tongtu-agent.service"]).trim(), "enabled");
    let id = machine.run_there(&["systemctl", "show", "--property=MainPID", "--value", "tongtu-agent.service"]);
    let status = std::fs::read_to_string(machine.path(&format!("/proc/{}/status", id.trim()))).expect("its process");
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
    let measured = wait::until(DONE, "its measurements are there", || {
        let source = listed(&place.control.get("/api/v1/sources").json()).swap_remove(0);
        let text = place.control.get(&format!("/metrics/sources/{}", source["id"].as_str().expect("an id"))).text;
        if text.contains("node_timex_sync_status") { Ok(text) } else { Err(text) }
    });
    let root = measured
        .lines()
        .find(|line| line.starts_with("node_filesystem_readonly{") && line.contains("mountpoint=\"/\""));
    assert!(root.is_some_and(|line| line.ends_with(" 0")), "the machine's root is writable:\n{measured}");
    assert!(!measured.contains("mountpoint=\"/var/lib/tongtu-agent\""), "{measured}");

    // Once more is no harm: the same agent, no second token's use.
    let (again, target) = place.carried_out(&at(&machine), &order("install", &by_key));
    assert_done(&place, &again, &target);
    assert_eq!(target["agent"], agent);
    assert_eq!(place.control.agents().len(), 1);
    assert!(place.transcript(&again).contains("程序已在目标主机上"), "{}", place.transcript(&again));

    // Given to another organisation it stays with its own, and that is said.
    let department = Person::first(&place.control).organization(&place.control, "财政局");
    let mut given = at(&machine);
    given["organization"] = department.as_str().into();
    let (kept, target) = place.carried_out(&given, &order("install", &by_key));
    assert_done(&place, &kept, &target);
    assert_eq!((&target["agent"], &place.control.agents()[0]["organization"]), (&json!(agent), &json!("org_1")));
    let said = place.transcript(&kept);
    assert!(said.contains(&format!("它仍归 org_1，不会改归 {department}")), "{said}");

    // The same machine under two names: one of them is worked on, the other one is done afterwards.
    let named = json!({ "address": "localhost", "port": machine.address.port() });
    let both = place.begin_on(&json!([at(&machine), named]), &order("install", &by_key));
    let targets = place.all_ended(&both);
    assert_eq!(targets[0]["state"], "done", "{targets:?}");
    assert_failed(&targets[1], "connect", "host_key_unknown");
    assert_eq!(place.confirmed_of(&both, 2, &machine.fingerprint()).status, 200);
    let both = place.begin_on(&json!([at(&machine), named]), &order("install", &by_key));
    let (done, busy): (Vec<_>, Vec<_>) =
        place.all_ended(&both).into_iter().partition(|target| target["state"] == "done");
    assert_eq!((done.len(), busy.len()), (1, 1), "{done:?}{busy:?}");
    assert_failed(&busy[0], "check", "busy");
    for target in place.all_resumed(&both, &by_key) {
        assert_eq!((&target["state"], &target["agent"]), (&json!("done"), &json!(agent)), "{target}");
    }
    assert_eq!(place.control.agents().len(), 1);

    // An agent that takes another control for its own is not touched, whatever number it has there.
    let authority = machine.path("/var/lib/tongtu-agent/ca.pem");
    let ours = std::fs::read(&authority).expect("an authority");
    std::fs::write(&authority, "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n").expect("room");
    let (_, target) = place.carried_out(&at(&machine), &order("upgrade", &by_key));
    assert_failed(&target, "check", "foreign");
    std::fs::write(&authority, ours).expect("room");

    // Another build, by the command line; then back, by it as well.
    place.offer(b"another build", "2.17");
    let deploy = |action: &str| {
        let mut command = Command::new(process::binary("tongtu"));
        command.args(["agent", "deploy", &format!("root@{}", machine.address), "--action", action, "--key"]);
        command.arg(machine.key_file()).arg("--data").arg(&place.control.data);
        process::run(command, DONE)
    };
    let upgraded = deploy("upgrade");
    assert!(upgraded.status.success(), "{}{}", upgraded.stdout, upgraded.stderr);
    assert!(upgraded.stdout.contains("done") && upgraded.stdout.contains(&agent), "{}", upgraded.stdout);
    let newer = machine.link("/opt/tongtu-agent/current").expect("a version");
    assert_ne!(newer, version);
    assert_eq!(machine.link("/opt/tongtu-agent/previous").as_deref(), Some(version.as_str()));
    let back = deploy("rollback");
    assert!(back.status.success(), "{}{}", back.stdout, back.stderr);
    assert_eq!(machine.link("/opt/tongtu-agent/current").as_deref(), Some(version.as_str()));
    assert_eq!(machine.link("/opt/tongtu-agent/previous").as_deref(), Some(newer.as_str()));

    // A build that ends at its start: what ran before runs again.
    let bad =
        format!("#!/bin/sh\n[ \"$1\" = --version ] && exec echo tongtu-agent {}\nexit 3\n", env!("CARGO_PKG_VERSION"));
    place.offer_program("tongtu-agent", bad.as_bytes(), "2.17");
    let (failed, target) = place.carried_out(&at(&machine), &order("upgrade", &by_key));
    assert_failed(&target, "start", "not_started");
    assert!(
        place.transcript(&failed).contains(&format!("已恢复并启动先前的版本 {version}")),
        "{}",
        place.transcript(&failed)
    );
    assert_eq!(machine.link("/opt/tongtu-agent/current").as_deref(), Some(version.as_str()));
    assert_eq!(machine.run_there(&["systemctl", "is-active", "tongtu-agent.service"]).trim(), "active");

    // A dry run looks, says what it would do, and does none of it.
    let dry = json!({ "action": "uninstall", "credential": by_key, "dry_run": true });
    let (dry, target) = place.carried_out(&at(&machine), &dry);
    assert_done(&place, &dry, &target);
    let said = place.transcript(&dry);
    assert!(said.contains(&format!("已安装：{version}")), "{said}");
    assert_eq!(said.matches("将会：").count(), 2, "{said}");
    assert!(machine.path("/opt/tongtu-agent").exists());

    let (removed, target) = place.carried_out(&at(&machine), &order("uninstall", &by_key));
    assert_done(&place, &removed, &target);
    for path in ["/opt/tongtu-agent", "/var/lib/tongtu-agent", "/etc/systemd/system/tongtu-agent.service"] {
        assert!(!machine.path(path).exists(), "{path} is still there");
    }
    let (nothing, target) = place.carried_out(&at(&machine), &order("upgrade", &by_key));
    assert_failed(&target, "check", "not_installed");
    assert!(!place.transcript(&nothing).is_empty());

    // All of it is in the audit log, and no secret is anywhere.
    let of_the_key = machine.key().lines().nth(1).expect("base64").to_owned();
    assert_nowhere(&place.control.data, PASSWORD);
    assert_nowhere(&place.control.data, &of_the_key);
    let log = std::fs::read_to_string(place.folder.path().join("control.log")).expect("a log");
    assert!(!log.contains(PASSWORD) && !log.contains(&of_the_key) && !log.contains("tongtu1_"), "{log}");
    let verified = place.control.tongtu(&["audit", "verify"]);
    assert!(verified.status.success(), "{}{}", verified.stdout, verified.stderr);
}

#[test]
fn what_stands_in_the_way_is_told_as_what_it_is() {
    if !sshd::is_possible() {
        return;
    }
    let place = Place::new();
    // Too little room for any program of ours.
    let mut machine = Sshd::start(place.folder.path(), Kind::Full);
    let by_key = json!({ "private_key": machine.key() });
    let (first, target) = place.carried_out(&at(&machine), &order("install", &by_key));
    assert_failed(&target, "connect", "host_key_unknown");
    assert_eq!(place.confirmed(&first, &machine.fingerprint()).status, 200);

    let (_, target) = place.carried_out(&at(&machine), &order("install", &json!({ "password": "guessed" })));
    assert_failed(&target, "connect", "login_refused");
    let other = json!({ "private_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nbm90IGEga2V5\n-----END OPENSSH PRIVATE KEY-----\n" });
    let (_, target) = place.carried_out(&at(&machine), &order("install", &other));
    assert_failed(&target, "connect", "key_unreadable");

    let mut nobody = at(&machine);
    nobody["user"] = "deployer".into();
    let (_, target) = place.carried_out(&nobody, &order("install", &by_key));
    assert_failed(&target, "connect", "no_root");

    let (_, target) = place.carried_out(&at(&machine), &order("install", &by_key));
    assert_failed(&target, "check", "no_space");
    assert!(!machine.path("/opt/tongtu-agent").exists(), "nothing was begun");

    place.offer(b"", "9.99");
    let (_, target) = place.carried_out(&at(&machine), &order("install", &by_key));
    assert_failed(&target, "check", "glibc_too_old");
    assert!(target["fault"]["detail"].as_str().is_some_and(|detail| detail.contains("9.99")), "{target}");

    let (_, target) = place.carried_out(&at(&machine), &order("rollback", &by_key));
    assert_failed(&target, "check", "not_installed");

    // Another key at the same place: nothing is sent, and nobody can confirm it before the first is forgotten.
    let known = machine.fingerprint();
    machine.set_up_anew();
    let accepted = machine.log().matches("Accepted").count();
    let (changed, target) = place.carried_out(&at(&machine), &order("install", &by_key));
    assert_failed(&target, "connect", "host_key_changed");
    let detail = target["fault"]["detail"].as_str().expect("a detail");
    assert!(detail.contains(&known) && detail.contains(&machine.fingerprint()), "{detail}");
    assert_eq!(machine.log().matches("Accepted").count(), accepted, "no login was tried");
    assert_eq!(place.confirmed(&changed, &machine.fingerprint()).status, 409);
    let keys = listed(&place.control.get("/api/v1/host-keys").json());
    let url = place.control.url(&format!("/api/v1/host-keys/{}", keys[0]["id"].as_str().expect("an id")));
    let deleted = http::request("DELETE", &url, Some(&place.control.token()), None).expect("an answer");
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    assert_eq!(place.confirmed(&changed, &machine.fingerprint()).status, 200);
    place.offer(b"", "2.17");
    let target = place.resumed(&changed, &by_key);
    assert_failed(&target, "check", "no_space");

    // Nobody listens there.
    let nowhere = json!({ "address": "127.0.0.1", "port": 1 });
    let (_, target) = place.carried_out(&nowhere, &order("install", &by_key));
    assert_failed(&target, "connect", "unreachable");
    assert_eq!(place.control.agents().len(), 0);
}

#[test]
fn a_cut_upload_goes_on_where_it_was_and_one_roll_out_works_on_a_machine() {
    if !sshd::is_possible() {
        return;
    }
    let place = Place::new();
    let machine = Sshd::start(place.folder.path(), Kind::Sudo);
    let by_key = json!({ "private_key": machine.key(), "sudo_password": PASSWORD });
    // Enough for the login and a part of the program. Who logs in is not root, and sudo wants a password each time.
    let line = Line::to(machine.address, 2 << 20);
    let over_the_line = json!({ "address": "127.0.0.1", "port": line.address.port(), "user": "keeper" });
    let (id, target) = place.carried_out(&over_the_line, &order("install", &by_key));
    assert_failed(&target, "connect", "host_key_unknown");
    assert_eq!(place.confirmed(&id, &machine.fingerprint()).status, 200);

    let target = place.resumed(&id, &by_key);
    assert_failed(&target, "upload", "connection_lost");
    let version = target["version"].as_str().expect("a version").to_owned();
    let part = machine.path(&format!("/opt/tongtu-agent/{version}/part"));
    // Some of what was on its way is still written when the line is gone.
    let mut before = 0;
    wait::until(DONE, "a part of the program is there", || {
        let there = std::fs::metadata(&part).map(|part| part.len()).unwrap_or(0);
        if there > 0 && there == std::mem::replace(&mut before, there) { Ok(()) } else { Err(format!("{there} bytes")) }
    });
    assert!(before < 2 << 20, "{before} bytes passed the line");
    assert_eq!(machine.link("/opt/tongtu-agent/current"), None, "a part is no program");

    line.mend();
    let target = place.resumed(&id, &by_key);
    assert_done(&place, &id, &target);
    let said = place.transcript(&id);
    assert_eq!((said.matches("继续上传其余").count(), said.matches("上传 ").count()), (1, 1), "it began anew:\n{said}");
    assert_eq!(place.control.agents().len(), 1);
    // Without systemd it is a script that the machine starts it by.
    let script = machine.path("/etc/init.d/tongtu-agent");
    assert!(script.exists());
    let mut of_another = over_the_line.clone();
    of_another["user"] = "deployer".into();
    let (_, target) = place.carried_out(&of_another, &order("uninstall", &by_key));
    assert_failed(&target, "connect", "no_root");
    let (_, target) = place.carried_out(&over_the_line, &order("uninstall", &json!({ "private_key": machine.key() })));
    assert_failed(&target, "connect", "no_root");
    let (removed, target) = place.carried_out(&over_the_line, &order("uninstall", &by_key));
    assert_done(&place, &removed, &target);
    assert!(!script.exists() && !machine.path("/opt/tongtu-agent").exists());

    // A machine that says nothing holds its roll-out; a second one is refused meanwhile.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let quiet = json!({ "address": "127.0.0.1", "port": port });
    let held = place.begin(&quiet, &order("uninstall", &by_key));
    let mut second = order("uninstall", &by_key);
    second["machines"] = json!([{ "address": "127.0.0.1", "port": port }]);
    let refused = place.post("/api/v1/rollouts", &second);
    assert_eq!(refused.status, 409, "{}", refused.text);
    drop(silent);
    assert_failed(&place.ended(&held), "connect", "unreachable");
}

/// A program of the machine that fails, in the place of the real one, until it is taken away.
fn fails(machine: &Sshd, place: &Place, program: &str) {
    let file = place.folder.path().join(format!("no-{program}"));
    std::fs::write(&file, format!("#!/bin/sh\necho no {program} today >&2\nexit 1\n")).expect("room");
    let file = file.display();
    let script = format!("chmod 755 {file} && mount --bind {file} \"$(command -v {program})\"");
    let _ = machine.run_there(&["sh", "-c", &script]);
}

#[test]
fn what_fails_half_way_leaves_nothing_behind() {
    if !sshd::is_possible() {
        return;
    }
    let place = Place::new();
    let version = place.offer_built("tongtu-agent", b"half", "2.17");
    let machine = Sshd::start(place.folder.path(), Kind::Sudo);
    let by_key = json!({ "private_key": machine.key() });
    let (id, _) = place.carried_out(&at(&machine), &order("install", &by_key));
    assert_eq!(place.confirmed(&id, &machine.fingerprint()).status, 200);

    // There is room when it is looked for, and none in the middle of the upload.
    let folder = format!("/opt/tongtu-agent/{version}");
    let small = format!("mkdir -p {folder} && mount -t tmpfs -o size=1m tmpfs {folder}");
    let _ = machine.run_there(&["sh", "-c", &small]);
    let target = place.resumed(&id, &by_key);
    assert_failed(&target, "upload", "no_space");
    let left: Vec<_> = std::fs::read_dir(machine.path(&folder)).expect("a folder").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    let _ = machine.run_there(&["umount", &folder]);

    // Control gave it an identity, and the machine did not get so far as to keep it: nobody else can use it.
    fails(&machine, &place, "chown");
    fails(&machine, &place, "update-rc.d");
    let target = place.resumed(&id, &by_key);
    assert_failed(&target, "enrol", "not_enrolled");
    let lost = target["agent"].clone();
    let agents = place.control.agents();
    assert_eq!((agents.len(), &agents[0]["id"], &agents[0]["state"]), (1, &lost, &json!("revoked")), "{agents:?}");
    let revoked = "SELECT COUNT(*) FROM audit_entry WHERE action = 'agent.revoke'";
    assert_eq!(database::number(&database::sqlite(&place.control.data), revoked), 1);

    // It goes on with another one, and says that the machine will not start it.
    let _ = machine.run_there(&["sh", "-c", "umount \"$(command -v chown)\""]);
    let target = place.resumed(&id, &by_key);
    assert_done(&place, &id, &target);
    assert_ne!(target["agent"], lost);
    let states: Vec<_> = place.control.agents().iter().map(|agent| agent["state"].clone()).collect();
    assert_eq!(states, ["revoked", "up"]);
    let said = place.transcript(&id);
    assert!(said.contains("它不会随系统启动：update-rc.d: no update-rc.d today"), "{said}");
}

#[test]
fn a_hypervisors_agent_stands_beside_the_hosts() {
    if !sshd::is_possible() || !hypervisor::is_possible() {
        return;
    }
    const NAME: &str = "tongtu-agent-libvirt";
    let place = Place::new();
    let machine = Sshd::start(place.folder.path(), Kind::Systemd);
    let cloud = Hypervisor::start(place.folder.path(), "six", 6);
    let plan = Plan::new("budget-1", 11);
    cloud.define(&plan);
    let by_key = json!({ "private_key": machine.key() });
    let of_libvirt = |action| json!({ "action": action, "program": "libvirt", "credential": by_key });
    let there = |name: &str| machine.link(&format!("/opt/{name}/current"));
    let main_process = |name: &str| {
        machine.run_there(&["systemctl", "show", "--property=MainPID", "--value", &format!("{name}.service")])
    };

    let (first, _) = place.carried_out(&at(&machine), &order("install", &by_key));
    assert_eq!(place.confirmed(&first, &machine.fingerprint()).status, 200);
    let target = place.resumed(&first, &by_key);
    assert_done(&place, &first, &target);
    let (host, host_runs) = (target["agent"].clone(), main_process("tongtu-agent"));

    // What it needs is asked for before anything is done.
    let (_, target) = place.carried_out(&at(&machine), &of_libvirt("install"));
    assert_failed(&target, "check", "no_package");
    let version = place.offer_built(NAME, b"", "2.17");
    let (_, target) = place.carried_out(&at(&machine), &of_libvirt("upgrade"));
    assert_failed(&target, "check", "not_installed");
    let (_, target) = place.carried_out(&at(&machine), &of_libvirt("install"));
    assert_failed(&target, "check", "no_libvirt_socket");
    let sockets = cloud.sockets();
    let mount = format!("mkdir /run/libvirt && mount --bind {} /run/libvirt", sockets.display());
    let _ = machine.run_there(&["sh", "-c", &mount]);
    let let_in = |mode: &str| {
        let script = format!(
            "getent group libvirt >/dev/null || groupadd libvirt\n\
             chgrp libvirt /run/libvirt/libvirt-sock-ro\nchmod {mode} /run/libvirt/libvirt-sock-ro"
        );
        let _ = machine.run_there(&["sh", "-ec", &script]);
    };
    // A group that is let in could manage over the other socket: to the agent it is as closed as to all but root.
    for mode in ["700", "770"] {
        let_in(mode);
        let (_, target) = place.carried_out(&at(&machine), &of_libvirt("install"));
        assert_failed(&target, "check", "libvirt_socket_closed");
        assert!(!machine.path(&format!("/opt/{NAME}")).exists(), "nothing was begun");
    }
    let_in("777");

    // It looks once before it is started: here libvirtd, which has users of its own in the laboratory, does not know
    // who asks.
    let (installed, target) = place.carried_out(&at(&machine), &of_libvirt("install"));
    assert_failed(&target, "service", "libvirt_refuses");
    assert!(target["fault"]["detail"].as_str().is_some_and(|detail| detail.contains("user record")), "{target}");
    assert_eq!(main_process(NAME).trim(), "0", "it was not started");
    let [user, group] = ["-u", "-g"].map(|of| machine.run_there(&["id", of, NAME]).trim().to_owned());
    cloud.add_user(NAME, &user, &group);
    let target = place.resumed(&installed, &by_key);
    assert_done(&place, &installed, &target);
    let said = place.transcript(&installed);
    assert!(said.contains("libvirt-sock-ro 777 libvirt") && said.contains("其专用用户可以查看 libvirt"), "{said}");
    let agent = target["agent"].clone();
    assert_ne!(agent, host);
    let kinds: Vec<_> =
        place.control.agents().iter().map(|agent| [agent["kind"].clone(), agent["state"].clone()]).collect();
    assert_eq!(kinds, [["host", "up"], ["libvirt", "up"]]);
    wait::until(DONE, "its virtual machine is there", || {
        let vms = listed(&place.control.get("/api/v1/vms").json());
        if vms.iter().any(|vm| vm["name"] == "budget-1") { Ok(()) } else { Err(format!("{vms:?}")) }
    });
    assert_eq!(machine.run_there(&["id", "-nG", NAME]).trim(), NAME, "it is in no group but its own");
    let status = format!("/proc/{}/status", main_process(NAME).trim());
    let status = std::fs::read_to_string(machine.path(&status)).expect("its process");
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }

    // A build that cannot look is not left the current one.
    let blind =
        format!("#!/bin/sh\n[ \"$1\" = --version ] && exec echo {NAME} {}\nexit 3\n", env!("CARGO_PKG_VERSION"));
    place.offer_program(NAME, blind.as_bytes(), "2.17");
    let (failed, target) = place.carried_out(&at(&machine), &of_libvirt("upgrade"));
    assert_failed(&target, "service", "libvirt_refuses");
    let said = place.transcript(&failed);
    assert!(said.contains(&format!("已恢复并启动先前的版本 {version}")), "{said}");
    assert_eq!(there(NAME).as_ref(), Some(&version));
    assert_eq!(machine.run_there(&["systemctl", "is-active", &format!("{NAME}.service")]).trim(), "active");

    // Another build of it, and back: the host's agent runs on as it was.
    let of_the_host = there("tongtu-agent");
    let newer = place.offer_built(NAME, b"another build", "2.17");
    let mut command = Command::new(process::binary("tongtu"));
    command.args(["agent", "deploy", &format!("root@{}", machine.address), "--program", "libvirt"]);
    command.args(["--action", "upgrade", "--key"]).arg(machine.key_file()).arg("--data").arg(&place.control.data);
    let upgraded = process::run(command, DONE);
    assert!(upgraded.status.success(), "{}{}", upgraded.stdout, upgraded.stderr);
    assert_eq!((there(NAME).as_ref(), &there("tongtu-agent")), (Some(&newer), &of_the_host));
    let (back, target) = place.carried_out(&at(&machine), &of_libvirt("rollback"));
    assert_done(&place, &back, &target);
    assert_eq!((there(NAME), target["agent"].clone()), (Some(version), agent));
    assert_eq!(machine.link("/opt/tongtu-agent/previous"), None, "the other one's way back is its own");
    assert_eq!(main_process("tongtu-agent"), host_runs);

    // The host's goes, and the hypervisor's runs on; then it goes as well.
    let runs = main_process(NAME);
    let (removed, target) = place.carried_out(&at(&machine), &order("uninstall", &by_key));
    assert_done(&place, &removed, &target);
    assert!(!machine.path("/opt/tongtu-agent").exists() && !machine.path("/var/lib/tongtu-agent").exists());
    assert_eq!(main_process(NAME), runs);
    assert_eq!(machine.run_there(&["systemctl", "is-active", &format!("{NAME}.service")]).trim(), "active");
    let (removed, target) = place.carried_out(&at(&machine), &of_libvirt("uninstall"));
    assert_done(&place, &removed, &target);
    for path in [format!("/opt/{NAME}"), format!("/var/lib/{NAME}"), format!("/etc/systemd/system/{NAME}.service")] {
        assert!(!machine.path(&path).exists(), "{path} is still there");
    }
    let passwd = std::fs::read_to_string(machine.path("/etc/passwd")).expect("users");
    assert!(!passwd.contains("tongtu-agent"), "{passwd}");
}

/// The calls that systemd lets through by a filter's words: names, groups, and what is taken away again.
fn let_through(unit: &str) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for words in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let taken_away = words.strip_prefix('~');
        for word in taken_away.unwrap_or(words).split_whitespace() {
            for call in calls_of(word) {
                if taken_away.is_some() {
                    allowed.remove(&call)
                } else {
                    allowed.insert(call)
                };
            }
        }
    }
    allowed
}

/// A group's calls, as systemd prints them; a call is its own.
fn calls_of(word: &str) -> Vec<String> {
    if !word.starts_with('@') {
        return vec![word.to_owned()];
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["syscall-filter", word]);
    let printed = process::run(command, DONE);
    assert!(printed.status.success(), "{}", printed.stderr);
    let words = printed.stdout.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    words.flat_map(calls_of).collect()
}

/// Whether what the unit lets through can be compared with what an agent calls.
#[track_caller]
fn can_trace() -> bool {
    let has = |program| tongtu_tests::has(program, tongtu_tests::on_path(program));
    has("strace") && has("systemd-analyze")
}

/// The calls that an agent makes, from its start to its end, which the unit forbids.
#[track_caller]
fn forbidden_of(folder: &Path, control: &Control, agent: Agent, is_done: impl Fn() -> bool) -> Vec<String> {
    const UNIT: &str = include_str!("../../src/fleet/rollout/agent.service");
    let trace = folder.join("calls");
    let traced = trace.display().to_string();
    let mut agent = agent.under(&["strace", "-D", "-f", "-qq", "-e", "signal=none", "-o", &traced]);
    agent.enroll(control).start();
    wait::until(DONE, "it reports again and again", || {
        let reported = control.agents().swap_remove(0);
        let accepted = reported["records_accepted"].as_u64().unwrap_or(0);
        if accepted >= 5 && is_done() { Ok(()) } else { Err(format!("{accepted} records")) }
    });
    let ended = agent.interrupt();
    assert!(ended.success(), "{ended}");
    let allowed = let_through(UNIT);
    assert!(allowed.contains("read") && !allowed.contains("clock_settime"), "{allowed:?}");
    let text = std::fs::read_to_string(&trace).expect("a trace");
    let called: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.trim_start().split_once(char::is_whitespace)?.1.trim_start().split_once('('))
        .map(|(name, _)| name)
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'))
        .collect();
    assert!(
        called.len() > 20 && called.iter().any(|name| name.ends_with("adjtime") || *name == "adjtimex"),
        "{called:?}"
    );
    called.into_iter().filter(|name| !allowed.contains(*name)).map(str::to_owned).collect()
}

#[test]
fn the_unit_forbids_no_call_that_an_agent_makes() {
    if !can_trace() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(folder.path());
    control.start();
    let agent = Agent::new(folder.path());
    let forbidden = forbidden_of(folder.path(), &control, agent, || !control.hosts().is_empty());
    assert!(forbidden.is_empty(), "{forbidden:?}");
}

#[test]
fn the_unit_forbids_no_call_that_a_hypervisors_agent_makes() {
    if !can_trace() || !hypervisor::is_possible() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(folder.path());
    control.start();
    let cloud = Hypervisor::start(folder.path(), "seven", 7);
    cloud.define(&Plan::new("budget-1", 11));
    let agent = Agent::libvirt(folder.path(), "libvirt", &cloud.uri());
    let is_seen = || !listed(&control.get("/api/v1/vms").json()).is_empty();
    let mut forbidden = forbidden_of(folder.path(), &control, agent, is_seen);
    // libnuma, which libvirt links, tries so at its start what the kernel knows, and takes no for an answer.
    forbidden.retain(|call| call != "set_mempolicy");
    assert!(forbidden.is_empty(), "{forbidden:?}");
}
