//! The ledger over real databases: imported through the API, held against machines that hypervisors report.

use axum::http::Method;
use serde_json::json;

use super::vm::{Hypervisor, RUNNING, UUID, organizations};
use super::*;
use crate::platform::ids::VmId;

const HEADER: &str = "虚拟机名称,UUID,使用单位,应用系统,用途,到期日期,vCPU,内存(GB),磁盘(GB),联系人";

impl Control {
    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(path);
        request.extensions_mut().expect("extensions").insert(self.principal);
        let response = self.router.clone().oneshot(request.body(Body::from(body)).expect("a request")).await;
        let response = response.expect("an answer");
        let status = response.status();
        (status, to_bytes(response.into_body(), usize::MAX).await.expect("a body").to_vec())
    }

    /// An import, when it is over.
    pub(super) async fn import(&self, parameters: &str, table: impl Into<Vec<u8>>) -> Value {
        let path = format!("/api/v1/ledger/imports?file=t.csv{parameters}");
        let (status, body) = self.ask(Method::POST, &path, table.into()).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{}", String::from_utf8_lossy(&body));
        let begun: Value = serde_json::from_slice(&body).expect("JSON");
        let path = format!("/api/v1/ledger/imports/{}", begun["id"].as_str().expect("an id"));
        for _ in 0..10_000 {
            let job = self.json(&path).await;
            if job["ended_ms"].is_number() {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("it does not end");
    }

    async fn changes(&self, job: &Value) -> Value {
        self.json(&format!("/api/v1/ledger/imports/{}/changes", job["id"].as_str().expect("an id"))).await
    }

    async fn standings(&self) -> (Value, Vec<String>) {
        let ledger = self.json("/api/v1/ledger").await;
        let items = ledger["items"].as_array().expect("items");
        let standing = |one: &Value| {
            let name = one["line"]["name"].as_str().or(one["machine"]["name"].as_str()).unwrap_or_default();
            format!("{name} {}", one["standing"].as_str().unwrap_or_default())
        };
        (ledger["counts"].clone(), items.iter().map(standing).collect())
    }
}

async fn audited(test: &TestDatabase) -> Vec<(String, String)> {
    let rows = sea_orm::ConnectionTrait::query_all_raw(
        test.db.read(),
        sea_orm::Statement::from_string(
            sea_orm::ConnectionTrait::get_database_backend(test.db.read()),
            "SELECT action, resource FROM audit_entry ORDER BY number",
        ),
    );
    let text = |row: &sea_orm::QueryResult, of: &str| row.try_get::<String>("", of).expect("a text");
    let rows = rows.await.expect("rows");
    rows.iter()
        .map(|row| (text(row, "action"), text(row, "resource")))
        .filter(|(action, _)| action.starts_with("ledger.") || action.starts_with("vm."))
        .collect()
}

#[tokio::test]
async fn a_table_is_tried_then_imported_and_the_same_again_changes_nothing() {
    for test in testing::databases().await {
        organizations(&test).await;
        let control = Control::start(&test).await;
        let mut one = Hypervisor::open(&control, 7, 1, "machine-a").await;
        one.facts(2, NOON - 30_000, &[("name", "web")]).await;
        one.frame(NOON, RUNNING, 100).await;
        control.compute.reconcile().await.expect("reconciled");
        assert_eq!(control.standings().await.1, ["web only_measured"], "{}", test.name);

        let table = format!(
            "{HEADER}\nweb,{UUID},health,社区网格化,生产,2027-12-31,4,4,20,张伟\nmail,,school,,,,2,8,,\nbad,,nobody,,,,,,,\n"
        );
        let tried = control.import("&dry_run=true", table.clone()).await;
        assert_eq!(tried["state"], "done");
        let counts = json!({
            "added": 2, "changed": 0, "unchanged": 0, "removed": 0, "failed": 1, "matched": 1, "machines_changed": 1
        });
        assert_eq!(tried["counts"], counts, "{}", test.name);
        assert_eq!(tried["failures"][0]["row"], 4);
        let said = tried["failures"][0]["reasons"][0].as_str().expect("a reason");
        assert!(said.contains("没有此组织：nobody"), "{said}");
        let changes = control.changes(&tried).await;
        assert_eq!(changes["items"][0]["vm"], "vm_1");
        let fields = changes["items"][0]["machine"].as_array().expect("fields");
        assert_eq!(fields[0], json!({ "field": "organization", "before": null, "after": "org_2" }));
        assert_eq!(fields.len(), 4, "{fields:?}");
        assert_eq!(control.standings().await.1, ["web only_measured"], "nothing was written");
        assert_eq!(control.json("/api/v1/vms/vm_1").await["version"], 1);
        assert!(audited(&test).await.is_empty());

        let done = control.import("", table.clone()).await;
        assert_eq!((&done["state"], &done["counts"]), (&"done".into(), &counts), "{}", test.name);
        let vm = control.json("/api/v1/vms/vm_1").await;
        assert_eq!((&vm["organization"], &vm["application"]), (&"org_2".into(), &"社区网格化".into()));
        assert_eq!((&vm["purpose"], &vm["version"]), (&"production".into(), &2.into()));
        assert_eq!(vm["expires_ms"], 1_830_268_800_000_i64);
        assert_eq!(control.standings().await.1, ["web conflicting", "mail only_ledger"]);
        let ledger = control.json("/api/v1/ledger?standing=conflicting").await;
        let difference = json!([{ "field": "vcpus", "ledger": "4", "measured": "2" }]);
        assert_eq!(ledger["items"][0]["differences"], difference);
        assert_eq!((&ledger["items"][0]["id"], &ledger["imported"]["file"]), (&"line_1".into(), &"t.csv".into()));
        assert_eq!(ledger["counts"], json!({ "both": 0, "conflicting": 1, "only_ledger": 1, "only_measured": 0 }));
        let import = done["id"].as_str().expect("an id").to_owned();
        let entries = [("ledger.import".to_owned(), import), ("vm.update".to_owned(), "vm_1".to_owned())];
        assert_eq!(audited(&test).await, entries);

        control.now.fetch_add(60_000, Ordering::Relaxed);
        let again = control.import("", table).await;
        assert_eq!((&again["counts"]["unchanged"], &again["counts"]["machines_changed"]), (&2.into(), &0.into()));
        assert_eq!(control.changes(&again).await["items"], json!([]));
        assert_eq!(audited(&test).await.len(), 2, "{}: nothing changed", test.name);
        assert_eq!(control.json("/api/v1/ledger").await["imported"]["at_ms"], NOON);

        // A department sees its own lines and machines alone.
        let permit = Permit::testing(OrganizationId(3));
        let theirs = control.compute.reconciled(&permit);
        assert_eq!(theirs.len(), 1);
        assert!(!control.compute.0.access.is_visible(&permit, Resource::Vm(VmId(1))));
        drop(one);
        control.stop().await;

        // And it is there after a restart.
        let test = test.reopen().await;
        let control = Control::start(&test).await;
        let (counts, standings) = control.standings().await;
        assert_eq!((standings.len(), &counts["only_ledger"]), (2, &1.into()), "{}: {standings:?}", test.name);
        control.stop().await;
    }
}

#[tokio::test]
async fn a_table_that_replaces_the_ledger_removes_what_it_lacks_and_takes_no_wrong_row() {
    for test in testing::databases().await {
        organizations(&test).await;
        let control = Control::start(&test).await;
        let three = "虚拟机名称,使用单位,备注\na,health,一\nb,health,二\nc,school,三\n";
        assert_eq!(control.import("", three).await["counts"]["added"], 3);
        let refused = control.import("&replace=true", "虚拟机名称,使用单位\na,health\nb,nobody\n").await;
        assert_eq!(refused["state"], "refused");
        assert!(refused["reason"].as_str().is_some_and(|said| said.contains("每一行都必须正确")), "{refused}");
        assert_eq!(refused["counts"]["failed"], 1);
        assert_eq!(control.json("/api/v1/ledger").await["counts"]["only_ledger"], 3, "{}", test.name);
        let done = control.import("&replace=true", "虚拟机名称,使用单位\na,health\nc,health\n").await;
        let counts = json!({
            "added": 0, "changed": 1, "unchanged": 1, "removed": 1, "failed": 0, "matched": 0, "machines_changed": 0
        });
        assert_eq!(done["counts"], counts);
        let lines = control.json("/api/v1/ledger").await;
        let line = |at: usize| (lines["items"][at]["line"]["name"].clone(), lines["items"][at]["line"]["note"].clone());
        assert_eq!(
            (line(0), line(1)),
            (("a".into(), "一".into()), ("c".into(), "三".into())),
            "an absent column says nothing"
        );
        // Others are added to it.
        assert_eq!(control.import("", "虚拟机名称,使用单位\nd,health\n").await["counts"]["added"], 1);
        assert_eq!(control.json("/api/v1/ledger").await["counts"]["only_ledger"], 3);
        control.stop().await;
    }
}

#[tokio::test]
async fn what_is_no_ledger_is_refused_with_its_reason_and_changes_nothing() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    for (table, reason) in [
        (Vec::new(), "文件是空的"),
        (b"PK\x03\x04 not a workbook".to_vec(), "不是可读取的 .xlsx"),
        ("虚机名称,部门\na,b\n".into(), "缺少列：虚拟机名称 (“虚机名称”与之相近)"),
        ("虚拟机名称,使用单位\n".into(), "没有数据行"),
        (format!("虚拟机名称,使用单位\n{}", "a,root\n".repeat(100_000)).into(), "超过 50000 行"),
    ] {
        let job = control.import("", table).await;
        assert_eq!(job["state"], "refused", "{reason}");
        let said = job["reason"].as_str().expect("a reason");
        assert!(said.contains(reason), "{said}");
        assert_eq!(job["counts"], Value::Null);
    }
    let large = vec![b'a'; (20 << 20) + 1];
    let (status, body) = control.ask(Method::POST, "/api/v1/ledger/imports", large).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{}", String::from_utf8_lossy(&body));
    assert!(String::from_utf8_lossy(&body).contains("20 MiB"), "{}", String::from_utf8_lossy(&body));
    assert_eq!(control.get("/api/v1/ledger/imports/import_1").await.0, StatusCode::NOT_FOUND);
    assert_eq!(control.get("/api/v1/ledger/imports/1/failed").await.0, StatusCode::NOT_FOUND);
    assert_eq!(control.json("/api/v1/ledger").await["items"], json!([]));
    control.stop().await;
}

