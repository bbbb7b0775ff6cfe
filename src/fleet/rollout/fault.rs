//! Why a machine is not done: one typed cause each, said in English and Chinese. Pure.
//!
//! What must hold: no secret is in one. What a machine itself says is shortened and without control characters
//! before it gets here ([`said`]).

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error(
        "this machine's host key is not known yet: its fingerprint is {fingerprint}; compare it with the machine's own, confirm it, and resume"
    )]
    HostKeyUnknown { fingerprint: String },
    #[error(
        "THE HOST KEY HAS CHANGED: {known} was confirmed, {offered} was shown. Somebody may stand between, or the machine was set up anew; nothing was sent. If it was set up anew, delete the known key and confirm the new one"
    )]
    HostKeyChanged { known: String, offered: String },
    #[error("the machine cannot be reached: {said}")]
    Unreachable { said: String },
    #[error("the machine refuses the login of {user}: the password or the key is wrong, or this user may not log in")]
    LoginRefused { user: String },
    #[error("the private key cannot be read: it is none that OpenSSH would take, or its passphrase is wrong")]
    KeyUnreadable,
    #[error("{user} cannot become root there: {said}")]
    NoRoot { user: String, said: String },
    #[error("the connection was cut; what was done stays, and a resumed roll-out goes on from there")]
    ConnectionLost,
    #[error("the step {step} was not done within {seconds} seconds")]
    TimedOut { step: &'static str, seconds: u64 },
    #[error("this is {said}, and the agent runs on Linux")]
    NotLinux { said: String },
    #[error("control has no {program} for {architecture}; it has: {there}")]
    NoPackage { program: &'static str, architecture: String, there: String },
    #[error("the agent needs glibc {needed} or newer, and the machine has {found}")]
    GlibcTooOld { needed: String, found: String },
    #[error(
        "libvirt.so.0, with which the agent of a hypervisor is linked, is not there: install libvirt0 (Debian, Ubuntu) or libvirt-libs (CentOS, Kylin, openEuler)"
    )]
    NoLibvirt,
    #[error("the agent needs libvirt {needed} or newer, and the machine has {found}")]
    LibvirtTooOld { needed: String, found: String },
    #[error(
        "libvirt's read-only socket is not there: is this a hypervisor whose libvirtd (or virtqemud) runs? `systemctl enable --now libvirtd` starts it"
    )]
    NoLibvirtSocket,
    #[error(
        "not everybody may connect to {path} (mode {mode}), and the agent's user joins no group: libvirt's may manage as well. Set unix_sock_ro_perms = \"0777\" in /etc/libvirt/libvirtd.conf (or virtqemud.conf), or, where systemd opens the socket, SocketMode=0666 of libvirtd-ro.socket (or virtqemud-ro.socket), and restart it"
    )]
    LibvirtSocketClosed { path: String, mode: String },
    #[error("the agent's own user cannot look at libvirt: {said}")]
    LibvirtRefuses { said: String },
    #[error("{path} has {free_kib} KiB of room, and {needed_kib} KiB are needed")]
    NoSpace { path: &'static str, needed_kib: u64, free_kib: u64 },
    #[error("the machine's clock differs by {seconds} seconds from control's: set it first")]
    ClockOff { seconds: i64 },
    #[error("a program that the roll-out needs is missing on the machine: {program}")]
    Missing { program: String },
    #[error("another roll-out works on the same machine")]
    Busy,
    #[error("no agent is installed there")]
    NotInstalled,
    #[error("there is no version before the current one to go back to")]
    NoPrevious,
    #[error("the machine's agent is enrolled at another control, or this one forgot it; uninstall it first")]
    Foreign,
    #[error("what arrived on the machine is not what was sent: SHA-256 {found} instead of {wanted}")]
    ChecksumWrong { wanted: String, found: String },
    #[error("the program does not run on the machine: {said}")]
    DoesNotRun { said: String },
    #[error("the machine could not enrol: {said}")]
    NotEnrolled { said: String },
    #[error("the agent does not start: {said}")]
    NotStarted { said: String },
    #[error("the agent runs, but no record of it came within {seconds} seconds; its log says why: {said}")]
    NoReport { seconds: u64, said: String },
    #[error("a command failed on the machine ({status}): {said}")]
    Command { status: String, said: String },
    #[error("control was stopped meanwhile; a resumed roll-out goes on")]
    Interrupted,
    #[error("control itself failed; its log says why")]
    Internal,
}

