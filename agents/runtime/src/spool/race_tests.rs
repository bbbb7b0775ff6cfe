//! A session that finds its place while the writer goes on.

use super::*;
use crate::clock;
use crate::conversation::Conversation;
use crate::queue::{Queue, QueueError, Queued, Settled, Source, Span};
use bytes::Bytes;
use tempfile::TempDir;
use tongtu_protocol::codec::State;
use v1::to_control::Message;

/// A spool whose writer commits a tick just before a session is given its place.
struct Hurried {
    spool: Spool,
    writer: Writer,
    source: Arc<Source>,
    boottime_ms: u64,
}

impl Hurried {
    fn open(directory: &Path) -> Self {
        let clock = v1::Clock { boottime_ms: 0, wall_ms: 0, synchronised: true };
        let (spool, writer) = Spool::open(directory, Bounds::default(), "boot", clock).expect("a spool");
        let schema = SchemaId::of(&[]);
        let source = Source { kind: "host".into(), key: "m".into(), schema, columns: 1, interval_ms: 15_000 };
        Self { spool, writer, source: Arc::new(source), boottime_ms: 0 }
    }

    /// A frame and facts.
    fn tick(&mut self) {
        self.boottime_ms += 15_000;
        let clock = v1::Clock { boottime_ms: self.boottime_ms, wall_ms: 0, synchronised: true };
        self.writer.begin(clock);
        self.writer.frame(&self.source, Vec::new, &State::from_values(&[Some(self.boottime_ms as i64)]));
        self.writer.facts(&self.source, Vec::new, [("at".to_owned(), self.boottime_ms.to_string())].into());
        assert!(self.writer.commit());
    }
}

impl Queue for Hurried {
    type Cursor = SpoolCursor;

    fn span(&self) -> Span {
        self.spool.span()
    }

    fn oldest(&mut self) -> Result<SpoolCursor, QueueError> {
        self.spool.oldest()
    }

    fn newest(&mut self) -> Result<(SpoolCursor, u64), QueueError> {
        self.tick();
        self.spool.newest()
    }

    fn next(&mut self, cursor: &mut SpoolCursor, until: u64) -> Result<Option<Queued>, QueueError> {
        self.spool.next(cursor, until)
    }

    fn keyframe(&mut self, cursor: &mut SpoolCursor) -> Result<Bytes, QueueError> {
        self.spool.keyframe(cursor)
    }

    fn schema(&mut self, id: SchemaId) -> Result<Option<v1::Schema>, QueueError> {
        self.spool.schema(id)
    }

    fn anchors(&self, boot_id: &str) -> Vec<v1::Clock> {
        self.spool.anchors(boot_id)
    }

    fn settle(&mut self, epoch: u64, first: u64, last: u64, settled: Settled) {
        self.spool.settle(epoch, first, last, settled);
    }

    fn lost(&self) -> Vec<v1::LostRanges> {
        self.spool.lost()
    }

    fn new_epoch(&mut self) -> Result<(), QueueError> {
        self.spool.new_epoch()
    }

    async fn changed(&mut self) {
        self.spool.changed().await;
    }
}

#[test]
fn what_is_written_while_a_session_finds_its_place_is_sent_once() {
    let directory = TempDir::new().expect("a folder");
    let mut queue = Hurried::open(directory.path());
    queue.tick();
    let mut conversation = Conversation::new(64);
    let now = clock::monotonic();
    let mut send = |queue: &mut Hurried| {
        let mut sent = Vec::new();
        while let Some(message) = conversation.next(queue, now).expect("readable") {
            if let Some(Message::Records(records)) = message.message {
                sent.extend(records.records.iter().map(|record| record.sequence));
            }
        }
        conversation.queue_changed();
        sent
    };
    assert_eq!(send(&mut queue), [3, 1, 2, 4], "the newest frame, then what lies before and beside it");
    queue.tick();
    assert_eq!(send(&mut queue), [5, 6]);
}
