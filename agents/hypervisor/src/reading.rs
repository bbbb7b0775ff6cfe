//! One reading of a domain: the figures that libvirt gave, by the metrics that they are. Pure.

use crate::details::Details;
use crate::ffi::Value;
use crate::metrics as m;
use std::sync::Arc;
use tongtu_agent_runtime::collect::Values;
use tongtu_agent_runtime::metric::Metric;

/// Virtual processors, disks and interfaces of a domain, each.
const MOST_PARTS: usize = 1_024;
/// What the guest's balloon driver last said so long ago is not said as of now.
const STALE_S: i64 = 300;

const KIB: i64 = 1_024;
const SHUT_OFF: i64 = 5;

/// A field of bulk statistics, the metric that it is, and its factor.
type Field = (&'static str, &'static Metric, i64);

static OWN: [Field; 19] = [
    ("state.state", &m::STATE, 1),
    ("state.reason", &m::STATE_REASON, 1),
    ("cpu.time", &m::CPU_TIME, 1),
    ("cpu.user", &m::CPU_USER, 1),
    ("cpu.system", &m::CPU_SYSTEM, 1),
    ("balloon.current", &m::MEMORY, KIB),
    ("balloon.maximum", &m::MAXIMUM_MEMORY, KIB),
    ("balloon.swap_in", &m::SWAP_IN, KIB),
    ("balloon.swap_out", &m::SWAP_OUT, KIB),
    ("balloon.major_fault", &m::MAJOR_FAULTS, 1),
    ("balloon.minor_fault", &m::MINOR_FAULTS, 1),
    ("balloon.unused", &m::UNUSED, KIB),
    ("balloon.available", &m::AVAILABLE, KIB),
    ("balloon.usable", &m::USABLE, KIB),
    ("balloon.rss", &m::RSS, KIB),
    ("balloon.disk_caches", &m::DISK_CACHE, KIB),
    ("vcpu.current", &m::VIRTUAL_CPUS, 1),
    ("vcpu.current", &m::VCPU_CURRENT, 1),
    ("vcpu.maximum", &m::VCPU_MAXIMUM, 1),
];

static VCPU: [Field; 4] = [
    ("state", &m::VCPU_STATE, 1),
    ("time", &m::VCPU_TIME, 1),
    ("wait", &m::VCPU_WAIT, 1),
    ("delay", &m::VCPU_DELAY, 1),
];

static DISK: [Field; 12] = [
    ("rd.reqs", &m::READ_REQUESTS, 1),
    ("rd.bytes", &m::READ_BYTES, 1),
    ("rd.times", &m::READ_SECONDS, 1),
    ("wr.reqs", &m::WRITE_REQUESTS, 1),
    ("wr.bytes", &m::WRITE_BYTES, 1),
    ("wr.times", &m::WRITE_SECONDS, 1),
    ("fl.reqs", &m::FLUSH_REQUESTS, 1),
    ("fl.times", &m::FLUSH_SECONDS, 1),
    ("errors", &m::DISK_ERRORS, 1),
    ("allocation", &m::ALLOCATION, 1),
    ("capacity", &m::CAPACITY, 1),
    ("physical", &m::PHYSICAL, 1),
];

static NIC: [Field; 8] = [
    ("rx.bytes", &m::RECEIVE_BYTES, 1),
    ("rx.pkts", &m::RECEIVE_PACKETS, 1),
    ("rx.errs", &m::RECEIVE_ERRORS, 1),
    ("rx.drop", &m::RECEIVE_DROPS, 1),
    ("tx.bytes", &m::TRANSMIT_BYTES, 1),
    ("tx.pkts", &m::TRANSMIT_PACKETS, 1),
    ("tx.errs", &m::TRANSMIT_ERRORS, 1),
    ("tx.drop", &m::TRANSMIT_DROPS, 1),
];

/// What only the guest's balloon driver knows.
static OF_THE_GUEST: [&Metric; 8] = [
    &m::SWAP_IN,
    &m::SWAP_OUT,
    &m::MAJOR_FAULTS,
    &m::MINOR_FAULTS,
    &m::UNUSED,
    &m::AVAILABLE,
    &m::USABLE,
    &m::DISK_CACHE,
];

/// What only a domain that runs or is paused has.
static OF_THE_PROCESS: [&Metric; 5] = [&m::MEMORY, &m::CPU_TIME, &m::CPU_USER, &m::CPU_SYSTEM, &m::RSS];

type Figures = Vec<(&'static Metric, i64)>;

/// A virtual processor, a disk or an interface.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    pub(crate) name: String,
    figures: Figures,
}

