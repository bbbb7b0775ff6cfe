/** What the page of the settings asks. */
import { useQuery } from "@tanstack/vue-query";
import type { components } from "@/api/schema";
import { answer, api } from "@/session/request";

export type Health = components["schemas"]["HealthReport"];

export const useSettings = () => useQuery({ queryKey: ["settings"], queryFn: ({ signal }) => answer(api.GET("/api/v1/settings", { signal })), shallow: true });
export const useHealth = () => useQuery({ queryKey: ["health"], queryFn: ({ signal }) => answer(api.GET("/api/v1/health", { signal })), refetchInterval: 15_000, shallow: true });
/** Ready or not, with each check. */
export const useReady = () =>
  useQuery({
    queryKey: ["ready"],
    queryFn: async ({ signal }) => {
      const { data, error } = await api.GET("/readyz", { signal });
      return data ?? error;
    },
    refetchInterval: 15_000,
  });
