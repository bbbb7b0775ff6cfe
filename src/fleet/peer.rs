//! Who is at the other end of a connection: the verifier of client certificates and what is read
//! from a verified one.
//!
//! What must hold: only a certificate of our authority passes. That it has expired does not end the
//! handshake, because an expired key may still renew; that is decided by [`super::Fleet`], where a
//! typed reason can be answered. So is revocation.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use std::time::Duration;

use super::authority::{Authority, Serial};
use crate::platform::clock::UnixMs;
use crate::platform::ids::AgentId;

/// What a verified client certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PeerCertificate {
    pub(super) agent: AgentId,
    pub(super) serial: Serial,
    pub(super) not_after_ms: UnixMs,
}

impl PeerCertificate {
    /// Reads a certificate that passed the verifier. `None`: our authority made it for no agent.
    pub(super) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let agent = certificate.subject().iter_common_name().next()?.as_str().ok()?.parse().ok()?;
        let serial = certificate.raw_serial().try_into().ok()?;
        Some(Self { agent, serial, not_after_ms: certificate.validity().not_after.timestamp() * 1_000 })
    }
}

/// One connection, as its calls see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// `None`: the connection has no client certificate, so it may only enrol.
    pub(super) certificate: Option<PeerCertificate>,
    pub(super) address: std::net::SocketAddr,
    /// Control's clock when the handshake was finished.
    pub(super) connected_ms: UnixMs,
}

/// Accepts no certificate, or one of our authority, whatever its age.
#[derive(Debug)]
pub(super) struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl Verifier {
    pub(super) fn new(authority: &Authority, provider: Arc<CryptoProvider>) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone())?;
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self { inner })
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let bad = || rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| bad())?;
        let end = u64::try_from(parsed.validity().not_after.timestamp()).map_err(|_| bad())?;
        // Judged at its own last moment: its age is not the handshake's affair.
        let end = UnixTime::since_unix_epoch(Duration::from_secs(end));
        self.inner.verify_client_cert(certificate, intermediates, end)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
