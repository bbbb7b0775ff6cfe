//! What an agent says of itself, as columns of its host's frames.

use crate::clock;
use crate::metric::{Kind, Metric};
use crate::sheet::Values;
use crate::spool::{Depth, LOST_REASONS};
use std::fs::File;
use std::os::unix::fs::FileExt;
use tongtu_protocol::v1;

const GAUGE: Metric = Metric {
    name: "",
    kind: Kind::Gauge,
    unit: "1",
    exponent: 0,
    labels: &[],
    help: "",
    source: "the agent",
    width_bits: 64,
};
const COUNTER: Metric = Metric { kind: Kind::Counter, ..GAUGE };

static RESIDENT: Metric = Metric {
    name: "tongtu_agent_resident_memory_bytes",
    unit: "By",
    help: "Resident memory of the agent.",
    source: "/proc/self/statm",
    ..GAUGE
};
static CPU: Metric = Metric {
    name: "tongtu_agent_cpu_seconds_total",
    unit: "s",
    exponent: -6,
    help: "CPU time of the agent, user and system.",
    source: "CLOCK_PROCESS_CPUTIME_ID",
    ..COUNTER
};
static SPOOL_BYTES: Metric = Metric {
    name: "tongtu_agent_spool_bytes",
    unit: "By",
    help: "Size of the agent's spool on disk.",
    source: "the spool",
    ..GAUGE
};
static SPOOL_RECORDS: Metric = Metric {
    name: "tongtu_agent_spool_records",
    help: "Records in the spool that control has not answered.",
    source: "the spool",
    ..GAUGE
};
static OLDEST: Metric = Metric {
    name: "tongtu_agent_oldest_unsent_seconds",
    unit: "s",
    exponent: -3,
    help: "Age of the oldest record in the spool that control has not answered.",
    source: "the spool",
    ..GAUGE
};
static LOST: Metric = Metric {
    name: "tongtu_agent_lost_records_total",
    labels: &["reason"],
    help: "Records that the agent could not keep, by reason.",
    source: "the spool",
    ..COUNTER
};
static REFUSED: Metric = Metric {
    name: "tongtu_agent_refused_records_total",
    labels: &["reason"],
    help: "Records that control refused, by reason; a reason that never came is not shown.",
    source: "the spool",
    ..COUNTER
};
static RECONNECTS: Metric = Metric {
    name: "tongtu_agent_reconnects_total",
    help: "Sessions with control, and attempts at one, that ended.",
    source: "the session",
    ..COUNTER
};
static FRAMES: Metric = Metric {
    name: "tongtu_agent_frames_total",
    help: "Frames taken since the agent started.",
    source: "the agent",
    ..COUNTER
};

/// The metrics that are put here.
pub static METRICS: &[&Metric] =
    &[&RESIDENT, &CPU, &SPOOL_BYTES, &SPOOL_RECORDS, &OLDEST, &LOST, &REFUSED, &RECONNECTS, &FRAMES];

/// What the agent knows of itself at one frame.
pub(crate) struct Own<'a> {
    pub statm: Option<&'a File>,
    pub depth: Depth,
    pub reconnects: u64,
    pub frames: u64,
}

impl Own<'_> {
    pub(crate) fn put(&self, out: &mut Values<'_>) {
        if let Some(resident) = self.statm.and_then(resident_bytes) {
            out.put(&RESIDENT, &[], resident);
        }
        out.put(&CPU, &[], clock::process_cpu().as_micros() as i64);
        out.put(&SPOOL_BYTES, &[], self.depth.bytes as i64);
        out.put(&SPOOL_RECORDS, &[], self.depth.records as i64);
        out.put(&OLDEST, &[], self.depth.oldest_ms as i64);
        for (reason, lost) in LOST_REASONS.iter().zip(self.depth.lost) {
            out.put(&LOST, &[reason], lost as i64);
        }
        for (refusal, refused) in (0..).zip(self.depth.refused).filter(|(_, refused)| *refused > 0) {
            out.put(&REFUSED, &[refusal_text(refusal)], refused as i64);
        }
        out.put(&RECONNECTS, &[], self.reconnects as i64);
        out.put(&FRAMES, &[], self.frames as i64);
    }
}

/// As control's metrics name it.
fn refusal_text(refusal: i32) -> &'static str {
    match v1::Refusal::try_from(refusal).unwrap_or_default() {
        v1::Refusal::Unspecified => "unspecified",
        v1::Refusal::Checksum => "checksum",
        v1::Refusal::Undecodable => "undecodable",
        v1::Refusal::TooLarge => "too_large",
        v1::Refusal::UnknownSource => "unknown_source",
        v1::Refusal::UnknownBase => "unknown_base",
        v1::Refusal::OutOfOrder => "out_of_order",
        v1::Refusal::Future => "future",
        v1::Refusal::TooOld => "too_old",
        v1::Refusal::UnknownBoot => "unknown_boot",
        v1::Refusal::BadSchema => "bad_schema",
        v1::Refusal::BadSequence => "bad_sequence",
        v1::Refusal::TooMany => "too_many",
    }
}

fn resident_bytes(statm: &File) -> Option<i64> {
    let mut text = [0; 128];
    let length = statm.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    let pages: i64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as i64)
}
