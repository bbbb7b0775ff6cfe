//! A connection to control: TCP, mutual TLS 1.3, HTTP/2. Each step that can fail says what failed,
//! where, and what a person does about it.
//!
//! What must hold: nothing is sent before control's certificate is verified, by the CA bundle or, at
//! enrolment, by the fingerprint of the token.

use crate::clock;
use crate::collect::chain;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tongtu_protocol::CONTROL_NAME;
use tonic::transport::{Channel, Endpoint};

/// For each step of connecting.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection to control.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The name does not resolve.
    #[error("cannot find the host of {address} ({cause}): check the name and this machine's DNS")]
    Resolve {
        /// `HOST:PORT`.
        address: String,
        /// What the resolver says.
        cause: String,
    },
    /// Nobody listens.
    #[error("{0} refuses the connection: is `tongtu serve` running there, and is this its agents' port?")]
    Refused(String),
    /// The network does not lead there.
    #[error("cannot reach {address} ({cause}): check the network and the firewall between here and there")]
    Unreachable {
        /// `HOST:PORT`.
        address: String,
        /// What the system says.
        cause: String,
    },
    /// No answer.
    #[error("{0} does not answer: check the network and the firewall between here and there")]
    Timeout(String),
    /// The certificate is of another authority.
    #[error(
        "the server at {0} is not the control that this agent knows: its certificate is of another authority. \
         If control was set up anew, make a token there and enrol again with --replace"
    )]
    ForeignAuthority(String),
    /// Control ended the handshake when it saw the certificate of this agent.
    #[error(
        "control does not take this agent's certificate: it is of another authority. \
         To use this agent there, enrol it again with --replace"
    )]
    CertificateRefused,
    /// The certificate's time does not fit this machine's.
    #[error(
        "control's certificate is not valid at {now} s since 1970, the time of this machine: \
         set this machine's clock, or if it is right, restart control at {address}"
    )]
    Clock {
        /// `HOST:PORT`.
        address: String,
        /// Unix time in seconds.
        now: i64,
    },
    /// Something else listens there.
    #[error("what listens at {address} is not control's agents' port ({cause})")]
    NotControl {
        /// `HOST:PORT`.
        address: String,
        /// What the handshake says.
        cause: String,
    },
    /// The files of the enrolment do not fit together.
    #[error("the enrolment is damaged ({0}): enrol again with --replace")]
    Credentials(String),
}

/// Whom to take for control.
#[derive(Debug, Clone)]
pub struct Trust(Arc<dyn ServerCertVerifier>);

impl Trust {
    /// Whoever has a certificate of one of these authorities, in the name of control.
    ///
    /// # Errors
    /// A text that holds no certificate.
    pub fn bundle(pem: &str) -> Result<Self, LinkError> {
        let damaged = |cause: String| LinkError::Credentials(format!("the CA bundle: {cause}"));
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| damaged(error.to_string()))?;
            roots.add(certificate).map_err(|error| damaged(error.to_string()))?;
        }
        let verifier = verifier(roots).map_err(|error| damaged(error.to_string()))?;
        Ok(Self(verifier))
    }

    /// Whoever shows the authority with this SHA-256 behind its own certificate.
    #[must_use]
    pub fn fingerprint(sha256: [u8; 32]) -> Self {
        Self(Arc::new(ByFingerprint { sha256, provider: provider() }))
    }
}

/// The key and certificate of an agent.
#[derive(Debug)]
pub struct Credentials {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// From PEM texts.
    ///
    /// # Errors
    /// A text that holds something else.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, LinkError> {
        let damaged = |what: &str, error: &dyn std::fmt::Display| LinkError::Credentials(format!("{what}: {error}"));
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
        let certificates = certificates.map_err(|error| damaged("the certificate", &error))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| damaged("the key", &error))?;
        Ok(Self { certificates, key })
    }
}

/// How to reach control.
#[derive(Debug, Clone)]
pub struct Link {
    address: Arc<str>,
    tls: Arc<ClientConfig>,
    /// What control showed when it was reached last.
    shown: Arc<Mutex<Vec<CertificateDer<'static>>>>,
}

