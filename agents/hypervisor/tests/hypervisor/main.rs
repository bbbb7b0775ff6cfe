//! The agent as a person runs it, on libvirt's own test driver, which needs no virtual machine.

use std::process::{Command, Output};

fn check(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tongtu-agent-libvirt"));
    command.arg("check").args(arguments).output().expect("the agent starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The UUID of the only domain of `test:///default`.
const UUID: &str = "6695eb01-f6a4-8304-79aa-97f2502e193f";

#[test]
fn a_driver_is_read_whole_whatever_it_lacks() {
    let output = check(&["--connect", "test:///default", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!(document["totals"]["collected"], 2, "{document:#}");
    let values = &document["collectors"][0]["values"];
    let value = |name: &str| values[name].as_str().unwrap_or_else(|| panic!("{name} is missing: {document:#}"));
    let of_domain = |name: &str| value(&format!("{name}{{domain=\"test\",uuid=\"{UUID}\"}}"));
    assert_eq!(
        (value("libvirt_up"), value("tongtu_libvirt_domains"), value("libvirt_domains_number")),
        ("1", "1", "1")
    );
    assert_eq!(of_domain("libvirt_domain_state_code"), "1");
    assert_eq!(of_domain("libvirt_domain_info_maximum_memory_bytes"), "8589934592");
    assert_eq!(of_domain("libvirt_domain_info_virtual_cpus"), "2");
    assert!(of_domain("libvirt_domain_info_cpu_time_seconds_total").parse::<f64>().is_ok());
    let node = &document["inventory"];
    assert_eq!(
        (node["hypervisor"].as_str(), node["uri"].as_str()),
        (Some("TEST"), Some("test:///default")),
        "{node:#}"
    );
    for fact in ["agent_version", "hostname", "libvirt_version", "cpus", "memory_bytes"] {
        assert!(node[fact].is_string(), "{fact}: {node:#}");
    }
    assert!(node["pool.default-pool"].as_str().is_some_and(|pool| pool.contains("\"running\"")), "{node:#}");
    assert!(node["network.default"].as_str().is_some_and(|network| network.contains("virbr0")), "{node:#}");
    let sources = document["sources"].as_array().expect("sources");
    let [domain] = sources.as_slice() else { panic!("one domain: {sources:?}") };
    assert_eq!((domain["kind"].as_str(), domain["key"].as_str()), (Some("libvirt_domain"), Some(UUID)));
    assert_eq!(domain["inventory"]["name"], "test");
    assert_eq!(domain["inventory"]["hypervisor"], "test");
    assert!(domain["inventory"]["persistent"].is_string());
}

#[test]
fn no_libvirt_is_one_line_and_a_failure() {
    let output = check(&["--connect", "qemu+unix:///system?socket=/nonexistent/libvirt-sock-ro"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let shown = text(&output.stdout);
    assert!(shown.contains("libvirt_domains") && shown.contains("failed: "), "{shown}");
    assert!(shown.contains("/nonexistent/libvirt-sock-ro"), "it says what it could not reach: {shown}");
    assert_eq!(
        text(&output.stderr).lines().filter(|line| line.contains("libvirt: ")).count(),
        0,
        "libvirt prints nothing"
    );
}

#[test]
fn a_file_of_domains_with_disks_and_interfaces() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("host.xml");
    std::fs::write(
        &file,
        "<node><cpu><mhz>2000</mhz><model>test</model><active>2</active><nodes>1</nodes><sockets>1</sockets>
          <cores>2</cores><threads>1</threads></cpu><memory>4194304</memory>
          <domain type='test'><name>db-1</name><uuid>0c0ffee0-1111-4222-8333-444444444444</uuid>
          <title>社保库\t一</title><memory>1048576</memory><vcpu>2</vcpu><os><type>hvm</type></os>
          <devices><disk type='file' device='disk'><source file='/guest/a.img'/><target dev='vda' bus='virtio'/></disk>
          <interface type='bridge'><mac address='52:54:00:aa:bb:cc'/><source bridge='br9'/><target dev='vnet9'/></interface>
          </devices></domain></node>",
    )
    .expect("a file");
    let output = check(&["--connect", &format!("test://{}", file.display()), "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one document");
    let facts = &document["sources"][0]["inventory"];
    assert_eq!(facts["title"], "社保库 一", "{document:#}");
    assert!(facts["disk.vda"].as_str().is_some_and(|disk| disk.contains("/guest/a.img")), "{facts:#}");
    assert!(facts["nic.52:54:00:aa:bb:cc"].as_str().is_some_and(|nic| nic.contains("br9")), "{facts:#}");
    let values = document["collectors"][0]["values"].as_object().expect("values");
    // The driver gives the interface a target of its own.
    let labels = "{target_device=\"testnet0\",domain=\"db-1\",uuid=\"0c0ffee0-1111-4222-8333-444444444444\",source_bridge=\"br9\"}";
    assert!(values.contains_key(&format!("libvirt_domain_interface_stats_receive_bytes_total{labels}")), "{values:?}");
}
