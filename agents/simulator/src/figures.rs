//! The figures of a run: counted by all agents at once, read at the end.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Buckets of a histogram: 32 for each power of two of microseconds.
const STEPS: usize = 32;
const BUCKETS: usize = 40 * STEPS;

/// What all agents count.
#[derive(Debug)]
pub struct Figures {
    /// Agents that hold a certificate.
    pub enrolled: AtomicU64,
    /// Frames made, each once.
    pub frames_made: AtomicU64,
    /// Frames acknowledged as durable, each once however often it was sent.
    pub frames_acknowledged: AtomicU64,
    /// Values present in these.
    pub samples_acknowledged: AtomicU64,
    /// Bytes of frame bodies made.
    pub body_bytes: AtomicU64,
    /// Agents that have had a frame acknowledged.
    pub reporting: AtomicU64,
    /// Sessions opened after the first of an agent.
    pub reconnects: AtomicU64,
    /// Spools begun anew at control's word.
    pub new_epochs: AtomicU64,
    /// Every agent has had a frame acknowledged.
    pub all_report: AtomicBool,
    refused: Mutex<BTreeMap<String, u64>>,
    latency: Latency,
    steady_latency: Latency,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            enrolled: AtomicU64::new(0),
            frames_made: AtomicU64::new(0),
            frames_acknowledged: AtomicU64::new(0),
            samples_acknowledged: AtomicU64::new(0),
            body_bytes: AtomicU64::new(0),
            reporting: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            new_epochs: AtomicU64::new(0),
            all_report: AtomicBool::new(false),
            refused: Mutex::default(),
            latency: Latency::default(),
            steady_latency: Latency::default(),
        }
    }
}

impl Figures {
    /// A frame was made.
    pub fn made(&self, body_bytes: usize) {
        self.frames_made.fetch_add(1, Relaxed);
        self.body_bytes.fetch_add(body_bytes as u64, Relaxed);
    }

    /// A frame was acknowledged, so long after it was handed to the stream.
    pub fn acknowledged(&self, samples: u32, after: Duration) {
        self.frames_acknowledged.fetch_add(1, Relaxed);
        self.samples_acknowledged.fetch_add(u64::from(samples), Relaxed);
        self.latency.record(after);
        if self.all_report.load(Relaxed) {
            self.steady_latency.record(after);
        }
    }

    /// An agent's first frame was acknowledged.
    pub fn reporting(&self) {
        self.reporting.fetch_add(1, Relaxed);
    }

    /// A frame was refused for good.
    pub fn refused(&self, reason: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(reason.to_owned()).or_default() += 1;
    }

    /// Frames neither acknowledged nor refused.
    #[must_use]
    pub fn open(&self) -> u64 {
        let refused: u64 = self.refused.lock().unwrap_or_else(PoisonError::into_inner).values().sum();
        let made = self.frames_made.load(Relaxed);
        made.saturating_sub(self.frames_acknowledged.load(Relaxed) + refused)
    }

    /// Everything, as it stands.
    #[must_use]
    pub fn summary(&self, agents: usize, elapsed: Duration) -> Summary {
        let made = self.frames_made.load(Relaxed);
        Summary {
            agents: agents as u64,
            agents_enrolled: self.enrolled.load(Relaxed),
            seconds: elapsed.as_secs_f64(),
            frames_made: made,
            frames_acknowledged: self.frames_acknowledged.load(Relaxed),
            frames_open: self.open(),
            samples_acknowledged: self.samples_acknowledged.load(Relaxed),
            frames_refused: self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            body_bytes_mean: self.body_bytes.load(Relaxed) as f64 / made.max(1) as f64,
            acknowledgement_ms: self.latency.percentiles(),
            steady_acknowledgement_ms: self.steady_latency.percentiles(),
            reconnects: self.reconnects.load(Relaxed),
            new_epochs: self.new_epochs.load(Relaxed),
        }
    }
}

/// A run's result: one JSON document, or text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Asked for.
    pub agents: u64,
    /// That got a certificate.
    pub agents_enrolled: u64,
    /// From the first enrolment to the last acknowledgement.
    pub seconds: f64,
    /// Each once.
    pub frames_made: u64,
    /// Each once, however often it was sent.
    pub frames_acknowledged: u64,
    /// Neither acknowledged nor refused.
    pub frames_open: u64,
    /// Values present in the acknowledged frames.
    pub samples_acknowledged: u64,
    /// By reason.
    pub frames_refused: BTreeMap<String, u64>,
    /// Of a frame, before TLS and gRPC.
    pub body_bytes_mean: f64,
    /// From the stream to the acknowledgement.
    pub acknowledgement_ms: Percentiles,
    /// The same, counted from when every agent has had a frame acknowledged.
    pub steady_acknowledgement_ms: Percentiles,
    /// Sessions opened after the first of an agent.
    pub reconnects: u64,
    /// Spools begun anew at control's word.
    pub new_epochs: u64,
}

