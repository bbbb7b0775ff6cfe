//! Control's own metrics: a registry that hands out instruments by their [`Spec`].
//!
//! Every spec stands in [`crate::metrics`]; a test holds what is registered against that list.
//! The metrics of sources do not pass here: they keep their own names and types.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    TextEncoder,
};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets; the buckets' upper bounds.
    Histogram,
}

/// A metric's identity.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// `tongtu_<noun>_<unit>[_total]`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Names of its labels, in the order of their values.
    pub labels: &'static [&'static str],
    /// One line for a person.
    pub help: &'static str,
}

/// The registry of one running control. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    registry: prometheus::Registry,
    names: Arc<Mutex<BTreeSet<&'static str>>>,
}

/// Panics only if two parts register one name, which the test of the list would meet.
macro_rules! register {
    ($registry:expr, $kind:expr, $spec:expr, $metric:expr) => {{
        debug_assert_eq!($spec.kind, $kind, "{} is listed as another kind", $spec.name);
        let metric = $metric.expect("names and labels of the list are valid");
        $registry.named($spec.name);
        $registry.registry.register(Box::new(metric.clone())).expect("each metric is registered once");
        metric
    }};
}

impl Registry {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A counter without labels.
    #[must_use]
    pub fn counter(&self, spec: &Spec) -> IntCounter {
        register!(self, Kind::Counter, spec, IntCounter::new(spec.name, spec.help))
    }

    /// A counter with labels.
    #[must_use]
    pub fn counter_vec(&self, spec: &Spec) -> IntCounterVec {
        register!(self, Kind::Counter, spec, IntCounterVec::new(Opts::new(spec.name, spec.help), spec.labels))
    }

    /// A gauge without labels.
    #[must_use]
    pub fn gauge(&self, spec: &Spec) -> IntGauge {
        register!(self, Kind::Gauge, spec, IntGauge::new(spec.name, spec.help))
    }

    /// A gauge with labels.
    #[must_use]
    pub fn gauge_vec(&self, spec: &Spec) -> IntGaugeVec {
        register!(self, Kind::Gauge, spec, IntGaugeVec::new(Opts::new(spec.name, spec.help), spec.labels))
    }

    /// A histogram without labels.
    #[must_use]
    pub fn histogram(&self, spec: &Spec, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts::new(spec.name, spec.help).buckets(buckets.to_vec());
        register!(self, Kind::Histogram, spec, Histogram::with_opts(opts))
    }

    /// A histogram with labels.
    #[must_use]
    pub fn histogram_vec(&self, spec: &Spec, buckets: &[f64]) -> HistogramVec {
        let opts = HistogramOpts::new(spec.name, spec.help).buckets(buckets.to_vec());
        register!(self, Kind::Histogram, spec, HistogramVec::new(opts, spec.labels))
    }

    /// A collector of listed metrics that reads its values when asked (state that is kept elsewhere).
    pub fn collector(&self, specs: &[&Spec], collector: Box<dyn prometheus::core::Collector>) {
        for spec in specs {
            self.named(spec.name);
        }
        self.registry.register(collector).expect("each metric is registered once");
    }

    /// Listed metrics whose values are made for who asks; see [`encode_with`](Self::encode_with).
    pub fn made_for_the_asker(&self, specs: &[&Spec]) {
        for spec in specs {
            self.named(spec.name);
        }
    }

    /// Every name that was registered, also those without a value yet.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&'static str> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn named(&self, name: &'static str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    }

    /// The text that Prometheus scrapes.
    #[must_use]
    pub fn encode(&self) -> String {
        self.encode_with(Vec::new())
    }

    /// The same, and behind it what is only for who asks.
    #[must_use]
    pub fn encode_with(&self, more: Vec<MetricFamily>) -> String {
        let mut families = self.registry.gather();
        families.extend(more.into_iter().filter(|family| !family.get_metric().is_empty()));
        let mut out = Vec::new();
        TextEncoder::new().encode(&families, &mut out).expect("a Vec takes every byte");
        String::from_utf8(out).expect("the encoder writes text")
    }
}
