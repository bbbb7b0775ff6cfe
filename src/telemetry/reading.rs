//! What other domains and the API read of sources, beside whole frames.

use super::absent::Awaited;
use super::live::LiveSource;
use super::query::{Assembly, QueryError};
use super::queue::LossRow;
use super::{
    Facts, Glance, Part, Resolution, Series, SeriesQuery, SourceEvent, SourceInfo, Telemetry, gaps, slot, store,
    store_rows, thin,
};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Resource};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{AgentId, SourceId};
use sea_orm::{DatabaseTransaction, DbErr};
use std::sync::Arc;

/// Ranges of lost records that are read for a question.
const LOSSES: usize = 10_000;

impl Telemetry {
    /// Series of some metrics. `None`: the source is not visible to the permit and never was.
    ///
    /// # Errors
    /// A question that is not answered, and how to mend it; or the database failed.
    pub async fn series(
        &self,
        permit: &Permit<MeasurementsRead>,
        query: &SeriesQuery,
    ) -> Result<Option<Vec<Series>>, QueryError> {
        let Some(source) = self.inner.registry.source(query.source) else { return Ok(None) };
        let periods = self.inner.access.periods(permit, Resource::Source(query.source));
        if periods.is_empty() {
            return Ok(None);
        }
        let now_ms = self.inner.clock.now_ms();
        let mut assembly = Assembly::new(query, &source.info(), periods, now_ms)?;
        let snapshot = self.inner.gather(&source, &mut assembly).await?;
        let stretches = assembly.complete()?;
        let known = match gaps::missing(stretches.iter().flatten()) {
            Some(missing) => self.known(&snapshot, &source, missing, &assembly, now_ms).await?,
            None => gaps::Known::default(),
        };
        // Others can have its connection.
        drop(snapshot);
        Ok(Some(assembly.explained(stretches, &known)))
    }

    /// Series of a thing that several sources measured, one after another, oldest first. Without a permit: who joins
    /// sources asks `access` in which periods (in order) the thing was the asker's.
    ///
    /// # Errors
    /// A question that is not answered, and how to mend it; or the database failed.
    pub(crate) async fn series_joined(
        &self,
        parts: &[Part],
        owned: &[(UnixMs, UnixMs)],
        query: &SeriesQuery,
    ) -> Result<Vec<Series>, QueryError> {
        let known = |part: &Part| Some((self.inner.registry.source(part.source)?, part.stays.clone()));
        let parts: Vec<_> = parts.iter().filter_map(known).collect();
        let Some((newest, _)) = parts.last() else { return Err(QueryError::Nothing) };
        let now_ms = self.inner.clock.now_ms();
        // Its first owner owns what was measured before any of them was known.
        let created_ms = parts.iter().map(|(source, _)| source.created_ms).min().unwrap_or(now_ms);
        let info = SourceInfo { created_ms, ..newest.info() };
        let mut assembly = Assembly::new(query, &info, owned.to_vec(), now_ms)?;
        let owned = assembly.owned();
        let mut snapshot = None;
        for (source, stays) in &parts {
            // One connection at a time.
            drop(snapshot.take());
            assembly.within(stays, &owned);
            snapshot = Some(self.inner.gather(source, &mut assembly).await?);
        }
        assembly.within(&[(UnixMs::MIN, UnixMs::MAX)], &owned);
        let stretches = assembly.complete()?;
        let mut known = gaps::Known::default();
        if let (Some(missing), Some(snapshot)) = (gaps::missing(stretches.iter().flatten()), &snapshot) {
            let mut all = Vec::with_capacity(parts.len());
            for (source, _) in &parts {
                all.push(self.known(snapshot, source, missing, &assembly, now_ms).await?);
            }
            known = all.into_iter().reduce(gaps::Known::and).unwrap_or_default();
        }
        // Others can have its connection.
        drop(snapshot);
        Ok(assembly.explained(stretches, &known))
    }

    /// The newest events of some sources between two instants, the newest first. Without a permit, as
    /// [`series_joined`](Self::series_joined).
    ///
    /// # Errors
    /// The database failed.
    pub(crate) async fn events(
        &self,
        sources: &[SourceId],
        between: (UnixMs, UnixMs),
        most: usize,
    ) -> Result<Vec<SourceEvent>, DbErr> {
        store::events_between(self.inner.db.read(), sources, between, most).await
    }

    /// What is in memory of a source, for who joins sources.
    #[must_use]
    pub(crate) fn source_known(&self, source: SourceId) -> Option<SourceView> {
        self.inner.registry.source(source).map(|source| SourceView(source, UnixMs::MIN))
    }

