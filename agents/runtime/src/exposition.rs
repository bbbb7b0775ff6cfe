//! `/metrics` of the last frame, and of what is measured less often, on loopback, for a look at one machine. Off unless it is configured.
//!
//! Deliberately small: HTTP/1.0, one path, a few connections at once, nothing that is asked matters
//! but the first line.

use crate::metric::Kind;
use crate::sheet::decimal;
use crate::table::FrameSchema;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
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

/// The last frame, if anybody may look at it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastFrame(Arc<Mutex<Option<Frame>>>);

#[derive(Debug)]
struct Frame {
    schema: Arc<FrameSchema>,
    state: State,
    /// Boot time at which each column was measured last.
    measured_ms: Vec<u64>,
}

impl LastFrame {
    pub(crate) fn set(&self, schema: &Arc<FrameSchema>, state: &State, boottime_ms: u64) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match last.take() {
            Some(known) if Arc::ptr_eq(&known.schema, schema) => known,
            before => Frame::new(schema, before.as_ref()),
        };
        last.insert(known).take(state, boottime_ms);
    }

    fn text(&self) -> String {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|last| text(&last.schema, &last.state)).unwrap_or_default()
    }
}

impl Frame {
    /// Without values, but for what was measured less often under another schema.
    fn new(schema: &Arc<FrameSchema>, before: Option<&Self>) -> Self {
        let mut state = State::from_values(&vec![None; schema.columns()]);
        let mut measured_ms = vec![0; schema.columns()];
        for (column, key) in schema.keys().iter().enumerate().filter(|(_, key)| key.cadence_s > 0) {
            let Some(before) = before else { break };
            if let Some(at) = before.schema.keys().iter().position(|known| known.is_same(key)) {
                state.set(column, before.state.get(at));
                measured_ms[column] = before.measured_ms[at];
            }
        }
        Self { schema: Arc::clone(schema), state, measured_ms }
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
fn text(schema: &FrameSchema, state: &State) -> String {
    let mut order = Vec::new();
    let mut lines: HashMap<&str, String> = HashMap::new();
    for (key, value) in schema.keys().iter().zip(state.iter()) {
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
        last.set(schema, state, 1);
        tokio::spawn(serve(listener, last));
        let answer = get(address, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(answer.contains("# TYPE tongtu_agent_reconnects_total counter\ntongtu_agent_reconnects_total 3\n"));
        assert!(answer.contains("tongtu_agent_lost_records_total{reason=\"size\"} 0\n"));
        assert!(get(address, "GET / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.0 404"));
        assert!(get(address, "POST /metrics HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.0 405"));
    }
}
