//! `tests/lab/cloud`: control, a hypervisor with three guests of three departments, and the agents that report
//! them, left running for a person to look at. What runs is held by one process, the keeper, and lies in one folder.

use clap::{Parser, Subcommand};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tongtu_tests::agent::Agent;
use tongtu_tests::control::{Control, listed};
use tongtu_tests::guest::Plan;
use tongtu_tests::hypervisor::{self, Hypervisor};
use tongtu_tests::person::{PASSWORD, Person};
use tongtu_tests::wait;

/// A small cloud on this machine.
#[derive(Debug, Parser)]
#[command(name = "tests/lab/cloud")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Starts it, says what to open, and leaves it running.
    Up,
    /// Ends the one that runs.
    Down,
    /// Holds what `up` starts, until SIGTERM.
    #[command(hide = true)]
    Keep,
}

/// Emulated guests on a busy machine take their time.
const START: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(60);

/// A guest of a department, and what it does all day.
struct Machine {
    name: &'static str,
    application: &'static str,
    department: &'static str,
    work: &'static str,
}

const MACHINES: [Machine; 3] = [
    Machine {
        name: "budget-1",
        application: "预算一体化系统",
        department: "财政局",
        work: "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 3",
    },
    Machine {
        name: "permits-1",
        application: "行政审批系统",
        department: "政务服务局",
        work: "dd if=/dev/zero of=/dev/vda bs=64k count=64 conv=fsync; dd if=/dev/vda of=/dev/null bs=64k count=64; sleep 1",
    },
    Machine {
        name: "traffic-1",
        application: "交通信息共享平台",
        department: "交通运输局",
        work: "ping -q -i 0.2 -s 1200 10.99.0.11",
    },
];

/// Everything that it writes.
fn folder() -> PathBuf {
    std::env::temp_dir().join("tongtu-lab-cloud")
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    std::thread::spawn(end_by_signal);
    let ended = std::panic::catch_unwind(|| match command {
        Command::Up => up(),
        Command::Down => down(),
        Command::Keep => keep(),
    });
    match ended {
        Ok(code) => code,
        Err(_) if wait::is_interrupted() => ExitCode::from(130),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn end_by_signal() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime for signals");
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be heard");
        let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be heard");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    wait::interrupt();
}

fn up() -> ExitCode {
    if keeper().is_some() {
        println!("It runs already.\n\n{}", fs::read_to_string(folder().join("open")).unwrap_or_default());
        return ExitCode::SUCCESS;
    }
    if !hypervisor::is_possible() {
        return ExitCode::FAILURE;
    }
    clear();
    fs::create_dir(folder()).expect("a folder");
    let path = folder().join("log");
    let log = File::create(&path).expect("a log");
    let mut command = std::process::Command::new(std::env::current_exe().expect("this program's own path"));
    command.arg("keep").process_group(0).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a log")).stderr(log);
    let mut keeper = command.spawn().expect("the keeper starts");
    fs::write(folder().join("pid"), keeper.id().to_string()).expect("a file for `down`");
    let mut shown = 0;
    let started = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait::until(START, "the cloud is up", || {
            let said = fs::read(&path).unwrap_or_default();
            let _ = std::io::stdout().write_all(said.get(shown..).unwrap_or_default());
            shown = said.len();
            match (fs::read_to_string(folder().join("open")), keeper.try_wait()) {
                (Ok(open), _) => Ok(Some(open)),
                (Err(_), Ok(None)) => Err("it is not".to_owned()),
                (Err(_), _) => Ok(None),
            }
        })
    }));
    if let Ok(Some(open)) = started {
        println!("\n{open}");
        return ExitCode::SUCCESS;
    }
    // It did not come up, or nobody waits for it any more.
    hypervisor::send(keeper.id(), Signal::TERM);
    let _ = keeper.wait();
    clear();
    eprintln!("It is not up, and nothing of it runs.");
    ExitCode::FAILURE
}

fn down() -> ExitCode {
    let Some(id) = keeper() else {
        clear();
        eprintln!("None runs.");
        return ExitCode::FAILURE;
    };
    hypervisor::send(id, Signal::TERM);
    wait::until(SOON, "its end", || if keeper().is_some() { Err("it runs".to_owned()) } else { Ok(()) });
    clear();
    println!("It has ended, and what it wrote is gone.");
    ExitCode::SUCCESS
}

