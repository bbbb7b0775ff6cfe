//! Values of which each has a file of its own in `/sys`: sensors, cooling, frequencies, throttling,
//! memory errors. They are looked for when the collector starts and hourly, and read once a minute.

use crate::{
    metrics as m,
    text::{link_name, numbered, read_number, read_small},
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tongtu_agent_runtime::{
    collect::{CollectError, Collector, Context, Unavailable, Values},
    metric::Metric,
};

/// Runs after which the files are looked for again.
const REFRESH: u32 = 60;
/// Files at most.
const READINGS: usize = 1_024;

struct Reading {
    metric: &'static Metric,
    labels: Vec<String>,
    from: From,
}

enum From {
    /// The file's number, times this.
    File(PathBuf, i64),
    /// A value that does not change.
    Constant(i64),
}

impl Reading {
    fn file(metric: &'static Metric, labels: &[&str], path: PathBuf, scale: i64) -> Option<Self> {
        read_number(&path)?;
        Some(Self { metric, labels: owned(labels), from: From::File(path, scale) })
    }

    fn constant(metric: &'static Metric, labels: &[&str], value: i64) -> Self {
        Self { metric, labels: owned(labels), from: From::Constant(value) }
    }
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|&label| label.to_owned()).collect()
}

struct Readings {
    find: fn(&Context) -> Vec<Reading>,
    context: Context,
    found: Vec<Reading>,
    runs: u32,
}

fn make(
    context: &Context,
    find: fn(&Context) -> Vec<Reading>,
    reason: &str,
) -> Result<Box<dyn Collector>, Unavailable> {
    let found = find(context);
    if found.is_empty() {
        return Err(Unavailable::new(reason));
    }
    Ok(Box::new(Readings { find, context: context.clone(), found, runs: 0 }))
}

impl Collector for Readings {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        self.runs += 1;
        if self.runs.is_multiple_of(REFRESH) {
            self.found = (self.find)(&self.context);
        }
        for reading in self.found.iter().take(READINGS) {
            let value = match &reading.from {
                From::File(path, scale) => read_number(path).and_then(|value| value.checked_mul(*scale)),
                From::Constant(value) => Some(*value),
            };
            let Some(value) = value else { continue };
            let mut labels = [""; 4];
            for (slot, label) in labels.iter_mut().zip(&reading.labels) {
                *slot = label;
            }
            out.put(reading.metric, &labels[..reading.labels.len()], value);
        }
        Ok(())
    }
}

/// Sensors of the hardware: temperature, fans, voltage, current, power.
///
/// # Errors
/// Where there are none, as in most virtual machines.
pub(super) fn hwmon(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    make(context, find_hwmon, "no hardware sensors here (no /sys/class/hwmon)")
}

fn find_hwmon(context: &Context) -> Vec<Reading> {
    let mut found = Vec::new();
    for (_, directory) in numbered(&context.sys.join("class/hwmon"), "hwmon") {
        // Old drivers keep their files one level deeper.
        let deep = directory.join("device");
        let files = if directory.join("name").exists() { &directory } else { &deep };
        let chip = chip(&directory, files);
        if let Ok(name) = read_small(&files.join("name")) {
            let name = clean(&name);
            found.push(Reading::constant(&m::HWMON_CHIP_NAMES, &[&chip, &name], 1));
        }
        let Ok(entries) = fs::read_dir(files) else { continue };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        found.extend(names.iter().filter_map(|name| sensor(&chip, files, name)));
    }
    found
}

fn sensor(chip: &str, files: &Path, name: &str) -> Option<Reading> {
    let (sensor, property) = name.split_once('_')?;
    let kind = sensor.trim_end_matches(|character: char| character.is_ascii_digit());
    let metric = match (kind, property) {
        ("temp", "input") => &m::HWMON_TEMP,
        ("temp", "max") => &m::HWMON_TEMP_MAX,
        ("temp", "crit") => &m::HWMON_TEMP_CRIT,
        ("fan", "input") => &m::HWMON_FAN,
        ("in", "input") => &m::HWMON_IN,
        ("curr", "input") => &m::HWMON_CURR,
        ("power", "input") => &m::HWMON_POWER,
        ("temp" | "fan" | "in" | "curr" | "power", "label") => {
            let label = read_small(&files.join(name)).ok()?;
            return Some(Reading::constant(&m::HWMON_SENSOR_LABEL, &[chip, sensor, &label], 1));
        }
        _ => return None,
    };
    Reading::file(metric, &[chip, sensor], files.join(name), 1)
}

/// A chip's name: where its device is attached, or what it calls itself.
fn chip(directory: &Path, files: &Path) -> String {
    if let Ok(device) = fs::canonicalize(directory.join("device")) {
        let part = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).map(|name| name.to_string_lossy());
            clean(&name.unwrap_or_default())
        };
        let (bus, device) = (part(device.parent()), part(Some(&device)));
        match (bus.is_empty(), device.is_empty()) {
            (false, false) => return format!("{bus}_{device}"),
            (true, false) => return device,
            _ => {}
        }
    }
    let name = read_small(&files.join("name")).ok().map(|name| clean(&name));
    name.or_else(|| link_name(directory).map(|name| clean(&name))).unwrap_or_default()
}

