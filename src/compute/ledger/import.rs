//! How a table becomes lines of the ledger: read, checked, planned, and then written in one transaction.
//!
//! What must hold: nothing is written before everything is checked; one import at a time; what is planned holds until
//! it is written, since nothing else changes machines meanwhile.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sea_orm::DbErr;
use serde_json::{Value, json};

use super::job::{ImportState, ImportWanted, Job, Outcome, Said};
use super::plan::{LineChange, MOST_LINES, Plan, World, plan};
use super::row::{Parsed, TableFault, parse};
use super::sheet::{SheetFault, read};
use super::{Imported, Ledger};
use crate::access::audit::Change;
use crate::access::capability::{MeasurementsRead, MeasurementsWrite};
use crate::access::{Permit, ROOT};
use crate::compute::vm::change::vm_changes;
use crate::compute::{Compute, store};
use crate::platform::background::{self, Interrupted};
use crate::platform::ids::LedgerImportId;

/// Changes of lines that the audit log's entry of an import tells.
const MOST_AUDITED: usize = 50;

/// What an import found is kept so long behind its end.
const KEPT: Duration = Duration::from_secs(3_600);

/// Why an import is not begun.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImportError {
    /// Who asks reaches a part of the city alone.
    #[error("the ledger is the whole city's: this takes somebody who reaches all of it")]
    NotRoot,
    /// Too many wait.
    #[error("other imports are waiting: try again when they are over")]
    Busy,
}

