//! Figures as they are printed and as one JSON document.

use serde_json::{Map, Value, json};
use tongtu_tests::wait;

/// One benchmark's figures, printed as they come.
#[derive(Debug)]
pub(crate) struct Report {
    name: &'static str,
    figures: Map<String, Value>,
    missed: Vec<String>,
}

impl Report {
    /// Begins one.
    pub(crate) fn new(name: &'static str, about: &str) -> Self {
        println!("\n== {name}: {about}");
        Self { name, figures: Map::new(), missed: Vec::new() }
    }

    /// A figure.
    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &str) {
        println!("   {name:<46} {:>14} {unit}", pretty(value));
        self.figures.insert(name.to_owned(), json!(value));
    }

    /// A figure that has a bar to reach.
    pub(crate) fn bar(&mut self, name: &str, value: f64, unit: &str, bar: Bar) {
        let (reached, text) = match bar {
            Bar::AtLeast(bar) => (value >= bar, format!("≥ {}", pretty(bar))),
            Bar::AtMost(bar) => (value <= bar, format!("≤ {}", pretty(bar))),
        };
        let mark = if reached { "reached" } else { "MISSED" };
        println!("   {name:<46} {:>14} {unit}   [{text}: {mark}]", pretty(value));
        self.figures.insert(name.to_owned(), json!(value));
        if !reached {
            self.missed.push(format!("{}: {name} is {} {unit}, not {text}", self.name, pretty(value)));
        }
    }

    /// The figures, and the bars that were missed.
    pub(crate) fn finish(self) -> (String, Value, Vec<String>) {
        let figures = json!({ "figures": self.figures, "missed": self.missed });
        (self.name.to_owned(), figures, self.missed)
    }
}

/// What a figure should reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

fn pretty(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if magnitude >= 1e6 {
        format!("{:.2} M", value / 1e6)
    } else if magnitude >= 1_000.0 {
        format!("{:.2} k", value / 1e3)
    } else if magnitude >= 100.0 {
        format!("{value:.0}")
    } else if magnitude >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

/// A set of latencies.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    /// Measured elsewhere, in any unit.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        Self(values.collect())
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Measures one call.
    pub(crate) fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let watch = wait::Stopwatch::start();
        let result = call();
        self.0.push(watch.elapsed().as_secs_f64() * 1_000.0);
        result
    }

    /// Nearest rank; in milliseconds if they were measured here.
    pub(crate) fn percentile(&mut self, share: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}
