//! A city's ledger against a simulated cloud: imported, held against what is measured, every planted difference found.

use calamine::Reader;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tongtu_tests::control::{Control, listed};
use tongtu_tests::http;
use tongtu_tests::ledger;
use tongtu_tests::person::Person;
use tongtu_tests::simulator::{Fleet, Simulator};
use tongtu_tests::wait;

const HEADER: [&str; 9] =
    ["虚拟机名称", "UUID", "使用单位", "应用系统", "用途", "到期日期", "云服务商", "vCPU", "内存(GB)"];
const DEPARTMENTS: usize = 62;
const HYPERVISORS: u32 = 29;
const VMS_EACH: usize = 20;
/// Measured, and in no row.
const UNLISTED: usize = 15;
/// On another company's platform, told by their own agents.
const OUTSOURCED: u32 = 12;
/// Of those: in no row, and with other processors than their row says.
const OUTSOURCED_UNLISTED: usize = 2;
const OUTSOURCED_OTHER_VCPUS: usize = 3;
/// In rows, and nowhere measured.
const UNMEASURED: usize = 5;
/// Rows that say other things than are measured.
const OTHER_VCPUS: usize = 9;
const OTHER_MEMORY: usize = 7;
const OTHER_NAME: usize = 5;

/// An import, when it is over.
fn import(control: &Control, parameters: &str, table: Vec<u8>) -> Value {
    ledger::import(control, parameters, table).0
}

/// Names by standing.
fn standings(control: &Control) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for one in listed(&control.get("/api/v1/ledger?limit=10000").json()) {
        let name = one["line"]["name"].as_str().or(one["machine"]["name"].as_str()).expect("a name").to_owned();
        found.entry(one["standing"].as_str().expect("a standing").to_owned()).or_default().insert(name);
    }
    found
}

