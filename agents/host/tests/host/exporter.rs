//! Our metrics against Debian's node_exporter on this machine, scraped at the same moment.

use crate::machine::{SERVER, only, server};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tongtu_agent_host::{
    collectors::COLLECTORS,
    exporter::{Comparison, Families, compare, parse},
    metrics,
};
use tongtu_agent_runtime::{
    collect::Context,
    metric::Kind,
    table::{self, Table},
};

const PROGRAM: &str = "/usr/bin/prometheus-node-exporter";

struct Exporter {
    process: Child,
    address: String,
}

impl Exporter {
    /// Starts one on a port of the kernel's choice, which it logs.
    fn start(arguments: &[String]) -> Self {
        let mut process = Command::new(PROGRAM)
            .args(arguments)
            .args(["--web.listen-address=127.0.0.1:0", "--log.format=logfmt"])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("node_exporter starts");
        let log = BufReader::new(process.stderr.take().expect("its log is piped"));
        let mut lines = log.lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| {
                let rest = line.split_once("Listening on\" address=")?.1;
                Some(rest.split(' ').next()?.to_owned())
            })
            .expect("node_exporter says where it listens");
        // It must not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address }
    }

    fn scrape(&self) -> Families {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let request = "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        parse(answer.split_once("\r\n\r\n").expect("a body").1)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Our metrics in Prometheus' format.
fn ours(table: &mut Table) -> Families {
    let mut text = String::new();
    for metric in metrics::all().chain(table::METRICS.iter().copied()) {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Untyped => "untyped",
        };
        text += &format!("# TYPE {} {kind}\n", metric.name);
    }
    for report in table.check() {
        for (series, value) in report.values {
            text += &format!("{series} {value}\n");
        }
        // What the table puts of a collector.
        let name = report.name;
        text += &format!("node_scrape_collector_success{{collector={name:?}}} 1\n");
        text += &format!("node_scrape_collector_duration_seconds{{collector={name:?}}} 0\n");
    }
    let mut families = parse(&text);
    families.retain(|_, family| !family.series.is_empty());
    families
}

fn is_installed() -> bool {
    let there = std::path::Path::new(PROGRAM).exists();
    if !there {
        assert!(std::env::var_os("CI").is_none(), "install prometheus-node-exporter");
        eprintln!("skipped: prometheus-node-exporter is not installed");
    }
    there
}

/// Names and labels are judged by the exporter of Debian 12 alone.
fn is_judged(comparison: &Comparison) {
    if !comparison.is_judged {
        assert!(std::env::var_os("CI").is_none(), "this node_exporter is not 1.5, whose names ours are held against");
        // Not by a macro: what those print the test runner shows only of tests that fail.
        let _ =
            writeln!(std::io::stderr(), "\n!!  NOT JUDGED: of a node_exporter that is not 1.5 only types are compared");
    }
}

#[test]
fn names_types_labels_and_values_are_those_of_node_exporter() {
    if !is_installed() {
        return;
    }
    let exporter = Exporter::start(&[]);
    // What only exists after a first scrape, like its own sockets, exists in all that follow.
    exporter.scrape();
    // As an agent does, files are kept open from frame to frame.
    let mut table = Table::new(COLLECTORS, Context::default());
    let _ = table.check();
    // A machine moves between two scrapes; what is really different stays so.
    let comparison = (0..5)
        .map(|_| {
            let before = exporter.scrape();
            let ours = ours(&mut table);
            compare(&before, &ours, &exporter.scrape())
        })
        .reduce(|best, next| if best.different.is_empty() { best } else { next })
        .expect("it was compared");
    is_judged(&comparison);
    let share = comparison.covered as f64 / comparison.names as f64;
    println!("{} of {} names, {:.1} %", comparison.covered, comparison.names, share * 100.0);
    assert!(share >= 0.80, "only {:.1} % of the names", share * 100.0);
    assert_eq!(comparison.missing, [""; 0], "neither ours nor listed with a reason");
    assert!(comparison.different.is_empty(), "{}", comparison.different.join("\n"));
}

#[test]
fn a_server_of_recorded_files_looks_the_same_to_both() {
    if !is_installed() {
        return;
    }
    let machine = server();
    let path = |flag: &str, path: &str| format!("--path.{flag}={}", machine.path(path).display());
    let collectors = [
        "cpu",
        "stat",
        "loadavg",
        "meminfo",
        "vmstat",
        "pressure",
        "netstat",
        "sockstat",
        "softnet",
        "conntrack",
        "filefd",
        "entropy",
        "hwmon",
        "thermal_zone",
        "edac",
        "cpufreq",
        "nvme",
        "bonding",
        "selinux",
        "schedstat",
        "mdadm",
        "arp",
        "diskstats",
        "dmi",
    ];
    let mut arguments: Vec<String> = collectors.iter().map(|name| format!("--collector.{name}")).collect();
    arguments.extend([
        "--collector.disable-defaults".to_owned(),
        path("procfs", "proc"),
        path("sysfs", "sys"),
        path("udev.data", "run/udev/data"),
    ]);
    let exporter = Exporter::start(&arguments);
    let theirs = exporter.scrape();
    let comparison = compare(&theirs, &ours(&mut Table::new(only(&SERVER), machine.context())), &theirs);
    assert!(comparison.names > 150, "{comparison:?}");
    assert_eq!(comparison.missing, [""; 0], "neither ours nor listed with a reason");
    // It asks a library for SELinux's state, which does not look at recorded files.
    let mut different = comparison.different;
    different.retain(|difference| !difference.starts_with("node_selinux_"));
    assert!(different.is_empty(), "{}", different.join("\n"));
}
