//! Whether a machine is the one that was confirmed. Pure.

use super::fault::Fault;

/// A host key as a machine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostKey {
    /// `ssh-ed25519`.
    pub(super) algorithm: String,
    /// As `known_hosts` holds it.
    pub(super) text: String,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub(super) fingerprint: String,
}

/// Strict: one key is known for a machine, and no other is taken.
pub(super) fn verdict(known: Option<&HostKey>, offered: &HostKey) -> Result<(), Fault> {
    match known {
        Some(known) if known.text == offered.text => Ok(()),
        Some(known) => {
            Err(Fault::HostKeyChanged { known: known.fingerprint.clone(), offered: offered.fingerprint.clone() })
        }
        None => Err(Fault::HostKeyUnknown { fingerprint: offered.fingerprint.clone() }),
    }
}

/// Whether the fingerprint that a person confirms is that of what was offered. They may leave out the name of the
/// digest, nothing else.
pub(super) fn is_confirmed(offered: &str, confirmed: &str) -> bool {
    let plain = |text: &str| text.trim().trim_start_matches("SHA256:").trim_end_matches('=').to_owned();
    !plain(offered).is_empty() && plain(offered) == plain(confirmed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> HostKey {
        HostKey { algorithm: "ssh-ed25519".into(), text: text.into(), fingerprint: format!("SHA256:{text}") }
    }

    #[test]
    fn only_the_confirmed_key_is_taken() {
        assert_eq!(verdict(Some(&key("a")), &key("a")), Ok(()));
        assert_eq!(verdict(None, &key("a")).expect_err("unknown").code(), "host_key_unknown");
        let changed = verdict(Some(&key("a")), &key("b")).expect_err("another");
        assert_eq!(changed, Fault::HostKeyChanged { known: "SHA256:a".into(), offered: "SHA256:b".into() });
        // The same fingerprint is not enough: the whole key is compared.
        let forged = HostKey { fingerprint: "SHA256:a".into(), ..key("b") };
        assert!(verdict(Some(&key("a")), &forged).is_err());
    }

    #[test]
    fn a_person_confirms_what_was_shown() {
        assert!(is_confirmed("SHA256:abc", "SHA256:abc") && is_confirmed("SHA256:abc", " abc= "));
        for wrong in ["", "SHA256:", "ab", "abcd", "SHA256:ABC", "yes"] {
            assert!(!is_confirmed("SHA256:abc", wrong), "{wrong}");
        }
        assert!(!is_confirmed("", ""));
    }
}
