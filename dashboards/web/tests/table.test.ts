/** Sorting, filtering and exporting of a table. */
import { expect, test } from "vitest";
import { type Column, csv, drawn, filtered, picked, shownColumns, sorted } from "../src/ui/table/columns";

interface Row {
  readonly name: string;
  readonly load: number | null;
}
const columns: Column<Row>[] = [
  { key: "name", title: "Name", value: (row) => row.name },
  { key: "load", title: "Load", kind: "number", value: (row) => row.load },
];
const rows: Row[] = [{ name: "web-10", load: 1 }, { name: "web-9", load: null }, { name: "=1+1", load: 3 }];
const names = (found: readonly Row[]) => found.map(({ name }) => name);

test("names sort by their numbers, what is not known stands last", () => {
  expect(names(sorted(rows, columns, { key: "name", direction: "up" }))).toEqual(["=1+1", "web-9", "web-10"]);
  expect(names(sorted(rows, columns, { key: "load", direction: "down" }))).toEqual(["=1+1", "web-10", "web-9"]);
  expect(names(sorted(rows, columns, { key: "load", direction: "up" }))).toEqual(["web-10", "=1+1", "web-9"]);
});

test("the column that rows are sorted by is drawn, chosen or not", () => {
  const all = [...columns, { key: "sum", title: "Sum", kind: "number", value: () => 1, optional: true } satisfies Column<Row>];
  const keys = (shown: readonly Column<Row>[]) => shown.map(({ key }) => key);
  expect(keys(shownColumns(all, [], null))).toEqual(["name", "load"]);
  expect(keys(shownColumns(all, [], { key: "sum", direction: "down" }))).toEqual(["name", "load", "sum"]);
  expect(keys(shownColumns(all, ["sum"], { key: "name", direction: "up" }))).toEqual(["name", "sum"]);
  expect(keys(picked(all, ["sum"]))).toEqual(["sum"]);
});

test("every word must occur", () => {
  expect(names(filtered(rows, columns, "WEB 9"))).toEqual(["web-9"]);
  expect(filtered(rows, columns, " ")).toBe(rows);
});

test("a cell is never run as a formula", () => {
  expect(csv(rows, columns)).toBe("Name,Load\r\nweb-10,1\r\nweb-9,\r\n'=1+1,3");
});

test("what is not known is a dash, what is 0 is not", () => {
  const load = columns[1] as Column<Row>;
  expect([null, 0, 2.5].map((value) => drawn(load, { name: "a", load: value }).number)).toEqual(["–", "0", "2.50"]);
  expect(drawn({ ...load, kind: "bytes" }, { name: "a", load: 1536 })).toEqual({ number: "1.50", unit: "KiB" });
});