/// Lower case, and nothing but letters, digits, `_` and `:`.
fn clean(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let kept =
        |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || "_:".contains(character);
    let replaced: String = lower.chars().map(|character| if kept(character) { character } else { '_' }).collect();
    replaced.trim_matches('_').to_owned()
}

/// Thermal zones and cooling devices.
///
/// # Errors
/// Where there are none.
pub(super) fn thermal(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    make(context, find_thermal, "no thermal zones or cooling devices here")
}

fn find_thermal(context: &Context) -> Vec<Reading> {
    let class = context.sys.join("class/thermal");
    let mut found = Vec::new();
    for (index, zone) in numbered(&class, "thermal_zone") {
        let kind = read_small(&zone.join("type")).unwrap_or_default();
        let labels = [&index.to_string(), &*kind];
        found.extend(Reading::file(&m::THERMAL_ZONE, &labels, zone.join("temp"), 1));
    }
    for (index, device) in numbered(&class, "cooling_device") {
        let kind = read_small(&device.join("type")).unwrap_or_default();
        let labels = [&index.to_string(), &*kind];
        found.extend(Reading::file(&m::COOLING_CURRENT, &labels, device.join("cur_state"), 1));
        found.extend(Reading::file(&m::COOLING_MAX, &labels, device.join("max_state"), 1));
    }
    found
}

/// Frequencies of the cores. Limits are read once: a file a core and limit adds up.
///
/// # Errors
/// Where the kernel does not govern them, as in most virtual machines.
pub(super) fn cpufreq(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    make(context, find_cpufreq, "the kernel does not govern the cores' frequency here")
}

fn find_cpufreq(context: &Context) -> Vec<Reading> {
    let mut found = Vec::new();
    for (cpu, directory) in numbered(&context.sys.join("devices/system/cpu"), "cpu") {
        let (cpu, files) = (cpu.to_string(), directory.join("cpufreq"));
        for (metric, name) in [(&m::CPU_FREQUENCY, "cpuinfo_cur_freq"), (&m::CPU_SCALING_FREQUENCY, "scaling_cur_freq")]
        {
            found.extend(Reading::file(metric, &[&cpu], files.join(name), 1_000));
        }
        for (metric, name) in [
            (&m::CPU_FREQUENCY_MIN, "cpuinfo_min_freq"),
            (&m::CPU_FREQUENCY_MAX, "cpuinfo_max_freq"),
            (&m::CPU_SCALING_FREQUENCY_MIN, "scaling_min_freq"),
            (&m::CPU_SCALING_FREQUENCY_MAX, "scaling_max_freq"),
        ] {
            let limit = read_number(&files.join(name)).and_then(|value| value.checked_mul(1_000));
            found.extend(limit.map(|limit| Reading::constant(metric, &[&cpu], limit)));
        }
    }
    found
}

/// How often cores and packages were slowed down because of heat.
///
/// # Errors
/// Where the hardware does not count it.
pub(super) fn throttle(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    make(context, find_throttle, "the processor does not count throttling here")
}

fn find_throttle(context: &Context) -> Vec<Reading> {
    let mut found: Vec<Reading> = Vec::new();
    for (_, directory) in numbered(&context.sys.join("devices/system/cpu"), "cpu") {
        let topology = |name: &str| read_small(&directory.join("topology").join(name)).ok();
        let (Some(package), Some(core)) = (topology("physical_package_id"), topology("core_id")) else {
            continue;
        };
        let files = directory.join("thermal_throttle");
        // Threads of a core, and cores of a package, show the same number: once is enough.
        for (metric, labels, name) in [
            (&m::CPU_CORE_THROTTLES, &[&*core, &*package][..], "core_throttle_count"),
            (&m::CPU_PACKAGE_THROTTLES, &[&*package][..], "package_throttle_count"),
        ] {
            let same = |known: &Reading| std::ptr::eq(known.metric, metric) && known.labels == labels;
            if !found.iter().any(same) {
                found.extend(Reading::file(metric, labels, files.join(name), 1));
            }
        }
    }
    found
}

/// Memory errors counted by the memory controllers.
///
/// # Errors
/// Where no controller reports them.
pub(super) fn edac(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    make(context, find_edac, "no memory controller reports errors here")
}

fn find_edac(context: &Context) -> Vec<Reading> {
    let mut found = Vec::new();
    let controllers = numbered(&context.sys.join("devices/system/edac/mc"), "mc");
    for (controller, directory) in controllers {
        let controller = controller.to_string();
        let mut add = |metric: &'static Metric, labels: &[&str], file: PathBuf| {
            found.extend(Reading::file(metric, labels, file, 1));
        };
        add(&m::EDAC_CORRECTABLE, &[&controller], directory.join("ce_count"));
        add(&m::EDAC_UNCORRECTABLE, &[&controller], directory.join("ue_count"));
        let unknown = [&*controller, "unknown"];
        add(&m::EDAC_ROW_CORRECTABLE, &unknown, directory.join("ce_noinfo_count"));
        add(&m::EDAC_ROW_UNCORRECTABLE, &unknown, directory.join("ue_noinfo_count"));
        for (row, files) in numbered(&directory, "csrow") {
            let labels = [&*controller, &row.to_string()];
            add(&m::EDAC_ROW_CORRECTABLE, &labels, files.join("ce_count"));
            add(&m::EDAC_ROW_UNCORRECTABLE, &labels, files.join("ue_count"));
        }
    }
    found
}
