//! How an agent gets its certificate, and a new one before that ends.
//!
//! What must hold: nothing is sent before control is verified. The key is kept before the request is
//! sent, and an enrolment that was cut short is repeated with the same key, so that control gives
//! the same agent again.

use crate::clock;
use crate::collect::chain;
use crate::data::{DataDirectory, DataError, Enrolment, StoredIdentity};
use crate::link::{Link, LinkError, Trust};
use rcgen::{CertificateParams, KeyPair};
use std::path::Path;
use std::time::Duration;
use thiserror::Error;
use tokio::time::timeout;
use tongtu_protocol::token::{Token, TokenError};
use tongtu_protocol::{limits, reason::Reason, v1};
use tonic::Status;

/// For control's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why an agent is not enrolled, or has no new certificate.
#[derive(Debug, Error)]
pub enum EnrolError {
    /// The text is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Control was not reached.
    #[error(transparent)]
    Link(LinkError),
    /// Another control, or one that only looks like it.
    #[error(
        "the server at {0} is not the control that made this token: its authority has another fingerprint. \
         Nothing was sent to it. Make a token on the control you mean, with `tongtu agent token`"
    )]
    Fingerprint(String),
    /// Control refused.
    #[error("control at {address} refuses: {}{}", .reason.sentence(), mend(*.reason))]
    Refused {
        /// Where.
        address: String,
        /// Why.
        reason: Reason,
    },
    /// The call failed.
    #[error("control at {address} did not answer ({cause}); nothing is lost: run the same command again")]
    Failed {
        /// Where.
        address: String,
        /// How.
        cause: String,
    },
    /// What control sent does not fit.
    #[error("control at {address} sent an enrolment that does not fit together: {cause}")]
    Unfit {
        /// Where.
        address: String,
        /// Why.
        cause: LinkError,
    },
    /// A key could not be made.
    #[error("cannot make a key: {0}")]
    Key(#[from] rcgen::Error),
}

fn mend(reason: Reason) -> &'static str {
    match reason {
        Reason::TokenUnknown | Reason::TokenExpired | Reason::TokenUsed | Reason::TokenRevoked => {
            "; make another there with `tongtu agent token`"
        }
        Reason::Revoked | Reason::CertificateUnknown => "; enrol it again with --replace",
        _ => "",
    }
}

fn failed(address: &str, status: &Status) -> EnrolError {
    let address = address.to_owned();
    match Reason::of(status) {
        Some(reason) => EnrolError::Refused { address, reason },
        None => EnrolError::Failed { address, cause: chain(status) },
    }
}

/// What to enrol.
#[derive(Debug, Clone)]
pub struct Enrol<'a> {
    /// From `tongtu agent token`.
    pub token: &'a str,
    /// Where the enrolment is kept.
    pub data: &'a Path,
    /// `host`, `libvirt`…
    pub kind: &'a str,
    /// Of the agent.
    pub version: &'a str,
    /// In place of an enrolment that is there.
    pub replace: bool,
}

/// Enrols this machine.
///
/// # Errors
/// One sentence: what, where, what to do.
pub async fn enroll(enrol: Enrol<'_>) -> Result<StoredIdentity, EnrolError> {
    let token: Token = enrol.token.parse()?;
    let data = DataDirectory::open(enrol.data, true)?;
    if let Some(known) = data.enrolment()?.filter(|_| !enrol.replace) {
        let StoredIdentity { agent_id, address, .. } = known.identity;
        return Err(DataError::AlreadyEnrolled { path: enrol.data.to_owned(), agent_id, address }.into());
    }
    let address = token.address.clone();
    let link = Link::new(&address, &Trust::fingerprint(token.ca_fingerprint), None).map_err(EnrolError::Link)?;
    let channel = link.connect().await.map_err(|error| match error {
        LinkError::ForeignAuthority(address) => EnrolError::Fingerprint(address),
        error => EnrolError::Link(error),
    })?;
    let begun = data.begun_key().and_then(|pem| KeyPair::from_pem(&pem).ok());
    let key = begun.map_or_else(KeyPair::generate, Ok)?;
    let key_pem = key.serialize_pem();
    data.begin_enrolment(&key_pem)?;
    let machine_id = clock::machine_id(enrol.data).map_err(|cause| DataError::File {
        action: "write",
        path: enrol.data.join("machine-id"),
        cause,
    })?;
    let request = v1::EnrollRequest {
        token_secret: token.secret.to_vec().into(),
        csr_der: request(&key)?,
        kind: enrol.kind.to_owned(),
        machine_id,
        hostname: clock::hostname(),
        agent_version: enrol.version.to_owned(),
    };
    let mut client =
        v1::enrolment_client::EnrolmentClient::new(channel).max_decoding_message_size(limits::ENROLMENT_BYTES);
    let answer = match timeout(ANSWER_TIMEOUT, client.enroll(request)).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => {
            // What control could not do it may have done after all.
            if Reason::of(&status).is_some_and(|reason| reason != Reason::Unavailable) {
                data.cancel_enrolment();
            }
            return Err(failed(&address, &status));
        }
        Err(_) => return Err(EnrolError::Failed { address, cause: "it took too long".to_owned() }),
    };
    let enrolment = Enrolment {
        identity: StoredIdentity {
            agent_id: answer.agent_id,
            address: address.clone(),
            kind: enrol.kind.to_owned(),
            certificate_since_ms: clock::wall_ms(),
        },
        key_pem,
        certificate_pem: answer.certificate_pem,
        ca_pem: answer.ca_bundle_pem,
    };
    fits(&enrolment, &link).map_err(|cause| EnrolError::Unfit { address, cause })?;
    data.finish_enrolment(&enrolment)?;
    Ok(enrolment.identity)
}

/// Whether the certificate is of the key, and the bundle takes the server it came from for control.
fn fits(enrolment: &Enrolment, link: &Link) -> Result<(), LinkError> {
    let trust = enrolment.trust()?;
    Link::new(&enrolment.identity.address, &trust, Some(&enrolment.credentials()?))?;
    link.accepted_by(&trust)
}

fn request(key: &KeyPair) -> Result<bytes::Bytes, rcgen::Error> {
    Ok(CertificateParams::default().serialize_request(key)?.der().to_vec().into())
}

/// Asks control for a new certificate of the same key; works with an expired one too.
pub(crate) async fn renew(enrolment: &Enrolment) -> Result<Enrolment, EnrolError> {
    let address = enrolment.identity.address.clone();
    let link = Link::new(
        &address,
        &enrolment.trust().map_err(EnrolError::Link)?,
        Some(&enrolment.credentials().map_err(EnrolError::Link)?),
    );
    let link = link.map_err(EnrolError::Link)?;
    let channel = link.connect().await.map_err(EnrolError::Link)?;
    let csr_der = request(&KeyPair::from_pem(&enrolment.key_pem)?)?;
    let mut client =
        v1::telemetry_client::TelemetryClient::new(channel).max_decoding_message_size(limits::ENROLMENT_BYTES);
    let answer = match timeout(ANSWER_TIMEOUT, client.renew(v1::RenewRequest { csr_der })).await {
        Ok(answer) => answer.map_err(|status| failed(&address, &status))?.into_inner(),
        Err(_) => return Err(EnrolError::Failed { address, cause: "it took too long".to_owned() }),
    };
    let mut renewed = enrolment.clone();
    renewed.identity.certificate_since_ms = clock::wall_ms();
    renewed.certificate_pem = answer.certificate_pem;
    fits(&renewed, &link).map_err(|cause| EnrolError::Unfit { address, cause })?;
    Ok(renewed)
}
