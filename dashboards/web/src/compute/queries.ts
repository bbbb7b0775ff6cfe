/** What the pages of hosts ask. */
import { useQuery } from "@tanstack/vue-query";
import { type Ref, computed } from "vue";
import type { components } from "@/api/schema";
import { answer, api, everything } from "@/session/request";

export type Host = components["schemas"]["HostSummary"];
export type HostDetail = components["schemas"]["HostDetail"];
export type Series = components["schemas"]["SeriesReport"];
const PAGE = 10_000;

export function useHosts() {
  return useQuery({
    queryKey: ["hosts", "all"],
    queryFn: ({ signal }) => everything((after) => answer(api.GET("/api/v1/hosts", { params: { query: { after, limit: PAGE } }, signal }))),
    refetchInterval: 15_000,
    structuralSharing: false,
    shallow: true,
  });
}

export function useHost(id: Ref<string>) {
  return useQuery({
    queryKey: ["hosts", "one", id],
    queryFn: ({ signal }) => answer(api.GET("/api/v1/hosts/{id}", { params: { path: { id: id.value } }, signal })),
    refetchInterval: 15_000,
    shallow: true,
  });
}

export interface Asked {
  readonly source: string;
  readonly metrics: readonly string[];
  readonly from: number;
  readonly to: number;
  readonly points: number;
}

/** Series of several metrics in one question, thinned to what the screen shows. */
export function useSeries(asked: Ref<Asked | null>) {
  return useQuery({
    queryKey: ["series", asked],
    queryFn: async ({ signal }) => {
      const { source, metrics, from, to, points } = asked.value as Asked;
      const query = { source, metric: metrics.join(","), from_ms: from, to_ms: to, points };
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
