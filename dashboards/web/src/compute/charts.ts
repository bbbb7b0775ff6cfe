/** The charts of a host: which metrics each asks for, and the lines that it makes of them. Pure. */
import type { Line } from "@/ui/chart/lines";
import type { Series } from "./queries";

export interface ChartPlan {
  readonly key: string;
  readonly metrics: readonly string[];
  readonly lines: (series: readonly Series[], source: string) => Line[];
}

/** A series in the notation of Prometheus. */
function notation(series: Series, source: string): string {
  const labels = Object.entries({ source, ...series.labels }).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  return `${series.metric}{${labels.join(",")}}`;
}

type Values = readonly (number | null)[];
const scale = (values: Values, factor: number): Values => (factor === 1 ? values : values.map((value) => (value === null ? null : value * factor)));

interface Shape {
  readonly label: (series: Series) => string;
  /** What the values are multiplied by, and the unit that makes. */
  readonly factor?: number;
  readonly unit?: string;
  readonly leave?: (series: Series) => boolean;
}

/** One line for each series. */
function line(series: Series, source: string, { label, factor = 1, unit = series.unit }: Shape): Line {
  return {
    key: notation(series, source),
    label: label(series),
    unit,
    instants: series.instants_ms,
    value: scale(series.value, factor),
    min: scale(series.min, factor),
    max: scale(series.max, factor),
    coverage: series.coverage,
    stepSeconds: series.step_seconds,
    coveragePercent: series.coverage_percent,
    resolution: series.resolution,
    resets: series.resets,
    definition: factor === 1 ? series.definition : `${series.definition} × ${factor}`,
    series: notation(series, source),
    gaps: series.gaps.map(({ from_ms, to_ms, reason }) => ({ from: from_ms, to: to_ms, reason })),
  };
}

function plain(key: string, metrics: readonly string[], shape: Shape): ChartPlan {
  return { key, metrics, lines: (all, source) => all.filter((series) => !shape.leave?.(series)).sort((a, b) => metrics.indexOf(a.metric) - metrics.indexOf(b.metric)).map((series) => line(series, source, shape)) };
}

/** What a number that only grows rose by, a second, since the point before; nothing across a gap or where it fell. */
export function rise(instants: readonly number[], value: Values, stepSeconds: number): (number | null)[] {
  return value.map((now, index) => {
    const before = value[index - 1];
    const seconds = ((instants[index] ?? 0) - (instants[index - 1] ?? 0)) / 1000;
    return now == null || before == null || now < before || seconds > stepSeconds * 1.5 ? null : (now - before) / seconds;
  });
}

/** Lines of how fast numbers grow that the kernel's names do not tell from a gauge: the service gives them as sampled. */
function rising(key: string, metrics: readonly string[], label: Shape["label"]): ChartPlan {
  const { lines } = plain(key, metrics, { label, unit: "1/s" });
  const rate = (one: Line): Line => ({ ...one, value: rise(one.instants, one.value, one.stepSeconds), min: [], max: [], definition: `Δ ÷ Δt (${one.definition})` });
  return { key, metrics, lines: (all, source) => lines(all, source).map(rate) };
}

/** Instant by instant from several series; an instant that one of them lacks is a gap. */
function combined(parts: readonly Series[], source: string, label: string, unit: string, formula: string, of: (values: number[]) => number | null): Line {
  const first = parts[0] as Series;
  // Mostly all have the same instants.
  const places = parts.map(({ instants_ms }) => {
    if (instants_ms.every((instant, index) => instant === first.instants_ms[index])) return (_: number, index: number) => index;
    const known = new Map(instants_ms.map((instant, index) => [instant, index]));
    return (instant: number) => known.get(instant) ?? -1;
  });
  const value = first.instants_ms.map((instant, index) => {
    const values = parts.map((part, at) => part.value[places[at]?.(instant, index) ?? -1]);
    return values.every((one) => one != null) ? of(values as number[]) : null;
  });
  return {
    ...line(first, source, { label: () => label, unit }),
    key: `${label} ${notation(first, source)}`,
    value,
    // The least of a part is not at the time of another's: of what is reckoned from them nothing like it is known.
    min: [],
    max: [],
    coverage: first.instants_ms.map((instant, index) => parts.reduce((least, part, at) => Math.min(least, part.coverage[places[at]?.(instant, index) ?? -1] ?? 0), 1)),
    coveragePercent: Math.min(...parts.map((part) => part.coverage_percent)),
    resets: Math.max(...parts.map((part) => part.resets)),
    definition: `${formula} (${first.definition})`,
    series: [...new Set(parts.map((part) => `${part.metric}{source=${JSON.stringify(source)}}`))].join(", "),
  };
}

function grouped(all: readonly Series[], by: (series: Series) => string): Map<string, Series[]> {
  const groups = new Map<string, Series[]>();
  for (const series of all) groups.set(by(series), [...(groups.get(by(series)) ?? []), series]);
  return groups;
}

const CPU = "node_cpu_seconds_total";

