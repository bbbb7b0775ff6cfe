/** What the pages of agents ask. */
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/vue-query";
import { type Ref, computed } from "vue";
import type { components } from "@/api/schema";
import { type LiveList, useLiveList } from "@/session/list";
import { answer, api, everything } from "@/session/request";

export type Agent = components["schemas"]["AgentReport"];
export type Loss = components["schemas"]["LossReport"];
export type EnrolmentToken = components["schemas"]["TokenReport"];

/** All agents. */
const AGENTS: LiveList<Agent> = {
  topic: "agents",
  queryKey: ["agents"],
  ask: (limit, signal) => everything((after) => answer(api.GET("/api/v1/agents", { params: { query: { after, limit } }, signal }))),
  every: 30_000,
};
export const useAgents = () => useLiveList(AGENTS);

export function useRevoke() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => answer(api.POST("/api/v1/agents/{id}/revoke", { params: { path: { id } } })),
    onSuccess: () => cache.invalidateQueries({ queryKey: ["agents"] }),
  });
}

/** Ranges of one page. */
const LOSSES = 100;

/** What will never come of an agent's records; asked for anew when more of them are lost or refused. */
export function useLosses(agent: Ref<Agent>) {
  return useInfiniteQuery({
    queryKey: ["losses", computed(() => agent.value.id), computed(() => agent.value.records_lost + agent.value.records_refused)],
    initialPageParam: undefined as string | undefined,
    queryFn: ({ pageParam, signal }) => answer(api.GET("/api/v1/agents/{id}/losses", { params: { path: { id: agent.value.id }, query: { after: pageParam, limit: LOSSES } }, signal })),
    getNextPageParam: ({ next }) => next ?? undefined,
    placeholderData: keepPreviousData,
  });
}

const TOKENS = ["enrolment-tokens"] as const;

export function useEnrolmentTokens() {
  return useQuery({ queryKey: TOKENS, queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/agents/tokens", { signal }))).items, refetchInterval: 15_000, shallow: true });
}

export function useTokenRevoke() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => answer(api.DELETE("/api/v1/agents/tokens/{id}", { params: { path: { id } } })),
    onSuccess: () => cache.invalidateQueries({ queryKey: TOKENS }),
  });
}

export function useEnrolmentToken() {
  const cache = useQueryClient();
  return useMutation({
    onSuccess: () => cache.invalidateQueries({ queryKey: TOKENS }),
    mutationFn: (body: components["schemas"]["TokenRequest"]) => answer(api.POST("/api/v1/agents/tokens", { body })),
  });
}
