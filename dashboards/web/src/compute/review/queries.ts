/** What the review of use asks. */
import { useQuery } from "@tanstack/vue-query";
import { type Ref, computed } from "vue";
import type { components } from "@/api/schema";
import { answer, api, everything } from "@/session/request";

export type Reviewed = components["schemas"]["ReviewItem"];
export type Verdict = Reviewed["verdicts"][number];
const PAGE = 10_000;
/** It is made anew once an hour at least. */
const EVERY = 300_000;

/** All virtual machines over a period, and how each figure and verdict is defined. */
export function useReview(days: Ref<number>) {
  return useQuery(
    computed(() => ({
      queryKey: ["review", "all", days.value],
      queryFn: async ({ signal }: { signal: AbortSignal }) => {
        let first: components["schemas"]["ReviewReport"] | undefined;
        const items = await everything(async (after) => {
          const page = await answer(api.GET("/api/v1/review", { params: { query: { days: days.value, after, limit: PAGE } }, signal }));
          first ??= page;
          return page;
        });
        return { items, definitions: first?.definitions ?? {}, surveyed_ms: first?.surveyed_ms ?? null };
      },
      refetchInterval: EVERY,
      structuralSharing: false,
      shallow: true,
    })),
  );
}
