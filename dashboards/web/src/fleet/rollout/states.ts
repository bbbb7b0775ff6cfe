/** How the machines of a roll-out are shown. */
import type { Tone } from "@/ui/UiStatus.vue";
import type { Target } from "./queries";

/** What needs somebody stands first. */
export const TARGET_STATES = ["failed", "running", "waiting", "done"] as const satisfies readonly Target["state"][];
export const TARGET_TONES: Record<Target["state"], Tone> = { failed: "bad", running: "idle", waiting: "idle", done: "good" };
