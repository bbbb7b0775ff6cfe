//! Windows become chunks and slots, and nothing is lost or counted twice on the way.

use super::*;
use crate::platform::testing;
use crate::telemetry::slot::{self, SLOT_MS, SlotBlock};

/// What slots say of the whole, by making them of all frames at once.
fn expected_slots(stored: &[StoredFrame]) -> BTreeMap<i64, (u64, u32, u32)> {
    let schema = schema();
    let mut all = crate::telemetry::columns::Columns::new(schema.columns.len());
    for frame in stored {
        all.push_state(frame.meta, &frame.state);
    }
    let block = slot::make(&schema, None, &mut all, INTERVAL_MS, SLOT_MS);
    summed(block.into_iter())
}

/// Of each slot: the sequence counter's delta and covered milliseconds, and the gauge's count.
pub(super) fn summed(blocks: impl Iterator<Item = SlotBlock>) -> BTreeMap<i64, (u64, u32, u32)> {
    use crate::telemetry::slot::ColumnSlots;
    let mut sums: BTreeMap<i64, (u64, u32, u32)> = BTreeMap::new();
    for block in blocks {
        for slot in 0..block.frames.len() {
            let sum = sums.entry(block.first_ms + slot as i64 * SLOT_MS).or_default();
            match &block.columns[0] {
                ColumnSlots::Counter(slots) => {
                    sum.0 += slots[slot].delta;
                    sum.1 += slots[slot].covered_ms;
                }
                other => panic!("a counter, not {other:?}"),
            }
            match &block.columns[1] {
                ColumnSlots::Gauge(slots) => sum.2 += slots[slot].count,
                other => panic!("a gauge, not {other:?}"),
            }
        }
    }
    sums.retain(|_, sum| *sum != (0, 0, 0));
    sums
}

