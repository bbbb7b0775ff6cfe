//! What the last two frames of a host's source say about it. Pure.
//!
//! What must hold: what was not measured, or cannot be told, is `None`, never 0. A rate needs two
//! frames of one boot, not further apart than slots allow; a counter that went back tells nothing.

use std::collections::{BTreeMap, HashSet};

use tongtu_protocol::v1;

use crate::platform::clock::UnixMs;
use crate::telemetry::query::real;
use crate::telemetry::{Glance, StoredSchema};

/// Where a schema has what a host is judged by. Made once a schema, and small: there may be as many
/// schemas as hosts.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Modes of all cores, core by core.
    cpu: Vec<CpuMode>,
    cpu_count: usize,
    load: [Column; 3],
    boot_time: Column,
    memory_total: Column,
    memory_available: Column,
    swap_total: Column,
    swap_free: Column,
    interfaces: Vec<Interface>,
    filesystems: Vec<Filesystem>,
    os_info: Column,
    uname: Column,
}

/// A column, if it is there.
pub(super) type Column = Option<u16>;

#[derive(Debug, Clone, Copy)]
struct CpuMode {
    core: u16,
    column: u16,
    idle: bool,
}

#[derive(Debug, Default)]
struct Interface {
    /// By its name it may be hardware.
    physical: bool,
    receive: Column,
    transmit: Column,
    speed: Column,
    up: Column,
    own_index: Column,
    lower_index: Column,
}

#[derive(Debug, Default)]
struct Filesystem {
    size: Column,
    free: Column,
    available: Column,
    /// Another one of the same device comes before.
    again: bool,
}

/// Modes of CPU time in which a core did nothing.
pub(super) const IDLE: [&str; 2] = ["idle", "iowait"];
/// Interfaces that are no hardware, by the beginning of their names.
const VIRTUAL: [&str; 20] = [
    "lo", "veth", "docker", "br-", "virbr", "vnet", "tap", "tun", "cni", "flannel", "cali", "kube", "dummy", "ifb",
    "bond", "team", "vxlan", "wg", "lxc", "ovs",
];
/// File systems that hold nothing of their own.
const MEMORY_BACKED: [&str; 7] = ["tmpfs", "ramfs", "devtmpfs", "overlay", "squashfs", "efivarfs", "fuse.lxcfs"];

impl Plan {
    pub(super) fn new(schema: &StoredSchema) -> Self {
        let mut plan = Self::default();
        let mut cores: BTreeMap<&str, Vec<CpuMode>> = BTreeMap::new();
        let mut interfaces: BTreeMap<&str, Interface> = BTreeMap::new();
        let mut filesystems: BTreeMap<&str, Filesystem> = BTreeMap::new();
        let mut devices = HashSet::new();
        // A schema has at most 8,192 columns.
        for (index, column) in (0u16..).zip(&schema.columns) {
            let here = Some(index);
            match column.metric.as_str() {
                "node_cpu_seconds_total" => {
                    let idle = IDLE.contains(&label(column, "mode"));
                    cores.entry(label(column, "cpu")).or_default().push(CpuMode { core: 0, column: index, idle });
                }
                "node_load1" => plan.load[0] = here,
                "node_load5" => plan.load[1] = here,
                "node_load15" => plan.load[2] = here,
                "node_boot_time_seconds" => plan.boot_time = here,
                "node_memory_MemTotal_bytes" => plan.memory_total = here,
                "node_memory_MemAvailable_bytes" => plan.memory_available = here,
                "node_memory_SwapTotal_bytes" => plan.swap_total = here,
                "node_memory_SwapFree_bytes" => plan.swap_free = here,
                "node_os_info" => plan.os_info = here,
                "node_uname_info" => plan.uname = here,
                metric => {
                    if let Some(rest) = metric.strip_prefix("node_network_") {
                        let interface = interfaces.entry(label(column, "device")).or_default();
                        match rest {
                            "receive_bytes_total" => interface.receive = here,
                            "transmit_bytes_total" => interface.transmit = here,
                            "speed_bytes" => interface.speed = here,
                            "up" => interface.up = here,
                            "iface_id" => interface.own_index = here,
                            "iface_link" => interface.lower_index = here,
                            _ => {}
                        }
                    } else if let Some(rest) = metric.strip_prefix("node_filesystem_")
                        && !MEMORY_BACKED.contains(&label(column, "fstype"))
                    {
                        let filesystem = filesystems.entry(label(column, "mountpoint")).or_default();
                        match rest {
                            "size_bytes" => {
                                filesystem.size = here;
                                filesystem.again = !devices.insert(label(column, "device"));
                            }
                            "free_bytes" => filesystem.free = here,
                            "avail_bytes" => filesystem.available = here,
                            _ => {}
                        }
                    }
                }
            }
        }
        plan.cpu_count = cores.len();
        for (core, modes) in (0u16..).zip(cores.into_values()) {
            plan.cpu.extend(modes.into_iter().map(|mode| CpuMode { core, ..mode }));
        }
        plan.interfaces = interfaces
            .into_iter()
            .filter(|(_, interface)| interface.receive.is_some() && interface.transmit.is_some())
            .map(|(name, interface)| {
                let physical = !name.contains('.') && !VIRTUAL.iter().any(|prefix| name.starts_with(prefix));
                Interface { physical, ..interface }
            })
            .collect();
        plan.filesystems = filesystems.into_values().filter(|filesystem| filesystem.size.is_some()).collect();
        plan
    }

