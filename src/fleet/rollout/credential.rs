//! With what control logs in: for one run, in memory, and gone with it.
//!
//! What must hold: a secret is in no log, no table, no answer and no transcript. Its text is overwritten when the run
//! ends; what the SSH library copies of it for a login is out of our hands.

use std::fmt;

use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::fault::Fault;

/// A text that nobody is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A password may be of this length at most, a key of a few times that.
    const BYTES: usize = 32 << 10;

    pub(super) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What is there instead may be the secret.
        let text = String::deserialize(deserializer).map_err(|_| serde::de::Error::custom("a secret is a text"))?;
        let text = Self::new(text);
        if text.text().is_empty() || text.text().len() > Self::BYTES {
            return Err(serde::de::Error::custom("a secret is 1 byte to 32 KiB"));
        }
        Ok(text)
    }
}

/// A key, a password, or both. Used for this run alone and stored nowhere.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Credential {
    /// The password of the login.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password, write_only)]
    pub password: Option<Secret>,
    /// A private key as OpenSSH writes it (PEM); it is tried first.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password, write_only)]
    pub private_key: Option<Secret>,
    /// The key's passphrase.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password, write_only)]
    pub passphrase: Option<Secret>,
    /// What `sudo` asks for, if it is not `password`.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password, write_only)]
    pub sudo_password: Option<Secret>,
}

/// What stands in a credential's place may be the secret itself: no fault repeats it.
impl<'de> Deserialize<'de> for Credential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = serde_json::Value::deserialize(deserializer)?;
        if !value.is_object() {
            return Err(D::Error::custom("a credential is an object with password or private_key"));
        }
        // The derived one, which is not the trait's.
        Self::deserialize(value).map_err(D::Error::custom)
    }
}

impl Credential {
    /// Whether there is anything to log in with.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.password.is_none() && self.private_key.is_none()
    }

    /// What `sudo` is answered.
    pub(super) fn for_sudo(&self) -> Option<&Secret> {
        self.sudo_password.as_ref().or(self.password.as_ref())
    }

    /// The private key, if there is one.
    pub(super) fn key(&self) -> Result<Option<russh::keys::PrivateKey>, Fault> {
        let Some(key) = &self.private_key else { return Ok(None) };
        let passphrase = self.passphrase.as_ref().map(Secret::text);
        russh::keys::decode_secret_key(key.text(), passphrase).map(Some).map_err(|_| Fault::KeyUnreadable)
    }

    /// A text without any of the secrets, should a machine have repeated one.
    pub(super) fn without(&self, text: &str) -> String {
        let secrets = [&self.password, &self.private_key, &self.passphrase, &self.sudo_password];
        let secrets = secrets.into_iter().flatten().map(|secret| secret.text().trim()).filter(|text| !text.is_empty());
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fault_repeats_what_stands_in_a_secrets_place() {
        for wrong in [r#""hunter2""#, r#"{"password":1234567}"#, r#"{"private_key":["hunter2"]}"#, "1234567"] {
            let fault = serde_json::from_str::<Credential>(wrong).expect_err("no credential").to_string();
            assert!(!fault.contains("hunter2") && !fault.contains("1234567"), "{fault}");
        }
        assert!(serde_json::from_str::<Credential>(r#"{"password":"x"}"#).is_ok());
    }

    #[test]
    fn no_secret_is_shown() {
        let credential: Credential =
            serde_json::from_str(r#"{"password":"opensesame","private_key":"KEY","passphrase":"open"}"#).expect("read");
        let shown = format!("{credential:?}");
        for secret in ["opensesame", "KEY", "open\""] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let said = credential.without("sudo: opensesame is wrong, KEY as well");
        assert!(!said.contains("sesame") && !said.contains("KEY"), "{said}");
        assert_eq!(credential.for_sudo().map(Secret::text), Some("opensesame"));
        assert_eq!(credential.key().expect_err("no key"), Fault::KeyUnreadable);
    }

    #[test]
    fn what_nobody_can_log_in_with_is_nothing() {
        let read = |text: &str| serde_json::from_str::<Credential>(text);
        assert!(read("{}").expect("read").is_empty());
        assert!(read(r#"{"sudo_password":"x"}"#).expect("read").is_empty());
        assert!(read(r#"{"password":""}"#).is_err(), "an empty password is a slip");
        let unknown = read(r#"{"passwort":"opensesame"}"#).expect_err("a slip").to_string();
        assert!(!unknown.contains("opensesame"), "{unknown}");
    }
}
