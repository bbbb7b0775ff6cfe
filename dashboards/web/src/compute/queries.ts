/** What the pages of hosts ask. */
import { useQuery } from "@tanstack/vue-query";
import { type Ref, computed } from "vue";
import type { components } from "@/api/schema";
import { useLiveList } from "@/session/list";
import { answer, api, everything } from "@/session/request";

export type Host = components["schemas"]["HostSummary"];
export type HostDetail = components["schemas"]["HostDetail"];
export type Series = components["schemas"]["SeriesReport"];
const PAGE = 10_000;

/** All hosts. */
export function useHosts() {
  // What is not pushed changes seldom.
  return useLiveList<Host>("hosts", ["hosts", "all"], (signal) => everything((after) => answer(api.GET("/api/v1/hosts", { params: { query: { after, limit: PAGE } }, signal }))), 300_000);
}

export function useHost(id: Ref<string>) {
  return useQuery({
    queryKey: ["hosts", "one", id],
    queryFn: ({ signal }) => answer(api.GET("/api/v1/hosts/{id}", { params: { path: { id: id.value } }, signal })),
    refetchInterval: 15_000,
    shallow: true,
  });
}

/** What measures a host; null: nothing. */
export function useSource(id: Ref<string | null>) {
  return useQuery({
    queryKey: ["hosts", "source", id],
    queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/hosts/{id}", { params: { path: { id: id.value ?? "" } }, signal }))).source ?? null,
    enabled: computed(() => id.value !== null),
    staleTime: 60_000,
  });
}

export interface Asked {
  readonly source: string;
  readonly metrics: readonly string[];
  readonly from: number;
  readonly to: number;
  readonly points: number;
  /** Series that agree in this label are added up. */
  readonly sumBy?: string;
}

/** Series of several metrics in one question, thinned to what the screen shows. */
export function useSeries(asked: Ref<Asked | null>) {
  return useQuery({
    queryKey: ["series", asked],
    queryFn: async ({ signal }) => {
      const { source, metrics, from, to, points, sumBy } = asked.value as Asked;
      const query = { source, metric: metrics.join(","), from_ms: from, to_ms: to, points, sum_by: sumBy };
      return (await answer(api.GET("/api/v1/series", { params: { query }, signal }))).series;
    },
    enabled: computed(() => asked.value !== null),
    // Of another period, never of another source.
    placeholderData: (previous, query) => ((query?.queryKey[1] as Asked | null | undefined)?.source === asked.value?.source ? previous : undefined),
    structuralSharing: false,
    shallow: true,
    gcTime: 30_000,
  });
}
