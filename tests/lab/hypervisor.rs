//! Real hypervisors: libvirtd and QEMU, each in namespaces of its own (processes, network, mounts, name), with
//! its own sockets and folders. Whatever it started ends with the first process of its namespace.
//!
//! Guests are emulated (`type='qemu'`): a machine that runs tests may have no KVM, or one that does not work.
//! Two of them are connected by a cable between their bridges, which guests are on as well.

use crate::guest::{self, Guest, Plan};
use crate::process::{self, Process};
use crate::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The first start asks QEMU what it can do.
const START: Duration = Duration::from_secs(60);
/// Of one command of virsh.
const COMMAND: Duration = Duration::from_secs(240);

/// A libvirtd with its guests.
#[derive(Debug)]
pub struct Hypervisor {
    directory: PathBuf,
    name: String,
    number: u8,
    /// The first process of its namespaces.
    init: Process,
    daemon: Option<Process>,
    _stay: wait::Stay,
}

/// Whether this machine can have one: says what is missing, and in CI fails.
#[must_use]
#[track_caller]
pub fn is_possible() -> bool {
    let programs = ["libvirtd", "virsh", "qemu-system-x86_64", "busybox", "cpio", "unshare", "nsenter", "ip"];
    let missing: Vec<_> = programs.into_iter().filter(|program| !crate::on_path(program)).collect();
    crate::has("root, for namespaces,", crate::is_root())
        && crate::has(&format!("for virtual machines {}", missing.join(", ")), missing.is_empty())
        && crate::has("a kernel for guests", guest::kernel().is_file())
}

