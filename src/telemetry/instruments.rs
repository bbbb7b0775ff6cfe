//! Control's own metrics of telemetry.

use super::queue::Fate;
use super::service::Inner;
use crate::metrics as list;
use crate::platform::metrics::Registry;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use tongtu_protocol::v1::Refusal;

/// See the list for their meaning.
#[derive(Debug)]
pub(super) struct Instruments {
    pub later: IntCounter,
    pub commit_duration: Histogram,
    pub queue_bytes: IntGauge,
    queue_limit: IntGauge,
    pub windows_sealed: IntGauge,
    pub compaction_duration: Histogram,
    pub compactions: IntCounterVec,
    pub compacted_samples: IntCounter,
    pub sources_left_out: IntCounter,
    pub chunk_bytes: IntCounter,
    accepted: IntCounter,
    lost: IntCounter,
    pub refused: IntCounterVec,
}

const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const MINUTES: &[f64] = &[0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0];

impl Instruments {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            later: registry.counter(&list::RECORDS_LATER),
            commit_duration: registry.histogram(&list::COMMIT_DURATION, SECONDS),
            queue_bytes: registry.gauge(&list::QUEUE_BYTES),
            queue_limit: registry.gauge(&list::QUEUE_LIMIT),
            windows_sealed: registry.gauge(&list::WINDOWS_SEALED),
            compaction_duration: registry.histogram(&list::COMPACTION_DURATION, MINUTES),
            compactions: registry.counter_vec(&list::COMPACTIONS),
            compacted_samples: registry.counter(&list::COMPACTED_SAMPLES),
            sources_left_out: registry.counter(&list::COMPACTION_SOURCES_LEFT_OUT),
            chunk_bytes: registry.counter(&list::CHUNK_BYTES),
            accepted: registry.counter(&list::RECORDS_ACCEPTED),
            lost: registry.counter(&list::RECORDS_LOST),
            refused: registry.counter_vec(&list::RECORDS_REFUSED),
        }
    }

    /// Records that became durable since the start.
    pub(super) fn records_accepted(&self) -> u64 {
        self.accepted.get()
    }

    /// Counts sequences that became settled, or that there is nothing to settle of.
    pub(super) fn settled(&self, fate: Fate, records: u64) {
        match fate {
            Fate::Frame | Fate::Row => self.accepted.inc_by(records),
            Fate::Again => {}
            Fate::Lost => self.lost.inc_by(records),
            Fate::Refused(refusal) => self.refused.with_label_values(&[reason(refusal)]).inc_by(records),
        }
    }
}

impl Inner {
    /// Brings gauges up to date.
    pub(super) fn measure(&self) {
        self.metrics.queue_bytes.set(self.queue.bytes() as i64);
        self.metrics.queue_limit.set(self.config.queue_size as i64);
    }
}

/// "checksum", "unknown_source", …
pub(super) fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unspecified => "unspecified",
        Refusal::Checksum => "checksum",
        Refusal::Undecodable => "undecodable",
        Refusal::TooLarge => "too_large",
        Refusal::UnknownSource => "unknown_source",
        Refusal::UnknownBase => "unknown_base",
        Refusal::OutOfOrder => "out_of_order",
        Refusal::Future => "future",
        Refusal::TooOld => "too_old",
        Refusal::UnknownBoot => "unknown_boot",
        Refusal::BadSchema => "bad_schema",
        Refusal::BadSequence => "bad_sequence",
        Refusal::TooMany => "too_many",
    }
}
