//! What every virtual machine used over the last day, week and month: measured by a pass over all of them now and
//! then, so that a question about ten thousand is answered from memory.
//!
//! What must hold: a machine's figures are of the time since its present owner has it; those of a host, provider or
//! organisation are sums slot by slot, ranked afterwards; what was not measured is in no figure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::Compute;
use super::figures::{IDLE, label};
use super::review::{self, Finding, Measured};
use super::usage::{Slots, Sum, Usage};
use super::vm::Vm;
use super::vm::figures::{VmPlan, figures};
use crate::platform::background;
use crate::platform::clock::UnixMs;
use crate::platform::ids::{HostId, OrganizationId, ProviderId, VmId};
use crate::platform::shutdown::Shutdown;
use crate::telemetry::query::QueryError;
use crate::telemetry::{Part, Points, Series, SeriesQuery, SourceView};
use tokio::runtime::Handle;

/// Periods, in days; each ends at the last whole slot.
pub(super) const PERIODS: [u32; 3] = [1, 7, 30];
/// Between two passes: a hundred times as long as a pass takes (a city of 10,000 machines costs minutes, a small one
/// or a young one nothing), a slot at least and this at most.
const LONGEST: Duration = Duration::from_secs(3_600);
const TIMES: u32 = 100;
/// After the start, and after the end of a slot as long as nothing was measured.
const FIRST: Duration = Duration::from_secs(30);
pub(super) const SLOT_MS: i64 = 300_000;
const SLOT: Duration = Duration::from_millis(SLOT_MS as u64);
const DAY_MS: i64 = 86_400_000;
const SLOTS_OF_DAY: usize = (DAY_MS / SLOT_MS) as usize;
/// From Unix time to the hours of Asia/Shanghai.
const SHANGHAI_MS: i64 = 8 * 3_600_000;

const CPU: &str = "libvirt_domain_info_cpu_time_seconds_total";
const AVAILABLE: &str = "libvirt_domain_memory_stats_available_bytes";
const UNUSED: &str = "libvirt_domain_memory_stats_unused_bytes";
const USABLE: &str = "libvirt_domain_memory_stats_usable_bytes";
const RESIDENT: &str = "libvirt_domain_memory_stats_rss_bytes";
const VCPUS: &str = "libvirt_domain_info_virtual_cpus";
/// The same as a machine's own agent names it.
const HOST_CPU: &str = "node_cpu_seconds_total";
const HOST_MEMORY: &str = "node_memory_MemTotal_bytes";
const HOST_AVAILABLE: &str = "node_memory_MemAvailable_bytes";
const METRICS: [&str; 6] = [CPU, AVAILABLE, UNUSED, USABLE, RESIDENT, VCPUS];

/// What was used of what a thing was given or has.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Used {
    /// Processors that were busy.
    pub cpus: Option<Usage>,
    /// Memory of hosts that was taken.
    pub memory_bytes: Option<Usage>,
}

/// What a group's machines used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct GroupUsed {
    /// All of them.
    pub all: Used,
    /// Those on hypervisors of ours.
    pub placed: Used,
}

/// A machine over a period.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct VmUse {
    /// Whose it was when it was surveyed, and since when.
    pub owned: (OrganizationId, UnixMs),
    pub from_ms: UnixMs,
    /// In percent of what it was given.
    pub cpu: Option<Usage>,
    pub memory: Option<Usage>,
    pub finding: Finding,
}

impl VmUse {
    /// As who owns it now may know it: of its time with another owner nothing, until it is surveyed again.
    pub(super) fn of_owner(&self, owned: (OrganizationId, UnixMs)) -> Cow<'_, Self> {
        if self.owned == owned {
            return Cow::Borrowed(self);
        }
        let from_ms = self.from_ms.max(owned.1);
        Cow::Owned(Self { owned, from_ms, cpu: None, memory: None, finding: review::review(&Measured::default()) })
    }
}

/// Everything over a period.
#[derive(Debug, Default)]
pub(super) struct Period {
    pub from_ms: UnixMs,
    pub to_ms: UnixMs,
    pub vms: HashMap<VmId, VmUse>,
    pub hosts: HashMap<HostId, Used>,
    pub organizations: HashMap<OrganizationId, GroupUsed>,
    pub providers: HashMap<Option<ProviderId>, GroupUsed>,
    /// All machines of the city.
    pub whole: GroupUsed,
}

