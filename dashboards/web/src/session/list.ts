/** A list that is asked for and then told what changes of it. Without the stream it is asked for every few seconds. */
import { useQuery, useQueryClient } from "@tanstack/vue-query";
import { computed, onUnmounted } from "vue";
import { type Changes, type Topic, merged, useLive } from "./live";

/** Without the stream. */
const POLLED = 15_000;
/** For what was told a page asks at most so often, and not all pages at one time. */
const APART = 15_000;
const SPREAD = 5_000;

/** `every`: what is not pushed is at most so old. */
export function useLiveList<Row extends { readonly id: string; readonly state: string }>(
  topic: Topic,
  queryKey: readonly string[],
  ask: (signal: AbortSignal) => Promise<Row[]>,
  every: number,
) {
  const cache = useQueryClient();
  /** When it was asked for last; a push is no answer. */
  let asked = 0;
  /** It is to be asked for as soon as the stream is open. */
  let waiting = false;
  /** What is told while it is asked for: the answer may be older. */
  let meanwhile: Changes[] | null = null;
  /** Nor can that make the answer whole. */
  let missed = false;
  let later: ReturnType<typeof setTimeout> | undefined;

  const anew = () => void cache.invalidateQueries({ queryKey, exact: true });
  function soon() {
    later ??= setTimeout(() => {
      later = undefined;
      anew();
    }, Math.max(0, asked + APART - Date.now()) + Math.random() * SPREAD);
  }
  function put(rows: Row[], changes: Changes): Row[] {
    const next = merged(rows, changes);
    // With another state a row has figures that are not pushed.
    if (!next.whole || next.rows.some(({ state }, place) => state !== rows[place]?.state)) soon();
    return next.rows;
  }

  const { on, begun } = useLive(
    [topic],
    (_, data) => {
      const changes = data as Changes;
      meanwhile?.push(changes);
      const known = cache.getQueryData<Row[]>(queryKey);
      if (known) cache.setQueryData(queryKey, put(known, changes));
      // Each push begins the query's own interval anew.
      if (!meanwhile && Date.now() - asked >= every) anew();
    },
    () => {
      if (waiting) return;
      missed = meanwhile !== null;
      anew();
    },
  );
  onUnmounted(() => clearTimeout(later));
  return useQuery({
    queryKey,
    queryFn: async ({ signal }) => {
      waiting = true;
      await begun;
      waiting = false;
      clearTimeout(later);
      later = undefined;
      asked = Date.now();
      missed = false;
      const told: Changes[] = [];
      meanwhile = told;
      try {
        const rows = await ask(signal);
        if (missed) soon();
        return told.reduce(put, rows);
      } finally {
        if (meanwhile === told) meanwhile = null;
      }
    },
    refetchInterval: computed(() => (on.value ? every : POLLED)),
    structuralSharing: false,
    shallow: true,
  });
}
