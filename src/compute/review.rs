//! Whether a virtual machine is used as it was meant to be: idle, over-used, kept busy to look busy, too large or
//! too small, and which size would do. Pure.
//!
//! What must hold: nothing is said of what was measured too little; a proposal leaves room above what was used; an
//! idle machine is never over-used. The thresholds are common practice, not regulation.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::Named;
use super::usage::Usage;

/// Below this mean CPU and [`IDLE_MEMORY_PERCENT`] a machine is idle.
const IDLE_CPU_PERCENT: f64 = 10.0;
const IDLE_MEMORY_PERCENT: f64 = 30.0;
/// Above this p95 of CPU or memory it is over-used.
const OVERUSED_PERCENT: f64 = 80.0;
/// What is measured less (three stars) is not judged.
const LEAST_COVERAGE: f64 = 0.8;
/// That much of a day's slots: of less nobody knows how it is at night.
const LEAST_SLOTS: usize = 231;
/// A load is flat if nine tenths of its slots lie this close together, against its mean…
const FLAT_SPREAD: f64 = 0.1;
/// …and the working day differs from the night by no more than this.
const FLAT_DAY: f64 = 0.05;
/// A size is proposed at which p95 is at most so much of it…
const TARGET_CPU: f64 = 0.6;
const TARGET_MEMORY: f64 = 0.8;
/// …and the peak at most so much.
const TARGET_PEAK: f64 = 0.95;
/// A smaller size is proposed only if it saves a quarter.
const WORTH: f64 = 0.75;
/// Memory is given in steps of this.
const MEMORY_STEP_BYTES: i64 = 512 << 20;

/// What is found of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Mean CPU below 10 % and mean memory below 30 %: reclaim it or make it smaller.
    Idle,
    /// p95 of CPU or memory above 80 %.
    Overused,
    /// Its CPU load hardly varies, by day and by night: perhaps made to look busy.
    Flat,
    /// A smaller size would do.
    Oversized,
    /// A larger size is needed.
    Undersized,
    /// Nothing of these.
    Normal,
    /// Too little was measured.
    Unknown,
}

impl Named for Verdict {
    const EXPECTED: &'static str =
        "`verdict` must be one or more of idle, overused, flat, oversized, undersized, normal, unknown";
}

/// Why nothing, or a part, is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Lack {
    /// Less than 80 % of the period, or less than a day, was measured.
    Coverage,
    /// Its guest does not tell how much memory it uses.
    Memory,
}

/// What is known of a machine's use. Shares are percent of what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Measured {
    pub cpu: Option<Usage>,
    pub memory: Option<Usage>,
    /// Mean CPU of working days' hours from 9 to 18, and of the hours from 0 to 6.
    pub day_percent: Option<f64>,
    pub night_percent: Option<f64>,
    pub vcpus: Option<i64>,
    pub memory_bytes: Option<i64>,
}

/// Another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Proposal {
    /// Virtual processors.
    pub vcpus: Option<i64>,
    /// Memory.
    pub memory_bytes: Option<i64>,
}

/// What is found of a machine, all of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// In order; never empty.
    pub verdicts: Vec<Verdict>,
    pub lack: Option<Lack>,
    /// The size that would do, if it is another one.
    pub proposal: Option<Proposal>,
}

fn judged(usage: Option<Usage>) -> Option<Usage> {
    usage.filter(|usage| usage.coverage >= LEAST_COVERAGE && usage.slots >= LEAST_SLOTS)
}

/// Judges one machine.
pub(super) fn review(measured: &Measured) -> Finding {
    let (cpu, memory) = (judged(measured.cpu), judged(measured.memory));
    let Some(cpu) = cpu else {
        return Finding { verdicts: vec![Verdict::Unknown], lack: Some(Lack::Coverage), proposal: None };
    };
    let mut verdicts = Vec::new();
    let lack = match (memory, measured.memory) {
        (Some(_), _) => None,
        (None, Some(_)) => Some(Lack::Coverage),
        (None, None) => Some(Lack::Memory),
    };
    let idle = cpu.mean < IDLE_CPU_PERCENT && memory.is_some_and(|memory| memory.mean < IDLE_MEMORY_PERCENT);
    let overused = cpu.p95 > OVERUSED_PERCENT || memory.is_some_and(|memory| memory.p95 > OVERUSED_PERCENT);
    if idle && !overused {
        verdicts.push(Verdict::Idle);
    }
    if overused {
        verdicts.push(Verdict::Overused);
    }
    if is_flat(&cpu, measured) {
        verdicts.push(Verdict::Flat);
    }
    let vcpus = measured.vcpus.filter(|vcpus| *vcpus > 0);
    let proposed_vcpus =
        vcpus.map(|vcpus| proposed(&cpu, vcpus as f64, TARGET_CPU).ceil() as i64).map(|new| new.max(1));
    let given = measured.memory_bytes.filter(|bytes| *bytes > 0);
    let proposed_memory = memory.zip(given).map(|(memory, bytes)| {
        let needed = proposed(&memory, bytes as f64, TARGET_MEMORY);
        ((needed / MEMORY_STEP_BYTES as f64).ceil() as i64).max(1) * MEMORY_STEP_BYTES
    });
    let (less_cpu, more_cpu) = compared(vcpus, proposed_vcpus);
    let (less_memory, more_memory) = compared(given, proposed_memory);
    // More is proposed where it is short, not where it is merely well used.
    let more_cpu = more_cpu && cpu.p95 > OVERUSED_PERCENT;
    let more_memory = more_memory && memory.is_some_and(|memory| memory.p95 > OVERUSED_PERCENT);
    if less_cpu || less_memory {
        verdicts.push(Verdict::Oversized);
    }
    if more_cpu || more_memory {
        verdicts.push(Verdict::Undersized);
    }
    let proposal = Proposal {
        vcpus: proposed_vcpus.filter(|_| less_cpu || more_cpu),
        memory_bytes: proposed_memory.filter(|_| less_memory || more_memory),
    };
    if verdicts.is_empty() {
        verdicts.push(if lack.is_some() && cpu.mean < IDLE_CPU_PERCENT { Verdict::Unknown } else { Verdict::Normal });
    }
    let proposal = Some(proposal).filter(|proposal| proposal.vcpus.is_some() || proposal.memory_bytes.is_some());
    Finding { verdicts, lack, proposal }
}

