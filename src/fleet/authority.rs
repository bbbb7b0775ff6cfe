//! The internal certificate authority: who control is to agents, and who each agent is to control.
//!
//! It lives in `DIR/ca`: `ca-key.pem` (0600) and `ca.pem`, made together at the first start by
//! renaming a finished directory, so that a crash leaves both or neither. Agents know control by
//! the SHA-256 of this certificate's DER alone, so it is made for decades and never replaced here.
//!
//! What must hold: a certificate says only what control decided. Of a request nothing is taken but
//! its key. Certificates begin long ago, so that a machine whose clock is behind can still connect.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, pem::PemObject};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use tongtu_protocol::{CONTROL_NAME, limits, reason::Reason};

use crate::platform::clock::UnixMs;
use crate::platform::http::tls::CertificateShown;
use crate::platform::ids::AgentId;

const DAY_MS: i64 = 86_400_000;
/// An agent's certificate.
const AGENT_DAYS: i64 = 365;
/// Control's certificates; a running control replaces them when a quarter is left.
pub(super) const SERVER_DAYS: i64 = 365;
/// The HTTP port's certificate begins so long ago. Browsers want no certificate that is good for years.
const HTTP_BEGAN_DAYS: i64 = 7;
/// The authority's own.
const AUTHORITY_DAYS: i64 = 50 * 365;

/// Identifies a certificate of this authority.
pub(super) type Serial = [u8; 16];

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("the certificate authority in {} cannot be used: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// One file is there without the other, or they do not belong together.
    #[error(
        "the certificate authority in {} is damaged ({fault}); restore the directory from a backup, agents trust no other",
        path.display()
    )]
    Damaged {
        /// Its directory.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// Key or certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// The authority, loaded.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    fingerprint: [u8; 32],
    random: SystemRandom,
}

/// A certificate made for an agent.
pub(super) struct Issued {
    pub(super) pem: String,
    pub(super) serial: Serial,
    pub(super) not_after_ms: UnixMs,
}

/// A request that was read, its signature checked and its key found sane.
pub(super) struct Request {
    key: rcgen::PublicKey,
}

impl Request {
    /// Reads a request.
    pub(super) fn read(der: &[u8]) -> Result<Self, Reason> {
        if der.len() > limits::CSR_BYTES {
            return Err(Reason::BadRequest);
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map_err(|_| Reason::BadRequest)?;
        let key = request.public_key;
        // The curve of a key follows from its length; RSA and P-384 are nothing our agents make.
        let sane = if *key.algorithm() == rcgen::PKCS_ECDSA_P256_SHA256 {
            key.der_bytes().len() == 65
        } else {
            *key.algorithm() == rcgen::PKCS_ED25519 && key.der_bytes().len() == 32
        };
        if sane { Ok(Self { key }) } else { Err(Reason::BadRequest) }
    }

    /// SHA-256 of the key.
    pub(super) fn key_hash(&self) -> [u8; 32] {
        sha256(self.key.der_bytes())
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl Authority {
    /// Loads the authority of a data directory, or makes it at the first start.
    ///
    /// # Errors
    /// It cannot be read or made, or is damaged.
    pub fn open(data: &Path, now_ms: UnixMs) -> Result<Self, AuthorityError> {
        let directory = data.join("ca");
        if !directory.exists() {
            create(data, &directory, now_ms)?;
        }
        load(&directory)
    }

    /// What may be shown of it.
    pub(super) fn shown(&self) -> CertificateShown {
        CertificateShown::of(&self.certificate)
    }

    /// What agents know control by.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The certificate as agents keep it.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A new key and certificate for the agents' port, with the authority's certificate behind it:
    /// an agent that enrols has only its fingerprint.
    pub(super) fn issue_server(&self, now_ms: UnixMs) -> Result<CertifiedKey, AuthorityError> {
        self.issue_control(self.params(CONTROL_NAME, now_ms + SERVER_DAYS * DAY_MS)?, &[])
    }

    /// A new key and certificate for the HTTP port, under these names and addresses and [`CONTROL_NAME`].
    ///
    /// # Errors
    /// It cannot be made.
    pub fn issue_http(&self, names: &[String], now_ms: UnixMs) -> Result<CertifiedKey, AuthorityError> {
        let mut params = self.params(CONTROL_NAME, now_ms + SERVER_DAYS * DAY_MS)?;
        params.not_before = instant(now_ms - HTTP_BEGAN_DAYS * DAY_MS)?;
        self.issue_control(params, names)
    }

    fn issue_control(&self, mut params: CertificateParams, names: &[String]) -> Result<CertifiedKey, AuthorityError> {
        let key = KeyPair::generate()?;
        let named = std::iter::once(CONTROL_NAME).chain(names.iter().map(String::as_str));
        // What is neither a name nor an address can be nobody's certificate.
        params.subject_alt_names = named
            .filter_map(|name| match name.parse() {
                Ok(address) => Some(SanType::IpAddress(address)),
                Err(_) => name.try_into().ok().map(SanType::DnsName),
            })
            .collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        let key =
            rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone(), self.certificate.clone()], key))
    }