/// The words of a process's command line.
fn words(id: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The process that holds the one that runs.
fn keeper() -> Option<u32> {
    let id = fs::read_to_string(folder().join("pid")).ok()?.trim().parse().ok()?;
    let words = words(id);
    (words.first()?.ends_with("tongtu-lab-cloud") && words.get(1)? == "keep").then_some(id)
}

/// Removes what one wrote that does not run any more, and ends what it left behind if it was killed.
fn clear() {
    let within = format!("{}/", folder().display());
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|id| id.parse::<u32>().ok()) else { continue };
        let words = words(id);
        let program = words.first().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
        let is_ours = ["tongtu", "tongtu-agent", "tongtu-agent-libvirt", "unshare"].contains(&program);
        if is_ours && words.iter().any(|word| word.contains(&within)) {
            hypervisor::send(id, Signal::KILL);
            left.push(id);
        }
    }
    wait::until(SOON, "the end of what was left", || {
        let some = left.iter().any(|id| words(*id).iter().any(|word| word.contains(&within)));
        if some { Err("it runs".to_owned()) } else { Ok(()) }
    });
    let _ = fs::remove_dir_all(folder());
}

fn keep() -> ExitCode {
    let folder = folder();
    let mut control = Control::new(&folder);
    control.start();
    let security = Person::first(&control);
    let operator = security.create(&control, "operator", "operator");
    let departments = MACHINES.map(|machine| security.organization(&control, machine.department));
    let _theirs = security.create_in(&control, "department", "department_user", &departments[0]);
    println!("control runs");
    let mut host = Agent::new(&folder);
    host.enroll(&control).start();
    let cloud = Hypervisor::start(&folder, "cloud-1", 1);
    let images = folder.join("cloud-1/images").display().to_string();
    cloud.virsh(&["pool-create-as", "images", "dir", "--target", &images]);
    println!("libvirtd runs");
    let mut agent = Agent::libvirt(&folder, "libvirt", &cloud.uri());
    agent.enroll(&control).start();
    let mut lines = Vec::new();
    for ((number, machine), owner) in (11..).zip(&MACHINES).zip(&departments) {
        let Machine { name, application, department, work } = machine;
        let plan =
            Plan { title: (*application).to_owned(), owner: (*department).to_owned(), ..Plan::new(name, number) };
        cloud.boot(&plan).begin(&format!("(while :; do {work}; done) </dev/null >/dev/null 2>&1 &"));
        give(&control, &operator, machine, owner);
        println!("{name} runs");
        lines.push(format!("  {name:<10} {application}, {department}"));
    }
    let data = folder.display();
    let open = format!(
        "Three virtual machines run on a libvirtd of their own, each given to a department:\n{machines}\n\n\
         Open      {url}\n\
         Log in    operator    everything of the city\n\
         \x20         department  what is {first}'s alone\n\
         \x20         security    users, roles, organisations\n\
         \x20         each with the password  {PASSWORD}\n\
         Look at   {cloud_page}  {vms_page}  (a frame a second; charts fill while you look)\n\
         Change    virsh --connect '{uri}' list\n\
         \x20         suspend, resume, destroy or start one, and see it in the dashboard\n\
         Data      {data}  (logs as well)\n\
         End it    tests/lab/cloud down\n",
        machines = lines.join("\n"),
        url = control.url("/"),
        first = MACHINES[0].department,
        cloud_page = control.url("/cloud"),
        vms_page = control.url("/vms"),
        uri = cloud.socket("libvirt-sock"),
    );
    fs::write(folder.join("open.new"), open).expect("what to open");
    fs::rename(folder.join("open.new"), folder.join("open")).expect("what to open");
    loop {
        wait::pause(Duration::from_secs(1));
    }
}

/// Gives a machine to its department, when control knows it.
fn give(control: &Control, operator: &Person, machine: &Machine, owner: &str) {
    let vm = wait::until(SOON, "control knows the virtual machine", || {
        let vms = listed(&control.ask("/api/v1/vms")?.ok().json());
        let found = vms.into_iter().find(|vm| vm["name"] == machine.name && vm["state"] == "running");
        found.ok_or_else(|| "it does not".to_owned())
    });
    let said = json!({
        "version": vm["version"],
        "organization": owner,
        "application": machine.application,
        "purpose": "production",
        "expires_ms": Value::Null,
    });
    let id = vm["id"].as_str().expect("an id");
    let changed = operator.ask(control, "PUT", &format!("/api/v1/vms/{id}"), Some(&said));
    assert_eq!(changed.status, 200, "{}", changed.text);
}
