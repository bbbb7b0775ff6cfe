//! What an agent leaves behind over its life is bounded, and goes when nothing stored is of it.

use super::super::days;
use super::*;
use crate::platform::testing;
use sea_orm::ConnectionTrait;
use tongtu_protocol::limits;

const DAY_MS: i64 = 86_400_000;

async fn rows(database: &TestDatabase, table: &str) -> i64 {
    let read = database.db.read();
    let text = format!("SELECT COUNT(*) AS rows FROM {table}");
    let row = read.query_one_raw(super::super::store::sql(read, &text, [])).await.expect("asked").expect("a row");
    row.try_get("", "rows").expect("a count")
}

fn other_schema(metric: &str) -> v1::Schema {
    let mut columns = columns();
    columns[1].metric = metric.to_owned();
    v1::Schema { id: SchemaId::of(&columns).0.to_vec().into(), columns }
}

#[tokio::test]
async fn boots_without_end_are_refused_by_name_and_harm_nobody() {
    let database = testing::sqlite().await;
    let control = Control::start(&database, NOON).await;
    let mut known = Stream::open(&control, 1, 1);
    let mut last = 1;
    while last < limits::AGENT_BOOTS {
        // A stream has fewer.
        let mut stream = Stream::open_bare(&control, 1, 1);
        for number in 0..limits::BOOTS.min(limits::AGENT_BOOTS - last) {
            stream.define_boot(number as u32, &format!("boot-{}", last + number), vec![]);
        }
        last += limits::BOOTS;
    }
    let mut hostile = Stream::open(&control, 1, 2);
    hostile.define_boot(1, "one more", vec![v1::Clock::default()]);
    hostile.frames([1]);
    hostile.answered(|stream| stream.refused == [(1, 1, v1::Refusal::TooMany)]).await;
    let metrics = control.telemetry.inner.metrics.refused.with_label_values(&["too_many"]).get();
    assert_eq!(metrics, 1);
    known.frames([1]);
    known.accepted(1, 1).await;
    let mut other = Stream::open(&control, 2, 1);
    other.define_boot(1, "one more", vec![]);
    other.define(true);
    other.frames([1]);
    other.accepted(1, 1).await;
}

#[tokio::test]
async fn sources_without_end_are_refused_by_name() {
    let database = testing::sqlite().await;
    let control = Control::start(&database, NOON).await;
    let mut stream = Stream::open(&control, 1, 1);
    (1..limits::SOURCES).for_each(|key| stream.define_key(&key.to_string()));
    stream.frames([1]);
    stream.accepted(1, 1).await;
    stream.define_key("one more");
    stream.restart_lane();
    stream.frames([2]);
    stream.answered(|stream| stream.refused == [(2, 2, v1::Refusal::TooMany)]).await;
}

#[tokio::test]
async fn new_schemas_without_end_come_later_and_lose_nothing() {
    let database = testing::sqlite().await;
    let control = Control::start(&database, NOON).await;
    let mut known = Stream::open(&control, 1, 1);
    (1..limits::AGENT_SCHEMAS).for_each(|number| known.define_as(other_schema(&format!("m{number}"))));
    known.define(true);
    known.frames([1]);
    known.accepted(1, 1).await;

    let one_more = || other_schema("one_more");
    let mut hostile = Stream::open_bare(&control, 1, 2);
    hostile.define_as(one_more());
    hostile.frames([1]);
    hostile.answered(|stream| stream.later == [(1, 1)]).await;
    assert!(hostile.refused.is_empty(), "{:?}", hostile.refused);
    // What is known goes on, and whoever else has it may bring it.
    known.frames([2]);
    known.accepted(2, 2).await;
    Stream::open_bare(&control, 2, 1).define_as(one_more());
    hostile.restart_lane();
    hostile.frames([1]);
    hostile.accepted(1, 1).await;

    // A day gives back a share.
    let mut stream = Stream::open_bare(&control, 1, 3);
    stream.define_as(other_schema("another"));
    stream.frames([1]);
    stream.answered(|stream| stream.later == [(1, 1)]).await;
    control.set(NOON + DAY_MS);
    stream.define_as(other_schema("another"));
    stream.restart_lane();
    stream.frames([1]);
    stream.accepted(1, 1).await;
}