    /// Cores that report time.
    pub(super) fn cpu_count(&self) -> Option<usize> {
        Some(self.cpu_count).filter(|count| *count > 0)
    }

    /// The operating system's name for people.
    pub(super) fn operating_system<'a>(&self, schema: &'a StoredSchema) -> Option<&'a str> {
        text(schema, self.os_info, "pretty_name")
    }

    /// The kernel's release.
    pub(super) fn kernel<'a>(&self, schema: &'a StoredSchema) -> Option<&'a str> {
        text(schema, self.uname, "release")
    }

    /// The machine's architecture.
    pub(super) fn architecture<'a>(&self, schema: &'a StoredSchema) -> Option<&'a str> {
        text(schema, self.uname, "machine")
    }
}

pub(super) fn label<'a>(column: &'a v1::Column, name: &str) -> &'a str {
    column.labels.iter().find(|label| label.name == name).map_or("", |label| &label.value)
}

fn text<'a>(schema: &'a StoredSchema, place: Column, name: &str) -> Option<&'a str> {
    Some(label(schema.columns.get(usize::from(place?))?, name)).filter(|text| !text.is_empty())
}

/// What a list shows of a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Figures {
    pub boot_time_ms: Option<UnixMs>,
    pub load: [Option<f64>; 3],
    pub cpu_usage_percent: Option<f64>,
    pub memory_total_bytes: Option<f64>,
    pub memory_available_bytes: Option<f64>,
    pub network_receive_bytes_per_second: Option<f64>,
    pub network_transmit_bytes_per_second: Option<f64>,
    pub filesystem_size_bytes: Option<f64>,
    pub filesystem_used_bytes: Option<f64>,
    pub filesystem_fullest_percent: Option<f64>,
}

