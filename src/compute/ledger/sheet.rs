//! A table out of a workbook or a text with commas, whoever made it.
//!
//! What must hold: what a file unpacks to is known before it is read, so a small one that unpacks to gigabytes is
//! refused; rows, columns and text are bounded while they are read; what is read is text, as a person sees it.

use std::borrow::Cow;
use std::io::{Cursor, Read};

use calamine::{Data, DataRef, DataType, Reader, Xlsx};

use super::row::MOST_ROWS;

/// What a workbook may unpack to.
const MOST_UNPACKED: u64 = 96 << 20;
/// Text of one table.
const MOST_TEXT: usize = 64 << 20;
/// Columns that may have text: what is read can be given back whole.
const MOST_COLUMNS: usize = 64;
/// Characters of a cell, as in a workbook.
const MOST_OF_CELL: usize = 32_767;
/// How the older workbooks begin, and those with a password.
const OLE: &[u8] = b"\xd0\xcf\x11\xe0";
const ZIP: &[u8] = b"PK";

/// A sheet as it was read: its first row, and the others with their numbers. Rows without any text are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub header: Vec<String>,
    pub rows: Vec<(usize, Vec<String>)>,
}

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SheetFault {
    /// Nothing.
    #[error("the file is empty")]
    Empty,
    /// The format of before 2007, or a password.
    #[error("the file is an .xls workbook or has a password: save it as .xlsx without one, or as .csv")]
    Old,
    /// Broken.
    #[error("the file is no .xlsx workbook that can be read: {0}")]
    Workbook(String),
    /// Not text.
    #[error("the file is neither an .xlsx workbook nor a .csv table in UTF-8 or GB18030")]
    Text,
    /// Where does the text end?
    #[error("a quotation mark in the .csv table is not closed: rows behind it would be lost")]
    Unclosed,
    /// Larger than it seems.
    #[error("the workbook unpacks to more than {} MiB", MOST_UNPACKED >> 20)]
    Bomb,
    /// Which row has the value?
    #[error("the first sheet has merged cells ({0}): unmerge them, each row needs its own values")]
    Merged(String),
    /// What is not held could not be given back.
    #[error("cell {0} lies beyond column {MOST_COLUMNS}: a ledger has no such column, remove it")]
    TooWide(String),
    /// The same.
    #[error("cell {0} has more than {MOST_OF_CELL} characters")]
    TooLong(String),
    /// Too many to be held.
    #[error("the table has more than {MOST_ROWS} rows: split it")]
    TooMany,
    /// The same.
    #[error("the table holds more than {} MiB of text", MOST_TEXT >> 20)]
    TooLarge,
}

impl SheetFault {
    pub(super) fn chinese(&self) -> String {
        match self {
            Self::Empty => "文件是空的".to_owned(),
            Self::Old => "文件是旧版 .xls 工作簿或设有密码：请另存为无密码的 .xlsx，或存为 .csv".to_owned(),
            Self::Workbook(why) => format!("文件不是可读取的 .xlsx 工作簿：{why}"),
            Self::Text => "文件既不是 .xlsx 工作簿，也不是 UTF-8 或 GB18030 编码的 .csv 表格".to_owned(),
            Self::Unclosed => ".csv 表格中有未闭合的引号，其后的行会丢失：请补全引号".to_owned(),
            Self::Bomb => format!("工作簿解压后超过 {} MiB，已拒绝", MOST_UNPACKED >> 20),
            Self::Merged(cells) => format!("第一个工作表含有合并单元格（{cells}）：请先取消合并，每行须有各自的值"),
            Self::TooWide(cell) => format!("单元格 {cell} 在第 {MOST_COLUMNS} 列之后：台账没有这样的列，请删除"),
            Self::TooLong(cell) => format!("单元格 {cell} 超过 {MOST_OF_CELL} 字"),
            Self::TooMany => format!("表格超过 {MOST_ROWS} 行，请拆分后分次导入"),
            Self::TooLarge => format!("表格中的文字超过 {} MiB", MOST_TEXT >> 20),
        }
    }
}

/// Reads a file, whatever it is; `read` is told after each row how many are.
pub(super) fn read(bytes: &[u8], mut read: impl FnMut(usize)) -> Result<Table, SheetFault> {
    let mut filling = Filling { table: Table::default(), text: 0, row: (0, Vec::new()), read: &mut read };
    if bytes.is_empty() {
        return Err(SheetFault::Empty);
    } else if bytes.starts_with(OLE) {
        return Err(SheetFault::Old);
    } else if bytes.starts_with(ZIP) {
        workbook(bytes, &mut filling)?;
    } else {
        text(bytes, &mut filling)?;
    }
    filling.close_row()?;
    Ok(filling.table)
}

