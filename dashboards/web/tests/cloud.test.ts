/** What the pages of the cloud derive of what is measured and told. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { METRICS, SUMS } from "../src/compute/charts";
import type { Of, Series } from "../src/compute/plans";
import { daysOf } from "../src/compute/review/days";
import { foremost, proposed, reasonFigures } from "../src/compute/review/verdicts";
import { VM_CHARTS, VM_METRICS } from "../src/compute/vm/charts";
import { disksOf, factsOf, interfacesOf } from "../src/compute/vm/facts";
import type { Vm } from "../src/compute/vm/queries";
import { mattersOf } from "../src/compute/vm/states";

const VM: Of = { label: "vm", id: "vm_7" };
const plan = (key: string) => VM_CHARTS.find((chart) => chart.key === key);

function series(metric: string, labels: Record<string, string>, value: (number | null)[], unit = "1"): Series {
  return {
    metric, labels, value, unit, resource: "", kind: "counter", resolution: "slot", definition: "rate", step_seconds: 300, coverage_percent: 100, evidence_stars: 5, resets: 0, dropped: 0, parts: 1,
    gaps: [], first_ms: 0, instants_ms: [], min: [], max: [], coverage: value.map(() => 1),
  };
}

test("the charts of a virtual machine are one question, of the machine and not of one of its hosts", () => {
  expect(VM_METRICS.length).toBeLessThanOrEqual(64);
  const [line] = plan("vm_vcpu_delay")?.lines([series("libvirt_domain_vcpu_delay_seconds_total", { vcpu: "1" }, [0.25], "s/s")], VM) ?? [];
  expect([line?.label, line?.unit, line?.value, line?.series]).toEqual(["vCPU 1", "%", [25], 'libvirt_domain_vcpu_delay_seconds_total{vm="vm_7",vcpu="1"}']);
});

test.each([
  ["libvirt agent", "hypervisor", VM_METRICS],
  ["host agent", "host", [...METRICS, ...SUMS.metrics]],
])("what charts ask for is what the %s sends", (_, agent, metrics) => {
  const list = readFileSync(fileURLToPath(new URL(`../../../agents/${agent}/src/metrics.rs`, import.meta.url)), "utf8");
  const sent = new Set([...list.matchAll(/"((?:libvirt|node|tongtu)_\w+)"/g)].map(([, name]) => name ?? ""));
  expect(sent.size).toBeGreaterThan(50);
  expect(metrics.filter((metric) => !sent.has(metric))).toEqual([]);
});

test("a disk's latency is time by requests, of each disk and way, and nothing where nothing was asked", () => {
  const of = (name: string, device: string, value: (number | null)[]) => series(`libvirt_domain_block_stats_${name}_total`, { target_device: device }, value);
  const lines = plan("vm_block_latency")?.lines([of("read_time_seconds", "vda", [0.02, 0.5, null]), of("read_requests", "vda", [10, 0, 10]), of("write_time_seconds", "vdb", [1])], VM);
  expect(lines?.map(({ label, value, unit }) => [label, unit, value])).toEqual([["vda read", "s", [0.002, null, null]]]);
});

test("disks and interfaces are what is measured and what is told, each once", () => {
  const facts = {
    "disk.vda": '{"device":"disk","bus":"virtio","format":"qcow2","source":"/images/a.qcow2"}',
    "disk.sda": '{"device":"cdrom"}',
    "nic.52:54:00:00:00:01": '{"bridge":"br0","target":"vnet3","model":"virtio"}',
    "nic.52:54:00:00:00:02": "not what it should be",
    title: "门户",
    guest_agent: "connected",
    metadata: "<x/>",
    uuid: "u",
  };
  const disk = { device: "vda", capacity_bytes: 5, allocation_bytes: null, read_bytes_per_second: null, write_bytes_per_second: null };
  expect(disksOf({ disks: [disk], facts })).toEqual([
    { device: "sda", kind: "cdrom", image: null },
    { ...disk, kind: "disk · virtio · qcow2", image: "/images/a.qcow2" },
  ]);
  const measured = { device: "vnet3", receive_bytes_per_second: 1, transmit_bytes_per_second: 2 };
  expect(interfacesOf({ interfaces: [measured], facts })).toEqual([
    { ...measured, mac: "52:54:00:00:00:01", network: "br0 · virtio" },
    { mac: "52:54:00:00:00:02", device: null, network: null },
  ]);
  expect(factsOf({ facts })).toEqual({ known: [{ name: "title", value: "门户" }, { name: "guest_agent", value: "connected" }], others: [{ name: "metadata", value: "<x/>" }] });
});

test("what needs somebody is told, the worst first", () => {
  const of = (vm: Partial<Vm>) => mattersOf({ assigned: true, expired: false, conflict: null, ...vm } as Vm);
  expect(of({})).toEqual([]);
  expect(of({ assigned: false, expired: true, conflict: "running_twice" })).toEqual(["conflict", "expired", "unowned"]);
});

test("a verdict that asks for something stands before one that does not, and a proposal says from what to what", () => {
  expect(foremost(["idle", "oversized"])).toBe("idle");
  expect(foremost(["flat", "oversized"])).toBe("flat");
  const size = { vcpus: 8, memory_bytes: 16 * 2 ** 30 };
  expect(proposed({ ...size, proposal: { vcpus: 3, memory_bytes: 5 * 2 ** 30 } })).toBe("8 → 3 vCPU · 16.0 GiB → 5.00 GiB");
  expect(proposed({ ...size, proposal: { vcpus: null, memory_bytes: 2 ** 30 } })).toBe("16.0 GiB → 1.00 GiB");
  expect(proposed({ ...size, proposal: null })).toBeNull();
  const usage = { mean_percent: 2, p95_percent: 5, peak_percent: 30, coverage_percent: 99, evidence_stars: 5 };
  expect(reasonFigures({ cpu: usage, memory: null })).toMatchObject({ cpu_mean: "2.0 %", cpu_peak: "30.0 %", memory_mean: "–" });
});

test("use is looked at over periods that the service knows", () => {
  expect([daysOf({ days: "7" }), daysOf({ days: "8" }), daysOf({})]).toEqual([7, 30, 30]);
});
