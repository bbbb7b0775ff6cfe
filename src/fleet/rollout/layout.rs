//! What an installation is made of on a machine: paths, unit, service script, and the commands of each step. Pure.
//!
//! ```text
//! /opt/tongtu-agent/0.1.0-1a2b3c4d/bin/tongtu-agent    a version (SELinux takes what lies in a bin for programs)
//! /opt/tongtu-agent/0.1.0-1a2b3c4d/good                 it has run: control had a record of it
//! /opt/tongtu-agent/current, previous                  links to versions
//! /var/lib/tongtu-agent                                identity and spool, of the user tongtu-agent alone
//! /etc/systemd/system/tongtu-agent.service             or, without systemd, /etc/init.d/tongtu-agent
//! ```
//!
//! What must hold: each command may run again without harm; nothing but names that [`is_name`](super::facts::is_name)
//! takes and hexadecimal digits is put into one; a secret comes by the standard input, never as an argument.

use super::facts::Init;

/// Versions of the program.
pub(super) const PROGRAMS: &str = "/opt/tongtu-agent";
/// Identity and spool.
pub(super) const DATA: &str = "/var/lib/tongtu-agent";

/// Systemd's names for groups of system calls, `@system-service` among them, are there from this version on. An older
/// one would take the line for a list without any call, and end the agent at its first.
const SYSTEM_SERVICE_SINCE: u32 = 240;

/// What comes before every command: a known language, all of the system's programs, the first failure ends it.
const BEFORE: &str =
    "export LC_ALL=C PATH=\"$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\nset -e\numask 022\n";

/// How one becomes root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    /// One is.
    Root,
    /// `sudo` asks for nothing.
    Sudo,
    /// `sudo` wants a password, as the first line of the standard input.
    SudoPassword,
}

impl Rights {
    /// The line that a login shell is given to run a script as root.
    pub(super) fn line(self, script: &str) -> String {
        let script = quoted(&format!("{BEFORE}{script}"));
        match self {
            Self::Root => format!("sh -c {script}"),
            Self::Sudo => format!("sudo -n sh -c {script}"),
            // Asked every time: a line that nobody reads would be taken for the script's own input.
            Self::SudoPassword => format!("sudo -k -S -p '' sh -c {script}"),
        }
    }
}

/// One word of a shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Who one is and whether sudo is there, for what it is used for. Run as who logs in.
pub(super) const RIGHTS: &str = "sh -c 'export LC_ALL=C PATH=\"$PATH:/usr/bin:/bin:/usr/local/bin\"; id -u; \
     if ! command -v sudo >/dev/null 2>&1; then echo absent; elif sudo -k -n sh -c : 2>/dev/null; then echo free; else echo asks; fi'";

/// The unit, for a systemd of this version. What an older one does not know it leaves out.
pub(super) fn unit(systemd: u32) -> String {
    let is_known = |line: &&str| systemd >= SYSTEM_SERVICE_SINCE || !line.starts_with("SystemCall");
    include_str!("tongtu-agent.service").lines().filter(is_known).fold(String::new(), |unit, line| unit + line + "\n")
}

/// The service where there is no systemd.
pub(super) const INIT_SCRIPT: &str = include_str!("tongtu-agent.init");

/// What of a version is there: `whole=SHA256`, `part=BYTES SHA256`.
pub(super) fn look(version: &str) -> String {
    format!(
        r#"d={PROGRAMS}/{version}
mkdir -p "$d/bin"
[ ! -f "$d/bin/tongtu-agent" ] || echo "whole=$(sha256sum <"$d/bin/tongtu-agent" | cut -c 1-64)"
[ ! -f "$d/part" ] || echo "part=$(wc -c <"$d/part" | tr -d ' ') $(sha256sum <"$d/part" | cut -c 1-64)"
"#
    )
}

/// Takes what comes by the standard input as the rest of the part, or as its beginning.
pub(super) fn take(version: &str, from_the_beginning: bool) -> String {
    let into = if from_the_beginning { ">" } else { ">>" };
    format!("exec cat {into}{PROGRAMS}/{version}/part\n")
}

/// Says `found=SHA256` of the part, and makes it the program if that is right.
pub(super) fn finish(version: &str, sha256: &str) -> String {
    format!(
        r#"d={PROGRAMS}/{version}
found=$(sha256sum <"$d/part" | cut -c 1-64)
echo "found=$found"
if [ "$found" = {sha256} ]; then
    chmod 755 "$d/part"
    sync "$d/part" 2>/dev/null || sync
    mv -f "$d/part" "$d/bin/tongtu-agent"
    ! command -v restorecon >/dev/null 2>&1 || restorecon -R {PROGRAMS} 2>/dev/null || true
else
    rm -f "$d/part"
fi
"#
    )
}

