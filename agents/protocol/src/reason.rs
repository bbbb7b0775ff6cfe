//! Why control refuses a call or ends a stream, the same on both sides of the wire.
//!
//! A reason travels as gRPC metadata beside the status, so that an agent decides by it and not by
//! a text. What is refused record by record is in [`crate::v1::Refusal`] instead.

use tonic::{Code, Status, metadata::MetadataValue};

/// The metadata key that carries a reason.
pub const METADATA_KEY: &str = "tongtu-reason";

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal, $code:ident, $sentence:literal;)+) => {
        /// Why control refuses.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Reason] = &[$(Self::$variant,)+];

            /// Its text on the wire, in metrics and in logs.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// One sentence for a person.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)+ }
            }

            fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)+ }
            }
        }
    };
}

reasons! {
    /// No enrolment token of this control has the secret.
    TokenUnknown = "token_unknown", Unauthenticated, "this enrolment token is not known here";
    /// The token's time is over.
    TokenExpired = "token_expired", Unauthenticated, "this enrolment token has expired";
    /// The token has enrolled as many agents as it may.
    TokenUsed = "token_used", Unauthenticated, "this enrolment token has been used up";
    /// An operator took the token back.
    TokenRevoked = "token_revoked", Unauthenticated, "this enrolment token was revoked";
    /// The certificate request cannot be read, is too large, is not signed by its key, or its key is of a kind not taken.
    BadRequest = "bad_request", InvalidArgument, "the certificate request is not acceptable";
    /// A text of the agent's identity is empty or too long.
    BadIdentity = "bad_identity", InvalidArgument, "the agent's identity is empty or too long";
    /// The call needs a client certificate and the connection has none.
    NoCertificate = "no_certificate", Unauthenticated, "a client certificate is needed";
    /// The certificate is of this control's authority, but not on record (it was replaced, or control's database is older).
    CertificateUnknown = "certificate_unknown", Unauthenticated, "this certificate is not on record";
    /// Expired: only renewal is possible.
    CertificateExpired = "certificate_expired", Unauthenticated, "the certificate has expired; renew it";
    /// The agent was revoked.
    Revoked = "revoked", PermissionDenied, "this agent was revoked";
    /// Another machine, or another boot, holds a living stream with the same identity.
    Cloned = "cloned", FailedPrecondition, "another machine is connected with this agent's identity";
    /// A newer stream of the same machine and boot took this one's place.
    Replaced = "replaced", Aborted, "a newer stream of this agent took this one's place";
    /// The protocol versions do not meet.
    Protocol = "protocol", FailedPrecondition, "this protocol version is not spoken here";
    /// The stream began with something else than a hello, or one came twice.
    HelloExpected = "hello_expected", InvalidArgument, "a stream begins with one hello";
    /// Nothing useful came in time.
    TooSlow = "too_slow", DeadlineExceeded, "the expected message did not come in time";
    /// A message is larger, or holds more, than the limits allow.
    Limit = "limit", ResourceExhausted, "a message exceeds the protocol's limits";
    /// Bytes that are no message.
    Undecodable = "undecodable", InvalidArgument, "a message cannot be decoded";
    /// Control cannot answer now, for a reason of its own.
    Unavailable = "unavailable", Unavailable, "control cannot answer now; try again later";
    /// Control is shutting down.
    Stopping = "stopping", Unavailable, "control is stopping";
}

impl Reason {
    /// From its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }

    /// The gRPC status that carries it.
    #[must_use]
    pub fn status(self) -> Status {
        self.status_with(self.sentence())
    }

    /// The same with a sentence that says more.
    #[must_use]
    pub fn status_with(self, sentence: impl Into<String>) -> Status {
        let mut status = Status::new(self.code(), sentence);
        status.metadata_mut().insert(METADATA_KEY, MetadataValue::from_static(self.as_str()));
        status
    }

    /// The reason that a status carries, if it is control's.
    #[must_use]
    pub fn of(status: &Status) -> Option<Self> {
        Self::parse(status.metadata().get(METADATA_KEY)?.to_str().ok()?)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_travels_in_a_status() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::of(&reason.status()), Some(reason));
        }
        assert_eq!(Reason::of(&Status::internal("other")), None);
    }
}
