//! One word to every task: finish what you hold and end.

use tokio::sync::watch;

/// Cloned to every task. Once [`trigger`](Self::trigger)ed it stays so.
#[derive(Debug, Clone)]
pub struct Shutdown {
    word: watch::Sender<bool>,
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
        Self { word: watch::channel(false).0 }
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
        self.word.send_replace(true);
    }

    /// Whether it was told.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        *self.word.borrow()
    }

    /// Waits until it is told. Cancel safe, `'static`.
    pub fn triggered(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut told = self.word.subscribe();
        async move {
            // The sender lives in every clone; when the last is gone nobody can say more.
            let _ = told.wait_for(|triggered| *triggered).await;
        }
    }
}
