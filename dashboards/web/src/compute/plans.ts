/** How charts are planned: which metrics each asks for, and the lines that it makes of their series. Pure. */
import type { components } from "@/api/schema";
import type { Line } from "@/ui/chart/lines";

export type Series = components["schemas"]["SeriesReport"];

/** What series are of, as they are named: a source, what measures a host, or a virtual machine over all its sources. */
export interface Of {
  readonly label: "source" | "host" | "vm";
  readonly id: string;
}

export interface ChartPlan {
  readonly key: string;
  readonly metrics: readonly string[];
  readonly lines: (series: readonly Series[], of: Of) => Line[];
}

/** Instants that the series of one answer mostly have in common: then it is one array. */
let even: { readonly of: string; readonly instants: readonly number[] } = { of: "", instants: [] };

/** The begin of each point. */
export function instantsOf({ first_ms, step_seconds, value, instants_ms }: Series): readonly number[] {
  if (first_ms == null) return instants_ms;
  const stepMs = Math.round(step_seconds * 1000);
  const of = `${first_ms} ${stepMs} ${value.length}`;
  if (even.of !== of) even = { of, instants: value.map((_, index) => first_ms + index * stepMs) };
  return even.instants;
}

/** A series in the notation of Prometheus. */
function notation(series: Series, of: Of): string {
  const labels = Object.entries({ [of.label]: of.id, ...series.labels }).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  return `${series.metric}{${labels.join(",")}}`;
}

type Values = readonly (number | null)[];
const scale = (values: Values, factor: number): Values => (factor === 1 ? values : values.map((value) => (value === null ? null : value * factor)));

export interface Shape {
  readonly label: (series: Series) => string;
  /** What the values are multiplied by, and the unit that makes. */
  readonly factor?: number;
  readonly unit?: string;
  readonly leave?: (series: Series) => boolean;
}

/** One line for each series. */
export function line(series: Series, of: Of, { label, factor = 1, unit = series.unit }: Shape): Line {
  return {
    key: notation(series, of),
    label: label(series),
    unit,
    instants: instantsOf(series),
    value: scale(series.value, factor),
    min: scale(series.min, factor),
    max: scale(series.max, factor),
    coverage: series.coverage,
    stepSeconds: series.step_seconds,
    coveragePercent: series.coverage_percent,
    resolution: series.resolution,
    resets: series.resets,
    definition: factor === 1 ? series.definition : `${series.definition} × ${factor}`,
    series: notation(series, of),
    gaps: series.gaps.map(({ from_ms, to_ms, reason }) => ({ from: from_ms, to: to_ms, reason })),
  };
}

export function plain(key: string, metrics: readonly string[], shape: Shape): ChartPlan {
  return { key, metrics, lines: (all, of) => all.filter((series) => !shape.leave?.(series)).sort((a, b) => metrics.indexOf(a.metric) - metrics.indexOf(b.metric)).map((series) => line(series, of, shape)) };
}

type Extremes = readonly [least: number, greatest: number];

/**
 * The extremes of what is reckoned within a point, where one part alone varies in it: then they are at that one's
 * own, whichever way it counts, for all that is reckoned here rises or falls with each part throughout. Of several that
 * vary nobody knows which values stood together, but of those (by their places) that rise and fall `together`.
 */
export function extremesOf(parts: readonly Extremes[], reckon: (values: number[]) => number | null, together: readonly number[] = []): Extremes | null {
  const varying = parts.flatMap(([least, greatest], place) => (least === greatest ? [] : [together.includes(place) ? (together[0] ?? place) : place]));
  if (new Set(varying).size > 1) return null;
  const ends = [reckon(parts.map(([least]) => least)), reckon(parts.map(([, greatest]) => greatest))];
  const [one, other] = ends;
  return one == null || other == null ? null : [Math.min(one, other), Math.max(one, other)];
}

/** The extremes of a series in a point; one sample is both of them. */
function extremesAt({ value, min, max }: Series, place: number): Extremes | null {
  const [least, greatest] = max.length > 0 ? [min[place], max[place]] : [value[place], value[place]];
  return least == null || greatest == null ? null : [least, greatest];
}

/** Instant by instant from several series; an instant that one of them lacks is a gap. */
export function combined(parts: readonly Series[], of: Of, label: string, unit: string, formula: string, reckon: (values: number[]) => number | null, together: readonly number[] = []): Line {
  const first = parts[0] as Series;
  // Mostly all have the same instants.
  const instants = instantsOf(first);
  const places = parts.map((part) => {
    const own = instantsOf(part);
    if (own === instants || own.every((instant, index) => instant === instants[index])) return (_: number, index: number) => index;
    const known = new Map(own.map((instant, index) => [instant, index]));
    return (instant: number) => known.get(instant) ?? -1;
  });
  const value = instants.map((instant, index) => {
    const values = parts.map((part, at) => part.value[places[at]?.(instant, index) ?? -1]);
    return values.every((one) => one != null) ? reckon(values as number[]) : null;
  });
  const isThinned = parts.some(({ max }) => max.length > 0);
  const ends = instants.map((instant, index) => {
    if (!isThinned || value[index] === null) return null;
    const each = parts.map((part, at) => extremesAt(part, places[at]?.(instant, index) ?? -1));
    return each.every((one) => one !== null) ? extremesOf(each, reckon, together) : null;
  });
  const isKnown = ends.some((one) => one !== null);
  return {
    ...line(first, of, { label: () => label, unit }),
    key: `${label} ${notation(first, of)}`,
    value,
    min: isKnown ? ends.map((one) => one?.[0] ?? null) : [],
    max: isKnown ? ends.map((one) => one?.[1] ?? null) : [],
    coverage: instants.map((instant, index) => parts.reduce((least, part, at) => Math.min(least, part.coverage[places[at]?.(instant, index) ?? -1] ?? 0), 1)),
    coveragePercent: Math.min(...parts.map((part) => part.coverage_percent)),
    resets: Math.max(...parts.map((part) => part.resets)),
    definition: `${formula} (${first.definition})`,
    series: [...new Set(parts.map((part) => `${part.metric}{${of.label}=${JSON.stringify(of.id)}}`))].join(", "),
  };
}

export function grouped(all: readonly Series[], by: (series: Series) => string): Map<string, Series[]> {
  const groups = new Map<string, Series[]>();
  for (const series of all) groups.set(by(series), [...(groups.get(by(series)) ?? []), series]);
  return groups;
}

/** A metric's name without what all of a chart have in common. */
export const short = (prefix: RegExp, suffix = /_total$/) => ({ metric }: Series) => metric.replace(prefix, "").replace(suffix, "");
