//! Waiting for a condition, and measuring how long something took: the laboratory's only clock.

use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A pause that is interrupted ends after this time.
const INTERRUPTED_WITHIN: Duration = Duration::from_millis(200);

/// Looks until the condition holds and returns what it found; `Err` is what was seen instead.
///
/// # Panics
/// At the deadline, with what was seen last.
#[track_caller]
pub fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let watch = Stopwatch::start();
    loop {
        let seen = match look() {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(watch.elapsed() < limit, "{what}: not within {limit:?}; last seen: {seen}");
        pause(LOOK_EVERY);
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What a thread ends with after [`interrupt`].
#[derive(Debug, Clone, Copy)]
pub struct Interrupted;

/// Ends every thread at its next wait, as a panic does but without a word, so that processes end and folders
/// go with their values.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether [`interrupt`] was called.
#[must_use]
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Ends the thread if that was asked for; one that is ending already goes on.
pub fn check() {
    if is_interrupted() && !std::thread::panicking() {
        std::panic::resume_unwind(Box::new(Interrupted));
    }
}

/// Lets a time pass: for faults that come at random moments, never to wait for something.
#[expect(clippy::disallowed_methods, reason = "the one sleep, between two looks at a condition")]
pub fn pause(time: Duration) {
    let watch = Stopwatch::start();
    loop {
        check();
        let left = time.saturating_sub(watch.elapsed());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(INTERRUPTED_WITHIN));
    }
}

/// How long something takes.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the laboratory's clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A machine of the laboratory, while it is there. At its end a line says how long that was, and how long it is since
/// the first one of the run began: the last such line is what the laboratory took.
#[derive(Debug)]
pub struct Stay {
    name: String,
    watch: Stopwatch,
}

static FIRST_STAY: OnceLock<Stopwatch> = OnceLock::new();

impl Stay {
    /// Begins.
    #[must_use]
    pub fn begin(name: String) -> Self {
        let watch = Stopwatch::start();
        FIRST_STAY.get_or_init(|| watch);
        Self { name, watch }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let all = FIRST_STAY.get().map_or(Duration::ZERO, Stopwatch::elapsed);
        let (name, own, all) = (&self.name, self.watch.elapsed().as_secs(), all.as_secs());
        // Not by a macro, of which a test that passes shows nothing.
        let _ = writeln!(std::io::stderr(), "laboratory: {name} was there for {own} s; {all} s in all");
    }
}

/// Unix time in milliseconds.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the laboratory's clock")]
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
