/** What the pages of hosts ask. */
import { useQuery, useQueryClient } from "@tanstack/vue-query";
import { type Ref, computed } from "vue";
import type { components } from "@/api/schema";
import { type Changes, merged, useLive } from "@/session/live";
import { answer, api, everything } from "@/session/request";

export type Host = components["schemas"]["HostSummary"];
export type HostDetail = components["schemas"]["HostDetail"];
export type Series = components["schemas"]["SeriesReport"];
const PAGE = 10_000;

const HOSTS = ["hosts", "all"] as const;

/** All hosts. What changes of them is pushed; without the stream they are asked for every few seconds. */
export function useHosts() {
  const cache = useQueryClient();
  const anew = () => void cache.invalidateQueries({ queryKey: HOSTS });
  const live = useLive(
    ["hosts"],
    (_, data) => {
      const known = cache.getQueryData<Host[]>(HOSTS);
      const next = known && merged(known, data as Changes);
      if (next) cache.setQueryData(HOSTS, next);
      // With another state a host has figures that are not pushed.
      if (known && (!next || next.some(({ state }, place) => state !== known[place]?.state))) anew();
    },
    anew,
  );
  return useQuery({
    queryKey: HOSTS,
    queryFn: ({ signal }) => everything((after) => answer(api.GET("/api/v1/hosts", { params: { query: { after, limit: PAGE } }, signal }))),
    // What is not pushed changes seldom.
    refetchInterval: computed(() => (live.value ? 300_000 : 15_000)),
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
