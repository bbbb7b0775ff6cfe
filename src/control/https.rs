//! The certificates of the HTTP port: self-made or from files, kept fresh while control runs.
//!
//! What must hold: a certificate that cannot be read, made or used leaves the one before in its place, and is
//! said once. There is always a self-made one, shown to who asks for [`CONTROL_NAME`]: the command line on this
//! machine verifies it with the data directory's authority, whatever people are shown.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tongtu_protocol::CONTROL_NAME;

use crate::config::{self, Config};
use crate::fleet::{Authority, AuthorityError};
use crate::platform::clock::{Clock, UnixMs};
use crate::platform::http::tls::{CertificateError, Certificates, Files};
use crate::platform::shutdown::Shutdown;

/// How often files are looked at, and the names and the age of what was made.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
const DAY_MS: i64 = 86_400_000;
/// What was made is made anew at this age: a quarter of a year before it ends.
const RENEW_MS: i64 = 274 * DAY_MS;

/// See the module.
#[derive(Debug)]
pub(super) struct Https {
    certificates: Certificates,
    authority: Authority,
    clock: Clock,
    listen: IpAddr,
    advertise: String,
    /// What the self-made one names, and when it was made.
    made: (BTreeSet<String>, UnixMs),
    files: Option<Files>,
    /// What was said last of what does not work.
    said: String,
}

/// Why there is no fresh certificate.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The self-made one.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Files.
    #[error(transparent)]
    Files(#[from] CertificateError),
    /// TLS.
    #[error("the HTTP port cannot speak TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Https {
    /// What the configuration asks for; nothing under plain HTTP. `advertise` is the `HOST:PORT` that agents know.
    pub(super) fn open(
        config: &config::Http,
        data: &Path,
        advertise: &str,
        clock: Clock,
    ) -> Result<Option<Self>, HttpsError> {
        let files = match (config.tls, &config.tls_certificate, &config.tls_key) {
            (config::Tls::Off, ..) => return Ok(None),
            (config::Tls::Files, Some(certificate), Some(key)) => Some(Files::new(certificate, key)),
            _ => None,
        };
        let now_ms = clock.now_ms();
        let authority = Authority::open(data, now_ms)?;
        let advertise = advertise.rsplit_once(':').map_or(advertise, |(host, _)| host);
        let advertise = advertise.trim_start_matches('[').trim_end_matches(']').to_owned();
        let listen = config.listen.ip();
        let names = names(listen, &advertise);
        let own = authority.issue_http(&Vec::from_iter(names.clone()), now_ms)?;
        let certificates = Certificates::new(CONTROL_NAME, own);
        let made = (names, now_ms);
        let mut https = Self { certificates, authority, clock, listen, advertise, made, files, said: String::new() };
        https.read_files()?;
        Ok(Some(https))
    }

    pub(super) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Until told to stop: reads files that changed, makes anew what is old or names too little.
    pub(super) async fn keep(mut self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(REFRESH_INTERVAL) => {}
                () = shutdown.triggered() => return,
            }
            let said = self.refresh().err().map(|error| error.to_string()).unwrap_or_default();
            if !said.is_empty() && said != self.said {
                tracing::error!("the HTTP port keeps the certificate that it has: {said}");
            }
            self.said = said;
        }
    }

    /// One does not keep the other from it.
    fn refresh(&mut self) -> Result<(), HttpsError> {
        let made = self.make_anew();
        self.read_files().and(made)
    }

    fn make_anew(&mut self) -> Result<(), HttpsError> {
        let now_ms = self.clock.now_ms();
        let names = names(self.listen, &self.advertise);
        let (named, made_ms) = &self.made;
        // A clock that was put back would find it not good yet.
        if (0..RENEW_MS).contains(&(now_ms - made_ms)) && names == *named {
            return Ok(());
        }
        let own = self.authority.issue_http(&Vec::from_iter(names.clone()), now_ms)?;
        self.certificates.replace_own(own);
        self.made = (names, now_ms);
        tracing::info!("a new certificate was made for the HTTP port");
        Ok(())
    }

    fn read_files(&mut self) -> Result<(), HttpsError> {
        let Some(read) = self.files.as_mut().map(Files::read).transpose()?.flatten() else { return Ok(()) };
        self.certificates.replace_public(read);
        let shown = self.certificates.shown();
        let until = jiff::Timestamp::from_millisecond(shown.not_after_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        if shown.not_after_ms <= self.clock.now_ms() {
            tracing::warn!(subject = shown.subject, %until, "the certificate of the HTTP port has expired; put a new one into its file");
        } else {
            tracing::info!(subject = shown.subject, %until, "the HTTP port has the certificate of its file");
        }
        Ok(())
    }
}

