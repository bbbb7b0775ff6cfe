//! Mounted file systems: space and inodes.
//!
//! A file system whose server is gone may never answer. So only those that answer from memory are
//! asked directly; a thread of its own asks the others. One that does not answer in time keeps that
//! thread, is reported as failed and not asked again until the thread comes back, and the rest is
//! asked by a new one.

use super::Bound;
use crate::{metrics as m, text::TextFile};
use rustix::fs::{StatFs, statfs};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread,
    time::Duration,
};
use tongtu_agent_runtime::collect::{CollectError, Collector, Context, Unavailable, Values};

/// File systems at most; the rest is counted as left out.
const FILE_SYSTEMS: usize = 64;
/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Threads that wait for silent file systems, at most.
const STUCK: usize = 8;

const IGNORED_TYPES: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];
/// Their figures are in the kernel's memory: asking them cannot wait for a disk or a server.
const LOCAL_TYPES: &[&str] =
    &["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "vfat", "exfat", "tmpfs", "ramfs"];
const IGNORED_TREES: &[&str] = &["/dev", "/proc", "/run", "/sys", "/mnt", "/media"];
/// Everything below these, but not they themselves.
const IGNORED_CONTENTS: &[&str] = &["/var/lib/docker/", "/var/lib/containers/storage/"];

struct FileSystems {
    file: TextFile,
    /// What the agent itself sees: its service may be shut in, the machine is not.
    is_own: bool,
    root: PathBuf,
    is_read: bool,
    mounts: Vec<Mount>,
    left_out: Bound,
    questions: Questions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    device: String,
    point: String,
    kind: String,
    readonly: bool,
    /// It, and every mount on the way to it, answers from memory.
    is_local: bool,
    path: Arc<Path>,
}

/// Makes it.
///
/// # Errors
/// Where no list of mounts can be read.
pub(super) fn make(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    // The first process sees what the machine does, but shows it to root alone.
    let of_the_first = TextFile::open(context.proc.join("1/mounts"));
    let (file, is_own) = match of_the_first.or_else(|_| TextFile::open(context.proc.join("self/mountinfo"))) {
        Ok(file) => {
            let is_own = file.path().ends_with("self/mountinfo");
            (file, is_own)
        }
        Err(_) => (TextFile::open(context.proc.join("mounts"))?, false),
    };
    Ok(Box::new(FileSystems {
        file: file.with_long_lines(),
        is_own,
        root: context.root.clone(),
        is_read: false,
        mounts: Vec::new(),
        left_out: Bound::new("filesystem", FILE_SYSTEMS),
        questions: Questions::new(|path| statfs(path).ok(), PATIENCE),
    }))
}

impl Collector for FileSystems {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        // The list is long on a host of containers, and the kernel tells when it changes.
        if self.file.was_changed() || !self.is_read {
            self.is_read = false;
            self.left_out = Bound::new("filesystem", FILE_SYSTEMS);
            let text = self.file.read()?;
            self.mounts = if self.is_own { mounts(&unshut(text), &self.root) } else { mounts(text, &self.root) };
            self.mounts.retain(|_| self.left_out.admit());
            self.is_read = true;
        }
        self.questions.take_back();
        for mount in &self.mounts {
            let answer = match mount.is_local {
                true => statfs(&*mount.path).ok(),
                false => self.questions.ask(&mount.path),
            };
            mount.put(out, answer.as_ref());
        }
        self.left_out.put(out);
        Ok(())
    }
}

impl Mount {
    fn put(&self, out: &mut Values<'_>, answer: Option<&StatFs>) {
        let labels = &[self.point.as_str(), &self.device, &self.kind][..];
        out.put(&m::FILESYSTEM_READONLY, labels, self.readonly.into());
        out.put(&m::FILESYSTEM_DEVICE_ERROR, labels, answer.is_none().into());
        let Some(stat) = answer else { return };
        let size = u64::try_from(stat.f_bsize).unwrap_or_default();
        let values = [
            (&m::FILESYSTEM_SIZE, stat.f_blocks.checked_mul(size)),
            (&m::FILESYSTEM_FREE, stat.f_bfree.checked_mul(size)),
            (&m::FILESYSTEM_AVAIL, stat.f_bavail.checked_mul(size)),
            (&m::FILESYSTEM_FILES, Some(stat.f_files)),
            (&m::FILESYSTEM_FILES_FREE, Some(stat.f_ffree)),
        ];
        for (metric, value) in values {
            if let Some(value) = value.and_then(|value| i64::try_from(value).ok()) {
                out.put(metric, labels, value);
            }
        }
    }
}

type Ask = fn(&Path) -> Option<StatFs>;

/// The threads that ask: one that is free, and those that wait for silent file systems.
struct Questions {
    ask: Ask,
    patience: Duration,
    free: Option<Asker>,
    stuck: Vec<(Arc<Path>, Asker)>,
}

impl Questions {
    fn new(ask: Ask, patience: Duration) -> Self {
        Self { ask, patience, free: None, stuck: Vec::new() }
    }

