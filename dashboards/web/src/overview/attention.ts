/** What needs somebody, made of the overview. Pure. */
import { MATTERS, MATTER_TONES, VM_TONES } from "@/compute/vm/states";
import type { Tone } from "@/ui/UiStatus.vue";
import type { Overview } from "./queries";

/** States of agents that need somebody, the worst first. */
export const TROUBLED = ["cloned", "lost", "late"] as const;

export function troubledAgents(overview: Overview): { readonly state: (typeof TROUBLED)[number]; readonly count: number }[] {
  const { agents } = overview;
  return agents ? TROUBLED.map((state) => ({ state, count: agents[state] })).filter(({ count }) => count > 0) : [];
}

/** States of virtual machines that need somebody, the worst first. */
const TROUBLED_VMS = ["crashed", "stale"] as const;

/** Virtual machines that need somebody: what of it, the key of its word, how many, and the list of just these. */
export interface VmNeed {
  readonly word: string;
  readonly tone: Tone;
  readonly count: number;
  readonly query: Readonly<Record<string, string>>;
}

export function vmNeeds({ vms }: Overview): VmNeed[] {
  const states = TROUBLED_VMS.map((state) => ({ word: `vm_state.${state}`, tone: VM_TONES[state], count: vms.states[state] ?? 0, query: { state } }));
  const matters = MATTERS.map((matter) => ({ word: `vm_matter.${matter}`, tone: MATTER_TONES[matter], count: vms[matter], query: { matter } }));
  return [...states, ...matters].filter(({ count }) => count > 0);
}
