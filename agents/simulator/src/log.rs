//! An account of what control acknowledged, written beside it: a line for each frame,
//! `agent epoch sequence unix_ms`, separated by blanks.
//!
//! A test compares it with what control holds after it was killed. A line is written when the
//! acknowledgement arrives and flushed within a fraction of a second; the file grows by appending.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Lines wait at most this long in memory.
const FLUSH: Duration = Duration::from_millis(100);

/// Where acknowledgements are written.
#[derive(Debug)]
pub(crate) struct AcknowledgementLog {
    lines: Mutex<Option<Sender<String>>>,
    thread: Mutex<Option<JoinHandle<std::io::Result<()>>>>,
}

impl AcknowledgementLog {
    /// Appends to a file.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let (lines, received) = channel();
        let thread = std::thread::spawn(move || write(file, &received));
        Ok(Self { lines: Mutex::new(Some(lines)), thread: Mutex::new(Some(thread)) })
    }

    /// A frame is durable at control.
    pub(crate) fn acknowledged(&self, agent: &str, epoch: u64, sequence: u64, at_ms: i64) {
        let mut line = String::with_capacity(64);
        // Writing to a string cannot fail.
        let _ = writeln!(line, "{agent} {epoch} {sequence} {at_ms}");
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = &*lines {
            // The writer is gone only after a failed write, which `close` reports.
            let _ = lines.send(line);
        }
    }

    /// Writes the rest and tells whether everything was written.
    pub(crate) fn close(&self) -> std::io::Result<()> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.map_or(Ok(()), |thread| {
            thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the writer panicked")))
        })
    }
}

fn write(mut file: File, lines: &Receiver<String>) -> std::io::Result<()> {
    let mut buffer = String::new();
    loop {
        let open = match lines.recv_timeout(FLUSH) {
            Ok(line) => {
                buffer.push_str(&line);
                buffer.extend(lines.try_iter().take(4_096));
                true
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        };
        file.write_all(buffer.as_bytes())?;
        buffer.clear();
        if !open {
            return file.sync_all();
        }
    }
}
