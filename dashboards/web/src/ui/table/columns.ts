/** The columns of a table: what each shows, how it sorts, how it is written to CSV. */
import * as format from "../format/number";
import { instant, minute } from "../format/time";

export type Cell = string | number | null | undefined;

/** How a value is shown and aligned. */
export type ColumnKind = "text" | "count" | "bytes" | "byteRate" | "bitRate" | "percent" | "share" | "number" | "processors" | "ratio" | "time";

export interface Column<Row> {
  readonly key: string;
  readonly title: string;
  /** What stands behind the title: how the value is defined. */
  readonly hint?: string;
  readonly kind?: ColumnKind;
  readonly value: (row: Row) => Cell;
  /** The text that is shown and exported in place of the value (a word for a state), and searched unless the kind is of numbers. */
  readonly text?: (row: Row) => string;
  /** CSS width; the rest is shared. */
  readonly width?: string;
  /** Not shown until it is chosen. */
  readonly optional?: boolean;
}

export function isNumeric(kind: ColumnKind | undefined): boolean {
  return kind !== undefined && kind !== "text";
}

/** A value as its kind shows it. */
export function quantity(kind: ColumnKind | undefined, value: number): format.Quantity | string {
  switch (kind) {
    case "count":
      return format.count(value);
    case "bytes":
      return format.bytes(value);
    case "byteRate":
      return format.byteRate(value);
    case "bitRate":
      return format.bitRate(value);
    case "percent":
      return format.percent(value);
    case "share":
      return format.share(value);
    case "processors":
      return format.processors(value);
    case "ratio":
      return format.ratio(value);
    case "time":
      return minute(value);
    default:
      return format.measured(value, "");
  }
}

/** A row, and its cells as text. */
export interface Drawn<Row> {
  readonly row: Row;
  readonly cell: (place: number) => format.Quantity | undefined;
}

/** A cell as text, its unit apart. */
export function drawn<Row>(column: Column<Row>, row: Row): format.Quantity {
  const value = column.value(row);
  const shown = isNumeric(column.kind) ? (value == null ? null : quantity(column.kind, value as number)) : (column.text?.(row) ?? value);
  return shown != null && typeof shown === "object" ? shown : { number: shown == null ? format.NONE : String(shown), unit: "" };
}

/** The columns of a person's choice; none chosen: those that are not optional. */
export function picked<Row>(columns: readonly Column<Row>[], chosen: readonly string[]): readonly Column<Row>[] {
  return columns.filter((column) => (chosen.length > 0 ? chosen.includes(column.key) : !column.optional));
}

/** The columns that are drawn: the one that the rows are sorted by as well, or nobody would see why they stand so. */
export function shownColumns<Row>(columns: readonly Column<Row>[], chosen: readonly string[], sort: Sort | null): readonly Column<Row>[] {
  const own = picked(columns, chosen);
  return columns.filter((column) => own.includes(column) || column.key === sort?.key);
}

export type Direction = "up" | "down";
export interface Sort {
  readonly key: string;
  readonly direction: Direction;
}

const words = new Intl.Collator(["zh-CN", "en"], { numeric: true, sensitivity: "base" });

function compare(a: Cell, b: Cell): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return words.compare(String(a), String(b));
}

/** Sorted rows; what is not known stands last either way. */
export function sorted<Row>(rows: readonly Row[], columns: readonly Column<Row>[], sort: Sort | null): readonly Row[] {
  const column = sort && columns.find(({ key }) => key === sort.key);
  if (!column || !sort) return rows;
  const sign = sort.direction === "up" ? 1 : -1;
  const keyed = rows.map((row) => ({ row, value: column.value(row) }));
  keyed.sort((a, b) => {
    if (a.value == null || b.value == null) return Number(a.value == null) - Number(b.value == null);
    return sign * compare(a.value, b.value);
  });
  return keyed.map(({ row }) => row);
}

/** Rows in which every word stands in some column of text. */
export function filtered<Row>(rows: readonly Row[], columns: readonly Column<Row>[], search: string): readonly Row[] {
  const parts = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (parts.length === 0) return rows;
  const texts = columns.filter(({ kind }) => !isNumeric(kind));
  const has = (column: Column<Row>, row: Row, part: string) => String(column.text?.(row) ?? column.value(row) ?? "").toLowerCase().includes(part);
  return rows.filter((row) => parts.every((part) => texts.some((column) => has(column, row, part))));
}

function csvCell(text: string): string {
  // A cell that begins like a formula would be run by a spreadsheet.
  const safe = /^[=+\-@\t\r]/.test(text) && !/^-?[\d.]+(e[+-]?\d+)?$/i.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** The rows as CSV: values in base units, times as instants. */
export function csv<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const cell = (column: Column<Row>, row: Row) => {
    const value = column.value(row);
    if (value == null) return "";
    if (column.kind === "time") return instant(value as number);
    return column.text?.(row) ?? String(value);
  };
  const lines = [columns.map(({ title }) => csvCell(title)), ...rows.map((row) => columns.map((column) => csvCell(cell(column, row))))];
  return lines.map((line) => line.join(",")).join("\r\n");
}
