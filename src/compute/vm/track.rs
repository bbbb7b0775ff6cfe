//! Follows machines that several hosts know: looks at the last frame of each source, and writes down where they go.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use sea_orm::DbErr;

use super::placing::{self, Decision, Happened, Look, Place, Run};
use super::{Vm, VmJoin, VmPlan};
use crate::compute::{Compute, store};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{SourceId, VmId};
use crate::telemetry::{SourceEvent, SourceView};

/// Events of a source that are looked through for one move.
const EVENTS: usize = 50;

/// What was seen of sources lately, and where their schemas have the state.
#[derive(Debug)]
pub(in crate::compute) struct Tracks {
    /// Since when anybody looks.
    began_ms: UnixMs,
    runs: HashMap<SourceId, Run>,
    plans: HashMap<SourceId, (i64, VmPlan)>,
}

impl Tracks {
    pub(in crate::compute) fn new(began_ms: UnixMs) -> Self {
        Self { began_ms, runs: HashMap::new(), plans: HashMap::new() }
    }
}

impl Compute {
    /// One pass over those that may have moved; how many did.
    pub(in crate::compute) async fn vms_follow(&self, tracks: &mut Tracks) -> Result<usize, DbErr> {
        let vms: Vec<Arc<Vm>> = {
            let index = self.index();
            index.vms.several.iter().filter_map(|id| index.vms.all.get(id).cloned()).collect()
        };
        let now_ms = self.0.clock.now_ms();
        let (mut moves, mut conflicts) = (Vec::new(), Vec::new());
        for vm in vms {
            let Some(here) = vm.places.last().copied() else { continue };
            let runs: Vec<Run> = vm.sources.iter().filter_map(|join| self.run(tracks, *join)).collect();
            let decision = placing::decide(here, &runs);
            let conflict = match decision {
                Decision::Conflict(with) => Some(with),
                Decision::Stays | Decision::Moves(_) => None,
            };
            if conflict != vm.conflict {
                conflicts.push((vm.row.id, conflict));
            }
            let place = match decision {
                Decision::Moves(to) => {
                    let Some(run) = runs.iter().find(|run| run.source == to.source) else { continue };
                    match vm.conflict {
                        None => Some(self.refined(here, to, run.interval_ms).await?),
                        // As long as it ran twice it was said to be here.
                        Some(_) => Some(Place { from_ms: to.from_ms.max(run.ran_ms), ..to }),
                    }
                }
                Decision::Stays => self.told_elsewhere(&vm, here, now_ms),
                Decision::Conflict(_) => None,
            };
            moves.extend(place.map(|place| (vm.row.id, place)));
        }
        if !moves.is_empty() {
            let transaction = self.0.db.begin("vms_move").await?;
            store::vm::place_insert(&transaction, &moves).await?;
            transaction.commit().await?;
        }
        if !moves.is_empty() || !conflicts.is_empty() {
            let mut index = self.0.index.write().unwrap_or_else(PoisonError::into_inner);
            index.revision += 1;
            let mut change = |id: VmId, change: &dyn Fn(&mut Vm)| {
                if let Some(known) = index.vms.all.get(&id) {
                    let mut vm = Vm::clone(known);
                    change(&mut vm);
                    index.vms.put(vm);
                }
            };
            for (id, conflict) in conflicts {
                if let Some(with) = conflict {
                    tracing::warn!(vm = %id, source = %with, "a virtual machine runs in two places at once");
                }
                change(id, &|vm| vm.conflict = conflict);
            }
            for (id, place) in &moves {
                tracing::info!(vm = %id, source = %place.source, "a virtual machine moved");
                change(*id, &|vm| vm.places.push(*place));
            }
        }
        Ok(moves.len())
    }

    /// The run of a source, after a look at its last frame.
    fn run(&self, tracks: &mut Tracks, VmJoin { source, from_ms, .. }: VmJoin) -> Option<Run> {
        let view = self.0.telemetry.source_known(source)?;
        let Tracks { began_ms, runs, plans } = tracks;
        let first = from_ms < *began_ms && !plans.contains_key(&source);
        let look = view.glance(|glance| {
            let number = glance.schema.number;
            if plans.get(&source).is_none_or(|(known, _)| *known != number) {
                plans.insert(source, (number, VmPlan::new(glance.schema)));
            }
            Look {
                instant_ms: glance.instant_ms,
                state: plans[&source].1.state(&glance),
                interval_ms: glance.interval_ms,
                first,
            }
        })?;
        match placing::look(source, runs.get(&source).copied(), look) {
            Some(run) => {
                runs.insert(source, run);
                Some(run)
            }
            None => {
                runs.remove(&source);
                None
            }
        }
    }

    /// Where it is told of if it does not run, and is told of no more where it was: another agent reports that
    /// hypervisor, or the hypervisor does not list it and one other does.
    fn told_elsewhere(&self, vm: &Vm, here: Place, now_ms: UnixMs) -> Option<Place> {
        let own = self.0.telemetry.source_known(here.source)?;
        let last_ms = own.glance(|glance| glance.is_stale(now_ms).then_some(glance.instant_ms))??;
        let others = vm.sources.iter().map(|join| join.source).filter(|source| *source != here.source);
        let mut telling = others.filter_map(|source| {
            let view = self.0.telemetry.source_known(source)?;
            view.glance(|glance| !glance.is_stale(now_ms))?.then_some((source, view))
        });
        let (to, view) = telling.next().filter(|_| telling.next().is_none())?;
        let host = |agent| Self::node(&self.index(), agent).map(|node| node.host);
        let same_host = host(own.agent()).is_some_and(|known| host(view.agent()) == Some(known));
        let is_left = same_host
            || self.0.fleet.agent_is_revoked(own.agent())
            || (self.node_reports(&own, now_ms) && self.node_before(&own) > Some(last_ms));
        is_left.then_some(Place { source: to, from_ms: last_ms.max(here.from_ms) + 1 })
    }

    /// The frame before the newest of a source's hypervisor: of one that is back a machine's own may be yet to come.
    fn node_before(&self, view: &SourceView) -> Option<UnixMs> {
        let node = Self::node(&self.index(), view.agent())?;
        let node = self.0.telemetry.source_known(node.source)?;
        node.glance(|glance| glance.before.map(|before| before.instant_ms))?
    }

    /// The same place, from the instant on that events tell.
    async fn refined(&self, here: Place, to: Place, interval_ms: u32) -> Result<Place, DbErr> {
        let near_ms = to.from_ms - i64::from(interval_ms) * 5 / 2;
        let there = self.happened(to.source, (near_ms, to.from_ms + 1)).await?;
        let left = self.happened(here.source, (here.from_ms.min(near_ms), to.from_ms + 1)).await?;
        let from_ms = placing::arrived(to.from_ms, interval_ms, &there, &left);
        Ok(Place { from_ms: from_ms.max(here.from_ms + 1), ..to })
    }

    /// What happened to a source lately.
    async fn happened(&self, source: SourceId, between: (UnixMs, UnixMs)) -> Result<Vec<Happened>, DbErr> {
        let events = self.0.telemetry.events(&[source], between, EVENTS).await?;
        let happened = |mut event: SourceEvent| Happened {
            at_ms: event.instant_ms,
            name: event.name,
            detail: event.attributes.remove("detail").unwrap_or_default(),
        };
        Ok(events.into_iter().map(happened).collect())
    }
}