/// What a host's page shows beyond its [`Figures`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Details {
    pub swap_total_bytes: Option<f64>,
    pub swap_free_bytes: Option<f64>,
    /// Share of all cores' time by mode.
    pub cpu_percent_by_mode: BTreeMap<String, f64>,
    pub interfaces: Vec<InterfaceFigures>,
    pub filesystems: Vec<FilesystemFigures>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct InterfaceFigures {
    pub name: String,
    /// Counted in the host's sums.
    pub physical: bool,
    pub up: Option<bool>,
    pub speed_bytes_per_second: Option<f64>,
    pub receive_bytes_per_second: Option<f64>,
    pub transmit_bytes_per_second: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct FilesystemFigures {
    pub mountpoint: String,
    pub device: String,
    pub kind: String,
    pub size_bytes: Option<f64>,
    pub available_bytes: Option<f64>,
    pub used_bytes: Option<f64>,
}

/// Reads values of a frame and rates between it and the one before.
pub(super) struct Reading<'a> {
    glance: &'a Glance<'a>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(glance: &'a Glance<'a>) -> Self {
        Self { glance }
    }

    pub(super) fn value(&self, column: Column) -> Option<f64> {
        let column = usize::from(column?);
        Some(real(&self.glance.schema.columns[column], self.glance.value(column)?))
    }

    /// By how much a counter grew, and in how many seconds.
    fn grown(&self, column: u16) -> Option<(f64, f64)> {
        let column = usize::from(column);
        let (now, before, between_ms) = self.glance.last_two(column)?;
        let seconds = between_ms as f64 / 1_000.0;
        let meaning = &self.glance.schema.columns[column];
        if meaning.float {
            let growth = real(meaning, now) - real(meaning, before);
            return (growth >= 0.0).then_some((growth, seconds));
        }
        // The difference is exact before it is scaled.
        let growth = real(meaning, now.checked_sub(before).filter(|growth| *growth >= 0)?);
        Some((growth, seconds))
    }

    pub(super) fn rate(&self, column: Column) -> Option<f64> {
        self.grown(column?).map(|(growth, seconds)| growth / seconds)
    }

    fn growth(&self, column: u16) -> Option<f64> {
        self.grown(column).map(|(growth, _)| growth)
    }

    /// Seconds of all cores by mode. A core of which one mode cannot be told is left out.
    fn cpu(&self, plan: &Plan, mut each: impl FnMut(CpuMode, f64)) {
        for core in plan.cpu.chunk_by(|a, b| a.core == b.core) {
            if core.iter().all(|mode| self.growth(mode.column).is_some()) {
                core.iter().for_each(|mode| each(*mode, self.growth(mode.column).unwrap_or(0.0)));
            }
        }
    }

    /// One that was taken out since its column was made is no part of the machine any more.
    fn is_physical(&self, interface: &Interface) -> bool {
        let is_there = self.value(interface.receive).is_some();
        let stacked = match (self.value(interface.own_index), self.value(interface.lower_index)) {
            (Some(own), Some(lower)) => own != lower,
            _ => false,
        };
        interface.physical && !stacked && is_there
    }
}

/// The figures of a list.
pub(super) fn figures(plan: &Plan, glance: &Glance<'_>) -> Figures {
    let reading = Reading::new(glance);
    let (mut idle, mut all) = (0.0, 0.0);
    reading.cpu(plan, |mode, seconds| {
        all += seconds;
        if mode.idle {
            idle += seconds;
        }
    });
    let mut figures = Figures {
        boot_time_ms: reading.value(plan.boot_time).map(|seconds| (seconds * 1_000.0) as UnixMs),
        load: plan.load.map(|column| reading.value(column)),
        cpu_usage_percent: (all > 0.0).then(|| (1.0 - idle / all) * 100.0),
        memory_total_bytes: reading.value(plan.memory_total),
        memory_available_bytes: reading.value(plan.memory_available),
        ..Default::default()
    };
    let physical = || plan.interfaces.iter().filter(|interface| reading.is_physical(interface));
    // A sum of which one part is not known is not known.
    let sum = |rates: &mut dyn Iterator<Item = Option<f64>>| -> Option<f64> {
        let mut sum = None;
        for rate in rates {
            *sum.get_or_insert(0.0) += rate?;
        }
        sum
    };
    figures.network_receive_bytes_per_second = sum(&mut physical().map(|interface| reading.rate(interface.receive)));
    figures.network_transmit_bytes_per_second = sum(&mut physical().map(|interface| reading.rate(interface.transmit)));
    // A device that is mounted twice is there once.
    for filesystem in plan.filesystems.iter().filter(|filesystem| !filesystem.again) {
        let Some((size, used, available)) = space(&reading, filesystem) else { continue };
        *figures.filesystem_size_bytes.get_or_insert(0.0) += size;
        *figures.filesystem_used_bytes.get_or_insert(0.0) += used;
        if let Some(percent) = percent(used, used + available) {
            let fullest = figures.filesystem_fullest_percent.get_or_insert(percent);
            *fullest = fullest.max(percent);
        }
    }
    figures
}

/// Size, used, available to anyone; as `df` tells them.
fn space(reading: &Reading<'_>, filesystem: &Filesystem) -> Option<(f64, f64, f64)> {
    let size = reading.value(filesystem.size)?;
    Some((size, size - reading.value(filesystem.free)?, reading.value(filesystem.available)?))
}

fn percent(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole * 100.0)
}