/** The service adds processors up by mode, sample by sample, so the band is that of the sum. */
const cpu: ChartPlan = {
  key: "cpu",
  metrics: [CPU],
  lines: (all, source) =>
    all
      .filter(({ labels }) => labels.mode !== "idle")
      .map((series) => ({
        ...line(series, source, { label: ({ labels }) => labels.mode ?? "", factor: 100 / series.parts, unit: "%" }),
        definition: `Σ (${series.definition}) ÷ ${series.parts} × 100`,
        series: `sum by (mode) (${CPU}{mode=${JSON.stringify(series.labels.mode ?? "")},source=${JSON.stringify(source)}})`,
      })),
};

const FILES = ["node_filesystem_size_bytes", "node_filesystem_free_bytes", "node_filesystem_avail_bytes"] as const;
const filesystem: ChartPlan = {
  key: "filesystem",
  metrics: FILES,
  lines: (all, source) =>
    [...grouped(all, ({ labels }) => labels.mountpoint ?? "")].flatMap(([mountpoint, parts]) => {
      const [size, free, avail] = FILES.map((name) => parts.find(({ metric }) => metric === name));
      if (!size || !free || !avail) return [];
      const used = ([all = 0, unused = 0, offered = 0]: number[]) => {
        const taken = all - unused;
        return taken + offered > 0 ? (taken / (taken + offered)) * 100 : null;
      };
      return [combined([size, free, avail], source, mountpoint, "%", "(size − free) ÷ (size − free + avail) × 100", used)];
    }),
};

const device = ({ labels }: Series) => labels.device ?? "";
const short = (prefix: RegExp, suffix = /_total$/) => ({ metric }: Series) => metric.replace(prefix, "").replace(suffix, "");
const ofDevice = (words: Record<string, string>) => (series: Series) => `${device(series)} ${words[series.metric] ?? ""}`;
const loopback = (series: Series) => device(series) === "lo";
const virtualDisk = (series: Series) => /^(loop|ram|zram|fd|sr)\d/.test(device(series));

export const CHARTS: readonly ChartPlan[] = [
  cpu,
  plain("load", ["node_load1", "node_load5", "node_load15"], { label: ({ metric }) => `${metric.replace("node_load", "")} min` }),
  plain("memory", ["MemTotal", "MemAvailable", "AnonPages", "Cached", "Slab"].map((name) => `node_memory_${name}_bytes`), { label: short(/^node_memory_/, /_bytes$/) }),
  rising("swap", ["node_vmstat_pswpin", "node_vmstat_pswpout"], short(/^node_vmstat_/)),
  plain("pressure", ["cpu", "memory", "io"].map((name) => `node_pressure_${name}_waiting_seconds_total`), { label: ({ metric }) => metric.split("_")[2] ?? metric, factor: 100, unit: "%" }),
  plain("network_bytes", ["node_network_receive_bytes_total", "node_network_transmit_bytes_total"], {
    label: ofDevice({ node_network_receive_bytes_total: "↓", node_network_transmit_bytes_total: "↑" }), factor: 8, unit: "bit/s", leave: loopback,
  }),
  plain("network_packets", ["node_network_receive_packets_total", "node_network_transmit_packets_total"], {
    label: ofDevice({ node_network_receive_packets_total: "↓", node_network_transmit_packets_total: "↑" }), leave: loopback,
  }),
  plain("network_errors", ["receive_errs", "receive_drop", "transmit_errs", "transmit_drop"].map((name) => `node_network_${name}_total`), {
    label: (series) => `${device(series)} ${short(/^node_network_/)(series)}`, leave: loopback,
  }),
  plain("tcp_connections", ["node_netstat_Tcp_CurrEstab", "node_sockstat_TCP_tw", "node_sockstat_TCP_orphan"], { label: short(/^node_(netstat|sockstat)_/) }),
  rising("tcp_retransmissions", ["node_netstat_Tcp_RetransSegs", "node_netstat_TcpExt_TCPTimeouts", "node_netstat_TcpExt_ListenDrops"], short(/^node_netstat_(TcpExt|Tcp)_/)),
  plain("disk_bytes", ["node_disk_read_bytes_total", "node_disk_written_bytes_total"], { label: ofDevice({ node_disk_read_bytes_total: "R", node_disk_written_bytes_total: "W" }), leave: virtualDisk }),
  plain("disk_operations", ["node_disk_reads_completed_total", "node_disk_writes_completed_total"], { label: ofDevice({ node_disk_reads_completed_total: "R", node_disk_writes_completed_total: "W" }), leave: virtualDisk }),
  plain("disk_busy", ["node_disk_io_time_seconds_total"], { label: device, factor: 100, unit: "%", leave: virtualDisk }),
  filesystem,
  plain("inodes", ["node_filesystem_files_free"], { label: ({ labels }) => labels.mountpoint ?? "" }),
  plain("processes", ["node_procs_running", "node_procs_blocked"], { label: short(/^node_procs_/) }),
  plain("context", ["node_context_switches_total", "node_intr_total"], { label: short(/^node_/) }),
  rising("faults", ["node_vmstat_pgfault", "node_vmstat_pgmajfault"], short(/^node_vmstat_/)),
  plain("files", ["node_filefd_allocated"], { label: short(/^node_/) }),
  plain("conntrack", ["node_nf_conntrack_entries"], { label: short(/^node_nf_/) }),
];

/** What is asked for as it is, and what is asked for as sums. */
export const METRICS = [...new Set(CHARTS.flatMap(({ metrics }) => metrics))].filter((metric) => metric !== CPU);
export const SUMS = { metrics: [CPU], by: "mode" } as const;
