/** What the page of the cloud asks. */
import { keepPreviousData, useQuery } from "@tanstack/vue-query";
import { type Ref, computed } from "vue";
import type { components } from "@/api/schema";
import { answer, api } from "@/session/request";
import { type Matter, VM_STATES } from "../vm/states";

type Schemas = components["schemas"];
export type CapacityItem = Schemas["CapacityItem"];
export type CapacityFigure = Schemas["CapacityFigure"];

/** What capacity is told by. */
export const BY = ["host", "organization"] as const;
export type By = (typeof BY)[number] | "provider";
const EVERY = 60_000;

export function useCapacity(by: Ref<By>, days: Ref<number>) {
  return useQuery(
    computed(() => ({
      queryKey: ["capacity", by.value, days.value],
      queryFn: ({ signal }: { signal: AbortSignal }) => answer(api.GET("/api/v1/capacity", { params: { query: { by: by.value, days: days.value } }, signal })),
      refetchInterval: EVERY,
      placeholderData: keepPreviousData,
      shallow: true,
    })),
  );
}

/** A size of a virtual machine, and how many times over processors may be given. */
export interface Size {
  readonly vcpus: number;
  readonly memory_bytes: number;
  readonly disk_bytes: number;
  readonly overcommit: number;
}

export function useRoom(size: Ref<Size>) {
  return useQuery(
    computed(() => ({
      queryKey: ["capacity", "room", size.value],
      queryFn: ({ signal }: { signal: AbortSignal }) => answer(api.GET("/api/v1/capacity/room", { params: { query: { ...size.value } }, signal })),
      refetchInterval: EVERY,
      placeholderData: keepPreviousData,
      shallow: true,
    })),
  );
}

const FEW = 6;

/** The few of which a figure is largest. */
export function useTopVms(sort: string) {
  return useQuery({
    queryKey: ["vms", "top", sort],
    queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/vms", { params: { query: { sort: `-${sort}`, limit: FEW } }, signal }))).items,
    refetchInterval: 15_000,
    shallow: true,
  });
}

/** More than so many are not counted. */
const COUNTED = 100;

/** What is there no more needs nobody. */
const THERE = VM_STATES.filter((state) => state !== "gone").join(",");
const WANTED = { conflict: { conflict: true }, expired: { expired: true }, unowned: { unowned: true } } as const satisfies Record<Matter, object>;

/** Those about which something needs somebody. */
export function useMatter(matter: Matter) {
  return useQuery({
    queryKey: ["vms", "matter", matter],
    queryFn: ({ signal }) => answer(api.GET("/api/v1/vms", { params: { query: { ...WANTED[matter], state: THERE, limit: COUNTED } }, signal })),
    refetchInterval: EVERY,
    shallow: true,
  });
}

export function useIdle(days: Ref<number>) {
  return useQuery(
    computed(() => ({
      queryKey: ["review", "idle", days.value],
      queryFn: ({ signal }: { signal: AbortSignal }) => answer(api.GET("/api/v1/review", { params: { query: { days: days.value, verdict: "idle", sort: "cpu_mean_percent", limit: FEW } }, signal })),
      refetchInterval: EVERY,
      placeholderData: keepPreviousData,
      shallow: true,
    })),
  );
}

/** Which hypervisors need somebody. */
export function useHypervisors() {
  return useQuery({
    queryKey: ["hypervisors", "troubled"],
    queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/overview", { signal }))).hypervisors,
    refetchInterval: EVERY,
    shallow: true,
  });
}
