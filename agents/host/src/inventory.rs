//! What the machine is, as facts: read at start and hourly, sent whole when something changed. So a
//! fact is nothing that changes by itself: no load, no free space, no address of a passing container.

use crate::{
    os_release::OsRelease,
    text::{link_name, read_number, read_small},
    zone,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, Networks, System};
use tongtu_agent_runtime::collect::Context;

/// Disks and interfaces at most, each.
const THINGS: usize = 64;

/// Of `/proc/cpuinfo` at most: a core has one or two kilobytes, a large server a thousand cores.
const CPUINFO_BYTES: u64 = 16 << 20;

/// The facts of this machine.
#[must_use]
pub fn read() -> BTreeMap<String, String> {
    read_from(&Context::default())
}

fn read_from(context: &Context) -> BTreeMap<String, String> {
    let mut facts = Facts::default();
    facts.put("agent_version", env!("CARGO_PKG_VERSION"));
    facts.put("architecture", System::cpu_arch());
    facts.put_if("hostname", System::host_name().ok());
    facts.put_if("kernel", System::kernel_version().ok());
    facts.put_if("boot_id", read_small(&context.proc.join("sys/kernel/random/boot_id")).ok());
    facts.put_if("machine_id", read_small(&context.root.join("etc/machine-id")).ok());
    facts.put_if("timezone", zone::name(&context.root));
    operating_system(&mut facts, context);
    processor_and_memory(&mut facts, context);
    hardware(&mut facts, context);
    disks(&mut facts, &context.sys.join("block"));
    interfaces(&mut facts, &context.sys.join("class/net"));
    facts.0
}

#[derive(Default)]
struct Facts(BTreeMap<String, String>);

impl Facts {
    /// A fact; an empty one is none.
    fn put(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.0.insert(name.into(), value);
        }
    }

    fn put_if(&mut self, name: impl Into<String>, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }
}

fn operating_system(facts: &mut Facts, context: &Context) {
    match OsRelease::read(&context.root) {
        Some(release) => {
            facts.put("os_id", release.get("ID"));
            facts.put("os_name", release.get("PRETTY_NAME"));
            facts.put("os_version", release.get("VERSION_ID"));
        }
        None => {
            facts.put_if("os_name", System::name().ok());
            facts.put_if("os_version", System::os_version().ok());
        }
    }
}

fn processor_and_memory(facts: &mut Facts, context: &Context) {
    let Ok(mut system) = System::new() else { return };
    system.refresh_cpu_list(CpuRefreshKind::nothing());
    system.refresh_memory_specifics(MemoryRefreshKind::everything());
    facts.put_if("cpu_model", system.cpus().first().map(|cpu| cpu.brand().trim()));
    facts.put("cpus", system.cpus().len().to_string());
    facts.put_if("cpu_cores", System::physical_core_count().ok().map(|cores| cores.to_string()));
    let cpuinfo = cpuinfo(&context.proc);
    facts.put_if("cpu_sockets", sockets(&cpuinfo).map(|count| count.to_string()));
    facts.put("memory_bytes", system.total_memory().to_string());
    facts.put("swap_bytes", system.total_swap().to_string());
    facts.put("virtualization", virtualization(context, &cpuinfo));
    facts.put_if("container", container(context));
}

