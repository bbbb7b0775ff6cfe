//! Who may do what: one table of areas and roles, and the capabilities that derive from it as types.
//!
//! What the table does not give is refused: there is no role that may everything. The three duty roles
//! (system, security, audit) are each held alone. A function that needs `Permit<AgentsWrite>` cannot be
//! called with a permit to read.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A part of the system that is given to roles as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// Settings, certificates, retention, backup.
    Settings,
    /// Users, roles, organisations, sessions, machine tokens.
    Access,
    /// The audit log: read, export, verify.
    Audit,
    /// Agents: enrol, configure, revoke, roll out.
    Agents,
    /// Hosts, virtual machines, applications, links and their measurements.
    Measurements,
    /// Private networks, addresses, migration.
    Migration,
    /// Control's own health.
    Health,
    /// One's own password, language, sessions.
    Account,
}

/// How much of an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing.
    None,
    /// Look.
    Read,
    /// Look and change.
    Write,
}

/// A duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the system; sees nothing of what it manages.
    SystemAdministrator,
    /// Says who may do what; does nothing of it.
    SecurityAdministrator,
    /// Looks at everything and what was done; changes nothing.
    Auditor,
    /// Works with everything that is managed, of the whole city.
    Operator,
    /// Plans and runs migrations, of the whole city.
    MigrationManager,
    /// Sees what is its own organisation's, and of those below it.
    DepartmentUser,
    /// A machine that may look and not touch.
    Reader,
}

use Level::{None as N, Read as R, Write as W};

/// The columns of [`TABLE`].
const ROLES: [Role; 7] = [
    Role::SystemAdministrator,
    Role::SecurityAdministrator,
    Role::Auditor,
    Role::Operator,
    Role::MigrationManager,
    Role::DepartmentUser,
    Role::Reader,
];

/// The separation of duties.
#[rustfmt::skip]
const TABLE: [(Area, [Level; ROLES.len()]); 8] = [
    //                    system, security, auditor, operator, migration, department, reader
    (Area::Settings,     [W,      N,        R,       N,        N,         N,          N]),
    (Area::Access,       [N,      W,        R,       N,        N,         N,          N]),
    (Area::Audit,        [N,      N,        R,       N,        N,         N,          N]),
    (Area::Agents,       [R,      N,        R,       W,        R,         N,          R]),
    (Area::Measurements, [N,      N,        R,       W,        R,         R,          R]),
    (Area::Migration,    [N,      N,        R,       R,        W,         R,          N]),
    (Area::Health,       [R,      R,        R,       R,        R,         N,          R]),
    (Area::Account,      [W,      W,        W,       W,        W,         W,          N]),
];

impl Area {
    /// All of them, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(area, _)| *area)
    }

    /// As the API names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Access => "access",
            Self::Audit => "audit",
            Self::Agents => "agents",
            Self::Measurements => "measurements",
            Self::Migration => "migration",
            Self::Health => "health",
            Self::Account => "account",
        }
    }
}

impl Role {
    /// All of them, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        ROLES.into_iter()
    }

    /// What it gives of an area.
    #[must_use]
    pub fn level(self, area: Area) -> Level {
        TABLE.iter().find(|(row, _)| *row == area).map_or(Level::None, |(_, levels)| levels[self as usize])
    }

    /// As the API and the database name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SystemAdministrator => "system_administrator",
            Self::SecurityAdministrator => "security_administrator",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
            Self::MigrationManager => "migration_manager",
            Self::DepartmentUser => "department_user",
            Self::Reader => "reader",
        }
    }

    /// The role of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::all().find(|role| role.name() == name)
    }

    /// One of the three duties, held alone.
    #[must_use]
    pub fn is_duty(self) -> bool {
        matches!(self, Self::SystemAdministrator | Self::SecurityAdministrator | Self::Auditor)
    }

    /// Whether a person can have it.
    #[must_use]
    pub fn is_for_people(self) -> bool {
        self != Self::Reader
    }

    /// Whether a machine token can have it.
    #[must_use]
    pub fn is_for_machines(self) -> bool {
        matches!(self, Self::Operator | Self::Reader)
    }

    /// Whether a person with it reaches the whole city, whatever organisation they belong to.
    fn is_city_wide(self) -> bool {
        self != Self::DepartmentUser
    }
}

/// A person's roles.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

/// Why roles do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RolesError {
    /// No role at all.
    #[error("a person has at least one role")]
    None,
    /// A duty with something else.
    #[error("the role {} is held alone: system, security and audit are separate duties", .0.name())]
    NotAlone(Role),
    /// A role of machines.
    #[error("the role {} is for machine tokens", .0.name())]
    Machine(Role),
}

impl Roles {
    /// A single role, of a person or a machine.
    #[must_use]
    pub fn one(role: Role) -> Self {
        Self(1 << role as u8)
    }

