//! Follows machines that several hosts know: looks at the last frame of each source, and writes down where they go.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use sea_orm::DbErr;

use super::placing::{self, Decision, Look, Place, Run};
use super::{Vm, VmJoin, VmPlan};
use crate::compute::{Compute, store};
use crate::platform::clock::UnixMs;
use crate::platform::ids::{SourceId, VmId};

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
            if let Decision::Moves(to) = decision {
                let Some(run) = runs.iter().find(|run| run.source == to.source) else { continue };
                let place = match vm.conflict {
                    None => self.refined(here, to, run.interval_ms).await?,
                    // As long as it ran twice it was said to be here.
                    Some(_) => Place { from_ms: to.from_ms.max(run.ran_ms), ..to },
                };
                moves.push((vm.row.id, place));
            }
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

    /// The same place, from the instant on that events tell.
    async fn refined(&self, here: Place, to: Place, interval_ms: u32) -> Result<Place, DbErr> {
        let between = (to.from_ms - i64::from(interval_ms) * 5 / 2, to.from_ms + 1);
        let there = self.names(to.source, between).await?;
        let left = self.names(here.source, between).await?;
        let from_ms = placing::arrived(to.from_ms, interval_ms, there.into_iter(), left.into_iter());
        Ok(Place { from_ms: from_ms.max(here.from_ms + 1), ..to })
    }

    /// What happened to a source, and when.
    async fn names(&self, source: SourceId, between: (UnixMs, UnixMs)) -> Result<Vec<(UnixMs, String)>, DbErr> {
        let events = self.0.telemetry.events(&[source], between, EVENTS).await?;
        Ok(events.into_iter().map(|event| (event.instant_ms, event.name)).collect())
    }
}
