//! Tests of the collector table: what fails, hangs, comes seldom, and finds other sources.

use super::*;
use crate::collect::{CollectError, Happening, Unavailable};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

static VALUE: Metric = Metric {
    name: "value",
    kind: Kind::Gauge,
    unit: "1",
    exponent: 0,
    labels: &["of"],
    help: "A value.",
    source: "test",
    width_bits: 0,
};

const INTERVAL: Duration = Duration::from_secs(15);

struct Run<F>(F);
impl<F: FnMut(&mut Values<'_>) -> Result<(), CollectError> + Send> Collector for Run<F> {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        (self.0)(out)
    }
}

const fn spec(name: &'static str, make: fn(&Context) -> Result<Box<dyn Collector>, Unavailable>) -> CollectorSpec {
    let timeout = Duration::from_secs(5);
    CollectorSpec { name, interval: Duration::ZERO, timeout, make }
}

fn counting(name: &'static str) -> Result<Box<dyn Collector>, Unavailable> {
    let mut runs = 0;
    Ok(Box::new(Run(move |out: &mut Values<'_>| {
        runs += 1;
        out.put(&VALUE, &[name], runs);
        Ok(())
    })))
}

/// The present columns of a frame at `boottime_ms`, by their text form.
fn frame(table: &mut Table, boottime_ms: u64) -> Vec<(String, i64)> {
    let (schema, state) = table.frame(boottime_ms, INTERVAL, |_| {});
    let present = schema.keys.iter().zip(state.iter());
    present.filter_map(|(key, value)| Some((key.to_string(), value?))).collect()
}

fn get(frame: &[(String, i64)], column: &str) -> Option<i64> {
    frame.iter().find(|(name, _)| name == column).map(|(_, value)| *value)
}

