/** What the overview derives. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { vmNeeds } from "../src/overview/attention";
import type { Overview } from "../src/overview/queries";

test("virtual machines that need somebody are told with the list of just these, the worst first", () => {
  const of = (vms: Partial<Overview["vms"]>) => vmNeeds({ vms: { total: 9, states: {}, conflict: 0, expired: 0, unowned: 0, ...vms } } as Overview);
  expect(of({ states: { running: 7, shut_off: 2 } })).toEqual([]);
  const found = of({ states: { running: 6, stale: 2, crashed: 1 }, unowned: 4, expired: 3 });
  expect(found.map(({ word, count, query }) => [word, count, query])).toEqual([
    ["vm_state.crashed", 1, { state: "crashed" }],
    ["vm_state.stale", 2, { state: "stale" }],
    ["vm_matter.expired", 3, { matter: "expired" }],
    ["vm_matter.unowned", 4, { matter: "unowned" }],
  ]);
});

test("what the overview ranks hosts by, their list is sorted by", () => {
  const read = (path: string) => readFileSync(fileURLToPath(new URL(`../src/${path}`, import.meta.url)), "utf8");
  const sorts = [...read("overview/OverviewPage.vue").matchAll(/<BusiestHosts [^>]*hosts="all\.busiest\.(\w+)"[^>]*sort="-(\w+)"/g)].map(([, figure, sort]) => ({ figure, sort }));
  expect(sorts).toHaveLength(4);
  const columns = [...read("compute/HostsPage.vue").matchAll(/\{ key: "(\w+)"/g)].map(([, key]) => key);
  for (const { figure, sort } of sorts) {
    expect(columns).toContain(sort);
    // Memory is of two figures in the list, one word for both.
    expect(sort).toBe(figure === "memory_used_percent" ? "memory" : figure);
  }
});
