//! Work that may wait: on a thread of its own that gives way, so that records and answers come first.

use tokio::sync::oneshot;

/// Of two threads that want a core, one that gives way gets a quarter of it.
const NICE: i32 = 5;

/// The work panicked, or the system has no thread for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("work in the background was interrupted")]
pub struct Interrupted;

/// Does computing work and hands over what comes of it. It begins at once, whether or not anybody waits.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, Interrupted>> + Send {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        // On Linux this is of the calling thread alone. Without it the work is as quick as any.
        let _ = rustix::process::setpriority_process(None, NICE);
        let _ = sender.send(work());
    };
    // Without a thread the sender is gone, and that is what the receiver says.
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    if let Err(error) = thread {
        tracing::warn!(%error, name, "no thread for work in the background");
    }
    async { receiver.await.map_err(|_| Interrupted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_gives_way_alone_and_its_panic_is_told() {
        let nice = || rustix::process::getpriority_process(None).expect("one's own");
        let before = nice();
        assert_eq!(spawn("test", nice).await, Ok((before + NICE).min(19)));
        assert_eq!(nice(), before, "only that thread");
        let panicking = || -> i32 { panic!("on purpose") };
        assert_eq!(spawn("test", panicking).await, Err(Interrupted));
    }
}
