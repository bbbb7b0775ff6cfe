/** A chart on a canvas: uPlot, with the design's colours, bands, the strip of coverage, and one cursor for a page. */
import uPlot from "uplot";
import { zoned } from "../format/time";
import { timeLabels, valueLabels } from "./axes";
import { type Aligned, alone, extremes, pieces } from "./lines";

export interface Drawing {
  readonly data: Aligned;
  readonly unit: string;
  /** The whole period in milliseconds, drawn even where nothing is known. */
  readonly from: number;
  readonly to: number;
  readonly stepSeconds: number;
}

export interface Listener {
  readonly zoomed: (from: number, to: number) => void;
  /** The point under the cursor, or null. */
  readonly pointed: (index: number | null) => void;
}

/** All charts of a page share the cursor. */
const TOGETHER = "page";
/** Height of the strip that shows the coverage, in CSS pixels. */
const STRIP = 4;
export const COLOURS = 8;
const colour = (line: number) => style(`--series-${(line % COLOURS) + 1}`);

/** The design's values of a theme: asking the browser for one makes it lay out first what was just put into the page. */
const styles = new Map<string, string>();
let theme: string | undefined;

function style(name: string): string {
  const root = document.documentElement;
  if (theme !== root.dataset.theme) styles.clear();
  theme = root.dataset.theme;
  let found = styles.get(name);
  if (found === undefined) {
    found = getComputedStyle(root).getPropertyValue(name).trim();
    styles.set(name, found);
  }
  return found;
}

/** Bytes are counted in powers of two, so their grid is, too. */
const BINARY = Array.from({ length: 60 }, (_, power) => 2 ** power);

/** Where the values of a scale lie on the canvas, in its pixels: as the plot says, without asking it for each. */
function along(plot: uPlot, scale: "x" | "y"): (value: number) => number {
  const { min = 0, max = 1 } = plot.scales[scale] ?? {};
  const [from, to] = [plot.valToPos(min, scale, true), plot.valToPos(max, scale, true)];
  return (value) => from + ((value - min) / (max - min)) * (to - from);
}

/** Behind the lines: from the least to the greatest value of each point. */
function bands(plot: uPlot, { data, stepSeconds }: Drawing) {
  const { ctx, bbox } = plot;
  const [x, up] = [along(plot, "x"), along(plot, "y")];
  const across = (instant: number) => Math.round(x(instant / 1000));
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.globalAlpha = 0.18;
  data.value.forEach((_, line) => {
    const [min, max] = [data.min[line], data.max[line]];
    if (!min || !max) return;
    // One shape for each line, not one for each point.
    ctx.beginPath();
    pieces(data.instants, min, max, stepSeconds * 1000, across, (left, right, least, greatest) => {
      const [top, bottom] = [Math.floor(up(greatest)), Math.ceil(up(least))];
      ctx.rect(left, top, right - left, bottom - top);
    });
    ctx.fillStyle = colour(line);
    ctx.fill();
  });
  ctx.restore();
}

function strip(plot: uPlot, { data: { instants, coverage }, stepSeconds }: Drawing) {
  const { ctx, bbox } = plot;
  const x = along(plot, "x");
  const height = STRIP * devicePixelRatio;
  const top = bbox.top + bbox.height - height;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = style("--line");
  ctx.fillRect(bbox.left, top, bbox.width, height);
  ctx.fillStyle = style("--muted");
  for (let begin = 0, end = 0; begin < instants.length; begin = end) {
    const part = coverage[begin] ?? 0;
    // Points that are covered alike are one piece.
    do end += 1;
    while (end < instants.length && coverage[end] === part);
    if (part <= 0) continue;
    const until = instants[end] ?? (instants[end - 1] ?? 0) + stepSeconds * 1000;
    const [left, right] = [x((instants[begin] ?? 0) / 1000), x(until / 1000)];
    ctx.globalAlpha = part;
    ctx.fillRect(left, top, Math.max(1, right - left + 0.5), height);
  }
  ctx.restore();
}

export function plotted(target: HTMLElement, width: number, height: number, drawing: Drawing, listener: Listener): uPlot {
  const { data } = drawing;
  const grid = { stroke: style("--line"), width: 1 };
  const axis = { stroke: style("--muted"), font: `11px ${style("--font")}`, grid, ticks: { show: false }, gap: 4 };
  const [least, greatest] = extremes(data);
  const plot: uPlot = new uPlot(
    {
      width,
      height,
      series: [{}, ...data.value.map((_, line) => ({ stroke: colour(line), width: 1, points: { show: true, size: 3, width: 0, fill: colour(line), filter: (self: uPlot, place: number) => alone(self.data[place] ?? []) }, spanGaps: false }))],
      legend: { show: false },
      tzDate: (seconds) => zoned(seconds * 1000),
      scales: {
        x: { range: () => [drawing.from / 1000, drawing.to / 1000] },
        // From 0, so that a height means an amount.
        y: { range: () => [least, greatest > 0 ? greatest * 1.08 : 1] },
      },
      axes: [
        { ...axis, space: 56, size: 32, values: (_, splits, __, ___, increment) => timeLabels(splits, increment) },
        // The same width everywhere, so that one instant stands at one place of all charts.
        { ...axis, space: 28, size: 68, ...(drawing.unit.startsWith("By") ? { incrs: BINARY } : {}), values: (_, splits) => valueLabels(splits, drawing.unit) },
      ],
      cursor: {
        sync: { key: TOGETHER, setSeries: false },
        drag: { x: true, y: false, setScale: false },
        points: { size: 5 },
        y: false,
      },
      hooks: {
        drawAxes: [(self) => bands(self, drawing)],
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
    [data.instants.map((instant) => instant / 1000), ...data.value] as uPlot.AlignedData,
    // Put into the page when it is drawn: a canvas that is in it has its style made anew for each font.
    (self, begin) => {
      begin();
      queueMicrotask(() => target.append(self.root));
    },
  );
  return plot;
}
