//! Enrolling a simulated agent: as a real one does, but its key and certificate stay in memory.

use rcgen::{CertificateParams, KeyPair};
use tongtu_agent_runtime::link::{Credentials, Link, Trust};
use tongtu_protocol::token::Token;
use tongtu_protocol::v1;

/// An agent that holds a certificate.
#[derive(Debug)]
pub(crate) struct Enrolled {
    /// As control names it.
    pub(crate) agent: String,
    /// Its way to control.
    pub(crate) link: Link,
}

/// Turns one use of a token into an agent. The error is a sentence.
pub(crate) async fn enrol(token: &Token, kind: &str, machine_id: &str, hostname: &str) -> Result<Enrolled, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let request = CertificateParams::default().serialize_request(&key).map_err(|error| error.to_string())?;
    let link = Link::new(&token.address, &Trust::fingerprint(token.ca_fingerprint), None)
        .map_err(|error| error.to_string())?;
    let channel = link.connect().await.map_err(|error| error.to_string())?;
    let mut client = v1::enrolment_client::EnrolmentClient::new(channel);
    let request = v1::EnrollRequest {
        token_secret: token.secret.to_vec().into(),
        csr_der: request.der().to_vec().into(),
        kind: kind.to_owned(),
        machine_id: machine_id.to_owned(),
        hostname: hostname.to_owned(),
        agent_version: crate::VERSION.to_owned(),
    };
    let answer = client.enroll(request).await.map_err(|status| status.message().to_owned())?.into_inner();
    let trust = Trust::bundle(&answer.ca_bundle_pem).map_err(|error| error.to_string())?;
    let credentials =
        Credentials::from_pem(&answer.certificate_pem, &key.serialize_pem()).map_err(|error| error.to_string())?;
    let link = Link::new(&token.address, &trust, Some(&credentials)).map_err(|error| error.to_string())?;
    Ok(Enrolled { agent: answer.agent_id, link })
}