/// What this machine may be called by who asks.
fn names(listen: IpAddr, advertise: &str) -> BTreeSet<String> {
    let mut addresses = BTreeSet::from([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    let mut names = BTreeSet::from(["localhost".to_owned(), advertise.to_owned()]);
    if listen.is_unspecified() {
        let system = rustix::system::uname();
        names.insert(system.nodename().to_string_lossy().into_owned());
        if let Ok(networks) = sysinfo::Networks::new_with_refreshed_list() {
            addresses.extend(networks.values().flat_map(sysinfo::NetworkData::ip_networks).map(|network| network.addr));
        }
    } else {
        addresses.insert(listen);
    }
    names.extend(addresses.into_iter().map(|address| address.to_string()));
    names
}

/// Where people find the HTTP port: as it listens, or under the host that agents know if that is everywhere.
pub(crate) fn base(config: &Config, http: SocketAddr) -> String {
    let scheme = config.http.scheme();
    if !http.ip().is_unspecified() {
        return format!("{scheme}://{http}");
    }
    let advertised = super::advertised(&config.agents, config.agents.listen);
    let host = advertised.rsplit_once(':').map_or(advertised.as_str(), |(host, _)| host);
    format!("{scheme}://{host}:{}", http.port())
}

/// Where this machine finds it.
pub(super) fn local_base(config: &config::Http, mut http: SocketAddr) -> String {
    if http.ip().is_unspecified() {
        http.set_ip(if http.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    format!("{}://{http}", config.scheme())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    const NOW: UnixMs = 1_800_000_000_000;

    /// A data directory whose certificate is of files.
    struct Files {
        data: tempfile::TempDir,
        config: config::Http,
        now: Arc<AtomicI64>,
    }

    impl Files {
        fn new() -> Self {
            let data = tempfile::tempdir().expect("a directory");
            let mut config = Config::default().http;
            config.tls = config::Tls::Files;
            config.tls_certificate = Some(data.path().join("https.pem"));
            config.tls_key = Some(data.path().join("https-key.pem"));
            Self { data, config, now: Arc::new(AtomicI64::new(NOW)) }
        }

        fn write(&self, name: &str) {
            let key = KeyPair::generate().expect("a key");
            let certificate = CertificateParams::new(vec![name.to_owned()]).expect("a name").self_signed(&key);
            self.write_certificate(certificate.expect("made").pem().as_bytes());
            self.write_key(key.serialize_pem().as_bytes());
        }

        fn write_certificate(&self, bytes: &[u8]) {
            fs::write(self.data.path().join("https.pem"), bytes).expect("written");
        }

        fn write_key(&self, bytes: &[u8]) {
            fs::write(self.data.path().join("https-key.pem"), bytes).expect("written");
        }

        fn open(&self) -> Result<Https, HttpsError> {
            let clock = Clock::Manual(self.now.clone());
            Https::open(&self.config, self.data.path(), "control.example:6481", clock).map(|https| https.expect("TLS"))
        }
    }

    #[test]
    fn what_is_wrong_with_the_files_is_one_sentence() {
        let files = Files::new();
        let said = |part: &str| {
            let said = files.open().expect_err(part).to_string();
            println!("{said}");
            assert!(said.contains(part) && said.contains("https") && !said.contains('\n'), "{said}");
        };
        said("https.pem cannot be read");
        files.write_certificate(b"nonsense");
        said("https-key.pem cannot be read");
        files.write_key(b"nonsense");
        said("holds no certificate");
        files.write("a.example");
        files.open().expect("good");
        files.write_key(KeyPair::generate().expect("a key").serialize_pem().as_bytes());
        said("is not that of the certificate");
        files.write_key(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
        said("holds no private key");
        files.write_certificate(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        files.write_key(KeyPair::generate().expect("a key").serialize_pem().as_bytes());
        said("cannot be used");
    }

    #[test]
    fn files_that_changed_are_read_and_broken_ones_leave_what_is_shown() {
        let files = Files::new();
        files.write("a.example");
        let mut https = files.open().expect("good");
        let first = https.certificates.shown();
        https.refresh().expect("nothing changed");
        assert_eq!(https.certificates.shown().fingerprint, first.fingerprint);
        files.write_certificate(b"half");
        https.refresh().expect_err("half of the renewal");
        assert_eq!(https.certificates.shown().fingerprint, first.fingerprint);
        files.write("b.example");
        https.refresh().expect("the rest of it");
        assert_ne!(https.certificates.shown().fingerprint, first.fingerprint);
    }

    #[test]
    fn what_is_self_made_is_made_anew_before_it_ends() {
        let mut files = Files::new();
        files.config = config::Http { tls: config::Tls::SelfMade, ..Config::default().http };
        let mut https = files.open().expect("made");
        let first = https.certificates.shown();
        assert_eq!(first.not_after_ms, NOW + 365 * DAY_MS);
        for (days, is_same) in [(0, true), (273, true), (275, false)] {
            files.now.store(NOW + days * DAY_MS, Ordering::Relaxed);
            https.refresh().expect("made");
            assert_eq!(https.certificates.shown().fingerprint == first.fingerprint, is_same, "after {days} days");
        }
        // The clock had been wrong.
        files.now.store(NOW, Ordering::Relaxed);
        https.refresh().expect("made");
        assert_eq!(https.certificates.shown().not_after_ms, NOW + 365 * DAY_MS);
    }

    #[test]
    fn it_names_what_this_machine_is_called() {
        let everywhere = names(IpAddr::V4(Ipv4Addr::UNSPECIFIED), "control.example");
        for name in ["localhost", "127.0.0.1", "::1", "control.example"] {
            assert!(everywhere.contains(name), "{name}: {everywhere:?}");
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        assert!(everywhere.contains(&host), "{host}: {everywhere:?}");
        assert!(!everywhere.contains("0.0.0.0"));
        assert!(names([192, 0, 2, 1].into(), "c").contains("192.0.2.1"));
    }

    #[test]
    fn where_it_is_found() {
        let mut config = Config::default();
        config.agents.advertise = Some("[2001:db8::1]:6481".to_owned());
        config.http.tls = config::Tls::SelfMade;
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 6480));
        assert_eq!(base(&config, everywhere), "https://[2001:db8::1]:6480");
        assert_eq!(local_base(&config.http, everywhere), "https://127.0.0.1:6480");
        config.http.tls = config::Tls::Off;
        assert_eq!(base(&config, SocketAddr::from(([127, 0, 0, 1], 1))), "http://127.0.0.1:1");
    }
}
