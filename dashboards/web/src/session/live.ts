/** What the service pushes: one stream of events while somebody looks, closed when nobody does. Without it, queries poll. */
import { onUnmounted } from "vue";

export type Topic = "overview" | "hosts" | "agents";

/** Listens to topics while the page is shown. `reset`: something was missed; ask anew. */
export function useLive(topics: readonly Topic[], heard: (topic: Topic, data: unknown) => void, reset: () => void): void {
  const stream = new EventSource(`/api/v1/live?topics=${topics.join(",")}`);
  let opened = false;
  stream.addEventListener("open", () => {
    // The first time the lists were asked for just now.
    if (opened) reset();
    opened = true;
  });
  for (const topic of topics) stream.addEventListener(topic, (event) => heard(topic, JSON.parse((event as MessageEvent<string>).data)));
  stream.addEventListener("reset", reset);
  onUnmounted(() => stream.close());
}
