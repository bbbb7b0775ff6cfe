//! What a row of a table says: headers, cells, and what is wrong with them. Pure.
//!
//! What must hold: a table without the columns that identify a machine is refused as a whole; a row that cannot be
//! understood is given back with every reason and changes nothing; a machine stands in one row.

use std::collections::HashMap;

use jiff::civil::Date;

use super::sheet::Table;
use crate::access::form::{Fault, Faults};
use crate::compute::vm::Purpose;
use crate::platform::clock::UnixMs;

/// Rows of one table.
pub(super) const MOST_ROWS: usize = 50_000;
/// Characters of one cell.
const MOST_CHARACTERS: usize = 100;
/// Characters of a note.
const MOST_OF_NOTE: usize = 500;
/// The column of a workbook that tells why a row was not taken.
pub(super) const FAILED: &str = "失败原因";
/// From Unix time to midnight in Asia/Shanghai.
const SHANGHAI_MS: i64 = 8 * 3_600_000;
const DAY_MS: i64 = 86_400_000;
const GIB: f64 = (1_u64 << 30) as f64;
/// How like two headers are that may be the same, from 0 to 1.
const ALIKE: f64 = 0.5;

/// A column of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Column {
    Name,
    Uuid,
    Organization,
    Application,
    Purpose,
    Expires,
    Provider,
    Vcpus,
    Memory,
    Disk,
    Contact,
    Note,
}

impl Column {
    /// In the order of the template.
    pub(super) const ALL: [Self; 12] = [
        Self::Name,
        Self::Uuid,
        Self::Organization,
        Self::Application,
        Self::Purpose,
        Self::Expires,
        Self::Provider,
        Self::Vcpus,
        Self::Memory,
        Self::Disk,
        Self::Contact,
        Self::Note,
    ];

    /// As a table names it.
    pub(super) fn header(self) -> &'static str {
        match self {
            Self::Name => "虚拟机名称",
            Self::Uuid => "UUID",
            Self::Organization => "使用单位",
            Self::Application => "应用系统",
            Self::Purpose => "用途",
            Self::Expires => "到期日期",
            Self::Provider => "云服务商",
            Self::Vcpus => "vCPU",
            Self::Memory => "内存(GB)",
            Self::Disk => "磁盘(GB)",
            Self::Contact => "联系人",
            Self::Note => "备注",
        }
    }

    /// As the API names it.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Uuid => "uuid",
            Self::Organization => "organization",
            Self::Application => "application",
            Self::Purpose => "purpose",
            Self::Expires => "expires_ms",
            Self::Provider => "provider",
            Self::Vcpus => "vcpus",
            Self::Memory => "memory_bytes",
            Self::Disk => "disk_bytes",
            Self::Contact => "contact",
            Self::Note => "note",
        }
    }

    /// Without it nothing is known.
    pub(super) fn is_needed(self) -> bool {
        matches!(self, Self::Name | Self::Organization)
    }

    fn fault(self, english: impl AsRef<str>, chinese: impl AsRef<str>) -> Fault {
        let header = self.header();
        let (english, chinese) = (english.as_ref(), chinese.as_ref());
        Fault::new(self.field(), format!("{header}: {english}"), format!("“{header}”{chinese}"))
    }
}

/// A header that stands in no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ignored {
    pub header: String,
    /// The column that it looks like, if that is not there.
    pub alike: Option<&'static str>,
}

