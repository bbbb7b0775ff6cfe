//! What an installation is made of on a machine: paths, unit, service script, and the commands of each step. Pure.
//!
//! ```text
//! /opt/PROGRAM/0.1.0-1a2b3c4d/bin/PROGRAM    a version (SELinux takes what lies in a bin for programs)
//! /opt/PROGRAM/0.1.0-1a2b3c4d/good           it has run: control had a record of it
//! /opt/PROGRAM/current, previous             links to versions
//! /var/lib/PROGRAM                           identity and spool, of the user PROGRAM alone
//! /etc/systemd/system/PROGRAM.service        or, without systemd, /etc/init.d/PROGRAM
//! ```
//!
//! What must hold: each command may run again without harm; nothing but names that [`is_name`](super::facts::is_name)
//! takes and hexadecimal digits is put into one; a secret comes by the standard input, never as an argument.

use super::facts::Init;
use super::program::Program;

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
pub(super) fn unit(program: Program, systemd: u32) -> String {
    let is_known = |line: &&str| systemd >= SYSTEM_SERVICE_SINCE || !line.starts_with("SystemCall");
    let unit = include_str!("agent.service").lines().filter(is_known);
    program.in_text(&unit.fold(String::new(), |unit, line| unit + line + "\n"))
}

/// The service where there is no systemd.
const INIT_SCRIPT: &str = include_str!("agent.init");

/// What of a version is there: `whole=SHA256`, `part=BYTES SHA256`.
pub(super) fn look(program: Program, version: &str) -> String {
    program.in_text(&format!(
        r#"d=/opt/@program@/{version}
mkdir -p "$d/bin"
[ ! -f "$d/bin/@program@" ] || echo "whole=$(sha256sum <"$d/bin/@program@" | cut -c 1-64)"
[ ! -f "$d/part" ] || echo "part=$(wc -c <"$d/part" | tr -d ' ') $(sha256sum <"$d/part" | cut -c 1-64)"
"#
    ))
}

/// Takes what comes by the standard input as the rest of the part, or as its beginning.
pub(super) fn take(program: Program, version: &str, from_the_beginning: bool) -> String {
    let into = if from_the_beginning { ">" } else { ">>" };
    program.in_text(&format!("exec cat {into}/opt/@program@/{version}/part\n"))
}

/// Takes a part away that found no room, so that it does not fill what others need as well.
pub(super) fn give_up(program: Program, version: &str) -> String {
    program.in_text(&format!(
        "cd /opt/@program@\nrm -f \"{version}/part\"\nrmdir \"{version}/bin\" \"{version}\" 2>/dev/null || true\n"
    ))
}

/// Says `found=SHA256` of the part, and makes it the program if that is right.
pub(super) fn finish(program: Program, version: &str, sha256: &str) -> String {
    program.in_text(&format!(
        r#"d=/opt/@program@/{version}
found=$(sha256sum <"$d/part" | cut -c 1-64)
echo "found=$found"
if [ "$found" = {sha256} ]; then
    chmod 755 "$d/part"
    sync "$d/part" 2>/dev/null || sync
    mv -f "$d/part" "$d/bin/@program@"
    ! command -v restorecon >/dev/null 2>&1 || restorecon -R /opt/@program@ 2>/dev/null || true
else
    rm -f "$d/part"
fi
"#
    ))
}

/// Runs the program for its version.
pub(super) fn try_out(program: Program, version: &str) -> String {
    program.in_text(&format!("/opt/@program@/{version}/bin/@program@ --version\n"))
}

/// Makes a version the current one, the current one the previous if it is good, and removes the others.
///
/// | current | previous | made current | current | previous | goes |
/// |---|---|---|---|---|---|
/// | – | – | A | A | – | |
/// | A | – | A | A | – | |
/// | A, good | – | B | B | A | |
/// | B, good | A | A (back) | A | B | |
/// | B, good | A | C | C | B | A |
/// | B, never ran | A | C | C | A | B |
/// | B, never ran | A | A (back) | A | – | B |
/// | any | any | what is not there | as it was | as it was | |
pub(super) fn activate(program: Program, version: &str) -> String {
    program.in_text(&format!(
        r#"cd /opt/@program@
[ -x "{version}/bin/@program@" ] || {{ echo "{version} is not there" >&2; exit 1; }}
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
    ))
}

/// Says of a version that it has run here.
pub(super) fn good(program: Program, version: &str) -> String {
    program.in_text(&format!(": >/opt/@program@/{version}/good\n"))
}

/// Enrols with the token of the standard input.
pub(super) fn enrol(program: Program, version: &str, replace: bool) -> String {
    let replace = if replace { " --replace" } else { "" };
    program.in_text(&format!(
        "{USER}mkdir -p /var/lib/@program@\nchmod 700 /var/lib/@program@\n\
         /opt/@program@/{version}/bin/@program@ enroll --token - --data /var/lib/@program@{replace}\n\
         chown -R @program@: /var/lib/@program@\n"
    ))
}