/// The last pass.
#[derive(Debug, Default)]
pub(super) struct Survey(RwLock<Option<Arc<Surveyed>>>);

/// What a pass found.
#[derive(Debug)]
pub(super) struct Surveyed {
    pub at_ms: UnixMs,
    /// In the order of [`PERIODS`].
    pub periods: [Period; PERIODS.len()],
}

/// Sums of one thing's machines.
#[derive(Debug)]
struct Sums {
    cpus: Sum,
    memory: Sum,
}

impl Sums {
    fn new(slots: usize) -> Self {
        Self { cpus: Sum::new(slots), memory: Sum::new(slots) }
    }

    fn add(&mut self, measured: &MeasuredVm, first: usize) {
        self.cpus.add(&measured.cpus, first);
        self.memory.add(&measured.resident, first);
    }

    fn used(&self) -> [Used; PERIODS.len()] {
        let (cpus, memory) = (self.cpus.slots(), self.memory.slots());
        let all = cpus.value.len();
        PERIODS.map(|days| {
            let first = all.saturating_sub(days as usize * SLOTS_OF_DAY);
            Used { cpus: cpus.behind(first).usage(), memory_bytes: memory.behind(first).usage() }
        })
    }
}

/// Sums of a group's machines: of all, and of those on hypervisors of ours.
#[derive(Debug)]
struct GroupSums {
    all: Sums,
    placed: Sums,
}

impl GroupSums {
    fn new(slots: usize) -> Self {
        Self { all: Sums::new(slots), placed: Sums::new(slots) }
    }

    fn add(&mut self, vm: &Vm, measured: &MeasuredVm, first: usize) {
        self.all.add(measured, first);
        if vm.row.host.is_none() {
            self.placed.add(measured, first);
        }
    }

    fn used(&self) -> [GroupUsed; PERIODS.len()] {
        let (all, placed) = (self.all.used(), self.placed.used());
        std::array::from_fn(|at| GroupUsed { all: all[at], placed: placed[at] })
    }
}

/// The slots of one machine, or of one of its sources.
#[derive(Debug, Clone)]
struct MeasuredVm {
    /// Busy processors, and of how many percent of its own.
    cpus: Slots,
    cpu_percent: Slots,
    memory_percent: Slots,
    resident: Slots,
}