/// A table that fills, cell by cell.
struct Filling<'a> {
    table: Table,
    /// How much there is of it.
    text: usize,
    /// The row that is open.
    row: (usize, Vec<String>),
    read: &'a mut dyn FnMut(usize),
}

impl Filling<'_> {
    fn cell(&mut self, row: usize, column: usize, text: &str) -> Result<(), SheetFault> {
        if row != self.row.0 {
            self.close_row()?;
            self.row.0 = row;
        }
        let here = || place((row as u32 - 1, column as u32));
        if column >= MOST_COLUMNS {
            return if text.trim().is_empty() { Ok(()) } else { Err(SheetFault::TooWide(here())) };
        }
        if text.len() > MOST_OF_CELL && text.chars().count() > MOST_OF_CELL {
            return Err(SheetFault::TooLong(here()));
        }
        self.text += text.len();
        if self.text > MOST_TEXT {
            return Err(SheetFault::TooLarge);
        }
        let cells = &mut self.row.1;
        if cells.len() <= column {
            cells.resize(column + 1, String::new());
        }
        text.clone_into(&mut cells[column]);
        Ok(())
    }

    fn close_row(&mut self) -> Result<(), SheetFault> {
        let cells = std::mem::take(&mut self.row.1);
        if cells.iter().all(|cell| cell.trim().is_empty()) {
            return Ok(());
        }
        if self.table.header.is_empty() {
            self.table.header = cells;
            return Ok(());
        }
        if self.table.rows.len() == MOST_ROWS {
            return Err(SheetFault::TooMany);
        }
        self.table.rows.push((self.row.0, cells));
        (self.read)(self.table.rows.len());
        Ok(())
    }
}

/// The first sheet of a workbook.
fn workbook(bytes: &[u8], into: &mut Filling<'_>) -> Result<(), SheetFault> {
    fn broken(error: impl std::fmt::Display) -> SheetFault {
        SheetFault::Workbook(error.to_string())
    }
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    let mut left = MOST_UNPACKED;
    for at in 0..archive.len() {
        let file = archive.by_index(at).map_err(broken)?;
        let holds_texts = file.name().map_err(broken)?.to_ascii_lowercase().ends_with("sharedstrings.xml");
        let mut texts = Vec::new();
        // What a file says of its size may be a lie.
        let mut file = file.take(left + 1);
        let unpacked = if holds_texts {
            file.read_to_end(&mut texts).map_err(broken)? as u64
        } else {
            std::io::copy(&mut file, &mut std::io::sink()).map_err(broken)?
        };
        left = left.checked_sub(unpacked).ok_or(SheetFault::Bomb)?;
        if claims_too_many(texts) {
            return Err(broken("it claims more texts than it holds"));
        }
    }
    let mut workbook = Xlsx::new(Cursor::new(bytes)).map_err(broken)?;
    let name = workbook.sheet_names().first().cloned().ok_or_else(|| broken("it has no sheet"))?;
    let merged = workbook.merge_cells_by_sheet_name(&name).map_err(broken)?;
    if !merged.is_empty() {
        let cells: Vec<_> = merged.iter().take(3).map(|area| place(area.start) + ":" + &place(area.end)).collect();
        let more = if merged.len() > cells.len() { " …" } else { "" };
        return Err(SheetFault::Merged(cells.join(", ") + more));
    }
    // Cell by cell: as a whole a sheet is as large as its last cell is far.
    let mut cells = workbook.worksheet_cells_reader(&name).map_err(broken)?;
    while let Some(cell) = cells.next_cell().map_err(broken)? {
        let (row, column) = cell.get_position();
        into.cell(row as usize + 1, column as usize, &shown(cell.get_value()))?;
    }
    Ok(())
}

/// Room is made for as many texts as the list of them says that it has, before one is read: more than it can hold, at
/// five bytes for an empty one, might end the process.
fn claims_too_many(mut texts: Vec<u8>) -> bool {
    const CLAIM: &[u8] = b"uniqueCount";
    let most = texts.len() as u64 / 5;
    // In UTF-16 every other byte is zero.
    texts.retain(|byte| *byte != 0);
    let claims = texts.windows(CLAIM.len()).enumerate().filter(|(_, window)| *window == CLAIM);
    claims.into_iter().any(|(at, _)| {
        let value = texts[at + CLAIM.len()..].iter().skip_while(|byte| b" \t\r\n=\"'".contains(byte));
        let digits = value.take_while(|byte| byte.is_ascii_digit());
        digits.fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))) > most
    })
}

