//! Control, as `tongtu serve` runs it: started, asked, killed and started again on the same data.

use crate::process::{self, Output, Process};
use crate::{http, ports, wait};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// A start reads the windows again; the bound that the benchmarks hold is far lower.
const START: Duration = Duration::from_secs(60);
/// Long enough for a busy machine.
const STOP: Duration = Duration::from_secs(30);

/// One control service and its data.
#[derive(Debug)]
pub struct Control {
    directory: PathBuf,
    /// Its data directory.
    pub data: PathBuf,
    /// Where agents connect; the same for its whole life.
    pub agents: SocketAddr,
    advertised: SocketAddr,
    http: SocketAddr,
    configuration: Option<PathBuf>,
    before: Vec<String>,
    process: Option<Process>,
}

impl Control {
    /// One that is not started yet, with its data in `directory/control`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let agents = ports::free();
        Self {
            directory: directory.to_owned(),
            data: directory.join("control"),
            agents,
            advertised: agents,
            http: ports::free(),
            configuration: None,
            before: Vec::new(),
            process: None,
        }
    }

    /// With its data elsewhere.
    #[must_use]
    pub fn with_data(mut self, data: &Path) -> Self {
        data.clone_into(&mut self.data);
        self
    }

    /// With tokens that lead elsewhere.
    #[must_use]
    pub fn with_advertised(mut self, address: SocketAddr) -> Self {
        self.advertised = address;
        self
    }

    /// With a configuration file.
    #[must_use]
    pub fn with_configuration(mut self, toml: &str) -> Self {
        let path = self.directory.join("tongtu.toml");
        std::fs::write(&path, toml).expect("the configuration");
        self.configuration = Some(path);
        self
    }

    /// Started by another program, such as strace: its arguments come before control's own.
    #[must_use]
    pub fn under(mut self, program: &[&str]) -> Self {
        self.before = program.iter().map(|&part| part.to_owned()).collect();
        self
    }

    /// The command that starts it.
    #[must_use]
    pub fn command(&self) -> Command {
        let binary = process::binary("tongtu");
        let mut command = match self.before.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.arg("serve").arg("--data").arg(&self.data);
        command.args(["--http", &self.http.to_string(), "--agents", &self.agents.to_string()]);
        command.args(["--advertise", &self.advertised.to_string()]);
        if let Some(path) = &self.configuration {
            command.arg("--config").arg(path);
        }
        command
    }

    /// Starts it without waiting for anything.
    #[track_caller]
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        self.process = Some(Process::start("control", self.command(), &self.directory));
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(&mut self) -> &mut Self {
        self.spawn();
        self.wait_ready();
        self
    }

    /// Waits until `/readyz` says so.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let url = self.url("/readyz");
        let process = self.process.as_mut().expect("it was started");
        wait::until(START, "control is ready", || {
            if let Some(status) = process.ended() {
                panic!("control ended at its start ({status}):\n{}", process.log());
            }
            let response = http::get(&url, None)?;
            (response.status == 200).then_some(()).ok_or(response.text)
        });
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Ctrl-C, and how it ended.
    #[track_caller]
    pub fn interrupt(&mut self) -> ExitStatus {
        self.process.take().expect("it runs").interrupt(STOP)
    }

    /// The process.
    #[track_caller]
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    /// The address of a route.
    #[must_use]
    pub fn url(&self, route: &str) -> String {
        format!("http://{}{route}", self.http)
    }

    /// Where its HTTP is.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The machine token that the first start wrote.
    #[must_use]
    #[track_caller]
    pub fn token(&self) -> String {
        let text = std::fs::read_to_string(self.data.join("api-token")).expect("the first start writes api-token");
        text.trim().to_owned()
    }

    /// Asks a route with the machine token.
    pub fn ask(&self, route: &str) -> Result<http::Response, String> {
        http::get(&self.url(route), Some(&self.token()))
    }

    /// Asks a route, which must answer 200.
    #[must_use]
    #[track_caller]
    pub fn get(&self, route: &str) -> http::Response {
        self.ask(route).unwrap_or_else(|err| panic!("{route}: {err}")).ok()
    }

    /// `tongtu …` on this control's data.
    #[must_use]
    #[track_caller]
    pub fn tongtu(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(process::binary("tongtu"));
        command.args(arguments).arg("--data").arg(&self.data);
        process::run(command, STOP)
    }

    /// An enrolment token for so many agents.
    #[must_use]
    #[track_caller]
    pub fn enrolment_token(&self, uses: u32) -> String {
        let output = self.tongtu(&["agent", "token", "--uses", &uses.to_string()]);
        assert!(output.status.success(), "{}", output.stderr);
        output.stdout.trim().to_owned()
    }

    /// Puts a certificate in the place of an enrolled agent's: the same, but that it ended years ago.
    ///
    /// # Panics
    /// When the agent is not enrolled here.
    #[track_caller]
    pub fn age_certificate(&self, agent: &Path) {
        use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SerialNumber};
        use rustls::pki_types::{CertificateDer, pem::PemObject as _};
        let read =
            |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
        let ca_key = KeyPair::from_pem(&read(self.data.join("ca/ca-key.pem"))).expect("the authority's key");
        let issuer = Issuer::from_ca_cert_pem(&read(self.data.join("ca/ca.pem")), ca_key).expect("the authority");
        let key = KeyPair::from_pem(&read(agent.join("key.pem"))).expect("the agent's key");
        let path = agent.join("certificate.pem");
        let der = CertificateDer::from_pem_slice(read(path.clone()).as_bytes()).expect("PEM");
        let (_, known) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
        let name = known.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).expect("a name");
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from_slice(known.raw_serial()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let aged = params.signed_by(&key, &issuer).expect("a certificate");
        std::fs::write(path, aged.pem()).expect("the agent's certificate");
    }

    /// The agents, as the API lists them.
    #[must_use]
    #[track_caller]
    pub fn agents(&self) -> Vec<serde_json::Value> {
        listed(&self.get("/api/v1/agents").json())
    }

    /// The hosts, as the API lists them.
    #[must_use]
    #[track_caller]
    pub fn hosts(&self) -> Vec<serde_json::Value> {
        listed(&self.get("/api/v1/hosts").json())
    }
}

/// The things of a list, which is an array or stands in the only array of an object.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn listed(answer: &serde_json::Value) -> Vec<serde_json::Value> {
    match answer {
        serde_json::Value::Array(things) => things.clone(),
        serde_json::Value::Object(parts) => {
            parts.values().find_map(|part| part.as_array().cloned()).unwrap_or_else(|| panic!("no list: {answer}"))
        }
        _ => panic!("no list: {answer}"),
    }
}
