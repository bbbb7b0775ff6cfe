/** What the pages of hosts ask. */
import { type QueryClient, useQuery } from "@tanstack/vue-query";
import { type Ref, computed } from "vue";
import type { components } from "@/api/schema";
import { type LiveList, askAheadOfList, useLiveList } from "@/session/list";
import { answer, api, everything } from "@/session/request";
import { type TimeRange, bounds } from "@/ui/range";
import { METRICS, SUMS } from "./charts";
import type { Of, Series } from "./plans";

export type Host = components["schemas"]["HostSummary"];
export type HostDetail = components["schemas"]["HostDetail"];
/** What is shown of one thing is at most so old. */
export const EVERY = 15_000;

/** All hosts. */
const HOSTS: LiveList<Host> = {
  topic: "hosts",
  queryKey: ["hosts", "all"],
  ask: (limit, signal) => everything((after) => answer(api.GET("/api/v1/hosts", { params: { query: { after, limit } }, signal }))),
  // What is not pushed changes seldom.
  every: 300_000,
};
export const useHosts = () => useLiveList(HOSTS);
export const askAheadOfHosts = (client: QueryClient) => askAheadOfList(client, HOSTS);

const hostOf = (id: string) => ({
  queryKey: ["hosts", "one", id],
  queryFn: ({ signal }: { signal: AbortSignal }) => answer(api.GET("/api/v1/hosts/{id}", { params: { path: { id } }, signal })),
});

export function useHost(id: Ref<string>) {
  return useQuery(computed(() => ({ ...hostOf(id.value), refetchInterval: EVERY, shallow: true })));
}

export interface Asked {
  readonly of: Of;
  /** As they are. */
  readonly metrics: readonly string[];
  /** As sums. */
  readonly sums: { readonly metrics: readonly string[]; readonly by: string } | null;
  readonly range: TimeRange;
  readonly points: number;
}

/** Of which period, and the series of it. */
export interface Answered {
  readonly from: number;
  readonly to: number;
  readonly series: readonly Series[];
}

/** What charts show of a host or a virtual machine, thinned to what the screen shows. */
export const chartsOf = (asked: Asked) => ({
  queryKey: ["series", asked] as const,
  queryFn: async ({ signal }: { signal: AbortSignal }): Promise<Answered> => {
    const { of, metrics, sums, range, points } = asked;
    const { from, to } = bounds(range, Date.now());
    const ask = async (metric: readonly string[], sum_by?: string) => {
      const query = { metric: metric.join(","), from_ms: from, to_ms: to, points, sum_by };
      const one = { params: { path: { id: of.id }, query }, signal };
      const asking = {
        host: () => api.GET("/api/v1/hosts/{id}/series", one),
        vm: () => api.GET("/api/v1/vms/{id}/series", one),
        source: () => api.GET("/api/v1/series", { params: { query: { ...query, source: of.id } }, signal }),
      };
      return (await answer<{ series: Series[] }>(asking[of.label]())).series;
    };
    const found = await Promise.all([ask(metrics), ...(sums ? [ask(sums.metrics, sums.by)] : [])]);
    return { from, to, series: found.flat() };
  },
  gcTime: 30_000,
  structuralSharing: false,
});

/** Up to now it is asked for again and again. */
export function useCharts(asked: Ref<Asked | null>) {
  return useQuery(
    computed(() => ({
      ...chartsOf(asked.value as Asked),
      enabled: asked.value !== null,
      refetchInterval: asked.value?.range.kind === "last" ? EVERY : (false as const),
      // Of another period, never of another thing.
      placeholderData: (previous: Answered | undefined, query?: { queryKey: readonly unknown[] }) =>
        (query?.queryKey[1] as Asked | null | undefined)?.of.id === asked.value?.of.id ? previous : undefined,
      shallow: true,
    })),
  );
}

/** As many points as a chart of a page has room for. */
export const POINTS = 400;
export const sourceOf = (id: string): Of => ({ label: "source", id });
export const hostNamed = (id: string): Of => ({ label: "host", id });
export const ofPage = (of: Of, range: TimeRange): Asked => ({ of, metrics: METRICS, sums: SUMS, range, points: POINTS });

/** Asks for what a host's page shows, while the code of the page is on its way: what is answered at once first. */
export async function askAhead(client: QueryClient, id: string, range: TimeRange): Promise<void> {
  void client.prefetchQuery(hostOf(id));
  void client.prefetchQuery(chartsOf(ofPage(hostNamed(id), range)));
}
