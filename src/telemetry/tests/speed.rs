//! What the write path and compaction cost, without network and agents. Run by hand:
//! `cargo test -p tongtu --release --lib speed -- --ignored --nocapture`.

use super::*;
use crate::platform::testing;
use rustix::time::{ClockId, clock_gettime};

const COLUMNS: usize = 550;
const AGENTS: i64 = 1_000;
const FRAMES: u64 = 20;

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A third of the columns changes in a frame, each in its own way.
fn wide(sequence: u64) -> State {
    let value = |column: u64| {
        let mixed = (sequence.wrapping_mul(column + 7) ^ column).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50;
        let value = match column % 9 {
            0..=4 => column * 1_000,
            5 => sequence / 20 * column,
            6 => sequence * (1_000 + column) + mixed % 300,
            7 => 5_000 + mixed % 200,
            _ => sequence * 1_500 + mixed,
        };
        Some(value as i64)
    };
    State::from_values(&(0..COLUMNS as u64).map(value).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by hand"]
async fn the_write_path() {
    let database = testing::sqlite().await;
    let control = Control::start_with(&database, NOON + 86_400_000, |config| {
        config.commit_interval = Duration::from_millis(50);
    })
    .await;
    let columns: Vec<_> = (0..COLUMNS)
        .map(|column| v1::Column {
            metric: format!("column_{column}"),
            kind: if column % 9 == 7 { v1::Kind::Gauge } else { v1::Kind::Counter }.into(),
            ..Default::default()
        })
        .collect();
    let schema = v1::Schema { id: SchemaId::of(&columns).0.to_vec().into(), columns };
    let mut streams = Vec::new();
    for agent in 1..=AGENTS {
        let mut stream = Stream::open_bare(&control, agent, 1);
        stream.define_as(schema.clone());
        streams.push(stream);
    }
    let bodies: Vec<bytes::Bytes> = (1..=FRAMES)
        .map(|sequence| {
            let mut body = Vec::new();
            let base = if sequence == 1 { State::zero(COLUMNS) } else { wide(sequence - 1) };
            wide(sequence).encode(&base, &mut body);
            body.into()
        })
        .collect();
    let bytes: usize = bodies.iter().map(bytes::Bytes::len).sum();
    let samples = (AGENTS as u64 * FRAMES) as f64 * COLUMNS as f64;
    let begin = cpu_seconds();
    for sequence in 1..=FRAMES {
        for stream in &mut streams {
            let record = stream.record_of(sequence, bodies[sequence as usize - 1].clone());
            stream.send(vec![record]);
        }
        for stream in &mut streams {
            stream.accepted.clear();
            stream.accepted(sequence, sequence).await;
        }
    }
    let ingested = cpu_seconds();
    control.seal(1).await;
    let compacted = cpu_seconds();
    println!(
        "{:.2} B a sample; ingest {:.1} M samples a CPU second ({:.1} us a frame), compaction {:.1} M, both {:.1} M",
        bytes as f64 / FRAMES as f64 / COLUMNS as f64,
        samples / (ingested - begin) / 1e6,
        (ingested - begin) / (AGENTS as u64 * FRAMES) as f64 * 1e6,
        samples / (compacted - ingested) / 1e6,
        samples / (compacted - begin) / 1e6,
    );
}
