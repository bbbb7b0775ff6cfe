//! A throw-away PostgreSQL of its own, which a test may kill. (Suites that only need a database
//! use the one of `scripts/with-postgres.sh`.)

use crate::{ports, process, process::Process, wait};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The user that the server runs as where the test is root.
const USER: &str = "nobody";

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    directory: tempfile::TempDir,
    programs: PathBuf,
    address: SocketAddr,
    process: Process,
}

/// Where Debian keeps the server's programs: off the path, a folder a version.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).filter(|bin| bin.join("initdb").is_file()).max()
}

fn as_user(program: &Path) -> Command {
    let mut command;
    if crate::is_root() {
        command = Command::new("runuser");
        command.args(["-u", USER, "--"]).arg(program);
    } else {
        command = Command::new(program);
    }
    command.current_dir("/");
    command
}

impl Postgres {
    /// Starts one, if the machine has it.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start() -> Option<Self> {
        let programs = programs();
        if !crate::has("PostgreSQL", programs.is_some()) {
            return None;
        }
        let programs = programs?;
        let directory = tempfile::tempdir().expect("a folder");
        if crate::is_root() {
            let chown = Command::new("chown").arg(USER).arg(directory.path()).status();
            assert!(chown.is_ok_and(|status| status.success()), "chown to {USER}");
        }
        let mut initdb = as_user(&programs.join("initdb"));
        initdb.arg("-D").arg(directory.path().join("data")).args([
            "-U",
            "tongtu",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]);
        let made = process::run(initdb, Duration::from_secs(60));
        assert!(made.status.success(), "{}", made.stderr);
        let address = ports::free();
        let process = Self::server(&programs, &directory, address);
        let server = Self { directory, programs, address, process };
        server.wait_ready();
        Some(server)
    }

    fn server(programs: &Path, directory: &tempfile::TempDir, address: SocketAddr) -> Process {
        let mut command = as_user(&programs.join("postgres"));
        command.arg("-D").arg(directory.path().join("data"));
        for setting in [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", address.port()),
            "unix_socket_directories=".to_owned(),
        ] {
            command.arg("-c").arg(setting);
        }
        Process::start("postgres", command, directory.path())
    }

    #[track_caller]
    fn wait_ready(&self) {
        wait::until(Duration::from_secs(60), "PostgreSQL answers", || {
            let ready = process::run(
                {
                    let mut command = Command::new(self.programs.join("pg_isready"));
                    command.args(["-h", "127.0.0.1", "-p", &self.address.port().to_string()]);
                    command
                },
                Duration::from_secs(10),
            );
            ready.status.success().then_some(()).ok_or(ready.stdout)
        });
    }

    /// The address of its first database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://tongtu@{}/postgres", self.address)
    }

    /// Gives it a certificate for a name and starts it again with TLS; returns the certificate of the authority.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn speak_tls(&mut self, name: &str) -> String {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().expect("a key"))
            .expect("a certificate");
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        let data = self.directory.path().join("data");
        for (file, text) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
            let path = data.join(file);
            std::fs::write(&path, text).expect("room");
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
            if crate::is_root() {
                let chown = Command::new("chown").arg(USER).arg(&path).status();
                assert!(chown.is_ok_and(|status| status.success()), "chown to {USER}");
            }
        }
        let settings = data.join("postgresql.auto.conf");
        let mut text = std::fs::read_to_string(&settings).unwrap_or_default();
        text.push_str("ssl = on\n");
        std::fs::write(&settings, text).expect("room");
        self.kill();
        self.restart();
        authority.pem()
    }

    /// kill -9 of the server and of every process it has, by their ids.
    ///
    /// # Panics
    /// When its file does not name it.
    pub fn kill(&mut self) {
        // runuser stands between us and the server: the server's own file names it.
        let file = std::fs::read_to_string(self.directory.path().join("data/postmaster.pid")).unwrap_or_default();
        let main: u32 = file.lines().next().and_then(|line| line.parse().ok()).expect("the server's id");
        let mut ids = vec![main];
        let children = std::fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap_or_default();
        ids.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        for id in ids {
            if let Some(pid) = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        self.process.wait(Duration::from_secs(10));
    }

    /// Starts it again on the same data, at the same address.
    #[track_caller]
    pub fn restart(&mut self) {
        // What the killed processes held is freed by the system shortly after.
        wait::until(Duration::from_secs(60), "PostgreSQL starts again", || {
            self.process = Self::server(&self.programs, &self.directory, self.address);
            let watch = wait::Stopwatch::start();
            loop {
                if let Some(status) = self.process.ended() {
                    return Err(format!("{status}: {}", self.process.log()));
                }
                if std::net::TcpStream::connect(self.address).is_ok() {
                    return Ok(());
                }
                if watch.elapsed() > Duration::from_secs(20) {
                    return Err("it does not listen".to_owned());
                }
                wait::pause(Duration::from_millis(20));
            }
        });
        self.wait_ready();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.process.ended().is_none() && self.directory.path().join("data/postmaster.pid").exists() {
            self.kill();
        }
    }
}
