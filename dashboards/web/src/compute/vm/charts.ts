/** The charts of a virtual machine, as its hypervisors measure it. Pure. */
import { type ChartPlan, type Series, combined, grouped, plain, short } from "../plans";

const domain = (...names: string[]) => names.map((name) => `libvirt_domain_${name}`);
const own = (...names: string[]) => names.map((name) => `tongtu_libvirt_domain_${name}`);

const target = ({ labels }: Series) => labels.target_device ?? "";
const ofTarget = (prefix: RegExp, suffix?: RegExp) => (series: Series) => `${target(series)} ${short(prefix, suffix)(series)}`;
const vcpu = ({ labels }: Series) => `vCPU ${labels.vcpu ?? ""}`;

const [CPU_TIME = ""] = domain("info_cpu_time_seconds_total");
const [VCPUS = ""] = domain("info_virtual_cpus");
const [USER = "", SYSTEM = ""] = own("cpu_user_seconds_total", "cpu_system_seconds_total");
/** Seconds of processors a second, beside as many as it has. */
const WORDS: Record<string, string> = { [CPU_TIME]: "total", [USER]: "user", [SYSTEM]: "system", [VCPUS]: "vCPUs" };

const BLOCK = /^libvirt_domain_block_stats_/;
const NET = /^libvirt_domain_interface_stats_/;

/** How long a request took on the average: time spent ÷ requests done, where there were any. */
const latency: ChartPlan = {
  key: "vm_block_latency",
  metrics: domain(...["read", "write"].flatMap((way) => [`block_stats_${way}_time_seconds_total`, `block_stats_${way}_requests_total`])),
  lines: (all, of) =>
    [...grouped(all, target)].flatMap(([device, parts]) =>
      ["read", "write"].flatMap((way) => {
        const [spent, done] = domain(`block_stats_${way}_time_seconds_total`, `block_stats_${way}_requests_total`).map((name) => parts.find(({ metric }) => metric === name));
        if (!spent || !done) return [];
        return [combined([spent, done], of, `${device} ${way}`, "s", `${way}_time_seconds ÷ ${way}_requests`, ([time = 0, requests = 0]) => (requests > 0 ? time / requests : null))];
      }),
    ),
};

export const VM_CHARTS: readonly ChartPlan[] = [
  plain("vm_cpu", [CPU_TIME, USER, SYSTEM, VCPUS], { label: ({ metric }) => WORDS[metric] ?? metric, unit: "1" }),
  plain("vm_vcpu_time", domain("vcpu_time_seconds_total"), { label: vcpu, factor: 100, unit: "%" }),
  plain("vm_vcpu_delay", domain("vcpu_delay_seconds_total"), { label: vcpu, factor: 100, unit: "%" }),
  plain("vm_vcpu_wait", domain("vcpu_wait_seconds_total"), { label: vcpu, factor: 100, unit: "%" }),
  plain(
    "vm_memory",
    domain("info_memory_usage_bytes", "info_maximum_memory_bytes", ...["available", "usable", "unused", "rss", "disk_cache"].map((name) => `memory_stats_${name}_bytes`)),
    { label: short(/^libvirt_domain_(info|memory_stats)_/, /_bytes$/) },
  ),
  plain("vm_swap", own("swap_in_bytes_total", "swap_out_bytes_total"), { label: short(/^tongtu_libvirt_domain_/, /_bytes_total$/) }),
  plain("vm_faults", domain("memory_stats_major_fault_total", "memory_stats_minor_fault_total"), { label: short(/^libvirt_domain_memory_stats_/) }),
  plain("vm_block_bytes", domain("block_stats_read_bytes_total", "block_stats_write_bytes_total"), { label: ofTarget(BLOCK, /_bytes_total$/) }),
  plain("vm_block_requests", domain("block_stats_read_requests_total", "block_stats_write_requests_total", "block_stats_flush_requests_total"), { label: ofTarget(BLOCK, /_requests_total$/) }),
  latency,
  plain("vm_block_space", domain("block_stats_capacity_bytes", "block_stats_physicalsize_bytes", "block_stats_allocation"), { label: ofTarget(BLOCK, /_bytes$/) }),
  plain("vm_network_bytes", domain("interface_stats_receive_bytes_total", "interface_stats_transmit_bytes_total"), { label: ofTarget(NET, /_bytes_total$/), factor: 8, unit: "bit/s" }),
  plain("vm_network_packets", domain("interface_stats_receive_packets_total", "interface_stats_transmit_packets_total"), { label: ofTarget(NET, /_packets_total$/) }),
  plain("vm_network_errors", domain(...["receive", "transmit"].flatMap((way) => [`interface_stats_${way}_errors_total`, `interface_stats_${way}_drops_total`])), { label: ofTarget(NET) }),
];

/** All of them, in one question. */
export const VM_METRICS = [...new Set(VM_CHARTS.flatMap(({ metrics }) => metrics))];