impl Summary {
    /// Whether everything made was acknowledged.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.agents_enrolled == self.agents && self.frames_acknowledged == self.frames_made
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ack, steady) = (&self.acknowledgement_ms, &self.steady_acknowledgement_ms);
        writeln!(f, "agents_enrolled       {} of {}", self.agents_enrolled, self.agents)?;
        writeln!(f, "frames_made           {}", self.frames_made)?;
        writeln!(f, "frames_acknowledged   {}", self.frames_acknowledged)?;
        writeln!(f, "frames_open           {}", self.frames_open)?;
        for (reason, count) in &self.frames_refused {
            writeln!(f, "frames_refused        {count} ({reason})")?;
        }
        writeln!(f, "samples_acknowledged  {}", self.samples_acknowledged)?;
        writeln!(f, "acknowledgement_ms    p50 {:.1}, p99 {:.1}, max {:.1}", ack.p50, ack.p99, ack.max)?;
        writeln!(f, "once all report       p50 {:.1}, p99 {:.1}, max {:.1}", steady.p50, steady.p99, steady.max)?;
        writeln!(f, "body_bytes_mean       {:.0}", self.body_bytes_mean)?;
        writeln!(f, "reconnects            {}", self.reconnects)?;
        writeln!(f, "new_epochs            {}", self.new_epochs)?;
        write!(f, "seconds               {:.1}", self.seconds)
    }
}

/// Of a set of durations, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half are shorter.
    pub p50: f64,
    /// One in a hundred is longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// Durations by magnitude, exact to 3 %.
#[derive(Debug)]
pub struct Latency {
    buckets: Box<[AtomicU64]>,
    max_us: AtomicU64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), max_us: AtomicU64::new(0) }
    }
}

impl Latency {
    /// Adds one.
    pub fn record(&self, duration: Duration) {
        let us = duration.as_micros() as u64;
        self.buckets[bucket(us)].fetch_add(1, Relaxed);
        self.max_us.fetch_max(us, Relaxed);
    }

    /// What has been recorded.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let max = self.max_us.load(Relaxed) as f64 / 1_000.0;
        let rank = |share: f64| {
            let rank = (share * total as f64).ceil() as u64;
            let mut seen = 0;
            let at = counts.iter().position(|count| {
                seen += count;
                seen >= rank && rank > 0
            });
            at.map_or(0.0, |at| upper_us(at) / 1_000.0).min(max)
        };
        Percentiles { p50: rank(0.5), p99: rank(0.99), max }
    }
}

fn bucket(us: u64) -> usize {
    let steps = STEPS as u64;
    if us < steps {
        return us as usize;
    }
    let power = us.ilog2() - STEPS.ilog2();
    let within = (us >> power) - steps;
    ((u64::from(power) + 1) * steps + within).min(BUCKETS as u64 - 1) as usize
}

fn upper_us(bucket: usize) -> f64 {
    if bucket < STEPS {
        return bucket as f64;
    }
    let power = bucket / STEPS - 1;
    ((STEPS + bucket % STEPS + 1) as f64) * 2f64.powi(power as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_four_percent() {
        let latency = Latency::default();
        for ms in 1..=1_000 {
            latency.record(Duration::from_millis(ms));
        }
        let figures = latency.percentiles();
        assert!((figures.p50 / 500.0 - 1.0).abs() < 0.04, "{figures:?}");
        assert!((figures.p99 / 990.0 - 1.0).abs() < 0.04, "{figures:?}");
        assert_eq!(figures.max, 1_000.0);
        assert_eq!(Latency::default().percentiles(), Percentiles::default());
    }

    #[test]
    fn a_run_is_complete_when_everything_made_was_acknowledged() {
        let figures = Figures::default();
        figures.enrolled.store(1, Relaxed);
        figures.made(100);
        figures.made(100);
        figures.acknowledged(544, Duration::from_millis(3));
        assert_eq!(figures.open(), 1);
        assert!(!figures.summary(1, Duration::ZERO).is_complete());
        figures.refused("future");
        assert_eq!(figures.open(), 0);
        assert!(!figures.summary(1, Duration::ZERO).is_complete(), "refused is not acknowledged");
    }
}
