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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_comes_back(
            ca_fingerprint: [u8; 32],
            secret: [u8; SECRET_BYTES],
            host in "[a-z0-9.-]{1,60}|\\[[0-9a-f:]{2,30}\\]",
            port: u16,
        ) {
            let token = Token { address: format!("{host}:{port}"), ca_fingerprint, secret };
            let text = token.to_string();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'));
            prop_assert_eq!(text.parse::<Token>(), Ok(token.clone()));
            prop_assert_eq!(format!(" {text}\n").parse::<Token>(), Ok(token), "as a person pastes it");
        }

        #[test]
        fn other_texts_are_no_tokens(text: String, bytes: Vec<u8>) {
            let _ = text.parse::<Token>();
            let _ = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)).parse::<Token>();
        }
    }

    #[test]
    fn faults() {
        let of = |address: &[u8]| format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([&[7; 56], address].concat()));
        assert!(of(b"control:6481").parse::<Token>().is_ok());
        for (name, text) in [
            ("empty", String::new()),
            ("no prefix", of(b"control:6481").replace(PREFIX, "")),
            ("no base64", format!("{PREFIX}????")),
            ("short", format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([7; 55]))),
            ("no address", of(b"")),
            ("no port", of(b"control")),
            ("no host", of(b":6481")),
            ("a port that is none", of(b"control:65536")),
            ("no text", of(b"\xff:1")),
            ("very long", of(&[b'a'; 2_000])),
        ] {
            assert_eq!(text.parse::<Token>(), Err(TokenError), "{name}");
        }
    }

    #[test]
    fn a_token_in_a_log_shows_no_secret() {
        let token = Token { address: "control:1".to_owned(), ca_fingerprint: [1; 32], secret: [0xab; SECRET_BYTES] };
        let shown = format!("{token:?}");
        assert!(shown.contains("control:1") && !shown.contains("171") && !shown.contains("ab, "), "{shown}");
    }
}
