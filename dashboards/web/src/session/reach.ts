/** Whether control can be reached: since when not, and asking again by itself until it answers. */
import { readonly, ref } from "vue";

/** Between two questions while nothing answers. */
const AGAIN = 3_000;
/** A question that is not answered for so long went nowhere: a dead connection says nothing. */
const PATIENCE = 10_000;

const lost = ref<number | null>(null);
const found = ref<{ readonly from: number; readonly to: number } | null>(null);
let answered = Date.now();
let asking = false;
const whenBack = new Set<() => void>();

/** When control last answered, while it does not; null: it does. */
export const lostSince = readonly(lost);
/** The last time in which it did not answer, for as long as this is worth telling. */
export const lastOutage = readonly(found);

/** Calls back each time that control answers again. */
export function onceBack(act: () => void): void {
  whenBack.add(act);
}

/** Something was answered. */
export function reached(): void {
  answered = Date.now();
  if (lost.value === null) return;
  found.value = { from: lost.value, to: answered };
  lost.value = null;
  for (const act of whenBack) act();
}

export function outageRead(): void {
  found.value = null;
}

/** Something was not answered: asks for a sign of life until there is one. */
export function doubted(): void {
  if (!asking) void ask();
}

async function ask(): Promise<void> {
  asking = true;
  for (;;) {
    const alive = await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) }).then(({ ok }) => ok, () => false);
    if (alive) break;
    lost.value ??= answered;
    await new Promise((done) => setTimeout(done, AGAIN));
  }
  asking = false;
  reached();
}
