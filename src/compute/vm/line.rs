//! A virtual machine as a board shows it.

use std::sync::{Arc, PoisonError};

use super::Vm;
use super::figures::VmPlan;
use super::report::{Head, Seen, VmConflict, VmSummary, seen, summary};
use crate::access::Permit;
use crate::access::capability::MeasurementsRead;
use crate::compute::Compute;
use crate::compute::board::{Boards, Line};
use crate::platform::clock::UnixMs;
use crate::telemetry::SourceView;

/// A virtual machine as it is shown.
#[derive(Debug)]
pub(in crate::compute) struct VmLine {
    pub(in crate::compute) vm: Arc<Vm>,
    pub(in crate::compute) shown: VmSummary,
    /// The same.
    pub(in crate::compute) json: Vec<u8>,
    /// The source of where it is.
    view: Option<SourceView>,
    head: Head,
    key: Option<Key>,
    /// Up to then it reports, if no other frame comes.
    up_until_ms: UnixMs,
    plan: Option<(i64, VmPlan)>,
}

/// Two looks at a machine that find the same key show the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    /// Schema, instant, and that of the frame before.
    frame: Option<(i64, UnixMs, Option<UnixMs>)>,
    stale: bool,
    gone: bool,
    expired: bool,
    conflict: Option<VmConflict>,
    facts_ms: Option<UnixMs>,
}

impl Line for VmLine {
    fn boards(compute: &Compute) -> &Boards<Self> {
        &compute.0.vm_boards
    }

    fn revision(compute: &Compute) -> u64 {
        compute.0.index.read().unwrap_or_else(PoisonError::into_inner).revision
    }

    fn found(compute: &Compute, permit: &Permit<MeasurementsRead>, known: Vec<Self>) -> Vec<Self> {
        // Not while the index is held: each line looks into it as well.
        let all: Vec<Arc<Vm>> = compute.index().vms.all.values().cloned().collect();
        let mut known = known.into_iter().peekable();
        let visible = all.into_iter().filter(|vm| compute.vm_is_listed(permit, vm.row.id));
        visible
            .map(|vm| {
                while known.next_if(|line| line.vm.row.id < vm.row.id).is_some() {}
                let line = known.next_if(|line| line.vm.row.id == vm.row.id);
                Self::new(compute, permit, vm, line)
            })
            .collect()
    }

    fn number(&self) -> i64 {
        self.vm.row.id.0
    }

    fn show(&mut self, compute: &Compute, now_ms: UnixMs, _version: u64) {
        let expired = self.vm.row.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms);
        let facts_ms = self.view.as_ref().and_then(SourceView::facts_instant_ms);
        // Asked only of those that may not report, and before its frames are held.
        let is_over = |view: &SourceView| compute.vm_is_over(&self.vm, view, now_ms);
        let gone = now_ms > self.up_until_ms && self.view.as_ref().is_some_and(is_over);
        // Of those that others claim as well: it ends with their claims, of which nothing else tells.
        let conflict = compute.vm_conflict(&self.vm, &self.head, now_ms);
        let Self { vm, view, head, key: known, plan, .. } = self;
        let measured = view.as_ref().and_then(|view| {
            view.glance(|glance| {
                let schema = glance.schema.number;
                let frame = Some((schema, glance.instant_ms, glance.before.map(|before| before.instant_ms)));
                let stale = glance.is_stale(now_ms);
                let key = Key { frame, stale, gone: stale && gone, expired, conflict, facts_ms };
                if *known == Some(key) {
                    return None;
                }
                if plan.as_ref().is_none_or(|(number, _)| *number != schema) {
                    *plan = Some((schema, VmPlan::of(vm, glance.schema)));
                }
                let seen = plan.as_ref().map(|(_, plan)| seen(plan, &glance, now_ms, gone)).unwrap_or_default();
                Some((key, glance.up_until_ms(), seen))
            })
        });
        let (key, up_until_ms, seen) = match measured {
            Some(None) => return,
            Some(Some(found)) => found,
            None => {
                let key = Key { frame: None, stale: true, gone: false, expired, conflict, facts_ms };
                if *known == Some(key) {
                    return;
                }
                (key, UnixMs::MIN, Seen::default())
            }
        };
        let facts = view.as_ref().and_then(SourceView::facts);
        let shown = summary(vm, head, conflict, seen, facts.as_deref(), now_ms);
        (self.key, self.up_until_ms) = (Some(key), up_until_ms);
        if shown != self.shown || self.json.is_empty() {
            self.json.clear();
            serde_json::to_writer(&mut self.json, &shown).expect("texts and numbers are JSON");
            self.shown = shown;
        }
    }

    fn is_certain(&self, now_ms: UnixMs) -> bool {
        let expires = self.vm.row.expires_ms.is_some_and(|expires_ms| !self.shown.expired && expires_ms <= now_ms);
        // Whether another's claim ended is told by nothing of its own.
        self.head.claims.is_empty() && self.key.is_some_and(|key| !key.stale) && now_ms <= self.up_until_ms && !expires
    }
}

impl VmLine {
    fn new(compute: &Compute, permit: &Permit<MeasurementsRead>, vm: Arc<Vm>, known: Option<Self>) -> Self {
        let view = vm.source().and_then(|source| compute.0.telemetry.source(permit, source));
        let head = compute.vm_head(permit, &vm, view.as_ref());
        match known {
            // What it is made of is the same.
            Some(line) if Arc::ptr_eq(&line.vm, &vm) && line.view == view && line.head == head => line,
            Some(line) => Self { vm, view, head, key: None, ..line },
            None => Self {
                shown: summary(&vm, &head, None, Seen::default(), None, UnixMs::MIN),
                json: Vec::new(),
                vm,
                view,
                head,
                key: None,
                up_until_ms: UnixMs::MIN,
                plan: None,
            },
        }
    }
}
