/** A list that is asked for and then told what changes of it. Without the stream it is asked for every few seconds. */
import { type QueryClient, useQuery, useQueryClient } from "@tanstack/vue-query";
import { type EffectScope, computed, effectScope, onScopeDispose } from "vue";
import { pageOf } from "./request";
import { type Changes, type Topic, merged, useLive } from "./live";

/** Without the stream. */
const POLLED = 15_000;
/** For what was told a page asks at most so often, and not all pages at one time. */
const APART = 15_000;
const SPREAD = 5_000;

export interface LiveList<Row> {
  readonly topic: Topic;
  readonly queryKey: readonly string[];
  readonly ask: (limit: number, signal: AbortSignal) => Promise<Row[]>;
  /** What is not pushed is at most so old. */
  readonly every: number;
}
type Told = { readonly id: string; readonly state: string };

/** Lists that were asked for before their page is there. */
const ahead = new Map<Topic, { readonly scope: EffectScope; readonly list: ReturnType<typeof listening> }>();
/** Whose page does not come within this are given up. */
const COMES = 10_000;

/** Asks for a list while the code of its page is on its way; it ends when that has gone out. */
export async function askAheadOfList<Row extends Told>(cache: QueryClient, list: LiveList<Row>): Promise<void> {
  const { topic } = list;
  if (ahead.has(topic)) return;
  const scope = effectScope(true);
  const begun = scope.run(() => listening(cache, list));
  if (!begun) return;
  ahead.set(topic, { scope, list: begun });
  setTimeout(() => {
    if (ahead.get(topic)?.scope !== scope) return;
    ahead.delete(topic);
    scope.stop();
  }, COMES);
  void cache.prefetchQuery(begun.query);
  await begun.begun;
}

/** Gives up what was asked for before its page came: somebody else comes, maybe. */
export function giveUpAhead(): void {
  for (const { scope } of ahead.values()) scope.stop();
  ahead.clear();
}

export function useLiveList<Row extends Told>(list: LiveList<Row>) {
  const cache = useQueryClient();
  const before = ahead.get(list.topic);
  ahead.delete(list.topic);
  if (before) onScopeDispose(() => before.scope.stop());
  const { on, query } = before ? (before.list as ReturnType<typeof listening<Row>>) : listening(cache, list);
  return useQuery({ ...query, refetchInterval: computed(() => (on.value ? list.every : POLLED)), shallow: true });
}

/** The stream, and how to ask so that the answer misses nothing that it tells. */
function listening<Row extends Told>(cache: QueryClient, { topic, queryKey, ask, every }: LiveList<Row>) {
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
      // What is on its way is let come: with many pages it would be broken off each time.
      if (meanwhile) soon();
      else anew();
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
      // Until somebody looks that is a mark, which the next push takes away.
      if (!cache.getQueryCache().find({ queryKey, exact: true })?.getObserversCount()) soon();
    },
  );
  onScopeDispose(() => clearTimeout(later));
  const query = {
    queryKey,
    queryFn: async ({ signal }: { signal: AbortSignal }) => {
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
        const rows = await ask(pageOf(cache.getQueryData(queryKey)), signal);
        if (missed) soon();
        return told.reduce(put, rows);
      } finally {
        if (meanwhile === told) meanwhile = null;
      }
    },
    structuralSharing: false as const,
  };
  return { on, begun, query };
}
