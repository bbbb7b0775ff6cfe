//! What Grafana and Prometheus are given (`dashboards/`): every metric and label that they ask for exists,
//! and the rules fire when they should.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Labels of every target, given by service discovery or by Prometheus.
const OF_TARGETS: [&str; 5] = ["instance", "job", "organization", "tongtu_agent", "tongtu_source"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards").join(name)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Each metric there is, with its labels; a histogram under the names of its series.
fn metrics() -> BTreeMap<String, BTreeSet<&'static str>> {
    use tongtu::platform::metrics::Kind;
    let mut metrics = BTreeMap::from([("up".to_owned(), BTreeSet::new())]);
    for metric in tongtu_agent_host::metrics::all() {
        metrics.insert(metric.name.to_owned(), metric.labels.iter().copied().collect());
    }
    for spec in tongtu::metrics::ALL {
        let labels: BTreeSet<_> = spec.labels.iter().copied().collect();
        if spec.kind == Kind::Histogram {
            for end in ["sum", "count"] {
                metrics.insert(format!("{}_{end}", spec.name), labels.clone());
            }
            metrics.insert(format!("{}_bucket", spec.name), labels.iter().copied().chain(["le"]).collect());
        } else {
            metrics.insert(spec.name.to_owned(), labels);
        }
    }
    metrics
}

/// The metrics that an expression names, each with the labels that it selects by.
fn asked(expression: &str) -> Vec<(String, Vec<String>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut asked = Vec::new();
    let mut rest = expression;
    while let Some(begin) = rest.find(is_name) {
        let name = &rest[begin..];
        let name = &name[..name.find(|c| !is_name(c)).unwrap_or(name.len())];
        rest = &rest[begin + name.len()..];
        let name = name.trim_end_matches(':');
        let ours = ["node_", "tongtu_", "tongtu:"].iter().any(|start| name.starts_with(start));
        if !ours || OF_TARGETS.contains(&name) {
            continue;
        }
        let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        // No value of these files has a comma in it.
        let labels = selector.split(',').filter_map(|part| part.split(['=', '!']).next()).map(str::trim);
        asked.push((name.to_owned(), labels.filter(|label| !label.is_empty()).map(ToOwned::to_owned).collect()));
    }
    asked
}

/// Every string under `key`, wherever it is.
fn strings<'a>(value: &'a Value, key: &str, into: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == key {
                    into.extend(value.as_str());
                }
                strings(value, key, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, key, into)),
        _ => {}
    }
}

fn dashboards() -> Vec<(String, Value)> {
    ["fleet.json", "host.json"]
        .map(|file| {
            let text = read(&folder("grafana").join(file));
            (file.to_owned(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}")))
        })
        .to_vec()
}

#[test]
fn every_metric_and_label_that_is_asked_for_exists() {
    let recording = read(&folder("prometheus").join("recording.yml"));
    let recorded: BTreeSet<_> = recording.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    let mut expressions = Vec::new();
    for file in ["alerts.yml", "recording.yml", "tests.yml"] {
        expressions.push((file.to_owned(), read(&folder("prometheus").join(file))));
    }
    for (file, dashboard) in dashboards() {
        let mut found = Vec::new();
        strings(&dashboard, "expr", &mut found);
        strings(&dashboard, "definition", &mut found);
        assert!(found.len() > 30, "{file}: {}", found.len());
        expressions.extend(found.into_iter().map(|expression| (file.clone(), expression.to_owned())));
    }
    let metrics = metrics();
    let mut offences = BTreeSet::new();
    for (file, expression) in expressions {
        for (name, labels) in asked(&expression) {
            if name.contains(':') {
                if !recorded.contains(name.as_str()) {
                    offences.insert(format!("{file}: {name} is not recorded"));
                }
                continue;
            }
            let Some(known) = metrics.get(&name) else {
                offences.insert(format!("{file}: there is no metric {name}"));
                continue;
            };
            for label in labels {
                if !known.contains(label.as_str()) && !OF_TARGETS.contains(&label.as_str()) {
                    offences.insert(format!("{file}: {name} has no label {label}"));
                }
            }
        }
    }
    assert!(offences.is_empty(), "{offences:#?}");
}

#[test]
fn panels_are_said_in_chinese_and_english_and_do_not_overlap() {
    for (file, dashboard) in dashboards() {
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in dashboard["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().expect("a title");
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{file}: {title}");
            if panel["type"] != "row" {
                let said = panel["description"].as_str().expect("a description");
                assert!(!said.is_ascii() && said.contains(". ") | said.ends_with('.'), "{file}: {title}: {said}");
            }
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a place"));
            assert!(x + w <= 24, "{file}: {title}");
            for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(place), "{file}: {title} lies over another");
            }
        }
    }
}

#[test]
fn rules_are_valid_and_every_alert_fires_in_its_test() {
    let rules = read(&folder("prometheus").join("alerts.yml"));
    let tests = read(&folder("prometheus").join("tests.yml"));
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 15, "{alerts:?}");
    for alert in &alerts {
        assert!(
            tests.contains(&format!("alertname=\"{alert}\",alertstate=\"firing\",severity")),
            "{alert} is untested"
        );
    }
    for annotation in ["summary:", "description:", "summary_en:", "description_en:"] {
        let count = rules.lines().filter(|line| line.trim().starts_with(annotation)).count();
        assert_eq!(count, alerts.len(), "{annotation}");
    }
    if !tongtu_tests::has("promtool", tongtu_tests::on_path("promtool")) {
        return;
    }
    for arguments in [&["check", "rules", "recording.yml", "alerts.yml"][..], &["test", "rules", "tests.yml"]] {
        let output = Command::new("promtool").args(arguments).current_dir(folder("prometheus")).output();
        let output = output.expect("promtool runs");
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(output.status.success(), "{said}");
    }
}
