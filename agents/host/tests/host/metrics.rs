//! The list of metrics against what is emitted, and against its own rules.

use crate::machine::server;
use std::collections::BTreeSet;
use tongtu_agent_host::{
    collectors::{COLLECTORS, portable},
    exporter::NOT_COVERED,
    metrics,
};
use tongtu_agent_runtime::{
    collect::{CollectorReport, Context},
    table,
};
use tongtu_protocol::schema;

fn names(reports: Vec<CollectorReport>) -> BTreeSet<String> {
    let series = reports.into_iter().flat_map(|report| report.values);
    series.map(|(series, _)| series.split('{').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn what_is_emitted_is_listed_and_what_is_listed_can_be_emitted() {
    let listed: BTreeSet<&str> = metrics::all().map(|metric| metric.name).collect();
    let here = names(table::check(COLLECTORS, Context::default()));
    let portable = names(table::check(portable::COLLECTORS, Context::default()));
    assert!(here.len() > 100 && portable.len() > 10, "{} and {}", here.len(), portable.len());
    let server = names(table::check(COLLECTORS, server().context()));
    let emitted: BTreeSet<String> = here.into_iter().chain(portable).chain(server).collect();
    let unlisted: Vec<_> = emitted.iter().filter(|name| !listed.contains(&***name)).collect();
    assert_eq!(unlisted, [""; 0], "not in the list");
    // Fields that this kernel may lack, and sensors that this machine may lack.
    let by_kernel = ["node_memory_", "node_vmstat_", "node_netstat_", "node_sockstat_", "node_pressure_"];
    let by_machine = ["node_network_", "node_nf_conntrack_", "node_timex_", "node_udp_", "tongtu_component_"];
    let maybe = |name: &str| by_kernel.iter().chain(&by_machine).any(|prefix| name.starts_with(prefix));
    let never: Vec<_> = listed.into_iter().filter(|name| !emitted.contains(*name) && !maybe(name)).collect();
    assert_eq!(never, [""; 0], "nothing emits these");
}

#[test]
fn names_are_unique_sound_and_of_a_known_family() {
    let mut names = BTreeSet::new();
    for metric in metrics::all() {
        let name = metric.name;
        assert!(names.insert(name), "{name} is listed twice");
        assert!(schema::is_metric_name(name), "{name}");
        assert!(name.starts_with("node_") || name.starts_with("tongtu_"), "{name}");
        assert!(metric.labels.iter().all(|label| schema::is_label_name(label)), "{name}");
        assert!(!metric.help.is_empty() && !metric.source.is_empty(), "{name}");
        let listed = NOT_COVERED.iter().any(|(not_covered, _)| *not_covered == name);
        assert!(!listed, "{name} is covered and listed as not covered");
    }
    assert!(NOT_COVERED.iter().all(|(_, reason)| !reason.is_empty()));
}
