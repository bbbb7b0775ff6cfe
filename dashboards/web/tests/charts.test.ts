/** Figures that the page of a host derives. */
import { expect, test } from "vitest";
import { rise } from "../src/compute/charts";
import { extremesOf } from "../src/compute/plans";

test("a rise is a second's, and nothing is made up across a gap or a restart", () => {
  const instants = [0, 15_000, 30_000, 90_000, 105_000, 120_000];
  expect(rise(instants, [100, 130, 130, 400, 20, 50], 15)).toEqual([null, 2, 0, null, null, 2]);
  expect(rise([0, 15_000, 30_000], [1, null, 4], 15)).toEqual([null, null, null]);
});

test("of thinned points a rise is that of their last samples, and a restart within one is no rise", () => {
  expect(rise([0, 300_000, 600_000, 900_000], [100, 400, 700, 750], 300, [0, 100, 20, 700])).toEqual([null, 1, null, 50 / 300]);
});

test("extremes of what is reckoned are known while one part alone varies", () => {
  const share = ([part = 0, whole = 0]: number[]) => (whole > 0 ? 1 - part / whole : null);
  // Less of the part is more of the rest.
  expect(extremesOf([[10, 40], [100, 100]], share)).toEqual([0.6, 0.9]);
  expect(extremesOf([[10, 10], [20, 40]], share)).toEqual([0.5, 0.75]);
  expect(extremesOf([[10, 10], [20, 20]], share)).toEqual([0.5, 0.5]);
  expect(extremesOf([[10, 40], [100, 200]], share)).toBeNull();
  expect(extremesOf([[10, 10], [0, 20]], share)).toBeNull();
  expect(extremesOf([[10, 50], [20, 200]], share, [0, 1])).toEqual([0.5, 0.75]);
});
