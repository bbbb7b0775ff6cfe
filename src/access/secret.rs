//! Secrets that are shown once: 256 random bits as text. Tables hold their SHA-256.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SecureRandom;

/// What tables and memory know a secret by.
pub(super) type Hash = [u8; 32];

pub(super) fn hash(text: &str) -> Hash {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// A new one.
pub(super) fn generate() -> String {
    URL_SAFE_NO_PAD.encode(random::<32>())
}

/// Whether a text can be one.
pub(super) fn is_secret(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|secret| secret.len() == 32)
}

/// Another secret that follows from one, for a purpose; it says nothing of the first.
pub(super) fn derive(secret: &str, purpose: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, purpose.as_bytes()))
}

/// Equal, in a time that does not tell where they differ.
pub(super) fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// A number for things that are deleted, so that it never comes again.
pub(super) fn random_id() -> i64 {
    // 53 bits: exact in every language that reads JSON.
    (u64::from_le_bytes(random()) >> 11) as i64
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
    bytes
}