/// A domain at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    pub(crate) uuid: String,
    pub(crate) name: String,
    own: Figures,
    vcpus: Vec<Part>,
    disks: Vec<Part>,
    pub(crate) nics: Vec<Part>,
    /// Unix time at which the balloon driver last said something.
    guest_updated_s: Option<i64>,
    /// What is known of its devices.
    pub(crate) details: Arc<Details>,
}

impl Reading {
    pub(crate) fn new(uuid: String, name: String) -> Self {
        Self { uuid, name, ..Self::default() }
    }

    /// A field of libvirt's statistics. One that means nothing here is left out.
    pub(crate) fn take(&mut self, field: &str, value: &Value<'_>) {
        let part = field.split_once('.').and_then(|(group, rest)| {
            let (index, rest) = rest.split_once('.')?;
            Some((group, index.parse::<usize>().ok()?, rest))
        });
        match part {
            Some(("vcpu", index, rest)) => {
                if let Some(part) = part_at(&mut self.vcpus, index) {
                    part.name = index.to_string();
                    part.take(&VCPU, rest, value);
                }
            }
            Some(("block", index, rest)) => {
                part_at(&mut self.disks, index).into_iter().for_each(|part| part.take(&DISK, rest, value));
            }
            Some(("net", index, rest)) => {
                part_at(&mut self.nics, index).into_iter().for_each(|part| part.take(&NIC, rest, value));
            }
            Some(_) => {}
            None => {
                if let (Value::Number(seconds), "balloon.last-update") = (value, field) {
                    self.guest_updated_s = Some(*seconds);
                } else {
                    take(&mut self.own, &OWN, field, value);
                }
            }
        }
    }

    /// Everything was taken. What is too old, or of a domain that is off, is taken out again.
    pub(crate) fn finish(&mut self, now_s: i64) {
        for parts in [&mut self.vcpus, &mut self.disks, &mut self.nics] {
            parts.retain(|part| !part.name.is_empty() && !part.figures.is_empty());
        }
        if self.guest_updated_s.is_some_and(|updated_s| now_s - updated_s > STALE_S) {
            self.own.retain(|(metric, _)| !OF_THE_GUEST.iter().any(|of| std::ptr::eq(*of, *metric)));
        }
        // Of a domain without a process libvirt may say the CPU time of its own.
        if !self.is_active() {
            self.own.retain(|(metric, _)| !OF_THE_PROCESS.iter().any(|of| std::ptr::eq(*of, *metric)));
        }
    }

    /// Whether its memory is among the figures.
    pub(crate) fn knows_memory(&self) -> bool {
        self.own(&m::MAXIMUM_MEMORY).is_some()
    }

    /// Whether its CPU time is among the figures.
    pub(crate) fn knows_cpu_time(&self) -> bool {
        self.own(&m::CPU_TIME).is_some()
    }

    fn own(&self, metric: &Metric) -> Option<i64> {
        self.own.iter().find(|(of, _)| std::ptr::eq(*of, metric)).map(|(_, value)| *value)
    }

    /// State and reason.
    pub(crate) fn state(&self) -> Option<(i64, i64)> {
        Some((self.own(&m::STATE)?, self.own(&m::STATE_REASON).unwrap_or(0)))
    }

    /// Whether it runs, or is paused: whether it has a process.
    pub(crate) fn is_active(&self) -> bool {
        self.state().is_some_and(|(state, _)| ![0, SHUT_OFF, 6].contains(&state))
    }

    /// What it has figures of: a part, or none, and the metric's name.
    #[cfg(test)]
    pub(crate) fn figures(&self) -> std::collections::BTreeSet<(&str, &str)> {
        let parts = self.vcpus.iter().chain(&self.disks).chain(&self.nics);
        let of_parts =
            parts.flat_map(|part| part.figures.iter().map(move |(metric, _)| (part.name.as_str(), metric.name)));
        self.own.iter().map(|(metric, _)| ("", metric.name)).chain(of_parts).collect()
    }

    /// As values of its source.
    pub(crate) fn put(&self, out: &mut Values<'_>) {
        let (domain, uuid) = (self.name.as_str(), self.uuid.as_str());
        for (metric, value) in &self.own {
            out.put(metric, &[domain, uuid], *value);
        }
        for vcpu in &self.vcpus {
            for (metric, value) in &vcpu.figures {
                out.put(metric, &[&vcpu.name, domain, uuid], *value);
            }
        }
        for disk in &self.disks {
            let file = self.details.file(&disk.name);
            for (metric, value) in &disk.figures {
                let labels = [disk.name.as_str(), domain, uuid, file];
                out.put(metric, &labels[..metric.labels.len()], *value);
            }
        }
        for nic in &self.nics {
            for (metric, value) in &nic.figures {
                out.put(metric, &[&nic.name, domain, uuid, self.details.bridge(&nic.name)], *value);
            }
        }
    }
}

