/** The cache of the service's state. A refusal is final; only what was not reached is tried again. */
import { QueryCache, QueryClient } from "@tanstack/vue-query";
import { doubted, onceBack, reached } from "@/session/reach";
import { Refusal } from "@/session/request";

/** Not the service's answer: nothing, or what a proxy says in its place. */
const isUnreached = (cause: unknown) => cause instanceof Refusal && [0, 502, 504].includes(cause.status);

export const queries = new QueryClient({
  queryCache: new QueryCache({ onSuccess: reached, onError: (cause) => isUnreached(cause) && doubted() }),
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      networkMode: "always",
      refetchOnWindowFocus: false,
      retry: (failures, cause) => {
        if (isUnreached(cause)) doubted();
        return failures < 2 && (isUnreached(cause) || (cause instanceof Refusal && cause.status === 503));
      },
    },
    mutations: { networkMode: "always" },
  },
});
// What is shown may have changed meanwhile.
onceBack(() => void queries.invalidateQueries());
