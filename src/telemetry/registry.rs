//! What frames refer to: schemas, boots and sources, by identity and by number.
//!
//! Numbers are given out here, in memory; whoever is given a new one must see that its
//! [`Definitions`] reach the database in the same transaction as the first record that uses it.

use super::live::LiveSource;
use super::{StoredSchema, instant::Anchors};
use crate::access::Resource;
use crate::fleet::sink::ControlAnchor;
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, OrganizationId, SourceId};
use prost::Message;
use std::collections::{BTreeMap, HashMap, hash_map::Entry};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tongtu_protocol::{limits, schema::SchemaId, v1};

/// Rows that must be written with the next batch.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    pub schemas: Vec<(Arc<StoredSchema>, Owned)>,
    pub boots: Vec<BootRow>,
    pub anchors: Vec<(u32, ControlAnchor)>,
    pub sources: Vec<SourceRow>,
    /// What these cost in memory until they are written, about.
    pub bytes: usize,
}

/// What a row costs beside its texts, about.
const ROW_BYTES: usize = 64;

impl Definitions {
    pub(super) fn is_empty(&self) -> bool {
        self.schemas.is_empty() && self.boots.is_empty() && self.anchors.is_empty() && self.sources.is_empty()
    }

    /// Whose the new sources are.
    pub(super) fn owned(&self) -> Vec<(Resource, OrganizationId, UnixMs)> {
        let owned = |row: &SourceRow| Some((Resource::Source(row.source.id), row.organization?, row.source.created_ms));
        self.sources.iter().filter_map(owned).collect()
    }

    /// Puts these before `later`.
    pub(super) fn prepend_to(mut self, later: &mut Definitions) {
        self.schemas.append(&mut later.schemas);
        self.boots.append(&mut later.boots);
        self.anchors.append(&mut later.anchors);
        self.sources.append(&mut later.sources);
        self.bytes += later.bytes;
        *later = self;
    }
}

#[derive(Debug, Clone)]
pub(super) struct BootRow {
    pub number: u32,
    pub agent: AgentId,
    pub boot_id: String,
    pub used_ms: UnixMs,
}

/// From whom control has a schema, and when it was last used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owned {
    /// `None`: an older version did not write it down.
    pub agent: Option<AgentId>,
    pub used_ms: UnixMs,
}

#[derive(Debug, Clone)]
pub(super) struct SourceRow {
    pub source: Arc<LiveSource>,
    /// Its owner, if it is new; otherwise only its interval changed.
    pub organization: Option<OrganizationId>,
}

/// A boot of an agent's machine and what is known of its clocks.
#[derive(Debug)]
pub(super) struct Boot {
    pub number: u32,
    pub anchors: Mutex<Anchors>,
    /// How many of the streams that are open speak of it. Changed only while `anchors` is locked.
    holders: AtomicUsize,
    /// Rows of anchors that the database has, about.
    anchor_rows: AtomicUsize,
    used: Used,
}

/// When something was last used.
#[derive(Debug)]
struct Used {
    ms: AtomicI64,
    stored_ms: AtomicI64,
}

impl Used {
    fn new(used_ms: UnixMs) -> Self {
        Self { ms: AtomicI64::new(used_ms), stored_ms: AtomicI64::new(used_ms) }
    }

    fn touch(&self, now_ms: UnixMs) {
        self.ms.fetch_max(now_ms, Ordering::Relaxed);
    }

    fn ms(&self) -> UnixMs {
        self.ms.load(Ordering::Relaxed)
    }

    /// What the database should be told: once a day is enough.
    fn to_store(&self) -> Option<UnixMs> {
        let used_ms = self.ms();
        let due = used_ms - self.stored_ms.load(Ordering::Relaxed) >= USED_EVERY_MS;
        due.then(|| self.stored_ms.store(used_ms, Ordering::Relaxed)).map(|()| used_ms)
    }
}

/// When something was used is written this often.
const USED_EVERY_MS: i64 = 86_400_000;

/// What [`Registry::prune`] forgot, and what the database does not know yet.
#[derive(Debug, Default)]
pub(super) struct Pruned {
    pub boots: Vec<u32>,
    pub boots_used: BTreeMap<i64, UnixMs>,
    pub schemas: Vec<i64>,
    pub schemas_used: BTreeMap<i64, UnixMs>,
    /// Boots whose anchors are far more in the database than in memory: these are to stay.
    pub anchors: Vec<(Arc<Boot>, Vec<ControlAnchor>)>,
}

