//! The real Prometheus, promtool and node_exporter, of Debian's packages.

use crate::{http, ports, process::Process, wait};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    /// Starts one on a configuration in `directory`, if the machine has it. Paths in the
    /// configuration are relative to that directory.
    #[track_caller]
    pub fn start(directory: &Path, configuration: &str) -> Option<Self> {
        if !crate::has("prometheus", crate::on_path("prometheus")) {
            return None;
        }
        let file = directory.join("prometheus.yml");
        std::fs::write(&file, configuration).expect("the configuration");
        let address = ports::free();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"));
        let process = Process::start("prometheus", command, directory);
        wait::until(Duration::from_secs(60), "Prometheus is ready", || {
            let response = http::get(&format!("http://{address}/-/ready"), None)?;
            (response.status == 200).then_some(()).ok_or(response.text)
        });
        Some(Self { address, _process: process })
    }

    /// An instant query: the labels and the value of every series.
    #[must_use]
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<(serde_json::Value, f64)> {
        let mut url = reqwest::Url::parse(&format!("http://{}/api/v1/query", self.address)).expect("an address");
        url.query_pairs_mut().append_pair("query", expression);
        let answer = http::get(url.as_str(), None).expect("Prometheus answers").ok().json();
        answer["data"]["result"]
            .as_array()
            .expect("a vector")
            .iter()
            .map(|series| {
                let value = series["value"][1].as_str().expect("a value").parse().expect("a number");
                (series["metric"].clone(), value)
            })
            .collect()
    }

    /// Its targets, as it sees them.
    #[must_use]
    pub fn targets(&self) -> serde_json::Value {
        http::get(&format!("http://{}/api/v1/targets", self.address), None)
            .expect("Prometheus answers")
            .ok()
            .json()["data"]["activeTargets"]
            .clone()
    }
}

/// What `promtool check metrics` says of an exposition: its complaints, a line each.
#[track_caller]
pub fn promtool(exposition: &str) -> Option<Vec<String>> {
    if !crate::has("promtool", crate::on_path("promtool")) {
        return None;
    }
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    // It reads everything before it says anything.
    child.stdin.take().expect("piped").write_all(exposition.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stderr)
        .lines()
        .chain(String::from_utf8_lossy(&output.stdout).lines())
        .filter(|line| !line.is_empty())
        .map(ToOwned::to_owned)
        .collect();
    lines.sort();
    Some(lines)
}

/// A running node_exporter.
#[derive(Debug)]
pub struct NodeExporter {
    address: SocketAddr,
    _process: Process,
}

impl NodeExporter {
    /// Starts one with its defaults, if the machine has it.
    #[track_caller]
    pub fn start(directory: &Path) -> Option<Self> {
        let program = "prometheus-node-exporter";
        if !crate::has(program, crate::on_path(program)) {
            return None;
        }
        let address = ports::free();
        let mut command = Command::new(program);
        command.arg(format!("--web.listen-address={address}"));
        let process = Process::start("node-exporter", command, directory);
        wait::until(Duration::from_secs(30), "node_exporter answers", || {
            http::get(&format!("http://{address}/"), None)
        });
        Some(Self { address, _process: process })
    }

    /// One scrape.
    #[must_use]
    #[track_caller]
    pub fn scrape(&self) -> String {
        http::get(&format!("http://{}/metrics", self.address), None).expect("node_exporter answers").ok().text
    }
}
