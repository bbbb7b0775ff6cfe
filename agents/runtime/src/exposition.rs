//! `/metrics` of the last frame of every source, and of what is measured less often, on loopback, for a look at one
//! machine. Off unless it is configured.
//!
//! Deliberately small: HTTP/1.0, one path, a few connections at once, nothing that is asked matters
//! but the first line.

use crate::metric::Kind;
use crate::sheet::decimal;
use crate::table::FrameSchema;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tongtu_protocol::codec::State;

/// Connections at once.
const CONNECTIONS: usize = 4;
/// For a request, and for its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The last frame of each source, if anybody may look at them.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastFrame(Arc<Mutex<Vec<Frame>>>);

#[derive(Debug)]
struct Frame {
    kind: &'static str,
    key: Box<str>,
    /// It is one of those of now.
    is_current: bool,
    schema: Arc<FrameSchema>,
    state: State,
    /// Boot time at which each column was measured last.
    measured_ms: Vec<u64>,
}

impl LastFrame {
    fn frames(&self) -> MutexGuard<'_, Vec<Frame>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The frame that a source has now.
    pub(crate) fn set(
        &self,
        (kind, key): (&'static str, &str),
        schema: &Arc<FrameSchema>,
        state: &State,
        boottime_ms: u64,
    ) {
        let mut frames = self.frames();
        let at = frames.iter().position(|frame| *frame.key == *key && frame.kind == kind).unwrap_or_else(|| {
            frames.push(Frame::new(kind, key, schema, None));
            frames.len() - 1
        });
        let frame = &mut frames[at];
        if !Arc::ptr_eq(&frame.schema, schema) {
            *frame = Frame::new(kind, key, schema, Some(&*frame));
        }
        frame.is_current = true;
        frame.take(state, boottime_ms);
    }

    /// The last frame of a source is still the one to show.
    pub(crate) fn keep(&self, (kind, key): (&'static str, &str)) {
        let mut frames = self.frames();
        let found = frames.iter_mut().find(|frame| *frame.key == *key && frame.kind == kind);
        found.into_iter().for_each(|frame| frame.is_current = true);
    }

    /// Forgets the sources that were not spoken of since this was called last.
    pub(crate) fn forget_others(&self) {
        self.frames().retain_mut(|frame| std::mem::take(&mut frame.is_current));
    }

    fn text(&self) -> String {
        text(&self.frames())
    }
}

impl Frame {
    /// Without values, but for what was measured less often under another schema.
    fn new(kind: &'static str, key: &str, schema: &Arc<FrameSchema>, before: Option<&Self>) -> Self {
        let mut state = State::from_values(&vec![None; schema.columns()]);
        let mut measured_ms = vec![0; schema.columns()];
        for (column, key) in schema.keys().iter().enumerate().filter(|(_, key)| key.cadence_s > 0) {
            let Some(before) = before else { break };
            if let Some(at) = before.schema.keys().iter().position(|known| known.is_same(key)) {
                state.set(column, before.state.get(at));
                measured_ms[column] = before.measured_ms[at];
            }
        }
        Self { kind, key: key.into(), is_current: true, schema: Arc::clone(schema), state, measured_ms }
    }

    /// A value stands until two and a half of its cadences are over.
    fn take(&mut self, state: &State, boottime_ms: u64) {
        for (column, (key, value)) in self.schema.keys().iter().zip(state.iter()).enumerate() {
            let old_ms = boottime_ms.saturating_sub(self.measured_ms[column]);
            if value.is_some() {
                self.measured_ms[column] = boottime_ms;
            } else if old_ms <= u64::from(key.cadence_s) * 2_500 {
                continue;
            }
            self.state.set(column, value);
        }
    }
}

/// Prometheus's text format: the columns of a metric together, in order of first appearance.
fn text(frames: &[Frame]) -> String {
    let mut order = Vec::new();
    let mut lines: HashMap<&str, String> = HashMap::new();
    for (key, value) in frames.iter().flat_map(|frame| frame.schema.keys().iter().zip(frame.state.iter())) {
        let Some(value) = value else { continue };
        let metric = key.metric();
        let lines = lines.entry(metric.name).or_insert_with(|| {
            order.push(metric);
            String::new()
        });
        let _ = writeln!(lines, "{key} {}", decimal(value, metric.exponent));
    }
    let mut text = String::new();
    for metric in order {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Untyped => "untyped",
        };
        let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(text, "# HELP {} {help}\n# TYPE {} {kind}", metric.name, metric.name);
        text.push_str(&lines[metric.name]);
    }
    text
}

/// Serves it for ever.
pub(crate) async fn serve(listener: TcpListener, last: LastFrame) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: they come back.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let last = last.clone();
        tokio::spawn(async move {
            let _ = timeout(PATIENCE, answer(stream, &last)).await;
            drop(place);
        });
    }
}

async fn answer(mut stream: TcpStream, last: &LastFrame) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(1_024);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > 8_192 || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = match request.split(|byte| *byte == b' ').take(2).collect::<Vec<_>>()[..] {
        [b"GET", b"/metrics"] => ("200 OK", last.text()),
        [b"GET", _] => ("404 Not Found", "see /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "only GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::Context;
    use crate::table::Table;

    async fn get(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a listener");
        stream.write_all(request.as_bytes()).await.expect("a connection");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn the_last_frame_is_shown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let last = LastFrame::default();
        let mut table = Table::new(&[], Context::default());
        let own = crate::own::Own { statm: None, depth: Default::default(), reconnects: 3, frames: 9 };
        let (schema, state) = table.frame(1, Duration::from_secs(15), |out| own.put(out));
        last.set(("host", "machine"), schema, state, 1);
        last.set(("thing", "gone"), schema, state, 1);
        last.forget_others();
        last.keep(("host", "machine"));
        last.forget_others();
        tokio::spawn(serve(listener, last));
        let answer = get(address, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(answer.contains("# TYPE tongtu_agent_reconnects_total counter\ntongtu_agent_reconnects_total 3\n"));
        assert!(answer.contains("tongtu_agent_lost_records_total{reason=\"size\"} 0\n"));
        assert!(get(address, "GET / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.0 404"));
        assert!(get(address, "POST /metrics HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.0 405"));
    }
}