/// Makes the user.
const USER: &str = "id -u @program@ >/dev/null 2>&1 || useradd --system --user-group --home-dir /var/lib/@program@ \
     --no-create-home --shell /sbin/nologin @program@\n";

/// Sets up the service, whose text comes by the standard input. Says `boot=` why it will not start with the machine,
/// if so.
pub(super) fn service(program: Program, init: Init) -> String {
    let rest = match init {
        Init::Systemd(_) => {
            r"d=/etc/systemd/system
cat >$d/@program@.service.new
chmod 644 $d/@program@.service.new
mv -f $d/@program@.service.new $d/@program@.service
systemctl daemon-reload
systemctl enable --quiet @program@.service
"
        }
        Init::Plain => {
            r#"mkdir -p /etc/init.d
cat >/etc/init.d/@program@.new
chmod 755 /etc/init.d/@program@.new
mv -f /etc/init.d/@program@.new /etc/init.d/@program@
if command -v update-rc.d >/dev/null 2>&1; then
    said=$(update-rc.d @program@ defaults 2>&1) || echo "boot=update-rc.d: $said" | tr '
' ' '
elif command -v chkconfig >/dev/null 2>&1; then
    said=$(chkconfig --add @program@ 2>&1) || echo "boot=chkconfig: $said" | tr '
' ' '
else
    echo "boot=neither update-rc.d nor chkconfig is there"
fi
"#
        }
    };
    // An enrolment by hand, or one that was cut, left files of root there.
    program.in_text(&format!("{USER}mkdir -p /var/lib/@program@\nchown -R @program@: /var/lib/@program@\n{rest}"))
}

/// The text of the service.
pub(super) fn service_text(program: Program, init: Init) -> String {
    match init {
        Init::Systemd(version) => unit(program, version),
        Init::Plain => program.in_text(INIT_SCRIPT),
    }
}

/// Lets the service's user collect once, from what it is there for; once more where that fails, for the first question
/// may be what starts libvirtd.
pub(super) fn probe(program: Program) -> String {
    program.in_text(
        "check=/opt/@program@/current/bin/@program@\n\
         su -s /bin/sh @program@ -c \"cd / && { $check check >/dev/null 2>&1 || { sleep 10; $check check; }; }\"\n",
    )
}

/// Starts it, anew if it runs, and looks after a moment whether it still does.
pub(super) fn start(program: Program, init: Init) -> String {
    program.in_text(match init {
        Init::Systemd(_) => {
            "systemctl restart @program@.service\nsleep 2\nsystemctl is-active --quiet @program@.service \
             || { journalctl -u @program@.service -n 3 --no-pager -o cat >&2; exit 1; }\n"
        }
        Init::Plain => {
            "/etc/init.d/@program@ restart\nsleep 2\n/etc/init.d/@program@ status \
             || { tail -n 3 /var/lib/@program@/agent.log >&2; exit 1; }\n"
        }
    })
}

/// The last lines of its log.
pub(super) fn log(program: Program, init: Init) -> String {
    program.in_text(match init {
        Init::Systemd(_) => "journalctl -u @program@.service -n 3 --no-pager -o cat\n",
        Init::Plain => "tail -n 3 /var/lib/@program@/agent.log\n",
    })
}

/// Stops it and removes its service, of whichever kind.
pub(super) fn stop(program: Program) -> String {
    program.in_text(
        r"if [ -e /etc/systemd/system/@program@.service ]; then
    [ ! -d /run/systemd/system ] || systemctl stop @program@.service
    systemctl disable @program@.service >/dev/null 2>&1 || true
    rm -f /etc/systemd/system/@program@.service
    systemctl daemon-reload >/dev/null 2>&1 || true
fi
if [ -e /etc/init.d/@program@ ]; then
    /etc/init.d/@program@ stop
    ! command -v chkconfig >/dev/null 2>&1 || chkconfig --del @program@ >/dev/null 2>&1 || true
    rm -f /etc/init.d/@program@
    ! command -v update-rc.d >/dev/null 2>&1 || update-rc.d @program@ remove >/dev/null 2>&1 || true
fi
if pgrep -u @program@ >/dev/null 2>&1; then
    echo 'the agent still runs' >&2
    exit 1
fi
",
    )
}