/// The lines of `/proc/cpuinfo` that are looked at, each once: of many cores the whole is large.
fn cpuinfo(proc: &Path) -> String {
    let Ok(file) = File::open(proc.join("cpuinfo")) else { return String::new() };
    let lines = BufReader::new(file.take(CPUINFO_BYTES)).lines().map_while(Result::ok);
    let is_looked_at = |line: &String| line.starts_with("physical id") || line.starts_with("flags");
    let lines: BTreeSet<String> = lines.filter(is_looked_at).collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

/// The values of a field of `/proc/cpuinfo`.
fn cpuinfo_field<'a>(cpuinfo: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    cpuinfo.lines().filter_map(move |line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

/// Processors in sockets of their own; unknown where the kernel does not number them.
fn sockets(cpuinfo: &str) -> Option<usize> {
    let count = cpuinfo_field(cpuinfo, "physical id").collect::<BTreeSet<_>>().len();
    (count > 0).then_some(count)
}

/// The hypervisor that this machine runs on: its name, `vm` if it has none, `none` on hardware.
fn virtualization(context: &Context, cpuinfo: &str) -> &'static str {
    let dmi = |file: &str| read_small(&context.sys.join("class/dmi/id").join(file));
    let names = [dmi("sys_vendor"), dmi("product_name"), dmi("board_vendor"), dmi("bios_vendor")];
    let names = names.into_iter().flatten().collect::<Vec<_>>().join("\n");
    let known = [
        ("KVM", "kvm"),
        ("OpenStack", "kvm"),
        ("Amazon EC2", "kvm"),
        ("Alibaba Cloud", "kvm"),
        ("Tencent Cloud", "kvm"),
        ("HUAWEI CLOUD", "kvm"),
        ("QEMU", "qemu"),
        ("VMware", "vmware"),
        ("VirtualBox", "oracle"),
        ("innotek", "oracle"),
        ("Virtual Machine", "microsoft"),
        ("Xen", "xen"),
        ("Parallels", "parallels"),
        ("BHYVE", "bhyve"),
        ("Bochs", "bochs"),
    ];
    let by_name = known.iter().find(|(part, _)| names.contains(part)).map(|(_, name)| *name);
    let has_hypervisor_flag =
        cpuinfo_field(cpuinfo, "flags").next().is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    // Bare metal of a cloud provider has the provider's name as well; the processor knows better.
    let is_x86 = cpuinfo_field(cpuinfo, "flags").next().is_some();
    match (has_hypervisor_flag, by_name) {
        (false, _) if is_x86 => "none",
        (_, Some(name)) => name,
        (true, None) => "vm",
        _ if context.sys.join("hypervisor/type").exists() => "xen",
        _ if context.proc.join("device-tree/hypervisor").exists() => "vm",
        _ => "none",
    }
}

fn container(context: &Context) -> Option<&'static str> {
    let is = |path: &str| context.root.join(path).exists();
    match () {
        () if is(".dockerenv") => Some("docker"),
        () if is("run/.containerenv") => Some("podman"),
        () if is("run/secrets/kubernetes.io") => Some("kubernetes"),
        () if context.proc.join("vz").exists() && !context.proc.join("bc").exists() => Some("openvz"),
        () => None,
    }
}