    /// Forgets the threads that came back meanwhile.
    fn take_back(&mut self) {
        self.stuck.retain(|(_, asker)| asker.is_still_waiting());
    }

    /// The answer of a file system, or none if it failed or did not come.
    fn ask(&mut self, path: &Arc<Path>) -> Option<StatFs> {
        if self.stuck.len() >= STUCK || self.stuck.iter().any(|(stuck, _)| stuck == path) {
            return None;
        }
        let asker = match self.free.take() {
            Some(asker) => asker,
            None => Asker::start(self.ask)?,
        };
        asker.questions.send(Arc::clone(path)).ok()?;
        match asker.answers.recv_timeout(self.patience) {
            Ok(answer) => {
                self.free = Some(asker);
                answer
            }
            Err(_) => {
                self.stuck.push((Arc::clone(path), asker));
                None
            }
        }
    }
}

/// A thread that asks one file system after another.
struct Asker {
    questions: Sender<Arc<Path>>,
    answers: Receiver<Option<StatFs>>,
}

impl Asker {
    fn start(ask: Ask) -> Option<Self> {
        let (questions, asked) = channel::<Arc<Path>>();
        let (answer, answers) = channel();
        let work = move || {
            for path in asked {
                if answer.send(ask(&path)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("statfs".into()).stack_size(64 << 10);
        thread.spawn(work).ok()?;
        Some(Self { questions, answers })
    }

    fn is_still_waiting(&self) -> bool {
        matches!(self.answers.try_recv(), Err(TryRecvError::Empty))
    }
}

/// The mounts that are shown: no kernel file systems, no containers' layers, each once.
fn mounts(text: &str, root: &Path) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    let words = |line| {
        let mut words = str::split(line, ' ');
        Some((words.next()?, unescape(words.next()?), words.next()?, words.next()?))
    };
    let remote: Vec<String> =
        text.lines().filter_map(words).filter(|(_, _, kind, _)| is_remote(kind)).map(|(_, point, ..)| point).collect();
    for (device, point, kind, options) in text.lines().filter_map(words) {
        if IGNORED_TYPES.contains(&kind) || is_ignored_point(&point) {
            continue;
        }
        let mount = Mount {
            device: unescape(device),
            kind: kind.to_owned(),
            is_local: !remote.iter().any(|remote| Path::new(&point).starts_with(remote)),
            readonly: options.split(',').any(|option| option == "ro"),
            path: root.join(point.trim_start_matches('/')).into(),
            point,
        };
        let same =
            |other: &Mount| (&other.device, &other.point, &other.kind) == (&mount.device, &mount.point, &mount.kind);
        if !mounts.iter().any(same) {
            mounts.push(mount);
        }
    }
    mounts
}

/// A `mountinfo` as `mounts` would say it to a process that no service manager has shut in. That mounts parts of file
/// systems onto themselves and makes them read-only, for this process alone. So a part of what is mounted elsewhere is
/// left out, and a file system is read-only if it is so itself.
fn unshut(mountinfo: &str) -> String {
    let parts = |line| {
        let (place, kind) = str::split_once(line, " - ")?;
        let mut place = place.split(' ').skip(2);
        let mut kind = kind.split(' ');
        let [device, root, point] = [place.next()?, place.next()?, place.next()?];
        Some((device, root, point, [kind.next()?, kind.next()?, kind.next()?]))
    };
    let all: Vec<_> = mountinfo.lines().filter_map(parts).collect();
    let is_part = |device: &str, root: &str| {
        all.iter().any(|(other, of, ..)| {
            let below = root.strip_prefix(of.trim_end_matches('/'));
            *other == device && *of != root && below.is_some_and(|below| below.starts_with('/'))
        })
    };
    let mut mounts = String::new();
    for (device, root, point, [kind, source, options]) in &all {
        if !is_part(device, root) {
            for word in [source, " ", point, " ", kind, " ", options, "\n"] {
                mounts.push_str(word);
            }
        }
    }
    mounts
}

/// Whether the kernel may have to wait for somebody to answer for a file system of this type.
fn is_remote(kind: &str) -> bool {
    let is_kernels_own = IGNORED_TYPES.contains(&kind) && kind != "autofs";
    !LOCAL_TYPES.contains(&kind) && !is_kernels_own
}

fn is_ignored_point(point: &str) -> bool {
    let inside = |tree: &&str| point.strip_prefix(*tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let below = |tree: &&str| point.strip_prefix(*tree).is_some_and(|rest| !rest.is_empty());
    IGNORED_TREES.iter().any(inside) || IGNORED_CONTENTS.iter().any(below)
}

/// Spaces and the like are printed as `\040`.
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        let code = match (first, rest) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        plain.push(code.unwrap_or(*first));
        bytes = if code.is_some() { &rest[3..] } else { rest };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, Mutex};

    static SERVER_IS_GONE: (Mutex<bool>, Condvar) = (Mutex::new(true), Condvar::new());

    fn ask(path: &Path) -> Option<StatFs> {
        if path.ends_with("nfs") {
            let gone = SERVER_IS_GONE.0.lock().expect("not poisoned");
            drop(SERVER_IS_GONE.1.wait_while(gone, |gone| *gone).expect("not poisoned"));
        }
        statfs("/").ok()
    }

    #[test]
    fn a_silent_file_system_hides_no_other_and_is_asked_again_once_it_answered() {
        let [nfs, root]: [Arc<Path>; 2] = [Path::new("/nfs").into(), Path::new("/").into()];
        let mut questions = Questions::new(ask, Duration::from_millis(300));
        assert!(questions.ask(&root).is_some());
        for _ in 0..3 {
            questions.take_back();
            assert!(questions.ask(&nfs).is_none());
            assert!(questions.ask(&root).is_some());
            assert_eq!(questions.stuck.len(), 1, "one thread waits, however often it is asked for");
        }
        *SERVER_IS_GONE.0.lock().expect("not poisoned") = false;
        SERVER_IS_GONE.1.notify_all();
        let answer = questions.stuck[0].1.answers.recv_timeout(Duration::from_secs(20));
        assert!(answer.is_ok(), "the thread comes back");
        questions.take_back();
        // Its channel is closed once the thread has gone, which counts as come back.
        assert!(questions.ask(&nfs).is_some() || !questions.stuck.is_empty());
    }

    #[test]
    fn kernel_file_systems_and_container_layers_are_not_shown() {
        let text = "proc /proc proc rw 0 0\n\
            /dev/vda / ext4 rw,relatime 0 0\n\
            /dev/vda / ext4 rw,relatime 0 0\n\
            tmpfs /run tmpfs rw 0 0\n\
            tmpfs /runner tmpfs ro,nosuid 0 0\n\
            overlay /var/lib/docker/overlay2/x/merged overlay rw 0 0\n\
            /dev/vdb /var/lib/docker ext4 rw 0 0\n\
            /dev/vdc /var/lib/docker/volumes xfs rw 0 0\n\
            nas:/a\\040b /srv/a\\040b nfs4 rw,errors=ro 0 0\n\
            broken line\n";
        let mounts = mounts(text, Path::new("/"));
        let shown: Vec<_> = mounts.iter().map(|mount| (mount.point.as_str(), mount.readonly)).collect();
        let expected = [("/", false), ("/runner", true), ("/var/lib/docker", false), ("/srv/a b", false)];
        assert_eq!(shown, expected);
        assert_eq!(mounts[3].device, "nas:/a b");
        assert!(mounts[0].is_local && !mounts[3].is_local);
        assert_eq!(&*mounts[3].path, Path::new("/srv/a b"));
    }

    /// As systemd shows it to a service with `ProtectSystem=strict`, a writable directory and no way to modules.
    #[test]
    fn a_service_that_is_shut_in_sees_the_machines_file_systems() {
        let text = "1 0 8:1 / / ro,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro\n\
            2 1 8:1 /var/lib/tongtu-agent /var/lib/tongtu-agent rw shared:2 - ext4 /dev/vda rw\n\
            3 1 8:1 /home /home ro - ext4 /dev/vda rw\n\
            4 1 0:20 / /run rw,nosuid shared:3 - tmpfs tmpfs rw,size=1k\n\
            5 1 0:20 /systemd/inaccessible/dir /usr/lib/modules ro - tmpfs tmpfs rw,size=1k\n\
            6 1 8:16 / /data ro,relatime - xfs /dev/vdb ro,attr2\n\
            7 1 0:30 /@home /srv ro shared:4 master:1 - btrfs /dev/vdc rw,subvol=/@home\n\
            8 1 0:30 /@homework /work rw - btrfs /dev/vdc rw\n\
            broken line\n";
        let mounts = mounts(&unshut(text), Path::new("/"));
        let shown: Vec<_> = mounts.iter().map(|mount| (&*mount.point, &*mount.device, mount.readonly)).collect();
        let expected = [
            ("/", "/dev/vda", false),
            ("/data", "/dev/vdb", true),
            ("/srv", "/dev/vdc", false),
            ("/work", "/dev/vdc", false),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_lies_behind_a_server_is_not_asked_directly() {
        let text = "a / ext4 rw\nb /data fuse.glusterfs rw\nc /data/cache xfs rw\nd /database xfs rw\n\
            e /users autofs rw\nf /users/x ext4 rw\n";
        let mounts = mounts(text, Path::new("/"));
        let local: Vec<_> = mounts.iter().map(|mount| (&*mount.point, mount.is_local)).collect();
        let expected =
            [("/", true), ("/data", false), ("/data/cache", false), ("/database", true), ("/users/x", false)];
        assert_eq!(local, expected);
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(r"a\040b\011c\134d"), "a b\tc\\d");
        assert_eq!(unescape(r"\9\04"), r"\9\04");
        assert_eq!(unescape(r"\344\270\255"), "中");
    }
}