/// An agent that names boot after boot with all the anchors of each.
#[tokio::test]
async fn anchors_of_boots_that_no_stream_speaks_of_go() {
    let database = testing::sqlite().await;
    let control = Control::start(&database, NOON).await;
    let anchors: Vec<_> = (0..limits::ANCHORS as u64)
        .map(|at| v1::Clock { boottime_ms: at * 1_000, wall_ms: NOON + at as i64 * 1_000, synchronised: true })
        .collect();
    let kept = |boot_id: &str| {
        let mut definitions = Default::default();
        let registry = &control.telemetry.inner.registry;
        let boot = registry.boot_define(AgentId(1), boot_id, NOON, &mut definitions).expect("known");
        let anchors = boot.anchors.lock().expect("no panic holds it");
        (anchors.agent_count(), anchors.instant(0).expect("one is enough").ms)
    };
    let mut stream = Stream::open_bare(&control, 1, 1);
    stream.define_boot(1, "first", anchors.clone());
    assert_eq!(kept("first"), (limits::ANCHORS, NOON));
    stream.define_boot(1, "second", anchors.clone());
    assert_eq!(kept("first"), (1, NOON), "another one has its number");
    assert_eq!(kept("second"), (limits::ANCHORS, NOON));
    drop(stream);
    assert_eq!(kept("second"), (1, NOON), "the stream has ended");

    // Whichever of two streams ends last, and if both end at once.
    for _ in 0..200 {
        let both = [1, 2].map(|_| {
            let mut stream = Stream::open_bare(&control, 1, 1);
            stream.define_boot(1, "shared", anchors.clone());
            stream
        });
        assert_eq!(kept("shared"), (limits::ANCHORS, NOON));
        let begin = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for stream in both {
                let begin = &begin;
                scope.spawn(move || {
                    begin.wait();
                    drop(stream);
                });
            }
        });
        assert_eq!(kept("shared"), (1, NOON));
    }
}

/// A control that has compacted frames of two schemas and knows three boots. No stream is open.
async fn start_with_a_past(database: &TestDatabase) -> Control {
    let control = Control::start(database, NOON).await;
    let mut stream = Stream::open(&control, 1, 1);
    stream.frames([1]);
    stream.accepted(1, 1).await;
    stream.define_as(other_schema("other"));
    stream.define_boot(2, "never again", vec![]);
    stream.define_boot(3, "newest", vec![]);
    stream.restart_lane();
    stream.frames([2, 3, 4]);
    stream.accepted(2, 4).await;
    drop(stream);
    control.seal(1).await;
    control
}

#[tokio::test]
async fn what_was_not_used_for_as_long_as_anything_is_kept_goes() {
    for database in testing::databases().await {
        let name = database.name;
        let control = start_with_a_past(&database).await;
        assert_eq!((rows(&database, "telemetry_boot").await, rows(&database, "telemetry_schema").await), (3, 2));

        // While something stored may be of them they stay, over a restart as well.
        control.kill().await;
        let control = Control::start(&database, NOON + 5 * DAY_MS).await;
        days::retain(&control.telemetry.inner).await.expect("retained");
        assert_eq!(
            (rows(&database, "telemetry_boot").await, rows(&database, "telemetry_schema").await),
            (3, 2),
            "{name}"
        );

        control.set(NOON + 30 * DAY_MS);
        days::retain(&control.telemetry.inner).await.expect("retained");
        assert_eq!(rows(&database, "telemetry_boot").await, 1, "{name}: the newest keeps its number");
        assert_eq!(rows(&database, "telemetry_anchor").await, 0, "{name}");
        assert_eq!(rows(&database, "telemetry_schema").await, 2, "{name}: hours are kept longer");

        control.set(NOON + 6 * 366 * DAY_MS);
        days::retain(&control.telemetry.inner).await.expect("retained");
        assert_eq!(rows(&database, "telemetry_schema").await, 1, "{name}: the live view is of the other one");
        control.kill().await;

        // Whoever comes again is known anew, under a number that nobody had.
        let control = Control::start(&database, NOON + 6 * 366 * DAY_MS).await;
        let mut stream = Stream::open(&control, 1, 1);
        let record = stream.record_at(9, NOON + 6 * 366 * DAY_MS);
        stream.send(vec![record]);
        stream.accepted(9, 9).await;
        let source = control.telemetry.inner.registry.source(SourceId(1)).expect("the source");
        let live = source.last(UnixMs::MIN).expect("a frame");
        assert_eq!((live.boot, live.schema.number), (4, 3), "{name}");
        control.kill().await;
    }
}

