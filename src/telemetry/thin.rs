//! As many points as a screen shows, and no more, of frames. Pure.
//!
//! What must hold: the least and the greatest value stay; a stretch in which nothing was measured
//! has no value and coverage 0; what is covered stays covered.

use super::Points;
use crate::platform::clock::UnixMs;

/// Frames of a shorter period are drawn as they came.
const FRAMES_PERIOD_MS: i64 = 12 * 3_600_000;

/// A value at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// When.
    pub at_ms: UnixMs,
    /// `None`: nothing is known.
    pub value: Option<f64>,
    /// The time before it that it stands for; 0: not known.
    pub covered_ms: i64,
}

/// From what a period is drawn if nobody says: frames where they are still kept and not too many,
/// else slots, which also keep a short peak in sight, by the same rule, else hours. `None`: frames.
#[must_use]
pub(super) fn step_ms(from_ms: UnixMs, to_ms: UnixMs, frames_from_ms: UnixMs, slots_from_ms: UnixMs) -> Option<i64> {
    let period_ms = to_ms.saturating_sub(from_ms);
    if period_ms <= FRAMES_PERIOD_MS && from_ms >= frames_from_ms {
        None
    } else if period_ms / super::slot::SLOT_MS < super::query::POINTS && from_ms >= slots_from_ms {
        Some(super::slot::SLOT_MS)
    } else {
        Some(super::slot::HOUR_MS)
    }
}

