//! Kills, full disks, broken connections: nothing acknowledged is lost, nothing is stored twice.

use super::*;
use crate::platform::db::Backend;
use crate::platform::testing;
use proptest::prelude::*;
use sea_orm::ConnectionTrait;
use std::collections::BTreeSet;

#[derive(Debug, Clone)]
enum Step {
    /// Take this many frames and send all that is not acknowledged, some of it twice.
    Send {
        frames: u64,
        again: u64,
        wait: bool,
    },
    /// The stream breaks.
    Reconnect,
    /// Control is killed and started again.
    Kill,
    Seal {
        wait: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u64..30, 0u64..12, any::<bool>()).prop_map(|(frames, again, wait)| Step::Send { frames, again, wait }),
        1 => Just(Step::Reconnect),
        2 => Just(Step::Kill),
        2 => any::<bool>().prop_map(|wait| Step::Seal { wait }),
    ];
    proptest::collection::vec(step, 4..24)
}

/// An agent's spool: what it has taken and what of it is acknowledged.
#[derive(Debug, Default)]
struct Spool {
    taken: u64,
    acknowledged: BTreeSet<u64>,
}

impl Spool {
    fn note(&mut self, stream: &Stream) {
        for &(first, last) in &stream.accepted {
            self.acknowledged.extend(first..=last);
        }
    }

    fn unsettled(&self) -> Vec<u64> {
        (1..=self.taken).filter(|sequence| !self.acknowledged.contains(sequence)).collect()
    }

    async fn check(&self, control: &Control) {
        let mut found = BTreeSet::new();
        let inner = &control.telemetry.inner;
        if inner.registry.source(SourceId(1)).is_none() {
            assert!(self.acknowledged.is_empty());
            return;
        }
        for frame in stored(control).await {
            assert!(found.insert(frame.meta.sequence), "{} is there twice", frame.meta.sequence);
            assert_eq!(frame.state, values(frame.meta.sequence));
        }
        let lost: Vec<_> = self.acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }
}

