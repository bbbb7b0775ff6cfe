//! What a machine says of itself, and whether an agent can be put there. Pure.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::fault::{Fault, said};
use super::libvirt::{self, Libvirt};
use super::packages::Package;
use super::plan::Action;
use super::program::Program;
use crate::fleet::authority::sha256;

/// The oldest C library that agents are built for: CentOS 7, Kylin V10.
pub(super) const GLIBC: (u32, u32) = (2, 17);
/// What an agent's data takes at least, in KiB; its spool may grow to 512 MiB, and says so when it cannot.
const DATA_KIB: u64 = 64 << 10;
/// Beside the program, in KiB.
const SLACK_KIB: u64 = 1 << 10;
/// A clock that is off by more is set first; one that is off by less only makes times uncertain.
const CLOCK_S: i64 = 86_400;
/// Worth a word.
const CLOCK_NOTED_S: i64 = 5;

/// What starts services there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Init {
    /// systemd of this version.
    Systemd(u32),
    /// Something else: a script in `/etc/init.d`.
    Plain,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) system: String,
    pub(super) architecture: String,
    pub(super) os: String,
    pub(super) hostname: String,
    /// None: another C library.
    pub(super) glibc: Option<(u32, u32)>,
    pub(super) unix_s: i64,
    pub(super) init: Init,
    /// KiB that programs and data find.
    pub(super) programs_kib: u64,
    pub(super) data_kib: u64,
    pub(super) machine_id: Option<String>,
    /// Directories of versions.
    pub(super) current: Option<String>,
    pub(super) previous: Option<String>,
    /// Who the agent there is, as it says itself.
    pub(super) agent: Option<String>,
    /// SHA-256 of the certificate by which it knows its control.
    pub(super) authority: Option<[u8; 32]>,
    pub(super) missing: Vec<String>,
    /// Looked for where the agent of a hypervisor is to be.
    pub(super) libvirt: Libvirt,
}

/// Prints a line `key=value` for each of them. Changes nothing.
pub(super) fn script(program: Program) -> String {
    let script = program.in_text(SCRIPT);
    if program == Program::Libvirt { script + libvirt::SCRIPT } else { script }
}

