/** How verdicts are shown, and the words of why one was given. Pure. */
import type { Tone } from "@/ui/UiStatus.vue";
import { NONE, bytes, percent, text } from "@/ui/format/number";
import type { Reviewed, Verdict } from "./queries";

/** What asks for something to be done first. */
export const VERDICTS = ["overused", "undersized", "flat", "idle", "oversized", "unknown", "normal"] as const satisfies readonly Verdict[];
export const VERDICT_TONES: Record<Verdict, Tone> = { overused: "bad", undersized: "bad", flat: "warn", idle: "warn", oversized: "warn", unknown: "idle", normal: "good" };

/** The one of several that a list shows. */
export function foremost(verdicts: readonly Verdict[]): Verdict {
  return VERDICTS.find((one) => verdicts.includes(one)) ?? "unknown";
}

const shown = (value: number | null | undefined) => (value == null ? NONE : text(percent(value)));

/** The figures that a reason names. */
export function reasonFigures({ cpu, memory }: Pick<Reviewed, "cpu" | "memory">): Record<string, string> {
  return {
    cpu_mean: shown(cpu?.mean_percent),
    cpu_p95: shown(cpu?.p95_percent),
    cpu_peak: shown(cpu?.peak_percent),
    cpu_coverage: shown(cpu?.coverage_percent),
    memory_mean: shown(memory?.mean_percent),
    memory_p95: shown(memory?.p95_percent),
    memory_peak: shown(memory?.peak_percent),
  };
}

/** Another size, as one text; null: the present one will do. */
export function proposed({ proposal, vcpus, memory_bytes }: Pick<Reviewed, "proposal" | "vcpus" | "memory_bytes">): string | null {
  if (!proposal) return null;
  const parts = [];
  if (proposal.vcpus != null) parts.push(`${vcpus ?? NONE} → ${proposal.vcpus} vCPU`);
  if (proposal.memory_bytes != null) parts.push(`${memory_bytes == null ? NONE : text(bytes(memory_bytes))} → ${text(bytes(proposal.memory_bytes))}`);
  return parts.length > 0 ? parts.join(" · ") : null;
}
