//! Our metrics against Debian's node_exporter on this machine, scraped at the same moment.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tongtu_agent_host::{
    collectors::COLLECTORS,
    exporter::{Families, compare, parse},
    metrics,
};
use tongtu_agent_runtime::{collect::Context, metric::Kind, table};

const PROGRAM: &str = "/usr/bin/prometheus-node-exporter";

struct Exporter {
    process: Child,
    address: String,
}

impl Exporter {
    /// Starts one on a port of the kernel's choice, which it logs.
    fn start() -> Self {
        let mut process = Command::new(PROGRAM)
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
fn ours() -> Families {
    let mut text = String::new();
    for metric in metrics::all().chain(table::METRICS.iter().copied()) {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Untyped => "untyped",
        };
        text += &format!("# TYPE {} {kind}\n", metric.name);
    }
    for report in table::check(COLLECTORS, Context::default()) {
        for (series, value) in report.values {
            text += &format!("{series} {value}\n");
        }
        // What the table puts of a collector.
        text += &format!("node_scrape_collector_success{{collector={:?}}} 1\n", report.name);
        text += &format!("node_scrape_collector_duration_seconds{{collector={:?}}} 0\n", report.name);
    }
    let mut families = parse(&text);
    families.retain(|_, family| !family.series.is_empty());
    families
}

#[test]
fn names_types_labels_and_values_are_those_of_node_exporter() {
    if !std::path::Path::new(PROGRAM).exists() {
        assert!(std::env::var_os("CI").is_none(), "install prometheus-node-exporter");
        eprintln!("skipped: prometheus-node-exporter is not installed");
        return;
    }
    let exporter = Exporter::start();
    // What only exists after a first scrape, like its own sockets, exists in all that follow.
    let version = version(&exporter.scrape());
    // A machine moves between two scrapes; what is really different stays so.
    let comparison = (0..5)
        .map(|_| compare(&exporter.scrape(), &ours(), &exporter.scrape()))
        .reduce(|best, next| if best.different.is_empty() { best } else { next })
        .expect("it was compared");
    let share = comparison.covered as f64 / comparison.names as f64;
    println!("{} of {} names, {:.1} %", comparison.covered, comparison.names, share * 100.0);
    assert!(share >= 0.80, "only {:.1} % of the names", share * 100.0);
    // The specification is Debian 12's; others have further names and labels.
    if version.starts_with("1.5.") {
        assert_eq!(comparison.missing, [""; 0], "neither ours nor listed with a reason");
        assert!(comparison.different.is_empty(), "{}", comparison.different.join("\n"));
    }
}

fn version(families: &Families) -> String {
    let (labels, _) = families["node_exporter_build_info"].series.first_key_value().expect("one");
    labels.iter().find(|(name, _)| name == "version").expect("its version").1.clone()
}
