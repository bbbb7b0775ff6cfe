//! Tests of which backups are due and stay, and of copies that end early.

use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use sea_orm::ConnectionTrait;

use super::keeper::{beyond, newest};
use super::making::needed;
use super::*;
use crate::platform::background;
use crate::platform::testing;

const HOUR_MS: i64 = 3_600_000;

/// One of an hour, newest first as they are listed.
fn backup(hour: i64, by: Option<&str>, is_whole: bool) -> Backup {
    let made_ms = hour * HOUR_MS;
    let manifest = Some(Manifest::new(made_ms, by.map(ToOwned::to_owned), true));
    let name = Timestamp::from_millisecond(made_ms).expect("a time").strftime(NAMED).to_string();
    Backup { name, bytes: 1, manifest, is_whole }
}

fn hours<'a>(backups: impl IntoIterator<Item = &'a Backup>) -> Vec<i64> {
    backups.into_iter().filter_map(Backup::made_ms).map(|made_ms| made_ms / HOUR_MS).collect()
}

#[test]
fn a_backup_of_a_clock_that_was_ahead_stands_in_nobodys_way() {
    let backups = [backup(90, None, true), backup(12, None, false), backup(11, Some("sys"), true)];
    let newest_at = |hour: i64| hours(newest(&backups, hour * HOUR_MS));
    assert_eq!(newest_at(13), [11], "neither the one of the future nor the one that is not whole");
    assert_eq!(newest_at(90), [90]);
    assert_eq!(newest_at(10), [0; 0]);
}

#[test]
fn the_newest_whole_ones_stay() {
    let all = [
        backup(90, None, true),
        backup(80, None, true),
        backup(9, None, false),
        backup(8, None, true),
        backup(7, Some("sys"), true),
        backup(6, None, true),
        backup(5, None, true),
    ];
    let gone = |keep: usize, now: i64| {
        let mut gone = hours(beyond(&all, keep, now * HOUR_MS));
        gone.sort_unstable();
        gone
    };
    assert_eq!(gone(1, 10), [5, 6, 80, 90], "the newest that is older than now stays");
    assert_eq!(gone(2, 10), [5, 80, 90]);
    assert_eq!(gone(4, 10), [80], "those of the future are the first to go");
    assert_eq!(gone(5, 10), [0; 0]);
    assert_eq!(gone(2, 100), [5, 6, 8]);
    assert_eq!(gone(9, 100), [0; 0]);
}

#[test]
fn a_copy_needs_room_for_what_is_written_meanwhile() {
    assert_eq!(needed(0), 64 << 20);
    assert_eq!(needed(100_000_000_000), 115_000_000_000);
}

#[tokio::test]
async fn a_copy_that_takes_the_room_of_records_or_is_told_to_stops() {
    let test = testing::sqlite().await;
    let fill = test.db.begin("fill").await.expect("begun");
    fill.execute_unprepared("CREATE TABLE filler (number INTEGER)").await.expect("made");
    let rows = "WITH RECURSIVE n (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM n WHERE number < 10000) \
                INSERT INTO filler SELECT number FROM n";
    fill.execute_unprepared(rows).await.expect("filled");
    fill.commit().await.expect("committed");
    let copy = |name: &str, floor: u64| {
        let (db, to) = (test.db.clone(), test.data.path().join(name));
        background::spawn("test", move || copy::copy_database(&db, &to, floor, || false))
    };
    let error = copy("stopped", u64::MAX).await.expect("no panic").expect_err("no room");
    assert!(error.is_disk_full() && error.to_string().contains("records need them"), "{error}");
    copy("whole", 0).await.expect("no panic").expect("it is made");
    // And one that is told to stop, in its midst.
    let asked = Arc::new(AtomicU32::new(0));
    let (db, data, backups) = (test.db.clone(), test.data.path().to_owned(), test.data.path().join("backups"));
    let manifest = Manifest::new(0, None, true);
    let made = background::spawn("test", move || {
        copy::make(&db, &data, &backups, "stopped", manifest, move || asked.fetch_add(1, Ordering::Relaxed) > 10)
    });
    let error = made.await.expect("no panic").expect_err("it was stopped");
    assert!(matches!(error, CopyError::Stopped), "{error}");
    let left = std::fs::read_dir(test.data.path().join("backups")).expect("the directory").count();
    assert_eq!(left, 0, "nothing is left of it");
}
