/** How a person likes it: theme and language. Kept in this browser; the language also with the account. */
import { defineStore } from "pinia";
import { ref, watchEffect } from "vue";
import { context } from "./request";
import type { Language } from "./shapes";

export type Theme = "light" | "dark" | "system";

function stored<T extends string>(key: string, allowed: readonly T[], otherwise: T): T {
  const found = localStorage.getItem(key) as T | null;
  return found && allowed.includes(found) ? found : otherwise;
}

export const usePreferences = defineStore("preferences", () => {
  const theme = ref<Theme>(stored("theme", ["light", "dark", "system"], "system"));
  const language = ref<Language>(stored("language", ["zh-CN", "en"], "zh-CN"));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const systemDark = ref(dark.matches);
  dark.addEventListener("change", (event) => (systemDark.value = event.matches));

  watchEffect(() => {
    const isDark = theme.value === "dark" || (theme.value === "system" && systemDark.value);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    localStorage.setItem("theme", theme.value);
  });
  watchEffect(() => {
    document.documentElement.lang = language.value;
    context.language = language.value;
    localStorage.setItem("language", language.value);
  });
  return { theme, language, systemDark };
});
