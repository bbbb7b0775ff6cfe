//! Workbooks that are handed out: the template, and the rows that were not taken with their reasons.
//!
//! What must hold: what came in as text goes out as text; no cell becomes a formula.

use rust_xlsxwriter::{Color, DataValidation, Format, Workbook, Worksheet, XlsxError};

use super::row::{Column, FAILED, Failed};

/// Characters of a cell's width.
const WIDTH: f64 = 18.0;
const WIDE: f64 = 40.0;
/// Rows of the template whose purpose is chosen from a list.
const CHOSEN_ROWS: u32 = 10_000;

/// What a column of the template is for, and an example.
fn about(column: Column) -> (&'static str, &'static str) {
    match column {
        Column::Name => ("虚拟机在平台上的名称；同一单位内同名的虚拟机须各填 UUID", "wjw-web-01"),
        Column::Uuid => {
            ("平台上的 UUID；填写后按 UUID 与监测到的虚拟机对应，否则按名称", "0b5a6f3e-2d1c-4b7a-9e8f-112233445566")
        }
        Column::Organization => ("与系统中的组织名称一致", "市卫生健康委员会"),
        Column::Application => ("所属应用系统；留空不改变虚拟机上已有的内容", "全民健康信息平台"),
        Column::Purpose => ("生产、开发测试 或 应急；留空不改变", "生产"),
        Column::Expires => ("使用期限的最后一天；留空不改变", "2027-12-31"),
        Column::Provider => ("与系统中的云服务商名称一致；留空则随宿主机", "市政务云平台"),
        Column::Vcpus => ("1 到 4096 的整数", "4"),
        Column::Memory => ("以 GB 计", "8"),
        Column::Disk => ("全部磁盘合计，以 GB 计", "200"),
        Column::Contact => ("使用单位联系人", "张伟 0592-1234567"),
        Column::Note => ("不超过 500 字", ""),
    }
}

fn head() -> Format {
    Format::new().set_bold().set_background_color(Color::RGB(0x00DC_E6F1))
}

/// An empty ledger with its headers, and a sheet that explains them.
pub(super) fn template() -> Result<Vec<u8>, XlsxError> {
    let mut workbook = Workbook::new();
    let head = head();
    let sheet = workbook.add_worksheet().set_name("台账")?;
    // What looks like a number or a date stays as it is typed.
    let text = Format::new().set_num_format("@");
    for (at, column) in (0..).zip(Column::ALL) {
        sheet.write_string_with_format(0, at, column.header(), &head)?;
        let width = if matches!(column, Column::Uuid | Column::Note) { WIDE } else { WIDTH };
        sheet.set_column_width(at, width)?;
        if matches!(column, Column::Name | Column::Uuid | Column::Contact | Column::Expires) {
            sheet.set_column_format(at, &text)?;
        }
        if column == Column::Purpose {
            let purposes = DataValidation::new().allow_list_strings(&["生产", "开发测试", "应急"])?;
            sheet.add_data_validation(1, at, CHOSEN_ROWS, at, &purposes)?;
        }
    }
    sheet.set_freeze_panes(1, 0)?;
    let sheet = workbook.add_worksheet().set_name("填写说明")?;
    for (at, title) in (0..).zip(["列", "必填", "说明", "示例"]) {
        sheet.write_string_with_format(0, at, title, &head)?;
        sheet.set_column_width(at, if at < 2 { WIDTH } else { WIDE })?;
    }
    for (row, column) in (1..).zip(Column::ALL) {
        let (about, example) = about(column);
        let needed = if column.is_needed() { "是" } else { "否" };
        write(sheet, row, &[column.header(), needed, about, example])?;
    }
    workbook.save_to_buffer()
}

fn write(sheet: &mut Worksheet, row: u32, cells: &[&str]) -> Result<(), XlsxError> {
    for (at, cell) in (0..).zip(cells).filter(|(_, cell)| !cell.is_empty()) {
        sheet.write_string(row, at, *cell)?;
    }
    Ok(())
}

/// The rows that were not taken, as they came, each with its reasons: to be mended and sent again.
pub(super) fn failed(header: &[String], failed: &[Failed]) -> Result<Vec<u8>, XlsxError> {
    // That of the time before is not of this time.
    let kept: Vec<usize> = (0..header.len()).filter(|at| header[*at].trim() != FAILED).collect();
    let mut workbook = Workbook::new();
    let (bold, wrong) = (head(), Format::new().set_font_color(Color::RGB(0x00C0_0000)));
    let sheet = workbook.add_worksheet().set_name("台账")?;
    let reason = kept.len() as u16;
    for (at, column) in (0..).zip(&kept) {
        sheet.write_string_with_format(0, at, &header[*column], &bold)?;
        sheet.set_column_width(at, WIDTH)?;
    }
    sheet.write_string_with_format(0, reason, FAILED, &bold)?;
    sheet.set_column_width(reason, WIDE * 2.0)?;
    sheet.set_freeze_panes(1, 0)?;
    for (row, failed) in (1..).zip(failed) {
        let cells: Vec<_> = kept.iter().map(|at| failed.cells.get(*at).map_or("", String::as_str)).collect();
        write(sheet, row, &cells)?;
        let reasons: Vec<_> = failed.faults.0.iter().map(|fault| fault.chinese.as_str()).collect();
        sheet.write_string_with_format(row, reason, reasons.join("；"), &wrong)?;
    }
    workbook.save_to_buffer()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::form::Fault;
    use crate::compute::ledger::row::{TableFault, parse};
    use crate::compute::ledger::sheet::read;

    #[test]
    fn the_template_is_a_ledger_without_rows() {
        let table = read(&template().expect("made"), |_| {}).expect("read");
        assert_eq!(table.header, Column::ALL.map(Column::header));
        assert_eq!(parse(table, |_| {}), Err(TableFault::Empty));
    }

    #[test]
    fn a_workbook_of_failed_rows_is_read_again_without_its_reasons() {
        let texts = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let header = texts(&["虚拟机名称", "失败原因", "使用单位", "备注"]);
        let fault = |chinese: &str| Fault::new("name", "wrong", chinese);
        let rows = [Failed {
            row: 7,
            cells: texts(&["=1+1", "以前的", "局", "00123"]),
            faults: crate::access::form::Faults(vec![fault("甲"), fault("乙")]),
        }];
        let made = failed(&header, &rows).expect("made");
        let table = read(&made, |_| {}).expect("read");
        assert_eq!(table.header, texts(&["虚拟机名称", "使用单位", "备注", "失败原因"]));
        assert_eq!(table.rows, [(2, texts(&["=1+1", "局", "00123", "甲；乙"]))]);
        let parsed = parse(table, |_| {}).expect("a ledger");
        assert_eq!((parsed.entries[0].name.as_str(), parsed.ignored.len()), ("=1+1", 0));
    }
}