impl Pruned {
    pub(super) fn is_empty(&self) -> bool {
        let Self { boots, boots_used, schemas, schemas_used, anchors } = self;
        let forgotten = boots.len() + schemas.len() + anchors.len();
        forgotten + boots_used.len() + schemas_used.len() == 0
    }
}

/// An anchor that the known ones foretell within this and its round trip says nothing new.
const ANCHOR_TOLERANCE_MS: u64 = 50;
/// But once a day one is kept, so that the nearest is never far.
const ANCHOR_EVERY_MS: u64 = 86_400_000;

impl Boot {
    /// A stream speaks of it.
    pub(super) fn hold(&self) {
        let _anchors = self.anchors.lock().unwrap_or_else(PoisonError::into_inner);
        self.holders.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream does not any more. With the last one all but one of the agent's anchors go: each stream
    /// brings them anew.
    pub(super) fn release(&self) {
        let mut anchors = self.anchors.lock().unwrap_or_else(PoisonError::into_inner);
        if self.holders.fetch_sub(1, Ordering::Relaxed) == 1 {
            anchors.forget_agent();
        }
    }

    /// Takes an anchor that the database has.
    pub(super) fn anchor_restore(&self, anchor: ControlAnchor) {
        self.anchors.lock().unwrap_or_else(PoisonError::into_inner).add_control(anchor);
        self.anchor_rows.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes an anchor of control's, if it says something new.
    pub(super) fn anchor(&self, anchor: ControlAnchor, definitions: &mut Definitions) {
        let mut anchors = self.anchors.lock().unwrap_or_else(PoisonError::into_inner);
        let foretold = anchors.instant(anchor.boottime_ms).filter(|instant| !instant.uncertain);
        let apart = foretold.map(|foretold| foretold.ms.abs_diff(anchor.control_ms));
        let near = |known: &ControlAnchor| known.boottime_ms.abs_diff(anchor.boottime_ms) < ANCHOR_EVERY_MS;
        let tolerance = ANCHOR_TOLERANCE_MS + u64::from(anchor.round_trip_ms);
        if apart.is_some_and(|apart| apart <= tolerance) && anchors.control().iter().rev().any(near) {
            return;
        }
        anchors.add_control(anchor);
        definitions.anchors.push((self.number, anchor));
        definitions.bytes += ROW_BYTES;
        self.anchor_rows.fetch_add(1, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registry {
    schemas: RwLock<Schemas>,
    boots: Mutex<Boots>,
    sources: RwLock<Sources>,
    /// What the database was not, or perhaps not, told of the last [`Pruned`].
    untold: Mutex<Pruned>,
}

#[derive(Debug, Default)]
struct Schemas {
    by_id: HashMap<SchemaId, Arc<StoredSchema>>,
    by_number: HashMap<i64, Arc<StoredSchema>>,
    /// By a hash of their encoding.
    columns: HashMap<u64, Arc<v1::Column>>,
    kept: HashMap<i64, Kept>,
    /// What each agent brought lately.
    brought: HashMap<AgentId, Brought>,
    last: i64,
}

/// What is known of a schema beside itself.
#[derive(Debug)]
struct Kept {
    used: Used,
}

/// New schemas of an agent: the share of what it may bring at once, less what the time since gives back.
#[derive(Debug, Default)]
struct Brought {
    share: f64,
    at_ms: UnixMs,
}

impl Brought {
    fn is_too_much(&mut self, now_ms: UnixMs) -> bool {
        const ALL_MS: f64 = (limits::AGENT_SCHEMA_DAYS * 86_400_000) as f64;
        let passed_ms = (now_ms - self.at_ms).max(0) as f64;
        (self.share, self.at_ms) = ((self.share - passed_ms / ALL_MS).max(0.0), now_ms.max(self.at_ms));
        self.share >= 1.0
    }

    fn add(&mut self, bytes: usize) {
        self.share += (1.0 / limits::AGENT_SCHEMAS as f64).max(bytes as f64 / limits::AGENT_SCHEMA_BYTES as f64);
    }
}

#[derive(Debug, Default)]
struct Boots {
    known: HashMap<AgentId, HashMap<String, Arc<Boot>>>,
    last: u32,
}

#[derive(Debug, Default)]
struct Sources {
    by_key: HashMap<AgentId, HashMap<(String, String), Arc<LiveSource>>>,
    by_id: HashMap<SourceId, Arc<LiveSource>>,
    last: i64,
}

impl Registry {
    pub(super) fn schema(&self, id: SchemaId) -> Option<Arc<StoredSchema>> {
        self.schemas.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned()
    }

    pub(super) fn schema_by_number(&self, number: i64) -> Option<Arc<StoredSchema>> {
        self.schemas.read().unwrap_or_else(PoisonError::into_inner).by_number.get(&number).cloned()
    }

    /// As [`Self::schema`], and it is used.
    pub(super) fn schema_used(&self, id: SchemaId, now_ms: UnixMs) -> Option<Arc<StoredSchema>> {
        let schemas = self.schemas.read().unwrap_or_else(PoisonError::into_inner);
        let known = schemas.by_id.get(&id)?;
        schemas.touch(known.number, now_ms);
        Some(Arc::clone(known))
    }

    /// The schema with this identity; a new one is added to `definitions`, unless the agent brings
    /// too many. `columns` were checked.
    pub(super) fn schema_define(
        &self,
        agent: AgentId,
        id: SchemaId,
        columns: Vec<v1::Column>,
        now_ms: UnixMs,
        definitions: &mut Definitions,
    ) -> Option<Arc<StoredSchema>> {
        let mut schemas = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = schemas.by_id.get(&id) {
            schemas.touch(known.number, now_ms);
            return Some(Arc::clone(known));
        }
        if schemas.brought.entry(agent).or_default().is_too_much(now_ms) {
            return None;
        }
        let number = schemas.last + 1;
        let owned = Owned { agent: Some(agent), used_ms: now_ms };
        let (schema, encoded, own) = schemas.insert(StoredSchema::new(number, id, columns), owned);
        schemas.brought.entry(agent).or_default().add(own);
        definitions.schemas.push((Arc::clone(&schema), owned));
        definitions.bytes += ROW_BYTES + encoded;
        Some(schema)
    }

    /// A schema read from the database.
    pub(super) fn schema_restore(&self, schema: StoredSchema, owned: Owned) {
        self.schemas.write().unwrap_or_else(PoisonError::into_inner).insert(schema, owned);
    }

    /// The boot of an agent; a new one is added to `definitions`, unless the agent has too many.
    pub(super) fn boot_define(
        &self,
        agent: AgentId,
        boot_id: &str,
        now_ms: UnixMs,
        definitions: &mut Definitions,
    ) -> Option<Arc<Boot>> {
        let mut boots = self.boots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_agent) = boots.known.get(&agent) {
            if let Some(known) = of_agent.get(boot_id) {
                known.used.touch(now_ms);
                return Some(Arc::clone(known));
            }
            if of_agent.len() >= limits::AGENT_BOOTS {
                return None;
            }
        }
        let row = BootRow { number: boots.last + 1, agent, boot_id: boot_id.to_owned(), used_ms: now_ms };
        definitions.bytes += ROW_BYTES + boot_id.len();
        definitions.boots.push(row.clone());
        Some(boots.insert(row))
    }

    /// Forgets boots and schemas that were not used since these instants, and that nobody holds.
    /// The newest of each stays, so that no number is given out twice.
    ///
    /// Whether the database will delete them is not known then, and need not be: what comes again is
    /// new, takes the place of a row that is still there, and [`Self::untold`] keeps the rest.
    pub(super) fn prune(&self, now_ms: UnixMs, boots_ms: UnixMs, schemas_ms: UnixMs) -> Pruned {
        let mut pruned = std::mem::take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner));
        let mut boots = self.boots.lock().unwrap_or_else(PoisonError::into_inner);
        boots.prune(now_ms, boots_ms, &mut pruned);
        drop(boots);
        let mut schemas = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
        schemas.prune(now_ms, schemas_ms, &mut pruned);
        pruned
    }

    /// The database may not have what was pruned: the next [`Self::prune`] says it again.
    pub(super) fn untold(&self, mut pruned: Pruned) {
        // By then there may be more of them.
        for (boot, _) in pruned.anchors.drain(..) {
            boot.anchor_rows.fetch_add(2 * limits::ANCHORS, Ordering::Relaxed);
        }
        *self.untold.lock().unwrap_or_else(PoisonError::into_inner) = pruned;
    }

    /// A boot read from the database, with control's anchors of it.
    pub(super) fn boot_restore(&self, row: BootRow) -> Arc<Boot> {
        self.boots.lock().unwrap_or_else(PoisonError::into_inner).insert(row)
    }

    /// When an agent's machine was started, as far as its clocks are known.
    pub(super) fn booted_ms(&self, agent: AgentId) -> Vec<UnixMs> {
        let boots = self.boots.lock().unwrap_or_else(PoisonError::into_inner);
        let known = boots.known.get(&agent).into_iter().flat_map(HashMap::values);
        let booted = |boot: &Arc<Boot>| boot.anchors.lock().unwrap_or_else(PoisonError::into_inner).instant(0);
        known.filter_map(booted).map(|instant| instant.ms).collect()
    }

    /// When a boot of an agent's machine began, on control's clock; `None` where only the agent's own says so.
    pub(super) fn boot_began_ms(&self, agent: AgentId, number: u32) -> Option<UnixMs> {
        let boots = self.boots.lock().unwrap_or_else(PoisonError::into_inner);
        let boot = boots.known.get(&agent)?.values().find(|boot| boot.number == number)?;
        let began = boot.anchors.lock().unwrap_or_else(PoisonError::into_inner).instant(0);
        began.filter(|instant| !instant.uncertain).map(|instant| instant.ms)
    }

    /// A source of an agent; a new one is added to `definitions`, unless the agent has too many.
    pub(super) fn source_define(
        &self,
        agent: AgentId,
        organization: OrganizationId,
        source: &v1::Source,
        now_ms: UnixMs,
        definitions: &mut Definitions,
    ) -> Option<Arc<LiveSource>> {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        let key = (source.kind.clone(), source.key.clone());
        if let Some(known) = sources.by_key.get(&agent).and_then(|known| known.get(&key)) {
            return Some(Arc::clone(known));
        }
        if sources.by_key.get(&agent).is_some_and(|known| known.len() >= limits::SOURCES) {
            return None;
        }
        let id = SourceId(sources.last + 1);
        definitions.bytes += ROW_BYTES + key.0.len() + key.1.len();
        let live = Arc::new(LiveSource::new(id, agent, key.0, key.1, now_ms, source.interval_ms));
        sources.insert(&live);
        let organization = Some(organization);
        definitions.sources.push(SourceRow { source: Arc::clone(&live), organization });
        Some(live)
    }

    /// The newest frame of a source is of this interval.
    pub(super) fn interval_set(source: &Arc<LiveSource>, interval_ms: u32, definitions: &mut Definitions) {
        source.set_interval_ms(interval_ms);
        definitions.sources.push(SourceRow { source: Arc::clone(source), organization: None });
        definitions.bytes += ROW_BYTES;
    }

    /// A frame of a source is of a wider interval, or of a schema with a wider cadence, than any before.
    pub(super) fn widen(source: &Arc<LiveSource>, interval_ms: u32, cadence_ms: u32, definitions: &mut Definitions) {
        source.widen(interval_ms, cadence_ms);
        definitions.sources.push(SourceRow { source: Arc::clone(source), organization: None });
        definitions.bytes += ROW_BYTES;
    }

    /// A source read from the database.
    pub(super) fn source_restore(&self, source: LiveSource) {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        sources.insert(&Arc::new(source));
    }

    pub(super) fn source(&self, id: SourceId) -> Option<Arc<LiveSource>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned()
    }

    /// The sources of an agent.
    pub(super) fn sources_of(&self, agent: AgentId) -> Vec<Arc<LiveSource>> {
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        sources.by_key.get(&agent).into_iter().flat_map(|known| known.values().cloned()).collect()
    }

    /// How many sources there are; it never shrinks.
    pub(super) fn source_count(&self) -> usize {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).by_id.len()
    }

