//! Tongtu's database schema, spelled out step by step: one step a file, named by its file.
//!
//! Steps only add (expand); what they make obsolete is removed by a later one (contract). None
//! imports an entity of the running code, so an old step never changes its meaning. Each step runs in
//! a transaction on both databases (`use_transaction`), so that a kill leaves it whole or undone.
//! There is no way down: restore a backup instead.

use sea_orm_migration::prelude::*;

mod m0001_access;
mod m0002_fleet;
mod m0003_telemetry;
mod m0004_compute;
mod m0005_writer;
mod m0006_numbers;
mod m0007_growth;
mod m0008_lifetime;
mod m0009_people;
mod m0010_audit;
mod m0011_unreadable;
mod m0012_intervals;
mod m0013_settings;
mod m0014_events;
mod m0015_deleted;
mod m0016_cadence;
mod m0020_refusals;
mod m0021_compute;
mod m0023_ledger;
mod m0024_rollout;
mod m0026_inside;
mod m0027_rollout_program;

/// Steps that bore another name for a while: the old one and the new one.
const RENAMED: [(&str, &str); 1] = [("m0007_lifetime", "m0008_lifetime")];

/// Applies the steps in order.
#[derive(Debug)]
pub struct Migrator;

impl Migrator {
    /// Names the steps of a database as they are called now. One of a name that is none is refused as a newer
    /// version's.
    ///
    /// # Errors
    /// The database failed.
    pub async fn rename(db: &impl ConnectionTrait) -> Result<(), DbErr> {
        let applied = Self::get_migration_models(db).await?;
        for (old, new) in RENAMED {
            // Written only where there is something to write: control starts on a full disk.
            if applied.iter().any(|step| step.version == old) {
                let rename = format!("UPDATE seaql_migrations SET version = '{new}' WHERE version = '{old}'");
                db.execute_unprepared(&rename).await?;
            }
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        // One a line, in order.
        vec![
            Box::new(m0001_access::Migration),
            Box::new(m0002_fleet::Migration),
            Box::new(m0003_telemetry::Migration),
            Box::new(m0004_compute::Migration),
            Box::new(m0005_writer::Migration),
            Box::new(m0006_numbers::Migration),
            Box::new(m0007_growth::Migration),
            Box::new(m0008_lifetime::Migration),
            Box::new(m0009_people::Migration),
            Box::new(m0010_audit::Migration),
            Box::new(m0011_unreadable::Migration),
            Box::new(m0012_intervals::Migration),
            Box::new(m0013_settings::Migration),
            Box::new(m0014_events::Migration),
            Box::new(m0015_deleted::Migration),
            Box::new(m0016_cadence::Migration),
            Box::new(m0020_refusals::Migration),
            Box::new(m0021_compute::Migration),
            Box::new(m0023_ledger::Migration),
            Box::new(m0024_rollout::Migration),
            Box::new(m0026_inside::Migration),
            Box::new(m0027_rollout_program::Migration),
        ]
    }
}
