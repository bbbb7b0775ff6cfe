//! The other sources of a collector: the things that it found, each with columns, a schema and frames
//! of its own. One that the collector does not speak of in a run has no frame for it, and is forgotten
//! after [`FORGET_FRAMES`] runs.

use crate::queue::Source;
use crate::sheet::{FORGET_FRAMES, Said, Sheet};
use crate::table::FrameSchema;
use std::sync::Arc;
use tongtu_protocol::codec::State;

/// One of them.
#[derive(Debug)]
pub(crate) struct Other {
    kind: &'static str,
    key: Box<str>,
    sheet: Sheet,
    /// The run in which the collector spoke of it last.
    run: u32,
    schema: Arc<FrameSchema>,
    state: State,
    source: Option<Arc<Source>>,
}

impl Other {
    fn new(kind: &'static str, key: &str) -> Self {
        Self {
            kind,
            key: key.into(),
            sheet: Sheet::default(),
            run: 0,
            schema: Arc::new(FrameSchema::new(Vec::new())),
            state: State::zero(0),
            source: None,
        }
    }

    fn end(&mut self) {
        self.sheet.end();
        if self.sheet.take_changed() {
            self.schema = Arc::new(FrameSchema::new(self.sheet.keys().to_vec()));
            self.state = State::zero(self.schema.columns());
        }
        self.sheet.write(&mut self.state, 0, usize::MAX);
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn schema(&self) -> &Arc<FrameSchema> {
        &self.schema
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn said(&mut self) -> &mut Said {
        &mut self.sheet.said
    }

    /// Its columns of the last run as people read them.
    pub(crate) fn texts(&self) -> Vec<(String, String)> {
        self.sheet.texts()
    }

    /// As the spool knows it; the same one until its schema or interval is another.
    pub(crate) fn source(&mut self, interval_ms: u32) -> Arc<Source> {
        let schema = self.schema.id();
        match &self.source {
            Some(source) if source.schema == schema && source.interval_ms == interval_ms => Arc::clone(source),
            _ => {
                let (kind, key) = (self.kind.to_owned(), self.key.to_string());
                let columns = self.schema.columns();
                let source = Arc::new(Source { kind, key, schema, columns, interval_ms });
                Arc::clone(self.source.insert(source))
            }
        }
    }
}

/// All of one collector, in the order in which it speaks of them.
#[derive(Debug, Default)]
pub(crate) struct Others {
    list: Vec<Other>,
    cursor: usize,
    run: u32,
}

impl Others {
    /// Begins a run.
    pub(crate) fn begin(&mut self) {
        self.run += 1;
        self.cursor = 0;
    }

    /// Where values of one are put in this run.
    pub(crate) fn sheet(&mut self, kind: &'static str, key: &str) -> &mut Sheet {
        let is = |other: &Other| *other.key == *key && other.kind == kind;
        let at = match self.list.get(self.cursor) {
            Some(other) if is(other) => self.cursor,
            _ => self.list.iter().position(is).unwrap_or_else(|| {
                let at = self.cursor.min(self.list.len());
                self.list.insert(at, Other::new(kind, key));
                at
            }),
        };
        self.cursor = at + 1;
        let other = &mut self.list[at];
        if other.run != self.run {
            other.run = self.run;
            other.sheet.start();
        }
        &mut other.sheet
    }

    /// Ends a run.
    pub(crate) fn end(&mut self) {
        let run = self.run;
        self.list.iter_mut().filter(|other| other.run == run).for_each(Other::end);
        self.list.retain(|other| run - other.run <= FORGET_FRAMES || !other.sheet.said.is_empty());
    }

    /// Each, and whether it has values of the last run.
    pub(crate) fn each(&mut self) -> impl Iterator<Item = (&mut Other, bool)> {
        let run = self.run;
        self.list.iter_mut().map(move |other| {
            let has_values = other.run == run && other.sheet.has_values();
            (other, has_values)
        })
    }
}
