//! The thread that makes frames: waits for a tick, runs the collector table, appends to the spool.

use crate::agent::AgentOptions;
use crate::clock;
use crate::collect::Happening;
use crate::desired::Setting;
use crate::exposition::LastFrame;
use crate::heap;
use crate::own::Own;
use crate::queue::Source;
use crate::sheet::Said;
use crate::spool::{Spool, Writer};
use crate::table::{FrameSchema, OtherFrame, Table};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tongtu_protocol::v1;

/// What the frames are told by the rest of the agent.
pub(crate) struct Orders {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    stop: bool,
    interval: Duration,
    /// Settings that have not been applied.
    collectors: Option<Vec<Setting>>,
    /// Facts that have not been written.
    facts: Option<BTreeMap<String, String>>,
    reconnects: u64,
}

impl Orders {
    pub(crate) fn new(interval: Duration) -> Self {
        let inner = Inner { stop: false, interval, collectors: None, facts: None, reconnects: 0 };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop(&self) {
        self.inner().stop = true;
        self.changed.notify_all();
    }

    pub(crate) fn interval(&self) -> Duration {
        self.inner().interval
    }

    pub(crate) fn configure(&self, interval: Duration, collectors: Vec<Setting>) {
        let mut inner = self.inner();
        inner.interval = interval;
        inner.collectors = Some(collectors);
        self.changed.notify_all();
    }

    pub(crate) fn facts(&self, facts: BTreeMap<String, String>) {
        self.inner().facts = Some(facts);
    }

    pub(crate) fn count_reconnect(&self) {
        self.inner().reconnects += 1;
    }

    /// Waits for the end of the process; whether it came.
    pub(crate) fn wait_stop(&self, longest: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.inner(), longest, |inner| !inner.stop);
        waited.unwrap_or_else(PoisonError::into_inner).0.stop
    }

