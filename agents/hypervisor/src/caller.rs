//! Calls that may hang. Each is made by a thread with a state of its own (a connection), and waited for only
//! so long. A thread that does not answer in time is left to itself: the next call is made by a new one, with a
//! new state, until too many hang.
//!
//! Deliberately absent: cancellation. Nothing ends a thread that waits inside libvirt; it ends by itself when
//! libvirt answers, or when keep-alive has given up the connection.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use thiserror::Error;

/// Threads that may hang before no other call is made.
const MOST_HANGING: usize = 4;
/// libvirt's client keeps little on its stack.
const STACK_BYTES: usize = 1 << 20;

/// Why a call has no answer.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    /// It took too long.
    #[error("libvirt did not answer within {0:?}")]
    Timeout(Duration),
    /// Others took too long and still do.
    #[error("{0} calls to libvirt hang; no other is made until one of them returns")]
    Hanging(usize),
    /// There is no thread to make it.
    #[error("this system gives the agent no thread: {0}")]
    Thread(io::Error),
    /// It panicked.
    #[error("the call panicked")]
    Panicked,
}

type Work<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Makes calls with a state `S`, one after another.
pub(crate) struct Caller<S> {
    name: &'static str,
    make: Arc<dyn Fn() -> S + Send + Sync>,
    thread: Option<mpsc::Sender<Work<S>>>,
    hanging: Arc<AtomicUsize>,
}

/// Whether a call is waited for, given up, or done; the one who comes second counts it.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Waited,
    GivenUp,
    Done,
}

/// Says that a call is done, also if it panicked.
struct Finish {
    stage: Arc<Mutex<Stage>>,
    hanging: Arc<AtomicUsize>,
}

impl Drop for Finish {
    fn drop(&mut self) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *stage, Stage::Done) == Stage::GivenUp {
            self.hanging.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl<S: 'static> Caller<S> {
    /// Of threads called `name`, each with a state made by `make`.
    pub(crate) fn new(name: &'static str, make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self { name, make: Arc::new(make), thread: None, hanging: Arc::default() }
    }

    /// How many calls hang now.
    pub(crate) fn hanging(&self) -> usize {
        self.hanging.load(Ordering::SeqCst)
    }

    /// Makes a call and waits for its answer for so long.
    pub(crate) fn call<R: Send + 'static>(
        &mut self,
        patience: Duration,
        call: impl FnOnce(&mut S) -> R + Send + 'static,
    ) -> Result<R, CallError> {
        let hanging = self.hanging();
        if hanging >= MOST_HANGING {
            return Err(CallError::Hanging(hanging));
        }
        let stage = Arc::new(Mutex::new(Stage::Waited));
        let finish = Finish { stage: Arc::clone(&stage), hanging: Arc::clone(&self.hanging) };
        let (answer, answered) = mpsc::sync_channel(1);
        let work: Work<S> = Box::new(move |state| {
            let finish = finish;
            let _ = answer.send(call(state));
            drop(finish);
        });
        if self.thread()?.send(work).is_err() {
            self.thread = None;
            return Err(CallError::Panicked);
        }
        match answered.recv_timeout(patience) {
            Ok(answer) => Ok(answer),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                self.thread = None;
                Err(CallError::Panicked)
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
                if *stage == Stage::Waited {
                    *stage = Stage::GivenUp;
                    self.hanging.fetch_add(1, Ordering::SeqCst);
                }
                // Whatever it still does, it does for nobody.
                self.thread = None;
                Err(CallError::Timeout(patience))
            }
        }
    }

    fn thread(&mut self) -> Result<&mpsc::Sender<Work<S>>, CallError> {
        let sender = match self.thread.take() {
            Some(sender) => sender,
            None => {
                let (sender, receiver) = mpsc::channel::<Work<S>>();
                let make = Arc::clone(&self.make);
                let run = move || {
                    let mut state = make();
                    while let Ok(work) = receiver.recv() {
                        work(&mut state);
                    }
                };
                let thread = std::thread::Builder::new().name(self.name.into()).stack_size(STACK_BYTES);
                thread.spawn(run).map_err(CallError::Thread)?;
                sender
            }
        };
        Ok(self.thread.insert(sender))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn one_that_hangs_costs_a_thread_and_no_answer() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let mut caller = Caller::new("test", move || count.fetch_add(1, Ordering::SeqCst));
        assert_eq!(caller.call(LONG, |state| *state).ok(), Some(0));
        assert_eq!(caller.call(LONG, |state| *state).ok(), Some(0), "the state stays");
        let (go, gone) = mpsc::channel::<()>();
        let hang = caller.call(SHORT, move |_| gone.recv());
        assert!(matches!(hang, Err(CallError::Timeout(_))));
        assert_eq!((caller.hanging(), caller.call(LONG, |state| *state).ok()), (1, Some(1)), "another goes on");
        let mut held = Vec::new();
        for _ in 1..MOST_HANGING {
            let (go, gone) = mpsc::channel::<()>();
            held.push(go);
            assert!(caller.call(SHORT, move |_| gone.recv()).is_err());
        }
        let refused = caller.call(LONG, |_| ()).expect_err("too many hang").to_string();
        assert!(refused.starts_with("4 calls to libvirt hang"), "{refused}");
        drop((go, held));
        while caller.hanging() > 0 {
            std::thread::yield_now();
        }
        assert!(caller.call(LONG, |_| ()).is_ok(), "they came back");
    }

    #[test]
    fn one_that_panics_is_followed_by_another() {
        let mut caller = Caller::new("test", || 0);
        let panicked = caller.call(LONG, |_| -> i32 { panic!("as libvirt's bindings may") });
        assert!(matches!(panicked, Err(CallError::Panicked)));
        assert_eq!((caller.hanging(), caller.call(LONG, |state| *state).ok()), (0, Some(0)));
    }
}
