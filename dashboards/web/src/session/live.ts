/** What the service pushes: one stream of events while somebody looks, closed when nobody does. Without it, queries poll. */
import { type Ref, onScopeDispose, readonly, ref } from "vue";
import { doubted, reached } from "./reach";
import { useSession } from "./store";

export type Topic = "overview" | "hosts" | "agents";

/** Things that changed: their columns, and how many there are in all. */
export interface Changes {
  readonly total: number;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
}

export interface Live {
  /** The stream is open. */
  readonly on: Readonly<Ref<boolean>>;
  /** It is open, or will not be soon: what is asked for now misses nothing that it tells. */
  readonly begun: Promise<void>;
}

/** A refused stream is tried anew after this. */
const AGAIN = 30_000;
/** A stream that says nothing for so long is dead: some event comes every 14 seconds. */
const SILENT = 45_000;
/** Nobody is kept waiting longer for the stream. */
const PATIENCE = 1_000;

/** Listens to topics while the page, or the scope it is called in, is there and looked at. `reset`: what was asked for before may miss something; ask anew. */
export function useLive(topics: readonly Topic[], heard: (topic: Topic, data: unknown) => void, reset: () => void): Live {
  const session = useSession();
  const on = ref(false);
  let stream: EventSource | undefined;
  let again: ReturnType<typeof setTimeout> | undefined;
  let silence: ReturnType<typeof setTimeout> | undefined;
  let begin = () => {};
  const begun = new Promise<void>((done) => (begin = done));

  function close() {
    clearTimeout(again);
    clearTimeout(silence);
    stream?.close();
    stream = undefined;
    on.value = false;
  }
  function expectSign() {
    clearTimeout(silence);
    silence = setTimeout(() => {
      open();
      doubted();
    }, SILENT);
  }
  function open() {
    close();
    const next = new EventSource(`/api/v1/live?topics=${topics.join(",")}`);
    const hear = (name: string, act: (event: Event) => void) =>
      next.addEventListener(name, (event) => {
        reached();
        expectSign();
        act(event);
      });
    hear("open", () => {
      on.value = true;
      reset();
      begin();
    });
    for (const topic of topics) hear(topic, (event) => heard(topic, JSON.parse((event as MessageEvent<string>).data)));
    hear("reset", reset);
    hear("alive", () => {});
    next.addEventListener("error", () => {
      on.value = false;
      begin();
      doubted();
      // The browser comes back by itself to a stream that broke off, not to one that was refused.
      if (next.readyState === EventSource.CLOSED) again = setTimeout(open, AGAIN);
    });
    stream = next;
    expectSign();
  }
  // The stream is for who may see hosts. To ask for it all the same would be refused, and stand in the audit log, every time.
  const idle = () => document.hidden || !session.may("hosts.see").ok;
  const look = () => (idle() ? close() : open());
  document.addEventListener("visibilitychange", look);
  look();
  if (idle()) begin();
  else setTimeout(begin, PATIENCE);
  onScopeDispose(() => {
    document.removeEventListener("visibilitychange", look);
    close();
  });
  return { on: readonly(on), begun };
}

/** The place of each id; rows that were merged stand where they stood. */
const placesOf = new WeakMap<readonly unknown[], ReadonlyMap<string, number>>();

/** Rows with what changed of them, in their places. Not `whole`: some came or went, so the list is to be asked for. */
export function merged<Row extends { readonly id: string }>(rows: readonly Row[], { total, columns, rows: changed }: Changes): { rows: Row[]; whole: boolean } {
  const places = placesOf.get(rows) ?? new Map(rows.map(({ id }, place) => [id, place]));
  const id = columns.indexOf("id");
  const next = [...rows];
  let whole = total === rows.length;
  for (const values of changed) {
    const place = places.get(String(values[id]));
    if (place === undefined) {
      whole = false;
      continue;
    }
    const row = { ...next[place] } as Record<string, unknown>;
    columns.forEach((column, at) => (row[column] = values[at]));
    next[place] = row as unknown as Row;
  }
  placesOf.set(next, places);
  return { rows: next, whole };
}