/// Runs the program for its version.
pub(super) fn try_out(version: &str) -> String {
    format!("{PROGRAMS}/{version}/bin/tongtu-agent --version\n")
}

/// Makes a version the current one, the current one the previous if it is good, and removes the others.
pub(super) fn activate(version: &str) -> String {
    format!(
        r#"cd {PROGRAMS}
[ -x "{version}/bin/tongtu-agent" ] || {{ echo "{version} is not there" >&2; exit 1; }}
old=$(readlink current || true)
if [ "$old" != "{version}" ]; then
    if [ -n "$old" ] && [ -e "$old/good" ]; then
        ln -sfn "$old" previous.new
        mv -T previous.new previous
    fi
    ln -sfn "{version}" current.new
    mv -T current.new current
fi
keep=$(readlink previous || true)
if [ "$keep" = "{version}" ]; then
    rm -f previous
fi
for d in */; do
    d=${{d%/}}
    case "$d" in
        "{version}" | "$keep" | current | previous) ;;
        *) rm -rf "./$d" ;;
    esac
done
"#
    )
}

/// Says of a version that it has run here.
pub(super) fn good(version: &str) -> String {
    format!(": >{PROGRAMS}/{version}/good\n")
}

/// Enrols with the token of the standard input.
pub(super) fn enrol(version: &str, replace: bool) -> String {
    let replace = if replace { " --replace" } else { "" };
    format!(
        "{USER}mkdir -p {DATA}\nchmod 700 {DATA}\n\
         {PROGRAMS}/{version}/bin/tongtu-agent enroll --token - --data {DATA}{replace}\n\
         chown -R tongtu-agent: {DATA}\n"
    )
}

/// Makes the user.
const USER: &str = "id -u tongtu-agent >/dev/null 2>&1 || useradd --system --user-group --home-dir /var/lib/tongtu-agent \
     --no-create-home --shell /sbin/nologin tongtu-agent\n";

/// Sets up the service, whose text comes by the standard input.
pub(super) fn service(init: Init) -> String {
    let rest = match init {
        Init::Systemd(_) => {
            r"d=/etc/systemd/system
cat >$d/tongtu-agent.service.new
chmod 644 $d/tongtu-agent.service.new
mv -f $d/tongtu-agent.service.new $d/tongtu-agent.service
systemctl daemon-reload
systemctl enable tongtu-agent.service >/dev/null 2>&1
"
        }
        Init::Plain => {
            r"mkdir -p /etc/init.d
cat >/etc/init.d/tongtu-agent.new
chmod 755 /etc/init.d/tongtu-agent.new
mv -f /etc/init.d/tongtu-agent.new /etc/init.d/tongtu-agent
if command -v update-rc.d >/dev/null 2>&1; then
    update-rc.d tongtu-agent defaults >/dev/null 2>&1 || true
elif command -v chkconfig >/dev/null 2>&1; then
    chkconfig --add tongtu-agent >/dev/null 2>&1 || true
fi
"
        }
    };
    // An enrolment by hand, or one that was cut, left files of root there.
    format!("{USER}mkdir -p {DATA}\nchown -R tongtu-agent: {DATA}\n{rest}")
}

/// The text of the service.
pub(super) fn service_text(init: Init) -> String {
    match init {
        Init::Systemd(version) => unit(version),
        Init::Plain => INIT_SCRIPT.to_owned(),
    }
}

/// Starts it, anew if it runs, and looks after a moment whether it still does.
pub(super) fn start(init: Init) -> &'static str {
    match init {
        Init::Systemd(_) => {
            "systemctl restart tongtu-agent.service\nsleep 2\nsystemctl is-active --quiet tongtu-agent.service \
             || { journalctl -u tongtu-agent.service -n 3 --no-pager -o cat >&2; exit 1; }\n"
        }
        Init::Plain => {
            "/etc/init.d/tongtu-agent restart\nsleep 2\n/etc/init.d/tongtu-agent status \
             || { tail -n 3 /var/lib/tongtu-agent/agent.log >&2; exit 1; }\n"
        }
    }
}

/// The last lines of its log.
pub(super) fn log(init: Init) -> &'static str {
    match init {
        Init::Systemd(_) => "journalctl -u tongtu-agent.service -n 3 --no-pager -o cat\n",
        Init::Plain => "tail -n 3 /var/lib/tongtu-agent/agent.log\n",
    }
}

