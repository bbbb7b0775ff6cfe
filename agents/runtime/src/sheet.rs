//! A sheet: the columns of one collector and their values in one frame.
//!
//! A collector puts the same columns in the same order nearly always, so each value is compared
//! with the column at the cursor and nothing is allocated. A column that is not put is absent in
//! that frame; one that stays absent for [`FORGET_FRAMES`] is forgotten. Only a column that was
//! never seen, or is forgotten, changes the list, and with it the schema.
//!
//! What a collector says of a source beside values, facts and events, waits here until it is written.

use crate::collect::Happening;
use crate::metric::Metric;
use crate::others::Others;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tongtu_protocol::{codec::State, limits, v1};

/// Runs after which an absent column is forgotten: ten minutes at the default interval.
pub(crate) const FORGET_FRAMES: u32 = 40;

/// Ends each label value in [`ColumnKey::labels`].
const END: char = '\u{1f}';

/// A column: a metric with its label values.
#[derive(Debug, Clone)]
pub(crate) struct ColumnKey {
    metric: &'static Metric,
    /// Each value followed by [`END`].
    labels: Arc<str>,
    /// The gauge that bounds this counter's rate.
    speed: Option<(&'static Metric, Arc<str>)>,
    /// Seconds between two measurements; 0: every frame.
    pub(crate) cadence_s: u32,
}

impl ColumnKey {
    pub(crate) fn metric(&self) -> &'static Metric {
        self.metric
    }

    fn is(&self, metric: &'static Metric, labels: &[&str]) -> bool {
        std::ptr::eq(self.metric, metric) && same_labels(&self.labels, labels)
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.same_key(other.metric, &other.labels)
    }

    fn same_key(&self, metric: &'static Metric, labels: &str) -> bool {
        std::ptr::eq(self.metric, metric) && *self.labels == *labels
    }
}

impl fmt::Display for ColumnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric.name)?;
        let values = self.labels.split_terminator(END);
        for (index, (name, value)) in self.metric.labels.iter().zip(values).enumerate() {
            write!(f, "{}{name}={value:?}", if index == 0 { '{' } else { ',' })?;
        }
        f.write_str(if self.labels.is_empty() { "" } else { "}" })
    }
}

/// `value` × 10^`exponent` in digits.
pub(crate) fn decimal(value: i64, exponent: i32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs().to_string();
    let Ok(places) = usize::try_from(-exponent) else {
        let zeros = if value == 0 { 0 } else { exponent as usize };
        return format!("{sign}{digits}{}", "0".repeat(zeros));
    };
    if places == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

fn same_labels(mut joined: &str, labels: &[&str]) -> bool {
    for label in labels {
        let rest = joined.strip_prefix(label).and_then(|rest| rest.strip_prefix(END));
        let Some(rest) = rest else { return false };
        joined = rest;
    }
    joined.is_empty()
}

fn join(labels: &[&str]) -> Arc<str> {
    let mut joined = String::with_capacity(labels.iter().map(|label| label.len() + 1).sum());
    for label in labels {
        joined.extend(label.chars().filter(|&character| character != END));
        joined.push(END);
    }
    joined.into()
}

/// The wire's column of a key.
fn column(keys: &[ColumnKey], key: &ColumnKey) -> v1::Column {
    let mut column = key.metric.column(key.labels.split_terminator(END));
    column.cadence_s = key.cadence_s;
    if let Some((metric, labels)) = &key.speed {
        let at = keys.iter().position(|other| other.same_key(metric, labels));
        column.speed_column = at.map_or(0, |at| at as u32 + 1);
    }
    column
}

/// The wire's columns of these keys.
pub(crate) fn columns(keys: &[ColumnKey]) -> Vec<v1::Column> {
    keys.iter().map(|key| column(keys, key)).collect()
}

/// Appends the encoding of the wire's schema of these keys, but for its id; one column at a time,
/// because all of them in memory are ten times what they are encoded.
pub(crate) fn encode_columns(keys: &[ColumnKey], out: &mut Vec<u8>) {
    for key in keys {
        let column = column(keys, key);
        prost::encoding::message::encode(2, &column, out);
    }
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    value: i64,
    /// The run in which it was put last.
    run: u32,
}

/// What is said of a source beside its values.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The whole inventory, if it is another one.
    pub(crate) facts: Option<BTreeMap<String, String>>,
    /// Written, but not durable yet.
    unconfirmed: Option<BTreeMap<String, String>>,
    events: Vec<Happening>,
}

impl Said {
    pub(crate) fn is_empty(&self) -> bool {
        self.facts.is_none() && self.unconfirmed.is_none() && self.events.is_empty()
    }

