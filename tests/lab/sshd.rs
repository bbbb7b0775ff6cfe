//! A machine to roll out to: the real OpenSSH server in mounts and processes of its own, so that what is installed there
//! is nowhere else and ends with it. One kind of it has a real systemd as its first process, which knows no units but
//! those that are named here. Needs root.

use crate::process::{self, Process};
use crate::{ports, wait};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::Permissions;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Of root and of `keeper`, there.
pub const PASSWORD: &str = "a harbour for every ship";

const SERVER: &str = "/usr/sbin/sshd";
const SYSTEMD: &str = "/usr/lib/systemd/systemd";
const START: Duration = Duration::from_secs(30);

/// Whether this machine can be one.
#[must_use]
#[track_caller]
pub fn is_possible() -> bool {
    crate::has("root", crate::is_root())
        && crate::has("openssh-server", Path::new(SERVER).exists())
        && crate::has("sudo", crate::on_path("sudo"))
        && crate::has("systemd", Path::new(SYSTEMD).exists())
}

/// How a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With systemd.
    Systemd,
    /// Without it; `sudo` makes `keeper` root, and `deployer` never.
    Sudo,
    /// Without either, and with 1 MiB of room for programs.
    Full,
}

/// The machine.
#[derive(Debug)]
pub struct Sshd {
    folder: PathBuf,
    /// Where its SSH server listens.
    pub address: SocketAddr,
    kind: Kind,
    process: Option<Process>,
    _stay: wait::Stay,
}

impl Sshd {
    /// Starts one in a new folder of `directory`.
    ///
    /// # Panics
    /// When it cannot be.
    #[must_use]
    #[track_caller]
    pub fn start(directory: &Path, kind: Kind) -> Self {
        let folder = directory.join("machine");
        std::fs::create_dir(&folder).expect("a folder");
        // Users there find their public key.
        for open in [directory, &folder] {
            std::fs::set_permissions(open, Permissions::from_mode(0o755)).expect("our own");
        }
        let stay = wait::Stay::begin(format!("a machine with SSH ({kind:?})"));
        let mut machine = Self { folder, address: ports::free(), kind, process: None, _stay: stay };
        machine.new_host_key();
        machine.keygen(&machine.key_file());
        machine.run();
        machine
    }