#[test]
fn a_ledger_of_580_machines_and_62_departments_is_reconciled_with_every_difference() {
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path());
    control.start();
    let security = Person::first(&control);
    let departments: Vec<_> = (1..=DEPARTMENTS).map(|number| format!("第{number:02}局")).collect();
    for name in &departments {
        let wished = serde_json::json!({ "name": name, "level": "department", "parent": "org_1" });
        assert_eq!(security.ask(&control, "POST", "/api/v1/organizations", Some(&wished)).status, 201);
    }
    let provider = serde_json::json!({ "name": "甲公司云", "kind": "outsourced", "contact": "" });
    let made = http::request("POST", &control.url("/api/v1/providers"), Some(&control.token()), Some(&provider));
    assert_eq!(made.expect("an answer").status, 201);

    let agents = HYPERVISORS + OUTSOURCED;
    let token = control.enrolment_token(agents);
    let hypervisors = format!("[[group]]\nname = \"kvm\"\nshare = {HYPERVISORS}\nvms = {VMS_EACH}\n");
    let outsourced = format!("[[group]]\nname = \"jia\"\nshare = {OUTSOURCED}\nvirtual = true\nhost = \"small\"\n");
    let scenario = hypervisors + &outsourced;
    let (interval, duration) = ("5s", "600s");
    let fleet = Fleet { token: &token, agents, interval, duration, scenario: Some(&scenario) };
    let mut simulator = Simulator::start(directory.path(), &fleet);
    let measured = HYPERVISORS as usize * VMS_EACH;
    let vms = wait::until(Duration::from_secs(180), "all machines run", || {
        let vms = listed(&control.get("/api/v1/vms?state=running&sort=name&limit=10000").json());
        let all = measured + OUTSOURCED as usize;
        if vms.len() == all { Ok(vms) } else { Err(format!("{} of {all}", vms.len())) }
    });
    let (vms, guests): (Vec<Value>, Vec<Value>) = vms.into_iter().partition(|vm| vm["told_by"] == "hypervisor");
    assert_eq!((vms.len(), guests.len()), (measured, OUTSOURCED as usize));

    // The ledger: most rows as measured, some not, and three that are wrong. Fifteen are the other company's.
    let mut rows = Vec::new();
    let (mut other_fields, mut other_names) = (BTreeMap::new(), BTreeMap::new());
    for (at, vm) in vms.iter().skip(UNLISTED).enumerate() {
        let text = |field: &str| vm[field].as_str().expect("a text").to_owned();
        let (mut name, mut vcpus) = (text("name"), vm["vcpus"].as_i64().expect("a number"));
        let mut gib = vm["memory_maximum_bytes"].as_i64().expect("a number") >> 30;
        if at < OTHER_VCPUS {
            vcpus += 1;
            other_fields.insert(name.clone(), "vcpus");
        } else if at < OTHER_VCPUS + OTHER_MEMORY {
            gib *= 2;
            other_fields.insert(name.clone(), "memory_bytes");
        } else if at < OTHER_VCPUS + OTHER_MEMORY + OTHER_NAME {
            name = format!("旧名-{at}");
            other_names.insert(name.clone(), text("name"));
            other_fields.insert(name.clone(), "name");
        }
        // Every third is told by its name alone.
        let uuid = if at % 3 == 0 && name == text("name") { String::new() } else { text("uuid").to_uppercase() };
        let department = departments[at % DEPARTMENTS].clone();
        let application = format!("应用{}", at % 200);
        let (purpose, day) = ("生产".to_owned(), "2030-06-30".to_owned());
        let (vcpus, gib) = (vcpus.to_string(), gib.to_string());
        rows.push(vec![name, uuid, department, application, purpose, day, String::new(), vcpus, gib]);
    }
    let text = |vm: &Value, field: &str| vm[field].as_str().expect("a text").to_owned();
    let mut outsourced_both = BTreeSet::new();
    for (at, vm) in guests.iter().skip(OUTSOURCED_UNLISTED).enumerate() {
        let name = text(vm, "name");
        let mut vcpus = vm["vcpus"].as_i64().expect("a number");
        if at < OUTSOURCED_OTHER_VCPUS {
            vcpus *= 2;
            other_fields.insert(name.clone(), "vcpus");
        } else {
            outsourced_both.insert(name.clone());
        }
        // A guest sees a little less than it was given.
        let gib = (vm["memory_bytes"].as_i64().expect("a number") + (1 << 30) - 1) >> 30;
        let uuid = if at % 2 == 0 { text(vm, "uuid") } else { String::new() };
        let (day, cloud) = ("2030-06-30".to_owned(), "甲公司云".to_owned());
        let (vcpus, gib) = (vcpus.to_string(), gib.to_string());
        let department = departments[at].clone();
        rows.push(vec![name, uuid, department, "外包应用".to_owned(), "生产".to_owned(), day, cloud, vcpus, gib]);
    }
    let listed_guests = guests.len() - OUTSOURCED_UNLISTED;
    let unmeasured: BTreeSet<_> = (0..UNMEASURED).map(|number| format!("yi-{number:02}")).collect();
    for (at, name) in unmeasured.iter().enumerate() {
        let cells = [name.as_str(), "", &departments[at], "外包应用", "开发测试", "", "甲公司云", "4", "8"];
        rows.push(cells.map(str::to_owned).to_vec());
    }
    assert_eq!(rows.len(), 580);
    let wrong =
        [["x-1", "没有的局", "生产", ""], ["x-2", &departments[0], "娱乐", ""], ["x-3", &departments[0], "", "明天"]];
    for [name, department, purpose, day] in wrong {
        rows.push([name, "", department, "", purpose, day, "", "", ""].map(str::to_owned).to_vec());
    }
    let table = ledger::workbook(&HEADER, rows.iter().map(|row| row.iter().map(String::as_str).collect()));

    let tried = import(&control, "&dry_run=true", table.clone());
    assert_eq!(tried["state"], "done", "{tried}");
    let counted = |job: &Value, of: &str| job["counts"][of].as_u64().expect("a count") as usize;
    let listed_vms = measured - UNLISTED + listed_guests;
    let expected = [580, 0, 3, listed_vms, listed_vms];
    let told = ["added", "changed", "failed", "matched", "machines_changed"].map(|of| counted(&tried, of));
    assert_eq!(told, expected, "{}", tried["counts"]);
    assert_eq!(standings(&control).keys().collect::<Vec<_>>(), ["only_measured"], "a dry run writes nothing");
    let unowned = || listed(&control.get("/api/v1/vms?unowned=true&limit=10000").json()).len();
    assert_eq!(unowned(), measured + guests.len());

    let done = import(&control, "", table.clone());
    assert_eq!((&done["state"], &done["counts"]), (&tried["state"], &tried["counts"]));
    let found = standings(&control);
    let names = |some: &[Value]| some.iter().map(|vm| vm["name"].as_str().expect("a name").to_owned()).collect();
    let unlisted = [&vms[..UNLISTED], &guests[..OUTSOURCED_UNLISTED]].concat();
    assert_eq!(found["only_measured"], names(&unlisted));
    assert_eq!(found["only_ledger"], unmeasured);
    assert_eq!(found["conflicting"], other_fields.keys().cloned().collect());
    assert_eq!(found["both"].len(), listed_vms - other_fields.len());
    assert!(found["both"].is_superset(&outsourced_both), "{outsourced_both:?}");
    for one in listed(&control.get("/api/v1/ledger?standing=conflicting&limit=100").json()) {
        let name = one["line"]["name"].as_str().expect("a name");
        let fields: Vec<_> = listed_fields(&one);
        assert_eq!(fields, [other_fields[name]], "{one}");
        if let Some(measured) = other_names.get(name) {
            assert_eq!(one["differences"][0]["measured"], measured.as_str());
        }
    }
    // What the ledger says of machines is theirs now, as if it were said by hand.
    assert_eq!(unowned(), unlisted.len());
    let providers = listed(&control.get("/api/v1/providers").json());
    assert_eq!((&providers[0]["vms"], &providers[0]["hosts"]), (&listed_guests.into(), &0.into()));
    // What a department was given it sees as a host too.
    let given = &listed(&control.get(&format!("/api/v1/vms?search={}", text(&guests[5], "name"))).json())[0];
    let host = control.get(&format!("/api/v1/hosts/{}", text(given, "guest"))).json();
    assert_eq!((&host["organization"], &host["vm"]), (&given["organization"], &given["id"]));
    assert_ne!(host["organization"], "org_1");
    let owners: BTreeSet<_> = listed(&control.get("/api/v1/vms?unowned=false&limit=10000").json())
        .iter()
        .map(|vm| vm["organization"].to_string())
        .collect();
    assert_eq!(owners.len(), DEPARTMENTS);
    let given = &listed(&control.get(&format!("/api/v1/vms?search={}", found["both"].last().expect("one"))).json())[0];
    assert!(given["application"].as_str().is_some_and(|name| name.starts_with("应用")), "{given}");
    assert_eq!((&given["purpose"], &given["version"]), (&"production".into(), &2.into()));

    // The same again changes nothing.
    let again = import(&control, "", table);
    assert_eq!(["added", "changed", "machines_changed"].map(|of| counted(&again, of)), [0, 0, 0]);
    assert_eq!(counted(&again, "unchanged"), 580);
    assert_eq!(standings(&control), found);

    // The failed rows, with their reasons.
    let path = format!("/api/v1/ledger/imports/{}/failed", again["id"].as_str().expect("an id"));
    let failed = http::download(&control.url(&path), &control.token()).expect("a workbook");
    let mut failed = calamine::Xlsx::new(std::io::Cursor::new(failed)).expect("a workbook");
    let sheet = failed.worksheet_range_at(0).expect("a sheet").expect("cells");
    let rows: Vec<Vec<String>> = sheet.rows().map(|row| row.iter().map(ToString::to_string).collect()).collect();
    assert_eq!(rows[0].last().map(String::as_str), Some("失败原因"));
    let reasons: Vec<_> = rows[1..].iter().map(|row| (row[0].as_str(), row.last().expect("a reason"))).collect();
    let said = ["没有此组织：没有的局", "“用途”应为", "“到期日期”应为"];
    assert_eq!(reasons.len(), said.len(), "{reasons:?}");
    for ((name, reason), (at, said)) in reasons.into_iter().zip((1..).zip(said)) {
        assert!(name == format!("x-{at}") && reason.contains(said), "{name}: {reason}");
    }
    simulator.process().interrupt(Duration::from_secs(20));
}

