//! `/proc/diskstats`, without partitions, loop devices and RAM disks; and what udev knows of a disk.

use super::Bound;
use crate::{
    metrics as m,
    text::{TextFile, read_small},
};
use procfs::DiskStat;
use std::path::{Path, PathBuf};
use tongtu_agent_runtime::collect::{CollectError, Collector, Context, Unavailable, Values};

/// Disks at most; the rest is counted as left out.
const DISKS: usize = 64;
/// Runs after which udev is asked again.
const REFRESH: u32 = 240;
const SECTOR: u64 = 512;

struct Disks {
    file: TextFile,
    udev: PathBuf,
    known: Vec<Info>,
    runs: u32,
}

/// What udev knows of a disk; texts it does not have are empty.
#[derive(Debug, Default, PartialEq, Eq)]
struct Info {
    name: String,
    major: String,
    minor: String,
    model: String,
    path: String,
    revision: String,
    serial: String,
    wwn: String,
}

/// Makes it.
///
/// # Errors
/// Where `/proc/diskstats` cannot be read.
pub(super) fn make(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    Ok(Box::new(Disks {
        file: TextFile::open(context.proc.join("diskstats"))?,
        udev: context.root.join("run/udev/data"),
        known: Vec::new(),
        runs: 0,
    }))
}

impl Collector for Disks {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        if self.runs.is_multiple_of(REFRESH) {
            self.known.clear();
        }
        self.runs = self.runs.wrapping_add(1);
        let mut bound = Bound::new("disk", DISKS);
        let mut at = 0;
        for line in self.file.read()?.lines() {
            // A line of a kernel that prints fewer fields is left, not the whole file.
            let Some(name) = line.split_ascii_whitespace().nth(2) else { continue };
            if ignored(name) {
                continue;
            }
            let Ok(stat) = DiskStat::from_line(line) else { continue };
            if !bound.admit() {
                continue;
            }
            put(out, &stat);
            if self.known.get(at).is_none_or(|info| info.name != stat.name) {
                self.known.truncate(at);
                self.known.push(Info::read(&self.udev, &stat));
            }
            self.known[at].put(out);
            at += 1;
        }
        bound.put(out);
        Ok(())
    }
}

fn put(out: &mut Values<'_>, stat: &DiskStat) {
    let device = &[stat.name.as_str()][..];
    let bytes = |sectors: u64| sectors.checked_mul(SECTOR);
    let values = [
        (&m::DISK_READS, Some(stat.reads)),
        (&m::DISK_READS_MERGED, Some(stat.merged)),
        (&m::DISK_READ_BYTES, bytes(stat.sectors_read)),
        (&m::DISK_READ_TIME, Some(stat.time_reading)),
        (&m::DISK_WRITES, Some(stat.writes)),
        (&m::DISK_WRITES_MERGED, Some(stat.writes_merged)),
        (&m::DISK_WRITTEN_BYTES, bytes(stat.sectors_written)),
        (&m::DISK_WRITE_TIME, Some(stat.time_writing)),
        (&m::DISK_IO_NOW, Some(stat.in_progress)),
        (&m::DISK_IO_TIME, Some(stat.time_in_progress)),
        (&m::DISK_IO_TIME_WEIGHTED, Some(stat.weighted_time_in_progress)),
        (&m::DISK_DISCARDS, stat.discards),
        (&m::DISK_DISCARDS_MERGED, stat.discards_merged),
        (&m::DISK_DISCARDED_SECTORS, stat.sectors_discarded),
        (&m::DISK_DISCARD_TIME, stat.time_discarding),
        (&m::DISK_FLUSHES, stat.flushes),
        (&m::DISK_FLUSH_TIME, stat.time_flushing),
    ];
    for (metric, value) in values {
        if let Some(value) = value.and_then(|value| i64::try_from(value).ok()) {
            out.put(metric, device, value);
        }
    }
}

impl Info {
    fn read(udev: &Path, stat: &DiskStat) -> Self {
        let (major, minor) = (stat.major.to_string(), stat.minor.to_string());
        let data = read_small(&udev.join(format!("b{major}:{minor}"))).unwrap_or_default();
        let property = |name: &str| {
            let value = data.lines().find_map(|line| line.strip_prefix("E:")?.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().to_owned()
        };
        let scsi = property("SCSI_IDENT_SERIAL");
        Self {
            name: stat.name.clone(),
            model: property("ID_MODEL"),
            path: property("ID_PATH"),
            revision: property("ID_REVISION"),
            serial: if scsi.is_empty() { property("ID_SERIAL_SHORT") } else { scsi },
            wwn: property("ID_WWN"),
            major,
            minor,
        }
    }

    fn put(&self, out: &mut Values<'_>) {
        let labels =
            [&self.name, &self.major, &self.minor, &self.model, &self.path, &self.revision, &self.serial, &self.wwn];
        out.put(&m::DISK_INFO, &labels.map(String::as_str), 1);
    }
}

/// What is not a disk of its own: ram*, loop*, fd*, and partitions of sdX, hdX, vdX, xvdX, nvme.
fn ignored(name: &str) -> bool {
    let stem = name.trim_end_matches(|character: char| character.is_ascii_digit());
    if stem.len() == name.len() {
        return false;
    }
    if matches!(stem, "ram" | "loop" | "fd") {
        return true;
    }
    let lettered = ["hd", "sd", "vd", "xvd"].iter().any(|prefix| {
        let rest = stem.strip_prefix(prefix).unwrap_or_default().as_bytes();
        rest.len() == 1 && rest[0].is_ascii_lowercase()
    });
    lettered || is_nvme_partition(stem)
}

/// `nvme0n1p`.
fn is_nvme_partition(stem: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let namespace = stem.strip_prefix("nvme").and_then(|rest| rest.strip_suffix('p'));
    namespace
        .and_then(|namespace| namespace.split_once('n'))
        .is_some_and(|(controller, namespace)| digits(controller) && digits(namespace))
}

#[cfg(test)]
mod tests {
    use super::ignored;

    #[test]
    fn partitions_are_not_disks() {
        for name in ["sda1", "vdb12", "xvda1", "hdc3", "loop0", "ram1", "fd0", "nvme0n1p2"] {
            assert!(ignored(name), "{name}");
        }
        for name in ["sda", "vda", "dm-0", "md0", "nvme0n1", "zram0", "sr0", "mmcblk0", "rbd1"] {
            assert!(!ignored(name), "{name}");
        }
    }
}
