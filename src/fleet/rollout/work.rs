//! One machine, through its steps. How far it is, and what was said, is written after each of them.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::DbErr;
use serde_json::json;

use super::facts::{self, Facts};
use super::fault::{Fault, said};
use super::layout;
use super::packages::{self, Package, hex};
use super::plan::{Action, Step};
use super::program::Program;
use super::ssh::{self, Connection};
use super::{Line, Rollouts, Run, State, Target, Told, place, store};
use crate::access::audit::Change;
use crate::fleet::AgentInfo;
use crate::fleet::authority::sha256;
use crate::fleet::state::AgentState;
use crate::platform::clock::UnixMs;
use crate::platform::ids::AgentId;

/// An enrolment takes no longer, so its token does not live longer.
const TOKEN: Duration = Duration::from_secs(300);
/// A machine has enrolled within this.
const ENROL: Duration = Duration::from_secs(100);
/// A record of an agent comes within this after its start.
const REPORT: Duration = Duration::from_secs(120);
/// How often control looks for it, in its own memory.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a step may take.
fn limit(step: Step) -> Duration {
    Duration::from_secs(match step {
        // A program of a few megabytes, over a narrow line.
        Step::Upload => 1_800,
        Step::Enrol => 120,
        Step::Report => REPORT.as_secs() + 30,
        Step::Start | Step::Stop => 90,
        _ => 60,
    })
}

/// Does what was ordered on a machine, and writes what came of it.
pub(super) async fn carry_out(rollouts: &Rollouts, run: &Run, target: Target) {
    let mut work = Work { rollouts, run, target, lines: Vec::new(), written: 0 };
    let result = match work.open().await {
        Ok(()) => work.connect().await,
        Err(fault) => Err(fault),
    };
    work.end(result).await;
}

struct Work<'a> {
    rollouts: &'a Rollouts,
    run: &'a Run,
    target: Target,
    /// Not written yet.
    lines: Vec<Line>,
    written: i64,
}

/// What the steps after the check know.
struct Known {
    facts: Facts,
    /// Directory of the version that is to be the current one.
    version: String,
    package: Option<Package>,
    /// When the agent was started, on control's clock.
    started_ms: UnixMs,
}

fn broken(error: &dyn std::fmt::Display) -> Fault {
    tracing::error!(%error, "a roll-out cannot go on");
    Fault::Internal
}

