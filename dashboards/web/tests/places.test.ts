/** Which element shows which row. */
import { expect, test } from "vitest";
import { type Place, placed } from "../src/ui/table/places";

interface Row {
  readonly id: string;
}
const moving = { held: null, reuse: true, inOrder: false };
const still = { ...moving, inOrder: true };
/** Rows named by their place. */
const window = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => ({ row: { id: `${from + index}` }, at: from + index }));
/** Which row each element shows, by the element; elements in the order of the document. */
const shown = (places: readonly Place<Row>[]) => places.map(({ key, row }) => [key, row.id]);

test("an element that its row has left takes the next one, the others keep theirs", () => {
  const before = placed<Row>([], window(0, 4), still);
  expect(shown(before)).toEqual([[0, "0"], [1, "1"], [2, "2"], [3, "3"]]);
  const down = placed(before, window(2, 6), moving);
  expect(shown(down)).toEqual([[0, "4"], [1, "5"], [2, "2"], [3, "3"]]);
  expect(down.map(({ at }) => at)).toEqual([4, 5, 2, 3]);
  expect(shown(placed(down, window(1, 5), moving))).toEqual([[0, "4"], [1, "1"], [2, "2"], [3, "3"]]);
  // Elsewhere at once: no element is made, none moves.
  expect(shown(placed(before, window(90, 94), still))).toEqual([[0, "90"], [1, "91"], [2, "92"], [3, "93"]]);
});

test("a list that stands still stands in the document as on the screen", () => {
  const moved = placed(placed<Row>([], window(0, 4), still), window(2, 6), moving);
  expect(shown(placed(moved, window(2, 6), still))).toEqual([[2, "2"], [3, "3"], [0, "4"], [1, "5"]]);
});

test("a row that is sorted elsewhere takes its element along, changed or not", () => {
  const before = placed<Row>([], window(0, 3), still);
  const changed = { id: "2" };
  const sorted = [{ row: changed, at: 0 }, { row: { id: "0" }, at: 1 }, { row: { id: "1" }, at: 2 }];
  const after = placed<Row>(before, sorted, still);
  expect(shown(after)).toEqual([[2, "2"], [0, "0"], [1, "1"]]);
  expect(after[0]?.row).toBe(changed);
});

test("the element of the row that is held becomes no other row's", () => {
  const before = placed<Row>([], window(0, 3), still);
  const held = { ...moving, held: "1" };
  const away = [...window(5, 8), { row: { id: "1" }, at: 1 }];
  expect(shown(placed(before, away, held))).toEqual([[0, "5"], [1, "1"], [2, "6"], [3, "7"]]);
  // Not found any more: it goes, rather than that a key meant for it does something to another.
  expect(shown(placed(before, window(5, 8), held))).toEqual([[0, "5"], [2, "6"], [3, "7"]]);
});

test("selected text stays that of its row", () => {
  const before = placed<Row>([], window(0, 3), still);
  expect(shown(placed(before, window(2, 5), { ...moving, reuse: false }))).toEqual([[2, "2"], [3, "3"], [4, "4"]]);
});

test("fewer rows, fewer elements; more rows, more elements", () => {
  const before = placed<Row>([], window(0, 3), still);
  expect(shown(placed(before, window(1, 2), still))).toEqual([[1, "1"]]);
  expect(shown(placed(before, window(0, 5), still))).toEqual([[0, "0"], [1, "1"], [2, "2"], [3, "3"], [4, "4"]]);
  expect(placed(before, [], still)).toEqual([]);
});