    fn run(&mut self) {
        let (folder, port) = (self.folder.display(), self.address.port());
        let configuration = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication yes\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nLogLevel VERBOSE\n\
             AuthorizedKeysFile {folder}/user_key.pub\n"
        );
        std::fs::write(self.folder.join("sshd_config"), configuration).expect("room");
        // Everything that an installation touches is a copy or empty.
        let mut script = format!(
            "set -e\n\
             mkdir -p {folder}/etc\n\
             [ -e {folder}/etc/passwd ] || cp -a /etc/. {folder}/etc/\n\
             mount --bind {folder}/etc /etc\n\
             mount -t tmpfs -o size={room}m,mode=755 tmpfs /opt\n\
             for d in /var/lib /run; do mount -t tmpfs -o size=512m,mode=755 tmpfs $d; done\n\
             mkdir -p /run/sshd\n\
             rm -rf /etc/systemd/system /etc/init.d/tongtu-agent* /etc/fstab\n\
             mkdir /etc/systemd/system\n\
             for user in keeper deployer; do\n\
             id -u $user >/dev/null 2>&1 || useradd -d {folder} -M -s /bin/sh $user\n\
             done\n\
             usermod -p '*' deployer\n\
             printf 'root:{PASSWORD}\\nkeeper:{PASSWORD}\\n' | chpasswd -c SHA512\n",
            room = if self.kind == Kind::Full { 1 } else { 512 },
        );
        script += match self.kind {
            Kind::Sudo => "echo 'keeper ALL=(ALL) ALL' >/etc/sudoers.d/keeper\n",
            _ => "mount --bind /dev/null \"$(command -v sudo)\"\n",
        };
        let server = format!("{SERVER} -D -E {folder}/sshd.log -f {folder}/sshd_config");
        script += &match self.kind {
            Kind::Systemd => with_systemd(&self.folder, &server),
            _ => format!("exec {server}\n"),
        };
        // A shell that joins control groups of the machine's own, so that its systemd meets no other's.
        let join = format!(
            "for group in {}; do mkdir \"$group\" && echo $$ >\"$group/cgroup.procs\"; done\nexec \"$@\"",
            self.groups().iter().map(|group| group.display().to_string()).collect::<Vec<_>>().join(" "),
        );
        let mut command = Command::new("sh");
        command.args(["-c", &join, "sh", "unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork"]);
        command.args(["--kill-child", "--mount-proc", "sh", "-c", &script]);
        self.process = Some(Process::start("machine", command, &self.folder));
        wait::until(START, "the SSH server listens", || {
            let process = self.process.as_mut().expect("started");
            assert!(process.ended().is_none(), "it ended:\n{}", process.log());
            TcpStream::connect(self.address).map(drop).map_err(|error| error.to_string())
        });
    }

    /// Its control groups: one in each hierarchy that systemd uses.
    fn groups(&self) -> Vec<PathBuf> {
        if self.kind != Kind::Systemd {
            return Vec::new();
        }
        let name = format!("tongtu-machine-{}", self.address.port());
        let hierarchies = HIERARCHIES.iter().map(Path::new).filter(|folder| folder.join("cgroup.procs").exists());
        hierarchies.map(|folder| folder.join(&name)).collect()
    }

    /// What a command there printed.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    #[track_caller]
    pub fn run_there(&self, words: &[&str]) -> String {
        let first = first_of(self.process.as_ref().expect("it runs").id()).expect("its first process");
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--pid", "--target", &first.to_string(), "--"]).args(words);
        let output = process::run(command, START);
        assert!(output.status.success(), "{words:?}: {}{}", output.stdout, output.stderr);
        output.stdout
    }

    /// Ends its first process, which takes all others along; what started it waits for that.
    fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        if let Some(first) = first_of(process.id()).and_then(Pid::from_raw) {
            let _ = kill_process(first, Signal::KILL);
        }
        process.wait(START);
        for group in self.groups() {
            let mut command = Command::new("find");
            command.arg(&group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]);
            let _ = process::run(command, START);
        }
    }

    /// Sets it up anew: another host key, nothing installed.
    pub fn set_up_anew(&mut self) {
        self.stop();
        self.new_host_key();
        self.run();
    }

    fn keygen(&self, file: &Path) {
        let _ = std::fs::remove_file(file);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(file);
        let made = process::run(command, START);
        assert!(made.status.success(), "{}", made.stderr);
    }

    fn new_host_key(&self) {
        self.keygen(&self.folder.join("host_key"));
    }

    /// The private key that every user there takes.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.folder.join("user_key")
    }

    /// The same as text.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn key(&self) -> String {
        std::fs::read_to_string(self.key_file()).expect("a key")
    }

    /// The fingerprint of its host key, as it prints it itself.
    ///
    /// # Panics
    /// When `ssh-keygen` does not.
    #[must_use]
    #[track_caller]
    pub fn fingerprint(&self) -> String {
        let mut command = Command::new("ssh-keygen");
        command.arg("-lf").arg(self.folder.join("host_key.pub"));
        let printed = process::run(command, START);
        printed.stdout.split_whitespace().nth(1).expect("a fingerprint").to_owned()
    }

    /// A path there, as it is seen from here.
    #[must_use]
    #[track_caller]
    pub fn path(&self, path: &str) -> PathBuf {
        let process = self.process.as_ref().expect("it runs");
        Path::new("/proc").join(process.id().to_string()).join("root").join(path.trim_start_matches('/'))
    }

    /// Where a link there leads.
    #[must_use]
    #[track_caller]
    pub fn link(&self, path: &str) -> Option<String> {
        std::fs::read_link(self.path(path)).ok().map(|to| to.display().to_string())
    }

    /// What its SSH server said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("sshd.log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The first process of a machine, which the one of this id has started.
fn first_of(id: u32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Where control groups are: all in one, or one of each kind.
const HIERARCHIES: [&str; 6] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/systemd",
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup/devices",
    "/sys/fs/cgroup/memory",
    "/sys/fs/cgroup/pids",
];

/// The end of the script that sets a machine up: systemd as its first process, with no units but the journal, the SSH
/// server and empty targets, and no way to settings of the kernel.
fn with_systemd(folder: &Path, server: &str) -> String {
    format!(
        r#"u={folder}/units
rm -rf "$u" && mkdir -p "$u" {folder}/none
for target in sysinit basic multi-user network-online network shutdown local-fs umount final; do
    printf '[Unit]\nDefaultDependencies=no\n' >"$u/$target.target"
done
for unit in systemd-journald.service systemd-journald.socket; do
    sed 's/systemd-journald-\(audit\|dev-log\).socket//g' /usr/lib/systemd/system/$unit >"$u/$unit"
done
printf '[Unit]\nDefaultDependencies=no\nWants=systemd-journald.service ssh.service\n' >"$u/machine.target"
printf '[Unit]\nDefaultDependencies=no\n[Service]\nExecStart={server}\n' >"$u/ssh.service"
mount --bind "$u" /usr/lib/systemd/system
mount --bind {folder}/none /usr/lib/systemd/system-generators
mount -t tmpfs -o size=64m,mode=755 tmpfs /var/log
if [ ! -e /sys/fs/cgroup/cgroup.procs ]; then
    umount -R /sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    cd /sys/fs/cgroup
    mkdir systemd unified devices memory pids
    mount -t cgroup -o none,name=systemd cgroup systemd
    mount -t cgroup2 cgroup2 unified || rmdir unified
    for kind in devices memory pids; do mount -t cgroup -o $kind cgroup $kind; done
    cd /
else
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
exec env -i container=lab PATH="$PATH" {SYSTEMD} --system --unit=machine.target --log-target=console --show-status=0
"#,
        folder = folder.display(),
    )
}