    /// What may explain that something is missing between two instants.
    async fn known(
        &self,
        snapshot: &DatabaseTransaction,
        source: &LiveSource,
        (from_ms, to_ms): (UnixMs, UnixMs),
        assembly: &Assembly,
        now_ms: UnixMs,
    ) -> Result<gaps::Known, DbErr> {
        let agent = self.inner.agent(source.agent);
        let (awaited, lacks) = {
            let state = agent.lock();
            let settled = |epoch: u64| state.epochs.get(&epoch).map(|epoch| &epoch.settled);
            let is_open = |awaited: &Awaited| {
                settled(awaited.epoch).is_none_or(|settled| !settled.contains_range(awaited.first, awaited.last))
            };
            let awaited = state.absent.awaited().filter(is_open).map(|awaited| (awaited.from_ms, awaited.to_ms));
            (awaited, state.lacks_records())
        };
        let slots = assembly.resolution() != Resolution::Raw;
        let compacted = self.inner.compacted.load(std::sync::atomic::Ordering::SeqCst);
        let unreadable = store_rows::unreadable_spans(snapshot, source.id, (from_ms, to_ms), slots, compacted).await?;
        let (losses, more_losses) = match lacks {
            true => store::losses_between(snapshot, source.agent, (from_ms, to_ms), LOSSES).await?,
            false => (Vec::new(), false),
        };
        Ok(gaps::Known {
            unreadable,
            asked_ms: assembly.span().0,
            kept_ms: self.inner.kept_ms(assembly.resolution(), now_ms),
            told_ms: self.inner.kept_ms(Resolution::Slot, now_ms),
            created_ms: source.created_ms,
            longest_ms: slot::longest_ms(source.widest_ms()),
            losses,
            more_losses,
            boots: self.inner.registry.booted_ms(source.agent),
            awaited,
        })
    }

    /// Ranges of an agent's records that will never come, behind the one with this epoch and first number.
    pub(super) async fn losses(
        &self,
        agent: AgentId,
        after: Option<(u64, u64)>,
        limit: usize,
    ) -> Result<Vec<LossRow>, DbErr> {
        store::loss_list(&self.inner.db, agent, after, limit).await
    }

    /// From which step a period is drawn if nobody says; `None`: from frames.
    #[must_use]
    pub fn drawn_from(&self, from_ms: UnixMs, to_ms: UnixMs) -> Option<i64> {
        let now_ms = self.inner.clock.now_ms();
        let kept_ms = |resolution| self.inner.kept_ms(resolution, now_ms);
        thin::step_ms(from_ms, to_ms, kept_ms(Resolution::Raw), kept_ms(Resolution::Slot))
    }

    /// A source that the permit's organisations own now.
    #[must_use]
    pub fn source<C>(&self, permit: &Permit<C>, source: SourceId) -> Option<SourceView> {
        self.visible_since(permit, source).map(|(source, since_ms)| SourceView(source, since_ms))
    }

    /// When a boot of an agent's machine began, on control's clock; `None` where only the agent's own says so.
    #[must_use]
    pub(crate) fn boot_began_ms(&self, agent: AgentId, boot: u32) -> Option<UnixMs> {
        self.inner.registry.boot_began_ms(agent, boot)
    }

    /// How many sources there are; more than before means that reconcilers have something to do.
    #[must_use]
    pub(crate) fn source_count(&self) -> usize {
        self.inner.registry.source_count()
    }

    /// Waits until the owners of new sources are known, or may have been told since the last time: for the reconciler.
    pub(crate) async fn sources_added(&self) {
        self.inner.sources_added.notified().await;
    }

    /// Sources of a kind that are not `known` yet, in order of id: for reconcilers.
    #[must_use]
    pub(crate) fn sources_unknown(&self, kind: &str, known: impl Fn(SourceId) -> bool) -> Vec<SourceInfo> {
        let sources = self.inner.registry.sources();
        let unknown = sources.iter().filter(|source| !known(source.id) && source.kind == kind);
        unknown.map(|source| source.info()).collect()
    }
}

/// A source that a permit has shown: what is in memory of it, and since when that is for who was shown it.
#[derive(Debug, Clone)]
pub struct SourceView(Arc<LiveSource>, UnixMs);

/// The same source, for the same time.
impl PartialEq for SourceView {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) && self.1 == other.1
    }
}

impl SourceView {
    /// Whose spool its records come through.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        self.0.agent
    }

    /// Looks at the last frames without copying them. Its records wait meanwhile: `look` does
    /// arithmetic, nothing more. `None`: no frame yet, or none of its time.
    pub fn glance<R>(&self, look: impl FnOnce(Glance<'_>) -> R) -> Option<R> {
        self.0.glance(self.1, look)
    }

    /// The newest inventory.
    #[must_use]
    pub fn facts(&self) -> Option<Arc<Facts>> {
        self.0.facts()
    }

    /// Since when it holds.
    #[must_use]
    pub fn facts_instant_ms(&self) -> Option<UnixMs> {
        self.0.facts_instant_ms()
    }
}