#[tokio::test]
async fn rows_that_failed_come_back_in_a_workbook_to_be_mended() {
    let test = testing::sqlite().await;
    let control = Control::start(&test).await;
    let job = control.import("", "虚拟机名称,使用单位,用途\na,root,生产\nb,root,娱乐\n").await;
    assert_eq!((&job["counts"]["added"], &job["counts"]["failed"]), (&1.into(), &1.into()));
    let path = format!("/api/v1/ledger/imports/{}/failed", job["id"].as_str().expect("an id"));
    let (status, workbook) = control.ask(Method::GET, &path, Vec::new()).await;
    assert!(status == StatusCode::OK && workbook.starts_with(b"PK"));
    // As it is it fails again, for the same reason; the reasons are no column of the ledger.
    let again = control.import("", workbook).await;
    assert_eq!((&again["counts"]["failed"], &again["ignored"]), (&1.into(), &json!([])));
    assert_eq!(again["failures"][0]["reasons"], job["failures"][0]["reasons"]);
    let (status, template) = control.ask(Method::GET, "/api/v1/ledger/template", Vec::new()).await;
    assert_eq!(status, StatusCode::OK);
    assert!(control.import("", template).await["reason"].as_str().is_some_and(|said| said.contains("没有数据行")));
    control.stop().await;
}
