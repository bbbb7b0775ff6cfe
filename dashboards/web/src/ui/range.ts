/** Ranges of time as the URL holds them: `range=6h` up to now, or `from=…&to=…` in Unix milliseconds. */

export type TimeRange = { readonly kind: "last"; readonly span: string } | { readonly kind: "fixed"; readonly from: number; readonly to: number };

export const SPANS: readonly (readonly [string, number])[] = [
  ["15m", 15 * 60_000],
  ["1h", 3_600_000],
  ["6h", 6 * 3_600_000],
  ["24h", 24 * 3_600_000],
  ["7d", 7 * 86_400_000],
  ["30d", 30 * 86_400_000],
];

const DEFAULT: TimeRange = { kind: "last", span: "1h" };

type Query = Record<string, unknown>;

export function rangeOf(query: Query): TimeRange {
  const from = Number(query.from);
  const to = Number(query.to);
  if (query.from && query.to && Number.isSafeInteger(from) && Number.isSafeInteger(to) && from < to) {
    return { kind: "fixed", from, to };
  }
  const named = SPANS.find(([name]) => name === query.range);
  return named ? { kind: "last", span: named[0] } : DEFAULT;
}

/** The query of a range; what else the query holds stays. */
export function withRange(query: Query, range: TimeRange): Query {
  const { from: _from, to: _to, range: _range, ...rest } = query;
  return range.kind === "last" ? { ...rest, range: range.span } : { ...rest, from: String(Math.round(range.from)), to: String(Math.round(range.to)) };
}

/** Its begin and end in milliseconds. */
export function bounds(range: TimeRange, now: number): { from: number; to: number } {
  if (range.kind === "fixed") return { from: range.from, to: range.to };
  const length = SPANS.find(([name]) => name === range.span)?.[1] ?? 3_600_000;
  return { from: now - length, to: now };
}