async fn play(database: &TestDatabase, steps: &[Step]) {
    let mut control = Control::start(database, NOON + 86_400_000).await;
    let mut stream = Stream::open(&control, 7, 99);
    let mut spool = Spool::default();
    for step in steps {
        match step {
            Step::Send { frames, again, wait } => {
                spool.taken += frames;
                let mut sequences = spool.unsettled();
                sequences.extend((1..=spool.taken).filter(|sequence| sequence % 13 == *again));
                sequences.sort_unstable();
                sequences.dedup();
                stream.restart_lane();
                stream.frames(sequences.iter().copied());
                if *wait {
                    let done = |stream: &Stream| {
                        let accepted: super::super::ranges::RangeSet = stream.accepted.iter().copied().collect();
                        sequences.iter().all(|sequence| accepted.contains(*sequence))
                    };
                    stream.answered(done).await;
                }
            }
            Step::Reconnect => {
                stream.pending();
                spool.note(&stream);
                stream = Stream::open(&control, 7, 99);
            }
            Step::Kill => {
                control.kill().await;
                stream.pending();
                spool.note(&stream);
                control = Control::start(database, NOON + 86_400_000).await;
                spool.check(&control).await;
                stream = Stream::open(&control, 7, 99);
            }
            Step::Seal { wait } => {
                let before = control.telemetry.inner.compacted.load(Ordering::SeqCst);
                control.telemetry.seal();
                if *wait && !spool.acknowledged.is_empty() && spool.unsettled().is_empty() {
                    let window = before + 1;
                    let _ = tokio::time::timeout(Duration::from_millis(50), control.seal(window)).await;
                }
            }
        }
        stream.pending();
        spool.note(&stream);
        assert!(stream.refused.is_empty(), "{:?}", stream.refused);
    }
    control.telemetry.close().await;
    stream.pending();
    spool.note(&stream);
    let control = Control::start(database, NOON + 86_400_000).await;
    spool.check(&control).await;
    control.telemetry.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, ..ProptestConfig::default() })]
    #[test]
    fn every_acknowledged_frame_is_there_once_whatever_happens(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            for database in testing::databases().await {
                play(&database, &steps).await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_says_later_and_recovers() {
    let database = testing::sqlite().await;
    let control = Control::start(&database, NOON + 86_400_000).await;
    let mut stream = Stream::open(&control, 7, 99);
    stream.frames(1..=10);
    stream.accepted(1, 10).await;
    limit_pages(&database, 1).await;
    let mut next = 11;
    while stream.later.is_empty() {
        stream.frames(next..next + 400);
        next += 400;
        stream.answered(|stream| stream.has_accepted(next - 400, next - 1) || !stream.later.is_empty()).await;
    }
    // A lane that ended takes nothing more, not even what would fit.
    stream.frames(next..next + 1);
    next += 1;
    stream.answered(|stream| stream.later.iter().any(|(_, last)| *last == next - 1)).await;
    assert!(stream.refused.is_empty());
    let durable: u64 = stream.accepted.iter().map(|(first, last)| last - first + 1).sum();
    assert_eq!(control.telemetry.delivery(AgentId(7)).records_accepted, durable);
    limit_pages(&database, i64::from(u32::MAX - 1)).await;
    stream.restart_lane();
    stream.later.clear();
    stream.frames(1..next);
    stream.accepted(1, next - 1).await;
    let found: Vec<_> = stored(&control).await.iter().map(|frame| frame.meta.sequence).collect();
    assert_eq!(found, (1..next).collect::<Vec<_>>());
    control.telemetry.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_does_not_wait_for_a_commit_that_does_not_end() {
    let database = testing::sqlite().await;
    let control = Control::start(&database, NOON + 86_400_000).await;
    let mut stream = Stream::open(&control, 7, 99);
    stream.frames(1..=10);
    stream.accepted(1, 10).await;
    let held = database.db.begin("held").await.expect("the one who writes");
    stream.frames(11..=20);
    until(|| control.telemetry.inner.queue.is_empty()).await;
    // Built on what is being committed.
    stream.frames(21..=30);
    // The next window has to wait as well.
    control.telemetry.seal();
    tokio::time::timeout(Duration::from_secs(15), control.telemetry.close()).await.expect("it ends");
    held.rollback().await.expect("over");
    // Whoever still asked for the one who writes would have had it by then.
    for _ in 0..6 {
        database.db.begin("turn").await.expect("the one who writes").rollback().await.expect("over");
    }
    stream.pending();
    assert!(stream.accepted.iter().all(|(_, last)| *last <= 10), "{:?}", stream.accepted);
    let control = Control::start(&database, NOON + 86_400_000).await;
    let found: Vec<_> = stored(&control).await.iter().map(|frame| frame.meta.sequence).collect();
    assert_eq!(found, (1..=10).collect::<Vec<_>>());
    let mut stream = Stream::open(&control, 7, 99);
    stream.frames(11..=30);
    stream.accepted(11, 30).await;
    control.telemetry.close().await;
}

async fn limit_pages(database: &TestDatabase, pages: i64) {
    let transaction = database.db.begin("limit_pages").await.expect("a transaction");
    transaction.execute_unprepared(&format!("PRAGMA max_page_count = {pages}")).await.expect("a limit");
    transaction.commit().await.expect("the limit is set");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_lose_nothing() {
    let Some(database) = testing::postgres().await else { return };
    assert_eq!(database.db.backend(), Backend::Postgres);
    let control = Control::start(&database, NOON + 86_400_000).await;
    let mut stream = Stream::open(&control, 7, 99);
    let mut spool = Spool::default();
    for round in 0..60u64 {
        spool.taken += 10;
        stream.restart_lane();
        stream.later.clear();
        let unsettled = spool.unsettled();
        stream.frames(unsettled.iter().copied());
        if round % 3 == 0 {
            let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'tongtu'";
            // It may end the connection that asks.
            let _ = database.db.read().execute_unprepared(kill).await;
        }
        if round % 10 == 5 {
            control.telemetry.seal();
        }
        let last = spool.taken;
        stream.answered(|stream| stream.has_accepted(last, last) || !stream.later.is_empty()).await;
        spool.note(&stream);
    }
    stream.restart_lane();
    let unsettled = spool.unsettled();
    stream.later.clear();
    stream.frames(unsettled);
    let last = spool.taken;
    stream.answered(|stream| stream.has_accepted(1, last) || !stream.later.is_empty()).await;
    spool.note(&stream);
    spool.check(&control).await;
    control.telemetry.close().await;
    let again = Control::start(&database, NOON + 86_400_000).await;
    spool.check(&again).await;
}
