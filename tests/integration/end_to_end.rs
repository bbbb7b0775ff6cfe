//! From this machine to a screen and to Prometheus: what a person gets who follows the README.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tongtu_agent_host::exporter;
use tongtu_tests::agent::Agent;
use tongtu_tests::control::{Control, listed};
use tongtu_tests::process::{self, Process};
use tongtu_tests::prometheus::{NodeExporter, Prometheus, promtool};
use tongtu_tests::{http, ports, series, wait};

/// "Within a minute of the build's end".
const MINUTE: Duration = Duration::from_secs(60);

/// `make run` after its build.
struct Run {
    http: SocketAddr,
    data: std::path::PathBuf,
    process: Process,
}

impl Run {
    fn start(directory: &Path, http: SocketAddr, agents: SocketAddr) -> Self {
        let binaries = process::binary("tongtu");
        let _ = process::binary("tongtu-agent");
        let data = directory.join("data");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut command = Command::new(root.join("scripts/run.sh"));
        command.arg(binaries.parent().expect("a folder")).arg(&data).current_dir(directory);
        command.env("TONGTU_HTTP", http.to_string()).env("TONGTU_AGENTS", agents.to_string());
        Self { http, data, process: Process::start_group("run", command, directory) }
    }

    fn get(&self, route: &str) -> Result<http::Response, String> {
        let token = std::fs::read_to_string(self.data.join("api-token")).map_err(|err| err.to_string())?;
        http::get(&format!("http://{}{route}", self.http), Some(token.trim()))
    }

    /// The only host, once it has figures.
    #[track_caller]
    fn host(&mut self) -> serde_json::Value {
        // Other tests add and remove interfaces meanwhile, of which nothing is known in their first frame.
        wait::until(MINUTE * 3, "the hosts API shows this machine", || {
            assert!(self.process.ended().is_none(), "it ended:\n{}", self.process.log());
            let answer = self.get("/api/v1/hosts")?;
            if answer.status != 200 {
                return Err(answer.text);
            }
            let hosts = listed(&answer.json());
            let [host] = hosts.as_slice() else { return Err(format!("{} hosts", hosts.len())) };
            let known = ["cpu_usage_percent", "network_receive_bytes_per_second", "memory_total_bytes"]
                .iter()
                .all(|figure| find(host, figure).is_some_and(serde_json::Value::is_number));
            known.then(|| host.clone()).ok_or_else(|| host.to_string())
        })
    }
}

/// The first member of that name, wherever it stands.
fn find<'a>(value: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    match value {
        serde_json::Value::Object(members) => {
            members.get(name).or_else(|| members.values().find_map(|member| find(member, name)))
        }
        serde_json::Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        _ => None,
    }
}

/// Seconds of CPU time by mode, summed over all cores, as /proc/stat counts them.
fn cpu_seconds() -> Vec<f64> {
    let stat = std::fs::read_to_string("/proc/stat").expect("/proc/stat");
    let line = stat.lines().next().expect("the sum of all cores");
    line.split_whitespace().skip(1).take(8).map(|ticks| ticks.parse::<f64>().expect("ticks") / 100.0).collect()
}

/// Bytes received by interface, as /proc/net/dev counts them.
fn received_bytes() -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string("/proc/net/dev").expect("/proc/net/dev");
    text.lines()
        .filter_map(|line| {
            let (name, counters) = line.split_once(':')?;
            Some((name.trim().to_owned(), counters.split_whitespace().next()?.parse().ok()?))
        })
        .collect()
}

fn memory_total_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).expect("MemTotal");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("kB") * 1024.0
}