/// Why a table is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TableFault {
    /// Columns that are needed, each with a header that looks like it.
    #[error("the table lacks {}: the template shows the headers, which stand in the first row", listed(.0, ", ", "{} looks like it"))]
    Missing(Vec<(&'static str, Option<String>)>),
    /// There twice.
    #[error("the column {0} stands there twice")]
    Twice(&'static str),
    /// Nothing in it.
    #[error("the table has no rows below its header")]
    Empty,
}

fn listed(missing: &[(&'static str, Option<String>)], comma: &str, looks: &str) -> String {
    let one = |(header, alike): &(&'static str, Option<String>)| match alike {
        Some(alike) => format!("{header} ({})", looks.replace("{}", alike)),
        None => (*header).to_owned(),
    };
    missing.iter().map(one).collect::<Vec<_>>().join(comma)
}

impl TableFault {
    pub(super) fn chinese(&self) -> String {
        match self {
            Self::Missing(missing) => {
                let missing = listed(missing, "、", "“{}”与之相近");
                format!("缺少列：{missing}。请下载模板，表头应位于第一行")
            }
            Self::Twice(header) => format!("列“{header}”出现了两次"),
            Self::Empty => "表头之下没有数据行".to_owned(),
        }
    }
}

/// A row, understood, but for the names in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Entry {
    /// Its number in the sheet.
    pub row: usize,
    pub name: String,
    pub uuid: Option<String>,
    pub organization: String,
    pub application: Option<String>,
    pub purpose: Option<Purpose>,
    pub expires_ms: Option<UnixMs>,
    pub provider: Option<String>,
    pub vcpus: Option<i64>,
    pub memory_bytes: Option<i64>,
    pub disk_bytes: Option<i64>,
    pub contact: Option<String>,
    pub note: Option<String>,
    /// As it came.
    pub cells: Vec<String>,
}

/// A row that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub row: usize,
    pub cells: Vec<String>,
    pub faults: Faults,
}

/// What a table says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parsed {
    pub header: Vec<String>,
    pub ignored: Vec<Ignored>,
    pub entries: Vec<Entry>,
    pub failed: Vec<Failed>,
}

/// Wide brackets, wide letters' case and blanks make no other header.
fn plain(text: &str) -> String {
    let plain = |c: char| match c {
        '（' => '(',
        '）' => ')',
        other => other.to_ascii_lowercase(),
    };
    text.chars().filter(|c| !c.is_whitespace()).map(plain).collect()
}

fn is_alike(a: &str, b: &str) -> bool {
    let (a, b) = (plain(a), plain(b));
    a.contains(&b) || b.contains(&a) || strsim::normalized_damerau_levenshtein(&a, &b) >= ALIKE
}

/// Of some names the one that looks most like another, if one does.
pub(super) fn alike<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |other: &str| strsim::normalized_damerau_levenshtein(&plain(name), &plain(other));
    let alike = names.filter(|other| is_alike(name, other));
    alike.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

/// Where each column is, and the headers that are none.
fn places(header: &[String]) -> Result<(HashMap<Column, usize>, Vec<Ignored>), TableFault> {
    let mut places = HashMap::new();
    let mut others = Vec::new();
    for (at, text) in header.iter().enumerate() {
        let text = text.trim();
        // A workbook that was given back is mended and sent again.
        if text.is_empty() || text == FAILED {
            continue;
        }
        match Column::ALL.into_iter().find(|column| plain(column.header()) == plain(text)) {
            None => others.push(text),
            Some(column) => {
                if places.insert(column, at).is_some() {
                    return Err(TableFault::Twice(column.header()));
                }
            }
        }
    }
    let absent: Vec<_> = Column::ALL.into_iter().filter(|column| !places.contains_key(column)).collect();
    let missing: Vec<_> = absent
        .iter()
        .filter(|column| column.is_needed())
        .map(|column| (column.header(), alike(column.header(), others.iter().copied()).map(str::to_owned)))
        .collect();
    if !missing.is_empty() {
        return Err(TableFault::Missing(missing));
    }
    let ignored = others.into_iter().map(|text| Ignored {
        header: text.to_owned(),
        alike: alike(text, absent.iter().map(|column| column.header())),
    });
    Ok((places, ignored.collect()))
}

/// Reads a table; `checked` is told after each row how many are.
pub(super) fn parse(table: Table, mut checked: impl FnMut(usize)) -> Result<Parsed, TableFault> {
    let (places, ignored) = places(&table.header)?;
    if table.rows.is_empty() {
        return Err(TableFault::Empty);
    }
    let mut parsed = Parsed { header: table.header, ignored, ..Parsed::default() };
    let mut seen = Seen::default();
    for (at, (row, cells)) in table.rows.into_iter().enumerate() {
        let cell = |column| places.get(&column).and_then(|at| cells.get(*at)).map_or("", |text| text.trim());
        match entry(row, cell).and_then(|entry| seen.note(entry)) {
            Ok(entry) => parsed.entries.push(Entry { cells, ..entry }),
            Err(faults) => parsed.failed.push(Failed { row, cells, faults }),
        }
        checked(at + 1);
    }
    Ok(parsed)
}

/// Which machines stand in which rows.
#[derive(Debug, Default)]
struct Seen {
    uuids: HashMap<String, usize>,
    /// By name and organisation: the first row, and whether one has no UUID.
    names: HashMap<(String, String), (usize, bool)>,
}

impl Seen {
    /// The same machine a second time is refused: two of one name in one organisation are told apart by UUIDs alone.
    fn note(&mut self, entry: Entry) -> Result<Entry, Faults> {
        let mut faults = Faults::default();
        if let Some(first) = entry.uuid.as_ref().and_then(|uuid| self.uuids.get(uuid)) {
            let said = (format!("is that of row {first}"), format!("与第 {first} 行重复"));
            faults.note(Err(Column::Uuid.fault(said.0, said.1)));
        }
        let key = (entry.name.clone(), entry.organization.clone());
        if let Some((first, unnamed)) = self.names.get(&key).filter(|(_, unnamed)| *unnamed || entry.uuid.is_none()) {
            let unnamed = if *unnamed { *first } else { entry.row };
            faults.note(Err(Column::Name.fault(
                format!("row {first} is of the same organisation and has the same name; row {unnamed} has no UUID"),
                format!("与第 {first} 行重复：同一单位的同名虚拟机须各有 UUID"),
            )));
        }
        faults.settled()?;
        let known = self.names.entry(key).or_insert((entry.row, false));
        known.1 |= entry.uuid.is_none();
        if let Some(uuid) = &entry.uuid {
            self.uuids.insert(uuid.clone(), entry.row);
        }
        Ok(entry)
    }
}

/// What Excel shows where a formula has no value.
const ERRORS: [&str; 8] = ["#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!", "#DATA!"];

/// What cells say, and what is wrong with them.
struct Cells<F> {
    cell: F,
    faults: Faults,
}

impl<'a, F: Fn(Column) -> &'a str> Cells<F> {
    fn note<T>(&mut self, read: Result<T, Fault>) -> Option<T> {
        read.map_err(|fault| self.faults.note(Err(fault))).ok()
    }

    fn text(&mut self, column: Column, most: usize) -> Option<&'a str> {
        let text = (self.cell)(column);
        if text.is_empty() {
            if column.is_needed() {
                self.faults.note(Err(column.fault("must not be empty", "不能为空")));
            }
            return None;
        }
        if ERRORS.contains(&text) {
            self.faults.note(Err(column.fault(
                format!("the formula in this cell failed ({text}): write its value"),
                format!("单元格公式出错（{text}），请填写实际值"),
            )));
            return None;
        }
        let fits = text.chars().count() <= most && !text.chars().any(char::is_control);
        let read = fits.then_some(text).ok_or_else(|| {
            column.fault(
                format!("use at most {most} characters on one line"),
                format!("应不超过 {most} 个字符，且不含换行"),
            )
        });
        self.note(read)
    }

    fn read<T>(&mut self, column: Column, read: impl FnOnce(&str) -> Result<T, Fault>) -> Option<T> {
        let text = self.text(column, MOST_CHARACTERS)?;
        self.note(read(text))
    }

    fn owned(&mut self, column: Column) -> Option<String> {
        self.text(column, MOST_CHARACTERS).map(str::to_owned)
    }
}