    /// The facts to be written now.
    pub(crate) fn take_facts(&mut self) -> Option<BTreeMap<String, String>> {
        self.unconfirmed = self.facts.take();
        self.unconfirmed.clone()
    }

    /// The events to be written now.
    pub(crate) fn take_events(&mut self) -> std::vec::Drain<'_, Happening> {
        self.events.drain(..)
    }

    /// Whether what was taken could be written. Facts come only when they change, so they must not be lost.
    pub(crate) fn confirm(&mut self, written: bool) {
        let unconfirmed = self.unconfirmed.take();
        if !written && self.facts.is_none() {
            self.facts = unconfirmed;
        }
    }
}

/// The columns of one collector, of one source.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    keys: Vec<ColumnKey>,
    cells: Vec<Cell>,
    cursor: usize,
    run: u32,
    changed: bool,
    pub(crate) said: Said,
}

impl Sheet {
    /// Begins a run: every column is absent until it is put.
    pub(crate) fn start(&mut self) {
        self.run += 1;
        self.cursor = 0;
    }

    /// Begins a run of somebody who puts values of one source.
    pub(crate) fn begin(&mut self) -> Values<'_> {
        self.start();
        Values { sheet: self, others: None }
    }

    /// Begins a run of somebody who puts values of other sources as well.
    pub(crate) fn begin_with<'a>(&'a mut self, others: &'a mut Others) -> Values<'a> {
        self.start();
        others.begin();
        Values { sheet: self, others: Some(others) }
    }

    /// Whether anything was put in the last run.
    pub(crate) fn has_values(&self) -> bool {
        self.cells.iter().any(|cell| cell.run == self.run)
    }

    /// Ends a run: forgets columns that have been absent for long.
    pub(crate) fn end(&mut self) {
        let run = self.run;
        let gone = |cell: &Cell| run - cell.run > FORGET_FRAMES;
        if self.cells.iter().any(gone) {
            let mut cells = self.cells.iter();
            self.keys.retain(|_| cells.next().is_some_and(|cell| !gone(cell)));
            self.cells.retain(|cell| !gone(cell));
            self.changed = true;
        }
    }

    /// Whether the list of columns changed since this was asked last.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn keys(&self) -> &[ColumnKey] {
        &self.keys
    }

    /// The values of the last run, into a frame from column `first` on; returns how many columns
    /// that were, `limit` at most.
    pub(crate) fn write(&self, state: &mut State, first: usize, limit: usize) -> usize {
        for (index, cell) in self.cells.iter().take(limit).enumerate() {
            state.set(first + index, (cell.run == self.run).then_some(cell.value));
        }
        self.cells.len().min(limit)
    }

    /// The columns of the last run as people read them, with their values.
    pub(crate) fn texts(&self) -> Vec<(String, String)> {
        let put = self.keys.iter().zip(&self.cells).filter(|(_, cell)| cell.run == self.run);
        put.map(|(key, cell)| (key.to_string(), decimal(cell.value, key.metric.exponent))).collect()
    }

    fn put(&mut self, metric: &'static Metric, labels: &[&str], value: i64, speed: Option<(&'static Metric, &[&str])>) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "labels of {}", metric.name);
        let cell = Cell { value, run: self.run };
        let found = match self.keys.get(self.cursor) {
            Some(key) if key.is(metric, labels) => Some(self.cursor),
            _ => self.find(metric, labels),
        };
        if let Some(at) = found {
            // The first of two equal columns counts.
            if self.cells[at].run != self.run {
                self.cells[at] = cell;
            }
            self.cursor = at + 1;
            return;
        }
        let too_long = labels.iter().any(|label| label.len() > limits::TEXT_BYTES);
        if self.keys.len() >= limits::COLUMNS || too_long {
            return;
        }
        let speed = speed.map(|(metric, labels)| (metric, join(labels)));
        let at = self.cursor.min(self.keys.len());
        self.keys.insert(at, ColumnKey { metric, labels: join(labels), speed, cadence_s: 0 });
        self.cells.insert(at, cell);
        self.cursor = at + 1;
        self.changed = true;
    }

    /// Forward first: what lies between is absent in this frame.
    fn find(&self, metric: &'static Metric, labels: &[&str]) -> Option<usize> {
        let cursor = self.cursor.min(self.keys.len());
        let is = |key: &ColumnKey| key.is(metric, labels);
        let ahead = self.keys[cursor..].iter().position(is).map(|at| cursor + at);
        ahead.or_else(|| self.keys[..cursor].iter().position(is))
    }
}

