//! A hypervisor and its guests, from libvirt to control: real libvirtd, real QEMU, real load. What cannot be had on
//! a machine is said, and in CI it fails.

use rustix::process::Signal;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tongtu_agent_host::exporter::{self, Families};
use tongtu_tests::agent::Agent;
use tongtu_tests::control::{Control, listed};
use tongtu_tests::guest::Plan;
use tongtu_tests::hypervisor::{self, Hypervisor};
use tongtu_tests::process::Process;
use tongtu_tests::strace::Strace;
use tongtu_tests::{database, http, ports, wait};

/// An emulated guest on a busy machine takes its time.
const SOON: Duration = Duration::from_secs(180);
const MIB: f64 = 1_048_576.0;

/// Control, and an agent of one hypervisor that reports to it every second.
struct Watched {
    control: Control,
    agent: Agent,
}

/// A source as control sees it.
#[derive(Debug, Clone)]
struct Seen {
    id: String,
    last_ms: i64,
}

impl Watched {
    fn start(directory: &Path, cloud: &Hypervisor) -> Self {
        let mut control = Control::new(directory);
        control.start();
        let agent = Self::agent(directory, "libvirt", &control, cloud);
        Self { control, agent }
    }

    fn agent(directory: &Path, name: &str, control: &Control, cloud: &Hypervisor) -> Agent {
        let mut agent = Agent::libvirt(directory, name, &cloud.uri());
        agent.enroll(control).start();
        agent
    }

    /// A source of an agent.
    fn source_of(&self, agent: &Agent, key: &str) -> Result<Seen, String> {
        let sources = listed(&self.control.get("/api/v1/sources?limit=10000").json());
        let found = sources.iter().find(|source| source["agent"] == agent.id().as_str() && source["key"] == key);
        let found = found.ok_or_else(|| format!("{key} is none of {} sources", sources.len()))?;
        let id = found["id"].as_str().ok_or("no id")?.to_owned();
        Ok(Seen { id, last_ms: found["last_instant_ms"].as_i64().unwrap_or(0) })
    }

    fn source(&self, key: &str) -> Result<Seen, String> {
        self.source_of(&self.agent, key)
    }

    /// The last frame of a source.
    fn families(&self, key: &str) -> Result<Families, String> {
        let source = self.source(key)?;
        Ok(exporter::parse(&self.control.ask(&format!("/metrics/sources/{}", source.id))?.text))
    }

    /// A value of the last frame, by one label besides the domain.
    fn value(&self, key: &str, metric: &str, label: &str) -> Result<f64, String> {
        find(&self.families(key)?, metric, label)
    }

    /// Waits until a value is as it should be, and returns it.
    #[track_caller]
    fn wait_value(&self, key: &str, metric: &str, label: &str, is: impl Fn(f64) -> bool) -> f64 {
        wait::until(SOON, &format!("{metric} of {key}"), || {
            let value = self.value(key, metric, label)?;
            is(value).then_some(value).ok_or_else(|| value.to_string())
        })
    }

    fn events(&self, plan: &Plan, name: &str, detail: &str) -> i64 {
        let query = format!(
            "SELECT COUNT(*) FROM telemetry_event e JOIN telemetry_source s ON s.id = e.source_id WHERE \
             s.kind = 'libvirt_domain' AND s.local_key = '{}' AND e.name = '{name}' AND e.attributes LIKE '%\"detail\":\"{detail}%'",
            plan.uuid
        );
        database::number(&database::sqlite(&self.control.data), &query)
    }

    #[track_caller]
    fn wait_event(&self, plan: &Plan, name: &str, detail: &str) {
        wait::until(SOON, &format!("{name} {detail} of {}", plan.name), || {
            if self.events(plan, name, detail) > 0 { Ok(()) } else { Err("none".to_owned()) }
        });
    }

    /// Waits until the inventory of a source holds a text.
    #[track_caller]
    fn wait_fact(&self, key: &str, part: &str) {
        let query = format!(
            "SELECT COUNT(*) FROM telemetry_facts f JOIN telemetry_source s ON s.id = f.source_id \
             WHERE s.local_key = '{key}' AND instr(f.facts, '{part}') > 0"
        );
        wait::until(SOON, &format!("the fact {part} of {key}"), || {
            let count = database::number(&database::sqlite(&self.control.data), &query);
            if count > 0 { Ok(()) } else { Err("it is not there".to_owned()) }
        });
    }
}

