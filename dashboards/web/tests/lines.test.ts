/** Lines of charts: one axis, gaps, coverage, and what a host's charts make of series. */
import { expect, test } from "vitest";
import { CHARTS, METRICS } from "../src/compute/charts";
import type { Of, Series } from "../src/compute/plans";
import { type Line, align, alone, coverageOf, extremes, pieces, strongest } from "../src/ui/chart/lines";

function line(key: string, instants: number[], value: (number | null)[]): Line {
  const coverage = value.map((one) => (one === null ? 0 : 1));
  return { key, label: key, unit: "1", instants, value, min: [], max: [], coverage, stepSeconds: 1, coveragePercent: 50, resolution: "raw", resets: 0, definition: "", series: key, gaps: [] };
}

test("a gap stays a gap, a point that only the other has does not break the line", () => {
  const both = align([line("a", [1, 3], [10, null]), line("b", [1, 2, 3], [1, 2, 3])]);
  expect(both.instants).toEqual([1, 2, 3]);
  expect(both.value).toEqual([[10, undefined, null], [1, 2, 3]]);
  expect(both.coverage).toEqual([1, 1, 0]);
});

test("a sample between two gaps is marked, for no line goes there", () => {
  expect(alone([1, null, 2, undefined, null, 3, undefined, 4, null, 5])).toEqual([0, 2, 9]);
  expect(alone([null, null])).toEqual([]);
});

test("a height begins at 0 and reaches the peaks of bands", () => {
  const one = { ...line("a", [1, 2], [3, null]), min: [-2, null], max: [9, null] };
  expect(extremes(align([one]))).toEqual([-2, 9]);
  expect(extremes(align([line("a", [1], [5])]))).toEqual([0, 5]);
});

test("a band is as wide as its points' time, loses no peak to a narrow screen and ends at a gap", () => {
  const painted = (max: (number | null | undefined)[], pixels: number) => {
    const found: number[][] = [];
    const min = max.map((value) => (value == null ? value : -value));
    pieces(max.map((_, index) => index * 10), min, max, 10, (instant) => Math.floor(instant * pixels), (...piece) => found.push(piece));
    return found;
  };
  expect(painted([1, 2, null, 3], 1)).toEqual([[0, 10, -1, 1], [10, 20, -2, 2], [30, 40, -3, 3]]);
  // A point of another line alone does not end it.
  expect(painted([1, undefined, 2], 1)).toEqual([[0, 20, -1, 1], [20, 30, -2, 2]]);
  // Four points on a pixel.
  expect(painted([1, 9, 2, 2, 5, 1], 0.025)).toEqual([[0, 1, -9, 9], [1, 2, -5, 5]]);
  // A peak that a gap follows within its pixel.
  expect(painted([1, 7, null, null, 2, 2, 2, 2], 0.025)).toEqual([[0, 1, -7, 7], [1, 2, -2, 2]]);
});

test("what is not shown is counted", () => {
  const lines = [line("a", [1], [1]), line("b", [1], [9]), line("c", [1], [5])];
  const { shown, left } = strongest(lines, 2);
  expect([shown.map(({ key }) => key), left]).toEqual([["b", "c"], 1]);
  expect(coverageOf([])).toBeNull();
});

function series(metric: string, labels: Record<string, string>, value: (number | null)[], unit = "1"): Series {
  return {
    metric, labels, value, unit, resource: "", kind: "counter", resolution: "slot", definition: "rate", step_seconds: 300, coverage_percent: 100, evidence_stars: 5, resets: 0, dropped: 0, parts: 1,
    gaps: [], first_ms: 0, instants_ms: [], min: [], max: [], coverage: value.map(() => 1),
  };
}
const SOURCE: Of = { label: "source", id: "source_1" };
const plan = (key: string) => CHARTS.find((chart) => chart.key === key);

test("processors come as sums by mode, and are shown as a part of all of them", () => {
  const of = (mode: string, value: (number | null)[]) => ({ ...series("node_cpu_seconds_total", { mode }, value), parts: 2, max: value });
  const lines = plan("cpu")?.lines([of("user", [0.6, null]), of("idle", [0.5, 0])], SOURCE);
  expect(lines?.map(({ label, value, max, unit }) => [label, unit, value, max])).toEqual([["user", "%", [30, null], [30, null]]]);
});

test("a file system is as full as df tells", () => {
  const of = (name: string, value: number) => series(`node_filesystem_${name}_bytes`, { mountpoint: "/" }, [value]);
  expect(plan("filesystem")?.lines([of("size", 100), of("free", 40), of("avail", 20)], SOURCE)[0]?.value).toEqual([75]);
});

test("a full file system keeps its peak while its size stands still", () => {
  const of = (name: string, value: number[], min: number[], max: number[]) => ({ ...series(`node_filesystem_${name}_bytes`, { mountpoint: "/" }, value), min, max });
  const size = of("size", [100, 100], [100, 100], [100, 120]);
  const [line] = plan("filesystem")?.lines([size, of("free", [40, 40], [30, 30], [70, 50]), of("avail", [20, 20], [10, 10], [50, 30])], SOURCE) ?? [];
  expect([line?.min, line?.max]).toEqual([[37.5, null], [87.5, null]]);
});

test("points of slots begin a step after each other, those of frames where they were taken", () => {
  const load = (more: Partial<Series>) => plan("load")?.lines([{ ...series("node_load1", {}, [1, 2, 3]), ...more }], SOURCE)[0]?.instants;
  expect(load({ first_ms: 7, step_seconds: 15.001 })).toEqual([7, 15_008, 30_009]);
  expect(load({ first_ms: 7, step_seconds: 300 })).toEqual([7, 300_007, 600_007]);
  expect(load({ first_ms: null, instants_ms: [1, 2, 4] })).toEqual([1, 2, 4]);
});

test("series are joined by instant, not by place", () => {
  const of = (name: string, instants_ms: number[], value: number[]) => ({ ...series(`node_filesystem_${name}_bytes`, { mountpoint: "/" }, value), first_ms: null, instants_ms });
  const [line] = plan("filesystem")?.lines([of("size", [1, 2, 3], [100, 100, 100]), of("free", [2, 3], [40, 100]), of("avail", [1, 2, 3], [20, 20, 0])], SOURCE) ?? [];
  expect([line?.value, line?.coverage, line?.max]).toEqual([[null, 75, null], [0, 1, 1], []]);
});

test("twenty charts are one question", () => {
  expect(CHARTS).toHaveLength(20);
  expect(METRICS.length).toBeLessThanOrEqual(64);
});
