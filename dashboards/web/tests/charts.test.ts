/** Figures that the page of a host derives. */
import { expect, test } from "vitest";
import { rise } from "../src/compute/charts";

test("a rise is a second's, and nothing is made up across a gap or a restart", () => {
  const instants = [0, 15_000, 30_000, 90_000, 105_000, 120_000];
  expect(rise(instants, [100, 130, 130, 400, 20, 50], 15)).toEqual([null, 2, 0, null, null, 2]);
  expect(rise([0, 15_000, 30_000], [1, null, 4], 15)).toEqual([null, null, null]);
});