/// The only value of a metric that has a label, or has none.
fn find(families: &Families, metric: &str, label: &str) -> Result<f64, String> {
    let family = families.get(metric).ok_or_else(|| format!("no {metric}"))?;
    let fits = |labels: &Vec<(String, String)>| label.is_empty() || labels.iter().any(|(_, value)| value == label);
    let mut found = family.series.iter().filter(|(labels, _)| fits(labels));
    let (_, value) = found.next().ok_or_else(|| format!("no {metric} of {label}"))?;
    if found.next().is_some() { Err(format!("{metric} of {label:?} is not one")) } else { Ok(*value) }
}

/// CPU seconds of a process, as the kernel counts them.
fn cpu_seconds(id: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
    let fields = text.rsplit_once(") ").expect("a name").1;
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

const READ: &str = "libvirt_domain_block_stats_read_bytes_total";
const WRITTEN: &str = "libvirt_domain_block_stats_write_bytes_total";
const SENT: &str = "libvirt_domain_interface_stats_transmit_bytes_total";
const RECEIVED: &str = "libvirt_domain_interface_stats_receive_bytes_total";
const CPU: &str = "libvirt_domain_info_cpu_time_seconds_total";
const STATE: &str = "libvirt_domain_state_code";

#[test]
fn guests_are_seen_with_their_load_and_their_life() {
    if !hypervisor::is_possible() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = Hypervisor::start(folder.path(), "one", 1);
    let busy =
        Plan { title: "预算一体化\t系统".to_owned(), owner: "财政局".to_owned(), ..Plan::new("busy-1", 11) };
    let idle = Plan { vcpus: 2, ..Plan::new("idle-1", 12) };
    let (guest, other) = (cloud.boot(&busy), cloud.boot(&idle));
    let watched = Watched::start(folder.path(), &cloud);

    // What they are.
    watched.wait_value(&busy.uuid, STATE, "", |state| state == 1.0);
    watched.wait_value(&idle.uuid, "libvirt_domain_info_virtual_cpus", "", |vcpus| vcpus == 2.0);
    assert_eq!(watched.value(&busy.uuid, "libvirt_domain_info_memory_usage_bytes", ""), Ok(96.0 * MIB));
    assert_eq!(watched.value(&busy.uuid, "libvirt_domain_block_stats_capacity_bytes", "vda"), Ok(64.0 * MIB));
    assert_eq!(watched.value("node", "tongtu_libvirt_domains", ""), Ok(2.0));
    watched.wait_fact(&busy.uuid, "\"title\":\"预算一体化 系统\"");
    watched.wait_fact(&busy.uuid, ">财政局</lab:owner>");
    watched.wait_fact(&busy.uuid, &format!("nic.{}", busy.mac()));
    watched.wait_fact("node", "\"hypervisor\":\"QEMU\"");

    // The guest's own view of its memory.
    let memory = |figure: &str| format!("libvirt_domain_memory_stats_{figure}_bytes");
    let total = watched.wait_value(&busy.uuid, &memory("available"), "", |bytes| bytes > 0.0);
    let told: f64 = guest.run("sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo").parse().expect("kB");
    assert_eq!(total, told * 1_024.0, "as the guest counts it");
    let unused = watched.value(&busy.uuid, &memory("unused"), "").expect("unused memory");
    assert!(unused > 0.0 && unused < total, "{unused} of {total}");

    // Load, in the right numbers and nowhere else.
    let before = |metric: &str, label: &str| watched.value(&busy.uuid, metric, label).expect("a value");
    let (read, written) = (before(READ, "vda"), before(WRITTEN, "vda"));
    let (sent, received) = (before(SENT, ""), before(RECEIVED, ""));
    let still = watched.value(&idle.uuid, READ, "vda").expect("a value");
    guest.run("dd if=/dev/vda of=/dev/null bs=1M count=16; dd if=/dev/zero of=/dev/vda bs=1M count=8 conv=fsync");
    let now = watched.wait_value(&busy.uuid, READ, "vda", |bytes| bytes - read >= 16.0 * MIB);
    assert!(now - read <= 18.0 * MIB, "read {} bytes and not 16 MiB", now - read);
    let now = watched.wait_value(&busy.uuid, WRITTEN, "vda", |bytes| bytes - written >= 8.0 * MIB);
    assert!(now - written <= 9.0 * MIB, "wrote {} bytes and not 8 MiB", now - written);
    assert_eq!(watched.value(&idle.uuid, READ, "vda"), Ok(still), "the other one did not");
    // 20 times 1,000 bytes, 8 of ICMP, 20 of IP, 14 of Ethernet.
    guest.run("ping -q -c 20 -i 0.1 -s 1000 10.99.0.1");
    let wire = 20.0 * 1_042.0;
    for (metric, before) in [(SENT, sent), (RECEIVED, received)] {
        let now = watched.wait_value(&busy.uuid, metric, "", |bytes| bytes - before >= wire);
        assert!(now - before <= wire + 3_000.0, "{metric}: {} bytes and not {wire}", now - before);
    }
    let process = cloud.process_of("busy-1");
    let (cpu, ours) = (cpu_seconds(process), before(CPU, ""));
    guest.run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
    let spent = cpu_seconds(process) - cpu;
    assert!(spent > 0.2, "the guest computed for {spent} s only");
    watched.wait_value(&busy.uuid, CPU, "", |seconds| seconds - ours >= spent - 0.1);
    let (seconds, kernel) = (before(CPU, ""), cpu_seconds(process));
    assert!(seconds <= kernel + 0.1, "{seconds} s and the kernel counts {kernel} s");

    // Paused, and on.
    cloud.virsh(&["suspend", "busy-1"]);
    watched.wait_value(&busy.uuid, STATE, "", |state| state == 3.0);
    watched.wait_event(&busy, "domain.suspended", "paused");
    cloud.virsh(&["resume", "busy-1"]);
    watched.wait_value(&busy.uuid, STATE, "", |state| state == 1.0);
    watched.wait_event(&busy, "domain.resumed", "unpaused");

    // Something is plugged in.
    let second = cloud.disk("second.img", 32).display().to_string();
    cloud.virsh(&["attach-disk", "busy-1", &second, "vdb", "--targetbus", "virtio", "--live"]);
    watched.wait_value(&busy.uuid, "libvirt_domain_block_stats_capacity_bytes", "vdb", |bytes| bytes == 32.0 * MIB);
    let nic =
        ["attach-interface", "busy-1", "bridge", "br0", "--model", "virtio", "--mac", "52:54:00:99:01:01", "--live"];
    cloud.virsh(&nic);
    wait::until(SOON, "a second interface, on its bridge", || {
        let families = watched.families(&busy.uuid)?;
        let family = families.get(RECEIVED).ok_or("none")?;
        let on_bridge = |labels: &&Vec<(String, String)>| labels.iter().any(|(_, value)| value == "br0");
        let count = family.series.keys().filter(on_bridge).count();
        (count == 2).then_some(()).ok_or_else(|| format!("{:?}", family.series))
    });
    watched.wait_event(&busy, "domain.device_added", "virtio-disk1");
    watched.wait_event(&busy, "domain.device_added", "net1");
    watched.wait_fact(&busy.uuid, "disk.vdb");
    watched.wait_fact(&busy.uuid, "nic.52:54:00:99:01:01");

    // A title that changes is told without a restart of anything.
    // libvirt gives its control characters as they are, which is no XML.
    cloud.virsh(&["desc", "busy-1", "--title", "--live", "another\u{1b}[31m title"]);
    watched.wait_fact(&busy.uuid, "\"title\":\"another [31m title\"");

    // It crashes; the other one ends by itself and is removed.
    hypervisor::send(cloud.process_of("busy-1"), Signal::KILL);
    watched.wait_event(&busy, "domain.stopped", "crashed");
    watched.wait_value(&busy.uuid, STATE, "", |state| state == 5.0);
    assert!(watched.value(&busy.uuid, CPU, "").is_err(), "what is off computes nothing");
    other.begin("poweroff -f");
    watched.wait_event(&idle, "domain.stopped", "shutdown");
    cloud.virsh(&["undefine", "idle-1"]);
    watched.wait_event(&idle, "domain.undefined", "removed");
    let ended_ms = watched.source(&idle.uuid).expect("it was there").last_ms;
    wait::until(SOON, "the others go on", || {
        let node_ms = watched.source("node")?.last_ms;
        (node_ms > ended_ms + 5_000).then_some(()).ok_or_else(|| format!("{node_ms}"))
    });
    let last_ms = watched.source(&idle.uuid).expect("it was there").last_ms;
    assert!(last_ms < ended_ms + 3_000, "it has frames though it is gone");
    // Started again, its counters begin anew and it is the same one.
    let source = watched.source(&busy.uuid).expect("it is there").id;
    cloud.virsh(&["start", "busy-1"]);
    watched.wait_event(&busy, "domain.started", "booted");
    watched.wait_value(&busy.uuid, CPU, "", |again| again < seconds);
    assert_eq!(watched.source(&busy.uuid).expect("it is there").id, source);
    cloud.virsh(&["destroy", "busy-1"]);
    watched.wait_event(&busy, "domain.stopped", "destroyed");
    watched.wait_value(&busy.uuid, STATE, "", |state| state == 5.0);
}

#[test]
fn a_guest_moves_from_one_hypervisor_to_another() {
    if !hypervisor::is_possible() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (Hypervisor::start(folder.path(), "from", 2), Hypervisor::start(folder.path(), "to", 3));
    from.connect(&to);
    let plan = Plan::new("moves-1", 21);
    let guest = from.boot(&plan);
    let watched = Watched::start(folder.path(), &from);
    let there = Watched::agent(folder.path(), "libvirt-to", &watched.control, &to);
    watched.wait_value(&plan.uuid, STATE, "", |state| state == 1.0);
    wait::until(SOON, "the other hypervisor", || watched.source_of(&there, "node"));
    // So much that counting anew is seen.
    guest.run("dd if=/dev/vda of=/dev/null bs=1M count=16");
    let read = watched.wait_value(&plan.uuid, READ, "vda", |bytes| bytes >= 16.0 * MIB);
    from.migrate("moves-1", &to);
    watched.wait_event(&plan, "domain.stopped", "migrated");
    watched.wait_event(&plan, "domain.migrated_in", "migrated");
    assert_eq!(watched.events(&plan, "domain.resumed", ""), 0, "it was not paused by anybody");
    assert_eq!(watched.events(&plan, "domain.stopped", "crashed"), 0);
    let arrived = wait::until(SOON, "its frames come from there", || {
        let seen = watched.source_of(&there, &plan.uuid)?;
        let text = watched.control.ask(&format!("/metrics/sources/{}", seen.id))?.text;
        let families = exporter::parse(&text);
        let state = find(&families, STATE, "")?;
        if state == 1.0 { Ok(families) } else { Err(state.to_string()) }
    });
    let anew = find(&arrived, READ, "vda").expect("a counter");
    assert!(anew < read, "it counts anew: {anew} after {read}");
    // Gone here, and alive there.
    let left_ms = watched.source(&plan.uuid).expect("it was here").last_ms;
    wait::until(SOON, "the first hypervisor goes on", || {
        let node_ms = watched.source("node")?.last_ms;
        (node_ms > left_ms + 5_000).then_some(()).ok_or_else(|| format!("{node_ms}"))
    });
    assert!(watched.source(&plan.uuid).expect("it was here").last_ms < left_ms + 3_000, "it is in two places");
    to.guest(&plan).wait_up();
    // One virtual machine with one history, on both.
    let page = wait::until(SOON, "it has moved", || {
        let known = listed(&watched.control.ask("/api/v1/vms")?.ok().json());
        let [vm] = known.as_slice() else { return Err(format!("{} virtual machines", known.len())) };
        let id = vm["id"].as_str().ok_or("no id")?;
        let page = watched.control.ask(&format!("/api/v1/vms/{id}"))?.ok().json();
        let places = page["places"].as_array().map_or(0, Vec::len);
        if places == 2 { Ok(page) } else { Err(page.to_string()) }
    });
    assert_eq!((page["uuid"].as_str(), page["state"].as_str()), (Some(plan.uuid.as_str()), Some("running")), "{page}");
    assert!(page["conflict"].is_null(), "{page}");
}

#[test]
fn libvirt_may_hang_or_be_gone() {
    if !hypervisor::is_possible() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut cloud = Hypervisor::start(folder.path(), "four", 4);
    let (stuck, well) = (Plan::new("stuck-1", 31), Plan::new("well-1", 32));
    cloud.boot(&stuck);
    cloud.boot(&well);
    let mut watched = Watched::start(folder.path(), &cloud);
    let advances = |watched: &Watched, key: &str| {
        let before = watched.source(key).expect("it is there").last_ms;
        wait::until(SOON, &format!("frames of {key}"), || {
            let seen = watched.source(key)?;
            (seen.last_ms > before + 2_000).then_some(()).ok_or_else(|| format!("{seen:?}"))
        });
    };
    watched.wait_value(&well.uuid, READ, "vda", |_| true);

    // Everything goes over one connection, and a collection is one question, however many guests there are; the node
    // is asked a few once a minute.
    wait::until(SOON, "one connection", || {
        let lookers = cloud.lookers();
        (lookers == 1).then_some(()).ok_or_else(|| format!("{lookers}"))
    });
    if let Some(strace) = Strace::attach(folder.path(), watched.agent.process().id(), &["trace=write"]) {
        let frames = |watched: &Watched| watched.value("node", "tongtu_agent_frames_total", "");
        let before = frames(&watched).expect("it is said");
        let taken = wait::until(SOON, "twenty frames", || {
            let taken = frames(&watched)? - before;
            (taken >= 20.0).then_some(taken).ok_or_else(|| taken.to_string())
        });
        let asked = strace.detach().iter().filter(|call| call.arguments.contains("<UNIX")).count() as f64;
        assert!(asked >= taken - 2.0, "{taken} frames, and {asked} questions: others were counted");
        assert!(asked <= taken + 16.0, "{taken} frames cost {asked} questions");
    }

    // A guest whose process does not answer: libvirt waits for it, and only what it is asked for is missing.
    let process = cloud.process_of("stuck-1");
    hypervisor::send(process, Signal::STOP);
    watched.wait_value("node", "tongtu_libvirt_calls_hanging", "", |calls| calls >= 1.0);
    watched.wait_value(&well.uuid, READ, "vda", |_| true);
    advances(&watched, &well.uuid);
    advances(&watched, "node");
    hypervisor::send(process, Signal::CONT);
    watched.wait_value("node", "tongtu_libvirt_calls_hanging", "", |calls| calls == 0.0);
    watched.wait_value(&stuck.uuid, READ, "vda", |_| true);

    // libvirtd does not answer.
    cloud.signal_daemon(Signal::STOP);
    watched.wait_value("node", "libvirt_up", "", |up| up == 0.0);
    advances(&watched, "node");
    let failed = watched.value("node", "node_scrape_collector_success", "libvirt_domains").expect("it is said");
    assert_eq!(failed, 0.0);
    cloud.signal_daemon(Signal::CONT);
    watched.wait_value("node", "libvirt_up", "", |up| up == 1.0);
    advances(&watched, &well.uuid);

    // It is gone, and comes back.
    cloud.stop_daemon();
    wait::until(Duration::from_secs(10), "who listens is told", || {
        let log = watched.agent.process().log();
        log.contains("the connection that listens to libvirt is gone").then_some(()).ok_or(log)
    });
    watched.wait_value("node", "libvirt_up", "", |up| up == 0.0);
    advances(&watched, "node");
    let source = watched.source(&well.uuid).expect("it was there");
    cloud.start_daemon();
    watched.wait_value("node", "libvirt_up", "", |up| up == 1.0);
    advances(&watched, &well.uuid);
    assert_eq!(watched.source(&well.uuid).expect("it is there").id, source.id, "it is the same one");
    // Its events are heard again.
    wait::until(SOON, "an event after libvirtd's return", || {
        cloud.virsh(&["suspend", "well-1"]);
        cloud.virsh(&["resume", "well-1"]);
        if watched.events(&well, "domain.suspended", "paused") > 0 { Ok(()) } else { Err("none".to_owned()) }
    });
    assert_eq!(cloud.lookers(), 1, "what was left is closed");
}

/// Debian's exporter of a hypervisor.
fn libvirt_exporter(directory: &Path, uri: &str) -> Option<(Process, String)> {
    let program = "prometheus-libvirt-exporter";
    if !tongtu_tests::has(program, tongtu_tests::on_path(program)) {
        return None;
    }
    let address = ports::free();
    let mut command = Command::new(program);
    command.arg(format!("--web.listen-address={address}")).arg(format!("--libvirt.uri={uri}"));
    let process = Process::start("libvirt-exporter", command, directory);
    let url = format!("http://{address}/metrics");
    wait::until(SOON, "the exporter answers", || http::get(&url, None));
    Some((process, url))
}

#[test]
fn names_labels_and_values_are_those_of_the_exporter() {
    if !hypervisor::is_possible() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cloud = Hypervisor::start(folder.path(), "five", 5);
    let plans = [Plan::new("same-1", 41), Plan { vcpus: 2, ..Plan::new("same-2", 42) }];
    plans.iter().for_each(|plan| {
        cloud.boot(plan).run("dd if=/dev/vda of=/dev/null bs=1M count=4; ping -q -c 3 10.99.0.1");
    });
    let Some((_exporter, url)) = libvirt_exporter(folder.path(), &cloud.uri()) else { return };
    let watched = Watched::start(folder.path(), &cloud);
    let scrape = || exporter::parse(&http::get(&url, None).expect("the exporter answers").ok().text);
    for plan in &plans {
        watched.wait_value(&plan.uuid, READ, "vda", |_| true);
    }
    let theirs = scrape();
    let from_ms = wait::wall_ms();
    let keys = ["node", plans[0].uuid.as_str(), plans[1].uuid.as_str()];
    wait::until(SOON, "a frame of each behind the scrape", || {
        let behind = keys.iter().all(|key| watched.source(key).is_ok_and(|seen| seen.last_ms > from_ms + 1_000));
        behind.then_some(()).ok_or_else(|| "not yet".to_owned())
    });
    let mut ours = Families::new();
    for key in keys {
        for (name, family) in watched.families(key).expect("its last frame") {
            let merged = ours.entry(name).or_default();
            merged.kind = family.kind;
            merged.series.extend(family.series);
        }
    }
    let later = scrape();
    let (mut names, mut wrong) = (0, Vec::new());
    for (name, family) in theirs.iter().filter(|(name, _)| name.starts_with("libvirt_")) {
        names += 1;
        let Some(our) = ours.get(name) else {
            wrong.push(format!("{name} is missing"));
            continue;
        };
        if our.kind != family.kind {
            wrong.push(format!("{name} is a {} and not a {}", our.kind, family.kind));
        }
        for (labels, first) in &family.series {
            let Some(value) = our.series.get(labels) else {
                wrong.push(format!("{name}{labels:?} is missing; ours: {:?}", our.series.keys()));
                continue;
            };
            let last = later.get(name).and_then(|family| family.series.get(labels)).unwrap_or(first);
            // CPU time is counted in hundredths by one and more finely by the other.
            let slack = if name.contains("seconds") { 0.03 } else { 0.0 };
            if !(first - slack..=last + slack).contains(value) {
                wrong.push(format!("{name}{labels:?} is {value} and not {first} to {last}"));
            }
        }
        wrong.extend(
            our.series
                .keys()
                .filter(|labels| !family.series.contains_key(*labels))
                .map(|labels| format!("{name}{labels:?} is only ours")),
        );
    }
    assert!(wrong.is_empty(), "of {names} names:\n{}", wrong.join("\n"));
    assert!(names >= 10, "the exporter shows only {names} names");
}