/// The rest of a host's page.
pub(super) fn details(plan: &Plan, glance: &Glance<'_>) -> Details {
    let reading = Reading::new(glance);
    let mut modes: BTreeMap<String, f64> = BTreeMap::new();
    let columns = &glance.schema.columns;
    let named = |place: Column, name: &str| {
        place.map_or_else(String::new, |place| label(&columns[usize::from(place)], name).to_owned())
    };
    reading.cpu(plan, |mode, seconds| *modes.entry(named(Some(mode.column), "mode")).or_default() += seconds);
    let all: f64 = modes.values().sum();
    modes.retain(|_, _| all > 0.0);
    modes.values_mut().for_each(|seconds| *seconds = *seconds / all * 100.0);
    let interfaces = plan.interfaces.iter().map(|interface| InterfaceFigures {
        name: named(interface.receive, "device"),
        physical: reading.is_physical(interface),
        up: reading.value(interface.up).map(|up| up != 0.0),
        // A device that does not know its speed says a negative one.
        speed_bytes_per_second: reading.value(interface.speed).filter(|speed| *speed > 0.0),
        receive_bytes_per_second: reading.rate(interface.receive),
        transmit_bytes_per_second: reading.rate(interface.transmit),
    });
    let filesystems = plan.filesystems.iter().map(|filesystem| {
        let used = space(&reading, filesystem).map(|(_, used, _)| used);
        FilesystemFigures {
            mountpoint: named(filesystem.size, "mountpoint"),
            device: named(filesystem.size, "device"),
            kind: named(filesystem.size, "fstype"),
            size_bytes: reading.value(filesystem.size),
            available_bytes: reading.value(filesystem.available),
            used_bytes: used,
        }
    });
    Details {
        swap_total_bytes: reading.value(plan.swap_total),
        swap_free_bytes: reading.value(plan.swap_free),
        cpu_percent_by_mode: modes,
        interfaces: interfaces.collect(),
        filesystems: filesystems.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{GlanceBefore, Measured};
    use std::sync::Arc;
    use tongtu_protocol::codec::State;
    use tongtu_protocol::schema::SchemaId;

    /// Metric, labels, exponent, value before, value now.
    type Given<'a> = (&'a str, &'a [(&'a str, &'a str)], i32, Option<i64>, Option<i64>);

    struct Frames {
        schema: Arc<StoredSchema>,
        before: State,
        now: State,
        measured: Measured,
    }

    fn frames(columns: &[Given<'_>]) -> Frames {
        let column = |(metric, labels, exponent, _, _): &Given<'_>| v1::Column {
            metric: (*metric).into(),
            exponent: *exponent,
            labels: labels
                .iter()
                .map(|(name, value)| v1::Label { name: (*name).into(), value: (*value).into() })
                .collect(),
            ..Default::default()
        };
        let values =
            |value: fn(&Given<'_>) -> Option<i64>| State::from_values(&columns.iter().map(value).collect::<Vec<_>>());
        Frames {
            schema: StoredSchema::new(1, SchemaId([0; 16]), columns.iter().map(column).collect()).into(),
            before: values(|column| column.3),
            now: values(|column| column.4),
            measured: Measured::default(),
        }
    }

    impl Frames {
        fn glance(&self, between_ms: i64, boot_before: u32) -> Glance<'_> {
            Glance {
                schema: &self.schema,
                state: &self.now,
                measured: &self.measured,
                instant_ms: 1_000_000,
                arrival_ms: 1_000_000,
                clock_uncertain: false,
                interval_ms: 15_000,
                boot: 7,
                since_ms: i64::MIN,
                before: Some(GlanceBefore {
                    schema: &self.schema,
                    state: &self.before,
                    instant_ms: 1_000_000 - between_ms,
                    boot: boot_before,
                }),
            }
        }

        fn figures(&self) -> Figures {
            figures(&Plan::new(&self.schema), &self.glance(15_000, 7))
        }
    }

    const CPU: &str = "node_cpu_seconds_total";
    const IN: &str = "node_network_receive_bytes_total";

    #[test]
    fn cpu_usage_is_the_share_of_time_that_was_not_idle() {
        let frames = frames(&[
            (CPU, &[("cpu", "0"), ("mode", "user")], -2, Some(1_000), Some(1_600)),
            (CPU, &[("cpu", "0"), ("mode", "idle")], -2, Some(0), Some(800)),
            (CPU, &[("cpu", "0"), ("mode", "iowait")], -2, Some(0), Some(100)),
            // Its idle time went back, as kernels have it: nothing is told of this core.
            (CPU, &[("cpu", "1"), ("mode", "user")], -2, Some(0), Some(1_500)),
            (CPU, &[("cpu", "1"), ("mode", "idle")], -2, Some(9), Some(8)),
        ]);
        let usage = frames.figures().cpu_usage_percent.expect("one core is known");
        assert!((usage - 40.0).abs() < 1e-9, "{usage}");
        let plan = Plan::new(&frames.schema);
        assert_eq!(plan.cpu_count(), Some(2));
        let modes = details(&plan, &frames.glance(15_000, 7)).cpu_percent_by_mode;
        assert!((modes["user"] - 40.0).abs() < 1e-9 && modes.len() == 3, "{modes:?}");
        // Over a reboot or a gap nothing is told.
        for (between_ms, boot) in [(15_000, 6), (37_501, 7), (0, 7)] {
            assert_eq!(figures(&plan, &frames.glance(between_ms, boot)).cpu_usage_percent, None);
        }
    }

    #[test]
    fn traffic_is_that_of_the_hardware() {
        let devices = ["eth0", "eth1", "lo", "eth0.7", "odd"].map(|device| [("device", device)]);
        let mut plain: Vec<Given<'_>> = vec![
            (IN, &[("device", "eth0")], 0, Some(1_000), Some(2_500)),
            (IN, &[("device", "eth1")], 0, Some(0), Some(3_000)),
            (IN, &[("device", "lo")], 0, Some(0), Some(15_000_000)),
            (IN, &[("device", "eth0.7")], 0, Some(0), Some(15_000_000)),
            (IN, &[("device", "odd")], 0, Some(0), Some(15_000_000)),
            ("node_network_iface_id", &[("device", "odd")], 0, Some(5), Some(5)),
            ("node_network_iface_link", &[("device", "odd")], 0, Some(2), Some(2)),
        ];
        plain.extend(
            devices.iter().map(|device| ("node_network_transmit_bytes_total", &device[..], 0, Some(0), Some(15))),
        );
        assert_eq!(frames(&plain).figures().network_receive_bytes_per_second, Some(300.0));
        assert_eq!(frames(&plain).figures().network_transmit_bytes_per_second, Some(2.0));
        // A sum of which one part is not known is not known.
        let mut reset = plain.clone();
        reset[1].4 = Some(-1);
        let reset = frames(&reset);
        assert_eq!(reset.figures().network_receive_bytes_per_second, None);
        let details = details(&Plan::new(&reset.schema), &reset.glance(15_000, 7));
        let shown: Vec<_> = details
            .interfaces
            .iter()
            .map(|interface| (interface.name.as_str(), interface.physical, interface.receive_bytes_per_second))
            .collect();
        assert_eq!(shown[0], ("eth0", true, Some(100.0)));
        assert_eq!(shown[2], ("eth1", true, None));
        assert!(!shown[3].1 && !shown[4].1 && !shown[1].1, "{shown:?}");
    }

    #[test]
    fn space_is_counted_once_a_device() {
        let root: &[(&str, &str)] = &[("mountpoint", "/"), ("device", "/dev/vda1"), ("fstype", "ext4")];
        let bind: &[(&str, &str)] = &[("mountpoint", "/srv"), ("device", "/dev/vda1"), ("fstype", "ext4")];
        let run: &[(&str, &str)] = &[("mountpoint", "/run"), ("device", "tmpfs"), ("fstype", "tmpfs")];
        let mut columns = Vec::new();
        for labels in [root, bind, run] {
            columns.push(("node_filesystem_size_bytes", labels, 0, Some(0), Some(1_000)));
            columns.push(("node_filesystem_free_bytes", labels, 0, Some(0), Some(400)));
            columns.push(("node_filesystem_avail_bytes", labels, 0, Some(0), Some(200)));
        }
        let figures = frames(&columns).figures();
        assert_eq!(figures.filesystem_size_bytes, Some(1_000.0));
        assert_eq!(figures.filesystem_used_bytes, Some(600.0));
        assert_eq!(figures.filesystem_fullest_percent, Some(75.0));
    }

    #[test]
    fn what_is_absent_is_not_nought() {
        let frames = frames(&[
            ("node_memory_MemTotal_bytes", &[], 0, Some(1), None),
            ("node_load1", &[], -2, Some(1), Some(150)),
        ]);
        let expected = Figures { load: [Some(1.5), None, None], ..Figures::default() };
        assert_eq!(frames.figures(), expected);
    }
}
