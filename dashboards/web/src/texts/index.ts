/** The texts of both languages; only the one in use is loaded. */
import { type MessageContext, createI18n } from "vue-i18n";
import type { Language } from "@/session/shapes";

/** A text with `{name}` where something is put in. Nothing else of the library's format is used, so its parser stays out of the page. */
function filled(text: unknown) {
  const words = String(text);
  return words.includes("{") ? ({ named }: MessageContext) => words.replace(/\{(\w+)\}/g, (_, name: string) => String(named(name) ?? "")) : () => words;
}

export const i18n = createI18n({
  legacy: false,
  messageCompiler: filled,
  locale: "zh-CN",
  fallbackLocale: false,
  missingWarn: false,
  // The key stands in the word's place; the browser tests fail by this.
  missing: (language, key) => console.error(`no word for ${key} in ${language}`),
  messages: {},
});

const LOAD: Record<Language, () => Promise<{ default: Record<string, unknown> }>> = {
  "zh-CN": () => import("./zh-CN"),
  en: () => import("./en"),
};

/** Loads a language and changes to it. */
export async function speak(language: Language): Promise<void> {
  const global = i18n.global;
  if (!global.availableLocales.includes(language)) {
    global.setLocaleMessage(language, (await LOAD[language]()).default);
  }
  global.locale.value = language;
}