    /// A certificate of one year for an agent.
    pub(super) fn issue_agent(
        &self,
        request: &Request,
        agent: AgentId,
        now_ms: UnixMs,
    ) -> Result<Issued, AuthorityError> {
        self.issue_agent_as(request, agent, serial(&self.random), now_ms + AGENT_DAYS * DAY_MS)
    }

    /// The same under a serial and until an instant: also one that was issued before, for the same key.
    pub(super) fn issue_agent_as(
        &self,
        request: &Request,
        agent: AgentId,
        serial: Serial,
        not_after_ms: UnixMs,
    ) -> Result<Issued, AuthorityError> {
        let mut params = self.params(&agent.to_string(), not_after_ms)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params.signed_by(&request.key, &self.issuer)?;
        // Certificates count in seconds.
        Ok(Issued { pem: certificate.pem(), serial, not_after_ms: not_after_ms / 1_000 * 1_000 })
    }

    fn params(&self, name: &str, not_after_ms: UnixMs) -> Result<CertificateParams, AuthorityError> {
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = instant(not_after_ms)?;
        params.distinguished_name = named(name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&serial(&self.random)));
        Ok(params)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// Sixteen bytes that DER neither pads nor shortens.
fn serial(random: &SystemRandom) -> Serial {
    let mut serial = [0; 16];
    random.fill(&mut serial).expect("the system gives random bytes");
    serial[0] = serial[0] & 0x3f | 0x40;
    serial
}

fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Tongtu");
    subject.push(DnType::CommonName, name);
    subject
}

fn instant(ms: UnixMs) -> Result<OffsetDateTime, rcgen::Error> {
    OffsetDateTime::from_unix_timestamp(ms / 1_000).map_err(|_| rcgen::Error::Time)
}

fn create(data: &Path, directory: &Path, now_ms: UnixMs) -> Result<(), AuthorityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = instant(now_ms + AUTHORITY_DAYS * DAY_MS)?;
    params.distinguished_name = named("Tongtu agents");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&serial(&SystemRandom::new())));
    let certificate = params.self_signed(&key)?;

    let unfinished = data.join("ca.new");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| AuthorityError::File { path, source }
    };
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(failed(&unfinished))?;
    }
    fs::DirBuilder::new().mode(0o700).create(&unfinished).map_err(failed(&unfinished))?;
    for (name, mode, text) in [("ca-key.pem", 0o600, key.serialize_pem()), ("ca.pem", 0o644, certificate.pem())] {
        let path = unfinished.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(failed(&path))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed(&path))?;
    }
    sync_directory(&unfinished).map_err(failed(&unfinished))?;
    fs::rename(&unfinished, directory).map_err(failed(directory))?;
    sync_directory(data).map_err(failed(data))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn load(directory: &Path) -> Result<Authority, AuthorityError> {
    let damaged = |fault: String| AuthorityError::Damaged { path: directory.to_owned(), fault };
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => damaged(format!("{name} is missing")),
            _ => AuthorityError::File { path, source },
        })
    };
    let key_path = directory.join("ca-key.pem");
    let key = KeyPair::from_pem(&read("ca-key.pem")?).map_err(|_| damaged("ca-key.pem is no key".to_owned()))?;
    let pem = read("ca.pem")?;
    let certificate =
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| damaged("ca.pem is no certificate".to_owned()))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
        .map_err(|_| damaged("ca.pem is no certificate".to_owned()))?;
    if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(damaged("ca.pem is not of ca-key.pem".to_owned()));
    }
    let readable = fs::metadata(&key_path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0);
    if readable {
        tracing::warn!(path = %key_path.display(), "others could read the authority's key; closing it to them");
        fs::set_permissions(&key_path, fs::Permissions::from_mode(0o600))
            .map_err(|source| AuthorityError::File { path: key_path, source })?;
    }
    let fingerprint = sha256(&certificate);
    let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
    Ok(Authority { issuer, fingerprint, pem, certificate, random: SystemRandom::new() })
}

/// Control's certificate as TLS asks for it; made anew while control runs, long before it ends.
#[derive(Debug)]
pub(super) struct ServerCertificate {
    authority: Arc<Authority>,
    clock: crate::platform::clock::Clock,
    current: std::sync::RwLock<(Arc<CertifiedKey>, UnixMs)>,
}

