//! What a permit allows, as types: a function that needs `Permit<AgentsWrite>` cannot be called
//! with a permit to read.

use super::Role;

/// Something that can be allowed.
pub trait Capability: Send + Sync + 'static {
    /// As it is named to people.
    const NAME: &'static str;
    /// Whether a role has it.
    fn allows(role: Role) -> bool;
}

macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident = $text:literal: $($role:ident)|+;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl Capability for $name {
            const NAME: &'static str = $text;
            fn allows(role: Role) -> bool {
                matches!(role, $(Role::$role)|+)
            }
        }
    )*};
}

capabilities! {
    /// See agents and their states.
    AgentsRead = "agents.read": Operator | Reader;
    /// Make enrolment tokens, revoke agents.
    AgentsWrite = "agents.write": Operator;
    /// See hosts.
    HostsRead = "hosts.read": Operator | Reader;
    /// See sources and query series.
    MeasurementsRead = "measurements.read": Operator | Reader;
    /// See control's own metrics.
    ControlHealthRead = "control-health.read": Operator | Reader;
    /// See bearer tokens (never their text).
    TokensRead = "tokens.read": Operator;
    /// Revoke bearer tokens.
    TokensWrite = "tokens.write": Operator;
}