    /// All sources in order of id.
    pub(super) fn sources(&self) -> Vec<Arc<LiveSource>> {
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = sources.by_id.values().cloned().collect();
        all.sort_unstable_by_key(|source| source.id);
        all
    }
}

impl Schemas {
    /// The schema with the columns of those before it, the bytes of its encoding, and of what it has beyond them.
    fn insert(&mut self, mut schema: StoredSchema, owned: Owned) -> (Arc<StoredSchema>, usize, usize) {
        let (mut encoded, mut bytes) = (0, 0);
        for column in &mut schema.columns {
            let text = column.encode_to_vec();
            encoded += text.len();
            bytes += size_of::<Arc<v1::Column>>();
            let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&text);
            match self.columns.entry(hash) {
                Entry::Occupied(known) if **known.get() == **column => *column = Arc::clone(known.get()),
                Entry::Occupied(_) => bytes += text.len(),
                Entry::Vacant(vacant) => {
                    bytes += text.len();
                    vacant.insert(Arc::clone(column));
                }
            }
        }
        self.kept.insert(schema.number, Kept { used: Used::new(owned.used_ms) });
        let schema = Arc::new(schema);
        self.last = self.last.max(schema.number);
        self.by_id.insert(schema.id, Arc::clone(&schema));
        self.by_number.insert(schema.number, Arc::clone(&schema));
        (schema, encoded, bytes)
    }

    fn touch(&self, number: i64, now_ms: UnixMs) {
        if let Some(kept) = self.kept.get(&number) {
            kept.used.touch(now_ms);
        }
    }

    fn prune(&mut self, now_ms: UnixMs, before_ms: UnixMs, pruned: &mut Pruned) {
        let Self { by_id, by_number, kept, brought, columns, last } = self;
        brought.retain(|_, brought| brought.is_too_much(now_ms) || brought.share > 0.0);
        kept.retain(|number, kept| {
            let Some(schema) = by_number.get(number) else { return false };
            // Both maps hold it.
            if Arc::strong_count(schema) > 2 {
                kept.used.touch(now_ms);
            }
            let stays = kept.used.ms() >= before_ms || number == last;
            if stays {
                pruned.schemas_used.extend(kept.used.to_store().map(|used_ms| (*number, used_ms)));
                return true;
            }
            by_id.remove(&schema.id);
            by_number.remove(number);
            pruned.schemas.push(*number);
            false
        });
        if !pruned.schemas.is_empty() {
            columns.retain(|_, column| Arc::strong_count(column) > 1);
        }
    }
}