impl ServerCertificate {
    pub(super) fn new(authority: Arc<Authority>, clock: crate::platform::clock::Clock) -> Result<Self, AuthorityError> {
        let now_ms = clock.now_ms();
        let current = std::sync::RwLock::new((Arc::new(authority.issue_server(now_ms)?), now_ms));
        Ok(Self { authority, clock, current })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let now_ms = self.clock.now_ms();
        let (key, issued_ms) = {
            let current = self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            (current.0.clone(), current.1)
        };
        if now_ms - issued_ms < SERVER_DAYS * DAY_MS / 4 * 3 {
            return key;
        }
        match self.authority.issue_server(now_ms) {
            Ok(made) => {
                let made = Arc::new(made);
                *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = (made.clone(), now_ms);
                made
            }
            Err(error) => {
                tracing::error!(%error, "control's certificate cannot be renewed");
                key
            }
        }
    }
}

impl rustls::server::ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::server::ResolvesServerCert as _;

    const NOW: UnixMs = 1_800_000_000_000;

    #[test]
    fn it_is_made_once_and_its_key_is_closed_to_others() {
        let data = tempfile::tempdir().expect("a directory");
        let first = Authority::open(data.path(), NOW).expect("made");
        let again = Authority::open(data.path(), NOW + DAY_MS).expect("loaded");
        assert_eq!(first.fingerprint(), again.fingerprint());
        let key = data.path().join("ca/ca-key.pem");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode(&key), 0o600);
        assert_eq!(mode(&data.path().join("ca")), 0o700);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("set");
        Authority::open(data.path(), NOW).expect("loaded");
        assert_eq!(mode(&key), 0o600);
    }

    #[test]
    fn an_unfinished_one_is_made_anew_and_a_damaged_one_is_said() {
        let data = tempfile::tempdir().expect("a directory");
        fs::create_dir(data.path().join("ca.new")).expect("made");
        fs::write(data.path().join("ca.new/ca-key.pem"), "half").expect("written");
        Authority::open(data.path(), NOW).expect("made");
        assert!(!data.path().join("ca.new").exists());

        let other = tempfile::tempdir().expect("a directory");
        Authority::open(other.path(), NOW).expect("made");
        fs::copy(other.path().join("ca/ca.pem"), data.path().join("ca/ca.pem")).expect("copied");
        let error = Authority::open(data.path(), NOW).expect_err("they do not belong together");
        assert!(error.to_string().contains("ca.pem is not of ca-key.pem"), "{error}");
        fs::remove_file(data.path().join("ca/ca-key.pem")).expect("removed");
        let error = Authority::open(data.path(), NOW).expect_err("no key");
        assert!(error.to_string().contains("ca-key.pem is missing"), "{error}");
    }

    #[test]
    fn a_request_gives_its_key_and_nothing_else() {
        let data = tempfile::tempdir().expect("a directory");
        let authority = Authority::open(data.path(), NOW).expect("made");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["other.example".to_owned()]).expect("valid");
        params.distinguished_name = named("agent_1");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.serialize_request(&key).expect("a request");
        let request = Request::read(der.der()).expect("a good request");
        let issued = authority.issue_agent(&request, AgentId(7), NOW).expect("issued");
        let der = CertificateDer::from_pem_slice(issued.pem.as_bytes()).expect("PEM");
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
        assert!(certificate.subject().to_string().contains("CN=agent_7"));
        assert!(!certificate.is_ca());
        assert!(certificate.subject_alternative_name().expect("readable").is_none());
        assert_eq!(certificate.raw_serial(), issued.serial);
        assert_eq!(certificate.validity().not_after.timestamp() * 1_000, issued.not_after_ms);
        assert_eq!(issued.not_after_ms, NOW + 365 * DAY_MS);
    }

    #[test]
    fn bad_requests_are_refused() {
        let key = KeyPair::generate().expect("a key");
        let der = CertificateParams::default().serialize_request(&key).expect("a request");
        let mut forged = der.der().to_vec();
        *forged.last_mut().expect("bytes") ^= 1;
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
        let other = CertificateParams::default().serialize_request(&other).expect("a request");
        for (name, bytes) in [
            ("empty", Vec::new()),
            ("random", vec![0x30; 100]),
            ("forged", forged),
            ("large", vec![0; limits::CSR_BYTES + 1]),
            ("another kind of key", other.der().to_vec()),
        ] {
            assert_eq!(Request::read(&bytes).err(), Some(Reason::BadRequest), "{name}");
        }
    }

    #[test]
    fn controls_certificate_is_replaced_before_it_ends() {
        let data = tempfile::tempdir().expect("a directory");
        let now = Arc::new(std::sync::atomic::AtomicI64::new(NOW));
        let clock = crate::platform::clock::Clock::Manual(now.clone());
        let authority = Arc::new(Authority::open(data.path(), NOW).expect("made"));
        let server = ServerCertificate::new(authority, clock).expect("made");
        let first = server.current();
        assert!(Arc::ptr_eq(&first, &server.current()));
        now.store(NOW + 280 * DAY_MS, std::sync::atomic::Ordering::Relaxed);
        assert!(!Arc::ptr_eq(&first, &server.current()));
        assert!(!server.only_raw_public_keys());
    }
}