/// Stops it and removes its service, of whichever kind.
pub(super) const STOP: &str = r"if [ -e /etc/systemd/system/tongtu-agent.service ]; then
    [ ! -d /run/systemd/system ] || systemctl stop tongtu-agent.service
    systemctl disable tongtu-agent.service >/dev/null 2>&1 || true
    rm -f /etc/systemd/system/tongtu-agent.service
    systemctl daemon-reload >/dev/null 2>&1 || true
fi
if [ -e /etc/init.d/tongtu-agent ]; then
    /etc/init.d/tongtu-agent stop
    ! command -v chkconfig >/dev/null 2>&1 || chkconfig --del tongtu-agent >/dev/null 2>&1 || true
    rm -f /etc/init.d/tongtu-agent
    ! command -v update-rc.d >/dev/null 2>&1 || update-rc.d tongtu-agent remove >/dev/null 2>&1 || true
fi
if pgrep -u tongtu-agent -x tongtu-agent >/dev/null 2>&1; then
    echo 'the agent still runs' >&2
    exit 1
fi
";

/// Removes program, data and user.
pub(super) const REMOVE: &str = "rm -rf /opt/tongtu-agent /var/lib/tongtu-agent\n\
     ! id -u tongtu-agent >/dev/null 2>&1 || userdel tongtu-agent >/dev/null 2>&1 || true\n";

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn shell(script: &str) -> std::process::Output {
        Command::new("sh").arg("-c").arg(script).output().expect("a shell")
    }

    #[test]
    fn a_script_arrives_whole_whatever_stands_in_it() {
        let printed = shell(&Rights::Root.line("printf '%s' \"it's $((1+1)) \\\"x\\\"\""));
        assert_eq!(String::from_utf8_lossy(&printed.stdout), "it's 2 \"x\"");
        assert!(!shell(&Rights::Root.line("false\ntrue")).status.success(), "the first failure ends it");
        assert!(Rights::SudoPassword.line("x").starts_with("sudo -k -S "), "a password is read each time");
    }

    /// Every script that a machine is given is one that `sh` understands.
    #[test]
    fn every_script_is_one() {
        let scripts = [
            super::super::facts::SCRIPT.to_owned(),
            INIT_SCRIPT.to_owned(),
            look("1-a"),
            take("1-a", true),
            finish("1-a", "ab"),
            try_out("1-a"),
            activate("1-a"),
            good("1-a"),
            enrol("1-a", true),
            service(Init::Plain),
            service(Init::Systemd(252)),
            start(Init::Plain).to_owned(),
            start(Init::Systemd(252)).to_owned(),
            log(Init::Plain).to_owned(),
            STOP.to_owned(),
            REMOVE.to_owned(),
        ];
        for script in scripts {
            let checked = Command::new("sh").args(["-n", "-c", &script]).output().expect("a shell");
            assert!(checked.status.success(), "{}\n{script}", String::from_utf8_lossy(&checked.stderr));
        }
    }

    #[test]
    fn what_a_machine_prints_of_itself_is_read() {
        let printed = shell(&Rights::Root.line(super::super::facts::SCRIPT));
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        let facts = super::super::facts::Facts::read(&String::from_utf8_lossy(&printed.stdout));
        assert_eq!(facts.system, "Linux");
        assert_eq!(facts.architecture, std::env::consts::ARCH);
        assert!(facts.glibc.is_some_and(|glibc| glibc >= (2, 17)), "{facts:?}");
        assert!(facts.programs_kib > 0 && facts.data_kib > 0 && facts.unix_s > 1_700_000_000, "{facts:?}");
    }

    #[test]
    fn a_version_takes_the_place_of_another_and_goes_back() {
        let root = tempfile::tempdir().expect("a directory");
        let at = root.path().display().to_string();
        for version in ["1-a", "2-b", "3-c"] {
            let bin = root.path().join(version).join("bin");
            std::fs::create_dir_all(&bin).expect("room");
            std::fs::copy("/bin/true", bin.join("tongtu-agent")).expect("a program");
            std::fs::write(root.path().join(version).join("good"), "").expect("room");
        }
        let script = |version: &str| format!("set -e\n{}", activate(version).replace(PROGRAMS, &at));
        let link = |name: &str| {
            std::fs::read_link(root.path().join(name)).map(|to| to.display().to_string()).unwrap_or_default()
        };
        let missing = shell(&script("9-x"));
        assert!(!missing.status.success(), "a version that is not there is not made the current one");
        // A version that was never current goes when another one is made so.
        for (version, current, previous) in [
            ("1-a", "1-a", ""),
            ("1-a", "1-a", ""),
            ("2-b", "2-b", "1-a"),
            ("2-b", "2-b", "1-a"),
            ("1-a", "1-a", "2-b"),
        ] {
            if !root.path().join(version).exists() {
                std::fs::create_dir_all(root.path().join(version).join("bin")).expect("room");
                std::fs::copy("/bin/true", root.path().join(version).join("bin/tongtu-agent")).expect("a program");
                std::fs::write(root.path().join(version).join("good"), "").expect("room");
            }
            let done = shell(&script(version));
            assert!(done.status.success(), "{version}: {}", String::from_utf8_lossy(&done.stderr));
            assert_eq!((link("current").as_str(), link("previous").as_str()), (current, previous));
        }
        assert!(!root.path().join("3-c").exists(), "what is neither current nor previous takes no room");
        // One that never ran takes no place, neither as a way back nor on the disk.
        for (version, current, previous) in [("4-d", "4-d", "1-a"), ("5-e", "5-e", "1-a"), ("1-a", "1-a", "")] {
            let bin = root.path().join(version).join("bin");
            std::fs::create_dir_all(&bin).expect("room");
            std::fs::copy("/bin/true", bin.join("tongtu-agent")).expect("a program");
            assert!(shell(&script(version)).status.success());
            assert_eq!((link("current").as_str(), link("previous").as_str()), (current, previous));
        }
        assert!(!root.path().join("4-d").exists() && !root.path().join("5-e").exists());
    }

    #[test]
    fn an_upload_goes_on_where_it_was_cut() {
        let root = tempfile::tempdir().expect("a directory");
        let at = root.path().display().to_string();
        let run = |script: String, input: &[u8]| {
            use std::io::Write as _;
            let mut child = Command::new("sh")
                .args(["-c", &format!("set -e\n{}", script.replace(PROGRAMS, &at))])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("a shell");
            child.stdin.take().expect("piped").write_all(input).expect("taken");
            String::from_utf8(child.wait_with_output().expect("its end").stdout).expect("text")
        };
        let digest = |bytes: &[u8]| super::super::packages::hex(&crate::fleet::authority::sha256(bytes));
        let whole = b"#!/bin/sh\necho tongtu-agent 9.9\n";
        assert_eq!(run(look("9-f"), b""), "");
        run(take("9-f", true), &whole[..7]);
        assert_eq!(run(look("9-f"), b"").trim(), format!("part=7 {}", digest(&whole[..7])));
        run(take("9-f", false), &whole[7..]);
        let wrong = run(finish("9-f", &"0".repeat(64)), b"");
        assert_eq!(wrong.trim(), format!("found={}", digest(whole)));
        assert_eq!(run(look("9-f"), b""), "", "what is wrong is not kept");
        run(take("9-f", true), whole);
        run(finish("9-f", &digest(whole)), b"");
        assert_eq!(run(look("9-f"), b"").trim(), format!("whole={}", digest(whole)));
        assert_eq!(run(try_out("9-f"), b"").trim(), "tongtu-agent 9.9");
    }

    /// systemd's own judgement, where its tool is.
    #[test]
    fn systemd_takes_the_unit_and_finds_it_well_closed() {
        if !Command::new("systemd-analyze").arg("--version").output().is_ok_and(|out| out.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "systemd-analyze is missing (scripts/install.sh test)");
            eprintln!("SKIPPED: systemd-analyze is missing (scripts/install.sh test)");
            return;
        }
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("tongtu-agent.service");
        // The program and the user are not on this machine.
        let text = unit(252).replace("/opt/tongtu-agent/current/bin/tongtu-agent", "/bin/true");
        std::fs::write(&file, text).expect("room");
        let verified = Command::new("systemd-analyze").arg("verify").arg(&file).output().expect("it runs");
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && said.trim().is_empty(), "{said}");
        let judged = Command::new("systemd-analyze")
            .args(["security", "--offline=yes", "--no-pager", "--threshold=25"])
            .arg(&file)
            .output()
            .expect("it runs");
        assert!(judged.status.success(), "exposed more than 2.5: {}", String::from_utf8_lossy(&judged.stdout));
        // The threshold would notice: without its walls it is exposed.
        std::fs::write(&file, "[Service]\nExecStart=/bin/true\n").expect("room");
        let open = Command::new("systemd-analyze")
            .args(["security", "--offline=yes", "--no-pager", "--threshold=25"])
            .arg(&file)
            .output()
            .expect("it runs");
        assert!(!open.status.success());
    }

    #[test]
    fn an_old_systemd_is_not_given_groups_of_calls() {
        assert!(!unit(219).contains("SystemCallFilter") && unit(252).contains("SystemCallFilter=@system-service"));
        for line in ["ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet=\n", "User=tongtu-agent"] {
            assert!(unit(219).contains(line) && unit(252).contains(line), "{line}");
        }
        assert!(!unit(252).contains("PrivateTmp="));
    }
}