fn entry<'a>(row: usize, cell: impl Fn(Column) -> &'a str) -> Result<Entry, Faults> {
    let mut cells = Cells { cell, faults: Faults::default() };
    let entry = Entry {
        row,
        name: cells.owned(Column::Name).unwrap_or_default(),
        uuid: cells.read(Column::Uuid, uuid),
        organization: cells.owned(Column::Organization).unwrap_or_default(),
        application: cells.owned(Column::Application),
        purpose: cells.read(Column::Purpose, purpose),
        expires_ms: cells.read(Column::Expires, expires_ms),
        provider: cells.owned(Column::Provider),
        vcpus: cells.read(Column::Vcpus, vcpus),
        memory_bytes: cells.read(Column::Memory, |text| bytes(Column::Memory, text)),
        disk_bytes: cells.read(Column::Disk, |text| bytes(Column::Disk, text)),
        contact: cells.owned(Column::Contact),
        note: cells.text(Column::Note, MOST_OF_NOTE).map(str::to_owned),
        cells: Vec::new(),
    };
    cells.faults.settled()?;
    Ok(entry)
}

fn uuid(text: &str) -> Result<String, Fault> {
    let read = uuid::Uuid::parse_str(text).map(|uuid| uuid.hyphenated().to_string());
    read.map_err(|_| Column::Uuid.fault(format!("{text} is no UUID"), format!("不正确：{text}")))
}