#[test]
fn make_run_shows_this_machine_and_continues_after_ctrl_c() {
    let directory = tempfile::tempdir().expect("a folder");
    let (http, agents) = (ports::free(), ports::free());
    let (cpu_before, received_before) = (cpu_seconds(), received_bytes());
    let mut run = Run::start(directory.path(), http, agents);
    let host = run.host();

    // Figures that do not move are the same; the machine's name is its own.
    assert_eq!(find(&host, "memory_total_bytes").and_then(serde_json::Value::as_f64), Some(memory_total_bytes()));
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    assert_eq!(find(&host, "name").and_then(|name| name.as_str()), Some(hostname.trim()));
    let usage = find(&host, "cpu_usage_percent").and_then(serde_json::Value::as_f64).expect("a share");
    assert!((0.0..=100.0).contains(&usage), "{usage} %");

    // Counters lie between what /proc said before and says now.
    let id = run.get("/api/v1/prometheus/targets").map(|answer| series::target_paths(&answer.json())).expect("targets");
    let [path] = id.as_slice() else { panic!("one source: {id:?}") };
    let ours = exporter::parse(&run.get(path).expect("an answer").ok().text);
    let (cpu_after, received_after) = (cpu_seconds(), received_bytes());
    for (index, mode) in ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"].iter().enumerate() {
        let value: f64 = ours["node_cpu_seconds_total"]
            .series
            .iter()
            .filter(|(labels, _)| labels.iter().any(|(name, value)| name == "mode" && value == mode))
            .map(|(_, value)| value)
            .sum();
        // A tick of each core may be cut off.
        let slack = 0.1;
        let (low, high) = (cpu_before[index] - slack, cpu_after[index] + slack);
        // Where the kernel lets idle and iowait go back, nothing can be said of them.
        let moves_back = matches!(*mode, "idle" | "iowait");
        assert!(moves_back || (low..=high).contains(&value), "{mode}: {value} s is not in {low} to {high}");
    }
    // node_exporter leaves `lo` out where it asks netlink.
    for (device, before) in received_before.into_iter().filter(|(device, _)| device != "lo") {
        let label = [("device".to_owned(), device.clone())];
        let value = ours["node_network_receive_bytes_total"].series.get(label.as_slice()).copied();
        let value = value.unwrap_or_else(|| panic!("{device} is not there"));
        assert!((before..=received_after[&device]).contains(&value), "{device}: {value} bytes");
    }

    // Ctrl-C ends both, cleanly; nobody is left at the port.
    let status = run.process.interrupt(MINUTE);
    assert_eq!(status.code(), Some(0), "{}", run.process.log());
    assert!(std::net::TcpStream::connect(http).is_err(), "control still listens");
    // Both came to their ends: a second signal would have cut control off.
    let log = run.process.log();
    assert_eq!(log.lines().filter(|line| line.ends_with(" INFO stopped")).count(), 2, "{log}");

    // A second run continues: the same host, the same agent, and no new enrolment.
    let identity = std::fs::read(run.data.join("agent/identity.json")).expect("an identity");
    let mut run = Run::start(directory.path(), http, agents);
    let again = run.host();
    assert_eq!(find(&again, "id"), find(&host, "id"));
    assert_eq!(std::fs::read(run.data.join("agent/identity.json")).expect("an identity"), identity);
    // A third one beside it says that the port, or the data, is taken, and harms nothing.
    let mut third = Run::start(directory.path(), http, agents);
    let status = third.process.wait(MINUTE);
    assert_eq!(status.code(), Some(1), "{}", third.process.log());
    assert!(third.process.log().contains("in use"), "{}", third.process.log());
    assert_eq!(find(&run.host(), "id"), find(&host, "id"));
    assert_eq!(run.process.interrupt(MINUTE).code(), Some(0), "{}", run.process.log());
}

/// Control and the host agent, with a frame every second.
fn host_every_second(directory: &Path) -> (Control, Agent) {
    let mut control = Control::new(directory);
    control.start();
    let mut agent = Agent::new(directory);
    agent.enroll(&control).start();
    wait::until(MINUTE, "a frame of the host", || {
        let targets = control.ask("/api/v1/prometheus/targets")?.json();
        (!series::target_paths(&targets).is_empty()).then_some(()).ok_or(targets.to_string())
    });
    (control, agent)
}

#[track_caller]
fn source_text(control: &Control) -> String {
    let targets = control.get("/api/v1/prometheus/targets").json();
    control.get(&series::target_paths(&targets)[0]).text
}

/// The README's configuration, on this control.
fn configuration(control: &Control) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let begin = readme.find("```yaml\n").expect("prometheus.yml") + 8;
    let yaml = &readme[begin..begin + readme[begin..].find("```").expect("its end")];
    assert!(yaml.contains("127.0.0.1:6480") && yaml.contains("data/api-token"), "{yaml}");
    let token = control.data.join("api-token").display().to_string();
    // The real one scrapes every minute, and waits for its first discovery.
    format!("global:\n  scrape_interval: 2s\n{yaml}")
        .replace("127.0.0.1:6480", &control.http().to_string())
        .replace("data/api-token", &token)
        .replace("http_sd_configs:\n      - ", "http_sd_configs:\n      - refresh_interval: 2s\n        ")
}

/// The same over TLS, with what the README adds to it.
fn configuration_over_tls(control: &Control) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let added = readme.split("```yaml\n").filter_map(|block| block.split("```").next());
    let added = added.filter(|block| block.contains("ca_file")).collect::<Vec<_>>();
    let [added] = added[..] else { panic!("one block of TLS: {added:?}") };
    let lines: Vec<&str> = added.lines().collect();
    let [scheme, trust] = lines[..] else { panic!("two lines: {added}") };
    let authority = control.data.join("ca/ca.pem").display().to_string();
    configuration(control)
        .replace("\n    authorization:", &format!("\n    {scheme}\n    {trust}\n    authorization:"))
        .replace("\n        authorization:", &format!("\n        {trust}\n        authorization:"))
        .replace("http://", "https://")
        .replace("data/ca/ca.pem", &authority)
}