    /// The roles of a person.
    ///
    /// # Errors
    /// They do not go together.
    pub fn of_person(roles: impl IntoIterator<Item = Role>) -> Result<Self, RolesError> {
        let roles = Self(roles.into_iter().fold(0, |bits, role| bits | 1 << role as u8));
        if let Some(machine) = roles.iter().find(|role| !role.is_for_people()) {
            return Err(RolesError::Machine(machine));
        }
        match roles.iter().find(|role| role.is_duty()) {
            Some(duty) if roles != Self::one(duty) => Err(RolesError::NotAlone(duty)),
            None if roles.0 == 0 => Err(RolesError::None),
            _ => Ok(roles),
        }
    }

    /// Whether a role is among them.
    #[must_use]
    pub fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// In the order of the table.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::all().filter(move |role| self.has(*role))
    }

    /// The most that any of them gives of an area.
    #[must_use]
    pub fn level(self, area: Area) -> Level {
        self.iter().map(|role| role.level(area)).max().unwrap_or(Level::None)
    }

    /// Whether one that gives this much of an area reaches the whole city.
    pub(super) fn is_city_wide(self, area: Area, level: Level) -> bool {
        self.iter().any(|role| role.is_city_wide() && role.level(area) >= level)
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Something that can be allowed.
pub trait Capability: Send + Sync + 'static {
    /// Of what.
    const AREA: Area;
    /// How much.
    const LEVEL: Level;
}

macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident = $area:ident $level:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl Capability for $name {
            const AREA: Area = Area::$area;
            const LEVEL: Level = Level::$level;
        }
    )*};
}

/// The table's cells as types.
pub mod capability {
    use super::{Area, Capability, Level};

    capabilities! {
        /// See settings, certificates, retention.
        SettingsRead = Settings Read;
        /// Change them.
        SettingsWrite = Settings Write;
        /// See users, organisations, sessions, machine tokens (never a token's text).
        AccessRead = Access Read;
        /// Change them.
        AccessWrite = Access Write;
        /// Read, export and verify the audit log.
        AuditRead = Audit Read;
        /// See agents and their states.
        AgentsRead = Agents Read;
        /// Make enrolment tokens, configure and revoke agents.
        AgentsWrite = Agents Write;
        /// See hosts and what is measured of them.
        MeasurementsRead = Measurements Read;
        /// Change what is known of them.
        MeasurementsWrite = Measurements Write;
        /// See private networks, addresses, migrations.
        MigrationRead = Migration Read;
        /// Plan and run migrations.
        MigrationWrite = Migration Write;
        /// See control's own metrics.
        HealthRead = Health Read;
        /// Change one's own password and language, end one's own sessions.
        AccountWrite = Account Write;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_place_for_every_role_and_name() {
        for (index, role) in Role::all().enumerate() {
            assert_eq!(role as usize, index);
            assert_eq!(Role::of_name(role.name()), Some(role));
            assert_eq!(serde_json::to_value(role).expect("JSON"), role.name());
        }
        for area in Area::all() {
            assert_eq!(serde_json::to_value(area).expect("JSON"), area.name());
        }
    }

    #[test]
    fn duties_are_separate() {
        let writes = |role: Role| Area::all().filter(move |area| role.level(*area) == Level::Write);
        for duty in [Area::Settings, Area::Access] {
            for role in Role::all().filter(|role| role.level(duty) == Level::Write) {
                assert!(writes(role).all(|area| area == duty || area == Area::Account), "{role:?}");
            }
        }
        assert!(writes(Role::Auditor).all(|area| area == Area::Account));
        assert_eq!(writes(Role::Reader).count(), 0);
        assert!(Role::all().all(|role| role.level(Area::Audit) != Level::Write), "nobody writes the audit log");
    }

    #[test]
    fn a_duty_is_held_alone() {
        use Role::{Auditor, MigrationManager, Operator, Reader, SecurityAdministrator, SystemAdministrator};
        assert!(Roles::of_person([Operator, MigrationManager]).is_ok());
        assert!(Roles::of_person([Auditor, Auditor]).is_ok());
        assert_eq!(Roles::of_person([]), Err(RolesError::None));
        assert_eq!(Roles::of_person([Reader]), Err(RolesError::Machine(Reader)));
        for duty in [SystemAdministrator, SecurityAdministrator, Auditor] {
            for other in Role::all().filter(|other| *other != duty) {
                assert!(Roles::of_person([duty, other]).is_err(), "{duty:?} with {other:?}");
            }
        }
    }

    #[test]
    fn the_widest_role_decides_how_far_one_reaches() {
        let department = Roles::one(Role::DepartmentUser);
        assert!(!department.is_city_wide(Area::Measurements, Level::Read));
        let both = Roles::of_person([Role::DepartmentUser, Role::MigrationManager]).expect("they go together");
        assert!(both.is_city_wide(Area::Measurements, Level::Read));
        assert_eq!(both.level(Area::Agents), Level::Read);
    }
}
