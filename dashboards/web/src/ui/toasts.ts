/** Short notes at the edge of the screen: what was done, and what failed outside of a form. */
import { ref } from "vue";

export interface Toast {
  readonly key: number;
  readonly tone: "good" | "bad";
  readonly text: string;
}

export const toasts = ref<Toast[]>([]);
let next = 1;

export function toast(tone: Toast["tone"], text: string): void {
  const key = next++;
  toasts.value = [...toasts.value, { key, tone, text }];
  setTimeout(() => dismiss(key), tone === "good" ? 4_000 : 10_000);
}

export function dismiss(key: number): void {
  toasts.value = toasts.value.filter((one) => one.key !== key);
}