const SCRIPT: &str = r#"
room() {
    p=$1
    while [ ! -d "$p" ]; do p=${p%/*}; [ -n "$p" ] || p=/; done
    df -Pk "$p" 2>/dev/null | sed -n 2p
}
echo "system=$(uname -s)"
echo "architecture=$(uname -m)"
echo "hostname=$(uname -n)"
os=$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release 2>/dev/null | head -n 1 | tr -d '"')
[ -n "$os" ] || os=$(head -n 1 /etc/redhat-release 2>/dev/null || true)
echo "os=$os"
echo "glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null || ldd --version 2>&1 | head -n 1)"
echo "unix_s=$(date +%s)"
if [ -d /run/systemd/system ]; then
    echo "init=systemd $(systemctl --version 2>/dev/null | head -n 1)"
else
    echo "init=plain"
fi
echo "programs=$(room /opt/@program@)"
echo "data=$(room /var/lib/@program@)"
echo "machine_id=$(cat /etc/machine-id 2>/dev/null)"
echo "current=$(readlink /opt/@program@/current 2>/dev/null)"
echo "previous=$(readlink /opt/@program@/previous 2>/dev/null)"
echo "identity=$(cat /var/lib/@program@/identity.json 2>/dev/null | tr -d '\n')"
echo "authority=$(cat /var/lib/@program@/ca.pem 2>/dev/null | tr '\n' '|')"
for program in sha256sum useradd chown mv ln su; do
    command -v "$program" >/dev/null 2>&1 || echo "missing=$program"
done
"#;

impl Facts {
    /// Reads what [`script`] printed.
    pub(super) fn read(printed: &str) -> Self {
        let value = |key: &str| {
            let line = printed.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(str::trim).filter(|value| !value.is_empty())
        };
        let text = |key: &str| value(key).map(said).unwrap_or_default();
        let version_of = |key: &str| value(key).filter(|name| is_name(name)).map(ToOwned::to_owned);
        let identity = value("identity").and_then(|json| serde_json::from_str::<serde_json::Value>(json).ok());
        Self {
            system: text("system"),
            architecture: text("architecture"),
            os: text("os"),
            hostname: text("hostname"),
            glibc: value("glibc").and_then(glibc),
            unix_s: value("unix_s").and_then(|seconds| seconds.parse().ok()).unwrap_or(0),
            init: match value("init").and_then(|init| init.strip_prefix("systemd")) {
                Some(version) => Init::Systemd(first_number(version).unwrap_or(0)),
                None => Init::Plain,
            },
            programs_kib: value("programs").and_then(available).unwrap_or(0),
            data_kib: value("data").and_then(available).unwrap_or(0),
            machine_id: value("machine_id").map(said),
            current: version_of("current"),
            previous: version_of("previous"),
            agent: identity.and_then(|identity| identity["agent_id"].as_str().map(ToOwned::to_owned)),
            authority: value("authority").and_then(authority),
            missing: printed.lines().filter_map(|line| line.strip_prefix("missing=")).map(said).collect(),
            libvirt: Libvirt::read(printed),
        }
    }

    /// As people name the architecture of packages.
    pub(super) fn package_architecture(&self) -> &str {
        match self.architecture.as_str() {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            other => other,
        }
    }

    /// How many seconds its clock is ahead of control's.
    pub(super) fn clock_s(&self, now_ms: i64) -> i64 {
        self.unix_s - now_ms.div_euclid(1_000)
    }

    /// Whether an action can be done.
    pub(super) fn judge(&self, action: Action, package: Option<&Package>, now_ms: i64) -> Result<(), Fault> {
        if self.system != "Linux" {
            return Err(Fault::NotLinux { said: said(&self.system) });
        }
        match action {
            Action::Upgrade if self.current.is_none() => return Err(Fault::NotInstalled),
            Action::Rollback if self.current.is_none() => return Err(Fault::NotInstalled),
            Action::Rollback if self.previous.is_none() => return Err(Fault::NoPrevious),
            Action::Rollback | Action::Uninstall => return Ok(()),
            Action::Install | Action::Upgrade => {}
        }
        if let Some(program) = self.missing.first() {
            return Err(Fault::Missing { program: program.clone() });
        }
        let seconds = self.clock_s(now_ms);
        if seconds.abs() > CLOCK_S {
            return Err(Fault::ClockOff { seconds });
        }
        let Some(package) = package else { return Err(Fault::Internal) };
        let needed = package.glibc.max(GLIBC);
        if self.glibc.is_none_or(|glibc| glibc < needed) {
            let found = self.glibc.map_or_else(|| "another C library".to_owned(), |(a, b)| format!("{a}.{b}"));
            return Err(Fault::GlibcTooOld { needed: format!("{}.{}", needed.0, needed.1), found });
        }
        if package.program == Program::Libvirt {
            self.libvirt.judge(package.libvirt)?;
        }
        // The version is there already: it takes no room again.
        let is_there = self.current.as_deref() == Some(package.directory().as_str());
        let rooms = [
            (
                package.program.directory(),
                if is_there { 0 } else { package.size.div_ceil(1024) + SLACK_KIB },
                self.programs_kib,
            ),
            (package.program.data(), if self.agent.is_some() { SLACK_KIB } else { DATA_KIB }, self.data_kib),
        ];
        match rooms.into_iter().find(|(_, needed_kib, free_kib)| free_kib < needed_kib) {
            Some((path, needed_kib, free_kib)) => Err(Fault::NoSpace { path, needed_kib, free_kib }),
            None => Ok(()),
        }
    }

    /// What of them is worth a line before a program comes there, in English and Chinese.
    pub(super) fn shown(&self, program: Program, now_ms: i64) -> Vec<[String; 2]> {
        let glibc = self.glibc.map_or_else(|| "-".to_owned(), |(a, b)| format!("{a}.{b}"));
        let Self { hostname, os, architecture, .. } = self;
        let init = match self.init {
            Init::Systemd(version) => format!("systemd {version}"),
            Init::Plain => "init.d".to_owned(),
        };
        let facts = format!("{hostname}: {os}, {architecture}, glibc {glibc}, {init}");
        let mut shown = vec![[facts.clone(), facts]];
        let [programs, data] = [self.programs_kib / 1024, self.data_kib / 1024];
        shown.push([
            format!("room: {programs} MiB for programs, {data} MiB for data"),
            format!("剩余空间：程序 {programs} MiB，数据 {data} MiB"),
        ]);
        if program == Program::Libvirt && self.libvirt.is_there {
            shown.push([self.libvirt.shown(), self.libvirt.shown()]);
        }
        let seconds = self.clock_s(now_ms);
        if seconds.abs() > CLOCK_NOTED_S {
            shown.push([
                format!("its clock differs by {seconds} s from control's; set up time synchronisation"),
                format!("其时钟与控制端相差 {seconds} 秒，请配置时间同步"),
            ]);
        }
        match &self.current {
            Some(current) => shown.push([format!("installed: {current}"), format!("已安装：{current}")]),
            None => shown.push(["nothing is installed yet".to_owned(), "尚未安装".to_owned()]),
        }
        shown
    }
}

/// Whether a text can be the name of a version's directory: nothing that a shell would take for more.
pub(super) fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    (1..=100).contains(&name.len()) && !name.starts_with(['.', '-']) && name.bytes().all(is_plain)
}

/// `glibc 2.17`, or the first line of `ldd --version`.
fn glibc(line: &str) -> Option<(u32, u32)> {
    if line.to_ascii_lowercase().contains("musl") {
        return None;
    }
    let version = line.split_whitespace().next_back()?;
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, first_number(minor)?))
}

/// The SHA-256 of a certificate in PEM, with `|` where its lines end.
fn authority(pem: &str) -> Option<[u8; 32]> {
    let certificate = CertificateDer::from_pem_slice(pem.replace('|', "\n").as_bytes()).ok()?;
    Some(sha256(&certificate))
}

fn first_number(text: &str) -> Option<u32> {
    let from = text.find(|c: char| c.is_ascii_digit())?;
    let digits: String = text[from..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The fourth column of a line of `df -Pk`.
fn available(line: &str) -> Option<u64> {
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CENTOS: &str = "system=Linux\narchitecture=x86_64\nhostname=web-1\nos=CentOS Linux 7 (Core)\nglibc=glibc 2.17\n\
        unix_s=1800000000\ninit=systemd systemd 219\nprograms=/dev/vda1 41152812 5000000 3500000 13% /\n\
        data=/dev/vdb1 41152812 5000000 700000 13% /var\nmachine_id=0123456789abcdef0123456789abcdef\ncurrent=\nprevious=\nidentity=\n";
    const NOW_MS: i64 = 1_800_000_000_500;

    fn package() -> Package {
        Package {
            program: Program::Host,
            version: "0.1.0".to_owned(),
            architecture: "x86_64".to_owned(),
            glibc: (2, 17),
            libvirt: None,
            sha256: "ab".repeat(32),
            size: 3 << 20,
            file: "x86_64/tongtu-agent".into(),
        }
    }

    fn with(change: impl FnOnce(&mut Facts)) -> Facts {
        let mut facts = Facts::read(CENTOS);
        change(&mut facts);
        facts
    }

    #[test]
    fn what_an_old_system_prints_is_read() {
        let facts = Facts::read(CENTOS);
        assert_eq!((facts.glibc, facts.init), (Some((2, 17)), Init::Systemd(219)));
        assert_eq!((facts.programs_kib, facts.data_kib), (3_500_000, 700_000));
        assert_eq!((facts.current.clone(), facts.agent.clone()), (None, None));
        assert_eq!(facts.judge(Action::Install, Some(&package()), NOW_MS), Ok(()));
        let lines = facts.shown(Program::Host, NOW_MS);
        assert!(lines[0][0].contains("web-1: CentOS Linux 7 (Core), x86_64, glibc 2.17, systemd 219"), "{lines:?}");
        assert_eq!(lines.len(), 3, "a clock that is right is no line: {lines:?}");
    }

    #[test]
    fn what_is_there_already_is_read() {
        let printed = CENTOS
            .replace("current=\n", "current=0.1.0-abababab\n")
            .replace("previous=\n", "previous=../../etc\n")
            .replace("identity=\n", "identity={\"agent_id\":\"agent_7\",\"address\":\"c:1\"}\nmissing=useradd\n");
        let facts = Facts::read(&printed);
        assert_eq!(facts.current.as_deref(), Some("0.1.0-abababab"));
        assert_eq!(facts.previous, None, "no path is taken from a machine");
        assert_eq!(facts.agent.as_deref(), Some("agent_7"));
        assert_eq!(facts.missing, ["useradd"]);
        assert_eq!(
            (authority("-----BEGIN CERTIFICATE-----|YQ==|-----END CERTIFICATE-----|"), authority("x")),
            (Some(sha256(b"a")), None)
        );
    }

    #[test]
    fn c_libraries_as_they_name_themselves() {
        for (line, expected) in [
            ("glibc 2.17", Some((2, 17))),
            ("ldd (GNU libc) 2.12", Some((2, 12))),
            ("ldd (Debian GLIBC 2.36-9+deb12u10) 2.36", Some((2, 36))),
            ("musl libc (x86_64)", None),
            ("ldd: not found", None),
            ("", None),
        ] {
            assert_eq!(glibc(line), expected, "{line}");
        }
    }

    #[test]
    fn what_stands_in_the_way_is_said() {
        use Action::{Install, Rollback, Uninstall, Upgrade};
        let judge = |facts: Facts, action| facts.judge(action, Some(&package()), NOW_MS).map_err(|fault| fault.code());
        for (facts, action, expected) in [
            (with(|f| f.system = "FreeBSD".into()), Install, Err("not_linux")),
            (with(|f| f.glibc = Some((2, 12))), Install, Err("glibc_too_old")),
            (with(|f| f.glibc = None), Install, Err("glibc_too_old")),
            (with(|f| f.glibc = Some((3, 0))), Install, Ok(())),
            (with(|f| f.programs_kib = 4_095), Install, Err("no_space")),
            (with(|f| f.programs_kib = 4_096), Install, Ok(())),
            (with(|f| f.data_kib = 65_535), Install, Err("no_space")),
            (with(|f| f.unix_s += 86_402), Install, Err("clock_off")),
            (with(|f| f.unix_s -= 86_402), Install, Err("clock_off")),
            (with(|f| f.unix_s += 3_600), Install, Ok(())),
            (with(|f| f.missing.push("sha256sum".into())), Install, Err("missing_program")),
            (with(|_| {}), Upgrade, Err("not_installed")),
            (with(|_| {}), Rollback, Err("not_installed")),
            (with(|f| f.current = Some("1".into())), Rollback, Err("no_previous")),
            (with(|_| {}), Uninstall, Ok(())),
        ] {
            assert_eq!(judge(facts.clone(), action), expected, "{action:?} of {facts:?}");
        }
        // The same version once more needs no room for the program.
        let again = with(|facts| (facts.current, facts.programs_kib) = (Some(package().directory()), 0));
        assert_eq!(judge(again, Install), Ok(()));
        // The agent of a hypervisor asks for what it needs besides, and the one of a host does not.
        let of_libvirt = Package { program: Program::Libvirt, libvirt: Some((1, 2, 14)), ..package() };
        assert_eq!(with(|_| {}).judge(Install, Some(&of_libvirt), NOW_MS), Err(Fault::NoLibvirt));
        let printed =
            format!("{CENTOS}libvirt=/usr/lib64/libvirt.so.0.4005.0\nsocket=777 root /run/libvirt/libvirt-sock-ro\n");
        let hosting = Facts::read(&printed);
        assert_eq!(hosting.judge(Install, Some(&of_libvirt), NOW_MS), Ok(()));
        let lines = hosting.shown(Program::Libvirt, NOW_MS);
        assert!(
            lines.iter().any(|[line, _]| line.contains("libvirt 4.5.0, /run/libvirt/libvirt-sock-ro 777")),
            "{lines:?}"
        );
        let newer = Package { glibc: (2, 34), ..package() };
        let old = Facts::read(CENTOS).judge(Install, Some(&newer), NOW_MS);
        assert_eq!(old, Err(Fault::GlibcTooOld { needed: "2.34".into(), found: "2.17".into() }));
    }

    #[test]
    fn a_clock_that_is_off_is_noted() {
        let slow = with(|facts| facts.unix_s -= 60);
        assert_eq!(slow.clock_s(NOW_MS), -60);
        assert!(slow.shown(Program::Host, NOW_MS).iter().any(|[english, _]| english.contains("-60 s")));
    }

    #[test]
    fn names_of_versions_say_nothing_to_a_shell() {
        for good in ["0.1.0-1a2b3c4d", "1", "2.0.0+x_y"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "$(x)", "-rf", "a;b", "a'b", "a\nb"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
