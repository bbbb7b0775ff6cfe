/** What the pages of agents ask. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/vue-query";
import type { components } from "@/api/schema";
import { answer, api, everything } from "@/session/request";

export type Agent = components["schemas"]["AgentReport"];
export type EnrolmentToken = components["schemas"]["TokenReport"];
const PAGE = 10_000;

export function useAgents() {
  return useQuery({
    queryKey: ["agents"],
    queryFn: ({ signal }) => everything((after) => answer(api.GET("/api/v1/agents", { params: { query: { after, limit: PAGE } }, signal }))),
    refetchInterval: 15_000,
    structuralSharing: false,
    shallow: true,
  });
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
