//! Our metrics beside those of node_exporter: which of its names are deliberately not ours, and the
//! comparison of two texts in Prometheus' format. Tests use it here and end to end.

use std::{collections::BTreeMap, fmt};

/// Names of node_exporter's default collectors that we do not report, with the reason. One that ends
/// with `*` stands for all that begin so and are not ours.
pub static NOT_COVERED: &[(&str, &str)] = &[
    ("node_exporter_build_info", "names the exporter itself"),
    ("node_textfile_*", "the agent takes no metrics from files that others write"),
    ("node_systemd_*", "needs D-Bus, which the agent does not speak"),
    ("node_disk_ata_*", "what udev read from the drive once; not a measurement"),
    ("node_disk_device_mapper_info", "describes volumes, which come with their own issue"),
    ("node_disk_filesystem_info", "describes volumes, which come with their own issue"),
    ("node_rapl_*", "readable by root only since CVE-2020-8694, and the agent needs no root"),
    ("node_power_supply_*", "batteries; servers have none"),
    ("node_nfs_*", "request counters of an NFS client, not of the machine"),
    ("node_nfsd_*", "request counters of an NFS server, not of the machine"),
    ("node_ipvs_*", "belongs to load balancers, which come with their own issue"),
    ("node_xfs_*", "internals of one file system"),
    ("node_zfs_*", "internals of one file system"),
    ("node_btrfs_*", "internals of one file system"),
    ("node_bcache_*", "internals of one block cache"),
    ("node_infiniband_*", "hardware that e-government clouds do not have"),
    ("node_fibrechannel_*", "belongs to storage networks, which have no issue yet"),
    ("node_tape_*", "tape drives"),
    ("node_hwmon_*", "limits, alarms and rare kinds of sensors; the measurements are ours"),
    ("node_netstat_TcpExt_TCPOFOQueue", "later exporters only, and a name that promtool refuses"),
    ("node_netstat_TcpExt_TCPRcvQDrop", "later exporters only, and a name that promtool refuses"),
    ("node_filesystem_mount_info", "numbers of devices that mean something to the kernel only"),
    ("node_filesystem_purgeable_bytes", "not on Linux"),
    ("node_network_altnames_info", "other names of the same interface"),
    ("node_cpu_scaling_governor", "a setting, not a measurement"),
    ("node_watchdog_*", "settings of a device that virtual machines do not have"),
    ("node_swap_*", "each swap device; the machine's swap is in node_memory_*"),
];

/// Why this name is not ours, if it is listed.
#[must_use]
pub fn not_covered(name: &str) -> Option<&'static str> {
    NOT_COVERED.iter().find(|(pattern, _)| is(pattern, name)).map(|(_, reason)| *reason)
}

/// The families of a text in Prometheus' format.
pub type Families = BTreeMap<String, Family>;

/// A family: its type as written, and its series by their labels.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Family {
    /// `counter`, `gauge` or `untyped`.
    pub kind: String,
    /// Labels, sorted by name, without those that are empty; and the value.
    pub series: BTreeMap<Vec<(String, String)>, f64>,
}

/// Reads a text in Prometheus' format. Lines that it does not understand are left out.
#[must_use]
pub fn parse(text: &str) -> Families {
    let mut families = Families::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            if let Some((name, kind)) = rest.split_once(' ') {
                families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            }
        } else if let Some((name, labels, value)) = sample(line) {
            let family = families.entry(name.to_owned()).or_default();
            family.series.insert(labels, value);
        }
    }
    for family in families.values_mut().filter(|family| family.kind.is_empty()) {
        family.kind = "untyped".to_owned();
    }
    families
}

type Labels = Vec<(String, String)>;

fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    // A timestamp may follow the value.
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name, labels, value))
}

fn labels(mut rest: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            labels.sort();
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        if !value.is_empty() {
            labels.push((name.to_owned(), value));
        }
        rest = &after[end + 1..];
    }
}

/// How the two differ, in the names that the exporter has.
#[derive(Debug, Default)]
pub struct Comparison {
    /// `node_…` names of the exporter.
    pub names: usize,
    /// Of these, ours as well.
    pub covered: usize,
    /// Names that are neither ours nor in [`NOT_COVERED`].
    pub missing: Vec<String>,
    /// What has another type, other labels, or a value that cannot be of the same moment.
    pub different: Vec<String>,
    /// The exporter is the one that our names follow; of another one only types were compared.
    pub is_judged: bool,
}

/// A gauge may differ by this share of the larger value, or by what moves all the time.
const TOLERANCE: f64 = 0.10;

/// Gauges that tell of the moment or of the reader, and not of the machine's state: their series
/// are compared, their values are not.
const MOMENTARY: &[&str] = &[
    "node_procs_running",
    "node_procs_blocked",
    "node_scrape_collector_duration_seconds",
    "node_scrape_collector_success",
    "node_disk_io_now",
    "node_memory_Dirty_bytes",
    "node_memory_Writeback_bytes",
    "node_udp_queues",
    "node_sockstat_*",
    "node_netstat_Tcp_CurrEstab",
    "node_load1",
    "node_nf_conntrack_entries",
    "node_timex_*",
];

fn is_momentary(name: &str) -> bool {
    MOMENTARY.iter().any(|pattern| is(pattern, name))
}

