/** What is pushed, put into a list in its place. */
import { expect, test, vi } from "vitest";
import { merged } from "../src/session/live";

// The client of the API knows where it was loaded from.
vi.hoisted(() => vi.stubGlobal("location", { origin: "http://127.0.0.1" }));

const rows = [{ id: "host_1", load: 1, name: "a" }, { id: "host_2", load: 2, name: "b" }];
const changes = (total: number, ...changed: unknown[][]) => ({ total, columns: ["id", "load"], rows: changed });

test("a row changes in its place and keeps what is not pushed; the others stay what they are", () => {
  const next = merged(rows, changes(2, ["host_2", null]));
  expect(next).toEqual({ rows: [rows[0], { id: "host_2", load: null, name: "b" }], whole: true });
  expect(next.rows[0]).toBe(rows[0]);
});

test("what came or went is asked for, and the others change all the same", () => {
  expect(merged(rows, changes(3))).toEqual({ rows, whole: false });
  expect(merged(rows, changes(2, ["host_3", 1], ["host_1", 7]))).toEqual({ rows: [{ ...rows[0], load: 7 }, rows[1]], whole: false });
});
