//! What the kernel says of its clock: `adjtimex` with nothing to adjust. The one call of an
//! agent that no safe library offers.

use std::io;

/// STA_NANO: offset and jitter are in nanoseconds.
const STA_NANO: libc::c_int = 0x2000;
/// TIME_ERROR: the clock is not synchronised.
const TIME_ERROR: libc::c_int = 5;

/// The kernel's answer, in its own units.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the metrics that show them say what they are")]
pub struct Timex {
    pub synchronised: bool,
    pub nanoseconds: bool,
    pub offset: i64,
    pub frequency: i64,
    pub largest_error: i64,
    pub estimated_error: i64,
    pub status: i64,
    pub constant: i64,
    pub tick: i64,
    pub tai: i64,
    pub pps_frequency: i64,
    pub pps_jitter: i64,
    pub pps_shift: i64,
    pub pps_stability: i64,
    pub pps_jitters: i64,
    pub pps_calibrations: i64,
    pub pps_errors: i64,
    pub pps_exceeded: i64,
}

/// Asks the kernel.
///
/// # Errors
/// Where a sandbox forbids the call.
#[expect(unsafe_code, reason = "no safe library offers adjtimex")]
pub fn read() -> io::Result<Timex> {
    // SAFETY: `timex` is made of integers, for which all zeroes is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole `timex` of ours, and `modes` is 0: nothing is adjusted.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Timex {
        synchronised: state != TIME_ERROR,
        nanoseconds: timex.status & STA_NANO != 0,
        offset: timex.offset,
        frequency: timex.freq,
        largest_error: timex.maxerror,
        estimated_error: timex.esterror,
        status: timex.status.into(),
        constant: timex.constant,
        tick: timex.tick,
        tai: timex.tai.into(),
        pps_frequency: timex.ppsfreq,
        pps_jitter: timex.jitter,
        pps_shift: timex.shift.into(),
        pps_stability: timex.stabil,
        pps_jitters: timex.jitcnt,
        pps_calibrations: timex.calcnt,
        pps_errors: timex.errcnt,
        pps_exceeded: timex.stbcnt,
    })
}
