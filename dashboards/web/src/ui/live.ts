/** A time that goes on in steps while something is live: each step asks for what is new. */
import { type Ref, onUnmounted, ref } from "vue";

export function useNow(everyMs: number, live: () => boolean): Ref<number> {
  const time = ref(Date.now());
  const timer = setInterval(() => {
    if (live() && !document.hidden) time.value = Date.now();
  }, everyMs);
  onUnmounted(() => clearInterval(timer));
  return time;
}
