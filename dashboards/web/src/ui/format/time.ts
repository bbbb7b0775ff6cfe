/** Times as the screen shows them: one zone for everybody, 24 hours, the same digits in both languages. */

/** Days begin where the service's days do. */
export const ZONE_NAME = "UTC+8";

/** The zone has no summer time, so its clock is the universal one, moved: a hundred times quicker than asking Intl. */
const OFFSET_MS = 8 * 3_600_000;

/** 2026-11-25 09:30:05 */
export function instant(ms: number): string {
  return new Date(ms + OFFSET_MS).toISOString().slice(0, 19).replace("T", " ");
}

/** A date whose local fields, wherever the browser is, are those of the zone. */
export function zoned(ms: number): Date {
  const date = new Date(ms);
  return new Date(ms + OFFSET_MS + date.getTimezoneOffset() * 60_000);
}

/** 2026-11-25 09:30 */
export function minute(ms: number): string {
  return instant(ms).slice(0, 16);
}

/** 09:30:05 */
export function clock(ms: number): string {
  return instant(ms).slice(11);
}

/** The value of a browser's field for a date and time, read in the zone of all times here. */
export function toField(ms: number): string {
  return minute(ms).replace(" ", "T");
}

/** The instant that such a field holds. */
export function fromField(value: string): number {
  return Date.parse(`${value}Z`) - OFFSET_MS;
}

/** A span in its two largest units. */
export type SpanUnit = "day" | "hour" | "minute" | "second";
export interface Span {
  readonly parts: readonly { readonly value: number; readonly unit: SpanUnit }[];
}

/** Units of which a smaller one adds nothing. */
const MANY = 100;

const UNITS: readonly [SpanUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
];

/** The two largest units of a span, the second one left out where it is 0 or says nothing beside so many of the first. */
export function span(milliseconds: number): Span {
  let rest = Math.max(0, Math.round(milliseconds / 1000));
  const found: { value: number; unit: SpanUnit }[] = [];
  for (const [unit, size] of UNITS) {
    const value = Math.floor(rest / size);
    rest -= value * size;
    if (found.length > 0 || value > 0 || unit === "second") found.push({ value, unit });
    if (found.length === 2) break;
  }
  return { parts: found.filter(({ value }, at) => at === 0 || (value > 0 && (found[0]?.value ?? 0) < MANY)) };
}

const SPAN_WORDS: Record<string, Record<SpanUnit, string>> = {
  "zh-CN": { day: "天", hour: "小时", minute: "分", second: "秒" },
  en: { day: "d", hour: "h", minute: "min", second: "s" },
};

/** A span in words of a language. */
export function spanText(milliseconds: number, language: string): string {
  const words = SPAN_WORDS[language] ?? SPAN_WORDS.en;
  return span(milliseconds)
    .parts.map(({ value, unit }) => `${value} ${words?.[unit]}`)
    .join(" ");
}

const AGO = { "zh-CN": (text: string) => `${text}前`, en: (text: string) => `${text} ago` } as const;

/** How long ago, to the largest unit. */
export function ago(ms: number, now: number, language: string): string {
  const first = span(now - ms).parts[0];
  const words = SPAN_WORDS[language] ?? SPAN_WORDS.en;
  const text = `${first?.value ?? 0} ${first ? words?.[first.unit] : ""}`;
  return (language === "zh-CN" ? AGO["zh-CN"] : AGO.en)(text);
}