impl Boots {
    fn insert(&mut self, row: BootRow) -> Arc<Boot> {
        self.last = self.last.max(row.number);
        let (anchors, anchor_rows, used) = (Mutex::default(), AtomicUsize::new(0), Used::new(row.used_ms));
        let boot = Arc::new(Boot { number: row.number, anchors, holders: AtomicUsize::new(0), anchor_rows, used });
        self.known.entry(row.agent).or_default().insert(row.boot_id, Arc::clone(&boot));
        boot
    }

    fn prune(&mut self, now_ms: UnixMs, before_ms: UnixMs, pruned: &mut Pruned) {
        let last = self.last;
        let mut judge = |boot: &Arc<Boot>| {
            if Arc::strong_count(boot) > 1 {
                boot.used.touch(now_ms);
            }
            let stays = boot.used.ms() >= before_ms || boot.number == last;
            if !stays {
                pruned.boots.push(boot.number);
                return false;
            }
            pruned.boots_used.extend(boot.used.to_store().map(|used_ms| (i64::from(boot.number), used_ms)));
            if boot.anchor_rows.load(Ordering::Relaxed) >= 2 * limits::ANCHORS {
                let anchors = boot.anchors.lock().unwrap_or_else(PoisonError::into_inner).control().to_vec();
                boot.anchor_rows.store(anchors.len(), Ordering::Relaxed);
                pruned.anchors.push((Arc::clone(boot), anchors));
            }
            true
        };
        self.known.retain(|_, of_agent| {
            of_agent.retain(|_, boot| judge(boot));
            !of_agent.is_empty()
        });
    }
}

