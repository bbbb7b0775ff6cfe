//! Typed ids: numbers in the database, prefixed text (`agent_7`) everywhere a person sees them.

/// Defines an id type over `i64` with its text prefix.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::platform::ids::IdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(|digits| digits.parse().ok())
                    .map(Self)
                    .ok_or($crate::platform::ids::IdError($prefix))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// A text that is no id of the kind asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an id like {0}_1")]
pub struct IdError(pub &'static str);

id!(
    /// An organisation: a department, district or the city itself.
    OrganizationId, "org"
);
id!(
    /// An agent: one certificate.
    AgentId, "agent"
);
id!(
    /// What is measured as one thing: (agent, kind, local key).
    SourceId, "source"
);
id!(
    /// A host: one machine over time, joined from sources.
    HostId, "host"
);
id!(
    /// A virtual machine: one over time, joined from sources.
    VmId, "vm"
);
id!(
    /// Who provides hosts and virtual machines.
    ProviderId, "provider"
);
id!(
    /// A line of the ledger.
    LedgerLineId, "line"
);
id!(
    /// A table that is, or was, imported into the ledger.
    LedgerImportId, "import"
);
id!(
    /// A bearer token of a machine or script.
    ApiTokenId, "token"
);
id!(
    /// An enrolment token.
    EnrolmentTokenId, "enrolment"
);
id!(
    /// A person who may log in.
    UserId, "user"
);
id!(
    /// A session of a person.
    SessionId, "session"
);
id!(
    /// A one-time link.
    InvitationId, "invitation"
);
id!(
    /// A roll-out of agents over SSH.
    RolloutId, "rollout"
);
id!(
    /// A host key that a person confirmed.
    HostKeyId, "hostkey"
);
