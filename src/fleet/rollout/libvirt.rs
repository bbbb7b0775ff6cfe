//! What the agent of a hypervisor needs of its machine: the distribution's libvirt, and its read-only socket. Pure.

use super::fault::{Fault, said};

/// A version of libvirt.
pub(super) type Version = (u32, u32, u32);

/// What a machine has of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Libvirt {
    /// Whether its library is there.
    pub(super) is_there: bool,
    /// The library's version, if its file's name tells it.
    pub(super) version: Option<Version>,
    /// The socket that clients which may only look connect to.
    pub(super) socket: Option<Socket>,
}

/// A socket, and whom its file lets connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Socket {
    path: String,
    mode: u32,
    group: String,
}

/// Prints `libvirt=` the library's file, and `socket=` mode, group and path. The socket of a daemon for QEMU alone
/// comes first, as clients of libvirt look for it first.
pub(super) const SCRIPT: &str = r#"
case "$(uname -m)" in x86_64 | amd64) of=x86-64 ;; *) of=AArch64 ;; esac
library=$(ldconfig -p 2>/dev/null | sed -n "s/^[[:space:]]*libvirt\.so\.0 (libc6,$of[^)]*) => //p" | head -n 1)
for d in /usr/lib64 /lib64 "/usr/lib/$(uname -m)-linux-gnu" "/lib/$(uname -m)-linux-gnu"; do
    if [ -z "$library" ] && [ -e "$d/libvirt.so.0" ]; then library=$d/libvirt.so.0; fi
done
[ -z "$library" ] || echo "libvirt=$(readlink -f "$library")"
for s in /run/libvirt/virtqemud-sock-ro /run/libvirt/libvirt-sock-ro /var/run/libvirt/libvirt-sock-ro; do
    if [ -S "$s" ]; then
        echo "socket=$(stat -L -c '%a %G' "$s") $s"
        break
    fi
done
"#;

impl Libvirt {
    /// Reads what [`SCRIPT`] printed.
    pub(super) fn read(printed: &str) -> Self {
        let value = |key: &str| printed.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let library = value("libvirt=").filter(|path| !path.is_empty());
        Self {
            is_there: library.is_some(),
            version: library.and_then(version_of),
            socket: value("socket=").and_then(socket),
        }
    }

    /// Whether an agent that needs a version can look at it.
    pub(super) fn judge(&self, needed: Option<Version>) -> Result<(), Fault> {
        if !self.is_there {
            return Err(Fault::NoLibvirt);
        }
        if let (Some(needed), Some(found)) = (needed, self.version)
            && found < needed
        {
            return Err(Fault::LibvirtTooOld { needed: shown(needed), found: shown(found) });
        }
        match &self.socket {
            None => Err(Fault::NoLibvirtSocket),
            // One for a group as well: libvirt gives that group its other socket too, over which it is managed.
            Some(Socket { path, mode, .. }) if mode & 0o002 == 0 => {
                Err(Fault::LibvirtSocketClosed { path: path.clone(), mode: format!("{mode:o}") })
            }
            Some(_) => Ok(()),
        }
    }

    /// In a line.
    pub(super) fn shown(&self) -> String {
        let version = self.version.map_or_else(|| "-".to_owned(), shown);
        match &self.socket {
            Some(Socket { path, mode, group }) => format!("libvirt {version}, {path} {mode:o} {group}"),
            None => format!("libvirt {version}"),
        }
    }
}

fn shown((major, minor, micro): Version) -> String {
    format!("{major}.{minor}.{micro}")
}

/// `libvirt.so.0.4005.0` is 4.5.0.
fn version_of(path: &str) -> Option<Version> {
    let (_, version) = path.rsplit_once("/libvirt.so.0.")?;
    let (number, micro) = version.split_once('.')?;
    let number: u32 = number.parse().ok()?;
    Some((number / 1000, number % 1000, micro.parse().ok()?))
}

fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace();
    let (mode, group, path) = (words.next()?, words.next()?, words.next()?);
    Some(Socket { path: said(path), mode: u32::from_str_radix(mode, 8).ok()?, group: said(group) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const THERE: &str = "libvirt=/usr/lib64/libvirt.so.0.4005.0\nsocket=777 root /run/libvirt/libvirt-sock-ro\n";

    #[test]
    fn what_stands_in_the_way_of_a_hypervisors_agent_is_said() {
        let judge = |printed: &str, needed| Libvirt::read(printed).judge(needed).map_err(|fault| fault.code());
        let closed = THERE.replace("777 root", "700 root");
        let of_a_group = THERE.replace("777 root", "770 libvirt");
        for (printed, needed, expected) in [
            (THERE, Some((1, 2, 14)), Ok(())),
            (THERE, Some((4, 5, 0)), Ok(())),
            (THERE, None, Ok(())),
            (THERE, Some((4, 5, 1)), Err("libvirt_too_old")),
            (THERE, Some((10, 0, 0)), Err("libvirt_too_old")),
            ("socket=777 root /run/libvirt/libvirt-sock-ro\n", None, Err("no_libvirt")),
            ("libvirt=/usr/lib64/libvirt.so.0\nsocket=777 root /s\n", Some((4, 5, 0)), Ok(())),
            ("libvirt=/usr/lib64/libvirt.so.0.4005.0\n", None, Err("no_libvirt_socket")),
            (&closed, None, Err("libvirt_socket_closed")),
            (&of_a_group, None, Err("libvirt_socket_closed")),
        ] {
            assert_eq!(judge(printed, needed), expected, "{printed}");
        }
        let old = Libvirt::read(THERE).judge(Some((9, 0, 0))).expect_err("too old").to_string();
        assert!(old.contains("9.0.0") && old.contains("4.5.0"), "{old}");
        let missing = Libvirt::default().judge(None).expect_err("none").to_string();
        assert!(missing.contains("libvirt0") && missing.contains("libvirt-libs"), "{missing}");
        let group = Libvirt::read(&of_a_group).judge(None).expect_err("closed");
        for text in [group.to_string(), group.chinese()] {
            for word in ["/run/libvirt/libvirt-sock-ro", "770", "unix_sock_ro_perms = \"0777\"", "SocketMode=0666"] {
                assert!(text.contains(word), "{word} is not in {text}");
            }
        }
    }

    /// Where a libvirt is installed, as where this is developed, its own names are read.
    #[test]
    fn versions_as_files_name_them() {
        for (path, expected) in [
            ("/usr/lib/x86_64-linux-gnu/libvirt.so.0.9000.0", Some((9, 0, 0))),
            ("/usr/lib64/libvirt.so.0.1002.17", Some((1, 2, 17))),
            ("/usr/lib64/libvirt.so.0.10000.3", Some((10, 0, 3))),
            ("/usr/lib64/libvirt.so.0", None),
        ] {
            assert_eq!(version_of(path), expected, "{path}");
        }
        let output = std::process::Command::new("sh").args(["-ec", SCRIPT]).output().expect("a shell");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let here = Libvirt::read(&String::from_utf8_lossy(&output.stdout));
        if std::path::Path::new("/usr/lib/x86_64-linux-gnu/libvirt.so.0").exists() {
            assert!(here.is_there && here.version.is_some_and(|version| version > (1, 2, 14)), "{here:?}");
        }
    }
}
