/** What the pages of roll-outs ask. */
import { useQuery, useQueryClient } from "@tanstack/vue-query";
import { type Ref, computed } from "vue";
import type { components } from "@/api/schema";
import { answer, api } from "@/session/request";

type Schemas = components["schemas"];
export type Rollout = Schemas["RolloutReport"];
export type RolloutDetail = Schemas["RolloutDetail"];
export type Target = RolloutDetail["targets"][number];
export type Order = Schemas["Order"];
export type Machine = Order["machines"][number];
export type Credential = Order["credential"];
export type Action = Rollout["action"];
export type Program = Rollout["program"];
export type HostKey = Schemas["HostKeyReport"];

export const ACTIONS = ["install", "upgrade", "rollback", "uninstall"] as const satisfies readonly Action[];
export const PROGRAMS = ["host", "libvirt"] as const satisfies readonly Program[];
const PAGE = 200;
/** While something is done, and otherwise. */
const QUICK = 1_500;
const SLOW = 30_000;

/** The latest, newest first. */
export function useRollouts() {
  return useQuery({
    queryKey: ["rollouts", "all"],
    queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/rollouts", { params: { query: { limit: PAGE } }, signal }))).items,
    refetchInterval: ({ state }) => (state.data?.some(({ finished_ms }) => finished_ms == null) ? QUICK : SLOW),
    shallow: true,
  });
}

export function useRollout(id: Ref<string>) {
  return useQuery(
    computed(() => ({
      queryKey: ["rollouts", "one", id.value],
      queryFn: ({ signal }: { signal: AbortSignal }) => answer(api.GET("/api/v1/rollouts/{id}", { params: { path: { id: id.value } }, signal })),
      refetchInterval: ({ state }: { state: { data?: RolloutDetail } }) => (state.data?.finished_ms == null ? QUICK : SLOW),
      shallow: true,
    })),
  );
}

/** What was said and done on one machine. */
export function useTranscript(id: Ref<string>, number: Ref<number>) {
  return useQuery(
    computed(() => ({
      queryKey: ["rollouts", "transcript", id.value, number.value],
      queryFn: ({ signal }: { signal: AbortSignal }) => answer(api.GET("/api/v1/rollouts/{id}/targets/{number}", { params: { path: { id: id.value, number: number.value } }, signal })),
      refetchInterval: ({ state }: { state: { data?: { target: Target } } }) => (state.data?.target.state === "running" || state.data?.target.state === "waiting" ? QUICK : SLOW),
      shallow: true,
    })),
  );
}

/** What control can bring to machines. */
export const usePackages = () => useQuery({ queryKey: ["rollouts", "packages"], queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/rollouts/packages", { signal }))).items, shallow: true });
export const useHostKeys = () => useQuery({ queryKey: ["host-keys"], queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/host-keys", { signal }))).items, shallow: true });

export const createRollout = (body: Order) => answer(api.POST("/api/v1/rollouts", { body }));
export const resumeRollout = (id: string, credential: Credential) => answer(api.POST("/api/v1/rollouts/{id}/resume", { params: { path: { id } }, body: { credential } }));
export const confirmHostKey = (id: string, number: number, fingerprint: string) => answer(api.POST("/api/v1/rollouts/{id}/targets/{number}/host-key", { params: { path: { id, number } }, body: { fingerprint } }));
export const forgetHostKey = (id: string) => answer(api.DELETE("/api/v1/host-keys/{id}", { params: { path: { id } } }));

/** Asks for roll-outs and host keys anew. */
export function useRolloutsAnew() {
  const cache = useQueryClient();
  return () => Promise.all(["rollouts", "host-keys"].map((key) => cache.invalidateQueries({ queryKey: [key] })));
}
