/** Asking anew for what a change concerns. */
import { useQueryClient } from "@tanstack/vue-query";

export function useAnew() {
  const cache = useQueryClient();
  return (...keys: string[]) => Promise.all(keys.map((key) => cache.invalidateQueries({ queryKey: [key] })));
}
