/** What needs somebody, made of the overview. Pure. */
import type { Overview } from "./queries";

/** A file system this full needs somebody. */
export const FULL_PERCENT = 90;

/** States of agents that need somebody, the worst first. */
export const TROUBLED = ["cloned", "lost", "late"] as const;

export function troubledAgents(overview: Overview): { readonly state: (typeof TROUBLED)[number]; readonly count: number }[] {
  const { agents } = overview;
  return agents ? TROUBLED.map((state) => ({ state, count: agents[state] })).filter(({ count }) => count > 0) : [];
}

export function fullHosts(overview: Overview): Overview["busiest"]["filesystem_fullest_percent"] {
  return overview.busiest.filesystem_fullest_percent.filter(({ value }) => value >= FULL_PERCENT);
}
