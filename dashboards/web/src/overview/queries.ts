/** What the overview asks: one answer of the service, pushed anew every few seconds. */
import { useQuery, useQueryClient } from "@tanstack/vue-query";
import { computed } from "vue";
import type { components } from "@/api/schema";
import { useLive } from "@/session/live";
import { answer, api } from "@/session/request";

export type Overview = components["schemas"]["Overview"];
export type Busy = components["schemas"]["Busy"];
export type Happened = components["schemas"]["Event"];

export const OVERVIEW_KEY = ["overview"] as const;

export function useOverview() {
  const cache = useQueryClient();
  const { on } = useLive(
    ["overview"],
    (_, data) => cache.setQueryData(OVERVIEW_KEY, data as Overview),
    // Each event is a whole one, and the first comes at once.
    () => {},
  );
  return useQuery({ queryKey: OVERVIEW_KEY, queryFn: ({ signal }) => answer(api.GET("/api/v1/overview", { signal })), refetchInterval: computed(() => (on.value ? 60_000 : 10_000)), shallow: true });
}

const MOST = 6;

/** Hosts that do not report any more, the latest first. */
export function useSilent() {
  return useQuery({
    queryKey: ["hosts", "silent"],
    queryFn: ({ signal }) => answer(api.GET("/api/v1/hosts", { params: { query: { state: "stale", sort: "-last_report_ms", limit: MOST } }, signal })),
    refetchInterval: 15_000,
    shallow: true,
  });
}