/// Why one that was begun failed.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the database failed: {0}")]
    Database(#[from] DbErr),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Both that an import takes.
pub(super) struct Permits {
    pub reading: Permit<MeasurementsRead>,
    pub writing: Permit<MeasurementsWrite>,
}

impl Compute {
    /// Begins an import, which goes on whether or not anybody waits.
    pub(super) fn import_begin(
        &self,
        permits: Permits,
        wanted: ImportWanted,
        table: Bytes,
    ) -> Result<Arc<Job>, ImportError> {
        if permits.writing.organization() != ROOT {
            return Err(ImportError::NotRoot);
        }
        let by = self.0.access.actor_name(permits.writing.actor());
        let job = self.0.imports.add(wanted, by, self.0.clock.now_ms()).ok_or(ImportError::Busy)?;
        let (compute, begun) = (self.clone(), Arc::clone(&job));
        tokio::spawn(async move {
            let (importing, going) = (compute.clone(), Arc::clone(&begun));
            // A task of its own, so that one that panics is told to be over as well.
            let done = tokio::spawn(async move { importing.import(&permits, &going, table).await }).await;
            let (state, outcome) = match done {
                Ok(Ok(outcome)) if outcome.reason.is_some() => (ImportState::Refused, outcome),
                Ok(Ok(outcome)) => (ImportState::Done, outcome),
                Ok(Err(error)) => {
                    tracing::error!(%error, "an import of the ledger failed");
                    (ImportState::Failed, Outcome::default())
                }
                Err(panic) => {
                    tracing::error!(%panic, "an import of the ledger failed");
                    (ImportState::Failed, Outcome::default())
                }
            };
            begun.end(state, compute.0.clock.now_ms(), outcome);
            // Failed rows and changes are as large as the table. Nothing else is held until then.
            let (id, shared) = (begun.id, Arc::downgrade(&compute.0));
            drop((compute, begun));
            tokio::time::sleep(KEPT).await;
            if let Some(shared) = shared.upgrade() {
                shared.imports.forget(id);
            }
        });
        Ok(job)
    }

    /// One that goes on or went on lately.
    pub(super) fn import_fetch(
        &self,
        permit: &Permit<MeasurementsRead>,
        id: LedgerImportId,
    ) -> Result<Option<Arc<Job>>, ImportError> {
        if permit.organization() != ROOT {
            return Err(ImportError::NotRoot);
        }
        Ok(self.0.imports.find(id))
    }

    async fn import(&self, permits: &Permits, job: &Arc<Job>, table: Bytes) -> Result<Outcome, Broken> {
        let shared = &self.0;
        let _turn = shared.imports.turn.lock().await;
        let reading = Arc::clone(job);
        // Whoever panics over a file, it is the file that is to be mended.
        let unreadable = |_: Interrupted| said_of(&SheetFault::Workbook("it is broken".to_owned()));
        let parsed = background::spawn("ledger-read", move || parsed(&reading, &table)).await.map_err(unreadable);
        let parsed = match parsed.flatten() {
            Ok(parsed) => parsed,
            Err(reason) => return Ok(Outcome { reason: Some(reason), ..Outcome::default() }),
        };
        let (header, ignored) = (parsed.header.clone(), parsed.ignored.clone());
        // Held from the plan to the memory of the commit, as by whatever changes machines.
        let mut joining = shared.joining.lock().await;
        if joining.unsure {
            self.read_back().await?;
            joining.unsure = false;
        }
        let (ledger, world) = self.world(&permits.reading);
        let replace = job.wanted.replace;
        let plan = background::spawn("ledger-plan", move || plan(parsed, &world, replace)).await?;
        let lines = ledger.lines.len() + plan.counts.added - plan.counts.removed;
        let reason = if lines > MOST_LINES {
            Some(Said {
                english: format!("the ledger would have {lines} lines, more than {MOST_LINES}"),
                chinese: format!("导入后台账将有 {lines} 行，超过上限 {MOST_LINES} 行"),
            })
        } else if replace && plan.counts.failed > 0 {
            Some(Said {
                english: "a table that replaces the ledger must be right in every row: otherwise what the failed rows are of would be removed".to_owned(),
                chinese: "替换整个台账时，每一行都必须正确，否则出错行对应的记录会被删除".to_owned(),
            })
        } else {
            None
        };
        if reason.is_none() && !job.wanted.dry_run && !plan.is_nothing() {
            let written = self.write(&permits.writing, job, &ledger, &plan).await;
            joining.unsure = written.is_err();
            written?;
        }
        let Plan { counts, failed, changes, .. } = plan;
        Ok(Outcome { header, ignored, counts: Some(counts), failed, changes, reason })
    }

    /// What an import is planned against. Machines and lines stay as they are while the lock of joining is held.
    fn world(&self, permit: &Permit<MeasurementsRead>) -> (Arc<Ledger>, World) {
        let machines = self.machines(permit);
        let index = self.index();
        let providers = index.providers.values().map(|provider| (provider.id, provider.name.clone()));
        let world = World {
            organizations: self.0.access.organizations_within(permit),
            providers: providers.collect(),
            ledger: Arc::clone(&index.ledger),
            machines,
            vms: index.vms.all.clone(),
            now_ms: self.0.clock.now_ms(),
        };
        (Arc::clone(&index.ledger), world)
    }

    async fn write(
        &self,
        permit: &Permit<MeasurementsWrite>,
        job: &Job,
        ledger: &Ledger,
        plan: &Plan,
    ) -> Result<(), DbErr> {
        let shared = &self.0;
        job.begin(ImportState::Writing, plan.put.len() + plan.machines.len());
        let imported = Imported { at_ms: shared.clock.now_ms(), by: job.by.clone(), file: job.wanted.file.clone() };
        let transaction = shared.db.begin("ledger_import").await?;
        store::ledger::delete(&transaction, &plan.removed).await?;
        let mut done = 0;
        for some in plan.put.chunks(store::ROWS) {
            store::ledger::put(&transaction, some).await?;
            done += some.len();
            job.done(done);
        }
        let machines = self.with_guests(plan.machines.clone());
        let owned = self.vms_put(&transaction, &machines).await?;
        job.done(done + plan.machines.len());
        store::ledger::import_set(&transaction, &imported).await?;
        let changes = [audited(job, plan)].into_iter().chain(vm_changes(&machines));
        let recorded = shared.access.record_all(&transaction, permit, changes).await?;
        transaction.commit().await?;
        shared.access.recorded(recorded);
        let lines = merged(ledger, plan);
        let mut index = shared.index.write().unwrap_or_else(PoisonError::into_inner);
        index.ledger = Arc::new(Ledger { lines, imported: Some(imported) });
        self.vms_took(&mut index, owned, machines);
        Ok(())
    }
}

fn said_of(fault: &SheetFault) -> Said {
    Said { english: fault.to_string(), chinese: fault.chinese() }
}

/// Reads and checks a table.
fn parsed(job: &Job, table: &[u8]) -> Result<Parsed, Said> {
    job.begin(ImportState::Reading, 0);
    let table = read(table, |rows| job.done(rows)).map_err(|fault| said_of(&fault))?;
    job.begin(ImportState::Checking, table.rows.len());
    let wrong = |fault: TableFault| Said { english: fault.to_string(), chinese: fault.chinese() };
    parse(table, |rows| job.done(rows)).map_err(wrong)
}

/// The lines after a plan, in order of id.
fn merged(ledger: &Ledger, plan: &Plan) -> Vec<super::LedgerLine> {
    let mut lines: std::collections::BTreeMap<_, _> = ledger.lines.iter().map(|line| (line.id, line.clone())).collect();
    plan.removed.iter().for_each(|id| drop(lines.remove(id)));
    lines.extend(plan.put.iter().map(|line| (line.id, line.clone())));
    lines.into_values().collect()
}

/// What the audit log says of an import: what it counts, and some of what it changes. Each machine has its own entry.
fn audited(job: &Job, plan: &Plan) -> Change {
    let of_lines = || plan.changes.iter().filter(|change| change.kind != super::plan::ChangeKind::Unchanged);
    let told: Vec<&LineChange> = of_lines().take(MOST_AUDITED).collect();
    Change {
        action: "ledger.import",
        resource: job.id.to_string(),
        before: Value::Null,
        after: json!({
            "file": job.wanted.file,
            "replace": job.wanted.replace,
            "counts": plan.counts,
            "lines": told,
            "lines_left_out": of_lines().count() - told.len(),
        }),
    }
}
