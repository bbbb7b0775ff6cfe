/** What the pages of agents ask. */
import { useMutation, useQueryClient } from "@tanstack/vue-query";
import type { components } from "@/api/schema";
import { useLiveList } from "@/session/list";
import { answer, api, everything } from "@/session/request";

export type Agent = components["schemas"]["AgentReport"];
export type EnrolmentToken = components["schemas"]["TokenReport"];
const PAGE = 10_000;

/** All agents. */
export function useAgents() {
  return useLiveList<Agent>("agents", ["agents"], (signal) => everything((after) => answer(api.GET("/api/v1/agents", { params: { query: { after, limit: PAGE } }, signal }))), 30_000);
}

export function useRevoke() {
  const cache = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => answer(api.POST("/api/v1/agents/{id}/revoke", { params: { path: { id } } })),
    onSuccess: () => cache.invalidateQueries({ queryKey: ["agents"] }),
  });
}

export function useEnrolmentToken() {
  return useMutation({
    mutationFn: (body: components["schemas"]["TokenRequest"]) => answer(api.POST("/api/v1/agents/tokens", { body })),
  });
}