impl Compute {
    /// Surveys, until the shutdown.
    pub async fn keep_surveyed(self, shutdown: Shutdown) {
        let mut told = std::pin::pin!(shutdown.triggered());
        let mut wait = FIRST;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = &mut told => return,
            }
            let began_ms = self.0.clock.now_ms();
            match self.survey_aside(shutdown.clone()).await {
                None => return,
                Some(Ok(0)) => wait = slot_left(self.0.clock.now_ms()) + FIRST,
                Some(Ok(vms)) => {
                    let took_ms = u64::try_from(self.0.clock.now_ms() - began_ms).unwrap_or(0);
                    wait = Duration::from_millis(took_ms).saturating_mul(TIMES).clamp(SLOT, LONGEST);
                    tracing::debug!(vms, ?wait, "what virtual machines used is known anew");
                }
                Some(Err(error)) => {
                    wait = SLOT;
                    tracing::warn!(%error, "what virtual machines used could not be read; trying again");
                }
            }
        }
    }

    /// A pass on a thread that gives way: seconds of work for which nobody waits. `None`: the shutdown came first.
    pub(super) async fn survey_aside(&self, shutdown: Shutdown) -> Option<Result<usize, QueryError>> {
        let (compute, runtime) = (self.clone(), Handle::current());
        let pass = async move {
            tokio::select! {
                biased;
                () = shutdown.triggered() => None,
                done = compute.survey() => Some(done),
            }
        };
        let done = background::spawn("survey", move || runtime.block_on(pass)).await;
        done.unwrap_or_else(|_| Some(Err(QueryError::Store("the work was interrupted".to_owned()))))
    }

    /// The last pass.
    pub(super) fn surveyed(&self) -> Option<Arc<Surveyed>> {
        self.0.survey.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One pass over all machines; of how many something was measured.
    pub(super) async fn survey(&self) -> Result<usize, QueryError> {
        let at_ms = self.0.clock.now_ms();
        let span = Span::before(at_ms);
        let vms: Vec<Arc<Vm>> = self.index().vms.counted().cloned().collect();
        let mut hosts: HashMap<HostId, Sums> = HashMap::new();
        let mut organizations: HashMap<OrganizationId, GroupSums> = HashMap::new();
        let mut providers: HashMap<Option<ProviderId>, GroupSums> = HashMap::new();
        let mut whole = GroupSums::new(span.slots);
        let mut found = PERIODS.map(|_| HashMap::with_capacity(vms.len()));
        for vm in &vms {
            let measured = match vm.row.host {
                None => self.measured_vm(vm, span, &mut hosts).await?,
                Some(_) => self.measured_inside(vm, span).await?,
            };
            let Some(measured) = measured else { continue };
            let (owner, owned_ms) = vm.row.owned();
            // What was before is another's.
            let owned = if owned_ms > vm.row.created_ms { span.slot_at(owned_ms) } else { 0 };
            let first = owned.max(span.slot_at(vm.row.created_ms).min(measured.first()));
            let new = || GroupSums::new(span.slots);
            organizations.entry(owner).or_insert_with(new).add(vm, &measured, first);
            let (provider, vcpus, memory_bytes) = self.vm_given(vm);
            providers.entry(provider).or_insert_with(new).add(vm, &measured, measured.first());
            whole.add(vm, &measured, measured.first());
            for (days, found) in PERIODS.iter().zip(&mut found) {
                let first = first.max(span.begin_of(*days));
                found.insert(vm.row.id, measured.reviewed(span, first, (owner, owned_ms), (vcpus, memory_bytes)));
            }
            // The shutdown is heard here, too.
            tokio::task::yield_now().await;
        }
        let mut hosts = used(&hosts, Sums::used);
        let (mut organizations, mut providers) =
            (used(&organizations, GroupSums::used), used(&providers, GroupSums::used));
        let whole = whole.used();
        let mut at = 0;
        let periods = found.map(|vms| {
            let period = Period {
                from_ms: span.ms_of(span.begin_of(PERIODS[at])),
                to_ms: span.to_ms,
                vms,
                hosts: std::mem::take(&mut hosts[at]),
                organizations: std::mem::take(&mut organizations[at]),
                providers: std::mem::take(&mut providers[at]),
                whole: whole[at],
            };
            at += 1;
            period
        });
        let measured = periods[PERIODS.len() - 1].vms.len();
        // Machines of which no slot has ended yet are no finding.
        if measured == 0 && !vms.is_empty() && self.surveyed().is_none() {
            return Ok(0);
        }
        let surveyed = Arc::new(Surveyed { at_ms, periods });
        *self.0.survey.0.write().unwrap_or_else(PoisonError::into_inner) = Some(surveyed);
        Ok(measured)
    }

    /// What a machine used, slot by slot, and with it its hosts. `None`: nothing was measured.
    async fn measured_vm(
        &self,
        vm: &Vm,
        span: Span,
        hosts: &mut HashMap<HostId, Sums>,
    ) -> Result<Option<MeasuredVm>, QueryError> {
        let mut whole: Option<MeasuredVm> = None;
        for part in vm.parts() {
            let view = self.0.telemetry.source_known(part.source);
            let node = view.and_then(|view| Self::node(&self.index(), view.agent()));
            let series = self.slots(part, &METRICS, None, (span.from_ms, span.to_ms)).await?;
            if series.is_empty() {
                continue;
            }
            let measured = MeasuredVm::of(&series, span.slots);
            if let Some(node) = node {
                let sums = hosts.entry(node.host).or_insert_with(|| Sums::new(span.slots));
                sums.add(&measured, measured.first());
            }
            match &mut whole {
                Some(whole) => whole.join(&measured),
                None => whole = Some(measured),
            }
        }
        Ok(whole)
    }

    /// The same of a machine that its own agent tells of: day by day, because each processor has a series a mode.
    async fn measured_inside(&self, vm: &Vm, span: Span) -> Result<Option<MeasuredVm>, QueryError> {
        let mut whole: Option<MeasuredVm> = None;
        for part in vm.parts() {
            let mut measured = MeasuredVm::empty(span.slots);
            for first in (0..span.slots).step_by(SLOTS_OF_DAY) {
                let day = (span.ms_of(first), span.ms_of(span.slots.min(first + SLOTS_OF_DAY)));
                // Elsewhere then.
                if !part.stays.iter().any(|(from_ms, to_ms)| *from_ms < day.1 && day.0 < *to_ms) {
                    continue;
                }
                let metrics = [HOST_CPU, HOST_MEMORY, HOST_AVAILABLE];
                let series = self.slots(part.clone(), &metrics, Some(&["mode"]), day).await?;
                let (cpu, memory): (Vec<_>, Vec<_>) = series.into_iter().partition(|one| one.column.metric == HOST_CPU);
                measured.put_inside(first, &cpu, &memory);
            }
            match &mut whole {
                Some(whole) => whole.join(&measured),
                None => whole = Some(measured),
            }
        }
        Ok(whole.filter(|whole| whole.first() < span.slots))
    }

    /// What a part of a machine measured between two instants, by slots.
    pub(super) async fn slots(
        &self,
        part: Part,
        metrics: &[&str],
        sum_by: Option<&[&str]>,
        (from_ms, to_ms): (UnixMs, UnixMs),
    ) -> Result<Vec<Series>, QueryError> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let query = SeriesQuery {
            source: part.source,
            metrics: names(metrics),
            resource: None,
            from_ms,
            to_ms,
            step_ms: Some(SLOT_MS),
            points: None,
            sum_by: sum_by.map(names),
        };
        match self.0.telemetry.series_joined(&[part], &[(UnixMs::MIN, UnixMs::MAX)], &query).await {
            Err(QueryError::Nothing) => Ok(Vec::new()),
            found => found,
        }
    }

    /// Who provides a machine, and what it is given now.
    fn vm_given(&self, vm: &Vm) -> (Option<ProviderId>, Option<i64>, Option<i64>) {
        let view = vm.source().and_then(|source| self.0.telemetry.source_known(source));
        let provider = Self::provider_of(&self.index(), vm, view.as_ref().map(SourceView::agent));
        let figures = view.and_then(|view| view.glance(|glance| figures(&VmPlan::of(vm, glance.schema), &glance)));
        let figures = figures.unwrap_or_default();
        let whole = |value: Option<f64>| value.map(|value| value as i64);
        (provider, whole(figures.vcpus), whole(figures.memory_bytes))
    }
}

