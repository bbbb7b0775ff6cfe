/** The cache of the service's state. A refusal is final; only what was not reached is tried again. */
import { QueryClient } from "@tanstack/vue-query";
import { Refusal } from "@/session/request";

export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      refetchOnWindowFocus: false,
      retry: (failures, cause) => failures < 2 && cause instanceof Refusal && (cause.status === 0 || cause.status === 503),
    },
  },
});