fn purpose(text: &str) -> Result<Purpose, Fault> {
    match text {
        "生产" => Ok(Purpose::Production),
        "开发" | "测试" | "开发测试" => Ok(Purpose::Development),
        "应急" => Ok(Purpose::Emergency),
        other => {
            let english = format!("must be 生产, 开发测试 or 应急, not {other}");
            Err(Column::Purpose.fault(english, format!("应为 生产、开发测试 或 应急：{other}")))
        }
    }
}

fn vcpus(text: &str) -> Result<i64, Fault> {
    let number = text.parse::<f64>().ok().filter(|number| (1.0..=4_096.0).contains(number) && number.fract() == 0.0);
    let fault =
        || Column::Vcpus.fault(format!("must be 1 to 4096, not {text}"), format!("应为 1 到 4096 的整数：{text}"));
    number.map(|number| number as i64).ok_or_else(fault)
}

fn bytes(column: Column, text: &str) -> Result<i64, Fault> {
    let number = text.parse::<f64>().ok().filter(|number| *number > 0.0 && *number <= 1e7);
    let fault = || column.fault(format!("must be a number of GB, not {text}"), format!("应为以 GB 计的数：{text}"));
    number.map(|number| (number * GIB) as i64).ok_or_else(fault)
}

/// The day in Shanghai, since 1970, that is the last before an instant: what a table says of an expiry.
pub(super) fn last_day(expires_ms: UnixMs) -> i64 {
    (expires_ms - 1 + SHANGHAI_MS).div_euclid(DAY_MS)
}

