/** What is asked of cloud providers. */
import { useQuery } from "@tanstack/vue-query";
import { computed } from "vue";
import type { components } from "@/api/schema";
import { answer, api } from "@/session/request";

type Schemas = components["schemas"];
export type Provider = Schemas["ProviderReport"];

export const KINDS = ["own", "outsourced"] as const satisfies readonly Provider["kind"][];

export function useProviders() {
  return useQuery({ queryKey: ["providers"], queryFn: async ({ signal }) => (await answer(api.GET("/api/v1/providers", { signal }))).items, staleTime: 60_000, shallow: true });
}

/** Providers to choose from, and the name of one; where that is not known, its id. */
export function useProviderNames() {
  const providers = useProviders();
  // Another function once the names are there: what was made with the one before is made anew.
  const name = computed(() => {
    const names = new Map((providers.data.value ?? []).map(({ id, name }) => [id, name]));
    return (id: string) => names.get(id) ?? id;
  });
  return { providers: computed(() => providers.data.value ?? []), name };
}

const at = (id: string) => ({ path: { id } });
export const createProvider = (body: Schemas["ProviderRequest"]) => answer(api.POST("/api/v1/providers", { body }));
export const changeProvider = (id: string, body: Schemas["ProviderChange"]) => answer(api.PUT("/api/v1/providers/{id}", { params: at(id), body }));
export const deleteProvider = (id: string) => answer(api.DELETE("/api/v1/providers/{id}", { params: at(id) }));
export const setHostProvider = (host: string, provider: string | null) => answer(api.PUT("/api/v1/hosts/{id}/provider", { params: at(host), body: { provider } }));

/** What names a provider. */
export const CONCERNED = ["providers", "vms", "hosts", "capacity"] as const;