async fn check(control: &Control, sequences: impl IntoIterator<Item = u64>) {
    let stored = stored(control).await;
    let mut found: Vec<_> = stored.iter().map(|frame| frame.meta.sequence).collect();
    found.sort_unstable();
    assert_eq!(found, sequences.into_iter().collect::<Vec<_>>(), "every frame once");
    for frame in &stored {
        assert_eq!(frame.state, values(frame.meta.sequence), "sequence {}", frame.meta.sequence);
    }
    let kept: Vec<_> = stored.into_iter().filter(|frame| frame.kept).collect();
    assert_eq!(summed(stored_slots(control).await.into_iter()), expected_slots(&kept));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_hand_on_to_each_other() {
    for database in testing::databases().await {
        let control = Control::start(&database, NOON + 3_600_000).await;
        let mut stream = Stream::open(&control, 7, 99);
        for window in 0..5u64 {
            let sequences = window * 33 + 1..=window * 33 + 33;
            stream.frames(sequences.clone());
            stream.accepted(*sequences.start(), *sequences.end()).await;
            control.seal(window as i64 + 1).await;
            check(&control, 1..=window * 33 + 33).await;
        }
        stream.frames(166..=170);
        stream.accepted(166, 170).await;
        check(&control, 1..=170).await;
        // After the windows are gone, what they settled is known still.
        let again = Control::start(&database, NOON + 3_600_000).await;
        assert_eq!(again.telemetry.delivery(AgentId(7)).records_accepted, 170);
        let mut stream = Stream::open(&again, 7, 99);
        stream.frames(1..=175);
        stream.accepted(1, 175).await;
        again.seal(6).await;
        check(&again, 1..=175).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_frames_make_their_slots_anew() {
    for database in testing::databases().await {
        let control = Control::start(&database, NOON + 7_200_000).await;
        let mut stream = Stream::open(&control, 7, 99);
        // Every third frame is missing, then a whole hour, then what is newest.
        let first: Vec<u64> = (1..=60).filter(|sequence| sequence % 3 != 0).chain(300..=340).collect();
        stream.frames(first.clone());
        stream.answered(|stream| stream.has_accepted(300, 340)).await;
        control.seal(1).await;
        check(&control, first.clone()).await;
        // The missing ones come, together with newer ones, over several windows.
        let parts: [Vec<u64>; 4] = [
            (1..=30).filter(|sequence| sequence % 3 == 0).collect(),
            (31..=60).filter(|sequence| sequence % 3 == 0).chain(341..=345).collect(),
            (61..=150).chain(346..=350).collect(),
            (151..=299).collect(),
        ];
        let mut all = first;
        for (window, part) in (2..).zip(parts) {
            stream.restart_lane();
            let last = *part.last().expect("frames");
            stream.frames(part.clone());
            stream.accepted(last, last).await;
            control.seal(window).await;
            all.extend(part);
            all.sort_unstable();
            check(&control, all.clone()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_was_killed_leaves_no_trace() {
    for database in testing::databases().await {
        let control = Control::start(&database, NOON + 3_600_000).await;
        let mut stream = Stream::open(&control, 7, 99);
        stream.frames(1..=50);
        stream.accepted(1, 50).await;
        // As a killed attempt leaves it: rows of a window that does not count yet.
        let inner = &control.telemetry.inner;
        let made =
            crate::telemetry::compact::compact(&inner.registry, &[], None, INTERVAL_MS, &[], &[]).expect("nothing");
        assert!(made.chunks.is_empty() && made.carried.is_none());
        let mut rows = crate::telemetry::store_rows::Rows::default();
        let chunk = |first_ms| crate::telemetry::compact::ChunkMade {
            schema: 1,
            first_ms,
            last_ms: first_ms + 1,
            body: vec![1, 2, 3],
        };
        let made = crate::telemetry::compact::Made { chunks: vec![chunk(NOON)], ..Default::default() };
        rows.made.push((crate::platform::ids::SourceId(1), made));
        crate::telemetry::store_rows::rows_insert(inner, 1, rows).await.expect("a row");
        check(&control, 1..=50).await;
        control.seal(1).await;
        check(&control, 1..=50).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_reported_as_failed_that_is_durable_is_found() {
    for database in testing::databases().await {
        let control = Control::start(&database, NOON + 3_600_000).await;
        let mut stream = Stream::open(&control, 7, 99);
        stream.frames(1..=50);
        stream.accepted(1, 50).await;
        control.kill().await;
        let inner = &control.telemetry.inner;
        let transaction = database.db.begin("window_open").await.expect("a transaction");
        crate::telemetry::store::window_open(&transaction, 2, NOON).await.expect("the next window");
        transaction.commit().await.expect("the next window");
        crate::telemetry::compaction::make(inner, 1).await.expect("an attempt that nobody hears of");
        crate::telemetry::compaction::compact_window(inner, 1).await.expect("the next attempt");
        check(&control, 1..=50).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_given_to_another_source_mixes_no_chains() {
    let database = testing::sqlite().await;
    let control = Control::start(&database, NOON + 3_600_000).await;
    let mut stream = Stream::open(&control, 7, 99);
    stream.frames(1..=5);
    stream.accepted(1, 5).await;
    stream.define_key("other");
    // A delta to a frame of the source that had the number before.
    stream.frames([6]);
    stream.answered(|stream| stream.refused == [(6, 6, v1::Refusal::UnknownBase)]).await;
    stream.restart_lane();
    stream.frames(7..=9);
    stream.accepted(7, 9).await;
    control.seal(1).await;
    check(&control, 1..=5).await;
}

/// Changes the database behind control's back.
pub(super) async fn damage(database: &crate::platform::testing::TestDatabase, statement: &str) {
    let postgres = database.db.backend() == crate::platform::db::Backend::Postgres;
    let statement = if postgres { statement.replace("X'FF'", "'\\xff'::bytea") } else { statement.to_owned() };
    let transaction = database.db.begin("damage").await.expect("a transaction");
    sea_orm::ConnectionTrait::execute_unprepared(&transaction, &statement).await.expect("damage");
    transaction.commit().await.expect("damage");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_cannot_be_read_stops_no_other_and_loses_nothing() {
    for database in testing::databases().await {
        let control = Control::start(&database, NOON + 3_600_000).await;
        let mut stream = Stream::open(&control, 7, 99);
        let mut other = Stream::open(&control, 8, 1);
        other.frames(1..=5);
        other.accepted(1, 5).await;
        stream.frames(1..=5);
        stream.accepted(1, 5).await;
        control.seal(1).await;
        // What the first source handed on cannot be decoded.
        damage(&database, "UPDATE telemetry_carried SET body = X'FF' WHERE source_id = 1").await;
        let agents: Vec<_> = [(&mut other, 6..=9u64), (&mut stream, 6..=9)].into_iter().collect();
        for (stream, sequences) in agents {
            stream.frames(sequences);
            stream.accepted(6, 9).await;
        }
        control.seal(2).await;
        assert_eq!(control.telemetry.inner.metrics.sources_left_out.get(), 1);
        // Its frames are there, as frames; of the other there are slots as well.
        let sequences: Vec<_> = stored(&control).await.iter().map(|frame| frame.meta.sequence).collect();
        assert_eq!(sequences, (1..=9).collect::<Vec<_>>());
        let covered = async |source: i64| {
            let covered = |body: &Vec<u8>| {
                let view = SlotBlockView::open(body).expect("slots");
                view.frames().iter().map(|slot| slot.covered_ms).sum::<u32>()
            };
            open_slots(&control, SourceId(source)).await.iter().map(covered).sum::<u32>()
        };
        assert_eq!((covered(1).await, covered(2).await), (4 * INTERVAL_MS, 8 * INTERVAL_MS));
        // The next window goes on from what was kept.
        for stream in [&mut other, &mut stream] {
            stream.frames(10..=12);
            stream.accepted(10, 12).await;
        }
        control.seal(3).await;
        assert_eq!(control.telemetry.inner.metrics.sources_left_out.get(), 1);
        assert_eq!((covered(1).await, covered(2).await), (7 * INTERVAL_MS, 11 * INTERVAL_MS));
        control.telemetry.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_cannot_be_decoded_are_kept_as_they_came() {
    for database in testing::databases().await {
        let control = Control::start(&database, NOON + 3_600_000).await;
        let mut stream = Stream::open(&control, 7, 99);
        stream.frames(1..=5);
        stream.accepted(1, 5).await;
        // The window's one batch loses its first frame: what is left builds on one that is not there.
        let inner = &control.telemetry.inner;
        let mut kept = Vec::new();
        let mut batches = crate::telemetry::store::Batches::of(&inner.db, 1).await.expect("asked");
        while let Some(batch) = batches.next().await.expect("a batch") {
            kept.push(batch);
        }
        let [(id, body)] = &kept[..] else { panic!("one batch") };
        let mut broken = Vec::new();
        crate::telemetry::batch::begin(&mut broken);
        for entry in crate::telemetry::batch::entries(body).expect("entries") {
            let crate::telemetry::batch::Entry::Frame(frame) = entry.expect("an entry").1 else { continue };
            if frame.sequence != 1 {
                crate::telemetry::batch::put_frame(&mut broken, &frame);
            }
        }
        crate::telemetry::batch::finish(&mut broken);
        let transaction = database.db.begin("damage").await.expect("a transaction");
        let text = "UPDATE window_1 SET body = $1 WHERE id = $2";
        let update = crate::telemetry::store::sql(&transaction, text, [broken.clone().into(), (*id).into()]);
        sea_orm::ConnectionTrait::execute_raw(&transaction, update).await.expect("damage");
        transaction.commit().await.expect("damage");
        control.seal(1).await;
        assert_eq!(inner.metrics.sources_left_out.get(), 1);
        let text = "SELECT body, reason, first_ms, last_ms FROM telemetry_unreadable WHERE source_id = 1";
        let query = crate::telemetry::store::sql(inner.db.read(), text, []);
        let row = sea_orm::ConnectionTrait::query_one_raw(inner.db.read(), query).await.expect("a row");
        let row = row.expect("it is kept");
        assert_eq!(row.try_get::<Vec<u8>>("", "body").expect("a body"), broken, "byte by byte");
        assert_eq!(row.try_get::<String>("", "reason").expect("a reason"), "a frame builds on one that is not there");
        // Asked for, the gap says so.
        stream.restart_lane();
        stream.frames(12..=14);
        stream.accepted(12, 14).await;
        let query = crate::telemetry::SeriesQuery {
            source: SourceId(1),
            metrics: vec!["wave".to_owned()],
            resource: None,
            from_ms: NOON,
            to_ms: NOON + 14 * i64::from(INTERVAL_MS),
            step_ms: None,
            points: None,
            sum_by: None,
        };
        let permit = crate::access::Permit::system();
        let series = control.telemetry.series(&permit, &query).await.expect("an answer").expect("a source");
        assert_eq!(series[0].gaps[0].reason, crate::telemetry::gaps::GapReason::Unreadable);
        control.telemetry.close().await;
    }
}