#[test]
fn one_that_fails_panics_or_is_unavailable_hides_no_other() {
    static TABLE: &[CollectorSpec] = &[
        spec("first", |_| counting("first")),
        spec("fails", |_| {
            Ok(Box::new(Run(|out: &mut Values<'_>| {
                out.put(&VALUE, &["before the error"], 7);
                Err(CollectError::new("cannot read it"))
            })))
        }),
        spec("panics", |_| Ok(Box::new(Run(|_: &mut Values<'_>| panic!("oh"))))),
        spec("none", |_| Err(Unavailable::new("not on this machine"))),
        spec("last", |_| counting("last")),
    ];
    let mut table = Table::new(TABLE, Context::default());
    for round in 1..=3 {
        let frame = frame(&mut table, round as u64 * 15_000);
        assert_eq!(get(&frame, "value{of=\"first\"}"), Some(round));
        assert_eq!(get(&frame, "value{of=\"last\"}"), Some(round));
        assert_eq!(get(&frame, "value{of=\"before the error\"}"), Some(7));
        let success = |name| {
            let column = format!("node_scrape_collector_success{{collector={name:?}}}");
            get(&frame, &column)
        };
        assert_eq!(success("first"), Some(1));
        assert_eq!(success("fails"), Some(0));
        assert_eq!(success("panics"), Some(0));
        assert_eq!(success("none"), Some(0));
        assert_eq!(get(&frame, "tongtu_agent_collector_available{collector=\"none\"}"), Some(0));
    }
    let outcomes: Vec<_> = table.check().into_iter().map(|report| report.outcome).collect();
    assert_eq!(outcomes[1], Outcome::Failed("cannot read it".into()));
    assert_eq!(outcomes[2], Outcome::Failed("panicked: oh".into()));
    assert_eq!(outcomes[3], Outcome::Unavailable("not on this machine".into()));
}

#[test]
fn one_that_hangs_is_reported_failed_until_it_returns() {
    static HANG: (Mutex<bool>, Condvar) = (Mutex::new(true), Condvar::new());
    static RETURNED: AtomicBool = AtomicBool::new(false);
    static TABLE: &[CollectorSpec] = &[
        CollectorSpec {
            timeout: Duration::from_millis(60),
            ..spec("hangs", |_| {
                Ok(Box::new(Run(|out: &mut Values<'_>| {
                    let held = HANG.0.lock().expect("no panic holds it");
                    let held = HANG.1.wait_while(held, |hang| *hang);
                    drop(held.expect("no panic holds it"));
                    out.put(&VALUE, &["late"], 1);
                    RETURNED.store(true, Ordering::SeqCst);
                    Ok(())
                })))
            })
        },
        spec("other", |_| counting("other")),
    ];
    let mut table = Table::new(TABLE, Context::default());
    for round in 1..=2 {
        let frame = frame(&mut table, round as u64 * 15_000);
        assert_eq!(get(&frame, "value{of=\"other\"}"), Some(round));
        assert_eq!(get(&frame, "node_scrape_collector_success{collector=\"hangs\"}"), Some(0));
    }
    *HANG.0.lock().expect("no panic holds it") = false;
    HANG.1.notify_all();
    let mut at = 45_000;
    let deadline = clock::monotonic() + Duration::from_secs(20);
    while get(&frame(&mut table, at), "value{of=\"late\"}").is_none() {
        assert!(clock::monotonic() < deadline, "it never came back");
        at += 15_000;
    }
    assert!(RETURNED.load(Ordering::SeqCst));
}

#[test]
fn a_slow_one_is_absent_until_its_next_run() {
    static TABLE: &[CollectorSpec] =
        &[CollectorSpec { interval: Duration::from_secs(60), ..spec("slow", |_| counting("slow")) }];
    let mut table = Table::new(TABLE, Context::default());
    let runs: Vec<_> = (0..9).map(|n| get(&frame(&mut table, 1_000 + n * 15_000), "value{of=\"slow\"}")).collect();
    let none = None;
    assert_eq!(runs, [Some(1), none, none, none, Some(2), none, none, none, Some(3)]);
    table.configure("slow", false, Duration::ZERO);
    assert_eq!(get(&frame(&mut table, 500_000), "value{of=\"slow\"}"), None);
    table.configure("slow", true, Duration::from_secs(15));
    assert_eq!(get(&frame(&mut table, 515_000), "value{of=\"slow\"}"), Some(4));
    assert_eq!(get(&frame(&mut table, 530_000), "value{of=\"slow\"}"), Some(5));
    // A frame behind a late one, a second early.
    assert_eq!(get(&frame(&mut table, 544_000), "value{of=\"slow\"}"), Some(6));
}

#[test]
fn the_schema_says_how_often_a_column_is_measured() {
    static TABLE: &[CollectorSpec] = &[
        CollectorSpec { interval: Duration::from_secs(60), ..spec("slow", |_| counting("slow")) },
        spec("every", |_| counting("every")),
    ];
    let mut table = Table::new(TABLE, Context::default());
    let mut at = 0;
    let mut cadences = |table: &mut Table, interval: u64| {
        at += 100_000;
        let (schema, _) = table.frame(at, Duration::from_secs(interval), |_| {});
        assert_eq!(tongtu_protocol::schema::check(&schema.to_wire()), Ok(schema.id()));
        let wire = schema.to_wire();
        let of = |name: &str| wire.columns.iter().find(|column| column.resource == name).map(|c| c.cadence_s);
        assert!(wire.columns[2..].iter().all(|column| column.cadence_s == 0), "what the table says of itself");
        (of("slow"), of("every"), schema.id())
    };
    let (slow, every, usual) = cadences(&mut table, 15);
    assert_eq!((slow, every), (Some(60), Some(0)));
    assert_eq!(cadences(&mut table, 15).2, usual);
    // A run falls on a frame: the third of 25 s is the first after a minute.
    assert_eq!(cadences(&mut table, 25).0, Some(75));
    assert_eq!(cadences(&mut table, 60).0, Some(0));
    table.configure("slow", true, Duration::from_secs(300));
    assert_eq!(cadences(&mut table, 15).0, Some(300));
    table.reset();
    assert_eq!(cadences(&mut table, 15), (Some(60), Some(0), usual));
}

/// What the other sources have for this frame, by key.
fn others(table: &mut Table) -> Vec<(String, Option<i64>)> {
    let frames = table.others(INTERVAL);
    frames
        .map(|frame| {
            let value = frame.has_frame.then(|| frame.other.state().iter().next().flatten()).flatten();
            (frame.other.key().to_owned(), value)
        })
        .collect()
}

#[test]
fn a_collector_finds_sources_that_come_and_go() {
    static FOUND: Mutex<Vec<(&str, i64)>> = Mutex::new(Vec::new());
    static TABLE: &[CollectorSpec] = &[spec("finds", |_| {
        Ok(Box::new(Run(|out: &mut Values<'_>| {
            let found = FOUND.lock().expect("no panic holds it").clone();
            out.put(&VALUE, &["found"], found.len() as i64);
            for (key, value) in found {
                let mut source = out.source("thing", key);
                source.put(&VALUE, &[key], value);
                if value == 1 {
                    source.facts(BTreeMap::from([("name".to_owned(), key.to_owned())]));
                }
                source.event(Happening { name: "seen", boottime_ms: 7, attributes: BTreeMap::new() });
            }
            Ok(())
        })))
    })];
    let mut table = Table::new(TABLE, Context::default());
    let mut at = 0;
    let mut step = |table: &mut Table, found: &[(&'static str, i64)]| {
        *FOUND.lock().expect("no panic holds it") = found.to_vec();
        at += 15_000;
        let own = frame(table, at);
        assert_eq!(get(&own, "value{of=\"found\"}"), Some(found.len() as i64));
        assert_eq!(own.iter().filter(|(name, _)| name.starts_with("value")).count(), 1, "the others are apart");
        others(table)
    };
    let is = |found: &[(&str, Option<i64>)]| -> Vec<(String, Option<i64>)> {
        found.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
    };
    assert_eq!(step(&mut table, &[("a", 1), ("b", 1)]), is(&[("a", Some(1)), ("b", Some(1))]));
    let ids: Vec<_> = table.others(INTERVAL).map(|frame| frame.other.source(frame.interval_ms)).collect();
    assert_eq!((ids[0].kind.as_str(), ids[0].interval_ms, ids[0].columns), ("thing", 15_000, 1));
    assert_ne!(ids[0].schema, ids[1].schema, "they have other labels");
    // Facts that could not be written are there again, those that were are not.
    let facts = |table: &mut Table| table.others(INTERVAL).filter_map(|frame| frame.other.said().take_facts()).count();
    assert_eq!(facts(&mut table), 2);
    table.others(INTERVAL).for_each(|frame| frame.other.said().confirm(false));
    assert_eq!(facts(&mut table), 2);
    table.others(INTERVAL).for_each(|frame| frame.other.said().confirm(true));
    assert_eq!(facts(&mut table), 0);
    let events: Vec<_> =
        table.others(INTERVAL).flat_map(|f| f.other.said().take_events().collect::<Vec<_>>()).collect();
    assert_eq!(events.len(), 2);
    // One goes, one comes between: no value stays behind, the same ones keep their identity.
    assert_eq!(step(&mut table, &[("b", 2)]), is(&[("a", None), ("b", Some(2))]));
    let found = step(&mut table, &[("b", 3), ("c", 3), ("a", 4)]);
    assert_eq!(found.iter().find(|(key, _)| key == "a"), Some(&("a".to_owned(), Some(4))));
    let again = table.others(INTERVAL).find(|frame| frame.other.key() == "a").map(|f| f.other.source(15_000));
    assert!(again.is_some_and(|again| Arc::ptr_eq(&again, &ids[0])));
    table.others(INTERVAL).for_each(|frame| {
        frame.other.said().take_facts();
        frame.other.said().take_events();
        frame.other.said().confirm(true);
    });
    for _ in 0..50 {
        step(&mut table, &[]);
    }
    assert_eq!(others(&mut table), is(&[]));
}

#[test]
fn the_schema_is_the_same_until_a_column_is_new() {
    static DEVICES: AtomicI64 = AtomicI64::new(2);
    static TABLE: &[CollectorSpec] = &[spec("devices", |_| {
        Ok(Box::new(Run(|out: &mut Values<'_>| {
            for device in 0..DEVICES.load(Ordering::SeqCst) {
                out.put(&VALUE, &[&device.to_string()], device);
            }
            Ok(())
        })))
    })];
    let mut table = Table::new(TABLE, Context::default());
    let mut ids: Vec<SchemaId> = Vec::new();
    for (round, devices) in [2, 2, 3, 2, 3].into_iter().enumerate() {
        DEVICES.store(devices, Ordering::SeqCst);
        let (schema, _) = table.frame(round as u64 * 15_000, INTERVAL, |_| {});
        assert_eq!(tongtu_protocol::schema::check(&schema.to_wire()), Ok(schema.id()));
        assert_eq!(prost::Message::decode(&*schema.encode()), Ok(schema.to_wire()));
        ids.push(schema.id());
    }
    ids.dedup();
    assert_eq!(ids.len(), 2);
}
