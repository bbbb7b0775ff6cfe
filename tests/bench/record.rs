//! Records what the host agent collects on this machine, as a fixture for the ingest benchmark.

use bytes::Bytes;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tongtu_agent_runtime::{clock, collect::Context, table::Table};
use tongtu_protocol::{codec::State, schema::SchemaId, v1};
use tongtu_simulator::recording::Recording;
use tongtu_tests::wait;

/// How often what has been recorded so far is written.
const WRITE_EVERY: usize = 20;

/// Frames of one machine whose columns come and go: the union of all columns seen.
#[derive(Debug, Default)]
struct Union {
    columns: Vec<v1::Column>,
    place: HashMap<(String, Vec<(String, String)>), usize>,
    frames: Vec<Vec<Option<i64>>>,
}

impl Union {
    fn push(&mut self, columns: &[v1::Column], state: &State) {
        let mut frame = vec![None; self.columns.len()];
        for (column, value) in columns.iter().zip(state.iter()) {
            let labels = column.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect();
            let place = *self.place.entry((column.metric.clone(), labels)).or_insert_with(|| {
                // A place in the schema it came with means nothing in the union.
                self.columns.push(v1::Column { speed_column: 0, ..column.clone() });
                self.columns.len() - 1
            });
            frame.resize(self.columns.len(), None);
            frame[place] = value;
        }
        self.frames.push(frame);
    }

    fn recording(&self, interval: Duration) -> Recording {
        let width = self.columns.len();
        let mut base = State::zero(width);
        let mut bodies = Vec::with_capacity(self.frames.len());
        for frame in &self.frames {
            let mut values = frame.clone();
            values.resize(width, None);
            let state = State::from_values(&values);
            let mut body = Vec::new();
            state.encode(&base, &mut body);
            bodies.push(Bytes::from(body));
            base = state;
        }
        let id = SchemaId::of(&self.columns).0.to_vec().into();
        let schema = v1::Schema { id, columns: self.columns.clone() };
        Recording { schema: Some(schema), interval_ms: interval.as_millis() as u32, bodies }
    }
}

/// Records for `duration` into `out`.
pub(crate) fn run(out: &Path, interval: Duration, duration: Duration) {
    let mut table = Table::new(tongtu_agent_host::collectors::COLLECTORS, Context::default());
    let mut union = Union::default();
    let (watch, mut frames) = (wait::Stopwatch::start(), 0u32);
    while watch.elapsed() < duration {
        let (schema, state) = table.frame(clock::boottime_ms(), interval, |_| {});
        union.push(&schema.to_wire().columns, state);
        frames += 1;
        if (frames as usize).is_multiple_of(WRITE_EVERY) {
            union.recording(interval).write(out).expect("the recording is written");
        }
        wait::pause((interval * frames).saturating_sub(watch.elapsed()));
    }
    let recording = union.recording(interval);
    recording.write(out).expect("the recording is written");
    let bytes = std::fs::metadata(out).map_or(0, |meta| meta.len());
    println!("{frames} frames of {} columns, {bytes} bytes in {}", union.columns.len(), out.display());
    println!(
        "{:.1} % of the columns change from frame to frame",
        100.0 * recording.changed_share().expect("frames that were just encoded")
    );
}
