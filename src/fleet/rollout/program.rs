//! The programs that are rolled out, and what each has of its own on a machine. Pure.
//!
//! What must hold: directories, user and service bear the program's name, so both stand side by side on one machine
//! and no step of one touches the other.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which agent, named as the kind of agents that it enrols.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// The agent of a host, `tongtu-agent`.
    #[default]
    Host,
    /// The agent of a hypervisor, `tongtu-agent-libvirt`: it links the libvirt of the machine's distribution, and
    /// reads its read-only socket.
    Libvirt,
}

impl Program {
    /// Every one.
    const ALL: [Self; 2] = [Self::Host, Self::Libvirt];

    /// As API and database name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Libvirt => "libvirt",
        }
    }

    /// The program of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.name() == name)
    }

    /// Its file, its user and its service.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Host => "tongtu-agent",
            Self::Libvirt => "tongtu-agent-libvirt",
        }
    }

    /// The program of a file.
    pub(super) fn of_file(file: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.file() == file)
    }

    /// Where its versions are.
    pub(super) fn directory(self) -> &'static str {
        match self {
            Self::Host => "/opt/tongtu-agent",
            Self::Libvirt => "/opt/tongtu-agent-libvirt",
        }
    }

    /// Where its identity and spool are.
    pub(super) fn data(self) -> &'static str {
        match self {
            Self::Host => "/var/lib/tongtu-agent",
            Self::Libvirt => "/var/lib/tongtu-agent-libvirt",
        }
    }

    /// What it does, as service managers show it.
    fn description(self) -> &'static str {
        match self {
            Self::Host => "Tongtu agent: reports what this machine does and is",
            Self::Libvirt => "Tongtu agent: reports what the virtual machines of this hypervisor do and are",
        }
    }

    /// A text with this program's names in it.
    pub(super) fn in_text(self, text: &str) -> String {
        text.replace("@program@", self.file()).replace("@description@", self.description())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_of_everything() {
        for program in Program::ALL {
            assert_eq!(Program::of_name(program.name()), Some(program));
            assert_eq!(Program::of_file(program.file()), Some(program));
            assert_eq!(serde_json::to_value(program).expect("JSON"), program.name());
            assert_eq!(program.directory(), format!("/opt/{}", program.file()));
            assert_eq!(program.data(), format!("/var/lib/{}", program.file()));
            // useradd takes no longer name.
            assert!(program.file().len() <= 31);
        }
        assert_eq!(Program::default(), Program::Host);
        assert_eq!(Program::of_name("tongtu-agent"), None);
    }
}
