/** What the service pushes: one stream of events while somebody looks, closed when nobody does. Without it, queries poll. */
import { type Ref, onUnmounted, readonly, ref } from "vue";
import { doubted, reached } from "./reach";

export type Topic = "overview" | "hosts" | "agents";

/** Things that changed: their columns, and how many there are in all. */
export interface Changes {
  readonly total: number;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
}

/** A refused stream is tried anew after this. */
const AGAIN = 30_000;

/** Listens to topics while the page is shown and looked at. `reset`: something was missed; ask anew. Says whether the stream is open. */
export function useLive(topics: readonly Topic[], heard: (topic: Topic, data: unknown) => void, reset: () => void): Readonly<Ref<boolean>> {
  const on = ref(false);
  let stream: EventSource | undefined;
  let again: ReturnType<typeof setTimeout> | undefined;
  let opened = false;

  function close() {
    clearTimeout(again);
    stream?.close();
    stream = undefined;
    on.value = false;
  }
  function open() {
    close();
    const next = new EventSource(`/api/v1/live?topics=${topics.join(",")}`);
    next.addEventListener("open", () => {
      on.value = true;
      reached();
      // The first time the lists were asked for just now.
      if (opened) reset();
      opened = true;
    });
    next.addEventListener("error", () => {
      on.value = false;
      doubted();
      // The browser comes back by itself to a stream that broke off, not to one that was refused.
      if (next.readyState === EventSource.CLOSED) again = setTimeout(open, AGAIN);
    });
    for (const topic of topics) next.addEventListener(topic, (event) => heard(topic, JSON.parse((event as MessageEvent<string>).data)));
    next.addEventListener("reset", reset);
    stream = next;
  }
  const look = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", look);
  look();
  onUnmounted(() => {
    document.removeEventListener("visibilitychange", look);
    close();
  });
  return readonly(on);
}

/** Rows with what changed of them, in their places. Null: some came or went, so the list is to be asked for. */
export function merged<Row extends { readonly id: string }>(rows: readonly Row[], { total, columns, rows: changed }: Changes): Row[] | null {
  if (total !== rows.length) return null;
  const places = new Map(rows.map(({ id }, place) => [id, place]));
  const id = columns.indexOf("id");
  const next = [...rows];
  for (const values of changed) {
    const place = places.get(String(values[id]));
    if (place === undefined) return null;
    const row = { ...next[place] } as Record<string, unknown>;
    columns.forEach((column, at) => (row[column] = values[at]));
    next[place] = row as unknown as Row;
  }
  return next;
}