/// Samples, in order, of a period as at most `most` buckets of `width_ms`, each with its mean, least
/// and greatest value. A rate's mean is over its time, a gauge's over its samples.
#[must_use]
pub(super) fn buckets(samples: &[Sample], from_ms: UnixMs, to_ms: UnixMs, width_ms: i64, rates: bool) -> Points {
    let width_ms = width_ms.max(1);
    let mut points = Points::even(from_ms, ((to_ms - from_ms) / width_ms + 1) as usize, true);
    let mut rest = samples;
    let mut begin = from_ms;
    while begin < to_ms {
        let end = begin.saturating_add(width_ms);
        let (here, behind) = rest.split_at(rest.partition_point(|sample| sample.at_ms < end));
        rest = behind;
        let (mut sum, mut weights, mut covered_ms) = (0.0, 0.0, 0);
        let mut extremes: Option<(f64, f64)> = None;
        for sample in here {
            let Some(value) = sample.value else { continue };
            let weight = if rates { sample.covered_ms as f64 } else { 1.0 };
            sum += value * weight;
            weights += weight;
            covered_ms += sample.covered_ms;
            let (least, greatest) = extremes.unwrap_or((value, value));
            extremes = Some((least.min(value), greatest.max(value)));
        }
        let mean = if weights > 0.0 { Some(sum / weights) } else { None };
        // Rounding must not put a mean outside of what it is the mean of.
        points.value.push(mean.zip(extremes).map(|(mean, (least, greatest))| mean.clamp(least, greatest)));
        points.min.push(extremes.map(|extremes| extremes.0));
        points.max.push(extremes.map(|extremes| extremes.1));
        points.coverage.push((covered_ms as f64 / (end.min(to_ms) - begin) as f64).min(1.0) as f32);
        begin = end;
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::ids::{AgentId, SourceId};
    use crate::telemetry::columns::FrameMeta;
    use crate::telemetry::query::Assembly;
    use crate::telemetry::slot::{ColumnSlots, CounterSlot, GaugeSlot, SLOT_MS};
    use crate::telemetry::{Series, SeriesQuery, SourceInfo, StoredSchema};
    use proptest::prelude::*;
    use tongtu_protocol::{schema::SchemaId, v1};

    fn samples() -> impl Strategy<Value = Vec<Sample>> {
        let sample = (1i64..40_000, proptest::option::weighted(0.8, -1e9..1e9));
        proptest::collection::vec(sample, 0..200).prop_map(|steps| {
            let mut at_ms = 0;
            let sample = |(step, value): (i64, Option<f64>)| {
                at_ms += step;
                let covered_ms = if value.is_some() && step <= 30_000 { step } else { 0 };
                Sample { at_ms, value: value.filter(|_| covered_ms > 0), covered_ms }
            };
            steps.into_iter().map(sample).collect()
        })
    }

    proptest! {
        #[test]
        fn no_extreme_is_lost_and_no_gap_filled(samples in samples(), most in 1i64..300, rates in any::<bool>()) {
            let to_ms = samples.last().map_or(1, |last| last.at_ms + 1);
            let width_ms = (to_ms + most - 1) / most;
            let thin = buckets(&samples, 0, to_ms, width_ms, rates);
            prop_assert!(thin.value.len() as i64 <= most);
            let known = || samples.iter().filter_map(|sample| sample.value);
            let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
            prop_assert_eq!(least(&mut thin.min.iter().flatten().copied()), least(&mut known()));
            prop_assert_eq!(-least(&mut thin.max.iter().flatten().map(|max| -max)), -least(&mut known().map(|value| -value)));
            prop_assert_eq!(thin.first_ms, Some(0));
            let begins = || (0..).step_by(width_ms as usize).take(thin.value.len());
            for (index, begin) in begins().enumerate() {
                let here = samples.iter().filter(|sample| (begin..begin + width_ms).contains(&sample.at_ms));
                prop_assert_eq!(thin.value[index].is_some(), here.clone().any(|sample| sample.value.is_some()));
                prop_assert_eq!(thin.coverage[index] > 0.0, thin.value[index].is_some());
                if let (Some(value), Some(min), Some(max)) = (thin.value[index], thin.min[index], thin.max[index]) {
                    prop_assert!(min <= value && value <= max);
                }
            }
            if rates {
                // What was counted is still counted.
                let counted: f64 = samples.iter().filter_map(|sample| Some(sample.value? * sample.covered_ms as f64)).sum();
                let covered = |begin: i64| -> i64 {
                    samples.iter().filter(|sample| (begin..begin + width_ms).contains(&sample.at_ms)).map(|sample| sample.covered_ms).sum()
                };
                let again: f64 = begins().zip(&thin.value).filter_map(|(begin, value)| Some((*value)? * covered(begin) as f64)).sum();
                prop_assert!((counted - again).abs() <= 1e-3 * counted.abs().max(1e9), "{counted} {again}");
            }
        }
    }

    const START: UnixMs = 1_790_000_000_000 / SLOT_MS * SLOT_MS;

    fn schema() -> StoredSchema {
        let column = |metric: &str, kind: v1::Kind| v1::Column {
            metric: metric.to_owned(),
            kind: kind.into(),
            exponent: -2,
            ..Default::default()
        };
        let columns = vec![column("bytes", v1::Kind::Counter), column("level", v1::Kind::Gauge)];
        StoredSchema::new(1, SchemaId([0; 16]), columns)
    }

    fn ask(minutes: i64, step_ms: Option<i64>, points: Option<usize>) -> Assembly {
        let query = SeriesQuery {
            source: SourceId(1),
            metrics: vec!["level".to_owned(), "bytes".to_owned()],
            resource: None,
            from_ms: START,
            to_ms: START + minutes * 60_000,
            step_ms,
            points,
            sum_by: None,
        };
        let source = SourceInfo {
            id: SourceId(1),
            agent: AgentId(1),
            kind: "host".into(),
            key: "m".into(),
            interval_ms: 15_000,
            created_ms: START,
            last_instant_ms: None,
        };
        Assembly::new(&query, &source, vec![(START, UnixMs::MAX)], START + (1 << 40)).expect("a question")
    }

    /// Bytes and level of the slots, drawn with so many points.
    fn drawn(counters: &[CounterSlot], gauges: &[GaugeSlot], points: Option<usize>) -> [Series; 2] {
        let mut assembly = ask(counters.len() as i64 * 5, Some(SLOT_MS), points);
        let schema = schema();
        assembly.slots(&schema, 0, START, SLOT_MS, &ColumnSlots::Counter(counters.to_vec()));
        assembly.slots(&schema, 1, START, SLOT_MS, &ColumnSlots::Gauge(gauges.to_vec()));
        assembly.finish().expect("an answer").try_into().expect("two series")
    }

    proptest! {
        #[test]
        fn slots_are_thinned_as_frames_are(
            slots in proptest::collection::vec((0u32..=20, 0u64..1_000_000, -1_000i64..1_000, 0i64..50), 1..300),
            most in 2usize..60,
        ) {
            let counters: Vec<_> = slots.iter().map(|(covered, delta, ..)| CounterSlot {
                delta: if *covered > 0 { *delta } else { 0 },
                covered_ms: covered * 15_000,
                ..Default::default()
            }).collect();
            let gauges: Vec<_> = slots.iter().map(|(count, _, least, spread)| if *count == 0 {
                GaugeSlot::default()
            } else {
                let (min, max) = (*least, least + spread);
                GaugeSlot { sum: i128::from((min + max) / 2) * i128::from(*count), min, max, count: *count, covered_ms: count * 15_000 }
            }).collect();
            let (all, thin) = (drawn(&counters, &gauges, None), drawn(&counters, &gauges, Some(most)));
            for (all, thin) in all.iter().zip(&thin) {
                prop_assert!(thin.points.value.len() <= most.max(1));
                prop_assert_eq!(thin.coverage, all.coverage);
                let extreme = |values: &[Option<f64>], sign: f64| values.iter().flatten().map(|value| value * sign).fold(f64::INFINITY, f64::min);
                let lows = |points: &Points| if points.min.is_empty() { extreme(&points.value, 1.0) } else { extreme(&points.min, 1.0) };
                let highs = |points: &Points| if points.max.is_empty() { extreme(&points.value, -1.0) } else { extreme(&points.max, -1.0) };
                prop_assert_eq!(lows(&thin.points), lows(&all.points));
                prop_assert_eq!(highs(&thin.points), highs(&all.points));
                let known = |points: &Points| points.value.iter().flatten().count() > 0;
                prop_assert_eq!(known(&thin.points), known(&all.points));
            }
            // The mean rate of all time is that of the counter.
            let seconds = |points: &Points, at: usize, step_ms: i64| f64::from(points.coverage[at]) * step_ms as f64 / 1_000.0;
            let grown: u64 = counters.iter().map(|slot| slot.delta).sum();
            let bytes = &thin[0];
            let last = bytes.points.value.len() - 1;
            let rest_ms = (slots.len() as i64 * SLOT_MS) - last as i64 * bytes.step_ms;
            let again: f64 = bytes.points.value.iter().enumerate().filter_map(|(at, value)| {
                Some((*value)? * seconds(&bytes.points, at, if at == last { rest_ms } else { bytes.step_ms }))
            }).sum();
            prop_assert!((again * 100.0 - grown as f64).abs() <= grown as f64 * 1e-5, "{again} {grown}");
        }
    }

    #[test]
    fn a_counters_frames_are_drawn_as_its_rate() {
        let schema = schema();
        let frames: Vec<_> = [(0, 1), (15, 1), (30, 1), (45, 2), (60, 2), (300, 2), (315, 2)]
            .map(|(at, boot)| FrameMeta {
                instant_ms: START + at * 1_000,
                sequence: 1,
                epoch: 1,
                boot,
                uncertain: false,
                interval_ms: 15_000,
            })
            .into();
        let counts = [1_000, 4_000, 2_000, 0, 1_500, 9_000, 9_000].map(Some);
        let mut assembly = ask(6, None, Some(100));
        assembly.frames(&schema, 0, &frames, &counts);
        let [bytes, _] = &assembly.finish().expect("an answer")[..] else { panic!("two series") };
        assert!(bytes.rate);
        let seconds: Vec<_> = bytes.points.instants_ms.iter().map(|at| (at - START) / 1_000).collect();
        assert_eq!(seconds, [15, 30, 45, 60, 75, 300, 315]);
        // Gone back; another boot; a gap, marked where it begins; nothing is known across it.
        assert_eq!(bytes.points.value, [Some(2.0), None, None, Some(1.0), None, None, Some(0.0)]);
        let mut assembly = ask(6, None, None);
        assembly.frames(&schema, 0, &frames, &counts);
        let [bytes, _] = &assembly.finish().expect("an answer")[..] else { panic!("two series") };
        assert!(!bytes.rate && bytes.points.value[1] == Some(40.0), "as sampled");
    }

    #[test]
    fn what_a_period_is_drawn_from() {
        const HOUR: i64 = 3_600_000;
        let now = 1_790_000_000_000;
        let (kept, slots) = (now - 8 * 24 * HOUR, now - 400 * 24 * HOUR);
        let step_ms = |from_ms, to_ms| step_ms(from_ms, to_ms, kept, slots);
        assert_eq!(step_ms(now - HOUR, now), None);
        assert_eq!(step_ms(now - 12 * HOUR, now), None);
        assert_eq!(step_ms(now - 13 * HOUR, now), Some(300_000));
        assert_eq!(step_ms(kept - HOUR, kept), Some(300_000), "frames that old are gone");
        assert_eq!(step_ms(now - 30 * 24 * HOUR, now), Some(300_000));
        assert_eq!(step_ms(now - 365 * 24 * HOUR, now), Some(HOUR));
        assert_eq!(step_ms(slots - HOUR, slots), Some(HOUR), "slots that old are gone");
    }
}
