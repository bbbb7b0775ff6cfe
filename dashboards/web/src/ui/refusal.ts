/** What an error shows: its words, in the person's language. */

interface Said {
  readonly status?: number;
  readonly title?: string;
  readonly detail?: string | null;
  readonly requestId?: string | null;
}

/** Title, detail and request of an error, as `UiError` takes them. */
export function shown(cause: unknown, t: (key: string) => string): { title: string; detail: string | null; request: string | null } {
  const said = (cause ?? {}) as Said;
  if (said.status === 0) return { title: t("ui.unreachable"), detail: t("ui.unreachable_text"), request: null };
  return { title: said.title ?? t("ui.failed"), detail: said.detail ?? (cause instanceof Error && said.status === undefined ? cause.message : null), request: said.requestId ?? null };
}

/** As one sentence. */
export function sentence(cause: unknown, t: (key: string) => string): string {
  const { title, detail } = shown(cause, t);
  return detail ?? title;
}
