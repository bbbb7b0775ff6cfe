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
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tongtu_protocol::{limits, schema::SchemaId, v1};

/// Rows that must be written with the next batch.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    pub schemas: Vec<Arc<StoredSchema>>,
    pub boots: Vec<BootRow>,
    pub anchors: Vec<(u32, ControlAnchor)>,
    pub sources: Vec<SourceRow>,
}

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
        *later = self;
    }
}

#[derive(Debug, Clone)]
pub(super) struct BootRow {
    pub number: u32,
    pub agent: AgentId,
    pub boot_id: String,
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
}

/// An anchor that the known ones foretell within this and its round trip says nothing new.
const ANCHOR_TOLERANCE_MS: u64 = 50;
/// But once a day one is kept, so that the nearest is never far.
const ANCHOR_EVERY_MS: u64 = 86_400_000;

impl Boot {
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
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registry {
    schemas: RwLock<Schemas>,
    boots: Mutex<Boots>,
    sources: RwLock<Sources>,
}

#[derive(Debug, Default)]
struct Schemas {
    by_id: HashMap<SchemaId, Arc<StoredSchema>>,
    by_number: HashMap<i64, Arc<StoredSchema>>,
    /// By a hash of their encoding.
    columns: HashMap<u64, Arc<v1::Column>>,
    last: i64,
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

    /// The schema with this identity; a new one is added to `definitions`. `columns` were checked.
    pub(super) fn schema_define(
        &self,
        id: SchemaId,
        columns: Vec<v1::Column>,
        definitions: &mut Definitions,
    ) -> Arc<StoredSchema> {
        let mut schemas = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = schemas.by_id.get(&id) {
            return Arc::clone(known);
        }
        let number = schemas.last + 1;
        let schema = schemas.share(StoredSchema::new(number, id, columns));
        schemas.insert(&schema);
        definitions.schemas.push(Arc::clone(&schema));
        schema
    }

    /// A schema read from the database.
    pub(super) fn schema_restore(&self, schema: StoredSchema) {
        let mut schemas = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
        let schema = schemas.share(schema);
        schemas.insert(&schema);
    }

    /// The boot of an agent; a new one is added to `definitions`.
    pub(super) fn boot_define(&self, agent: AgentId, boot_id: &str, definitions: &mut Definitions) -> Arc<Boot> {
        let mut boots = self.boots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = boots.known.get(&agent).and_then(|known| known.get(boot_id)) {
            return Arc::clone(known);
        }
        let row = BootRow { number: boots.last + 1, agent, boot_id: boot_id.to_owned() };
        definitions.boots.push(row.clone());
        boots.insert(row)
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
    /// The schema with the columns of those before it.
    fn share(&mut self, mut schema: StoredSchema) -> Arc<StoredSchema> {
        for column in &mut schema.columns {
            let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(column.encode_to_vec());
            let known = self.columns.entry(hash).or_insert_with(|| Arc::clone(column));
            if *known == *column {
                *column = Arc::clone(known);
            }
        }
        Arc::new(schema)
    }

    fn insert(&mut self, schema: &Arc<StoredSchema>) {
        self.last = self.last.max(schema.number);
        self.by_id.insert(schema.id, Arc::clone(schema));
        self.by_number.insert(schema.number, Arc::clone(schema));
    }
}

impl Boots {
    fn insert(&mut self, row: BootRow) -> Arc<Boot> {
        self.last = self.last.max(row.number);
        let boot = Arc::new(Boot { number: row.number, anchors: Mutex::default() });
        self.known.entry(row.agent).or_default().insert(row.boot_id, Arc::clone(&boot));
        boot
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
            registry.schema_define(SchemaId::of(&columns), columns, &mut definitions)
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