/// Until the end of the slot that an instant lies in.
fn slot_left(now_ms: UnixMs) -> Duration {
    Duration::from_millis((SLOT_MS - now_ms.rem_euclid(SLOT_MS)) as u64)
}

/// The longest period, in slots.
#[derive(Debug, Clone, Copy)]
struct Span {
    from_ms: UnixMs,
    to_ms: UnixMs,
    slots: usize,
}

impl Span {
    fn before(now_ms: UnixMs) -> Self {
        let slots = PERIODS[PERIODS.len() - 1] as usize * SLOTS_OF_DAY;
        let to_ms = now_ms.div_euclid(SLOT_MS) * SLOT_MS;
        Self { from_ms: to_ms - slots as i64 * SLOT_MS, to_ms, slots }
    }

    /// The first slot that begins at an instant or later.
    fn slot_at(self, ms: UnixMs) -> usize {
        let at = ms.saturating_sub(self.from_ms).saturating_add(SLOT_MS - 1).div_euclid(SLOT_MS);
        usize::try_from(at).unwrap_or(0).min(self.slots)
    }

    fn begin_of(self, days: u32) -> usize {
        self.slots.saturating_sub(days as usize * SLOTS_OF_DAY)
    }

    fn ms_of(self, slot: usize) -> UnixMs {
        self.from_ms + slot as i64 * SLOT_MS
    }

    /// The hour of a slot in Asia/Shanghai.
    fn hour_of(self, slot: usize) -> i64 {
        (self.ms_of(slot) + SHANGHAI_MS).rem_euclid(DAY_MS) / 3_600_000
    }
}

fn used<K: Copy + Eq + Hash, S, U>(
    sums: &HashMap<K, S>,
    of: impl Fn(&S) -> [U; PERIODS.len()],
) -> [HashMap<K, U>; PERIODS.len()] {
    let mut found = std::array::from_fn(|_| HashMap::with_capacity(sums.len()));
    for (key, sums) in sums {
        for (found, used) in found.iter_mut().zip(of(sums)) {
            found.insert(*key, used);
        }
    }
    found
}

