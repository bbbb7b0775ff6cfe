//! The servers that control is compared with: Debian's victoria-metrics and prometheus.

use crate::measure::{self, Meter};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tongtu_tests::{http, ports, process::Process, wait};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    VictoriaMetrics,
    Prometheus,
}

impl Kind {
    /// As it stands in a report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::VictoriaMetrics => "victoria_metrics",
            Self::Prometheus => "prometheus",
        }
    }

    /// Debian's program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::VictoriaMetrics => "victoria-metrics",
            Self::Prometheus => "prometheus",
        }
    }
}

/// A running peer with an empty store of its own.
#[derive(Debug)]
pub(crate) struct Peer {
    kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) meter: Meter,
    data: PathBuf,
    _process: Process,
}

impl Peer {
    /// Starts it and waits until it answers.
    pub(crate) fn start(kind: Kind, folder: &Path) -> Self {
        let address = ports::free();
        let data = folder.join(kind.name());
        let mut command = Command::new(kind.program());
        match kind {
            Kind::VictoriaMetrics => command
                .arg(format!("-storageDataPath={}", data.display()))
                .arg(format!("-httpListenAddr={address}"))
                .arg("-retentionPeriod=12"),
            Kind::Prometheus => {
                let configuration = folder.join("empty.yml");
                std::fs::write(&configuration, "global: {}\n").expect("a configuration");
                command
                    .arg(format!("--config.file={}", configuration.display()))
                    .arg(format!("--storage.tsdb.path={}", data.display()))
                    .arg(format!("--web.listen-address={address}"))
                    .arg("--web.enable-remote-write-receiver")
                    .arg("--web.enable-admin-api")
            }
        };
        let process = Process::start(kind.name(), command, folder);
        let route = if kind == Kind::Prometheus { "/-/ready" } else { "/health" };
        wait::until(Duration::from_secs(60), "the peer is ready", || {
            let answer = http::get(&format!("http://{address}{route}"), None)?;
            (answer.status == 200).then_some(()).ok_or(answer.text)
        });
        Self { kind, address, meter: Meter::start(process.id()), data, _process: process }
    }

    /// Merges what it holds, as its own merges would in time.
    ///
    /// victoria-metrics: what is in memory to parts on the disk, then a forced merge of all parts of a
    /// partition. prometheus has no call that compacts its head; a snapshot writes the head as a block, which
    /// is the work of its compaction, and the block is what is measured on the disk.
    pub(crate) fn merge(&self) {
        let url = |route: &str| format!("http://{}{route}", self.address);
        match self.kind {
            Kind::VictoriaMetrics => {
                for route in ["/internal/force_flush", "/internal/force_merge"] {
                    let answer = http::get(&url(route), None).expect("it answers");
                    assert_eq!(answer.status, 200, "{}", answer.text);
                }
                self.wait_settled();
            }
            Kind::Prometheus => {
                let answer =
                    http::request("POST", &url("/api/v1/admin/tsdb/snapshot"), None, None).expect("it answers");
                assert_eq!(answer.status, 200, "{}", answer.text);
            }
        }
    }

    /// Bytes on the disk of the merged data.
    pub(crate) fn disk_bytes(&self) -> u64 {
        match self.kind {
            Kind::VictoriaMetrics => measure::disk_bytes(&self.data),
            Kind::Prometheus => measure::disk_bytes(&self.data.join("snapshots")),
        }
    }

    /// Until a second goes by in which it does next to nothing and its files do not change.
    fn wait_settled(&self) {
        let mut last = (self.meter.cpu_s(), 0);
        let watch = wait::Stopwatch::start();
        loop {
            wait::pause(Duration::from_secs(1));
            let now = (self.meter.cpu_s(), self.disk_bytes());
            let settled = now.0 - last.0 < 0.05 && now.1 == last.1;
            if settled || watch.elapsed() > Duration::from_secs(300) {
                return;
            }
            last = now;
        }
    }
}
