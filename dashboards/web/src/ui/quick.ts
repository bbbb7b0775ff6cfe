/** What Ctrl-K offers: each page adds its things and actions while it is shown. */
import { type MaybeRefOrGetter, computed, onUnmounted, shallowReactive, toValue } from "vue";
import type { IconName } from "./UiIcon.vue";

export interface QuickAction {
  readonly key: string;
  readonly label: string;
  /** Where it belongs, shown beside it. */
  readonly group: string;
  readonly icon?: IconName;
  /** What else it is found by. */
  readonly words?: string;
  readonly run: () => void;
}

const sources = shallowReactive(new Set<MaybeRefOrGetter<readonly QuickAction[]>>());

export function useQuickActions(actions: MaybeRefOrGetter<readonly QuickAction[]>): void {
  sources.add(actions);
  onUnmounted(() => sources.delete(actions));
}

export const quickActions = computed(() => [...sources].flatMap((source) => toValue(source)));

/** Those that fit what was typed: every word must occur, the beginning of a label first. */
export function matching(actions: readonly QuickAction[], typed: string, most = 50): QuickAction[] {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  const found: { action: QuickAction; rank: number }[] = [];
  for (const action of actions) {
    const text = `${action.label} ${action.group} ${action.words ?? ""}`.toLowerCase();
    if (!words.every((word) => text.includes(word))) continue;
    const rank = words.length > 0 && text.startsWith(words[0] ?? "") ? 0 : 1;
    found.push({ action, rank });
  }
  return found
    .sort((a, b) => a.rank - b.rank)
    .slice(0, most)
    .map(({ action }) => action);
}