impl Part {
    fn take(&mut self, fields: &[Field], field: &str, value: &Value<'_>) {
        match (field, value) {
            ("name", Value::Text(name)) => self.name = crate::text::clean(name, 255),
            _ => take(&mut self.figures, fields, field, value),
        }
    }
}

fn part_at(parts: &mut Vec<Part>, index: usize) -> Option<&mut Part> {
    if index >= MOST_PARTS {
        return None;
    }
    if parts.len() <= index {
        parts.resize_with(index + 1, Part::default);
    }
    parts.get_mut(index)
}

/// libvirt counts nothing below zero: where it says so, it does not know.
fn take(figures: &mut Figures, fields: &[Field], field: &str, value: &Value<'_>) {
    let Value::Number(value) = value else { return };
    for (_, metric, factor) in fields.iter().filter(|(name, ..)| *name == field && *value >= 0) {
        if let Some(value) = value.checked_mul(*factor) {
            figures.push((metric, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(fields: &[(&str, i64)]) -> Reading {
        let mut reading = Reading::new("u".to_owned(), "vm".to_owned());
        for (field, value) in fields {
            reading.take(field, &Value::Number(*value));
        }
        reading
    }

    #[test]
    fn fields_are_metrics_in_their_units() {
        let mut taken = reading(&[
            ("state.state", 1),
            ("state.reason", 5),
            ("cpu.time", 7_000_000_001),
            ("balloon.current", 2),
            ("vcpu.current", 1),
            ("vcpu.2.time", 9),
            ("block.count", 1),
            ("block.0.rd.bytes", 512),
            ("block.0.wr.bytes", -1),
            ("net.0.rx.bytes", 60),
            ("net.7000.rx.bytes", 1),
            ("dirtyrate.calc_status", 3),
        ]);
        taken.take("block.0.name", &Value::Text("vda".into()));
        taken.take("block.0.path", &Value::Text("/a".into()));
        taken.finish(0);
        assert_eq!(taken.state(), Some((1, 5)));
        assert_eq!(taken.own(&m::CPU_TIME), Some(7_000_000_001));
        assert_eq!(taken.own(&m::MEMORY), Some(2_048));
        assert_eq!((taken.own(&m::VIRTUAL_CPUS), taken.own(&m::VCPU_CURRENT)), (Some(1), Some(1)));
        let names = |parts: &[Part]| parts.iter().map(|part| part.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&taken.vcpus), ["2"], "those that are offline are not there");
        assert_eq!(names(&taken.disks), ["vda"]);
        let [(metric, value)] = taken.disks[0].figures[..] else { panic!("one figure: {taken:?}") };
        assert_eq!((metric.name, value), (m::READ_BYTES.name, 512));
        assert!(taken.nics.is_empty(), "an interface without a name");
    }

    #[test]
    fn what_is_old_or_of_nothing_is_no_figure() {
        let fields = [("state.state", 1), ("balloon.usable", 5), ("balloon.rss", 9), ("balloon.last-update", 1_000)];
        let mut fresh = reading(&fields);
        fresh.finish(1_000 + STALE_S);
        assert_eq!(fresh.own(&m::USABLE), Some(5 * KIB));
        let mut old = reading(&fields);
        old.finish(1_001 + STALE_S);
        assert_eq!((old.own(&m::USABLE), old.own(&m::RSS)), (None, Some(9 * KIB)), "the host still knows its own");
        let mut off = reading(&[("state.state", 5), ("cpu.time", 9), ("balloon.current", 8), ("balloon.maximum", 8)]);
        off.finish(0);
        assert_eq!((off.own(&m::MEMORY), off.own(&m::MAXIMUM_MEMORY)), (None, Some(8 * KIB)));
        assert_eq!(off.own(&m::CPU_TIME), None, "it is that of somebody else");
        assert!(!off.is_active());
    }

    #[test]
    fn numbers_that_do_not_fit_are_no_values() {
        let taken = reading(&[("balloon.current", i64::MAX), ("cpu.time", -1)]);
        assert!(taken.own.is_empty(), "{taken:?}");
    }
}