fn listed_fields(one: &Value) -> Vec<&str> {
    one["differences"].as_array().into_iter().flatten().filter_map(|difference| difference["field"].as_str()).collect()
}

#[test]
fn an_import_that_is_killed_is_there_whole_or_not_at_all() {
    const LINES: usize = 5_000;
    let directory = tempfile::tempdir().expect("a folder");
    let mut control = Control::new(directory.path());
    control.start();
    let mut table = "虚拟机名称,使用单位,备注\n".to_owned();
    (0..LINES).for_each(|number| table += &format!("vm-{number},root,{}\n", "记".repeat(80)));
    let url = control.url("/api/v1/ledger/imports?file=a.csv");
    let begun = http::upload(&url, &control.token(), table.clone().into()).expect("an answer").json();
    let path = format!("/api/v1/ledger/imports/{}", begun["id"].as_str().expect("an id"));
    wait::until(Duration::from_secs(60), "it is written", || {
        let job = control.get(&path).json();
        if job["state"] == "writing" || job["state"] == "done" { Ok(()) } else { Err(job.to_string()) }
    });
    control.kill();
    control.start();
    let found = control.get("/api/v1/ledger?limit=1").json()["counts"]["only_ledger"].as_u64().expect("a count");
    assert!(found == 0 || found == LINES as u64, "{found} lines");
    let done = import(&control, "", table.into());
    assert_eq!(done["state"], "done");
    assert_eq!(control.get("/api/v1/ledger?limit=1").json()["counts"]["only_ledger"], LINES);
}
