/** What the pages of agents ask. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/vue-query";
import { computed } from "vue";
import type { components } from "@/api/schema";
import { type Changes, merged, useLive } from "@/session/live";
import { answer, api, everything } from "@/session/request";

export type Agent = components["schemas"]["AgentReport"];
export type EnrolmentToken = components["schemas"]["TokenReport"];
const PAGE = 10_000;

const AGENTS = ["agents"] as const;

/** All agents. Their states are pushed; what else is known of them, and everything without the stream, is asked for. */
export function useAgents() {
  const cache = useQueryClient();
  const anew = () => void cache.invalidateQueries({ queryKey: AGENTS });
  const live = useLive(
    ["agents"],
    (_, data) => {
      const known = cache.getQueryData<Agent[]>(AGENTS);
      const next = known && merged(known, data as Changes);
      if (next) cache.setQueryData(AGENTS, next);
      else if (known) anew();
    },
    anew,
  );
  return useQuery({
    queryKey: AGENTS,
    queryFn: ({ signal }) => everything((after) => answer(api.GET("/api/v1/agents", { params: { query: { after, limit: PAGE } }, signal }))),
    refetchInterval: computed(() => (live.value ? 30_000 : 15_000)),
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