/// The end of a day in Shanghai, however the day is written.
fn expires_ms(text: &str) -> Result<UnixMs, Fault> {
    let plain = text.replace(['/', '.', '年', '月'], "-").replace('日', "");
    let day = plain.split([' ', 'T']).next().unwrap_or_default();
    let mut parts = day.split('-').map(str::parse::<i16>);
    let date = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Ok(year)), Some(Ok(month)), Some(Ok(day)), None) if (1970..=9_000).contains(&year) => {
            let small = |number: i16| i8::try_from(number).ok();
            small(month).zip(small(day)).and_then(|(month, day)| Date::new(year, month, day).ok())
        }
        _ => None,
    };
    let midnight = date.and_then(|date| date.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok());
    let fault = || {
        Column::Expires
            .fault(format!("must be a day like 2027-12-31, not {text}"), format!("应为 2027-12-31 这样的日期：{text}"))
    };
    Ok(midnight.ok_or_else(fault)?.timestamp().as_millisecond() - SHANGHAI_MS + DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(header: &[&str], rows: &[&[&str]]) -> Table {
        let texts = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        Table { header: texts(header), rows: (2..).zip(rows).map(|(row, cells)| (row, texts(cells))).collect() }
    }

    fn read(header: &[&str], rows: &[&[&str]]) -> Result<Parsed, TableFault> {
        parse(table(header, rows), |_| {})
    }

    #[test]
    fn a_row_is_understood() {
        let mut checked = 0;
        let table = table(
            &["使用单位", " 虚拟机名称 ", "UUID", "用途", "到期日期", "内存（GB）", "VCPU", "失败原因"],
            &[&["市卫健委", "web-1", "0B5A6F3E-2D1C-4B7A-9E8F-112233445566", "生产", "2026/12/31", "8", "4", "曾失败"]],
        );
        let parsed = parse(table, |count| checked = count).expect("a ledger");
        assert_eq!((parsed.failed, parsed.ignored, checked), (vec![], vec![], 1));
        let entry = &parsed.entries[0];
        assert_eq!((entry.row, entry.name.as_str(), entry.organization.as_str()), (2, "web-1", "市卫健委"));
        assert_eq!(entry.uuid.as_deref(), Some("0b5a6f3e-2d1c-4b7a-9e8f-112233445566"));
        assert_eq!(entry.purpose, Some(Purpose::Production));
        assert_eq!((entry.memory_bytes, entry.vcpus, entry.disk_bytes), (Some(8 << 30), Some(4), None));
        // Until the end of that day in Shanghai.
        assert_eq!(entry.expires_ms, Some(1_798_732_800_000));
        for day in ["2026-12-31", "2026.12.31", "2026年12月31日", "2026-12-31 00:00:00"] {
            assert_eq!(expires_ms(day), Ok(1_798_732_800_000), "{day}");
        }
    }

    #[test]
    fn everything_that_is_wrong_with_a_row_is_said_and_the_others_are_taken() {
        let parsed = read(
            &["虚拟机名称", "使用单位", "用途", "到期日期", "vCPU", "内存(GB)", "UUID"],
            &[
                &["a", "局"],
                &["", "局"],
                &["b", ""],
                &["c", "局", "娱乐", "明天", "两个", "大", "xyz"],
                &["a", "局"],
                &["h\u{7}", "局"],
                &["a", "委"],
                &["d", "局", "", "", "", "", "0b5a6f3e-2d1c-4b7a-9e8f-112233445566"],
                &["d", "局", "", "", "", "", "0b5a6f3e-2d1c-4b7a-9e8f-112233445567"],
                &["e", "局", "", "", "", "", "0b5a6f3e-2d1c-4b7a-9e8f-112233445567"],
                &["d", "局"],
            ],
        )
        .expect("a ledger");
        let taken: Vec<_> = parsed.entries.iter().map(|entry| entry.row).collect();
        assert_eq!(taken, [2, 8, 9, 10], "one name in two organisations, or with two UUIDs, is two machines");
        let said = |row: usize| -> Vec<(&str, &str)> {
            let failed = parsed.failed.iter().find(|failed| failed.row == row).expect("failed");
            failed.faults.0.iter().map(|fault| (fault.field, fault.chinese.as_str())).collect()
        };
        assert_eq!(said(3), [("name", "“虚拟机名称”不能为空")]);
        assert_eq!(said(4), [("organization", "“使用单位”不能为空")]);
        let fields: Vec<_> = said(5).into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["uuid", "purpose", "expires_ms", "vcpus", "memory_bytes"]);
        assert!(said(6)[0].1.contains("与第 2 行重复"), "{:?}", said(6));
        assert!(said(7)[0].1.contains("不含换行"), "{:?}", said(7));
        assert_eq!(said(11), [("uuid", "“UUID”与第 10 行重复")]);
        assert!(said(12)[0].1.contains("与第 9 行重复"), "{:?}", said(12));
    }

    #[test]
    fn what_is_missing_and_what_looks_like_it_is_said() {
        let fault = read(&["虚机名称", "部门", "UUID"], &[&["a", "局", ""]]).expect_err("refused");
        assert_eq!(fault, TableFault::Missing(vec![("虚拟机名称", Some("虚机名称".to_owned())), ("使用单位", None)]));
        assert!(fault.to_string().contains("虚拟机名称 (虚机名称 looks like it), 使用单位"), "{fault}");
        assert!(fault.chinese().contains("虚拟机名称 (“虚机名称”与之相近)、使用单位"), "{}", fault.chinese());
        let parsed =
            read(&["序号", "虚拟机名称", "使用单位", "到期时间", "内存"], &[&["1", "a", "局"]]).expect("a ledger");
        let ignored: Vec<_> = parsed.ignored.iter().map(|one| (one.header.as_str(), one.alike)).collect();
        assert_eq!(ignored, [("序号", None), ("到期时间", Some("到期日期")), ("内存", Some("内存(GB)"))]);
        assert_eq!(read(&["虚拟机名称", "使用单位", "UUID", "uuid"], &[&["a"]]), Err(TableFault::Twice("UUID")));
        assert_eq!(read(&["虚拟机名称", "使用单位"], &[]), Err(TableFault::Empty));
    }
}
