//! What other domains and the API read of sources, beside whole frames.

use super::query::{Assembly, QueryError};
use super::{Glance, Series, SeriesQuery, SourceInfo, Telemetry};
use crate::access::capability::MeasurementsRead;
use crate::access::{Permit, Resource};
use crate::platform::ids::{AgentId, SourceId};

impl Telemetry {
    /// Series of one metric. `None`: the source is not visible to the permit and never was.
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
        let mut assembly = Assembly::new(query, &source.info(), periods, self.inner.clock.now_ms())?;
        self.inner.gather(&source, &mut assembly).await?;
        assembly.finish().map(Some)
    }

    /// Whether the permit's organisations own a source now.
    #[must_use]
    pub fn is_visible<C>(&self, permit: &Permit<C>, source: SourceId) -> bool {
        self.visible(permit, source).is_some()
    }

    /// Looks at a source's last frames without copying them. Its records wait meanwhile: `look`
    /// does arithmetic, nothing more. `None`: not visible, or no frame yet.
    pub fn glance<C, R>(&self, permit: &Permit<C>, source: SourceId, look: impl FnOnce(Glance<'_>) -> R) -> Option<R> {
        self.visible(permit, source)?.glance(look)
    }

    /// Sources of a kind that are not `known` yet, in order of id: for reconcilers.
    #[must_use]
    pub(crate) fn sources_unknown(&self, kind: &str, known: impl Fn(SourceId) -> bool) -> Vec<SourceInfo> {
        let sources = self.inner.registry.sources();
        let unknown = sources.iter().filter(|source| !known(source.id) && source.kind == kind);
        unknown.map(|source| source.info()).collect()
    }

    /// The agent that a source is measured by.
    #[must_use]
    pub(crate) fn agent_of(&self, source: SourceId) -> Option<AgentId> {
        Some(self.inner.registry.source(source)?.agent)
    }
}
