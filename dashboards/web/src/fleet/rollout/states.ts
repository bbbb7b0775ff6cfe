/** How the machines of a roll-out are shown. */
import type { Tone } from "@/ui/UiStatus.vue";
import { NONE } from "@/ui/format/number";
import type { Target } from "./queries";

/** What needs somebody stands first. */
export const TARGET_STATES = ["failed", "running", "waiting", "done"] as const satisfies readonly Target["state"][];
export const TARGET_TONES: Record<Target["state"], Tone> = { failed: "bad", running: "idle", waiting: "idle", done: "good" };

/** The version of a machine's agent, and the one that it replaced; `undefined`: neither is known. */
export function versions({ version_before: before, version: now }: Pick<Target, "version_before" | "version">): string | undefined {
  return before && before !== now ? `${before} → ${now ?? NONE}` : (now ?? undefined);
}