#[track_caller]
fn both_jobs_are_up(prometheus: &Prometheus) {
    wait::until(MINUTE, "both jobs are up", || {
        let up: BTreeMap<String, f64> = prometheus
            .query("up")
            .into_iter()
            .map(|(labels, value)| (labels["job"].as_str().unwrap_or_default().to_owned(), value))
            .collect();
        let wanted = BTreeMap::from([("tongtu".to_owned(), 1.0), ("tongtu-sources".to_owned(), 1.0)]);
        (up == wanted).then_some(()).ok_or_else(|| format!("{up:?}: {}", prometheus.targets()))
    });
}

#[test]
fn prometheus_scrapes_over_tls_and_trusts_the_authority_of_control() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path()).with_configuration("[http]\ntls = \"self_made\"\n");
    control.spawn();
    wait::until(MINUTE, "the command line is answered", || {
        let output = control.tongtu(&["agent", "list"]);
        output.status.success().then_some(()).ok_or(output.stderr)
    });
    let mut agent = Agent::new(directory.path());
    agent.enroll(&control).start();
    let Some(prometheus) = Prometheus::start(directory.path(), &configuration_over_tls(&control)) else { return };
    both_jobs_are_up(&prometheus);
    assert_eq!(prometheus.query("node_memory_MemTotal_bytes")[0].1, memory_total_bytes());
    let scraped = prometheus.targets().to_string();
    assert!(scraped.contains("https://") && !scraped.contains("http://"), "{scraped}");
    assert!(agent.interrupt().success());
}

#[test]
fn prometheus_discovers_the_source_and_scrapes_it() {
    let directory = tempfile::tempdir().expect("a folder");
    let (control, mut agent) = host_every_second(directory.path());
    let Some(prometheus) = Prometheus::start(directory.path(), &configuration(&control)) else { return };
    both_jobs_are_up(&prometheus);
    let total = prometheus.query("node_memory_MemTotal_bytes");
    assert_eq!(total.len(), 1, "{total:?}");
    assert_eq!(total[0].1, memory_total_bytes());
    // A dashboard's question, in the words of node_exporter.
    wait::until(MINUTE, "a rate", || {
        let rate = prometheus.query("sum(rate(node_cpu_seconds_total[10s]))");
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
        match rate.as_slice() {
            [(_, rate)] if (cores * 0.5..cores * 1.5).contains(rate) => Ok(()),
            other => Err(format!("{other:?} of {cores} cores")),
        }
    });
    // A source that is silent disappears, with its values.
    agent.kill();
    wait::until(2 * MINUTE, "the stale source disappears", || {
        let targets = control.get("/api/v1/prometheus/targets").json();
        series::target_paths(&targets).is_empty().then_some(()).ok_or(targets.to_string())
    });
}

#[test]
fn promtool_has_nothing_to_say_that_it_does_not_say_of_node_exporter() {
    let directory = tempfile::tempdir().expect("a folder");
    let (control, _agent) = host_every_second(directory.path());
    let Some(complaints) = promtool(&control.get("/metrics").text) else { return };
    assert_eq!(complaints, Vec::<String>::new(), "/metrics");

    let Some(node_exporter) = NodeExporter::start(directory.path()) else { return };
    let theirs: BTreeSet<String> = promtool(&node_exporter.scrape()).unwrap_or_default().into_iter().collect();
    let ours = promtool(&source_text(&control)).unwrap_or_default();
    let only_ours: Vec<_> = ours.into_iter().filter(|line| !theirs.contains(line)).collect();
    assert_eq!(only_ours, Vec::<String>::new(), "/metrics/sources/{{id}}");
}

#[test]
fn names_types_labels_and_values_are_those_of_node_exporter() {
    let directory = tempfile::tempdir().expect("a folder");
    let (control, _agent) = host_every_second(directory.path());
    let Some(node_exporter) = NodeExporter::start(directory.path()) else { return };
    let scrape = || exporter::parse(&node_exporter.scrape());
    // Its own sockets and files exist from its second scrape on.
    scrape();
    // What moves within the second between two frames may differ once, not every time.
    let (mut share, mut is_judged) = (0.0, false);
    wait::until(MINUTE, "a moment in which both agree", || {
        let before = scrape();
        let old = exporter::parse(&source_text(&control))["node_time_seconds"].clone();
        let ours = wait::until(MINUTE, "the next frame", || {
            let ours = exporter::parse(&source_text(&control));
            (ours["node_time_seconds"] != old).then_some(ours).ok_or_else(|| "the same".to_owned())
        });
        let comparison = exporter::compare(&before, &ours, &scrape());
        share = comparison.covered as f64 / comparison.names as f64;
        is_judged = comparison.is_judged;
        assert_eq!(comparison.missing, Vec::<String>::new(), "neither ours nor listed with a reason");
        comparison.different.is_empty().then_some(()).ok_or_else(|| comparison.different.join("\n"))
    });
    eprintln!("{:.1} % of node_exporter's names", share * 100.0);
    assert!(share >= 0.8, "only {:.1} % of its names", share * 100.0);
    // Of another one only types were compared.
    tongtu_tests::has("node_exporter 1.5, whose names ours are,", is_judged);
}

