/** The fields of the ledger: how each is shown, and what differs. Pure. */
import type { Tone } from "@/ui/UiStatus.vue";
import { NONE, bytes, text } from "@/ui/format/number";
import { minute } from "@/ui/format/time";
import type { Entry, Standing } from "./queries";

/** What asks for something to be done first. */
export const STANDINGS = ["conflicting", "only_ledger", "only_measured", "both"] as const satisfies readonly Standing[];
export const STANDING_TONES: Record<Standing, Tone> = { conflicting: "bad", only_ledger: "warn", only_measured: "warn", both: "good" };

/** In the order of the template. */
export const FIELDS = ["name", "uuid", "organization", "application", "purpose", "expires_ms", "provider", "vcpus", "memory_bytes", "disk_bytes", "contact", "note"] as const;
export type Field = (typeof FIELDS)[number];

/** How ids and purposes are called. */
export interface Names {
  readonly owner: (id: string) => string;
  readonly provider: (id: string) => string;
  readonly purpose: (purpose: string) => string;
}

/** A field's value as a person reads it. */
export function fieldText(field: string, value: string | number | null | undefined, names: Names): string {
  if (value == null || value === "") return NONE;
  switch (field) {
    case "organization":
      return names.owner(String(value));
    case "provider":
      return names.provider(String(value));
    case "purpose":
      return names.purpose(String(value));
    case "expires_ms":
      // A table says the last day.
      return minute(Number(value) - 1).slice(0, 10);
    case "memory_bytes":
    case "disk_bytes":
      return text(bytes(Number(value)));
    default:
      return String(value);
  }
}

export interface Compared {
  readonly field: Field;
  readonly ledger: string;
  readonly measured: string;
  readonly differs: boolean;
}

/** Both sides of an entry, field by field; of what was given to nobody no owner is told. */
export function compared(entry: Entry, names: Names): Compared[] {
  const differing = new Set(entry.differences.map(({ field }) => field));
  const { line, machine } = entry;
  const measured: Partial<Record<Field, string | number | null>> = machine ? { ...machine, organization: machine.assigned ? machine.organization : null } : {};
  return FIELDS.map((field) => ({
    field,
    ledger: fieldText(field, line?.[field], names),
    measured: fieldText(field, measured[field], names),
    differs: differing.has(field),
  }));
}

export const entryName = (entry: Entry) => entry.line?.name ?? entry.machine?.name ?? "";
export const entryOwner = (entry: Entry) => entry.line?.organization ?? (entry.machine?.assigned ? entry.machine.organization : null);
