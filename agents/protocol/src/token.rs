//! Enrolment tokens: where control is, how to know it, and the secret that enrols.
//!
//! Text form: `tongtu1_` and unpadded URL-safe base64 of: CA fingerprint (32 bytes, SHA-256 of its
//! DER), secret (24 bytes), control's address (`HOST:PORT`, UTF-8).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{fmt, str::FromStr};
use thiserror::Error;

const PREFIX: &str = "tongtu1_";
/// Bytes of a token's secret.
pub const SECRET_BYTES: usize = 24;

/// An enrolment token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// `HOST:PORT` of control's agents port.
    pub address: String,
    /// SHA-256 of the DER of control's certificate authority.
    pub ca_fingerprint: [u8; 32],
    /// What control knows the hash of.
    pub secret: [u8; SECRET_BYTES],
}

/// A text that is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is not an enrolment token: it begins with {PREFIX} and is made by `tongtu agent token`")]
pub struct TokenError;

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(32 + SECRET_BYTES + self.address.len());
        bytes.extend_from_slice(&self.ca_fingerprint);
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(self.address.as_bytes());
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// Never shows the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("address", &self.address).finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(TokenError)?;
        if body.len() > 1024 {
            return Err(TokenError);
        }
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenError)?;
        let (ca_fingerprint, rest) = bytes.split_first_chunk::<32>().ok_or(TokenError)?;
        let (secret, address) = rest.split_first_chunk::<SECRET_BYTES>().ok_or(TokenError)?;
        let address = std::str::from_utf8(address).map_err(|_| TokenError)?;
        let (host, port) = address.rsplit_once(':').ok_or(TokenError)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(TokenError);
        }
        Ok(Self { address: address.to_owned(), ca_fingerprint: *ca_fingerprint, secret: *secret })
    }
}
