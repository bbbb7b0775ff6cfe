//! One word to every task: finish what you hold and end.
//!
//! A task without which control would only pretend to work holds an [`Essential`]: its panic stops
//! the process, which its supervisor starts anew, instead of leaving it half alive.

use tokio::sync::watch;

/// Cloned to every task. Once [`trigger`](Self::trigger)ed it stays so.
#[derive(Debug, Clone)]
pub struct Shutdown {
    word: watch::Sender<Word>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    GoOn,
    Stop,
    /// An essential task ended by itself.
    Broken(&'static str),
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Not triggered.
    #[must_use]
    pub fn new() -> Self {
        Self { word: watch::channel(Word::GoOn).0 }
    }

    /// Triggered by SIGINT or SIGTERM. A second signal ends the process at once.
    ///
    /// # Errors
    /// The process may not install signal handlers.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let shutdown = Self::new();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let trigger = shutdown.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if trigger.is_triggered() {
                    std::process::exit(130);
                }
                tracing::info!("stopping; a second signal stops at once");
                trigger.trigger();
            }
        });
        Ok(shutdown)
    }

    /// Tells every task to end.
    pub fn trigger(&self) {
        self.say(Word::Stop);
    }

    /// Whether it was told.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        *self.word.borrow() != Word::GoOn
    }

    /// The essential task that ended by itself, if that is why.
    #[must_use]
    pub fn broken(&self) -> Option<&'static str> {
        match *self.word.borrow() {
            Word::Broken(task) => Some(task),
            Word::GoOn | Word::Stop => None,
        }
    }

    /// Waits until it is told. Cancel safe, `'static`.
    pub fn triggered(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut told = self.word.subscribe();
        async move {
            // The sender lives in every clone; when the last is gone nobody can say more.
            let _ = told.wait_for(|word| *word != Word::GoOn).await;
        }
    }

    /// To be held by a task that must not end before it is told.
    #[must_use]
    pub fn essential(&self, task: &'static str) -> Essential {
        Essential { task, shutdown: self.clone(), unless: None }
    }

    /// The first word counts.
    fn say(&self, new: Word) {
        self.word.send_if_modified(|word| {
            let first = *word == Word::GoOn;
            if first {
                *word = new;
            }
            first
        });
    }
}

/// Stops the process if it is dropped (by a panic, or an end too early) before that was told to stop.
#[derive(Debug)]
pub struct Essential {
    task: &'static str,
    shutdown: Shutdown,
    unless: Option<Shutdown>,
}

impl Essential {
    /// The task may end as well when `other` is triggered.
    #[must_use]
    pub fn unless(mut self, other: &Shutdown) -> Self {
        self.unless = Some(other.clone());
        self
    }
}

impl Drop for Essential {
    fn drop(&mut self) {
        let told = self.shutdown.is_triggered() || self.unless.as_ref().is_some_and(Shutdown::is_triggered);
        if !told {
            tracing::error!(task = self.task, "an essential task ended; stopping");
            self.shutdown.say(Word::Broken(self.task));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_the_first_word() {
        let shutdown = Shutdown::new();
        let heard = shutdown.triggered();
        assert!(!shutdown.is_triggered());
        shutdown.clone().trigger();
        heard.await;
        shutdown.triggered().await;
        drop(shutdown.essential("late"));
        let other = Shutdown::new();
        drop(other.essential("closed").unless(&shutdown));
        assert_eq!(other.broken(), None);
        assert_eq!(shutdown.broken(), None);
    }

    #[tokio::test]
    async fn the_panic_of_an_essential_task_stops_the_rest() {
        let shutdown = Shutdown::new();
        let essential = shutdown.essential("committer");
        let task = tokio::spawn(async move {
            let _held = essential;
            panic!("on purpose");
        });
        shutdown.triggered().await;
        assert_eq!(shutdown.broken(), Some("committer"));
        assert!(task.await.is_err());
    }
}
