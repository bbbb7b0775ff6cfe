//! Files of lines `key value`, taken by a family of metrics: memory, vmstat, IPv6 statistics.
//!
//! Parsed here and not by `procfs`: its `Meminfo` drops what it does not know and fails for want of
//! any field that it expects, its `VmStat` makes a map of 180 strings to find a few of them.

use crate::{
    metrics as m,
    text::{TextFile, number},
};
use tongtu_agent_runtime::{
    collect::{CollectError, Collector, Context, Unavailable, Values},
    metric::Metric,
};

type Family = &'static [(&'static str, Metric)];

struct Keyed {
    file: TextFile,
    family: Family,
}

/// `/proc/meminfo`.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn memory(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    make(context, "meminfo", m::MEMORY)
}

/// `/proc/vmstat`, the fields that node_exporter takes by default and those of reclaim: the file is read anyway.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn vmstat(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    make(context, "vmstat", m::VMSTAT)
}

/// `/proc/net/snmp6`, the fields that node_exporter takes by default.
///
/// # Errors
/// Where it cannot be read: a kernel without IPv6.
pub(super) fn snmp6(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    make(context, "net/snmp6", m::SNMP6)
}

fn make(context: &Context, file: &str, family: Family) -> Result<Box<dyn Collector>, Unavailable> {
    Ok(Box::new(Keyed { file: TextFile::open(context.proc.join(file))?, family }))
}

impl Collector for Keyed {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        // The kernel prints in the family's order: what comes next is nearly always near.
        let mut next = 0;
        for line in self.file.read()?.lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(key) = words.next().map(|key| key.strip_suffix(':').unwrap_or(key)) else {
                continue;
            };
            let ahead = self.family[next..].iter().position(|(name, _)| *name == key);
            let behind = || self.family[..next].iter().position(|(name, _)| *name == key);
            let Some(at) = ahead.map(|at| next + at).or_else(behind) else { continue };
            next = at + 1;
            let value = words.next().and_then(number::<i64>);
            let scale = if words.next() == Some("kB") { 1024 } else { 1 };
            if let Some(value) = value.and_then(|value| value.checked_mul(scale)) {
                out.put(&self.family[at].1, &[], value);
            }
        }
        Ok(())
    }
}