impl Sources {
    fn insert(&mut self, source: &Arc<LiveSource>) {
        self.last = self.last.max(source.id.0);
        let key = (source.kind.clone(), source.key.clone());
        self.by_key.entry(source.agent).or_default().insert(key, Arc::clone(source));
        self.by_id.insert(source.id, Arc::clone(source));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_share_the_columns_that_are_the_same() {
        let registry = Registry::default();
        let mut definitions = Definitions::default();
        let mut define = |metrics: [&str; 2]| {
            let column = |metric: &&str| v1::Column { metric: (*metric).to_owned(), ..Default::default() };
            let columns: Vec<_> = metrics.iter().map(column).collect();
            registry.schema_define(AgentId(1), SchemaId::of(&columns), columns, 0, &mut definitions).expect("room")
        };
        let (first, second, again) = (define(["a", "b"]), define(["c", "a"]), define(["a", "b"]));
        assert!(Arc::ptr_eq(&first.columns[0], &second.columns[1]));
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!((second.columns[0].metric.as_str(), first.columns[1].metric.as_str()), ("c", "b"));
        assert_eq!(definitions.schemas.len(), 2);
    }

    #[test]
    fn an_agent_has_only_so_many_sources_whatever_its_streams() {
        let registry = Registry::default();
        let mut definitions = Definitions::default();
        let mut define = |agent, key: usize| {
            let source = v1::Source { kind: "host".to_owned(), key: key.to_string(), ..Default::default() };
            registry.source_define(AgentId(agent), OrganizationId(1), &source, 0, &mut definitions).is_some()
        };
        assert!((0..limits::SOURCES).all(|key| define(1, key)));
        assert!(!define(1, limits::SOURCES), "one too many");
        assert!(define(1, 0), "known");
        assert!(define(2, limits::SOURCES), "another's");
    }
}
