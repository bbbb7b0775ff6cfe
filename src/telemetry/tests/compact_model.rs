//! Compaction against a model: whatever the order and the windows in which frames come, what is
//! stored adds up to what all frames say at once.

use super::*;
use crate::telemetry::columns::Columns;
use crate::telemetry::compact::{self, Anew, Stretch};
use crate::telemetry::ordered::WindowFrame;
use crate::telemetry::registry::{Definitions, Registry};
use crate::telemetry::slot::{self, ColumnSlots, Predecessor, SLOT_MS};
use proptest::prelude::*;

/// What tables hold of one source.
#[derive(Default)]
struct Tables {
    chunks: Vec<(i64, i64, Vec<u8>)>,
    slots: Vec<SlotBlock>,
    handed_on: Option<Predecessor>,
    /// Of the source: the widest interval so far, and the widest cadence.
    reach_ms: u32,
}

fn frame_values(frame: &FrameMeta) -> State {
    let count = frame.sequence as i64;
    // Measured every minute and every five, but now and then.
    let level = (count % 4 == 0 && count % 7 != 0).then_some(count % 13 - 5);
    let total = (count % 20 == 0 && count % 60 != 0).then_some(count * 2 - i64::from(frame.boot) * 7);
    State::from_values(&[Some(count * 10 - i64::from(frame.boot) * 3), Some(count % 17), None, level, total])
}

/// The columns of all, and two with a cadence.
fn slow_columns() -> Vec<v1::Column> {
    let slow = |metric: &str, kind: v1::Kind, cadence_s| v1::Column {
        metric: metric.to_owned(),
        kind: kind.into(),
        cadence_s,
        ..Default::default()
    };
    let mut all = columns();
    all.extend([slow("level", v1::Kind::Gauge, 60), slow("total", v1::Kind::Counter, WIDEST_S)]);
    all
}

const WIDEST_S: u32 = 300;

impl Tables {
    fn around(&self, anew: &Anew) -> Vec<(i64, Vec<u8>)> {
        let (from, to) = (anew.reach_from_ms(), anew.reach_to_ms());
        let reach = self.chunks.iter().filter(|(first, last, _)| *last >= from && *first <= to);
        let before = self.chunks.iter().filter(|(_, last, _)| *last < from).max_by_key(|(_, last, _)| *last);
        reach.chain(before).map(|(_, _, body)| (1, body.clone())).collect()
    }

    fn take(&mut self, registry: &Registry, window: &[FrameMeta]) {
        let bodies: Vec<Vec<u8>> = window
            .iter()
            .map(|frame| {
                let mut body = Vec::new();
                frame_values(frame).encode_keyframe(&mut body);
                body
            })
            .collect();
        let frames: Vec<_> = window
            .iter()
            .zip(&bodies)
            .map(|(meta, body)| WindowFrame { meta: *meta, schema: 1, base_sequence: 0, body })
            .collect();
        let newest = self.handed_on.as_ref().map(|frame| frame.meta.instant_ms);
        let reaches = frames.iter().map(|frame| frame.meta.interval_ms + WIDEST_S * 1_000);
        self.reach_ms = reaches.fold(self.reach_ms, u32::max);
        let anew = compact::anew(&frames, newest, self.reach_ms, UnixMs::MIN);
        let mut stretches: Vec<Stretch> = Vec::new();
        for (place, stretch) in anew.iter().enumerate() {
            let around = self.around(stretch);
            stretches.push((*stretch, around.clone()));
            let after = self.chunks.iter().filter(|(first, ..)| *first > stretch.reach_to_ms());
            let after = after.min_by_key(|(first, ..)| *first).map(|(_, _, body)| (1, body.clone()));
            let next = compact::first_after(around.iter().chain(&after), stretch.to_ms - 1).expect("chunks");
            let behind = next.and_then(|next| {
                let before = compact::last_before(&around, next.instant_ms).expect("chunks");
                compact::anew_behind(stretch, newest.unwrap_or(0), &frames, before.as_ref(), &next)
            });
            let follows = anew.get(place + 1).map_or(i64::MAX, |next| next.from_ms);
            if let Some(behind) = behind.filter(|behind| behind.to_ms <= follows) {
                let around = self.around(&behind);
                stretches.push((behind, around));
            }
        }
        let touches = |block: &SlotBlock| {
            stretches.iter().any(|(anew, _)| block.end_ms() > anew.from_ms && block.first_ms < anew.to_ms)
        };
        let (taken, rest) = std::mem::take(&mut self.slots).into_iter().partition(touches);
        self.slots = rest;
        let taken: Vec<SlotBlock> = taken;
        let made = compact::compact(registry, &frames, self.handed_on.clone(), 0, &stretches, &taken).expect("rows");
        self.chunks.extend(made.chunks.into_iter().map(|chunk| (chunk.first_ms, chunk.last_ms, chunk.body)));
        for row in made.slots {
            let view = SlotBlockView::open(&row.body).expect("a block");
            self.slots.push(view.block(view.columns()).expect("columns"));
        }
        if let Some(carried) = made.carried {
            let handed_on = compact::handed_on(registry, carried.schema, carried.meta, &carried.body);
            self.handed_on = Some(handed_on.expect("a frame"));
        }
    }
}

