//! Tables that are imported into the ledger, as a person's browser does it.

use crate::control::Control;
use crate::{http, wait};
use rust_xlsxwriter::Workbook;
use serde_json::Value;
use std::time::Duration;

/// A workbook of rows of text.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn workbook<'a>(header: &[&str], rows: impl Iterator<Item = Vec<&'a str>>) -> Vec<u8> {
    let mut workbook = Workbook::new();
    let sheet = workbook.add_worksheet();
    sheet.write_row(0, 0, header.iter().copied()).expect("written");
    for (at, row) in (1..).zip(rows) {
        sheet.write_row(at, 0, row).expect("written");
    }
    workbook.save_to_buffer().expect("a workbook")
}

/// An import when it is over, and how it was each time that somebody looked.
///
/// # Panics
/// When it is not begun, or not over within two minutes.
#[track_caller]
pub fn import(control: &Control, parameters: &str, table: Vec<u8>) -> (Value, Vec<Value>) {
    let url = control.url(&format!("/api/v1/ledger/imports?file=ledger.xlsx{parameters}"));
    let begun = http::upload(&url, &control.token(), table).expect("an answer");
    assert_eq!(begun.status, 202, "{}", begun.text);
    let path = format!("/api/v1/ledger/imports/{}", begun.json()["id"].as_str().expect("an id"));
    let mut looks = Vec::new();
    let job = wait::until(Duration::from_secs(120), "the import is over", || {
        let job = control.get(&path).json();
        looks.push(job.clone());
        if job["ended_ms"].is_number() { Ok(job) } else { Err(job.to_string()) }
    });
    (job, looks)
}