impl Fault {
    /// As API and database name it.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::HostKeyUnknown { .. } => "host_key_unknown",
            Self::HostKeyChanged { .. } => "host_key_changed",
            Self::Unreachable { .. } => "unreachable",
            Self::LoginRefused { .. } => "login_refused",
            Self::KeyUnreadable => "key_unreadable",
            Self::NoRoot { .. } => "no_root",
            Self::ConnectionLost => "connection_lost",
            Self::TimedOut { .. } => "timed_out",
            Self::NotLinux { .. } => "not_linux",
            Self::NoPackage { .. } => "no_package",
            Self::GlibcTooOld { .. } => "glibc_too_old",
            Self::NoLibvirt => "no_libvirt",
            Self::LibvirtTooOld { .. } => "libvirt_too_old",
            Self::NoLibvirtSocket => "no_libvirt_socket",
            Self::LibvirtSocketClosed { .. } => "libvirt_socket_closed",
            Self::LibvirtRefuses { .. } => "libvirt_refuses",
            Self::NoSpace { .. } => "no_space",
            Self::ClockOff { .. } => "clock_off",
            Self::Missing { .. } => "missing_program",
            Self::Busy => "busy",
            Self::NotInstalled => "not_installed",
            Self::NoPrevious => "no_previous",
            Self::Foreign => "foreign",
            Self::ChecksumWrong { .. } => "checksum_wrong",
            Self::DoesNotRun { .. } => "does_not_run",
            Self::NotEnrolled { .. } => "not_enrolled",
            Self::NotStarted { .. } => "not_started",
            Self::NoReport { .. } => "no_report",
            Self::Command { .. } => "command_failed",
            Self::Interrupted => "interrupted",
            Self::Internal => "internal",
        }
    }

    /// In Chinese.
    pub(super) fn chinese(&self) -> String {
        match self {
            Self::HostKeyUnknown { fingerprint } => {
                format!("首次连接此主机，密钥指纹为 {fingerprint}；请与主机自身的指纹核对，确认后继续")
            }
            Self::HostKeyChanged { known, offered } => format!(
                "主机密钥已变更！曾确认 {known}，现出示 {offered}。可能有人冒充该主机，也可能主机已重装；未发送任何凭据。如确系重装，请先删除已知密钥，再确认新密钥"
            ),
            Self::Unreachable { said } => format!("无法连接目标主机：{said}"),
            Self::LoginRefused { user } => {
                format!("目标主机拒绝用户 {user} 登录：口令或密钥不正确，或该用户不允许登录")
            }
            Self::KeyUnreadable => "无法读取私钥：不是 OpenSSH 支持的格式，或口令短语不正确".to_owned(),
            Self::NoRoot { user, said } => format!("用户 {user} 在目标主机上无法取得 root 权限：{said}"),
            Self::ConnectionLost => "连接中断；已完成的步骤保留，继续部署时从断点接着做".to_owned(),
            Self::TimedOut { step, seconds } => format!("步骤 {step} 未在 {seconds} 秒内完成"),
            Self::NotLinux { said } => format!("目标主机是 {said}，而探针运行在 Linux 上"),
            Self::NoPackage { program, architecture, there } => {
                format!("控制端没有适用于 {architecture} 的 {program}；现有：{there}")
            }
            Self::GlibcTooOld { needed, found } => format!("探针需要 glibc {needed} 或更新版本，目标主机为 {found}"),
            Self::NoLibvirt => "缺少宿主机探针所链接的 libvirt.so.0：请安装 libvirt0（Debian、Ubuntu）或 libvirt-libs（CentOS、麒麟、openEuler）".to_owned(),
            Self::LibvirtTooOld { needed, found } => {
                format!("探针需要 libvirt {needed} 或更新版本，目标主机为 {found}")
            }
            Self::NoLibvirtSocket => "没有 libvirt 的只读套接字：目标主机是否为宿主机，libvirtd（或 virtqemud）是否在运行？可用 `systemctl enable --now libvirtd` 启动".to_owned(),
            Self::LibvirtSocketClosed { path, mode } => format!(
                "{path} 未对所有用户开放（权限 {mode}），而 libvirt 的用户组同时具有管理权限，探针的专用用户不会加入：请在 /etc/libvirt/libvirtd.conf（或 virtqemud.conf）中设置 unix_sock_ro_perms = \"0777\"；套接字由 systemd 打开时，改为设置 libvirtd-ro.socket（或 virtqemud-ro.socket）的 SocketMode=0666；然后重启该服务"
            ),
            Self::LibvirtRefuses { said } => format!("探针的专用用户无法查看 libvirt：{said}"),
            Self::NoSpace { path, needed_kib, free_kib } => {
                format!("{path} 剩余空间 {free_kib} KiB，需要 {needed_kib} KiB")
            }
            Self::ClockOff { seconds } => format!("目标主机的时钟与控制端相差 {seconds} 秒：请先校准"),
            Self::Missing { program } => format!("目标主机缺少部署所需的程序：{program}"),
            Self::Busy => "另一个部署任务正在处理同一台主机".to_owned(),
            Self::NotInstalled => "目标主机上没有安装探针".to_owned(),
            Self::NoPrevious => "没有可以回退的上一版本".to_owned(),
            Self::Foreign => "目标主机的探针登记在另一个控制端，或本控制端已无其记录；请先卸载".to_owned(),
            Self::ChecksumWrong { wanted, found } => {
                format!("目标主机收到的内容与发送的不一致：SHA-256 为 {found}，应为 {wanted}")
            }
            Self::DoesNotRun { said } => format!("程序无法在目标主机上运行：{said}"),
            Self::NotEnrolled { said } => format!("目标主机登记失败：{said}"),
            Self::NotStarted { said } => format!("探针未能启动：{said}"),
            Self::NoReport { seconds, said } => {
                format!("探针已启动，但 {seconds} 秒内没有收到它的记录；原因见其日志：{said}")
            }
            Self::Command { status, said } => format!("目标主机上的命令失败（{status}）：{said}"),
            Self::Interrupted => "控制端在此期间停止；可以继续部署".to_owned(),
            Self::Internal => "控制端自身出现故障，原因见其日志".to_owned(),
        }
    }
}

