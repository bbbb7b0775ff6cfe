//! What the machine is, and single figures of the kernel: names, operating system, hardware,
//! SELinux, entropy, open files, scheduler statistics, bonds.

use crate::{
    metrics as m,
    os_release::OsRelease,
    text::{TextFile, decimal, number, read_number, read_small},
};
use std::path::{Path, PathBuf};
use tongtu_agent_runtime::collect::{CollectError, Collector, Context, Unavailable, Values};

/// Runs after which files that hardly change are read again.
const REFRESH: u32 = 240;

struct Uname;

/// The kernel's name.
///
/// # Errors
/// None.
pub(super) fn uname(_: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    Ok(Box::new(Uname))
}

impl Collector for Uname {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        let name = rustix::system::uname();
        let texts =
            [name.nodename(), name.domainname(), name.machine(), name.release(), name.sysname(), name.version()];
        out.put(&m::UNAME, &texts.map(|text| text.to_str().unwrap_or_default()), 1);
        Ok(())
    }
}

struct Os {
    root: PathBuf,
    release: OsRelease,
    runs: u32,
}

/// The operating system.
///
/// # Errors
/// Where there is no os-release.
pub(super) fn os(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let release = OsRelease::read(&context.root);
    let release =
        release.ok_or_else(|| Unavailable::new("neither /etc/os-release nor /usr/lib/os-release can be read"))?;
    Ok(Box::new(Os { root: context.root.clone(), release, runs: 0 }))
}

impl Collector for Os {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        self.runs += 1;
        if self.runs.is_multiple_of(REFRESH) {
            self.release = OsRelease::read(&self.root).unwrap_or_default();
        }
        let get = |key| self.release.get(key);
        let labels = [
            get("ID"),
            get("BUILD_ID"),
            get("ID_LIKE"),
            get("IMAGE_ID"),
            get("IMAGE_VERSION"),
            get("NAME"),
            get("PRETTY_NAME"),
            get("VARIANT"),
            get("VARIANT_ID"),
            get("VERSION"),
            get("VERSION_CODENAME"),
            get("VERSION_ID"),
        ];
        out.put(&m::OS_INFO, &labels, 1);
        if let Some(version) = version(get("VERSION_ID")) {
            out.put(&m::OS_VERSION, &[get("ID"), get("ID_LIKE"), get("NAME")], version);
        }
        Ok(())
    }
}

/// The first two numbers of a version as a decimal fraction, as node_exporter shows it.
fn version(text: &str) -> Option<i64> {
    let mut parts = text.split('.');
    let whole = parts.next()?;
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let fraction = parts.next().filter(digits).unwrap_or("0");
    Some(whole).filter(digits)?;
    decimal(&format!("{whole}.{fraction}"), 4)
}

/// The files of `/sys/class/dmi/id`, in the order of the metric's labels.
const DMI_FILES: [&str; 20] = [
    "product_name",
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_vendor",
    "chassis_version",
    "product_family",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "sys_vendor",
];

struct Dmi([String; DMI_FILES.len()]);

/// The hardware's names. Serial numbers are readable by root only, and left out otherwise.
///
/// # Errors
/// Where the firmware gives none.
pub(super) fn dmi(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let directory = context.sys.join("class/dmi/id");
    if !directory.is_dir() {
        return Err(Unavailable::new("the firmware gives no names of the hardware (no /sys/class/dmi)"));
    }
    Ok(Box::new(Dmi(DMI_FILES.map(|file| read_small(&directory.join(file)).unwrap_or_default()))))
}

impl Collector for Dmi {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        out.put(&m::DMI_INFO, &self.0.each_ref().map(String::as_str), 1);
        Ok(())
    }
}

struct Selinux {
    enforce: PathBuf,
    configuration: PathBuf,
}

/// SELinux.
///
/// # Errors
/// None: a machine without it says so.
pub(super) fn selinux(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    Ok(Box::new(Selinux {
        enforce: context.sys.join("fs/selinux/enforce"),
        configuration: context.root.join("etc/selinux/config"),
    }))
}

impl Collector for Selinux {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        let current = read_number(&self.enforce);
        out.put(&m::SELINUX_ENABLED, &[], current.is_some().into());
        if let Some(current) = current {
            out.put(&m::SELINUX_CURRENT_MODE, &[], current);
            let configuration = read_small(&self.configuration).unwrap_or_default();
            let mode = configuration.lines().find_map(|line| line.strip_prefix("SELINUX="));
            let mode = match mode.map(str::trim) {
                Some("enforcing") => 1,
                Some("permissive") => 0,
                _ => -1,
            };
            out.put(&m::SELINUX_CONFIG_MODE, &[], mode);
        }
        Ok(())
    }
}