fn hardware(facts: &mut Facts, context: &Context) {
    let directory = context.sys.join("class/dmi/id");
    for (name, file) in [
        ("hardware_vendor", "sys_vendor"),
        ("hardware_product", "product_name"),
        ("hardware_serial", "product_serial"),
        // What a hypervisor calls the machine; for root alone.
        ("hardware_uuid", "product_uuid"),
        ("bios_version", "bios_version"),
        ("bios_date", "bios_date"),
    ] {
        facts.put_if(name, read_small(&directory.join(file)).ok());
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Disks that hold something: no loop devices, no RAM disks, no empty drives.
fn disks(facts: &mut Facts, block: &Path) {
    let is_disk = |name: &String| !["loop", "ram", "zram", "fd", "sr"].iter().any(|no| name.starts_with(no));
    for name in entries(block).into_iter().filter(is_disk).take(THINGS) {
        let directory = block.join(&name);
        let Some(sectors) = read_number(&directory.join("size")).filter(|&size| size > 0) else {
            continue;
        };
        facts.put(format!("disk.{name}.size_bytes"), (i128::from(sectors) * 512).to_string());
        facts.put_if(format!("disk.{name}.model"), read_small(&directory.join("device/model")).ok());
        let rotational = read_number(&directory.join("queue/rotational"));
        let rotational = rotational.map(|value| if value == 0 { "no" } else { "yes" });
        facts.put_if(format!("disk.{name}.rotational"), rotational);
    }
}

/// Interfaces with a device or an address of their own; those of containers come and go.
fn interfaces(facts: &mut Facts, class: &Path) {
    let Ok(networks) = Networks::new_with_refreshed_list() else { return };
    let mut interfaces: Vec<_> = networks.iter().filter(|(name, _)| *name != "lo").collect();
    interfaces.sort_by_key(|(name, _)| *name);
    let mut room = THINGS;
    for (name, data) in interfaces {
        let name = &*name.to_string_lossy();
        let mut addresses: Vec<String> =
            data.ip_networks().iter().map(|network| format!("{}/{}", network.addr, network.prefix)).collect();
        addresses.sort();
        let driver = link_name(&class.join(name).join("device/driver"));
        let passing = name.starts_with("veth") || name.starts_with("cali");
        if passing || (addresses.is_empty() && driver.is_none()) || room == 0 {
            continue;
        }
        room -= 1;
        facts.put(format!("interface.{name}.mac"), data.mac_address().to_string());
        facts.put(format!("interface.{name}.addresses"), addresses.join(" "));
        facts.put_if(format!("interface.{name}.driver"), driver);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(files: &[(&str, &str)]) -> (tempfile::TempDir, Context) {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("inside")).expect("made");
            fs::write(path, text).expect("written");
        }
        let at = |name: &str| directory.path().join(name);
        let context = Context { proc: at("proc"), sys: at("sys"), root: at(""), ..Context::default() };
        (directory, context)
    }

    #[test]
    fn virtual_or_not() {
        let vm = "flags\t: fpu hypervisor lm\n";
        let metal = "flags\t: fpu lm\n";
        let arm = "Features\t: fp asimd\n";
        let vendor = |name| [("sys/class/dmi/id/sys_vendor", name)];
        for (cpuinfo, files, expected) in [
            (vm, &vendor("QEMU")[..], "qemu"),
            (vm, &vendor("VMware, Inc."), "vmware"),
            (vm, &vendor("Unheard of"), "vm"),
            (vm, &[], "vm"),
            (metal, &vendor("Alibaba Cloud"), "none"),
            (metal, &[], "none"),
            (arm, &vendor("HUAWEI CLOUD"), "kvm"),
            (arm, &vendor("Huawei"), "none"),
        ] {
            let (_directory, context) = context(files);
            assert_eq!(virtualization(&context, cpuinfo), expected, "{files:?}");
        }
    }

    #[test]
    fn what_the_firmware_says_of_itself() {
        let (_directory, context) = context(&[
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
            ("sys/class/dmi/id/product_uuid", "0b5a6f3e-2d1c-4b7a-9e8f-112233445566\n"),
        ]);
        let mut facts = Facts::default();
        hardware(&mut facts, &context);
        assert_eq!(facts.0.get("hardware_uuid").map(String::as_str), Some("0b5a6f3e-2d1c-4b7a-9e8f-112233445566"));
        let (_directory, unreadable) = self::context(&[("sys/class/dmi/id/sys_vendor", "QEMU\n")]);
        let mut facts = Facts::default();
        hardware(&mut facts, &unreadable);
        assert!(!facts.0.contains_key("hardware_uuid"), "what cannot be read is no fact");
    }

    #[test]
    fn disks_that_hold_something() {
        let (_directory, context) = context(&[
            ("sys/block/sda/size", "2048\n"),
            ("sys/block/sda/device/model", "Big Disk  \n"),
            ("sys/block/sda/queue/rotational", "1\n"),
            ("sys/block/sr0/size", "2048"),
            ("sys/block/loop0/size", "2048"),
            ("sys/block/sdb/size", "0"),
        ]);
        let mut facts = Facts::default();
        disks(&mut facts, &context.sys.join("block"));
        let shown: Vec<_> = facts.0.iter().map(|(name, value)| (&**name, &**value)).collect();
        let expected =
            [("disk.sda.model", "Big Disk"), ("disk.sda.rotational", "yes"), ("disk.sda.size_bytes", "1048576")];
        assert_eq!(shown, expected);
    }

    #[test]
    fn this_machine_has_its_facts() {
        let facts = read();
        for name in ["agent_version", "architecture", "hostname", "kernel", "cpus", "memory_bytes", "virtualization"] {
            assert!(facts.contains_key(name), "{name} of {facts:?}");
        }
        assert_eq!(facts, read(), "facts do not change by themselves");
    }

    #[test]
    fn sockets_are_counted_where_they_are_numbered() {
        assert_eq!(sockets("physical id\t: 0\nphysical id\t: 1\nphysical id\t: 0\n"), Some(2));
        assert_eq!(sockets("processor\t: 0\n"), None);
    }

    #[test]
    fn the_last_socket_of_a_large_server_counts() {
        let flags = "flag ".repeat(300);
        let core = |core: usize| format!("processor\t: {core}\nphysical id\t: {}\nflags\t\t: {flags}\n\n", core / 64);
        let text: String = (0..512).map(core).collect();
        assert!(text.len() > 512 << 10);
        let (_directory, context) = context(&[("proc/cpuinfo", text.as_str())]);
        let cpuinfo = cpuinfo(&context.proc);
        assert_eq!(sockets(&cpuinfo), Some(8));
        assert!(cpuinfo.len() < 4 << 10, "{}", cpuinfo.len());
        assert_eq!(virtualization(&context, &cpuinfo), "none");
    }
}
