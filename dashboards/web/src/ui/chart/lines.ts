/** What a chart draws: lines with everything that their figures stand on, and how they come onto one axis. Pure. */

/** One line. Columns are of equal length; `min` and `max` are empty where a point is one sample. */
export interface Line {
  readonly key: string;
  readonly label: string;
  readonly unit: string;
  readonly instants: readonly number[];
  readonly value: readonly (number | null)[];
  readonly min: readonly (number | null)[];
  readonly max: readonly (number | null)[];
  readonly coverage: readonly number[];
  readonly stepSeconds: number;
  readonly coveragePercent: number;
  readonly resolution: "raw" | "slot" | "hour";
  readonly resets: number;
  readonly definition: string;
  /** Which series of which source it is, as the API names them. */
  readonly series: string;
  readonly gaps: readonly Gap[];
}

/** A stretch without values, and why. */
export interface Gap {
  readonly from: number;
  readonly to: number;
  readonly reason: string;
}

export type Column = readonly (number | null | undefined)[];

export interface Aligned {
  /** Instants in milliseconds. */
  readonly instants: readonly number[];
  /** For each line: value, and its band if it has one. */
  readonly value: Column[];
  readonly min: (Column | null)[];
  readonly max: (Column | null)[];
  /** The worst coverage of the lines that have a point there, 0 to 1. */
  readonly coverage: number[];
}

/** Brings lines onto one axis. Where a line has no point of its own, `undefined` draws through; `null` is a gap. */
export function align(lines: readonly Line[]): Aligned {
  const first = lines[0]?.instants ?? [];
  const same = lines.every(({ instants }) => instants === first || (instants.length === first.length && instants[0] === first[0] && instants.at(-1) === first.at(-1)));
  return same ? together(first, lines) : apart(lines);
}

function together(instants: readonly number[], lines: readonly Line[]): Aligned {
  const band = (column: Column) => (column.length > 0 ? column : null);
  return {
    instants,
    value: lines.map(({ value }) => value),
    min: lines.map(({ min }) => band(min)),
    max: lines.map(({ max }) => band(max)),
    coverage: instants.map((_, index) => lines.reduce((least, { coverage }) => Math.min(least, coverage[index] ?? 0), 1)),
  };
}

function apart(lines: readonly Line[]): Aligned {
  const instants = [...new Set(lines.flatMap((line) => line.instants))].sort((a, b) => a - b);
  const at = new Map(instants.map((instant, index) => [instant, index]));
  const spread = (line: Line, column: Column): Column => {
    const wide: (number | null | undefined)[] = new Array(instants.length).fill(undefined);
    line.instants.forEach((instant, index) => (wide[at.get(instant) ?? 0] = column[index]));
    return wide;
  };
  const band = (line: Line, column: Column) => (column.length > 0 ? spread(line, column) : null);
  const coverage = new Array<number>(instants.length).fill(1);
  for (const line of lines) {
    line.instants.forEach((instant, index) => {
      const place = at.get(instant) ?? 0;
      coverage[place] = Math.min(coverage[place] ?? 1, line.coverage[index] ?? 0);
    });
  }
  return {
    instants,
    value: lines.map((line) => spread(line, line.value)),
    min: lines.map((line) => band(line, line.min)),
    max: lines.map((line) => band(line, line.max)),
    coverage,
  };
}

/** The least and the greatest of all that is drawn, and 0, so that a height means an amount. */
export function extremes({ value, min, max }: Aligned): [least: number, greatest: number] {
  let [least, greatest] = [0, 0];
  for (const column of [...value, ...min, ...max]) {
    for (const one of column ?? []) {
      if (one == null) continue;
      if (one < least) least = one;
      if (one > greatest) greatest = one;
    }
  }
  return [least, greatest];
}

/** Samples between two gaps, which no line would show. */
export function alone(column: ArrayLike<number | null | undefined>): number[] {
  const found: number[] = [];
  // The last one that is a value or a gap; what is undefined is drawn through.
  let last = -1;
  let single = false;
  for (let index = 0; index < column.length; index += 1) {
    const value = column[index];
    if (value === undefined) continue;
    if (single && value === null) found.push(last);
    single = value !== null && column[last] == null;
    last = index;
  }
  if (single) found.push(last);
  return found;
}

/**
 * A band as it is painted: each point as wide as the time it stands for, nothing where nothing is known. Points that
 * share a pixel are one piece with the extremes of all of them, so that none is left out.
 */
export function pieces(
  instants: readonly number[],
  min: Column,
  max: Column,
  stepMs: number,
  across: (instant: number) => number,
  paint: (left: number, right: number, least: number, greatest: number) => void,
): void {
  let left = 0;
  let [least, greatest] = [Infinity, -Infinity];
  for (let index = 0, next = 0; index < instants.length; index = next) {
    next = index + 1;
    // What is undefined is drawn through.
    while (next < instants.length && max[next] === undefined) next += 1;
    const [low, high] = [min[index], max[index]];
    if (low == null || high == null) continue;
    const instant = instants[index] ?? 0;
    if (least === Infinity) left = across(instant);
    least = Math.min(least, low);
    greatest = Math.max(greatest, high);
    const right = across(instants[next] ?? instant + stepMs);
    // Narrower than a pixel: together with the next one, unless that is a gap.
    if (right <= left && max[next] != null) continue;
    paint(left, Math.max(right, left + 1), least, greatest);
    [least, greatest] = [Infinity, -Infinity];
  }
}

/** The worst coverage of the lines, in percent. */
export function coverageOf(lines: readonly Line[]): number | null {
  return lines.length > 0 ? Math.min(...lines.map(({ coveragePercent }) => coveragePercent)) : null;
}

/** The gap of some line at an instant. */
export function gapAt(lines: readonly Line[], instant: number): Gap | null {
  for (const { gaps } of lines) {
    const found = gaps.find(({ from, to }) => from <= instant && instant < to);
    if (found) return found;
  }
  return null;
}

/** The largest few lines, by their largest value; the rest is counted, never hidden unsaid. */
export function strongest(lines: readonly Line[], most: number): { shown: readonly Line[]; left: number } {
  if (lines.length <= most) return { shown: lines, left: 0 };
  const ranked = lines.map((line, index) => ({ index, peak: line.value.reduce<number>((peak, value) => Math.max(peak, value ?? 0), 0) }));
  const keep = new Set(ranked.sort((a, b) => b.peak - a.peak).slice(0, most).map(({ index }) => index));
  return { shown: lines.filter((_, index) => keep.has(index)), left: lines.length - most };
}