/// The rows of what was forgotten stay where the transaction that deletes them fails.
#[tokio::test]
async fn what_could_not_be_deleted_may_come_again() {
    for database in testing::databases().await {
        let name = database.name;
        start_with_a_past(&database).await.kill().await;

        let later_ms = NOON + 6 * 366 * DAY_MS;
        let control = Control::start(&database, later_ms).await;
        // Retention by the calendar would be one more, whenever it comes.
        control.telemetry.abandon_jobs().await;
        let change = async |texts: [&str; 2]| {
            let transaction = database.db.begin("change").await.expect("begun");
            for text in texts {
                transaction.execute_unprepared(text).await.expect("carried out");
            }
            transaction.commit().await.expect("changed");
        };
        change([
            "CREATE TABLE holds (number BIGINT REFERENCES telemetry_schema (number))",
            "INSERT INTO holds SELECT number FROM telemetry_schema",
        ])
        .await;
        days::retain(&control.telemetry.inner).await.expect_err("a schema is held");
        assert_eq!((rows(&database, "telemetry_boot").await, rows(&database, "telemetry_schema").await), (3, 2));
        change(["DELETE FROM holds", "DROP TABLE holds"]).await;

        let mut stream = Stream::open(&control, 1, 2);
        let record = stream.record_at(9, later_ms);
        stream.send(vec![record]);
        stream.accepted(9, 9).await;
        let source = control.telemetry.inner.registry.source(SourceId(1)).expect("the source");
        let live = source.last(UnixMs::MIN).expect("a frame");
        assert_eq!((live.boot, live.schema.number), (4, 3), "{name}");
        drop((live, source));
        assert_eq!(rows(&database, "telemetry_boot").await, 3, "{name}: each boot is there once");

        // The next time the rest goes, and what came again stays.
        days::retain(&control.telemetry.inner).await.expect("retained");
        let numbers = async |table: &str| {
            let read = database.db.read();
            let text = format!("SELECT number FROM {table} ORDER BY number");
            let rows = read.query_all_raw(super::super::store::sql(read, &text, [])).await.expect("asked");
            rows.iter().map(|row| row.try_get("", "number").expect("a number")).collect::<Vec<i64>>()
        };
        assert_eq!(numbers("telemetry_boot").await, [4], "{name}");
        assert_eq!(numbers("telemetry_schema").await, [2, 3], "{name}: a view was of the other when it was asked");
        drop(stream);
        control.kill().await;
        let control = Control::start(&database, later_ms).await;
        assert_eq!(stored(&control).await.last().expect("a frame").meta.sequence, 9, "{name}");
        control.kill().await;
    }
}

#[tokio::test]
async fn definitions_count_in_the_queue_and_need_no_record_to_be_written() {
    let database = testing::sqlite().await;
    let control = Control::start_with(&database, NOON, |config| config.queue_size = 1 << 20).await;
    let mut stream = Stream::open_bare(&control, 1, 1);
    for number in 0..8 {
        stream.define_as(other_schema(&format!("{}{number}", "x".repeat(240))));
    }
    let queue = &control.telemetry.inner.queue;
    assert!(queue.bytes() > 2_000, "{}", queue.bytes());
    assert_eq!(rows(&database, "telemetry_schema").await, 0, "they wait for company");
    for number in 0..900 {
        stream.define_as(other_schema(&format!("{}{number}", "y".repeat(240))));
    }
    let wait = async {
        while rows(&database, "telemetry_schema").await < 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("written without a record");
    // What is left is little, and goes with the next record.
    until(|| queue.is_empty()).await;
    stream.define(true);
    stream.frames([1]);
    stream.accepted(1, 1).await;
    until(|| queue.bytes() == 0).await;
    assert_eq!(rows(&database, "telemetry_schema").await, 909);
}
