//! The machine's clocks: time, zone, sources, synchronisation, uptime.

use crate::{
    metrics as m,
    text::{TextFile, numbered},
    zone,
};
use std::path::PathBuf;
use tongtu_agent_runtime::{
    adjtimex, clock,
    collect::{CollectError, Collector, Context, Unavailable, Values},
};

/// Runs after which the time zone is read again.
const REFRESH: u32 = 240;

struct Time {
    localtime: PathBuf,
    zone: Option<zone::Zone>,
    runs: u32,
    sources: Vec<Source>,
}

/// A clock device with its two files.
struct Source {
    device: String,
    available: TextFile,
    current: TextFile,
}

/// The clock, its zone and its source.
///
/// # Errors
/// None.
pub(super) fn time(context: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let directory = context.sys.join("devices/system/clocksource");
    let source = |(index, path): (u32, PathBuf)| {
        Some(Source {
            device: index.to_string(),
            available: TextFile::open(path.join("available_clocksource")).ok()?,
            current: TextFile::open(path.join("current_clocksource")).ok()?,
        })
    };
    Ok(Box::new(Time {
        localtime: context.root.join("etc/localtime"),
        zone: None,
        runs: 0,
        sources: numbered(&directory, "clocksource").into_iter().filter_map(source).collect(),
    }))
}

impl Collector for Time {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        let now_ms = clock::wall_ms();
        out.put(&m::TIME, &[], now_ms);
        if self.runs.is_multiple_of(REFRESH) {
            self.zone = zone::read(&self.localtime);
        }
        self.runs = self.runs.wrapping_add(1);
        let local = self.zone.as_ref().and_then(|zone| zone.at(now_ms.div_euclid(1_000)));
        if let Some((offset, name)) = local {
            out.put(&m::TIME_ZONE, &[name], offset.into());
        }
        for source in &mut self.sources {
            for name in source.available.read()?.split_ascii_whitespace() {
                out.put(&m::CLOCKSOURCE_AVAILABLE, &[name, &source.device], 1);
            }
            let current = source.current.read()?.trim();
            if !current.is_empty() {
                out.put(&m::CLOCKSOURCE_CURRENT, &[current, &source.device], 1);
            }
        }
        Ok(())
    }
}

struct Uptime;

/// Time since the start.
///
/// # Errors
/// None.
pub(super) fn uptime(_: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    Ok(Box::new(Uptime))
}

impl Collector for Uptime {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        out.put(&m::UPTIME, &[], clock::boottime_ms() as i64);
        Ok(())
    }
}

struct Synchronisation;

/// What the kernel says about the clock's synchronisation.
///
/// # Errors
/// Where the kernel may not be asked.
pub(super) fn timex(_: &Context) -> Result<Box<dyn Collector>, Unavailable> {
    let no = |error| Unavailable::new(format!("the kernel's clock may not be asked: {error}"));
    adjtimex::read().map_err(no)?;
    Ok(Box::new(Synchronisation))
}

/// The kernel's unit of frequency: 2^-16 parts in a million. As an exact fraction of 10^-15 it is
/// 10^9 / 2^16.
fn frequency(value: i64) -> i64 {
    (i128::from(value) * 1_000_000_000 / 65_536) as i64
}

impl Collector for Synchronisation {
    fn collect(&mut self, out: &mut Values<'_>) -> Result<(), CollectError> {
        let kernel = adjtimex::read()?;
        // Offset and jitter are in microseconds unless the kernel was told otherwise.
        let fine = if kernel.nanoseconds { 1 } else { 1_000 };
        let values = [
            (&m::TIMEX_SYNC, kernel.synchronised.into()),
            (&m::TIMEX_OFFSET, kernel.offset * fine),
            (&m::TIMEX_FREQUENCY, 1_000_000_000_000_000 + frequency(kernel.frequency)),
            (&m::TIMEX_MAXERROR, kernel.largest_error),
            (&m::TIMEX_ESTERROR, kernel.estimated_error),
            (&m::TIMEX_STATUS, kernel.status),
            (&m::TIMEX_CONSTANT, kernel.constant),
            (&m::TIMEX_TICK, kernel.tick),
            (&m::TIMEX_TAI, kernel.tai),
            (&m::TIMEX_PPS_FREQUENCY, frequency(kernel.pps_frequency)),
            (&m::TIMEX_PPS_JITTER, kernel.pps_jitter * fine),
            (&m::TIMEX_PPS_SHIFT, kernel.pps_shift),
            (&m::TIMEX_PPS_STABILITY, frequency(kernel.pps_stability)),
            (&m::TIMEX_PPS_JITTERS, kernel.pps_jitters),
            (&m::TIMEX_PPS_CALIBRATIONS, kernel.pps_calibrations),
            (&m::TIMEX_PPS_ERRORS, kernel.pps_errors),
            (&m::TIMEX_PPS_EXCEEDED, kernel.pps_exceeded),
        ];
        for (metric, value) in values {
            out.put(metric, &[], value);
        }
        Ok(())
    }
}
