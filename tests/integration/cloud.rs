//! Hypervisors and their virtual machines over the real protocol, as the simulator plays them.

use std::collections::BTreeSet;
use std::time::Duration;
use tongtu_tests::control::{Control, listed};
use tongtu_tests::simulator::{Fleet, Simulator};
use tongtu_tests::wait;

#[test]
fn a_simulated_cloud_is_there_with_its_machines_and_their_figures() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path());
    control.start();
    let token = control.enrolment_token(2);
    let scenario = "[[group]]\nname = \"kvm\"\nvms = 3\n";
    let fleet = Fleet { token: &token, agents: 2, interval: "1s", duration: "120s", scenario: Some(scenario) };
    let mut simulator = Simulator::start(directory.path(), &fleet);
    let vms = wait::until(Duration::from_secs(60), "six machines with rates", || {
        let vms = listed(&control.get("/api/v1/vms?state=running").json());
        let known = vms.iter().filter(|vm| vm["cpu_usage_percent"].is_number() && vm["host"].is_string()).count();
        if known == 6 { Ok(vms) } else { Err(format!("{known} of {}", vms.len())) }
    });
    let uuids: BTreeSet<_> = vms.iter().map(|vm| vm["uuid"].to_string()).collect();
    let hosts: BTreeSet<_> = vms.iter().map(|vm| vm["host"].to_string()).collect();
    assert_eq!((uuids.len(), hosts.len()), (6, 2), "{vms:?}");
    assert!(vms.iter().all(|vm| vm["memory_used_percent"].as_f64().is_some_and(|used| (1.0..100.0).contains(&used))));
    let host = vms[0]["host"].as_str().expect("an id");
    assert_eq!(listed(&control.get(&format!("/api/v1/hosts/{host}/vms")).json()).len(), 3);
    let capacity = control.get("/api/v1/capacity?by=host").json();
    assert_eq!(capacity["total"]["vms"], 6, "{capacity}");
    assert_eq!(capacity["total"]["cpu"]["physical"], 12.0, "{capacity}");
    assert_eq!(listed(&control.get("/api/v1/pools").json()).len(), 2);
    simulator.process().interrupt(Duration::from_secs(20));
}
