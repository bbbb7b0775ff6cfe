//! Whether a counter can have moved so far: resets, wraps, and the speed of the interface that bounds its rate.

use super::{Before, Maker, Measure, longest_ms, measures};
use crate::platform::clock::UnixMs;
use crate::telemetry::columns::FrameMeta;
use crate::telemetry::measured::Measurement;

/// What becomes of a counter's interval.
pub(super) enum Verdict {
    Delta(u64),
    Reset,
    Dropped,
}

/// The gauge that bounds a counter's rate.
pub(super) struct Speed<'a> {
    maker: &'a Maker<'a>,
    column: usize,
    /// Read when it is first asked for.
    gauge: Option<Vec<Said>>,
}

/// What a gauge said from an instant on.
struct Said {
    from_ms: UnixMs,
    boot: u32,
    value: Option<i64>,
}

impl<'a> Speed<'a> {
    pub(super) fn new(maker: &'a Maker<'a>, column: usize) -> Self {
        Self { maker, column, gauge: None }
    }

    pub(super) fn judge(&mut self, frame: usize, length_ms: u32, before: i64, value: i64) -> Verdict {
        let meaning = &self.maker.schema.columns[self.column];
        let (delta, wrapped) = if value >= before {
            (value.wrapping_sub(before) as u64, false)
        } else if meaning.width_bits == 32 && value >= 0 && before <= i64::from(u32::MAX) {
            ((value - before + (1 << 32)) as u64, true)
        } else {
            return Verdict::Reset;
        };
        let speed = self.at(frame, length_ms);
        let within = speed.map(|(speed, exponent)| is_within(delta, meaning.exponent, length_ms, speed, exponent));
        match (wrapped, within) {
            (false, None | Some(true)) | (true, Some(true)) => Verdict::Delta(delta),
            (false, Some(false)) => Verdict::Dropped,
            (true, None | Some(false)) => Verdict::Reset,
        }
    }

    /// The speed during the interval of this length that ends in `frame`, and its exponent. A link that says
    /// nothing or no positive number has no known speed; of several, the highest one allows most. One that is
    /// measured less often than frames come is known for two and a half cadences, as everything is.
    fn at(&mut self, frame: usize, length_ms: u32) -> Option<(i64, i32)> {
        let maker = self.maker;
        let place = (maker.schema.columns[self.column].speed_column as usize).checked_sub(1)?;
        let gauge = self.gauge.get_or_insert_with(|| maker.said(place));
        let FrameMeta { instant_ms: end_ms, boot, .. } = maker.view.frames()[frame];
        let begin_ms = end_ms - i64::from(length_ms);
        // What held when it began, and what was said from there on.
        let from = gauge.partition_point(|said| said.from_ms <= begin_ms).saturating_sub(1);
        let to = gauge.partition_point(|said| said.from_ms <= end_ms);
        let meaning = &maker.schema.columns[place];
        let longest_ms = longest_ms(meaning.cadence_s.saturating_mul(1_000));
        let is_known = |said: &&Said| {
            meaning.cadence_s == 0 || (said.boot == boot && end_ms.saturating_sub(said.from_ms) <= longest_ms)
        };
        let speed = gauge[from..to].iter().filter(is_known).filter_map(|said| said.value).max();
        Some((speed.filter(|speed| *speed > 0)?, meaning.exponent))
    }
}

/// What a counter may seem to move, in percent of what its interface can: 300 ms of 15 s between the
/// reading of a counter and the instant of its frame.
const SPEED_PERCENT: i128 = 102;

/// Whether `delta × 10^exponent` in `length_ms` is at most [`SPEED_PERCENT`] of
/// `speed × 10^speed_exponent` a second.
pub(super) fn is_within(delta: u64, exponent: i32, length_ms: u32, speed: i64, speed_exponent: i32) -> bool {
    let mut moved = i128::from(delta) * 1_000 * 100;
    let mut allowed = i128::from(speed) * i128::from(length_ms) * SPEED_PERCENT;
    let scale = |value: i128, by: i32| {
        10i128.checked_pow(by.unsigned_abs()).map_or(i128::MAX, |power| value.saturating_mul(power))
    };
    match exponent - speed_exponent {
        by if by >= 0 => moved = scale(moved, by),
        by => allowed = scale(allowed, by),
    }
    moved <= allowed
}

impl Maker<'_> {
    /// What a gauge said, in order: of a slow one each measurement, of others each change.
    fn said(&self, column: usize) -> Vec<Said> {
        let frames = self.view.frames();
        if let Ok(place) = self.schema.slow.binary_search_by_key(&column, |slow| slow.column) {
            let of = |last: &Measurement| Said { from_ms: last.at_ms, boot: last.boot, value: Some(last.value) };
            let before = self.measured.get(place).map(of);
            let measured = measures(&self.view, None, column, self.schema.slow[place].cadence_ms);
            let of = |it: Measure| Said { from_ms: it.at_ms, boot: frames[it.frame].boot, value: Some(it.value) };
            return before.into_iter().chain(measured.map(of)).collect();
        }
        let of = |before: &Before<'_>| Said { from_ms: UnixMs::MIN, boot: 0, value: before.value(self.schema, column) };
        let before = self.before.as_ref().map(of);
        let runs = self.view.runs(column).map(|run| (frames[run.from], run.value));
        let runs = runs.map(|(meta, value)| Said { from_ms: meta.instant_ms, boot: meta.boot, value });
        before.into_iter().chain(runs).collect()
    }
}