/// A slot of what was measured.
fn put(slots: &mut Slots, at: usize, value: Option<f64>, coverage: Option<f32>) {
    if let Some((value, coverage)) = value.zip(coverage) {
        (slots.value[at], slots.coverage[at]) = (Some(value), coverage);
    }
}

impl MeasuredVm {
    fn empty(slots: usize) -> Self {
        Self {
            cpus: Slots::empty(slots),
            cpu_percent: Slots::empty(slots),
            memory_percent: Slots::empty(slots),
            resident: Slots::empty(slots),
        }
    }

    /// Takes in what the own agent of a machine measured from a slot on: a slot of which one mode is not known is not.
    fn put_inside(&mut self, first: usize, cpu: &[Series], memory: &[Series]) {
        let end = self.cpus.value.len();
        let of = |metric: &str| memory.iter().find(|series| series.column.metric == metric).map(|one| &one.points);
        let at_of = |points: &Points, at: usize| (*points.value.get(at)?).zip(points.coverage.get(at).copied());
        for (at, slot) in (first..end.min(first + SLOTS_OF_DAY)).enumerate() {
            let (mut busy, mut all, mut covered) = (0.0, 0.0, f32::INFINITY);
            let known = cpu.iter().all(|series| {
                let Some((seconds, coverage)) = at_of(&series.points, at) else { return false };
                all += seconds;
                covered = covered.min(coverage);
                if !IDLE.contains(&label(&series.column, "mode")) {
                    busy += seconds;
                }
                true
            });
            if known && all > 0.0 {
                put(&mut self.cpus, slot, Some(busy), Some(covered));
                put(&mut self.cpu_percent, slot, Some((busy / all * 100.0).min(100.0)), Some(covered));
            }
            let memory = of(HOST_MEMORY).and_then(|all| at_of(all, at)).filter(|(all, _)| *all > 0.0);
            let available = of(HOST_AVAILABLE).and_then(|available| at_of(available, at));
            if let Some(((all, covered), (available, also))) = memory.zip(available) {
                let (used, covered) = ((all - available).max(0.0), covered.min(also));
                put(&mut self.memory_percent, slot, Some(used / all * 100.0), Some(covered));
                // What it takes of a host that nobody sees is not known; this much it has in use.
                put(&mut self.resident, slot, Some(used), Some(covered));
            }
        }
    }

    fn of(series: &[Series], slots: usize) -> Self {
        // A machine that was renamed has another column, so a metric may be in several series, one after another.
        let of = |metric: &str| {
            let mut joined = Slots::empty(slots);
            let same = series.iter().filter(|series| series.column.metric == metric);
            same.for_each(|series| joined.join_points(&series.points.value, &series.points.coverage));
            joined
        };
        let (cpus, vcpus, available, resident) = (of(CPU), of(VCPUS), of(AVAILABLE), of(RESIDENT));
        let (usable, unused) = (of(USABLE), of(UNUSED));
        let (mut cpu_percent, mut memory_percent) = (Slots::empty(slots), Slots::empty(slots));
        for at in 0..slots {
            let given = vcpus.value[at].filter(|vcpus| *vcpus > 0.0);
            let percent = cpus.value[at].zip(given).map(|(busy, vcpus)| (busy / vcpus * 100.0).min(100.0));
            put(&mut cpu_percent, at, percent, Some(cpus.coverage[at]));
            let has = available.value[at].filter(|available| *available > 0.0);
            let free = usable.value[at].or(unused.value[at]);
            let percent = has.zip(free).map(|(has, free)| ((has - free) / has * 100.0).clamp(0.0, 100.0));
            put(&mut memory_percent, at, percent, Some(available.coverage[at]));
        }
        Self { cpus, cpu_percent, memory_percent, resident }
    }

    fn join(&mut self, other: &Self) {
        self.cpus.join(&other.cpus);
        self.cpu_percent.join(&other.cpu_percent);
        self.memory_percent.join(&other.memory_percent);
        self.resident.join(&other.resident);
    }

    /// The first slot in which anything was measured.
    fn first(&self) -> usize {
        let of = |slots: &Slots| slots.value.iter().position(Option::is_some).unwrap_or(slots.value.len());
        of(&self.cpus).min(of(&self.resident))
    }