impl Hypervisor {
    /// Starts one in `directory/NAME`; its number (1 to 9) is the end of its address, 10.99.0.NUMBER.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    #[track_caller]
    pub fn start(directory: &Path, name: &str, number: u8) -> Self {
        let own = directory.join(name);
        let cache = guest::cache().join(format!("libvirt-{number}"));
        let folders = ["etc", "lib", "log", "run", "images"].map(|folder| own.join(folder));
        for folder in folders.iter().chain([&cache]) {
            std::fs::create_dir_all(folder).expect("a folder of the hypervisor");
        }
        let uuid = format!("6a6f6e67-7475-4000-8000-00000000000{number}");
        std::fs::write(
            own.join("etc/libvirtd.conf"),
            format!("auth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\nunix_sock_ro_perms = \"0777\"\nhost_uuid = \"{uuid}\"\n"),
        )
        .expect("its configuration");
        let qemu = "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\nnamespaces = []\nremember_owner = 0\n\
            stdio_handler = \"file\"\ncgroup_controllers = []\n";
        std::fs::write(own.join("etc/qemu.conf"), qemu).expect("its configuration");
        let at = |folder: &str| own.join(folder).display().to_string();
        // Debian makes these with a package that also starts a service; libvirtd wants them to exist.
        let accounts = format!(
            "cp /etc/passwd {passwd}\ncp /etc/group {group}\n\
             grep -q ^libvirt-qemu: {passwd} || echo libvirt-qemu:x:64055:64055::/:/bin/false >> {passwd}\n\
             grep -q ^libvirt-qemu: {group} || echo libvirt-qemu:x:64055: >> {group}\n\
             grep -q ^kvm: {group} || echo kvm:x:64056: >> {group}\n\
             mount --bind {passwd} /etc/passwd\nmount --bind {group} /etc/group\n",
            passwd = at("passwd"),
            group = at("group"),
        );
        let script = format!(
            "set -e\n\
             mkdir -p /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /run/libvirt\n\
             mount --bind {etc} /etc/libvirt\nmount --bind {lib} /var/lib/libvirt\nmount --bind {log} /var/log/libvirt\n\
             mount --bind {run} /run/libvirt\nmount --bind {cache} /var/cache/libvirt\n\
             mkdir -p /var/lib/libvirt/serial\n{accounts}\
             hostname {name}\nip link set lo up\nip link add br0 type bridge\nip addr add 10.99.0.{number}/24 dev br0\n\
             ip link set br0 up\n: > {ready}\n\
             trap '' CHLD\n\
             while :; do read -r line < {fifo} || :; done\n",
            etc = at("etc"),
            lib = at("lib"),
            log = at("log"),
            run = at("run"),
            cache = cache.display(),
            ready = at("ready"),
            fifo = at("fifo"),
        );
        // What the first process waits at: it has nothing else to do.
        let made = Command::new("mkfifo").arg(own.join("fifo")).status().expect("mkfifo");
        assert!(made.success(), "no fifo");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]);
        command.arg(script);
        let init = Process::start(&format!("{name}-init"), command, directory);
        let _stay = wait::Stay::begin(format!("hypervisor {name}"));
        let mut hypervisor =
            Self { directory: directory.to_owned(), name: name.to_owned(), number, init, daemon: None, _stay };
        let ready = own.join("ready");
        wait::until(START, "its namespaces", || {
            assert!(hypervisor.init.ended().is_none(), "no namespaces:\n{}", hypervisor.init.log());
            ready.is_file().then_some(()).ok_or_else(|| "not ready".to_owned())
        });
        hypervisor.start_daemon();
        hypervisor
    }

    fn own(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// A command inside.
    fn inside(&self, program: &str) -> Command {
        let first = children(self.init.id()).first().copied().expect("the first process inside");
        let mut command = Command::new("nsenter");
        command.args(["--target", &first.to_string(), "--mount", "--net", "--uts", "--pid", "--", program]);
        command
    }

    #[track_caller]
    fn run_inside(&self, program: &str, arguments: &[&str]) {
        let mut command = self.inside(program);
        command.args(arguments);
        let output = process::run(command, COMMAND);
        assert!(output.status.success(), "{program} {arguments:?}: {}{}", output.stdout, output.stderr);
    }

    /// Starts libvirtd; guests that run are found again.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn start_daemon(&mut self) {
        let mut command = self.inside("libvirtd");
        command.args(["--config", "/etc/libvirt/libvirtd.conf", "--pid-file", "/run/libvirt/libvirtd.pid"]);
        self.daemon = Some(Process::start(&self.name, command, &self.directory));
        wait::until(START, "libvirtd answers", || {
            let daemon = self.daemon.as_mut().expect("it was started");
            if let Some(status) = daemon.ended() {
                panic!("libvirtd ended at its start ({status}):\n{}", daemon.log());
            }
            let output = self.try_virsh(&["list", "--all"]);
            output.status.success().then_some(()).ok_or(output.stderr)
        });
    }

    /// libvirtd's own id, outside of its namespace.
    #[track_caller]
    fn daemon_pid(&self) -> u32 {
        let entered = self.daemon.as_ref().expect("libvirtd runs").id();
        children(entered).first().copied().expect("libvirtd runs")
    }

    /// Sends libvirtd a signal.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn signal_daemon(&self, signal: Signal) {
        send(self.daemon_pid(), signal);
        if signal == Signal::CONT {
            // nsenter stops itself with what it started, and is not told to go on by anybody else.
            send(self.daemon.as_ref().expect("libvirtd runs").id(), signal);
        }
    }

    /// Ends libvirtd; its guests run on.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn stop_daemon(&mut self) {
        self.signal_daemon(Signal::TERM);
        let mut daemon = self.daemon.take().expect("libvirtd runs");
        daemon.wait(START);
    }

    /// libvirtd's CPU time is of this process.
    #[must_use]
    #[track_caller]
    pub fn daemon_id(&self) -> u32 {
        self.daemon_pid()
    }

    /// Makes a user known to it, as one of its own machine is.
    ///
    /// # Panics
    /// When that cannot be written.
    pub fn add_user(&self, name: &str, id: &str, group: &str) {
        use std::io::Write as _;
        let add = |file: &str, line: String| {
            let file = std::fs::File::options().append(true).open(self.own().join(file));
            writeln!(file.expect("its users"), "{line}").expect("room");
        };
        add("passwd", format!("{name}:x:{id}:{group}::/:/bin/false"));
        add("group", format!("{name}:x:{group}:"));
    }

    /// The folder of its sockets, as a hypervisor has it at /run/libvirt.
    #[must_use]
    pub fn sockets(&self) -> PathBuf {
        self.own().join("run")
    }

    /// How many connections of clients that may only look libvirtd holds.
    #[must_use]
    #[track_caller]
    pub fn lookers(&self) -> usize {
        // A connection is in the namespace of who made it, and has the socket's address as libvirtd sees it.
        let sockets = std::fs::read_to_string("/proc/net/unix").expect("sockets");
        let looking = |line: &&str| line.ends_with("/run/libvirt/libvirt-sock-ro");
        let inodes: Vec<_> =
            sockets.lines().filter(looking).filter_map(|line| line.split_whitespace().nth(6)).collect();
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.daemon_pid())).expect("its files").flatten();
        let names = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        names.filter(|name| inodes.iter().any(|inode| *name == Path::new(&format!("socket:[{inode}]")))).count()
    }

    /// The address of one of its sockets, `libvirt-sock` or `libvirt-sock-ro`.
    #[must_use]
    pub fn socket(&self, which: &str) -> String {
        format!("qemu+unix:///system?socket={}", self.sockets().join(which).display())
    }

    /// The address for a client that may only look.
    #[must_use]
    pub fn uri(&self) -> String {
        self.socket("libvirt-sock-ro")
    }

    /// `virsh`, as one who may do everything.
    #[must_use]
    #[track_caller]
    pub fn try_virsh(&self, arguments: &[&str]) -> process::Output {
        let mut command = Command::new("virsh");
        command.args(["--quiet", "--connect", &self.socket("libvirt-sock")]).args(arguments);
        command.env("LC_ALL", "C.UTF-8");
        process::run(command, COMMAND)
    }

    /// The same; it must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn virsh(&self, arguments: &[&str]) -> String {
        let output = self.try_virsh(arguments);
        assert!(output.status.success(), "virsh {arguments:?}: {}{}", output.stdout, output.stderr);
        output.stdout
    }

    /// Defines a guest and starts it, and waits until it answers on its serial port.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn boot(&self, plan: &Plan) -> Guest {
        let guest = self.define(plan);
        self.virsh(&["start", &plan.name]);
        guest.wait_up();
        guest
    }

    /// Defines a guest.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn define(&self, plan: &Plan) -> Guest {
        let image = self.disk(&format!("{}.img", plan.name), plan.disk_mib);
        let initramfs = guest::initramfs(&self.directory);
        let xml = plan.xml(&guest::kernel(), &initramfs, &image);
        let file = self.own().join(format!("{}.xml", plan.name));
        std::fs::write(&file, xml).expect("the guest's definition");
        self.virsh(&["define", &file.display().to_string()]);
        self.guest(plan)
    }

    /// A guest that is here, perhaps because it migrated.
    #[must_use]
    pub fn guest(&self, plan: &Plan) -> Guest {
        Guest { plan: plan.clone(), serial: self.own().join("lib/serial").join(format!("{}.sock", plan.name)) }
    }

    /// An empty disk in a folder that every hypervisor of this laboratory reaches.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    #[track_caller]
    pub fn disk(&self, name: &str, mebibytes: u32) -> PathBuf {
        let path = self.own().join("images").join(name);
        let file = std::fs::File::create(&path).expect("a disk");
        file.set_len(u64::from(mebibytes) << 20).expect("its size");
        path
    }

    /// The process that runs a guest, by its id outside.
    ///
    /// # Panics
    /// When nothing runs it.
    #[must_use]
    #[track_caller]
    pub fn process_of(&self, guest: &str) -> u32 {
        let named = format!("guest={guest},");
        let first = children(self.init.id()).first().copied().expect("the first process inside");
        let inside = std::fs::read_link(format!("/proc/{first}/ns/pid")).expect("its namespace");
        let processes = std::fs::read_dir("/proc").expect("processes");
        let found =
            processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|id| {
                let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(&named)
                    && std::fs::read_link(format!("/proc/{id}/ns/pid")).is_ok_and(|of| of == inside)
            });
        found.unwrap_or_else(|| panic!("nothing runs {guest}"))
    }

    /// Connects its bridge with another one's.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn connect(&self, other: &Self) {
        let ours = children(self.init.id()).first().copied().expect("the first process inside");
        let theirs = children(other.init.id()).first().copied().expect("the first process inside");
        let run = |arguments: &[&str]| {
            let mut command = Command::new("ip");
            command.args(arguments);
            let output = process::run(command, COMMAND);
            assert!(output.status.success(), "ip {arguments:?}: {}", output.stderr);
        };
        let (a, b) = (format!("lab{ours}"), format!("lab{theirs}"));
        run(&["link", "add", &a, "type", "veth", "peer", "name", &b]);
        run(&["link", "set", &a, "netns", &ours.to_string()]);
        run(&["link", "set", &b, "netns", &theirs.to_string()]);
        for (hypervisor, end) in [(self, &a), (other, &b)] {
            hypervisor.run_inside("ip", &["link", "set", end, "master", "br0"]);
            hypervisor.run_inside("ip", &["link", "set", end, "up"]);
        }
    }

    /// Migrates a running guest to another one.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn migrate(&self, guest: &str, to: &Self) {
        let (uri, address) = (to.socket("libvirt-sock"), format!("tcp://10.99.0.{}", to.number));
        self.virsh(&[
            "migrate",
            "--live",
            "--unsafe",
            "--persistent",
            "--undefinesource",
            "--migrateuri",
            &address,
            guest,
            &uri,
        ]);
    }
}

/// Sends a process a signal.
pub fn send(id: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The children of a process of one thread.
fn children(id: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}