/// Where a collector puts its values.
#[derive(Debug)]
pub struct Values<'a> {
    sheet: &'a mut Sheet,
    /// None in what is one of them.
    others: Option<&'a mut Others>,
}

impl Values<'_> {
    /// Where to put the values of another source of this agent: of one of the things that the collector
    /// found. One of which nothing is put in a run has no frame for it.
    pub fn source(&mut self, kind: &'static str, key: &str) -> Values<'_> {
        debug_assert!(self.others.is_some(), "a source has no sources");
        match &mut self.others {
            Some(others) => Values { sheet: others.sheet(kind, key), others: None },
            None => Values { sheet: &mut *self.sheet, others: None },
        }
    }

    /// The whole inventory of the source, when it is another one than before, and at start.
    pub fn facts(&mut self, facts: BTreeMap<String, String>) {
        self.sheet.said.facts = Some(facts);
    }

    /// Something that happened to the source.
    pub fn event(&mut self, event: Happening) {
        self.sheet.said.events.push(event);
    }

    /// A value; `labels` in the order of the metric's. A missing value is not put.
    #[inline]
    pub fn put(&mut self, metric: &'static Metric, labels: &[&str], value: i64) {
        self.sheet.put(metric, labels, value, None);
    }

    /// A value of a counter whose rate cannot exceed `speed`, a gauge of the same collector.
    #[inline]
    pub fn put_bounded(
        &mut self,
        metric: &'static Metric,
        labels: &[&str],
        value: i64,
        speed: (&'static Metric, &[&str]),
    ) {
        self.sheet.put(metric, labels, value, Some(speed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Kind;

    static BYTES: Metric = Metric {
        name: "bytes_total",
        kind: Kind::Counter,
        unit: "By",
        exponent: 0,
        labels: &["device"],
        help: "Bytes.",
        source: "test",
        width_bits: 64,
    };
    static SPEED: Metric = Metric { name: "speed_bytes", kind: Kind::Gauge, ..BYTES };

    fn run(sheet: &mut Sheet, devices: &[(&str, i64)]) -> (bool, Vec<Option<i64>>) {
        let mut values = sheet.begin();
        for (device, value) in devices {
            values.put(&BYTES, &[device], *value);
        }
        sheet.end();
        let changed = sheet.take_changed();
        let mut state = State::zero(sheet.keys().len());
        sheet.write(&mut state, 0, usize::MAX);
        (changed, state.iter().collect())
    }

    #[test]
    fn the_list_changes_only_when_a_column_is_new() {
        let mut sheet = Sheet::default();
        assert_eq!(run(&mut sheet, &[("a", 1), ("c", 3)]), (true, vec![Some(1), Some(3)]));
        assert_eq!(run(&mut sheet, &[("a", 2), ("c", 4)]), (false, vec![Some(2), Some(4)]));
        // Missing, or in another order: the same columns.
        assert_eq!(run(&mut sheet, &[("c", 5)]), (false, vec![None, Some(5)]));
        assert_eq!(run(&mut sheet, &[("c", 6), ("a", 7)]), (false, vec![Some(7), Some(6)]));
        assert_eq!(run(&mut sheet, &[("a", 8), ("b", 9), ("c", 10)]), (true, vec![Some(8), Some(9), Some(10)]));
        // Twice in one frame: the first counts.
        assert_eq!(run(&mut sheet, &[("a", 1), ("a", 2)]).1, vec![Some(1), None, None]);
    }

    #[test]
    fn a_column_that_stays_away_is_forgotten_once() {
        let mut sheet = Sheet::default();
        run(&mut sheet, &[("a", 1), ("veth1", 2)]);
        let mut changes = 0;
        for value in 0..200 {
            changes += u32::from(run(&mut sheet, &[("a", value)]).0);
        }
        assert_eq!((changes, sheet.keys().len()), (1, 1));
    }

    #[test]
    fn a_speed_is_found_in_the_frame() {
        let mut sheet = Sheet::default();
        let mut values = sheet.begin();
        values.put_bounded(&BYTES, &["eth0"], 1, (&SPEED, &["eth0"]));
        values.put_bounded(&BYTES, &["eth1"], 1, (&SPEED, &["eth1"]));
        values.put(&SPEED, &["eth0"], 125_000_000);
        let wire = columns(sheet.keys());
        let mut encoded = Vec::new();
        encode_columns(sheet.keys(), &mut encoded);
        assert_eq!(
            prost::Message::decode(&*encoded),
            Ok(v1::Schema { columns: wire.clone(), ..v1::Schema::default() })
        );
        assert_eq!((wire[0].speed_column, wire[1].speed_column), (3, 0));
        assert_eq!(wire[0].resource, "eth0");
    }
}