    fn reviewed(
        &self,
        span: Span,
        first: usize,
        owned: (OrganizationId, UnixMs),
        (vcpus, memory_bytes): (Option<i64>, Option<i64>),
    ) -> VmUse {
        let (cpu_slots, memory_slots) = (self.cpu_percent.behind(first), self.memory_percent.behind(first));
        let (cpu, memory) = (cpu_slots.usage(), memory_slots.usage());
        let measured = Measured {
            cpu,
            memory,
            day_percent: cpu_slots.mean_of(|at| (9..18).contains(&span.hour_of(first + at))),
            night_percent: cpu_slots.mean_of(|at| span.hour_of(first + at) < 6),
            vcpus,
            memory_bytes,
        };
        VmUse { owned, from_ms: span.ms_of(first), cpu, memory, finding: review::review(&measured) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Resolution;
    use tongtu_protocol::v1;

    #[test]
    fn nothing_is_found_before_the_slot_has_ended() {
        assert_eq!(slot_left(3 * SLOT_MS), SLOT, "it has just begun");
        assert_eq!(slot_left(4 * SLOT_MS - 1), Duration::from_millis(1));
    }

    /// A metric of a machine under a name, by slots: value and coverage.
    fn named(metric: &str, domain: &str, slots: &[(Option<f64>, f32)]) -> Series {
        let labels = vec![v1::Label { name: "domain".to_owned(), value: domain.to_owned() }];
        Series {
            column: v1::Column { metric: metric.to_owned(), labels, ..Default::default() },
            resolution: Resolution::Slot,
            step_ms: SLOT_MS,
            rate: metric == CPU,
            points: Points {
                value: slots.iter().map(|(value, _)| *value).collect(),
                coverage: slots.iter().map(|(_, coverage)| *coverage).collect(),
                ..Points::default()
            },
            coverage: 1.0,
            resets: 0,
            dropped: 0,
            parts: 1,
            gaps: Vec::new(),
        }
    }

    #[test]
    fn a_machine_that_was_renamed_was_used_under_both_names() {
        let none = (None, 0.0);
        let whole = |value: f64| (Some(value), 1.0);
        // Renamed within the third slot.
        let series = [
            named(CPU, "old", &[whole(1.0), whole(2.0), (Some(1.0), 0.5), none, none]),
            named(VCPUS, "old", &[whole(4.0), whole(4.0), (Some(4.0), 0.5), none, none]),
            named(AVAILABLE, "old", &[whole(100.0), whole(100.0), (Some(100.0), 0.5), none, none]),
            named(USABLE, "old", &[whole(50.0), whole(50.0), (Some(50.0), 0.5), none, none]),
            named(CPU, "new", &[none, none, (Some(3.0), 0.5), whole(4.0), none]),
            named(VCPUS, "new", &[none, none, (Some(4.0), 0.5), whole(8.0), none]),
            named(AVAILABLE, "new", &[none, none, (Some(100.0), 0.5), whole(100.0), none]),
            // Without what its guest could use.
            named(UNUSED, "new", &[none, none, (Some(10.0), 0.5), whole(10.0), none]),
        ];
        let measured = MeasuredVm::of(&series, 5);
        let all = [Some(1.0), Some(2.0), Some(2.0), Some(4.0), None];
        assert_eq!((measured.cpus.value.as_slice(), measured.cpus.coverage[2]), (&all[..], 1.0));
        assert_eq!(measured.cpu_percent.value, [Some(25.0), Some(50.0), Some(50.0), Some(50.0), None]);
        assert_eq!(measured.memory_percent.value, [Some(50.0), Some(50.0), Some(50.0), Some(90.0), None]);
        assert_eq!(measured.resident, Slots::empty(5), "it was not measured");
    }

    #[test]
    fn slots_and_hours_are_those_of_shanghai() {
        // 2026-11-30T04:07 in Greenwich is 12:07 in Shanghai.
        let span = Span::before(1_796_011_620_000);
        assert_eq!(span.to_ms % SLOT_MS, 0);
        assert_eq!(span.slot_at(span.from_ms), 0);
        assert_eq!(span.slot_at(span.from_ms + 1), 1, "a slot that is another's in part is another's");
        assert_eq!(span.slot_at(UnixMs::MIN), 0);
        assert_eq!(span.slot_at(UnixMs::MAX), span.slots);
        assert_eq!(span.slots - span.begin_of(1), 288);
        let hour = (span.to_ms / 3_600_000 + 8).rem_euclid(24);
        assert_eq!(span.hour_of(span.slots), hour);
    }
}
