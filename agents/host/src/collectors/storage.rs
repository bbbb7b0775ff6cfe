//! What disks are joined into: software RAID; and NVMe controllers.

use crate::{
    metrics as m,
    text::{TextFile, number, numbered, read_small},
};
use std::path::PathBuf;
use tongtu_agent_runtime::collect::{CollectError, Collector, Context, Unavailable, Values};

struct Raid(TextFile);

/// Software RAID.
///
/// # Errors
/// On a kernel without it.
pub(super) fn raid(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let file = TextFile::open(context.proc.join("mdstat"));
    let no = |error: Unavailable| Unavailable::new(format!("this kernel has no software RAID ({})", error.reason));
    Ok(Box::new(Raid(file.map_err(no)?)))
}

impl Collector for Raid {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        for array in arrays(self.0.read()?) {
            let device = array.name.as_str();
            for state in ["active", "inactive", "recovering", "resync", "check"] {
                out.put(&m::MD_STATE, &[device, state], (state == array.state).into());
            }
            for (state, count) in [("active", array.active), ("failed", array.failed), ("spare", array.spare)] {
                out.put(&m::MD_DISKS, &[device, state], count);
            }
            out.put(&m::MD_DISKS_REQUIRED, &[device], array.required);
            out.put(&m::MD_BLOCKS, &[device], array.blocks);
            out.put(&m::MD_BLOCKS_SYNCED, &[device], array.synced);
        }
        Ok(())
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Array {
    name: String,
    state: &'static str,
    active: i64,
    failed: i64,
    spare: i64,
    required: i64,
    blocks: i64,
    synced: i64,
}

/// Reads `/proc/mdstat`: an array's line, then lines indented below it.
fn arrays(text: &str) -> Vec<Array> {
    let mut arrays: Vec<Array> = Vec::new();
    for line in text.lines() {
        if let Some((name, rest)) = line.split_once(" : ").filter(|(name, _)| name.starts_with("md")) {
            let members = rest.split(' ').filter(|word| word.contains('['));
            let members: Vec<&str> = members.collect();
            let with = |mark: &str| members.iter().filter(|member| member.contains(mark)).count();
            let (failed, spare) = (with("(F)"), with("(S)"));
            let whole = (members.len() - failed - spare) as i64;
            arrays.push(Array {
                name: name.to_owned(),
                state: if rest.starts_with("active") { "active" } else { "inactive" },
                // Personalities without redundancy print no [required/active].
                active: whole,
                required: whole,
                failed: failed as i64,
                spare: spare as i64,
                ..Array::default()
            });
            continue;
        }
        if !line.starts_with(' ') {
            continue;
        }
        let Some(array) = arrays.last_mut() else { continue };
        if let Some((blocks, rest)) = line.trim_start().split_once(" blocks") {
            array.blocks = number(blocks).unwrap_or_default();
            array.synced = array.blocks;
            if let Some((required, active)) = rest.split('[').find_map(fraction) {
                (array.required, array.active) = (required, active);
            }
        } else if let Some((_, rest)) = line.split_once('=').filter(|_| line.contains("finish=")) {
            array.synced = rest.split('(').find_map(fraction).map_or(0, |(synced, _)| synced);
            array.state = match () {
                () if line.contains("recovery") || line.contains("reshape") => "recovering",
                () if line.contains("check") => "check",
                () => "resync",
            };
        } else if line.contains("resync=") {
            // Pending or delayed: nothing is in step yet.
            (array.state, array.synced) = ("resync", 0);
        }
    }
    arrays
}

/// `2/1] …` or `37043392/292945152) …`.
fn fraction(text: &str) -> Option<(i64, i64)> {
    let (first, rest) = text.split_once('/')?;
    let end = rest.find([']', ')'])?;
    Some((number(first)?, number(&rest[..end])?))
}

struct Nvme(PathBuf);

/// NVMe controllers.
///
/// # Errors
/// Where there are none.
pub(super) fn nvme(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let class = context.sys.join("class/nvme");
    if numbered(&class, "nvme").is_empty() {
        return Err(Unavailable::new("no NVMe controllers here"));
    }
    Ok(Box::new(Nvme(class)))
}

impl Collector for Nvme {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        for (index, directory) in numbered(&self.0, "nvme") {
            let text = |name: &str| read_small(&directory.join(name)).unwrap_or_default();
            let labels = [format!("nvme{index}"), text("firmware_rev"), text("model"), text("serial"), text("state")];
            out.put(&m::NVME_INFO, &labels.each_ref().map(String::as_str), 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_in_every_state() {
        let text = "Personalities : [raid1] [raid6]\n\
md0 : active raid1 sdb1[1] sda1[0]\n      523968 blocks super 1.2 [2/2] [UU]\n\n\
md1 : active raid5 sdd1[3](F) sdc1[2](S) sdb2[1] sda2[0]\n      1000 blocks level 5, 64k chunk, algorithm 2 [3/2] [UU_]\n      [==>..]  recovery = 12.6% (126/1000) finish=127.5min speed=33440K/sec\n\n\
md2 : inactive sde1[0](S)\n      200 blocks\n\n\
md3 : active raid0 sdf1[1] sdg1[0]\n      400 blocks 64k chunks\n\n\
md4 : active (auto-read-only) raid1 sdh1[0]\n      50 blocks [2/1] [U_]\n      \tresync=PENDING\n\n\
unused devices: <none>\n";
        let arrays = arrays(text);
        let shown: Vec<_> = arrays
            .iter()
            .map(|a| (&*a.name, a.state, a.active, a.failed, a.spare, a.required, a.blocks, a.synced))
            .collect();
        assert_eq!(
            shown,
            [
                ("md0", "active", 2, 0, 0, 2, 523_968, 523_968),
                ("md1", "recovering", 2, 1, 1, 3, 1000, 126),
                ("md2", "inactive", 0, 0, 1, 0, 200, 200),
                ("md3", "active", 2, 0, 0, 2, 400, 400),
                ("md4", "resync", 1, 0, 0, 2, 50, 0),
            ]
        );
    }

    #[test]
    fn nonsense_is_no_array() {
        for text in ["", "md0", "md0 : ", "   12 blocks", "md0 : active\n blocks [x/y]\n ]=[("] {
            let _ = arrays(text);
        }
    }
}