/// Of each slot, of both counters: delta, covered time, resets; of both gauges: sum, count, covered time.
fn sums(blocks: &[SlotBlock]) -> BTreeMap<i64, [i128; 12]> {
    let mut sums: BTreeMap<i64, [i128; 12]> = BTreeMap::new();
    for block in blocks {
        for slot in 0..block.frames.len() {
            let sum = sums.entry(block.first_ms + slot as i64 * SLOT_MS).or_default();
            for (place, column) in [0, 4, 1, 3].into_iter().enumerate() {
                let of = match &block.columns[column] {
                    ColumnSlots::Counter(slots) => {
                        [slots[slot].delta.into(), slots[slot].covered_ms.into(), slots[slot].resets.into()]
                    }
                    ColumnSlots::Gauge(slots) => {
                        [slots[slot].sum, slots[slot].count.into(), slots[slot].covered_ms.into()]
                    }
                    ColumnSlots::Empty => [0; 3],
                };
                sum[place * 3..][..3].iter_mut().zip(of).for_each(|(sum, of)| *sum += of);
            }
        }
    }
    sums.retain(|_, sum| *sum != [0; 12]);
    sums
}

/// Frames with their window: steps of an interval that changes, at times of minutes or hours, with reboots.
fn frames() -> impl Strategy<Value = Vec<(FrameMeta, usize)>> {
    let gap = prop_oneof![
        20 => Just(15_000i64),
        2 => 16_000i64..200_000,
        1 => 200_000i64..4_000_000,
    ];
    let frame = (gap, 0u32..30, 0usize..4, 0u32..6, 0u32..40);
    (proptest::collection::vec(frame, 1..220), any::<bool>()).prop_map(|(frames, in_order)| {
        let (mut instant_ms, mut boot, mut window, mut interval_ms) = (NOON, 1, 0, INTERVAL_MS);
        let mut all = Vec::new();
        for (sequence, (gap, reboot, which, change, sampling)) in (1..).zip(frames) {
            interval_ms = match sampling {
                0 => INTERVAL_MS,
                1 => 4 * INTERVAL_MS,
                2 => INTERVAL_MS / 3,
                _ => interval_ms,
            };
            instant_ms += gap * i64::from(interval_ms) / i64::from(INTERVAL_MS);
            if reboot == 0 {
                boot += 1;
            }
            // Most frames come with their neighbours.
            if change == 0 {
                window = which;
            }
            let number = if in_order { all.len() / 60 } else { window };
            all.push((FrameMeta { instant_ms, sequence, epoch: 5, boot, uncertain: false, interval_ms }, number));
        }
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn what_is_stored_adds_up_to_what_all_frames_say(frames in frames()) {
        let registry = Registry::default();
        let (id, columns) = (SchemaId::of(&slow_columns()), slow_columns());
        let schema = registry.schema_define(AgentId(1), id, columns, 0, &mut Definitions::default()).expect("room");
        let mut tables = Tables::default();
        for window in 0..4 {
            let of_window: Vec<_> = frames.iter().filter(|(_, of)| *of == window).map(|(meta, _)| *meta).collect();
            tables.take(&registry, &of_window);
        }
        let mut all = Columns::new(schema.columns.len());
        for (meta, _) in &frames {
            all.push_state(*meta, &frame_values(meta));
        }
        let whole = slot::make(&schema, None, &mut all, 0, SLOT_MS).expect("frames");
        prop_assert_eq!(sums(&tables.slots), sums(&[whole]));
        let kept: usize = tables.chunks.iter().map(|(_, _, body)| {
            crate::telemetry::chunk::Chunk::open(body).expect("a chunk").frames().len()
        }).sum();
        prop_assert_eq!(kept, frames.len());
    }
}
