//! What a metric is: its name and meaning, the same on every machine. A collector's file of metrics
//! is a list of these; values, labels and instants are elsewhere.

use tongtu_protocol::v1;

/// How a metric's values behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until it is reset.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Shown to Prometheus without a type; kept as a gauge.
    Untyped,
}

/// One metric. Tables of these are `static`: a metric is known by its address.
#[derive(Debug)]
pub struct Metric {
    /// Prometheus name.
    pub name: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// UCUM-like: `s`, `By`, `1`, `By/s`, `Cel`.
    pub unit: &'static str,
    /// A value is an integer × 10^exponent.
    pub exponent: i32,
    /// Names of the labels. The first names the thing measured (the column's resource): a device,
    /// a mount point, a core.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
    /// Where the value comes from, for people: `/proc/stat`.
    pub source: &'static str,
    /// Of a counter: 32 or 64, where it wraps.
    pub width_bits: u32,
}

impl Metric {
    /// The wire's column of this metric with these label values.
    pub(crate) fn column<'a>(&self, labels: impl Iterator<Item = &'a str>) -> v1::Column {
        let labels: Vec<v1::Label> = self
            .labels
            .iter()
            .zip(labels)
            .map(|(name, value)| v1::Label { name: (*name).into(), value: value.into() })
            .collect();
        v1::Column {
            metric: self.name.into(),
            kind: match self.kind {
                Kind::Counter => v1::Kind::Counter,
                Kind::Gauge => v1::Kind::Gauge,
                Kind::Untyped => v1::Kind::Untyped,
            } as i32,
            unit: self.unit.into(),
            exponent: self.exponent,
            float: false,
            resource: labels.first().map(|label| label.value.clone()).unwrap_or_default(),
            labels,
            help: self.help.into(),
            width_bits: self.width_bits,
            speed_column: 0,
            cadence_s: 0,
        }
    }
}