/// What a machine says, fit for a log and a screen: its last lines as one, short, without control characters.
pub(super) fn said(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(3)..];
    let mut short: String = last.join(" / ").chars().filter(|c| !c.is_control()).take(400).collect();
    if short.is_empty() {
        short.push('-');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_says_cannot_harm_a_screen() {
        assert_eq!(said("  \n"), "-");
        assert_eq!(said("a\r\nb\n\nc\nd\n"), "b / c / d");
        assert_eq!(said("\u{1b}[31mred\u{7}"), "[31mred");
        assert_eq!(said(&"x".repeat(10_000)).len(), 400);
    }

    #[test]
    fn each_is_said_in_both_languages() {
        let text = String::new;
        for fault in [
            Fault::HostKeyUnknown { fingerprint: text() },
            Fault::HostKeyChanged { known: text(), offered: text() },
            Fault::Unreachable { said: text() },
            Fault::LoginRefused { user: text() },
            Fault::KeyUnreadable,
            Fault::NoRoot { user: text(), said: text() },
            Fault::ConnectionLost,
            Fault::TimedOut { step: "check", seconds: 1 },
            Fault::NotLinux { said: text() },
            Fault::NoPackage { program: "tongtu-agent", architecture: text(), there: text() },
            Fault::GlibcTooOld { needed: text(), found: text() },
            Fault::NoLibvirt,
            Fault::LibvirtTooOld { needed: text(), found: text() },
            Fault::NoLibvirtSocket,
            Fault::LibvirtSocketClosed { path: text(), mode: text() },
            Fault::LibvirtRefuses { said: text() },
            Fault::NoSpace { path: "/opt", needed_kib: 2, free_kib: 1 },
            Fault::ClockOff { seconds: 90_000 },
            Fault::Missing { program: text() },
            Fault::Busy,
            Fault::NotInstalled,
            Fault::NoPrevious,
            Fault::Foreign,
            Fault::ChecksumWrong { wanted: text(), found: text() },
            Fault::DoesNotRun { said: text() },
            Fault::NotEnrolled { said: text() },
            Fault::NotStarted { said: text() },
            Fault::NoReport { seconds: 1, said: text() },
            Fault::Command { status: text(), said: text() },
            Fault::Interrupted,
            Fault::Internal,
        ] {
            assert!(fault.to_string().is_ascii(), "{fault:?}");
            assert!(!fault.chinese().is_ascii(), "{fault:?}");
            assert!(fault.code().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{fault:?}");
        }
    }
}
