/** The charts of a host: which metrics each asks for, and the lines that it makes of them. Pure. */
import type { Line } from "@/ui/chart/lines";
import { type ChartPlan, type Series, type Shape, combined, grouped, line, plain, short } from "./plans";

/**
 * What a number that only grows rose by, a second, since the point before; nothing across a gap or where it fell. Of a
 * point that stands for many samples the last is its `greatest` and the first its `least`.
 */
export function rise(instants: readonly number[], greatest: Line["value"], stepSeconds: number, least = greatest): (number | null)[] {
  return greatest.map((now, index) => {
    const [before, first] = [greatest[index - 1], least[index]];
    const seconds = ((instants[index] ?? 0) - (instants[index - 1] ?? 0)) / 1000;
    return now == null || before == null || first == null || first < before || seconds > stepSeconds * 1.5 ? null : (now - before) / seconds;
  });
}

/** Lines of how fast numbers grow that the kernel's names do not tell from a gauge: the service gives them as sampled. */
function rising(key: string, metrics: readonly string[], label: Shape["label"]): ChartPlan {
  const { lines } = plain(key, metrics, { label, unit: "1/s" });
  // How quickly it rose within a point is not known.
  const rate = (one: Line): Line => {
    const value = one.max.length > 0 ? rise(one.instants, one.max, one.stepSeconds, one.min) : rise(one.instants, one.value, one.stepSeconds);
    return { ...one, value, min: [], max: [], definition: `Δ ÷ Δt (${one.definition})` };
  };
  return { key, metrics, lines: (all, of) => lines(all, of).map(rate) };
}

const CPU = "node_cpu_seconds_total";

/** The service adds processors up by mode, sample by sample, so the band is that of the sum. */
const cpu: ChartPlan = {
  key: "cpu",
  metrics: [CPU],
  lines: (all, of) =>
    all
      .filter(({ labels }) => labels.mode !== "idle")
      .map((series) => ({
        ...line(series, of, { label: ({ labels }) => labels.mode ?? "", factor: 100 / series.parts, unit: "%" }),
        definition: `Σ (${series.definition}) ÷ ${series.parts} × 100`,
        series: `sum by (mode) (${CPU}{mode=${JSON.stringify(series.labels.mode ?? "")},${of.label}=${JSON.stringify(of.id)}})`,
      })),
};

const FILES = ["node_filesystem_size_bytes", "node_filesystem_free_bytes", "node_filesystem_avail_bytes"] as const;
/** What is offered is what is free without what is kept for root. */
const TOGETHER = [1, 2];
const filesystem: ChartPlan = {
  key: "filesystem",
  metrics: FILES,
  lines: (all, of) =>
    [...grouped(all, ({ labels }) => labels.mountpoint ?? "")].flatMap(([mountpoint, parts]) => {
      const [size, free, avail] = FILES.map((name) => parts.find(({ metric }) => metric === name));
      if (!size || !free || !avail) return [];
      const used = ([all = 0, unused = 0, offered = 0]: number[]) => {
        const taken = all - unused;
        return taken + offered > 0 ? (taken / (taken + offered)) * 100 : null;
      };
      return [combined([size, free, avail], of, mountpoint, "%", "(size − free) ÷ (size − free + avail) × 100", used, TOGETHER)];
    }),
};

const device = ({ labels }: Series) => labels.device ?? "";
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
