/** A chart on a canvas: uPlot, with the design's colours, bands, the strip of coverage, and one cursor for a page. */
import uPlot from "uplot";
import { zoned } from "../format/time";
import { timeLabels, valueLabels } from "./axes";
import type { Aligned } from "./lines";

export interface Drawing {
  readonly data: Aligned;
  readonly unit: string;
  /** The whole period in milliseconds, drawn even where nothing is known. */
  readonly from: number;
  readonly to: number;
  readonly stepSeconds: number;
  /** Charts with the same name share the cursor. */
  readonly together: string;
}

export interface Listener {
  readonly zoomed: (from: number, to: number) => void;
  /** The point under the cursor, or null. */
  readonly pointed: (index: number | null) => void;
}

/** Height of the strip that shows the coverage, in CSS pixels. */
const STRIP = 4;
export const COLOURS = 8;

function style(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Bytes are counted in powers of two, so their grid is, too. */
const BINARY = Array.from({ length: 60 }, (_, power) => 2 ** power);

/** The columns as uPlot takes them: seconds, then each line's value and band. */
function columns({ data }: Drawing): uPlot.AlignedData {
  const series: uPlot.AlignedData[number][] = [data.instants.map((instant) => instant / 1000)];
  data.value.forEach((value, index) => {
    series.push(value);
    const [min, max] = [data.min[index], data.max[index]];
    if (min && max) series.push(max, min);
  });
  return series as uPlot.AlignedData;
}

function strip(plot: uPlot, drawing: Drawing) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  const height = STRIP * ratio;
  const top = bbox.top + bbox.height - height;
  const { instants, coverage } = drawing.data;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = style("--line");
  ctx.fillRect(bbox.left, top, bbox.width, height);
  ctx.fillStyle = style("--muted");
  instants.forEach((instant, index) => {
    const part = coverage[index] ?? 0;
    if (part <= 0) return;
    const left = plot.valToPos(instant / 1000, "x", true);
    const next = instants[index + 1] ?? instant + drawing.stepSeconds * 1000;
    const right = plot.valToPos(next / 1000, "x", true);
    ctx.globalAlpha = part;
    ctx.fillRect(left, top, Math.max(1, right - left + 0.5), height);
  });
  ctx.restore();
}

/** Samples between two gaps, which no line would show. */
function alone(plot: uPlot, place: number): number[] {
  const column = [...(plot.data[place] ?? [])];
  // What is undefined is drawn through.
  const known = column.flatMap((value, index) => (value === undefined ? [] : [index]));
  return known.filter((index, at) => column[index] != null && column[known[at - 1] ?? -1] == null && column[known[at + 1] ?? -1] == null);
}

export function draw(target: HTMLElement, width: number, height: number, drawing: Drawing, listener: Listener): uPlot {
  const grid = { stroke: style("--line"), width: 1 };
  const axis = { stroke: style("--muted"), font: `11px ${style("--font")}`, grid, ticks: { show: false }, gap: 4 };
  const series: uPlot.Series[] = [{}];
  const bands: uPlot.Band[] = [];
  drawing.data.value.forEach((_, index) => {
    const stroke = style(`--series-${(index % COLOURS) + 1}`);
    series.push({ stroke, width: 1.25, points: { show: true, size: 3, width: 0, fill: stroke, filter: alone }, spanGaps: false });
    if (drawing.data.min[index] && drawing.data.max[index]) {
      bands.push({ series: [series.length, series.length + 1], fill: `color-mix(in srgb, ${stroke} 18%, transparent)` });
      series.push({ stroke: "transparent", points: { show: false } }, { stroke: "transparent", points: { show: false } });
    }
  });
  const plot: uPlot = new uPlot(
    {
      width,
      height,
      series,
      bands,
      legend: { show: false },
      tzDate: (seconds) => zoned(seconds * 1000),
      scales: {
        x: { range: () => [drawing.from / 1000, drawing.to / 1000] },
        // From 0, so that a height means an amount.
        y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high ?? 0) > 0 ? (high ?? 0) * 1.08 : 1] },
      },
      axes: [
        { ...axis, space: 56, size: 32, values: (_, splits, __, ___, increment) => timeLabels(splits, increment) },
        // The same width everywhere, so that one instant stands at one place of all charts.
        { ...axis, space: 28, size: 68, ...(drawing.unit.startsWith("By") ? { incrs: BINARY } : {}), values: (_, splits) => valueLabels(splits, drawing.unit) },
      ],
      cursor: {
        sync: { key: drawing.together, setSeries: false },
        drag: { x: true, y: false, setScale: false },
        points: { size: 5 },
        y: false,
      },
      hooks: {
        draw: [(self) => strip(self, drawing)],
        setCursor: [(self) => listener.pointed(self.cursor.idx ?? null)],
        setSelect: [
          (self) => {
            const { left, width: wide } = self.select;
            if (wide < 4) return;
            const [from, to] = [self.posToVal(left, "x") * 1000, self.posToVal(left + wide, "x") * 1000];
            self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            listener.zoomed(from, to);
          },
        ],
      },
    },
    columns(drawing),
    target,
  );
  return plot;
}
