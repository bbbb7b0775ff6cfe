//! `tests/lab/cloud`: control, a hypervisor with three guests of three departments, and the agent that reports
//! them, left running for a person to look at.

use clap::{Parser, Subcommand};
use rustix::process::Signal;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tongtu_tests::agent::Agent;
use tongtu_tests::control::Control;
use tongtu_tests::guest::Plan;
use tongtu_tests::hypervisor::{self, Hypervisor};
use tongtu_tests::wait;

/// A small cloud on this machine.
#[derive(Debug, Parser)]
#[command(name = "tests/lab/cloud")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts it, says where the dashboard is, and runs until Ctrl-C or `down`.
    Up,
    /// Ends the one that runs.
    Down,
}

/// Guests, their titles and whose they are.
const GUESTS: [(&str, &str, &str); 3] = [
    ("budget-1", "预算一体化系统", "财政局"),
    ("permits-1", "行政审批系统", "政务服务局"),
    ("traffic-1", "交通信息共享平台", "交通运输局"),
];

fn pid_file() -> PathBuf {
    std::env::temp_dir().join("tongtu-lab-cloud.pid")
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Up => {
            std::thread::spawn(end_by_signal);
            match std::panic::catch_unwind(up) {
                Ok(code) => code,
                Err(_) if wait::is_interrupted() => {
                    let _ = std::fs::remove_file(pid_file());
                    println!("ended");
                    ExitCode::SUCCESS
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Command::Down => down(),
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
    if !hypervisor::is_possible() {
        return ExitCode::FAILURE;
    }
    std::fs::write(pid_file(), std::process::id().to_string()).expect("a file for `down`");
    let folder = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(folder.path());
    control.start();
    let cloud = Hypervisor::start(folder.path(), "cloud-1", 1);
    let mut agent = Agent::libvirt(folder.path(), "libvirt", &cloud.uri());
    agent.enroll(&control).start();
    for (number, (name, title, owner)) in (11..).zip(GUESTS) {
        let plan = Plan { title: title.to_owned(), owner: owner.to_owned(), ..Plan::new(name, number) };
        cloud.boot(&plan);
        println!("{name}: {title} ({owner})");
    }
    println!("dashboard: {}", control.url("/"));
    if let Ok(link) = std::fs::read_to_string(control.data.join("first-link")) {
        println!("the first administrator: {}", link.trim());
    }
    println!("data: {}\nvirsh --connect '{}' list", control.data.display(), cloud.uri());
    println!("Ctrl-C, or `tests/lab/cloud down`, ends it");
    loop {
        wait::pause(std::time::Duration::from_secs(1));
    }
}

fn down() -> ExitCode {
    let id = std::fs::read_to_string(pid_file()).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let is_ours = |id: &u32| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("tongtu-lab-cloud")
    };
    let Some(id) = id.filter(is_ours) else {
        eprintln!("none runs");
        return ExitCode::FAILURE;
    };
    hypervisor::send(id, Signal::TERM);
    wait::until(std::time::Duration::from_secs(60), "its end", || {
        if is_ours(&id) { Err("it runs".to_owned()) } else { Ok(()) }
    });
    ExitCode::SUCCESS
}
