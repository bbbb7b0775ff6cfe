/** What a virtual machine's facts say of its devices, beside the figures of each. Pure. */
import type { VmDetail } from "./queries";

type Told = Record<string, unknown>;

/** The members of a fact that is a JSON object; a fact that is none has none. */
function told(fact: string | undefined): Told {
  try {
    const found: unknown = JSON.parse(fact ?? "");
    return typeof found === "object" && found !== null ? (found as Told) : {};
  } catch {
    return {};
  }
}
const text = (value: unknown) => (typeof value === "string" && value ? value : null);
const joined = (...parts: unknown[]) => parts.flatMap((part) => text(part) ?? []).join(" · ") || null;
/** Facts whose names begin alike, by what follows. */
const begun = (facts: Readonly<Record<string, string>>, prefix: string) => Object.keys(facts).filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));

type Disk = VmDetail["disks"][number];
export interface ShownDisk extends Partial<Omit<Disk, "device">> {
  readonly device: string;
  readonly kind: string | null;
  readonly image: string | null;
}

/** Every disk that is measured or told of, by name. */
export function disksOf({ disks, facts }: Pick<VmDetail, "disks" | "facts">): ShownDisk[] {
  const names = [...new Set([...disks.map(({ device }) => device), ...begun(facts, "disk.")])].sort();
  return names.map((device) => {
    const fact = told(facts[`disk.${device}`]);
    return { ...disks.find((disk) => disk.device === device), device, kind: joined(fact.device, fact.bus, fact.format), image: text(fact.source) };
  });
}

type Interface = VmDetail["interfaces"][number];
export interface ShownInterface extends Partial<Omit<Interface, "device">> {
  readonly device: string | null;
  readonly mac: string | null;
  readonly network: string | null;
}

/** Every interface that is measured or told of; the two are one where they name the same device of the host. */
export function interfacesOf({ interfaces, facts }: Pick<VmDetail, "interfaces" | "facts">): ShownInterface[] {
  const toldOf = begun(facts, "nic.").map((mac) => {
    const fact = told(facts[`nic.${mac}`]);
    return { mac, device: text(fact.target), network: joined(fact.bridge ?? fact.network ?? fact.type, fact.model) };
  });
  const measured = interfaces.map((one) => ({ mac: null, network: null, ...toldOf.find(({ device }) => device === one.device), ...one }));
  const others = toldOf.filter(({ device }) => !interfaces.some((one) => one.device === device));
  return [...measured, ...others];
}

/** In the order of the screen. */
const KNOWN = ["title", "description", "guest_hostname", "guest_addresses", "guest_agent", "hypervisor", "os_type", "os_id", "architecture", "machine", "vcpus_maximum", "autostart", "persistent"];
/** Shown elsewhere on the page. */
const ELSEWHERE = ["uuid", "name", "vcpus", "memory_bytes", "memory_maximum_bytes"];

interface Fact {
  readonly name: string;
  readonly value: string;
}

/** What is worth a word of its own, and the rest. */
export function factsOf({ facts }: Pick<VmDetail, "facts">): { known: Fact[]; others: Fact[] } {
  const known = KNOWN.flatMap((name) => (facts[name] ? [{ name, value: facts[name] }] : []));
  const left = Object.entries(facts).filter(([name]) => !KNOWN.includes(name) && !ELSEWHERE.includes(name) && !/^(disk|nic)\./.test(name));
  return { known, others: left.map(([name, value]) => ({ name, value })) };
}