impl Link {
    /// To `HOST:PORT`. Without credentials only enrolment is possible.
    ///
    /// # Errors
    /// Credentials whose key is not that of the certificate.
    pub fn new(address: &str, trust: &Trust, credentials: Option<&Credentials>) -> Result<Self, LinkError> {
        let damaged = |error: rustls::Error| LinkError::Credentials(error.to_string());
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(damaged)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&trust.0));
        let mut config = match credentials {
            Some(credentials) => config
                .with_client_auth_cert(credentials.certificates.clone(), credentials.key.clone_key())
                .map_err(damaged)?,
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A session lives long: tickets would only cost memory.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { address: address.into(), tls: Arc::new(config), shown: Arc::default() })
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether `trust` would take for control whom this link reached last.
    ///
    /// # Errors
    /// It would not, or nobody was reached.
    pub fn accepted_by(&self, trust: &Trust) -> Result<(), LinkError> {
        let foreign = || LinkError::ForeignAuthority(self.address.to_string());
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let (certificate, intermediates) = shown.split_first().ok_or_else(foreign)?;
        let now = UnixTime::since_unix_epoch(Duration::from_millis(clock::wall_ms().unsigned_abs()));
        let verified = trust.0.verify_server_cert(certificate, intermediates, &control_name(), &[], now);
        verified.map(drop).map_err(|_| foreign())
    }

    /// Connects, verifies control, and is ready for calls.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn connect(&self) -> Result<Channel, LinkError> {
        let address = self.address.to_string();
        let slow = |_| LinkError::Timeout(address.clone());
        let tcp = timeout(STEP_TIMEOUT, self.tcp()).await.map_err(slow)??;
        // Frames are small and wait for nothing.
        let _ = tcp.set_nodelay(true);
        let handshake = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls)).connect(control_name(), tcp);
        let tls = timeout(STEP_TIMEOUT, handshake).await.map_err(slow)?.map_err(|error| self.tls_error(&error))?;
        if let Some(shown) = tls.get_ref().1.peer_certificates() {
            let shown = shown.iter().map(|certificate| certificate.clone().into_owned()).collect();
            *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        }
        let once = Mutex::new(Some(TokioIo::new(tls)));
        let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
            let io = once.lock().unwrap_or_else(PoisonError::into_inner).take();
            std::future::ready(io.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
        });
        let endpoint = Endpoint::from_static("http://tongtu-control").buffer_size(8);
        let channel = timeout(STEP_TIMEOUT, endpoint.connect_with_connector(connector)).await.map_err(slow)?;
        channel.map_err(|error| match chain(&error) {
            cause if is_certificate_refused(&cause) => LinkError::CertificateRefused,
            cause => LinkError::NotControl { address: self.address.to_string(), cause },
        })
    }

    async fn tcp(&self) -> Result<TcpStream, LinkError> {
        let address = self.address.to_string();
        let found: Vec<_> = match lookup_host(&*self.address).await {
            Ok(found) => found.collect(),
            Err(error) => return Err(LinkError::Resolve { address, cause: error.to_string() }),
        };
        match TcpStream::connect(&*found).await {
            Ok(tcp) => Ok(tcp),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Err(LinkError::Refused(address)),
            Err(error) => Err(LinkError::Unreachable { address, cause: error.to_string() }),
        }
    }

    fn tls_error(&self, error: &io::Error) -> LinkError {
        let address = self.address.to_string();
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(fault)) => match fault {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => {
                    LinkError::Clock { address, now: clock::wall_ms() / 1_000 }
                }
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    LinkError::ForeignAuthority(address)
                }
                _ => LinkError::NotControl { address, cause: chain(error) },
            },
            _ => LinkError::NotControl { address, cause: chain(error) },
        }
    }
}

/// Whether the cause of a broken connection is what a server that does not take the certificate says: in TLS
/// 1.3 that comes when the handshake is over for the client.
pub(crate) fn is_certificate_refused(cause: &str) -> bool {
    // How rustls says it; the layers in between keep only its text.
    let alerts = ["UnknownCA", "DecryptError", "BadCertificate", "UnsupportedCertificate", "CertificateUnknown"];
    cause
        .split_once("received fatal alert: ")
        .is_some_and(|(_, alert)| alerts.iter().any(|known| alert.contains(known)))
}

fn control_name() -> ServerName<'static> {
    ServerName::try_from(CONTROL_NAME).expect("a name of ASCII letters")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn verifier(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

/// Trusts the authority with a known fingerprint, if the server shows it.
#[derive(Debug)]
struct ByFingerprint {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let known = |authority: &&CertificateDer<'_>| {
            ring::digest::digest(&ring::digest::SHA256, authority).as_ref() == self.sha256
        };
        let Some(authority) = intermediates.iter().find(known) else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        verifier(roots)?.verify_server_cert(certificate, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
