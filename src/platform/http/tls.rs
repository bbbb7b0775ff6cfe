//! TLS of the HTTP port: the certificates that it shows, replaced while it is served, and their files.
//!
//! Two certificates are held. One is shown to everybody, the other to who asks for its name: so this machine's
//! own tools know whom they talk to, whatever certificate people are shown.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::platform::clock::UnixMs;

/// Why a certificate and its key are not taken.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No certificate in it.
    #[error("{} holds no certificate; it must be PEM, the server's own first, then those that lead to the authority", .0.display())]
    NoCertificate(PathBuf),
    /// No key in it.
    #[error("{} holds no private key that can be used; it must be PEM, not encrypted, RSA or ECDSA or Ed25519", .0.display())]
    NoKey(PathBuf),
    /// They do not belong together.
    #[error("the key in {} is not that of the certificate in {}, whose first must be the server's own", key.display(), certificate.display())]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// What rustls says.
    #[error("the certificate in {} cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: rustls::Error,
    },
}

/// A certificate as people compare it.
#[derive(Debug, Clone)]
pub struct CertificateShown {
    /// Whose it is.
    pub subject: String,
    /// SHA-256, in hexadecimal digits.
    pub fingerprint: String,
    /// When it ends.
    pub not_after_ms: UnixMs,
}

impl CertificateShown {
    /// Reads it.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        use std::fmt::Write as _;
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        let mut fingerprint = String::with_capacity(64);
        for byte in digest.as_ref() {
            let _ = write!(fingerprint, "{byte:02x}");
        }
        let parsed = x509_parser::parse_x509_certificate(certificate).ok();
        Self {
            subject: parsed.as_ref().map(|(_, found)| found.subject().to_string()).unwrap_or_default(),
            fingerprint,
            not_after_ms: parsed.map_or(0, |(_, found)| found.validity().not_after.timestamp() * 1_000),
        }
    }
}

/// The certificates of a port. Clones share them.
#[derive(Debug, Clone)]
pub struct Certificates(Arc<Held>);

#[derive(Debug)]
struct Held {
    own_name: &'static str,
    own: RwLock<Arc<CertifiedKey>>,
    /// What everybody is shown; absent: the own one.
    public: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Certificates {
    /// With one for who asks for `own_name`, which is shown to everybody until there is a public one.
    #[must_use]
    pub fn new(own_name: &'static str, own: CertifiedKey) -> Self {
        Self(Arc::new(Held { own_name, own: RwLock::new(Arc::new(own)), public: RwLock::default() }))
    }

    /// Replaces the own one.
    pub fn replace_own(&self, own: CertifiedKey) {
        *self.0.own.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(own);
    }

    /// Replaces what everybody is shown.
    pub fn replace_public(&self, public: CertifiedKey) {
        *self.0.public.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(public));
    }

    /// What everybody is shown.
    #[must_use]
    pub fn shown(&self) -> CertificateShown {
        let key = self.0.public();
        key.cert.first().map_or_else(|| CertificateShown::of(&[].as_slice().into()), CertificateShown::of)
    }

    /// Takes handshakes with them.
    ///
    /// # Errors
    /// Never with the provider that is built in.
    pub fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self.0.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl Held {
    fn public(&self) -> Arc<CertifiedKey> {
        let public = self.public.read().unwrap_or_else(PoisonError::into_inner).clone();
        public.unwrap_or_else(|| self.own.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl ResolvesServerCert for Held {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(if hello.server_name() == Some(self.own_name) {
            self.own.read().unwrap_or_else(PoisonError::into_inner).clone()
        } else {
            self.public()
        })
    }
}

/// Certificate and key in files.
#[derive(Debug)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// What was read last, taken or not.
    read: Option<[Vec<u8>; 2]>,
}

impl Files {
    /// Not read yet.
    #[must_use]
    pub fn new(certificate: &Path, key: &Path) -> Self {
        Self { certificate: certificate.to_owned(), key: key.to_owned(), read: None }
    }

    /// What they hold; nothing, if they hold what they did when they were last read.
    ///
    /// # Errors
    /// One sentence. What they hold is judged once.
    pub fn read(&mut self) -> Result<Option<CertifiedKey>, CertificateError> {
        let bytes = |path: &Path| {
            std::fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })
        };
        let read = [bytes(&self.certificate)?, bytes(&self.key)?];
        if self.read.as_ref() == Some(&read) {
            return Ok(None);
        }
        let [certificate, key] = self.read.insert(read);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .ok()
            .filter(|chain: &Vec<_>| !chain.is_empty())
            .ok_or_else(|| CertificateError::NoCertificate(self.certificate.clone()))?;
        let no_key = || CertificateError::NoKey(self.key.clone());
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| no_key())?;
        let signing = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| no_key())?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) => Ok(Some(certified)),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(CertificateError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() })
            }
            Err(reason) => Err(CertificateError::Unusable { path: self.certificate.clone(), reason }),
        }
    }
}
