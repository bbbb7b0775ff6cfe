//! Frames recorded from a real host, and their playback.
//!
//! A recording is one protobuf message, compressed with zstd: a schema and the frames' bodies, each a
//! delta to the one before, the first a keyframe. Each player begins at another frame and, behind the
//! last one, goes on with the first; its counters then keep what they had.

use bytes::Bytes;
use prost::Message;
use std::path::Path;
use std::sync::Arc;
use tongtu_protocol::codec::{Change, DecodeError, State, decode};
use tongtu_protocol::{limits, v1};

/// A recording's content.
#[derive(Clone, PartialEq, Message)]
pub struct Recording {
    /// The columns of every frame.
    #[prost(message, optional, tag = "1")]
    pub schema: Option<v1::Schema>,
    /// Between two frames.
    #[prost(uint32, tag = "2")]
    pub interval_ms: u32,
    /// The bodies of the frames.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub bodies: Vec<Bytes>,
}

/// A file that is no recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Not the format, or no frames in it.
    #[error("{0} is not a recording made by `tongtu-bench record`")]
    Format(String),
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    /// Unreadable, or not a recording; every frame is decoded once to be sure.
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let name = path.display().to_string();
        let io = |source| RecordingError::Io { path: name.clone(), source };
        let packed = std::fs::read(path).map_err(io)?;
        let format = || RecordingError::Format(name.clone());
        let bytes = zstd::decode_all(packed.as_slice()).map_err(|_| format())?;
        let recording = Self::decode(bytes.as_slice()).map_err(|_| format())?;
        let columns = recording.columns().len();
        if columns == 0 || columns > limits::COLUMNS || recording.bodies.is_empty() {
            return Err(format());
        }
        let mut state = State::zero(columns);
        recording.bodies.iter().try_for_each(|body| state.apply(body)).map_err(|_| format())?;
        Ok(recording)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RecordingError> {
        zstd::encode_all(self.encode_to_vec().as_slice(), 19)
            .and_then(|packed| std::fs::write(path, packed))
            .map_err(|source| RecordingError::Io { path: path.display().to_string(), source })
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &[v1::Column] {
        self.schema.as_ref().map_or(&[], |schema| &schema.columns)
    }

    /// Which share of the columns changes from one frame to the next, on average.
    ///
    /// # Errors
    /// A body that does not decode.
    pub fn changed_share(&self) -> Result<f64, DecodeError> {
        let columns = self.columns().len();
        let mut changes = 0usize;
        for body in self.bodies.iter().skip(1) {
            decode(body, columns, |_, _| changes += 1)?;
        }
        Ok(changes as f64 / (columns * (self.bodies.len() - 1)).max(1) as f64)
    }
}

/// One player of a recording.
#[derive(Debug)]
pub struct Playback {
    recording: Arc<Recording>,
    first: State,
    state: State,
    /// Frame that `state` holds.
    at: usize,
    counter: Arc<[bool]>,
}

impl Playback {
    /// The player number `index`; each begins elsewhere.
    ///
    /// # Errors
    /// A body that does not decode.
    pub fn new(recording: Arc<Recording>, index: u64) -> Result<Self, DecodeError> {
        let columns = recording.columns();
        let counter = columns.iter().map(|column| column.kind() == v1::Kind::Counter).collect();
        let mut first = State::zero(columns.len());
        first.apply(&recording.bodies[0])?;
        let at = (index.wrapping_mul(0x9e37_79b9) % recording.bodies.len() as u64) as usize;
        let mut state = first.clone();
        for body in &recording.bodies[1..=at] {
            state.apply(body)?;
        }
        Ok(Self { recording, first, state, at, counter })
    }

    /// What is played.
    #[must_use]
    pub fn recording(&self) -> &Arc<Recording> {
        &self.recording
    }

    /// The present frame's values.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Goes to the next frame.
    pub fn advance(&mut self) {
        self.at += 1;
        if let Some(body) = self.recording.bodies.get(self.at) {
            let Self { state, .. } = self;
            let applied = decode(body, state.columns(), |column, change| match change {
                Change::Delta(delta) => {
                    let value = state.get(column).unwrap_or(0).wrapping_add(delta);
                    state.set(column, Some(value));
                }
                Change::Value(value) => state.set(column, Some(value)),
                Change::Absent => state.set(column, None),
            });
            debug_assert!(applied.is_ok(), "the recording was decoded when it was read");
            return;
        }
        self.at = 0;
        for (column, is_counter) in self.counter.iter().enumerate() {
            let keeps = *is_counter && self.state.get(column).is_some() && self.first.get(column).is_some();
            if !keeps {
                self.state.set(column, self.first.get(column));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tongtu_protocol::schema::SchemaId;

    fn recording() -> Recording {
        let column = |metric: &str, kind: v1::Kind| v1::Column {
            metric: metric.into(),
            kind: kind.into(),
            ..v1::Column::default()
        };
        let columns = vec![column("a_total", v1::Kind::Counter), column("b", v1::Kind::Gauge)];
        let mut base = State::zero(2);
        let bodies = [[10, 5], [13, 5], [17, 6]].map(|values: [i64; 2]| {
            let state = State::from_values(&values.map(Some));
            let mut body = Vec::new();
            state.encode(&base, &mut body);
            base = state;
            body.into()
        });
        let id = SchemaId::of(&columns).0.to_vec().into();
        Recording { schema: Some(v1::Schema { id, columns }), interval_ms: 15_000, bodies: bodies.into() }
    }

    #[test]
    fn a_recording_is_read_back_and_played_round() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("host.frames");
        recording().write(&path).expect("written");
        let read = Arc::new(Recording::read(&path).expect("read"));
        assert_eq!(*read, recording());
        assert_eq!(read.changed_share(), Ok(0.75));
        let mut player = Playback::new(read, 0).expect("a player");
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push([player.state().get(0), player.state().get(1)].map(|value| value.expect("present")));
            player.advance();
        }
        assert_eq!(seen, [[10, 5], [13, 5], [17, 6], [17, 5], [20, 5]]);
    }

    #[test]
    fn other_files_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("host.frames");
        std::fs::write(&path, b"no").expect("written");
        assert!(matches!(Recording::read(&path), Err(RecordingError::Format(_))));
        assert!(matches!(Recording::read(&dir.path().join("none")), Err(RecordingError::Io { .. })));
    }
}