/// Whether a pattern, which may end with `*`, stands for this name.
fn is(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

/// Compares the exporter, scraped before and after, with ours taken in between. A counter has to
/// lie between its two values, a gauge near one of them. The specification is the exporter of Debian 12;
/// others have further names and labels, so of these only types are compared. Only collectors' names of
/// `node_scrape_collector_…` differ: ours are others.
#[must_use]
pub fn compare(before: &Families, ours: &Families, after: &Families) -> Comparison {
    let strict = is_the_specification(before);
    let mut comparison = Comparison { is_judged: strict, ..Comparison::default() };
    for (name, theirs) in before.iter().filter(|(name, _)| name.starts_with("node_")) {
        comparison.names += 1;
        let Some(our) = ours.get(name) else {
            if strict && not_covered(name).is_none() {
                comparison.missing.push(name.clone());
            }
            continue;
        };
        comparison.covered += 1;
        if our.kind != theirs.kind {
            comparison.different.push(format!("{name} is a {} and not a {}", our.kind, theirs.kind));
        }
        if !strict || name.starts_with("node_scrape_collector_") {
            continue;
        }
        for (labels, &first) in &theirs.series {
            let shown = Shown(name, labels);
            let Some(&value) = our.series.get(labels) else {
                comparison.different.push(format!("{shown} is not there"));
                continue;
            };
            let last = after.get(name).and_then(|family| family.series.get(labels));
            let last = last.copied().unwrap_or(first);
            if !is_momentary(name) && !is_between(&theirs.kind, first, value, last) {
                comparison.different.push(format!("{shown} is {value}, not {first} to {last}"));
            }
        }
        for labels in our.series.keys().filter(|labels| !theirs.series.contains_key(*labels)) {
            comparison.different.push(format!("{} is only ours", Shown(name, labels)));
        }
    }
    comparison
}

fn is_the_specification(families: &Families) -> bool {
    let Some(about) = families.get("node_exporter_build_info") else { return true };
    let version = |labels: &Vec<(String, String)>| {
        labels.iter().any(|(name, value)| name == "version" && value.starts_with("1.5."))
    };
    about.series.keys().any(version)
}

fn is_between(kind: &str, first: f64, value: f64, last: f64) -> bool {
    let (low, high) = (first.min(last), first.max(last));
    // Floating point, and the last digit of what we keep as an integer.
    let grain = 1e-9 * high.abs() + 1.1e-4;
    let slack = match kind {
        "counter" => grain,
        // CPU time of the comparing itself, memory that comes and goes.
        _ => (TOLERANCE * high.abs()).max(grain),
    };
    (low - slack..=high + slack).contains(&value)
}

struct Shown<'a>(&'a str, &'a [(String, String)]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        for (index, (name, value)) in self.1.iter().enumerate() {
            write!(f, "{}{name}={value:?}", if index == 0 { "{" } else { "," })?;
        }
        f.write_str(if self.1.is_empty() { "" } else { "}" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_as_prometheus_writes_it() {
        let text = "# HELP a x\n# TYPE a counter\na{b=\"1\",c=\"\"} 1e3\na{c=\"q\\\"\\n}\",b=\"2\"} 2 1700000000000\nb 7\nbroken{\n";
        let families = parse(text);
        assert_eq!(families["a"].kind, "counter");
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(families["a"].series[&vec![label("b", "1")]], 1000.0);
        assert_eq!(families["a"].series[&vec![label("b", "2"), label("c", "q\"\n}")]], 2.0);
        assert_eq!((families["b"].kind.as_str(), families.len()), ("untyped", 2));
    }

    #[test]
    fn every_way_to_differ_is_told() {
        let theirs = parse(
            "# TYPE node_a counter\nnode_a{d=\"1\"} 5\nnode_a{d=\"2\"} 5\n# TYPE node_b gauge\nnode_b 1\n# TYPE node_c gauge\nnode_c 1\nnode_xfs_reads 1\n",
        );
        let ours =
            parse("# TYPE node_a counter\nnode_a{d=\"1\"} 9\nnode_a{d=\"3\"} 5\n# TYPE node_b counter\nnode_b 1\n");
        let comparison = compare(&theirs, &ours, &theirs);
        assert_eq!((comparison.names, comparison.covered), (4, 2));
        assert_eq!(comparison.missing, ["node_c"]);
        assert_eq!(
            comparison.different,
            [
                "node_a{d=\"1\"} is 9, not 5 to 5",
                "node_a{d=\"2\"} is not there",
                "node_a{d=\"3\"} is only ours",
                "node_b is a counter and not a gauge",
            ]
        );
    }

    #[test]
    fn of_another_version_only_types_are_compared() {
        let about = "node_exporter_build_info{version=\"1.8.2\"} 1\n";
        let theirs = parse(&format!("{about}# TYPE node_a gauge\nnode_a{{b=\"1\"}} 1\nnode_c 1\n"));
        let comparison = compare(&theirs, &parse("# TYPE node_a counter\nnode_a 7\n"), &theirs);
        assert_eq!((comparison.names, comparison.covered, comparison.missing.len()), (3, 1, 0));
        assert!(!comparison.is_judged && compare(&Families::new(), &theirs, &theirs).is_judged);
        assert_eq!(comparison.different, ["node_a is a counter and not a gauge"]);
    }

    #[test]
    fn patterns_of_what_is_not_covered() {
        assert!(not_covered("node_systemd_units").is_some());
        assert!(not_covered("node_exporter_build_info").is_some());
        assert!(not_covered("node_hwmon_temp_crit_alarm_celsius").is_some());
        assert!(not_covered("node_exporter_build_info2").is_none());
        assert!(not_covered("node_load1").is_none());
    }
}
