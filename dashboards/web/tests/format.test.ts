/** Numbers, units, times, ranges as the screen shows them. */
import { expect, test } from "vitest";
import * as number from "../src/ui/format/number";
import * as time from "../src/ui/format/time";
import { bounds, rangeOf, withRange } from "../src/ui/range";
import { valueLabels } from "../src/ui/chart/axes";

const text = number.text;

test("bytes count in 1024, links in 1000 bits", () => {
  expect([0, 1, 1023, 1024, 1536, 1_048_575, 35_433_480_192, 1e15].map((value) => text(number.bytes(value)))).toEqual(["0 B", "1 B", "1023 B", "1.00 KiB", "1.50 KiB", "1.00 MiB", "33.0 GiB", "909 TiB"]);
  expect([0, 125, 125_000, 1.25e9].map((value) => text(number.bitRate(value)))).toEqual(["0 bit/s", "1.00 kbit/s", "1.00 Mbit/s", "10.0 Gbit/s"]);
});

test("a share is never rounded up to whole nor down to nothing", () => {
  expect([0, 0.04, 12.34, 99.95, 100].map((value) => text(number.percent(value)))).toEqual(["0.0 %", "<0.1 %", "12.3 %", ">99.9 %", "100 %"]);
  expect([0.99999, 1, 0.9261].map((value) => text(number.share(value)))).toEqual(["99.99 %", "100 %", "92.61 %"]);
});

test("counts are grouped, small measures keep their digits", () => {
  expect([0, 999, 1000, 1_234_567].map(number.count)).toEqual(["0", "999", "1,000", "1,234,567"]);
  expect([0, 15, 0.0123, 0.00004].map((value) => text(number.seconds(value)))).toEqual(["0 s", "15.0 s", "12.3 ms", "40.0 µs"]);
  expect(text(number.measured(1234, "1/s"))).toBe("1.23 k/s");
});

test("processors are counted or measured, a ratio is one to one", () => {
  expect([0, 96, 1234, 0.25, 12.34].map((value) => text(number.processors(value)))).toEqual(["0", "96", "1,234", "0.25", "12.3"]);
  expect([0, 1, 2.5].map((value) => text(number.ratio(value)))).toEqual(["0.00 : 1", "1.00 : 1", "2.50 : 1"]);
});

test("times are those of the zone, in 24 hours", () => {
  const instant = Date.UTC(2026, 10, 24, 16, 0, 5);
  expect(time.instant(instant)).toBe("2026-11-25 00:00:05");
  expect(time.minute(instant)).toBe("2026-11-25 00:00");
  const { format } = new Intl.DateTimeFormat("sv-SE", { timeZone: "Asia/Shanghai", dateStyle: "short", timeStyle: "medium" });
  for (const ms of [0, 1_700_000_000_000, instant + 86_399_999, Date.UTC(2028, 1, 29, 15, 59, 59)]) {
    const local = time.zoned(ms);
    // Before 1991 there was a summer time.
    if (ms > 0) expect(time.instant(ms)).toBe(format(ms));
    expect([local.getDate(), local.getHours(), local.getMinutes()]).toEqual(time.instant(ms).match(/-(\d+) (\d+):(\d+)/)?.slice(1).map(Number));
  }
});

test("a field of date and time is read in the zone, wherever the browser is", () => {
  const instant = Date.UTC(2026, 10, 24, 16, 30);
  expect(time.toField(instant)).toBe("2026-11-25T00:30");
  expect([time.fromField("2026-11-25T00:30"), time.fromField("2026-11-25T00:30:00")]).toEqual([instant, instant]);
});

test("a span has its two largest units", () => {
  expect([0, 59_000, 61_000, 3_600_000, 90_061_000, 8_726_400_000].map((span) => time.spanText(span, "zh-CN"))).toEqual(["0 秒", "59 秒", "1 分 1 秒", "1 小时", "1 天 1 小时", "101 天"]);
  expect(time.ago(0, 7_200_000, "en")).toBe("2 h ago");
});

test("a range goes into the URL and comes back", () => {
  for (const range of [{ kind: "last", span: "7d" }, { kind: "fixed", from: 1000, to: 2000 }] as const) {
    expect(rangeOf(withRange({ search: "a" }, range))).toEqual(range);
    expect(withRange({ search: "a" }, range).search).toBe("a");
  }
  expect(rangeOf({ from: "2000", to: "1000" })).toEqual({ kind: "last", span: "1h" });
  expect(bounds({ kind: "last", span: "1h" }, 3_600_000)).toEqual({ from: 0, to: 3_600_000 });
});

test("no two marks of an axis say the same", () => {
  expect(valueLabels([0, 0.02, 0.04, 0.06], "%")).toEqual(["0", "0.02 %", "0.04 %", "0.06 %"]);
  expect(valueLabels([0, 25, 50, 100], "%")).toEqual(["0", "25 %", "50 %", "100 %"]);
});
