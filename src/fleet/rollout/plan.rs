//! What a roll-out does to a machine, step by step. Pure.
//!
//! What must hold: a step that was done already does no harm when it is done again, so a half-done machine is
//! resumed by doing its plan once more.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is to become of the agent on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is put there, enrolled and started; one of another version is replaced.
    Install,
    /// One that is there is replaced by control's version.
    Upgrade,
    /// The version before takes its place again.
    Rollback,
    /// It is stopped and removed, with its data and its identity.
    Uninstall,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Connect, verify the host key, log in, find out how to become root.
    Connect,
    /// Look at the machine: system, architecture, C library, room, clock, what is installed.
    Check,
    /// Bring the program there, and compare its SHA-256.
    Upload,
    /// Make it the current version, keep the one before.
    Activate,
    /// Give the machine its identity, with a token for it alone.
    Enrol,
    /// Set up the service that starts it with the machine.
    Service,
    /// Start it, or start it anew.
    Start,
    /// Wait until control has a record of it.
    Report,
    /// Stop it and remove its service.
    Stop,
    /// Remove program, data and user.
    Remove,
}

use Step::{Activate, Check, Connect, Enrol, Remove, Report, Service, Start, Stop, Upload};

impl Action {
    /// Its steps, in order.
    #[must_use]
    pub fn plan(self) -> &'static [Step] {
        match self {
            Self::Install => &[Connect, Check, Upload, Activate, Enrol, Service, Start, Report],
            Self::Upgrade => &[Connect, Check, Upload, Activate, Service, Start, Report],
            Self::Rollback => &[Connect, Check, Activate, Start, Report],
            Self::Uninstall => &[Connect, Check, Stop, Remove],
        }
    }

    /// Whether control's program is brought to the machine.
    #[must_use]
    pub fn brings_a_program(self) -> bool {
        self.plan().contains(&Upload)
    }

    /// As API and database name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade",
            Self::Rollback => "rollback",
            Self::Uninstall => "uninstall",
        }
    }

    /// The action of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Install, Self::Upgrade, Self::Rollback, Self::Uninstall].into_iter().find(|one| one.name() == name)
    }
}

/// Every step.
const STEPS: [Step; 10] = [Connect, Check, Upload, Activate, Enrol, Service, Start, Report, Stop, Remove];

impl Step {
    /// As API and database name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Connect => "connect",
            Check => "check",
            Upload => "upload",
            Activate => "activate",
            Enrol => "enrol",
            Service => "service",
            Start => "start",
            Report => "report",
            Stop => "stop",
            Remove => "remove",
        }
    }

    /// The step of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        STEPS.into_iter().find(|step| step.name() == name)
    }

    /// Whether it changes the machine: a dry run stops before.
    #[must_use]
    pub fn changes(self) -> bool {
        !matches!(self, Connect | Check)
    }

    /// What it will do, for a dry run, in English and Chinese.
    #[must_use]
    pub fn says(self) -> [&'static str; 2] {
        match self {
            Connect => ["connect, verify the host key, log in", "连接，核对主机密钥，登录"],
            Check => ["look at the machine, change nothing", "检查目标主机，不做任何修改"],
            Upload => ["bring the program there and compare its SHA-256", "上传程序并核对 SHA-256"],
            Activate => ["make it the current version, keep the one before", "切换为当前版本，保留上一版本"],
            Enrol => ["enrol the machine with a token for it alone", "使用仅供本机的一次性令牌登记"],
            Service => ["set up the service that starts with the machine", "设置随系统启动的服务"],
            Start => ["start the agent, or start it anew", "启动（或重新启动）探针"],
            Report => ["wait until control has a record of it", "等待控制端收到它的第一条记录"],
            Stop => ["stop the agent and remove its service", "停止探针并移除其服务"],
            Remove => ["remove program, data and user", "删除程序、数据和用户"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_looks_before_it_changes() {
        for action in [Action::Install, Action::Upgrade, Action::Rollback, Action::Uninstall] {
            let plan = action.plan();
            assert_eq!(plan[..2], [Connect, Check], "{action:?}");
            assert!(plan[2..].iter().all(|step| step.changes()), "{action:?}");
            assert_eq!(Action::of_name(action.name()), Some(action));
            assert_eq!(serde_json::to_value(action).expect("JSON"), action.name());
            // What runs afterwards is proved by a record, not by a command that said so.
            assert_eq!(plan.last() == Some(&Report), action != Action::Uninstall);
        }
    }

    #[test]
    fn every_step_has_its_name_and_its_words() {
        for step in STEPS {
            assert_eq!(Step::of_name(step.name()), Some(step));
            assert_eq!(serde_json::to_value(step).expect("JSON"), step.name());
            let [english, chinese] = step.says();
            assert!(english.is_ascii() && !chinese.is_ascii(), "{step:?}");
        }
    }

    #[test]
    fn only_what_has_an_identity_is_upgraded_without_a_token() {
        assert!(Action::Install.plan().contains(&Enrol));
        assert!(!Action::Upgrade.plan().contains(&Enrol) && !Action::Rollback.plan().contains(&Upload));
    }
}
