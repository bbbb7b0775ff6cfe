/** What the pages of virtual machines ask. */
import { type QueryClient, queryOptions, useQuery } from "@tanstack/vue-query";
import { type Ref, computed } from "vue";
import type { components } from "@/api/schema";
import { answer, api, everything, pageOf } from "@/session/request";
import type { TimeRange } from "@/ui/range";
import type { Of } from "../plans";
import { type Asked, EVERY, POINTS, chartsOf, ofPage, sourceOf } from "../queries";
import { VM_METRICS } from "./charts";

type Schemas = components["schemas"];
export type Vm = Schemas["VmSummary"];
export type VmDetail = Schemas["VmDetail"];
export type VmEvent = Schemas["VmEvent"];
export type Pool = Schemas["PoolReport"];
export type VmChange = Schemas["VmRequest"];
/** The list is not pushed. */
const EVERY_LIST = 30_000;
/** On the page of a host. */
const ON_HOST = 100;
const EVENTS = 50;

/** All virtual machines. */
const VMS = queryOptions({
  queryKey: ["vms", "all"],
  queryFn: ({ client, queryKey, signal }) => {
    const limit = pageOf(client.getQueryData(queryKey));
    return everything((after) => answer(api.GET("/api/v1/vms", { params: { query: { after, limit } }, signal })));
  },
  structuralSharing: false,
});
export const useVms = () => useQuery({ ...VMS, refetchInterval: EVERY_LIST, shallow: true });
export async function askAheadOfVms(client: QueryClient): Promise<void> {
  void client.prefetchQuery(VMS);
}

const vmOf = (id: string) => ({
  queryKey: ["vms", "one", id],
  queryFn: ({ signal }: { signal: AbortSignal }) => answer(api.GET("/api/v1/vms/{id}", { params: { path: { id } }, signal })),
});

export function useVm(id: Ref<string>) {
  return useQuery(computed(() => ({ ...vmOf(id.value), refetchInterval: EVERY, shallow: true })));
}

/** What happened to one, the newest first. */
export function useVmEvents(id: Ref<string>) {
  return useQuery(
    computed(() => ({
      queryKey: ["vms", "events", id.value],
      queryFn: ({ signal }: { signal: AbortSignal }) => answer(api.GET("/api/v1/vms/{id}/events", { params: { path: { id: id.value }, query: { limit: EVENTS } }, signal })),
      refetchInterval: EVERY,
      shallow: true,
    })),
  );
}

export const vmNamed = (id: string): Of => ({ label: "vm", id });
export const ofVm = (id: string, range: TimeRange): Asked => ({ of: vmNamed(id), metrics: VM_METRICS, sums: null, range, points: POINTS });

/** Asks for what the page of one shows, while the code of the page is on its way. */
export async function askAheadOfVm(client: QueryClient, id: string, range: TimeRange): Promise<void> {
  const { told_by, source } = await client.fetchQuery(vmOf(id));
  if (told_by === "hypervisor") void client.prefetchQuery(chartsOf(ofVm(id, range)));
  else if (source) void client.prefetchQuery(chartsOf(ofPage(sourceOf(source), range)));
}

/** Those that are on a host now, by name; as many as its page has room for. */
export function useHostVms(host: Ref<string>) {
  return useQuery(
    computed(() => ({
      queryKey: ["vms", "host", host.value],
      queryFn: ({ signal }: { signal: AbortSignal }) => answer(api.GET("/api/v1/hosts/{id}/vms", { params: { path: { id: host.value }, query: { sort: "name", limit: ON_HOST } }, signal })),
      refetchInterval: EVERY,
      shallow: true,
    })),
  );
}

/** Storage pools of all hypervisors that one sees. */
export function usePools() {
  return useQuery({ queryKey: ["pools"], queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/pools", { signal }))).items, refetchInterval: 60_000, shallow: true });
}

export const changeVm = (id: string, body: VmChange) => answer(api.PUT("/api/v1/vms/{id}", { params: { path: { id } }, body }));