/// Removes program, data and user.
pub(super) fn remove(program: Program) -> String {
    program.in_text(
        "rm -rf /opt/@program@ /var/lib/@program@\n\
         ! id -u @program@ >/dev/null 2>&1 || userdel @program@ >/dev/null 2>&1 || true\n",
    )
}

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
        for program in [Program::Host, Program::Libvirt] {
            let scripts = [
                super::super::facts::script(program),
                service_text(program, Init::Plain),
                look(program, "1-a"),
                take(program, "1-a", true),
                give_up(program, "1-a"),
                finish(program, "1-a", "ab"),
                try_out(program, "1-a"),
                activate(program, "1-a"),
                good(program, "1-a"),
                enrol(program, "1-a", true),
                service(program, Init::Plain),
                service(program, Init::Systemd(252)),
                probe(program),
                start(program, Init::Plain),
                start(program, Init::Systemd(252)),
                log(program, Init::Plain),
                stop(program),
                remove(program),
            ];
            for script in scripts {
                let checked = Command::new("sh").args(["-n", "-c", &script]).output().expect("a shell");
                assert!(checked.status.success(), "{}\n{script}", String::from_utf8_lossy(&checked.stderr));
                assert!(!script.contains('@'), "a name is missing:\n{script}");
            }
        }
    }

    /// Of the other program's names none stands in a script: neither touches what is the other's.
    #[test]
    fn a_program_touches_only_its_own() {
        let all = |program| {
            [service_text(program, Init::Plain), unit(program, 252), stop(program), remove(program)].concat()
                + &activate(program, "1-a")
                + &service(program, Init::Systemd(252))
        };
        let (host, libvirt) = (all(Program::Host), all(Program::Libvirt));
        assert!(!host.contains("libvirt"), "{host}");
        assert_eq!(libvirt.matches("tongtu-agent").count(), libvirt.matches("tongtu-agent-libvirt").count());
    }

    #[test]
    fn what_a_machine_prints_of_itself_is_read() {
        let printed = shell(&Rights::Root.line(&super::super::facts::script(Program::Libvirt)));
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
        let script = |version: &str| {
            format!("set -e\n{}", activate(Program::Host, version).replace(Program::Host.directory(), &at))
        };
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
                .args(["-c", &format!("set -e\n{}", script.replace(Program::Host.directory(), &at))])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("a shell");
            child.stdin.take().expect("piped").write_all(input).expect("taken");
            String::from_utf8(child.wait_with_output().expect("its end").stdout).expect("text")
        };
        let digest = |bytes: &[u8]| super::super::packages::hex(&crate::fleet::authority::sha256(bytes));
        let whole = b"#!/bin/sh\necho tongtu-agent 9.9\n";
        assert_eq!(run(look(Program::Host, "9-f"), b""), "");
        run(take(Program::Host, "9-f", true), &whole[..7]);
        assert_eq!(run(look(Program::Host, "9-f"), b"").trim(), format!("part=7 {}", digest(&whole[..7])));
        run(take(Program::Host, "9-f", false), &whole[7..]);
        let wrong = run(finish(Program::Host, "9-f", &"0".repeat(64)), b"");
        assert_eq!(wrong.trim(), format!("found={}", digest(whole)));
        assert_eq!(run(look(Program::Host, "9-f"), b""), "", "what is wrong is not kept");
        run(take(Program::Host, "9-f", true), whole);
        run(finish(Program::Host, "9-f", &digest(whole)), b"");
        assert_eq!(run(look(Program::Host, "9-f"), b"").trim(), format!("whole={}", digest(whole)));
        assert_eq!(run(try_out(Program::Host, "9-f"), b"").trim(), "tongtu-agent 9.9");
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
        let judge = |file: &std::path::Path| {
            let mut command = Command::new("systemd-analyze");
            command.args(["security", "--offline=yes", "--no-pager", "--threshold=25"]).arg(file);
            command.output().expect("it runs")
        };
        for program in [Program::Host, Program::Libvirt] {
            let name = program.file();
            let file = folder.path().join(format!("{name}.service"));
            // The program and the user are not on this machine.
            let text = unit(program, 252).replace(&format!("/opt/{name}/current/bin/{name}"), "/bin/true");
            std::fs::write(&file, text).expect("room");
            let verified = Command::new("systemd-analyze").arg("verify").arg(&file).output().expect("it runs");
            let said = String::from_utf8_lossy(&verified.stderr);
            assert!(verified.status.success() && said.trim().is_empty(), "{said}");
            let judged = judge(&file);
            assert!(judged.status.success(), "exposed more than 2.5: {}", String::from_utf8_lossy(&judged.stdout));
        }
        // The threshold would notice: without its walls it is exposed.
        let file = folder.path().join("open.service");
        std::fs::write(&file, "[Service]\nExecStart=/bin/true\n").expect("room");
        assert!(!judge(&file).status.success());
    }

    #[test]
    fn an_old_systemd_is_not_given_groups_of_calls() {
        for (program, user) in [(Program::Host, "tongtu-agent"), (Program::Libvirt, "tongtu-agent-libvirt")] {
            let [old, new] = [219, 252].map(|version| unit(program, version));
            assert!(!old.contains("SystemCallFilter") && new.contains("SystemCallFilter=@system-service"));
            // Libvirt's socket is one of the machine's own.
            let families = "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK\n";
            let walls = ["ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet=\n", families];
            for line in walls.into_iter().chain([format!("User={user}\n").as_str()]) {
                assert!(old.contains(line) && new.contains(line), "{line}");
            }
            assert!(!new.contains("PrivateTmp="));
        }
    }
}