    /// Waits until boot time `tick(interval)`; `false`: the process ends.
    fn wait_tick(&self, tick: impl Fn(u64) -> u64) -> bool {
        let mut inner = self.inner();
        while !inner.stop {
            let until = tick(inner.interval.as_millis() as u64);
            let left = until.saturating_sub(clock::boottime_ms());
            if left == 0 {
                return true;
            }
            let waited = self.changed.wait_timeout(inner, Duration::from_millis(left));
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

/// Ticks after which the heap is trimmed: an hour at the default interval.
const TRIM_EVERY: u64 = 240;

/// The tick after `last`: ticks are `phase` after each multiple of the interval, so that the agents
/// of a fleet do not all report at once, and one restarted falls into its old step.
fn next_tick(last_ms: u64, interval_ms: u64, phase: u64) -> u64 {
    let phase = phase % interval_ms;
    (last_ms + interval_ms - phase) / interval_ms * interval_ms + phase
}

/// Everything that makes frames.
pub(crate) struct Frames {
    table: Table,
    writer: Writer,
    spool: Spool,
    orders: Arc<Orders>,
    last_frame: Option<LastFrame>,
    /// Kind and key of the agent's own source.
    kind: &'static str,
    key: String,
    boot_id: String,
    phase: u64,
    source: Option<Arc<Source>>,
    statm: Option<File>,
    frames: u64,
}

impl Frames {
    pub(crate) fn new(
        options: &AgentOptions,
        machine_id: String,
        boot_id: String,
        spool: Spool,
        writer: Writer,
        orders: Arc<Orders>,
        last_frame: Option<LastFrame>,
    ) -> Self {
        Self {
            table: Table::new(options.collectors, options.context.clone()),
            writer,
            spool,
            orders,
            last_frame,
            kind: options.source_kind,
            phase: u64::from(crc32c::crc32c(machine_id.as_bytes())),
            key: options.source_key.map_or(machine_id, ToOwned::to_owned),
            boot_id,
            source: None,
            statm: File::open("/proc/self/statm").ok(),
            frames: 0,
        }
    }

    /// Makes frames until the process ends; the first at once.
    pub(crate) fn run(mut self) {
        let mut last_ms = None;
        let orders = Arc::clone(&self.orders);
        let phase = self.phase;
        while orders.wait_tick(|interval_ms| last_ms.map_or(0, |last| next_tick(last, interval_ms, phase))) {
            self.tick();
            // What was slept through, or took too long, is not made up for.
            last_ms = Some(clock::boottime_ms());
        }
    }

    fn tick(&mut self) {
        let (interval, collectors, facts, reconnects) = {
            let mut inner = self.orders.inner();
            (inner.interval, inner.collectors.take(), inner.facts.take(), inner.reconnects)
        };
        if let Some(collectors) = collectors {
            self.table.reset();
            for setting in collectors {
                let interval = Duration::from_millis(setting.interval_ms.into());
                if !self.table.configure(&setting.name, setting.enabled, interval) {
                    tracing::warn!(collector = setting.name, "control sets a collector that this agent has not");
                }
            }
        }
        let clock = clock::clock();
        self.frames += 1;
        let own = Own {
            statm: self.statm.as_ref(),
            depth: self.spool.depth(&self.boot_id, &clock),
            reconnects,
            frames: self.frames,
        };
        self.writer.begin(clock);
        let (schema, state) = self.table.frame(clock.boottime_ms, interval, |out| own.put(out));
        let interval_ms = interval.as_millis() as u32;
        let known =
            self.source.as_ref().filter(|source| source.schema == schema.id() && source.interval_ms == interval_ms);
        let source = match known {
            Some(source) => Arc::clone(source),
            None => Arc::new(Source {
                kind: self.kind.to_owned(),
                key: self.key.clone(),
                schema: schema.id(),
                columns: schema.columns(),
                interval_ms,
            }),
        };
        self.writer.frame(&source, || schema.encode(), state);
        let written_facts = facts.clone();
        if let Some(facts) = facts {
            self.writer.facts(&source, || schema.encode(), facts);
        }
        if let Some(last) = &self.last_frame {
            last.set((self.kind, &self.key), schema, state, clock.boottime_ms);
        }
        let schema = Arc::clone(schema);
        for said in self.table.said() {
            write_said(&mut self.writer, &source, &schema, said);
        }
        self.source = Some(source);
        self.write_others(clock.boottime_ms, interval);
        let written = self.writer.commit();
        self.table.said().for_each(|said| said.confirm(written));
        self.table.others(interval).for_each(|frame| frame.other.said().confirm(written));
        // The start, with its schema, needed more than any frame will.
        if self.frames % TRIM_EVERY == 4 {
            heap::trim();
        }
        if !written {
            // Facts come only when they change, so these must not be lost.
            let mut inner = self.orders.inner();
            inner.facts = inner.facts.take().or(written_facts);
        }
    }
}

impl Frames {
    /// The frames, facts and events of the sources that the collectors found.
    fn write_others(&mut self, boottime_ms: u64, interval: Duration) {
        for OtherFrame { other, has_frame, is_current, interval_ms } in self.table.others(interval) {
            let source = other.source(interval_ms);
            let schema = Arc::clone(other.schema());
            if has_frame {
                self.writer.frame(&source, || schema.encode(), other.state());
            }
            if let Some(last) = &self.last_frame {
                let of = (other.kind(), other.key());
                match (has_frame, is_current) {
                    (true, _) => last.set(of, &schema, other.state(), boottime_ms),
                    (false, true) => last.keep(of),
                    (false, false) => {}
                }
            }
            write_said(&mut self.writer, &source, &schema, other.said());
        }
        if let Some(last) = &self.last_frame {
            last.forget_others();
        }
    }
}

fn write_said(writer: &mut Writer, source: &Arc<Source>, schema: &FrameSchema, said: &mut Said) {
    if let Some(facts) = said.take_facts() {
        writer.facts(source, || schema.encode(), facts);
    }
    for event in said.take_events() {
        let Happening { name, boottime_ms, attributes } = event;
        let event = v1::Event { source: 0, name: name.to_owned(), attributes };
        writer.event(source, || schema.encode(), boottime_ms, event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_even_and_in_step() {
        assert_eq!(next_tick(0, 15_000, 4_000), 4_000);
        assert_eq!(next_tick(4_000, 15_000, 4_000), 19_000);
        assert_eq!(next_tick(4_003, 15_000, 19_000), 19_000);
        assert_eq!(next_tick(18_999, 15_000, 4_000), 19_000);
        assert_eq!(next_tick(500_000, 15_000, 4_000), 514_000, "after a sleep");
    }
}
