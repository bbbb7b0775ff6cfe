//! How long things are kept: what may be set, and what follows from it. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Content, Fault};
use crate::config::effective::Origin;
use crate::config::{AUDIT_RETENTION_MIN, Config, Retention, units};

const DAY: Duration = Duration::from_secs(86_400);
/// Longer than this is surely a slip: 100 years.
const MOST: Duration = Duration::from_secs(36_600 * 86_400);
/// Below these nobody could look at what is in force: a day of frames, a week of slots, a month of hours.
const LEAST: [(&str, Duration); 4] = [
    ("raw_ms", DAY),
    ("slot_ms", Duration::from_secs(7 * 86_400)),
    ("hour_ms", Duration::from_secs(30 * 86_400)),
    ("audit_ms", AUDIT_RETENTION_MIN),
];

/// What was set; what was not is as configured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionSet {
    /// Frames as they came.
    pub raw_ms: Option<u64>,
    /// 5-minute slots.
    pub slot_ms: Option<u64>,
    /// Hours.
    pub hour_ms: Option<u64>,
    /// The audit log.
    pub audit_ms: Option<u64>,
}

impl Content for RetentionSet {
    const NAME: &'static str = "retention";
    const ACTION: &'static str = "retention.update";
}

impl RetentionSet {
    fn fields(&self) -> [Option<Duration>; 4] {
        [self.raw_ms, self.slot_ms, self.hour_ms, self.audit_ms].map(|ms| ms.map(Duration::from_millis))
    }
}

/// How long one thing is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// What is in force.
    pub now: Duration,
    /// Where that comes from.
    pub source: Origin,
    /// What would be in force if it were not set.
    pub configured: Duration,
    /// At least this may be set.
    pub least: Duration,
    /// At most this may be set.
    pub most: Duration,
}

/// What is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Frames as they came.
    pub raw: Span,
    /// 5-minute slots.
    pub slot: Span,
    /// Hours.
    pub hour: Span,
    /// The audit log.
    pub audit: Span,
}

impl Kept {
    /// Of what was measured.
    pub(super) fn measured(&self) -> Retention {
        Retention { raw: self.raw.now, slot: self.slot.now, hour: self.hour.now }
    }
}

/// What file, command line and defaults say.
#[derive(Debug)]
pub(super) struct Configured([(Duration, Origin); 4]);

impl Configured {
    pub(super) fn new(config: &Config, source: impl Fn(&str) -> Origin) -> Self {
        let Retention { raw, slot, hour } = config.telemetry.retention();
        Self([
            (raw, source("raw_retention")),
            (slot, source("slot_retention")),
            (hour, source("hour_retention")),
            (config.access.audit_retention, source("audit_retention")),
        ])
    }

    pub(super) fn kept(&self, set: &RetentionSet) -> Kept {
        let fields = set.fields();
        let span = |at: usize| {
            let (configured, origin) = self.0[at];
            let (now, source) = fields[at].map_or((configured, origin), |set| (set, Origin::Set));
            Span { now, source, configured, least: LEAST[at].1, most: MOST }
        };
        Kept { raw: span(0), slot: span(1), hour: span(2), audit: span(3) }
    }

    /// Every field that is wrong, with what it should be.
    pub(super) fn faults(&self, wanted: &RetentionSet) -> Vec<Fault> {
        let fields = wanted.fields();
        let mut faults: Vec<Fault> = Vec::new();
        for ((field, least), set) in LEAST.into_iter().zip(fields) {
            let Some(set) = set.filter(|set| !(least..=MOST).contains(set)) else { continue };
            let [set, least, most] = [set, least, MOST].map(said);
            faults.push(Fault {
                field,
                english: format!("{} is not between {} and {}", set.0, least.0, most.0),
                chinese: format!("{}不在 {}到 {}之间", set.1, least.1, most.1),
            });
        }
        let now = |at: usize| fields[at].unwrap_or(self.0[at].0);
        for (shorter, longer) in [(0, 1), (1, 2)] {
            // Where nothing was set, it is the other one that does not fit.
            let at = if fields[longer].is_some() { longer } else { shorter };
            let field = LEAST[at].0;
            if now(shorter) <= now(longer) || faults.iter().any(|fault| fault.field == field) {
                continue;
            }
            let [less, more] = [now(longer), now(shorter)].map(said);
            let names = [("frames", "原始数据"), ("5-minute slots", "5 分钟数据"), ("hours", "小时数据")];
            let (short, long) = (names[shorter], names[longer]);
            faults.push(Fault {
                field,
                english: format!("{} are kept {}, which is shorter than {} ({})", long.0, less.0, short.0, more.0),
                chinese: format!("{}的保留期 {}短于{}的 {}", long.1, less.1, short.1, more.1.trim_end()),
            });
        }
        faults
    }
}

/// In English and Chinese.
fn said(span: Duration) -> (String, String) {
    let days = span.as_secs() / 86_400;
    if span == DAY * u32::try_from(days).unwrap_or(0) {
        let plural = if days == 1 { "" } else { "s" };
        return (format!("{days} day{plural}"), format!("{days} 天"));
    }
    let text = units::shown(span);
    (text.clone(), format!("{text} "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn configured() -> Configured {
        Configured::new(&Config::default(), |_| Origin::Default)
    }

    #[test]
    fn what_is_set_stands_before_what_is_configured() {
        let set = RetentionSet { raw_ms: Some(3 * DAY_MS), ..RetentionSet::default() };
        let kept = configured().kept(&set);
        assert_eq!((kept.raw.now, kept.raw.source, kept.raw.configured), (3 * DAY, Origin::Set, 8 * DAY));
        assert_eq!((kept.slot.now, kept.slot.source), (396 * DAY, Origin::Default));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let fields =
            |set: RetentionSet| -> Vec<_> { configured().faults(&set).into_iter().map(|fault| fault.field).collect() };
        assert_eq!(fields(RetentionSet::default()), Vec::<&str>::new());
        let days = |raw, slot, hour, audit| {
            let [raw_ms, slot_ms, hour_ms, audit_ms] = [raw, slot, hour, audit].map(|days: u64| Some(days * DAY_MS));
            RetentionSet { raw_ms, slot_ms, hour_ms, audit_ms }
        };
        assert_eq!(fields(days(1, 7, 30, 184)), Vec::<&str>::new());
        assert_eq!(fields(days(0, 6, 29, 183)), ["raw_ms", "slot_ms", "hour_ms", "audit_ms"]);
        assert_eq!(fields(days(8, 36_601, 36_601, 366)), ["slot_ms", "hour_ms"]);
        assert_eq!(fields(days(40, 39, 38, 184)), ["slot_ms", "hour_ms"]);
        // The configured slots are kept 396 days, so it is the frames that do not fit.
        let long = RetentionSet { raw_ms: Some(400 * DAY_MS), ..RetentionSet::default() };
        assert_eq!(fields(long), ["raw_ms"]);
        let said = configured().faults(&long).remove(0);
        assert_eq!(said.english, "5-minute slots are kept 396 days, which is shorter than frames (400 days)");
        assert_eq!(said.chinese, "5 分钟数据的保留期 396 天短于原始数据的 400 天");
        assert_eq!(fields(RetentionSet { audit_ms: Some(u64::MAX), ..RetentionSet::default() }), ["audit_ms"]);
    }
}