#[test]
fn an_agent_shows_its_last_frame_where_its_configuration_says() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path());
    control.start();
    let (mut agent, address) = (Agent::new(directory.path()), ports::free());
    agent.enroll(&control);
    let configuration = format!("interval = \"1s\"\nmetrics = \"{address}\"\n");
    std::fs::write(agent.data.join("agent.toml"), configuration).expect("its configuration");
    agent.start();
    let url = format!("http://{address}/metrics");
    let look = || exporter::parse(&http::get(&url, None).map(|answer| answer.text).unwrap_or_default());
    let time = |families: &exporter::Families| families.get("node_time_seconds")?.series.values().next().copied();
    let first = wait::until(MINUTE, "a frame", || time(&look()).ok_or_else(String::new));
    wait::until(MINUTE, "the next frame", || {
        time(&look()).filter(|now| *now > first).map(|_| ()).ok_or_else(|| format!("{first}"))
    });
    let memory = look()["node_memory_MemTotal_bytes"].series.values().next().copied();
    assert_eq!(memory, Some(memory_total_bytes()));
    // Without control as well: that is what it is for.
    control.interrupt();
    let last = time(&look()).expect("a frame");
    wait::until(MINUTE, "a frame while control is away", || {
        time(&look()).filter(|now| *now > last).map(|_| ()).ok_or_else(|| format!("{last}"))
    });
    // Not configured, nobody listens.
    assert!(agent.interrupt().success());
    std::fs::write(agent.data.join("agent.toml"), "interval = \"1s\"\n").expect("its configuration");
    agent.start();
    wait::until(MINUTE, "it runs", || {
        let log = agent.process().log();
        (log.matches(" running ").count() >= 2).then_some(()).ok_or(log)
    });
    assert!(http::get(&url, None).is_err(), "it shows what nobody asked for");
}

#[test]
fn an_agent_that_is_revoked_is_refused_and_says_so() {
    let directory = tempfile::tempdir().expect("a folder");
    let (control, mut agent) = host_every_second(directory.path());
    let output = control.tongtu(&["agent", "revoke", &agent.id()]);
    assert!(output.status.success(), "{}", output.stderr);
    wait::until(MINUTE, "the agent hears of it", || {
        let log = agent.process().log();
        log.contains("revoked").then_some(()).ok_or(log)
    });
    let list = control.tongtu(&["agent", "list", "--json"]);
    let agents = listed(&serde_json::from_str(&list.stdout).expect("JSON"));
    assert_eq!(find(&agents[0], "state").map(ToString::to_string), Some("\"revoked\"".to_owned()), "{}", list.stdout);
}

#[test]
fn what_teaches_is_there() {
    for (binary, command) in [
        ("tongtu", &[][..]),
        ("tongtu", &["serve"]),
        ("tongtu", &["migrate"]),
        ("tongtu", &["openapi"]),
        ("tongtu", &["agent", "token"]),
        ("tongtu", &["agent", "list"]),
        ("tongtu", &["agent", "revoke"]),
        ("tongtu-agent", &["enroll"]),
        ("tongtu-agent", &["run"]),
        ("tongtu-agent", &["check"]),
        ("tongtu-simulator", &[]),
    ] {
        let mut help = Command::new(process::binary(binary));
        help.args(command).arg("--help");
        let help = process::run(help, MINUTE);
        assert!(help.status.success() && help.stdout.lines().count() >= 5, "{binary} {command:?}: {}", help.stdout);
    }
    let mut openapi = Command::new(process::binary("tongtu"));
    openapi.arg("openapi");
    let document: serde_json::Value = serde_json::from_str(&process::run(openapi, MINUTE).stdout).expect("JSON");
    for route in
        ["/api/v1/agents", "/api/v1/hosts", "/api/v1/series", "/api/v1/prometheus/targets", "/metrics", "/healthz"]
    {
        assert!(!document["paths"][route].is_null(), "{route} is not in the document");
    }
    let mut check = Command::new(process::binary("tongtu-agent"));
    check.args(["check", "--json"]);
    let check = process::run(check, MINUTE);
    assert!(check.status.success(), "{}", check.stderr);
    let _: serde_json::Value = serde_json::from_str(&check.stdout).expect("JSON");
}
