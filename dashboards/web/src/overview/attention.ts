/** What needs somebody, made of the overview. Pure. */
import type { Overview } from "./queries";

/** States of agents that need somebody, the worst first. */
export const TROUBLED = ["cloned", "lost", "late"] as const;

export function troubledAgents(overview: Overview): { readonly state: (typeof TROUBLED)[number]; readonly count: number }[] {
  const { agents } = overview;
  return agents ? TROUBLED.map((state) => ({ state, count: agents[state] })).filter(({ count }) => count > 0) : [];
}
