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

type Column = (number | null | undefined)[];

export interface Aligned {
  /** Instants in milliseconds. */
  readonly instants: number[];
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
  const same = lines.every(({ instants }) => instants.length === first.length && instants[0] === first[0] && instants.at(-1) === first.at(-1));
  const instants = same ? [...first] : [...new Set(lines.flatMap((line) => line.instants))].sort((a, b) => a - b);
  const at = new Map(instants.map((instant, index) => [instant, index]));
  const spread = (line: Line, column: readonly (number | null)[]): Column => {
    if (same) return [...column];
    const wide: Column = new Array(instants.length).fill(undefined);
    line.instants.forEach((instant, index) => (wide[at.get(instant) ?? 0] = column[index]));
    return wide;
  };
  const coverage = new Array<number>(instants.length).fill(1);
  for (const line of lines) {
    line.instants.forEach((instant, index) => {
      const place = same ? index : (at.get(instant) ?? 0);
      coverage[place] = Math.min(coverage[place] ?? 1, line.coverage[index] ?? 0);
    });
  }
  return {
    instants,
    value: lines.map((line) => spread(line, line.value)),
    min: lines.map((line) => (line.min.length > 0 ? spread(line, line.min) : null)),
    max: lines.map((line) => (line.max.length > 0 ? spread(line, line.max) : null)),
    coverage,
  };
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
