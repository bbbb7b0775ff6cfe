/** Lines of charts: one axis, gaps, coverage, and what a host's charts make of series. */
import { expect, test } from "vitest";
import { CHARTS, METRICS } from "../src/compute/charts";
import type { Series } from "../src/compute/queries";
import { type Line, align, coverageOf, strongest } from "../src/ui/chart/lines";

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

test("what is not shown is counted", () => {
  const lines = [line("a", [1], [1]), line("b", [1], [9]), line("c", [1], [5])];
  const { shown, left } = strongest(lines, 2);
  expect([shown.map(({ key }) => key), left]).toEqual([["b", "c"], 1]);
  expect(coverageOf([])).toBeNull();
});

function series(metric: string, labels: Record<string, string>, value: (number | null)[], unit = "1"): Series {
  return {
    metric, labels, value, unit, resource: "", kind: "counter", resolution: "slot", definition: "rate", step_seconds: 300, coverage_percent: 100, evidence_stars: 5, resets: 0, dropped: 0,
    gaps: [], instants_ms: value.map((_, index) => index * 300_000), min: [], max: [], coverage: value.map(() => 1),
  };
}
const plan = (key: string) => CHARTS.find((chart) => chart.key === key);

test("processors are summed by mode, and what one of them lacks is a gap", () => {
  const name = "node_cpu_seconds_total";
  const lines = plan("cpu")?.lines([series(name, { cpu: "0", mode: "user" }, [0.5, 1]), series(name, { cpu: "1", mode: "user" }, [0.1, null]), series(name, { cpu: "0", mode: "idle" }, [0.5, 0])], "source_1");
  expect(lines?.map(({ label, value, unit }) => [label, unit, value])).toEqual([["user", "%", [30, null]]]);
});

test("a file system is as full as df tells", () => {
  const of = (name: string, value: number) => series(`node_filesystem_${name}_bytes`, { mountpoint: "/" }, [value]);
  expect(plan("filesystem")?.lines([of("size", 100), of("free", 40), of("avail", 20)], "source_1")[0]?.value).toEqual([75]);
});

test("twenty charts are one question", () => {
  expect(CHARTS).toHaveLength(20);
  expect(METRICS.length).toBeLessThanOrEqual(64);
});