struct Entropy {
    available: TextFile,
    size: TextFile,
}

/// The kernel's entropy.
///
/// # Errors
/// Where it is not shown.
pub(super) fn entropy(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let directory = context.proc.join("sys/kernel/random");
    Ok(Box::new(Entropy {
        available: TextFile::open(directory.join("entropy_avail"))?,
        size: TextFile::open(directory.join("poolsize"))?,
    }))
}

impl Collector for Entropy {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        for (file, metric) in [(&mut self.available, &m::ENTROPY_AVAILABLE), (&mut self.size, &m::ENTROPY_POOL_SIZE)] {
            if let Some(value) = number(file.read()?.trim()) {
                out.put(metric, &[], value);
            }
        }
        Ok(())
    }
}

struct Files(TextFile);

/// Open files of the whole machine.
///
/// # Errors
/// Where they are not counted.
pub(super) fn files(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    Ok(Box::new(Files(TextFile::open(context.proc.join("sys/fs/file-nr"))?)))
}

impl Collector for Files {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        let mut numbers = self.0.read()?.split_ascii_whitespace().map(number);
        for (metric, place) in [(&m::FILEFD_ALLOCATED, 0), (&m::FILEFD_MAXIMUM, 1)] {
            if let Some(value) = numbers.nth(place).flatten() {
                out.put(metric, &[], value);
            }
        }
        Ok(())
    }
}

struct Scheduler(TextFile);

/// How long each core ran tasks, and how long tasks waited for it.
///
/// # Errors
/// On a kernel without scheduler statistics.
pub(super) fn scheduler(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let file = TextFile::open(context.proc.join("schedstat"));
    let no =
        |error: Unavailable| Unavailable::new(format!("this kernel keeps no scheduler statistics ({})", error.reason));
    Ok(Box::new(Scheduler(file.map_err(no)?)))
}

impl Collector for Scheduler {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        for line in self.0.read()?.lines() {
            let Some(rest) = line.strip_prefix("cpu") else { continue };
            let mut words = rest.split(' ');
            let Some(cpu) = words.next() else { continue };
            let metrics = [&m::SCHEDSTAT_RUNNING, &m::SCHEDSTAT_WAITING, &m::SCHEDSTAT_TIMESLICES];
            for (metric, value) in metrics.into_iter().zip(words.skip(6)) {
                if let Some(value) = number(value) {
                    out.put(metric, &[cpu], value);
                }
            }
        }
        Ok(())
    }
}

struct Bonds(PathBuf);

/// Bonded interfaces.
///
/// # Errors
/// Where the kernel has no bonds.
pub(super) fn bonds(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let class = context.sys.join("class/net");
    if !class.join("bonding_masters").exists() {
        return Err(Unavailable::new("no bonded interfaces here"));
    }
    Ok(Box::new(Bonds(class)))
}

impl Collector for Bonds {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        for master in read_small(&self.0.join("bonding_masters"))?.split_ascii_whitespace() {
            let directory = self.0.join(master);
            let slaves = read_small(&directory.join("bonding/slaves")).unwrap_or_default();
            let slaves: Vec<&str> = slaves.split_ascii_whitespace().collect();
            let active = slaves.iter().filter(|slave| has_link(&directory, slave)).count();
            out.put(&m::BONDING_SLAVES, &[master], slaves.len() as i64);
            out.put(&m::BONDING_ACTIVE, &[master], active as i64);
        }
        Ok(())
    }
}

fn has_link(master: &Path, slave: &str) -> bool {
    ["lower_", "slave_"].iter().any(|prefix| {
        let file = master.join(format!("{prefix}{slave}/bonding_slave/mii_status"));
        read_small(&file).is_ok_and(|status| status == "up")
    })
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_as_numbers() {
        assert_eq!(version("12"), Some(120_000));
        assert_eq!(version("24.04"), Some(240_400));
        assert_eq!(version("3.18.4"), Some(31_800));
        assert_eq!(version("rolling"), None);
        assert_eq!(version(""), None);
        assert_eq!(version("22.x"), Some(220_000));
    }
}