/// `B7`.
fn place((row, column): (u32, u32)) -> String {
    let mut letters = String::new();
    let mut left = column + 1;
    while left > 0 {
        letters.insert(0, char::from(b'A' + ((left - 1) % 26) as u8));
        left = (left - 1) / 26;
    }
    format!("{letters}{}", row + 1)
}

/// A cell as a person sees it.
fn shown<'a>(cell: &'a DataRef<'a>) -> Cow<'a, str> {
    match cell {
        DataRef::SharedString(text) => Cow::Borrowed(text),
        DataRef::String(text) => Cow::Borrowed(text),
        DataRef::DateTime(at) if at.is_datetime() => {
            let (year, month, day, ..) = at.to_ymd_hms_milli();
            Cow::Owned(format!("{year}-{month:02}-{day:02}"))
        }
        DataRef::Empty => Cow::Borrowed(""),
        // As it stands there: a row that needs it is told so.
        DataRef::Error(error) => Cow::Owned(error.to_string()),
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => Cow::Borrowed(text),
        DataRef::Bool(is) => Cow::Borrowed(if *is { "TRUE" } else { "FALSE" }),
        other => Cow::Owned(Data::from(other.clone()).as_string().unwrap_or_default()),
    }
}

/// A text with commas: in UTF-8, or as a Chinese Excel writes it.
fn text(bytes: &[u8], into: &mut Filling<'_>) -> Result<(), SheetFault> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.contains(&0) {
        return Err(SheetFault::Text);
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            encoding_rs::GB18030.decode_without_bom_handling_and_without_replacement(bytes).ok_or(SheetFault::Text)?
        }
    };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    let (mut counted, mut row, mut several_lines) = (0, 1, false);
    while reader.read_record(&mut record).map_err(|_| SheetFault::Text)? {
        // A record is told to begin at what is left of the line before it.
        let begin = record.position().map_or(0, |position| position.byte() as usize);
        let lead = text[begin..].find(|c| c != '\r' && c != '\n').unwrap_or(0);
        row += text[counted..begin + lead].matches('\n').count();
        counted = begin + lead;
        into.close_row()?;
        into.row.0 = row;
        for (column, cell) in record.iter().enumerate() {
            several_lines |= cell.contains('\n');
            into.cell(row, column, cell)?;
        }
    }
    // One that is not closed takes the lines behind it into its cell.
    if several_lines && text.matches('"').count() % 2 == 1 {
        return Err(SheetFault::Unclosed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rust_xlsxwriter::{Format, Workbook};
    use zip::write::SimpleFileOptions;

    use super::*;

    fn table(bytes: &[u8]) -> Result<Table, SheetFault> {
        read(bytes, |_| {})
    }

    fn made(fill: impl FnOnce(&mut rust_xlsxwriter::Worksheet)) -> Vec<u8> {
        let mut workbook = Workbook::new();
        fill(workbook.add_worksheet());
        workbook.save_to_buffer().expect("a workbook")
    }

    #[test]
    fn a_workbook_is_read_as_a_person_sees_it() {
        let bytes = made(|sheet| {
            let day = Format::new().set_num_format("yyyy-mm-dd");
            let date = rust_xlsxwriter::ExcelDateTime::from_ymd(2027, 3, 1).expect("a day");
            sheet.write_row(0, 0, ["虚拟机名称", "使用单位", "vCPU", "到期日期"]).expect("written");
            sheet.write_row(2, 0, ["web", "局"]).expect("written");
            sheet.write(2, 2, 4).expect("written").write(2, 3, 1.5).expect("written");
            sheet.write(4, 0, "db").expect("written").write_with_format(4, 3, &date, &day).expect("written");
        });
        let mut told = Vec::new();
        let read = read(&bytes, |rows| told.push(rows)).expect("read");
        assert_eq!(read.header, ["虚拟机名称", "使用单位", "vCPU", "到期日期"]);
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        assert_eq!(read.rows, [(3, row(&["web", "局", "4", "1.5"])), (5, row(&["db", "", "", "2027-03-01"]))]);
        assert_eq!(told, [1, 2]);
    }

    #[test]
    fn a_text_is_read_in_utf_8_and_as_a_chinese_excel_writes_it() {
        let text = "虚拟机名称,使用单位,备注\r\nweb,\"局,一\",\"\"\"引\"\"号\"\r\n\r\ndb,委\r\n";
        let plain = table(text.as_bytes()).expect("read");
        assert_eq!(plain.rows[0], (2, vec!["web".to_owned(), "局,一".to_owned(), "\"引\"号".to_owned()]));
        assert_eq!(plain.rows[1], (4, vec!["db".to_owned(), "委".to_owned()]));
        assert_eq!(table(format!("\u{feff}{text}").as_bytes()), Ok(plain.clone()));
        let (excel, _, failed) = encoding_rs::GB18030.encode(text);
        assert!(!failed && std::str::from_utf8(&excel).is_err());
        assert_eq!(table(&excel), Ok(plain));
    }

    #[test]
    fn what_is_no_table_is_told() {
        assert_eq!(table(b""), Err(SheetFault::Empty));
        assert_eq!(table(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 old"), Err(SheetFault::Old));
        assert_eq!(table(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), Err(SheetFault::Text));
        assert_eq!(table(b"\xff\xff\xff"), Err(SheetFault::Text));
        assert!(matches!(table(b"PK\x03\x04 broken"), Err(SheetFault::Workbook(_))));
        let whole = made(|sheet| {
            sheet.write(0, 0, "虚拟机名称").expect("written");
        });
        assert!(matches!(table(&whole[..whole.len() / 2]), Err(SheetFault::Workbook(_))));
        let unclosed = "虚拟机名称,说明,使用单位\nweb,\"一,局\ndb,二,局\n";
        assert_eq!(table(unclosed.as_bytes()), Err(SheetFault::Unclosed));
        assert!(table(unclosed.replace("一", "一\n\"").as_bytes()).is_ok(), "a cell may have several lines");
        let merged = made(|sheet| {
            sheet.write(0, 0, "虚拟机名称").expect("written");
            sheet.merge_range(0, 1, 0, 3, "使用单位", &Format::new()).expect("merged");
            sheet.merge_range(4, 27, 6, 27, "x", &Format::new()).expect("merged");
        });
        assert_eq!(table(&merged), Err(SheetFault::Merged("B1:D1, AB5:AB7".to_owned())));
    }

    #[test]
    fn what_is_too_large_is_refused_without_being_held() {
        // 200 MB of nothing are less than a megabyte.
        let mut bomb = zip::ZipWriter::new(Cursor::new(Vec::new()));
        bomb.start_file("xl/sharedStrings.xml", SimpleFileOptions::default()).expect("begun");
        let nothing = vec![b' '; 1 << 20];
        (0..200).for_each(|_| bomb.write_all(&nothing).expect("written"));
        let bomb = bomb.finish().expect("closed").into_inner();
        assert!(bomb.len() < 1 << 20);
        assert_eq!(table(&bomb), Err(SheetFault::Bomb));
        // A list of texts that would take all memory before one is read.
        let mut liar = zip::ZipWriter::new(Cursor::new(Vec::new()));
        liar.start_file("xl/SharedStrings.xml", SimpleFileOptions::default()).expect("begun");
        liar.write_all(b"<?xml version=\"1.0\"?><sst uniqueCount = '10000000000'><si/></sst>").expect("written");
        let liar = liar.finish().expect("closed").into_inner();
        assert_eq!(table(&liar), Err(SheetFault::Workbook("it claims more texts than it holds".to_owned())));
        let mut many = "虚拟机名称\n".to_owned();
        (0..=MOST_ROWS).for_each(|row| many += &format!("{row}\n"));
        assert_eq!(table(many.as_bytes()), Err(SheetFault::TooMany));
        // A sheet of two cells that are far apart.
        let far = made(|sheet| {
            sheet.write(0, 0, "虚拟机名称").expect("written").write(1_048_575, 16_383, "x").expect("written");
        });
        assert_eq!(table(&far), Err(SheetFault::TooWide("XFD1048576".to_owned())));
        let long = |characters: usize| table(format!("虚拟机名称\n{}\n", "字".repeat(characters)).as_bytes());
        assert_eq!(long(MOST_OF_CELL).expect("read").rows[0].1[0].chars().count(), MOST_OF_CELL, "nothing is cut");
        assert_eq!(long(MOST_OF_CELL + 1), Err(SheetFault::TooLong("A2".to_owned())));
    }
}
