//! Guests: a Debian kernel and a busybox, which answer commands on their serial port.

use crate::wait::{self, Stopwatch};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// An emulated machine boots in seconds, on a busy one in minutes.
const BOOT: Duration = Duration::from_secs(120);
/// Of one command.
const COMMAND: Duration = Duration::from_secs(60);

/// In the order in which they need each other.
const MODULES: [&str; 10] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio_balloon",
];

/// Where `scripts/install.sh test` puts the kernel, and what is kept between two runs.
#[must_use]
pub fn cache() -> PathBuf {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = of("XDG_CACHE_HOME").or_else(|| of("HOME").map(|home| home.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("tongtu-lab")
}

/// The kernel that guests boot.
#[must_use]
pub fn kernel() -> PathBuf {
    cache().join("vmlinuz")
}

/// What a guest is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name, and that of its files.
    pub name: String,
    /// Its identity.
    pub uuid: String,
    /// What people call it.
    pub title: String,
    /// Whose it is, in its metadata.
    pub owner: String,
    /// The end of its address, 10.99.0.NUMBER.
    pub number: u8,
    /// Its processors.
    pub vcpus: u8,
    /// Its disk.
    pub disk_mib: u32,
}

impl Plan {
    /// One of a name and a number, with one processor and a small disk.
    #[must_use]
    pub fn new(name: &str, number: u8) -> Self {
        Self {
            name: name.to_owned(),
            uuid: format!("7e57ab1e-0000-4000-8000-0000000000{number:02x}"),
            title: format!("{name} of the laboratory"),
            owner: String::new(),
            number,
            vcpus: 1,
            disk_mib: 64,
        }
    }

    /// Its MAC.
    #[must_use]
    pub fn mac(&self) -> String {
        format!("52:54:00:99:00:{:02x}", self.number)
    }

    pub(crate) fn xml(&self, kernel: &Path, initramfs: &Path, image: &Path) -> String {
        let Self { name, uuid, title, owner, number, vcpus, .. } = self;
        let (kernel, initramfs, image, mac) = (kernel.display(), initramfs.display(), image.display(), self.mac());
        format!(
            "<domain type='qemu'>
  <name>{name}</name><uuid>{uuid}</uuid><title>{title}</title>
  <metadata><lab:owner xmlns:lab='urn:tongtu:lab'>{owner}</lab:owner></metadata>
  <memory unit='MiB'>96</memory><vcpu>{vcpus}</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><kernel>{kernel}</kernel><initrd>{initramfs}</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 address=10.99.0.{number}</cmdline></os>
  <features><acpi/><tcg><tb-cache unit='MiB'>32</tb-cache></tcg></features>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/><target dev='vda' bus='virtio'/></disk>
    <interface type='bridge'><mac address='{mac}'/><source bridge='br0'/><model type='virtio'/></interface>
    <serial type='unix'><source mode='bind' path='/var/lib/libvirt/serial/{name}.sock'/></serial>
    <memballoon model='virtio'><stats period='1'/></memballoon>
  </devices>
</domain>
"
        )
    }
}

/// The first file system of every guest; made once for a folder.
///
/// # Panics
/// When it cannot be made.
#[must_use]
#[track_caller]
pub(crate) fn initramfs(directory: &Path) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock();
    let made = directory.join("initramfs");
    if made.is_file() {
        return made;
    }
    let root = directory.join("initramfs.root");
    for folder in ["bin", "dev", "proc", "sys", "modules"] {
        std::fs::create_dir_all(root.join(folder)).expect("a folder of the guest");
    }
    let init = format!(
        "#!/bin/busybox sh\n/bin/busybox --install -s /bin\n\
         mount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs dev /dev\n\
         for module in {modules}; do insmod /modules/$module.ko; done\n\
         for word in $(cat /proc/cmdline); do case $word in\n\
         address=*) ifconfig eth0 ${{word#address=}} netmask 255.255.255.0 up;; esac; done\n\
         stty -F /dev/ttyS0 -echo 2>/dev/null\n\
         while :; do setsid sh -c 'exec sh </dev/ttyS0 >/dev/ttyS0 2>&1'; done\n",
        modules = MODULES.join(" ")
    );
    std::fs::write(root.join("init"), init).expect("the guest's first program");
    let script = format!(
        "set -e\ncp \"$(command -v busybox)\" bin/busybox\nchmod +x init\nfor module in {modules}; do \
         cp {cache}/modules/$module.ko modules/ 2>/dev/null || :; done\n\
         find . | cpio --quiet -o -H newc | gzip -1 > {made}.new\nmv {made}.new {made}\n",
        modules = MODULES.join(" "),
        cache = cache().display(),
        made = made.display(),
    );
    let status = Command::new("sh").arg("-c").arg(script).current_dir(&root).status().expect("a shell");
    assert!(status.success(), "the guest's file system cannot be made");
    made
}

/// A sum that only the guest does, for its terminal may repeat what it is told, and what it is; another one each time,
/// for it may answer when nobody waits any more.
fn word() -> (String, u32) {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    (format!("$(({number}+100000))"), number + 100_000)
}

/// A guest that runs.
#[derive(Debug, Clone)]
pub struct Guest {
    /// What it is.
    pub plan: Plan,
    pub(crate) serial: PathBuf,
}

impl Guest {
    /// Waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_up(&self) {
        wait::until(BOOT, "the guest answers", || {
            self.ask("echo up", Duration::from_secs(2))
                .filter(|answer| answer.contains("up"))
                .map(drop)
                .ok_or_else(|| format!("{} is silent", self.plan.name))
        });
    }

    /// Runs a command in it and returns what it printed.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn run(&self, command: &str) -> String {
        let answer = self.ask(command, COMMAND);
        answer.unwrap_or_else(|| panic!("{} does not answer: {command}", self.plan.name))
    }

    /// Begins a command in it whose end is the guest's, or that nobody waits for.
    ///
    /// # Panics
    /// When it does not begin.
    #[track_caller]
    pub fn begin(&self, command: &str) {
        // What QEMU has not given the guest when this end closes is lost, so the guest says that it has it.
        let (sum, said) = word();
        let begun = self.talk(&format!("echo begun{sum}; {command}"), &format!("begun{said}"), COMMAND);
        assert!(begun.is_some(), "{} does not begin: {command}", self.plan.name);
    }

    fn ask(&self, command: &str, limit: Duration) -> Option<String> {
        let (sum, said) = word();
        let line = format!("echo begin{sum}; {command}; echo end{sum}");
        let heard = self.talk(&line, &format!("end{said}"), limit)?;
        Some(heard.split_once(&format!("begin{said}"))?.1.trim().to_owned())
    }

    /// Tells its shell a line and returns what it says before a word.
    fn talk(&self, line: &str, word: &str, limit: Duration) -> Option<String> {
        let mut serial = UnixStream::connect(&self.serial).ok()?;
        serial.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
        serial.write_all(format!("\n{line}\n").as_bytes()).ok()?;
        let watch = Stopwatch::start();
        let (mut heard, mut buffer) = (Vec::new(), [0; 4_096]);
        while watch.elapsed() < limit {
            match serial.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => heard.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                }
                Err(_) => return None,
            }
            if let Some((said, _)) = String::from_utf8_lossy(&heard).split_once(word) {
                return Some(said.to_owned());
            }
        }
        None
    }
}