impl Work<'_> {
    /// Lines of earlier runs stay.
    async fn open(&mut self) -> Result<(), Fault> {
        let read = self.rollouts.0.fleet.db.read();
        let lines = store::lines_fetch(read, self.target.rollout, self.target.number).await;
        self.written = lines.map_err(|error| broken(&error))?.len() as i64;
        Ok(())
    }

    fn program(&self) -> Program {
        self.run.rollout.program
    }

    fn now_ms(&self) -> UnixMs {
        self.rollouts.0.fleet.clock.now_ms()
    }

    fn note(&mut self, english: impl Into<String>, chinese: impl Into<String>) {
        // A machine may repeat what it was given.
        let [english, chinese]: [String; 2] = [english.into(), chinese.into()];
        let [english, chinese] = [english, chinese].map(|text| self.run.credential.without(&text));
        self.lines.push(Line { at_ms: self.now_ms(), step: self.target.step, english, chinese });
    }

    async fn save(&mut self) -> Result<(), Fault> {
        self.target.updated_ms = self.now_ms();
        let saved = self.written_down(None).await;
        saved.map_err(|error| broken(&error))
    }

    async fn written_down(&mut self, change: Option<Change>) -> Result<(), DbErr> {
        let fleet = &self.rollouts.0.fleet;
        let transaction = fleet.db.begin("rollout_target").await?;
        store::target_save(&transaction, &self.target, &self.lines, self.written).await?;
        let recorded = match change {
            Some(change) => Some(fleet.access.record(&transaction, &self.run.permit, change).await?),
            None => None,
        };
        transaction.commit().await?;
        if let Some(recorded) = recorded {
            fleet.access.recorded(recorded);
        }
        self.written += self.lines.len() as i64;
        self.lines.clear();
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<(), Fault> {
        (self.target.state, self.target.step) = (State::Running, Some(step));
        self.save().await
    }

    async fn end(&mut self, result: Result<(), Fault>) {
        match result {
            Ok(()) => {
                (self.target.state, self.target.fault) = (State::Done, None);
                self.note("done", "完成");
            }
            Err(fault) => {
                // What is said of a fault may repeat what a machine said.
                let Told { code, english, chinese } = Told::from(&fault);
                let [english, chinese] = [english, chinese].map(|text| self.run.credential.without(&text));
                self.note(english.clone(), chinese.clone());
                self.target.state = State::Failed;
                self.target.fault = Some(Told { code, english, chinese });
            }
        }
        self.target.updated_ms = self.now_ms();
        let Target { rollout, number, state, agent, version, .. } = &self.target;
        let at = place(&self.target.address, self.target.port);
        let fault = self.target.fault.as_ref().map(|fault| fault.code.clone());
        tracing::info!(%rollout, machine = at, state = state.name(), fault, "a machine of a roll-out");
        let change = (!self.run.rollout.dry_run).then(|| Change {
            action: "rollout.machine",
            resource: format!("{rollout}/{number}"),
            before: json!({ "version": self.target.version_before }),
            after: json!({
                "machine": at, "action": self.run.rollout.action.name(),
                "program": self.program().name(), "state": state.name(), "fault": fault,
                "step": self.target.step.map(Step::name), "agent": agent.map(|agent| agent.to_string()), "version": version,
            }),
        });
        if let Err(error) = self.written_down(change).await {
            tracing::error!(%error, "what came of a machine of a roll-out could not be written");
        }
    }

    async fn connect(&mut self) -> Result<(), Fault> {
        self.step(Step::Connect).await?;
        let (address, port, user) = (self.target.address.clone(), self.target.port, self.target.user.clone());
        let read = self.rollouts.0.fleet.db.read();
        let known = store::key_fetch(read, self.run.rollout.organization, (&address, port)).await;
        let known = known.map_err(|error| broken(&error))?.map(|known| known.key);
        let connecting = ssh::connect((&address, port), &user, &self.run.credential, known.as_ref());
        let connected = tokio::time::timeout(limit(Step::Connect), connecting).await;
        let (offered, connection) = connected.unwrap_or((None, Err(timed_out(Step::Connect))));
        if let Some(offered) = &offered {
            let (algorithm, fingerprint) = (&offered.algorithm, &offered.fingerprint);
            self.note(format!("host key {algorithm} {fingerprint}"), format!("主机密钥 {algorithm} {fingerprint}"));
        }
        self.target.offered = offered;
        let connection = connection?;
        self.note(format!("logged in as {user}"), format!("已以 {user} 登录"));
        let done = self.look(&connection).await;
        connection.close().await;
        done
    }

    async fn look(&mut self, connection: &Connection) -> Result<(), Fault> {
        self.step(Step::Check).await?;
        let (program, script) = (self.program(), facts::script(self.program()));
        let asking = connection.run(&script, &[]);
        let printed = tokio::time::timeout(limit(Step::Check), asking).await.map_err(|_| timed_out(Step::Check))??;
        let facts = Facts::read(&printed.ok()?);
        for [english, chinese] in facts.shown(program, self.now_ms()) {
            self.note(english, chinese);
        }
        // The same machine under another name. (Copies of one machine share its identity, not its name.)
        let machine = format!("machine {} {}", facts.machine_id.as_deref().unwrap_or("-"), facts.hostname);
        let _occupied = self.rollouts.occupy(vec![machine]).map_err(|_| Fault::Busy)?;
        let action = self.run.rollout.action;
        let package = match action.brings_a_program() {
            true => Some(packages::choose(&self.run.packages, program, facts.package_architecture())?.clone()),
            false => None,
        };
        facts.judge(action, package.as_ref(), self.now_ms())?;
        if action != Action::Uninstall && facts.agent.is_some() && self.ours(&facts).is_none() {
            return Err(Fault::Foreign);
        }
        let version = match (&package, &self.target.version, action) {
            (Some(package), ..) => package.directory(),
            // A way back that was begun goes on to where it led, not back again.
            (None, Some(begun), Action::Rollback) => begun.clone(),
            (None, None, Action::Rollback) => facts.previous.clone().ok_or(Fault::NoPrevious)?,
            (None, ..) => facts.current.clone().unwrap_or_default(),
        };
        if self.target.version.is_none() {
            self.target.version_before.clone_from(&facts.current);
        }
        let dry_run = self.run.rollout.dry_run;
        if !dry_run && !version.is_empty() {
            self.target.version = Some(version.clone());
        }
        let mut known = Known { facts, version, package, started_ms: self.now_ms() };
        for step in action.plan().iter().copied().filter(|step| step.changes()) {
            if dry_run {
                self.target.step = Some(step);
                let [english, chinese] = step.says();
                self.note(format!("would: {english}"), format!("将会：{chinese}"));
                continue;
            }
            self.step(step).await?;
            let doing = self.change(step, connection, &mut known);
            let done = tokio::time::timeout(limit(step), doing).await.map_err(|_| timed_out(step)).flatten();
            if done.is_err() && action.brings_a_program() && matches!(step, Step::Service | Step::Start | Step::Report)
            {
                self.go_back(connection, &known).await;
            }
            done?;
        }
        Ok(())
    }

    /// What ran before runs again, if the machine still answers: a program that does not run is no reason to have none.
    async fn go_back(&mut self, connection: &Connection, known: &Known) {
        let Some(before) = self.target.version_before.clone().filter(|before| *before != known.version) else { return };
        let script = layout::activate(self.program(), &before) + &layout::start(self.program(), known.facts.init);
        let going = tokio::time::timeout(limit(Step::Start), connection.run(&script, &[]));
        match going.await.map_err(|_| timed_out(Step::Start)).flatten().and_then(super::ssh::Printed::ok) {
            Ok(_) => self.note(
                format!("{before}, which was there before, is the current version again and was started"),
                format!("已恢复并启动先前的版本 {before}"),
            ),
            Err(fault) => self.note(
                format!("the version before, {before}, could not be started again: {fault}"),
                format!("未能恢复先前的版本 {before}：{}", fault.chinese()),
            ),
        }
    }

    async fn change(&mut self, step: Step, connection: &Connection, known: &mut Known) -> Result<(), Fault> {
        let (program, init) = (self.program(), known.facts.init);
        match step {
            Step::Connect | Step::Check => Ok(()),
            Step::Upload => self.upload(connection, known).await,
            Step::Activate => {
                connection.run(&layout::activate(program, &known.version), &[]).await?.ok()?;
                self.note(format!("current: {}", known.version), format!("当前版本：{}", known.version));
                Ok(())
            }
            Step::Enrol => self.enrol(connection, known).await,
            Step::Service => {
                let (service, text) = (layout::service(program, init), layout::service_text(program, init));
                let printed = connection.run(&service, text.as_bytes()).await?.ok()?;
                if let Some(why) = printed.lines().find_map(|line| line.strip_prefix("boot=")) {
                    let why = said(why);
                    self.note(format!("it will not start with the machine: {why}"), format!("它不会随系统启动：{why}"));
                }
                if program == Program::Libvirt {
                    self.probe(connection).await?;
                }
                Ok(())
            }
            Step::Start => {
                known.started_ms = self.now_ms();
                let started = connection.run(&layout::start(program, init), &[]).await?;
                match started.status {
                    Some(0) => Ok(()),
                    _ => Err(Fault::NotStarted { said: said(&started.err) }),
                }
            }
            Step::Report => self.report(connection, known).await,
            Step::Stop => connection.run(&layout::stop(program), &[]).await?.ok().map(drop),
            Step::Remove => {
                connection.run(&layout::remove(program), &[]).await?.ok()?;
                // Another control's agent of the same number is not this one's to revoke.
                if let Some(AgentInfo { id: agent, .. }) = self.ours(&known.facts) {
                    self.target.agent = Some(agent);
                    self.note(
                        format!("{agent} has no machine any more: `tongtu agent revoke {agent}`"),
                        format!("{agent} 已无主机：可执行 `tongtu agent revoke {agent}` 吊销"),
                    );
                }
                Ok(())
            }
        }
    }

    /// A record says that the agent runs, not that libvirt lets it look.
    async fn probe(&mut self, connection: &Connection) -> Result<(), Fault> {
        let tried = connection.run(&layout::probe(self.program()), &[]).await?;
        if tried.status != Some(0) {
            return Err(Fault::LibvirtRefuses { said: said(&format!("{}\n{}", tried.out, tried.err)) });
        }
        self.note("its user can look at libvirt", "其专用用户可以查看 libvirt");
        Ok(())
    }

    async fn upload(&mut self, connection: &Connection, known: &Known) -> Result<(), Fault> {
        let owner = self.program();
        let Some(package) = &known.package else { return Err(Fault::Internal) };
        let looked = connection.run(&layout::look(owner, &known.version), &[]).await?.ok()?;
        let value = |key: &str| looked.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        if value("whole=") == Some(package.sha256.as_str()) {
            self.note("the program is there already", "程序已在目标主机上");
        } else {
            let program = self.bytes(package).await?;
            let part = value("part=").and_then(|part| part.split_once(' '));
            let from = part.map_or(0, |(bytes, digest)| resumed(&program, bytes, digest));
            let (size, rest) = (program.len(), program.len() - from);
            match from {
                0 => self.note(format!("uploading {size} bytes"), format!("上传 {size} 字节")),
                _ => self.note(
                    format!("{from} of {size} bytes are there; uploading the other {rest}"),
                    format!("已有 {from}/{size} 字节，继续上传其余 {rest} 字节"),
                ),
            }
            self.save().await?;
            let taken = connection.run(&layout::take(owner, &known.version, from == 0), &program[from..]).await?;
            if taken.status != Some(0) {
                if !taken.err.contains("No space left") {
                    return Err(taken.fault());
                }
                connection.run(&layout::give_up(owner, &known.version), &[]).await?.ok()?;
                return Err(Fault::NoSpace {
                    path: owner.directory(),
                    needed_kib: (size as u64).div_ceil(1024),
                    free_kib: 0,
                });
            }
            let finished = connection.run(&layout::finish(owner, &known.version, &package.sha256), &[]).await?.ok()?;
            let found = finished.trim().trim_start_matches("found=").trim();
            if found != package.sha256 {
                return Err(Fault::ChecksumWrong { wanted: package.sha256.clone(), found: said(found) });
            }
            self.note(format!("SHA-256 {found}"), format!("SHA-256 {found}"));
        }
        let tried = connection.run(&layout::try_out(owner, &known.version), &[]).await?;
        if tried.status != Some(0) {
            return Err(Fault::DoesNotRun { said: said(&tried.err) });
        }
        self.note(said(&tried.out), said(&tried.out));
        Ok(())
    }

    /// A package's bytes, read once for all machines of the run.
    async fn bytes(&self, package: &Package) -> Result<Arc<Vec<u8>>, Fault> {
        let mut programs = self.run.programs.lock().await;
        if let Some((_, program)) = programs.iter().find(|(sha256, _)| *sha256 == package.sha256) {
            return Ok(Arc::clone(program));
        }
        let (directory, wanted) = (self.rollouts.0.directory.clone(), package.clone());
        let reading = tokio::task::spawn_blocking(move || packages::load(&directory, &wanted)).await;
        let program = Arc::new(reading.map_err(|error| broken(&error))?.map_err(|error| broken(&error))?);
        programs.push((package.sha256.clone(), Arc::clone(&program)));
        Ok(program)
    }

    /// The agent that a machine says it is, if it is one of this control that the permit sees. Another control has an
    /// agent of the same number.
    fn ours(&self, facts: &Facts) -> Option<AgentInfo> {
        let fleet = &self.rollouts.0.fleet;
        let id: AgentId = facts.agent.as_deref()?.parse().ok()?;
        let is_ours = facts.authority == Some(fleet.ca_fingerprint());
        fleet.agent_shown(&self.run.permit, id).filter(|_| is_ours)
    }

    async fn enrol(&mut self, connection: &Connection, known: &Known) -> Result<(), Fault> {
        let fleet = &self.rollouts.0.fleet;
        let mut replace = false;
        if let Some(agent) = &known.facts.agent {
            let Some(info) = self.ours(&known.facts) else { return Err(Fault::Foreign) };
            if info.state != AgentState::Revoked {
                self.target.agent = Some(info.id);
                self.note(format!("it is {agent} already"), format!("已登记为 {agent}"));
                let (owner, ordered) = (info.organization, self.target.organization);
                if owner != ordered {
                    self.note(
                        format!("it stays with {owner}, to which it belongs, and is not given to {ordered}: uninstall it first to enrol it there"),
                        format!("它仍归 {owner}，不会改归 {ordered}；如需改归，请先卸载再安装"),
                    );
                }
                return Ok(());
            }
            replace = true;
        }
        let made = fleet.token_create(&self.run.permit, TOKEN, 1, Some(self.target.organization)).await;
        let (token, text) = made.map_err(|error| broken(&error))?;
        let text = zeroize::Zeroizing::new(format!("{text}\n"));
        // Within the step's time, so that what follows is done whatever comes.
        let enrolling = layout::enrol(self.program(), &known.version, replace);
        let tried = tokio::time::timeout(ENROL, connection.run(&enrolling, text.as_bytes())).await;
        let tried = tried.map_err(|_| timed_out(Step::Enrol)).flatten();
        let agent = fleet.agent_enrolled_with(token.id);
        match agent {
            // Nobody else shall use it.
            None => fleet.token_revoke(&self.run.permit, token.id).await.map(drop).map_err(|error| broken(&error))?,
            Some(agent) => self.target.agent = Some(agent),
        }
        if let Some(agent) = agent
            && !tried.as_ref().is_ok_and(|tried| tried.status == Some(0))
        {
            // Whether its machine heard of it is not known: whoever goes on enrols anew.
            let revoked = fleet.agent_revoke(&self.run.permit, agent).await.map_err(|error| broken(&error))?;
            revoked.ok_or_else(|| broken(&format!("{agent} is not seen any more, and so is not revoked")))?;
            self.note(
                format!("{agent} was enrolled, but its machine may not know; it is revoked"),
                format!("{agent} 已登记，但目标主机可能未收到；现已吊销"),
            );
        }
        let tried = tried?;
        match agent {
            Some(agent) if tried.status == Some(0) => {
                self.note(format!("enrolled as {agent}"), format!("已登记为 {agent}"));
                Ok(())
            }
            _ => Err(Fault::NotEnrolled { said: said(&tried.err) }),
        }
    }

    /// Until control has a record of the process that was started, and not of the one before.
    async fn report(&mut self, connection: &Connection, known: &Known) -> Result<(), Fault> {
        if self.target.agent.is_none() {
            self.target.agent = self.ours(&known.facts).map(|agent| agent.id);
        }
        let Some(agent) = self.target.agent else { return Err(Fault::Foreign) };
        let fleet = &self.rollouts.0.fleet;
        let version = known.package.as_ref().map(|package| package.version.as_str());
        let came = async {
            loop {
                let there = fleet.directory.get(agent).filter(|agent| agent.has_reported_anew(known.started_ms));
                let info = there.and_then(|_| fleet.agent(agent));
                match info.filter(|info| version.is_none_or(|version| info.version == version)) {
                    Some(info) => return info,
                    None => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
        };
        match tokio::time::timeout(REPORT, came).await {
            Ok(info) => {
                let AgentInfo { hostname, version, .. } = info;
                self.note(
                    format!("{agent} ({hostname}, {version}) reports"),
                    format!("{agent}（{hostname}，{version}）已上报"),
                );
                connection.run(&layout::good(self.program(), &known.version), &[]).await?.ok()?;
                Ok(())
            }
            Err(_) => {
                let log = connection.run(&layout::log(self.program(), known.facts.init), &[]).await?;
                Err(Fault::NoReport { seconds: REPORT.as_secs(), said: said(&log.out) })
            }
        }
    }
}

fn timed_out(step: Step) -> Fault {
    Fault::TimedOut { step: step.name(), seconds: limit(step).as_secs() }
}

/// How many bytes of a program are there, if they are its beginning.
fn resumed(program: &[u8], bytes: &str, digest: &str) -> usize {
    let bytes: usize = bytes.parse().unwrap_or(0);
    match program.get(..bytes) {
        Some(beginning) if bytes > 0 && hex(&sha256(beginning)) == digest.trim() => bytes,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_beginning_is_gone_on_from() {
        let digest = |bytes: &[u8]| hex(&sha256(bytes));
        let program = b"0123456789";
        for (bytes, of, expected) in [
            ("4", &program[..4], 4),
            ("10", &program[..], 10),
            ("0", &program[..0], 0),
            ("4", b"0124".as_slice(), 0),
            ("11", b"01234567890".as_slice(), 0),
            ("x", &program[..4], 0),
            ("-1", &program[..4], 0),
        ] {
            assert_eq!(resumed(program, bytes, &digest(of)), expected, "{bytes}");
        }
    }

    #[test]
    fn a_token_outlives_its_step_and_little_else() {
        assert!(TOKEN > limit(Step::Enrol) && limit(Step::Enrol) > ENROL && limit(Step::Report) > REPORT);
        assert_eq!(timed_out(Step::Check).to_string(), "the step check was not done within 60 seconds");
    }
}
