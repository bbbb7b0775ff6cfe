//! The list of metrics against what is emitted, and against its own rules.

use std::collections::BTreeSet;
use tongtu_agent_host::{
    collectors::{COLLECTORS, portable},
    exporter::NOT_COVERED,
    metrics,
};
use tongtu_agent_runtime::{collect::Context, table};
use tongtu_protocol::schema;

#[test]
fn what_is_emitted_is_listed() {
    let listed: BTreeSet<&str> = metrics::all().map(|metric| metric.name).collect();
    for specs in [COLLECTORS, portable::COLLECTORS] {
        let reports = table::check(specs, Context::default());
        let series = reports.iter().flat_map(|report| &report.values);
        let mut count = 0;
        for (series, _) in series {
            let name = series.split('{').next().expect("a name");
            assert!(listed.contains(name), "{name} is not in the list");
            count += 1;
        }
        assert!(count > 10, "only {count} values");
    }
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
