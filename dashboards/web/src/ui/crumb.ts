/** The last part of the breadcrumb, which only the page knows: the name of the thing shown. */
import { onUnmounted, ref, watchEffect } from "vue";

export const crumb = ref<string | null>(null);

/** Sets it while the page is shown. */
export function useCrumb(name: () => string | null | undefined): void {
  watchEffect(() => (crumb.value = name() ?? null));
  onUnmounted(() => (crumb.value = null));
}