/// What would have to be given so that p95 and peak leave room.
fn proposed(usage: &Usage, given: f64, target: f64) -> f64 {
    let share = (usage.p95 / 100.0 / target).max(usage.peak / 100.0 / TARGET_PEAK);
    // Rounded before it is rounded up: 0.6 of 10 is 6.
    (given * share * 1e6).round() / 1e6
}

/// Whether a proposal is less by enough, or more.
fn compared(given: Option<i64>, proposed: Option<i64>) -> (bool, bool) {
    let Some((given, proposed)) = given.zip(proposed) else { return (false, false) };
    (proposed as f64 <= given as f64 * WORTH, proposed > given)
}

/// A load that people or their programs make goes up and down with them.
fn is_flat(cpu: &Usage, measured: &Measured) -> bool {
    let Some((day, night)) = measured.day_percent.zip(measured.night_percent) else { return false };
    cpu.mean >= IDLE_CPU_PERCENT
        && cpu.p95 - cpu.p5 <= FLAT_SPREAD * cpu.mean
        && (day - night).abs() <= FLAT_DAY * cpu.mean
}

/// How each verdict is defined, for whoever reads a figure.
pub(super) const DEFINITIONS: [(&str, &str); 9] = [
    ("mean", "mean of the covered time of 5-minute slots"),
    ("p95", "nearest rank ⌈0.95·n⌉ over the n 5-minute slots that are at least half covered"),
    ("peak", "the largest 5-minute slot that is at least half covered"),
    ("coverage", "covered ÷ expected time of the period since the present owner has it"),
    ("idle", "mean CPU < 10 % and mean memory < 30 %"),
    ("overused", "p95 of CPU or of memory > 80 %"),
    ("flat", "mean CPU ≥ 10 %, p95 − p5 ≤ a tenth of the mean, and working hours differ from nights by ≤ 5 % of it"),
    ("proposal", "p95 ÷ size ≤ 60 % (CPU), 80 % (memory), and peak ÷ size ≤ 95 %; a smaller one if it saves a quarter"),
    ("unknown", "coverage < 80 %, or less than 80 % of a day; or CPU is idle and the guest tells no memory"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usage(mean: f64, p5: f64, p95: f64, peak: f64) -> Usage {
        Usage { mean, p95, peak, p5, slots: 8_640, coverage: 1.0 }
    }

    fn machine(cpu: Usage, memory: Option<Usage>) -> Measured {
        Measured {
            cpu: Some(cpu),
            memory,
            day_percent: Some(cpu.mean * 1.5),
            night_percent: Some(cpu.mean * 0.5),
            vcpus: Some(8),
            memory_bytes: Some(16 << 30),
        }
    }

    #[test]
    fn machines_are_judged() {
        use Verdict::*;
        let office = usage(35.0, 5.0, 60.0, 75.0);
        for (name, measured, verdicts) in [
            ("office", machine(office, Some(usage(60.0, 50.0, 70.0, 80.0))), vec![Normal]),
            ("idle", machine(usage(2.0, 1.0, 5.0, 30.0), Some(usage(20.0, 18.0, 25.0, 28.0))), vec![Idle, Oversized]),
            (
                "busy",
                machine(usage(70.0, 30.0, 95.0, 100.0), Some(usage(60.0, 50.0, 70.0, 75.0))),
                vec![Overused, Undersized],
            ),
            (
                "full of memory, idle of CPU",
                machine(usage(2.0, 1.0, 50.0, 60.0), Some(usage(70.0, 60.0, 92.0, 95.0))),
                vec![Overused, Undersized],
            ),
            ("no balloon", machine(usage(2.0, 1.0, 50.0, 60.0), None), vec![Unknown]),
            ("no balloon, busy", machine(office, None), vec![Normal]),
        ] {
            assert_eq!(review(&measured).verdicts, verdicts, "{name}");
        }
        let flat = Measured {
            day_percent: Some(30.1),
            night_percent: Some(30.0),
            ..machine(usage(30.0, 29.0, 31.0, 75.0), Some(usage(60.0, 55.0, 65.0, 70.0)))
        };
        assert_eq!(review(&flat).verdicts, [Flat]);
        assert_eq!(review(&Measured { night_percent: Some(10.0), ..flat }).verdicts, [Normal], "it sleeps at night");
    }

    #[test]
    fn a_proposal_says_which_size_would_do() {
        let idle = machine(usage(2.0, 1.0, 5.0, 30.0), Some(usage(20.0, 18.0, 25.0, 28.0)));
        // 8 × 0.30 ÷ 0.95 = 2.5 processors; 16 GiB × 0.25 ÷ 0.8 = 5 GiB.
        let proposal = review(&idle).proposal.expect("a smaller one");
        assert_eq!(proposal, Proposal { vcpus: Some(3), memory_bytes: Some(5 << 30) });
        let busy = machine(usage(70.0, 30.0, 95.0, 100.0), Some(usage(60.0, 50.0, 70.0, 75.0)));
        // 8 × 0.95 ÷ 0.6 = 12.7; memory is as it should be.
        assert_eq!(review(&busy).proposal, Some(Proposal { vcpus: Some(13), memory_bytes: None }));
        let fits = machine(usage(30.0, 5.0, 55.0, 80.0), Some(usage(60.0, 50.0, 70.0, 75.0)));
        assert_eq!(review(&fits).proposal, None);
    }

    #[test]
    fn what_was_measured_too_little_is_not_judged() {
        let some = usage(2.0, 1.0, 5.0, 30.0);
        for cpu in [Some(Usage { coverage: 0.79, ..some }), Some(Usage { slots: 230, ..some }), None] {
            let found = review(&Measured { cpu, ..machine(some, Some(some)) });
            assert_eq!((found.verdicts, found.proposal), (vec![Verdict::Unknown], None));
            assert_eq!(found.lack, Some(Lack::Coverage));
        }
    }

    prop_compose! {
        fn any_usage()(p5 in 0.0f64..100.0, a in 0.0f64..1.0, b in 0.0f64..1.0, c in 0.0f64..1.0,
            coverage in 0.0f64..=1.0, slots in 0usize..9_000) -> Usage
        {
            let p95 = p5 + (100.0 - p5) * a;
            let peak = p95 + (100.0 - p95) * b;
            Usage { mean: p5 + (p95 - p5) * c, p95, peak, p5, slots, coverage }
        }
    }

    proptest! {
        #[test]
        fn what_is_said_follows_from_what_was_measured(
            cpu in any_usage(), memory in proptest::option::of(any_usage()),
            day in proptest::option::of(0.0f64..100.0), night in proptest::option::of(0.0f64..100.0),
            vcpus in 1i64..256, memory_bytes in (1i64 << 29)..(1i64 << 42),
        ) {
            let measured = Measured { cpu: Some(cpu), memory, day_percent: day, night_percent: night,
                vcpus: Some(vcpus), memory_bytes: Some(memory_bytes) };
            let found = review(&measured);
            let has = |verdict| found.verdicts.contains(&verdict);
            prop_assert!(!found.verdicts.is_empty());
            prop_assert!(!(has(Verdict::Idle) && has(Verdict::Overused)));
            prop_assert!(!(has(Verdict::Normal) && found.verdicts.len() > 1));
            if cpu.coverage < LEAST_COVERAGE || cpu.slots < LEAST_SLOTS {
                prop_assert_eq!(&found.verdicts, &vec![Verdict::Unknown]);
                prop_assert_eq!(found.proposal, None);
            }
            if let Some(new) = found.proposal.and_then(|proposal| proposal.vcpus) {
                // What was used fits, with room.
                prop_assert!(cpu.p95 / 100.0 * vcpus as f64 <= TARGET_CPU * new as f64 + 1e-5);
                prop_assert!(cpu.peak / 100.0 * vcpus as f64 <= TARGET_PEAK * new as f64 + 1e-5);
                prop_assert!(new != vcpus && new >= 1);
            }
            if let Some(new) = found.proposal.and_then(|proposal| proposal.memory_bytes) {
                let memory = memory.expect("measured");
                prop_assert!(memory.p95 / 100.0 * memory_bytes as f64 <= TARGET_MEMORY * new as f64 + 1e3);
                prop_assert!(new != memory_bytes && new % MEMORY_STEP_BYTES == 0);
            }
            // Using more never proposes less.
            let more = Usage { p95: (cpu.p95 + 5.0).min(100.0), peak: (cpu.peak + 5.0).min(100.0), ..cpu };
            prop_assert!(proposed(&more, vcpus as f64, TARGET_CPU) >= proposed(&cpu, vcpus as f64, TARGET_CPU));
        }
    }
}
